//! The end of an organization: a namespace goes with everything in it, whatever its sessions are doing.

use berth::api::Session;
use berth::api::session::Phase;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::harness::{Scene, idle, pod_spec};

#[tokio::test]
async fn a_namespace_with_sessions_in_every_phase_goes() {
    let scene = Scene::new("farewell").await;
    scene.policy("sleepy", idle(1, 300, 600)).await;
    scene.workspace("box", json!({ "maxSessions": 2 })).await;
    scene.workspace("bed", json!({ "policyRef": { "name": "sleepy" } })).await;
    let stuck = pod_spec(json!({ "image": "localhost/no-such-image:1" }));
    scene.workspace("stuck", json!({ "template": { "spec": stuck } })).await;
    for (session, workspace) in [("active", "box"), ("ended", "box"), ("idle", "bed"), ("starting", "stuck")] {
        scene.session(session, workspace, json!({})).await;
    }
    scene.phase("starting", Phase::Starting).await;
    scene.session("pending", "stuck", json!({})).await;
    scene.phase("ended", Phase::Active).await;
    scene.disconnect("ended").await;
    for (session, phase) in [
        ("active", Phase::Active),
        ("ended", Phase::Disconnected),
        ("idle", Phase::Idle),
        ("starting", Phase::Starting),
        ("pending", Phase::Pending),
    ] {
        scene.phase(session, phase).await;
    }
    let namespaces: Api<Namespace> = Api::all(scene.client.clone());
    namespaces.delete(&scene.namespace, &DeleteParams::default()).await.unwrap();
    scene
        .eventually("the namespace is gone", || async {
            namespaces.get_opt(&scene.namespace).await.unwrap().is_none().then_some(())
        })
        .await;
    assert!(scene.list::<Session>().await.is_empty());
    // Each of them was ended before it went.
    for session in ["active", "ended", "idle", "starting", "pending"] {
        scene.story(session).await;
    }
}
