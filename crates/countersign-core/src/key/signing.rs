//! Keys that sign.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use zeroize::Zeroizing;

use super::verifying::{Material, encoded_header, thumbprint};
use super::{Algorithm, KeyError, KeyId, VerifyingKey, check_secret};
use crate::base64url;
use crate::random::{self, Random};
use crate::seal;

/// A key that signs tokens. Cheap to clone; its `Debug` shows no secret, and nothing serialises it by accident.
#[derive(Clone)]
pub struct SigningKey {
    secret: Arc<SecretMaterial>,
    verifying: VerifyingKey,
}

struct SecretMaterial {
    signer: Signer,
    /// What [`SigningKey::to_secret_bytes`] gives.
    bytes: Zeroizing<Vec<u8>>,
}

#[expect(clippy::large_enum_variant, reason = "always behind an `Arc`")]
enum Signer {
    Hmac(hmac::Key),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// The key could not sign.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("signing failed")]
pub(crate) struct SigningFailed;

impl SigningKey {
    /// A fresh key from `random`.
    ///
    /// The key id is the thumbprint of the public key (RFC 7638), for a shared secret 128 random bits.
    ///
    /// # Errors
    /// [`KeyError::Random`] when the source of randomness fails.
    pub fn generate(algorithm: Algorithm, random: &dyn Random) -> Result<Self, KeyError> {
        match algorithm {
            Algorithm::Hs256 => {
                let secret = Zeroizing::new(random::bytes::<32>(random)?);
                let id = KeyId(base64url::encode(random::bytes::<16>(random)?).into());
                Ok(Self::hmac(algorithm, secret.as_slice())?.with_key_id(id))
            }
            Algorithm::Es256 => {
                // Nearly every 256-bit number is below the order of the curve, so the second try is theory. A
                // source that repeats itself must not make this endless.
                let mut result = Err(KeyError::Malformed { algorithm });
                for _ in 0..8 {
                    let scalar = Zeroizing::new(random::bytes::<32>(random)?);
                    let der = Zeroizing::new([P256_PREFIX, scalar.as_slice(), P256_SUFFIX].concat());
                    result = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, &der)
                        .map_err(|_| KeyError::Malformed { algorithm });
                    if result.is_ok() {
                        break;
                    }
                }
                Self::from_ecdsa(algorithm, result?)
            }
            Algorithm::EdDsa => {
                let seed = Zeroizing::new(random::bytes::<32>(random)?);
                Self::from_ed25519_seed(algorithm, seed.as_slice())
            }
        }
    }

    /// A key from a shared secret.
    ///
    /// The key id is derived from the secret with HKDF, so that every node that has the secret gives it the same
    /// name.
    ///
    /// # Errors
    /// [`KeyError::SecretTooShort`] below 32 bytes for [`Algorithm::Hs256`] (RFC 7518 §3.2);
    /// [`KeyError::SecretGuessable`] for an example from documentation; [`KeyError::NotASecret`] for a public or
    /// private key in PEM, DER or JWK form; [`KeyError::WrongForm`] if the algorithm takes key pairs.
    pub fn hmac(algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyError> {
        let hash = match algorithm {
            Algorithm::Hs256 => hmac::HMAC_SHA256,
            Algorithm::Es256 | Algorithm::EdDsa => return Err(KeyError::WrongForm { algorithm }),
        };
        check_secret(secret, algorithm.signature_bytes())?;
        let derived = seal::hkdf(secret, "countersign/kid/v1", "");
        let (id, _) = derived.split_at(16);
        let id = KeyId(base64url::encode(id).into());
        let key = hmac::Key::new(hash, secret);
        let verifying = VerifyingKey::new(algorithm, id, Material::Mac(key.clone()));
        let secret = SecretMaterial { signer: Signer::Hmac(key), bytes: Zeroizing::new(secret.to_vec()) };
        Ok(Self { secret: Arc::new(secret), verifying })
    }

    /// A key from an unencrypted PKCS#8 private key in DER (RFC 5958), named by its thumbprint.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] if the bytes are no private key of this algorithm, [`KeyError::WrongForm`] if the
    /// algorithm takes a shared secret.
    pub fn from_pkcs8_der(algorithm: Algorithm, der: &[u8]) -> Result<Self, KeyError> {
        let malformed = |_| KeyError::Malformed { algorithm };
        match algorithm {
            Algorithm::Hs256 => Err(KeyError::WrongForm { algorithm }),
            Algorithm::Es256 => {
                let pair =
                    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(malformed)?;
                Self::from_ecdsa(algorithm, pair)
            }
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8(der).map_err(malformed)?;
                Self::from_ed25519(algorithm, pair)
            }
        }
    }

    /// The key that [`SigningKey::to_secret_bytes`] gave the bytes of.
    ///
    /// # Errors
    /// As for [`SigningKey::hmac`] and [`SigningKey::from_pkcs8_der`].
    pub fn from_secret_bytes(algorithm: Algorithm, id: KeyId, bytes: &[u8]) -> Result<Self, KeyError> {
        let key = match algorithm {
            Algorithm::Hs256 => Self::hmac(algorithm, bytes)?,
            Algorithm::Es256 => Self::from_pkcs8_der(algorithm, bytes)?,
            Algorithm::EdDsa => Self::from_ed25519_seed(algorithm, bytes)?,
        };
        Ok(key.with_key_id(id))
    }

    /// The secret itself, to be sealed and stored: the shared secret, the PKCS#8 form of an ECDSA key, the seed of
    /// an Ed25519 key.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        self.secret.bytes.clone()
    }

    /// The same key under another name.
    #[must_use]
    pub fn with_key_id(self, id: KeyId) -> Self {
        Self { verifying: self.verifying.with_key_id(id), secret: self.secret }
    }

    /// The name that its tokens carry.
    #[must_use]
    pub fn key_id(&self) -> &KeyId {
        self.verifying.key_id()
    }

    /// The algorithm, the only one that this key ever signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.verifying.algorithm()
    }

    /// The key that verifies what this one signs, under the same name.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        self.verifying.clone()
    }

    /// Appends the signature of `message` in base64url.
    pub(crate) fn sign(&self, message: &mut String) -> Result<(), SigningFailed> {
        let bytes = message.as_bytes();
        match &self.secret.signer {
            Signer::Hmac(key) => {
                let tag = hmac::sign(key, bytes);
                append(message, tag.as_ref());
            }
            Signer::Ecdsa(pair) => {
                let signature = pair.sign(&SystemRandom::new(), bytes).map_err(|_| SigningFailed)?;
                append(message, signature.as_ref());
            }
            Signer::Ed25519(pair) => {
                let signature = pair.try_sign(bytes).map_err(|_| SigningFailed)?;
                append(message, signature.as_ref());
            }
        }
        Ok(())
    }

    /// The encoded header with the dot after it.
    pub(crate) fn header_segment(&self, typ: &str) -> Cow<'_, str> {
        match self.verifying.known_headers().iter().find(|known| known.typ == typ) {
            Some(known) => known.segment.as_str().into(),
            None => encoded_header(self.algorithm(), self.key_id(), typ).into(),
        }
    }

    fn from_ecdsa(algorithm: Algorithm, pair: EcdsaKeyPair) -> Result<Self, KeyError> {
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

    fn from_ed25519(algorithm: Algorithm, pair: Ed25519KeyPair) -> Result<Self, KeyError> {
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
        let id = thumbprint(algorithm, public).ok_or(KeyError::Malformed { algorithm })?;
        let verifying = VerifyingKey::from_public_key(algorithm, KeyId(id.into()), public)?;
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

fn append(message: &mut String, signature: &[u8]) {
    message.push('.');
    base64url::append(signature, message);
}

/// An `ECPrivateKey` (RFC 5915 §3) on P-256 around its 32-byte scalar.
const P256_PREFIX: &[u8] = &[0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20];
const P256_SUFFIX: &[u8] = &[0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
