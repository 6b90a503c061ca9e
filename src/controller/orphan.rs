//! The loop of instances without an owner: one look at one of them. What is decided is `plan`'s, what is written `apply`'s.

use std::sync::Arc;

use crate::api::pod::Pod;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use crate::cluster::error::CallError;
use crate::cluster::{Cluster, apply, observe};
use crate::plan::orphan::decide;

/// Looks at one pod and does what its plan says.
pub(super) async fn reconcile(pod: Arc<Pod>, cluster: Arc<Cluster>) -> Result<Action, CallError> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    // Once it is, everything there is looked at.
    if !cluster.health.is_listed(&namespace) {
        return Ok(Action::await_change());
    }
    let Some(pod) = cluster.stores.pods.get(&namespace, &name) else {
        cluster.memory.forget_other(&pod.uid().unwrap_or_default());
        return Ok(Action::await_change());
    };
    let stands = observe::has_owner(&cluster, &pod).await?;
    for step in decide(&pod, stands).steps {
        apply::orphan_step(&cluster, &namespace, step).await?;
    }
    cluster.memory.forget_other(&pod.uid().unwrap_or_default());
    Ok(Action::await_change())
}
