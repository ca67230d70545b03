//! Reading the `Cookie` request header.
//!
//! Browsers let a sub-domain, a plain-http page or an extension put cookies next to ours, so the header is partly
//! written by others. A lenient parser can be attacked: one that decodes `%5F%5FHost-…` takes a cookie that anyone may
//! set for one that only we may set, and one that gives up at a stray byte lets anyone hide ours. This parser therefore
//! only splits and compares bytes (RFC 6265bis §5.4, §8.6; SEC-061).

use http::{HeaderMap, header};

/// The value that the request's cookies hold under one name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CookieLookup<'a> {
    /// No cookie has the name.
    Absent,
    /// One cookie has the name; this is its value, which may be empty.
    One(&'a str),
    /// One cookie has the name, and its value is not text, so it was not set by us.
    Unreadable,
    /// Several cookies have the name, so at least one was not set by us, and which one is unknown (SEC-062).
    Repeated,
}

/// Looks a cookie up by its exact name, in all `Cookie` fields together: HTTP/2 clients may send one field for
/// each cookie (RFC 9113 §8.2.3).
///
/// ```
/// use countersign_http::{CookieLookup, find_cookie};
/// use http::{HeaderMap, HeaderValue, header};
///
/// let mut headers = HeaderMap::new();
/// headers.insert(header::COOKIE, HeaderValue::from_static("theme=dark; session=a; session=b"));
/// assert_eq!(find_cookie(&headers, "theme"), CookieLookup::One("dark"));
/// assert_eq!(find_cookie(&headers, "session"), CookieLookup::Repeated);
/// ```
#[must_use]
pub fn find_cookie<'a>(headers: &'a HeaderMap, name: &str) -> CookieLookup<'a> {
    find_cookie_by(headers, name, Some)
}

/// Looks a cookie up by its exact name. `read` gives the value of a cookie; one for which it returns `None` counts as
/// absent.
pub fn find_cookie_by<'a>(
    headers: &'a HeaderMap,
    name: &str,
    read: impl Fn(&'a [u8]) -> Option<&'a [u8]>,
) -> CookieLookup<'a> {
    let mut values = headers
        .get_all(header::COOKIE)
        .iter()
        .flat_map(|field| pairs(field.as_bytes()))
        .filter_map(|(found, value)| if found == name.as_bytes() { read(value) } else { None });
    match (values.next(), values.next()) {
        (None, _) => CookieLookup::Absent,
        (Some(value), None) => std::str::from_utf8(value).map_or(CookieLookup::Unreadable, CookieLookup::One),
        (Some(_), Some(_)) => CookieLookup::Repeated,
    }
}

/// The name-value pairs of one field. A piece without `=` has no name and is skipped.
fn pairs(field: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    field.split(|&byte| byte == b';').filter_map(|piece| {
        let mut halves = trim(piece).splitn(2, |&byte| byte == b'=');
        Some((halves.next()?, halves.next()?))
    })
}

/// Removes spaces and tabs around a piece. Unicode's other spaces stay part of the name.
pub fn trim(mut piece: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = piece {
        piece = rest;
    }
    piece
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "__Host-at";

    fn headers(fields: &[&[u8]]) -> HeaderMap {
        let values = fields.iter().map(|field| HeaderValue::from_bytes(field).unwrap());
        values.map(|value| (header::COOKIE, value)).collect()
    }

    #[test]
    fn sec_061_cookie_names_are_compared_byte_for_byte() {
        for (field, expected) in [
            ("__Host-at=ok", CookieLookup::One("ok")),
            ("a=1; __Host-at=ok; b=2", CookieLookup::One("ok")),
            ("a=1;\t __Host-at=ok \t;b=2", CookieLookup::One("ok")),
            ("__Host-at=a=b==", CookieLookup::One("a=b==")),
            ("__Host-at=\"ok\"", CookieLookup::One("\"ok\"")),
            ("__Host-at=%6Fk", CookieLookup::One("%6Fk")),
            ("__Host-at=", CookieLookup::One("")),
            ("%5F%5FHost-at=evil", CookieLookup::Absent),
            ("__host-at=evil", CookieLookup::Absent),
            ("__HOST-AT=evil", CookieLookup::Absent),
            ("\u{2000}__Host-at=evil", CookieLookup::Absent),
            ("\u{a0}__Host-at=evil", CookieLookup::Absent),
            ("__Host-at =evil", CookieLookup::Absent),
            ("__Host-at", CookieLookup::Absent),
            ("$Version=1, __Host-at=evil", CookieLookup::Absent),
            ("a=\"; __Host-at=ok; b=\"", CookieLookup::One("ok")),
            ("", CookieLookup::Absent),
            (";;; =;=", CookieLookup::Absent),
        ] {
            assert_eq!(find_cookie(&headers(&[field.as_bytes()]), NAME), expected, "{field:?}");
        }
    }

    #[test]
    fn sec_061_a_bad_cookie_never_hides_the_others() {
        for field in [
            "x=é; __Host-at=ok".as_bytes(),
            b"x=\xff\xfe; __Host-at=ok",
            b"\xff\xff; __Host-at=ok; \x80=",
            b"x; =; ==; __Host-at=ok",
            b"x=\"unclosed; __Host-at=ok",
            b"x=%; __Host-at=ok; y=%zz",
        ] {
            assert_eq!(find_cookie(&headers(&[field]), NAME), CookieLookup::One("ok"), "{field:?}");
        }
    }

    #[test]
    fn sec_186_a_cookie_bomb_leaves_ours_readable() {
        let mut field = String::new();
        for i in 0..100 {
            field.push_str(&format!("junk{i}={}; ", "é".repeat(80)));
        }
        field.push_str("__Host-at=ok");
        assert!(field.len() > 16 * 1024);
        assert_eq!(find_cookie(&headers(&[field.as_bytes()]), NAME), CookieLookup::One("ok"));
    }

    #[test]
    fn sec_061_several_cookie_fields_are_read_together() {
        assert_eq!(find_cookie(&headers(&[b"a=1", b"__Host-at=ok"]), NAME), CookieLookup::One("ok"));
        assert_eq!(find_cookie(&headers(&[b"__Host-at=1", b"__Host-at=2"]), NAME), CookieLookup::Repeated);
    }

    #[test]
    fn sec_062_a_repeated_name_is_told_apart() {
        for field in ["__Host-at=1; __Host-at=2", "__Host-at=1; a=b; __Host-at=1", "__Host-at=; __Host-at=1"]
        {
            assert_eq!(find_cookie(&headers(&[field.as_bytes()]), NAME), CookieLookup::Repeated, "{field:?}");
        }
    }

    #[test]
    fn a_value_that_is_not_text_is_unreadable() {
        assert_eq!(find_cookie(&headers(&[b"__Host-at=\xff"]), NAME), CookieLookup::Unreadable);
    }

    proptest! {
        #[test]
        fn sec_061_arbitrary_bytes_around_ours_never_panic_or_hide_it(
            before in prop::collection::vec(0x20u8..=0xff, 0..64),
            after in prop::collection::vec(0x20u8..=0xff, 0..64),
        ) {
            let field = [before.as_slice(), b"; __Host-at=ok; ", after.as_slice()].concat();
            if let Ok(value) = HeaderValue::from_bytes(&field) {
                let headers = HeaderMap::from_iter([(header::COOKIE, value)]);
                prop_assert_eq!(find_cookie(&headers, NAME), CookieLookup::One("ok"));
            }
        }
    }
}
