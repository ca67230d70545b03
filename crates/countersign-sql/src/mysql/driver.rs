//! How MySQL's driver carries out statements, and what its errors mean.

use countersign_core::store::BoxError;
use sqlx::error::DatabaseError;
use sqlx::mysql::{MySqlArguments, MySqlDatabaseError, MySqlQueryResult, MySqlRow};
use sqlx::query::Query;
use sqlx::{Arguments as _, MySql, MySqlConnection, SqlStr};

use super::server::{Role, Route};
use crate::OpenError;
use crate::server::{Fate, Server};
use crate::statement::{Driver, Value};

/// Reads text from a column that holds it as bytes, which no character set changes. Only here, at the last moment, do
/// the bytes become text.
macro_rules! converted {
    ($first:literal $first_kind:ident $(, $name:literal $kind:ident)*) => {
        concat!(converted!(@ $first $first_kind) $(, ", ", converted!(@ $name $kind))*)
    };
    (@ $name:literal text) => { concat!("CONVERT(", $name, " USING utf8mb4)") };
    (@ $name:literal optional_text) => { converted!(@ $name text) };
    (@ $name:literal $kind:ident) => { $name };
}

/// A parameter mark for the value of each column.
macro_rules! marks {
    ($_first:literal $_first_kind:ident $(, $name:literal $kind:ident)*) => {
        concat!("?" $(, marks!(@ $name))*)
    };
    (@ $name:literal) => { ", ?" };
}

/// An assignment of a parameter to each column.
macro_rules! assignments {
    ($first:literal $_first_kind:ident $(, $name:literal $_kind:ident)*) => {
        concat!($first, " = ?" $(, ", ", $name, " = ?")*)
    };
}

impl Driver for MySql {
    const STORE: &'static str = "mysql";

    fn add(arguments: &mut MySqlArguments, value: Value<'_>) -> Result<(), BoxError> {
        match value {
            Value::Number(number) => arguments.add(number),
            Value::Count(count) => arguments.add(i64::try_from(count)?),
            // Text is sent as bytes, which no character set changes.
            Value::Text(text) => arguments.add(text.as_deref().map(str::as_bytes)),
            Value::Bytes(bytes) => arguments.add(&*bytes),
        }
    }

    async fn execute(
        connection: &mut MySqlConnection,
        query: Query<'static, Self, MySqlArguments>,
    ) -> Result<MySqlQueryResult, sqlx::Error> {
        query.execute(connection).await
    }

    async fn fetch(
        connection: &mut MySqlConnection,
        query: Query<'static, Self, MySqlArguments>,
    ) -> Result<Vec<MySqlRow>, sqlx::Error> {
        query.fetch_all(connection).await
    }

    /// The number of rows that an update has found. It includes rows that the update left as they were, because the
    /// driver asks the server to count so.
    fn changed(done: &MySqlQueryResult) -> u64 {
        done.rows_affected()
    }
}

impl Server for Route {
    type Driver = MySql;

    async fn connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        Self::connect(self, Role::Work).await.map_err(OpenError::into_driver_error)
    }

    async fn send(connection: &mut MySqlConnection, sql: SqlStr) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sql).execute(connection).await.map(drop)
    }

    fn fate(error: &dyn DatabaseError) -> Fate {
        let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() else { return Fate::Broken };
        match error.number() {
            // ER_LOCK_DEADLOCK, also when a cluster refuses a transaction; ER_LOCK_WAIT_TIMEOUT; ER_CHECKREAD: another
            // transaction has changed the row; ER_TRANSACTION_ROLLBACK_DURING_COMMIT: the group refuses the transaction
            1213 | 1205 | 1020 | 3101 => Fate::Conflict,
            // ER_CLIENT_INTERACTION_TIMEOUT; ER_UNKNOWN_STMT_HANDLER; ER_NEED_REPREPARE
            4031 | 1243 | 1615 => Fate::Stale,
            // ER_CON_COUNT_ERROR; ER_UNKNOWN_COM_ERROR: a node that has left its cluster; ER_SERVER_SHUTDOWN;
            // the connection's own errors; ER_OPTION_PREVENTS_STATEMENT,
            // ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION and ER_READ_ONLY_MODE: once a primary, now a replica;
            // ER_CONNECTION_KILLED
            1040 | 1047 | 1053 | 1152..=1161 | 1290 | 1792 | 1836 | 1927 => Fate::Broken,
            _ => Fate::Usable,
        }
    }

    fn tellable(error: sqlx::Error) -> BoxError {
        let Some(error) =
            error.as_database_error().and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>())
        else {
            return error.into();
        };
        // Errors that help an operator and whose messages hold only names of users, hosts, tables and settings: full
        // disk or table, too many connections, no right, no such database, table, column or setting, shutdown, value
        // too long, read only, deadlock, lock wait and statement timeouts, too many statements, killed, interrupted.
        let is_plain = matches!(
            error.number(),
            1021 | 1040 | 1044
                ..=1047
                    | 1049
                    | 1053
                    | 1054
                    | 1114
                    | 1129
                    | 1130
                    | 1142
                    | 1143
                    | 1146
                    | 1193
                    | 1203
                    | 1205
                    | 1213
                    | 1226
                    | 1227
                    | 1290
                    | 1317
                    | 1406
                    | 1461
                    | 1792
                    | 1836
                    | 1927
                    | 1969
                    | 3024
                    | 4031
        );
        let message = is_plain.then(|| format!("{}; ", error.message()));
        let state = error.code().unwrap_or_default().to_owned();
        ServerError { number: error.number(), state, message }.into()
    }
}

/// An error of the server, without what it quotes of statements or rows.
#[derive(Debug, thiserror::Error)]
#[error("{}error {number} (SQLSTATE {state})", message.as_deref().unwrap_or_default())]
struct ServerError {
    number: u16,
    state: String,
    message: Option<String>,
}
