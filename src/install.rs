//! The manifests that install Berth: the CRDs from the types, and the operator with the permissions that its
//! code needs. Owns their content; not where they are applied.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::{GROUP, Session, SessionPolicy, Workspace};

/// The CRDs, each with the file name that `crds/` has for it.
pub fn crds() -> Vec<(&'static str, CustomResourceDefinition)> {
    vec![
        ("sessionpolicies.yaml", SessionPolicy::crd()),
        ("sessions.yaml", Session::crd()),
        ("workspaces.yaml", Workspace::crd()),
    ]
}

/// `object` as a YAML document.
///
/// # Errors
/// When it has no YAML form.
pub fn yaml<T: Serialize>(object: &T) -> anyhow::Result<String> {
    Ok(format!("---\n{}", serde_saphyr::to_string(object)?))
}

/// Where and what is installed.
#[derive(clap::Args, Clone, Debug)]
pub struct Installation {
    /// The namespace of the operator.
    #[arg(long, default_value = "berth-system")]
    pub namespace: String,
    /// The operator's image.
    #[arg(long, default_value = "berth-operator:dev")]
    pub image: String,
    /// How many operators run; one leads, the others stand by.
    #[arg(long, default_value_t = 1)]
    pub replicas: u32,
}

const NAME: &str = "berth-operator";

/// The objects that install the operator, in the order in which they are to be applied.
pub fn manifests(installation: &Installation) -> Vec<Value> {
    let namespace = &installation.namespace;
    let account = json!([{ "kind": "ServiceAccount", "name": NAME, "namespace": namespace }]);
    vec![
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": namespace, "labels": { "pod-security.kubernetes.io/enforce": "restricted" } },
        }),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(namespace) }),
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": cluster_metadata(), "rules": cluster_rules() }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": cluster_metadata(),
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME },
            "subjects": account,
        }),
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata(namespace), "rules": lease_rules() }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata(namespace),
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME },
            "subjects": account,
        }),
        deployment(installation),
    ]
}

/// What the operator reads and writes in every namespace; each rule stands for a request in `cluster/`.
fn cluster_rules() -> Value {
    json!([
        { "apiGroups": [GROUP], "resources": ["sessions"], "verbs": ["get", "list", "watch", "patch", "delete"] },
        { "apiGroups": [GROUP], "resources": ["workspaces"], "verbs": ["get", "list", "watch", "delete"] },
        { "apiGroups": [GROUP], "resources": ["sessionpolicies"], "verbs": ["get", "list", "watch"] },
        { "apiGroups": [GROUP], "resources": ["sessions/status", "workspaces/status"], "verbs": ["patch"] },
        // Where the API server protects owner references, their writer must be allowed to finalize the owner.
        { "apiGroups": [GROUP], "resources": ["sessions/finalizers"], "verbs": ["update"] },
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "create", "patch", "delete"] },
        { "apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["get", "create"] },
        { "apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"] },
    ])
}

/// What the operator does in its own namespace.
fn lease_rules() -> Value {
    json!([{ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"] }])
}

fn deployment(installation: &Installation) -> Value {
    let field = |path: &str| json!({ "fieldRef": { "fieldPath": path } });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(&installation.namespace),
        "spec": {
            "replicas": installation.replicas,
            "selector": { "matchLabels": { "app.kubernetes.io/name": NAME } },
            "template": {
                "metadata": { "labels": labels() },
                "spec": {
                    "serviceAccountName": NAME,
                    "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
                    "terminationGracePeriodSeconds": 30,
                    "containers": [{
                        "name": "operator",
                        "image": installation.image,
                        "imagePullPolicy": "IfNotPresent",
                        "args": ["operator"],
                        "env": [
                            { "name": "BERTH_NAMESPACE", "valueFrom": field("metadata.namespace") },
                            { "name": "BERTH_IDENTITY", "valueFrom": field("metadata.name") },
                        ],
                        "ports": [{ "name": "health", "containerPort": 8081 }],
                        "livenessProbe": probe("/livez"),
                        "readinessProbe": probe("/readyz"),
                        "resources": { "requests": { "cpu": "20m", "memory": "32Mi" }, "limits": { "memory": "256Mi" } },
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": { "drop": ["ALL"] },
                        },
                    }],
                },
            },
        },
    })
}

fn probe(path: &str) -> Value {
    json!({ "httpGet": { "path": path, "port": "health" }, "periodSeconds": 5 })
}

fn labels() -> Value {
    json!({ "app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": "berth" })
}

fn metadata(namespace: &str) -> Value {
    json!({ "name": NAME, "namespace": namespace, "labels": labels() })
}

fn cluster_metadata() -> Value {
    json!({ "name": NAME, "labels": labels() })
}
