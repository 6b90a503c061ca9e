//! When a session was last used, and whether anybody knows. Owns which signals count, what to make of clocks that disagree,
//! and whose word makes silence idleness; not what follows from idleness.

use chrono::TimeDelta;

use crate::api::condition::{self, Status, Type};
use crate::api::policy::ActivitySource;
use crate::api::session::{Session, SessionStatus};
use crate::api::time::{Instant, floor_second};
use crate::plan::policy::Rules;

/// Clocks that differ by more than this are reported.
pub const MAX_SKEW: TimeDelta = TimeDelta::seconds(5);

/// Reason of the condition `ClockSkew` for an activity from the future.
pub const AHEAD: &str = "ActivityInFuture";

/// How late an observation may come that a deadline needs, where the warning leaves so much time.
const LATE: TimeDelta = TimeDelta::seconds(30);

/// What the signals say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The last activity; `None` before the session was usable.
    pub last: Option<Instant>,
    /// Where a signal lies further in the future than [`MAX_SKEW`]: when the first such no longer does.
    pub skewed_until: Option<Instant>,
}

/// What a policy says of activity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counting {
    /// Whether a keepalive counts.
    pub keep_alive: bool,
    /// Whose word makes silence idleness.
    pub source: ActivitySource,
}

impl Counting {
    /// As these rules say.
    pub fn of(rules: &Rules) -> Self {
        Self { keep_alive: rules.allow_keep_alive, source: rules.activity_source }
    }
}

/// The last activity of a session that is usable since `ready`: the latest of `readyAt`, what the observer wrote, and,
/// where the policy allows it, the keepalive. What happened before an observer began to watch nobody knows: by the mode
/// `gateway`, its beginning counts as activity.
///
/// A signal from beyond [`MAX_SKEW`] counts once, as of the first look at it, which the condition `ClockSkew`
/// remembers: were it "now" at every look, one keepalive for the year 2100 would keep a session for ever.
pub fn seen(session: &Session, ready: Option<Instant>, counting: Counting, now: Instant) -> Seen {
    let status = session.status.as_ref();
    let observed = status.and_then(|status| status.activity.as_ref());
    let watched = observed.filter(|_| counting.source == ActivitySource::Gateway).and_then(|it| it.observed_since);
    let kept_alive = session.spec.keep_alive_at.filter(|_| counting.keep_alive);
    let signals = [observed.and_then(|activity| activity.last_at), watched, kept_alive];
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

/// What became of the observer that a session's status names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Observer {
    /// Nobody has said yet: what was told holds.
    #[default]
    Unheard,
    /// Its Lease is live.
    Live,
    /// It has none, or it has run out.
    Gone,
}

/// Whether silence is idleness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// It is: whoever writes the activity is trusted to.
    Trusted,
    /// It is up to then: an observer that lives has watched.
    Until(Instant),
    /// Nobody has said yet whether the observer lives.
    Unheard,
    /// It is not: nobody knows, for this reason.
    Lost(Gap),
}

/// Why nobody knows of a session's activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// No gateway has said that it watches.
    NeverObserved,
    /// The gateway that watched is gone.
    ObserverGone,
    /// A gateway lives, and has not said what it saw up to a deadline.
    NotObserved,
    /// An observation claims a time that is still to come.
    ObservedInFuture,
}

impl Gap {
    /// One word for programs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NeverObserved => "NeverObserved",
            Self::ObserverGone => "ObserverGone",
            Self::NotObserved => "NotObserved",
            Self::ObservedInFuture => "ObservedInFuture",
        }
    }

    /// A sentence for people.
    pub fn message(self) -> &'static str {
        match self {
            Self::NeverObserved => {
                "no gateway watches the session: it does not become idle, and ends by its maximum duration"
            }
            Self::ObserverGone => {
                "the gateway that watched is gone: the session does not become idle, and ends by its maximum duration"
            }
            Self::NotObserved => {
                "the gateway has not said what it saw: the session does not become idle, and ends by its maximum duration"
            }
            Self::ObservedInFuture => {
                "an observation claims a time that is still to come: the session does not become idle, and ends by its \
                 maximum duration"
            }
        }
    }
}

impl Knowledge {
    /// Whether nothing can have happened unseen up to `at`.
    pub fn covers(self, at: Instant) -> bool {
        match self {
            Self::Trusted => true,
            Self::Until(until) => at <= until,
            Self::Unheard | Self::Lost(_) => false,
        }
    }
}

/// What is known of a session with this status, whose silence is needed to be known up to each of `needs`, by `rules`.
///
/// Where it was not known before, only an observation that has just come makes it known: one that was too late does not become
/// good by the floor that its lateness gives to the deadlines.
pub fn known(before: &SessionStatus, observer: Observer, rules: &Rules, needs: &[Instant], now: Instant) -> Knowledge {
    if rules.activity_source == ActivitySource::Status {
        return Knowledge::Trusted;
    }
    let observation = before.activity.as_ref().filter(|activity| activity.observer.is_some());
    let span = observation.and_then(|activity| activity.observed_since.zip(activity.observed_until));
    let Some((since, until)) = span else {
        return Knowledge::Lost(Gap::NeverObserved);
    };
    let was_known = condition::is_true(&before.conditions, Type::ActivityKnown);
    match observer {
        Observer::Unheard => Knowledge::Unheard,
        Observer::Gone => Knowledge::Lost(Gap::ObserverGone),
        Observer::Live if until - now > MAX_SKEW => Knowledge::Lost(Gap::ObservedInFuture),
        // Who has seen one moment does not watch.
        Observer::Live if until <= since => Knowledge::Lost(Gap::NotObserved),
        Observer::Live if !was_known && until + late(rules) <= now => Knowledge::Lost(Gap::NotObserved),
        Observer::Live => match needs.iter().filter(|need| **need > until).min() {
            Some(need) if *need + late(rules) <= now => Knowledge::Lost(Gap::NotObserved),
            _ => Knowledge::Until(until),
        },
    }
}

/// How late an observation may come: so early that a warning still leaves half of its notice.
pub fn late(rules: &Rules) -> TimeDelta {
    LATE.min(rules.idle_notice() / 2)
}

/// Since when the silence of a session is known, by its status; from now on where it is not. What was not known nobody was
/// warned of.
pub fn known_since(before: &SessionStatus, now: Instant) -> Instant {
    condition::find(&before.conditions, Type::ActivityKnown)
        .filter(|known| known.status == Status::True)
        .map_or(now, |known| known.last_transition_time)
}
