//! Metrics: what the server counts and measures, for Prometheus, on a listener of its own (SEC-150).
//!
//! Every metric is in the list [`declared`]. The crates below count through the `metrics` crate, which costs nothing where
//! nobody listens. What this crate adds to requests and to calls of the store is there only if `COUNTERSIGN_METRICS_LISTEN`
//! is set.

pub(crate) mod declared;
mod reference;
mod requests;
mod stores;
mod watch;

use std::net::SocketAddr;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};

pub(crate) use reference::page;
pub(crate) use requests::{Requests, measure};
pub(crate) use stores::MeasuredStores;
pub(crate) use watch::watch;

use declared::{BUILD_INFO, Kind};

/// Serves the metrics at this address from now on.
///
/// # Errors
/// [`BuildError`] if the address cannot be listened on.
pub(crate) fn serve(address: SocketAddr) -> Result<(), BuildError> {
    let mut builder = PrometheusBuilder::new().with_http_listener(address);
    for metric in declared::all() {
        if let Kind::Histogram(bounds) = metric.kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), bounds)?;
        }
    }
    builder.install()?;
    for metric in declared::all() {
        metric.introduce();
    }
    BUILD_INFO.gauge(&[("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
    Ok(())
}
