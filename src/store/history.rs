//! The history: sessions that ended, as they were when they ended. Each is written once, by its uid.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::database::Connection;
use super::error::StoreError;
use super::sql::{Cells, Sql};
use super::text::{canonical_json, cleaned, maybe_name, micros, name, time};
use super::{Store, most};

const COLUMNS: &str =
    "uid, namespace, name, user_name, workspace, workspace_type, phase, reason, started_at, ended_at, object";

/// How long the JSON of a resource may be. The API server takes less than half of it.
const LONGEST_OBJECT: usize = 4 * 1024 * 1024;
/// In how many namespaces, or for how many users in them, one question may look: the databases bound how many
/// values a statement has.
const MOST_SCOPES: usize = 10_000;
/// How many sessions one transaction forgets: the audit waits for it.
const FORGOTTEN_AT_ONCE: u32 = 500;

/// A session that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndedSession {
    /// Its uid, which is what it is known by.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whose it was.
    pub user: String,
    /// The Workspace that it was of.
    pub workspace: String,
    /// The type that the Workspace had, if the session came as far as to know.
    pub workspace_type: Option<String>,
    /// The phase that it ended in.
    pub phase: String,
    /// Why it ended.
    pub reason: Option<String>,
    /// When it began: the creation of the resource.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// The whole resource.
    pub object: Value,
}

/// What somebody may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The sessions of a namespace.
    Namespace(String),
    /// The sessions of a user in a namespace.
    UserIn(String, String),
    /// The sessions of a user, wherever they were.
    User(String),
}

/// Where a page of the history ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cursor {
    /// When its last session began.
    pub started_at: DateTime<Utc>,
    /// The uid of its last session.
    pub uid: String,
}

/// Which sessions are asked for. What is `None` does not matter, apart from the scopes: what is in none of them is
/// never answered with, and without a scope nothing is.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    /// Where to look.
    pub scopes: Vec<Scope>,
    /// Of this Workspace.
    pub workspace: Option<String>,
    /// That ended in this phase.
    pub phase: Option<String>,
    /// That began at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// That began before this time.
    pub until: Option<DateTime<Utc>>,
    /// That come after this one: the next page.
    pub before: Option<Cursor>,
    /// How many at most; 0 for [`super::MOST_AT_ONCE`], which is never exceeded.
    pub limit: u32,
}

impl EndedSession {
    /// Where a page ends that ends with this session.
    pub fn cursor(&self) -> Cursor {
        Cursor { started_at: self.started_at, uid: self.uid.clone() }
    }

    /// The session that these columns are.
    fn of(mut cells: Cells) -> Result<Self, StoreError> {
        let uid = cells.text()?;
        let session = Self {
            namespace: cells.text()?,
            name: cells.text()?,
            user: cells.text()?,
            workspace: cells.text()?,
            workspace_type: cells.maybe_text()?,
            phase: cells.text()?,
            reason: cells.maybe_text()?,
            started_at: time(cells.int()?)?,
            ended_at: time(cells.int()?)?,
            object: Value::Null,
            uid,
        };
        let object = serde_json::from_str(&cells.text()?);
        let unreadable = |error| StoreError::Corrupt(format!("the object of session {}: {error}", session.uid));
        Ok(Self { object: object.map_err(unreadable)?, ..session })
    }
}

/// A statement that keeps a session, which either database takes.
#[derive(Clone, Debug)]
pub(super) struct Keep(Sql);

impl Keep {
    /// The statement for a session, unless it is too large.
    ///
    /// The end is written once. A second record of it may only bring a longer object, as when the first was made
    /// from less than the whole resource; one that tells of another end changes nothing.
    pub fn of(session: &EndedSession) -> Result<Self, StoreError> {
        let object = canonical_json("the session's object", &session.object)?;
        if object.len() > LONGEST_OBJECT {
            let words = format!("the session's object has {} bytes; {LONGEST_OBJECT} are the most", object.len());
            return Err(StoreError::Invalid(words));
        }
        let mut sql = Sql::new(format!("INSERT INTO session ({COLUMNS}) VALUES ("));
        sql.bind_all([
            name("the uid", &session.uid)?.into(),
            name("the namespace", &session.namespace)?.into(),
            name("the name", &session.name)?.into(),
            name("the user", &session.user)?.into(),
            name("the Workspace", &session.workspace)?.into(),
            maybe_name("the Workspace's type", session.workspace_type.as_deref())?.into(),
            name("the phase", &session.phase)?.into(),
            session.reason.as_deref().map(cleaned).into(),
            micros("the session's begin", session.started_at)?.into(),
            micros("the session's end", session.ended_at)?.into(),
            object.into(),
        ])
        .push(
            ") ON CONFLICT (uid) DO UPDATE SET object = excluded.object \
             WHERE length(excluded.object) > length(session.object) AND excluded.phase = session.phase \
             AND excluded.reason IS NOT DISTINCT FROM session.reason AND excluded.ended_at = session.ended_at",
        );
        Ok(Self(sql))
    }

    /// Keeps it, within the transaction that is open on this connection.
    pub async fn execute(&self, connection: &mut Connection) -> Result<(), StoreError> {
        connection.execute(self.0.clone()).await?;
        Ok(())
    }
}

/// Forgets some of what ended before a time, within the transaction that is open on this connection.
pub(super) async fn forget(connection: &mut Connection, before: i64) -> Result<u64, StoreError> {
    let mut sql = Sql::new("DELETE FROM session WHERE uid IN (SELECT uid FROM session WHERE ended_at < ");
    sql.bind(before).push(" ORDER BY ended_at LIMIT ").bind(i64::from(FORGOTTEN_AT_ONCE)).push(")");
    connection.execute(sql).await
}

impl Store {
    /// Keeps sessions that ended: all of them or none. One that is kept already stays as it is, unless the object is
    /// longer now and tells of the same end.
    ///
    /// # Errors
    /// Unavailable; Invalid for a session that is too large.
    pub async fn keep(&self, sessions: &[EndedSession]) -> Result<(), StoreError> {
        self.writer.keep(sessions.iter().map(Keep::of).collect::<Result<_, _>>()?).await
    }

    /// The session with this uid, wherever it was: whether the caller may see it is to be asked of its namespace and
    /// user.
    ///
    /// # Errors
    /// Unavailable, or Corrupt where it cannot be read.
    pub async fn session(&self, uid: &str) -> Result<Option<EndedSession>, StoreError> {
        let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM session WHERE uid = "));
        sql.bind(cleaned(uid));
        self.readers.rows(sql).await?.into_iter().next().map(EndedSession::of).transpose()
    }

    /// The sessions that were asked for, those that began last first.
    ///
    /// # Errors
    /// Unavailable; Invalid for what cannot be asked; Corrupt where one cannot be read.
    pub async fn sessions(&self, query: &HistoryQuery) -> Result<Vec<EndedSession>, StoreError> {
        if query.scopes.is_empty() {
            return Ok(Vec::new());
        }
        if query.scopes.len() > MOST_SCOPES {
            let words = format!("{} scopes were asked for; {MOST_SCOPES} are the most", query.scopes.len());
            return Err(StoreError::Invalid(words));
        }
        let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM session WHERE ("));
        push_scopes(&mut sql, &query.scopes);
        sql.push(")");
        for (column, wanted) in [("workspace", &query.workspace), ("phase", &query.phase)] {
            if let Some(wanted) = wanted {
                sql.push(" AND ").push(column).push(" = ").bind(cleaned(wanted));
            }
        }
        for (column, bound) in [("started_at >= ", query.since), ("started_at < ", query.until)] {
            if let Some(bound) = bound {
                sql.push(" AND ").push(column).bind(micros("the time", bound)?);
            }
        }
        if let Some(Cursor { started_at, uid }) = &query.before {
            sql.push(" AND (started_at, uid) < (").bind(micros("the time", *started_at)?);
            sql.push(", ").bind(cleaned(uid)).push(")");
        }
        sql.push(" ORDER BY started_at DESC, uid DESC LIMIT ").bind(most(query.limit));
        self.readers.rows(sql).await?.into_iter().map(EndedSession::of).collect()
    }

    /// Forgets what ended before a time, and says how many sessions that were. What fails on its way has forgotten
    /// some of them.
    ///
    /// # Errors
    /// Unavailable, or Invalid for a time that nothing has.
    pub async fn forget_before(&self, ended: DateTime<Utc>) -> Result<u64, StoreError> {
        let before = micros("the time", ended)?;
        let mut forgotten = 0;
        loop {
            let some = self.writer.forget(before).await?;
            forgotten += some;
            if some < u64::from(FORGOTTEN_AT_ONCE) {
                return Ok(forgotten);
            }
        }
    }
}

/// The condition that a session is in one of these scopes. Lists, and no chain of alternatives: SQLite bounds how
/// deep an expression may be.
fn push_scopes(sql: &mut Sql, scopes: &[Scope]) {
    let (mut namespaces, mut users, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
    for scope in scopes {
        match scope {
            Scope::Namespace(namespace) => namespaces.push(cleaned(namespace).into()),
            Scope::User(user) => users.push(cleaned(user).into()),
            Scope::UserIn(namespace, user) => pairs.push([cleaned(namespace).into(), cleaned(user).into()]),
        }
    }
    let mut between = "";
    for (column, values) in [("namespace", namespaces), ("user_name", users)] {
        if !values.is_empty() {
            sql.push(between).push(column).push(" IN (").bind_all(values).push(")");
            between = " OR ";
        }
    }
    if !pairs.is_empty() {
        sql.push(between).push("(namespace, user_name) IN (VALUES ");
        for (index, pair) in pairs.into_iter().enumerate() {
            sql.push(if index == 0 { "(" } else { ", (" }).bind_all(pair).push(")");
        }
        sql.push(")");
    }
}
