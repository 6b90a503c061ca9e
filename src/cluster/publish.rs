//! Events: what a plan has to tell people. They are best effort, as Kubernetes has it: a failure to publish one
//! never fails a plan.

use kube::Client;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use super::error::bounded;
use crate::api::EVENT_REPORTER;
use crate::plan::{Note, Severity, shorten};

/// Publishes notes as events.
#[derive(Clone)]
pub struct Publisher {
    recorder: Recorder,
}

impl Publisher {
    /// A publisher that reports under this pod's name.
    pub fn new(client: Client, instance: &str) -> Self {
        let reporter = Reporter { controller: EVENT_REPORTER.to_owned(), instance: Some(instance.to_owned()) };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Publishes `notes` about `object`.
    pub async fn publish<K: Resource<DynamicType = ()>>(&self, object: &K, notes: &[Note]) {
        let reference = object.object_ref(&());
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
            if let Err(error) = bounded(self.recorder.publish(&event, &reference)).await {
                tracing::debug!(%error, reason = note.reason, "event not published");
            }
        }
    }
}
