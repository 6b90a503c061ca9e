//! Traces of launches, from Sessions and pods as the API server gives them.

use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

const UID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

fn at(second: i64) -> Instant {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap_or_default()
}

fn parse<T: serde::de::DeserializeOwned>(value: Json) -> T {
    serde_json::from_value(value).unwrap()
}

/// A session that was created at 0, with this status.
fn session(status: Json) -> Session {
    parse(json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Session",
        "metadata": {"name": "mine", "namespace": "n", "uid": UID, "creationTimestamp": at(0)},
        "spec": {"workspaceRef": {"name": "box"}, "user": {"id": "ana@example.com", "email": "ana@example.com"}},
        "status": status,
    }))
}

fn admitted(second: i64) -> Json {
    json!([{"type": "Admitted", "status": "True", "reason": "SlotGranted", "message": "", "lastTransitionTime": at(second)}])
}

fn container(name: &str, state: Json) -> Json {
    json!({"name": name, "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state})
}

fn running(name: &str, second: i64) -> Json {
    container(name, json!({"running": {"startedAt": at(second)}}))
}

fn holds(type_: &str, second: i64) -> Json {
    json!({"type": type_, "status": "True", "lastTransitionTime": at(second)})
}

/// A pod that was created at 5, with this status.
fn pod(status: Json) -> Pod {
    parse(json!({
        "metadata": {"name": "mine-1", "namespace": "n", "uid": "p", "creationTimestamp": at(5)},
        "spec": {"nodeName": "node-1", "containers": [], "initContainers": [
            {"name": "beside", "restartPolicy": "Always"}, {"name": "first"}]},
        "status": status,
    }))
}

/// The launch of a session that waited 5 s for its slot and could be used after 12 s.
fn usual() -> (Session, Pod) {
    let session = session(json!({"phase": "Active", "startedAt": at(0), "readyAt": at(12), "conditions": admitted(5)}));
    let pod = pod(json!({
        "conditions": [holds("PodScheduled", 6), holds("Ready", 11)],
        "containerStatuses": [running("main", 9), running("helper", 8)],
    }));
    (session, pod)
}

fn told(spans: &[Span]) -> Vec<(&'static str, String, i64, i64)> {
    let second = |time: Instant| (time - at(0)).num_seconds();
    let row = |span: &Span| (span.name, text(span, "k8s.container.name"), second(span.start), second(span.end));
    spans.iter().map(row).collect()
}

fn text(span: &Span, key: &str) -> String {
    match span.attributes.iter().find(|(found, _)| *found == key) {
        Some((_, Value::Text(text))) => text.clone(),
        Some((_, Value::Count(count))) => count.to_string(),
        None => String::new(),
    }
}

#[test]
fn a_launch_is_told_from_its_creation_to_its_first_use() {
    let (session, pod) = usual();
    let spans = launch(&SessionStatus::default(), &session, Some(&pod));
    let wanted = [
        (ROOT, "", 0, 12),
        ("queue", "", 0, 5),
        ("schedule", "", 5, 6),
        ("start", "main", 6, 9),
        ("start", "helper", 6, 8),
        ("ready", "", 9, 11),
        ("publish", "", 11, 12),
    ];
    assert_eq!(told(&spans), wanted.map(|(name, of, start, end)| (name, of.to_owned(), start, end)));
}

#[test]
fn init_containers_go_before_the_others_unless_they_stay_beside_them() {
    let (session, _) = usual();
    let pod = pod(json!({
        "conditions": [holds("PodScheduled", 6)],
        "initContainerStatuses": [
            running("beside", 7),
            container("first", json!({"terminated": {"exitCode": 0, "startedAt": at(7), "finishedAt": at(8)}}))],
        "containerStatuses": [running("main", 9)],
    }));
    let told = told(&launch(&SessionStatus::default(), &session, Some(&pod)));
    assert!(told.contains(&("init", "first".to_owned(), 6, 8)), "{told:?}");
    assert!(told.contains(&("start", "main".to_owned(), 8, 9)), "{told:?}");
    assert!(!told.iter().any(|(_, of, ..)| of == "beside"), "{told:?}");
}

#[test]
fn a_launch_without_a_wait_or_a_pod_has_no_span_for_them() {
    let session = session(json!({"phase": "Active", "startedAt": at(0), "readyAt": at(2), "conditions": admitted(0)}));
    let spans = launch(&SessionStatus::default(), &session, None);
    assert_eq!(told(&spans), [(ROOT, String::new(), 0, 2)]);
    assert_eq!(text(&spans[0], "k8s.namespace.name"), "n");
}

#[test]
fn the_trace_is_the_sessions_uid_and_a_span_keeps_its_id() {
    let (session, pod) = usual();
    let spans = launch(&SessionStatus::default(), &session, Some(&pod));
    assert_eq!(format!("{:032x}", spans[0].trace), UID.replace('-', ""));
    assert!(spans.iter().all(|span| span.trace == spans[0].trace));
    assert!(spans[1..].iter().all(|span| span.parent == Some(spans[0].id)) && spans[0].parent.is_none());
    let ids: std::collections::BTreeSet<u64> = spans.iter().map(|span| span.id).collect();
    assert_eq!(ids.len(), spans.len(), "each its own");
    assert_eq!(spans, launch(&SessionStatus::default(), &session, Some(&pod)));
}

#[test]
fn what_is_told_goes_by_the_conventions_and_names_no_person() {
    let (session, pod) = usual();
    let spans = launch(&SessionStatus::default(), &session, Some(&pod));
    for (key, value) in [
        ("k8s.namespace.name", "n"),
        ("k8s.pod.name", "mine-1"),
        ("k8s.pod.uid", "p"),
        ("k8s.node.name", "node-1"),
        ("berth.session.name", "mine"),
        ("berth.session.uid", UID),
        ("berth.workspace.name", "box"),
        ("berth.session.phase", "Active"),
        ("berth.session.reason", ""),
        ("error.type", ""),
    ] {
        assert_eq!(text(&spans[0], key), value, "{key}");
    }
    assert!(!format!("{spans:?}").contains("ana"), "{spans:?}");
    for span in &spans {
        let keys: std::collections::BTreeSet<_> = span.attributes.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys.len(), span.attributes.len(), "each attribute once: {span:?}");
    }
}

#[test]
fn a_launch_that_failed_says_why_and_how_far_it_came() {
    let status = json!({"phase": "Failed", "reason": "StartTimeout", "startedAt": at(0), "endedAt": at(300)});
    // An end takes the condition away that says when the slot was given.
    let before: SessionStatus = parse(json!({"phase": "Starting", "conditions": admitted(5)}));
    let pod = pod(json!({
        "conditions": [holds("PodScheduled", 6), {"type": "Ready", "status": "False", "lastTransitionTime": at(6)}],
        "containerStatuses": [container("main", json!({"waiting": {"reason": "ImagePullBackOff"}}))],
    }));
    let spans = launch(&before, &session(status), Some(&pod));
    let names: Vec<_> = spans.iter().map(|span| span.name).collect();
    assert_eq!(names, [ROOT, "queue", "schedule"]);
    assert_eq!(spans[0].failure, Some("StartTimeout"));
    assert_eq!(text(&spans[0], "berth.session.reason"), "StartTimeout");
    assert_eq!(text(&spans[0], "error.type"), "StartTimeout");
    assert!(spans[1..].iter().all(|span| span.failure.is_none()));
}

#[test]
fn a_launch_that_its_user_gave_up_is_told_and_no_failure() {
    let status = json!({"phase": "Disconnected", "reason": "UserDisconnected", "startedAt": at(0), "endedAt": at(4)});
    let spans = launch(&SessionStatus::default(), &session(status), None);
    assert_eq!((spans.len(), spans[0].failure), (1, None));
    assert_eq!(text(&spans[0], "berth.session.reason"), "UserDisconnected");
}

#[test]
fn a_launch_is_told_when_it_is_over_and_once() {
    let (over, pod) = usual();
    let now = over.status.clone().unwrap();
    assert_eq!(launch(&now, &over, Some(&pod)), [], "it is Active, and was before");
    let under_way = session(json!({"phase": "Starting", "startedAt": at(0), "conditions": admitted(5)}));
    assert_eq!(launch(&SessionStatus::default(), &under_way, Some(&pod)), []);
    let mut ended = over.clone();
    ended.status =
        Some(parse(json!({"phase": "Disconnected", "reason": "IdleTimeout", "readyAt": at(12), "endedAt": at(99)})));
    assert_eq!(launch(&now, &ended, Some(&pod)), [], "its end is another matter");
    assert_eq!(launch(ended.status.as_ref().unwrap(), &ended, Some(&pod)), []);
}

#[test]
fn a_container_that_was_started_again_says_so() {
    let (session, mut pod) = usual();
    let containers = pod.status.as_mut().and_then(|status| status.container_statuses.as_mut()).unwrap();
    containers[0].restart_count = 2;
    let spans = launch(&SessionStatus::default(), &session, Some(&pod));
    let restarts: Vec<_> = spans.iter().map(|span| text(span, "k8s.container.restart_count")).collect();
    assert_eq!(restarts, ["", "", "", "2", "", "", ""]);
}

#[test]
fn a_uid_of_other_bits_than_a_trace_has_none() {
    let (mut session, _) = usual();
    for uid in ["", "s", "00000000-0000-0000-0000-000000000000", "0f8fad5b-d9cb-469f-a165-70867728950"] {
        session.metadata.uid = Some(uid.to_owned());
        assert_eq!(launch(&SessionStatus::default(), &session, None), [], "{uid}");
    }
}

/// A time that may be unknown, and may lie anywhere.
fn time() -> impl Strategy<Value = Option<i64>> {
    prop::option::weighted(0.9, -5i64..25)
}

proptest! {
    #[test]
    fn every_span_lies_within_its_launch_whatever_the_clocks_say(
        created in time(), ready_at in time(), ended_at in time(), slot in time(), made in time(),
        scheduled in time(), ready in time(), init in time(), starts in prop::collection::vec(time(), 0..4),
    ) {
        let mut session = session(json!({"phase": "Active",
            "readyAt": ready_at.map(at), "endedAt": ended_at.map(at), "conditions": slot.map(admitted).unwrap_or(json!([]))}));
        let wire = |second: i64| parse(json!(at(second)));
        session.metadata.creation_timestamp = created.map(wire);
        let conditions: Vec<Json> = [("PodScheduled", scheduled), ("Ready", ready)].into_iter()
            .filter_map(|(type_, second)| Some(holds(type_, second?))).collect();
        let containers: Vec<Json> = starts.iter().enumerate()
            .map(|(index, start)| container(&format!("c{index}"), json!({"running": {"startedAt": start.map(at)}}))).collect();
        let init = container("first", json!({"terminated": {"exitCode": 0, "finishedAt": init.map(at)}}));
        let mut pod = pod(json!({"conditions": conditions, "containerStatuses": containers, "initContainerStatuses": [init]}));
        pod.metadata.creation_timestamp = made.map(wire);

        let spans = launch(&SessionStatus::default(), &session, Some(&pod));
        let over = ready_at.or(ended_at);
        prop_assert_eq!(spans.is_empty(), created.is_none() || over.is_none() || over < created);
        if let Some((root, children)) = spans.split_first() {
            prop_assert!(root.end - root.start >= TimeDelta::zero());
            for child in children {
                prop_assert_eq!(child.parent, Some(root.id));
                prop_assert!(root.start <= child.start && child.start <= child.end && child.end <= root.end, "{:?}", child);
            }
            let has = |name: &str| children.iter().any(|child| child.name == name);
            prop_assert!(!has("queue") || slot > created);
            for (name, known) in [("schedule", scheduled), ("publish", ready), ("ready", ready), ("publish", ready_at)] {
                prop_assert!(known.is_some() || !has(name), "{} of what nobody knows", name);
            }
            let started = starts.iter().flatten().count();
            prop_assert!(children.iter().filter(|child| child.name == "start").count() <= started);
            prop_assert!(!has("ready") || (started == starts.len() && started > 0));
        }
    }
}
