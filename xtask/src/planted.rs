//! The tests of the tests: the operator with one planted bug after the other, each of which its suite has to find. Owns
//! which suite that is where trials cannot be it; the bugs themselves are in `src/planted.rs`.

use crate::cache::Cache;
use crate::compile;
use crate::run::{Run, step};
use anyhow::{Context, Result, bail};

/// How many seeds trials have for each bug: they end with the first that finds it.
const SEEDS: &str = "300";

/// What the trials print of a bug that they cannot find.
const LEFT: &str = ": left to another suite";

/// What the trials print of a bug that they should have found.
const MISSED: &str = "NOT FOUND";

/// Bugs that trials cannot find, and the scenarios that do, by their names.
const BY_SCENARIOS: [(&str, &str); 3] =
    [("OlderWins", "caches::"), ("ListForgetsNothing", "caches::"), ("BlindRemoval", "pools::")];

/// The bug that takes a process which is stopped between two of its own lines, and the fault plan that does that.
const BY_PLAN: (&str, &str) = ("FormerLeaderWrites", "race/stopped/4");

/// Finds all of them.
///
/// # Errors
/// When a bug is not found, or the suite fails without one.
pub fn check(cache: &Cache) -> Result<()> {
    let trials = ["run", "--quiet", "--locked", "--features", "berth-simulation/planted", "--bin", "simulate", "--"];
    let found = step("planted: trials", || {
        compile::cargo(cache).args(trials).args(["--planted", "--seeds", SEEDS]).output_however()
    })?;
    print!("{found}");
    if let Some(missed) = found.lines().find(|line| line.contains(MISSED)) {
        bail!("trials do not find what they should: {missed}");
    }
    let left: Vec<&str> = found.lines().filter_map(|line| line.strip_suffix(LEFT)).collect();
    let known = |bug: &&str| BY_SCENARIOS.iter().map(|(bug, _)| *bug).chain([BY_PLAN.0]).any(|known| known == *bug);
    if let Some(unknown) = left.iter().find(|bug| !known(bug)) {
        bail!("trials leave {unknown} to another suite, and none has it");
    }
    for (bug, scenarios) in BY_SCENARIOS {
        step(&format!("planted: {bug}"), || {
            if !play(cache, scenarios).succeeds() {
                bail!("the scenarios {scenarios} fail without a bug");
            }
            if play(cache, scenarios).env("BERTH_PLANTED", bug).succeeds() {
                bail!("the scenarios {scenarios} do not find {bug}");
            }
            Ok(())
        })?;
    }
    let (bug, plan) = BY_PLAN;
    step(&format!("planted: {bug}"), || by_plan(cache, bug, plan))
}

/// Runs a fault plan with a planted operator, without the bug and with it.
fn by_plan(cache: &Cache, bug: &str, plan: &str) -> Result<()> {
    compile::cargo(cache)
        .args(["build", "--quiet", "--locked", "--features", "berth/planted", "--bin", "berth"])
        .quiet()?;
    // The next build without bugs takes its place.
    let operator = cache.target().join("berth-planted");
    std::fs::copy(cache.target().join("debug").join("berth"), &operator)
        .context("the planted operator is not there")?;
    let play = || {
        let run = Run::new(std::env::current_exe()?).args(["faults", "--plan", plan, "--operator"]).arg(&operator);
        anyhow::Ok(run.without_env("BERTH_PLANTED"))
    };
    if !play()?.succeeds() {
        bail!("the plan {plan} fails without a bug");
    }
    if play()?.env("BERTH_PLANTED", bug).succeeds() {
        bail!("the plan {plan} does not find {bug}");
    }
    Ok(())
}

/// The scenarios of these names, with the build that the trials had.
fn play(cache: &Cache, scenarios: &str) -> Run {
    let those = ["--features", "berth-simulation/planted", "--test", "found"];
    compile::cargo(cache).args(["test", "--quiet", "--locked"]).args(those).arg(scenarios)
}
