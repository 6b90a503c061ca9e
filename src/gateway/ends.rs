//! The ends of sessions, as the watch tells of them: each is kept in the history and recorded in the audit, once, and the
//! Session is told so. Owns when that is tried again; while the store is away they wait, and after a restart the watch brings
//! again what was not acknowledged.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use kube::ResourceExt;
use serde_json::json;

use super::Gateway;
use super::view::started;
use crate::api::time::from_wire;
use crate::api::{Reason, Session};
use crate::store::StoreError;
use crate::store::audit::{Draft, Outcome};
use crate::store::history::EndedSession;

/// How long until what the store did not take is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How many ends are kept at once.
const BATCH: usize = 64;

/// Hands ended sessions in; one that is known to be recorded is left out.
pub fn channel() -> (impl Fn(&Session, bool) + Clone, UnboundedReceiver<Session>) {
    let (sender, receiver): (UnboundedSender<Session>, _) = mpsc::unbounded();
    let known: Arc<Mutex<HashSet<String>>> = Arc::default();
    let hand_in = move |session: &Session, gone: bool| {
        let ended = session.status.as_ref().is_some_and(|status| status.ended_at.is_some());
        let uid = session.uid().unwrap_or_default();
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        // One that went without its end having been seen is recorded as it stood last.
        let is_news = if gone { !known.remove(&uid) } else { ended && known.insert(uid) };
        if is_news {
            let _ = sender.unbounded_send(session.clone());
        }
    };
    (hand_in, receiver)
}

/// Records what is handed in until all ways in are closed.
pub async fn run(gateway: Arc<Gateway>, seen: UnboundedReceiver<Session>, recorded: UnboundedSender<Session>) {
    let mut batches = seen.ready_chunks(BATCH);
    while let Some(batch) = batches.next().await {
        gateway.metrics.ends_waiting.inc_by(i64::try_from(batch.len()).unwrap_or_default());
        while let Err(error) = record(&gateway, &batch).await {
            gateway.metrics.store_failures.inc();
            tracing::error!(%error, ends = batch.len(), "ends of sessions could not be recorded yet");
            tokio::time::sleep(AGAIN).await;
        }
        gateway.metrics.ends_waiting.dec_by(i64::try_from(batch.len()).unwrap_or_default());
        gateway.grown.notify_one();
        for session in batch {
            let _ = recorded.unbounded_send(session);
        }
    }
}

async fn record(gateway: &Gateway, ended: &[Session]) -> Result<(), StoreError> {
    let kept: Vec<EndedSession> = ended.iter().filter_map(entry).collect();
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
    let appended = ended.iter().filter_map(draft).map(|draft| gateway.store.append(draft));
    for outcome in futures::future::join_all(appended).await {
        match outcome {
            // One that can never be recorded must not keep the others from it.
            Err(StoreError::Invalid(why)) => tracing::error!(why, "an end cannot be recorded"),
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

/// The record of the end: once for this session, whoever sees it how often.
fn draft(session: &Session) -> Option<Draft> {
    let status = session.status.as_ref()?;
    let uid = session.uid()?;
    let asked = status.end_request.as_ref().and_then(|request| request.actor.as_ref());
    let by_user = status.reason == Some(Reason::UserDisconnected);
    // Somebody may have asked for an end that another cause forestalled.
    let same = status.end_request.as_ref().is_some_and(|request| Some(request.reason) == status.reason);
    let asked = asked.filter(|_| same);
    let actor = match asked {
        Some(actor) => actor.to_string(),
        None if by_user => session.spec.user.id.to_string(),
        None => "berth-operator".to_owned(),
    };
    Some(Draft {
        at: status.ended_at.or_else(|| session.metadata.deletion_timestamp.as_ref().map(from_wire))?,
        organization: session.namespace()?,
        actor,
        action: if status.ended_at.is_some() { "session_ended" } else { "session_vanished" }.to_owned(),
        target_kind: "Session".to_owned(),
        target_name: session.name_any(),
        target_uid: Some(uid.clone()),
        outcome: Outcome::Success,
        reason: status.reason.map(|reason| reason.as_str().to_owned()),
        address: None,
        address_source: None,
        once: Some(format!("{uid}/ended")),
        details: json!({
            "phase": status.phase, "message": status.message, "user": session.spec.user.id,
            "workspace": session.spec.workspace_ref.name, "duration": status.duration,
        }),
    })
}
