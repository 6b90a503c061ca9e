//! Who watches the pods of a ground: which are ready, and whether a session ever has two. Both sides have one, so that
//! what it costs is on both sides of each ratio.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;

use crate::follow::{Follow, Told};

/// What was seen of one pod.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it is no longer there.
    pub gone: bool,
    going: bool,
    /// Whether it waits in a pool.
    waits: bool,
    owner: Option<String>,
}

/// The watch, and what it has shown. It ends with its owner.
pub struct Pods {
    state: Arc<Mutex<State>>,
    _follow: Follow,
}

#[derive(Default)]
struct State {
    pods: HashMap<String, watch::Sender<Seen>>,
    broken: Vec<String>,
}

impl Pods {
    /// Watches the pods of a namespace from now on.
    ///
    /// # Errors
    /// When the watch does not begin.
    pub async fn start(client: &Client, namespace: &str) -> Result<Arc<Self>> {
        let state: Arc<Mutex<State>> = Arc::default();
        let into = Arc::clone(&state);
        let follow = Follow::start(Api::<Pod>::namespaced(client.clone(), namespace), move |told| {
            let mut state = into.lock().unwrap_or_else(PoisonError::into_inner);
            match told {
                Told::Stands(pod) => state.see(&pod),
                Told::Gone(name) => state.pods.entry(name).or_default().send_modify(|seen| seen.gone = true),
            }
        });
        Ok(Arc::new(Self { state, _follow: follow.await.context("the pods cannot be watched")? }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is seen of the pod of this name, from before it is created.
    pub fn follow(&self, name: &str) -> watch::Receiver<Seen> {
        self.lock().pods.entry(name.to_owned()).or_default().subscribe()
    }

    /// How many wait in a pool and are ready.
    pub fn waiting(&self) -> usize {
        let waits = |seen: &Seen| seen.waits && seen.ready && !seen.gone;
        self.lock().pods.values().filter(|seen| waits(&seen.borrow())).count()
    }

    /// How many are there that are of a session.
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
    fn see(&mut self, pod: &Pod) {
        let name = pod.name_any();
        let owners = pod.owner_references();
        if owners.is_empty() {
            self.broken.push(format!("the pod {name} has no owner"));
        }
        // One that waits in a pool is of no session yet.
        let waits = owners.iter().any(|owner| owner.kind != "Session");
        let owner = owners.first().filter(|_| !waits).map(|owner| owner.uid.clone());
        let before = self.pods.get(&name).and_then(|seen| seen.borrow().owner.clone());
        if let (Some(before), Some(owner)) = (&before, &owner)
            && before != owner
        {
            self.broken.push(format!("two sessions had the pod {name}"));
        }
        let going = pod.metadata.deletion_timestamp.is_some();
        let is_new = before.is_none() && !waits;
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
            seen.waits = waits && !going;
            // One without an owner was told about: it counts as there all the same.
            seen.owner = owner.or((!waits).then(String::new)).or(seen.owner.take());
        });
    }
}
