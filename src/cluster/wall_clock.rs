//! Notices that the wall clock was set. Deadlines lie on it, and sleeps are counted on the clock that nobody sets: once the two
//! have parted, every sleep is wrong. Owns that comparison, and asks for looks; what time brings is the planners'.

use std::time::Duration;

use chrono::TimeDelta;
use kube::ResourceExt;

use super::Cluster;
use crate::api::time::Instant;
use crate::clock::Clock;

/// How often the clocks are compared. It is one wake-up for all sessions, so that none needs one of its own.
const EVERY: Duration = Duration::from_secs(10);

/// How far the clocks may part before anybody is looked at: a sleep is wrong by no more than this. A clock that is slewed, by
/// 500 ppm at most, takes half an hour for it.
const TOLERANCE: TimeDelta = TimeDelta::seconds(1);

/// What both clocks showed at one time.
#[derive(Clone, Copy)]
struct Reading {
    wall: Instant,
    counted: tokio::time::Instant,
}

impl Reading {
    fn of(clock: &Clock) -> Self {
        Self { wall: clock.now(), counted: tokio::time::Instant::now() }
    }

    /// By how much the wall clock went on further than time did, from `earlier` until this; negative where it was set back.
    fn parted_since(&self, earlier: &Self) -> TimeDelta {
        let passed = TimeDelta::from_std(self.counted - earlier.counted).unwrap_or(TimeDelta::MAX);
        self.wall - earlier.wall - passed
    }
}

/// Compares the clocks until the process ends, and has everything with a deadline looked at where they have parted.
pub async fn run(cluster: Cluster) {
    let mut agreed = Reading::of(&cluster.clock);
    loop {
        tokio::time::sleep(EVERY).await;
        let now = Reading::of(&cluster.clock);
        let parted = now.parted_since(&agreed);
        if parted.abs() > TOLERANCE {
            tracing::warn!(
                by_ms = parted.num_milliseconds(),
                "the wall clock was set: all deadlines are looked at again"
            );
            look_at_all(&cluster);
            agreed = now;
        }
    }
}

/// Asks for a look at whatever sleeps until a deadline.
fn look_at_all(cluster: &Cluster) {
    for session in cluster.stores.sessions.reader().state() {
        cluster.queues.session_named(&session.namespace().unwrap_or_default(), &session.name_any());
    }
    for workspace in cluster.stores.workspaces.reader().state() {
        cluster.queues.workspace_changed(&workspace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_part_by_what_one_was_set_and_not_by_what_passed() {
        let begin = Reading { wall: Instant::UNIX_EPOCH, counted: tokio::time::Instant::now() };
        let after = |wall: i64, counted: u64| Reading {
            wall: begin.wall + TimeDelta::seconds(wall),
            counted: begin.counted + Duration::from_secs(counted),
        };
        for (wall, counted, expected) in [(10, 10, 0), (86_410, 10, 86_400), (-3590, 10, -3600), (0, 10, -10)] {
            assert_eq!(after(wall, counted).parted_since(&begin), TimeDelta::seconds(expected), "{wall} {counted}");
        }
    }
}
