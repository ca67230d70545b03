//! The address of a client, and the part of it that limits count by.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The address that a request comes from, and how it was found. It is shown in lists of sessions and in logs, and
/// limits count by its [throttle key](Self::throttle_key). It never gives access to anything.
///
/// A program puts it into a request's extensions, where the ready-made routes look for it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ClientAddress {
    address: IpAddr,
    found: HowFound,
}

/// Where an address comes from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum HowFound {
    /// The connection's other end has it.
    Connection,
    /// A trusted proxy named it in the header of the PROXY protocol, at the beginning of the connection.
    ProxyProtocol,
    /// A trusted proxy named it in `Forwarded` (RFC 7239).
    Forwarded,
    /// A trusted proxy named it in `X-Forwarded-For`.
    XForwardedFor,
}

/// The part of an address that one client cannot easily change: an IPv4 address, or the first 64 bits of an IPv6
/// address, because every connection at home gets at least a /64 and may use any address in it (SEC-127).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ThrottleKey(IpAddr);

impl ClientAddress {
    /// An address that was found in this way. An IPv4 address that is written as an IPv6 address (`::ffff:192.0.2.1`)
    /// is taken for the IPv4 address that it is.
    #[must_use]
    pub const fn new(address: IpAddr, found: HowFound) -> Self {
        Self { address: address.to_canonical(), found }
    }

    /// The address; never an IPv4 address in the form of an IPv6 address.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// Where the address comes from.
    #[must_use]
    pub const fn found(self) -> HowFound {
        self.found
    }

    /// The key by which limits count this client.
    #[must_use]
    pub const fn throttle_key(self) -> ThrottleKey {
        ThrottleKey::of(self.address)
    }
}

impl HowFound {
    /// The name as it stands in answers and logs: `connection`, `proxy_protocol`, `forwarded` or `x_forwarded_for`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::ProxyProtocol => "proxy_protocol",
            Self::Forwarded => "forwarded",
            Self::XForwardedFor => "x_forwarded_for",
        }
    }
}

impl ThrottleKey {
    /// The key of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        const NETWORK: u128 = u128::MAX << 64;
        match address.to_canonical() {
            IpAddr::V4(address) => Self(IpAddr::V4(address)),
            IpAddr::V6(address) => Self(IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK))),
        }
    }
}

/// `192.0.2.1` or `2001:db8:0:1::/64`.
impl fmt::Display for ThrottleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}"),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

/// Reads an address as proxies write it: `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]` or
/// `[2001:db8::1]:4711`. A port may also be one that a proxy hides (`_port`, RFC 7239 §6.3).
pub(super) fn read(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (IpAddr::V6(address.parse().ok()?), port.strip_prefix(':').or(port.is_empty().then_some("0"))?)
        }
        None => {
            let (address, port) = text.split_once(':')?;
            (IpAddr::V4(address.parse().ok()?), port)
        }
    };
    let is_hidden = |port: &str| {
        port.strip_prefix('_').is_some_and(|name| {
            !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        })
    };
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    (is_number || is_hidden(port)).then(|| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_127_a_client_has_one_throttle_key_whatever_address_it_takes() {
        for (address, key) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:c000:201", "192.0.2.1"),
            ("192.0.2.2", "192.0.2.2"),
            ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
            ("::1", "::/64"),
        ] {
            let client = ClientAddress::new(address.parse().unwrap(), HowFound::Connection);
            assert_eq!(client.throttle_key().to_string(), key, "{address}");
        }
    }

    #[test]
    fn an_address_is_read_as_proxies_write_it() {
        for (text, address) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:4711", Some("192.0.2.1")),
            ("192.0.2.1:_port", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:4711", Some("2001:db8::1")),
            ("[2001:db8::1]:_a.b-c", Some("2001:db8::1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("[::ffff:192.0.2.1]:1", Some("192.0.2.1")),
            ("", None),
            ("unknown", None),
            ("_hidden", None),
            ("localhost", None),
            ("192.0.2.1:", None),
            ("192.0.2.1:x", None),
            ("192.0.2.1:+1", None),
            ("192.0.2.1:65536", None),
            ("192.0.2.1:_", None),
            ("192.0.2.1.", None),
            ("192.0.2", None),
            ("192.0.2.01", None),
            ("0x7f.1", None),
            ("[192.0.2.1]", None),
            ("[2001:db8::1", None),
            ("[2001:db8::1]x", None),
            ("[2001:db8::1]:", None),
            ("fe80::1%eth0", None),
            (" 192.0.2.1", None),
        ] {
            assert_eq!(read(text), address.map(|address| address.parse().unwrap()), "{text}");
        }
    }
}
