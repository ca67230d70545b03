//! The list of the proxies that are trusted.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::ForwardedHeader;

/// The proxies whose word about the client counts, and the header in which they give it. The default trusts nobody.
///
/// ```
/// use countersign_http::{ClientAddress, HowFound, TrustedProxies};
/// use http::HeaderMap;
///
/// let proxies: TrustedProxies = "127.0.0.1, 10.0.0.0/8, fd00::/8".parse()?;
/// let mut headers = HeaderMap::new();
/// headers.insert("x-forwarded-for", "203.0.113.9, 198.51.100.7, 10.0.0.2".parse()?);
///
/// let peer = ClientAddress::new("127.0.0.1".parse()?, HowFound::Connection);
/// let caller = proxies.caller(peer, &headers);
/// // 203.0.113.9 is what the client itself has sent.
/// assert_eq!(caller.client.address().to_string(), "198.51.100.7");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    pub(super) header: Option<ForwardedHeader>,
}

/// The error for an entry in a list of proxies that is neither an address nor a network.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("entry number {position} {problem}")]
pub struct TrustedProxiesError {
    position: usize,
    problem: Problem,
}

#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
enum Problem {
    #[error("is neither an IP address nor a network such as 10.0.0.0/8; names of hosts are not looked up")]
    Form,
    #[error("is no network, because it names an address inside one; write {0}")]
    Inside(IpNet),
    #[error("trusts every address, so that each client could choose its own; name the proxies' networks")]
    Everybody,
}

impl TrustedProxies {
    /// Reads the client from this header alone. By default it is read from the one of the two headers that a request
    /// has; where they contradict each other, from neither.
    #[must_use]
    pub fn reading(mut self, header: ForwardedHeader) -> Self {
        self.header = Some(header);
        self
    }

    /// The header from which alone the client is read, if one was chosen.
    #[must_use]
    pub fn reads(&self) -> Option<ForwardedHeader> {
        self.header
    }

    /// Whether no proxy is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Whether an address is one of the trusted proxies.
    #[must_use]
    pub fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }
}

/// Reads a comma-separated list of addresses and networks (CIDR, RFC 4632), such as `127.0.0.1, 10.0.0.0/8, fd00::/8`.
impl FromStr for TrustedProxies {
    type Err = TrustedProxiesError;

    fn from_str(text: &str) -> Result<Self, TrustedProxiesError> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let networks = (1..).zip(entries).map(|(position, entry)| {
            network(entry).map_err(|problem| TrustedProxiesError { position, problem })
        });
        Ok(Self { networks: networks.collect::<Result<_, _>>()?, header: None })
    }
}

fn network(text: &str) -> Result<IpNet, Problem> {
    let Some((address, prefix)) = text.split_once('/') else {
        let address = text.parse::<IpAddr>().map_err(|_| Problem::Form)?;
        return Ok(IpNet::from(address.to_canonical()));
    };
    let is_number = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix: u8 = prefix.parse().ok().filter(|_| is_number).ok_or(Problem::Form)?;
    let address = address.parse::<IpAddr>().map_err(|_| Problem::Form)?;
    // Addresses are compared in their shortest form, so networks have to be in it too.
    let (address, prefix) = match (address.to_canonical(), prefix.checked_sub(96)) {
        (IpAddr::V4(short), Some(prefix)) if address.is_ipv6() => (IpAddr::V4(short), prefix),
        _ => (address, prefix),
    };
    let network = IpNet::new(address, prefix).map_err(|_| Problem::Form)?;
    match network.trunc() {
        _ if prefix == 0 => Err(Problem::Everybody),
        proper if proper != network => Err(Problem::Inside(proper)),
        proper => Ok(proper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_152_nobody_is_trusted_unless_named() {
        let nobody = TrustedProxies::default();
        let some: TrustedProxies =
            "127.0.0.1, 10.0.0.0/8,2001:db8::/32, ::ffff:192.0.2.0/120,".parse().unwrap();
        for (address, is_trusted) in [
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("::1", false),
            ("10.255.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.77", true),
            ("192.0.3.77", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
        ] {
            let address = address.parse().unwrap();
            assert!(!nobody.trust(address), "{address}");
            assert_eq!(some.trust(address), is_trusted, "{address}");
        }
        assert!(nobody.is_empty() && "".parse::<TrustedProxies>().unwrap().is_empty() && !some.is_empty());
    }

    #[test]
    fn an_entry_that_is_no_network_is_named_with_the_remedy() {
        for (text, expected) in [
            ("10.0.0.1, proxy.example.com", "entry number 2 is neither"),
            ("10.0.0.0/33", "such as 10.0.0.0/8"),
            ("10.0.0.0/+8", "such as 10.0.0.0/8"),
            ("10.0.0.0/", "such as 10.0.0.0/8"),
            ("10.0.0/8", "such as 10.0.0.0/8"),
            ("*", "such as 10.0.0.0/8"),
            ("10.0.0.1/8", "write 10.0.0.0/8"),
            ("2001:db8::1/32", "write 2001:db8::/32"),
            ("0.0.0.0/0", "trusts every address"),
            ("::/0", "trusts every address"),
            ("::ffff:0.0.0.0/96", "trusts every address"),
        ] {
            let error = text.parse::<TrustedProxies>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
