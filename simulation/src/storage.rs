//! Storage: claims of ephemeral volumes are made, claims are bound once a pod needs them, and a claim in use stays. Owns
//! what three controllers of Kubernetes do; there are no volumes behind it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::actor::{Agenda, Hands, path, wait};
use crate::apiserver::meta::{finalizers, is_going, text};
use crate::{ApiServer, Dice};

const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// The controllers of claims.
pub struct Storage {
    server: ApiServer,
    dice: Dice,
    hands: Hands,
}

/// One thing to do about a claim.
enum Task {
    Make(String, Value),
    Bind(Arc<Value>),
    Release(Arc<Value>),
}

impl Storage {
    /// The controllers of this cluster.
    pub fn new(server: &ApiServer, dice: &Dice) -> Self {
        Self { server: server.clone(), dice: dice.fork("storage"), hands: Hands::new(server, "storage") }
    }

    /// Does its work for ever.
    pub async fn run(self) {
        let mut agenda = Agenda::default();
        loop {
            let seen = self.server.revision();
            let tasks = self.tasks();
            for (name, task) in &tasks {
                if agenda.is_due(name, || self.dice.time(&(Duration::from_millis(1)..=Duration::from_millis(500)))) {
                    self.execute(task).await;
                    agenda.tried(name);
                }
            }
            let next = agenda.keep(|name| tasks.iter().any(|(it, _)| it == name));
            wait(&self.server, seen, next, |it| matches!(it, "pods" | "persistentvolumeclaims")).await;
        }
    }

    fn tasks(&self) -> Vec<(String, Task)> {
        let (pods, claims) = (self.server.objects("pods"), self.server.objects("persistentvolumeclaims"));
        let mut tasks = Vec::new();
        for pod in pods.iter().filter(|pod| !is_going(pod)) {
            for volume in
                pod["spec"]["volumes"].as_array().into_iter().flatten().filter(|it| it["ephemeral"].is_object())
            {
                let name = format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name"));
                let there = |claim: &&Arc<Value>| {
                    claim["metadata"]["name"] == name.as_str()
                        && claim["metadata"]["namespace"] == pod["metadata"]["namespace"]
                };
                if !claims.iter().any(|claim| there(&claim)) {
                    let uid = text(pod, "/metadata/uid");
                    tasks.push((
                        format!("make {uid} {name}"),
                        Task::Make(text(pod, "/metadata/namespace").to_owned(), claim_of(pod, volume, &name)),
                    ));
                }
            }
        }
        for claim in claims {
            let uid = text(&claim, "/metadata/uid").to_owned();
            let chosen = claim["metadata"]["annotations"].get("volume.kubernetes.io/selected-node").is_some();
            let used = || pods.iter().any(|pod| uses(pod, &claim));
            if is_going(&claim) {
                if finalizers(&claim).iter().any(|name| name == PROTECTION) && !used() {
                    tasks.push((format!("release {uid}"), Task::Release(claim)));
                }
            } else if chosen && text(&claim, "/status/phase") != "Bound" {
                tasks.push((format!("bind {uid}"), Task::Bind(claim)));
            }
        }
        tasks
    }

    async fn execute(&self, task: &Task) {
        let at = |claim: &Value| path("/api/v1", "persistentvolumeclaims", claim);
        match task {
            Task::Make(namespace, claim) => {
                self.hands.post(&format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims"), claim).await;
            }
            Task::Bind(claim) => {
                let uid = text(claim, "/metadata/uid");
                if text(claim, "/spec/volumeName").is_empty() {
                    let named = json!({"metadata": {"uid": uid}, "spec": {"volumeName": format!("pvc-{uid}")}});
                    self.hands.merge(&at(claim), &named).await;
                }
                let bound = json!({"metadata": {"uid": uid}, "status": {"phase": "Bound",
                    "accessModes": claim["spec"]["accessModes"], "capacity": claim["spec"]["resources"]["requests"]}});
                self.hands.merge(&format!("{}/status", at(claim)), &bound).await;
            }
            Task::Release(claim) => {
                let rest: Vec<String> = finalizers(claim).into_iter().filter(|name| name != PROTECTION).collect();
                let metadata = &claim["metadata"];
                let patch = json!({"metadata": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"], "finalizers": rest}});
                self.hands.merge(&at(claim), &patch).await;
            }
        }
    }
}

/// The claim of an ephemeral volume, which goes with its pod.
fn claim_of(pod: &Value, volume: &Value, name: &str) -> Value {
    let template = &volume["ephemeral"]["volumeClaimTemplate"];
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true});
    let mut metadata = json!({"name": name, "ownerReferences": [owner]});
    for field in ["labels", "annotations"] {
        if let Some(value) = template["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template["spec"]})
}

/// Whether a pod uses a claim: one that has run to its end does not.
fn uses(pod: &Value, claim: &Value) -> bool {
    if pod["metadata"]["namespace"] != claim["metadata"]["namespace"]
        || matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
    {
        return false;
    }
    let name = text(claim, "/metadata/name");
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let named = |volume: &Value| {
        let ephemeral = format!("{}-{}", text(pod, "/metadata/name"), text(volume, "/name"));
        text(volume, "/persistentVolumeClaim/claimName") == name
            || (volume["ephemeral"].is_object() && ephemeral == name)
    };
    volumes.into_iter().any(named)
}
