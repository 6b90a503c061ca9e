//! An instance that nobody collects: its Session is gone, or the Workspace in whose pool it waited, and somebody has taken its
//! owner, by which Kubernetes would have deleted it. Owns how such a pod is told from a stranger's.

use crate::api::pod::Pod;
use kube::ResourceExt;

use crate::api::{SESSION_ANNOTATION, SESSION_UID_LABEL, WORKSPACE_ANNOTATION, WORKSPACE_UID_LABEL};
use crate::plan::{Plan, name, pool};

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

/// For whom a pod without an owner was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner<'a> {
    /// The Session of this name and uid.
    Session(&'a str, &'a str),
    /// The Workspace of this name and uid, in whose pool it is.
    Workspace(&'a str, &'a str),
}

/// For whom a pod without an owner was made. Labels alone make none ours: its name follows from them.
pub fn owner_of(pod: &Pod) -> Option<Owner<'_>> {
    let session = pod.annotations().get(SESSION_ANNOTATION).zip(pod.labels().get(SESSION_UID_LABEL));
    let named = |(session, uid): (&String, &String)| pod.metadata.name.as_ref() == Some(&name::pod(session, uid));
    let ours = pod.owner_references().is_empty() && (session.is_some_and(named) || pool::is_of_a_pool(pod));
    let owner = match session {
        Some((session, uid)) => Owner::Session(session, uid),
        None => Owner::Workspace(pod.annotations().get(WORKSPACE_ANNOTATION)?, pod.labels().get(WORKSPACE_UID_LABEL)?),
    };
    ours.then_some(owner)
}

/// What to do about `pod`, for whom it was made stands or does not.
pub fn decide(pod: &Pod, owner_stands: bool) -> Plan<Step> {
    let stays = owner_stands || owner_of(pod).is_none() || pod.metadata.deletion_timestamp.is_some();
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
