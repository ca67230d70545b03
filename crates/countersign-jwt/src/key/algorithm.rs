//! The signature algorithms and their parts.

use std::fmt;
use std::str::FromStr;

use super::curve::Curve;

/// A signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1, RFC 8812 §3.2).
///
/// ```
/// use countersign_jwt::Algorithm;
///
/// assert_eq!("ES256".parse(), Ok(Algorithm::Es256));
/// assert!("none".parse::<Algorithm>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Algorithm {
    /// HMAC with SHA-256. A verifier can also sign, so it is only for tokens that come back to their issuer.
    Hs256,
    /// HMAC with SHA-384. A verifier can also sign, so it is only for tokens that come back to their issuer.
    Hs384,
    /// HMAC with SHA-512. A verifier can also sign, so it is only for tokens that come back to their issuer.
    Hs512,
    /// RSA with PKCS#1 v1.5 padding and SHA-256, for verifiers that know nothing newer.
    Rs256,
    /// RSA with PKCS#1 v1.5 padding and SHA-384.
    Rs384,
    /// RSA with PKCS#1 v1.5 padding and SHA-512.
    Rs512,
    /// RSA with PSS padding and SHA-256; the salt is as long as the hash.
    Ps256,
    /// RSA with PSS padding and SHA-384; the salt is as long as the hash.
    Ps384,
    /// RSA with PSS padding and SHA-512; the salt is as long as the hash.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on secp256k1 with SHA-256.
    Es256k,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// `EdDSA` with Ed25519, which RFC 9864 calls `Ed25519`. Both names are read.
    EdDsa,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 14] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es256k,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// The algorithm's name on the wire. Ed25519 has two names; it is written as `EdDSA`, which every verifier knows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es256k => "ES256K",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Whether signer and verifier share one secret.
    #[must_use]
    pub const fn is_symmetric(self) -> bool {
        matches!(self.scheme(), Scheme::Hmac(_))
    }

    /// The scheme that the algorithm consists of.
    pub(crate) const fn scheme(self) -> Scheme {
        match self {
            Self::Hs256 => Scheme::Hmac(Hash::Sha256),
            Self::Hs384 => Scheme::Hmac(Hash::Sha384),
            Self::Hs512 => Scheme::Hmac(Hash::Sha512),
            Self::Rs256 => Scheme::Rsa(Padding::Pkcs1, Hash::Sha256),
            Self::Rs384 => Scheme::Rsa(Padding::Pkcs1, Hash::Sha384),
            Self::Rs512 => Scheme::Rsa(Padding::Pkcs1, Hash::Sha512),
            Self::Ps256 => Scheme::Rsa(Padding::Pss, Hash::Sha256),
            Self::Ps384 => Scheme::Rsa(Padding::Pss, Hash::Sha384),
            Self::Ps512 => Scheme::Rsa(Padding::Pss, Hash::Sha512),
            Self::Es256 => Scheme::Ecdsa(Curve::P256),
            Self::Es256k => Scheme::Ecdsa(Curve::Secp256k1),
            Self::Es384 => Scheme::Ecdsa(Curve::P384),
            Self::Es512 => Scheme::Ecdsa(Curve::P521),
            Self::EdDsa => Scheme::Ed25519,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is not one of the supported algorithms. Names are compared byte for byte. `Ed25519` (RFC 9864 §2.2)
/// means what `EdDSA` means with a key of that curve, the only curve of `EdDSA` that is supported.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown signature algorithm")]
pub struct UnknownAlgorithm;

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        match name {
            "Ed25519" => Ok(Self::EdDsa),
            name => Self::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or(UnknownAlgorithm),
        }
    }
}

/// The kind of key that an algorithm takes, and how it uses the key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scheme {
    Hmac(Hash),
    Rsa(Padding, Hash),
    Ecdsa(Curve),
    Ed25519,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    /// The length of a hash, and so of a MAC made with it.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// The way in which RSA turns a hash into a number (RFC 8017 §8).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Padding {
    Pkcs1,
    Pss,
}
