//! A user's own sessions among those of many, asked for again and again: beside a handler that answers the same bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Bench, Report, each, lasting, names};
use crate::access::Person;
use crate::figure::{Budget, Figure};
use crate::gateway::{Floor, Gateway, Http};
use crate::ground::{Ground, PATIENCE, Side, sessions_of};
use crate::ledger::Ledger;
use crate::load::quantile_of;

/// How many sessions are the user's own.
const OWN: usize = 50;
/// How many requests a second.
const RATE: u32 = 500;
/// How often each side has its turn.
const TURNS: usize = 3;

/// On a gateway that watches all of them.
pub async fn run(bench: &Bench) -> Result<Report> {
    let mut report = Report::default();
    let ground = bench.ground("reads", Side::Berth, &lasting()).await?;
    let ana = bench.access.person(ground.namespace(), "ana", Some("berth")).await?;
    let others = bench.size(9_950, 100);
    populate(bench, &ground, &ana, others).await?;
    let gateway = Gateway::start(&bench.access, &bench.out).await?;
    let http = Http::new();
    let (status, bytes) = http.get(gateway.address, "/api/sessions", &ana.token).await?;
    let shown: Vec<Value> = serde_json::from_slice(&bytes).context("a list of sessions")?;
    ensure!(status == 200 && shown.len() == OWN, "{status}: {} sessions, and {OWN} are ana's", shown.len());
    quiet(bench).await?;
    let floor = Floor::start(&bytes, &bench.out)?;
    let lasts = Duration::from_secs(if bench.smoke { 1 } else { 10 });
    let (mut bare, mut ours, mut live) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        bare.extend(load(floor.address, "/api/sessions", &ana, lasts, &mut report).await);
        ours.extend(load(gateway.address, "/api/sessions", &ana, lasts, &mut report).await);
        live.extend(load(gateway.address, "/api/sessions?history=false", &ana, lasts, &mut report).await);
    }
    let name = |what: &str| format!("{what} {RATE} times a second, {OWN} of {}", others + OWN);
    report.figures.extend([
        Figure::timed(name("own sessions p99,"), "ms", quantile_of(&ours, 0.99), Budget::TimesFloor(2.0))
            .beside(quantile_of(&bare, 0.99)),
        Figure::timed(name("own sessions p50,"), "ms", quantile_of(&ours, 0.5), Budget::Told)
            .beside(quantile_of(&bare, 0.5)),
        Figure::timed("without history p99", "ms", quantile_of(&live, 0.99), Budget::Told)
            .beside(quantile_of(&bare, 0.99)),
        Figure::count("memory of the gateway", "MiB", gateway.process().resident()?, Budget::Told),
    ]);
    report.data = json!({"bytes": bytes.len(), "requests": ours.len()});
    drop((gateway, floor));
    match Arc::try_unwrap(ground) {
        Ok(ground) => ground.abandon().await?,
        Err(_) => report.broken.push("somebody still uses the ground".to_owned()),
    }
    Ok(report)
}

/// The user's own sessions, which are Active, and those of others, which live and wait for Workspaces that do not come: they cost
/// the gateway as much, and need no pods.
async fn populate(bench: &Bench, ground: &Ground, ana: &Person, others: usize) -> Result<()> {
    let resource: ApiResource = sessions_of(Side::Berth);
    let api: Api<DynamicObject> = Api::namespaced_with(bench.access.load.clone(), ground.namespace(), &resource);
    let session = |name: &str, workspace: &str, user: &str| {
        let spec = json!({"workspaceRef": {"name": workspace}, "user": {"id": user}});
        DynamicObject::new(name, &resource).data(json!({"spec": spec}))
    };
    let create = |session: DynamicObject| {
        let api = api.clone();
        async move {
            api.create(&PostParams::default(), &session).await?;
            Ok(())
        }
    };
    each(&names(OWN), 8, |name| create(session(&name, "desk", &ana.username))).await?;
    ground.observer.until("became Active", OWN, PATIENCE, |sight| sight.active.is_some()).await?;
    let all: Vec<String> = (0..others).map(|index| format!("o{index}")).collect();
    each(&all, 32, |name| {
        let number: usize = name.trim_start_matches('o').parse().unwrap_or_default();
        create(session(&name, &format!("none-{}", number % 500), &format!("user-{}", number % 400)))
    })
    .await?;
    Ok(())
}

/// Waits until nobody writes about sessions any more.
async fn quiet(bench: &Bench) -> Result<()> {
    let begun = std::time::Instant::now();
    loop {
        let before = Ledger::read(&bench.access.load).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let written = Ledger::read(&bench.access.load).await?.since(&before).sum(|line| line.is_write());
        if written < 3.0 {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "it does not become quiet");
    }
}

/// Asks at even times, whether the answers before have come or not; how long each took from when it was to be asked, in milliseconds.
async fn load(address: SocketAddr, path: &'static str, who: &Person, lasts: Duration, report: &mut Report) -> Vec<f64> {
    let http = Http::new();
    // The connections stand before it counts.
    let _ = http.get(address, path, &who.token).await;
    let begun = tokio::time::Instant::now() + Duration::from_millis(50);
    let between = Duration::from_secs(1) / RATE;
    let mut under_way = JoinSet::new();
    let mut due = begun;
    while due < begun + lasts {
        let (http, token) = (http.clone(), who.token.clone());
        tokio::time::sleep_until(due).await;
        under_way.spawn(async move {
            let answer = http.get(address, path, &token).await;
            let lasted = due.elapsed().as_secs_f64() * 1000.0;
            (answer.is_ok_and(|(status, _)| status == 200), lasted)
        });
        due += between;
    }
    let (mut all, mut failed) = (Vec::new(), 0);
    while let Some(done) = under_way.join_next().await {
        match done {
            Ok((true, lasted)) => all.push(lasted),
            _ => {
                failed += 1;
                all.push(f64::INFINITY);
            }
        }
    }
    if failed > 0 {
        report.broken.push(format!("{failed} requests for {path} were not answered"));
    }
    all
}
