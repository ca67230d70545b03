//! Tokens in the form that Flask-JWT-Extended and Flask-JWT write and read.
//!
//! Tokens that these libraries issue are accepted here, and tokens issued here are accepted there. The claims are the
//! same, and the checks run in the same order, so that a client learns of the same error. Where the libraries are lax
//! in a way that weakens security, this module is strict: base64url and JSON are read as strictly as everywhere else in
//! this crate, times are numbers, and a key serves only the algorithms of its own kind.
//!
//! A token goes through three types: [`UnverifiedToken`] is unproven and serves to choose a key; [`FlaskClaims`] come
//! only out of a verification; [`NewToken`] is about to be signed.

mod issue;
mod read;

pub use issue::{IssueError, NewToken, PROTECTED_CLAIMS};
pub use read::{
    FLASK_JWT_REFRESH_AUDIENCE, FlaskJwtChecks, FlaskJwtExtendedChecks, Leeway, UnverifiedToken, is_falsy,
};

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};
use uuid::Uuid;
use zeroize::Zeroizing;

use countersign_jwt::claims::{ClaimFields, Claims, Freshness, SessionRef, TokenType};
use countersign_jwt::id::{Epoch, Generation, TokenId, UserId};
use countersign_jwt::json::JsonError;
use countersign_jwt::key::{Algorithm, ImportRules, KeyError, SigningKey, VerifyingKey};
use countersign_jwt::time::Timestamp;

/// A key as an application configures it: a text or bytes, whose kind follows from the algorithm it is used with.
///
/// For HS256, HS384 and HS512 it is a shared secret, for all other algorithms a PEM text. A text that looks like PEM is
/// never used as a secret.
#[derive(Clone)]
pub struct KeySource(Arc<Zeroizing<Vec<u8>>>);

impl KeySource {
    /// Makes a key of the bytes of a secret, or of a PEM text.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes.into())))
    }

    /// Whether the key is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key that signs with this algorithm.
    ///
    /// # Errors
    /// [`KeyError`] if the text is no private key or secret for this algorithm, or is too weak.
    pub fn signing(&self, algorithm: Algorithm) -> Result<SigningKey, KeyError> {
        if algorithm.is_symmetric() {
            return SigningKey::hmac(algorithm, &self.0);
        }
        SigningKey::from_private_key_pem(algorithm, &self.pem())
    }

    /// The key that verifies with this algorithm.
    ///
    /// # Errors
    /// [`KeyError`] if the text is no public key or secret for this algorithm, or is too weak under these rules.
    pub fn verifying(&self, algorithm: Algorithm, rules: ImportRules) -> Result<VerifyingKey, KeyError> {
        if algorithm.is_symmetric() {
            return VerifyingKey::hmac_with(rules, algorithm, &self.0);
        }
        VerifyingKey::from_public_key_pem_with(rules, algorithm, &self.pem())
    }

    /// The PEM text. Explanations around the key may be in any encoding.
    fn pem(&self) -> Zeroizing<String> {
        Zeroizing::new(String::from_utf8_lossy(&self.0).into_owned())
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySource(…)")
    }
}

/// The algorithm that both libraries know by this name. Flask-JWT-Extended has a second name for ES512, and only the
/// older name for Ed25519.
#[must_use]
pub fn algorithm_by_name(name: &str) -> Option<Algorithm> {
    match name {
        "ES521" => Some(Algorithm::Es512),
        "Ed25519" => None,
        name => name.parse().ok(),
    }
}

/// Why a token is refused: the first check that failed, in the order of the library whose rules are in force.
///
/// The messages hold nothing of the token, so they can go to a log. The fields may hold parts of it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FlaskTokenError {
    /// The token is longer than the [limits](countersign_jwt::jws::Limits).
    #[error("token or its header is too long")]
    TooLong,
    /// The token has fewer than two dots.
    #[error("token does not have three segments")]
    NotEnoughSegments,
    /// A segment is not strict base64url.
    #[error("the token's {0} is not strict base64url")]
    Encoding(Segment),
    /// A segment is not strict JSON.
    #[error("the token's {0}: {1}")]
    Json(Segment, JsonError),
    /// A segment is JSON, but not an object.
    #[error("the token's {0} is not a JSON object")]
    NotAnObject(Segment),
    /// `kid` is not text.
    #[error("kid is not text")]
    KeyIdType,
    /// `crit` is not a list, or empty.
    #[error("crit is not a non-empty list")]
    CriticalShape,
    /// `crit` holds something other than texts.
    #[error("crit holds something else than texts")]
    CriticalType,
    /// `crit` names an extension that is unknown here.
    #[error("crit names an unknown extension")]
    CriticalUnknown(String),
    /// `crit` names an extension that the header does not have.
    #[error("crit names an absent member")]
    CriticalAbsent(String),
    /// The header says that the payload is not encoded, or is sent separately (RFC 7797).
    #[error("the payload is said not to be encoded")]
    DetachedPayload,
    /// The token's header brings a key of its own.
    #[error("header member {0} is not accepted")]
    RefusedHeader(&'static str),
    /// The header has no `alg`.
    #[error("the header has no alg")]
    NoAlgorithm,
    /// `alg` is not among the accepted algorithms.
    #[error("alg is not among the accepted ones")]
    AlgorithmNotAllowed,
    /// `alg` is among the accepted names, but is unknown here.
    #[error("alg is accepted, but no algorithm that this program has")]
    AlgorithmUnknown,
    /// The key does not fit the token's algorithm.
    #[error("the key does not fit the token's algorithm: {0}")]
    Key(#[source] KeyError),
    /// The signature does not hold.
    #[error("signature does not hold")]
    Signature,
    /// A time claim is not a number of seconds.
    #[error("claim {0} is not a number")]
    NotANumber(&'static str),
    /// `iat` or `nbf` lies in the future.
    #[error("claim {0} lies in the future")]
    NotYetValid(&'static str),
    /// A required claim is absent.
    #[error("a required claim is missing")]
    MissingClaim(String),
    /// `iss` is not text.
    #[error("issuer is not text")]
    IssuerType,
    /// `iss` names another issuer.
    #[error("issuer is not the expected one")]
    Issuer,
    /// `aud` is neither a text nor a list of texts.
    #[error("audience is not text")]
    AudienceType,
    /// `aud` names only other audiences, or is present where none is expected.
    #[error("audience is not the expected one")]
    Audience,
    /// `sub` is not text.
    #[error("subject is not text")]
    SubjectType,
    /// `jti` is not text.
    #[error("jti is not text")]
    TokenIdType,
    /// `type` is not text.
    #[error("type is not text")]
    TokenTypeType,
    /// The claim that names the user is absent.
    #[error("the claim that names the user is missing")]
    MissingIdentity(String),
    /// `exp` is absent, which Flask-JWT-Extended takes for a token without end. All other checks have passed.
    #[error("a required claim is missing")]
    NoExpiry(Box<FlaskClaims>),
    /// `exp` has passed. All other checks have passed too.
    #[error("token has expired")]
    Expired(Box<FlaskClaims>),
}

/// A part of a compact token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Segment {
    /// The first part.
    Header,
    /// The second part.
    Payload,
    /// The third part.
    Signature,
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Payload => "payload",
            Self::Signature => "signature",
        })
    }
}

/// The header and claims of a token whose signature holds, with the library's defaults for absent claims.
///
/// Only a verification makes them. Cheap to clone.
#[derive(Clone, PartialEq)]
pub struct FlaskClaims(Arc<Verified>);

#[derive(PartialEq)]
struct Verified {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    identity_claim: String,
    digest: Uuid,
}

impl FlaskClaims {
    /// The token's header.
    #[must_use]
    pub fn header(&self) -> &Map<String, Value> {
        &self.0.header
    }

    /// The token's claims.
    #[must_use]
    pub fn claims(&self) -> &Map<String, Value> {
        &self.0.claims
    }

    /// The identity that the token speaks for; `null` if no claim names one.
    #[must_use]
    pub fn identity(&self) -> &Value {
        self.0.claims.get(&self.0.identity_claim).unwrap_or(&Value::Null)
    }

    /// The token's type: `refresh` means refresh, every other text means access.
    #[must_use]
    pub fn token_type(&self) -> TokenType {
        if self.text("type") == Some("refresh") { TokenType::Refresh } else { TokenType::Access }
    }

    /// The claim `csrf`, if it is text.
    #[must_use]
    pub fn csrf(&self) -> Option<&str> {
        self.text("csrf")
    }

    /// Whether the token is fresh at `now`; `None` if its `fresh` is neither a boolean nor a number.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> Option<bool> {
        match self.0.claims.get("fresh") {
            None => Some(false),
            Some(Value::Bool(fresh)) => Some(*fresh),
            #[expect(clippy::cast_precision_loss, reason = "times are far below 2^52 milliseconds")]
            Some(Value::Number(until)) => {
                until.as_f64().map(|until| until >= now.as_millis() as f64 / 1000.0)
            }
            Some(_) => None,
        }
    }

    /// The claim `exp`, in whole seconds.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.time("exp")
    }

    /// The claim `iat`, in whole seconds.
    #[must_use]
    pub fn issued_at(&self) -> Option<Timestamp> {
        self.time("iat")
    }

    /// The token as Countersign's own claims, for use with sessions. `None` if the identity is not a text that can be a
    /// user's id, or if `jti` is present and not a UUID.
    ///
    /// A token without `jti` gets one that is derived from the signed payload.
    #[must_use]
    pub fn to_claims(&self) -> Option<Claims> {
        let subject = UserId::new(self.identity().as_str()?).ok()?;
        let token_id = match self.0.claims.get("jti") {
            None | Some(Value::Null) => TokenId::new(self.0.digest),
            Some(id) => id.as_str()?.parse().ok()?,
        };
        let session = match (self.0.claims.get("sid"), self.0.claims.get("gen"), self.0.claims.get("epoch")) {
            (None, None, None) => None,
            (Some(id), Some(generation), Some(epoch)) => Some(SessionRef {
                id: id.as_str()?.parse().ok()?,
                generation: Generation::new(u32::try_from(generation.as_u64()?).ok()?),
                epoch: Epoch::new(epoch.as_u64()?),
            }),
            _ => return None,
        };
        let freshness = match self.0.claims.get("fresh") {
            Some(Value::Bool(true)) => Freshness::Fresh,
            Some(Value::Number(_)) => Freshness::Until(self.time("fresh")?),
            _ => Freshness::Stale,
        };
        let others = self.0.claims.iter().filter(|(name, _)| {
            !countersign_jwt::claims::REGISTERED.contains(&name.as_str()) && **name != self.0.identity_claim
        });
        Some(Claims::vouched(ClaimFields {
            issuer: self.text("iss").map(str::to_owned),
            subject,
            audience: match self.0.claims.get("aud") {
                Some(Value::String(audience)) => vec![audience.clone()],
                Some(Value::Array(list)) => {
                    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
                }
                _ => Vec::new(),
            },
            issued_at: self.issued_at(),
            not_before: self.time("nbf"),
            expires_at: self.expires_at(),
            token_id,
            token_type: self.token_type(),
            freshness,
            session,
            csrf: self.csrf().map(str::to_owned),
            others: others.map(|(name, value)| (name.clone(), value.clone())).collect(),
        }))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.claims.get(name)?.as_str()
    }

    fn time(&self, name: &str) -> Option<Timestamp> {
        read::seconds(self.0.claims.get(name)?).map(Timestamp::from_secs)
    }
}

impl fmt::Debug for FlaskClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlaskClaims")
            .field("token_type", &self.token_type())
            .field("names", &self.0.claims.keys())
            .finish_non_exhaustive()
    }
}

/// A text that is the same for all tokens with one payload. It stands in for `jti` where the library writes none.
fn digest(payload: &[u8]) -> Uuid {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, payload);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(digest.as_ref().split_at(16).0);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
