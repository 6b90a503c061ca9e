//! What holds when the operator goes away and comes back. These tests disturb every other one, so that they run
//! alone; they sort first, and the others follow.

use berth::api::condition::{Status, Type, is_true};
use berth::api::session::Phase;
use berth::api::{Reason, Session, SessionPolicy};
use serde_json::json;

use crate::harness::{Scene, idle, operator, status};

#[tokio::test]
async fn an_operator_that_comes_back_keeps_its_promises() {
    let scene = Scene::alone("restart").await;
    // A policy that vanished before: its values hold from the status alone.
    scene.policy("rules", idle(60, 120, 600)).await;
    scene.workspace("ruled", json!({ "policyRef": { "name": "rules" } })).await;
    scene.session("orphan", "ruled", json!({})).await;
    scene.phase("orphan", Phase::Active).await;
    scene.delete::<SessionPolicy>("rules").await;
    scene.condition("orphan", Type::PolicyMissing, Status::True).await;
    // A session to which nothing happens, and one that waits for it.
    scene.workspace("box", json!({})).await;
    scene.session("quiet", "box", json!({})).await;
    let quiet = scene.phase("quiet", Phase::Active).await;
    scene.session("next", "box", json!({})).await;
    scene.phase("next", Phase::Pending).await;
    // One that has a deadline while nobody is there, and one that is ended meanwhile.
    scene.policy("short", idle(1, 2, 8)).await;
    scene.workspace("bed", json!({ "policyRef": { "name": "short" } })).await;
    scene.session("due", "bed", json!({})).await;
    scene.workspace("door", json!({})).await;
    scene.session("leaves", "door", json!({})).await;
    scene.phase("leaves", Phase::Active).await;
    let orphan = status(&scene.get::<Session>("orphan").await);

    operator::restart(&scene).await;
    scene.disconnect("leaves").await;
    scene.ended("leaves", Phase::Disconnected, Reason::UserDisconnected).await;
    scene.ended("due", Phase::Disconnected, Reason::IdleTimeout).await;
    let after = status(&scene.get::<Session>("orphan").await);
    assert_eq!((after.phase, after.disconnect_at, &after.policy), (orphan.phase, orphan.disconnect_at, &orphan.policy));
    assert!(is_true(&after.conditions, Type::PolicyMissing));
    let untouched = scene.get::<Session>("quiet").await;
    assert_eq!(untouched.metadata.resource_version, quiet.metadata.resource_version, "{untouched:?}");
    assert_eq!(scene.seen("next").phases(), [Phase::Pending]);
    scene.disconnect("quiet").await;
    scene.phase("next", Phase::Active).await;
}
