//! The volumes of an instance. A claim that goes with the session is an ephemeral volume of the pod, so that
//! Kubernetes deletes it with the pod; a retained one is an object of its own, without an owner, which no
//! code here deletes.

use serde_json::{Map, Value, json};

use crate::api::workspace::{Retention, VolumeClaim};
use crate::api::{MANAGED_BY, MANAGED_BY_LABEL, USER_ANNOTATION, WORKSPACE_ANNOTATION, WORKSPACE_UID_LABEL, Workspace};
use crate::plan::name;

/// Whose volumes are built, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The namespace of session and Workspace.
    pub namespace: &'a str,
    /// The Workspace's name.
    pub workspace: &'a str,
    /// The Workspace's uid.
    pub workspace_uid: &'a str,
    /// `spec.user.id` of the session.
    pub user: &'a str,
}

impl<'a> Owner<'a> {
    /// The user in whose name instances of `workspace` have volumes.
    pub fn of(workspace: &'a Workspace, user: &'a str) -> Self {
        let metadata = &workspace.metadata;
        Self {
            namespace: metadata.namespace.as_deref().unwrap_or_default(),
            workspace: metadata.name.as_deref().unwrap_or_default(),
            workspace_uid: metadata.uid.as_deref().unwrap_or_default(),
            user,
        }
    }
}

/// The entry of `volumes` in the pod for `claim`.
pub fn in_pod(claim: &VolumeClaim, owner: Owner<'_>) -> Value {
    match claim.retention {
        Retention::Delete => json!({
            "name": claim.name,
            "ephemeral": { "volumeClaimTemplate": { "metadata": { "labels": labels(owner) }, "spec": claim.spec } },
        }),
        Retention::Retain => json!({
            "name": claim.name,
            "persistentVolumeClaim": { "claimName": claim_name(claim, owner) },
        }),
    }
}

/// The claim itself, where it outlives the session.
pub fn retained(claim: &VolumeClaim, owner: Owner<'_>) -> Option<Value> {
    match claim.retention {
        Retention::Delete => None,
        Retention::Retain => Some(json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": claim_name(claim, owner),
                "namespace": owner.namespace,
                "labels": labels(owner),
                "annotations": { WORKSPACE_ANNOTATION: owner.workspace, USER_ANNOTATION: owner.user },
            },
            "spec": claim.spec,
        })),
    }
}

fn claim_name(claim: &VolumeClaim, owner: Owner<'_>) -> String {
    name::retained_claim(owner.workspace, owner.workspace_uid, claim.name.as_str(), owner.user)
}

fn labels(owner: Owner<'_>) -> Map<String, Value> {
    [(MANAGED_BY_LABEL, MANAGED_BY), (WORKSPACE_UID_LABEL, owner.workspace_uid)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect()
}
