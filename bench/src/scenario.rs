//! The scenarios: what is done, and which figures come of it. Owns their list, their sizes and their report.

mod arrivals;
mod audit;
mod burst;
mod calls;
mod deadlines;
pub mod held;
mod ledger;
mod ratchet;
mod reads;
mod streams;
mod takeover;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use crate::access::Access;
use crate::figure::Figure;
use crate::floor::Pattern;
use crate::ground::{Ground, Side};
use crate::plot::Picture;

/// What all scenarios are run with.
pub struct Bench {
    /// The ways to the API server.
    pub access: Access,
    /// What the floor writes.
    pub pattern: Arc<Pattern>,
    /// Whether only counts and invariants are looked at, on small numbers.
    pub smoke: bool,
    /// Where pictures and figures go.
    pub out: PathBuf,
}

/// What a scenario found.
#[derive(Default)]
pub struct Report {
    /// The figures.
    pub figures: Vec<Figure>,
    /// What was seen that must never be.
    pub broken: Vec<String>,
    /// All that was measured, for a program.
    pub data: Value,
    /// What is printed below the figures.
    pub notes: Vec<String>,
}

/// A scenario.
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Whether a smoke run has it.
    pub in_smoke: bool,
    /// It.
    pub run: for<'a> fn(&'a Bench) -> BoxFuture<'a, Result<Report>>,
}

/// All of them, in the order in which they are run.
pub const ALL: [Scenario; 18] = [
    Scenario {
        name: "ledger",
        about: "what one session's life writes, by verb and resource",
        in_smoke: true,
        run: |bench| Box::pin(ledger::run(bench, "ledger", 0)),
    },
    Scenario {
        name: "steady",
        about: "5 launches a second, at random, three times for 30 s",
        in_smoke: false,
        run: |bench| Box::pin(arrivals::run(bench, "steady", 5.0, 0)),
    },
    Scenario {
        name: "fast",
        about: "20 launches a second, three times for 30 s",
        in_smoke: false,
        run: |bench| Box::pin(arrivals::run(bench, "fast", 20.0, 0)),
    },
    Scenario {
        name: "ratchet",
        about: "more launches a second, step by step, until it falls behind",
        in_smoke: false,
        run: |bench| Box::pin(ratchet::run(bench, "ratchet", 0)),
    },
    Scenario {
        name: "burst",
        about: "100 launches at once",
        in_smoke: true,
        run: |bench| Box::pin(burst::run(bench, "burst", 0)),
    },
    Scenario {
        name: "warm-ledger",
        about: "the same as ledger, of sessions that are given a pod that waits",
        in_smoke: true,
        run: |bench| Box::pin(ledger::run(bench, "warm-ledger", 20)),
    },
    Scenario {
        name: "warm-steady",
        about: "5 launches a second onto pods that wait",
        in_smoke: false,
        run: |bench| Box::pin(arrivals::run(bench, "warm-steady", 5.0, 30)),
    },
    Scenario {
        name: "warm-fast",
        about: "20 launches a second onto pods that wait",
        in_smoke: false,
        run: |bench| Box::pin(arrivals::run(bench, "warm-fast", 20.0, 100)),
    },
    Scenario {
        name: "warm-ratchet",
        about: "more launches a second onto pods that wait, until it falls behind",
        in_smoke: false,
        run: |bench| Box::pin(ratchet::run(bench, "warm-ratchet", 150)),
    },
    Scenario {
        name: "warm-burst",
        about: "100 launches at once onto pods that wait",
        in_smoke: true,
        run: |bench| Box::pin(burst::run(bench, "warm-burst", bench.size(100, 30))),
    },
    Scenario {
        name: "takeover",
        about: "the operator restarted in the middle of a load",
        in_smoke: true,
        run: |bench| Box::pin(takeover::run(bench, "takeover", 0)),
    },
    Scenario {
        name: "warm-takeover",
        about: "the same onto pods that wait",
        in_smoke: false,
        run: |bench| Box::pin(takeover::run(bench, "warm-takeover", 30)),
    },
    Scenario {
        name: "deadlines",
        about: "1,000 deadlines at the same moment",
        in_smoke: true,
        run: |bench| Box::pin(deadlines::run(bench)),
    },
    Scenario {
        name: "held",
        about: "5,000 live sessions in silence, then a restart",
        in_smoke: true,
        run: |bench| Box::pin(held::run(bench)),
    },
    Scenario {
        name: "reads",
        about: "the API: one's own 50 sessions among 10,000, 500 times a second",
        in_smoke: false,
        run: |bench| Box::pin(reads::run(bench)),
    },
    Scenario {
        name: "calls",
        about: "the API: launches, one after the other",
        in_smoke: true,
        run: |bench| Box::pin(calls::run(bench)),
    },
    Scenario {
        name: "streams",
        about: "the API: 2,000 clients that listen to events",
        in_smoke: true,
        run: |bench| Box::pin(streams::run(bench)),
    },
    Scenario {
        name: "audit",
        about: "the API: records on SQLite, each on the disk before its answer",
        in_smoke: false,
        run: |bench| Box::pin(audit::run(bench)),
    },
];

impl Bench {
    /// An empty namespace of a scenario.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn ground(&self, scenario: &str, side: Side, rules: &Value) -> Result<Arc<Ground>> {
        self.warm_ground(scenario, side, rules, 0).await
    }

    /// The same, with so many pods that wait for sessions.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn warm_ground(&self, scenario: &str, side: Side, rules: &Value, warm: usize) -> Result<Arc<Ground>> {
        let ground = Ground::new(&self.access, scenario, side, rules, warm, Some(&self.pattern)).await?;
        Ok(Arc::new(ground))
    }

    /// Draws a picture, under this name.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn draw(&self, name: &str, picture: &Picture<'_>) -> Result<()> {
        picture.draw(&self.out.join(format!("{name}.svg")))
    }

    /// One number for a whole run, another for a smoke run.
    pub fn size(&self, whole: usize, smoke: usize) -> usize {
        if self.smoke { smoke } else { whole }
    }
}

impl Report {
    /// Takes what a ground saw that must not be, and removes it.
    ///
    /// # Errors
    /// When it does not go.
    pub async fn leave(&mut self, ground: Arc<Ground>) -> Result<()> {
        let name = ground.side.name();
        match Arc::try_unwrap(ground) {
            Ok(ground) => self.broken.extend(ground.leave().await?),
            Err(_) => self.broken.push(format!("{name}: somebody still uses its ground")),
        }
        Ok(())
    }
}

/// Rules by which nobody is ended by time, and history goes as soon as it may.
pub fn lasting() -> Value {
    json!({
        "idle": {"after": "4h", "warnAfter": "5h", "disconnectAfter": "6h"},
        "history": {"keepFor": "1s"},
    })
}

/// Runs this for each name, so many at once.
///
/// # Errors
/// At the first that fails.
pub async fn each<F>(names: &[String], at_once: usize, run: impl Fn(String) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    use futures::{StreamExt, TryStreamExt};
    futures::stream::iter(names.iter().cloned().map(run)).buffer_unordered(at_once).try_collect::<Vec<()>>().await?;
    Ok(())
}

/// Names of so many sessions.
pub fn names(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("s{index}")).collect()
}

/// A number of things as a figure.
#[allow(clippy::cast_precision_loss, reason = "there are not so many sessions")]
pub fn number(count: usize) -> f64 {
    count as f64
}
