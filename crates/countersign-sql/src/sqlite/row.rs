//! Between values and columns. What a column cannot hold exactly, or what it holds that is no such value, is an
//! error: nothing is rounded, cut or replaced by a default.

use countersign_core::Timestamp;
use countersign_core::store::BoxError;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// A number as SQLite's signed 64 bits hold it.
pub(super) fn integer(number: u64) -> Result<i64, sqlx::Error> {
    i64::try_from(number).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// A limit; all there is, if it is more than SQLite can count.
pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A number of a smaller type.
pub(super) fn number<T>(row: &SqliteRow, column: &str) -> Result<T, sqlx::Error>
where
    T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>,
{
    let number: i64 = row.try_get(column)?;
    T::try_from(number).map_err(|error| malformed(column, error))
}

/// A time.
pub(super) fn time(row: &SqliteRow, column: &str) -> Result<Timestamp, sqlx::Error> {
    timestamp(row.try_get(column)?, column)
}

/// A time, if there is one.
pub(super) fn optional_time(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    let millis: Option<i64> = row.try_get(column)?;
    millis.map(|millis| timestamp(millis, column)).transpose()
}

/// Text that is parsed.
pub(super) fn parsed<T, E>(
    row: &SqliteRow,
    column: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, sqlx::Error>
where
    E: Into<BoxError>,
{
    let text: &str = row.try_get(column)?;
    parse(text).map_err(|error| malformed(column, error))
}

/// Text that is parsed, if there is one.
pub(super) fn optional_parsed<T, E>(
    row: &SqliteRow,
    column: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, sqlx::Error>
where
    E: Into<BoxError>,
{
    let text: Option<&str> = row.try_get(column)?;
    text.map(parse).transpose().map_err(|error| malformed(column, error))
}

/// The column holds what this program never writes.
pub(super) fn malformed(column: &str, error: impl Into<BoxError>) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: error.into() }
}

fn timestamp(millis: i64, column: &str) -> Result<Timestamp, sqlx::Error> {
    let time = Timestamp::from_millis(millis);
    if time.as_millis() == millis { Ok(time) } else { Err(malformed(column, "a time out of range")) }
}
