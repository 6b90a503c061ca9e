//! When a session was last used. Owns which signals count, and what to make of clocks that disagree; not
//! what follows from idleness.

use chrono::TimeDelta;

use crate::api::condition::{self, Type};
use crate::api::session::Session;
use crate::api::time::{Instant, floor_second};

/// Clocks that differ by more than this are reported.
pub const MAX_SKEW: TimeDelta = TimeDelta::seconds(5);

/// Reason of the condition `ClockSkew` for an activity from the future.
pub const AHEAD: &str = "ActivityInFuture";

/// What the signals say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The last activity; `None` before the session was usable.
    pub last: Option<Instant>,
    /// Where a signal lies further in the future than [`MAX_SKEW`]: when the first such no longer does.
    pub skewed_until: Option<Instant>,
}

/// The last activity of a session that is usable since `ready`: the latest of `readyAt`, what the observer wrote, and,
/// where the policy allows it, the keepalive.
///
/// A signal from beyond [`MAX_SKEW`] counts once, as of the first look at it, which the condition `ClockSkew`
/// remembers: were it "now" at every look, one keepalive for the year 2100 would keep a session for ever.
pub fn seen(session: &Session, ready: Option<Instant>, allow_keep_alive: bool, now: Instant) -> Seen {
    let status = session.status.as_ref();
    let observed = status.and_then(|status| status.activity.as_ref()).and_then(|activity| activity.last_at);
    let kept_alive = session.spec.keep_alive_at.filter(|_| allow_keep_alive);
    let signals = [observed, kept_alive];
    let ahead = signals.into_iter().flatten().filter(|signal| *signal - now > MAX_SKEW).min();
    let first_look = status
        .and_then(|status| condition::find(&status.conditions, Type::ClockSkew))
        .filter(|skew| skew.reason == AHEAD)
        .map_or(floor_second(now), |skew| skew.last_transition_time);
    let counted = |signal: Instant| if signal - now > MAX_SKEW { first_look } else { signal };
    Seen {
        last: ready.map(|ready| signals.into_iter().flatten().map(counted).fold(ready, Instant::max)),
        skewed_until: ahead.map(|signal| signal - MAX_SKEW),
    }
}
