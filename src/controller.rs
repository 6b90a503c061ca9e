//! The loop: observe, decide, apply, publish, and look again in time. Owns how often and after what delay; the
//! decisions are `plan`'s, the requests `cluster`'s.

mod network_policy;
mod orphan;
mod pool;
mod session;
mod workspace;

use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, future, stream};
use kube::runtime::controller::{Action, Config, ReconcileRequest, applier};
use kube::runtime::reflector::Store;
use kube::{Resource, ResourceExt};
use tokio::sync::watch;

use crate::api::time::Instant;
use crate::cluster::Cluster;
use crate::cluster::error::CallError;
use crate::cluster::memory::Memory;
use crate::cluster::watch::Requests;
use crate::planted::{self, Bug};

/// The longest sleep of an object that has a deadline. That the wall clock was set is noticed long before, by
/// `cluster::wall_clock`, once for all: a look costs no request, but thousands that look every two minutes cost a hundredth
/// of a core each.
const LONGEST_SLEEP: Duration = Duration::from_hours(1);

/// The pause before a look that was not taken, for the lease was not renewed in time, is taken after all.
const UNTIL_LEADING: Duration = Duration::from_secs(1);

/// How often one look may be followed by another at once, because the first learned something new.
const ROUNDS: usize = 6;

/// What one loop differs in from the other.
#[derive(Clone, Copy)]
struct Loop {
    /// Its name in the metrics.
    name: &'static str,
    /// Counts a failed look at the object of this uid; says when to look again.
    count: fn(&Memory, &str) -> Duration,
}

/// Runs the loops of all kinds until `stop` says so; what is under way is finished.
pub async fn run(cluster: Cluster, requests: Requests, stop: watch::Receiver<bool>) {
    let Requests { sessions, workspaces, pools, network_policies, orphans } = requests;
    let stores = cluster.stores.clone();
    let cluster = Arc::new(cluster);
    let session_loop = drive(
        stores.sessions.reader(),
        sessions,
        stop.clone(),
        Arc::clone(&cluster),
        session::reconcile,
        Loop { name: "session", count: Memory::session_failed },
    );
    let workspace_loop = drive(
        stores.workspaces.reader(),
        workspaces,
        stop.clone(),
        Arc::clone(&cluster),
        workspace::reconcile,
        Loop { name: "workspace", count: Memory::workspace_failed },
    );
    let pool_loop = drive(
        stores.workspaces.reader(),
        pools,
        stop.clone(),
        Arc::clone(&cluster),
        pool::reconcile,
        Loop { name: "pool", count: Memory::other_failed },
    );
    let network_policy_loop = drive(
        stores.network_policies.reader(),
        network_policies,
        stop.clone(),
        Arc::clone(&cluster),
        network_policy::reconcile,
        Loop { name: "networkpolicy", count: Memory::other_failed },
    );
    let orphan_loop = drive(
        stores.pods.reader(),
        orphans,
        stop,
        cluster,
        orphan::reconcile,
        Loop { name: "orphan", count: Memory::other_failed },
    );
    future::join5(session_loop, workspace_loop, pool_loop, network_policy_loop, orphan_loop).await;
}

async fn drive<K, F>(
    store: Store<K>,
    requests: UnboundedReceiver<ReconcileRequest<K>>,
    mut stop: watch::Receiver<bool>,
    cluster: Arc<Cluster>,
    reconcile: fn(Arc<K>, Arc<Cluster>) -> F,
    this: Loop,
) where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    F: Future<Output = Result<Action, CallError>> + Send + 'static,
{
    cluster.metrics.controller_began(this.name);
    let mut told = stop.clone();
    tokio::select! {
        // The writer of the store lives as long as the process.
        _ = store.wait_until_ready() => {}
        _ = told.wait_for(|stop| *stop) => return,
    }
    let stopped = async move {
        // A sender that is gone means that the process stops.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let queue = stream::StreamExt::map(requests, Ok::<_, std::convert::Infallible>).take_until(Box::pin(stopped));
    let config = Config::default().concurrency(64);
    let look = move |object, cluster: Arc<Cluster>| {
        Box::pin(async move {
            let begun = std::time::Instant::now();
            cluster.metrics.look_began(this.name);
            let outcome = reconcile(object, Arc::clone(&cluster)).await;
            cluster.metrics.look_ended(this.name, outcome.as_ref().map(drop), begun.elapsed());
            outcome
        })
    };
    let after = move |object: Arc<K>, error: &CallError, cluster: Arc<Cluster>| {
        retry(object.as_ref(), error, |uid| (this.count)(&cluster.memory, uid))
    };
    applier(look, after, cluster, store, queue, config)
        .for_each(|outcome| {
            if let Err(error) = outcome {
                tracing::debug!(%error, "look failed");
            }
            future::ready(())
        })
        .await;
}

/// What to do after a failure: that it is not there means that the object has gone, and a conflict that it changed;
/// either way the event is on its way.
fn retry<K>(object: &K, error: &CallError, count: impl FnOnce(&str) -> Duration) -> Action
where
    K: Resource<DynamicType = ()>,
{
    if error.is_not_found() {
        return Action::await_change();
    }
    // The lease may be renewed yet, late: then nothing would say that this look is still owed.
    if matches!(error, CallError::NotLeader) {
        return Action::requeue(UNTIL_LEADING);
    }
    if planted::is(Bug::NoRetry) {
        return Action::await_change();
    }
    let delay = match planted::is(Bug::UnboundedRetry) {
        true => Duration::from_millis(1),
        false => count(&object.uid().unwrap_or_default()),
    };
    match error {
        error if error.is_conflict() => {
            tracing::debug!(kind = %K::kind(&()), object = object.name_any(), %error, "changed meanwhile")
        }
        error => tracing::warn!(
            kind = %K::kind(&()),
            namespace = object.namespace(),
            object = object.name_any(),
            error = error.words(),
            retry_in_ms = delay.as_millis(),
            "reconciliation failed"
        ),
    }
    Action::requeue(delay)
}

/// When to look again: at `wake`, or when something changes.
fn sleep_until(wake: Option<Instant>, now: Instant) -> Action {
    let Some(wake) = wake else { return Action::await_change() };
    // A millisecond more, so that the clock has passed the deadline when it is looked at.
    let until = (wake - now).to_std().unwrap_or_default() + Duration::from_millis(1);
    Action::requeue(until.min(LONGEST_SLEEP))
}
