//! Keys as JSON (RFC 7517, 7518 §6, 8037 §2).
//!
//! Reading is strict where a laxer reader could be led to another key: repeated members, and members that contradict
//! each other. Other statements of a key about itself are ignored. In a set, a key that cannot be used is left out and
//! the others stay. A key is written with its public members, or with everything by a method that is named after its
//! danger.

mod members;
mod set;

pub use set::{JwkSet, LeftOut, UsableKeys};

pub(super) use members::Members;
pub(super) use set::is_set;

use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair};
use pkcs1::{RsaPrivateKeyRef, RsaPublicKeyRef, UintRef};
use pkcs8::PrivateKeyInfoRef;
use sec1::der::Encode;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::algorithm::Scheme;
use super::curve::Curve;
use super::{Algorithm, ImportRules, KeyError, KeyId, SigningKey, VerifyingKey, rsa};
use crate::base64url;
use crate::json::JsonError;
use members::Written;

/// The reason why a JWK or a JWK set was not accepted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JwkError {
    /// The text is longer than 64 KiB.
    #[error("JWK or JWK set is longer than 64 KiB")]
    TooLong,
    /// The text is not strict JSON.
    #[error("JWK: {0}")]
    Json(JsonError),
    /// A member that this kind of key needs is absent.
    #[error("JWK member {0} is missing")]
    Missing(&'static str),
    /// A member has the wrong type, is not strict base64url, or has the wrong length.
    #[error("JWK member {0} is invalid")]
    Invalid(&'static str),
    /// The key's `kty`, or its `crv` for this `kty`, is not one that can sign here.
    #[error(
        "unknown type of key: kty and crv are RSA, EC with P-256, P-384, P-521 or secp256k1, OKP with Ed25519, or oct"
    )]
    UnknownKeyType,
    /// The key's `alg` is not one of the supported signature algorithms.
    #[error("JWK names an unknown algorithm")]
    UnknownAlgorithm,
    /// The `alg`, given by the key or by the caller, is not for this `kty` and `crv`.
    #[error("algorithm does not fit the type of the key")]
    OtherAlgorithm,
    /// The key does not name its algorithm, its type fits several, and the caller named none.
    #[error("JWK names no algorithm, and several would fit")]
    NoAlgorithm,
    /// The key's `use` or `key_ops` do not allow what was asked for (RFC 7517 §4.2, §4.3).
    #[error("JWK is not for this use")]
    OtherUse,
    /// A public key was asked to sign.
    #[error("JWK has no private part")]
    NotPrivate,
    /// Another key of the set has the same `kid` and the same algorithm.
    #[error("another key of the set has the same id and algorithm")]
    DuplicateKeyId,
    /// The key is a shared secret in a set with public keys. Somebody who may see the public keys may not see the
    /// secret.
    #[error("shared secret in a set with public keys")]
    Mixed,
    /// The key is a shared secret in a set that is published.
    #[error("shared secret, which is never published")]
    Secret,
    /// The key is a private key in a set that is published, or the public key that belongs to it.
    #[error("its private key is published, so everybody can sign with it")]
    Private,
    /// The text is a set of keys where one key is wanted.
    #[error("JWK member kty is missing: this is a JWK set; take one key out of its list \"keys\"")]
    IsSet,
    /// The key itself is not good.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A JSON Web Key: a key pair, a public key or a shared secret. Its secret parts are wiped when it is dropped, and its
/// `Debug` shows none of them.
///
/// ```
/// use countersign_jwt::Algorithm;
/// use countersign_jwt::key::Jwk;
///
/// let jwk = Jwk::parse(
///     br#"{"kty": "OKP", "crv": "Ed25519", "kid": "2026-01", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
/// )?;
/// let key = jwk.verifying_key()?;
/// assert_eq!((key.key_id().as_str(), key.algorithm()), ("2026-01", Algorithm::EdDsa));
/// assert!(jwk.signing_key().is_err(), "the private part is not there");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Jwk {
    algorithm: Option<Algorithm>,
    key_id: Option<KeyId>,
    may_sign: bool,
    may_verify: bool,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Secret(Zeroizing<Vec<u8>>),
    Rsa { public: Vec<u8>, private: Option<Box<RsaPrivate>> },
    Ecdsa { curve: Curve, point: Vec<u8>, private: Option<Zeroizing<Vec<u8>>> },
    Ed25519 { public: Vec<u8>, private: Option<Zeroizing<Vec<u8>>> },
}

/// The private members of an RSA key (RFC 7518 §6.3.2), in the order of [`RSA_PRIVATE_MEMBERS`].
#[derive(Clone)]
struct RsaPrivate {
    n: Vec<u8>,
    e: Vec<u8>,
    d: Zeroizing<Vec<u8>>,
    p: Zeroizing<Vec<u8>>,
    q: Zeroizing<Vec<u8>>,
    dp: Zeroizing<Vec<u8>>,
    dq: Zeroizing<Vec<u8>>,
    qi: Zeroizing<Vec<u8>>,
}

impl Jwk {
    /// The most bytes that a JWK or a JWK set may have.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// Parses one key.
    ///
    /// # Errors
    /// [`JwkError`] of the first fault. Whether the key itself is good shows when it is used.
    pub fn parse(text: &[u8]) -> Result<Self, JwkError> {
        if text.len() > Self::MAX_BYTES {
            return Err(JwkError::TooLong);
        }
        Self::read(&Members::parse(text)?).map_err(|error| match error {
            JwkError::Missing("kty") if is_set(text) => JwkError::IsSet,
            error => error,
        })
    }

    /// `kid`: the key's id, if it has one.
    #[must_use]
    pub fn key_id(&self) -> Option<&KeyId> {
        self.key_id.as_ref()
    }

    /// The algorithm of the key, if `alg` or the curve names it.
    #[must_use]
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.algorithm
    }

    /// Whether the key is a shared secret.
    #[must_use]
    pub fn is_symmetric(&self) -> bool {
        matches!(self.material, Material::Secret(_))
    }

    /// Whether the key is a key pair, which means that a program that reads it can sign.
    #[must_use]
    pub fn is_private(&self) -> bool {
        match &self.material {
            Material::Secret(_) => false,
            Material::Rsa { private, .. } => private.is_some(),
            Material::Ecdsa { private, .. } | Material::Ed25519 { private, .. } => private.is_some(),
        }
    }

    /// Sets the algorithm of a key that does not name it itself, such as RSA keys without `alg`.
    ///
    /// # Errors
    /// [`JwkError::OtherAlgorithm`] if the key names or is for another algorithm.
    pub fn with_algorithm(mut self, algorithm: Algorithm) -> Result<Self, JwkError> {
        if self.algorithm.is_some_and(|own| own != algorithm) || !self.material.fits(algorithm) {
            return Err(JwkError::OtherAlgorithm);
        }
        self.algorithm = Some(algorithm);
        Ok(self)
    }

    /// The key that verifies. Without `kid` a public key is named by its thumbprint, and a secret by a value that HKDF
    /// derives from it.
    ///
    /// # Errors
    /// [`JwkError::NoAlgorithm`] if the algorithm is not known, [`JwkError::OtherUse`] if the key is not for verifying,
    /// [`JwkError::Key`] if it does not protect.
    pub fn verifying_key(&self) -> Result<VerifyingKey, JwkError> {
        self.verifying_key_with(ImportRules::strict())
    }

    /// The key that verifies, as [`Jwk::verifying_key`] makes it, under other rules for its strength.
    ///
    /// # Errors
    /// Those of [`Jwk::verifying_key`], except for what the rules accept.
    pub fn verifying_key_with(&self, rules: ImportRules) -> Result<VerifyingKey, JwkError> {
        if !self.may_verify {
            return Err(JwkError::OtherUse);
        }
        let algorithm = self.algorithm.ok_or(JwkError::NoAlgorithm)?;
        let key = match &self.material {
            Material::Secret(secret) => VerifyingKey::hmac_with(rules, algorithm, secret)?,
            Material::Rsa { public, .. }
            | Material::Ecdsa { point: public, .. }
            | Material::Ed25519 { public, .. } => {
                // A private part that contradicts the public one is an error, even if only the public one was asked
                // for.
                self.pair(algorithm)?;
                VerifyingKey::named_by_thumbprint(rules, algorithm, public)?
            }
        };
        Ok(match &self.key_id {
            Some(id) => key.with_key_id(id.clone()),
            None => key,
        })
    }

    /// The key that signs. It has the same id as the key of [`Jwk::verifying_key`].
    ///
    /// # Errors
    /// [`JwkError::NotPrivate`] for a public key, and those of [`Jwk::verifying_key`].
    pub fn signing_key(&self) -> Result<SigningKey, JwkError> {
        if !self.may_sign {
            return Err(JwkError::OtherUse);
        }
        let algorithm = self.algorithm.ok_or(JwkError::NoAlgorithm)?;
        let key = match &self.material {
            Material::Secret(secret) => SigningKey::hmac(algorithm, secret)?,
            Material::Rsa { .. } | Material::Ecdsa { .. } | Material::Ed25519 { .. } => {
                self.pair(algorithm)?.ok_or(JwkError::NotPrivate)?
            }
        };
        Ok(match &self.key_id {
            Some(id) => key.with_key_id(id.clone()),
            None => key,
        })
    }

    /// The key pair, if the key has a private part.
    fn pair(&self, algorithm: Algorithm) -> Result<Option<SigningKey>, JwkError> {
        let malformed = |_| KeyError::Malformed { algorithm };
        Ok(match &self.material {
            Material::Rsa { public, private: Some(private) } => {
                // The fault is found here, before the cryptographic library refuses the key without a reason.
                let public = RsaPublicKeyRef::try_from(public.as_slice());
                rsa::check(&public.map_err(|_| KeyError::Malformed { algorithm })?, ImportRules::strict())?;
                let pair = RsaKeyPair::from_components(&private.components()).map_err(malformed)?;
                Some(SigningKey::from_rsa(algorithm, pair)?)
            }
            Material::Ecdsa { curve, point, private: Some(private) } => {
                let pair = EcdsaKeyPair::from_private_key_and_public_key(curve.signing(), private, point)
                    .map_err(malformed)?;
                Some(SigningKey::from_ecdsa(algorithm, pair)?)
            }
            Material::Ed25519 { public, private: Some(seed) } => {
                let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).map_err(malformed)?;
                Some(SigningKey::from_ed25519(algorithm, pair)?)
            }
            Material::Secret(_)
            | Material::Rsa { .. }
            | Material::Ecdsa { .. }
            | Material::Ed25519 { .. } => None,
        })
    }

    /// The public part of the key; `None` if it has none.
    fn public_bytes(&self) -> Option<&[u8]> {
        self.material.public_bytes()
    }

    /// The public part of a private key that cannot be read as a whole. Publishing the private part has exposed this
    /// public part too.
    fn exposed_by(members: &Members) -> Option<Vec<u8>> {
        members.has("d").then_some(())?;
        match members.text("kty").ok()?? {
            "RSA" => Material::rsa_public(members).ok(),
            "EC" => Material::ecdsa_public(members).ok().map(|(_, point)| point),
            "OKP" => Material::ed25519_public(members).ok(),
            _ => None,
        }
    }

    fn read(members: &Members) -> Result<Self, JwkError> {
        let kind = members.text("kty")?.ok_or(JwkError::Missing("kty"))?;
        let material = match kind {
            "oct" => Material::Secret(members.required_bytes("k")?),
            "RSA" => Material::rsa(members)?,
            "EC" => Material::ecdsa(members)?,
            "OKP" => Material::ed25519(members)?,
            _ => return Err(JwkError::UnknownKeyType),
        };
        let (may_sign, may_verify) = permissions(members)?;
        if !may_sign && !may_verify {
            return Err(JwkError::OtherUse);
        }
        let algorithm = match members.text("alg")? {
            Some(name) => Some(name.parse().map_err(|_| JwkError::UnknownAlgorithm)?),
            None => material.only_algorithm(),
        };
        if algorithm.is_some_and(|algorithm| !material.fits(algorithm)) {
            return Err(JwkError::OtherAlgorithm);
        }
        let key_id = members.text("kid")?.map(KeyId::new).transpose();
        let key_id = key_id.map_err(|_| JwkError::Invalid("kid"))?;
        Ok(Self { algorithm, key_id, may_sign, may_verify, material })
    }
}

impl std::fmt::Debug for Jwk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwk")
            .field("algorithm", &self.algorithm)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl Material {
    fn rsa(members: &Members) -> Result<Self, JwkError> {
        let public = Self::rsa_public(members)?;
        let [d, p, q, dp, dq, qi] = RSA_PRIVATE_MEMBERS.map(|name| (name, members.bytes(name)));
        let private = match d.1? {
            None => None,
            Some(d) => {
                // Keys with more than two primes, and keys that leave out the primes, are not in use.
                if members.has("oth") {
                    return Err(JwkError::Invalid("oth"));
                }
                let need = |(name, bytes): (_, Result<Option<_>, _>)| bytes?.ok_or(JwkError::Missing(name));
                let (p, q, dp, dq, qi) = (need(p)?, need(q)?, need(dp)?, need(dq)?, need(qi)?);
                let (n, e) = (members.number("n")?.to_vec(), members.number("e")?.to_vec());
                Some(Box::new(RsaPrivate { n, e, d, p, q, dp, dq, qi }))
            }
        };
        Ok(Self::Rsa { public, private })
    }

    /// The public part of an RSA key in PKCS#1 form.
    fn rsa_public(members: &Members) -> Result<Vec<u8>, JwkError> {
        let (n, e) = (members.number("n")?, members.number("e")?);
        UintRef::new(&n)
            .and_then(|modulus| Ok(RsaPublicKeyRef { modulus, public_exponent: UintRef::new(&e)? }))
            .and_then(|key| key.to_der())
            .map_err(|_| JwkError::Invalid("n"))
    }

    fn ecdsa(members: &Members) -> Result<Self, JwkError> {
        let (curve, point) = Self::ecdsa_public(members)?;
        Ok(Self::Ecdsa { curve, point, private: members.optional_sized("d", curve.bytes())? })
    }

    /// The curve, and the uncompressed point on it.
    fn ecdsa_public(members: &Members) -> Result<(Curve, Vec<u8>), JwkError> {
        let name = members.text("crv")?.ok_or(JwkError::Missing("crv"))?;
        let curve =
            Curve::ALL.into_iter().find(|curve| curve.name() == name).ok_or(JwkError::UnknownKeyType)?;
        // Coordinates have their full size, leading zeros included (RFC 7518 §6.2.1.2).
        let (x, y) = (members.sized("x", curve.bytes())?, members.sized("y", curve.bytes())?);
        Ok((curve, [&[UNCOMPRESSED], x.as_slice(), &y].concat()))
    }

    fn ed25519(members: &Members) -> Result<Self, JwkError> {
        let public = Self::ed25519_public(members)?;
        Ok(Self::Ed25519 { public, private: members.optional_sized("d", 32)? })
    }

    fn ed25519_public(members: &Members) -> Result<Vec<u8>, JwkError> {
        match members.text("crv")? {
            Some("Ed25519") => Ok(members.sized("x", 32)?.to_vec()),
            Some(_) => Err(JwkError::UnknownKeyType),
            None => Err(JwkError::Missing("crv")),
        }
    }

    fn public_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Secret(_) => None,
            Self::Rsa { public, .. } | Self::Ecdsa { point: public, .. } | Self::Ed25519 { public, .. } => {
                Some(public)
            }
        }
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        match (self, algorithm.scheme()) {
            (Self::Ecdsa { curve, .. }, Scheme::Ecdsa(needed)) => *curve == needed,
            (Self::Secret(_), Scheme::Hmac(_))
            | (Self::Rsa { .. }, Scheme::Rsa(..))
            | (Self::Ed25519 { .. }, Scheme::Ed25519) => true,
            _ => false,
        }
    }

    /// The algorithm of the key's type, if the type has just one.
    fn only_algorithm(&self) -> Option<Algorithm> {
        let mut fitting = Algorithm::ALL.into_iter().filter(|algorithm| self.fits(*algorithm));
        let only = fitting.next()?;
        fitting.next().is_none().then_some(only)
    }
}

impl RsaPrivate {
    fn components(&self) -> KeyPairComponents<&[u8], &[u8]> {
        KeyPairComponents {
            public_key: PublicKeyComponents { n: &self.n, e: &self.e },
            d: &self.d,
            p: &self.p,
            q: &self.q,
            dP: &self.dp,
            dQ: &self.dq,
            qInv: &self.qi,
        }
    }
}

impl VerifyingKey {
    /// The public key as a JWK with `alg`, `kid` and `use`; `None` if the key is a secret.
    #[must_use]
    pub fn to_jwk(&self) -> Option<String> {
        self.public_members().map(|members| Value::Object(members).to_string())
    }

    /// The members that a public JWK has; `None` if the key is a secret.
    fn public_members(&self) -> Option<Map<String, Value>> {
        let public = self.public_key()?;
        let key = match self.algorithm().scheme() {
            Scheme::Hmac(_) => return None,
            Scheme::Rsa(..) => {
                let key = RsaPublicKeyRef::try_from(public).ok()?;
                let (n, e) = (key.modulus.as_bytes(), key.public_exponent.as_bytes());
                json!({"kty": "RSA", "n": base64url::encode(n), "e": base64url::encode(e)})
            }
            Scheme::Ecdsa(curve) => {
                let (x, y) = public.get(1..)?.split_at_checked(curve.bytes())?;
                json!({
                    "kty": "EC", "crv": curve.name(), "x": base64url::encode(x), "y": base64url::encode(y),
                })
            }
            Scheme::Ed25519 => json!({"kty": "OKP", "crv": "Ed25519", "x": base64url::encode(public)}),
        };
        let Value::Object(mut members) = key else { return None };
        members.insert("alg".to_owned(), self.algorithm().name().into());
        members.insert("kid".to_owned(), self.key_id().as_str().into());
        members.insert("use".to_owned(), "sig".into());
        Some(members)
    }
}

impl SigningKey {
    /// The **secret** key as a JWK, for moving the key to another program. Somebody who reads it can sign.
    #[must_use]
    pub fn dangerous_private_jwk(&self) -> Option<Zeroizing<String>> {
        let secret = self.to_secret_bytes();
        let mut members = Written::new(match self.verifying_key().public_members() {
            Some(public) => public,
            None => Map::from_iter([
                ("kty".to_owned(), "oct".into()),
                ("alg".to_owned(), self.algorithm().name().into()),
                ("kid".to_owned(), self.key_id().as_str().into()),
                ("use".to_owned(), "sig".into()),
            ]),
        });
        match self.algorithm().scheme() {
            Scheme::Hmac(_) => members.insert("k", &secret),
            Scheme::Ed25519 => members.insert("d", &secret),
            Scheme::Ecdsa(curve) => {
                let pair = EcdsaKeyPair::from_pkcs8(curve.signing(), &secret).ok()?;
                let scalar: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().ok()?;
                members.insert("d", scalar.as_ref());
            }
            Scheme::Rsa(..) => {
                let info = PrivateKeyInfoRef::try_from(secret.as_slice()).ok()?;
                let key = RsaPrivateKeyRef::try_from(info.private_key.as_bytes()).ok()?;
                let parts = [
                    key.private_exponent,
                    key.prime1,
                    key.prime2,
                    key.exponent1,
                    key.exponent2,
                    key.coefficient,
                ];
                for (name, number) in RSA_PRIVATE_MEMBERS.into_iter().zip(parts) {
                    members.insert(name, number.as_bytes());
                }
            }
        }
        members.to_json()
    }
}

/// Whether `use` and `key_ops` allow signing and verifying. If a key has both members, both must allow it (RFC 7517
/// §4.3).
fn permissions(members: &Members) -> Result<(bool, bool), JwkError> {
    if members.text("use")?.is_some_and(|purpose| purpose != "sig") {
        return Ok((false, false));
    }
    Ok(match members.texts("key_ops")? {
        None => (true, true),
        Some(operations) => {
            let allows = |operation: &str| operations.iter().any(|allowed| allowed == operation);
            (allows("sign"), allows("verify"))
        }
    })
}

/// The first byte of an uncompressed point (SEC 1 §2.3.3).
const UNCOMPRESSED: u8 = 4;

/// The names of the private members of an RSA key (RFC 7518 §6.3.2).
const RSA_PRIVATE_MEMBERS: [&str; 6] = ["d", "p", "q", "dp", "dq", "qi"];
