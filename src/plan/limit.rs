//! How many sessions one user may have under a policy: who may be admitted, and who makes way. Owns the order in which both
//! are chosen; not what an end does.

use crate::api::condition::{self, Status, Type};
use crate::api::policy::{LimitRules, OnExceeded};
use crate::api::session::Phase;
use crate::api::time::Instant;
use crate::api::{Session, SessionStatus};

/// Reason of the condition `Admitted` of who waits at a limit for an end.
pub const AT_LIMIT: &str = "LimitExceeded";
/// Reason of the condition `Admitted` of who waits for an older session that is made to end. It keeps its place in the queue of
/// its Workspace: the other does not end for nothing.
pub const DISPLACING: &str = "OldestEnding";

/// The limit of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How many sessions of one user may hold a slot at once.
    pub per_user: i32,
    /// What becomes of one too many.
    pub on_exceeded: OnExceeded,
}

impl Limit {
    /// The limit that a policy has, if it has one.
    pub fn of(rules: Option<&LimitRules>) -> Option<Self> {
        let rules = rules?;
        Some(Self { per_user: rules.sessions_per_user?, on_exceeded: rules.on_exceeded.unwrap_or_default() })
    }
}

/// How a session of the user stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It holds a slot, and nobody uses it.
    Idle,
    /// It holds a slot.
    InUse,
    /// It waits for this limit alone.
    AtLimit,
    /// Nobody has looked at it yet.
    New,
    /// It waits for something else.
    Elsewhere,
}

impl Standing {
    /// How a live session stands that holds a slot or does not.
    pub fn of(status: Option<&SessionStatus>, admitted: bool) -> Self {
        let said = status.and_then(|status| condition::find(&status.conditions, Type::Admitted));
        match (admitted, said) {
            (true, _) if status.and_then(|status| status.phase) == Some(Phase::Idle) => Self::Idle,
            (true, _) => Self::InUse,
            (false, None) => Self::New,
            (false, Some(said))
                if said.status == Status::False && [AT_LIMIT, DISPLACING].contains(&said.reason.as_str()) =>
            {
                Self::AtLimit
            }
            (false, Some(_)) => Self::Elsewhere,
        }
    }
}

/// A live session of the user under the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// When it was created.
    pub created: Instant,
    /// Its uid.
    pub uid: String,
    /// How it stands.
    pub standing: Standing,
}

impl Own {
    /// `session` itself, which holds a slot or does not.
    pub fn of(session: &Session, created: Instant, uid: String, admitted: bool) -> Self {
        Self { created, uid, standing: Standing::of(session.status.as_ref(), admitted) }
    }

    fn place(&self) -> (Instant, &str) {
        (self.created, &self.uid)
    }
}

/// Whether `candidate` may be admitted beside `others`: those who hold a slot count, and those before it who wait for nothing
/// else.
pub fn admits(candidate: &Own, others: &[Own], limit: Limit) -> bool {
    let holds = |own: &&Own| own.standing <= Standing::InUse;
    let claims =
        |own: &&Own| matches!(own.standing, Standing::AtLimit | Standing::New) && own.place() < candidate.place();
    let taken = others.iter().filter(|own| holds(own) || claims(own)).count();
    i32::try_from(taken).unwrap_or(i32::MAX) < limit.per_user
}

/// Whether `session`, which holds a slot, has to make way for one of `others`: the idle ones first, then the oldest.
pub fn makes_way(session: &Own, others: &[Own], limit: Limit) -> bool {
    if limit.on_exceeded != OnExceeded::EndOldest || session.standing > Standing::InUse {
        return false;
    }
    let waiting = others.iter().filter(|own| own.standing == Standing::AtLimit).count();
    let holders = others.iter().filter(|own| own.standing <= Standing::InUse);
    let goes_first = |own: &&Own| (own.standing, own.place()) < (session.standing, session.place());
    let (count, before) =
        holders.fold((1, 0), |(count, before), own| (count + 1, before + usize::from(goes_first(&own))));
    let room = usize::try_from(limit.per_user).unwrap_or_default();
    waiting > 0 && before < (count + waiting).saturating_sub(room)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use proptest::prelude::*;

    fn own(created: i64, uid: &str, standing: Standing) -> Own {
        Own { created: DateTime::from_timestamp(created, 0).unwrap_or_default(), uid: uid.to_owned(), standing }
    }

    fn limit(per_user: i32, on_exceeded: OnExceeded) -> Limit {
        Limit { per_user, on_exceeded }
    }

    #[test]
    fn those_who_came_before_have_the_place() {
        let rules = limit(2, OnExceeded::Reject);
        let candidate = own(5, "c", Standing::New);
        let holder = own(1, "a", Standing::InUse);
        assert!(admits(&candidate, std::slice::from_ref(&holder), rules));
        assert!(!admits(&candidate, &[holder.clone(), own(9, "b", Standing::Idle)], rules));
        assert!(!admits(&candidate, &[holder.clone(), own(5, "b", Standing::AtLimit)], rules), "it came before");
        assert!(admits(&candidate, &[holder.clone(), own(5, "d", Standing::New)], rules), "it came after");
        assert!(admits(&candidate, &[holder, own(1, "b", Standing::Elsewhere)], rules), "it waits for something else");
    }

    #[test]
    fn the_idle_one_makes_way_before_the_oldest_and_only_for_one_that_waits_for_nothing_else() {
        let rules = limit(2, OnExceeded::EndOldest);
        let (old, idle) = (own(1, "old", Standing::InUse), own(2, "idle", Standing::Idle));
        let waiting = own(3, "new", Standing::AtLimit);
        assert!(makes_way(&idle, &[old.clone(), waiting.clone()], rules));
        assert!(!makes_way(&old, &[idle.clone(), waiting.clone()], rules));
        let another = own(4, "newer", Standing::AtLimit);
        assert!(makes_way(&old, &[idle.clone(), waiting.clone(), another], rules), "two of them need both places");
        for standing in [Standing::New, Standing::Elsewhere] {
            assert!(!makes_way(&idle, &[old.clone(), own(3, "new", standing)], rules), "{standing:?}");
        }
        assert!(!makes_way(&idle, &[old, waiting], limit(2, OnExceeded::Reject)));
    }

    fn crowd() -> impl Strategy<Value = Vec<Own>> {
        let standings = prop_oneof![
            Just(Standing::Idle),
            Just(Standing::InUse),
            Just(Standing::AtLimit),
            Just(Standing::New),
            Just(Standing::Elsewhere)
        ];
        proptest::collection::vec((0i64..5, standings), 1..12).prop_map(|all| {
            let own_of =
                |(index, (created, standing)): (usize, (i64, Standing))| own(created, &format!("{index}"), standing);
            all.into_iter().enumerate().map(own_of).collect()
        })
    }

    proptest! {
        #[test]
        fn who_is_admitted_one_after_the_other_never_exceeds_the_limit(mut crowd in crowd(), per_user in 1i32..6) {
            let rules = limit(per_user, OnExceeded::Reject);
            let held = |crowd: &[Own]| crowd.iter().filter(|own| own.standing <= Standing::InUse).count();
            let before = held(&crowd);
            for index in 0..crowd.len() {
                let mut others = crowd.clone();
                let candidate = others.remove(index);
                if matches!(candidate.standing, Standing::New | Standing::AtLimit) && admits(&candidate, &others, rules) {
                    crowd[index].standing = Standing::InUse;
                }
            }
            let room = usize::try_from(per_user).unwrap_or_default();
            prop_assert!(held(&crowd) <= room.max(before));
        }

        #[test]
        fn as_many_make_way_as_wait_and_no_more(crowd in crowd(), per_user in 1i32..6) {
            let rules = limit(per_user, OnExceeded::EndOldest);
            let others = |index: usize| {
                let mut others = crowd.clone();
                others.remove(index);
                others
            };
            let gone = (0..crowd.len()).filter(|index| makes_way(&crowd[*index], &others(*index), rules)).count();
            let of = |wanted: fn(&&Own) -> bool| crowd.iter().filter(wanted).count();
            let (held, waiting) = (of(|own| own.standing <= Standing::InUse), of(|own| own.standing == Standing::AtLimit));
            let room = usize::try_from(per_user).unwrap_or_default();
            let wanted = if waiting == 0 { 0 } else { (held + waiting).saturating_sub(room).min(held) };
            prop_assert_eq!(gone, wanted);
        }
    }
}
