//! A plan: what the people do, what befalls the operator, and when. Owns the names of plans, by which each is replayed;
//! what they mean on the wire is `fate`'s.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use berth_simulation::apiserver::call::{Call, Verb};
use berth_simulation::apiserver::refusal::Refusal;

/// What the people do meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Workload {
    /// Launched, ready, disconnected by its user; with a volume that is kept.
    Launch,
    /// Launched, left alone, ended for idleness.
    Idle,
    /// Launched, ended by its maximum duration.
    MaxDuration,
    /// Deleted while it is provisioned.
    Delete,
    /// A workspace's stop, with a live session on it.
    Stop,
    /// Two launches at once, of which one gets the slot.
    Race,
    /// The template is edited under a live session.
    Template,
    /// The operator is replaced while objects of its are stored.
    Upgrade,
    /// Two launches at once onto two pods that wait, and their refill.
    Warm,
    /// A pool that is made larger, edited and given up, each beside a launch.
    Pool,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Launch,
        Self::Idle,
        Self::MaxDuration,
        Self::Delete,
        Self::Stop,
        Self::Race,
        Self::Template,
        Self::Upgrade,
        Self::Warm,
        Self::Pool,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::Idle => "idle",
            Self::MaxDuration => "max-duration",
            Self::Delete => "delete",
            Self::Stop => "stop",
            Self::Race => "race",
            Self::Template => "template",
            Self::Upgrade => "upgrade",
            Self::Warm => "warm",
            Self::Pool => "pool",
        }
    }
}

/// Whose watch a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Watched {
    /// Sessions.
    Sessions,
    /// Workspaces.
    Workspaces,
    /// SessionPolicies.
    Policies,
    /// Pods.
    Pods,
    /// NetworkPolicies.
    NetworkPolicies,
    /// All of them at once.
    Everything,
}

impl Watched {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Sessions, Self::Workspaces, Self::Policies, Self::Pods, Self::NetworkPolicies, Self::Everything];

    fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Workspaces => "workspaces",
            Self::Policies => "sessionpolicies",
            Self::Pods => "pods",
            Self::NetworkPolicies => "networkpolicies",
            Self::Everything => "everything",
        }
    }

    /// Whether a watch of this kind is meant.
    pub fn covers(self, plural: &str) -> bool {
        self == Self::Everything || self.name() == plural
    }
}

/// An answer that says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fail {
    /// 403.
    Forbidden,
    /// 409: it has changed.
    Conflict,
    /// 409: it is there.
    Exists,
    /// 410: no such revision any more.
    Gone,
    /// 410: the list's continuation has expired.
    Expired,
    /// 422.
    Invalid,
    /// 429, with the time after which to come again.
    Throttled,
    /// 500.
    Internal,
    /// 503.
    Unavailable,
    /// 504.
    Timeout,
}

impl Fail {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Forbidden,
        Self::Conflict,
        Self::Exists,
        Self::Gone,
        Self::Expired,
        Self::Invalid,
        Self::Throttled,
        Self::Internal,
        Self::Unavailable,
        Self::Timeout,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Conflict => "conflict",
            Self::Exists => "exists",
            Self::Gone => "gone",
            Self::Expired => "expired",
            Self::Invalid => "invalid",
            Self::Throttled => "throttled",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
        }
    }

    /// The answer to this request.
    pub fn refusal(self, call: &Call) -> Refusal {
        let (resource, name) = (call.kind.resource(), call.name.as_str());
        match self {
            Self::Forbidden => Refusal::forbidden(&resource, name, "exceeded quota: planned"),
            Self::Conflict => Refusal::conflict(&resource, name, "the object has been modified"),
            Self::Exists => Refusal::already_exists(&resource, name),
            Self::Gone => Refusal::new(410, "Gone", "too old resource version"),
            Self::Expired => Refusal::expired("the provided continue parameter is too old"),
            Self::Invalid => Refusal::invalid(&call.kind.kind, &call.kind.group, name, &[]),
            Self::Throttled => Refusal::throttled(),
            Self::Internal => Refusal::internal("etcdserver: request timed out"),
            Self::Unavailable => Refusal::unavailable(),
            Self::Timeout => Refusal::timeout(),
        }
    }
}

/// A kind of request: its verb, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask {
    /// As RBAC writes it.
    pub verb: String,
    /// Such as `pods`, `sessions.status`, and `pods.dry` for one that is only tried.
    pub about: String,
}

impl Ask {
    /// What this request is.
    pub fn of(call: &Call) -> Self {
        let plural = &call.kind.plural;
        let about = match (call.is_dry, call.subresource.as_str()) {
            (true, _) => format!("{plural}.dry"),
            (false, "") => plural.clone(),
            (false, subresource) => format!("{plural}.{subresource}"),
        };
        Self { verb: call.verb.as_str().to_owned(), about }
    }
}

/// What befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Nothing: what is to come out of the workload.
    Nothing,
    /// The process is killed before its write is done.
    KillBefore,
    /// The process is killed after its write was done, without an answer.
    KillAfter,
    /// The events of a kind come late.
    Hold(Watched),
    /// After a restart an older list comes first, and what happened since comes late.
    Travel(Watched),
    /// The events of a kind are lost, its watch is cut, and its history is compacted.
    Unobserved(Watched),
    /// Requests are answered by this, so many times.
    Refuse(Fail, u32),
    /// The write is done, and the connection breaks.
    Reset,
    /// The write is done, and 504 is answered.
    TimedOut,
    /// The write is done twice.
    Twice,
    /// The write is given up by who sent it, and is done after newer ones.
    Late,
    /// The leader is stopped while it renews its lease, and goes on at a write of its follower.
    Stopped,
    /// The leader is stopped with its write in flight, past its lease, and goes on after its follower has written.
    InFlight,
    /// The lease is deleted.
    LeaseDeleted,
    /// Two operators that do not know of each other.
    TwoLeaders,
}

/// A burst of refusals.
pub const BURST: u32 = 10;

impl Action {
    /// What it is called in a plan's name.
    fn name(self) -> String {
        match self {
            Self::Nothing => "nothing".to_owned(),
            Self::KillBefore => "kill-before".to_owned(),
            Self::KillAfter => "kill-after".to_owned(),
            Self::Hold(watched) => format!("hold-{}", watched.name()),
            Self::Travel(watched) => format!("travel-{}", watched.name()),
            Self::Unobserved(watched) => format!("unobserved-{}", watched.name()),
            Self::Refuse(fail, 1) => fail.name().to_owned(),
            Self::Refuse(fail, times) => format!("{}-x{times}", fail.name()),
            Self::Reset => "reset".to_owned(),
            Self::TimedOut => "timed-out".to_owned(),
            Self::Twice => "twice".to_owned(),
            Self::Late => "late".to_owned(),
            Self::Stopped => "stopped".to_owned(),
            Self::InFlight => "in-flight".to_owned(),
            Self::LeaseDeleted => "lease-deleted".to_owned(),
            Self::TwoLeaders => "two-leaders".to_owned(),
        }
    }

    fn all() -> Vec<Self> {
        let plain = [
            Self::Nothing,
            Self::KillBefore,
            Self::KillAfter,
            Self::Reset,
            Self::TimedOut,
            Self::Twice,
            Self::Late,
            Self::Stopped,
            Self::InFlight,
            Self::LeaseDeleted,
            Self::TwoLeaders,
        ];
        let watched = Watched::ALL.into_iter().flat_map(|it| [Self::Hold(it), Self::Travel(it), Self::Unobserved(it)]);
        let fails = Fail::ALL.into_iter().flat_map(|fail| [Self::Refuse(fail, 1), Self::Refuse(fail, BURST)]);
        plain.into_iter().chain(watched).chain(fails).collect()
    }

    /// The suite that it belongs to.
    pub fn suite(self) -> Suite {
        match self {
            Self::Nothing => Suite::Undisturbed,
            Self::KillBefore | Self::KillAfter => Suite::Intermediate,
            Self::Hold(_) | Self::Travel(_) => Suite::Stale,
            Self::Unobserved(_) => Suite::Unobserved,
            Self::Refuse(..) => Suite::Errors,
            Self::Reset | Self::TimedOut | Self::Twice | Self::Late => Suite::Unknown,
            Self::Stopped | Self::InFlight | Self::LeaseDeleted | Self::TwoLeaders => Suite::Leadership,
        }
    }

    /// Whether two operators run.
    pub fn takes_two(self) -> bool {
        self.suite() == Suite::Leadership
    }
}

/// Plans of one sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suite {
    /// No faults.
    Undisturbed,
    /// A process dies between two writes.
    Intermediate,
    /// It sees the past.
    Stale,
    /// It does not see what happened.
    Unobserved,
    /// It is told no.
    Errors,
    /// It does not know what became of a write.
    Unknown,
    /// It leads no more.
    Leadership,
}

impl Suite {
    /// Those with faults.
    pub const ALL: [Self; 6] =
        [Self::Intermediate, Self::Stale, Self::Unobserved, Self::Errors, Self::Unknown, Self::Leadership];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Undisturbed => "undisturbed",
            Self::Intermediate => "intermediate",
            Self::Stale => "stale",
            Self::Unobserved => "unobserved",
            Self::Errors => "errors",
            Self::Unknown => "unknown",
            Self::Leadership => "leadership",
        }
    }
}

/// When it befalls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    /// At the write of this number. Leases and events are not counted: they come when they come.
    Write(u32),
    /// At requests of this kind.
    Asked(Ask),
}

/// One plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Plan {
    /// What the people do.
    pub workload: Workload,
    /// What befalls.
    pub action: Action,
    /// When.
    pub trigger: Trigger,
}

impl Plan {
    /// The plan without a fault.
    pub fn undisturbed(workload: Workload) -> Self {
        Self { workload, action: Action::Nothing, trigger: Trigger::Write(0) }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/", self.workload.name(), self.action.name())?;
        match &self.trigger {
            Trigger::Write(number) => write!(formatter, "{number}"),
            Trigger::Asked(Ask { verb, about }) => write!(formatter, "{verb}:{about}"),
        }
    }
}

impl FromStr for Plan {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let [workload, action, trigger] = text.split('/').collect::<Vec<_>>()[..] else {
            bail!("`{text}` is no plan: write it as `idle/kill-after/7`; --list has them all");
        };
        let workload = Workload::ALL.into_iter().find(|it| it.name() == workload);
        let action = Action::all().into_iter().find(|it| it.name() == action);
        let trigger = match trigger.split_once(':') {
            Some((verb, about)) => Trigger::Asked(Ask { verb: verb.to_owned(), about: about.to_owned() }),
            None => Trigger::Write(trigger.parse().with_context(|| format!("`{trigger}` is no number of a write"))?),
        };
        let (Some(workload), Some(action)) = (workload, action) else {
            bail!("`{text}` is no plan: --list has them all");
        };
        Ok(Self { workload, action, trigger })
    }
}

/// Whether this request is counted as a write: one that changes objects, or tries to. Leases and events come when they
/// come.
pub fn counts(call: &Call) -> bool {
    let reads = matches!(call.verb, Verb::Get | Verb::List | Verb::Watch);
    !reads && !["leases", "events"].contains(&call.kind.plural.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plans_name_is_the_plan() {
        for action in Action::all() {
            let trigger = match action {
                Action::Refuse(..) => {
                    Trigger::Asked(Ask { verb: "patch".to_owned(), about: "sessions.status".to_owned() })
                }
                _ => Trigger::Write(7),
            };
            let plan = Plan { workload: Workload::MaxDuration, action, trigger };
            assert_eq!(plan.to_string().parse::<Plan>().ok(), Some(plan));
        }
        assert_eq!(
            "idle/kill-after/7".parse::<Plan>().map(|plan| plan.to_string()).ok().as_deref(),
            Some("idle/kill-after/7")
        );
    }

    #[test]
    fn what_is_no_plan_is_refused() {
        for text in ["", "idle", "idle/kill-after", "idle/kill-after/x", "sleep/kill-after/1", "idle/pat/1"] {
            assert!(text.parse::<Plan>().is_err(), "{text}");
        }
    }
}
