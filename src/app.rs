//! The process around an operator or a gateway: its connection, its endpoints, and its end. On a signal the operator stops in
//! order; when it loses the lease the process exits, and is started anew by Kubernetes.

use std::sync::Arc;

use anyhow::Context as _;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinError;

use crate::admin;
use crate::clock::Clock;
use crate::cluster::dial::Destinations;
use crate::cluster::{Cluster, connection};
use crate::gateway::{Gateway, routes};
use crate::install::admission::policies;
use crate::metrics::Metrics;
use crate::operator::Operator;
use crate::settings::gateway::GatewaySettings;
use crate::settings::{Role, Settings};
use crate::traces::Traces;

/// Runs the operator until a signal.
///
/// # Errors
/// When it cannot start, or has lost the lease.
pub async fn operator(settings: Settings) -> anyhow::Result<()> {
    let metrics = Metrics::default();
    let Connected { client, server } = connect(&metrics).await?;
    let Role { identity, namespace, watch_namespaces, .. } = settings.role.clone();
    tracing::info!(identity, version = env!("CARGO_PKG_VERSION"), "starting");
    let traces = match &settings.traces {
        Some(wanted) => Traces::start(wanted, &identity, metrics.clone())?,
        None => Traces::default(),
    };
    let policies =
        settings.admission_policies.as_deref().map(policies).transpose().context("the admission policies")?;
    let operator = Operator::new(client, Clock::system(), metrics, &identity, &namespace, watch_namespaces)
        .dialling(Destinations { api_server: server, ..settings.destinations.clone() })
        .with_hardening(settings.hardening.clone())
        .trusting(settings.ssh_user_ca.clone())
        .leaving_history_to(settings.pruner)
        .surrounded_by(settings.neighbourhood.clone())
        .with_traces(traces.clone());
    let operator = match policies {
        Some(policies) => operator.guarded_by(policies),
        None => operator,
    };
    let outcome = until_told(operator, settings.role).await;
    // Once the lease is given up, or lost: nobody waits for a collector.
    traces.finish().await;
    outcome
}

/// Runs the gateway until a signal.
///
/// # Errors
/// When it cannot start.
pub async fn gateway(settings: GatewaySettings) -> anyhow::Result<()> {
    let Connected { client, .. } = connect(&Metrics::default()).await?;
    let Role { identity, health_address, metrics_address, .. } = settings.role.clone();
    tracing::info!(identity, version = env!("CARGO_PKG_VERSION"), "starting");
    let (stop, stopping) = watch::channel(false);
    let gateway = Arc::new(Gateway::open(client, Clock::system(), settings, stopping).await?);
    let endpoints = {
        let gateway = Arc::clone(&gateway);
        async move {
            tokio::try_join!(
                admin::serve(health_address, routes::health(Arc::clone(&gateway))),
                admin::serve(metrics_address, routes::metrics(gateway)),
            )
        }
    };
    let mut endpoints = tokio::spawn(async move { endpoints.await.map(|_| ()) });
    let mut work = tokio::spawn(gateway.run());
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        ended = &mut work => return ended.context("the gateway ended unasked")?,
        ended = &mut endpoints => return Err(endpoints_ended(ended)),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let _ = stop.send(true);
    work.await.context("the gateway ended unasked")?
}

/// Runs `operator` until a signal, with its endpoints beside it.
async fn until_told(operator: Operator, role: Role) -> anyhow::Result<()> {
    let mut endpoints = tokio::spawn(serve(role, operator.cluster()));
    let (stop, stopped) = watch::channel(false);
    let mut operator = tokio::spawn(operator.run(stopped));
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        ended = &mut operator => return ended.context("the operator ended unasked")?,
        ended = &mut endpoints => return Err(endpoints_ended(ended)),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let _ = stop.send(true);
    operator.await.context("the operator ended unasked")?
}

/// A connection to a cluster.
pub struct Connected {
    /// The client.
    pub client: Client,
    /// The hosts that its API server is known by: by the connection, and to pods.
    pub server: Vec<String>,
}

/// The connection to the cluster of the environment, with its writes counted.
///
/// # Errors
/// When there is no cluster, or its credentials cannot be used.
pub async fn connect(metrics: &Metrics) -> anyhow::Result<Connected> {
    let config = Config::infer().await.context("no cluster: set KUBECONFIG, or run in a pod with a service account")?;
    let hosts = [config.cluster_url.host().map(str::to_owned), std::env::var("KUBERNETES_SERVICE_HOST").ok()];
    // An address of IPv6 stands in brackets in a URL.
    let server = hosts.into_iter().flatten().map(|host| host.trim_matches(['[', ']']).to_owned()).collect();
    let metrics = metrics.clone();
    let client = connection::client(&config, move |method, uri| metrics.request(method, uri))
        .context("cannot set up the connection to the API server")?;
    Ok(Connected { client, server })
}

/// Serves health and metrics; returns when one of them cannot be served any more.
async fn serve(role: Role, cluster: Cluster) -> anyhow::Result<()> {
    tokio::try_join!(
        admin::serve(role.health_address, admin::routes(cluster.clone())),
        admin::serve(role.metrics_address, admin::metrics_routes(cluster)),
    )?;
    Ok(())
}

fn endpoints_ended(ended: Result<anyhow::Result<()>, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow::anyhow!("health and metrics are served no more"),
        Ok(Err(error)) => error,
        Err(error) => error.into(),
    }
}
