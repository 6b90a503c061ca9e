//! `cargo xtask faults`: fault plans against the operator on a real API server. Owns the control plane that they run on
//! and the building of what runs; the plans and their oracle are the crate `faults`.

use crate::cache::Cache;
use crate::cluster;
use crate::compile;
use crate::run::Run;
use anyhow::Result;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `cargo xtask faults`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask faults                            60 plans, as CI runs them
  cargo xtask faults --plans 200 --seed 7       others
  cargo xtask faults --all --jobs 8             the whole matrix
  cargo xtask faults --suite leadership         one suite of it
  cargo xtask faults --plan idle/kill-after/7   one plan, with every request and what became of it
  cargo xtask faults --list                     the plans that there are

A plan's name replays it. What a failing plan saw stays in a file that the report names.")]
pub struct Args {
    /// Run every plan
    #[arg(long, conflicts_with_all = ["plans", "plan"])]
    all: bool,
    /// How many plans to run
    #[arg(long, value_name = "N", default_value_t = 60)]
    plans: usize,
    /// Chooses them
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Only plans of this suite: intermediate, stale, unobserved, errors, unknown, leadership
    #[arg(long, value_name = "SUITE")]
    suite: Option<String>,
    /// Run this plan alone, and print its requests
    #[arg(long, value_name = "PLAN")]
    plan: Vec<String>,
    /// Print the plans and stop
    #[arg(long)]
    list: bool,
    /// How many plans run side by side: they wait far more than they compute
    #[arg(long, value_name = "J", default_value_t = 8)]
    jobs: usize,
    /// The operator to run, instead of this folder's
    #[arg(long, value_name = "FILE")]
    operator: Option<PathBuf>,
}

/// Brings the control plane up, builds, and runs the plans.
pub fn main(args: &Args) -> Result<ExitCode> {
    let cache = Cache::open()?;
    let layout = {
        let lock = cache.lock("faults")?;
        cluster::up_for_faults(&cache, &lock)?
    };
    let built = cache.target().join("debug");
    compile::cargo(&cache)
        .args(["build", "--quiet", "--locked", "--bin", "berth", "--bin", "faults"])
        .log(cache.logs().join("build.log"))
        .quiet()?;
    let operator = args.operator.clone().unwrap_or_else(|| built.join("berth"));
    let mut run = Run::new(built.join("faults"))
        .args(["--kubeconfig", &layout.admin()])
        .args(["--certificate", &layout.pki("apiserver.crt"), "--key", &layout.pki("apiserver.key")])
        .arg("--operator")
        .arg(operator)
        .arg("--logs")
        .arg(cache.logs().join("faults"))
        .args(["--plans", &args.plans.to_string(), "--seed", &args.seed.to_string()])
        .args(["--jobs", &args.jobs.to_string()]);
    for (flag, wanted) in [("--all", args.all), ("--list", args.list)] {
        run = if wanted { run.arg(flag) } else { run };
    }
    for (flag, value) in args.suite.iter().map(|it| ("--suite", it)).chain(args.plan.iter().map(|it| ("--plan", it))) {
        run = run.args([flag, value]);
    }
    run.aloud().map(|()| ExitCode::SUCCESS)
}
