//! What a session in use lives through, told as sentences.

use serde_json::json;

use super::super::*;
use super::life::{Life, at, policy, short, workspace};
use crate::api::Reason;

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
