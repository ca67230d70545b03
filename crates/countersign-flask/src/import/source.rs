//! Another application's database, which is only read: its tables, their columns, and their rows as texts.

use std::error::Error;
use std::net::Ipv6Addr;
use std::str::FromStr as _;
use std::time::Duration;

use countersign_sql::sqlite::SqliteOptions;
use sqlx::mysql::{MySqlConnectOptions, MySqlRow};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection, MySqlConnection, PgConnection, Row, SqliteConnection,
};

use super::value::Cell;

/// The time that the database has for its first answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to the database, in a transaction that changes nothing and sees everything as it was at its beginning.
#[derive(Debug)]
pub(super) enum Source {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    Mysql(MySqlConnection),
}

/// A table and its columns, by the names that the database itself gives.
#[derive(Debug)]
pub(super) struct Table {
    /// The table's schema, if it must be named.
    schema: Option<String>,
    pub(super) name: String,
    /// Whether the table is found without its schema's name.
    pub(super) is_near: bool,
    pub(super) columns: Vec<Column>,
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    kind: String,
}

impl Column {
    /// The column's name in a query.
    pub(super) fn quoted(&self, mark: char) -> String {
        quoted(&self.name, mark)
    }

    /// The type that the column was declared with, in lower case.
    pub(super) fn kind(&self) -> &str {
        &self.kind
    }

    #[cfg(test)]
    pub(super) fn new(name: &str, kind: &str) -> Self {
        Self { name: name.to_owned(), kind: kind.to_owned() }
    }
}

/// How to connect to a database.
#[derive(Clone)]
pub(super) enum Database {
    Sqlite(SqliteConnectOptions),
    Postgres(PgConnectOptions),
    Mysql(MySqlConnectOptions),
}

impl Database {
    /// The database that the URL names. SQLAlchemy's drivers in the URL (`postgresql+psycopg2`) are ignored.
    ///
    /// # Errors
    /// What the URL must look like, without the URL, which may hold a password.
    pub(super) fn parse(url: &str) -> Result<Self, Box<dyn Error>> {
        const FORM: &str = "the URL must be sqlite:// and the path of a file, or postgres:// or mysql:// with user, \
             password, host and database";
        let (scheme, rest) = url.split_once(':').ok_or(FORM)?;
        Ok(match scheme.split('+').next().unwrap_or_default() {
            "sqlite" => Self::Sqlite(sqlite_options(&format!("sqlite:{rest}"))?),
            "postgres" | "postgresql" => {
                let options = PgConnectOptions::from_str(&format!("postgres:{rest}")).map_err(|_| FORM)?;
                // Connection poolers refuse the parameter that sets how fractions are written.
                let host = without_brackets(options.get_host()).to_owned();
                Self::Postgres(options.host(&host).disable_statement_logging().extra_float_digits(None))
            }
            "mysql" | "mariadb" => {
                let options = MySqlConnectOptions::from_str(&format!("mysql:{rest}")).map_err(|_| FORM)?;
                if options.get_database().is_none() {
                    return Err(FORM.into());
                }
                let host = without_brackets(options.get_host()).to_owned();
                Self::Mysql(options.host(&host).disable_statement_logging())
            }
            _ => return Err(FORM.into()),
        })
    }

    /// How this database writes queries.
    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
            Self::Mysql(_) => Dialect::Mysql,
        }
    }
}

/// How a database writes queries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
    Mysql,
}

impl Dialect {
    /// The expression that reads a column as a text, or as bytes where it may hold something else.
    pub(super) fn expression(self, column: &Column) -> String {
        let name = quoted(&column.name, self.mark());
        match (self, column.kind.as_str()) {
            (Self::Sqlite, _) => format!("CAST({name} AS TEXT)"),
            (Self::Postgres, "bytea") => format!("encode({name}, 'escape')"),
            (Self::Postgres, _) => format!("({name})::text"),
            (Self::Mysql, "bit") => format!("CAST({name} + 0 AS CHAR)"),
            // Binary columns are read as they are: converted to text, a value that is no text would become null.
            (Self::Mysql, kind) if kind.ends_with("binary") || kind.ends_with("blob") => name,
            (Self::Mysql, _) => format!("CAST({name} AS CHAR)"),
        }
    }

    /// The character around delimited identifiers.
    pub(super) fn mark(self) -> char {
        if matches!(self, Self::Mysql) { '`' } else { '"' }
    }
}

impl Source {
    /// Opens the database that the URL names.
    ///
    /// # Errors
    /// The reason, without the URL, which may hold a password.
    pub(super) async fn open(url: &str) -> Result<Self, Box<dyn Error>> {
        Self::connect(&Database::parse(url)?).await
    }

    /// Connects to the database.
    ///
    /// # Errors
    /// The reason.
    pub(super) async fn connect(database: &Database) -> Result<Self, Box<dyn Error>> {
        let opening = async {
            Ok::<_, sqlx::Error>(match database {
                Database::Sqlite(options) => {
                    let mut connection = options.connect().await?;
                    sqlx::raw_sql("BEGIN").execute(&mut connection).await?;
                    Self::Sqlite(connection)
                }
                Database::Postgres(options) => {
                    let mut connection = options.connect().await?;
                    sqlx::raw_sql(
                        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL TIME ZONE 'UTC'; \
                         SET LOCAL DateStyle = 'ISO, YMD'",
                    )
                    .execute(&mut connection)
                    .await?;
                    Self::Postgres(connection)
                }
                Database::Mysql(options) => {
                    let mut connection = options.connect().await?;
                    sqlx::raw_sql("SET time_zone = '+00:00'").execute(&mut connection).await?;
                    sqlx::raw_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
                        .execute(&mut connection)
                        .await?;
                    Self::Mysql(connection)
                }
            })
        };
        match tokio::time::timeout(PATIENCE, opening).await {
            Ok(opened) => Ok(opened.map_err(NotRead)?),
            Err(_) => Err("the Flask application's database does not answer".into()),
        }
    }

    /// All tables that this user may read.
    pub(super) async fn tables(&mut self) -> Result<Vec<Table>, NotRead> {
        let rows = match self {
            Self::Sqlite(connection) => {
                let sql = "SELECT '', m.name, c.name, lower(c.type), 'true' \
                     FROM sqlite_schema AS m JOIN pragma_table_info(m.name) AS c \
                     WHERE m.type = 'table' AND m.sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY m.name, c.cid";
                sqlx::raw_sql(sql).fetch_all(connection).await?.iter().map(cells_of_sqlite).collect()
            }
            Self::Postgres(connection) => {
                let sql = "SELECT table_schema::text, table_name::text, column_name::text, data_type::text, \
                     (table_schema = ANY (current_schemas(false)))::text FROM information_schema.columns \
                     WHERE table_schema NOT IN ('information_schema', 'pg_catalog') \
                     ORDER BY table_schema, table_name, ordinal_position";
                sqlx::raw_sql(sql).fetch_all(connection).await?.iter().map(cells_of_postgres).collect()
            }
            Self::Mysql(connection) => {
                let sql = "SELECT '', table_name, column_name, lower(data_type), 'true' \
                     FROM information_schema.columns WHERE table_schema = DATABASE() \
                     ORDER BY table_name, ordinal_position";
                sqlx::raw_sql(sql).fetch_all(connection).await?.iter().map(cells_of_mysql).collect()
            }
        };
        let rows: Vec<Vec<Cell>> = rows;
        let mut tables: Vec<Table> = Vec::new();
        for row in rows {
            // A name that is no text cannot be put into a query.
            let Ok([schema, name, column, kind, near]) = <[Cell; 5]>::try_from(row) else { continue };
            let (Cell::Text(name), Cell::Text(column)) = (name, column) else { continue };
            let text = |cell| if let Cell::Text(text) = cell { text } else { String::new() };
            let schema = Some(text(schema)).filter(|schema| !schema.is_empty());
            let column = Column { name: column, kind: text(kind) };
            match tables.last_mut().filter(|table| table.name == name && table.schema == schema) {
                Some(table) => table.columns.push(column),
                None => {
                    tables.push(Table { schema, name, is_near: text(near) == "true", columns: vec![column] });
                }
            }
        }
        Ok(tables)
    }

    /// All rows of a table, with the given columns of it.
    pub(super) async fn rows(
        &mut self,
        table: &Table,
        columns: &[&Column],
    ) -> Result<Vec<Vec<Cell>>, NotRead> {
        let dialect = match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
            Self::Mysql(_) => Dialect::Mysql,
        };
        let list: Vec<_> = columns.iter().map(|column| dialect.expression(column)).collect();
        let sql = format!("SELECT {} FROM {}", list.join(", "), table.quoted(dialect.mark()));
        let query = sqlx::raw_sql(AssertSqlSafe(sql));
        Ok(match self {
            Self::Sqlite(connection) => {
                query.fetch_all(connection).await?.iter().map(cells_of_sqlite).collect()
            }
            Self::Postgres(connection) => {
                query.fetch_all(connection).await?.iter().map(cells_of_postgres).collect()
            }
            Self::Mysql(connection) => {
                query.fetch_all(connection).await?.iter().map(cells_of_mysql).collect()
            }
        })
    }

    /// Closes the connection to the database.
    pub(super) async fn close(self) {
        // Everything has been read, so an error on closing does not matter.
        let _ = match self {
            Self::Sqlite(connection) => connection.close().await,
            Self::Postgres(connection) => connection.close().await,
            Self::Mysql(connection) => connection.close().await,
        };
    }
}

impl Table {
    /// Whether a text names this table: by its name, or by schema and name where it is in another schema.
    pub(super) fn is_called(&self, text: &str) -> bool {
        let with_schema = self.schema.as_ref().map(|schema| format!("{schema}.{}", self.name));
        (self.is_near && self.name == text) || with_schema.as_deref() == Some(text)
    }

    /// The column with this name, in upper or lower case.
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The table's name in a query.
    pub(super) fn quoted(&self, mark: char) -> String {
        let name = quoted(&self.name, mark);
        match &self.schema {
            Some(schema) => format!("{}.{name}", quoted(schema, mark)),
            None => name,
        }
    }
}

/// A name as a delimited identifier (SQL-92 §5.2). All names come from the database's own catalogue.
fn quoted(name: &str, mark: char) -> String {
    let doubled = [mark, mark].iter().collect::<String>();
    format!("{mark}{}{mark}", name.replace(mark, &doubled))
}

/// A host without the brackets that a URL puts around an IPv6 address and that the drivers leave there.
fn without_brackets(host: &str) -> &str {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inner.filter(|inner| inner.parse::<Ipv6Addr>().is_ok()).unwrap_or(host)
}

fn sqlite_options(url: &str) -> Result<SqliteConnectOptions, Box<dyn Error>> {
    let options = SqliteOptions::from_url(url)?;
    let path = options.path();
    if !path.exists() {
        return Err(format!(
            "there is no file {}; here sqlite:///var/app.db is /var/app.db, and sqlite://app.db is relative",
            path.display()
        )
        .into());
    }
    let options = SqliteConnectOptions::new().filename(path).read_only(true).create_if_missing(false);
    Ok(options.disable_statement_logging())
}

pub(super) fn cells_of_sqlite(row: &SqliteRow) -> Vec<Cell> {
    (0..row.len()).map(|index| cell(row.try_get_unchecked::<Option<Vec<u8>>, _>(index))).collect()
}

pub(super) fn cells_of_mysql(row: &MySqlRow) -> Vec<Cell> {
    (0..row.len()).map(|index| cell(row.try_get_unchecked::<Option<Vec<u8>>, _>(index))).collect()
}

pub(super) fn cells_of_postgres(row: &PgRow) -> Vec<Cell> {
    let text = |index| row.try_get_unchecked::<Option<String>, _>(index);
    (0..row.len()).map(|index| cell(text(index).map(|text| text.map(String::into_bytes)))).collect()
}

fn cell(read: Result<Option<Vec<u8>>, sqlx::Error>) -> Cell {
    match read {
        Ok(None) => Cell::Null,
        Ok(Some(bytes)) => String::from_utf8(bytes).map_or(Cell::Bytes, Cell::Text),
        Err(_) => Cell::Bytes,
    }
}

/// The Flask application's database could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the Flask application's database could not be read")]
pub struct NotRead(#[from] sqlx::Error);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_names_whatever_is_in_them() {
        for (name, mark, expected) in [
            ("user", '"', r#""user""#),
            (r#"a"; DROP TABLE b; --"#, '"', r#""a""; DROP TABLE b; --""#),
            (r#""""#, '"', r#""""""""#),
            ("a`b\"c'd\\e", '`', "`a``b\"c'd\\e`"),
        ] {
            assert_eq!(quoted(name, mark), expected);
        }
    }
}
