//! `cargo xtask generate`: writes the files that are made from the code. Owns which they are; a test of the
//! berth package says when one has drifted.

use crate::cache::Cache;
use crate::run::{Run, step};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Writes all generated files anew.
pub fn run() -> Result<()> {
    let root = root()?;
    let cache = Cache::open()?;
    step("generating crds/ and the tables in docs/", || {
        let berth = build(&cache, &root)?;
        Run::new(&berth).args(["manifests", "crds", "--dir"]).arg(root.join("crds")).quiet()?;
        let table = Run::new(&berth).args(["docs", "states"]).output()?;
        replace_between(&root.join("docs/states.md"), "matrix", &table)
    })
}

/// Builds the operator in the one profile that tests, demo and image share; returns the binary.
pub fn build(cache: &Cache, root: &Path) -> Result<PathBuf> {
    cargo(cache, root).args(["build", "--quiet", "--bin", "berth"]).log(cache.logs().join("build.log")).quiet()?;
    Ok(cache.target().join("debug").join("berth"))
}

/// cargo with the cache's target folder.
pub fn cargo(cache: &Cache, root: &Path) -> Run {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Run::new(cargo).env("CARGO_TARGET_DIR", cache.target()).dir(root)
}

/// The repository's folder: the one that `cargo xtask` was called in, since clones share the cache's target folder
/// and so may share the binary.
pub fn root() -> Result<PathBuf> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Ok(Path::new(&manifest).parent().context("xtask lies in the repository")?.to_owned())
}

/// Replaces what stands between `<!-- name -->` and `<!-- /name -->`.
fn replace_between(path: &Path, name: &str, text: &str) -> Result<()> {
    let page = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (open, close) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let marks = page.split_once(&open).and_then(|(head, rest)| rest.split_once(&close).map(|(_, tail)| (head, tail)));
    let (head, tail) = marks.with_context(|| format!("{} has no marks {open} and {close}", path.display()))?;
    fs::write(path, format!("{head}{open}\n{}\n{close}{tail}", text.trim()))?;
    Ok(())
}
