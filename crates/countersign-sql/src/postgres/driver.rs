//! How PostgreSQL's driver carries out statements, and what its errors mean.

use countersign_core::store::BoxError;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgArguments, PgDatabaseError, PgQueryResult, PgRow, PgSeverity};
use sqlx::query::Query;
use sqlx::{
    Arguments as _, AssertSqlSafe, ConnectOptions as _, Encode, PgConnection, Postgres, SqlSafeStr, SqlStr,
    Type,
};

use super::server::{Role, Route};
use crate::server::{Fate, Server};
use crate::statement::{Driver, Statement, Value};

impl Driver for Postgres {
    const STORE: &'static str = "postgres";

    fn add(arguments: &mut PgArguments, value: Value<'_>) -> Result<(), BoxError> {
        match value {
            Value::Number(number) => arguments.add(number),
            Value::Count(count) => arguments.add(i64::try_from(count)?),
            Value::Text(text) => arguments.add(text.as_deref()),
            Value::Bytes(bytes) => arguments.add(&*bytes),
        }
    }

    async fn execute(
        connection: &mut PgConnection,
        query: Query<'static, Self, PgArguments>,
    ) -> Result<PgQueryResult, sqlx::Error> {
        query.execute(connection).await
    }

    async fn fetch(
        connection: &mut PgConnection,
        query: Query<'static, Self, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        query.fetch_all(connection).await
    }

    fn changed(done: &PgQueryResult) -> u64 {
        done.rows_affected()
    }
}

impl<Y> Statement<Postgres, Y> {
    /// Binds an array as the next parameter.
    #[must_use]
    pub(super) fn bind_list<T>(self, values: impl IntoIterator<Item = T>) -> Self
    where
        for<'t> Vec<T>: Encode<'t, Postgres> + Type<Postgres>,
    {
        self.bind_with(|arguments| arguments.add(values.into_iter().collect::<Vec<_>>()))
    }
}

/// Connections of one role.
#[derive(Clone, Debug)]
pub(super) struct RouteFor {
    route: Route,
    role: Role,
}

impl RouteFor {
    pub(super) fn new(route: &Route, role: Role) -> Self {
        Self { route: route.clone(), role }
    }
}

impl Server for RouteFor {
    type Driver = Postgres;

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.route.options(self.role).connect().await
    }

    fn keeps_statements(&self) -> bool {
        self.route.keeps_statements()
    }

    fn begin(&self) -> SqlStr {
        if self.route.is_direct() {
            return "BEGIN".into_sql_str();
        }
        // The connection could not be given the deadline when it was opened, so each transaction sets it. Nothing in
        // this text comes from outside.
        let millis = self.route.deadline().as_millis();
        AssertSqlSafe(format!(
            "BEGIN; SET LOCAL statement_timeout = {millis}; SET LOCAL idle_in_transaction_session_timeout = {millis}"
        ))
        .into_sql_str()
    }

    async fn send(connection: &mut PgConnection, sql: SqlStr) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sql).execute(connection).await.map(drop)
    }

    fn fate(error: &dyn DatabaseError) -> Fate {
        let Some(error) = error.try_downcast_ref::<PgDatabaseError>() else { return Fate::Broken };
        match error.code() {
            // serialization_failure, deadlock_detected
            "40001" | "40P01" => Fate::Conflict,
            // invalid_sql_statement_name; feature_not_supported: a cached plan that no longer fits
            "26000" | "0A000" => Fate::Stale,
            // read_only_sql_transaction: once a primary, now a standby
            "25006" => Fate::Broken,
            _ if error.severity() == PgSeverity::Error => Fate::Usable,
            _ => Fate::Broken,
        }
    }

    fn tellable(error: sqlx::Error) -> BoxError {
        match error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>()) {
            Some(error) => {
                ServerError { code: error.code().to_owned(), message: error.message().to_owned() }.into()
            }
            None => error.into(),
        }
    }
}

/// An error of the server. Its details are left out, because they quote rows.
#[derive(Debug, thiserror::Error)]
#[error("{message} (SQLSTATE {code})")]
struct ServerError {
    code: String,
    message: String,
}
