//! How long to wait after a failure: longer each time, per object, until it succeeds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(30);

/// Counts failures per object.
#[derive(Default)]
pub struct Backoff(Mutex<HashMap<String, u32>>);

impl Backoff {
    /// The object failed again: how long to wait.
    pub fn failed(&self, key: &str) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key.to_owned()).or_default();
        let delay = FIRST.saturating_mul(1 << (*count).min(16)).min(LAST);
        *count = count.saturating_add(1);
        delay
    }

    /// The object succeeded.
    pub fn succeeded(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_grows_to_a_bound_and_is_forgotten_after_a_success() {
        let backoff = Backoff::default();
        let delays: Vec<Duration> = (0..40).map(|_| backoff.failed("a")).collect();
        assert!(delays.is_sorted());
        assert_eq!((delays[0], delays[39]), (FIRST, LAST));
        assert_eq!(backoff.failed("b"), FIRST);
        backoff.succeeded("a");
        assert_eq!(backoff.failed("a"), FIRST);
    }
}
