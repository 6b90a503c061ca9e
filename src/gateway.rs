//! The gateway: the REST API in front of the resources. It answers from what its watches bring, changes things by writing the
//! resources, and records who did. Owns the composition; the operator is never asked, only its word in a status waited for.

pub mod act;
pub mod asker;
pub mod board;
pub mod caller;
mod end_all;
pub mod ends;
pub mod filter;
mod head;
mod lease;
mod life;
pub mod metrics;
pub mod past;
pub mod problem;
mod prune;
pub mod record;
pub mod rights;
pub mod routes;
pub mod serve;
mod tls;
pub mod view;
pub mod visitors;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kube::Client;
use tokio::sync::{Notify, watch};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::clock::Clock;
use crate::cluster::publish::Publisher;
use crate::hex::hex;
use crate::settings::gateway::GatewaySettings;
use crate::store::Store;
use asker::Rates;
use board::Board;
use caller::Callers;
use metrics::Metrics;
use problem::Problem;
use rights::Rights;
use visitors::Visitors;

/// Where history and audit are, unless somebody says otherwise.
const STORE: &str = "sqlite:/var/lib/berth/berth.db";

/// How long changes may go on once the process is to stop.
const CHANGES: Duration = Duration::from_secs(5);

/// One gateway.
#[derive(Clone)]
pub struct Gateway {
    client: Client,
    clock: Clock,
    board: Board,
    callers: Arc<Callers>,
    rights: Arc<Rights>,
    rates: Arc<Rates>,
    visitors: Arc<Visitors>,
    publisher: Publisher,
    store: Store,
    /// Told when the chain of records has grown.
    grown: Arc<Notify>,
    metrics: Metrics,
    /// Changes under way, which go on when their caller has hung up.
    changes: TaskTracker,
    settings: Arc<GatewaySettings>,
    /// Says when streams are to end.
    stopping: watch::Receiver<bool>,
}

impl Gateway {
    /// A gateway that answers until `stopping` says so.
    ///
    /// # Errors
    /// When the store cannot be opened.
    pub async fn open(
        client: Client,
        clock: Clock,
        settings: GatewaySettings,
        stopping: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let url = settings.store.clone().unwrap_or_else(|| STORE.to_owned());
        let store = Store::open(&url).await.context("the store for history and audit")?;
        Ok(Self {
            board: Board::new(&epoch()?),
            callers: Arc::new(Callers::new(client.clone(), settings.audience.clone())),
            rights: Arc::new(Rights::new(client.clone())),
            rates: Arc::default(),
            visitors: Arc::default(),
            publisher: Publisher::of(client.clone(), "berth.dev/gateway", &settings.role.identity),
            settings: Arc::new(settings),
            client,
            clock,
            store,
            grown: Arc::default(),
            metrics: Metrics::default(),
            changes: TaskTracker::new(),
            stopping,
        })
    }

    /// Watches, records and answers until told to stop; then it finishes what is under way.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub async fn run(self: Arc<Self>) -> anyhow::Result<()> {
        let gateway = self;
        let (ends, seen) = ends::channel(gateway.clock.clone(), gateway.metrics.ends_waiting.clone());
        let (recorded, to_prune) = futures::channel::mpsc::unbounded();
        let namespaces = gateway.settings.role.watch_namespaces.clone();
        let watching = gateway.board.clone().run(gateway.client.clone(), namespaces, ends);
        let mut watching = AbortOnDropHandle::new(tokio::spawn(watching));
        let mut recording = AbortOnDropHandle::new(tokio::spawn(ends::run(Arc::clone(&gateway), seen, recorded)));
        let mut pruning = AbortOnDropHandle::new(tokio::spawn(prune::run(Arc::clone(&gateway), to_prune)));
        let mut living = AbortOnDropHandle::new(tokio::spawn(lease::run(Arc::clone(&gateway))));
        let mut publishing = AbortOnDropHandle::new(tokio::spawn(head::run(Arc::clone(&gateway))));
        // A gateway that answers and records nothing would be worse than none.
        let served = tokio::select! {
            served = serve::serve(Arc::clone(&gateway), routes::all(Arc::clone(&gateway))) => served,
            _ = &mut watching => Err(anyhow::anyhow!("the watches ended unasked")),
            _ = &mut recording => Err(anyhow::anyhow!("the recording of what happens to sessions ended unasked")),
            _ = &mut pruning => Err(anyhow::anyhow!("the pruning ended unasked")),
            _ = &mut living => Err(anyhow::anyhow!("the keeping of the Lease ended unasked")),
            _ = &mut publishing => Err(anyhow::anyhow!("the publishing of the audit's head ended unasked")),
        };
        gateway.changes.close();
        let _ = tokio::time::timeout(CHANGES, gateway.changes.wait()).await;
        drop(living);
        lease::give_up(&gateway).await;
        gateway.publisher.finish().await;
        gateway.store.close().await;
        served
    }

    /// Carries a change out as a whole: from its record on, also where its caller hangs up or has waited long enough.
    ///
    /// # Errors
    /// Those of the change.
    pub async fn whole<T: Send + 'static, Change>(
        self: &Arc<Self>,
        change: impl FnOnce(Arc<Self>) -> Change,
    ) -> Result<T, Problem>
    where
        Change: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let cut_short = |_| Err(Problem::not_done_yet("the change was cut short: look whether it was done"));
        self.changes.spawn(change(Arc::clone(self))).await.unwrap_or_else(cut_short)
    }

    /// What keeps this gateway from answering, if anything.
    pub fn troubles(&self) -> Vec<String> {
        if self.board.is_ready() { Vec::new() } else { self.board.health.troubles() }
    }
}

/// What tells this process from every other one.
fn epoch() -> anyhow::Result<String> {
    let mut bytes = [0; 6];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    Ok(hex(&bytes))
}
