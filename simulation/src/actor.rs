//! What all actors have in common: when they look, and how they write. Owns the patience with which they write.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::Client;
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout};

use crate::ApiServer;
use crate::apiserver::meta::text;

/// How long an actor waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// When an actor looks again after something that failed.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

/// An actor's hands: it writes as a client like any other.
pub(crate) struct Hands {
    client: Client,
}

impl Hands {
    pub(crate) fn new(server: &ApiServer, who: &str) -> Self {
        Self { client: server.client(who) }
    }

    /// Creates.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Option<u16> {
        self.send("POST", path, "application/json", body).await
    }

    /// Replaces.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Option<u16> {
        self.send("PUT", path, "application/json", body).await
    }

    /// Merges into what stands.
    pub(crate) async fn merge(&self, path: &str, body: &Value) -> Option<u16> {
        self.send("PATCH", path, "application/merge-patch+json", body).await
    }

    /// Deletes.
    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Option<u16> {
        self.send("DELETE", path, "application/json", options).await
    }

    /// Sends it: the HTTP status, or nothing when no answer came.
    async fn send(&self, method: &str, path: &str, type_: &str, body: &Value) -> Option<u16> {
        let request = http::Request::builder().method(method).uri(path).header("content-type", type_);
        let request = request.body(body.to_string().into_bytes()).ok()?;
        match timeout(PATIENCE, self.client.request::<Value>(request)).await.ok()? {
            Ok(_) => Some(200),
            Err(kube::Error::Api(status)) => Some(status.code),
            Err(_) => None,
        }
    }
}

/// Whether an answer says that there is nothing more to do: it is done, or its object has gone or changed.
pub(crate) fn is_settled(code: Option<u16>) -> bool {
    code.is_some_and(|code| code < 500 && code != 429)
}

/// Waits until an object of these resources has changed, or until then.
pub(crate) async fn wait(server: &ApiServer, seen: u64, until: Option<Instant>, concerns: impl Fn(&str) -> bool) {
    let due = async {
        match until {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = server.changed_since(seen, concerns) => {}
        () = due => {}
    }
}

/// When each thing is due: an actor does nothing at the moment it sees that it is to be done.
#[derive(Default)]
pub(crate) struct Agenda(BTreeMap<String, Instant>);

impl Agenda {
    /// Whether the thing is due; a thing that is new is due after `delay`.
    pub(crate) fn is_due(&mut self, thing: &str, delay: impl FnOnce() -> Duration) -> bool {
        let now = Instant::now();
        *self.0.entry(thing.to_owned()).or_insert_with(|| now + delay()) <= now
    }

    /// The thing was tried: it is due again after a pause, if it is still to be done then.
    pub(crate) fn tried(&mut self, thing: &str) {
        self.0.insert(thing.to_owned(), Instant::now() + AGAIN);
    }

    /// Forgets all that is not to be done any more; when the next is due.
    pub(crate) fn keep(&mut self, still: impl Fn(&str) -> bool) -> Option<Instant> {
        self.0.retain(|thing, _| still(thing));
        self.0.values().min().copied()
    }
}

/// The path of an object of a kind that paths call `plural`, below `root` such as `/api/v1`.
pub(crate) fn path(root: &str, plural: &str, object: &Value) -> String {
    let (namespace, name) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
    match namespace {
        "" => format!("{root}/{plural}/{name}"),
        namespace => format!("{root}/namespaces/{namespace}/{plural}/{name}"),
    }
}
