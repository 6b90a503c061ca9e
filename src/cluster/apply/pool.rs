//! What is written about a pool: the pods that are made for it and taken from it, and the adoption of one by a session. What is
//! done to a pod names its uid and the version that was seen.

use crate::api::pod::Pod;
use kube::api::Patch;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{as_read, create_pod, delete_pod, ensure_secret_lately, manager};
use crate::api::{REPLACES_ANNOTATION, SESSION_UID_LABEL, Session, WARM_SLOT_LABEL, Workspace};
use crate::cluster::Cluster;
use crate::cluster::error::{CallError, bounded, optional};
use crate::cluster::memory::pool::POOL;
use crate::plan::name;
use crate::plan::orphan::Owner;
use crate::plan::pool::{Step, is_member};
use crate::planted::{self, Bug};

/// Executes one step about the pool of `workspace`. What goes bad, and is removed for it, is remembered for the planner.
///
/// # Errors
/// When the API server does not do it. That it refuses a pod is remembered for the planner first.
pub async fn step(cluster: &Cluster, workspace: &Workspace, step: Step) -> Result<(), CallError> {
    let namespace = workspace.namespace().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &namespace);
    match step {
        Step::EnsureSecret(secret) => {
            remembered(cluster, workspace, ensure_secret_lately(cluster, &namespace, &secret).await)
        }
        // It went while an earlier step was on its way, and its wall may have gone with it.
        Step::Make(_) if !stands(cluster, workspace) => Err(CallError::Attempt),
        Step::Make(mut pod) if planted::is(Bug::GeneratedRefill) => {
            let marker = cluster.clock.now().timestamp_subsec_nanos().to_string();
            let slot = pod["metadata"]["labels"][WARM_SLOT_LABEL].as_str().and_then(|slot| slot.parse().ok());
            let uid = workspace.uid().unwrap_or_default();
            pod["metadata"]["name"] =
                json!(name::warm_pod(&workspace.name_any(), &uid, slot.unwrap_or_default(), &marker));
            pod["metadata"]["annotations"][REPLACES_ANNOTATION] = json!(marker);
            remembered(cluster, workspace, make(cluster, workspace, &pods, &pod).await)
        }
        Step::Make(pod) => remembered(cluster, workspace, make(cluster, workspace, &pods, &pod).await),
        Step::Remove { name, uid, resource_version, bad } => {
            let version = resource_version.filter(|_| !planted::is(Bug::BlindRemoval));
            match delete_pod(cluster, &pods, &name, as_read(&uid, version)).await {
                // One that was adopted meanwhile, or has changed otherwise, stays: what it is now is decided on next. Nothing is
                // made in the place of one that did not go.
                Err(error) if error.is_conflict() => {
                    let stands = optional(pods.get(&name)).await.map_err(CallError::of_a_look)?;
                    stands.into_iter().for_each(|pod| cluster.stores.pods.own(pod));
                    return Err(CallError::Attempt);
                }
                outcome => outcome?,
            }
            // What takes the place of a pod that went bad is made later each time.
            if let Some((place, why)) = bad {
                let (uid, generation) = (workspace.uid().unwrap_or_default(), workspace.metadata.generation);
                cluster.memory.broke(&uid, place, generation, why, cluster.clock.now());
            }
            Ok(())
        }
    }
}

/// Whether the Workspace is known to stand, now.
fn stands(cluster: &Cluster, workspace: &Workspace) -> bool {
    let (namespace, name, uid) = (workspace.namespace(), workspace.name_any(), workspace.uid().unwrap_or_default());
    cluster.stores.knows(&namespace.unwrap_or_default(), Owner::Workspace(&name, &uid))
}

/// Makes a pod. One that stands under its name was made by an attempt whose answer was lost, or is not known here yet.
async fn make(cluster: &Cluster, workspace: &Workspace, api: &Api<Pod>, wanted: &Value) -> Result<(), CallError> {
    let namespace = workspace.namespace().unwrap_or_default();
    match create_pod(cluster, &namespace, wanted).await {
        Ok(made) => {
            cluster.stores.pods.own(made);
            cluster.memory.made_child(&workspace.uid().unwrap_or_default(), POOL);
            Ok(())
        }
        Err(error) if error.is_conflict() => {
            let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
            let gone = || CallError::NotSeen(format!("pod {name} was there, and is not"));
            let stands = optional(api.get(name)).await.map_err(CallError::of_a_look)?.ok_or_else(gone)?;
            let uid = workspace.uid().unwrap_or_default();
            if is_member(&stands, &uid) {
                cluster.stores.pods.own(stands);
                return Ok(());
            }
            // One of ours that waits, and whose labels somebody took, is found by its owner.
            let is_ours = |pod: &Pod| pod.owner_references().iter().any(|owner| owner.uid == uid);
            if is_ours(&stands) && !stands.labels().contains_key(SESSION_UID_LABEL) {
                let allowed = as_read(&stands.uid().unwrap_or_default(), stands.resource_version());
                delete_pod(cluster, api, name, allowed).await?;
            }
            cluster.memory.name_is_taken(&uid, name.to_owned(), stands.uid().unwrap_or_default());
            cluster.stores.pods.own(stands);
            // The next is named after it.
            Err(CallError::Attempt)
        }
        Err(error) => Err(error),
    }
}

/// What the API server says against a pod is remembered for the planner: it is no failure of the look.
fn remembered(cluster: &Cluster, workspace: &Workspace, outcome: Result<(), CallError>) -> Result<(), CallError> {
    match outcome {
        Err(error @ (CallError::NotOurs(_) | CallError::NotSeen(_) | CallError::Api(kube::Error::Api(_)))) => {
            let (uid, generation) = (workspace.uid().unwrap_or_default(), workspace.metadata.generation);
            cluster.memory.failed_at_child(&uid, POOL, generation, error.words(), cluster.clock.now());
            Err(CallError::Attempt)
        }
        other => other,
    }
}

/// Makes a pod of a pool the session's own. What the API server says is remembered, so that the next look knows which pods can
/// still be had; where it says nothing the next look asks first.
///
/// # Errors
/// When the API server does not answer.
pub(super) async fn adopt(
    cluster: &Cluster,
    session: &Session,
    name: &str,
    mut metadata: Value,
) -> Result<(), CallError> {
    if planted::is(Bug::BlindAdoption) {
        metadata["resourceVersion"] = Value::Null;
    }
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &session.namespace().unwrap_or_default());
    let uid = session.uid().unwrap_or_default();
    cluster.leadership.check()?;
    let patch = Patch::Merge(json!({ "metadata": metadata }));
    match bounded(api.patch(name, &manager(), &patch)).await {
        Ok(adopted) => {
            cluster.stores.pods.own(adopted);
            cluster.memory.chosen_is_known(&uid);
            Ok(())
        }
        // Others may be had; after some attempts one is made.
        Err(error @ CallError::Api(kube::Error::Api(_))) => {
            tracing::debug!(pod = name, session = session.name_any(), error = error.words(), "not adopted");
            cluster.memory.not_adopted(&uid);
            if error.is_refusal() || error.is_denial() {
                cluster.memory.cannot_be_had(&uid, error.words(), cluster.clock.now());
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}
