//! A collector of traces on the loopback, which keeps what it is sent: by OTLP over HTTP, as the ones that people run.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// How long one waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A collector, until this is dropped.
pub(crate) struct Collector {
    address: SocketAddr,
    kept: Arc<Kept>,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Kept {
    requests: Mutex<Vec<(HeaderMap, ExportTraceServiceRequest)>>,
    refusing: Mutex<bool>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let kept = Arc::new(Kept::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&kept));
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, kept, _serving: AbortOnDropHandle::new(serving) }
    }

    /// Where it is, as people write it.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers that what it is sent is wrong, or no more.
    #[allow(dead_code, reason = "one suite of two has a use for it")]
    pub(crate) fn refuse(&self, refusing: bool) {
        *self.kept.refusing.lock().unwrap() = refusing;
    }

    /// What was sent with each request.
    #[allow(dead_code, reason = "one suite of two has a use for it")]
    pub(crate) fn headers(&self) -> Vec<HeaderMap> {
        self.kept.requests.lock().unwrap().iter().map(|(headers, _)| headers.clone()).collect()
    }

    /// Who sent something.
    pub(crate) fn resources(&self) -> Vec<Resource> {
        let requests = self.kept.requests.lock().unwrap();
        requests.iter().flat_map(|(_, body)| &body.resource_spans).filter_map(|of| of.resource.clone()).collect()
    }

    /// All spans that were sent.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let requests = self.kept.requests.lock().unwrap();
        let scopes = requests.iter().flat_map(|(_, body)| &body.resource_spans).flat_map(|of| &of.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// Waits until something was sent for which this holds.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let spans = self.spans();
            if holds(&spans) {
                return spans;
            }
            assert!(tokio::time::Instant::now() < end, "{what}: this did not come; there are {spans:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn take(State(kept): State<Arc<Kept>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    if *kept.refusing.lock().unwrap() {
        return StatusCode::BAD_REQUEST;
    }
    let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::UNPROCESSABLE_ENTITY };
    kept.requests.lock().unwrap().push((headers, request));
    StatusCode::OK
}

/// The value of an attribute, as text.
pub(crate) fn value(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.clone()?.value? {
        Value::StringValue(text) => Some(text),
        other => Some(format!("{other:?}")),
    }
}

/// A trace's id as people see it, and as the uid of its Session is without dashes.
pub(crate) fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
