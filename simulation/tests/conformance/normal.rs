//! What must differ between two API servers, taken out of their answers. Owns the list of it, and how a difference is
//! told.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// What stands for what in the answers of one side.
#[derive(Default)]
pub struct Names {
    versions: BTreeMap<String, usize>,
    uids: BTreeMap<String, usize>,
}

impl Names {
    /// The answer, comparable.
    pub fn answer(&mut self, code: u16, body: &Value) -> Value {
        let mut body = body.clone();
        self.tidy(&mut body);
        json!({ "code": code, "body": body })
    }

    fn tidy(&mut self, value: &mut Value) {
        if value.get("kind").is_some_and(|kind| kind == "Status") {
            *value = status(value);
            return;
        }
        if value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List")) {
            // Without items there is none or null.
            let items = value.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
            value["items"] = items
                .into_iter()
                .map(|mut item| {
                    self.tidy(&mut item);
                    item
                })
                .collect();
            // A list is of the newest revision of the whole server, whoever made it.
            value["metadata"]["resourceVersion"] = json!("of a list");
            match value["metadata"].get("continue").and_then(Value::as_str) {
                Some("") | None => drop_field(&mut value["metadata"], "continue"),
                Some(_) => value["metadata"]["continue"] = json!("token"),
            }
            return;
        }
        let value_of = |field: &str| value.get(field).cloned().unwrap_or_default();
        if value_of("type").is_string() && value_of("object").is_object() {
            if value["type"] == "BOOKMARK" {
                // Fields that a built-in type writes though they are empty.
                let annotations = value.pointer("/object/metadata/annotations").cloned();
                value["object"] = json!({ "annotations": annotations });
            } else {
                self.tidy(&mut value["object"]);
            }
            return;
        }
        if let Some(metadata) = value.get_mut("metadata").filter(|metadata| metadata.is_object()) {
            self.metadata(metadata);
        }
    }

    fn metadata(&mut self, metadata: &mut Value) {
        for field in ["managedFields", "selfLink"] {
            drop_field(metadata, field);
        }
        for field in ["creationTimestamp", "deletionTimestamp"] {
            if metadata.get(field).is_some_and(Value::is_string) {
                metadata[field] = json!("a time");
            }
        }
        for owner in metadata.get_mut("ownerReferences").and_then(Value::as_array_mut).into_iter().flatten() {
            self.number(owner, "uid");
        }
        self.number(metadata, "uid");
        self.number(metadata, "resourceVersion");
    }

    /// Puts the order of first appearance in place of a uid or a resource version.
    fn number(&mut self, object: &mut Value, field: &str) {
        let Some(text) = object.get(field).and_then(Value::as_str).map(str::to_owned) else {
            drop_field(object, field);
            return;
        };
        let known = if field == "uid" { &mut self.uids } else { &mut self.versions };
        let next = known.len();
        object[field] = json!(format!("{field} {}", known.entry(text).or_insert(next)));
    }
}

fn drop_field(object: &mut Value, field: &str) {
    if let Some(object) = object.as_object_mut() {
        object.remove(field);
    }
}

/// A status by its code, its reason and the fields of its causes; messages may differ.
fn status(status: &Value) -> Value {
    let details = &status["details"];
    let mut causes: Vec<String> = details["causes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|cause| format!("{} {}", cause["reason"], cause["field"]))
        .collect();
    causes.sort();
    causes.dedup();
    let mut about = Map::new();
    for field in ["name", "group", "kind"] {
        about.insert(field.to_owned(), details[field].clone());
    }
    json!({"status": status["status"], "code": status["code"], "reason": status["reason"], "causes": causes, "about": about})
}

/// Where two values differ, by path: the first, the second.
pub fn difference(one: &Value, other: &Value, path: &str) -> Vec<String> {
    match (one, other) {
        (Value::Object(first), Value::Object(second)) => {
            let mut keys: Vec<&String> = first.keys().chain(second.keys()).collect();
            keys.sort();
            keys.dedup();
            keys.into_iter()
                .flat_map(|key| optional(first.get(key), second.get(key), &format!("{path}.{key}")))
                .collect()
        }
        (Value::Array(first), Value::Array(second)) => {
            let longest = first.len().max(second.len());
            (0..longest)
                .flat_map(|index| optional(first.get(index), second.get(index), &format!("{path}[{index}]")))
                .collect()
        }
        (one, other) if one == other => Vec::new(),
        (one, other) => vec![format!("{path}: {one}, {other}")],
    }
}

fn optional(one: Option<&Value>, other: Option<&Value>, path: &str) -> Vec<String> {
    match (one, other) {
        (Some(one), Some(other)) => difference(one, other, path),
        (None, Some(other)) => vec![format!("{path}: nothing, {other}")],
        (Some(one), None) => vec![format!("{path}: {one}, nothing")],
        (None, None) => Vec::new(),
    }
}
