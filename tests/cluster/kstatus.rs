//! What tools that wait by kstatus see: the rules of kstatus, as a function, over real objects of every phase.

use berth::api::session::Phase;
use berth::api::workspace::WorkspacePhase;
use berth::api::{Reason, Session, Workspace};
use berth::plan::phase::PHASES;
use serde_json::{Value, json};

use crate::harness::{Scene, end, idle, pod_spec, status, workspace_spec};

/// What kstatus makes of an object.
#[derive(Debug, PartialEq, Eq)]
enum KStatus {
    Terminating,
    InProgress,
    Failed,
    Current,
}

/// The rules of kstatus for an object of a kind that it does not know, in their order.
fn kstatus(object: &impl serde::Serialize) -> KStatus {
    let object = serde_json::to_value(object).unwrap();
    let meta = &object["metadata"];
    if meta.get("deletionTimestamp").is_some() {
        return KStatus::Terminating;
    }
    let observed = object["status"].get("observedGeneration");
    if observed.is_some_and(|observed| *observed != meta["generation"]) {
        return KStatus::InProgress;
    }
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let is = |condition: &Value, type_: &str, status: &str| condition["type"] == type_ && condition["status"] == status;
    for condition in &conditions {
        if is(condition, "Reconciling", "True") {
            return KStatus::InProgress;
        }
        if is(condition, "Stalled", "True") {
            return KStatus::Failed;
        }
    }
    match conditions.iter().find(|condition| condition["type"] == "Ready") {
        Some(ready) if ready["status"] != "True" => KStatus::InProgress,
        _ => KStatus::Current,
    }
}

/// What each phase must look like.
fn wanted(phase: Phase) -> KStatus {
    match phase {
        Phase::Pending | Phase::Starting => KStatus::InProgress,
        Phase::Active | Phase::Idle | Phase::Disconnected | Phase::Terminated => KStatus::Current,
        Phase::Failed => KStatus::Failed,
    }
}

#[tokio::test]
async fn what_nobody_has_looked_at_yet_is_in_progress() {
    let scene = Scene::new("unseen").await;
    // As it is created, before the operator can have seen it.
    let workspace = json!({ "metadata": { "name": "box" }, "spec": workspace_spec(json!({})) });
    assert_eq!(kstatus(&scene.create::<Workspace>(workspace).await), KStatus::InProgress);
    assert_eq!(kstatus(&scene.session("mine", "box", json!({})).await), KStatus::InProgress);
}

#[tokio::test]
async fn sessions_of_every_phase_look_to_kstatus_as_they_should() {
    let scene = Scene::new("kstatus").await;
    scene.policy("default", json!({ "startTimeout": "8s" })).await;
    scene.policy("sleepy", idle(1, 2, 6)).await;
    scene.workspace("box", json!({ "maxSessions": 3 })).await;
    scene.workspace("bed", json!({ "policyRef": { "name": "sleepy" } })).await;
    let stuck = pod_spec(json!({ "image": "localhost/no-such-image:1" }));
    scene.workspace("stuck", json!({ "template": { "spec": stuck } })).await;
    let sessions = [
        ("active", "box", json!({})),
        ("disconnected", "box", json!({})),
        ("terminated", "box", json!({})),
        ("idle", "bed", json!({})),
        ("starting", "stuck", json!({})),
        ("refused", "stuck", json!({ "whenFull": "Fail" })),
        ("pending", "stuck", json!({})),
        ("nowhere", "no-such-workspace", json!({})),
    ];
    for (name, workspace, spec) in &sessions {
        scene.session(name, workspace, spec.clone()).await;
        if *name == "starting" {
            scene.phase(name, Phase::Starting).await;
        }
    }
    for name in ["active", "disconnected", "terminated"] {
        scene.phase(name, Phase::Active).await;
    }
    scene.disconnect("disconnected").await;
    scene.patch::<Session>("terminated", json!({ "spec": { "desiredState": "Terminated" } })).await;
    scene.ended("disconnected", Phase::Disconnected, Reason::UserDisconnected).await;
    scene.ended("terminated", Phase::Terminated, Reason::AdministratorEnded).await;
    scene.ended("starting", Phase::Failed, Reason::StartTimeout).await;
    scene.ended("refused", Phase::Failed, Reason::LimitExceeded).await;
    scene.ended("idle", Phase::Disconnected, Reason::IdleTimeout).await;
    scene.phase("nowhere", Phase::Pending).await;

    let mut met = std::collections::BTreeSet::new();
    for (name, ..) in &sessions {
        for version in scene.seen(name).0 {
            let after = status(&version);
            // Before the operator has looked, kstatus has nothing to go by; and an edit is not observed at once.
            let Some(phase) = after.phase.filter(|_| after.observed_generation == version.metadata.generation) else {
                continue;
            };
            assert_eq!(kstatus(&version), wanted(phase), "{name}: {version:?}");
            met.insert(phase);
        }
    }
    assert_eq!(met, PHASES.into_iter().collect());

    // A live one that is being deleted is held by its finalizer until it has ended.
    scene.delete::<Session>("active").await;
    scene.gone::<Session>("active").await;
    let versions = scene.story("active").await.0;
    assert_eq!(kstatus(versions.last().unwrap()), KStatus::Terminating);
    assert!(versions.last().and_then(end).is_some());
}

#[tokio::test]
async fn workspaces_of_every_phase_look_to_kstatus_as_they_should() {
    let scene = Scene::new("kstatusws").await;
    scene.workspace("available", json!({})).await;
    scene.workspace("in-use", json!({})).await;
    scene.workspace("maintenance", json!({ "maintenance": true })).await;
    scene.workspace("invalid", json!({ "template": { "spec": { "hostPID": true } } })).await;
    scene.workspace("unruly", json!({ "policyRef": { "name": "no-such-policy" } })).await;
    scene.session("mine", "in-use", json!({})).await;
    for (name, phase, wanted) in [
        ("available", WorkspacePhase::Available, KStatus::Current),
        ("in-use", WorkspacePhase::InUse, KStatus::Current),
        ("maintenance", WorkspacePhase::Maintenance, KStatus::Current),
        ("invalid", WorkspacePhase::Unavailable, KStatus::Failed),
        ("unruly", WorkspacePhase::Unavailable, KStatus::Failed),
    ] {
        scene.workspace_phase(name, phase).await;
        scene
            .eventually(&format!("{name} is {wanted:?} to kstatus"), || async {
                (kstatus(&scene.find::<Workspace>(name).await?) == wanted).then_some(())
            })
            .await;
    }
}
