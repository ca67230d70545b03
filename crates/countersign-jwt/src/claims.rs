//! The claims of a token (RFC 7519 §4).
//!
//! Three types stand for three states of knowledge: [`NewClaims`] are about to be signed, [`Claims`] come only out of a
//! verification, and [`UnverifiedClaims`] may have been written by anybody.

mod own;
mod read;
mod unverified;
mod write;

pub use unverified::{UnverifiedClaims, decode_unverified, decode_unverified_within};

pub(crate) use read::read;
pub(crate) use write::write;

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::id::{Epoch, Generation, SessionId, TokenId, UserId};
use crate::time::Timestamp;

/// The kind of a token. Each verifier takes one kind, so that no token passes as one of another kind.
///
/// ```
/// # use std::time::Duration;
/// # use countersign_jwt::{Algorithm, KeyRing, NewClaims, SigningKey, Timestamp, TokenId, UserId, random};
/// use countersign_jwt::{Issuer, TokenType, Verifier, VerifyError};
///
/// # let random = countersign_testkit::SeededRandom::default();
/// # let key = SigningKey::generate(Algorithm::EdDsa, &random)?;
/// # let mut ring = KeyRing::new();
/// # ring.insert(key.verifying_key())?;
/// # let now = Timestamp::from_secs(1_800_000_000);
/// # let (user, id) = (UserId::new("ada")?, TokenId::new(random::uuid(&random)?));
/// # let until = now + Duration::from_secs(900);
/// let refresh = Issuer::new(key).issue(&NewClaims::new(TokenType::Refresh, user, id, now, until))?;
///
/// let verifier = Verifier::with_fixed_keys(TokenType::Access, ring);
/// let error = verifier.verify(&refresh, now).unwrap_err();
/// assert_eq!(error, VerifyError::Typ { expected: TokenType::Access });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TokenType {
    /// An access token, which proves who makes a request.
    Access,
    /// A refresh token, which is exchanged for a new pair of tokens and serves nothing else.
    Refresh,
}

impl TokenType {
    /// Every kind of token.
    pub const ALL: [Self; 2] = [Self::Access, Self::Refresh];

    /// The value of the claim `type` for this kind.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Refresh => "refresh",
        }
    }

    /// The value of the header `typ` for this kind (RFC 9068 §2.1 for access tokens).
    #[must_use]
    pub const fn header_typ(self) -> &'static str {
        match self {
            Self::Access => "at+jwt",
            Self::Refresh => "rt+jwt",
        }
    }
}

impl fmt::Display for TokenType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a token was issued by a login, as its claim `fresh` says.
///
/// ```
/// use std::time::Duration;
/// use countersign_jwt::{Freshness, Timestamp};
///
/// let login = Timestamp::from_secs(1_800_000_000);
/// let freshness = Freshness::Until(login + Duration::from_secs(300));
/// assert!(freshness.is_fresh(login + Duration::from_secs(299)));
/// assert!(!freshness.is_fresh(login + Duration::from_secs(300)));
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Freshness {
    /// The token was issued by a refresh and not by a login.
    #[default]
    Stale,
    /// The token was issued by a login.
    Fresh,
    /// The token was issued by a login, and is fresh until this time.
    Until(Timestamp),
}

impl Freshness {
    /// Whether a token with this freshness is fresh at `now`.
    #[must_use]
    pub fn is_fresh(self, now: Timestamp) -> bool {
        match self {
            Self::Stale => false,
            Self::Fresh => true,
            Self::Until(end) => now < end,
        }
    }
}

/// The session that a token names by `sid`, `gen` and `epoch`. A token has all three claims or none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SessionRef {
    /// The session's id.
    pub id: SessionId,
    /// The number of refreshes that the session had when the token was issued.
    pub generation: Generation,
    /// The user's epoch when the session began.
    pub epoch: Epoch,
}

/// The fields that both new and verified claims have. Outside this crate, only the verification of another token format
/// makes one, for [`Claims::vouched`].
#[derive(Clone, PartialEq)]
pub struct ClaimFields {
    /// `iss`: the issuer of the token.
    pub issuer: Option<String>,
    /// `sub`: the user that the token speaks for.
    pub subject: UserId,
    /// `aud`: the audiences that the token is meant for; empty if the token has none.
    pub audience: Vec<String>,
    /// `iat`: the time at which the token was issued.
    pub issued_at: Option<Timestamp>,
    /// `nbf`: the time from which on the token is valid.
    pub not_before: Option<Timestamp>,
    /// `exp`: the time from which on the token is no longer valid.
    pub expires_at: Option<Timestamp>,
    /// `jti`: the id of the token.
    pub token_id: TokenId,
    /// `type`: the kind of the token.
    pub token_type: TokenType,
    /// `fresh`: whether the token was issued by a login.
    pub freshness: Freshness,
    /// `sid`, `gen` and `epoch`: the session that the token names.
    pub session: Option<SessionRef>,
    /// `csrf`: the value that a request with this token in a cookie must also send.
    pub csrf: Option<String>,
    /// The application's own claims, none of which has a name in [`REGISTERED`].
    pub others: Map<String, Value>,
}

/// Claims of a token whose signature holds and that is valid here and now.
///
/// A [`Verifier`](crate::token::Verifier) makes them, so a value of this type is a proof. Where another token format is
/// verified, [`Claims::vouched`] makes them. Cheap to clone.
///
/// ```
/// # use std::time::Duration;
/// # use countersign_jwt::{
/// #     Algorithm, Issuer, KeyRing, NewClaims, SigningKey, Timestamp, TokenId, TokenType, UserId, Verifier, random,
/// # };
/// # let random = countersign_testkit::SeededRandom::default();
/// # let key = SigningKey::generate(Algorithm::EdDsa, &random)?;
/// # let mut ring = KeyRing::new();
/// # ring.insert(key.verifying_key())?;
/// # let verifier = Verifier::with_fixed_keys(TokenType::Access, ring);
/// # let now = Timestamp::from_secs(1_800_000_000);
/// # let (user, id) = (UserId::new("ada")?, TokenId::new(random::uuid(&random)?));
/// # let claims = NewClaims::new(TokenType::Access, user, id, now, now + Duration::from_secs(900));
/// # let token = Issuer::new(key).issue(&claims.with_claim("roles", ["editor"])?)?;
/// let claims = verifier.verify(&token, now)?;
/// assert_eq!(claims.subject().as_str(), "ada");
/// assert_eq!(claims.get::<Vec<String>>("roles")?, Some(vec!["editor".to_owned()]));
/// assert_eq!(claims.get::<String>("tenant")?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Claims(Arc<ClaimFields>);

/// The claims of a token that is to be issued.
///
/// ```
/// # use std::time::Duration;
/// # use countersign_jwt::{NewClaims, Timestamp, TokenId, TokenType, UserId, random};
/// # let random = countersign_testkit::SeededRandom::default();
/// # let now = Timestamp::from_secs(1_800_000_000);
/// let id = TokenId::new(random::uuid(&random)?);
/// let claims =
///     NewClaims::new(TokenType::Access, UserId::new("ada")?, id, now, now + Duration::from_secs(900))
///         .with_claim("scope", "reports:read")?;
/// assert_eq!(claims.to_map()["scope"], "reports:read");
///
/// // A claim with a defined meaning is not set by its name.
/// assert!(claims.with_claim("sub", "grace").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct NewClaims(ClaimFields);

/// A claim that cannot be put into a token, or cannot be read as the type that was asked for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// The name belongs to a claim with a defined meaning, which may not be set by name (SEC-024).
    #[error("Countersign sets the claim {0} itself; choose another name")]
    Registered(String),
    /// The value has no JSON form.
    #[error("claim {0} has no JSON form")]
    NotJson(String),
    /// The claim exists, but does not have the type that was asked for.
    #[error("claim {0} cannot be read as this type")]
    OtherType(String),
    /// The application's own claims cannot be read as the type that was asked for.
    #[error("the application's own claims cannot be read as this type")]
    NotExtra,
}

/// The names of the claims that have a defined meaning here.
pub const REGISTERED: [&str; 13] =
    ["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "type", "fresh", "sid", "gen", "epoch", "csrf"];

impl Claims {
    /// Makes claims of a token in another format than this crate's. The caller vouches for them: it has verified the
    /// signature, kind, times, issuer and audience by its own rules.
    #[must_use]
    pub fn vouched(fields: ClaimFields) -> Self {
        Self(Arc::new(fields))
    }

    pub(crate) fn fields(&self) -> &ClaimFields {
        &self.0
    }

    /// `iss`: the issuer of the token.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.0.issuer.as_deref()
    }

    /// `sub`: the user that the token speaks for.
    #[must_use]
    pub fn subject(&self) -> &UserId {
        &self.0.subject
    }

    /// `aud`: the audiences that the token is meant for; empty if the token has none.
    #[must_use]
    pub fn audience(&self) -> &[String] {
        &self.0.audience
    }

    /// `iat`: the time at which the token was issued.
    #[must_use]
    pub fn issued_at(&self) -> Option<Timestamp> {
        self.0.issued_at
    }

    /// `nbf`: the time from which on the token is valid.
    #[must_use]
    pub fn not_before(&self) -> Option<Timestamp> {
        self.0.not_before
    }

    /// `exp`: the time from which on the token is no longer valid.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.0.expires_at
    }

    /// `jti`: the id of the token.
    #[must_use]
    pub fn token_id(&self) -> TokenId {
        self.0.token_id
    }

    /// `type`: the kind of the token.
    #[must_use]
    pub fn token_type(&self) -> TokenType {
        self.0.token_type
    }

    /// `fresh`: whether the token was issued by a login.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        self.0.freshness
    }

    /// `sid`, `gen` and `epoch`: the session that the token names.
    #[must_use]
    pub fn session(&self) -> Option<SessionRef> {
        self.0.session
    }

    /// `csrf`: the value that a request with this token in a cookie must also send.
    #[must_use]
    pub fn csrf(&self) -> Option<&str> {
        self.0.csrf.as_deref()
    }

    /// The application's own claim `name`; `None` if the token has none.
    ///
    /// # Errors
    /// [`ClaimError::OtherType`] if the claim cannot be read as a `T`.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ClaimError> {
        get(&self.0.others, name)
    }

    /// The application's own claims, which are all but the registered ones, as a struct or map.
    ///
    /// # Errors
    /// [`ClaimError::NotExtra`] if the claims cannot be read as a `T`, because one that it needs is absent or of
    /// another type.
    pub fn extra<T: DeserializeOwned>(&self) -> Result<T, ClaimError> {
        T::deserialize(&self.0.others).map_err(|_| ClaimError::NotExtra)
    }

    /// All claims as they were in the token, except `csrf`, which concerns only the session itself.
    #[must_use]
    pub fn to_map(&self) -> Map<String, Value> {
        let fields = ClaimFields { csrf: None, ..(*self.0).clone() };
        let mut claims = as_map(&fields, self.issuer());
        let audience = match self.0.audience.as_slice() {
            [] => None,
            [one] => Some(Value::from(one.as_str())),
            several => Some(Value::from(several)),
        };
        claims.extend(audience.map(|audience| ("aud".to_owned(), audience)));
        claims
    }

    /// The application's own claims, which are all but the registered ones.
    #[must_use]
    pub fn others(&self) -> &Map<String, Value> {
        &self.0.others
    }
}

impl NewClaims {
    /// New claims with the fields that every token has.
    #[must_use]
    pub fn new(
        token_type: TokenType,
        subject: UserId,
        token_id: TokenId,
        issued_at: Timestamp,
        expires_at: Timestamp,
    ) -> Self {
        Self(ClaimFields {
            issuer: None,
            subject,
            audience: Vec::new(),
            issued_at: Some(issued_at),
            not_before: None,
            expires_at: Some(expires_at),
            token_id,
            token_type,
            freshness: Freshness::Stale,
            session: None,
            csrf: None,
            others: Map::new(),
        })
    }

    /// Sets `nbf`.
    #[must_use]
    pub fn with_not_before(mut self, not_before: Timestamp) -> Self {
        self.0.not_before = Some(not_before);
        self
    }

    /// Sets `fresh`. Without this call a token is stale.
    #[must_use]
    pub fn with_freshness(mut self, freshness: Freshness) -> Self {
        self.0.freshness = freshness;
        self
    }

    /// Sets `sid`, `gen` and `epoch`.
    #[must_use]
    pub fn with_session(mut self, session: SessionRef) -> Self {
        self.0.session = Some(session);
        self
    }

    /// Sets `csrf`.
    #[must_use]
    pub fn with_csrf(mut self, csrf: impl Into<String>) -> Self {
        self.0.csrf = Some(csrf.into());
        self
    }

    /// Sets a claim of the application's own, replacing an earlier one of that name.
    ///
    /// # Errors
    /// [`ClaimError::Registered`] for one of the [`REGISTERED`] names, [`ClaimError::NotJson`] if the value cannot be
    /// written as JSON.
    pub fn with_claim(mut self, name: &str, value: impl serde::Serialize) -> Result<Self, ClaimError> {
        if REGISTERED.contains(&name) {
            return Err(ClaimError::Registered(name.to_owned()));
        }
        let value = serde_json::to_value(value).map_err(|_| ClaimError::NotJson(name.to_owned()))?;
        self.0.others.insert(name.to_owned(), value);
        Ok(self)
    }

    /// Checks that all these names can be [set by name](Self::with_claim).
    ///
    /// # Errors
    /// [`ClaimError::Registered`] for the first name that belongs to a claim with a defined meaning.
    pub fn check_names(claims: &Map<String, Value>) -> Result<(), ClaimError> {
        match claims.keys().find(|name| REGISTERED.contains(&name.as_str())) {
            Some(name) => Err(ClaimError::Registered(name.clone())),
            None => Ok(()),
        }
    }

    /// Sets several claims of the application's own. Registered names are left out; [`NewClaims::check_names`] tells
    /// whether there are any.
    #[must_use]
    pub fn with_claims(mut self, claims: &Map<String, Value>) -> Self {
        let own = claims.iter().filter(|(name, _)| !REGISTERED.contains(&name.as_str()));
        self.0.others.extend(own.map(|(name, value)| (name.clone(), value.clone())));
        self
    }

    /// `type`: the kind of the token.
    #[must_use]
    pub fn token_type(&self) -> TokenType {
        self.0.token_type
    }

    /// `exp`: the time from which on the token is no longer valid.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.0.expires_at
    }

    /// `jti`: the id of the token.
    #[must_use]
    pub fn token_id(&self) -> TokenId {
        self.0.token_id
    }

    /// `iat`: the time at which the token is issued.
    #[must_use]
    pub fn issued_at(&self) -> Option<Timestamp> {
        self.0.issued_at
    }

    /// The claims as they will be in the token, the CSRF value included. The issuer and the audience are not among
    /// them, because the [`Issuer`](crate::token::Issuer) adds those.
    #[must_use]
    pub fn to_map(&self) -> Map<String, Value> {
        as_map(&self.0, None)
    }

    pub(crate) fn fields(&self) -> &ClaimFields {
        &self.0
    }
}

/// The claims as a JSON object.
fn as_map(claims: &ClaimFields, issuer: Option<&str>) -> Map<String, Value> {
    let json = write::to_json(claims, issuer, None);
    json.and_then(|json| serde_json::from_slice(&json))
        .expect("claims are texts, numbers and JSON under text names")
}

fn get<T: DeserializeOwned>(claims: &Map<String, Value>, name: &str) -> Result<Option<T>, ClaimError> {
    let value = claims.get(name).map(T::deserialize).transpose();
    value.map_err(|_| ClaimError::OtherType(name.to_owned()))
}

impl fmt::Debug for ClaimFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClaimFields")
            .field("token_type", &self.token_type)
            .field("subject", &self.subject)
            .field("token_id", &self.token_id)
            .field("session", &self.session)
            .field("freshness", &self.freshness)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("issued_at", &self.issued_at)
            .field("not_before", &self.not_before)
            .field("expires_at", &self.expires_at)
            .field("csrf", &self.csrf.as_ref().map(|_| "[redacted]"))
            .field("others", &self.others.keys())
            .finish()
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Claims").field(&self.0).finish()
    }
}

impl fmt::Debug for NewClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NewClaims").field(&self.0).finish()
    }
}
