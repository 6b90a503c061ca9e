//! The real node in trouble: its kubelet killed, the node deleted. A session is ended only when its pod is known to
//! be gone, never because nobody answers.

use std::process::Command;
use std::time::Duration;

use berth::api::condition::{Status, Type};
use berth::api::session::Phase;
use berth::api::{Reason, Session};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::harness::{Scene, status};
use crate::restart::{self, NAMESPACE};

/// The cluster's collector of pods without a node takes its time: it looks every 20 s and waits for 40 s.
const PATIENCE: Duration = Duration::from_secs(240);

/// Runs `cargo xtask` with these words, without what cargo told us about our own package: build scripts
/// that watch those variables would run again, and much would be compiled anew in the middle of a test.
pub(crate) fn xtask(words: &[&str]) {
    let mut command = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_NAME", "CARGO_BIN_NAME", "CARGO_PRIMARY_PACKAGE"]
            .iter()
            .any(|about| name.to_string_lossy().starts_with(about))
        {
            command.env_remove(name);
        }
    }
    let done = command.arg("xtask").args(words).output().unwrap();
    assert!(done.status.success(), "xtask {words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A node without its kubelet, until this is dropped.
struct Silence;

impl Silence {
    fn begin() -> Self {
        xtask(&["cluster", "stop", "kubelet"]);
        Self
    }

    fn end(self) {
        drop(self);
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        xtask(&["cluster", "up"]);
    }
}

/// Waits until the installed operator, which runs on that node too, leads from a pod that is there: after the node
/// was deleted it may still be the old one, whose container the kubelet is about to end.
async fn settled(scene: &Scene) {
    let deployments: Api<Deployment> = Api::namespaced(scene.client.clone(), NAMESPACE);
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), NAMESPACE);
    let ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    scene
        .eventually("the installed operator leads from a pod that is ready", || async {
            let installed = deployments.get_opt("berth-operator").await.unwrap().and_then(|it| it.spec?.replicas);
            if installed.is_none_or(|replicas| replicas == 0) {
                return Some(());
            }
            let leader = restart::leader(scene).await?;
            pods.get_opt(&leader).await.unwrap().filter(ready).map(|_| ())
        })
        .await;
}

async fn in_use(name: &str) -> (Scene, Session, String) {
    let scene = Scene::new(name).await;
    settled(&scene).await;
    scene.workspace("box", json!({})).await;
    scene.session("mine", "box", json!({})).await;
    let session = scene.phase("mine", Phase::Active).await;
    let node = status(&session).instance.unwrap().node.unwrap();
    (scene, session, node)
}

#[tokio::test]
async fn a_node_that_falls_silent_ends_no_session_and_what_it_runs_is_ready_again_with_it() {
    let (scene, session, node) = in_use("silent").await;
    let silence = Silence::begin();
    let ready = scene.condition("mine", Type::Ready, Status::False).await;
    assert_eq!(ready.reason, "NodeNotReady");
    assert!(ready.message.contains(&node), "{}", ready.message);
    let meanwhile = scene.get::<Session>("mine").await;
    assert_eq!((status(&meanwhile).phase, status(&meanwhile).ended_at), (Some(Phase::Active), None));
    silence.end();
    scene.condition("mine", Type::Ready, Status::True).await;
    let after = status(&scene.get::<Session>("mine").await);
    assert_eq!((after.phase, after.instance, after.ready_at), {
        let before = status(&session);
        (before.phase, before.instance, before.ready_at)
    });
    // What the user asks for is done, with the node as it was.
    scene.disconnect("mine").await;
    scene.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    scene.no_pods().await;
}

#[tokio::test]
async fn a_session_ended_while_its_node_is_silent_has_ended_and_its_pod_goes_with_the_nodes_return() {
    let (scene, session, _) = in_use("silent-end").await;
    let silence = Silence::begin();
    scene.condition("mine", Type::Ready, Status::False).await;
    scene.disconnect("mine").await;
    scene.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    let pods = scene.pods_of(&session).await;
    assert!(pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_some()), "asked to go, and nobody there to do it");
    silence.end();
    scene.no_pods().await;
}

#[tokio::test]
async fn a_node_that_is_deleted_ends_its_sessions_once_their_pods_are_gone() {
    let (scene, session, node) = in_use("lost-node").await;
    let instance = status(&session).instance.unwrap();
    let nodes: Api<Node> = Api::all(scene.client.clone());
    // The kubelet would go on with a node that it does not know to be gone, and only a new one joins again.
    let silence = Silence::begin();
    nodes.delete(&node, &DeleteParams::default()).await.unwrap();
    let patience = tokio::time::Instant::now() + PATIENCE;
    while scene.find::<Pod>(&instance.pod).await.is_some() {
        assert!(tokio::time::Instant::now() < patience, "nobody collects the pod\n{}", scene.picture().await);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    silence.end();
    // An operator that ran on that node had to start anew, and concludes the same.
    let ended = scene.ended("mine", Phase::Failed, Reason::InstanceLost).await;
    assert!(status(&ended).message.unwrap().contains("pod"), "{ended:?}");
    assert!(nodes.get(&node).await.unwrap().name_any() == node);
    scene.session("next", "box", json!({})).await;
    scene.phase("next", Phase::Active).await;
}
