//! What is written about a Workspace: its status, its template's trial, what it has beside its instances; and the key that the
//! operator has for all of them.

use std::borrow::Cow;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Patch, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{as_read, delete, difference, manager, post, to_value, with_uid};
use crate::api::{OPERATOR_MANAGER, WORKSPACE_UID_LABEL, Workspace};
use crate::cluster::Cluster;
use crate::cluster::cache::Cache;
use crate::cluster::error::{CallError, bounded, optional};
use crate::cluster::slim::Slim;
use crate::plan::child::{Whole, in_place_of, stands};
use crate::plan::network::leftover;
use crate::plan::workspace::{self, Trial};

/// Executes the steps about `workspace`.
///
/// # Errors
/// At the first step that fails.
pub async fn steps(cluster: &Cluster, workspace: &Workspace, steps: Vec<workspace::Step>) -> Result<(), CallError> {
    let namespace = workspace.namespace().unwrap_or_default();
    let api: Api<Workspace> = Api::namespaced(cluster.client.clone(), &namespace);
    for step in steps {
        match step {
            workspace::Step::Try(objects) => {
                try_template(cluster, &namespace, workspace, &objects).await?;
                // The answer is a new observation: the planner decides on it.
                return Err(CallError::Attempt);
            }
            workspace::Step::EnsureNetworkPolicy(policy) => {
                ensure_child(cluster, workspace, *policy, &cluster.stores.network_policies).await?;
            }
            workspace::Step::EnsureBudget(budget) => {
                ensure_child(cluster, workspace, *budget, &cluster.stores.budgets).await?;
            }
            workspace::Step::EnsureSecret(secret) => ensure_secret(cluster, &namespace, &secret.0).await?,
            workspace::Step::DeleteBudget { name, uid } => {
                let budgets: Api<PodDisruptionBudget> = Api::namespaced(cluster.client.clone(), &namespace);
                delete(cluster, &budgets, &name, &with_uid(&uid)).await?;
            }
            workspace::Step::Publish(status) => {
                let before = to_value(&workspace.status.clone().unwrap_or_default())?;
                let changed = difference(Some(&before), Some(&to_value(status.as_ref())?));
                let patch =
                    json!({ "metadata": { "resourceVersion": workspace.resource_version() }, "status": changed });
                cluster.leadership.check()?;
                let written =
                    bounded(api.patch_status(&workspace.name_any(), &manager(), &Patch::Merge(patch))).await?;
                cluster.stores.workspaces.own(written);
            }
            workspace::Step::Delete => {
                let allowed = as_read(&workspace.uid().unwrap_or_default(), workspace.resource_version());
                delete(cluster, &api, &workspace.name_any(), &allowed).await?;
            }
        }
    }
    Ok(())
}

/// Executes the step about a NetworkPolicy that nothing needs any more.
///
/// # Errors
/// When the API server does not do it.
pub async fn network_policy_step(cluster: &Cluster, namespace: &str, step: leftover::Step) -> Result<(), CallError> {
    let leftover::Step::Delete { name, uid } = step;
    let api: Api<NetworkPolicy> = Api::namespaced(cluster.client.clone(), namespace);
    delete(cluster, &api, &name, &with_uid(&uid)).await.map(drop)
}

/// Makes an object of a Workspace, or puts it in the place of the one whose resource version it has: all of it is ours. That
/// the API server refuses it is remembered for the planner.
async fn ensure_child<K>(cluster: &Cluster, workspace: &Workspace, child: K, cache: &Cache<K>) -> Result<(), CallError>
where
    K: Whole + Resource<DynamicType = (), Scope = NamespaceResourceScope> + Slim,
    K: Clone + std::fmt::Debug + Serialize + DeserializeOwned + 'static,
{
    let kind = match K::kind(&()) {
        Cow::Borrowed(kind) => kind,
        Cow::Owned(_) => "",
    };
    let (uid, generation) = (workspace.uid().unwrap_or_default(), workspace.metadata.generation);
    let why = match put(cluster, &workspace.namespace().unwrap_or_default(), child.clone()).await {
        Ok(made) => {
            let as_asked = made.meta().deletion_timestamp.is_some() || stands(&made, &child);
            cache.own(made);
            if as_asked {
                cluster.memory.made_child(&uid, kind);
                return Ok(());
            }
            format!("the {kind} does not stand as it was asked for: somebody, as a webhook, changes it")
        }
        // It has changed, or gone: what it is now is on its way.
        Err(error) if error.is_conflict() || error.is_not_found() => return Err(error),
        Err(error @ CallError::Api(kube::Error::Api(_))) => error.words(),
        Err(error) => return Err(error),
    };
    cluster.memory.failed_at_child(&uid, kind, generation, why, cluster.clock.now());
    // That is a new observation: the planner decides on it.
    Err(CallError::Attempt)
}

async fn put<K>(cluster: &Cluster, namespace: &str, wanted: K) -> Result<K, CallError>
where
    K: Whole + Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(cluster.client.clone(), namespace);
    let params = PostParams { field_manager: Some(OPERATOR_MANAGER.to_owned()), ..PostParams::default() };
    let name = wanted.name_any();
    cluster.leadership.check()?;
    if wanted.resource_version().is_some() {
        return bounded(api.replace(&name, &params, &wanted)).await;
    }
    match bounded(api.create(&params, &wanted)).await {
        // Made before, and not seen yet or not to be found by its labels.
        Err(error) if error.is_conflict() => {
            let gone = || CallError::NotSeen(format!("{} {name} was there, and is not", K::kind(&())));
            let stands = optional(api.get(&name)).await.map_err(CallError::of_a_look)?.ok_or_else(gone)?;
            if stands.meta().deletion_timestamp.is_some() {
                return Ok(stands);
            }
            cluster.leadership.check()?;
            bounded(api.replace(&name, &params, &in_place_of(wanted, Some(&stands)))).await
        }
        made => made,
    }
}

/// Asks about each object. Strictly, so that a misspelt field is told of; the pod itself would be made without it.
async fn try_template(
    cluster: &Cluster,
    namespace: &str,
    workspace: &Workspace,
    objects: &[Value],
) -> Result<(), CallError> {
    let (uid, generation) = (workspace.uid().unwrap_or_default(), workspace.metadata.generation);
    for object in objects {
        let plural = if object["kind"] == "Pod" { "pods" } else { "persistentvolumeclaims" };
        let path = format!("/api/v1/namespaces/{namespace}/{plural}?dryRun=All&fieldValidation=Strict");
        cluster.leadership.check()?;
        match bounded(cluster.client.request::<Value>(post(&path, object)?)).await {
            Ok(_) => {}
            Err(error) if error.is_refusal() => {
                cluster.memory.tried(&uid, generation, Trial::Refused(error.words()));
                return Ok(());
            }
            Err(error) => {
                let trial = match error.is_denial() {
                    true => Trial::Forbidden,
                    false => Trial::Undecided,
                };
                cluster
                    .memory
                    .tried_for_now(&uid, generation, cluster.clock.now(), |again| trial(again, error.words()));
                return Ok(());
            }
        }
    }
    cluster.memory.tried(&uid, generation, Trial::Accepted);
    Ok(())
}

/// Makes the Secret of a Workspace, or writes over what stands under its name. It is not read: the operator has no right to.
///
/// # Errors
/// When the API server does not do it. That it refuses the Secret for what stands there, as an immutable one, says nothing
/// about the instance.
pub(super) async fn ensure_secret(cluster: &Cluster, namespace: &str, secret: &Secret) -> Result<(), CallError> {
    let api: Api<Secret> = Api::namespaced(cluster.client.clone(), namespace);
    let params = PostParams { field_manager: Some(OPERATOR_MANAGER.to_owned()), ..PostParams::default() };
    cluster.leadership.check()?;
    let outcome = match bounded(api.create(&params, secret)).await {
        Err(error) if error.is_conflict() => {
            cluster.leadership.check()?;
            bounded(api.replace(&secret.name_any(), &params, secret)).await.map(drop)
        }
        made => made.map(drop),
    };
    match outcome {
        Err(error) if error.is_refusal() => Err(CallError::NotOurs(error.words())),
        Err(error) => Err(error),
        Ok(()) => {
            let uid = secret.labels().get(WORKSPACE_UID_LABEL).cloned().unwrap_or_default();
            cluster.memory.made_secret(&uid);
            Ok(())
        }
    }
}

/// Makes the operator's own Secret unless it stands; what stands then.
///
/// # Errors
/// When the API server does not do it.
pub async fn make_key(cluster: &Cluster, api: &Api<Secret>, wanted: &Secret) -> Result<Secret, CallError> {
    cluster.leadership.check()?;
    match bounded(api.create(&PostParams::default(), wanted)).await {
        Err(error) if error.is_conflict() => bounded(api.get(&wanted.name_any())).await,
        made => made,
    }
}
