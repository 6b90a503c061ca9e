//! How many sessions one user may have: exact, whoever launches and however many at once.

use berth::api::condition::{Status, Type};
use berth::api::session::Phase;
use berth::api::{Reason, Session, SessionPolicy};
use kube::ResourceExt;
use serde_json::json;

use crate::harness::api::Person;
use crate::harness::{Scene, phase, session_spec, status};

async fn limited(scene: &Scene, per_user: u32, on_exceeded: &str) {
    let limits = json!({ "sessionsPerUser": per_user, "onExceeded": on_exceeded });
    scene.policy("default", json!({ "limits": limits, "warnBefore": "3s" })).await;
}

/// Those that hold a slot.
fn held(sessions: &[Session]) -> Vec<String> {
    let holds = |session: &&Session| matches!(phase(session), Some(Phase::Starting | Phase::Active | Phase::Idle));
    sessions.iter().filter(holds).map(ResourceExt::name_any).collect()
}

#[tokio::test]
async fn of_fifty_launches_at_once_by_api_and_kubectl_exactly_as_many_are_launched_as_the_policy_allows() {
    let scene = Scene::new("crowd").await;
    limited(&scene, 3, "Reject").await;
    for workspace in ["one", "two"] {
        scene.workspace(workspace, json!({ "maxSessions": 100 })).await;
    }
    let ana = Person::new(&scene, "ana", &["berth-user"]).await;
    ana.sees(&scene, "one").await;
    ana.sees(&scene, "two").await;
    let by_api = (0..25).map(|index| {
        let path = format!("/api/workspaces/{}/launch", if index % 2 == 0 { "one" } else { "two" });
        let ana = &ana;
        async move { ana.post(&path, json!({ "wait": true })).await.status }
    });
    let by_kubectl =
        (0..25).map(|index| {
            let spec =
                session_spec(if index % 2 == 0 { "one" } else { "two" }, json!({ "user": { "id": ana.username } }));
            let scene = &scene;
            async move {
                scene.create::<Session>(json!({ "metadata": { "name": format!("k-{index}") }, "spec": spec })).await
            }
        });
    let (answers, _) = futures::join!(futures::future::join_all(by_api), futures::future::join_all(by_kubectl));
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    let others = scene
        .eventually("three are launched and all others wait", || async {
            let sessions = scene.list::<Session>().await;
            let waits = |session: &&Session| {
                let conditions = status(session).conditions;
                let admitted = berth::api::condition::find(&conditions, Type::Admitted).cloned();
                admitted.is_some_and(|it| it.status == Status::False && it.reason == "LimitExceeded")
            };
            let waiting: Vec<String> = sessions.iter().filter(waits).map(ResourceExt::name_any).collect();
            (held(&sessions).len() == 3 && waiting.len() == 47).then_some(waiting)
        })
        .await;
    // Somebody else is not concerned.
    scene.session("bens", "one", json!({ "user": { "id": "ben" } })).await;
    scene.phase("bens", Phase::Active).await;
    // Each end lets in the one that came next, and no more.
    let first = held(&scene.list::<Session>().await).into_iter().find(|name| name != "bens").unwrap();
    scene.disconnect(&first).await;
    scene
        .eventually("another has taken the place", || async {
            let sessions = scene.list::<Session>().await;
            let held = held(&sessions);
            (held.len() == 4 && others.iter().any(|name| held.contains(name))).then_some(())
        })
        .await;
    assert!(held(&scene.list::<Session>().await).len() <= 4);
}

#[tokio::test]
async fn one_too_many_that_does_not_wait_fails_with_the_reason() {
    let scene = Scene::new("toomany").await;
    limited(&scene, 1, "Reject").await;
    scene.workspace("box", json!({ "maxSessions": 5 })).await;
    scene.session("first", "box", json!({})).await;
    scene.phase("first", Phase::Active).await;
    scene.session("second", "box", json!({ "whenFull": "Fail" })).await;
    let failed = scene.ended("second", Phase::Failed, Reason::LimitExceeded).await;
    let message = status(&failed).message.unwrap();
    assert!(message.contains("your policy lets you have 1 at a time"), "{message}");
}

#[tokio::test]
async fn the_oldest_makes_way_after_a_warning_where_the_policy_says_so() {
    let scene = Scene::new("oldest").await;
    limited(&scene, 2, "EndOldest").await;
    for workspace in ["one", "two", "closed"] {
        scene.workspace(workspace, json!({ "maxSessions": 5, "maintenance": workspace == "closed" })).await;
    }
    for (name, workspace) in [("oldest", "one"), ("older", "two")] {
        scene.session(name, workspace, json!({})).await;
        scene.phase(name, Phase::Active).await;
    }
    // One that could not be launched anyway makes nobody end.
    scene.session("blocked", "closed", json!({})).await;
    scene.condition("blocked", Type::Admitted, Status::False).await;
    scene.session("new", "one", json!({})).await;
    let gone = scene.ended("oldest", Phase::Terminated, Reason::LimitExceeded).await;
    assert!(scene.seen("oldest").ever(Type::EndingSoon), "nobody is cut off without a warning: {gone:?}");
    scene.phase("new", Phase::Active).await;
    assert_eq!(phase(&scene.get::<Session>("older").await), Some(Phase::Active));
    // Whoever raises the limit lets all of them in.
    scene.session("waiting", "two", json!({})).await;
    scene.patch::<SessionPolicy>("default", json!({ "spec": { "limits": { "sessionsPerUser": 9 } } })).await;
    scene.phase("waiting", Phase::Active).await;
}
