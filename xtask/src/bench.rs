//! `cargo xtask bench`: what Berth costs, measured on simulated nodes beside the real control plane. Owns the
//! scenarios and their figures; requests are counted by the API server itself.
//!
//! It asserts nothing about time while it runs; a figure over its budget fails the command at the end.

mod metrics;
mod population;

use crate::cache::Cache;
use crate::cluster::{self, Layout, UpArgs};
use crate::run::step;
use anyhow::{Context, Result, bail};
use metrics::Requests;
use population::Population;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How long a population is watched in silence.
const SILENCE: Duration = Duration::from_secs(120);

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench                        all scenarios
  cargo xtask bench --only deadlines       one of them
  cargo xtask bench --json figures.json    the figures for a program

Berth must be installed (`cargo xtask install`). The scenarios add simulated nodes to the cluster.")]
pub struct Args {
    /// Run only these scenarios: come-and-go, quiet, deadlines
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<String>,
    /// Write the figures here, scenario by scenario
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One measured value and what it may be.
struct Figure {
    name: &'static str,
    unit: &'static str,
    value: f64,
    budget: f64,
}

type Scenario = (&'static str, fn(&Layout) -> Result<Vec<Figure>>);

const SCENARIOS: [Scenario; 3] = [("come-and-go", come_and_go), ("quiet", quiet), ("deadlines", deadlines)];

/// Runs the scenarios and prints their figures.
pub fn main(args: &Args) -> Result<ExitCode> {
    if let Some(unknown) = args.only.iter().find(|name| SCENARIOS.iter().all(|(known, _)| known != name)) {
        bail!("there is no scenario {unknown}: come-and-go, quiet, deadlines");
    }
    let cache = Cache::open()?;
    let layout = {
        let lock = cache.lock("bench")?;
        cluster::up(&cache, &lock, &UpArgs { simulated: Some(40), without_helm: true, ..UpArgs::default() })?
    };
    metrics::operator_pid(&layout).context("Berth must be installed in the cluster: `cargo xtask install`")?;
    let mut missed = 0;
    let mut report = serde_json::Map::new();
    for (name, run) in
        SCENARIOS.iter().filter(|(name, _)| args.only.is_empty() || args.only.iter().any(|only| only == name))
    {
        let figures = run(&layout).with_context(|| format!("scenario {name}"))?;
        println!("{name}");
        for Figure { name, unit, value, budget } in &figures {
            let verdict = if value <= budget { "" } else { "  MISSED" };
            // Adding nothing makes a zero that would be printed with a sign.
            let value = value + 0.0;
            println!("  {name:<58} {value:>9.2} {unit:<9} budget {budget:>7.2}{verdict}");
        }
        missed += figures.iter().filter(|figure| figure.value > figure.budget).count();
        report.insert((*name).to_owned(), figures.iter().map(to_json).collect());
    }
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn to_json(figure: &Figure) -> Value {
    json!({ "name": figure.name, "unit": figure.unit, "value": figure.value, "budget": figure.budget })
}

/// A hundred sessions come and go: what they leave in the operator's memory, and what it asks for afterwards.
fn come_and_go(layout: &Layout) -> Result<Vec<Figure>> {
    let before = Requests::read(layout)?;
    let people = Population::new(layout, "bench-come-and-go")?;
    people.launch(100, &json!({ "idle": { "disconnectAfter": "1h" }, "history": { "keepFor": "1s" } }))?;
    people.wait_for("Active", 100)?;
    people.end_all()?;
    people.wait_until_none()?;
    let spent = Requests::read(layout)?.since(&before);
    let figures = step("come-and-go: a minute of rest", || {
        std::thread::sleep(Duration::from_secs(20));
        let rest = Requests::read(layout)?;
        std::thread::sleep(Duration::from_secs(60));
        let asked = Requests::read(layout)?.since(&rest);
        Ok(vec![
            Figure {
                name: "memory after 100 sessions",
                unit: "MB",
                value: metrics::resident_megabytes(layout)?,
                budget: 32.0,
            },
            Figure {
                name: "requests for our kinds but watches, in a minute of rest",
                unit: "requests",
                value: asked.ours_but_watches(),
                budget: 0.0,
            },
            // Session and history: create, Starting, marks, Active, end wish, ended, unmark, prune, final removal.
            Figure {
                name: "writes to our kinds for each session, the client's too",
                unit: "writes",
                value: spent.writes_to_ours() / 100.0,
                budget: 10.0,
            },
        ])
    })?;
    people.remove()?;
    Ok(figures)
}

/// A thousand live sessions while nothing happens.
fn quiet(layout: &Layout) -> Result<Vec<Figure>> {
    let people = Population::new(layout, "bench-quiet")?;
    people.launch(1000, &json!({ "idle": { "after": "1h", "warnAfter": "2h", "disconnectAfter": "3h" } }))?;
    people.wait_for("Active", 1000)?;
    let figures = step("quiet: two minutes of silence", || {
        std::thread::sleep(Duration::from_secs(30));
        let before = (Requests::read(layout)?, metrics::processor_seconds(layout)?);
        std::thread::sleep(SILENCE);
        let after = (Requests::read(layout)?, metrics::processor_seconds(layout)?);
        let asked = after.0.since(&before.0);
        Ok(vec![
            Figure {
                name: "writes to our kinds, pods and events",
                unit: "writes",
                value: asked.writes_to_ours() + asked.writes_to(&["pods", "events"]),
                budget: 0.0,
            },
            Figure {
                name: "share of a core",
                unit: "%",
                value: (after.1 - before.1) / SILENCE.as_secs_f64() * 100.0,
                budget: 1.0,
            },
            Figure {
                name: "memory at 1,000 live sessions",
                unit: "MB",
                value: metrics::resident_megabytes(layout)?,
                budget: 96.0,
            },
        ])
    })?;
    people.end_all()?;
    people.remove()?;
    Ok(figures)
}

/// A hundred deadlines, each begun within a second.
fn deadlines(layout: &Layout) -> Result<Vec<Figure>> {
    let people = Population::new(layout, "bench-deadlines")?;
    people.launch(100, &json!({ "idle": { "after": "20s", "warnAfter": "30s", "disconnectAfter": "40s" } }))?;
    people.wait_for("Active", 100)?;
    let lateness = step("deadlines: until a hundred have come", || people.lateness(100))?;
    people.remove()?;
    let latest = lateness.iter().copied().fold(0.0, f64::max);
    let early = lateness.iter().filter(|late| **late < 0.0).count();
    Ok(vec![
        Figure { name: "latest end after its deadline, as a watcher sees it", unit: "s", value: latest, budget: 1.0 },
        Figure {
            name: "ends before their deadline",
            unit: "sessions",
            value: f64::from(u32::try_from(early)?),
            budget: 0.0,
        },
    ])
}
