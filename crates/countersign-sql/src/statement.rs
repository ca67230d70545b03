//! Statements, written in one way for every engine: a text, its parameters, and the type of its rows.
//!
//! Each statement is made by a function beside the store's operations. That function is the only place that knows the
//! order of the statement's parameters and columns:
//!
//! ```ignore
//! /// The sessions of a user that begin with the oldest.
//! fn oldest(user_id: &UserId, at_most: usize) -> Statement<Session> {
//!     Statement::new(concat!("SELECT ", session_columns!(names), " FROM session WHERE user_id = ?1 … LIMIT ?2"))
//!         .bind(user_id)
//!         .bind(limit(at_most))
//! }
//! ```

use std::borrow::Cow;

#[cfg(feature = "mysql")]
use std::fmt::Write as _;
use std::marker::PhantomData;

use countersign_core::model::{SecretDigest, UserSession};
use countersign_core::store::BoxError;
use countersign_jwt::{Epoch, Generation, SessionId, Timestamp, TokenId, UserId};
#[cfg(feature = "mysql")]
use sqlx::AssertSqlSafe;
use sqlx::database::HasStatementCache;
use sqlx::query::Query;
use sqlx::{ColumnIndex, Database, Decode, IntoArguments, Row, SqlSafeStr, SqlStr, Type};
use uuid::Uuid;

use crate::column::{number, there};
use crate::record::Record;

/// The driver of an engine, as far as statements need it.
pub(crate) trait Driver:
    Database<Arguments: Clone + Sync + IntoArguments<Self>, Row: Columns> + HasStatementCache
{
    /// The engine's name in errors.
    const STORE: &'static str;

    /// Adds a parameter, in the form in which the engine's columns hold such values.
    fn add(arguments: &mut Self::Arguments, value: Value<'_>) -> Result<(), BoxError>;

    /// Runs a statement whose rows are not needed.
    fn execute(
        connection: &mut Self::Connection,
        query: Query<'static, Self, Self::Arguments>,
    ) -> impl Future<Output = Result<Self::QueryResult, sqlx::Error>> + Send;

    /// Runs a statement and returns its rows.
    fn fetch(
        connection: &mut Self::Connection,
        query: Query<'static, Self, Self::Arguments>,
    ) -> impl Future<Output = Result<Vec<Self::Row>, sqlx::Error>> + Send;

    /// How many rows a statement has inserted, changed or deleted.
    fn changed(done: &Self::QueryResult) -> u64;
}

/// A statement with its parameters, which may be sent more than once. Each of its rows is a `Y`. It has no `Debug`
/// form, because parameters such as hashes and seeds are secret.
pub(crate) struct Statement<D: Driver, Y = ()> {
    sql: SqlStr,
    parameters: Result<D::Arguments, String>,
    rows: PhantomData<fn() -> Y>,
}

impl<D: Driver, Y> Statement<D, Y> {
    pub(crate) fn new(sql: &'static str) -> Self {
        Self { sql: sql.into_sql_str(), parameters: Ok(D::Arguments::default()), rows: PhantomData }
    }

    /// A statement with a part that is repeated once for each of `count` values, with `separator` between the
    /// repetitions.
    #[cfg(feature = "mysql")]
    pub(crate) fn repeating(
        [before, part, after]: [&'static str; 3],
        separator: &'static str,
        count: usize,
    ) -> Self {
        let mut sql = before.to_owned();
        for number in 0..count {
            // Writing into a `String` never fails.
            let _ = write!(sql, "{}{part}", if number > 0 { separator } else { "" });
        }
        sql.push_str(after);
        // The text is put together from texts of this program alone.
        Self { sql: AssertSqlSafe(sql).into_sql_str(), ..Self::new("") }
    }

    /// Binds the next parameter.
    #[must_use]
    pub(crate) fn bind<'v>(mut self, value: impl Into<Value<'v>>) -> Self {
        if let Ok(parameters) = &mut self.parameters {
            let added = match value.into() {
                Value::Count(count) => i64::try_from(count)
                    .map_err(BoxError::from)
                    .and_then(|count| D::add(parameters, Value::Number(Some(count)))),
                value => D::add(parameters, value),
            };
            if let Err(error) = added {
                self.parameters = Err(error.to_string());
            }
        }
        self
    }

    /// Binds the user and the id of a session as the next parameters.
    #[must_use]
    pub(crate) fn bind_key(self, key: &UserSession) -> Self {
        self.bind(&key.user_id).bind(key.id)
    }

    /// Binds the columns of a record as the next parameters.
    #[must_use]
    pub(crate) fn bind_record(self, record: impl Record) -> Self {
        record.bind_to(self)
    }

    /// Binds the next parameter, of a kind that only this engine has.
    #[cfg(feature = "postgres")]
    #[must_use]
    pub(crate) fn bind_with(mut self, add: impl FnOnce(&mut D::Arguments) -> Result<(), BoxError>) -> Self {
        if let Ok(parameters) = &mut self.parameters
            && let Err(error) = add(parameters)
        {
            self.parameters = Err(error.to_string());
        }
        self
    }

    /// The driver's query. `keep` says whether the statement stays prepared on the connection.
    fn query(&self, keep: bool) -> Result<Query<'static, D, D::Arguments>, sqlx::Error> {
        let parameters = self.parameters.clone().map_err(|error| sqlx::Error::Encode(error.into()))?;
        Ok(sqlx::query_with(self.sql.clone(), parameters).persistent(keep))
    }

    pub(crate) async fn execute(
        &self,
        connection: &mut D::Connection,
        keep: bool,
    ) -> Result<D::QueryResult, sqlx::Error> {
        D::execute(connection, self.query(keep)?).await
    }

    pub(crate) async fn rows(
        &self,
        connection: &mut D::Connection,
        keep: bool,
    ) -> Result<Vec<D::Row>, sqlx::Error> {
        D::fetch(connection, self.query(keep)?).await
    }

    /// Runs the statement and returns its rows. The statement stays prepared on the connection.
    #[cfg(any(feature = "mysql", feature = "sqlite"))]
    pub(crate) async fn all(&self, connection: &mut D::Connection) -> Result<Vec<Y>, sqlx::Error>
    where
        Y: FromColumns,
    {
        read_all(&self.rows(connection, true).await?)
    }

    /// Runs the statement and returns how many rows it has changed. The statement stays prepared on the connection.
    #[cfg(feature = "sqlite")]
    pub(crate) async fn changes(&self, connection: &mut D::Connection) -> Result<u64, sqlx::Error> {
        self.execute(connection, true).await.map(|done| D::changed(&done))
    }

    #[cfg(test)]
    pub(crate) fn sql(&self) -> &str {
        self.sql.as_str()
    }

    /// The driver's query with something before the statement's text.
    #[cfg(test)]
    pub(crate) fn after(&self, before: &str) -> Query<'static, D, D::Arguments> {
        let sql = sqlx::AssertSqlSafe(format!("{before} {}", self.sql.as_str()));
        sqlx::query_with(sql, self.parameters.clone().unwrap()).persistent(false)
    }
}

/// Reads rows into the values that they stand for.
pub(crate) fn read_all<R: Columns, Y: FromColumns>(rows: &[R]) -> Result<Vec<Y>, sqlx::Error> {
    rows.iter().map(Y::from_columns).collect()
}

/// A parameter of a statement. Times are milliseconds since the Unix epoch; ids are text.
pub(crate) enum Value<'v> {
    Number(Option<i64>),
    /// A number that may be more than a column can hold. If it is, sending the statement is an error.
    Count(u64),
    Text(Option<Cow<'v, str>>),
    Bytes(Cow<'v, [u8]>),
}

macro_rules! values {
    ($($value:ty => |$it:ident| $made:expr;)+) => {$(
        impl<'v> From<$value> for Value<'v> {
            fn from($it: $value) -> Self {
                $made
            }
        }
    )+};
}

values! {
    i64 => |number| Self::Number(Some(number));
    Option<i64> => |number| Self::Number(number);
    u8 => |number| Self::Number(Some(number.into()));
    u32 => |number| Self::Number(Some(number.into()));
    u64 => |count| Self::Count(count);
    Generation => |generation| generation.as_u32().into();
    Epoch => |epoch| Self::Count(epoch.as_u64());
    Timestamp => |time| time.as_millis().into();
    Option<Timestamp> => |time| Self::Number(time.map(Timestamp::as_millis));
    &'v str => |text| Self::Text(Some(text.into()));
    Option<&'v str> => |text| Self::Text(text.map(Into::into));
    &'v String => |text| text.as_str().into();
    Cow<'v, str> => |text| Self::Text(Some(text));
    Option<Cow<'v, str>> => |text| Self::Text(text);
    String => |text| Self::Text(Some(text.into()));
    Option<String> => |text| Self::Text(text.map(Into::into));
    &'v UserId => |id| id.as_str().into();
    SessionId => |id| id.to_string().into();
    Option<SessionId> => |id| id.map(|id| id.to_string()).into();
    TokenId => |id| id.to_string().into();
    Uuid => |id| id.hyphenated().to_string().into();
    &'v SecretDigest => |digest| digest.as_bytes().as_slice().into();
    &'v [u8] => |bytes| Self::Bytes(bytes.into());
    Cow<'v, [u8]> => |bytes| Self::Bytes(bytes);
}

/// The columns of a row, by their positions. Booleans are numbers, because not every engine has booleans: 0 is false.
pub(crate) trait Columns {
    fn number(&self, column: usize) -> Result<Option<i64>, sqlx::Error>;
    fn text(&self, column: usize) -> Result<Option<&str>, sqlx::Error>;
    fn bytes(&self, column: usize) -> Result<Option<&[u8]>, sqlx::Error>;
}

impl<R: Row> Columns for R
where
    usize: ColumnIndex<R>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> &'r str: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> &'r [u8]: Decode<'r, R::Database> + Type<R::Database>,
{
    fn number(&self, column: usize) -> Result<Option<i64>, sqlx::Error> {
        self.try_get(column)
    }

    fn text(&self, column: usize) -> Result<Option<&str>, sqlx::Error> {
        self.try_get(column)
    }

    fn bytes(&self, column: usize) -> Result<Option<&[u8]>, sqlx::Error> {
        self.try_get(column)
    }
}

/// A value that a row is read into.
pub(crate) trait FromColumns: Sized + Send {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error>;
}

/// A value that one column is read into.
pub(crate) trait FromColumn: Sized + Send {
    fn from_column(row: &impl Columns, column: usize) -> Result<Self, sqlx::Error>;
}

impl FromColumn for Option<i64> {
    fn from_column(row: &impl Columns, column: usize) -> Result<Self, sqlx::Error> {
        row.number(column)
    }
}

impl FromColumn for i64 {
    fn from_column(row: &impl Columns, column: usize) -> Result<Self, sqlx::Error> {
        there(column, row.number(column)?)
    }
}

impl FromColumn for Option<bool> {
    fn from_column(row: &impl Columns, column: usize) -> Result<Self, sqlx::Error> {
        Ok(row.number(column)?.map(|number| number != 0))
    }
}

impl FromColumn for u64 {
    fn from_column(row: &impl Columns, column: usize) -> Result<Self, sqlx::Error> {
        let found = there(column, row.number(column)?)?;
        number(&column.to_string(), found)
    }
}

impl FromColumn for bool {
    fn from_column(row: &impl Columns, column: usize) -> Result<Self, sqlx::Error> {
        there(column, row.number(column)?).map(|number| number != 0)
    }
}

impl FromColumn for String {
    fn from_column(row: &impl Columns, column: usize) -> Result<Self, sqlx::Error> {
        there(column, row.text(column)?).map(str::to_owned)
    }
}

macro_rules! tuples {
    ($($($part:ident $column:literal),+;)+) => {$(
        impl<$($part: FromColumn),+> FromColumns for ($($part,)+) {
            fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
                Ok(($($part::from_column(row, $column)?,)+))
            }
        }
    )+};
}

tuples! {
    A 0;
    A 0, B 1;
    A 0, B 1, C 2;
    A 0, B 1, C 2, D 3, E 4;
}
