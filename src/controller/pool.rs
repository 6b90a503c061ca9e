//! The loop of pools: one look at that of one Workspace. What is decided is `plan`'s, what is written `apply`'s.

use std::sync::Arc;

use futures::{StreamExt, stream};
use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::sleep_until;
use crate::api::Workspace;
use crate::cluster::error::CallError;
use crate::cluster::{Cluster, apply, observe};
use crate::plan::pool::{Step, look};

/// How many pods are made, or go, at once.
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
    let Some(world) = observe::pool::world(cluster, Arc::clone(&workspace)) else { return Ok(Action::await_change()) };
    let (uid, now) = (workspace.uid().unwrap_or_default(), cluster.clock.now());
    let (standing, plan) = look(&world, now);
    if standing.ready >= standing.desired {
        cluster.memory.pool_is_full(&uid);
    }
    let (made, before): (Vec<Step>, Vec<Step>) = plan.steps.into_iter().partition(|step| matches!(step, Step::Make(_)));
    let mut learnt = take(cluster, &workspace, before).await?;
    if !learnt {
        learnt = take(cluster, &workspace, made).await?;
    }
    if learnt {
        cluster.queues.workspace_changed(&workspace);
    }
    cluster.publisher.publish(workspace.as_ref(), &plan.notes).await;
    cluster.memory.forget_other(&uid);
    Ok(sleep_until(plan.wake, cluster.clock.now()))
}

/// Takes some steps at once, all of them, whatever becomes of each. Whether the world is another than was decided on: one was
/// refused, which is told and tried again later, or met a pod that has changed. The planner reads both.
async fn take(cluster: &Cluster, workspace: &Workspace, steps: Vec<Step>) -> Result<bool, CallError> {
    let steps = steps.into_iter().map(|step| apply::pool::step(cluster, workspace, step));
    let outcomes: Vec<Result<(), CallError>> = stream::iter(steps).buffer_unordered(AT_ONCE).collect().await;
    let mut learnt = false;
    for outcome in outcomes {
        match outcome {
            Ok(()) => {}
            Err(CallError::Attempt) => learnt = true,
            Err(error) => return Err(error),
        }
    }
    Ok(learnt)
}
