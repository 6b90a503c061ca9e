//! What the gateway says of itself: its specification, a page of it, whether it can work.

use std::fmt::Write;
use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName};
use axum::response::IntoResponse;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{InfoBuilder, LicenseBuilder, OpenApi, PathItem};

use super::document;
use crate::gateway::Gateway;
use crate::metrics::MEDIA_TYPE;

/// Puts into the document what no handler says.
pub fn describe(document: &mut OpenApi) {
    document.info = InfoBuilder::new()
        .title("Berth")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Workspaces and the sessions that people hold on them. Callers show a Kubernetes token with the audience of this \
             installation; whose session is whose, and who sees and ends others', is Kubernetes' RBAC.",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    document
        .components
        .get_or_insert_default()
        .security_schemes
        .insert("token".to_owned(), SecurityScheme::Http(bearer).into());
}

static DOCUMENT: LazyLock<String> = LazyLock::new(|| serde_json::to_string(&document()).unwrap_or_default());

/// The specification.
pub async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}

static PAGE: LazyLock<String> = LazyLock::new(|| page(&document()));

/// The specification as a page that needs nothing from elsewhere.
pub async fn docs() -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
    ];
    (headers, PAGE.as_str())
}

fn page(document: &OpenApi) -> String {
    let mut rows = String::new();
    for (path, item) in &document.paths.paths {
        for (method, operation) in operations(item) {
            let words = [&operation.summary, &operation.description].into_iter().flatten().map(|text| escaped(text));
            let words: Vec<String> = words.collect();
            let answers: Vec<&str> = operation.responses.responses.keys().map(String::as_str).collect();
            let _ = writeln!(
                rows,
                "<tr><td><code>{method}</code></td><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
                escaped(path),
                words.join("<br>"),
                answers.join(" ")
            );
        }
    }
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Berth: the REST API</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>body{{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;\
         max-width:70rem;padding:0 1rem;color:#12304a}}table{{border-collapse:collapse;width:100%}}td,th{{text-align:left;\
         vertical-align:top;padding:.4rem .8rem .4rem 0;border-bottom:1px solid #d6dee6}}</style><h1>Berth: the REST API</h1>\
         <p>Version {}. Every request shows a Kubernetes token: <code>Authorization: Bearer …</code>. Errors are \
         <code>{{\"detail\": \"…\"}}</code>. The whole specification, for programs: <a href=\"/api/openapi.json\">openapi.json</a>.</p>\
         <table><thead><tr><th>Method</th><th>Path</th><th>Does</th><th>Answers</th></tr></thead><tbody>\n{rows}</tbody></table></html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn operations(item: &PathItem) -> Vec<(&'static str, &utoipa::openapi::path::Operation)> {
    [("GET", &item.get), ("POST", &item.post)]
        .into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
        .collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What is counted.
pub async fn metrics(
    State(gateway): State<Arc<Gateway>>,
) -> Result<([(HeaderName, &'static str); 1], String), StatusCode> {
    let written = gateway.metrics.encode().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(CONTENT_TYPE, MEDIA_TYPE)], written))
}

/// Whether there is a point in asking this replica.
pub async fn readyz(State(gateway): State<Arc<Gateway>>) -> (StatusCode, String) {
    match gateway.troubles() {
        troubles if troubles.is_empty() => (StatusCode::OK, "ok\n".to_owned()),
        troubles => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", troubles.join("\n"))),
    }
}
