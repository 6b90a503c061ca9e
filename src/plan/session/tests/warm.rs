//! A launch onto a pod that waits, told as sentences.

use serde_json::json;

use super::super::*;
use super::life::{Life, at, parse, workspace};
use crate::api::{Reason, SESSION_UID_LABEL};

/// A life in which a ready pod waits in the pool.
fn warm() -> Life {
    let mut life = Life::new(json!({}));
    let workspace = workspace(json!({ "warm": { "replicas": 1 } }));
    life.world.warm = Some(Arc::new(waiting(&workspace, 0)));
    life.world.workspace = Some(workspace);
    life
}

/// A ready pod for a place of the pool.
fn waiting(workspace: &Workspace, slot: u32) -> Pod {
    let template = workspace.spec.template.as_ref().unwrap();
    let mut pod = crate::plan::pod::for_pool(workspace, template, &Hardening::default());
    pod["metadata"]["name"] = json!(crate::plan::name::warm_pod("box", "w", slot, ""));
    pod["metadata"]["uid"] = json!(format!("warm-{slot}"));
    pod["metadata"]["resourceVersion"] = json!("7");
    pod["metadata"]["labels"][crate::api::WARM_SLOT_LABEL] = json!(slot.to_string());
    pod["status"] =
        json!({"phase": "Running", "podIP": "10.0.0.2", "conditions": [{"type": "Ready", "status": "True"}]});
    parse(pod)
}

/// The life after its pod was adopted and before its status says so: the operator died in between.
fn adopted() -> Life {
    let mut life = warm();
    life.look_and_take(1);
    life
}

#[test]
fn a_launch_onto_a_ready_pod_is_its_adoption_and_then_one_status() {
    let mut life = warm();
    let steps = decide(&life.world, life.now).steps;
    let [Step::Adopt { pod, uid, metadata }] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!((pod.as_str(), uid.as_str()), (life.world.warm.as_ref().unwrap().name_any().as_str(), "warm-0"));
    assert_eq!((&metadata["uid"], &metadata["resourceVersion"]), (&json!("warm-0"), &json!("7")));
    assert_eq!(metadata["labels"], json!({ SESSION_UID_LABEL: "s" }));
    assert_eq!(metadata["ownerReferences"][0]["kind"], "Session");
    assert_eq!(metadata["ownerReferences"].as_array().unwrap().len(), 1);
    assert_eq!(metadata["annotations"]["berth.dev/user"], "ana");
    life.look_and_take(1);
    let steps = decide(&life.world, life.now).steps;
    assert!(matches!(&steps[0], Step::Publish(status) if status.phase == Some(Phase::Active)));
    assert!(matches!(steps[1], Step::Mark { finalizer: true }));
    assert_eq!(steps.len(), 2);
    life.look();
    let status = life.status();
    assert_eq!(status.instance.as_ref().map(|instance| instance.uid.as_str()), Some("warm-0"));
    assert_eq!((status.ready_at, status.url.as_deref()), (Some(at(0)), Some("http://10.0.0.2:80")));
    assert!(status.workspace.is_some() && status.policy.is_some() && life.holds(Type::Admitted));
    assert_eq!(life.notes, ["Active"]);
}

#[test]
fn an_adoption_promises_a_slot_and_holds_it_before_the_status_does() {
    let mut life = warm();
    let plan = decide(&life.world, life.now);
    assert!(promises_slot(&life.world, &plan));
    assert_eq!(adopts(&plan).map(|(_, uid)| uid), Some("warm-0"));
    life.look_and_take(1);
    // It goes on from there, whoever else was given the slot meanwhile, and whatever the Workspace is by now.
    life.rival(true, -5);
    let pods = std::mem::take(&mut life.world.pods);
    life.world.workspace = Some(workspace(json!({ "maintenance": true, "warm": { "replicas": 1 } })));
    life.world.pods = pods;
    life.look();
    assert_eq!(life.phase(), Phase::Active);
}

#[test]
fn no_pod_is_adopted_by_one_who_waits() {
    let mut life = warm();
    life.rival(true, -5);
    life.look();
    assert_eq!(life.phase(), Phase::Pending);
    assert!(life.world.warm.is_some());
}

#[test]
fn an_adopted_pod_that_broke_holds_no_slot_while_the_launch_waits() {
    let mut life = adopted();
    Arc::make_mut(&mut life.world.pods[0]).status = Some(parse(json!({"phase": "Failed", "reason": "Evicted"})));
    life.world.unguarded = Some("the policies do not stand".to_owned());
    let steps = decide(&life.world, life.now).steps;
    assert!(steps.iter().any(|step| matches!(step, Step::Discard { uid, .. } if uid == "warm-0")), "{steps:?}");
}

#[test]
fn an_empty_pool_means_a_cold_launch() {
    let mut life = warm();
    life.world.warm = None;
    assert!(matches!(
        decide(&life.world, life.now).steps[..],
        [Step::Publish(_), Step::Mark { .. }, Step::EnsurePod(_)]
    ));
}

#[test]
fn an_adopted_pod_that_broke_before_anybody_used_it_goes_and_the_launch_is_cold() {
    for (status, going) in
        [(json!({"phase": "Failed", "reason": "Evicted"}), false), (json!({"phase": "Running"}), true)]
    {
        let mut life = adopted();
        let pod = Arc::make_mut(&mut life.world.pods[0]);
        pod.status = Some(parse(status));
        if going {
            let now = crate::api::time::to_wire_micro(life.now).0;
            pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
        }
        let steps = decide(&life.world, life.now).steps;
        let deleted = steps.iter().any(|step| matches!(step, Step::Discard { uid, .. } if uid == "warm-0"));
        assert_eq!(deleted, !going, "{steps:?}");
        assert!(steps.iter().any(|step| matches!(step, Step::EnsurePod(_))), "{steps:?}");
        life.world.pods.clear();
        life.look();
        life.pod_ready();
        assert_eq!(life.phase(), Phase::Active);
    }
}

#[test]
fn one_that_breaks_in_use_ends_its_session() {
    let mut life = adopted();
    life.look();
    life.pod_status(json!({"phase": "Failed", "reason": "Evicted"}));
    assert_eq!(life.ended(), Some((Phase::Failed, Reason::InstanceLost)));
}

#[test]
fn one_that_is_not_ready_any_more_is_waited_for() {
    let mut life = adopted();
    life.pod_status(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}));
    assert_eq!(life.phase(), Phase::Starting);
    life.pod_ready();
    assert_eq!(life.phase(), Phase::Active);
}

#[test]
fn of_two_pods_the_one_stays_that_the_status_names() {
    let mut life = adopted();
    life.look();
    let workspace = life.world.workspace.clone().unwrap();
    let mut second = waiting(&workspace, 1);
    second.metadata.labels.get_or_insert_default().insert(SESSION_UID_LABEL.to_owned(), "s".to_owned());
    life.world.pods.push(Arc::new(second));
    let steps = decide(&life.world, life.now).steps;
    let gone: Vec<_> = steps.iter().filter(|step| matches!(step, Step::Discard { .. })).collect();
    assert!(matches!(gone[..], [Step::Discard { uid, .. }] if uid == "warm-1"), "{steps:?}");
}

#[test]
fn a_session_that_is_ended_before_its_status_names_its_pod_gives_it_back() {
    let mut life = adopted();
    life.session().spec.desired_state = crate::api::session::DesiredState::Disconnected;
    life.look();
    assert_eq!(life.ended(), Some((Phase::Disconnected, Reason::UserDisconnected)));
    assert!(life.world.pods.is_empty());
}

#[test]
fn a_workspace_that_goes_or_is_made_anew_between_adoption_and_status_ends_the_launch() {
    let namesake = {
        let mut other = workspace(json!({ "warm": { "replicas": 1 } }));
        Arc::make_mut(&mut other).metadata.uid = Some("another".to_owned());
        other
    };
    for workspace in [None, Some(namesake)] {
        let mut life = adopted();
        life.world.workspace = workspace;
        life.look();
        assert_eq!(life.ended(), Some((Phase::Terminated, Reason::WorkspaceDeleted)));
        assert!(life.world.pods.is_empty());
    }
    // One that is only not known is waited for.
    let mut life = adopted();
    (life.world.workspace, life.world.workspace_unread) = (None, Some("no such type".to_owned()));
    life.look();
    assert_eq!((life.ended(), life.world.pods.len()), (None, 1));
}
