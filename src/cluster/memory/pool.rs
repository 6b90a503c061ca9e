//! What is known of pools beside what objects say: which pods sessions chose, which names are taken, what a template makes and the
//! hours ask for. Owns nothing of what a pool is to be: that is `plan::pool`'s.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::Instant;

use super::{FailedChild, Memory, OfWorkspace, WallTime, lock};
use crate::plan::child::Failure;
use crate::plan::schedule::Hours;
use crate::planted::{self, Bug};

/// Under what name attempts to make pods of a pool are remembered.
pub const POOL: &str = "warm pod";
/// How long nobody tries to adopt a pod again that the API server let nobody have: no watch tells when that changes.
const REFUSED_FOR: TimeDelta = TimeDelta::minutes(1);
/// How long it holds who was launched when: to count them is to walk along all sessions of the Workspace.
const COUNTED_FOR: Duration = Duration::from_secs(1);

/// What is known of a pod of a pool.
pub(super) enum OfPoolPod {
    /// A session chose it; what came of that is not known yet.
    Chosen,
    /// It cannot be had before that time, and why, though the cache may still say so.
    Refused(Failure),
}

impl OfPoolPod {
    /// Whether nobody is to choose it. A time that lies too far ahead was written down by another clock.
    fn stands(&self, now: WallTime) -> bool {
        match self {
            Self::Chosen => true,
            Self::Refused((until, _)) => *until > now && *until - now <= REFUSED_FOR,
        }
    }
}

/// What was found out about a Workspace, and for which generation of it.
pub(super) type OfGeneration<T> = Option<(Option<i64>, T)>;

impl Memory {
    /// Remembers that the session chose this pod of a pool, of this name and uid: nobody else is to.
    pub fn choose(&self, session_uid: &str, name: &str, uid: &str) {
        lock(&self.sessions).entry(session_uid.to_owned()).or_default().chosen =
            Some((name.to_owned(), uid.to_owned()));
        lock(&self.pool_pods).insert(uid.to_owned(), OfPoolPod::Chosen);
    }

    /// The pod that the session chose, by name and uid, where it is not known what came of that.
    pub fn chosen(&self, session_uid: &str) -> Option<(String, String)> {
        lock(&self.sessions).get(session_uid)?.chosen.clone()
    }

    /// It is known what came of the session's choice, by the cache.
    pub fn chosen_is_known(&self, session_uid: &str) {
        if let Some((_, uid)) = self.end_choice(session_uid) {
            lock(&self.pool_pods).remove(&uid);
        }
    }

    /// The pod that the session chose cannot be had for now, in these words, by anybody.
    pub fn cannot_be_had(&self, session_uid: &str, why: String, now: WallTime) {
        let chosen = self.end_choice(session_uid);
        let mut pods = lock(&self.pool_pods);
        // Those that have gone were not all heard of.
        pods.retain(|_, known| known.stands(now));
        pods.extend(chosen.map(|(_, uid)| (uid, OfPoolPod::Refused((now + REFUSED_FOR, why)))));
    }

    /// The pod that the session had chosen, which it has chosen no more.
    fn end_choice(&self, session_uid: &str) -> Option<(String, String)> {
        let mut chosen = None;
        self.change_session(session_uid, |known| (chosen, known.asked_for) = (known.chosen.take(), None));
        chosen
    }

    /// The session's choice was nobody's when it was read, and no answer to its adoption came: that may be done yet.
    pub fn may_come_late(&self, session_uid: &str, pod_uid: &str) {
        self.chosen_is_known(session_uid);
        lock(&self.sessions).entry(session_uid.to_owned()).or_default().asked_for = Some(pod_uid.to_owned());
    }

    /// The uid of the pod whose adoption by the session may come late.
    pub fn asked_for(&self, session_uid: &str) -> Option<String> {
        lock(&self.sessions).get(session_uid)?.asked_for.clone()
    }

    /// An adoption by the session came to nothing.
    pub fn not_adopted(&self, session_uid: &str) {
        lock(&self.sessions).entry(session_uid.to_owned()).or_default().failed_adoptions += 1;
    }

    /// How many adoptions by the session came to nothing.
    pub fn failed_adoptions(&self, session_uid: &str) -> u32 {
        lock(&self.sessions).get(session_uid).map_or(0, |known| known.failed_adoptions)
    }

    /// Whether some session chose the pod, or it cannot be had.
    pub fn is_taken(&self, pod_uid: &str, now: WallTime) -> bool {
        lock(&self.pool_pods).get(pod_uid).is_some_and(|known| known.stands(now))
    }

    /// Whether some session chose the pod.
    pub fn is_chosen(&self, pod_uid: &str) -> bool {
        matches!(lock(&self.pool_pods).get(pod_uid), Some(OfPoolPod::Chosen))
    }

    /// Why nobody could have the pod, and from when that is worth another attempt.
    pub fn refusal(&self, pod_uid: &str, now: WallTime) -> Option<Failure> {
        match lock(&self.pool_pods).get(pod_uid).filter(|known| known.stands(now))? {
            OfPoolPod::Refused(failure) => Some(failure.clone()),
            OfPoolPod::Chosen => None,
        }
    }

    /// A pod of a pool was heard of: what was said of it before counts no more, and once it is gone nobody has chosen it.
    pub fn heard_of(&self, pod_uid: &str, gone: bool) {
        let mut pods = lock(&self.pool_pods);
        if gone || matches!(pods.get(pod_uid), Some(OfPoolPod::Refused(_))) {
            pods.remove(pod_uid);
        }
    }

    /// The pod in this place of the pool, which this generation of the Workspace has, went bad.
    pub fn broke(&self, workspace_uid: &str, place: u32, generation: Option<i64>, why: String, now: WallTime) {
        let mut workspaces = lock(&self.workspaces);
        let places = &mut workspaces.entry(workspace_uid.to_owned()).or_default().places;
        places.retain(|_, before| before.is_remembered(now));
        let failed = FailedChild::after(places.get(&place), generation, why, now);
        places.extend(failed.map(|failed| (place, failed)));
    }

    /// The places of the pool whose pod went bad lately, and from when another is worth an attempt there.
    pub fn broken(&self, workspace_uid: &str, generation: Option<i64>, now: WallTime) -> BTreeMap<u32, Failure> {
        let workspaces = lock(&self.workspaces);
        let places = workspaces.get(workspace_uid).into_iter().flat_map(|known| &known.places);
        let counts = |failed: &FailedChild| {
            failed.generation == generation && failed.is_remembered(now) && failed.is_by_this_clock(now)
        };
        places.filter(|(_, failed)| counts(failed)).map(|(place, failed)| (*place, failed.last.clone())).collect()
    }

    /// A pod of this uid has a name that a pod of the Workspace's pool was to get.
    pub fn name_is_taken(&self, workspace_uid: &str, name: String, by: String) {
        lock(&self.workspaces).entry(workspace_uid.to_owned()).or_default().names.insert(name, by);
    }

    /// Who has names that pods of the Workspace's pool were to get.
    pub fn taken_names(&self, workspace_uid: &str) -> HashMap<String, String> {
        lock(&self.workspaces).get(workspace_uid).map(|known| known.names.clone()).unwrap_or_default()
    }

    /// The pool of the Workspace is full: what was in its way counts no more.
    pub fn pool_is_full(&self, workspace_uid: &str) {
        if let Some(known) = lock(&self.workspaces).get_mut(workspace_uid) {
            known.names.clear();
        }
    }

    /// What the template of this generation of the Workspace makes, as a hash: `make` is asked once.
    pub fn template_hash(&self, uid: &str, generation: Option<i64>, make: impl FnOnce() -> String) -> String {
        self.known(uid, generation, |of| &mut of.hash, |_| true, make)
    }

    /// What the schedule of this generation of the Workspace asks for at `now`: `read` is asked where that is not known.
    pub fn hours(&self, uid: &str, generation: Option<i64>, now: WallTime, read: impl FnOnce() -> Hours) -> Hours {
        let stands = |(since, hours): &(WallTime, Hours)| {
            (*since <= now && hours.until.is_none_or(|until| now < until)) || planted::is(Bug::OldHours)
        };
        self.known(uid, generation, |of| &mut of.hours, stands, || (now, read())).1
    }

    /// When sessions of this generation of the Workspace were launched: `count` is asked once a second at most. With it, after
    /// what time to ask again, where that may be untrue by now.
    pub fn launches(
        &self,
        uid: &str,
        generation: Option<i64>,
        count: impl FnOnce() -> Vec<WallTime>,
    ) -> (Vec<WallTime>, Option<Duration>) {
        let left = |counted: Instant| COUNTED_FOR.saturating_sub(counted.elapsed());
        let stands = |(counted, _): &(Instant, _)| !left(*counted).is_zero();
        let mut is_news = false;
        let count = || {
            is_news = true;
            (Instant::now(), count())
        };
        let (counted, times) = self.known(uid, generation, |of| &mut of.launches, stands, count);
        (times, (!is_news).then(|| left(counted)))
    }

    /// What is known of this generation of the Workspace in `place`, if it `stands`; else what is made for it, while nothing is locked.
    fn known<T: Clone>(
        &self,
        uid: &str,
        generation: Option<i64>,
        place: fn(&mut OfWorkspace) -> &mut OfGeneration<T>,
        stands: impl Fn(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> T {
        let known = lock(&self.workspaces).get_mut(uid).and_then(|known| place(known).clone());
        let known = known.filter(|(of, said)| *of == generation && stands(said));
        known.map(|(_, said)| said).unwrap_or_else(|| {
            let said = make();
            *place(lock(&self.workspaces).entry(uid.to_owned()).or_default()) = Some((generation, said.clone()));
            said
        })
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    #[test]
    fn the_hours_are_read_anew_once_they_are_over_and_once_the_clock_was_set_back() {
        let (memory, now) = (Memory::default(), DateTime::default());
        let later = |hours| now + TimeDelta::hours(hours);
        let read = |count: usize, until| move || Hours { count, until: Some(until), problem: None };
        assert_eq!(memory.hours("a", None, later(24), read(1, later(72))).count, 1);
        assert_eq!(memory.hours("a", None, later(71), read(2, later(96))).count, 1);
        assert_eq!(memory.hours("a", None, now, read(3, later(8))).count, 3);
        assert_eq!(memory.hours("a", None, later(8), read(4, later(96))).count, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn launches_are_counted_once_a_second_and_for_another_generation_at_once() {
        let (memory, at) = (Memory::default(), |second| DateTime::from_timestamp(second, 0).unwrap());
        assert_eq!(memory.launches("a", Some(1), || vec![at(1)]), (vec![at(1)], None));
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert_eq!(memory.launches("a", Some(1), Vec::new), (vec![at(1)], Some(Duration::from_millis(600))));
        assert_eq!(memory.launches("a", Some(2), || vec![at(2)]), (vec![at(2)], None));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(memory.launches("a", Some(2), || vec![at(3)]), (vec![at(3)], None));
    }

    #[test]
    fn a_place_is_left_empty_for_longer_after_each_pod_that_went_bad_there_and_the_others_are_not() {
        let (memory, now) = (Memory::default(), DateTime::default());
        let after = |seconds| now + TimeDelta::seconds(seconds);
        let until = |place, now| memory.broken("w", None, now).get(&place).map(|(at, _)| *at);
        memory.broke("w", 0, None, "first".to_owned(), now);
        assert_eq!((until(0, now), until(1, now)), (Some(after(1)), None));
        memory.broke("w", 1, None, "another".to_owned(), after(2));
        memory.broke("w", 0, None, "second".to_owned(), after(2));
        assert_eq!((until(0, after(2)), until(1, after(2))), (Some(after(4)), Some(after(3))));
        assert_eq!(until(0, after(700)), None, "it is forgotten");
        assert_eq!(memory.broken("w", Some(2), after(2)).len(), 0, "an edit may have mended it");
    }

    #[test]
    fn a_pod_that_nobody_could_adopt_is_tried_again_after_a_while() {
        let (memory, now) = (Memory::default(), DateTime::default());
        memory.choose("s", "pod", "p");
        memory.cannot_be_had("s", "denied".to_owned(), now);
        assert!(memory.is_taken("p", now) && !memory.is_chosen("p"));
        assert_eq!(memory.refusal("p", now), Some((now + REFUSED_FOR, "denied".to_owned())));
        assert!(!memory.is_taken("p", now + REFUSED_FOR), "its time has come");
        assert!(!memory.is_taken("p", now - TimeDelta::days(1)), "the clock was set back");
        memory.heard_of("p", false);
        assert!(!memory.is_taken("p", now));
    }
}
