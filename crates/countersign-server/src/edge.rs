//! The layer between the sockets and the router: it accepts connections, finds out who is at their other end, ends those
//! that are too slow, and drains them when the server stops.
//!
//! A connection costs memory and a file descriptor, and an attacker can open thousands of them. So each step of a
//! connection has a [deadline](limits::Limits), the number of connections is [bounded](places), and where all places are
//! taken, a connection on which nothing is being answered gives up its own.
//!
//! A drain waits for requests that are being worked on, and for nothing else. Otherwise a client that holds a
//! connection open, or that has sent half a request, could keep the server from stopping for as long as it likes. So
//! each connection knows how many of its requests are being answered ([`activity`]); a connection without any is closed
//! at once. A request body that is on its way may still arrive, but has little time.

mod activity;
mod body;
mod connection;
mod counts;
mod files;
mod hints;
mod limits;
mod pinned;
mod places;
mod proxy_protocol;
mod tls;
mod watched;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use countersign_http::TrustedProxies;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use connection::{Connection, Shared};
use counts::Counts;
pub(crate) use files::{default_connections, raise_limit, too_many_connections};
pub(crate) use limits::Limits;
use places::Places;
pub(crate) use proxy_protocol::FOR_ITSELF as PROXY_FOR_ITSELF;
pub(crate) use tls::{Files as CertificateFiles, Tls};

/// How long the server stops accepting after the system had no more sockets.
const PAUSE: Duration = Duration::from_secs(1);

/// The way in which connections are served.
#[derive(Debug)]
pub(crate) struct Edge {
    /// Whom it serves, in metrics.
    pub(crate) name: &'static str,
    pub(crate) limits: Limits,
    pub(crate) proxies: TrustedProxies,
    /// Whether trusted proxies name the client by the PROXY protocol.
    pub(crate) proxy_protocol: bool,
    /// The certificate, unless the server speaks plain http.
    pub(crate) tls: Option<Tls>,
}

impl Edge {
    /// Serves until it is asked to stop. Then answers the requests that are being worked on, for at most `grace`.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        router: Router,
        asked_to_stop: impl Future<Output = ()>,
        grace: Duration,
    ) {
        let (stop, stopping) = watch::channel(false);
        let counts = Counts::of(self.name);
        counts.limit.set(f64::from(u32::try_from(self.limits.connections).unwrap_or(u32::MAX)));
        let mut places = Places::new(&self.limits, counts.clone());
        let shared = Arc::new(Shared::new(self, router, places.of_addresses(), counts));
        // Ends with the set.
        let mut beside = JoinSet::new();
        beside.spawn({
            let shared = shared.clone();
            async move { shared.follow_certificate().await }
        });
        let mut connections = JoinSet::new();
        let mut asked_to_stop = pin!(asked_to_stop);
        loop {
            let (stream, peer) = tokio::select! {
                () = &mut asked_to_stop => break,
                accepted = accept(&listener) => accepted,
                // Connections that have ended are removed from the set.
                Some(_) = connections.join_next() => continue,
            };
            let Some(connection) = Connection::new(stream, peer, &shared) else { continue };
            // If all places are taken, further connections wait in the system's queue.
            let place = tokio::select! {
                () = &mut asked_to_stop => break,
                place = places.next(connection.activity()) => place,
            };
            let (shared, stopping) = (shared.clone(), stopping.clone());
            connections.spawn(async move {
                connection.serve(shared, stopping).await;
                drop(place);
            });
        }
        // From now on connections are refused, so that a load balancer sends requests elsewhere.
        drop(listener);
        tracing::info!(grace_secs = grace.as_secs(), "stopping: running requests are finished first");
        stop.send_replace(true);
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, ended).await.is_err() {
            tracing::warn!(
                connections = connections.len(),
                "some requests did not finish in time (COUNTERSIGN_SHUTDOWN_GRACE)"
            );
        }
    }
}

/// The next connection. An error of one connection, or of all of them for a while, does not end the server.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "no connection can be accepted now"
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionRefused | ConnectionAborted | ConnectionReset)
}
