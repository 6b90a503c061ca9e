//! Operators as processes, started here from the built binary: how leadership passes between them, and that an
//! operator too many does no harm. Their lease is in the test's own namespace, so that the one which is installed
//! goes on beside them.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use berth::api::Session;
use berth::api::session::Phase;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::harness::{Scene, status};

/// An operator of this test; killed when dropped.
pub(crate) struct Operator {
    child: Child,
    name: &'static str,
    health: u16,
    metrics: u16,
    log: PathBuf,
}

impl Operator {
    fn start(scene: &Scene, name: &'static str) -> Self {
        Self::start_at(scene, name, Path::new(&std::env::var_os("KUBECONFIG").unwrap()))
    }

    /// One for the cluster of this kubeconfig.
    pub(crate) fn start_at(scene: &Scene, name: &'static str, kubeconfig: &Path) -> Self {
        Self::start_with(scene, name, kubeconfig, &[])
    }

    /// One that is told more.
    pub(crate) fn start_with(scene: &Scene, name: &'static str, kubeconfig: &Path, more: &[&str]) -> Self {
        // Free a moment ago: nobody else here asks for one. Both at once, so that they differ.
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [health, metrics] = listeners.map(|listener| listener.local_addr().unwrap().port());
        let log = std::env::temp_dir().join(format!("{}-{name}.log", scene.namespace));
        let child = Command::new(env!("CARGO_BIN_EXE_berth"))
            .args(["operator", "--namespace", &scene.namespace, "--identity", name])
            .args(["--health-address", &format!("127.0.0.1:{health}")])
            .args(["--metrics-address", &format!("127.0.0.1:{metrics}")])
            .args(more)
            .env("KUBECONFIG", kubeconfig)
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, name, health, metrics, log }
    }

    /// What it answers at this path: the status, and the body. Nothing while it does not listen.
    pub(crate) fn asked(&self, path: &str) -> Option<(u16, String)> {
        Self::answer(self.health, path)
    }

    /// The value of this series of its metrics.
    pub(crate) fn counted(&self, series: &str) -> Option<String> {
        let (_, written) = Self::answer(self.metrics, "/metrics")?;
        written.lines().find_map(|line| Some(line.strip_prefix(series)?.trim().to_owned()))
    }

    fn answer(port: u16, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// The lines that it has logged.
    fn logged(&self) -> Vec<String> {
        std::fs::read_to_string(&self.log).unwrap().lines().map(str::to_owned).collect()
    }

    /// Sends it a signal, by its own pid.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits until it leads.
    pub(crate) async fn leads(&self, scene: &Scene) {
        scene
            .eventually(&format!("{} leads", self.name), || async {
                (holder(scene).await.as_deref() == Some(self.name)).then_some(())
            })
            .await;
    }

    /// Waits until it has exited; the code.
    pub(crate) async fn exit(&mut self, scene: &Scene) -> Option<i32> {
        let child = std::sync::Mutex::new(&mut self.child);
        let exited = || async { child.lock().unwrap().try_wait().unwrap() };
        scene.eventually("the operator exits", exited).await.code()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.log);
    }
}

async fn holder(scene: &Scene) -> Option<String> {
    let lease = scene.find::<Lease>("berth-operator").await?;
    lease.spec?.holder_identity.filter(|holder| !holder.is_empty())
}

#[tokio::test]
async fn an_operator_that_is_told_to_stop_gives_the_lease_up_and_the_next_one_leads() {
    let scene = Scene::new("graceful").await;
    let mut first = Operator::start(&scene, "first");
    first.leads(&scene).await;
    let second = Operator::start(&scene, "second");
    first.signal("-TERM");
    assert_eq!(first.exit(&scene).await, Some(0));
    assert_ne!(holder(&scene).await.as_deref(), Some("first"), "it would have to run out");
    second.leads(&scene).await;
    let lease = scene.get::<Lease>("berth-operator").await;
    assert_eq!(lease.spec.unwrap().lease_transitions, Some(1));
}

#[tokio::test]
async fn an_operator_logs_json_and_says_whether_it_leads() {
    let scene = Scene::new("told").await;
    let first = Operator::start(&scene, "first");
    first.leads(&scene).await;
    let second = Operator::start(&scene, "second");
    for (operator, role) in [(&first, "leader"), (&second, "standby")] {
        let ready = || async { operator.asked("/readyz").filter(|(status, _)| *status == 200) };
        let (_, body) = scene.eventually("it is ready", ready).await;
        assert_eq!(body, format!("ok: {role}\n"));
        assert_eq!(operator.asked("/livez"), Some((200, "ok\n".to_owned())));
        assert_eq!(operator.asked("/metricz").unwrap().0, 404);
        let leads = if role == "leader" { "1" } else { "0" };
        assert_eq!(operator.counted("berth_leader ").as_deref(), Some(leads));
    }
    scene.workspace("box", json!({})).await;
    scene.session("mine", "box", json!({})).await;
    scene.phase("mine", Phase::Active).await;
    let active = format!("berth_sessions{{namespace=\"{}\",phase=\"Active\"}} ", scene.namespace);
    let counted = || async { first.counted(&active).filter(|count| count == "1") };
    scene.eventually("the leader counts the session", counted).await;
    assert_eq!(second.counted(&active), None, "who only stands by claims nothing");
    let lines = first.logged();
    assert!(lines.iter().any(|line| line.contains("leading")), "{lines:?}");
    for line in lines {
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(["timestamp", "level", "target", "message"].iter().all(|field| line[field].is_string()), "{line}");
    }
}

#[tokio::test]
async fn an_operator_that_only_waits_stops_at_once_and_leaves_the_lease_alone() {
    let scene = Scene::new("standby").await;
    let first = Operator::start(&scene, "first");
    first.leads(&scene).await;
    let mut second = Operator::start(&scene, "second");
    // By then it has looked at the lease.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    second.signal("-TERM");
    assert_eq!(second.exit(&scene).await, Some(0));
    assert_eq!(holder(&scene).await.as_deref(), Some("first"));
}

#[tokio::test]
async fn an_operator_that_was_stopped_past_its_lease_exits_when_it_goes_on() {
    let scene = Scene::new("frozen").await;
    let mut first = Operator::start(&scene, "first");
    first.leads(&scene).await;
    let second = Operator::start(&scene, "second");
    first.signal("-STOP");
    second.leads(&scene).await;
    first.signal("-CONT");
    assert_eq!(first.exit(&scene).await, Some(1), "an exit that says it did not want to");
    assert_eq!(holder(&scene).await.as_deref(), Some("second"));
}

#[tokio::test]
async fn operators_that_do_not_know_of_each_other_do_no_harm() {
    let (scene, elsewhere) = (Scene::new("twins").await, Scene::new("twins-lease").await);
    let twin = Operator::start(&elsewhere, "twin");
    twin.leads(&elsewhere).await;
    scene.workspace("box", json!({ "maxSessions": 4 })).await;
    let names: Vec<String> = (0..8).map(|index| format!("s{index}")).collect();
    for name in &names {
        scene.session(name, "box", json!({ "user": { "id": name } })).await;
    }
    let live = || async {
        let sessions = scene.list::<Session>().await;
        sessions.into_iter().filter(|session| status(session).phase == Some(Phase::Active)).collect::<Vec<_>>()
    };
    scene.eventually("four are Active", || async { (live().await.len() == 4).then_some(()) }).await;
    for session in live().await {
        scene.disconnect(&session.name_any()).await;
    }
    scene.eventually("the next four are Active", || async { (live().await.len() == 4).then_some(()) }).await;
    for name in &names {
        scene.disconnect(name).await;
    }
    // The harness holds every version against what must never happen: two pods, an end that changes, a second start.
    for name in &names {
        scene.phase(name, Phase::Disconnected).await;
        let starts = scene.events(name).await.into_iter().filter(|reason| reason == "Active").count();
        assert!(starts <= 1, "{name} became Active once");
    }
    scene.no_pods().await;
}
