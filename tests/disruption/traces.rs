//! Traces of real launches, which an operator of the test sends to a collector on the loopback. The installed one is kept
//! from the test's namespace meanwhile: whoever writes that a session is Active tells of its launch.

use std::collections::BTreeSet;
use std::path::Path;

use berth::api::Reason;
use berth::api::session::Phase;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::collector::{Collector, hex, value};
use crate::harness::{Scene, status, strangers_pod};
use crate::operators::Operator;
use crate::restart::NAMESPACE;

/// The accounts of the installed release.
fn accounts() -> String {
    format!("system:serviceaccount:{NAMESPACE}:")
}

/// Keeps the installed operator from writing in a namespace, until this is dropped.
struct Apart {
    name: String,
}

impl Apart {
    async fn keep(scene: &Scene) -> Self {
        let name = format!("berth-test-{}", scene.namespace);
        let policy = json!({ "metadata": { "name": name }, "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": scene.namespace } },
                "resourceRules": [{
                    "apiGroups": ["", "berth.dev"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
                    "resources": ["pods", "sessions", "sessions/status", "workspaces/status"],
                }],
            },
            "validations": [{
                "expression": format!("!request.userInfo.username.startsWith('{}')", accounts()),
                "message": "this namespace is another operator's",
            }],
        }});
        let binding = json!({ "metadata": { "name": name },
            "spec": { "policyName": name, "validationActions": ["Deny"] } });
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(scene.client.clone());
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(scene.client.clone());
        let apart = Self { name };
        policies.create(&PostParams::default(), &serde_json::from_value(policy).unwrap()).await.unwrap();
        bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
        // The API server learns of it in a moment.
        scene
            .eventually("the installed operator is kept out", || async {
                refusal(scene).await.filter(|words| words.contains("this namespace is another operator's"))
            })
            .await;
        apart
    }
}

/// What the API server would say to a pod of the installed operator.
async fn refusal(scene: &Scene) -> Option<String> {
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "asked" },
        "spec": strangers_pod(json!({})) });
    let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", scene.namespace);
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .header("impersonate-user", format!("{}berth-operator", accounts()))
        .body(serde_json::to_vec(&pod).unwrap())
        .unwrap();
    scene.client.request::<Pod>(request).await.err().map(|error| error.to_string())
}

impl Drop for Apart {
    fn drop(&mut self) {
        let name = self.name.clone();
        // The test's own runtime is inside of this call.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = Scene::client().await;
                let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
                let policies: Api<ValidatingAdmissionPolicy> = Api::all(client);
                let _ = bindings.delete(&name, &DeleteParams::default()).await;
                let _ = policies.delete(&name, &DeleteParams::default()).await;
            });
        });
        dropped.join().unwrap();
    }
}

/// An operator that works in this namespace alone and tells `collector`.
async fn traced(scene: &Scene, collector: &Collector) -> Operator {
    let kubeconfig = std::env::var_os("KUBECONFIG").unwrap();
    let more = ["--watch-namespace", &scene.namespace, "--traces-endpoint", &collector.endpoint()];
    let operator = Operator::start_with(scene, "traced", Path::new(&kubeconfig), &more);
    operator.leads(scene).await;
    operator
}

#[tokio::test]
async fn a_launch_arrives_as_one_trace_under_the_sessions_uid() {
    let scene = Scene::new("traced").await;
    let _apart = Apart::keep(&scene).await;
    let collector = Collector::start().await;
    let operator = traced(&scene, &collector).await;
    scene.workspace("box", json!({})).await;
    scene.session("mine", "box", json!({})).await;
    let session = scene.phase("mine", Phase::Active).await;
    let (uid, instance) = (session.uid().unwrap(), status(&session).instance.unwrap());
    let spans = collector.until("the launch", |spans| !spans.is_empty()).await;
    assert!(spans.iter().all(|span| hex(&span.trace_id) == uid.replace('-', "")), "{uid}: {spans:?}");
    let roots: Vec<_> = spans.iter().filter(|span| span.parent_span_id.is_empty()).collect();
    let [root] = roots.as_slice() else { panic!("one root: {spans:?}") };
    assert_eq!(root.name, "session launch");
    let seconds = |nanoseconds: u64| i64::try_from(nanoseconds / 1_000_000_000).unwrap();
    assert_eq!(seconds(root.end_time_unix_nano), status(&session).ready_at.unwrap().timestamp());
    for (key, wanted) in [
        ("berth.session.name", "mine".to_owned()),
        ("berth.session.uid", uid),
        ("berth.workspace.name", "box".to_owned()),
        ("berth.session.phase", "Active".to_owned()),
        ("k8s.namespace.name", scene.namespace.clone()),
        ("k8s.pod.name", instance.pod),
        ("k8s.node.name", instance.node.unwrap()),
    ] {
        assert_eq!(value(&root.attributes, key), Some(wanted), "{key}");
    }
    // What a real pod tells.
    let names: BTreeSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    for name in ["schedule", "start", "ready", "publish"] {
        assert!(names.contains(name), "no {name}: {spans:?}");
    }
    for child in spans.iter().filter(|span| !span.parent_span_id.is_empty()) {
        assert_eq!(child.parent_span_id, root.span_id);
        assert!(root.start_time_unix_nano <= child.start_time_unix_nano, "{child:?}");
        assert!(child.start_time_unix_nano <= child.end_time_unix_nano, "{child:?}");
        assert!(child.end_time_unix_nano <= root.end_time_unix_nano, "{child:?}");
    }
    let told = format!("{:?}", (&spans, collector.resources()));
    assert!(!told.contains("\"ana\""), "who uses it is nobody's business there: {told}");
    let counted = || async { operator.counted("berth_trace_spans_total{result=\"exported\"} ") };
    let all = spans.len().to_string();
    scene.eventually("they are counted", || async { counted().await.filter(|count| *count == all) }).await;
    // The end of a session that was used is no launch.
    scene.disconnect("mine").await;
    scene.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    scene.no_pods().await;
    assert_eq!(collector.spans().len(), spans.len());
}

#[tokio::test]
async fn a_launch_that_never_becomes_usable_arrives_as_an_error_also_when_the_operator_stops() {
    let scene = Scene::new("untraced").await;
    let _apart = Apart::keep(&scene).await;
    let collector = Collector::start().await;
    let mut operator = traced(&scene, &collector).await;
    scene.policy("short", json!({ "startTimeout": "5s" })).await;
    let never: Value = json!({ "name": "main", "image": "localhost/berth-nowhere:1", "imagePullPolicy": "Never" });
    let spec = json!({ "policyRef": { "name": "short" }, "template": { "spec": { "containers": [never] } } });
    scene.workspace("box", spec).await;
    scene.session("mine", "box", json!({})).await;
    let session = scene.ended("mine", Phase::Failed, Reason::StartTimeout).await;
    operator.signal("-TERM");
    assert_eq!(operator.exit(&scene).await, Some(0));
    let spans = collector.spans();
    let root = spans.iter().find(|span| span.parent_span_id.is_empty()).unwrap_or_else(|| panic!("no root: {spans:?}"));
    assert_eq!(hex(&root.trace_id), session.uid().unwrap().replace('-', ""));
    let said = root.status.clone().unwrap();
    assert_eq!((said.code, said.message.as_str()), (2, "StartTimeout"));
    assert!(spans.iter().any(|span| span.name == "schedule") && spans.iter().all(|span| span.name != "ready"));
}
