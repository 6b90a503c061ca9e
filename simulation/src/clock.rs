//! Wall clocks: the simulated time since the start, plus what one actor's clock is off. Owns how clocks disagree;
//! the passing of time is tokio's, paused.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// When every simulation begins: 2026-01-01T00:00:00Z.
const EPOCH: i64 = 1_767_225_600;

/// The wall clock of one actor. A clone is the same clock; [`SimClock::another`] is another one, on the same time.
#[derive(Clone, Debug)]
pub struct SimClock {
    start: Instant,
    skew: Arc<Mutex<TimeDelta>>,
}

impl SimClock {
    /// A true clock that begins now. To be made within a runtime whose time is paused.
    #[expect(clippy::new_without_default, reason = "it reads the runtime's time")]
    pub fn new() -> Self {
        Self { start: Instant::now(), skew: Arc::default() }
    }

    /// Another actor's clock, off by `skew`.
    pub fn another(&self, skew: TimeDelta) -> Self {
        Self { start: self.start, skew: Arc::new(Mutex::new(skew)) }
    }

    /// What this clock shows.
    pub fn now(&self) -> DateTime<Utc> {
        let elapsed = TimeDelta::from_std(self.start.elapsed()).unwrap_or_default();
        DateTime::from_timestamp(EPOCH, 0).unwrap_or_default() + elapsed + self.skew()
    }

    /// How far this clock is off.
    pub fn skew(&self) -> TimeDelta {
        *self.skew.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the clock be off by `skew` from now on: a jump, forward or back.
    pub fn jump(&self, skew: TimeDelta) {
        *self.skew.lock().unwrap_or_else(PoisonError::into_inner) = skew;
    }

    /// The simulated time since the start: the same for all clocks, and never back.
    pub fn elapsed(&self) -> std::time::Duration {
        self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn clocks_disagree_and_jump_and_share_the_passing_of_time() {
        let server = SimClock::new();
        let operator = server.another(TimeDelta::seconds(-3));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(server.now().to_rfc3339(), "2026-01-01T00:01:00+00:00");
        assert_eq!(server.now() - operator.now(), TimeDelta::seconds(3));
        operator.clone().jump(TimeDelta::hours(24));
        assert_eq!(operator.now() - server.now(), TimeDelta::hours(24));
        assert_eq!(server.skew(), TimeDelta::zero());
    }
}
