//! The store: what has to outlive the resources that it is about, the history of ended sessions and the audit. In a
//! SQLite file on a volume, for one replica, or in a PostgreSQL database, for several.
//!
//! It decides nothing: who may read what, what is recorded and when something is forgotten is said by its callers.

pub mod audit;
mod database;
mod error;
mod file;
pub mod history;
mod migrations;
mod sql;
mod text;
mod writer;

pub use self::error::StoreError;

use self::database::{Place, Readers};
use self::writer::Writer;

/// How many sessions or records one answer holds at most.
pub const MOST_AT_ONCE: u32 = 500;

/// The store. Copies of it are the same store.
#[derive(Clone, Debug)]
pub struct Store {
    readers: Readers,
    writer: Writer,
}

impl Store {
    /// Opens the store at `sqlite:/path/of/a/file` or `postgres://user:password@host/database`, makes the file if
    /// there is none, and brings the schema to that of this version. The task that writes runs on the runtime that
    /// this is called on, until [`Store::close`] or until the last copy is gone.
    ///
    /// # Errors
    /// Refused for a URL, a password or rights that do not do; Newer where a later version wrote the schema; Corrupt
    /// for a file that is no database; Unavailable where there is no answer.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let place = Place::find(url).await?;
        let connection = place.prepare().await.map_err(|error| error.about(&place.name()))?;
        Ok(Self { readers: place.readers(), writer: Writer::start(place, connection) })
    }

    /// Writes what was handed over, and lets go of the database. Calls that come later are Unavailable, on every copy.
    pub async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
    }
}

/// How many rows an answer to this wish has.
fn most(limit: u32) -> i64 {
    if limit == 0 { MOST_AT_ONCE.into() } else { limit.min(MOST_AT_ONCE).into() }
}
