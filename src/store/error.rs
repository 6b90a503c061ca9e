//! What can go wrong with the store, by what is to be done about it. Sorting the databases' own codes is here and
//! nowhere else.

use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;

/// A call of the store that failed. No message holds a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Locked, full, gone or out of reach: the same call may work later. Nothing of it was written, unless the
    /// message says that this is not known.
    #[error("the store cannot be used now: {0}")]
    Unavailable(String),
    /// The settings or the rights are wrong: somebody has to change them. Only opening says this; what worked once
    /// and is refused later may work again.
    #[error("the store cannot be used as it is set up: {0}")]
    Refused(String),
    /// The database was written by a later version of Berth.
    #[error(
        "the store was written by a later version of Berth: its schema has migration {found}, this version knows {known}"
    )]
    Newer {
        /// The first migration that this version does not know.
        found: i64,
        /// The last one that it knows.
        known: i64,
    },
    /// What stands in the database is not what was written there.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// What was to be written or asked for is not possible, now or later.
    #[error("{0}")]
    Invalid(String),
}

impl StoreError {
    /// Whether the same call may work later.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// One word for the kind of failure.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Refused(_) => "refused",
            Self::Newer { .. } => "newer",
            Self::Corrupt(_) => "corrupt",
            Self::Invalid(_) => "invalid",
        }
    }

    /// The failure of a store that was usable before.
    pub(super) fn at_work(self) -> Self {
        match self {
            Self::Refused(why) => Self::Unavailable(why),
            other => other,
        }
    }

    /// The same failure, with what it is about before its words.
    pub(super) fn about(self, what: &str) -> Self {
        let say = |why: String| format!("{what}: {why}");
        match self {
            Self::Unavailable(why) => Self::Unavailable(say(why)),
            Self::Refused(why) => Self::Refused(say(why)),
            Self::Corrupt(why) => Self::Corrupt(say(why)),
            Self::Invalid(why) => Self::Invalid(say(why)),
            newer @ Self::Newer { .. } => newer,
        }
    }

    /// The failure of the migrations, of which `known` is the last.
    pub(super) fn of_migration(error: MigrateError, known: i64) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            MigrateError::VersionMissing(found) => Self::Newer { found, known },
            MigrateError::VersionMismatch(version) => {
                Self::Corrupt(format!("its migration {version} is not the one of this version"))
            }
            other => Self::Corrupt(other.to_string()),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => of_database(error.as_ref()),
            sqlx::Error::Configuration(_) | sqlx::Error::InvalidArgument(_) => Self::Refused(error.to_string()),
            // A certificate that is not trusted is a setting; TLS says that as data that is not valid.
            sqlx::Error::Tls(_) => Self::Refused(error.to_string()),
            sqlx::Error::Io(ref cause) if cause.kind() == std::io::ErrorKind::InvalidData => {
                Self::Refused(error.to_string())
            }
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Self::Corrupt(error.to_string()),
            sqlx::Error::ColumnNotFound(_) | sqlx::Error::ColumnIndexOutOfBounds { .. } => {
                Self::Corrupt(error.to_string())
            }
            // The rest is the connection: closed, timed out, or out of step, and a new one is made.
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// What a database's own code means. SQLite's are numbers, PostgreSQL's have five characters.
fn of_database(error: &dyn DatabaseError) -> StoreError {
    let code = error.code().unwrap_or_default();
    let words = format!("{} ({code})", error.message());
    let sort = match code.parse::<i32>() {
        Ok(number) if code.len() < 5 => of_sqlite(number),
        _ => of_postgres(&code),
    };
    sort(words)
}

/// SQLite's primary code is the low byte of the extended one: <https://sqlite.org/rescode.html>.
fn of_sqlite(code: i32) -> fn(String) -> StoreError {
    const ERROR: i32 = 1;
    const PERM: i32 = 3;
    const READONLY: i32 = 8;
    const CORRUPT: i32 = 11;
    const TOOBIG: i32 = 18;
    const CANTOPEN: i32 = 14;
    const CONSTRAINT: i32 = 19;
    const MISMATCH: i32 = 20;
    const NOTADB: i32 = 26;
    match code & 0xff {
        // A statement that fails by itself, or against a row that nobody but this module writes.
        CORRUPT | NOTADB | ERROR | CONSTRAINT | MISMATCH => StoreError::Corrupt,
        PERM | READONLY | CANTOPEN => StoreError::Refused,
        TOOBIG => StoreError::Invalid,
        // Busy, locked, full, an I/O error, out of memory.
        _ => StoreError::Unavailable,
    }
}

/// PostgreSQL's codes begin with a class: <https://www.postgresql.org/docs/15/errcodes-appendix.html>.
fn of_postgres(code: &str) -> fn(String) -> StoreError {
    match code.get(..2).unwrap_or_default() {
        // Invalid authorization; invalid catalog or schema name.
        "28" | "3D" | "3F" => StoreError::Refused,
        // 42501 is a missing right; the rest of its class is a table or column that is not as it was made.
        "42" if code == "42501" => StoreError::Refused,
        "42" | "23" | "XX" => StoreError::Corrupt,
        "22" | "54" => StoreError::Invalid,
        // The connection, resources, locks, conflicts of transactions, a server that stops or starts.
        _ => StoreError::Unavailable,
    }
}
