//! One connection: who is at its other end, TLS, and then its requests, until it ends or the server stops.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use countersign_http::{ClientAddress, HowFound};
use http::uri::Scheme;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tower_service::Service as _;

use super::Edge;
use super::activity::{Activity, Late};
use super::body::{Answered, Arriving};
use super::counts::Counts;
use super::hints::Hints;
use super::places::{PlaceOfAddress, PlacesOfAddresses};
use super::proxy_protocol;
use super::watched::Watched;

/// How long a request body may still take to arrive after the server was asked to stop. A body has 64 KiB at most. A
/// request that was not received whole has changed nothing, so its client can safely repeat it elsewhere.
const ARRIVAL: Duration = Duration::from_secs(1);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    edge: Edge,
    router: Router,
    builder: Builder<Streams>,
    places: Arc<PlacesOfAddresses>,
    hints: Hints,
    counts: Counts,
}

/// A connection that was accepted.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    peer: SocketAddr,
    activity: Arc<Activity>,
    place: Option<PlaceOfAddress>,
}

/// The other end of an established connection.
#[derive(Clone, Copy, Debug)]
struct Peer {
    /// The socket's.
    socket: SocketAddr,
    /// The client, or the proxy that is nearest to it, as far as the connection itself tells.
    address: ClientAddress,
    is_tls: bool,
}

impl Shared {
    pub(super) fn new(edge: Edge, router: Router, places: Arc<PlacesOfAddresses>, counts: Counts) -> Self {
        let builder = edge.limits.builder();
        Self { edge, router, builder, places, hints: Hints::default(), counts }
    }

    /// Takes the certificate from its files again whenever they change.
    pub(super) async fn follow_certificate(&self) {
        if let Some(tls) = &self.edge.tls {
            tls.follow(self.edge.limits.certificate).await;
        }
    }

    /// A place for a connection from this address, or `None` if it has too many. Trusted proxies have as many as they
    /// like.
    fn place_of(&self, address: ClientAddress) -> Option<Option<PlaceOfAddress>> {
        if self.edge.proxies.trust(address.address()) {
            return Some(None);
        }
        let place = self.places.of(address.address());
        if place.is_none() {
            self.hints.too_many_connections(address);
            self.counts.of_address.increment(1);
        }
        place
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection<S> {
    /// A new connection, unless its address has too many.
    pub(super) fn new(stream: S, peer: SocketAddr, shared: &Shared) -> Option<Self> {
        let place = shared.place_of(ClientAddress::new(peer.ip(), HowFound::Connection))?;
        Some(Self { stream, peer, activity: Arc::new(Activity::new()), place })
    }

    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Answers the requests of the connection, until it ends or the server stops.
    pub(super) async fn serve(self, shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
        let Self { mut stream, peer: socket, activity, place: _place } = self;
        let edge = &shared.edge;
        let established = async {
            let mut address = ClientAddress::new(socket.ip(), HowFound::Connection);
            let mut place = None;
            if edge.proxy_protocol && edge.proxies.trust(address.address()) {
                match proxy_protocol::source(&mut stream).await {
                    Ok(Some(source)) => address = ClientAddress::new(source, HowFound::ProxyProtocol),
                    Ok(None) => {}
                    Err(error) => {
                        shared.hints.no_proxy_protocol(address, &error);
                        shared.counts.no_proxy_protocol.increment(1);
                        return None;
                    }
                }
                place = shared.place_of(address)?;
            }
            let peer = Peer { socket, address, is_tls: edge.tls.is_some() };
            match &edge.tls {
                None => Some((peer, place, Either::Plain(stream))),
                Some(tls) => {
                    let accepted = tls.acceptor().accept(stream).await;
                    let failed = |error: &std::io::Error| {
                        let error = error as &dyn std::error::Error;
                        tracing::debug!(client = %address.address(), error, "a TLS handshake failed");
                        shared.counts.no_tls.increment(1);
                    };
                    let stream = accepted.inspect_err(failed).ok()?;
                    Some((peer, place, Either::Tls(Box::new(stream))))
                }
            }
        };
        let established = tokio::select! {
            established = tokio::time::timeout(edge.limits.handshake, established) => established,
            () = activity.place_is_needed() => return,
            _asked = stopping.wait_for(|stopping| *stopping) => return,
        };
        let Ok(Some((peer, _place, stream))) = established else { return };
        activity.is_open();
        match stream {
            Either::Plain(stream) => requests(stream, peer, &shared, activity, stopping).await,
            Either::Tls(stream) => requests(stream, peer, &shared, activity, stopping).await,
        }
    }
}

enum Either<S> {
    Plain(S),
    Tls(Box<tokio_rustls::server::TlsStream<S>>),
}

/// Answers the requests of an established connection.
async fn requests<S>(
    stream: S,
    peer: Peer,
    shared: &Arc<Shared>,
    activity: Arc<Activity>,
    mut stopping: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(Watched { stream, activity: activity.clone() });
    let service = {
        let (shared, activity) = (shared.clone(), activity.clone());
        service_fn(move |request: Request<Incoming>| answer(request, peer, shared.clone(), activity.clone()))
    };
    let mut serving = pin!(shared.builder.serve_connection(io, service));
    let is_stopping = tokio::select! {
        // The errors are the client's: it sent something that is not HTTP, or it has gone.
        _ended = serving.as_mut() => return,
        late = activity.late(&shared.edge.limits) => match late {
            Late::Idle => false,
            Late::Stuck => return,
        },
        () = activity.place_is_needed() => false,
        _asked = stopping.wait_for(|stopping| *stopping) => true,
    };
    serving.as_mut().graceful_shutdown();
    let mut arrival = pin!(tokio::time::sleep(ARRIVAL));
    let finished = poll_fn(|context| {
        activity.changed.register(context.waker());
        let is_late = arrival.is_elapsed() || arrival.as_mut().poll(context).is_ready();
        // What has arrived meanwhile is handled first; then it is decided whether there is anything to wait for.
        match serving.as_mut().poll(context) {
            Poll::Pending if is_stopping && !activity.is_idle(is_late) => Poll::Pending,
            Poll::Pending if !is_stopping && activity.works() => Poll::Pending,
            _ => Poll::Ready(()),
        }
    });
    tokio::select! {
        () = finished => {}
        _stuck = activity.late(&shared.edge.limits) => {}
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: Peer,
    shared: Arc<Shared>,
    activity: Arc<Activity>,
) -> Result<Response<Answered>, Infallible> {
    let running = activity.begin_request();
    let edge = &shared.edge;
    let mut request = request.map(|body| Body::new(Arriving::new(body, activity, edge.limits.body)));
    let mut caller = edge.proxies.caller(peer.address, request.headers());
    if peer.is_tls && caller.scheme.is_none() {
        caller.scheme = Some(Scheme::HTTPS);
    }
    shared.hints.look(&edge.proxies, peer.address, &caller, request.headers());
    let extensions = request.extensions_mut();
    extensions.insert(ConnectInfo(peer.socket));
    extensions.insert(caller.client);
    extensions.insert(caller);
    let response = shared.router.clone().call(request).await?;
    Ok(response.map(|body| Answered::new(body, running)))
}

/// Runs the requests of HTTP/2, each in a task of its own and for a limited time. A client that opens a stream and then
/// takes nothing of the answer would otherwise keep it for ever, because the connection itself is not stuck.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams(pub(super) Duration);

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let limit = self.0;
        tokio::spawn(async move {
            let _is_late = tokio::time::timeout(limit, stream).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use bytes::Bytes;
    use countersign_http::TrustedProxies;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::timeout;

    use super::super::activity::PREFACE;
    use super::super::limits::Limits;
    use super::super::places::Places;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The client's end of a newly accepted connection.
    struct Client {
        stream: DuplexStream,
        activity: Arc<Activity>,
        _stop: watch::Sender<bool>,
    }

    impl Client {
        fn connect() -> Self {
            Self::connect_to(Router::new().route("/", get(|| async {})))
        }

        fn connect_to(router: Router) -> Self {
            let limits = Limits::default();
            let edge = Edge {
                name: "users",
                limits,
                proxies: TrustedProxies::default(),
                proxy_protocol: false,
                tls: None,
            };
            let counts = Counts::of("users");
            let places = Places::new(&limits, counts.clone()).of_addresses();
            let shared = Arc::new(Shared::new(edge, router, places, counts));
            let (stream, accepted) = duplex(64 * 1024);
            let (stop, stopping) = watch::channel(false);
            let connection = Connection::new(accepted, ([127, 0, 0, 1], 1).into(), &shared).unwrap();
            let activity = connection.activity().clone();
            tokio::spawn(connection.serve(shared, stopping));
            Self { stream, activity, _stop: stop }
        }

        async fn send(&mut self, bytes: &[u8]) {
            self.stream.write_all(bytes).await.unwrap();
        }

        /// Reads for this long. Returns whether the server has closed the connection meanwhile.
        async fn is_closed_within(&mut self, time: Duration) -> bool {
            let mut read = Vec::new();
            timeout(time, self.stream.read_to_end(&mut read)).await.is_ok()
        }

        async fn expect(&mut self, expected: &[u8]) {
            let mut answer = vec![0; expected.len()];
            self.stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sec_151_the_first_byte_and_the_first_head_have_10_seconds_each() {
        for (case, sent, after) in [
            ("nothing", &b""[..], Duration::ZERO),
            ("the beginning of both versions", b"P", Duration::ZERO),
            ("HTTP/2's preface but for its last byte", &PREFACE[..23], Duration::ZERO),
            ("half a head", b"GET / HTTP/1.1\r\nHost:", Duration::ZERO),
            ("half a head, late", b"GET / HTTP/1.1\r\nHost:", 9 * SECOND),
            ("half a preface, late", &PREFACE[..9], 9 * SECOND),
        ] {
            let mut client = Client::connect();
            assert!(after.is_zero() || !client.is_closed_within(after).await, "{case}");
            client.send(sent).await;
            assert!(!client.is_closed_within(9 * SECOND).await, "{case}: closed early");
            assert!(client.is_closed_within(2 * SECOND).await, "{case}: still open");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sec_151_an_idle_connection_has_75_seconds_and_then_10_for_its_next_head() {
        let mut client = Client::connect();
        for _ in 0..2 {
            client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n").await;
            assert!(!client.is_closed_within(9 * SECOND).await);
            client.send(b"\r\n").await;
            client.expect(b"HTTP/1.1 200").await;
            assert!(!client.is_closed_within(74 * SECOND).await);
        }
        client.send(b"GET / HTTP/1.1\r\n").await;
        assert!(!client.is_closed_within(9 * SECOND).await);
        assert!(client.is_closed_within(2 * SECOND).await);

        let mut idle = Client::connect();
        idle.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert!(!idle.is_closed_within(74 * SECOND).await);
        assert!(idle.is_closed_within(2 * SECOND).await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_http_2_connection_is_pinged_after_30_seconds_and_has_30_more_to_answer() {
        let mut client = Client::connect();
        client.send(&PREFACE[..9]).await;
        assert!(!client.is_closed_within(9 * SECOND).await);
        client.send(&PREFACE[9..]).await;
        assert!(!client.is_closed_within(59 * SECOND).await);
        assert!(client.is_closed_within(3 * SECOND).await);
    }

    #[tokio::test(start_paused = true)]
    async fn sec_151_a_body_has_30_seconds_however_many_pieces_it_comes_in() {
        let router = Router::new().route("/", post(|_: Bytes| async {}));
        let mut client = Client::connect_to(router);
        client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n").await;
        for _ in 0..29 {
            client.send(b"x").await;
            assert!(timeout(SECOND, client.stream.read_u8()).await.is_err());
        }
        client.send(b"x").await;
        client.expect(b"HTTP/1.1 400").await;
        assert!(client.is_closed_within(SECOND).await);
    }

    #[tokio::test(start_paused = true)]
    async fn sec_151_a_head_has_16_kib() {
        for (bytes, status) in [(15 * 1024, b"HTTP/1.1 200"), (17 * 1024, b"HTTP/1.1 431")] {
            let mut client = Client::connect();
            let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(bytes));
            client.send(head.as_bytes()).await;
            client.expect(status).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sec_151_a_client_that_takes_no_answer_is_dropped_after_30_seconds() {
        let long = Router::new().route("/", get(|| async { "x".repeat(1024 * 1024) }));
        let mut client = Client::connect_to(long);
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        tokio::time::sleep(25 * SECOND).await;
        // It takes a little, which does not help.
        let mut some = vec![0; 64 * 1024];
        client.stream.read_exact(&mut some).await.unwrap();
        tokio::time::sleep(10 * SECOND).await;
        let mut rest = Vec::new();
        client.stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.len() <= 64 * 1024, "{}", rest.len());
    }

    #[tokio::test(start_paused = true)]
    async fn sec_151_a_connection_that_gives_up_its_place_ends_at_once() {
        for sent in ["", "GET", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
            let mut client = Client::connect();
            client.send(sent.as_bytes()).await;
            assert!(!client.is_closed_within(SECOND).await);
            assert!(!client.activity.gives_up_its_place() && client.activity.gives_up_its_place());
            assert!(client.is_closed_within(Duration::from_millis(1)).await, "{sent}");
        }
    }
}
