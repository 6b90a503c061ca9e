//! `cargo xtask bench` runs this: scenarios on a real control plane with simulated nodes, Berth installed in it, each
//! beside a bare client that makes the same writes. Owns the command line, the order, and the report.
//!
//! It asserts nothing about time while it runs; a figure outside its budget fails the command at the end.

mod access;
mod figure;
mod floor;
mod follow;
mod gateway;
mod ground;
mod growth;
mod ledger;
mod line;
mod load;
mod observer;
mod plot;
mod pods;
mod process;
mod scenario;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use serde_json::{Map, Value, json};

use access::Access;
use floor::Pattern;
use process::{Process, holder};
use scenario::{Bench, Report, Scenario};

/// What Berth costs, beside a bare client that makes the same writes.
#[derive(Parser)]
#[command(
    name = "bench",
    after_help = "Examples:
  bench                              all scenarios: about half an hour
  bench --only steady --only burst   some of them
  bench --smoke                      counts and invariants on small numbers, no times: three minutes
  bench --json figures.json          the figures for a program
  bench growth                       how cost grows with sessions and Workspaces: about 40 minutes
  bench growth --sessions 100,2000 --workspaces 1

Exit codes: 0 within all budgets, 1 a budget was missed or an invariant broken, 2 wrong usage."
)]
struct Cli {
    /// Run only these scenarios
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<String>,
    /// Judge counts and invariants alone, on small numbers
    #[arg(long, global = true)]
    smoke: bool,
    /// Write all figures and measurements here
    #[arg(long, value_name = "FILE", global = true)]
    json: Option<PathBuf>,
    /// Draw pictures into this folder
    #[arg(long, value_name = "FOLDER", default_value = "target/bench", global = true)]
    plots: PathBuf,
    /// Serve the bytes of this file: the floor of a read, in a process of its own
    #[arg(long, value_name = "FILE", hide = true)]
    serve: Option<PathBuf>,
    /// Print the scenarios and stop
    #[arg(long)]
    list: bool,
    #[command(subcommand)]
    instead: Option<Instead>,
}

/// What is measured instead of the scenarios.
#[derive(Subcommand)]
enum Instead {
    /// How cost grows: memory, processor time, launches and restarts, by live sessions and by Workspaces
    Growth(growth::Sizes),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.context("no runtime").and_then(|runtime| runtime.block_on(run(&cli)));
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(cli: &Cli) -> Result<ExitCode> {
    if cli.list {
        for scenario in scenario::ALL {
            println!("{:<10} {}", scenario.name, scenario.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(file) = &cli.serve {
        gateway::serve(file).await?;
    }
    if let Some(unknown) = cli.only.iter().find(|name| scenario::ALL.iter().all(|known| known.name != *name)) {
        bail!("there is no scenario {unknown}; `--list` names them");
    }
    let access = Access::prepare().await?;
    let process = Process::of(&holder(&access.admin).await?).context("the operator must run on this machine")?;
    floor::define(&access).await?;
    let pattern = Arc::new(Pattern::read(&access).await.context("one session, as the floor's pattern")?);
    std::fs::create_dir_all(&cli.plots).with_context(|| format!("cannot make {}", cli.plots.display()))?;
    let bench = Bench { access, pattern, smoke: cli.smoke, out: cli.plots.clone() };
    eprintln!("the operator that leads has {:.1} MiB", process.resident()?);

    if let Some(Instead::Growth(sizes)) = &cli.instead {
        let begun = Instant::now();
        let report = growth::run(&bench, sizes).await.context("growth")?;
        write(cli, &json!({"growth": to_json(&report, cli.smoke)}))?;
        let held = print("growth", &report, cli.smoke, begun.elapsed().as_secs());
        return Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let chosen = |scenario: &&Scenario| {
        let named = cli.only.is_empty() || cli.only.iter().any(|name| name == scenario.name);
        named && (scenario.in_smoke || !cli.smoke || !cli.only.is_empty())
    };
    let mut failed = false;
    let mut written = Map::new();
    for scenario in scenario::ALL.iter().filter(chosen) {
        eprintln!("\n== {}: {}", scenario.name, scenario.about);
        let begun = Instant::now();
        let report = (scenario.run)(&bench).await.with_context(|| format!("scenario {}", scenario.name))?;
        failed |= !print(scenario.name, &report, cli.smoke, begun.elapsed().as_secs());
        written.insert(scenario.name.to_owned(), to_json(&report, cli.smoke));
        // What was measured so far is not lost with what comes.
        write(cli, &Value::Object(written.clone()))?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Writes what was measured, where that was asked for.
fn write(cli: &Cli, scenarios: &Value) -> Result<()> {
    let Some(path) = &cli.json else { return Ok(()) };
    let all = json!({
        "version": env!("CARGO_PKG_VERSION"), "smoke": cli.smoke,
        "cores": std::thread::available_parallelism().map_or(0, Into::into), "scenarios": scenarios,
    });
    std::fs::write(path, serde_json::to_string_pretty(&all)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Prints what a scenario found; whether all of it is as it should be.
fn print(name: &str, report: &Report, smoke: bool, seconds: u64) -> bool {
    println!("\n{name} ({seconds} s)\n{}", figure::heading());
    let judged = |figure: &figure::Figure| !(smoke && figure.timed);
    for figure in &report.figures {
        println!("{}", figure.line(judged(figure)));
    }
    for note in &report.notes {
        println!("  {note}");
    }
    for words in &report.broken {
        println!("  BROKEN: {words}");
    }
    report.broken.is_empty() && report.figures.iter().all(|figure| figure.holds() || !judged(figure))
}

fn to_json(report: &Report, smoke: bool) -> Value {
    let figures: Vec<Value> = report.figures.iter().map(|figure| figure.to_json(!(smoke && figure.timed))).collect();
    json!({"figures": figures, "broken": report.broken, "measured": report.data})
}
