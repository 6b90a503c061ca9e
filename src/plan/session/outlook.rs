//! What time brings to a session in use: when it is idle, warned, ended, and whether anybody knows of the silence that this
//! needs. Owns how knowledge and deadlines go together; the deadlines are `deadline`'s, the knowledge `activity`'s.

use crate::api::condition::{self, Status, Type};
use crate::api::policy::ActivitySource;
use crate::api::time::{Instant, floor_second};
use crate::api::{Reason, SessionStatus};
use crate::plan::activity::{self, Knowledge, Observer};
use crate::plan::deadline::{self, Deadline};
use crate::plan::policy::InForce;

/// What time brings to a session that is usable; nothing before it is.
#[derive(Clone)]
pub(super) struct Outlook {
    /// Whether silence is idleness.
    pub(super) knowledge: Knowledge,
    /// When the session is idle, if nothing happens.
    pub(super) idle_at: Option<Instant>,
    /// Whether the user was warned of an end for idleness.
    was_warned: bool,
    /// The ends, the nearest first.
    pub(super) deadlines: Vec<Deadline>,
}

impl Outlook {
    /// Of a session that is not usable yet.
    pub(super) fn none() -> Self {
        Self { knowledge: Knowledge::Trusted, idle_at: None, was_warned: false, deadlines: Vec::new() }
    }

    /// Of a session with this status, which is usable since `ready` and was last used at `last`.
    pub(super) fn of(
        before: &SessionStatus,
        observer: Observer,
        force: &InForce,
        (ready, last): (Instant, Instant),
        workspace_gone: Option<Instant>,
        now: Instant,
    ) -> Self {
        let rules = &force.rules;
        let by_gateway = rules.activity_source == ActivitySource::Gateway;
        let unheard = by_gateway.then(|| activity::known_since(before, floor_second(now)) + rules.idle_notice());
        let mut deadlines = deadline::deadlines(force, ready, last, unheard, workspace_gone);
        let idle_at = last + rules.idle_after;
        let is_idle = |deadline: &Deadline| deadline.reason == Reason::IdleTimeout;
        let ends = deadlines.iter().filter(|it| is_idle(it)).flat_map(|it| [it.warn_from, it.at]);
        let needs: Vec<Instant> = ends.chain([idle_at]).collect();
        let knowledge = activity::known(before, observer, rules, &needs, now);
        let was_known = condition::is_true(&before.conditions, Type::ActivityKnown);
        let is_known = match knowledge {
            Knowledge::Trusted | Knowledge::Until(_) => true,
            Knowledge::Unheard => was_known,
            Knowledge::Lost(_) => false,
        };
        deadlines.retain(|deadline| is_known || !is_idle(deadline));
        let warned = condition::find(&before.conditions, Type::EndingSoon);
        let was_warned =
            warned.is_some_and(|it| it.status == Status::True && it.reason == Reason::IdleTimeout.as_str());
        Self { knowledge, idle_at: Some(idle_at).filter(|_| is_known), was_warned, deadlines }
    }

    /// The nearest end that has come. One for idleness has come once somebody knows of the silence before it.
    pub(super) fn due(&self, now: Instant) -> Option<&Deadline> {
        self.deadlines.iter().find(|it| it.at <= now && self.bears_out(it, it.at))
    }

    /// The nearest end that its user is to be warned of.
    pub(super) fn warned(&self, now: Instant) -> Option<&Deadline> {
        self.deadlines.iter().find(|it| it.warn_from <= now && self.bears_out(it, it.warn_from))
    }

    fn bears_out(&self, deadline: &Deadline, at: Instant) -> bool {
        // Before anybody has said whether the observer lives, what was told holds, and nothing more comes of it.
        let told = self.knowledge == Knowledge::Unheard && self.was_warned && at < deadline.at;
        deadline.reason != Reason::IdleTimeout || told || self.knowledge.covers(at)
    }
}
