//! What the operator counts of itself, in the text format of OpenMetrics. Owns the names, the labels and the buckets;
//! docs/metrics.md tells what each is for. No label is the name of an object or of a person.

mod process;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::api::pod::Pod;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::api::workspace::WorkspacePhase;
use crate::api::{Reason, SessionStatus};
use crate::cluster::Cluster;
use crate::cluster::census;
use crate::cluster::error::CallError;
use crate::plan::phase::PHASES;
use crate::plan::pool::is_of_a_pool;

/// The media type of what [`Metrics::encode`] writes.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The names of the loops.
const CONTROLLERS: [&str; 2] = ["session", "workspace"];

/// Where instances come from: a pool, a pod of the session's own, or a machine that exists.
const INSTANCES: [&str; 3] = ["warm", "cold", "endpoint"];

const LOOK_BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0];
const START_BUCKETS: [f64; 11] = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];
const LIFE_BUCKETS: [f64; 9] = [60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 86400.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfController {
    controller: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Look {
    controller: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    controller: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    resource: String,
    verb: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Placed {
    namespace: String,
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Start {
    instance: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct End {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSpan {
    result: &'static str,
}

/// What became of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanFate {
    /// The collector took it.
    Exported,
    /// The collector did not take it.
    Failed,
    /// So many waited for the collector that there was no room for it.
    Overflow,
}

impl SpanFate {
    const ALL: [Self; 3] = [Self::Exported, Self::Failed, Self::Overflow];

    fn as_str(self) -> &'static str {
        match self {
            Self::Exported => "exported",
            Self::Failed => "failed",
            Self::Overflow => "overflow",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

/// All that is counted. Clones count into the same.
#[derive(Clone)]
pub struct Metrics {
    /// Locked while it is written out, so that two readers at once do not see each other's half-counted gauges.
    registry: Arc<Mutex<Registry>>,
    looks: Family<Look, Counter>,
    failures: Family<Failure, Counter>,
    look_seconds: Family<OfController, Histogram, fn() -> Histogram>,
    looks_in_flight: Family<OfController, Gauge>,
    writes: Family<Write, Counter>,
    start_seconds: Histogram,
    life_seconds: Histogram,
    starts: Family<Start, Counter>,
    ends: Family<End, Counter>,
    spans: Family<OfSpan, Counter>,
    leader: Gauge,
    watch_trouble: Family<OfKind, Gauge>,
    crd_missing: Family<OfKind, Gauge>,
    unreadable: Family<OfKind, Gauge>,
    sessions: Family<Placed, Gauge>,
    workspaces: Family<Placed, Gauge>,
    stuck: Gauge,
    unguarded: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let look_seconds: fn() -> Histogram = || Histogram::new(LOOK_BUCKETS);
        let metrics = Self {
            registry: Arc::default(),
            looks: Family::default(),
            failures: Family::default(),
            look_seconds: Family::new_with_constructor(look_seconds),
            looks_in_flight: Family::default(),
            writes: Family::default(),
            start_seconds: Histogram::new(START_BUCKETS),
            life_seconds: Histogram::new(LIFE_BUCKETS),
            starts: Family::default(),
            ends: Family::default(),
            spans: Family::default(),
            leader: Gauge::default(),
            watch_trouble: Family::default(),
            crd_missing: Family::default(),
            unreadable: Family::default(),
            sessions: Family::default(),
            workspaces: Family::default(),
            stuck: Gauge::default(),
            unguarded: Gauge::default(),
        };
        metrics.register();
        metrics.begin_at_none();
        metrics
    }
}

impl Metrics {
    /// A counter that appears with its first event seems never to have risen: those that are known begin at none.
    fn begin_at_none(&self) {
        for instance in INSTANCES {
            drop(self.starts.get_or_create(&Start { instance }));
        }
        for reason in Reason::ALL {
            drop(self.ends.get_or_create(&End { reason: reason.as_str() }));
        }
        for controller in CONTROLLERS {
            for result in ["ok", "conflict", "error"] {
                drop(self.looks.get_or_create(&Look { controller, result }));
            }
        }
    }

    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(process::Process));
        let build: Family<Build, Gauge> = Family::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        let ours = registry.sub_registry_with_prefix("berth");
        ours.register("build_info", "The operator's version", build);
        ours.register("leader", "Whether this operator leads", self.leader.clone());
        ours.register("reconcile", "Looks at an object, by what came of them", self.looks.clone());
        ours.register("reconcile_errors", "Looks that failed, by the reason", self.failures.clone());
        ours.register("reconcile_duration_seconds", "How long a look took", self.look_seconds.clone());
        ours.register("reconciles_in_flight", "Looks that are under way", self.looks_in_flight.clone());
        ours.register("watch_trouble", "Whether a kind cannot be watched", self.watch_trouble.clone());
        ours.register("crd_missing", "Whether the API server does not know a kind", self.crd_missing.clone());
        ours.register("unreadable_objects", "Objects that this version cannot read", self.unreadable.clone());
        ours.register("api_writes", "Write requests to the API server", self.writes.clone());
        ours.register("sessions", "Sessions, ended ones that are kept included", self.sessions.clone());
        ours.register("workspaces", "Workspaces", self.workspaces.clone());
        ours.register("sessions_stuck_terminating", "Sessions that do not go though deleted", self.stuck.clone());
        let about = "Whether nobody is launched, since the admission policies do not stand as installed";
        ours.register("admission_unguarded", about, self.unguarded.clone());
        let about = "From the creation of a Session until it could be used";
        ours.register("session_start_duration_seconds", about, self.start_seconds.clone());
        ours.register("session_duration_seconds", "From a Session's start to its end", self.life_seconds.clone());
        ours.register("session_starts", "Sessions that could be used, by their instance", self.starts.clone());
        ours.register("session_terminations", "Ends of Sessions, by the reason", self.ends.clone());
        ours.register("trace_spans", "Spans of traces, by what became of them", self.spans.clone());
    }

    /// Whether the admission policies stand as installed.
    pub fn guarded(&self, guarded: bool) {
        self.unguarded.set(i64::from(!guarded));
    }

    /// This controller begins its work. Its failures are counted from 0 on: the first of a counter that is not there before is no
    /// increase to Prometheus.
    pub fn controller_began(&self, controller: &'static str) {
        for reason in CallError::KINDS {
            drop(self.failures.get_or_create(&Failure { controller, reason }));
        }
    }

    /// A look at an object by this controller has begun.
    pub fn look_began(&self, controller: &'static str) {
        self.looks_in_flight.get_or_create(&OfController { controller }).inc();
    }

    /// It has ended, after `lasted`.
    pub fn look_ended(&self, controller: &'static str, outcome: Result<(), &CallError>, lasted: Duration) {
        self.looks_in_flight.get_or_create(&OfController { controller }).dec();
        self.look_seconds.get_or_create(&OfController { controller }).observe(lasted.as_secs_f64());
        let result = match outcome {
            Ok(()) => "ok",
            Err(error) if error.is_conflict() || error.is_not_found() => "conflict",
            Err(_) => "error",
        };
        self.looks.get_or_create(&Look { controller, result }).inc();
        if let Err(error) = outcome {
            self.failures.get_or_create(&Failure { controller, reason: error.kind() }).inc();
        }
    }

    /// A request is sent to the API server. Reads and trials change nothing and are not counted.
    pub fn request(&self, method: &http::Method, uri: &http::Uri) {
        let verb = match *method {
            http::Method::POST => "create",
            http::Method::PUT => "update",
            http::Method::PATCH => "patch",
            http::Method::DELETE => "delete",
            _ => return,
        };
        if uri.query().is_some_and(|query| query.contains("dryRun=All")) {
            return;
        }
        self.writes.get_or_create(&Write { resource: resource(uri.path()), verb }).inc();
    }

    /// The status of a session was written, which has this pod: counts a start or an end, if it was one.
    pub fn session_written(&self, before: &SessionStatus, after: &SessionStatus, pod: Option<&Pod>) {
        let Some(started) = after.started_at else { return };
        let seconds = |until: chrono::DateTime<chrono::Utc>| (until - started).as_seconds_f64().max(0.0);
        if let (None, Some(ready)) = (before.ready_at, after.ready_at) {
            self.start_seconds.observe(seconds(ready));
            let [warm, cold, endpoint] = INSTANCES;
            let instance = pod.map_or(endpoint, |pod| if is_of_a_pool(pod) { warm } else { cold });
            self.starts.get_or_create(&Start { instance }).inc();
        }
        if let (None, Some(ended)) = (before.ended_at, after.ended_at) {
            self.life_seconds.observe(seconds(ended));
            let reason = after.reason.map_or("Unknown", |reason| reason.as_str());
            self.ends.get_or_create(&End { reason }).inc();
        }
    }

    /// Traces are sent from here on: their counters begin at none.
    pub fn traces_begin(&self) {
        for fate in SpanFate::ALL {
            self.spans(fate, 0);
        }
    }

    /// So many spans had this fate.
    pub fn spans(&self, fate: SpanFate, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.spans.get_or_create(&OfSpan { result: fate.as_str() }).inc_by(count);
    }

    /// Everything, as it is now.
    ///
    /// # Errors
    /// When it cannot be written as text.
    pub fn encode(&self, cluster: &Cluster) -> Result<String, std::fmt::Error> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let leads = cluster.leadership.holds();
        self.leader.set(i64::from(leads));
        for (kind, (troubled, unknown)) in cluster.health.by_kind() {
            self.watch_trouble.get_or_create(&OfKind { kind }).set(i64::from(troubled));
            self.crd_missing.get_or_create(&OfKind { kind }).set(i64::from(unknown));
        }
        self.sessions.clear();
        self.workspaces.clear();
        if leads {
            let census = census::take(cluster);
            let sessions: Vec<_> = PHASES.iter().map(|phase| phase.as_str()).collect();
            set(&self.sessions, census.sessions, &sessions);
            let workspaces: Vec<_> = WorkspacePhase::ALL.iter().map(|phase| phase.as_str()).collect();
            set(&self.workspaces, census.workspaces, &workspaces);
            for (kind, count) in census.unreadable {
                self.unreadable.get_or_create(&OfKind { kind }).set(count);
            }
            self.stuck.set(census.stuck);
        }
        let mut written = String::new();
        text::encode(&mut written, &registry)?;
        Ok(written)
    }
}

/// Sets the gauges to the counts, and to none in the other phases of a namespace that has any: a line that begins when
/// something is wrong cannot be compared with before.
fn set(gauges: &Family<Placed, Gauge>, counts: BTreeMap<(String, &'static str), i64>, phases: &[&'static str]) {
    for namespace in counts.keys().map(|(namespace, _)| namespace) {
        for phase in phases {
            drop(gauges.get_or_create(&Placed { namespace: namespace.clone(), phase }));
        }
    }
    for ((namespace, phase), count) in counts {
        gauges.get_or_create(&Placed { namespace, phase }).set(count);
    }
}

/// The resource that a request is about, with its subresource: `sessions/status`.
fn resource(path: &str) -> String {
    let mut parts = path.trim_matches('/').split('/');
    // `api/v1` or `apis/GROUP/VERSION`, then perhaps `namespaces/NAME`.
    let skipped = if parts.next() == Some("apis") { 2 } else { 1 };
    let rest: Vec<&str> = parts.skip(skipped).collect();
    let rest = match rest.as_slice() {
        ["namespaces", _, of_it @ ..] if !of_it.is_empty() => of_it,
        other => other,
    };
    match rest {
        [resource, _, subresource, ..] => format!("{resource}/{subresource}"),
        [resource, ..] => (*resource).to_owned(),
        [] => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_told_without_the_objects_name() {
        for (path, wanted) in [
            ("/api/v1/namespaces/demo/pods", "pods"),
            ("/api/v1/namespaces/demo/pods/mine", "pods"),
            ("/apis/berth.dev/v1alpha1/namespaces/demo/sessions/mine/status", "sessions/status"),
            ("/apis/events.k8s.io/v1/namespaces/demo/events", "events"),
            ("/api/v1/namespaces/demo", "namespaces"),
            ("/", "none"),
        ] {
            assert_eq!(resource(path), wanted, "{path}");
        }
    }

    #[test]
    fn a_start_and_an_end_count_once() {
        let metrics = Metrics::default();
        let at = |second| chrono::DateTime::from_timestamp(second, 0);
        let begun = SessionStatus { started_at: at(0), ..SessionStatus::default() };
        let ready = SessionStatus { ready_at: at(3), ..begun.clone() };
        let ended = SessionStatus { ended_at: at(60), reason: Some(Reason::IdleTimeout), ..ready.clone() };
        for (before, after) in [(&begun, &ready), (&ready, &ready), (&ready, &ended), (&ended, &ended)] {
            metrics.session_written(before, after, Some(&Pod::default()));
        }
        let mut written = String::new();
        text::encode(&mut written, &metrics.registry.lock().unwrap()).unwrap();
        for line in [
            "berth_session_start_duration_seconds_count 1",
            "berth_session_start_duration_seconds_sum 3.0",
            "berth_session_duration_seconds_count 1",
            "berth_session_starts_total{instance=\"cold\"} 1",
            "berth_session_starts_total{instance=\"warm\"} 0",
            "berth_session_terminations_total{reason=\"IdleTimeout\"} 1",
        ] {
            assert!(written.lines().any(|found| found == line), "no {line} in\n{written}");
        }
    }
}
