//! The planner of sessions: from what was observed of one session to what to do about it. Owns the order in
//! which causes are weighed; the matrix of transitions is `phase`, the words of a status are `status`.

mod cause;
mod end;
mod outlook;
mod status;
mod steps;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::api::pod::Pod;
use chrono::TimeDelta;
use kube::ResourceExt;
use serde_json::Value;

use crate::api::condition::{self, Type};
use crate::api::policy::OnExceeded;
use crate::api::session::{Phase, WhenFull};
use crate::api::time::{Instant, from_wire};
use crate::api::workspace::Drain;
use crate::api::{Session, SessionStatus, WORKSPACE_UID_LABEL, Workspace};
use crate::plan::activity::{self, Counting, Observer, Seen};
use crate::plan::admission::{self, Blocker, Candidate, Rivals};
use crate::plan::contract::{Credential, SECRET_DOUBT};
use crate::plan::endpoint::Target;
use crate::plan::hardening::Hardening;
use crate::plan::instance::{self, Health};
use crate::plan::limit::{self, Own, Standing};
use crate::plan::network::Fence;
use crate::plan::phase::{self, Event, Next};
use crate::plan::policy::{InForce, PolicySource, Rules};
use crate::plan::{Plan, groundwork, pool};
pub use end::prune_at;
use outlook::Outlook;
use steps::{adopt, discard, mark, provision, publish, restamp, surplus};

/// What was observed of a session and of what it depends on.
#[derive(Clone, Debug)]
pub struct World {
    /// The session itself.
    pub session: Arc<Session>,
    /// Its Workspace, if there is one.
    pub workspace: Option<Arc<Workspace>>,
    /// Why the Workspace is not known although it stands: one that cannot be read is not gone.
    pub workspace_unread: Option<String>,
    /// The policy of that Workspace.
    pub policy: PolicySource,
    /// The other live sessions of that Workspace.
    pub rivals: Rivals,
    /// The other live sessions of the same user under the same policy, where it limits them.
    pub own: Vec<Own>,
    /// The pods that this session owns, by uid.
    pub pods: Vec<Arc<Pod>>,
    /// A pod of the Workspace's pool that the session may have, if it is to have an instance now.
    pub warm: Option<Arc<Pod>>,
    /// Whether the API server said that the instance named in the status is gone.
    pub instance_gone: bool,
    /// A pod of another session that still uses this user's retained volumes.
    pub volume_holder: Option<String>,
    /// What became of the last attempt to make or reach the instance.
    pub attempt: Attempt,
    /// Why nobody may be launched at all, if so: the admission policies do not stand.
    pub unguarded: Option<String>,
    /// What the installation says of every instance.
    pub hardening: Arc<Hardening>,
    /// How the wall around the instances of the Workspace stands.
    pub fence: Fence,
    /// The Secret that the instance needs, or why it cannot be made; nothing where it needs none.
    pub secret: Option<Result<Credential, String>>,
    /// Whether the node of the instance is being drained.
    pub draining: Draining,
    /// What became of the observer that the status names.
    pub observer: Observer,
    /// Who prunes ended sessions.
    pub pruned_by: Pruner,
}

/// Who prunes ended sessions, once their history was kept as long as their policy says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pruner {
    /// The operator: there is nobody else.
    #[default]
    Operator,
    /// The gateway, once its store has taken the history.
    Gateway,
}

/// Whether a node is being drained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Draining {
    /// Nobody has said yet: what was told of it holds.
    #[default]
    Unknown,
    /// It is not.
    No,
    /// It is, for this reason.
    Yes(String),
}

/// What became of the last attempt to make or reach the instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Attempt {
    /// There was none.
    #[default]
    None,
    /// This machine took a connection, and proved what was asked of it.
    Reached(Box<Target>),
    /// It failed, and is worth another attempt at this time.
    RetryAt(Instant, String),
    /// The API server refuses the instance for good.
    Refused(String),
}

/// One thing to do about a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Write the status, if it differs from what stands.
    Publish(Box<SessionStatus>),
    /// Set the label that keeps the Session out of backups, and add or remove the finalizer.
    Mark {
        /// Whether the finalizer is to stand afterwards.
        finalizer: bool,
    },
    /// Make a retained claim unless it is there.
    EnsureClaim(Box<Value>),
    /// Make the Secret of the Workspace, and see to it that it says this.
    EnsureSecret(Credential),
    /// Make the pod unless it is there.
    EnsurePod(Box<Value>),
    /// Make a pod of the pool the session's own, if it is as it was observed. What came of it is a new observation.
    Adopt {
        /// The pod's name.
        pod: String,
        /// Its uid.
        uid: String,
        /// The metadata to merge, with the version that it has to have.
        metadata: Box<Value>,
    },
    /// Give the pod back the labels and owner that somebody took.
    Restamp {
        /// The pod's name.
        pod: String,
        /// Its uid.
        uid: String,
        /// The metadata to merge.
        metadata: Box<Value>,
    },
    /// Try whether the machine of an endpoint takes a connection, and is who it should be.
    Dial(Box<Target>),
    /// Delete the pod, if it still has this uid.
    DeletePod {
        /// The pod's name.
        pod: String,
        /// Its uid.
        uid: String,
    },
    /// Delete a pod that nobody ever used, if it still has this uid; the session lives on.
    Discard {
        /// The pod's name.
        pod: String,
        /// Its uid.
        uid: String,
    },
    /// Delete the Session itself, if it still has its uid.
    DeleteSession,
}

/// What follows from the observations before any choice is made.
struct View {
    /// The status as it stands.
    before: SessionStatus,
    /// The phase as it stands.
    phase: Phase,
    /// The rules, if any are known.
    force: Option<InForce>,
    /// Why the rules are not those of a policy that stands.
    policy_trouble: Option<Blocker>,
    /// Since when the Workspace is gone that this session was launched from.
    workspace_gone: Option<Instant>,
    /// Until when the time of creation lies further in the future than clocks may differ.
    created_ahead_until: Option<Instant>,
    /// The last activity.
    seen: Seen,
    /// What time brings.
    outlook: Outlook,
    /// The instance's pod and what it says.
    instance: Option<(Arc<Pod>, Health)>,
}

/// What to do about the session in `world` at `now`.
pub fn decide(world: &World, now: Instant) -> Plan<Step> {
    let before = world.session.status.clone().unwrap_or_default();
    if before.ended_at.is_some() {
        return end::after(world, now);
    }
    let view = View::of(world, before, now);
    if let Some((event, message)) = cause::ending(world, &view, now)
        && let Next::End(phase, reason) = phase::next(view.phase, event)
    {
        return end::now(world, &view, phase, reason, message, now);
    }
    match view.phase {
        Phase::Pending => pending(world, &view, now),
        Phase::Starting => starting(world, &view, now),
        Phase::Active | Phase::Idle => usable(world, &view, now),
        // A phase that has ended without `endedAt` is refused by the schema.
        Phase::Disconnected | Phase::Terminated | Phase::Failed => {
            Plan { steps: Vec::new(), notes: Vec::new(), wake: None }
        }
    }
}

/// Whether `plan` gives the session a slot that its status does not show yet.
pub fn promises_slot(world: &World, plan: &Plan<Step>) -> bool {
    let holds = |status: &SessionStatus| condition::is_true(&status.conditions, Type::Admitted);
    let gives = |step: &Step| matches!(step, Step::Publish(status) if holds(status));
    let claims = |step: &Step| gives(step) || matches!(step, Step::Adopt { .. });
    plan.steps.iter().any(claims) && !world.session.status.as_ref().is_some_and(holds)
}

/// The name and the uid of the pod that `plan` has the session adopt.
pub fn adopts(plan: &Plan<Step>) -> Option<(&str, &str)> {
    plan.steps.iter().find_map(|step| match step {
        Step::Adopt { pod, uid, .. } => Some((pod.as_str(), uid.as_str())),
        _ => None,
    })
}

impl View {
    fn of(world: &World, before: SessionStatus, now: Instant) -> Self {
        let phase = borne_out(&before);
        let held = before.policy.as_ref().and_then(|wire| InForce::from_wire(wire).ok());
        let (rules, policy_trouble) = current_rules(world, held.as_ref().filter(|_| phase != Phase::Pending));
        let known = rules.as_ref().or(held.as_ref().map(|held| &held.rules));
        let counting = known.map(Counting::of).unwrap_or_default();
        let seen = activity::seen(&world.session, before.ready_at, counting, now);
        let force = match rules {
            Some(rules) => Some(InForce::succeed(held.as_ref(), rules, before.ready_at, seen.last, now)),
            None => held,
        };
        let ends_drained = world.workspace.as_ref().is_some_and(|workspace| workspace.spec.drain == Drain::End);
        let force = match &world.draining {
            Draining::Unknown => force,
            known => force.map(|force| force.with_drain(ends_drained && matches!(known, Draining::Yes(_)), now)),
        };
        let force = force.map(|force| {
            let own = itself(world);
            let limit = force.rules.limit;
            let displaced = limit.is_some_and(|limit| limit::makes_way(&own, &world.own, limit));
            // Before it can be used there is nothing to be warned of, and nobody there to be.
            force.with_displacement(displaced && before.ready_at.is_some(), own.standing == Standing::Idle, now)
        });
        let workspace_gone = workspace_gone(world, &before, now);
        let outlook = match (&force, before.ready_at, seen.last) {
            (Some(force), Some(ready), Some(last)) => {
                Outlook::of(&before, world.observer, force, (ready, last), workspace_gone, now)
            }
            _ => Outlook::none(),
        };
        let instance = world.pods.iter().find(|pod| !is_spent(pod, &before));
        let instance = instance.map(|pod| (Arc::clone(pod), instance::health(pod)));
        let phase = match phase {
            // It has a pod by adoption, which was its claim: only the status does not say so yet.
            Phase::Pending if instance.as_ref().is_some_and(|(pod, _)| holds(world, pod)) && force.is_some() => {
                Phase::Starting
            }
            phase => phase,
        };
        let created_ahead_until = created(&world.session).map(|created| created - activity::MAX_SKEW);
        Self { before, phase, force, policy_trouble, workspace_gone, created_ahead_until, seen, outlook, instance }
    }

    /// How long the session may wait for a slot; one whose rules are not known waits by the built-in ones.
    fn queue_timeout(&self) -> TimeDelta {
        self.force.as_ref().map_or_else(|| Rules::built_in().queue_timeout, |force| force.rules.queue_timeout)
    }

    /// When a slot was given, as the status says.
    fn admitted_at(&self) -> Option<Instant> {
        condition::find(&self.before.conditions, Type::Admitted)
            .filter(|admitted| admitted.status == condition::Status::True)
            .map(|admitted| admitted.last_transition_time)
    }
}

/// The phase that the rest of the status bears out. The operator writes no other; a hand that wrote one, and
/// not what goes with it, has not moved the session.
fn borne_out(status: &SessionStatus) -> Phase {
    match status.ready_at {
        Some(_) if status.phase == Some(Phase::Idle) => Phase::Idle,
        Some(_) => Phase::Active,
        None if condition::is_true(&status.conditions, Type::Admitted) => Phase::Starting,
        None => Phase::Pending,
    }
}

/// Whether `pod` gives its session a slot: it was made by the Workspace that stands.
fn holds(world: &World, pod: &Pod) -> bool {
    let uid = world.workspace.as_ref().and_then(|workspace| workspace.uid());
    uid.is_some() && pod.labels().get(WORKSPACE_UID_LABEL) == uid.as_ref()
}

/// Whether `pod` was adopted and broke before anybody could use it: it goes, and another takes its place.
fn is_spent(pod: &Pod, before: &SessionStatus) -> bool {
    let unused = before.ready_at.is_none() && before.instance.is_none();
    unused && pool::is_of_a_pool(pod) && matches!(instance::health(pod), Health::Lost(_))
}

/// The rules that the Workspace's policy gives now, or why it gives none. A session that was launched under a policy,
/// which is `held`, does not fall back to built-in values when that goes.
fn current_rules(world: &World, held: Option<&InForce>) -> (Option<Rules>, Option<Blocker>) {
    let wish = world
        .session
        .spec
        .idle
        .as_ref()
        .and_then(|idle| idle.disconnect_after.as_ref())
        .and_then(|wish| wish.delta().ok());
    match &world.policy {
        PolicySource::Found(name, spec) => match Rules::of(name, spec) {
            Ok(rules) => (Some(rules.with_wish(wish)), None),
            Err(error) => (None, Some(Blocker::PolicyInvalid(error.to_string()))),
        },
        PolicySource::BuiltIn => match held.and_then(|held| held.rules.name.clone()) {
            Some(name) => (None, Some(Blocker::PolicyGone(name))),
            None => (Some(Rules::built_in().with_wish(wish)), None),
        },
        PolicySource::Missing(name) => (None, Some(Blocker::PolicyNotFound(name.clone()))),
        PolicySource::Unreadable(name, why) => (None, Some(Blocker::PolicyInvalid(format!("{name}: {why}")))),
        PolicySource::Unknown => (None, None),
    }
}

/// Since when the Workspace is gone that the session was launched from: since the first look without it, as
/// the condition remembers. One that is being deleted is gone, and so is one of another uid.
fn workspace_gone(world: &World, before: &SessionStatus, now: Instant) -> Option<Instant> {
    // A pod that was adopted says it where the status does not yet.
    let adopted = || world.pods.iter().find(|pod| pool::is_of_a_pool(pod))?.labels().get(WORKSPACE_UID_LABEL);
    let known = before.workspace.as_ref().map(|known| &known.uid).or_else(adopted)?;
    let stands = world.workspace.as_ref().is_some_and(|workspace| {
        workspace.metadata.deletion_timestamp.is_none() && workspace.uid().as_ref() == Some(known)
    });
    if stands || (world.workspace.is_none() && world.workspace_unread.is_some()) {
        return None;
    }
    Some(
        condition::find(&before.conditions, Type::WorkspaceMissing).map_or(now, |missing| missing.last_transition_time),
    )
}

fn pending(world: &World, view: &View, now: Instant) -> Plan<Step> {
    let blocker = match admit(world, view) {
        Ok((workspace, force)) => return launch(world, view, &workspace, &force, now),
        Err(blocker) => blocker,
    };
    if fails_at(&blocker)
        && world.session.spec.when_full == WhenFull::Fail
        && let Next::End(phase, reason) = phase::next(view.phase, Event::NoSlot)
    {
        return end::now(world, view, phase, reason, format!("not launched: {}", blocker.message()), now);
    }
    let mut steps = publish(view, status::waiting(world, view, &blocker, now));
    steps.extend(mark(&world.session, true));
    // It counts as a slot for as long as it is there.
    steps.extend(discard(world, &view.before));
    let wake = created(&world.session).map(|created| created + view.queue_timeout());
    Plan { steps, notes: status::wait_notes(view, &blocker), wake }
}

/// Whether the session may launch now. The list is in the order in which people can do something about it.
fn admit(world: &World, view: &View) -> Result<(Arc<Workspace>, InForce), Blocker> {
    let name = || world.session.spec.workspace_ref.name.to_string();
    if let Some(why) = &world.unguarded {
        return Err(Blocker::Unguarded(why.clone()));
    }
    let workspace = world.workspace.clone().filter(|workspace| workspace.metadata.deletion_timestamp.is_none());
    let workspace = workspace.ok_or_else(|| match &world.workspace_unread {
        Some(why) => Blocker::WorkspaceUnreadable(name(), why.clone()),
        None => Blocker::WorkspaceNotFound(name()),
    })?;
    if let Some(trouble) = &view.policy_trouble {
        return Err(trouble.clone());
    }
    let force = view.force.clone().ok_or_else(|| Blocker::WorkspaceNotFound(name()))?;
    groundwork::stands(&workspace, &world.hardening, &world.fence, world.secret.as_ref())?;
    if workspace.spec.maintenance {
        return Err(Blocker::Maintenance);
    }
    if let Some(holder) = &world.volume_holder {
        return Err(Blocker::VolumesInUse(format!("pod {holder}")));
    }
    let uid = world.session.uid().unwrap_or_default();
    let candidate = Candidate {
        created: created(&world.session).unwrap_or_default(),
        uid: &uid,
        user: world.session.spec.user.id.as_str(),
    };
    admission::turn(candidate, &world.rivals, workspace.spec.max_sessions, workspace.spec.template.as_ref())?;
    match force.rules.limit {
        Some(limit) if !limit::admits(&itself(world), &world.own, limit) => Err(Blocker::AtLimit(limit)),
        _ => Ok((workspace, force)),
    }
}

/// The session among those of its user.
fn itself(world: &World) -> Own {
    let created = created(&world.session).unwrap_or_default();
    let status = world.session.status.as_ref();
    let admitted = status.is_some_and(|status| condition::is_true(&status.conditions, Type::Admitted));
    Own::of(&world.session, created, world.session.uid().unwrap_or_default(), admitted)
}

/// Whether the session fails at `blocker` where it is not to wait.
fn fails_at(blocker: &Blocker) -> bool {
    match blocker {
        Blocker::NoSlot(_) | Blocker::VolumesInUse(_) => true,
        // One that makes an older one end has its place.
        Blocker::AtLimit(limit) => limit.on_exceeded == OnExceeded::Reject,
        _ => false,
    }
}

/// The launch: onto a pod that is ready, whose adoption is the claim on the slot (ADR 0021); else the claim is written before its
/// effects, so that it survives a crash between them.
fn launch(world: &World, view: &View, workspace: &Workspace, force: &InForce, now: Instant) -> Plan<Step> {
    if let Some(adopt) = adopt(world, workspace) {
        let steps = discard(world, &view.before).into_iter().chain([adopt]).collect();
        // What comes of it is looked at at once.
        return Plan { steps, notes: Vec::new(), wake: Some(now) };
    }
    let mut steps = publish(view, status::admitted(world, view, workspace, force, now));
    steps.extend(mark(&world.session, true));
    steps.extend(discard(world, &view.before));
    steps.extend(provision(world, workspace));
    Plan { steps, notes: Vec::new(), wake: Some(now + force.rules.start_timeout) }
}

fn starting(world: &World, view: &View, now: Instant) -> Plan<Step> {
    if is_usable(world, view)
        && let Next::Go(phase) = phase::next(view.phase, Event::InstanceUsable)
    {
        let (status, notes) = status::became_usable(world, view, phase, now);
        let wake = status::next_look(world, view, &status, now);
        let mut steps = publish(view, status);
        steps.extend(mark(&world.session, true));
        steps.extend(restamp(world));
        return Plan { steps, notes, wake };
    }
    let timeout =
        view.force.as_ref().zip(view.admitted_at()).map(|(force, admitted)| admitted + force.rules.start_timeout);
    let retry = match &world.attempt {
        Attempt::RetryAt(at, _) if *at > now => Some(*at),
        _ => None,
    };
    // The template may have been edited since the slot was given.
    let blocker = world
        .workspace
        .as_deref()
        .and_then(|it| groundwork::stands(it, &world.hardening, &world.fence, world.secret.as_ref()).err())
        .filter(|_| view.instance.is_none());
    let mut steps = publish(view, status::still_starting(world, view, blocker.as_ref(), now));
    steps.extend(mark(&world.session, true));
    steps.extend(discard(world, &view.before));
    if view.instance.is_none() && retry.is_none() && blocker.is_none() {
        steps.extend(world.workspace.as_deref().map(|workspace| provision(world, workspace)).unwrap_or_default());
    }
    let doubt = doubt(world, view, now).filter(|_| retry.is_none());
    steps.extend(doubt.filter(|at| *at <= now).and_then(|_| Some(Step::EnsureSecret(world.secret.clone()?.ok()?))));
    steps.extend(restamp(world));
    let again = doubt.map(|at| if at <= now { now + SECRET_DOUBT } else { at });
    let wake = [timeout, retry, again].into_iter().flatten().min();
    Plan { steps, notes: status::start_notes(world, view, blocker.as_ref()), wake }
}

/// When the Secret of an instance that is being made is to be made again, if it has one.
fn doubt(world: &World, view: &View, now: Instant) -> Option<Instant> {
    let needs = matches!(world.secret, Some(Ok(_))) && matches!(view.instance, Some((_, Health::Coming)));
    view.admitted_at().filter(|admitted| needs && *admitted <= now).map(|admitted| admitted + SECRET_DOUBT)
}

/// Whether the instance can be used, by its pod or by the connection that its endpoint took.
fn is_usable(world: &World, view: &View) -> bool {
    // A machine, or a proof, that is asked for no more is none.
    let wanted = || {
        let spec = &world.workspace.as_ref()?.spec;
        Some(Target::of(spec.endpoint.as_ref()?, &spec.access))
    };
    matches!(view.instance, Some((_, Health::Usable)))
        || matches!(&world.attempt, Attempt::Reached(target) if wanted().is_none_or(|wanted| **target == wanted))
}

fn usable(world: &World, view: &View, now: Instant) -> Plan<Step> {
    let (status, notes) = status::usable(world, view, now);
    let wake = status::next_look(world, view, &status, now);
    let mut steps = publish(view, status);
    steps.extend(mark(&world.session, true));
    steps.extend(restamp(world));
    steps.extend(surplus(world, &view.before));
    Plan { steps, notes, wake }
}

fn created(session: &Session) -> Option<Instant> {
    session.metadata.creation_timestamp.as_ref().map(from_wire)
}
