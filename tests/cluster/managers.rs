//! Others who apply our objects again and again, as GitOps tools do: the operator writes beside them, and neither takes
//! anything from the other.

use std::collections::BTreeSet;

use berth::api::session::Phase;
use berth::api::{Reason, SESSION_FINALIZER, Session, Workspace};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::{Kind, Scene, session_spec, workspace_spec};

/// Applies an object by server-side apply, as another manager and without force.
async fn apply<K: Kind>(scene: &Scene, name: &str, spec: &Value) -> Result<K, kube::Error> {
    let object = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()),
        "metadata": { "name": name, "labels": { "team": "one" }, "annotations": { "example.org/sync": "1" } },
        "spec": spec,
    });
    scene.api::<K>().patch(name, &PatchParams::apply("gitops"), &Patch::Apply(object)).await
}

/// Who owns which of the top-level fields, from `managedFields`.
fn owners<K: Kind>(object: &K, field: &str) -> BTreeSet<String> {
    let owns = |fields: &Value| fields.get(format!("f:{field}")).is_some();
    let entries = object.managed_fields().iter();
    entries
        .filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| owns(&fields.0)))
        .filter_map(|entry| entry.manager.clone())
        .collect()
}

#[tokio::test]
async fn another_manager_applies_our_objects_again_and_again_and_nobody_fights() {
    let scene = Scene::new("managers").await;
    let (workspace, session) = (workspace_spec(json!({})), session_spec("box", json!({})));
    apply::<Workspace>(&scene, "box", &workspace).await.unwrap();
    apply::<Session>(&scene, "mine", &session).await.unwrap();
    let active = scene.phase("mine", Phase::Active).await;
    assert_eq!(owners(&active, "spec"), BTreeSet::from(["gitops".to_owned()]), "the operator writes no spec");
    assert!(!owners(&active, "status").contains("gitops"));

    // Again: without force nothing conflicts, and what does not change is not written.
    scene
        .eventually("the Workspace has its count", || async {
            (scene.get::<Workspace>("box").await.status?.active_sessions == Some(1)).then_some(())
        })
        .await;
    let before = (scene.get::<Workspace>("box").await, scene.get::<Session>("mine").await);
    for _ in 0..3 {
        let workspace = apply::<Workspace>(&scene, "box", &workspace).await.unwrap();
        let session = apply::<Session>(&scene, "mine", &session).await.unwrap();
        assert_eq!(workspace.resource_version(), before.0.resource_version(), "{:?}", workspace.status);
        assert_eq!(session.resource_version(), before.1.resource_version(), "{:?}", session.status);
        assert_eq!(session.finalizers(), [SESSION_FINALIZER], "what the operator added stays");
    }

    // A change of theirs is taken up, and what they no longer apply goes.
    let ends = session_spec("box", json!({ "desiredState": "Disconnected" }));
    apply::<Session>(&scene, "mine", &ends).await.unwrap();
    let ended = scene.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    assert_eq!(ended.labels().get("team").map(String::as_str), Some("one"));
    scene.let_go("mine").await;
    let before = scene.get::<Session>("mine").await;
    let after = apply::<Session>(&scene, "mine", &ends).await.unwrap();
    assert_eq!(after.resource_version(), before.resource_version(), "an ended session can be applied for ever");
}
