//! Helm's own `--wait` over a release that holds a Session: it ends well once the session is live, or has ended as
//! somebody wanted, and says no where it failed.

use std::path::{Path, PathBuf};
use std::process::Command;

use berth::api::session::Phase;
use berth::api::{Reason, Session};
use serde_json::{Value, json};

use crate::harness::{Scene, pod_spec, session_spec, workspace_spec};

/// A chart with a Workspace and a Session, in a folder that goes when this is dropped.
struct Chart<'a> {
    scene: &'a Scene,
    folder: PathBuf,
}

impl<'a> Chart<'a> {
    fn new(scene: &'a Scene) -> Self {
        let folder = std::env::temp_dir().join(format!("{}-release", scene.namespace));
        std::fs::create_dir_all(folder.join("templates")).unwrap();
        let chart = Self { scene, folder };
        chart.put("Chart.yaml", &json!({ "apiVersion": "v2", "name": "desk", "version": "1.0.0" }));
        chart
    }

    fn put(&self, file: &str, content: &Value) {
        std::fs::write(self.folder.join(Path::new(file)), content.to_string()).unwrap();
    }

    fn holds(&self, workspace: &Value, session: &Value) {
        for (kind, name, spec) in [("Workspace", "box", workspace), ("Session", "mine", session)] {
            let object = json!({
                "apiVersion": "berth.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec,
            });
            self.put(&format!("templates/{name}.json"), &object);
        }
    }

    /// Installs or upgrades, and waits as Helm does; Helm's words where it gives up.
    fn wait(&self) -> Result<(), String> {
        let done = Command::new("helm")
            .args(["upgrade", "--install", "desk", ".", "--wait", "--timeout=60s"])
            .args(["--namespace", &self.scene.namespace])
            .current_dir(&self.folder)
            .output()
            .unwrap();
        if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
    }

    /// As [`Chart::wait`], beside a test that goes on.
    async fn waits(&self) -> Result<(), String> {
        tokio::task::block_in_place(|| self.wait())
    }
}

impl Drop for Chart<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn helm_waits_until_a_session_is_live_and_takes_an_ended_one_for_done() {
    let scene = Scene::new("helm-wait").await;
    let chart = Chart::new(&scene);
    let workspace = workspace_spec(json!({}));
    chart.holds(&workspace, &session_spec("box", json!({})));
    chart.waits().await.unwrap_or_else(|words| panic!("{words}"));
    let live = scene.get::<Session>("mine").await.status.unwrap();
    assert_eq!(live.phase, Some(Phase::Active), "it came back before the session could be used");

    chart.holds(&workspace, &session_spec("box", json!({ "desiredState": "Disconnected" })));
    chart.waits().await.unwrap_or_else(|words| panic!("{words}"));
    scene.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    chart.waits().await.unwrap_or_else(|words| panic!("a release over history: {words}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn helm_says_that_a_session_failed_and_does_not_wait_for_its_patience_to_end() {
    let scene = Scene::new("helm-fails").await;
    let chart = Chart::new(&scene);
    scene.policy("default", json!({ "startTimeout": "5s" })).await;
    let never_starts = json!({ "template": { "spec": pod_spec(json!({ "image": "localhost/missing:1" })) } });
    chart.holds(&workspace_spec(never_starts), &session_spec("box", json!({})));
    let words = chart.waits().await.unwrap_err();
    scene
        .eventually("the session has failed", || async {
            (scene.get::<Session>("mine").await.status?.phase == Some(Phase::Failed)).then_some(())
        })
        .await;
    assert!(words.contains("/mine not ready. status: Failed"), "{words}");
    assert!(words.contains("is not present"), "with the reason: {words}");
}
