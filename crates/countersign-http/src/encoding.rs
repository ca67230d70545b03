//! Compressed bodies, which are not read and are refused by name (RFC 9110 §15.5.16).
//!
//! The bodies of a login are too small to be worth compressing, and a small compressed body may be large in memory.

use std::fmt;

use http::{HeaderMap, HeaderValue, header};

use crate::answer::{Answer, ErrorCode};

/// The `Content-Encoding` because of which a body is not read. As an [`Answer`] it is a 415 that names the encoding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ContentEncoding(&'static Known);

/// A known encoding, as fixed texts, so that nothing from a request ends up in an answer.
#[derive(Debug, Eq, PartialEq)]
struct Known {
    names: &'static [&'static str],
    description: &'static str,
}

impl ContentEncoding {
    /// The encoding of a request's body; `None` if the body is sent without one.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let fields = headers.get_all(header::CONTENT_ENCODING).iter();
        let members = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
        let mut encodings = members
            .map(<[u8]>::trim_ascii)
            .filter(|member| !member.is_empty() && !member.eq_ignore_ascii_case(b"identity"));
        let first = encodings.next()?;
        let known = KNOWN
            .iter()
            .find(|known| known.names.iter().any(|name| first.eq_ignore_ascii_case(name.as_bytes())));
        match (known, encodings.next()) {
            (Some(known), None) => Some(Self(known)),
            _ => Some(Self(&OTHER)),
        }
    }
}

impl fmt::Display for ContentEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.names.first().copied().unwrap_or("an unknown encoding"))
    }
}

impl From<ContentEncoding> for Answer {
    fn from(ContentEncoding(known): ContentEncoding) -> Self {
        let mut answer = Self::error_with(ErrorCode::UnsupportedMediaType, known.description);
        answer.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        answer
    }
}

/// The encodings of the IANA registry, and their aliases.
static KNOWN: [Known; 5] = [
    Known {
        names: &["gzip", "x-gzip"],
        description: "The body is encoded with gzip, which is not read here; send it without Content-Encoding.",
    },
    Known {
        names: &["deflate"],
        description: "The body is encoded with deflate, which is not read here; send it without Content-Encoding.",
    },
    Known {
        names: &["br"],
        description: "The body is encoded with br, which is not read here; send it without Content-Encoding.",
    },
    Known {
        names: &["zstd"],
        description: "The body is encoded with zstd, which is not read here; send it without Content-Encoding.",
    },
    Known {
        names: &["compress", "x-compress"],
        description: "The body is encoded with compress, which is not read here; send it without Content-Encoding.",
    },
];

static OTHER: Known = Known {
    names: &[],
    description: "The body has a Content-Encoding that is not read here; send it without Content-Encoding.",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_but_identity_is_refused_by_its_name() {
        for (fields, expected) in [
            (&[][..], None),
            (&["identity"], None),
            (&["Identity", ""], None),
            (&["gzip"], Some("gzip")),
            (&["X-GZIP"], Some("gzip")),
            (&["identity, br"], Some("br")),
            (&["deflate"], Some("deflate")),
            (&["zstd"], Some("zstd")),
            (&["compress"], Some("compress")),
            (&["gzip, br"], Some("an unknown encoding")),
            (&["gzip", "gzip"], Some("an unknown encoding")),
            (&["<script>"], Some("an unknown encoding")),
            (&["\u{e9}"], Some("an unknown encoding")),
        ] {
            let headers: HeaderMap = fields
                .iter()
                .map(|field| (header::CONTENT_ENCODING, HeaderValue::from_bytes(field.as_bytes()).unwrap()))
                .collect();
            let found = ContentEncoding::of(&headers);
            assert_eq!(found.map(|encoding| encoding.to_string()).as_deref(), expected, "{fields:?}");
            let Some(found) = found else { continue };
            let answer = Answer::from(found);
            let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
            assert_eq!((answer.status().as_u16(), &body["error"]), (415, &"unsupported_media_type".into()));
            let said = body["error_description"].as_str().unwrap();
            let named = expected.filter(|name| *name != "an unknown encoding").unwrap_or("Content-Encoding");
            assert!(said.contains(named) && !said.contains("script"), "{said}");
            assert_eq!(answer.headers()[header::ACCEPT_ENCODING], "identity");
        }
    }
}
