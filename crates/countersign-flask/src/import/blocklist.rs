//! Asking a Flask application's own table of revoked tokens, for as long as both are in use.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use sqlx::{AssertSqlSafe, MySqlPool, PgPool, SqlitePool};
use uuid::Uuid;

use super::columns::{JTI, TOKEN_REVOKED};
use super::row::shown;
use super::source::{
    Database, Dialect, NotRead, Source, Table, cells_of_mysql, cells_of_postgres, cells_of_sqlite,
};
use super::tables::BLOCKLIST;
use super::value::{Cell, Switch, switch};

/// The time that the database has for an answer. A token is refused for now if there is none by then.
const PATIENCE: Duration = Duration::from_secs(2);
/// Connections to the application's database.
const CONNECTIONS: u32 = 4;

/// The tables of revoked tokens of a Flask application, which are asked about each token.
///
/// A table has one `jti` a row. Where it has a column `revoked` or `is_revoked`, the row counts if that is on.
///
/// ```
/// use countersign_flask::import::Blocklist;
/// # use sqlx::Connection as _;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let url = format!("sqlite://{}", folder.path().join("flask.db").display());
/// # let mut database = sqlx::SqliteConnection::connect(&format!("{url}?mode=rwc")).await?;
/// # for statement in [
/// #     "CREATE TABLE token_blocklist (id INTEGER PRIMARY KEY, jti TEXT, created_at TEXT)",
/// #     "INSERT INTO token_blocklist VALUES (1, 'da0c2a1f-6b1e-4f0a-9c34-2a7d6a3c7c10', '2026-01-31')",
/// # ] {
/// #     sqlx::query(statement).execute(&mut database).await?;
/// # }
/// # database.close().await?;
/// let blocklist = Blocklist::open(&url, None).await?;
/// assert!(blocklist.contains("da0c2a1f-6b1e-4f0a-9c34-2a7d6a3c7c10").await?);
/// assert!(!blocklist.contains("another").await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Blocklist {
    pool: Pool,
    questions: Vec<Question>,
}

#[derive(Clone)]
enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
    Mysql(MySqlPool),
}

/// A query that has one row for each row of a table with this `jti`.
#[derive(Clone)]
struct Question {
    sql: String,
    /// The parameter must be the text of a UUID.
    takes_uuid: bool,
}

impl fmt::Debug for Blocklist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables: Vec<_> = self.questions.iter().map(|question| &question.sql).collect();
        f.debug_struct("Blocklist").field("questions", &tables).finish_non_exhaustive()
    }
}

impl Blocklist {
    /// Opens the database that the URL names (`sqlite://`, `postgres://` or `mysql://`) and finds the tables of revoked
    /// tokens: the one with this name, otherwise all with a usual name, such as `token_blocklist`.
    ///
    /// # Errors
    /// The reason why there is no table to ask, without the URL, which may hold a password.
    pub async fn open(url: &str, table: Option<&str>) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let database = Database::parse(url).map_err(|error| error.to_string())?;
        let questions = Self::questions(&database, table).await.map_err(|error| error.to_string())?;
        let pool = match database {
            Database::Sqlite(options) => Pool::Sqlite(
                sqlx::pool::PoolOptions::new()
                    .max_connections(CONNECTIONS)
                    .acquire_timeout(PATIENCE)
                    .connect_lazy_with(options),
            ),
            Database::Postgres(options) => Pool::Postgres(
                sqlx::pool::PoolOptions::new()
                    .max_connections(CONNECTIONS)
                    .acquire_timeout(PATIENCE)
                    .connect_lazy_with(options),
            ),
            Database::Mysql(options) => Pool::Mysql(
                sqlx::pool::PoolOptions::new()
                    .max_connections(CONNECTIONS)
                    .acquire_timeout(PATIENCE)
                    .connect_lazy_with(options),
            ),
        };
        Ok(Self { pool, questions })
    }

    /// One question for each table that is asked.
    async fn questions(database: &Database, table: Option<&str>) -> Result<Vec<Question>, Box<dyn Error>> {
        let mut source = Source::connect(database).await?;
        let tables = source.tables().await?;
        source.close().await;
        let found: Vec<_> = match BLOCKLIST.find_named(&tables, table)? {
            Some(table) => vec![table],
            None => BLOCKLIST.find_all(&tables).collect(),
        };
        if found.is_empty() {
            let with_jti = tables.iter().filter(|table| table.column("jti").is_some());
            let with_jti: Vec<_> = with_jti.map(|table| shown(&table.name)).collect();
            return Err(match with_jti.as_slice() {
                [] => "no table of the Flask application's database has a column jti".into(),
                names => format!(
                    "no table has a usual name of a blocklist: say which one it is, such as {}",
                    names.join(", ")
                )
                .into(),
            });
        }
        Ok(found.into_iter().filter_map(|table| Question::of(database.dialect(), table)).collect())
    }

    /// Whether a token with this id was revoked there.
    ///
    /// # Errors
    /// The database did not answer within two seconds. Whoever cannot know must not accept the token.
    pub async fn contains(&self, jti: &str) -> Result<bool, BlocklistError> {
        tokio::time::timeout(PATIENCE, self.ask(jti)).await.map_err(|_| BlocklistError::Silent)?
    }

    async fn ask(&self, jti: &str) -> Result<bool, BlocklistError> {
        for Question { sql, takes_uuid } in &self.questions {
            // SQLAlchemy writes UUIDs without hyphens where the database has no type of their own.
            let other = match Uuid::try_parse(jti) {
                Ok(uuid) => uuid.simple().to_string(),
                Err(_) if *takes_uuid => continue,
                Err(_) => jti.to_owned(),
            };
            let sql = AssertSqlSafe(sql.as_str());
            let rows: Vec<Vec<Cell>> = match &self.pool {
                Pool::Sqlite(pool) => {
                    let rows = sqlx::query(sql)
                        .bind(jti)
                        .bind(&other)
                        .fetch_all(pool)
                        .await
                        .map_err(NotRead::from)?;
                    rows.iter().map(cells_of_sqlite).collect()
                }
                Pool::Postgres(pool) => {
                    // Connection poolers know no statements of an earlier transaction.
                    let query = sqlx::query(sql).persistent(false);
                    let rows = query.bind(jti).bind(&other).fetch_all(pool).await.map_err(NotRead::from)?;
                    rows.iter().map(cells_of_postgres).collect()
                }
                Pool::Mysql(pool) => {
                    let rows = sqlx::query(sql)
                        .bind(jti)
                        .bind(&other)
                        .fetch_all(pool)
                        .await
                        .map_err(NotRead::from)?;
                    rows.iter().map(cells_of_mysql).collect()
                }
            };
            if rows.iter().any(|row| counts(row)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Question {
    /// The question to a table; `None` if it has no column `jti`.
    fn of(dialect: Dialect, table: &Table) -> Option<Self> {
        let jti = JTI.iter().find_map(|name| table.column(name))?;
        let switches = TOKEN_REVOKED.iter().filter_map(|name| table.column(name));
        let mut list: Vec<_> = switches.map(|column| dialect.expression(column)).collect();
        if list.is_empty() {
            list.push("'1'".to_owned());
        }
        let (name, mark) = (jti.quoted(dialect.mark()), dialect.mark());
        let takes_uuid = jti.kind() == "uuid";
        let is_asked = match (dialect, jti.kind()) {
            (Dialect::Postgres, "uuid") => format!("{name} IN ($1::uuid, $2::uuid)"),
            // Another type would keep the column's index from being used, but the query would still be right.
            (Dialect::Postgres, kind) if kind != "text" && !kind.starts_with("character") => {
                format!("({name})::text IN ($1, $2)")
            }
            (Dialect::Postgres, _) => format!("{name} IN ($1, $2)"),
            (Dialect::Sqlite | Dialect::Mysql, _) => format!("{name} IN (?, ?)"),
        };
        let sql = format!("SELECT {} FROM {} WHERE {is_asked}", list.join(", "), table.quoted(mark));
        Some(Self { sql, takes_uuid })
    }
}

/// Whether a row says that the token was revoked. A value that is neither on nor off counts as on.
fn counts(switches: &[Cell]) -> bool {
    switches.iter().any(|cell| switch(cell) != Switch::Off)
}

/// The blocklist could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlocklistError {
    /// The database refused or failed.
    #[error(transparent)]
    NotRead(#[from] NotRead),
    /// The database did not answer in time.
    #[error("the Flask application's database does not answer")]
    Silent,
}
