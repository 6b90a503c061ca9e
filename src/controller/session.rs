//! The loop of sessions.

use std::sync::Arc;

use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::{Context, ROUNDS, key, sleep_until};
use crate::api::Session;
use crate::cluster::error::CallError;
use crate::cluster::{apply, observe};
use crate::plan::session::{World, decide, promises_slot};

/// Looks at one session and does what its plan says.
pub(super) async fn reconcile(session: Arc<Session>, context: Arc<Context>) -> Result<Action, CallError> {
    let cluster = &context.cluster;
    let (namespace, name) = (session.namespace().unwrap_or_default(), session.name_any());
    let mut wake = None;
    let mut now = cluster.clock.now();
    for _ in 0..ROUNDS {
        // The newest that is known, which may be newer than what the request was made for.
        let Some(session) = cluster.stores.sessions.get(&namespace, &name) else { return Ok(Action::await_change()) };
        let evidence = observe::evidence(cluster, &session).await?;
        let plan = {
            let _admission = cluster.memory.admission();
            let world: World = observe::session(cluster, Arc::clone(&session), &evidence);
            now = cluster.clock.now();
            let plan = decide(&world, now);
            if promises_slot(&world, &plan) {
                cluster.memory.promise(&session.uid().unwrap_or_default());
            }
            plan
        };
        wake = plan.wake;
        let outcome = apply::session_steps(cluster, Arc::clone(&session), plan.steps).await;
        match outcome {
            Ok(_) => {
                cluster.publisher.publish(session.as_ref(), &plan.notes).await;
                break;
            }
            // The attempt is an observation: decide on it.
            Err(CallError::Attempt) => {}
            Err(error) => {
                // A write that was answered and refused gives its promise back; one of unknown outcome keeps it.
                if error.code().is_some() {
                    cluster.memory.settle(&session.uid().unwrap_or_default());
                }
                return Err(error);
            }
        }
    }
    context.backoff.succeeded(&key(session.as_ref()));
    Ok(sleep_until(wake, now))
}
