//! The pruning of ended sessions, by who has the store: a Session's resource goes once its history was kept as long as its policy
//! says, and never before the store has taken it. Owns when; whether at all is the planner's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};

use super::Gateway;
use crate::api::Session;
use crate::api::time::Instant;
use crate::cluster::error::bounded;
use crate::cluster::observe::policy;
use crate::plan::session::prune_at;

/// How long until what could not be deleted is tried again.
const AGAIN: TimeDelta = TimeDelta::seconds(30);
/// When one is looked at again that a tool tracks, and would create anew.
const LOOK: TimeDelta = TimeDelta::hours(1);
/// The longest sleep: a wall clock may be set meanwhile.
const LONGEST: Duration = Duration::from_secs(600);

/// Prunes what is handed in, each session in its time, until the process ends.
pub async fn run(gateway: Arc<Gateway>, mut recorded: UnboundedReceiver<Session>) {
    let mut due: BTreeMap<(Instant, String), ()> = BTreeMap::new();
    loop {
        let now = gateway.clock.now();
        while let Some(first) = due.first_entry().filter(|first| first.key().0 <= now) {
            let uid = first.remove_entry().0.1;
            match prune(&gateway, &uid).await {
                Ok(None) => {}
                Ok(Some(later)) => {
                    due.insert((later, uid), ());
                }
                Err(why) => {
                    tracing::warn!(uid, why, "an ended Session could not be pruned");
                    due.insert((now + AGAIN, uid), ());
                }
            }
        }
        let next = due.first_key_value().map(|((at, _), ())| (*at - gateway.clock.now()).to_std().unwrap_or_default());
        tokio::select! {
            session = recorded.next() => {
                let Some(session) = session else { return };
                due.insert((to_go(&gateway, &session).unwrap_or(now + LOOK), session.uid().unwrap_or_default()), ());
            }
            () = tokio::time::sleep(next.unwrap_or(LONGEST).min(LONGEST)) => {}
        }
    }
}

/// When the session is to go, by the rules that it ended under, or by those of its Workspace now.
fn to_go(gateway: &Gateway, session: &Session) -> Option<Instant> {
    let namespace = session.namespace().unwrap_or_default();
    let workspace = gateway.board.stores.workspaces.get(&namespace, session.spec.workspace_ref.name.as_str());
    prune_at(session, &policy(&gateway.board.stores, workspace.as_deref()))
}

/// Deletes the session with this uid, if it still stands and its time has come; says when to look at it again, if ever.
async fn prune(gateway: &Gateway, uid: &str) -> Result<Option<Instant>, String> {
    let Some(session) = gateway.board.session_of(uid) else { return Ok(None) };
    let now = gateway.clock.now();
    match to_go(gateway, &session) {
        None => return Ok(Some(now + LOOK)),
        Some(at) if at > now => return Ok(Some(at)),
        Some(_) => {}
    }
    let api: Api<Session> = Api::namespaced(gateway.client.clone(), &session.namespace().unwrap_or_default());
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match bounded(api.delete(&session.name_any(), &params)).await {
        Ok(_) => Ok(None),
        // Somebody was faster, or it is another by now.
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(None),
        Err(error) => Err(error.words()),
    }
}
