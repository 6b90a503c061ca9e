//! Many deadlines at the same moment: when the first end is seen, when the last, and that none is early.

use std::time::{Duration, Instant};

use anyhow::Result;
use chrono::{SecondsFormat, TimeDelta, Utc};
use serde_json::json;

use super::{Bench, Report, each, names, number};
use crate::figure::{Budget, Figure};
use crate::ground::{Ground, PATIENCE, Side};
use crate::observer::Sight;

/// How many requests a client has under way.
const AT_ONCE: usize = 32;

/// On the floor, which is told when; and on Berth, which knows.
pub async fn run(bench: &Bench) -> Result<Report> {
    let mut report = Report::default();
    let names = names(bench.size(1000, 30));
    let quiet = u64::try_from(bench.size(150, 30))?;
    let rules = json!({
        "idle": {
            "after": format!("{}s", quiet / 2), "warnAfter": format!("{}s", quiet * 2 / 3),
            "disconnectAfter": format!("{quiet}s"),
        },
    });

    let ground = bench.ground("deadlines", Side::Floor, &rules).await?;
    live(&ground, &names).await?;
    let begun = Instant::now();
    each(&names, AT_ONCE, |name| {
        let ground = &ground;
        async move { ground.expire(&name).await }
    })
    .await?;
    let ended = |sight: &Sight| sight.ended.is_some();
    ground.observer.until("ended", names.len(), PATIENCE, ended).await?;
    let last = ground.observer.all().iter().filter_map(|(_, sight)| sight.ended).max().unwrap_or(begun);
    let floor = (last - begun).as_secs_f64();
    report.leave(ground).await?;

    let ground = bench.ground("deadlines", Side::Berth, &rules).await?;
    live(&ground, &names).await?;
    // The same last activity for all gives the same deadline.
    let (wall, now) = now();
    let active = wall.to_rfc3339_opts(SecondsFormat::Secs, true);
    let within = TimeDelta::nanoseconds(i64::from(wall.timestamp_subsec_nanos())).to_std()?;
    let due = now - within + Duration::from_secs(quiet);
    let patch = json!({"spec": {"keepAliveAt": active}});
    each(&names, AT_ONCE, |name| {
        let (ground, patch) = (&ground, &patch);
        async move { ground.change(&name, patch).await }
    })
    .await?;
    ground.observer.until("ended", names.len(), PATIENCE, ended).await?;
    let mut late: Vec<f64> = Vec::new();
    let mut early = 0;
    for at in ground.observer.all().iter().filter_map(|(_, sight)| sight.ended) {
        match at.checked_duration_since(due) {
            Some(after) => late.push(after.as_secs_f64()),
            None => early += 1,
        }
    }
    let first = late.iter().copied().fold(f64::INFINITY, f64::min);
    let last = late.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let wrong = ground.list().await?;
    let wrong = wrong.iter().filter(|session| session.data["status"]["reason"] != "IdleTimeout").count();
    let count = names.len();
    report.figures = vec![
        Figure::count("ends before their deadline", "sessions", number(early), Budget::Most(0.0)),
        Figure::count("ends for another reason", "sessions", number(wrong), Budget::Most(0.0)),
        Figure::timed("deadline to the first end seen", "s", first, Budget::Most(1.0)),
        Figure::timed(format!("deadline to the last of {count} ends seen"), "s", last, Budget::TimesFloor(2.0))
            .beside(floor),
    ];
    report.data = json!({"count": count, "floorSeconds": floor, "berthSeconds": late});
    report.leave(ground).await?;
    Ok(report)
}

async fn live(ground: &Ground, names: &[String]) -> Result<()> {
    each(names, AT_ONCE, |name| async move { ground.launch(&name).await }).await?;
    ground.observer.until("became Active", names.len(), PATIENCE, |sight| sight.active.is_some()).await?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock that deadlines are written by")]
fn now() -> (chrono::DateTime<Utc>, Instant) {
    (Utc::now(), Instant::now())
}
