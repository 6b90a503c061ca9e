//! What `kubectl get` shows of the three kinds, and by which names and fields they are found.

use berth::api::Session;
use berth::api::session::Phase;
use kube::api::ListParams;
use serde_json::json;

use crate::harness::Scene;

fn header(table: &str) -> Vec<&str> {
    table.lines().next().unwrap_or_default().split_whitespace().collect()
}

async fn one_of_each(name: &str) -> Scene {
    let scene = Scene::new(name).await;
    scene.policy("default", json!({ "maxDuration": "2h" })).await;
    scene.workspace("box", json!({ "maxSessions": 4 })).await;
    scene.session("mine", "box", json!({})).await;
    scene.session("other", "box", json!({ "user": { "id": "bob" } })).await;
    scene.phase("mine", Phase::Active).await;
    scene.phase("other", Phase::Active).await;
    scene
}

#[tokio::test]
async fn a_plain_get_answers_who_what_state_since_when_until_when_and_why() {
    let scene = one_of_each("columns").await;
    let sessions = scene.kubectl(&["get", "sessions"]);
    let columns = ["NAME", "USER", "WORKSPACE", "PHASE", "SINCE", "UNTIL", "ENDED", "REASON", "MESSAGE"];
    assert_eq!(header(&sessions), columns);
    let mine = sessions.lines().find(|line| line.starts_with("mine")).unwrap();
    for word in ["ana", "box", "Active"] {
        assert!(mine.contains(word), "{mine}");
    }
    scene.disconnect("mine").await;
    scene.phase("mine", Phase::Disconnected).await;
    let sessions = scene.kubectl(&["get", "sessions", "mine"]);
    assert!(sessions.contains("UserDisconnected") && sessions.contains("ended by its user"), "{sessions}");
    let workspaces = scene.kubectl(&["get", "workspaces"]);
    assert_eq!(header(&workspaces), ["NAME", "TYPE", "PHASE", "SESSIONS", "MAX", "AGE"]);
    let policies = scene.kubectl(&["get", "sessionpolicies"]);
    assert_eq!(header(&policies), ["NAME", "IDLE-AFTER", "DISCONNECT-AFTER", "MAX-DURATION", "KEEP-FOR", "AGE"]);
}

#[tokio::test]
async fn short_names_and_the_category_find_the_kinds() {
    let scene = one_of_each("names").await;
    for (short, name) in [("ws", "box"), ("sess", "mine"), ("spol", "default")] {
        assert!(scene.kubectl(&["get", short, "--output=name"]).contains(name), "{short}");
    }
    let all = scene.kubectl(&["get", "berth", "--output=name"]);
    let kinds = ["workspace.berth.dev/box", "session.berth.dev/mine", "sessionpolicy.berth.dev/default"];
    assert!(kinds.iter().all(|name| all.contains(name)), "{all}");
}

#[tokio::test]
async fn sessions_are_selected_by_user_workspace_phase_and_whether_they_live() {
    let scene = one_of_each("selected").await;
    scene.disconnect("mine").await;
    scene.phase("mine", Phase::Disconnected).await;
    for (selector, names) in [
        ("spec.user.id=bob", vec!["other"]),
        ("spec.workspaceRef.name=box", vec!["mine", "other"]),
        ("spec.workspaceRef.name=elsewhere", vec![]),
        ("status.phase=Disconnected", vec!["mine"]),
        ("status.endedAt=", vec!["other"]),
    ] {
        let found = scene.api::<Session>().list(&ListParams::default().fields(selector)).await.unwrap();
        let found: Vec<_> = found.items.into_iter().filter_map(|session| session.metadata.name).collect();
        assert_eq!(found, names, "{selector}");
    }
}

#[tokio::test]
async fn every_field_is_explained() {
    let scene = Scene::new("explained").await;
    for field in ["workspaces.spec.reclaimPolicy", "sessions.status.disconnectAt", "sessionpolicies.spec.idle.after"] {
        let page = scene.kubectl(&["explain", field]);
        let about = page.split_once("DESCRIPTION:").map(|(_, text)| text.trim().len()).unwrap_or_default();
        assert!(about > 20 && !page.contains("<empty>"), "{page}");
    }
}
