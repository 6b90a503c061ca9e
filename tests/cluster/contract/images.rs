//! The desktop and JupyterLab: who is let in, and what they tell of a job that runs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use berth::api::session::Phase;
use berth::plan::name;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{forward, pod_of};
use crate::harness::{Forward, Scene, merged, pod_spec};

/// A Workspace of one of the images here, and one session in it. Returns its pod, and a file of the Workspace's Secret.
async fn instance_of(scene: &Scene, image: &str, more: Value, probe: Value, file: &str) -> (String, String) {
    let image = json!({
        "image": format!("localhost/berth-{image}:dev"), "command": null, "readinessProbe": probe,
        "volumeMounts": [{ "name": "tmp", "mountPath": "/tmp" }, { "name": "home", "mountPath": "/home/user" }],
    });
    let mut spec = merged(pod_spec(image), json!({ "securityContext": { "runAsUser": 1000, "fsGroup": 1000 } }));
    spec["volumes"] = json!([{ "name": "tmp", "emptyDir": {} }, { "name": "home", "emptyDir": {} }]);
    let workspace = scene.workspace("box", merged(json!({ "template": { "spec": spec } }), more)).await;
    scene.session("mine", "box", json!({})).await;
    let pod = pod_of(&scene.phase("mine", Phase::Active).await);
    let secret = scene.get::<Secret>(&name::of_workspace("box", &workspace.uid().unwrap())).await;
    (pod, String::from_utf8(secret.data.unwrap()[file].0.clone()).unwrap())
}

/// A job that the workspace is to be busy with, until this is dropped.
struct Job(Child);

impl Job {
    fn begin(scene: &Scene, pod: &str) -> Self {
        let args = ["exec", "--namespace", &scene.namespace, pod, "--", "berth-busy", "sleep", "300"];
        Self(Command::new("kubectl").args(args).spawn().unwrap())
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Forward {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Asks for a page with these lines of headers; the whole answer.
    fn get(&self, path: &str, headers: &str) -> String {
        let mut stream = self.connect();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{}\r\n{headers}\r\n", self.port).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The first words of RFB (RFC 6143, 7.1), up to the kinds of security that the server offers.
    fn rfb(&self) -> (TcpStream, Vec<u8>) {
        let mut stream = self.connect();
        assert!(read(&mut stream, 12).starts_with(b"RFB 003."));
        stream.write_all(b"RFB 003.008\n").unwrap();
        let count = read(&mut stream, 1)[0];
        let kinds = read(&mut stream, count.into());
        (stream, kinds)
    }

    /// What the desktop is called, where it takes this password.
    fn desktop(&self, password: &str) -> Option<String> {
        let (mut stream, _) = self.rfb();
        stream.write_all(&[2]).unwrap();
        let challenge = read(&mut stream, 16);
        stream.write_all(&des(password, &challenge)).unwrap();
        if read(&mut stream, 4) != [0; 4] {
            let _ = stream.read_to_end(&mut Vec::new());
            return None;
        }
        stream.write_all(&[1]).unwrap();
        read(&mut stream, 2 + 2 + 16);
        let length = u32::from_be_bytes(read(&mut stream, 4).try_into().unwrap());
        Some(String::from_utf8(read(&mut stream, length.try_into().unwrap())).unwrap())
    }
}

fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// DES by a password with the bits of its letters turned round, as RFB has it. Three in a row with one key are one.
fn des(password: &str, challenge: &[u8]) -> Vec<u8> {
    let mut key = [0; 8];
    key.iter_mut().zip(password.bytes()).for_each(|(key, letter)| *key = letter.reverse_bits());
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut openssl = Command::new("openssl")
        .args(["enc", "-des-ede3-ecb", "-nopad", "-K", &key.repeat(3)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    openssl.stdin.take().unwrap().write_all(challenge).unwrap();
    openssl.wait_with_output().unwrap().stdout
}

#[tokio::test]
async fn a_desktop_lets_in_who_has_its_workspaces_password_and_nobody_else() {
    let scene = Scene::new("desktop").await;
    let desktop = json!({ "type": "linux", "access": { "protocol": "VNC", "port": 5900 } });
    let probe = json!({ "tcpSocket": { "port": 5900 } });
    let (pod, password) = instance_of(&scene, "desktop", desktop, probe, "vnc-password").await;
    let forward = forward(&scene, &pod, 5900);

    let (mut without, kinds) = forward.rfb();
    assert_eq!(kinds, [2], "a password, and no other way");
    without.write_all(&[1]).unwrap();
    let mut words = Vec::new();
    let _ = without.read_to_end(&mut words);
    assert!(!words.starts_with(&[0; 4]), "without a password: {words:?}");
    for wrong in ["", "password", &password[..7]] {
        assert_eq!(forward.desktop(wrong), None, "{wrong}");
    }
    assert_eq!(forward.desktop(&password).as_deref(), Some("Berth desktop"));

    let _job = Job::begin(&scene, &pod);
    scene
        .eventually("its name says that a job runs", || async {
            forward.desktop(&password).filter(|name| name == "Berth desktop (busy)")
        })
        .await;
}

#[tokio::test]
async fn a_jupyterlab_answers_who_shows_its_workspaces_token_and_nobody_else() {
    let scene = Scene::new("jupyterlab").await;
    let lab = json!({ "access": { "protocol": "HTTP", "port": 8888, "path": "/lab" } });
    let probe = json!({ "tcpSocket": null, "httpGet": { "path": "/api", "port": 8888 } });
    let (pod, token) = instance_of(&scene, "jupyterlab", lab, probe, "proxy-token").await;
    let forward = forward(&scene, &pod, 8888);
    let right = format!("Berth-Proxy: {token}\r\n");

    let wrong = format!("Berth-Proxy: {}\r\n", "0".repeat(64));
    for (path, headers) in [
        ("/api/status".to_owned(), String::new()),
        ("/api/status".to_owned(), wrong.clone()),
        ("/api/status".to_owned(), format!("{right}{right}")),
        ("/api/status".to_owned(), format!("Authorization: token {token}\r\n")),
        (format!("/api/status?token={token}"), String::new()),
        (format!("/lab?token={token}"), String::new()),
        ("/lab".to_owned(), wrong),
    ] {
        let answer = forward.get(&path, &headers);
        assert!(answer.starts_with("HTTP/1.1 403"), "{path} {headers}: {answer:.200}");
    }
    let page = forward.get("/lab", "");
    assert!(page.starts_with("HTTP/1.1 302") && page.contains("/login?next=%2Flab"), "to the form: {page:.300}");
    assert!(forward.get("/api", "").ends_with("\r\n\r\n{}"), "the probe is told nothing");
    for path in ["/api/status", "/lab"] {
        let answer = forward.get(path, &right);
        assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("Berth-Busy"), "{path}: {answer:.300}");
    }

    let _job = Job::begin(&scene, &pod);
    scene
        .eventually("it says that a job runs, and says it to nobody else", || async {
            let (told, stranger) = (forward.get("/lab", &right), forward.get("/lab", ""));
            (told.contains("Berth-Busy: true") && !stranger.contains("Berth-Busy")).then_some(())
        })
        .await;
}
