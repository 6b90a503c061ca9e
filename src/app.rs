//! The composition of a running operator, and its end: on a signal it finishes what is under way and gives up
//! the lease; when it loses the lease it exits, and is started anew by Kubernetes.

use std::sync::Arc;

use anyhow::Context as _;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinError;

use crate::admin::{self, Health};
use crate::clock::Clock;
use crate::cluster::cache::Stores;
use crate::cluster::health::WatchHealth;
use crate::cluster::lease::Contender;
use crate::cluster::memory::Memory;
use crate::cluster::publish::Publisher;
use crate::cluster::watch::Queues;
use crate::cluster::{self, Cluster};
use crate::controller;
use crate::settings::Settings;

/// The name of the leader lease.
const LEASE: &str = "berth-operator";

/// Runs the operator until a signal.
///
/// # Errors
/// When it cannot start, or has lost the lease.
pub async fn operator(settings: Settings) -> anyhow::Result<()> {
    let client = connect().await?;
    let identity = settings.identity();
    let clock = Clock;
    let mut contender = Contender::new(client.clone(), &settings.namespace, LEASE, &identity, clock);
    let cluster = Cluster {
        publisher: Publisher::new(client.clone(), &identity),
        client,
        stores: Stores::default(),
        memory: Arc::new(Memory::default()),
        queues: Queues::default(),
        leadership: contender.leadership(),
        clock,
    };
    let publisher = cluster.publisher.clone();
    let watches = WatchHealth::default();
    let health = Health { watches: watches.clone(), leadership: contender.leadership() };
    let mut admin = tokio::spawn(admin::serve(settings.health_address, health));

    tracing::info!(identity, version = env!("CARGO_PKG_VERSION"), "waiting for the lease");
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        () = contender.acquire(|outcome| watches.looked_at_lease(outcome)) => {}
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
        ended = &mut admin => return Err(admin_ended(ended, &settings)),
    }
    tracing::info!(identity, "leading");

    // Watches begin with the lease: what a leader decides on was listed after its predecessor stopped writing.
    let mut watching = tokio::spawn(cluster::watch::run(cluster.clone(), watches));
    let (stop, stopped) = watch::channel(false);
    let mut work = tokio::spawn(work(cluster, stopped));
    tokio::select! {
        () = contender.keep() => anyhow::bail!("the lease was lost: stopping, so that the new leader works alone"),
        ended = &mut work => anyhow::bail!("the loop ended unasked: {}", how(ended)),
        ended = &mut watching => anyhow::bail!("the watches ended unasked: {}", how(ended)),
        ended = &mut admin => return Err(admin_ended(ended, &settings)),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: finishing what is under way");
    let _ = stop.send(true);
    if tokio::time::timeout(cluster::error::CALL_TIMEOUT * 2, work).await.is_err() {
        tracing::warn!("some work did not finish in time");
    }
    // What was told of the last steps, while there is time before the lease.
    let _ = tokio::time::timeout(cluster::error::CALL_TIMEOUT, publisher.finish()).await;
    contender.release().await;
    watching.abort();
    Ok(())
}

/// Works as the leader until told to stop.
async fn work(cluster: Cluster, stopped: watch::Receiver<bool>) {
    let mut stop_early = stopped.clone();
    tokio::select! {
        () = wait_for_caches(&cluster) => {}
        _ = stop_early.wait_for(|stop| *stop) => return,
    }
    tracing::info!("all kinds are listed: working");
    let requests = cluster.queues.open(&cluster);
    controller::run(cluster, requests, stopped).await;
}

/// All kinds must be listed before the first decision: what is missing in a cache would count as gone.
async fn wait_for_caches(cluster: &Cluster) {
    let stores = &cluster.stores;
    let (sessions, workspaces) = (stores.sessions.reader(), stores.workspaces.reader());
    let (policies, pods) = (stores.policies.reader(), stores.pods.reader());
    // The writers live as long as the process, so that waiting cannot fail.
    let _ = tokio::join!(
        sessions.wait_until_ready(),
        workspaces.wait_until_ready(),
        policies.wait_until_ready(),
        pods.wait_until_ready()
    );
}

async fn connect() -> anyhow::Result<Client> {
    let mut config =
        Config::infer().await.context("no cluster: set KUBECONFIG, or run in a pod with a service account")?;
    // The library would repeat any request for minutes, below the check of the lease; we repeat by deciding anew.
    config.default_retry = false;
    Client::try_from(config).context("cannot set up the connection to the API server")
}

fn how(ended: Result<(), JoinError>) -> String {
    ended.map_or_else(|error| error.to_string(), |()| "it returned".to_owned())
}

fn admin_ended(ended: Result<std::io::Result<()>, JoinError>, settings: &Settings) -> anyhow::Error {
    let cause = match ended {
        Ok(Ok(())) => "it stopped".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    anyhow::anyhow!("cannot serve health checks on {}: {cause}", settings.health_address)
}
