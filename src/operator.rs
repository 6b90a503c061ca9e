//! The operator itself: it waits for the lease, lists what there is, works, and stops. Owns the order of these; what
//! it is called with, from the signals of the process to its endpoints, is `app`'s.

use std::sync::Arc;

use anyhow::bail;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;
use crate::cluster::cache::Stores;
use crate::cluster::dial::Destinations;
use crate::cluster::error::CALL_TIMEOUT;
use crate::cluster::guard::{self, Guard};
use crate::cluster::health::WatchHealth;
use crate::cluster::keyring::{self, Keyring};
use crate::cluster::lease::Contender;
use crate::cluster::memory::Memory;
use crate::cluster::nodes::{self, Drains};
use crate::cluster::observers::{self, Observers};
use crate::cluster::publish::Publisher;
use crate::cluster::watch::Queues;
use crate::cluster::{self, Cluster, wall_clock};
use crate::controller;
use crate::install::admission::Guarded;
use crate::metrics::Metrics;
use crate::plan::hardening::Hardening;
use crate::plan::network::Neighbourhood;
use crate::plan::session::Pruner;
use crate::traces::Traces;

/// The name of the leader lease.
pub const LEASE: &str = "berth-operator";

/// One operator, which works once.
pub struct Operator {
    cluster: Cluster,
    contender: Contender,
    /// Its own.
    namespace: String,
    watch_namespaces: Vec<String>,
}

impl Operator {
    /// An operator called `identity`, whose lease is in `namespace`. It works in the namespaces of `watch_namespaces`,
    /// or, without any, in the whole cluster.
    pub fn new(
        client: Client,
        clock: Clock,
        metrics: Metrics,
        identity: &str,
        namespace: &str,
        watch_namespaces: Vec<String>,
    ) -> Self {
        let contender = Contender::new(client.clone(), namespace, LEASE, identity, clock.clone());
        let cluster = Cluster {
            publisher: Publisher::new(client.clone(), identity),
            client,
            stores: Stores::default(),
            memory: Arc::new(Memory::default()),
            queues: Queues::default(),
            leadership: contender.leadership(),
            health: WatchHealth::default(),
            metrics,
            traces: Traces::default(),
            destinations: Arc::default(),
            guard: Guard::default(),
            drains: Drains::default(),
            observers: Observers::default(),
            keyring: Keyring::new(namespace, Vec::new()),
            hardening: Arc::default(),
            pruner: Pruner::default(),
            neighbourhood: Arc::new(Neighbourhood::of(namespace)),
            clock,
        };
        Self { cluster, contender, namespace: namespace.to_owned(), watch_namespaces }
    }

    /// With `traces` of the launches that it sees the end of.
    #[must_use]
    pub fn with_traces(mut self, traces: Traces) -> Self {
        self.cluster.traces = traces;
        self
    }

    /// With what the installation says of every instance.
    #[must_use]
    pub fn with_hardening(mut self, hardening: Hardening) -> Self {
        self.cluster.hardening = Arc::new(hardening);
        self
    }

    /// With these authorities, as lines of OpenSSH, whose certificates instances are to trust.
    #[must_use]
    pub fn trusting(mut self, ssh_user_ca: Vec<String>) -> Self {
        self.cluster.keyring = self.cluster.keyring.trusting(ssh_user_ca);
        self
    }

    /// With those around every instance: who reaches it, and what is private here.
    #[must_use]
    pub fn surrounded_by(mut self, neighbourhood: Neighbourhood) -> Self {
        self.cluster.neighbourhood = Arc::new(neighbourhood);
        self
    }

    /// Dialling endpoints only where these destinations allow it.
    #[must_use]
    pub fn dialling(mut self, destinations: Destinations) -> Self {
        self.cluster.destinations = Arc::new(destinations);
        self
    }

    /// Leaving ended sessions to whom this says.
    #[must_use]
    pub fn leaving_history_to(mut self, pruner: Pruner) -> Self {
        self.cluster.pruner = pruner;
        self
    }

    /// Launching only while these admission policies stand.
    #[must_use]
    pub fn guarded_by(mut self, policies: Vec<Guarded>) -> Self {
        self.cluster.guard = Guard::of(policies);
        self
    }

    /// What it reads and writes with, for those who tell about it.
    pub fn cluster(&self) -> Cluster {
        self.cluster.clone()
    }

    /// Works until `stop` says so: then it finishes what is under way and gives up the lease.
    ///
    /// # Errors
    /// When the lease is lost: whoever called is to end the process, so that nothing of it writes any more.
    pub async fn run(self, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
        let Self { cluster, mut contender, namespace, watch_namespaces } = self;
        tracing::info!("waiting for the lease");
        tokio::select! {
            () = contender.acquire(|outcome| cluster.health.looked_at_lease(outcome)) => {}
            () = told(stop.clone()) => return Ok(()),
        }
        tracing::info!("leading");

        // Watches begin with the lease: what a leader decides on was listed after its predecessor stopped writing.
        let publisher = cluster.publisher.clone();
        let requests = cluster.queues.open();
        // Nodes are the cluster's: who works in a few namespaces alone has no right to them.
        let whole_cluster = watch_namespaces.is_empty();
        let _looking = whole_cluster.then(|| AbortOnDropHandle::new(tokio::spawn(nodes::run(cluster.clone()))));
        let mut watching = AbortOnDropHandle::new(tokio::spawn(cluster::watch::run(cluster.clone(), watch_namespaces)));
        let _observing = AbortOnDropHandle::new(tokio::spawn(observers::run(cluster.clone(), namespace)));
        let _comparing = AbortOnDropHandle::new(tokio::spawn(wall_clock::run(cluster.clone())));
        let _keys = AbortOnDropHandle::new(tokio::spawn(keyring::run(cluster.clone())));
        let _guarding = AbortOnDropHandle::new(tokio::spawn(guard::run(cluster.clone())));
        let told_to_stop = stop.clone();
        let mut work = AbortOnDropHandle::new(tokio::spawn(async move {
            cluster.guard.looked_at().await;
            cluster.keyring.looked_at().await;
            controller::run(cluster, requests, told_to_stop).await;
        }));
        tokio::select! {
            // First: the loop, too, ends when told.
            biased;
            () = told(stop) => {}
            () = contender.keep() => bail!("the lease was lost: stopping, so that the new leader works alone"),
            ended = &mut work => bail!("the loop ended unasked: {}", how(ended)),
            ended = &mut watching => bail!("the watches ended unasked: {}", how(ended)),
        }
        tracing::info!("stopping: finishing what is under way");
        let finished = tokio::time::timeout(CALL_TIMEOUT * 2, &mut work).await.is_ok();
        // What was told of the last steps, while there is time before the lease.
        let _ = tokio::time::timeout(CALL_TIMEOUT, publisher.finish()).await;
        if finished {
            contender.release().await;
        } else {
            // A write of it may still be on its way: nobody may follow before that is impossible.
            tracing::warn!("some work did not finish in time: the lease is left to run out");
        }
        Ok(())
    }
}

/// Waits until told to stop; somebody who can say so no more has said it.
async fn told(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn how(ended: Result<(), JoinError>) -> String {
    ended.map_or_else(|error| error.to_string(), |()| "it returned".to_owned())
}
