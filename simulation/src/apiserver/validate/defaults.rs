//! Defaults of built-in kinds. Owns those that a comparison with a real API server shows.

use serde_json::{Map, Value, json};

use crate::apiserver::kinds::Kind;
use crate::apiserver::meta::edit;

/// Adds what a built-in kind writes though it was not said.
pub(super) fn complete(kind: &Kind, object: &mut Value) {
    match kind.kind.as_str() {
        "Pod" => edit(&mut object["spec"], pod),
        "PersistentVolumeClaim" => edit(&mut object["spec"], |spec| default(spec, "volumeMode", json!("Filesystem"))),
        "Lease" => edit(&mut object["spec"], |_| ()),
        _ => {}
    }
}

/// Sets a field that is not there.
fn default(map: &mut Map<String, Value>, field: &str, value: Value) {
    map.entry(field).or_insert(value);
}

fn pod(spec: &mut Map<String, Value>) {
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("securityContext", json!({})),
        ("enableServiceLinks", json!(true)),
        ("priority", json!(0)),
        ("preemptionPolicy", json!("PreemptLowerPriority")),
    ] {
        default(spec, field, value);
    }
    for field in ["initContainers", "containers"] {
        for container in spec.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
            edit(container, container_defaults);
        }
    }
}

fn container_defaults(container: &mut Map<String, Value>) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let latest = !image.rsplit('/').next().unwrap_or_default().contains(':') || image.ends_with(":latest");
    let pull = if latest { "Always" } else { "IfNotPresent" };
    default(container, "imagePullPolicy", json!(pull));
    default(container, "resources", json!({}));
    default(container, "terminationMessagePath", json!("/dev/termination-log"));
    default(container, "terminationMessagePolicy", json!("File"));
}
