//! `cargo xtask test`: everything that a change must pass, in the order in which it fails cheapest. Owns the
//! list of steps and their report; each step is a command that one can run alone.

use crate::cache::Cache;
use crate::chart;
use crate::cluster;
use crate::compile;
use crate::docs;
use crate::fuzz;
use crate::monitoring;
use crate::planted;
use crate::release;
use crate::run::Run;
use crate::schemathesis;
use anyhow::{Result, bail};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask test                        what every change must pass, as CI does
  cargo xtask test --full                 and what takes long to build: the fuzz targets
  cargo xtask test --list                 the steps
  cargo xtask test --without-cluster      what needs no cluster
  cargo xtask test --only behaviour       one step")]
pub struct Args {
    /// Run only the steps of these names
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// Also what is too long for every change: the steps that `--list` marks, and more seeds of the simulation
    #[arg(long)]
    full: bool,
    /// Leave out what needs a cluster
    #[arg(long)]
    without_cluster: bool,
    /// Go on after a step that failed
    #[arg(long)]
    keep_going: bool,
    /// Print the steps and stop
    #[arg(long)]
    list: bool,
}

/// The version of cargo-deny, built from its package on first use.
const DENY: &str = "0.20.2";

/// For how many seconds each fuzz target is run.
const FUZZED_FOR: u32 = 4;

/// How many seeds of the simulation a change must pass, and how many with `--full`.
const SEEDS: [&str; 2] = ["500", "5000"];

/// Steps that are run where `--full` or their name asks for them. libFuzzer's build of all there is takes longer than any other
/// step; what was kept of its finds is tried by the unit tests.
const LONG: [&str; 1] = ["fuzz"];

/// One thing that a change must pass.
struct Step {
    name: &'static str,
    about: &'static str,
    cluster: bool,
    run: fn(&Runner) -> Result<Outcome>,
}

enum Outcome {
    Passed,
    /// What was left out, and why; it is printed as such.
    Skipped(String),
}

/// What the steps are run with: our own binary, and the caches.
struct Runner {
    cache: Cache,
    this: PathBuf,
    full: bool,
}

const STEPS: &[Step] = &[
    Step { name: "format", about: "rustfmt", cluster: false, run: format },
    Step { name: "clippy", about: "lints, as errors", cluster: false, run: clippy },
    Step { name: "deny", about: "licences, sources, bans, advisories", cluster: false, run: deny },
    // All targets in one command keep every core busy; later steps find them built.
    Step {
        name: "build",
        about: "Berth, its suites and xtask, compiled",
        cluster: false,
        run: |c| c.cargo(["build", "--locked", "--all-targets"]),
    },
    Step { name: "unit", about: "unit and property tests, walls, generated files", cluster: false, run: unit },
    Step { name: "fuzz", about: "fuzz targets, from what is kept of each on", cluster: false, run: fuzz },
    Step {
        name: "chart",
        about: "the chart, its alerts, and the GitOps checks",
        cluster: false,
        run: |c| chart::check(&c.cache).map(|()| Outcome::Passed),
    },
    Step {
        name: "release",
        about: "a release's chart, CRDs and SBOMs, made twice alike",
        cluster: false,
        run: |c| release::check(&c.cache).map(|()| Outcome::Passed),
    },
    Step {
        name: "simulation",
        about: "trials of the operator in a simulated cluster, with faults by seed",
        cluster: false,
        run: |c| {
            c.cargo(["run", "--quiet", "--locked", "--bin", "simulate", "--", "--seeds", SEEDS[usize::from(c.full)]])
        },
    },
    Step {
        name: "teardown",
        about: "`cluster down` leaves nothing, also after kill -9",
        cluster: true,
        run: |c| c.xtask(&["cluster", "selftest", "--replace", "--kills", "10"]),
    },
    Step {
        name: "cluster",
        about: "a real cluster",
        cluster: true,
        run: |c| c.xtask(&["cluster", "up", "--simulated", "0"]),
    },
    Step {
        name: "images",
        about: "workspace images, built and loaded",
        cluster: true,
        run: |c| c.xtask(&["images", "load", "desktop", "jupyterlab", "ssh"]),
    },
    Step { name: "install", about: "Berth, built and installed", cluster: true, run: |c| c.xtask(&["install"]) },
    Step {
        name: "behaviour",
        about: "the behaviour suite on the real cluster",
        cluster: true,
        run: |c| c.suite("cluster", 8),
    },
    Step {
        name: "api",
        about: "the REST API against its own specification",
        cluster: true,
        run: |c| schemathesis::check(&c.cache).map(|()| Outcome::Passed),
    },
    Step {
        name: "conformance",
        about: "random requests, answered alike by the simulated and the real API server",
        cluster: true,
        run: conformance,
    },
    Step {
        name: "faults",
        about: "fault plans against the operator on a real API server",
        cluster: true,
        run: |c| c.xtask(&["faults"]),
    },
    Step {
        name: "planted",
        about: "broken variants of the operator, each found by its suite",
        cluster: true,
        run: |c| planted::check(&c.cache).map(|()| Outcome::Passed),
    },
    Step {
        name: "monitoring",
        about: "a real Prometheus: the dashboard's queries and the rules",
        cluster: true,
        run: |c| monitoring::check(&c.cache).map(|()| Outcome::Passed),
    },
    Step {
        name: "docs",
        about: "every command of every page, and what it prints",
        cluster: true,
        run: |c| docs::check_all(&c.cache).map(|()| Outcome::Passed),
    },
    Step {
        name: "disruption",
        about: "the suite that breaks the node and the operator",
        cluster: true,
        run: |c| c.suite("disruption", 1),
    },
    Step {
        name: "bench",
        about: "the benchmark's counts and invariants, on small numbers",
        cluster: true,
        run: |c| c.xtask(&["bench", "--smoke"]),
    },
    Step { name: "demo", about: "the demo, each step checked", cluster: true, run: |c| c.xtask(&["demo", "--check"]) },
];

/// Runs the steps.
pub fn main(args: &Args) -> Result<ExitCode> {
    if args.list {
        for step in STEPS {
            let mark = if LONG.contains(&step.name) { " (--full)" } else { "" };
            println!("{:<12}{}{mark}", step.name, step.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = args.only.iter().find(|name| STEPS.iter().all(|step| step.name != *name)) {
        bail!("there is no step {unknown}; `cargo xtask test --list` names them");
    }
    let runner = Runner { cache: Cache::open()?, this: std::env::current_exe()?, full: args.full };
    let chosen = |step: &&Step| {
        let named = args.only.iter().any(|name| name == step.name);
        let meant = args.only.is_empty() && (args.full || !LONG.contains(&step.name));
        (named || meant) && !(args.without_cluster && step.cluster)
    };
    let mut report = Vec::new();
    for step in STEPS.iter().filter(chosen) {
        eprintln!("\n== {}: {}", step.name, step.about);
        let begun = Instant::now();
        let outcome = (step.run)(&runner);
        let failed = outcome.is_err();
        report.push((step.name, begun.elapsed(), outcome));
        if failed && !args.keep_going {
            break;
        }
    }
    Ok(conclude(&report))
}

/// Prints minutes per step and the closing line.
fn conclude(report: &[(&'static str, Duration, Result<Outcome>)]) -> ExitCode {
    println!("\nminutes  step");
    for (name, lasted, outcome) in report {
        let words = match outcome {
            Ok(Outcome::Passed) => String::new(),
            Ok(Outcome::Skipped(why)) => format!("  skipped in part: {why}"),
            Err(error) => format!("  FAILED: {error:#}"),
        };
        println!("{:>7.1}  {name}{words}", lasted.as_secs_f32() / 60.0);
    }
    let failed = report.iter().filter(|(_, _, outcome)| outcome.is_err()).count();
    println!(
        "{:>7.1}  all\n\n{} passed, {failed} failed",
        report.iter().map(|(_, lasted, _)| lasted.as_secs_f32()).sum::<f32>() / 60.0,
        report.len() - failed
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn format(runner: &Runner) -> Result<Outcome> {
    runner.cargo(["fmt", "--all", "--check"])?;
    runner.cargo(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])
}

fn clippy(runner: &Runner) -> Result<Outcome> {
    runner.cargo(["clippy", "--quiet", "--locked", "--workspace", "--all-targets", "--", "--deny", "warnings"])
}

fn unit(runner: &Runner) -> Result<Outcome> {
    runner.cargo([
        "test", "--quiet", "--lib", "--bin", "xtask", "--bin", "bench", "--bin", "faults", "--test", "it", "--test",
        "server", "--test", "actors", "--test", "found",
    ])
}

/// On the control plane of the fault plans: no operator leads there between them, and all kinds are stored.
fn conformance(runner: &Runner) -> Result<Outcome> {
    let layout = {
        let lock = runner.cache.lock("conformance")?;
        cluster::up_for_faults(&runner.cache, &lock)?
    };
    let crds = compile::root().join("crds");
    let apply = ["apply", "--server-side", "--force-conflicts", "--filename"];
    layout.kubectl().args(apply).arg(crds).quiet()?;
    let test = ["test", "--quiet", "--test", "conformance", "--", "--test-threads=2"];
    compile::cargo(&runner.cache).args(test).env("KUBECONFIG", layout.admin()).aloud()?;
    Ok(Outcome::Passed)
}

/// By libFuzzer where it can be built; else what is kept, by the same bodies.
fn fuzz(runner: &Runner) -> Result<Outcome> {
    match fuzz::missing() {
        Some(missing) => {
            runner.cargo(["test", "--quiet", "--lib", "fuzzing::"])?;
            Ok(Outcome::Skipped(format!("only what is kept was tried: {missing}")))
        }
        None => fuzz::check(&runner.cache, FUZZED_FOR).map(|()| Outcome::Passed),
    }
}

/// Licences, sources and bans always; advisories where their database can be fetched.
fn deny(runner: &Runner) -> Result<Outcome> {
    let deny = compile::tool(&runner.cache, "cargo-deny", DENY)?;
    let root = compile::root();
    let deny = || Run::new(&deny).dir(&root);
    runner.run(deny().args(["check", "bans", "licenses", "sources"]))?;
    let fuzz = ["--config", "deny.toml", "--manifest-path", "fuzz/Cargo.toml", "check", "bans", "licenses", "sources"];
    runner.run(deny().args(fuzz))?;
    if !deny().args(["fetch", "db"]).succeeds() {
        return Ok(Outcome::Skipped("advisories: their database cannot be fetched from here".to_owned()));
    }
    runner.run(deny().args(["check", "advisories"]))
}

impl Runner {
    /// One of our own subcommands, as a person would run it.
    fn xtask(&self, args: &[&str]) -> Result<Outcome> {
        self.run(Run::new(&self.this).args(args))
    }

    fn cargo<const N: usize, A: AsRef<OsStr>>(&self, args: [A; N]) -> Result<Outcome> {
        self.run(compile::cargo(&self.cache).args(args))
    }

    /// A suite on the cluster.
    fn suite(&self, name: &str, threads: u8) -> Result<Outcome> {
        let threads = format!("--test-threads={threads}");
        self.cargo(["test", "--quiet", "--test", name, "--", threads.as_str()])
    }

    /// Runs a command with its output where ours goes, so that what a test runner says is seen.
    fn run(&self, mut run: Run) -> Result<Outcome> {
        // What `cluster env` gives a person's shell.
        let cluster = self.cache.cluster();
        let kubeconfig = cluster.join("kubeconfig").join("admin");
        if kubeconfig.exists() {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders = std::iter::once(cluster.join("bin")).chain(std::env::split_paths(&path));
            run = run.env("KUBECONFIG", kubeconfig).env("PATH", std::env::join_paths(folders)?);
        }
        run.aloud()?;
        Ok(Outcome::Passed)
    }
}
