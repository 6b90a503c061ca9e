//! What no caller sees: other tenants, and tokens.

use berth::api::session::Phase;
use serde_json::{Value, json};

use crate::harness::Scene;
use crate::harness::api::{Person, call};

/// Every route of the specification that the gateway itself serves, as method and path.
async fn routes() -> Vec<(String, String)> {
    let document = call("GET", "/api/openapi.json", None, None, &[]).await.body;
    let paths = document["paths"].as_object().unwrap().clone();
    let methods = |(path, item): (String, Value)| -> Vec<(String, String)> {
        item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())).collect()
    };
    let routes: Vec<(String, String)> = paths.into_iter().flat_map(methods).collect();
    assert!(routes.len() >= 20, "{routes:?}");
    routes
}

#[tokio::test]
async fn without_a_good_token_every_route_answers_alike() {
    let scene = Scene::new("anonymous").await;
    let ana = Person::new(&scene, "ana", &["berth-user"]).await;
    let elsewhere = Person::with_audience(&scene, "ana", "https://kubernetes.default.svc").await;
    assert_eq!(ana.get("/api/me").await.status, 200);
    let forged = format!("{}x", ana.token);
    for (method, path) in routes().await.into_iter().chain([("GET".to_owned(), "/api/none".to_owned())]) {
        let path = path.replace("{id}", "box").replace("{org}", &scene.namespace);
        for token in [None, Some("nonsense"), Some(forged.as_str()), Some(elsewhere.token.as_str())] {
            let answer = call(&method, &path, token, None, &[]).await;
            assert_eq!((answer.status, answer.detail()), (401, "Not authenticated"), "{method} {path}: {answer:?}");
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
        }
    }
}

#[tokio::test]
async fn nothing_of_a_tenant_is_seen_or_changed_by_another_on_any_route() {
    let (scene, elsewhere) = (Scene::new("tenant").await, Scene::new("neighbour").await);
    scene.workspace("secret-desk", json!({ "maxSessions": 3 })).await;
    elsewhere.workspace("other-desk", json!({})).await;
    let ana = Person::new(&scene, "ana", &["berth-user"]).await;
    let manager = Person::new(&scene, "manager", &["admin"]).await;
    // Another tenant's administrator, and somebody of the same tenant.
    let foreigner = Person::new(&elsewhere, "foreigner", &["admin", "berth-user"]).await;
    let colleague = Person::new(&scene, "colleague", &["berth-user"]).await;
    ana.sees(&scene, "secret-desk").await;
    foreigner.sees(&elsewhere, "other-desk").await;
    let id = ana.launch("secret-desk").await;
    let name = ana.session(&id).await["name"].as_str().unwrap().to_owned();
    scene.phase(&name, Phase::Active).await;
    let path = format!("/api/organizations/{}/sessions", scene.namespace);
    scene
        .eventually("the manager sees it", || async {
            let answer = manager.get(&path).await;
            answer.body.to_string().contains(&id).then_some(())
        })
        .await;

    for (method, route) in routes().await {
        if route.ends_with("/events") {
            continue;
        }
        let path = route
            .replace("/sessions/{id}", &format!("/sessions/{id}"))
            .replace("/workspaces/{id}", "/workspaces/secret-desk")
            .replace("{org}", &scene.namespace);
        let theirs = call(&method, &path, Some(&foreigner.token), None, &[]).await;
        let said = theirs.body.to_string();
        assert!(
            !said.contains(&id) && !said.contains("secret-desk") && !said.contains(&ana.username),
            "{method} {path}: {said}"
        );
        if path != route {
            assert_eq!(theirs.status, 404, "as if there were none: {method} {path}: {said}");
            // Told in the very words that are told of what does not exist.
            let nothing = route
                .replace("/sessions/{id}", "/sessions/0f8fad5b-d9cb-469f-a165-70867728950e")
                .replace("/workspaces/{id}", "/workspaces/nothing")
                .replace("{org}", "nowhere");
            assert_eq!(
                theirs.body,
                call(&method, &nothing, Some(&foreigner.token), None, &[]).await.body,
                "{method} {path}"
            );
        }
        // A colleague may launch, and sees and ends nobody else's.
        if route.contains("/sessions") || route.contains("/organizations") {
            let seen = call(&method, &path, Some(&colleague.token), None, &[]).await;
            assert!(!seen.body.to_string().contains(&id), "{method} {path}: {:?}", seen.body);
        }
    }
    assert_eq!(ana.session(&id).await["status"], "active", "nobody has ended it");

    // Who administers sees all and ends it, by name.
    let refused = colleague.post(&format!("/api/organizations/{}/disconnect-all", scene.namespace), json!({})).await;
    assert_eq!(refused.status, 404);
    let all =
        manager.post(&format!("/api/organizations/{}/disconnect-all", scene.namespace), json!({ "ids": [id] })).await;
    assert_eq!((all.status, &all.body["count"]), (200, &json!(1)), "{all:?}");
    let ended = ana.session(&id).await;
    assert_eq!((&ended["status"], &ended["reason"]), (&json!("terminated"), &json!("AdministratorEnded")));
}

#[tokio::test]
async fn a_workspace_of_several_organizations_is_launched_in_the_one_that_is_named() {
    let (scene, elsewhere) = (Scene::new("twice").await, Scene::new("twice").await);
    for place in [&scene, &elsewhere] {
        place.workspace("shared", json!({})).await;
    }
    let ana = Person::new(&scene, "ana", &["berth-user"]).await;
    ana.bind(&elsewhere, "berth-user").await;
    ana.sees(&scene, "shared").await;
    ana.sees(&elsewhere, "shared").await;
    let asked = scene
        .eventually("both are known", || async {
            let answer = ana.post("/api/workspaces/shared/launch", json!({})).await;
            (answer.status == 409).then_some(answer)
        })
        .await;
    for place in [&scene, &elsewhere] {
        assert!(asked.detail().contains(&place.namespace), "{asked:?}");
    }
    let path = format!("/api/workspaces/shared/launch?organization={}", elsewhere.namespace);
    let launched = ana.post(&path, json!({})).await;
    assert_eq!(launched.status, 200, "{launched:?}");
    elsewhere.phase(launched.body["session_name"].as_str().unwrap(), Phase::Active).await;
}

#[tokio::test]
async fn a_token_stands_in_no_log_no_answer_and_no_event() {
    let scene = Scene::new("tokens").await;
    scene.workspace("box", json!({})).await;
    let ana = Person::new(&scene, "ana", &["berth-user"]).await;
    let manager = Person::new(&scene, "manager", &["admin"]).await;
    ana.sees(&scene, "box").await;
    let id = ana.launch("box").await;
    ana.post(&format!("/api/sessions/{id}/report"), json!({})).await;
    let mut said = String::new();
    for path in ["audit", "api-sessions", "sessions", "policies", "connections"] {
        let answer = manager.get(&format!("/api/organizations/{}/{path}", scene.namespace)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        said.push_str(&answer.body.to_string());
    }
    said.push_str(&ana.get(&format!("/api/sessions?token={}", ana.token)).await.body.to_string());
    let events: Vec<String> = scene.events(ana.session(&id).await["name"].as_str().unwrap()).await;
    said.push_str(&events.join("\n"));
    let words = ["--namespace", "berth-system", "logs", "deployment/berth-gateway", "--tail=-1"];
    let log = std::process::Command::new("kubectl").args(words).output().unwrap();
    assert!(log.status.success() && !log.stdout.is_empty());
    said.push_str(&String::from_utf8_lossy(&log.stdout));
    // A token's signature is a secret; its head is not.
    let signature = ana.token.rsplit('.').next().unwrap();
    assert!(!said.contains(signature), "a token was written down");
    assert!(said.contains(&ana.username), "there was something to be found");
}
