//! The tables and their changes over time. All changes are made in one transaction.

use sqlx::migrate::Migration;
use sqlx::postgres::PgDatabaseError;
use sqlx::{Connection, PgConnection, Row};

use super::server::{Role, Route};
use crate::OpenError;
use crate::server::{MigrationsStanding as Standing, change};

/// Every change, oldest first. A released change is never edited, because its checksum is kept in the database.
fn changes() -> Vec<Migration> {
    vec![
        change(1, "initial", include_str!("../../migrations/postgres/0001_initial.sql")),
        change(2, "log by time", include_str!("../../migrations/postgres/0002_log_by_time.sql")),
        change(3, "live sessions", include_str!("../../migrations/postgres/0003_live_sessions.sql")),
        change(4, "agreed settings", include_str!("../../migrations/postgres/0004_agreed_settings.sql")),
        change(5, "whole accounts", include_str!("../../migrations/postgres/0005_whole_accounts.sql")),
    ]
}

/// Whether the schema exists. Countersign has a schema of its own, because applications have tables with the same
/// names.
const HAS_SCHEMA: &str = "SELECT to_regnamespace('countersign') IS NOT NULL";

const CREATE_SCHEMA: &str = "CREATE SCHEMA IF NOT EXISTS countersign";

const CREATE_TABLE: &str = "
    CREATE TABLE IF NOT EXISTS countersign.migration (
        version    BIGINT NOT NULL PRIMARY KEY,
        name       TEXT NOT NULL,
        checksum   BYTEA NOT NULL,
        applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
    )";

/// The lock for changes of the tables. Of nodes that start at the same time one gets the lock; the others find its work
/// done when they get it. A node that only looks does not wait for it.
const LOCK: &str = "LOCK TABLE countersign.migration IN EXCLUSIVE MODE";

const HAS_TABLE: &str = "SELECT to_regclass('countersign.migration') IS NOT NULL";

const APPLIED: &str = "SELECT version, checksum FROM countersign.migration ORDER BY version";

const NOTE: &str = "INSERT INTO countersign.migration (version, name, checksum) VALUES ($1, $2, $3)";

/// How often making the schema is tried. Of nodes that make it at the same time one succeeds; the others fail, and find
/// it made when they try again.
const TRIES: u32 = 10;

/// The state of the tables, compared with the changes that are known here.
pub(super) async fn standing(connection: &mut PgConnection) -> Result<Standing, sqlx::Error> {
    if !is_true(connection, HAS_TABLE).await? {
        return Ok(Standing::Behind(0));
    }
    let applied = sqlx::raw_sql(APPLIED).fetch_all(connection).await?;
    let applied: Result<Vec<_>, sqlx::Error> =
        applied.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect();
    Ok(Standing::of(&applied?, &changes()))
}

/// Makes the changes that are missing, all or none.
pub(super) async fn run(route: &Route) -> Result<(), OpenError> {
    let attempts = async {
        let mut connection = route.connect(Role::Migrate).await?;
        let mut tries = 0;
        loop {
            match attempt(&mut connection).await {
                Err(error) if is_race(&error) && tries < TRIES => tries += 1,
                Err(error) => return Err(OpenError::engine(error)),
                Ok(Standing::Other(version)) => return Err(OpenError::UnknownChange { version }),
                Ok(Standing::Current | Standing::Behind(_)) => break,
            }
        }
        connection.close().await.map_err(OpenError::engine)
    };
    tokio::time::timeout(Standing::DEADLINE, attempts).await.map_err(|_| OpenError::Deadline)?
}

async fn attempt(connection: &mut PgConnection) -> Result<Standing, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    // Creating a schema needs a right, even if the schema exists, and an application need not have that right.
    if !is_true(&mut transaction, HAS_SCHEMA).await? {
        sqlx::raw_sql(CREATE_SCHEMA).execute(&mut *transaction).await?;
    }
    if !is_true(&mut transaction, HAS_TABLE).await? {
        sqlx::raw_sql(CREATE_TABLE).execute(&mut *transaction).await?;
    }
    sqlx::raw_sql(LOCK).execute(&mut *transaction).await?;
    let standing = standing(&mut transaction).await?;
    if let Standing::Behind(applied) = standing {
        for change in changes().into_iter().skip(applied) {
            sqlx::raw_sql(change.sql).execute(&mut *transaction).await?;
            let note = sqlx::query(NOTE).persistent(false).bind(change.version);
            let note = note.bind(change.description.into_owned()).bind(change.checksum.into_owned());
            note.execute(&mut *transaction).await?;
        }
    }
    transaction.commit().await?;
    Ok(standing)
}

async fn is_true(connection: &mut PgConnection, question: &'static str) -> Result<bool, sqlx::Error> {
    sqlx::raw_sql(question).fetch_one(connection).await?.try_get(0)
}

/// Whether the error comes from another node that made the same changes at the same time.
fn is_race(error: &sqlx::Error) -> bool {
    let error = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    // unique_violation (in the catalog), duplicate_schema, duplicate_table, duplicate_object, serialization_failure,
    // deadlock_detected
    error.is_some_and(|error| {
        matches!(error.code(), "23505" | "42P06" | "42P07" | "42710" | "40001" | "40P01")
    })
}
