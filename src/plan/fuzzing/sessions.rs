//! The body of the fuzz target about the planner of sessions: any world that can be read, and what befalls it. Owns what
//! every plan must keep to; what a session lives through under its own hands is in the planner's tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::api::pod::Pod;
use arbitrary::{Result, Unstructured};
use chrono::TimeDelta;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::MOST;
use super::worlds::{self, instant, start, word};
use crate::api::condition::{self, Type};
use crate::api::fuzzing::{is_written_alike, settles};
use crate::api::policy::ActivitySource;
use crate::api::session::Phase;
use crate::api::time::Instant;
use crate::api::{Reason, SESSION_FINALIZER, SessionStatus, VELERO_EXCLUDE_LABEL};
use crate::plan::activity::Observer;
use crate::plan::child::Child;
use crate::plan::policy::PolicySource;
use crate::plan::session::{Attempt, Step, World, adopts, decide, promises_slot};
use crate::plan::{Plan, phase, pool, shorten, template};

/// Whatever a session and its surroundings say, each plan keeps the session's promises, and what was decided comes to
/// rest.
///
/// # Panics
/// When it does not.
pub fn sessions(data: &[u8]) {
    // Bytes that are no world say nothing.
    let _ = life(&mut Unstructured::new(data));
}

fn life(bytes: &mut Unstructured<'_>) -> Result<()> {
    let mut now = start() + TimeDelta::milliseconds(bytes.int_in_range(0i64..=60_000)?);
    let mut life = Life { world: worlds::world(bytes, now)?, gone: false };
    for _ in 0..16 {
        life.look(now);
        if life.gone || bytes.is_empty() {
            return Ok(());
        }
        befall(bytes, &mut life, &mut now)?;
    }
    Ok(())
}

/// One thing that happens around a session.
fn befall(bytes: &mut Unstructured<'_>, life: &mut Life, now: &mut Instant) -> Result<()> {
    let world = &mut life.world;
    match bytes.int_in_range(0u8..=15)? {
        0..=2 => *now += TimeDelta::milliseconds(bytes.int_in_range(0i64..=60_000)?),
        3 => *now += TimeDelta::seconds(bytes.int_in_range(-30i64..=40_000)?),
        4 => life.sleep(now),
        5 | 6 => {
            let status = worlds::pod_status(bytes, *now)?;
            if let Some(pod) = world.pods.first_mut() {
                Arc::make_mut(pod).status = Some(worlds::read(status)?);
            }
        }
        7 => {
            world.pods.clear();
            world.instance_gone = world.session.status.as_ref().is_some_and(|status| status.instance.is_some());
        }
        8 => world.workspace = if bytes.ratio(1u8, 3u8)? { None } else { Some(Arc::new(worlds::workspace(bytes)?)) },
        9 => world.policy = worlds::policy(bytes)?,
        10 => world.rivals = worlds::rivals(bytes, *now)?,
        11 => world.attempt = worlds::attempt(bytes, *now)?,
        12 => {
            let session = Arc::make_mut(&mut world.session);
            let at = instant(bytes, *now)?;
            session.status.get_or_insert_default().activity =
                Some(crate::api::session::Activity { last_at: Some(at), ..Default::default() });
        }
        13 => {
            let wish = word(bytes, &["Connected", "Connected", "Disconnected", "Terminated"])?;
            if life.end().is_none() {
                Arc::make_mut(&mut life.world.session).spec.desired_state = worlds::read(json!(wish))?;
            }
        }
        14 => life.look_and_take(*now, bytes.int_in_range(0usize..=4)?),
        _ => {
            let meta = &mut Arc::make_mut(&mut world.session).metadata;
            if meta.deletion_timestamp.is_none() {
                let deleted = crate::api::time::to_wire_micro(*now).0;
                meta.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(deleted));
            }
        }
    }
    Ok(())
}

/// A world on which plans are carried out.
struct Life {
    world: World,
    gone: bool,
}

impl Life {
    fn end(&self) -> Option<SessionStatus> {
        self.world.session.status.clone().filter(|status| status.ended_at.is_some())
    }

    /// Looks until nothing is left to be done, as the loop does.
    fn look(&mut self, now: Instant) {
        for _ in 0..8 {
            if self.gone || self.left(now).is_empty() {
                return;
            }
            self.look_and_take(now, usize::MAX);
        }
        let steps = self.left(now);
        assert!(self.gone || steps.is_empty(), "it does not come to rest: {steps:?}");
    }

    /// What is left to be done. The Secret that an instance seems to wait for is doubted at every look; who makes it knows
    /// how long ago they did.
    fn left(&self, now: Instant) -> Vec<Step> {
        let doubted = |step: &Step| matches!(step, Step::EnsureSecret(_)) && !self.world.pods.is_empty();
        decide(&self.world, now).steps.into_iter().filter(|step| !doubted(step)).collect()
    }

    /// Decides and carries out at most `limit` steps, as an operator that dies in between does.
    fn look_and_take(&mut self, now: Instant, limit: usize) {
        if self.gone {
            return;
        }
        let end = self.end();
        let plan = decide(&self.world, now);
        assert_eq!(plan, decide(&self.world, now), "decided differently the second time");
        keeps_to(&self.world, &plan, now);
        for step in plan.steps.into_iter().take(limit) {
            self.carry_out(step);
        }
        if let (Some(end), Some(after)) = (end, &self.world.session.status) {
            let what = |status: &SessionStatus| (status.phase, status.ended_at, status.reason, status.duration.clone());
            assert_eq!(what(&end), what(after), "the end is written once");
        }
    }

    /// Sleeps until the wake, before which there is nothing to do.
    fn sleep(&mut self, now: &mut Instant) {
        self.look(*now);
        if let Some(wake) = decide(&self.world, *now).wake.filter(|_| !self.gone) {
            let nearly = (wake - TimeDelta::milliseconds(1)).max(*now);
            let early = self.left(nearly);
            assert!(early.is_empty(), "at {nearly}, before {wake}: {early:?}");
            *now = wake;
        }
    }

    fn carry_out(&mut self, step: Step) {
        let pods = &mut self.world.pods;
        match step {
            Step::Publish(status) => Arc::make_mut(&mut self.world.session).status = Some(*status),
            Step::Mark { finalizer } => {
                let meta = &mut Arc::make_mut(&mut self.world.session).metadata;
                meta.labels.get_or_insert_default().insert(VELERO_EXCLUDE_LABEL.to_owned(), "true".to_owned());
                let finalizers = meta.finalizers.get_or_insert_default();
                finalizers.retain(|name| name != SESSION_FINALIZER);
                if finalizer {
                    finalizers.push(SESSION_FINALIZER.to_owned());
                }
                self.gone = finalizers.is_empty() && meta.deletion_timestamp.is_some();
            }
            Step::EnsureClaim(_) | Step::EnsureSecret(_) => {}
            Step::EnsurePod(made) => {
                // What is made is read whole by others.
                let whole = is_written_alike::<k8s_openapi::api::core::v1::Pod>(&made);
                let pod = whole.and_then(|_| is_written_alike::<Pod>(&made));
                if let Some(mut pod) = pod.filter(|_| pods.is_empty()) {
                    pod.metadata.uid = Some("made".to_owned());
                    pods.push(Arc::new(pod));
                }
                self.world.attempt = Attempt::None;
            }
            Step::Adopt { uid, metadata, .. } => {
                if let Some(mut pod) = self.world.warm.take().filter(|pod| pod.uid().as_ref() == Some(&uid)) {
                    restamp(Arc::make_mut(&mut pod), &metadata);
                    pods.push(pod);
                }
            }
            Step::Restamp { uid, metadata, .. } => {
                for pod in pods.iter_mut().filter(|pod| pod.uid().as_ref() == Some(&uid)) {
                    restamp(Arc::make_mut(pod), &metadata);
                }
            }
            Step::Dial(target) => self.world.attempt = Attempt::Reached(target),
            Step::DeletePod { uid, .. } | Step::Discard { uid, .. } => {
                pods.retain(|pod| pod.uid().as_ref() != Some(&uid))
            }
            Step::DeleteSession => self.gone = true,
        }
    }
}

/// Merges metadata as the API server does: null takes away.
fn restamp(pod: &mut Pod, metadata: &Value) {
    let merge = |field: &str, into: &mut BTreeMap<String, String>| {
        for (key, value) in metadata[field].as_object().into_iter().flatten() {
            match value.as_str() {
                Some(value) => into.insert(key.clone(), value.to_owned()),
                None => into.remove(key),
            };
        }
    };
    merge("labels", pod.metadata.labels.get_or_insert_default());
    merge("annotations", pod.metadata.annotations.get_or_insert_default());
    pod.metadata.owner_references = serde_json::from_value(metadata["ownerReferences"].clone()).ok();
}

/// What every plan keeps to, whatever it was made of.
fn keeps_to(world: &World, plan: &Plan<Step>, now: Instant) {
    let at_once = adopts(plan).is_some();
    assert!(plan.wake.is_none_or(|wake| wake > now || at_once), "{:?} is no time to wake at {now}", plan.wake);
    for note in &plan.notes {
        assert!(shorten(&note.message).len() <= MOST, "an event that nobody takes: {note:?}");
    }
    let slot = |status: &SessionStatus| condition::is_true(&status.conditions, Type::Admitted);
    let before = world.session.status.clone().unwrap_or_default();
    let uids: BTreeSet<String> = world.pods.iter().filter_map(|pod| pod.uid()).collect();
    let (mut status, mut held) = (before.clone(), world.session.finalizers().iter().any(|it| it == SESSION_FINALIZER));
    for step in &plan.steps {
        let ended = status.ended_at.is_some();
        match step {
            Step::Publish(next) => {
                published(world, &before, next, now);
                status = SessionStatus::clone(next);
            }
            Step::Mark { finalizer } => {
                assert_eq!(*finalizer, !ended && world.session.metadata.deletion_timestamp.is_none());
                held = *finalizer;
            }
            // What an instance waits for that is there already: nothing new is made.
            Step::EnsureSecret(_) if !world.pods.is_empty() && slot(&before) => {
                assert!(!ended && before.ready_at.is_none(), "a Secret for an instance that does not wait for one");
            }
            Step::Adopt { uid, metadata, .. } => {
                let is_warm = world.warm.as_ref().is_some_and(|pod| pod.uid().as_ref() == Some(uid));
                let version = world.warm.as_ref().and_then(|pod| pod.resource_version());
                assert!(is_warm && metadata["resourceVersion"] == json!(version), "not as it was seen: {metadata}");
                assert!(!ended && !slot(&before), "adopted by one who has a slot, or none any more");
                let stands = !matches!(world.fence, Child::Wanting { .. } | Child::Going | Child::Impossible(_));
                assert!(stands, "an instance before its wall: {:?}", world.fence);
            }
            // The claim on a slot and the finalizer come before what they are for.
            Step::EnsureClaim(_) | Step::EnsureSecret(_) | Step::EnsurePod(_) | Step::Dial(_) => {
                let stands = !matches!(world.fence, Child::Wanting { .. } | Child::Going | Child::Impossible(_));
                assert!(stands, "an instance before its wall: {:?}", world.fence);
                assert!(!ended, "something is made for a session that has ended");
                assert!(slot(&status), "something is made without a slot");
                assert!(held && world.session.metadata.deletion_timestamp.is_none(), "nothing would hold it");
                // A launch whose status was taken from it makes what is there already, which is safe to do twice.
                assert!(world.pods.is_empty() || !slot(&before), "a second instance");
                let checked = world
                    .workspace
                    .as_ref()
                    .map(|it| it.spec.template.as_ref().map(|it| template::check(it, &world.hardening)));
                assert!(matches!(checked, Some(None | Some(Ok(())))), "made of what may not run: {checked:?}");
            }
            Step::Restamp { uid, .. } => assert!(uids.contains(uid), "a pod that is none of the session's"),
            Step::DeletePod { uid, .. } => {
                assert!(uids.contains(uid), "a pod that is none of the session's");
                assert!(ended, "a pod deleted under its live session");
            }
            Step::Discard { uid, .. } => {
                assert!(uids.contains(uid) && !ended, "a pod that is none of the session's, or is released");
                let unused = match before.instance.as_ref().map(|instance| &instance.uid) {
                    // Only beside the one that the status names.
                    Some(named) => named != uid && uids.contains(named),
                    // One of a pool that broke before anybody could use it.
                    None => {
                        let is_it = |pod: &&Arc<Pod>| pod.uid().as_ref() == Some(uid) && pool::is_of_a_pool(pod);
                        before.ready_at.is_none() && world.pods.iter().any(|pod| is_it(&pod))
                    }
                };
                assert!(unused, "a pod discarded under its live session");
            }
            Step::DeleteSession => assert!(ended && before.ended_at.is_some(), "a session pruned that has not ended"),
        }
    }
    let claims = slot(&status) || adopts(plan).is_some();
    assert_eq!(promises_slot(world, plan), !slot(&before) && claims, "a slot is promised once");
}

/// Whether the rules in force ask a gateway for the activity.
fn asks_gateway(status: &SessionStatus) -> bool {
    status.policy.as_ref().is_some_and(|rules| rules.activity_source == Some(ActivitySource::Gateway))
}

/// From when on and until when somebody has watched.
fn observed(status: &SessionStatus) -> Option<(Instant, Instant)> {
    let activity = status.activity.as_ref()?;
    activity.observed_since.zip(activity.observed_until)
}

/// What a written status keeps to.
fn published(world: &World, before: &SessionStatus, next: &SessionStatus, now: Instant) {
    assert!(before.ended_at.is_none(), "written after the end");
    assert_ne!(before, next, "a status that stands is written");
    assert_eq!(settles::<SessionStatus>(&json!(next)).as_ref(), Some(next));
    assert!(next.conditions.is_sorted_by(|one, next| one.type_ < next.type_), "{:?}", next.conditions);
    // What others write is theirs.
    assert_eq!(
        (&next.activity, &next.client, &next.end_request),
        (&before.activity, &before.client, &before.end_request)
    );
    assert!(before.started_at.is_none() || next.started_at == before.started_at);
    let by_gateway = asks_gateway(next);
    if by_gateway && next.phase == Some(Phase::Idle) {
        let known = world.observer != Observer::Gone && observed(before).is_some();
        assert!(known, "idle, and nobody knows");
    }
    let phase = next.phase.unwrap_or(Phase::Pending);
    assert_eq!(phase::is_ended(phase), next.ended_at.is_some(), "{phase:?} until {:?}", next.ended_at);
    if next.ended_at.is_none() {
        assert!(next.reason.is_none() && next.duration.is_none(), "{next:?}");
        assert!(
            // What a gateway has seen may come a little after the deadline that needs it.
            // And a session that has just become usable is ended by the next look, where a hand wrote that it is late.
            next.disconnect_at.is_none_or(|at| at > now || before.ready_at.is_none() || by_gateway),
            "{:?} at {now}",
            next.disconnect_at
        );
        return;
    }
    assert!(next.ended_at.is_some_and(|at| at <= now), "an end in the future");
    assert!(next.reason.is_some() && next.disconnect_at.is_none() && next.url.is_none(), "{next:?}");
    assert_eq!(next.duration.is_some(), next.started_at.is_some());
    match next.reason {
        _ if before.end_request.is_some() || world.session.metadata.deletion_timestamp.is_some() => {}
        Some(Reason::InstanceLost) => assert!(world.instance_gone || !world.pods.is_empty(), "lost without evidence"),
        Some(Reason::WorkspaceDeleted) => {
            let unread = world.workspace.is_none() && world.workspace_unread.is_some();
            assert!(!unread, "a Workspace that cannot be read was taken for one that is gone");
        }
        Some(Reason::IdleTimeout) => {
            let used = before.activity.as_ref().and_then(|activity| activity.last_at);
            assert!(used.is_none_or(|used| used < now || used - now > TimeDelta::seconds(5)), "idle while in use");
            // Rules that cannot be read any more give way to those of the policy.
            let by_policy = matches!(&world.policy, PolicySource::Found(_, spec)
                if spec.activity.as_ref().and_then(|activity| activity.source) == Some(ActivitySource::Gateway));
            if asks_gateway(before) && by_policy {
                let (since, until) = observed(before).unwrap_or((now, now));
                assert!(world.observer == Observer::Live && since < until, "ended for idleness, and nobody knows");
            }
        }
        _ => {}
    }
}
