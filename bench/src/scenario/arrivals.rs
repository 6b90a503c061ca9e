//! Launches at random, at one rate: how long each takes, and whether any is left behind.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::{Bench, Report, lasting, number};
use crate::figure::{Budget, Figure};
use crate::ground::Side;
use crate::load::{Arrivals, Outcome};
use crate::plot::{Picture, Series};

/// How often each side has its turn. Near its limit the machine is never twice the same: the turns alternate, and what
/// comes first in one comes last in the next.
const TURNS: u64 = 3;

/// For how long they arrive, in each turn.
const LASTS: Duration = Duration::from_secs(30);

/// One rate, on the floor and on Berth, with so many pods that wait.
pub async fn run(bench: &Bench, name: &str, rate: f64, warm: usize) -> Result<Report> {
    let mut report = Report::default();
    let (mut floor, mut berth) = (Outcome::default(), Outcome::default());
    for turn in 0..TURNS {
        let load = Arrivals { rate, lasts: LASTS, stays: Duration::from_secs(2), seed: turn };
        let mut sides = [(Side::Floor, &mut floor), (Side::Berth, &mut berth)];
        sides.rotate_left(usize::from(turn % 2 == 1));
        for (side, outcome) in sides {
            let ground = bench.warm_ground(&format!("{name}-{turn}"), side, &lasting(), warm).await?;
            outcome.extend(load.run(&ground).await?);
            report.leave(ground).await?;
        }
    }
    report.figures = figures(&floor, &berth);
    report.data = json!({"floor": floor.to_json(), "berth": berth.to_json()});
    let points = |outcome: &Outcome| outcome.samples.iter().filter_map(|it| Some((it.at, it.latency?))).collect();
    let title = format!("Launches at {rate} a second, {TURNS} turns of each side");
    let series =
        vec![Series { name: "Berth", points: points(&berth) }, Series { name: "floor", points: points(&floor) }];
    let picture = Picture {
        title: &title,
        across: "arrival, s after the beginning",
        up: "created to Active seen, ms",
        joined: false,
        series,
    };
    bench.draw(name, &picture)?;
    report.broken.extend(berth.failures.iter().map(|words| format!("berth: {words}")));
    report.notes.extend(floor.failures.iter().map(|words| format!("floor: {words}")));
    Ok(report)
}

fn figures(floor: &Outcome, berth: &Outcome) -> Vec<Figure> {
    let latency = |name, share| {
        Figure::timed(name, "ms", berth.quantile(share), Budget::TimesFloor(1.5)).beside(floor.quantile(share))
    };
    vec![
        latency("created to Active seen, p50", 0.5),
        latency("created to Active seen, p99", 0.99),
        Figure::timed("left behind", "sessions", number(berth.left_behind()), Budget::Most(0.0))
            .beside(number(floor.left_behind())),
        Figure::timed("last arrival to all Active", "s", berth.caught_up.as_secs_f64(), Budget::Told)
            .beside(floor.caught_up.as_secs_f64()),
    ]
}
