//! What one session's life writes, from its creation until nothing of it is left: by verb and resource, everybody's
//! writes, beside the floor's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::{Bench, Report, each, lasting, names, number};
use crate::figure::{Budget, Figure};
use crate::ground::{Ground, PATIENCE, Side};
use crate::ledger::{Ledger, Line};
use crate::process::{Process, holder};

/// How long after the last object has gone the last events may still be written.
const SETTLE: Duration = Duration::from_secs(5);

/// How many writes put the finalizer on a Session, and take it off again.
const FINALIZERS: f64 = 2.0;
/// How many writes end a session's history.
const PRUNING: f64 = 1.0;

/// What one side wrote.
struct Spent {
    ledger: Ledger,
    lasted: Duration,
    /// The processor time of the operator, in seconds: the floor's is a client's, and not told.
    operator: f64,
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
        if warm > 0 {
            report.figures.push(life(&berth.ledger, each));
        }
        report.notes = table(&floor.ledger, &berth.ledger, each);
        report.notes.extend(processors(floor, berth, each));
        report.data = json!({"floor": lines(&floor.ledger, each), "berth": lines(&berth.ledger, each)});
    }
    Ok(report)
}

/// Lets all of them live, a few at once, until nothing is left of them.
async fn lives(bench: &Bench, ground: &Ground, names: &[String]) -> Result<Spent> {
    tokio::time::sleep(SETTLE).await;
    let begun = Instant::now();
    let operator = Process::of(&holder(&bench.access.admin).await?)?;
    let before = (Ledger::read(&bench.access.load).await?, operator.processor()?);
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
    let ledger = Ledger::read(&bench.access.load).await?.since(&before.0);
    Ok(Spent { ledger, lasted: begun.elapsed(), operator: operator.processor()? - before.1 })
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

/// All writes of a warm life, its refill and what the kubelet and the scheduler write included: without those for finalizers and
/// the end of its history, which design has apart.
fn life(berth: &Ledger, each: f64) -> Figure {
    let of_it = |line: &Line| line.is_write() && ["sessions", "pods"].contains(&line.resource.as_str());
    let writes = berth.sum(of_it) / each - FINALIZERS - PRUNING;
    Figure::count("writes of a life, without finalizers and history", "writes", writes, Budget::Most(12.0))
}

/// A kind of write on one side.
#[derive(Clone, Copy, Default)]
struct Cell {
    /// How many for each session.
    count: f64,
    /// How long one takes the API server, in milliseconds.
    milliseconds: f64,
}

impl Cell {
    /// How long all of them take, in milliseconds: what was not written took no time.
    fn time(self) -> f64 {
        if self.count > 0.0 { self.count * self.milliseconds } else { 0.0 }
    }
}

/// Lines that are written at least once for ten sessions, by either side: Berth's, and the floor's.
fn rows(floor: &Ledger, berth: &Ledger, each: f64) -> Vec<(String, Cell, Cell)> {
    let of = |ledger: &Ledger| {
        let cell = |(line, count): (Line, f64)| {
            let cell = Cell { count: count / each, milliseconds: ledger.milliseconds(&line).unwrap_or(f64::NAN) };
            (line.to_string().replace(".floor.berth.dev", ".berth.dev"), cell)
        };
        ledger.writes().into_iter().map(cell).collect::<BTreeMap<String, Cell>>()
    };
    let (floor, berth) = (of(floor), of(berth));
    let all: BTreeSet<&String> = floor.keys().chain(berth.keys()).collect();
    let get = |of: &BTreeMap<String, Cell>, line: &String| of.get(line).copied().unwrap_or_default();
    let rows = all.into_iter().map(|line| (line.clone(), get(&berth, line), get(&floor, line)));
    rows.filter(|(_, berth, floor)| berth.count >= 0.1 || floor.count >= 0.1).collect()
}

/// Where the writes go, and the API server's time with them.
fn table(floor: &Ledger, berth: &Ledger, each: f64) -> Vec<String> {
    let heading = format!(
        "{:<44} {:>7} {:>7} {:>9} {:>9}",
        "writes for each session, by whomever", "Berth", "floor", "ms each", "floor's"
    );
    let rows = rows(floor, berth, each);
    let lines = rows.iter().map(|(name, berth, floor)| {
        let counts = format!("  {name:<42} {:>7.2} {:>7.2}", berth.count, floor.count);
        // What was not written took no time.
        let time = |cell: &Cell| if cell.count > 0.0 { format!("{:.2}", cell.milliseconds) } else { String::new() };
        format!("{counts} {:>9} {:>9}", time(berth), time(floor)).trim_end().to_owned()
    });
    let sum = |of: fn(&(String, Cell, Cell)) -> f64| rows.iter().map(of).sum::<f64>();
    let total = format!(
        "  {:<42} {:>7.2} {:>7.2} {:>9.2} {:>9.2}",
        "in all",
        sum(|row| row.1.count),
        sum(|row| row.2.count),
        sum(|row| row.1.time()),
        sum(|row| row.2.time())
    );
    std::iter::once(heading).chain(lines).chain([total]).collect()
}

/// Whose processor time a session takes, from its launch until nothing of it is left.
fn processors(floor: &Spent, berth: &Spent, each: f64) -> Vec<String> {
    let of = |seconds: f64| seconds / each * 1000.0;
    let (ours, theirs) = (of(berth.ledger.processor()), of(floor.ledger.processor()));
    vec![
        format!("processor time for each session: the operator {:.1} ms", of(berth.operator)),
        format!("processor time for each session: the API server {ours:.1} ms, {theirs:.1} ms on the floor"),
    ]
}

fn lines(ledger: &Ledger, each: f64) -> Value {
    let line = |(line, count): (Line, f64)| json!({"write": line.to_string(), "perSession": count / each});
    ledger.writes().into_iter().map(line).collect()
}
