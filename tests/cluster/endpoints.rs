//! Sessions on machines that exist. A pod that is nobody's plays the machine.

use berth::api::session::Phase;
use berth::api::{Reason, Workspace};
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::harness::{Scene, merged, status, strangers_pod};

/// A machine, and its address.
async fn machine(scene: &Scene, container: Value) -> String {
    machine_of(scene, strangers_pod(container)).await
}

async fn machine_of(scene: &Scene, spec: Value) -> String {
    scene.create::<Pod>(json!({ "metadata": { "name": "machine" }, "spec": spec })).await;
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

/// The first line that a command in the machine prints, once it prints one.
async fn said_in_machine(scene: &Scene, words: &[&str]) -> String {
    let args = [&["exec", "--namespace", &scene.namespace, "machine", "--"], words].concat();
    scene
        .eventually("the machine says it", || async {
            let output = std::process::Command::new("kubectl").args(&args).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned);
            said.filter(|line| output.status.success() && !line.is_empty())
        })
        .await
}

/// Somebody else's key, of the same kind.
const ANOTHER_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6mQVk9X7gX0Zs3rI2m6l3M7g2f8b1bJx9mWk5c1m0Q another";

/// A terminal on a machine, and its public key.
async fn terminal(scene: &Scene) -> (String, String) {
    let mounts = json!([{ "name": "tmp", "mountPath": "/tmp" }, { "name": "home", "mountPath": "/home/user" }]);
    let server =
        json!({ "image": "localhost/berth-ssh:dev", "command": null, "readinessProbe": null, "volumeMounts": mounts });
    let mut spec = merged(strangers_pod(server), json!({ "securityContext": { "runAsUser": 1000, "fsGroup": 1000 } }));
    spec["volumes"] = json!([{ "name": "tmp", "emptyDir": {} }, { "name": "home", "emptyDir": {} }]);
    let host = machine_of(scene, spec).await;
    (host, said_in_machine(scene, &["cat", "/tmp/berth-ssh/host_ed25519.pub"]).await)
}

#[tokio::test]
async fn a_terminal_is_used_once_it_has_proved_its_host_key_and_another_machine_is_not() {
    let scene = Scene::new("hostkey").await;
    let (host, key) = terminal(&scene).await;
    scene.policy("short", json!({ "startTimeout": "5s" })).await;
    let workspace = |keys: Value| {
        let endpoint = json!({ "host": host, "hostKeys": keys });
        json!({ "type": "ssh", "endpoint": endpoint, "access": { "protocol": "SSH", "port": 2222 }, "policyRef": { "name": "short" } })
    };
    scene.workspace("right", workspace(json!([ANOTHER_KEY, key]))).await;
    scene.session("mine", "right", json!({})).await;
    assert_eq!(status(&scene.phase("mine", Phase::Active).await).url, Some(format!("ssh://{host}:2222")));
    scene.workspace("wrong", workspace(json!([ANOTHER_KEY]))).await;
    scene.session("fooled", "wrong", json!({})).await;
    let failed = scene.ended("fooled", Phase::Failed, Reason::StartTimeout).await;
    let message = status(&failed).message.unwrap();
    assert!(message.contains("shows the host key SHA256:") && message.contains("hostKeys does not name"), "{message}");
}

#[tokio::test]
async fn a_machine_whose_credentials_do_not_exist_is_not_used_until_they_do() {
    let scene = Scene::new("credentials").await;
    let (host, key) = terminal(&scene).await;
    let endpoint = json!({ "host": host, "hostKeys": [key], "credentialsRef": { "name": "build-7" } });
    let access = json!({ "protocol": "SSH", "port": 2222 });
    scene.workspace("box", json!({ "type": "ssh", "endpoint": endpoint, "access": access })).await;
    scene.session("mine", "box", json!({})).await;
    let told = scene.event("mine", "InstanceNotMade").await.note.unwrap();
    assert!(told.contains("there is no Secret build-7 in this namespace"), "{told}");
    assert!(scene.find::<Secret>("build-7").await.is_none(), "nobody made one by asking");
    scene.create::<Secret>(json!({ "metadata": { "name": "build-7" }, "stringData": { "password": "x" } })).await;
    scene.phase("mine", Phase::Active).await;
    let kept = scene.get::<Secret>("build-7").await.data.unwrap();
    assert_eq!(kept["password"].0, b"x", "nobody replaced it by asking");
}
