//! Steps that several phases take, each safe to take again: the status, the marks, the instance. When they are taken
//! is the planner's choice.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Step, View, World};
use crate::api::{
    MANAGED_BY, MANAGED_BY_LABEL, SESSION_ANNOTATION, SESSION_FINALIZER, SESSION_UID_LABEL, Session, SessionStatus,
    USER_ANNOTATION, VELERO_EXCLUDE_LABEL, WORKSPACE_ANNOTATION, WORKSPACE_UID_LABEL, Workspace,
};
use crate::plan::endpoint::Target;
use crate::plan::pod;
use crate::plan::volume::{self, Owner};

/// The status as a step, unless it stands already.
pub(super) fn publish(view: &View, status: SessionStatus) -> Vec<Step> {
    if status == view.before { Vec::new() } else { vec![Step::Publish(Box::new(status))] }
}

/// The marks of a Session as a step, unless they stand already. A finalizer cannot be added to an object that
/// is being deleted.
pub(super) fn mark(session: &Session, live: bool) -> Option<Step> {
    let labelled = session.labels().get(VELERO_EXCLUDE_LABEL).is_some_and(|value| value == "true");
    let held = session.finalizers().iter().any(|finalizer| finalizer == SESSION_FINALIZER);
    let wanted = live && session.metadata.deletion_timestamp.is_none();
    (!labelled || held != wanted).then_some(Step::Mark { finalizer: wanted })
}

/// The steps that make the instance; each is safe to take again.
pub(super) fn provision(world: &World, workspace: &Workspace) -> Vec<Step> {
    let session = &world.session;
    match (&workspace.spec.template, &workspace.spec.endpoint) {
        (Some(template), _) => {
            let namespace = session.namespace().unwrap_or_default();
            let (name, uid) = (workspace.name_any(), workspace.uid().unwrap_or_default());
            let owner = Owner {
                namespace: &namespace,
                workspace: &name,
                workspace_uid: &uid,
                user: session.spec.user.id.as_str(),
            };
            let claims = template.volume_claims.iter().filter_map(|claim| volume::retained(claim, owner));
            let mut steps: Vec<Step> = claims.map(|claim| Step::EnsureClaim(Box::new(claim))).collect();
            steps.extend(world.secret.iter().flatten().cloned().map(Step::EnsureSecret));
            steps.push(Step::EnsurePod(Box::new(pod::for_session(session, workspace, template, &world.hardening))));
            steps
        }
        (None, Some(endpoint)) => vec![Step::Dial(Box::new(Target::of(endpoint, &workspace.spec.access)))],
        (None, None) => Vec::new(),
    }
}

/// Gives a pod of this session back what makes it findable and collectable, if somebody took it.
pub(super) fn restamp(world: &World) -> Vec<Step> {
    let session_uid = world.session.uid().unwrap_or_default();
    let workspace_uid = world.session.status.as_ref().and_then(|status| Some(status.workspace.as_ref()?.uid.clone()));
    let spec = &world.session.spec;
    let annotations = [
        (SESSION_ANNOTATION, world.session.name_any()),
        (WORKSPACE_ANNOTATION, spec.workspace_ref.name.to_string()),
        (USER_ANNOTATION, spec.user.id.to_string()),
    ];
    // Without the Workspace's uid that label is left alone: by it the instance is behind its wall.
    let mut labels = serde_json::json!({ SESSION_UID_LABEL: session_uid, MANAGED_BY_LABEL: MANAGED_BY });
    if let Some(uid) = &workspace_uid {
        labels[WORKSPACE_UID_LABEL] = serde_json::json!(uid);
    }
    let bare = |pod: &&Arc<Pod>| {
        let labelled = pod.labels().get(SESSION_UID_LABEL) == Some(&session_uid)
            && pod.labels().get(MANAGED_BY_LABEL).is_some_and(|value| value == MANAGED_BY)
            && (workspace_uid.is_none() || pod.labels().get(WORKSPACE_UID_LABEL) == workspace_uid.as_ref());
        let owned = pod::is_owned(pod, &session_uid);
        let named = annotations.iter().all(|(key, value)| pod.annotations().get(*key) == Some(value));
        pod.metadata.deletion_timestamp.is_none() && !(labelled && owned && named)
    };
    let stamp = |pod: &Arc<Pod>| Step::Restamp {
        pod: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        metadata: Box::new(serde_json::json!({
            "labels": labels,
            "annotations": annotations.iter().cloned().collect::<BTreeMap<_, _>>(),
            "ownerReferences": pod::owner_references(&world.session),
        })),
    };
    world.pods.iter().filter(bare).map(stamp).collect()
}
