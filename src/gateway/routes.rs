//! The routes of the API, and what stands around them all: who calls, how large and how long a request may be, what is
//! answered where there is no route. The OpenAPI document is made of the same handlers.

mod about;
#[expect(dead_code, reason = "they are told in the document, never built")]
mod answers;
mod events;
mod extract;
mod me;
mod organizations;
mod sessions;
mod workspaces;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderName, LINK, RETRY_AFTER};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_http::cors::CorsLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use sessions::{EndedAll, EndedOne};

use super::Gateway;
use super::asker::authenticated;
use super::metrics::counted;
use super::problem::Problem;

/// The header by which two calls are one launch.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The document alone.
pub fn document() -> OpenApi {
    let (_, mut document) = callable().merge(streaming()).split_for_parts();
    about::describe(&mut document);
    document
}

/// What is answered within a moment.
fn callable() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new()
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::active))
        .routes(routes!(sessions::stats))
        .routes(routes!(sessions::disconnect_all))
        .routes(routes!(sessions::one))
        .routes(routes!(sessions::disconnect))
        .routes(routes!(sessions::keepalive))
        .routes(routes!(sessions::report))
        .routes(routes!(workspaces::list))
        .routes(routes!(workspaces::one))
        .routes(routes!(workspaces::launch))
        .routes(routes!(workspaces::stop))
        .routes(routes!(me::me))
        .routes(routes!(organizations::sessions))
        .routes(routes!(organizations::disconnect_all))
        .routes(routes!(organizations::connections))
        .routes(routes!(organizations::api_sessions))
        .routes(routes!(organizations::policies))
        .routes(routes!(organizations::audit))
}

/// What is answered for as long as somebody listens.
fn streaming() -> OpenApiRouter<Arc<Gateway>> {
    OpenApiRouter::new().routes(routes!(events::events))
}

/// The routes.
pub fn all(gateway: Arc<Gateway>) -> Router {
    let limits = gateway.settings.limits;
    let (callable, _) = callable().split_for_parts();
    let (streaming, _) = streaming().split_for_parts();
    let timeout = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, limits.request);
    let api = callable
        .layer(timeout)
        .merge(streaming)
        .fallback(|| async { Problem::not_found("Route") })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .route_layer(middleware::from_fn_with_state(Arc::clone(&gateway), counted))
        .layer(middleware::from_fn_with_state(Arc::clone(&gateway), aged))
        .layer(middleware::from_fn_with_state(Arc::clone(&gateway), authenticated));
    let open = Router::new()
        .route("/api/openapi.json", get(about::openapi))
        .route("/api/docs", get(about::docs))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(about::readyz));
    let mut all = api.merge(open).layer(DefaultBodyLimit::max(limits.body_bytes)).layer(middleware::from_fn(guarded));
    if let Some(cors) = cors(&gateway.settings.origins) {
        all = all.layer(cors);
    }
    all.with_state(gateway)
}

/// The routes of health, for a port of its own.
pub fn health(gateway: Arc<Gateway>) -> Router {
    Router::new().route("/livez", get(|| async { "ok\n" })).route("/readyz", get(about::readyz)).with_state(gateway)
}

/// The route of the metrics, for a port of its own.
pub fn metrics(gateway: Arc<Gateway>) -> Router {
    Router::new().route("/metrics", get(about::metrics)).with_state(gateway)
}

/// Calls from pages of these origins, with a token that the page itself holds: no cookie is ever taken.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, IDEMPOTENCY_KEY, HeaderName::from_static("last-event-id")])
        .expose_headers([LINK, RETRY_AFTER, AGE]);
    (!origins.is_empty()).then(|| layer.allow_origin(origins))
}

/// Says how old an answer is that was made of what was known before the API server fell silent.
async fn aged(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    if !gateway.board.is_ready() {
        return Problem::unavailable("this gateway has just begun and does not know yet what there is").into_response();
    }
    let is_read = request.method() == Method::GET;
    let mut response = next.run(request).await;
    if let Some(behind) = gateway.board.health.behind_for().filter(|_| is_read) {
        response.headers_mut().insert(AGE, HeaderValue::from(behind.as_secs()));
    }
    response
}

/// What every answer has: nobody keeps it, and no browser guesses what it is.
async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let bare = response.status().is_client_error() || response.status().is_server_error();
    let has_body = response.headers().contains_key(CONTENT_TYPE);
    if bare && !has_body {
        // A layer's own refusal, such as of a body that is too large or a request that took too long.
        response = own_words(response.status()).into_response();
    }
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

fn own_words(status: StatusCode) -> Problem {
    match status {
        StatusCode::GATEWAY_TIMEOUT => Problem::not_done_yet("this took too long: look whether it was done"),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(0),
        _ => Problem::malformed(format!("the request was refused ({status})")),
    }
}
