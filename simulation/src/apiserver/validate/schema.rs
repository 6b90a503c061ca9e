//! Structural schemas, as the definitions of our kinds have them. Owns pruning, defaults and the checks of values; rules
//! are `cel`'s.

use serde_json::{Map, Value};

use super::cel::{self, Subject};
use super::pattern;
use crate::apiserver::refusal::Cause;

/// Takes away what the schema does not know, and adds its defaults.
pub(super) fn complete(schema: &Value, object: &mut Value) {
    prune(schema, object, true);
    add_defaults(schema, object);
}

fn prune(schema: &Value, value: &mut Value, root: bool) {
    match value {
        Value::Object(map) => {
            if let Some(each) = schema.get("additionalProperties").filter(|each| each.is_object()) {
                map.values_mut().for_each(|value| prune(each, value, false));
                return;
            }
            let keeps = schema["x-kubernetes-preserve-unknown-fields"] == true;
            map.retain(|name, value| {
                if root && matches!(name.as_str(), "kind" | "apiVersion" | "metadata") {
                    return true;
                }
                match schema["properties"].get(name) {
                    Some(known) => {
                        prune(known, value, false);
                        !value.is_null() || known["nullable"] == true
                    }
                    None => keeps,
                }
            });
        }
        Value::Array(items) => items.iter_mut().for_each(|item| prune(&schema["items"], item, false)),
        _ => {}
    }
}

fn add_defaults(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(each) = schema.get("additionalProperties").filter(|each| each.is_object()) {
                map.values_mut().for_each(|value| add_defaults(each, value));
            }
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(default) = property.get("default").filter(|_| !map.contains_key(name)) {
                    map.insert(name.clone(), default.clone());
                }
                if let Some(value) = map.get_mut(name) {
                    add_defaults(property, value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| add_defaults(&schema["items"], item)),
        _ => {}
    }
}

/// What is wrong with the object, in place of the one that stands.
pub(super) fn check(schema: &Value, object: &Value, stands: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    values(schema, object, "", &mut causes);
    let blocks = |cause: &Cause| {
        matches!(
            cause.reason,
            "FieldValueNotSupported"
                | "FieldValueRequired"
                | "FieldValueTooLong"
                | "FieldValueTooMany"
                | "FieldValueTypeInvalid"
        )
    };
    if causes.iter().any(blocks) {
        causes.push(Cause {
            reason: "FieldValueInvalid",
            field: "<nil>".to_owned(),
            message: "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation".to_owned(),
        });
    } else {
        rules(schema, object, stands, "", &mut causes);
    }
    causes
}

fn values(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut wrong = |reason, message: String| causes.push(Cause { reason, field: named(path), message });
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    let type_ = schema["type"].as_str().unwrap_or_default();
    if schema["x-kubernetes-int-or-string"] == true {
        if !value.is_string() && !value.is_i64() {
            let is = type_of(value);
            wrong(
                "FieldValueTypeInvalid",
                format!("Invalid value: {is:?}: {path} in body must be of type integer,string: {is:?}"),
            );
        }
        return;
    }
    if !is_of(type_, value) {
        let is = type_of(value);
        wrong(
            "FieldValueTypeInvalid",
            format!("Invalid value: {is:?}: {path} in body must be of type {type_}: {is:?}"),
        );
        return;
    }
    if let Some(choices) = schema["enum"].as_array().filter(|choices| !choices.contains(value)) {
        let listed: Vec<String> = choices.iter().map(Value::to_string).collect();
        wrong("FieldValueNotSupported", format!("Unsupported value: {value}: supported values: {}", listed.join(", ")));
    }
    match value {
        Value::String(text) => {
            let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
            if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
                wrong("FieldValueTooLong", format!("Too long: may not be more than {most} bytes"));
            }
            if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
                wrong(
                    "FieldValueInvalid",
                    format!("Invalid value: {text:?}: {path} in body should be at least {least} chars long"),
                );
            }
            if let Some(pattern) = schema["pattern"].as_str().filter(|pattern| !pattern::found(pattern, text)) {
                wrong("FieldValueInvalid", format!("Invalid value: {text:?}: {path} in body should match '{pattern}'"));
            }
            if schema["format"] == "date-time" && chrono::DateTime::parse_from_rfc3339(text).is_err() {
                wrong(
                    "FieldValueTypeInvalid",
                    format!("Invalid value: {text:?}: {path} in body must be of type date-time: {text:?}"),
                );
            }
        }
        Value::Number(number) => {
            if schema["format"] == "int32" && number.as_i64().is_none_or(|number| i32::try_from(number).is_err()) {
                let message =
                    format!("Invalid value: \"\": Checked value must be of type integer with format int32 in {path}");
                causes.push(Cause { reason: "FieldValueInvalid", field: "<nil>".to_owned(), message });
                return;
            }
            let mut wrong = |reason, message: String| causes.push(Cause { reason, field: named(path), message });
            let number = number.as_f64().unwrap_or_default();
            if let Some(most) = schema["maximum"].as_f64().filter(|most| number > *most) {
                wrong(
                    "FieldValueInvalid",
                    format!("Invalid value: {value}: {path} in body should be less than or equal to {most}"),
                );
            }
            if let Some(least) = schema["minimum"].as_f64().filter(|least| number < *least) {
                wrong(
                    "FieldValueInvalid",
                    format!("Invalid value: {value}: {path} in body should be greater than or equal to {least}"),
                );
            }
        }
        Value::Array(items) => array(schema, items, path, causes),
        Value::Object(map) => object(schema, map, path, causes),
        Value::Null | Value::Bool(_) => {}
    }
}

fn array(schema: &Value, items: &[Value], path: &str, causes: &mut Vec<Cause>) {
    let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
    if let Some(most) = schema["maxItems"].as_u64().filter(|most| count > *most) {
        let message = format!("Too many: {count}: must have at most {most} items");
        causes.push(Cause { reason: "FieldValueTooMany", field: named(path), message });
    }
    if let Some(least) = schema["minItems"].as_u64().filter(|least| count < *least) {
        let message = format!("Invalid value: {count}: {path} in body should have at least {least} items");
        causes.push(Cause { reason: "FieldValueInvalid", field: named(path), message });
    }
    for (index, item) in items.iter().enumerate() {
        values(&schema["items"], item, &format!("{path}[{index}]"), causes);
    }
    if schema["x-kubernetes-list-type"] == "map" {
        let keys: Vec<Value> = items.iter().map(|item| identity(schema, item)).collect();
        for (index, key) in keys.iter().enumerate().filter(|(index, key)| keys.iter().take(*index).any(|it| it == *key))
        {
            let message = format!("Duplicate value: {key}");
            causes.push(Cause { reason: "FieldValueDuplicate", field: format!("{path}[{index}]"), message });
        }
    }
}

/// What tells an item of a list of the type `map` from the others.
fn identity(schema: &Value, item: &Value) -> Value {
    let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str);
    keys.map(|key| (key.to_owned(), item[key].clone())).collect::<Map<_, _>>().into()
}

fn object(schema: &Value, map: &Map<String, Value>, path: &str, causes: &mut Vec<Cause>) {
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !map.contains_key(name) {
            let message = "Required value".to_owned();
            causes.push(Cause { reason: "FieldValueRequired", field: join(path, name), message });
        }
    }
    let count = u64::try_from(map.len()).unwrap_or(u64::MAX);
    if let Some(most) = schema["maxProperties"].as_u64().filter(|most| count > *most) {
        let message = format!("Too many: {count}: must have at most {most} items");
        causes.push(Cause { reason: "FieldValueTooMany", field: named(path), message });
    }
    for (name, value) in map {
        if let Some(property) = schema["properties"].get(name) {
            values(property, value, &join(path, name), causes);
        } else if let Some(each) = schema.get("additionalProperties").filter(|each| each.is_object()) {
            values(each, value, &join(path, name), causes);
        }
    }
}

/// The rules of the schema, here and below. What can be told apart from its siblings is compared with what stood.
fn rules(schema: &Value, value: &Value, stands: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    if value.is_null() {
        return;
    }
    let stands = stands.filter(|stands| !stands.is_null());
    let (subject, before) = (Subject::new(schema, value), stands.map(|stands| Subject::new(schema, stands)));
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        if let Err(message) = cel::holds(rule, &subject, before.as_ref()) {
            let field = rule["fieldPath"].as_str().map_or_else(|| named(path), |field| format!("{path}{field}"));
            let message = format!("Invalid value: {:?}: {message}", type_of(value));
            causes.push(Cause { reason: "FieldValueInvalid", field, message });
        }
    }
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let each = || schema.get("additionalProperties").filter(|each| each.is_object());
                if let Some(property) = schema["properties"].get(name).or_else(each) {
                    rules(property, value, stands.and_then(|stands| stands.get(name)), &join(path, name), causes);
                }
            }
        }
        Value::Array(items) => {
            let is_map = schema["x-kubernetes-list-type"] == "map";
            for (index, item) in items.iter().enumerate() {
                let before = stands.filter(|_| is_map).and_then(Value::as_array);
                let same = |it: &&Value| identity(schema, it) == identity(schema, item);
                let before = before.and_then(|before| before.iter().find(same));
                rules(&schema["items"], item, before, &format!("{path}[{index}]"), causes);
            }
        }
        _ => {}
    }
}

fn is_of(type_: &str, value: &Value) -> bool {
    match type_ {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        _ => true,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn named(path: &str) -> String {
    if path.is_empty() { "<nil>".to_owned() } else { path.to_owned() }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({"type": "object", "properties": {
            "spec": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string", "maxLength": 4, "minLength": 2, "pattern": "^[a-z]+$"},
                "size": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3},
                "count": {"type": "integer", "format": "int32"},
                "mode": {"type": "string", "enum": ["A", "B"], "nullable": true},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "tags": {"type": "object", "additionalProperties": {"type": "string"}},
                "list": {"type": "array", "maxItems": 2, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer",
                        "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "goes up"}]}}}},
            }, "x-kubernetes-validations": [{"rule": "self.name != 'bad'", "message": "not bad"}]},
        }})
    }

    fn completed(object: Value) -> Value {
        let mut object = object;
        complete(&schema(), &mut object);
        object
    }

    fn causes(spec: Value) -> Vec<(&'static str, String)> {
        check(&schema(), &json!({ "spec": spec }), None).into_iter().map(|cause| (cause.reason, cause.field)).collect()
    }

    #[test]
    fn what_the_schema_does_not_know_is_dropped_and_defaults_are_added() {
        let object = completed(json!({"kind": "K", "metadata": {"x": 1}, "other": 1, "spec": {
            "name": null, "mode": null, "what": 1, "free": {"any": {"thing": 1}}, "tags": {"a": "b"}, "list": [{"k": "a", "z": 1}]}}));
        assert_eq!(
            object,
            json!({"kind": "K", "metadata": {"x": 1}, "spec": {
            "mode": null, "size": 3, "free": {"any": {"thing": 1}}, "tags": {"a": "b"}, "list": [{"k": "a"}]}})
        );
    }

    #[test]
    fn every_check_names_its_field() {
        let rest = ("FieldValueInvalid", "<nil>".to_owned());
        for (spec, reason, field, blocks) in [
            (json!({}), "FieldValueRequired", "spec.name", true),
            (json!({"name": "abcde"}), "FieldValueTooLong", "spec.name", true),
            (json!({"name": "a"}), "FieldValueInvalid", "spec.name", false),
            (json!({"name": "AB"}), "FieldValueInvalid", "spec.name", false),
            (json!({"name": 1}), "FieldValueTypeInvalid", "spec.name", true),
            (json!({"name": "ab", "size": 0}), "FieldValueInvalid", "spec.size", false),
            (json!({"name": "ab", "size": 10}), "FieldValueInvalid", "spec.size", false),
            (json!({"name": "ab", "size": 1.5}), "FieldValueTypeInvalid", "spec.size", true),
            (json!({"name": "ab", "count": 2_147_483_648_i64}), "FieldValueInvalid", "<nil>", false),
            (json!({"name": "ab", "mode": "C"}), "FieldValueNotSupported", "spec.mode", true),
            (json!({"name": "ab", "tags": {"a": 1}}), "FieldValueTypeInvalid", "spec.tags.a", true),
            (json!({"name": "ab", "list": [{}, {"k": "a"}, {"k": "b"}]}), "FieldValueTooMany", "spec.list", true),
            (json!({"name": "ab", "list": [{"k": "a"}, {"k": "a"}]}), "FieldValueDuplicate", "spec.list[1]", false),
            (json!({"name": "bad"}), "FieldValueInvalid", "spec", false),
        ] {
            let mut expected = vec![(reason, field.to_owned())];
            expected.extend(blocks.then(|| rest.clone()));
            assert_eq!(causes(spec.clone()), expected, "{spec}");
        }
        assert_eq!(causes(json!({"name": "ab", "mode": null, "size": 9})), []);
    }

    #[test]
    fn an_item_is_compared_with_the_one_of_its_key() {
        let with = |items: Value| json!({"spec": {"name": "ab", "list": items}});
        let stands = with(json!([{"k": "a", "v": 1}, {"k": "b", "v": 5}]));
        let checked = |items| check(&schema(), &with(items), Some(&stands));
        assert_eq!(checked(json!([{"k": "b", "v": 5}, {"k": "a", "v": 2}, ])), []);
        assert_eq!(checked(json!([{"k": "b", "v": 4}])).len(), 1);
        assert_eq!(checked(json!([{"k": "c", "v": 0}])), []);
    }
}
