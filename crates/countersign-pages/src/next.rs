//! Where a browser goes on to after a page, if the address of the page says so by `next`.

use url::{Host, Url};

/// A path on this origin, with its query. Everything else that `next` may say is refused, so that no link to a page of
/// ours ends on another site (SEC-075).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Next(String);

impl Next {
    /// The most bytes of a target.
    const MAX_BYTES: usize = 2_000;

    /// Reads what a request says. The target is parsed as browsers parse it and written anew, never echoed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > Self::MAX_BYTES || !text.starts_with('/') || !is_plain(text) {
            return None;
        }
        // What decodes to something that would be refused is refused as well, because a proxy may decode it.
        let path = text.split(['?', '#']).next().unwrap_or_default();
        if !is_plain(&decode(&decode(path)?)?) {
            return None;
        }
        let base = Url::parse("https://next.invalid").ok()?;
        let url = base.join(text).ok()?;
        let is_ours = url.scheme() == "https"
            && url.host() == Some(Host::Domain("next.invalid"))
            && url.port().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let mut target = url.path().to_owned();
        if let Some(query) = url.query() {
            target.push('?');
            target.push_str(query);
        }
        // Dots in the path are resolved by now, which may have left two slashes at its beginning.
        (is_ours && is_plain(&target)).then_some(Self(target))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a target is neither relative to the scheme nor has characters that browsers drop or turn into others.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    !(bytes.starts_with(b"//") || bytes.contains(&b'\\') || bytes.iter().any(|byte| byte.is_ascii_control()))
        && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// A path with its percent-encoding undone.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%');
        let value = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match value.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) => {
                bytes.push(value);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sec_075_only_a_path_on_this_origin_is_followed() {
        for text in ["/", "/account", "/a/b?c=d&e=f", "/a?b=%2F%2Fc", "/%C3%A4", "/a@b", "/a:b", "/?next=/x"]
        {
            assert!(Next::parse(text).is_some(), "{text}");
        }
        for text in [
            "",
            "account",
            "./account",
            "?a",
            "#a",
            "//evil.example",
            "///evil.example",
            "////evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "\\/evil.example",
            "/\\/evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "/\r/evil.example",
            "\t//evil.example",
            " //evil.example",
            "/ /evil.example",
            "/\u{0}/evil.example",
            "/\u{7f}/evil.example",
            "/\u{85}/evil.example",
            "/\u{a0}/evil.example",
            "/\u{2028}/evil.example",
            "/%09/evil.example",
            "/%0a/evil.example",
            "/%0d%0aset-cookie:x",
            "/%5cevil.example",
            "/%5Cevil.example",
            "/%255cevil.example",
            "/%2fevil.example",
            "/%2f/evil.example",
            "/%252fevil.example",
            "%2f%2fevil.example",
            "/..//evil.example",
            "/.//evil.example",
            "/a/..//evil.example",
            "/%2e%2e//evil.example",
            "/%2e//evil.example",
            "https://evil.example",
            "https:/evil.example",
            "https:evil.example",
            "http://evil.example",
            "HTTPS://evil.example",
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "file:///etc/passwd",
            "blob:x",
            "mailto:x@y",
            "@evil.example",
            "user@evil.example",
            ":80/",
            ".evil.example",
            "\u{ff0f}\u{ff0f}evil.example",
            "%",
            "/%ff",
            "/%00",
        ] {
            assert_eq!(Next::parse(text), None, "{text:?}");
        }
        assert_eq!(Next::parse(&format!("/{}", "a".repeat(2_000))), None, "too long");
    }

    #[test]
    fn a_target_is_written_anew() {
        for (text, expected) in
            [("/a/../b", "/b"), ("/a b?c", ""), ("/\u{e4}?\u{f6}", "/%C3%A4?%C3%B6"), ("/a#b", "/a")]
        {
            let next = Next::parse(text);
            assert_eq!(next.as_ref().map_or("", Next::as_str), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn sec_075_whatever_is_followed_stays_on_this_origin(
            text in "(/|//|\\\\|%2f|%5c|%09|\\.|\\.\\.|@|:|\\?|#|a|evil\\.example|https|\t|\n| ){0,12}",
        ) {
            if let Some(next) = Next::parse(&text) {
                for origin in ["https://auth.example.com", "http://localhost:8080"] {
                    let base = Url::parse(origin).unwrap();
                    prop_assert_eq!(base.join(next.as_str()).unwrap().origin(), base.origin(), "{:?}", text);
                }
            }
        }
    }
}
