//! How a session is ended by people, at any moment of its life; that nothing is left, and that the end stays.

use berth::api::condition::{Type, find, is_true};
use berth::api::session::Phase;
use berth::api::time::from_wire;
use berth::api::{Reason, Session};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::harness::{Scene, end, idle, pod_spec, status};

/// A session on a Workspace whose pod also claims a volume that goes with it.
async fn launched(name: &str, policy: Value, container: Value) -> Scene {
    let scene = Scene::new(name).await;
    let mut pod = pod_spec(container);
    pod["containers"][0]["volumeMounts"] = json!([{ "name": "scratch", "mountPath": "/scratch" }]);
    let claim = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "8Mi" } } });
    let template = json!({ "spec": pod, "volumeClaims": [{ "name": "scratch", "spec": claim }] });
    scene.policy("rules", policy).await;
    scene.workspace("box", json!({ "policyRef": { "name": "rules" }, "template": template })).await;
    scene.session("mine", "box", json!({})).await;
    scene
}

/// Nothing of the session is left but, if it stands, the session itself.
async fn nothing_is_left(scene: &Scene) {
    scene.no_pods().await;
    scene
        .eventually("no claim is left", || async {
            scene.list::<PersistentVolumeClaim>().await.is_empty().then_some(())
        })
        .await;
    for session in scene.list::<Session>().await.iter().filter(|session| end(session).is_some()) {
        scene.let_go(&session.name_any()).await;
    }
}

#[tokio::test]
async fn a_user_disconnects_and_everything_is_released() {
    let scene = launched("disconnect", json!({}), json!({})).await;
    scene.phase("mine", Phase::Active).await;
    assert_eq!(scene.list::<PersistentVolumeClaim>().await.len(), 1);
    scene.disconnect("mine").await;
    let ended = scene.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    let after = status(&ended);
    assert!(is_true(&after.conditions, Type::Ended));
    assert_eq!(find(&after.conditions, Type::Ready), None);
    assert_eq!((after.url, after.disconnect_at), (None, None));
    assert_eq!(after.started_at, ended.metadata.creation_timestamp.as_ref().map(from_wire));
    assert!(after.duration.is_some() && after.instance.is_some());
    assert_eq!(after.observed_generation, ended.metadata.generation);
    scene.event("mine", "UserDisconnected").await;
    nothing_is_left(&scene).await;
}

#[tokio::test]
async fn an_administrator_terminates() {
    let scene = launched("terminate", json!({}), json!({})).await;
    scene.phase("mine", Phase::Active).await;
    scene.patch::<Session>("mine", json!({ "spec": { "desiredState": "Terminated" } })).await;
    scene.ended("mine", Phase::Terminated, Reason::AdministratorEnded).await;
    nothing_is_left(&scene).await;
}

#[tokio::test]
async fn an_end_request_is_granted_in_its_own_words() {
    let scene = launched("request", json!({}), json!({})).await;
    scene.phase("mine", Phase::Active).await;
    let request = json!({ "as": "Terminated", "reason": "WorkspaceStopped", "actor": "eve" });
    scene.observe("mine", json!({ "endRequest": request })).await.unwrap();
    let ended = scene.ended("mine", Phase::Terminated, Reason::WorkspaceStopped).await;
    assert!(status(&ended).message.unwrap().contains("eve"));
    nothing_is_left(&scene).await;
}

#[tokio::test]
async fn a_session_deleted_while_it_waits_is_gone() {
    let scene = launched("delpending", json!({}), json!({})).await;
    scene.phase("mine", Phase::Active).await;
    scene.session("second", "box", json!({})).await;
    scene.phase("second", Phase::Pending).await;
    scene.delete::<Session>("second").await;
    scene.gone::<Session>("second").await;
    let story = scene.story("second").await;
    assert_eq!(story.phases(), [Phase::Pending, Phase::Terminated]);
    assert_eq!(scene.phase("mine", Phase::Active).await.finalizers().len(), 1);
}

#[tokio::test]
async fn a_session_deleted_before_anybody_looked_at_it_is_gone() {
    let scene = Scene::new("delnew").await;
    scene.workspace("box", json!({ "maxSessions": 20 })).await;
    for number in 0..10 {
        let name = format!("s{number}");
        scene.session(&name, "box", json!({})).await;
        scene.delete::<Session>(&name).await;
    }
    scene.eventually("they are gone", || async { scene.list::<Session>().await.is_empty().then_some(()) }).await;
    nothing_is_left(&scene).await;
}

#[tokio::test]
async fn a_session_deleted_while_it_starts_is_gone_with_its_pod() {
    let scene = launched("delstarting", json!({}), json!({ "command": ["sleep", "600"] })).await;
    scene.phase("mine", Phase::Starting).await;
    scene.eventually("its pod stands", || async { (!scene.list::<Pod>().await.is_empty()).then_some(()) }).await;
    scene.delete::<Session>("mine").await;
    scene.gone::<Session>("mine").await;
    assert_eq!(scene.story("mine").await.phases(), [Phase::Starting, Phase::Terminated]);
    nothing_is_left(&scene).await;
}

#[tokio::test]
async fn a_session_deleted_while_it_is_active_is_ended_and_gone_with_its_pod() {
    let scene = launched("delactive", json!({}), json!({})).await;
    scene.phase("mine", Phase::Active).await;
    scene.delete::<Session>("mine").await;
    scene.gone::<Session>("mine").await;
    let story = scene.story("mine").await;
    assert_eq!(story.0.last().and_then(end), Some((Phase::Terminated, Reason::SessionDeleted)));
    scene.event("mine", "SessionDeleted").await;
    nothing_is_left(&scene).await;
}

#[tokio::test]
async fn a_session_deleted_while_it_is_idle_is_ended_and_gone_with_its_pod() {
    let scene = launched("delidle", idle(1, 300, 600), json!({})).await;
    scene.phase("mine", Phase::Idle).await;
    scene.delete::<Session>("mine").await;
    scene.gone::<Session>("mine").await;
    assert_eq!(scene.story("mine").await.0.last().and_then(end), Some((Phase::Terminated, Reason::SessionDeleted)));
    nothing_is_left(&scene).await;
}

#[tokio::test]
async fn a_session_deleted_after_its_end_keeps_its_reason_and_is_gone() {
    let scene = launched("delended", json!({}), json!({})).await;
    scene.phase("mine", Phase::Active).await;
    scene.disconnect("mine").await;
    scene.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    scene.delete::<Session>("mine").await;
    scene.gone::<Session>("mine").await;
    assert_eq!(scene.story("mine").await.0.last().and_then(end), Some((Phase::Disconnected, Reason::UserDisconnected)));
    nothing_is_left(&scene).await;
}

#[tokio::test]
async fn a_session_that_is_made_anew_under_an_old_name_has_another_pod() {
    let scene = launched("again", json!({}), json!({})).await;
    let first = status(&scene.phase("mine", Phase::Active).await).instance.unwrap();
    scene.delete::<Session>("mine").await;
    scene.gone::<Session>("mine").await;
    scene.session("mine", "box", json!({})).await;
    let second = status(&scene.phase("mine", Phase::Active).await).instance.unwrap();
    assert_ne!(first.pod, second.pod);
}

#[tokio::test]
async fn an_ended_session_cannot_be_revived() {
    let scene = launched("sticky", json!({}), json!({})).await;
    scene.phase("mine", Phase::Active).await;
    scene.disconnect("mine").await;
    let ended = scene.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    nothing_is_left(&scene).await;
    let settled = scene.get::<Session>("mine").await;
    let api = scene.api::<Session>();
    let again = "create a new Session to launch again";

    for (what, patch) in [
        ("the phase alone", json!({ "status": { "phase": "Active" } })),
        ("another end", json!({ "status": { "phase": "Failed" } })),
        ("no end", json!({ "status": { "endedAt": null } })),
        ("a later end", json!({ "status": { "endedAt": "2100-01-01T00:00:00Z" } })),
        ("alive again", json!({ "status": { "phase": "Active", "endedAt": null } })),
        ("no status", json!({ "status": null })),
    ] {
        let refused = api.patch_status("mine", &PatchParams::default(), &Patch::Merge(patch)).await;
        assert!(refused.as_ref().is_err_and(|error| error.to_string().contains(again)), "{what}: {refused:?}");
    }
    for (what, patch) in [
        ("launched again", json!({ "spec": { "desiredState": "Connected" } })),
        ("kept alive", json!({ "spec": { "keepAliveAt": "2100-01-01T00:00:00Z" } })),
    ] {
        let refused = api.patch("mine", &PatchParams::default(), &Patch::Merge(patch)).await;
        assert!(refused.as_ref().is_err_and(|error| error.to_string().contains(again)), "{what}: {refused:?}");
    }
    let bare = Session { status: None, ..settled.clone() };
    let refused = api.replace_status("mine", &PostParams::default(), &bare).await;
    assert!(refused.as_ref().is_err_and(|error| error.to_string().contains(again)), "{refused:?}");
    // What goes by way of the spec leaves the status where it is.
    let kept = api.replace("mine", &PostParams::default(), &bare).await.unwrap();
    assert_eq!(kept.status, ended.status);
    assert_eq!(scene.get::<Session>("mine").await.status, ended.status);
}

#[tokio::test]
async fn an_end_is_not_taken_back_by_the_one_who_asked_for_it() {
    let scene = launched("backwards", json!({}), json!({ "command": ["sleep", "600"] })).await;
    scene.phase("mine", Phase::Starting).await;
    scene.patch::<Session>("mine", json!({ "spec": { "desiredState": "Terminated" } })).await;
    let back = Patch::Merge(json!({ "spec": { "desiredState": "Disconnected" } }));
    let refused = scene.api::<Session>().patch("mine", &PatchParams::default(), &back).await;
    assert!(refused.is_err(), "{refused:?}");
    scene.ended("mine", Phase::Terminated, Reason::AdministratorEnded).await;
    nothing_is_left(&scene).await;
}
