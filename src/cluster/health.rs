//! What stands between this process and its work: kinds that cannot be watched, a lease that cannot be looked at. Owns
//! how long an interruption counts; what is answered to whom is `admin`'s.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::cache::Scope;
use super::error::CallError;

/// What the watches say of themselves, and the look at the lease before there are any, for the health endpoints: by
/// kind, nothing when all is well.
#[derive(Clone, Default)]
pub struct WatchHealth(Arc<Mutex<Troubles>>);

type Troubles = BTreeMap<(&'static str, Scope), Option<Trouble>>;

/// Why a kind is not watched.
enum Trouble {
    /// It was not listed yet.
    Unlisted(String),
    /// The API server does not know the kind.
    Unknown(String),
    /// The watch was interrupted then. It is taken up again without a word where nothing has changed meanwhile, so
    /// that an interruption counts only while it is fresh; one that lasts is told anew at each attempt.
    Interrupted(Interruption, String),
}

/// Since when a watch has been interrupted, and when that was told last.
#[derive(Clone, Copy)]
struct Interruption {
    since: Instant,
    told: Instant,
    times: u32,
}

impl Interruption {
    /// Whether it still counts: the next attempt would have failed by now, and been told.
    fn is_fresh(&self) -> bool {
        self.told.elapsed() < FIRST.saturating_mul(1 << self.times.saturating_sub(1).min(8)).min(FRESH)
    }
}

/// Under what the looks at the lease are told.
const LEASE: &str = "Lease";

/// How long a first interruption counts: longer than the pause before the next attempt, which grows as this does.
const FIRST: Duration = Duration::from_secs(4);
/// How long one counts at most: longer than the longest pause between two attempts.
const FRESH: Duration = Duration::from_secs(90);

impl WatchHealth {
    /// The kind is to be listed, and was not yet.
    pub fn unlisted(&self, kind: &'static str, scope: &Scope) {
        self.set(kind, scope, Some(Trouble::Unlisted("not listed yet".to_owned())));
    }

    /// The watch of the kind has caught up.
    pub fn well(&self, kind: &'static str, scope: &Scope) {
        self.set(kind, scope, None);
    }

    fn set(&self, kind: &'static str, scope: &Scope, trouble: Option<Trouble>) {
        self.lock().insert((kind, scope.clone()), trouble);
    }

    fn lock(&self) -> MutexGuard<'_, Troubles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What became of a look at the lease.
    pub fn looked_at_lease(&self, outcome: Result<(), CallError>) {
        match outcome {
            // Another was faster: it was there to be looked at.
            Err(error) if !error.is_conflict() && !error.is_not_found() => {
                tracing::warn!(%error, "lease not taken");
                self.interrupted(LEASE, &None, error.words());
            }
            Ok(()) | Err(_) => self.well(LEASE, &None),
        }
    }

    /// The watch of the kind was interrupted.
    pub fn interrupted(&self, kind: &'static str, scope: &Scope, error: String) {
        let mut troubles = self.lock();
        let trouble = troubles.entry((kind, scope.clone())).or_default();
        let told = Instant::now();
        *trouble = Some(match trouble {
            Some(Trouble::Unlisted(_) | Trouble::Unknown(_)) => Trouble::Unlisted(error),
            Some(Trouble::Interrupted(before, _)) if before.is_fresh() => {
                let times = before.times.saturating_add(1);
                Trouble::Interrupted(Interruption { told, times, ..*before }, error)
            }
            Some(Trouble::Interrupted(..)) | None => {
                Trouble::Interrupted(Interruption { since: told, told, times: 1 }, error)
            }
        });
    }

    /// For how long something that the caches had once has not been kept up.
    pub fn behind_for(&self) -> Option<Duration> {
        let troubles = self.lock();
        let interrupted = troubles.values().flatten().filter_map(|trouble| match trouble {
            Trouble::Interrupted(at, _) if at.is_fresh() => Some(at.since.elapsed()),
            Trouble::Interrupted(..) | Trouble::Unlisted(_) | Trouble::Unknown(_) => None,
        });
        interrupted.max()
    }

    /// The API server does not know the kind.
    pub fn unknown(&self, kind: &'static str, scope: &Scope, error: String) {
        self.set(kind, scope, Some(Trouble::Unknown(error)));
    }

    /// Whether every kind was listed where this namespace is: what is missing in a cache that was not filled would
    /// count as gone.
    pub fn is_listed(&self, namespace: &str) -> bool {
        let troubles = self.lock();
        let covers = |scope: &Scope| scope.as_deref().is_none_or(|watched| watched == namespace);
        let mut watches = troubles.iter().filter(|((kind, scope), _)| *kind != LEASE && covers(scope)).peekable();
        let pending = |trouble: &Option<Trouble>| matches!(trouble, Some(Trouble::Unlisted(_) | Trouble::Unknown(_)));
        watches.peek().is_some() && watches.all(|(_, trouble)| !pending(trouble))
    }

    /// Whether every kind was listed wherever it is watched.
    pub fn is_listed_everywhere(&self) -> bool {
        let troubles = self.lock();
        let pending = |trouble: &Option<Trouble>| matches!(trouble, Some(Trouble::Unlisted(_) | Trouble::Unknown(_)));
        !troubles.is_empty() && !troubles.values().any(pending)
    }

    /// The kinds that cannot be watched, with the reason.
    pub fn troubles(&self) -> Vec<String> {
        let tell = |((kind, scope), why): (&(&'static str, Scope), &String)| match scope {
            Some(namespace) => format!("{kind} in {namespace}: {why}"),
            None => format!("{kind}: {why}"),
        };
        self.lock().iter().filter_map(|(watch, trouble)| Some((watch, trouble.as_ref()?.why()?))).map(tell).collect()
    }

    /// Each kind, whether there is trouble with it, and whether the API server does not know it.
    pub fn by_kind(&self) -> BTreeMap<&'static str, (bool, bool)> {
        let mut kinds = BTreeMap::new();
        for ((kind, _), trouble) in self.lock().iter() {
            let (troubled, unknown) = kinds.entry(*kind).or_insert((false, false));
            *troubled |= trouble.as_ref().is_some_and(|trouble| trouble.why().is_some());
            *unknown |= matches!(trouble, Some(Trouble::Unknown(_)));
        }
        kinds
    }
}

impl Trouble {
    /// The reason, while it counts.
    fn why(&self) -> Option<&String> {
        match self {
            Self::Unlisted(why) | Self::Unknown(why) => Some(why),
            Self::Interrupted(at, why) => Some(why).filter(|_| at.is_fresh()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_cannot_be_listed_holds_up_itself_alone() {
        let health = WatchHealth::default();
        health.looked_at_lease(Ok(()));
        assert!(!health.is_listed("a"), "nothing is watched yet");
        let (a, b) = (Some("a".to_owned()), Some("b".to_owned()));
        for scope in [&a, &b] {
            health.unlisted("Session", scope);
            health.unlisted("Pod", scope);
        }
        health.well("Session", &a);
        assert!(!health.is_listed("a"), "its pods are not listed");
        health.well("Pod", &a);
        health.interrupted("Session", &b, "forbidden".to_owned());
        assert!(health.is_listed("a"));
        assert!(!health.is_listed("b"));
        assert!(!health.is_listed("c"), "nobody watches it");
        health.interrupted("Session", &a, "cut".to_owned());
        assert!(health.is_listed("a"), "it was listed once");
    }
}
