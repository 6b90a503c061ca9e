//! The rules in force for a session: the defaults of a policy, their clamping, the user's own wish, and what
//! an edit of the policy may do to a session that is live. Not when a session ends by them: that is `deadline`.

use chrono::TimeDelta;

use crate::api::duration::{Duration, MAX_HOURS, ParseError};
use crate::api::policy::{ActivitySource, SessionPolicySpec};
use crate::api::session::PolicyInForce;
use crate::api::time::{Instant, ceil_second};
use crate::plan::limit::Limit;

/// Where a Workspace's policy comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicySource {
    /// The policy of this name.
    Found(String, Box<SessionPolicySpec>),
    /// None is named and there is none called `default`.
    BuiltIn,
    /// The Workspace names one that does not exist.
    Missing(String),
    /// The policy of this name stands and cannot be read, for this reason: it is never taken for none.
    Unreadable(String, String),
    /// Without a Workspace nothing is known.
    Unknown,
}

/// Every value of a policy, none of them open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The SessionPolicy that they come from; `None` for the built-in values.
    pub name: Option<String>,
    /// Idle after this long without input.
    pub idle_after: TimeDelta,
    /// Warned after this long without input.
    pub warn_after: TimeDelta,
    /// Disconnected after this long without input.
    pub disconnect_after: TimeDelta,
    /// The longest wish for `disconnect_after` that is granted.
    pub user_max: TimeDelta,
    /// Whether a keepalive counts as activity.
    pub allow_keep_alive: bool,
    /// Whose word makes silence idleness.
    pub activity_source: ActivitySource,
    /// The longest life of a session from `readyAt`.
    pub max_duration: TimeDelta,
    /// How long before the maximum duration the warning comes.
    pub warn_before: TimeDelta,
    /// How long a start may take.
    pub start_timeout: TimeDelta,
    /// How long a session may wait for a slot.
    pub queue_timeout: TimeDelta,
    /// From when on a session counts as long-running.
    pub alert_after: TimeDelta,
    /// How long an ended Session stays as a resource.
    pub keep_for: TimeDelta,
    /// How many sessions one user may have, if that is limited. What stands in a status has none: it is the policy's alone.
    pub limit: Option<Limit>,
}

const IDLE_AFTER: TimeDelta = TimeDelta::minutes(5);
const WARN_AFTER: TimeDelta = TimeDelta::minutes(10);
const DISCONNECT_AFTER: TimeDelta = TimeDelta::minutes(30);
const MAX_DURATION: TimeDelta = TimeDelta::hours(8);
const WARN_BEFORE: TimeDelta = TimeDelta::minutes(10);
const START_TIMEOUT: TimeDelta = TimeDelta::minutes(5);
const QUEUE_TIMEOUT: TimeDelta = TimeDelta::hours(1);
const ALERT_AFTER: TimeDelta = TimeDelta::hours(4);
const KEEP_FOR: TimeDelta = TimeDelta::hours(24);
/// What follows from a written value is no longer than what could be written: a status that held it would be refused.
const LONGEST: TimeDelta = TimeDelta::hours(MAX_HOURS);

impl Rules {
    /// The values that hold where a namespace has no policy at all.
    pub fn built_in() -> Self {
        Self {
            name: None,
            idle_after: IDLE_AFTER,
            warn_after: WARN_AFTER,
            disconnect_after: DISCONNECT_AFTER,
            user_max: DISCONNECT_AFTER,
            allow_keep_alive: true,
            activity_source: ActivitySource::Status,
            max_duration: MAX_DURATION,
            warn_before: WARN_BEFORE,
            start_timeout: START_TIMEOUT,
            queue_timeout: QUEUE_TIMEOUT,
            alert_after: ALERT_AFTER,
            keep_for: KEEP_FOR,
            limit: None,
        }
    }

    /// The rules of the policy `name`. Written values stand as they are; an unwritten one is its default, or
    /// where that does not fit the written ones, the nearest sensible value that does.
    ///
    /// # Errors
    /// When a written duration is none, which the schema prevents for what was stored under it.
    pub fn of(name: &str, spec: &SessionPolicySpec) -> Result<Self, ParseError> {
        let read = |duration: &Option<Duration>| duration.as_ref().map(Duration::delta).transpose();
        let idle = spec.idle.clone().unwrap_or_default();
        let (idle_after, warn_after, disconnect_after) =
            fit_idle(read(&idle.after)?, read(&idle.warn_after)?, read(&idle.disconnect_after)?);
        let max_duration = read(&spec.max_duration)?
            .or(read(&spec.warn_before)?.map(|warning| MAX_DURATION.max(warning * 2).min(LONGEST)))
            .unwrap_or(MAX_DURATION);
        let keep_for = spec.history.as_ref().map_or(Ok(None), |history| read(&history.keep_for))?;
        Ok(Self {
            name: Some(name.to_owned()),
            idle_after,
            warn_after,
            disconnect_after,
            user_max: read(&idle.user_max)?.unwrap_or(DISCONNECT_AFTER.max(disconnect_after)),
            allow_keep_alive: idle.allow_keep_alive.unwrap_or(true),
            activity_source: spec.activity.as_ref().and_then(|activity| activity.source).unwrap_or_default(),
            max_duration,
            warn_before: read(&spec.warn_before)?.unwrap_or(WARN_BEFORE.min(max_duration / 2)),
            start_timeout: read(&spec.start_timeout)?.unwrap_or(START_TIMEOUT),
            queue_timeout: read(&spec.queue_timeout)?.unwrap_or(QUEUE_TIMEOUT),
            alert_after: read(&spec.alert_after)?.unwrap_or(ALERT_AFTER.min(max_duration)),
            keep_for: keep_for.unwrap_or(KEEP_FOR),
            limit: Limit::of(spec.limits.as_ref()),
        })
    }

    /// The same rules with a user's own wish for `disconnectAfter`, as far as `userMax` grants it.
    pub fn with_wish(mut self, wish: Option<TimeDelta>) -> Self {
        if let Some(wish) = wish {
            let granted = wish.min(self.user_max);
            let (idle, warn, disconnect) = if granted < self.disconnect_after {
                fit_idle(
                    Some(self.idle_after).filter(|after| *after < granted),
                    Some(self.warn_after).filter(|after| *after < granted),
                    Some(granted),
                )
            } else {
                (self.idle_after, self.warn_after, granted)
            };
            (self.idle_after, self.warn_after, self.disconnect_after) = (idle, warn, disconnect);
        }
        self
    }

    /// How long before the idle disconnect its warning comes.
    pub fn idle_notice(&self) -> TimeDelta {
        self.disconnect_after - self.warn_after
    }
}

/// Idle, warning and disconnect in their order: written values as they are, unwritten ones at their default
/// where it fits, else in the proportion that the defaults have to each other.
fn fit_idle(
    idle: Option<TimeDelta>,
    warn: Option<TimeDelta>,
    disconnect: Option<TimeDelta>,
) -> (TimeDelta, TimeDelta, TimeDelta) {
    let floor = idle.max(warn).unwrap_or_default();
    let notice = DISCONNECT_AFTER - WARN_AFTER;
    let after_all = if floor < DISCONNECT_AFTER { DISCONNECT_AFTER } else { (floor + notice).min(LONGEST) };
    let disconnect = disconnect.unwrap_or(after_all);
    let warn = warn.unwrap_or_else(|| {
        let default = if WARN_AFTER < disconnect { WARN_AFTER } else { disconnect / 3 };
        default.max(idle.unwrap_or_default())
    });
    let idle = idle.unwrap_or(if IDLE_AFTER <= warn { IDLE_AFTER } else { warn / 2 });
    (idle, warn, disconnect)
}

/// Rules together with what an edit must not undercut: the notice that people were promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// The rules.
    pub rules: Rules,
    /// No idle disconnect before this instant.
    pub idle_not_before: Option<Instant>,
    /// No end by maximum duration before this instant.
    pub max_duration_not_before: Option<Instant>,
    /// When a drain of the node ends the session, once that was announced: an announcement gives its whole notice.
    pub drain_ends_at: Option<Instant>,
    /// When the session ends since its user has launched more than they may have, once that was announced.
    pub displaced_at: Option<Instant>,
}

/// The longest notice for a session in use that makes way for another of its user: they are there, and wait for it.
const DISPLACED_AFTER: TimeDelta = TimeDelta::minutes(1);

impl InForce {
    /// `rules` with nothing held back and nothing announced.
    pub fn of(rules: Rules) -> Self {
        Self { rules, idle_not_before: None, max_duration_not_before: None, drain_ends_at: None, displaced_at: None }
    }

    /// `rules` as they take effect at `now` on a session that had `before` in force, was usable since `ready`
    /// and last used at `last`. A deadline that an edit would bring nearer than now plus its warning is held
    /// there; one that was nearer already stays where it was. What has no warning, the waits for a slot and for
    /// the instance, is never shortened for a session that waits already.
    pub fn succeed(
        before: Option<&Self>,
        rules: Rules,
        ready: Option<Instant>,
        last: Option<Instant>,
        now: Instant,
    ) -> Self {
        let Some(before) = before else {
            return Self::of(rules);
        };
        let rules = Rules {
            start_timeout: rules.start_timeout.max(before.rules.start_timeout),
            queue_timeout: rules.queue_timeout.max(before.rules.queue_timeout),
            ..rules
        };
        let floor =
            |since: Option<Instant>, old: TimeDelta, new: TimeDelta, held: Option<Instant>, notice: TimeDelta| {
                let since = since?;
                let promised = held.map_or(since + old, |held| held.max(since + old));
                let wanted = since + new;
                let kept = if old == new { held? } else { ceil_second(now + notice).min(promised) };
                Some(kept).filter(|kept| *kept > wanted)
            };
        let trusted_now = rules.activity_source == ActivitySource::Status;
        let idle_not_before = match before.rules.activity_source {
            // What silence had come to nobody knew, or was warned of.
            ActivitySource::Gateway if trusted_now => {
                let kept = Some(ceil_second(now + rules.idle_notice())).max(before.idle_not_before);
                kept.filter(|kept| last.is_some_and(|last| *kept > last + rules.disconnect_after))
            }
            _ => floor(
                last,
                before.rules.disconnect_after,
                rules.disconnect_after,
                before.idle_not_before,
                rules.idle_notice(),
            ),
        };
        Self {
            idle_not_before,
            max_duration_not_before: floor(
                ready,
                before.rules.max_duration,
                rules.max_duration,
                before.max_duration_not_before,
                rules.warn_before,
            ),
            drain_ends_at: before.drain_ends_at,
            displaced_at: before.displaced_at,
            rules,
        }
    }

    /// With the end that a drain of the node brings, announced at `now` unless it was before, or taken back.
    #[must_use]
    pub fn with_drain(self, ends: bool, now: Instant) -> Self {
        let at = self.drain_ends_at.unwrap_or_else(|| ceil_second(now + self.rules.warn_before));
        Self { drain_ends_at: ends.then_some(at), ..self }
    }

    /// With the end that another session of the same user brings, announced at `now` unless it was before, or taken back.
    #[must_use]
    pub fn with_displacement(self, ends: bool, is_idle: bool, now: Instant) -> Self {
        let notice = if is_idle { TimeDelta::zero() } else { self.rules.warn_before.min(DISPLACED_AFTER) };
        let at = self.displaced_at.unwrap_or_else(|| ceil_second(now + notice));
        Self { displaced_at: ends.then_some(at), ..self }
    }

    /// The rules as a session's status holds them.
    pub fn to_wire(&self) -> PolicyInForce {
        let Self { rules, idle_not_before, max_duration_not_before, drain_ends_at, displaced_at } = self;
        PolicyInForce {
            name: rules.name.clone(),
            idle_after: rules.idle_after.into(),
            warn_after: rules.warn_after.into(),
            disconnect_after: rules.disconnect_after.into(),
            allow_keep_alive: rules.allow_keep_alive,
            activity_source: Some(rules.activity_source).filter(|source| *source != ActivitySource::Status),
            max_duration: rules.max_duration.into(),
            warn_before: rules.warn_before.into(),
            start_timeout: rules.start_timeout.into(),
            queue_timeout: Some(rules.queue_timeout.into()),
            alert_after: rules.alert_after.into(),
            keep_for: rules.keep_for.into(),
            idle_not_before: *idle_not_before,
            max_duration_not_before: *max_duration_not_before,
            drain_ends_at: *drain_ends_at,
            displaced_at: *displaced_at,
        }
    }

    /// The rules that a session's status holds. The bound of wishes, which only matters where there are rules to
    /// apply it to, is the wish that was granted.
    ///
    /// # Errors
    /// When a duration in the status is none.
    pub fn from_wire(wire: &PolicyInForce) -> Result<Self, ParseError> {
        Ok(Self {
            rules: Rules {
                name: wire.name.clone(),
                idle_after: wire.idle_after.delta()?,
                warn_after: wire.warn_after.delta()?,
                disconnect_after: wire.disconnect_after.delta()?,
                user_max: wire.disconnect_after.delta()?,
                allow_keep_alive: wire.allow_keep_alive,
                activity_source: wire.activity_source.unwrap_or_default(),
                max_duration: wire.max_duration.delta()?,
                warn_before: wire.warn_before.delta()?,
                start_timeout: wire.start_timeout.delta()?,
                queue_timeout: wire.queue_timeout.as_ref().map_or(Ok(QUEUE_TIMEOUT), Duration::delta)?,
                alert_after: wire.alert_after.delta()?,
                keep_for: wire.keep_for.delta()?,
                limit: None,
            },
            idle_not_before: wire.idle_not_before,
            max_duration_not_before: wire.max_duration_not_before,
            drain_ends_at: wire.drain_ends_at,
            displaced_at: wire.displaced_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::policy::IdleRules;
    use chrono::DateTime;
    use proptest::prelude::*;

    fn seconds(amount: i64) -> TimeDelta {
        TimeDelta::seconds(amount)
    }

    fn policy(after: Option<i64>, warn: Option<i64>, disconnect: Option<i64>) -> SessionPolicySpec {
        let write = |value: Option<i64>| value.map(|value| Duration::from(seconds(value)));
        SessionPolicySpec {
            idle: Some(IdleRules {
                after: write(after),
                warn_after: write(warn),
                disconnect_after: write(disconnect),
                ..IdleRules::default()
            }),
            ..SessionPolicySpec::default()
        }
    }

    fn at(second: i64) -> Instant {
        DateTime::from_timestamp(second, 0).unwrap_or_default()
    }

    #[test]
    fn an_empty_policy_is_the_built_in_one() -> Result<(), ParseError> {
        let rules = Rules::of("p", &SessionPolicySpec::default())?;
        assert_eq!(Rules { name: None, ..rules }, Rules::built_in());
        Ok(())
    }

    #[test]
    fn a_wish_shortens_and_is_bounded() {
        let rules = Rules::built_in();
        assert_eq!(rules.clone().with_wish(Some(TimeDelta::minutes(20))).disconnect_after, TimeDelta::minutes(20));
        assert_eq!(rules.clone().with_wish(Some(TimeDelta::hours(9))).disconnect_after, TimeDelta::minutes(30));
        let short = rules.with_wish(Some(TimeDelta::minutes(3)));
        assert!(short.idle_after <= short.warn_after && short.warn_after < short.disconnect_after);
    }

    #[test]
    fn tightening_never_ends_a_session_without_its_notice() {
        let old = InForce::of(Rules::built_in());
        let tight = Rules {
            disconnect_after: seconds(30),
            warn_after: seconds(20),
            max_duration: seconds(60),
            warn_before: seconds(15),
            ..Rules::built_in()
        };
        // Usable for an hour, unused for 10 minutes: both new deadlines have long passed.
        let new = InForce::succeed(Some(&old), tight.clone(), Some(at(0)), Some(at(3000)), at(3600));
        assert_eq!(new.idle_not_before, Some(at(3610)));
        assert_eq!(new.max_duration_not_before, Some(at(3615)));
        // Looking again later moves nothing.
        let again = InForce::succeed(Some(&new), tight, Some(at(0)), Some(at(3000)), at(3605));
        assert_eq!(again, new);
    }

    #[test]
    fn tightening_does_not_lengthen_a_deadline_that_was_near() {
        let old = InForce::of(Rules::built_in());
        let tight = Rules { max_duration: TimeDelta::hours(1), ..Rules::built_in() };
        let near_end = at(8 * 3600 - 60);
        let new = InForce::succeed(Some(&old), tight, Some(at(0)), Some(near_end), near_end);
        assert_eq!(new.max_duration_not_before, Some(at(8 * 3600)));
    }

    #[test]
    fn the_shortest_policy_comes_back_from_the_status() {
        for disconnect in ["1s", "2s"] {
            let idle: IdleRules = serde_json::from_value(serde_json::json!({ "disconnectAfter": disconnect })).unwrap();
            let spec = SessionPolicySpec { idle: Some(idle), ..SessionPolicySpec::default() };
            let force = InForce::succeed(None, Rules::of("p", &spec).unwrap(), None, None, DateTime::UNIX_EPOCH);
            assert!(InForce::from_wire(&force.to_wire()).is_ok(), "{disconnect}");
        }
    }

    #[test]
    fn what_follows_from_the_longest_values_can_be_written_too() {
        for spec in [
            serde_json::json!({"idle": {"warnAfter": "8760h"}}),
            serde_json::json!({"idle": {"after": "8759h50m"}}),
            serde_json::json!({"warnBefore": "8760h"}),
        ] {
            let read: SessionPolicySpec = serde_json::from_value(spec.clone()).unwrap();
            let force = InForce::succeed(None, Rules::of("p", &read).unwrap(), None, None, DateTime::UNIX_EPOCH);
            assert_eq!(InForce::from_wire(&force.to_wire()).map(|back| back.to_wire()), Ok(force.to_wire()), "{spec}");
            let rules = force.rules;
            assert!(rules.idle_after <= rules.warn_after && rules.warn_after <= rules.disconnect_after, "{spec}");
            assert!(rules.warn_before <= rules.max_duration, "{spec}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_the_order_holds(after in proptest::option::of(1i64..10_000), warn in proptest::option::of(1i64..10_000), disconnect in proptest::option::of(2i64..10_000)) {
            prop_assume!(after.zip(warn).is_none_or(|(a, w)| a <= w));
            prop_assume!(warn.zip(disconnect).is_none_or(|(w, d)| w < d));
            prop_assume!(after.zip(disconnect).is_none_or(|(a, d)| a < d));
            let rules = Rules::of("p", &policy(after, warn, disconnect));
            prop_assert!(rules.is_ok());
            if let Ok(rules) = rules {
                prop_assert!(rules.idle_after <= rules.warn_after);
                prop_assert!(rules.warn_after < rules.disconnect_after);
                for (written, used) in [(after, rules.idle_after), (warn, rules.warn_after), (disconnect, rules.disconnect_after)] {
                    if let Some(written) = written {
                        prop_assert_eq!(seconds(written), used);
                    }
                }
                prop_assert!(rules.warn_before < rules.max_duration);
            }
        }

        #[test]
        fn rules_survive_the_way_through_a_status(disconnect in 10i64..100_000, wish in proptest::option::of(1i64..100_000)) {
            let rules = Rules::of("p", &policy(None, None, Some(disconnect)));
            prop_assert!(rules.is_ok());
            if let Ok(rules) = rules {
                let before = InForce { max_duration_not_before: Some(at(7)), ..InForce::of(rules.with_wish(wish.map(seconds))) };
                let wire = before.to_wire();
                let after = InForce::from_wire(&wire).map(|after| after.to_wire());
                prop_assert_eq!(after, Ok(wire));
            }
        }

        #[test]
        fn no_edit_brings_a_deadline_nearer_than_its_notice(old in 60i64..100_000, new in 60i64..100_000, used in 0i64..50_000) {
            let before = InForce::of(Rules { max_duration: seconds(old), ..Rules::built_in() });
            let rules = Rules { max_duration: seconds(new), warn_before: seconds(30), ..Rules::built_in() };
            let now = at(used);
            let after = InForce::succeed(Some(&before), rules, Some(at(0)), Some(now), now);
            let deadline = after.max_duration_not_before.map_or(at(new), |floor| floor.max(at(new)));
            prop_assert!(deadline >= (now + seconds(30)).min(at(old)));
        }
    }
}
