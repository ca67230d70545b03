//! Between values and columns. What a column cannot hold exactly, or what it holds that is no such value, is an
//! error: nothing is rounded, cut or replaced by a default.

use countersign_core::model::AdvanceCondition;
use countersign_core::store::{BoxError, SessionPosition};
use countersign_jwt::Timestamp;

/// A limit; all there is, if it is more than the engine can count.
pub(crate) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// What the sessions of a page are before in the order of their times and ids: the place of the last one of the page
/// before, or a place that every session is before.
pub(crate) fn before(position: Option<SessionPosition>) -> (i64, String) {
    match position {
        Some(SessionPosition { created_at, id }) => (created_at.as_millis(), id.to_string()),
        None => (i64::MAX, String::new()),
    }
}

/// How many of `count` rows are to go where `keep` may stay, but no more than `at_most`.
pub(crate) fn surplus(count: i64, keep: u64, at_most: usize) -> usize {
    let surplus = u64::try_from(count).unwrap_or(0).saturating_sub(keep);
    at_most.min(usize::try_from(surplus).unwrap_or(usize::MAX))
}

/// A number of a smaller type.
pub(crate) fn number<T>(column: &str, number: i64) -> Result<T, sqlx::Error>
where
    T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>,
{
    T::try_from(number).map_err(|error| malformed(column, error))
}

/// A time.
pub(crate) fn time(column: &str, millis: i64) -> Result<Timestamp, sqlx::Error> {
    let time = Timestamp::from_millis(millis);
    if time.as_millis() == millis { Ok(time) } else { Err(malformed(column, "a time out of range")) }
}

/// A time, if there is one.
pub(crate) fn optional_time(column: &str, millis: Option<i64>) -> Result<Option<Timestamp>, sqlx::Error> {
    millis.map(|millis| time(column, millis)).transpose()
}

/// Text that is parsed.
pub(crate) fn parsed<T, E>(
    column: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, sqlx::Error>
where
    E: Into<BoxError>,
{
    parse(text).map_err(|error| malformed(column, error))
}

/// Text that is parsed, if there is one.
pub(crate) fn optional_parsed<T, E>(
    column: &str,
    text: Option<&str>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, sqlx::Error>
where
    E: Into<BoxError>,
{
    text.map(parse).transpose().map_err(|error| malformed(column, error))
}

/// The column holds what this program never writes.
pub(crate) fn malformed(column: &str, error: impl Into<BoxError>) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: error.into() }
}

/// A column that is never null.
pub(crate) fn there<T>(column: impl ToString, value: Option<T>) -> Result<T, sqlx::Error> {
    value.ok_or_else(|| malformed(&column.to_string(), sqlx::error::UnexpectedNullError))
}

/// A [`AdvanceCondition`] as parameters of a statement that has room for every kind of guard: those of the others are null.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GuardParameters {
    pub(crate) issued_at: Option<i64>,
    pub(crate) leeway: Option<i64>,
    pub(crate) grace: Option<i64>,
}

impl From<AdvanceCondition> for GuardParameters {
    fn from(guard: AdvanceCondition) -> Self {
        match guard {
            AdvanceCondition::Generation => Self::default(),
            AdvanceCondition::IssuedAt(issued_at) => {
                Self { issued_at: Some(issued_at.as_millis()), ..Self::default() }
            }
            AdvanceCondition::OutsideReserve { leeway, grace } => {
                // Capped at the latest time, so that the engine adds without overflow. The sum needs no cap: a session
                // that has not expired has a `now` before the latest time.
                let millis = |duration| Some((Timestamp::MIN + duration).as_millis());
                Self { issued_at: None, leeway: millis(leeway), grace: millis(grace) }
            }
        }
    }
}
