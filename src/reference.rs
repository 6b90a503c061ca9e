//! The reference of our kinds, as a page: every field with its type, its default and its description, from the same
//! definitions that the API server is given. Owns how that is laid out; the words are those of the types.

use kube::CustomResourceExt;
use serde_json::Value;

use crate::api::{Session, SessionPolicy, Workspace};

/// The page.
pub fn page() -> String {
    let mut page = String::from(
        "# Resource reference\n\nEvery field of the three kinds, made from their definitions (`cargo xtask generate`). A field in **bold** must be \
         written.\n`kubectl explain` tells the same. What is refused, and in which words, is in [refusals.md](refusals.md).\n",
    );
    for crd in [Workspace::crd(), Session::crd(), SessionPolicy::crd()] {
        let definition = serde_json::to_value(&crd.spec).unwrap_or_default();
        let names = &definition["names"];
        let short = names["shortNames"][0].as_str().unwrap_or_default();
        let version = &definition["versions"][0];
        let schema = &version["schema"]["openAPIV3Schema"];
        page.push_str(&format!(
            "\n## {}\n\n`{}/{}`, short name `{short}`. {}\n",
            crd.spec.names.kind,
            crd.spec.group,
            version["name"].as_str().unwrap_or_default(),
            one_line(&schema["description"]),
        ));
        let selectable = version["selectableFields"].as_array().into_iter().flatten();
        let selectable: Vec<String> = selectable
            .filter_map(|field| Some(format!("`{}`", field["jsonPath"].as_str()?.trim_start_matches('.'))))
            .collect();
        if !selectable.is_empty() {
            page.push_str(&format!("Selectable fields: {}.\n", selectable.join(", ")));
        }
        for part in ["spec", "status"] {
            let of = &schema["properties"][part];
            if of.is_object() {
                page.push_str(&format!(
                    "\n### {}: {part}\n\n| Field | Type | Meaning |\n|---|---|---|\n",
                    crd.spec.names.kind
                ));
                rows(part, of, &mut page);
            }
        }
    }
    page
}

/// The rows of the fields of `schema`, which is found at `path`.
fn rows(path: &str, schema: &Value, page: &mut String) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let shown = if required.contains(&name.as_str()) { format!("**`{path}`**") } else { format!("`{path}`") };
        let meaning = [one_line(&field["description"]), default(field)].join(" ");
        page.push_str(&format!("| {shown} | {} | {} |\n", type_of(field), meaning.trim().replace('|', "\\|")));
        match field["type"].as_str() {
            Some("array") => rows(&format!("{path}[]"), &field["items"], page),
            _ => rows(&path, field, page),
        }
    }
}

fn type_of(field: &Value) -> String {
    let values: Vec<String> = field["enum"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|value| Some(format!("`{}`", value.as_str()?)))
        .collect();
    if !values.is_empty() {
        return values.join(", ");
    }
    let named = field["type"].as_str().unwrap_or("any");
    match (named, field["format"].as_str()) {
        ("array", _) => format!("list of {}", type_of(&field["items"])),
        ("object", _) if field["additionalProperties"].is_object() => {
            format!("map of {}", type_of(&field["additionalProperties"]))
        }
        (_, Some("date-time")) => "time".to_owned(),
        (named, _) => named.to_owned(),
    }
}

fn default(field: &Value) -> String {
    match &field["default"] {
        // An object's default is that of its fields.
        Value::Null | Value::Object(_) => String::new(),
        default => format!("Default: `{}`.", default.to_string().trim_matches('"')),
    }
}

/// A description as a cell of a table holds it.
fn one_line(description: &Value) -> String {
    description.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_kind_with_fields_of_both_parts() {
        let page = page();
        for row in [
            "## Workspace\n",
            "| **`spec.type`** | `linux`, ",
            "| `spec.maxSessions` | integer | ",
            "Default: `1`.",
            "| `status.phase` | `Pending`, ",
            "| `status.conditions[].type`",
            "| `spec.idle.after` | string | ",
        ] {
            assert!(
                page.contains(row) || page.contains(&row.replace("| `", "| **`").replace("` |", "`** |")),
                "no {row}"
            );
        }
    }
}
