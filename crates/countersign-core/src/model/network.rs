//! The addresses that limits take for one client, and the blocks of addresses that they take for one neighbourhood.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address as limits count it. An IPv4 address counts by itself. An IPv6 address counts with its /64, because whoever
/// has one address of a /64 usually has all of them.
///
/// An IPv4 address that is written as an IPv6 address counts as the IPv4 address: mapped (`::ffff:0:0/96`), translated
/// (`64:ff9b::/96`, RFC 6052) and 6to4 (`2002::/16`, RFC 3056).
///
/// ```
/// use countersign_core::model::ClientNetwork;
///
/// let of = |text: &str| ClientNetwork::of(text.parse().expect("an address"));
/// assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
/// assert_eq!(of("::ffff:192.0.2.7"), of("192.0.2.7"));
/// assert_eq!(of("192.0.2.7").block(), of("192.255.255.255").block());
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ClientNetwork {
    /// One IPv4 address.
    V4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address.
    V6(u64),
}

impl ClientNetwork {
    /// The network of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::V4(v4),
            IpAddr::V6(v6) => embedded(v6).map_or_else(|| Self::V6((v6.to_bits() >> 64) as u64), Self::V4),
        }
    }

    /// The key of this network in counters.
    #[must_use]
    pub fn key(self) -> String {
        match self {
            Self::V4(v4) => v4.to_string(),
            Self::V6(prefix) => format!("{prefix:016x}"),
        }
    }

    /// The key of the block around this network: the first 8 bits of an IPv4 address, or the first 16 bits of an IPv6
    /// address. One attacker seldom has addresses in many of them. The IPv6 addresses outside of `2000::/3`, which are
    /// local, are one block.
    #[must_use]
    pub fn block(self) -> String {
        match self {
            Self::V4(v4) => format!("4-{}", v4.to_bits() >> 24),
            Self::V6(prefix) if prefix >> 61 == 1 => format!("6-{:04x}", prefix >> 48),
            Self::V6(_) => "6-local".to_owned(),
        }
    }

    /// The block of a client whose address may be unknown. All unknown addresses are one block.
    #[must_use]
    pub fn block_of(address: Option<IpAddr>) -> String {
        address.map_or_else(|| "unknown".to_owned(), |address| Self::of(address).block())
    }
}

/// The IPv4 address that an IPv6 address carries, if it carries one.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = v6.to_bits();
    let low = |bits: u128| Ipv4Addr::from_bits((bits & u128::from(u32::MAX)) as u32);
    let translated = bits >> 32 == 0x0064_ff9b_u128 << 64;
    let is_6to4 = bits >> 112 == 0x2002;
    match v6.to_ipv4_mapped() {
        Some(mapped) => Some(mapped),
        None if translated => Some(low(bits)),
        None if is_6to4 => Some(low(bits >> 80)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_127_addresses_of_one_client_are_one_key() {
        for (text, key, block) in [
            ("192.0.2.7", "192.0.2.7", "4-192"),
            ("192.0.2.8", "192.0.2.8", "4-192"),
            ("10.0.0.1", "10.0.0.1", "4-10"),
            ("0.0.0.0", "0.0.0.0", "4-0"),
            ("255.255.255.255", "255.255.255.255", "4-255"),
            ("::ffff:192.0.2.7", "192.0.2.7", "4-192"),
            ("64:ff9b::c000:207", "192.0.2.7", "4-192"),
            ("64:ff9b:1::c000:207", "0064ff9b00010000", "6-local"),
            ("2002:c000:207::1", "192.0.2.7", "4-192"),
            ("2002:c000:207:ffff::ffff", "192.0.2.7", "4-192"),
            ("2001:db8::", "20010db800000000", "6-2001"),
            ("2001:db8::ffff:ffff:ffff:ffff", "20010db800000000", "6-2001"),
            ("2001:db8:0:1::", "20010db800000001", "6-2001"),
            ("2a00:1450::1", "2a00145000000000", "6-2a00"),
            ("3fff:ffff::1", "3fffffff00000000", "6-3fff"),
            ("4000::1", "4000000000000000", "6-local"),
            ("fe80::1", "fe80000000000000", "6-local"),
            ("fd12:3456::1", "fd12345600000000", "6-local"),
            ("::1", "0000000000000000", "6-local"),
            ("::", "0000000000000000", "6-local"),
        ] {
            let network = ClientNetwork::of(text.parse().unwrap());
            assert_eq!((network.key().as_str(), network.block().as_str()), (key, block), "{text}");
            assert_eq!(ClientNetwork::block_of(Some(text.parse().unwrap())), block, "{text}");
        }
        assert_eq!(ClientNetwork::block_of(None), "unknown");
    }
}
