//! One watch per kind for the whole process. An event first enters its cache, then names the objects that must
//! be looked at again. Owns that mapping; not what is done when they are looked at.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use crate::api::pod::Pod;
use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use futures::{StreamExt, pin_mut};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::controller::ReconcileRequest;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::Cluster;
use super::cache::{Cache, Scope, Stage, Taken, key, pool_key, user_key};
use super::health::WatchHealth;
use super::slim::Slim;
use super::unreadable::{self, Unreadable};
use crate::api::session::Phase;
use crate::api::{
    MANAGED_BY, MANAGED_BY_LABEL, SESSION_ANNOTATION, SESSION_UID_LABEL, Session, SessionPolicy, SessionStatus,
    WARM_SLOT_LABEL, WORKSPACE_ANNOTATION, WORKSPACE_UID_LABEL, Workspace,
};
use crate::plan::child::Child;
use crate::plan::{admission, drain, name, orphan};

/// The kinds that are watched.
const KINDS: [&str; 6] = ["Session", "Workspace", "SessionPolicy", "Pod", "NetworkPolicy", "PodDisruptionBudget"];

/// Where the names of objects go that must be looked at again. Closed on a replica that only stands by.
#[derive(Clone, Default)]
pub struct Queues(Arc<OnceLock<Senders>>);

struct Senders {
    sessions: UnboundedSender<ReconcileRequest<Session>>,
    workspaces: UnboundedSender<ReconcileRequest<Workspace>>,
    pools: UnboundedSender<ReconcileRequest<Workspace>>,
    network_policies: UnboundedSender<ReconcileRequest<NetworkPolicy>>,
    orphans: UnboundedSender<ReconcileRequest<Pod>>,
}

/// The far ends of the queues.
pub struct Requests {
    /// Sessions to look at.
    pub sessions: UnboundedReceiver<ReconcileRequest<Session>>,
    /// Workspaces to look at.
    pub workspaces: UnboundedReceiver<ReconcileRequest<Workspace>>,
    /// Workspaces whose pools to look at.
    pub pools: UnboundedReceiver<ReconcileRequest<Workspace>>,
    /// NetworkPolicies to look at.
    pub network_policies: UnboundedReceiver<ReconcileRequest<NetworkPolicy>>,
    /// Pods to look at that nobody owns.
    pub orphans: UnboundedReceiver<ReconcileRequest<Pod>>,
}

impl Queues {
    /// Opens the queues: before anything is watched, so that nothing is missed.
    pub fn open(&self) -> Requests {
        let (sessions, session_requests) = mpsc::unbounded();
        let (workspaces, workspace_requests) = mpsc::unbounded();
        let (pools, pool_requests) = mpsc::unbounded();
        let (network_policies, network_policy_requests) = mpsc::unbounded();
        let (orphans, orphan_requests) = mpsc::unbounded();
        // They are opened once in the life of a process.
        let _ = self.0.set(Senders { sessions, workspaces, pools, network_policies, orphans });
        Requests {
            sessions: session_requests,
            workspaces: workspace_requests,
            pools: pool_requests,
            network_policies: network_policy_requests,
            orphans: orphan_requests,
        }
    }

    fn session(&self, session: &Session) {
        self.session_named(&session.namespace().unwrap_or_default(), &session.name_any());
    }

    /// The session of this name is to be looked at again.
    pub fn session_named(&self, namespace: &str, name: &str) {
        self.ask(|senders| &senders.sessions, namespace, name);
    }

    fn workspace_named(&self, namespace: &str, name: &str) {
        self.ask(|senders| &senders.workspaces, namespace, name);
    }

    /// The Workspace is to be looked at again, and its pool.
    pub fn workspace_changed(&self, workspace: &Workspace) {
        let (namespace, name) = (workspace.namespace().unwrap_or_default(), workspace.name_any());
        self.workspace_named(&namespace, &name);
        self.pool_named(&namespace, &name);
    }

    fn pool_named(&self, namespace: &str, workspace: &str) {
        self.ask(|senders| &senders.pools, namespace, workspace);
    }

    /// The pool that `pod` was made for is to be looked at again.
    pub fn pool_of(&self, pod: &Pod) {
        let owner =
            || pod.owner_references().iter().find(|owner| owner.kind == Workspace::kind(&())).map(|it| &it.name);
        if let Some(workspace) = pod.annotations().get(WORKSPACE_ANNOTATION).or_else(owner) {
            self.pool_named(&pod.namespace().unwrap_or_default(), workspace);
        }
    }

    fn network_policy_named(&self, namespace: &str, name: &str) {
        self.ask(|senders| &senders.network_policies, namespace, name);
    }

    fn orphan_named(&self, namespace: &str, name: &str) {
        self.ask(|senders| &senders.orphans, namespace, name);
    }

    fn ask<K>(&self, queue: fn(&Senders) -> &UnboundedSender<ReconcileRequest<K>>, namespace: &str, name: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        if let Some(senders) = self.0.get() {
            // A far end that is gone means that the process is stopping.
            let _ = queue(senders).unbounded_send(ObjectRef::new(name).within(namespace).into());
        }
    }
}

/// Watches all kinds until the process ends: in these namespaces, or without any in the whole cluster.
pub async fn run(cluster: Cluster, namespaces: Vec<String>) {
    let (handed_in, unreadable) = unreadable::channel();
    let telling = unreadable::run(cluster.clone(), handed_in.clone(), unreadable);
    let mut scopes: Vec<Scope> = namespaces.into_iter().map(Some).collect();
    if scopes.is_empty() {
        scopes.push(None);
    }
    let watches = scopes.into_iter().map(|scope| everything_in(&cluster, scope, handed_in.clone()));
    futures::join!(futures::future::join_all(watches), telling);
}

/// The operator's watches of one scope, one for each kind.
async fn everything_in(cluster: &Cluster, scope: Scope, handed_in: unreadable::Sender) {
    let stores = &cluster.stores;
    let all = watcher::Config::default;
    for kind in KINDS {
        cluster.health.unlisted(kind, &scope);
    }
    let managed = all().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
    let watches =
        Watches { client: cluster.client.clone(), health: cluster.health.clone(), scope, handed_in: Some(handed_in) };
    futures::join!(
        watches.watch("Session", all(), &stores.sessions, |change| session_changed(cluster, change)),
        watches.watch("Workspace", all(), &stores.workspaces, |change| workspace_changed(cluster, change)),
        watches.watch("SessionPolicy", all(), &stores.policies, |change| policy_changed(cluster, change)),
        watches.watch("Pod", managed.clone(), &stores.pods, |change| pod_changed(cluster, change)),
        watches.watch("NetworkPolicy", managed.clone(), &stores.network_policies, |change| {
            network_policy_changed(cluster, change);
        }),
        watches.watch("PodDisruptionBudget", managed, &stores.budgets, |change| budget_changed(cluster, change)),
    );
}

/// What the watches of one scope share.
pub struct Watches {
    /// The connection.
    pub client: Client,
    /// Where is told how they do.
    pub health: WatchHealth,
    /// What they cover.
    pub scope: Scope,
    /// Where objects go that cannot be read, if anybody does something about them.
    pub handed_in: Option<unreadable::Sender>,
}

impl Watches {
    /// Watches one kind until the process ends. Each event enters `cache` first; then `changed` is told of it.
    pub async fn watch<K>(
        &self,
        kind: &'static str,
        config: watcher::Config,
        cache: &Cache<K>,
        mut changed: impl FnMut(Change<'_, K>),
    ) where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Slim
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let Self { client, health, scope, handed_in } = self;
        let api: Api<DeserializeGuard<K>> = match scope {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let events = watcher(api, config).default_backoff();
        pin_mut!(events);
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    let why = words(&error);
                    tracing::warn!(kind, namespace = scope, error = why, "watch interrupted");
                    match is_unknown_kind(&error) {
                        true => health.unknown(kind, scope, why),
                        false => health.interrupted(kind, scope, why),
                    }
                    continue;
                }
            };
            match read(event) {
                Ok(event) => {
                    let readable_again = cache.take(scope, &event);
                    if matches!(event, Event::Apply(_) | Event::Delete(_) | Event::InitDone) {
                        health.well(kind, scope);
                    }
                    match &event {
                        Event::Apply(object) => {
                            if readable_again {
                                changed(Change::Readability(object.meta()));
                            }
                            changed(Change::Is(object));
                        }
                        Event::Delete(object) => changed(Change::Gone(object)),
                        Event::InitDone => changed(Change::All(scope)),
                        Event::Init | Event::InitApply(_) => {}
                    }
                }
                Err(Refused { object, gone: false }) => {
                    let Taken { is_news, replaced } = cache.take_unreadable(scope, &object);
                    if let Some(gone) = replaced {
                        changed(Change::Gone(&gone));
                    }
                    if is_news {
                        let (meta, error) = (&object.metadata, &object.error);
                        tracing::error!(kind, object = meta.name, namespace = meta.namespace, error, "cannot be read");
                    }
                    changed(Change::Readability(&object.metadata));
                    let reference = unreadable::reference::<K>(&object);
                    if let Some(handed_in) = handed_in {
                        let _ = handed_in.unbounded_send(Unreadable { reference, object: *object, is_news });
                    }
                }
                Err(Refused { object, gone: true }) => match cache.forget(&object.metadata) {
                    Some(known) => changed(Change::Gone(&known)),
                    None => changed(Change::Readability(&object.metadata)),
                },
            }
        }
    }
}

/// Whether the API server does not know the kind: its CRD is missing.
fn is_unknown_kind(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchStartFailed};
    matches!(error, InitialListFailed(kube::Error::Api(status)) | WatchStartFailed(kube::Error::Api(status)) if status.code == 404)
}

/// What went wrong, for people: the API server's own words where it gave any.
fn words(error: &watcher::Error) -> String {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status)) | WatchStartFailed(kube::Error::Api(status)) => {
            status.message.clone()
        }
        WatchFailed(kube::Error::Api(status)) | WatchError(status) => status.message.clone(),
        error => error.to_string(),
    }
}

/// What a watch brought, after its cache has taken it in.
pub enum Change<'a, K> {
    /// The object is there, as it is here.
    Is(&'a K),
    /// The object is gone.
    Gone(&'a K),
    /// The object cannot be read, or can be again, or has gone without ever having been.
    Readability(&'a ObjectMeta),
    /// Everything there was listed anew.
    All(&'a Scope),
}

/// An event about an object that cannot be read.
struct Refused {
    object: Box<InvalidObject>,
    gone: bool,
}

/// The event with an object that can be read, without what no decision needs.
fn read<K>(event: Event<DeserializeGuard<K>>) -> Result<Event<K>, Refused>
where
    K: Resource<DynamicType = ()> + Slim,
{
    let gone = matches!(event, Event::Delete(_));
    let (guard, wrap): (_, fn(K) -> Event<K>) = match event {
        Event::Apply(guard) => (guard, Event::Apply),
        Event::InitApply(guard) => (guard, Event::InitApply),
        Event::Delete(guard) => (guard, Event::Delete),
        Event::Init => return Ok(Event::Init),
        Event::InitDone => return Ok(Event::InitDone),
    };
    let mut object = guard.0.map_err(|object| Refused { object: Box::new(object), gone })?;
    object.slim();
    Ok(wrap(object))
}

fn session_changed(cluster: &Cluster, change: Change<'_, Session>) {
    let (session, made_way) = match change {
        Change::Is(session) => {
            cluster.queues.session(session);
            let makes_way =
                |status: &SessionStatus| status.ended_at.is_some() || admission::is_aside(&status.conditions);
            (session, session.status.as_ref().is_some_and(makes_way))
        }
        Change::Gone(session) => {
            let uid = session.uid().unwrap_or_default();
            cluster.memory.forget_session(&uid);
            cluster.stores.pods.under(&uid).iter().for_each(|pod| orphaned(cluster, pod));
            (session, true)
        }
        Change::Readability(session) => return holder_changed(cluster, session),
        Change::All(scope) => return everything(cluster, scope),
    };
    let (namespace, workspace) = (session.namespace().unwrap_or_default(), session.spec.workspace_ref.name.as_str());
    cluster.queues.workspace_named(&namespace, workspace);
    let demand = |workspace: Arc<Workspace>| workspace.spec.warm.as_ref().is_some_and(|warm| warm.demand.is_some());
    // Asked for, or in use.
    let counts = session.status.as_ref().is_none_or(|status| status.phase == Some(Phase::Active));
    if counts && cluster.stores.workspaces.get(&namespace, workspace).is_some_and(demand) {
        cluster.queues.pool_named(&namespace, workspace);
    }
    // Where users are limited, one that waits or ends concerns the others of its user.
    if (made_way || waits(session.status.as_ref().and_then(|status| status.phase)))
        && cluster.stores.policies.has_under(&namespace)
    {
        for other in cluster.stores.sessions.under(&user_key(&namespace, session.spec.user.id.as_str())) {
            let live = other.status.as_ref().is_none_or(|status| status.ended_at.is_none());
            if live && other.uid() != session.uid() {
                cluster.queues.session(&other);
            }
        }
    }
    if made_way {
        live_sessions_of(cluster, &namespace, workspace, Concerned::Waiting);
        // It may have been counted there without its Session being known.
        cluster.queues.workspace_named(&namespace, workspace);
        let of = session.status.as_ref().and_then(|status| status.workspace.as_ref());
        fence_released(cluster, &namespace, workspace, of.map(|of| of.uid.as_str()));
    }
}

/// A session or a pod of this Workspace is gone, or the Workspace itself: its policy may go with the last of them.
fn fence_released(cluster: &Cluster, namespace: &str, workspace: &str, uid: Option<&str>) {
    let policy = uid.map(|uid| name::of_workspace(workspace, uid)).filter(|policy| {
        cluster.stores.workspaces.under(&key(namespace, policy)).is_empty()
            && cluster.stores.network_policies.get(namespace, policy).is_some()
    });
    if let Some(policy) = policy {
        cluster.queues.network_policy_named(namespace, &policy);
    }
}

fn workspace_changed(cluster: &Cluster, change: Change<'_, Workspace>) {
    let (workspace, gone) = match change {
        Change::Is(workspace) => (workspace, false),
        Change::Gone(workspace) => {
            let uid = workspace.uid().unwrap_or_default();
            cluster.memory.forget_workspace(&uid);
            cluster.memory.forget_other(&uid);
            let namespace = workspace.namespace().unwrap_or_default();
            fence_released(cluster, &namespace, &workspace.name_any(), Some(&uid));
            cluster.stores.pods.under(&pool_key(&uid)).iter().for_each(|pod| orphaned(cluster, pod));
            (workspace, true)
        }
        Change::Readability(workspace) => {
            let name = workspace.name.as_deref().unwrap_or_default();
            let namespace = workspace.namespace.as_deref().unwrap_or_default();
            // It may have gone without ever having been read.
            fence_released(cluster, namespace, name, workspace.uid.as_deref());
            return live_sessions_of(cluster, namespace, name, Concerned::Live);
        }
        Change::All(scope) => return everything(cluster, scope),
    };
    let (namespace, name) = (workspace.namespace().unwrap_or_default(), workspace.name_any());
    cluster.queues.workspace_changed(workspace);
    // What concerns those who have an instance is the spec, and whether the Workspace is there. Until then it matters, too,
    // what its status says of the template.
    let only_status = !gone && workspace.is_observed();
    let concerned = if only_status { Concerned::NotUsableYet } else { Concerned::Live };
    live_sessions_of(cluster, &namespace, &name, concerned);
}

fn policy_changed(cluster: &Cluster, change: Change<'_, SessionPolicy>) {
    let namespace = match change {
        Change::Is(policy) | Change::Gone(policy) => policy.namespace(),
        Change::Readability(policy) => policy.namespace.clone(),
        Change::All(scope) => return everything(cluster, scope),
    };
    for session in cluster.stores.sessions.reader().state_filter(|session| session.namespace() == namespace) {
        cluster.queues.session(&session);
    }
    for workspace in cluster.stores.workspaces.reader().state_filter(|workspace| workspace.namespace() == namespace) {
        cluster.queues.workspace_changed(&workspace);
    }
}

fn pod_changed(cluster: &Cluster, change: Change<'_, Pod>) {
    let (pod, gone) = match change {
        Change::Is(pod) => (pod, false),
        Change::Gone(pod) => (pod, true),
        Change::Readability(_) => return,
        Change::All(scope) => return everything(cluster, scope),
    };
    let namespace = pod.namespace().unwrap_or_default();
    match gone {
        true => cluster.memory.forget_other(&pod.uid().unwrap_or_default()),
        false => orphaned(cluster, pod),
    }
    if pod.labels().contains_key(WARM_SLOT_LABEL) {
        of_pool_changed(cluster, pod, gone);
    }
    // Either of the two may have been taken by somebody.
    let owners =
        pod.owner_references().iter().filter(|owner| owner.kind == Session::kind(&())).map(|owner| &owner.name);
    for session in owners.chain(pod.annotations().get(SESSION_ANNOTATION)).collect::<BTreeSet<_>>() {
        cluster.queues.session_named(&namespace, session);
    }
    // A pod that is gone gives its user's retained volumes back.
    if let Some(workspace) = pod.annotations().get(WORKSPACE_ANNOTATION).filter(|_| gone) {
        live_sessions_of(cluster, &namespace, workspace, Concerned::Waiting);
        // It may have been counted there without its Session being known.
        cluster.queues.workspace_named(&namespace, workspace);
        let of = pod.labels().get(WORKSPACE_UID_LABEL);
        fence_released(cluster, &namespace, workspace, of.map(String::as_str));
    }
}

/// A pod that was made for a pool concerns the pool, whoever has it by now; one that waits there what its Workspace says of it as
/// well.
fn of_pool_changed(cluster: &Cluster, pod: &Pod, gone: bool) {
    cluster.memory.heard_of(&pod.uid().unwrap_or_default(), gone);
    cluster.queues.pool_of(pod);
    if let Some(workspace) = pod.annotations().get(WORKSPACE_ANNOTATION)
        && !pod.labels().contains_key(SESSION_UID_LABEL)
    {
        cluster.queues.workspace_named(&pod.namespace().unwrap_or_default(), workspace);
    }
}

/// A pod that nobody owns is to be looked at where its Session is not known.
fn orphaned(cluster: &Cluster, pod: &Pod) {
    let namespace = pod.namespace().unwrap_or_default();
    if orphan::owner_of(pod).is_some_and(|owner| !cluster.stores.knows(&namespace, owner)) {
        cluster.queues.orphan_named(&namespace, &pod.name_any());
    }
}

/// Only where it was changed by somebody its Workspace is concerned: its status changes with every pod.
fn budget_changed(cluster: &Cluster, change: Change<'_, PodDisruptionBudget>) {
    let (budget, gone) = match change {
        Change::Is(budget) => (budget, false),
        Change::Gone(budget) => (budget, true),
        Change::Readability(_) => return,
        Change::All(scope) => return everything(cluster, scope),
    };
    let namespace = budget.namespace().unwrap_or_default();
    for workspace in cluster.stores.workspaces.under(&key(&namespace, &budget.name_any())) {
        if gone || drain::stand(&workspace, Some(budget), None) != Child::Stands {
            cluster.queues.workspace_named(&namespace, &workspace.name_any());
        }
    }
}

fn network_policy_changed(cluster: &Cluster, change: Change<'_, NetworkPolicy>) {
    let (policy, gone) = match change {
        Change::Is(policy) => (&policy.metadata, false),
        Change::Gone(policy) => (&policy.metadata, true),
        Change::Readability(policy) => (policy, false),
        Change::All(scope) => return everything(cluster, scope),
    };
    let namespace = policy.namespace.as_deref().unwrap_or_default();
    let name = policy.name.as_deref().unwrap_or_default();
    let workspaces = cluster.stores.workspaces.under(&key(namespace, name));
    for workspace in &workspaces {
        cluster.queues.workspace_changed(workspace);
        live_sessions_of(cluster, namespace, &workspace.name_any(), Concerned::NotUsableYet);
    }
    if gone {
        cluster.memory.forget_other(policy.uid.as_deref().unwrap_or_default());
    } else if workspaces.is_empty() {
        cluster.queues.network_policy_named(namespace, name);
    }
}

/// All sessions that wait are to be looked at again, and all pools.
pub fn waiting_everywhere(cluster: &Cluster) {
    for workspace in cluster.stores.workspaces.reader().state_filter(|workspace| workspace.spec.warm.is_some()) {
        cluster.queues.workspace_changed(&workspace);
    }
    let is_waiting = |session: &Session| waits(session.status.as_ref().and_then(|status| status.phase));
    for session in cluster.stores.sessions.reader().state_filter(is_waiting) {
        cluster.queues.session(&session);
    }
}

/// Which live sessions of a Workspace a change concerns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Concerned {
    /// Those that wait for a slot.
    Waiting,
    /// Those and whoever cannot be used yet.
    NotUsableYet,
    /// All of them.
    Live,
}

/// Has those live sessions of a Workspace looked at that are concerned.
fn live_sessions_of(cluster: &Cluster, namespace: &str, workspace: &str, concerned: Concerned) {
    let mut sessions = cluster.stores.sessions_at(namespace, workspace, Stage::Waits);
    if concerned != Concerned::Waiting {
        let is_usable = |session: &Session| {
            let phase = session.status.as_ref().and_then(|status| status.phase);
            !waits(phase) && phase != Some(Phase::Starting)
        };
        let mut holding = cluster.stores.sessions_at(namespace, workspace, Stage::Holds);
        holding.retain(|session| concerned == Concerned::Live || !is_usable(session));
        sessions.extend(holding);
    }
    for session in sessions {
        cluster.queues.session(&session);
    }
}

fn waits(phase: Option<Phase>) -> bool {
    phase.is_none_or(|phase| phase == Phase::Pending)
}

/// A Session of which only the metadata is known: what it holds is known by its pods.
fn holder_changed(cluster: &Cluster, session: &ObjectMeta) {
    let namespace = session.namespace.as_deref().unwrap_or_default();
    for pod in cluster.stores.pods.under(session.uid.as_deref().unwrap_or_default()) {
        if let Some(workspace) = pod.annotations().get(WORKSPACE_ANNOTATION) {
            cluster.queues.workspace_named(namespace, workspace);
            live_sessions_of(cluster, namespace, workspace, Concerned::Waiting);
        }
    }
}

/// Everything there is to be looked at again: after a list nothing is known about what changed there meanwhile.
pub fn everything(cluster: &Cluster, scope: &Scope) {
    let there = |namespace: Option<&String>| scope.is_none() || namespace == scope.as_ref();
    for session in cluster.stores.sessions.reader().state_filter(|session| there(session.metadata.namespace.as_ref())) {
        cluster.queues.session(&session);
    }
    for workspace in
        cluster.stores.workspaces.reader().state_filter(|workspace| there(workspace.metadata.namespace.as_ref()))
    {
        cluster.queues.workspace_changed(&workspace);
    }
    for policy in
        cluster.stores.network_policies.reader().state_filter(|policy| there(policy.metadata.namespace.as_ref()))
    {
        cluster.queues.network_policy_named(&policy.namespace().unwrap_or_default(), &policy.name_any());
    }
    for pod in cluster.stores.pods.reader().state_filter(|pod| there(pod.metadata.namespace.as_ref())) {
        orphaned(cluster, &pod);
    }
}
