//! The tests of the tests: the operator with one planted bug after the other, each of which its suite has to find. Owns
//! which suite that is where trials cannot be it; the bugs themselves are in `src/planted.rs`.

use crate::cache::Cache;
use crate::compile;
use crate::run::{Run, step};
use anyhow::{Result, bail};

/// How many seeds trials have for each bug.
const SEEDS: &str = "60";

/// What the trials print of a bug that they cannot find.
const LEFT: &str = ": left to another suite";

/// What the trials print of a bug that they should have found.
const MISSED: &str = "NOT FOUND";

/// Bugs that trials cannot find, and the unit tests that do.
const BY_UNIT_TESTS: [(&str, &str); 2] =
    [("OlderWins", "cluster::cache::"), ("ListForgetsNothing", "cluster::cache::")];

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
    let known = |bug: &&str| BY_UNIT_TESTS.iter().any(|(known, _)| known == bug);
    if let Some(unknown) = left.iter().find(|bug| !known(bug)) {
        bail!("trials leave {unknown} to another suite, and none has it");
    }
    for (bug, tests) in BY_UNIT_TESTS {
        step(&format!("planted: {bug}"), || {
            if !unit(cache, tests).succeeds() {
                bail!("the tests {tests} fail without a bug");
            }
            if unit(cache, tests).env("BERTH_PLANTED", bug).succeeds() {
                bail!("the tests {tests} do not find {bug}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn unit(cache: &Cache, tests: &str) -> Run {
    compile::cargo(cache).args(["test", "--quiet", "--locked", "--features", "berth/planted", "--lib", tests])
}
