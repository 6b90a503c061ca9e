//! Session: one person's use of one workspace, from launch to end. Owns its shape and the rules that make the
//! end sticky at the API server; `plan::phase` has the same rules in code.

use chrono::{DateTime, Utc};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::duration::Duration;
use super::policy::ActivitySource;
use super::reason::Reason;
use super::text::{Email, Line, Paragraph, UserId};
use super::time::{own_time_or_none, written_time};
use super::workspace::ObjectRef;

/// One person's use of one workspace.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "berth.dev",
    version = "v1alpha1",
    kind = "Session",
    plural = "sessions",
    shortname = "sess",
    category = "berth",
    namespaced,
    status = "SessionStatus",
    derive = "PartialEq",
    doc = "One person's use of one workspace, from launch to end. Ended sessions stay as history.",
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.endedAt) || (has(self.status) && has(self.status.endedAt) && self.status.endedAt == oldSelf.status.endedAt)")
        .message("status.endedAt is written once: this session has ended; create a new Session to launch again"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.endedAt) || (has(self.status) && has(self.status.phase) && self.status.phase == oldSelf.status.phase && has(self.status.reason) == has(oldSelf.status.reason) && (!has(self.status.reason) || self.status.reason == oldSelf.status.reason) && has(self.status.duration) == has(oldSelf.status.duration) && (!has(self.status.duration) || self.status.duration == oldSelf.status.duration))")
        .message("status.phase, status.reason and status.duration of an ended session do not change: create a new Session to launch again"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.endedAt) || self.spec == oldSelf.spec")
        .message("this session has ended and its spec does not change any more: create a new Session to launch again"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.endRequest) || (has(self.status) && has(self.status.endRequest) && self.status.endRequest == oldSelf.status.endRequest)")
        .message("status.endRequest is written once: the session is ending already"),
    validation = Rule::new("!has(self.status) || !has(self.status.endedAt) || (has(self.status.phase) && self.status.phase in ['Disconnected', 'Terminated', 'Failed'])")
        .message("status.endedAt goes with one of the ended phases Disconnected, Terminated and Failed"),
    validation = Rule::new("!has(self.status) || !has(self.status.phase) || !(self.status.phase in ['Disconnected', 'Terminated', 'Failed']) || has(self.status.endedAt)")
        .message("status.phase Disconnected, Terminated and Failed go with status.endedAt: to end a session write spec.desiredState"),
    printcolumn(name = "User", type_ = "string", json_path = ".spec.user.id"),
    printcolumn(name = "Workspace", type_ = "string", json_path = ".spec.workspaceRef.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Since", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Until", type_ = "string", json_path = ".status.disconnectAt"),
    printcolumn(name = "Ended", type_ = "date", json_path = ".status.endedAt"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", priority = 1),
    printcolumn(name = "Duration", type_ = "string", json_path = ".status.duration", priority = 1),
    printcolumn(name = "Last-Activity", type_ = "date", json_path = ".status.activity.lastAt", priority = 1),
    printcolumn(name = "IP", type_ = "string", json_path = ".status.client.ipAddress", priority = 1),
    printcolumn(name = "Device", type_ = "string", json_path = ".status.client.device", priority = 1),
    printcolumn(name = "Pod", type_ = "string", json_path = ".status.instance.pod", priority = 1),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.instance.node", priority = 1),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    selectable = ".spec.user.id",
    selectable = ".spec.workspaceRef.name",
    selectable = ".status.phase",
    selectable = ".status.endedAt"
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.workspaceRef == oldSelf.workspaceRef")
        .message("spec.workspaceRef cannot be changed: end this session and create one for the other workspace"),
    validation = Rule::new("self.user == oldSelf.user")
        .message("spec.user cannot be changed: a session is one person's; create another Session"),
    validation = Rule::new("has(self.client) == has(oldSelf.client) && (!has(self.client) || self.client == oldSelf.client)")
        .message("spec.client is declared at launch and cannot be changed"),
    validation = Rule::new("self.whenFull == oldSelf.whenFull")
        .message("spec.whenFull is chosen at launch and cannot be changed"),
    validation = Rule::new("has(self.idle) == has(oldSelf.idle) && (!has(self.idle) || self.idle == oldSelf.idle)")
        .message("spec.idle is chosen at launch and cannot be changed; set spec.keepAliveAt to stay"),
    validation = Rule::new("oldSelf.desiredState == 'Connected' || self.desiredState == oldSelf.desiredState || (oldSelf.desiredState == 'Disconnected' && self.desiredState == 'Terminated')")
        .message("spec.desiredState moves only from Connected to Disconnected to Terminated: create a new Session to launch again"),
    validation = Rule::new("!has(oldSelf.keepAliveAt) || (has(self.keepAliveAt) && timestamp(self.keepAliveAt) >= timestamp(oldSelf.keepAliveAt))")
        .message("spec.keepAliveAt moves only forward: write the time of now, such as 2026-01-31T12:00:00Z"),
)]
pub struct SessionSpec {
    /// The Workspace that is launched.
    pub workspace_ref: ObjectRef,
    /// Whose session it is.
    pub user: User,
    /// The client as it describes itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<DeclaredClient>,
    /// What to do when no slot is free.
    #[serde(default)]
    pub when_full: WhenFull,
    /// The user's own wish about idleness, bounded by the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<IdleWish>,
    /// What the session should be. It moves only towards the end.
    #[serde(default)]
    pub desired_state: DesiredState,
    /// "I am still here": counts as activity at this time, where the policy allows it. It moves only forward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "written_time")]
    pub keep_alive_at: Option<DateTime<Utc>>,
}

/// Whose session it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The Kubernetes username.
    pub id: UserId,
    /// Unverified when it comes from kubectl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
    /// Unverified when it comes from kubectl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<Line>,
}

/// The client as it describes itself; nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeclaredClient {
    /// The device, as its owner calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Line>,
    /// The program, as it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Paragraph>,
    /// The address that it believes to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<Line>,
}

/// What a session does when no slot is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WhenFull {
    /// It waits in Pending.
    #[default]
    Queue,
    /// It ends as Failed.
    Fail,
}

/// The user's own wish about idleness.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdleWish {
    /// Disconnect after this long without input; the policy's `idle.userMax` bounds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnect_after: Option<Duration>,
}

/// What the session should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum DesiredState {
    /// Launched and kept.
    #[default]
    Connected,
    /// Ended by its user.
    Disconnected,
    /// Ended by an administrator.
    Terminated,
}

/// What was observed of a session. `activity`, `client` and `endRequest` are written by the observer of its
/// connections; all else by the operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionStatus {
    /// Where in its life the session is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same for people; before the end, what it waits for or what ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the launch was accepted: the creation of the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "own_time_or_none")]
    pub started_at: Option<DateTime<Utc>>,
    /// When it became usable; this counts as its first activity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "own_time_or_none")]
    pub ready_at: Option<DateTime<Utc>>,
    /// While Idle: the time of the last activity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "own_time_or_none")]
    pub idle_since: Option<DateTime<Utc>>,
    /// The nearest deadline, unless something happens before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "own_time_or_none")]
    pub disconnect_at: Option<DateTime<Utc>>,
    /// What the nearest deadline is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnect_reason: Option<Reason>,
    /// When it ended; while this is absent the session is live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "own_time_or_none")]
    pub ended_at: Option<DateTime<Utc>>,
    /// How long it lasted, written once, at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub duration: Option<String>,
    /// What the Workspace was called when the session began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceSummary>,
    /// The rules in force for this session. They outlive the policy that they came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyInForce>,
    /// What was provisioned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
    /// Where the instance listens, within the cluster's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The last activity that was observed; written by the observer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<Activity>,
    /// The client as it was observed; written by the observer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ObservedClient>,
    /// Who asked for the end, and why; written once, by the observer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_request: Option<EndRequest>,
    /// Admitted and Ready; the others while they hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Where in its life a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Waiting for a slot, a limit or the policy.
    Pending,
    /// The instance is being made.
    Starting,
    /// Usable, and used.
    Active,
    /// Usable, without input for a while.
    Idle,
    /// Ended by its user or by idleness.
    Disconnected,
    /// Ended by somebody else, by a rule or by deletion.
    Terminated,
    /// Never became usable, or broke beyond repair.
    Failed,
}

impl Phase {
    /// The phase as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Starting => "Starting",
            Self::Active => "Active",
            Self::Idle => "Idle",
            Self::Disconnected => "Disconnected",
            Self::Terminated => "Terminated",
            Self::Failed => "Failed",
        }
    }
}

/// What the Workspace was called when the session began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceSummary {
    /// Its uid: a Workspace that is created anew under the same name is another one.
    pub uid: String,
    /// Its display name, or its name.
    pub display_name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub type_: String,
}

/// The rules in force for a session, every value spelled out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyInForce {
    /// The SessionPolicy that they come from; absent for the built-in values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `idle.after`.
    pub idle_after: Duration,
    /// `idle.warnAfter`.
    pub warn_after: Duration,
    /// `idle.disconnectAfter`, or the user's own wish within `idle.userMax`.
    pub disconnect_after: Duration,
    /// `idle.allowKeepAlive`.
    pub allow_keep_alive: bool,
    /// `activity.source`; absent for `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity_source: Option<ActivitySource>,
    /// `maxDuration`.
    pub max_duration: Duration,
    /// `warnBefore`.
    pub warn_before: Duration,
    /// `startTimeout`.
    pub start_timeout: Duration,
    /// `queueTimeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_timeout: Option<Duration>,
    /// `alertAfter`.
    pub alert_after: Duration,
    /// `history.keepFor`.
    pub keep_for: Duration,
    /// After an edit of the policy: the session is not disconnected for idleness before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "own_time_or_none")]
    pub idle_not_before: Option<DateTime<Utc>>,
    /// After an edit of the policy: the session does not reach its maximum duration before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "own_time_or_none")]
    pub max_duration_not_before: Option<DateTime<Utc>>,
    /// When the session ends because its node is being drained, once that was announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "own_time_or_none")]
    pub drain_ends_at: Option<DateTime<Utc>>,
    /// When the session ends because its user has launched more than the policy lets them have, once that was announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "own_time_or_none")]
    pub displaced_at: Option<DateTime<Utc>>,
}

/// What was provisioned for a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// The pod's name.
    pub pod: String,
    /// The pod's uid.
    pub uid: String,
    /// The pod's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The node that it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// The last activity that was observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// When the user last did something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "written_time")]
    pub last_at: Option<DateTime<Utc>>,
    /// What it was seen by: a protocol's input, a keepalive, a report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Line>,
    /// From when on the observer has watched without a gap; what was before it does not know. Where the policy says
    /// `activity.source: gateway` it counts as activity, and without it nothing that was observed makes a session idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "written_time")]
    pub observed_since: Option<DateTime<Utc>>,
    /// Until when the observer watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "written_time")]
    pub observed_until: Option<DateTime<Utc>>,
    /// Who observed: the name of the observer's Lease in Berth's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer: Option<Line>,
}

/// The client as it was observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObservedClient {
    /// The address that the connection came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<Line>,
    /// The device, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Line>,
    /// Where it is, and how that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

/// Where a client is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// The city.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<Line>,
    /// The country, ISO 3166-1 alpha-2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<Line>,
    /// How the location is known.
    pub source: LocationSource,
}

/// How a location is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LocationSource {
    /// From a database of addresses.
    GeoIP,
    /// From a table of networks.
    CIDR,
    /// The device said so.
    Device,
    /// From the user's profile.
    Profile,
    /// From the tunnel's far end.
    Tunnel,
}

/// Who asked for the end, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndRequest {
    /// The phase to end in.
    #[serde(rename = "as")]
    pub as_: EndAs,
    /// Why.
    pub reason: Reason,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Line>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "written_time")]
    pub at: Option<DateTime<Utc>>,
}

/// The phase that an end request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EndAs {
    /// Ended by its user.
    Disconnected,
    /// Ended by somebody else.
    Terminated,
}
