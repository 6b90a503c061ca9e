//! Which policy a session lives under, and what an edit or the loss of it does to those that are live.

use berth::api::condition::{Status, Type, is_true};
use berth::api::session::Phase;
use berth::api::{Reason, Session, SessionPolicy};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::harness::{Scene, idle, merged, now, status};

/// A session in use under this policy.
async fn in_use(name: &str, policy: Value) -> Scene {
    let scene = Scene::new(name).await;
    scene.policy("rules", policy).await;
    scene.workspace("box", json!({ "policyRef": { "name": "rules" }, "maxSessions": 2 })).await;
    scene.session("mine", "box", json!({})).await;
    scene.usable("mine").await;
    scene
}

async fn edit(scene: &Scene, spec: Value) {
    scene.patch::<SessionPolicy>("rules", json!({ "spec": spec })).await;
}

#[tokio::test]
async fn a_tightened_idle_rule_gives_its_notice_before_it_ends_anybody() {
    let scene = in_use("tighten", idle(60, 120, 600)).await;
    // By the new rule the session is overdue when it is written.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let edited = now();
    edit(&scene, idle(1, 1, 5)).await;
    scene.condition("mine", Type::EndingSoon, Status::True).await;
    let ended = scene.ended("mine", Phase::Disconnected, Reason::IdleTimeout).await;
    let notice = status(&ended).ended_at.unwrap() - edited;
    assert!(notice >= TimeDelta::seconds(4), "{notice}");
    scene.event("mine", "EndingSoon").await;
}

#[tokio::test]
async fn a_tightened_maximum_duration_gives_its_notice_before_it_ends_anybody() {
    let scene = in_use("shorten", json!({ "maxDuration": "1h", "warnBefore": "4s" })).await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let edited = now();
    edit(&scene, json!({ "maxDuration": "5s" })).await;
    scene.condition("mine", Type::EndingSoon, Status::True).await;
    let ended = scene.ended("mine", Phase::Terminated, Reason::MaxDuration).await;
    let notice = status(&ended).ended_at.unwrap() - edited;
    assert!(notice >= TimeDelta::seconds(4), "{notice}");
}

#[tokio::test]
async fn a_loosened_policy_takes_the_warning_back() {
    let scene = in_use("loosen", idle(1, 2, 50)).await;
    scene.condition("mine", Type::EndingSoon, Status::True).await;
    edit(&scene, idle(300, 400, 600)).await;
    let active = scene.phase("mine", Phase::Active).await;
    let after = status(&active);
    assert!(!is_true(&after.conditions, Type::EndingSoon));
    assert_eq!(after.disconnect_at, after.ready_at.map(|ready| ready + TimeDelta::seconds(600)));
}

#[tokio::test]
async fn a_policy_that_vanishes_leaves_its_rules_with_live_sessions_and_holds_launches_back() {
    let scene = in_use("vanish", idle(2, 4, 12)).await;
    let before = status(&scene.get::<Session>("mine").await);
    scene.delete::<SessionPolicy>("rules").await;
    scene.condition("mine", Type::PolicyMissing, Status::True).await;
    scene.event("mine", "PolicyMissing").await;
    scene.session("next", "box", json!({ "user": { "id": "bob" } })).await;
    scene.event("next", "PolicyNotFound").await;
    let after = status(&scene.get::<Session>("mine").await);
    assert_eq!((after.disconnect_at, after.policy), (before.disconnect_at, before.policy));
    scene.ended("mine", Phase::Disconnected, Reason::IdleTimeout).await;
    assert!(scene.story("mine").await.ever(Type::EndingSoon));
}

#[tokio::test]
async fn a_policy_that_returns_holds_again() {
    let scene = in_use("return", idle(60, 120, 600)).await;
    scene.delete::<SessionPolicy>("rules").await;
    scene.condition("mine", Type::PolicyMissing, Status::True).await;
    scene.policy("rules", idle(60, 120, 900)).await;
    scene
        .eventually("the new rules hold", || async {
            let now = status(&scene.find::<Session>("mine").await?);
            let moved = now.disconnect_at? == now.ready_at? + TimeDelta::seconds(900);
            (moved && !is_true(&now.conditions, Type::PolicyMissing)).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_workspace_that_names_no_policy_takes_the_one_called_default() {
    let scene = Scene::new("default").await;
    scene.workspace("box", json!({ "maxSessions": 2 })).await;
    scene.session("before", "box", json!({})).await;
    let built_in = status(&scene.phase("before", Phase::Active).await);
    let rules = built_in.policy.clone().unwrap();
    assert_eq!(rules.name, None);
    assert_eq!(built_in.disconnect_at, built_in.ready_at.map(|ready| ready + TimeDelta::minutes(30)));

    // It takes live sessions in, too.
    scene.policy("default", idle(300, 400, 1200)).await;
    scene
        .eventually("the policy called default holds", || async {
            (status(&scene.find::<Session>("before").await?).policy?.name.as_deref() == Some("default")).then_some(())
        })
        .await;
    scene.session("after", "box", json!({})).await;
    let after = status(&scene.phase("after", Phase::Active).await);
    assert_eq!(after.policy.unwrap().name.as_deref(), Some("default"));
    assert_eq!(after.disconnect_at, after.ready_at.map(|ready| ready + TimeDelta::minutes(20)));

    // When it goes, built-in values do not take its place.
    scene.delete::<SessionPolicy>("default").await;
    scene.condition("after", Type::PolicyMissing, Status::True).await;
    let kept = status(&scene.get::<Session>("after").await);
    assert_eq!(kept.disconnect_at, kept.ready_at.map(|ready| ready + TimeDelta::minutes(20)));
}

#[tokio::test]
async fn a_policy_that_says_little_is_filled_up_to_fit() {
    let scene = in_use("little", json!({ "idle": { "disconnectAfter": "9s" } })).await;
    scene.ended("mine", Phase::Disconnected, Reason::IdleTimeout).await;
    let story = scene.story("mine").await;
    assert_eq!(story.phases(), [Phase::Starting, Phase::Active, Phase::Idle, Phase::Disconnected]);
    assert!(story.ever(Type::EndingSoon));
}

#[tokio::test]
async fn a_policy_applies_in_its_own_namespace_alone() {
    let (here, there) = (Scene::new("here").await, Scene::new("there").await);
    there.policy("default", merged(idle(1, 2, 4), json!({}))).await;
    for scene in [&here, &there] {
        scene.workspace("box", json!({})).await;
        scene.session("mine", "box", json!({})).await;
    }
    there.ended("mine", Phase::Disconnected, Reason::IdleTimeout).await;
    let untouched = here.phase("mine", Phase::Active).await;
    assert_eq!(status(&untouched).policy.unwrap().name, None);
}
