//! The Debian packages that the real node stands on.

use crate::cache::Cache;
use crate::run::{Run, step};
use anyhow::{Result, bail};
use std::path::Path;

/// A package, and a file by which it is known to be there, whoever installed it.
const PACKAGES: [(&str, &str); 10] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("containernetworking-plugins", "/usr/lib/cni/bridge"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("nftables", "nft"),
    ("socat", "socat"),
    ("busybox-static", "/bin/busybox"),
    ("iproute2", "ip"),
    ("tini", "tini"),
];

/// The folders that programs are looked for in.
const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Installs what is missing.
pub fn ensure(cache: &Cache) -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !present("apt-get") {
        bail!("the real node needs these Debian packages, or what they hold: {list}");
    }
    step(&format!("Debian packages: {list}"), || {
        let apt = || {
            Run::new("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .log(cache.logs().join("packages.log"))
                .advice(format!("install by hand: {list}"))
        };
        // A run that was killed here leaves packages unpacked but not set up.
        Run::new("dpkg").args(["--configure", "-a"]).log(cache.logs().join("packages.log")).quiet()?;
        apt().args(["-o", "DPkg::Lock::Timeout=300", "update"]).quiet()?;
        apt()
            .args(["-o", "DPkg::Lock::Timeout=300", "install", "--yes", "--no-install-recommends"])
            .args(&missing)
            .quiet()
    })
}

/// The names of the packages that are not there.
pub fn missing() -> Vec<&'static str> {
    PACKAGES.iter().filter(|(_, file)| !present(file)).map(|(name, _)| *name).collect()
}

fn present(file: &str) -> bool {
    if file.starts_with('/') {
        return Path::new(file).exists();
    }
    FOLDERS.iter().any(|folder| Path::new(folder).join(file).exists())
}
