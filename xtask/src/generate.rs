//! `cargo xtask generate`: writes the files that are made from the code. Owns which they are; a test of the
//! berth package says when one has drifted.

use crate::cache::Cache;
use crate::chart;
use crate::compile;
use crate::run::{Run, step};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Writes all generated files anew.
pub fn run() -> Result<()> {
    let root = compile::root();
    let cache = Cache::open()?;
    step("generating crds/, and the tables and the reference in docs/", || {
        let berth = compile::operator(&cache, "build.log")?;
        Run::new(&berth).args(["manifests", "crds", "--dir"]).arg(root.join("crds")).quiet()?;
        let policies = Run::new(&berth).args(["manifests", "admission"]).output()?;
        fs::write(root.join("manifests/admission.yaml"), policies).context("cannot write manifests/admission.yaml")?;
        let table = Run::new(&berth).args(["docs", "states"]).output()?;
        replace_between(&root.join("docs/states.md"), "matrix", &table)?;
        let reference = Run::new(&berth).args(["docs", "reference"]).output()?;
        fs::write(root.join("docs/reference.md"), reference).context("cannot write docs/reference.md")
    })?;
    chart::generate(&cache)
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
