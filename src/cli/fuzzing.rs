//! The body of the fuzz target about the plugin's command line, and about what it prints of what others wrote.

use kube::core::{DynamicObject, Status};
use serde_json::Value;

use super::complete::Asking;
use super::exit::{Asked, Exit};
use super::launch::forward;
use super::objects::typed;
use super::output::{clean, clean_lines};
use super::target::{TargetFlags, pasted, quoted};
use super::wait::patience;
use super::{Cli, view};
use crate::api::time::Instant;
use crate::api::{Session, Workspace};
use clap::Parser;

/// A command line is understood or refused, and completed either way; what the plugin prints of what others wrote moves
/// no cursor, and a command to be pasted does what it says.
///
/// The input is words, each closed by a byte 0.
///
/// # Panics
/// When that does not hold.
pub fn commands(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let words: Vec<String> = text.split('\0').map(ToOwned::to_owned).collect();
    let parsed = Cli::try_parse_from(&words).map(drop).map_err(|error| error.kind());
    assert_eq!(parsed, Cli::try_parse_from(&words).map(drop).map_err(|error| error.kind()));
    let asking = Asking::of(&words);
    let last = words.last().cloned().unwrap_or_default();
    assert_eq!(format!("{}{}", asking.before, asking.begun), last, "what is completed is the last word");
    for word in &words {
        assert_eq!(unquoted(&quoted(word)).as_ref(), Some(word), "a shell takes back another word");
        assert!(patience(word).is_ok_and(|time| !time.is_zero()) || patience(word).is_err());
        prints(word);
    }
    let flags = TargetFlags { context: words.first().cloned(), ..TargetFlags::default() };
    let pasted = pasted(&flags, &last);
    assert!(pasted.starts_with("--namespace ") && pasted.contains(" --context "), "{pasted}");
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        shows(&value);
    }
}

/// No control character and no reversal of what stands around.
fn is_plain(text: &str) -> bool {
    let reverses = ['\u{200e}', '\u{200f}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}'];
    !text.chars().any(|character| character.is_control() || reverses.contains(&character))
}

fn prints(text: &str) {
    let cleaned = clean(text);
    assert!(is_plain(&cleaned), "{cleaned:?}");
    assert_eq!(clean(&cleaned), cleaned);
    assert!(clean_lines(text).lines().all(is_plain), "{text:?}");
}

/// Objects and refusals as they come from an API server.
fn shows(value: &Value) {
    if let Ok(status) = serde_json::from_value::<Status>(value.clone()) {
        let failure = Asked::new("create", "sessions.berth.dev", "namespace demo")
            .failed(&kube::Error::Api(status.clone().boxed()));
        assert!(matches!(failure.exit, Exit::Failed | Exit::Refused | Exit::NotFound), "{:?}", failure.exit);
        assert!(failure.to_string().lines().all(is_plain), "{failure}");
    }
    let Ok(object) = serde_json::from_value::<DynamicObject>(value.clone()) else { return };
    let now = Instant::default();
    if let Ok(found) = typed::<Session>(object.clone()) {
        for (with_namespace, is_wide) in [(false, false), (true, true)] {
            let row = view::session_row(&found.object, with_namespace, is_wide, now);
            assert_eq!(row.len(), view::session_headers(with_namespace, is_wide).len());
            let row = view::ended_row(&found.object, with_namespace, is_wide, now);
            assert_eq!(row.len(), view::ended_headers(with_namespace, is_wide).len());
        }
        if let Some((command, open)) = forward(&found.object, "--namespace demo") {
            assert!(command.starts_with("kubectl port-forward --namespace demo pod/") && !open.is_empty(), "{command}");
        }
    }
    if let Ok(found) = typed::<Workspace>(object) {
        let row = view::workspace_row(&found.object, true, true, now);
        assert_eq!(row.len(), view::workspace_headers(true, true).len());
    }
}

/// The one word that a POSIX shell makes of `text`; nothing where it would make several, or run something.
fn unquoted(text: &str) -> Option<String> {
    let mut word = String::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let after = rest.get(character.len_utf8()..)?;
        match character {
            '\'' => {
                let (quoted, after) = after.split_once('\'')?;
                word.push_str(quoted);
                rest = after;
            }
            '\\' => {
                let escaped = after.chars().next()?;
                word.push(escaped);
                rest = after.get(escaped.len_utf8()..)?;
            }
            plain if plain.is_alphanumeric() || "-_./:@+,".contains(plain) => {
                word.push(plain);
                rest = after;
            }
            _ => return None,
        }
    }
    Some(word).filter(|_| !text.is_empty())
}
