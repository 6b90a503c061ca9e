//! Events: what a plan has to tell people. They are best effort, as Kubernetes has it: a failure to publish one
//! never fails a plan.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio_util::task::TaskTracker;

use super::error::bounded;
use crate::api::EVENT_REPORTER;
use crate::plan::{Note, Severity, shorten};

/// How many events one recorder publishes. It remembers each for minutes, so that one that comes again is counted in a
/// series, and walks all that it remembers for each new one.
const EVENTS_OF_A_RECORDER: usize = 500;

/// Publishes notes as events.
#[derive(Clone)]
pub struct Publisher {
    client: Client,
    reporter: Reporter,
    recorder: Arc<Mutex<(Recorder, usize)>>,
    under_way: TaskTracker,
}

impl Publisher {
    /// A publisher that reports under this pod's name.
    pub fn new(client: Client, instance: &str) -> Self {
        Self::of(client, EVENT_REPORTER, instance)
    }

    /// A publisher that reports as this controller, under this pod's name.
    pub fn of(client: Client, controller: &str, instance: &str) -> Self {
        let reporter = Reporter { controller: controller.to_owned(), instance: Some(instance.to_owned()) };
        let recorder = Recorder::new(client.clone(), reporter.clone());
        Self { client, reporter, recorder: Arc::new(Mutex::new((recorder, 0))), under_way: TaskTracker::new() }
    }

    /// The recorder for one more event.
    fn recorder(&self) -> Recorder {
        let mut current = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        if current.1 == EVENTS_OF_A_RECORDER {
            *current = (Recorder::new(self.client.clone(), self.reporter.clone()), 0);
        }
        current.1 += 1;
        current.0.clone()
    }

    /// Publishes `notes` about `object`.
    pub async fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, notes: &[Note]) {
        self.publish_about(&object.object_ref(&()), notes).await;
    }

    /// Publishes `notes` about `object` without holding the caller up.
    pub fn publish_beside<K: Resource<DynamicType = ()>>(&self, object: &K, notes: Vec<Note>) {
        let (publisher, reference) = (self.clone(), object.object_ref(&()));
        self.under_way.spawn(async move { publisher.publish_about(&reference, &notes).await });
    }

    /// Waits until what is being published beside others is published.
    pub async fn finish(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    /// Publishes `notes` about the object that `reference` names.
    pub async fn publish_about(&self, reference: &ObjectReference, notes: &[Note]) {
        for note in notes {
            let event = Event {
                type_: match note.severity {
                    Severity::Normal => EventType::Normal,
                    Severity::Warning => EventType::Warning,
                },
                reason: note.reason.clone(),
                note: Some(shorten(&note.message)),
                action: "Reconcile".to_owned(),
                secondary: None,
            };
            if let Err(error) = bounded(self.recorder().publish(&event, reference)).await {
                tracing::debug!(%error, reason = note.reason, "event not published");
            }
        }
    }
}
