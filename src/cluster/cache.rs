//! What the watches have seen, newest version first. A cache takes objects from two sides, the watch and the
//! answers to our own writes, so that the next decision sees what the last one did. It owns the rule by which
//! the two are merged, and one index; it asks nobody.

mod index;
mod keys;

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::pod::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};

use self::index::{Index, Keys};
use self::keys::stage_key;
pub use self::keys::{Stage, key, place_key, pool_key, user_key};
use super::slim::Slim;
use crate::api::{SESSION_UID_LABEL, Session, SessionPolicy, WORKSPACE_UID_LABEL, Workspace};
use crate::plan::orphan::Owner;
use crate::plan::pod::session_of;
use crate::plan::{name, pool};
use crate::planted::{self, Bug};

/// The caches of all kinds.
#[derive(Clone)]
pub struct Stores {
    /// All Sessions, by Workspace and how far they are there, and by user.
    pub sessions: Cache<Session>,
    /// All Workspaces, by the name of what each has beside its instances.
    pub workspaces: Cache<Workspace>,
    /// All SessionPolicies; those that limit users by namespace.
    pub policies: Cache<SessionPolicy>,
    /// The pods that Berth made, by the uid of their Session or by the pool that they wait in, and by their place there.
    pub pods: Cache<Pod>,
    /// The NetworkPolicies that Berth made.
    pub network_policies: Cache<NetworkPolicy>,
    /// The PodDisruptionBudgets that Berth made.
    pub budgets: Cache<PodDisruptionBudget>,
}

impl Default for Stores {
    fn default() -> Self {
        Self {
            sessions: Cache::new(|session: &Session| {
                let namespace = session.namespace().unwrap_or_default();
                let of_workspace = stage_key(&namespace, session.spec.workspace_ref.name.as_str(), Stage::of(session));
                [Some(of_workspace), Some(user_key(&namespace, session.spec.user.id.as_str()))]
            }),
            workspaces: Cache::new(|workspace: &Workspace| {
                let (namespace, uid) = (workspace.namespace().unwrap_or_default(), workspace.uid().unwrap_or_default());
                [Some(key(&namespace, &name::of_workspace(&workspace.name_any(), &uid))), None]
            }),
            policies: Cache::new(|policy: &SessionPolicy| {
                let limits = policy.spec.limits.as_ref().is_some_and(|limits| limits.sessions_per_user.is_some());
                [policy.namespace().filter(|_| limits), None]
            }),
            pods: Cache::new(|pod: &Pod| {
                let of_pool = pod.labels().get(WORKSPACE_UID_LABEL).zip(pool::slot(pod));
                // A pod whose label somebody took is its session's all the same.
                let session = pod.labels().get(SESSION_UID_LABEL).or_else(|| session_of(pod)).cloned();
                [
                    session.or_else(|| of_pool.map(|(uid, _)| pool_key(uid))),
                    of_pool.map(|(uid, slot)| place_key(uid, slot)),
                ]
            }),
            network_policies: Cache::new(|_| [None, None]),
            budgets: Cache::new(|_| [None, None]),
        }
    }
}

impl Stores {
    /// The sessions of a Workspace that are so far, as their own statuses say.
    pub fn sessions_at(&self, namespace: &str, workspace: &str, stage: Stage) -> Vec<Arc<Session>> {
        self.sessions.under(&stage_key(namespace, workspace, stage))
    }

    /// How many sessions of a Workspace hold a slot, and those that wait for one, at one moment and as their own statuses say. Those
    /// that hold one are counted without a walk along them.
    pub fn slots(&self, namespace: &str, workspace: &str) -> (usize, Vec<Arc<Session>>) {
        let at = |stage| stage_key(namespace, workspace, stage);
        self.sessions.count_and_under(&at(Stage::Holds), &at(Stage::Waits))
    }

    /// All sessions of a Workspace, ended ones too.
    pub fn sessions_of(&self, namespace: &str, workspace: &str) -> Vec<Arc<Session>> {
        Stage::ALL.into_iter().flat_map(|stage| self.sessions_at(namespace, workspace, stage)).collect()
    }

    /// Whether the object stands that a pod was made for, as far as was seen.
    pub fn knows(&self, namespace: &str, owner: Owner<'_>) -> bool {
        let (known, uid) = match owner {
            Owner::Session(name, uid) => (self.sessions.get(namespace, name).and_then(|known| known.uid()), uid),
            Owner::Workspace(name, uid) => (self.workspaces.get(namespace, name).and_then(|known| known.uid()), uid),
        };
        known.as_deref() == Some(uid)
    }
}

/// The objects of one kind.
#[derive(Clone)]
pub struct Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    reader: Store<K>,
    inner: Arc<Mutex<Inner<K>>>,
}

struct Inner<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    writer: Writer<K>,
    /// What each watch has brought: one for the whole cluster, or one for each namespace.
    watches: HashMap<Scope, Progress<K>>,
    reader: Store<K>,
    index: Index<K>,
    /// Objects that stand and cannot be read. What was known of one before is kept: it still holds what it held.
    unreadable: HashMap<ObjectRef<K>, WhyUnreadable>,
}

/// What a watch covers: a namespace, or the whole cluster.
pub type Scope = Option<String>;

struct Progress<K: Resource<DynamicType = ()>> {
    /// The newest resource version that the watch has brought: what is absent and older was deleted.
    position: u64,
    /// What came while a list is under way.
    listing: Option<Listing<K>>,
}

impl<K: Resource<DynamicType = ()>> Default for Progress<K> {
    fn default() -> Self {
        Self { position: 0, listing: None }
    }
}

struct Listing<K: Resource<DynamicType = ()>> {
    /// What the list has.
    objects: Vec<K>,
    /// What we wrote, which may be newer than the list.
    written: Vec<K>,
    /// What the list has that cannot be read.
    unreadable: HashMap<ObjectRef<K>, WhyUnreadable>,
}

/// What became of taking in an object that cannot be read.
pub struct Taken<K> {
    /// Whether it was not known that it cannot be.
    pub is_news: bool,
    /// The object that was known by this name before, if it was another.
    pub replaced: Option<Arc<K>>,
}

/// An object that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhyUnreadable {
    /// Its uid.
    pub uid: String,
    /// Why it cannot be read.
    pub error: String,
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + 'static,
    ObjectRef<K>: Hash + Eq,
{
    fn new(keys: fn(&K) -> Keys) -> Self {
        let writer = Writer::<K>::default();
        let reader = writer.as_reader();
        Self {
            reader: reader.clone(),
            inner: Arc::new(Mutex::new(Inner {
                writer,
                reader,
                watches: HashMap::new(),
                index: Index::new(keys),
                unreadable: HashMap::new(),
            })),
        }
    }

    /// The objects, for reading.
    pub fn reader(&self) -> Store<K> {
        self.reader.clone()
    }

    /// The object of this name, if it is known.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.reader.get(&ObjectRef::new(name).within(namespace))
    }

    /// Why the object of this name cannot be read, if it stands and cannot be.
    pub fn why_unreadable(&self, namespace: &str, name: &str) -> Option<String> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.unreadable.get(&ObjectRef::new(name).within(namespace)).map(|why| why.error.clone())
    }

    /// The objects of this namespace that cannot be read and of which nothing was known before.
    pub fn unknown_in(&self, namespace: &str) -> Vec<WhyUnreadable> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let here = |object: &&ObjectRef<K>| object.namespace.as_deref() == Some(namespace);
        let unknown = inner.unreadable.keys().filter(here).filter(|object| self.reader.get(object).is_none());
        unknown.filter_map(|object| inner.unreadable.get(object).cloned()).collect()
    }

    /// How many objects stand and cannot be read.
    pub fn unreadable_count(&self) -> i64 {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        i64::try_from(inner.unreadable.len()).unwrap_or(i64::MAX)
    }

    /// Takes in an object that cannot be read.
    pub fn take_unreadable(&self, scope: &Scope, object: &InvalidObject) -> Taken<K> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let why = WhyUnreadable { uid: object.metadata.uid.clone().unwrap_or_default(), error: object.error.clone() };
        let reference = reference(&object.metadata);
        let is_news = inner.unreadable.get(&reference) != Some(&why);
        if let Some(listing) = &mut inner.progress(scope).listing {
            listing.unreadable.insert(reference.clone(), why.clone());
        }
        inner.unreadable.insert(reference.clone(), why);
        // A namesake that was known before it has gone.
        let replaced = self.reader.get(&reference).filter(|known| known.meta().uid != object.metadata.uid);
        if let Some(gone) = &replaced {
            inner.remove(Arc::clone(gone));
        }
        Taken { is_news, replaced }
    }

    /// Takes in that an object which cannot be read is gone; returns what was known of it before.
    pub fn forget(&self, gone: &ObjectMeta) -> Option<Arc<K>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let reference = reference(gone);
        inner.unreadable.remove(&reference);
        let known = self.reader.get(&reference).filter(|known| known.meta().uid == gone.uid)?;
        inner.remove(Arc::clone(&known));
        Some(known)
    }

    /// Whether there is an object under `key` of this cache's index.
    pub fn has_under(&self, key: &str) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).index.count_under(key) > 0
    }

    /// The objects under `key` of this cache's index.
    pub fn under(&self, key: &str) -> Vec<Arc<K>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).index.under(key)
    }

    /// How many objects there are under one key of this cache's index, and at the same moment those under another.
    fn count_and_under(&self, counted: &str, key: &str) -> (usize, Vec<Arc<K>>) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.index.count_under(counted), inner.index.under(key))
    }

    /// Takes in what the watch of this scope brought. An event that is older than what is known changes nothing.
    /// Says whether it is about one that could not be read before.
    pub fn take(&self, scope: &Scope, event: &Event<K>) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Apply(object) => {
                let readable_again = inner.unreadable.remove(&ObjectRef::from_obj(object)).is_some();
                inner.advance(scope, version(object));
                let newer = self.known(object).is_none_or(|known| version(known.as_ref()) <= version(object));
                if newer || planted::is(Bug::OlderWins) {
                    inner.put(self.known(object), object);
                }
                return readable_again;
            }
            Event::Delete(object) => {
                inner.unreadable.remove(&ObjectRef::from_obj(object));
                inner.advance(scope, version(object));
                if self.known(object).is_some_and(|known| version(known.as_ref()) <= version(object)) {
                    inner.index.drop(self.known(object).as_ref());
                    inner.writer.apply_watcher_event(event);
                }
            }
            // A list replaces everything in its scope, also where the versions went backward, as after a restored etcd.
            Event::Init => {
                let listing = Listing { objects: Vec::new(), written: Vec::new(), unreadable: HashMap::new() };
                *inner.progress(scope) = Progress { position: 0, listing: Some(listing) };
            }
            Event::InitApply(object) => {
                inner.advance(scope, version(object));
                if let Some(listing) = &mut inner.progress(scope).listing {
                    listing.objects.push(object.clone());
                }
            }
            Event::InitDone => {
                let Some(Listing { objects, written, unreadable }) = inner.progress(scope).listing.take() else {
                    return false;
                };
                // It replaces what was known there, but for what stands and cannot be read any more.
                let elsewhere = |namespace: Option<&str>| scope.is_some() && namespace != scope.as_deref();
                let kept = self.reader.state().into_iter().filter(|known| {
                    elsewhere(known.meta().namespace.as_deref())
                        || planted::is(Bug::ListForgetsNothing)
                        || unreadable
                            .get(&ObjectRef::from_obj(&**known))
                            .is_some_and(|why| why.uid == known.meta().uid.as_deref().unwrap_or_default())
                });
                let kept: Vec<K> = kept.map(|known| known.as_ref().clone()).collect();
                inner.writer.apply_watcher_event(&Event::Init);
                for object in kept.into_iter().chain(objects) {
                    inner.writer.apply_watcher_event(&Event::InitApply(object));
                }
                inner.writer.apply_watcher_event(&Event::InitDone);
                inner.unreadable.retain(|object, _| elsewhere(object.namespace.as_deref()));
                inner.unreadable.extend(unreadable);
                inner.index.clear();
                for object in self.reader.state() {
                    inner.index.add(&object);
                }
                // What was going and is not in the list has gone: no event would come to say so.
                let stands = |object: &K| object.meta().deletion_timestamp.is_none() || self.known(object).is_some();
                for object in written.into_iter().filter(stands) {
                    self.take_own(&mut inner, object);
                }
            }
        }
        false
    }

    /// Takes in what a write of ours returned. An object that is not known and older than what the watch has
    /// brought was deleted since, and one without finalizers that is being deleted is gone.
    pub fn own(&self, mut object: K)
    where
        K: Slim,
    {
        object.slim();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(listing) = &mut inner.progress_of(&object).listing {
            listing.written.push(object.clone());
        }
        self.take_own(&mut inner, object);
    }

    fn take_own(&self, inner: &mut Inner<K>, object: K) {
        let gone = object.meta().deletion_timestamp.is_some()
            && object.finalizers().is_empty()
            && object.meta().deletion_grace_period_seconds.unwrap_or(0) == 0;
        let newer = match self.known(&object) {
            Some(known) => version(known.as_ref()) < version(&object),
            None => inner.progress_of(&object).position < version(&object),
        };
        if newer && !gone {
            inner.put(self.known(&object), &object);
        }
    }

    fn known(&self, object: &K) -> Option<Arc<K>> {
        self.reader.get(&ObjectRef::from_obj(object))
    }
}

impl<K> Inner<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
    ObjectRef<K>: Hash + Eq,
{
    fn progress(&mut self, scope: &Scope) -> &mut Progress<K> {
        self.watches.entry(scope.clone()).or_default()
    }

    /// The progress of the watch that covers `object`.
    fn progress_of(&mut self, object: &K) -> &mut Progress<K> {
        let scope = object.meta().namespace.clone().filter(|_| !self.watches.contains_key(&None));
        self.progress(&scope)
    }

    fn advance(&mut self, scope: &Scope, version: u64) {
        let progress = self.progress(scope);
        progress.position = progress.position.max(version);
    }

    fn put(&mut self, known: Option<Arc<K>>, object: &K) {
        self.index.drop(known.as_ref());
        self.writer.apply_watcher_event(&Event::Apply(object.clone()));
        if let Some(kept) = self.reader.get(&ObjectRef::from_obj(object)) {
            self.index.add(&kept);
        }
    }

    fn remove(&mut self, known: Arc<K>) {
        self.writer.apply_watcher_event(&Event::Delete(known.as_ref().clone()));
        self.index.drop(Some(&known));
    }
}

/// The name of an object, by which it is known.
fn reference<K: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> ObjectRef<K> {
    ObjectRef::new(meta.name.as_deref().unwrap_or_default()).within(meta.namespace.as_deref().unwrap_or_default())
}

/// The resource version as a number. Versions of one kind are comparable: etcd's revisions, and a promise since
/// Kubernetes 1.35 (KEP-5504).
fn version<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}
