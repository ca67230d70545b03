//! Real servers under test: their addresses, and a connection to them that can be made to fail.

#![expect(clippy::panic, reason = "a test without what it needs fails, and says what that is")]

use std::env;
use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The URL of a server, from this environment variable (`TEST_POSTGRES_URL`, …), which `./test` sets. `None` if the
/// variable is `none`, which leaves the tests on that server out.
///
/// # Panics
/// If the variable is not set.
#[must_use]
pub fn server_url(variable: &str) -> Option<String> {
    let url = env::var(variable).unwrap_or_else(|_| {
        panic!("run ./test, or set {variable} to a server's URL, or to none to leave these tests out")
    });
    (url != "none").then_some(url)
}

/// A proxy to a server that can be blocked like a network that drops packets: bytes are accepted and not passed on, and
/// neither side is told.
///
/// ```
/// use countersign_testkit::Proxy;
/// # use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
/// # use tokio::net::{TcpListener, TcpStream};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = TcpListener::bind("127.0.0.1:0").await?;
/// let proxy = Proxy::to(&server.local_addr()?.to_string()).await;
/// let mut client = TcpStream::connect(proxy.address()).await?;
/// let (mut accepted, _) = server.accept().await?;
/// client.write_all(b"hello").await?;
/// assert_eq!(accepted.read_u8().await?, b'h');
///
/// proxy.cut();
/// assert_eq!(client.read(&mut [0]).await.unwrap_or_default(), 0, "the connection is closed");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
}

/// The state of a [`Proxy`]. Connections are numbered in the order in which they are made.
#[derive(Clone, Copy, Debug)]
struct Way {
    open: bool,
    /// The number of connections that were made.
    connections: u64,
    /// Connections with a lower number pass nothing on any more.
    swallowed: u64,
    /// Connections with a lower number are closed.
    cut: u64,
}

impl Way {
    fn lets_through(self, connection: u64) -> bool {
        self.open && connection >= self.swallowed
    }
}

impl Proxy {
    /// A proxy to a server, given as `host:port`.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (way, seen) = watch::channel(Way { open: true, connections: 0, swallowed: 0, cut: 0 });
        let (counter, server) = (way.clone(), server.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, seen) = (server.clone(), seen.clone());
                let number = seen.borrow().connections;
                counter.send_modify(|way| way.connections += 1);
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(server).await else { return };
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    let mut cut = seen.clone();
                    let forwarding = async {
                        tokio::join!(
                            forward(from_client, to_server, seen.clone(), number),
                            forward(from_server, to_client, seen, number)
                        )
                    };
                    tokio::select! {
                        _ended = forwarding => {}
                        _cut = cut.wait_for(|way| number < way.cut) => {}
                    }
                });
            }
        });
        Self { address, way }
    }

    /// A proxy to the server of a URL.
    ///
    /// # Panics
    /// In the cases of [`Proxy::to`].
    pub async fn to_server_of(url: &str) -> Self {
        Self::to(host_and_port(url)).await
    }

    /// The address at which the proxy listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL with the proxy in the server's place.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        url.replacen(host_and_port(url), &self.address.to_string(), 1)
    }

    /// Blocks the proxy: it passes nothing on.
    pub fn block(&self) {
        self.way.send_modify(|way| way.open = false);
    }

    /// Unblocks the proxy: it continues where it was.
    pub fn unblock(&self) {
        self.way.send_modify(|way| way.open = true);
    }

    /// Makes the existing connections pass nothing on, for good. New connections work.
    pub fn swallow(&self) {
        self.way.send_modify(|way| way.swallowed = way.connections);
    }

    /// Closes the existing connections. New connections work.
    pub fn cut(&self) {
        self.way.send_modify(|way| way.cut = way.connections);
    }
}

async fn forward(from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: watch::Receiver<Way>, number: u64) {
    let lets_through = |way: &Way| way.lets_through(number);
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if from.readable().await.is_err() || way.wait_for(lets_through).await.is_err() {
            return;
        }
        let read = match from.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        };
        let Some(bytes) = buffer.get(..read) else { return };
        if way.wait_for(lets_through).await.is_err() || to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// The host and port of a URL; the whole text, if it is not a URL.
fn host_and_port(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    authority.rsplit_once('@').map_or(authority, |(_, authority)| authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_of_a_url_is_its_host_and_port() {
        for (url, server) in [
            ("postgres://ada:secret@127.0.0.1:5432/app?sslmode=disable", "127.0.0.1:5432"),
            ("redis://:secret@127.0.0.1:6379/0", "127.0.0.1:6379"),
            ("redis://127.0.0.1:6379?prefix=a@b", "127.0.0.1:6379"),
            ("mongodb://127.0.0.1:27017", "127.0.0.1:27017"),
        ] {
            assert_eq!(host_and_port(url), server, "{url}");
        }
    }
}
