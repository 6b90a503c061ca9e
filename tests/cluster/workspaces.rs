//! What becomes of sessions when their Workspace is edited, taken into maintenance or deleted, and of a one-off
//! Workspace when its session has ended.

use berth::api::condition::{Status, Type};
use berth::api::session::Phase;
use berth::api::workspace::WorkspacePhase;
use berth::api::{Reason, Session, SessionPolicy, Workspace};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::harness::{Scene, container, idle, merged, phase, pod_spec, status, workspace_spec};

#[tokio::test]
async fn an_edit_leaves_live_sessions_alone_and_the_next_launch_has_it() {
    let scene = Scene::new("edit").await;
    scene.workspace("box", json!({ "maxSessions": 2 })).await;
    scene.session("before", "box", json!({})).await;
    let active = scene.phase("before", Phase::Active).await;
    let pod = scene.pods_of(&active).await.remove(0);

    let template = pod_spec(
        json!({ "command": ["httpd", "-f", "-p", "9090"], "readinessProbe": { "tcpSocket": { "port": 9090 } } }),
    );
    let edit =
        json!({ "displayName": "Box, second edition", "access": { "port": 9090 }, "template": { "spec": template } });
    scene.patch::<Workspace>("box", json!({ "spec": edit })).await;
    scene.session("after", "box", json!({ "user": { "id": "bob" } })).await;
    let next = scene.phase("after", Phase::Active).await;
    assert!(status(&next).url.unwrap().ends_with(":9090"));
    assert_eq!(status(&next).workspace.unwrap().display_name, "Box, second edition");
    let command = scene.pods_of(&next).await.remove(0).spec.unwrap().containers.remove(0).command.unwrap();
    assert_eq!(command.last().unwrap(), "9090");

    // The first session is looked at again, and stays as it was: its pod still listens where it did.
    scene.patch::<Session>("before", json!({ "spec": { "keepAliveAt": "2026-01-01T00:00:00Z" } })).await;
    let looked_at = scene
        .eventually("the first session was looked at", || async {
            let session = scene.find::<Session>("before").await?;
            (status(&session).observed_generation == session.metadata.generation).then_some(session)
        })
        .await;
    let (then, now) = (status(&active), status(&looked_at));
    assert_eq!((now.phase, &now.instance, &now.url), (Some(Phase::Active), &then.instance, &then.url));
    assert_eq!(now.workspace, then.workspace);
    let same = scene.get::<Pod>(&pod.name_any()).await;
    assert_eq!((same.uid(), same.metadata.deletion_timestamp), (pod.uid(), None));
}

#[tokio::test]
async fn an_edit_that_breaks_the_template_ends_nobody_and_holds_launches_back() {
    let scene = Scene::new("break").await;
    scene.workspace("box", json!({ "maxSessions": 2 })).await;
    scene.session("before", "box", json!({})).await;
    scene.phase("before", Phase::Active).await;
    scene.patch::<Workspace>("box", json!({ "spec": { "template": { "spec": { "hostNetwork": true } } } })).await;
    scene.workspace_phase("box", WorkspacePhase::Unavailable).await;
    scene.session("after", "box", json!({})).await;
    scene.event("after", "TemplateInvalid").await;
    assert_eq!(phase(&scene.get::<Session>("before").await), Some(Phase::Active));
    scene.patch::<Workspace>("box", json!({ "spec": { "template": { "spec": { "hostNetwork": null } } } })).await;
    scene.phase("after", Phase::Active).await;
}

#[tokio::test]
async fn a_session_finishes_under_maintenance() {
    let scene = Scene::new("finish").await;
    scene.workspace("box", json!({ "maxSessions": 2 })).await;
    scene.session("before", "box", json!({})).await;
    scene.phase("before", Phase::Active).await;
    scene.patch::<Workspace>("box", json!({ "spec": { "maintenance": true } })).await;
    scene.workspace_phase("box", WorkspacePhase::Maintenance).await;
    scene.session("after", "box", json!({})).await;
    scene.event("after", "Maintenance").await;
    assert_eq!(phase(&scene.get::<Session>("before").await), Some(Phase::Active));
    scene.disconnect("before").await;
    scene.ended("before", Phase::Disconnected, Reason::UserDisconnected).await;
    assert_eq!(phase(&scene.get::<Session>("after").await), Some(Phase::Pending));
}

#[tokio::test]
async fn a_workspace_deleted_under_a_live_session_ends_it_after_a_warning() {
    let scene = Scene::new("delete").await;
    scene.policy("rules", json!({ "warnBefore": "5s" })).await;
    scene.workspace("box", json!({ "policyRef": { "name": "rules" } })).await;
    scene.session("mine", "box", json!({})).await;
    scene.phase("mine", Phase::Active).await;
    scene.session("second", "box", json!({})).await;
    scene.phase("second", Phase::Pending).await;
    scene.delete::<Workspace>("box").await;
    scene.condition("mine", Type::WorkspaceMissing, Status::True).await;
    scene.ended("second", Phase::Terminated, Reason::WorkspaceDeleted).await;
    scene.session("third", "box", json!({})).await;
    scene.event("third", "WorkspaceNotFound").await;
    let ended = scene.ended("mine", Phase::Terminated, Reason::WorkspaceDeleted).await;
    let story = scene.story("mine").await;
    assert!(story.words(Type::EndingSoon).unwrap().contains("its Workspace is gone"));
    let gone = story
        .statuses()
        .find_map(|seen| berth::api::condition::find(&seen.conditions, Type::WorkspaceMissing).cloned())
        .unwrap();
    let notice = status(&ended).ended_at.unwrap() - gone.last_transition_time;
    assert!(notice >= chrono::TimeDelta::seconds(5), "{notice}");
    scene.event("mine", "EndingSoon").await;
    scene.gone::<Workspace>("box").await;
    scene.no_pods().await;
}

#[tokio::test]
async fn a_workspace_made_anew_under_the_old_name_is_another_one() {
    let scene = Scene::new("anew").await;
    scene.policy("rules", json!({ "warnBefore": "4s" })).await;
    let spec = json!({ "policyRef": { "name": "rules" }, "maxSessions": 2 });
    scene.workspace("box", spec.clone()).await;
    scene.session("mine", "box", json!({})).await;
    scene.phase("mine", Phase::Active).await;
    scene.delete::<Workspace>("box").await;
    scene.gone::<Workspace>("box").await;
    scene.workspace("box", spec).await;
    scene.session("next", "box", json!({})).await;
    scene.phase("next", Phase::Active).await;
    scene.ended("mine", Phase::Terminated, Reason::WorkspaceDeleted).await;
    assert_eq!(phase(&scene.get::<Session>("next").await), Some(Phase::Active));
}

/// A one-off Workspace, with `more` over its spec and `meta` over its metadata.
async fn one_off(scene: &Scene, more: Value, meta: Value) {
    let spec = workspace_spec(merged(json!({ "reclaimPolicy": "Delete", "policyRef": { "name": "rules" } }), more));
    let metadata = merged(json!({ "name": "box" }), meta);
    scene.create::<Workspace>(json!({ "metadata": metadata, "spec": spec })).await;
}

#[tokio::test]
async fn a_one_off_workspace_goes_after_a_disconnect_and_its_history_stays() {
    let scene = Scene::new("oneoff").await;
    scene.policy("rules", json!({})).await;
    one_off(&scene, json!({}), json!({})).await;
    scene.session("mine", "box", json!({})).await;
    scene.phase("mine", Phase::Active).await;
    scene.session("second", "box", json!({})).await;
    scene.phase("second", Phase::Pending).await;
    scene.disconnect("mine").await;
    // Somebody waits for it: it is not served yet.
    scene.phase("second", Phase::Active).await;
    assert!(scene.get::<Workspace>("box").await.metadata.deletion_timestamp.is_none());
    scene.disconnect("second").await;
    scene.gone::<Workspace>("box").await;
    scene.event("box", "Reclaimed").await;
    for name in ["mine", "second"] {
        scene.ended(name, Phase::Disconnected, Reason::UserDisconnected).await;
    }
    scene.no_pods().await;
}

#[tokio::test]
async fn a_one_off_workspace_goes_after_a_timeout() {
    let scene = Scene::new("oneofftime").await;
    scene.policy("rules", idle(1, 2, 4)).await;
    one_off(&scene, json!({}), json!({})).await;
    scene.session("mine", "box", json!({})).await;
    scene.ended("mine", Phase::Disconnected, Reason::IdleTimeout).await;
    scene.gone::<Workspace>("box").await;
}

#[tokio::test]
async fn a_one_off_workspace_stays_after_an_administrator_has_cut_its_session_off() {
    let scene = Scene::new("cutoff").await;
    scene.policy("rules", json!({})).await;
    one_off(&scene, json!({}), json!({})).await;
    scene.session("mine", "box", json!({})).await;
    scene.phase("mine", Phase::Active).await;
    scene.workspace_phase("box", WorkspacePhase::InUse).await;
    scene.patch::<Session>("mine", json!({ "spec": { "desiredState": "Terminated" } })).await;
    scene.ended("mine", Phase::Terminated, Reason::AdministratorEnded).await;
    scene.workspace_phase("box", WorkspacePhase::Available).await;
    // It is launched again, and goes when that session is over.
    scene.session("again", "box", json!({})).await;
    scene.phase("again", Phase::Active).await;
    scene.disconnect("again").await;
    scene.gone::<Workspace>("box").await;
}

#[tokio::test]
async fn a_one_off_workspace_that_was_never_used_stays() {
    let scene = Scene::new("unused").await;
    scene.policy("rules", json!({ "startTimeout": "3s" })).await;
    one_off(&scene, json!({ "template": { "spec": pod_spec(json!({ "command": ["sleep", "600"] })) } }), json!({}))
        .await;
    scene.session("mine", "box", json!({})).await;
    scene.ended("mine", Phase::Failed, Reason::StartTimeout).await;
    // It can be mended, and then serves its purpose.
    scene.workspace_phase("box", WorkspacePhase::Available).await;
    scene
        .patch::<Workspace>("box", json!({ "spec": { "template": { "spec": { "containers": [container()] } } } }))
        .await;
    scene.patch::<SessionPolicy>("rules", json!({ "spec": { "startTimeout": "5m" } })).await;
    scene.session("second", "box", json!({})).await;
    scene.phase("second", Phase::Active).await;
    scene.disconnect("second").await;
    scene.gone::<Workspace>("box").await;
}

#[tokio::test]
async fn a_one_off_workspace_that_a_tool_tracks_stays() {
    let scene = Scene::new("tracked").await;
    scene.policy("rules", json!({})).await;
    one_off(
        &scene,
        json!({}),
        json!({ "annotations": { "argocd.argoproj.io/tracking-id": "app:berth.dev/Workspace:x" } }),
    )
    .await;
    scene.session("mine", "box", json!({})).await;
    scene.phase("mine", Phase::Active).await;
    scene.disconnect("mine").await;
    scene.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    // Its status shows that it was looked at since.
    scene.workspace_phase("box", WorkspacePhase::Available).await;
    assert!(scene.get::<Workspace>("box").await.metadata.deletion_timestamp.is_none());
}
