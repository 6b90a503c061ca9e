//! The trace of a launch, from what the Session and its pod say once it is over: nothing is kept open meanwhile, so that
//! a launch has its trace whichever operator saw the end of it. Owns the spans, their names, times and attributes; not
//! how they are sent.
//!
//! A time that is missing, or that contradicts another, gives no span. All are whole seconds, as Kubernetes writes them.

use std::cmp;

use crate::api::pod::{ContainerStatus, Pod};
use k8s_openapi::api::core::v1::ContainerState;
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use crate::api::condition::{self, Type};
use crate::api::session::Phase;
use crate::api::time::{Instant, from_wire};
use crate::api::{Session, SessionStatus};
use crate::plan::instance;

/// A part of a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The trace: the 128 bits of the Session's uid.
    pub trace: u128,
    /// The span itself. It follows from the uid and from what the span is about: one that is sent twice is the same.
    pub id: u64,
    /// The span that it is a part of; absent for the launch as a whole.
    pub parent: Option<u64>,
    /// What it is called: one of a few names.
    pub name: &'static str,
    /// When it began.
    pub start: Instant,
    /// When it ended.
    pub end: Instant,
    /// What is known about it, by the names of OpenTelemetry's conventions where there is one.
    pub attributes: Vec<(&'static str, Value)>,
    /// The reason for which the launch failed.
    pub failure: Option<&'static str>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A word.
    Text(String),
    /// A number.
    Count(i64),
}

/// The span of a launch as a whole.
pub const ROOT: &str = "session launch";

/// The trace of a launch that is over with `session`, whose status was `before`: since it can be used for the first
/// time, or has ended without. `pod` is the one that this was concluded from. Nothing where neither is so.
pub fn launch(before: &SessionStatus, session: &Session, pod: Option<&Pod>) -> Vec<Span> {
    let Some(status) = session.status.as_ref().filter(|_| before.ready_at.is_none() && before.ended_at.is_none())
    else {
        return Vec::new();
    };
    let (Some(trace), Some(begun), Some(over)) =
        (trace_id(session), created(session), status.ready_at.or(status.ended_at))
    else {
        return Vec::new();
    };
    if over < begun {
        return Vec::new();
    }
    let root = Span {
        trace,
        id: span_id(trace, ROOT, ""),
        parent: None,
        name: ROOT,
        start: begun,
        end: over,
        attributes: about_session(session, status, pod),
        failure: failure(status),
    };
    let within = Within { root: &root, pod };
    let admitted_at = [before, status].into_iter().find_map(admitted_at);
    let queue = admitted_at
        .filter(|admitted| *admitted > begun)
        .and_then(|admitted| within.span("queue", None, Some(begun), Some(admitted)));
    let mut children: Vec<Span> = queue.into_iter().collect();
    if let Some(pod) = pod {
        children.extend(of_pod(&within, pod, status.ready_at));
    }
    [vec![root], children].concat()
}

/// What the pod tells: scheduled, each container started, ready, and then told about.
fn of_pod(within: &Within<'_>, pod: &Pod, usable_at: Option<Instant>) -> Vec<Span> {
    let made = pod.metadata.creation_timestamp.as_ref().map(from_wire);
    let scheduled = since(pod, "PodScheduled");
    let ready = since(pod, "Ready");
    let status = pod.status.as_ref();
    let mut spans: Vec<Span> = within.span("schedule", None, made, scheduled).into_iter().collect();
    // Those that run to their end go one after the other, and the others begin when the last of them has ended.
    let mut begun = scheduled;
    for container in status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default() {
        let finished = ended(container);
        spans.extend(within.span("init", Some(container), begun, finished));
        // One that stays beside the others, or that has not ended, says nothing about when the next could begin.
        begun = if stays(pod, &container.name) { begun } else { finished };
    }
    let containers = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    for container in containers {
        spans.extend(within.span("start", Some(container), begun, started(container)));
    }
    let all_started: Option<Vec<Instant>> = containers.iter().map(started).collect();
    let last_started = all_started.and_then(|all| all.into_iter().max());
    spans.extend(within.span("ready", None, last_started, ready));
    spans.extend(within.span("publish", None, ready, usable_at));
    spans
}

/// What the children of a trace have in common.
struct Within<'a> {
    root: &'a Span,
    pod: Option<&'a Pod>,
}

impl Within<'_> {
    /// A child, if both of its times are known and lie within the launch, in their order.
    fn span(
        &self,
        name: &'static str,
        container: Option<&ContainerStatus>,
        start: Option<Instant>,
        end: Option<Instant>,
    ) -> Option<Span> {
        let (start, end) = start.zip(end)?;
        if start < self.root.start || end < start || end > self.root.end {
            return None;
        }
        let mut attributes = Vec::new();
        if name != "queue" {
            attributes.extend(about_pod(self.pod));
        }
        if let Some(container) = container {
            attributes.push(("k8s.container.name", Value::Text(container.name.clone())));
            if container.restart_count > 0 {
                attributes.push(("k8s.container.restart_count", Value::Count(container.restart_count.into())));
            }
        }
        let of = container.map_or("", |container| container.name.as_str());
        let (trace, parent) = (self.root.trace, Some(self.root.id));
        Some(Span { trace, id: span_id(trace, name, of), parent, name, start, end, attributes, failure: None })
    }
}

/// What is told of the session. Who uses it is not: a person's name is nothing for a collector.
fn about_session(session: &Session, status: &SessionStatus, pod: Option<&Pod>) -> Vec<(&'static str, Value)> {
    let text = |key, value: Option<String>| value.map(|value| (key, Value::Text(value)));
    let phase = status.phase.map(|phase| phase.as_str().to_owned());
    let reason = status.reason.map(|reason| reason.as_str().to_owned());
    let namespace = session.namespace().filter(|_| pod.is_none());
    let mut attributes: Vec<_> = [
        text("k8s.namespace.name", namespace),
        text("berth.session.name", Some(session.name_any())),
        text("berth.session.uid", session.uid()),
        text("berth.session.phase", phase),
        text("berth.session.reason", reason),
        text("berth.workspace.name", Some(session.spec.workspace_ref.name.to_string())),
        text("error.type", failure(status).map(ToOwned::to_owned)),
    ]
    .into_iter()
    .flatten()
    .collect();
    attributes.extend(about_pod(pod));
    attributes
}

fn about_pod(pod: Option<&Pod>) -> Vec<(&'static str, Value)> {
    let Some(pod) = pod else { return Vec::new() };
    let instance = instance::describe(pod);
    let known = [
        ("k8s.namespace.name", pod.namespace()),
        ("k8s.pod.name", Some(instance.pod)),
        ("k8s.pod.uid", Some(instance.uid)),
        ("k8s.node.name", instance.node),
    ];
    known.into_iter().filter_map(|(key, value)| Some((key, Value::Text(value?)))).collect()
}

/// The reason of a launch that failed. One that its user or an administrator gave up did not.
fn failure(status: &SessionStatus) -> Option<&'static str> {
    let failed = status.ready_at.is_none() && status.phase == Some(Phase::Failed);
    failed.then(|| status.reason.map_or("_OTHER", |reason| reason.as_str()))
}

fn created(session: &Session) -> Option<Instant> {
    session.metadata.creation_timestamp.as_ref().map(from_wire)
}

/// When a slot was given. `startedAt` is the time of the creation.
fn admitted_at(status: &SessionStatus) -> Option<Instant> {
    condition::find(&status.conditions, Type::Admitted)
        .filter(|admitted| admitted.status == condition::Status::True)
        .map(|admitted| admitted.last_transition_time)
}

/// Since when this condition of the pod holds, if it does.
fn since(pod: &Pod, type_: &str) -> Option<Instant> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let holds = conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True")?;
    holds.last_transition_time.as_ref().map(from_wire)
}

/// When the container began to run, for the last time.
fn started(container: &ContainerStatus) -> Option<Instant> {
    match container.state.as_ref()? {
        ContainerState { running: Some(running), .. } => running.started_at.as_ref(),
        ContainerState { terminated: Some(ended), .. } => ended.started_at.as_ref(),
        _ => None,
    }
    .map(from_wire)
}

/// When the container ended as it should, if it has.
fn ended(container: &ContainerStatus) -> Option<Instant> {
    let ended = container.state.as_ref()?.terminated.as_ref().filter(|ended| ended.exit_code == 0)?;
    ended.finished_at.as_ref().map(from_wire)
}

/// Whether this init container goes on beside the others.
fn stays(pod: &Pod, name: &str) -> bool {
    let init = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    init.iter().any(|container| container.name == name && container.restart_policy.as_deref() == Some("Always"))
}

/// The uid's own bits: who has the resource finds the trace, and who has the trace the resource.
fn trace_id(session: &Session) -> Option<u128> {
    let digits = session.uid()?.replace('-', "");
    let id = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
    // A trace of no bits is none, by the convention.
    (id != 0).then_some(id)
}

fn span_id(trace: u128, name: &str, of: &str) -> u64 {
    let mut digest = Sha256::new();
    for part in [trace.to_be_bytes().as_slice(), name.as_bytes(), of.as_bytes()] {
        digest.update(part);
        digest.update([0]);
    }
    let head = digest.finalize().iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte));
    cmp::max(head, 1)
}

#[cfg(test)]
mod tests;
