//! A wire that can be cut.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Forwards connections to a server until it is cut: then it takes everything and passes on nothing, as a network does
/// that drops packets. Nobody is told that a connection has ended.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    open: Arc<watch::Sender<bool>>,
    _connections: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn to(host: &str, port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = listener.local_addr().unwrap().port();
        let open = Arc::new(watch::Sender::new(true));
        let (state, host) = (open.clone(), host.to_owned());
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (host, state) = (host.clone(), state.clone());
                connections.spawn(async move {
                    passing(&state).await;
                    let Ok(server) = TcpStream::connect((host.as_str(), port)).await else { return };
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::join!(
                        forward(from_client, to_server, &state),
                        forward(from_server, to_client, &state)
                    );
                });
            }
        });
        Self { port: local, open, _connections: accepting }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing gets through.
    pub(crate) fn cut(&self) {
        self.open.send_replace(false);
    }

    /// What was held back gets through now, and everything after it.
    pub(crate) fn mend(&self) {
        self.open.send_replace(true);
    }
}

async fn passing(state: &watch::Sender<bool>) {
    // The sender is ours, so this ends when the wire is whole.
    let _ = state.subscribe().wait_for(|open| *open).await;
}

async fn forward(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    state: &watch::Sender<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        passing(state).await;
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _gone = to.shutdown().await;
}
