//! Keys that verify.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};

use super::material::is_weak_ed25519;
use super::{Algorithm, KeyError, KeyId};
use crate::base64url;
use crate::claims::TokenType;

/// A key that verifies signatures of its one algorithm. Cheap to clone.
#[derive(Clone)]
pub struct VerifyingKey(Arc<Inner>);

struct Inner {
    algorithm: Algorithm,
    id: KeyId,
    material: Material,
    known_headers: [KnownHeader; 2],
}

#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "always behind an `Arc`")]
pub(super) enum Material {
    Mac(hmac::Key),
    Public(ParsedPublicKey),
}

/// The encoded header of the tokens we issue with a key.
///
/// A token that starts with exactly these bytes has exactly this header, so the verifier need not read it again.
#[derive(Debug)]
pub(crate) struct KnownHeader {
    pub(crate) typ: &'static str,
    /// The base64url segment with the dot that ends it.
    pub(crate) segment: String,
}

impl VerifyingKey {
    /// Takes a public key: 32 bytes for [`Algorithm::EdDsa`] (RFC 8032), the uncompressed point of 65 bytes for
    /// [`Algorithm::Es256`] (SEC 1 §2.3.3).
    ///
    /// # Errors
    /// [`KeyError::WrongForm`] for a symmetric algorithm: a public key never becomes a secret.
    /// [`KeyError::Malformed`] if the bytes are not a point on the curve, [`KeyError::WeakPublicKey`] for an Ed25519
    /// key under which a signature can be valid for any message.
    pub fn from_public_key(algorithm: Algorithm, id: KeyId, bytes: &[u8]) -> Result<Self, KeyError> {
        Ok(Self::new(algorithm, id, Material::Public(parse_public(algorithm, bytes)?)))
    }

    /// The algorithm, the only one that this key ever verifies.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// The key id that tokens name it by.
    #[must_use]
    pub fn key_id(&self) -> &KeyId {
        &self.0.id
    }

    /// The public key in the form that [`VerifyingKey::from_public_key`] takes; `None` if the key is a secret.
    #[must_use]
    pub fn public_key(&self) -> Option<&[u8]> {
        match &self.0.material {
            Material::Public(key) => Some(key.as_ref()),
            Material::Mac(_) => None,
        }
    }

    /// The public key's SHA-256 thumbprint in base64url (RFC 7638 §3); `None` if the key is a secret.
    #[must_use]
    pub fn thumbprint(&self) -> Option<String> {
        self.public_key().and_then(|bytes| thumbprint(self.algorithm(), bytes))
    }

    /// Whether both are one key in memory, not merely equal. What was verified with a key stays valid only while
    /// that very key is in the ring.
    #[must_use]
    pub fn is_same_key(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn new(algorithm: Algorithm, id: KeyId, material: Material) -> Self {
        let known_headers = TokenType::ALL.map(|kind| {
            let typ = kind.header_typ();
            KnownHeader { typ, segment: encoded_header(algorithm, &id, typ) }
        });
        Self(Arc::new(Inner { algorithm, id, material, known_headers }))
    }

    pub(super) fn with_key_id(&self, id: KeyId) -> Self {
        Self::new(self.0.algorithm, id, self.0.material.clone())
    }

    pub(crate) fn known_headers(&self) -> &[KnownHeader] {
        &self.0.known_headers
    }

    /// Whether `signature` is this key's for `message`. MACs are compared in constant time and in full length.
    pub(crate) fn accepts(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0.material {
            Material::Mac(key) => hmac::verify(key, message, signature).is_ok(),
            Material::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("algorithm", &self.0.algorithm)
            .field("key_id", &self.0.id)
            .finish_non_exhaustive()
    }
}

/// A header's base64url segment with the dot after it. Member order is fixed: `alg`, `kid`, `typ`.
pub(crate) fn encoded_header(algorithm: Algorithm, id: &KeyId, typ: &str) -> String {
    // Serialising two strings cannot fail; `Value`'s own display is their JSON form.
    let id = serde_json::Value::from(id.as_str());
    let typ = serde_json::Value::from(typ);
    let mut segment = base64url::encode(format!(r#"{{"alg":"{algorithm}","kid":{id},"typ":{typ}}}"#));
    segment.push('.');
    segment
}

/// Reads a public key, refusing every form but the one that [`VerifyingKey::from_public_key`] documents.
fn parse_public(algorithm: Algorithm, bytes: &[u8]) -> Result<ParsedPublicKey, KeyError> {
    let malformed = KeyError::Malformed { algorithm };
    match algorithm {
        Algorithm::Hs256 => Err(KeyError::WrongForm { algorithm }),
        Algorithm::Es256 => {
            if bytes.len() != 65 {
                return Err(malformed);
            }
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes).map_err(|_| malformed)
        }
        Algorithm::EdDsa => {
            let key: &[u8; 32] = bytes.try_into().map_err(|_| malformed.clone())?;
            if is_weak_ed25519(key) {
                return Err(KeyError::WeakPublicKey);
            }
            ParsedPublicKey::new(&ED25519, bytes).map_err(|_| malformed)
        }
    }
}

/// RFC 7638 §3: the required members of the public JWK in lexical order, without white space, hashed.
pub(super) fn thumbprint(algorithm: Algorithm, public: &[u8]) -> Option<String> {
    let encode = |bytes: &[u8]| base64url::encode(bytes);
    let jwk = match algorithm {
        Algorithm::Hs256 => return None,
        Algorithm::Es256 => {
            let (x, y) = public.get(1..)?.split_at_checked(32)?;
            format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, encode(x), encode(y))
        }
        Algorithm::EdDsa => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, encode(public)),
    };
    Some(encode(digest::digest(&digest::SHA256, jwk.as_bytes()).as_ref()))
}
