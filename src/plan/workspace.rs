//! The planner of Workspaces: whether one can be launched, how many use it, and whether a one-off has served
//! its purpose. It never touches an instance: sessions own those.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use serde_json::Value;

use crate::api::condition::{self, Claim, Status, Type, merge};
use crate::api::session::Phase;
use crate::api::time::{Instant, floor_second, from_wire};
use crate::api::warm::WarmStatus;
use crate::api::workspace::{ReclaimPolicy, WorkspacePhase};
use crate::api::{Reason, TRACKING_KEYS, Workspace, WorkspaceStatus};
use crate::plan::child::Child;
use crate::plan::contract::Credential;
use crate::plan::hardening::Hardening;
use crate::plan::network::Fence;
use crate::plan::policy::PolicySource;
use crate::plan::pool::{self, Standing};
use crate::plan::{Note, Plan, Severity, pod, shorten, template};

/// What was observed of a Workspace and its sessions.
#[derive(Clone, Debug)]
pub struct World {
    /// The Workspace itself.
    pub workspace: Arc<Workspace>,
    /// How many live sessions hold a slot.
    pub holding: usize,
    /// How many live sessions wait for one.
    pub waiting: usize,
    /// The last end of a session of it that had become usable.
    pub last_end: Option<LastEnd>,
    /// Its policy.
    pub policy: PolicySource,
    /// What the API server last said of its template.
    pub trial: Trial,
    /// What the installation says of every instance.
    pub hardening: Arc<Hardening>,
    /// How the wall around its instances stands.
    pub fence: Fence,
    /// How the budget that protects them from evictions stands.
    pub budget: Child<PodDisruptionBudget>,
    /// The Secret of its instances, where this process has not made it.
    pub secret: Option<Credential>,
    /// What its template makes, as `pool::template_hash` says; nothing where it has none.
    pub hash: Option<String>,
    /// How its pool stands, if it has one.
    pub pool: Option<Standing>,
}

/// How the last session of a Workspace ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastEnd {
    /// When.
    pub at: Instant,
    /// In which phase.
    pub phase: Phase,
    /// And why.
    pub reason: Reason,
}

impl LastEnd {
    /// Whether it was a disconnect or a timeout, so that a one-off has served its purpose. A session that somebody
    /// cut off or that broke may be launched again.
    fn is_served(&self) -> bool {
        self.phase == Phase::Disconnected
            || matches!(self.reason, Reason::MaxDuration | Reason::CredentialExpired | Reason::MfaExpired)
    }
}

/// What the API server said of a template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trial {
    /// It was not asked about this generation.
    #[default]
    NotMade,
    /// It would accept the pod.
    Accepted,
    /// It refuses the pod for what it is, in these words.
    Refused(String),
    /// Something beside the template stands against the pod, in these words; worth another attempt at this time.
    Forbidden(Instant, String),
    /// It could not say; worth another attempt at this time.
    Undecided(Instant, String),
}

/// One thing to do about a Workspace.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make the NetworkPolicy, or put it in the place of the one whose resource version it has.
    EnsureNetworkPolicy(Box<NetworkPolicy>),
    /// The same of the PodDisruptionBudget.
    EnsureBudget(Box<PodDisruptionBudget>),
    /// Make the Secret of its instances, and see to it that it says this.
    EnsureSecret(Credential),
    /// Delete the PodDisruptionBudget, if it still has this uid.
    DeleteBudget {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// Ask the API server whether it would accept these objects.
    Try(Vec<Value>),
    /// Write the status, if it differs from what stands.
    Publish(Box<WorkspaceStatus>),
    /// Delete the Workspace, if it still has its uid and is as it was observed.
    Delete,
}

/// What to do about the Workspace in `world` at `now`.
pub fn decide(world: &World, now: Instant) -> Plan<Step> {
    let workspace = &world.workspace;
    let leaving = workspace.metadata.deletion_timestamp.is_some();
    if leaving && world.holding == 0 {
        return Plan { steps: Vec::new(), notes: Vec::new(), wake: None };
    }
    if is_served(world) && !leaving {
        let message = "its last session has ended and reclaimPolicy is Delete".to_owned();
        let note = Note { severity: Severity::Normal, reason: "Reclaimed".to_owned(), message };
        return Plan { steps: vec![Step::Delete], notes: vec![note], wake: None };
    }
    // First of all: nobody is launched before it stands, and everybody in an instance is behind it.
    let (policy, policy_again) = world.fence.due(now);
    if let Some(policy) = policy {
        let steps = vec![Step::EnsureNetworkPolicy(Box::new(policy.clone()))];
        return Plan { steps, notes: drift(world, policy), wake: None };
    }
    if leaving {
        return Plan { steps: Vec::new(), notes: Vec::new(), wake: policy_again };
    }
    let (budget, budget_again) = world.budget.due(now);
    if let Some(budget) = budget {
        let steps = vec![Step::EnsureBudget(Box::new(budget.clone()))];
        return Plan { steps, notes: Vec::new(), wake: None };
    }
    let verdict = verdict(world);
    let mut steps = Vec::new();
    if let Child::Unwanted { name, uid } = &world.budget {
        steps.push(Step::DeleteBudget { name: name.clone(), uid: uid.clone() });
    }
    // Those who are in an instance are to have the credentials of today, and so are those who will be given one that waits.
    let instances = world.holding + world.pool.as_ref().map_or(0, |pool| pool.replicas);
    steps.extend(world.secret.clone().filter(|_| instances > 0).map(Step::EnsureSecret));
    let pool_changes = world.pool.as_ref().and_then(|pool| pool.until);
    let mut wake = policy_again.into_iter().chain(budget_again).chain(pool_changes).min();
    if let (Some(at), Some(template)) = (verdict.ask_at(), &workspace.spec.template) {
        if at > now {
            wake = wake.into_iter().chain([at]).min();
        } else {
            steps.push(Step::Try(pod::for_dry_run(workspace, template, &world.hardening)));
        }
    }
    let before = workspace.status.clone().unwrap_or_default();
    let status = status(world, &before, &verdict, now);
    let notes = notes(&before, &status);
    if status != before {
        steps.push(Step::Publish(Box::new(status)));
    }
    Plan { steps, notes, wake }
}

/// An event when the policy stood for this very spec, and does not any more: by somebody's hand, or by other settings.
fn drift(world: &World, policy: &NetworkPolicy) -> Vec<Note> {
    let stood = applied(world).is_some_and(|applied| applied.status == Status::True);
    let what = if policy.metadata.resource_version.is_some() { "did not stand as it should" } else { "was gone" };
    let message = format!("NetworkPolicy {} {what}, and was put back", policy.name_any());
    let note = Note { severity: Severity::Warning, reason: "NetworkPolicyRestored".to_owned(), message };
    stood.then_some(note).into_iter().collect()
}

/// What the status says of the policy for this very generation.
fn applied(world: &World) -> Option<&condition::Condition> {
    let conditions = &world.workspace.status.as_ref()?.conditions;
    let applied = condition::find(conditions, Type::NetworkPolicyApplied)?;
    (applied.observed_generation == world.workspace.metadata.generation).then_some(applied)
}

/// What is known of the template.
enum Verdict {
    Valid(String),
    /// For what it is: only an edit mends it.
    Invalid(String),
    /// For what stands beside it: to be asked again at this time.
    Forbidden(Instant, String),
    /// To be asked at this time, with what was said the last time.
    Untried(Instant, Option<String>),
}

impl Verdict {
    /// When the API server is to be asked, if it is.
    fn ask_at(&self) -> Option<Instant> {
        match self {
            Self::Valid(_) | Self::Invalid(_) => None,
            Self::Forbidden(at, _) | Self::Untried(at, _) => Some(*at),
        }
    }
}

fn verdict(world: &World) -> Verdict {
    let Some(template) = &world.workspace.spec.template else {
        return Verdict::Valid("an endpoint needs no template".to_owned());
    };
    if let Err(problems) = template::check(template, &world.hardening) {
        return Verdict::Invalid(problems);
    }
    match &world.trial {
        Trial::Accepted => Verdict::Valid(accepted(&world.hardening)),
        Trial::Refused(why) => Verdict::Invalid(format!("{}: {why}", refused(&world.hardening))),
        Trial::Forbidden(at, why) => {
            Verdict::Forbidden(*at, format!("the API server does not admit what the template makes: {why}"))
        }
        Trial::Undecided(at, why) => Verdict::Untried(*at, Some(why.clone())),
        Trial::NotMade => remembered(world),
    }
}

/// The words for a template that the API server accepts, with what the installation adds to it: a verdict counts for the
/// settings that it was given under.
pub(super) fn accepted(hardening: &Hardening) -> String {
    format!("the API server accepts what the template makes with {}", hardening.words())
}

/// How the words begin for a template that the API server refuses. What the installation adds is told where somebody set it.
fn refused(hardening: &Hardening) -> String {
    let words = "the API server refuses what the template makes";
    if *hardening == Hardening::default() { words.to_owned() } else { format!("{words} with {}", hardening.words()) }
}

/// Reason of the condition `TemplateValid` of a template that only an edit can mend.
const REFUSED: &str = "Refused";
/// Reason of the condition `TemplateValid` of a template that something beside it stands against.
const FORBIDDEN: &str = "Forbidden";

/// What the status says of this very generation, or of one with the same template, under the settings of today: a restart does
/// not ask again about what cannot have changed.
fn remembered(world: &World) -> Verdict {
    let (workspace, hardening) = (&world.workspace, &world.hardening);
    let said = workspace
        .status
        .as_ref()
        .and_then(|status| Some((condition::find(&status.conditions, Type::TemplateValid)?, &status.template_hash)))
        .filter(|(valid, of)| {
            let same = of.is_some() && **of == world.hash;
            same || valid.observed_generation == workspace.metadata.generation
        })
        .map(|(valid, _)| valid);
    match said {
        Some(valid) if valid.status == Status::True && valid.message == accepted(hardening) => {
            Verdict::Valid(valid.message.clone())
        }
        Some(valid)
            if valid.status == Status::False
                && valid.reason == REFUSED
                && valid.message.starts_with(&format!("{}: ", refused(hardening))) =>
        {
            Verdict::Invalid(valid.message.clone())
        }
        Some(_) | None => Verdict::Untried(Instant::MIN_UTC, None),
    }
}

/// Whether a one-off has been used and nobody uses or awaits it any more. What a tool tracks stays: the tool
/// would create it again.
fn is_served(world: &World) -> bool {
    let workspace = &world.workspace;
    let created = workspace.metadata.creation_timestamp.as_ref().map(from_wire);
    let used = world.last_end.is_some_and(|end| end.is_served() && created.is_none_or(|created| end.at >= created));
    let tracked = TRACKING_KEYS
        .iter()
        .any(|key| workspace.labels().contains_key(*key) || workspace.annotations().contains_key(*key));
    workspace.spec.reclaim_policy == ReclaimPolicy::Delete && used && world.holding + world.waiting == 0 && !tracked
}

fn status(world: &World, before: &WorkspaceStatus, verdict: &Verdict, now: Instant) -> WorkspaceStatus {
    let spec = &world.workspace.spec;
    let slots = usize::try_from(spec.max_sessions).unwrap_or(0);
    let template = match verdict {
        Verdict::Valid(why) => Claim::holds(Type::TemplateValid, "Accepted", why),
        Verdict::Invalid(why) => Claim::new(Type::TemplateValid, Status::False, REFUSED, why),
        Verdict::Forbidden(_, why) => Claim::new(Type::TemplateValid, Status::False, FORBIDDEN, why),
        Verdict::Untried(_, said) => {
            let why = said.as_deref().unwrap_or("the API server has not been asked yet");
            Claim::new(Type::TemplateValid, Status::Unknown, "NotTried", why)
        }
    };
    let fence = fence(world);
    let unfenced = fence
        .as_ref()
        .filter(|fence| fence.status == Status::False)
        .map(|fence| Claim::new(Type::Ready, Status::False, "NetworkPolicyMissing", &fence.message));
    let (phase, ready) = match (verdict, policy_problem(&world.policy).or(unfenced)) {
        (Verdict::Invalid(why) | Verdict::Forbidden(_, why), _) => {
            (WorkspacePhase::Unavailable, Claim::new(Type::Ready, Status::False, "TemplateInvalid", why))
        }
        (_, Some(problem)) => (WorkspacePhase::Unavailable, problem),
        _ if spec.maintenance => (
            WorkspacePhase::Maintenance,
            Claim::holds(Type::Ready, "Maintenance", "in maintenance: nothing new is launched"),
        ),
        _ if world.holding >= slots => {
            (WorkspacePhase::InUse, Claim::holds(Type::Ready, "InUse", "all slots are taken"))
        }
        (Verdict::Untried(..), None) => (
            WorkspacePhase::Available,
            Claim::new(Type::Ready, Status::Unknown, "NotTried", "the template has not been tried yet"),
        ),
        (Verdict::Valid(_), None) => {
            (WorkspacePhase::Available, Claim::holds(Type::Ready, "Available", "a slot is free"))
        }
    };
    let mut claims = vec![template];
    claims.extend(fence);
    claims.extend(unprotected(world));
    claims.extend(world.pool.as_ref().map(filled));
    if ready.status == Status::False {
        claims.push(Claim::holds(Type::Stalled, &ready.reason, &ready.message));
    }
    claims.push(ready);
    let generation = world.workspace.metadata.generation;
    WorkspaceStatus {
        phase: Some(phase),
        active_sessions: Some(i32::try_from(world.holding).unwrap_or(i32::MAX)),
        template_hash: world.hash.clone().filter(|_| !matches!(verdict, Verdict::Untried(..))),
        warm: world.pool.as_ref().map(|pool| WarmStatus {
            ready: i32::try_from(pool.ready).unwrap_or(i32::MAX),
            replicas: i32::try_from(pool.replicas).unwrap_or(i32::MAX),
            desired: i32::try_from(pool.desired).unwrap_or(i32::MAX),
            selector: pool::selector(&world.workspace),
        }),
        conditions: merge(&before.conditions, claims, generation, floor_second(now)),
        observed_generation: generation,
    }
}

/// What is claimed of the wall. That it stands is all that is known: nobody tells whether the cluster enforces it.
fn fence(world: &World) -> Option<Claim> {
    let wrong = |reason: &str, why: &str| Claim::new(Type::NetworkPolicyApplied, Status::False, reason, why);
    match &world.fence {
        Fence::Unneeded | Fence::Unwanted { .. } => None,
        Fence::Stands => Some(Claim::holds(
            Type::NetworkPolicyApplied,
            "Applied",
            "the NetworkPolicy of its instances stands; whether it is enforced, the cluster does not say",
        )),
        Fence::Wanting { failed: Some((_, why)), .. } => {
            Some(wrong("NotApplied", &format!("the NetworkPolicy of its instances cannot be applied: {why}")))
        }
        Fence::Wanting { failed: None, .. } => {
            Some(wrong("NotApplied", "the NetworkPolicy of its instances is about to be applied"))
        }
        Fence::Going => Some(wrong(
            "BeingDeleted",
            "the NetworkPolicy of its instances is being deleted, and a finalizer holds it: once that is removed, it is made anew",
        )),
        Fence::Impossible(why) => Some(wrong("Invalid", why)),
    }
}

/// Whether as many instances wait as are wanted.
fn filled(pool: &Standing) -> Claim {
    match &pool.lack {
        Some((reason, message)) => Claim::new(Type::WarmPoolFilled, Status::False, *reason, shorten(message)),
        None => Claim::holds(Type::WarmPoolFilled, "Filled", format!("{} of {} are ready", pool.ready, pool.desired)),
    }
}

/// That the instances are not protected as the Workspace says, and why.
fn unprotected(world: &World) -> Option<Claim> {
    let why = match &world.budget {
        Child::Wanting { failed: Some((_, why)), .. } => format!("the PodDisruptionBudget cannot be applied: {why}"),
        Child::Going => "the PodDisruptionBudget is being deleted, and a finalizer holds it".to_owned(),
        Child::Impossible(why) => why.clone(),
        Child::Wanting { failed: None, .. } | Child::Unneeded | Child::Stands | Child::Unwanted { .. } => return None,
    };
    Some(Claim::holds(Type::Unprotected, "BudgetNotApplied", why))
}

/// What is wrong with the policy, as the condition that says so.
fn policy_problem(policy: &PolicySource) -> Option<Claim> {
    let (reason, message) = match policy {
        PolicySource::Missing(name) => (
            "PolicyNotFound",
            format!("spec.policyRef names SessionPolicy {name}, which does not exist: create it, or name another"),
        ),
        PolicySource::Unreadable(name, why) => ("PolicyInvalid", format!("SessionPolicy {name} cannot be read: {why}")),
        PolicySource::Found(..) | PolicySource::BuiltIn | PolicySource::Unknown => return None,
    };
    Some(Claim::new(Type::Ready, Status::False, reason, message))
}

/// An event when a Workspace stops being launchable as it is written.
fn notes(before: &WorkspaceStatus, after: &WorkspaceStatus) -> Vec<Note> {
    let stalled = condition::find(&after.conditions, Type::Stalled);
    let told = condition::find(&before.conditions, Type::Stalled);
    stalled
        .filter(|stalled| told.is_none_or(|told| told.message != stalled.message))
        .map(|stalled| Note {
            severity: Severity::Warning,
            reason: stalled.reason.clone(),
            message: stalled.message.clone(),
        })
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests;
