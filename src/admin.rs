//! What the operator serves about itself: health and metrics. `/livez` says that the process turns, whatever the API
//! server does; `/readyz` says whether it can do its work, and if not, why not. What is counted is `metrics`'.

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::routing::get;

use crate::cluster::Cluster;
use crate::cluster::health::WatchHealth;
use crate::cluster::lease::Leadership;
use crate::metrics;

/// What the health endpoints look at.
#[derive(Clone)]
pub struct Health {
    /// The watches; they begin with the lease, so that a replica that stands by has none but its looks at that.
    pub watches: WatchHealth,
    /// Whether this process leads; one that waits for the lease is ready too.
    pub leadership: Leadership,
}

/// The routes.
pub fn routes(health: Health) -> Router {
    Router::new().route("/livez", get(|| async { "ok\n" })).route("/readyz", get(readyz)).with_state(health)
}

async fn readyz(State(health): State<Health>) -> (StatusCode, String) {
    let troubles = health.watches.troubles();
    if troubles.is_empty() {
        let role = if health.leadership.holds() { "leader" } else { "standby" };
        (StatusCode::OK, format!("ok: {role}\n"))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", troubles.join("\n")))
    }
}

/// What the metrics are made of.
#[derive(Clone)]
pub struct Counted {
    /// What is counted, with what it is counted in.
    pub cluster: Cluster,
    /// The watches.
    pub watches: WatchHealth,
}

/// The routes of the metrics.
pub fn metrics_routes(counted: Counted) -> Router {
    Router::new().route("/metrics", get(written_metrics)).with_state(counted)
}

async fn written_metrics(
    State(counted): State<Counted>,
) -> Result<([(HeaderName, &'static str); 1], String), StatusCode> {
    let Counted { cluster, watches } = &counted;
    let written = cluster.metrics.encode(cluster, watches).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(CONTENT_TYPE, metrics::MEDIA_TYPE)], written))
}

/// Serves `routes` until the process ends.
///
/// # Errors
/// When the address cannot be listened on; the text names it.
pub async fn serve(address: SocketAddr, routes: Router) -> anyhow::Result<()> {
    let listener =
        tokio::net::TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    axum::serve(listener, routes).await.with_context(|| format!("cannot serve on {address}"))
}
