//! Who calls: a bearer token, and whose it is by the API server's word. Owns how long that word holds; what a caller may do
//! is `rights`'. A token is kept nowhere: it is known by its hash.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::Instant;

use super::problem::Problem;
use crate::cluster::error::bounded;
use crate::hex::hex;

/// For how long the API server's word on a token holds.
const HOLDS: Duration = Duration::from_secs(10);
/// For how long a good word holds while the API server does not answer: reading goes on.
const HOLDS_ALONE: Duration = Duration::from_secs(300);
/// The longest token that is asked about.
const LONGEST: usize = 16 * 1024;
/// How many tokens are known at once.
const MOST: usize = 10_000;
/// How many questions may be under way at once, so that bad tokens do not flood the API server.
const QUESTIONS: usize = 32;
/// How long a caller waits for their turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// Somebody who has proved who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The Kubernetes username.
    pub username: String,
    /// The uid, where the authenticator gives one.
    pub uid: Option<String>,
    /// The groups.
    pub groups: Vec<String>,
    /// What else the authenticator says.
    pub extra: BTreeMap<String, Vec<String>>,
    /// By what the token is known: the first half of its SHA-256.
    pub token: String,
}

type Hash = [u8; 32];
/// Locked while it is asked about, so that a token is asked about once.
type Slot = Arc<AsyncMutex<Option<Known>>>;

struct Known {
    caller: Option<Arc<Caller>>,
    asked: Instant,
    /// When it was asked last and nobody answered.
    unanswered: Option<Instant>,
}

/// The callers that are known.
pub struct Callers {
    client: Client,
    audience: String,
    known: Mutex<HashMap<Hash, Slot>>,
    questions: Semaphore,
}

impl fmt::Debug for Callers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Callers").field("audience", &self.audience).finish_non_exhaustive()
    }
}

impl Callers {
    /// Callers with tokens for this audience.
    pub fn new(client: Client, audience: String) -> Self {
        Self { client, audience, known: Mutex::default(), questions: Semaphore::new(QUESTIONS) }
    }

    /// Whose request this is. Who only `reads` is known for a while after the API server has fallen silent. A token that was not
    /// known to be good is asked about once `may_ask` says so.
    ///
    /// # Errors
    /// Without a token, with a bad one, and when the API server does not say.
    pub async fn of(
        &self,
        headers: &HeaderMap,
        reads: bool,
        may_ask: impl FnOnce() -> Result<(), Problem>,
    ) -> Result<Arc<Caller>, Problem> {
        let token = bearer(headers).ok_or_else(Problem::unauthenticated)?;
        let hash: Hash = Sha256::digest(token.as_bytes()).into();
        let slot = self.slot(hash);
        let mut known = slot.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.asked.elapsed() < HOLDS) {
            return known.caller.clone().ok_or_else(Problem::unauthenticated);
        }
        // Who has waited for nothing a moment ago does not wait again with each request.
        let held = known.as_ref().filter(|known| {
            let silent = known.unanswered.is_some_and(|at| at.elapsed() < HOLDS);
            reads && silent && known.asked.elapsed() < HOLDS_ALONE
        });
        if let Some(caller) = held.and_then(|known| known.caller.clone()) {
            return Ok(caller);
        }
        let was_good =
            known.as_ref().is_some_and(|known| known.caller.is_some() && known.asked.elapsed() < HOLDS_ALONE);
        if !was_good {
            may_ask()?;
        }
        match self.ask(token, &hash).await {
            Ok(caller) => {
                *known = Some(Known { caller: caller.clone(), asked: Instant::now(), unanswered: None });
                caller.ok_or_else(Problem::unauthenticated)
            }
            Err(problem) => {
                if let Some(known) = known.as_mut() {
                    known.unanswered = Some(Instant::now());
                }
                let held = known.as_ref().filter(|known| reads && known.asked.elapsed() < HOLDS_ALONE);
                held.and_then(|known| known.caller.clone()).ok_or(problem)
            }
        }
    }

    fn slot(&self, hash: Hash) -> Slot {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST && !known.contains_key(&hash) {
            let holds = |slot: &Slot| match slot.try_lock() {
                Ok(known) => {
                    known.as_ref().is_some_and(|known| known.caller.is_some() && known.asked.elapsed() < HOLDS)
                }
                Err(_) => true,
            };
            known.retain(|_, slot| holds(slot));
            if known.len() >= MOST {
                known.clear();
            }
        }
        Arc::clone(known.entry(hash).or_default())
    }

    async fn ask(&self, token: &str, hash: &Hash) -> Result<Option<Arc<Caller>>, Problem> {
        let unsure = || Problem::unavailable("the cluster's API server does not say whose token this is");
        let asking = tokio::time::timeout(PATIENCE, self.questions.acquire()).await;
        let _asking = asking.map_err(|_| unsure())?.map_err(|_| unsure())?;
        let review = TokenReview {
            spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![self.audience.clone()]) },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let answer = bounded(reviews.create(&PostParams::default(), &review)).await.map_err(|error| {
            // The error is the API server's or the connection's; a request is in neither.
            tracing::warn!(kind = error.kind(), code = error.code(), "a token could not be reviewed");
            unsure()
        })?;
        let status = answer.status.unwrap_or_default();
        // An authenticator that does not know audiences says none: then the token was not for us.
        let for_us = status.audiences.unwrap_or_default().contains(&self.audience);
        let user = status.user.filter(|_| status.authenticated == Some(true) && for_us);
        Ok(user.and_then(|user| {
            Some(Arc::new(Caller {
                username: user.username.filter(|name| !name.is_empty())?,
                uid: user.uid,
                groups: user.groups.unwrap_or_default(),
                extra: user.extra.unwrap_or_default(),
                token: hex(&hash[..16]),
            }))
        }))
    }
}

/// The token, where there is one that could be good.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    // Of two, nobody could say which was meant.
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_matches(' ');
    let sound = (1..=LONGEST).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && sound).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, value.parse().unwrap())).collect()
    }

    #[test]
    fn a_token_is_one_word_after_bearer_and_stands_once() {
        assert_eq!(bearer(&headers(&["Bearer abc.def"])), Some("abc.def"));
        assert_eq!(bearer(&headers(&["bearer  abc"])), Some("abc"));
        for bad in [&[][..], &["Bearer "], &["Bearer"], &["Basic YTpi"], &["Bearer a b"], &["Bearer a", "Bearer b"]] {
            assert_eq!(bearer(&headers(bad)), None, "{bad:?}");
        }
        assert_eq!(bearer(&headers(&[&format!("Bearer {}", "a".repeat(LONGEST + 1))])), None);
    }
}
