//! Version 2 of the PROXY protocol: a header at the beginning of a connection, in which a proxy names the client
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, §2.2).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The beginning of every header, which is nothing in HTTP or TLS.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The largest number of bytes behind the signature and length. Addresses have at most 216, and the rest is for additions
/// such as the name in the client's certificate.
const MOST: u16 = 4096;

/// The header of a connection that a proxy makes for itself, and for no client: LOCAL, without addresses.
pub(crate) const FOR_ITSELF: [u8; 16] = *b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Why the beginning of a connection is not a header of the PROXY protocol.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyProtocolError {
    #[error("the connection ended within the header")]
    Read(#[from] io::Error),
    #[error("the connection begins with something else")]
    Signature,
    #[error("the version or command is unknown")]
    Command,
    #[error("the protocol is not TCP")]
    Family,
    #[error("the length does not fit the content")]
    Length,
}

/// Reads the header, and nothing behind it. Returns the client's address; `None` if the proxy speaks for itself, such as
/// in a health check, or does not know an address.
pub(super) async fn source(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<IpAddr>, ProxyProtocolError> {
    let mut signature = [0; SIGNATURE.len()];
    stream.read_exact(&mut signature).await?;
    if signature != SIGNATURE {
        return Err(ProxyProtocolError::Signature);
    }
    let [command, family] = stream.read_u16().await?.to_be_bytes();
    let length = stream.read_u16().await?;
    if length > MOST {
        return Err(ProxyProtocolError::Length);
    }
    let mut content = vec![0; length.into()];
    stream.read_exact(&mut content).await?;
    address(command, family, &content)
}

fn address(command: u8, family: u8, content: &[u8]) -> Result<Option<IpAddr>, ProxyProtocolError> {
    match command {
        // LOCAL: whatever the addresses are, they are to be ignored.
        0x20 => return Ok(None),
        // PROXY.
        0x21 => {}
        _ => return Err(ProxyProtocolError::Command),
    }
    // Source, destination, and the port of each.
    let (address, additions) = match family {
        // AF_UNSPEC: the addresses are unknown, and what is there instead is to be ignored.
        0x00 => return Ok(None),
        0x11 => {
            let ([source, _, _], rest) = split::<3, 4>(content)?;
            (Some(IpAddr::V4(Ipv4Addr::from(source))), rest)
        }
        0x21 => {
            let ([source, _], rest) = split::<2, 16>(content)?;
            let (_ports, rest) = rest.split_first_chunk::<4>().ok_or(ProxyProtocolError::Length)?;
            (Some(IpAddr::V6(Ipv6Addr::from(source))), rest)
        }
        0x31 => {
            let (_paths, rest) = content.split_first_chunk::<216>().ok_or(ProxyProtocolError::Length)?;
            (None, rest)
        }
        _ => return Err(ProxyProtocolError::Family),
    };
    if are_additions(additions) { Ok(address) } else { Err(ProxyProtocolError::Length) }
}

/// The first `N` pieces of `M` bytes, and the rest.
fn split<const N: usize, const M: usize>(
    content: &[u8],
) -> Result<([[u8; M]; N], &[u8]), ProxyProtocolError> {
    let mut pieces = [[0; M]; N];
    let mut rest = content;
    for piece in &mut pieces {
        let (first, behind) = rest.split_first_chunk::<M>().ok_or(ProxyProtocolError::Length)?;
        (*piece, rest) = (*first, behind);
    }
    Ok((pieces, rest))
}

/// Whether the rest is a list of additions, each a type, a length and so many bytes.
fn are_additions(mut rest: &[u8]) -> bool {
    while let Some(([_, high, low], behind)) = rest.split_first_chunk::<3>() {
        let length = u16::from_be_bytes([*high, *low]);
        match behind.get(length.into()..) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, content].concat()
    }

    /// The client, and what is left for HTTP.
    async fn read(bytes: &[u8]) -> Result<(Option<IpAddr>, Vec<u8>), ProxyProtocolError> {
        let mut stream = bytes;
        let source = source(&mut stream).await?;
        Ok((source, stream.to_vec()))
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

    fn v6() -> Vec<u8> {
        let of = |address: &str| address.parse::<Ipv6Addr>().unwrap().octets();
        [&of("2001:db8::1")[..], &of("2001:db8::2"), &[0x12, 0x34, 0, 80]].concat()
    }

    #[tokio::test]
    async fn sec_152_the_header_names_the_client_and_nothing_behind_it_is_taken() {
        let additions = [&V4[..], &[4, 0, 2, 0, 0, 0x20, 0, 0]].concat();
        let unix = [0; 216];
        for (case, command, family, content, client) in [
            ("IPv4", 0x21, 0x11, &V4[..], Some("192.0.2.1")),
            ("IPv6", 0x21, 0x21, &v6(), Some("2001:db8::1")),
            ("with additions", 0x21, 0x11, &additions, Some("192.0.2.1")),
            ("a health check", 0x20, 0x00, &[], None),
            ("a health check with addresses", 0x20, 0x11, &V4, None),
            ("unknown addresses", 0x21, 0x00, &[1, 2, 3], None),
            ("a Unix socket", 0x21, 0x31, &unix, None),
        ] {
            let sent = [header(command, family, content), b"GET / HTTP/1.1\r\n".to_vec()].concat();
            let (source, rest) = read(&sent).await.unwrap();
            assert_eq!(source, client.map(|client| client.parse().unwrap()), "{case}");
            assert_eq!(rest, b"GET / HTTP/1.1\r\n", "{case}");
        }
    }

    #[tokio::test]
    async fn sec_152_what_is_not_exactly_a_header_is_refused() {
        let cut = header(0x21, 0x11, &V4);
        let long = [&V4[..], &[0; 4096]].concat();
        for (case, sent) in [
            ("HTTP", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()),
            ("TLS", [&[22, 3, 1, 2, 0, 1, 0][..], &[0; 99]].concat()),
            ("version 1", b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n".to_vec()),
            ("nothing", Vec::new()),
            ("a part", cut[..cut.len() - 1].to_vec()),
            ("another version", header(0x31, 0x11, &V4)),
            ("another command", header(0x22, 0x11, &V4)),
            ("another family", header(0x21, 0x41, &V4)),
            ("UDP", header(0x21, 0x12, &V4)),
            ("too short", header(0x21, 0x11, &V4[..11])),
            ("too short for IPv6", header(0x21, 0x21, &V4)),
            ("too long", header(0x21, 0x11, &long)),
            ("half an addition", header(0x21, 0x11, &[&V4[..], &[4, 0]].concat())),
            ("a cut addition", header(0x21, 0x11, &[&V4[..], &[4, 0, 9, 0]].concat())),
        ] {
            assert!(read(&sent).await.is_err(), "{case}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_the_reader_panic(command: u8, family: u8, content: Vec<u8>) {
            let _any = address(command, family, &content);
            let _any = address(0x21, 0x11, &content);
            let _any = address(0x21, 0x21, &content);
        }
    }
}
