//! Finding the tables that hold users and sessions in a database, and reading them.

use std::error::Error;

use super::columns;
use super::row::{Rows, Say, shown};
use super::source::{Column, Source, Table};

/// The names by which one kind of table is recognised.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) what: &'static str,
    /// The option of `countersign import flask` that names another table.
    option: &'static str,
    /// The usual names of the table.
    tables: &'static [&'static str],
    /// Lists of columns, of each of which the table must have at least one.
    required: &'static [&'static [&'static str]],
    /// Lists of columns, of each of which the first existing one is read.
    first_of: &'static [&'static [&'static str]],
    /// Columns of which every existing one is read.
    every: &'static [&'static [&'static str]],
}

pub(super) const USERS: Wanted = Wanted {
    what: "users",
    option: "--users-table",
    tables: &["user", "users"],
    required: &[columns::ID, columns::EMAIL],
    first_of: &[columns::ID, columns::EMAIL, columns::USERNAME, columns::PASSWORD, columns::REGISTERED],
    every: &[columns::ACTIVE, columns::DISABLED],
};

pub(super) const SESSIONS: Wanted = Wanted {
    what: "sessions",
    option: "--sessions-table",
    tables: &["session", "sessions", "user_session", "user_sessions"],
    required: &[columns::OWNER, columns::ACCESS, columns::REFRESH],
    first_of: &[
        columns::ID,
        columns::OWNER,
        columns::ACCESS,
        columns::REFRESH,
        columns::BEGAN,
        columns::EXPIRES,
        columns::AGENT,
        columns::IP,
    ],
    every: &[columns::REVOKED, columns::ACTIVE],
};

/// Reads the table of the users and, if there is one, that of the sessions, then closes the connection. The tables are
/// the named ones, otherwise those that are recognised.
///
/// ```
/// use countersign_flask::import::{columns, read_tables};
/// # use sqlx::Connection as _;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let url = format!("sqlite://{}", folder.path().join("flask.db").display());
/// # let mut database = sqlx::SqliteConnection::connect(&format!("{url}?mode=rwc")).await?;
/// # for statement in [
/// #     "CREATE TABLE user (id INTEGER PRIMARY KEY, email TEXT, password TEXT)",
/// #     "INSERT INTO user VALUES (17, 'ada@example.org', 'scrypt:32768:8:1$c2FsdA$00')",
/// # ] {
/// #     sqlx::query(statement).execute(&mut database).await?;
/// # }
/// # database.close().await?;
/// let (users, sessions) = read_tables(&url, None, None, |line| println!("{line}")).await?;
/// let addresses: Vec<_> = users.iter().filter_map(|user| user.text(columns::EMAIL)).collect();
/// assert_eq!(addresses, ["ada@example.org"]);
/// assert!(sessions.is_none(), "this application keeps no sessions in its database");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The reason why a table cannot be read, without the URL, which may hold a password.
pub async fn read_tables(
    from: &str,
    users_table: Option<&str>,
    sessions_table: Option<&str>,
    say: Say,
) -> Result<(Rows, Option<Rows>), Box<dyn Error>> {
    let mut source = Source::open(from).await?;
    let tables = source.tables().await?;
    let users = USERS.find(&tables, users_table)?.ok_or_else(|| {
        format!(
            "there is no table {} with the columns id and email; say which one it is with {} TABLE",
            USERS.tables.join(" or "),
            USERS.option
        )
    })?;
    let sessions = SESSIONS.find(&tables, sessions_table)?;
    let users = Rows::read(&mut source, &USERS, users, say).await?;
    let sessions = match sessions {
        Some(table) => Some(Rows::read(&mut source, &SESSIONS, table, say).await?),
        None => None,
    };
    source.close().await;
    if users.is_empty() {
        return Err(
            format!("the table {} is empty: there is nothing to bring over", shown(users.table())).into()
        );
    }
    Ok((users, sessions))
}

impl Wanted {
    /// The table that was named, otherwise the one that is recognised; `None` if there is none.
    fn find<'t>(
        &self,
        tables: &'t [Table],
        named: Option<&str>,
    ) -> Result<Option<&'t Table>, Box<dyn Error>> {
        let missing = |table: &Table| {
            let is_missing = |names: &&&[&str]| names.iter().all(|name| table.column(name).is_none());
            self.required.iter().find(is_missing).map(|names| names.join(" or "))
        };
        if let Some(named) = named {
            let table = tables.iter().find(|table| table.is_called(named));
            let table = table.ok_or_else(|| format!("{}: there is no such table", self.option))?;
            return match missing(table) {
                None => Ok(Some(table)),
                Some(column) => {
                    Err(format!("{}: the table {} has no column {column}", self.option, shown(&table.name))
                        .into())
                }
            };
        }
        let is_usual = |table: &&Table| {
            table.is_near && self.tables.iter().any(|name| name.eq_ignore_ascii_case(&table.name))
        };
        let fitting: Vec<_> =
            tables.iter().filter(is_usual).filter(|table| missing(table).is_none()).collect();
        match fitting.as_slice() {
            [] => Ok(None),
            [table] => Ok(Some(table)),
            [one, other, ..] => Err(format!(
                "both {} and {} may be the table of the {}: say which one it is with {} TABLE",
                shown(&one.name),
                shown(&other.name),
                self.what,
                self.option
            )
            .into()),
        }
    }

    /// The columns of a table that have a meaning here.
    pub(super) fn columns<'t>(&self, table: &'t Table) -> Vec<&'t Column> {
        let first = self.first_of.iter().filter_map(|names| names.iter().find_map(|name| table.column(name)));
        let every = self.every.iter().flat_map(|names| names.iter().filter_map(|name| table.column(name)));
        first.chain(every).collect()
    }
}
