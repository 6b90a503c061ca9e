//! A session as the API shows it.

use chrono::{DateTime, TimeDelta, Utc};
use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::length;
use crate::api::Session;
use crate::api::session::{Location, LocationSource, Phase};
use crate::api::time::{Instant, from_wire};

/// A session: one person's use of one workspace, from launch to end.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct SessionView {
    /// The uid of the Session.
    #[schema(format = "uuid")]
    pub id: String,
    /// The resource's name.
    pub name: String,
    /// The namespace that it is in.
    pub organization: String,
    /// The Kubernetes username of who launched it.
    pub user_id: String,
    /// Empty where none is known.
    pub user_email: String,
    /// The Workspace's name.
    pub workspace_id: String,
    /// What the Workspace was called when the session began.
    pub workspace_name: String,
    /// `html5`, `rdp`, `linux`, `windows`, `ssh` or `web`; empty where the Workspace has gone before it was looked at.
    pub workspace_type: String,
    /// The coarse state.
    pub status: CoarseStatus,
    /// The exact one; `Pending` before the operator has looked.
    pub phase: String,
    /// Why it ended, as one word.
    pub reason: Option<String>,
    /// The same for people; before the end, what it waits for or what ends it.
    pub message: Option<String>,
    /// When the launch was accepted.
    pub started_at: DateTime<Utc>,
    /// When it ended. Null on a session whose status is `disconnected`: it can be resumed until `disconnect_at`.
    pub ended_at: Option<DateTime<Utc>>,
    /// How long it has lasted, as people read it.
    pub duration: String,
    /// The same in seconds.
    pub duration_seconds: i64,
    /// When its user last did something.
    pub last_activity_at: Option<DateTime<Utc>>,
    /// While idle: since when.
    pub idle_since: Option<DateTime<Utc>>,
    /// The nearest deadline, unless something happens before.
    pub disconnect_at: Option<DateTime<Utc>>,
    /// What that deadline is for.
    pub disconnect_reason: Option<String>,
    /// The place in the queue, from 1 on, while it waits for a slot.
    pub queue_position: Option<usize>,
    /// Seen by the gateway, else declared.
    pub ip_address: Option<String>,
    /// The device, seen or else declared.
    pub device: Option<String>,
    /// Where the client is.
    pub location: Option<LocationView>,
    /// What was observed of the tunnel.
    pub tunnel_status: TunnelStatus,
    /// The same with its kind.
    pub tunnel: TunnelView,
    /// True only on evidence.
    pub mfa_verified: bool,
    /// What is known of the second factor.
    pub mfa: MfaView,
    /// Null: what no proxy carries, nobody counts.
    pub connections: Option<Vec<String>>,
    /// Null: nothing is recorded.
    pub recording: Option<String>,
    /// What speaks against the session.
    pub risk: Vec<String>,
    /// Where its viewer is, while it can be used.
    pub stream_url: Option<String>,
}

/// The coarse state of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CoarseStatus {
    /// From Pending to Idle.
    Active,
    /// Ended by its user or by idleness, or resumable.
    Disconnected,
    /// Ended by somebody else, by a rule, or failed.
    Terminated,
}

/// What was observed of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TunnelStatus {
    /// There is one, and it is encrypted.
    Encrypted,
    /// There is none.
    Disconnected,
    /// Nobody has looked.
    Unknown,
}

/// A tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TunnelView {
    /// What was observed of it.
    pub state: TunnelStatus,
    /// Of what kind it is.
    pub kind: Option<String>,
    /// The last handshake.
    pub last_handshake_at: Option<DateTime<Utc>>,
}

/// A second factor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct MfaView {
    /// Whether the policy asks for it.
    pub required: bool,
    /// `True`, `False` or `Unknown`.
    pub verified: String,
    /// By what method.
    pub method: Option<String>,
    /// When.
    pub verified_at: Option<DateTime<Utc>>,
}

/// A place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LocationView {
    /// As people write it: `Mexico City, MX`.
    pub place: String,
    /// How it is known.
    pub source: String,
}

/// The coarse state: `phase` and whether the session has ended.
pub fn coarse(phase: Phase) -> CoarseStatus {
    match phase {
        Phase::Pending | Phase::Starting | Phase::Active | Phase::Idle => CoarseStatus::Active,
        Phase::Disconnected => CoarseStatus::Disconnected,
        Phase::Terminated | Phase::Failed => CoarseStatus::Terminated,
    }
}

/// When the launch was accepted.
pub fn started(session: &Session) -> Instant {
    let noted = session.status.as_ref().and_then(|status| status.started_at);
    noted.or_else(|| session.metadata.creation_timestamp.as_ref().map(from_wire)).unwrap_or_default()
}

impl SessionView {
    /// The session as it stands at `now`, at this place in the queue.
    pub fn of(session: &Session, queue_position: Option<usize>, now: Instant) -> Self {
        let status = session.status.clone().unwrap_or_default();
        let phase = status.phase.unwrap_or(Phase::Pending);
        let id = session.uid().unwrap_or_default();
        let started_at = started(session);
        let lasted = (status.ended_at.unwrap_or(now) - started_at).max(TimeDelta::zero());
        let declared = session.spec.client.as_ref();
        let seen = status.client.as_ref();
        let text = |seen: Option<String>, declared: Option<String>| seen.or(declared);
        let ended = status.ended_at.is_some();
        let tunnel = if ended { TunnelStatus::Disconnected } else { TunnelStatus::Unknown };
        let used = status.activity.as_ref().and_then(|activity| activity.last_at).max(session.spec.keep_alive_at);
        let usable = !ended && matches!(phase, Phase::Active | Phase::Idle);
        Self {
            name: session.name_any(),
            organization: session.namespace().unwrap_or_default(),
            user_id: session.spec.user.id.to_string(),
            user_email: session.spec.user.email.as_ref().map(ToString::to_string).unwrap_or_default(),
            workspace_id: session.spec.workspace_ref.name.to_string(),
            workspace_name: status
                .workspace
                .as_ref()
                .map_or_else(|| session.spec.workspace_ref.name.to_string(), |it| it.display_name.clone()),
            workspace_type: status.workspace.as_ref().map(|it| it.type_.clone()).unwrap_or_default(),
            status: coarse(phase),
            phase: phase.as_str().to_owned(),
            reason: status.reason.map(|reason| reason.as_str().to_owned()),
            message: status.message.clone(),
            started_at,
            ended_at: status.ended_at,
            duration: length(lasted),
            duration_seconds: lasted.num_seconds(),
            // A keepalive of the future counts when it has come.
            last_activity_at: used.map(|at| at.min(now)).max(status.ready_at),
            idle_since: status.idle_since,
            disconnect_at: status.disconnect_at,
            disconnect_reason: status.disconnect_reason.map(|reason| reason.as_str().to_owned()),
            queue_position: queue_position.filter(|_| !ended),
            ip_address: text(
                seen.and_then(|client| client.ip_address.as_ref()).map(ToString::to_string),
                declared.and_then(|client| client.ip_address.as_ref()).map(ToString::to_string),
            ),
            device: text(
                seen.and_then(|client| client.device.as_ref()).map(ToString::to_string),
                declared.and_then(|client| client.device.as_ref()).map(ToString::to_string),
            ),
            location: seen.and_then(|client| client.location.as_ref()).and_then(place),
            tunnel_status: tunnel,
            tunnel: TunnelView { state: tunnel, kind: None, last_handshake_at: None },
            mfa_verified: false,
            mfa: MfaView { required: false, verified: "Unknown".to_owned(), method: None, verified_at: None },
            connections: None,
            recording: None,
            risk: Vec::new(),
            stream_url: usable.then(|| format!("/viewer/{id}")),
            id,
        }
    }
}

fn place(location: &Location) -> Option<LocationView> {
    let parts = [&location.city, &location.country].into_iter().flatten().map(ToString::to_string);
    let place = parts.collect::<Vec<_>>().join(", ");
    let source = match location.source {
        LocationSource::GeoIP => "GeoIP",
        LocationSource::CIDR => "CIDR",
        LocationSource::Device => "Device",
        LocationSource::Profile => "Profile",
        LocationSource::Tunnel => "Tunnel",
    };
    (!place.is_empty()).then(|| LocationView { place, source: source.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn now() -> Instant {
        DateTime::from_timestamp(1_800_003_900, 0).unwrap()
    }

    fn view(status: Value) -> Value {
        let object = json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "Session",
            "metadata": { "name": "mine", "namespace": "demo", "uid": "u", "creationTimestamp": "2027-01-15T08:00:00Z" },
            "spec": { "workspaceRef": { "name": "box" }, "user": { "id": "ana" }, "client": { "ipAddress": "192.0.2.7" } },
            "status": status,
        });
        let session: Session = serde_json::from_value(object).unwrap();
        serde_json::to_value(SessionView::of(&session, Some(2), now())).unwrap()
    }

    #[test]
    fn nothing_is_claimed_that_nobody_has_observed() {
        let shown = view(json!({ "phase": "Active", "readyAt": "2027-01-15T08:00:10Z" }));
        for (field, value) in [
            ("tunnel_status", json!("unknown")),
            ("mfa_verified", json!(false)),
            ("connections", Value::Null),
            ("recording", Value::Null),
            ("location", Value::Null),
            ("device", Value::Null),
            ("user_email", json!("")),
            ("ended_at", Value::Null),
        ] {
            assert_eq!(shown[field], value, "{field}");
        }
        assert_eq!(shown["mfa"]["verified"], "Unknown");
        assert_eq!(shown["ip_address"], "192.0.2.7", "declared, where nobody saw one");
        let seen = view(json!({ "client": { "ipAddress": "198.51.100.1",
            "location": { "city": "Mexico City", "country": "MX", "source": "GeoIP" } } }));
        assert_eq!(seen["ip_address"], "198.51.100.1");
        assert_eq!(seen["location"], json!({ "place": "Mexico City, MX", "source": "GeoIP" }));
    }

    #[test]
    fn each_phase_has_its_coarse_state() {
        for (status, coarse) in [
            (json!({}), "active"),
            (json!({ "phase": "Pending" }), "active"),
            (json!({ "phase": "Starting" }), "active"),
            (json!({ "phase": "Idle" }), "active"),
            (json!({ "phase": "Disconnected" }), "disconnected"),
            (json!({ "phase": "Disconnected", "endedAt": "2027-01-15T08:30:00Z" }), "disconnected"),
            (json!({ "phase": "Terminated", "endedAt": "2027-01-15T08:30:00Z" }), "terminated"),
            (json!({ "phase": "Failed", "endedAt": "2027-01-15T08:30:00Z" }), "terminated"),
        ] {
            assert_eq!(view(status.clone())["status"], coarse, "{status}");
        }
    }

    #[test]
    fn times_can_be_read_by_pythons_datetime_and_durations_by_people() {
        let shown = view(json!({ "phase": "Active", "readyAt": "2027-01-15T08:00:10Z" }));
        assert_eq!(shown["started_at"], "2027-01-15T08:00:00Z");
        assert_eq!((&shown["duration"], &shown["duration_seconds"]), (&json!("1h 05m"), &json!(3900)));
        assert_eq!(shown["last_activity_at"], "2027-01-15T08:00:10Z");
        let ended =
            view(json!({ "phase": "Disconnected", "endedAt": "2027-01-15T08:32:00Z", "reason": "IdleTimeout" }));
        assert_eq!((&ended["duration"], &ended["reason"]), (&json!("32m"), &json!("IdleTimeout")));
        assert_eq!((&ended["tunnel_status"], &ended["stream_url"]), (&json!("disconnected"), &Value::Null));
        assert_eq!(ended["queue_position"], Value::Null);
    }
}
