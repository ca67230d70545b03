//! The tables and their changes over time.

use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Connection, SqlSafeStr, SqliteConnection};

use crate::OpenError;

/// Every change, oldest first. A released change is never edited, because its checksum is kept in the database.
fn migrator() -> Migrator {
    let change = |version, name: &'static str, sql: &'static str| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(vec![
        change(1, "initial", include_str!("../../migrations/sqlite/0001_initial.sql")),
        change(2, "key life", include_str!("../../migrations/sqlite/0002_key_life.sql")),
        change(3, "live sessions", include_str!("../../migrations/sqlite/0003_live_sessions.sql")),
        change(4, "agreed settings", include_str!("../../migrations/sqlite/0004_agreed_settings.sql")),
        change(5, "whole accounts", include_str!("../../migrations/sqlite/0005_whole_accounts.sql")),
    ])
}

/// Whether any change was made, of this version or of another.
pub(super) async fn has_begun(connection: &mut SqliteConnection) -> Result<bool, OpenError> {
    let table: Option<i64> = sqlx::query_scalar("SELECT 1 FROM sqlite_schema WHERE name = ?1")
        .bind(migrator().table_name.as_ref())
        .fetch_optional(connection)
        .await
        .map_err(OpenError::engine)?;
    Ok(table.is_some())
}

/// Whether every change known here was made, and no other.
pub(super) async fn is_current(connection: &mut SqliteConnection) -> Result<bool, OpenError> {
    let migrator = migrator();
    if !has_begun(connection).await? {
        return Ok(false);
    }
    let applied = connection.list_applied_migrations(&migrator.table_name).await.map_err(failed)?;
    let same = |(applied, known): (&AppliedMigration, &Migration)| {
        applied.version == known.version && applied.checksum == known.checksum
    };
    Ok(applied.len() == migrator.iter().len() && applied.iter().zip(migrator.iter()).all(same))
}

/// Makes the changes that are missing, all or none.
pub(super) async fn run(connection: &mut SqliteConnection) -> Result<(), OpenError> {
    // Most starts find nothing to change and need no write lock.
    if is_current(connection).await? {
        return Ok(());
    }
    // Of processes that start at the same time one gets the lock; the others find its work done when they get it.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(OpenError::engine)?;
    migrator().run_direct(None, &mut *transaction, false).await.map_err(failed)?;
    transaction.commit().await.map_err(OpenError::engine)
}

fn failed(error: MigrateError) -> OpenError {
    OpenError::Migrate(error.into())
}
