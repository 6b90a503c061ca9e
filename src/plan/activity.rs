//! When a session was last used. Owns which signals count, and what to make of clocks that disagree; not
//! what follows from idleness.

use chrono::TimeDelta;

use crate::api::session::Session;
use crate::api::time::Instant;

/// Clocks that differ by more than this are reported.
pub const MAX_SKEW: TimeDelta = TimeDelta::seconds(5);

/// What the signals say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The last activity; `None` before the session was usable.
    pub last: Option<Instant>,
    /// How far the furthest signal lies in the future, if that is more than [`MAX_SKEW`].
    pub skew: Option<TimeDelta>,
}

/// The last activity of a session that is usable since `ready`: the latest of `readyAt`, what the observer wrote, and,
/// where the policy allows it, the keepalive. A signal from the future counts as now.
pub fn seen(session: &Session, ready: Option<Instant>, allow_keep_alive: bool, now: Instant) -> Seen {
    let observed =
        session.status.as_ref().and_then(|status| status.activity.as_ref()).and_then(|activity| activity.last_at);
    let kept_alive = session.spec.keep_alive_at.filter(|_| allow_keep_alive);
    let signals = [observed, kept_alive];
    let ahead = signals.into_iter().flatten().max().map(|latest| latest - now);
    Seen {
        last: ready.map(|ready| signals.into_iter().flatten().map(|signal| signal.min(now)).fold(ready, Instant::max)),
        skew: ahead.filter(|ahead| *ahead > MAX_SKEW),
    }
}
