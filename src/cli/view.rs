//! Sessions and Workspaces as rows: who, what, which phase, since when, until when and why. Pure; owns the words, not
//! where they are printed.

use chrono::TimeDelta;
use kube::{Resource, ResourceExt};

use crate::api::condition::{self, Type};
use crate::api::time::{Instant, from_wire};
use crate::api::{Session, SessionStatus, Workspace};

/// What stands where nothing is known.
const NOTHING: &str = "-";

/// A length of time as kubectl writes ages: short, and the coarser the longer.
pub fn age(delta: TimeDelta) -> String {
    let seconds = delta.num_seconds().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, unit: char, small: i64, part: char| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{part}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        _ => format!("{days}d"),
    }
}

/// The status, empty where none was written yet.
pub fn status(session: &Session) -> SessionStatus {
    session.status.clone().unwrap_or_default()
}

/// Whether the session is live.
pub fn is_live(session: &Session) -> bool {
    session.status.as_ref().is_none_or(|status| status.ended_at.is_none())
}

/// The phase, or a dash before the operator has looked at the session.
pub fn phase(session: &Session) -> &'static str {
    session.status.as_ref().and_then(|status| status.phase).map_or(NOTHING, |phase| phase.as_str())
}

/// When the launch was accepted.
pub fn started(session: &Session) -> Option<Instant> {
    let noted = session.status.as_ref().and_then(|status| status.started_at);
    noted.or_else(|| session.metadata.creation_timestamp.as_ref().map(from_wire))
}

/// Until when, and why: of a live session its nearest deadline, of another its end.
pub fn until(session: &Session, now: Instant) -> String {
    let status = status(session);
    let why =
        |reason: Option<crate::api::Reason>| reason.map_or(String::new(), |reason| format!(" ({})", reason.as_str()));
    match (status.ended_at, status.disconnect_at) {
        (Some(ended), _) => format!("ended {} ago{}", age(now - ended), why(status.reason)),
        (None, Some(at)) if at > now => format!("{}{}", age(at - now), why(status.disconnect_reason)),
        (None, Some(_)) => format!("now{}", why(status.disconnect_reason)),
        (None, None) => NOTHING.to_owned(),
    }
}

/// The headers of [`session_row`].
pub fn session_headers(with_namespace: bool, is_wide: bool) -> Vec<&'static str> {
    let mut headers = vec!["NAME", "USER", "WORKSPACE", "PHASE", "SINCE", "UNTIL"];
    if with_namespace {
        headers.insert(0, "NAMESPACE");
    }
    if is_wide {
        headers.extend(["READY", "LAST-ACTIVITY", "IP", "POD", "NODE", "URL"]);
    }
    headers.push("MESSAGE");
    headers
}

/// A session as a row.
pub fn session_row(session: &Session, with_namespace: bool, is_wide: bool, now: Instant) -> Vec<String> {
    let status = status(session);
    let mut row = vec![
        session.name_any(),
        session.spec.user.id.to_string(),
        session.spec.workspace_ref.name.to_string(),
        phase(session).to_owned(),
        started(session).map_or(NOTHING.to_owned(), |at| age(now - at)),
        until(session, now),
    ];
    if with_namespace {
        row.insert(0, session.namespace().unwrap_or_default());
    }
    if is_wide {
        let instance = status.instance.as_ref();
        let ready = condition::find(&status.conditions, Type::Ready).map(|ready| format!("{:?}", ready.status));
        let last = status.activity.as_ref().and_then(|activity| activity.last_at).or(status.ready_at);
        let address = status.client.as_ref().and_then(|client| client.ip_address.as_ref());
        row.extend([
            or_nothing(ready),
            last.map_or(NOTHING.to_owned(), |at| format!("{} ago", age(now - at))),
            or_nothing(address.map(ToString::to_string)),
            or_nothing(instance.map(|instance| instance.pod.clone())),
            or_nothing(instance.and_then(|instance| instance.node.clone())),
            or_nothing(status.url.clone()),
        ]);
    }
    row.push(status.message.unwrap_or_default());
    row
}

/// The headers of [`ended_row`].
pub fn ended_headers(with_namespace: bool, is_wide: bool) -> Vec<&'static str> {
    let mut headers = vec!["NAME", "USER", "WORKSPACE", "ENDED", "AS", "REASON", "DURATION"];
    if with_namespace {
        headers.insert(0, "NAMESPACE");
    }
    if is_wide {
        headers.extend(["STARTED", "IP", "POD", "NODE"]);
    }
    headers.push("MESSAGE");
    headers
}

/// A session that has ended as a row: how, why, and how long it was.
pub fn ended_row(session: &Session, with_namespace: bool, is_wide: bool, now: Instant) -> Vec<String> {
    let status = status(session);
    let mut row = vec![
        session.name_any(),
        session.spec.user.id.to_string(),
        session.spec.workspace_ref.name.to_string(),
        status.ended_at.map_or(NOTHING.to_owned(), |at| format!("{} ago", age(now - at))),
        phase(session).to_owned(),
        status.reason.map_or(NOTHING, |reason| reason.as_str()).to_owned(),
        or_nothing(status.duration.clone()),
    ];
    if with_namespace {
        row.insert(0, session.namespace().unwrap_or_default());
    }
    if is_wide {
        let instance = status.instance.as_ref();
        let address = status.client.as_ref().and_then(|client| client.ip_address.as_ref());
        row.extend([
            or_nothing(started(session).map(crate::api::time::display)),
            or_nothing(address.map(ToString::to_string)),
            or_nothing(instance.map(|instance| instance.pod.clone())),
            or_nothing(instance.and_then(|instance| instance.node.clone())),
        ]);
    }
    row.push(status.message.unwrap_or_default());
    row
}

/// The headers of [`workspace_row`].
pub fn workspace_headers(with_namespace: bool, is_wide: bool) -> Vec<&'static str> {
    let mut headers = vec!["NAME", "TYPE", "PHASE", "SESSIONS", "AGE"];
    if with_namespace {
        headers.insert(0, "NAMESPACE");
    }
    if is_wide {
        headers.extend(["DISPLAY-NAME", "POLICY"]);
    }
    headers.push("MESSAGE");
    headers
}

/// A Workspace as a row.
pub fn workspace_row(workspace: &Workspace, with_namespace: bool, is_wide: bool, now: Instant) -> Vec<String> {
    let status = workspace.status.as_ref();
    let held = status.and_then(|status| status.active_sessions).map_or(NOTHING.to_owned(), |count| count.to_string());
    let created = workspace.meta().creation_timestamp.as_ref().map(from_wire);
    let mut row = vec![
        workspace.name_any(),
        workspace.spec.type_.as_str().to_owned(),
        status.and_then(|status| status.phase).map_or(NOTHING.to_owned(), |phase| format!("{phase:?}")),
        format!("{held}/{}", workspace.spec.max_sessions),
        created.map_or(NOTHING.to_owned(), |at| age(now - at)),
    ];
    if with_namespace {
        row.insert(0, workspace.namespace().unwrap_or_default());
    }
    if is_wide {
        row.extend([
            or_nothing(workspace.spec.display_name.as_ref().map(ToString::to_string)),
            or_nothing(workspace.spec.policy_ref.as_ref().map(|policy| policy.name.to_string())),
        ]);
    }
    row.push(trouble(workspace).unwrap_or_default());
    row
}

/// What keeps the Workspace from being launched, in the operator's words.
pub fn trouble(workspace: &Workspace) -> Option<String> {
    let conditions = &workspace.status.as_ref()?.conditions;
    let ready = condition::find(conditions, Type::Ready)?;
    (ready.status != condition::Status::True).then(|| ready.message.clone())
}

fn or_nothing(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| NOTHING.to_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use chrono::DateTime;
    use serde_json::{Value, json};

    /// A session of ana on the Workspace box, created at second 1000, with this status.
    pub fn session(name: &str, status: Value) -> Session {
        serde_json::from_value(json!({
            "apiVersion": "berth.dev/v1alpha1",
            "kind": "Session",
            "metadata": { "name": name, "namespace": "demo", "creationTimestamp": second(1000).to_rfc3339() },
            "spec": { "workspaceRef": { "name": "box" }, "user": { "id": "ana" } },
            "status": status,
        }))
        .unwrap()
    }

    /// A second of the epoch.
    pub fn second(at: i64) -> Instant {
        DateTime::from_timestamp(at, 0).unwrap()
    }

    #[test]
    fn ages_are_short_and_get_coarser() {
        for (seconds, text) in [
            (-5, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (3599, "59m"),
            (10_800, "3h"),
            (12_000, "3h20m"),
            (100_000, "27h"),
            (200_000, "2d7h"),
            (900_000, "10d"),
        ] {
            assert_eq!(age(TimeDelta::seconds(seconds)), text);
        }
    }

    #[test]
    fn a_live_session_has_a_deadline_and_an_ended_one_an_end() {
        let live = session(
            "a",
            json!({ "phase": "Idle", "disconnectAt": second(2720).to_rfc3339(), "disconnectReason": "IdleTimeout" }),
        );
        assert_eq!(until(&live, second(2000)), "12m (IdleTimeout)");
        assert_eq!(until(&live, second(2720)), "now (IdleTimeout)");
        let ended = json!({ "phase": "Terminated", "endedAt": second(1900).to_rfc3339(), "reason": "MaxDuration" });
        assert_eq!(until(&session("a", ended), second(2000)), "ended 100s ago (MaxDuration)");
        assert_eq!(until(&session("a", json!({})), second(2000)), "-");
    }

    #[test]
    fn rows_have_a_cell_for_each_header() {
        let session = session("a", json!({ "phase": "Active", "message": "hello" }));
        for (namespace, wide) in [(false, false), (true, false), (false, true), (true, true)] {
            let now = second(1060);
            let row = session_row(&session, namespace, wide, now);
            assert_eq!(row.len(), session_headers(namespace, wide).len());
            assert_eq!(row.last().map(String::as_str), Some("hello"));
            assert_eq!(ended_row(&session, namespace, wide, now).len(), ended_headers(namespace, wide).len());
        }
        let row = session_row(&session, true, false, second(1060));
        assert_eq!(row, ["demo", "a", "ana", "box", "Active", "60s", "-", "hello"]);
    }
}
