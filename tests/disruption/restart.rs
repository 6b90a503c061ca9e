//! What holds when the installed operator goes away and comes back. In the cluster it is a pod, which is deleted;
//! elsewhere somebody must say how it is restarted, in BERTH_TEST_RESTART.

use berth::api::condition::{Status, Type, is_true};
use berth::api::session::Phase;
use berth::api::{Reason, Session, SessionPolicy};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::harness::{Scene, idle, status};

pub(crate) const NAMESPACE: &str = "berth-system";
const LEASE: &str = "berth-operator";

/// Who leads.
pub(crate) async fn leader(scene: &Scene) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(scene.client.clone(), NAMESPACE);
    leases.get_opt(LEASE).await.unwrap()?.spec?.holder_identity.filter(|holder| !holder.is_empty())
}

/// Restarts the operator; returns when another one leads.
pub(crate) async fn restart(scene: &Scene) {
    let before = scene.eventually("somebody leads", || leader(scene)).await;
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), NAMESPACE);
    if pods.get_opt(&before).await.unwrap().is_some() {
        pods.delete(&before, &DeleteParams::default()).await.unwrap();
    } else {
        let Ok(command) = std::env::var("BERTH_TEST_RESTART") else {
            panic!("{before} leads and is no pod of {NAMESPACE}: say in BERTH_TEST_RESTART how to restart it")
        };
        let done = std::process::Command::new("sh").args(["-c", &command]).status().unwrap();
        assert!(done.success(), "{command}: {done}");
    }
    scene
        .eventually("another one leads", || async {
            leader(scene).await.filter(|holder| *holder != before).map(|_| ())
        })
        .await;
}

#[tokio::test]
async fn an_operator_that_comes_back_keeps_its_promises() {
    let scene = Scene::new("restart").await;
    // A policy that vanished before: its values hold from the status alone.
    scene.policy("rules", idle(60, 120, 600)).await;
    scene.workspace("ruled", json!({ "policyRef": { "name": "rules" } })).await;
    scene.session("orphan", "ruled", json!({})).await;
    scene.phase("orphan", Phase::Active).await;
    scene.delete::<SessionPolicy>("rules").await;
    scene.condition("orphan", Type::PolicyMissing, Status::True).await;
    // A session to which nothing happens, and one that waits for it.
    scene.workspace("box", json!({})).await;
    scene.session("quiet", "box", json!({})).await;
    let quiet = scene.phase("quiet", Phase::Active).await;
    scene.session("next", "box", json!({})).await;
    scene.phase("next", Phase::Pending).await;
    // One that has a deadline while nobody is there, and one that is ended meanwhile.
    scene.policy("short", idle(1, 2, 8)).await;
    scene.workspace("bed", json!({ "policyRef": { "name": "short" } })).await;
    scene.session("due", "bed", json!({})).await;
    scene.workspace("door", json!({})).await;
    scene.session("leaves", "door", json!({})).await;
    scene.phase("leaves", Phase::Active).await;
    let orphan = status(&scene.get::<Session>("orphan").await);

    restart(&scene).await;
    scene.disconnect("leaves").await;
    scene.ended("leaves", Phase::Disconnected, Reason::UserDisconnected).await;
    scene.ended("due", Phase::Disconnected, Reason::IdleTimeout).await;
    let after = status(&scene.get::<Session>("orphan").await);
    assert_eq!((after.phase, after.disconnect_at, &after.policy), (orphan.phase, orphan.disconnect_at, &orphan.policy));
    assert!(is_true(&after.conditions, Type::PolicyMissing));
    let untouched = scene.get::<Session>("quiet").await;
    assert_eq!(untouched.metadata.resource_version, quiet.metadata.resource_version, "{untouched:?}");
    assert_eq!(scene.seen("next").phases(), [Phase::Pending]);
    scene.disconnect("quiet").await;
    scene.phase("next", Phase::Active).await;
}
