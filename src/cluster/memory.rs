//! What this process knows and no object says: slots promised by decisions whose status is under way, attempts to
//! make or reach an instance, trials of templates, failures in a row. All of it may be lost at any time; a restart
//! only asks again. What is known of an object is forgotten with it.

pub mod pool;

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::api::time::Instant as WallTime;
use crate::plan::child::Failure;
use crate::plan::endpoint::Target;
use crate::plan::schedule::Hours;
use crate::plan::session::Attempt;
use crate::plan::workspace::Trial;
use crate::planted::{self, Bug};
use pool::{OfGeneration, OfPoolPod};

/// The delays between looks at an object that fail.
const LOOKS: Backoff = Backoff { first: Duration::from_millis(50), last: Duration::from_secs(30) };
/// The delays between attempts at an instance.
const ATTEMPTS: Backoff = Backoff { first: Duration::from_secs(1), last: Duration::from_secs(30) };
/// The delays between trials of a template, or attempts at what a Workspace has, that something outside stands against: a quota, a
/// namespace's label. Nobody tells us when that changes.
const TRIALS: Backoff = Backoff { first: Duration::from_secs(1), last: Duration::from_secs(120) };
/// How long after an attempt was worth another its failure counts no more.
const FORGOTTEN: chrono::TimeDelta = chrono::TimeDelta::minutes(10);
/// The least time between two writes of one Workspace's status.
const PACE: Duration = Duration::from_secs(1);

/// How long to wait after a failure: twice as long after each, up to a bound.
struct Backoff {
    first: Duration,
    last: Duration,
}

impl Backoff {
    /// The delay after one more failure, which `failures` counts.
    fn next(&self, failures: &mut u32) -> Duration {
        let delay = self.first.saturating_mul(1 << (*failures).min(20)).min(self.last);
        *failures = failures.saturating_add(1);
        delay
    }
}

/// What this process knows and no object says.
#[derive(Default)]
pub struct Memory {
    /// By uid.
    sessions: Mutex<HashMap<String, OfSession>>,
    /// The uids of ended sessions of which nothing is left.
    released: Mutex<HashSet<String>>,
    /// By uid.
    workspaces: Mutex<HashMap<String, OfWorkspace>>,
    /// Pods of pools, by uid.
    pool_pods: Mutex<HashMap<String, OfPoolPod>>,
    /// Failed looks at other objects, by uid: NetworkPolicies, and pods that nobody owns.
    others: Mutex<HashMap<String, u32>>,
    admission: Mutex<()>,
}

#[derive(Default, PartialEq)]
struct OfSession {
    promised: bool,
    attempt: Attempt,
    failed_attempts: u32,
    dialling: bool,
    failed_looks: u32,
    /// The pod of a pool whose adoption is under way, by name and uid.
    chosen: Option<(String, String)>,
    failed_adoptions: u32,
    /// The uid of a pod whose adoption was asked for, and may yet be on its way.
    asked_for: Option<String>,
}

/// Failed attempts at an object of a Workspace.
struct FailedChild {
    /// Of the Workspace: an edit may have mended what was wrong.
    generation: Option<i64>,
    last: Failure,
    count: u32,
}

impl FailedChild {
    /// One more failure after `before`, at `now`. Nothing, where that is near: those that were made at once fail together, and
    /// count once.
    fn after(before: Option<&Self>, generation: Option<i64>, why: String, now: WallTime) -> Option<Self> {
        let before = before.filter(|before| before.generation == generation && before.is_remembered(now));
        if before.is_some_and(|before| before.last.0 > now && before.is_by_this_clock(now)) {
            return None;
        }
        let mut count = before.map_or(0, |it| it.count);
        let again = now + TRIALS.next(&mut count);
        Some(Self { generation, last: (again, why), count })
    }

    /// Whether it still counts.
    fn is_remembered(&self, now: WallTime) -> bool {
        now - self.last.0 < FORGOTTEN
    }

    /// Whether it was not written down by a clock that was ahead: nothing waits for so long.
    fn is_by_this_clock(&self, now: WallTime) -> bool {
        (self.last.0 - now).to_std().map_or(true, |wait| wait <= TRIALS.last)
    }
}

#[derive(Default)]
struct OfWorkspace {
    generation: Option<i64>,
    trial: Trial,
    failed_trials: u32,
    /// What became of the last attempt at what it has beside its instances, by kind, and how many have failed.
    children: HashMap<&'static str, FailedChild>,
    /// What its template makes.
    hash: OfGeneration<String>,
    /// Who has a name that a pod of its pool was to get, where that is not known by its labels: the uid by name.
    names: HashMap<String, String>,
    /// The places of its pool whose pod went bad lately.
    places: HashMap<u32, FailedChild>,
    /// What its schedule asks for, and when that was asked: a clock that is before it was set back since.
    hours: OfGeneration<(WallTime, Hours)>,
    /// When its sessions were launched, and when they were counted.
    launches: OfGeneration<(Instant, Vec<WallTime>)>,
    /// When its Secret was last made.
    secret: Option<Instant>,
    /// When its status was last written.
    written: Option<Instant>,
    failed_looks: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// Held from reading the world to promising a slot, without an await in between: of two sessions that ask
    /// for one slot, the second sees that it is gone.
    pub fn admission(&self) -> MutexGuard<'_, ()> {
        lock(&self.admission)
    }

    /// Remembers that the session was promised a slot, until its status says so.
    pub fn promise(&self, uid: &str) {
        if planted::is(Bug::NoPromise) {
            return;
        }
        lock(&self.sessions).entry(uid.to_owned()).or_default().promised = true;
    }

    /// The promise was kept, or is void.
    pub fn settle(&self, uid: &str) {
        self.change_session(uid, |known| known.promised = false);
    }

    /// Whether the session was promised a slot.
    pub fn is_promised(&self, uid: &str) -> bool {
        lock(&self.sessions).get(uid).is_some_and(|known| known.promised)
    }

    /// What became of the last attempt to make or reach the instance of the session.
    pub fn attempt(&self, uid: &str) -> Attempt {
        lock(&self.sessions).get(uid).map(|known| known.attempt.clone()).unwrap_or_default()
    }

    /// The instance was made.
    pub fn made(&self, uid: &str) {
        self.change_session(uid, |known| (known.attempt, known.failed_attempts) = (Attempt::None, 0));
    }

    /// The attempt failed for good.
    pub fn refused(&self, uid: &str, why: String) {
        lock(&self.sessions).entry(uid.to_owned()).or_default().attempt = Attempt::Refused(why);
    }

    /// The attempt failed at `now` and is worth another one, later each time.
    pub fn failed(&self, uid: &str, why: String, now: WallTime) {
        let mut sessions = lock(&self.sessions);
        let known = sessions.entry(uid.to_owned()).or_default();
        known.attempt = Attempt::RetryAt(now + ATTEMPTS.next(&mut known.failed_attempts), why);
    }

    /// Whether the endpoint of the session may be dialled: not while somebody does. Then it counts as being dialled.
    pub fn begin_dial(&self, uid: &str) -> bool {
        let mut sessions = lock(&self.sessions);
        !std::mem::replace(&mut sessions.entry(uid.to_owned()).or_default().dialling, true)
    }

    /// What became of the dial, unless the session has ended or gone meanwhile.
    pub fn dialled(&self, uid: &str, outcome: Result<Target, String>, now: WallTime) {
        let mut sessions = lock(&self.sessions);
        let Some(known) = sessions.get_mut(uid).filter(|known| known.dialling) else { return };
        known.dialling = false;
        known.attempt = match outcome {
            Ok(target) => Attempt::Reached(Box::new(target)),
            Err(why) => Attempt::RetryAt(now + ATTEMPTS.next(&mut known.failed_attempts), why),
        };
    }

    /// A look at the session failed once more: when to look again.
    pub fn session_failed(&self, uid: &str) -> Duration {
        LOOKS.next(&mut lock(&self.sessions).entry(uid.to_owned()).or_default().failed_looks)
    }

    /// A look at the session succeeded.
    pub fn session_succeeded(&self, uid: &str) {
        self.change_session(uid, |known| known.failed_looks = 0);
    }

    /// Changes what is known of a session, if anything is. Of a live one it is mostly nothing, and then takes no room.
    fn change_session(&self, uid: &str, change: impl FnOnce(&mut OfSession)) {
        let mut sessions = lock(&self.sessions);
        let Some(known) = sessions.get_mut(uid) else { return };
        change(known);
        if *known == OfSession::default() {
            sessions.remove(uid);
        }
    }

    /// The instance of a session was released: all is forgotten about it but that looks at the session failed, or one that
    /// goes on failing after each release would be taken again at once, for ever.
    pub fn released(&self, uid: &str) {
        self.nothing_is_left(uid);
        let mut sessions = lock(&self.sessions);
        let failed_looks = sessions.remove(uid).map_or(0, |known| known.failed_looks);
        if failed_looks > 0 {
            sessions.insert(uid.to_owned(), OfSession { failed_looks, ..OfSession::default() });
        }
    }

    /// Nothing is left of a session that has ended: this process has released it, or looked.
    pub fn nothing_is_left(&self, uid: &str) {
        self.chosen_is_known(uid);
        lock(&self.released).insert(uid.to_owned());
    }

    /// Whether it is known that nothing is left of a session that has ended.
    pub fn has_released(&self, uid: &str) -> bool {
        lock(&self.released).contains(uid)
    }

    /// Forgets what was known of a session that has ended, but that nothing is left of it.
    pub fn forget_ended(&self, uid: &str) {
        lock(&self.sessions).remove(uid);
        self.nothing_is_left(uid);
    }

    /// Forgets a session that has gone.
    pub fn forget_session(&self, uid: &str) {
        self.chosen_is_known(uid);
        lock(&self.sessions).remove(uid);
        lock(&self.released).remove(uid);
    }

    /// What the API server said of this generation of the Workspace's template.
    pub fn trial(&self, uid: &str, generation: Option<i64>) -> Trial {
        let workspaces = lock(&self.workspaces);
        let known = workspaces.get(uid).filter(|known| known.generation == generation);
        known.map(|known| known.trial.clone()).unwrap_or_default()
    }

    /// Remembers what the API server said for good.
    pub fn tried(&self, uid: &str, generation: Option<i64>, trial: Trial) {
        let mut workspaces = lock(&self.workspaces);
        let known = workspaces.entry(uid.to_owned()).or_default();
        (known.generation, known.trial, known.failed_trials) = (generation, trial, 0);
    }

    /// Remembers what the API server said for now: `trial` is given when it is to be asked again. A denial stands until
    /// there is another answer: none is none.
    pub fn tried_for_now(
        &self,
        uid: &str,
        generation: Option<i64>,
        now: WallTime,
        trial: impl FnOnce(WallTime) -> Trial,
    ) {
        let mut workspaces = lock(&self.workspaces);
        let known = workspaces.entry(uid.to_owned()).or_default();
        if known.generation != generation {
            (known.generation, known.trial, known.failed_trials) = (generation, Trial::NotMade, 0);
        }
        let again = now + TRIALS.next(&mut known.failed_trials);
        known.trial = match (trial(again), &known.trial) {
            (Trial::Undecided(..), Trial::Forbidden(_, why)) => Trial::Forbidden(again, why.clone()),
            (trial, _) => trial,
        };
    }

    /// What became of the last attempt at the object of this kind that this generation of the Workspace has, if it failed.
    pub fn failed_child(&self, uid: &str, kind: &str, generation: Option<i64>, now: WallTime) -> Option<Failure> {
        let workspaces = lock(&self.workspaces);
        let known = workspaces.get(uid)?.children.get(kind)?;
        (known.generation == generation && known.is_by_this_clock(now)).then(|| known.last.clone())
    }

    /// An attempt at the object of this kind that the Workspace has succeeded.
    pub fn made_child(&self, uid: &str, kind: &str) {
        if let Some(known) = lock(&self.workspaces).get_mut(uid) {
            known.children.remove(kind);
        }
    }

    /// An attempt at the object of this kind that this generation of the Workspace has failed at `now`.
    pub fn failed_at_child(&self, uid: &str, kind: &'static str, generation: Option<i64>, why: String, now: WallTime) {
        let mut workspaces = lock(&self.workspaces);
        let children = &mut workspaces.entry(uid.to_owned()).or_default().children;
        let failed = FailedChild::after(children.get(kind), generation, why, now);
        children.extend(failed.map(|failed| (kind, failed)));
    }

    /// How long ago this process made the Secret of the Workspace, if it did.
    pub fn secret_age(&self, uid: &str) -> Option<Duration> {
        Some(lock(&self.workspaces).get(uid)?.secret?.elapsed())
    }

    /// The Secret of the Workspace was made.
    pub fn made_secret(&self, uid: &str) {
        lock(&self.workspaces).entry(uid.to_owned()).or_default().secret = Some(Instant::now());
    }

    /// How long a write of the Workspace's status must still wait; nothing means that it may be made now, and
    /// then counts as made.
    pub fn pace(&self, uid: &str) -> Option<Duration> {
        let wait = self.must_wait(uid);
        if wait.is_none() {
            lock(&self.workspaces).entry(uid.to_owned()).or_default().written = Some(Instant::now());
        }
        wait
    }

    /// How long a write of the Workspace's status must still wait, if it must.
    pub fn must_wait(&self, uid: &str) -> Option<Duration> {
        let written = lock(&self.workspaces).get(uid)?.written?;
        Some(PACE.saturating_sub(written.elapsed())).filter(|wait| !wait.is_zero())
    }

    /// A look at the Workspace failed once more: when to look again.
    pub fn workspace_failed(&self, uid: &str) -> Duration {
        LOOKS.next(&mut lock(&self.workspaces).entry(uid.to_owned()).or_default().failed_looks)
    }

    /// A look at the Workspace succeeded.
    pub fn workspace_succeeded(&self, uid: &str) {
        if let Some(known) = lock(&self.workspaces).get_mut(uid) {
            known.failed_looks = 0;
        }
    }

    /// Forgets a Workspace that is gone.
    pub fn forget_workspace(&self, uid: &str) {
        lock(&self.workspaces).remove(uid);
    }

    /// A look at another object failed once more: when to look again.
    pub fn other_failed(&self, uid: &str) -> Duration {
        LOOKS.next(lock(&self.others).entry(uid.to_owned()).or_default())
    }

    /// Forgets the failed looks at another object: one succeeded, or it is gone.
    pub fn forget_other(&self, uid: &str) {
        lock(&self.others).remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    #[test]
    fn a_delay_grows_to_a_bound_and_is_forgotten_after_a_success() {
        let memory = Memory::default();
        let delays: Vec<Duration> = (0..40).map(|_| memory.session_failed("a")).collect();
        assert!(delays.is_sorted());
        assert_eq!((delays[0], delays[39]), (LOOKS.first, LOOKS.last));
        assert_eq!(memory.session_failed("b"), LOOKS.first);
        memory.session_succeeded("a");
        assert_eq!(memory.session_failed("a"), LOOKS.first);
    }

    #[test]
    fn a_delay_grows_also_where_each_look_begins_with_a_release() {
        let memory = Memory::default();
        memory.promise("a");
        let delays: Vec<Duration> = (0..3)
            .map(|_| {
                memory.released("a");
                memory.session_failed("a")
            })
            .collect();
        assert_eq!(delays, [LOOKS.first, LOOKS.first * 2, LOOKS.first * 4]);
        assert!(!memory.is_promised("a"));
    }

    #[test]
    fn an_endpoint_is_dialled_once_at_a_time_and_an_answer_after_the_end_is_dropped() {
        let (memory, now) = (Memory::default(), DateTime::default());
        assert!(memory.begin_dial("a"));
        assert!(!memory.begin_dial("a"));
        memory.dialled("a", Err("refused".to_owned()), now);
        assert_eq!(memory.attempt("a"), Attempt::RetryAt(now + ATTEMPTS.first, "refused".to_owned()));
        assert!(memory.begin_dial("a"));
        memory.forget_session("a");
        memory.dialled("a", Ok(Target::default()), now);
        assert_eq!(memory.attempt("a"), Attempt::None);
    }

    #[test]
    fn failures_at_once_count_once_and_none_by_a_clock_that_was_ahead() {
        let (memory, now) = (Memory::default(), DateTime::default());
        let ahead = now + chrono::TimeDelta::hours(24);
        let fail = |at| memory.failed_at_child("a", "NetworkPolicy", None, "no".to_owned(), at);
        let again = |at| memory.failed_child("a", "NetworkPolicy", None, at).map(|(again, _)| again);
        fail(now);
        fail(now);
        assert_eq!(again(now), Some(now + chrono::TimeDelta::seconds(1)));
        fail(now + chrono::TimeDelta::seconds(1));
        assert_eq!(again(now), Some(now + chrono::TimeDelta::seconds(3)));
        memory.made_child("a", "NetworkPolicy");
        fail(ahead);
        assert_eq!(again(now), None);
        fail(now);
        assert!(again(now).is_some_and(|again| again < ahead));
    }

    #[test]
    fn an_edit_of_a_workspace_begins_its_trials_anew() {
        let (memory, now) = (Memory::default(), DateTime::default());
        let later = |memory: &Memory, generation| {
            memory.tried_for_now("w", Some(generation), now, |again| Trial::Undecided(again, String::new()));
            memory.trial("w", Some(generation))
        };
        assert_eq!(later(&memory, 1), Trial::Undecided(now + TRIALS.first, String::new()));
        assert_eq!(later(&memory, 1), Trial::Undecided(now + TRIALS.first * 2, String::new()));
        assert_eq!(memory.trial("w", Some(2)), Trial::NotMade);
        memory.tried_for_now("w", Some(1), now, |again| Trial::Forbidden(again, "label".to_owned()));
        assert!(matches!(later(&memory, 1), Trial::Forbidden(_, why) if why == "label"), "no answer takes none back");
        assert_eq!(later(&memory, 2), Trial::Undecided(now + TRIALS.first, String::new()));
    }
}
