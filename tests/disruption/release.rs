//! The release as a whole: uninstalled under live sessions and installed again, changed and rolled back, and installed by
//! somebody who has rights in a few namespaces alone. Each test leaves the release as it found it.

use std::process::Command;

use berth::api::session::Phase;
use berth::api::{Reason, SESSION_FINALIZER, Session, Workspace};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::harness::{Scene, was_looked_at};
use crate::node::xtask;
use crate::restart::{self, NAMESPACE};

/// The installed release, brought back when this is dropped.
pub(crate) struct Release {
    repository: String,
    tag: String,
}

/// Runs Helm in the chart's folder.
pub(crate) fn helm(words: &[&str]) -> Result<String, String> {
    let done = Command::new("helm").current_dir("charts/berth").args(words).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
}

impl Release {
    pub(crate) fn installed() -> Self {
        let values = helm(&["get", "values", "berth", "--namespace", NAMESPACE, "--output", "json"]).unwrap();
        let values: Value = serde_json::from_str(&values).unwrap();
        let image = |key: &str| values["image"][key].as_str().unwrap().to_owned();
        Self { repository: image("repository"), tag: image("tag") }
    }

    /// Installs or upgrades the release with the image that it had.
    pub(crate) fn apply(&self, more: &[&str]) -> Result<String, String> {
        self.apply_from(".", more)
    }

    /// As [`Release::apply`], from another chart.
    pub(crate) fn apply_from(&self, chart: &str, more: &[&str]) -> Result<String, String> {
        let image = [format!("image.repository={}", self.repository), format!("image.tag={}", self.tag)];
        let fixed = ["upgrade", "--install", "berth", chart, "--namespace", NAMESPACE, "--wait", "--timeout=120s"];
        helm(&[&fixed[..], &["--set", &image[0], "--set", &image[1]], more].concat())
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        xtask(&["install"]);
    }
}

/// Runs the chart's own test, which finds nothing wrong with what `helm` has installed.
fn tested(place: &[&str]) {
    let test = ["test", "berth", "--timeout=120s", "--logs"];
    let told = helm(&[&test[..], place].concat()).unwrap_or_else(|failed| panic!("{failed}"));
    assert!(told.contains("5 of 5 checks are ok"), "{told}");
}

async fn finalizers(scene: &Scene, session: &str) -> Vec<String> {
    scene.get::<Session>(session).await.finalizers().to_vec()
}

#[tokio::test]
async fn an_uninstall_lets_go_of_live_sessions_and_an_install_takes_them_up_again() {
    let scene = Scene::new("uninstall").await;
    scene.workspace("box", json!({ "maxSessions": 4 })).await;
    for name in ["kept", "deleted"] {
        scene.session(name, "box", json!({})).await;
        scene.phase(name, Phase::Active).await;
    }
    assert_eq!(finalizers(&scene, "kept").await, [SESSION_FINALIZER]);
    let release = Release::installed();
    helm(&["uninstall", "berth", "--namespace", NAMESPACE, "--wait", "--timeout=180s"]).unwrap();
    let deployments: Api<Deployment> = Api::namespaced(scene.client.clone(), NAMESPACE);
    assert!(deployments.get_opt("berth-operator").await.unwrap().is_none());
    let leases: Api<Lease> = Api::namespaced(scene.client.clone(), NAMESPACE);
    assert!(leases.get_opt("berth-operator").await.unwrap().is_none(), "nothing of it is left");
    // The kinds and what was made of them stay, and nobody's work was cut off.
    assert_eq!(finalizers(&scene, "kept").await, Vec::<String>::new());
    assert!(was_looked_at(&scene.get::<Workspace>("box").await));
    let kept = scene.phase("kept", Phase::Active).await;
    assert_eq!(scene.pods_of(&kept).await.len(), 1);
    // Whoever deletes a Session now waits for nobody, and its pod goes with it.
    scene.delete::<Session>("deleted").await;
    scene.gone::<Session>("deleted").await;
    scene.eventually("its pod is gone", || async { (scene.list::<Pod>().await.len() == 1).then_some(()) }).await;
    release.apply(&[]).unwrap();
    tested(&["--namespace", NAMESPACE]);
    scene
        .eventually("the session is held again", || async {
            (finalizers(&scene, "kept").await == [SESSION_FINALIZER]).then_some(())
        })
        .await;
    assert_eq!(scene.get::<Session>("kept").await.status.unwrap().instance, kept.status.unwrap().instance);
    scene.disconnect("kept").await;
    scene.ended("kept", Phase::Disconnected, Reason::UserDisconnected).await;
    scene.no_pods().await;
}

#[tokio::test]
async fn a_changed_release_runs_what_was_changed_and_a_rollback_takes_it_back() {
    let scene = Scene::new("rollback").await;
    let release = Release::installed();
    let files: Api<ConfigMap> = Api::namespaced(scene.client.clone(), NAMESPACE);
    let written = || async { files.get("berth-operator").await.unwrap().data.unwrap()["config.yaml"].clone() };
    let before = (written().await, restart::leader(&scene).await);
    let history = helm(&["history", "berth", "--namespace", NAMESPACE, "--output", "json"]).unwrap();
    let history: Value = serde_json::from_str(&history).unwrap();
    let revision = history.as_array().unwrap().last().unwrap()["revision"].to_string();

    let refused = release.apply(&["--set", "config.logg.filter=debug"]).unwrap_err();
    assert!(refused.contains("logg"), "{refused}");
    release.apply(&["--set", "config.log.filter=debug"]).unwrap();
    assert!(written().await.contains("filter: debug"));
    scene
        .eventually("another pod leads, by the new file", || async {
            restart::leader(&scene).await.filter(|leader| Some(leader) != before.1.as_ref())
        })
        .await;
    helm(&["rollback", "berth", &revision, "--namespace", NAMESPACE, "--wait", "--timeout=120s"]).unwrap();
    assert_eq!(written().await, before.0);
}

#[tokio::test]
async fn an_account_with_rights_in_two_namespaces_installs_and_uses_it_there() {
    let (own, watched) = (Scene::new("small-release").await, Scene::new("small-watched").await);
    let person = "ana@example.org";
    let roles = std::fs::read_to_string("charts/berth/files/installer.yaml").unwrap();
    let cluster_roles: Api<ClusterRole> = Api::all(own.client.clone());
    let ours = PatchParams::apply("berth-test").force();
    for document in roles.split("\n---\n") {
        let role: Value = serde_saphyr::from_str(document).unwrap();
        let name = role["metadata"]["name"].as_str().unwrap().to_owned();
        cluster_roles.patch(&name, &ours, &Patch::Apply(role)).await.unwrap();
    }
    for (scene, role) in [(&own, "berth-installer"), (&watched, "berth-installer-watched")] {
        let binding = json!({
            "metadata": { "name": "ana" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": person }],
        });
        scene.create::<RoleBinding>(binding).await;
    }
    let release = Release::installed();
    // Alone: the installed operator would do the work in its place.
    helm(&["uninstall", "berth", "--namespace", NAMESPACE, "--wait", "--timeout=180s"]).unwrap();
    let values = format!(
        "crds.enabled=false,userRoles.create=false,watchNamespaces[0]={},image.repository={},image.tag={}",
        watched.namespace, release.repository, release.tag
    );
    let as_her = ["--kube-as-user", person, "--namespace", &own.namespace];
    let install = ["install", "berth", ".", "--wait", "--timeout=120s", "--set", &values];
    helm(&[&install[..], &as_her[..]].concat()).unwrap_or_else(|refused| panic!("{refused}"));
    tested(&as_her);
    watched.workspace("box", json!({})).await;
    watched.session("mine", "box", json!({})).await;
    watched.phase("mine", Phase::Active).await;
    // Elsewhere nobody looks.
    own.create::<Workspace>(
        json!({ "metadata": { "name": "box" }, "spec": crate::harness::workspace_spec(json!({})) }),
    )
    .await;
    watched.disconnect("mine").await;
    watched.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    assert!(!was_looked_at(&own.get::<Workspace>("box").await));
    watched.session("left", "box", json!({})).await;
    watched.phase("left", Phase::Active).await;
    let uninstall = ["uninstall", "berth", "--wait", "--timeout=180s"];
    helm(&[&uninstall[..], &as_her[..]].concat()).unwrap_or_else(|refused| panic!("{refused}"));
    assert_eq!(finalizers(&watched, "left").await, Vec::<String>::new());
    for name in ["berth-installer", "berth-installer-watched"] {
        cluster_roles.delete(name, &DeleteParams::default()).await.unwrap();
    }
}
