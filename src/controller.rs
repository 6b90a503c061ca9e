//! The loop: observe, decide, apply, publish, and look again in time. Owns how often and after what delay; the
//! decisions are `plan`'s, the requests `cluster`'s.

pub mod backoff;
mod session;
mod workspace;

use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, future, stream};
use kube::runtime::controller::{Action, Config, ReconcileRequest, applier};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use tokio::sync::watch;

use crate::api::time::Instant;
use crate::cluster::Cluster;
use crate::cluster::error::CallError;
use crate::cluster::watch::Requests;
use backoff::Backoff;

/// The longest sleep of an object that has a deadline: a wall clock that was set is noticed within this time.
/// Looking costs no request.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);

/// How often one look may be followed by another at once, because the first learned something new.
const ROUNDS: usize = 4;

/// What the loop of one kind needs.
struct Context {
    cluster: Cluster,
    backoff: Backoff,
}

/// Runs the loops of all kinds until `stop` says so; what is under way is finished.
pub async fn run(cluster: Cluster, requests: Requests, stop: watch::Receiver<bool>) {
    let Requests { sessions, workspaces } = requests;
    let context = |cluster: &Cluster| Arc::new(Context { cluster: cluster.clone(), backoff: Backoff::default() });
    let session_loop =
        drive(cluster.stores.sessions.reader(), sessions, stop.clone(), context(&cluster), session::reconcile);
    let workspace_loop =
        drive(cluster.stores.workspaces.reader(), workspaces, stop, context(&cluster), workspace::reconcile);
    future::join(session_loop, workspace_loop).await;
}

async fn drive<K, F>(
    store: Store<K>,
    requests: UnboundedReceiver<ReconcileRequest<K>>,
    mut stop: watch::Receiver<bool>,
    context: Arc<Context>,
    reconcile: fn(Arc<K>, Arc<Context>) -> F,
) where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    F: Future<Output = Result<Action, CallError>> + Send + 'static,
{
    let stopped = async move {
        // A sender that is gone means that the process stops.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let queue = stream::StreamExt::map(requests, Ok::<_, std::convert::Infallible>).take_until(Box::pin(stopped));
    let config = Config::default().concurrency(64);
    applier(move |object, context| Box::pin(reconcile(object, context)), retry, context, store, queue, config)
        .for_each(|outcome| {
            if let Err(error) = outcome {
                tracing::debug!(%error, "look failed");
            }
            future::ready(())
        })
        .await;
}

/// What to do after a failure: a conflict means that the object changed, and that it is not there that it has
/// gone; either way the event is on its way.
fn retry<K>(object: Arc<K>, error: &CallError, context: Arc<Context>) -> Action
where
    K: Resource<DynamicType = ()> + 'static,
{
    let delay = context.backoff.failed(&key(object.as_ref()));
    match error {
        CallError::NotLeader => return Action::await_change(),
        error if error.is_conflict() || error.is_not_found() => {
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

fn key<K: Resource<DynamicType = ()>>(object: &K) -> String {
    ObjectRef::from_obj(object).to_string()
}
