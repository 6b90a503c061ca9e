//! Who watches what becomes of sessions: one watch for all of them. Owns when each thing was first seen, by a monotonic
//! clock; latencies end here, at a watcher, as they do for people.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kube::ResourceExt;
use kube::api::{Api, Object};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::follow::{Follow, Told};

/// What the benchmark reads of a session; the rest is not decoded.
pub type Session = Object<Empty, Status>;

/// A spec that nobody looks at.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Empty {}

/// The part of a status that is looked at.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The phase.
    pub phase: Option<String>,
    /// Why it ended.
    pub reason: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
}

/// What was seen of one session, and when first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sight {
    /// Looked at by whoever brings it up: in a phase other than Pending.
    pub begun: Option<Instant>,
    /// Active.
    pub active: Option<Instant>,
    /// Ended, as its status says.
    pub ended: Option<Instant>,
    /// No longer there.
    pub gone: Option<Instant>,
}

impl Sight {
    /// Whether it has an instance: it became Active and did not end.
    pub fn is_live(&self) -> bool {
        self.active.is_some() && self.ended.is_none() && self.gone.is_none()
    }
}

type Sights = HashMap<String, watch::Sender<Sight>>;

/// The watch, and what it has shown. It ends with its owner.
pub struct Observer {
    sights: Arc<Mutex<Sights>>,
    _follow: Follow,
}

impl Observer {
    /// Watches from now on; what is there already was seen.
    ///
    /// # Errors
    /// When the watch does not begin.
    pub async fn start(api: Api<Session>) -> Result<Self> {
        let sights: Arc<Mutex<Sights>> = Arc::default();
        let into = Arc::clone(&sights);
        let follow = Follow::start(api, move |told| {
            let now = Instant::now();
            let mut sights = into.lock().unwrap_or_else(PoisonError::into_inner);
            match told {
                Told::Stands(session) => {
                    sights.entry(session.name_any()).or_default().send_modify(|sight| see(sight, &session, now));
                }
                Told::Gone(name) => sights.entry(name).or_default().send_modify(|sight| {
                    sight.gone.get_or_insert(now);
                }),
            }
        });
        Ok(Self { sights, _follow: follow.await.context("the sessions cannot be watched")? })
    }

    fn lock(&self) -> MutexGuard<'_, Sights> {
        self.sights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is seen of the session of this name, from before it is created.
    pub fn follow(&self, name: &str) -> watch::Receiver<Sight> {
        self.lock().entry(name.to_owned()).or_default().subscribe()
    }

    /// Of how many sessions this is so.
    pub fn count(&self, is: impl Fn(&Sight) -> bool) -> usize {
        self.lock().values().filter(|sight| is(&sight.borrow())).count()
    }

    /// What was seen of all sessions.
    pub fn all(&self) -> Vec<(String, Sight)> {
        self.lock().iter().map(|(name, sight)| (name.clone(), *sight.borrow())).collect()
    }

    /// Waits until this is so of the session of this name.
    ///
    /// # Errors
    /// When that takes longer than `patience`.
    pub async fn until_named(&self, name: &str, patience: Duration, is: impl Fn(&Sight) -> bool) -> Result<()> {
        let mut seen = self.follow(name);
        let waits = tokio::time::timeout(patience, seen.wait_for(|sight| is(sight))).await;
        waits.with_context(|| format!("{name} is waited for in vain"))?.context("the watch has ended")?;
        Ok(())
    }

    /// Waits until this is so of at least `count` sessions.
    ///
    /// # Errors
    /// When that takes longer than `patience`.
    pub async fn until(
        &self,
        what: &str,
        count: usize,
        patience: Duration,
        is: impl Fn(&Sight) -> bool,
    ) -> Result<Instant> {
        let begun = Instant::now();
        loop {
            let now = self.count(&is);
            if now >= count {
                return Ok(Instant::now());
            }
            if begun.elapsed() > patience {
                bail!("after {} s, {now} of {count} sessions {what}", patience.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn see(sight: &mut Sight, session: &Session, now: Instant) {
    let status = session.status.clone().unwrap_or_default();
    let first = |time: &mut Option<Instant>| {
        time.get_or_insert(now);
    };
    match status.phase.as_deref() {
        None | Some("Pending") => {}
        Some("Active") => {
            first(&mut sight.begun);
            first(&mut sight.active);
        }
        Some(_) => first(&mut sight.begun),
    }
    if status.ended_at.is_some() {
        first(&mut sight.ended);
    }
}
