//! Patterns, as schemas and rules have them: read once for all.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use regex::Regex;

/// Whether the pattern is found in the text. One that cannot be read matches nothing.
pub(super) fn found(pattern: &str, text: &str) -> bool {
    static READ: OnceLock<Mutex<BTreeMap<String, Option<Regex>>>> = OnceLock::new();
    let mut read = READ.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = read.get(pattern) {
        return known.as_ref().is_some_and(|known| known.is_match(text));
    }
    let known = read.entry(pattern.to_owned()).or_insert(Regex::new(pattern).ok());
    known.as_ref().is_some_and(|known| known.is_match(text))
}
