//! What an instance is told, and by what the gateway proves itself to it. Until there is a gateway the test plays it, with the
//! authority that the test cluster's installation trusts.

mod images;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use berth::api::session::Phase;
use berth::api::{Session, Workspace};
use berth::plan::name;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::json;

use crate::harness::{Forward, Scene, merged, pod_spec, status};

fn exec(scene: &Scene, pod: &str, words: &[&str]) -> Output {
    let args = ["exec", "--namespace", &scene.namespace, pod, "--"];
    Command::new("kubectl").args(args).args(words).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn pod_of(session: &Session) -> String {
    status(session).instance.unwrap().pod
}

#[tokio::test]
async fn an_instance_is_told_who_is_in_it_and_what_a_proxy_says() {
    let scene = Scene::new("told").await;
    let workspace = scene.workspace("box", json!({})).await;
    let session = scene.session("mine", "box", json!({ "user": { "id": "ana@example.org" } })).await;
    let pod = pod_of(&scene.phase("mine", Phase::Active).await);
    let told = |file: &str| text(&exec(&scene, &pod, &["cat", &format!("/run/berth/{file}")]));
    assert_eq!(told("user"), "ana@example.org");
    assert_eq!(told("session"), "mine");
    assert_eq!(told("session-uid"), session.uid().unwrap());
    assert_eq!(told("workspace"), "box");
    assert_eq!(told("namespace"), scene.namespace);
    let secret = scene.get::<Secret>(&name::of_workspace("box", &workspace.uid().unwrap())).await;
    let token = String::from_utf8(secret.data.unwrap()["proxy-token"].0.clone()).unwrap();
    assert_eq!((told("proxy-token"), token.len()), (token.clone(), 64));
    assert!(
        !exec(&scene, &pod, &["sh", "-c", "echo me > /run/berth/user"]).status.success(),
        "nobody in it writes there"
    );
    // The next session of another person is told otherwise, by the same Secret.
    scene.disconnect("mine").await;
    scene.no_pods().await;
    scene.session("next", "box", json!({ "user": { "id": "ben" } })).await;
    let pod = pod_of(&scene.phase("next", Phase::Active).await);
    let told = |file: &str| text(&exec(&scene, &pod, &["cat", &format!("/run/berth/{file}")]));
    assert_eq!((told("user"), told("proxy-token")), ("ben".to_owned(), token));
}

#[tokio::test]
async fn a_secret_that_somebody_deleted_comes_back_as_it_was_and_goes_with_its_workspace() {
    let scene = Scene::new("lost-secret").await;
    let workspace = scene.workspace("box", json!({ "maxSessions": 2 })).await;
    let secret = name::of_workspace("box", &workspace.uid().unwrap());
    scene.session("first", "box", json!({})).await;
    scene.phase("first", Phase::Active).await;
    let before = scene.get::<Secret>(&secret).await.data;
    scene.delete::<Secret>(&secret).await;
    // It waits, and nothing says for what: after half a minute the Secret is made again.
    scene.session("second", "box", json!({ "user": { "id": "ben" } })).await;
    scene
        .eventually("it is back as it was", || async {
            (scene.find::<Secret>(&secret).await?.data == before).then_some(())
        })
        .await;
    scene.phase("second", Phase::Active).await;
    scene.delete::<Workspace>("box").await;
    scene.gone::<Secret>(&secret).await;
}

/// A folder of its own, until this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("berth-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn at(&self, file: &str) -> String {
        self.0.join(file).to_str().unwrap().to_owned()
    }

    fn key(&self, file: &str) -> String {
        let path = self.at(file);
        keygen(&["-q", "-t", "ed25519", "-N", "", "-f", &path]);
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn keygen(words: &[&str]) {
    let done = Command::new("ssh-keygen").args(words).output().unwrap();
    assert!(done.status.success(), "ssh-keygen {words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The private key of the authority that the installation trusts: it lies beside the cluster.
fn authority() -> String {
    let kubeconfig = std::env::var("KUBECONFIG").unwrap();
    let cluster = Path::new(&kubeconfig).ancestors().nth(2).unwrap();
    cluster.join("ssh-user-ca").to_str().unwrap().to_owned()
}

fn forward(scene: &Scene, pod: &str, port: u16) -> Forward {
    Forward::to(&scene.namespace, &format!("pod/{pod}"), &port.to_string())
}

impl Forward {
    fn ssh(&self, key: &str, options: &[&str], words: &[&str]) -> Output {
        Command::new("ssh")
            .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "IdentitiesOnly=yes"])
            .args([
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "LogLevel=ERROR",
                "-i",
                key,
                "-p",
                &self.port.to_string(),
            ])
            .args(options)
            .args(["user@127.0.0.1", "--"])
            .args(words)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

#[tokio::test]
async fn a_terminal_lets_in_who_has_a_certificate_for_this_session_and_nobody_else() {
    let scene = Scene::new("terminal").await;
    let image = json!({
        "image": "localhost/berth-ssh:dev", "command": null, "readinessProbe": { "tcpSocket": { "port": 2222 } },
        "volumeMounts": [{ "name": "tmp", "mountPath": "/tmp" }, { "name": "home", "mountPath": "/home/user" }],
    });
    let mut spec = merged(pod_spec(image), json!({ "securityContext": { "runAsUser": 1000, "fsGroup": 1000 } }));
    spec["volumes"] = json!([{ "name": "tmp", "emptyDir": {} }, { "name": "home", "emptyDir": {} }]);
    let access = json!({ "protocol": "SSH", "port": 2222 });
    scene.workspace("terminal", json!({ "type": "ssh", "access": access, "template": { "spec": spec } })).await;
    scene.session("mine", "terminal", json!({})).await;
    let session = scene.phase("mine", Phase::Active).await;
    let uid = session.uid().unwrap();
    let forward = forward(&scene, &pod_of(&session), 2222);
    let folder = Folder::new(&scene.namespace);

    let mine = folder.key("mine");
    let sign = |key: &str, ca: &str, principal: &str, validity: &str| {
        keygen(&["-q", "-s", ca, "-I", "test", "-n", principal, "-V", validity, &format!("{key}.pub")]);
    };
    sign(&mine, &authority(), &uid, "-1m:+5m");
    let inside =
        forward.ssh(&mine, &[], &["id -u; cat /run/berth/user; git --version; echo kept > ~/note; cat ~/note"]);
    let said = text(&inside);
    assert!(inside.status.success(), "{}", String::from_utf8_lossy(&inside.stderr));
    assert!(
        said.starts_with("1000") && said.contains("ana") && said.contains("git version") && said.ends_with("kept"),
        "{said}"
    );
    let shell = forward.ssh(&mine, &["-tt"], &["tty"]);
    assert!(
        text(&shell).contains("/dev/pts/"),
        "a terminal: {} {}",
        text(&shell),
        String::from_utf8_lossy(&shell.stderr)
    );

    let stranger = folder.key("other-authority");
    for (name, ca, principal, validity) in [
        ("another-session", authority(), "0f8fad5b-d9cb-469f-a165-70867728950e", "-1m:+5m"),
        ("a-name", authority(), "user", "-1m:+5m"),
        ("too-late", authority(), uid.as_str(), "-10m:-5m"),
        ("another-authority", stranger.clone(), uid.as_str(), "-1m:+5m"),
    ] {
        let key = folder.key(name);
        sign(&key, &ca, principal, validity);
        let refused = forward.ssh(&key, &[], &["true"]);
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && words.contains("Permission denied"), "{name}: {words}");
    }
    let plain = folder.key("plain");
    assert!(!forward.ssh(&plain, &[], &["true"]).status.success(), "a key alone");
}
