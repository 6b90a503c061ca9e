//! Workspace: what can be launched, a catalogue entry. Owns its shape; `plan::template` knows whether what
//! its template makes may run.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::condition::Condition;
use super::network::Network;
use super::text::{Fingerprint, Host, HostKey, Line, ObjectName, Paragraph, UrlPath, VolumeName};
use super::warm::{Warm, WarmStatus};

/// A catalogue entry: what is launched, how it is reached, and how many may use it at once.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "berth.dev",
    version = "v1alpha1",
    kind = "Workspace",
    plural = "workspaces",
    shortname = "ws",
    category = "berth",
    namespaced,
    status = "WorkspaceStatus",
    derive = "PartialEq",
    doc = "What can be launched: a desktop, a terminal or an application, in a pod or on a machine that exists.",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Sessions", type_ = "integer", json_path = ".status.activeSessions"),
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.maxSessions"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Display-Name", type_ = "string", json_path = ".spec.displayName", priority = 1),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policyRef.name", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Warm", type_ = "integer", json_path = ".status.warm.ready", priority = 1),
    selectable = ".spec.type",
    selectable = ".status.phase",
    scale(
        spec_replicas_path = ".spec.warm.replicas",
        status_replicas_path = ".status.warm.replicas",
        label_selector_path = ".status.warm.selector"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.template) != has(self.endpoint)")
        .message("write exactly one of spec.template (a pod is made for each session) and spec.endpoint (a machine that exists)"),
    validation = Rule::new("has(self.template) == has(oldSelf.template)")
        .message("spec.template and spec.endpoint do not take each other's place once the Workspace exists: make another one"),
    validation = Rule::new("self.access.protocol == 'HTTP' || !has(self.access.path)")
        .message("spec.access.path is for protocol HTTP; leave it out, or set spec.access.protocol to HTTP"),
    validation = Rule::new("!has(self.endpoint) || !has(self.endpoint.hostKeys) || self.access.protocol == 'SSH'")
        .message("spec.endpoint.hostKeys is for protocol SSH; leave it out, or set spec.access.protocol to SSH"),
    validation = Rule::new("!has(self.endpoint) || !has(self.endpoint.certificates) || self.access.protocol in ['HTTP', 'RDP']")
        .message("spec.endpoint.certificates is for protocols HTTP and RDP; leave it out: the other protocols show no certificate"),
    validation = Rule::new("has(self.template) || !has(self.network)")
        .message("spec.network is for instances that spec.template makes; leave it out: the machine of spec.endpoint has a network of its own"),
    validation = Rule::new("has(self.template) || !has(self.warm)")
        .message("spec.warm is for instances that spec.template makes; leave it out: the machine of spec.endpoint is there already"),
    validation = Rule::new("!has(self.warm) || !has(self.template) || !has(self.template.volumeClaims) || !self.template.volumeClaims.exists(claim, has(claim.retention) && claim.retention == 'Retain')")
        .message("a volume with retention: Retain is its user's, and an instance of spec.warm is made before there is one: remove spec.warm, or the retention"),
)]
pub struct WorkspaceSpec {
    /// The name that people see. Unwritten: the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<Line>,
    /// What it is for, in a sentence or two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Paragraph>,
    /// How it is shown in lists and in the dashboard.
    #[serde(rename = "type")]
    pub type_: WorkspaceType,
    /// How the workspace is reached once its instance runs.
    pub access: Access,
    /// The pod that is made for each session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// A machine that exists; nothing is provisioned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// What the instances may reach. Unwritten: public addresses, and nothing private.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// How many sessions may be live at once; 1 makes the workspace exclusive.
    #[serde(default = "one")]
    #[x_kube(validation = Rule::new("self >= 1 && self <= 10000")
        .message("write from 1 to 10000; to launch nothing new set spec.maintenance to true"))]
    pub max_sessions: i32,
    /// Instances that are kept ready for the next sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<Warm>,
    /// The policy of its sessions. Unwritten: the policy named `default`, else built-in values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_ref: Option<ObjectRef>,
    /// What becomes of this Workspace once its last session has ended by a disconnect or a timeout. One that was cut
    /// off, or broke, leaves it, to be launched again.
    #[serde(default)]
    pub reclaim_policy: ReclaimPolicy,
    /// What a drain of their node does to live instances.
    #[serde(default)]
    pub drain: Drain,
    /// When true nothing new is launched; live sessions finish.
    #[serde(default)]
    pub maintenance: bool,
}

fn one() -> i32 {
    1
}

/// How a workspace is shown in lists and in the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WorkspaceType {
    /// A Linux desktop.
    Linux,
    /// A Windows desktop.
    Windows,
    /// An application drawn in the browser.
    Html5,
    /// A web application.
    Web,
    /// A terminal.
    Ssh,
    /// A remote desktop.
    Rdp,
}

impl WorkspaceType {
    /// The type as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Windows => "windows",
            Self::Html5 => "html5",
            Self::Web => "web",
            Self::Ssh => "ssh",
            Self::Rdp => "rdp",
        }
    }
}

/// How an instance is reached.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// The protocol that the instance speaks on `port`.
    pub protocol: Protocol,
    /// The TCP port of the instance.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 65535").message("write the TCP port of the instance, from 1 to 65535"))]
    pub port: i32,
    /// For HTTP: the path at which the application begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<UrlPath>,
}

impl Access {
    /// Scheme, port and path: all of a URL but the host.
    pub fn without_host(&self) -> String {
        self.under(self.protocol.scheme())
    }

    fn under(&self, scheme: &str) -> String {
        let path = self.path.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{scheme}:{}{path}", self.port)
    }
}

impl Endpoint {
    /// The URL of the machine, reached as `access` says.
    pub fn url(&self, access: &Access) -> Option<String> {
        let scheme = match access.protocol {
            Protocol::HTTP if !self.certificates.is_empty() => "https",
            protocol => protocol.scheme(),
        };
        url_at(self.host.as_str(), &access.under(scheme))
    }
}

/// The URL at `host` of what [`Access::without_host`] wrote; nothing where the text is none of its.
pub fn url_at(host: &str, without_host: &str) -> Option<String> {
    let (scheme, rest) = without_host.split_once(':')?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    Some(format!("{scheme}://{host}:{rest}"))
}

/// The protocol that an instance speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// HTTP and WebSocket.
    HTTP,
    /// RFB, RFC 6143.
    VNC,
    /// Remote Desktop Protocol.
    RDP,
    /// Secure Shell, RFC 4253.
    SSH,
}

impl Protocol {
    /// The URL scheme of the protocol.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::HTTP => "http",
            Self::VNC => "vnc",
            Self::RDP => "rdp",
            Self::SSH => "ssh",
        }
    }
}

/// The pod that is made for each session, and its volume claims.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Labels and annotations of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMeta>,
    /// A PodSpec, as in a Deployment's template.
    #[schemars(schema_with = "preserved")]
    pub spec: Map<String, Value>,
    /// Volumes that are claimed for the session, each mountable by its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub volume_claims: Vec<VolumeClaim>,
}

/// Labels and annotations of the pods that a template makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMeta {
    /// Labels; keys under `berth.dev/` are reserved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations; keys under `berth.dev/` are reserved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A volume that is claimed for a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeClaim {
    /// The volume's name, to be named in `volumeMounts` of the template.
    pub name: VolumeName,
    /// Whether the volume goes with the session or stays for its user's next one.
    #[serde(default)]
    pub retention: Retention,
    /// A PersistentVolumeClaimSpec.
    #[schemars(schema_with = "preserved")]
    pub spec: Map<String, Value>,
}

/// What becomes of a volume when the session ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Retention {
    /// It is deleted with the session.
    #[default]
    Delete,
    /// It is kept for the next session of the same user on this Workspace.
    Retain,
}

/// A machine that exists.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.credentialsRef) || has(self.hostKeys) || has(self.certificates)")
    .message("credentials are shown to a machine that has proved who it is: add hostKeys or certificates"))]
pub struct Endpoint {
    /// Its host name or IP address; the port is that of `spec.access`.
    pub host: Host,
    /// For SSH: the machine's public keys, as in `ssh_host_ed25519_key.pub`. It has to prove one of them before a session begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8))]
    pub host_keys: Vec<HostKey>,
    /// For HTTP, which is HTTPS then, and RDP: the machine's certificates, as `openssl x509 -fingerprint -sha256` prints them.
    /// It has to prove one of them before a session begins, whoever signed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8))]
    pub certificates: Vec<Fingerprint>,
    /// A Secret in this namespace with what the gateway shows the machine on a person's behalf. A session begins only where
    /// it exists; the operator cannot read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<ObjectRef>,
}

/// The name of an object in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// The object's name.
    pub name: ObjectName,
}

/// What a drain of its node does to a live instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Drain {
    /// It waits until the session ends; its user is told.
    #[default]
    Wait,
    /// Its user is warned, and after the policy's `warnBefore` the session ends.
    End,
    /// It is evicted at once, and the session is lost.
    Evict,
}

/// What becomes of a Workspace once its last session has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReclaimPolicy {
    /// It stays.
    #[default]
    Retain,
    /// It is deleted: for one-off workspaces.
    Delete,
}

/// What the operator observed of a Workspace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceStatus {
    /// Whether it can be launched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<WorkspacePhase>,
    /// How many sessions hold a slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_sessions: Option<i32>,
    /// What the template made when it was last judged, as a hash: an edit of anything else leaves TemplateValid as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_hash: Option<String>,
    /// The pool, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<WarmStatus>,
    /// Ready, TemplateValid and NetworkPolicyApplied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Whether a Workspace can be launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorkspacePhase {
    /// A slot is free.
    Available,
    /// No slot is free.
    InUse,
    /// It is in maintenance.
    Maintenance,
    /// It cannot be launched as it is written.
    Unavailable,
}

impl WorkspacePhase {
    /// Every phase.
    pub const ALL: [Self; 4] = [Self::Available, Self::InUse, Self::Maintenance, Self::Unavailable];

    /// The phase as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "Available",
            Self::InUse => "InUse",
            Self::Maintenance => "Maintenance",
            Self::Unavailable => "Unavailable",
        }
    }
}

fn preserved(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

impl Workspace {
    /// Whether it stands and its status is about its spec as it is.
    pub fn is_observed(&self) -> bool {
        let observed = self.status.as_ref().and_then(|status| status.observed_generation);
        observed == self.metadata.generation && self.metadata.deletion_timestamp.is_none()
    }
}
