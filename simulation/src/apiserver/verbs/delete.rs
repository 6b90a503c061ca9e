//! Deleting. Owns preconditions, grace, finalizers and what propagation adds to them; the collector does the rest.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{key, stamp};
use crate::apiserver::State;
use crate::apiserver::call::Call;
use crate::apiserver::meta::{finalizers, is_going, number, outgoing, set, text};
use crate::apiserver::refusal::Refusal;
use crate::apiserver::selector::Selector;
use crate::apiserver::store::Key;

/// The finalizer of a deletion in the foreground.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of a deletion that leaves what was owned.
pub(crate) const ORPHAN: &str = "orphan";

/// What a request asks of a deletion.
struct Wish {
    grace: Option<i64>,
    propagation: String,
    uid: String,
    version: String,
}

impl Wish {
    fn of(call: &Call) -> Self {
        let said = |name: &str| match call.query.get(name) {
            Some(said) => said.clone(),
            None => text(&call.body, &format!("/{name}")).to_owned(),
        };
        let asked = call.query.get("gracePeriodSeconds").and_then(|seconds| seconds.parse().ok());
        Self {
            grace: asked.or_else(|| number(&call.body, "/gracePeriodSeconds")),
            propagation: said("propagationPolicy"),
            uid: text(&call.body, "/preconditions/uid").to_owned(),
            version: text(&call.body, "/preconditions/resourceVersion").to_owned(),
        }
    }
}

/// DELETE of one object.
pub(super) fn one(state: &mut State, call: &Call) -> Result<(u16, Value), Refusal> {
    let key = key(call);
    let Some(stands) = state.store.get(&key).cloned() else {
        return Err(Refusal::not_found(&key.resource, &key.name));
    };
    let wish = Wish::of(call);
    preconditions(call, &stands, &wish)?;
    let (stays, after) = begin(state, call, &key, &stands, &wish);
    if !stays {
        let last = gone(state, call, &key, after);
        let uid = text(&stands, "/metadata/uid");
        let mut details = json!({ "name": call.name, "kind": call.kind.plural, "uid": uid });
        if !call.kind.group.is_empty() {
            details["group"] = json!(call.kind.group);
        }
        let status =
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
        return Ok((200, if call.kind.returns_deleted { outgoing(call, &last) } else { status }));
    }
    Ok((200, outgoing(call, &after)))
}

/// DELETE of all that are selected.
pub(super) fn many(state: &mut State, call: &Call) -> Result<(u16, Value), Refusal> {
    let selector = Selector::of(call)?;
    let wish = Wish::of(call);
    let resource = call.kind.resource();
    let found: Vec<(Key, Arc<Value>)> = state
        .store
        .all(&resource)
        .filter(|(_, object)| selector.selects(object))
        .map(|(key, object)| (key.clone(), Arc::clone(object)))
        .collect();
    for (key, stands) in &found {
        let (stays, after) = begin(state, call, key, stands, &wish);
        if !stays {
            gone(state, call, key, after);
        }
    }
    let items: Vec<Value> = found.iter().map(|(_, object)| outgoing(call, object)).collect();
    let revision = state.store.revision().to_string();
    let kind = format!("{}List", call.kind.kind);
    Ok((
        200,
        json!({"kind": kind, "apiVersion": call.kind.api_version(), "metadata": {"resourceVersion": revision}, "items": items}),
    ))
}

fn preconditions(call: &Call, stands: &Value, wish: &Wish) -> Result<(), Refusal> {
    // Here, unlike elsewhere, the API server names the kind.
    let kind = match call.kind.group.as_str() {
        "" => call.kind.kind.clone(),
        group => format!("{}.{group}", call.kind.kind),
    };
    let uid = text(stands, "/metadata/uid");
    if !wish.uid.is_empty() && wish.uid != uid {
        let words = format!(
            "the UID in the precondition ({}) does not match the UID in record ({uid}). The object might have been deleted and then recreated",
            wish.uid
        );
        return Err(Refusal::conflict(&kind, &call.name, &words));
    }
    let version = text(stands, "/metadata/resourceVersion");
    if !wish.version.is_empty() && wish.version != version {
        let words = format!(
            "the ResourceVersion in the precondition ({}) does not match the ResourceVersion in record ({version}). The object might have been modified",
            wish.version
        );
        return Err(Refusal::conflict(&kind, &call.name, &words));
    }
    Ok(())
}

/// Begins a deletion, or hastens one; whether something holds the object, and the object as it is since.
fn begin(state: &mut State, call: &Call, key: &Key, stands: &Arc<Value>, wish: &Wish) -> (bool, Value) {
    let mut object = Value::clone(stands);
    let graceful = call.kind.kind == "Pod";
    let grace = if graceful { grace_of_pod(stands, wish) } else { 0 };
    if is_going(stands) && graceful {
        let before = number(stands, "/metadata/deletionGracePeriodSeconds").unwrap_or_default();
        // Only a shorter time may be asked for.
        if wish.grace.is_none_or(|asked| asked.max(0) >= before) {
            return (true, object);
        }
    }
    propagate(&mut object, &wish.propagation);
    let held = !finalizers(&object).is_empty() || object.pointer("/spec/finalizers/0").is_some();
    if !graceful && !held {
        return (false, object);
    }
    mark(state, &mut object, grace);
    if call.kind.kind == "Namespace" {
        object["status"]["phase"] = json!("Terminating");
    }
    let stays = held || grace > 0;
    if call.is_dry {
        return (stays, object);
    }
    let after = if object == **stands { Arc::clone(stands) } else { state.store.put(key, object) };
    (stays, Value::clone(&after))
}

/// Takes away what nothing holds; the object as it was last.
fn gone(state: &mut State, call: &Call, key: &Key, last: Value) -> Value {
    if call.is_dry {
        return last;
    }
    state.store.remove(key).unwrap_or(last)
}

/// Takes an object away.
pub(super) fn remove(state: &mut State, key: &Key) {
    state.store.remove(key);
}

/// Writes when and how the object goes.
fn mark(state: &State, object: &mut Value, grace: i64) {
    let was_going = is_going(object);
    if !was_going || number(object, "/metadata/deletionGracePeriodSeconds") != Some(grace) {
        let when = match was_going {
            // Hastened: counted from when the deletion was asked for.
            true => {
                let before = number(object, "/metadata/deletionGracePeriodSeconds").unwrap_or_default();
                let planned = chrono::DateTime::parse_from_rfc3339(text(object, "/metadata/deletionTimestamp"));
                let earlier = chrono::TimeDelta::seconds(grace - before);
                planned.map(|planned| (planned.to_utc() + earlier).to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
            }
            false => Ok((state.clock.now() + chrono::TimeDelta::seconds(grace))
                .to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
        };
        set(object, "deletionTimestamp", when.map_or_else(|_| stamp(state), |when| json!(when)));
        set(object, "deletionGracePeriodSeconds", json!(grace));
    }
    if !was_going && let Some(generation) = number(object, "/metadata/generation") {
        set(object, "generation", json!(generation + 1));
    }
}

/// A pod that runs nowhere, or no more, needs no grace.
fn grace_of_pod(pod: &Value, wish: &Wish) -> i64 {
    let idle = text(pod, "/spec/nodeName").is_empty() || matches!(text(pod, "/status/phase"), "Failed" | "Succeeded");
    let own = number(pod, "/spec/terminationGracePeriodSeconds").unwrap_or(30);
    match wish.grace.unwrap_or(own) {
        _ if idle => 0,
        negative if negative < 0 => 1,
        grace => grace,
    }
}

/// What the wished propagation makes of the finalizers.
fn propagate(object: &mut Value, propagation: &str) {
    let mut names = finalizers(object);
    let before = names.clone();
    let wanted = match propagation {
        "Foreground" => Some(FOREGROUND),
        "Orphan" => Some(ORPHAN),
        "Background" => None,
        // Without a wish, those that stand stay.
        _ => return,
    };
    names.retain(|name| (name != FOREGROUND && name != ORPHAN) || Some(name.as_str()) == wanted);
    if let Some(wanted) = wanted.filter(|wanted| !names.iter().any(|name| name == wanted)) {
        names.push(wanted.to_owned());
    }
    if names != before {
        set(object, "finalizers", if names.is_empty() { Value::Null } else { json!(names) });
    }
}
