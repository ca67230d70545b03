//! A way to the server that can be blocked, as a broken network or a hanging server does.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards bytes while the way is open. What was sent before it was blocked arrives when it is open again, unless it
/// was lost.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    way: watch::Sender<Way>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Way {
    open: bool,
    /// Connections made before this many losses never come back.
    losses: u32,
}

impl Proxy {
    pub(crate) async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (way, ways) = watch::channel(Way { open: true, losses: 0 });
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, ways) = (server.clone(), ways.clone());
                tokio::spawn(async move {
                    let losses = ways.borrow().losses;
                    let Ok(server) = TcpStream::connect(&server).await else { return };
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::spawn(forward(from_client, to_server, ways.clone(), losses));
                    forward(from_server, to_client, ways, losses).await;
                });
            }
        });
        Self { address, way }
    }

    pub(crate) fn block(&self) {
        self.way.send_modify(|way| way.open = false);
    }

    /// Opens the way again for all connections.
    pub(crate) fn unblock(&self) {
        self.way.send_modify(|way| way.open = true);
    }

    /// Opens the way again for new connections; those that there are stay silent, and nobody is told.
    pub(crate) fn lose_connections(&self) {
        self.way.send_modify(|way| *way = Way { open: true, losses: way.losses + 1 });
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut ways: watch::Receiver<Way>,
    losses: u32,
) {
    let mut bytes = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        if ways.wait_for(|way| way.open).await.is_err() {
            return;
        }
        if ways.borrow().losses > losses {
            // Neither side learns of it.
            std::future::pending::<()>().await;
        }
        if to.write_all(bytes.get(..read).unwrap()).await.is_err() {
            return;
        }
    }
}
