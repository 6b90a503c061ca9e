//! What a caller may do beyond what is their own, by RBAC's word: SubjectAccessReviews, each kept for moments. Owns which
//! right stands for what; whose session is whose is in the session.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::caller::Caller;
use super::problem::Problem;
use crate::api::GROUP;
use crate::cluster::error::bounded;

/// For how long RBAC's word holds.
const HOLDS: Duration = Duration::from_secs(10);
/// For how long a no holds: who was just given a right tries it at once.
const REFUSED: Duration = Duration::from_secs(1);
/// How many answers are kept at once.
const MOST: usize = 100_000;
/// How many questions of one request are asked at once.
const AT_ONCE: usize = 16;
/// How many of all requests.
const QUESTIONS: usize = 64;

/// A right, in one organization.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// To launch this Workspace.
    Launch(String),
    /// To launch every Workspace.
    LaunchAll,
    /// To see everybody's sessions.
    See,
    /// To end everybody's sessions.
    End,
}

impl Right {
    fn attributes(&self, organization: &str) -> ResourceAttributes {
        let (verb, resource, name) = match self {
            Self::Launch(workspace) => ("launch", "workspaces", Some(workspace.clone())),
            Self::LaunchAll => ("launch", "workspaces", None),
            Self::See => ("list", "sessions", None),
            Self::End => ("end", "sessions", None),
        };
        ResourceAttributes {
            group: Some(GROUP.to_owned()),
            resource: Some(resource.to_owned()),
            verb: Some(verb.to_owned()),
            namespace: Some(organization.to_owned()),
            name,
            ..ResourceAttributes::default()
        }
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Question {
    /// By the token, not by the name: groups differ by token.
    token: String,
    organization: String,
    right: Right,
}

/// What was said of rights.
pub struct Rights {
    client: Client,
    known: Mutex<HashMap<Question, (bool, Instant)>>,
    /// All requests together: one caller's list asks as many as there are Workspaces.
    questions: Semaphore,
}

impl fmt::Debug for Rights {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Rights").finish_non_exhaustive()
    }
}

impl Rights {
    /// Asks through this connection.
    pub fn new(client: Client) -> Self {
        Self { client, known: Mutex::default(), questions: Semaphore::new(QUESTIONS) }
    }

    /// Whether `caller` has this right in `organization`.
    ///
    /// # Errors
    /// When the API server does not say: then nobody has it, and nobody is told that they have not.
    pub async fn has(&self, caller: &Caller, organization: &str, right: Right) -> Result<bool, Problem> {
        self.ask(caller, organization, right, REFUSED).await
    }

    async fn ask(&self, caller: &Caller, organization: &str, right: Right, refused: Duration) -> Result<bool, Problem> {
        let question = Question { token: caller.token.clone(), organization: organization.to_owned(), right };
        if let Some(answer) = self.known(&question, refused) {
            return Ok(answer);
        }
        let unsure = || Problem::unavailable("the cluster's API server does not say what you may do");
        let _asking = self.questions.acquire().await.map_err(|_| unsure())?;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(caller.username.clone()),
                uid: caller.uid.clone(),
                groups: Some(caller.groups.clone()),
                extra: Some(caller.extra.clone()),
                resource_attributes: Some(question.right.attributes(organization)),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = bounded(reviews.create(&PostParams::default(), &review)).await.map_err(|error| {
            tracing::warn!(%error, "a right could not be asked for");
            unsure()
        })?;
        let allowed = answer.status.is_some_and(|status| status.allowed && status.denied != Some(true));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, (_, asked)| asked.elapsed() < HOLDS);
        }
        if known.len() < MOST {
            known.insert(question, (allowed, Instant::now()));
        }
        Ok(allowed)
    }

    fn known(&self, question: &Question, refused: Duration) -> Option<bool> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = |answer: bool| if answer { HOLDS } else { refused };
        known.get(question).filter(|(answer, asked)| asked.elapsed() < holds(*answer)).map(|(answer, _)| *answer)
    }

    /// Those of `asked`, each an organization and a right, that `caller` has.
    ///
    /// # Errors
    /// When the API server does not say of one.
    pub async fn among<T: Clone>(
        self: &Arc<Self>,
        caller: &Caller,
        asked: Vec<(T, String, Right)>,
    ) -> Result<Vec<T>, Problem> {
        let answers: Vec<Result<Option<T>, Problem>> = futures::stream::iter(asked)
            .map(|(what, organization, right)| async move {
                Ok(self.ask(caller, &organization, right, HOLDS).await?.then_some(what))
            })
            .buffered(AT_ONCE)
            .collect()
            .await;
        answers.into_iter().filter_map(Result::transpose).collect()
    }
}
