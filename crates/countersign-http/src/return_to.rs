//! The page to go back to after signing in: a path on our own origin, and nothing else.

use std::fmt;

use http::Uri;
use url::{Url, form_urlencoded};

/// A page of this program to go to next: an absolute path with its query, written anew.
///
/// The text that names the page comes from a URL, so anybody may have written it. Whatever a browser could take for
/// another origin is refused (SEC-075), and what is accepted is never echoed but serialised again.
///
/// ```
/// use countersign_http::ReturnTo;
///
/// let page = ReturnTo::parse("/reports?year=2026").expect("a page of ours");
/// assert_eq!(page.as_str(), "/reports?year=2026");
/// assert_eq!(ReturnTo::parse("//evil.example"), None);
/// assert_eq!(ReturnTo::parse("/\\evil.example"), None);
/// assert_eq!(ReturnTo::parse("https://evil.example/"), None);
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReturnTo(String);

impl ReturnTo {
    /// The length in bytes beyond which a page is not gone back to.
    pub const MAX_BYTES: usize = 2_000;
    /// The query parameter that names the page.
    pub const PARAMETER: &'static str = "next";

    /// The page that a text names; `None` unless it certainly is one of this origin.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > Self::MAX_BYTES || text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return None;
        }
        let path = text.split(['?', '#']).next().unwrap_or_default();
        if !is_plain(path) {
            return None;
        }
        let here = Url::parse(SOMEWHERE).ok()?;
        let url = here.join(text).ok()?;
        // Dot segments are gone now, so the path is looked at once more.
        if url.origin() != here.origin() || !is_plain(url.path()) {
            return None;
        }
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let page = format!("{}{query}", url.path());
        (page.len() <= Self::MAX_BYTES).then_some(Self(page))
    }

    /// The page that a request asks for.
    #[must_use]
    pub fn of(uri: &Uri) -> Option<Self> {
        Self::parse(uri.path_and_query()?.as_str())
    }

    /// The page that the query parameter `next` names, if there is one such parameter.
    #[must_use]
    pub fn in_query(uri: &Uri) -> Option<Self> {
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        let mut named = pairs.filter_map(|(name, value)| (name == Self::PARAMETER).then_some(value));
        match (named.next(), named.next()) {
            (Some(page), None) => Self::parse(&page),
            _ => None,
        }
    }

    /// The page as a path with its query. It is ASCII, begins with one slash, and may stand in `Location`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The URL of another page, which is to come back to this one: its parameter `next` is set to this page.
    #[must_use]
    pub fn after(&self, page: &str) -> String {
        with_parameters(page, &[(Self::PARAMETER, &self.0)])
    }
}

impl fmt::Display for ReturnTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The page with these parameters in its query, in place of those with the same names.
pub(crate) fn with_parameters(page: &str, parameters: &[(&str, &str)]) -> String {
    let (path, query) = page.split_once('?').unwrap_or((page, ""));
    let kept = form_urlencoded::parse(query.as_bytes());
    let kept = kept.filter(|(name, _)| parameters.iter().all(|(other, _)| name != other));
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(kept).extend_pairs(parameters);
    format!("{path}?{}", query.finish())
}

/// A page's path as it was written, and however often it is percent-decoded: nothing in it leads elsewhere.
fn is_plain(path: &str) -> bool {
    let mut path = path.as_bytes().to_vec();
    loop {
        let is_plain = matches!(path.as_slice(), [b'/', rest @ ..] if rest.first() != Some(&b'/'))
            && !path.iter().any(|&byte| byte < b' ' || matches!(byte, 0x7f | b'\\' | b'@'));
        if !is_plain {
            return false;
        }
        let decoded = percent_decoded(&path);
        if decoded.len() == path.len() {
            return true;
        }
        path = decoded;
    }
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return decoded,
            [b'%', high, low, after @ ..] if digit(*high).is_some() && digit(*low).is_some() => {
                decoded.push(digit(*high).unwrap_or_default() << 4 | digit(*low).unwrap_or_default());
                after
            }
            [byte, after @ ..] => {
                decoded.push(*byte);
                after
            }
        };
    }
}

/// The origin that pages are resolved against. Any would do, because only the path is kept.
const SOMEWHERE: &str = "https://app.invalid/";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sec_075_sec_192_only_pages_of_this_origin_are_gone_back_to() {
        let long = format!("/{}", "a".repeat(ReturnTo::MAX_BYTES));
        for text in [
            "",
            " ",
            "next",
            "?a=1",
            "#top",
            "//evil.example",
            "///evil.example",
            "////evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "\\\\evil.example",
            "/a\\b",
            "/%5cevil.example",
            "/%5C%5Cevil.example",
            "/%255cevil.example",
            "/%25255cevil.example",
            "/%2fevil.example",
            "/%2F%2Fevil.example",
            "/%252fevil.example",
            "/\tevil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "/%09/evil.example",
            "/%0a/evil.example",
            "/%0d%0aLocation:%20https://evil.example",
            "/%00",
            "/%2509/evil.example",
            "\t//evil.example",
            " //evil.example",
            " /page",
            "/page ",
            "/a b",
            "/..//evil.example",
            "/.//evil.example",
            "/a/..//evil.example",
            "/%2e%2e//evil.example",
            "/./%2e//evil.example",
            "https:evil.example",
            "https:/evil.example",
            "https://evil.example",
            "HTTPS://evil.example/",
            "http://app.invalid/page",
            "https://app.invalid/page",
            "javascript:alert(1)",
            "/javascript:alert(1)\u{7f}",
            "data:text/html,x",
            "blob:https://evil.example",
            "@evil.example",
            "/@evil.example",
            "/%40evil.example",
            "/%2540evil.example",
            "//app.invalid@evil.example",
            "evil.example",
            ".evil.example",
            "../page",
            "./page",
            "page",
            "\u{2028}/page",
            "\u{feff}//evil.example",
            &long,
        ] {
            assert_eq!(ReturnTo::parse(text), None, "{text:?}");
        }
        for (text, page) in [
            ("/", "/"),
            ("/page", "/page"),
            ("/page?x=1&y=a%20b", "/page?x=1&y=a%20b"),
            ("/page?to=https://evil.example", "/page?to=https://evil.example"),
            ("/page?mail=ada@example.org", "/page?mail=ada@example.org"),
            ("/page#top", "/page"),
            ("/a/../page", "/page"),
            ("/caf\u{e9}?q=\u{e9}", "/caf%C3%A9?q=%C3%A9"),
            ("/a%20b", "/a%20b"),
            ("/100%", "/100%"),
        ] {
            assert_eq!(ReturnTo::parse(text).as_ref().map(ReturnTo::as_str), Some(page), "{text:?}");
        }
    }

    #[test]
    fn a_page_is_named_in_the_query_once() {
        let named = |uri: &str| ReturnTo::in_query(&uri.parse().unwrap()).map(|page| page.0);
        assert_eq!(named("/login?next=%2Fp%3Fx%3D1").as_deref(), Some("/p?x=1"));
        assert_eq!(named("/login?next=/a&next=/b"), None);
        assert_eq!(named("/login?next=//evil"), None);
        assert_eq!(named("/login"), None);
        let page = ReturnTo::parse("/p?x=1&y=a%20b").unwrap();
        assert_eq!(page.after("/login?a=1&next=/old"), "/login?a=1&next=%2Fp%3Fx%3D1%26y%3Da%2520b");
    }

    proptest! {
        #[test]
        fn sec_075_what_is_accepted_is_of_the_same_origin_to_every_browser(
            text in "[/\\\\.%@:a25fcde0-9?#\\t\\n ]{0,24}",
        ) {
            if let Some(page) = ReturnTo::parse(&text) {
                let here = Url::parse("https://our.example/a/b").unwrap();
                let there = here.join(page.as_str()).unwrap();
                prop_assert_eq!(there.origin(), here.origin());
                prop_assert!(!there.path().starts_with("//"));
                prop_assert_eq!(ReturnTo::parse(page.as_str()), Some(page));
            }
        }
    }
}
