//! Load: sessions that arrive whether those before them are up or not, as people do. Owns when they arrive, how their
//! latency is counted (from when they were to arrive, so that a slow answer delays nobody's clock), and what was left
//! behind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use crate::ground::Ground;

/// How long a session may take to become Active before it counts as left behind.
const BEHIND: Duration = Duration::from_secs(60);

/// Arrivals at random: the time between two is exponentially distributed (a Poisson process).
#[derive(Clone, Copy, Debug)]
pub struct Arrivals {
    /// How many a second, on average.
    pub rate: f64,
    /// For how long they arrive.
    pub lasts: Duration,
    /// How long each stays once it is Active.
    pub stays: Duration,
    /// The same seed gives the same times; it is the turn's number.
    pub seed: u64,
}

/// One session of a load.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// In which turn of its load.
    pub turn: u64,
    /// When it was to arrive, in seconds after the beginning.
    pub at: f64,
    /// From then until a watcher saw it Active, in milliseconds; nothing when that did not come.
    pub latency: Option<f64>,
}

/// What became of a load.
#[derive(Debug, Default)]
pub struct Outcome {
    /// All of its sessions, turn by turn in the order in which they were to arrive.
    pub samples: Vec<Sample>,
    /// From the last arrival until all were Active.
    pub caught_up: Duration,
    /// What was refused, in the API server's words.
    pub failures: Vec<String>,
}

impl Arrivals {
    fn times(&self) -> Vec<Duration> {
        let mut dice = fastrand::Rng::with_seed(self.seed);
        let mut times = Vec::new();
        let mut at = 0.0;
        loop {
            at -= (1.0 - dice.f64()).ln() / self.rate;
            if at > self.lasts.as_secs_f64() {
                return times;
            }
            times.push(Duration::from_secs_f64(at));
        }
    }

    /// Lets them arrive, stay and end; returns when the last has ended.
    ///
    /// # Errors
    /// When the benchmark itself fails.
    pub async fn run(self, ground: &Arc<Ground>) -> Result<Outcome> {
        let begun = tokio::time::Instant::now() + Duration::from_millis(100);
        let mut under_way = JoinSet::new();
        let times = self.times();
        let last = times.last().copied().unwrap_or_default();
        for (index, at) in times.into_iter().enumerate() {
            let ground = Arc::clone(ground);
            under_way.spawn(async move {
                sleep_until(begun + at).await;
                let name = format!("s{index}");
                let (active, failure) = live(&ground, &name, self.stays).await;
                let due = (begun + at).into_std();
                let latency = active.map(|active| active.saturating_duration_since(due).as_secs_f64() * 1000.0);
                (index, Sample { turn: self.seed, at: at.as_secs_f64(), latency }, active, failure)
            });
        }
        let mut outcome = Outcome::default();
        let mut all = Vec::new();
        let mut latest = begun.into_std() + last;
        while let Some(done) = under_way.join_next().await {
            let (index, sample, active, failure) = done?;
            all.push((index, sample));
            latest = latest.max(active.unwrap_or(latest));
            outcome.failures.extend(failure);
        }
        all.sort_by_key(|(index, _)| *index);
        outcome.samples = all.into_iter().map(|(_, sample)| sample).collect();
        outcome.caught_up = latest.saturating_duration_since(begun.into_std() + last);
        Ok(outcome)
    }
}

/// One session's life: when a watcher saw it Active, and what went wrong.
async fn live(ground: &Arc<Ground>, name: &str, stays: Duration) -> (Option<Instant>, Option<String>) {
    let mut seen = ground.observer.follow(name);
    // The floor's writes go on beside the wait for what they bring.
    let launched = {
        let (ground, name) = (Arc::clone(ground), name.to_owned());
        tokio::spawn(async move { ground.launch(&name).await })
    };
    let active = timeout(BEHIND, seen.wait_for(|sight| sight.active.is_some())).await;
    let active = active.ok().and_then(Result::ok).and_then(|sight| sight.active);
    let mut failure = match launched.await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{name}: {error:#}")),
        Err(error) => Some(format!("{name}: {error}")),
    };
    sleep(stays).await;
    if let Err(error) = ground.end(name).await {
        failure.get_or_insert(format!("{name}: {error:#}"));
    }
    let _ = timeout(BEHIND, seen.wait_for(|sight| sight.ended.is_some())).await;
    (active, failure)
}

impl Outcome {
    /// Takes in what became of another turn of the same load.
    pub fn extend(&mut self, other: Self) {
        self.samples.extend(other.samples);
        self.caught_up = self.caught_up.max(other.caught_up);
        self.failures.extend(other.failures);
    }

    /// How many never became Active.
    pub fn left_behind(&self) -> usize {
        self.samples.iter().filter(|sample| sample.latency.is_none()).count()
    }

    /// The latency that this share of the sessions did not exceed, in milliseconds; those left behind took for ever.
    pub fn quantile(&self, share: f64) -> f64 {
        let all: Vec<f64> = self.samples.iter().map(|sample| sample.latency.unwrap_or(f64::INFINITY)).collect();
        quantile_of(&all, share)
    }

    /// For a program.
    pub fn to_json(&self) -> Value {
        let samples: Vec<Value> = self
            .samples
            .iter()
            .map(|sample| json!({"turn": sample.turn, "at": sample.at, "latencyMs": sample.latency}))
            .collect();
        json!({"samples": samples, "caughtUpSeconds": self.caught_up.as_secs_f64(), "failures": self.failures})
    }
}

/// The value that this share of `values` does not exceed.
pub fn quantile_of(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, share)
}

/// The value that this share of the sorted ones does not exceed.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "ranks of thousands are exact"
)]
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_have_their_rate_and_follow_from_their_seed() {
        let arrivals = Arrivals { rate: 50.0, lasts: Duration::from_secs(100), stays: Duration::ZERO, seed: 7 };
        let times = arrivals.times();
        assert!((4700..5300).contains(&times.len()), "{}", times.len());
        assert!(times.is_sorted() && times == arrivals.times());
        assert_ne!(times, Arrivals { seed: 8, ..arrivals }.times());
    }

    #[test]
    fn a_quantile_is_a_value_that_was_measured_and_who_never_came_counts() {
        assert!((quantile(&[1.0, 2.0, 3.0, 4.0], 0.5) - 2.0).abs() < f64::EPSILON);
        assert!((quantile(&[1.0, 2.0, 3.0, 4.0], 0.99) - 4.0).abs() < f64::EPSILON);
        let sample = |latency| Sample { turn: 0, at: 0.0, latency };
        let outcome = Outcome { samples: vec![sample(Some(5.0)), sample(None)], ..Outcome::default() };
        assert!(outcome.quantile(0.99).is_infinite() && outcome.left_behind() == 1);
    }
}
