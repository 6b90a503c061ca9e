//! Compiling Berth, in the one profile that tests, image and demo share. Owns where the clone is and how cargo is
//! called from a program that cargo itself runs.

use crate::cache::Cache;
use crate::run::{Run, step};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// What cargo tells the program that it runs about that program's package. Handed on to another cargo, it would
/// make build scripts that watch these variables run again, and all that depends on them compile again.
const ABOUT_US: [&str; 5] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_NAME", "CARGO_BIN_NAME", "CARGO_PRIMARY_PACKAGE"];

/// cargo in the clone, with the cache's target folder.
pub fn cargo(cache: &Cache) -> Run {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    as_by_hand(Run::new(cargo)).env("CARGO_TARGET_DIR", cache.target()).dir(root())
}

/// A tool of cargo's in this version, built from its package on first use.
///
/// # Errors
/// When it does not compile, or cannot be fetched.
pub fn tool(cache: &Cache, name: &str, version: &str) -> Result<PathBuf> {
    let folder = cache.tools(&format!("{name}-{version}"));
    let tool = folder.join("bin").join(name);
    if !tool.exists() {
        let exactly = format!("={version}");
        // Its own target folder goes with it: nothing of it is used again.
        let install = ["install", name, "--version", &exactly, "--locked", "--debug", "--quiet", "--root"];
        step(&format!("{name}: building from its package, on first use only"), || {
            cargo(cache).args(install).arg(&folder).quiet()
        })?;
    }
    Ok(tool)
}

/// What is run as if a person had called it, and not a program that cargo runs.
pub fn as_by_hand(run: Run) -> Run {
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    let ours = names.filter(|name| ABOUT_US.iter().any(|about| name.starts_with(about)));
    ours.fold(run, |run, name| run.without_env(&name))
}

/// Builds the operator, with what cargo says in this log file; returns the binary.
///
/// # Errors
/// When it does not compile.
pub fn operator(cache: &Cache, log: &str) -> Result<PathBuf> {
    cargo(cache).args(["build", "--quiet", "--locked", "--bin", "berth"]).log(cache.logs().join(log)).quiet()?;
    Ok(cache.target().join("debug").join("berth"))
}

/// The repository's folder: the one that `cargo xtask` was called in, since clones share the cache's target folder
/// and so may share the binary.
pub fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    // xtask lies in it.
    Path::new(&manifest).parent().map(Path::to_path_buf).unwrap_or_default()
}
