//! What an object must look like. Owns decoding and the order of checks; our kinds' schemas are in `schema`, the rules
//! of built-in kinds in `builtin`.

mod builtin;
mod cel;
mod defaults;
mod pattern;
mod schema;

use serde_json::{Map, Value, json};

use super::call::Call;
use super::meta::{edit, finalizers, is_going, set_top, text};
use super::refusal::{Cause, Refusal};

/// An object that was understood.
pub(super) struct Accepted {
    /// It, without what its kind does not know, and with defaults.
    pub(super) object: Value,
}

/// Completes an object of ours by the defaults of its definition, as the API server does whenever it reads one.
pub(super) fn complete(call: &Call, object: &mut Value) {
    if let Some(schema) = &call.kind.schema {
        schema::complete(schema, object);
    }
}

/// Understands what was sent.
///
/// # Errors
/// When it is not an object of the kind.
pub(super) fn decode(call: &Call, body: &Value) -> Result<Accepted, Refusal> {
    let kind = &call.kind;
    if !body.is_object() {
        return Err(Refusal::bad_request("the object provided is unrecognized: it is not an object"));
    }
    let is = |field: &str, wanted: &str| {
        let said = body[field].as_str().unwrap_or_default();
        said == wanted || (said.is_empty() && !kind.is_custom())
    };
    if !is("kind", &kind.kind) || !is("apiVersion", &kind.api_version()) {
        let words = format!(
            "the object provided is unrecognized (must be of type {}): its kind is {} {}",
            kind.kind, body["apiVersion"], body["kind"]
        );
        return Err(Refusal::bad_request(words));
    }
    let mut object = match kind.decode {
        Some(decode) => decode(body).map_err(|error| {
            Refusal::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: {error}",
                kind.kind, kind.version, kind.kind
            ))
        })?,
        None => body.clone(),
    };
    metadata(call, &mut object)?;
    set_top(&mut object, "kind", json!(kind.kind));
    set_top(&mut object, "apiVersion", json!(kind.api_version()));
    defaults::complete(kind, &mut object);
    complete(call, &mut object);
    if call.query.get("fieldValidation").is_some_and(|how| how == "Strict") {
        builtin::strict(body, &object)?;
    }
    Ok(Accepted { object })
}

/// Metadata has the same shape in all kinds.
fn metadata(call: &Call, object: &mut Value) -> Result<(), Refusal> {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    let unreadable = |error: serde_json::Error| {
        let kind = &call.kind;
        Refusal::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {error}",
            kind.kind, kind.version, kind.kind
        ))
    };
    let read: ObjectMeta = match object.get("metadata") {
        None | Some(Value::Null) => ObjectMeta::default(),
        Some(metadata) => serde_json::from_value(metadata.clone()).map_err(unreadable)?,
    };
    object["metadata"] = serde_json::to_value(read).map_err(unreadable)?;
    // What is empty is not written.
    let is_empty =
        |value: &Value| value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty);
    edit(&mut object["metadata"], |metadata| metadata.retain(|_, value| !is_empty(value)));
    Ok(())
}

/// An object of a kind of ours as its definition takes it in, in place of the one that stands.
///
/// # Errors
/// When it may not be: with all causes.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn admitted(schema: &Value, mut object: Value, stands: Option<&Value>) -> Result<Value, Vec<Cause>> {
    schema::complete(schema, &mut object);
    let causes = schema::check(schema, &object, stands);
    if causes.is_empty() { Ok(object) } else { Err(causes) }
}

/// Checks a new object.
///
/// # Errors
/// When it may not be: with all causes.
pub(super) fn created(call: &Call, object: &Value) -> Result<(), Refusal> {
    let mut causes = builtin::metadata(call, object);
    match &call.kind.schema {
        Some(schema) => causes.extend(schema::check(schema, object, None)),
        None => causes.extend(builtin::created(call, object)),
    }
    refuse(call, text(object, "/metadata/name"), &causes)
}

/// Checks an object in place of another, which was sent with this metadata.
///
/// # Errors
/// When it may not be: with all causes.
pub(super) fn updated(call: &Call, stands: &Value, object: &Value, sent: &Value) -> Result<(), Refusal> {
    let mut causes = builtin::metadata(call, object);
    let going = text(sent, "/deletionTimestamp");
    // What a pod's status is sent with is not looked at for this.
    let overlooked = call.kind.kind == "Pod" && call.subresource == "status";
    if !going.is_empty() && !is_going(stands) && !overlooked {
        let message = format!("Invalid value: {going:?}: field is immutable");
        causes.push(Cause { reason: "FieldValueInvalid", field: "metadata.deletionTimestamp".to_owned(), message });
    }
    let uid = text(sent, "/uid");
    if !uid.is_empty() && uid != text(stands, "/metadata/uid") {
        let message = format!("Invalid value: {uid:?}: field is immutable");
        causes.push(Cause { reason: "FieldValueInvalid", field: "metadata.uid".to_owned(), message });
    }
    let before = finalizers(stands);
    let new: Vec<String> = finalizers(object).into_iter().filter(|name| !before.contains(name)).collect();
    if is_going(stands) && !new.is_empty() {
        causes.push(Cause {
            reason: "FieldValueForbidden",
            field: "metadata.finalizers".to_owned(),
            message: format!(
                "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {new:?}"
            ),
        });
    }
    match &call.kind.schema {
        Some(schema) => causes.extend(schema::check(schema, object, Some(stands))),
        None => causes.extend(builtin::updated(call, stands, object)),
    }
    refuse(call, &call.name, &causes)
}

fn refuse(call: &Call, name: &str, causes: &[Cause]) -> Result<(), Refusal> {
    match causes {
        [] => Ok(()),
        causes => Err(Refusal::invalid(&call.kind.kind, &call.kind.group, name, causes)),
    }
}
