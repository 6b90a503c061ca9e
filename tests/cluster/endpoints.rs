//! Sessions on machines that exist. A pod that is nobody's plays the machine.

use berth::api::session::Phase;
use berth::api::{Reason, Workspace};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::harness::{Scene, status, strangers_pod};

/// A machine, and its address.
async fn machine(scene: &Scene, container: Value) -> String {
    scene.create::<Pod>(json!({ "metadata": { "name": "machine" }, "spec": strangers_pod(container) })).await;
    scene
        .eventually("the machine has an address", || async { scene.find::<Pod>("machine").await?.status?.pod_ip })
        .await
}

async fn endpoint(scene: &Scene, host: &str, port: u16) {
    scene.policy("short", json!({ "startTimeout": "5s" })).await;
    let spec = json!({ "endpoint": { "host": host }, "access": { "port": port }, "policyRef": { "name": "short" } });
    scene.workspace("box", spec).await;
    scene.session("mine", "box", json!({})).await;
}

#[tokio::test]
async fn a_machine_that_answers_is_used_and_left_as_it_was() {
    let scene = Scene::new("machine").await;
    let host = machine(&scene, json!({})).await;
    scene
        .eventually("the machine answers", || async {
            let status = scene.find::<Pod>("machine").await?.status?;
            status.container_statuses?.first()?.ready.then_some(())
        })
        .await;
    endpoint(&scene, &host, 8080).await;
    let active = scene.phase("mine", Phase::Active).await;
    assert_eq!(status(&active).url, Some(format!("http://{host}:8080")));
    assert_eq!(status(&active).instance, None);
    scene.disconnect("mine").await;
    scene.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    scene.let_go("mine").await;
    let pods = scene.list::<Pod>().await;
    assert_eq!(pods.len(), 1);
    assert!(pods[0].metadata.deletion_timestamp.is_none() && !pods[0].labels().contains_key("berth.dev/session-uid"));
}

#[tokio::test]
async fn a_machine_that_does_not_answer_fails_the_start_with_the_error() {
    let scene = Scene::new("silent").await;
    let host = machine(&scene, json!({})).await;
    endpoint(&scene, &host, 8081).await;
    scene.event("mine", "InstanceNotMade").await;
    let failed = scene.ended("mine", Phase::Failed, Reason::StartTimeout).await;
    let message = status(&failed).message.unwrap();
    assert!(message.contains(&format!("{host}:8081")), "{message}");
}

#[tokio::test]
async fn a_machine_that_comes_up_late_is_reached() {
    let scene = Scene::new("late").await;
    let late = json!({ "command": ["sh", "-c", "sleep 4; exec httpd -f -p 8080"] });
    let host = machine(&scene, late).await;
    endpoint(&scene, &host, 8080).await;
    scene.policy("patient", json!({})).await;
    scene.patch::<Workspace>("box", json!({ "spec": { "policyRef": { "name": "patient" } } })).await;
    scene.phase("mine", Phase::Active).await;
    assert_eq!(scene.seen("mine").phases(), [Phase::Starting, Phase::Active]);
}

#[tokio::test]
async fn an_address_of_the_operator_itself_is_never_dialled() {
    let scene = Scene::new("loopback").await;
    endpoint(&scene, "127.0.0.1", 8080).await;
    let told = scene.event("mine", "InstanceNotMade").await;
    assert!(told.note.unwrap().contains("never dialled"));
    let failed = scene.ended("mine", Phase::Failed, Reason::StartTimeout).await;
    assert!(status(&failed).message.unwrap().contains("never dialled"));
    scene.workspace("alias", json!({ "endpoint": { "host": "localhost" } })).await;
    scene.session("second", "alias", json!({})).await;
    assert!(scene.event("second", "InstanceNotMade").await.note.unwrap().contains("never dialled"));
}

#[tokio::test]
async fn the_api_server_is_nobodys_workspace() {
    let scene = Scene::new("apiserver").await;
    let services: Api<Service> = Api::namespaced(scene.client.clone(), "default");
    let address = services.get("kubernetes").await.unwrap().spec.unwrap().cluster_ip.unwrap();
    endpoint(&scene, &address, 443).await;
    let told = scene.event("mine", "InstanceNotMade").await.note.unwrap();
    assert!(told.contains(&format!("{address} resolves to {address}, which is the API server's")), "{told}");
    scene.ended("mine", Phase::Failed, Reason::StartTimeout).await;
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_told() {
    let scene = Scene::new("noname").await;
    endpoint(&scene, "no-such-machine.invalid", 8080).await;
    let failed = scene.ended("mine", Phase::Failed, Reason::StartTimeout).await;
    assert!(status(&failed).message.unwrap().contains("no-such-machine.invalid"));
}
