//! Berth in the test cluster: its image there, its CRDs and manifests applied, its Deployment rolled out.
//!
//! Owns the steps and their order; the manifests are the operator's own (`berth manifests`). What builds needs no
//! lock; what touches the cluster is done under the machine-wide one.

use crate::cache::{Cache, Lock};
use crate::cluster::{self, Layout, UpArgs};
use crate::images::{self, Built, Image};
use crate::run::{Run, step};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::PathBuf;
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
    cluster::up(&cache, &lock, &UpArgs { without_helm: true, ..UpArgs::default() })?;
    install(&cache, &lock, &prepared)
}

/// The operator as it was built: the binary that prints its manifests, and its image.
pub struct Prepared {
    binary: PathBuf,
    image: Built,
}

/// Builds the operator and its image, unless they are built.
pub fn prepare(cache: &Cache) -> Result<Prepared> {
    let image = images::ensure(cache, Image::Operator)?;
    Ok(Prepared { binary: cache.target().join("debug").join("berth"), image })
}

/// Installs what was prepared, or brings an older installation to it; returns when it runs and is ready.
///
/// The image's tag follows from its content, so that a changed operator is a changed Deployment and an unchanged
/// one is left alone.
pub fn install(cache: &Cache, lock: &Lock, prepared: &Prepared) -> Result<()> {
    images::load(cache, lock, &prepared.image)?;
    let layout = Layout::new(cache)?;
    let manifests = |args: &[&str]| Run::new(&prepared.binary).arg("manifests").args(args).output();
    step("Berth: its resources", || {
        let crds = manifests(&["crds"])?;
        apply(&layout, &crds)?;
        layout.kubectl().args(["wait", "--for=condition=Established", "--timeout=60s", "-f", "-"]).input(crds).quiet()
    })?;
    step("Berth: the operator", || {
        let reference = &prepared.image.reference;
        apply(&layout, &manifests(&["install", "--namespace", NAMESPACE, "--image", reference])?)?;
        rolled_out(&layout).with_context(|| format!("the Deployment {OPERATOR} did not become ready"))
    })
}

fn apply(layout: &Layout, manifests: &str) -> Result<()> {
    let args = ["apply", "--server-side", "--force-conflicts", MANAGER, "-f", "-"];
    layout.kubectl().args(args).input(manifests).quiet()
}

fn rolled_out(layout: &Layout) -> Result<()> {
    let deployment = format!("deployment/{OPERATOR}");
    let rollout = layout.kubectl().args(["-n", NAMESPACE, "rollout", "status", &deployment, "--timeout=180s"]).output();
    rollout.map(drop).map_err(|error| {
        // What the cluster says of it is worth more than that time ran out.
        let show = |args: &[&str]| layout.kubectl().args(["-n", NAMESPACE]).args(args).output().unwrap_or_default();
        let events = show(&["get", "events", "--sort-by=.lastTimestamp", "--field-selector=type=Warning"]);
        let logs = show(&["logs", &deployment, "--tail=15"]);
        error.context(format!("pods:\n{}\nwarnings:\n{events}\nlog:\n{logs}", show(&["get", "pods"])))
    })
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
