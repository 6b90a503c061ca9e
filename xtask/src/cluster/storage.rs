//! Volumes: the storage classes, and the provisioner that makes claims real on the real node.
//!
//! On the real node a volume is a folder under the cluster's state, made and removed by the provisioner's helper
//! pod. On simulated nodes kwok binds claims of the class `kwok-volume` to volumes that hold nothing.

use super::layout::{BUSYBOX_IMAGE, Layout};
use super::pki::write_if_changed;
use super::process::Daemon;
use super::tools;
use anyhow::Result;
use serde_json::{Value, json};

/// The storage class of volumes on the real node.
pub const CLASS: &str = "berth-local";
/// The storage class of simulated volumes; kwok's stages know it by this name.
pub const SIMULATED_CLASS: &str = "kwok-volume";
const NAMESPACE: &str = "berth-storage";
const PROVISIONER: &str = "berth.dev/local";

/// The objects that claims need: storage classes, and what the provisioner's helper pod runs.
pub fn objects(real_node: bool) -> Vec<Value> {
    let class = |name: &str, provisioner: &str, binding: &str, default: bool| {
        json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": name,
                "annotations": {"storageclass.kubernetes.io/is-default-class": default.to_string()},
            },
            "provisioner": provisioner,
            "reclaimPolicy": "Delete",
            "volumeBindingMode": binding,
        })
    };
    let scripts = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "scripts", "namespace": NAMESPACE},
        "data": {
            "setup": "#!/bin/sh\nset -eu\nmkdir -m 0777 -p \"$VOL_DIR\"\n",
            "teardown": "#!/bin/sh\nset -eu\nrm -rf \"$VOL_DIR\"\n",
        },
    });
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        scripts,
        class(CLASS, PROVISIONER, "WaitForFirstConsumer", real_node),
        class(SIMULATED_CLASS, "kwok.x-k8s.io/volume", "Immediate", !real_node),
    ]
}

/// Starts the provisioner.
pub fn start(layout: &Layout) -> Result<()> {
    let (config, helper) = (layout.at("config/storage.json"), layout.at("config/storage-helper.json"));
    let paths = json!({
        "nodePathMap": [
            {"node": super::layout::NODE, "paths": [layout.at("node/volumes")]},
        ],
        "cmdTimeoutSeconds": 60,
    });
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "volume"},
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "volume", "image": BUSYBOX_IMAGE, "imagePullPolicy": "Never"}],
        },
    });
    write_if_changed(&config, &paths.to_string())?;
    write_if_changed(&helper, &pod.to_string())?;
    Daemon::new("local-path-provisioner", tools::PROVISIONER.path(&layout.cache)?)
        .args([
            "start".to_owned(),
            format!("--config={config}"),
            format!("--helper-pod-file={helper}"),
            format!("--kubeconfig={}", layout.kubeconfig("provisioner")),
            format!("--provisioner-name={PROVISIONER}"),
            format!("--namespace={NAMESPACE}"),
            "--configmap-name=scripts".to_owned(),
            "--service-account-name=default".to_owned(),
            format!("--helper-image={BUSYBOX_IMAGE}"),
        ])
        .input(config)
        .input(helper)
        .input(layout.kubeconfig("provisioner"))
        .ensure(layout)
}
