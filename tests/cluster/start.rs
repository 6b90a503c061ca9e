//! What a session says while its instance is being made, and how a start fails.

use berth::api::condition::{Status, Type};
use berth::api::session::Phase;
use berth::api::{Reason, Session, Workspace};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::harness::{Scene, pod_spec, status, workspace_spec};

/// A Workspace of pods with something wrong, and a session on it under a short start timeout.
async fn troubled(scene: &Scene, pod: Value, timeout: &str) {
    scene.policy("short", json!({ "startTimeout": timeout })).await;
    scene.workspace("box", json!({ "policyRef": { "name": "short" }, "template": { "spec": pod } })).await;
    scene.session("mine", "box", json!({})).await;
}

#[tokio::test]
async fn an_image_that_is_not_there_is_told_in_the_pods_words_and_fails_the_start_in_time() {
    let scene = Scene::new("image").await;
    troubled(&scene, pod_spec(json!({ "image": "localhost/no-such-image:1" })), "8s").await;
    scene.phase("mine", Phase::Starting).await;
    scene.session("next", "box", json!({ "user": { "id": "bob" } })).await;
    scene.event("mine", "ErrImageNeverPull").await;
    let failed = scene.ended("mine", Phase::Failed, Reason::StartTimeout).await;
    let message = status(&failed).message.unwrap();
    assert!(message.contains("8s") && message.contains("no-such-image"), "{message}");
    let story = scene.story("mine").await;
    assert_eq!(story.phases(), [Phase::Starting, Phase::Failed]);
    scene.event("mine", "StartTimeout").await;
    scene
        .eventually("the failed session has no pod", || async { scene.pods_of(&failed).await.is_empty().then_some(()) })
        .await;
    // Its slot is free again.
    scene
        .eventually("the next session has its turn", || async {
            scene.seen("next").phases().contains(&Phase::Starting).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_pod_that_no_node_can_take_says_so() {
    let scene = Scene::new("nowhere").await;
    let mut pod = pod_spec(json!({}));
    pod["nodeSelector"] = json!({ "berth-test/nowhere": "true" });
    troubled(&scene, pod, "5s").await;
    scene.event("mine", "Unschedulable").await;
    let failed = scene.ended("mine", Phase::Failed, Reason::StartTimeout).await;
    assert!(status(&failed).message.unwrap().contains("nodes are available"), "{failed:?}");
    scene.no_pods().await;
}

#[tokio::test]
async fn a_container_that_crashes_again_and_again_says_so_and_can_be_ended() {
    let scene = Scene::new("crash").await;
    troubled(&scene, pod_spec(json!({ "command": ["sh", "-c", "exit 7"] })), "5m").await;
    let ready = scene
        .eventually("the crash loop is told", || async {
            let conditions = status(&scene.find::<Session>("mine").await?).conditions;
            let ready = berth::api::condition::find(&conditions, Type::Ready)?.clone();
            (ready.reason == "CrashLoopBackOff").then_some(ready)
        })
        .await;
    assert_eq!(ready.status, Status::Unknown);
    assert!(ready.message.contains("last exit 7"), "{}", ready.message);
    assert_eq!(scene.seen("mine").phases(), [Phase::Starting]);
    scene.disconnect("mine").await;
    scene.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    scene.no_pods().await;
}

#[tokio::test]
async fn an_instance_over_the_quota_is_made_once_there_is_room() {
    let scene = Scene::new("quota").await;
    scene.create::<ResourceQuota>(json!({ "metadata": { "name": "pods" }, "spec": { "hard": { "pods": "0" } } })).await;
    scene
        .eventually("the quota is in force", || async { scene.find::<ResourceQuota>("pods").await?.status?.hard })
        .await;
    scene.workspace("box", json!({})).await;
    scene.session("mine", "box", json!({})).await;
    scene.event("mine", "InstanceNotMade").await;
    let starting = scene.phase("mine", Phase::Starting).await;
    assert!(status(&starting).message.unwrap().contains("exceeded quota"));
    assert!(scene.pods_of(&starting).await.is_empty());
    scene.patch::<ResourceQuota>("pods", json!({ "spec": { "hard": { "pods": "5" } } })).await;
    scene.phase("mine", Phase::Active).await;
}

#[tokio::test]
async fn a_session_is_active_only_when_its_pod_is_ready() {
    let scene = Scene::new("slow").await;
    // It is ready once the test says so, by a label that the pod sees as a file.
    let mut pod = pod_spec(json!({
        "readinessProbe": { "tcpSocket": null, "exec": { "command": ["grep", "-q", "go", "/etc/podinfo/labels"] } },
        "volumeMounts": [{ "name": "info", "mountPath": "/etc/podinfo" }],
    }));
    pod["volumes"] = json!([{ "name": "info", "downwardAPI": {
        "items": [{ "path": "labels", "fieldRef": { "fieldPath": "metadata.labels['berth-test']" } }],
    }}]);
    troubled(&scene, pod, "5m").await;
    let pod = scene
        .eventually("the container runs", || async {
            let pod = scene.list::<Pod>().await.into_iter().next()?;
            let running = pod.status.as_ref()?.container_statuses.as_ref()?.first()?.started == Some(true);
            running.then_some(pod)
        })
        .await;
    assert_eq!(scene.seen("mine").phases(), [Phase::Starting]);
    let starting = scene.get::<Session>("mine").await;
    assert_eq!(status(&starting).ready_at, None);
    assert_eq!(status(&starting).url, None);
    scene.patch::<Pod>(&pod.name_any(), json!({ "metadata": { "labels": { "berth-test": "go" } } })).await;
    let active = scene.phase("mine", Phase::Active).await;
    let instance = status(&active).instance.unwrap();
    assert_eq!((Some(instance.pod), Some(instance.uid)), (pod.metadata.name.clone(), pod.metadata.uid.clone()));
    assert_eq!(status(&active).url, Some(format!("http://{}:8080", instance.ip.unwrap())));
    scene.event("mine", "Active").await;
}

#[tokio::test]
async fn a_session_that_comes_together_with_a_wrong_workspace_waits_for_the_mend() {
    let scene = Scene::new("together").await;
    // The API server refuses the port, which our own check lets pass.
    let wrong =
        workspace_spec(json!({ "template": { "spec": pod_spec(json!({ "ports": [{ "containerPort": 0 }] })) } }));
    let (workspace, session) = tokio::join!(
        scene.create::<Workspace>(json!({ "metadata": { "name": "box" }, "spec": wrong })),
        scene.session("mine", "box", json!({})),
    );
    assert_eq!(session.spec.workspace_ref.name.to_string(), workspace.name_any());
    scene
        .eventually("the refusal is told", || async {
            let admitted = scene.condition("mine", Type::Admitted, Status::False).await;
            (admitted.reason == "TemplateInvalid").then_some(())
        })
        .await;
    let mended = json!({ "spec": { "template": { "spec": pod_spec(json!({})) } } });
    scene.patch::<Workspace>("box", mended).await;
    scene.phase("mine", Phase::Active).await;
    assert_eq!(scene.seen("mine").phases(), [Phase::Pending, Phase::Starting, Phase::Active]);
}
