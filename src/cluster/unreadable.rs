//! Objects that stand and cannot be read, as a newer version may have written them: they are told about, and a Session
//! among them that is being deleted is let go of, so that nothing hangs. One after the other, however many there are.
//! Owns when that is tried again; what is known of such objects is `cache`'s.

use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::core::error_boundary::InvalidObject;

use super::{Cluster, apply};
use crate::api::{SESSION_FINALIZER, Session};
use crate::plan::{Note, Severity};

/// The pause before a Session that could not be let go of is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// One object that cannot be read, of the kind that the reference names.
pub struct Unreadable {
    /// Which object.
    pub reference: ObjectReference,
    /// Its metadata, and why it cannot be read.
    pub object: InvalidObject,
    /// Whether that was not known before.
    pub is_news: bool,
}

/// Where such objects are handed in.
pub type Sender = UnboundedSender<Unreadable>;

/// A way in, and what comes out of it.
pub fn channel() -> (Sender, UnboundedReceiver<Unreadable>) {
    unbounded()
}

/// Handles what is handed in until all ways in are closed.
pub async fn run(cluster: Cluster, again: Sender, mut handed_in: UnboundedReceiver<Unreadable>) {
    while let Some(unreadable) = handed_in.next().await {
        if !cluster.leadership.holds() {
            // The lease may be renewed yet, late.
            later(&again, unreadable);
            continue;
        }
        if unreadable.is_news {
            tell(&cluster, &unreadable).await;
        }
        if is_held(&unreadable)
            && let Err(error) = apply::let_go(&cluster, &unreadable.object.metadata).await
        {
            tracing::warn!(namespace = unreadable.object.metadata.namespace, %error, "Session not let go of");
            // A conflict means that it was changed, and comes again by itself.
            if !error.is_conflict() {
                later(&again, Unreadable { is_news: false, ..unreadable });
            }
        }
    }
}

/// Hands it in again after a pause.
fn later(again: &Sender, unreadable: Unreadable) {
    let again = again.clone();
    tokio::spawn(async move {
        tokio::time::sleep(AGAIN).await;
        // Nobody there means that the process is stopping.
        let _ = again.unbounded_send(unreadable);
    });
}

async fn tell(cluster: &Cluster, unreadable: &Unreadable) {
    let note = Note {
        severity: Severity::Warning,
        reason: "Unreadable".to_owned(),
        message: format!("ignored: {}", unreadable.object.error),
    };
    cluster.publisher.publish_about(&unreadable.reference, &[note]).await;
}

/// Whether it is a Session that is being deleted and that our finalizer holds.
fn is_held(unreadable: &Unreadable) -> bool {
    let meta = &unreadable.object.metadata;
    unreadable.reference.kind.as_deref() == Some(&*Session::kind(&()))
        && meta.deletion_timestamp.is_some()
        && meta.finalizers.iter().flatten().any(|name| name == SESSION_FINALIZER)
}

/// The reference by which events tell about `object`, of the kind `K`.
pub fn reference<K: Resource<DynamicType = ()>>(object: &InvalidObject) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: object.metadata.name.clone(),
        namespace: object.metadata.namespace.clone(),
        uid: object.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}
