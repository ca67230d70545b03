//! Finding a key in a PEM text (RFC 7468 §2), as OpenSSL, PyJWT and Node do.
//!
//! People's files have blanks at the ends of lines, a certificate or the curve's parameters beside the key, or the
//! explanations of a PKCS#12 tool before it. The blocks of a text are therefore found here, and the one that has the
//! key is rewritten in the strict form for the library, which decodes it in constant time.

use std::fmt;

use pem_rfc7468::{Decoder, LineEnding};
use zeroize::Zeroizing;

use super::KeyError;

/// The part of a key pair that is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    Public,
    Private,
}

/// The content of a PEM text that has no key that can be read here, with what to do about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PemContent {
    /// A private key that is encrypted with a passphrase.
    Encrypted,
    /// A public key where a private one is wanted.
    PublicKey,
    /// A private key where a public one is wanted.
    PrivateKey,
    /// Several keys, of which any may be meant.
    SeveralKeys,
    /// A certificate, or a request for one, without a key.
    Certificate,
    /// A key in OpenSSH's own form.
    OpenSsh,
    /// A DSA key.
    Dsa,
}

impl fmt::Display for PemContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encrypted => {
                "the private key is encrypted, and its passphrase is not asked for here; decrypt it: \
                 openssl pkey -in ENCRYPTED.pem -out KEY.pem"
            }
            Self::PublicKey => "this is a public key, and the private key is wanted",
            Self::PrivateKey => {
                "this is a private key, and its public key is wanted: openssl pkey -in KEY.pem -pubout"
            }
            Self::SeveralKeys => "the PEM text holds several keys; leave only the one that is meant",
            Self::Certificate => {
                "this is a certificate and no key; the private key is in another file, and the public one is shown by: \
                 openssl x509 -in CERTIFICATE.pem -noout -pubkey"
            }
            Self::OpenSsh => {
                "this is a key in OpenSSH's own form, which is not read; convert a copy: \
                 ssh-keygen -p -m PKCS8 -f KEY for a private one, ssh-keygen -e -m PKCS8 -f KEY.pub for a public one"
            }
            Self::Dsa => "this is a DSA key, which signs no tokens",
        })
    }
}

/// The DER of the one key of this part in a PEM text. The text around it, certificates, the parameters of its curve and
/// the other part of the pair are skipped.
pub(super) fn decode(text: &[u8], part: Part) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let blocks = blocks(text)?;
    let labels = match part {
        Part::Public => PUBLIC,
        Part::Private => PRIVATE,
    };
    let mut wanted = blocks.iter().filter(|block| labels.contains(&block.label));
    match (wanted.next(), wanted.next()) {
        (Some(block), None) => block.decode(),
        (Some(_), Some(_)) => Err(KeyError::PemContent(PemContent::SeveralKeys)),
        (None, _) => Err(why_not(text, &blocks, part)),
    }
}

/// DER as a PEM text with this label.
pub(super) fn encode(label: &str, der: &[u8]) -> Option<String> {
    pem_rfc7468::encode_string(label, LineEnding::LF, der).ok()
}

/// The content between two boundary lines.
struct Block<'a> {
    label: &'a [u8],
    body: &'a [u8],
}

impl Block<'_> {
    fn decode(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        // Headers of the older form (RFC 1421 §4.6), if there are any, end with an empty line.
        let mut digits = lines(self.body).peekable();
        if digits.peek().is_some_and(|line| line.contains(&b':')) {
            loop {
                match digits.next() {
                    Some(line) if line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED") => {
                        return Err(KeyError::PemContent(PemContent::Encrypted));
                    }
                    Some([]) => break,
                    Some(_) => {}
                    None => return Err(KeyError::Pem),
                }
            }
        }
        // The buffer never grows, so that no copy of the key is left behind.
        let most = self.body.len() + self.body.len() / LINE + 2 * (self.label.len() + 20);
        let mut strict = Zeroizing::new(Vec::with_capacity(most));
        strict.extend_from_slice(BEGIN);
        strict.extend_from_slice(self.label);
        strict.extend_from_slice(DASHES);
        for (at, digit) in digits.flatten().filter(|digit| !digit.is_ascii_whitespace()).enumerate() {
            if at % LINE == 0 {
                strict.push(b'\n');
            }
            strict.push(*digit);
        }
        strict.push(b'\n');
        strict.extend_from_slice(END);
        strict.extend_from_slice(self.label);
        strict.extend_from_slice(DASHES);
        let mut decoder = Decoder::new(&strict).map_err(|_| KeyError::Pem)?;
        let mut der = Zeroizing::new(Vec::with_capacity(decoder.remaining_len()));
        decoder.decode_to_end(&mut der).map_err(|_| KeyError::Pem)?;
        Ok(der)
    }
}

/// All blocks of a text. A block without its end, or with the end of another one, is an error, because nobody knows
/// what is missing.
fn blocks(text: &[u8]) -> Result<Vec<Block<'_>>, KeyError> {
    let mut blocks = Vec::new();
    let mut open: Option<(&[u8], usize)> = None;
    let mut start = 0;
    for raw in text.split(|byte| is_line_break(*byte)) {
        let (line, end) = (raw.trim_ascii(), start + raw.len());
        if let Some(label) = boundary(line, BEGIN) {
            if open.replace((label, end)).is_some() {
                return Err(KeyError::Pem);
            }
        } else if let Some(label) = boundary(line, END) {
            match open.take() {
                Some((begun, body)) if begun == label => {
                    let body = text.get(body..start).unwrap_or_default();
                    blocks.push(Block { label, body: body.strip_prefix(b"\r").unwrap_or(body) });
                }
                _ => return Err(KeyError::Pem),
            }
        }
        start = end + 1;
    }
    if open.is_some() { Err(KeyError::Pem) } else { Ok(blocks) }
}

/// The lines of a block's body, without the blanks around them. Lines end with LF, CR LF or CR.
fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let body = body.strip_prefix(b"\n").unwrap_or(body);
    let lines = body.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.flat_map(|line| line.split(|byte| *byte == b'\r')).map(<[u8]>::trim_ascii)
}

const fn is_line_break(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// The label of a boundary line.
fn boundary<'a>(line: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(start)?.strip_suffix(DASHES)
}

/// The reason why a text does not have the wanted key: what it has instead, the likeliest first.
fn why_not(text: &[u8], blocks: &[Block<'_>], part: Part) -> KeyError {
    let holds = |labels: &[&[u8]]| blocks.iter().any(|block| labels.contains(&block.label));
    let content = if holds(&[b"ENCRYPTED PRIVATE KEY"]) {
        PemContent::Encrypted
    } else if holds(&[b"OPENSSH PRIVATE KEY", b"SSH2 PUBLIC KEY"]) || is_openssh_public(text) {
        PemContent::OpenSsh
    } else if holds(&[b"DSA PRIVATE KEY"]) {
        PemContent::Dsa
    } else if part == Part::Private && holds(PUBLIC) {
        PemContent::PublicKey
    } else if part == Part::Public && holds(PRIVATE) {
        PemContent::PrivateKey
    } else if holds(&[b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE", b"CERTIFICATE REQUEST"]) {
        PemContent::Certificate
    } else {
        return KeyError::Pem;
    };
    KeyError::PemContent(content)
}

/// Whether a text is one line such as `ssh-ed25519 AAAAC3… ada@example` (RFC 4253 §6.6, RFC 5656 §3.1).
fn is_openssh_public(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    text.starts_with(b"ssh-") || text.starts_with(b"ecdsa-sha2-")
}

const PUBLIC: &[&[u8]] = &[b"PUBLIC KEY", b"RSA PUBLIC KEY"];
const PRIVATE: &[&[u8]] = &[b"PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY"];
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// The number of digits on a line in the strict form.
const LINE: usize = 64;
