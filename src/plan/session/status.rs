//! The status of a live session, in every phase: fields, conditions and the events that go with a change of
//! them. It says what was observed; it chooses nothing.

use kube::ResourceExt;

use super::outlook::Outlook;
use super::{Attempt, Draining, View, World, created};
use crate::api::condition::{self, Claim, Status, Type, merge};
use crate::api::session::{Phase, WorkspaceSummary};
use crate::api::time::{Instant, display, floor_second};
use crate::api::{Session, SessionStatus, WORKSPACE_UID_LABEL, Workspace};
use crate::plan::activity::{self, Knowledge};
use crate::plan::admission::Blocker;
use crate::plan::deadline::Deadline;
use crate::plan::instance::{self, Health, Trouble};
use crate::plan::phase::{self, Event, Next};
use crate::plan::policy::InForce;
use crate::plan::{Note, Severity};

/// What a session remembers of its Workspace.
pub(super) fn summary(workspace: &Workspace) -> WorkspaceSummary {
    let shown = workspace.spec.display_name.as_ref().map(ToString::to_string);
    WorkspaceSummary {
        uid: workspace.uid().unwrap_or_default(),
        display_name: shown.unwrap_or_else(|| workspace.name_any()),
        type_: workspace.spec.type_.as_str().to_owned(),
    }
}

/// Pending, and why.
pub(super) fn waiting(world: &World, view: &View, blocker: &Blocker, now: Instant) -> SessionStatus {
    let (reason, message) = (blocker.reason(), blocker.message());
    let claims = vec![
        Claim::new(Type::Admitted, Status::False, reason, &message),
        Claim::new(Type::Ready, Status::Unknown, reason, &message),
        Claim::holds(Type::Reconciling, reason, &message),
    ];
    SessionStatus {
        phase: Some(Phase::Pending),
        message: Some(message),
        workspace: world.workspace.as_deref().map(summary).or_else(|| view.before.workspace.clone()),
        policy: view.force.as_ref().map(InForce::to_wire).or_else(|| view.before.policy.clone()),
        ..common(world, view, claims, now)
    }
}

/// The events of a wait: one for each new cause that people can see go on.
pub(super) fn wait_notes(view: &View, blocker: &Blocker) -> Vec<Note> {
    let told = condition::find(&view.before.conditions, Type::Admitted)
        .is_some_and(|admitted| admitted.reason == blocker.reason());
    // What comes within moments is no news.
    if told || matches!(blocker, Blocker::TemplateUntried | Blocker::Unfenced(None)) {
        return Vec::new();
    }
    vec![Note { severity: blocker.severity(), reason: blocker.reason().to_owned(), message: blocker.message() }]
}

/// A slot was given: the instance is being made.
pub(super) fn admitted(
    world: &World,
    view: &View,
    workspace: &Workspace,
    force: &InForce,
    now: Instant,
) -> SessionStatus {
    let phase = match phase::next(view.phase, Event::SlotGranted) {
        Next::Go(phase) => phase,
        Next::Stay | Next::End(..) => view.phase,
    };
    let message = "the instance is being made";
    SessionStatus {
        phase: Some(phase),
        message: Some(message.to_owned()),
        workspace: Some(summary(workspace)),
        policy: Some(force.to_wire()),
        ..common(world, view, start_claims("Starting", message), now)
    }
}

/// The instance is still being made; what is out of the ordinary is told in the pod's own words.
pub(super) fn still_starting(world: &World, view: &View, blocker: Option<&Blocker>, now: Instant) -> SessionStatus {
    let trouble = start_trouble(world, view, blocker);
    let (reason, message) = trouble.map_or_else(
        || ("Starting".to_owned(), "the instance is being made".to_owned()),
        |trouble| (trouble.reason, trouble.message),
    );
    SessionStatus {
        phase: Some(view.phase),
        policy: view.force.as_ref().map(InForce::to_wire).or_else(|| view.before.policy.clone()),
        ..common(world, view, start_claims(&reason, &message), now)
    }
    .with_message(message)
}

/// The events of a start: one for each new trouble.
pub(super) fn start_notes(world: &World, view: &View, blocker: Option<&Blocker>) -> Vec<Note> {
    let told = condition::find(&view.before.conditions, Type::Ready).map(|ready| ready.reason.as_str());
    start_trouble(world, view, blocker)
        .filter(|trouble| told != Some(&trouble.reason))
        .map(|trouble| Note { severity: Severity::Warning, reason: trouble.reason, message: trouble.message })
        .into_iter()
        .collect()
}

fn start_trouble(world: &World, view: &View, blocker: Option<&Blocker>) -> Option<Trouble> {
    match (&view.instance, &world.attempt) {
        (Some((_, Health::Troubled(trouble))), _) => Some(trouble.clone()),
        (None, _) if blocker.is_some() => {
            blocker.map(|blocker| Trouble { reason: blocker.reason().to_owned(), message: blocker.message() })
        }
        (_, Attempt::RetryAt(_, why)) => Some(Trouble { reason: "InstanceNotMade".to_owned(), message: why.clone() }),
        _ => None,
    }
}

fn start_claims(reason: &str, message: &str) -> Vec<Claim> {
    vec![
        Claim::holds(Type::Admitted, "SlotGranted", "a slot was given"),
        Claim::new(Type::Ready, Status::Unknown, reason, message),
        Claim::holds(Type::Reconciling, reason, message),
    ]
}

/// The instance can be used, for the first time.
pub(super) fn became_usable(world: &World, view: &View, phase: Phase, now: Instant) -> (SessionStatus, Vec<Note>) {
    let ready = floor_second(now);
    let after = View {
        before: SessionStatus { phase: Some(phase), ready_at: Some(ready), ..view.before.clone() },
        phase,
        force: view.force.clone(),
        policy_trouble: view.policy_trouble.clone(),
        workspace_gone: view.workspace_gone,
        created_ahead_until: view.created_ahead_until,
        seen: crate::plan::activity::Seen { last: Some(ready), ..view.seen },
        outlook: outlook(world, view, &view.before, (ready, ready), now).unwrap_or_else(Outlook::none),
        instance: view.instance.clone(),
    };
    let (status, mut notes) = usable(world, &after, now);
    let place = status.url.clone().map(|url| format!(" at {url}")).unwrap_or_default();
    notes.insert(
        0,
        Note {
            severity: Severity::Normal,
            reason: "Active".to_owned(),
            message: format!("the session can be used{place}"),
        },
    );
    (status, notes)
}

/// Active or Idle: the phase follows from the last activity, the conditions from the clock.
pub(super) fn usable(world: &World, view: &View, now: Instant) -> (SessionStatus, Vec<Note>) {
    let idle_at = view.outlook.idle_at.filter(|at| *at <= now);
    let event = match (idle_at, view.outlook.knowledge) {
        (_, Knowledge::Lost(_)) => Event::ActivityUnknown,
        // What was told holds.
        (Some(_), Knowledge::Unheard) if view.phase == Phase::Idle => Event::NoInput,
        (Some(at), known) if known.covers(at) => Event::NoInput,
        _ => Event::InputSeen,
    };
    let phase = match phase::next(view.phase, event) {
        Next::Go(phase) => phase,
        Next::Stay | Next::End(..) => view.phase,
    };
    let nearest = view.outlook.deadlines.first();
    let warned = view.outlook.warned(now);
    let idle_since = view.seen.last.map(floor_second).filter(|_| phase == Phase::Idle);
    let claims = usable_claims(world, view, warned, now);
    let message = warned.map(Deadline::warning).or_else(|| {
        let trouble = claims.iter().find(|claim| claim.type_ == Type::Ready && claim.status == Status::False);
        trouble
            .map(|claim| claim.message.clone())
            .or_else(|| idle_since.map(|since| format!("no activity since {}", display(since))))
    });
    let notes = usable_notes(&view.before, &claims);
    let status = SessionStatus {
        phase: Some(phase),
        message,
        ready_at: view.before.ready_at,
        idle_since,
        disconnect_at: nearest.map(|deadline| deadline.at),
        disconnect_reason: nearest.map(|deadline| deadline.reason),
        policy: view.force.as_ref().map(InForce::to_wire).or_else(|| view.before.policy.clone()),
        instance: view
            .instance
            .as_ref()
            .map(|(pod, _)| instance::describe(pod))
            .or_else(|| view.before.instance.clone()),
        url: url(world, view),
        ..common(world, view, claims, now)
    };
    (status, notes)
}

/// The earliest instant at which time alone changes the status of a usable session.
pub(super) fn next_look(world: &World, view: &View, status: &SessionStatus, now: Instant) -> Option<Instant> {
    let ready = status.ready_at?;
    let rules = &view.force.as_ref()?.rules;
    let last = view.seen.last.unwrap_or(ready);
    let outlook = outlook(world, view, status, (ready, last), now)?;
    // An observation may come a little late; then it is missing.
    let late = matches!(outlook.knowledge, Knowledge::Until(_)).then(|| activity::late(rules));
    let with_late = |at: Instant| [Some(at), late.map(|late| at + late)].into_iter().flatten();
    let warnings = outlook.deadlines.iter().flat_map(|it| with_late(it.warn_from).chain(with_late(it.at)));
    let until = status.activity.as_ref().and_then(|activity| activity.observed_until);
    let marks = [
        // What claims a time that is still to come is looked at when it no longer is.
        until.map(|until| until - activity::MAX_SKEW),
        Some(last + rules.idle_after),
        late.map(|late| last + rules.idle_after + late),
        Some(ready + rules.alert_after),
        view.seen.skewed_until,
        view.created_ahead_until,
    ];
    warnings.chain(marks.into_iter().flatten()).filter(|at| *at > now).min()
}

/// What time brings to the session once it has this status.
fn outlook(
    world: &World,
    view: &View,
    status: &SessionStatus,
    used: (Instant, Instant),
    now: Instant,
) -> Option<Outlook> {
    Some(Outlook::of(status, world.observer, view.force.as_ref()?, used, view.workspace_gone, now))
}

/// Whether anybody knows of the session's activity, where its policy asks.
fn activity_known(view: &View) -> Option<Claim> {
    match view.outlook.knowledge {
        Knowledge::Trusted => None,
        Knowledge::Until(_) => {
            Some(Claim::holds(Type::ActivityKnown, "Observed", "a gateway watches the session and says what it saw"))
        }
        Knowledge::Lost(gap) => Some(Claim::new(Type::ActivityKnown, Status::False, gap.reason(), gap.message())),
        Knowledge::Unheard => Some(match condition::find(&view.before.conditions, Type::ActivityKnown) {
            Some(told) => Claim::new(Type::ActivityKnown, told.status, &told.reason, &told.message),
            None => {
                let message = "whether the gateway that watched lives is not known yet";
                Claim::new(Type::ActivityKnown, Status::Unknown, "ObserverUnheard", message)
            }
        }),
    }
}

fn usable_claims(world: &World, view: &View, warned: Option<&Deadline>, now: Instant) -> Vec<Claim> {
    let mut claims = vec![Claim::holds(Type::Admitted, "SlotGranted", "a slot was given")];
    claims.extend(readiness(view));
    claims.extend(activity_known(view));
    if let Some(deadline) = warned {
        claims.push(Claim::holds(Type::EndingSoon, deadline.reason.as_str(), deadline.warning()));
    }
    if let (Some(force), Some(ready)) = (&view.force, view.before.ready_at)
        && ready + force.rules.alert_after <= now
    {
        let after = crate::api::duration::write(force.rules.alert_after);
        claims.push(Claim::holds(Type::LongRunning, "AlertAfter", format!("usable for more than {after}")));
    }
    if let Some(trouble) = &view.policy_trouble {
        let message = format!("the last rules hold: {}", trouble.cause());
        claims.push(Claim::holds(Type::PolicyMissing, trouble.reason(), message));
    }
    if view.workspace_gone.is_some() {
        let name = &world.session.spec.workspace_ref.name;
        claims.push(Claim::holds(Type::WorkspaceMissing, "WorkspaceDeleted", format!("Workspace {name} was deleted")));
    }
    claims.extend(draining(world, view));
    if view.seen.skewed_until.is_some() {
        let message = "an activity was reported for a time in the future and counts once, from now";
        claims.push(Claim::holds(Type::ClockSkew, activity::AHEAD, message));
    } else if view.created_ahead_until.is_some_and(|until| until > now) {
        let message = "the API server's clock is ahead of the operator's: the session was created in the future";
        claims.push(Claim::holds(Type::ClockSkew, "CreatedInFuture", message));
    }
    claims
}

/// That the node is being drained; before anybody has said, what was told of it.
fn draining(world: &World, view: &View) -> Option<Claim> {
    let told = condition::find(&view.before.conditions, Type::NodeDraining);
    match &world.draining {
        Draining::No => None,
        Draining::Unknown => {
            let told = told.filter(|told| told.status == Status::True)?;
            Some(Claim::holds(Type::NodeDraining, &told.reason, &told.message))
        }
        Draining::Yes(why) => {
            let node = view.before.instance.as_ref().and_then(|instance| instance.node.as_deref()).unwrap_or_default();
            let message = format!(
                "node {node} is being drained, {why}: save your work; a session that is launched anew gets another node"
            );
            Some(Claim::holds(Type::NodeDraining, "NodeDraining", message))
        }
    }
}

/// `Ready`, and `Reconciling` while it is being repaired. An endpoint was reached once; nothing observes it since.
fn readiness(view: &View) -> Vec<Claim> {
    let troubled = |trouble: &Trouble| {
        vec![
            Claim::new(Type::Ready, Status::False, &trouble.reason, &trouble.message),
            Claim::holds(Type::Reconciling, &trouble.reason, &trouble.message),
        ]
    };
    match &view.instance {
        Some((_, Health::Usable)) => vec![Claim::holds(Type::Ready, "InstanceReady", "the instance can be used")],
        Some((_, Health::Troubled(trouble))) => troubled(trouble),
        Some((_, Health::Coming | Health::Lost(_))) => troubled(&Trouble {
            reason: "InstanceNotReady".to_owned(),
            message: "the instance is not ready at the moment; it is kept".to_owned(),
        }),
        None if view.before.instance.is_some() => troubled(&Trouble {
            reason: "InstanceNotSeen".to_owned(),
            message: "the instance has not been seen; it counts as there until the API server says otherwise"
                .to_owned(),
        }),
        None => {
            vec![Claim::holds(Type::Ready, "EndpointReached", "the endpoint took a connection when the session began")]
        }
    }
}

/// Conditions that are announced when they begin.
const ANNOUNCED: [Type; 6] = [
    Type::EndingSoon,
    Type::LongRunning,
    Type::PolicyMissing,
    Type::WorkspaceMissing,
    Type::NodeDraining,
    Type::ClockSkew,
];

fn usable_notes(before: &SessionStatus, claims: &[Claim]) -> Vec<Note> {
    let began =
        |claim: &&Claim| ANNOUNCED.contains(&claim.type_) && !condition::is_true(&before.conditions, claim.type_);
    let announce = |claim: &Claim| Note {
        severity: Severity::Warning,
        reason: claim.type_.as_str().to_owned(),
        message: claim.message.clone(),
    };
    claims.iter().filter(began).map(announce).collect()
}

/// The Workspace that the session was launched from, where a hand took it from the status: the one of its name, unless the
/// instance is another's.
fn launched_from(world: &World, view: &View) -> Option<WorkspaceSummary> {
    let of_pod = view.instance.as_ref().and_then(|(pod, _)| pod.labels().get(WORKSPACE_UID_LABEL));
    let workspace = world.workspace.as_deref()?;
    of_pod.is_none_or(|uid| Some(uid) == workspace.uid().as_ref()).then(|| summary(workspace))
}

/// Where the instance listens. It is decided when the session begins: an edit of the Workspace moves no instance.
fn url(world: &World, view: &View) -> Option<String> {
    let of_pod = view.instance.as_ref().and_then(|(pod, _)| instance::url(pod));
    let of_endpoint = || {
        let spec = &world.workspace.as_ref()?.spec;
        spec.endpoint.as_ref()?.url(&spec.access)
    };
    of_pod.or_else(|| view.before.url.clone()).or_else(of_endpoint)
}

/// What every live phase says: the fields that do not change with it, and its conditions.
fn common(world: &World, view: &View, claims: Vec<Claim>, now: Instant) -> SessionStatus {
    let session: &Session = &world.session;
    let generation = session.metadata.generation;
    SessionStatus {
        reason: None,
        started_at: view.before.started_at.or_else(|| created(session)),
        workspace: view.before.workspace.clone().or_else(|| launched_from(world, view)),
        conditions: merge(&view.before.conditions, claims, generation, floor_second(now)),
        observed_generation: generation,
        ..view.before.clone()
    }
}

impl SessionStatus {
    fn with_message(self, message: String) -> Self {
        Self { message: Some(message), ..self }
    }
}
