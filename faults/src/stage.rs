//! Where a plan is played: namespaces of its own, its operators, and the people's hands. Owns how objects get there and how
//! the people wait; what they do is `workload`'s.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::observer::Observer;
use crate::operator::Place;

/// How long the people wait for anything. It only bounds a failure: nothing has to be quick.
pub const PATIENCE: Duration = Duration::from_secs(90);

const BERTH: &str = "/apis/berth.dev/v1alpha1";

/// The namespace, and who acts in it.
pub struct Stage {
    /// The API server, without a proxy.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    /// What happens.
    pub observer: Arc<Observer>,
    /// The operators.
    pub places: Vec<Arc<Place>>,
}

impl Stage {
    /// Makes a namespace, marked with this run; its name.
    ///
    /// # Errors
    /// When there is none to be had.
    pub async fn namespace(client: &Client, observer: &Observer, run: &str) -> Result<String> {
        let wanted = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "generateName": "faults-", "labels": { "berth-faults": run } },
        });
        let made = send(client, Method::POST, "/api/v1/namespaces", &wanted).await.context("no namespace")?;
        let name = made["metadata"]["name"].as_str().context("a namespace without a name")?.to_owned();
        observer.follow(&name);
        // Without its account it refuses every pod.
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        let until = Instant::now() + PATIENCE;
        while send(client, Method::GET, &account, &Value::Null).await.is_err() {
            if Instant::now() > until {
                bail!("the namespace {name} has no account");
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(name)
    }

    /// Makes an object of a kind of Berth's.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn create(&self, plural: &str, kind: &str, name: &str, spec: Value) -> Result<()> {
        let object = json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec,
        });
        let path = format!("{BERTH}/namespaces/{}/{plural}", self.namespace);
        send(&self.client, Method::POST, &path, &object).await.map(drop)
    }

    /// A Session of `user` on the Workspace `box`.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn session(&self, name: &str, user: &str) -> Result<()> {
        self.create("sessions", "Session", name, json!({ "workspaceRef": { "name": "box" }, "user": { "id": user } }))
            .await
    }

    /// Merges `patch` into an object of ours; `path` is such as `sessions/mine/status`.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn patch(&self, path: &str, patch: &Value) -> Result<()> {
        let path = format!("{BERTH}/namespaces/{}/{path}", self.namespace);
        send(&self.client, Method::PATCH, &path, patch).await.map(drop)
    }

    /// Its user ends the session.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn disconnect(&self, session: &str) -> Result<()> {
        self.patch(&format!("sessions/{session}"), &json!({ "spec": { "desiredState": "Disconnected" } })).await
    }

    /// Deletes an object of ours.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn delete(&self, plural: &str, name: &str) -> Result<()> {
        let path = format!("{BERTH}/namespaces/{}/{plural}/{name}", self.namespace);
        send(&self.client, Method::DELETE, &path, &Value::Null).await.map(drop)
    }

    /// All objects of a resource that stand here.
    pub fn objects(&self, resource: &str) -> Vec<Arc<Value>> {
        self.observer.objects(resource, &self.namespace)
    }

    /// Waits until `look` finds something.
    ///
    /// # Errors
    /// When it has found nothing for [`PATIENCE`].
    pub async fn until<T>(&self, sentence: &str, look: impl Fn(&Self) -> Option<T>) -> Result<T> {
        let mut news = self.observer.news();
        let found = async {
            loop {
                news.mark_unchanged();
                if let Some(found) = look(self) {
                    return found;
                }
                // Also where nothing happens: what is looked for may be a time.
                let _ = timeout(Duration::from_millis(500), news.changed()).await;
            }
        };
        timeout(PATIENCE, found).await.with_context(|| format!("not within {} s: {sentence}", PATIENCE.as_secs()))
    }

    /// Waits until the session is in this phase; at once an error where it has ended in another.
    ///
    /// # Errors
    /// When it is not.
    pub async fn phase(&self, session: &str, wanted: &str) -> Result<()> {
        let reached = self
            .until(&format!("the Session {session} is {wanted}"), |stage| {
                let stands = stage.observer.object("sessions.berth.dev", &stage.namespace, session)?;
                let phase = stands.pointer("/status/phase")?.as_str()?.to_owned();
                let ended = stands.pointer("/status/endedAt").is_some();
                // One that was ended has its end beside it.
                let lives_so = phase == wanted && !matches!(wanted, "Disconnected" | "Terminated");
                (ended || lives_so).then(|| (phase, stands.pointer("/status/message").cloned()))
            })
            .await?;
        if reached.0 != wanted {
            bail!("the Session {session} was to be {wanted} and is {}: {:?}", reached.0, reached.1);
        }
        Ok(())
    }

    /// Who holds the lease of this namespace.
    pub fn holder(&self, namespace: &str) -> Option<String> {
        let lease = self.observer.object("leases.coordination.k8s.io", namespace, berth::operator::LEASE)?;
        lease.pointer("/spec/holderIdentity")?.as_str().map(str::to_owned)
    }
}

/// Sends a request; what was answered.
///
/// # Errors
/// When it was refused.
pub async fn send(client: &Client, method: Method, path: &str, body: &Value) -> Result<Value> {
    let media = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
    let request = Request::builder().method(&method).uri(path).header("content-type", media).body(bytes)?;
    client.request(request).await.with_context(|| format!("{method} {path}"))
}

/// Lets go of the Sessions of a namespace, in the place of an operator that does not.
///
/// # Errors
/// When the API server refuses it.
pub async fn let_go(client: &Client, namespace: &str) -> Result<()> {
    let sessions = format!("{BERTH}/namespaces/{namespace}/sessions");
    let list = send(client, Method::GET, &sessions, &Value::Null).await?;
    for session in list["items"].as_array().into_iter().flatten() {
        let path = format!("{sessions}/{}", session["metadata"]["name"].as_str().unwrap_or_default());
        // One that goes meanwhile is let go of.
        let _ = send(client, Method::PATCH, &path, &json!({ "metadata": { "finalizers": null } })).await;
    }
    Ok(())
}
