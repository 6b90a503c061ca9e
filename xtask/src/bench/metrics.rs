//! Counting: requests by the API server's own metrics, memory and processor time by the kernel's.

use crate::cluster::Layout;
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::fs;

/// Requests that the API server has answered, by verb, group and resource.
pub struct Requests(HashMap<(String, String, String), f64>);

const WRITES: [&str; 6] = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];

impl Requests {
    /// Reads the counters as they stand.
    pub fn read(layout: &Layout) -> Result<Self> {
        let text = layout.kubectl().args(["get", "--raw", "/metrics"]).output()?;
        let mut counts = HashMap::new();
        for line in text.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
            let (labels, value) = line.rsplit_once("} ").context("a metric line ends with its value")?;
            // A dry run is no write.
            if label(labels, "dry_run").is_some_and(|dry| !dry.is_empty()) {
                continue;
            }
            let of = |name| label(labels, name).unwrap_or_default().to_owned();
            *counts.entry((of("verb"), of("group"), of("resource"))).or_default() += value.parse::<f64>()?;
        }
        Ok(Self(counts))
    }

    /// What was asked between `before` and now.
    pub fn since(&self, before: &Self) -> Self {
        let difference = |(key, count): (&(String, String, String), &f64)| {
            let spent = count - before.0.get(key).copied().unwrap_or_default();
            (spent > 0.0).then(|| (key.clone(), spent))
        };
        Self(self.0.iter().filter_map(difference).collect())
    }

    /// Writes to the kinds of `berth.dev`.
    pub fn writes_to_ours(&self) -> f64 {
        self.sum(|verb, group, _| group == "berth.dev" && WRITES.contains(&verb))
    }

    /// Writes to these resources, whoever made them.
    pub fn writes_to(&self, resources: &[&str]) -> f64 {
        self.sum(|verb, _, resource| resources.contains(&resource) && WRITES.contains(&verb))
    }

    /// Requests for the kinds of `berth.dev` that are not watches.
    pub fn ours_but_watches(&self) -> f64 {
        self.sum(|verb, group, _| group == "berth.dev" && verb != "WATCH")
    }

    fn sum(&self, counts: impl Fn(&str, &str, &str) -> bool) -> f64 {
        self.0.iter().filter(|((verb, group, resource), _)| counts(verb, group, resource)).map(|(_, count)| count).sum()
    }
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = labels.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

/// The process of the operator that leads: the one whose identity the lease names.
pub fn operator_pid(layout: &Layout) -> Result<u32> {
    let lease = ["-n", "berth-system", "get", "lease", "berth-operator", "-o", "jsonpath={.spec.holderIdentity}"];
    let holder = layout.kubectl().args(lease).output()?;
    let wanted = format!("BERTH_IDENTITY={holder}");
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()) {
            return Ok(pid);
        }
    }
    anyhow::bail!("no process of this machine is the leader {holder:?}")
}

/// The leader's resident memory.
pub fn resident_megabytes(layout: &Layout) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", operator_pid(layout)?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the kernel tells no VmRSS")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes / 1024.0)
}

/// The processor time that the leader has used.
pub fn processor_seconds(layout: &Layout) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", operator_pid(layout)?))?;
    // The program's name stands in parentheses and may hold spaces; fields are counted after it.
    let (_, fields) = stat.rsplit_once(") ").context("the kernel tells no processor time")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks: f64 = fields
        .get(11..13)
        .context("the kernel tells too little")?
        .iter()
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    Ok(ticks / f64::from(u32::try_from(rustix::param::clock_ticks_per_second())?))
}
