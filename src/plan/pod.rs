//! The pod that a session is given, at once or by way of a pool: the template as `hardening` merges it, with what Berth must
//! have on top. Built as JSON, so that fields of a newer Kubernetes pass through untouched.

use crate::api::pod::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use serde_json::{Map, Value, json};

use crate::api::workspace::Template;
use crate::api::{
    ACCESS_ANNOTATION, GROUP, MANAGED_BY, MANAGED_BY_LABEL, SESSION_ANNOTATION, SESSION_UID_LABEL, Session,
    USER_ANNOTATION, VERSION, WORKSPACE_ANNOTATION, WORKSPACE_UID_LABEL, Workspace,
};
use crate::plan::hardening::Hardening;
use crate::plan::volume::{self, Owner};
use crate::plan::{child, contract, drain, name};

/// The pod for `session` by the template of `workspace`.
pub fn for_session(session: &Session, workspace: &Workspace, template: &Template, hardening: &Hardening) -> Value {
    let uid = session.uid().unwrap_or_default();
    let owner = Owner::of(workspace, session.spec.user.id.as_str());
    let mut pod = from_template(workspace, template, owner, hardening);
    pod["metadata"]["name"] = json!(name::pod(&session.name_any(), &uid));
    let personal = personal(session, workspace, template);
    for kind in ["labels", "annotations"] {
        for (key, value) in personal[kind].as_object().into_iter().flatten() {
            pod["metadata"][kind][key] = value.clone();
        }
    }
    pod["metadata"]["ownerReferences"] = personal["ownerReferences"].clone();
    pod
}

/// The metadata by which an instance is a session's, and a pod of a pool becomes one.
pub fn personal(session: &Session, workspace: &Workspace, template: &Template) -> Value {
    let mut annotations = marks(template, drain::marks(workspace));
    annotations.insert(SESSION_ANNOTATION.to_owned(), json!(session.name_any()));
    annotations.insert(USER_ANNOTATION.to_owned(), json!(session.spec.user.id));
    json!({
        "labels": { SESSION_UID_LABEL: session.uid() },
        "annotations": annotations,
        "ownerReferences": owner_references(session),
    })
}

/// A pod for nobody yet by the template of `workspace`, which is its owner. A drain need not wait for it.
pub fn for_pool(workspace: &Workspace, template: &Template, hardening: &Hardening) -> Value {
    let mut pod = from_template(workspace, template, Owner::of(workspace, ""), hardening);
    for (key, value) in marks(template, drain::EVICTABLE) {
        pod["metadata"]["annotations"][key] = value;
    }
    pod["metadata"]["ownerReferences"] = json!([child::owner(workspace)]);
    pod
}

/// Those of `marks` of which the template has none of its own.
fn marks(template: &Template, marks: impl IntoIterator<Item = (&'static str, &'static str)>) -> Map<String, Value> {
    let own = |key: &str| template.metadata.as_ref().is_some_and(|meta| meta.annotations.contains_key(key));
    marks.into_iter().filter(|(key, _)| !own(key)).map(|(key, value)| (key.to_owned(), json!(value))).collect()
}

/// What the API server is asked about, whether it would accept what the template makes: the claims that are kept,
/// and the pod.
pub fn for_dry_run(workspace: &Workspace, template: &Template, hardening: &Hardening) -> Vec<Value> {
    let owner = Owner::of(workspace, "dry-run");
    let mut pod = from_template(workspace, template, owner, hardening);
    pod["metadata"]["name"] = json!(name::pod(owner.workspace, owner.workspace_uid));
    template.volume_claims.iter().filter_map(|claim| volume::retained(claim, owner)).chain([pod]).collect()
}

/// Whether `pod` belongs to the session of this uid: by its owner, or by the label where somebody took that.
pub fn belongs(pod: &Pod, session_uid: &str) -> bool {
    let foreign =
        pod.owner_references().iter().any(|owner| owner.controller == Some(true) && !is_session(owner, session_uid));
    is_owned(pod, session_uid)
        || (!foreign && pod.labels().get(SESSION_UID_LABEL).is_some_and(|uid| uid == session_uid))
}

/// Whether the session of this uid is an owner of `pod`.
pub fn is_owned(pod: &Pod, session_uid: &str) -> bool {
    pod.owner_references().iter().any(|owner| is_session(owner, session_uid))
}

/// The uid of the session that owns `pod`.
pub fn session_of(pod: &Pod) -> Option<&String> {
    pod.owner_references().iter().find(|owner| is_session(owner, &owner.uid)).map(|owner| &owner.uid)
}

/// A uid under another kind is what a stranger writes who knows a session's: admission lets only Berth name a Session.
fn is_session(owner: &OwnerReference, uid: &str) -> bool {
    owner.uid == uid && owner.kind == "Session" && owner.api_version.starts_with(&format!("{GROUP}/"))
}

/// The reference by which Kubernetes deletes the pod with its session.
pub fn owner_references(session: &Session) -> Value {
    json!([{
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "Session",
        "name": session.name_any(),
        "uid": session.uid(),
        "controller": true,
        "blockOwnerDeletion": false,
    }])
}

fn from_template(workspace: &Workspace, template: &Template, owner: Owner<'_>, hardening: &Hardening) -> Value {
    let meta = template.metadata.clone().unwrap_or_default();
    let mut labels = meta.labels;
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels.insert(WORKSPACE_UID_LABEL.to_owned(), owner.workspace_uid.to_owned());
    let mut annotations = meta.annotations;
    annotations.insert(WORKSPACE_ANNOTATION.to_owned(), owner.workspace.to_owned());
    annotations.insert(ACCESS_ANNOTATION.to_owned(), workspace.spec.access.without_host());
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "namespace": owner.namespace, "labels": labels, "annotations": annotations },
        "spec": spec(workspace, template, owner, hardening),
    })
}

/// The template's PodSpec as every instance has it here, with the volumes of its claims and what it is told.
fn spec(workspace: &Workspace, template: &Template, owner: Owner<'_>, hardening: &Hardening) -> Map<String, Value> {
    let mut spec = hardening.merged(&template.spec);
    let claims = template.volume_claims.iter().map(|claim| volume::in_pod(claim, owner));
    let mut volumes = spec.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
    volumes.extend(claims);
    if !volumes.is_empty() {
        spec.insert("volumes".to_owned(), Value::Array(volumes));
    }
    contract::mount(&mut spec, workspace);
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_a_sessions_by_a_session_as_its_owner_and_not_by_a_uid_alone() {
        let owned = |api_version: &str, kind: &str, controller: bool| -> Pod {
            let owner =
                json!({ "apiVersion": api_version, "kind": kind, "name": "a", "uid": "s", "controller": controller });
            serde_json::from_value(json!({ "metadata": { "name": "p", "ownerReferences": [owner] } })).unwrap()
        };
        assert!(belongs(&owned("berth.dev/v1alpha1", "Session", true), "s"));
        for (api_version, kind) in [("x.dev/v1", "Session"), ("berth.dev/v1alpha1", "Sessions"), ("v1", "Pod")] {
            for controller in [true, false] {
                assert!(!belongs(&owned(api_version, kind, controller), "s"), "{api_version} {kind}");
            }
            let mut labelled = owned(api_version, kind, true);
            labelled.metadata.labels = Some([(SESSION_UID_LABEL.to_owned(), "s".to_owned())].into());
            assert!(!belongs(&labelled, "s"), "another controls it");
        }
    }
}
