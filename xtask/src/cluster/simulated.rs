//! Simulated nodes: kwok, as a process of this machine, and the Node objects that it plays.

use super::layout::{Layout, SIMULATED_POD_CIDR};
use super::pki::write_if_changed;
use super::process::{self, Daemon};
use super::tools;
use crate::run::wait_until;
use anyhow::{Context, Result};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// The selector of simulated nodes.
pub const SELECTOR: &str = "type=kwok";

/// Makes the number of simulated nodes what it should be.
pub fn ensure(layout: &Layout, count: u32) -> Result<()> {
    if count > 0 {
        start(layout)?;
    }
    let present = names(layout)?;
    let wanted: BTreeSet<String> = (0..count).map(|i| format!("sim-{i}")).collect();
    let missing: Vec<_> = wanted.difference(&present).map(|name| node(name)).collect();
    if !missing.is_empty() {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": missing});
        layout.kubectl().args(["create", "-f", "-"]).input(list.to_string()).quiet()?;
    }
    let surplus: Vec<_> = present.difference(&wanted).collect();
    if !surplus.is_empty() {
        layout.kubectl().args(["delete", "node", "--wait=false"]).args(surplus).quiet()?;
    }
    if count == 0 {
        let kwok: Vec<_> = process::find(layout)?.into_iter().filter(|p| p.component == "kwok").collect();
        return process::end(&kwok, Duration::from_secs(10));
    }
    Ok(())
}

fn start(layout: &Layout) -> Result<()> {
    let stages = tools::KWOK.home(&layout.cache)?.join("stages");
    let mut files: Vec<_> = fs::read_dir(&stages)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot read {}", stages.display()))?
        .into_iter()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    let mut text = String::new();
    for file in files {
        text.push_str("---\n");
        text.push_str(&fs::read_to_string(file)?);
    }
    let config = layout.at("config/kwok.yaml");
    write_if_changed(&config, &text)?;
    Daemon::new("kwok", tools::KWOK.path(&layout.cache)?)
        .args([
            format!("--config={config}"),
            format!("--kubeconfig={}", layout.kubeconfig("kwok")),
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake".to_owned(),
            format!("--cidr={SIMULATED_POD_CIDR}"),
            "--node-ip=127.0.0.1".to_owned(),
            format!("--node-port={}", layout.ports.kwok),
            format!("--server-address=127.0.0.1:{}", layout.ports.kwok),
            "--node-lease-duration-seconds=20".to_owned(),
        ])
        .env("HOME", layout.at("config"))
        .input(config)
        .input(layout.kubeconfig("kwok"))
        .port(layout.ports.kwok)
        .ensure(layout)
}

fn names(layout: &Layout) -> Result<BTreeSet<String>> {
    let names = layout.kubectl().args(["get", "nodes", "-l", SELECTOR, "-o", "name"]).output()?;
    Ok(names.lines().map(|n| n.trim_start_matches("node/").to_owned()).collect())
}

/// A Node object. The taint keeps ordinary pods on the real node; a pod that may be simulated tolerates it.
fn node(name: &str) -> serde_json::Value {
    let room = json!({"cpu": "32", "memory": "256Gi", "pods": "1000", "ephemeral-storage": "1Ti"});
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
            "labels": {
                "type": "kwok",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/role": "agent",
                "node-role.kubernetes.io/agent": "",
            },
        },
        "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
        "status": {
            "allocatable": room,
            "capacity": room,
            "nodeInfo": {
                "architecture": "amd64", "operatingSystem": "linux", "kubeletVersion": "simulated",
                "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
                "machineID": "", "osImage": "", "systemUUID": "",
            },
            "phase": "Running",
        },
    })
}

/// Waits until every simulated node is Ready.
pub fn wait(layout: &Layout, count: u32) -> Result<()> {
    wait_until("the simulated nodes are ready", Duration::from_secs(60), || {
        process::must_run(layout, "kwok", "kwok")?;
        Ok(super::status::ready_nodes(layout)?.iter().filter(|n| n.starts_with("sim-")).count() >= count as usize)
    })
    .with_context(|| format!("see {}", layout.log("kwok").display()))
}
