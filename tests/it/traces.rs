//! The sending of traces, to a collector on the loopback: that it gets what a launch was, and that one which is away, or
//! says nothing, costs nobody anything but the spans.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use berth::api::pod::Pod;
use berth::api::{Session, SessionStatus};
use berth::clock::Clock;
use berth::metrics::Metrics;
use berth::operator::Operator;
use berth::settings::traces::TraceSettings;
use berth::traces::Traces;
use kube::{Client, Config};
use serde_json::json;
use tokio::net::TcpListener;

use crate::collector::{Collector, hex, value};

const UID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

fn to(endpoint: &str) -> TraceSettings {
    let headers = BTreeMap::from([("x-tenant".to_owned(), "berth".to_owned())]);
    TraceSettings { endpoint: format!("{endpoint}/v1/traces").parse().unwrap(), headers }
}

/// A session that became Active 7 s after its creation, and its pod.
fn launched(uid: &str) -> (Session, Pod) {
    let session = json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Session",
        "metadata": {"name": "mine", "namespace": "n", "uid": uid, "creationTimestamp": "2026-01-31T12:00:00Z"},
        "spec": {"workspaceRef": {"name": "box"}, "user": {"id": "ana"}},
        "status": {"phase": "Active", "readyAt": "2026-01-31T12:00:07Z"},
    });
    let pod = json!({
        "metadata": {"name": "mine-1", "namespace": "n", "uid": "p", "creationTimestamp": "2026-01-31T12:00:01Z"},
        "spec": {"nodeName": "node-1", "containers": []},
        "status": {"conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-31T12:00:02Z"}]},
    });
    (serde_json::from_value(session).unwrap(), serde_json::from_value(pod).unwrap())
}

fn hand_over(traces: &Traces, uid: &str) {
    let (session, pod) = launched(uid);
    traces.session_written(&SessionStatus::default(), &session, Some(&pod));
}

/// How many spans had this fate, by the metrics as they are served.
fn counted(metrics: &Metrics, fate: &str) -> u64 {
    let nowhere = Client::try_from(Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
    let operator = Operator::new(nowhere, Clock::system(), metrics.clone(), "me", "n", Vec::new());
    let written = metrics.encode(&operator.cluster()).unwrap();
    let series = format!("berth_trace_spans_total{{result=\"{fate}\"}} ");
    let line = written.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap_or_else(|| panic!("no {series} in\n{written}")).parse().unwrap()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "{what}: this did not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_collector_gets_the_launch_as_it_was() {
    let collector = Collector::start().await;
    let metrics = Metrics::default();
    let traces = Traces::start(&to(&collector.endpoint()), "operator-1", metrics.clone()).unwrap();
    assert_eq!(counted(&metrics, "exported"), 0, "a counter begins at none");
    hand_over(&traces, UID);
    let spans = collector.until("a launch", |spans| !spans.is_empty()).await;
    let [root, schedule] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!((root.name.as_str(), schedule.name.as_str()), ("session launch", "schedule"));
    assert_eq!(hex(&root.trace_id), UID.replace('-', ""));
    assert_eq!((&schedule.trace_id, &schedule.parent_span_id), (&root.trace_id, &root.span_id));
    assert_eq!((root.parent_span_id.len(), root.span_id.len()), (0, 8));
    assert_eq!(root.end_time_unix_nano - root.start_time_unix_nano, 7_000_000_000);
    assert_eq!(schedule.start_time_unix_nano - root.start_time_unix_nano, 1_000_000_000);
    assert_eq!(root.start_time_unix_nano, 1_769_860_800_000_000_000);
    assert_eq!(value(&root.attributes, "k8s.pod.name").as_deref(), Some("mine-1"));
    let resource = collector.resources().remove(0).attributes;
    for (key, wanted) in [
        ("service.name", "berth-operator"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("service.instance.id", "operator-1"),
    ] {
        assert_eq!(value(&resource, key).as_deref(), Some(wanted), "{key}");
    }
    let headers = collector.headers().remove(0);
    assert_eq!(headers["x-tenant"], "berth");
    assert_eq!(headers["content-type"], "application/x-protobuf");
    until("it is counted", || counted(&metrics, "exported") == 2).await;
}

#[tokio::test]
async fn a_launch_that_failed_is_an_error_with_its_reason() {
    let collector = Collector::start().await;
    let traces = Traces::start(&to(&collector.endpoint()), "me", Metrics::default()).unwrap();
    let (mut session, _) = launched(UID);
    let failed = json!({"phase": "Failed", "reason": "StartTimeout", "endedAt": "2026-01-31T12:05:00Z"});
    session.status = Some(serde_json::from_value(failed).unwrap());
    traces.session_written(&SessionStatus::default(), &session, None);
    let spans = collector.until("the launch", |spans| !spans.is_empty()).await;
    let status = spans[0].status.clone().unwrap();
    assert_eq!((status.code, status.message.as_str()), (2, "StartTimeout"));
    assert_eq!(value(&spans[0].attributes, "error.type").as_deref(), Some("StartTimeout"));
}

#[tokio::test]
async fn what_is_left_at_a_stop_is_sent() {
    let collector = Collector::start().await;
    let traces = Traces::start(&to(&collector.endpoint()), "me", Metrics::default()).unwrap();
    let held_elsewhere = traces.clone();
    for _ in 0..200 {
        hand_over(&traces, UID);
    }
    traces.finish().await;
    assert_eq!(collector.spans().len(), 400);
    assert!(collector.headers().len() < 20, "in batches, and not one by one");
    held_elsewhere.finish().await;
    hand_over(&held_elsewhere, UID);
}

#[tokio::test]
async fn a_collector_that_refuses_loses_that_and_gets_what_comes_after() {
    let collector = Collector::start().await;
    let metrics = Metrics::default();
    let traces = Traces::start(&to(&collector.endpoint()), "me", metrics.clone()).unwrap();
    collector.refuse(true);
    hand_over(&traces, UID);
    until("it is counted", || counted(&metrics, "failed") == 2).await;
    collector.refuse(false);
    hand_over(&traces, "0f8fad5b-d9cb-469f-a165-708677289500");
    let spans = collector.until("the next launch", |spans| spans.len() == 2).await;
    assert!(hex(&spans[0].trace_id).ends_with("00"));
    until("it is counted", || counted(&metrics, "exported") == 2).await;
}

/// On the one thread of this test: whoever held it up would be seen.
#[tokio::test]
async fn a_collector_that_is_away_holds_nobody_up_and_what_has_no_room_is_counted() {
    let away = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let metrics = Metrics::default();
    let traces = Traces::start(&to(&format!("http://{away}")), "me", metrics.clone()).unwrap();
    for _ in 0..1500 {
        hand_over(&traces, UID);
    }
    let overflown = counted(&metrics, "overflow");
    assert_eq!(overflown, (1500 - 1024) * 2, "the queue has an end");
    // It is tried again for a while, and given up: by then the pauses have grown to seconds.
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    while counted(&metrics, "failed") == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    assert!(longest < Duration::from_millis(1500), "everybody waited for {longest:?}");
}

#[tokio::test]
async fn a_collector_that_hangs_holds_up_no_stop() {
    // Connections are taken by the system, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let traces = Traces::start(&to(&endpoint), "me", Metrics::default()).unwrap();
    let begun = Instant::now();
    hand_over(&traces, UID);
    assert!(begun.elapsed() < Duration::from_secs(1));
    traces.finish().await;
    let lasted = begun.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(6)).contains(&lasted), "{lasted:?}");
}
