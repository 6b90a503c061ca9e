//! Small readings and writings of objects, for all verbs. Owns paths into metadata and how objects go out.

use serde_json::{Map, Value, json};

use super::call::Call;

/// The text at a path such as `/metadata/uid`; empty where there is none. Its steps are taken as they are written: a
/// JSON pointer would read each anew for its escapes, and this is asked all the time.
pub(crate) fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    let mut steps = path.split('/').skip(1);
    steps.try_fold(object, |value, step| value.get(step)).and_then(Value::as_str).unwrap_or_default()
}

/// The number at a path.
pub(crate) fn number(object: &Value, path: &str) -> Option<i64> {
    object.pointer(path).and_then(Value::as_i64)
}

/// The finalizers.
pub(crate) fn finalizers(object: &Value) -> Vec<String> {
    let listed = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Whether a deletion has begun.
pub(crate) fn is_going(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

/// Sets a field of the metadata; null takes it away.
pub(crate) fn set(object: &mut Value, field: &str, value: Value) {
    edit(&mut object["metadata"], |map| put(map, field, value));
}

/// Sets a field of the object itself; null takes it away.
pub(crate) fn set_top(object: &mut Value, field: &str, value: Value) {
    edit(object, |map| put(map, field, value));
}

fn put(map: &mut Map<String, Value>, field: &str, value: Value) {
    match value {
        Value::Null => drop(map.remove(field)),
        value => drop(map.insert(field.to_owned(), value)),
    }
}

/// Changes the value as an object, which it becomes if it is none.
pub(crate) fn edit<T>(value: &mut Value, change: impl FnOnce(&mut Map<String, Value>) -> T) -> T {
    let mut map = match value.take() {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let done = change(&mut map);
    *value = Value::Object(map);
    done
}

/// The object as the caller wants it.
pub(super) fn outgoing(call: &Call, object: &Value) -> Value {
    if call.metadata_only { metadata_only(object) } else { object.clone() }
}

/// Only the metadata.
pub(super) fn metadata_only(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}
