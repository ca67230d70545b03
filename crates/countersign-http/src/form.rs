//! Reading one field of a form that a browser submits.
//!
//! Only the CSRF value is read here. A difference between this reader and the handler's gives no attacker an advantage,
//! because an attacker who can write the right value into any field already knows it. The reader therefore covers what
//! browsers send (the HTML standard's form submission, RFC 7578) and nothing else.

use std::borrow::Cow;

use bytes::Bytes;
use http::HeaderMap;
use http::header;
use http::request::Parts;
use url::form_urlencoded;

use crate::buffered::{BodyBeginning, BufferedBody};
use crate::locate::essence;

/// The result of looking for a field in a form.
#[derive(Debug, Eq, PartialEq)]
pub enum Field<'a> {
    /// The form does not have the field.
    Absent,
    /// The form has the field once.
    One(Cow<'a, [u8]>),
    /// The form has the field several times; this is the first value.
    Repeated(Cow<'a, [u8]>),
}

/// Whether the request's body is a form, by its media type.
pub fn is_form(headers: &HeaderMap) -> bool {
    essence(headers).is_some_and(|essence| is(essence, URLENCODED) || is(essence, MULTIPART))
}

/// The field `name` of the form that was read ahead of the handler.
pub fn field<'a>(parts: &'a Parts, name: &str) -> Field<'a> {
    let whole = parts.extensions.get::<BufferedBody>().map(|body| &body.0);
    let beginning = parts.extensions.get::<BodyBeginning>().map(|body| &body.0);
    match (essence(&parts.headers), whole, beginning) {
        // The beginning of a urlencoded form may end within the value, so only a whole body is read.
        (Some(essence), Some(body), _) if is(essence, URLENCODED) => in_urlencoded(body, name),
        // In a multipart form a part ends at its boundary, so the beginning of a body is enough.
        (Some(essence), Some(body), _) | (Some(essence), None, Some(body)) if is(essence, MULTIPART) => {
            boundary(&parts.headers).map_or(Field::Absent, |boundary| in_multipart(body, boundary, name))
        }
        _ => Field::Absent,
    }
}

fn in_urlencoded<'a>(body: &'a Bytes, name: &str) -> Field<'a> {
    let pairs = form_urlencoded::parse(body);
    only(pairs.filter_map(|(found, value)| {
        (found == name).then(|| match value {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        })
    }))
}

/// Each part is `--boundary CRLF headers CRLF CRLF content CRLF`, up to the next `--boundary`.
fn in_multipart<'a>(body: &'a [u8], boundary: &str, name: &str) -> Field<'a> {
    let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
    let Some(body) = body.strip_prefix(b"--").and_then(|body| body.strip_prefix(boundary.as_bytes())) else {
        return Field::Absent;
    };
    let mut rest = Some(body);
    only(
        std::iter::from_fn(move || {
            let (part, after) = split(rest.take()?, &delimiter)?;
            rest = Some(after);
            Some(part)
        })
        .filter_map(|part| {
            let (headers, content) = split(part.strip_prefix(b"\r\n")?, b"\r\n\r\n")?;
            is_field(headers, name).then_some(Cow::Borrowed(content))
        }),
    )
}

/// Whether a part's headers say that it is the field `name`, and not a file.
fn is_field(headers: &[u8], name: &str) -> bool {
    let headers = String::from_utf8_lossy(headers);
    headers.split("\r\n").any(|line| {
        let Some((field, value)) = line.split_once(':') else { return false };
        let mut parameters = value.split(';').map(str::trim);
        field.eq_ignore_ascii_case("content-disposition")
            && parameters.next().is_some_and(|kind| kind.eq_ignore_ascii_case("form-data"))
            && parameters.eq([format!("name=\"{name}\"")])
    })
}

fn boundary(headers: &HeaderMap) -> Option<&str> {
    let parameters = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.split(';').skip(1);
    let mut named = parameters.filter_map(|parameter| parameter.trim().split_once('='));
    let (_, boundary) = named.find(|(name, _)| name.eq_ignore_ascii_case("boundary"))?;
    let boundary = boundary.trim_matches('"');
    (1..=70).contains(&boundary.len()).then_some(boundary)
}

/// The parts of `text` before and after the first `separator`.
fn split<'a>(text: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(separator.len()).position(|window| window == separator)?;
    Some((text.get(..at)?, text.get(at.saturating_add(separator.len())..)?))
}

fn only<'a>(mut values: impl Iterator<Item = Cow<'a, [u8]>>) -> Field<'a> {
    match (values.next(), values.next()) {
        (None, _) => Field::Absent,
        (Some(value), None) => Field::One(value),
        (Some(first), Some(_)) => Field::Repeated(first),
    }
}

fn is(essence: &str, media_type: &str) -> bool {
    essence.eq_ignore_ascii_case(media_type)
}

const URLENCODED: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data";

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn parts(content_type: &str, body: &[u8]) -> Parts {
        let request = Request::post("/").header("content-type", content_type);
        let body = Bytes::copy_from_slice(body);
        request.extension(BufferedBody(body)).body(()).unwrap().into_parts().0
    }

    fn one(value: &str) -> Field<'_> {
        Field::One(Cow::Borrowed(value.as_bytes()))
    }

    #[test]
    fn a_field_is_found_in_what_browsers_send() {
        let plain = "a=1&csrf_token=x%2By+z&b=2";
        let multipart = "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n\
            --B\r\ncontent-disposition: form-data; name=\"csrf_token\"\r\n\r\nx+y z\r\n--B--\r\n";
        for (content_type, body, expected) in [
            ("application/x-www-form-urlencoded", plain, one("x+y z")),
            ("Application/X-WWW-Form-Urlencoded; charset=utf-8", plain, one("x+y z")),
            ("application/x-www-form-urlencoded", "a=1", Field::Absent),
            ("application/x-www-form-urlencoded", "csrf_token", one("")),
            (
                "application/x-www-form-urlencoded",
                "csrf_token=a&csrf_token=b",
                Field::Repeated(Cow::Borrowed(b"a")),
            ),
            ("multipart/form-data; boundary=B", multipart, one("x+y z")),
            ("multipart/form-data; boundary=\"B\"", multipart, one("x+y z")),
            ("multipart/form-data; boundary=C", multipart, Field::Absent),
            ("multipart/form-data", multipart, Field::Absent),
            ("text/plain", plain, Field::Absent),
            ("application/json", plain, Field::Absent),
        ] {
            assert_eq!(
                field(&parts(content_type, body.as_bytes()), "csrf_token"),
                expected,
                "{content_type}"
            );
        }
        let file =
            "--B\r\nContent-Disposition: form-data; name=\"csrf_token\"; filename=\"f\"\r\n\r\nx\r\n--B--";
        let file = parts("multipart/form-data; boundary=B", file.as_bytes());
        assert_eq!(field(&file, "csrf_token"), Field::Absent, "a file is no field");
    }

    #[test]
    fn the_beginning_of_a_long_form_is_enough_if_the_field_ends_in_it() {
        let part = "--B\r\nContent-Disposition: form-data; name=\"csrf_token\"\r\n\r\nvalue";
        for (body, expected) in [
            (format!("{part}\r\n--B\r\nContent-Disposition: form-data; name=\"file\""), one("value")),
            (format!("{part}\r\n--"), Field::Absent),
            (part.to_owned(), Field::Absent),
        ] {
            let mut parts = parts("multipart/form-data; boundary=B", b"");
            parts.extensions.remove::<BufferedBody>();
            parts.extensions.insert(BodyBeginning(body.clone().into()));
            assert_eq!(field(&parts, "csrf_token"), expected, "{body}");
        }
        let mut parts = parts("application/x-www-form-urlencoded", b"");
        parts.extensions.remove::<BufferedBody>();
        parts.extensions.insert(BodyBeginning("csrf_token=val".into()));
        assert_eq!(field(&parts, "csrf_token"), Field::Absent);
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(
            body in prop::collection::vec(any::<u8>(), 0..64),
            text in "(--B|\r\n|name=\"csrf_token\"|Content-Disposition: form-data;|:|x|;| ){0,16}",
        ) {
            for body in [body, text.into_bytes()] {
                field(&parts("multipart/form-data; boundary=B", &body), "csrf_token");
                field(&parts("application/x-www-form-urlencoded", &body), "csrf_token");
            }
        }
    }
}
