//! Hosts that are IPv6 addresses, which stand in brackets in a URL and without them everywhere else (RFC 3986 §3.2.2).

use std::fmt;
use std::net::Ipv6Addr;

/// What the network is asked for: the drivers take a host from a URL with its brackets, and nothing is called so.
pub(crate) fn without_brackets(host: &str) -> &str {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inner.filter(|inner| inner.parse::<Ipv6Addr>().is_ok()).unwrap_or(host)
}

/// Whether there is an `@` behind the first slash of an address. It would belong to a password that holds a slash or an `@`
/// and is not percent-encoded, so what seems to be host and database is a part of the password, and no error may show it.
pub(crate) fn has_stray_at(address: &str) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.split_once('/').is_some_and(|(_, path)| path.contains('@'))
}

/// Host and port as a URL has them.
pub(crate) struct Authority<'a>(pub(crate) &'a str, pub(crate) u16);

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        match host.parse::<Ipv6Addr>() {
            Ok(_) => write!(f, "[{host}]:{port}"),
            Err(_) => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_046_a_password_that_was_not_encoded_is_not_taken_for_a_host() {
        for (address, stray) in [
            ("postgres://auth:p@ss/word@127.0.0.1/x", true),
            ("mysql://auth:pa/ss@db.example/x", true),
            ("postgres://auth:p%40ss%2Fword@127.0.0.1/x", false),
            ("postgres://auth:secret@[::1]:5432/x", false),
            ("postgres://127.0.0.1/x", false),
            ("postgres://auth:p@ss@127.0.0.1", false),
        ] {
            assert_eq!(has_stray_at(address), stray, "{address}");
        }
    }
}
