//! One watch per kind for the whole process. An event first enters its cache, then names the objects that must
//! be looked at again. Owns that mapping; not what is done when they are looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::controller::ReconcileRequest;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::Cluster;
use super::cache::{Cache, workspace_key};
use crate::api::{
    MANAGED_BY, MANAGED_BY_LABEL, SESSION_ANNOTATION, Session, SessionPolicy, SessionStatus, WORKSPACE_ANNOTATION,
    Workspace,
};
use crate::plan::{Note, Severity, admission};

/// Where the names of objects go that must be looked at again. Closed on a replica that only stands by.
#[derive(Clone, Default)]
pub struct Queues(Arc<OnceLock<Senders>>);

struct Senders {
    sessions: UnboundedSender<ReconcileRequest<Session>>,
    workspaces: UnboundedSender<ReconcileRequest<Workspace>>,
}

/// The far ends of the queues.
pub struct Requests {
    /// Sessions to look at.
    pub sessions: UnboundedReceiver<ReconcileRequest<Session>>,
    /// Workspaces to look at.
    pub workspaces: UnboundedReceiver<ReconcileRequest<Workspace>>,
}

impl Queues {
    /// Opens the queues, with everything that is known in them.
    pub fn open(&self, cluster: &Cluster) -> Requests {
        let (sessions, session_requests) = mpsc::unbounded();
        let (workspaces, workspace_requests) = mpsc::unbounded();
        // They are opened once in the life of a process.
        let _ = self.0.set(Senders { sessions, workspaces });
        everything(cluster, self);
        Requests { sessions: session_requests, workspaces: workspace_requests }
    }

    fn session(&self, session: &Session) {
        self.session_named(&session.namespace().unwrap_or_default(), &session.name_any());
    }

    fn session_named(&self, namespace: &str, name: &str) {
        if let Some(senders) = self.0.get() {
            // A far end that is gone means that the process is stopping.
            let _ = senders.sessions.unbounded_send(ObjectRef::new(name).within(namespace).into());
        }
    }

    fn workspace_named(&self, namespace: &str, name: &str) {
        if let Some(senders) = self.0.get() {
            let _ = senders.workspaces.unbounded_send(ObjectRef::new(name).within(namespace).into());
        }
    }
}

/// What the watches say of themselves, for the health endpoints: by kind, nothing when the watch has caught up.
#[derive(Clone, Default)]
pub struct WatchHealth(Arc<Mutex<BTreeMap<&'static str, Option<Trouble>>>>);

/// Why a kind is not watched.
enum Trouble {
    /// It was not listed yet.
    Unlisted(String),
    /// The watch was interrupted then. It is taken up again without a word where nothing has changed meanwhile, so
    /// that an interruption counts only while it is fresh; one that lasts is told anew at each attempt.
    Interrupted(Instant, String),
}

/// How long an interruption counts: longer than the longest pause between two attempts.
const FRESH: Duration = Duration::from_secs(90);

impl WatchHealth {
    fn set(&self, kind: &'static str, trouble: Option<Trouble>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, trouble);
    }

    fn interrupted(&self, kind: &'static str, error: String) {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = kinds.entry(kind).or_default();
        *trouble = Some(match trouble {
            Some(Trouble::Unlisted(_)) => Trouble::Unlisted(error),
            Some(Trouble::Interrupted(..)) | None => Trouble::Interrupted(Instant::now(), error),
        });
    }

    /// The kinds that cannot be watched, with the reason.
    pub fn troubles(&self) -> Vec<String> {
        let kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tell = |(kind, trouble): (&&str, &Option<Trouble>)| match trouble {
            Some(Trouble::Unlisted(why)) => Some(format!("{kind}: {why}")),
            Some(Trouble::Interrupted(at, why)) if at.elapsed() < FRESH => Some(format!("{kind}: {why}")),
            Some(Trouble::Interrupted(..)) | None => None,
        };
        kinds.iter().filter_map(tell).collect()
    }
}

/// Watches all kinds until the process ends.
pub async fn run(cluster: Cluster, queues: Queues, health: WatchHealth) {
    let client = &cluster.client;
    let managed = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
    let sessions = watch(
        "Session",
        Api::all(client.clone()),
        watcher::Config::default(),
        &cluster,
        &cluster.stores.sessions,
        &health,
        |change| {
            session_changed(&cluster, &queues, change);
        },
    );
    let workspaces = watch(
        "Workspace",
        Api::all(client.clone()),
        watcher::Config::default(),
        &cluster,
        &cluster.stores.workspaces,
        &health,
        |change| {
            workspace_changed(&cluster, &queues, change);
        },
    );
    let policies = watch(
        "SessionPolicy",
        Api::all(client.clone()),
        watcher::Config::default(),
        &cluster,
        &cluster.stores.policies,
        &health,
        |change| {
            policy_changed(&cluster, &queues, change);
        },
    );
    let pods = watch("Pod", Api::all(client.clone()), managed, &cluster, &cluster.stores.pods, &health, |change| {
        pod_changed(&cluster, &queues, change);
    });
    futures::join!(sessions, workspaces, policies, pods);
}

/// What a watch brought, after its cache has taken it in.
enum Change<'a, K> {
    /// The object is there, as it is here.
    Is(&'a K),
    /// The object is gone.
    Gone(&'a K),
    /// Everything was listed anew.
    All,
}

async fn watch<K>(
    kind: &'static str,
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    cluster: &Cluster,
    cache: &Cache<K>,
    health: &WatchHealth,
    mut changed: impl FnMut(Change<'_, K>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    ObjectRef<K>: Hash + Eq,
    DeserializeGuard<K>: Resource<DynamicType = ()>,
{
    health.set(kind, Some(Trouble::Unlisted("not listed yet".to_owned())));
    let events = watcher(api, config).default_backoff();
    pin_mut!(events);
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(kind, %error, "watch interrupted");
                health.interrupted(kind, error.to_string());
                continue;
            }
        };
        let Some(event) = readable(kind, event, cluster).await else { continue };
        cache.take(&event);
        if matches!(event, Event::Apply(_) | Event::Delete(_) | Event::InitDone) {
            health.set(kind, None);
        }
        match &event {
            Event::Apply(object) => changed(Change::Is(object)),
            Event::Delete(object) => changed(Change::Gone(object)),
            Event::InitDone => changed(Change::All),
            Event::Init | Event::InitApply(_) => {}
        }
    }
}

/// The event with an object that can be read, without what no decision needs. An object that cannot be read is
/// told about and left as it was last known; it stops nobody else.
async fn readable<K>(kind: &'static str, event: Event<DeserializeGuard<K>>, cluster: &Cluster) -> Option<Event<K>>
where
    K: Resource<DynamicType = ()>,
    DeserializeGuard<K>: Resource<DynamicType = ()>,
{
    let (guard, wrap): (_, fn(K) -> Event<K>) = match event {
        Event::Apply(guard) => (guard, Event::Apply),
        Event::InitApply(guard) => (guard, Event::InitApply),
        Event::Delete(guard) => (guard, Event::Delete),
        Event::Init => return Some(Event::Init),
        Event::InitDone => return Some(Event::InitDone),
    };
    let problem = match &guard.0 {
        Ok(_) => None,
        Err(invalid) => Some(invalid.error.clone()),
    };
    if let Some(error) = problem {
        tracing::error!(kind, object = guard.name_any(), namespace = guard.namespace(), error, "object cannot be read");
        let note =
            Note { severity: Severity::Warning, reason: "Unreadable".to_owned(), message: format!("ignored: {error}") };
        if cluster.leadership.holds() {
            cluster.publisher.publish(&guard, &[note]).await;
        }
        return None;
    }
    let mut object = guard.0.ok()?;
    object.meta_mut().managed_fields = None;
    Some(wrap(object))
}

fn session_changed(cluster: &Cluster, queues: &Queues, change: Change<'_, Session>) {
    let (session, made_way) = match change {
        Change::Is(session) => {
            queues.session(session);
            let makes_way =
                |status: &SessionStatus| status.ended_at.is_some() || admission::is_aside(&status.conditions);
            (session, session.status.as_ref().is_some_and(makes_way))
        }
        Change::Gone(session) => {
            cluster.memory.forget_session(&session.uid().unwrap_or_default());
            (session, true)
        }
        Change::All => return everything(cluster, queues),
    };
    let (namespace, workspace) = (session.namespace().unwrap_or_default(), session.spec.workspace_ref.name.as_str());
    queues.workspace_named(&namespace, workspace);
    if made_way {
        live_sessions_of(cluster, queues, &namespace, workspace, true);
    }
}

fn workspace_changed(cluster: &Cluster, queues: &Queues, change: Change<'_, Workspace>) {
    let (workspace, gone) = match change {
        Change::Is(workspace) => (workspace, false),
        Change::Gone(workspace) => {
            cluster.memory.forget_workspace(&workspace.uid().unwrap_or_default());
            (workspace, true)
        }
        Change::All => return everything(cluster, queues),
    };
    let (namespace, name) = (workspace.namespace().unwrap_or_default(), workspace.name_any());
    queues.workspace_named(&namespace, &name);
    // What concerns those who have a slot is the spec, and whether the Workspace is there.
    let seen = workspace.status.as_ref().and_then(|status| status.observed_generation);
    let only_status = !gone && workspace.metadata.deletion_timestamp.is_none() && seen == workspace.metadata.generation;
    live_sessions_of(cluster, queues, &namespace, &name, only_status);
}

fn policy_changed(cluster: &Cluster, queues: &Queues, change: Change<'_, SessionPolicy>) {
    let (Change::Is(policy) | Change::Gone(policy)) = change else { return everything(cluster, queues) };
    let namespace = policy.namespace();
    for session in cluster.stores.sessions.reader().state_filter(|session| session.namespace() == namespace) {
        queues.session(&session);
    }
    for workspace in cluster.stores.workspaces.reader().state_filter(|workspace| workspace.namespace() == namespace) {
        queues.workspace_named(namespace.as_deref().unwrap_or_default(), &workspace.name_any());
    }
}

fn pod_changed(cluster: &Cluster, queues: &Queues, change: Change<'_, Pod>) {
    let (pod, gone) = match change {
        Change::Is(pod) => (pod, false),
        Change::Gone(pod) => (pod, true),
        Change::All => return everything(cluster, queues),
    };
    let namespace = pod.namespace().unwrap_or_default();
    // Either of the two may have been taken by somebody.
    let owners =
        pod.owner_references().iter().filter(|owner| owner.kind == Session::kind(&())).map(|owner| &owner.name);
    for session in owners.chain(pod.annotations().get(SESSION_ANNOTATION)).collect::<BTreeSet<_>>() {
        queues.session_named(&namespace, session);
    }
    // A pod that is gone gives its user's retained volumes back.
    if let Some(workspace) = pod.annotations().get(WORKSPACE_ANNOTATION).filter(|_| gone) {
        live_sessions_of(cluster, queues, &namespace, workspace, true);
    }
}

/// The live sessions of a Workspace, or only those that still wait.
fn live_sessions_of(cluster: &Cluster, queues: &Queues, namespace: &str, workspace: &str, waiting_only: bool) {
    for session in cluster.stores.sessions.under(&workspace_key(namespace, workspace)) {
        let status = session.status.as_ref();
        let live = status.is_none_or(|status| status.ended_at.is_none());
        let waits =
            status.and_then(|status| status.phase).is_none_or(|phase| phase == crate::api::session::Phase::Pending);
        if live && (waits || !waiting_only) {
            queues.session(&session);
        }
    }
}

/// After a list nothing is known about what changed meanwhile.
fn everything(cluster: &Cluster, queues: &Queues) {
    for session in cluster.stores.sessions.reader().state() {
        queues.session(&session);
    }
    for workspace in cluster.stores.workspaces.reader().state() {
        queues.workspace_named(&workspace.namespace().unwrap_or_default(), &workspace.name_any());
    }
}
