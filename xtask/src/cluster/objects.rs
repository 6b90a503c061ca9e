//! The objects that every cluster has from the start, applied once per cluster.

use super::layout::{DNS_ADDRESS, Layout};
use super::pki::write_if_changed;
use super::storage;
use anyhow::Result;
use serde_json::json;
use std::fs;

/// Declares them. The note of what was applied is written after the fact, and lies beside the cluster's data: they
/// go together.
pub fn ensure(layout: &Layout, real_node: bool) -> Result<()> {
    let mut items = storage::objects(real_node);
    // A Service without endpoints refuses connections; an address without a Service lets them wait.
    items.push(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "no-dns", "namespace": "kube-system"},
        "spec": {
            "clusterIP": DNS_ADDRESS,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
            ],
        },
    }));
    let text = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let note = layout.at("applied/objects.json");
    if fs::read_to_string(&note).is_ok_and(|applied| applied == text) {
        return Ok(());
    }
    layout
        .kubectl()
        .args(["apply", "--server-side", "--force-conflicts", "--field-manager=berth-cluster", "-f", "-"])
        .input(text.clone())
        .quiet()?;
    write_if_changed(&note, &text)
}
