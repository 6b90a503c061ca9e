//! The audit: who did what to what, and how it ended, as records that are only ever added. Each holds the hash of the
//! one before, so that whoever knows the newest hash finds every edit of what came before it.
//!
//! The chain finds what was changed; it hinders nobody. Who may write to the database may also make a whole new
//! chain: only a head that was published elsewhere, outside of their reach, tells the two apart.

pub(super) mod chain;
pub mod export;
pub mod verify;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::chain::{COLUMNS, Checked, Row};
use super::error::StoreError;
use super::sql::Sql;
use super::text::{cleaned, micros};
use super::{Store, most};

/// What is to be recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Draft {
    /// When it happened; kept to the microsecond.
    pub at: DateTime<Utc>,
    /// The organization that it belongs to; empty for what belongs to none.
    pub organization: String,
    /// Who did it.
    pub actor: String,
    /// What was done, as a verb.
    pub action: String,
    /// The kind of what it was done to; empty where there is none.
    pub target_kind: String,
    /// The name of what it was done to; empty where there is none.
    pub target_name: String,
    /// The uid of what it was done to, where it is known.
    pub target_uid: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it ended so.
    pub reason: Option<String>,
    /// The address that the request came from.
    pub address: Option<String>,
    /// How the address is known.
    pub address_source: Option<String>,
    /// A key of what is recorded once: a second draft with it adds nothing, and is answered with what stands.
    pub once: Option<String>,
    /// What else there is to say.
    pub details: Value,
}

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was tried, and failed.
    Failure,
    /// It was not allowed.
    Denied,
}

impl Outcome {
    /// The outcome as it is kept.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::Failure => "Failure",
            Self::Denied => "Denied",
        }
    }
}

/// What was recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its place in the chain, from 1, without gaps.
    pub seq: u64,
    /// What was drafted, as it is kept: a NUL in a text is U+FFFD, and the time has whole microseconds.
    #[serde(flatten)]
    pub entry: Draft,
    /// The hash of the record before, or 64 zeros.
    pub previous: String,
    /// The hash of this record.
    pub hash: String,
}

/// The end of a chain: who knows it can tell whether a chain is still the one that ended there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The place of the last record; 0 before the first.
    pub seq: u64,
    /// Its hash; 64 zeros before the first.
    pub hash: String,
}

impl Head {
    /// Where every chain begins.
    pub fn genesis() -> Self {
        Self { seq: 0, hash: "0".repeat(64) }
    }
}

/// Which records are asked for. What is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Of one of these organizations: an empty list means of none.
    pub organizations: Option<Vec<String>>,
    /// By this actor.
    pub actor: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// Not before this time.
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    pub until: Option<DateTime<Utc>>,
    /// After this place in the chain.
    pub after_seq: Option<u64>,
    /// Before this place in the chain.
    pub before_seq: Option<u64>,
    /// From the end of the chain to its beginning, instead of the other way round.
    pub newest_first: bool,
    /// How many at most; 0 for [`super::MOST_AT_ONCE`], which is never exceeded.
    pub limit: u32,
}

impl Store {
    /// Records something. When this returns, the record is on disk; many that come at once share the wait for it.
    /// A draft that was handed over is recorded even when its caller does not wait for the answer.
    ///
    /// # Errors
    /// Unavailable, after which the same draft can be tried again; where it is not known whether it was written, one
    /// without a `once` may stand twice then. Invalid for a draft that is too large.
    pub async fn append(&self, draft: Draft) -> Result<Record, StoreError> {
        self.writer.append(Checked::of(draft)?).await
    }

    /// Where the chain ends: to be published where nobody who writes to the database can change it. `None` before
    /// the first record.
    ///
    /// # Errors
    /// Unavailable, or Corrupt where the head was taken away.
    pub async fn head(&self) -> Result<Option<Head>, StoreError> {
        let mut rows = self.readers.rows(Sql::new(chain::HEAD)).await?;
        Ok(Some(chain::head_of(rows.first_mut())?).filter(|head| head.seq > 0))
    }

    /// The records that were asked for, in the order of the chain or against it.
    ///
    /// # Errors
    /// Unavailable; Invalid for what cannot be asked; Corrupt where a record cannot be read.
    pub async fn records(&self, query: &AuditQuery) -> Result<Vec<Record>, StoreError> {
        let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM audit_record WHERE seq > "));
        sql.bind(query.after_seq.map_or(0, place));
        if let Some(before) = query.before_seq {
            sql.push(" AND seq < ").bind(place(before));
        }
        if let Some(organizations) = &query.organizations {
            if organizations.is_empty() {
                return Ok(Vec::new());
            }
            let organizations = organizations.iter().map(|organization| cleaned(organization).into());
            sql.push(" AND organization IN (").bind_all(organizations).push(")");
        }
        for (column, wanted) in [("actor", &query.actor), ("action", &query.action)] {
            if let Some(wanted) = wanted {
                sql.push(" AND ").push(column).push(" = ").bind(cleaned(wanted));
            }
        }
        for (column, bound) in [("at >= ", query.since), ("at < ", query.until)] {
            if let Some(bound) = bound {
                sql.push(" AND ").push(column).bind(micros("the time", bound)?);
            }
        }
        let order = if query.newest_first { " ORDER BY seq DESC LIMIT " } else { " ORDER BY seq LIMIT " };
        sql.push(order).bind(most(query.limit));
        let rows = self.readers.rows(sql).await?;
        rows.into_iter().map(|cells| Ok(Row::of(cells)?.record)).collect()
    }
}

/// A place in the chain as the databases hold it. None is beyond what they can hold.
fn place(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
