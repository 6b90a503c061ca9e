//! The objects that are sent: for each kind a good one, changes to it, and what is wrong in many ways. Owns the words.

use serde_json::{Value, json};

/// One kind that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    ConfigMap,
    Pod,
    Claim,
    Lease,
    Session,
    Workspace,
    Policy,
}

/// All of them, ours twice.
pub const KINDS: [Kind; 9] = [
    Kind::ConfigMap,
    Kind::Pod,
    Kind::Claim,
    Kind::Lease,
    Kind::Session,
    Kind::Session,
    Kind::Workspace,
    Kind::Workspace,
    Kind::Policy,
];

impl Kind {
    /// The path of its objects in a namespace.
    pub fn path(self, namespace: &str) -> String {
        let (root, plural) = match self {
            Self::ConfigMap => ("/api/v1", "configmaps"),
            Self::Pod => ("/api/v1", "pods"),
            Self::Claim => ("/api/v1", "persistentvolumeclaims"),
            Self::Lease => ("/apis/coordination.k8s.io/v1", "leases"),
            Self::Session => ("/apis/berth.dev/v1alpha1", "sessions"),
            Self::Workspace => ("/apis/berth.dev/v1alpha1", "workspaces"),
            Self::Policy => ("/apis/berth.dev/v1alpha1", "sessionpolicies"),
        };
        format!("{root}/namespaces/{namespace}/{plural}")
    }

    /// Whether an operator would write to it.
    pub fn is_reconciled(self) -> bool {
        matches!(self, Self::Session | Self::Workspace)
    }

    /// Whether it has a status.
    pub fn has_status(self) -> bool {
        !matches!(self, Self::ConfigMap | Self::Lease | Self::Policy)
    }

    /// A good object, without a name.
    pub fn good(self) -> Value {
        let of = |api: &str, kind: &str, field: &str, value: Value| json!({"apiVersion": api, "kind": kind, "metadata": {}, field: value});
        let ours = "berth.dev/v1alpha1";
        match self {
            Self::ConfigMap => of("v1", "ConfigMap", "data", json!({"a": "1"})),
            // Nobody schedules it.
            Self::Pod => of(
                "v1",
                "Pod",
                "spec",
                json!({"schedulerName": "nobody", "automountServiceAccountToken": false,
                "containers": [{"name": "c", "image": "localhost/none:1", "imagePullPolicy": "Never"}]}),
            ),
            Self::Claim => of(
                "v1",
                "PersistentVolumeClaim",
                "spec",
                json!({"storageClassName": "", "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}),
            ),
            Self::Lease => of(
                "coordination.k8s.io/v1",
                "Lease",
                "spec",
                json!({"holderIdentity": "a", "leaseDurationSeconds": 15,
                "renewTime": "2026-01-31T12:00:00.000000Z"}),
            ),
            Self::Session => of(ours, "Session", "spec", json!({"workspaceRef": {"name": "w"}, "user": {"id": "ana"}})),
            Self::Workspace => of(
                ours,
                "Workspace",
                "spec",
                json!({"type": "web", "access": {"protocol": "HTTP", "port": 8080},
                "endpoint": {"host": "192.0.2.1"}}),
            ),
            Self::Policy => of(
                ours,
                "SessionPolicy",
                "spec",
                json!({"idle": {"after": "5m", "warnAfter": "10m", "disconnectAfter": "30m"}}),
            ),
        }
    }

    /// Changes, as merge patches: good ones, forbidden ones and senseless ones. With what is not to be made with it.
    pub fn changes(self) -> Vec<Value> {
        match self {
            Self::ConfigMap => vec![
                json!({"data": {"a": "2"}}),
                json!({"data": {"a": null, "b": "x"}}),
                json!({"data": null}),
                json!({"immutable": true}),
                json!({"data": {"wrong key": "1"}}),
                json!({"data": {"a": 7}}),
                json!({"unknown": 1}),
                json!({"binaryData": {"x": "AQI="}}),
            ],
            Self::Pod => vec![
                json!({"spec": {"containers": [{"name": "c", "image": "localhost/none:2", "imagePullPolicy": "Never"}]}}),
                json!({"spec": {"containers": []}}),
                json!({"spec": {"containers": [{"name": "c"}]}}),
                json!({"spec": {"containers": [{"name": "C!", "image": "i"}]}}),
                json!({"spec": {"containers": [{"name": "c", "image": "localhost/none:1", "imagePullPolicy": "Never"}, {"name": "c", "image": "i:1"}]}}),
                json!({"spec": {"hostname": "other"}}),
                json!({"spec": {"terminationGracePeriodSeconds": 5}}),
                json!({"spec": {"containers": "none"}}),
                json!({"spec": {"unknown": true}}),
            ],
            Self::Claim => vec![
                json!({"spec": {"accessModes": ["ReadWriteMany"]}}),
                json!({"spec": {"accessModes": null}}),
                json!({"spec": {"resources": {"requests": null}}}),
                json!({"spec": {"unknown": true}}),
            ],
            Self::Lease => vec![
                json!({"spec": {"holderIdentity": "b", "leaseTransitions": 1}}),
                json!({"spec": {"holderIdentity": null, "renewTime": null}}),
                json!({"spec": {"leaseDurationSeconds": 0}}),
                json!({"spec": {"leaseTransitions": -1}}),
                json!({"spec": {"renewTime": "yesterday"}}),
                json!({"spec": null}),
            ],
            Self::Session => vec![
                json!({"spec": {"desiredState": "Disconnected"}}),
                json!({"spec": {"desiredState": "Connected"}}),
                json!({"spec": {"desiredState": "Terminated"}}),
                json!({"spec": {"desiredState": "Gone"}}),
                json!({"spec": {"keepAliveAt": "2026-01-31T12:00:00Z"}}),
                json!({"spec": {"keepAliveAt": "2026-01-30T12:00:00+02:00"}}),
                json!({"spec": {"keepAliveAt": "now"}}),
                json!({"spec": {"keepAliveAt": null}}),
                json!({"spec": {"user": {"id": "bob"}}}),
                json!({"spec": {"user": {"id": null}}}),
                json!({"spec": {"user": {"id": ""}}}),
                json!({"spec": {"user": {"id": "a\u{200b}b"}}}),
                json!({"spec": {"user": {"id": 7}}}),
                json!({"spec": {"user": {"email": "nobody"}}}),
                json!({"spec": {"user": {"displayName": "x".repeat(200)}}}),
                json!({"spec": {"workspaceRef": {"name": "Not A Name"}}}),
                json!({"spec": {"workspaceRef": null}}),
                json!({"spec": {"whenFull": "Fail"}}),
                json!({"spec": {"whenFull": null}}),
                json!({"spec": {"idle": {"disconnectAfter": "1h30m"}}}),
                json!({"spec": {"idle": {"disconnectAfter": "-5m"}}}),
                json!({"spec": {"idle": {"disconnectAfter": null}}}),
                json!({"spec": {"idle": null}}),
                json!({"spec": {"client": {"device": "laptop", "unknown": 1}}}),
                json!({"spec": {"unknown": {"a": 1}}}),
                json!({"unknown": 1}),
                json!({"spec": null}),
                json!({"spec": []}),
            ],
            Self::Workspace => vec![
                json!({"spec": {"maintenance": true}}),
                json!({"spec": {"maxSessions": 3}}),
                json!({"spec": {"maxSessions": 0}}),
                json!({"spec": {"maxSessions": "many"}}),
                json!({"spec": {"access": {"port": 0}}}),
                json!({"spec": {"access": {"port": 70000}}}),
                json!({"spec": {"access": {"path": "/lab"}}}),
                json!({"spec": {"access": {"path": "lab/../x"}}}),
                json!({"spec": {"access": {"protocol": "FTP"}}}),
                json!({"spec": {"access": {"protocol": "SSH", "path": "/x"}}}),
                json!({"spec": {"endpoint": {"host": "build-7.example.org"}}}),
                json!({"spec": {"endpoint": {"host": "not a host:22"}}}),
                json!({"spec": {"endpoint": null}}),
                json!({"spec": {"endpoint": null, "template": {"spec": {"containers": [{"name": "c", "image": "i:1", "anything": 1}]}}}}),
                json!({"spec": {"displayName": "A \u{202e}name"}}),
                json!({"spec": {"description": null}}),
                json!({"spec": {"unknown": true}}),
            ],
            Self::Policy => vec![
                json!({"spec": {"idle": {"after": "20m"}}}),
                json!({"spec": {"idle": {"after": "0s"}}}),
                json!({"spec": {"maxDuration": "8h", "warnBefore": "5m"}}),
                json!({"spec": {"maxDuration": "1m", "warnBefore": "5m"}}),
                json!({"spec": {"maxDuration": "30d"}}),
                json!({"spec": {"idle": null}}),
                json!({"spec": {"unknown": 1}}),
            ],
        }
    }

    /// Changes of the status.
    pub fn statuses(self) -> Vec<Value> {
        match self {
            Self::Session => vec![
                json!({"status": {"phase": "Active", "message": "seen"}}),
                json!({"status": {"phase": "Nowhere"}}),
                json!({"status": {"phase": "Failed", "reason": "StartTimeout", "endedAt": "2026-01-31T12:00:00Z"}}),
                json!({"status": {"phase": "Terminated", "endedAt": "2026-01-31T13:00:00Z"}}),
                json!({"status": {"phase": "Active", "endedAt": null}}),
                json!({"status": {"endedAt": "yesterday"}}),
                json!({"status": {"phase": "Disconnected"}}),
                json!({"status": {"endRequest": {"as": "Terminated", "reason": "AdministratorEnded", "actor": "me"}}}),
                json!({"status": {"endRequest": {"as": "Disconnected", "reason": "UserDisconnected"}}}),
                json!({"status": {"endRequest": null}}),
                json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-31T12:00:00Z"}]}}),
                json!({"status": {"conditions": [{"type": "Ready"}]}}),
                json!({"status": {"unknown": 1}}),
                json!({"status": null}),
                json!({"status": {"phase": "Active"}, "spec": {"desiredState": "Terminated"}, "metadata": {"labels": {"by": "status"}}}),
            ],
            Self::Workspace => vec![
                json!({"status": {"unknown": 1}}),
                json!({"status": {"observedGeneration": 1}}),
                json!({"status": {"observedGeneration": "one"}}),
                json!({"status": null, "spec": {"maintenance": true}}),
            ],
            Self::Pod => vec![
                json!({"status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}}),
                json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastProbeTime": "2026-01-31T12:00:00Z", "lastTransitionTime": "2026-01-31T12:00:00Z"}]}}),
                json!({"status": {"message": "m"}, "metadata": {"labels": {"by": "status"}}, "spec": {"hostname": "x"}}),
            ],
            Self::Claim => vec![
                json!({"status": {"conditions": [{"type": "Resizing", "status": "True", "lastProbeTime": "2026-01-31T12:00:00Z", "lastTransitionTime": "2026-01-31T12:00:00Z"}]}, "metadata": {"labels": {"by": "status"}}}),
                json!({"status": {"unknown": 1}}),
            ],
            Self::ConfigMap | Self::Lease | Self::Policy => Vec::new(),
        }
    }
}

/// Changes of metadata, for all kinds.
pub fn metadata() -> Vec<Value> {
    vec![
        json!({"metadata": {"labels": {"color": "red"}}}),
        json!({"metadata": {"labels": {"color": "blue"}}}),
        json!({"metadata": {"labels": {"color": null}}}),
        json!({"metadata": {"labels": {"color": "not a label!"}}}),
        json!({"metadata": {"labels": {"bad key!": "x"}}}),
        json!({"metadata": {"labels": {"color": 7}}}),
        json!({"metadata": {"annotations": {"note": "any text!"}}}),
        json!({"metadata": {"annotations": null}}),
        json!({"metadata": {"finalizers": ["berth.dev/one"]}}),
        json!({"metadata": {"finalizers": ["berth.dev/one", "berth.dev/two"]}}),
        json!({"metadata": {"finalizers": ["unqualified"]}}),
        json!({"metadata": {"finalizers": []}}),
        json!({"metadata": {"finalizers": null}}),
        json!({"metadata": {"generation": 7, "creationTimestamp": "2020-01-01T00:00:00Z"}}),
        json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}}),
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "root", "uid": "UID OF ROOT"}]}}),
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "root", "uid": ""}]}}),
        json!({"metadata": {"ownerReferences": null}}),
        json!({}),
    ]
}

/// What others are owned by.
pub fn root() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "root"}})
}
