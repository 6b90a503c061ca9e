//! An instance that nobody collects: its Session is gone, and somebody has taken its owner, by which Kubernetes would have
//! deleted it. Owns how such a pod is told from a stranger's.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::api::{SESSION_ANNOTATION, SESSION_UID_LABEL};
use crate::plan::{Plan, name};

/// One thing to do about such a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Delete the pod, if it still has this uid.
    Delete {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
}

/// The name and the uid of the Session that a pod without an owner was made for. Labels alone make none ours: its name
/// follows from both.
pub fn session_of(pod: &Pod) -> Option<(&str, &str)> {
    let session = pod.annotations().get(SESSION_ANNOTATION)?;
    let uid = pod.labels().get(SESSION_UID_LABEL)?;
    let ours = pod.owner_references().is_empty() && pod.metadata.name.as_ref() == Some(&name::pod(session, uid));
    ours.then_some((session, uid))
}

/// What to do about `pod`, whose Session stands or does not.
pub fn decide(pod: &Pod, session_stands: bool) -> Plan<Step> {
    let stays = session_stands || session_of(pod).is_none() || pod.metadata.deletion_timestamp.is_some();
    let delete = || Step::Delete { name: pod.name_any(), uid: pod.uid().unwrap_or_default() };
    Plan { steps: if stays { Vec::new() } else { vec![delete()] }, notes: Vec::new(), wake: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(more: Value) -> Pod {
        let mut metadata = json!({
            "name": name::pod("mine", "s"), "uid": "p", "labels": { SESSION_UID_LABEL: "s" },
            "annotations": { SESSION_ANNOTATION: "mine" },
        });
        for (key, value) in more.as_object().cloned().unwrap_or_default() {
            metadata[key] = value;
        }
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    }

    #[test]
    fn an_instance_that_nobody_owns_goes_once_its_session_is_gone() {
        let delete = vec![Step::Delete { name: name::pod("mine", "s"), uid: "p".to_owned() }];
        assert_eq!(decide(&pod(json!({})), false).steps, delete);
        assert_eq!(decide(&pod(json!({})), true).steps, vec![]);
        let owner = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "c" }]);
        for kept in [
            json!({ "ownerReferences": owner }),
            json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" }),
            json!({ "name": "a-strangers" }),
            json!({ "labels": { SESSION_UID_LABEL: "another" } }),
            json!({ "labels": {} }),
            json!({ "annotations": {} }),
        ] {
            assert_eq!(decide(&pod(kept.clone()), false).steps, vec![], "{kept}");
        }
    }
}
