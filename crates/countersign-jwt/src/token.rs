//! Issuing tokens with a key, and verifying them against a ring of keys.

mod cache;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::claims::{self, Claims, NewClaims, TokenType};
use crate::issuers::{KnownIssuers, is_foreign};
use crate::jws::{self, Limits, SignError, Signed};
use crate::key::{KeyRing, SigningKey, VerifyingKey};
use crate::time::Timestamp;
use crate::verify::VerifyError;
use cache::TokenCache;

/// Issues tokens with one key.
///
/// ```
/// use std::time::Duration;
/// use countersign_jwt::claims::decode_unverified;
/// use countersign_jwt::{Algorithm, Issuer, NewClaims, SigningKey, TokenId, TokenType, UserId, random};
/// # use countersign_jwt::Timestamp;
///
/// # let random = countersign_testkit::SeededRandom::default();
/// # let now = Timestamp::from_secs(1_800_000_000);
/// let key = SigningKey::generate(Algorithm::EdDsa, &random)?;
/// let issuer = Issuer::new(key).with_issuer("https://auth.example.com").with_audience("reports");
///
/// let id = TokenId::new(random::uuid(&random)?);
/// let until = now + Duration::from_secs(900);
/// let token = issuer.issue(&NewClaims::new(TokenType::Access, UserId::new("ada")?, id, now, until))?;
/// assert_eq!(decode_unverified(&token)?.get::<String>("aud")?.as_deref(), Some("reports"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Issuer {
    key: SigningKey,
    issuer: Option<String>,
    audience: Option<String>,
}

impl Issuer {
    /// An issuer whose tokens name neither issuer nor audience.
    #[must_use]
    pub fn new(key: SigningKey) -> Self {
        Self { key, issuer: None, audience: None }
    }

    /// Sets the `iss` of the tokens.
    #[must_use]
    pub fn with_issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Sets the `aud` of the tokens. Verifiers without that audience then refuse them.
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// The key that signs.
    #[must_use]
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Signs a token with these claims.
    ///
    /// Times are written in whole seconds, rounded down.
    ///
    /// # Errors
    /// [`SignError`] if verifiers would refuse the token for its size, or signing fails.
    pub fn issue(&self, claims: &NewClaims) -> Result<String, SignError> {
        let payload = claims::write(claims.fields(), self.issuer.as_deref(), self.audience.as_deref())?;
        jws::sign(&self.key, claims.token_type().header_typ(), &payload)
    }
}

/// Verifies tokens of one kind.
///
/// The key ring can be exchanged while the verifier works; every verification uses one ring.
///
/// ```
/// # use std::time::Duration;
/// # use countersign_jwt::{Algorithm, Issuer, KeyRing, NewClaims, SigningKey, Timestamp, TokenId, UserId, random};
/// use countersign_jwt::{TokenType, Verifier, VerifyError};
///
/// # let random = countersign_testkit::SeededRandom::default();
/// # let key = SigningKey::generate(Algorithm::EdDsa, &random)?;
/// # let mut ring = KeyRing::new();
/// # ring.insert(key.verifying_key())?;
/// # let issued_at = Timestamp::from_secs(1_800_000_000);
/// # let (user, id) = (UserId::new("ada")?, TokenId::new(random::uuid(&random)?));
/// # let until = issued_at + Duration::from_secs(900);
/// # let claims = NewClaims::new(TokenType::Access, user, id, issued_at, until);
/// # let token = Issuer::new(key).with_issuer("https://auth.example.com").with_audience("reports").issue(&claims)?;
/// let verifier = Verifier::with_fixed_keys(TokenType::Access, ring)
///     .with_issuer("https://auth.example.com")
///     .with_audience("reports");
///
/// assert_eq!(verifier.verify(&token, issued_at)?.subject().as_str(), "ada");
/// let an_hour_later = issued_at + Duration::from_secs(3600);
/// assert_eq!(verifier.verify(&token, an_hour_later).unwrap_err(), VerifyError::Expired);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: Arc<ArcSwap<KeyRing>>,
    token_type: TokenType,
    issuer: Option<String>,
    known_issuers: Arc<ArcSwap<KnownIssuers>>,
    foreign_keys: Vec<VerifyingKey>,
    audience: Vec<String>,
    leeway: Duration,
    limits: Limits,
    cache: Option<Arc<TokenCache>>,
}

/// A leeway of more than 300 seconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("leeway is at most {} seconds", Verifier::MAX_LEEWAY.as_secs())]
pub struct LeewayTooLong;

impl Verifier {
    /// The default leeway: how far the clocks of issuer and verifier may be apart.
    pub const DEFAULT_LEEWAY: Duration = Duration::from_secs(10);
    /// The default number of verified tokens that are remembered: some 4 MB of usual tokens.
    pub const DEFAULT_CACHE: usize = 4096;
    /// The longest leeway. Clocks need seconds; a longer leeway would only make tokens live longer.
    pub const MAX_LEEWAY: Duration = Duration::from_secs(300);

    /// A verifier of tokens of one kind, signed by a key of a ring that may change.
    #[must_use]
    pub fn new(token_type: TokenType, keys: Arc<ArcSwap<KeyRing>>) -> Self {
        Self {
            keys,
            token_type,
            issuer: None,
            known_issuers: Arc::default(),
            foreign_keys: Vec::new(),
            audience: Vec::new(),
            leeway: Self::DEFAULT_LEEWAY,
            limits: Limits::default(),
            // A refresh token is presented once, so remembering it is useless.
            cache: (token_type == TokenType::Access).then(|| Arc::new(TokenCache::new(Self::DEFAULT_CACHE))),
        }
    }

    /// A verifier of tokens of one kind, with a ring that never changes.
    #[must_use]
    pub fn with_fixed_keys(token_type: TokenType, keys: KeyRing) -> Self {
        Self::new(token_type, Arc::new(ArcSwap::from_pointee(keys)))
    }

    /// Accepts only tokens whose `iss` is exactly this.
    #[must_use]
    pub fn with_issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Accepts tokens of these issuers too. The list may change while the verifier works. A token that one of the
    /// foreign keys has signed must name the present issuer nevertheless.
    #[must_use]
    pub fn with_known_issuers(
        mut self,
        known: Arc<ArcSwap<KnownIssuers>>,
        foreign_keys: Vec<VerifyingKey>,
    ) -> Self {
        (self.known_issuers, self.foreign_keys) = (known, foreign_keys);
        self
    }

    /// Accepts only tokens whose `aud` names this audience exactly. After several calls, any of the audiences is
    /// accepted.
    ///
    /// Without an audience, only tokens without `aud` are accepted, because the others are meant for somebody else (RFC
    /// 7519 §4.1.3).
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audience.push(audience.into());
        self
    }

    /// Sets how far the clocks of issuer and verifier may be apart. Default 10 s.
    ///
    /// # Errors
    /// [`LeewayTooLong`] beyond 300 s.
    pub fn with_leeway(mut self, leeway: Duration) -> Result<Self, LeewayTooLong> {
        if leeway > Self::MAX_LEEWAY {
            return Err(LeewayTooLong);
        }
        self.leeway = leeway;
        Ok(self)
    }

    /// Sets how long tokens may be. Default 8 KiB, 2 KiB of which for the header; never more than [`Limits::MAX`].
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits.capped();
        // The cache holds tokens that were accepted under the old limits.
        self.cache = self.cache.map(|cache| Arc::new(cache.emptied()));
        self
    }

    /// Sets about how many verified tokens are remembered, so that presenting one again costs a lookup; 0 for none.
    /// Default 4096 for access tokens, and none for refresh tokens, which are presented once.
    ///
    /// Every check except that of the signature is still made each time, and a token is forgotten when its key leaves
    /// the ring. Tokens over 2 KiB and tokens without `kid` are never remembered. Tokens of HS256, HS384 and HS512 are
    /// remembered when they come for the second time.
    #[must_use]
    pub fn with_cache(mut self, tokens: usize) -> Self {
        self.cache = (tokens > 0).then(|| Arc::new(TokenCache::new(tokens)));
        self
    }

    /// The kind of token that the verifier accepts.
    #[must_use]
    pub fn token_type(&self) -> TokenType {
        self.token_type
    }

    /// Verifies a token: its signature, kind, times, issuer and audience, in this order.
    ///
    /// A token is valid while `now` < `exp` + leeway. The `nbf` and `iat` of a refresh token are not checked, because
    /// its session's row decides, and a clock that was set back must not end sessions.
    ///
    /// # Errors
    /// [`VerifyError`] of the first check that failed. No claim is looked at before the signature holds.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, VerifyError> {
        let keys = self.keys.load();
        if let Some(claims) = self.cache.as_ref().and_then(|cache| cache.get(token, &keys))
            && self.is_own_issuer(claims.fields())
        {
            self.check_times(claims.fields(), now)?;
            self.check_audience(claims.fields())?;
            return Ok(claims);
        }
        let (claims, signed) = self.proven(token, &keys)?;
        self.check_times(claims.fields(), now)?;
        self.check_issuer(claims.fields(), signed.key, now)?;
        self.check_audience(claims.fields())?;
        // For another issuer it matters which key has signed the token, and the cache does not tell that.
        if let (Some(cache), Some(key)) = (&self.cache, signed.named_key())
            && self.is_own_issuer(claims.fields())
        {
            cache.insert(token, key, &claims);
        }
        Ok(claims)
    }

    /// Verifies a token without its times, for logging out with a token that has expired meanwhile.
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
    /// # let issued_at = Timestamp::from_secs(1_800_000_000);
    /// # let (user, id) = (UserId::new("ada")?, TokenId::new(random::uuid(&random)?));
    /// # let until = issued_at + Duration::from_secs(900);
    /// # let token = Issuer::new(key).issue(&NewClaims::new(TokenType::Access, user, id, issued_at, until))?;
    /// assert!(verifier.verify(&token, until + Duration::from_secs(60)).is_err());
    /// assert_eq!(verifier.verify_expired_ok(&token)?.expires_at(), Some(until));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`VerifyError`] of the first other check that failed.
    pub fn verify_expired_ok(&self, token: &str) -> Result<Claims, VerifyError> {
        let keys = self.keys.load();
        let (claims, signed) = self.proven(token, &keys)?;
        self.check_issuer(claims.fields(), signed.key, Timestamp::MIN)?;
        self.check_audience(claims.fields())?;
        Ok(claims)
    }

    /// Checks the signature and the kind.
    fn proven<'k>(&self, token: &'k str, keys: &'k KeyRing) -> Result<(Claims, Signed<'k>), VerifyError> {
        let signed = Signed::verify(token, keys, self.limits)?;
        let expected = self.token_type;
        if !signed.typ.is(expected.header_typ()) {
            return Err(VerifyError::Typ { expected });
        }
        // The claims are made in their place, because they are large to move.
        let claims = Claims::vouched(claims::read(&mut signed.payload()?)?);
        if claims.token_type() != expected {
            return Err(VerifyError::TokenType { expected, found: claims.token_type() });
        }
        Ok((claims, signed))
    }

    fn check_times(&self, claims: &claims::ClaimFields, now: Timestamp) -> Result<(), VerifyError> {
        let expires_at = claims.expires_at.ok_or(VerifyError::MissingClaim("exp"))?;
        if now >= expires_at + self.leeway {
            return Err(VerifyError::Expired);
        }
        if self.token_type == TokenType::Refresh {
            return Ok(());
        }
        let latest = now + self.leeway;
        if claims.not_before.is_some_and(|not_before| not_before > latest) {
            return Err(VerifyError::NotYetValid);
        }
        if claims.issued_at.is_some_and(|issued_at| issued_at > latest) {
            return Err(VerifyError::IssuedInFuture);
        }
        Ok(())
    }

    fn is_own_issuer(&self, claims: &claims::ClaimFields) -> bool {
        self.issuer.is_none() || claims.issuer == self.issuer
    }

    fn check_issuer(
        &self,
        claims: &claims::ClaimFields,
        key: &VerifyingKey,
        now: Timestamp,
    ) -> Result<(), VerifyError> {
        let is_known = |issuer: &String| {
            !is_foreign(key, &self.foreign_keys) && self.known_issuers.load().accepts(issuer, now)
        };
        if self.is_own_issuer(claims) || claims.issuer.as_ref().is_some_and(is_known) {
            return Ok(());
        }
        Err(VerifyError::Issuer)
    }

    fn check_audience(&self, claims: &claims::ClaimFields) -> Result<(), VerifyError> {
        let meant_for_us = match self.audience.as_slice() {
            [] => claims.audience.is_empty(),
            ours => claims.audience.iter().any(|audience| ours.contains(audience)),
        };
        if !meant_for_us {
            return Err(VerifyError::Audience);
        }
        Ok(())
    }
}
