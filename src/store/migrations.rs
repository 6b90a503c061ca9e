//! The schema, step by step, embedded in the binary. Listed by hand: sqlx's macro would bring a second expansion of all
//! its drivers into the build, for a list of this length.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migrate, Migration, MigrationType, Migrator};

use super::error::StoreError;

/// A step: its number, what it is about, and its statements.
type Step = (i64, &'static str, &'static str);

/// SQLite's. A step that was released is never edited: the checksum of each is in the database.
pub(super) const SQLITE: &[Step] =
    &[(1, "history and audit", include_str!("../../migrations/sqlite/0001_history_and_audit.sql"))];

/// PostgreSQL's, under the same rule.
pub(super) const POSTGRES: &[Step] =
    &[(1, "history and audit", include_str!("../../migrations/postgres/0001_history_and_audit.sql"))];

/// Brings the schema behind `connection` to that of this version.
pub(super) async fn run(steps: &[Step], connection: &mut impl Migrate) -> Result<(), StoreError> {
    let migration = |&(version, about, text): &Step| {
        Migration::new(version, about.into(), MigrationType::Simple, text.into_sql_str(), false)
    };
    let known = steps.last().map_or(0, |step| step.0);
    let all = Migrator::with_migrations(steps.iter().map(migration).collect());
    // Not `run`: the future of its generic connection is one that no task can be spawned with.
    all.run_direct(None, connection, false).await.map_err(|error| StoreError::of_migration(error, known))
}
