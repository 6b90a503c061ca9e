//! What a session finds on its volumes: what its user left there, nobody else's, and nothing where they go with
//! the session.

use berth::api::session::Phase;
use berth::api::{Reason, Session, Workspace};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, LogParams};
use serde_json::{Value, json};

use crate::harness::{Scene, pod_spec, status};

/// A Workspace whose pods say what they find on their volume, and leave their own name there.
async fn with_volume(scene: &Scene, retention: &str, slots: u32) {
    let script = "cat /data/mark || echo empty; hostname > /data/mark; exec httpd -f -p 8080";
    let mut pod = pod_spec(json!({ "command": ["sh", "-c", script] }));
    pod["containers"][0]["volumeMounts"] = json!([{ "name": "data", "mountPath": "/data" }]);
    let claim = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "8Mi" } } });
    let template = json!({ "spec": pod, "volumeClaims": [{ "name": "data", "retention": retention, "spec": claim }] });
    scene.workspace("box", json!({ "maxSessions": slots, "template": template })).await;
}

fn user(id: &str) -> Value {
    json!({ "user": { "id": id } })
}

/// The pod of the session once it is Active, and what it found.
async fn found(scene: &Scene, session: &str) -> (String, String) {
    let active = scene.phase(session, Phase::Active).await;
    let pod = status(&active).instance.unwrap().pod;
    let log = scene
        .eventually("the pod says what it found", || async {
            let log = scene.api::<Pod>().logs(&pod, &LogParams::default()).await.ok()?;
            log.lines().map(str::to_owned).find(|line| !line.starts_with("cat:"))
        })
        .await;
    (pod, log)
}

async fn disconnected(scene: &Scene, session: &str) {
    scene.disconnect(session).await;
    scene.ended(session, Phase::Disconnected, Reason::UserDisconnected).await;
}

#[tokio::test]
async fn a_retained_volume_waits_for_its_users_next_session_and_for_nobody_elses() {
    let scene = Scene::new("retain").await;
    with_volume(&scene, "Retain", 2).await;
    scene.session("anas-first", "box", user("ana")).await;
    let (left_by, first) = found(&scene, "anas-first").await;
    assert_eq!(first, "empty");
    disconnected(&scene, "anas-first").await;

    scene.session("bobs", "box", user("bob")).await;
    assert_eq!(found(&scene, "bobs").await.1, "empty");
    scene.session("anas-second", "box", user("ana")).await;
    assert_eq!(found(&scene, "anas-second").await.1, left_by);

    // It outlives everything that was made with it.
    for session in ["anas-first", "anas-second", "bobs"] {
        scene.delete::<Session>(session).await;
        scene.gone::<Session>(session).await;
    }
    scene.delete::<Workspace>("box").await;
    scene.gone::<Workspace>("box").await;
    scene.no_pods().await;
    let claims = scene.list::<PersistentVolumeClaim>().await;
    assert_eq!(claims.len(), 2);
    assert!(claims.iter().all(|claim| claim.metadata.deletion_timestamp.is_none()));
    assert!(claims.iter().all(|claim| claim.owner_references().is_empty()));
}

#[tokio::test]
async fn a_users_second_session_waits_until_the_first_lets_go_of_the_volume() {
    let scene = Scene::new("second").await;
    with_volume(&scene, "Retain", 3).await;
    scene.session("first", "box", user("ana")).await;
    let (left_by, _) = found(&scene, "first").await;
    scene.session("second", "box", user("ana")).await;
    let waiting = scene.phase("second", Phase::Pending).await;
    assert!(status(&waiting).message.unwrap().contains("waiting for your volumes"));
    scene.event("second", "VolumesInUse").await;
    // Nobody else waits behind it: there are slots.
    scene.session("bobs", "box", user("bob")).await;
    found(&scene, "bobs").await;
    disconnected(&scene, "first").await;
    assert_eq!(found(&scene, "second").await.1, left_by);
}

#[tokio::test]
async fn who_waits_for_volumes_of_their_own_holds_nobody_up() {
    let scene = Scene::new("aside").await;
    with_volume(&scene, "Retain", 1).await;
    // The pod ignores the signal to stop: it stays for as long as it is given.
    let spec = json!({ "template": { "spec": { "terminationGracePeriodSeconds": 45 } } });
    scene.patch::<Workspace>("box", json!({ "spec": spec })).await;
    scene.session("first", "box", user("ana")).await;
    found(&scene, "first").await;
    scene.session("second", "box", user("ana")).await;
    scene.phase("second", Phase::Pending).await;
    scene.session("bobs", "box", user("bob")).await;
    scene.phase("bobs", Phase::Pending).await;
    disconnected(&scene, "first").await;
    scene.phase("bobs", Phase::Active).await;
    assert_eq!(scene.seen("second").phases(), [Phase::Pending]);
    for pod in scene.list::<Pod>().await {
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        scene.api::<Pod>().delete(&pod.name_any(), &now).await.unwrap();
    }
}

#[tokio::test]
async fn a_session_waits_for_the_pod_before_it_also_when_that_is_slow_to_go() {
    let scene = Scene::new("slowpod").await;
    with_volume(&scene, "Retain", 2).await;
    // It ignores the signal to stop, and is given six seconds.
    scene
        .patch::<Workspace>(
            "box",
            json!({ "spec": { "template": { "spec": { "terminationGracePeriodSeconds": 6 } } } }),
        )
        .await;
    scene.session("first", "box", user("ana")).await;
    let (left_by, _) = found(&scene, "first").await;
    disconnected(&scene, "first").await;
    scene.session("second", "box", user("ana")).await;
    scene.event("second", "VolumesInUse").await;
    let (pod, log) = found(&scene, "second").await;
    assert_eq!(log, left_by);
    assert_eq!(scene.list::<Pod>().await.into_iter().map(|pod| pod.name_any()).collect::<Vec<_>>(), [pod]);
}

#[tokio::test]
async fn a_volume_that_is_not_retained_goes_with_its_session() {
    let scene = Scene::new("release").await;
    with_volume(&scene, "Delete", 1).await;
    scene.session("first", "box", user("ana")).await;
    assert_eq!(found(&scene, "first").await.1, "empty");
    let claim = scene.list::<PersistentVolumeClaim>().await.remove(0);
    disconnected(&scene, "first").await;
    scene.gone::<PersistentVolumeClaim>(&claim.name_any()).await;
    scene.session("second", "box", user("ana")).await;
    assert_eq!(found(&scene, "second").await.1, "empty");
}

#[tokio::test]
async fn a_claim_of_that_name_which_is_somebody_elses_is_not_used() {
    let scene = Scene::new("foreign").await;
    with_volume(&scene, "Retain", 1).await;
    scene.session("first", "box", user("ana")).await;
    found(&scene, "first").await;
    disconnected(&scene, "first").await;
    let claim = scene.list::<PersistentVolumeClaim>().await.remove(0).name_any();
    let other = json!({ "metadata": { "annotations": { berth::api::USER_ANNOTATION: "bob" } } });
    scene.patch::<PersistentVolumeClaim>(&claim, other).await;
    scene.session("second", "box", user("ana")).await;
    let told = scene.event("second", "InstanceNotMade").await;
    assert!(told.note.unwrap().contains("is not this user's"));
    assert!(scene.pods_of(&scene.get("second").await).await.is_empty());
}
