//! What trials have found, each as a scenario of its own: what a seed means changes with the people and the dice. And what they
//! are too patient to tell apart.

#![expect(clippy::unwrap_used, reason = "a test says what must be so")]

mod caches;
mod pools;
mod replay;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use berth::api::{SESSION_UID_LABEL, Session, Workspace};
use berth::clock::Clock;
use berth::cluster::patience;
use berth::metrics::Metrics;
use berth::operator::Operator;
use berth_simulation::apiserver::service::Front;
use berth_simulation::collector::Collector;
use berth_simulation::kubelet::Kubelet;
use berth_simulation::scheduler::Scheduler;
use berth_simulation::{After, ApiServer, Before, Call, Dice, Fate, Outcome, SimClock, Verb};
use chrono::TimeDelta;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tower::Layer;

/// How long anything may take, on the simulated clock.
const PATIENCE: Duration = Duration::from_secs(240);

/// A cluster of two nodes with one operator, whose fate this is. Pods are on the first, unless that is being drained.
fn cluster(fate: Arc<dyn Fate>) -> ApiServer {
    let dice = Dice::new(1);
    let server = ApiServer::new(SimClock::new(), &dice);
    server.namespace("demo");
    server.namespace("berth-system");
    server.set_fate(fate);
    let nodes = server.clone();
    let scheduler = Scheduler::new(&server, &dice, "node-1").places(move |_, _| {
        let first = nodes.object("nodes", "", "node-1");
        let is_drained = first.is_some_and(|node| node["spec"]["unschedulable"] == true);
        Some(if is_drained { "node-2" } else { "node-1" }.to_owned())
    });
    tokio::spawn(scheduler.run());
    for node in ["node-1", "node-2"] {
        tokio::spawn(Kubelet::new(&server, &dice, node).run());
    }
    tokio::spawn(Collector::new(&server, &dice).run());
    let client = Client::new(patience::layer().layer(Front::new(server.clone(), "operator")), "default");
    let clock = server.clock().clone();
    let clock = Clock::of(move || clock.now());
    let operator = Operator::new(client, clock, Metrics::default(), "operator", "berth-system", Vec::new());
    tokio::spawn(async move {
        let (_stop, stopped) = tokio::sync::watch::channel(false);
        operator.run(stopped).await
    });
    server
}

/// A Workspace.
fn offer(server: &ApiServer) {
    let workspace = json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Workspace", "metadata": { "name": "desk" },
        "spec": {
            "type": "web", "access": { "protocol": "HTTP", "port": 8080 },
            "template": { "spec": { "containers": [{ "name": "main", "image": "desk:1" }] } },
        },
    });
    server.put("POST", "/apis/berth.dev/v1alpha1/namespaces/demo/workspaces", &workspace).unwrap();
}

/// A Session on that Workspace.
fn launch(server: &ApiServer) {
    let session = json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Session", "metadata": { "name": "mine" },
        "spec": { "workspaceRef": { "name": "desk" }, "user": { "id": "ana" } },
    });
    server.put("POST", "/apis/berth.dev/v1alpha1/namespaces/demo/sessions", &session).unwrap();
}

/// Somebody drains the first node.
fn drain(server: &ApiServer) {
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-1" }, "spec": { "unschedulable": true } });
    server.put("POST", "/api/v1/nodes", &node).unwrap();
}

/// Waits until `look` finds something.
async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let patience = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < patience, "not within {} s: {what}", PATIENCE.as_secs());
        sleep(Duration::from_millis(100)).await;
    }
}

fn is_active(server: &ApiServer) -> Option<()> {
    let session = server.object("sessions.berth.dev", "demo", "mine")?;
    (session["status"]["phase"] == "Active").then_some(())
}

/// The operator's first requests of this verb for this resource are never answered.
struct Silence {
    verb: Verb,
    resource: &'static str,
    left: AtomicU32,
}

impl Fate for Silence {
    fn before(&self, call: &Call) -> BoxFuture<'static, Before> {
        let meant = call.who == "operator" && call.verb == self.verb && call.kind.resource() == self.resource;
        let falls =
            meant && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        Box::pin(async move { if falls { Before::Hang } else { Before::Pass } })
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_or_watch_that_is_never_answered_is_begun_anew() {
    for (verb, resource) in [
        (Verb::List, "pods"),
        (Verb::List, "sessions.berth.dev"),
        (Verb::Watch, "sessions.berth.dev"),
        (Verb::Watch, "pods"),
    ] {
        let server = cluster(Arc::new(Silence { verb, resource, left: AtomicU32::new(2) }));
        sleep(Duration::from_secs(2)).await;
        offer(&server);
        launch(&server);
        eventually(&format!("a launch although {verb:?} of {resource} was not answered"), || is_active(&server)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_labels_are_taken_while_it_starts_is_found_again() {
    let server = cluster(Arc::new(berth_simulation::apiserver::fate::Kind));
    offer(&server);
    launch(&server);
    let pod = eventually("the pod", || server.objects("pods").first().cloned()).await;
    let path = format!("/api/v1/namespaces/demo/pods/{}", pod["metadata"]["name"].as_str().unwrap());
    let people = server.client("people");
    let bare = json!({ "metadata": { "labels": null } });
    let request = http::Request::patch(&path).header("content-type", "application/merge-patch+json");
    let _: Value = people.request(request.body(bare.to_string().into_bytes()).unwrap()).await.unwrap();
    eventually("the session is Active", || is_active(&server)).await;
    let api: Api<Session> = Api::namespaced(people.clone(), "demo");
    let uid = api.get("mine").await.unwrap().metadata.uid.unwrap();
    let api: Api<Pod> = Api::namespaced(people, "demo");
    let labels = api.get(pod["metadata"]["name"].as_str().unwrap()).await.unwrap().metadata.labels.unwrap();
    assert_eq!(labels.get(SESSION_UID_LABEL), Some(&uid));
}

/// An API server that is slow about leases: of three writes the first is done at once and answered too late, and the others wait.
#[derive(Default)]
struct SlowAboutLeases(AtomicU32);

impl SlowAboutLeases {
    fn is_renewal(call: &Call) -> bool {
        call.who == "operator" && call.verb == Verb::Update && call.kind.resource() == "leases.coordination.k8s.io"
    }
}

impl Fate for SlowAboutLeases {
    fn before(&self, call: &Call) -> BoxFuture<'static, Before> {
        let waits = Self::is_renewal(call) && !self.0.fetch_add(1, Ordering::SeqCst).is_multiple_of(3);
        Box::pin(async move {
            sleep(Duration::from_millis(if waits { 1400 } else { 0 })).await;
            Before::Pass
        })
    }

    fn after(&self, call: &Call, outcome: &Outcome) -> BoxFuture<'static, After> {
        let is_late = Self::is_renewal(call) && outcome.code == 200 && self.0.load(Ordering::SeqCst) % 3 == 1;
        Box::pin(async move {
            sleep(Duration::from_secs(if is_late { 3 } else { 0 })).await;
            After::Deliver
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_goes_on_where_a_renewal_was_given_up_and_landed_and_the_next_is_slow() {
    let server = cluster(Arc::new(SlowAboutLeases::default()));
    sleep(Duration::from_secs(120)).await;
    let version = || {
        let lease = server.object("leases.coordination.k8s.io", "berth-system", "berth-operator")?;
        lease["metadata"]["resourceVersion"].as_str().map(str::to_owned)
    };
    let before = version();
    assert!(before.is_some());
    sleep(Duration::from_secs(30)).await;
    assert_ne!(version(), before, "nobody renews any more");
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_was_set_past_a_deadline_is_noticed_long_before_the_sleep_until_it_is_over() {
    let server = cluster(Arc::new(berth_simulation::apiserver::fate::Kind));
    offer(&server);
    launch(&server);
    eventually("the session is active", || is_active(&server)).await;
    server.clock().jump(TimeDelta::days(1));
    sleep(Duration::from_secs(30)).await;
    assert_eq!(is_active(&server), None, "nobody has used it for a day, by the clock");
}
