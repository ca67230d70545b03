//! Log lines for an operator whose settings do not fit the proxies that are there. Each is written once, because clients
//! can cause them.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use countersign_http::{Caller, ChainProblem, ClientAddress, HowFound, TrustedProxies};
use http::{HeaderMap, header};

use super::proxy_protocol::ProxyProtocolError;

/// Which hints were given.
#[derive(Debug, Default)]
pub(super) struct Hints {
    untrusted: Once,
    problem: Once,
    no_header: Once,
    too_many: Once,
}

#[derive(Debug, Default)]
struct Once(AtomicBool);

impl Once {
    fn is_past(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether this is the first time.
    fn is_now(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }
}

impl Hints {
    /// Looks whether a request shows that the settings about proxies do not fit.
    pub(super) fn look(
        &self,
        proxies: &TrustedProxies,
        peer: ClientAddress,
        caller: &Caller,
        headers: &HeaderMap,
    ) {
        if let Some(problem) = caller.problem {
            // Health checks of proxies come without a header.
            if problem != ChainProblem::Missing && self.problem.is_now() {
                tracing::warn!(proxy = %peer.address(), "{problem}; its address counts as the client's (docs/proxies.md)");
            }
        }
        let is_other_end = peer.found() == HowFound::Connection;
        if !self.untrusted.is_past()
            && is_other_end
            && is_near(peer.address())
            && !proxies.trust(peer.address())
        {
            let has_header =
                headers.contains_key("x-forwarded-for") || headers.contains_key(header::FORWARDED);
            if has_header && self.untrusted.is_now() {
                tracing::warn!(
                    peer = %peer.address(),
                    "a header that names a client was ignored, because {peer} is not a trusted proxy; if it is your \
                     proxy, all its clients count as one: set COUNTERSIGN_TRUSTED_PROXIES={peer} (docs/proxies.md)",
                    peer = peer.address(),
                );
            }
        }
    }

    /// A connection of a trusted proxy began with something else than the PROXY protocol.
    pub(super) fn no_proxy_protocol(&self, proxy: ClientAddress, error: &ProxyProtocolError) {
        if self.no_header.is_now() {
            tracing::warn!(
                proxy = %proxy.address(),
                error = error as &dyn std::error::Error,
                "a trusted proxy does not speak version 2 of the PROXY protocol, which COUNTERSIGN_PROXY_PROTOCOL \
                 requires (docs/proxies.md)"
            );
        }
    }

    /// A connection was refused, because its address has too many.
    pub(super) fn too_many_connections(&self, address: ClientAddress) {
        if self.too_many.is_now() {
            tracing::warn!(
                address = %address.address(),
                "connections are refused, because their address has too many \
                 (COUNTERSIGN_MAX_CONNECTIONS_PER_ADDRESS); if it is a proxy, name it in COUNTERSIGN_TRUSTED_PROXIES"
            );
        }
    }
}

/// Whether an address is of this machine or of a private network, where proxies are.
fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}
