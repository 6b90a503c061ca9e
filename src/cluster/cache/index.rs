//! The index of a cache: objects by keys that follow from what they say. Owns what is found under a key; not what the keys are, nor
//! which version of an object is the newer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::runtime::reflector::ObjectRef;

/// Under which keys an object is found.
pub(super) type Keys = [Option<String>; 2];

/// Objects by their keys.
pub(super) struct Index<K: Resource<DynamicType = ()>> {
    found: HashMap<String, Found<K>>,
    keys: fn(&K) -> Keys,
}

/// What is found under one key: of most keys it is one object, and a map for each would take more room than the object's name.
enum Found<K: Resource<DynamicType = ()>> {
    One(Arc<K>),
    Many(HashMap<ObjectRef<K>, Arc<K>>),
}

impl<K> Index<K>
where
    K: Resource<DynamicType = ()>,
    ObjectRef<K>: Hash + Eq,
{
    pub(super) fn new(keys: fn(&K) -> Keys) -> Self {
        Self { found: HashMap::new(), keys }
    }

    /// The objects under `key`.
    pub(super) fn under(&self, key: &str) -> Vec<Arc<K>> {
        match self.found.get(key) {
            None => Vec::new(),
            Some(Found::One(object)) => vec![Arc::clone(object)],
            Some(Found::Many(objects)) => objects.values().cloned().collect(),
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

    /// Adds an object, in the place of one of its name.
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

    /// Takes out what was known, by what it said.
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

impl<K> Found<K>
where
    K: Resource<DynamicType = ()>,
    ObjectRef<K>: Hash + Eq,
{
    fn insert(&mut self, object: &Arc<K>) {
        let is_same = |known: &Arc<K>| reference::<K>(known.meta()) == reference(object.meta());
        match self {
            Self::One(known) if is_same(known) => *known = Arc::clone(object),
            Self::One(known) => {
                let both = [Arc::clone(known), Arc::clone(object)];
                *self = Self::Many(both.into_iter().map(|object| (reference(object.meta()), object)).collect());
            }
            Self::Many(objects) => {
                objects.insert(reference(object.meta()), Arc::clone(object));
            }
        }
    }

    /// Takes the object of this name out; whether nothing is left.
    fn is_empty_without(&mut self, object: &Arc<K>) -> bool {
        let name = reference(object.meta());
        match self {
            Self::One(known) => reference::<K>(known.meta()) == name,
            Self::Many(objects) => {
                objects.remove(&name);
                objects.is_empty()
            }
        }
    }
}

/// The name of an object, by which it is known.
pub(super) fn reference<K: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> ObjectRef<K> {
    ObjectRef::new(meta.name.as_deref().unwrap_or_default()).within(meta.namespace.as_deref().unwrap_or_default())
}
