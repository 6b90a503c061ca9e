//! What the operator serves about itself: health and metrics. `/livez` says that the process turns, whatever the API
//! server does; `/readyz` says whether it can do its work, and if not, why not. What is counted is `metrics`'.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::cluster::Cluster;
use crate::metrics;

/// The routes of health.
pub fn routes(cluster: Cluster) -> Router {
    Router::new().route("/livez", get(|| async { "ok\n" })).route("/readyz", get(readyz)).with_state(cluster)
}

/// The watches begin with the lease, so that a replica that stands by has none but its looks at that; it is ready too.
async fn readyz(State(cluster): State<Cluster>) -> (StatusCode, String) {
    let troubles = cluster.health.troubles();
    if troubles.is_empty() {
        let role = if cluster.leadership.holds() { "leader" } else { "standby" };
        (StatusCode::OK, format!("ok: {role}\n"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", troubles.join("\n")))
    }
}

/// The routes of the metrics.
pub fn metrics_routes(cluster: Cluster) -> Router {
    Router::new().route("/metrics", get(written_metrics)).with_state(cluster)
}

async fn written_metrics(
    State(cluster): State<Cluster>,
) -> Result<([(HeaderName, &'static str); 1], String), StatusCode> {
    let written = cluster.metrics.encode(&cluster).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(CONTENT_TYPE, metrics::MEDIA_TYPE)], written))
}

/// Serves `routes` until the process ends.
///
/// # Errors
/// When the address cannot be listened on; the text names it.
pub async fn serve(address: SocketAddr, routes: Router) -> anyhow::Result<()> {
    let listener = listen(address).await.with_context(|| format!("cannot listen on {address}"))?;
    axum::serve(listener, routes).await.with_context(|| format!("cannot serve on {address}"))
}

/// Listens on `address`. Where a node has no IPv6, every address of it is every one of IPv4.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        outcome => outcome,
    }
}
