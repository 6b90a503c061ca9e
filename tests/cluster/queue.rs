//! Who may launch, and what the others are told.

use berth::api::Reason;
use berth::api::session::Phase;
use serde_json::json;

use crate::harness::{Scene, status};

#[tokio::test]
async fn an_exclusive_workspace_takes_one_session_and_the_next_one_starts_when_that_has_ended() {
    let scene = Scene::new("exclusive").await;
    scene.workspace("box", json!({})).await;
    scene.session("first", "box", json!({})).await;
    scene.phase("first", Phase::Active).await;
    scene.session("second", "box", json!({ "user": { "id": "bob" } })).await;
    let waiting = scene.phase("second", Phase::Pending).await;
    assert!(status(&waiting).message.unwrap().contains("one session at a time"));
    scene.event("second", "NoSlot").await;
    scene.patch::<berth::api::Session>("first", json!({ "spec": { "desiredState": "Disconnected" } })).await;
    scene.ended("first", Phase::Disconnected, Reason::UserDisconnected).await;
    scene.phase("second", Phase::Active).await;
    assert_eq!(scene.seen("second").phases(), [Phase::Pending, Phase::Starting, Phase::Active]);
}
