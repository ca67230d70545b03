//! Creating tokens.

use std::time::Duration;

use crate::tokens::{IssueError, NewToken, PROTECTED_CLAIMS, algorithm_by_name};
use countersign_core::flow::TokenFormat;
use countersign_core::store::BoxError;
use countersign_jwt::jws::SignError;
use countersign_jwt::key::KeyError;
use countersign_jwt::random::{RandomError, uuid};
use countersign_jwt::{NewClaims, Timestamp, TokenType};
use serde_json::{Map, Value};

use super::FlaskJwtExtended;
use super::config::Lifetime;

/// The arguments of `create_access_token`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewAccess {
    fresh: Fresh,
    common: NewRefresh,
}

/// The arguments of `create_refresh_token`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewRefresh {
    lifetime: Option<Duration>,
    claims: Map<String, Value>,
    headers: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Fresh {
    #[default]
    No,
    Yes,
    /// Fresh until this time, in seconds since the epoch.
    Until(f64),
    For(Duration),
}

/// Why no token was created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// A claim or header member cannot be added, or the token cannot be signed.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The lifetime is zero, which Flask-JWT-Extended takes for a token without end.
    #[error("a lifetime of 0 seconds is refused; Flask-JWT-Extended would make a token that never expires")]
    NoLifetime,
    /// There is no key to sign with.
    #[error(
        "there is no key to sign with: set JWT_PRIVATE_KEY, a JWT_SECRET_KEY as long as the hash, or a signing_key \
         hook"
    )]
    NoKey,
    /// The key that the hook returned cannot be used.
    #[error("the signing key cannot be used")]
    Key(#[from] KeyError),
    /// A hook of the application failed.
    #[error("a hook of the application failed")]
    Hook(#[from] BoxError),
    /// The operating system gave no random numbers.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl NewAccess {
    /// An access token with the defaults: not fresh, with the configured lifetime.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A fresh access token, for a login.
    #[must_use]
    pub fn fresh() -> Self {
        Self { fresh: Fresh::Yes, ..Self::default() }
    }

    /// Makes the token fresh until this time, in seconds since the epoch.
    #[must_use]
    pub fn fresh_until(mut self, seconds: f64) -> Self {
        self.fresh = Fresh::Until(seconds);
        self
    }

    /// Makes the token fresh for this long from now.
    #[must_use]
    pub fn fresh_for(mut self, duration: Duration) -> Self {
        self.fresh = Fresh::For(duration);
        self
    }

    /// `expires_delta`: a lifetime in place of the configured one.
    #[must_use]
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.common = self.common.expires_in(lifetime);
        self
    }

    /// `additional_claims`, which take precedence over those of the hook.
    #[must_use]
    pub fn claims(mut self, claims: Map<String, Value>) -> Self {
        self.common = self.common.claims(claims);
        self
    }

    /// `additional_headers`, which take precedence over those of the hook.
    #[must_use]
    pub fn headers(mut self, headers: Map<String, Value>) -> Self {
        self.common = self.common.headers(headers);
        self
    }
}

impl NewRefresh {
    /// A refresh token with the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `expires_delta`: a lifetime in place of the configured one.
    #[must_use]
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// `additional_claims`, which take precedence over those of the hook.
    #[must_use]
    pub fn claims(mut self, claims: Map<String, Value>) -> Self {
        self.claims = claims;
        self
    }

    /// `additional_headers`, which take precedence over those of the hook.
    #[must_use]
    pub fn headers(mut self, headers: Map<String, Value>) -> Self {
        self.headers = headers;
        self
    }
}

impl FlaskJwtExtended {
    /// Creates an access token in the way of `create_access_token`.
    ///
    /// # Errors
    /// [`CreateError`]; nothing was issued.
    pub async fn create_access_token(
        &self,
        identity: impl Into<Value>,
        arguments: NewAccess,
    ) -> Result<String, CreateError> {
        self.create(TokenType::Access, identity.into(), arguments.fresh, arguments.common).await
    }

    /// Creates a refresh token in the way of `create_refresh_token`.
    ///
    /// # Errors
    /// [`CreateError`]; nothing was issued.
    pub async fn create_refresh_token(
        &self,
        identity: impl Into<Value>,
        arguments: NewRefresh,
    ) -> Result<String, CreateError> {
        self.create(TokenType::Refresh, identity.into(), Fresh::No, arguments).await
    }

    async fn create(
        &self,
        token_type: TokenType,
        identity: Value,
        fresh: Fresh,
        arguments: NewRefresh,
    ) -> Result<String, CreateError> {
        let inner = &*self.0;
        let (config, hooks, now) = (&inner.config, &inner.hooks, inner.clock.now());
        let lifetime = match (arguments.lifetime, token_type) {
            (Some(Duration::ZERO), _) => return Err(CreateError::NoLifetime),
            (Some(lifetime), _) => Lifetime::For(lifetime),
            (None, TokenType::Access) => config.access_token_expires,
            (None, TokenType::Refresh) => config.refresh_token_expires,
        };
        let named = match &hooks.identity {
            Some(hook) => hook(identity.clone()).await?,
            None => identity.clone(),
        };
        let mut claims = Map::new();
        claims.insert("fresh".to_owned(), fresh.claim(now));
        claims.insert("iat".to_owned(), now.as_secs().into());
        claims.insert("jti".to_owned(), uuid(&*inner.random)?.hyphenated().to_string().into());
        claims.insert("type".to_owned(), token_type.as_str().into());
        claims.insert(config.identity_claim.clone(), named);
        if config.cookie_csrf_protect {
            claims.insert("csrf".to_owned(), uuid(&*inner.random)?.hyphenated().to_string().into());
        }
        if let Some(lifetime) = lifetime.as_duration() {
            claims.insert("exp".to_owned(), (now + lifetime).as_secs().into());
        }
        self.add_configured(&mut claims, now);

        let mut extra = match &hooks.extra_claims {
            Some(hook) => hook(identity.clone()).await?,
            None => Map::new(),
        };
        extra.extend(arguments.claims);
        // The application may use a name that this token does not use otherwise.
        if let Some(name) = extra.keys().find(|name| is_taken(name, &claims, &config.identity_claim)) {
            return Err(IssueError::ProtectedClaim(name.clone()).into());
        }
        claims.extend(extra);
        let mut headers = match &hooks.extra_headers {
            Some(hook) => hook(identity.clone()).await?,
            None => Map::new(),
        };
        headers.extend(arguments.headers);
        let token = NewToken::new(claims).with_header(headers)?;
        match &hooks.signing_key {
            Some(hook) => {
                let algorithm = algorithm_by_name(&config.algorithm).ok_or(CreateError::NoKey)?;
                let key = hook(identity).await?.signing(algorithm)?;
                Ok(token.sign(&key, &config.algorithm)?)
            }
            None => {
                let key = inner.signing_key.as_ref().ok_or(CreateError::NoKey)?;
                Ok(token.sign(key, &config.algorithm)?)
            }
        }
    }

    /// Adds the claims that the options give every token.
    fn add_configured(&self, claims: &mut Map<String, Value>, now: Timestamp) {
        let config = &self.0.config;
        if config.encode_nbf {
            claims.insert("nbf".to_owned(), now.as_secs().into());
        }
        if let Some(audience) = &config.encode_audience {
            claims.insert("aud".to_owned(), audience.clone());
        }
        if let Some(issuer) = &config.encode_issuer {
            claims.insert("iss".to_owned(), issuer.as_str().into());
        }
    }
}

/// The tokens of Countersign's sessions: Flask-JWT-Extended's claims, and those that name the session.
impl TokenFormat for FlaskJwtExtended {
    fn issue(&self, new: &NewClaims) -> Result<String, SignError> {
        let config = &self.0.config;
        let mut claims = new.to_map();
        claims.remove("iss");
        claims.remove("aud");
        if let Some(subject) = claims.remove("sub") {
            claims.insert(config.identity_claim.clone(), subject);
        }
        if config.cookie_csrf_protect && !claims.contains_key("csrf") {
            let value = uuid(&*self.0.random).map_err(|_| SignError::Failed)?;
            claims.insert("csrf".to_owned(), value.hyphenated().to_string().into());
        }
        let now = new.issued_at().unwrap_or_else(|| self.0.clock.now());
        self.add_configured(&mut claims, now);
        let key = self.0.signing_key.as_ref().ok_or(SignError::Failed)?;
        NewToken::new(claims).sign(key, &config.algorithm).map_err(|error| match error {
            IssueError::Sign(error) => error,
            _ => SignError::Failed,
        })
    }
}

impl Fresh {
    fn claim(self, now: Timestamp) -> Value {
        #[expect(clippy::cast_precision_loss, reason = "times are far below 2^52 milliseconds")]
        match self {
            Self::No => false.into(),
            Self::Yes => true.into(),
            Self::Until(seconds) => seconds.into(),
            Self::For(duration) => (now.as_millis() as f64 / 1000.0 + duration.as_secs_f64()).into(),
        }
    }
}

fn is_taken(name: &str, claims: &Map<String, Value>, identity_claim: &str) -> bool {
    claims.contains_key(name) && (PROTECTED_CLAIMS.contains(&name) || name == identity_claim)
}
