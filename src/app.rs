//! The composition of a running operator, and its end: on a signal it finishes what is under way and gives up
//! the lease; when it loses the lease it exits, and is started anew by Kubernetes.

use std::sync::Arc;

use anyhow::Context as _;
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinError;
use tower::util::MapRequestLayer;

use crate::admin::{self, Counted, Health};
use crate::clock::Clock;
use crate::cluster::cache::Stores;
use crate::cluster::health::WatchHealth;
use crate::cluster::lease::Contender;
use crate::cluster::memory::Memory;
use crate::cluster::publish::Publisher;
use crate::cluster::watch::Queues;
use crate::cluster::{self, Cluster};
use crate::controller;
use crate::metrics::Metrics;
use crate::settings::Settings;

/// The name of the leader lease.
pub const LEASE: &str = "berth-operator";

/// Runs the operator until a signal.
///
/// # Errors
/// When it cannot start, or has lost the lease.
pub async fn operator(settings: Settings) -> anyhow::Result<()> {
    let metrics = Metrics::default();
    let client = connect(&metrics).await?;
    let identity = settings.identity.clone();
    let clock = Clock;
    let mut contender = Contender::new(client.clone(), &settings.namespace, LEASE, &identity, clock);
    let cluster = Cluster {
        publisher: Publisher::new(client.clone(), &identity),
        client,
        stores: Stores::default(),
        memory: Arc::new(Memory::default()),
        queues: Queues::default(),
        leadership: contender.leadership(),
        metrics,
        clock,
    };
    let publisher = cluster.publisher.clone();
    let watches = WatchHealth::default();
    let health = Health { watches: watches.clone(), leadership: contender.leadership() };
    let counted = Counted { cluster: cluster.clone(), watches: watches.clone() };
    let mut admin = tokio::spawn(serve(settings.clone(), health, counted));

    tracing::info!(identity, version = env!("CARGO_PKG_VERSION"), "waiting for the lease");
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        () = contender.acquire(|outcome| watches.looked_at_lease(outcome)) => {}
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
        ended = &mut admin => return Err(admin_ended(ended)),
    }
    tracing::info!(identity, "leading");

    // Watches begin with the lease: what a leader decides on was listed after its predecessor stopped writing.
    let mut watching = tokio::spawn(cluster::watch::run(cluster.clone(), settings.watch_namespaces, watches.clone()));
    let (stop, stopped) = watch::channel(false);
    let mut work = tokio::spawn(work(cluster, watches, stopped));
    tokio::select! {
        () = contender.keep() => anyhow::bail!("the lease was lost: stopping, so that the new leader works alone"),
        ended = &mut work => anyhow::bail!("the loop ended unasked: {}", how(ended)),
        ended = &mut watching => anyhow::bail!("the watches ended unasked: {}", how(ended)),
        ended = &mut admin => return Err(admin_ended(ended)),
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
async fn work(cluster: Cluster, watches: WatchHealth, stopped: watch::Receiver<bool>) {
    let mut stop_early = stopped.clone();
    tokio::select! {
        () = wait_for_caches(&cluster, &watches) => {}
        _ = stop_early.wait_for(|stop| *stop) => return,
    }
    tracing::info!("all kinds are listed: working");
    let requests = cluster.queues.open(&cluster);
    controller::run(cluster, requests, stopped).await;
}

/// All kinds must be listed before the first decision: what is missing in a cache would count as gone.
async fn wait_for_caches(cluster: &Cluster, watches: &WatchHealth) {
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
    // In every namespace, where only some are watched.
    watches.all_listed().await;
}

/// The connection to the cluster of the environment, with its writes counted.
///
/// # Errors
/// When there is no cluster, or its credentials cannot be used.
pub async fn connect(metrics: &Metrics) -> anyhow::Result<Client> {
    let mut config =
        Config::infer().await.context("no cluster: set KUBECONFIG, or run in a pod with a service account")?;
    // The library would repeat any request for minutes, below the check of the lease; we repeat by deciding anew.
    config.default_retry = false;
    let metrics = metrics.clone();
    let counting = MapRequestLayer::new(move |request: http::Request<_>| {
        metrics.request(request.method(), request.uri());
        request
    });
    let builder = ClientBuilder::try_from(config).context("cannot set up the connection to the API server")?;
    Ok(builder.with_layer(&counting).build())
}

fn how(ended: Result<(), JoinError>) -> String {
    ended.map_or_else(|error| error.to_string(), |()| "it returned".to_owned())
}

/// Serves health and metrics; returns when one of them cannot be served any more.
async fn serve(settings: Settings, health: Health, counted: Counted) -> anyhow::Result<()> {
    tokio::try_join!(
        admin::serve(settings.health_address, admin::routes(health)),
        admin::serve(settings.metrics_address, admin::metrics_routes(counted)),
    )?;
    Ok(())
}

fn admin_ended(ended: Result<anyhow::Result<()>, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow::anyhow!("health and metrics are served no more"),
        Ok(Err(error)) => error,
        Err(error) => error.into(),
    }
}
