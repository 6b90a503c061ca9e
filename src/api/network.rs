//! What the instances of a Workspace may reach. Owns its shape and the rules that the API server checks; what becomes of it
//! is `plan::network`'s.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{Cidr, NamespaceName};

/// What instances may reach. Nobody but the gateway reaches them, whatever is written here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Whether instances may reach public addresses.
    #[serde(default = "yes")]
    pub public: bool,
    /// Private places that instances may reach besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub allow: Vec<Destination>,
}

fn yes() -> bool {
    true
}

impl Default for Network {
    fn default() -> Self {
        Self { public: true, allow: Vec::new() }
    }
}

/// A place that instances may reach: a network or pods, on these ports or all.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.cidr) != has(self.pods)")
    .message("write exactly one of cidr (addresses outside the cluster) and pods (pods of it)"))]
pub struct Destination {
    /// Addresses outside the cluster. Metadata services are part of a network only where it is written no wider than theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Cidr>,
    /// Pods of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<Pods>,
    /// The ports. Unwritten: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub ports: Vec<Port>,
}

/// Pods of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pods {
    /// Their namespace. Unwritten: the Workspace's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<NamespaceName>,
    /// The labels that they all have.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 8))]
    pub labels: BTreeMap<String, String>,
}

/// A port of a destination.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// The protocol.
    #[serde(default)]
    pub protocol: Transport,
    /// Its number.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 65535").message("write a port from 1 to 65535"))]
    pub port: i32,
}

/// A protocol that has ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Transport {
    /// RFC 9293.
    #[default]
    TCP,
    /// RFC 768.
    UDP,
}

impl Transport {
    /// The protocol as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TCP => "TCP",
            Self::UDP => "UDP",
        }
    }
}
