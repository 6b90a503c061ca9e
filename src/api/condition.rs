//! Conditions: their types, and the one function that puts a set of them into a status. It owns order and
//! transition times; not when a condition is true.
//!
//! `Admitted` and `Ready` say how far a live session has come and are always there; `ActivityKnown` is where its policy asks
//! a gateway for its activity. All others are written only while they are true, as kstatus wants it of `Reconciling` and
//! `Stalled`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::time::{Instant, own_time};

/// The condition is met when this observation of the object is true.
///
/// Fields and meaning are those of `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is observed.
    #[serde(rename = "type")]
    pub type_: Type,
    /// Whether it holds; Unknown where nothing was observed yet.
    pub status: Status,
    /// One word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// When the status last changed.
    #[schemars(schema_with = "own_time")]
    pub last_transition_time: Instant,
    /// The generation of the spec that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Status {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nothing was observed.
    Unknown,
}

/// The types of conditions, in the order in which a status lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Type {
    /// Session: it was given a slot. Its transition to True is when the instance's start began.
    Admitted,
    /// Session: it can be used. Workspace: it can be launched.
    Ready,
    /// kstatus: work is under way.
    Reconciling,
    /// kstatus: it failed, and somebody must act.
    Stalled,
    /// Session: it has ended.
    Ended,
    /// Session: by the mode `gateway`, whether somebody knows of its activity.
    ActivityKnown,
    /// Session: it ends soon; the message says when and how to stay.
    EndingSoon,
    /// Session: it has lasted longer than the policy's `alertAfter`.
    LongRunning,
    /// Session: its policy is gone, and the last values hold.
    PolicyMissing,
    /// Session: its Workspace is gone since the transition; the session ends after its notice.
    WorkspaceMissing,
    /// Session: the node of its instance is being drained since the transition.
    NodeDraining,
    /// Session: two clocks disagree by more than five seconds.
    ClockSkew,
    /// Workspace: the API server would accept what the template makes.
    TemplateValid,
    /// Workspace: the NetworkPolicy of its instances stands. Whether the cluster enforces it, nobody says.
    NetworkPolicyApplied,
    /// Workspace: its instances are not protected from evictions as it says.
    Unprotected,
    /// Workspace: as many instances wait in its pool as are wanted.
    WarmPoolFilled,
}

impl Type {
    /// The type as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "Admitted",
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Ended => "Ended",
            Self::ActivityKnown => "ActivityKnown",
            Self::EndingSoon => "EndingSoon",
            Self::LongRunning => "LongRunning",
            Self::PolicyMissing => "PolicyMissing",
            Self::WorkspaceMissing => "WorkspaceMissing",
            Self::NodeDraining => "NodeDraining",
            Self::ClockSkew => "ClockSkew",
            Self::TemplateValid => "TemplateValid",
            Self::NetworkPolicyApplied => "NetworkPolicyApplied",
            Self::Unprotected => "Unprotected",
            Self::WarmPoolFilled => "WarmPoolFilled",
        }
    }
}

/// A condition as a planner states it: everything but times and generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What is observed.
    pub type_: Type,
    /// Whether it holds.
    pub status: Status,
    /// One word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

impl Claim {
    /// A condition with its status and why.
    pub fn new(type_: Type, status: Status, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { type_, status, reason: reason.into(), message: message.into() }
    }

    /// A condition that holds.
    pub fn holds(type_: Type, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(type_, Status::True, reason, message)
    }
}

/// The conditions that `claims` state at `now`, in fixed order. A transition time moves only where the status
/// differs from that in `before`; types that are not claimed are left out.
pub fn merge(before: &[Condition], claims: Vec<Claim>, generation: Option<i64>, now: Instant) -> Vec<Condition> {
    let mut merged: Vec<Condition> = claims
        .into_iter()
        .map(|claim| {
            let unchanged = find(before, claim.type_).filter(|old| old.status == claim.status);
            Condition {
                type_: claim.type_,
                status: claim.status,
                reason: claim.reason,
                message: claim.message,
                last_transition_time: unchanged.map_or(now, |old| old.last_transition_time),
                observed_generation: generation,
            }
        })
        .collect();
    merged.sort_by_key(|condition| condition.type_);
    merged
}

/// The condition of this type, if it is there.
pub fn find(conditions: &[Condition], type_: Type) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of this type is there and True.
pub fn is_true(conditions: &[Condition], type_: Type) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == Status::True)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, TimeDelta};

    fn claims(status: Status) -> Vec<Claim> {
        vec![Claim::new(Type::Ready, status, "Because", "so"), Claim::holds(Type::Admitted, "SlotGranted", "")]
    }

    #[test]
    fn a_transition_time_moves_only_with_the_status() {
        let start = DateTime::from_timestamp(100, 0).unwrap_or_default();
        let later = start + TimeDelta::seconds(60);
        let first = merge(&[], claims(Status::False), Some(1), start);
        assert_eq!(first[0].type_, Type::Admitted, "the order is that of the type");
        let same = merge(&first, claims(Status::False), Some(1), later);
        assert_eq!(same, first);
        let changed = merge(&first, claims(Status::True), Some(1), later);
        assert_eq!(changed[0].last_transition_time, start);
        assert_eq!(changed[1].last_transition_time, later);
    }
}
