//! The kinds of keys, so that an error can name the kind of a key that is not accepted.

use std::fmt;

use pkcs1::RsaPrivateKeyRef;
use pkcs8::PrivateKeyInfoRef;
use sec1::{EcParameters, EcPrivateKey};
use spki::{AlgorithmIdentifierRef, ObjectIdentifier};

use super::algorithm::Scheme;
use super::curve::Curve;
use super::pem::{self, Part};
use super::{Algorithm, KeyError};

/// The kind of a key, whether such keys sign here or not: "an Ed25519 key", "an RSA key", "an X25519 key".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KeyKind(Kind);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Rsa,
    Ed25519,
    Ec(Curve),
    /// An EC key that does not name its curve.
    EcOnSomeCurve,
    /// An EC key whose curve is described instead of named, which RFC 5480 §2.1.1 forbids.
    EcOnDescribedCurve,
    EcElsewhere(ObjectIdentifier),
    Other(ObjectIdentifier),
}

impl KeyKind {
    /// The kind of the private key in a PEM text.
    ///
    /// # Errors
    /// [`KeyError::Pem`] and [`KeyError::PemContent`] if the text has no such key; [`KeyError::UnknownForm`] if the key
    /// is not in PKCS#8, PKCS#1 or SEC 1 form.
    pub fn of_private_key_pem(pem: &str) -> Result<Self, KeyError> {
        let der = pem::decode(pem.as_bytes(), Part::Private)?;
        Self::of_private_key(&der).ok_or(KeyError::UnknownForm)
    }

    /// The algorithms that keys of this kind are for: none, one, or several. RSA keys and EC keys that do not name
    /// their curve have several.
    pub fn algorithms(self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL.into_iter().filter(move |algorithm| self.is_for(*algorithm))
    }

    pub(super) fn is_for(self, algorithm: Algorithm) -> bool {
        match algorithm.scheme() {
            Scheme::Hmac(_) => false,
            Scheme::Rsa(..) => self.0 == Kind::Rsa,
            Scheme::Ecdsa(curve) => {
                matches!(self.0, Kind::Ec(own) if own == curve) || self.0 == Kind::EcOnSomeCurve
            }
            Scheme::Ed25519 => self.0 == Kind::Ed25519,
        }
    }

    /// The kind of a private key in DER.
    pub(super) fn of_private_key(der: &[u8]) -> Option<Self> {
        if let Ok(info) = PrivateKeyInfoRef::try_from(der) {
            return Some(Self::of_identifier(info.algorithm));
        }
        if RsaPrivateKeyRef::try_from(der).is_ok() {
            return Some(Self(Kind::Rsa));
        }
        match EcPrivateKey::try_from(der) {
            Ok(key) => Some(Self(match key.parameters {
                None => Kind::EcOnSomeCurve,
                Some(EcParameters::NamedCurve(curve)) => on_curve(curve),
            })),
            Err(_) => describes_its_curve(der).then_some(Self(Kind::EcOnDescribedCurve)),
        }
    }

    /// The kind of key that an identifier in DER means.
    pub(super) fn of_identifier(identifier: AlgorithmIdentifierRef<'_>) -> Self {
        Self(match identifier.oid {
            RSA_ENCRYPTION => Kind::Rsa,
            ID_ED25519 => Kind::Ed25519,
            EC_PUBLIC_KEY => match identifier.parameters_oid() {
                Ok(curve) => on_curve(curve),
                Err(_) => Kind::EcOnDescribedCurve,
            },
            other => Kind::Other(other),
        })
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Rsa => f.write_str("an RSA key"),
            Kind::Ed25519 => f.write_str("an Ed25519 key"),
            Kind::Ec(curve) => write!(f, "an EC key on the curve {}", curve.name()),
            Kind::EcOnSomeCurve => f.write_str("an EC key that does not say its curve"),
            Kind::EcOnDescribedCurve => f.write_str(
                "an EC key that describes its curve instead of naming it (openssl -param_enc explicit)",
            ),
            Kind::EcElsewhere(oid) => match name(&CURVES, oid) {
                Some(name) => write!(f, "an EC key on the curve {name}"),
                None => write!(f, "an EC key on an unknown curve ({oid})"),
            },
            Kind::Other(oid) => match name(&KINDS, oid) {
                Some(name) => write!(f, "{name} key"),
                None => write!(f, "a key of an unknown kind ({oid})"),
            },
        }
    }
}

/// The kind of key that an algorithm takes, in words.
pub(super) struct Wanted(pub(super) Algorithm);

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.scheme() {
            Scheme::Hmac(_) => f.write_str("a shared secret"),
            Scheme::Rsa(..) => f.write_str("an RSA key of 2048 to 8192 bits"),
            Scheme::Ecdsa(curve) => write!(f, "an EC key on the curve {}", curve.name()),
            Scheme::Ed25519 => f.write_str("an Ed25519 key"),
        }
    }
}

fn on_curve(oid: ObjectIdentifier) -> Kind {
    let known = Curve::ALL.into_iter().find(|curve| curve.oid() == oid);
    known.map_or(Kind::EcElsewhere(oid), Kind::Ec)
}

fn name(names: &[(&str, &'static str)], oid: ObjectIdentifier) -> Option<&'static str> {
    let oid = oid.to_string();
    names.iter().find(|(known, _)| *known == oid).map(|(_, name)| *name)
}

/// Whether this is an `ECPrivateKey` (RFC 5915 §3) whose parameters, `[0]`, are a SEQUENCE instead of a name.
fn describes_its_curve(der: &[u8]) -> bool {
    use super::material::der_element;

    const SEQUENCE: u8 = 0x30;
    const PARAMETERS: u8 = 0xa0;
    let parameters = || {
        let (SEQUENCE, content, []) = der_element(der)? else { return None };
        let (_, _, rest) = der_element(content)?;
        let (_, _, rest) = der_element(rest)?;
        let (PARAMETERS, parameters, _) = der_element(rest)? else { return None };
        der_element(parameters)
    };
    matches!(parameters(), Some((SEQUENCE, ..)))
}

/// The identifier of RSA keys (RFC 8017 §A.1).
pub(super) const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// The identifier of EC keys (RFC 5480 §2.1.1).
pub(super) const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// The identifier of Ed25519 keys (RFC 8410 §3).
pub(super) const ID_ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Curves that no supported algorithm is for.
const CURVES: [(&str, &str); 12] = [
    ("1.2.840.10045.3.1.1", "P-192"),
    ("1.3.132.0.33", "P-224"),
    ("1.3.132.0.31", "secp192k1"),
    ("1.3.132.0.32", "secp224k1"),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
    ("1.3.36.3.3.2.8.1.1.8", "brainpoolP256t1"),
    ("1.3.36.3.3.2.8.1.1.9", "brainpoolP320r1"),
    ("1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1"),
    ("1.3.36.3.3.2.8.1.1.12", "brainpoolP384t1"),
    ("1.3.36.3.3.2.8.1.1.13", "brainpoolP512r1"),
    ("1.3.36.3.3.2.8.1.1.14", "brainpoolP512t1"),
    ("1.2.156.10197.1.301", "SM2"),
];

/// Kinds of keys that no supported algorithm is for, with their article.
const KINDS: [(&str, &str); 10] = [
    ("1.3.101.110", "an X25519"),
    ("1.3.101.111", "an X448"),
    ("1.3.101.113", "an Ed448"),
    ("1.2.840.10040.4.1", "a DSA"),
    ("1.2.840.113549.1.3.1", "a Diffie-Hellman"),
    ("1.2.840.10046.2.1", "a Diffie-Hellman"),
    ("1.2.840.113549.1.1.10", "an RSASSA-PSS (an RSA key that is restricted to this padding)"),
    ("2.16.840.1.101.3.4.3.17", "an ML-DSA-44"),
    ("2.16.840.1.101.3.4.3.18", "an ML-DSA-65"),
    ("2.16.840.1.101.3.4.3.19", "an ML-DSA-87"),
];
