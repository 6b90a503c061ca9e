//! What becomes of who has one session too many, told as sentences.

use serde_json::json;

use super::super::*;
use super::life::{Life, at, policy};
use crate::api::Reason;

fn limited(on_exceeded: &str) -> PolicySource {
    policy(json!({ "limits": { "sessionsPerUser": 1, "onExceeded": on_exceeded } }))
}

/// A session of the same user, which stands so.
fn own(uid: &str, standing: limit::Standing) -> Own {
    Own { created: at(0), uid: uid.to_owned(), standing }
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
