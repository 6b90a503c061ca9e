//! Why a session ended, or will: the closed list that status, events and the REST API share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a session ended, or what will end it at its nearest deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Reason {
    /// Its user ended it.
    UserDisconnected,
    /// No input for the policy's `idle.disconnectAfter`, or for the shorter time that the user asked for.
    IdleTimeout,
    /// Every connection was lost and none came back in time.
    NetworkLost,
    /// The workspace was stopped.
    WorkspaceStopped,
    /// An administrator ended it.
    AdministratorEnded,
    /// It lasted as long as the policy's `maxDuration`.
    MaxDuration,
    /// It broke a rule of its policy.
    PolicyViolation,
    /// No slot or limit was free, and the session did not want to wait.
    LimitExceeded,
    /// It waited in the queue for the policy's `queueTimeout`.
    QueueTimeout,
    /// The credential that it was opened with expired.
    CredentialExpired,
    /// Its proof of a second factor expired.
    MfaExpired,
    /// It had to be recorded and could not be.
    RecordingFailed,
    /// Its instance was deleted, evicted or broke beyond repair.
    InstanceLost,
    /// Its instance was not usable within the policy's `startTimeout`.
    StartTimeout,
    /// The Session itself was deleted.
    SessionDeleted,
    /// Its Workspace was deleted.
    WorkspaceDeleted,
    /// The API server refused what the Workspace's template makes.
    InvalidSpec,
    /// The policy requires what this installation cannot give.
    CapabilityMissing,
    /// Its user said that it was not theirs.
    ReportedByUser,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 19] = [
        Self::UserDisconnected,
        Self::IdleTimeout,
        Self::NetworkLost,
        Self::WorkspaceStopped,
        Self::AdministratorEnded,
        Self::MaxDuration,
        Self::PolicyViolation,
        Self::LimitExceeded,
        Self::QueueTimeout,
        Self::CredentialExpired,
        Self::MfaExpired,
        Self::RecordingFailed,
        Self::InstanceLost,
        Self::StartTimeout,
        Self::SessionDeleted,
        Self::WorkspaceDeleted,
        Self::InvalidSpec,
        Self::CapabilityMissing,
        Self::ReportedByUser,
    ];

    /// The reason as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UserDisconnected => "UserDisconnected",
            Self::IdleTimeout => "IdleTimeout",
            Self::NetworkLost => "NetworkLost",
            Self::WorkspaceStopped => "WorkspaceStopped",
            Self::AdministratorEnded => "AdministratorEnded",
            Self::MaxDuration => "MaxDuration",
            Self::PolicyViolation => "PolicyViolation",
            Self::LimitExceeded => "LimitExceeded",
            Self::QueueTimeout => "QueueTimeout",
            Self::CredentialExpired => "CredentialExpired",
            Self::MfaExpired => "MfaExpired",
            Self::RecordingFailed => "RecordingFailed",
            Self::InstanceLost => "InstanceLost",
            Self::StartTimeout => "StartTimeout",
            Self::SessionDeleted => "SessionDeleted",
            Self::WorkspaceDeleted => "WorkspaceDeleted",
            Self::InvalidSpec => "InvalidSpec",
            Self::CapabilityMissing => "CapabilityMissing",
            Self::ReportedByUser => "ReportedByUser",
        }
    }
}
