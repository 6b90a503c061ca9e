//! Patterns, as schemas and rules have them: read once for all.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use regex::Regex;

/// Whether the pattern is found in the text. One that cannot be read matches nothing.
pub(super) fn found(pattern: &str, text: &str) -> bool {
    static READ: OnceLock<Mutex<BTreeMap<String, Option<Regex>>>> = OnceLock::new();
    let mut read = READ.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if !read.contains_key(pattern) {
        read.insert(pattern.to_owned(), Regex::new(pattern).ok());
    }
    read.get(pattern).and_then(Option::as_ref).is_some_and(|known| known.is_match(text))
}
