//! The header `Forwarded` (RFC 7239 §4), read strictly.

/// What one proxy says of the connection that it received.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Element {
    /// Who connected to the proxy.
    pub(super) by_whom: Option<String>,
    /// The scheme that the request was sent by.
    pub(super) proto: Option<String>,
    /// The host that the request was sent to.
    pub(super) host: Option<String>,
}

/// The elements of one header field, or `None` if it is malformed.
///
/// A field with one mistake is refused as a whole. A client that sends half a quotation could otherwise make what a
/// proxy appends a part of the quotation.
pub(super) fn elements(field: &str) -> Option<Vec<Element>> {
    let mut elements = Vec::new();
    let mut rest = skip_blanks(field);
    loop {
        let mut element = Element::default();
        // RFC 9110 §5.6.1: an element of a list may be empty.
        if !rest.is_empty() && !rest.starts_with(',') {
            rest = skip_blanks(pairs(rest, &mut element)?);
            elements.push(element);
        }
        match rest.strip_prefix(',') {
            Some(next) => rest = skip_blanks(next),
            None => return rest.is_empty().then_some(elements),
        }
    }
}

/// Reads the pairs of one element, and returns what is behind them.
fn pairs<'a>(mut rest: &'a str, element: &mut Element) -> Option<&'a str> {
    loop {
        let (name, behind) = split(rest, is_token);
        let behind = behind.strip_prefix('=').filter(|_| !name.is_empty())?;
        let (value, behind) = match behind.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                // Some proxies forget the quotation marks that an address with a port needs.
                let (value, behind) = split(behind, |byte| is_token(byte) || b":[]".contains(&byte));
                (value.to_owned(), behind)
            }
        };
        if value.is_empty() {
            return None;
        }
        let place = match name.to_ascii_lowercase().as_str() {
            "for" => Some(&mut element.by_whom),
            "proto" => Some(&mut element.proto),
            "host" => Some(&mut element.host),
            _ => None,
        };
        // RFC 7239 §4: each parameter occurs at most once in an element.
        if place.is_some_and(|place| place.replace(value).is_some()) {
            return None;
        }
        match skip_blanks(behind).strip_prefix(';') {
            Some(next) => rest = skip_blanks(next),
            None => return Some(behind),
        }
    }
}

/// Reads a quotation up to its end (RFC 9110 §5.6.4), and returns what is behind it.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut signs = quoted.chars();
    loop {
        match signs.next()? {
            '"' => return Some((text, signs.as_str())),
            '\\' => text.push(signs.next()?),
            sign => text.push(sign),
        }
    }
}

fn split(text: &str, belongs: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !belongs(byte)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn skip_blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// Whether a byte may be in a token (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_7239_are_read() {
        let of = |field| {
            let elements = elements(field).unwrap();
            elements.into_iter().map(|element| element.by_whom.unwrap_or_default()).collect::<Vec<_>>()
        };
        assert_eq!(of("for=\"_gazonk\""), ["_gazonk"]);
        assert_eq!(of("For=\"[2001:db8:cafe::17]:4711\""), ["[2001:db8:cafe::17]:4711"]);
        assert_eq!(of("for=192.0.2.60;proto=http;by=203.0.113.43"), ["192.0.2.60"]);
        assert_eq!(of("for=192.0.2.43, for=198.51.100.17"), ["192.0.2.43", "198.51.100.17"]);
        assert_eq!(of("for=192.0.2.43,for=\"[2001:db8::1]\",for=unknown").len(), 3);
        assert_eq!(of("for=_hidden, for=_SEVKISEK"), ["_hidden", "_SEVKISEK"]);
        assert_eq!(of("by=203.0.113.43"), [""]);
        assert_eq!(of(", for=192.0.2.1 ,, for=192.0.2.2,"), ["192.0.2.1", "192.0.2.2"]);
        assert!(of("").is_empty());
        let all = elements("proto=https;FOR=\"192.0.2.1:80\";host=\"a\\\"b\";secret=x").unwrap();
        let expected = Element {
            by_whom: Some("192.0.2.1:80".to_owned()),
            proto: Some("https".to_owned()),
            host: Some("a\"b".to_owned()),
        };
        assert_eq!(all, [expected]);
    }

    #[test]
    fn sec_152_half_a_quotation_swallows_nothing() {
        for field in [
            "for=\"",
            "for=\"192.0.2.1",
            "for=\"192.0.2.1\\",
            "a=\", for=192.0.2.1",
            "a=\", for=\"[2001:db8::1]\"",
            "a=\", for=192.0.2.1;proto=\"https\"",
            "for=192.0.2.1\"\"",
            "for=\"192.0.2.1\"x",
            "for=192.0.2.1;for=192.0.2.2",
            "for=192.0.2.1;FOR=192.0.2.2",
            "for",
            "for=",
            "for=\"\"",
            "=192.0.2.1",
            "for =192.0.2.1",
            "for= 192.0.2.1",
            "for=192.0.2.1 proto=http",
            "for=192.0.2.1;",
            ";for=192.0.2.1",
            "192.0.2.1",
            "for=a/b",
        ] {
            assert_eq!(elements(field), None, "{field}");
        }
    }
}
