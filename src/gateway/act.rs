//! What the gateway changes, each by writing a resource that `kubectl` could write as well: a launch, a keepalive, an end.
//! Owns how long a caller waits for the operator; who may is asked before, and what is recorded is `record`'s.

use std::time::Duration;

use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::time::Instant;

use super::Gateway;
use super::board::Change;
use super::lease;
use super::problem::Problem;
use crate::api::condition::{self, Status, Type};
use crate::api::policy::ActivitySource;
use crate::api::session::{EndAs, Phase, WhenFull};
use crate::api::{GATEWAY_MANAGER, Reason, Session};
use crate::cluster::error::{CallError, bounded, optional};
use crate::hex::hex;
use crate::plan::limit::DISPLACING;

/// How long a caller waits for what the operator does about it.
const VERDICT: Duration = Duration::from_secs(10);
/// How long a keepalive waits for the session to be Active again.
const REVIVED: Duration = Duration::from_secs(3);

/// How a session is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By its user, who is done.
    Disconnected,
    /// By its user, who stops the workspace.
    Stopped,
    /// By its user, who says that it was not them.
    Reported,
    /// By an administrator.
    Administrator,
}

impl End {
    fn request(self) -> Option<(EndAs, Reason)> {
        match self {
            Self::Disconnected => None,
            Self::Stopped => Some((EndAs::Terminated, Reason::WorkspaceStopped)),
            Self::Reported => Some((EndAs::Terminated, Reason::ReportedByUser)),
            Self::Administrator => Some((EndAs::Terminated, Reason::AdministratorEnded)),
        }
    }
}

/// What is to be launched.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The organization.
    pub organization: String,
    /// The Workspace's name.
    pub workspace: String,
    /// Whose session it is.
    pub user: String,
    /// Their e-mail address, where the authenticator says one.
    pub email: Option<String>,
    /// The client as it describes itself, and where it calls from.
    pub client: Value,
    /// Whether to wait for a slot.
    pub wait: bool,
    /// What makes two calls one launch.
    pub key: Option<String>,
}

/// A session that was created, or stands.
#[derive(Debug)]
pub struct Created {
    /// The session.
    pub session: Arc<Session>,
    /// Whether this call has created it: one that another call has made is not this one's to withdraw.
    pub is_ours: bool,
}

/// What became of a launch.
#[derive(Debug)]
pub enum Verdict {
    /// It has a slot, or waits for one as was asked.
    Launched(Arc<Session>),
    /// It came to nothing, in the operator's words.
    Refused(Arc<Session>, String),
    /// The operator has not answered.
    Unheard(Arc<Session>),
}

impl Launch {
    /// The name of the session: the same for the same key of the same person.
    fn name(&self) -> Result<String, Problem> {
        let suffix = match &self.key {
            Some(key) => {
                let mut hash = Sha256::new();
                for part in [&self.user, &self.organization, &self.workspace, key] {
                    hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                    hash.update(part.as_bytes());
                }
                hash.finalize()[..8].to_vec()
            }
            None => {
                let mut random = vec![0; 8];
                getrandom::fill(&mut random)
                    .map_err(|_| Problem::unavailable("no name for the session can be made"))?;
                random
            }
        };
        let suffix = hex(&suffix);
        let head: String = self.workspace.chars().take(253 - suffix.len() - 1).collect();
        Ok(format!("{}-{suffix}", head.trim_end_matches(['-', '.'])))
    }

    fn session(&self, name: &str) -> Value {
        let mut user = json!({ "id": self.user });
        if let Some(email) = &self.email {
            user["email"] = json!(email);
        }
        json!({
            "apiVersion": "berth.dev/v1alpha1",
            "kind": "Session",
            "metadata": { "name": name, "namespace": self.organization },
            "spec": {
                "workspaceRef": { "name": self.workspace },
                "user": user,
                "client": self.client,
                "whenFull": if self.wait { "Queue" } else { "Fail" },
            },
        })
    }

    fn is_of(&self, session: &Session) -> bool {
        session.spec.user.id.as_str() == self.user && session.spec.workspace_ref.name.as_str() == self.workspace
    }
}

impl Gateway {
    /// Creates the session, or finds the one that the same key has created.
    ///
    /// # Errors
    /// When the API server refuses it or does not answer.
    pub async fn create(&self, launch: &Launch) -> Result<Created, Problem> {
        let name = launch.name()?;
        let api: Api<Session> = Api::namespaced(self.client.clone(), &launch.organization);
        let session: Session = serde_json::from_value(launch.session(&name))
            .map_err(|error| Problem::invalid(format!("no session can be made of this: {error}")))?;
        let params = PostParams { field_manager: Some(GATEWAY_MANAGER.to_owned()), ..PostParams::default() };
        match bounded(api.create(&params, &session)).await {
            Ok(created) => Ok(Created { session: Arc::new(created), is_ours: true }),
            Err(error) if error.is_conflict() && launch.key.is_some() => {
                let stands = bounded(api.get(&name)).await?;
                match launch.is_of(&stands) {
                    true => Ok(Created { session: Arc::new(stands), is_ours: false }),
                    false => {
                        Err(Problem::conflict("another session has the name that follows from this Idempotency-Key"))
                    }
                }
            }
            // Whether it was created is not known: its name says.
            Err(error) if error.code().is_none_or(|code| code >= 500) => match bounded(api.get(&name)).await {
                Ok(stands) if launch.is_of(&stands) => Ok(Created { session: Arc::new(stands), is_ours: true }),
                Err(missing) if missing.is_not_found() => {
                    Err(Problem::unavailable("the session was not created: try again"))
                }
                Ok(_) | Err(_) => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for what the operator says to the launch of `session`, but not for long.
    pub async fn verdict(&self, session: Arc<Session>) -> Verdict {
        // Two calls with one key may have wished for different things: what stands counts.
        let wait = session.spec.when_full == WhenFull::Queue;
        let last = self.until(&session, VERDICT, |session| said(session, wait).is_some()).await;
        match said(&last, wait) {
            Some(Ok(())) => Verdict::Launched(last),
            Some(Err(why)) => Verdict::Refused(last, why),
            None => match admitted(&last) {
                Some(admitted) => Verdict::Refused(Arc::clone(&last), admitted.message.clone()),
                None => Verdict::Unheard(last),
            },
        }
    }

    /// Asks for the end of `session`, for `actor`, and waits until it has ended.
    ///
    /// # Errors
    /// When it cannot be asked for, or has not ended in time.
    pub async fn end(&self, session: &Arc<Session>, how: End, actor: &str) -> Result<Arc<Session>, Problem> {
        self.ask_to_end(session, how, actor).await?;
        let last = self.until(session, VERDICT, has_ended).await;
        let is_gone = || self.board.session_of(&session.uid().unwrap_or_default()).is_none();
        if has_ended(&last) || is_gone() {
            return Ok(last);
        }
        Err(Problem::not_done_yet(
            "the end was asked for, and the operator has not carried it out yet: look at the session again",
        ))
    }

    /// Asks for the end of `session`, for `actor`.
    ///
    /// # Errors
    /// When it cannot be asked for.
    pub async fn ask_to_end(&self, session: &Session, how: End, actor: &str) -> Result<(), Problem> {
        match how.request() {
            None => {
                let asked = self.patch(session, json!({ "spec": { "desiredState": "Disconnected" } })).await;
                self.unless_ended(session, asked).await?;
            }
            // Somebody has asked already: the end is on its way, by their reason.
            Some(_) if session.status.as_ref().is_some_and(|status| status.end_request.is_some()) => {}
            Some((as_, reason)) => {
                let request = json!({ "as": as_, "reason": reason, "actor": line(actor), "at": self.clock.now() });
                let asked = self.patch_status(session, json!({ "status": { "endRequest": request } })).await;
                self.unless_ended(session, asked).await?;
            }
        }
        Ok(())
    }

    /// Says that the user of `session` is still there, and waits a little until it is Active again.
    ///
    /// # Errors
    /// When it cannot be said.
    pub async fn keep_alive(&self, session: &Arc<Session>) -> Result<Arc<Session>, Problem> {
        let now = self.clock.now();
        // It moves only forward: a clock that ran ahead has said more already.
        let said = match session.spec.keep_alive_at {
            Some(said) if said >= now => Ok(()),
            _ => self.patch(session, json!({ "spec": { "keepAliveAt": now } })).await,
        };
        let over = || Problem::conflict("the session has ended: launch the workspace again");
        match said {
            Err(error) if error.is_refusal() && self.has_gone(session).await? => return Err(over()),
            // Somebody has said it later meanwhile.
            Err(error) if error.is_refusal() => {}
            outcome => outcome?,
        }
        let is_active = |session: &Session| phase(session) != Some(Phase::Idle);
        let last = self.until(session, REVIVED, is_active).await;
        if has_ended(&last) { Err(over()) } else { Ok(last) }
    }

    /// Says, where the policy asks a gateway, that this one has just seen the user of `session`, and vouches for no more than that:
    /// what comes before and after it has not seen. Whoever watches the session has more to say and is left to it.
    pub async fn vouch(&self, session: &Session) {
        let observer = lease::observer(&self.settings.role.identity);
        let known = session.status.as_ref().and_then(|status| status.activity.as_ref()?.observer.as_ref());
        if !asks_gateway(session) || known.is_some_and(|known| known.as_str() != observer) {
            return;
        }
        let now = self.clock.now();
        let seen = json!({
            "lastAt": now, "source": "api", "observedSince": now, "observedUntil": now, "observer": observer,
        });
        if let Err(error) = self.patch_status(session, json!({ "status": { "activity": seen } })).await {
            tracing::debug!(%error, "a user's sight was not told");
        }
    }

    /// What was refused because the session has ended meanwhile, or gone, is done.
    async fn unless_ended(&self, session: &Session, asked: Result<(), CallError>) -> Result<(), Problem> {
        match asked {
            Err(error) if matches!(error.code(), Some(404 | 409 | 422)) && self.has_gone(session).await? => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// Whether the session has ended or gone, by the API server's word.
    async fn has_gone(&self, session: &Session) -> Result<bool, Problem> {
        let api: Api<Session> = Api::namespaced(self.client.clone(), &session.namespace().unwrap_or_default());
        let stands = optional(api.get(&session.name_any())).await?;
        Ok(stands.is_none_or(|stands| stands.uid() != session.uid() || has_ended(&stands)))
    }

    async fn patch(&self, session: &Session, mut patch: Value) -> Result<(), CallError> {
        patch["metadata"]["uid"] = json!(session.uid());
        let api: Api<Session> = Api::namespaced(self.client.clone(), &session.namespace().unwrap_or_default());
        bounded(api.patch(&session.name_any(), &manager(), &Patch::Merge(patch))).await?;
        Ok(())
    }

    async fn patch_status(&self, session: &Session, mut patch: Value) -> Result<(), CallError> {
        patch["metadata"]["uid"] = json!(session.uid());
        let api: Api<Session> = Api::namespaced(self.client.clone(), &session.namespace().unwrap_or_default());
        bounded(api.patch_status(&session.name_any(), &manager(), &Patch::Merge(patch))).await?;
        Ok(())
    }

    /// The session once it is as `wanted`, or as it was when the time was over, or when it was last seen.
    async fn until(&self, session: &Arc<Session>, limit: Duration, wanted: impl Fn(&Session) -> bool) -> Arc<Session> {
        let uid = session.uid().unwrap_or_default();
        let mut heard = self.board.listen(session.spec.user.id.as_str(), None);
        let deadline = Instant::now() + limit;
        let mut last = Arc::clone(session);
        loop {
            if let Some(known) = self.board.session_of(&uid) {
                last = known;
                if wanted(&last) {
                    return last;
                }
            }
            loop {
                match tokio::time::timeout_at(deadline, heard.changes.recv()).await {
                    Err(_) => return last,
                    Ok(Ok(change)) if change.uid != uid => {}
                    // The resource went with its end: what was seen last says how.
                    Ok(Ok(Change { session: None, .. })) => return last,
                    Ok(Ok(Change { session: Some(now), .. })) => {
                        last = now;
                        if wanted(&last) {
                            return last;
                        }
                    }
                    // Behind: the board has the newest.
                    Ok(Err(_)) => break,
                }
            }
        }
    }
}

fn manager() -> PatchParams {
    PatchParams { field_manager: Some(GATEWAY_MANAGER.to_owned()), ..PatchParams::default() }
}

/// Text for a status: one printable line of at most 128 characters.
pub fn line(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(128).collect()
}

/// Whether the policy asks a gateway for the activity of the session.
pub fn asks_gateway(session: &Session) -> bool {
    let policy = session.status.as_ref().and_then(|status| status.policy.as_ref());
    policy.is_some_and(|policy| policy.activity_source == Some(ActivitySource::Gateway))
}

/// Whether the session has ended.
pub fn has_ended(session: &Session) -> bool {
    session.status.as_ref().is_some_and(|status| status.ended_at.is_some())
}

/// The phase of the session.
pub fn phase(session: &Session) -> Option<Phase> {
    session.status.as_ref()?.phase
}

fn admitted(session: &Session) -> Option<&condition::Condition> {
    condition::find(&session.status.as_ref()?.conditions, Type::Admitted)
}

/// Why a session waits that will not wait for long: the operator is about to ask, or to make something first.
const PASSING: [&str; 2] = ["TemplateUntried", "NetworkPolicyMissing"];

/// What the operator has said to a launch, once it has. Who is ready to wait is content with a place in the queue.
fn said(session: &Session, wait: bool) -> Option<Result<(), String>> {
    let status = session.status.as_ref()?;
    if status.ended_at.is_some() {
        return Some(Err(status.message.clone().unwrap_or_else(|| "the session has ended".to_owned())));
    }
    match status.phase? {
        Phase::Pending => {
            let waits = admitted(session).filter(|it| it.status == Status::False)?;
            match wait {
                true => Some(Ok(())),
                // It has its place as soon as an older one of its user has gone, which was told to go.
                false if waits.reason == DISPLACING => Some(Ok(())),
                false if PASSING.contains(&waits.reason.as_str()) => None,
                false => Some(Err(waits.message.clone())),
            }
        }
        _ => Some(Ok(())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(key: Option<&str>) -> Launch {
        Launch {
            organization: "demo".to_owned(),
            workspace: "desktop".to_owned(),
            user: "ana".to_owned(),
            email: None,
            client: json!({}),
            wait: false,
            key: key.map(str::to_owned),
        }
    }

    #[test]
    fn one_key_of_one_person_is_one_session_and_no_key_is_always_another() {
        let name = |launch: &Launch| launch.name().unwrap();
        assert_eq!(name(&launch(Some("k"))), name(&launch(Some("k"))));
        assert_ne!(name(&launch(Some("k"))), name(&launch(Some("l"))));
        assert_ne!(name(&launch(Some("k"))), name(&Launch { user: "ben".to_owned(), ..launch(Some("k")) }));
        assert_ne!(name(&launch(None)), name(&launch(None)));
        let long = Launch { workspace: "w".repeat(253), ..launch(None) };
        assert_eq!(name(&long).len(), 253);
    }

    #[test]
    fn the_operators_word_is_waited_for_and_taken_as_it_is() {
        let session = |status: Value| -> Session {
            let object = json!({
                "apiVersion": "berth.dev/v1alpha1", "kind": "Session", "metadata": { "name": "a" },
                "spec": { "workspaceRef": { "name": "box" }, "user": { "id": "ana" } }, "status": status,
            });
            serde_json::from_value(object).unwrap()
        };
        let waiting = |reason: &str| {
            json!({ "phase": "Pending", "conditions": [{ "type": "Admitted", "status": "False", "reason": reason,
                "message": "waiting", "lastTransitionTime": "2026-01-31T12:00:00Z" }] })
        };
        assert_eq!(said(&session(json!({})), false), None);
        assert_eq!(said(&session(json!({ "phase": "Pending" })), false), None);
        assert_eq!(said(&session(waiting("TemplateUntried")), false), None);
        assert_eq!(said(&session(waiting("NoSlot")), false), Some(Err("waiting".to_owned())));
        assert_eq!(said(&session(waiting("NoSlot")), true), Some(Ok(())));
        assert_eq!(said(&session(json!({ "phase": "Starting" })), false), Some(Ok(())));
        let failed = json!({ "phase": "Failed", "endedAt": "2026-01-31T12:00:00Z", "message": "no slot" });
        assert_eq!(said(&session(failed.clone()), false), Some(Err("no slot".to_owned())));
        assert_eq!(said(&session(failed), true), Some(Err("no slot".to_owned())));
    }
}
