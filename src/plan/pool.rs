//! The planner of pools: which pods of a Workspace wait for sessions, which of them one may have, what is made, and what goes.
//! Owns the places of a pool and the names that follow from them (ADR 0021); how many are wanted when is `schedule`'s, and the
//! adoption itself a step of the session.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::api::pod::Pod;
use chrono::TimeDelta;
use kube::ResourceExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::api::time::{Instant, from_wire};
use crate::api::workspace::Template;
use crate::api::{
    MANAGED_BY, MANAGED_BY_LABEL, REPLACES_ANNOTATION, SESSION_ANNOTATION, SESSION_UID_LABEL, TEMPLATE_LABEL,
    USER_ANNOTATION, WARM_SLOT_LABEL, WORKSPACE_ANNOTATION, WORKSPACE_UID_LABEL, Workspace,
};
use crate::hex::hex;
use crate::plan::admission::Blocker;
use crate::plan::child::Failure;
use crate::plan::contract::Credential;
use crate::plan::hardening::Hardening;
use crate::plan::instance::{self, Health};
use crate::plan::schedule::Wanted;
use crate::plan::{Note, Plan, Severity, contract, name, pod, shorten};

/// How many may come at once in a pool of which none has been ready yet, and how many one look takes away.
const BATCH: usize = 8;

/// What was observed of a pool.
#[derive(Clone, Debug)]
pub struct World {
    /// The Workspace.
    pub workspace: Arc<Workspace>,
    /// What its template makes today, as [`template_hash`] says.
    pub hash: String,
    /// How many are wanted.
    pub wanted: Wanted,
    /// All pods that were made for its pool and serve no session.
    pub pods: Vec<Arc<Pod>>,
    /// Those that were made for a place that none of these has, and serve a session.
    pub serving: Vec<Arc<Pod>>,
    /// The uids of pods that have a name which one of these was to get, and do not say that they are of the pool.
    pub names: HashMap<String, String>,
    /// How many sessions of the Workspace have an instance.
    pub holding: usize,
    /// The uids of those that a session has chosen.
    pub promised: HashSet<String>,
    /// The names of the nodes that are being drained.
    pub drained: BTreeSet<String>,
    /// What has to stand before an instance is made, and does not.
    pub blocker: Option<Blocker>,
    /// The Secret that its instances need, if they do.
    pub secret: Option<Credential>,
    /// What the installation says of every instance.
    pub hardening: Arc<Hardening>,
    /// How long the start of an instance may take.
    pub start_timeout: TimeDelta,
    /// What became of the last attempt to make a pod.
    pub failed: Option<Failure>,
    /// The places whose pod went bad lately, and from when another is worth an attempt there.
    pub broken: BTreeMap<u32, Failure>,
    /// The uids of those that the API server let nobody adopt, and from when that is worth another attempt.
    pub refused: HashMap<String, Failure>,
}

/// One thing to do about a pool.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make the Secret of the Workspace, and see to it that it says this.
    EnsureSecret(Credential),
    /// Make the pod unless it is there.
    Make(Box<Value>),
    /// Delete the pod, if it still has this uid and is as it was observed: nobody has it.
    Remove {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
        /// The version in which nobody had it.
        resource_version: Option<String>,
        /// Its place and why, where it went bad: then the next is worth an attempt there later.
        bad: Option<(u32, String)>,
    },
}

/// How a pool stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// How many are to be there.
    pub desired: usize,
    /// How many are there, in whatever state.
    pub replicas: usize,
    /// How many can be adopted.
    pub ready: usize,
    /// Why there are fewer, or what of its spec cannot be followed, as one word for programs and a sentence for people.
    pub lack: Option<(&'static str, String)>,
    /// The earliest instant at which time alone changes this.
    pub until: Option<Instant>,
}

/// What the template of `workspace` makes, as a label's value: two that are the same make the same pods.
pub fn template_hash(workspace: &Workspace, template: &Template, hardening: &Hardening) -> String {
    let made = pod::for_pool(workspace, template, hardening);
    // A claim that is kept is no part of the pod.
    let claims = json!(template.volume_claims);
    hex(&Sha256::digest(format!("{made}{claims}"))[..8])
}

/// The labels of the pods of a pool by which an autoscaler finds them.
pub fn selector(workspace: &Workspace) -> String {
    let uid = workspace.uid().unwrap_or_default();
    format!("{WORKSPACE_UID_LABEL}={uid},{WARM_SLOT_LABEL},!{SESSION_UID_LABEL}")
}

/// Whether a session may have `pod`, which is of the pool of the Workspace of this uid: it is ready, nobody's, and of what the
/// template makes today.
pub fn is_adoptable(pod: &Pod, workspace_uid: &str, hash: &str) -> bool {
    is_member(pod, workspace_uid)
        && pod.metadata.deletion_timestamp.is_none()
        && pod.labels().get(TEMPLATE_LABEL).is_some_and(|of| of == hash)
        && instance::health(pod) == Health::Usable
        && instance::disruption(pod).is_none()
}

/// Whether `pod` waits in a pool for a session, whatever its state, and is as the pool made it. One that says whose it was is
/// nobody else's, whoever took it from its session.
pub fn is_member(pod: &Pod, workspace_uid: &str) -> bool {
    let owners = pod.owner_references();
    slot(pod).is_some()
        && !pod.labels().contains_key(SESSION_UID_LABEL)
        && ![USER_ANNOTATION, SESSION_ANNOTATION].iter().any(|said| pod.annotations().contains_key(*said))
        && pod.labels().get(MANAGED_BY_LABEL).is_some_and(|by| by == MANAGED_BY)
        && is_of_a_pool(pod)
        && owners.len() == 1
        && owners.iter().all(|owner| owner.kind == "Workspace" && owner.uid == workspace_uid)
}

/// Whether `pod` was made for a pool, whoever has it by now: its name follows from what it says of itself.
pub fn is_of_a_pool(pod: &Pod) -> bool {
    let said = || {
        let workspace = pod.annotations().get(WORKSPACE_ANNOTATION)?;
        let uid = pod.labels().get(WORKSPACE_UID_LABEL)?;
        let replaces = pod.annotations().get(REPLACES_ANNOTATION).map_or("", String::as_str);
        Some(name::warm_pod(workspace, uid, slot(pod)?, replaces))
    };
    said().is_some_and(|name| pod.metadata.name.as_ref() == Some(&name))
}

/// The number of the pod's place.
pub fn slot(pod: &Pod) -> Option<u32> {
    pod.labels().get(WARM_SLOT_LABEL)?.parse().ok()
}

/// What a pod is to its pool.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Member {
    /// Nothing any more: it goes, or serves a session.
    Left,
    /// It is to go, for this reason where it went bad.
    Leaves(Option<String>),
    /// It is of an older template.
    Outdated,
    /// It finds no node, in the scheduler's words.
    Unschedulable(String),
    /// It comes, or is in trouble, in these words, until it is given up.
    Coming(Option<String>, Instant),
    /// It is ready, and its adoption was refused, in the API server's words.
    Refused(String),
    /// A session may have it.
    Ready,
}

fn member(world: &World, pod: &Pod, now: Instant) -> Member {
    let uid = world.workspace.uid().unwrap_or_default();
    // One that a session owns is that session's, whatever became of its labels.
    let serves = pod.labels().contains_key(SESSION_UID_LABEL) || pod::session_of(pod).is_some();
    if serves || pod.metadata.deletion_timestamp.is_some() {
        return Member::Left;
    }
    if !is_member(pod, &uid) {
        // Whoever does that to one, as a webhook, does it to the next as well: that one is made later.
        return Member::Leaves(Some("it does not stand as it was made: somebody changes it".to_owned()));
    }
    let health = instance::health(pod);
    if instance::node(pod).is_some_and(|node| world.drained.contains(node)) {
        // One that tolerates the mark of such a node is put there again.
        let why = || "it came up on a node that is being drained".to_owned();
        return Member::Leaves((health != Health::Usable).then(why));
    }
    if instance::disruption(pod).is_some() {
        return Member::Leaves(None);
    }
    if pod.labels().get(TEMPLATE_LABEL) != Some(&world.hash) {
        return Member::Outdated;
    }
    let trouble = match health {
        Health::Usable => {
            let refused = pod.metadata.uid.as_ref().and_then(|uid| world.refused.get(uid));
            return refused.filter(|(at, _)| *at > now).map_or(Member::Ready, |(_, why)| Member::Refused(why.clone()));
        }
        Health::Lost(why) => return Member::Leaves(Some(why)),
        Health::Troubled(trouble) if trouble.reason == "Unschedulable" => {
            return Member::Unschedulable(trouble.message);
        }
        Health::Coming => None,
        Health::Troubled(trouble) => Some(trouble.message),
    };
    let until = unready_since(pod).unwrap_or(now) + world.start_timeout;
    match until <= now {
        true => Member::Leaves(Some(trouble.unwrap_or_else(|| "it did not become ready".to_owned()))),
        false => Member::Coming(trouble, until),
    }
}

/// Since when the pod has not been ready, though it could be: since it last was, was given a node, or was made. How long it waited
/// for a node is no fault of its own.
fn unready_since(pod: &Pod) -> Option<Instant> {
    let last = ["PodScheduled", "Ready"].map(|type_| instance::condition(pod, type_)?.last_transition_time.as_ref());
    last.into_iter().flatten().chain(pod.metadata.creation_timestamp.as_ref()).map(from_wire).max()
}

/// A pool as it was counted.
struct Count<'a> {
    wanted: usize,
    /// Why none can be had, whatever is asked for.
    impossible: Option<String>,
    /// Those that leave, with why where they went bad.
    leaving: Vec<(&'a Arc<Pod>, Option<String>)>,
    /// Those of an older template, which leave as others can be made.
    outdated: Vec<&'a Arc<Pod>>,
    /// Those that stay, with what they are.
    staying: Vec<(&'a Arc<Pod>, Member)>,
}

impl<'a> Count<'a> {
    fn of(world: &'a World, now: Instant) -> Self {
        let spec = &world.workspace.spec;
        let impossible = impossible(world);
        let none = spec.maintenance || spec.warm.is_none() || impossible.is_some();
        // More than there are slots could never be had.
        let slots = usize::try_from(spec.max_sessions).unwrap_or(0);
        let wanted = if none { 0 } else { world.wanted.count.min(slots) };
        let (mut leaving, mut outdated, mut staying) = (Vec::new(), Vec::new(), Vec::new());
        for pod in &world.pods {
            match member(world, pod, now) {
                Member::Left => {}
                Member::Leaves(why) => leaving.push((pod, why)),
                Member::Outdated if wanted == 0 => leaving.push((pod, None)),
                Member::Outdated => outdated.push(pod),
                member => staying.push((pod, member)),
            }
        }
        let mut count = Self { wanted, impossible, leaving, outdated, staying };
        count.shrink();
        count
    }

    /// Has those leave that are more than wanted: the least useful first.
    fn shrink(&mut self) {
        let rank = |member: &Member| match member {
            Member::Ready => 0,
            Member::Coming(..) | Member::Refused(_) => 1,
            Member::Unschedulable(_) | Member::Left | Member::Leaves(_) | Member::Outdated => 2,
        };
        self.staying.sort_by_key(|(pod, member)| (rank(member), slot(pod), pod.uid()));
        let surplus = self.staying.split_off(self.staying.len().min(self.wanted));
        self.leaving.extend(surplus.into_iter().map(|(pod, _)| (pod, None)));
    }

    fn ready(&self) -> usize {
        self.staying.iter().filter(|(_, member)| *member == Member::Ready).count()
    }

    /// What the first of those that stay says of itself, where it is so.
    fn first<'b>(&'b self, says: impl Fn(&'b Member) -> Option<&'b String>) -> Option<&'b String> {
        self.staying.iter().find_map(|(_, member)| says(member))
    }

    fn unschedulable(&self) -> Option<&String> {
        self.first(|member| if let Member::Unschedulable(why) = member { Some(why) } else { None })
    }

    /// The places of those that stay.
    fn taken(&self) -> BTreeSet<u32> {
        self.staying.iter().filter_map(|(pod, _)| slot(pod)).collect()
    }

    /// The places to be filled now, where there is room for so many. Where what stood last went bad it stays empty for a while.
    fn vacant(&self, room: usize, world: &World, now: Instant) -> Vec<u32> {
        let taken = self.taken();
        let is_held = |slot: &u32| world.broken.get(slot).is_some_and(|(at, _)| *at > now) && !taken.contains(slot);
        let wanted = 0..u32::try_from(self.wanted).unwrap_or(u32::MAX);
        let held = wanted.filter(is_held).count();
        let lacking = self.wanted.saturating_sub(self.staying.len() + held).min(room);
        (0..).filter(|slot| !taken.contains(slot) && !is_held(slot)).take(lacking).collect()
    }

    /// How many may be made now: as many at once as have come to something before, or a few; none while the cluster has no room for
    /// those there are, or refuses them.
    fn room(&self, world: &World, now: Instant) -> usize {
        if is_held_up(world, now) || self.unschedulable().is_some() {
            return 0;
        }
        let ready = self.ready();
        BATCH.max(ready + world.holding).saturating_sub(self.staying.len() - ready)
    }

    /// How many of an older template leave now: as many as are made, or, where the cluster is full, to make room. Once there are
    /// enough of the new one, all of them.
    fn replaced(&self, made: usize, world: &World, now: Instant) -> usize {
        let makes_room = self.unschedulable().is_some() && !is_held_up(world, now);
        match makes_room || self.staying.len() >= self.wanted {
            true => BATCH,
            false => made.min(BATCH),
        }
    }
}

/// Whether nothing is to be made now: what stands in the way has to go first, or the last refusal is too near.
fn is_held_up(world: &World, now: Instant) -> bool {
    world.failed.as_ref().is_some_and(|(at, _)| *at > now) || world.blocker.is_some()
}

/// Why the Workspace can have no pool, whatever it asks for: then its launches are cold.
fn impossible(world: &World) -> Option<String> {
    let problems = contract::personal_problems(world.workspace.spec.template.as_ref()?);
    (!problems.is_empty()).then(|| format!("launches are cold: {}", problems.join("; ")))
}

/// How the pool in `world` stands at `now`.
pub fn standing(world: &World, now: Instant) -> Standing {
    standing_of(world, &Count::of(world, now), now)
}

/// How the pool in `world` stands at `now`, and what to do about it.
pub fn look(world: &World, now: Instant) -> (Standing, Plan<Step>) {
    let count = Count::of(world, now);
    (standing_of(world, &count, now), plan(world, &count, now))
}

/// What to do about the pool in `world` at `now`.
#[cfg(test)]
fn decide(world: &World, now: Instant) -> Plan<Step> {
    look(world, now).1
}

fn standing_of(world: &World, count: &Count<'_>, now: Instant) -> Standing {
    let (desired, ready) = (count.wanted, count.ready());
    let trouble =
        || count.first(|member| if let Member::Coming(trouble, _) = member { trouble.as_ref() } else { None });
    let refused = || count.first(|member| if let Member::Refused(why) = member { Some(why) } else { None });
    // The last that went bad, and whose place nobody has since.
    let broken = || {
        let taken = count.taken();
        world.broken.iter().filter(|(slot, _)| !taken.contains(slot)).map(|(_, failure)| failure).max()
    };
    let short = || {
        let of = format!("{ready} of {desired} are ready");
        if let Some(blocker) = &world.blocker {
            return (blocker.reason(), format!("{of}; waiting for {}", blocker.cause()));
        }
        if let Some(why) = count.unschedulable() {
            return ("Unschedulable", format!("{of}; no more are made: {why}"));
        }
        if let Some(why) = refused() {
            return ("NotAdoptable", format!("{of}; one could not be given to a session: {why}"));
        }
        match (world.failed.as_ref().or_else(broken), trouble()) {
            (Some((_, why)), _) => ("NotMade", format!("{of}; the last failed: {why}")),
            (None, Some(why)) => ("Troubled", format!("{of}: {why}")),
            (None, None) => ("Filling", of),
        }
    };
    let lack = count
        .impossible
        .clone()
        .map(|why| ("Impossible", why))
        .or_else(|| Some(("ScheduleInvalid", world.wanted.problem.clone()?)))
        .or_else(|| (ready < desired).then(short));
    let again = world.refused.values().map(|(at, _)| *at);
    let until = again.chain(world.wanted.until).filter(|at| *at > now).min();
    Standing { desired, replicas: count.staying.len() + count.outdated.len(), ready, lack, until }
}

fn plan(world: &World, count: &Count<'_>, now: Instant) -> Plan<Step> {
    let workspace = &world.workspace;
    // Its pods go with it, by their owner.
    if workspace.metadata.deletion_timestamp.is_some() {
        return Plan { steps: Vec::new(), notes: Vec::new(), wake: None };
    }
    let room = count.room(world, now);
    let free = |pod: &Arc<Pod>| !world.promised.contains(&pod.uid().unwrap_or_default());
    let vacant = count.vacant(room, world, now);
    let outdated = count.outdated.iter().take(count.replaced(vacant.len(), world, now)).map(|pod| (*pod, None));
    let leaving: Vec<_> =
        count.leaving.iter().take(BATCH).cloned().chain(outdated).filter(|(pod, _)| free(pod)).collect();
    let mut steps: Vec<Step> = leaving.iter().map(|(pod, bad)| remove(pod, bad.clone())).collect();
    let made = made(world, vacant);
    if !made.is_empty() || (is_doubted(count, now) && !is_held_up(world, now)) {
        steps.extend(world.secret.clone().map(Step::EnsureSecret));
    }
    steps.extend(made.into_iter().map(|pod| Step::Make(Box::new(pod))));
    let notes = leaving.iter().find_map(|(pod, bad)| {
        let message = format!("pod {} of the pool is replaced: {}", pod.name_any(), bad.as_ref()?);
        Some(Note {
            severity: Severity::Warning,
            reason: "WarmInstanceReplaced".to_owned(),
            message: shorten(&message),
        })
    });
    Plan { steps, notes: notes.into_iter().collect(), wake: wake(world, count, now) }
}

fn remove(pod: &Pod, bad: Option<String>) -> Step {
    Step::Remove {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        resource_version: pod.resource_version(),
        bad: bad.map(|why| (slot(pod).unwrap_or_default(), why)),
    }
}

/// Whether a pod has come for so long that the Secret which it may wait for is made again.
fn is_doubted(count: &Count<'_>, now: Instant) -> bool {
    let doubted = |pod: &Pod| unready_since(pod).is_some_and(|since| since + contract::SECRET_DOUBT <= now);
    count.staying.iter().any(|(pod, member)| matches!(member, Member::Coming(None, _)) && doubted(pod))
}

/// The earliest instant at which time alone changes the decision.
fn wake(world: &World, count: &Count<'_>, now: Instant) -> Option<Instant> {
    let given_up = count.staying.iter().filter_map(|(_, member)| match member {
        Member::Coming(_, until) => Some(*until),
        _ => None,
    });
    let coming = count.staying.iter().filter(|(_, member)| matches!(member, Member::Coming(None, _)));
    let doubt = coming
        .filter_map(|(pod, _)| Some(unready_since(pod)? + contract::SECRET_DOUBT))
        .filter(|_| world.secret.is_some());
    let lacks = count.staying.len() < count.wanted;
    let retry = world.failed.iter().map(|(at, _)| *at).filter(|_| lacks || is_doubted(count, now));
    let refill = world.broken.values().map(|(at, _)| *at).filter(|_| lacks);
    given_up.chain(doubt).chain(retry).chain(refill).chain(world.wanted.until).filter(|at| *at > now).min()
}

/// The pods to make now, in these places.
fn made(world: &World, places: Vec<u32>) -> Vec<Value> {
    let template = world.workspace.spec.template.as_ref().filter(|_| !places.is_empty());
    let Some(template) = template else { return Vec::new() };
    let blank = pod::for_pool(&world.workspace, template, &world.hardening);
    let before = heads(world.pods.iter().chain(&world.serving));
    let workspace = (world.workspace.name_any(), world.workspace.uid().unwrap_or_default());
    let pod = |slot: u32| {
        let name = |replaces: Option<&String>| {
            name::warm_pod(&workspace.0, &workspace.1, slot, replaces.map_or("", String::as_str))
        };
        let mut replaces = before.get(&slot).and_then(|pod| pod.metadata.uid.as_ref());
        // Each name is followed once at most.
        for _ in 0..world.names.len() {
            let Some(by) = world.names.get(&name(replaces)) else { break };
            replaces = Some(by);
        }
        let mut pod = blank.clone();
        let metadata = &mut pod["metadata"];
        metadata["name"] = json!(name(replaces));
        metadata["labels"][WARM_SLOT_LABEL] = json!(slot.to_string());
        metadata["labels"][TEMPLATE_LABEL] = json!(world.hash);
        if let Some(replaces) = replaces {
            metadata["annotations"][REPLACES_ANNOTATION] = json!(replaces);
        }
        pod
    };
    places.into_iter().map(pod).collect()
}

/// The pod that was last in each place: of those that are known, one whose place none of the others took.
fn heads<'a>(pods: impl Iterator<Item = &'a Arc<Pod>> + Clone) -> BTreeMap<u32, &'a Arc<Pod>> {
    let replaced: HashSet<&String> =
        pods.clone().filter_map(|pod| pod.annotations().get(REPLACES_ANNOTATION)).collect();
    let mut heads: BTreeMap<u32, &Arc<Pod>> = BTreeMap::new();
    let age = |pod: &Arc<Pod>| (pod.metadata.creation_timestamp.as_ref().map(from_wire), pod.uid());
    for pod in pods.filter(|pod| pod.uid().is_none_or(|uid| !replaced.contains(&uid))) {
        let Some(slot) = slot(pod) else { continue };
        let head = heads.entry(slot).or_insert(pod);
        if age(head) < age(pod) {
            *head = pod;
        }
    }
    heads
}

#[cfg(test)]
mod tests;
