//! What of an object no decision needs is not kept, where its type cannot leave it out. Owns which part that is. What a planner begins to
//! read must be kept here; `a_slim_pod_says_the_same` holds them together.

use crate::api::pod::Pod;
use k8s_openapi::api::core::v1::PodCondition;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

use crate::api::{Session, SessionPolicy, Workspace};

/// The conditions of a pod that planners and traces read.
const READ_CONDITIONS: [&str; 3] = ["PodScheduled", "Ready", "DisruptionTarget"];

/// An object of a kind that is cached.
pub trait Slim: Resource {
    /// Leaves out what no decision needs.
    fn slim(&mut self) {
        slim_meta(self.meta_mut());
    }
}

/// The object once more, as `kubectl apply` writes it into an annotation: of any size.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A list that was read has room for more than it has.
fn slim_meta(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(LAST_APPLIED);
    }
    meta.owner_references.iter_mut().for_each(Vec::shrink_to_fit);
    meta.finalizers.iter_mut().for_each(Vec::shrink_to_fit);
}

impl Slim for Session {
    fn slim(&mut self) {
        slim_meta(&mut self.metadata);
        self.status.iter_mut().for_each(|status| status.conditions.shrink_to_fit());
    }
}

impl Slim for SessionPolicy {}
impl Slim for Workspace {}
impl Slim for NetworkPolicy {}

impl Slim for PodDisruptionBudget {
    fn slim(&mut self) {
        slim_meta(&mut self.metadata);
        // It changes with every pod, and nobody here asks.
        self.status = None;
    }
}

impl Slim for Pod {
    fn slim(&mut self) {
        slim_meta(&mut self.metadata);
        if let Some(status) = &mut self.status {
            status.conditions = status.conditions.take().map(slim_conditions);
            status.init_container_statuses.iter_mut().for_each(Vec::shrink_to_fit);
            status.container_statuses.iter_mut().for_each(Vec::shrink_to_fit);
        }
    }
}

/// The conditions that say how far a pod has come or why it goes.
fn slim_conditions(mut conditions: Vec<PodCondition>) -> Vec<PodCondition> {
    conditions.retain(|condition| READ_CONDITIONS.contains(&condition.type_.as_str()));
    conditions.shrink_to_fit();
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ACCESS_ANNOTATION, SessionStatus};
    use crate::plan::{instance, pod, trace};
    use kube::ResourceExt;
    use serde_json::{Value, json};

    /// A pod as a kubelet reports it, with everything that a pod may have in reach of our eyes.
    fn reported(state: Value) -> Pod {
        let status = json!({ "name": "main", "image": "i", "imageID": "i@sha256:0", "containerID": "c", "ready": false,
            "restartCount": 2, "started": false, "state": state, "lastState": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } },
            "volumeMounts": [{ "name": "v", "mountPath": "/v" }], "resources": { "limits": { "memory": "1Gi" } } });
        let object = json!({
            "metadata": {
                "name": "p", "namespace": "n", "uid": "u", "resourceVersion": "7", "creationTimestamp": "2026-01-31T11:59:52Z", "labels": { "berth.dev/session-uid": "s" },
                "annotations": { "berth.dev/access": "http:8080/lab", LAST_APPLIED: "{}" }, "managedFields": [{ "manager": "m" }],
            },
            "spec": {
                "nodeName": "node-1", "tolerations": [{ "operator": "Exists" }],
                "initContainers": [{ "name": "first", "image": "i", "restartPolicy": "Always" }],
                "containers": [{ "name": "main", "image": "i", "env": [{ "name": "A", "value": "b" }] }],
            },
            "status": {
                "phase": "Running", "podIP": "10.0.0.7", "hostIP": "10.0.0.1", "qosClass": "Burstable",
                "startTime": "2026-01-31T12:00:00Z",
                "conditions": [
                    { "type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-31T11:59:53Z" },
                    { "type": "Ready", "status": "False", "lastTransitionTime": "2026-01-31T12:00:00Z" },
                ],
                "initContainerStatuses": [status.clone()], "containerStatuses": [status],
            },
        });
        serde_json::from_value(object).unwrap()
    }

    /// A session that became usable, so that its launch is told.
    fn launched() -> Session {
        let object = json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "Session",
            "metadata": {
                "name": "mine", "namespace": "n", "uid": "0f8fad5b-d9cb-469f-a165-70867728950e",
                "creationTimestamp": "2026-01-31T11:59:50Z",
            },
            "spec": { "workspaceRef": { "name": "box" }, "user": { "id": "ana" } },
            "status": {
                "phase": "Active", "readyAt": "2026-01-31T12:00:05Z",
                "conditions": [{
                    "type": "Admitted", "status": "True", "reason": "SlotGranted", "message": "",
                    "lastTransitionTime": "2026-01-31T11:59:51Z",
                }],
            },
        });
        serde_json::from_value(object).unwrap()
    }

    /// That pod in trouble of other kinds: what is laid over its status, and whether it is being deleted.
    fn troubled() -> Vec<Pod> {
        let told = |type_: &str, status: &str, reason: &str| {
            json!({ "type": type_, "status": status, "reason": reason, "message": "in its own words",
                "lastTransitionTime": "2026-01-31T12:00:00Z" })
        };
        let cases = [
            (json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on memory" }), false),
            (json!({ "conditions": [told("DisruptionTarget", "True", "DeletionByTaintManager")] }), true),
            (
                json!({ "phase": "Pending", "conditions": [told("PodScheduled", "False", "Unschedulable")], "containerStatuses": null }),
                false,
            ),
            (
                json!({ "conditions": [told("Ready", "False", "NodeNotReady")], "containerStatuses": [{
                "name": "main", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": { "running": {} } }],
                "initContainerStatuses": null }),
                false,
            ),
        ];
        let pod = |(over, going): (Value, bool)| {
            let mut object = json!(reported(json!({ "running": {} })));
            for (field, value) in over.as_object().cloned().unwrap_or_default() {
                object["status"][field] = value;
            }
            if going {
                object["metadata"]["deletionTimestamp"] = json!("2026-01-31T12:00:01Z");
            }
            serde_json::from_value(object).unwrap()
        };
        cases.into_iter().map(pod).collect()
    }

    #[test]
    fn a_slim_pod_says_the_same() {
        let states = [
            json!({ "running": { "startedAt": "2026-01-31T12:00:00Z" } }),
            json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no" } }),
            json!({ "terminated": { "exitCode": 3, "reason": "Error" } }),
        ];
        let mut said = std::collections::BTreeSet::new();
        for whole in states.map(reported).into_iter().chain(troubled()) {
            let mut slim = whole.clone();
            slim.slim();
            assert_eq!(instance::health(&slim), instance::health(&whole));
            assert_eq!(instance::describe(&slim), instance::describe(&whole));
            assert_eq!(instance::url(&slim), instance::url(&whole));
            assert_eq!(pod::belongs(&slim, "s"), pod::belongs(&whole, "s"));
            let told = |pod: &Pod| trace::launch(&SessionStatus::default(), &launched(), Some(pod));
            assert!(told(&whole).len() > 1, "{:?}", told(&whole));
            assert_eq!(told(&slim), told(&whole));
            assert!(slim.annotations().keys().eq([ACCESS_ANNOTATION]), "what nobody reads is kept");
            said.insert(format!("{:?}", instance::health(&whole)));
        }
        assert_eq!(said.len(), 7, "each is a case of its own: {said:#?}");
    }
}
