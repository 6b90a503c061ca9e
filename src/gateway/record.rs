//! What is recorded of calls: who did what to what, from where. A call is recorded before it is carried out, and refused
//! where it cannot be; what then fails is recorded, too. The chain of records is the store's.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::Gateway;
use super::asker::Asker;
use super::problem::Problem;
use crate::api::Session;
use crate::store::StoreError;
use crate::store::audit::{Draft, Outcome, Record};

/// What a caller does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Launches a Workspace.
    LaunchWorkspace,
    /// Disconnects a session.
    DisconnectSession,
    /// Stops a Workspace.
    StopWorkspace,
    /// Says that a session was not theirs.
    ReportSession,
    /// Says that they are still there.
    KeepSession,
    /// Ends others' sessions.
    EndSession,
}

impl Action {
    /// The action as it is recorded.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LaunchWorkspace => "launch_workspace",
            Self::DisconnectSession => "disconnect_session",
            Self::StopWorkspace => "stop_workspace",
            Self::ReportSession => "report_session",
            Self::KeepSession => "keep_session",
            Self::EndSession => "end_session",
        }
    }
}

/// What something is done to.
#[derive(Clone, Debug)]
pub struct Target {
    organization: String,
    kind: &'static str,
    name: String,
    uid: Option<String>,
}

impl Target {
    /// A session.
    pub fn session(session: &Session) -> Self {
        Self {
            organization: session.namespace().unwrap_or_default(),
            kind: "Session",
            name: session.name_any(),
            uid: session.uid(),
        }
    }

    /// A Workspace.
    pub fn workspace(organization: &str, name: &str) -> Self {
        Self { organization: organization.to_owned(), kind: "Workspace", name: name.to_owned(), uid: None }
    }
}

impl Gateway {
    async fn record(&self, asker: &Asker, action: Action, target: &Target, details: Value) -> Result<Record, Problem> {
        let draft = self.draft(asker, action, target, Outcome::Success, None, details);
        let record = self.store.append(draft).await.map_err(|error| {
            self.metrics.store_failures.inc();
            unwritten(error)
        })?;
        self.grown.notify_one();
        Ok(record)
    }

    /// Records that `asker` does this, does it, and records where it failed.
    ///
    /// # Errors
    /// When it cannot be recorded, and so is not done, or when `act` fails.
    pub async fn recorded<T>(
        &self,
        asker: &Asker,
        action: Action,
        target: &Target,
        details: Value,
        act: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let begun = self.record(asker, action, target, details).await?;
        let done = act.await;
        if let Err(problem) = &done {
            self.record_failure(asker, action, target, &begun, problem).await;
        }
        done
    }

    /// Records that what was recorded as `begun` has failed with `problem`, which the caller is then told. Where that
    /// cannot be recorded either, it is logged: the change was not made.
    async fn record_failure(&self, asker: &Asker, action: Action, target: &Target, begun: &Record, problem: &Problem) {
        let reason = Some(problem.detail().to_owned());
        let draft = self.draft(asker, action, target, Outcome::Failure, reason, json!({ "of": begun.seq }));
        match self.store.append(draft).await {
            Ok(_) => self.grown.notify_one(),
            Err(error) => tracing::error!(%error, seq = begun.seq, "a failure could not be recorded"),
        }
    }

    fn draft(
        &self,
        asker: &Asker,
        action: Action,
        target: &Target,
        outcome: Outcome,
        reason: Option<String>,
        details: Value,
    ) -> Draft {
        Draft {
            at: self.clock.now(),
            organization: target.organization.clone(),
            actor: asker.caller.username.clone(),
            action: action.as_str().to_owned(),
            target_kind: target.kind.to_owned(),
            target_name: target.name.clone(),
            target_uid: target.uid.clone(),
            outcome,
            reason,
            address: Some(asker.address.ip.to_string()),
            address_source: Some(asker.address.source.as_str().to_owned()),
            once: None,
            details,
        }
    }

    /// A reference to a session, for events about it.
    pub fn reference(session: &Session) -> ObjectReference {
        session.object_ref(&())
    }
}

/// What a caller is told when the store does not take a record.
fn unwritten(error: StoreError) -> Problem {
    if let StoreError::Invalid(why) = error {
        return Problem::invalid(format!("this cannot be recorded, and so not be done: {why}"));
    }
    tracing::error!(%error, "a call was refused: it could not be recorded");
    Problem::unavailable("the audit cannot be written now: nothing was changed")
}

/// What a caller is told when the store does not answer.
pub fn unread(error: StoreError) -> Problem {
    match error {
        StoreError::Invalid(why) => Problem::malformed(why),
        error => {
            tracing::error!(%error, "the store could not be read");
            Problem::unavailable("history and audit cannot be read now")
        }
    }
}
