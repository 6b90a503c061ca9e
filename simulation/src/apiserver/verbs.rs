//! The verbs that write. Owns preconditions, what a request may change, and when a deletion is done; what an object
//! must look like is `validate`'s.

pub(crate) mod delete;
mod prepare;
mod update;

use serde_json::{Value, json};

use super::State;
use super::call::{Call, Verb};
use super::meta::{is_going, outgoing, set, set_top, text};
use super::read;
use super::refusal::{Cause, Refusal};
use super::store::Key;
use super::validate::{self, Accepted};

/// Does what a call asks for, all of it at once; the HTTP status and the body of the answer.
///
/// # Errors
/// When it is not done.
pub(super) fn execute(state: &mut State, call: &Call) -> Result<(u16, Value), Refusal> {
    match call.verb {
        Verb::Get => read::get(state, call).map(|object| (200, object)),
        Verb::List | Verb::Watch => read::list(state, call).map(|objects| (200, objects)),
        Verb::Create if call.subresource == "binding" => update::bind(state, call),
        Verb::Create => create(state, call, &call.body).map(|object| (201, outgoing(call, &object))),
        Verb::Update => update::replace(state, call),
        Verb::Patch => update::patch(state, call),
        Verb::Delete => delete::one(state, call),
        Verb::DeleteCollection => delete::many(state, call),
    }
}

/// Where the object of a call is stored.
fn key(call: &Call) -> Key {
    Key::new(&call.kind.resource(), &call.namespace, &call.name)
}

/// The wall clock of the API server, as objects are stamped: in whole seconds.
fn stamp(state: &State) -> Value {
    json!(state.clock.now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}

fn create(state: &mut State, call: &Call, body: &Value) -> Result<Value, Refusal> {
    let Accepted { mut object } = validate::decode(call, body)?;
    names(state, call, &mut object)?;
    lifecycle(state, call)?;
    if !text(&object, "/metadata/resourceVersion").is_empty() {
        return Err(Refusal::new(500, "", "resourceVersion should not be set on objects to be created"));
    }
    // One that an update makes keeps what it says of its deletion.
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds"].iter().filter(|_| call.verb == Verb::Create) {
        set(&mut object, field, Value::Null);
    }
    for field in ["managedFields", "selfLink"] {
        set(&mut object, field, Value::Null);
    }
    set(&mut object, "uid", json!(state.dice.uuid()));
    set(&mut object, "creationTimestamp", stamp(state));
    if call.kind.counts {
        set(&mut object, "generation", json!(1));
    }
    if call.kind.has_status {
        set_top(&mut object, "status", Value::Null);
    }
    prepare::created(state, call, &mut object);
    validate::created(call, &object)?;
    let key = Key { name: text(&object, "/metadata/name").to_owned(), ..key(call) };
    if state.store.get(&key).is_some() {
        return Err(Refusal::already_exists(&key.resource, &key.name));
    }
    if call.is_dry {
        return Ok(object);
    }
    Ok(Value::clone(&state.store.put(&key, object)))
}

/// The namespace must be there, and not be going.
fn lifecycle(state: &State, call: &Call) -> Result<(), Refusal> {
    if !call.kind.namespaced {
        return Ok(());
    }
    let namespace = state.store.get(&Key::new("namespaces", "", &call.namespace));
    let namespace = namespace.ok_or_else(|| Refusal::not_found("namespaces", &call.namespace))?;
    if !is_going(namespace) {
        return Ok(());
    }
    let words = format!("unable to create new content in namespace {} because it is being terminated", call.namespace);
    let mut refusal = Refusal::forbidden(&call.kind.resource(), &call.name, &words);
    let message = format!("namespace {} is being terminated", call.namespace);
    refusal.detail(
        "causes",
        json!([{"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"}]),
    );
    Err(refusal)
}

/// The name and the namespace of a new object.
fn names(state: &State, call: &Call, object: &mut Value) -> Result<(), Refusal> {
    let namespace = text(object, "/metadata/namespace");
    if !namespace.is_empty() && namespace != call.namespace {
        return Err(Refusal::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if call.kind.namespaced {
        set(object, "namespace", json!(call.namespace));
    }
    let prefix = text(object, "/metadata/generateName").to_owned();
    if text(object, "/metadata/name").is_empty() && !prefix.is_empty() {
        set(object, "name", json!(format!("{prefix}{}", state.dice.suffix())));
    }
    if text(object, "/metadata/name").is_empty() {
        let cause = Cause {
            reason: "FieldValueRequired",
            field: "metadata.name".to_owned(),
            message: "Required value: name or generateName is required".to_owned(),
        };
        return Err(Refusal::invalid(&call.kind.kind, &call.kind.group, "", &[cause]));
    }
    Ok(())
}
