//! What is up and what is not.

use super::control;
use super::layout::{Layout, NODE};
use super::node;
use super::process;
use super::wanted::Wanted;
use crate::run::Run;
use anyhow::Result;
use serde_json::Value;
use std::path::Path;

/// One line of the table.
pub struct Part {
    /// What it is.
    pub name: String,
    /// Whether it does its work.
    pub up: bool,
    /// The details, or what is wrong.
    pub note: String,
}

impl Part {
    fn new(name: impl Into<String>, up: bool, note: impl Into<String>) -> Self {
        Self { name: name.into(), up, note: note.into() }
    }
}

/// Looks at every part that should be there.
pub fn look(layout: &Layout, wanted: &Wanted) -> Result<Vec<Part>> {
    if let Some(kubeconfig) = &wanted.kubeconfig {
        let ready = external(layout, kubeconfig).args(["get", "--raw", "/readyz"]).succeeds();
        return Ok(vec![Part::new("API server", ready, format!("an existing cluster, by {kubeconfig}"))]);
    }
    let mut parts = Vec::new();
    let (api, controllers, scheduler, nodes) = std::thread::scope(|scope| {
        let api = scope.spawn(|| control::ready(layout));
        let controllers = scope.spawn(|| healthy(layout, layout.ports.controller_manager));
        let scheduler = scope.spawn(|| healthy(layout, layout.ports.scheduler));
        let nodes = ready_nodes(layout).unwrap_or_default();
        let joined = |handle: std::thread::ScopedJoinHandle<'_, bool>| handle.join().unwrap_or(false);
        (joined(api), joined(controllers), joined(scheduler), nodes)
    });
    let mut process = |name: &str, program: &str, well: bool, note: &str| -> Result<()> {
        parts.push(match process::of(layout, name, program)? {
            Some(p) => {
                let age = process::age(p.pid).unwrap_or_default();
                let note = if well { note.to_owned() } else { format!("not well; see {}", layout.log(name).display()) };
                Part::new(name, well, format!("pid {}, up {}, {note}", p.pid, duration(age)))
            }
            None => Part::new(name, false, format!("not running; log: {}", layout.log(name).display())),
        });
        Ok(())
    };
    process("etcd", "etcd", true, "")?;
    process("kube-apiserver", "kube-apiserver", api, &layout.api_url())?;
    process("kube-controller-manager", "kube-controller-manager", controllers, "healthy")?;
    process("kube-scheduler", "kube-scheduler", scheduler, "healthy")?;
    if wanted.node {
        process("node-box", "tini", true, "namespaces")?;
        process("containerd", "containerd", true, "")?;
        process("kubelet", "kubelet", true, "")?;
        process("kube-proxy", "kube-proxy", true, "")?;
        process("local-path-provisioner", "local-path-provisioner", true, "")?;
    }
    if wanted.simulated > 0 {
        process("kwok", "kwok", true, "")?;
    }
    if wanted.node {
        let ready = nodes.iter().any(|n| n == NODE) && node::init(layout)?.is_some();
        parts.push(Part::new(format!("node {NODE}"), ready, if ready { "Ready" } else { "not Ready" }));
    }
    if wanted.simulated > 0 {
        let ready = nodes.iter().filter(|n| n.starts_with("sim-")).count();
        let all = ready == wanted.simulated as usize;
        parts.push(Part::new("simulated nodes", all, format!("{ready} of {} Ready", wanted.simulated)));
    }
    Ok(parts)
}

/// The names of the nodes that are Ready.
pub fn ready_nodes(layout: &Layout) -> Result<Vec<String>> {
    let text = layout.kubectl().args(["--request-timeout=5s", "get", "nodes", "-o", "json"]).output()?;
    let list: Value = serde_json::from_str(&text)?;
    let ready = |node: &Value| {
        let conditions = node["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let nodes = list["items"].as_array().into_iter().flatten();
    Ok(nodes.filter(|n| ready(n)).filter_map(|n| Some(n["metadata"]["name"].as_str()?.to_owned())).collect())
}

/// Asks a part's own health endpoint, which shows the API server's certificate.
fn healthy(layout: &Layout, port: u16) -> bool {
    let server = format!("--server=https://127.0.0.1:{port}");
    layout.kubectl().args([&server, "--request-timeout=5s", "get", "--raw", "/healthz"]).succeeds()
}

/// `kubectl` for a cluster that was there before.
pub fn external(layout: &Layout, kubeconfig: &str) -> Run {
    layout.run(layout.bin().join("kubectl")).env("KUBECONFIG", kubeconfig).arg("--request-timeout=10s")
}

/// Prints the table.
pub fn print(layout: &Layout, parts: &[Part]) {
    for part in parts {
        println!("{:<26} {:<5} {}", part.name, if part.up { "up" } else { "DOWN" }, part.note.trim_end_matches(", "));
    }
    println!("state: {}", shown(layout.state()));
    println!("cache: {}", shown(layout.cache.root()));
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}
