//! What the gateway knows: the Sessions, Workspaces and policies that its watches bring, found by uid and by user, and the
//! changes as those hear of them who listen. Owns who hears what; how a session is shown is `view`'s.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt;
use kube::runtime::watcher;
use tokio::sync::broadcast;

use crate::api::session::Phase;
use crate::api::time::{Instant, from_wire};
use crate::api::{Session, Workspace};
use crate::cluster::cache::{Scope, Stores, key};
use crate::cluster::health::WatchHealth;
use crate::cluster::watch::{Change as Watched, Watches};
use crate::plan::admission;

/// How many changes one listener may be behind before it is given everything anew.
const BEHIND: usize = 64;
/// How many changes are kept for listeners that come back.
const KEPT: usize = 4096;

/// What the gateway knows.
#[derive(Clone)]
pub struct Board {
    /// The objects.
    pub stores: Stores,
    /// How the watches do.
    pub health: WatchHealth,
    shared: Arc<Shared>,
}

struct Shared {
    index: Mutex<Index>,
    /// What the numbers of changes begin with: those of another process say nothing here.
    epoch: String,
    last: AtomicU64,
    hearing: Mutex<Hearing>,
}

#[derive(Default)]
struct Index {
    /// Namespace and name of each session, by uid.
    by_uid: HashMap<String, (String, String, String)>,
    /// The uid of each session, by user and then by namespace and name.
    by_user: HashMap<String, HashMap<(String, String), String>>,
}

#[derive(Default)]
struct Hearing {
    listeners: HashMap<String, broadcast::Sender<Change>>,
    kept: VecDeque<(u64, String, Change)>,
}

/// A change of one session, for its user.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its number.
    pub number: u64,
    /// The session's uid.
    pub uid: String,
    /// The session, unless its resource is gone.
    pub session: Option<Arc<Session>>,
}

impl Board {
    /// An empty board. `epoch` tells this process from all others.
    pub fn new(epoch: &str) -> Self {
        let shared = Shared {
            index: Mutex::default(),
            epoch: epoch.to_owned(),
            last: AtomicU64::new(0),
            hearing: Mutex::default(),
        };
        Self { stores: Stores::default(), health: WatchHealth::default(), shared: Arc::new(shared) }
    }

    /// Watches, until the process ends: in these namespaces, or without any in the whole cluster. `seen` hears of each
    /// session as it stands, and as it stood last when its resource is gone.
    pub async fn run(self, client: kube::Client, namespaces: Vec<String>, seen: impl Fn(&Session, bool) + Clone) {
        let mut scopes: Vec<Scope> = namespaces.into_iter().map(Some).collect();
        if scopes.is_empty() {
            scopes.push(None);
        }
        let watches = scopes.into_iter().map(|scope| {
            let (board, seen, client) = (self.clone(), seen.clone(), client.clone());
            async move {
                for kind in ["Session", "Workspace", "SessionPolicy"] {
                    board.health.unlisted(kind, &scope);
                }
                let watches = Watches { client, health: board.health.clone(), scope, handed_in: None };
                let all = watcher::Config::default;
                futures::join!(
                    watches.watch("Session", all(), &board.stores.sessions, |change| board.session(change, &seen)),
                    watches.watch("Workspace", all(), &board.stores.workspaces, |_| {}),
                    watches.watch("SessionPolicy", all(), &board.stores.policies, |_| {}),
                );
            }
        });
        futures::future::join_all(watches).await;
    }

    fn session(&self, change: Watched<'_, Session>, seen: &impl Fn(&Session, bool)) {
        match change {
            Watched::Is(session) => {
                seen(session, false);
                self.put(session);
            }
            Watched::Gone(session) => {
                seen(session, true);
                self.take(session);
            }
            Watched::All(scope) => {
                let there = |session: &Session| scope.is_none() || session.namespace() == *scope;
                let all = self.stores.sessions.reader().state();
                self.forget_gone(&all, scope);
                for session in all.iter().filter(|session| there(session)) {
                    seen(session, false);
                    self.put(session);
                }
            }
            Watched::Readability(_) => {}
        }
    }

    /// After a list: what it does not have any more has gone.
    fn forget_gone(&self, all: &[Arc<Session>], scope: &Scope) {
        let there: HashSet<String> = all.iter().filter_map(|session| session.uid()).collect();
        let gone: Vec<(String, String)> = {
            let mut index = self.index();
            let is_gone = |uid: &String, namespace: &String| {
                !there.contains(uid) && scope.as_ref().is_none_or(|scope| scope == namespace)
            };
            let gone: Vec<String> = index
                .by_uid
                .iter()
                .filter(|(uid, (namespace, ..))| is_gone(uid, namespace))
                .map(|(uid, _)| uid.clone())
                .collect();
            gone.into_iter().filter_map(|uid| Some((index.remove(&uid)?, uid))).collect()
        };
        for (user, uid) in gone {
            self.tell(&user, &uid, None);
        }
    }

    fn put(&self, session: &Session) {
        let (namespace, name) = (session.namespace().unwrap_or_default(), session.name_any());
        let (uid, user) = (session.uid().unwrap_or_default(), session.spec.user.id.to_string());
        {
            let mut index = self.index();
            index.by_user.entry(user.clone()).or_default().insert((namespace.clone(), name.clone()), uid.clone());
            index.by_uid.insert(uid.clone(), (namespace.clone(), name.clone(), user.clone()));
        }
        if let Some(known) = self.stores.sessions.get(&namespace, &name) {
            self.tell(&user, &uid, Some(known));
        }
    }

    fn take(&self, session: &Session) {
        let uid = session.uid().unwrap_or_default();
        let user = self.index().remove(&uid);
        if let Some(user) = user {
            self.tell(&user, &uid, None);
        }
    }

    fn tell(&self, user: &str, uid: &str, session: Option<Arc<Session>>) {
        let mut hearing = self.hearing();
        let number = self.shared.last.fetch_add(1, Ordering::Relaxed) + 1;
        let change = Change { number, uid: uid.to_owned(), session };
        if hearing.kept.len() == KEPT {
            hearing.kept.pop_front();
        }
        hearing.kept.push_back((number, user.to_owned(), change.clone()));
        let gone = hearing.listeners.get(user).is_some_and(|listeners| listeners.send(change).is_err());
        if gone {
            hearing.listeners.remove(user);
        }
    }

    fn index(&self) -> std::sync::MutexGuard<'_, Index> {
        self.shared.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hearing(&self) -> std::sync::MutexGuard<'_, Hearing> {
        self.shared.hearing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether everything there is was listed once.
    pub fn is_ready(&self) -> bool {
        self.health.is_listed_everywhere()
    }

    /// The session with this uid, if it has a resource.
    pub fn session_of(&self, uid: &str) -> Option<Arc<Session>> {
        let (namespace, name, _) = self.index().by_uid.get(uid).cloned()?;
        self.stores.sessions.get(&namespace, &name).filter(|session| session.uid().as_deref() == Some(uid))
    }

    /// The sessions of this user that have a resource, in no order.
    pub fn sessions_of(&self, user: &str) -> Vec<Arc<Session>> {
        let names: Vec<(String, String)> =
            self.index().by_user.get(user).into_iter().flatten().map(|(name, _)| name.clone()).collect();
        let session = |(namespace, name): &(String, String)| self.stores.sessions.get(namespace, name);
        names.iter().filter_map(session).filter(|session| session.spec.user.id.as_str() == user).collect()
    }

    /// The sessions of this organization that have a resource, in no order.
    pub fn sessions_in(&self, organization: &str) -> Vec<Arc<Session>> {
        self.stores.sessions.reader().state_filter(|session| session.namespace().as_deref() == Some(organization))
    }

    /// Every Workspace, by organization and name.
    pub fn workspaces(&self) -> BTreeMap<(String, String), Arc<Workspace>> {
        let all = self.stores.workspaces.reader().state();
        all.into_iter().map(|it| ((it.namespace().unwrap_or_default(), it.name_any()), it)).collect()
    }

    /// The place in the queue, from 1 on, of a session that waits for a slot: readers work it out, nobody writes it.
    pub fn queue_position(&self, session: &Session) -> Option<usize> {
        let waits = |session: &Session| {
            session.status.as_ref().is_none_or(|status| {
                status.ended_at.is_none()
                    && status.phase.is_none_or(|phase| phase == Phase::Pending)
                    && !admission::is_aside(&status.conditions)
            })
        };
        if !waits(session) {
            return None;
        }
        let place = |session: &Session| -> (Option<Instant>, Option<String>) {
            (session.metadata.creation_timestamp.as_ref().map(from_wire), session.uid())
        };
        let queue = key(&session.namespace().unwrap_or_default(), session.spec.workspace_ref.name.as_str());
        let before = self.stores.sessions.under(&queue);
        Some(before.iter().filter(|other| waits(other) && place(other) < place(session)).count() + 1)
    }

    /// The number of the last change, as a listener is told.
    pub fn mark(&self, number: u64) -> String {
        format!("{}-{number}", self.shared.epoch)
    }

    /// Listens to the changes of `user`. What is kept since the mark `since` comes with it, and nothing where that cannot be
    /// told any more: then everything is to be told anew.
    pub fn listen(&self, user: &str, since: Option<&str>) -> Heard {
        let mut hearing = self.hearing();
        let changes =
            hearing.listeners.entry(user.to_owned()).or_insert_with(|| broadcast::channel(BEHIND).0).subscribe();
        let last = self.shared.last.load(Ordering::Relaxed);
        let since =
            since.and_then(|mark| mark.strip_prefix(&self.shared.epoch)?.strip_prefix('-')?.parse::<u64>().ok());
        let first_kept = hearing.kept.front().map_or(last + 1, |(number, ..)| *number);
        let missed = since.filter(|since| *since <= last && since.saturating_add(1) >= first_kept).map(|since| {
            let of_user = |(number, of, _): &&(u64, String, Change)| *number > since && of == user;
            hearing.kept.iter().filter(of_user).map(|(.., change)| change.clone()).collect()
        });
        Heard { last, missed, changes }
    }
}

/// What a listener begins with.
pub struct Heard {
    /// The number of the last change before those that are to come.
    pub last: u64,
    /// What the listener has missed; nothing where nobody knows any more.
    pub missed: Option<Vec<Change>>,
    /// What is to come.
    pub changes: broadcast::Receiver<Change>,
}

impl Index {
    /// Forgets a session; returns whose it was.
    fn remove(&mut self, uid: &str) -> Option<String> {
        let (namespace, name, user) = self.by_uid.remove(uid)?;
        if let Some(names) = self.by_user.get_mut(&user) {
            let place = (namespace, name);
            // A namesake may have taken its place already.
            if names.get(&place).is_some_and(|known| known == uid) {
                names.remove(&place);
            }
            if names.is_empty() {
                self.by_user.remove(&user);
            }
        }
        Some(user)
    }
}
