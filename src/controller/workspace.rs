//! The loop of Workspaces: one look at one of them, whose status is written at most once a second, however many
//! sessions come and go. What is decided is `plan`'s, what is written `apply`'s.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::{ROUNDS, sleep_until};
use crate::api::Workspace;
use crate::cluster::error::CallError;
use crate::cluster::{Cluster, apply, observe};
use crate::plan::workspace::{Step, decide};

/// Looks at one Workspace and does what its plan says.
pub(super) async fn reconcile(workspace: Arc<Workspace>, cluster: Arc<Cluster>) -> Result<Action, CallError> {
    let cluster = cluster.as_ref();
    let (namespace, name) = (workspace.namespace().unwrap_or_default(), workspace.name_any());
    // Once it is, everything there is looked at.
    if !cluster.health.is_listed(&namespace) {
        return Ok(Action::await_change());
    }
    let mut wake = None;
    for _ in 0..ROUNDS {
        let known = cluster.stores.workspaces.get(&namespace, &name);
        // One that cannot be read any more is left as it is until it can.
        let readable = known.filter(|_| cluster.stores.workspaces.why_unreadable(&namespace, &name).is_none());
        let Some(workspace) = readable else { return Ok(Action::await_change()) };
        // Sessions come and go by the hundred: where only they changed, the look waits as the status does.
        if workspace.is_observed()
            && let Some(wait) = cluster.memory.must_wait(&workspace.uid().unwrap_or_default())
        {
            return Ok(later(wait));
        }
        let world = observe::workspace(cluster, Arc::clone(&workspace));
        let plan = decide(&world, cluster.clock.now());
        wake = plan.wake;
        // The plan after a trial, or after what the Workspace has stands, writes what this one would.
        let learns = plan
            .steps
            .iter()
            .any(|step| matches!(step, Step::Try(_) | Step::EnsureNetworkPolicy(_) | Step::EnsureBudget(_)));
        if !learns
            && plan.steps.iter().any(|step| matches!(step, Step::Publish(_)))
            && let Some(wait) = cluster.memory.pace(&workspace.uid().unwrap_or_default())
        {
            return Ok(later(wait));
        }
        match apply::workspace::steps(cluster, &workspace, plan.steps).await {
            Ok(()) => {
                cluster.publisher.publish(workspace.as_ref(), &plan.notes).await;
                if !learns {
                    break;
                }
            }
            // The trial's answer is an observation: decide on it.
            Err(CallError::Attempt) => {}
            Err(error) => return Err(error),
        }
    }
    cluster.memory.workspace_succeeded(&workspace.uid().unwrap_or_default());
    Ok(sleep_until(wake, cluster.clock.now()))
}

/// Another look once the pace allows a write.
fn later(wait: Duration) -> Action {
    Action::requeue(wait + Duration::from_millis(1))
}
