//! What of foreign text and times goes into a database: what both keep as it is, to the byte and the microsecond.

use std::fmt::Write;

use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use serde_json::Value;

use super::error::StoreError;

/// The longest text of a column that is looked up by: an index entry of PostgreSQL holds no more than 2,704 bytes.
const LONGEST_NAME: usize = 1024;
/// How deep JSON may be nested: no deeper than `serde_json` reads it again.
const DEEPEST: usize = 100;

/// Text as it is kept and asked for. PostgreSQL holds no NUL. It is replaced and not refused, so that nobody keeps
/// what they did out of the audit by putting one into their name: U+FFFD stands where it was.
pub(super) fn cleaned(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The same for text that is looked up by, which has a bound.
pub(super) fn name(what: &str, text: &str) -> Result<String, StoreError> {
    let text = cleaned(text);
    if text.len() <= LONGEST_NAME {
        return Ok(text);
    }
    Err(StoreError::Invalid(format!("{what} has {} bytes; {LONGEST_NAME} are the most", text.len())))
}

/// The same for one that may be absent.
pub(super) fn maybe_name(what: &str, text: Option<&str>) -> Result<Option<String>, StoreError> {
    text.map(|text| name(what, text)).transpose()
}

/// A time as it is kept: whole microseconds since 1970, of a year that has four digits.
pub(super) fn micros(what: &str, time: DateTime<Utc>) -> Result<i64, StoreError> {
    if (0..=9999).contains(&time.year()) {
        return Ok(time.timestamp_micros());
    }
    Err(StoreError::Invalid(format!("{what} is of the year {}, which has not four digits", time.year())))
}

/// A time that was kept.
pub(super) fn time(micros: i64) -> Result<DateTime<Utc>, StoreError> {
    let time = DateTime::from_timestamp_micros(micros).filter(|time| (0..=9999).contains(&time.year()));
    time.ok_or_else(|| StoreError::Corrupt(format!("{micros} is no time that was written here")))
}

/// A time as text that has one form alone: RFC 3339, UTC, six digits of a second's fraction.
pub(super) fn canonical_time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// JSON as text that has one form alone: no white space, members in the order of their names' bytes, strings with
/// only the escapes that JSON demands. `serde_json` prints members in an order that a feature of it decides.
pub(super) fn canonical_json(what: &str, value: &Value) -> Result<String, StoreError> {
    let mut text = String::new();
    write_json(&mut text, value, DEEPEST)
        .map_err(|_| StoreError::Invalid(format!("{what} is nested more than {DEEPEST} deep")))?;
    Ok(text)
}

/// A string as JSON.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn write_json(to: &mut String, value: &Value, depth: usize) -> std::fmt::Result {
    let Some(deeper) = depth.checked_sub(1) else {
        return Err(std::fmt::Error);
    };
    match value {
        Value::Array(items) => {
            to.push('[');
            for (index, item) in items.iter().enumerate() {
                to.push_str(if index == 0 { "" } else { "," });
                write_json(to, item, deeper)?;
            }
            to.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|member| member.0.as_str());
            to.push('{');
            for (index, (name, value)) in members.into_iter().enumerate() {
                write!(to, "{}{}:", if index == 0 { "" } else { "," }, quoted(name))?;
                write_json(to, value, deeper)?;
            }
            to.push('}');
        }
        scalar => write!(to, "{scalar}")?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_has_one_form_whatever_the_order_it_was_made_in() {
        let text = canonical_json("it", &json!({"b": [1, 2.5, null], "a": {"ü": "\u{0}\"\\/\n"}})).unwrap();
        assert_eq!(text, r#"{"a":{"ü":"\u0000\"\\/\n"},"b":[1,2.5,null]}"#);
    }

    #[test]
    fn json_that_could_not_be_read_again_is_refused() {
        let deep = (0..200).fold(Value::Null, |inner, _| json!([inner]));
        assert!(matches!(canonical_json("it", &deep), Err(StoreError::Invalid(_))));
    }

    #[test]
    fn a_time_keeps_its_microseconds_and_has_one_form() {
        let exact: DateTime<Utc> = "2026-01-31T12:00:00.123456789Z".parse().unwrap();
        let kept = time(micros("it", exact).unwrap()).unwrap();
        assert_eq!(canonical_time(kept), "2026-01-31T12:00:00.123456Z");
        assert_eq!(canonical_time(time(0).unwrap()), "1970-01-01T00:00:00.000000Z");
        assert!(time(i64::MAX).is_err() && micros("it", DateTime::<Utc>::MAX_UTC).is_err());
    }

    #[test]
    fn a_nul_is_replaced_where_it_can_be_seen() {
        assert_eq!(cleaned("ro\0ot"), "ro\u{fffd}ot");
    }
}
