//! Whether the schema of a definition that stands is as new as ours. Descriptions do not count. Pure.

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

/// How the definition that stands compares with ours.
#[derive(Debug, PartialEq, Eq)]
pub enum Compared {
    /// They say the same.
    Same,
    /// It lacks fields: the API server would drop them without a word.
    Lacks(Vec<String>),
    /// It has fields that we do not know.
    HasMore(Vec<String>),
    /// The same fields, under other rules.
    OtherRules,
}

/// Compares the schemas of `version` in both; a version that is not there has no fields.
pub fn compare(ours: &CustomResourceDefinition, theirs: &CustomResourceDefinition, version: &str) -> Compared {
    compare_schemas(&schema(ours, version), &schema(theirs, version))
}

fn schema(definition: &CustomResourceDefinition, version: &str) -> Value {
    let version = definition.spec.versions.iter().find(|candidate| candidate.name == version);
    let schema =
        version.and_then(|version| version.schema.as_ref()).and_then(|schema| schema.open_api_v3_schema.as_ref());
    schema.and_then(|schema| serde_json::to_value(schema).ok()).unwrap_or_default()
}

fn compare_schemas(ours: &Value, theirs: &Value) -> Compared {
    let (known, standing) = (fields(ours), fields(theirs));
    let lacks: Vec<String> = known.difference(&standing).cloned().collect();
    let more: Vec<String> = standing.difference(&known).cloned().collect();
    if !lacks.is_empty() {
        Compared::Lacks(lacks)
    } else if !more.is_empty() {
        Compared::HasMore(more)
    } else if without_descriptions(ours) != without_descriptions(theirs) {
        Compared::OtherRules
    } else {
        Compared::Same
    }
}

/// The paths of all fields, such as `spec.user.id`.
fn fields(schema: &Value) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    collect(schema, "", &mut paths);
    paths
}

fn collect(schema: &Value, path: &str, paths: &mut BTreeSet<String>) {
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect(inner, &path, paths);
        paths.insert(path);
    }
    for inside in ["items", "additionalProperties"] {
        if schema[inside].is_object() {
            collect(&schema[inside], &format!("{path}[]"), paths);
        }
    }
}

/// The schema without its descriptions. A field may be called `description`: that one is a schema, not a text.
fn without_descriptions(schema: &Value) -> Value {
    match schema {
        Value::Object(object) => {
            let kept = object.iter().filter(|(name, value)| !(*name == "description" && value.is_string()));
            Value::Object(kept.map(|(name, value)| (name.clone(), without_descriptions(value))).collect())
        }
        Value::Array(values) => Value::Array(values.iter().map(without_descriptions).collect()),
        value => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install;
    use serde_json::json;

    fn with(fields: Value) -> Value {
        json!({ "type": "object", "properties": { "spec": { "type": "object", "properties": fields } } })
    }

    #[test]
    fn a_field_more_or_less_and_another_rule_are_told_apart() {
        let ours = with(json!({ "a": { "type": "string" }, "b": { "items": { "properties": { "c": {} } } } }));
        let fewer = with(json!({ "a": { "type": "string" }, "b": { "items": { "properties": {} } } }));
        assert_eq!(compare_schemas(&ours, &ours), Compared::Same);
        assert_eq!(compare_schemas(&ours, &fewer), Compared::Lacks(vec!["spec.b[].c".to_owned()]));
        assert_eq!(compare_schemas(&fewer, &ours), Compared::HasMore(vec!["spec.b[].c".to_owned()]));
        let stricter = with(
            json!({ "a": { "type": "string", "maxLength": 3 }, "b": ours["properties"]["spec"]["properties"]["b"] }),
        );
        assert_eq!(compare_schemas(&ours, &stricter), Compared::OtherRules);
    }

    #[test]
    fn another_description_is_no_difference_and_a_field_of_that_name_is_one() {
        let one = with(json!({ "a": { "description": "one" } }));
        assert_eq!(compare_schemas(&one, &with(json!({ "a": { "description": "two" } }))), Compared::Same);
        let more = with(json!({ "a": {}, "description": { "type": "string" } }));
        assert_eq!(compare_schemas(&more, &one), Compared::Lacks(vec!["spec.description".to_owned()]));
    }

    #[test]
    fn our_own_definitions_are_as_new_as_ours() {
        for (name, crd) in install::crds() {
            assert_eq!(compare(&crd, &crd, crate::api::VERSION), Compared::Same, "{name}");
            assert!(fields(&schema(&crd, crate::api::VERSION)).contains("spec"), "{name}");
            assert!(matches!(compare(&crd, &crd, "v9"), Compared::Same), "{name}: neither has that version");
        }
    }
}
