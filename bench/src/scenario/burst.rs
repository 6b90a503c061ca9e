//! Many launches at once: until all are Active.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::{Bench, Report, each, lasting, names};
use crate::figure::{Budget, Figure};
use crate::ground::{PATIENCE, Side};

/// On the floor and on Berth, with so many pods that wait.
pub async fn run(bench: &Bench, name: &str, warm: usize) -> Result<Report> {
    let mut report = Report::default();
    let count = bench.size(100, 30);
    let names = names(count);
    let mut lasted = Vec::new();
    for side in [Side::Floor, Side::Berth] {
        let ground = bench.warm_ground(name, side, &lasting(), warm).await?;
        let begun = Instant::now();
        each(&names, count, |name| {
            let ground = &ground;
            async move { ground.launch(&name).await }
        })
        .await?;
        let all = ground.observer.until("became Active", count, PATIENCE, |sight| sight.active.is_some()).await?;
        lasted.push((all - begun).as_secs_f64());
        each(&names, count, |name| {
            let ground = &ground;
            async move { ground.end(&name).await }
        })
        .await?;
        ground.observer.until("ended", count, PATIENCE, |sight| sight.ended.is_some() || sight.gone.is_some()).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        report.leave(ground).await?;
    }
    if let [floor, berth] = lasted.as_slice() {
        let name = format!("{count} launches at once, until all are Active");
        report.figures.push(Figure::timed(name, "s", *berth, Budget::TimesFloor(2.0)).beside(*floor));
        report.data = json!({"count": count, "floorSeconds": floor, "berthSeconds": berth});
    }
    Ok(report)
}
