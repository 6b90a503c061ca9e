//! The floor: a bare client that makes the writes of a session in their order, and decides nothing. Its sessions are of a
//! kind of their own with the schema and the rules of ours, so that the API server has the same work and the operator
//! does not see them. What it writes is what Berth wrote for one session: its `Pattern`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::access::{Access, apply};
use crate::ground::{Ground, PATIENCE, Side, sessions_of};
use crate::pods::Pods;

/// The group of the floor's sessions.
pub const GROUP: &str = "floor.berth.dev";
/// What holds one until its pod is gone.
const FINALIZER: &str = "floor.berth.dev/session";

/// Makes the kind of the floor's sessions: ours under another group.
///
/// # Errors
/// When the API server does not take it.
pub async fn define(access: &Access) -> Result<()> {
    let ours = berth::install::crds().into_iter().map(|(_, crd)| crd).find(|crd| crd.spec.names.plural == "sessions");
    let mut crd = ours.context("Berth has a kind of sessions")?;
    let name = format!("sessions.{GROUP}");
    crd.metadata.name = Some(name.clone());
    crd.spec.group = GROUP.to_owned();
    crd.spec.names.short_names = None;
    crd.spec.names.categories = None;
    let definitions = Api::<CustomResourceDefinition>::all(access.admin.clone());
    let mut written = serde_json::to_value(&crd)?;
    written["apiVersion"] = json!("apiextensions.k8s.io/v1");
    written["kind"] = json!("CustomResourceDefinition");
    apply(&definitions, &name, &written).await?;
    let established = |crd: CustomResourceDefinition| {
        let conditions = crd.status.and_then(|status| status.conditions).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
    };
    for _ in 0..100 {
        if definitions.get_opt(&name).await?.is_some_and(established) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("the definition {name} is not established")
}

/// What Berth writes for one session: read from a real one.
#[derive(Debug)]
pub struct Pattern {
    starting: Value,
    active: Value,
    ended: Value,
    pod: Value,
}

impl Pattern {
    /// Lets Berth bring one session up and end it, and keeps what it wrote.
    ///
    /// # Errors
    /// When Berth does not.
    pub async fn read(access: &Access) -> Result<Self> {
        let rules = json!({"history": {"keepFor": "1h"}});
        let ground = Ground::new(access, "pattern", Side::Berth, &rules, 0, None).await?;
        let namespace = "bench-pattern-berth";
        let api: Api<DynamicObject> = Api::namespaced_with(access.load.clone(), namespace, &sessions_of(Side::Berth));
        let mut versions = std::pin::pin!(api.watch(&WatchParams::default(), "0").await?);
        ground.launch("pattern").await?;
        let (mut starting, mut active, mut pod) = (Value::Null, Value::Null, Value::Null);
        let ended = loop {
            let next = timeout(Duration::from_secs(60), versions.try_next()).await;
            let event = next.context("Berth has not brought up and ended a session within a minute")??;
            let Some(WatchEvent::Added(session) | WatchEvent::Modified(session)) = event else { continue };
            let status = session.data["status"].clone();
            match status["phase"].as_str() {
                Some("Starting") => starting = status,
                Some("Active") if active.is_null() => {
                    let pods = Api::<Pod>::namespaced(access.load.clone(), namespace);
                    let name = status["instance"]["pod"].as_str().context("an Active session names its pod")?;
                    pod = serde_json::to_value(pods.get(name).await?)?;
                    active = status;
                    ground.end("pattern").await?;
                }
                Some("Disconnected") => break status,
                _ => {}
            }
        };
        if starting.is_null() || active.is_null() {
            bail!("Berth wrote no Starting or no Active");
        }
        ground.leave().await?;
        Ok(Self { starting, active, ended, pod: bare(&pod) })
    }
}

/// The pod as it was sent, without what names its session or what the API server added.
fn bare(pod: &Value) -> Value {
    let foreign = |map: &Value| {
        let keys = map.as_object().into_iter().flatten();
        keys.map(|(key, value)| (key.replace("berth.dev/", "floor.berth.dev/"), value.clone()))
            .collect::<serde_json::Map<_, _>>()
    };
    let mut spec = pod["spec"].clone();
    if let Some(spec) = spec.as_object_mut() {
        spec.remove("nodeName");
    }
    let metadata = &pod["metadata"];
    let metadata = json!({"labels": foreign(&metadata["labels"]), "annotations": foreign(&metadata["annotations"])});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

/// The bare client of one namespace.
pub struct Floor {
    sessions: Api<DynamicObject>,
    pods: Api<Pod>,
    pattern: Arc<Pattern>,
    seen: Arc<Pods>,
    pool: Option<Arc<Pool>>,
}

/// Pods of the floor that wait for sessions.
struct Pool {
    pods: Api<Pod>,
    seen: Arc<Pods>,
    pod: Value,
    ready: Mutex<UnboundedReceiver<String>>,
    into: UnboundedSender<String>,
    made: AtomicUsize,
    /// Which pod a session has.
    taken: std::sync::Mutex<HashMap<String, String>>,
    /// Why pods did not come: with fewer of them the floor would be slower than it is.
    failures: std::sync::Mutex<Vec<String>>,
}

impl Pool {
    /// Makes one more, which waits once it is ready.
    async fn make(&self) -> Result<()> {
        let name = format!("warm-{}", self.made.fetch_add(1, Ordering::Relaxed));
        let mut pod = self.pod.clone();
        pod["metadata"]["name"] = json!(name);
        let mut seen = self.seen.follow(&name);
        self.pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
        timeout(PATIENCE, seen.wait_for(|seen| seen.ready)).await.context("a pod did not become ready")??;
        // Its far end is this pool's.
        let _ = self.into.send(name);
        Ok(())
    }

    /// Gives one to a session, and lets another be made in its place.
    async fn adopt(self: &Arc<Self>, session: &str, owner: &Value) -> Result<()> {
        let name = timeout(PATIENCE, async { self.ready.lock().await.recv().await }).await;
        let name = name.context("no pod waits")?.context("the pool is gone")?;
        let personal =
            json!({"floor.berth.dev/session": session, "floor.berth.dev/user": format!("user-of-{session}")});
        let patch = json!({"metadata": {
            "labels": {"floor.berth.dev/session-uid": owner["uid"]}, "annotations": personal, "ownerReferences": [owner],
        }});
        self.pods.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(session.to_owned(), name);
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = pool.make().await {
                pool.failures.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{error:#}"));
            }
        });
        Ok(())
    }
}

impl Floor {
    /// One that sees pods through this watch, and has so many of them ready for sessions.
    ///
    /// # Errors
    /// When one cannot be made.
    pub async fn new(
        client: &Client,
        namespace: &str,
        pattern: &Arc<Pattern>,
        seen: &Arc<Pods>,
        warm: usize,
    ) -> Result<Self> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let pool = match warm {
            0 => None,
            _ => Some(Self::pool(client, namespace, pattern, seen, &pods).await?),
        };
        if let Some(pool) = &pool {
            let made = futures::stream::iter((0..warm).map(|_| pool.make())).buffer_unordered(8);
            made.try_collect::<Vec<()>>().await?;
        }
        Ok(Self {
            sessions: Api::namespaced_with(client.clone(), namespace, &sessions_of(Side::Floor)),
            pods,
            pattern: Arc::clone(pattern),
            seen: Arc::clone(seen),
            pool,
        })
    }

    /// An empty pool. What owns its pods is there for that alone.
    async fn pool(
        client: &Client,
        namespace: &str,
        pattern: &Arc<Pattern>,
        seen: &Arc<Pods>,
        pods: &Api<Pod>,
    ) -> Result<Arc<Pool>> {
        let owner: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let wanted = json!({"metadata": {"name": "pool"}});
        let owner = owner.create(&PostParams::default(), &serde_json::from_value(wanted)?).await?;
        let mut pod = pattern.pod.clone();
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "name": "pool", "uid": owner.metadata.uid, "controller": true,
            "blockOwnerDeletion": false,
        }]);
        let (into, ready) = unbounded_channel();
        Ok(Arc::new(Pool {
            pods: pods.clone(),
            seen: Arc::clone(seen),
            pod,
            ready: Mutex::new(ready),
            into,
            made: AtomicUsize::new(0),
            taken: std::sync::Mutex::default(),
            failures: std::sync::Mutex::default(),
        }))
    }

    /// Why pods of its pool did not come.
    pub fn failures(&self) -> Vec<String> {
        let of = |pool: &Arc<Pool>| pool.failures.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.pool.as_ref().map(of).unwrap_or_default()
    }

    /// The writes from a session's creation until it is Active.
    ///
    /// # Errors
    /// When one is refused, or the pod does not become ready.
    pub async fn bring_up(&self, name: &str, uid: &str) -> Result<()> {
        let owner = json!({
            "apiVersion": format!("{GROUP}/{}", berth::api::VERSION), "kind": "Session", "name": name, "uid": uid,
            "controller": true, "blockOwnerDeletion": false,
        });
        let labels = json!({berth::api::VELERO_EXCLUDE_LABEL: "true"});
        let marks = json!({"labels": labels, "finalizers": [FINALIZER]});
        if let Some(pool) = &self.pool {
            pool.adopt(name, &owner).await?;
            self.status(name, &self.pattern.active).await?;
            return self.mark(name, &marks).await;
        }
        self.status(name, &self.pattern.starting).await?;
        self.mark(name, &marks).await?;
        let mut pod = self.pattern.pod.clone();
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["ownerReferences"] = json!([owner]);
        let mut seen = self.seen.follow(name);
        self.pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
        timeout(PATIENCE, seen.wait_for(|seen| seen.ready)).await.context("a pod did not become ready")??;
        self.status(name, &self.pattern.active).await
    }

    /// The writes from a session's end until nothing is left.
    ///
    /// # Errors
    /// When one is refused, or the pod does not go.
    pub async fn take_down(&self, name: &str) -> Result<()> {
        self.status(name, &self.pattern.ended).await?;
        let taken = |pool: &Arc<Pool>| pool.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        let pod = self.pool.as_ref().and_then(taken).unwrap_or_else(|| name.to_owned());
        let mut seen = self.seen.follow(&pod);
        self.pods.delete(&pod, &DeleteParams::default()).await?;
        timeout(PATIENCE, seen.wait_for(|seen| seen.gone)).await.context("a pod did not go")??;
        self.mark(name, &json!({"finalizers": []})).await?;
        self.sessions.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    async fn status(&self, name: &str, status: &Value) -> Result<()> {
        let patch = json!({"status": status});
        self.sessions.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    }

    async fn mark(&self, name: &str, metadata: &Value) -> Result<()> {
        let patch = json!({"metadata": metadata});
        self.sessions.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    }
}
