//! What is known of pools beside what objects say: which pods sessions chose, which names are taken, what a template makes and the
//! hours ask for. Owns nothing of what a pool is to be: that is `plan::pool`'s.

use std::collections::HashMap;

use super::{Memory, WallTime, lock};
use crate::plan::schedule::Hours;

/// Under what name attempts to make pods of a pool are remembered.
pub const POOL: &str = "warm pod";
/// Under what name it is remembered that pods of a pool went bad.
pub const BROKEN: &str = "broken warm pod";

/// What is known of a pod of a pool.
pub(super) enum OfPoolPod {
    /// A session chose it; what came of that is not known yet.
    Chosen,
    /// It cannot be had, though the cache may still say so.
    Spent,
}

/// What the schedule of a generation asks for.
#[derive(Clone)]
pub(super) struct KnownHours {
    generation: Option<i64>,
    /// When that was asked: a clock that is before it was set back since.
    since: WallTime,
    hours: Hours,
}

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

    /// It is known what came of the session's choice: by the cache, unless the pod cannot be had.
    pub fn chosen_is_known(&self, session_uid: &str, spent: bool) {
        let chosen = lock(&self.sessions).get_mut(session_uid).and_then(|known| known.chosen.take());
        let Some((_, uid)) = chosen else { return };
        let mut pods = lock(&self.pool_pods);
        match spent {
            true => drop(pods.insert(uid, OfPoolPod::Spent)),
            false => drop(pods.remove(&uid)),
        }
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
    pub fn is_taken(&self, pod_uid: &str) -> bool {
        lock(&self.pool_pods).contains_key(pod_uid)
    }

    /// Whether some session chose the pod.
    pub fn is_chosen(&self, pod_uid: &str) -> bool {
        matches!(lock(&self.pool_pods).get(pod_uid), Some(OfPoolPod::Chosen))
    }

    /// A pod of a pool was heard of: what was said of it before counts no more, and once it is gone nobody has chosen it.
    pub fn heard_of(&self, pod_uid: &str, gone: bool) {
        let mut pods = lock(&self.pool_pods);
        if gone || matches!(pods.get(pod_uid), Some(OfPoolPod::Spent)) {
            pods.remove(pod_uid);
        }
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
        let known = lock(&self.workspaces).get(uid).and_then(|known| known.hash.clone());
        match known {
            Some((of, hash)) if of == generation => hash,
            _ => {
                let hash = make();
                lock(&self.workspaces).entry(uid.to_owned()).or_default().hash = Some((generation, hash.clone()));
                hash
            }
        }
    }

    /// What the schedule of this generation of the Workspace asks for at `now`: `read` is asked where that is not known.
    pub fn hours(&self, uid: &str, generation: Option<i64>, now: WallTime, read: impl FnOnce() -> Hours) -> Hours {
        let known = lock(&self.workspaces).get(uid).and_then(|known| known.hours.clone());
        match known {
            Some(KnownHours { generation: of, since, hours })
                if of == generation && since <= now && hours.until.is_none_or(|until| now < until) =>
            {
                hours
            }
            _ => {
                let hours = read();
                lock(&self.workspaces).entry(uid.to_owned()).or_default().hours =
                    Some(KnownHours { generation, since: now, hours: hours.clone() });
                hours
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

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
}
