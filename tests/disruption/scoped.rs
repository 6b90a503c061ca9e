//! An operator that works in a few namespaces, of which it may not look into one.

use std::process::Command;

use berth::api::session::Phase;
use berth::api::{Reason, Workspace};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::PostParams;
use serde_json::json;

use crate::harness::{Scene, was_looked_at, workspace_spec};
use crate::operators::Operator;
use crate::outage::OwnConfig;
use crate::restart::NAMESPACE;

/// The installed operator, away until this is dropped: it would do the work in the place of another.
struct Away;

impl Away {
    fn begin() -> Self {
        scale(0);
        Self
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        scale(1);
    }
}

fn scale(replicas: u8) {
    let count = format!("--replicas={replicas}");
    let words = ["--namespace", NAMESPACE, "scale", "deployment/berth-operator", &count, "--timeout=60s"];
    assert!(Command::new("kubectl").args(words).status().unwrap().success());
    let words = ["--namespace", NAMESPACE, "rollout", "status", "deployment/berth-operator", "--timeout=120s"];
    assert!(Command::new("kubectl").args(words).status().unwrap().success());
}

#[tokio::test]
async fn a_namespace_that_an_operator_may_not_look_into_keeps_no_other_waiting() {
    let (open, closed) = (Scene::new("open").await, Scene::new("closed").await);
    let _away = Away::begin();
    open.create::<ServiceAccount>(json!({ "metadata": { "name": "operator" } })).await;
    let everything_here = json!({
        "metadata": { "name": "operator" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "kind": "ServiceAccount", "name": "operator", "namespace": open.namespace }],
    });
    open.create::<RoleBinding>(everything_here).await;
    let asked = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
    let accounts = open.api::<ServiceAccount>();
    let token = accounts.create_token_request("operator", &PostParams::default(), &asked).await.unwrap();
    let kubeconfig = OwnConfig::new(&open, |kubeconfig| {
        kubeconfig["users"][0]["user"] = json!({ "token": token.status.unwrap().token });
    });
    let namespaces = format!("{},{}", closed.namespace, open.namespace);
    let operator = Operator::start_with(&open, "scoped", &kubeconfig.0, &["--watch-namespace", &namespaces]);
    operator.leads(&open).await;
    open.workspace("box", json!({})).await;
    open.session("mine", "box", json!({})).await;
    open.phase("mine", Phase::Active).await;
    let not_ready = || async { operator.asked("/readyz").filter(|(code, _)| *code == 503) };
    let (_, why) = open.eventually("it says where it may not look", not_ready).await;
    assert!(why.contains(&format!("Session in {}: ", closed.namespace)), "{why}");
    assert!(!why.contains(&format!(" in {}: ", open.namespace)), "{why}");
    assert!(!why.contains("Status {"), "for people: {why}");
    closed.create::<Workspace>(json!({ "metadata": { "name": "box" }, "spec": workspace_spec(json!({})) })).await;
    open.disconnect("mine").await;
    open.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    assert!(!was_looked_at(&closed.get::<Workspace>("box").await));
}
