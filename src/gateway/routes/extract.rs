//! How requests are read: a query and a body, each with an error that names what is wrong.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::gateway::Gateway;
use crate::gateway::problem::Problem;

/// A query.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Gateway>> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Gateway>) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Problem::malformed(format!("the query cannot be read: {}", rejection.body_text()))),
        }
    }
}

/// The part of a path that names something. One that is no text is as good as one that names nothing.
pub struct Named(pub String);

impl FromRequestParts<Arc<Gateway>> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<Gateway>) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(_) => {
                let kinds = [("/api/sessions/", "Session"), ("/api/workspaces/", "Workspace")];
                let kind = kinds.into_iter().find(|(path, _)| parts.uri.path().starts_with(path));
                Err(Problem::not_found(kind.map_or("Organization", |(_, kind)| kind)))
            }
        }
    }
}

/// A body of JSON; one that is empty stands for what nobody wished.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned + Default> FromRequest<Arc<Gateway>> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Arc<Gateway>) -> Result<Self, Problem> {
        let most = state.settings.limits.body_bytes;
        let bytes =
            Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status().as_u16() {
                413 => Problem::too_large(most),
                _ => Problem::malformed("the body cannot be read"),
            })?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(T::default()));
        }
        serde_json::from_slice(&bytes).map(Self).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => Problem::invalid(format!("the body is not as expected: {error}")),
            _ => Problem::malformed(format!("the body is no JSON: {error}")),
        })
    }
}
