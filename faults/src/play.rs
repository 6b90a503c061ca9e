//! One plan from an empty namespace to its verdict. Owns the course of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use berth::clock::Clock;
use berth_simulation::apiserver::kinds::Kinds;
use berth_simulation::trial::properties::{self, Broken, History};
use kube::Client;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::fate::{FIRST, Fate, SECOND};
use crate::matrix::Shape;
use crate::observer::Observer;
use crate::operator::{Place, Start};
use crate::oracle::{self, Evidence, Picture};
use crate::plan::{Action, Ask, Plan};
use crate::proxy::{Ground, Proxy, Record};
use crate::stage::{PATIENCE, Stage};
use crate::workload;

/// For how long nothing may be written once everything is as it should be.
const REST: Duration = Duration::from_secs(2);

/// What all plans stand on.
pub struct World {
    /// The API server, without a proxy.
    pub client: Client,
    /// What happens there.
    pub observer: Arc<Observer>,
    /// The kinds of requests.
    pub kinds: Arc<Kinds>,
    /// The proxies' end of TLS.
    pub tls: TlsAcceptor,
    /// A kubeconfig whose server is to be put in.
    pub kubeconfig: Value,
    /// The binary of the operators.
    pub operator: PathBuf,
    /// Where logs go.
    pub logs: PathBuf,
    /// The mark of this run's namespaces.
    pub run: String,
}

/// How a plan went.
pub struct Verdict {
    /// The plan.
    pub plan: Plan,
    /// What was seen that must never be; nothing when all is well.
    pub broken: Vec<String>,
    /// Whether its moment came.
    pub struck: bool,
    /// How long it took.
    pub lasted: Duration,
    /// What was asked for, for the matrix.
    pub shape: Shape,
    /// What stood at the end.
    pub picture: Picture,
    /// All requests.
    pub log: String,
    /// The folder with what its operators said.
    pub folder: PathBuf,
}

/// Plays a plan; `undisturbed` is what its workload comes to without faults.
///
/// # Errors
/// When it cannot be played at all.
pub async fn play(world: &World, plan: &Plan, undisturbed: Option<&Picture>) -> Result<Verdict> {
    let begun = Instant::now();
    let namespace = Stage::namespace(&world.client, &world.observer, &world.run).await?;
    let mut namespaces = vec![namespace.clone()];
    if plan.action == Action::TwoLeaders {
        namespaces.push(Stage::namespace(&world.client, &world.observer, &world.run).await?);
    }
    let folder = world.logs.join(plan.to_string().replace(['/', ':'], "_"));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let cast = Cast::new(world, plan, &namespaces, &folder).await?;
    let mut broken = Broken::default();
    let mut picture = Picture::default();
    let outcome = course(&cast, plan, undisturbed, &mut picture, &mut broken).await;
    if let Err(error) = outcome {
        broken.note(format!("{error:#}"));
    }
    let history = cast.history();
    let sessions =
        history.changes.iter().filter(|change| change.key.resource == "sessions.berth.dev" && change.before.is_none());
    let evidence = Evidence {
        plan,
        history: &history,
        namespaces: &namespaces,
        former: cast.ground.record.former(),
        sessions: sessions.count(),
    };
    oracle::judge(&evidence, &mut broken);
    if let Some(lost) = world.observer.lost() {
        broken.note(lost);
    }
    let asks = history.log.entries().iter().map(|entry| Ask::of(&entry.call)).collect();
    let verdict = Verdict {
        plan: plan.clone(),
        broken: broken.into_sentences(),
        struck: cast.ground.fate.has_struck(),
        lasted: begun.elapsed(),
        shape: Shape { writes: cast.ground.fate.writes(), asks },
        picture,
        log: history.log.to_string(),
        folder,
    };
    cast.close();
    if !verdict.broken.is_empty() {
        crate::stage::let_go(&world.client, &namespace).await?;
    }
    for namespace in &namespaces {
        // Whether it goes is looked at in the end of the run.
        let path = format!("/api/v1/namespaces/{namespace}");
        crate::stage::send(&world.client, http::Method::DELETE, &path, &Value::Null).await?;
        world.observer.forget(namespace);
    }
    Ok(verdict)
}

/// Those who take part, and what they share.
struct Cast {
    stage: Stage,
    ground: Arc<Ground>,
    namespaces: Vec<String>,
}

impl Cast {
    async fn new(world: &World, plan: &Plan, namespaces: &[String], folder: &std::path::Path) -> Result<Self> {
        let namespace = namespaces.first().cloned().unwrap_or_default();
        let first = Arc::new(Place::new(FIRST));
        let mut places = vec![Arc::clone(&first)];
        if plan.action.takes_two() {
            places.push(Arc::new(Place::new(SECOND)));
        }
        let ground = Arc::new(Ground {
            client: world.client.clone(),
            kinds: Arc::clone(&world.kinds),
            fate: Arc::new(Fate::new(plan.clone())),
            record: Arc::new(Record::new()),
            observer: Arc::clone(&world.observer),
            lease: format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{}", berth::operator::LEASE),
            first,
            end: CancellationToken::new(),
        });
        let stage = Stage {
            client: world.client.clone(),
            namespace: namespace.clone(),
            observer: Arc::clone(&world.observer),
            places: places.clone(),
        };
        let cast = Self { stage, ground, namespaces: namespaces.to_vec() };
        for (index, place) in places.iter().enumerate() {
            let lease = match plan.action {
                Action::TwoLeaders => namespaces.get(index).unwrap_or(&namespace),
                _ => &namespace,
            };
            cast.start(world, place, lease, folder).await?;
        }
        Ok(cast)
    }

    /// Starts an operator, and waits until it leads, or stands by.
    async fn start(&self, world: &World, place: &Arc<Place>, lease: &str, folder: &std::path::Path) -> Result<()> {
        let proxy = Proxy::new(Arc::clone(&self.ground), Arc::clone(place));
        let port = proxy.listen(world.tls.clone()).await?;
        let mut kubeconfig = world.kubeconfig.clone();
        kubeconfig["clusters"][0]["cluster"]["server"] = Value::from(format!("https://127.0.0.1:{port}"));
        let start = Start {
            program: world.operator.clone(),
            lease: lease.to_owned(),
            namespace: self.stage.namespace.clone(),
            folder: folder.to_path_buf(),
        };
        let (running, end) = (Arc::clone(place), self.ground.end.clone());
        tokio::spawn(end.run_until_cancelled_owned(async move {
            if let Err(error) = running.run(&start, &kubeconfig.to_string()).await {
                eprintln!("{}: {error:#}", running.name());
            }
        }));
        let name = place.name();
        let looked = || self.ground.record.log().entries().iter().any(|entry| entry.call.who.starts_with(name));
        let there = |stage: &Stage| (stage.holder(lease).is_some() && looked()).then_some(());
        self.stage.until(&format!("{name} leads or stands by"), there).await
    }

    fn history(&self) -> History {
        History {
            changes: self.stage.observer.changes(&self.namespaces),
            log: self.ground.record.log(),
            now: Clock::system().now(),
        }
    }

    fn close(&self) {
        for place in &self.stage.places {
            place.close();
        }
        self.ground.end.cancel();
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        self.close();
    }
}

/// The workload under its faults, the calm, and the end.
async fn course(
    cast: &Cast,
    plan: &Plan,
    undisturbed: Option<&Picture>,
    picture: &mut Picture,
    broken: &mut Broken,
) -> Result<()> {
    let Cast { stage, ground, .. } = cast;
    match plan.action {
        Action::Stopped => {
            ground.fate.arm();
            let follows = |stage: &Stage| (stage.holder(&stage.namespace)? == SECOND).then_some(());
            stage.until("another leads once the leader is stopped", follows).await?;
        }
        Action::TwoLeaders => ground.fate.strike(),
        _ => {}
    }
    let played = workload::play(plan.workload, stage).await;
    if plan.action == Action::InFlight && ground.record.former().is_some() {
        // At a late write the people are content before the lease has run out.
        timeout(PATIENCE, ground.fate.thaw()).await.context("the leader that was stopped has no follower")?;
    }
    ground.fate.calm();
    ground.first.go_on();
    played?;
    settle(cast, undisturbed, broken).await;
    *picture = oracle::picture(&cast.history());
    for session in stage.objects("sessions.berth.dev") {
        stage.delete("sessions", session["metadata"]["name"].as_str().unwrap_or_default()).await?;
    }
    eventually(|| {
        let mut left = Broken::default();
        properties::gone(&cast.history(), &mut left);
        left.into_sentences()
    })
    .await
    .into_iter()
    .for_each(|sentence| broken.note(sentence));
    Ok(())
}

/// Waits until all is as it should be and as without faults, and nothing is written any more.
async fn settle(cast: &Cast, undisturbed: Option<&Picture>, broken: &mut Broken) {
    let unsettled = || {
        let (history, mut unsettled) = (cast.history(), Broken::default());
        properties::settled(&history, &mut unsettled);
        if let Some(undisturbed) = undisturbed {
            oracle::compare(&oracle::picture(&history), undisturbed, &mut unsettled);
        }
        unsettled.into_sentences()
    };
    let until = Instant::now() + PATIENCE;
    loop {
        let left = eventually(unsettled).await;
        if !left.is_empty() {
            left.into_iter().for_each(|sentence| broken.note(sentence));
            return;
        }
        let newest = cast.ground.record.newest();
        sleep(REST).await;
        let writes = properties::writes_since(&cast.history(), newest);
        if writes.is_empty() && unsettled().is_empty() {
            return;
        }
        if Instant::now() > until {
            writes.into_iter().for_each(|write| broken.note(format!("a write in the calm: {write}")));
            return;
        }
    }
}

/// Looks until nothing is wrong; what still is after all patience.
async fn eventually(wrong: impl Fn() -> Vec<String>) -> Vec<String> {
    let right = async {
        while !wrong().is_empty() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    match timeout(PATIENCE, right).await {
        Ok(()) => Vec::new(),
        Err(_) => wrong(),
    }
}
