//! How to reach the server: what every connection asks for, and what was found to be in between.

use std::fmt;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgDatabaseError};
use sqlx::{ConnectOptions, PgConnection, Postgres, Row};

use super::migrations;
use super::options::PostgresOptions;
use crate::OpenError;
use crate::server::{MigrationsStanding, Way};
use crate::statement::read_all;

/// A route to the server.
#[derive(Clone)]
pub(super) struct Route {
    options: PgConnectOptions,
    deadline: Duration,
    /// Whether settings can be given to the server when a connection is opened.
    settings: bool,
    /// Whether a statement that was prepared on a connection is still there in its next transaction.
    prepared: bool,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// The operations, each with its deadline.
    Work,
    /// The tail of the log.
    Tail,
    /// Waiting for notifications.
    Listen,
    /// Changes of the tables, which may take their time.
    Migrate,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options hold the password.
        f.debug_struct("Route")
            .field("settings", &self.settings)
            .field("prepared", &self.prepared)
            .finish_non_exhaustive()
    }
}

impl Route {
    /// Finds out what is between this program and the server. Returns the first connection as well.
    pub(super) async fn explore(options: &PostgresOptions) -> Result<(Self, PgConnection), OpenError> {
        let route = |settings, prepared| Self {
            options: options.server.clone(),
            deadline: options.settings.deadline,
            settings,
            prepared,
        };
        if options.pooled == Some(true) {
            let route = route(false, false);
            let connection = route.connect(Role::Work).await?;
            return Ok((route, connection));
        }
        let prepared = options.pooled == Some(false);
        match Self::try_settings(route(true, true)).await {
            Ok(Ok(found)) => Ok(found),
            // The settings were accepted and not passed on: a pooler is in between.
            Ok(Err(connection)) => Ok((route(false, prepared), connection)),
            // The connection may have been refused for its settings. If there is another reason, the next attempt fails
            // in the same way.
            Err(error) if is_refusal(&error) => {
                let route = route(false, prepared);
                let connection = route.connect(Role::Work).await?;
                Ok((route, connection))
            }
            Err(error) => Err(error),
        }
    }

    /// A route that is assumed to lead straight to the server.
    pub(super) fn straight(options: PgConnectOptions, deadline: Duration) -> Self {
        Self { options, deadline, settings: true, prepared: true }
    }

    /// The route on which to listen with these options, if it leads straight to the server.
    pub(super) async fn to_listen(
        options: PgConnectOptions,
        deadline: Duration,
    ) -> Result<Option<Self>, OpenError> {
        match Self::try_settings(Self::straight(options, deadline)).await {
            Ok(Ok((route, _))) => Ok(Some(route)),
            Ok(Err(_)) => Ok(None),
            Err(error) if is_refusal(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Connects, and checks whether the settings have arrived. Returns the connection alone if they have not.
    async fn try_settings(route: Self) -> Result<Result<(Self, PgConnection), PgConnection>, OpenError> {
        let mut connection = route.connect(Role::Work).await?;
        let asking = sqlx::raw_sql("SELECT setting FROM pg_settings WHERE name = 'statement_timeout'")
            .fetch_one(&mut connection);
        let row = tokio::time::timeout(route.deadline, asking).await;
        let row = row.map_err(|_| OpenError::Deadline)?.map_err(OpenError::engine)?;
        let found: String = row.try_get(0).map_err(OpenError::engine)?;
        Ok(if found == route.deadline.as_millis().to_string() {
            Ok((route, connection))
        } else {
            Err(connection)
        })
    }

    /// The deadline by which every operation is answered.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Whether a statement that was prepared on a connection is still there in its next transaction.
    pub(super) fn keeps_statements(&self) -> bool {
        self.prepared
    }

    /// Whether the route leads straight to the server, as far as settings tell.
    pub(super) fn is_direct(&self) -> bool {
        self.settings
    }

    /// The options of a connection: where it leads, and what it asks for.
    pub(super) fn options(&self, role: Role) -> PgConnectOptions {
        let options = self.options.clone();
        if !self.settings || role == Role::Migrate {
            return options;
        }
        // A client that gives up closes its connection, but the server notices that only when it next writes to it.
        // Without this limit it would until then wait for locks, and hold the locks that it has.
        let deadline = self.deadline.as_millis().to_string();
        let options = options
            .options([("statement_timeout", &deadline), ("idle_in_transaction_session_timeout", &deadline)]);
        match role {
            // The best plan for the tail depends on how young the requested entries are.
            Role::Tail => options.options([("plan_cache_mode", "force_custom_plan")]),
            Role::Work | Role::Listen | Role::Migrate => options,
        }
    }

    /// Opens a connection.
    pub(super) async fn connect(&self, role: Role) -> Result<PgConnection, OpenError> {
        let options = self.options(role);
        let connecting = tokio::time::timeout(self.deadline, options.connect()).await;
        connecting.map_err(|_| OpenError::Deadline)?.map_err(OpenError::engine)
    }
}

/// Whether a connection may have been refused because of the settings that it asked for.
fn is_refusal(error: &OpenError) -> bool {
    // Classes of errors: connection, protocol; feature not supported; object not in the right state; syntax error.
    let code = error.of_the_driver().and_then(sqlx::Error::as_database_error);
    let code = code.and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    code.is_some_and(|error| {
        ["08", "0A", "22", "42", "55"].iter().any(|class| error.code().starts_with(class))
    })
}

impl Way for Route {
    type Driver = Postgres;

    const NAME: &'static str = "PostgreSQL";

    async fn weaknesses(connection: &mut PgConnection) -> Result<Vec<String>, OpenError> {
        judge(&durability(connection).await.map_err(OpenError::engine)?)
    }

    async fn standing(connection: &mut PgConnection) -> Result<MigrationsStanding, sqlx::Error> {
        migrations::standing(connection).await
    }

    async fn migrate(&self) -> Result<(), OpenError> {
        migrations::run(self).await
    }
}

/// The settings that decide how durably the server keeps what it was told to keep.
async fn durability(connection: &mut PgConnection) -> Result<Vec<(String, String)>, sqlx::Error> {
    let rows = sqlx::raw_sql(
        "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'server_encoding',
            'synchronous_commit', 'synchronous_standby_names')",
    );
    read_all(&rows.fetch_all(connection).await?)
}

fn judge(settings: &[(String, String)]) -> Result<Vec<String>, OpenError> {
    let value =
        |name: &str| settings.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    if let Some(found) = value("server_encoding").filter(|encoding| *encoding != "UTF8") {
        let (setting, expected) = ("the database's encoding", "UTF8".to_owned());
        return Err(OpenError::Setting { setting, expected, found: found.to_owned() });
    }
    let has_standby = value("synchronous_standby_names").is_some_and(|names| !names.trim().is_empty());
    let mut weaknesses = Vec::new();
    for (name, weak, loss) in [
        (
            "fsync",
            &["off"][..],
            "a crash of the server's machine can lose or damage everything, logouts and accounts among it",
        ),
        (
            "full_page_writes",
            &["off"],
            "a crash of the server's machine can damage pages that were being written, and all that is on them",
        ),
        (
            "synchronous_commit",
            &["off"],
            "a crash of the server can undo what was answered in the last second: logouts, refreshes, registrations",
        ),
        (
            "synchronous_commit",
            if has_standby { &["local"] } else { &[] },
            "a failover to the standby can undo what was answered just before: logouts, refreshes, registrations",
        ),
    ] {
        if let Some(found) = value(name).filter(|found| weak.contains(found)) {
            weaknesses.push(format!("{name} is {found}: {loss}"));
        }
    }
    if !has_standby {
        tracing::info!(
            "synchronous_standby_names is empty: if there is a standby, a failover to it can undo what was answered \
             just before"
        );
    }
    Ok(weaknesses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_settings_are_named_with_what_they_cost() {
        for (settings, expected) in [
            (&[("fsync", "on"), ("synchronous_commit", "on"), ("full_page_writes", "on")][..], &[][..]),
            (&[("fsync", "off")], &["fsync is off"]),
            (&[("full_page_writes", "off")], &["full_page_writes is off"]),
            (&[("synchronous_commit", "off")], &["synchronous_commit is off"]),
            (&[("synchronous_commit", "local"), ("synchronous_standby_names", "")], &[]),
            (
                &[("synchronous_commit", "local"), ("synchronous_standby_names", "*")],
                &["synchronous_commit is local"],
            ),
            (&[("synchronous_commit", "remote_write"), ("synchronous_standby_names", "*")], &[]),
            // Relatives of PostgreSQL lack some settings.
            (&[], &[]),
        ] {
            let settings: Vec<_> =
                settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let found = judge(&settings).unwrap();
            assert_eq!(found.len(), expected.len(), "{settings:?}: {found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.starts_with(expected) && found.len() > expected.len() + 20, "{found}");
            }
        }
    }

    #[test]
    fn an_encoding_that_lacks_characters_is_refused() {
        let latin = [("server_encoding".to_owned(), "LATIN1".to_owned())];
        let refused = judge(&latin).unwrap_err();
        assert_eq!(refused.to_string(), "the database's encoding is LATIN1, but must be UTF8");
    }
}
