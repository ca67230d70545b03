//! Conversion between values and columns. It is an error if a column cannot hold a value exactly, or holds something
//! that is no such value: nothing is rounded, cut or replaced by a default.

use countersign_core::model::{AdvanceCondition, AuditPosition};
use countersign_core::store::{BoxError, DeadLetterPosition, SessionPosition, UserPosition};
use countersign_jwt::Timestamp;

/// A limit as a parameter. A limit that is more than the engine can count becomes the engine's largest number.
pub(crate) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A row's place in a list whose newest row comes first: its time and its id.
pub(crate) trait Place {
    fn time(&self) -> Timestamp;
    fn id(&self) -> String;
}

macro_rules! places {
    ($($position:ty: $time:ident,)+) => {$(
        impl Place for $position {
            fn time(&self) -> Timestamp {
                self.$time
            }

            fn id(&self) -> String {
                self.id.to_string()
            }
        }
    )+};
}

places! {
    AuditPosition: at,
    DeadLetterPosition: since,
    SessionPosition: created_at,
    UserPosition: created_at,
}

/// The place that the rows of a page come before, in the order of their times and ids: the place of the last row of the
/// previous page, or, without one, a place that every row comes before.
pub(crate) fn before(position: Option<&impl Place>) -> (i64, String) {
    position.map_or_else(|| (i64::MAX, String::new()), |place| (place.time().as_millis(), place.id()))
}

/// How many of `count` rows are to be deleted where `keep` rows may stay, at most `at_most`.
pub(crate) fn surplus(count: i64, keep: u64, at_most: usize) -> usize {
    let surplus = u64::try_from(count).unwrap_or(0).saturating_sub(keep);
    at_most.min(usize::try_from(surplus).unwrap_or(usize::MAX))
}

/// A column's number, converted to a smaller type.
pub(crate) fn number<T>(column: &str, number: i64) -> Result<T, sqlx::Error>
where
    T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>,
{
    T::try_from(number).map_err(|error| malformed(column, error))
}

/// The time that a column holds in milliseconds.
pub(crate) fn time(column: &str, millis: i64) -> Result<Timestamp, sqlx::Error> {
    let time = Timestamp::from_millis(millis);
    if time.as_millis() == millis { Ok(time) } else { Err(malformed(column, "a time out of range")) }
}

/// The time that a column holds in milliseconds, if it holds one.
pub(crate) fn optional_time(column: &str, millis: Option<i64>) -> Result<Option<Timestamp>, sqlx::Error> {
    millis.map(|millis| time(column, millis)).transpose()
}

/// The value that a column holds as text.
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

/// The value that a column holds as text, if it holds one.
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

/// The error for a column that holds something which this program never writes.
pub(crate) fn malformed(column: &str, error: impl Into<BoxError>) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: error.into() }
}

/// The value of a column that is never null; null is an error.
pub(crate) fn there<T>(column: impl ToString, value: Option<T>) -> Result<T, sqlx::Error> {
    value.ok_or_else(|| malformed(&column.to_string(), sqlx::error::UnexpectedNullError))
}

/// An [`AdvanceCondition`] as parameters of a statement that has room for every kind of guard. The parameters of the
/// other kinds of guard are null.
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
