//! The loop of sessions: one look at one of them. What is decided is `plan`'s, what is written `apply`'s.

use std::sync::Arc;

use crate::api::pod::Pod;
use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::{ROUNDS, sleep_until};
use crate::api::Session;
use crate::cluster::error::CallError;
use crate::cluster::{Cluster, apply, observe};
use crate::plan::Plan;
use crate::plan::session::{Step, World, adopts, decide, promises_slot};
use crate::planted::{self, Bug};

/// Looks at one session and does what its plan says.
pub(super) async fn reconcile(session: Arc<Session>, cluster: Arc<Cluster>) -> Result<Action, CallError> {
    let cluster = cluster.as_ref();
    let (namespace, name) = (session.namespace().unwrap_or_default(), session.name_any());
    let uid = session.uid().unwrap_or_default();
    // Once it is, everything there is looked at.
    if !cluster.health.is_listed(&namespace) {
        return Ok(Action::await_change());
    }
    let mut wake = None;
    for _ in 0..ROUNDS {
        // The newest that is known, which may be newer than what the request was made for.
        let known = cluster.stores.sessions.get(&namespace, &name);
        let readable = known.clone().filter(|_| cluster.stores.sessions.why_unreadable(&namespace, &name).is_none());
        // One that cannot be read any more is left as it is until it can.
        let Some(session) = readable else {
            if known.is_none() {
                cluster.memory.forget_session(&uid);
            }
            return Ok(Action::await_change());
        };
        let evidence = observe::evidence(cluster, &session).await?;
        let (plan, pod) = {
            let _admission = cluster.memory.admission();
            let world: World = observe::session(cluster, Arc::clone(&session), &evidence);
            let plan = decide(&world, cluster.clock.now());
            // A promise stands until a decision on a newer world takes it back: the answer to its write may be lost.
            match promises_slot(&world, &plan) {
                true => cluster.memory.promise(&uid),
                false => cluster.memory.settle(&uid),
            }
            if let Some((name, pod)) = adopts(&plan) {
                cluster.memory.choose(&uid, name, pod);
            }
            (plan, world.pods.first().cloned())
        };
        wake = plan.wake;
        let ended = session.status.as_ref().is_some_and(|status| status.ended_at.is_some());
        match carry_out(cluster, &session, plan, pod.as_deref()).await {
            Ok(()) if ended => {
                cluster.memory.forget_ended(&uid);
                break;
            }
            Ok(()) => break,
            // The attempt is an observation: decide on it.
            Err(CallError::Attempt) => {}
            Err(error) => return Err(error),
        }
    }
    cluster.memory.session_succeeded(&uid);
    Ok(sleep_until(wake, cluster.clock.now()))
}

/// Takes the steps of `plan`, which was made on this `pod`. Its notes go out once the status that they tell of stands,
/// whatever comes of the steps after it, and without holding those up.
async fn carry_out(
    cluster: &Cluster,
    session: &Arc<Session>,
    plan: Plan<Step>,
    pod: Option<&Pod>,
) -> Result<(), CallError> {
    let mut notes = Some(plan.notes).filter(|notes| !notes.is_empty());
    let mut current = Arc::clone(session);
    let mut steps = plan.steps;
    if planted::is(Bug::EffectBeforeClaim) {
        steps.sort_by_key(|step| !matches!(step, Step::EnsurePod(_)));
    }
    if planted::is(Bug::ReleaseBeforeEnd) {
        steps.sort_by_key(|step| !matches!(step, Step::DeletePod { .. }));
    }
    for step in steps {
        let tells = matches!(step, Step::Publish(_));
        let before = tells.then(|| current.status.clone().unwrap_or_default());
        current = apply::session_step(cluster, current, step).await?;
        if let (Some(before), Some(after)) = (before, &current.status) {
            cluster.metrics.session_written(&before, after, pod);
            cluster.traces.session_written(&before, &current, pod);
        }
        if let Some(notes) = notes.take_if(|_| tells) {
            cluster.publisher.publish_beside(session.as_ref(), notes);
        }
    }
    Ok(())
}
