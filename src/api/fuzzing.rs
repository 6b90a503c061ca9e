//! Bodies of the fuzz targets about the words of our resources: durations, times, conditions, and objects as a whole.
//! Owns what must hold of them whatever was written; where the bytes come from is `fuzz/`'s.

use std::fmt::Debug;

use crate::api::pod::Pod;
use chrono::{DateTime, Datelike, SubsecRound, TimeDelta, Timelike};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::core::DeserializeGuard;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::condition::{self, Claim, Condition, Status};
use super::duration::{self, Duration, MAX_HOURS};
use super::time::{Instant, ceil_second, display, floor_second, from_wire, to_wire_micro};
use super::{
    Session, SessionPolicy, SessionPolicySpec, SessionSpec, SessionStatus, Workspace, WorkspaceSpec, WorkspaceStatus,
};

/// What is read of `value` as a `K` is written and read alike from then on; nothing where it cannot be read.
///
/// # Panics
/// When it is not.
pub fn settles<K: DeserializeOwned + Serialize + PartialEq + Debug>(value: &Value) -> Option<K> {
    let read = serde_json::from_value::<K>(value.clone()).ok()?;
    let written = serde_json::to_value(&read).ok();
    assert!(written.is_some(), "what was read cannot be written: {read:?}");
    let again = written.clone().map(serde_json::from_value::<K>);
    assert!(matches!(&again, Some(Ok(again)) if *again == read), "{read:?} came back as {again:?}");
    let again = again.and_then(Result::ok).and_then(|again| serde_json::to_value(again).ok());
    assert_eq!(again, written, "the second writing is not the first");
    Some(read)
}

/// The same for an object with Kubernetes' own times, which read more digits than they write: from the first writing on
/// it is written alike.
///
/// # Panics
/// When it is not.
pub fn is_written_alike<K: DeserializeOwned + Serialize + Debug>(value: &Value) -> Option<K> {
    let read = serde_json::from_value::<K>(value.clone()).ok()?;
    let written = serde_json::to_value(&read).ok();
    let again = written.clone().and_then(|written| serde_json::from_value::<K>(written).ok());
    assert!(again.is_some(), "what was read cannot be written and read: {read:?}");
    assert_eq!(
        again.and_then(|again| serde_json::to_value(again).ok()),
        written,
        "the second writing is not the first"
    );
    Some(read)
}

/// A text is a duration by our reading at least where the schema takes it, means the sum of its parts, and comes back
/// from how we write it.
///
/// # Panics
/// When one of these does not hold.
pub fn durations(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let read = Duration::new(text).delta();
    assert_eq!(read, Duration::new(text).delta());
    let sum = sum(text);
    assert!(read.is_ok() || !is_admitted(text, sum), "the schema takes {text:?}, and it is refused: {read:?}");
    match read {
        Ok(delta) => {
            assert_eq!(sum, Some(i128::from(delta.num_seconds())), "{text:?}");
            assert!(delta > TimeDelta::zero() && delta <= TimeDelta::hours(MAX_HOURS), "{text:?} is {delta}");
            let written = Duration::from(delta);
            assert_eq!(written.delta().as_ref(), Ok(&delta), "{written:?}");
            assert!(settles::<Duration>(&json!(text)).is_some());
        }
        Err(error) => assert!(error.to_string().contains("write a positive number"), "{error}"),
    }
    // Whatever length of time is written, also one that nobody could have written here, can be told from its text.
    let head = data.first_chunk::<8>().map(|bytes| i64::from_le_bytes(*bytes)).unwrap_or_default();
    if let Some(delta) = TimeDelta::try_seconds(head) {
        assert_eq!(self::sum(&duration::write(delta)), Some(i128::from(head.max(0))));
    }
}

/// The rule of the schema, read apart from the parser.
fn is_admitted(text: &str, sum: Option<i128>) -> bool {
    let parts: Vec<&str> = text.split_inclusive(['h', 'm', 's']).collect();
    let fits = |part: &&str| (2..=7).contains(&part.len());
    let within = |sum: i128| sum > 0 && sum <= i128::from(MAX_HOURS) * 3600;
    (1..=3).contains(&parts.len()) && parts.iter().all(fits) && sum.is_some_and(within)
}

/// The seconds of numbers with units, however long.
fn sum(text: &str) -> Option<i128> {
    let seconds = |part: &str| {
        let unit = match part.chars().last()? {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        let digits = part.get(..part.len() - 1).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse::<i128>().ok()?.checked_mul(unit)
    };
    text.split_inclusive(['h', 'm', 's']).map(seconds).try_fold(0i128, |sum, part| sum.checked_add(part?))
}

/// A time of the wire is the same instant to Kubernetes' types and to ours, and rounding keeps to whole seconds.
///
/// # Panics
/// When it is not.
pub fn times(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let ours = serde_json::from_value::<Instant>(json!(text)).ok().filter(is_admitted_time);
    let theirs = serde_json::from_value::<Time>(json!(text)).ok();
    if let Some(theirs) = &theirs {
        let read = from_wire(theirs);
        assert!(ours.is_none_or(|ours| ours == read), "{text:?} is {ours:?} and {read}");
        if is_admitted_time(&read) {
            holds_of(read);
        }
    }
    if let Some(ours) = ours {
        holds_of(ours);
        assert_eq!(settles::<Instant>(&json!(text)), Some(ours));
    }
}

/// What the API server takes as a time: chrono reads more, other years and leap seconds.
fn is_admitted_time(time: &Instant) -> bool {
    (1..=9998).contains(&time.year()) && time.nanosecond() < 1_000_000_000
}

fn holds_of(time: Instant) {
    let (floor, ceil) = (floor_second(time), ceil_second(time));
    assert_eq!((floor.nanosecond(), ceil.nanosecond()), (0, 0), "{time:?} is rounded to {floor:?} and {ceil:?}");
    assert!(floor <= time && time <= ceil && ceil - floor <= TimeDelta::seconds(1), "{floor} {time} {ceil}");
    assert_eq!((floor_second(floor), ceil_second(floor)), (floor, floor));
    assert_eq!(DateTime::parse_from_rfc3339(&display(floor)).ok(), Some(floor.fixed_offset()));
    let back = from_wire(&Time(to_wire_micro(time).0));
    assert_eq!(back, time.trunc_subsecs(6), "what we write for a Kubernetes object is what we mean");
}

/// A set of conditions keeps its order and its transition times: these move with the status, and only so.
///
/// # Panics
/// When it does not.
pub fn conditions(data: &[u8]) {
    let Ok([before, after]) = serde_json::from_slice::<[Value; 2]>(data) else { return };
    let (Some(before), Some(after)) = (settles::<Vec<Condition>>(&before), settles::<Vec<Condition>>(&after)) else {
        return;
    };
    let mut claims: Vec<Claim> = Vec::new();
    for condition in &after {
        if claims.iter().all(|claim| claim.type_ != condition.type_) {
            claims.push(Claim::new(condition.type_, condition.status, &condition.reason, &condition.message));
        }
    }
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default();
    let merged = condition::merge(&before, claims.clone(), Some(1), now);
    assert_eq!(merged.len(), claims.len());
    assert!(merged.is_sorted_by(|one, next| one.type_ < next.type_), "{merged:?}");
    for condition in &merged {
        let stood = condition::find(&before, condition.type_);
        let since = stood.filter(|stood| stood.status == condition.status).map_or(now, |it| it.last_transition_time);
        assert_eq!(condition.last_transition_time, since, "{condition:?} after {stood:?}");
        assert_eq!(condition::is_true(&merged, condition.type_), condition.status == Status::True);
        assert_eq!(condition.type_.as_str(), json!(condition.type_), "the word on the wire is the one that is said");
    }
    let later = now + TimeDelta::seconds(9);
    claims.reverse();
    assert_eq!(condition::merge(&merged, claims, Some(1), later), merged, "said again, nothing has changed");
}

/// An object is read as one of its kind, or refused with its name known; what was read is written and read alike.
///
/// # Panics
/// When it is not.
pub fn objects(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    // What is ours in them comes back whole.
    settles::<SessionSpec>(&value["spec"]);
    settles::<SessionStatus>(&value["status"]);
    settles::<WorkspaceSpec>(&value["spec"]);
    settles::<WorkspaceStatus>(&value["status"]);
    settles::<SessionPolicySpec>(&value["spec"]);
    object::<Session>(&value);
    object::<Workspace>(&value);
    object::<SessionPolicy>(&value);
    object::<Pod>(&value);
    object::<Lease>(&value);
}

fn object<K>(value: &Value)
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Serialize + PartialEq + Debug,
{
    let read = is_written_alike::<K>(value);
    // A list with one such object among others is read all the same, as long as its metadata can be.
    match serde_json::from_value::<DeserializeGuard<K>>(value.clone()) {
        Ok(DeserializeGuard(Ok(guarded))) => assert_eq!(Some(guarded), read),
        Ok(DeserializeGuard(Err(refused))) => {
            assert_eq!(read, None, "{}", refused.error);
            assert_eq!(refused.metadata.name.as_deref(), value["metadata"]["name"].as_str());
            assert_eq!(refused.metadata.uid.as_deref(), value["metadata"]["uid"].as_str());
        }
        Err(error) => assert_eq!(read, None, "{error}"),
    }
}
