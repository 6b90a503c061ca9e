//! Who may do what with Sessions, Workspaces' status and instances: real accounts with tokens of their own, each trying
//! every deed. Nothing they try is stored, where it would be: each request is a dry run, which admission judges alike.

use std::collections::BTreeMap;

use berth::api::session::Phase;
use berth::api::{SESSION_ANNOTATION, SESSION_UID_LABEL, Session};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::PostParams;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::harness::{Scene, session_spec, status, strangers_pod};

/// Accounts and the roles that they are bound to here. Those that begin with `berth-`, and Kubernetes' own, are
/// ClusterRoles; the others are this test's.
const ACTORS: [(&str, &[&str]); 11] = [
    ("stranger", &[]),
    ("viewer", &["view"]),
    ("user", &["berth-user"]),
    // May launch one Workspace, by its name.
    ("guest", &["guest"]),
    ("editor", &["edit"]),
    ("manager", &["admin"]),
    ("observer", &["berth-observer"]),
    ("agent", &["berth-onbehalf"]),
    // Has all of RBAC's rights on our kinds, and none of the verbs that are no requests.
    ("powerful", &["powerful"]),
    // Whom RBAC lets write a status.
    ("forger", &["forger"]),
    // A manager, elsewhere.
    ("foreigner", &[]),
];

/// What is tried, and who may.
const DEEDS: [(&str, &[&str]); 34] = [
    ("launch for oneself", &["user", "guest", "editor", "manager", "agent"]),
    ("launch a Workspace that one may not", &["user", "editor", "manager", "agent"]),
    ("launch for somebody else", &["agent"]),
    ("launch for nobody known", &["agent"]),
    ("launch with a label of ours", &[]),
    ("launch with an annotation of ours", &[]),
    ("launch with a finalizer", &[]),
    ("disconnect one's own", &["editor", "manager", "powerful"]),
    ("keep one's own", &["editor", "manager", "powerful"]),
    ("delete one's own", &["user", "guest", "editor", "manager", "powerful"]),
    ("delete somebody else's", &["manager"]),
    ("disconnect somebody else's", &["manager"]),
    ("terminate somebody else's", &["manager"]),
    ("keep somebody else's", &["manager"]),
    ("delete all at once", &["manager"]),
    ("label one's own with a key of ours", &[]),
    ("annotate one's own with a key of ours", &[]),
    ("take the finalizer from one's own", &["manager"]),
    ("give one's own a finalizer", &["manager"]),
    ("report activity", &["observer"]),
    ("report activity of one's own", &["observer"]),
    ("report activity that gateways tell", &[]),
    ("report a phase", &[]),
    ("report an end", &[]),
    ("report an address", &[]),
    ("ask for an end by status", &[]),
    ("report a Workspace's phase", &[]),
    ("make a pod with the label of a session", &[]),
    ("make a pod with the annotation of a session", &[]),
    ("make a pod that a session owns", &[]),
    ("make a pod that a kind of Berth's to come owns", &[]),
    ("take the label from an instance", &[]),
    ("give an instance an owner of another name", &[]),
    ("take the owner from an instance", &[]),
];

/// What all deeds are about.
struct Ground {
    scene: Scene,
    elsewhere: Scene,
    /// Somebody else's session, with an instance.
    theirs: Session,
    actors: BTreeMap<&'static str, Client>,
}

impl Ground {
    async fn lay() -> Self {
        let (scene, elsewhere) = (Scene::new("admission").await, Scene::new("elsewhere").await);
        scene.workspace("box", json!({ "maxSessions": 2 })).await;
        scene.workspace("safe", json!({ "maintenance": true })).await;
        scene.session("theirs", "box", json!({})).await;
        let theirs = scene.phase("theirs", Phase::Active).await;
        scene.policy("watched", json!({ "activity": { "source": "gateway" } })).await;
        scene.workspace("watched", json!({ "policyRef": { "name": "watched" } })).await;
        scene.session("watched", "watched", json!({})).await;
        scene.phase("watched", Phase::Active).await;
        let all = json!(["get", "list", "watch", "create", "patch", "update", "delete", "deletecollection"]);
        let ours = |resources: Value, verbs: &Value| json!({ "apiGroups": ["berth.dev"], "resources": resources, "verbs": verbs });
        let launch = json!({ "apiGroups": ["berth.dev"], "resources": ["workspaces"], "resourceNames": ["box"], "verbs": ["launch"] });
        let pods = json!({ "apiGroups": [""], "resources": ["pods"], "verbs": all });
        for (name, rules) in [
            ("guest", json!([launch, ours(json!(["sessions"]), &json!(["create", "delete"]))])),
            ("powerful", json!([ours(json!(["sessions", "workspaces", "sessionpolicies"]), &all), pods])),
            ("forger", json!([ours(json!(["sessions/status", "workspaces/status"]), &all), pods])),
        ] {
            scene.create::<Role>(json!({ "metadata": { "name": name }, "rules": rules })).await;
        }
        let mut actors = BTreeMap::new();
        for (name, roles) in ACTORS {
            actors.insert(name, account(&scene, name).await);
            for role in roles {
                bind(&scene, &scene, name, role).await;
            }
            // Its own, which waits: the Workspace is in maintenance.
            let user = json!({ "user": { "id": username(&scene, name) } });
            scene.session(&format!("own-{name}"), "safe", user).await;
        }
        bind(&elsewhere, &scene, "foreigner", "admin").await;
        scene
            .eventually("the roles are aggregated and known", || async {
                let allowed =
                    attempt(&actors["manager"], deed(&scene, &theirs, "manager", "delete somebody else's")).await;
                allowed.is_ok().then_some(())
            })
            .await;
        Self { scene, elsewhere, theirs, actors }
    }
}

/// An account in the namespace, by its own token.
async fn account(scene: &Scene, name: &str) -> Client {
    scene.create::<ServiceAccount>(json!({ "metadata": { "name": name } })).await;
    let asked = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
    let accounts = scene.api::<ServiceAccount>();
    let token = accounts.create_token_request(name, &PostParams::default(), &asked).await.unwrap();
    Scene::client_with(&token.status.unwrap().token).await
}

/// Binds an account of `home` to a role in `scene`.
async fn bind(scene: &Scene, home: &Scene, account: &str, role: &str) {
    let own = ["guest", "powerful", "forger"].contains(&role);
    let binding = json!({
        "metadata": { "name": format!("{account}-{role}") },
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": if own { "Role" } else { "ClusterRole" }, "name": role,
        },
        "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": home.namespace }],
    });
    scene.create::<RoleBinding>(binding).await;
}

fn username(scene: &Scene, account: &str) -> String {
    format!("system:serviceaccount:{}:{account}", scene.namespace)
}

/// The request that a deed is: method, path and body.
fn deed(scene: &Scene, theirs: &Session, actor: &str, name: &str) -> (&'static str, String, Value) {
    let namespace = &scene.namespace;
    let sessions = format!("/apis/berth.dev/v1alpha1/namespaces/{namespace}/sessions");
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let own = format!("{sessions}/own-{actor}");
    let their = format!("{sessions}/theirs");
    let instance = format!("{pods}/{}", status(theirs).instance.unwrap().pod);
    let me = username(scene, actor);
    let launch = |workspace: &str, user: &str, metadata: Value| {
        let mut metadata = metadata;
        metadata["generateName"] = json!("tried-");
        let spec = session_spec(workspace, json!({ "user": { "id": user } }));
        (
            "POST",
            sessions.clone(),
            json!({ "apiVersion": "berth.dev/v1alpha1", "kind": "Session", "metadata": metadata, "spec": spec }),
        )
    };
    let wants = |path: &str, spec: Value| ("PATCH", path.to_owned(), json!({ "spec": spec }));
    let marks = |path: &str, metadata: Value| ("PATCH", path.to_owned(), json!({ "metadata": metadata }));
    let reports = |path: &str, status: Value| ("PATCH", format!("{path}/status"), json!({ "status": status }));
    let pod = |metadata: Value| {
        let mut metadata = metadata;
        metadata["generateName"] = json!("tried-");
        ("POST", pods.clone(), json!({ "metadata": metadata, "spec": strangers_pod(json!({})) }))
    };
    // A deletion that has a body is told of the dry run there.
    let nothing = json!({ "dryRun": ["All"] });
    let kept = json!({ "keepAliveAt": "2999-01-01T00:00:00Z" });
    let active = json!({ "activity": { "lastAt": "2026-01-01T00:00:00Z" } });
    match name {
        "launch for oneself" => launch("box", &me, json!({})),
        "launch a Workspace that one may not" => launch("safe", &me, json!({})),
        "launch for somebody else" => launch("box", "ana", json!({})),
        "launch for nobody known" => launch("box", "system:admin", json!({})),
        "launch with a label of ours" => launch("box", &me, json!({ "labels": { "berth.dev/tier": "gold" } })),
        "launch with an annotation of ours" => {
            launch("box", &me, json!({ "annotations": { "berth.dev/user": "ana" } }))
        }
        "launch with a finalizer" => launch("box", &me, json!({ "finalizers": ["berth.dev/instance"] })),
        "disconnect one's own" => wants(&own, json!({ "desiredState": "Disconnected" })),
        "keep one's own" => wants(&own, kept),
        "delete one's own" => ("DELETE", own, nothing),
        "delete somebody else's" => ("DELETE", their, nothing),
        "disconnect somebody else's" => wants(&their, json!({ "desiredState": "Disconnected" })),
        "terminate somebody else's" => wants(&their, json!({ "desiredState": "Terminated" })),
        "keep somebody else's" => wants(&their, kept),
        "delete all at once" => ("DELETE", sessions, nothing),
        "label one's own with a key of ours" => marks(&own, json!({ "labels": { "berth.dev/tier": "gold" } })),
        "annotate one's own with a key of ours" => marks(&own, json!({ "annotations": { "berth.dev/user": "ana" } })),
        "take the finalizer from one's own" => marks(&own, json!({ "finalizers": null })),
        "give one's own a finalizer" => {
            marks(&own, json!({ "finalizers": ["berth.dev/instance", "example.org/mine"] }))
        }
        "report activity" => reports(&their, active),
        "report activity of one's own" => reports(&own, active),
        "report activity that gateways tell" => reports(&format!("{sessions}/watched"), active),
        "report a phase" => reports(&their, json!({ "phase": "Idle" })),
        "report an end" => reports(&their, json!({ "phase": "Terminated", "endedAt": "2026-01-01T00:00:00Z" })),
        "report an address" => reports(&their, json!({ "client": { "ipAddress": "192.0.2.1" } })),
        "ask for an end by status" => {
            reports(&their, json!({ "endRequest": { "as": "Terminated", "reason": "AdministratorEnded" } }))
        }
        "report a Workspace's phase" => {
            let path = format!("/apis/berth.dev/v1alpha1/namespaces/{namespace}/workspaces/safe");
            reports(&path, json!({ "phase": "Available" }))
        }
        "make a pod with the label of a session" => pod(json!({ "labels": { SESSION_UID_LABEL: theirs.uid() } })),
        "make a pod with the annotation of a session" => {
            pod(json!({ "annotations": { SESSION_ANNOTATION: "theirs" } }))
        }
        "make a pod that a session owns" => pod(json!({ "ownerReferences": [{
            "apiVersion": "berth.dev/v1alpha1", "kind": "Session", "name": "theirs", "uid": theirs.uid() }] })),
        "make a pod that a kind of Berth's to come owns" => pod(json!({ "ownerReferences": [{
            "apiVersion": "berth.dev/v9", "kind": "Session", "name": "theirs", "uid": theirs.uid() }] })),
        "give an instance an owner of another name" => marks(
            &instance,
            json!({ "ownerReferences": [{ "apiVersion": "berth.dev/v1alpha1", "kind": "Session", "name": "nobody",
                "uid": theirs.uid(), "controller": true, "blockOwnerDeletion": false }] }),
        ),
        "take the label from an instance" => marks(&instance, json!({ "labels": { SESSION_UID_LABEL: null } })),
        "take the owner from an instance" => marks(&instance, json!({ "ownerReferences": null })),
        other => panic!("nobody knows how to {other}"),
    }
}

/// Tries it, without anything being stored; the refusal, where there is one.
async fn attempt(client: &Client, (method, path, body): (&str, String, Value)) -> Result<(), String> {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{path}?dryRun=All"))
        .header("content-type", kind)
        .body(serde_json::to_vec(&body).unwrap())
        .unwrap();
    match client.request::<Value>(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 403 => Err(status.message.clone()),
        Err(error) => panic!("{method} {path}: no answer about rights: {error}"),
    }
}

#[tokio::test]
async fn nobody_does_more_with_sessions_than_is_theirs_to_do() {
    let ground = Ground::lay().await;
    let (mut wrong, mut refused, mut by_policy) = (Vec::new(), 0, 0);
    for (name, may) in DEEDS {
        for (actor, client) in &ground.actors {
            let outcome = attempt(client, deed(&ground.scene, &ground.theirs, actor, name)).await;
            match (outcome, may.contains(actor)) {
                (Ok(()), true) => {}
                (Ok(()), false) => wrong.push(format!("{actor} may {name}")),
                (Err(words), true) => wrong.push(format!("{actor} may not {name}: {words}")),
                (Err(words), false) => {
                    refused += 1;
                    by_policy += usize::from(words.contains("ValidatingAdmissionPolicy 'berth-"));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    // Most are stopped by RBAC already; what RBAC cannot say must have been said by the policies.
    assert!(refused >= 250 && by_policy >= 60, "{refused} refused, {by_policy} of them by policies");
}

#[tokio::test]
async fn a_right_in_one_organization_is_none_in_another() {
    let ground = Ground::lay().await;
    let Ground { scene, elsewhere, actors, .. } = &ground;
    elsewhere.workspace("box", json!({ "maintenance": true })).await;
    let mut there = elsewhere.session("theirs", "box", json!({})).await;
    there.status.clone_from(&ground.theirs.status);
    // There the manager has the requests, and none of the verbs that the policies ask for.
    let rules =
        json!([{ "apiGroups": ["berth.dev"], "resources": ["sessions"], "verbs": ["create", "patch", "delete"] }]);
    elsewhere.create::<Role>(json!({ "metadata": { "name": "powerful" }, "rules": rules })).await;
    bind(elsewhere, scene, "manager", "powerful").await;
    for name in ["delete somebody else's", "disconnect somebody else's", "launch for somebody else"] {
        let by_policy = || async {
            let refused = attempt(&actors["manager"], deed(elsewhere, &there, "manager", name)).await;
            let words = refused.expect_err("the manager of one organization manages another");
            // Until the role is known, RBAC itself refuses.
            words.contains("ValidatingAdmissionPolicy 'berth-").then_some(())
        };
        elsewhere.eventually(&format!("the policies refuse to {name}"), by_policy).await;
    }
}

#[tokio::test]
async fn a_refusal_says_which_right_is_missing() {
    let ground = Ground::lay().await;
    let words = async |actor: &str, name: &str| {
        attempt(&ground.actors[actor], deed(&ground.scene, &ground.theirs, actor, name)).await.unwrap_err()
    };
    for (actor, name, mend) in [
        ("user", "launch for somebody else", "write your own, or ask for the verb onbehalf on sessions.berth.dev"),
        ("guest", "launch a Workspace that one may not", "ask for the verb launch on workspaces.berth.dev"),
        ("user", "launch with a label of ours", "use other keys"),
        ("editor", "disconnect somebody else's", "for the verb end on sessions.berth.dev"),
        ("forger", "report activity", "ask for the verb observe on sessions.berth.dev"),
        ("observer", "report activity that gateways tell", "its policy says activity.source: gateway"),
        ("observer", "report a phase", "you may write status.activity alone"),
        ("powerful", "make a pod that a session owns", "only Berth makes or unmakes one"),
    ] {
        let said = words(actor, name).await;
        assert!(said.contains(mend), "{actor} wants to {name}: {said}");
    }
}
