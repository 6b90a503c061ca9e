//! The loop of pools: one look at that of one Workspace. What is decided is `plan`'s, what is written `apply`'s.

use std::sync::Arc;

use futures::{StreamExt, stream};
use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::sleep_until;
use crate::api::Workspace;
use crate::cluster::error::CallError;
use crate::cluster::memory::BROKEN;
use crate::cluster::{Cluster, apply, observe};
use crate::plan::pool::{Step, decide, standing};

/// How many pods are made at once.
const AT_ONCE: usize = 8;

/// Looks at the pool of one Workspace and does what its plan says.
pub(super) async fn reconcile(workspace: Arc<Workspace>, cluster: Arc<Cluster>) -> Result<Action, CallError> {
    let cluster = cluster.as_ref();
    let (namespace, name) = (workspace.namespace().unwrap_or_default(), workspace.name_any());
    // Once it is, everything there is looked at.
    if !cluster.health.is_listed(&namespace) {
        return Ok(Action::await_change());
    }
    let known = cluster.stores.workspaces.get(&namespace, &name);
    // One that cannot be read any more is left as it is until it can.
    let readable = known.filter(|_| cluster.stores.workspaces.why_unreadable(&namespace, &name).is_none());
    let Some(workspace) = readable else { return Ok(Action::await_change()) };
    let Some(world) = observe::pool(cluster, Arc::clone(&workspace)) else { return Ok(Action::await_change()) };
    let (uid, now) = (workspace.uid().unwrap_or_default(), cluster.clock.now());
    let plan = decide(&world, now);
    if standing(&world, now).lack.is_none() {
        cluster.memory.made_child(&uid, BROKEN);
        cluster.memory.pool_is_full(&uid);
    }
    // What takes the place of a pod that went bad is made later each time.
    let bad = plan.steps.iter().find_map(|step| match step {
        Step::Remove { bad, .. } => bad.clone(),
        Step::EnsureSecret(_) | Step::Make(_) => None,
    });
    let (made, before): (Vec<Step>, Vec<Step>) = plan.steps.into_iter().partition(|step| matches!(step, Step::Make(_)));
    let mut refused = false;
    for step in before {
        refused |= is_refused(apply::pool::step(cluster, &workspace, step).await)?;
    }
    if let Some(why) = bad {
        cluster.memory.failed_at_child(&uid, BROKEN, workspace.metadata.generation, why, now);
    }
    let made = made.into_iter().filter(|_| !refused).map(|step| apply::pool::step(cluster, &workspace, step));
    let outcomes: Vec<Result<(), CallError>> = stream::iter(made).buffer_unordered(AT_ONCE).collect().await;
    for outcome in outcomes {
        refused |= is_refused(outcome)?;
    }
    if refused {
        cluster.queues.workspace_changed(&workspace);
    }
    cluster.publisher.publish(workspace.as_ref(), &plan.notes).await;
    cluster.memory.forget_other(&uid);
    Ok(sleep_until(plan.wake, cluster.clock.now()))
}

/// Whether a step was refused: that is told, and when it is tried again; the planner reads both.
fn is_refused(outcome: Result<(), CallError>) -> Result<bool, CallError> {
    match outcome {
        Ok(()) => Ok(false),
        Err(CallError::Attempt) => Ok(true),
        Err(error) => Err(error),
    }
}
