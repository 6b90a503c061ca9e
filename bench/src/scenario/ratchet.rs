//! A load that grows step by step, until it is not kept up with: the rate that can be sustained.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::{Bench, Report, lasting};
use crate::figure::{Budget, Figure};
use crate::ground::Side;
use crate::load::Arrivals;
use crate::plot::{Picture, Series};

/// The rates, in launches a second.
const STEPS: [f64; 12] = [5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0, 50.0, 60.0, 80.0, 100.0];
/// For how long each is tried.
const EACH: Duration = Duration::from_secs(15);
/// Who keeps up has brought up everybody so soon after the last arrival.
const SOON: Duration = Duration::from_secs(3);

/// One step: the rate, the latency at half of the sessions, and whether it was kept up with.
type Step = (f64, f64, bool);

/// On the floor and on Berth, with so many pods that wait.
pub async fn run(bench: &Bench, scenario: &str, warm: usize) -> Result<Report> {
    let mut report = Report::default();
    let mut both: Vec<(f64, Vec<Step>)> = Vec::new();
    for side in [Side::Floor, Side::Berth] {
        let (mut sustained, mut steps) = (0.0, Vec::new());
        for (index, rate) in STEPS.into_iter().enumerate() {
            let ground = bench.warm_ground(&format!("{scenario}-{index}"), side, &lasting(), warm).await?;
            let load = Arrivals { rate, lasts: EACH, stays: Duration::from_secs(1), seed: 2 };
            let outcome = load.run(&ground).await?;
            report.leave(ground).await?;
            let kept_up = outcome.caught_up <= SOON && outcome.left_behind() == 0 && outcome.failures.is_empty();
            steps.push((rate, outcome.quantile(0.5), kept_up));
            if !kept_up {
                break;
            }
            sustained = rate;
        }
        both.push((sustained, steps));
    }
    if let [(floor, floors), (berth, berths)] = both.as_slice() {
        let name = "sustained launches before falling behind";
        report.figures.push(Figure::timed(name, "/s", *berth, Budget::OfFloor(0.7)).beside(*floor));
        let written = |steps: &[Step]| {
            let each = |(rate, p50, kept_up): &Step| json!({"rate": rate, "p50Ms": p50, "keptUp": kept_up});
            steps.iter().map(each).collect::<Vec<_>>()
        };
        report.data = json!({"floor": written(floors), "berth": written(berths)});
        let points = |steps: &[Step]| steps.iter().map(|(rate, p50, _)| (*rate, *p50)).collect();
        let series =
            vec![Series { name: "Berth", points: points(berths) }, Series { name: "floor", points: points(floors) }];
        let picture = Picture {
            title: "Latency over rate, up to the first rate that is not kept up with",
            across: "launches a second",
            up: "created to Active seen, p50, ms",
            joined: true,
            series,
        };
        bench.draw(scenario, &picture)?;
    }
    Ok(report)
}
