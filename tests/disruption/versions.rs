//! Objects that a newer version has written and this one cannot read: they are told about, they stop nobody else, and
//! nothing hangs on them. The API server is made to take such objects for as long as a test lasts.

use berth::api::condition::{Type, is_true};
use berth::api::session::Phase;
use berth::api::workspace::WorkspacePhase;
use berth::api::{Reason, SESSION_FINALIZER, Session, SessionPolicy, Workspace};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Resource};
use serde_json::{Value, json};

use crate::harness::{Scene, session_spec, status};
use crate::restart;

/// A definition that is wider than ours, until this is dropped.
struct Widened {
    name: &'static str,
    path: String,
    ours: Value,
}

async fn put(name: &str, path: &str, value: &Value) {
    let client = Scene::client().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(client);
    let patch = serde_json::from_value(json!([{ "op": "replace", "path": path, "value": value }])).unwrap();
    definitions.patch(name, &PatchParams::default(), &Patch::Json::<()>(patch)).await.unwrap();
}

impl Widened {
    async fn field(name: &'static str, field: &str, wider: Value) -> Self {
        let path = format!("/spec/versions/0/schema/openAPIV3Schema/properties/{field}");
        let definitions: Api<CustomResourceDefinition> = Api::all(Scene::client().await);
        let stands = serde_json::to_value(definitions.get(name).await.unwrap()).unwrap();
        let ours = stands.pointer(&path).unwrap_or_else(|| panic!("no {path}")).clone();
        put(name, &path, &wider).await;
        Self { name, path, ours }
    }
}

impl Drop for Widened {
    fn drop(&mut self) {
        let (name, path, ours) = (self.name, self.path.clone(), self.ours.clone());
        // The test's own runtime is inside of this call.
        let restored = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(put(name, &path, &ours));
        });
        restored.join().unwrap();
    }
}

fn untyped<K: Resource<DynamicType = ()>>(scene: &Scene) -> Api<DynamicObject> {
    Api::namespaced_with(scene.client.clone(), &scene.namespace, &ApiResource::erase::<K>(&()))
}

/// Creates an object that only the wider definition allows; it takes the API server a moment to know it.
async fn create<K: Resource<DynamicType = ()>>(scene: &Scene, name: &str, spec: Value, finalizers: &[&str]) {
    let object = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()),
        "metadata": { "name": name, "finalizers": finalizers }, "spec": spec,
    });
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let api = untyped::<K>(scene);
    scene
        .eventually("the wider definition is served", || async {
            api.create(&PostParams::default(), &object).await.ok()
        })
        .await;
}

#[tokio::test]
async fn a_session_of_a_newer_version_stops_nobody_else_and_can_be_deleted() {
    let scene = Scene::new("newer").await;
    let wider = json!({ "type": "string", "default": "Connected" });
    let _widened = Widened::field("sessions.berth.dev", "spec/properties/desiredState", wider).await;
    scene.workspace("box", json!({ "maxSessions": 4 })).await;
    let paused = session_spec("box", json!({ "desiredState": "Paused" }));
    create::<Session>(&scene, "newer", paused, &[SESSION_FINALIZER]).await;
    scene.event("newer", "Unreadable").await;
    scene.session("plain", "box", json!({})).await;
    scene.phase("plain", Phase::Active).await;
    let sessions = untyped::<Session>(&scene);
    sessions.delete("newer", &DeleteParams::background()).await.unwrap();
    scene
        .eventually("the Session of a newer version is gone", || async {
            sessions.get_opt("newer").await.unwrap().is_none().then_some(())
        })
        .await;
    scene.disconnect("plain").await;
    scene.phase("plain", Phase::Disconnected).await;
}

#[tokio::test]
async fn a_policy_of_a_newer_version_is_not_taken_for_none() {
    let scene = Scene::new("newer-policy").await;
    let field = "spec/properties/idle/properties/allowKeepAlive";
    let _widened = Widened::field("sessionpolicies.berth.dev", field, json!({ "type": "string" })).await;
    create::<SessionPolicy>(&scene, "default", json!({ "idle": { "allowKeepAlive": "Sometimes" } }), &[]).await;
    scene.event("default", "Unreadable").await;
    scene.workspace("box", json!({})).await;
    scene.session("mine", "box", json!({})).await;
    scene.event("mine", "PolicyInvalid").await;
    scene.event("box", "PolicyInvalid").await;
    untyped::<SessionPolicy>(&scene).delete("default", &DeleteParams::background()).await.unwrap();
    scene.phase("mine", Phase::Active).await;
    scene.workspace_phase("box", WorkspacePhase::InUse).await;
}

#[tokio::test]
async fn a_workspace_of_a_newer_version_is_neither_launched_nor_gone() {
    let scene = Scene::new("newer-box").await;
    scene.workspace("box", json!({ "maxSessions": 4 })).await;
    scene.session("mine", "box", json!({})).await;
    scene.phase("mine", Phase::Active).await;
    let wider = json!({ "type": "string", "default": "Retain" });
    let _widened = Widened::field("workspaces.berth.dev", "spec/properties/reclaimPolicy", wider).await;
    let workspaces = untyped::<Workspace>(&scene);
    let archived = Patch::Merge(json!({ "spec": { "reclaimPolicy": "Archive" } }));
    let params = PatchParams::default();
    scene
        .eventually("the wider definition is served", || async {
            workspaces.patch("box", &params, &archived).await.ok()
        })
        .await;
    scene.event("box", "Unreadable").await;
    scene.session("next", "box", json!({})).await;
    scene.event("next", "WorkspaceUnreadable").await;
    restart::restart(&scene).await;
    // Also for an operator that never knew it otherwise.
    let waiting = scene.phase("next", Phase::Pending).await;
    assert!(status(&waiting).message.unwrap().contains("it cannot be read"), "{waiting:?}");
    let live = status(&scene.get::<Session>("mine").await);
    assert_eq!((live.phase, live.ended_at), (Some(Phase::Active), None));
    assert!(!is_true(&live.conditions, Type::WorkspaceMissing));
    let mended = Patch::Merge(json!({ "spec": { "reclaimPolicy": "Retain" } }));
    workspaces.patch("box", &params, &mended).await.unwrap();
    scene.phase("next", Phase::Active).await;
}

#[tokio::test]
async fn a_live_session_that_a_newer_version_has_rewritten_keeps_its_slot() {
    let scene = Scene::new("newer-live").await;
    scene.workspace("box", json!({})).await;
    scene.session("mine", "box", json!({})).await;
    scene.phase("mine", Phase::Active).await;
    let _widened = Widened::field("sessions.berth.dev", "status/properties/phase", json!({ "type": "string" })).await;
    let sessions = untyped::<Session>(&scene);
    let phase = |phase: &str| Patch::Merge(json!({ "status": { "phase": phase } }));
    let params = PatchParams::default();
    scene
        .eventually("the wider definition is served", || async {
            sessions.patch_status("mine", &params, &phase("Hibernating")).await.ok()
        })
        .await;
    scene.event("mine", "Unreadable").await;
    restart::restart(&scene).await;
    scene.session("next", "box", json!({})).await;
    scene.event("next", "NoSlot").await;
    assert_eq!(scene.get::<Pod>(&pod_of(&sessions).await).await.metadata.deletion_timestamp, None);
    sessions.patch_status("mine", &params, &phase("Active")).await.unwrap();
    scene.disconnect("mine").await;
    scene.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    scene.phase("next", Phase::Active).await;
}

/// The pod of the session `mine`, as its status names it.
async fn pod_of(sessions: &Api<DynamicObject>) -> String {
    let session = sessions.get("mine").await.unwrap();
    session.data["status"]["instance"]["pod"].as_str().unwrap().to_owned()
}
