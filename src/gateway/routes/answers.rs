//! What a call may be answered when it comes to nothing, as the OpenAPI document says it: each once, for all routes.

use utoipa::IntoResponses;

use crate::gateway::problem::Detail;

/// What every call may be answered.
#[derive(IntoResponses)]
pub enum Common {
    /// There is no token, or it is none of this cluster's for this audience.
    #[response(status = 401)]
    Unauthenticated(Detail),
    /// The caller asks too often: `Retry-After` says when to ask again.
    #[response(status = 429)]
    TooOften(Detail),
    /// It cannot be done now, and nothing was changed: `Retry-After` says when to ask again.
    #[response(status = 503)]
    Unavailable(Detail),
    /// It was not done in time: look whether it is done meanwhile.
    #[response(status = 504)]
    NotDoneYet(Detail),
}

/// What a call with a body may be answered.
#[derive(IntoResponses)]
pub enum OfBody {
    /// The request cannot be read.
    #[response(status = 400)]
    Malformed(Detail),
    /// The body is larger than is taken.
    #[response(status = 413)]
    TooLarge(Detail),
    /// The body can be read and asks for what cannot be.
    #[response(status = 422)]
    Invalid(Detail),
}

/// The request cannot be read.
#[derive(IntoResponses)]
#[response(status = 400)]
pub struct Malformed(pub Detail);

/// It is the caller's, and they may not.
#[derive(IntoResponses)]
#[response(status = 403)]
pub struct Forbidden(pub Detail);

/// There is no such thing, or it is none of the caller's.
#[derive(IntoResponses)]
#[response(status = 404)]
pub struct NotFound(pub Detail);

/// It cannot be done as things are.
#[derive(IntoResponses)]
#[response(status = 409)]
pub struct Conflict(pub Detail);
