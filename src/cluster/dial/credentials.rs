//! Whether the credentials of a machine are there. The operator may write Secrets and read none.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::cluster::error::bounded;
use crate::plan::endpoint::Target;

/// A uid that no object has.
const NOBODYS: &str = "00000000-0000-0000-0000-000000000000";

/// Why nobody could get into the machine, if so: the Secret that it names is not there.
///
/// It is asked whether one of this name and of a uid that none has could be replaced, without doing it. Where there is none
/// the API server finds nothing; where there is one its uid is another, which is a conflict whatever stands in it and whatever
/// would be said of a new one.
pub async fn missing_credentials(client: &Client, namespace: &str, target: &Target) -> Option<String> {
    let name = target.credentials.as_ref()?;
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let metadata = ObjectMeta { name: Some(name.clone()), uid: Some(NOBODYS.to_owned()), ..ObjectMeta::default() };
    let trial = Secret { metadata, ..Secret::default() };
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    match bounded(api.replace(name, &dry, &trial)).await {
        Err(error) if error.is_not_found() => {
            Some(format!("there is no Secret {name} in this namespace, which spec.endpoint.credentialsRef names"))
        }
        Err(error) if error.is_conflict() => None,
        Ok(_) => Some(format!("cannot say whether the Secret {name} exists")),
        Err(error) => Some(format!("cannot say whether the Secret {name} exists: {}", error.words())),
    }
}
