//! The life of a usable session: used and idle, warned and ended by time.

use berth::api::Session;
use berth::api::condition::{Status, Type};
use berth::api::session::Phase;
use berth::api::{Reason, time::Instant};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::harness::{Scene, at, idle, merged, now, status};

/// A session in use on a Workspace under this policy.
async fn in_use(name: &str, policy: Value, session: Value) -> (Scene, Instant) {
    let scene = Scene::new(name).await;
    scene.policy("rules", policy).await;
    scene.workspace("box", json!({ "policyRef": { "name": "rules" } })).await;
    scene.session("mine", "box", session).await;
    let ready = status(&scene.usable("mine").await).ready_at.unwrap();
    (scene, ready)
}

#[tokio::test]
async fn an_unused_session_becomes_idle_is_warned_and_is_disconnected_at_its_deadline() {
    let (scene, ready) = in_use("idle", idle(2, 4, 8), json!({})).await;
    let ended = scene.ended("mine", Phase::Disconnected, Reason::IdleTimeout).await;
    let story = scene.story("mine").await;
    assert_eq!(story.phases(), [Phase::Starting, Phase::Active, Phase::Idle, Phase::Disconnected]);
    let deadline = ready + TimeDelta::seconds(8);
    assert!(story.statuses().any(|seen| seen.disconnect_at == Some(deadline)));
    assert!(story.statuses().any(|seen| seen.disconnect_reason == Some(Reason::IdleTimeout)));
    assert!(story.statuses().any(|seen| seen.idle_since == Some(ready)));
    let warning = story.words(Type::EndingSoon).unwrap();
    assert!(warning.contains("any activity keeps it"), "{warning}");
    assert!(status(&ended).ended_at.unwrap() >= deadline);
    scene.event("mine", "IdleTimeout").await;
    assert_eq!(scene.events("mine").await, ["Active", "EndingSoon", "IdleTimeout"]);
    scene.no_pods().await;
}

#[tokio::test]
async fn activity_makes_an_idle_session_active_again_and_takes_the_warning_back() {
    let (scene, ready) = in_use("used", idle(2, 3, 50), json!({})).await;
    scene.condition("mine", Type::EndingSoon, Status::True).await;
    let used = now();
    scene.observe("mine", json!({ "activity": { "lastAt": at(used), "source": "test" } })).await.unwrap();
    let active = scene.phase("mine", Phase::Active).await;
    let after = status(&active);
    assert!(!active.status.unwrap().conditions.iter().any(|condition| condition.type_ == Type::EndingSoon));
    assert_eq!((after.idle_since, after.ready_at), (None, Some(ready)));
    assert!(after.disconnect_at.unwrap() > ready + TimeDelta::seconds(50));
    // What the observer wrote stays the observer's.
    assert_eq!(after.activity.unwrap().source.unwrap().to_string(), "test");
}

#[tokio::test]
async fn a_keepalive_keeps_a_session_that_was_warned() {
    let (scene, _) = in_use("keep", idle(2, 3, 50), json!({})).await;
    scene.condition("mine", Type::EndingSoon, Status::True).await;
    scene.patch::<Session>("mine", json!({ "spec": { "keepAliveAt": at(now()) } })).await;
    let active = scene.phase("mine", Phase::Active).await;
    assert!(!active.status.unwrap().conditions.iter().any(|condition| condition.type_ == Type::EndingSoon));
    // And without another one it is idle again.
    scene.phase("mine", Phase::Idle).await;
}

#[tokio::test]
async fn a_keepalive_counts_for_nothing_where_the_policy_does_not_allow_it() {
    let policy = merged(idle(2, 3, 9), json!({ "idle": { "allowKeepAlive": false } }));
    let (scene, ready) = in_use("nokeep", policy, json!({})).await;
    scene.phase("mine", Phase::Idle).await;
    scene.patch::<Session>("mine", json!({ "spec": { "keepAliveAt": at(now()) } })).await;
    scene.ended("mine", Phase::Disconnected, Reason::IdleTimeout).await;
    let story = scene.story("mine").await;
    assert_eq!(story.phases(), [Phase::Starting, Phase::Active, Phase::Idle, Phase::Disconnected]);
    let deadlines = story.statuses().filter_map(|seen| seen.disconnect_at);
    assert!(deadlines.into_iter().all(|deadline| deadline == ready + TimeDelta::seconds(9)));
}

#[tokio::test]
async fn a_users_wish_to_be_disconnected_earlier_is_granted() {
    let (scene, ready) = in_use("wish", idle(2, 60, 600), json!({ "idle": { "disconnectAfter": "6s" } })).await;
    let ended = scene.ended("mine", Phase::Disconnected, Reason::IdleTimeout).await;
    assert!(status(&ended).ended_at.unwrap() >= ready + TimeDelta::seconds(6));
    assert!(scene.story("mine").await.ever(Type::EndingSoon));
}

#[tokio::test]
async fn a_users_wish_is_bounded_by_the_policy() {
    let policy = merged(idle(60, 120, 600), json!({ "idle": { "userMax": "900s" } }));
    let (scene, ready) = in_use("greed", policy, json!({ "idle": { "disconnectAfter": "20h" } })).await;
    let active = scene.phase("mine", Phase::Active).await;
    assert_eq!(status(&active).disconnect_at, Some(ready + TimeDelta::seconds(900)));
}

#[tokio::test]
async fn the_maximum_duration_warns_and_then_ends_a_session_that_is_in_use() {
    let policy = json!({ "maxDuration": "9s", "warnBefore": "5s" });
    let (scene, ready) = in_use("longest", policy, json!({})).await;
    scene.condition("mine", Type::EndingSoon, Status::True).await;
    scene.observe("mine", json!({ "activity": { "lastAt": at(now()) } })).await.unwrap();
    let ended = scene.ended("mine", Phase::Terminated, Reason::MaxDuration).await;
    let story = scene.story("mine").await;
    assert_eq!(story.phases(), [Phase::Starting, Phase::Active, Phase::Terminated]);
    assert!(story.words(Type::EndingSoon).unwrap().contains("MaxDuration"));
    assert!(status(&ended).ended_at.unwrap() >= ready + TimeDelta::seconds(9));
    assert_eq!(scene.events("mine").await.iter().filter(|reason| *reason == "EndingSoon").count(), 1);
}

#[tokio::test]
async fn a_long_session_is_marked_and_goes_on() {
    let (scene, _) = in_use("long", json!({ "alertAfter": "2s" }), json!({})).await;
    scene.condition("mine", Type::LongRunning, Status::True).await;
    scene.event("mine", "LongRunning").await;
    let active = scene.phase("mine", Phase::Active).await;
    assert_eq!(status(&active).ended_at, None);
}

#[tokio::test]
async fn activity_from_the_future_is_told_and_keeps_a_session_no_longer_than_activity_now() {
    let (scene, _) = in_use("skew", idle(2, 4, 9), json!({})).await;
    let future = now() + TimeDelta::hours(1);
    scene.observe("mine", json!({ "activity": { "lastAt": at(future) } })).await.unwrap();
    scene.condition("mine", Type::ClockSkew, Status::True).await;
    scene.event("mine", "ClockSkew").await;
    scene.ended("mine", Phase::Disconnected, Reason::IdleTimeout).await;
}

#[tokio::test]
async fn a_keepalive_from_the_future_does_not_keep_a_session_for_ever() {
    let (scene, _) = in_use("ahead", idle(2, 4, 9), json!({})).await;
    let future = now() + TimeDelta::days(3650);
    scene.patch::<Session>("mine", json!({ "spec": { "keepAliveAt": at(future) } })).await;
    scene.condition("mine", Type::ClockSkew, Status::True).await;
    scene.ended("mine", Phase::Disconnected, Reason::IdleTimeout).await;
}

#[tokio::test]
async fn a_session_to_which_nothing_happens_is_not_written() {
    let (scene, _) = in_use("quiet", json!({}), json!({})).await;
    let before = scene.phase("mine", Phase::Active).await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let after = scene.get::<Session>("mine").await;
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version, "{before:?} became {after:?}");
}
