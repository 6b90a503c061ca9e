//! What the planner of pools is given, and which pod of one a session may have.

use std::collections::HashSet;
use std::sync::Arc;

use crate::api::pod::Pod;
use chrono::TimeDelta;
use kube::ResourceExt;

use super::{fence, is_admitted, policy, secret, slots};
use crate::api::time::{Instant, from_wire};
use crate::api::{Session, Workspace};
use crate::cluster::Cluster;
use crate::cluster::cache::{place_key, pool_key};
use crate::cluster::memory::pool::POOL;
use crate::plan::admission::Blocker;
use crate::plan::policy::{PolicySource, Rules};
use crate::plan::pool::{self, World};
use crate::plan::schedule::Wanted;
use crate::plan::session::Draining;
use crate::plan::{groundwork, instance, schedule};
use crate::planted::{self, Bug};

/// How often a session tries to adopt a pod before one is made for it.
const ADOPTIONS: u32 = 3;

/// A pod of the Workspace's pool that the session of this uid may have.
pub(super) fn candidate(cluster: &Cluster, workspace: &Workspace, session_uid: &str) -> Option<Arc<Pod>> {
    let uid = workspace.uid().unwrap_or_default();
    workspace.spec.warm.as_ref().filter(|_| cluster.memory.failed_adoptions(session_uid) < ADOPTIONS)?;
    let hash = template_hash(cluster, workspace)?;
    let drained = |pod: &Pod| {
        let node = instance::node(pod);
        node.is_some_and(|node| matches!(cluster.drains.of(node), Draining::Yes(_)))
    };
    let now = cluster.clock.now();
    let is_taken =
        |pod: &Pod| !planted::is(Bug::BlindAdoption) && cluster.memory.is_taken(&pod.uid().unwrap_or_default(), now);
    let is_adoptable = |pod: &Pod| pool::is_adoptable(pod, &uid, &hash) || planted::is(Bug::AdoptsAnything);
    let mut pods = cluster.stores.pods.under(&pool_key(&uid));
    // The same once more, where that may be on its way: the second of two such patches meets what the first has done. With another
    // pod the session would have two.
    if let Some(asked_for) = cluster.memory.asked_for(session_uid) {
        pods.sort_by_key(|pod| pod.metadata.uid.as_ref() != Some(&asked_for));
    }
    pods.into_iter().find(|pod| !is_taken(pod) && is_adoptable(pod) && !drained(pod))
}

/// What the template of `workspace` makes, as its pods say it; it is made once for each generation.
pub(super) fn template_hash(cluster: &Cluster, workspace: &Workspace) -> Option<String> {
    let template = workspace.spec.template.as_ref()?;
    let uid = workspace.uid().unwrap_or_default();
    let make = || pool::template_hash(workspace, template, &cluster.hardening);
    Some(cluster.memory.template_hash(&uid, workspace.metadata.generation, make))
}

/// The world of a Workspace's pool; nothing where it has none, and no pod that is left of one.
pub fn world(cluster: &Cluster, workspace: Arc<Workspace>) -> Option<World> {
    let (namespace, uid) = (workspace.namespace().unwrap_or_default(), workspace.uid().unwrap_or_default());
    let (generation, now) = (workspace.metadata.generation, cluster.clock.now());
    let pods = cluster.stores.pods.under(&pool_key(&uid));
    if workspace.spec.warm.is_none() && pods.is_empty() {
        return None;
    }
    let name = workspace.name_any();
    let wanted = wanted(cluster, &workspace);
    let fence = fence(cluster, &workspace);
    let secret = secret(cluster, &workspace);
    let blocker = match cluster.guard.trouble() {
        Some(why) => Some(Blocker::Unguarded(why)),
        None => groundwork::stands(&workspace, &cluster.hardening, &fence, secret.as_ref()).err(),
    };
    let start_timeout = match policy(&cluster.stores, Some(&workspace)) {
        PolicySource::Found(name, spec) => Rules::of(&name, &spec).ok(),
        _ => None,
    };
    let slots = slots(cluster, &namespace, &name);
    let uids = || pods.iter().filter_map(|pod| pod.uid());
    let refused = uids().filter_map(|uid| Some((uid.clone(), cluster.memory.refusal(&uid, now)?))).collect();
    Some(World {
        hash: template_hash(cluster, &workspace).unwrap_or_default(),
        promised: uids().filter(|uid| cluster.memory.is_chosen(uid)).collect(),
        serving: serving(cluster, &uid, &pods, wanted.count),
        names: cluster.memory.taken_names(&uid),
        holding: slots.holding + slots.promised.len(),
        pods,
        wanted,
        drained: cluster.drains.all(),
        blocker,
        secret: secret.and_then(Result::ok),
        hardening: Arc::clone(&cluster.hardening),
        start_timeout: start_timeout.unwrap_or_else(Rules::built_in).start_timeout,
        failed: cluster.memory.failed_child(&uid, POOL, generation, now),
        broken: cluster.memory.broken(&uid, generation, now),
        refused,
        workspace,
    })
}

/// How many instances the pool is to have, by what is written, by the hours, and by what was launched lately.
fn wanted(cluster: &Cluster, workspace: &Workspace) -> Wanted {
    let Some(warm) = &workspace.spec.warm else { return Wanted::default() };
    let (uid, now) = (workspace.uid().unwrap_or_default(), cluster.clock.now());
    let generation = workspace.metadata.generation;
    let hours = cluster.memory.hours(&uid, generation, now, || schedule::hours(warm, now));
    let Some(demand) = &warm.demand else { return schedule::wanted(warm, hours, &[], now) };
    let (launches, again) =
        cluster.memory.launches(&uid, generation, || launches(cluster, workspace, schedule::count(demand.max)));
    let mut wanted = schedule::wanted(warm, hours, &launches, now);
    let again = again.and_then(|wait| Some(now + TimeDelta::from_std(wait).ok()?));
    wanted.until = wanted.until.into_iter().chain(again).min();
    wanted
}

/// When the sessions of `workspace` were launched, the newest first, of which so many count.
fn launches(cluster: &Cluster, workspace: &Workspace, most: usize) -> Vec<Instant> {
    let launched = |session: &&Arc<Session>| {
        let ready = session.status.as_ref().is_some_and(|status| status.ready_at.is_some());
        ready || is_admitted(cluster, session)
    };
    let now = cluster.clock.now();
    // One that waited long came into use when it did; unless that was written by a clock that was ahead, or it would be lately for as long.
    let begun = |session: &Arc<Session>| {
        let ready = session.status.as_ref().and_then(|status| status.ready_at).filter(|at| *at <= now);
        ready.or_else(|| session.metadata.creation_timestamp.as_ref().map(from_wire))
    };
    let sessions = cluster.stores.sessions_of(&workspace.namespace().unwrap_or_default(), &workspace.name_any());
    let mut launches: Vec<Instant> = sessions.iter().filter(launched).filter_map(begun).collect();
    launches.sort_unstable_by(|one, other| other.cmp(one));
    launches.truncate(most);
    launches
}

/// The pods that serve a session and were made for a place that no waiting one has, as far as so many are wanted.
fn serving(cluster: &Cluster, workspace_uid: &str, waiting: &[Arc<Pod>], wanted: usize) -> Vec<Arc<Pod>> {
    if waiting.len() >= wanted {
        return Vec::new();
    }
    let taken: HashSet<u32> = waiting.iter().filter_map(|pod| pool::slot(pod)).collect();
    let vacant = (0..u32::try_from(wanted).unwrap_or(u32::MAX)).filter(|slot| !taken.contains(slot));
    vacant.flat_map(|slot| cluster.stores.pods.under(&place_key(workspace_uid, slot))).collect()
}
