//! The rules of metadata, and those of built-in kinds as far as Berth and its tests meet them.

use ipnet::IpNet;
use serde_json::Value;

use crate::apiserver::call::Call;
use crate::apiserver::meta::{set_top, text};
use crate::apiserver::refusal::{Cause, Refusal};

/// Refuses what was sent if something of it was not understood.
///
/// # Errors
/// With the first field that was not.
pub(super) fn strict(sent: &Value, understood: &Value) -> Result<(), Refusal> {
    let mut unknown = Vec::new();
    missing(sent, understood, "", &mut unknown);
    match unknown.as_slice() {
        [] => Ok(()),
        fields => {
            let words: Vec<String> = fields.iter().map(|field| format!("unknown field {field:?}")).collect();
            Err(Refusal::bad_request(format!("strict decoding error: {}", words.join(", "))))
        }
    }
}

fn missing(sent: &Value, understood: &Value, path: &str, unknown: &mut Vec<String>) {
    match (sent, understood) {
        (Value::Object(sent), Value::Object(understood)) => {
            for (name, value) in sent {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match understood.get(name) {
                    Some(understood) => missing(value, understood, &path, unknown),
                    None if is_nothing(value) || matches!(path.as_str(), "kind" | "apiVersion") => {}
                    None => unknown.push(path),
                }
            }
        }
        (Value::Array(sent), Value::Array(understood)) => {
            for (index, (sent, understood)) in sent.iter().zip(understood).enumerate() {
                missing(sent, understood, &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

/// What is not written back although it was understood.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn invalid(field: impl Into<String>, value: &str, words: &str) -> Cause {
    Cause { reason: "FieldValueInvalid", field: field.into(), message: format!("Invalid value: {value:?}: {words}") }
}

fn required(field: impl Into<String>) -> Cause {
    Cause { reason: "FieldValueRequired", field: field.into(), message: "Required value".to_owned() }
}

fn forbidden(field: &str, words: &str) -> Cause {
    Cause { reason: "FieldValueForbidden", field: field.to_owned(), message: format!("Forbidden: {words}") }
}

/// What is wrong with the metadata, which is almost the same for all kinds.
pub(super) fn metadata(call: &Call, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = text(object, "/metadata/name");
    if !is_subdomain(name) {
        causes.push(invalid("metadata.name", name, "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"));
    }
    let metadata = &object["metadata"];
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        if !is_qualified(key) {
            causes.push(invalid(
                "metadata.labels",
                key,
                "name part must consist of alphanumeric characters, '-', '_' or '.'",
            ));
        }
        let value = value.as_str().unwrap_or_default();
        if !value.is_empty() && !is_label(value) {
            causes.push(invalid(
                "metadata.labels",
                value,
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.'",
            ));
        }
    }
    for key in metadata["annotations"].as_object().into_iter().flatten().map(|(key, _)| key) {
        if !is_qualified(&key.to_lowercase()) {
            causes.push(invalid(
                "metadata.annotations",
                key,
                "name part must consist of alphanumeric characters, '-', '_' or '.'",
            ));
        }
    }
    for (index, name) in metadata["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).enumerate() {
        let standard = matches!(name, "foregroundDeletion" | "orphan" | "kubernetes");
        let lax = call.kind.is_custom() || call.kind.kind == "Lease";
        let plain = !lax && !name.contains('/') && !standard;
        if !is_qualified(name) || plain {
            let words = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(invalid(format!("metadata.finalizers[{index}]"), name, words));
        }
    }
    let mut controllers = 0;
    for owner in metadata["ownerReferences"].as_array().into_iter().flatten() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if text(owner, &format!("/{field}")).is_empty() {
                causes.push(invalid(format!("metadata.ownerReferences.{field}"), "", "must not be empty"));
            }
        }
        controllers += i32::from(owner["controller"] == true);
    }
    if controllers > 1 {
        causes.push(invalid("metadata.ownerReferences", "", "Only one reference can have Controller set to true"));
    }
    causes
}

fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_part)
}

fn is_part(part: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
}

fn is_label(value: &str) -> bool {
    let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let bytes = value.as_bytes();
    value.len() <= 63 && value.bytes().all(inner) && end(bytes.first()) && end(bytes.last())
}

fn is_qualified(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_label(name),
        None => is_label(key),
    }
}

/// What is wrong with a new object of a built-in kind.
pub(super) fn created(call: &Call, object: &Value) -> Vec<Cause> {
    match call.kind.kind.as_str() {
        "Pod" => pod(object),
        "PersistentVolumeClaim" => claim(object),
        "ConfigMap" => config_map(object),
        "Lease" => lease(object),
        "NetworkPolicy" => network_policy(object),
        _ => Vec::new(),
    }
}

/// What is wrong with an object of a built-in kind, in place of another.
pub(super) fn updated(call: &Call, stands: &Value, object: &Value) -> Vec<Cause> {
    match call.kind.kind.as_str() {
        "Pod" => changed_pod(stands, object),
        "PersistentVolumeClaim" => changed_claim(stands, object),
        "ConfigMap" if stands["immutable"] == true => {
            let fields =
                ["immutable", "data", "binaryData"].into_iter().filter(|field| stands[*field] != object[*field]);
            let words = "field is immutable when `immutable` is set";
            fields.map(|field| forbidden(field, words)).chain(config_map(object)).collect()
        }
        "ConfigMap" => config_map(object),
        "Lease" => lease(object),
        "NetworkPolicy" => network_policy(object),
        _ => Vec::new(),
    }
}

/// Every block of addresses is one, and what it leaves out is a part of it.
fn network_policy(object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in object["spec"][list].as_array().into_iter().flatten().enumerate() {
            for (place, peer) in rule[peers].as_array().into_iter().flatten().enumerate() {
                let at = format!("spec.{list}[{index}].{peers}[{place}].ipBlock");
                causes.extend(block(&at, &peer["ipBlock"]));
            }
        }
    }
    causes
}

fn block(at: &str, block: &Value) -> Vec<Cause> {
    if !block.is_object() {
        return Vec::new();
    }
    let text = text(block, "/cidr");
    let network = |text: &str| text.parse::<IpNet>().ok().filter(|it| it.addr() == it.addr().to_canonical());
    let Some(whole) = network(text) else {
        return vec![invalid(
            format!("{at}.cidr"),
            text,
            "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        )];
    };
    let except = block["except"].as_array().into_iter().flatten().filter_map(Value::as_str).enumerate();
    let within = |part: &str| network(part).is_some_and(|part| part != whole && whole.contains(&part));
    except
        .filter(|(_, part)| !within(part))
        .map(|(index, part)| invalid(format!("{at}.except[{index}]"), part, "must be a strict subset of `cidr`"))
        .collect()
}

fn changed_claim(stands: &Value, object: &Value) -> Vec<Cause> {
    let mut causes = claim(object);
    if stands["spec"] != object["spec"] && !binds(stands, object) {
        let words =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        causes.push(forbidden("spec", words));
    }
    if object.pointer("/spec/resources/requests/storage").is_none() {
        let words = "field can not be less than status.capacity";
        causes.push(forbidden("spec.resources.requests.storage", words));
    }
    causes
}

fn changed_pod(stands: &Value, object: &Value) -> Vec<Cause> {
    let mut causes = pod(object);
    let count = |pod: &Value| pod["spec"]["containers"].as_array().map(Vec::len);
    if count(stands) != count(object) {
        causes.push(forbidden("spec.containers", "pod updates may not add or remove containers"));
    } else if spec_of_pod(stands) != spec_of_pod(object) {
        causes.push(forbidden("spec", "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"));
    }
    causes
}

/// A claim may be given its volume once.
fn binds(stands: &Value, object: &Value) -> bool {
    let mut unbound = object.clone();
    set_top(&mut unbound["spec"], "volumeName", Value::Null);
    text(stands, "/spec/volumeName").is_empty() && unbound["spec"] == stands["spec"]
}

/// The spec without what may change.
fn spec_of_pod(pod: &Value) -> Value {
    let mut spec = pod["spec"].clone();
    for field in ["containers", "initContainers"] {
        for container in spec.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            set_top(container, "image", Value::Null);
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations"] {
        set_top(&mut spec, field, Value::Null);
    }
    spec
}

fn pod(object: &Value) -> Vec<Cause> {
    let containers = object["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if containers.is_empty() {
        return vec![required("spec.containers")];
    }
    let mut causes = Vec::new();
    for (index, container) in containers.iter().enumerate() {
        let at = |field: &str| format!("spec.containers[{index}].{field}");
        let name = text(container, "/name");
        match name {
            "" => causes.push(required(at("name"))),
            name if !is_part(name) => {
                causes.push(invalid(at("name"), name, "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character"));
            }
            name if containers.iter().take(index).any(|before| before["name"] == name) => causes.push(Cause {
                reason: "FieldValueDuplicate",
                field: at("name"),
                message: format!("Duplicate value: {name:?}"),
            }),
            _ => {}
        }
        if text(container, "/image").is_empty() {
            causes.push(required(at("image")));
        }
    }
    causes
}

fn claim(object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if object.pointer("/spec/accessModes/0").is_none() {
        causes.push(required("spec.accessModes"));
    }
    if object.pointer("/spec/resources/requests/storage").is_none() {
        causes.push(required("spec.resources[storage]"));
    }
    causes
}

fn config_map(object: &Value) -> Vec<Cause> {
    let keys = object["data"].as_object().into_iter().flatten().map(|(key, _)| key);
    let good = |key: &str| {
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    let wrong = keys.filter(|key| !good(key));
    wrong
        .map(|key| {
            invalid(
                format!("data[{key}]"),
                key,
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            )
        })
        .collect()
}

fn lease(object: &Value) -> Vec<Cause> {
    let spec = &object["spec"];
    let mut causes = Vec::new();
    if let Some(seconds) = spec["leaseDurationSeconds"].as_i64().filter(|seconds| *seconds <= 0) {
        causes.push(invalid("spec.leaseDurationSeconds", &seconds.to_string(), "must be greater than 0"));
    }
    if let Some(count) = spec["leaseTransitions"].as_i64().filter(|count| *count < 0) {
        causes.push(invalid("spec.leaseTransitions", &count.to_string(), "must be greater than or equal to 0"));
    }
    causes
}
