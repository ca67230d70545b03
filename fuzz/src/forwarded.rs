//! The headers in which proxies name a client, and in which clients name whom they like.

use std::sync::LazyLock;

use countersign_http::{ClientAddress, ForwardedHeader, HowFound, TrustedProxies};
use http::{HeaderMap, HeaderValue};

const PROXY: &str = "10.0.0.1";
const CLIENT: &str = "192.0.2.1";

static PROXIES: LazyLock<TrustedProxies> = LazyLock::new(|| "10.0.0.0/8".parse().expect("a network"));

/// Each line is a field that a client sends; its first byte says which. The proxy appends its own word to them. Whatever
/// the client sends, it counts as itself, or as the proxy where the proxy's word is spoilt.
pub fn forwarded(input: &[u8]) {
    for (header, name, word) in [
        (ForwardedHeader::Forwarded, "forwarded", "for=192.0.2.1;proto=https"),
        (ForwardedHeader::XForwardedFor, "x-forwarded-for", "192.0.2.1"),
    ] {
        let mut headers = HeaderMap::new();
        for line in input.split(|byte| *byte == b'\n') {
            let Some((first, value)) = line.split_first() else { continue };
            let Ok(value) = HeaderValue::from_bytes(value) else { return };
            let names = ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];
            headers.append(names[usize::from(*first) % names.len()], value);
        }
        // A field of its own.
        let mut own = headers.clone();
        own.append(name, HeaderValue::from_static(word));
        check(header, &own);
        // The client's fields made one, with the proxy's word at their end.
        let sent: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        let joined = [&sent.join(&b", "[..])[..], b", ", word.as_bytes()].concat();
        headers.insert(name, HeaderValue::from_bytes(&joined).expect("made of values"));
        check(header, &headers);
    }
}

fn check(header: ForwardedHeader, headers: &HeaderMap) {
    let peer = |address: &str| ClientAddress::new(address.parse().expect("an address"), HowFound::Connection);
    for proxies in [PROXIES.clone(), PROXIES.clone().reading(header)] {
        let caller = proxies.caller(peer(PROXY), headers);
        let found = caller.client.address().to_string();
        assert!(found == CLIENT || found == PROXY, "{found}");
        assert!(
            found == CLIENT || caller.problem.is_some(),
            "the proxy counts as the client without a reason"
        );
        // Nobody trusts a client.
        let caller = proxies.caller(peer(CLIENT), headers);
        assert_eq!((caller.client, caller.is_passed_on), (peer(CLIENT), false));
        assert!(caller.scheme.is_none() && caller.host.is_none() && caller.problem.is_none());
    }
}
