//! The deadlines and sizes of connections (SEC-151).

use std::time::Duration;

use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto::Builder;

use super::connection::Streams;

/// How long each step of a connection may take, and how much of everything there may be.
///
/// The times are constants and not settings, because no application needs others. Tests use shorter ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For the first byte, from when the connection was accepted, or from the end of the handshake. 10 s.
    pub(super) first_byte: Duration,
    /// For the header of the PROXY protocol and the handshake of TLS together, from when the connection was accepted.
    /// 10 s.
    pub(super) handshake: Duration,
    /// For a head, or the preface of HTTP/2, from its first byte. 10 s.
    pub(super) head: Duration,
    /// For a body, from when it is first waited for. 30 s.
    pub(super) body: Duration,
    /// For the client to take an answer that has filled all buffers. 30 s.
    pub(super) send: Duration,
    /// For the first byte of a further request. 75 s, which is longer than most proxies keep a connection, so that a
    /// proxy seldom sends a request on a connection that is just being closed.
    pub(super) idle: Duration,
    /// For one request over HTTP/2 with its answer. 90 s: a body, an answer, and the work in between.
    pub(super) stream: Duration,
    /// Between pings over HTTP/2, and for the answer to one. 30 s.
    pub(super) ping: Duration,
    /// Between two looks at the files of the certificate. 10 s.
    pub(super) certificate: Duration,
    /// The number of connections. `COUNTERSIGN_MAX_CONNECTIONS`.
    pub(super) connections: usize,
    /// The number of connections from one address. `COUNTERSIGN_MAX_CONNECTIONS_PER_ADDRESS`.
    pub(super) connections_per_address: usize,
}

/// The number of bytes that a request's head may have. Browsers send 1 to 4 KiB with many cookies.
const HEAD_BYTES: usize = 16 * 1024;

/// The number of requests that may run on one connection over HTTP/2.
const STREAMS: u32 = 100;

/// The number of streams that a client may have reset before the server has looked at them. More of them are an attack
/// (CVE-2023-44487), and end the connection.
const RESET_STREAMS: usize = 20;

/// The number of streams that the server may have reset because of a client's mistakes (CVE-2025-8671).
const REFUSED_STREAMS: usize = 100;

/// The number of bytes that a client may send on one stream before the server takes them. No body is larger.
const STREAM_WINDOW: u32 = 64 * 1024;

/// The number of bytes that a client may send on all streams before the server takes them.
const CONNECTION_WINDOW: u32 = 256 * 1024;

impl Limits {
    /// The usual times, and so many connections.
    pub(crate) fn new(connections: usize, connections_per_address: usize) -> Self {
        Self { connections, connections_per_address, ..Self::default() }
    }

    /// The shortest time in which a connection can be late. Whoever looks this often misses nothing.
    pub(super) fn shortest(&self) -> Duration {
        self.first_byte.min(self.head).min(self.send).min(self.idle)
    }

    /// A builder for connections.
    pub(super) fn builder(&self) -> Builder<Streams> {
        let mut builder = Builder::new(Streams(self.stream));
        // The deadlines of heads are kept by the connection's activity, which also knows idle connections from slow ones.
        builder.http1().header_read_timeout(None).max_buf_size(HEAD_BYTES);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(self.ping)
            .keep_alive_timeout(self.ping)
            .max_header_list_size(HEAD_BYTES as u32)
            .max_concurrent_streams(STREAMS)
            .max_pending_accept_reset_streams(RESET_STREAMS)
            .max_local_error_reset_streams(REFUSED_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        builder
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            send: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            stream: Duration::from_secs(90),
            ping: Duration::from_secs(30),
            certificate: Duration::from_secs(10),
            connections: 10_000,
            connections_per_address: 1_000,
        }
    }
}
