//! A load in whose middle the operator is restarted: nobody is left behind, nobody is ended who was not to end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use super::{Bench, Report, lasting, names, number};
use crate::figure::{Budget, Figure};
use crate::ground::Side;
use crate::load::Arrivals;
use crate::plot::{Picture, Series};
use crate::process::{NAMESPACE, holder};

/// Tells the leader to stop; another follows it. Returns its name and the moment.
pub async fn restart(bench: &Bench) -> Result<(String, Instant)> {
    let before = holder(&bench.access.admin).await?;
    let pods = Api::<Pod>::namespaced(bench.access.admin.clone(), NAMESPACE);
    let told = Instant::now();
    pods.delete(&before, &DeleteParams::default()).await?;
    Ok((before, told))
}

/// On Berth, with so many pods that wait: the floor has nobody to restart.
pub async fn run(bench: &Bench, name: &str, warm: usize) -> Result<Report> {
    let mut report = Report::default();
    let ground = bench.warm_ground(name, Side::Berth, &lasting(), warm).await?;
    // Some are live all the time, beside those that come and go.
    let lasting = names(bench.size(50, 10)).into_iter().map(|name| format!("live-{name}")).collect::<Vec<_>>();
    super::each(&lasting, 10, |name| {
        let ground = &ground;
        async move { ground.launch(&name).await }
    })
    .await?;
    let all = |sight: &crate::observer::Sight| sight.active.is_some();
    ground.observer.until("became Active", lasting.len(), Duration::from_secs(120), all).await?;
    let seconds = u64::try_from(bench.size(40, 16))?;
    let rate = if bench.smoke { 1.0 } else { 5.0 };
    let load = Arrivals { rate, lasts: Duration::from_secs(seconds), stays: Duration::from_secs(2), seed: 3 };
    let running = {
        let ground = Arc::clone(&ground);
        tokio::spawn(async move { load.run(&ground).await })
    };
    tokio::time::sleep(Duration::from_secs(seconds / 3)).await;
    restart(bench).await?;
    let outcome = running.await??;
    let ended = lasting.iter().filter(|name| !ground.observer.follow(name).borrow().is_live()).count();
    super::each(&lasting, 10, |name| {
        let ground = &ground;
        async move { ground.end(&name).await }
    })
    .await?;
    let over = |sight: &crate::observer::Sight| sight.active.is_some() && !sight.is_live();
    let count = lasting.len() + outcome.samples.len() - outcome.left_behind();
    ground.observer.until("ended", count, Duration::from_secs(120), over).await?;
    report.figures = vec![
        Figure::count("left behind", "sessions", number(outcome.left_behind()), Budget::Most(0.0)),
        Figure::count("ended though nobody ended them", "sessions", number(ended), Budget::Most(0.0)),
        Figure::timed("created to Active seen, p50", "ms", outcome.quantile(0.5), Budget::Told),
        Figure::timed("created to Active seen, the longest", "ms", outcome.quantile(1.0), Budget::Told),
    ];
    report.data = json!({"berth": outcome.to_json()});
    let points = outcome.samples.iter().filter_map(|it| Some((it.at, it.latency?))).collect();
    let picture = Picture {
        title: "Launches while the operator is restarted",
        across: "arrival, s after the beginning",
        up: "created to Active seen, ms",
        joined: false,
        series: vec![Series { name: "Berth", points }],
    };
    bench.draw(name, &picture)?;
    report.broken.extend(outcome.failures);
    report.leave(ground).await?;
    Ok(report)
}
