//! What the API server and its admission write into new objects of built-in kinds. Owns those defaults, as far as
//! Berth or an actor reads them.

use serde_json::{Map, Value, json};

use crate::apiserver::State;
use crate::apiserver::call::Call;
use crate::apiserver::meta::{edit, finalizers, set};

/// Fills in a new object.
pub(super) fn created(state: &State, call: &Call, object: &mut Value) {
    match call.kind.kind.as_str() {
        "Pod" => pod(object),
        "PersistentVolumeClaim" => claim(state, object),
        "Namespace" => {
            object["spec"] = json!({ "finalizers": ["kubernetes"] });
            object["status"] = json!({ "phase": "Active" });
            let name = object["metadata"]["name"].clone();
            edit(&mut object["metadata"]["labels"], |labels| {
                labels.insert("kubernetes.io/metadata.name".to_owned(), name)
            });
        }
        _ => {}
    }
}

/// Sets a field that is not there.
fn default(map: &mut Map<String, Value>, field: &str, value: Value) {
    map.entry(field).or_insert(value);
}

fn pod(object: &mut Value) {
    edit(&mut object["spec"], |spec| {
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
    });
    object["status"] = json!({ "phase": "Pending", "qosClass": "BestEffort" });
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

fn claim(state: &State, object: &mut Value) {
    let class = state
        .store
        .all("storageclasses.storage.k8s.io")
        .find(|(_, class)| class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true");
    let class = class.map(|(key, _)| json!(key.name));
    edit(&mut object["spec"], |spec| {
        default(spec, "volumeMode", json!("Filesystem"));
        if let Some(class) = class {
            default(spec, "storageClassName", class);
        }
    });
    object["status"] = json!({ "phase": "Pending" });
    let mut names = finalizers(object);
    if !names.iter().any(|name| name == "kubernetes.io/pvc-protection") {
        names.push("kubernetes.io/pvc-protection".to_owned());
    }
    set(object, "finalizers", json!(names));
}

/// Sets a condition of a pod, in place of the one of its type.
pub(crate) fn condition(pod: &mut Value, condition: &Value) {
    edit(&mut pod["status"], |status| {
        let conditions = status.entry("conditions").or_insert_with(|| json!([]));
        let Some(conditions) = conditions.as_array_mut() else { return };
        match conditions.iter_mut().find(|stands| stands["type"] == condition["type"]) {
            Some(stands) => *stands = condition.clone(),
            None => conditions.push(condition.clone()),
        }
    });
}
