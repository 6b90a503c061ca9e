//! The loop of NetworkPolicies: one look at one of them, whose Workspace may be gone. What is decided is `plan`'s, what is
//! written `apply`'s.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::sleep_until;
use crate::cluster::error::CallError;
use crate::cluster::{Cluster, apply, observe};
use crate::plan::network::leftover::{World, decide};

/// Looks at one policy and does what its plan says.
pub(super) async fn reconcile(policy: Arc<NetworkPolicy>, cluster: Arc<Cluster>) -> Result<Action, CallError> {
    let (namespace, name) = (policy.namespace().unwrap_or_default(), policy.name_any());
    // Once it is, everything there is looked at.
    if !cluster.health.is_listed(&namespace) {
        return Ok(Action::await_change());
    }
    let Some(policy) = cluster.stores.network_policies.get(&namespace, &name) else {
        cluster.memory.forget_other(&policy.uid().unwrap_or_default());
        return Ok(Action::await_change());
    };
    let needed = observe::needed(&cluster, &policy).await?;
    let plan = decide(&World { policy: Arc::clone(&policy), needed });
    for step in plan.steps {
        apply::workspace::network_policy_step(&cluster, &namespace, step).await?;
    }
    cluster.memory.forget_other(&policy.uid().unwrap_or_default());
    Ok(sleep_until(plan.wake, cluster.clock.now()))
}
