//! What one session's life writes, from its creation until nothing of it is left: by verb and resource, everybody's
//! writes, beside the floor's.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::{Bench, Report, each, lasting, names, number};
use crate::figure::{Budget, Figure};
use crate::ground::{Ground, PATIENCE, Side};
use crate::ledger::{Ledger, Line};

/// How long after the last object has gone the last events may still be written.
const SETTLE: Duration = Duration::from_secs(5);

/// What one side wrote.
struct Spent {
    ledger: Ledger,
    lasted: Duration,
}

/// On the floor and on Berth, with so many pods that wait.
pub async fn run(bench: &Bench, name: &str, warm: usize) -> Result<Report> {
    let mut report = Report::default();
    let names = names(bench.size(100, 20));
    let mut spent = Vec::new();
    for side in [Side::Floor, Side::Berth] {
        let ground = bench.warm_ground(name, side, &lasting(), warm).await?;
        spent.push(lives(bench, &ground, &names).await?);
        report.leave(ground).await?;
    }
    if let [floor, berth] = spent.as_slice() {
        let each = number(names.len());
        report.figures = figures(&floor.ledger, berth, each);
        report.notes = table(&floor.ledger, &berth.ledger, each);
        report.data = json!({"floor": lines(&floor.ledger, each), "berth": lines(&berth.ledger, each)});
    }
    Ok(report)
}

/// Lets all of them live, a few at once, until nothing is left of them.
async fn lives(bench: &Bench, ground: &Ground, names: &[String]) -> Result<Spent> {
    tokio::time::sleep(SETTLE).await;
    let begun = Instant::now();
    let before = Ledger::read(&bench.access.load).await?;
    each(names, 10, |name| async move {
        let mut seen = ground.observer.follow(&name);
        ground.launch(&name).await?;
        tokio::time::timeout(PATIENCE, seen.wait_for(|sight| sight.active.is_some())).await??;
        tokio::time::sleep(Duration::from_secs(2)).await;
        ground.end(&name).await?;
        tokio::time::timeout(PATIENCE, seen.wait_for(|sight| sight.gone.is_some())).await??;
        Ok(())
    })
    .await?;
    tokio::time::sleep(SETTLE).await;
    let ledger = Ledger::read(&bench.access.load).await?.since(&before);
    Ok(Spent { ledger, lasted: begun.elapsed() })
}

fn of_sessions(line: &Line) -> bool {
    line.is_write() && line.resource == "sessions"
}

/// Events as Berth tells them. Those of the older kind are Kubernetes' own controllers', such as that of the budgets, and stand in
/// the table.
fn of_events(line: &Line) -> bool {
    line.is_write() && line.resource == "events" && line.group == "events.k8s.io"
}

fn of_workspaces(line: &Line) -> bool {
    line.is_write() && line.resource == "workspaces"
}

fn figures(floor: &Ledger, berth: &Spent, each: f64) -> Vec<Figure> {
    let of_pods = |line: &Line| line.is_write() && line.resource == "pods";
    let per = |ledger: &Ledger, is: fn(&Line) -> bool| ledger.sum(is) / each;
    let beside = |name: &str, is: fn(&Line) -> bool| {
        // The API server counts for everybody: a stray pod of something else is not ours.
        Figure::count(name, "writes", per(&berth.ledger, is), Budget::TimesFloor(1.05)).beside(per(floor, is))
    };
    let told = (per(&berth.ledger, of_events) - per(floor, of_events)).max(0.0);
    let workspaces = berth.ledger.sum(of_workspaces) / berth.lasted.as_secs_f64();
    vec![
        beside("writes to the Session, its user's too, for each", of_sessions),
        beside("writes to pods, kubelet and scheduler too, for each", of_pods),
        Figure::count("events beyond the floor's, for each", "events", told, Budget::Most(2.0)),
        Figure::count("writes to the Workspace", "/s", workspaces, Budget::Most(1.0)),
    ]
}

/// Lines that are written at least once for ten sessions, by either side.
fn rows(floor: &Ledger, berth: &Ledger, each: f64) -> Vec<(String, f64, f64)> {
    let of = |ledger: &Ledger| {
        let writes = ledger.writes().into_iter();
        writes
            .map(|(line, count)| (line.to_string().replace(".floor.berth.dev", ".berth.dev"), count / each))
            .collect::<std::collections::BTreeMap<String, f64>>()
    };
    let (floor, berth) = (of(floor), of(berth));
    let mut all: Vec<&String> = floor.keys().chain(berth.keys()).collect();
    all.sort();
    all.dedup();
    let get = |of: &std::collections::BTreeMap<String, f64>, line: &String| of.get(line).copied().unwrap_or_default();
    let rows = all.into_iter().map(|line| (line.clone(), get(&berth, line), get(&floor, line)));
    rows.filter(|(_, berth, floor)| *berth >= 0.1 || *floor >= 0.1).collect()
}

fn table(floor: &Ledger, berth: &Ledger, each: f64) -> Vec<String> {
    let heading = format!("{:<44} {:>7} {:>7}", "writes for each session, by whomever", "Berth", "floor");
    let rows = rows(floor, berth, each);
    let sum = |of: fn(&(String, f64, f64)) -> f64| rows.iter().map(of).sum::<f64>();
    let line = |name: &str, berth: f64, floor: f64| format!("  {name:<42} {berth:>7.2} {floor:>7.2}");
    let total = line("in all", sum(|row| row.1), sum(|row| row.2));
    let lines = rows.iter().map(|(name, berth, floor)| line(name, *berth, *floor));
    std::iter::once(heading).chain(lines).chain([total]).collect()
}

fn lines(ledger: &Ledger, each: f64) -> Value {
    let line = |(line, count): (Line, f64)| json!({"write": line.to_string(), "perSession": count / each});
    ledger.writes().into_iter().map(line).collect()
}
