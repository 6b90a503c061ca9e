//! The audit as lines of JSON that carry their proof: see [`super::verify::verify_lines`].

use std::io::Write;

use futures::stream::{Stream, TryStreamExt, try_unfold};

use super::Head;
use super::chain::{COLUMNS, Row};
use crate::store::Store;
use crate::store::database::Readers;
use crate::store::error::StoreError;
use crate::store::sql::{Cells, Sql};

/// How many records are read at once. Each read is a transaction of its own: one that lasted for a whole export
/// would keep SQLite's log from being folded into its file.
const BATCH: i64 = 256;

/// Some lines of an export.
#[derive(Clone, Debug)]
pub struct Lines {
    /// A line for each record, each with its end.
    pub text: String,
    /// The last of them: where an export that follows begins, and what this one is checked against.
    pub last: Head,
}

impl Store {
    /// All records after the place `after`, up to the end that the chain has when it is reached.
    pub fn export(&self, after: u64) -> impl Stream<Item = Result<Lines, StoreError>> + Send + use<> {
        let readers = self.readers.clone();
        try_unfold((readers, super::place(after)), async |(readers, after)| {
            let rows = batch(&readers, after).await?;
            let rows: Vec<Row> = rows.into_iter().map(Row::of).collect::<Result<_, _>>()?;
            let Some(last) = rows.last().map(Row::head) else {
                return Ok(None);
            };
            let next = super::place(last.seq);
            Ok(Some((Lines { text: rows.iter().map(Row::line).collect(), last }, (readers, next))))
        })
    }

    /// Writes an export, and says where it ended. `None` where nothing comes after `after`.
    ///
    /// # Errors
    /// What reading says; Unavailable where the lines cannot be written.
    pub async fn export_to(&self, after: u64, to: &mut (impl Write + Send)) -> Result<Option<Head>, StoreError> {
        let lines = self.export(after);
        let written = lines.try_fold((to, None), async |(to, _), lines| {
            let written = to.write_all(lines.text.as_bytes());
            written.map_err(|error| StoreError::Unavailable(format!("the export cannot be written: {error}")))?;
            Ok((to, Some(lines.last)))
        });
        Ok(written.await?.1)
    }
}

/// The next rows of the chain.
pub(super) async fn batch(readers: &Readers, after: i64) -> Result<Vec<Cells>, StoreError> {
    let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM audit_record WHERE seq > "));
    sql.bind(after).push(" ORDER BY seq LIMIT ").bind(BATCH);
    readers.rows(sql).await
}
