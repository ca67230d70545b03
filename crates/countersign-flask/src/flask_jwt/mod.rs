//! Flask-JWT's rules: its options, tokens, login endpoint and answers, under Countersign's names.

mod answers;
mod config;
mod hooks;
mod login;
mod rules;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use countersign_core::flow::TokenFormat;
use countersign_http::{Answer, FoundUser, Gate, Location, Optional, Passed, RequiredToken, Requirement};
use countersign_jwt::jws::SignError;
use countersign_jwt::{Clock, NewClaims, SigningKey, TokenType, VerifyingKey};
use http::request::Parts;
use http::{HeaderMap, Method, Uri, header};

pub use answers::FlaskJwtError;
use answers::{JwtRefusal, invalid, text};
pub use config::FlaskJwtConfig;
pub use hooks::FlaskJwtBuilder;
use hooks::Hooks;
pub use login::Identity;
use login::OverSessions;

use crate::hooks::{FlaskToken, Lookup, SessionLookUp, permits};
use crate::tokens::{
    FLASK_JWT_REFRESH_AUDIENCE, FlaskClaims, FlaskJwtChecks, FlaskTokenError, IssueError, NewToken,
    UnverifiedToken,
};

/// An application's Flask-JWT rules: cheap to clone, made by [`FlaskJwt::builder`].
///
/// ```
/// use countersign_flask::flask_jwt::Identity;
/// use countersign_flask::{FlaskJwt, FlaskJwtConfig};
/// use http::{HeaderMap, HeaderValue, header};
/// # use serde_json::{Value, json};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let options = json!({"SECRET_KEY": "o2X9c1vB7uQkLz0TfYhWmR4s8NpEaJdG"});
/// # let options = options.as_object().cloned().unwrap_or_default();
/// let jwt = FlaskJwt::builder(FlaskJwtConfig::from_options(options)?)
///     .authenticate(async |name: Value, password: Value| {
///         let is_alice = name == "alice" && password == "wonderland";
///         Ok::<_, std::io::Error>(is_alice.then(|| Identity::new(17, "Alice")))
///     })
///     .build()?;
///
/// let mut headers = HeaderMap::new();
/// headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
/// let answer = jwt.login(&headers, br#"{"username": "alice", "password": "wonderland"}"#).await;
/// assert_eq!(answer.status(), 200);
/// assert!(answer.body().starts_with(br#"{"access_token""#));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FlaskJwt(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    config: FlaskJwtConfig,
    checks: FlaskJwtChecks,
    signing_key: Option<SigningKey>,
    verifying_key: VerifyingKey,
    hooks: Hooks,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for FlaskJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlaskJwt").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl FlaskJwt {
    /// Begins a builder with these options; hooks are then added to it.
    #[must_use]
    pub fn builder(config: FlaskJwtConfig) -> FlaskJwtBuilder {
        FlaskJwtBuilder::new(config)
    }

    /// The options.
    #[must_use]
    pub fn config(&self) -> &FlaskJwtConfig {
        &self.0.config
    }

    /// The same rules over Countersign's sessions, which also tell whether a token was revoked.
    pub(crate) fn over_sessions(&self, sessions: OverSessions) -> Self {
        let mut inner = Inner::clone(&self.0);
        inner.hooks.of_token.set_sessions(sessions.is_revoked);
        if inner.hooks.authenticate.is_none() {
            inner.hooks.authenticate = Some(sessions.authenticate);
            inner.hooks.auth_response = Some(sessions.auth_response);
        }
        Self(Arc::new(inner))
    }

    /// Verifies a token that is not part of a request. The user is not looked up.
    ///
    /// # Errors
    /// [`FlaskTokenError`].
    pub fn decode_token(&self, token: &str) -> Result<FlaskClaims, FlaskTokenError> {
        let inner = &*self.0;
        let parsed = UnverifiedToken::parse(token)?;
        inner.checks.verify(&parsed, |_| Ok(inner.verifying_key.clone()), inner.clock.now())
    }

    /// Finds and verifies the token of a request, and judges it.
    async fn prove(
        &self,
        parts: &Parts,
        requirement: &Requirement,
        look_up: SessionLookUp,
    ) -> Result<Option<FlaskToken>, JwtRefusal> {
        let token = match (self.presented(parts, requirement), requirement.when_optional()) {
            (Err(JwtRefusal::Absent), Some(_))
            | (Err(JwtRefusal::OtherScheme), Some(Optional::IfAbsent | Optional::IfAbsentOrExpired)) => {
                return Ok(None);
            }
            (token, _) => token?,
        };
        match self.decode_token(&token) {
            Err(FlaskTokenError::Expired(_))
                if requirement.when_optional() == Some(Optional::IfAbsentOrExpired) =>
            {
                Ok(None)
            }
            Err(error) => Err(self.refused(&token, error)),
            Ok(claims) => self.accepted(claims, Location::Header, requirement, look_up).await.map(Some),
        }
    }

    /// The text of the token that a request presents: from the place that the application's hook reads, otherwise from
    /// the header.
    fn presented(&self, parts: &Parts, requirement: &Requirement) -> Result<String, JwtRefusal> {
        match &self.0.hooks.request {
            Some(hook) => hook(parts).ok_or(JwtRefusal::Absent),
            // Flask-JWT knows only the header, so a route that wants other places only has no token.
            None if requirement.places().is_some_and(|places| !places.contains(&Location::Header)) => {
                Err(JwtRefusal::Absent)
            }
            None => self.in_header(&parts.headers),
        }
    }

    async fn accepted(
        &self,
        claims: FlaskClaims,
        location: Location,
        requirement: &Requirement,
        look_up: SessionLookUp,
    ) -> Result<FlaskToken, JwtRefusal> {
        let user = self.judge(&claims, requirement, look_up).await?;
        Ok(FlaskToken::new(claims, location, user))
    }

    /// Judges verified claims, wherever they came from: by the requirement, and by every hook of the application.
    /// Returns the user that the application's hook has found.
    async fn judge(
        &self,
        claims: &FlaskClaims,
        requirement: &Requirement,
        look_up: SessionLookUp,
    ) -> Result<Option<FoundUser>, JwtRefusal> {
        let hooks = &self.0.hooks;
        // A refresh token that Flask-JWT-Extended issued with the same key gets access tokens, but no access.
        if !requirement.token().accepts(claims.token_type()) {
            return Err(invalid(match requirement.token() {
                RequiredToken::Refresh => "Only refresh tokens are allowed",
                _ => "Only access tokens are allowed",
            }));
        }
        // Flask-JWT's own tokens are never fresh; those of Flask-JWT-Extended and of our sessions may be.
        if requirement.wants_fresh() && claims.is_fresh(self.0.clock.now()) != Some(true) {
            return Err(invalid("Fresh token required"));
        }
        if !requirement.skips_revocation() && hooks.of_token.is_revoked(claims, look_up).await? {
            return Err(invalid("Token has been revoked"));
        }
        if !permits(requirement, claims.claims()) {
            return Err(JwtRefusal::Forbidden);
        }
        match hooks.of_token.user(claims).await? {
            Lookup::None => Err(JwtRefusal::Error(FlaskJwtError::new("Invalid JWT", "User does not exist"))),
            Lookup::Found(user) => Ok(Some(user)),
            Lookup::NotAsked => Ok(None),
        }
    }

    /// The refresh token that a request wants to exchange: the one in its body, otherwise the one in the place of an
    /// access token. Flask-JWT itself has no refresh tokens.
    async fn refresh_token(
        &self,
        parts: &Parts,
        in_body: Option<&str>,
    ) -> Result<Option<FlaskToken>, JwtRefusal> {
        let (requirement, look_up) = (Requirement::REFRESH, SessionLookUp::ByCaller);
        match in_body {
            None => self.prove(parts, &requirement, look_up).await,
            Some(token) => match self.decode_token(token) {
                Ok(claims) => self.accepted(claims, Location::Body, &requirement, look_up).await.map(Some),
                Err(error) => Err(self.refused(token, error)),
            },
        }
    }

    fn in_header(&self, headers: &HeaderMap) -> Result<String, JwtRefusal> {
        let fields = headers.get_all(header::AUTHORIZATION).iter();
        let fields: Vec<_> = fields.map(|field| String::from_utf8_lossy(field.as_bytes())).collect();
        let joined = fields.join(",");
        let mut words = joined.split_ascii_whitespace();
        let Some(prefix) = words.next() else { return Err(JwtRefusal::Absent) };
        if prefix.to_lowercase() != self.0.config.auth_header_prefix.to_lowercase() {
            return Err(JwtRefusal::OtherScheme);
        }
        let invalid =
            |description| Err(JwtRefusal::Error(FlaskJwtError::new("Invalid JWT header", description)));
        match (words.next(), words.next()) {
            (None, _) => invalid("Token missing"),
            (Some(token), None) => Ok(token.to_owned()),
            (Some(_), Some(_)) => invalid("Token contains spaces"),
        }
    }

    /// Verifies a token of either type, expired or not.
    fn decode_for_end(&self, token: &str) -> Result<FlaskClaims, JwtRefusal> {
        match self.decode_token(token) {
            Ok(claims) => Ok(claims),
            Err(FlaskTokenError::Expired(claims)) => Ok(*claims),
            Err(error) => Err(self.refused(token, error)),
        }
    }

    /// The refusal of a token, in Flask-JWT's words.
    fn refused(&self, token: &str, error: FlaskTokenError) -> JwtRefusal {
        let Inner { checks, verifying_key, clock, .. } = &*self.0;
        let known_as = checks.explain(token, error, |_| Ok(verifying_key.clone()), clock.now());
        invalid(&text(&known_as))
    }

    /// Lets a request through if it proves what `requirement` demands; `None` if the request may pass as nobody.
    ///
    /// # Errors
    /// The answer to a refused request, as the application's hooks shape it. The cause has been logged.
    pub async fn authenticate(
        &self,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Option<FlaskToken>, Answer> {
        match self.prove(parts, requirement, SessionLookUp::Here).await {
            Ok(token) => Ok(token),
            Err(refusal) => Err(self.answer(&refusal, requirement.shown_realm()).await),
        }
    }
}

#[async_trait]
impl Gate for FlaskJwt {
    fn is_in_query(&self, _: &Uri) -> bool {
        false
    }

    fn wants_body(&self, _: &Method, _: &HeaderMap, _: Option<&Requirement>) -> bool {
        false
    }

    async fn check(&self, parts: &Parts, requirement: &Requirement) -> Result<Option<Passed>, Answer> {
        Ok(self.authenticate(parts, requirement).await?.map(|token| Arc::new(token) as Passed))
    }
}

/// The tokens of Countersign's sessions: Flask-JWT's claims, and those that name the session. Flask-JWT has no refresh
/// tokens; Countersign's are made so that Flask-JWT does not take them for access tokens.
impl TokenFormat for FlaskJwt {
    fn issue(&self, new: &NewClaims) -> Result<String, SignError> {
        let mut claims = new.to_map();
        if let Some(subject) = claims.remove("sub") {
            claims.insert(IDENTITY.to_owned(), subject);
        }
        if new.token_type() == TokenType::Refresh {
            claims.insert("aud".to_owned(), FLASK_JWT_REFRESH_AUDIENCE.into());
        }
        let issued_at = new.issued_at().unwrap_or_else(|| self.0.clock.now());
        claims.insert("nbf".to_owned(), (issued_at + self.0.config.not_before_delta).as_secs().into());
        let key = self.0.signing_key.as_ref().ok_or(SignError::Failed)?;
        NewToken::new(claims).sign(key, &self.0.config.algorithm).map_err(|error| match error {
            IssueError::Sign(error) => error,
            _ => SignError::Failed,
        })
    }
}

const IDENTITY: &str = "identity";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use countersign_core::store::BoxError;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{SECRET, Standing, get, run};
    use crate::tokens::KeySource;

    const NOW: i64 = 1_700_000_000;

    fn builder(mut options: Value) -> FlaskJwtBuilder {
        options["JWT_SECRET_KEY"] = SECRET.into();
        let config = FlaskJwtConfig::from_options(options.as_object().unwrap().clone()).unwrap();
        FlaskJwt::builder(config).clock(Arc::new(Standing)).authenticate(|name, password| async move {
            let known = name == "joe" && password == "pass-joe";
            Ok::<_, BoxError>(known.then(|| Identity::new(1, "joe")))
        })
    }

    fn jwt(options: Value) -> FlaskJwt {
        builder(options).build().unwrap()
    }

    /// A token with the usual claims, changed by the given ones; null removes a claim.
    fn token(claims: &Value) -> String {
        let usual = json!({"identity": 1, "exp": NOW + 300, "iat": NOW, "nbf": NOW});
        let mut all = usual.as_object().unwrap().clone();
        all.extend(claims.as_object().unwrap().clone());
        all.retain(|_, claim| !claim.is_null());
        let key = KeySource::new(SECRET).signing(countersign_jwt::Algorithm::Hs256).unwrap();
        NewToken::new(all).sign(&key, "HS256").unwrap()
    }

    fn described(answer: &Answer) -> String {
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        format!(
            "{} {}: {}",
            body["status_code"],
            body["error"].as_str().unwrap(),
            body["description"].as_str().unwrap()
        )
    }

    fn asked(jwt: &FlaskJwt, header: &str, requirement: &Requirement) -> String {
        match run(jwt.authenticate(&get("/", &[("authorization", header)]), requirement)) {
            Ok(Some(token)) => format!("identity {}", token.identity),
            Ok(None) => "nobody".to_owned(),
            Err(answer) => described(&answer),
        }
    }

    #[test]
    fn headers_are_read_as_flask_jwt_reads_them() {
        let good = token(&json!({}));
        let absent = "401 Authorization Required: Request does not contain an access token";
        let other = "401 Invalid JWT header: Unsupported authorization type";
        for (header, expected) in [
            (format!("JWT {good}"), "identity 1"),
            (format!("jwt {good}"), "identity 1"),
            (format!("  JWT \t {good}  "), "identity 1"),
            (String::new(), absent),
            ("   ".to_owned(), absent),
            (format!("Bearer {good}"), other),
            ("Basic x".to_owned(), other),
            (",".to_owned(), other),
            ("JWT".to_owned(), "401 Invalid JWT header: Token missing"),
            (format!("JWT {good} x"), "401 Invalid JWT header: Token contains spaces"),
            ("JWT x".to_owned(), "401 Invalid token: Not enough segments"),
        ] {
            assert_eq!(asked(&jwt(json!({})), &header, &Requirement::ACCESS), expected, "{header:?}");
        }
    }

    #[test]
    fn only_an_absent_token_is_challenged_in_the_realm() {
        let jwt = jwt(json!({"JWT_DEFAULT_REALM": "The \"App\""}));
        let challenge = |header: &str, requirement: &Requirement| {
            let refused =
                run(jwt.authenticate(&get("/", &[("authorization", header)]), requirement)).unwrap_err();
            refused.headers().get(header::WWW_AUTHENTICATE).map(|field| field.to_str().unwrap().to_owned())
        };
        assert_eq!(challenge("", &Requirement::ACCESS).as_deref(), Some("JWT realm=\"The 'App'\""));
        assert_eq!(
            challenge("", &Requirement::ACCESS.realm("Admins")).as_deref(),
            Some("JWT realm=\"Admins\"")
        );
        assert_eq!(challenge("JWT x", &Requirement::ACCESS), None);
    }

    #[test]
    fn the_first_check_that_fails_is_what_is_said() {
        for (claims, said) in [
            (json!({"exp": null, "iat": null}), "Token is missing the \"exp\" claim"),
            (json!({"iat": null}), "Token is missing the \"iat\" claim"),
            (json!({"iat": NOW + 11, "nbf": "x"}), "Issued At claim (iat) cannot be in the future."),
            (json!({"iat": {}}), "Issued At claim (iat) must be an integer."),
            (json!({"nbf": NOW + 11, "exp": 1}), "The token is not yet valid (nbf)"),
            (json!({"exp": NOW - 11, "aud": "x"}), "Signature has expired"),
            (json!({"aud": "x"}), "Invalid audience"),
            (json!({"aud": 5}), "Invalid claim format in token"),
            (json!({"aud": "countersign-refresh"}), "Invalid audience"),
        ] {
            let header = format!("JWT {}", token(&claims));
            let expected = format!("401 Invalid token: {said}");
            assert_eq!(asked(&jwt(json!({})), &header, &Requirement::ACCESS), expected, "{claims}");
        }
        for at_the_limit in [json!({"exp": NOW - 10}), json!({"iat": NOW + 10, "nbf": NOW + 10})] {
            let header = format!("JWT {}", token(&at_the_limit));
            assert_eq!(asked(&jwt(json!({})), &header, &Requirement::ACCESS), "identity 1", "{at_the_limit}");
        }
    }

    #[test]
    fn a_route_gets_no_less_than_it_requires() {
        let jwt = jwt(json!({}));
        let absent = "401 Authorization Required: Request does not contain an access token";
        let elsewhere = Requirement::ACCESS.locations(vec![Location::Cookie]);
        for (claims, requirement, expected) in [
            (
                json!({"type": "refresh"}),
                Requirement::ACCESS,
                "401 Invalid token: Only access tokens are allowed",
            ),
            (json!({}), Requirement::REFRESH, "401 Invalid token: Only refresh tokens are allowed"),
            (json!({"type": "refresh"}), Requirement::REFRESH, "identity 1"),
            (json!({}), Requirement::FRESH, "401 Invalid token: Fresh token required"),
            (json!({"fresh": true}), Requirement::FRESH, "identity 1"),
            (json!({}), elsewhere, absent),
        ] {
            let header = format!("JWT {}", token(&claims));
            assert_eq!(asked(&jwt, &header, &requirement), expected, "{claims} for {requirement:?}");
        }
    }

    #[test]
    fn an_optional_route_takes_other_schemes_for_no_token() {
        let jwt = jwt(json!({}));
        let optional = |when| Requirement::ACCESS.optional(when);
        assert_eq!(asked(&jwt, "Basic x", &optional(Optional::IfAbsent)), "nobody");
        assert_eq!(asked(&jwt, "", &optional(Optional::IfNoCredential)), "nobody");
        let refused = asked(&jwt, "Basic x", &optional(Optional::IfNoCredential));
        assert_eq!(refused, "401 Invalid JWT header: Unsupported authorization type");
        assert!(asked(&jwt, "JWT x", &optional(Optional::IfAbsent)).starts_with("401"));
    }

    #[test]
    fn logins_are_answered_as_flask_jwt_answers_them() {
        let jwt = jwt(json!({}));
        let wrong = "401 Bad Request: Invalid credentials";
        for (content_type, body, expected) in [
            ("application/json", r#"{"username": "joe", "password": "wrong"}"#, wrong),
            ("application/json", r#"{"username": "joe", "password": ""}"#, wrong),
            ("application/json", r#"{"username": "joe"}"#, wrong),
            ("application/json", r#"{"username": "joe", "password": "pass-joe", "x": 1}"#, wrong),
            ("application/json", "{", "400 Bad Request: The login must be a JSON object"),
            ("application/json", "[]", "400 Bad Request: The login must be a JSON object"),
            ("text/plain", "{}", "400 Bad Request: The login must be application/json"),
        ] {
            let headers = get("/", &[("content-type", content_type)]).headers;
            assert_eq!(
                described(&run(jwt.login(&headers, body.as_bytes()))),
                expected,
                "{content_type} {body}"
            );
        }
        let headers = get("/", &[("content-type", "application/vnd.x+json")]).headers;
        let answer = run(jwt.login(&headers, br#"{"username": "joe", "password": "pass-joe"}"#));
        assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        let claims = jwt.decode_token(body["access_token"].as_str().unwrap()).unwrap();
        let expected = json!({"identity": 1, "exp": NOW + 300, "iat": NOW, "nbf": NOW});
        assert_eq!(Value::from(claims.claims().clone()), expected);
    }

    #[test]
    fn a_login_endpoint_needs_somebody_who_decides() {
        let options = json!({"JWT_SECRET_KEY": SECRET});
        let config = FlaskJwtConfig::from_options(options.as_object().unwrap().clone()).unwrap();
        let refused = FlaskJwt::builder(config.clone()).build().unwrap_err().to_string();
        assert!(refused.contains("JWT_AUTH_URL_RULE") && refused.contains("authenticate"), "{refused}");
        assert!(FlaskJwt::builder(FlaskJwtConfig { auth_url_rule: None, ..config }).build().is_ok());
    }

    #[test]
    fn flask_jwt_itself_refuses_our_refresh_tokens() {
        let jwt = jwt(json!({}));
        let issue = |token_type| {
            let id = countersign_jwt::TokenId::new("6f1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d".parse().unwrap());
            let user = countersign_jwt::UserId::new("u1").unwrap();
            let now = Standing.now();
            jwt.issue(&NewClaims::new(token_type, user, id, now, now + Duration::from_secs(60))).unwrap()
        };
        let access = jwt.decode_token(&issue(TokenType::Access)).unwrap();
        assert_eq!((access.identity(), access.claims().get("aud")), (&json!("u1"), None));
        // Flask-JWT does not check `type`, but refuses every audience.
        let refresh = jwt.decode_token(&issue(TokenType::Refresh)).unwrap();
        assert_eq!(refresh.claims()["aud"], "countersign-refresh");
        let header = format!("JWT {}", issue(TokenType::Refresh));
        assert_eq!(asked(&jwt, &header, &Requirement::REFRESH), "identity \"u1\"");
        assert!(asked(&jwt, &header, &Requirement::ACCESS).starts_with("401"));
    }
}
