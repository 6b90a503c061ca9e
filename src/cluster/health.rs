//! What stands between this process and its work: kinds that cannot be watched, a lease that cannot be looked at. Owns
//! how long an interruption counts; what is answered to whom is `admin`'s.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::CallError;

/// What the watches say of themselves, and the look at the lease before there are any, for the health endpoints: by
/// kind, nothing when all is well.
#[derive(Clone, Default)]
pub struct WatchHealth(Arc<Mutex<BTreeMap<&'static str, Option<Trouble>>>>);

/// Why a kind is not watched.
enum Trouble {
    /// It was not listed yet.
    Unlisted(String),
    /// The watch was interrupted then. It is taken up again without a word where nothing has changed meanwhile, so
    /// that an interruption counts only while it is fresh; one that lasts is told anew at each attempt.
    Interrupted(Instant, String),
}

/// How long an interruption counts: longer than the longest pause between two attempts.
const FRESH: Duration = Duration::from_secs(90);

impl WatchHealth {
    /// The kind is to be listed, and was not yet.
    pub fn unlisted(&self, kind: &'static str) {
        self.set(kind, Some(Trouble::Unlisted("not listed yet".to_owned())));
    }

    /// The watch of the kind has caught up.
    pub fn well(&self, kind: &'static str) {
        self.set(kind, None);
    }

    fn set(&self, kind: &'static str, trouble: Option<Trouble>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, trouble);
    }

    /// What became of a look at the lease.
    pub fn looked_at_lease(&self, outcome: Result<(), CallError>) {
        match outcome {
            // Another was faster: it was there to be looked at.
            Err(error) if !error.is_conflict() && !error.is_not_found() => {
                tracing::warn!(%error, "lease not taken");
                self.interrupted("Lease", error.to_string());
            }
            Ok(()) | Err(_) => self.well("Lease"),
        }
    }

    /// The watch of the kind was interrupted.
    pub fn interrupted(&self, kind: &'static str, error: String) {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = kinds.entry(kind).or_default();
        *trouble = Some(match trouble {
            Some(Trouble::Unlisted(_)) => Trouble::Unlisted(error),
            Some(Trouble::Interrupted(..)) | None => Trouble::Interrupted(Instant::now(), error),
        });
    }

    /// The kinds that cannot be watched, with the reason.
    pub fn troubles(&self) -> Vec<String> {
        let kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let tell = |(kind, trouble): (&&str, &Option<Trouble>)| match trouble {
            Some(Trouble::Unlisted(why)) => Some(format!("{kind}: {why}")),
            Some(Trouble::Interrupted(at, why)) if at.elapsed() < FRESH => Some(format!("{kind}: {why}")),
            Some(Trouble::Interrupted(..)) | None => None,
        };
        kinds.iter().filter_map(tell).collect()
    }
}
