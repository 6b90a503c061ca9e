//! What becomes of a Workspace, told as sentences.

use super::*;
use chrono::DateTime;
use serde_json::json;

fn at(second: i64) -> Instant {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap_or_default()
}

fn world(changes: Value) -> World {
    let mut object = json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Workspace",
        "metadata": {"name": "box", "namespace": "n", "uid": "w", "generation": 1, "creationTimestamp": "2027-01-15T08:00:00Z"},
        "spec": {
            "type": "web", "access": {"protocol": "HTTP", "port": 80},
            "template": {"spec": {"containers": [{"name": "main", "image": "box"}]}},
        },
    });
    for (path, value) in changes.as_object().cloned().unwrap_or_default() {
        *object.pointer_mut(&path).unwrap() = value;
    }
    World {
        workspace: Arc::new(serde_json::from_value(object).unwrap()),
        holding: 0,
        waiting: 0,
        last_end: None,
        policy: PolicySource::BuiltIn,
        trial: Trial::Accepted,
        hardening: Arc::default(),
        fence: Fence::Stands,
        budget: Child::Stands,
        secret: None,
        hash: None,
        pool: None,
    }
}

fn spec(changes: Value) -> World {
    let mut spec = json!({"type": "web", "access": {"protocol": "HTTP", "port": 80}, "template": {"spec": {"containers": [{"name": "main", "image": "box"}]}}});
    for (key, value) in changes.as_object().cloned().unwrap_or_default() {
        spec[key] = value;
    }
    world(json!({"/spec": spec}))
}

fn published(world: &World) -> WorkspaceStatus {
    let steps = decide(world, at(0)).steps;
    let status = steps.into_iter().find_map(|step| match step {
        Step::Publish(status) => Some(*status),
        _ => None,
    });
    status.unwrap_or_default()
}

#[test]
fn the_phase_says_whether_a_launch_would_succeed() {
    assert_eq!(published(&spec(json!({}))).phase, Some(WorkspacePhase::Available));
    assert_eq!(published(&World { holding: 1, ..spec(json!({})) }).phase, Some(WorkspacePhase::InUse));
    assert_eq!(
        published(&World { holding: 1, ..spec(json!({"maxSessions": 2})) }).phase,
        Some(WorkspacePhase::Available)
    );
    assert_eq!(published(&spec(json!({"maintenance": true}))).phase, Some(WorkspacePhase::Maintenance));
    for policy in
        [PolicySource::Missing("p".to_owned()), PolicySource::Unreadable("p".to_owned(), "no number".to_owned())]
    {
        let world = World { policy, ..spec(json!({})) };
        assert_eq!(published(&world).phase, Some(WorkspacePhase::Unavailable));
    }
    let refused = World { trial: Trial::Refused("image: Required value".to_owned()), ..spec(json!({})) };
    assert_eq!(published(&refused).phase, Some(WorkspacePhase::Unavailable));
}

#[test]
fn those_who_work_and_those_that_wait_for_somebody_are_given_the_credentials_of_today() {
    let makes = |world: &World| decide(world, at(0)).steps.iter().any(|step| matches!(step, Step::EnsureSecret(_)));
    let unmade = World { secret: Some(Credential::default()), ..spec(json!({})) };
    assert!(!makes(&unmade), "who is launched next makes it");
    assert!(makes(&World { holding: 1, ..unmade.clone() }));
    let waits = Standing { replicas: 1, ..Standing::default() };
    assert!(makes(&World { pool: Some(waits), ..unmade }));
}

#[test]
fn a_look_is_taken_when_time_alone_changes_the_pool() {
    let pool = Standing { until: Some(at(60)), ..Standing::default() };
    assert_eq!(decide(&World { pool: Some(pool), ..spec(json!({})) }, at(0)).wake, Some(at(60)));
}

#[test]
fn the_api_server_is_asked_once_for_each_generation() {
    let untried = World { trial: Trial::NotMade, ..spec(json!({})) };
    assert!(decide(&untried, at(0)).steps.iter().any(|step| matches!(step, Step::Try(_))));
    // A restart remembers by the status.
    let mut told = untried.clone();
    Arc::make_mut(&mut told.workspace).status = Some(published(&spec(json!({}))));
    assert_eq!(decide(&told, at(0)).steps, vec![]);
    // Other settings are asked about again.
    let sandboxed = Hardening { runtime_class_name: Some("gvisor".to_owned()), ..Hardening::default() };
    let elsewhere = World { hardening: Arc::new(sandboxed), ..told.clone() };
    assert!(decide(&elsewhere, at(0)).steps.iter().any(|step| matches!(step, Step::Try(_))));
    // An edit is asked about again.
    Arc::make_mut(&mut told.workspace).metadata.generation = Some(2);
    assert!(decide(&told, at(0)).steps.iter().any(|step| matches!(step, Step::Try(_))));
    // An answer that was none is waited for.
    let forbidden = |at| World { trial: Trial::Forbidden(at, "label".to_owned()), ..spec(json!({})) };
    assert_eq!(decide(&forbidden(at(5)), at(0)).wake, Some(at(5)));
    assert!(decide(&forbidden(at(5)), at(5)).steps.iter().any(|step| matches!(step, Step::Try(_))));
    // A restart asks again about what stood beside the template.
    let mut told = World { trial: Trial::NotMade, ..spec(json!({})) };
    Arc::make_mut(&mut told.workspace).status = Some(published(&forbidden(at(5))));
    assert!(decide(&told, at(0)).steps.iter().any(|step| matches!(step, Step::Try(_))));
    let undecided = World { trial: Trial::Undecided(at(5), "quota".to_owned()), ..spec(json!({})) };
    assert_eq!(decide(&undecided, at(0)).wake, Some(at(5)));
    assert!(decide(&undecided, at(5)).steps.iter().any(|step| matches!(step, Step::Try(_))));
}

#[test]
fn the_wall_comes_before_everything_and_holds_until_the_last() {
    let policy = || Box::new(NetworkPolicy::default());
    let wanting = |failed| Fence::Wanting { object: policy(), failed };
    let ensures = |world: &World, now| decide(world, now).steps == vec![Step::EnsureNetworkPolicy(policy())];
    let fresh = World { fence: wanting(None), trial: Trial::NotMade, ..spec(json!({})) };
    assert!(ensures(&fresh, at(0)), "before the template is tried");
    assert!(decide(&fresh, at(0)).notes.is_empty());
    // What cannot be applied is told, and tried again in time.
    let failing = World { fence: wanting(Some((at(5), "quota".to_owned()))), ..spec(json!({})) };
    let status = published(&failing);
    assert_eq!(status.phase, Some(WorkspacePhase::Unavailable));
    let applied = condition::find(&status.conditions, Type::NetworkPolicyApplied).unwrap();
    assert!(applied.status == Status::False && applied.message.ends_with("quota"), "{}", applied.message);
    assert_eq!(decide(&failing, at(0)).wake, Some(at(5)));
    assert!(ensures(&failing, at(5)));
    // Somebody took it away: it comes back, with a word.
    let mut robbed = World { fence: wanting(None), ..spec(json!({})) };
    Arc::make_mut(&mut robbed.workspace).status = Some(published(&spec(json!({}))));
    assert!(ensures(&robbed, at(0)));
    assert_eq!(decide(&robbed, at(0)).notes[0].reason, "NetworkPolicyRestored");
    // An edit is no theft.
    Arc::make_mut(&mut robbed.workspace).metadata.generation = Some(2);
    assert!(decide(&robbed, at(0)).notes.is_empty());
    // Under a Workspace that is going it is put back while somebody is in it.
    Arc::make_mut(&mut robbed.workspace).metadata.deletion_timestamp =
        serde_json::from_value(json!("2027-01-15T09:00:00Z")).unwrap();
    assert_eq!(decide(&robbed, at(0)).steps, vec![]);
    robbed.holding = 1;
    assert!(ensures(&robbed, at(0)));
}

#[test]
fn a_one_off_goes_once_it_was_used_and_nobody_is_left() {
    let deleted = |world: &World| decide(world, at(100)).steps == vec![Step::Delete];
    let one_off = spec(json!({"reclaimPolicy": "Delete"}));
    let end = |at, phase, reason| Some(LastEnd { at, phase, reason });
    let left = |second| end(at(second), Phase::Disconnected, Reason::UserDisconnected);
    let used = World { last_end: left(50), ..one_off.clone() };
    assert!(deleted(&used));
    assert!(!deleted(&one_off), "never used");
    assert!(!deleted(&World { waiting: 1, ..used.clone() }), "awaited");
    assert!(!deleted(&World { holding: 1, ..used.clone() }), "in use");
    let timed_out = end(at(50), Phase::Terminated, Reason::MaxDuration);
    assert!(deleted(&World { last_end: timed_out, ..one_off.clone() }));
    for (phase, reason) in [
        (Phase::Terminated, Reason::AdministratorEnded),
        (Phase::Terminated, Reason::SessionDeleted),
        (Phase::Failed, Reason::InstanceLost),
    ] {
        let cut_off = end(at(50), phase, reason);
        assert!(!deleted(&World { last_end: cut_off, ..one_off.clone() }), "{reason:?}");
    }
    assert!(!deleted(&World { last_end: left(-50), ..one_off }), "used under its name before it was created");
    assert!(!deleted(&World { last_end: left(50), ..spec(json!({})) }), "kept by its policy");
    let mut tracked = used;
    Arc::make_mut(&mut tracked.workspace).annotations_mut().insert(TRACKING_KEYS[0].to_owned(), "x".to_owned());
    assert!(!deleted(&tracked), "tracked by a tool");
}

#[test]
fn a_status_that_stands_is_not_written_again() {
    let mut world = spec(json!({}));
    Arc::make_mut(&mut world.workspace).status = Some(published(&world));
    assert_eq!(decide(&world, at(1000)).steps, vec![]);
}
