//! What becomes of a session when its instance fails, on the real node: a container that stops is started again and
//! the session goes on; a pod that is lost ends it. What disturbs the whole node is in the suite `disruption`.

use std::process::Command;

use berth::api::condition::{Status, Type};
use berth::api::session::Phase;
use berth::api::{Reason, Session, Workspace};
use berth::plan::name;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::harness::{Scene, merged, status};

/// A session on a pod that answers on its port, and does `last` once the file /mark/go is there. Once started again
/// it takes a while to answer: the kubelet reports no change that it has undone before it reports.
async fn in_use(name: &str, last: &str, container: Value) -> (Scene, Session) {
    in_use_on(name, last, container, json!({})).await
}

/// As [`in_use`], on a Workspace that says `more`.
async fn in_use_on(name: &str, last: &str, container: Value, more: Value) -> (Scene, Session) {
    let scene = Scene::new(name).await;
    let script = format!(
        "[ -e /mark/gone ] && sleep 6; httpd -p 8080; until [ -e /mark/go ]; do sleep 0.2; done; mv /mark/go /mark/gone; {last}"
    );
    let mut spec = crate::harness::pod_spec(container);
    spec["containers"][0]["command"] = json!(["sh", "-c", script]);
    marked(&mut spec);
    scene.workspace("box", merged(json!({ "template": { "spec": spec } }), more)).await;
    scene.session("mine", "box", json!({})).await;
    let session = scene.phase("mine", Phase::Active).await;
    (scene, session)
}

/// Gives the pod a place that outlives its container.
fn marked(spec: &mut Value) {
    spec["containers"][0]["volumeMounts"] = json!([{ "name": "mark", "mountPath": "/mark" }]);
    spec["volumes"] = json!([{ "name": "mark", "emptyDir": {} }]);
}

/// Lets the container go on to its end.
fn go(scene: &Scene, session: &Session) {
    let pod = status(session).instance.unwrap().pod;
    let done = Command::new("kubectl")
        .args(["exec", "--namespace", &scene.namespace, &pod, "--", "touch", "/mark/go"])
        .output()
        .unwrap_or_else(|error| panic!("kubectl is on the PATH of `cargo xtask cluster env`: {error}"));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Waits until the session said that it cannot be used, and can be used again; it was Active all the time, on one
/// pod. Returns what it said meanwhile.
async fn goes_on(scene: &Scene, session: &Session) -> Vec<String> {
    let ready = |version: &Session| {
        let conditions = status(version).conditions;
        conditions.into_iter().find(|condition| condition.type_ == Type::Ready)
    };
    let said = scene
        .eventually("the session could not be used and can be again", || async {
            let story = scene.seen("mine");
            let troubles = story.0.iter().filter_map(ready).filter(|ready| ready.status == Status::False);
            let said: Vec<String> = troubles.map(|ready| format!("{}: {}", ready.reason, ready.message)).collect();
            let well = story.0.last().and_then(ready).is_some_and(|ready| ready.status == Status::True);
            (well && !said.is_empty()).then_some(said)
        })
        .await;
    let after = scene.get::<Session>("mine").await;
    let phases = scene.seen("mine").phases();
    assert_eq!(phases.iter().filter(|phase| **phase == Phase::Active).count(), 1, "{phases:?}");
    assert_eq!(status(&after).ready_at, status(session).ready_at);
    assert_eq!(status(&after).disconnect_at, status(session).disconnect_at, "no deadline moved");
    let pods = scene.pods_of(&after).await;
    assert_eq!(pods.len(), 1);
    assert_eq!(pods[0].uid().unwrap(), status(session).instance.unwrap().uid);
    said
}

#[tokio::test]
async fn a_container_that_stops_is_started_again_and_the_session_goes_on() {
    let (scene, session) = in_use("exit", "exit 3", json!({})).await;
    go(&scene, &session);
    let said = goes_on(&scene, &session).await;
    assert!(said.iter().any(|words| words.contains("exit code 3")), "{said:?}");
}

#[tokio::test]
async fn a_container_that_runs_out_of_memory_says_so_and_the_session_goes_on() {
    let limits = json!({ "resources": { "limits": { "memory": "24Mi" } } });
    let (scene, session) = in_use("memory", "exec dd if=/dev/zero of=/dev/null bs=256M", limits).await;
    go(&scene, &session);
    let said = goes_on(&scene, &session).await;
    assert!(said.iter().any(|words| words.contains("OOMKilled")), "{said:?}");
}

#[tokio::test]
async fn a_pod_that_is_not_started_again_ends_its_session_with_the_exit_code() {
    let scene = Scene::new("never").await;
    let mut spec = crate::harness::pod_spec(json!({}));
    spec["restartPolicy"] = json!("Never");
    spec["containers"][0]["command"] =
        json!(["sh", "-c", "httpd -p 8080; until [ -e /mark/go ]; do sleep 0.2; done; exit 3"]);
    marked(&mut spec);
    scene.workspace("box", json!({ "template": { "spec": spec } })).await;
    scene.session("mine", "box", json!({})).await;
    let session = scene.phase("mine", Phase::Active).await;
    go(&scene, &session);
    let ended = scene.ended("mine", Phase::Failed, Reason::InstanceLost).await;
    let message = status(&ended).message.unwrap();
    assert!(message.contains("exited with code 3"), "{message}");
    scene.no_pods().await;
}

#[tokio::test]
async fn an_instance_in_use_is_not_evicted_and_one_that_is_not_ready_is() {
    let (scene, session) = in_use("kept", "exit 3", json!({})).await;
    let pod = status(&session).instance.unwrap().pod;
    let marks = scene.get::<Pod>(&pod).await.annotations().clone();
    assert_eq!(marks["cluster-autoscaler.kubernetes.io/safe-to-evict"], "false");
    assert_eq!(marks["karpenter.sh/do-not-disrupt"], "true");
    let refused = scene.evict(&pod).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 429), "{refused}");
    assert_eq!(scene.get::<Pod>(&pod).await.metadata.deletion_timestamp, None);
    go(&scene, &session);
    scene.condition("mine", Type::Ready, Status::False).await;
    scene.eventually("nobody works in it, and it may go", || async { scene.evict(&pod).await.ok() }).await;
    scene.ended("mine", Phase::Failed, Reason::InstanceLost).await;
}

#[tokio::test]
async fn a_budget_that_somebody_changes_or_deletes_is_put_back_and_goes_with_its_workspace() {
    let scene = Scene::new("budget").await;
    let workspace = scene.workspace("box", json!({})).await;
    let name = name::of_workspace("box", &workspace.uid().unwrap());
    let made = scene.get::<PodDisruptionBudget>(&name).await;
    let stands = || async { (scene.find::<PodDisruptionBudget>(&name).await?.spec == made.spec).then_some(()) };
    scene.patch::<PodDisruptionBudget>(&name, json!({ "spec": { "minAvailable": 0 } })).await;
    scene.eventually("it is mended", stands).await;
    scene.delete::<PodDisruptionBudget>(&name).await;
    scene.eventually("it is back", stands).await;
    scene.patch::<Workspace>("box", json!({ "spec": { "drain": "Evict" } })).await;
    scene.gone::<PodDisruptionBudget>(&name).await;
    scene.patch::<Workspace>("box", json!({ "spec": { "drain": "End" } })).await;
    scene.eventually("it is wanted again", stands).await;
    scene.delete::<Workspace>("box").await;
    scene.gone::<PodDisruptionBudget>(&name).await;
}

#[tokio::test]
async fn a_pod_that_may_be_evicted_ends_its_session_and_the_eviction_is_named() {
    let (scene, session) = in_use_on("evict", "exit 3", json!({}), json!({ "drain": "Evict" })).await;
    let pod = status(&session).instance.unwrap().pod;
    scene.evict(&pod).await.unwrap();
    let ended = scene.ended("mine", Phase::Failed, Reason::InstanceLost).await;
    let message = status(&ended).message.unwrap();
    assert!(message.contains(&pod) && message.contains("EvictionByEvictionAPI"), "{message}");
    assert!(scene.event("mine", "InstanceLost").await.note.unwrap().contains("EvictionByEvictionAPI"));
    scene.no_pods().await;
}

#[tokio::test]
async fn a_pod_deleted_by_hand_ends_its_session_and_is_not_made_anew() {
    let (scene, session) = in_use("deleted", "exit 3", json!({})).await;
    let pod = status(&session).instance.unwrap().pod;
    scene.delete::<Pod>(&pod).await;
    let ended = scene.ended("mine", Phase::Failed, Reason::InstanceLost).await;
    let message = status(&ended).message.unwrap();
    assert!(message.contains(&pod), "{message}");
    scene.no_pods().await;
    // The next one gets a pod of its own, and the slot.
    scene.session("next", "box", json!({})).await;
    scene.phase("next", Phase::Active).await;
}
