//! Keys that sign.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsBigEndian, AsDer, Curve25519SeedBin};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use sec1::der::Encode;
use sec1::{EcParameters, EcPrivateKey};
use zeroize::Zeroizing;

use super::algorithm::{Hash, Padding, Scheme};
use super::curve::Curve;
use super::encoded::{self, PrivateKeyDer};
use super::mac::MacKey;
use super::material::secret_name;
use super::pem::{self, Part};
use super::verifying::encoded_header;
use super::{Algorithm, ImportRules, KeyError, KeyId, VerifyingKey, check_secret, rsa};
use crate::base64url;
use crate::random::{self, Random};

/// A key that signs tokens. Cheap to clone. Its `Debug` shows no secret, and nothing serialises it by accident.
///
/// ```
/// use countersign_jwt::{Algorithm, SigningKey};
///
/// # let random = countersign_testkit::SeededRandom::default();
/// let key = SigningKey::generate(Algorithm::Es256, &random)?;
/// let pem = key.dangerous_private_key_pem().ok_or("a shared secret has no PEM")?;
/// let moved = SigningKey::from_private_key_pem(Algorithm::Es256, &pem)?;
/// assert_eq!(moved.key_id(), key.key_id());
///
/// // A secret that is shorter than the hash is refused.
/// assert!(SigningKey::hmac(Algorithm::Hs256, b"too short").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SigningKey {
    secret: Arc<SecretMaterial>,
    verifying: VerifyingKey,
}

struct SecretMaterial {
    signer: Signer,
    /// The bytes that [`SigningKey::to_secret_bytes`] returns.
    bytes: Zeroizing<Vec<u8>>,
}

#[expect(clippy::large_enum_variant, reason = "always behind an `Arc`")]
enum Signer {
    Hmac(MacKey),
    Rsa(RsaKeyPair, Padding, Hash),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// The size of a new RSA key. Smaller keys protect nothing, and larger ones mostly cost time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RsaBits {
    /// 2048 bits: about 112 bits of security, and accepted by every verifier.
    #[default]
    Bits2048,
    /// 3072 bits: about 128 bits of security.
    Bits3072,
    /// 4096 bits.
    Bits4096,
}

/// The key could not sign.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("signing failed")]
pub(crate) struct SigningFailed;

impl SigningKey {
    /// Makes a fresh key from `random`. An RSA key has 2048 bits and is made as [`SigningKey::generate_rsa`] makes it.
    ///
    /// The key id of a key pair is the thumbprint of the public key (RFC 7638), that of a shared secret 128 random
    /// bits.
    ///
    /// # Errors
    /// [`KeyError::Random`] when the source of randomness fails.
    pub fn generate(algorithm: Algorithm, random: &dyn Random) -> Result<Self, KeyError> {
        match algorithm.scheme() {
            Scheme::Hmac(hash) => {
                let mut secret = Zeroizing::new(vec![0; hash.bytes()]);
                random.fill(&mut secret)?;
                let id = KeyId(base64url::encode(random::bytes::<16>(random)?).into());
                Ok(Self::hmac(algorithm, &secret)?.with_key_id(id))
            }
            Scheme::Rsa(..) => Self::generate_rsa(algorithm, RsaBits::default()),
            Scheme::Ecdsa(curve) => Self::from_ecdsa(algorithm, generate_ecdsa(algorithm, curve, random)?),
            Scheme::Ed25519 => {
                let seed = Zeroizing::new(random::bytes::<32>(random)?);
                Self::from_ed25519_seed(algorithm, seed.as_slice())
            }
        }
    }

    /// Makes a fresh RSA key, named by its thumbprint.
    ///
    /// The primes come from the cryptographic library's own generator, seeded by the operating system, because
    /// searching for primes is not to be written here, and the library takes no other source.
    ///
    /// # Errors
    /// [`KeyError::WrongForm`] for algorithms other than RSA's.
    pub fn generate_rsa(algorithm: Algorithm, bits: RsaBits) -> Result<Self, KeyError> {
        if !matches!(algorithm.scheme(), Scheme::Rsa(..)) {
            return Err(KeyError::WrongForm { algorithm });
        }
        let size = match bits {
            RsaBits::Bits2048 => KeySize::Rsa2048,
            RsaBits::Bits3072 => KeySize::Rsa3072,
            RsaBits::Bits4096 => KeySize::Rsa4096,
        };
        let pair = RsaKeyPair::generate(size).map_err(|_| KeyError::Malformed { algorithm })?;
        Self::from_rsa(algorithm, pair)
    }

    /// A key from a shared secret.
    ///
    /// The key id is derived from the secret with HKDF, so that every node that has the secret gives it the same id.
    ///
    /// # Errors
    /// [`KeyError::SecretTooShort`] below the size of the hash, 32, 48 or 64 bytes (RFC 7518 §3.2);
    /// [`KeyError::SecretGuessable`] for an example from documentation; [`KeyError::NotASecret`] for a public or
    /// private key in PEM, DER or JWK form; [`KeyError::WrongForm`] if the algorithm takes key pairs.
    pub fn hmac(algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyError> {
        let Scheme::Hmac(hash) = algorithm.scheme() else { return Err(KeyError::WrongForm { algorithm }) };
        check_secret(secret, hash.bytes())?;
        let key = MacKey::new(hash, secret);
        let verifying = VerifyingKey::from_mac(algorithm, secret_name(secret), key.clone(), hash.bytes());
        let secret = SecretMaterial { signer: Signer::Hmac(key), bytes: Zeroizing::new(secret.to_vec()) };
        Ok(Self { secret: Arc::new(secret), verifying })
    }

    /// A key from an unencrypted private key in DER, named by its thumbprint. The form is PKCS#8 (RFC 5958) for every
    /// key pair, also PKCS#1 (RFC 8017 §A.1.2) for RSA and SEC 1 (RFC 5915) for ECDSA.
    ///
    /// # Errors
    /// [`KeyError::OtherKind`] if this is another kind of key; [`KeyError::Malformed`] if the bytes are not a private
    /// key, or its parts contradict each other; [`KeyError::WrongForm`] if the algorithm takes a shared secret; for RSA
    /// also [`KeyError::RsaSize`], [`KeyError::RsaExponent`] and [`KeyError::WeakPublicKey`].
    pub fn from_private_key_der(algorithm: Algorithm, der: &[u8]) -> Result<Self, KeyError> {
        let malformed = |_| KeyError::Malformed { algorithm };
        match (algorithm.scheme(), encoded::private_key(algorithm, der)?) {
            (Scheme::Rsa(..), PrivateKeyDer::Pkcs8(der)) => {
                Self::from_rsa(algorithm, RsaKeyPair::from_pkcs8(der).map_err(malformed)?)
            }
            (Scheme::Rsa(..), PrivateKeyDer::Pkcs1(der)) => {
                Self::from_rsa(algorithm, RsaKeyPair::from_der(der).map_err(malformed)?)
            }
            (Scheme::Ecdsa(curve), PrivateKeyDer::Pkcs8(der)) => {
                let pair = EcdsaKeyPair::from_pkcs8(curve.signing(), der).map_err(malformed)?;
                Self::from_ecdsa(algorithm, pair)
            }
            (Scheme::Ecdsa(curve), PrivateKeyDer::Sec1(der)) => {
                let pair = EcdsaKeyPair::from_private_key_der(curve.signing(), der).map_err(malformed)?;
                Self::from_ecdsa(algorithm, pair)
            }
            (Scheme::Ed25519, PrivateKeyDer::Pkcs8(der)) => {
                Self::from_ed25519(algorithm, Ed25519KeyPair::from_pkcs8(der).map_err(malformed)?)
            }
            _ => Err(KeyError::Malformed { algorithm }),
        }
    }

    /// A key from an unencrypted private key in PEM, `PRIVATE KEY`, `RSA PRIVATE KEY` or `EC PRIVATE KEY`, named by its
    /// thumbprint.
    ///
    /// The text is read as OpenSSL reads it (RFC 7468 §2): blanks at the ends of lines, lines of any length, and text,
    /// certificates and curve parameters around the key are accepted.
    ///
    /// # Errors
    /// [`KeyError::Pem`] if the text is not PEM with a key, [`KeyError::PemContent`] if it has something else, such as
    /// an encrypted key or two keys, and those of [`SigningKey::from_private_key_der`].
    pub fn from_private_key_pem(algorithm: Algorithm, pem: &str) -> Result<Self, KeyError> {
        let der = pem::decode(pem.as_bytes(), Part::Private)?;
        Self::from_private_key_der(algorithm, &der)
    }

    /// A key from the bytes that [`SigningKey::to_secret_bytes`] returned.
    ///
    /// # Errors
    /// Those of [`SigningKey::hmac`] and [`SigningKey::from_private_key_der`].
    pub fn from_secret_bytes(algorithm: Algorithm, id: KeyId, bytes: &[u8]) -> Result<Self, KeyError> {
        let key = match algorithm.scheme() {
            Scheme::Hmac(_) => Self::hmac(algorithm, bytes)?,
            Scheme::Rsa(..) | Scheme::Ecdsa(_) => Self::from_private_key_der(algorithm, bytes)?,
            Scheme::Ed25519 => Self::from_ed25519_seed(algorithm, bytes)?,
        };
        Ok(key.with_key_id(id))
    }

    /// The secret of the key, to be sealed and stored: the shared secret itself, the PKCS#8 form of an RSA or ECDSA
    /// key, or the seed of an Ed25519 key.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        self.secret.bytes.clone()
    }

    /// The private key in PEM, as PKCS#8 and **not encrypted**, for moving the key to another program; `None` for a
    /// shared secret.
    #[must_use]
    pub fn dangerous_private_key_pem(&self) -> Option<Zeroizing<String>> {
        let ed25519;
        let der: &[u8] = match &self.secret.signer {
            Signer::Hmac(_) => return None,
            Signer::Rsa(..) | Signer::Ecdsa(_) => &self.secret.bytes,
            Signer::Ed25519(pair) => {
                ed25519 = pair.to_pkcs8v1().ok()?;
                ed25519.as_ref()
            }
        };
        pem::encode("PRIVATE KEY", der).map(Zeroizing::new)
    }

    /// The same key with another id.
    #[must_use]
    pub fn with_key_id(self, id: KeyId) -> Self {
        Self { verifying: self.verifying.with_key_id(id), secret: self.secret }
    }

    /// The key id that the key's tokens carry.
    #[must_use]
    pub fn key_id(&self) -> &KeyId {
        self.verifying.key_id()
    }

    /// The one algorithm that this key signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.verifying.algorithm()
    }

    /// The key that verifies what this key signs, with the same id.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        self.verifying.clone()
    }

    /// The length of each signature of this key.
    pub(crate) fn signature_bytes(&self) -> usize {
        self.verifying.signature_bytes()
    }

    /// Appends the signature of `message` in base64url.
    pub(crate) fn sign(&self, message: &mut String) -> Result<(), SigningFailed> {
        let bytes = message.as_bytes();
        match &self.secret.signer {
            Signer::Hmac(key) => attach(key.sign(bytes), message),
            Signer::Rsa(pair, padding, hash) => {
                let mut signature = vec![0; self.signature_bytes()];
                let encoding = rsa::signing(*padding, *hash);
                pair.sign(encoding, &SystemRandom::new(), bytes, &mut signature)
                    .map_err(|_| SigningFailed)?;
                attach(signature, message);
            }
            Signer::Ecdsa(pair) => {
                let signature = pair.sign(&SystemRandom::new(), bytes).map_err(|_| SigningFailed)?;
                attach(signature, message);
            }
            Signer::Ed25519(pair) => attach(pair.try_sign(bytes).map_err(|_| SigningFailed)?, message),
        }
        Ok(())
    }

    /// The encoded header of a token, with the dot after it.
    pub(crate) fn header_segment(&self, typ: &str) -> Cow<'_, str> {
        match self.verifying.known_headers().iter().find(|known| known.typ == typ) {
            Some(known) => known.segment.as_str().into(),
            None => encoded_header(self.algorithm(), self.key_id(), typ).into(),
        }
    }

    pub(super) fn from_rsa(algorithm: Algorithm, pair: RsaKeyPair) -> Result<Self, KeyError> {
        let Scheme::Rsa(padding, hash) = algorithm.scheme() else {
            return Err(KeyError::WrongForm { algorithm });
        };
        let der = pair.as_der().map_err(|_| KeyError::Malformed { algorithm })?;
        let public = pair.public_key().as_ref().to_vec();
        Self::from_pair(algorithm, &public, Signer::Rsa(pair, padding, hash), der.as_ref())
    }

    pub(super) fn from_ecdsa(algorithm: Algorithm, pair: EcdsaKeyPair) -> Result<Self, KeyError> {
        let der = pair.to_pkcs8v1().map_err(|_| KeyError::Malformed { algorithm })?;
        let public = pair.public_key().as_ref().to_vec();
        Self::from_pair(algorithm, &public, Signer::Ecdsa(pair), der.as_ref())
    }

    fn from_ed25519_seed(algorithm: Algorithm, seed: &[u8]) -> Result<Self, KeyError> {
        if seed.len() != 32 {
            return Err(KeyError::Malformed { algorithm });
        }
        let pair =
            Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::Malformed { algorithm })?;
        Self::from_ed25519(algorithm, pair)
    }

    pub(super) fn from_ed25519(algorithm: Algorithm, pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        let malformed = |_| KeyError::Malformed { algorithm };
        let seed: Curve25519SeedBin<'_> =
            pair.seed().and_then(|seed| seed.as_be_bytes()).map_err(malformed)?;
        let public = pair.public_key().as_ref().to_vec();
        Self::from_pair(algorithm, &public, Signer::Ed25519(pair), seed.as_ref())
    }

    fn from_pair(
        algorithm: Algorithm,
        public: &[u8],
        signer: Signer,
        bytes: &[u8],
    ) -> Result<Self, KeyError> {
        let verifying = VerifyingKey::named_by_thumbprint(ImportRules::strict(), algorithm, public)?;
        let secret = SecretMaterial { signer, bytes: Zeroizing::new(bytes.to_vec()) };
        Ok(Self { secret: Arc::new(secret), verifying })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm())
            .field("key_id", self.key_id())
            .field("secret", &"[redacted]")
            .finish()
    }
}

fn attach(signature: impl AsRef<[u8]>, message: &mut String) {
    message.push('.');
    base64url::append(signature, message);
}

/// Makes an ECDSA key, whose private part is a random number below the curve's order.
fn generate_ecdsa(algorithm: Algorithm, curve: Curve, random: &dyn Random) -> Result<EcdsaKeyPair, KeyError> {
    let malformed = KeyError::Malformed { algorithm };
    let mut scalar = Zeroizing::new(vec![0; curve.bytes()]);
    // Nearly every number of that many bits is below the order, so a second try is very unlikely. The loop is bounded
    // because a source that repeats itself would make it endless.
    for _ in 0..8 {
        random.fill(&mut scalar)?;
        if let Some(first) = scalar.first_mut() {
            *first &= curve.first_byte_mask();
        }
        let key = EcPrivateKey {
            private_key: &scalar,
            parameters: Some(EcParameters::NamedCurve(curve.oid())),
            public_key: None,
        };
        let der = Zeroizing::new(key.to_der().map_err(|_| malformed.clone())?);
        if let Ok(pair) = EcdsaKeyPair::from_private_key_der(curve.signing(), &der) {
            return Ok(pair);
        }
    }
    Err(malformed)
}
