//! What happens on the API server, seen without any operator: every version of every object of the namespaces that plans
//! run in. Owns the watches and the versions; what they mean is `oracle`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use berth_simulation::apiserver::store::{Change, Key};
use futures::StreamExt;
use kube::Client;
use kube::core::WatchEvent;
use serde_json::Value;
use tokio::sync::watch;

/// What is watched: the resource, and its path.
const RESOURCES: [(&str, &str); 6] = [
    ("sessions.berth.dev", "/apis/berth.dev/v1alpha1/sessions"),
    ("workspaces.berth.dev", "/apis/berth.dev/v1alpha1/workspaces"),
    ("pods", "/api/v1/pods"),
    ("persistentvolumeclaims", "/api/v1/persistentvolumeclaims"),
    ("networkpolicies.networking.k8s.io", "/apis/networking.k8s.io/v1/networkpolicies"),
    ("leases.coordination.k8s.io", "/apis/coordination.k8s.io/v1/leases"),
];

/// The watches.
pub struct Observer {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    followed: BTreeSet<String>,
    stands: BTreeMap<Key, Arc<Value>>,
    changes: BTreeMap<String, Vec<Change>>,
    newest: u64,
    lost: Option<String>,
}

impl Observer {
    /// Watches from now on.
    ///
    /// # Errors
    /// When the API server lets nobody watch.
    pub async fn start(client: &Client) -> Result<Arc<Self>> {
        let observer = Arc::new(Self { state: Mutex::default(), changed: watch::channel(0).0 });
        for (resource, path) in RESOURCES {
            let list: Value = client
                .request(http::Request::get(format!("{path}?limit=1")).body(Vec::new())?)
                .await
                .with_context(|| format!("cannot list {resource}"))?;
            let from = list.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
            let (client, observer) = (client.clone(), Arc::clone(&observer));
            tokio::spawn(async move {
                // A watch that is lost makes every verdict doubtful: it is told, not mended.
                if let Err(error) = observer.watch(&client, resource, path, from).await {
                    observer.lock().lost = Some(format!("the watch of {resource} was lost: {error:#}"));
                    observer.changed.send_modify(|count| *count += 1);
                }
            });
        }
        Ok(observer)
    }

    async fn watch(&self, client: &Client, resource: &str, path: &str, mut from: String) -> Result<()> {
        loop {
            let query = format!("{path}?watch=true&allowWatchBookmarks=true&timeoutSeconds=250&resourceVersion={from}");
            let events = match client.request_events::<Value>(http::Request::get(query).body(Vec::new())?).await {
                // A definition that was just changed: nothing has been missed, and it is served in a moment.
                Err(kube::Error::Api(status)) if status.code == 429 => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
                events => events?,
            };
            let mut events = pin!(events);
            while let Some(event) = events.next().await {
                let (object, gone) = match event? {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                    WatchEvent::Deleted(object) => (object, true),
                    WatchEvent::Bookmark(bookmark) => {
                        from = bookmark.metadata.resource_version;
                        continue;
                    }
                    WatchEvent::Error(error) => anyhow::bail!("{error:?}"),
                };
                if let Some(revision) = text(&object, "/metadata/resourceVersion") {
                    from = revision.to_owned();
                }
                self.take(resource, object, gone);
            }
        }
    }

    fn take(&self, resource: &str, mut object: Value, gone: bool) {
        let part = |path: &str| text(&object, path).unwrap_or_default().to_owned();
        let key = Key::new(resource, &part("/metadata/namespace"), &part("/metadata/name"));
        let revision = part("/metadata/resourceVersion").parse().unwrap_or_default();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        let mut state = self.lock();
        state.newest = state.newest.max(revision);
        if !state.followed.contains(&key.namespace) {
            return;
        }
        let after = (!gone).then(|| Arc::new(object));
        let before = match &after {
            Some(object) => state.stands.insert(key.clone(), Arc::clone(object)),
            None => state.stands.remove(&key),
        };
        state.changes.entry(key.namespace.clone()).or_default().push(Change { revision, key, before, after });
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Keeps what happens in this namespace.
    pub fn follow(&self, namespace: &str) {
        self.lock().followed.insert(namespace.to_owned());
    }

    /// Forgets this namespace.
    pub fn forget(&self, namespace: &str) {
        let mut state = self.lock();
        state.followed.remove(namespace);
        state.changes.remove(namespace);
        state.stands.retain(|key, _| key.namespace != namespace);
    }

    /// What happened in these namespaces so far, the oldest first.
    pub fn changes(&self, namespaces: &[String]) -> Vec<Change> {
        let state = self.lock();
        let mut changes: Vec<Change> =
            namespaces.iter().flat_map(|namespace| state.changes.get(namespace)).flatten().cloned().collect();
        changes.sort_by_key(|change| change.revision);
        changes
    }

    /// The object, if it stands.
    pub fn object(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.lock().stands.get(&Key::new(resource, namespace, name)).cloned()
    }

    /// All objects of a resource that stand in this namespace.
    pub fn objects(&self, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let state = self.lock();
        let here = |key: &&Key| key.resource == resource && key.namespace == namespace;
        state.stands.iter().filter(|(key, _)| here(key)).map(|(_, object)| Arc::clone(object)).collect()
    }

    /// The newest revision that was seen.
    pub fn newest(&self) -> u64 {
        self.lock().newest
    }

    /// Why nothing more is seen, if so.
    pub fn lost(&self) -> Option<String> {
        self.lock().lost.clone()
    }

    /// Tells of each change.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text<'a>(object: &'a Value, path: &str) -> Option<&'a str> {
    object.pointer(path).and_then(Value::as_str)
}
