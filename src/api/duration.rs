//! Durations as people write them in resources: `90s`, `30m`, `1h30m`. Owns the schema, the parsing and the
//! writing; not what a duration means.

use std::fmt::Write;

use chrono::TimeDelta;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A positive duration of at most [`MAX_HOURS`], written as numbers with the units `h`, `m` and `s`.
///
/// The API server refuses everything else by the schema's rule: CEL's own `duration()` would take `-5m`, and
/// refuse `30d` without a word about units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(String);

/// The longest duration that the schema accepts: a year of 365 days.
pub const MAX_HOURS: i64 = 8760;

/// What is wrong with a duration that the schema did not stop.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a duration: write a positive number of hours, minutes or seconds such as 90s, 30m or 1h30m")]
pub struct ParseError(String);

impl Duration {
    /// The duration written as `text`, unchecked; [`Duration::delta`] checks.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The time that this duration stands for.
    ///
    /// # Errors
    /// When the text is not one that the schema admits, as in an object stored under another schema.
    pub fn delta(&self) -> Result<TimeDelta, ParseError> {
        parse(&self.0).ok_or_else(|| ParseError(self.0.clone()))
    }
}

impl From<TimeDelta> for Duration {
    /// As it is written, which is in whole seconds, and at least one: what fits under a deadline of a second or two is
    /// less, and zero could not be read back.
    fn from(delta: TimeDelta) -> Self {
        Self(write(delta.max(TimeDelta::seconds(1))))
    }
}

fn parse(text: &str) -> Option<TimeDelta> {
    let mut total: i64 = 0;
    let mut number: Option<i64> = None;
    for character in text.chars() {
        match character.to_digit(10) {
            Some(digit) => number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(i64::from(digit))?),
            None => {
                let unit = match character {
                    'h' => 3600,
                    'm' => 60,
                    's' => 1,
                    _ => return None,
                };
                total = total.checked_add(number.take()?.checked_mul(unit)?)?;
            }
        }
    }
    let positive = number.is_none() && total > 0 && total <= MAX_HOURS * 3600;
    positive.then(|| TimeDelta::seconds(total))
}

/// `delta` in hours, minutes and seconds, without the parts that are zero: `1h30m`; zero is `0s`.
pub fn write(delta: TimeDelta) -> String {
    let seconds = delta.num_seconds().max(0);
    let mut text = String::new();
    for (amount, unit) in [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')] {
        if amount > 0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "{amount}{unit}");
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

impl JsonSchema for Duration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": 64,
            // Six digits keep CEL's duration() from overflowing, which would replace the message by its own.
            "x-kubernetes-validations": [{
                "rule": "self.matches('^([0-9]{1,6}(h|m|s)){1,3}$') && duration(self) > duration('0s') && duration(self) <= duration('8760h')",
                "message": "write a positive duration of at most 8760h in hours, minutes and seconds, such as 90s, 30m or 1h30m",
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("0h5m", 300), ("8760h", 31_536_000)] {
            assert_eq!(Duration::new(text).delta(), Ok(TimeDelta::seconds(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_positive_duration_with_units_is_refused() {
        for text in ["", "5", "-5m", "30d", "m", "5m5", "1.5h", "0s", "8761h", "99999999999999999999h", "5 m", "5M"] {
            assert!(Duration::new(text).delta().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(seconds in 1..=MAX_HOURS * 3600) {
            let delta = TimeDelta::seconds(seconds);
            prop_assert_eq!(Duration::from(delta).delta(), Ok(delta));
        }

        #[test]
        fn no_text_makes_the_parser_fail_badly(text in ".{0,64}") {
            let _ = Duration::new(text).delta();
        }
    }
}
