//! A scheduler: gives pods their nodes. Owns when, and what it says when it cannot; which node, or none, is a
//! simulation's.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::actor::{Agenda, Hands, path, wait};
use crate::apiserver::meta::{is_going, text};
use crate::{ApiServer, Dice};

/// Says of a pod on which node it is to run: none while there is no room.
pub type Places = Arc<dyn Fn(&Value, &Dice) -> Option<String> + Send + Sync>;

/// A scheduler.
pub struct Scheduler {
    server: ApiServer,
    dice: Dice,
    hands: Hands,
    places: Places,
}

/// What keeps a pod from being bound.
enum Waits {
    /// It says so, in these words.
    For(String),
    /// A claim is to be bound to the node first.
    Claim(Value, String),
}

impl Scheduler {
    /// The scheduler of one node.
    pub fn new(server: &ApiServer, dice: &Dice, node: &str) -> Self {
        let node = node.to_owned();
        Self {
            server: server.clone(),
            dice: dice.fork("scheduler"),
            hands: Hands::new(server, "scheduler"),
            places: Arc::new(move |_, _| Some(node.clone())),
        }
    }

    /// With these places.
    pub fn places(self, places: impl Fn(&Value, &Dice) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { places: Arc::new(places), ..self }
    }

    /// Does its work for ever.
    pub async fn run(self) {
        let mut agenda = Agenda::default();
        loop {
            let seen = self.server.revision();
            let pods = self.server.objects("pods");
            let waiting: Vec<&Arc<Value>> =
                pods.iter().filter(|pod| text(pod, "/spec/nodeName").is_empty() && !is_going(pod)).collect();
            for pod in &waiting {
                let uid = text(pod, "/metadata/uid");
                if agenda
                    .is_due(uid, || self.dice.fork(uid).time(&(Duration::from_millis(1)..=Duration::from_millis(300))))
                {
                    self.place(pod).await;
                    agenda.tried(uid);
                }
            }
            let next = agenda.keep(|uid| waiting.iter().any(|pod| text(pod, "/metadata/uid") == uid));
            wait(&self.server, seen, next, |it| matches!(it, "pods" | "persistentvolumeclaims")).await;
        }
    }

    async fn place(&self, pod: &Value) {
        let at = path("/api/v1", "pods", pod);
        let uid = text(pod, "/metadata/uid");
        let place = (self.places)(pod, &self.dice.fork(&format!("place {uid} {}", self.server.revision())));
        let waits = match &place {
            None => Some(Waits::For("0/1 nodes are available: 1 Insufficient memory.".to_owned())),
            Some(node) => self.claims(pod, node),
        };
        match (waits, place) {
            (Some(Waits::For(words)), _) => self.unschedulable(pod, &at, &words).await,
            (Some(Waits::Claim(claim, node)), _) => {
                let patch = json!({"metadata": {"uid": claim["metadata"]["uid"],
                    "annotations": {"volume.kubernetes.io/selected-node": node}}});
                self.hands.merge(&path("/api/v1", "persistentvolumeclaims", &claim), &patch).await;
            }
            (None, Some(node)) => {
                let binding = json!({"apiVersion": "v1", "kind": "Binding",
                    "metadata": {"name": text(pod, "/metadata/name"), "uid": uid}, "target": {"kind": "Node", "name": node}});
                self.hands.post(&format!("{at}/binding"), &binding).await;
            }
            (None, None) => {}
        }
    }

    async fn unschedulable(&self, pod: &Value, at: &str, words: &str) {
        let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if conditions.iter().any(|stands| stands["type"] == "PodScheduled" && stands["message"] == words) {
            return;
        }
        let time = self.server.clock().now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        conditions.retain(|stands| stands["type"] != "PodScheduled");
        conditions.push(json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words,
            "lastProbeTime": null, "lastTransitionTime": time}));
        let patch = json!({"metadata": {"uid": pod["metadata"]["uid"]}, "status": {"conditions": conditions}});
        self.hands.merge(&format!("{at}/status"), &patch).await;
    }

    /// What the pod's claims keep it waiting for.
    fn claims(&self, pod: &Value, node: &str) -> Option<Waits> {
        let namespace = text(pod, "/metadata/namespace");
        for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
            let named = text(volume, "/persistentVolumeClaim/claimName");
            let ephemeral = volume["ephemeral"].is_object();
            let name = match (named, ephemeral) {
                ("", false) => continue,
                ("", true) => format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name")),
                (named, _) => named.to_owned(),
            };
            let claim = self.server.object("persistentvolumeclaims", namespace, &name);
            let Some(claim) = claim.filter(|claim| !is_going(claim)) else {
                let why = match ephemeral {
                    true => {
                        format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}.")
                    }
                    false => format!("persistentvolumeclaim {name:?} not found."),
                };
                return Some(Waits::For(format!("0/1 nodes are available: {why}")));
            };
            if text(&claim, "/status/phase") != "Bound" {
                return Some(Waits::Claim(Value::clone(&claim), node.to_owned()));
            }
        }
        None
    }
}
