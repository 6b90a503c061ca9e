//! The kinds that are served, and how they differ from each other. Owns the table; what the differences mean is
//! `verbs`' and `read`'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ResourceQuota, Secret, Service,
};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads an object of a built-in kind and writes it again, without what its type does not know.
pub type Decode = fn(&Value) -> Result<Value, serde_json::Error>;

/// One kind of object.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Its group; empty for the core.
    pub group: String,
    /// Its version.
    pub version: String,
    /// As paths call it, such as `pods`.
    pub plural: String,
    /// As objects call it, such as `Pod`.
    pub kind: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Whether it has a status of its own rights.
    pub has_status: bool,
    /// Whether a change of the spec is counted in `metadata.generation`.
    pub counts: bool,
    /// Whether an update without a resource version is taken.
    pub unconditional: bool,
    /// Whether an update of what is not there makes it.
    pub create_on_update: bool,
    /// Whether a delete that is done answers with the object.
    pub returns_deleted: bool,
    /// What field selectors may ask about, beside name and namespace.
    pub fields: Vec<String>,
    /// The schema of a kind of ours.
    pub schema: Option<Value>,
    /// The reading and writing of a built-in kind, which drops what it does not know.
    pub decode: Option<Decode>,
}

impl Kind {
    /// `pods`, `sessions.berth.dev`: what the store and messages call it.
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `v1`, `berth.dev/v1alpha1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Whether it has a definition, as ours do.
    pub fn is_custom(&self) -> bool {
        self.schema.is_some()
    }
}

/// All kinds, by resource.
#[derive(Clone, Debug)]
pub struct Kinds(BTreeMap<String, Arc<Kind>>);

impl Default for Kinds {
    /// Those that Berth and the actors meet.
    fn default() -> Self {
        let mut kinds = vec![
            Kind { unconditional: true, ..built_in::<ConfigMap>("", "v1", "configmaps", "ConfigMap") },
            Kind { unconditional: true, ..built_in::<Secret>("", "v1", "secrets", "Secret") },
            Kind { unconditional: true, ..built_in::<Service>("", "v1", "services", "Service") },
            Kind { unconditional: true, ..built_in::<ResourceQuota>("", "v1", "resourcequotas", "ResourceQuota") },
            Kind {
                unconditional: true,
                has_status: true,
                returns_deleted: true,
                ..built_in::<PersistentVolumeClaim>("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
            },
            Kind {
                unconditional: true,
                has_status: true,
                counts: true,
                returns_deleted: true,
                fields: ["spec.nodeName", "status.phase"].map(str::to_owned).to_vec(),
                ..built_in::<Pod>("", "v1", "pods", "Pod")
            },
            Kind {
                namespaced: false,
                unconditional: true,
                has_status: true,
                ..built_in::<Node>("", "v1", "nodes", "Node")
            },
            Kind {
                namespaced: false,
                unconditional: true,
                has_status: true,
                ..built_in::<Namespace>("", "v1", "namespaces", "Namespace")
            },
            Kind {
                namespaced: false,
                unconditional: true,
                has_status: true,
                ..built_in::<PersistentVolume>("", "v1", "persistentvolumes", "PersistentVolume")
            },
            Kind {
                namespaced: false,
                unconditional: true,
                ..built_in::<StorageClass>("storage.k8s.io", "v1", "storageclasses", "StorageClass")
            },
            Kind {
                unconditional: true,
                counts: true,
                ..built_in::<NetworkPolicy>("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
            },
            Kind {
                unconditional: true,
                has_status: true,
                counts: true,
                ..built_in::<PodDisruptionBudget>("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
            },
            Kind { create_on_update: true, ..built_in::<Lease>("coordination.k8s.io", "v1", "leases", "Lease") },
            Kind {
                unconditional: true,
                create_on_update: true,
                ..built_in::<Event>("events.k8s.io", "v1", "events", "Event")
            },
        ];
        kinds.extend(berth::install::crds().iter().flat_map(|(_, crd)| custom(crd)));
        Self(kinds.into_iter().map(|kind| (kind.resource(), Arc::new(kind))).collect())
    }
}

impl Kinds {
    /// The kind of this group, version and plural.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.0.values().find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
    }

    /// The kind that the store calls so.
    pub fn of(&self, resource: &str) -> Option<&Arc<Kind>> {
        self.0.get(resource)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.0.values()
    }

    /// Serves the kinds of a definition, in place of what was served under their names.
    pub fn define(&mut self, definition: &CustomResourceDefinition) {
        self.0.extend(custom(definition).into_iter().map(|kind| (kind.resource(), Arc::new(kind))));
    }

    /// Serves the kind no more.
    pub fn remove(&mut self, resource: &str) {
        self.0.remove(resource);
    }
}

fn built_in<K: DeserializeOwned + Serialize>(group: &str, version: &str, plural: &str, kind: &str) -> Kind {
    Kind {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: plural.to_owned(),
        kind: kind.to_owned(),
        namespaced: true,
        has_status: false,
        counts: false,
        unconditional: false,
        create_on_update: false,
        returns_deleted: false,
        fields: Vec::new(),
        schema: None,
        decode: Some(|object| serde_json::to_value(K::deserialize(object)?)),
    }
}

/// The kinds of a definition, one for each version that is served.
fn custom(definition: &CustomResourceDefinition) -> Vec<Kind> {
    let spec = &definition.spec;
    let served = spec.versions.iter().filter(|version| version.served);
    let kind = |version: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionVersion| {
        let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        let paths = version.selectable_fields.iter().flatten();
        Kind {
            group: spec.group.clone(),
            version: version.name.clone(),
            plural: spec.names.plural.clone(),
            kind: spec.names.kind.clone(),
            namespaced: spec.scope == "Namespaced",
            has_status: version.subresources.as_ref().is_some_and(|sub| sub.status.is_some()),
            counts: true,
            unconditional: false,
            create_on_update: false,
            returns_deleted: false,
            fields: paths.map(|field| field.json_path.trim_start_matches('.').to_owned()).collect(),
            schema: schema.and_then(|schema| serde_json::to_value(schema).ok()),
            decode: None,
        }
    };
    served.map(kind).collect()
}
