//! An object that a Workspace has beside its instances: whether it stands as it should, and what is to be put in its place.
//! Owns the comparison; what each is to be is its own module's.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

use crate::api::time::Instant;
use crate::api::{MANAGED_BY, MANAGED_BY_LABEL, WORKSPACE_ANNOTATION, WORKSPACE_UID_LABEL, Workspace};
use crate::plan::name;

/// How an object of a Workspace stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Child<K> {
    /// It needs none.
    #[default]
    Unneeded,
    /// As it should.
    Stands,
    /// Not as it should, or not at all.
    Wanting {
        /// What is to stand. With a resource version it takes the place of what stands.
        object: Box<K>,
        /// What became of the last attempt, and when the next is worth it.
        failed: Option<Failure>,
    },
    /// It stands and is not needed any more.
    Unwanted {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// It is being deleted, and something holds it up; it can be made anew once it is gone.
    Going,
    /// It cannot be made of what the Workspace says, for this reason.
    Impossible(String),
}

/// When an attempt that failed is worth another, and why it failed.
pub type Failure = (Instant, String);

impl<K> Child<K> {
    /// What is to be made at `now`, and when it is to be tried where that is later.
    pub fn due(&self, now: Instant) -> (Option<&K>, Option<Instant>) {
        match self {
            Self::Wanting { failed: Some((at, _)), .. } if *at > now => (None, Some(*at)),
            Self::Wanting { object, .. } => (Some(object), None),
            Self::Unneeded | Self::Stands | Self::Unwanted { .. } | Self::Going | Self::Impossible(_) => (None, None),
        }
    }
}

/// The metadata of what a Workspace has: its name, and the marks by which it is found and told from a stranger's.
pub fn metadata(workspace: &Workspace) -> ObjectMeta {
    let (name, uid) = (workspace.name_any(), workspace.uid().unwrap_or_default());
    ObjectMeta {
        name: Some(name::of_workspace(&name, &uid)),
        namespace: workspace.namespace(),
        labels: Some(BTreeMap::from([
            (MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned()),
            (WORKSPACE_UID_LABEL.to_owned(), uid),
        ])),
        annotations: Some(BTreeMap::from([(WORKSPACE_ANNOTATION.to_owned(), name)])),
        ..ObjectMeta::default()
    }
}

/// The reference by which Kubernetes deletes an object with its Workspace.
pub fn owner(workspace: &Workspace) -> OwnerReference {
    OwnerReference {
        api_version: Workspace::api_version(&()).into_owned(),
        kind: Workspace::kind(&()).into_owned(),
        name: workspace.name_any(),
        uid: workspace.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(false),
    }
}

/// An object of which every field but the marks is ours.
pub trait Whole: Resource {
    /// Whether the two ask for the same.
    fn asks_the_same(&self, other: &Self) -> bool;
}

impl Whole for NetworkPolicy {
    fn asks_the_same(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

impl Whole for PodDisruptionBudget {
    fn asks_the_same(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

/// How `wanted` stands, where `seen` stands under its name.
pub fn child<K: Whole>(wanted: K, seen: Option<&K>, failed: Option<Failure>) -> Child<K> {
    match seen {
        Some(seen) if seen.meta().deletion_timestamp.is_some() => Child::Going,
        Some(seen) if stands(seen, &wanted) => Child::Stands,
        seen => Child::Wanting { object: Box::new(in_place_of(wanted, seen)), failed },
    }
}

/// Whether it asks for what is wanted, can be found, and goes with whom it is to go with alone.
pub fn stands<K: Whole>(seen: &K, wanted: &K) -> bool {
    let has_all = |of: fn(&K) -> &BTreeMap<String, String>| {
        of(wanted).iter().all(|(key, value)| of(seen).get(key) == Some(value))
    };
    seen.asks_the_same(wanted)
        && seen.owner_references() == wanted.owner_references()
        && has_all(ResourceExt::labels)
        && has_all(ResourceExt::annotations)
}

/// What is wanted, over what was seen: labels, annotations and finalizers of others stay, everything else goes.
pub fn in_place_of<K: Resource>(mut wanted: K, seen: Option<&K>) -> K {
    if let Some(seen) = seen {
        let over = |theirs: &BTreeMap<String, String>, ours: &BTreeMap<String, String>| {
            let mut all = theirs.clone();
            all.extend(ours.clone());
            Some(all)
        };
        let (labels, annotations) =
            (over(seen.labels(), wanted.labels()), over(seen.annotations(), wanted.annotations()));
        let meta = wanted.meta_mut();
        (meta.labels, meta.annotations) = (labels, annotations);
        meta.finalizers.clone_from(&seen.meta().finalizers);
        meta.uid.clone_from(&seen.meta().uid);
        meta.resource_version.clone_from(&seen.meta().resource_version);
    }
    wanted
}
