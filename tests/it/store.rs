//! The store, on SQLite and on PostgreSQL: each test that says nothing of either runs on both.

mod audit;
mod export;
mod faults;
mod history;
mod kills;
mod opening;
mod tampering;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use berth::store::Store;
use berth::store::audit::{Draft, Outcome};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};

use crate::postgres::Server;

/// Runs a test on both databases.
macro_rules! on_both {
    ($(async fn $name:ident($database:ident) $body:block)*) => {
        $(mod $name {
            use super::*;

            async fn test($database: Database) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                test(Database::sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                test(Database::postgres().await).await;
            }
        })*
    };
}
use on_both;

/// A store in an empty database, and the ways around it.
struct Database {
    url: String,
    store: Store,
    _directory: Option<Directory>,
}

impl Database {
    async fn sqlite() -> Self {
        let directory = Directory::new();
        let url = format!("sqlite:{}", directory.join("berth.db").display());
        Self { store: Store::open(&url).await.unwrap(), url, _directory: Some(directory) }
    }

    async fn postgres() -> Self {
        let url = tokio::task::spawn_blocking(|| Server::shared().database("")).await.unwrap();
        Self { store: Store::open(&url).await.unwrap(), url, _directory: None }
    }

    /// A way to the database that knows nothing of the store.
    async fn raw(&self) -> Raw {
        match self.url.strip_prefix("sqlite:") {
            Some(path) => Raw::Sqlite(SqliteConnection::connect(&format!("sqlite://{path}")).await.unwrap()),
            None => Raw::Postgres(PgConnection::connect(&self.url).await.unwrap()),
        }
    }
}

enum Raw {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Raw {
    /// Executes statements, and says how many rows they changed.
    async fn execute(&mut self, sql: &str) -> u64 {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Sqlite(connection) => connection.execute(sql).await.unwrap().rows_affected(),
            Self::Postgres(connection) => connection.execute(sql).await.unwrap().rows_affected(),
        }
    }
}

/// A directory that goes away with the test.
#[derive(Clone)]
struct Directory(Arc<PathBuf>);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("berth-store-{}-{count}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(Arc::new(path))
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl AsRef<Path> for Directory {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if Arc::strong_count(&self.0) == 1 {
            let _ = std::fs::remove_dir_all(self.0.as_path());
        }
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The time so many seconds after a beginning, with a fraction that no float holds.
fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 123_456_000).unwrap() + TimeDelta::seconds(second)
}

/// A draft like many.
fn draft(number: u64) -> Draft {
    Draft {
        at: at(i64::try_from(number).unwrap()),
        organization: format!("org-{}", number % 3),
        actor: format!("user-{}@example.org", number % 5),
        action: "launch".to_owned(),
        target_kind: "Session".to_owned(),
        target_name: format!("session-{number}"),
        target_uid: Some(format!("uid-{number}")),
        outcome: Outcome::Success,
        reason: number.is_multiple_of(2).then(|| "as asked".to_owned()),
        address: Some("2001:db8::1".to_owned()),
        address_source: Some("PROXY protocol".to_owned()),
        once: None,
        details: json!({ "number": number, "ratio": 0.1, "name": "Zoë 🚢" }),
    }
}

/// Appends drafts of these numbers, many at once.
async fn fill(store: &Store, numbers: std::ops::Range<u64>) {
    let appends = numbers.map(|number| store.append(draft(number)));
    futures::future::try_join_all(appends).await.unwrap();
}
