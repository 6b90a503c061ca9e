//! The pool of a Workspace: how many instances wait for sessions, and how many are seen to. Owns the shape; how many are
//! wanted when is `plan::schedule`'s.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::text::{Cron, TimeZone};

/// The most pods that one pool may have.
pub const MAX_REPLICAS: i32 = 1000;

/// How many instances are kept ready, so that a launch need not wait for one. The greatest number that any of the three asks for
/// counts; never more than `maxSessions`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Warm {
    /// As many at all times. `kubectl scale` and autoscalers write it.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self >= 0 && self <= 1000").message("write from 0 to 1000; 0 keeps none beside what schedule and demand ask for"))]
    pub replicas: i32,
    /// As many at certain hours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub schedule: Vec<Window>,
    /// As many as were launched lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demand: Option<Demand>,
}

/// Hours in which a number of instances is kept ready: from each time that `start` names until the next that `end` names.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// When it begins, in the five fields of cron, as `30 7 * * 1-5`.
    pub start: Cron,
    /// When it is over.
    pub end: Cron,
    /// The time zone of both, by its IANA name, as `Europe/Warsaw`.
    #[serde(default = "utc")]
    pub time_zone: TimeZone,
    /// How many are ready between the two.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 1000").message("write from 1 to 1000"))]
    pub replicas: i32,
}

fn utc() -> TimeZone {
    TimeZone::from("UTC")
}

/// As many instances as sessions were launched within `window`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Demand {
    /// How far back launches are counted. Sessions that have been pruned count no more.
    pub window: Duration,
    /// The most that launches ask for, however many there are.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 1000").message("write from 1 to 1000"))]
    pub max: i32,
}

/// What was observed of the pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WarmStatus {
    /// How many instances are ready and wait for a session.
    #[serde(default)]
    pub ready: i32,
    /// How many there are, in whatever state.
    #[serde(default)]
    pub replicas: i32,
    /// How many there are to be now.
    #[serde(default)]
    pub desired: i32,
    /// The instances of the pool as a label selector, for the scale subresource.
    #[serde(default)]
    pub selector: String,
}
