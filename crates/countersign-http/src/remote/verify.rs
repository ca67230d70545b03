//! Verifying tokens of several issuers.

use std::sync::Arc;
use std::time::Duration;

use countersign_jwt::claims::decode_unverified_within;
use countersign_jwt::jws;
use countersign_jwt::jws::Limits;
use countersign_jwt::key::KeyRing;
use countersign_jwt::{Algorithm, Clock, Timestamp, UserId, VerifyError, VerifyErrorKind};
use http::HeaderMap;
use serde_json::{Map, Value};

use super::claims::Fields;
use super::keys::{Held, KeySource, KeysError, Unavailable};
use super::{
    FetchJwks, HeaderType, HttpsFetcher, RemoteClaims, RemoteConfigError, RemoteConfigProblem,
    RemoteIdentity, RemoteIssuer,
};
use crate::{Answer, CookieConfig, Elsewhere, ErrorCode, LocateError, Location, Locator, SystemClock};

/// The issuers whose tokens are accepted. Cheap to clone; clones share the keys.
///
/// ```
/// use countersign_http::remote::{RemoteAuthError, RemoteIssuer, RemoteIssuers};
/// use http::HeaderMap;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let realm = RemoteIssuer::keycloak("https://sso.example.com/realms/staff").audience("orders");
/// let issuers = RemoteIssuers::new([realm])?;
///
/// let error = issuers.authenticate(&HeaderMap::new()).await.unwrap_err();
/// assert!(matches!(error, RemoteAuthError::MissingToken));
/// assert_eq!(issuers.answer(&error).status(), 401);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RemoteIssuers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    issuers: Vec<Known>,
    clock: Arc<dyn Clock>,
    locator: Locator,
    cookies: CookieConfig,
}

#[derive(Debug)]
struct Known {
    rules: RemoteIssuer,
    keys: Arc<KeySource>,
}

/// Why another issuer's token was not accepted. The message holds nothing of the token, so it may be logged.
///
/// Clients learn only `invalid_token`, or that the service is unavailable if the error
/// [is retryable](Self::is_retryable).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteVerifyError {
    /// The token fails a check that applies to own tokens as well.
    #[error(transparent)]
    Token(#[from] VerifyError),
    /// `iss` is absent or names none of the configured issuers.
    #[error("token is from an issuer that is not configured")]
    UnknownIssuer,
    /// `typ` in the header is none of those that the issuer's tokens may have.
    #[error("header's typ is not among the accepted types")]
    HeaderType,
    /// The claim that holds the client is absent or names another client.
    #[error("token was issued to another client")]
    ClientId,
    /// A required claim is absent or has another value.
    #[error("claim {0} does not have the required value")]
    RequiredClaim(String),
    /// The token is bound to a key of its holder, and this service does not ask for the proof of that key.
    #[error("token is bound to a key of its holder, of which no proof is asked for here")]
    Bound,
    /// The issuer's keys are not available, so nothing is known about the token. Trying again later may help.
    #[error("keys of issuer {issuer:?} are not available: {reason}")]
    KeysUnavailable {
        /// The issuer.
        issuer: String,
        /// Why the keys are not available.
        #[source]
        reason: Arc<KeysError>,
        /// The time until the next attempt to fetch the keys.
        retry_after: Duration,
    },
}

impl RemoteVerifyError {
    /// Whether the same token may be accepted later: if so, answer 503 and not 401.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::KeysUnavailable { .. })
    }
}

impl RemoteIssuers {
    /// Accepts tokens of these issuers. The keys of each are fetched over HTTPS with its first token.
    ///
    /// # Errors
    /// [`RemoteConfigError`] for the first issuer that cannot be used.
    pub fn new(issuers: impl IntoIterator<Item = RemoteIssuer>) -> Result<Self, RemoteConfigError> {
        let fetcher = HttpsFetcher::new()
            .map_err(|error| RemoteConfigError { issuer: "*".to_owned(), problem: error.into() })?;
        Self::with(issuers, Arc::new(fetcher), Arc::new(SystemClock::new()))
    }

    /// Accepts tokens of these issuers, with a fetcher and a clock of the caller's choice.
    ///
    /// # Errors
    /// [`RemoteConfigError`] for the first issuer that cannot be used.
    pub fn with(
        issuers: impl IntoIterator<Item = RemoteIssuer>,
        fetcher: Arc<dyn FetchJwks>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, RemoteConfigError> {
        let mut known: Vec<Known> = Vec::new();
        for rules in issuers {
            let checked = match known.iter().any(|other| other.rules.issuer == rules.issuer) {
                true => Err(RemoteConfigProblem::Duplicate),
                false => rules.check(),
            };
            let url =
                checked.map_err(|problem| RemoteConfigError { issuer: rules.issuer.clone(), problem })?;
            let keys = Arc::new(KeySource::new(&rules, url, Arc::clone(&fetcher), Arc::clone(&clock)));
            known.push(Known { rules, keys });
        }
        let cookies = CookieConfig::for_public_url(None).expect("the default cookies need no URL");
        // Our own cookies never hold another issuer's token.
        let locator = Locator::access(&cookies).in_order(vec![Location::Header]);
        Ok(Self(Arc::new(Inner { issuers: known, clock, locator, cookies })))
    }

    /// Verifies a token with the keys of the issuer that it names. The checks run in this order: form, algorithm,
    /// signature, kind, times, audience and client, required claims, subject.
    ///
    /// Keys are fetched if there are none yet, if they are old, or, twice a minute at most, if the token names a key
    /// that is not among them. A token that no key could make valid causes no fetch.
    ///
    /// # Errors
    /// [`RemoteVerifyError`] of the first check that failed. No claim but `iss` is looked at before the signature
    /// holds.
    pub async fn verify(&self, token: &str) -> Result<RemoteClaims, RemoteVerifyError> {
        // The token is read strictly and once; the signature is checked below over this same text.
        let read = decode_unverified_within(Limits::FOREIGN, token)?;
        let Some(Value::String(name)) = read.claims().get("iss") else {
            return Err(RemoteVerifyError::UnknownIssuer);
        };
        let issuers = &self.0.issuers;
        let Known { rules, keys } = issuers
            .iter()
            .find(|known| known.rules.issuer == *name)
            .ok_or(RemoteVerifyError::UnknownIssuer)?;
        let accepted =
            |name: &str| name.parse().is_ok_and(|algorithm: Algorithm| rules.algorithms.contains(&algorithm));
        if !read.header().get("alg").and_then(Value::as_str).is_some_and(accepted) {
            return Err(VerifyError::Algorithm.into());
        }

        let verified = signed_by(token, keys).await.map_err(|error| match error {
            NotSigned::Refused(error) => RemoteVerifyError::Token(error),
            NotSigned::Unavailable(Unavailable { reason, retry_after }) => {
                RemoteVerifyError::KeysUnavailable { issuer: rules.issuer.clone(), reason, retry_after }
            }
        })?;
        rules.accept(&verified.header, read.claims(), self.0.clock.now())
    }
}

impl RemoteIssuers {
    /// Verifies the bearer token in a request's `Authorization` header, the only place where one is looked for.
    ///
    /// # Errors
    /// [`RemoteAuthError`], which [`answer`](Self::answer) turns into the answer to the client.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<RemoteClaims, RemoteAuthError> {
        let located = self.0.locator.locate(headers, Elsewhere::default())?;
        let located = located.ok_or(RemoteAuthError::MissingToken)?;
        Ok(self.verify(located.token).await?)
    }

    /// The answer to a refused request: 401, 400 for a malformed header, or 503 with `Retry-After` if the issuer's keys
    /// are not available.
    #[must_use]
    pub fn answer(&self, error: &RemoteAuthError) -> Answer {
        match error {
            RemoteAuthError::MissingToken => Answer::error(ErrorCode::MissingToken),
            RemoteAuthError::Locate(error) => Answer::refused_credential(*error, &self.0.cookies),
            RemoteAuthError::Token(RemoteVerifyError::KeysUnavailable { retry_after, .. }) => {
                Answer::error(ErrorCode::Unavailable).retry_after(*retry_after)
            }
            RemoteAuthError::Token(_) => Answer::error(ErrorCode::InvalidToken),
        }
    }
}

/// Why a request was not authenticated by another issuer's token.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteAuthError {
    /// The request has no bearer token.
    #[error("request has no bearer token")]
    MissingToken,
    /// The `Authorization` header is malformed.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The token was refused.
    #[error(transparent)]
    Token(#[from] RemoteVerifyError),
}

enum NotSigned {
    Refused(VerifyError),
    Unavailable(Unavailable),
}

impl From<VerifyError> for NotSigned {
    fn from(error: VerifyError) -> Self {
        Self::Refused(error)
    }
}

impl From<Unavailable> for NotSigned {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}

/// Checks the signature, and fetches keys where that may help.
async fn signed_by(token: &str, keys: &Arc<KeySource>) -> Result<jws::Verified, NotSigned> {
    // A token that is wrong whatever the keys are causes no fetch.
    if keys.held().is_none() {
        match jws::verify_foreign(token, &KeyRing::new()) {
            Err(error) if error.kind() == VerifyErrorKind::Key => {}
            verdict => return Ok(verdict?),
        }
    }
    let held: Arc<Held> = keys.usable().await?;
    match jws::verify_foreign(token, &held.ring) {
        Err(VerifyError::UnknownKey) => {}
        verdict => return Ok(verdict?),
    }
    let newer = keys.newer_than(&held).await?.ok_or(VerifyError::UnknownKey)?;
    Ok(jws::verify_foreign(token, &newer.ring)?)
}

impl RemoteIssuer {
    /// Checks everything but the signature.
    fn accept(
        &self,
        header: &jws::Header,
        claims: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<RemoteClaims, RemoteVerifyError> {
        if !self.header_types.iter().any(|kind| kind.is_of(header)) {
            return Err(RemoteVerifyError::HeaderType);
        }
        let expires_at = time(claims, "exp", f64::floor)?.ok_or(VerifyError::MissingClaim("exp"))?;
        let not_before = time(claims, "nbf", f64::ceil)?;
        let issued_at = time(claims, "iat", f64::floor)?;
        if now >= expires_at + self.leeway {
            return Err(VerifyError::Expired.into());
        }
        let latest = now + self.leeway;
        if not_before.is_some_and(|not_before| not_before > latest) {
            return Err(VerifyError::NotYetValid.into());
        }
        if issued_at.is_some_and(|issued_at| issued_at > latest) {
            return Err(VerifyError::IssuedInFuture.into());
        }

        let audience = audience(claims)?;
        let meant_for_us = match self.audience.as_slice() {
            _ if self.any_audience => true,
            [] => audience.is_empty(),
            ours => audience.iter().any(|audience| ours.contains(audience)),
        };
        if !meant_for_us {
            return Err(VerifyError::Audience.into());
        }
        let client_id = claims.get(&self.client_id_claim).and_then(Value::as_str).map(str::to_owned);
        if !self.client_ids.is_empty() && !client_id.as_ref().is_some_and(|id| self.client_ids.contains(id)) {
            return Err(RemoteVerifyError::ClientId);
        }
        for (name, value) in &self.required {
            if claims.get(name) != Some(value) {
                return Err(RemoteVerifyError::RequiredClaim(name.clone()));
            }
        }
        if claims.contains_key("cnf") && !self.bound_tokens {
            return Err(RemoteVerifyError::Bound);
        }

        let invalid_subject = || match self.subject_claim.as_str() {
            "sub" => VerifyError::InvalidClaim("sub").into(),
            other => RemoteVerifyError::RequiredClaim(other.to_owned()),
        };
        let subject = claims.get(&self.subject_claim).and_then(Value::as_str).ok_or_else(invalid_subject)?;
        // The subject follows the rules for our own user ids: some text, of limited length, nothing that breaks a log
        // line.
        let subject = UserId::new(subject).map_err(|_| invalid_subject())?;
        Ok(RemoteClaims::verified(Fields {
            identity: RemoteIdentity::new(&self.issuer, subject.as_str()),
            audience,
            client_id,
            issued_at,
            not_before,
            expires_at,
            algorithm: header.algorithm(),
            key_id: header.key_id().cloned(),
            claims: claims.clone(),
        }))
    }
}

impl HeaderType {
    fn is_of(self, header: &jws::Header) -> bool {
        match self {
            Self::AccessToken => header.is_type("at+jwt"),
            Self::Jwt => header.is_type("jwt"),
            Self::Absent => header.typ().is_none(),
        }
    }
}

/// A `NumericDate` (RFC 7519 §2) between 0 and 2^53, rounded to milliseconds.
fn time(
    claims: &Map<String, Value>,
    name: &'static str,
    round: fn(f64) -> f64,
) -> Result<Option<Timestamp>, VerifyError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let time = match (value.as_u64(), value.as_f64()) {
        (Some(seconds), _) => {
            i64::try_from(seconds).ok().filter(|seconds| *seconds <= MAX_SECONDS).map(Timestamp::from_secs)
        }
        #[expect(clippy::cast_precision_loss, reason = "2^53 is exact")]
        (None, Some(seconds)) if (0.0..=MAX_SECONDS as f64).contains(&seconds) =>
        {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a cast from f64 saturates, as `Timestamp` does"
            )]
            Some(Timestamp::from_millis(round(seconds * 1000.0) as i64))
        }
        _ => None,
    };
    time.map(Some).ok_or(VerifyError::InvalidClaim(name))
}

const MAX_SECONDS: i64 = 1 << 53;

/// `aud`: one text, or a list of at least one (RFC 7519 §4.1.3).
fn audience(claims: &Map<String, Value>) -> Result<Vec<String>, VerifyError> {
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or(VerifyError::InvalidClaim("aud"));
    match claims.get("aud") {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) if list.is_empty() => Err(VerifyError::InvalidClaim("aud")),
        Some(Value::Array(list)) => list.iter().map(text).collect(),
        Some(value) => Ok(vec![text(value)?]),
    }
}
