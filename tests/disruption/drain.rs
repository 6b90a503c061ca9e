//! The real node is drained: who is protected stays and is told, who may be ended is warned first, who may be evicted goes.

use berth::api::condition::{Status, Type};
use berth::api::session::Phase;
use berth::api::{Reason, Session};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use serde_json::json;

use crate::harness::{Scene, status};

/// A node that takes no more pods, until this is dropped.
struct Cordon(String);

impl Cordon {
    fn begin(node: &str) -> Self {
        kubectl(&["cordon", node]);
        Self(node.to_owned())
    }
}

impl Drop for Cordon {
    fn drop(&mut self) {
        kubectl(&["uncordon", &self.0]);
    }
}

fn kubectl(words: &[&str]) {
    let done = std::process::Command::new("kubectl").args(words).output().unwrap();
    assert!(done.status.success(), "kubectl {words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Three Workspaces, each with a session: what is on a node when it is drained.
#[tokio::test]
async fn a_drain_is_told_and_does_what_each_workspace_says() {
    let scene = Scene::new("drain").await;
    scene.policy("default", json!({ "warnBefore": "5s" })).await;
    for (drain, session) in [("Wait", "wait"), ("End", "end"), ("Evict", "evict")] {
        scene.workspace(session, json!({ "drain": drain })).await;
        scene.session(session, session, json!({})).await;
    }
    let mut node = String::new();
    for session in ["wait", "end", "evict"] {
        let usable = scene.phase(session, Phase::Active).await;
        node = status(&usable).instance.unwrap().node.unwrap();
    }
    let nodes: Api<Node> = Api::all(scene.client.clone());
    let cordon = Cordon::begin(&node);
    assert_eq!(nodes.get(&node).await.unwrap().spec.unwrap().unschedulable, Some(true));
    let told = scene.condition("wait", Type::NodeDraining, Status::True).await;
    assert!(told.message.contains(&node) && told.message.contains("cordoned"), "{}", told.message);
    scene.event("wait", "NodeDraining").await;

    // What a drain does next: it evicts.
    let evict = async |session: &str| {
        let pod = status(&scene.get::<Session>(session).await).instance.unwrap().pod;
        scene.evict(&pod).await
    };
    let refused = evict("wait").await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 429), "{refused}");
    evict("evict").await.unwrap();
    scene.ended("evict", Phase::Failed, Reason::InstanceLost).await;

    let ended = scene.ended("end", Phase::Terminated, Reason::AdministratorEnded).await;
    assert!(status(&ended).message.unwrap().contains("is being drained"));
    let warned = scene.seen("end").statuses().any(|status| {
        status.disconnect_reason == Some(Reason::AdministratorEnded)
            && berth::api::condition::is_true(&status.conditions, Type::EndingSoon)
    });
    assert!(warned, "nobody was warned");

    drop(cordon);
    scene.condition("wait", Type::Ready, Status::True).await;
    scene
        .eventually("the drain is over", || async {
            let status = status(&scene.get::<Session>("wait").await);
            let draining = berth::api::condition::is_true(&status.conditions, Type::NodeDraining);
            (!draining && status.phase == Some(Phase::Active)).then_some(())
        })
        .await;
}
