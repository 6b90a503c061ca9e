//! Runs trials: many seeds at once, or one alone with all of its requests.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use berth_simulation::trial;
use clap::Parser;

/// Trials of the operator against a simulated cluster, with faults by seed.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  simulate --seeds 2000                 seeds 1 to 2000
  simulate --seeds 1000 --from 50001    others
  simulate --seed 42                    one seed, with its requests

Exit codes: 0 all seeds hold, 1 some do not, 2 wrong usage."
)]
struct Cli {
    /// How many seeds to run.
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run this seed alone, and print what was asked and answered.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// With --seed: the verdict alone.
    #[arg(long, requires = "seed")]
    brief: bool,
    /// Go through all planted bugs; each that trials can find has to be found. BERTH_PLANTED plants one by its name.
    #[cfg(feature = "planted")]
    #[arg(long)]
    planted: bool,
    /// How many at once [default: one for each core].
    #[arg(long)]
    jobs: Option<usize>,
}

/// This program, also after a build has put another in its place.
const THIS: &str = "/proc/self/exe";

fn main() -> ExitCode {
    let cli = Cli::parse();
    #[cfg(feature = "planted")]
    if cli.planted {
        return planted::all(&cli);
    }
    match cli.seed {
        Some(seed) => alone(seed, cli.brief),
        None => many(&cli),
    }
}

/// One seed, in this process.
fn alone(seed: u64, brief: bool) -> ExitCode {
    let verdict = trial::run(seed, !brief);
    let mut out = std::io::stdout();
    if let Some(log) = &verdict.log {
        let _ = write!(out, "{log}");
    }
    let _ = writeln!(
        out,
        "seed {seed}: {} sessions, {} requests, digest {}",
        verdict.sessions, verdict.requests, verdict.digest
    );
    for sentence in &verdict.broken {
        let _ = writeln!(out, "  broken: {sentence}");
    }
    if verdict.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Many seeds, each in a process of its own: what a runtime does by chance follows from how many were there before it.
fn many(cli: &Cli) -> ExitCode {
    let jobs = cli.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
    let end = cli.from.saturating_add(cli.seeds);
    let (next, done) = (AtomicU64::new(cli.from), AtomicU64::new(0));
    let broken = Mutex::new(BTreeMap::new());
    let begun = Instant::now();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            let output = Command::new(THIS).args(["--brief", "--seed", &seed.to_string()]).output();
            let words = match output {
                Ok(output) if output.status.success() => None,
                Ok(output) => Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()),
                Err(error) => Some(format!("seed {seed}: cannot be run: {error}\n")),
            };
            if let Some(words) = words {
                let _ = write!(std::io::stderr(), "{words}");
                broken.lock().unwrap_or_else(PoisonError::into_inner).insert(seed, words);
            }
            let count = done.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_multiple_of(500) {
                let _ = writeln!(
                    std::io::stderr(),
                    "{count} of {} seeds, {:.0} s",
                    cli.seeds,
                    begun.elapsed().as_secs_f32()
                );
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    let broken = broken.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut out = std::io::stdout();
    for seed in broken.keys() {
        let _ = writeln!(out, "seed {seed} does not hold; again with its requests: simulate --seed {seed}");
    }
    let count = u64::try_from(broken.len()).unwrap_or_default();
    let _ = writeln!(out, "\n{} passed, {count} failed", cli.seeds.saturating_sub(count));
    if count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The tests of the trials: each broken variant of the operator has to be found.
#[cfg(feature = "planted")]
mod planted {
    use super::*;
    use berth::planted::Bug;

    /// What no trial can see: what is made good so soon that only a scenario sees it, what takes a process that is
    /// stopped between two of its own lines, and what takes a delay at one moment that the dice seldom meet.
    const BY_OTHERS: [Bug; 4] = [Bug::OlderWins, Bug::ListForgetsNothing, Bug::FormerLeaderWrites, Bug::BlindRemoval];

    /// Runs seeds with each bug until one is broken; all bugs have to be found.
    pub fn all(cli: &Cli) -> ExitCode {
        let next = AtomicU64::new(0);
        let missed = AtomicU64::new(0);
        let jobs = cli.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
        let work = || {
            loop {
                let index = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
                let Some(bug) = Bug::ALL.get(index) else { return };
                if BY_OTHERS.contains(bug) {
                    let _ = writeln!(std::io::stdout(), "{bug:?}: left to another suite");
                    continue;
                }
                let found = (cli.from..cli.from.saturating_add(cli.seeds)).find_map(|seed| {
                    let name = format!("{bug:?}");
                    let words = ["--brief", "--seed", &seed.to_string()].map(str::to_owned);
                    let output = Command::new(THIS).args(words).env("BERTH_PLANTED", name).output().ok()?;
                    let text = String::from_utf8_lossy(&output.stdout).into_owned();
                    let first = text.lines().find(|line| line.contains("broken: "))?.trim().to_owned();
                    Some((seed, first))
                });
                let line = match found {
                    Some((seed, words)) => format!("{bug:?}: found by seed {seed}: {words}"),
                    None => {
                        missed.fetch_add(1, Ordering::Relaxed);
                        format!("{bug:?}: NOT FOUND by {} seeds", cli.seeds)
                    }
                };
                let _ = writeln!(std::io::stdout(), "{line}");
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(work);
            }
        });
        let missed = missed.into_inner();
        let count = u64::try_from(Bug::ALL.len()).unwrap_or_default();
        let _ = writeln!(std::io::stdout(), "\n{} passed, {missed} failed", count - missed);
        if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
