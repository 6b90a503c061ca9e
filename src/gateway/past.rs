//! Sessions that are, and sessions that were, as one list: what stands comes from the board, what is gone from the store.
//! Owns how the two are put together; a session is never in the list twice.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::http::header::LINK;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use kube::ResourceExt;

use super::Gateway;
use super::asker::Asker;
use super::filter::{Place, Wanted};
use super::problem::Problem;
use super::record::unread;
use super::view::SessionView;
use crate::api::Session;
use crate::store::history::{Cursor, EndedSession, HistoryQuery, Scope};

/// Whose sessions are meant.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// This user's, wherever they were.
    User(&'a str),
    /// Everybody's in this organization.
    Organization(&'a str),
}

impl Whose<'_> {
    fn scope(self) -> Scope {
        match self {
            Self::User(user) => Scope::User(user.to_owned()),
            Self::Organization(organization) => Scope::Namespace(organization.to_owned()),
        }
    }
}

/// A list of sessions, or a page of it.
#[derive(Debug)]
pub struct Page {
    /// The newest first.
    pub sessions: Vec<Arc<Session>>,
    /// Where the next page begins, if there is one.
    next: Option<Place>,
}

/// How many sessions of the store are asked for at once.
const BATCH: u32 = 500;

impl Gateway {
    /// Those of `standing` and of `whose` past that are `wanted`.
    ///
    /// # Errors
    /// When the past is wanted and the store does not answer.
    pub async fn page(&self, standing: Vec<Arc<Session>>, whose: Whose<'_>, wanted: &Wanted) -> Result<Page, Problem> {
        let known: HashSet<String> = standing.iter().filter_map(|session| session.uid()).collect();
        let mut all: Vec<(Place, Arc<Session>)> = standing
            .into_iter()
            .filter(|session| wanted.has(session))
            .map(|session| (Place::of(&session), session))
            .collect();
        if wanted.may_have_ended() {
            all.extend(self.past(whose, wanted, &known).await?);
        }
        all.sort_by(|(one, _), (next, _)| next.cmp(one));
        let more = wanted.limit.filter(|limit| all.len() > *limit);
        if let Some(limit) = more {
            all.truncate(limit);
        }
        let next = more.and_then(|_| all.last().map(|(place, _)| place.clone()));
        Ok(Page { sessions: all.into_iter().map(|(_, session)| session).collect(), next })
    }

    /// What the store has and the board has not: enough of it for a page with one more.
    async fn past(
        &self,
        whose: Whose<'_>,
        wanted: &Wanted,
        known: &HashSet<String>,
    ) -> Result<Vec<(Place, Arc<Session>)>, Problem> {
        let (since, until) = wanted.times();
        let enough = wanted.limit.map_or(usize::MAX, |limit| limit + 1);
        let mut query = HistoryQuery {
            scopes: vec![whose.scope()],
            workspace: wanted.workspace.clone(),
            phase: wanted.phase().map(str::to_owned),
            since,
            until,
            before: wanted.cursor.clone().map(|place| Cursor { started_at: place.started, uid: place.uid }),
            limit: BATCH,
        };
        let mut found = Vec::new();
        loop {
            let batch = self.store.sessions(&query).await.map_err(unread)?;
            let last = batch.last().map(EndedSession::cursor);
            let is_full = batch.len() >= BATCH as usize;
            let sessions = batch.into_iter().filter(|ended| !known.contains(&ended.uid)).filter_map(read);
            found.extend(
                sessions.filter(|session| wanted.has(session)).map(|session| (Place::of(&session), Arc::new(session))),
            );
            if found.len() >= enough || !is_full {
                return Ok(found);
            }
            query.before = last;
        }
    }

    /// The caller's session with this id, standing or past. One that is another's is as good as none.
    ///
    /// # Errors
    /// When there is none, or the store does not answer.
    pub async fn own(&self, asker: &Asker, id: &str) -> Result<Arc<Session>, Problem> {
        let is_own = |session: &Session| session.spec.user.id.as_str() == asker.caller.username;
        let missing = || Problem::not_found("Session");
        if let Some(session) = self.board.session_of(id) {
            return Some(session).filter(|session| is_own(session)).ok_or_else(missing);
        }
        // What no uid looks like needs no store to be told from one.
        if id.len() > 64 || !id.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-') {
            return Err(missing());
        }
        let past = self.store.session(id).await.map_err(unread)?.and_then(read);
        past.filter(is_own).map(Arc::new).ok_or_else(missing)
    }

    /// The session as the API shows it now.
    pub fn view(&self, session: &Session) -> SessionView {
        SessionView::of(session, self.board.queue_position(session), self.clock.now())
    }

    /// These sessions as the API shows them now.
    pub fn views(&self, sessions: &[Arc<Session>]) -> Vec<SessionView> {
        sessions.iter().map(|session| self.view(session)).collect()
    }
}

/// The session as its resource was.
fn read(ended: EndedSession) -> Option<Session> {
    let uid = ended.uid;
    match serde_json::from_value(ended.object) {
        Ok(session) => Some(session),
        Err(error) => {
            tracing::error!(uid, %error, "a session of the store cannot be read by this version");
            None
        }
    }
}

impl Page {
    /// The answer: an array, and a link to the next page.
    pub fn answer(self, gateway: &Gateway, uri: &Uri) -> Response {
        let mut response = Json(gateway.views(&self.sessions)).into_response();
        if let Some(link) = self.next.as_ref().and_then(|next| link(uri, next)) {
            response.headers_mut().insert(LINK, link);
        }
        response
    }
}

/// The same request from this place on (RFC 8288).
fn link(uri: &Uri, next: &Place) -> Option<HeaderValue> {
    let kept =
        uri.query().unwrap_or_default().split('&').filter(|part| !part.is_empty() && !part.starts_with("cursor="));
    let query: Vec<String> = kept.map(str::to_owned).chain([format!("cursor={}", next.write())]).collect();
    HeaderValue::from_str(&format!("<{}?{}>; rel=\"next\"", uri.path(), query.join("&"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    #[test]
    fn the_next_page_is_the_same_question_from_another_place() {
        let place = Place { started: DateTime::from_timestamp(0, 0).unwrap(), uid: "u".to_owned() };
        let uri: Uri = "/api/sessions?limit=2&cursor=old&status=active".parse().unwrap();
        let link = link(&uri, &place).unwrap();
        assert_eq!(link, "</api/sessions?limit=2&status=active&cursor=1970-01-01T00:00:00Z_u>; rel=\"next\"");
    }
}
