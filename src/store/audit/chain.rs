//! A record as it stands in the database, what its hash is over, and how records are added to the chain.
//!
//! # What is hashed
//!
//! A record's hash is SHA-256, in lower-case hexadecimal, over its *body*: one line of JSON in UTF-8, without white
//! space, with these members, all of them, in this order:
//!
//! ```text
//! action actor address addressSource at details once organization outcome previous reason seq targetKind targetName targetUid v
//! ```
//!
//! What a record does not have is `null`. `at` is RFC 3339 in UTC with six digits of a fraction and `Z`; `seq` is a
//! number; `v` is 1, the version of this encoding. Strings escape `"`, `\` and what is below U+0020 (`\b \t \n \f
//! \r`, else `\u00xx`), and nothing else. `details` is the text in the column, which was made with its members in the
//! order of their names' bytes. It is hashed as text: no number is ever parsed and printed again. As it is read as one
//! JSON value before, no two records have the same body.
//!
//! An exported line is the body with `"hash":"…",` after its first brace. Anybody can check one:
//!
//! ```sh
//! sed 's/^{"hash":"[0-9a-f]*",/{/' line | tr -d '\n' | sha256sum
//! ```

use std::collections::HashMap;
use std::fmt::Write;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Draft, Head, Outcome, Record};
use crate::hex::hex;
use crate::store::database::Connection;
use crate::store::error::StoreError;
use crate::store::sql::{self, Cells, Sql};
use crate::store::text::{canonical_json, canonical_time, cleaned, maybe_name, micros, name, quoted, time};

/// The columns, in the order in which [`Row`] reads and writes them.
pub(in crate::store) const COLUMNS: &str = "seq, at, organization, actor, action, target_kind, target_name, \
    target_uid, outcome, reason, address, address_source, once, details, previous, hash";

/// Where the chain ends.
pub(in crate::store) const HEAD: &str = "SELECT seq, hash FROM audit_head WHERE id = 1";

/// How long the body of a record may be: a chain is read in batches that fit into memory, whatever is in it.
pub(in crate::store) const LONGEST_BODY: usize = 64 * 1024;

/// How many records one statement adds: each number of them is a statement of its own, which is prepared once.
const CHUNKS: [usize; 4] = [64, 16, 4, 1];

/// A draft that either database keeps as it is.
#[derive(Clone, Debug)]
pub(in crate::store) struct Checked {
    entry: Draft,
    details: String,
}

impl Checked {
    /// The draft as it is kept, unless it is too large.
    pub fn of(draft: Draft) -> Result<Self, StoreError> {
        let details = canonical_json("the details", &draft.details)?;
        let entry = Draft {
            at: time(micros("the record", draft.at)?)?,
            organization: name("the organization", &draft.organization)?,
            actor: name("the actor", &draft.actor)?,
            action: name("the action", &draft.action)?,
            target_kind: name("the target's kind", &draft.target_kind)?,
            target_name: name("the target's name", &draft.target_name)?,
            target_uid: maybe_name("the target's uid", draft.target_uid.as_deref())?,
            reason: draft.reason.as_deref().map(cleaned),
            address: maybe_name("the address", draft.address.as_deref())?,
            address_source: maybe_name("the address's source", draft.address_source.as_deref())?,
            once: maybe_name("the key", draft.once.as_deref())?,
            outcome: draft.outcome,
            details: draft.details,
        };
        let checked = Self { entry, details };
        // As long as it can become: with the largest number.
        let length = checked.clone().after(&Head { seq: u64::MAX - 1, ..Head::genesis() }).body().len();
        if length > LONGEST_BODY {
            return Err(StoreError::Invalid(format!("the record has {length} bytes; {LONGEST_BODY} are the most")));
        }
        Ok(checked)
    }

    /// The record that it becomes after `head`, whose hash is still to be made.
    fn after(self, head: &Head) -> Row {
        let Self { entry, details } = self;
        let seq = head.seq.saturating_add(1);
        Row { record: Record { seq, entry, previous: head.hash.clone(), hash: String::new() }, details }
    }

    /// The record that it becomes after `head`.
    fn seal(self, head: &Head) -> Row {
        let mut row = self.after(head);
        row.record.hash = hash(row.body().as_bytes());
        row
    }
}

/// A record as it stands in the database.
#[derive(Clone, Debug)]
pub(in crate::store) struct Row {
    /// What it says.
    pub record: Record,
    /// The text of its details.
    details: String,
}

impl Row {
    /// The row that these columns are, whatever its hash.
    pub fn of(mut cells: Cells) -> Result<Self, StoreError> {
        let seq = cells.int()?;
        let seq = u64::try_from(seq).map_err(|_| StoreError::Corrupt(format!("a record has the number {seq}")))?;
        let entry = Draft {
            at: time(cells.int()?)?,
            organization: cells.text()?,
            actor: cells.text()?,
            action: cells.text()?,
            target_kind: cells.text()?,
            target_name: cells.text()?,
            target_uid: cells.maybe_text()?,
            outcome: outcome(&cells.text()?)?,
            reason: cells.maybe_text()?,
            address: cells.maybe_text()?,
            address_source: cells.maybe_text()?,
            once: cells.maybe_text()?,
            details: Value::Null,
        };
        let details = cells.text()?;
        // One value and nothing after it: text that goes on could stand for the members that follow.
        let read = serde_json::from_str(&details);
        let read = read.map_err(|error| StoreError::Corrupt(format!("the details of record {seq}: {error}")))?;
        let entry = Draft { details: read, ..entry };
        Ok(Self { record: Record { seq, entry, previous: cells.text()?, hash: cells.text()? }, details })
    }

    /// What the hash is over.
    pub fn body(&self) -> String {
        let Record { seq, entry, previous, .. } = &self.record;
        let maybe = |text: &Option<String>| text.as_deref().map_or_else(|| "null".to_owned(), quoted);
        let members = [
            ("action", quoted(&entry.action)),
            ("actor", quoted(&entry.actor)),
            ("address", maybe(&entry.address)),
            ("addressSource", maybe(&entry.address_source)),
            ("at", quoted(&canonical_time(entry.at))),
            ("details", self.details.clone()),
            ("once", maybe(&entry.once)),
            ("organization", quoted(&entry.organization)),
            ("outcome", quoted(entry.outcome.as_str())),
            ("previous", quoted(previous)),
            ("reason", maybe(&entry.reason)),
            ("seq", seq.to_string()),
            ("targetKind", quoted(&entry.target_kind)),
            ("targetName", quoted(&entry.target_name)),
            ("targetUid", maybe(&entry.target_uid)),
            ("v", "1".to_owned()),
        ];
        let mut body = String::with_capacity(self.details.len() + 512);
        for (index, (name, value)) in members.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(body, "{}\"{name}\":{value}", if index == 0 { "{" } else { "," });
        }
        body.push('}');
        body
    }

    /// The record as a line of an export, with its end.
    pub fn line(&self) -> String {
        let body = self.body();
        format!("{{\"hash\":{},{}\n", quoted(&self.record.hash), body.trim_start_matches('{'))
    }

    /// Where a chain ends that ends with this record.
    pub fn head(&self) -> Head {
        Head { seq: self.record.seq, hash: self.record.hash.clone() }
    }

    /// What its columns hold.
    fn values(&self) -> Result<[sql::Value; 16], StoreError> {
        let Record { entry, previous, hash, .. } = &self.record;
        Ok([
            number(self.record.seq)?.into(),
            entry.at.timestamp_micros().into(),
            entry.organization.as_str().into(),
            entry.actor.as_str().into(),
            entry.action.as_str().into(),
            entry.target_kind.as_str().into(),
            entry.target_name.as_str().into(),
            entry.target_uid.clone().into(),
            entry.outcome.as_str().into(),
            entry.reason.clone().into(),
            entry.address.clone().into(),
            entry.address_source.clone().into(),
            entry.once.clone().into(),
            self.details.as_str().into(),
            previous.as_str().into(),
            hash.as_str().into(),
        ])
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The head that a row of [`HEAD`] holds.
pub(in crate::store) fn head_of(cells: Option<&mut Cells>) -> Result<Head, StoreError> {
    let cells = cells.ok_or_else(|| StoreError::Corrupt("the head of the audit chain is gone".to_owned()))?;
    let seq = cells.int()?;
    let seq = u64::try_from(seq).map_err(|_| StoreError::Corrupt(format!("the chain's head has the number {seq}")))?;
    Ok(Head { seq, hash: cells.text()? })
}

/// Adds drafts to the chain, within the transaction that is open on this connection. Answers in their order; a key
/// that stands already is answered with the record that has it.
pub(in crate::store) async fn append(
    connection: &mut Connection,
    drafts: impl IntoIterator<Item = Checked>,
) -> Result<Vec<Record>, StoreError> {
    let drafts: Vec<Checked> = drafts.into_iter().collect();
    if drafts.is_empty() {
        return Ok(Vec::new());
    }
    // Whoever holds this row adds next: with several processes there is still one chain.
    let mut lock = Sql::new(HEAD);
    lock.push(connection.for_update());
    let mut head = head_of(connection.rows(lock).await?.first_mut())?;
    let mut standing = standing(connection, &drafts).await?;
    let mut added: Vec<Row> = Vec::with_capacity(drafts.len());
    let mut answers = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let key = draft.entry.once.clone();
        if let Some(record) = key.as_ref().and_then(|key| standing.get(key)) {
            answers.push(record.clone());
            continue;
        }
        let row = draft.seal(&head);
        head = row.head();
        answers.push(row.record.clone());
        if let Some(key) = key {
            standing.insert(key, row.record.clone());
        }
        added.push(row);
    }
    if added.is_empty() {
        return Ok(answers);
    }
    insert(connection, &added).await?;
    let mut update = Sql::new("UPDATE audit_head SET seq = ");
    update.bind(number(head.seq)?).push(", hash = ").bind(head.hash).push(" WHERE id = 1");
    connection.execute(update).await?;
    Ok(answers)
}

/// The records that stand under the keys of these drafts.
async fn standing(connection: &mut Connection, drafts: &[Checked]) -> Result<HashMap<String, Record>, StoreError> {
    let keys: Vec<sql::Value> = drafts.iter().filter_map(|draft| draft.entry.once.clone()).map(Into::into).collect();
    let mut found = HashMap::new();
    for chunk in chunks(&keys) {
        let mut select = Sql::new(format!("SELECT {COLUMNS} FROM audit_record WHERE once IN ("));
        select.bind_all(chunk.iter().cloned()).push(")");
        for cells in connection.rows(select).await? {
            let record = Row::of(cells)?.record;
            found.extend(record.entry.once.clone().map(|key| (key, record)));
        }
    }
    Ok(found)
}

/// Writes rows.
async fn insert(connection: &mut Connection, rows: &[Row]) -> Result<(), StoreError> {
    for chunk in chunks(rows) {
        let mut insert = Sql::new(format!("INSERT INTO audit_record ({COLUMNS}) VALUES "));
        for (index, row) in chunk.iter().enumerate() {
            insert.push(if index == 0 { "(" } else { ", (" }).bind_all(row.values()?).push(")");
        }
        connection.execute(insert).await?;
    }
    Ok(())
}

/// All of these in parts of the lengths of [`CHUNKS`], the long ones first.
fn chunks<T>(mut rest: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let length = CHUNKS.into_iter().find(|length| *length <= rest.len())?;
        let (chunk, after) = rest.split_at_checked(length)?;
        rest = after;
        Some(chunk)
    })
}

/// A record's number as the databases hold it.
fn number(seq: u64) -> Result<i64, StoreError> {
    i64::try_from(seq).map_err(|_| StoreError::Corrupt(format!("the chain's head has the number {seq}")))
}

/// An outcome that was kept.
fn outcome(text: &str) -> Result<Outcome, StoreError> {
    let all = [Outcome::Success, Outcome::Failure, Outcome::Denied];
    let found = all.into_iter().find(|outcome| outcome.as_str() == text);
    found.ok_or_else(|| StoreError::Corrupt(format!("{text:?} is no outcome")))
}
