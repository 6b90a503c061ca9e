//! The connection to a collector, by the HTTP and TLS that the connection to the API server brings. Owns how long a
//! request may take and what is remembered of one that failed; when it is made, and again, is the exporter's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use opentelemetry_http::{Bytes, HttpClient, HttpError, ResponseBodyTooLarge};

use crate::http_client::Over;

/// How long a collector may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The longest answer that is read: a collector has little to say.
const LONGEST_ANSWER: usize = 64 * 1024;

/// A client of one collector. Clones are of the same connection.
#[derive(Clone, Debug)]
pub(super) struct Client {
    over: Over,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Client {
    /// A client of the collector at `endpoint`.
    ///
    /// # Errors
    /// When that is to be reached by TLS and there are no certificates to trust.
    pub(super) fn new(endpoint: &Uri) -> anyhow::Result<Self> {
        let over = Over::new(endpoint)
            .context("traces cannot be sent over https: mount the collector's CA and name it in SSL_CERT_FILE")?;
        Ok(Self { over, trouble: Arc::default() })
    }

    /// Why the last request got no answer that says it was taken, if so: the exporter's own error does not tell.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ask(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = request.map(Full::new);
        let answer = self.over.request(request).await;
        let (head, body) = answer?.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() { ResponseBodyTooLarge::new().into() } else { error }
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = match tokio::time::timeout(ANSWER, self.ask(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", ANSWER.as_secs()).into()),
        };
        let trouble = match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answers {}", answer.status())),
            Err(error) => Some(words(error.as_ref())),
        };
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        answer
    }
}

/// An error with its causes, which say what it is about.
fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
