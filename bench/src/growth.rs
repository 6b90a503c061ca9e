//! `bench growth`: how what Berth costs grows with live sessions, and with the Workspaces that they are of. Owns the steps, what is
//! measured at each, the lines through them and their pictures. A floor of its own stands beside each launch: the API server, too,
//! has more to hold.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::figure::{Budget, Figure};
use crate::ground::{Ground, PATIENCE, Side};
use crate::line::Line;
use crate::load::quantile_of;
use crate::observer::Sight;
use crate::plot::{Picture, Series, sheet};
use crate::process::{Process, holder};
use crate::scenario::held::{Silence, restarted};
use crate::scenario::{Bench, Report, each, lasting, number};

/// How many requests a client has under way.
const AT_ONCE: usize = 32;
/// How many launches, one after the other, tell how long one takes.
const PROBES: usize = 30;
/// How many live sessions a Workspace is given: as many as it may have, but for those that are launched beside them.
const OF_ONE: usize = 9900;
/// How long a launch, or an end, of one session may take.
const ONE: Duration = Duration::from_secs(60);

/// How far it is to grow.
#[derive(clap::Args)]
pub struct Sizes {
    /// How many live sessions, step by step: of one Workspace, as long as it may have so many
    #[arg(long, value_name = "COUNT,…", value_delimiter = ',', default_values_t = [100, 1000, 5000, 10_000])]
    sessions: Vec<usize>,
    /// How many Workspaces, step by step
    #[arg(long, value_name = "COUNT,…", value_delimiter = ',', default_values_t = [1, 10, 50, 200])]
    workspaces: Vec<usize>,
    /// How many live sessions the Workspaces have together
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    spread: usize,
}

/// What was measured at one step.
struct Step {
    /// How many there are of what grows.
    size: f64,
    /// Memory of the operator as it has grown to here, in MiB.
    grown: f64,
    /// Its successor's, which has read all there is and changed nothing.
    fresh: f64,
    /// Its share of a core while nothing happens, in percent.
    share: f64,
    /// What launches took, in milliseconds.
    launches: Vec<f64>,
    /// What the floor's took beside them.
    floor: Vec<f64>,
    /// From the beginning of a process to its first act, in seconds.
    restart: f64,
}

/// Lets both grow, one after the other.
///
/// # Errors
/// When the benchmark itself fails.
pub async fn run(bench: &Bench, sizes: &Sizes) -> Result<Report> {
    let in_order = |counts: &[usize]| counts.is_sorted_by(|a, b| a < b) && !counts.contains(&0);
    ensure!(
        in_order(&sizes.sessions) && in_order(&sizes.workspaces),
        "counts are 1 or more, each above the one before it"
    );
    let mut report = Report::default();
    let floor = bench.ground("growth", Side::Floor, &lasting()).await?;
    let by_sessions = sessions(bench, &floor, sizes, &mut report).await?;
    let by_workspaces = workspaces(bench, &floor, sizes, &mut report).await?;
    report.leave(floor).await?;
    tell(bench, "sessions", ("1,000 sessions", 1000.0), &by_sessions, &mut report)?;
    tell(bench, "workspaces", ("100 Workspaces", 100.0), &by_workspaces, &mut report)?;
    report.data = json!({
        "sessions": by_sessions.iter().map(Step::to_json).collect::<Vec<_>>(),
        "workspaces": by_workspaces.iter().map(Step::to_json).collect::<Vec<_>>(),
        "spread": sizes.spread,
    });
    Ok(report)
}

/// More and more sessions, of as few Workspaces as may have them.
async fn sessions(bench: &Bench, floor: &Ground, sizes: &Sizes, report: &mut Report) -> Result<Vec<Step>> {
    if sizes.sessions.is_empty() {
        return Ok(Vec::new());
    }
    let ground = bench.ground("growth-sessions", Side::Berth, &lasting()).await?;
    let (mut names, mut steps) = (Vec::new(), Vec::new());
    for size in &sizes.sessions {
        let ground = ground.as_ref();
        let more: Vec<String> = (names.len()..*size).map(|index| of(index / OF_ONE, index)).collect();
        offered(ground, names.len().div_ceil(OF_ONE).max(1)..size.div_ceil(OF_ONE)).await?;
        launched(ground, &more).await?;
        names.extend(more);
        live(ground, &names).await?;
        steps.push(measure(bench, ground, floor, ("sessions", *size), report).await?);
    }
    end(&ground, &names).await?;
    report.leave(ground).await?;
    Ok(steps)
}

/// The same sessions, of more and more Workspaces.
async fn workspaces(bench: &Bench, floor: &Ground, sizes: &Sizes, report: &mut Report) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for size in &sizes.workspaces {
        let ground = bench.ground("growth-workspaces", Side::Berth, &lasting()).await?;
        offered(&ground, 1..*size).await?;
        let names: Vec<String> = (0..sizes.spread).map(|index| of(index % size, index)).collect();
        launched(&ground, &names).await?;
        live(&ground, &names).await?;
        steps.push(measure(bench, &ground, floor, ("workspaces", *size), report).await?);
        end(&ground, &names).await?;
        report.leave(ground).await?;
    }
    Ok(steps)
}

/// The name of a session of the Workspace of this number; the first of them is the ground's own.
fn of(workspace: usize, index: usize) -> String {
    match workspace {
        0 => format!("s{index}-of-desk"),
        _ => format!("s{index}-of-desk-{workspace}"),
    }
}

/// Offers the Workspaces of these numbers.
async fn offered(ground: &Ground, workspaces: std::ops::Range<usize>) -> Result<()> {
    let names: Vec<String> = workspaces.map(|number| format!("desk-{number}")).collect();
    each(&names, AT_ONCE, |name| async move { ground.offer(&name).await }).await
}

/// Launches sessions, each of the Workspace that its name says.
async fn launched(ground: &Ground, names: &[String]) -> Result<()> {
    each(names, AT_ONCE, |name| async move {
        let workspace = name.split_once("-of-").map_or("desk", |(_, workspace)| workspace);
        ground.launch_in(workspace, &name).await
    })
    .await
}

/// Waits until all of these are live.
async fn live(ground: &Ground, names: &[String]) -> Result<()> {
    eprintln!("{} sessions are launched", names.len());
    ground.observer.until("are live", names.len(), PATIENCE, Sight::is_live).await.map(drop)
}

/// Ends these, and waits until they have.
async fn end(ground: &Ground, names: &[String]) -> Result<()> {
    each(names, AT_ONCE, |name| async move { ground.end(&name).await }).await?;
    for name in names {
        ground.observer.until_named(name, PATIENCE, |sight| sight.ended.is_some()).await?;
    }
    Ok(())
}

/// Measures with so many of what grows.
async fn measure(
    bench: &Bench,
    ground: &Ground,
    floor: &Ground,
    (what, size): (&str, usize),
    report: &mut Report,
) -> Result<Step> {
    let (settle, lasts) = if bench.smoke { (3, 5) } else { (10, 30) };
    let silence = Silence::of(bench, Duration::from_secs(settle), Duration::from_secs(lasts)).await?;
    report.broken.extend(silence.told().into_iter().map(|words| format!("{size} {what}: {words}")));
    let (mut launches, mut beside) = (Vec::new(), Vec::new());
    for probe in 0..PROBES {
        // Names are this step's, on the floor of both series: what was seen of one is not forgotten.
        let name = format!("probe-{size}-{what}-{probe}");
        beside.push(launch(floor, &name).await?);
        launches.push(launch(ground, &name).await?);
    }
    let grown = silence.process.resident()?;
    let restart = restarted(bench, ground, &format!("restart-{size}-{what}")).await?;
    end(ground, &restart.probes).await?;
    tokio::time::sleep(Duration::from_secs(settle)).await;
    let fresh = Process::of(&holder(&bench.access.admin).await?)?.resident()?;
    eprintln!(
        "{size} {what}: {grown:.1} MiB, {fresh:.1} MiB after a restart, which acted after {:.2} s",
        restart.from_start
    );
    Ok(Step {
        size: number(size),
        grown,
        fresh,
        share: silence.share,
        launches,
        floor: beside,
        restart: restart.from_start,
    })
}

/// Launches one session and ends it; how long it took to become Active, in milliseconds.
async fn launch(ground: &Ground, name: &str) -> Result<f64> {
    let begun = Instant::now();
    let seen = async {
        ground.observer.until_named(name, ONE, |sight| sight.active.is_some()).await?;
        Ok(begun.elapsed())
    };
    let ((), took) = tokio::try_join!(ground.launch(name), seen)?;
    ground.end(name).await?;
    ground.observer.until_named(name, ONE, |sight| sight.ended.is_some()).await?;
    Ok(took.as_secs_f64() * 1000.0)
}

/// The figures of what grew, and its pictures.
fn tell(bench: &Bench, what: &str, per: (&str, f64), steps: &[Step], report: &mut Report) -> Result<()> {
    let Some(last) = steps.last() else { return Ok(()) };
    let points = |of: fn(&Step) -> f64| steps.iter().map(|step| (step.size, of(step))).collect::<Vec<_>>();
    let (grown, fresh, share, restart) =
        (points(|it| it.grown), points(|it| it.fresh), points(|it| it.share), points(|it| it.restart));
    let (median, floor) = (points(Step::median), points(Step::floor));
    let titles = [
        format!("Memory: {}", Line::through(&grown).words("MiB", per)),
        format!("Silence: {}", Line::through(&share).words("%", per)),
        format!("Launch, median: {}", Line::through(&median).words("ms", per)),
        format!("Restart: {}", Line::through(&restart).words("s", per)),
    ];
    report.notes.extend(titles.iter().map(|title| format!("{what}: {title}")));
    for step in steps {
        let name = |figure: &str| format!("{what} {}: {figure}", step.size);
        report.figures.extend([
            Figure::count(name("memory"), "MiB", step.grown, Budget::Told),
            Figure::count(name("memory after a restart"), "MiB", step.fresh, Budget::Told),
            Figure::timed(name("share of a core in silence"), "%", step.share, Budget::Told),
            Figure::timed(name("launch, p50"), "ms", step.median(), Budget::TimesFloor(1.5)).beside(step.floor()),
            Figure::timed(name("restart"), "s", step.restart, Budget::Told),
        ]);
    }
    // A picture has its horizontal axis by its largest point.
    let across = format!("{what}, up to {}", last.size);
    let picture = |title, up, series| Picture { title, across: &across, up, joined: true, series };
    let pictures = [
        picture(
            &titles[0],
            "MiB",
            vec![Series { name: "as it grew", points: grown }, Series { name: "after a restart", points: fresh }],
        ),
        picture(&titles[1], "% of a core", vec![Series { name: "Berth", points: share }]),
        picture(
            &titles[2],
            "created to Active seen, ms",
            vec![Series { name: "Berth", points: median }, Series { name: "floor", points: floor }],
        ),
        picture(&titles[3], "process started to first act, s", vec![Series { name: "Berth", points: restart }]),
    ];
    sheet(&bench.out.join(format!("growth-{what}.svg")), &pictures)
}

impl Step {
    fn median(&self) -> f64 {
        quantile_of(&self.launches, 0.5)
    }

    fn floor(&self) -> f64 {
        quantile_of(&self.floor, 0.5)
    }

    fn to_json(&self) -> Value {
        json!({
            "size": self.size, "memoryMiB": self.grown, "memoryAfterRestartMiB": self.fresh,
            "silencePercent": self.share, "launchMs": self.launches, "floorMs": self.floor, "restartSeconds": self.restart,
        })
    }
}
