//! The two databases and the ways to them: one connection that writes, and a few that read. What differs between the
//! databases is in this file; what is written and read through it is not.

use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _, Executor};

use super::error::StoreError;
use super::file::Identity;
use super::migrations;
use super::sql::{Cells, Sql};

/// How long SQLite waits for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long making a connection, one transaction or one read may take, waiting for locks included.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How many connections read at once.
const READERS: u32 = 4;

/// What a session of PostgreSQL is held to, whatever the server's settings say: a commit is on disk before it is
/// acknowledged, and a process that hangs within a transaction does not hold up the others for ever.
const POSTGRES_SESSION: &str = "\
    SELECT set_config('idle_in_transaction_session_timeout', '15s', false), set_config('lock_timeout', '8s', false); \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// At this level a row that is read for update is the newest, whatever the server's settings say.
const BEGIN_POSTGRES: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// What is said where an answer is missing and not the deed.
pub(super) const UNKNOWN: &str = "; whether it was written is not known";

/// Where the store is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// A file, which stands.
    Sqlite(Identity),
    /// A server's database.
    Postgres(Box<PgConnectOptions>),
}

impl Place {
    /// The place that a setting names. What is said about a setting that names none never repeats it: it may hold a
    /// password.
    pub async fn find(url: &str) -> Result<Self, StoreError> {
        let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
        match scheme {
            "sqlite" => Ok(Self::Sqlite(Identity::of(rest.strip_prefix("//").unwrap_or(rest)).await?)),
            "postgres" | "postgresql" => {
                let options = PgConnectOptions::from_str(url)
                    .map_err(|error| StoreError::Refused(format!("its URL cannot be read: {error}")))?;
                Ok(Self::Postgres(Box::new(options.application_name("berth").disable_statement_logging())))
            }
            _ => Err(StoreError::Refused("its URL begins with neither sqlite: nor postgres:".to_owned())),
        }
    }

    /// What it is called where something is said about it.
    pub fn name(&self) -> String {
        match self {
            Self::Sqlite(file) => file.path().display().to_string(),
            Self::Postgres(options) => format!("PostgreSQL at {}:{}", options.get_host(), options.get_port()),
        }
    }

    /// A connection that may write, to a schema of this version.
    pub async fn prepare(&self) -> Result<Connection, StoreError> {
        let mut connection = self.first().await?;
        match &mut connection {
            Connection::Sqlite(sqlite, _) => {
                // One transaction around all steps: a second process that starts at once waits for it.
                let mut all = sqlite.begin_with("BEGIN IMMEDIATE").await?;
                migrations::run(migrations::SQLITE, &mut *all).await?;
                all.commit().await?;
            }
            Connection::Postgres(postgres) => {
                check_server(postgres).await?;
                migrations::run(migrations::POSTGRES, &mut *postgres).await?;
            }
        }
        Ok(connection)
    }

    /// The first connection. Making a new file one with WAL is the one thing for which SQLite does not wait for others
    /// that do the same: it says at once that the file is locked.
    async fn first(&self) -> Result<Connection, StoreError> {
        let begun = Instant::now();
        loop {
            match within("", self.connect()).await {
                Err(error) if self.is_file() && error.is_unavailable() && begun.elapsed() < BUSY_TIMEOUT => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                done => return done,
            }
        }
    }

    fn is_file(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// A connection that may write.
    pub async fn connect(&self) -> Result<Connection, StoreError> {
        match self {
            Self::Sqlite(file) => {
                // Before: SQLite would throw away the log of the right file where it finds an empty one beside it.
                file.check().await?;
                let connection = sqlite_options(file.path()).connect().await?;
                Ok(Connection::Sqlite(connection, file.clone()))
            }
            Self::Postgres(options) => {
                let mut connection = options.connect().await?;
                connection.execute(sqlx::raw_sql(POSTGRES_SESSION)).await?;
                Ok(Connection::Postgres(connection))
            }
        }
    }

    /// The connections that read.
    pub fn readers(&self) -> Readers {
        match self {
            Self::Sqlite(file) => {
                // They live as long as the store: one that was closed for its age would only be opened again.
                let pool = PoolOptions::new().max_connections(READERS).acquire_timeout(CALL_TIMEOUT);
                let pool = pool.max_lifetime(None).idle_timeout(None);
                let options = sqlite_options(file.path()).pragma("query_only", "ON");
                Readers::Sqlite(pool.connect_lazy_with(options), file.clone())
            }
            Self::Postgres(options) => {
                let pool = PoolOptions::new().max_connections(READERS).acquire_timeout(CALL_TIMEOUT);
                Readers::Postgres(pool.connect_lazy_with(options.as_ref().clone()))
            }
        }
    }
}

/// How the file is opened. WAL lets readers read while a commit is under way; FULL makes each commit wait for the
/// disk, which is what an acknowledged record is promised on.
fn sqlite_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        // `Identity` made it; one that is gone since then is not replaced by an empty one.
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
        // The root of a pod is read-only, and there is no folder for temporary files: what a large statement keeps for its
        // undoing, or a reader for its sorting, is in memory.
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging()
}

/// Refuses a server that would not keep what it is given as it is.
async fn check_server(connection: &mut PgConnection) -> Result<(), StoreError> {
    let sql = Sql::new("SELECT current_setting('server_encoding'), current_setting('fsync')");
    let row = sql.into_query().fetch_one(connection).await?;
    let mut cells = Cells::of::<sqlx::postgres::PgRow>(&row);
    let encoding = cells.text()?;
    if encoding != "UTF8" {
        return Err(StoreError::Refused(format!("the database's encoding is {encoding}, and must be UTF8")));
    }
    if cells.text()? != "on" {
        tracing::warn!("the PostgreSQL server runs with fsync off: what it acknowledges may be lost with its machine");
    }
    Ok(())
}

/// A connection that may write, held by one task.
#[derive(Debug)]
pub(super) enum Connection {
    /// To a file, which is to be this one still when something is committed.
    Sqlite(SqliteConnection, Identity),
    /// To a server.
    Postgres(PgConnection),
}

impl Connection {
    /// Begins a transaction. Whatever fails within it, the connection is to be dropped: the database then forgets
    /// the transaction by itself, in every state that a rollback could meet.
    pub async fn begin(&mut self) -> Result<(), StoreError> {
        match self {
            // At once the writer: a transaction that read first could be refused later, for what another wrote.
            Self::Sqlite(connection, _) => connection.execute(sqlx::raw_sql("BEGIN IMMEDIATE")).await.map(drop)?,
            Self::Postgres(connection) => connection.execute(sqlx::raw_sql(BEGIN_POSTGRES)).await.map(drop)?,
        }
        Ok(())
    }

    /// Commits what was begun; afterwards it is on disk. Where this fails, it may be there all the same: the answer
    /// was lost, or the disk took it and said that it did not.
    pub async fn commit(&mut self) -> Result<(), StoreError> {
        if let Self::Sqlite(_, file) = self {
            file.check().await?;
        }
        let committed = match self {
            Self::Sqlite(connection, _) => connection.execute(sqlx::raw_sql("COMMIT")).await.map(drop),
            Self::Postgres(connection) => connection.execute(sqlx::raw_sql("COMMIT")).await.map(drop),
        };
        committed.map_err(|error| match StoreError::from(error) {
            StoreError::Unavailable(why) => StoreError::Unavailable(format!("{why}{UNKNOWN}")),
            other => other,
        })
    }

    /// All rows of a statement.
    pub async fn rows(&mut self, sql: Sql) -> Result<Vec<Cells>, StoreError> {
        Ok(match self {
            Self::Sqlite(connection, _) => cells(&sql.into_query().fetch_all(connection).await?),
            Self::Postgres(connection) => cells(&sql.into_query().fetch_all(connection).await?),
        })
    }

    /// Executes a statement, and says how many rows it changed.
    pub async fn execute(&mut self, sql: Sql) -> Result<u64, StoreError> {
        Ok(match self {
            Self::Sqlite(connection, _) => sql.into_query().execute(connection).await?.rows_affected(),
            Self::Postgres(connection) => sql.into_query().execute(connection).await?.rows_affected(),
        })
    }

    /// What a statement ends with that reads a row in order to replace it. SQLite has one writer anyway.
    pub fn for_update(&self) -> &'static str {
        match self {
            Self::Sqlite(..) => "",
            Self::Postgres(_) => " FOR UPDATE",
        }
    }

    /// Ends the connection in good order.
    pub async fn close(self) {
        // It ends either way; what was acknowledged is on disk already.
        let _ = match self {
            Self::Sqlite(connection, _) => connection.close().await,
            Self::Postgres(connection) => connection.close().await,
        };
    }
}

/// The connections that read.
#[derive(Clone, Debug)]
pub(super) enum Readers {
    /// Of a file, which is to be this one still when something is read.
    Sqlite(SqlitePool, Identity),
    /// Of a server.
    Postgres(PgPool),
}

impl Readers {
    /// All rows of a statement, within [`CALL_TIMEOUT`].
    pub async fn rows(&self, sql: Sql) -> Result<Vec<Cells>, StoreError> {
        let read = async {
            Ok(match self {
                Self::Sqlite(pool, file) => {
                    file.check().await?;
                    cells(&sql.into_query().fetch_all(pool).await?)
                }
                Self::Postgres(pool) => cells(&sql.into_query().fetch_all(pool).await?),
            })
        };
        within("", read).await.map_err(StoreError::at_work)
    }

    /// Ends all of them.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(pool, _) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// Bounds what waits for a database to [`CALL_TIMEOUT`]; what is late is said with these words behind it.
pub(super) async fn within<T>(words: &str, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = || StoreError::Unavailable(format!("no answer within {} s{words}", CALL_TIMEOUT.as_secs()));
    tokio::time::timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| Err(late()))
}

/// What rows of either database hold.
fn cells<R>(rows: &[R]) -> Vec<Cells>
where
    R: sqlx::Row,
    usize: sqlx::ColumnIndex<R>,
    String: for<'r> sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
    i64: for<'r> sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
{
    rows.iter().map(Cells::of).collect()
}
