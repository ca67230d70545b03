//! What the metrics tell about the connections of a listener.

use metrics::{Counter, Gauge};

use crate::metrics::declared::{
    CONNECTIONS_EVICTED, CONNECTIONS_LIMIT, CONNECTIONS_OPEN, CONNECTIONS_REFUSED,
};

/// The counters of one listener's connections.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    pub(super) open: Gauge,
    pub(super) limit: Gauge,
    /// Connections that gave up their places.
    pub(super) evicted: Counter,
    /// Connections of addresses that have too many.
    pub(super) of_address: Counter,
    /// Connections of trusted proxies without the PROXY protocol.
    pub(super) no_proxy_protocol: Counter,
    /// Connections whose TLS handshake failed.
    pub(super) no_tls: Counter,
}

impl Counts {
    /// The counters of the listener with this name.
    pub(super) fn of(listener: &'static str) -> Self {
        let listener = ("listener", listener);
        let refused = |reason| CONNECTIONS_REFUSED.counter(&[listener, ("reason", reason)]);
        Self {
            open: CONNECTIONS_OPEN.gauge(&[listener]),
            limit: CONNECTIONS_LIMIT.gauge(&[listener]),
            evicted: CONNECTIONS_EVICTED.counter(&[listener]),
            of_address: refused("address"),
            no_proxy_protocol: refused("proxy_protocol"),
            no_tls: refused("tls"),
        }
    }
}
