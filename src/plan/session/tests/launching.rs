//! How a session gets its slot and its instance, or fails to, told as sentences.

use serde_json::json;

use super::super::*;
use super::life::{Life, at, policy, short, workspace};
use crate::api::Reason;

#[test]
fn a_launch_writes_its_claim_first_then_the_marks_then_the_pod() {
    let life = Life::new(json!({}));
    let steps = decide(&life.world, life.now).steps;
    assert!(matches!(&steps[0], Step::Publish(status) if status.phase == Some(Phase::Starting)));
    assert!(matches!(steps[1], Step::Mark { finalizer: true }));
    assert!(matches!(steps[2], Step::EnsurePod(_)));
    assert_eq!(steps.len(), 3);
}

#[test]
fn a_session_becomes_active_when_its_pod_is_ready() {
    let life = Life::launched(json!({}), PolicySource::BuiltIn);
    let status = life.status();
    assert_eq!(life.phase(), Phase::Active);
    assert_eq!(status.ready_at, Some(at(0)));
    assert_eq!(status.url.as_deref(), Some("http://10.0.0.1:80"));
    assert_eq!(status.disconnect_at, Some(at(1800)));
    assert_eq!(status.disconnect_reason, Some(Reason::IdleTimeout));
    assert_eq!(life.notes, ["Active"]);
}

#[test]
fn without_a_slot_a_session_waits_and_says_why() {
    let mut life = Life::new(json!({}));
    life.rival(true, -5);
    life.look();
    assert_eq!(life.phase(), Phase::Pending);
    assert_eq!(
        life.status().message.as_deref(),
        Some("waiting for the slot: the Workspace takes one session at a time")
    );
    assert_eq!(life.notes, ["NoSlot"]);
    life.world.rivals = Rivals::default();
    life.look();
    assert_eq!(life.phase(), Phase::Starting);
}

#[test]
fn without_a_slot_a_session_that_does_not_want_to_wait_fails() {
    let mut life = Life::new(json!({"whenFull": "Fail"}));
    life.rival(true, -5);
    life.look();
    assert_eq!(life.ended(), Some((Phase::Failed, Reason::LimitExceeded)));
    assert!(life.holds(Type::Stalled));
}

#[test]
fn the_queue_has_an_end() {
    let mut life = Life::new(json!({}));
    life.world.policy = policy(json!({"queueTimeout": "60s"}));
    life.rival(true, -5);
    life.look();
    assert_eq!(life.wake, Some(at(60)));
    life.pass(60);
    assert_eq!(life.ended(), Some((Phase::Failed, Reason::QueueTimeout)));
}

#[test]
fn what_is_missing_or_wrong_is_waited_for_by_name() {
    for (change, reason) in [
        (json!({"maintenance": true}), "Maintenance"),
        (
            json!({"template": {"spec": {"hostNetwork": true, "containers": [{"name": "a", "image": "b"}]}}}),
            "TemplateInvalid",
        ),
    ] {
        let mut life = Life::new(json!({}));
        life.world.workspace = Some(workspace(change));
        life.look();
        assert_eq!((life.phase(), life.notes), (Phase::Pending, vec![reason.to_owned()]));
    }
    let mut life = Life::new(json!({}));
    life.world.policy = PolicySource::Missing("gone".to_owned());
    life.look();
    assert_eq!((life.phase(), life.notes), (Phase::Pending, vec!["PolicyNotFound".to_owned()]));
    let mut life = Life::new(json!({}));
    (life.world.workspace, life.world.policy) = (None, PolicySource::Unknown);
    life.look();
    assert_eq!((life.phase(), life.notes), (Phase::Pending, vec!["WorkspaceNotFound".to_owned()]));
}

#[test]
fn a_launch_waits_for_the_api_servers_word_on_the_template() {
    let mut life = Life::new(json!({}));
    let mut untried = workspace(json!({}));
    Arc::make_mut(&mut untried).metadata.generation = Some(2);
    life.world.workspace = Some(untried);
    life.look();
    assert_eq!((life.phase(), life.notes.len()), (Phase::Pending, 0));
    life.world.workspace = Some(workspace(json!({})));
    life.look();
    assert_eq!(life.phase(), Phase::Starting);
}

#[test]
fn a_policy_that_cannot_be_read_is_not_taken_for_none() {
    let unreadable = || PolicySource::Unreadable("default".to_owned(), "no number".to_owned());
    let mut life = Life::new(json!({}));
    life.world.policy = unreadable();
    life.look();
    assert_eq!((life.phase(), life.notes), (Phase::Pending, vec!["PolicyInvalid".to_owned()]));
    let mut life = Life::launched(json!({}), short());
    let before = life.status().disconnect_at;
    life.world.policy = unreadable();
    life.look();
    assert_eq!((life.phase(), life.status().disconnect_at), (Phase::Active, before));
}

#[test]
fn a_template_that_is_edited_before_the_pod_is_made_is_judged_again() {
    for edit in [json!({"hostNetwork": true}), json!({"hostPID": true})] {
        let mut life = Life::new(json!({}));
        // The slot was given, and the operator died before it made the pod.
        life.look_and_take(2);
        assert_eq!((life.phase(), life.world.pods.len()), (Phase::Starting, 0));
        let mut spec = json!({"containers": [{"name": "a", "image": "b"}]});
        spec.as_object_mut().unwrap().extend(edit.as_object().cloned().unwrap());
        life.world.workspace = Some(workspace(json!({"template": {"spec": spec}})));
        life.look();
        assert!(life.world.pods.is_empty(), "{edit}");
        assert_eq!(life.notes, ["TemplateInvalid"]);
        life.world.workspace = Some(workspace(json!({})));
        life.look();
        assert_eq!(life.world.pods.len(), 1);
    }
}

#[test]
fn a_session_that_waits_keeps_the_queue_timeout_it_was_given() {
    for change in [
        PolicySource::Missing("p".to_owned()),
        PolicySource::Unreadable("p".to_owned(), "no number".to_owned()),
        policy(json!({"queueTimeout": "1m"})),
    ] {
        let mut life = Life::new(json!({}));
        life.world.policy = policy(json!({"queueTimeout": "24h"}));
        life.rival(true, -5);
        life.look();
        life.pass(3 * 3600);
        life.world.policy = change;
        life.look();
        assert_eq!((life.phase(), life.ended()), (Phase::Pending, None));
        life.pass(21 * 3600);
        assert_eq!(life.ended(), Some((Phase::Failed, Reason::QueueTimeout)));
    }
}

#[test]
fn a_start_is_given_the_time_that_it_was_promised() {
    let mut life = Life::new(json!({}));
    life.world.policy = policy(json!({"startTimeout": "10m"}));
    life.look();
    life.world.policy = policy(json!({"startTimeout": "30s"}));
    life.pass(60);
    assert_eq!((life.phase(), life.ended()), (Phase::Starting, None));
    life.pass(540);
    assert_eq!(life.ended(), Some((Phase::Failed, Reason::StartTimeout)));
}

#[test]
fn a_session_created_in_the_future_says_so_until_it_is_no_more() {
    let mut life = Life::new(json!({}));
    life.now = at(-20);
    life.look();
    life.pod_ready();
    assert!(life.holds(Type::ClockSkew));
    assert_eq!(life.wake, Some(at(-5)));
    life.pass(15);
    assert!(!life.holds(Type::ClockSkew));
}

#[test]
fn a_workspace_that_cannot_be_read_is_waited_for_in_those_words() {
    let mut life = Life::new(json!({}));
    (life.world.workspace, life.world.policy) = (None, PolicySource::Unknown);
    life.world.workspace_unread = Some("no such type".to_owned());
    life.look();
    assert_eq!((life.phase(), life.notes.as_slice()), (Phase::Pending, ["WorkspaceUnreadable".to_owned()].as_slice()));
    assert_eq!(life.status().message.as_deref(), Some("waiting for Workspace box: no such type"));
}

#[test]
fn a_start_that_takes_too_long_fails_with_the_pods_own_reason() {
    let mut life = Life::new(json!({}));
    life.world.policy = policy(json!({"startTimeout": "20s"}));
    life.look();
    life.pod_status(
        json!({"containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"box\""}}}]}),
    );
    assert_eq!(life.phase(), Phase::Starting);
    assert!(life.status().message.unwrap().contains("Back-off pulling"));
    assert_eq!(life.notes, ["ImagePullBackOff"]);
    life.pass(20);
    assert_eq!(life.ended(), Some((Phase::Failed, Reason::StartTimeout)));
    assert!(life.status().message.unwrap().contains("Back-off pulling"));
    assert!(life.world.pods.is_empty());
}

#[test]
fn an_operator_that_was_away_past_the_start_timeout_finds_a_usable_session_usable() {
    let mut life = Life::new(json!({}));
    life.world.policy = policy(json!({"startTimeout": "20s"}));
    life.look();
    life.now += TimeDelta::seconds(600);
    life.pod_ready();
    assert_eq!(life.phase(), Phase::Active);
}

#[test]
fn a_session_that_does_not_want_to_wait_does_not_wait_for_its_volumes_either() {
    let mut life = Life::new(json!({"whenFull": "Fail"}));
    life.world.volume_holder = Some("other".to_owned());
    life.look();
    assert_eq!(life.ended(), Some((Phase::Failed, Reason::LimitExceeded)));
}

#[test]
fn a_refused_instance_fails_at_once_and_a_quota_is_waited_for() {
    let mut life = Life::new(json!({}));
    life.look_and_take(2);
    life.world.attempt = Attempt::RetryAt(at(5), "exceeded quota".to_owned());
    life.look();
    assert_eq!(life.status().message.as_deref(), Some("exceeded quota"));
    assert!(life.world.pods.is_empty());
    assert_eq!(life.wake, Some(at(5)));
    life.pass(5);
    assert_eq!(life.world.pods.len(), 1);
    let mut life = Life::new(json!({}));
    life.look_and_take(2);
    life.world.attempt = Attempt::Refused("spec.containers: Required value".to_owned());
    life.look();
    assert_eq!(life.ended(), Some((Phase::Failed, Reason::InvalidSpec)));
}

#[test]
fn an_endpoint_is_usable_once_it_was_reached() {
    let mut life = Life::new(json!({}));
    let mut endpoint = workspace(json!({"endpoint": {"host": "pc-7.example.org"}}));
    Arc::make_mut(&mut endpoint).spec.template = None;
    life.world.workspace = Some(endpoint);
    life.look();
    assert_eq!(life.phase(), Phase::Active);
    assert_eq!(life.status().url.as_deref(), Some("http://pc-7.example.org:80"));
    assert!(life.world.pods.is_empty());
    life.world.workspace = Some(workspace(json!({"access": {"protocol": "SSH", "port": 22}})));
    life.look();
    assert_eq!(life.status().url.as_deref(), Some("http://pc-7.example.org:80"));
}
