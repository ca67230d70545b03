//! How to reach the server: what every connection asks for, and what kind of server it is.

use std::fmt;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlRow};
use sqlx::{AssertSqlSafe, ConnectOptions, MySql, MySqlConnection, Row};

use super::migrations;
use super::options::MySqlOptions;
use crate::OpenError;
use crate::server::{MigrationsStanding, Way};

/// A route to the server.
#[derive(Clone)]
pub(super) struct Route {
    options: MySqlConnectOptions,
    deadline: Duration,
    kind: Kind,
}

/// Whether the server is MySQL or its relative MariaDB. They differ in the names of settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    MariaDb,
    MySql,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// The operations, each with its deadline.
    Work,
    /// Changes of the tables, which may take their time.
    Migrate,
}

/// How long a connection may be idle before the server closes it. A transaction that a vanished client has left open
/// keeps its locks until the server ends it, and MySQL knows no other limit than this one for idle connections, 8 h by
/// default. Our connections show more often than this that they are alive.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// The SQL mode in which a value that is too long is an error and is never cut.
const SQL_MODE: &str = "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION";
const STRICT: &str = "STRICT_ALL_TABLES";
const READ_COMMITTED: &str = "READ-COMMITTED";

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options hold the password.
        f.debug_struct("Route").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Route {
    /// Finds out what kind of server it is. Returns the first connection as well.
    pub(super) async fn explore(options: &MySqlOptions) -> Result<(Self, MySqlConnection), OpenError> {
        let mut route =
            Self { options: options.server.clone(), deadline: options.settings.deadline, kind: Kind::MySql };
        let exploring = async {
            let mut connection = route.options.connect().await.map_err(refusal)?;
            let row = sqlx::raw_sql("SELECT VERSION()").fetch_one(&mut connection).await;
            let row = row.map_err(OpenError::engine)?;
            if text(&row, 0)?.contains("MariaDB") {
                route.kind = Kind::MariaDb;
            }
            route.set_up(&mut connection, Role::Work).await?;
            Ok::<_, OpenError>(connection)
        };
        let connection = tokio::time::timeout(options.settings.deadline, exploring).await;
        let connection = connection.map_err(|_| OpenError::Deadline)??;
        Ok((route, connection))
    }

    /// Opens a connection.
    pub(super) async fn connect(&self, role: Role) -> Result<MySqlConnection, OpenError> {
        let connecting = async {
            let mut connection = self.options.connect().await.map_err(refusal)?;
            self.set_up(&mut connection, role).await?;
            Ok::<_, OpenError>(connection)
        };
        tokio::time::timeout(self.deadline, connecting).await.map_err(|_| OpenError::Deadline)?
    }

    async fn set_up(&self, connection: &mut MySqlConnection, role: Role) -> Result<(), OpenError> {
        for setting in self.settings(role) {
            sqlx::raw_sql(AssertSqlSafe(setting))
                .execute(&mut *connection)
                .await
                .map_err(OpenError::engine)?;
        }
        self.check(connection).await
    }

    /// The statements that set a connection up. They contain only numbers and texts of this file.
    fn settings(&self, role: Role) -> Vec<String> {
        let isolation = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned();
        let wait_timeout = WAIT_TIMEOUT.as_secs();
        let mode =
            format!("SET SESSION sql_mode = '{SQL_MODE}', autocommit = 1, wait_timeout = {wait_timeout}");
        if role == Role::Migrate {
            return vec![isolation, mode];
        }
        let millis = self.deadline.as_millis();
        let limits = match self.kind {
            Kind::MariaDb => format!(
                "max_statement_time = {}.{:03}, idle_transaction_timeout = {}",
                millis / 1_000,
                millis % 1_000,
                self.deadline.as_secs().saturating_add(2)
            ),
            Kind::MySql => format!("max_execution_time = {millis}"),
        };
        // Lock waits are counted in whole seconds. An operation that has waited that long is tried again while the
        // deadline allows it.
        let lock_wait = (self.deadline.as_secs() / 3).max(1);
        vec![isolation, format!("{mode}, innodb_lock_wait_timeout = {lock_wait}, {limits}")]
    }

    /// Reads the settings back that the store's promises rest on, because a proxy may not have passed them on.
    async fn check(&self, connection: &mut MySqlConnection) -> Result<(), OpenError> {
        let row = match self.kind {
            Kind::MariaDb => "SELECT @@SESSION.sql_mode, @@SESSION.tx_isolation",
            Kind::MySql => "SELECT @@SESSION.sql_mode, @@SESSION.transaction_isolation",
        };
        let row = sqlx::raw_sql(row).fetch_one(connection).await.map_err(OpenError::engine)?;
        let (mode, isolation) = (text(&row, 0)?, text(&row, 1)?);
        if !mode.split(',').any(|mode| mode == STRICT) {
            return Err(OpenError::Setting { setting: "sql_mode", expected: STRICT.to_owned(), found: mode });
        }
        if isolation != READ_COMMITTED {
            let setting = "the isolation level";
            return Err(OpenError::Setting {
                setting,
                expected: READ_COMMITTED.to_owned(),
                found: isolation,
            });
        }
        Ok(())
    }
}

/// The reason why the server refused the connection.
fn refusal(error: sqlx::Error) -> OpenError {
    match &error {
        // To encrypt the password alone, without TLS, the driver would need the crate `rsa`, which leaks its keys by
        // timing (RUSTSEC-2023-0071).
        sqlx::Error::Configuration(cause) if cause.to_string().starts_with("RSA") => {
            OpenError::PasswordNeedsTls
        }
        _ => OpenError::engine(error),
    }
}

/// A column as text, whatever character set the server states for it.
fn text(row: &MySqlRow, column: usize) -> Result<String, OpenError> {
    row.try_get_unchecked(column).map_err(OpenError::engine)
}

impl Way for Route {
    type Driver = MySql;

    const NAME: &'static str = "MySQL";

    async fn weaknesses(connection: &mut MySqlConnection) -> Result<Vec<String>, OpenError> {
        judge(&durability(connection).await?)
    }

    async fn standing(connection: &mut MySqlConnection) -> Result<MigrationsStanding, sqlx::Error> {
        migrations::standing(connection).await
    }

    async fn migrate(&self) -> Result<(), OpenError> {
        migrations::run(self).await
    }
}

/// The settings that decide how durably the server keeps what it was told to keep.
async fn durability(connection: &mut MySqlConnection) -> Result<Vec<(String, String)>, OpenError> {
    let rows = sqlx::raw_sql(
        "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('binlog_format', 'innodb_doublewrite', 'innodb_flush_method',
            'innodb_flush_log_at_trx_commit', 'log_bin', 'rpl_semi_sync_master_enabled',
            'rpl_semi_sync_source_enabled', 'sync_binlog', 'wsrep_on')",
    );
    let rows = rows.fetch_all(connection).await.map_err(OpenError::engine)?;
    rows.iter().map(|row| Ok((text(row, 0)?, text(row, 1)?))).collect()
}

fn judge(settings: &[(String, String)]) -> Result<Vec<String>, OpenError> {
    let value =
        |name: &str| settings.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    let is_on = |name: &str| value(name).is_some_and(|value| matches!(value, "ON" | "1"));
    let has_log = is_on("log_bin");
    if let Some(found) = value("binlog_format").filter(|found| has_log && *found == "STATEMENT") {
        // With STATEMENT the server refuses every write under READ COMMITTED.
        let (setting, expected) = ("binlog_format", "ROW or MIXED".to_owned());
        return Err(OpenError::Setting { setting, expected, found: found.to_owned() });
    }
    let is = |name: &str, weak: &[&str]| value(name).is_some_and(|value| weak.contains(&value));
    let mut weaknesses = Vec::new();
    for (name, is_weak, loss) in [
        (
            "innodb_flush_log_at_trx_commit",
            is("innodb_flush_log_at_trx_commit", &["0", "2"]),
            "a crash of the server's machine can undo what was answered in the last second: logouts, refreshes, \
             registrations",
        ),
        (
            "sync_binlog",
            has_log && !is("sync_binlog", &["1"]),
            "a crash of the server's machine can lose the end of the binary log, and with it what was answered just \
             before: logouts, refreshes, registrations",
        ),
        (
            "innodb_doublewrite",
            is("innodb_doublewrite", &["OFF", "0", "DETECT_ONLY"]),
            "a crash of the server's machine can damage pages that were being written, and all that is on them",
        ),
        (
            "innodb_flush_method",
            is("innodb_flush_method", &["nosync", "littlesync"]),
            "a crash of the server's machine can lose or damage everything, logouts and accounts among it",
        ),
    ] {
        if let Some(found) = value(name).filter(|_| is_weak) {
            weaknesses.push(format!("{name} is {found}: {loss}"));
        }
    }
    let waits =
        is_on("rpl_semi_sync_master_enabled") || is_on("rpl_semi_sync_source_enabled") || is_on("wsrep_on");
    if has_log && !waits {
        tracing::info!(
            "the server waits for no replica: if there is one, a failover to it can undo what was answered just before"
        );
    }
    Ok(weaknesses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(settings: &[(&str, &str)]) -> Result<Vec<String>, OpenError> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        judge(&settings.iter().map(owned).collect::<Vec<_>>())
    }

    #[test]
    fn weak_settings_are_named_with_what_they_cost() {
        for (settings, expected) in [
            (&[("innodb_flush_log_at_trx_commit", "1"), ("innodb_doublewrite", "ON")][..], &[][..]),
            (&[("innodb_flush_log_at_trx_commit", "0")], &["innodb_flush_log_at_trx_commit is 0"]),
            (&[("innodb_flush_log_at_trx_commit", "2")], &["innodb_flush_log_at_trx_commit is 2"]),
            // In MariaDB, 3 is more durable than 1, not less.
            (&[("innodb_flush_log_at_trx_commit", "3")], &[]),
            (&[("log_bin", "OFF"), ("sync_binlog", "0")], &[]),
            (&[("log_bin", "ON"), ("sync_binlog", "1")], &[]),
            (&[("log_bin", "ON"), ("sync_binlog", "0")], &["sync_binlog is 0"]),
            (&[("log_bin", "ON"), ("sync_binlog", "100")], &["sync_binlog is 100"]),
            (&[("innodb_doublewrite", "OFF")], &["innodb_doublewrite is OFF"]),
            (&[("innodb_doublewrite", "DETECT_ONLY")], &["innodb_doublewrite is DETECT_ONLY"]),
            (&[("innodb_flush_method", "nosync")], &["innodb_flush_method is nosync"]),
            (&[("innodb_flush_method", "O_DIRECT")], &[]),
            // Relatives of MySQL lack some settings.
            (&[], &[]),
        ] {
            let found = judged(settings).unwrap();
            assert_eq!(found.len(), expected.len(), "{settings:?}: {found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.starts_with(expected) && found.len() > expected.len() + 20, "{found}");
            }
        }
    }

    #[test]
    fn a_binary_log_of_statements_is_refused() {
        let refused = judged(&[("log_bin", "ON"), ("binlog_format", "STATEMENT")]);
        assert!(matches!(refused, Err(OpenError::Setting { setting: "binlog_format", .. })));
        assert!(judged(&[("log_bin", "OFF"), ("binlog_format", "STATEMENT")]).is_ok());
        assert!(judged(&[("log_bin", "ON"), ("binlog_format", "MIXED")]).is_ok());
    }
}
