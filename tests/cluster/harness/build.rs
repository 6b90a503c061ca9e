//! The bodies of objects, each small: what a test says of one is laid over what they all have.

use berth::api::session::{Phase, SessionStatus};
use berth::api::time::{Instant, display};
use berth::api::{NOT_OBSERVED, Reason, Session, Workspace};
use berth::clock::Clock;
use berth::plan::hardening::Hardening;
use serde_json::{Value, json};

/// The image of every pod of this suite. It is brought to the node with the cluster.
pub const IMAGE: &str = "localhost/berth-busybox:1";

/// A container that answers on port 8080 as soon as it runs.
pub fn container() -> Value {
    json!({
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["httpd", "-f", "-p", "8080"],
        "readinessProbe": { "tcpSocket": { "port": 8080 }, "periodSeconds": 1 },
        "resources": { "requests": { "cpu": "1m", "memory": "4Mi" } },
    })
}

/// The spec of a pod with that container, with `more` over the container. The image does not say which user it runs as.
pub fn pod_spec(more: Value) -> Value {
    let user = json!({ "runAsUser": 1000 });
    json!({ "terminationGracePeriodSeconds": 1, "securityContext": user, "containers": [merged(container(), more)] })
}

/// The spec of a pod that nobody but the test makes, as the namespaces of tests take it.
pub fn strangers_pod(more: Value) -> Value {
    let spec = pod_spec(more);
    Value::Object(Hardening::default().merged(spec.as_object().unwrap()))
}

/// The spec of a Workspace of such pods, with `more` over it.
pub fn workspace_spec(more: Value) -> Value {
    let base = json!({
        "type": "web",
        "access": { "protocol": "HTTP", "port": 8080 },
        "template": { "spec": pod_spec(json!({})) },
    });
    let mut spec = merged(base, more);
    // The two exclude each other: a test that writes an endpoint does not mean the template.
    if spec.get("endpoint").is_some() {
        spec.as_object_mut().unwrap().remove("template");
    }
    spec
}

/// The spec of a Session on `workspace`, with `more` over it.
pub fn session_spec(workspace: &str, more: Value) -> Value {
    merged(json!({ "workspaceRef": { "name": workspace }, "user": { "id": "ana" } }), more)
}

/// Idle, warned and disconnected after so many seconds without activity.
pub fn idle(after: u32, warn: u32, disconnect: u32) -> Value {
    let seconds = |amount: u32| format!("{amount}s");
    json!({ "idle": { "after": seconds(after), "warnAfter": seconds(warn), "disconnectAfter": seconds(disconnect) } })
}

/// `over` laid over `base` as a JSON merge patch is.
pub fn merged(mut base: Value, over: Value) -> Value {
    match over {
        Value::Object(over) => {
            if !base.is_object() {
                base = json!({});
            }
            for (key, value) in over {
                let old = base[&key].take();
                base[&key] = merged(old, value);
            }
            base
        }
        over => over,
    }
}

/// The status of a session; empty where the operator has not written one.
pub fn status(session: &Session) -> SessionStatus {
    session.status.clone().unwrap_or_default()
}

/// Whether the operator has looked at the Workspace.
pub fn was_looked_at(workspace: &Workspace) -> bool {
    workspace.status.as_ref().is_some_and(|status| status.observed_generation != Some(NOT_OBSERVED))
}

/// The phase of a session, if it has one.
pub fn phase(session: &Session) -> Option<Phase> {
    session.status.as_ref()?.phase
}

/// How a session ended, if it has.
pub fn end(session: &Session) -> Option<(Phase, Reason)> {
    let status = session.status.as_ref()?;
    status.ended_at?;
    status.phase.zip(status.reason)
}

/// The time now, as an object has it.
pub fn now() -> Instant {
    Clock::system().now()
}

/// A time as it is written into an object.
pub fn at(time: Instant) -> Value {
    json!(display(time))
}
