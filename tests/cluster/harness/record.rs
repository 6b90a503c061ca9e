//! Every version of every session of a namespace, as a watch brought them: what a test missed while it looked
//! elsewhere is still there. It also holds each version against what must never happen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use berth::api::Session;
use berth::api::condition::{self, Type};
use berth::api::session::{Phase, SessionStatus};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::task::JoinHandle;

/// The versions of one session, the oldest first.
#[derive(Clone, Default)]
pub struct Story(pub Vec<Session>);

impl Story {
    /// The phases that it passed through, each once while it stayed.
    pub fn phases(&self) -> Vec<Phase> {
        let mut phases: Vec<Phase> = self.statuses().filter_map(|status| status.phase).collect();
        phases.dedup();
        phases
    }

    /// Whether the condition held in any version.
    pub fn ever(&self, type_: Type) -> bool {
        self.statuses().any(|status| condition::is_true(&status.conditions, type_))
    }

    /// What was said while the condition held, the first time.
    pub fn words(&self, type_: Type) -> Option<String> {
        self.statuses()
            .filter_map(|status| condition::find(&status.conditions, type_))
            .find(|condition| condition.status == condition::Status::True)
            .map(|condition| condition.message.clone())
    }

    /// The status of each version.
    pub fn statuses(&self) -> impl Iterator<Item = &SessionStatus> {
        self.0.iter().filter_map(|session| session.status.as_ref())
    }
}

/// A watch of one namespace, until it is dropped.
pub struct Record {
    stories: Arc<Mutex<BTreeMap<String, Story>>>,
    broken: Arc<Mutex<Vec<String>>>,
    tasks: [JoinHandle<()>; 2],
}

impl Record {
    pub fn start(client: &Client, namespace: &str) -> Self {
        let stories: Arc<Mutex<BTreeMap<String, Story>>> = Arc::default();
        let broken: Arc<Mutex<Vec<String>>> = Arc::default();
        let sessions: Api<Session> = Api::namespaced(client.clone(), namespace);
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let tasks = [
            tokio::spawn(watch_sessions(sessions, Arc::clone(&stories), Arc::clone(&broken))),
            tokio::spawn(watch_pods(pods, Arc::clone(&broken))),
        ];
        Self { stories, broken, tasks }
    }

    /// What is known of the session, which may be gone by now.
    pub fn story(&self, name: &str) -> Story {
        self.stories.lock().unwrap().get(name).cloned().unwrap_or_default()
    }

    /// What was seen that must never happen.
    pub fn broken(&self) -> Vec<String> {
        self.broken.lock().unwrap().clone()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn watch_sessions(
    api: Api<Session>,
    stories: Arc<Mutex<BTreeMap<String, Story>>>,
    broken: Arc<Mutex<Vec<String>>>,
) {
    let mut events = std::pin::pin!(watcher(api, Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        let Ok(Event::Apply(session) | Event::InitApply(session) | Event::Delete(session)) = event else { continue };
        let mut stories = stories.lock().unwrap();
        let story = stories.entry(session.name_any()).or_default();
        if let Some(before) = story.0.last().filter(|before| before.uid() == session.uid()) {
            broken.lock().unwrap().extend(broken_promises(before, &session));
        }
        story.0.push(session);
    }
}

/// What may not happen between two versions of one session.
fn broken_promises(before: &Session, after: &Session) -> Vec<String> {
    let (old, new) = (before.status.clone().unwrap_or_default(), after.status.clone().unwrap_or_default());
    let mut broken = Vec::new();
    let mut check = |holds: bool, promise: &str| {
        if !holds {
            broken.push(format!("Session {}: {promise}: {old:?} became {new:?}", after.name_any()));
        }
    };
    if old.ended_at.is_some() {
        let kept = (old.phase, old.reason, old.ended_at, &old.duration);
        check(kept == (new.phase, new.reason, new.ended_at, &new.duration), "an end does not change");
    }
    check(old.started_at.is_none() || old.started_at == new.started_at, "startedAt is written once");
    check(old.ready_at.is_none() || old.ready_at == new.ready_at, "readyAt is written once");
    check(new.ended_at.is_none() || new.reason.is_some(), "an end has a reason");
    check(new.ended_at.is_none() || new.disconnect_at.is_none(), "an ended session has no deadline");
    check(old.instance.is_none() || same_pod(&old, &new), "a session keeps its instance");
    broken
}

fn same_pod(old: &SessionStatus, new: &SessionStatus) -> bool {
    let uid = |status: &SessionStatus| status.instance.as_ref().map(|instance| instance.uid.clone());
    uid(old) == uid(new)
}

/// Two pods of one session at once must never be seen.
async fn watch_pods(api: Api<Pod>, broken: Arc<Mutex<Vec<String>>>) {
    let config = Config::default().labels(berth::api::SESSION_UID_LABEL);
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    // By session, the uids of its pods.
    let mut standing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while let Some(event) = events.next().await {
        let (pod, gone) = match event {
            Ok(Event::Apply(pod) | Event::InitApply(pod)) => (pod, false),
            Ok(Event::Delete(pod)) => (pod, true),
            _ => continue,
        };
        let Some(session) = pod.labels().get(berth::api::SESSION_UID_LABEL).cloned() else { continue };
        let uid = pod.uid().unwrap_or_default();
        let pods = standing.entry(session).or_default();
        pods.retain(|one| *one != uid);
        if !gone {
            pods.push(uid);
        }
        if pods.len() > 1 {
            broken.lock().unwrap().push(format!("two pods for one session: {pods:?}"));
        }
    }
}
