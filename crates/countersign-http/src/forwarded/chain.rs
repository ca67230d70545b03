//! Reading the chain of addresses that proxies have written, from right to left.

use std::net::IpAddr;
use std::str::FromStr;

use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, header};

use super::address::{self, ClientAddress, HowFound};
use super::element::{Element, elements};
use super::trusted::TrustedProxies;

/// What is known of the sender of a request, and of what the sender asked for.
///
/// A program puts it into a request's extensions, beside its [`ClientAddress`]. The cross-site check then takes the
/// `host` that a trusted proxy names for the one that the request is addressed to.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Caller {
    /// The client's address.
    pub client: ClientAddress,
    /// Whether a trusted proxy has passed the request on.
    pub is_passed_on: bool,
    /// The scheme that the client used, if a trusted proxy says it: `http` or `https`.
    pub scheme: Option<Scheme>,
    /// The host that the client addressed, if a trusted proxy says it.
    pub host: Option<Authority>,
    /// The reason why the address is not the client's but a proxy's, if so.
    pub problem: Option<ChainProblem>,
}

/// The header in which a trusted proxy names the client.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ForwardedHeader {
    /// `Forwarded` (RFC 7239), with scheme and host in it.
    Forwarded,
    /// `X-Forwarded-For`, with the scheme in `X-Forwarded-Proto` and the host in `X-Forwarded-Host`.
    XForwardedFor,
}

/// The error for a text that is not the name of a header that names clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("must be forwarded or x-forwarded-for")]
pub struct ForwardedHeaderError;

/// The reason why a trusted proxy's word does not lead to the client. The address is then the one of the last proxy
/// that is known, so that nobody can choose an address.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainProblem {
    /// No header names a client.
    #[error("a trusted proxy passed the request on without a header that names the client")]
    Missing,
    /// A trusted proxy named the client by something else than an address, such as `unknown` or `_hidden`.
    #[error("a trusted proxy named the client by something that is no IP address")]
    NoAddress,
    /// A header cannot be read.
    #[error("a trusted proxy passed on a header that is malformed")]
    Malformed,
    /// The two headers lead to different clients. A proxy writes one of them, and the client may have written the other.
    #[error(
        "Forwarded and X-Forwarded-For lead to different clients; say which one the proxy writes, and let it remove the other"
    )]
    Contradiction,
}

/// What one kind of header says.
#[derive(Debug, Default)]
struct Told {
    client: Option<ClientAddress>,
    scheme: Option<Scheme>,
    host: Option<Authority>,
    problem: Option<ChainProblem>,
}

/// How far a chain was read.
struct Walked {
    address: IpAddr,
    /// The number of entries to the right of the one that was read last.
    passed: usize,
    is_address: bool,
}

impl Caller {
    /// A caller of whom nothing but the address is known.
    #[must_use]
    pub const fn new(client: ClientAddress) -> Self {
        Self { client, is_passed_on: false, scheme: None, host: None, problem: None }
    }
}

impl TrustedProxies {
    /// Finds out who sent a request. `peer` is the other end of the connection, or whom the PROXY protocol names.
    ///
    /// If the peer is not trusted, it is the client, whatever the headers say. Otherwise the entries of the header are
    /// read from right to left, and the first that is not a trusted proxy is the client. If all are trusted, the
    /// leftmost one is.
    #[must_use]
    pub fn caller(&self, peer: ClientAddress, headers: &HeaderMap) -> Caller {
        if !self.trust(peer.address()) {
            return Caller::new(peer);
        }
        let standard = match self.header {
            Some(ForwardedHeader::XForwardedFor) => None,
            _ => self.by_forwarded(peer, headers),
        };
        let customary = match self.header {
            Some(ForwardedHeader::Forwarded) => None,
            _ => self.by_x_forwarded(peer, headers),
        };
        let told = match (standard, customary) {
            (Some(standard), Some(customary)) => standard.agreeing_with(customary),
            (told, None) | (None, told) => told.unwrap_or_default(),
        };
        let missing = told.client.is_none().then_some(ChainProblem::Missing);
        Caller {
            client: told.client.unwrap_or(peer),
            is_passed_on: true,
            scheme: told.scheme,
            host: told.host,
            problem: told.problem.or(missing),
        }
    }

    fn by_forwarded(&self, peer: ClientAddress, headers: &HeaderMap) -> Option<Told> {
        let mut fields = headers.get_all(header::FORWARDED).iter().peekable();
        fields.peek()?;
        let read = fields.map(|field| field.to_str().ok().and_then(elements));
        let Some(elements) = read.collect::<Option<Vec<_>>>() else {
            return Some(Told::malformed(peer));
        };
        let elements: Vec<Element> = elements.into_iter().flatten().collect();
        let client = |element: &Element| element.by_whom.as_deref().and_then(address::read);
        let walked = self.walk(peer, elements.iter().rev().map(client));
        let last = elements.iter().rev().nth(walked.passed);
        let mut told = Told {
            scheme: last.and_then(|element| scheme(element.proto.as_deref()?)),
            host: last.and_then(|element| host(element.host.as_deref()?)),
            ..Told::default()
        };
        if elements.iter().any(|element| element.by_whom.is_some()) {
            told.found(peer, &walked, HowFound::Forwarded);
        }
        Some(told)
    }

    fn by_x_forwarded(&self, peer: ClientAddress, headers: &HeaderMap) -> Option<Told> {
        let entries = list(headers, X_FORWARDED_FOR);
        let walked = self.walk(peer, entries.iter().rev().map(|entry| address::read(entry)));
        // Each proxy appends its word, or all but the outermost leave it as it is.
        let nth = |name| {
            let entries = list(headers, name);
            let passed = walked.passed.min(entries.len().checked_sub(1)?);
            entries.into_iter().rev().nth(passed)
        };
        let (scheme, host) = (nth(X_FORWARDED_PROTO).and_then(scheme), nth(X_FORWARDED_HOST).and_then(host));
        let mut told = Told { scheme, host, ..Told::default() };
        if !entries.is_empty() {
            told.found(peer, &walked, HowFound::XForwardedFor);
        }
        let says_nothing = told.client.is_none() && told.scheme.is_none() && told.host.is_none();
        (!says_nothing).then_some(told)
    }

    /// Reads entries up to the first that is not a trusted proxy. The entries come from right to left; `None` stands for
    /// one that is not an address.
    fn walk(&self, peer: ClientAddress, entries: impl Iterator<Item = Option<IpAddr>>) -> Walked {
        let mut walked = Walked { address: peer.address(), passed: 0, is_address: true };
        for (passed, entry) in entries.enumerate() {
            walked.passed = passed;
            match entry {
                Some(address) => walked.address = address,
                None => walked.is_address = false,
            }
            if !walked.is_address || !self.trust(walked.address) {
                break;
            }
        }
        walked
    }
}

impl Told {
    fn malformed(peer: ClientAddress) -> Self {
        Self { client: Some(peer), problem: Some(ChainProblem::Malformed), ..Self::default() }
    }

    fn found(&mut self, peer: ClientAddress, walked: &Walked, how: HowFound) {
        let is_peer = walked.passed == 0 && !walked.is_address;
        self.client = Some(if is_peer { peer } else { ClientAddress::new(walked.address, how) });
        self.problem = (!walked.is_address).then_some(ChainProblem::NoAddress);
    }

    /// What both kinds of headers say together. A proxy writes one of them and may leave the other as the client sent it.
    /// So if they lead to different clients, nothing of either counts.
    fn agreeing_with(self, other: Self) -> Self {
        let address = |told: &Self| told.client.map(ClientAddress::address);
        match (address(&self), address(&other)) {
            (Some(one), Some(other)) if one != other => {
                Self { problem: Some(ChainProblem::Contradiction), ..Self::default() }
            }
            (Some(_), Some(_)) => Self {
                client: self.client,
                scheme: agreed(self.scheme, other.scheme),
                host: agreed(self.host, other.host),
                problem: self.problem.or(other.problem),
            },
            // The header that names no client may be the client's.
            (Some(_), None) => self,
            (None, _) => other,
        }
    }
}

fn agreed<T: PartialEq>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => (one == other).then_some(one),
        (one, other) => one.or(other),
    }
}

/// The entries of a comma-separated header, from all of its fields in order. An entry that is not text is one that says
/// nothing: what a client has put before the entries of proxies makes none of those worthless.
fn list(headers: &HeaderMap, name: HeaderName) -> Vec<&str> {
    let fields = headers.get_all(name).iter();
    let entries = fields.flat_map(|field| field.as_bytes().split(|&byte| byte == b','));
    let entries = entries.map(|entry| match std::str::from_utf8(entry) {
        Ok(text) if text.is_ascii() => text.trim(),
        _ => "\u{fffd}",
    });
    entries.filter(|entry| !entry.is_empty()).collect()
}

/// Reads a scheme. Some proxies name the protocol of a WebSocket instead.
fn scheme(text: &str) -> Option<Scheme> {
    match text.to_ascii_lowercase().as_str() {
        "https" | "wss" => Some(Scheme::HTTPS),
        "http" | "ws" => Some(Scheme::HTTP),
        _ => None,
    }
}

/// Reads a host, with or without a port and without a user.
fn host(text: &str) -> Option<Authority> {
    text.parse().ok().filter(|authority: &Authority| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        authority.as_str().bytes().all(plain) && !authority.host().is_empty()
    })
}

impl FromStr for ForwardedHeader {
    type Err = ForwardedHeaderError;

    fn from_str(text: &str) -> Result<Self, ForwardedHeaderError> {
        match text.to_ascii_lowercase().as_str() {
            "forwarded" => Ok(Self::Forwarded),
            "x-forwarded-for" => Ok(Self::XForwardedFor),
            _ => Err(ForwardedHeaderError),
        }
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn proxies() -> TrustedProxies {
        "10.0.0.0/8, 2001:db8:aaaa::/48, 127.0.0.1".parse().unwrap()
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn caller(proxies: &TrustedProxies, peer: &str, fields: &[(&'static str, &str)]) -> Caller {
        let peer = ClientAddress::new(peer.parse().unwrap(), HowFound::Connection);
        proxies.caller(peer, &headers(fields))
    }

    /// The client that a request comes from, and the problem with it.
    fn found(peer: &str, fields: &[(&'static str, &str)]) -> (String, &'static str, Option<ChainProblem>) {
        let caller = caller(&proxies(), peer, fields);
        (caller.client.address().to_string(), caller.client.found().as_str(), caller.problem)
    }

    #[test]
    fn sec_152_a_spoofed_chain_names_nobody_else() {
        use ChainProblem::{Contradiction, Malformed, Missing, NoAddress};
        const XFF: &str = "x-forwarded-for";
        const FWD: &str = "forwarded";
        for (case, peer, fields, expected) in [
            ("nobody in between", "192.0.2.9", &[][..], ("192.0.2.9", "connection", None)),
            ("a client's own word", "192.0.2.9", &[(XFF, "1.1.1.1")], ("192.0.2.9", "connection", None)),
            (
                "in both",
                "192.0.2.9",
                &[(XFF, "1.1.1.1"), (FWD, "for=1.1.1.1")],
                ("192.0.2.9", "connection", None),
            ),
            (
                "a mapped peer",
                "::ffff:10.0.0.1",
                &[(XFF, "192.0.2.1")],
                ("192.0.2.1", "x_forwarded_for", None),
            ),
            ("one proxy", PROXY, &[(XFF, "192.0.2.1")], ("192.0.2.1", "x_forwarded_for", None)),
            ("a port", PROXY, &[(XFF, "192.0.2.1:80")], ("192.0.2.1", "x_forwarded_for", None)),
            ("a mapped client", PROXY, &[(XFF, "::ffff:192.0.2.1")], ("192.0.2.1", "x_forwarded_for", None)),
            ("spoofed", PROXY, &[(XFF, "1.1.1.1, 192.0.2.1")], ("192.0.2.1", "x_forwarded_for", None)),
            (
                "spoofed, as a proxy",
                PROXY,
                &[(XFF, "1.1.1.1, 10.0.0.7, 192.0.2.1")],
                ("192.0.2.1", "x_forwarded_for", None),
            ),
            (
                "spoofed, in a field",
                PROXY,
                &[(XFF, "1.1.1.1"), (XFF, "192.0.2.1")],
                ("192.0.2.1", "x_forwarded_for", None),
            ),
            (
                "spoofed, as garbage",
                PROXY,
                &[(XFF, "\"<>, ,\\, 192.0.2.1")],
                ("192.0.2.1", "x_forwarded_for", None),
            ),
            (
                "three proxies",
                PROXY,
                &[(XFF, "1.1.1.1, 192.0.2.1, 10.0.0.3, 10.0.0.2")],
                ("192.0.2.1", "x_forwarded_for", None),
            ),
            (
                "a mapped proxy",
                PROXY,
                &[(XFF, "192.0.2.1, ::ffff:10.0.0.3")],
                ("192.0.2.1", "x_forwarded_for", None),
            ),
            (
                "a proxy that nobody trusts",
                PROXY,
                &[(XFF, "1.1.1.1, 11.0.0.3, 10.0.0.2")],
                ("11.0.0.3", "x_forwarded_for", None),
            ),
            ("only proxies", PROXY, &[(XFF, "10.0.0.3, 10.0.0.2")], ("10.0.0.3", "x_forwarded_for", None)),
            ("no word", PROXY, &[], (PROXY, "connection", Some(Missing))),
            ("an empty word", PROXY, &[(XFF, " , ")], (PROXY, "connection", Some(Missing))),
            ("unknown", PROXY, &[(XFF, "1.1.1.1, unknown")], (PROXY, "connection", Some(NoAddress))),
            (
                "unknown, further out",
                PROXY,
                &[(XFF, "1.1.1.1, unknown, 10.0.0.2")],
                ("10.0.0.2", "x_forwarded_for", Some(NoAddress)),
            ),
            (
                "no text, of the client's",
                PROXY,
                &[(XFF, "192.0.2.\u{e9}"), (XFF, "192.0.2.1")],
                ("192.0.2.1", "x_forwarded_for", None),
            ),
            ("no text", PROXY, &[(XFF, "192.0.2.\u{e9}")], (PROXY, "connection", Some(NoAddress))),
            ("RFC 7239", PROXY, &[(FWD, "for=1.1.1.1, for=192.0.2.1")], ("192.0.2.1", "forwarded", None)),
            (
                "RFC 7239, IPv6",
                PROXY,
                &[(FWD, "for=\"[2001:db8::9]:4711\";proto=https")],
                ("2001:db8::9", "forwarded", None),
            ),
            (
                "RFC 7239, proxies",
                PROXY,
                &[(FWD, "for=1.1.1.1, for=192.0.2.1"), (FWD, "for=\"[2001:db8:aaaa::1]\"")],
                ("192.0.2.1", "forwarded", None),
            ),
            (
                "RFC 7239, hidden",
                PROXY,
                &[(FWD, "for=1.1.1.1, for=_hidden")],
                (PROXY, "connection", Some(NoAddress)),
            ),
            (
                "RFC 7239, nobody named",
                PROXY,
                &[(FWD, "for=1.1.1.1, by=10.0.0.1")],
                (PROXY, "connection", Some(NoAddress)),
            ),
            (
                "half a quotation",
                PROXY,
                &[(FWD, "for=\"1.1.1.1, for=192.0.2.1")],
                (PROXY, "connection", Some(Malformed)),
            ),
            (
                "half a quotation, in a field",
                PROXY,
                &[(FWD, "a=\""), (FWD, "for=192.0.2.1")],
                (PROXY, "connection", Some(Malformed)),
            ),
            (
                "both, the same",
                PROXY,
                &[(XFF, "1.1.1.1, 192.0.2.1"), (FWD, "for=192.0.2.1")],
                ("192.0.2.1", "forwarded", None),
            ),
            (
                "both, one spoofed",
                PROXY,
                &[(XFF, "192.0.2.1"), (FWD, "for=1.1.1.1")],
                (PROXY, "connection", Some(Contradiction)),
            ),
            (
                "both, the other spoofed",
                PROXY,
                &[(XFF, "1.1.1.1"), (FWD, "for=192.0.2.1")],
                (PROXY, "connection", Some(Contradiction)),
            ),
            (
                "both, one malformed",
                PROXY,
                &[(XFF, "192.0.2.1"), (FWD, "for=\"")],
                (PROXY, "connection", Some(Contradiction)),
            ),
            (
                "both, one of no client",
                PROXY,
                &[(XFF, "192.0.2.1"), (FWD, "proto=https")],
                ("192.0.2.1", "x_forwarded_for", None),
            ),
        ] {
            let (address, how, problem) = found(peer, fields);
            assert_eq!((address.as_str(), how, problem), expected, "{case}");
        }
    }

    #[test]
    fn sec_199_the_forms_of_one_client_share_one_key() {
        let key = |fields: &[(&'static str, &str)]| {
            caller(&proxies(), PROXY, fields).client.throttle_key().to_string()
        };
        for entry in
            ["192.0.2.1", "192.0.2.1:1", "::ffff:192.0.2.1", "[::ffff:192.0.2.1]:9", "1.1.1.1,192.0.2.1"]
        {
            assert_eq!(key(&[("x-forwarded-for", entry)]), "192.0.2.1", "{entry}");
        }
        for entry in ["2001:db8::1", "2001:db8:0:0:1234::", "[2001:db8::ffff]:443", "10.0.0.9, 2001:db8::2"] {
            assert_eq!(key(&[("x-forwarded-for", entry)]), "2001:db8::/64", "{entry}");
        }
    }

    #[test]
    fn only_the_header_that_was_chosen_is_read() {
        let both = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.2")];
        for (header, address) in [("forwarded", "192.0.2.2"), ("X-Forwarded-For", "192.0.2.1")] {
            let proxies = proxies().reading(header.parse().unwrap());
            let caller = caller(&proxies, PROXY, &both);
            assert_eq!((caller.client.address().to_string().as_str(), caller.problem), (address, None));
        }
        assert!("x-real-ip".parse::<ForwardedHeader>().is_err());
    }

    #[test]
    fn scheme_and_host_are_those_of_the_clients_own_request() {
        for (fields, expected) in [
            (
                &[("x-forwarded-proto", "https"), ("x-forwarded-host", "a.example:8443")][..],
                "https a.example:8443",
            ),
            (&[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "WSS")], "https -"),
            // The outermost proxy's word, which the others have left alone.
            (&[("x-forwarded-for", "192.0.2.1, 10.0.0.2"), ("x-forwarded-proto", "https")], "https -"),
            // A word from each proxy, and before them the client's own.
            (
                &[
                    ("x-forwarded-for", "1.1.1.1, 192.0.2.1, 10.0.0.2"),
                    ("x-forwarded-proto", "ws, https, http"),
                ],
                "https -",
            ),
            (
                &[("x-forwarded-for", "192.0.2.1"), ("x-forwarded-host", "evil.example, a.example")],
                "- a.example",
            ),
            (
                &[(
                    "forwarded",
                    "for=1.1.1.1;host=evil.example, for=192.0.2.1;proto=https;host=a.example, for=10.0.0.2;proto=http;host=b",
                )],
                "https a.example",
            ),
            (&[("forwarded", "for=_hidden;proto=https;host=\"[2001:db8::1]:80\"")], "https [2001:db8::1]:80"),
            (&[("x-forwarded-host", "user@a.example")], "- -"),
            (&[("x-forwarded-host", "a.example/path")], "- -"),
            (&[("x-forwarded-proto", "gopher")], "- -"),
            // The client has sent what the proxy leaves alone.
            (
                &[
                    ("forwarded", "for=192.0.2.1"),
                    ("x-forwarded-proto", "https"),
                    ("x-forwarded-host", "evil.example"),
                ],
                "- -",
            ),
            (
                &[
                    ("forwarded", "for=1.1.1.1;proto=https"),
                    ("x-forwarded-for", "192.0.2.1"),
                    ("x-forwarded-proto", "https"),
                ],
                "- -",
            ),
        ] {
            let shown = |caller: Caller| {
                let scheme = caller.scheme.map_or("-".to_owned(), |scheme| scheme.to_string());
                format!("{scheme} {}", caller.host.map_or("-".to_owned(), |host| host.to_string()))
            };
            assert_eq!(shown(caller(&proxies(), PROXY, fields)), expected, "{fields:?}");
            assert_eq!(
                shown(caller(&proxies(), "192.0.2.9", fields)),
                "- -",
                "{fields:?}: nobody is trusted"
            );
        }
    }

    proptest! {
        #[test]
        fn sec_152_what_a_client_sends_never_changes_who_it_is(
            own in prop::collection::vec("[ -~]{0,30}", 0..4),
            header in prop::sample::select(vec!["x-forwarded-for", "forwarded"]),
        ) {
            // The proxy appends a field of its own.
            let last = if header == "forwarded" { "for=192.0.2.1" } else { "192.0.2.1" };
            let mut fields: Vec<_> = own.iter().map(|own| (header, own.as_str())).collect();
            fields.push((header, last));
            let (address, ..) = found(PROXY, &fields);
            prop_assert!(address == "192.0.2.1" || address == PROXY, "{address}");
            // It appends to the client's field.
            let appended = format!("{}, {last}", own.join(","));
            let (address, ..) = found(PROXY, &[(header, appended.as_str())]);
            prop_assert!(address == "192.0.2.1" || address == PROXY, "{address}");
        }
    }
}
