//! Replacing, patching and binding. Owns what an update may change and when it conflicts.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{create, delete, key, prepare, stamp};
use crate::apiserver::State;
use crate::apiserver::call::Call;
use crate::apiserver::meta::{finalizers, is_going, number, outgoing, set, set_top, text};
use crate::apiserver::path::{JSON_PATCH, MERGE_PATCH};
use crate::apiserver::refusal::{Cause, Refusal};
use crate::apiserver::validate;

const CHANGED: &str = "the object has been modified; please apply your changes to the latest version and try again";

/// PUT.
pub(super) fn replace(state: &mut State, call: &Call) -> Result<(u16, Value), Refusal> {
    let named = text(&call.body, "/metadata/name");
    if named != call.name {
        let words = match named.is_empty() {
            true => "the name of the object must be provided".to_owned(),
            false => format!("the name of the object ({named}) does not match the name on the URL ({})", call.name),
        };
        return Err(Refusal::bad_request(words));
    }
    let wanted = validate::decode(call, &call.body)?.object;
    let Some(stands) = state.store.get(&key(call)).cloned() else {
        if !call.kind.create_on_update || !call.subresource.is_empty() {
            return Err(Refusal::not_found(&call.kind.resource(), &call.name));
        }
        other_uid(call, text(&call.body, "/metadata/uid"), "")?;
        let mut body = Value::clone(&call.body);
        set(&mut body, "resourceVersion", Value::Null);
        return create(state, call, &body).map(|object| (201, object));
    };
    let uid = text(&call.body, "/metadata/uid");
    other_uid(call, uid, text(&stands, "/metadata/uid"))?;
    store(state, call, &stands, wanted)
}

/// Refuses a uid that is not the object's.
fn other_uid(call: &Call, wanted: &str, stands: &str) -> Result<(), Refusal> {
    if wanted.is_empty() || wanted == stands {
        return Ok(());
    }
    let words = format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {stands}");
    Err(Refusal::conflict(&call.kind.resource(), &call.name, &words))
}

/// PATCH.
pub(super) fn patch(state: &mut State, call: &Call) -> Result<(u16, Value), Refusal> {
    let Some(stands) = state.store.get(&key(call)).cloned() else {
        return Err(Refusal::not_found(&call.kind.resource(), &call.name));
    };
    let mut wanted = Value::clone(&stands);
    match call.content_type.as_str() {
        MERGE_PATCH => json_patch::merge(&mut wanted, &call.body),
        JSON_PATCH => {
            let patch: json_patch::Patch = serde_json::from_value(Value::clone(&call.body))
                .map_err(|error| Refusal::bad_request(error.to_string()))?;
            json_patch::patch(&mut wanted, &patch).map_err(|error| {
                Refusal::new(
                    422,
                    "Invalid",
                    format!("the server rejected our request due to an error in our request: {error}"),
                )
            })?;
        }
        other => {
            let words = format!(
                "the body of the request was in an unknown format - accepted media types include: {JSON_PATCH}, {MERGE_PATCH}; not {other}"
            );
            return Err(Refusal::new(415, "UnsupportedMediaType", words));
        }
    }
    if text(&wanted, "/metadata/name") != call.name {
        let named = text(&wanted, "/metadata/name");
        let words = format!("the name of the object ({named}) does not match the name on the URL ({})", call.name);
        return Err(Refusal::bad_request(words));
    }
    let wanted = validate::decode(call, &wanted).map_err(unreadable_patch)?.object;
    store(state, call, &stands, wanted)
}

/// What a patch made and cannot be read is told of as the patch's fault.
fn unreadable_patch(refusal: Refusal) -> Refusal {
    let message = format!("Invalid value: {}", refusal.message);
    let cause = Cause { reason: "FieldValueInvalid", field: "patch".to_owned(), message };
    let mut refusal = Refusal::invalid("", "", "", &[cause]);
    if let Some(details) = refusal.details.as_object_mut() {
        details.remove("kind");
    }
    refusal
}

/// Stores what is wanted in place of what stands, as far as the call may change it.
fn store(state: &mut State, call: &Call, stands: &Arc<Value>, wanted: Value) -> Result<(u16, Value), Refusal> {
    let resource = call.kind.resource();
    if text(&wanted, "/metadata/namespace") != call.namespace && !text(&wanted, "/metadata/namespace").is_empty() {
        return Err(Refusal::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    match text(&wanted, "/metadata/resourceVersion") {
        "" if call.kind.unconditional => {}
        "" => {
            let cause = Cause {
                reason: "FieldValueInvalid",
                field: "metadata.resourceVersion".to_owned(),
                message: "Invalid value: 0: must be specified for an update".to_owned(),
            };
            return Err(Refusal::invalid(&call.kind.plural, &call.kind.group, &call.name, &[cause]));
        }
        version if version == text(stands, "/metadata/resourceVersion") => {}
        _ => return Err(Refusal::conflict(&resource, &call.name, CHANGED)),
    }
    let mut object = allowed(call, stands, wanted);
    let sent = Value::clone(&object["metadata"]);
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "namespace",
        "resourceVersion",
        "generateName",
    ] {
        set(&mut object, field, stands["metadata"][field].clone());
    }
    set(&mut object, "managedFields", Value::Null);
    validate::updated(call, stands, &object, &sent)?;
    if call.kind.counts && differs(call, stands, &object) {
        let generation = number(stands, "/metadata/generation").unwrap_or_default();
        set(&mut object, "generation", json!(generation + 1));
    }
    // Stored in another form than it was made in, a claim, or an object without the status that its definition gives to
    // whoever reads it: its first update is a write, whatever it says.
    let revision = text(stands, "/metadata/resourceVersion").parse().unwrap_or_default();
    let schema = call.kind.schema.as_ref();
    let gains_status = schema.is_some_and(|schema| schema["properties"]["status"].get("default").is_some());
    let is_rewritten = (call.kind.kind == "PersistentVolumeClaim" || gains_status) && state.store.made(revision);
    if object == **stands && !is_rewritten {
        return Ok((200, outgoing(call, stands)));
    }
    if call.is_dry {
        return Ok((200, outgoing(call, &object)));
    }
    // What only a finalizer held goes with its last one; the watch then tells of it as it stood before.
    let done = is_going(&object)
        && finalizers(&object).is_empty()
        && number(&object, "/metadata/deletionGracePeriodSeconds").is_none_or(|grace| grace == 0)
        && object.pointer("/spec/finalizers/0").is_none();
    if done {
        delete::remove(state, &key(call));
        return Ok((200, outgoing(call, &object)));
    }
    let stored = state.store.put(&key(call), object);
    Ok((200, outgoing(call, &stored)))
}

/// Of what is wanted, that which a request on this subresource may change; the rest is as it stands.
fn allowed(call: &Call, stands: &Value, wanted: Value) -> Value {
    let take = |fields: &[&str], from: &Value, into: &Value| {
        let mut object = into.clone();
        for field in fields {
            set_top(&mut object, field, from[*field].clone());
        }
        object
    };
    match (call.subresource.as_str(), call.kind.has_status) {
        // The kubelet may label through the status; owners stay.
        ("status", _) if call.kind.kind == "Pod" => {
            let mut object = take(&["spec"], stands, &wanted);
            set(&mut object, "ownerReferences", stands["metadata"]["ownerReferences"].clone());
            if let Some(class) = stands.pointer("/status/qosClass") {
                object["status"]["qosClass"] = class.clone();
            }
            object
        }
        ("status", _) if call.kind.kind == "PersistentVolumeClaim" => {
            let mut object = take(&["spec"], stands, &wanted);
            if text(&object, "/status/phase").is_empty() {
                object["status"]["phase"] = json!("Pending");
            }
            object
        }
        ("status", _) => take(&["status"], &wanted, stands),
        ("finalize", _) => {
            let mut object = stands.clone();
            object["spec"]["finalizers"] = wanted["spec"]["finalizers"].clone();
            object
        }
        (_, true) => take(&["status"], stands, &wanted),
        (_, false) => wanted,
    }
}

/// Whether it differs in what the generation counts.
fn differs(call: &Call, before: &Value, after: &Value) -> bool {
    let counted = |object: &Value| {
        let mut object = object.clone();
        set_top(&mut object, "metadata", Value::Null);
        if call.kind.has_status {
            set_top(&mut object, "status", Value::Null);
        }
        object
    };
    counted(before) != counted(after)
}

/// POST to `binding`: the scheduler's word on the node.
pub(super) fn bind(state: &mut State, call: &Call) -> Result<(u16, Value), Refusal> {
    let key = key(call);
    let Some(stands) = state.store.get(&key).cloned() else {
        return Err(Refusal::not_found(&key.resource, &call.name));
    };
    let conflict = |words: &str| Err(Refusal::conflict("pods/binding", &call.name, words));
    if is_going(&stands) {
        return conflict(&format!("pod {} is being deleted, cannot be assigned to a host", call.name));
    }
    let node = text(&stands, "/spec/nodeName");
    if !node.is_empty() {
        return conflict(&format!("pod {} is already assigned to node {node:?}", call.name));
    }
    let mut object = Value::clone(&stands);
    object["spec"]["nodeName"] = call.body["target"]["name"].clone();
    let now = stamp(state);
    prepare::condition(
        &mut object,
        &json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now}),
    );
    if !call.is_dry {
        state.store.put(&key, object);
    }
    Ok((201, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})))
}
