//! Bodies of the fuzz targets that need an API server's word: that what the definitions of our kinds admit can be read,
//! and that what the operator writes is admitted. Owns the making of objects from a schema; the check of schemas is
//! `apiserver::validate`'s.

use std::sync::{Arc, OnceLock};

use arbitrary::{Error, Result, Unstructured};
use berth::api::duration::MAX_HOURS;
use berth::api::time::Instant;
use berth::api::{Session, SessionPolicy, Workspace};
use berth::cluster::apply;
use berth::plan::admission::Rivals;
use berth::plan::child::Child;
use berth::plan::network::{self, Fence, Neighbourhood};
use berth::plan::policy::{PolicySource, Rules};
use berth::plan::{session, workspace};
use chrono::{DateTime, TimeDelta};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::apiserver::kinds::Kinds;
use crate::apiserver::validate;

/// A body, by the name of its target.
pub type Target = (&'static str, fn(&[u8]));

/// The targets that are here, by the name under which `fuzz/` has their entry, seeds and corpus.
pub const TARGETS: [Target; 1] = [("schemas", schemas)];

/// Texts that somebody may mean something by.
///
/// Times that leave the years of four digits, once they are read as UTC or a deadline is counted from them, are left out:
/// the definition admits them in fields that only the operator is to write, and refuses them once they are sent again, as
/// the time of a condition is.
const TEXTS: [&str; 26] = [
    "box",
    "ana@example.org",
    "10s",
    "1h30m",
    "8760h",
    "8761h",
    "999999h",
    "0s",
    "000001s",
    "1m1m1m",
    "30d",
    "2026-01-31T12:00:00Z",
    "2999-12-31T23:59:59.999999999+23:59",
    "2026-02-30T12:00:00Z",
    "2026-01-31T12:00:00+24:00",
    "2000-01-01T00:00:00Z",
    "9000-12-31T23:59:59Z",
    "2262-04-12T00:00:00-12:00",
    "0001-01-02T00:00:00+01:00",
    "2026-12-31T23:59:60Z",
    "2026-01-31t12:00:00z",
    "192.0.2.1",
    "fd00::1",
    "/lab",
    "",
    "Żółć 非常に長い",
];

/// What the definition of a kind admits is read by our types; what these write is admitted, and so is every status that
/// the planners write about it.
///
/// # Panics
/// When it is not.
pub fn schemas(data: &[u8]) {
    // Bytes that are no objects say nothing.
    let _ = admitted(&mut Unstructured::new(data));
}

fn admitted(bytes: &mut Unstructured<'_>) -> Result<()> {
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap_or_default();
    let policy = taken::<SessionPolicy>(bytes, "sessionpolicies.berth.dev", "SessionPolicy", "p")?;
    let workspace = taken::<Workspace>(bytes, "workspaces.berth.dev", "Workspace", "box")?;
    let policy = match policy {
        Some((policy, _)) => {
            sound(&policy);
            PolicySource::Found("p".to_owned(), Box::new(policy.spec))
        }
        None => PolicySource::BuiltIn,
    };
    if let Some((workspace, stands)) = &workspace {
        judged(workspace.clone(), stands, policy.clone(), now);
    }
    let workspace = workspace.map(|(workspace, _)| workspace);
    let Some((session, stands)) = taken::<Session>(bytes, "sessions.berth.dev", "Session", "mine")? else {
        return Ok(());
    };
    let wish = session.spec.idle.as_ref().and_then(|idle| idle.disconnect_after.as_ref());
    assert!(wish.is_none_or(|wish| wish.delta().is_ok()), "{wish:?} is admitted and cannot be read");
    lived(bytes, (session, stands), workspace, policy, now)
}

/// An object of this kind as it was taken in, if it was: as we read it, and as it stands.
fn taken<K: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(
    bytes: &mut Unstructured<'_>,
    resource: &str,
    kind: &str,
    name: &str,
) -> Result<Option<(K, Value)>> {
    let schema = schema(resource)?;
    let mut object = json!({"apiVersion": "berth.dev/v1alpha1", "kind": kind});
    for part in ["spec", "status"] {
        let below = &schema["properties"][part];
        if below.is_object() && (part == "spec" || bytes.ratio(1u8, 2u8)?) {
            let made = value(bytes, below, 0)?;
            // A part that is null has no defaults, and one that is not there has: we write the second for the first.
            if !made.is_null() {
                object[part] = made;
            }
        }
    }
    let created = json!(DateTime::from_timestamp(1_799_999_990, 0).unwrap_or_default());
    object["metadata"] =
        json!({"name": name, "namespace": "n", "uid": kind, "generation": 1, "creationTimestamp": created});
    let Ok(object) = validate::admitted(schema, object, None) else { return Ok(None) };
    let read = serde_json::from_value::<K>(object.clone());
    assert!(read.is_ok(), "the definition admits what cannot be read: {:?}: {object}", read.err());
    let read = read.map_err(|_| Error::IncorrectFormat)?;
    let written = json!(read);
    // As a new object: who changes one sends what differs, and not the whole.
    let again = validate::admitted(schema, written.clone(), None);
    assert!(again.is_ok(), "what was admitted and read is refused when it is written: {again:?}: {written}");
    let again = again.ok().and_then(|again| serde_json::from_value::<K>(again).ok());
    assert_eq!(again.as_ref(), Some(&read), "it came back as another");
    Ok(Some((read, object)))
}

fn schema(resource: &str) -> Result<&'static Value> {
    static KINDS: OnceLock<Kinds> = OnceLock::new();
    let kind = KINDS.get_or_init(Kinds::default).of(resource);
    kind.and_then(|kind| kind.schema.as_ref()).ok_or(Error::IncorrectFormat)
}

/// A value that this schema may admit.
fn value(bytes: &mut Unstructured<'_>, schema: &Value, depth: usize) -> Result<Value> {
    if bytes.ratio(1u8, 64u8)? {
        return Ok(bytes.choose(&[Value::Null, json!(-1), json!([]), json!({}), json!("x"), json!(true)])?.clone());
    }
    if let Some(choices) = schema["enum"].as_array() {
        return Ok(bytes.choose(choices)?.clone());
    }
    Ok(match schema["type"].as_str().unwrap_or_default() {
        "string" => match bytes.int_in_range(0u8..=7)? {
            0 => json!(bytes.arbitrary::<String>()?),
            1 => json!(bytes.choose(&TEXTS)?.repeat(bytes.int_in_range(1usize..=64)?)),
            _ => json!(bytes.choose(&TEXTS)?),
        },
        "integer" => match bytes.int_in_range(0u8..=7)? {
            0 => json!(bytes.arbitrary::<i64>()?),
            1 => json!(bytes.choose(&[i64::MAX, i64::MIN, i64::from(i32::MAX) + 1, 65_536, 0, -1])?),
            _ => json!(bytes.int_in_range(1i32..=9000)?),
        },
        "boolean" => json!(bytes.arbitrary::<bool>()?),
        "array" => {
            let count = bytes.int_in_range(0u8..=3)?;
            Value::Array((0..count).map(|_| value(bytes, &schema["items"], depth + 1)).collect::<Result<_>>()?)
        }
        _ => Value::Object(fields(bytes, schema, depth)?),
    })
}

fn fields(bytes: &mut Unstructured<'_>, schema: &Value, depth: usize) -> Result<Map<String, Value>> {
    let mut fields = Map::new();
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        let container = json!({"name": "main", "image": "box"});
        let spec =
            [json!({"containers": [container]}), json!({"containers": [7]}), json!({}), json!({"hostPID": true})];
        fields.extend(bytes.choose(&spec)?.as_object().cloned().unwrap_or_default());
    }
    if schema["additionalProperties"].is_object() {
        for key in ["a", "example.org/b", "berth.dev/c"] {
            if bytes.ratio(1u8, 3u8)? {
                fields.insert(key.to_owned(), value(bytes, &schema["additionalProperties"], depth + 1)?);
            }
        }
    }
    let required = schema["required"].as_array();
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let is_required = required.is_some_and(|required| required.iter().any(|it| it == name));
        let odds = if is_required { 63u8 } else { 24 };
        if bytes.ratio(odds, 64u8)? {
            fields.insert(name.clone(), value(bytes, below, depth + 1)?);
        }
    }
    Ok(fields)
}

/// A policy that was admitted has rules, in an order in which each can be kept.
fn sound(policy: &SessionPolicy) {
    let rules = Rules::of("p", &policy.spec);
    assert!(rules.is_ok(), "{:?} is admitted and cannot be read: {rules:?}", policy.spec);
    let Ok(rules) = rules else { return };
    // At the very longest there is no room for a notice.
    let longest = TimeDelta::hours(MAX_HOURS);
    let leaves_room = |notice: TimeDelta, end: TimeDelta| notice < end || end == longest;
    assert!(rules.idle_after <= rules.warn_after, "{rules:?}");
    assert!(leaves_room(rules.warn_after, rules.disconnect_after), "{rules:?}");
    assert!(leaves_room(rules.warn_before, rules.max_duration), "{rules:?}");
    let wished = rules.clone().with_wish(Some(TimeDelta::seconds(3)));
    assert!(wished.idle_after <= wished.warn_after && wished.warn_after < wished.disconnect_after, "{wished:?}");
}

/// What is written about a Workspace is admitted.
fn judged(workspace: Workspace, stands: &Value, policy: PolicySource, now: Instant) {
    let wall = network::policy(&workspace, &Neighbourhood::default());
    assert!(
        wall.as_ref().is_none_or(Result::is_ok),
        "{:?} is admitted, and there is no wall of it: {wall:?}",
        workspace.spec
    );
    let trial = workspace::Trial::Accepted;
    let world = workspace::World {
        workspace: Arc::new(workspace),
        holding: 1,
        waiting: 0,
        last_end: None,
        policy,
        trial,
        hardening: Arc::default(),
        fence: Fence::Stands,
        budget: Child::Stands,
        secret: None,
        hash: None,
        pool: None,
    };
    for step in workspace::decide(&world, now).steps {
        if let workspace::Step::Publish(status) = step {
            written("workspaces.berth.dev", stands, json!(status));
        }
    }
}

/// What is written about a Session while it lives is admitted, and read again.
fn lived(
    bytes: &mut Unstructured<'_>,
    (session, mut stands): (Session, Value),
    workspace: Option<Workspace>,
    policy: PolicySource,
    mut now: Instant,
) -> Result<()> {
    let mut world = session::World {
        session: Arc::new(session),
        workspace: workspace.map(Arc::new),
        workspace_unread: None,
        policy,
        rivals: Rivals::default(),
        pods: Vec::new(),
        warm: None,
        instance_gone: false,
        volume_holder: None,
        attempt: session::Attempt::None,
        unguarded: None,
        hardening: Arc::default(),
        fence: Fence::Stands,
        secret: None,
        draining: session::Draining::No,
        observer: berth::plan::activity::Observer::Live,
        own: Vec::new(),
        pruned_by: session::Pruner::Operator,
    };
    for _ in 0..6 {
        for step in session::decide(&world, now).steps {
            if let session::Step::Publish(status) = step {
                let before = world.session.status.clone().unwrap_or_default();
                let changed = apply::changed_fields(&before, &status);
                assert!(changed.is_ok(), "{status:?} cannot be written: {changed:?}");
                let Some(object) = written("sessions.berth.dev", &stands, json!(changed.unwrap_or_default())) else {
                    return Ok(());
                };
                let read = serde_json::from_value::<Session>(object.clone());
                assert!(read.is_ok(), "what the operator wrote cannot be read: {read:?}: {object}");
                world.session = Arc::new(read.map_err(|_| Error::IncorrectFormat)?);
                stands = object;
            }
        }
        if bytes.is_empty() {
            break;
        }
        now += TimeDelta::seconds(bytes.int_in_range(0i64..=40_000)?);
        world.attempt = match bytes.arbitrary()? {
            true => session::Attempt::Reached(Box::default()),
            false => session::Attempt::None,
        };
    }
    Ok(())
}

/// What stands once this part of a status was merged into it, as the operator sends it.
fn written(resource: &str, stands: &Value, status: Value) -> Option<Value> {
    let mut wanted = stands.clone();
    json_patch::merge(&mut wanted, &json!({"status": status}));
    let answer = validate::admitted(schema(resource).ok()?, wanted.clone(), Some(stands));
    assert!(answer.is_ok(), "the API server refuses what the operator writes: {answer:?}: {wanted}");
    answer.ok()
}

#[cfg(test)]
#[path = "../../fuzz/kept.rs"]
mod kept;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_kept_input_still_passes() {
        let failed = kept::failing(&TARGETS, Path::new("../fuzz"));
        assert!(failed.is_empty(), "{failed:#?}");
    }
}
