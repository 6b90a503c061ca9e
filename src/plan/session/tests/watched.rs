//! Sessions whose policy asks a gateway for their activity: unknown is not idle. Told as sentences.

use chrono::TimeDelta;
use serde_json::json;

use super::super::*;
use super::life::{Life, at, policy};
use crate::api::Reason;
use crate::api::condition::Status;
use crate::api::session::Activity;

/// Idle after 10 s, warned after 20, disconnected after 60: an observation may come 20 s late.
fn by_gateway() -> PolicySource {
    policy(json!({
        "idle": { "after": "10s", "warnAfter": "20s", "disconnectAfter": "60s" }, "maxDuration": "600s",
        "activity": { "source": "gateway" },
    }))
}

/// An observer that lives has watched from one second to another, and saw the last activity then.
fn observed(life: &mut Life, last: i64, since: i64, until: i64) {
    life.world.observer = Observer::Live;
    life.session().status.as_mut().unwrap().activity = Some(Activity {
        last_at: Some(at(last)),
        observed_since: Some(at(since)),
        observed_until: Some(at(until)),
        observer: Some(serde_json::from_value(json!("observer.g")).unwrap()),
        source: None,
    });
    life.look();
}

fn known(life: &Life) -> (Status, String) {
    let known = condition::find(&life.status().conditions, Type::ActivityKnown).cloned().unwrap();
    (known.status, known.reason)
}

#[test]
fn without_a_gateway_nobody_is_idle_and_the_maximum_duration_alone_ends_the_session() {
    let mut life = Life::launched(json!({}), by_gateway());
    assert_eq!(known(&life), (Status::False, "NeverObserved".to_owned()));
    assert_eq!(life.status().disconnect_reason, Some(Reason::MaxDuration));
    life.pass(300);
    assert_eq!((life.phase(), life.ended()), (Phase::Active, None));
    life.pass(300);
    assert_eq!(life.ended(), Some((Phase::Terminated, Reason::MaxDuration)));
    let trusted = Life::launched(json!({}), PolicySource::BuiltIn);
    assert_eq!(condition::find(&trusted.status().conditions, Type::ActivityKnown), None, "nobody was asked");
}

#[test]
fn a_silence_that_a_gateway_has_watched_makes_a_session_idle_then_warned_then_ended() {
    let mut life = Life::launched(json!({}), by_gateway());
    observed(&mut life, 0, 0, 0);
    assert_eq!(known(&life), (Status::False, "NotObserved".to_owned()), "one moment is no watch");
    life.pass(1);
    observed(&mut life, 0, 0, 1);
    assert_eq!(known(&life), (Status::True, "Observed".to_owned()));
    assert_eq!(
        (life.status().disconnect_at, life.status().disconnect_reason),
        (Some(at(60)), Some(Reason::IdleTimeout))
    );
    life.pass(9);
    assert_eq!(life.phase(), Phase::Active, "nobody has said yet");
    observed(&mut life, 0, 0, 10);
    assert_eq!((life.phase(), life.status().idle_since), (Phase::Idle, Some(at(0))));
    life.pass(10);
    assert!(!life.holds(Type::EndingSoon));
    observed(&mut life, 0, 0, 20);
    assert!(life.holds(Type::EndingSoon));
    life.pass(40);
    assert_eq!(life.ended(), None);
    observed(&mut life, 0, 0, 60);
    assert_eq!(life.ended(), Some((Phase::Disconnected, Reason::IdleTimeout)));
}

#[test]
fn a_gateway_that_lives_and_says_nothing_is_waited_for_and_then_not_believed() {
    let mut life = Life::launched(json!({}), by_gateway());
    life.pass(5);
    observed(&mut life, 0, 0, 5);
    life.pass(24);
    assert_eq!((life.phase(), known(&life).0), (Phase::Active, Status::True));
    assert_eq!(life.wake, Some(at(30)), "it is looked again when that is too late");
    life.pass(1);
    assert_eq!(known(&life), (Status::False, "NotObserved".to_owned()));
    assert_eq!(life.status().disconnect_reason, Some(Reason::MaxDuration));
    // It has watched all along and says so late: its word counts, and the whole warning is given.
    life.pass(270);
    observed(&mut life, 0, 0, 300);
    assert_eq!((life.phase(), life.ended()), (Phase::Idle, None));
    assert!(life.holds(Type::EndingSoon));
    assert_eq!(life.status().disconnect_at, Some(at(340)));
}

#[test]
fn an_observer_that_falls_silent_over_an_idle_session_is_not_believed_and_that_stands() {
    let mut life = Life::launched(json!({}), by_gateway());
    life.pass(15);
    observed(&mut life, 0, 0, 15);
    assert_eq!(life.phase(), Phase::Idle);
    life.pass(25);
    assert_eq!((life.phase(), known(&life)), (Phase::Active, (Status::False, "NotObserved".to_owned())));
    let told = life.status();
    for _ in 0..20 {
        // One look at a time: what is written is not taken back by the next.
        life.now += TimeDelta::seconds(5);
        assert_eq!(life.look_and_take(usize::MAX), 0, "at {}: {:?}", life.now, life.status());
    }
    assert_eq!(life.status(), told);
}

#[test]
fn when_the_gateway_is_gone_an_idle_session_is_active_again_and_what_was_missed_counts_as_activity() {
    let mut life = Life::launched(json!({}), by_gateway());
    life.pass(15);
    observed(&mut life, 0, 0, 15);
    assert_eq!(life.phase(), Phase::Idle);
    life.world.observer = Observer::Gone;
    life.pass(100);
    assert_eq!((life.phase(), life.ended()), (Phase::Active, None));
    assert_eq!(known(&life), (Status::False, "ObserverGone".to_owned()));
    assert_eq!(life.status().idle_since, None);
    // Another watches from now on. It knows of the last activity that was told, and not of what came after.
    life.pass(1);
    observed(&mut life, 0, 115, 116);
    assert_eq!((life.phase(), known(&life).0), (Phase::Active, Status::True));
    assert_eq!(life.status().disconnect_at, Some(at(175)));
    life.pass(9);
    observed(&mut life, 0, 115, 125);
    assert_eq!((life.phase(), life.status().idle_since), (Phase::Idle, Some(at(115))));
}

#[test]
fn an_operator_that_has_just_begun_takes_nothing_back_and_ends_nobody_before_it_knows_who_lives() {
    let mut life = Life::launched(json!({}), by_gateway());
    life.pass(20);
    observed(&mut life, 0, 0, 20);
    assert!(life.phase() == Phase::Idle && life.holds(Type::EndingSoon));
    let told = life.status();
    life.world.observer = Observer::Unheard;
    life.pass(1);
    assert_eq!(life.status(), told, "what was told holds");
    life.session().status.as_mut().unwrap().activity.as_mut().unwrap().observed_until = Some(at(60));
    life.pass(39);
    assert_eq!(life.ended(), None);
    life.world.observer = Observer::Live;
    life.look();
    assert_eq!(life.ended(), Some((Phase::Disconnected, Reason::IdleTimeout)));
}

#[test]
fn an_observation_that_claims_what_is_still_to_come_or_does_not_say_from_when_on_is_none() {
    let mut life = Life::launched(json!({}), by_gateway());
    observed(&mut life, 0, 0, 100);
    assert_eq!(known(&life), (Status::False, "ObservedInFuture".to_owned()));
    life.pass(50);
    assert_eq!(life.wake, Some(at(95)), "it is looked at again when it no longer does");
    observed(&mut life, 0, 0, 100_000);
    life.pass(50);
    assert_eq!(life.phase(), Phase::Active);
    observed(&mut life, 0, 0, 100);
    assert_eq!(life.phase(), Phase::Idle);
    life.session().status.as_mut().unwrap().activity.as_mut().unwrap().observed_since = None;
    life.look();
    assert_eq!((life.phase(), known(&life).1.as_str()), (Phase::Active, "NeverObserved"));
}

#[test]
fn a_policy_that_trusts_the_status_again_gives_the_whole_notice() {
    let mut life = Life::launched(json!({}), by_gateway());
    life.pass(300);
    life.world.policy = policy(json!({ "idle": { "after": "10s", "warnAfter": "20s", "disconnectAfter": "60s" } }));
    life.look();
    assert_eq!((life.phase(), life.ended()), (Phase::Idle, None));
    assert_eq!((life.holds(Type::EndingSoon), life.status().disconnect_at), (true, Some(at(340))));
    life.pass(40);
    assert_eq!(life.ended(), Some((Phase::Disconnected, Reason::IdleTimeout)));
}
