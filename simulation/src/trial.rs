//! One trial: a cluster, operators, people and faults from one seed, from the first request to the last property. Owns
//! the course of it.

mod faults;
mod operators;
mod people;
pub mod properties;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::collector::Collector;
use crate::kubelet::{Kubelet, Plan};
use crate::scheduler::Scheduler;
use crate::storage::Storage;
use crate::{ApiServer, Dice, SimClock, host};
use faults::{Faults, Levels};
use operators::Place;
use people::People;
use properties::{Broken, History};

const NODE: &str = "node-1";

/// How a trial went.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Its seed.
    pub seed: u64,
    /// What was seen that must never be; nothing when all is well.
    pub broken: Vec<String>,
    /// The digest of all requests and answers: the same for the same seed.
    pub digest: String,
    /// How many requests there were.
    pub requests: usize,
    /// How many sessions were launched.
    pub sessions: usize,
    /// All requests, where they were asked for.
    pub log: Option<String>,
}

/// Runs the trial of a seed, in a thread of its own; with `log`, its requests come with the verdict.
pub fn run(seed: u64, log: bool) -> Verdict {
    let lost = |why: &str| Verdict {
        seed,
        broken: vec![why.to_owned()],
        digest: String::new(),
        requests: 0,
        sessions: 0,
        log: None,
    };
    let thread = std::thread::Builder::new().name(format!("seed-{seed}")).spawn(move || {
        let dice = Dice::new(seed);
        host::enter(&dice);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.map(|runtime| runtime.block_on(trial(seed, &dice, log)))
    });
    match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(verdict))) => verdict,
        Ok(Ok(Err(error))) => lost(&format!("no runtime: {error}")),
        Ok(Err(_)) => lost("it panicked: run this seed alone to see where"),
        Err(error) => lost(&format!("no thread: {error}")),
    }
}

async fn trial(seed: u64, dice: &Dice, log: bool) -> Verdict {
    let clock = SimClock::new();
    host::tell_time(&clock);
    let server = ApiServer::new(clock, dice);
    for namespace in [people::NAMESPACE, operators::NAMESPACE] {
        server.namespace(namespace);
    }
    let shape = dice.fork("shape");
    let levels = if shape.chance(10) { Levels::none() } else { Levels::of(&shape) };
    let compacting = server.clone();
    let faults = Faults::new(levels, dice, move || compacting.compact(compacting.revision()));
    server.set_fate(Arc::new(faults.clone()));
    server.set_wires(Arc::new(faults.clone()));
    let mut actors = surroundings(&server, dice, &shape, &faults);
    for index in 1..=(1 + shape.below(2)) {
        actors.push(spawn(Place::new(&server, &faults, dice, index).run()));
    }

    let mut broken = Broken::default();
    let mut people = People::new(&server, dice);
    people.set_up().await;
    let busy = dice.time(&(Duration::from_secs(60)..=Duration::from_secs(900)));
    people.act(busy).await;
    faults.calm();
    // A lease that has to run out, a crash that is followed by another process, a connection that is silent, a clock that
    // is right again, and an operator that has slept by the wrong one.
    sleep(Duration::from_secs(360)).await;
    settled(&server, &mut broken).await;
    sleep(Duration::from_secs(3600)).await;
    settled(&server, &mut broken).await;
    people.delete_all().await;
    sleep(Duration::from_secs(180)).await;
    properties::gone(&History::of(&server), &mut broken);
    let before = server.log().entries().last().map_or(0, |entry| entry.call.number);
    sleep(Duration::from_secs(600)).await;
    for write in properties::writes_since(&History::of(&server), before) {
        broken.note(format!("a write in a time in which nothing happens: {write}"));
    }
    properties::safety(&History::of(&server), &mut broken);
    drop(actors);

    let entries = server.log();
    let history = server.history();
    let sessions = history.iter().filter(|it| it.key.resource == "sessions.berth.dev" && it.before.is_none()).count();
    if sessions != people.launched() {
        broken.note(format!("{} launches, of which {sessions} came to be", people.launched()));
    }
    Verdict {
        seed,
        broken: broken.into_sentences(),
        digest: entries.digest(),
        requests: entries.entries().len(),
        sessions,
        log: log.then(|| entries.to_string()),
    }
}

/// Holds the calm against its properties. What is not as it should be may be about to be: a deadline may just have come.
/// So it is looked at again a little later, and once more by another rhythm than that of deadlines, which are round; it counts
/// only if it is never well.
async fn settled(server: &ApiServer, broken: &mut Broken) {
    for pause in [Duration::from_secs(10), Duration::from_millis(13_700)] {
        let mut seen = Broken::default();
        properties::settled(&History::of(server), &mut seen);
        if seen.into_sentences().is_empty() {
            return;
        }
        sleep(pause).await;
    }
    properties::settled(&History::of(server), broken);
}

/// The cluster around the operators.
fn surroundings(server: &ApiServer, dice: &Dice, shape: &Dice, faults: &Faults) -> Vec<AbortOnDropHandle<()>> {
    let trouble = if shape.chance(60) { 30 } else { 0 };
    let faults = faults.clone();
    let kubelet = Kubelet::new(server, dice, NODE).plans(move |_, dice| {
        let soon = || dice.time(&(Duration::from_millis(100)..=Duration::from_secs(120)));
        if faults.is_calm() || !dice.chance(trouble) {
            return Plan::Well;
        }
        match dice.below(5) {
            0 => Plan::NeverReady,
            1 => Plan::NoImage,
            2 => Plan::Exits { after: soon(), code: 1 },
            3 => Plan::Exits { after: soon(), code: 0 },
            _ => Plan::Evicted { after: soon() },
        }
    });
    vec![
        spawn(kubelet.run()),
        spawn(Scheduler::new(server, dice, NODE).run()),
        spawn(Collector::new(server, dice).run()),
        spawn(Storage::new(server, dice).run()),
    ]
}

fn spawn(actor: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(actor))
}
