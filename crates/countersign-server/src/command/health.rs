//! `countersign health`: asks the running server of these settings whether it is ready.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;

use super::ServeFlags;
use crate::edge::{PROXY_FOR_ITSELF, Tls};
use crate::settings::{Settings, Sources};
use crate::telemetry::say;

/// How long an answer may take. Container engines wait for 30 s by default.
const PATIENCE: Duration = Duration::from_secs(5);

/// A first line of an answer is shorter.
const MOST_BYTES: u64 = 1024;

const REQUEST: &[u8] = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

pub(crate) fn run(flags: ServeFlags) -> Result<(), Box<dyn Error>> {
    let settings = Settings::read(&Sources::read(flags.into())?)?;
    let address = reachable(&settings.listen);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async { timeout(PATIENCE, ask(&settings, &address)).await });
    let status = match answer {
        Ok(status) => status.map_err(|error| format!("{address} cannot be asked: {error}"))?,
        Err(_) => return Err(format!("{address} has not answered within {} s", PATIENCE.as_secs()).into()),
    };
    match status.split(' ').nth(1) {
        Some("200") => say("ready"),
        Some("503") => return Err(format!("{address} is not ready; its log says why").into()),
        _ => {
            return Err(format!("{address} is no server of ours: it answered {:?}", status.trim_end()).into());
        }
    }
    Ok(())
}

/// Where a server is asked that listens on this address. One that listens on all addresses is asked on the loopback one.
fn reachable(listen: &str) -> String {
    let Ok(address) = listen.parse::<SocketAddr>() else { return listen.to_owned() };
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port()).to_string()
}

/// The first line of the answer.
async fn ask(settings: &Settings, address: &str) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect(address).await?;
    if settings.edge.proxy_protocol && settings.edge.proxies.trust(stream.local_addr()?.ip()) {
        stream.write_all(&PROXY_FOR_ITSELF).await?;
    }
    let Some(files) = settings.edge.tls.clone() else { return Ok(first_line(stream).await?) };
    let connector = Tls::open(files)?.connector()?;
    let name = ServerName::try_from("localhost")?;
    Ok(first_line(connector.connect(name, stream).await?).await?)
}

async fn first_line(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<String> {
    stream.write_all(REQUEST).await?;
    let mut line = String::new();
    BufReader::new(stream.take(MOST_BYTES)).read_line(&mut line).await?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_all_addresses_is_asked_on_the_loopback_one() {
        for (listen, asked) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:443", "[::1]:443"),
            ("192.0.2.1:1", "192.0.2.1:1"),
            ("localhost:8080", "localhost:8080"),
        ] {
            assert_eq!(reachable(listen), asked);
        }
    }
}
