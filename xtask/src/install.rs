//! Berth in the test cluster: its image there, its chart installed, its Deployment rolled out.
//!
//! Owns the steps and their order; what is installed is the chart's. What builds needs no lock; what touches the
//! cluster is done under the machine-wide one.

use crate::cache::{Cache, Lock};
use crate::chart;
use crate::cluster::{self, Layout, UpArgs};
use crate::images::{self, Built, Image};
use crate::run::{Run, step};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// The namespace that Berth is installed into.
pub const NAMESPACE: &str = "berth-system";
/// The operator's Deployment, and its lease.
pub const OPERATOR: &str = "berth-operator";
/// What the API server calls the writer of the installed objects.
const MANAGER: &str = "--field-manager=berth-install";

/// Runs `cargo xtask install`.
pub fn main() -> Result<()> {
    let cache = Cache::open()?;
    let prepared = prepare(&cache)?;
    let lock = cache.lock("install")?;
    cluster::up(&cache, &lock, &UpArgs::default())?;
    install(&cache, &lock, &prepared)
}

/// The operator's image, as it was built.
pub struct Prepared {
    image: Built,
}

/// Builds the operator and its image, unless they are built.
pub fn prepare(cache: &Cache) -> Result<Prepared> {
    Ok(Prepared { image: images::ensure(cache, Image::Operator)? })
}

/// Builds the image around this program, unless it is built.
pub fn prepare_program(cache: &Cache, program: &Path) -> Result<Prepared> {
    Ok(Prepared { image: images::of_program(cache, program)? })
}

/// Installs what was prepared, or brings an older installation to it; returns when it runs and is ready.
///
/// The image's tag follows from its content, so that a changed operator is a changed Deployment and an unchanged
/// one is left alone.
pub fn install(cache: &Cache, lock: &Lock, prepared: &Prepared) -> Result<()> {
    images::load(cache, lock, &prepared.image)?;
    let layout = Layout::new(cache)?;
    step("Berth: the chart", || {
        let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE, "labels": labels },
        });
        let args = ["apply", "--server-side", "--force-conflicts", MANAGER, "-f", "-"];
        layout.kubectl().args(args).input(namespace.to_string()).quiet()?;
        let values = [format!("config.gateway.sshUserCa[0]={}", authority(&layout)?)];
        let installed = chart::install(cache, &layout.admin(), NAMESPACE, &prepared.image.reference, &values);
        installed.map_err(|error| explained(&layout, error))
    })?;
    // Ready is one thing, and that one of them leads another.
    step("Berth: the operator", || leader(&layout).map(drop))
}

/// The public key of the authority that stands in for the gateway's until there is one: whoever has the cluster has its
/// private key, and gets into terminals with it.
fn authority(layout: &Layout) -> Result<String> {
    let key = layout.state().join("ssh-user-ca");
    if !key.exists() {
        Run::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "berth-test-ca", "-f"])
            .arg(&key)
            .quiet()?;
    }
    let public = std::fs::read_to_string(key.with_extension("pub")).context("the authority has no public key")?;
    Ok(public.trim().to_owned())
}

/// What the cluster says of an operator that did not become ready is worth more than that time ran out.
fn explained(layout: &Layout, error: anyhow::Error) -> anyhow::Error {
    let show = |args: &[&str]| layout.kubectl().args(["-n", NAMESPACE]).args(args).output().unwrap_or_default();
    let events = show(&["get", "events", "--sort-by=.lastTimestamp", "--field-selector=type=Warning"]);
    let logs = show(&["logs", &format!("deployment/{OPERATOR}"), "--tail=15"]);
    error.context(format!("pods:\n{}\nwarnings:\n{events}\nlog:\n{logs}", show(&["get", "pods"])))
}

/// Waits until one of the installed operators leads, and returns its pod's name. Another process that holds the
/// lease, such as an operator on a developer's machine, would do the work in its place.
pub fn leader(layout: &Layout) -> Result<String> {
    // A lease that nobody gave up runs out after 15 s.
    let limit = Duration::from_secs(60);
    let begun = Instant::now();
    loop {
        let holder = holder(layout)?;
        let pods = pods(layout)?;
        if pods.contains(&holder) {
            return Ok(holder);
        }
        if begun.elapsed() > limit {
            bail!(
                "no pod of the Deployment {OPERATOR} leads: the lease {NAMESPACE}/{OPERATOR} is held by `{holder}`, \
                 the pods are {pods:?}; end the other operator"
            );
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn holder(layout: &Layout) -> Result<String> {
    let lease = layout.kubectl().args(["-n", NAMESPACE, "get", "lease", OPERATOR, "--ignore-not-found", "-o", "json"]);
    let text = lease.output()?;
    let lease: Value = if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text)? };
    Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
}

fn pods(layout: &Layout) -> Result<Vec<String>> {
    let selector = format!("--selector=app.kubernetes.io/name={OPERATOR}");
    let text = layout.kubectl().args(["-n", NAMESPACE, "get", "pods", &selector, "-o", "json"]).output()?;
    let list: Value = serde_json::from_str(&text)?;
    let running =
        list["items"].as_array().into_iter().flatten().filter(|p| p["metadata"]["deletionTimestamp"].is_null());
    Ok(running.filter_map(|p| Some(p["metadata"]["name"].as_str()?.to_owned())).collect())
}
