//! The REST API of the installed gateway: what its callers rely on, and what none of them sees.

mod tenants;

use berth::api::session::Phase;
use berth::api::{Reason, Session, Workspace};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::harness::api::{Person, call};
use crate::harness::{Scene, at, now, status};

/// The fields that existing clients read of a session.
const CONTRACT: [&str; 12] = [
    "id",
    "user_id",
    "user_email",
    "workspace_id",
    "workspace_name",
    "workspace_type",
    "status",
    "started_at",
    "ended_at",
    "ip_address",
    "tunnel_status",
    "mfa_verified",
];

#[tokio::test]
async fn a_session_is_launched_seen_and_disconnected_as_existing_clients_do_it() {
    let scene = Scene::new("api").await;
    scene.workspace("desk", json!({ "displayName": "Desk 7", "type": "linux" })).await;
    let ana = Person::new(&scene, "ana", &["berth-user"]).await;
    ana.sees(&scene, "desk").await;
    let launched = ana.post("/api/workspaces/desk/launch", json!({ "device": "laptop" })).await;
    assert_eq!(launched.status, 200, "{launched:?}");
    let id = launched.body["session_id"].as_str().unwrap();
    assert_eq!(launched.body["stream_url"], format!("/viewer/{id}"));
    assert_eq!(launched.body["tunnel_status"], "unknown");
    assert_eq!(launched.body["security"]["mfa_verified"], false);
    assert_eq!(launched.body["workspace"]["id"], "desk");
    let name = launched.body["session_name"].as_str().unwrap();
    let session = scene.phase(name, Phase::Active).await;
    assert_eq!((session.uid().as_deref(), session.spec.user.id.as_str()), (Some(id), ana.username.as_str()));

    let shown = scene
        .eventually("the API shows it as active", || async {
            let shown = ana.session(id).await;
            (shown["phase"] == "Active").then_some(shown)
        })
        .await;
    for field in CONTRACT {
        assert!(shown.get(field).is_some(), "{field} is missing: {shown}");
    }
    assert_eq!((&shown["workspace_name"], &shown["workspace_type"]), (&json!("Desk 7"), &json!("linux")));
    assert_eq!(
        (&shown["status"], &shown["ended_at"], &shown["device"]),
        (&json!("active"), &Value::Null, &json!("laptop"))
    );
    assert_eq!(ana.get("/api/sessions/active").await.body.as_array().unwrap().len(), 1);
    let stats = ana.get("/api/sessions/stats").await.body;
    assert_eq!((&stats["active"], &stats["idle"], &stats["disconnected"]), (&json!(1), &json!(0), &json!(0)));

    let ended = ana.post(&format!("/api/sessions/{id}/disconnect"), json!({})).await;
    assert_eq!((ended.status, &ended.body), (200, &json!({ "message": "Session disconnected" })));
    let shown = ana.session(id).await;
    assert_eq!((&shown["status"], &shown["reason"]), (&json!("disconnected"), &json!("UserDisconnected")));
    assert!(shown["ended_at"].is_string() && shown["tunnel_status"] == "disconnected", "{shown}");
    let again = ana.post(&format!("/api/sessions/{id}/disconnect"), json!({})).await;
    assert_eq!((again.status, again.body), (200, ended.body));
    assert_eq!(ana.get("/api/sessions/active").await.body, json!([]));
    scene.no_pods().await;
    let keepalive = ana.post(&format!("/api/sessions/{id}/keepalive"), json!({})).await;
    assert_eq!(keepalive.status, 409, "{keepalive:?}");
}

#[tokio::test]
async fn an_ended_session_can_be_read_when_its_resource_is_gone() {
    let scene = Scene::new("history").await;
    scene.workspace("box", json!({})).await;
    let ana = Person::new(&scene, "ana", &["berth-user"]).await;
    ana.sees(&scene, "box").await;
    let first = ana.launch("box").await;
    ana.post(&format!("/api/sessions/{first}/disconnect"), json!({})).await;
    let name = ana.session(&first).await["name"].as_str().unwrap().to_owned();
    // Nothing of it changes any more.
    scene.let_go(&name).await;
    let before = ana.session(&first).await;
    scene.delete::<Session>(&name).await;
    scene.gone::<Session>(&name).await;
    // The newest is first by its second.
    let begun = before["started_at"].as_str().unwrap().parse::<berth::api::time::Instant>().unwrap();
    scene.eventually("a second has passed", || async { (now() - begun).num_seconds().gt(&1).then_some(()) }).await;
    let second = ana.launch("box").await;
    let after = scene
        .eventually("it comes from the history", || async {
            let answer = ana.get(&format!("/api/sessions/{first}")).await;
            (answer.status == 200).then_some(answer.body)
        })
        .await;
    assert_eq!(after, before, "as it was");
    let ids = |answer: &Value| -> Vec<String> {
        answer.as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&ana.get("/api/sessions").await.body), [second.clone(), first.clone()], "the newest first");
    let page = ana.get("/api/sessions?limit=1").await;
    assert_eq!(ids(&page.body), [second.as_str()]);
    let link = page.headers["link"].to_str().unwrap().to_owned();
    let next = link.split(['<', '>']).nth(1).unwrap();
    let page = ana.get(next).await;
    assert_eq!((ids(&page.body), page.headers.get("link")), (vec![first.clone()], None));
    assert_eq!(ids(&ana.get("/api/sessions?history=false").await.body), [second.as_str()]);
    assert_eq!(ids(&ana.get("/api/sessions?status=disconnected").await.body), [first]);
    ana.post(&format!("/api/sessions/{second}/disconnect"), json!({})).await;
}

#[tokio::test]
async fn who_finds_no_slot_is_told_so_or_waits_if_they_wish() {
    let scene = Scene::new("noslot").await;
    scene.workspace("one", json!({})).await;
    let ana = Person::new(&scene, "ana", &["berth-user"]).await;
    let ben = Person::new(&scene, "ben", &["berth-user"]).await;
    ana.sees(&scene, "one").await;
    ben.sees(&scene, "one").await;
    let held = ana.launch("one").await;
    let refused = ben.post("/api/workspaces/one/launch", json!({})).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.detail().contains("one session at a time"), "{refused:?}");
    assert_eq!(ben.get("/api/sessions/active").await.body, json!([]), "nothing is left behind");
    let waits = ben.post("/api/workspaces/one/launch", json!({ "wait": true })).await;
    assert_eq!((waits.status, &waits.body["phase"]), (200, &json!("Pending")), "{waits:?}");
    let id = waits.body["session_id"].as_str().unwrap();
    assert_eq!(ben.session(id).await["queue_position"], 1);
    ana.post(&format!("/api/sessions/{held}/disconnect"), json!({})).await;
    scene.phase(waits.body["session_name"].as_str().unwrap(), Phase::Active).await;
    scene.patch::<Workspace>("one", json!({ "spec": { "maintenance": true } })).await;
    scene
        .eventually("the API knows of the maintenance", || async {
            (ana.get("/api/workspaces/one").await.body["status"] == "maintenance").then_some(())
        })
        .await;
    let closed = ana.post("/api/workspaces/one/launch", json!({ "wait": true })).await;
    assert_eq!(closed.status, 409, "{closed:?}");
    assert!(closed.detail().contains("maintenance"), "{closed:?}");
}

#[tokio::test]
async fn one_idempotency_key_is_one_launch() {
    let scene = Scene::new("idempotent").await;
    scene.workspace("many", json!({ "maxSessions": 5 })).await;
    let ana = Person::new(&scene, "ana", &["berth-user"]).await;
    ana.sees(&scene, "many").await;
    let key = [("idempotency-key", "7f3e")];
    let calls = (0..4).map(|_| ana.post_with("/api/workspaces/many/launch", json!({}), &key));
    let answers = futures::future::join_all(calls).await;
    let ids: Vec<&Value> = answers.iter().map(|answer| &answer.body["session_id"]).collect();
    assert!(ids.iter().all(|id| id.is_string() && *id == ids[0]), "{answers:?}");
    assert_eq!(scene.list::<Session>().await.len(), 1);
    let other = ana.post_with("/api/workspaces/many/launch", json!({}), &[("idempotency-key", "another")]).await;
    assert_ne!(&other.body["session_id"], ids[0]);
}

#[tokio::test]
async fn a_stop_a_report_and_an_end_of_all_say_why_the_session_ended() {
    let scene = Scene::new("ends").await;
    for workspace in ["stopped", "reported", "left"] {
        scene.workspace(workspace, json!({})).await;
    }
    let ana = Person::new(&scene, "ana", &["berth-user"]).await;
    for workspace in ["stopped", "reported", "left"] {
        ana.sees(&scene, workspace).await;
    }
    let launch = async |workspace: &str| {
        let id = ana.launch(workspace).await;
        let name = ana.session(&id).await["name"].as_str().unwrap().to_owned();
        (id, name)
    };
    let (_, stopped) = launch("stopped").await;
    let (id, reported) = launch("reported").await;
    let (left, _) = launch("left").await;
    let answer = ana.post("/api/workspaces/stopped/stop", json!({})).await;
    assert_eq!((answer.status, &answer.body["message"]), (200, &json!("Workspace stopped")));
    let session = scene.ended(&stopped, Phase::Terminated, Reason::WorkspaceStopped).await;
    assert_eq!(
        status(&session).end_request.unwrap().actor.unwrap().as_str(),
        &ana.username[..ana.username.len().min(128)]
    );
    assert_eq!(ana.post(&format!("/api/sessions/{id}/report"), json!({})).await.status, 200);
    scene.ended(&reported, Phase::Terminated, Reason::ReportedByUser).await;
    let alert = scene.event(&reported, "ReportedByUser").await.note.unwrap();
    assert!(alert.contains("was not theirs"), "{alert}");
    let counted = ana.post("/api/sessions/disconnect-all", json!({ "dry_run": true })).await.body;
    assert_eq!((&counted["count"], &counted["results"][0]["result"]), (&json!(1), &json!("would_end")));
    assert_eq!(ana.session(&left).await["status"], "active", "a dry run ends nothing");
    let typo = ana.post("/api/sessions/disconnect-all", json!({ "work_space": "left" })).await;
    assert_eq!(typo.status, 422, "it would have ended everything: {typo:?}");
    let all = ana.post("/api/sessions/disconnect-all", json!({ "workspace": "left" })).await.body;
    assert_eq!((&all["count"], &all["results"][0]["result"]), (&json!(1), &json!("ended")), "{all}");
    assert_eq!(ana.session(&left).await["status"], "disconnected");
}

#[tokio::test]
async fn a_keepalive_makes_an_idle_session_active_where_the_policy_allows_it() {
    let scene = Scene::new("stay").await;
    scene.policy("short", json!({ "idle": { "after": "3s", "warnAfter": "60s", "disconnectAfter": "120s" } })).await;
    let strict =
        json!({ "idle": { "after": "3s", "warnAfter": "60s", "disconnectAfter": "120s", "allowKeepAlive": false } });
    scene.policy("strict", strict).await;
    scene.workspace("free", json!({ "policyRef": { "name": "short" } })).await;
    scene.workspace("strict", json!({ "policyRef": { "name": "strict" } })).await;
    let ana = Person::new(&scene, "ana", &["berth-user"]).await;
    ana.sees(&scene, "free").await;
    ana.sees(&scene, "strict").await;
    let (free, strict) = (ana.launch("free").await, ana.launch("strict").await);
    let name = ana.session(&free).await["name"].as_str().unwrap().to_owned();
    scene.phase(&name, Phase::Idle).await;
    let kept = ana.post(&format!("/api/sessions/{free}/keepalive"), json!({})).await;
    assert_eq!((kept.status, &kept.body["phase"]), (200, &json!("Active")), "{kept:?}");
    // The API answers as soon as its own watch has it; this test's may be behind.
    scene
        .eventually("it was seen to become active again", || async {
            let phases = scene.seen(&name).phases();
            phases.windows(2).any(|two| two == [Phase::Idle, Phase::Active]).then_some(())
        })
        .await;
    let refused = ana.post(&format!("/api/sessions/{strict}/keepalive"), json!({})).await;
    assert_eq!(refused.status, 403, "{refused:?}");
}

#[tokio::test]
async fn a_stream_begins_with_a_snapshot_tells_each_change_and_goes_on_where_it_was_left() {
    let scene = Scene::new("stream").await;
    scene.workspace("box", json!({})).await;
    let ana = Person::new(&scene, "ana", &["berth-user"]).await;
    let ben = Person::new(&scene, "ben", &["berth-user"]).await;
    ana.sees(&scene, "box").await;
    let id = ana.launch("box").await;
    let begun = ana.listen(None, |heard| heard.contains("event: snapshot") && heard.ends_with("\n\n")).await;
    assert!(begun.contains(&id), "{begun}");
    let mark = begun.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    let foreign = ben.listen(None, |heard| heard.contains("event: snapshot") && heard.ends_with("\n\n")).await;
    assert!(!foreign.contains(&id) && foreign.contains("data: []"), "{foreign}");
    ana.post(&format!("/api/sessions/{id}/disconnect"), json!({})).await;
    let rest = ana.listen(Some(&mark), |heard| heard.contains("UserDisconnected")).await;
    assert!(
        !rest.contains("event: snapshot") && rest.contains("event: session"),
        "what was missed, and no more: {rest}"
    );
    let stale = ana.listen(Some("0-1"), |heard| heard.contains("event: ") && heard.ends_with("\n\n")).await;
    assert!(stale.contains("event: snapshot"), "a mark of another process: {stale}");
}

#[tokio::test]
async fn each_change_is_recorded_once_with_who_and_from_where_and_the_chain_is_sound() {
    let scene = Scene::new("audit").await;
    scene.workspace("box", json!({})).await;
    let ana = Person::new(&scene, "ana", &["berth-user"]).await;
    let manager = Person::new(&scene, "manager", &["admin"]).await;
    ana.sees(&scene, "box").await;
    let id = ana.launch("box").await;
    scene.phase(ana.session(&id).await["name"].as_str().unwrap(), Phase::Active).await;
    for _ in 0..2 {
        ana.post(&format!("/api/sessions/{id}/disconnect"), json!({})).await;
    }
    let path = format!("/api/organizations/{}/audit", scene.namespace);
    let records = scene
        .eventually("the end is recorded", || async {
            let answer = manager.get(&path).await;
            let records = answer.body.as_array()?.clone();
            records.iter().any(|record| record["action"] == "session_ended").then_some(records)
        })
        .await;
    let mut actions: Vec<&str> = records.iter().map(|record| record["action"].as_str().unwrap()).collect();
    actions.sort_unstable();
    let expected = ["disconnect_session", "launch_workspace", "session_active", "session_created", "session_ended"];
    assert_eq!(actions, expected, "each once: {records:?}");
    for record in &records {
        let actor = match record["action"].as_str() {
            Some("session_created") => "unknown",
            Some("session_active") => "berth-operator",
            _ => ana.username.as_str(),
        };
        assert_eq!((&record["actor"], &record["outcome"]), (&json!(actor), &json!("Success")), "{record}");
    }
    let call = records.iter().find(|record| record["action"] == "disconnect_session").unwrap();
    assert_eq!((&call["target_uid"], &call["address_source"]), (&json!(id), &json!("connection")), "{call}");
    let words =
        ["exec", "--namespace", "berth-system", "deployment/berth-gateway", "--", "/usr/local/bin/berth", "audit"];
    let verified = std::process::Command::new("kubectl")
        .args(words)
        .args(["verify", "--store", "sqlite:/var/lib/berth/berth.db"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success() && said.starts_with("sound: "), "{said} {verified:?}");
}

#[tokio::test]
async fn what_becomes_of_a_session_that_was_launched_by_kubectl_is_recorded_too() {
    let scene = Scene::new("recorded").await;
    scene.policy("short", json!({ "idle": { "after": "2s", "warnAfter": "15s", "disconnectAfter": "20s" } })).await;
    scene.workspace("box", json!({ "policyRef": { "name": "short" } })).await;
    let manager = Person::new(&scene, "manager", &["admin"]).await;
    scene.session("mine", "box", json!({})).await;
    scene.phase("mine", Phase::Idle).await;
    scene.patch::<Session>("mine", json!({ "spec": { "keepAliveAt": at(now()) } })).await;
    scene.ended("mine", Phase::Disconnected, Reason::IdleTimeout).await;
    let path = format!("/api/organizations/{}/audit", scene.namespace);
    let records = scene
        .eventually("the end is recorded", || async {
            let records = manager.get(&path).await.body.as_array()?.clone();
            records.iter().any(|record| record["action"] == "session_ended").then_some(records)
        })
        .await;
    let actions: Vec<&str> = records.iter().rev().map(|record| record["action"].as_str().unwrap()).collect();
    let expected = [
        "session_created",
        "session_active",
        "session_idle",
        "session_resumed",
        "session_idle",
        "session_warned",
        "session_ended",
    ];
    assert_eq!(actions, expected, "{records:?}");
    assert_eq!(records[0]["reason"], "IdleTimeout");
}

#[tokio::test]
async fn what_a_client_does_wrong_is_told_and_never_an_error_of_ours() {
    let scene = Scene::new("wrong").await;
    scene.workspace("box", json!({})).await;
    let ana = Person::new(&scene, "ana", &["berth-user"]).await;
    ana.sees(&scene, "box").await;
    let token = Some(ana.token.as_str());
    let huge = "x".repeat(70_000);
    for (method, path, body, expected, named) in [
        ("GET", "/api/sessions?status=live", "", 400, "status: write"),
        ("GET", "/api/sessions?limit=0", "", 400, "limit: write"),
        ("GET", "/api/sessions?since=yesterday", "", 400, "since: write"),
        ("GET", "/api/sessions/not-a-uuid", "", 404, "Session not found"),
        ("GET", "/api/sessions/%00", "", 404, "Session not found"),
        ("GET", "/api/workspaces/nothing", "", 404, "Workspace not found"),
        ("GET", "/api/organizations/nowhere/sessions", "", 404, "Organization not found"),
        ("GET", "/api/nothing", "", 404, "Route not found"),
        ("DELETE", "/api/sessions", "", 405, "another method"),
        ("POST", "/api/sessions/disconnect-all", "{", 400, "the body is no JSON"),
        ("POST", "/api/sessions/disconnect-all", r#"{"ids": 7}"#, 422, "the body is not as expected"),
        ("POST", "/api/sessions/disconnect-all", r#"{"older_than": "30d"}"#, 400, "older_than: write"),
        ("POST", "/api/sessions/disconnect-all", huge.as_str(), 413, "larger than"),
        ("POST", "/api/workspaces/box/launch", r#"{"wait": "yes"}"#, 422, "the body is not as expected"),
    ] {
        let answer = call(method, path, token, Some(body.to_owned()), &[]).await;
        assert_eq!(answer.status, expected, "{method} {path}: {answer:?}");
        assert!(answer.detail().contains(named), "{method} {path}: {answer:?}");
    }
}
