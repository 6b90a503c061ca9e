//! When the NetworkPolicy of a Workspace goes: after the Workspace, and after the last pod that it covers.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;

use crate::plan::Plan;

/// What was observed of a policy and of what it is for.
#[derive(Clone, Debug)]
pub struct World {
    /// The policy.
    pub policy: Arc<NetworkPolicy>,
    /// What still needs it.
    pub needed: Option<Need>,
}

/// What needs a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It cannot be told: it is not known by its marks, and may be anybody's.
    Unknown,
    /// Its Workspace stands.
    Workspace,
    /// A session of that Workspace lives, and may get a pod.
    Session,
    /// A pod of that Workspace stands.
    Pod,
}

/// One thing to do about a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Delete the policy, if it still has this uid.
    Delete {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
}

/// What to do about the policy in `world`. Nothing is due with time: the end of what needs it is an event.
pub fn decide(world: &World) -> Plan<Step> {
    let policy = &world.policy;
    let stays = world.needed.is_some() || policy.metadata.deletion_timestamp.is_some();
    let delete = || Step::Delete { name: policy.name_any(), uid: policy.uid().unwrap_or_default() };
    Plan { steps: if stays { Vec::new() } else { vec![delete()] }, notes: Vec::new(), wake: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_policy_goes_once_nothing_needs_it_and_is_asked_to_go_once() {
        let policy = |meta: serde_json::Value| Arc::new(serde_json::from_value(json!({ "metadata": meta })).unwrap());
        let stands = policy(json!({ "name": "p", "uid": "u" }));
        let decided = |policy: &Arc<NetworkPolicy>, needed| decide(&World { policy: Arc::clone(policy), needed }).steps;
        for need in [Need::Unknown, Need::Workspace, Need::Session, Need::Pod] {
            assert_eq!(decided(&stands, Some(need)), vec![]);
        }
        assert_eq!(decided(&stands, None), vec![Step::Delete { name: "p".to_owned(), uid: "u".to_owned() }]);
        let going = policy(json!({ "name": "p", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z" }));
        assert_eq!(decided(&going, None), vec![]);
    }
}
