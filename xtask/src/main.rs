//! What Berth's developers run: the test cluster, the images, the demo, the tests, the documentation's commands and the
//! benchmarks.
//!
//! This file owns the command line alone; each subcommand lives in its own module.

mod bench;
mod cache;
mod chart;
mod cluster;
mod compile;
mod demo;
mod docs;
mod faults;
mod fuzz;
mod generate;
mod images;
mod install;
mod monitoring;
mod planted;
mod release;
mod run;
mod schemathesis;
mod test;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// What Berth's developers run.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Examples:
  cargo xtask demo                            from nothing to the main job
  cargo xtask cluster up                      a Kubernetes cluster with one real node
  cargo xtask cluster up --simulated 40       the same, with 40 simulated nodes beside it
  eval \"$(cargo xtask cluster env)\"           kubectl and helm for this shell
  cargo xtask cluster down                    everything gone but the caches
  cargo xtask images load                     images built if need be, and brought to the node
  cargo xtask docs                            every command of the documentation
  cargo xtask fuzz sessions                   what libFuzzer finds of one target
  cargo xtask test                            everything that a change must pass

Caches and the cluster's state live under $BERTH_CACHE (default: $XDG_CACHE_HOME/berth or ~/.cache/berth)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring up, look at and take down a Kubernetes cluster on this machine
    Cluster(cluster::Args),
    /// From nothing to launched, supervised and ended sessions, each step shown and checked
    Demo(demo::Args),
    /// Build container images without a registry, and bring them to the cluster
    Images(images::Args),
    /// Bring Berth, as it is in this folder, into the cluster
    Install,
    /// Measure what Berth costs, on simulated nodes
    Bench(bench::Args),
    /// Break what is between the operator and a real API server, by plans
    Faults(faults::Args),
    /// Write the files that are made from the code: crds/ and tables in docs/
    Generate,
    /// Run every command of the documentation, and compare what it prints with what the pages show
    Docs(docs::Args),
    /// Run the fuzz targets: everything that reads what others wrote
    Fuzz(fuzz::Args),
    /// Make what a release hands out: binaries, images, chart, CRDs, bills of materials, checksums
    Release(release::Args),
    /// Run everything that a change must pass, as CI does
    Test(test::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Cluster(args) => cluster::main(args),
        Command::Demo(args) => demo::main(&args),
        Command::Images(args) => images::main(args),
        Command::Install => install::main().map(|()| ExitCode::SUCCESS),
        Command::Bench(args) => bench::main(&args),
        Command::Faults(args) => faults::main(&args),
        Command::Generate => generate::run().map(|()| ExitCode::SUCCESS),
        Command::Docs(args) => docs::main(&args),
        Command::Fuzz(args) => fuzz::main(&args),
        Command::Release(args) => release::main(&args),
        Command::Test(args) => test::main(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
