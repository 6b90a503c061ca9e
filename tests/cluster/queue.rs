//! Who may launch, in which order, and what those are told who wait.

use berth::api::session::Phase;
use berth::api::workspace::WorkspacePhase;
use berth::api::{Reason, Session, Workspace};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;

use crate::harness::{Scene, phase, status};

#[tokio::test]
async fn an_exclusive_workspace_takes_one_session_and_the_next_starts_when_that_has_ended() {
    let scene = Scene::new("exclusive").await;
    scene.workspace("box", json!({})).await;
    scene.session("first", "box", json!({})).await;
    scene.phase("first", Phase::Active).await;
    scene.session("second", "box", json!({ "user": { "id": "bob" } })).await;
    let waiting = scene.phase("second", Phase::Pending).await;
    assert!(status(&waiting).message.unwrap().contains("one session at a time"));
    scene.event("second", "NoSlot").await;
    scene.disconnect("first").await;
    scene.ended("first", Phase::Disconnected, Reason::UserDisconnected).await;
    scene.phase("second", Phase::Active).await;
    assert_eq!(scene.seen("second").phases(), [Phase::Pending, Phase::Starting, Phase::Active]);
}

#[tokio::test]
async fn slots_are_given_in_the_order_of_creation() {
    let scene = Scene::new("order").await;
    scene.workspace("box", json!({})).await;
    scene.session("a", "box", json!({})).await;
    scene.phase("a", Phase::Active).await;
    for name in ["c", "b", "d"] {
        // Creation times are whole seconds; within one the uid decides, which nobody can foresee.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        scene.session(name, "box", json!({ "user": { "id": name } })).await;
    }
    for name in ["c", "b", "d"] {
        scene.phase(name, Phase::Pending).await;
    }
    for (ends, starts, still) in [("a", "c", ["b", "d"].as_slice()), ("c", "b", &["d"]), ("b", "d", &[])] {
        scene.disconnect(ends).await;
        scene.phase(starts, Phase::Active).await;
        for name in still {
            assert_eq!(phase(&scene.get::<Session>(name).await), Some(Phase::Pending), "{name} came out of turn");
        }
    }
}

#[tokio::test]
async fn of_many_launches_at_once_no_more_run_than_there_are_slots() {
    let scene = Scene::new("burst").await;
    scene.workspace("box", json!({ "maxSessions": 2 })).await;
    let names: Vec<String> = (0..6).map(|number| format!("s{number}")).collect();
    let launches = names.iter().map(|name| scene.session(name, "box", json!({ "user": { "id": name } })));
    futures::future::join_all(launches).await;
    for _ in 0..3 {
        let active = scene
            .eventually("two sessions are Active", || async {
                let mut active = scene.list::<Session>().await;
                active.retain(|session| phase(session) == Some(Phase::Active));
                (active.len() == 2).then_some(active)
            })
            .await;
        // An ended session may take a moment to let go of its pod; a live one has exactly its own.
        scene
            .eventually("two pods are kept", || async {
                let pods = scene.list::<Pod>().await;
                let kept = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).count();
                (kept == 2).then_some(())
            })
            .await;
        scene.workspace_phase("box", WorkspacePhase::InUse).await;
        assert_eq!(scene.get::<Workspace>("box").await.status.unwrap().active_sessions, Some(2));
        for session in active {
            scene.disconnect(&session.name_any()).await;
            scene.phase(&session.name_any(), Phase::Disconnected).await;
        }
    }
    scene.workspace_phase("box", WorkspacePhase::Available).await;
    scene.no_pods().await;
}

#[tokio::test]
async fn a_session_that_does_not_want_to_wait_fails_when_no_slot_is_free() {
    let scene = Scene::new("fail").await;
    scene.workspace("box", json!({})).await;
    scene.session("first", "box", json!({})).await;
    scene.phase("first", Phase::Active).await;
    scene.session("second", "box", json!({ "whenFull": "Fail" })).await;
    let failed = scene.ended("second", Phase::Failed, Reason::LimitExceeded).await;
    assert!(status(&failed).message.unwrap().contains("one session at a time"));
    scene.event("second", "LimitExceeded").await;
    assert!(scene.pods_of(&failed).await.is_empty());
    assert!(failed.metadata.finalizers.is_none());
    assert_eq!(phase(&scene.get::<Session>("first").await), Some(Phase::Active));
}

#[tokio::test]
async fn a_session_that_waits_can_be_given_up_without_ever_starting() {
    let scene = Scene::new("giveup").await;
    scene.workspace("box", json!({})).await;
    scene.session("first", "box", json!({})).await;
    scene.phase("first", Phase::Active).await;
    scene.session("second", "box", json!({})).await;
    scene.phase("second", Phase::Pending).await;
    scene.disconnect("second").await;
    scene.ended("second", Phase::Disconnected, Reason::UserDisconnected).await;
    assert_eq!(scene.story("second").await.phases(), [Phase::Pending, Phase::Disconnected]);
}

#[tokio::test]
async fn the_queue_has_an_end_and_says_what_was_waited_for() {
    let scene = Scene::new("timeout").await;
    scene.policy("hasty", json!({ "queueTimeout": "3s" })).await;
    scene.workspace("box", json!({ "policyRef": { "name": "hasty" } })).await;
    scene.session("first", "box", json!({})).await;
    scene.phase("first", Phase::Active).await;
    scene.session("second", "box", json!({})).await;
    let failed = scene.ended("second", Phase::Failed, Reason::QueueTimeout).await;
    let message = status(&failed).message.unwrap();
    assert!(message.contains("3s") && message.contains("one session at a time"), "{message}");
    assert_eq!(phase(&scene.get::<Session>("first").await), Some(Phase::Active));
}

#[tokio::test]
async fn maintenance_holds_launches_back_until_it_is_over() {
    let scene = Scene::new("maintenance").await;
    scene.workspace("box", json!({ "maintenance": true })).await;
    scene.session("mine", "box", json!({})).await;
    let waiting = scene.phase("mine", Phase::Pending).await;
    assert!(status(&waiting).message.unwrap().contains("maintenance"));
    scene.event("mine", "Maintenance").await;
    scene.workspace_phase("box", WorkspacePhase::Maintenance).await;
    scene.patch::<Workspace>("box", json!({ "spec": { "maintenance": false } })).await;
    scene.phase("mine", Phase::Active).await;
}

#[tokio::test]
async fn a_session_waits_for_a_workspace_that_does_not_exist_yet() {
    let scene = Scene::new("unknown").await;
    scene.session("mine", "box", json!({})).await;
    let waiting = scene.phase("mine", Phase::Pending).await;
    assert!(status(&waiting).message.unwrap().contains("Workspace box: it does not exist"));
    scene.event("mine", "WorkspaceNotFound").await;
    scene.workspace("box", json!({})).await;
    scene.phase("mine", Phase::Active).await;
}

#[tokio::test]
async fn a_session_waits_for_the_policy_that_is_named_and_never_takes_another() {
    let scene = Scene::new("nopolicy").await;
    scene.policy("default", json!({ "maxDuration": "1h" })).await;
    scene.workspace("box", json!({ "policyRef": { "name": "strict" } })).await;
    scene.session("mine", "box", json!({})).await;
    let waiting = scene.phase("mine", Phase::Pending).await;
    assert!(status(&waiting).message.unwrap().contains("SessionPolicy strict"));
    scene.event("mine", "PolicyNotFound").await;
    scene.workspace_phase("box", WorkspacePhase::Unavailable).await;
    scene.policy("strict", json!({ "maxDuration": "2h" })).await;
    let active = scene.phase("mine", Phase::Active).await;
    assert_eq!(status(&active).policy.unwrap().name.as_deref(), Some("strict"));
    scene.workspace_phase("box", WorkspacePhase::InUse).await;
}
