//! Hosts that are IPv6 addresses, which stand in brackets in a URL and without them everywhere else (RFC 3986 §3.2.2).

use std::fmt;
use std::net::Ipv6Addr;
use std::path::Path;

/// The host as the network is asked for it. The drivers take a host from a URL with its brackets, and no host has a
/// name with brackets.
pub(crate) fn without_brackets(host: &str) -> &str {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inner.filter(|inner| inner.parse::<Ipv6Addr>().is_ok()).unwrap_or(host)
}

/// Whether there is an `@` after the first slash of an address. It would belong to a password that holds a slash or an
/// `@` and is not percent-encoded. What seems to be host and database is then a part of the password, and no error may
/// show it.
fn has_stray_at(address: &str) -> bool {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.split_once('/').is_some_and(|(_, path)| path.contains('@'))
}

/// The address of a URL and its parameters, each with its value. `None` if the URL's scheme is none of these, or if
/// something in it shows that a password was not percent-encoded.
pub(crate) fn address_and_parameters<'u>(
    url: &'u str,
    schemes: [&str; 2],
) -> Option<(&'u str, impl Iterator<Item = (&'u str, &'u str)>)> {
    let (scheme, rest) = url.split_once("://")?;
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    if !schemes.contains(&scheme) || rest.contains('#') || has_stray_at(address) {
        return None;
    }
    let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
    Some((address, parameters.map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))))
}

/// Shows where a database is and as which user it is opened, and nothing secret.
pub(crate) struct Place<'a> {
    pub(crate) engine: &'static str,
    pub(crate) database: &'a str,
    pub(crate) socket: Option<&'a Path>,
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) user: &'a str,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { engine, database, socket, host, port, user } = self;
        write!(f, "the {engine} database {database} at ")?;
        match socket {
            Some(socket) => write!(f, "{}", socket.display())?,
            // In brackets, as in a URL.
            None if host.parse::<Ipv6Addr>().is_ok() => write!(f, "[{host}]:{port}")?,
            None => write!(f, "{host}:{port}")?,
        }
        write!(f, " (user {user})")
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
