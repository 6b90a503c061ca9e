//! Why a live session ends: the causes, in the order in which they are weighed. docs/states.md tells the same order
//! to people. What an end does is `end`.

use kube::ResourceExt;

use super::{Attempt, Draining, View, World, created, is_usable};
use crate::api::duration::write;
use crate::api::session::{DesiredState, EndAs, Phase};
use crate::api::time::{Instant, display};
use crate::api::{Reason, Session};
use crate::plan::instance::Health;
use crate::plan::phase::Event;

/// The first cause to end the session, in the order in which causes are weighed, with the words for people.
pub(super) fn ending(world: &World, view: &View, now: Instant) -> Option<(Event, String)> {
    let session = &world.session;
    if session.metadata.deletion_timestamp.is_some() {
        return Some((Event::SessionDeleted, "the Session was deleted".to_owned()));
    }
    if let Some(request) = &view.before.end_request {
        let actor = request.actor.as_ref().map(|actor| format!(" by {actor}")).unwrap_or_default();
        return Some((
            Event::EndRequested(request.as_, request.reason),
            format!("ended{actor}: {}", request.reason.as_str()),
        ));
    }
    match session.spec.desired_state {
        DesiredState::Connected => {}
        DesiredState::Disconnected => return Some((Event::DisconnectDesired, "ended by its user".to_owned())),
        DesiredState::Terminated => return Some((Event::TerminationDesired, "ended by an administrator".to_owned())),
    }
    match view.phase {
        Phase::Pending | Phase::Starting if view.workspace_gone.is_some() => {
            Some((Event::WorkspaceDeleted, "the Workspace was deleted before the session could be used".to_owned()))
        }
        Phase::Pending => ending_in_queue(view, session, now),
        Phase::Starting => lost(world, view).or_else(|| ending_in_start(world, view, now)),
        Phase::Active | Phase::Idle => due(world, view, now).or_else(|| lost(world, view)),
        Phase::Disconnected | Phase::Terminated | Phase::Failed => None,
    }
}

/// The queue's own end. A policy that cannot be found does not make a session wait for ever.
fn ending_in_queue(view: &View, session: &Session, now: Instant) -> Option<(Event, String)> {
    let created = created(session)?;
    let timeout = view.queue_timeout();
    let waited = write(timeout);
    (now >= created + timeout).then(|| {
        let cause = view.before.message.as_deref().unwrap_or("no slot was free");
        (Event::QueueTimeout, format!("waited {waited} in the queue: {cause}"))
    })
}

fn ending_in_start(world: &World, view: &View, now: Instant) -> Option<(Event, String)> {
    if let Attempt::Refused(why) = &world.attempt {
        return Some((Event::InstanceRefused, format!("the API server refuses the instance: {why}")));
    }
    // An operator that was away finds the instance usable: that is what the session was for, however late.
    if is_usable(world, view) {
        return None;
    }
    let limit = view.force.as_ref()?.rules.start_timeout;
    let admitted = view.admitted_at()?;
    (now >= admitted + limit).then(|| {
        let cause = view.before.message.as_deref().unwrap_or("the instance did not become usable");
        (Event::StartTimeout, format!("not usable within {}: {cause}", write(limit)))
    })
}

/// The nearest deadline, if it has come.
fn due(world: &World, view: &View, now: Instant) -> Option<(Event, String)> {
    let deadline = view.outlook.due(now)?;
    let rules = &view.force.as_ref()?.rules;
    Some(match deadline.reason {
        Reason::IdleTimeout => {
            let last = view.seen.last.map(display).unwrap_or_default();
            (Event::IdleTimeout, format!("no activity for {} (last at {last})", write(rules.disconnect_after)))
        }
        Reason::WorkspaceDeleted => (Event::WorkspaceDeleted, "the Workspace was deleted".to_owned()),
        Reason::AdministratorEnded => (Event::NodeDrained, drained(world, view)),
        Reason::LimitExceeded => (
            Event::EndRequested(EndAs::Terminated, Reason::LimitExceeded),
            "another session of its user took its place: their policy lets them have no more".to_owned(),
        ),
        _ => (Event::MaxDuration, format!("reached the maximum duration of {}", write(rules.max_duration))),
    })
}

fn drained(world: &World, view: &View) -> String {
    let node = view.before.instance.as_ref().and_then(|instance| instance.node.as_deref()).unwrap_or("its node");
    let why = match &world.draining {
        Draining::Yes(why) => why,
        Draining::No | Draining::Unknown => "so it was announced",
    };
    format!("node {node} is being drained: {why}")
}

/// The loss of the instance: its pod says so, or the API server said that it is gone.
fn lost(world: &World, view: &View) -> Option<(Event, String)> {
    match &view.instance {
        Some((_, Health::Lost(why))) => Some((Event::InstanceLost, why.clone())),
        Some((pod, _)) => {
            let replaced = view.before.instance.as_ref().is_some_and(|known| Some(&known.uid) != pod.uid().as_ref());
            replaced.then(|| (Event::InstanceLost, "the pod was replaced by another".to_owned()))
        }
        None if world.instance_gone => Some((Event::InstanceLost, "the pod is gone".to_owned())),
        None => None,
    }
}
