//! Selectors by labels and by fields. Owns their syntax and what they select.

use serde_json::Value;

use super::call::Call;
use super::kinds::Kind;
use super::refusal::Refusal;

/// What a list or a watch asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    namespace: String,
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
}

impl Selector {
    /// What this call selects.
    ///
    /// # Errors
    /// When it cannot be read, or asks about a field that cannot be asked about.
    pub(super) fn of(call: &Call) -> Result<Self, Refusal> {
        let part = |name: &str| call.query.get(name).map(String::as_str).unwrap_or_default();
        let bad = |words: String| Refusal::bad_request(format!("unable to parse requirement: {words}"));
        let fields = requirements(part("fieldSelector")).map_err(bad)?;
        for field in &fields {
            if !can_select(&call.kind, &field.key) || !matches!(field.test, Test::In(_) | Test::NotIn(_)) {
                return Err(Refusal::bad_request(format!("field label not supported: {}", field.key)));
            }
        }
        let labels = requirements(part("labelSelector")).map_err(bad)?;
        Ok(Self { namespace: call.namespace.clone(), labels, fields })
    }

    /// Whether it selects among all objects of the namespace.
    pub(super) fn narrows(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }

    /// Whether the object is selected.
    pub(super) fn selects(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let here = self.namespace.is_empty() || metadata["namespace"] == self.namespace.as_str();
        here && self.labels.iter().all(|label| label.holds(metadata["labels"].get(&label.key).and_then(Value::as_str)))
            && self.fields.iter().all(|field| field.holds(Some(&value_at(object, &field.key))))
    }
}

fn can_select(kind: &Kind, field: &str) -> bool {
    field == "metadata.name"
        || (kind.namespaced && field == "metadata.namespace")
        || kind.fields.iter().any(|it| it == field)
}

/// The field as text; empty where it is not there.
fn value_at(object: &Value, path: &str) -> String {
    match path.split('.').try_fold(object, |value, part| value.get(part)) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let among = |values: &[String]| value.is_some_and(|value| values.iter().any(|it| it == value));
        match &self.test {
            Test::In(values) => among(values),
            Test::NotIn(values) => !among(values),
            Test::Exists => value.is_some(),
            Test::Missing => value.is_none(),
        }
    }
}

/// Requirements divided by commas, except for those within parentheses.
fn requirements(text: &str) -> Result<Vec<Requirement>, String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for character in text.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(character);
        }
    }
    parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).map(requirement).collect()
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let of = |key: &str, test| Requirement { key: key.trim().to_owned(), test };
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some((key, value)) = text.split_once("!=") {
        return Ok(of(key, Test::NotIn(one(value))));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(of(key, Test::In(one(value))));
    }
    if let Some((head, values)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        return match head.split_whitespace().collect::<Vec<_>>().as_slice() {
            [key, "in"] => Ok(of(key, Test::In(values))),
            [key, "notin"] => Ok(of(key, Test::NotIn(values))),
            _ => Err(text.to_owned()),
        };
    }
    match text.strip_prefix('!') {
        Some(key) => Ok(of(key, Test::Missing)),
        None if text.contains(char::is_whitespace) => Err(text.to_owned()),
        None => Ok(of(text, Test::Exists)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn selects(labels: &str, fields: &str) -> bool {
        let object = json!({
            "metadata": {"name": "a", "namespace": "demo", "labels": {"app": "web", "tier": ""}},
            "spec": {"n": 3, "user": {"id": "ana"}},
        });
        let selector = Selector {
            namespace: String::new(),
            labels: requirements(labels).unwrap(),
            fields: requirements(fields).unwrap(),
        };
        selector.selects(&object)
    }

    #[test]
    fn labels_select_as_kubernetes_has_it() {
        for (text, selected) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier=", true),
            ("app=db", false),
            ("app!=db", true),
            ("other!=x", true),
            ("app in (db, web),tier", true),
            ("app in (db)", false),
            ("app notin (db)", true),
            ("other notin (db)", true),
            ("tier", true),
            ("other", false),
            ("!other", true),
            ("!app", false),
        ] {
            assert_eq!(selects(text, ""), selected, "{text}");
        }
        assert!(requirements("app like web").is_err());
    }

    #[test]
    fn a_field_that_is_not_there_is_empty() {
        for (text, selected) in [
            ("metadata.name=a,spec.user.id=ana", true),
            ("spec.user.id!=ana", false),
            ("status.endedAt=", true),
            ("status.endedAt!=", false),
            ("spec.n=3", true),
        ] {
            assert_eq!(selects("", text), selected, "{text}");
        }
    }
}
