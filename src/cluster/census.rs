//! How many there are, as the caches know it: for the metrics, when somebody asks. Owns what is counted; not how it is
//! written out.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use kube::ResourceExt;

use super::Cluster;
use crate::api::time::from_wire;

/// How long a Session may take to go before it counts as stuck.
const STUCK_AFTER: TimeDelta = TimeDelta::minutes(5);

/// The counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Sessions by namespace and phase, ended ones that are kept included.
    pub sessions: BTreeMap<(String, &'static str), i64>,
    /// Workspaces by namespace and phase.
    pub workspaces: BTreeMap<(String, &'static str), i64>,
    /// Objects that cannot be read, by kind.
    pub unreadable: BTreeMap<&'static str, i64>,
    /// Sessions that are being deleted for longer than [`STUCK_AFTER`].
    pub stuck: i64,
}

/// Counts what the caches know. A Session that nobody has looked at yet waits; of a Workspace nothing is claimed then.
pub fn take(cluster: &Cluster) -> Census {
    let stores = &cluster.stores;
    let mut census = Census::default();
    let now = cluster.clock.now();
    for session in stores.sessions.reader().state() {
        let phase = session.status.as_ref().and_then(|status| status.phase).map_or("Pending", |phase| phase.as_str());
        *census.sessions.entry((session.namespace().unwrap_or_default(), phase)).or_default() += 1;
        let going = session.metadata.deletion_timestamp.as_ref().map(from_wire);
        census.stuck += i64::from(going.is_some_and(|since| now - since > STUCK_AFTER));
    }
    for workspace in stores.workspaces.reader().state() {
        let Some(phase) = workspace.status.as_ref().and_then(|status| status.phase) else { continue };
        let phase = phase.as_str();
        *census.workspaces.entry((workspace.namespace().unwrap_or_default(), phase)).or_default() += 1;
    }
    census.unreadable = BTreeMap::from([
        ("Session", stores.sessions.unreadable_count()),
        ("Workspace", stores.workspaces.unreadable_count()),
        ("SessionPolicy", stores.policies.unreadable_count()),
        ("Pod", stores.pods.unreadable_count()),
        ("NetworkPolicy", stores.network_policies.unreadable_count()),
        ("PodDisruptionBudget", stores.budgets.unreadable_count()),
    ]);
    census
}
