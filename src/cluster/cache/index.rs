//! The index of a cache: objects by keys that follow from what they say. Owns what is found under a key; not what the keys are, nor
//! which version of an object is the newer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Under which keys an object is found.
pub(super) type Keys = [Option<String>; 2];

/// Objects by their keys. Who changes one drops it first, and adds what it has become: each is known by where it lies, and no name is
/// kept a second time.
pub(super) struct Index<K> {
    found: HashMap<String, Found<K>>,
    keys: fn(&K) -> Keys,
}

/// What is found under one key: of most keys it is one object, and a map for each would take more room than the object's name.
enum Found<K> {
    One(Arc<K>),
    /// To find one among ten thousand by its address takes some microseconds, once a change. By the address as a key it would take less,
    /// and no trial would be played alike twice.
    Many(Vec<Arc<K>>),
}

impl<K> Index<K> {
    pub(super) fn new(keys: fn(&K) -> Keys) -> Self {
        Self { found: HashMap::new(), keys }
    }

    /// The objects under `key`.
    pub(super) fn under(&self, key: &str) -> Vec<Arc<K>> {
        match self.found.get(key) {
            None => Vec::new(),
            Some(Found::One(object)) => vec![Arc::clone(object)],
            Some(Found::Many(objects)) => objects.clone(),
        }
    }

    /// How many objects there are under `key`.
    pub(super) fn count_under(&self, key: &str) -> usize {
        match self.found.get(key) {
            None => 0,
            Some(Found::One(_)) => 1,
            Some(Found::Many(objects)) => objects.len(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.found.clear();
    }

    /// Adds an object.
    pub(super) fn add(&mut self, object: &Arc<K>) {
        for key in (self.keys)(object).into_iter().flatten() {
            match self.found.entry(key) {
                Entry::Vacant(none) => {
                    none.insert(Found::One(Arc::clone(object)));
                }
                Entry::Occupied(mut found) => found.get_mut().insert(object),
            }
        }
    }

    /// Takes out an object that was added, by what it says.
    pub(super) fn drop(&mut self, known: Option<&Arc<K>>) {
        let Some(known) = known else { return };
        for key in (self.keys)(known).into_iter().flatten() {
            if let Entry::Occupied(mut found) = self.found.entry(key)
                && found.get_mut().is_empty_without(known)
            {
                found.remove();
            }
        }
    }
}

impl<K> Found<K> {
    fn insert(&mut self, object: &Arc<K>) {
        match self {
            Self::One(known) => *self = Self::Many(vec![Arc::clone(known), Arc::clone(object)]),
            Self::Many(objects) => objects.push(Arc::clone(object)),
        }
    }

    /// Takes the object out; whether nothing is left.
    fn is_empty_without(&mut self, object: &Arc<K>) -> bool {
        match self {
            Self::One(known) => Arc::ptr_eq(known, object),
            Self::Many(objects) => {
                // What was added last is mostly what changes next.
                if let Some(at) = objects.iter().rposition(|known| Arc::ptr_eq(known, object)) {
                    objects.swap_remove(at);
                }
                objects.is_empty()
            }
        }
    }
}
