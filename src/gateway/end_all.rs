//! Ends of many sessions, each with its own outcome, and of one with its record.

use std::sync::Arc;

use futures::StreamExt;
use kube::ResourceExt;
use serde_json::json;

use super::Gateway;
use super::act::{End, has_ended};
use super::asker::Asker;
use super::filter::EndAllBody;
use super::problem::Problem;
use super::record::{Action, Target};
use super::routes::{EndedAll, EndedOne};
use crate::api::Session;
use crate::plan::{Note, Severity};

/// How many ends are asked for at once.
const AT_ONCE: usize = 32;

impl Gateway {
    /// Ends `session` and records who did it. One that has ended is left as it is.
    ///
    /// # Errors
    /// When it cannot be recorded, or not be ended.
    pub async fn end_recorded(
        &self,
        asker: &Asker,
        session: &Arc<Session>,
        action: Action,
        how: End,
    ) -> Result<(), Problem> {
        if has_ended(session) {
            return Ok(());
        }
        let target = Target::session(session);
        let end = self.end(session, how, &asker.caller.username);
        self.recorded(asker, action, &target, json!({ "user": session.spec.user.id }), end).await.map(drop)
    }

    /// Ends those live ones of `there` that `body` means, or says what would be ended.
    ///
    /// # Errors
    /// When the body asks for what cannot be.
    pub async fn end_all(
        &self,
        asker: &Asker,
        there: Vec<Arc<Session>>,
        body: EndAllBody,
        action: Action,
        how: End,
    ) -> Result<EndedAll, Problem> {
        let wanted = body.read(self.clock.now())?;
        let dry_run = body.dry_run;
        let mut meant: Vec<Arc<Session>> =
            there.into_iter().filter(|session| !has_ended(session) && wanted.has(session)).collect();
        meant.sort_by_key(|session| (session.namespace(), session.name_any()));
        let one = |session: Arc<Session>| async move {
            let outcome = match dry_run {
                true => Ok("would_end"),
                false => self.end_recorded(asker, &session, action, how).await.map(|()| "ended"),
            };
            EndedOne {
                id: session.uid().unwrap_or_default(),
                name: session.name_any(),
                organization: session.namespace().unwrap_or_default(),
                user_id: session.spec.user.id.to_string(),
                workspace_id: session.spec.workspace_ref.name.to_string(),
                result: outcome.as_ref().unwrap_or(&"failed"),
                detail: outcome.err().map(|problem| problem.detail().to_owned()),
            }
        };
        let results: Vec<EndedOne> = futures::stream::iter(meant).map(one).buffered(AT_ONCE).collect().await;
        Ok(EndedAll { count: results.len(), dry_run, results })
    }

    /// Tells administrators that somebody says a session was not theirs.
    pub fn alert(&self, session: &Session, asker: &Asker) {
        let message = format!(
            "{} says that this session was not theirs; they told so from {} ({})",
            asker.caller.username,
            asker.address.ip,
            asker.address.source.as_str()
        );
        let note = Note { severity: Severity::Warning, reason: "ReportedByUser".to_owned(), message };
        self.publisher.publish_beside(session, vec![note]);
    }
}
