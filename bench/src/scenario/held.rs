//! Many live sessions to which nothing happens: what they cost in silence, and what a restart does to them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;

use super::{Bench, Report, each, lasting, names, number, takeover};
use crate::figure::{Budget, Figure};
use crate::ground::{Ground, PATIENCE, Side};
use crate::ledger::{Ledger, Line};
use crate::observer::Sight;
use crate::process::{Process, holder};

/// How many requests a client has under way.
const AT_ONCE: usize = 32;
/// How often somebody launches while the operator is restarted.
const PROBE: Duration = Duration::from_millis(250);
/// How often it is looked who leads.
const LOOK: Duration = Duration::from_millis(20);

/// On Berth: for the floor, silence costs nothing.
pub async fn run(bench: &Bench) -> Result<Report> {
    let mut report = Report::default();
    let names = names(bench.size(5000, 40));
    let ground = bench.ground("held", Side::Berth, &lasting()).await?;
    let begun = Instant::now();
    each(&names, AT_ONCE, |name| {
        let ground = &ground;
        async move { ground.launch(&name).await }
    })
    .await?;
    ground.observer.until("became Active", names.len(), PATIENCE, |sight| sight.active.is_some()).await?;
    let lasted = begun.elapsed().as_secs_f64();
    report.figures.push(Figure::timed("launched, on the way", "/s", number(names.len()) / lasted, Budget::Told));
    silence(bench, &mut report).await?;
    restart(bench, &ground, &names, &mut report).await?;
    report.data = json!({"sessions": names.len()});
    let begun = Instant::now();
    each(&names, AT_ONCE, |name| {
        let ground = &ground;
        async move { ground.end(&name).await }
    })
    .await?;
    let over = |sight: &Sight| sight.active.is_some() && !sight.is_live();
    ground.observer.until("ended", names.len(), PATIENCE, over).await?;
    let lasted = begun.elapsed().as_secs_f64();
    report.figures.push(Figure::timed(
        "ended by their users, all at once",
        "/s",
        number(names.len()) / lasted,
        Budget::Told,
    ));
    report.leave(ground).await?;
    Ok(report)
}

fn about_sessions(line: &Line) -> bool {
    let ours = line.group == berth::api::GROUP;
    line.is_write() && (ours || ["pods", "events", "persistentvolumeclaims"].contains(&line.resource.as_str()))
}

async fn silence(bench: &Bench, report: &mut Report) -> Result<()> {
    let (settle, lasts) = if bench.smoke { (8, 20) } else { (30, 120) };
    let silence = Silence::of(bench, Duration::from_secs(settle), Duration::from_secs(lasts)).await?;
    report.figures.extend([
        Figure::count(format!("writes in {lasts} s of silence"), "writes", silence.writes(), Budget::Most(0.0)),
        Figure::timed("share of a core in silence", "%", silence.share, Budget::Most(1.0)),
        Figure::count("memory", "MiB", silence.process.resident()?, Budget::Most(96.0)),
        Figure::count("memory, at its most", "MiB", silence.process.peak()?, Budget::Told),
    ]);
    report.notes.extend(silence.told());
    Ok(())
}

/// What the operator did while nothing happened.
pub struct Silence {
    /// The process of the operator.
    pub process: Process,
    /// Its share of a core, in percent.
    pub share: f64,
    asked: Ledger,
}

impl Silence {
    /// Listens for so long, after what came before has settled.
    ///
    /// # Errors
    /// When the operator or the API server do not tell.
    pub async fn of(bench: &Bench, settle: Duration, lasts: Duration) -> Result<Self> {
        tokio::time::sleep(settle).await;
        let process = Process::of(&holder(&bench.access.admin).await?)?;
        let before = (Ledger::read(&bench.access.load).await?, process.processor()?, Instant::now());
        tokio::time::sleep(lasts).await;
        let share = (process.processor()? - before.1) / before.2.elapsed().as_secs_f64() * 100.0;
        let asked = Ledger::read(&bench.access.load).await?.since(&before.0);
        Ok(Self { process, share, asked })
    }

    /// How much was written about sessions.
    pub fn writes(&self) -> f64 {
        self.asked.sum(about_sessions)
    }

    /// What was written about sessions, line by line.
    pub fn told(&self) -> Vec<String> {
        let lines = self.asked.writes().into_iter().filter(|(line, _)| about_sessions(line));
        lines.map(|(line, count)| format!("written in silence: {line}: {count}")).collect()
    }
}

/// A restart: until another acted.
pub struct Restart {
    /// From the beginning of its process, in seconds.
    pub from_start: f64,
    /// From when its predecessor was told to stop, in seconds.
    pub from_stop: f64,
    /// The sessions that were launched meanwhile.
    pub probes: Vec<String>,
}

/// Restarts the operator, and looks whether anybody was touched by it.
async fn restart(bench: &Bench, ground: &Ground, names: &[String], report: &mut Report) -> Result<()> {
    let before = versions(ground).await?;
    let Restart { from_start, from_stop, probes } = restarted(bench, ground, "restart").await?;
    tokio::time::sleep(Duration::from_secs(if bench.smoke { 5 } else { 15 })).await;
    let ended = names.iter().filter(|name| !ground.observer.follow(name).borrow().is_live()).count();
    let after = versions(ground).await?;
    let touched = names.iter().filter(|name| before.get(*name) != after.get(*name)).count();
    each(&probes, AT_ONCE, |name| async move { ground.end(&name).await }).await?;
    report.figures.extend([
        Figure::timed("restart: process started to first act", "s", from_start, Budget::Most(5.0)),
        Figure::timed("restart: told to stop to first act", "s", from_stop, Budget::Told),
        Figure::count("restart: ended though nobody ended them", "sessions", number(ended), Budget::Most(0.0)),
        Figure::count("restart: written though nothing had happened", "sessions", number(touched), Budget::Most(0.0)),
    ]);
    Ok(())
}

/// Restarts the operator, and launches until another acts. The names of what is launched have this `turn`: what was seen of one is
/// not forgotten.
///
/// # Errors
/// When nobody does within two minutes.
pub async fn restarted(bench: &Bench, ground: &Ground, turn: &str) -> Result<Restart> {
    let (old, told) = takeover::restart(bench).await?;
    let (mut probes, mut leads) = (Vec::new(), None);
    let acted = loop {
        if told.elapsed() > Duration::from_secs(120) {
            bail!("nobody acts two minutes after the operator was told to stop");
        }
        let name = format!("probe-{turn}-{}", probes.len());
        ground.launch(&name).await?;
        probes.push(name);
        let next = Instant::now() + PROBE;
        while leads.is_none() && Instant::now() < next {
            tokio::time::sleep(LOOK).await;
            let other = holder(&bench.access.admin).await.is_ok_and(|holder| holder != old);
            leads = other.then(Instant::now);
        }
        tokio::time::sleep_until(next.into()).await;
        // What came before another led was the old one's, who still acts while it stops.
        let begun = probes.iter().filter_map(|name| ground.observer.follow(name).borrow().begun);
        if let Some(begun) = begun.filter(|begun| leads.is_some_and(|leads| *begun > leads)).min() {
            break begun;
        }
    };
    let process = Process::of(&holder(&bench.access.admin).await?)?;
    let started = Instant::now().checked_sub(process.age()?).unwrap_or(told);
    Ok(Restart { from_start: (acted - started).as_secs_f64(), from_stop: (acted - told).as_secs_f64(), probes })
}

/// The resource version of each session.
async fn versions(ground: &Ground) -> Result<BTreeMap<String, Option<String>>> {
    let sessions = ground.list().await?;
    Ok(sessions.into_iter().map(|it| (it.metadata.name.unwrap_or_default(), it.metadata.resource_version)).collect())
}
