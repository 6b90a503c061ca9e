//! The wall clock: the only place that reads it. Everything else is given the time.

use std::fmt;
use std::sync::Arc;

use chrono::Utc;

use crate::api::time::Instant;

/// A source of the time of day: the system's, or one that somebody turns by hand.
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<dyn Fn() -> Instant + Send + Sync>>);

impl Clock {
    /// The clock of this machine.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that says what `read` says, for a simulation.
    pub fn of(read: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(read)))
    }

    /// The time now, UTC.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn now(&self) -> Instant {
        self.0.as_ref().map_or_else(Utc::now, |read| read())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(if self.0.is_some() { "Clock(simulated)" } else { "Clock(system)" })
    }
}
