//! An API server that an operator cannot reach. Between the two stands a line of this test, which it cuts and mends.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use berth::api::session::Phase;
use berth::api::{Reason, Session};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::harness::{Scene, status};
use crate::operators::Operator;

/// A kubeconfig of a test's own: the one of KUBECONFIG with a change. It goes when this is dropped.
pub(crate) struct OwnConfig(pub(crate) PathBuf);

impl OwnConfig {
    pub(crate) fn new(scene: &Scene, change: impl FnOnce(&mut Value)) -> Self {
        let written = std::fs::read_to_string(std::env::var_os("KUBECONFIG").unwrap()).unwrap();
        let mut kubeconfig: Value = serde_saphyr::from_str(&written).unwrap();
        change(&mut kubeconfig);
        let path = std::env::temp_dir().join(format!("{}.kubeconfig", scene.namespace));
        // It holds a key: for nobody else's eyes, and no file of somebody else.
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(kubeconfig.to_string().as_bytes()).unwrap();
        Self(path)
    }
}

impl Drop for OwnConfig {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A line to the API server, and a kubeconfig that leads over it.
pub(crate) struct Line {
    pub(crate) kubeconfig: OwnConfig,
    address: String,
    server: String,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Line {
    pub(crate) async fn new(scene: &Scene) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut server = String::new();
        let kubeconfig = OwnConfig::new(scene, |kubeconfig| {
            let written = &mut kubeconfig["clusters"][0]["cluster"]["server"];
            server = written.as_str().unwrap().trim_start_matches("https://").to_owned();
            *written = json!(format!("https://{address}"));
        });
        let line = Self { kubeconfig, address, server, tasks: Arc::default() };
        line.carry(listener);
        line
    }

    fn carry(&self, listener: TcpListener) {
        let (server, tasks) = (self.server.clone(), Arc::clone(&self.tasks));
        let accepting = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let server = server.clone();
                let carrying = tokio::spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(server).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
                tasks.lock().unwrap().push(carrying);
            }
        });
        self.tasks.lock().unwrap().push(accepting);
    }

    pub(crate) fn cut(&self) {
        self.tasks.lock().unwrap().drain(..).for_each(|task| task.abort());
    }

    pub(crate) async fn mend(&self, scene: &Scene) {
        let bound = || async { TcpListener::bind(&self.address).await.ok() };
        self.carry(scene.eventually("the line's port is free", bound).await);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.cut();
    }
}

#[tokio::test]
async fn an_operator_without_an_api_server_says_so_and_goes_on_when_it_is_back() {
    let scene = Scene::new("outage").await;
    let line = Line::new(&scene).await;
    let mut first = Operator::start_at(&scene, "first", &line.kubeconfig.0);
    first.leads(&scene).await;
    scene.workspace("box", json!({ "maxSessions": 4 })).await;
    scene.session("quiet", "box", json!({})).await;
    let quiet = scene.phase("quiet", Phase::Active).await;

    line.cut();
    let not_ready = |operator: &Operator| operator.asked("/readyz").filter(|(code, _)| *code == 503);
    let (_, why) = scene.eventually("it says that it is not ready", || async { not_ready(&first) }).await;
    assert!(why.starts_with("not ready\n"), "{why}");
    assert_eq!(first.exit(&scene).await, Some(1), "without its lease it stops, to be started anew");
    let second = Operator::start_at(&scene, "second", &line.kubeconfig.0);
    let (_, why) = scene.eventually("the next one is not ready", || async { not_ready(&second) }).await;
    assert!(why.contains("Lease: "), "{why}");
    assert_eq!(second.asked("/livez").unwrap().0, 200, "a restart would mend nothing");

    line.mend(&scene).await;
    second.leads(&scene).await;
    let ready = || async { second.asked("/readyz").filter(|(code, _)| *code == 200) };
    assert_eq!(scene.eventually("it is ready", ready).await.1, "ok: leader\n");
    let untouched = scene.get::<Session>("quiet").await;
    assert_eq!(status(&untouched).phase, status(&quiet).phase);
    scene.disconnect("quiet").await;
    scene.ended("quiet", Phase::Disconnected, Reason::UserDisconnected).await;
}
