//! The only reader: what the planners are given. Where a cache is not evidence enough, it asks the API server,
//! before the world is put together; the putting together itself never waits. The worlds of pools are in `pool`.

pub mod pool;

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use crate::api::pod::Pod;
use chrono::TimeDelta;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::Cluster;
use super::cache::{Stage, Stores, user_key};
use super::error::{CallError, bounded, optional};
use crate::api::condition::{self, Type};
use crate::api::session::Phase;
use crate::api::time::from_wire;
use crate::api::workspace::ReclaimPolicy;
use crate::api::{SESSION_FINALIZER, Session, USER_ANNOTATION, WORKSPACE_ANNOTATION, WORKSPACE_UID_LABEL, Workspace};
use crate::plan::admission::{self, Rival, Rivals};
use crate::plan::child::Child;
use crate::plan::contract::Credential;
use crate::plan::instance::{self, Health};
use crate::plan::limit::{Limit, Own};
use crate::plan::network::{self, Fence, leftover::Need};
use crate::plan::pod::belongs;
use crate::plan::policy::PolicySource;
use crate::plan::pool::{is_of_a_pool, standing};
use crate::plan::session::World;
use crate::plan::workspace::{self, LastEnd};
use crate::plan::{contract, drain, name, orphan, phase, template};
use crate::planted::{self, Bug};

/// What the API server said where the caches were not evidence enough.
#[derive(Default)]
pub struct Evidence {
    instance_gone: bool,
    /// The session's pod, which the watch does not see because somebody took its labels.
    unlabelled: Option<Arc<Pod>>,
    volume_holder: Option<String>,
    workspace_unread: Option<String>,
}

/// For how long it is doubted that a session's predecessor has released its instance. What is left later goes with the Session.
const LATELY: TimeDelta = TimeDelta::hours(1);

/// Asks the API server what the caches cannot prove about `session`.
///
/// # Errors
/// When the API server does not answer: then nothing is concluded.
pub async fn evidence(cluster: &Cluster, session: &Session) -> Result<Evidence, CallError> {
    let mut evidence = Evidence::default();
    let ended = session.status.as_ref().is_some_and(|status| status.ended_at.is_some());
    if ended {
        // Until it was let go of, its pod may be left. Somebody may have let go of it, while no operator was there to see.
        let held = session.finalizers().iter().any(|finalizer| finalizer == SESSION_FINALIZER);
        let ended_at = session.status.as_ref().and_then(|status| status.ended_at);
        let lately = ended_at.is_some_and(|at| cluster.clock.now() - at < LATELY);
        let by_others = lately && !cluster.memory.has_released(&session.uid().unwrap_or_default());
        return if held || by_others { unlabelled(cluster, session, evidence).await } else { Ok(evidence) };
    }
    adoption(cluster, session).await?;
    evidence.workspace_unread = workspace_unread(cluster, session).await?;
    let Some(status) = &session.status else { return volume_evidence(cluster, session, evidence).await };
    match (&status.instance, status.phase) {
        (Some(instance), _) => {
            let uid = session.uid().unwrap_or_default();
            let seen = cluster.stores.pods.under(&uid).iter().any(|pod| pod.uid().as_ref() == Some(&instance.uid));
            if !seen && planted::is(Bug::CacheIsEvidence) {
                evidence.instance_gone = true;
            } else if !seen {
                let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &session.namespace().unwrap_or_default());
                let asked = match optional(api.get(&instance.pod)).await {
                    Err(_) if planted::is(Bug::ErrorIsEvidence) => None,
                    asked => asked?,
                };
                let pod = asked.filter(|pod| pod.uid().as_ref() == Some(&instance.uid));
                evidence.instance_gone = pod.is_none();
                evidence.unlabelled = pod.map(Arc::new);
            }
            Ok(evidence)
        }
        (None, None | Some(Phase::Pending)) => volume_evidence(cluster, session, evidence).await,
        (None, Some(_)) => unlabelled(cluster, session, evidence).await,
    }
}

/// What came of an adoption whose answer was lost: the pod that the session chose is read before another is chosen.
async fn adoption(cluster: &Cluster, session: &Session) -> Result<(), CallError> {
    let uid = session.uid().unwrap_or_default();
    let Some((name, pod_uid)) = cluster.memory.chosen(&uid) else { return Ok(()) };
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &session.namespace().unwrap_or_default());
    let stands = optional(api.get(&name)).await?.filter(|pod| pod.uid().as_ref() == Some(&pod_uid));
    match stands {
        Some(pod) => {
            match belongs(&pod, &uid) {
                true => cluster.memory.chosen_is_known(&uid),
                false => cluster.memory.may_come_late(&uid, &pod_uid),
            }
            cluster.stores.pods.own(pod);
        }
        None => cluster.memory.cannot_be_had(&uid, format!("pod {name} is gone"), cluster.clock.now()),
    }
    Ok(())
}

/// The session's pod where the watch shows none: it was not made yet, it has gone, or somebody took its labels. Its name
/// follows from the session.
async fn unlabelled(cluster: &Cluster, session: &Session, evidence: Evidence) -> Result<Evidence, CallError> {
    let (namespace, uid) = (session.namespace().unwrap_or_default(), session.uid().unwrap_or_default());
    let workspace = cluster.stores.workspaces.get(&namespace, session.spec.workspace_ref.name.as_str());
    let has_pods = workspace.is_none_or(|workspace| workspace.spec.endpoint.is_none());
    if !has_pods || !cluster.stores.pods.under(&uid).is_empty() {
        return Ok(evidence);
    }
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &namespace);
    let pod = optional(api.get(&name::pod(&session.name_any(), &uid))).await?;
    Ok(Evidence { unlabelled: pod.filter(|pod| belongs(pod, &uid)).map(Arc::new), ..evidence })
}

/// Why the Workspace that the session was launched from is not known although it stands: one that cannot be read
/// is not gone.
async fn workspace_unread(cluster: &Cluster, session: &Session) -> Result<Option<String>, CallError> {
    let namespace = session.namespace().unwrap_or_default();
    let name = session.spec.workspace_ref.name.as_str();
    if let Some(why) = cluster.stores.workspaces.why_unreadable(&namespace, name) {
        return Ok(Some(format!("it cannot be read: {why}")));
    }
    let known = session.status.as_ref().and_then(|status| Some(status.workspace.as_ref()?.uid.clone()));
    // A pod that was adopted says it where the status does not yet.
    let adopted = || {
        let pods = cluster.stores.pods.under(&session.uid().unwrap_or_default());
        pods.iter().find(|pod| is_of_a_pool(pod))?.labels().get(WORKSPACE_UID_LABEL).cloned()
    };
    let Some(known) = known.or_else(adopted).filter(|_| cluster.stores.workspaces.get(&namespace, name).is_none())
    else {
        return Ok(None);
    };
    let api: Api<Workspace> = Api::namespaced(cluster.client.clone(), &namespace);
    let stands = optional(api.get_metadata(name)).await?;
    let same = stands.filter(|it| it.uid().as_ref() == Some(&known) && it.metadata.deletion_timestamp.is_none());
    Ok(same.map(|_| "it has not been seen yet".to_owned()))
}

/// For a launch with retained volumes: whether a pod still uses them, going ones included. That none does is asked
/// of the API server, since a launch on a stale cache would give two pods one volume.
async fn volume_evidence(cluster: &Cluster, session: &Session, mut evidence: Evidence) -> Result<Evidence, CallError> {
    let namespace = session.namespace().unwrap_or_default();
    let Some(workspace) = cluster.stores.workspaces.get(&namespace, session.spec.workspace_ref.name.as_str()) else {
        return Ok(evidence);
    };
    if !workspace.spec.template.as_ref().is_some_and(template::retains) {
        return Ok(evidence);
    }
    let own = session.uid().unwrap_or_default();
    let user = session.spec.user.id.as_str();
    let uses = |pod: &Pod| pod.annotations().get(USER_ANNOTATION).is_some_and(|of| of == user) && !belongs(pod, &own);
    // One that is known to hold them is evidence enough to wait: its end will be seen.
    let sessions = cluster.stores.sessions_of(&namespace, &workspace.name_any());
    let mut pods = sessions.iter().flat_map(|other| cluster.stores.pods.under(&other.uid().unwrap_or_default()));
    evidence.volume_holder = match pods.find(|pod| uses(pod)) {
        Some(holder) => Some(holder.name_any()),
        None => {
            let of = format!("{WORKSPACE_UID_LABEL}={}", workspace.uid().unwrap_or_default());
            let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &namespace);
            let pods = bounded(api.list(&ListParams::default().labels(&of))).await?;
            pods.iter().find(|pod| uses(pod)).map(ResourceExt::name_any)
        }
    };
    Ok(evidence)
}

/// The world of a session.
pub fn session(cluster: &Cluster, session: Arc<Session>, evidence: &Evidence) -> World {
    let namespace = session.namespace().unwrap_or_default();
    let uid = session.uid().unwrap_or_default();
    let known = cluster.stores.workspaces.get(&namespace, session.spec.workspace_ref.name.as_str());
    // What was known of one that cannot be read any more may be untrue by now.
    let workspace = known.filter(|_| evidence.workspace_unread.is_none());
    let mut pods: Vec<Arc<Pod>> =
        cluster.stores.pods.under(&uid).into_iter().filter(|pod| belongs(pod, &uid)).collect();
    pods.extend(evidence.unlabelled.clone());
    // The instance that the status names comes first.
    let named =
        session.status.as_ref().and_then(|status| status.instance.as_ref()).map(|instance| instance.uid.clone());
    // Of others, which there are only where two operators each gave it one, the one that can be used.
    let lost = |pod: &Pod| matches!(instance::health(pod), Health::Lost(_));
    if pods.len() > 1 {
        pods.sort_by_key(|pod| (pod.uid() != named, lost(pod), pod.creation_timestamp().map(|at| at.0), pod.uid()));
    }
    // What an instance is made of and behind matters only until it is usable: neither is rendered for those who live.
    let awaits_instance = session.status.as_ref().is_none_or(|it| it.ready_at.is_none() && it.ended_at.is_none());
    let launched_from = workspace.as_deref().filter(|_| awaits_instance);
    World {
        policy: policy(&cluster.stores, workspace.as_deref()),
        // Who else wants a slot matters only to those who have none.
        rivals: match is_admitted(cluster, &session) {
            true => Rivals::default(),
            false => rivals(cluster, &session, workspace.as_deref()),
        },
        own: own(cluster, &session, workspace.as_deref()),
        pods,
        instance_gone: evidence.instance_gone,
        warm: launched_from.and_then(|workspace| pool::candidate(cluster, workspace, &uid)),
        volume_holder: evidence.volume_holder.clone(),
        workspace_unread: evidence.workspace_unread.clone(),
        attempt: cluster.memory.attempt(&uid),
        unguarded: cluster.guard.trouble(),
        hardening: Arc::clone(&cluster.hardening),
        pruned_by: cluster.pruner,
        observer: cluster.observers.of(&session),
        draining: node(&session).map(|node| cluster.drains.of(node)).unwrap_or_default(),
        secret: launched_from.and_then(|workspace| secret(cluster, workspace)),
        fence: launched_from.map(|workspace| fence(cluster, workspace)).unwrap_or_default(),
        workspace,
        session,
    }
}

/// The node of the instance, as the status says.
fn node(session: &Session) -> Option<&str> {
    session.status.as_ref()?.instance.as_ref()?.node.as_deref()
}

/// The Secret that instances of `workspace` need.
fn secret(cluster: &Cluster, workspace: &Workspace) -> Option<Result<Credential, String>> {
    let needed = contract::needs_secret(workspace);
    needed.then(|| cluster.keyring.keys().map(|keys| contract::secret(workspace, &keys)))
}

/// How the wall around the instances of `workspace` stands.
fn fence(cluster: &Cluster, workspace: &Workspace) -> Fence {
    let (namespace, uid) = (workspace.namespace().unwrap_or_default(), workspace.uid().unwrap_or_default());
    let seen = cluster.stores.network_policies.get(&namespace, &name::of_workspace(&workspace.name_any(), &uid));
    network::fence(
        workspace,
        &cluster.neighbourhood,
        seen.as_deref(),
        cluster.memory.failed_child(&uid, "NetworkPolicy", workspace.metadata.generation, cluster.clock.now()),
    )
}

/// How the budget stands that protects the instances of `workspace`.
fn budget(cluster: &Cluster, workspace: &Workspace) -> Child<PodDisruptionBudget> {
    let (namespace, uid) = (workspace.namespace().unwrap_or_default(), workspace.uid().unwrap_or_default());
    let seen = cluster.stores.budgets.get(&namespace, &name::of_workspace(&workspace.name_any(), &uid));
    drain::stand(
        workspace,
        seen.as_deref(),
        cluster.memory.failed_child(&uid, "PodDisruptionBudget", workspace.metadata.generation, cluster.clock.now()),
    )
}

/// The Secret of `workspace`, where this process has not made it: the key may be another than its predecessor's.
fn unmade_secret(cluster: &Cluster, workspace: &Workspace) -> Option<Credential> {
    let made = cluster.memory.secret_age(&workspace.uid().unwrap_or_default()).is_some();
    secret(cluster, workspace).filter(|_| !made)?.ok()
}

/// What still needs a NetworkPolicy. Where no cache has anything that does, the API server is asked.
///
/// # Errors
/// When the API server does not answer: then nothing is concluded.
pub async fn needed(cluster: &Cluster, policy: &NetworkPolicy) -> Result<Option<Need>, CallError> {
    let namespace = policy.namespace().unwrap_or_default();
    let Some((workspace, uid)) = network::workspace_of(policy) else { return Ok(Some(Need::Unknown)) };
    let is_it = |uid_of: Option<String>| uid_of.as_deref() == Some(uid);
    if cluster.stores.workspaces.get(&namespace, workspace).is_some_and(|workspace| is_it(workspace.uid())) {
        return Ok(Some(Need::Workspace));
    }
    let is_of_it = |session: &Arc<Session>| {
        let status = session.status.as_ref();
        let of_it = is_it(status.and_then(|status| Some(status.workspace.as_ref()?.uid.clone())));
        // The status that says so may be under way.
        is_live(session) && (of_it || cluster.memory.is_promised(&session.uid().unwrap_or_default()))
    };
    if cluster.stores.sessions_of(&namespace, workspace).iter().any(is_of_it) {
        return Ok(Some(Need::Session));
    }
    if stands::<Workspace>(cluster, &namespace, workspace, uid).await? {
        return Ok(Some(Need::Workspace));
    }
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &namespace);
    let pods =
        bounded(api.list(&ListParams::default().labels(&format!("{WORKSPACE_UID_LABEL}={uid}")).limit(1))).await?;
    Ok((!pods.items.is_empty()).then_some(Need::Pod))
}

/// Whether the Session stands that a pod was made for, or the Workspace, by the cache's word or the API server's.
///
/// # Errors
/// When the API server does not answer: then nothing is concluded.
pub async fn has_owner(cluster: &Cluster, pod: &Pod) -> Result<bool, CallError> {
    let namespace = pod.namespace().unwrap_or_default();
    let Some(owner) = orphan::owner_of(pod) else { return Ok(true) };
    if cluster.stores.knows(&namespace, owner) {
        return Ok(true);
    }
    match owner {
        orphan::Owner::Session(session, uid) => stands::<Session>(cluster, &namespace, session, uid).await,
        orphan::Owner::Workspace(workspace, uid) => stands::<Workspace>(cluster, &namespace, workspace, uid).await,
    }
}

/// Whether the object of this name has this uid, by the API server's word.
async fn stands<K>(cluster: &Cluster, namespace: &str, name: &str, uid: &str) -> Result<bool, CallError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(cluster.client.clone(), namespace);
    Ok(optional(api.get_metadata(name)).await?.is_some_and(|stands| stands.uid().as_deref() == Some(uid)))
}

/// The policy of a Workspace: the one that it names, else the one called `default`, else none.
pub fn policy(stores: &Stores, workspace: Option<&Workspace>) -> PolicySource {
    let Some(workspace) = workspace else { return PolicySource::Unknown };
    let namespace = workspace.namespace().unwrap_or_default();
    let policies = &stores.policies;
    let named = workspace.spec.policy_ref.as_ref().map(|reference| reference.name.to_string());
    let name = named.clone().unwrap_or_else(|| "default".to_owned());
    if let Some(why) = policies.why_unreadable(&namespace, &name) {
        return PolicySource::Unreadable(name, why);
    }
    match (policies.get(&namespace, &name), named) {
        (Some(policy), _) => PolicySource::Found(name, Box::new(policy.spec.clone())),
        (None, Some(name)) => PolicySource::Missing(name),
        (None, None) => PolicySource::BuiltIn,
    }
}

/// The other live sessions of the session's Workspace, those included that cannot be read and have a pod.
fn rivals(cluster: &Cluster, session: &Session, workspace: Option<&Workspace>) -> Rivals {
    let namespace = session.namespace().unwrap_or_default();
    let name = session.spec.workspace_ref.name.as_str();
    let is_other = |other: &Arc<Session>| other.uid() != session.uid();
    let Slots { holding, mut promised, mut waiting } = slots(cluster, &namespace, name);
    promised.retain(is_other);
    waiting.retain(is_other);
    // It is not among those who hold a slot, unless its cache is ahead of what was looked at.
    let own = cluster.stores.sessions.get(&namespace, &session.name_any());
    let own = own.filter(|own| !is_other(own) && Stage::of(own) == Stage::Holds).map_or(0, |_| 1);
    let keeps_volumes = workspace.and_then(|workspace| workspace.spec.template.as_ref()).is_some_and(template::retains);
    let holders = || {
        let said = cluster.stores.sessions_at(&namespace, name, Stage::Holds);
        let others: Vec<_> = said.iter().filter(|other| is_other(other)).chain(&promised).collect();
        others.into_iter().map(|other| other.spec.user.id.to_string()).collect()
    };
    Rivals {
        holding: holding.saturating_sub(own) + promised.len() + unknown_holders(cluster, &namespace, name).len(),
        holders: if keeps_volumes { holders() } else { HashSet::new() },
        waiting: waiting.iter().map(|other| rival(other)).collect(),
    }
}

/// Who has the slots of a Workspace.
struct Slots {
    /// How many hold one, as their statuses say.
    holding: usize,
    /// Those that were promised one by a decision whose status is under way.
    promised: Vec<Arc<Session>>,
    /// Those that wait.
    waiting: Vec<Arc<Session>>,
}

fn slots(cluster: &Cluster, namespace: &str, workspace: &str) -> Slots {
    let (holding, others) = cluster.stores.slots(namespace, workspace);
    let (promised, waiting) = others.into_iter().partition(|session| is_admitted(cluster, session));
    Slots { holding, promised, waiting }
}

fn rival(session: &Session) -> Rival {
    Rival {
        created: session.metadata.creation_timestamp.as_ref().map(from_wire).unwrap_or_default(),
        uid: session.uid().unwrap_or_default(),
        user: session.spec.user.id.to_string(),
        aside: session.status.as_ref().is_some_and(|status| admission::is_aside(&status.conditions)),
    }
}

/// The other live sessions of the session's user under its Workspace's policy, where that limits them.
fn own(cluster: &Cluster, session: &Session, workspace: Option<&Workspace>) -> Vec<Own> {
    let PolicySource::Found(name, spec) = policy(&cluster.stores, workspace) else { return Vec::new() };
    if Limit::of(spec.limits.as_ref()).is_none() {
        return Vec::new();
    }
    let namespace = session.namespace().unwrap_or_default();
    let of_user = cluster.stores.sessions.under(&user_key(&namespace, session.spec.user.id.as_str()));
    of_user
        .iter()
        .filter(|other| other.uid() != session.uid() && is_live(other))
        .filter(|other| is_under(cluster, other, &name))
        .map(|other| {
            let created = other.metadata.creation_timestamp.as_ref().map(from_wire).unwrap_or_default();
            Own::of(other, created, other.uid().unwrap_or_default(), is_admitted(cluster, other))
        })
        .collect()
}

/// Whether a session is under the policy of this name: by what it was launched under, or by its Workspace.
fn is_under(cluster: &Cluster, session: &Session, policy_name: &str) -> bool {
    let namespace = session.namespace().unwrap_or_default();
    let workspace = cluster.stores.workspaces.get(&namespace, session.spec.workspace_ref.name.as_str());
    let now = policy(&cluster.stores, workspace.as_deref());
    if let PolicySource::Found(name, _) = &now {
        return name == policy_name;
    }
    let held = session.status.as_ref().and_then(|status| status.policy.as_ref()?.name.as_deref());
    held == Some(policy_name)
}

/// The uids of Sessions that cannot be read, that nothing was known of before, and that have a pod of this Workspace.
fn unknown_holders(cluster: &Cluster, namespace: &str, workspace: &str) -> Vec<String> {
    let of_workspace =
        |pod: &Arc<Pod>| pod.annotations().get(WORKSPACE_ANNOTATION).is_some_and(|name| name == workspace);
    let unknown = cluster.stores.sessions.unknown_in(namespace).into_iter().map(|session| session.uid);
    unknown.filter(|uid| cluster.stores.pods.under(uid).iter().any(of_workspace)).collect()
}

fn is_live(session: &Session) -> bool {
    session.status.as_ref().is_none_or(|status| status.ended_at.is_none())
}

/// Whether a live session holds a slot, or was promised one by a decision whose status is under way.
fn is_admitted(cluster: &Cluster, session: &Session) -> bool {
    let says = session.status.as_ref().is_some_and(|status| condition::is_true(&status.conditions, Type::Admitted));
    // One that has a pod adopted it.
    let uid = session.uid().unwrap_or_default();
    says || cluster.memory.is_promised(&uid) || cluster.stores.pods.has_under(&uid)
}

/// The world of a Workspace.
pub fn workspace(cluster: &Cluster, workspace: Arc<Workspace>) -> workspace::World {
    let namespace = workspace.namespace().unwrap_or_default();
    let name = workspace.name_any();
    let Slots { holding, promised, waiting } = slots(cluster, &namespace, &name);
    // Who has ended matters only to a one-off.
    let ended = match workspace.spec.reclaim_policy {
        ReclaimPolicy::Delete => cluster.stores.sessions_at(&namespace, &name, Stage::Ended),
        ReclaimPolicy::Retain => Vec::new(),
    };
    let unknown = unknown_holders(cluster, &namespace, &name).len();
    let end = |session: &Arc<Session>| {
        let status = session.status.as_ref().filter(|status| status.ready_at.is_some())?;
        let phase = status.phase.filter(|phase| phase::is_ended(*phase))?;
        Some(LastEnd { at: status.ended_at?, phase, reason: status.reason? })
    };
    workspace::World {
        holding: holding + promised.len() + unknown,
        waiting: waiting.len(),
        last_end: ended.iter().filter_map(end).max_by_key(|end| end.at),
        policy: policy(&cluster.stores, Some(&workspace)),
        hardening: Arc::clone(&cluster.hardening),
        trial: cluster.memory.trial(&workspace.uid().unwrap_or_default(), workspace.metadata.generation),
        fence: fence(cluster, &workspace),
        budget: budget(cluster, &workspace),
        secret: unmade_secret(cluster, &workspace),
        hash: pool::template_hash(cluster, &workspace),
        pool: workspace
            .spec
            .warm
            .as_ref()
            .and_then(|_| Some(standing(&pool::world(cluster, Arc::clone(&workspace))?, cluster.clock.now()))),
        workspace,
    }
}
