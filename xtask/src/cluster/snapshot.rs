//! What this machine has of the things that a cluster makes, so that before and after can be compared.
//!
//! Other programs come and go meanwhile. A new process counts only when nothing that was there before is its parent,
//! grandparent and so on: what a cluster leaves behind is an orphan.

use super::node::hierarchies;
use super::process::state_and_start;
use crate::run::Run;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// One look at the machine: for each kind of thing, a line for each thing of that kind.
pub struct Snapshot {
    processes: BTreeMap<(i32, u64), Process>,
    things: BTreeMap<&'static str, BTreeSet<String>>,
    cgroups: BTreeSet<String>,
}

struct Process {
    parent: i32,
    line: String,
    network: String,
}

impl Snapshot {
    /// Looks at the machine.
    pub fn take(state: &Path) -> Result<Self> {
        let mut things: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
        let mut add = |kind, lines: Vec<String>| things.entry(kind).or_default().extend(lines);
        add("mount", mounts()?);
        add("link", command("ip", &["-o", "link"], |l| l.split(": ").nth(1).map(str::to_owned)));
        add("address", command("ip", &["-o", "address"], |l| l.split("valid_lft").next().map(str::to_owned)));
        add("route", command("ip", &["route", "show", "table", "all"], |l| Some(l.to_owned())));
        add(
            "route",
            command("ip", &["-6", "route", "show", "table", "all"], |l| {
                Some(l.split(" expires ").next().unwrap_or(l).to_owned())
            }),
        );
        add("rule", command("ip", &["rule"], |l| Some(l.to_owned())));
        add("network namespace", names("/run/netns"));
        add("nftables line", numbered("nft", &["list", "ruleset"]));
        for program in ["iptables-save", "ip6tables-save"] {
            add(
                "iptables line",
                command(program, &[], |l| {
                    // Comments hold the time, and brackets counts of packets.
                    (!l.starts_with('#')).then(|| l.split(" [").next().unwrap_or(l).to_owned())
                }),
            );
        }
        add("kernel setting", settings());
        for folder in
            ["/etc", "/etc/cni", "/run", "/run/containerd", "/var/lib", "/var/log", "/var/run", "/opt", "/usr/libexec"]
        {
            add("file", names(folder));
        }
        add("file", state.parent().map(|cache| names(&cache.to_string_lossy())).unwrap_or_default());
        Ok(Self { processes: processes(), things, cgroups: cgroups()? })
    }

    /// What is different now, one line for each thing.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let orphans: Vec<_> = now
            .processes
            .iter()
            .filter(|(key, _)| !self.processes.contains_key(key) && self.is_orphan(now, key.0))
            .collect();
        let spaces: BTreeSet<_> = self.processes.values().map(|p| p.network.as_str()).collect();
        for ((pid, _), process) in orphans {
            let elsewhere = if spaces.contains(process.network.as_str()) { "" } else { " (in a network namespace)" };
            lines.push(format!("new process: {pid} {}{elsewhere}", process.line));
        }
        for (kind, after) in &now.things {
            let before = self.things.get(kind).cloned().unwrap_or_default();
            lines.extend(after.difference(&before).map(|thing| format!("new {kind}: {thing}")));
            lines.extend(before.difference(after).map(|thing| format!("lost {kind}: {thing}")));
        }
        // A new cgroup with processes in it is somebody's; one that the cluster left is empty, or its processes show.
        let left = now.cgroups.difference(&self.cgroups).filter(|folder| is_empty(Path::new(folder)));
        lines.extend(left.map(|folder| format!("new cgroup: {folder}")));
        lines
    }

    /// Whether no process that was there before stands above this one, the machine's first process aside.
    fn is_orphan(&self, now: &Self, pid: i32) -> bool {
        let mut at = pid;
        for _ in 0..64 {
            let Some((key, process)) = now.processes.iter().find(|(key, _)| key.0 == at) else {
                return true;
            };
            if at == 1 {
                return true;
            }
            if self.processes.contains_key(key) {
                return false;
            }
            at = process.parent;
        }
        true
    }
}

fn processes() -> BTreeMap<(i32, u64), Process> {
    let mut found = BTreeMap::new();
    for name in names("/proc") {
        let Some(pid) = name.rsplit('/').next().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        let Some((state, started)) = state_and_start(pid) else {
            continue;
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|l| l.strip_prefix("PPid:")?.trim().parse().ok()).unwrap_or(0);
        // Kernel threads come and go as they like, and what has ended waits for its parent alone.
        if state == 'Z' || pid == 2 || parent == 2 {
            continue;
        }
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
        let network = fs::read_link(format!("/proc/{pid}/ns/net")).map(|l| l.display().to_string()).unwrap_or_default();
        found.insert((pid, started), Process { parent, line, network });
    }
    found
}

fn mounts() -> Result<Vec<String>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    // Root, place and what is mounted; the numbers in front change.
    Ok(text.lines().map(|l| l.split(' ').skip(3).filter(|f| !f.contains(':')).collect::<Vec<_>>().join(" ")).collect())
}

fn command(program: &str, args: &[&str], line: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let text = Run::new(program).args(args).output().unwrap_or_default();
    text.lines().filter_map(line).collect()
}

/// Lines that may repeat, told apart by a count.
fn numbered(program: &str, args: &[&str]) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for line in command(program, args, |l| Some(l.trim().to_owned())) {
        *counts.entry(line).or_default() += 1;
    }
    counts.into_iter().map(|(line, count)| format!("{line} × {count}")).collect()
}

fn settings() -> Vec<String> {
    let names = [
        "vm/overcommit_memory",
        "vm/panic_on_oom",
        "kernel/panic",
        "kernel/panic_on_oops",
        "kernel/keys/root_maxkeys",
        "kernel/keys/root_maxbytes",
        "net/ipv4/ip_forward",
        "net/ipv4/conf/all/forwarding",
        "net/ipv4/conf/all/route_localnet",
        "net/ipv6/conf/all/forwarding",
        "net/bridge/bridge-nf-call-iptables",
        "net/netfilter/nf_conntrack_max",
    ];
    let read = |name| fs::read_to_string(format!("/proc/sys/{name}")).unwrap_or_default();
    names.iter().map(|name| format!("{name} = {}", read(name).trim())).collect()
}

fn names(folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries.flatten().map(|e| e.path().display().to_string()).collect()
}

fn cgroups() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut folders = hierarchies()?;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.insert(entry.path().display().to_string());
                folders.push(entry.path());
            }
        }
    }
    Ok(found)
}

fn is_empty(folder: &Path) -> bool {
    let own = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let below = fs::read_dir(folder).into_iter().flatten().flatten();
    folder.exists()
        && own.trim().is_empty()
        && below.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).all(|e| is_empty(&e.path()))
}
