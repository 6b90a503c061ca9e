//! What people are told of plans. Owns the words, and what a failing plan leaves in files.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::plan::Suite;
use crate::play::Verdict;

/// Tells of a plan that does not hold, and keeps what is known of it; of one that holds nothing is kept.
///
/// # Errors
/// When the files cannot be written.
pub fn one(verdict: &Verdict) -> Result<()> {
    let Verdict { plan, broken, log, folder, .. } = verdict;
    if broken.is_empty() {
        return std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()));
    }
    let mut text = String::new();
    for sentence in broken {
        let _ = writeln!(text, "  broken: {sentence}");
    }
    eprintln!("{plan} does not hold:\n{text}  again: cargo xtask faults --plan {plan}\n  log: {}", folder.display());
    std::fs::write(folder.join("requests.log"), format!("{plan}\n{text}{log}")).context("cannot keep the log")
}

/// Prints the table.
pub fn print(verdicts: &[Verdict], lasted: Duration) {
    println!("{:<14}{:>6}{:>7}{:>8}{:>13}{:>10}", "suite", "plans", "held", "failed", "not struck", "median s");
    for suite in std::iter::once(Suite::Undisturbed).chain(Suite::ALL) {
        let of_suite: Vec<&Verdict> = verdicts.iter().filter(|verdict| verdict.plan.action.suite() == suite).collect();
        if of_suite.is_empty() {
            continue;
        }
        let held = of_suite.iter().filter(|verdict| verdict.broken.is_empty()).count();
        let quiet = of_suite.iter().filter(|verdict| !verdict.struck).count();
        let mut times: Vec<Duration> = of_suite.iter().map(|verdict| verdict.lasted).collect();
        times.sort();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        println!(
            "{:<14}{:>6}{held:>7}{:>8}{quiet:>13}{:>10.1}",
            suite.name(),
            of_suite.len(),
            of_suite.len() - held,
            median.as_secs_f32()
        );
    }
    let failed: Vec<&Verdict> = verdicts.iter().filter(|verdict| !verdict.broken.is_empty()).collect();
    println!("{} plans in {:.0} s, {} failed", verdicts.len(), lasted.as_secs_f32(), failed.len());
    for verdict in failed {
        println!("  {}", verdict.plan);
    }
}
