//! The people of a trial: those who offer workspaces, those who use them, and those who get in the way. Owns what they
//! do and how often.

use std::time::Duration;

use berth::api::{SESSION_UID_LABEL, WARM_SLOT_LABEL};
use berth::cluster::keyring;
use kube::Client;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{ApiServer, Dice};

/// Where all of it happens.
pub const NAMESPACE: &str = "demo";

const BERTH: &str = "/apis/berth.dev/v1alpha1/namespaces/demo";
const CORE: &str = "/api/v1/namespaces/demo";
/// The hours in which a pool is larger: the first five minutes of each ten.
const WINDOW: [&str; 2] = ["*/10 * * * *", "5-55/10 * * * *"];
const WORKSPACES: [&str; 5] = ["desk", "room", "store", "once", "warm"];
const USERS: [&str; 3] = ["ana", "ben", "eve"];

/// Everybody. Their requests meet no faults.
pub struct People {
    server: ApiServer,
    client: Client,
    dice: Dice,
    launched: u64,
}

impl People {
    /// The people of this cluster.
    pub fn new(server: &ApiServer, dice: &Dice) -> Self {
        Self { server: server.clone(), client: server.client("people"), dice: dice.fork("people"), launched: 0 }
    }

    /// How many sessions they have launched.
    pub fn launched(&self) -> usize {
        usize::try_from(self.launched).unwrap_or(usize::MAX)
    }

    /// What is there before anybody launches.
    pub async fn set_up(&mut self) {
        // As an operator before them made it: random bytes of the host would make each run another.
        let key = json!({ "metadata": { "name": keyring::SECRET }, "data": { "key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" } });
        let namespace = super::operators::NAMESPACE;
        self.send("POST", &format!("/api/v1/namespaces/{namespace}/secrets"), &key).await;
        self.policy("default").await;
        for name in WORKSPACES {
            self.workspace(name).await;
        }
    }

    /// Acts for so long.
    pub async fn act(&mut self, lasts: Duration) {
        let until = tokio::time::Instant::now() + lasts;
        while tokio::time::Instant::now() < until {
            let pause = match self.dice.below(4) {
                0 => Duration::from_millis(1)..=Duration::from_millis(50),
                1 => Duration::from_millis(50)..=Duration::from_secs(2),
                _ => Duration::from_secs(1)..=Duration::from_secs(30),
            };
            sleep(self.dice.time(&pause)).await;
            self.one_act().await;
        }
    }

    async fn one_act(&mut self) {
        match self.dice.below(100) {
            0..30 => {
                let workspace = self.any_workspace();
                self.launch(&workspace).await;
            }
            30..34 => self.rush().await,
            34..44 => self.change("sessions", &json!({ "spec": { "desiredState": "Disconnected" } })).await,
            44..47 => self.change("sessions", &json!({ "spec": { "desiredState": "Terminated" } })).await,
            47..53 => self.keep_alive().await,
            53..58 => self.observe().await,
            58..63 => self.delete("sessions").await,
            63..67 => self.delete_pod().await,
            67..72 => self.stomp().await,
            72..76 => {
                let sessions = 1 + self.dice.below(3);
                self.change("workspaces", &json!({ "spec": { "maxSessions": sessions } })).await;
            }
            76..80 => {
                let maintenance = self.dice.chance(40);
                self.change("workspaces", &json!({ "spec": { "maintenance": maintenance } })).await;
            }
            80..83 => self.delete("workspaces").await,
            83..88 => {
                let name = self.pick(&WORKSPACES);
                self.workspace(&name).await;
            }
            88..92 => self.policy("default").await,
            92..94 => self.delete("sessionpolicies").await,
            94..96 => self.change("sessions", &json!({ "metadata": { "finalizers": [] } })).await,
            96..97 => {
                let lease = format!(
                    "/apis/coordination.k8s.io/v1/namespaces/{}/leases/berth-operator",
                    super::operators::NAMESPACE
                );
                self.send("DELETE", &lease, &json!({})).await;
            }
            97..98 => self.breach().await,
            98..99 => self.scale().await,
            _ => self.retouch().await,
        }
    }

    /// Wants another number of pods to wait: at times as some are launched, and at times none.
    async fn scale(&mut self) {
        if self.dice.chance(50) {
            self.launch("warm").await;
            self.launch("warm").await;
        }
        let replicas = self.dice.below(5);
        let patch = json!({ "spec": { "warm": { "replicas": replicas } } });
        self.send("PATCH", &format!("{BERTH}/workspaces/warm"), &patch).await;
    }

    /// Edits the template of those that wait.
    async fn retouch(&mut self) {
        let container = json!([{ "name": "main", "image": format!("desk:{}", self.dice.below(3)) }]);
        let patch = json!({ "spec": { "template": { "spec": { "containers": container } } } });
        self.send("PATCH", &format!("{BERTH}/workspaces/warm"), &patch).await;
    }

    /// Takes a wall down, makes a hole into it, or hides it.
    async fn breach(&mut self) {
        let Some(name) = self.one_of("networkpolicies.networking.k8s.io") else { return };
        let path = format!("/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies/{name}");
        match self.dice.below(3) {
            0 => self.send("DELETE", &path, &json!({})).await,
            1 => self.send("PATCH", &path, &json!({ "spec": { "policyTypes": ["Ingress"], "egress": null } })).await,
            _ => self.send("PATCH", &path, &json!({ "metadata": { "labels": null } })).await,
        };
    }

    /// Deletes all Sessions and stops the hours of pools, as before an end of everything.
    pub async fn delete_all(&mut self) {
        self.send("PATCH", &format!("{BERTH}/workspaces/warm"), &json!({ "spec": { "warm": { "schedule": null } } }))
            .await;
        for session in self.names("sessions.berth.dev") {
            self.send("DELETE", &format!("{BERTH}/sessions/{session}"), &json!({})).await;
        }
    }

    /// A class begins: several launch the same at once.
    async fn rush(&mut self) {
        let workspace = self.any_workspace();
        for _ in 0..2 + self.dice.below(4) {
            self.launch(&workspace).await;
        }
    }

    fn any_workspace(&self) -> String {
        if self.dice.chance(95) { self.pick(&WORKSPACES) } else { "missing".to_owned() }
    }

    async fn launch(&mut self, workspace: &str) {
        self.launched += 1;
        let when_full = if self.dice.chance(80) { "Queue" } else { "Fail" };
        let session = json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "Session",
            "metadata": { "name": format!("s{}", self.launched) },
            "spec": {
                "workspaceRef": { "name": workspace }, "user": { "id": self.pick(&USERS) }, "whenFull": when_full,
            },
        });
        self.send("POST", &format!("{BERTH}/sessions"), &session).await;
    }

    async fn workspace(&mut self, name: &str) {
        let mut template = json!({ "spec": { "containers": [{ "name": "main", "image": "desk:1" }] } });
        if name == "store" {
            let size = json!({ "requests": { "storage": "1Gi" } });
            let claim = json!({ "accessModes": ["ReadWriteOnce"], "resources": size });
            template["volumeClaims"] = json!([{ "name": "home", "retention": "Retain", "spec": claim }]);
            template["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "home", "mountPath": "/home" }]);
        }
        let reclaim = if name == "once" { "Delete" } else { "Retain" };
        let mut workspace = json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "Workspace", "metadata": { "name": name },
            "spec": {
                "type": "web", "access": { "protocol": "HTTP", "port": 8080 }, "template": template,
                "maxSessions": 1 + self.dice.below(3), "reclaimPolicy": reclaim,
            },
        });
        if name == "warm" {
            workspace["spec"]["warm"] = self.pool();
            workspace["spec"]["maxSessions"] = json!(2 + self.dice.below(4));
        }
        self.send("POST", &format!("{BERTH}/workspaces"), &workspace).await;
    }

    /// So many at all times, and at times more: by the clock, or as many as were launched lately.
    fn pool(&mut self) -> Value {
        let mut pool = json!({ "replicas": 1 + self.dice.below(3) });
        if self.dice.chance(40) {
            let [start, end] = WINDOW;
            pool["schedule"] = json!([{ "start": start, "end": end, "replicas": 1 + self.dice.below(4) }]);
        }
        if self.dice.chance(40) {
            pool["demand"] = json!({ "window": "2m", "max": 1 + self.dice.below(4) });
        }
        pool
    }

    async fn policy(&mut self, name: &str) {
        let minutes = |most: u64| format!("{}s", 60 * (1 + self.dice.below(most)));
        let idle = 1 + self.dice.below(5);
        let spec = json!({
            "idle": {
                "after": format!("{}s", idle * 30), "warnAfter": format!("{}s", idle * 60),
                "disconnectAfter": format!("{}s", idle * 120),
            },
            "maxDuration": minutes(30), "startTimeout": minutes(3), "queueTimeout": minutes(10),
            "history": { "keepFor": minutes(60) },
        });
        let policy = json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "SessionPolicy", "metadata": { "name": name }, "spec": spec,
        });
        if self.send("POST", &format!("{BERTH}/sessionpolicies"), &policy).await.is_none() {
            self.change("sessionpolicies", &json!({ "spec": policy["spec"] })).await;
        }
    }

    async fn keep_alive(&mut self) {
        let now = self.server.clock().now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        self.change("sessions", &json!({ "spec": { "keepAliveAt": now } })).await;
    }

    async fn observe(&mut self) {
        let now = self.server.clock().now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let Some(name) = self.one_of("sessions.berth.dev") else { return };
        let seen = if self.dice.chance(80) {
            json!({ "status": { "activity": { "lastAt": now } } })
        } else {
            json!({ "status": { "endRequest": { "as": "Terminated", "reason": "PolicyViolation", "at": now } } })
        };
        self.send("PATCH", &format!("{BERTH}/sessions/{name}/status"), &seen).await;
    }

    async fn delete_pod(&mut self) {
        let Some(name) = self.one_of("pods") else { return };
        let grace = if self.dice.chance(30) { json!({ "gracePeriodSeconds": 0 }) } else { json!({}) };
        self.send("DELETE", &format!("{CORE}/pods/{name}"), &grace).await;
    }

    /// Takes from a pod what makes it findable: its labels or its owner. Without both, a pod that no status names yet is
    /// nobody's that can be told from a stranger's, and stays.
    async fn stomp(&mut self) {
        let Some(name) = self.one_of("pods") else { return };
        let all = [
            json!({ "labels": null }),
            json!({ "ownerReferences": null }),
            json!({ "annotations": null }),
            json!({ "labels": null, "annotations": null }),
            json!({ "labels": { SESSION_UID_LABEL: null } }),
        ];
        let metadata = self.dice.pick(&all).cloned().unwrap_or_default();
        let Some(pod) = self.server.object("pods", NAMESPACE, &name) else { return };
        // One of a pool is found by its labels alone until a status names it: without them it goes with who owns it.
        if pod["metadata"]["labels"][WARM_SLOT_LABEL].is_string() && metadata.get("labels").is_some_and(Value::is_null)
        {
            return;
        }
        let other = if metadata.get("ownerReferences").is_some() { "labels" } else { "ownerReferences" };
        if pod["metadata"].get(other).is_none_or(Value::is_null) {
            return;
        }
        self.send("PATCH", &format!("{CORE}/pods/{name}"), &json!({ "metadata": metadata })).await;
    }

    /// Changes one object of a kind of ours.
    async fn change(&mut self, plural: &str, patch: &Value) {
        let Some(name) = self.one_of(&format!("{plural}.berth.dev")) else { return };
        self.send("PATCH", &format!("{BERTH}/{plural}/{name}"), patch).await;
    }

    async fn delete(&mut self, plural: &str) {
        let Some(name) = self.one_of(&format!("{plural}.berth.dev")) else { return };
        self.send("DELETE", &format!("{BERTH}/{plural}/{name}"), &json!({})).await;
    }

    fn names(&self, resource: &str) -> Vec<String> {
        let objects = self.server.objects(resource);
        let here = objects.iter().filter(|object| object["metadata"]["namespace"] == NAMESPACE);
        here.filter_map(|object| Some(object["metadata"]["name"].as_str()?.to_owned())).collect()
    }

    fn one_of(&self, resource: &str) -> Option<String> {
        self.dice.pick(&self.names(resource)).cloned()
    }

    fn pick(&self, choices: &[&str]) -> String {
        self.dice.pick(choices).map(|choice| (*choice).to_owned()).unwrap_or_default()
    }

    /// Sends it; what was answered, unless it was refused: people live with that.
    async fn send(&self, method: &str, path: &str, body: &Value) -> Option<Value> {
        let type_ = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = http::Request::builder().method(method).uri(path).header("content-type", type_);
        self.client.request(request.body(body.to_string().into_bytes()).ok()?).await.ok()
    }
}
