//! What a session lives through, told as sentences.

use serde_json::json;

use super::super::*;
use super::life::{Life, at, parse, policy, short, workspace};
use crate::api::Reason;
use crate::api::session::DesiredState;

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
    life.world.rivals.clear();
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
fn a_drain_of_its_node_is_told_once_and_ends_nobody_who_may_stay() {
    let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
    let before = life.status().disconnect_at;
    life.world.draining = Draining::Yes("it was cordoned".to_owned());
    life.look();
    assert!(life.holds(Type::NodeDraining) && !life.holds(Type::EndingSoon));
    assert_eq!((life.phase(), life.status().disconnect_at), (Phase::Active, before));
    life.pass(60);
    assert_eq!(life.notes, ["Active", "NodeDraining"]);
    life.world.draining = Draining::No;
    life.look();
    assert!(!life.holds(Type::NodeDraining));
}

#[test]
fn who_is_told_to_go_only_later_has_the_whole_notice_from_then_on() {
    let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
    life.world.draining = Draining::Yes("it was cordoned".to_owned());
    life.look();
    life.pass(1200);
    life.used_now();
    life.world.workspace = Some(workspace(json!({"drain": "End"})));
    life.look();
    assert_eq!((life.phase(), life.status().disconnect_at), (Phase::Active, Some(at(1800))));
    // An operator that has just begun knows no nodes: what was told holds.
    life.world.draining = Draining::Unknown;
    life.pass(60);
    assert!(life.holds(Type::NodeDraining) && life.holds(Type::EndingSoon));
    assert_eq!(life.status().disconnect_at, Some(at(1800)));
}

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
fn a_workspace_that_cannot_be_read_is_not_gone() {
    let mut life = Life::launched(json!({}), short());
    (life.world.workspace, life.world.policy) = (None, PolicySource::Unknown);
    life.world.workspace_unread = Some("no such type".to_owned());
    life.look();
    assert!(!life.holds(Type::WorkspaceMissing));
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
fn an_unused_session_is_idle_then_warned_then_disconnected() {
    let mut life = Life::launched(json!({}), short());
    assert_eq!(life.wake, Some(at(10)));
    life.pass(9);
    assert_eq!(life.phase(), Phase::Active);
    life.pass(1);
    assert_eq!((life.phase(), life.status().idle_since), (Phase::Idle, Some(at(0))));
    assert!(!life.holds(Type::EndingSoon));
    life.pass(10);
    assert!(life.holds(Type::EndingSoon));
    assert!(life.status().message.unwrap().contains("any activity keeps it"));
    life.pass(9);
    assert_eq!(life.ended(), None);
    life.pass(1);
    assert_eq!(life.ended(), Some((Phase::Disconnected, Reason::IdleTimeout)));
    assert_eq!(life.status().duration.as_deref(), Some("30s"));
    assert_eq!(life.notes, ["Active", "EndingSoon", "IdleTimeout"]);
    assert!(life.world.pods.is_empty());
    assert!(life.world.session.finalizers().is_empty());
}

#[test]
fn activity_makes_an_idle_session_active_and_takes_the_warning_back() {
    let mut life = Life::launched(json!({}), short());
    life.pass(25);
    assert!(life.holds(Type::EndingSoon));
    life.used_now();
    assert_eq!(life.phase(), Phase::Active);
    assert!(!life.holds(Type::EndingSoon));
    assert_eq!(life.status().disconnect_at, Some(at(55)));
}

#[test]
fn a_keepalive_counts_only_where_the_policy_allows_it() {
    for (allowed, phase) in [(true, Phase::Active), (false, Phase::Idle)] {
        let rules =
            json!({"idle": {"after": "10s", "warnAfter": "20s", "disconnectAfter": "30s", "allowKeepAlive": allowed}});
        let mut life = Life::launched(json!({}), policy(rules));
        life.pass(15);
        life.session().spec.keep_alive_at = Some(at(15));
        life.look();
        assert_eq!(life.phase(), phase);
    }
}

#[test]
fn an_activity_from_the_future_counts_once_and_is_told() {
    let mut life = Life::launched(json!({}), short());
    life.pass(5);
    life.session().spec.keep_alive_at = Some(at(100_000));
    life.look();
    assert!(life.holds(Type::ClockSkew));
    assert_eq!(life.status().disconnect_at, Some(at(35)));
    life.pass(30);
    assert_eq!(life.ended(), Some((Phase::Disconnected, Reason::IdleTimeout)));
}

#[test]
fn the_maximum_duration_ends_even_a_busy_session_and_warns_first() {
    let mut life = Life::launched(json!({}), short());
    for _ in 0..10 {
        life.pass(10);
        life.used_now();
    }
    assert!(!life.holds(Type::EndingSoon));
    life.pass(5);
    assert!(life.holds(Type::EndingSoon));
    life.pass(10);
    life.used_now();
    life.pass(5);
    assert_eq!(life.ended(), Some((Phase::Terminated, Reason::MaxDuration)));
}

#[test]
fn a_wish_to_be_disconnected_earlier_is_granted() {
    let mut life = Life::launched(json!({"idle": {"disconnectAfter": "25s"}}), short());
    assert_eq!(life.status().disconnect_at, Some(at(25)));
    life.pass(25);
    assert_eq!(life.ended(), Some((Phase::Disconnected, Reason::IdleTimeout)));
}

#[test]
fn a_policy_that_vanishes_leaves_its_rules() {
    let mut life = Life::launched(json!({}), short());
    life.world.policy = PolicySource::Missing("p".to_owned());
    life.look();
    assert!(life.holds(Type::PolicyMissing));
    assert_eq!(life.status().disconnect_at, Some(at(30)));
    // Nor do built-in values take the place of a `default` that vanished.
    life.world.policy = PolicySource::BuiltIn;
    life.pass(30);
    assert_eq!(life.ended(), Some((Phase::Disconnected, Reason::IdleTimeout)));
}

#[test]
fn a_tightened_policy_gives_its_notice() {
    let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
    life.pass(600);
    life.world.policy = short();
    life.look();
    assert_eq!(life.ended(), None);
    assert!(life.holds(Type::EndingSoon));
    // The idle notice of the new policy is ten seconds.
    assert_eq!(life.status().disconnect_at, Some(at(610)));
    life.pass(10);
    assert_eq!(life.ended(), Some((Phase::Disconnected, Reason::IdleTimeout)));
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
fn a_phase_that_a_hand_wrote_moves_no_session() {
    for phase in phase::PHASES {
        let mut life = Life::launched(json!({}), short());
        let before = life.status();
        life.session().status = Some(SessionStatus { phase: Some(phase), ..before.clone() });
        life.look();
        assert_eq!(life.status(), before, "{phase:?}");
    }
    let mut waiting = Life::new(json!({}));
    waiting.world.workspace = None;
    waiting.look();
    let before = waiting.status();
    waiting.session().status = Some(SessionStatus { phase: Some(Phase::Active), ..before.clone() });
    waiting.look();
    assert_eq!(waiting.status(), before, "nothing was launched, whatever the phase claims");
}

#[test]
fn an_edit_of_the_workspace_leaves_live_sessions_alone() {
    let mut life = Life::launched(json!({}), short());
    let pods = life.world.pods.clone();
    life.world.workspace = Some(workspace(json!({"maintenance": true, "template": {"spec": {"containers": []}}})));
    life.look();
    assert_eq!((life.phase(), &life.world.pods), (Phase::Active, &pods));
}

#[test]
fn an_instance_keeps_its_address_when_the_workspace_is_edited_while_it_starts_or_later() {
    let moved = || Some(workspace(json!({"access": {"protocol": "VNC", "port": 5900}})));
    let mut life = Life::new(json!({}));
    life.look();
    life.world.workspace = moved();
    life.pod_ready();
    assert_eq!(life.status().url.as_deref(), Some("http://10.0.0.1:80"));
    let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
    life.world.workspace = moved();
    life.look();
    assert_eq!(life.status().url.as_deref(), Some("http://10.0.0.1:80"));
}

#[test]
fn a_restarting_container_keeps_the_phase_and_takes_readiness() {
    let mut life = Life::launched(json!({}), PolicySource::BuiltIn);
    life.pod_status(json!({"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
        "containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 1, "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}));
    assert_eq!(life.phase(), Phase::Active);
    let ready = condition::find(&life.status().conditions, Type::Ready).cloned().unwrap();
    assert_eq!((ready.status, ready.reason.as_str()), (condition::Status::False, "OOMKilled"));
    life.pod_ready();
    assert!(life.holds(Type::Ready));
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

/// A session of the same user, which stands so.
fn own(uid: &str, standing: limit::Standing) -> Own {
    Own { created: at(0), uid: uid.to_owned(), standing }
}

fn limited(on_exceeded: &str) -> PolicySource {
    policy(json!({ "limits": { "sessionsPerUser": 1, "onExceeded": on_exceeded } }))
}

#[test]
fn one_too_many_waits_at_its_limit_or_fails_and_is_launched_when_another_ends() {
    let mut life = Life::new(json!({}));
    life.world.policy = limited("Reject");
    life.world.own = vec![own("a", limit::Standing::InUse)];
    life.look();
    assert_eq!(life.phase(), Phase::Pending);
    assert_eq!(
        life.status().message.as_deref(),
        Some("waiting for the end of another session of yours: your policy lets you have 1 at a time")
    );
    assert!(admission::is_aside(&life.status().conditions), "it holds nobody up in the queue of its Workspace");
    life.world.own.clear();
    life.look();
    assert_ne!(life.phase(), Phase::Pending);
    let mut impatient = Life::new(json!({ "whenFull": "Fail" }));
    impatient.world.policy = limited("Reject");
    impatient.world.own = vec![own("a", limit::Standing::InUse)];
    impatient.look();
    assert_eq!((impatient.phase(), impatient.status().reason), (Phase::Failed, Some(Reason::LimitExceeded)));
}

#[test]
fn a_session_in_use_that_makes_way_is_warned_and_one_that_is_idle_goes_at_once() {
    let mut life = Life::launched(json!({}), limited("EndOldest"));
    life.look();
    life.world.own = vec![own("z", limit::Standing::AtLimit)];
    life.look();
    assert!(life.holds(Type::EndingSoon) && life.status().ended_at.is_none(), "{:?}", life.status());
    assert_eq!(life.status().disconnect_reason, Some(Reason::LimitExceeded));
    // Who waited for it has gone: the announcement is taken back.
    life.world.own.clear();
    life.look();
    assert_ne!(life.status().disconnect_reason, Some(Reason::LimitExceeded));
    life.world.own = vec![own("z", limit::Standing::AtLimit)];
    life.look();
    life.pass(60);
    assert_eq!((life.phase(), life.status().reason), (Phase::Terminated, Some(Reason::LimitExceeded)));
    let mut idle = Life::launched(json!({}), limited("EndOldest"));
    idle.look();
    idle.pass(300);
    assert_eq!(idle.phase(), Phase::Idle);
    idle.world.own = vec![own("z", limit::Standing::AtLimit)];
    idle.look();
    idle.pass(1);
    assert_eq!((idle.phase(), idle.status().reason), (Phase::Terminated, Some(Reason::LimitExceeded)));
}
