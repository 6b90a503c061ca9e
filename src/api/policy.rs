//! SessionPolicy: the rules that sessions live under. Owns their shape; `plan::policy` knows the defaults,
//! for the schema has none: an unwritten value must be told from a written one to be clamped.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;

/// Rules for the sessions of the Workspaces that name this policy, or, when it is called `default`, of all
/// Workspaces in the namespace that name none.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "berth.dev",
    version = "v1alpha1",
    kind = "SessionPolicy",
    plural = "sessionpolicies",
    shortname = "spol",
    category = "berth",
    namespaced,
    derive = "PartialEq",
    doc = "Rules for sessions: when they are idle, when they end, how long their history is kept.",
    printcolumn(name = "Idle-After", type_ = "string", json_path = ".spec.idle.after"),
    printcolumn(name = "Disconnect-After", type_ = "string", json_path = ".spec.idle.disconnectAfter"),
    printcolumn(name = "Max-Duration", type_ = "string", json_path = ".spec.maxDuration"),
    printcolumn(name = "Keep-For", type_ = "string", json_path = ".spec.history.keepFor"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.warnBefore) || !has(self.maxDuration) || duration(self.warnBefore) < duration(self.maxDuration)")
        .message("spec.warnBefore must be shorter than spec.maxDuration: the warning comes before the end"),
    validation = Rule::new("!has(self.alertAfter) || !has(self.maxDuration) || duration(self.alertAfter) <= duration(self.maxDuration)")
        .message("spec.alertAfter must not be longer than spec.maxDuration: no session lasts that long"),
)]
pub struct SessionPolicySpec {
    /// When a session counts as idle, and what follows. All durations count from the last activity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<IdleRules>,
    /// How long a session may last from the moment it became usable. Unwritten: 8h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<Duration>,
    /// How long before the maximum duration a session is warned; also the notice that live sessions get when
    /// this policy is tightened or their Workspace is deleted. Unwritten: 10m, or less where that does not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn_before: Option<Duration>,
    /// How long the instance may take to become usable, from the moment a slot was given. Unwritten: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timeout: Option<Duration>,
    /// How long a session may wait for a slot. Unwritten: 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_timeout: Option<Duration>,
    /// From when on a session is marked as LongRunning. Unwritten: 4h, or the maximum duration if that is less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert_after: Option<Duration>,
    /// Whose word makes silence idleness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<ActivityRules>,
    /// How many sessions one user may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitRules>,
    /// What is kept of ended sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryRules>,
}

/// Whose word makes silence idleness.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActivityRules {
    /// Who is asked. Unwritten: status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ActivitySource>,
}

/// Whose word makes silence idleness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ActivitySource {
    /// Whoever writes `status.activity` is trusted: a session of which nothing is written is idle.
    #[default]
    Status,
    /// A gateway that lives and has watched. Without one nobody is idle, and the maximum duration alone ends sessions.
    Gateway,
}

/// How many sessions one user may have.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitRules {
    /// How many sessions of one user may hold a slot at once, of all Workspaces of the namespace that have this policy.
    /// Unwritten: as many as there are slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 10000")
        .message("write from 1 to 10000; leave it out for no limit, and set spec.maintenance of a Workspace to launch nothing new"))]
    pub sessions_per_user: Option<i32>,
    /// What becomes of one too many. Unwritten: Reject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_exceeded: Option<OnExceeded>,
}

/// What becomes of a session that is one too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnExceeded {
    /// It waits until another of its user's ends, or fails where it is not to wait.
    #[default]
    Reject,
    /// It waits until an older one of its user's makes way: one that is idle at once, one that is in use after a warning.
    EndOldest,
}

/// When a session counts as idle, and what follows.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.after) || !has(self.warnAfter) || duration(self.after) <= duration(self.warnAfter)")
        .message("idle.after must not be longer than idle.warnAfter: a session is idle before it is warned"),
    validation = Rule::new("!has(self.warnAfter) || !has(self.disconnectAfter) || duration(self.warnAfter) < duration(self.disconnectAfter)")
        .message("idle.warnAfter must be shorter than idle.disconnectAfter: the warning comes before the disconnect"),
    validation = Rule::new("!has(self.after) || !has(self.disconnectAfter) || duration(self.after) < duration(self.disconnectAfter)")
        .message("idle.after must be shorter than idle.disconnectAfter: a session is idle before it is disconnected"),
)]
pub struct IdleRules {
    /// Without input for this long a session is Idle. Unwritten: 5m, or less where that does not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Duration>,
    /// Without input for this long its user is warned. Unwritten: 10m, or less where that does not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn_after: Option<Duration>,
    /// Without input for this long the session is disconnected. Unwritten: 30m, or more where that does not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnect_after: Option<Duration>,
    /// The longest `idle.disconnectAfter` that a user may ask for in a Session. Unwritten: 30m, or
    /// `disconnectAfter` if that is longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_max: Option<Duration>,
    /// Whether `spec.keepAliveAt` of a Session counts as activity. Unwritten: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_keep_alive: Option<bool>,
}

/// What is kept of ended sessions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryRules {
    /// How long an ended Session stays as a resource. Unwritten: 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_for: Option<Duration>,
}
