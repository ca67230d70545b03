//! What is expected of an issuer's tokens.

use std::time::Duration;

use countersign_jwt::{Algorithm, Verifier};
use serde_json::Value;

use super::{FetchError, JwksUrl, JwksUrlError};

/// An issuer whose tokens are accepted, and which of them. What is wrong with it shows when a
/// [`RemoteIssuers`](super::RemoteIssuers) is made of it.
///
/// Say whom its tokens must be meant for: by [`audience`](Self::audience), or by [`client_id`](Self::client_id) where
/// tokens name none. Everybody with an account there has tokens of the same issuer for something else.
#[derive(Clone, Debug)]
pub struct RemoteIssuer {
    pub(super) issuer: String,
    pub(super) audience: Vec<String>,
    pub(super) any_audience: bool,
    pub(super) client_ids: Vec<String>,
    pub(super) client_id_claim: String,
    pub(super) required: Vec<(String, Value)>,
    pub(super) header_types: Vec<HeaderType>,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) leeway: Duration,
    pub(super) subject_claim: String,
    pub(super) bound_tokens: bool,
    pub(super) refresh_after: Duration,
    pub(super) usable_for: Duration,
    jwks_url: Result<String, RemoteConfigProblem>,
    loopback_http: bool,
}

/// What `typ` in a token's header may say (RFC 8725 §3.11).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum HeaderType {
    /// `at+jwt`: an access token (RFC 9068 §2.1).
    AccessToken,
    /// `JWT`: some token. What else the issuer signs, such as ID tokens, must be told apart by the audience or by a
    /// [required claim](RemoteIssuer::require_claim).
    Jwt,
    /// No `typ`: as `JWT`.
    Absent,
}

/// An issuer that cannot be configured like this.
#[derive(Debug, thiserror::Error)]
#[error("issuer {issuer:?} cannot be used: {problem}")]
pub struct RemoteConfigError {
    pub(super) issuer: String,
    #[source]
    pub(super) problem: RemoteConfigProblem,
}

/// What is wrong with the configuration of an issuer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteConfigProblem {
    /// Without a name no token can be its.
    #[error("the name is empty; give what its tokens have as `iss`")]
    NoName,
    /// Two issuers have the same name.
    #[error("another one has the same name")]
    Duplicate,
    /// A domain was expected, not a URL.
    #[error("give the domain alone, such as example.eu.auth0.com")]
    NotADomain,
    /// Keys cannot be fetched from that URL.
    #[error(transparent)]
    Url(#[from] JwksUrlError),
    /// Nothing says whom tokens must be meant for.
    #[error("no audience is set; call `audience`, or `client_id` if its tokens name no audience")]
    NoAudience,
    /// An expected audience, client or claim is an empty text.
    #[error("an audience, client id or claim name is empty")]
    Empty,
    /// A required claim is one that has a check of its own.
    #[error("claim {0} has a setting of its own and cannot be required by name")]
    OwnSetting(String),
    /// No algorithm, or no type of header, is left.
    #[error("no algorithm or no header type is accepted, so no token would be")]
    AcceptsNothing,
    /// Who may verify with a shared secret may also sign with it, so none is published.
    #[error("{0} needs a shared secret, and published keys are none")]
    Symmetric(Algorithm),
    /// Leeway beyond 300 s.
    #[error("leeway is at most 300 seconds")]
    LeewayTooLong,
    /// Keys renewed too often, or used for too long.
    #[error("keys are renewed after 30 seconds to 24 hours, and usable for that long up to 24 hours")]
    KeyAge,
    /// The default fetcher could not be made. The text says why.
    #[error("keys cannot be fetched: {0}")]
    Fetcher(String),
}

impl RemoteIssuer {
    /// How old keys get before they are renewed, unless set otherwise.
    pub const DEFAULT_REFRESH_AFTER: Duration = Duration::from_secs(5 * 60);
    /// Until what age keys are used when they cannot be renewed, unless set otherwise.
    pub const DEFAULT_USABLE_FOR: Duration = Duration::from_secs(60 * 60);

    /// An issuer by the rules of RFC 9068: access tokens with `typ` `at+jwt`, an audience, any asymmetric algorithm.
    ///
    /// `issuer` is compared with `iss` byte for byte: a slash at the end and the case count. `jwks_url` is where the
    /// issuer's metadata says that its `jwks_uri` is.
    #[must_use]
    pub fn new(issuer: impl Into<String>, jwks_url: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            jwks_url: Ok(jwks_url.into()),
            audience: Vec::new(),
            any_audience: false,
            client_ids: Vec::new(),
            client_id_claim: "client_id".to_owned(),
            required: Vec::new(),
            header_types: vec![HeaderType::AccessToken],
            algorithms: Algorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_symmetric()).collect(),
            leeway: Verifier::DEFAULT_LEEWAY,
            subject_claim: "sub".to_owned(),
            bound_tokens: false,
            refresh_after: Self::DEFAULT_REFRESH_AFTER,
            usable_for: Self::DEFAULT_USABLE_FOR,
            loopback_http: false,
        }
    }

    /// A realm of Keycloak, by its URL, such as `https://sso.example.com/realms/staff`.
    ///
    /// Its access tokens have `typ` `JWT` in the header, as its ID tokens do, or `at+jwt` where that is switched on; the
    /// claim `typ` is `Bearer`, and no other is taken. Add an *audience mapper* to the client there, or the audience is
    /// `account` for all. The client is in `azp`.
    #[must_use]
    pub fn keycloak(realm_url: &str) -> Self {
        let issuer = realm_url.trim_end_matches('/');
        Self::new(issuer, format!("{issuer}/protocol/openid-connect/certs"))
            .header_types([HeaderType::Jwt, HeaderType::AccessToken])
            .require_claim("typ", "Bearer")
            .client_id_claim("azp")
    }

    /// A tenant of Auth0, by its domain, such as `example.eu.auth0.com`.
    ///
    /// Set the identifier of your API as the audience, never the client id of an application: that is the audience of
    /// ID tokens, which have the same `typ`, `JWT`, as access tokens of the older profile. The client is in `azp`.
    #[must_use]
    pub fn auth0(domain: &str) -> Self {
        let mut issuer =
            Self::new(format!("https://{domain}/"), format!("https://{domain}/.well-known/jwks.json"))
                .header_types([HeaderType::Jwt, HeaderType::AccessToken])
                .algorithms([Algorithm::Rs256, Algorithm::Ps256])
                .client_id_claim("azp");
        if domain.contains(['/', ':', '?', '#']) {
            issuer.jwks_url = Err(RemoteConfigProblem::NotADomain);
        }
        issuer
    }

    /// A user pool of Amazon Cognito, such as `eu-central-1` and `eu-central-1_AbCdEfGhI`.
    ///
    /// Its access tokens have neither `typ` nor `aud`: `token_use` tells them from ID tokens, and
    /// [`client_id`](Self::client_id) must say whose they may be. Where a client asks for a resource, tokens do have an
    /// `aud`; set the [`audience`](Self::audience) too, then all must have both.
    #[must_use]
    pub fn cognito(region: &str, user_pool: &str) -> Self {
        let issuer = format!("https://cognito-idp.{region}.amazonaws.com/{user_pool}");
        let jwks_url = format!("{issuer}/.well-known/jwks.json");
        Self::new(issuer, jwks_url)
            .header_types([HeaderType::Absent, HeaderType::AccessToken])
            .algorithms([Algorithm::Rs256])
            .require_claim("token_use", "access")
    }

    /// Accepts tokens whose `aud` names this, exactly. Called again, any of the audiences will do.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience.push(audience.into());
        self
    }

    /// Accepts tokens that were issued to this client, exactly. Called again, any of the clients will do.
    ///
    /// With an audience, both must hold. Without one, tokens that name an audience are refused: they are meant for
    /// somebody else.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_ids.push(client_id.into());
        self
    }

    /// Which claim holds the client. Default `client_id` (RFC 9068 §2.2); others have it in `azp`.
    #[must_use]
    pub fn client_id_claim(mut self, name: impl Into<String>) -> Self {
        self.client_id_claim = name.into();
        self
    }

    /// Accepts only tokens with this claim and exactly this value, such as `token_use` and `access`. Called again, all
    /// must hold.
    #[must_use]
    pub fn require_claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.required.push((name.into(), value.into()));
        self
    }

    /// What the header's `typ` may say, instead of what was accepted so far.
    #[must_use]
    pub fn header_types(mut self, types: impl IntoIterator<Item = HeaderType>) -> Self {
        self.header_types = types.into_iter().collect();
        self
    }

    /// Which algorithms are accepted, instead of all asymmetric ones. A published key that does not say its algorithm
    /// verifies the first of these that fits it: of the default ones RS256, if it is an RSA key.
    #[must_use]
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// How far clocks may be apart. Default 10 s, at most 300 s.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Which claim identifies the user. Default `sub`. It must be one that the issuer never gives to another user, and
    /// that users cannot choose: not an e-mail address, not a name.
    #[must_use]
    pub fn subject_claim(mut self, name: impl Into<String>) -> Self {
        self.subject_claim = name.into();
        self
    }

    /// How old keys get before they are renewed in the background; at twice the age, tokens wait for it. So long may a
    /// key that the issuer withdrew still be accepted. Default 5 minutes; 30 s to 24 hours.
    #[must_use]
    pub fn refresh_after(mut self, age: Duration) -> Self {
        self.refresh_after = age;
        self
    }

    /// Until what age keys are used when they cannot be renewed; after that, tokens are refused with a retryable error.
    /// Default 1 hour; at most 24 hours.
    #[must_use]
    pub fn usable_for(mut self, age: Duration) -> Self {
        self.usable_for = age;
        self
    }

    /// Accepts tokens whomever they are meant for: also those that users gave to any other service of the issuer,
    /// which can then use them here.
    #[must_use]
    pub fn dangerous_any_audience(mut self) -> Self {
        self.any_audience = true;
        self
    }

    /// Accepts tokens that are bound to a key of whom they were issued to (`cnf`, RFC 7800), without asking for the
    /// proof (DPoP, RFC 9449; mutual TLS, RFC 8705): who steals one can use it. For services behind a gateway that has
    /// asked.
    #[must_use]
    pub fn dangerous_accept_bound_tokens(mut self) -> Self {
        self.bound_tokens = true;
        self
    }

    /// Fetches keys over http from the loopback interface: for tests and development.
    #[must_use]
    pub fn dangerous_loopback_http(mut self) -> Self {
        self.loopback_http = true;
        self
    }

    /// The checked address of its keys, once everything else is right too.
    pub(super) fn check(&self) -> Result<JwksUrl, RemoteConfigProblem> {
        if self.issuer.is_empty() {
            return Err(RemoteConfigProblem::NoName);
        }
        let url = self.jwks_url.as_deref().map_err(Clone::clone)?;
        let url = match self.loopback_http {
            true => JwksUrl::dangerous_loopback_http(url)?,
            false => JwksUrl::new(url)?,
        };
        if self.audience.is_empty() && self.client_ids.is_empty() && !self.any_audience {
            return Err(RemoteConfigProblem::NoAudience);
        }
        let mut names =
            self.audience.iter().chain(&self.client_ids).chain(self.required.iter().map(|(n, _)| n));
        if names.any(String::is_empty) || self.client_id_claim.is_empty() || self.subject_claim.is_empty() {
            return Err(RemoteConfigProblem::Empty);
        }
        if let Some((name, _)) = self.required.iter().find(|(name, _)| OWN_SETTING.contains(&name.as_str())) {
            return Err(RemoteConfigProblem::OwnSetting(name.clone()));
        }
        if self.algorithms.is_empty() || self.header_types.is_empty() {
            return Err(RemoteConfigProblem::AcceptsNothing);
        }
        if let Some(algorithm) = self.algorithms.iter().find(|algorithm| algorithm.is_symmetric()) {
            return Err(RemoteConfigProblem::Symmetric(*algorithm));
        }
        if self.leeway > Verifier::MAX_LEEWAY {
            return Err(RemoteConfigProblem::LeewayTooLong);
        }
        let ages = MIN_REFRESH_AFTER..=MAX_KEY_AGE;
        if !ages.contains(&self.refresh_after)
            || !(self.refresh_after..=MAX_KEY_AGE).contains(&self.usable_for)
        {
            return Err(RemoteConfigProblem::KeyAge);
        }
        Ok(url)
    }
}

impl From<FetchError> for RemoteConfigProblem {
    fn from(error: FetchError) -> Self {
        Self::Fetcher(error.chain())
    }
}

impl RemoteConfigError {
    /// What is wrong.
    #[must_use]
    pub fn problem(&self) -> &RemoteConfigProblem {
        &self.problem
    }

    /// `iss` of the issuer that it is wrong with.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }
}

/// Claims that [`RemoteIssuer::require_claim`] does not take.
const OWN_SETTING: [&str; 5] = ["iss", "aud", "exp", "nbf", "iat"];
const MIN_REFRESH_AFTER: Duration = Duration::from_secs(30);
const MAX_KEY_AGE: Duration = Duration::from_secs(24 * 60 * 60);
