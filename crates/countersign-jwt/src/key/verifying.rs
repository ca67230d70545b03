//! Keys that verify.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use pkcs1::RsaPublicKeyRef;

use super::algorithm::Scheme;
use super::encoded;
use super::mac::MacKey;
use super::material::{check_secret_with, is_weak_ed25519, secret_name};
use super::pem::{self, Part};
use super::{Algorithm, ImportRules, KeyError, KeyId, rsa};
use crate::base64url;
use crate::claims::TokenType;

/// A key that verifies signatures of its one algorithm. Cheap to clone.
///
/// ```
/// use countersign_jwt::{Algorithm, SigningKey, VerifyingKey};
///
/// # let random = countersign_testkit::SeededRandom::default();
/// # let pem = SigningKey::generate(Algorithm::Es256, &random)?.verifying_key().to_public_key_pem().ok_or("a key pair")?;
/// let key = VerifyingKey::from_public_key_pem(Algorithm::Es256, &pem)?;
/// assert_eq!(key.thumbprint().as_deref(), Some(key.key_id().as_str()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct VerifyingKey(Arc<Inner>);

struct Inner {
    algorithm: Algorithm,
    id: KeyId,
    material: Material,
    signature_bytes: usize,
    known_headers: [KnownHeader; 2],
    warning: Option<&'static str>,
}

#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "always behind an `Arc`")]
pub(super) enum Material {
    Mac(MacKey),
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
    /// A key from a public key: 32 bytes for [`Algorithm::EdDsa`] (RFC 8032), an uncompressed point for ECDSA (SEC 1
    /// §2.3.3), a PKCS#1 `RSAPublicKey` in DER for RSA (RFC 8017 §A.1.1).
    ///
    /// # Errors
    /// [`KeyError::WrongForm`] for a symmetric algorithm, because a public key never becomes a secret.
    /// [`KeyError::Malformed`] if the bytes are not a key of this algorithm; [`KeyError::WeakPublicKey`],
    /// [`KeyError::RsaSize`] or [`KeyError::RsaExponent`] if the key does not protect.
    pub fn from_public_key(algorithm: Algorithm, id: KeyId, bytes: &[u8]) -> Result<Self, KeyError> {
        Self::from_public_key_with(ImportRules::strict(), algorithm, id, bytes)
    }

    /// A key from a public key, as [`VerifyingKey::from_public_key`] reads it, under other rules for its strength.
    ///
    /// # Errors
    /// Those of [`VerifyingKey::from_public_key`], except for what the rules accept.
    pub fn from_public_key_with(
        rules: ImportRules,
        algorithm: Algorithm,
        id: KeyId,
        bytes: &[u8],
    ) -> Result<Self, KeyError> {
        let (key, signature_bytes) = parse_public(rules, algorithm, bytes)?;
        Ok(Self::new(algorithm, id, Material::Public(key), signature_bytes))
    }

    /// A key from a public key in DER, named by its thumbprint: a `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7), or for
    /// RSA also a PKCS#1 `RSAPublicKey`.
    ///
    /// # Errors
    /// Those of [`VerifyingKey::from_public_key`].
    pub fn from_public_key_der(algorithm: Algorithm, der: &[u8]) -> Result<Self, KeyError> {
        Self::from_public_key_der_with(ImportRules::strict(), algorithm, der)
    }

    /// A key from a public key in DER, as [`VerifyingKey::from_public_key_der`] reads it, under other rules for its
    /// strength.
    ///
    /// # Errors
    /// Those of [`VerifyingKey::from_public_key_der`], except for what the rules accept.
    pub fn from_public_key_der_with(
        rules: ImportRules,
        algorithm: Algorithm,
        der: &[u8],
    ) -> Result<Self, KeyError> {
        Self::named_by_thumbprint(rules, algorithm, encoded::public_key(algorithm, der)?)
    }

    /// A key from a public key in PEM, `PUBLIC KEY` or `RSA PUBLIC KEY`, named by its thumbprint. The text around the
    /// key is skipped, as by [`SigningKey::from_private_key_pem`](super::SigningKey::from_private_key_pem).
    ///
    /// # Errors
    /// [`KeyError::Pem`] if the text is not PEM with a key, [`KeyError::PemContent`] if it has something else,
    /// [`KeyError::OtherKind`] for another kind of key, and those of [`VerifyingKey::from_public_key`].
    pub fn from_public_key_pem(algorithm: Algorithm, pem: &str) -> Result<Self, KeyError> {
        Self::from_public_key_pem_with(ImportRules::strict(), algorithm, pem)
    }

    /// A key from a public key in PEM, as [`VerifyingKey::from_public_key_pem`] reads it, under other rules for its
    /// strength.
    ///
    /// # Errors
    /// Those of [`VerifyingKey::from_public_key_pem`], except for what the rules accept.
    pub fn from_public_key_pem_with(
        rules: ImportRules,
        algorithm: Algorithm,
        pem: &str,
    ) -> Result<Self, KeyError> {
        let der = pem::decode(pem.as_bytes(), Part::Public)?;
        Self::from_public_key_der_with(rules, algorithm, &der)
    }

    /// A key that verifies with a shared secret. To sign with a secret, use [`SigningKey`](super::SigningKey).
    ///
    /// # Errors
    /// Those of [`SigningKey::hmac`](super::SigningKey::hmac), except for what the rules accept.
    pub fn hmac_with(rules: ImportRules, algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyError> {
        let Scheme::Hmac(hash) = algorithm.scheme() else { return Err(KeyError::WrongForm { algorithm }) };
        let warning = check_secret_with(rules, secret, hash.bytes())?;
        let material = Material::Mac(MacKey::new(hash, secret));
        Ok(Self::with_warning(algorithm, secret_name(secret), material, hash.bytes(), warning))
    }

    /// The danger of this key, if it was accepted only by the rules that it was read with. A program writes it to its
    /// log at every start (SEC-018).
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        self.0.warning
    }

    /// The one algorithm that this key verifies.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// The key id by which tokens name the key.
    #[must_use]
    pub fn key_id(&self) -> &KeyId {
        &self.0.id
    }

    /// The same key with another id.
    #[must_use]
    pub fn with_key_id(self, id: KeyId) -> Self {
        let Inner { algorithm, material, signature_bytes, warning, .. } = &*self.0;
        Self::with_warning(*algorithm, id, material.clone(), *signature_bytes, *warning)
    }

    /// The public key in the form that [`VerifyingKey::from_public_key`] takes; `None` if the key is a secret.
    #[must_use]
    pub fn public_key(&self) -> Option<&[u8]> {
        match &self.0.material {
            Material::Public(key) => Some(key.as_ref()),
            Material::Mac(_) => None,
        }
    }

    /// The public key as a `SubjectPublicKeyInfo` in DER; `None` if the key is a secret.
    #[must_use]
    pub fn to_public_key_der(&self) -> Option<Vec<u8>> {
        match &self.0.material {
            Material::Public(key) => key.as_der().ok().map(|der| der.as_ref().to_vec()),
            Material::Mac(_) => None,
        }
    }

    /// The public key in PEM, as `PUBLIC KEY`; `None` if the key is a secret.
    #[must_use]
    pub fn to_public_key_pem(&self) -> Option<String> {
        self.to_public_key_der().and_then(|der| pem::encode("PUBLIC KEY", &der))
    }

    /// The public key's SHA-256 thumbprint in base64url (RFC 7638 §3); `None` if the key is a secret.
    #[must_use]
    pub fn thumbprint(&self) -> Option<String> {
        self.public_key().and_then(|bytes| thumbprint(self.algorithm(), bytes))
    }

    /// Whether both are one key in memory, and not merely equal. What was verified with a key stays valid only while
    /// that very key is in the ring.
    #[must_use]
    pub fn is_same_key(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn from_mac(algorithm: Algorithm, id: KeyId, key: MacKey, tag_bytes: usize) -> Self {
        Self::new(algorithm, id, Material::Mac(key), tag_bytes)
    }

    /// A key whose id is its thumbprint.
    pub(super) fn named_by_thumbprint(
        rules: ImportRules,
        algorithm: Algorithm,
        public: &[u8],
    ) -> Result<Self, KeyError> {
        let (key, signature_bytes) = parse_public(rules, algorithm, public)?;
        let id = thumbprint(algorithm, public).ok_or(KeyError::Malformed { algorithm })?;
        Ok(Self::new(algorithm, KeyId(id.into()), Material::Public(key), signature_bytes))
    }

    fn new(algorithm: Algorithm, id: KeyId, material: Material, signature_bytes: usize) -> Self {
        Self::with_warning(algorithm, id, material, signature_bytes, None)
    }

    fn with_warning(
        algorithm: Algorithm,
        id: KeyId,
        material: Material,
        signature_bytes: usize,
        warning: Option<&'static str>,
    ) -> Self {
        let known_headers = TokenType::ALL.map(|kind| {
            let typ = kind.header_typ();
            KnownHeader { typ, segment: encoded_header(algorithm, &id, typ) }
        });
        Self(Arc::new(Inner { algorithm, id, material, signature_bytes, known_headers, warning }))
    }

    pub(crate) fn known_headers(&self) -> &[KnownHeader] {
        &self.0.known_headers
    }

    /// The length of each signature of this key.
    pub(crate) fn signature_bytes(&self) -> usize {
        self.0.signature_bytes
    }

    /// Whether `signature` is this key's signature of `message`. MACs are compared in constant time and in full length.
    #[must_use]
    pub fn accepts(&self, message: &[u8], signature: &[u8]) -> bool {
        if signature.len() != self.0.signature_bytes {
            return false;
        }
        match &self.0.material {
            Material::Mac(key) => key.accepts(message, signature),
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

/// The base64url segment of a header, with the dot after it. The order of the members is fixed: `alg`, `kid`, `typ`.
pub(crate) fn encoded_header(algorithm: Algorithm, id: &KeyId, typ: &str) -> String {
    // Serialising two strings cannot fail; `Value`'s own display is their JSON form.
    let id = serde_json::Value::from(id.as_str());
    let typ = serde_json::Value::from(typ);
    let mut segment = base64url::encode(format!(r#"{{"alg":"{algorithm}","kid":{id},"typ":{typ}}}"#));
    segment.push('.');
    segment
}

/// Parses a public key, refusing every form but the one that [`VerifyingKey::from_public_key`] documents. Returns the
/// length of its signatures, too.
fn parse_public(
    rules: ImportRules,
    algorithm: Algorithm,
    bytes: &[u8],
) -> Result<(ParsedPublicKey, usize), KeyError> {
    let malformed = KeyError::Malformed { algorithm };
    let (parsed, signature_bytes) = match algorithm.scheme() {
        Scheme::Hmac(_) => return Err(KeyError::WrongForm { algorithm }),
        Scheme::Rsa(padding, hash) => {
            let key = RsaPublicKeyRef::try_from(bytes).map_err(|_| malformed.clone())?;
            rsa::check(&key, rules)?;
            (ParsedPublicKey::new(rsa::verification(padding, hash), bytes), key.modulus.as_bytes().len())
        }
        Scheme::Ecdsa(curve) => {
            if bytes.len() != curve.point_bytes() {
                return Err(malformed);
            }
            (ParsedPublicKey::new(curve.verification(), bytes), 2 * curve.bytes())
        }
        Scheme::Ed25519 => {
            let key: &[u8; 32] = bytes.try_into().map_err(|_| malformed.clone())?;
            if is_weak_ed25519(key) {
                return Err(KeyError::WeakPublicKey);
            }
            (ParsedPublicKey::new(&ED25519, bytes), 64)
        }
    };
    Ok((parsed.map_err(|_| malformed)?, signature_bytes))
}

/// The thumbprint of RFC 7638 §3: the required members of the public JWK in lexical order, without white space, hashed.
fn thumbprint(algorithm: Algorithm, public: &[u8]) -> Option<String> {
    let encode = |bytes: &[u8]| base64url::encode(bytes);
    let jwk = match algorithm.scheme() {
        Scheme::Hmac(_) => return None,
        Scheme::Rsa(..) => {
            let key = RsaPublicKeyRef::try_from(public).ok()?;
            let (n, e) = (encode(key.modulus.as_bytes()), encode(key.public_exponent.as_bytes()));
            format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#)
        }
        Scheme::Ecdsa(curve) => {
            let (x, y) = public.get(1..)?.split_at_checked(curve.bytes())?;
            format!(r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#, curve.name(), encode(x), encode(y))
        }
        Scheme::Ed25519 => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, encode(public)),
    };
    Some(encode(digest::digest(&digest::SHA256, jwk.as_bytes()).as_ref()))
}
