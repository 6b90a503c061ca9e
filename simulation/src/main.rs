//! Runs trials: many seeds at once, or one alone with all of its requests.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use berth_simulation::trial::{self, Verdict};
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
    /// How many at once [default: one for each core].
    #[arg(long)]
    jobs: Option<usize>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = std::io::stdout();
    if let Some(seed) = cli.seed {
        let verdict = trial::run(seed, true);
        let _ = write!(out, "{}", verdict.log.as_deref().unwrap_or_default());
        let _ = writeln!(out, "digest {}", verdict.digest);
        return tell(&mut out, &[verdict]);
    }
    let jobs = cli.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
    let (next, done) = (AtomicU64::new(cli.from), AtomicU64::new(0));
    let found = Mutex::new(Vec::new());
    let totals = (AtomicU64::new(0), AtomicU64::new(0));
    let begun = Instant::now();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= cli.from.saturating_add(cli.seeds) {
                return;
            }
            let verdict = trial::run(seed, false);
            totals.0.fetch_add(u64::try_from(verdict.requests).unwrap_or_default(), Ordering::Relaxed);
            totals.1.fetch_add(u64::try_from(verdict.sessions).unwrap_or_default(), Ordering::Relaxed);
            if !verdict.broken.is_empty() {
                let mut err = std::io::stderr();
                let _ = writeln!(err, "seed {seed}: {}", verdict.broken.join("\n  "));
                found.lock().unwrap_or_else(PoisonError::into_inner).push(verdict);
            }
            let count = done.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_multiple_of(500) {
                let mut err = std::io::stderr();
                let _ = writeln!(err, "{count} of {} seeds, {:.0} s", cli.seeds, begun.elapsed().as_secs_f32());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (requests, sessions) = (totals.0.into_inner(), totals.1.into_inner());
    let _ = writeln!(out, "{} seeds, {sessions} sessions, {requests} requests", cli.seeds);
    tell(&mut out, &found)
}

/// Says what was found, and how to see it again.
fn tell(out: &mut impl Write, verdicts: &[Verdict]) -> ExitCode {
    let broken: Vec<&Verdict> = verdicts.iter().filter(|verdict| !verdict.broken.is_empty()).collect();
    for verdict in &broken {
        let _ = writeln!(out, "seed {} is broken; again with its requests: simulate --seed {}", verdict.seed, verdict.seed);
        for sentence in &verdict.broken {
            let _ = writeln!(out, "  {sentence}");
        }
    }
    if broken.is_empty() {
        let _ = writeln!(out, "all hold");
        ExitCode::SUCCESS
    } else {
        let _ = writeln!(out, "{} seeds do not hold", broken.len());
        ExitCode::FAILURE
    }
}
