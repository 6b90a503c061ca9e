//! Liveness: what must hold in the calm, once the faults have ended and everybody had time; and what must be left when
//! all is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use berth::api::{SESSION_FINALIZER, WORKSPACE_UID_LABEL};
use chrono::{DateTime, TimeDelta, Timelike, Utc};
use serde_json::{Value, json};

use super::super::faults::OPERATOR;
use super::{Broken, History, NETWORK_POLICIES, has_ended, is_behind, is_ready, pool_of, session_of, time};
use crate::apiserver::log::Entry;
use crate::apiserver::meta::{is_going, text};
use crate::apiserver::store::{Change, Key};

/// What must hold in the calm: everything is as it should be for what people want.
pub fn settled(history: &History, broken: &mut Broken) {
    let now = history.now;
    let sessions = history.objects("sessions.berth.dev");
    let pods = history.objects("pods");
    let mut known = BTreeSet::new();
    for session in &sessions {
        let name = text(session, "/metadata/name");
        let phase = text(session, "/status/phase");
        known.insert(text(session, "/metadata/uid").to_owned());
        let observed = session.pointer("/status/observedGeneration");
        if observed != session.pointer("/metadata/generation") && !has_ended(session) {
            broken.note(format!("{name}: its last change was not observed: {observed:?}"));
        }
        let ends =
            text(session, "/spec/desiredState") != "Connected" || session.pointer("/status/endRequest").is_some();
        if (ends || is_going(session)) && !has_ended(session) {
            broken.note(format!("{name} was to end and is {phase}"));
        }
        if is_going(session) {
            broken.note(format!("{name} is deleted and does not go: {}", session["metadata"]["finalizers"]));
        }
        let mine = |pod: &&Arc<Value>| session_of(pod) == Some(text(session, "/metadata/uid"));
        let live: Vec<_> = pods.iter().filter(mine).filter(|pod| !is_going(pod)).collect();
        if live.len() > 1 {
            broken.note(format!("{name} has {} pods", live.len()));
        }
        if has_ended(session) && !live.is_empty() {
            broken.note(format!("{name} has ended and still has a pod"));
        }
        if ["Active", "Idle"].contains(&phase) {
            let named = text(session, "/status/instance/uid");
            if !live.iter().any(|pod| text(pod, "/metadata/uid") == named) {
                broken.note(format!("{name} is {phase} and its pod is gone"));
            }
            let held = session["metadata"]["finalizers"].as_array().into_iter().flatten();
            if !held.into_iter().any(|finalizer| finalizer == SESSION_FINALIZER) {
                broken.note(format!("{name} is {phase} and nothing holds it"));
            }
        }
        let due = time(session, "/status/disconnectAt").filter(|due| now - *due > TimeDelta::seconds(5));
        if let Some(due) = due.filter(|_| !has_ended(session)) {
            broken.note(format!("{name} was to end at {due}, and it is {now}"));
        }
        if phase.is_empty() {
            broken.note(format!("{name} was never looked at"));
        }
    }
    for pod in pods.iter().filter(|pod| session_of(pod).is_some_and(|uid| !known.contains(uid)) && !is_going(pod)) {
        broken.note(format!("the pod {} is of no session", text(pod, "/metadata/name")));
    }
    slots(history, &sessions, broken);
    walls(history, broken);
    pools(history, broken);
}

/// How long a pool may take to follow its hours.
const TO_FOLLOW: u32 = 2;

/// How many are to wait by the clock, where that is long enough ago: in the first five minutes of each ten. Nobody was launched lately.
fn by_the_clock(workspace: &Value, now: DateTime<Utc>) -> Option<u64> {
    let windows = workspace["spec"]["warm"]["schedule"].as_array().into_iter().flatten();
    let most = windows.filter_map(|window| window["replicas"].as_u64()).max();
    match now.minute() % 10 {
        _ if most.is_none() => Some(0),
        minute if minute % 5 < TO_FOLLOW => None,
        minute => Some(if minute < 5 { most.unwrap_or_default() } else { 0 }),
    }
}

/// As many pods wait as are wanted, and all of them are ready.
fn pools(history: &History, broken: &mut Broken) {
    let pods = history.objects("pods");
    for workspace in history.objects("workspaces.berth.dev").iter().filter(|it| !is_going(it)) {
        let (name, uid) = (text(workspace, "/metadata/name"), text(workspace, "/metadata/uid"));
        let number = |path: &str| workspace.pointer(path).and_then(Value::as_u64).unwrap_or_default();
        let open = workspace["spec"]["maintenance"] != true;
        let Some(by_the_clock) = by_the_clock(workspace, history.now) else { continue };
        let most = number("/spec/warm/replicas").max(by_the_clock).min(number("/spec/maxSessions"));
        let wanted = if open { most } else { 0 };
        let waiting = pods.iter().filter(|pod| pool_of(pod) == Some(uid) && !is_going(pod));
        let (ready, not): (Vec<_>, Vec<_>) = waiting.partition(|pod| is_ready(pod));
        if u64::try_from(ready.len()).unwrap_or_default() != wanted || !not.is_empty() {
            broken.note(format!(
                "{} ready and {} other pods wait in the pool of {name}, of {wanted}",
                ready.len(),
                not.len()
            ));
        }
        if workspace["spec"]["warm"].is_object() && number("/status/warm/ready") != wanted {
            broken.note(format!("workspace {name} says that {} are ready", number("/status/warm/ready")));
        }
    }
}

/// Every Workspace that makes pods has its wall, and there is no wall around nothing.
fn walls(history: &History, broken: &mut Broken) {
    let (walls, pods) = (history.objects(NETWORK_POLICIES), history.objects("pods"));
    let workspaces = history.objects("workspaces.berth.dev");
    let of =
        |uid: &str| walls.iter().find(|wall| wall["spec"]["podSelector"]["matchLabels"][WORKSPACE_UID_LABEL] == uid);
    for workspace in workspaces.iter().filter(|it| it["spec"]["template"].is_object() && !is_going(it)) {
        let name = text(workspace, "/metadata/name");
        match of(text(workspace, "/metadata/uid")) {
            None => broken.note(format!("there is no wall around the instances of {name}")),
            Some(wall) if wall["spec"]["policyTypes"] != json!(["Ingress", "Egress"]) => {
                broken.note(format!("the wall around the instances of {name} has a hole: {}", wall["spec"]));
            }
            Some(_) => {}
        }
    }
    // One whose marks somebody took, and whose Workspace is gone, could be anybody's.
    for wall in walls.iter().filter(|wall| !text(wall, "/metadata/labels/berth.dev~1workspace-uid").is_empty()) {
        let selected = &wall["spec"]["podSelector"]["matchLabels"];
        let stands = workspaces.iter().any(|it| it["metadata"]["uid"] == selected[WORKSPACE_UID_LABEL]);
        if !stands && !pods.iter().any(|pod| is_behind(pod, selected)) {
            broken.note(format!("the wall {} is left", text(wall, "/metadata/name")));
        }
    }
}

/// No slot stays empty while somebody waits for one.
fn slots(history: &History, sessions: &[Arc<Value>], broken: &mut Broken) {
    for workspace in history.objects("workspaces.berth.dev") {
        let name = text(&workspace, "/metadata/name");
        let here = |session: &&Arc<Value>| text(session, "/spec/workspaceRef/name") == name && !has_ended(session);
        let (waiting, holding): (Vec<_>, Vec<_>) =
            sessions.iter().filter(here).partition(|session| text(session, "/status/phase") == "Pending");
        let most = workspace["spec"]["maxSessions"].as_u64().unwrap_or(1);
        let free = u64::try_from(holding.len()).unwrap_or_default() < most;
        let open = workspace["spec"]["maintenance"] != true && !is_going(&workspace);
        // One that waits for its own volumes, or for a new attempt, says so.
        let for_slot = |session: &&&Arc<Value>| {
            let conditions = session["status"]["conditions"].as_array().into_iter().flatten();
            conditions.into_iter().any(|condition| condition["type"] == "Admitted" && condition["reason"] == "NoSlot")
        };
        if let Some(waits) = waiting.iter().find(for_slot).filter(|_| free && open) {
            broken.note(format!("{} waits for a slot of {name}, which has one", text(waits, "/metadata/name")));
        }
        if workspace.pointer("/status/observedGeneration") != workspace.pointer("/metadata/generation") {
            broken.note(format!("workspace {name}: its last change was not observed"));
        }
        let count = workspace.pointer("/status/activeSessions").and_then(Value::as_u64).unwrap_or_default();
        if count != u64::try_from(holding.len()).unwrap_or_default() {
            broken.note(format!("workspace {name} counts {count} sessions, and {} hold a slot", holding.len()));
        }
    }
}

/// What must be left when all Sessions were deleted: nothing but what is kept.
pub fn gone(history: &History, broken: &mut Broken) {
    walls(history, broken);
    pools(history, broken);
    for resource in ["sessions.berth.dev", "pods"] {
        for object in history.objects(resource).iter().filter(|object| pool_of(object).is_none()) {
            let meta = &object["metadata"];
            broken.note(format!("{resource} {} is left: {}", meta["name"], meta["finalizers"]));
        }
    }
    let claims = |change: &&Change| change.key.resource == "persistentvolumeclaims";
    let mut last: BTreeMap<&Key, &Change> = BTreeMap::new();
    for change in history.changes.iter().filter(claims) {
        last.insert(&change.key, change);
    }
    for claim in last.into_values().filter(|change| change.after.is_none()) {
        broken.note(format!("the retained claim {} is gone", claim.key.name));
    }
}

/// Writes by operators in a time in which nothing happens, but for leases.
pub fn writes_since(history: &History, number: u64) -> Vec<String> {
    let ours = |entry: &&Entry| {
        entry.call.number > number
            && entry.call.who.starts_with(OPERATOR)
            && entry.call.is_write
            && entry.call.kind.resource() != "leases.coordination.k8s.io"
    };
    history.log.entries().iter().filter(ours).map(ToString::to_string).collect()
}
