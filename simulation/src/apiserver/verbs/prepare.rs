//! What the API server's admission and strategies write into new objects of built-in kinds, as far as Berth or an actor
//! reads it; defaults of fields are `validate::defaults`'.

use serde_json::{Value, json};

use crate::apiserver::call::Call;
use crate::apiserver::meta::{edit, finalizers, set};
use crate::apiserver::{State, validate};

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
        // What came as a status was dropped.
        _ => validate::complete(call, object),
    }
}

fn pod(object: &mut Value) {
    edit(&mut object["spec"], |spec| {
        let account = spec.entry("serviceAccountName").or_insert_with(|| json!("default")).clone();
        spec.insert("serviceAccount".to_owned(), account);
        let patience = |key: &str| json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
        let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
        if let Some(tolerations) = tolerations.as_array_mut() {
            tolerations.extend([patience("not-ready"), patience("unreachable")]);
        }
    });
    object["status"] = json!({ "phase": "Pending", "qosClass": "BestEffort" });
}

fn claim(state: &State, object: &mut Value) {
    let class = state
        .store
        .all("storageclasses.storage.k8s.io")
        .find(|(_, class)| class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true");
    let class = class.map(|(key, _)| json!(key.name));
    if let Some(class) = class {
        edit(&mut object["spec"], |spec| {
            spec.entry("storageClassName").or_insert(class);
        });
    }
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
