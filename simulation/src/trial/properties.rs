//! What must hold under faults. Owns the properties over the whole history (safety), and those of the calm after the
//! faults (liveness): design.md section 6 and the field's list for controllers. Where a history comes from, a trial or a
//! real API server, is not known here: both are held to the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use berth::api::{SESSION_FINALIZER, SESSION_UID_LABEL};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::faults::OPERATOR;
use crate::apiserver::log::{Entry, Log};
use crate::apiserver::store::{Change, Key};
use crate::{ApiServer, Verb};

/// How long a lease holds after its last renewal.
const LEASE: Duration = Duration::from_secs(15);

/// What an operator may write at all: the verb, the resource, the subresource.
const ALLOWED: [(Verb, &str, &str); 13] = [
    (Verb::Patch, "sessions.berth.dev", "status"),
    (Verb::Patch, "sessions.berth.dev", ""),
    (Verb::Delete, "sessions.berth.dev", ""),
    (Verb::Patch, "workspaces.berth.dev", "status"),
    (Verb::Delete, "workspaces.berth.dev", ""),
    (Verb::Create, "pods", ""),
    (Verb::Patch, "pods", ""),
    (Verb::Delete, "pods", ""),
    (Verb::Create, "persistentvolumeclaims", ""),
    (Verb::Create, "events.events.k8s.io", ""),
    (Verb::Patch, "events.events.k8s.io", ""),
    (Verb::Create, "leases.coordination.k8s.io", ""),
    (Verb::Update, "leases.coordination.k8s.io", ""),
];

/// What happened: every version of every object, and what was asked and answered.
pub struct History {
    /// Changes, the oldest first.
    pub changes: Vec<Change>,
    /// Requests, in the order in which they came.
    pub log: Log,
    /// When this is looked at.
    pub now: DateTime<Utc>,
}

impl History {
    /// What a simulated API server has seen so far.
    pub fn of(server: &ApiServer) -> Self {
        Self { changes: server.history(), log: server.log(), now: server.clock().now() }
    }

    /// All objects of a resource, as they stand.
    pub fn objects(&self, resource: &str) -> Vec<Arc<Value>> {
        let mut stands: BTreeMap<&Key, Option<&Arc<Value>>> = BTreeMap::new();
        for change in self.changes.iter().filter(|change| change.key.resource == resource) {
            stands.insert(&change.key, change.after.as_ref());
        }
        stands.into_values().flatten().cloned().collect()
    }
}

/// What was seen that must never be.
#[derive(Default)]
pub struct Broken(Vec<String>);

impl Broken {
    /// Notes what was seen.
    pub fn note(&mut self, what: impl Into<String>) {
        self.0.push(what.into());
    }

    /// All of it.
    pub fn into_sentences(self) -> Vec<String> {
        self.0
    }
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn time(object: &Value, path: &str) -> Option<DateTime<Utc>> {
    object.pointer(path)?.as_str()?.parse().ok()
}

fn has_ended(session: &Value) -> bool {
    !text(session, "/status/endedAt").is_empty()
}

/// The uid of the session that a pod is of: by its owner, or by its label.
fn session_of(pod: &Value) -> Option<&str> {
    let owners = pod["metadata"]["ownerReferences"].as_array();
    let owner = owners.into_iter().flatten().find(|owner| owner["kind"] == "Session");
    owner.and_then(|owner| owner["uid"].as_str()).or_else(|| pod["metadata"]["labels"][SESSION_UID_LABEL].as_str())
}

fn is_admitted(session: &Value) -> bool {
    let conditions = session["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|it| it["type"] == "Admitted" && it["status"] == "True")
}

fn is_going(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// A lease as it was last written.
struct Held {
    by: String,
    /// When the request for it came.
    at: Duration,
    /// Since when nobody else may write.
    begun: Duration,
}

/// The history, walked once.
#[derive(Default)]
struct Walk {
    /// Sessions that stand, by uid.
    sessions: BTreeMap<String, Value>,
    /// Pods that stand, by uid.
    pods: BTreeMap<String, Value>,
    /// The session of a pod, once known: labels and owners may be taken.
    owner: BTreeMap<String, String>,
    /// Sessions that have ended, with when and how.
    ended: BTreeMap<String, (String, String, String)>,
    /// Sessions whose slot was ever written.
    admitted: BTreeSet<String>,
    /// Who holds the lease.
    lease: Option<Held>,
}

/// The properties over the whole history.
pub fn safety(history: &History, broken: &mut Broken) {
    let log = &history.log;
    let ours = |entry: &&Entry| entry.call.who.starts_with(OPERATOR) && entry.call.is_write && !entry.call.is_dry;
    let writes: BTreeMap<u64, &Entry> =
        log.entries().iter().filter(ours).filter(|entry| entry.changed).map(|entry| (entry.revision, entry)).collect();
    let mut walk = Walk::default();
    for change in &history.changes {
        walk.step(change, writes.get(&change.revision).copied(), broken);
    }
    in_haste(log, broken);
    for entry in log.entries().iter().filter(ours) {
        let call = &entry.call;
        let resource = call.kind.resource();
        let lease = (call.verb, resource.as_str()) == (Verb::Get, "leases.coordination.k8s.io");
        if !lease && !ALLOWED.contains(&(call.verb, resource.as_str(), call.subresource.as_str())) {
            broken.note(format!("an operator may not do this: {entry}"));
        }
        if call.body.get("spec").is_some() && call.verb == Verb::Patch {
            broken.note(format!("an operator writes a spec: {entry}"));
        }
        if call.verb == Verb::Delete && call.body.pointer("/preconditions/uid").is_none() {
            broken.note(format!("a delete without a uid: {entry}"));
        }
        if call.body.pointer("/metadata/generateName").is_some() && resource == "pods" {
            broken.note(format!("a pod whose name does not follow from its session: {entry}"));
        }
    }
}

/// Whoever fails waits longer each time: so many requests about one object within a second are a loop that does not.
const HASTE: usize = 60;

fn in_haste(log: &Log, broken: &mut Broken) {
    let mut asked: BTreeMap<(&str, &str, &str, u64), usize> = BTreeMap::new();
    for entry in log.entries().iter().filter(|entry| entry.call.who.starts_with(OPERATOR)) {
        let call = &entry.call;
        let key = (call.who.as_str(), call.kind.plural.as_str(), call.name.as_str(), call.at.as_secs());
        let count = asked.entry(key).or_default();
        *count += 1;
        if *count == HASTE && !call.name.is_empty() {
            broken.note(format!("{HASTE} requests about one object within a second: {entry}"));
        }
    }
}

impl Walk {
    fn step(&mut self, change: &Change, by: Option<&Entry>, broken: &mut Broken) {
        let stands = change.after.as_deref().or(change.before.as_deref());
        let Some(uid) = stands.map(|object| text(object, "/metadata/uid").to_owned()) else { return };
        self.leads(by, broken);
        match (change.key.resource.as_str(), &change.after) {
            ("sessions.berth.dev", Some(session)) => {
                self.session(&uid, session, broken);
                if is_admitted(session) {
                    self.admitted.insert(uid.clone());
                }
                self.sessions.insert(uid, Value::clone(session));
            }
            ("sessions.berth.dev", None) => {
                self.sessions.remove(&uid);
            }
            ("pods", Some(pod)) => {
                self.pod(&uid, pod, by, broken);
                self.pods.insert(uid, Value::clone(pod));
            }
            ("pods", None) => {
                self.pods.remove(&uid);
            }
            ("leases.coordination.k8s.io", Some(lease)) => self.lease(lease, by, broken),
            ("persistentvolumeclaims", None) if by.is_some() => {
                broken.note(format!("an operator deleted the claim {} at {}", change.key.name, change.revision));
            }
            _ => {}
        }
    }

    /// A lease is taken from somebody only after it stood for its whole duration.
    fn lease(&mut self, lease: &Value, by: Option<&Entry>, broken: &mut Broken) {
        let holder = text(lease, "/spec/holderIdentity").to_owned();
        let Some(entry) = by else { return };
        if let Some(held) = &self.lease
            && !held.by.is_empty()
            && held.by != holder
            && !holder.is_empty()
            && entry.call.verb != Verb::Create
            && entry.call.at < held.at + LEASE
        {
            broken.note(format!("the lease was taken from {}, who had renewed it at {:?}: {entry}", held.by, held.at));
        }
        // Where somebody deleted it, a newcomer cannot know that another still believes in it, for as long as it lasted.
        let grace = if entry.call.verb == Verb::Create { LEASE } else { Duration::ZERO };
        let begun = match &self.lease {
            Some(held) if held.by == holder => held.begun,
            _ => entry.call.at + grace,
        };
        self.lease = Some(Held { by: holder, at: entry.call.at, begun });
    }

    /// Nobody writes once another has taken the lease. Events are told by whoever saw something.
    fn leads(&self, by: Option<&Entry>, broken: &mut Broken) {
        let Some((entry, held)) = by.zip(self.lease.as_ref()) else { return };
        let call = &entry.call;
        let (place, count) = call.who.split_once('#').unwrap_or((&call.who, ""));
        let is_holder = held.by == place || held.by == format!("{place}-{count}");
        let watched = !["events", "leases"].contains(&call.kind.plural.as_str());
        if watched && !is_holder && !held.by.is_empty() && call.at > held.begun {
            broken.note(format!("{} leads since {:?}, and another writes: {entry}", held.by, held.begun));
        }
    }

    /// An end is written once, and never taken back.
    fn session(&mut self, uid: &str, session: &Value, broken: &mut Broken) {
        let end = |part: &str| text(session, &format!("/status/{part}")).to_owned();
        let now = (end("endedAt"), end("phase"), end("reason"));
        if let Some(before) = self.ended.get(uid) {
            if *before != now {
                broken.note(format!("session {uid} ended as {before:?} and lives on as {now:?}"));
            }
        } else if has_ended(session) {
            if now.2.is_empty() {
                broken.note(format!("session {uid} ended without a reason"));
            }
            self.ended.insert(uid.to_owned(), now);
        }
    }

    fn pod(&mut self, uid: &str, pod: &Value, by: Option<&Entry>, broken: &mut Broken) {
        let Some(session) = session_of(pod).map(str::to_owned).or_else(|| self.owner.get(uid).cloned()) else { return };
        self.owner.insert(uid.to_owned(), session.clone());
        let others = self.pods.iter().filter(|(other, _)| other.as_str() != uid);
        let live = |pod: &Value| !is_going(pod) && !["Failed", "Succeeded"].contains(&text(pod, "/status/phase"));
        let mut others = others.filter(|(other, pod)| self.owner.get(*other) == Some(&session) && live(pod));
        if live(pod)
            && let Some((other, _)) = others.next()
        {
            broken.note(format!("session {session} has two live pods: {uid} and {other}"));
        }
        // A pod is made only for a session whose slot was written before.
        let is_new = !self.pods.contains_key(uid);
        if is_new && by.is_some() && !self.admitted.contains(&session) {
            broken.note(format!("the pod {uid} was made before the slot of its session {session} was written"));
        }
        // A pod is deleted by an operator only when its session has ended or has gone.
        let was_going = self.pods.get(uid).is_some_and(is_going);
        let deletes = by.is_some_and(|entry| entry.call.verb == Verb::Delete);
        if deletes && is_going(pod) && !was_going {
            let lives = self.sessions.get(&session).is_some_and(|session| !has_ended(session));
            if lives && self.is_instance(&session, uid) {
                broken.note(format!("the pod {uid} was deleted under its live session {session}"));
            }
        }
    }

    /// Whether the session's status names this pod.
    fn is_instance(&self, session: &str, pod: &str) -> bool {
        self.sessions.get(session).is_some_and(|session| text(session, "/status/instance/uid") == pod)
    }
}

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
    for resource in ["sessions.berth.dev", "pods"] {
        for object in history.objects(resource) {
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
