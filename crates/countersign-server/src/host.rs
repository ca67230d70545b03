//! Checks that a request is addressed to exactly one host, and that there can be such a host (RFC 9112 §3.2, RFC 9113
//! §8.3.1).
//!
//! Request smuggling exploits that two programs on a request's way read the same text differently.

use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Uri, Version, header};
use url::Host;

/// The reason why a request is refused for its host, if there is one.
pub(crate) fn refusal(version: Version, uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
    let mut fields = headers.get_all(header::HOST).iter();
    let (host, second) = (fields.next(), fields.next());
    if second.is_some() {
        return Some("The request has more than one Host field; it must have one.");
    }
    if host.is_some_and(|field| !names_a_host(field)) {
        return Some("The Host field must be the name or address of a host, with or without a port.");
    }
    if uri.authority().is_some_and(|authority| !is_host(authority.as_str())) {
        return Some("The request's target must name a host, with or without a port, and no user.");
    }
    match (version, uri.authority(), host) {
        (Version::HTTP_09 | Version::HTTP_10, ..) => None,
        (Version::HTTP_11, _, None) => Some("An HTTP/1.1 request needs a Host field."),
        (Version::HTTP_11, _, Some(_)) => None,
        (_, None, None) => Some("The request needs an :authority."),
        (_, Some(authority), Some(host))
            if !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) =>
        {
            Some("The request's :authority and its Host field must be the same.")
        }
        _ => None,
    }
}

fn names_a_host(field: &HeaderValue) -> bool {
    field.to_str().is_ok_and(is_host)
}

/// Whether a text is `host[:port]`, without a user.
fn is_host(text: &str) -> bool {
    let Ok(authority) = text.parse::<Authority>() else { return false };
    let Some(rest) = text.strip_prefix(authority.host()) else { return false };
    let is_port = match rest.strip_prefix(':') {
        Some(port) => port.bytes().all(|byte| byte.is_ascii_digit()) && (port.is_empty() || is_u16(port)),
        None => rest.is_empty(),
    };
    is_port && is_spelt_as_a_host(authority.host()) && Host::parse(authority.host()).is_ok()
}

/// Whether a host's characters are those of names in use. RFC 3986 §3.2.2 allows more, including commas and percent
/// signs, but no host that is found by its name has them.
fn is_spelt_as_a_host(host: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    host.starts_with('[') || host.bytes().all(is_name)
}

fn is_u16(port: &str) -> bool {
    port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: Version, uri: &str, hosts: &[&str]) -> Option<&'static str> {
        let fields =
            hosts.iter().map(|host| (header::HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap()));
        refusal(version, &uri.parse().unwrap(), &fields.collect())
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for host in [
            "localhost",
            "auth.example.com",
            "AUTH.example.com.",
            "auth.example.com:8443",
            "auth.example.com:",
            "auth_1",
            "xn--bcher-kva.example",
            "127.0.0.1:8080",
            "[::1]",
            "[2001:db8::1]:443",
        ] {
            assert_eq!(check(Version::HTTP_11, "/", &[host]), None, "{host}");
        }
        for host in [
            "",
            ":80",
            " ",
            "a b",
            "a,b",
            "a%2eb",
            "a/b",
            "a\\b",
            "a?b",
            "a#b",
            "user@a",
            "a:b",
            "a:80:80",
            "a:+80",
            "a:65536",
            "[::1",
            "[::1]x",
            "[a]",
            "::1",
            "256.1.1.1",
            "<script>",
            "http://a",
            "b\u{fc}cher.example",
        ] {
            assert!(check(Version::HTTP_11, "/", &[host]).is_some(), "{host}");
            assert!(check(Version::HTTP_10, "/", &[host]).is_some(), "{host}");
        }
    }

    #[test]
    fn every_version_has_its_own_way_to_name_one_host() {
        for (version, uri, hosts, is_fine) in [
            (Version::HTTP_11, "/", &[][..], false),
            (Version::HTTP_11, "/", &["a"], true),
            (Version::HTTP_11, "/", &["a", "a"], false),
            (Version::HTTP_11, "/", &["a", "b"], false),
            // RFC 9112 §3.2.2: in a request to a proxy, the target decides.
            (Version::HTTP_11, "http://b/", &["a"], true),
            (Version::HTTP_11, "http://b/", &[], false),
            (Version::HTTP_11, "http://user@b/", &["b"], false),
            (Version::HTTP_10, "/", &[], true),
            (Version::HTTP_10, "/", &["a"], true),
            (Version::HTTP_10, "/", &["a", "a"], false),
            (Version::HTTP_2, "http://a/", &[], true),
            (Version::HTTP_2, "http://a/", &["A"], true),
            (Version::HTTP_2, "http://a/", &["b"], false),
            (Version::HTTP_2, "http://a/", &["a", "a"], false),
            (Version::HTTP_2, "/", &["a"], true),
            (Version::HTTP_2, "/", &[], false),
        ] {
            assert_eq!(check(version, uri, hosts).is_none(), is_fine, "{version:?} {uri} {hosts:?}");
        }
    }
}
