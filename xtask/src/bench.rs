//! `cargo xtask bench`: brings simulated nodes to the cluster and Berth into it, and hands over to the benchmark, which is a
//! program of its own (`bench/`): it needs a client of the API server, and this one has none. Owns which build is measured.

use crate::cache::Cache;
use crate::cluster::{self, Layout, UpArgs};
use crate::run::Run;
use crate::{compile, install, release};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

/// How many simulated nodes sessions are spread over.
const NODES: u32 = 40;

/// Options of `cargo xtask bench`: those of the benchmark, which says them.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// What the benchmark is told; `--help` lists it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    options: Vec<OsString>,
}

/// What is measured, and what measures it.
struct Programs {
    operator: PathBuf,
    bench: PathBuf,
}

/// Runs the benchmark on the cluster.
pub fn main(args: &Args) -> Result<ExitCode> {
    let cache = Cache::open()?;
    let has = |names: &[&str]| args.options.iter().any(|option| names.iter().any(|name| option == name));
    if has(&["--help", "-h", "--list"]) {
        return compile::cargo(&cache)
            .args(["run", "--quiet", "--locked", "--bin", "bench", "--"])
            .args(&args.options)
            .code();
    }
    // Counts are the same in every build. Times and memory are those of the build that people install, on both sides.
    let (programs, layout) = if has(&["--smoke"]) { installed(&cache)? } else { optimised(&cache)? };
    // The gateway that is measured is a process beside the benchmark, as the installed one is made.
    let run = Run::new(programs.bench).dir(compile::root()).args(&args.options);
    run.env("KUBECONFIG", layout.admin()).env("BERTH_BINARY", programs.operator).code()
}

/// The build of the tests, as it is installed.
fn installed(cache: &Cache) -> Result<(Programs, Layout)> {
    let built = compile::cargo(cache).args(["build", "--quiet", "--locked", "--bin", "bench", "--bin", "berth"]);
    built.log(cache.logs().join("bench-build.log")).quiet()?;
    let folder = cache.target().join("debug");
    let layout = {
        let lock = cache.lock("bench")?;
        cluster::up(cache, &lock, &UpArgs { simulated: Some(NODES), without_helm: true, ..UpArgs::default() })?
    };
    install::leader(&layout).context("Berth must be installed in the cluster: `cargo xtask install`")?;
    Ok((Programs { operator: folder.join("berth"), bench: folder.join("bench") }, layout))
}

/// The build of a release, installed in place of whatever was.
fn optimised(cache: &Cache) -> Result<(Programs, Layout)> {
    let folder = release::programs(cache, &["berth", "berth-bench"])?;
    let (operator, bench) = (folder.join("berth"), folder.join("bench"));
    let prepared = install::prepare_program(cache, &operator)?;
    let lock = cache.lock("bench")?;
    let layout = cluster::up(cache, &lock, &UpArgs { simulated: Some(NODES), ..UpArgs::default() })?;
    install::install(cache, &lock, &prepared)?;
    Ok((Programs { operator, bench }, layout))
}
