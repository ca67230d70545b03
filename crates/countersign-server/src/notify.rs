//! What systemd is told of the server's state, by the protocol of sd_notify(3).

use std::io;

/// The state of the server, as systemd calls it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum State {
    Ready,
    Stopping,
}

/// Tells systemd, if that has started the server with `Type=notify`.
pub(crate) fn tell(state: State) {
    let text = match state {
        State::Ready => "READY=1",
        State::Stopping => "STOPPING=1",
    };
    if let Err(error) = send(text) {
        tracing::warn!(error = &error as &dyn std::error::Error, "systemd cannot be told: {text}");
    }
}

#[cfg(unix)]
fn send(text: &str) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match name.as_bytes().strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(name) => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address)?;
    Ok(())
}

#[cfg(not(unix))]
fn send(_: &str) -> io::Result<()> {
    Ok(())
}
