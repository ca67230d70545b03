//! Keys in PEM (RFC 7468) and DER, as other programs write them.
//!
//! The outer structure is read here and must name the key's own algorithm; what it wraps goes to the cryptographic
//! library.

use pem_rfc7468::{Decoder, LineEnding};
use pkcs1::RsaPublicKeyRef;
use pkcs8::PrivateKeyInfoRef;
use sec1::{EcParameters, EcPrivateKey};
use spki::der::asn1::Null;
use spki::{AlgorithmIdentifierRef, ObjectIdentifier, SubjectPublicKeyInfoRef};
use zeroize::Zeroizing;

use super::algorithm::Scheme;
use super::{Algorithm, KeyError};

/// What a PEM text says that it holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Label {
    Public,
    RsaPublic,
    Private,
    RsaPrivate,
    EcPrivate,
}

impl Label {
    const fn text(self) -> &'static str {
        match self {
            Self::Public => "PUBLIC KEY",
            Self::RsaPublic => "RSA PUBLIC KEY",
            Self::Private => "PRIVATE KEY",
            Self::RsaPrivate => "RSA PRIVATE KEY",
            Self::EcPrivate => "EC PRIVATE KEY",
        }
    }
}

/// A private key without its wrapping.
pub(super) enum PrivateKeyDer<'a> {
    /// A whole PKCS#8 structure around a key of the right kind.
    Pkcs8(&'a [u8]),
    /// A PKCS#1 `RSAPrivateKey`.
    Pkcs1(&'a [u8]),
    /// A SEC 1 `ECPrivateKey`, which says the right curve or none.
    Sec1(&'a [u8]),
}

/// The DER inside a PEM text with one of these labels. Explanations may stand before it, nothing after it.
pub(super) fn from_pem(pem: &str, labels: &[Label]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut text = pem.trim_ascii_end();
    // Some tools write the curve's parameters into a block of its own before the key.
    if let Some((_, rest)) = text.split_once("-----END EC PARAMETERS-----") {
        text = rest.trim_ascii_start();
    }
    let mut decoder = Decoder::new_detect_wrap(text.as_bytes()).map_err(|_| KeyError::Pem)?;
    if !labels.iter().any(|label| label.text() == decoder.type_label()) {
        return Err(KeyError::Pem);
    }
    let mut der = Zeroizing::new(Vec::with_capacity(decoder.remaining_len()));
    decoder.decode_to_end(&mut der).map_err(|_| KeyError::Pem)?;
    Ok(der)
}

pub(super) fn to_pem(label: Label, der: &[u8]) -> Option<String> {
    pem_rfc7468::encode_string(label.text(), LineEnding::LF, der).ok()
}

/// The public key inside a `SubjectPublicKeyInfo` that names `algorithm`'s kind of key; an `RSAPublicKey` itself.
pub(super) fn public_key(algorithm: Algorithm, der: &[u8]) -> Result<&[u8], KeyError> {
    let malformed = KeyError::Malformed { algorithm };
    match algorithm.scheme() {
        Scheme::Hmac(_) => return Err(KeyError::WrongForm { algorithm }),
        Scheme::Rsa(..) if RsaPublicKeyRef::try_from(der).is_ok() => return Ok(der),
        Scheme::Rsa(..) | Scheme::Ecdsa(_) | Scheme::Ed25519 => {}
    }
    let info = SubjectPublicKeyInfoRef::try_from(der).map_err(|_| malformed.clone())?;
    if !names(algorithm, info.algorithm) {
        return Err(malformed);
    }
    info.subject_public_key.as_bytes().ok_or(malformed)
}

/// What kind of private key this is, if it is one for `algorithm`.
pub(super) fn private_key(algorithm: Algorithm, der: &[u8]) -> Result<PrivateKeyDer<'_>, KeyError> {
    if algorithm.is_symmetric() {
        return Err(KeyError::WrongForm { algorithm });
    }
    if let Ok(info) = PrivateKeyInfoRef::try_from(der) {
        return match names(algorithm, info.algorithm) {
            true => Ok(PrivateKeyDer::Pkcs8(der)),
            false => Err(KeyError::Malformed { algorithm }),
        };
    }
    match algorithm.scheme() {
        Scheme::Rsa(..) if pkcs1::RsaPrivateKeyRef::try_from(der).is_ok() => Ok(PrivateKeyDer::Pkcs1(der)),
        Scheme::Ecdsa(curve) => match EcPrivateKey::try_from(der) {
            Ok(key) if key.parameters.is_none_or(|named| named == EcParameters::NamedCurve(curve.oid())) => {
                Ok(PrivateKeyDer::Sec1(der))
            }
            _ => Err(KeyError::Malformed { algorithm }),
        },
        Scheme::Rsa(..) | Scheme::Ed25519 | Scheme::Hmac(_) => Err(KeyError::Malformed { algorithm }),
    }
}

/// Whether an identifier in DER means the keys of `algorithm`. Keys for RSASSA-PSS alone have another one, with
/// conditions that we do not read, so they are refused.
fn names(algorithm: Algorithm, identifier: AlgorithmIdentifierRef<'_>) -> bool {
    match algorithm.scheme() {
        Scheme::Hmac(_) => false,
        Scheme::Rsa(..) => {
            identifier.oid == RSA_ENCRYPTION
                && identifier.parameters.is_none_or(|parameters| parameters == Null.into())
        }
        Scheme::Ecdsa(curve) => {
            identifier.oid == EC_PUBLIC_KEY && identifier.parameters_oid().is_ok_and(|oid| oid == curve.oid())
        }
        Scheme::Ed25519 => identifier.oid == ID_ED25519 && identifier.parameters.is_none(),
    }
}

/// RFC 8017 §A.1.
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// RFC 5480 §2.1.1.
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// RFC 8410 §3.
const ID_ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
