//! Records of the audit on SQLite, each durable before its answer: beside a loop that writes a block and waits for the disk.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use berth::clock::Clock;
use berth::store::Store;
use berth::store::audit::{Draft, Outcome};
use serde_json::json;
use tokio::task::JoinSet;

use super::{Bench, Report, number};
use crate::figure::{Budget, Figure};

/// How many callers at once.
const CALLERS: [usize; 3] = [1, 8, 64];
/// How often each has its turn.
const TURNS: usize = 3;

/// On the disk where the benchmark's files go.
pub async fn run(bench: &Bench) -> Result<Report> {
    let mut report = Report::default();
    let folder = bench.out.join(format!("audit-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let store = Store::open(&format!("sqlite:{}", folder.join("berth.db").display())).await.context("a store")?;
    let lasts = Duration::from_millis(if bench.smoke { 200 } else { 2_000 });
    let mut bare = 0.0;
    let mut ours = [0.0; CALLERS.len()];
    for _ in 0..TURNS {
        bare += syncs(&folder, lasts)? / f64::from(u32::try_from(TURNS)?);
        for (rate, callers) in ours.iter_mut().zip(CALLERS) {
            *rate += records(&store, callers, lasts).await? / f64::from(u32::try_from(TURNS)?);
        }
    }
    for (rate, callers) in ours.into_iter().zip(CALLERS) {
        // Group commit is for those who come together; one alone waits for the disk and for the threads between.
        let budget = if callers == 64 { Budget::OfFloor(0.5) } else { Budget::Told };
        let name = format!("records a second, {callers} at once");
        report.figures.push(Figure::timed(name, "/s", rate, budget).beside(bare));
    }
    report.data = json!({"syncsPerSecond": bare, "callers": CALLERS, "recordsPerSecond": ours});
    store.close().await;
    std::fs::remove_dir_all(&folder)?;
    Ok(report)
}

/// Blocks of 4 KiB that were on the disk, a second.
fn syncs(folder: &Path, lasts: Duration) -> Result<f64> {
    let mut file = File::create(folder.join("floor"))?;
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < lasts {
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(number(count) / begun.elapsed().as_secs_f64())
}

/// Records that were on the disk, a second.
async fn records(store: &Store, callers: usize, lasts: Duration) -> Result<f64> {
    let count = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut under_way = JoinSet::new();
    for caller in 0..callers {
        let (store, count) = (store.clone(), Arc::clone(&count));
        under_way.spawn(async move {
            while begun.elapsed() < lasts {
                store.append(draft(caller)).await?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(done) = under_way.join_next().await {
        done??;
    }
    let count = usize::try_from(count.load(Ordering::Relaxed))?;
    Ok(number(count) / begun.elapsed().as_secs_f64())
}

fn draft(caller: usize) -> Draft {
    Draft {
        at: Clock::system().now(),
        organization: "bench".to_owned(),
        actor: format!("user-{caller}"),
        action: "disconnect_session".to_owned(),
        target_kind: "Session".to_owned(),
        target_name: "desktop-9f3a2c41".to_owned(),
        target_uid: Some("0b7f1f6e-3d55-4c3e-9a51-2d7c8d8f4a10".to_owned()),
        outcome: Outcome::Success,
        reason: None,
        address: Some("127.0.0.1".to_owned()),
        address_source: Some("connection".to_owned()),
        once: None,
        details: json!({"user": "ana"}),
    }
}
