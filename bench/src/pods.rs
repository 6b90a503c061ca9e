//! Who watches the pods of a ground: which are ready, and whether a session ever has two. Both sides have one, so that
//! what it costs is on both sides of each ratio.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watched};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What was seen of one pod.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it is no longer there.
    pub gone: bool,
    going: bool,
    owner: Option<String>,
}

/// The watch, and what it has shown. It ends with its owner.
pub struct Pods {
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    pods: HashMap<String, watch::Sender<Seen>>,
    broken: Vec<String>,
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pods {
    /// Watches the pods of a namespace from now on.
    ///
    /// # Errors
    /// When the watch does not begin.
    pub async fn start(client: &Client, namespace: &str) -> Result<Arc<Self>> {
        let api = Api::<Pod>::namespaced(client.clone(), namespace);
        let state: Arc<Mutex<State>> = Arc::default();
        let (listed, mut is_listed) = watch::channel(false);
        let into = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut present = HashSet::new();
            let mut events = std::pin::pin!(watched(api, watcher::Config::default()).default_backoff());
            loop {
                match events.try_next().await {
                    Ok(Some(event)) => {
                        into.lock().unwrap_or_else(PoisonError::into_inner).take(event, &mut present, &listed);
                    }
                    Ok(None) => return,
                    // The watch begins again by itself.
                    Err(_) => {}
                }
            }
        });
        let listing = is_listed.wait_for(|listed| *listed);
        tokio::time::timeout(Duration::from_secs(30), listing).await.context("the pods cannot be watched")??;
        Ok(Arc::new(Self { state, task }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is seen of the pod of this name, from before it is created.
    pub fn follow(&self, name: &str) -> watch::Receiver<Seen> {
        self.lock().pods.entry(name.to_owned()).or_default().subscribe()
    }

    /// How many are there.
    pub fn standing(&self) -> usize {
        let is_there = |seen: &watch::Sender<Seen>| seen.borrow().owner.is_some() && !seen.borrow().gone;
        self.lock().pods.values().filter(|seen| is_there(seen)).count()
    }

    /// What was seen that must not be.
    pub fn broken(&self) -> Vec<String> {
        self.lock().broken.clone()
    }
}

impl State {
    fn take(&mut self, event: Event<Pod>, present: &mut HashSet<String>, listed: &watch::Sender<bool>) {
        match event {
            Event::Init => present.clear(),
            Event::InitApply(pod) => {
                present.insert(pod.name_any());
                self.see(&pod);
            }
            Event::InitDone => {
                for (_, seen) in self.pods.iter().filter(|(name, _)| !present.contains(*name)) {
                    if seen.borrow().owner.is_some() {
                        seen.send_modify(|seen| seen.gone = true);
                    }
                }
                listed.send_replace(true);
            }
            Event::Apply(pod) => self.see(&pod),
            Event::Delete(pod) => {
                self.pods.entry(pod.name_any()).or_default().send_modify(|seen| seen.gone = true);
            }
        }
    }

    fn see(&mut self, pod: &Pod) {
        let name = pod.name_any();
        let owner = pod.owner_references().first().map(|owner| owner.uid.clone());
        if owner.is_none() {
            self.broken.push(format!("the pod {name} has no owner"));
        }
        let going = pod.metadata.deletion_timestamp.is_some();
        let is_new = self.pods.get(&name).is_none_or(|seen| seen.borrow().owner.is_none());
        if is_new && !going {
            let lives = |seen: &Seen| seen.owner == owner && !seen.gone && !seen.going;
            if let Some((other, _)) = self.pods.iter().find(|(_, seen)| lives(&seen.borrow())) {
                self.broken.push(format!("one session has two pods: {other} and {name}"));
            }
        }
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        let ready = conditions.is_some_and(|all| all.iter().any(|it| it.type_ == "Ready" && it.status == "True"));
        self.pods.entry(name).or_default().send_modify(|seen| {
            seen.ready |= ready;
            seen.going |= going;
            // One without an owner was told about: it counts as there all the same.
            seen.owner = Some(owner.unwrap_or_default());
        });
    }
}
