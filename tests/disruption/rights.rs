//! The operator's rights are taken away and given back: what it may not do it does not claim, and it says so; then it goes on.

use std::process::Command;

use berth::api::session::Phase;
use berth::api::{Reason, Session};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

use crate::harness::{Scene, status};
use crate::restart::NAMESPACE;

/// The binding by which the operator has its rights, taken away until this is dropped.
struct Revoked(ClusterRoleBinding);

async fn bindings() -> Api<ClusterRoleBinding> {
    Api::all(Scene::client().await)
}

impl Revoked {
    async fn begin() -> Self {
        let bindings = bindings().await;
        let mut binding = bindings.get("berth-operator").await.unwrap();
        bindings.delete("berth-operator", &DeleteParams::default()).await.unwrap();
        (binding.metadata.resource_version, binding.metadata.uid) = (None, None);
        Self(binding)
    }
}

impl Drop for Revoked {
    fn drop(&mut self) {
        let binding = self.0.clone();
        let giving_back = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { bindings().await.create(&PostParams::default(), &binding).await.map(drop) })
        });
        let given = giving_back.join();
        assert!(matches!(given, Ok(Ok(()))), "the operator's rights are not back: run `cargo xtask install`");
    }
}

fn log() -> String {
    let words = ["--namespace", NAMESPACE, "logs", "deployment/berth-operator", "--since=60s"];
    let done = Command::new("kubectl").args(words).output().unwrap();
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[tokio::test]
async fn an_operator_without_its_rights_says_so_and_goes_on_when_they_are_back() {
    let scene = Scene::new("rights").await;
    scene.workspace("box", json!({ "maxSessions": 2 })).await;
    scene.session("live", "box", json!({})).await;
    scene.phase("live", Phase::Active).await;
    let revoked = Revoked::begin().await;
    scene.session("mine", "box", json!({})).await;
    scene.disconnect("live").await;
    scene
        .eventually("the log says what is forbidden", || async {
            log().contains("cannot patch resource").then_some(())
        })
        .await;
    assert_eq!(status(&scene.get::<Session>("live").await).ended_at, None, "an end that was not written is none");
    assert_eq!(
        scene.pods_of(&scene.get::<Session>("live").await).await.len(),
        1,
        "nothing is released before its end stands"
    );
    drop(revoked);
    scene.ended("live", Phase::Disconnected, Reason::UserDisconnected).await;
    scene.phase("mine", Phase::Active).await;
}
