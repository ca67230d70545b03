//! Keys in PEM (RFC 7468) and DER, as other programs write them.
//!
//! The outer structure is read here and must name the key's own algorithm. The key inside is read by the cryptographic
//! library.

use pkcs1::{RsaPrivateKeyRef, RsaPublicKeyRef};
use pkcs8::PrivateKeyInfoRef;
use sec1::{EcParameters, EcPrivateKey};
use spki::der::asn1::Null;
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::algorithm::Scheme;
use super::kind::{EC_PUBLIC_KEY, ID_ED25519, KeyKind, RSA_ENCRYPTION};
use super::{Algorithm, ImportRules, KeyError, rsa};

/// A private key without its wrapping.
pub(super) enum PrivateKeyDer<'a> {
    /// A whole PKCS#8 structure around a key of the right kind.
    Pkcs8(&'a [u8]),
    /// A PKCS#1 `RSAPrivateKey`.
    Pkcs1(&'a [u8]),
    /// A SEC 1 `ECPrivateKey`, which names the right curve or none.
    Sec1(&'a [u8]),
}

/// The public key inside a `SubjectPublicKeyInfo` that names `algorithm`'s kind of key. An `RSAPublicKey` is returned
/// as it is.
pub(super) fn public_key(algorithm: Algorithm, der: &[u8]) -> Result<&[u8], KeyError> {
    let malformed = KeyError::Malformed { algorithm };
    match algorithm.scheme() {
        Scheme::Hmac(_) => return Err(KeyError::WrongForm { algorithm }),
        Scheme::Rsa(..) if RsaPublicKeyRef::try_from(der).is_ok() => return Ok(der),
        Scheme::Rsa(..) | Scheme::Ecdsa(_) | Scheme::Ed25519 => {}
    }
    let info = SubjectPublicKeyInfoRef::try_from(der).map_err(|_| malformed.clone())?;
    check_kind(algorithm, KeyKind::of_identifier(info.algorithm))?;
    if !names(algorithm, info.algorithm) {
        return Err(malformed);
    }
    info.subject_public_key.as_bytes().ok_or(malformed)
}

/// The form of a private key, if the key is for `algorithm`.
pub(super) fn private_key(algorithm: Algorithm, der: &[u8]) -> Result<PrivateKeyDer<'_>, KeyError> {
    if algorithm.is_symmetric() {
        return Err(KeyError::WrongForm { algorithm });
    }
    let malformed = KeyError::Malformed { algorithm };
    if let Ok(info) = PrivateKeyInfoRef::try_from(der) {
        check_kind(algorithm, KeyKind::of_identifier(info.algorithm))?;
        if !names(algorithm, info.algorithm) {
            return Err(malformed);
        }
        if matches!(algorithm.scheme(), Scheme::Rsa(..)) {
            check_rsa(info.private_key.as_bytes())?;
        }
        return Ok(PrivateKeyDer::Pkcs8(der));
    }
    match algorithm.scheme() {
        Scheme::Rsa(..) if RsaPrivateKeyRef::try_from(der).is_ok() => {
            check_rsa(der)?;
            return Ok(PrivateKeyDer::Pkcs1(der));
        }
        Scheme::Ecdsa(curve) => {
            if let Ok(key) = EcPrivateKey::try_from(der)
                && key.parameters.is_none_or(|named| named == EcParameters::NamedCurve(curve.oid()))
            {
                return Ok(PrivateKeyDer::Sec1(der));
            }
        }
        Scheme::Rsa(..) | Scheme::Ed25519 | Scheme::Hmac(_) => {}
    }
    KeyKind::of_private_key(der).map_or(Ok(()), |kind| check_kind(algorithm, kind))?;
    Err(malformed)
}

fn check_kind(algorithm: Algorithm, found: KeyKind) -> Result<(), KeyError> {
    if found.is_for(algorithm) { Ok(()) } else { Err(KeyError::OtherKind { found, algorithm }) }
}

/// Checks the size of an RSA key. The cryptographic library refuses keys that are too small, too, but does not give the
/// reason.
fn check_rsa(private_key: &[u8]) -> Result<(), KeyError> {
    match RsaPrivateKeyRef::try_from(private_key) {
        Ok(key) => rsa::check(&key.public_key(), ImportRules::strict()),
        // The library reads the key again and refuses it.
        Err(_) => Ok(()),
    }
}

/// Whether an identifier in DER, its parameters included, means the keys of `algorithm`. Keys for RSASSA-PSS alone have
/// another identifier, with conditions that are not read here, so they are refused.
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
