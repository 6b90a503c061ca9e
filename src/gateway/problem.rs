//! What a caller is told when a request comes to nothing: `{"detail": "…"}`, by RFC 9110's status. Owns the words that do not
//! depend on a route; nothing in here says what the caller may not know.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::cluster::error::CallError;

/// Seconds after which a caller may try again what could not be done now.
const AGAIN: u64 = 5;

/// Why a request came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    retry_after: Option<u64>,
}

/// The body of every answer that is an error.
#[derive(Debug, Serialize, ToSchema)]
pub struct Detail {
    /// What was wrong, and what to do about it.
    pub detail: String,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), retry_after: None }
    }

    /// No token, or a bad one: nothing else is revealed.
    pub fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Not authenticated")
    }

    /// There is no such thing, or it is none of the caller's: the two are told alike.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{what} not found"))
    }

    /// The request cannot be read.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// The request can be read and asks for what cannot be.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// It is the caller's, and they may not.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// It cannot be done as things are.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// It cannot be done now: nothing was changed.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self { retry_after: Some(AGAIN), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    /// The caller asks too often.
    pub fn too_often(seconds: u64) -> Self {
        let detail = format!("too many requests: try again in {seconds} s");
        Self { retry_after: Some(seconds), ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail) }
    }

    /// The body is larger than is taken.
    pub fn too_large(most: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {most} bytes"))
    }

    /// It was asked for, and is not done yet.
    pub fn not_done_yet(detail: impl Into<String>) -> Self {
        Self { retry_after: Some(AGAIN), ..Self::new(StatusCode::GATEWAY_TIMEOUT, detail) }
    }

    /// This method is not for this path.
    pub fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method: see /api/openapi.json")
    }

    /// For people and for the audit.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

/// What the API server answered to a change. Its own words are the caller's, where it refused the object for what it is.
impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        match error.code() {
            Some(404) => Self::not_found("Session"),
            Some(409) => Self::conflict("it was changed by somebody else meanwhile: look at it again"),
            Some(400 | 422) => Self::invalid(error.words()),
            Some(403) => Self::forbidden(error.words()),
            None if matches!(error, CallError::NoAnswer(_)) => Self::not_done_yet(
                "the cluster's API server did not answer in time: whether it was done is not known, look again",
            ),
            _ => {
                tracing::warn!(%error, "the API server did not do what a caller asked for");
                Self::unavailable("the cluster's API server does not answer: nothing was changed")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(Detail { detail: self.detail })).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
