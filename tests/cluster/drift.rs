//! What others do to the operator's objects: labels and owners taken from a pod, a finalizer or a label from a
//! Session, a status written by hand, a pod's name taken by a stranger. Each is put right, or told.

use berth::api::condition::{self, Status, Type};
use berth::api::session::{Phase, SessionStatus};
use berth::api::{
    MANAGED_BY, MANAGED_BY_LABEL, Reason, SESSION_ANNOTATION, SESSION_FINALIZER, SESSION_UID_LABEL, Session,
    VELERO_EXCLUDE_LABEL, Workspace,
};
use berth::plan::name;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::harness::{Scene, status, strangers_pod};

async fn in_use(name: &str) -> (Scene, Session, String) {
    let scene = Scene::new(name).await;
    scene.workspace("box", json!({})).await;
    scene.session("mine", "box", json!({})).await;
    let session = scene.phase("mine", Phase::Active).await;
    let pod = status(&session).instance.unwrap().pod;
    (scene, session, pod)
}

/// Changes the pod's metadata, and waits until all of it is as the operator made it. Deleting the session then
/// takes the pod along.
async fn pod_is_put_right(name: &str, metadata: Value) {
    let (scene, session, pod) = in_use(name).await;
    let before = scene.get::<Pod>(&pod).await;
    scene.patch::<Pod>(&pod, json!({ "metadata": metadata })).await;
    scene
        .eventually("the pod is marked as before", || async {
            let after = scene.find::<Pod>(&pod).await?;
            let right = after.labels().get(SESSION_UID_LABEL) == session.metadata.uid.as_ref()
                && after.labels().get(MANAGED_BY_LABEL).is_some_and(|value| value == MANAGED_BY)
                && after.annotations().get(SESSION_ANNOTATION) == session.metadata.name.as_ref()
                && after.owner_references() == before.owner_references();
            (right && after.uid() == before.uid()).then_some(())
        })
        .await;
    assert_eq!(scene.seen("mine").phases().last(), Some(&Phase::Active));
    // It is watched again: its loss is noticed.
    scene.delete::<Pod>(&pod).await;
    scene.ended("mine", Phase::Failed, Reason::InstanceLost).await;
    scene.no_pods().await;
}

#[tokio::test]
async fn a_pod_whose_labels_were_taken_gets_them_back() {
    pod_is_put_right("labels", json!({ "labels": { MANAGED_BY_LABEL: null, SESSION_UID_LABEL: null } })).await;
}

#[tokio::test]
async fn a_pod_whose_labels_were_overwritten_gets_them_back() {
    pod_is_put_right("stomped", json!({ "labels": { MANAGED_BY_LABEL: "me", SESSION_UID_LABEL: "another" } })).await;
}

#[tokio::test]
async fn a_pod_whose_owner_was_taken_gets_it_back() {
    pod_is_put_right("owner", json!({ "ownerReferences": null })).await;
}

#[tokio::test]
async fn a_pod_whose_owner_was_taken_and_whose_session_is_gone_is_collected() {
    let (scene, _, pod) = in_use("orphan").await;
    let node = scene.get::<Pod>(&pod).await;
    // In one go: before the operator gives the owner back, the Session is let go of by somebody else.
    let mut wanted = json!({ "metadata": { "name": pod, "labels": node.labels(), "annotations": node.annotations() } });
    scene.disconnect("mine").await;
    scene.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    scene.no_pods().await;
    scene.delete::<Session>("mine").await;
    scene.gone::<Session>("mine").await;
    wanted["spec"] = strangers_pod(json!({}));
    scene.create::<Pod>(wanted).await;
    scene.no_pods().await;
}

#[tokio::test]
async fn a_pod_whose_annotations_were_taken_gets_them_back() {
    pod_is_put_right("annotations", json!({ "annotations": null })).await;
}

#[tokio::test]
async fn a_live_session_gets_its_finalizer_back_and_is_ended_before_it_goes() {
    let (scene, ..) = in_use("finalizer").await;
    scene.patch::<Session>("mine", json!({ "metadata": { "finalizers": null } })).await;
    scene
        .eventually("the finalizer is back", || async {
            let session = scene.find::<Session>("mine").await?;
            session.finalizers().iter().any(|name| name == SESSION_FINALIZER).then_some(())
        })
        .await;
    scene.delete::<Session>("mine").await;
    let story = scene.story("mine").await;
    assert_eq!(story.phases().last(), Some(&Phase::Terminated));
    scene.gone::<Session>("mine").await;
    scene.no_pods().await;
}

#[tokio::test]
async fn somebody_elses_finalizer_is_left_alone() {
    let (scene, ..) = in_use("foreign-finalizer").await;
    scene.patch::<Session>("mine", json!({ "metadata": { "finalizers": ["example.org/audit"] } })).await;
    scene
        .eventually("both finalizers are there", || async {
            let finalizers = scene.find::<Session>("mine").await?.finalizers().to_vec();
            (finalizers == ["example.org/audit", SESSION_FINALIZER]).then_some(())
        })
        .await;
    scene.disconnect("mine").await;
    scene
        .eventually("only the operator's own is gone", || async {
            let session = scene.find::<Session>("mine").await?;
            (session.finalizers() == ["example.org/audit"] && status(&session).ended_at.is_some()).then_some(())
        })
        .await;
    scene.patch::<Session>("mine", json!({ "metadata": { "finalizers": null } })).await;
}

#[tokio::test]
async fn a_session_keeps_the_label_that_leaves_it_out_of_backups() {
    let (scene, ..) = in_use("backup").await;
    for value in [json!(null), json!("false")] {
        scene.patch::<Session>("mine", json!({ "metadata": { "labels": { VELERO_EXCLUDE_LABEL: value } } })).await;
        scene
            .eventually("the label is back", || async {
                let session = scene.find::<Session>("mine").await?;
                session.labels().get(VELERO_EXCLUDE_LABEL).filter(|value| *value == "true").map(|_| ())
            })
            .await;
    }
    // After the end it is more needed than before.
    scene.disconnect("mine").await;
    scene.phase("mine", Phase::Disconnected).await;
    scene.patch::<Session>("mine", json!({ "metadata": { "labels": { VELERO_EXCLUDE_LABEL: null } } })).await;
    scene
        .eventually("the label is back", || async {
            scene.find::<Session>("mine").await?.labels().get(VELERO_EXCLUDE_LABEL).map(|_| ())
        })
        .await;
}

#[tokio::test]
async fn a_status_written_by_hand_is_written_back() {
    let (scene, session, _) = in_use("status").await;
    let before = status(&session);
    for overwritten in [
        json!({ "phase": "Pending", "message": "out of order" }),
        json!({ "phase": "Starting" }),
        json!({ "phase": "Idle", "idleSince": "2026-01-31T12:00:00Z" }),
        json!({ "conditions": [] }),
        json!({ "conditions": [{ "type": "EndingSoon", "status": "True", "reason": "Hand", "message": "soon",
                                 "lastTransitionTime": "2026-01-31T12:00:00Z" }] }),
        json!({ "disconnectAt": null, "disconnectReason": null, "url": "http://elsewhere.example.org" }),
        json!({ "policy": null }),
    ] {
        scene.observe("mine", overwritten.clone()).await.unwrap();
        scene
            .eventually(&format!("{overwritten} is written back"), || async {
                let mut after = status(&scene.find::<Session>("mine").await?);
                // When a condition that was taken away came back is told truly.
                for (condition, old) in after.conditions.iter_mut().zip(&before.conditions) {
                    condition.last_transition_time = old.last_transition_time;
                }
                (after == before).then_some(())
            })
            .await;
    }
    assert_eq!(scene.pods_of(&session).await.len(), 1);
}

#[tokio::test]
async fn a_phase_that_a_hand_wrote_launches_nothing_and_frees_nothing() {
    let scene = Scene::new("claimed").await;
    scene.session("mine", "nowhere", json!({})).await;
    scene.phase("mine", Phase::Pending).await;
    scene.observe("mine", json!({ "phase": "Active", "message": "mine" })).await.unwrap();
    scene
        .eventually("the session waits as before", || async {
            let status = status(&scene.find::<Session>("mine").await?);
            (status.phase == Some(Phase::Pending) && status.message? != "mine").then_some(())
        })
        .await;
    assert!(scene.list::<Pod>().await.is_empty());
}

/// A session whose pod's name a stranger has taken, before there was a Workspace.
async fn name_taken(scene: &Scene, policy: Value) -> String {
    scene.policy("default", policy).await;
    let session = scene.session("mine", "box", json!({})).await;
    let pod = name::pod("mine", &session.uid().unwrap());
    scene.create::<Pod>(json!({ "metadata": { "name": pod }, "spec": strangers_pod(json!({})) })).await;
    scene.workspace("box", json!({})).await;
    let told = |status: &SessionStatus| status.message.as_deref().is_some_and(|words| words.contains(&pod));
    scene
        .eventually("the session says whose name is taken", || async {
            scene.seen("mine").statuses().any(told).then_some(())
        })
        .await;
    pod
}

#[tokio::test]
async fn a_pods_name_that_a_stranger_has_is_told_and_the_stranger_left_alone() {
    let scene = Scene::new("stranger").await;
    let pod = name_taken(&scene, json!({ "startTimeout": "5s" })).await;
    let ended = scene.ended("mine", Phase::Failed, Reason::StartTimeout).await;
    let message = status(&ended).message.unwrap();
    assert!(message.contains(&format!("the pod {pod} stands and is not this session's: delete it")), "{message}");
    let stranger = scene.get::<Pod>(&pod).await;
    assert!(stranger.metadata.deletion_timestamp.is_none() && stranger.labels().is_empty());
}

#[tokio::test]
async fn a_session_starts_once_the_stranger_with_its_pods_name_is_gone() {
    let scene = Scene::new("stranger-gone").await;
    let pod = name_taken(&scene, json!({})).await;
    let ready = scene.condition("mine", Type::Ready, Status::Unknown).await;
    assert_eq!(ready.reason, "InstanceNotMade");
    scene.delete::<Pod>(&pod).await;
    let session = scene.phase("mine", Phase::Active).await;
    assert_eq!(status(&session).instance.unwrap().pod, pod);
}

#[tokio::test]
async fn a_pod_that_something_holds_has_lost_its_session_and_goes_when_it_is_let_go() {
    let (scene, _, pod) = in_use("held").await;
    scene.patch::<Pod>(&pod, json!({ "metadata": { "finalizers": ["example.org/hold"] } })).await;
    scene.disconnect("mine").await;
    scene.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    scene.let_go("mine").await;
    assert!(scene.get::<Pod>(&pod).await.metadata.deletion_timestamp.is_some(), "it was asked to go");
    scene.patch::<Pod>(&pod, json!({ "metadata": { "finalizers": null } })).await;
    scene.no_pods().await;
}

#[tokio::test]
async fn an_image_that_somebody_put_into_a_live_pod_is_told_and_the_session_goes_on_with_the_right_one() {
    let (scene, session, pod) = in_use("image").await;
    let image = scene.get::<Pod>(&pod).await.spec.unwrap().containers[0].image.clone();
    let with = |image: Value| json!({ "spec": { "containers": [{ "name": "main", "image": image }] } });
    let merge = |patch: Value| {
        let api = scene.api::<Pod>();
        let pod = pod.clone();
        async move {
            api.patch(&pod, &kube::api::PatchParams::default(), &kube::api::Patch::Strategic(patch)).await.unwrap()
        }
    };
    merge(with(json!("localhost/nobody-has-this:1"))).await;
    let ready = scene.condition("mine", Type::Ready, Status::False).await;
    assert!(ready.message.contains("main"), "{}", ready.message);
    assert_eq!(scene.seen("mine").phases().last(), Some(&Phase::Active));
    merge(with(json!(image))).await;
    scene.condition("mine", Type::Ready, Status::True).await;
    assert_eq!(status(&scene.get::<Session>("mine").await).instance, status(&session).instance);
}

#[tokio::test]
async fn a_secret_that_the_template_needs_and_somebody_deleted_is_named_and_its_return_is_enough() {
    let scene = Scene::new("secret").await;
    let mut spec = crate::harness::pod_spec(json!({}));
    spec["containers"][0]["envFrom"] = json!([{ "secretRef": { "name": "settings" } }]);
    scene.workspace("box", json!({ "template": { "spec": spec } })).await;
    scene.session("mine", "box", json!({})).await;
    scene
        .eventually("the session says what is missing", || async {
            let words = status(&scene.find::<Session>("mine").await?).message?;
            words.contains("settings").then_some(())
        })
        .await;
    scene.create::<Secret>(json!({ "metadata": { "name": "settings" } })).await;
    scene.phase("mine", Phase::Active).await;
}

#[tokio::test]
async fn a_webhook_that_does_not_answer_holds_launches_back_and_nobody_else() {
    let scene = Scene::new("webhook").await;
    scene.workspace("before", json!({})).await;
    scene.session("live", "before", json!({})).await;
    scene.phase("live", Phase::Active).await;
    let hook = json!({
        "metadata": { "name": scene.namespace },
        "webhooks": [{
            "name": "nobody.example.org", "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
            "failurePolicy": "Fail", "clientConfig": { "url": "https://127.0.0.1:1/" },
            "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": scene.namespace } },
            "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"] }],
        }],
    });
    let hooks: Api<ValidatingWebhookConfiguration> = Api::all(scene.client.clone());
    hooks.create(&PostParams::default(), &serde_json::from_value(hook).unwrap()).await.unwrap();
    scene.workspace("box", json!({})).await;
    scene.session("mine", "box", json!({})).await;
    let said = scene
        .eventually("somebody says which webhook", || async {
            let conditions = scene.find::<Workspace>("box").await?.status?.conditions;
            let valid = condition::find(&conditions, Type::TemplateValid)?.clone();
            valid.message.contains("nobody.example.org").then_some(valid)
        })
        .await;
    assert_ne!(said.status, Status::True);
    assert_eq!(status(&scene.get::<Session>("live").await).phase, Some(Phase::Active));
    hooks.delete(&scene.namespace, &DeleteParams::default()).await.unwrap();
    scene.phase("mine", Phase::Active).await;
}

#[tokio::test]
async fn a_budget_of_somebody_else_holds_no_end_up() {
    let (scene, ..) = in_use("foreign-budget").await;
    let spec = json!({ "minAvailable": "100%", "selector": { "matchLabels": { MANAGED_BY_LABEL: MANAGED_BY } } });
    scene.create::<PodDisruptionBudget>(json!({ "metadata": { "name": "none-may-go" }, "spec": spec })).await;
    scene.disconnect("mine").await;
    scene.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    scene.no_pods().await;
}
