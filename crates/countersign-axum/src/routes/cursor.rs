//! The paging of a list: the query `?limit=` and `?next=`, and the text of `next`.

use countersign_core::store::SessionPosition;
use countersign_http::{Answer, ErrorCode};
use countersign_jwt::{SessionId, Timestamp};
use url::form_urlencoded;

use crate::reply::Reply;

/// The largest number of rows on a page, which is also the default.
const MOST: usize = 100;

/// The part of a list that a client asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct PageQuery {
    /// The largest number of rows to show.
    pub(super) limit: usize,
    /// The position after which the page begins.
    pub(super) after: Option<SessionPosition>,
}

impl PageQuery {
    /// Reads `limit` (1 to 100) and `next` (as the previous page gave it). Other parameters are ignored.
    ///
    /// # Errors
    /// 400 `invalid_request` that names the parameter, also for a parameter that comes twice.
    pub(super) fn parse(query: &str) -> Result<Self, Reply> {
        let (mut limit, mut after) = (None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "limit" => {
                    let number = value.parse().ok().filter(|number| (1..=MOST).contains(number));
                    let number =
                        number.ok_or_else(|| wrong("limit must be a whole number between 1 and 100"))?;
                    if limit.replace(number).is_some() {
                        return Err(wrong("limit was given twice"));
                    }
                }
                "next" => {
                    let position =
                        read(&value).ok_or_else(|| wrong("next must be what the page before said"))?;
                    if after.replace(position).is_some() {
                        return Err(wrong("next was given twice"));
                    }
                }
                _ => {}
            }
        }
        Ok(Self { limit: limit.unwrap_or(MOST), after })
    }
}

/// A position as text, which clients return unchanged.
pub(super) fn write(position: SessionPosition) -> String {
    format!("{}.{}", position.created_at.as_millis(), position.id)
}

fn read(text: &str) -> Option<SessionPosition> {
    let (millis, id) = text.split_once('.')?;
    let position = SessionPosition {
        created_at: Timestamp::from_millis(millis.parse().ok()?),
        id: id.parse::<SessionId>().ok()?,
    };
    // Only the spelling that this program writes is accepted, not another spelling of the same numbers.
    (write(position) == text).then_some(position)
}

fn wrong(description: &'static str) -> Reply {
    Reply(Answer::error_with(ErrorCode::InvalidRequest, description))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_as_it_was_written() {
        for (millis, id) in [(0, 0), (-5, 1), (1_790_000_000_123, u128::MAX)] {
            let id = SessionId::new(uuid::Uuid::from_u128(id));
            let position = SessionPosition { created_at: Timestamp::from_millis(millis), id };
            assert_eq!(read(&write(position)), Some(position));
        }
    }

    #[test]
    fn what_was_not_written_here_is_no_position() {
        const ID: &str = "6f1e4d5c-0000-4000-8000-000000000000";
        assert!(read(&format!("12.{ID}")).is_some());
        for text in [
            String::new(),
            "12".to_owned(),
            format!("12{ID}"),
            format!("012.{ID}"),
            format!("+12.{ID}"),
            format!("12.{}", ID.to_uppercase()),
            format!("99999999999999999999.{ID}"),
            format!("{}.{ID}", i64::MAX),
            format!("12.{ID}\u{0}"),
        ] {
            assert_eq!(read(&text), None, "{text:?}");
        }
    }

    #[test]
    fn a_query_that_cannot_be_read_is_refused() {
        for query in
            ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=", "limit=5&limit=6", "next=", "next=5"]
        {
            assert!(PageQuery::parse(query).is_err(), "{query}");
        }
        assert_eq!(
            PageQuery::parse("a=b").unwrap_or_else(|_| panic!()),
            PageQuery { limit: 100, after: None }
        );
        let page = PageQuery::parse("limit=%35&next=5.6f1e4d5c-0000-4000-8000-000000000000");
        assert_eq!(page.map(|page| page.limit).unwrap_or_default(), 5);
    }
}
