//! What is written about a pool: the pods that are made for it and taken from it, and the adoption of one by a session. Each
//! names the uid and the version of the pod that was seen.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, Preconditions, PropagationPolicy};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{delete, ensure_secret_lately, manager, post};
use crate::api::{SESSION_UID_LABEL, Session, Workspace};
use crate::cluster::Cluster;
use crate::cluster::error::{CallError, bounded, optional};
use crate::cluster::observe::POOL;
use crate::plan::pool::{Step, is_member};
use crate::planted::{self, Bug};

/// Executes one step about the pool of `workspace`.
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
        Step::Make(mut pod) if planted::is(Bug::GeneratedRefill) => {
            let marker = cluster.clock.now().timestamp_subsec_nanos();
            pod["metadata"]["name"] = json!(format!("{}-{marker}", workspace.name_any()));
            remembered(cluster, workspace, make(cluster, workspace, &pods, &pod).await)
        }
        Step::Make(pod) => remembered(cluster, workspace, make(cluster, workspace, &pods, &pod).await),
        Step::Remove { name, uid, resource_version, .. } => {
            let params = in_background(Preconditions { uid: Some(uid), resource_version });
            match delete(cluster, &pods, &name, &params).await {
                Ok(Some(pod)) => cluster.stores.pods.own(pod),
                Ok(None) => {}
                // One that was adopted meanwhile, or has changed otherwise, stays: its event is on the way.
                Err(error) if error.is_conflict() => return Ok(()),
                Err(error) => return Err(error),
            }
            Ok(())
        }
    }
}

fn in_background(preconditions: Preconditions) -> DeleteParams {
    let params = DeleteParams::default().preconditions(preconditions);
    DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..params }
}

/// That the pod is as it was read.
fn as_it_stands(pod: &Pod) -> DeleteParams {
    in_background(Preconditions { uid: pod.uid(), resource_version: pod.resource_version() })
}

/// Makes a pod. One that stands under its name was made by an attempt whose answer was lost, or is not known here yet.
async fn make(cluster: &Cluster, workspace: &Workspace, api: &Api<Pod>, wanted: &Value) -> Result<(), CallError> {
    let namespace = workspace.namespace().unwrap_or_default();
    cluster.leadership.check()?;
    let request = post(&format!("/api/v1/namespaces/{namespace}/pods"), wanted)?;
    match bounded(cluster.client.request::<Pod>(request)).await {
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
                delete(cluster, api, name, &as_it_stands(&stands)).await?;
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
            failed(cluster, workspace, error.words());
            Err(CallError::Attempt)
        }
        other => other,
    }
}

fn failed(cluster: &Cluster, workspace: &Workspace, why: String) {
    let (uid, generation) = (workspace.uid().unwrap_or_default(), workspace.metadata.generation);
    // Those that are made at once fail together, and count once.
    let known = cluster.memory.failed_child(&uid, POOL, generation);
    if known.is_some_and(|(again, _)| again > cluster.clock.now()) {
        return;
    }
    cluster.memory.failed_at_child(&uid, POOL, generation, why, cluster.clock.now());
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
            cluster.memory.chosen_is_known(&uid, false);
            Ok(())
        }
        // Others may be had; after some attempts one is made.
        Err(error @ CallError::Api(kube::Error::Api(_))) => {
            tracing::debug!(pod = name, session = session.name_any(), error = error.words(), "not adopted");
            cluster.memory.not_adopted(&uid);
            if error.is_refusal() || error.is_denial() {
                cluster.memory.chosen_is_known(&uid, true);
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}
