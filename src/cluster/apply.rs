//! The only writer of objects: executes the steps of a plan, in their order, each safe to take twice. It
//! never chooses. Every write asks first whether this process may still write, and what it returns enters the
//! caches at once. What is done about a Workspace, and about the operator's own key, is in `workspace`; about its pool
//! in `pool`.

pub mod pool;
pub mod workspace;

use std::sync::Arc;
use std::time::Duration;

use crate::api::pod::Pod;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::core::Status as ApiStatus;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::Cluster;
use super::dial::{dial, missing_credentials};
use super::error::{CallError, bounded, optional};
use crate::api::{
    OPERATOR_MANAGER, SESSION_FINALIZER, Session, USER_ANNOTATION, VELERO_EXCLUDE_LABEL, WORKSPACE_UID_LABEL,
};
use crate::plan::contract::Credential;
use crate::plan::endpoint::Target;
use crate::plan::session::Step;
use crate::plan::{orphan, pod};
use crate::planted::{self, Bug};

/// The fields of a Session's status that the operator writes; the others are the observer's.
const SESSION_STATUS_FIELDS: [&str; 16] = [
    "phase",
    "reason",
    "message",
    "startedAt",
    "readyAt",
    "idleSince",
    "disconnectAt",
    "disconnectReason",
    "endedAt",
    "duration",
    "workspace",
    "policy",
    "instance",
    "url",
    "conditions",
    "observedGeneration",
];

/// For how long a Secret that was made is taken to stand: it cannot be read, and a burst of launches need not make it again
/// for each.
const SECRET_STANDS: Duration = Duration::from_secs(30);

/// Executes one step about `session`; returns the session as the write left it.
///
/// # Errors
/// When the step fails; the rest of its plan is not to be taken then. A failed attempt at the instance is
/// remembered first.
pub async fn session_step(cluster: &Cluster, session: Arc<Session>, step: Step) -> Result<Arc<Session>, CallError> {
    let namespace = session.namespace().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &namespace);
    match step {
        Step::Publish(status) => {
            let before = session.status.clone().unwrap_or_default();
            let version = session.resource_version().filter(|_| !planted::is(Bug::BlindStatus));
            let patch = json!({
                "metadata": { "resourceVersion": version },
                "status": changed_fields(&before, status.as_ref())?,
            });
            let written = patch_session(cluster, &session, patch, true).await?;
            cluster.memory.settle(&session.uid().unwrap_or_default());
            Ok(written)
        }
        Step::Mark { finalizer: false } if planted::is(Bug::FinalizerStays) => Ok(session),
        Step::Mark { finalizer } => {
            let mut finalizers: Vec<String> =
                session.finalizers().iter().filter(|name| *name != SESSION_FINALIZER).cloned().collect();
            if finalizer {
                finalizers.push(SESSION_FINALIZER.to_owned());
            }
            let patch = json!({ "metadata": {
                "resourceVersion": session.resource_version(),
                "labels": { VELERO_EXCLUDE_LABEL: "true" },
                "finalizers": finalizers,
            }});
            patch_session(cluster, &session, patch, false).await
        }
        Step::EnsureClaim(claim) => {
            attempt(cluster, &session, ensure_claim(cluster, &namespace, &claim).await)?;
            Ok(session)
        }
        Step::EnsureSecret(secret) => {
            attempt(cluster, &session, ensure_secret_lately(cluster, &namespace, &secret).await)?;
            Ok(session)
        }
        Step::EnsurePod(pod) => {
            let mut pod = pod;
            if planted::is(Bug::GeneratedName) {
                let marker = cluster.clock.now().timestamp_subsec_nanos();
                pod["metadata"]["name"] = json!(format!("{}-{marker}", session.name_any()));
            }
            attempt(cluster, &session, ensure_pod(cluster, &pods, &session, &pod).await)?;
            cluster.memory.made(&session.uid().unwrap_or_default());
            Ok(session)
        }
        Step::Adopt { pod, metadata, .. } => {
            pool::adopt(cluster, &session, &pod, *metadata).await?;
            // What came of it is a new observation: the planner decides on it.
            Err(CallError::Attempt)
        }
        Step::Restamp { pod, uid, metadata } => {
            let mut metadata = *metadata;
            metadata["uid"] = json!(uid);
            let patch = json!({ "metadata": metadata });
            cluster.leadership.check()?;
            let patched = optional(pods.patch(&pod, &manager(), &Patch::Merge(patch))).await?;
            if let Some(patched) = patched {
                cluster.stores.pods.own(patched);
            }
            Ok(session)
        }
        Step::Dial(target) => {
            dial_beside(cluster, &session, *target);
            Ok(session)
        }
        Step::DeletePod { pod, uid } => {
            delete_pod(cluster, &pods, &pod, with_uid(&uid)).await?;
            cluster.memory.released(&session.uid().unwrap_or_default());
            Ok(session)
        }
        Step::Discard { pod, uid } => {
            delete_pod(cluster, &pods, &pod, with_uid(&uid)).await?;
            Ok(session)
        }
        Step::DeleteSession => {
            let api: Api<Session> = Api::namespaced(cluster.client.clone(), &namespace);
            delete(cluster, &api, &session.name_any(), &with_uid(&session.uid().unwrap_or_default())).await?;
            Ok(session)
        }
    }
}

/// Makes the Secret of a Workspace, unless this process did so a moment ago.
async fn ensure_secret_lately(cluster: &Cluster, namespace: &str, secret: &Credential) -> Result<(), CallError> {
    let age = cluster.memory.secret_age(secret.0.labels().get(WORKSPACE_UID_LABEL).map_or("", String::as_str));
    match age.is_none_or(|age| age > SECRET_STANDS) {
        true => workspace::ensure_secret(cluster, namespace, &secret.0).await,
        false => Ok(()),
    }
}

/// Executes the step about an instance that nobody collects.
///
/// # Errors
/// When the API server does not do it.
pub async fn orphan_step(cluster: &Cluster, namespace: &str, step: orphan::Step) -> Result<(), CallError> {
    let orphan::Step::Delete { name, uid } = step;
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    delete_pod(cluster, &api, &name, with_uid(&uid)).await
}

async fn delete_pod(cluster: &Cluster, api: &Api<Pod>, name: &str, allowed: DeleteParams) -> Result<(), CallError> {
    let params = DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..allowed };
    if let Some(pod) = delete(cluster, api, name, &params).await? {
        cluster.stores.pods.own(pod);
    }
    Ok(())
}

async fn patch_session(
    cluster: &Cluster,
    session: &Session,
    patch: Value,
    status: bool,
) -> Result<Arc<Session>, CallError> {
    let api: Api<Session> = Api::namespaced(cluster.client.clone(), &session.namespace().unwrap_or_default());
    let (name, patch) = (session.name_any(), Patch::Merge(patch));
    cluster.leadership.check()?;
    let mut written = if status {
        bounded(api.patch_status(&name, &manager(), &patch)).await?
    } else {
        bounded(api.patch(&name, &manager(), &patch)).await?
    };
    written.metadata.managed_fields = None;
    cluster.stores.sessions.own(written.clone());
    Ok(Arc::new(written))
}

/// The operator's fields that differ, with an explicit null where one is gone, so that the observer's stay.
///
/// # Errors
/// When one of the two cannot be written as JSON.
pub fn changed_fields<T: Serialize>(before: &T, after: &T) -> Result<Map<String, Value>, CallError> {
    let (before, after) = (to_value(before)?, to_value(after)?);
    let differs = |field: &&str| before.get(field) != after.get(field);
    let field = |name: &str| (name.to_owned(), difference(before.get(name), after.get(name)));
    Ok(SESSION_STATUS_FIELDS.iter().copied().filter(|name| differs(name)).map(field).collect())
}

/// The merge patch (RFC 7396) that makes `after` of `before`: what is gone is null, on every level.
fn difference(before: Option<&Value>, after: Option<&Value>) -> Value {
    match (before, after) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let keys = before.keys().chain(after.keys()).filter(|key| before.get(*key) != after.get(*key));
            keys.map(|key| (key.clone(), difference(before.get(key), after.get(key)))).collect()
        }
        (_, after) => after.cloned().unwrap_or(Value::Null),
    }
}

async fn ensure_claim(cluster: &Cluster, namespace: &str, claim: &Value) -> Result<(), CallError> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(cluster.client.clone(), namespace);
    let wanted: PersistentVolumeClaim = from_value(claim.clone(), "the retained claim")?;
    let name = wanted.name_any();
    let stands = match optional(api.get(&name)).await.map_err(CallError::of_a_look)? {
        Some(stands) => stands,
        None => {
            cluster.leadership.check()?;
            match bounded(api.create(&PostParams::default(), &wanted)).await {
                Ok(made) => made,
                Err(error) if error.is_conflict() => bounded(api.get(&name)).await.map_err(CallError::of_a_look)?,
                Err(error) => return Err(error),
            }
        }
    };
    let same = |of: fn(&PersistentVolumeClaim) -> Option<&String>| of(&stands) == of(&wanted);
    let ours =
        same(|claim| claim.labels().get(WORKSPACE_UID_LABEL)) && same(|claim| claim.annotations().get(USER_ANNOTATION));
    if ours {
        Ok(())
    } else {
        Err(CallError::NotOurs(format!("the claim {name} stands and is not this user's: rename or delete it")))
    }
}

/// Asks for a pod as it was planned: fields that this version does not know pass through.
async fn create_pod(cluster: &Cluster, namespace: &str, wanted: &Value) -> Result<Pod, CallError> {
    cluster.leadership.check()?;
    let request = post(&format!("/api/v1/namespaces/{namespace}/pods"), wanted)?;
    bounded(cluster.client.request::<Pod>(request)).await
}

async fn ensure_pod(cluster: &Cluster, api: &Api<Pod>, session: &Session, wanted: &Value) -> Result<(), CallError> {
    let made = match create_pod(cluster, &session.namespace().unwrap_or_default(), wanted).await {
        Ok(made) => made,
        // Made before, by us or by a predecessor whose answer was lost.
        Err(error) if error.is_conflict() => {
            let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
            let stands = bounded(api.get(name)).await.map_err(CallError::of_a_look)?;
            if !pod::belongs(&stands, &session.uid().unwrap_or_default()) {
                return Err(CallError::NotOurs(format!("the pod {name} stands and is not this session's: delete it")));
            }
            stands
        }
        Err(error) => return Err(error),
    };
    cluster.stores.pods.own(made);
    Ok(())
}

/// Dials an endpoint beside the loop: machines that do not answer hold nobody up. The session is looked at again
/// when it is known what became of it.
fn dial_beside(cluster: &Cluster, session: &Session, target: Target) {
    let uid = session.uid().unwrap_or_default();
    if !cluster.memory.begin_dial(&uid) {
        return;
    }
    let (cluster, namespace, name) = (cluster.clone(), session.namespace().unwrap_or_default(), session.name_any());
    tokio::spawn(async move {
        let outcome = match missing_credentials(&cluster.client, &namespace, &target).await {
            Some(why) => Err(why),
            None => dial(&target, &cluster.destinations).await,
        };
        cluster.memory.dialled(&uid, outcome.map(|()| target), cluster.clock.now());
        cluster.queues.session_named(&namespace, &name);
    });
}

/// Lets go of a Session that is being deleted and that this version cannot read: it cannot be ended, and must not
/// hold its namespace up. Its pod goes with it, by its owner.
///
/// # Errors
/// When the API server does not do it.
pub async fn let_go(cluster: &Cluster, session: &ObjectMeta) -> Result<(), CallError> {
    let api: Api<Session> = Api::namespaced(cluster.client.clone(), session.namespace.as_deref().unwrap_or_default());
    cluster.leadership.check()?;
    remove_finalizer(&api, session).await
}

/// Removes our finalizer from a Session as it was observed, and leaves those of others. One that is gone has none.
///
/// # Errors
/// When the API server does not do it; a conflict where the Session has changed since.
pub async fn remove_finalizer(api: &Api<Session>, session: &ObjectMeta) -> Result<(), CallError> {
    let others: Vec<&String> = session.finalizers.iter().flatten().filter(|name| *name != SESSION_FINALIZER).collect();
    let patch = json!({ "metadata": { "resourceVersion": session.resource_version, "finalizers": others } });
    let name = session.name.as_deref().unwrap_or_default();
    optional(api.patch_metadata(name, &manager(), &Patch::Merge(patch))).await.map(drop)
}

/// Remembers what became of an attempt at the instance. What is worth another attempt, and what is not, the
/// planner learns from there; only the loss of the lease or of the connection is an error of its own.
fn attempt(cluster: &Cluster, session: &Session, outcome: Result<(), CallError>) -> Result<(), CallError> {
    let uid = session.uid().unwrap_or_default();
    match outcome {
        Err(error) if error.is_refusal() => {
            cluster.memory.refused(&uid, error.words());
            Err(CallError::Attempt)
        }
        Err(error @ (CallError::NotOurs(_) | CallError::NotSeen(_) | CallError::Api(kube::Error::Api(_)))) => {
            cluster.memory.failed(&uid, error.words(), cluster.clock.now());
            Err(CallError::Attempt)
        }
        other => other,
    }
}

/// Deletes what `params` allow; returns the object as it stands if it goes by and by. One that is gone already, or
/// has become another, needs no deleting.
async fn delete<K>(cluster: &Cluster, api: &Api<K>, name: &str, params: &DeleteParams) -> Result<Option<K>, CallError>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    cluster.leadership.check()?;
    match bounded(api.delete(name, params)).await {
        Ok(answer) => Ok(answer.left()),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) if is_uid_conflict(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a delete was refused because the name is another object's by now.
fn is_uid_conflict(error: &CallError) -> bool {
    match error {
        CallError::Api(kube::Error::Api(status)) => {
            let ApiStatus { code, message, .. } = status.as_ref();
            *code == 409 && message.contains("UID")
        }
        _ => false,
    }
}

fn with_uid(uid: &str) -> DeleteParams {
    if planted::is(Bug::DeleteWithoutUid) {
        return DeleteParams::default();
    }
    DeleteParams::default().preconditions(Preconditions { uid: Some(uid.to_owned()), resource_version: None })
}

/// Only if it is still as it was read.
fn as_read(uid: &str, resource_version: Option<String>) -> DeleteParams {
    let mut params = with_uid(uid);
    if let Some(preconditions) = params.preconditions.as_mut() {
        preconditions.resource_version = resource_version;
    }
    params
}

fn manager() -> PatchParams {
    PatchParams { field_manager: Some(OPERATOR_MANAGER.to_owned()), ..PatchParams::default() }
}

fn post(path: &str, body: &Value) -> Result<http::Request<Vec<u8>>, CallError> {
    let unreadable = |error| CallError::Unreadable { what: "our own request", error };
    let body = serde_json::to_vec(body).map_err(unreadable)?;
    http::Request::post(path)
        .header("content-type", "application/json")
        .body(body)
        .map_err(|error| CallError::NotOurs(format!("cannot build the request: {error}")))
}

fn to_value<T: Serialize>(value: &T) -> Result<Value, CallError> {
    serde_json::to_value(value).map_err(|error| CallError::Unreadable { what: "our own status", error })
}

fn from_value<T: DeserializeOwned>(value: Value, what: &'static str) -> Result<T, CallError> {
    serde_json::from_value(value).map_err(|error| CallError::Unreadable { what, error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::CustomResourceExt;

    #[test]
    fn the_operator_writes_every_field_of_a_sessions_status_but_the_observers() {
        let crd = serde_json::to_value(Session::crd()).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"];
        let mut fields: Vec<&str> = schema.as_object().unwrap().keys().map(String::as_str).collect();
        fields.retain(|field| !["activity", "client", "endRequest"].contains(field));
        let mut ours = SESSION_STATUS_FIELDS.to_vec();
        ours.sort_unstable();
        fields.sort_unstable();
        assert_eq!(ours, fields);
    }

    #[test]
    fn a_field_that_is_gone_is_written_as_null_and_the_observers_never() {
        let before = json!({"phase": "Idle", "idleSince": "x", "activity": {"lastAt": "y"},
            "policy": {"name": "p", "idleNotBefore": "z"}, "instance": {"pod": "a"}});
        let after = json!({"phase": "Active", "activity": {}, "policy": {"name": "p"}, "instance": {"pod": "a"}});
        let patch = changed_fields(&before, &after).unwrap();
        let expected = json!({"phase": "Active", "idleSince": null, "policy": {"idleNotBefore": null}});
        assert_eq!(Value::Object(patch), expected);
    }
}
