//! The paging of the admin API's lists: the query `?limit=`, `?next=` and filters, and the text of `next`.

use countersign_axum::Reply;
use countersign_http::{Answer, ErrorCode};
use countersign_jwt::Timestamp;
use url::form_urlencoded;

/// The largest number of rows on a page, which is also the default.
const MOST: usize = 100;

/// The part of a list that a client asks for.
#[derive(Debug)]
pub(super) struct Listing {
    /// The largest number of rows to show.
    pub(super) limit: usize,
    next: Option<String>,
    filters: Vec<(&'static str, String)>,
}

impl Listing {
    /// Reads `limit` (1 to 100), `next` (as the previous page gave it) and these filters.
    ///
    /// # Errors
    /// 400 `invalid_request`, also for a parameter that comes twice, and for one that the list does not know: a filter
    /// with a slip in its name would show rows that nobody asked for.
    pub(super) fn parse<const N: usize>(query: &str, names: [&'static str; N]) -> Result<Self, Reply> {
        let (mut limit, mut next, mut filters) = (None, None, Vec::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let is_second = match &*name {
                "limit" => {
                    let number = value.parse().ok().filter(|number| (1..=MOST).contains(number));
                    let number =
                        number.ok_or_else(|| wrong("limit must be a whole number between 1 and 100"))?;
                    limit.replace(number).is_some()
                }
                "next" => next.replace(value.into_owned()).is_some(),
                name => match names.into_iter().find(|known| *known == name) {
                    Some(known) => {
                        let is_second = filters.iter().any(|(given, _)| *given == known);
                        filters.push((known, value.into_owned()));
                        is_second
                    }
                    None => return Err(wrong("the list has no such parameter; docs/api.md names them")),
                },
            };
            if is_second {
                return Err(wrong("a parameter was given twice"));
            }
        }
        Ok(Self { limit: limit.unwrap_or(MOST), next, filters })
    }

    /// The value of a filter.
    pub(super) fn filter(&self, name: &str) -> Option<&str> {
        self.filters.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// The position after which the page begins, of a time and an id.
    ///
    /// # Errors
    /// 400 `invalid_request` for a text that no page has given.
    pub(super) fn after<P>(
        &self,
        position: impl FnOnce(Timestamp, &str) -> Option<P>,
    ) -> Result<Option<P>, Reply> {
        let Some(next) = &self.next else { return Ok(None) };
        let position = next.split_once('.').and_then(|(millis, id)| {
            let at = Timestamp::from_millis(millis.parse().ok()?);
            // Only the spelling that this program writes is accepted.
            (write(at, id) == *next).then(|| position(at, id))?
        });
        position.map(Some).ok_or_else(|| wrong("next must be what the page before said"))
    }

    /// The rows to show of rows that were read with one more than asked for, and the text of `next`.
    pub(super) fn page<T>(
        &self,
        mut rows: Vec<T>,
        position: impl FnOnce(&T) -> (Timestamp, String),
    ) -> (Vec<T>, Option<String>) {
        let has_more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next = rows.last().filter(|_| has_more).map(position).map(|(at, id)| write(at, &id));
        (rows, next)
    }
}

fn write(at: Timestamp, id: &str) -> String {
    format!("{}.{id}", at.as_millis())
}

fn wrong(description: &'static str) -> Reply {
    Reply(Answer::error_with(ErrorCode::InvalidRequest, description))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_cannot_be_read_is_refused() {
        for query in [
            "limit=0",
            "limit=101",
            "limit=x",
            "limit=5&limit=6",
            "next=1.a&next=1.a",
            "name=a&name=b",
            "nam=a",
        ] {
            assert!(Listing::parse(query, ["name"]).is_err(), "{query}");
        }
        let listing = Listing::parse("limit=%35&name=a%20b", ["name", "other"]).unwrap_or_else(|_| panic!());
        assert_eq!((listing.limit, listing.filter("name"), listing.filter("other")), (5, Some("a b"), None));
    }

    #[test]
    fn a_position_comes_back_as_it_was_written() {
        for id in ["7", "a.b"] {
            let text = write(Timestamp::from_millis(-5), id);
            let listing = Listing::parse(&format!("next={text}"), []).unwrap_or_else(|_| panic!());
            let read = listing.after(|at, id| Some((at, id.to_owned()))).unwrap_or_else(|_| panic!());
            assert_eq!(read, Some((Timestamp::from_millis(-5), id.to_owned())));
        }
        for text in ["", "5", "05.a", "%2B5.a", "x.a"] {
            let listing = Listing::parse(&format!("next={text}"), []).unwrap_or_else(|_| panic!());
            assert!(listing.after(|_, _| Some(())).is_err(), "{text}");
        }
    }
}
