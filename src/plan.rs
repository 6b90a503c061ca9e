//! Decisions. Everything here is pure: a planner is given what was observed and the time, and answers what to
//! do, what to say and when to look again. It names no client, no runtime, no environment and no clock; a
//! test reads the `use` lines of this folder.

pub mod activity;
pub mod admission;
pub mod child;
pub mod contract;
pub mod deadline;
pub mod drain;
pub mod endpoint;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod groundwork;
pub mod hardening;
pub mod instance;
pub mod limit;
pub mod name;
pub mod network;
pub mod orphan;
pub mod phase;
pub mod pod;
pub mod policy;
pub mod pool;
pub mod schedule;
pub mod session;
pub mod template;
pub mod trace;
pub mod volume;
pub mod workspace;

use crate::api::time::Instant;

/// What a planner decided: `steps` in their order, what to tell people, and when to look again.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<S> {
    /// What to do, in this order, stopping at the first failure.
    pub steps: Vec<S>,
    /// Events to publish once the steps are done; they come only from transitions.
    pub notes: Vec<Note>,
    /// The earliest instant at which time alone changes the decision; `None` waits for a change.
    pub wake: Option<Instant>,
}

/// An event for people, attached to the object that the plan is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether somebody should look.
    pub severity: Severity,
    /// One word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// How an event is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// As expected.
    Normal,
    /// Somebody should look.
    Warning,
}

/// The longest message that goes into a status or an event, in bytes: an event's note holds 1 kB, and one that is longer
/// is refused as a whole.
const MAX_MESSAGE: usize = 900;

/// What a message ends with that was cut.
const CUT: &str = "...";

/// `text` cut to what a status or an event holds, on a character boundary.
pub fn shorten(text: &str) -> String {
    if text.len() <= MAX_MESSAGE {
        return text.to_owned();
    }
    let (kept, _) = text.split_at(text.floor_char_boundary(MAX_MESSAGE - CUT.len()));
    format!("{kept}{CUT}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_fits_an_event_in_whatever_script() {
        for text in ["a".repeat(5000), "ż".repeat(5000), "長".repeat(400), "🦀".repeat(5000), "a長".repeat(301)] {
            let cut = shorten(&text);
            assert!(cut.len() <= MAX_MESSAGE && cut.ends_with("..."), "{} bytes", cut.len());
            assert_eq!(shorten(&cut), cut);
        }
        assert_eq!(shorten(&"長".repeat(300)), "長".repeat(300));
    }
}
