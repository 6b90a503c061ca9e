//! How a session ends and is let go of, told as sentences.

use serde_json::json;

use super::super::*;
use super::life::{Life, at, parse, short, workspace};
use crate::api::Reason;
use crate::api::session::DesiredState;

#[test]
fn a_drain_ends_those_whose_workspace_says_so_after_their_notice() {
    let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
    life.world.workspace = Some(workspace(json!({"drain": "End"})));
    life.world.draining = Draining::Yes("it was cordoned".to_owned());
    life.look();
    assert!(life.holds(Type::EndingSoon));
    assert_eq!(life.status().disconnect_at, Some(at(600)));
    assert_eq!(life.status().disconnect_reason, Some(Reason::AdministratorEnded));
    // Who calls the drain off takes the end back.
    life.pass(300);
    life.world.draining = Draining::No;
    life.look();
    assert_ne!(life.status().disconnect_reason, Some(Reason::AdministratorEnded));
    life.world.draining = Draining::Yes("it was cordoned".to_owned());
    life.look();
    assert_eq!(life.status().disconnect_at, Some(at(900)));
    life.pass(600);
    assert_eq!(life.ended(), Some((Phase::Terminated, Reason::AdministratorEnded)));
    assert!(life.status().message.unwrap().contains("is being drained: it was cordoned"));
}

#[test]
fn a_workspace_that_cannot_be_read_is_not_gone() {
    let mut life = Life::launched(json!({}), short());
    (life.world.workspace, life.world.policy) = (None, PolicySource::Unknown);
    life.world.workspace_unread = Some("no such type".to_owned());
    life.look();
    assert!(!life.holds(Type::WorkspaceMissing));
}

#[test]
fn a_deleted_workspace_ends_its_sessions_after_a_warning() {
    let mut life = Life::launched(json!({}), short());
    life.pass(5);
    (life.world.workspace, life.world.policy) = (None, PolicySource::Unknown);
    life.look();
    assert!(life.holds(Type::WorkspaceMissing) && life.holds(Type::EndingSoon));
    assert_eq!(life.status().disconnect_at, Some(at(20)));
    life.pass(15);
    assert_eq!(life.ended(), Some((Phase::Terminated, Reason::WorkspaceDeleted)));
}

#[test]
fn a_workspace_deleted_under_a_waiting_session_ends_it_at_once() {
    let mut life = Life::new(json!({}));
    life.rival(true, -5);
    life.look();
    (life.world.workspace, life.world.policy) = (None, PolicySource::Unknown);
    life.look();
    assert_eq!(life.ended(), Some((Phase::Terminated, Reason::WorkspaceDeleted)));
}

#[test]
fn a_missing_cache_entry_ends_nothing_until_the_api_server_says_so() {
    let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
    life.world.pods.clear();
    life.look();
    assert_eq!(life.ended(), None);
    life.world.instance_gone = true;
    life.look();
    assert_eq!(life.ended(), Some((Phase::Failed, Reason::InstanceLost)));
}

#[test]
fn whoever_asks_for_the_end_gets_it_in_their_words() {
    for (state, end) in [
        (DesiredState::Disconnected, (Phase::Disconnected, Reason::UserDisconnected)),
        (DesiredState::Terminated, (Phase::Terminated, Reason::AdministratorEnded)),
    ] {
        let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
        life.session().spec.desired_state = state;
        life.look();
        assert_eq!(life.ended(), Some(end));
    }
    let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
    life.session().status.get_or_insert_default().end_request =
        Some(parse(json!({"as": "Terminated", "reason": "WorkspaceStopped", "actor": "eve"})));
    life.look();
    assert_eq!(life.ended(), Some((Phase::Terminated, Reason::WorkspaceStopped)));
    assert!(life.status().message.unwrap().contains("eve"));
}

#[test]
fn a_deleted_session_is_ended_released_and_let_go() {
    let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
    life.delete();
    assert_eq!(life.ended(), Some((Phase::Terminated, Reason::SessionDeleted)));
    assert!(life.deleted && life.world.pods.is_empty());
}

#[test]
fn history_is_kept_as_long_as_the_policy_says_unless_a_tool_tracks_it() {
    for tracked in [false, true] {
        let mut life = Life::launched(json!({}), short());
        if tracked {
            life.session().metadata.annotations =
                Some([("argocd.argoproj.io/tracking-id".to_owned(), "x".to_owned())].into_iter().collect());
        }
        life.session().spec.desired_state = DesiredState::Disconnected;
        life.look();
        life.pass(59);
        assert!(!life.deleted);
        life.pass(1);
        assert_eq!(life.deleted, !tracked);
    }
}

#[test]
fn history_that_a_gateway_records_is_the_gateways_to_prune() {
    let mut life = Life::launched(json!({}), short());
    life.world.pruned_by = Pruner::Gateway;
    life.session().spec.desired_state = DesiredState::Disconnected;
    life.look();
    let kept_until = prune_at(&life.world.session, &life.world.policy);
    assert_eq!(kept_until, life.status().ended_at.map(|ended| ended + TimeDelta::seconds(60)));
    let plan = decide(&life.world, life.now + TimeDelta::hours(1));
    assert_eq!((plan.steps, plan.wake), (Vec::new(), None), "nothing, and nothing to wake for");
}

#[test]
fn a_pod_that_turns_up_after_the_end_is_deleted() {
    let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
    let pods = life.world.pods.clone();
    life.session().spec.desired_state = DesiredState::Disconnected;
    life.look();
    life.world.pods = pods;
    life.look();
    assert!(life.world.pods.is_empty());
}

#[test]
fn a_pod_without_its_marks_gets_them_back_before_the_end_is_written() {
    let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
    Arc::make_mut(&mut life.world.pods[0]).metadata.labels = None;
    Arc::make_mut(&mut life.world.session).spec.desired_state = DesiredState::Disconnected;
    let steps = decide(&life.world, life.now).steps;
    assert!(matches!(steps[0], Step::Restamp { .. }), "{steps:?}");
    assert!(matches!(&steps[1], Step::Publish(status) if status.ended_at.is_some()), "{steps:?}");
    assert!(matches!(steps[2], Step::DeletePod { .. }), "{steps:?}");
}

#[test]
fn a_session_that_nothing_holds_is_held_again_until_its_pod_was_released() {
    let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
    let session = Arc::make_mut(&mut life.world.session);
    session.metadata.finalizers = None;
    session.spec.desired_state = DesiredState::Disconnected;
    let steps = decide(&life.world, life.now).steps;
    assert!(matches!(steps[0], Step::Mark { finalizer: true }), "{steps:?}");
    assert!(matches!(&steps[1], Step::Publish(status) if status.ended_at.is_some()), "{steps:?}");
    assert!(matches!(steps[2], Step::DeletePod { .. }), "{steps:?}");
    assert!(matches!(steps[3], Step::Mark { finalizer: false }), "{steps:?}");
    life.world.pods.clear();
    let steps = decide(&life.world, life.now).steps;
    assert!(matches!(&steps[0], Step::Publish(_)) && steps.len() == 1, "there is nothing to hold it for: {steps:?}");
}
