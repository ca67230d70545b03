//! Finding the tables that hold users, sessions and revoked tokens in a database, and reading them.

use std::error::Error;

use super::columns;
use super::roles::Memberships;
use super::row::{Rows, Say, shown};
use super::source::{Column, Source, Table};

/// The names by which one kind of table is recognised.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) what: &'static str,
    /// The option of `countersign import flask` that names another table.
    pub(super) option: &'static str,
    /// The usual names of the table.
    pub(super) tables: &'static [&'static str],
    /// Lists of columns, of each of which the table must have at least one.
    pub(super) required: &'static [&'static [&'static str]],
    /// Lists of columns, of each of which the first existing one is read.
    pub(super) first_of: &'static [&'static [&'static str]],
    /// Columns of which every existing one is read.
    pub(super) every: &'static [&'static [&'static str]],
}

pub(super) const USERS: Wanted = Wanted {
    what: "users",
    option: "--users-table",
    tables: &["user", "users"],
    required: &[columns::ID, &["email", "username", "name"]],
    first_of: &[
        columns::ID,
        columns::EMAIL,
        columns::USERNAME,
        columns::PASSWORD,
        columns::REGISTERED,
        columns::ROLE_ID,
    ],
    every: &[columns::ACTIVE, columns::DISABLED, columns::VERIFIED],
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

pub(super) const BLOCKLIST: Wanted = Wanted {
    what: "revoked tokens",
    option: "--blocklist-table",
    tables: &[
        "token_blocklist",
        "token_blocklists",
        "tokenblocklist",
        "token_blacklist",
        "token_blacklists",
        "tokenblacklist",
        "blocklist",
        "blacklist",
        "blocklisted_token",
        "blocklisted_tokens",
        "blacklisted_token",
        "blacklisted_tokens",
        "jwt_blocklist",
        "jwt_blacklist",
        "revoked_token",
        "revoked_tokens",
        "revokedtoken",
        "revokedtokens",
        "revoked_token_model",
    ],
    required: &[columns::JTI],
    first_of: &[
        columns::ID,
        columns::JTI,
        columns::TOKEN_TYPE,
        columns::TOKEN_OWNER,
        columns::TOKEN_SINCE,
        columns::TOKEN_EXPIRES,
    ],
    every: &[columns::TOKEN_REVOKED],
};

/// The tables and the column that are named, in place of those that are recognised.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableNames<'a> {
    /// The table of the users.
    pub users: Option<&'a str>,
    /// The table of the sessions.
    pub sessions: Option<&'a str>,
    /// The table of the revoked tokens.
    pub blocklist: Option<&'a str>,
    /// The column of the users' table that holds their roles.
    pub roles_column: Option<&'a str>,
}

/// What was read of an application's database.
#[derive(Debug)]
pub struct Tables {
    /// The users.
    pub users: Rows,
    /// The roles that users have by other tables than their own.
    pub memberships: Memberships,
    /// The sessions, if there is a table of them.
    pub sessions: Option<Rows>,
    /// The revoked tokens, table by table.
    pub blocklists: Vec<Rows>,
    /// The tables that have a column `jti` and were not read, for the terminal.
    pub left: Vec<String>,
}

/// Reads the table of the users and, if they are there, those of the roles, the sessions and the revoked tokens, then
/// closes the connection. The tables are the named ones, otherwise those that are recognised.
///
/// ```
/// use countersign_flask::import::{TableNames, columns, read_tables};
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
/// let tables = read_tables(&url, TableNames::default(), |line| println!("{line}")).await?;
/// let addresses: Vec<_> = tables.users.iter().filter_map(|user| user.text(columns::EMAIL)).collect();
/// assert_eq!(addresses, ["ada@example.org"]);
/// assert!(tables.sessions.is_none(), "this application keeps no sessions in its database");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The reason why a table cannot be read, without the URL, which may hold a password.
pub async fn read_tables(from: &str, names: TableNames<'_>, say: Say) -> Result<Tables, Box<dyn Error>> {
    let mut source = Source::open(from).await?;
    let tables = source.tables().await?;
    let users_table = USERS.find(&tables, names.users)?.ok_or_else(|| {
        format!(
            "there is no table {} with the columns id and email or username; say which one it is with {} TABLE",
            USERS.tables.join(" or "),
            USERS.option
        )
    })?;
    let roles = match names.roles_column {
        Some(name) => Some(users_table.column(name).ok_or_else(|| {
            format!("--roles-column: the table {} has no such column", shown(&users_table.name))
        })?),
        None => columns::ROLES.iter().find_map(|name| users_table.column(name)),
    };
    let sessions_table = SESSIONS.find(&tables, names.sessions)?;
    let blocklist_tables: Vec<_> = match BLOCKLIST.find_named(&tables, names.blocklist)? {
        Some(table) => vec![table],
        None => BLOCKLIST.find_all(&tables).collect(),
    };
    let users = Rows::read(&mut source, &USERS, users_table, roles, say).await?;
    let memberships = Memberships::read(&mut source, &tables, say).await?;
    let sessions = match sessions_table {
        Some(table) => Some(Rows::read(&mut source, &SESSIONS, table, None, say).await?),
        None => None,
    };
    let mut blocklists = Vec::new();
    for table in &blocklist_tables {
        blocklists.push(Rows::read(&mut source, &BLOCKLIST, table, None, say).await?);
    }
    source.close().await;
    if users.is_empty() {
        return Err(
            format!("the table {} is empty: there is nothing to bring over", shown(users.table())).into()
        );
    }
    let is_read = |table: &&Table| blocklist_tables.iter().any(|read| std::ptr::eq(*read, *table));
    let has_jti = |table: &&Table| columns::JTI.iter().any(|name| table.column(name).is_some());
    let left = tables.iter().filter(has_jti).filter(|table| !is_read(table));
    let left = left.map(|table| shown(&table.name)).collect();
    Ok(Tables { users, memberships, sessions, blocklists, left })
}

impl Wanted {
    /// The table that was named, otherwise the one that is recognised; `None` if there is none.
    fn find<'t>(
        &self,
        tables: &'t [Table],
        named: Option<&str>,
    ) -> Result<Option<&'t Table>, Box<dyn Error>> {
        if named.is_some() {
            return self.find_named(tables, named);
        }
        let fitting: Vec<_> = self.find_all(tables).collect();
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

    /// The table that was named, if one was.
    pub(super) fn find_named<'t>(
        &self,
        tables: &'t [Table],
        named: Option<&str>,
    ) -> Result<Option<&'t Table>, Box<dyn Error>> {
        let Some(named) = named else { return Ok(None) };
        let table = tables.iter().find(|table| table.is_called(named));
        let table = table.ok_or_else(|| format!("{}: there is no such table", self.option))?;
        match self.missing(table) {
            None => Ok(Some(table)),
            Some(column) => {
                Err(format!("{}: the table {} has no column {column}", self.option, shown(&table.name))
                    .into())
            }
        }
    }

    /// All tables with a usual name and the required columns.
    pub(super) fn find_all<'t>(&self, tables: &'t [Table]) -> impl Iterator<Item = &'t Table> {
        let is_usual = |table: &&Table| {
            table.is_near && self.tables.iter().any(|name| name.eq_ignore_ascii_case(&table.name))
        };
        tables.iter().filter(move |table| is_usual(table) && self.missing(table).is_none())
    }

    /// The columns of which the table lacks one that is required.
    fn missing(&self, table: &Table) -> Option<String> {
        let is_missing = |names: &&&[&str]| names.iter().all(|name| table.column(name).is_none());
        self.required.iter().find(is_missing).map(|names| names.join(" or "))
    }

    /// The columns of a table that have a meaning here.
    pub(super) fn columns<'t>(&self, table: &'t Table) -> Vec<&'t Column> {
        let first = self.first_of.iter().filter_map(|names| names.iter().find_map(|name| table.column(name)));
        let every = self.every.iter().flat_map(|names| names.iter().filter_map(|name| table.column(name)));
        first.chain(every).collect()
    }
}
