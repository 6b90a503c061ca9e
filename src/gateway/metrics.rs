//! What the gateway counts of itself, in the text format of OpenMetrics. No label is the name of an object or of a person.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::Gateway;

const SECONDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    route: String,
    method: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRoute {
    route: String,
}

/// All that is counted. Clones count into the same.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    answers: Family<Answer, Counter>,
    seconds: Family<OfRoute, Histogram, fn() -> Histogram>,
    /// Streams of events that are open.
    pub streams: Gauge,
    /// Ends of sessions that the store has not taken yet.
    pub ends_waiting: Gauge,
    /// Times that the store did not do what it was asked.
    pub store_failures: Counter,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let metrics = Self {
            registry: Arc::default(),
            answers: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            streams: Gauge::default(),
            ends_waiting: Gauge::default(),
            store_failures: Counter::default(),
        };
        let mut registry = metrics.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register("berth_gateway_requests", "Requests answered", metrics.answers.clone());
        registry.register("berth_gateway_request_duration_seconds", "How long an answer took", metrics.seconds.clone());
        registry.register("berth_gateway_event_streams", "Streams of events that are open", metrics.streams.clone());
        registry.register(
            "berth_gateway_unrecorded_ends",
            "Ends of sessions that the store has not taken yet",
            metrics.ends_waiting.clone(),
        );
        registry.register(
            "berth_gateway_store_failures",
            "Times that the store did not do what it was asked",
            metrics.store_failures.clone(),
        );
        drop(registry);
        metrics
    }
}

impl Metrics {
    fn answered(&self, route: String, method: &'static str, code: u16, took: Duration) {
        self.seconds.get_or_create(&OfRoute { route: route.clone() }).observe(took.as_secs_f64());
        self.answers.get_or_create(&Answer { route, method, code }).inc();
    }

    /// Everything, as text.
    ///
    /// # Errors
    /// When it cannot be written out, which no value of ours causes.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut written = String::new();
        text::encode(&mut written, &registry)?;
        Ok(written)
    }
}

/// Counts each answer by its route.
pub async fn counted(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    // A path that no route has stands for all of them: a caller chooses it.
    let route = request.extensions().get::<MatchedPath>().map_or("none", |path| path.as_str()).to_owned();
    let method = match request.method().as_str() {
        "GET" => "GET",
        "POST" => "POST",
        _ => "other",
    };
    let response = next.run(request).await;
    gateway.metrics.answered(route, method, response.status().as_u16(), begun.elapsed());
    response
}
