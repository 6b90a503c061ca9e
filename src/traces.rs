//! Traces, sent to a collector by OTLP over HTTP where one is set: off unless told. Owns the queue, the sending and what
//! becomes of spans that nobody takes; what a trace says is `plan::trace`'s.
//!
//! Nobody waits for a collector. What is handed over goes into a bounded queue; where that is full, or a batch is not
//! taken in time, its spans are counted and let go of.

mod client;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::api::pod::Pod;
use anyhow::Context as _;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::api::time::Instant;
use crate::api::{Session, SessionStatus};
use crate::metrics::{Metrics, SpanFate};
use crate::plan::trace::{self, Span, Value};
use crate::settings::traces::TraceSettings;
use client::Client;

/// How many launches wait for a collector that is away: some megabytes at most.
const QUEUE: usize = 1024;

/// How many launches go in one request.
const BATCH: usize = 64;

/// How long the last traces may take once the operator has stopped.
const FLUSH: Duration = Duration::from_secs(3);

/// Where finished launches are handed over. Clones hand over to the same; the default is off.
#[derive(Clone, Default)]
pub struct Traces(Option<Sending>);

#[derive(Clone)]
struct Sending {
    queue: mpsc::Sender<Vec<Span>>,
    metrics: Metrics,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Traces {
    /// Begins to send to the collector of `settings`, in the name of the operator called `identity`.
    ///
    /// # Errors
    /// When nothing could ever be sent as the settings are.
    pub fn start(settings: &TraceSettings, identity: &str, metrics: Metrics) -> anyhow::Result<Self> {
        let client = Client::new(&settings.endpoint)?;
        // Of the environment it reads the headers, the timeout and the compression, which goes over what it is given.
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client.clone())
            .with_endpoint(settings.endpoint.to_string())
            .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
            .with_headers(settings.headers.clone().into_iter().collect())
            .with_retry_policy(
                RetryPolicy::recommended()
                    .with_max_retries(6)
                    .with_initial_delay(Duration::from_millis(200))
                    .with_max_delay(Duration::from_secs(4)),
            )
            .build()
            .context("traces cannot be set up")?;
        exporter.set_resource(&resource(identity));
        metrics.traces_begin();
        let (queue, waiting) = mpsc::channel(QUEUE);
        tracing::info!(endpoint = %settings.endpoint, "traces are sent");
        let task = tokio::spawn(send(exporter, client, waiting, metrics.clone()));
        Ok(Self(Some(Sending { queue, metrics, task: Arc::new(Mutex::new(Some(task))) })))
    }

    /// The status of a session was written: hands its launch over, if this was the end of it. `pod` is the one that the
    /// status speaks of.
    pub fn session_written(&self, before: &SessionStatus, session: &Session, pod: Option<&Pod>) {
        let Some(Sending { queue, metrics, .. }) = &self.0 else { return };
        let spans = trace::launch(before, session, pod);
        if spans.is_empty() {
            return;
        }
        let count = spans.len();
        if queue.try_send(spans).is_err() {
            metrics.spans(SpanFate::Overflow, count);
        }
    }

    /// Sends what is left, in a moment: then it is let go of. Nothing is taken any more afterwards.
    pub async fn finish(&self) {
        let Some(Sending { queue, task, .. }) = &self.0 else { return };
        let Some(mut task) = task.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let left = async {
            // An empty trace is the last: others still hold ends of the queue that will not hand over any more.
            let _ = queue.send(Vec::new()).await;
            let _ = (&mut task).await;
        };
        if tokio::time::timeout(FLUSH, left).await.is_err() {
            tracing::warn!("the last traces were not taken in time");
            task.abort();
        }
    }
}

/// Sends what comes, until an empty trace says that it was the last.
async fn send(exporter: SpanExporter, client: Client, mut waiting: mpsc::Receiver<Vec<Span>>, metrics: Metrics) {
    let scope = InstrumentationScope::builder("berth").with_version(env!("CARGO_PKG_VERSION")).build();
    let mut launches = Vec::with_capacity(BATCH);
    let mut troubled = false;
    while waiting.recv_many(&mut launches, BATCH).await > 0 {
        let last = launches.iter().any(Vec::is_empty);
        let batch: Vec<SpanData> = launches.drain(..).flatten().map(|span| to_otel(span, &scope)).collect();
        let count = batch.len();
        if count > 0 {
            match exporter.export(batch).await {
                Ok(()) => {
                    metrics.spans(SpanFate::Exported, count);
                    if troubled {
                        tracing::info!("the collector takes traces again");
                    }
                    troubled = false;
                }
                Err(error) => {
                    metrics.spans(SpanFate::Failed, count);
                    let why = client.trouble().unwrap_or_else(|| error.to_string());
                    // Once for as long as it lasts: a collector that is away is not to fill the log.
                    match troubled {
                        false => tracing::warn!(error = why, "the collector does not take traces: they are let go of"),
                        true => tracing::debug!(error = why, "the collector does not take traces"),
                    }
                    troubled = true;
                }
            }
        }
        if last {
            return;
        }
    }
}

/// What sends. What the environment says of it by OpenTelemetry's own variables goes over what we say.
fn resource(identity: &str) -> Resource {
    let ours = [
        KeyValue::new("service.name", "berth-operator"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", identity.to_owned()),
    ];
    let resource = Resource::builder_empty()
        .with_attributes(ours)
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())]);
    match std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty()) {
        Some(name) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}

fn to_otel(span: Span, scope: &InstrumentationScope) -> SpanData {
    let context = SpanContext::new(
        TraceId::from_bytes(span.trace.to_be_bytes()),
        SpanId::from_bytes(span.id.to_be_bytes()),
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    );
    let attribute = |(key, value)| match value {
        Value::Text(text) => KeyValue::new(key, text),
        Value::Count(count) => KeyValue::new(key, count),
    };
    SpanData {
        span_context: context,
        parent_span_id: span.parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.to_be_bytes())),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: span.name.into(),
        start_time: moment(span.start),
        end_time: moment(span.end),
        attributes: span.attributes.into_iter().map(attribute).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: span.failure.map_or(Status::Unset, Status::error),
        instrumentation_scope: scope.clone(),
    }
}

fn moment(time: Instant) -> SystemTime {
    time.into()
}
