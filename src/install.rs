//! The definitions of our kinds, from the types. Owns their form as files; the chart installs them with the operator.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde::Serialize;

use crate::api::{Session, SessionPolicy, Workspace};

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
