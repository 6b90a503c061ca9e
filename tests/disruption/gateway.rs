//! A gateway whose API server or store is away: what it still answers, what it refuses, and that nothing is half done or lost.
//! It is a process of this test's, with a store of its own; its chain's head and its Lease are in the test's namespace.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use berth::api::session::Phase;
use berth::api::{Reason, Session};
use serde_json::{Value, json};

use crate::harness::api::{Answer, Person, call_at};
use crate::harness::{Scene, status};
use crate::outage::Line;
use crate::postgres::Server;

/// A gateway; killed when dropped.
struct Gateway {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Gateway {
    /// One for the cluster of this kubeconfig, with this store, and told more by a configuration.
    async fn start(scene: &Scene, kubeconfig: &Path, store: &str, config: Value) -> Self {
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [port, health, metrics] = listeners.map(|listener| listener.local_addr().unwrap().port());
        let folder = std::env::temp_dir().join(format!("{}-gateway", scene.namespace));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.yaml"), config.to_string()).unwrap();
        let store = store.replace("FOLDER", folder.to_str().unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_berth"))
            .args(["gateway", "--namespace", &scene.namespace, "--identity", "beside"])
            .arg("--config")
            .arg(folder.join("config.yaml"))
            .args(["--address", &format!("127.0.0.1:{port}"), "--store", &store])
            .args(["--health-address", &format!("127.0.0.1:{health}")])
            .args(["--metrics-address", &format!("127.0.0.1:{metrics}")])
            .env("KUBECONFIG", kubeconfig)
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let gateway = Self { child, port, folder };
        let listens = || async { std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(drop) };
        scene.eventually("the gateway listens", listens).await;
        gateway
    }

    async fn get(&self, who: &Person, path: &str) -> Answer {
        call_at(self.port, "GET", path, Some(&who.token), None, &[]).await
    }

    async fn post(&self, who: &Person, path: &str) -> Answer {
        call_at(self.port, "POST", path, Some(&who.token), Some("{}".to_owned()), &[]).await
    }

    /// Launches, once the gateway knows of the Workspace; the session's id and name.
    async fn launch(&self, scene: &Scene, who: &Person, workspace: &str) -> (String, String) {
        let path = format!("/api/workspaces/{workspace}/launch?organization={}", scene.namespace);
        let launched = scene
            .eventually("the launch is accepted", || async {
                Some(self.post(who, &path).await).filter(|answer| answer.status == 200)
            })
            .await
            .body;
        (launched["session_id"].as_str().unwrap().to_owned(), launched["session_name"].as_str().unwrap().to_owned())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn kubeconfig() -> PathBuf {
    PathBuf::from(std::env::var_os("KUBECONFIG").unwrap())
}

fn is_refused_for_now(answer: &Answer) -> bool {
    answer.status == 503 && answer.headers.contains_key("retry-after") && !answer.detail().is_empty()
}

#[tokio::test]
async fn without_an_api_server_a_gateway_answers_from_what_it_knows_with_its_age_and_changes_nothing() {
    let scene = Scene::new("adrift").await;
    let line = Line::new(&scene).await;
    scene.workspace("box", json!({ "maxSessions": 4 })).await;
    let ana = Person::new(&scene, "ana", &["berth-user"]).await;
    let gateway = Gateway::start(&scene, &line.kubeconfig.0, "sqlite:FOLDER/berth.db", json!({})).await;
    let (id, name) = gateway.launch(&scene, &ana, "box").await;
    scene.phase(&name, Phase::Active).await;
    let fresh = gateway.get(&ana, "/api/sessions").await;
    assert_eq!((fresh.status, fresh.headers.get("age")), (200, None));

    line.cut();
    let aged = scene
        .eventually("what is read has an age", || async {
            let answer = gateway.get(&ana, "/api/sessions").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.headers.contains_key("age").then_some(answer)
        })
        .await;
    assert_eq!(aged.body[0]["id"], json!(id));
    for path in [
        format!("/api/sessions/{id}/disconnect"),
        format!("/api/sessions/{id}/keepalive"),
        format!("/api/workspaces/box/launch?organization={}", scene.namespace),
    ] {
        let refused = gateway.post(&ana, &path).await;
        assert!(is_refused_for_now(&refused), "{path}: {refused:?}");
    }
    let untouched = scene.get::<Session>(&name).await;
    assert_eq!((status(&untouched).ended_at, untouched.spec.keep_alive_at), (None, None), "nothing is half done");
    assert_eq!(scene.list::<Session>().await.len(), 1);

    line.mend(&scene).await;
    scene
        .eventually("it is as before", || async {
            let answer = gateway.get(&ana, "/api/sessions").await;
            (answer.status == 200 && !answer.headers.contains_key("age")).then_some(())
        })
        .await;
    let ended = gateway.post(&ana, &format!("/api/sessions/{id}/disconnect")).await;
    assert_eq!(ended.status, 200, "{ended:?}");
    scene.ended(&name, Phase::Disconnected, Reason::UserDisconnected).await;
}

#[tokio::test]
async fn without_its_store_a_gateway_refuses_changes_and_records_later_what_ended_meanwhile() {
    let scene = Scene::new("storeless").await;
    let mut server = Server::start();
    scene.workspace("box", json!({ "maxSessions": 4 })).await;
    let ana = Person::new(&scene, "ana", &["berth-user", "admin"]).await;
    let gateway = Gateway::start(&scene, &kubeconfig(), &server.database(""), json!({})).await;
    let (kept, kept_name) = gateway.launch(&scene, &ana, "box").await;
    let (_, other_name) = gateway.launch(&scene, &ana, "box").await;
    scene.phase(&kept_name, Phase::Active).await;
    scene.phase(&other_name, Phase::Active).await;

    server.stop();
    let refused = gateway.post(&ana, &format!("/api/sessions/{kept}/disconnect")).await;
    assert!(is_refused_for_now(&refused), "{refused:?}");
    let past = gateway.get(&ana, "/api/sessions").await;
    assert!(is_refused_for_now(&past), "history cannot be told: {past:?}");
    let live = gateway.get(&ana, "/api/sessions/active").await;
    assert_eq!((live.status, live.body.as_array().map(Vec::len)), (200, Some(2)), "{live:?}");
    assert_eq!(status(&scene.get::<Session>(&kept_name).await).ended_at, None);
    // The operator goes on.
    scene.disconnect(&other_name).await;
    scene.ended(&other_name, Phase::Disconnected, Reason::UserDisconnected).await;

    server.resume();
    let path = format!("/api/organizations/{}/audit", scene.namespace);
    let records = scene
        .eventually("the end is recorded", || async {
            let records = gateway.get(&ana, &path).await.body.as_array()?.clone();
            let is_end = |record: &Value| record["action"] == "session_ended" && record["target_name"] == *other_name;
            records.iter().any(is_end).then_some(records)
        })
        .await;
    let calls = records.iter().filter(|record| record["action"] == "disconnect_session").count();
    assert_eq!(calls, 0, "what was refused was not done, nor recorded as done: {records:?}");
    let ended = gateway.post(&ana, &format!("/api/sessions/{kept}/disconnect")).await;
    assert_eq!(ended.status, 200, "{ended:?}");
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_up_and_one_that_cannot_be_read_is_not() {
    let scene = Scene::new("renewed").await;
    let folder = std::env::temp_dir().join(format!("{}-tls", scene.namespace));
    std::fs::create_dir_all(&folder).unwrap();
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let make = |common_name: &str| {
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ed25519",
                "-nodes",
                "-days",
                "2",
                "-subj",
                &format!("/CN={common_name}"),
            ])
            .args(["-keyout", &at("key"), "-out", &at("certificate")])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    };
    make("first");
    let tls = json!({ "gateway": { "tls": { "certificate": at("certificate"), "key": at("key") } } });
    let gateway = Gateway::start(&scene, &kubeconfig(), "sqlite:FOLDER/berth.db", tls).await;
    let shown = || async {
        let client =
            format!("openssl s_client -connect 127.0.0.1:{} </dev/null | openssl x509 -noout -subject", gateway.port);
        let output = Command::new("sh").args(["-c", &client]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert!(shown().await.ends_with("first"), "{}", shown().await);
    make("second");
    scene.eventually("the second is shown", || async { shown().await.ends_with("second").then_some(()) }).await;
    std::fs::write(at("certificate"), "no certificate").unwrap();
    let log = gateway.folder.join("log");
    scene
        .eventually("it says that it cannot use it", || async {
            let still = shown().await;
            assert!(still.ends_with("second"), "the last good one: {still}");
            std::fs::read_to_string(&log).unwrap().contains("cannot be used yet").then_some(())
        })
        .await;
    std::fs::remove_dir_all(&folder).unwrap();
}
