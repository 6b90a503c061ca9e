//! What stays of a session that has ended, and for how long.

use berth::api::condition::{Type, is_true};
use berth::api::session::Phase;
use berth::api::{Reason, Session, VELERO_EXCLUDE_LABEL};
use chrono::TimeDelta;
use kube::ResourceExt;
use serde_json::json;

use crate::harness::{Scene, merged, now, session_spec, status};

#[tokio::test]
async fn an_ended_session_is_kept_as_long_as_the_policy_says_and_then_pruned() {
    let scene = Scene::new("keep").await;
    scene.policy("default", json!({ "history": { "keepFor": "5s" } })).await;
    scene.workspace("box", json!({ "displayName": "A box" })).await;
    scene.session("mine", "box", json!({})).await;
    scene.phase("mine", Phase::Active).await;
    scene.disconnect("mine").await;
    let ended = scene.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    let kept = status(&ended);
    let workspace = kept.workspace.unwrap();
    assert_eq!((workspace.display_name.as_str(), workspace.type_.as_str()), ("A box", "web"));
    assert!(is_true(&kept.conditions, Type::Ended) && kept.instance.is_some());
    assert_eq!(ended.labels().get(VELERO_EXCLUDE_LABEL).map(String::as_str), Some("true"));
    scene.gone::<Session>("mine").await;
    assert!(now() >= kept.ended_at.unwrap() + TimeDelta::seconds(5));
}

#[tokio::test]
async fn an_ended_session_that_a_tool_tracks_is_never_pruned() {
    let scene = Scene::new("gitops").await;
    scene.policy("default", json!({ "history": { "keepFor": "2s" } })).await;
    scene.workspace("box", json!({ "maxSessions": 9 })).await;
    let tracking = [
        ("argo", json!({ "annotations": { "argocd.argoproj.io/tracking-id": "app:berth.dev/Session:x" } })),
        ("flux", json!({ "labels": { "kustomize.toolkit.fluxcd.io/name": "apps" } })),
        ("plain", json!({})),
    ];
    for (name, more) in tracking {
        let metadata = merged(json!({ "name": name }), more);
        scene.create::<Session>(json!({ "metadata": metadata, "spec": session_spec("box", json!({})) })).await;
        scene.phase(name, Phase::Active).await;
        scene.disconnect(name).await;
        scene.story(name).await;
    }
    // It ended last, and is gone first.
    scene.gone::<Session>("plain").await;
    for name in ["argo", "flux"] {
        let kept = scene.ended(name, Phase::Disconnected, Reason::UserDisconnected).await;
        assert_eq!(kept.metadata.deletion_timestamp, None);
        scene.let_go(name).await;
    }
}

#[tokio::test]
async fn a_failed_session_is_history_too() {
    let scene = Scene::new("failed").await;
    scene.policy("default", json!({ "history": { "keepFor": "3s" } })).await;
    scene.workspace("box", json!({})).await;
    scene.session("holder", "box", json!({})).await;
    scene.phase("holder", Phase::Active).await;
    scene.session("mine", "box", json!({ "whenFull": "Fail" })).await;
    scene.ended("mine", Phase::Failed, Reason::LimitExceeded).await;
    scene.gone::<Session>("mine").await;
    scene.phase("holder", Phase::Active).await;
}
