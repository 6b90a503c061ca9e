//! What this process knows and no object says: slots promised by decisions whose status is under way, attempts to
//! make an instance, trials of templates. All of it may be lost at any time; a restart only asks again.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;

use tokio::time::Instant;

use crate::api::time::Instant as WallTime;
use crate::plan::session::Attempt;
use crate::plan::workspace::Trial;

/// The first delay after a failed attempt; it doubles up to [`LAST_DELAY`].
const FIRST_DELAY: TimeDelta = TimeDelta::seconds(1);
const LAST_DELAY: TimeDelta = TimeDelta::seconds(30);
/// The least time between two writes of one Workspace's status.
const PACE: Duration = Duration::from_secs(1);

/// What this process knows and no object says.
#[derive(Default)]
pub struct Memory {
    inner: Mutex<Inner>,
    admission: Mutex<()>,
}

#[derive(Default)]
struct Inner {
    /// By Session uid.
    attempts: HashMap<String, (Attempt, u32)>,
    /// Uids of Sessions that were promised a slot.
    promised: HashSet<String>,
    /// By Workspace uid, for one generation.
    trials: HashMap<String, (Option<i64>, Trial, u32)>,
    /// When a Workspace's status was last written, by its uid.
    written: HashMap<String, Instant>,
}

impl Memory {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held from reading the world to promising a slot, without an await in between: of two sessions that ask
    /// for one slot, the second sees that it is gone.
    pub fn admission(&self) -> MutexGuard<'_, ()> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that the session was promised a slot, until its status says so.
    pub fn promise(&self, uid: &str) {
        self.inner().promised.insert(uid.to_owned());
    }

    /// The promise was kept, or is void.
    pub fn settle(&self, uid: &str) {
        self.inner().promised.remove(uid);
    }

    /// Whether the session was promised a slot.
    pub fn is_promised(&self, uid: &str) -> bool {
        self.inner().promised.contains(uid)
    }

    /// What became of the last attempt to make or reach the instance of the session.
    pub fn attempt(&self, uid: &str) -> Attempt {
        self.inner().attempts.get(uid).map(|(attempt, _)| attempt.clone()).unwrap_or_default()
    }

    /// The attempt succeeded: the instance was made, or the endpoint reached.
    pub fn succeeded(&self, uid: &str, attempt: Attempt) {
        match attempt {
            Attempt::None => self.inner().attempts.remove(uid),
            attempt => self.inner().attempts.insert(uid.to_owned(), (attempt, 0)),
        };
    }

    /// The attempt failed for good.
    pub fn refused(&self, uid: &str, why: String) {
        self.inner().attempts.insert(uid.to_owned(), (Attempt::Refused(why), 0));
    }

    /// The attempt failed at `now` and is worth another one, later each time.
    pub fn failed(&self, uid: &str, why: String, now: WallTime) {
        let mut inner = self.inner();
        let (attempt, count) = inner.attempts.entry(uid.to_owned()).or_default();
        *attempt = Attempt::RetryAt(now + delay(*count), why);
        *count = count.saturating_add(1);
    }

    /// Forgets a session that has ended or gone.
    pub fn forget_session(&self, uid: &str) {
        let mut inner = self.inner();
        inner.attempts.remove(uid);
        inner.promised.remove(uid);
    }

    /// What the API server said of this generation of the Workspace's template.
    pub fn trial(&self, uid: &str, generation: Option<i64>) -> Trial {
        let inner = self.inner();
        inner
            .trials
            .get(uid)
            .filter(|(of, ..)| *of == generation)
            .map(|(_, trial, _)| trial.clone())
            .unwrap_or_default()
    }

    /// Remembers what the API server said.
    pub fn tried(&self, uid: &str, generation: Option<i64>, trial: Trial) {
        self.inner().trials.insert(uid.to_owned(), (generation, trial, 0));
    }

    /// The API server could not say.
    pub fn undecided(&self, uid: &str, generation: Option<i64>, why: String, now: WallTime) {
        let mut inner = self.inner();
        let (of, trial, count) = inner.trials.entry(uid.to_owned()).or_default();
        if *of != generation {
            (*of, *count) = (generation, 0);
        }
        *trial = Trial::Undecided(now + delay(*count), why);
        *count = count.saturating_add(1);
    }

    /// How long a write of the Workspace's status must still wait; nothing means that it may be made now, and
    /// then counts as made.
    pub fn pace(&self, uid: &str) -> Option<Duration> {
        let mut inner = self.inner();
        let now = Instant::now();
        let wait = inner
            .written
            .get(uid)
            .map(|last| PACE.saturating_sub(now.duration_since(*last)))
            .filter(|wait| !wait.is_zero());
        if wait.is_none() {
            inner.written.insert(uid.to_owned(), now);
        }
        wait
    }

    /// Forgets a Workspace that is gone.
    pub fn forget_workspace(&self, uid: &str) {
        let mut inner = self.inner();
        inner.trials.remove(uid);
        inner.written.remove(uid);
    }
}

fn delay(failures: u32) -> TimeDelta {
    FIRST_DELAY.checked_mul(1 << failures.min(10)).map_or(LAST_DELAY, |delay| delay.min(LAST_DELAY))
}
