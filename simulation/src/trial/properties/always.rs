//! Safety: what must hold at every moment of a history. Owns the walk through it, change by change, each with the request
//! that made it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use berth::api::{REPLACES_ANNOTATION, TEMPLATE_LABEL, WARM_SLOT_LABEL};
use serde_json::Value;

use super::super::faults::OPERATOR;
use super::{Broken, History, NETWORK_POLICIES, has_ended, is_admitted, is_behind, is_ready, pool_of, session_of};
use crate::Verb;
use crate::apiserver::log::{Entry, Log};
use crate::apiserver::meta::{is_going, text};
use crate::apiserver::store::Change;

/// How long a lease holds after its last renewal.
const LEASE: Duration = Duration::from_secs(15);

/// What an operator may write at all: the verb, the resource, the subresource.
const ALLOWED: [(Verb, &str, &str); 21] = [
    (Verb::Patch, "sessions.berth.dev", "status"),
    (Verb::Patch, "sessions.berth.dev", ""),
    (Verb::Delete, "sessions.berth.dev", ""),
    (Verb::Patch, "workspaces.berth.dev", "status"),
    (Verb::Delete, "workspaces.berth.dev", ""),
    (Verb::Create, "pods", ""),
    (Verb::Patch, "pods", ""),
    (Verb::Delete, "pods", ""),
    (Verb::Create, "persistentvolumeclaims", ""),
    (Verb::Create, NETWORK_POLICIES, ""),
    (Verb::Update, NETWORK_POLICIES, ""),
    (Verb::Delete, NETWORK_POLICIES, ""),
    (Verb::Create, "secrets", ""),
    (Verb::Update, "secrets", ""),
    (Verb::Create, "poddisruptionbudgets.policy", ""),
    (Verb::Update, "poddisruptionbudgets.policy", ""),
    (Verb::Delete, "poddisruptionbudgets.policy", ""),
    (Verb::Create, "events.events.k8s.io", ""),
    (Verb::Patch, "events.events.k8s.io", ""),
    (Verb::Create, "leases.coordination.k8s.io", ""),
    (Verb::Update, "leases.coordination.k8s.io", ""),
];

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
    /// What the NetworkPolicies select, by uid: of those that stand, and of those that others than an operator took away.
    walls: BTreeMap<String, Value>,
    /// What those selected that an operator took away, and when it asked for that.
    taken_down: Vec<(Value, Duration)>,
    /// The uids of all pods that ever stood.
    stood: BTreeSet<String>,
    /// The session of a pod, once known: labels and owners may be taken.
    owner: BTreeMap<String, String>,
    /// Which operator gave a pod to its session, and when it asked for that.
    given: BTreeMap<String, (String, Duration)>,
    /// When each operator asked for something first.
    begun: BTreeMap<String, Duration>,
    /// How many pods are to wait for a session of the Workspace of this uid, and how many before its last change.
    wanted: BTreeMap<String, [u64; 2]>,
    /// Sessions that have ended, with when and how.
    ended: BTreeMap<String, (String, String, String)>,
    /// Sessions whose slot was ever written, and by whom.
    admitted: BTreeMap<String, String>,
    /// How many sessions a Workspace of this name allows, and how many before its last change.
    slots: BTreeMap<String, [u64; 2]>,
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
    for entry in log.entries() {
        walk.begun.entry(entry.call.who.clone()).or_insert(entry.call.at);
    }
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
                let is_new = is_admitted(session) && !self.admitted.contains_key(&uid);
                self.sessions.insert(uid.clone(), Value::clone(session));
                if is_new {
                    let who = by.map(|entry| entry.call.who.clone()).unwrap_or_default();
                    self.admitted.insert(uid, who);
                    self.slots(session, by, broken);
                }
            }
            ("sessions.berth.dev", None) => {
                self.sessions.remove(&uid);
            }
            ("workspaces.berth.dev", Some(workspace)) => {
                let allowed = workspace["spec"]["maxSessions"].as_u64().unwrap_or(1);
                let [now, before] = self.slots.entry(change.key.name.clone()).or_default();
                if *now != allowed {
                    (*now, *before) = (allowed, *now);
                }
                // At some time, or where enough are launched: when that is, the calm is held to.
                let warm = &workspace["spec"]["warm"];
                let windows = warm["schedule"].as_array().into_iter().flatten().map(|window| &window["replicas"]);
                let numbers = windows.chain([&warm["replicas"], &warm["demand"]["max"]]);
                let replicas = numbers.filter_map(Value::as_u64).max().unwrap_or_default();
                let [now, before] = self.wanted.entry(uid).or_default();
                if *now != replicas {
                    (*now, *before) = (replicas, *now);
                }
            }
            ("pods", Some(pod)) => {
                self.pod(&uid, pod, by, broken);
                self.stood.insert(uid.clone());
                self.pods.insert(uid, Value::clone(pod));
            }
            ("pods", None) => {
                self.pods.remove(&uid);
            }
            (NETWORK_POLICIES, Some(policy)) => {
                self.walls.insert(uid, policy["spec"]["podSelector"]["matchLabels"].clone());
            }
            (NETWORK_POLICIES, None) => {
                if let Some(entry) = by
                    && let Some(wall) = self.walls.remove(&uid)
                {
                    if let Some((pod, _)) = self.pods.iter().find(|(_, pod)| is_behind(pod, &wall)) {
                        broken.note(format!("the wall of the pod {pod} was taken down: {entry}"));
                    }
                    self.taken_down.push((wall, entry.call.at));
                }
            }
            ("leases.coordination.k8s.io", Some(lease)) => self.lease(lease, by, broken),
            ("persistentvolumeclaims", None) if by.is_some() => {
                broken.note(format!("an operator deleted the claim {} at {}", change.key.name, change.revision));
            }
            _ => {}
        }
    }

    /// One process gives each slot once: it knows what it has promised. Of a predecessor's request that is still on its
    /// way nobody can know, nor at once of a Workspace that was made smaller.
    fn slots(&self, session: &Value, by: Option<&Entry>, broken: &mut Broken) {
        let Some(entry) = by else { return };
        let workspace = text(session, "/spec/workspaceRef/name");
        let holds = |(uid, it): &(&String, &Value)| {
            text(it, "/spec/workspaceRef/name") == workspace
                && !has_ended(it)
                && self.admitted.get(*uid).is_some_and(|who| *who == entry.call.who)
        };
        let holding = u64::try_from(self.sessions.iter().filter(holds).count()).unwrap_or_default();
        let most = self.slots.get(workspace).into_iter().flatten().copied().max().unwrap_or_default();
        if holding > most {
            broken.note(format!("{holding} sessions hold the {most} slots of {workspace}: {entry}"));
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

    /// An end is written once, and never taken back; that an instance was lost is said only of one that is.
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
            let instance = text(session, "/status/instance/uid");
            if now.2 == "InstanceLost" && self.pods.get(instance).is_some_and(is_live) {
                broken.note(format!("session {uid} ended as if its pod {instance} were lost, which stands"));
            }
            self.ended.insert(uid.to_owned(), now);
        }
    }

    /// A pod of a pool is adopted once, by one who saw it ready; and there are no more of a pool than are wanted, but for what two
    /// operators at once may make.
    fn pool(&self, uid: &str, pod: &Value, by: &Entry, broken: &mut Broken) {
        let before = self.pods.get(uid);
        if let (Some(session), Some(before)) = (session_of(pod), before) {
            if self.owner.get(uid).is_some_and(|owner| owner != session) {
                broken.note(format!("the pod {uid} was adopted twice: {by}"));
            }
            if pool_of(before).is_some() && (is_going(before) || !is_ready(before)) {
                broken.note(format!("the pod {uid} was adopted, and was not ready: {by}"));
            }
        }
        let Some(workspace) = pool_of(pod).filter(|_| before.is_none()) else { return };
        self.walled(uid, pod, by, broken);
        // So that a second attempt meets the name of the first (ADR 0021).
        let replaced = pod["metadata"]["annotations"][REPLACES_ANNOTATION].as_str();
        if let Some(nobody) = replaced.filter(|replaced| !self.stood.contains(*replaced)) {
            broken.note(format!("the name of the pod {uid} follows from {nobody}, which never stood: {by}"));
        }
        let made_of = |pod: &Value| pod["metadata"]["labels"][TEMPLATE_LABEL].clone();
        let same = |other: &&Value| {
            pool_of(other) == Some(workspace) && is_live(other) && !is_going(other) && made_of(other) == made_of(pod)
        };
        let waiting = self.pods.values().filter(same).count();
        let most = self.wanted.get(workspace).into_iter().flatten().copied().max().unwrap_or_default();
        // One more comes of a request that was on its way while the pod went from which its name followed (ADR 0021).
        if u64::try_from(waiting).unwrap_or_default() > most {
            broken.note(format!("{} pods wait in a pool of {most}: {by}", waiting + 1));
        }
    }

    fn pod(&mut self, uid: &str, pod: &Value, by: Option<&Entry>, broken: &mut Broken) {
        if let Some(entry) = by {
            self.pool(uid, pod, entry, broken);
        }
        let Some(session) = session_of(pod).map(str::to_owned).or_else(|| self.owner.get(uid).cloned()) else { return };
        self.owner.insert(uid.to_owned(), session.clone());
        let others = self.pods.iter().filter(|(other, _)| other.as_str() != uid);
        let mut others = others.filter(|(other, pod)| self.owner.get(*other) == Some(&session) && is_live(pod));
        if is_live(pod)
            && let Some((other, _)) = others.next()
            && !self.by_two(uid, other, by)
        {
            broken.note(format!("session {session} has two live pods: {uid} and {other}"));
        }
        if let Some(entry) = by {
            self.given.entry(uid.to_owned()).or_insert_with(|| (entry.call.who.clone(), entry.call.at));
        }
        // A pod is made only for a session whose slot was written before.
        let is_new = !self.pods.contains_key(uid);
        if is_new && by.is_some() && !self.admitted.contains_key(&session) {
            broken.note(format!("the pod {uid} was made before the slot of its session {session} was written"));
        }
        if is_new && let Some(entry) = by {
            self.walled(uid, pod, entry, broken);
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

    /// Whether two operators at once gave a session a pod each, one of them from a pool: one of the two goes (ADR 0021). Who began
    /// after the other had given its pod knew of it.
    fn by_two(&self, one: &str, other: &str, by: Option<&Entry>) -> bool {
        let now = by.map(|entry| (entry.call.who.clone(), entry.call.at));
        let Some((one_of, other_of)) = self.given.get(one).or(now.as_ref()).zip(self.given.get(other)) else {
            return false;
        };
        let (first, second) = if one_of.1 < other_of.1 { (one_of, other_of) } else { (other_of, one_of) };
        let at_once = first.0 != second.0 && self.begun.get(&second.0).is_some_and(|begun| *begun <= first.1);
        let is_warm =
            |uid: &str| self.pods.get(uid).is_some_and(|pod| pod["metadata"]["labels"][WARM_SLOT_LABEL].is_string());
        at_once && (is_warm(one) || is_warm(other))
    }

    /// A pod is asked for only behind a wall. What somebody else takes down in the same moment nobody can know, nor how long a
    /// request is on its way: a pod that comes late is let go of at once.
    fn walled(&self, uid: &str, pod: &Value, by: &Entry, broken: &mut Broken) {
        let stood = |(wall, until): &(Value, Duration)| by.call.at <= *until && is_behind(pod, wall);
        if !self.walls.values().any(|wall| is_behind(pod, wall)) && !self.taken_down.iter().any(stood) {
            broken.note(format!("the pod {uid} was made before the wall around it: {by}"));
        }
    }

    /// Whether the session's status names this pod.
    fn is_instance(&self, session: &str, pod: &str) -> bool {
        self.sessions.get(session).is_some_and(|session| text(session, "/status/instance/uid") == pod)
    }
}

/// Whether the pod runs, or may yet.
fn is_live(pod: &Value) -> bool {
    !is_going(pod) && !["Failed", "Succeeded"].contains(&text(pod, "/status/phase"))
}
