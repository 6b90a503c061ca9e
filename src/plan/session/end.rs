//! The end of a session: the status that says so, the release of what was provisioned, and the history that
//! stays. The status comes first: an operator that dies in between finds an ended session with a pod, and
//! releases it.

use kube::ResourceExt;

use super::steps::{mark, publish, release, restamp};
use super::{Pruner, Step, View, World, status};
use crate::api::condition::{Claim, Status, Type, merge};
use crate::api::duration;
use crate::api::session::Phase;
use crate::api::time::{Instant, floor_second};
use crate::api::{Reason, Session, SessionStatus, TRACKING_KEYS};
use crate::plan::policy::{InForce, PolicySource, Rules};
use crate::plan::{Note, Plan, Severity, shorten};

const HOLD: Step = Step::Mark { finalizer: true };
const LET_GO: Step = Step::Mark { finalizer: false };

/// Ends the session at `now`, in `phase` and for `reason`.
pub(super) fn now(
    world: &World,
    view: &View,
    phase: Phase,
    reason: Reason,
    message: String,
    now: Instant,
) -> Plan<Step> {
    let message = shorten(&message);
    let status = status(world, view, phase, reason, &message, now);
    let severity = if phase == Phase::Failed { Severity::Warning } else { Severity::Normal };
    let keep_for = keep_for(&world.policy, &status);
    // A pod without its marks gets them back first, and its session what holds it: by these it is found if this is cut
    // short after the end was written.
    let release = release(world);
    let held_again = mark(&world.session, true).filter(|step| !release.is_empty() && *step == HOLD);
    let let_go = match held_again {
        Some(_) => Some(LET_GO),
        None => mark(&world.session, false),
    };
    let mut steps: Vec<Step> = held_again.into_iter().chain(restamp(world)).collect();
    steps.extend(publish(view, status));
    steps.extend(release);
    steps.extend(let_go);
    Plan {
        steps,
        notes: vec![Note {
            severity,
            reason: reason.as_str().to_owned(),
            message: format!("{}: {message}", phase.as_str()),
        }],
        wake: Some(now + keep_for),
    }
}

/// What remains to be done about a session that has ended: release what is still there, then keep
/// the history as long as the policy says.
pub(super) fn after(world: &World, now: Instant) -> Plan<Step> {
    let mut steps = release(world);
    steps.extend(mark(&world.session, false));
    let prune_at = match world.pruned_by {
        Pruner::Operator => prune_at(&world.session, &world.policy),
        Pruner::Gateway => None,
    };
    if prune_at.is_some_and(|at| at <= now) {
        steps.push(Step::DeleteSession);
    }
    Plan { steps, notes: Vec::new(), wake: prune_at.filter(|at| *at > now) }
}

/// When a session that has ended is to be pruned: once its history was kept as long as the rules say. Nothing while it is
/// live, for one that goes already, and for one that a tool would create again.
pub fn prune_at(session: &Session, policy: &PolicySource) -> Option<Instant> {
    let status = session.status.as_ref()?;
    let kept = session.metadata.deletion_timestamp.is_some() || is_tracked(session);
    Some(status.ended_at? + keep_for(policy, status)).filter(|_| !kept)
}

/// Whether a tool would create the object again if it were pruned.
fn is_tracked(session: &Session) -> bool {
    let (labels, annotations) = (session.labels(), session.annotations());
    TRACKING_KEYS.iter().any(|key| labels.contains_key(*key) || annotations.contains_key(*key))
}

/// How long the ended session stays: by the rules it ended under, else by what holds now.
fn keep_for(policy: &PolicySource, status: &SessionStatus) -> chrono::TimeDelta {
    let held = status.policy.as_ref().and_then(|wire| InForce::from_wire(wire).ok()).map(|held| held.rules);
    let current = || match policy {
        PolicySource::Found(name, spec) => Rules::of(name, spec).ok(),
        _ => None,
    };
    held.or_else(current).unwrap_or_else(Rules::built_in).keep_for
}

fn status(world: &World, view: &View, phase: Phase, reason: Reason, message: &str, now: Instant) -> SessionStatus {
    let ended_at = floor_second(now);
    let started_at = view.before.started_at.or_else(|| super::created(&world.session));
    let lasted = started_at.map(|started| duration::write(ended_at - started));
    let mut claims = vec![Claim::holds(Type::Ended, reason.as_str(), message)];
    if phase == Phase::Failed {
        claims.push(Claim::new(Type::Ready, Status::False, reason.as_str(), message));
        claims.push(Claim::holds(Type::Stalled, reason.as_str(), message));
    }
    let generation = world.session.metadata.generation;
    SessionStatus {
        phase: Some(phase),
        reason: Some(reason),
        message: Some(message.to_owned()),
        started_at,
        idle_since: None,
        disconnect_at: None,
        disconnect_reason: None,
        ended_at: Some(ended_at),
        duration: lasted,
        workspace: view.before.workspace.clone().or_else(|| world.workspace.as_deref().map(status::summary)),
        url: None,
        conditions: merge(&view.before.conditions, claims, generation, ended_at),
        observed_generation: generation,
        ..view.before.clone()
    }
}
