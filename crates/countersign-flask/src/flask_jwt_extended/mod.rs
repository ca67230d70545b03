//! Flask-JWT-Extended's rules: its options, tokens, cookies and answers, under Countersign's names.
//!
//! ```
//! use countersign_flask::FlaskJwtExtended;
//! use countersign_flask::flask_jwt_extended::{FlaskJwtExtendedConfig, NewAccess};
//!
//! # async fn example(secret: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let options = serde_json::json!({"JWT_SECRET_KEY": secret, "JWT_TOKEN_LOCATION": ["headers", "cookies"]});
//! let config = FlaskJwtExtendedConfig::from_options(options.as_object().cloned().unwrap_or_default())?;
//! let jwt = FlaskJwtExtended::builder(config)
//!     .is_revoked(|token| async move { Ok::<_, std::io::Error>(token.claims().get("jti").is_none()) })
//!     .build()?;
//!
//! let token = jwt.create_access_token("alice", NewAccess::fresh()).await?;
//! # let _ = token;
//! # Ok(())
//! # }
//! ```

mod answers;
mod config;
mod cookies;
mod hooks;
mod issue;
mod locate;
mod rules;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use countersign_http::reading::{is_form, is_handshake};
use countersign_http::{
    Answer, CookieLookup, CrossSite, CrossSiteCheck, FoundUser, Gate, Location, Optional, Passed,
    RequiredToken, Requirement, no_store,
};
use countersign_jwt::key::{ImportRules, KeyError};
use countersign_jwt::{Algorithm, Clock, Random, SigningKey, TokenType, VerifyingKey};
use http::request::Parts;
use http::{HeaderMap, Method, Uri, header};
use serde_json::{Map, Value};
use url::form_urlencoded;

use answers::ExtendedRefusal;
pub use answers::{RefusalKind, Refused};
pub use config::{CookieNames, CookieSameSite, FlaskJwtExtendedConfig, Lifetime, location_by_name};
pub use cookies::CookieArguments;
use hooks::Hooks;
pub use hooks::{FlaskJwtExtendedBuilder, RefusalContext};
pub use issue::{CreateError, NewAccess, NewRefresh};
use locate::Found;

use crate::hooks::{FlaskToken, Lookup, SessionLookUp, permits};
use crate::json_body::is_json;
use crate::tokens::{FlaskClaims, FlaskJwtExtendedChecks, FlaskTokenError, KeySource, UnverifiedToken};

/// An application's Flask-JWT-Extended rules: cheap to clone, made by [`FlaskJwtExtended::builder`].
///
/// ```
/// use countersign_flask::flask_jwt_extended::NewAccess;
/// use countersign_flask::{FlaskJwtExtended, FlaskJwtExtendedConfig};
/// use countersign_http::Requirement;
/// # use http::Request;
/// # use serde_json::json;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let options = json!({"JWT_SECRET_KEY": "o2X9c1vB7uQkLz0TfYhWmR4s8NpEaJdG"});
/// # let options = options.as_object().cloned().unwrap_or_default();
/// let jwt = FlaskJwtExtended::builder(FlaskJwtExtendedConfig::from_options(options)?).build()?;
///
/// let token = jwt.create_access_token("alice", NewAccess::new()).await?;
/// let bearer = format!("Bearer {token}");
/// let (parts, ()) = Request::get("/").header("authorization", bearer).body(())?.into_parts();
/// match jwt.authenticate(&parts, &Requirement::ACCESS).await {
///     Ok(token) => assert_eq!(token.map(|token| token.identity), Some("alice".into())),
///     Err(answer) => println!("answered as Flask-JWT-Extended does: {}", answer.status()),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FlaskJwtExtended(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    config: FlaskJwtExtendedConfig,
    checks: FlaskJwtExtendedChecks,
    signing_key: Option<SigningKey>,
    verifying_keys: BTreeMap<Algorithm, VerifyingKey>,
    import: ImportRules,
    /// The check of WebSocket handshakes.
    cross_site: CrossSiteCheck,
    hooks: Hooks,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl fmt::Debug for FlaskJwtExtended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlaskJwtExtended").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl FlaskJwtExtended {
    /// Begins a builder with these options; hooks are then added to it.
    #[must_use]
    pub fn builder(config: FlaskJwtExtendedConfig) -> FlaskJwtExtendedBuilder {
        FlaskJwtExtendedBuilder::new(config)
    }

    /// The options.
    #[must_use]
    pub fn config(&self) -> &FlaskJwtExtendedConfig {
        &self.0.config
    }

    /// Verifies a token that is not part of a request, as `decode_token` does. Its type, freshness, revocation and user
    /// are not checked. An empty `csrf` counts as none.
    ///
    /// # Errors
    /// [`Refused`], whose [`answer`](Self::answer) is the one that a protected route would give.
    pub async fn decode_token(
        &self,
        token: &str,
        csrf: Option<&str>,
        allow_expired: bool,
    ) -> Result<FlaskClaims, Refused> {
        let csrf = csrf.filter(|value| !value.is_empty()).map(str::as_bytes);
        match self.verified(token, csrf).await {
            Err(ExtendedRefusal::Expired(claims)) if allow_expired => Ok(*claims),
            verdict => verdict.map_err(Refused),
        }
    }

    /// The token's `jti`, as `get_jti` returns it.
    ///
    /// # Errors
    /// Those of [`FlaskJwtExtended::decode_token`].
    pub async fn token_id(&self, token: &str) -> Result<Value, Refused> {
        let claims = self.decode_token(token, None, false).await?;
        Ok(claims.claims().get("jti").cloned().unwrap_or_default())
    }

    /// The token's CSRF value, as `get_csrf_token` returns it.
    ///
    /// # Errors
    /// Those of [`FlaskJwtExtended::decode_token`], and a refusal of a token without a CSRF value.
    pub async fn csrf_value(&self, token: &str) -> Result<String, Refused> {
        let claims = self.decode_token(token, None, false).await?;
        claims.csrf().map(str::to_owned).ok_or_else(|| Refused(ExtendedRefusal::missing_claim("csrf")))
    }

    /// The token's header, about which nothing is proven, as `get_unverified_jwt_headers` returns it.
    ///
    /// # Errors
    /// [`Refused`] for a text that is no token at all.
    pub fn unverified_header(&self, token: &str) -> Result<Map<String, Value>, Refused> {
        let parsed = UnverifiedToken::parse(token).and_then(|token| {
            token.check_header()?;
            Ok(token.header().clone())
        });
        parsed.map_err(|error| Refused(error.into()))
    }

    /// The answer to a refusal: the answer of the application's hook, otherwise Flask-JWT-Extended's.
    pub async fn answer(&self, refused: Refused) -> Answer {
        self.answer_to(&refused).await
    }

    async fn answer_to(&self, Refused(refusal): &Refused) -> Answer {
        let is_repeated = matches!(refusal, ExtendedRefusal::RepeatedCookie(_));
        let mut answer = self.0.hooks.answer(refusal, &self.0.config.error_message_key).await;
        if is_repeated {
            // The fields are added whoever gives the answer, because otherwise the browser would send both copies for
            // ever.
            for field in self.expire_repeated() {
                answer.headers_mut().append(header::SET_COOKIE, field);
            }
            no_store(answer.headers_mut());
        }
        answer
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
        match self.let_through(parts, requirement).await {
            Ok(token) => Ok(token),
            Err(refusal) => Err(self.answer(Refused(refusal)).await),
        }
    }

    async fn let_through(
        &self,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Option<FlaskToken>, ExtendedRefusal> {
        if self.is_foreign_handshake(parts) {
            return Err(ExtendedRefusal::CrossSite);
        }
        self.prove(parts, requirement, SessionLookUp::Here).await
    }

    /// Finds and verifies the token of a request, and judges it.
    async fn prove(
        &self,
        parts: &Parts,
        requirement: &Requirement,
        look_up: SessionLookUp,
    ) -> Result<Option<FlaskToken>, ExtendedRefusal> {
        if parts.method == Method::OPTIONS {
            return Ok(None);
        }
        let Some((claims, location)) = self.find(parts, requirement).await? else { return Ok(None) };
        self.accepted(claims, location, requirement, look_up).await.map(Some)
    }

    async fn accepted(
        &self,
        claims: FlaskClaims,
        location: Location,
        requirement: &Requirement,
        look_up: SessionLookUp,
    ) -> Result<FlaskToken, ExtendedRefusal> {
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
    ) -> Result<Option<FoundUser>, ExtendedRefusal> {
        match requirement.token() {
            RequiredToken::Access if claims.token_type() == TokenType::Refresh => {
                return Err(ExtendedRefusal::Invalid("Only non-refresh tokens are allowed".to_owned()));
            }
            RequiredToken::Refresh if claims.token_type() != TokenType::Refresh => {
                return Err(ExtendedRefusal::Invalid("Only refresh tokens are allowed".to_owned()));
            }
            _ => {}
        }
        if requirement.wants_fresh() && claims.is_fresh(self.0.clock.now()) != Some(true) {
            return Err(ExtendedRefusal::NotFresh(claims.clone()));
        }
        let hooks = &self.0.hooks;
        if !requirement.skips_revocation() && hooks.of_token.is_revoked(claims, look_up).await? {
            return Err(ExtendedRefusal::Revoked(claims.clone()));
        }
        if !hooks.verifies(claims).await? || !permits(requirement, claims.claims()) {
            return Err(ExtendedRefusal::VerificationFailed(claims.clone()));
        }
        match hooks.of_token.user(claims).await? {
            Lookup::None => Err(ExtendedRefusal::NoUser(claims.clone())),
            Lookup::Found(user) => Ok(Some(user)),
            Lookup::NotAsked => Ok(None),
        }
    }

    /// The first token that the places hold, in order. The search goes on only where a token is absent.
    async fn find(
        &self,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Option<(FlaskClaims, Location)>, ExtendedRefusal> {
        let is_refresh = requirement.token().is_in_refresh_places();
        let places = self.places(requirement);
        let mut absent = Vec::new();
        for &location in places {
            let presented = match self.0.config.look(location, parts, is_refresh) {
                Found::Absent(message) => {
                    absent.push(message);
                    continue;
                }
                Found::Stop(refusal) => return Err(refusal),
                Found::Token(presented) => presented,
            };
            return match self.verified(&presented.token, presented.csrf.as_deref()).await {
                Err(ExtendedRefusal::Expired(_))
                    if requirement.when_optional() == Some(Optional::IfAbsentOrExpired) =>
                {
                    Ok(None)
                }
                verdict => verdict.map(|claims| Some((claims, location))),
            };
        }
        match requirement.when_optional() {
            Some(Optional::IfAbsent | Optional::IfAbsentOrExpired) => Ok(None),
            Some(Optional::IfNoCredential)
                if !parts.headers.contains_key(self.0.config.header_name.as_str()) =>
            {
                Ok(None)
            }
            Some(Optional::IfNoCredential) | None => {
                Err(ExtendedRefusal::Unauthorized(locate::absent_message(places, &absent)))
            }
        }
    }

    /// Whether a page of another site opens a WebSocket with our cookies (SEC-220).
    fn is_foreign_handshake(&self, parts: &Parts) -> bool {
        let config = &self.0.config;
        let names = [&config.access.name, &config.refresh.name];
        is_handshake(&parts.method, &parts.headers)
            && names.iter().any(|name| !matches!(locate::cookie(&parts.headers, name), CookieLookup::Absent))
            && self.0.cross_site.check_headers(&parts.uri, &parts.headers) == CrossSite::Foreign
    }

    fn places<'a>(&'a self, requirement: &'a Requirement) -> &'a [Location] {
        match requirement.places() {
            None | Some([]) => &self.0.config.token_location,
            Some(places) => places,
        }
    }

    /// Checks everything about a token that does not depend on the route.
    async fn verified(&self, token: &str, csrf: Option<&[u8]>) -> Result<FlaskClaims, ExtendedRefusal> {
        let parsed = UnverifiedToken::parse(token)?;
        parsed.check_header()?;
        let claims = parsed.claims()?;
        let key = self.0.hooks.verifying_key(parsed.header(), &claims).await?;
        let now = self.0.clock.now();
        let verdict = self.0.checks.verify(&parsed, claims, |algorithm| self.key(algorithm, key), now);
        // A token is called expired only when nothing else is wrong with it. A token without an end is treated
        // likewise, because Flask-JWT-Extended itself does not require an end.
        let claims = match &verdict {
            Ok(claims) => claims,
            Err(FlaskTokenError::Expired(claims) | FlaskTokenError::NoExpiry(claims)) => &**claims,
            Err(_) => return Ok(verdict?),
        };
        if let Some(csrf) = csrf {
            if !claims.claims().contains_key("csrf") {
                return Err(ExtendedRefusal::missing_claim("csrf"));
            }
            if !claims.csrf_matches(csrf) {
                return Err(ExtendedRefusal::Unauthorized(
                    "CSRF double submit tokens do not match".to_owned(),
                ));
            }
        }
        Ok(verdict?)
    }

    fn key(&self, algorithm: Algorithm, by_hook: Option<KeySource>) -> Result<VerifyingKey, KeyError> {
        match by_hook {
            Some(key) => key.verifying(algorithm, self.0.import),
            None => match self.0.verifying_keys.get(&algorithm) {
                Some(key) => Ok(key.clone()),
                None => Err(KeyError::WrongForm { algorithm }),
            },
        }
    }
}

#[async_trait]
impl Gate for FlaskJwtExtended {
    // A route of the application may look in the query string, whatever the options say.
    fn is_in_query(&self, uri: &Uri) -> bool {
        let query = uri.query().unwrap_or_default().as_bytes();
        form_urlencoded::parse(query).any(|(name, _)| name == self.0.config.query_string_name)
    }

    fn wants_body(&self, method: &Method, headers: &HeaderMap, requirement: Option<&Requirement>) -> bool {
        let config = &self.0.config;
        let places =
            requirement.map_or(config.token_location.as_slice(), |requirement| self.places(requirement));
        // A single route may look for cookies where the others do not.
        let by_cookie = requirement.is_none() || places.contains(&Location::Cookie);
        let by_form = config.csrf_check_form && by_cookie && config.needs_csrf(method);
        (places.contains(&Location::Body) && is_json(headers)) || (by_form && is_form(headers))
    }

    async fn check(&self, parts: &Parts, requirement: &Requirement) -> Result<Option<Passed>, Answer> {
        Ok(self.authenticate(parts, requirement).await?.map(|token| Arc::new(token) as Passed))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{SECRET, Standing, get, run};
    use crate::tokens::NewToken;

    const NOW: i64 = 1_700_000_000;

    fn jwt(mut options: Value) -> FlaskJwtExtended {
        options["JWT_SECRET_KEY"] = SECRET.into();
        let config = FlaskJwtExtendedConfig::from_options(options.as_object().unwrap().clone()).unwrap();
        FlaskJwtExtended::builder(config).clock(Arc::new(Standing)).build().unwrap()
    }

    /// A token with the usual claims, changed by the given ones; null removes a claim.
    fn token(claims: &Value) -> String {
        let usual =
            json!({"sub": "alice", "exp": NOW + 900, "iat": NOW, "nbf": NOW, "jti": "j", "csrf": "c"});
        let mut all = usual.as_object().unwrap().clone();
        all.extend(claims.as_object().unwrap().clone());
        all.retain(|_, claim| !claim.is_null());
        let key = KeySource::new(SECRET).signing(Algorithm::Hs256).unwrap();
        NewToken::new(all).sign(&key, "HS256").unwrap()
    }

    fn refused(jwt: &FlaskJwtExtended, claims: &Value, csrf: Option<&str>) -> String {
        run(jwt.decode_token(&token(claims), csrf, false)).unwrap_err().to_string()
    }

    #[test]
    fn the_first_check_that_fails_is_what_is_said() {
        let jwt = jwt(json!({"JWT_DECODE_AUDIENCE": "us", "JWT_DECODE_ISSUER": "them"}));
        // The errors are corrected in turn, from the check that comes first to the one that comes last.
        let mut claims = json!({
            "iat": NOW + 1, "nbf": NOW + 1, "exp": "never", "iss": "x", "aud": "x", "sub": 5, "jti": 5, "csrf": 5,
        });
        for (mended, to, said) in [
            ("", json!(null), "The token is not yet valid (iat)"),
            ("iat", json!(NOW), "The token is not yet valid (nbf)"),
            ("nbf", json!(NOW), "Expiration Time claim (exp) must be an integer."),
            ("exp", json!(NOW), "Invalid issuer"),
            ("iss", json!("them"), "Audience doesn't match"),
            ("aud", json!(["x", "us"]), "Subject must be a string"),
            ("sub", json!("alice"), "JWT ID must be a string"),
            ("jti", json!("j"), "CSRF double submit tokens do not match"),
            ("csrf", json!("c"), "Token has expired"),
        ] {
            if !mended.is_empty() {
                claims[mended] = to;
            }
            assert_eq!(refused(&jwt, &claims, Some("c")), said, "after {mended}");
        }
    }

    #[test]
    fn the_first_claim_that_is_missed_is_the_one_that_flask_jwt_extended_misses() {
        let jwt = jwt(json!({}));
        let bare = |mut claims: Value| {
            for name in ["sub", "exp", "iat", "nbf", "jti", "csrf"] {
                claims.as_object_mut().unwrap().entry(name).or_insert(Value::Null);
            }
            claims
        };
        for (claims, csrf, said) in [
            (json!({}), None, "Missing claim: sub"),
            (json!({}), Some("c"), "Missing claim: sub"),
            (json!({"type": 5}), None, "Missing claim: sub"),
            (json!({"sub": "a"}), Some("c"), "Missing claim: csrf"),
            (json!({"sub": "a", "csrf": "c"}), Some("x"), "CSRF double submit tokens do not match"),
            // An absent `exp` is reported only where nothing else is wrong, because Flask-JWT-Extended lets it pass.
            (json!({"sub": "a", "csrf": "c"}), Some("c"), "Token is missing the \"exp\" claim"),
            (json!({"sub": "a"}), None, "Token is missing the \"exp\" claim"),
        ] {
            assert_eq!(refused(&jwt, &bare(claims.clone()), csrf), said, "{claims} {csrf:?}");
        }
    }

    #[test]
    fn what_flask_jwt_extended_accepts_by_mistake_is_refused() {
        let jwt = jwt(json!({}));
        for (claims, said) in [
            (json!({"exp": null}), "Token is missing the \"exp\" claim"),
            (json!({"exp": "1800000000"}), "Expiration Time claim (exp) must be an integer."),
            (json!({"iat": true}), "Issued At claim (iat) must be an integer."),
            (json!({"type": 5}), "Token type must be a string"),
        ] {
            assert_eq!(refused(&jwt, &claims, None), said, "{claims}");
        }
    }

    #[test]
    fn tokens_without_end_are_accepted_of_the_kind_that_is_configured_so() {
        let jwt = jwt(json!({"JWT_REFRESH_TOKEN_EXPIRES": false}));
        let refresh = token(&json!({"exp": null, "type": "refresh"}));
        assert!(run(jwt.decode_token(&refresh, None, false)).is_ok());
        assert_eq!(refused(&jwt, &json!({"exp": null}), None), "Token is missing the \"exp\" claim");
    }

    #[test]
    fn absent_claims_have_their_defaults() {
        let bare = token(&json!({"jti": null, "iat": null, "nbf": null, "csrf": null}));
        let claims = run(jwt(json!({})).decode_token(&bare, None, false)).unwrap();
        let expected =
            json!({"sub": "alice", "exp": NOW + 900, "type": "access", "fresh": false, "jti": null});
        assert_eq!(Value::from(claims.claims().clone()), expected);
    }

    #[test]
    fn a_route_is_passed_by_the_token_that_it_requires() {
        let jwt = jwt(json!({}));
        let status = |claims: Value, requirement: &Requirement| {
            let bearer = format!("Bearer {}", token(&claims));
            let outcome = run(jwt.authenticate(&get("/", &[("authorization", &bearer)]), requirement));
            outcome.map_or_else(|answer| answer.status().as_u16(), |_| 200)
        };
        let (access, refresh, any) = (Requirement::ACCESS, Requirement::REFRESH, Requirement::ANY);
        for (claims, requirement, expected) in [
            (json!({}), &access, 200),
            (json!({"type": "other"}), &access, 200),
            (json!({"type": "refresh"}), &access, 422),
            (json!({"type": "refresh"}), &refresh, 200),
            (json!({}), &refresh, 422),
            (json!({"type": "refresh"}), &any, 200),
            (json!({"fresh": true}), &Requirement::FRESH, 200),
            (json!({"fresh": NOW}), &Requirement::FRESH, 200),
            (json!({"fresh": NOW - 1}), &Requirement::FRESH, 401),
            (json!({"fresh": "yes"}), &Requirement::FRESH, 401),
            (json!({}), &Requirement::FRESH, 401),
            (json!({"fresh": true, "type": "refresh"}), &Requirement::FRESH, 422),
            (json!({"exp": NOW}), &access, 401),
            (json!({"exp": NOW}), &Requirement::ACCESS.optional(Optional::IfAbsentOrExpired), 200),
        ] {
            assert_eq!(status(claims.clone(), requirement), expected, "{claims} for {requirement:?}");
        }
    }

    #[test]
    fn options_needs_no_token_and_shows_none() {
        let mut parts = get("/", &[("authorization", "Bearer junk")]);
        parts.method = Method::OPTIONS;
        assert!(run(jwt(json!({})).authenticate(&parts, &Requirement::ACCESS)).unwrap().is_none());
    }

    #[test]
    fn sec_018_a_short_secret_is_refused_or_only_verifies() {
        const SHORT: &str = "flask-pw1";
        let options = json!({"JWT_SECRET_KEY": SHORT});
        let config = FlaskJwtExtendedConfig::from_options(options.as_object().unwrap().clone()).unwrap();
        let builder = FlaskJwtExtended::builder(config).clock(Arc::new(Standing));
        let refused = builder.clone().build().unwrap_err().to_string();
        assert!(refused.contains("9 bytes long") && refused.contains("openssl rand"), "{refused}");
        assert!(!refused.contains(SHORT));

        let jwt = builder.dangerous_verify_with_short_secret().build().unwrap();
        let refused = run(jwt.create_access_token("alice", NewAccess::new())).unwrap_err();
        assert!(matches!(refused, CreateError::NoKey), "{refused}");
        assert_eq!(run(jwt.decode_token(SHORT_SECRETS_TOKEN, None, false)).unwrap().identity(), "alice");
    }

    /// `{"sub": "alice", "exp": 4102444800}`, signed with `flask-pw1`.
    const SHORT_SECRETS_TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0.eY7-xN1SJeyS_ys5gY_AWGpeZ2wnzXdlepoePkSqSms";
}
