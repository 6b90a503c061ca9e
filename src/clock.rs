//! The wall clock: the only place that reads it. Everything else is given the time.

use chrono::Utc;

use crate::api::time::Instant;

/// A source of the time of day.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// The time now, UTC.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn now(&self) -> Instant {
        Utc::now()
    }
}
