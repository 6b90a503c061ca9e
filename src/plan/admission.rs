//! Who may launch: what keeps a Pending session waiting, and whose turn it is. Owns the order of the queue
//! and the words for each wait; not what happens after a slot was given.

use std::collections::HashSet;

use crate::api::condition::{self, Condition, Status, Type};
use crate::api::policy::OnExceeded;
use crate::api::time::Instant;
use crate::api::workspace::Template;
use crate::plan::Severity;
use crate::plan::limit::{AT_LIMIT, DISPLACING, Limit};
use crate::plan::template;

/// The other live sessions of the same Workspace. Of those that hold a slot the number is enough, but where volumes are a user's alone:
/// there may be thousands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rivals {
    /// How many hold a slot.
    pub holding: usize,
    /// `spec.user.id` of those, where the Workspace keeps volumes for each user.
    pub holders: HashSet<String>,
    /// Those that wait.
    pub waiting: Vec<Rival>,
}

/// Another session of the same Workspace that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// When it was created: its place in the queue, together with its uid.
    pub created: Instant,
    /// Its uid.
    pub uid: String,
    /// `spec.user.id`.
    pub user: String,
    /// Whether it waits for something of its own user's, volumes or a limit: it takes no slot until then, and holds nobody up.
    pub aside: bool,
}

/// Reason of the condition `Admitted` of who waits for volumes.
const VOLUMES_IN_USE: &str = "VolumesInUse";

/// Whether a session with these conditions waits for something of its own user's, by its own word: for volumes, or at a limit.
pub fn is_aside(conditions: &[Condition]) -> bool {
    condition::find(conditions, Type::Admitted)
        .is_some_and(|it| it.status == Status::False && [VOLUMES_IN_USE, AT_LIMIT].contains(&it.reason.as_str()))
}

/// Why a session waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocker {
    /// The admission policies do not stand: nobody could say who launches.
    Unguarded(String),
    /// There is no such Workspace.
    WorkspaceNotFound(String),
    /// The Workspace stands and cannot be read, for this reason.
    WorkspaceUnreadable(String, String),
    /// The Workspace names a policy that does not exist.
    PolicyNotFound(String),
    /// The policy that the session was launched under is gone.
    PolicyGone(String),
    /// The policy cannot be read.
    PolicyInvalid(String),
    /// The template cannot be used.
    TemplateInvalid(String),
    /// The API server has not said yet what it thinks of the template.
    TemplateUntried,
    /// The NetworkPolicy of the Workspace does not stand; with why, where that is known.
    Unfenced(Option<String>),
    /// The key is not known from which the instance's credential is made, for this reason.
    Unkeyed(String),
    /// The Workspace is in maintenance.
    Maintenance,
    /// The user's volumes are held by another session, or by a pod that is still going.
    VolumesInUse(String),
    /// The user has as many sessions as the policy lets them have, and one of them may have to make way.
    AtLimit(Limit),
    /// All slots are taken, or promised to those who came before.
    NoSlot(i32),
}

impl Blocker {
    /// One word for programs: the reason of the condition `Admitted`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unguarded(_) => "AdmissionPolicyMissing",
            Self::WorkspaceNotFound(_) => "WorkspaceNotFound",
            Self::WorkspaceUnreadable(..) => "WorkspaceUnreadable",
            Self::PolicyNotFound(_) | Self::PolicyGone(_) => "PolicyNotFound",
            Self::PolicyInvalid(_) => "PolicyInvalid",
            Self::TemplateInvalid(_) => "TemplateInvalid",
            Self::TemplateUntried => "TemplateUntried",
            Self::Unfenced(_) => "NetworkPolicyMissing",
            Self::Unkeyed(_) => "InstanceKeyUnknown",
            Self::Maintenance => "Maintenance",
            Self::VolumesInUse(_) => VOLUMES_IN_USE,
            Self::AtLimit(Limit { on_exceeded: OnExceeded::Reject, .. }) => AT_LIMIT,
            Self::AtLimit(Limit { on_exceeded: OnExceeded::EndOldest, .. }) => DISPLACING,
            Self::NoSlot(_) => "NoSlot",
        }
    }

    /// A sentence for people who wait.
    pub fn message(&self) -> String {
        format!("waiting for {}", self.cause())
    }

    /// What stands in the way, for people.
    pub fn cause(&self) -> String {
        match self {
            Self::Unguarded(why) => format!("Berth's admission policies: {why}"),
            Self::WorkspaceNotFound(name) => format!("Workspace {name}: it does not exist in this namespace"),
            Self::WorkspaceUnreadable(name, why) => format!("Workspace {name}: {why}"),
            Self::PolicyNotFound(name) => {
                format!("SessionPolicy {name}: the Workspace names it, and it does not exist in this namespace")
            }
            Self::PolicyGone(name) => format!("SessionPolicy {name}: it is gone"),
            Self::PolicyInvalid(why) => format!("a policy that can be read: {why}"),
            Self::TemplateInvalid(why) => format!("a valid template: {why}"),
            Self::TemplateUntried => "the API server's word on the template".to_owned(),
            Self::Unfenced(None) => "the NetworkPolicy of the Workspace".to_owned(),
            Self::Unfenced(Some(why)) => format!("the NetworkPolicy of the Workspace: {why}"),
            Self::Unkeyed(why) => format!("the key from which credentials of instances are made: {why}"),
            Self::Maintenance => "the end of the Workspace's maintenance".to_owned(),
            Self::VolumesInUse(holder) => {
                format!("your volumes of this Workspace: {holder} still holds them")
            }
            Self::AtLimit(Limit { per_user, on_exceeded: OnExceeded::Reject }) => {
                format!("the end of another session of yours: your policy lets you have {per_user} at a time")
            }
            Self::AtLimit(Limit { per_user, on_exceeded: OnExceeded::EndOldest }) => {
                format!("an older session of yours to make way: your policy lets you have {per_user} at a time")
            }
            Self::NoSlot(1) => "the slot: the Workspace takes one session at a time".to_owned(),
            Self::NoSlot(slots) => format!("a slot: the Workspace takes {slots} sessions at a time"),
        }
    }

    /// Whether somebody should look, or waiting is all there is to do.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Unguarded(_)
            | Self::WorkspaceNotFound(_)
            | Self::WorkspaceUnreadable(..)
            | Self::PolicyNotFound(_)
            | Self::PolicyGone(_)
            | Self::PolicyInvalid(_)
            | Self::TemplateInvalid(_)
            | Self::Unfenced(Some(_))
            | Self::Unkeyed(_) => Severity::Warning,
            Self::TemplateUntried
            | Self::Unfenced(None)
            | Self::Maintenance
            | Self::VolumesInUse(_)
            | Self::AtLimit(_)
            | Self::NoSlot(_) => Severity::Normal,
        }
    }
}

/// The session that asks.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// When it was created.
    pub created: Instant,
    /// Its uid.
    pub uid: &'a str,
    /// `spec.user.id`.
    pub user: &'a str,
}

/// Whether `candidate` may have a slot of `slots`: those who hold one count, and so do those before it in the
/// queue, except such as wait for volumes of their own.
///
/// # Errors
/// What it waits for.
pub fn turn(candidate: Candidate<'_>, rivals: &Rivals, slots: i32, template: Option<&Template>) -> Result<(), Blocker> {
    let exclusive_user = template.is_some_and(template::retains);
    let holds = |user: &str| exclusive_user && rivals.holders.contains(user);
    if holds(candidate.user) {
        return Err(Blocker::VolumesInUse("another session of yours".to_owned()));
    }
    let before = |rival: &&Rival| (rival.created, rival.uid.as_str()) < (candidate.created, candidate.uid);
    let promised = rivals.waiting.iter().filter(before).filter(|rival| !(rival.aside || holds(&rival.user))).count();
    let slots_taken = i32::try_from(rivals.holding + promised).unwrap_or(i32::MAX);
    if slots_taken < slots { Ok(()) } else { Err(Blocker::NoSlot(slots)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use proptest::prelude::*;

    fn rival(second: i64, uid: &str) -> Rival {
        Rival { created: at(second), uid: uid.to_owned(), user: uid.to_owned(), aside: false }
    }

    fn waiting(rivals: impl Into<Vec<Rival>>) -> Rivals {
        Rivals { waiting: rivals.into(), ..Rivals::default() }
    }

    fn at(second: i64) -> Instant {
        DateTime::from_timestamp(second, 0).unwrap_or_default()
    }

    fn candidate(second: i64, uid: &str) -> Candidate<'_> {
        Candidate { created: at(second), uid, user: uid }
    }

    #[test]
    fn the_queue_goes_by_creation_and_then_by_uid() {
        let others = waiting([rival(5, "b")]);
        assert_eq!(turn(candidate(5, "a"), &others, 1, None), Ok(()));
        assert_eq!(turn(candidate(5, "c"), &others, 1, None), Err(Blocker::NoSlot(1)));
        assert_eq!(turn(candidate(4, "c"), &others, 1, None), Ok(()));
    }

    #[test]
    fn a_late_arrival_with_an_early_time_does_not_displace_a_holder() {
        let held = Rivals { holding: 1, ..Rivals::default() };
        assert_eq!(turn(candidate(1, "a"), &held, 1, None), Err(Blocker::NoSlot(1)));
        assert_eq!(turn(candidate(1, "a"), &held, 2, None), Ok(()));
    }

    #[test]
    fn who_waits_for_volumes_of_their_own_is_passed_until_they_are_free() {
        let aside = waiting([Rival { aside: true, ..rival(1, "a") }]);
        assert_eq!(turn(candidate(5, "b"), &aside, 1, None), Ok(()));
        assert_eq!(turn(candidate(5, "b"), &waiting([rival(1, "a")]), 1, None), Err(Blocker::NoSlot(1)));
        let says = |reason| {
            condition::merge(&[], vec![condition::Claim::new(Type::Admitted, Status::False, reason, "")], None, at(1))
        };
        assert!(is_aside(&says(Blocker::VolumesInUse(String::new()).reason())));
        assert!(!is_aside(&says(Blocker::NoSlot(1).reason())));
    }

    proptest! {
        #[test]
        fn granting_turns_one_by_one_never_gives_more_slots_than_there_are(times in proptest::collection::vec(0i64..5, 1..12), slots in 1i32..4) {
            let all: Vec<Rival> = times.iter().enumerate().map(|(index, time)| rival(*time, &format!("u{index}"))).collect();
            let mut holds = vec![false; all.len()];
            // Whatever the order in which the sessions are looked at.
            for round in 0..2 {
                for index in 0..all.len() {
                    let me = &all[index];
                    let waits = |(other, holds): &(&Rival, &bool)| other.uid != me.uid && !**holds;
                    let others = Rivals {
                        holding: holds.iter().filter(|holds| **holds).count(),
                        waiting: all.iter().zip(&holds).filter(waits).map(|(other, _)| other.clone()).collect(),
                        ..Rivals::default()
                    };
                    let asks = Candidate { created: me.created, uid: &me.uid, user: &me.user };
                    if !holds[index] && turn(asks, &others, slots, None).is_ok() {
                        holds[index] = true;
                    }
                }
                let holders = i32::try_from(holds.iter().filter(|holds| **holds).count()).unwrap_or(i32::MAX);
                prop_assert!(holders <= slots);
                prop_assert!(round == 0 || holders == slots.min(i32::try_from(all.len()).unwrap_or(i32::MAX)));
            }
        }
    }
}
