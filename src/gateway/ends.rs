//! The lives of sessions, as the watch tells of them: what is news is recorded in the audit, once, and who has ended is kept in the
//! history. Owns when that is tried again; while the store is away it waits, and after a restart the watch brings again what was
//! not acknowledged.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use kube::ResourceExt;
use prometheus_client::metrics::gauge::Gauge;

use super::Gateway;
use super::life::{self, Told};
use super::view::started;
use crate::api::Session;
use crate::clock::Clock;
use crate::store::StoreError;
use crate::store::audit::Draft;
use crate::store::history::EndedSession;

/// How long until what the store did not take is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How much is recorded at once.
const BATCH: usize = 64;
/// How much may wait before what passes, such as that a session is idle, waits no more: beginnings and ends always do.
const WAITING: i64 = 20_000;

/// What is to be recorded of a session, and the session itself once nothing more will come of it.
pub struct News {
    drafts: Vec<Draft>,
    over: Option<Session>,
}

/// Hands in what is news of sessions; what this process has handed in already is left out.
pub fn channel(clock: Clock, waiting: Gauge) -> (impl Fn(&Session, bool) + Clone, UnboundedReceiver<News>) {
    let (sender, receiver): (UnboundedSender<News>, _) = mpsc::unbounded();
    let known: Arc<Mutex<HashMap<String, Told>>> = Arc::default();
    let hand_in = move |session: &Session, gone: bool| {
        let uid = session.uid().unwrap_or_default();
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let told = known.entry(uid.clone()).or_default();
        let was_over = told.is_ended();
        let mut drafts = life::news(told, session, clock.now());
        let mut is_over = told.is_ended();
        if gone {
            known.remove(&uid);
            // One that went without its end having been seen is recorded as it stood last.
            if !is_over {
                drafts.extend(life::vanished(session));
                is_over = true;
            }
        }
        let over = (is_over && !was_over).then(|| session.clone());
        let is_full = waiting.get() >= WAITING;
        if is_full && over.is_none() {
            drafts.retain(life::is_kept_for_sure);
        }
        if over.is_some() || !drafts.is_empty() {
            waiting.inc();
            let _ = sender.unbounded_send(News { drafts, over });
        }
    };
    (hand_in, receiver)
}

/// Records what is handed in until all ways in are closed.
pub async fn run(gateway: Arc<Gateway>, seen: UnboundedReceiver<News>, recorded: UnboundedSender<Session>) {
    let mut batches = seen.ready_chunks(BATCH);
    while let Some(batch) = batches.next().await {
        while let Err(error) = record(&gateway, &batch).await {
            gateway.metrics.store_failures.inc();
            tracing::error!(%error, waiting = batch.len(), "what happened to sessions could not be recorded yet");
            tokio::time::sleep(AGAIN).await;
        }
        gateway.metrics.ends_waiting.dec_by(i64::try_from(batch.len()).unwrap_or_default());
        gateway.grown.notify_one();
        for session in batch.into_iter().filter_map(|news| news.over) {
            let _ = recorded.unbounded_send(session);
        }
    }
}

async fn record(gateway: &Gateway, news: &[News]) -> Result<(), StoreError> {
    let kept: Vec<EndedSession> = news.iter().filter_map(|news| entry(news.over.as_ref()?)).collect();
    match gateway.store.keep(&kept).await {
        // One that can never be kept must not keep the others from it.
        Err(StoreError::Invalid(_)) => {
            for session in &kept {
                match gateway.store.keep(std::slice::from_ref(session)).await {
                    Err(StoreError::Invalid(why)) => {
                        tracing::error!(uid = session.uid, why, "a session cannot be kept");
                    }
                    outcome => outcome?,
                }
            }
        }
        outcome => outcome?,
    }
    let drafts = news.iter().flat_map(|news| &news.drafts);
    let appended = drafts.map(|draft| gateway.store.append(draft.clone()));
    for outcome in futures::future::join_all(appended).await {
        match outcome {
            // One that can never be recorded must not keep the others from it.
            Err(StoreError::Invalid(why)) => tracing::error!(why, "a part of a session's life cannot be recorded"),
            outcome => {
                outcome?;
            }
        }
    }
    Ok(())
}

/// The session for the history.
fn entry(session: &Session) -> Option<EndedSession> {
    let status = session.status.as_ref()?;
    let mut object = session.clone();
    object.metadata.managed_fields = None;
    Some(EndedSession {
        uid: session.uid()?,
        namespace: session.namespace()?,
        name: session.name_any(),
        user: session.spec.user.id.to_string(),
        workspace: session.spec.workspace_ref.name.to_string(),
        workspace_type: status.workspace.as_ref().map(|workspace| workspace.type_.clone()),
        phase: status.phase?.as_str().to_owned(),
        reason: status.reason.map(|reason| reason.as_str().to_owned()),
        started_at: started(session),
        ended_at: status.ended_at?,
        object: serde_json::to_value(&object).ok()?,
    })
}
