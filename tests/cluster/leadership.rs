//! Who may write, on a real API server: of contenders for one lease, at most one holds at any time, however the
//! holder goes: by giving up, by dying, by being stopped and continued, by losing the lease itself.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth::clock::Clock;
use berth::cluster::error::CallError;
use berth::cluster::lease::{Contender, Leadership};
use k8s_openapi::api::coordination::v1::Lease;

use crate::harness::Scene;

const LEASE: &str = "contended";
/// Tells the copy of this program which lease to contend for.
const NAMESPACE: &str = "BERTH_TEST_CONTEND_IN";

fn contender(scene: &Scene, identity: &str) -> Contender {
    Contender::new(scene.client.clone(), &scene.namespace, LEASE, identity, Clock::system())
}

async fn holder(scene: &Scene) -> Option<String> {
    scene.find::<Lease>(LEASE).await?.spec?.holder_identity.filter(|holder| !holder.is_empty())
}

/// Looks for as long as it lives whether two of these may write at once.
struct Watcher {
    task: tokio::task::JoinHandle<()>,
    both: Arc<Mutex<u32>>,
}

impl Watcher {
    fn over(one: Leadership, other: Leadership) -> Self {
        let both = Arc::new(Mutex::new(0));
        let count = Arc::clone(&both);
        let task = tokio::spawn(async move {
            loop {
                if one.check().is_ok() && other.check().is_ok() {
                    *count.lock().unwrap() += 1;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        Self { task, both }
    }

    fn never_both(self) {
        self.task.abort();
        assert_eq!(*self.both.lock().unwrap(), 0, "both could write at once");
    }
}

async fn acquire(contender: &mut Contender) {
    let fair = |error: &CallError| error.is_conflict() || error.is_not_found();
    contender.acquire(|outcome| assert!(outcome.as_ref().err().is_none_or(fair), "{outcome:?}")).await;
}

#[tokio::test]
async fn of_many_contenders_one_holds_the_lease() {
    let scene = Scene::new("contend").await;
    let mut contenders: Vec<Contender> = (0..6).map(|index| contender(&scene, &format!("c{index}"))).collect();
    let leaderships: Vec<Leadership> = contenders.iter().map(Contender::leadership).collect();
    let tasks: Vec<_> = contenders
        .drain(..)
        .map(|mut contender| {
            tokio::spawn(async move {
                acquire(&mut contender).await;
                contender.keep().await;
            })
        })
        .collect();
    let holding = || leaderships.iter().filter(|leadership| leadership.holds()).count();
    scene.eventually("one holds", || async { (holding() == 1).then_some(()) }).await;
    // Longer than a lease lasts: the holder renews, and none of the others takes it.
    for _ in 0..18 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(holding(), 1);
    }
    let lease = scene.get::<Lease>(LEASE).await;
    assert_eq!(lease.spec.unwrap().lease_transitions, Some(0));
    for task in tasks {
        task.abort();
    }
}

#[tokio::test]
async fn a_lease_that_is_given_up_is_taken_without_waiting_for_its_end() {
    let scene = Scene::new("give-up").await;
    let (mut first, mut second) = (contender(&scene, "first"), contender(&scene, "second"));
    let watcher = Watcher::over(first.leadership(), second.leadership());
    acquire(&mut first).await;
    first.release().await;
    assert!(first.leadership().check().is_err());
    let given_up = scene.get::<Lease>(LEASE).await;
    assert_eq!(given_up.spec.as_ref().unwrap().holder_identity, None);
    acquire(&mut second).await;
    let taken = scene.get::<Lease>(LEASE).await.spec.unwrap();
    assert_eq!((taken.holder_identity.as_deref(), taken.lease_transitions), (Some("second"), Some(1)));
    // One that has given up does not take it back by mistake.
    first.release().await;
    assert_eq!(holder(&scene).await.as_deref(), Some("second"));
    watcher.never_both();
}

#[tokio::test]
async fn a_holder_that_died_is_followed_by_another_and_never_at_the_same_time() {
    let scene = Scene::new("died").await;
    let (mut first, mut second) = (contender(&scene, "first"), contender(&scene, "second"));
    let (dead, leadership) = (first.leadership(), second.leadership());
    let watcher = Watcher::over(dead.clone(), leadership.clone());
    acquire(&mut first).await;
    let task = tokio::spawn(async move { first.keep().await });
    let following = tokio::spawn(async move {
        acquire(&mut second).await;
        second
    });
    // It renews beyond its first term.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert!(dead.holds() && !leadership.holds());
    task.abort();
    scene.eventually("the other holds", || async { leadership.holds().then_some(()) }).await;
    assert!(!dead.holds());
    drop(following.await.unwrap());
    watcher.never_both();
}

#[tokio::test]
async fn a_deleted_lease_makes_nobody_lead_beside_its_holder() {
    let scene = Scene::new("deleted-lease").await;
    let (mut first, mut second) = (contender(&scene, "first"), contender(&scene, "second"));
    let (old, new) = (first.leadership(), second.leadership());
    let watcher = Watcher::over(old.clone(), new.clone());
    acquire(&mut first).await;
    let keeping = tokio::spawn(async move { first.keep().await });
    let following = tokio::spawn(async move {
        acquire(&mut second).await;
        second
    });
    // Long enough for the other to have seen whose it is.
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.delete::<Lease>(LEASE).await;
    scene.eventually("the holder notices", || async { (!old.holds()).then_some(()) }).await;
    keeping.await.unwrap();
    scene.eventually("the other leads", || async { new.holds().then_some(()) }).await;
    assert_eq!(holder(&scene).await.as_deref(), Some("second"));
    drop(following.await.unwrap());
    watcher.never_both();
}

#[tokio::test]
async fn a_lease_that_another_wrote_over_is_lost() {
    let scene = Scene::new("written-over").await;
    let mut first = contender(&scene, "first");
    let leadership = first.leadership();
    acquire(&mut first).await;
    scene.patch::<Lease>(LEASE, serde_json::json!({ "spec": { "holderIdentity": "thief" } })).await;
    let keeping = tokio::spawn(async move { first.keep().await });
    scene.eventually("the holder notices", || async { leadership.check().is_err().then_some(()) }).await;
    keeping.await.unwrap();
    assert_eq!(holder(&scene).await.as_deref(), Some("thief"), "it is not taken back before its time");
}

/// A copy of this program that contends as another process, and says of each look whether it may write.
struct Other {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Other {
    fn start(scene: &Scene) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "leadership::a_contender_in_a_process_of_its_own", "--nocapture"])
            .env(NAMESPACE, &scene.namespace)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                heard.lock().unwrap().push(line);
            }
        });
        Self { child, said }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_leader_that_was_stopped_past_its_lease_refuses_to_write_when_it_goes_on() {
    let scene = Scene::new("stopped").await;
    let other = Other::start(&scene);
    let may = |line: &String| line.contains("may write");
    scene.eventually("the other process leads", || async { other.said().iter().any(may).then_some(()) }).await;
    let mut mine = contender(&scene, "mine");
    other.signal("-STOP");
    acquire(&mut mine).await;
    let before = other.said().len();
    other.signal("-CONT");
    let after = scene
        .eventually("the other process looks again", || async {
            let said = other.said().split_off(before);
            said.iter().any(|line| line.contains("may not")).then_some(said)
        })
        .await;
    assert!(!after.iter().any(may), "it wrote beside the new leader: {after:?}");
    assert!(mine.leadership().check().is_ok());
}

/// What [`Other`] runs; it ends at once where nobody asked for it.
#[tokio::test]
async fn a_contender_in_a_process_of_its_own() {
    let Ok(namespace) = std::env::var(NAMESPACE) else { return };
    let client = kube::Client::try_default().await.unwrap();
    let mut contender = Contender::new(client, &namespace, LEASE, "other", Clock::system());
    let leadership = contender.leadership();
    acquire(&mut contender).await;
    let keeping = tokio::spawn(async move { contender.keep().await });
    while !keeping.is_finished() || leadership.check().is_ok() {
        let word = if leadership.check().is_ok() { "may write" } else { "may not" };
        // The line goes out in one write, whole, before the process can be stopped in it.
        writeln!(std::io::stdout(), "\n{word}").unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    writeln!(std::io::stdout(), "\nmay not").unwrap();
    std::future::pending::<()>().await;
}
