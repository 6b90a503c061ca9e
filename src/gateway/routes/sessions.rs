//! A caller's own sessions: seeing them, staying in them, ending them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Response};
use chrono::TimeDelta;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::answers::{Common, Conflict, Forbidden, Malformed, NotFound, OfBody};
use super::extract::{Asked, Body, Named};
use crate::api::Session;
use crate::api::session::Phase;
use crate::gateway::Gateway;
use crate::gateway::act::{End, has_ended, phase};
use crate::gateway::asker::Asker;
use crate::gateway::filter::{EndAllBody, ListQuery, Wanted};
use crate::gateway::past::Whose;
use crate::gateway::problem::Problem;
use crate::gateway::record::{Action, Target};
use crate::gateway::view::{CoarseStatus, SessionView, length, started};

/// A sentence.
#[derive(Debug, Serialize, ToSchema)]
pub struct Message {
    /// What was done.
    pub message: String,
}

/// The caller's sessions
///
/// Live and ended ones, history included, the newest first.
#[utoipa::path(get, path = "/api/sessions", tag = "sessions", params(ListQuery), security(("token" = [])), responses(
    (status = 200, body = [SessionView], headers(("Link" = Option<String>, description = "the next page, with `limit`"))), Malformed, Common,
))]
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    asker: Asker,
    OriginalUri(uri): OriginalUri,
    Asked(query): Asked<ListQuery>,
) -> Result<Response, Problem> {
    let wanted = query.read(gateway.clock.now())?;
    let own = gateway.board.sessions_of(&asker.caller.username);
    let page = gateway.page(own, Whose::User(&asker.caller.username), &wanted).await?;
    Ok(page.answer(&gateway, &uri))
}

/// The caller's sessions that are active
#[utoipa::path(get, path = "/api/sessions/active", tag = "sessions", security(("token" = [])), responses(
    (status = 200, body = [SessionView]), Common,
))]
pub async fn active(State(gateway): State<Arc<Gateway>>, asker: Asker) -> Result<Response, Problem> {
    let wanted = Wanted::with_status(CoarseStatus::Active);
    let own = gateway.board.sessions_of(&asker.caller.username);
    let page = gateway.page(own, Whose::User(&asker.caller.username), &wanted).await?;
    Ok(Json(gateway.views(&page.sessions)).into_response())
}

/// One of the caller's sessions
#[utoipa::path(get, path = "/api/sessions/{id}", tag = "sessions", params(("id" = String, Path, description = "the session's id")),
    security(("token" = [])), responses(
    (status = 200, body = SessionView), NotFound, Common,
))]
pub async fn one(
    State(gateway): State<Arc<Gateway>>,
    asker: Asker,
    Named(id): Named,
) -> Result<Json<SessionView>, Problem> {
    let session = gateway.own(&asker, &id).await?;
    Ok(Json(gateway.view(&session)))
}

/// Ends a session as Disconnected
///
/// The workspace is free and the instance released. Again on one that has ended it is answered alike, and nothing is done.
#[utoipa::path(post, path = "/api/sessions/{id}/disconnect", tag = "sessions",
    params(("id" = String, Path, description = "the session's id")), security(("token" = [])), responses(
    (status = 200, body = Message), Forbidden, NotFound, Conflict, Common,
))]
pub async fn disconnect(
    State(gateway): State<Arc<Gateway>>,
    asker: Asker,
    Named(id): Named,
) -> Result<Json<Message>, Problem> {
    let session = gateway.own(&asker, &id).await?;
    let change = async move |gateway: Arc<Gateway>| {
        gateway.end_recorded(&asker, &session, Action::DisconnectSession, End::Disconnected).await
    };
    gateway.whole(change).await?;
    Ok(Json(Message { message: "Session disconnected".to_owned() }))
}

/// Says that the caller is still there
///
/// Counts as activity where the policy allows it: an Idle session is Active again.
#[utoipa::path(post, path = "/api/sessions/{id}/keepalive", tag = "sessions",
    params(("id" = String, Path, description = "the session's id")), security(("token" = [])), responses(
    (status = 200, body = SessionView), Forbidden, NotFound, Conflict, Common,
))]
pub async fn keepalive(
    State(gateway): State<Arc<Gateway>>,
    asker: Asker,
    Named(id): Named,
) -> Result<Json<SessionView>, Problem> {
    let session = gateway.own(&asker, &id).await?;
    if has_ended(&session) {
        return Err(Problem::conflict("the session has ended: launch the workspace again"));
    }
    let policy = session.status.as_ref().and_then(|status| status.policy.as_ref());
    if policy.is_some_and(|policy| !policy.allow_keep_alive) {
        return Err(Problem::forbidden("the policy counts input alone as activity: use the workspace itself to stay"));
    }
    let change = async move |gateway: Arc<Gateway>| {
        let kept = gateway.keep_alive(&session);
        let kept = gateway.recorded(&asker, Action::KeepSession, &Target::session(&session), json!({}), kept).await?;
        gateway.vouch(&kept).await;
        Ok(kept)
    };
    let session = gateway.whole(change).await?;
    Ok(Json(gateway.view(&session)))
}

/// Says that a session was not the caller's doing
///
/// It is ended, and administrators are alerted by an event and by the audit.
#[utoipa::path(post, path = "/api/sessions/{id}/report", tag = "sessions",
    params(("id" = String, Path, description = "the session's id")), security(("token" = [])), responses(
    (status = 200, body = Message), Forbidden, NotFound, Conflict, Common,
))]
pub async fn report(
    State(gateway): State<Arc<Gateway>>,
    asker: Asker,
    Named(id): Named,
) -> Result<Json<Message>, Problem> {
    let session = gateway.own(&asker, &id).await?;
    let change = async move |gateway: Arc<Gateway>| {
        let reported = async {
            gateway.alert(&session, &asker);
            match has_ended(&session) {
                true => Ok(()),
                false => gateway.end(&session, End::Reported, &asker.caller.username).await.map(drop),
            }
        };
        let details = json!({ "hadEnded": has_ended(&session) });
        gateway.recorded(&asker, Action::ReportSession, &Target::session(&session), details, reported).await
    };
    gateway.whole(change).await?;
    Ok(Json(Message { message: "Session reported".to_owned() }))
}

/// Ends the caller's live sessions
///
/// Those that the body means; all of them without one. `dry_run` ends nothing.
#[utoipa::path(post, path = "/api/sessions/disconnect-all", tag = "sessions", request_body(content = Option<EndAllBody>),
    security(("token" = [])), responses(
    (status = 200, body = EndedAll), OfBody, Common,
))]
pub async fn disconnect_all(
    State(gateway): State<Arc<Gateway>>,
    asker: Asker,
    Body(body): Body<EndAllBody>,
) -> Result<Json<EndedAll>, Problem> {
    let own = gateway.board.sessions_of(&asker.caller.username);
    let change = async move |gateway: Arc<Gateway>| {
        gateway.end_all(&asker, own, body, Action::DisconnectSession, End::Disconnected).await
    };
    gateway.whole(change).await.map(Json)
}

/// What became of each session.
#[derive(Debug, Serialize, ToSchema)]
pub struct EndedAll {
    /// How many were meant.
    pub count: usize,
    /// Whether nothing was to be ended.
    pub dry_run: bool,
    /// Each of them.
    pub results: Vec<EndedOne>,
}

/// What became of one session.
#[derive(Debug, Serialize, ToSchema)]
pub struct EndedOne {
    /// Its id.
    #[schema(format = "uuid")]
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its organization.
    pub organization: String,
    /// Whose it is.
    pub user_id: String,
    /// Its Workspace.
    pub workspace_id: String,
    /// `would_end`, `ended` or `failed`.
    pub result: &'static str,
    /// Why it failed.
    pub detail: Option<String>,
}

/// How many sessions the caller has
#[utoipa::path(get, path = "/api/sessions/stats", tag = "sessions", security(("token" = [])), responses(
    (status = 200, body = Stats), Common,
))]
pub async fn stats(State(gateway): State<Arc<Gateway>>, asker: Asker) -> Json<Stats> {
    let own = gateway.board.sessions_of(&asker.caller.username);
    let now = gateway.clock.now();
    let live: Vec<&Arc<Session>> = own.iter().filter(|session| !has_ended(session)).collect();
    let count = |of: fn(Option<Phase>) -> bool| live.iter().filter(|session| of(phase(session))).count();
    let lasted = live.iter().map(|session| (now - started(session)).max(TimeDelta::zero())).sum::<TimeDelta>();
    Json(Stats {
        active: count(|phase| phase != Some(Phase::Idle) && phase != Some(Phase::Disconnected)),
        idle: count(|phase| phase == Some(Phase::Idle)),
        disconnected: count(|phase| phase == Some(Phase::Disconnected)),
        total_duration: length(lasted),
        total_duration_seconds: lasted.num_seconds(),
    })
}

/// How many sessions somebody has, of those that are live.
#[derive(Debug, Serialize, ToSchema)]
pub struct Stats {
    /// In use, or on their way.
    pub active: usize,
    /// Without input.
    pub idle: usize,
    /// Disconnected, and resumable.
    pub disconnected: usize,
    /// How long they have lasted together, for people.
    pub total_duration: String,
    /// The same in seconds.
    pub total_duration_seconds: i64,
}
