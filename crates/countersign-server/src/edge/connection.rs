//! The layer between the sockets and the router: it accepts connections, and drains them when the server stops.
//!
//! A drain waits for requests that are being worked on, and for nothing else. Otherwise a client that holds a
//! connection open, or that has sent half a request, could keep the server from stopping for as long as it likes. So
//! each connection knows how many of its requests are being answered ([`Activity`]); a connection without any is closed
//! at once. A request body that is on its way may still arrive, but has little time.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower_service::Service as _;

/// How long a request body may still take to arrive after the server was asked to stop. A body has 64 KiB at most. A
/// request that was not received whole has changed nothing, so its client can safely repeat it elsewhere.
const ARRIVAL: Duration = Duration::from_secs(1);

/// How long a request's head may take to arrive. Without a limit, a client that sends half of one, or nothing, would
/// keep a socket for as long as it likes (SEC-151).
const HEAD: Duration = Duration::from_secs(30);

/// The first bytes of a connection over HTTP/2 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long the server stops accepting after the system had no more sockets.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves until it is asked to stop. Then answers the requests that are being worked on, for at most `grace`.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    asked_to_stop: impl Future<Output = ()>,
    grace: Duration,
) {
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut asked_to_stop = pin!(asked_to_stop);
    loop {
        tokio::select! {
            () = &mut asked_to_stop => break,
            (stream, peer) = accept(&listener) => {
                connections.spawn(connection(stream, peer, router.clone(), stopping.clone()));
            }
            // Connections that have ended are removed from the set.
            Some(_) = connections.join_next() => {}
        }
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

/// Answers the requests of one connection, until it ends or the server stops.
async fn connection<S>(stream: S, peer: SocketAddr, router: Router, mut stopping: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::default());
    let io = TokioIo::new(Watched { stream, activity: activity.clone(), preface: Some(PREFACE) });
    let service = {
        let activity = activity.clone();
        service_fn(move |request: Request<Incoming>| answer(request, peer, router.clone(), activity.clone()))
    };
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(HEAD).keep_alive_timeout(HEAD);
    let mut serving = pin!(builder.serve_connection(io, service));
    tokio::select! {
        // The errors are the client's: it sent something that is not HTTP, or it has gone.
        _ended = serving.as_mut() => return,
        () = activity.first_head_is_late() => return,
        _asked = stopping.wait_for(|stopping| *stopping) => {}
    }
    serving.as_mut().graceful_shutdown();
    let mut arrival = pin!(tokio::time::sleep(ARRIVAL));
    poll_fn(|context| {
        activity.changed.register(context.waker());
        let is_late = arrival.is_elapsed() || arrival.as_mut().poll(context).is_ready();
        // What has arrived meanwhile is handled first; then it is decided whether there is anything to wait for.
        match serving.as_mut().poll(context) {
            Poll::Pending if !activity.is_idle(is_late) => Poll::Pending,
            _ => Poll::Ready(()),
        }
    })
    .await;
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    mut router: Router,
    activity: Arc<Activity>,
) -> Result<Response<Answered>, Infallible> {
    let running = Running::new(&activity);
    let mut request = request.map(|body| Body::new(Arriving::new(body, activity)));
    request.extensions_mut().insert(ConnectInfo(peer));
    let response = router.call(request).await?;
    Ok(response.map(|body| Answered { body, _running: running }))
}

/// The work that a connection is busy with.
#[derive(Debug, Default)]
struct Activity {
    /// How many requests are not yet answered completely.
    running: AtomicUsize,
    /// How many of the running requests wait for more of their own body.
    waiting: AtomicUsize,
    /// Whether answers wait for the client to receive them.
    is_sending: AtomicBool,
    /// Whether a request has begun, or HTTP/2 has, which has pings of its own.
    has_begun: AtomicBool,
    /// The task that waits for the connection to become idle.
    changed: AtomicWaker,
}

impl Activity {
    /// Ends after [`HEAD`] if nothing has begun until then.
    ///
    /// The builder has no timer until it knows which version of HTTP a client speaks. So the connection's first head,
    /// or the preface of HTTP/2, is timed here, from when the connection was accepted. Later heads are timed by the
    /// builder.
    async fn first_head_is_late(&self) {
        tokio::time::sleep(HEAD).await;
        if self.has_begun.load(Ordering::Acquire) {
            std::future::pending().await
        }
    }

    /// Whether there is nothing left to finish: no request, or, if it is late, only requests that the client has not
    /// sent completely.
    fn is_idle(&self, is_late: bool) -> bool {
        let not_waited_for = if is_late { self.waiting.load(Ordering::Acquire) } else { 0 };
        self.running.load(Ordering::Acquire) <= not_waited_for && !self.is_sending.load(Ordering::Acquire)
    }
}

/// A request, from its head to the end of its answer.
#[derive(Debug)]
struct Running(Arc<Activity>);

impl Running {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.running.fetch_add(1, Ordering::AcqRel);
        activity.has_begun.store(true, Ordering::Release);
        Self(activity.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.wake();
    }
}

/// The body of a request, which may still be arriving.
#[derive(Debug)]
struct Arriving {
    body: Incoming,
    activity: Arc<Activity>,
    is_awaited: bool,
}

impl Arriving {
    fn new(body: Incoming, activity: Arc<Activity>) -> Self {
        Self { body, activity, is_awaited: false }
    }

    fn is_awaited(&mut self, is_awaited: bool) {
        match (std::mem::replace(&mut self.is_awaited, is_awaited), is_awaited) {
            (false, true) => {
                self.activity.waiting.fetch_add(1, Ordering::AcqRel);
                self.activity.changed.wake();
            }
            (true, false) => {
                self.activity.waiting.fetch_sub(1, Ordering::AcqRel);
            }
            _ => {}
        }
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        self.is_awaited(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.is_awaited(false);
    }
}

/// The body of an answer. The request ends with the end of this body.
#[derive(Debug)]
struct Answered {
    body: Body,
    _running: Running,
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket that notes whether it has taken everything that was written, and whether HTTP/2 has begun on it.
#[derive(Debug)]
struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    /// The rest of HTTP/2's preface that is still missing, as long as everything that was read is part of the preface.
    preface: Option<&'static [u8]>,
}

impl<S> Watched<S> {
    fn written<T>(&self, written: Poll<T>) -> Poll<T> {
        self.activity.is_sending.store(written.is_pending(), Ordering::Release);
        written
    }

    fn has_read(&mut self, bytes: &[u8]) {
        let Some(missing) = self.preface else { return };
        if bytes.starts_with(missing) {
            self.activity.has_begun.store(true, Ordering::Release);
            self.preface = None;
        } else {
            self.preface = missing.strip_prefix(bytes);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.has_read(buffer.filled().get(before..).unwrap_or_default());
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::timeout;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The client's end of a newly accepted connection.
    struct Client {
        stream: DuplexStream,
        _stop: watch::Sender<bool>,
    }

    impl Client {
        fn connect() -> Self {
            let (stream, accepted) = duplex(64 * 1024);
            let (stop, stopping) = watch::channel(false);
            let router = Router::new().route("/", get(|| async {}));
            tokio::spawn(connection(accepted, ([127, 0, 0, 1], 1).into(), router, stopping));
            Self { stream, _stop: stop }
        }

        async fn send(&mut self, bytes: &[u8]) {
            self.stream.write_all(bytes).await.unwrap();
        }

        /// Reads for this long. Returns whether the server has closed the connection meanwhile.
        async fn is_closed_within(&mut self, time: Duration) -> bool {
            let mut read = Vec::new();
            timeout(time, self.stream.read_to_end(&mut read)).await.is_ok()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sec_151_the_first_head_has_30_seconds_from_when_the_connection_was_accepted() {
        for (case, sent, after) in [
            ("nothing", &b""[..], Duration::ZERO),
            ("the beginning of both versions", b"P", Duration::ZERO),
            ("HTTP/2's preface but for its last byte", &PREFACE[..23], Duration::ZERO),
            ("half a head", b"GET / HTTP/1.1\r\nHost:", Duration::ZERO),
            ("half a head, late", b"GET / HTTP/1.1\r\nHost:", 20 * SECOND),
            ("half a preface, late", &PREFACE[..9], 20 * SECOND),
        ] {
            let mut client = Client::connect();
            assert!(after.is_zero() || !client.is_closed_within(after).await, "{case}");
            client.send(sent).await;
            assert!(!client.is_closed_within(HEAD - after - SECOND).await, "{case}: closed early");
            assert!(client.is_closed_within(2 * SECOND).await, "{case}: still open after {HEAD:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_has_30_seconds_for_each_further_head() {
        let mut client = Client::connect();
        for _ in 0..2 {
            assert!(!client.is_closed_within(HEAD - SECOND).await);
            client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            let mut answer = [0; 12];
            client.stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
        }
        assert!(!client.is_closed_within(HEAD - SECOND).await);
        assert!(client.is_closed_within(2 * SECOND).await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_http_2_connection_is_pinged_after_30_seconds_and_has_30_more_to_answer() {
        let mut client = Client::connect();
        client.send(&PREFACE[..9]).await;
        assert!(!client.is_closed_within(20 * SECOND).await);
        client.send(&PREFACE[9..]).await;
        assert!(!client.is_closed_within(2 * HEAD - SECOND).await);
        assert!(client.is_closed_within(3 * SECOND).await);
    }
}
