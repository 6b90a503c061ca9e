//! What must hold under faults: over the whole history in `always` (safety), in the calm after the faults in `calm`
//! (liveness). Owns what both read. Where a history comes from, a trial or a real API server, is not known here: both are
//! held to the same.

mod always;
mod calm;

use std::collections::BTreeMap;
use std::sync::Arc;

use berth::api::{SESSION_UID_LABEL, WARM_SLOT_LABEL};
use chrono::{DateTime, Utc};
use serde_json::Value;

pub use always::safety;
pub use calm::{gone, settled, writes_since};

use crate::ApiServer;
use crate::apiserver::log::Log;
use crate::apiserver::meta::text;
use crate::apiserver::store::{Change, Key};

/// The walls around instances, as the store calls them.
const NETWORK_POLICIES: &str = "networkpolicies.networking.k8s.io";

/// What happened: every version of every object, and what was asked and answered.
pub struct History {
    /// Changes, the oldest first.
    pub changes: Vec<Change>,
    /// Requests, in the order in which they came.
    pub log: Log,
    /// When this is looked at.
    pub now: DateTime<Utc>,
}

impl History {
    /// What a simulated API server has seen so far.
    pub fn of(server: &ApiServer) -> Self {
        Self { changes: server.history(), log: server.log(), now: server.clock().now() }
    }

    /// All objects of a resource, as they stand.
    pub fn objects(&self, resource: &str) -> Vec<Arc<Value>> {
        let mut stands: BTreeMap<&Key, Option<&Arc<Value>>> = BTreeMap::new();
        for change in self.changes.iter().filter(|change| change.key.resource == resource) {
            stands.insert(&change.key, change.after.as_ref());
        }
        stands.into_values().flatten().cloned().collect()
    }
}

/// What was seen that must never be.
#[derive(Default)]
pub struct Broken(Vec<String>);

impl Broken {
    /// Notes what was seen.
    pub fn note(&mut self, what: impl Into<String>) {
        self.0.push(what.into());
    }

    /// All of it.
    pub fn into_sentences(self) -> Vec<String> {
        self.0
    }
}

fn time(object: &Value, path: &str) -> Option<DateTime<Utc>> {
    object.pointer(path)?.as_str()?.parse().ok()
}

fn has_ended(session: &Value) -> bool {
    !text(session, "/status/endedAt").is_empty()
}

/// The uid of the session that a pod is of: by its owner, or by its label.
fn session_of(pod: &Value) -> Option<&str> {
    let owners = pod["metadata"]["ownerReferences"].as_array();
    let owner = owners.into_iter().flatten().find(|owner| owner["kind"] == "Session");
    owner.and_then(|owner| owner["uid"].as_str()).or_else(|| pod["metadata"]["labels"][SESSION_UID_LABEL].as_str())
}

/// The uid of the Workspace in whose pool a pod waits.
fn pool_of(pod: &Value) -> Option<&str> {
    let owners = pod["metadata"]["ownerReferences"].as_array()?;
    let waits = session_of(pod).is_none() && pod["metadata"]["labels"][WARM_SLOT_LABEL].is_string();
    owners.iter().find(|owner| owner["kind"] == "Workspace").filter(|_| waits)?["uid"].as_str()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|it| it["type"] == "Ready" && it["status"] == "True")
}

fn is_admitted(session: &Value) -> bool {
    let conditions = session["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|it| it["type"] == "Admitted" && it["status"] == "True")
}

/// Whether a policy that selects these labels covers the pod.
fn is_behind(pod: &Value, selected: &Value) -> bool {
    let labels = &pod["metadata"]["labels"];
    selected.as_object().is_some_and(|selected| selected.iter().all(|(key, value)| labels[key] == *value))
}
