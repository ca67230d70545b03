//! Hosts that are IPv6 addresses, which stand in brackets in a URL and without them everywhere else (RFC 3986 §3.2.2).

use std::fmt;
use std::net::Ipv6Addr;

/// What the network is asked for: the drivers take a host from a URL with its brackets, and nothing is called so.
pub(crate) fn without_brackets(host: &str) -> &str {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inner.filter(|inner| inner.parse::<Ipv6Addr>().is_ok()).unwrap_or(host)
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
