//! Get and list. Owns the meaning of resource versions and pages in reads; watches are `watch`'s.

use std::sync::Arc;

use serde_json::{Value, json};

use super::State;
use super::call::Call;
use super::meta::{metadata_only, outgoing};
use super::refusal::{Cause, Refusal};
use super::selector::Selector;
use super::store::Key;

/// One object.
///
/// # Errors
/// When it is not there.
pub(super) fn get(state: &State, call: &Call) -> Result<Value, Refusal> {
    let key = Key::new(&call.kind.resource(), &call.namespace, &call.name);
    let object = state.store.get(&key).ok_or_else(|| Refusal::not_found(&key.resource, &call.name))?;
    Ok(outgoing(call, object))
}

/// Many objects: those that stand, those that stood at an exact revision, or the next page of a list.
///
/// # Errors
/// When the revision is not known any more, or not yet.
pub(super) fn list(state: &State, call: &Call) -> Result<Value, Refusal> {
    let selector = Selector::of(call)?;
    let resource = call.kind.resource();
    let limit = call.query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(0_usize);
    let (revision, after) = begin(state, call, limit)?;
    let stands = state.store.all_at(&resource, revision);
    let follows = |key: &Key| after.as_ref().is_none_or(|after| (&key.namespace, &key.name) > (&after.0, &after.1));
    let mut found = stands.iter().filter(|(key, object)| follows(key) && selector.selects(object)).peekable();
    let mut items: Vec<(&Key, &Arc<Value>)> = Vec::new();
    while let Some(next) = found.next_if(|_| limit == 0 || items.len() < limit) {
        items.push(next);
    }
    let mut metadata = json!({ "resourceVersion": revision.to_string() });
    let left = found.count();
    // Whether there is more is told without looking at what is selected: the next page may be empty.
    let full = limit > 0 && items.len() == limit;
    if let Some((last, _)) = items.last().filter(|_| full) {
        let after = (&last.namespace, &last.name);
        let here = |key: &Key| call.namespace.is_empty() || key.namespace == call.namespace;
        if stands.keys().any(|key| here(key) && (&key.namespace, &key.name) > after) {
            metadata["continue"] = json!(format!("{revision}/{}/{}", last.namespace, last.name));
            if !selector.narrows() {
                metadata["remainingItemCount"] = json!(left);
            }
        }
    }
    let item = |object: &Value| match (call.metadata_only, call.kind.is_custom()) {
        (true, _) => metadata_only(object),
        (false, true) => object.clone(),
        (false, false) => without_type(object),
    };
    let (kind, version) = match call.metadata_only {
        true => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
        false => (format!("{}List", call.kind.kind), call.kind.api_version()),
    };
    let items: Vec<Value> = items.into_iter().map(|(_, object)| item(object)).collect();
    Ok(json!({"kind": kind, "apiVersion": version, "metadata": metadata, "items": items}))
}

/// The revision that a list is of, and after which name it goes on.
fn begin(state: &State, call: &Call, limit: usize) -> Result<(u64, Option<(String, String)>), Refusal> {
    let part = |name: &str| call.query.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let newest = state.store.revision();
    if let Some(token) = part("continue") {
        let read = || {
            let mut parts = token.splitn(3, '/');
            let revision = parts.next()?.parse().ok()?;
            Some((revision, (parts.next()?.to_owned(), parts.next()?.to_owned())))
        };
        let (revision, after) =
            read().ok_or_else(|| Refusal::bad_request("continue key is not valid: it was not given by this server"))?;
        if revision < state.store.compacted() {
            return Err(Refusal::expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.",
            ));
        }
        return Ok((revision, Some(after)));
    }
    let asked = part("resourceVersion").map(revision_of).transpose()?;
    match (asked, part("resourceVersionMatch")) {
        (None, Some(_)) => Err(bad_match(call, "resourceVersionMatch is forbidden unless resourceVersion is provided")),
        (Some(0), Some("Exact")) => {
            Err(bad_match(call, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""))
        }
        (None | Some(0), _) => Ok((newest, None)),
        (Some(revision), _) if revision > newest => Err(too_large(revision, newest)),
        (Some(revision), Some("Exact")) => exact(state, revision),
        (Some(revision), None) if limit > 0 => exact(state, revision),
        (Some(_), None | Some("NotOlderThan")) => Ok((newest, None)),
        (Some(_), Some(other)) => Err(bad_match(call, &format!("Unsupported value: {other:?}"))),
    }
}

fn exact(state: &State, revision: u64) -> Result<(u64, Option<(String, String)>), Refusal> {
    match revision < state.store.compacted() {
        true => Err(Refusal::expired("The resourceVersion for the provided list is too old.")),
        false => Ok((revision, None)),
    }
}

/// A resource version as a number.
///
/// # Errors
/// When it is none.
pub(super) fn revision_of(text: &str) -> Result<u64, Refusal> {
    let invalid = |_| Refusal::bad_request(format!("resourceVersion: Invalid value: {text:?}: it is not a number"));
    text.parse().map_err(invalid)
}

/// The refusal of a resource version that the server has not reached.
pub(super) fn too_large(revision: u64, newest: u64) -> Refusal {
    let message = format!("Too large resource version: {revision}, current: {newest}");
    let mut refusal = Refusal::new(504, "Timeout", format!("Timeout: {message}"));
    refusal.detail("causes", json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]));
    refusal.retry_after(1)
}

fn bad_match(call: &Call, words: &str) -> Refusal {
    let cause = Cause {
        reason: "FieldValueForbidden",
        field: "resourceVersionMatch".to_owned(),
        message: format!("Forbidden: {words}"),
    };
    Refusal::invalid("ListOptions", "meta.k8s.io", &call.name, &[cause])
}

/// Items of built-in lists do not say what they are.
fn without_type(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(object) = object.as_object_mut() {
        object.remove("kind");
        object.remove("apiVersion");
    }
    object
}
