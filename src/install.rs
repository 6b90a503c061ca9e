//! The definitions of our kinds, from the types, and the policies that guard them. Owns their form as files; the chart
//! installs them with the operator.

pub mod admission;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt;
use serde::Serialize;
use serde_json::json;

use crate::api::{NOT_OBSERVED, Session, SessionPolicy, Workspace};

/// The CRDs, each with the file name that `crds/` has for it.
pub fn crds() -> Vec<(&'static str, CustomResourceDefinition)> {
    vec![
        ("sessionpolicies.yaml", SessionPolicy::crd()),
        ("sessions.yaml", unobserved_at_first(Session::crd())),
        ("workspaces.yaml", unobserved_at_first(Workspace::crd())),
    ]
}

/// An object that nobody has looked at yet says so: those who wait by kstatus take one without a status for done.
fn unobserved_at_first(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let status = schema.and_then(|schema| schema.properties.as_mut()?.get_mut("status"));
        if let Some(status) = status {
            status.default = Some(JSON(json!({ "observedGeneration": NOT_OBSERVED })));
        }
    }
    crd
}

/// `object` as a YAML document.
///
/// # Errors
/// When it has no YAML form.
pub fn yaml<T: Serialize>(object: &T) -> anyhow::Result<String> {
    Ok(format!("---\n{}", serde_saphyr::to_string(object)?))
}
