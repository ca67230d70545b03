//! Tokens: issued with a key, verified against a ring.

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

    /// Sets `iss` of the tokens.
    #[must_use]
    pub fn with_issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Sets `aud` of the tokens. Verifiers without that audience then refuse them.
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
    /// [`SignError`] if the token would be one that verifiers refuse for its size, or signing fails.
    pub fn issue(&self, claims: &NewClaims) -> Result<String, SignError> {
        let payload = claims::write(claims.fields(), self.issuer.as_deref(), self.audience.as_deref())?;
        jws::sign(&self.key, claims.token_type().header_typ(), &payload)
    }
}

/// Verifies tokens of one kind.
///
/// Its key ring can be exchanged while it works; every verification sees one ring.
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
    /// How far the clocks of issuer and verifier may be apart, unless set otherwise.
    pub const DEFAULT_LEEWAY: Duration = Duration::from_secs(10);
    /// How many verified tokens are remembered, unless set otherwise: some 4 MB of usual tokens.
    pub const DEFAULT_CACHE: usize = 4096;
    /// The longest leeway. What clocks need is seconds; more is a longer token life in disguise.
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
            // A refresh token is presented once.
            cache: (token_type == TokenType::Access).then(|| Arc::new(TokenCache::new(Self::DEFAULT_CACHE))),
        }
    }

    /// A verifier with a ring that stays as it is.
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

    /// Accepts tokens of these issuers, too, which may change while the verifier works, unless one of the foreign keys
    /// has signed them: what others sign must name the issuer that holds now.
    #[must_use]
    pub fn with_known_issuers(
        mut self,
        known: Arc<ArcSwap<KnownIssuers>>,
        foreign_keys: Vec<VerifyingKey>,
    ) -> Self {
        (self.known_issuers, self.foreign_keys) = (known, foreign_keys);
        self
    }

    /// Accepts only tokens whose `aud` names this, exactly. Called again, any of the audiences will do.
    ///
    /// Without an audience only tokens without `aud` are accepted: the others are meant for somebody else
    /// (RFC 7519 §4.1.3).
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<String>) -> Self {
        self.audience.push(audience.into());
        self
    }

    /// Sets how far clocks may be apart. Default 10 s.
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
        // What it holds was let in under the old limits.
        self.cache = self.cache.map(|cache| Arc::new(cache.emptied()));
        self
    }

    /// Remembers about that many verified tokens, so that presenting one again costs a lookup; 0 for none. Every
    /// check but that of the signature is still made each time, and a token is forgotten when its key leaves the
    /// ring. Tokens over 2 KiB, and those without `kid`, are never remembered, those of HS256, HS384 and HS512 when they
    /// come for the second time.
    ///
    /// Default 4096 for access tokens; none for refresh tokens, which are presented once.
    #[must_use]
    pub fn with_cache(mut self, tokens: usize) -> Self {
        self.cache = (tokens > 0).then(|| Arc::new(TokenCache::new(tokens)));
        self
    }

    /// The kind of token it takes.
    #[must_use]
    pub fn token_type(&self) -> TokenType {
        self.token_type
    }

    /// Verifies a token: signature, kind, times, issuer, audience, in this order.
    ///
    /// Valid while `now` < `exp` + leeway. Of a refresh token `nbf` and `iat` do not count: its session row knows
    /// better, and a clock that was set back must not end sessions.
    ///
    /// # Errors
    /// [`VerifyError`]: the first check that failed. No claim is looked at before the signature holds.
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
        // Which key has signed it counts where the issuer is another one, and the cache does not tell.
        if let (Some(cache), Some(key)) = (&self.cache, signed.named_key())
            && self.is_own_issuer(claims.fields())
        {
            cache.insert(token, key, &claims);
        }
        Ok(claims)
    }

    /// Verifies a token but for its times: for logging out with a token that has run out meanwhile.
    ///
    /// # Errors
    /// [`VerifyError`], for every other reason.
    pub fn verify_expired_ok(&self, token: &str) -> Result<Claims, VerifyError> {
        let keys = self.keys.load();
        let (claims, signed) = self.proven(token, &keys)?;
        self.check_issuer(claims.fields(), signed.key, Timestamp::MIN)?;
        self.check_audience(claims.fields())?;
        Ok(claims)
    }

    /// Signature and kind.
    fn proven<'k>(&self, token: &'k str, keys: &'k KeyRing) -> Result<(Claims, Signed<'k>), VerifyError> {
        let signed = Signed::verify(token, keys, self.limits)?;
        let expected = self.token_type;
        if !signed.typ.is(expected.header_typ()) {
            return Err(VerifyError::Typ { expected });
        }
        // Made at its place, because the claims are large to move.
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
