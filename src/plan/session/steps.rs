//! Steps that several phases take, each safe to take again: the status, the marks, the instance. When they are taken
//! is the planner's choice.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::pod::Pod;
use kube::ResourceExt;

use super::{Step, View, World, is_spent};
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
            let owner = Owner::of(workspace, session.spec.user.id.as_str());
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

/// The adoption of the pod of the pool that the session may have. Nobody else gets it: the patch holds the version in which it was
/// ready and nobody's.
pub(super) fn adopt(world: &World, workspace: &Workspace) -> Option<Step> {
    let (pod, template) = (world.warm.as_ref()?, workspace.spec.template.as_ref()?);
    let uid = pod.uid()?;
    let mut metadata = pod::personal(&world.session, workspace, template);
    metadata["uid"] = serde_json::json!(uid);
    metadata["resourceVersion"] = serde_json::json!(pod.resource_version());
    Some(Step::Adopt { pod: pod.name_any(), uid, metadata: Box::new(metadata) })
}

/// Deletes adopted pods that broke before anybody could use them.
pub(super) fn discard(world: &World, before: &SessionStatus) -> Vec<Step> {
    staying(world.pods.iter().filter(|pod| is_spent(pod, before)))
        .map(|(pod, uid)| Step::Discard { pod, uid })
        .collect()
}

/// Deletes pods of the session beside the one that its status names: only of two operators at once each could give it one, and
/// nobody was ever in this.
pub(super) fn surplus(world: &World, before: &SessionStatus) -> Vec<Step> {
    let Some(named) = &before.instance else { return Vec::new() };
    let is_there = world.pods.iter().any(|pod| pod.uid().as_ref() == Some(&named.uid));
    let others = world.pods.iter().filter(|pod| is_there && pod.uid().as_ref() != Some(&named.uid));
    staying(others).map(|(pod, uid)| Step::Discard { pod, uid }).collect()
}

/// Deletes all pods of a session that has ended.
pub(super) fn release(world: &World) -> Vec<Step> {
    staying(world.pods.iter()).map(|(pod, uid)| Step::DeletePod { pod, uid }).collect()
}

/// The name and the uid of each that is not going already.
fn staying<'a>(pods: impl Iterator<Item = &'a Arc<Pod>>) -> impl Iterator<Item = (String, String)> {
    let staying = pods.filter(|pod| pod.metadata.deletion_timestamp.is_none());
    staying.map(|pod| (pod.name_any(), pod.uid().unwrap_or_default()))
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
