//! The tables and their changes over time. Every change can be made again after a crash half-way.

use sqlx::migrate::Migration;
use sqlx::{Connection, MySqlConnection, Row};

use super::server::{Role, Route};
use crate::OpenError;
use crate::server::{MigrationsStanding as Standing, change};

/// Every change, oldest first. A released change is never edited, because its checksum is kept in the database. MySQL
/// ends the transaction at each statement that changes a table, so every statement must be safe to run again, even
/// while another node runs it: not all clusters know the lock below.
fn changes() -> Vec<Migration> {
    vec![
        change(1, "initial", include_str!("../../migrations/mysql/0001_initial.sql")),
        change(2, "live sessions", include_str!("../../migrations/mysql/0002_live_sessions.sql")),
        change(3, "agreed settings", include_str!("../../migrations/mysql/0003_agreed_settings.sql")),
        change(4, "whole accounts", include_str!("../../migrations/mysql/0004_whole_accounts.sql")),
    ]
}

const HAS_TABLE: &str = "
    SELECT COUNT(*) FROM information_schema.TABLES
    WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'countersign_migration'";

const CREATE_TABLE: &str = "
    CREATE TABLE IF NOT EXISTS countersign_migration (
        version    BIGINT         NOT NULL PRIMARY KEY,
        name       VARBINARY(255) NOT NULL,
        checksum   VARBINARY(64)  NOT NULL,
        applied_at TIMESTAMP      NOT NULL DEFAULT CURRENT_TIMESTAMP
    ) ENGINE = InnoDB";

/// The lock for changes of the tables. Of nodes that start at the same time one gets the lock; the others find its work
/// done when they get it. Names of locks belong to the whole server, so the lock's name contains the database's. The
/// lock is released when the connection ends.
const LOCK: &str = "SELECT GET_LOCK(CONCAT('countersign ', SHA1(DATABASE())), ?)";

const APPLIED: &str = "SELECT version, checksum FROM countersign_migration ORDER BY version";

const NOTE: &str = "INSERT INTO countersign_migration (version, name, checksum) VALUES (?, ?, ?)";

/// Finds the tables that another engine than InnoDB keeps.
const OTHER_ENGINES: &str = "
    SELECT TABLE_NAME, ENGINE FROM information_schema.TABLES
    WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE 'countersign|_%' ESCAPE '|' AND ENGINE <> 'InnoDB'";

/// The state of the tables, compared with the changes that are known here.
pub(super) async fn standing(connection: &mut MySqlConnection) -> Result<Standing, sqlx::Error> {
    let tables: i64 = sqlx::raw_sql(HAS_TABLE).fetch_one(&mut *connection).await?.try_get(0)?;
    if tables == 0 {
        return Ok(Standing::Behind(0));
    }
    let applied = sqlx::raw_sql(APPLIED).fetch_all(connection).await?;
    let applied: Result<Vec<_>, sqlx::Error> =
        applied.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect();
    Ok(Standing::of(&applied?, &changes()))
}

/// Makes the changes that are missing. What was made before a failure stays, and the next run continues from there.
pub(super) async fn run(route: &Route) -> Result<(), OpenError> {
    let running = async {
        let mut connection = route.connect(Role::Migrate).await?;
        let seconds = i64::try_from(Standing::DEADLINE.as_secs()).unwrap_or(i64::MAX);
        let _taken: Option<i64> = sqlx::query_scalar(LOCK)
            .bind(seconds)
            .persistent(false)
            .fetch_one(&mut connection)
            .await
            .map_err(OpenError::engine)?;
        sqlx::raw_sql(CREATE_TABLE).execute(&mut connection).await.map_err(OpenError::engine)?;
        let applied = match standing(&mut connection).await.map_err(OpenError::engine)? {
            Standing::Current => changes().len(),
            Standing::Behind(applied) => applied,
            Standing::Other(version) => return Err(OpenError::UnknownChange { version }),
        };
        for change in changes().into_iter().skip(applied) {
            sqlx::raw_sql(change.sql).execute(&mut connection).await.map_err(OpenError::engine)?;
            let note = sqlx::query(NOTE).persistent(false).bind(change.version);
            let note = note.bind(change.description.into_owned()).bind(change.checksum.into_owned());
            if let Err(error) = note.execute(&mut connection).await
                // Another node of a cluster has made the change at the same time.
                && !error.as_database_error().is_some_and(|error| error.is_unique_violation())
            {
                return Err(OpenError::engine(error));
            }
        }
        connection.close().await.map_err(OpenError::engine)
    };
    tokio::time::timeout(Standing::DEADLINE, running).await.map_err(|_| OpenError::Deadline)?
}

/// Checks that every table is kept by InnoDB, whose transactions the store's promises rest on.
///
/// # Errors
/// [`OpenError::TableWithoutTransactions`] if another engine keeps a table.
pub(super) async fn check_engines(connection: &mut MySqlConnection) -> Result<(), OpenError> {
    let other = sqlx::raw_sql(OTHER_ENGINES).fetch_optional(connection).await.map_err(OpenError::engine)?;
    let Some(row) = other else { return Ok(()) };
    let text = |column: usize| row.try_get_unchecked(column).map_err(OpenError::engine);
    Err(OpenError::TableWithoutTransactions { table: text(0)?, engine: text(1)? })
}
