//! The wall around the instances of a Workspace, on the real API server: there before the first pod, put back when
//! somebody takes it, gone after the last. What it means is proven without a cluster, in `plan::network`.

use berth::api::condition::{self, Status, Type};
use berth::api::session::Phase;
use berth::api::workspace::WorkspacePhase;
use berth::api::{Reason, Session, WORKSPACE_UID_LABEL, Workspace};
use berth::plan::name;
use berth::plan::network::{Neighbourhood, policy};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::harness::{Scene, status};

fn wall_of(workspace: &Workspace) -> String {
    name::of_workspace(&workspace.name_any(), &workspace.uid().unwrap())
}

fn applied(workspace: &Workspace) -> Option<condition::Condition> {
    let conditions = &workspace.status.as_ref()?.conditions;
    condition::find(conditions, Type::NetworkPolicyApplied).cloned()
}

/// Whether the policy stands as it is meant for this Workspace.
async fn stands(scene: &Scene, workspace: &str) -> Option<NetworkPolicy> {
    let workspace = scene.get::<Workspace>(workspace).await;
    let meant = policy(&workspace, &Neighbourhood::of("berth-system")).unwrap().unwrap();
    let seen = scene.find::<NetworkPolicy>(&wall_of(&workspace)).await?;
    let marked = seen.labels().get(WORKSPACE_UID_LABEL) == workspace.metadata.uid.as_ref();
    (seen.spec == meant.spec && marked && seen.owner_references().is_empty()).then_some(seen)
}

#[tokio::test]
async fn the_wall_stands_before_the_first_pod_and_says_no_more_than_it_knows() {
    let scene = Scene::new("wall").await;
    let workspace = scene.workspace("box", json!({})).await;
    let said = applied(&workspace).unwrap();
    assert_eq!(said.status, Status::True);
    assert!(said.message.contains("whether it is enforced"), "{}", said.message);
    let wall = stands(&scene, "box").await.expect("it is as it was made");
    scene.session("mine", "box", json!({})).await;
    let session = scene.phase("mine", Phase::Active).await;
    let pod = scene.pods_of(&session).await.remove(0);
    let version = |meta: &Option<String>| meta.as_deref().unwrap().parse::<u64>().unwrap();
    assert!(version(&wall.metadata.resource_version) < version(&pod.metadata.resource_version));
    let selected = wall.spec.unwrap().pod_selector.unwrap().match_labels.unwrap();
    assert!(selected.iter().all(|(key, value)| pod.labels().get(key) == Some(value)), "{selected:?}");
    // A session costs no write of it.
    scene.disconnect("mine").await;
    scene.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    assert_eq!(stands(&scene, "box").await.unwrap().metadata.resource_version, wall.metadata.resource_version);
}

#[tokio::test]
async fn an_edit_of_the_network_is_the_walls_at_once() {
    let scene = Scene::new("opened").await;
    scene.workspace("box", json!({})).await;
    let network = json!({ "public": false, "allow": [{ "cidr": "10.20.0.0/16", "ports": [{ "port": 5432 }] }] });
    scene.patch::<Workspace>("box", json!({ "spec": { "network": network } })).await;
    let wall = scene.eventually("the wall is the new one", || stands(&scene, "box")).await;
    let egress = json!(wall.spec.unwrap().egress.unwrap());
    assert_eq!(egress.as_array().unwrap().last().unwrap()["to"][0]["ipBlock"]["cidr"], "10.20.0.0/16");
    assert!(scene.events("box").await.iter().all(|reason| reason != "NetworkPolicyRestored"), "nobody stole anything");
}

#[tokio::test]
async fn a_wall_that_somebody_takes_down_or_breaks_is_put_back() {
    let scene = Scene::new("broken").await;
    let workspace = scene.workspace("box", json!({})).await;
    let wall = wall_of(&workspace);
    scene.patch::<NetworkPolicy>(&wall, json!({ "metadata": { "labels": { "team": "a" } } })).await;
    for breach in [
        json!({ "spec": { "policyTypes": ["Ingress"], "egress": null } }),
        json!({ "spec": { "ingress": [{}] } }),
        json!({ "spec": { "podSelector": { "matchLabels": { "nobody": "here" } } } }),
        json!({ "metadata": { "labels": { "app.kubernetes.io/managed-by": null, WORKSPACE_UID_LABEL: null } } }),
        json!({ "metadata": { "annotations": null } }),
        json!({ "metadata": { "ownerReferences": [{
            "apiVersion": "berth.dev/v1alpha1", "kind": "Workspace", "name": "box", "uid": workspace.metadata.uid }] } }),
    ] {
        scene.patch::<NetworkPolicy>(&wall, breach.clone()).await;
        let stood = scene.eventually(&format!("{breach} is mended"), || stands(&scene, "box")).await;
        assert_eq!(stood.labels()["team"], "a", "what others wrote is left alone");
    }
    scene.delete::<NetworkPolicy>(&wall).await;
    scene.eventually("it is back", || stands(&scene, "box")).await;
    let event = scene.event("box", "NetworkPolicyRestored").await;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
}

#[tokio::test]
async fn a_wall_that_is_deleted_and_held_is_told_and_made_anew_when_it_is_let_go() {
    let scene = Scene::new("held-wall").await;
    let workspace = scene.workspace("box", json!({})).await;
    let wall = wall_of(&workspace);
    scene.patch::<NetworkPolicy>(&wall, json!({ "metadata": { "finalizers": ["example.org/hold"] } })).await;
    scene.delete::<NetworkPolicy>(&wall).await;
    scene.workspace_phase("box", WorkspacePhase::Unavailable).await;
    let said = applied(&scene.get::<Workspace>("box").await).unwrap();
    assert_eq!((said.status, said.reason.as_str()), (Status::False, "BeingDeleted"));
    scene.session("mine", "box", json!({})).await;
    scene.event("mine", "NetworkPolicyMissing").await;
    scene.patch::<NetworkPolicy>(&wall, json!({ "metadata": { "finalizers": null } })).await;
    scene.phase("mine", Phase::Active).await;
    stands(&scene, "box").await.expect("it was made anew");
}

#[tokio::test]
async fn nobody_is_launched_while_the_wall_cannot_stand() {
    let scene = Scene::new("quota").await;
    let none = json!({ "hard": { "count/networkpolicies.networking.k8s.io": "0" } });
    scene.create::<ResourceQuota>(json!({ "metadata": { "name": "none" }, "spec": none })).await;
    scene
        .eventually("the quota counts", || async {
            scene.find::<ResourceQuota>("none").await?.status?.hard.map(|_| ())
        })
        .await;
    let workspace = scene.workspace("box", json!({})).await;
    scene.workspace_phase("box", WorkspacePhase::Unavailable).await;
    let said = applied(&workspace).unwrap();
    assert!(said.status == Status::False && said.message.contains("quota"), "{}", said.message);
    scene.session("mine", "box", json!({})).await;
    let waits = scene.event("mine", "NetworkPolicyMissing").await;
    assert!(waits.note.unwrap().contains("quota"));
    assert!(scene.list::<Pod>().await.is_empty());
    scene.api::<ResourceQuota>().delete("none", &DeleteParams::default()).await.unwrap();
    scene.phase("mine", Phase::Active).await;
    stands(&scene, "box").await.expect("it stands by now");
}

#[tokio::test]
async fn the_wall_outlives_its_workspace_until_the_last_pod_is_gone() {
    let scene = Scene::new("outlives").await;
    scene.policy("default", json!({ "warnBefore": "5s" })).await;
    let workspace = scene.workspace("box", json!({})).await;
    let wall = wall_of(&workspace);
    scene.session("mine", "box", json!({})).await;
    scene.phase("mine", Phase::Active).await;
    scene.delete::<Workspace>("box").await;
    scene.gone::<Workspace>("box").await;
    scene
        .eventually("the wall is gone", || async {
            // In this order: a pod that is seen after the wall was missed stood without it.
            let stands = scene.find::<NetworkPolicy>(&wall).await.is_some();
            let pods = scene.list::<Pod>().await.len();
            assert!(stands || pods == 0, "{pods} pods stand without their wall");
            (!stands).then_some(())
        })
        .await;
    assert!(status(&scene.get::<Session>("mine").await).ended_at.is_some(), "it went before the session had ended");
}

#[tokio::test]
async fn the_wall_of_a_workspace_that_nobody_uses_goes_with_it() {
    let scene = Scene::new("unused").await;
    let workspace = scene.workspace("box", json!({})).await;
    scene.delete::<Workspace>("box").await;
    scene.gone::<NetworkPolicy>(&wall_of(&workspace)).await;
    // A namesake has another.
    let next = scene.workspace("box", json!({})).await;
    assert_ne!(wall_of(&next), wall_of(&workspace));
    stands(&scene, "box").await.expect("it has one of its own");
}

#[tokio::test]
async fn policies_of_others_are_left_alone_whatever_they_are_called() {
    let scene = Scene::new("strangers").await;
    let spec = json!({ "podSelector": {}, "policyTypes": ["Ingress"] });
    let labels =
        json!({ "app.kubernetes.io/managed-by": "berth", WORKSPACE_UID_LABEL: "0f8fad5b-d9cb-469f-a165-70867728950e" });
    let annotations = json!({ "berth.dev/workspace": "box" });
    let strangers: [Value; 2] = [
        json!({ "name": "plain", "labels": { "app.kubernetes.io/managed-by": "berth" } }),
        json!({ "name": "marked", "labels": labels, "annotations": annotations }),
    ];
    for metadata in strangers {
        scene.create::<NetworkPolicy>(json!({ "metadata": metadata, "spec": spec })).await;
    }
    // Once a wall of its own has come and gone, the operator has looked at them.
    let workspace = scene.workspace("box", json!({})).await;
    scene.delete::<Workspace>("box").await;
    scene.gone::<NetworkPolicy>(&wall_of(&workspace)).await;
    assert_eq!(scene.list::<NetworkPolicy>().await.len(), 2);
}

#[tokio::test]
async fn a_machine_that_exists_has_no_wall() {
    let scene = Scene::new("machine").await;
    let endpoint = json!({ "template": null, "endpoint": { "host": "192.0.2.1" }, "type": "ssh", "access": { "protocol": "SSH", "port": 22 } });
    let workspace = scene.workspace("box", endpoint).await;
    assert_eq!(applied(&workspace), None);
    assert!(scene.list::<NetworkPolicy>().await.is_empty());
}
