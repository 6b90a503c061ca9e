//! Which nodes are being drained: cordoned, or about to be deleted by their autoscaler. Owns the watch of nodes; that people
//! are told is the planner's. Without the right to watch them, nothing is known of any.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::api::pod::Pod;
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Node;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};

use super::Cluster;
use crate::api::WARM_SLOT_LABEL;
use crate::plan::instance;
use crate::plan::session::Draining;

/// Taints that a node gets before it is deleted: by the cluster autoscaler, and by Karpenter.
const TAINTS: [&str; 2] = ["ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted"];

/// The nodes that are being drained, with why; nothing before they were listed.
#[derive(Clone, Default)]
pub struct Drains(Arc<Mutex<Option<BTreeMap<String, String>>>>);

impl Drains {
    /// Whether the node of this name is being drained.
    pub fn of(&self, node: &str) -> Draining {
        match self.lock().as_ref().map(|drains| drains.get(node)) {
            None => Draining::Unknown,
            Some(None) => Draining::No,
            Some(Some(why)) => Draining::Yes(why.clone()),
        }
    }

    /// The names of all nodes that are known to be drained.
    pub fn all(&self) -> BTreeSet<String> {
        self.lock().iter().flatten().map(|(node, _)| node.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Option<BTreeMap<String, String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches nodes until the process ends.
pub async fn run(cluster: Cluster) {
    let events = watcher(Api::<Node>::all(cluster.client.clone()), watcher::Config::default()).default_backoff();
    pin_mut!(events);
    let mut listed = BTreeMap::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(node)) => listed.extend(why(&node).map(|why| (node.name_any(), why))),
            Ok(Event::InitDone) => take_in(&cluster, |drains| *drains = std::mem::take(&mut listed)),
            Ok(Event::Apply(node)) => take_in(&cluster, |drains| match why(&node) {
                Some(why) => drop(drains.insert(node.name_any(), why)),
                None => drop(drains.remove(&node.name_any())),
            }),
            Ok(Event::Delete(node)) => take_in(&cluster, |drains| drop(drains.remove(&node.name_any()))),
            Err(error) => tracing::debug!(%error, "nodes not watched: drains are not noticed"),
        }
    }
}

/// Changes what is known, and has the sessions looked at that are on a node of which it is news.
fn take_in(cluster: &Cluster, change: impl FnOnce(&mut BTreeMap<String, String>)) {
    let (before, after) = {
        let mut drains = cluster.drains.lock();
        let before = drains.clone();
        change(drains.get_or_insert_default());
        (before, drains.clone())
    };
    if before == after {
        return;
    }
    let said =
        |drains: &Option<BTreeMap<String, String>>, node: &str| drains.as_ref().map(|drains| drains.get(node).cloned());
    let is_news = |node: &str| said(&before, node) != said(&after, node);
    for session in cluster.stores.sessions.reader().state() {
        let instance = session.status.as_ref().and_then(|status| status.instance.as_ref());
        if instance.and_then(|instance| instance.node.as_deref()).is_some_and(is_news) {
            cluster.queues.session_named(&session.namespace().unwrap_or_default(), &session.name_any());
        }
    }
    // A pool leaves such a node.
    let of_pool = |pod: &Pod| {
        let node = instance::node(pod);
        pod.labels().contains_key(WARM_SLOT_LABEL) && node.is_some_and(is_news)
    };
    for pod in cluster.stores.pods.reader().state_filter(of_pool) {
        cluster.queues.pool_of(&pod);
    }
}

/// Why a node is being drained, if it is.
fn why(node: &Node) -> Option<String> {
    let spec = node.spec.as_ref()?;
    let taint = spec.taints.iter().flatten().find(|taint| TAINTS.contains(&taint.key.as_str()));
    match (taint, spec.unschedulable) {
        (Some(taint), _) => Some(format!("its autoscaler is about to delete it ({})", taint.key)),
        (None, Some(true)) => Some("it was cordoned".to_owned()),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_drained_from_when_it_takes_no_more_pods() {
        for (spec, expected) in [
            (json!({}), None),
            (json!({ "unschedulable": true }), Some("cordoned")),
            (json!({ "taints": [{ "key": "dedicated", "effect": "NoSchedule" }] }), None),
            (json!({ "taints": [{ "key": "karpenter.sh/disrupted", "effect": "NoSchedule" }] }), Some("autoscaler")),
        ] {
            let node: Node = serde_json::from_value(json!({ "metadata": { "name": "n" }, "spec": spec })).unwrap();
            let said = why(&node);
            assert_eq!(said.is_some(), expected.is_some(), "{spec}");
            assert!(said.unwrap_or_default().contains(expected.unwrap_or_default()), "{spec}");
        }
    }
}
