//! Which observers of activity live: each holds a Lease in Berth's namespace, and names it in what it observes. Owns the watch of
//! those Leases; what follows from an observer that is gone is the planner's.
//!
//! A Lease runs on this process's own clock from when it last saw it renewed, so that clocks may disagree. One that was only
//! listed says nothing yet: it may be what a dead process left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use tokio::time::Instant;

use super::Cluster;
use crate::api::{OBSERVER_LABEL, Session};
use crate::plan::activity::Observer;

/// How long a Lease holds that does not say so itself.
const DURATION: Duration = Duration::from_secs(15);
/// The longest that one is believed, whatever it says.
const LONGEST: Duration = Duration::from_secs(60);

/// The observers that hold a Lease; nothing before those were listed.
#[derive(Clone, Default)]
pub struct Observers(Arc<Mutex<Option<BTreeMap<String, Held>>>>);

/// The Lease of one observer.
#[derive(Clone, Debug, PartialEq)]
struct Held {
    /// What of it changes when it is renewed.
    version: Option<String>,
    /// Until when it holds.
    until: Instant,
    /// Whether it was seen to be renewed.
    renewed: bool,
}

impl Held {
    fn state(&self, now: Instant) -> Observer {
        match (self.until > now, self.renewed) {
            (true, true) => Observer::Live,
            (true, false) => Observer::Unheard,
            (false, _) => Observer::Gone,
        }
    }
}

impl Observers {
    /// What became of the observer that the status of `session` names.
    pub fn of(&self, session: &Session) -> Observer {
        named_by(session).map_or(Observer::Gone, |observer| self.state(observer, Instant::now()))
    }

    fn state(&self, observer: &str, now: Instant) -> Observer {
        match self.lock().as_ref() {
            None => Observer::Unheard,
            Some(held) => held.get(observer).map_or(Observer::Gone, |held| held.state(now)),
        }
    }

    /// What each is now.
    fn states(&self, now: Instant) -> Option<BTreeMap<String, Observer>> {
        let held = self.lock();
        held.as_ref().map(|held| held.iter().map(|(name, held)| (name.clone(), held.state(now))).collect())
    }

    /// When the next runs out of those that were told to live, or may.
    fn next_end(&self, told: Option<&BTreeMap<String, Observer>>) -> Option<Instant> {
        let is_gone = |name: &String| told.is_some_and(|told| told.get(name) == Some(&Observer::Gone));
        self.lock().iter().flatten().filter(|(name, _)| !is_gone(name)).map(|(_, held)| held.until).min()
    }

    fn lock(&self) -> MutexGuard<'_, Option<BTreeMap<String, Held>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches the Leases of observers in `namespace` until the process ends.
pub async fn run(cluster: Cluster, namespace: String) {
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), &namespace);
    let events = watcher(leases, watcher::Config::default().labels(OBSERVER_LABEL)).default_backoff();
    pin_mut!(events);
    let mut listed = BTreeMap::new();
    let mut told = None;
    loop {
        let end = cluster.observers.next_end(told.as_ref());
        let event = tokio::select! {
            event = events.next() => event,
            () = tokio::time::sleep_until(end.unwrap_or_else(far)), if end.is_some() => {
                tell(&cluster, &mut told);
                continue;
            }
        };
        let now = Instant::now();
        match event {
            None => return,
            Some(Ok(Event::Init)) => listed.clear(),
            Some(Ok(Event::InitApply(lease))) => {
                let before = cluster.observers.lock().as_ref().and_then(|held| held.get(&lease.name_any()).cloned());
                listed.extend(held(&lease, before.as_ref(), now).map(|held| (lease.name_any(), held)));
            }
            Some(Ok(Event::InitDone)) => *cluster.observers.lock() = Some(std::mem::take(&mut listed)),
            Some(Ok(Event::Apply(lease))) => {
                let mut all = cluster.observers.lock();
                let all = all.get_or_insert_default();
                match held(&lease, all.get(&lease.name_any()), now) {
                    Some(held) => drop(all.insert(lease.name_any(), held)),
                    None => drop(all.remove(&lease.name_any())),
                }
            }
            Some(Ok(Event::Delete(lease))) => {
                cluster.observers.lock().get_or_insert_default().remove(&lease.name_any());
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "the Leases of observers are not watched: nobody becomes idle by a gateway's word");
                // Who lives is not known until they are listed anew.
                *cluster.observers.lock() = None;
            }
        }
        tell(&cluster, &mut told);
    }
}

fn far() -> Instant {
    Instant::now() + LONGEST
}

/// How the Lease is held, after it was held as `before`; not at all where nobody holds it.
fn held(lease: &Lease, before: Option<&Held>, now: Instant) -> Option<Held> {
    let spec = lease.spec.as_ref()?;
    spec.holder_identity.as_ref().filter(|holder| !holder.is_empty())?;
    let renewed_at = spec.renew_time.as_ref().map(|time| time.0.to_string());
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let duration = seconds.map_or(DURATION, Duration::from_secs).min(LONGEST);
    match before {
        Some(before) if before.version == renewed_at => Some(before.clone()),
        before => Some(Held { version: renewed_at, until: now + duration, renewed: before.is_some() }),
    }
}

/// The observer that the status of `session` names.
fn named_by(session: &Session) -> Option<&str> {
    session.status.as_ref()?.activity.as_ref()?.observer.as_ref().map(|observer| observer.as_str())
}

/// Has the sessions looked at of whose observers it is news.
fn tell(cluster: &Cluster, told: &mut Option<BTreeMap<String, Observer>>) {
    let now = cluster.observers.states(Instant::now());
    if *told == now {
        return;
    }
    let of = |states: &Option<BTreeMap<String, Observer>>, observer: &str| {
        states.as_ref().map(|states| states.get(observer).copied().unwrap_or(Observer::Gone))
    };
    for session in cluster.stores.sessions.reader().state() {
        if named_by(&session).is_some_and(|observer| of(told, observer) != of(&now, observer)) {
            cluster.queues.session_named(&session.namespace().unwrap_or_default(), &session.name_any());
        }
    }
    *told = now;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lease(holder: &str, renewed: &str) -> Lease {
        let spec = json!({ "holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15 });
        serde_json::from_value(json!({ "metadata": { "name": "g" }, "spec": spec })).unwrap()
    }

    #[test]
    fn an_observer_lives_from_when_it_was_seen_to_renew_until_that_runs_out() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let found = held(&lease("g", "2026-01-31T12:00:00.000000Z"), None, start).unwrap();
        assert_eq!(found.state(after(14)), Observer::Unheard, "it may be what a dead one left");
        assert_eq!(found.state(after(15)), Observer::Gone);
        let same = held(&lease("g", "2026-01-31T12:00:00.000000Z"), Some(&found), after(10)).unwrap();
        assert_eq!(same, found, "a list anew renews nothing");
        let renewed = held(&lease("g", "2026-01-31T12:00:05.000000Z"), Some(&found), after(10)).unwrap();
        assert_eq!(renewed.state(after(24)), Observer::Live);
        assert_eq!(renewed.state(after(25)), Observer::Gone);
        assert_eq!(held(&lease("", "2026-01-31T12:00:10.000000Z"), Some(&renewed), after(11)), None, "given up");
    }
}
