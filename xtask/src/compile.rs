//! Compiling Berth, in the one profile that tests, image and demo share. Owns where the clone is and how cargo is
//! called from a program that cargo itself runs.

use crate::cache::Cache;
use crate::run::Run;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// What cargo tells the program that it runs about that program's package. Handed on to another cargo, it would
/// make build scripts that watch these variables run again, and all that depends on them compile again.
const ABOUT_US: [&str; 5] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_NAME", "CARGO_BIN_NAME", "CARGO_PRIMARY_PACKAGE"];

/// cargo in the clone, with the cache's target folder.
pub fn cargo(cache: &Cache) -> Run {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let run = Run::new(cargo).env("CARGO_TARGET_DIR", cache.target()).dir(root());
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
