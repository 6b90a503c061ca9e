//! The health endpoints. `/livez` says that the process turns, whatever the API server does; `/readyz` says
//! whether it can do its work, and if not, why not.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use crate::cluster::health::WatchHealth;
use crate::cluster::lease::Leadership;

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

/// Serves the health endpoints until the process ends.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(address: SocketAddr, health: Health) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, routes(health)).await
}
