//! The configuration of another issuer: the checks that its tokens must pass.

use std::time::Duration;

use countersign_jwt::{Algorithm, Verifier};
use serde_json::Value;

use super::{FetchError, JwksUrl, JwksUrlError};

/// An issuer whose tokens are accepted, and the checks they must pass. Mistakes in it are reported when a
/// [`RemoteIssuers`](super::RemoteIssuers) is made of it.
///
/// Set the recipient that tokens must name: by [`audience`](Self::audience), or by [`client_id`](Self::client_id) where
/// tokens name no audience. Otherwise tokens that the same issuer gave its users for another service would pass here.
///
/// ```
/// use countersign_http::remote::{RemoteIssuer, RemoteIssuers};
///
/// let issuer = RemoteIssuer::new("https://auth.example.com", "https://auth.example.com/jwks.json");
/// // Without an audience, tokens that were issued for another service would pass.
/// assert!(RemoteIssuers::new([issuer.clone()]).is_err());
/// assert!(RemoteIssuers::new([issuer.audience("reports")]).is_ok());
/// ```
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

/// The values of `typ` that a token's header may have (RFC 8725 §3.11).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum HeaderType {
    /// `at+jwt`: an access token (RFC 9068 §2.1).
    AccessToken,
    /// `JWT`: a token of any kind. Other tokens of the issuer, such as ID tokens, must be told apart by the audience or
    /// by a [required claim](RemoteIssuer::require_claim).
    Jwt,
    /// No `typ`, which tells as little about the token's kind as `JWT`.
    Absent,
}

/// Why an issuer cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("issuer {issuer:?} cannot be used: {problem}")]
pub struct RemoteConfigError {
    pub(super) issuer: String,
    #[source]
    pub(super) problem: RemoteConfigProblem,
}

/// The problem with the configuration of an issuer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteConfigProblem {
    /// The name is empty, so no token could come from this issuer.
    #[error("the name is empty; give what its tokens have as `iss`")]
    NoName,
    /// Two issuers have the same name.
    #[error("another issuer has the same name; list each issuer once")]
    Duplicate,
    /// A URL was given where a domain is expected.
    #[error("give the domain alone, such as example.eu.auth0.com")]
    NotADomain,
    /// The keys cannot be fetched from the given URL.
    #[error(transparent)]
    Url(#[from] JwksUrlError),
    /// The configuration names no audience and no client that tokens must be meant for.
    #[error("no audience is set; call `audience`, or `client_id` if its tokens name no audience")]
    NoAudience,
    /// An expected audience, client or claim is an empty text.
    #[error("an audience, client id or claim name is empty; give its text or leave it out")]
    Empty,
    /// A required claim is one that has a check of its own.
    #[error("claim {0} has a setting of its own and cannot be required by name")]
    OwnSetting(String),
    /// The configuration leaves no algorithm or no type of header.
    #[error("no algorithm or no header type is accepted; name at least one of each")]
    AcceptsNothing,
    /// The algorithm needs a shared secret. Such a secret verifies and signs, so it is never published.
    #[error("{0} needs a shared secret, which is never published; name asymmetric algorithms")]
    Symmetric(Algorithm),
    /// The leeway is longer than 300 s.
    #[error("the leeway is too long; set at most 300 seconds")]
    LeewayTooLong,
    /// Keys would be renewed too often, or used for too long.
    #[error("`refresh_after` must be 30 seconds to 24 hours, and `usable_for` from that to 24 hours")]
    KeyAge,
    /// The default fetcher could not be made; the text tells why.
    #[error("keys cannot be fetched: {0}")]
    Fetcher(String),
}

impl RemoteIssuer {
    /// The default age at which keys are renewed.
    pub const DEFAULT_REFRESH_AFTER: Duration = Duration::from_secs(5 * 60);
    /// The default age until which keys are used when they cannot be renewed.
    pub const DEFAULT_USABLE_FOR: Duration = Duration::from_secs(60 * 60);

    /// An issuer that follows RFC 9068: access tokens with `typ` `at+jwt`, an audience, and any asymmetric algorithm.
    ///
    /// `issuer` is compared with `iss` byte for byte: a slash at the end and the case count. `jwks_url` is the address
    /// that the issuer's metadata gives as `jwks_uri`.
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
    /// Keycloak's access tokens have `typ` `JWT` in the header, as its ID tokens do, or `at+jwt` where that is switched
    /// on. Only tokens whose claim `typ` is `Bearer` are accepted. Add an *audience mapper* to the client in Keycloak;
    /// otherwise the audience is `account` for all clients. The claim `azp` names the client.
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
    /// Set the identifier of your API as the audience, never the client id of an application. The client id is the
    /// audience of ID tokens, which have the same `typ`, `JWT`, as access tokens in Auth0's older format. The claim
    /// `azp` names the client.
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

    /// A user pool of Amazon Cognito, by region and id, such as `eu-central-1` and `eu-central-1_AbCdEfGhI`.
    ///
    /// Cognito's access tokens have neither `typ` nor `aud`. The claim `token_use` tells them from ID tokens, and
    /// [`client_id`](Self::client_id) must name the clients they may be issued to. Where a client asks for a resource,
    /// tokens do have an `aud`; set the [`audience`](Self::audience) too, and all tokens must then have both.
    #[must_use]
    pub fn cognito(region: &str, user_pool: &str) -> Self {
        let issuer = format!("https://cognito-idp.{region}.amazonaws.com/{user_pool}");
        let jwks_url = format!("{issuer}/.well-known/jwks.json");
        Self::new(issuer, jwks_url)
            .header_types([HeaderType::Absent, HeaderType::AccessToken])
            .algorithms([Algorithm::Rs256])
            .require_claim("token_use", "access")
    }

    /// Accepts tokens whose `aud` names exactly this audience. Of several calls, any one audience is enough.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience.push(audience.into());
        self
    }

    /// Accepts tokens that were issued to exactly this client. Of several calls, any one client is enough.
    ///
    /// With an audience, both must hold. Without an audience, tokens that name one are refused, because they are meant
    /// for another service.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_ids.push(client_id.into());
        self
    }

    /// The claim that holds the client. Default: `client_id` (RFC 9068 §2.2); other issuers use `azp`.
    #[must_use]
    pub fn client_id_claim(mut self, name: impl Into<String>) -> Self {
        self.client_id_claim = name.into();
        self
    }

    /// Accepts only tokens with this claim and exactly this value, such as `token_use` and `access`. Of several calls,
    /// all must hold.
    #[must_use]
    pub fn require_claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.required.push((name.into(), value.into()));
        self
    }

    /// The values that the header's `typ` may have, in place of those accepted so far.
    #[must_use]
    pub fn header_types(mut self, types: impl IntoIterator<Item = HeaderType>) -> Self {
        self.header_types = types.into_iter().collect();
        self
    }

    /// The algorithms that are accepted. Default: all asymmetric ones. A published key that does not name its algorithm
    /// verifies the first of these that fits it; with the default, RS256 for an RSA key.
    #[must_use]
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// The difference between clocks that is tolerated. Default: 10 s; at most 300 s.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// The claim that identifies the user. Default: `sub`. It must be a claim whose value the issuer never gives to
    /// another user and that users cannot choose: not an e-mail address, not a name.
    #[must_use]
    pub fn subject_claim(mut self, name: impl Into<String>) -> Self {
        self.subject_claim = name.into();
        self
    }

    /// The age at which keys are renewed in the background. At twice this age, tokens wait for the renewal, so a
    /// withdrawn key may be accepted for up to that long. Default: 5 minutes; 30 s to 24 hours.
    #[must_use]
    pub fn refresh_after(mut self, age: Duration) -> Self {
        self.refresh_after = age;
        self
    }

    /// The age until which keys are used when they cannot be renewed. After that, tokens are refused with a retryable
    /// error. Default: 1 hour; at most 24 hours.
    #[must_use]
    pub fn usable_for(mut self, age: Duration) -> Self {
        self.usable_for = age;
        self
    }

    /// Accepts tokens for any audience. Another service of the issuer can then use the tokens that its users gave it to
    /// act as them here.
    #[must_use]
    pub fn dangerous_any_audience(mut self) -> Self {
        self.any_audience = true;
        self
    }

    /// Accepts tokens that are bound to a key of their holder (`cnf`, RFC 7800) without asking for the proof of that
    /// key (DPoP, RFC 9449; mutual TLS, RFC 8705), so that a thief can use a stolen token. For services behind a
    /// gateway that has already checked the proof.
    #[must_use]
    pub fn dangerous_accept_bound_tokens(mut self) -> Self {
        self.bound_tokens = true;
        self
    }

    /// Allows fetching keys over http from the loopback interface. For tests and development.
    #[must_use]
    pub fn dangerous_loopback_http(mut self) -> Self {
        self.loopback_http = true;
        self
    }

    /// Checks the configuration and returns the address of the issuer's keys.
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
    /// The problem with the issuer's configuration.
    #[must_use]
    pub fn problem(&self) -> &RemoteConfigProblem {
        &self.problem
    }

    /// The `iss` of the issuer that cannot be used.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }
}

/// Claims that [`RemoteIssuer::require_claim`] does not take.
const OWN_SETTING: [&str; 5] = ["iss", "aud", "exp", "nbf", "iat"];
const MIN_REFRESH_AFTER: Duration = Duration::from_secs(30);
const MAX_KEY_AGE: Duration = Duration::from_secs(24 * 60 * 60);
