//! Many clients that listen to events, while sessions change: how late each hears, and what each costs in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::api::{Api, DynamicObject, PostParams};
use serde_json::json;
use tokio::task::JoinSet;

use super::{Bench, Report, each, lasting, number};
use crate::access::Person;
use crate::figure::{Budget, Figure};
use crate::gateway::{Gateway, Http};
use crate::ground::{Ground, PATIENCE, Side, sessions_of};
use crate::load::quantile_of;

/// How many people listen.
const PEOPLE: usize = 20;
/// How many sessions each has.
const SESSIONS: usize = 2;
/// How many changes a second there are, all together.
const CHANGES: u32 = 10;

/// What is under way: the change of each session that is to be heard of, by its id, with when it began and its number.
type UnderWay = Arc<Mutex<HashMap<String, (Instant, usize)>>>;

/// On one gateway.
pub async fn run(bench: &Bench) -> Result<Report> {
    let mut report = Report::default();
    let ground = bench.ground("streams", Side::Berth, &lasting()).await?;
    let mut people = Vec::new();
    for index in 0..PEOPLE {
        people.push(bench.access.person(ground.namespace(), &format!("p{index}"), Some("berth")).await?);
    }
    let sessions = launched(bench, &ground, &people).await?;
    let gateway = Gateway::start(&bench.access, &bench.out).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = gateway.process().resident()?;

    let each_of = bench.size(100, 2);
    let clients = each_of * PEOPLE;
    let under_way: UnderWay = Arc::default();
    let heard: Arc<Mutex<Vec<f64>>> = Arc::default();
    let begun = Arc::new(AtomicUsize::new(0));
    let mut listening = JoinSet::new();
    for person in &people {
        for _ in 0..each_of {
            listening.spawn(listen(gateway.address, person.clone(), under_way.clone(), heard.clone(), begun.clone()));
        }
    }
    let waits = Instant::now();
    while begun.load(Ordering::Relaxed) < clients {
        ensure!(waits.elapsed() < Duration::from_secs(120), "{} of {clients} listen", begun.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let resident = gateway.process().resident()?;

    let rounds = bench.size(8, 1);
    let mut number_of_change = 0;
    for _ in 0..rounds {
        for (id, name) in &sessions {
            let due = Instant::now() + Duration::from_secs(1) / CHANGES;
            number_of_change += 1;
            let change = json!({"spec": {"keepAliveAt": berth::clock::Clock::system().now()}});
            lock(&under_way).insert(id.clone(), (Instant::now(), number_of_change));
            ground.change(name, &change).await?;
            tokio::time::sleep_until(due.into()).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let heard = lock(&heard).clone();
    let expected = number_of_change * each_of;
    if heard.len() != expected {
        report.broken.push(format!("{} of {expected} deliveries came", heard.len()));
    }
    let each_costs = (resident - before) * 1024.0 / number(clients);
    report.figures.extend([
        Figure::timed(
            format!("a change at each of {clients} clients, p99"),
            "ms",
            quantile_of(&heard, 0.99),
            Budget::Most(250.0),
        ),
        Figure::timed("the same, p50", "ms", quantile_of(&heard, 0.5), Budget::Told),
        Figure::timed("memory of one client", "KiB", each_costs, Budget::Most(64.0)),
    ]);
    report.data = json!({"clients": clients, "deliveries": heard.len(), "beforeMiB": before, "listeningMiB": resident});
    listening.shutdown().await;
    drop(gateway);
    match Arc::try_unwrap(ground) {
        Ok(ground) => ground.abandon().await?,
        Err(_) => report.broken.push("somebody still uses the ground".to_owned()),
    }
    Ok(report)
}

/// Sessions of all of them, Active; their ids and names.
async fn launched(bench: &Bench, ground: &Ground, people: &[Person]) -> Result<Vec<(String, String)>> {
    let resource = sessions_of(Side::Berth);
    let api: Api<DynamicObject> = Api::namespaced_with(bench.access.load.clone(), ground.namespace(), &resource);
    let all: Vec<String> = (0..PEOPLE * SESSIONS).map(|index| format!("s{index}")).collect();
    each(&all, 8, |name| {
        let index: usize = name.trim_start_matches('s').parse().unwrap_or_default();
        let user = &people[index % people.len()].username;
        let spec = json!({"workspaceRef": {"name": "desk"}, "user": {"id": user}});
        let session = DynamicObject::new(&name, &resource).data(json!({"spec": spec}));
        let api = api.clone();
        async move {
            api.create(&PostParams::default(), &session).await?;
            Ok(())
        }
    })
    .await?;
    ground.observer.until("became Active", all.len(), PATIENCE, |sight| sight.active.is_some()).await?;
    let listed = ground.list().await?;
    listed.into_iter().map(|it| Ok((it.metadata.uid.context("a uid")?, it.metadata.name.context("a name")?))).collect()
}

/// Listens until the benchmark ends; of each change the first that it hears counts.
async fn listen(
    address: std::net::SocketAddr,
    person: Person,
    under_way: UnderWay,
    heard: Arc<Mutex<Vec<f64>>>,
    begun: Arc<AtomicUsize>,
) -> Result<()> {
    let mut last: HashMap<String, usize> = HashMap::new();
    let mut is_first = true;
    // Each client has a connection of its own, as browsers do.
    let http = Http::new();
    http.listen(address, &person.token, |bytes| {
        if std::mem::take(&mut is_first) {
            begun.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let text = String::from_utf8_lossy(bytes);
        // Several events may come at once.
        for id in text.split("\"id\":\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let change = lock(&under_way).get(id).copied();
            if let Some((since, number)) = change
                && last.insert(id.to_owned(), number) != Some(number)
            {
                lock(&heard).push(since.elapsed().as_secs_f64() * 1000.0);
            }
        }
        true
    })
    .await
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
