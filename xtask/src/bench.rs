//! `cargo xtask bench`: brings simulated nodes to the cluster, and hands over to the benchmark, which is a program of its
//! own (`bench/`): it needs a client of the API server, and this one has none.

use crate::cache::Cache;
use crate::cluster::{self, Layout, UpArgs};
use crate::compile;
use crate::install;
use anyhow::{Context, Result};
use std::ffi::OsString;
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

/// Runs the benchmark on the cluster.
pub fn main(args: &Args) -> Result<ExitCode> {
    let cache = Cache::open()?;
    let asks = |option: &OsString| option == "--help" || option == "-h" || option == "--list";
    let mut run = compile::cargo(&cache).args(["run", "--quiet", "--locked", "--bin", "bench", "--"]);
    if !args.options.iter().any(asks) {
        let layout = prepare(&cache)?;
        // The gateway that is measured is a process beside the benchmark, as the installed one is made.
        run = run.env("KUBECONFIG", layout.admin()).env("BERTH_BINARY", compile::operator(&cache, "bench-build.log")?);
    }
    run.args(&args.options).code()
}

fn prepare(cache: &Cache) -> Result<Layout> {
    let layout = {
        let lock = cache.lock("bench")?;
        cluster::up(cache, &lock, &UpArgs { simulated: Some(NODES), without_helm: true, ..UpArgs::default() })?
    };
    install::leader(&layout).context("Berth must be installed in the cluster: `cargo xtask install`")?;
    Ok(layout)
}
