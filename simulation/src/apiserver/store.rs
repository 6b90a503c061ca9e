//! What etcd holds: objects, one revision for all, and the history that watches read. Owns revisions; whether a change
//! may be made is `verbs`'.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

/// Where an object is stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its resource, such as `pods` or `sessions.berth.dev`.
    pub resource: String,
    /// Its namespace; empty where it has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// The key of this object.
    pub fn new(resource: &str, namespace: &str, name: &str) -> Self {
        Self { resource: resource.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// The revision that it made.
    pub revision: u64,
    /// Of what.
    pub key: Key,
    /// What stood before; nothing of a creation.
    pub before: Option<Arc<Value>>,
    /// What stands since; nothing of a deletion.
    pub after: Option<Arc<Value>>,
}

/// All objects, and how they came to be.
#[derive(Debug, Default)]
pub struct Store {
    revision: u64,
    compacted: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    /// One change for each revision, from 1. Compaction takes it from clients only.
    history: Vec<Change>,
}

impl Store {
    /// The newest revision.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The revision up to which clients are told nothing.
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Tells clients nothing of what was before this revision.
    pub fn compact(&mut self, revision: u64) {
        self.compacted = self.compacted.max(revision.min(self.revision));
    }

    /// The object there, if one stands.
    pub fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// All objects of a resource, by namespace and name.
    pub fn all<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        self.objects.range(Key::new(resource, "", "")..).take_while(move |(key, _)| key.resource == resource)
    }

    /// All objects of a resource, as they stood at a revision.
    pub fn all_at(&self, resource: &str, revision: u64) -> BTreeMap<Key, Arc<Value>> {
        let mut stood: BTreeMap<Key, Arc<Value>> =
            self.all(resource).map(|(key, object)| (key.clone(), Arc::clone(object))).collect();
        for change in self.since(revision).iter().rev().filter(|change| change.key.resource == resource) {
            match &change.before {
                Some(before) => stood.insert(change.key.clone(), Arc::clone(before)),
                None => stood.remove(&change.key),
            };
        }
        stood
    }

    /// All changes after a revision, oldest first.
    pub fn since(&self, revision: u64) -> &[Change] {
        let from = usize::try_from(revision).unwrap_or(usize::MAX).min(self.history.len());
        self.history.get(from..).unwrap_or_default()
    }

    /// All changes, oldest first.
    pub fn history(&self) -> impl Iterator<Item = &Change> {
        self.history.iter()
    }

    /// Whether this revision made its object.
    pub fn made(&self, revision: u64) -> bool {
        let change = revision.checked_sub(1).and_then(|before| self.since(before).first());
        change.is_some_and(|change| change.before.is_none())
    }

    /// Stores an object, under the next revision.
    pub fn put(&mut self, key: &Key, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let object = Arc::new(object);
        let before = self.objects.insert(key.clone(), Arc::clone(&object));
        self.record(key, before, Some(Arc::clone(&object)));
        object
    }

    /// Removes an object, under the next revision; returns it as its last event has it.
    pub fn remove(&mut self, key: &Key) -> Option<Value> {
        let before = self.objects.remove(key)?;
        self.revision += 1;
        let mut last = Value::clone(&before);
        last["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.record(key, Some(before), None);
        Some(last)
    }

    fn record(&mut self, key: &Key, before: Option<Arc<Value>>, after: Option<Arc<Value>>) {
        self.history.push(Change { revision: self.revision, key: key.clone(), before, after });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("pods", "demo", name)
    }

    #[test]
    fn every_write_takes_the_next_revision_and_the_past_can_be_read() {
        let mut store = Store::default();
        store.put(&key("a"), json!({"n": 1}));
        store.put(&key("b"), json!({"n": 1}));
        store.put(&key("a"), json!({"n": 2}));
        store.remove(&key("b"));
        assert_eq!(store.revision(), 4);
        let names = |revision| store.all_at("pods", revision).into_keys().map(|key| key.name).collect::<Vec<_>>();
        assert_eq!(
            (names(0).len(), names(1), names(3), names(4)),
            (0, vec!["a".into()], vec!["a".into(), "b".into()], vec!["a".into()])
        );
        assert_eq!(store.all_at("pods", 2)[&key("a")]["n"], 1);
        assert_eq!(store.all_at("pods", 3)[&key("a")]["metadata"]["resourceVersion"], "3");
    }

    #[test]
    fn resources_do_not_run_into_each_other() {
        let mut store = Store::default();
        store.put(&key("a"), json!({}));
        store.put(&Key::new("podsandmore", "x", "y"), json!({}));
        assert_eq!(store.all("pods").count(), 1);
    }

    #[test]
    fn compaction_goes_forward_only_and_not_beyond_what_is() {
        let mut store = Store::default();
        store.put(&key("a"), json!({}));
        store.compact(9);
        store.compact(0);
        assert_eq!(store.compacted(), 1);
    }
}
