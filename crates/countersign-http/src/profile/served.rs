//! A profile in which this library's own accounts and sessions are presented: its tokens name sessions, which can be
//! listed and ended, and the tokens that the Flask application issues are good beside them.

use std::sync::Arc;
use std::time::Duration;

use countersign_core::flow::{
    Accounts, Arrival, BeginError, Check, CheckError, HashError, LoginError, LoginName, Pair, Presentation,
    Refresh, RefreshError, Renewed, Sessions, TokenFormat,
};
use countersign_core::model::{Password, SessionPolicy, without_blanks};
use countersign_core::profile::{ProfileClaims, ProfileError};
use countersign_core::store::BoxError;
use countersign_jwt::{Claims, Clock, KeyRing, NewClaims, Random, TokenType, UserId};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Uri};
use serde_json::Value;

use super::flask_jwt::{FlaskJwt, FlaskJwtBuilder, Identity, Login, OverSessions};
use super::flask_jwt_extended::{
    BuildProfileError, CookieArguments, FlaskJwtExtended, FlaskJwtExtendedBuilder, Lifetime, hook,
};
use super::{AnswerInstead, HookedUser, Profile, ProfileToken};
use crate::answer::{Answer, ErrorCode};
use crate::cookie_config::CookieKind;
use crate::csrf::{CsrfError, csrf_matches};
use crate::locate::Location;
use crate::log::shown_in_log;
use crate::origin::CrossSiteCheck;

/// A profile for [`AuthBuilder::profile`](crate::AuthBuilder::profile): which library's rules, with its options.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ServedProfile {
    /// Flask-JWT-Extended's.
    FlaskJwtExtended(Box<FlaskJwtExtendedBuilder>),
    /// Flask-JWT's.
    FlaskJwt(Box<FlaskJwtBuilder>),
}

impl From<FlaskJwtExtendedBuilder> for ServedProfile {
    fn from(builder: FlaskJwtExtendedBuilder) -> Self {
        Self::FlaskJwtExtended(Box::new(builder))
    }
}

impl From<FlaskJwtBuilder> for ServedProfile {
    fn from(builder: FlaskJwtBuilder) -> Self {
        Self::FlaskJwt(Box::new(builder))
    }
}

/// The rules, checked, before there are sessions.
#[derive(Debug)]
pub(crate) struct Prepared(Engine);

#[derive(Clone, Debug)]
enum Engine {
    FlaskJwtExtended(FlaskJwtExtended),
    FlaskJwt(FlaskJwt),
}

/// The rules over sessions and accounts.
#[derive(Clone, Debug)]
pub(crate) struct Served(Engine);

/// What a refresh by a profile's rules yields: an access token, and the refresh token stays good.
#[derive(Debug)]
pub struct Renewal {
    /// The access token.
    pub renewed: Renewed,
    /// Where the refresh token was.
    pub location: Location,
}

/// The tokens that a request shows for logging out.
#[derive(Debug, Default)]
pub struct ShownTokens {
    /// Those that hold.
    pub tokens: Vec<Claims>,
    /// The answer to the first that does not.
    pub refusal: Option<Answer>,
    /// No good cookie came without its CSRF value, so the cookies may be cleared.
    pub cookies_proven: bool,
}

impl ServedProfile {
    pub(crate) fn prepare(
        self,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Prepared, BuildProfileError> {
        let prepared = Prepared(match self {
            Self::FlaskJwtExtended(builder) => {
                Engine::FlaskJwtExtended(builder.clock(clock).random(random).finish()?)
            }
            Self::FlaskJwt(builder) => Engine::FlaskJwt(builder.clock(clock).finish()?),
        });
        prepared.tell_of_lifetimes();
        Ok(prepared)
    }
}

impl Prepared {
    /// Makes a token and takes it, before anybody gets one: keys that are no pair, an issuer or audience that is asked
    /// for but not given, or no key to sign with, would show at the first login else.
    pub(crate) async fn try_out(&self, clock: &dyn Clock) -> Result<(), BuildProfileError> {
        let Engine::FlaskJwtExtended(jwt) = &self.0 else { return Ok(()) };
        if let Some(error) = jwt.signs_nothing() {
            return Err(error);
        }
        let no_tokens = |reason: String| BuildProfileError::NoTokens { reason };
        let (Ok(user), Ok(id)) = (UserId::new("somebody"), "00000000-0000-4000-8000-000000000000".parse())
        else {
            return Ok(());
        };
        let now = clock.now();
        let claims = NewClaims::new(TokenType::Access, user, id, now, now + Duration::from_secs(60));
        let token = jwt.issue(&claims).map_err(|error| no_tokens(error.to_string()))?;
        match jwt.decode_token(&token, None, false).await {
            Ok(_) => Ok(()),
            Err(refused) => Err(no_tokens(format!(
                "what is made with them, they refuse: {refused}; look at JWT_ENCODE_… and JWT_DECODE_…, and whether the \
                 keys are a pair"
            ))),
        }
    }

    /// What the profile is called in settings.
    pub(crate) const fn name(&self) -> &'static str {
        match &self.0 {
            Engine::FlaskJwtExtended(_) => "flask-jwt-extended",
            Engine::FlaskJwt(_) => "flask-jwt",
        }
    }

    /// Sessions end, whatever the options say of tokens. Said once, here, because who runs the server would else go by
    /// what Flask does with the same options.
    fn tell_of_lifetimes(&self) {
        let days = LONGEST.as_secs() / (24 * 3600);
        let tell = |name: &str, lifetime: Lifetime| {
            let given = match lifetime {
                Lifetime::Never => "false".to_owned(),
                Lifetime::For(lifetime) if lifetime > LONGEST => format!("{} s", lifetime.as_secs()),
                Lifetime::For(_) => return,
            };
            tracing::warn!(
                "{name} is {given}, but sessions end after {days} days here: tokens that are issued here expire then, \
                 and tokens that the Flask application issues are refused {days} days after their iat"
            );
        };
        match &self.0 {
            Engine::FlaskJwtExtended(jwt) => {
                for (name, lifetime) in jwt.config().lifetimes() {
                    tell(name, lifetime);
                }
            }
            Engine::FlaskJwt(jwt) => {
                let config = jwt.config();
                tell("JWT_EXPIRATION_DELTA", Lifetime::For(config.expiration_delta));
                if !config.requires_expiry() {
                    let longest = config.expiration_delta.min(LONGEST).as_secs();
                    tracing::warn!(
                        "JWT_REQUIRED_CLAIMS does not name exp: tokens without it are refused {longest} s after their \
                         iat (JWT_EXPIRATION_DELTA)"
                    );
                }
            }
        }
    }

    pub(crate) fn format(&self) -> Arc<dyn TokenFormat> {
        match &self.0 {
            Engine::FlaskJwtExtended(jwt) => Arc::new(jwt.clone()),
            Engine::FlaskJwt(jwt) => Arc::new(jwt.clone()),
        }
    }

    /// The lifetimes of sessions and tokens are the profile's. A session lives as long as its refresh token, which is
    /// never exchanged for another.
    pub(crate) fn policy(&self, policy: SessionPolicy) -> SessionPolicy {
        let (access, refresh) = match &self.0 {
            Engine::FlaskJwtExtended(jwt) => {
                let config = jwt.config();
                (config.access_token_expires, config.refresh_token_expires)
            }
            Engine::FlaskJwt(jwt) => {
                (Lifetime::For(jwt.config().expiration_delta), Lifetime::For(policy.absolute))
            }
        };
        let lifetime = |lifetime: Lifetime| {
            lifetime.as_duration().unwrap_or(LONGEST).clamp(Duration::from_secs(1), LONGEST)
        };
        let access_lifetime = lifetime(access);
        let absolute = lifetime(refresh).max(access_lifetime);
        let grace = policy.grace.min(access_lifetime / 2);
        SessionPolicy { access_lifetime, idle: absolute, absolute, grace, ..policy }
    }

    pub(crate) fn serve(self, accounts: &Accounts, origins: &CrossSiteCheck) -> Served {
        let (sessions, accounts) = (accounts.sessions().clone(), accounts.clone());
        let is_revoked = hook(move |token| is_revoked(sessions.clone(), token));
        Served(match self.0 {
            Engine::FlaskJwtExtended(jwt) => {
                Engine::FlaskJwtExtended(jwt.over_sessions(is_revoked, origins.clone()))
            }
            Engine::FlaskJwt(jwt) => Engine::FlaskJwt(jwt.over_sessions(OverSessions {
                is_revoked,
                authenticate: hook(move |login| log_in(accounts.clone(), login)),
                auth_response: hook(|(_, identity)| async move { token_answer(&identity) }),
            })),
        })
    }
}

/// No session lives longer, whatever the options say of tokens.
const LONGEST: Duration = Duration::from_secs(400 * 24 * 3600);

/// Whether a session of ours says that a token is dead.
async fn is_revoked(sessions: Sessions, token: ProfileClaims) -> Result<bool, BoxError> {
    // Whose identity is none of our users' is judged where the user is looked at.
    let Some(claims) = token.to_claims() else { return Ok(false) };
    match claims.token_type() {
        TokenType::Access => {
            match sessions.verification().recheck(&claims, Check::ACCESS.even_if_expired()).await {
                Ok(()) => {
                    sessions.verification().note_use(&claims);
                    Ok(false)
                }
                Err(error @ (CheckError::Revoked(_) | CheckError::Invalid(_))) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "an access token counts as revoked"
                    );
                    Ok(true)
                }
                Err(error) => Err(error.into()),
            }
        }
        TokenType::Refresh => match Refresh::of(&sessions).check_renewal(&claims).await {
            Ok(()) => Ok(false),
            Err(RefreshError::Refused(_) | RefreshError::Invalid(_) | RefreshError::Replayed) => Ok(true),
            Err(error) => Err(error.into()),
        },
    }
}

/// A login at Flask-JWT's endpoint, with the passwords and the throttle of our accounts.
async fn log_in(accounts: Accounts, login: Login) -> Result<Option<Identity>, BoxError> {
    /// No name of an account is longer.
    const MAX_NAME_BYTES: usize = 256;
    let (Value::String(name), Value::String(password)) = (login.username, login.password) else {
        return Ok(None);
    };
    let name = without_blanks(&name);
    if name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Ok(None);
    }
    let Ok(password) = Password::new_for_login(password) else { return Ok(None) };
    let arrival = Arrival::new(Presentation::Explicit, login.device);
    match accounts.login(LoginName::parse(name), password, arrival).await {
        Ok(signed_in) => Ok(Some(Identity::new(signed_in.user.id.as_str(), signed_in.pair))),
        Err(LoginError::InvalidCredentials) => Ok(None),
        Err(LoginError::Hash(HashError::Overloaded)) => {
            Err(AnswerInstead(Answer::error(ErrorCode::Overloaded)).into())
        }
        Err(LoginError::Begin(BeginError::TooManySessions)) => {
            Err(AnswerInstead(Answer::error(ErrorCode::TooManySessions)).into())
        }
        Err(LoginError::TooManyAttempts { retry_after }) => {
            let answer = Answer::error(ErrorCode::TooManyAttempts).retry_after(retry_after);
            Err(AnswerInstead(answer).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// The access token of the session that began.
fn token_answer(identity: &Identity) -> Result<Answer, BoxError> {
    let pair = identity.user::<Pair>().ok_or("a login without a session")?;
    let body = serde_json::json!({"access_token": pair.access_token});
    let mut answer = Answer::json(http::StatusCode::OK, &body)?;
    crate::answer::no_store(answer.headers_mut());
    Ok(answer)
}

impl Served {
    pub(crate) fn profile(&self) -> &dyn Profile {
        match &self.0 {
            Engine::FlaskJwtExtended(jwt) => jwt,
            Engine::FlaskJwt(jwt) => jwt,
        }
    }

    /// The claims of a token that was accepted, as ours.
    ///
    /// # Errors
    /// The answer for a token of somebody who is none of our users.
    pub(crate) fn claims(&self, token: &ProfileToken) -> Result<Claims, Answer> {
        token.verified.to_claims().ok_or_else(|| self.no_user(&token.identity))
    }

    pub(crate) fn no_user(&self, identity: &Value) -> Answer {
        tracing::info!(
            identity = shown_in_log(identity.as_str().unwrap_or("no text")),
            "a request was not let through: the token's user is gone or disabled, or its claims name no user or \
             session of this store"
        );
        match &self.0 {
            Engine::FlaskJwtExtended(jwt) => jwt.no_user(identity),
            Engine::FlaskJwt(jwt) => jwt.no_user(),
        }
    }

    /// The refresh token of the body, or of the request, judged by everything but its session.
    pub(crate) async fn refresh_token(
        &self,
        parts: &Parts,
        in_body: Option<&str>,
    ) -> Result<ProfileToken, Answer> {
        let found = match &self.0 {
            Engine::FlaskJwtExtended(jwt) => jwt.refresh_token(parts, in_body).await?,
            Engine::FlaskJwt(jwt) => jwt.refresh_token(parts, in_body).await?,
        };
        found.ok_or_else(|| Answer::error(ErrorCode::MissingToken))
    }

    /// Judges verified claims by the application's hooks alone. The user is the one that its hook has found.
    pub(crate) async fn ask_hooks(&self, claims: &ProfileClaims) -> Result<Option<HookedUser>, Answer> {
        match &self.0 {
            Engine::FlaskJwtExtended(jwt) => match jwt.ask_hooks(claims).await {
                Ok(user) => Ok(user),
                Err(refused) => Err(jwt.answer(refused).await),
            },
            Engine::FlaskJwt(jwt) => jwt.ask_hooks(claims).await,
        }
    }

    /// The answer to a refresh token whose session no longer refreshes.
    pub(crate) async fn refused_refresh(&self, error: RefreshError) -> Answer {
        match error {
            RefreshError::Refused(refusal) => {
                tracing::info!(
                    error = &refusal as &dyn std::error::Error,
                    "a request was not let through: its refresh token is not exchanged"
                );
                match &self.0 {
                    Engine::FlaskJwtExtended(jwt) => jwt.revoked(),
                    Engine::FlaskJwt(jwt) => jwt.revoked().await,
                }
            }
            error => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a refresh token could not be exchanged"
                );
                Answer::error(ErrorCode::Unavailable)
            }
        }
    }

    /// Verifies a token that is no part of a request: everything but the user, the session and revocation.
    pub(crate) async fn decode(&self, token: &str) -> Result<ProfileClaims, BoxError> {
        Ok(match &self.0 {
            Engine::FlaskJwtExtended(jwt) => jwt.decode_token(token, None, false).await?,
            Engine::FlaskJwt(jwt) => jwt.decode_token(token)?,
        })
    }

    /// The name of the algorithm whose signature holds, of an expired token as well.
    pub(crate) async fn proves(&self, token: &str) -> Result<String, BoxError> {
        let claims = match &self.0 {
            Engine::FlaskJwtExtended(jwt) => jwt.decode_token(token, None, true).await?,
            Engine::FlaskJwt(jwt) => match jwt.decode_token(token) {
                Err(ProfileError::Expired(claims)) => *claims,
                verdict => verdict?,
            },
        };
        Ok(claims.header().get("alg").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// Verifies a token of either kind, whatever its times.
    pub(crate) async fn verify_for_end(&self, token: &str) -> Option<Claims> {
        self.decode_for_end(token).await.ok()?.to_claims()
    }

    async fn decode_for_end(&self, token: &str) -> Result<ProfileClaims, Answer> {
        match &self.0 {
            Engine::FlaskJwtExtended(jwt) => jwt.decode_for_end(token).await,
            Engine::FlaskJwt(jwt) => jwt.decode_for_end(token).await,
        }
    }

    /// Every token that a request shows, of either kind, expired or not.
    pub(crate) async fn shown(&self, parts: &Parts, in_body: [Option<&str>; 2]) -> ShownTokens {
        let mut shown = ShownTokens { cookies_proven: true, ..ShownTokens::default() };
        for token in in_body.into_iter().flatten() {
            shown.add(self.decode_for_end(token).await.into());
        }
        match &self.0 {
            Engine::FlaskJwtExtended(jwt) => {
                for verdict in jwt.shown(parts).await {
                    shown.add(verdict);
                }
            }
            Engine::FlaskJwt(jwt) => {
                if let Some(verdict) = jwt.shown(parts).await {
                    shown.add(verdict.into());
                }
            }
        }
        shown
    }

    /// The public keys that verify the tokens, as a JWK set; none for a shared secret.
    pub(crate) fn public_keys(&self) -> String {
        match &self.0 {
            Engine::FlaskJwtExtended(jwt) => jwt.public_keys().to_jwk_set(),
            Engine::FlaskJwt(_) => KeyRing::new().to_jwk_set(),
        }
    }

    /// Whether tokens are taken from cookies.
    pub(crate) fn takes_cookies(&self) -> bool {
        match &self.0 {
            Engine::FlaskJwtExtended(jwt) => jwt.config().token_location.contains(&Location::Cookie),
            Engine::FlaskJwt(_) => false,
        }
    }

    /// Whether its cookies travel over https alone.
    pub(crate) fn has_secure_cookies(&self) -> bool {
        match &self.0 {
            Engine::FlaskJwtExtended(jwt) => jwt.config().cookie_secure,
            Engine::FlaskJwt(_) => false,
        }
    }

    /// Whether the query string holds what may be a token.
    pub(crate) fn is_in_query(&self, uri: &Uri) -> bool {
        self.profile().is_in_query(uri)
    }

    /// Whether cookies need a CSRF value at all.
    pub(crate) fn checks_csrf(&self) -> bool {
        match &self.0 {
            Engine::FlaskJwtExtended(jwt) => jwt.config().cookie_csrf_protect,
            Engine::FlaskJwt(_) => true,
        }
    }

    /// Whether a cookie in a request with this method needs its CSRF value.
    pub(crate) fn needs_csrf(&self, method: &Method) -> bool {
        match &self.0 {
            Engine::FlaskJwtExtended(jwt) => jwt.needs_csrf(method),
            Engine::FlaskJwt(_) => false,
        }
    }

    /// Checks the CSRF value for one of the cookies.
    pub(crate) fn check_csrf(
        &self,
        parts: &Parts,
        kind: CookieKind,
        claims: &Claims,
    ) -> Result<(), CsrfError> {
        let Engine::FlaskJwtExtended(jwt) = &self.0 else { return Ok(()) };
        let config = jwt.config();
        let names = if kind == CookieKind::Refresh { &config.refresh } else { &config.access };
        let presented = config.csrf_value(parts, names).ok_or(CsrfError::Missing)?;
        match csrf_matches(&presented, claims.csrf().unwrap_or_default()) {
            true => Ok(()),
            false => Err(CsrfError::Mismatch),
        }
    }

    /// The name of a cookie that tokens are taken from.
    pub(crate) fn cookie_name(&self, kind: CookieKind) -> Option<&str> {
        match &self.0 {
            _ if !self.takes_cookies() => None,
            Engine::FlaskJwtExtended(jwt) => Some(match kind {
                CookieKind::Access => &jwt.config().access.name,
                CookieKind::Refresh => &jwt.config().refresh.name,
                CookieKind::Csrf => &jwt.config().access.csrf_name,
            }),
            Engine::FlaskJwt(_) => None,
        }
    }

    /// The cookies of a login; of a refresh without the refresh token's. `None` where a token is too long for one.
    pub(crate) fn set_cookies(
        &self,
        access_token: &str,
        refresh_token: Option<&str>,
        csrf: Option<&str>,
    ) -> Option<Vec<HeaderValue>> {
        let Engine::FlaskJwtExtended(jwt) = &self.0 else { return Some(Vec::new()) };
        let arguments = CookieArguments::default();
        let mut fields = jwt.cookies_of(access_token, csrf, &jwt.config().access, &arguments)?;
        if let Some(token) = refresh_token {
            fields.extend(jwt.cookies_of(token, csrf, &jwt.config().refresh, &arguments)?);
        }
        Some(fields)
    }

    /// The fields that make a browser forget both copies of a cookie that came twice.
    pub(crate) fn expire_repeated(&self) -> Vec<HeaderValue> {
        match &self.0 {
            Engine::FlaskJwtExtended(jwt) => jwt.expire_repeated(),
            Engine::FlaskJwt(_) => Vec::new(),
        }
    }

    pub(crate) fn unset_cookies(&self) -> Vec<HeaderValue> {
        match &self.0 {
            Engine::FlaskJwtExtended(jwt) => jwt.unset_jwt_cookies(None),
            Engine::FlaskJwt(_) => Vec::new(),
        }
    }

    pub(crate) fn wants_body(&self, method: &Method, headers: &HeaderMap) -> bool {
        self.profile().wants_body(method, headers, None)
    }

    /// Flask-JWT, where that is the profile: its login endpoint is to be served.
    pub(crate) fn flask_jwt(&self) -> Option<&FlaskJwt> {
        match &self.0 {
            Engine::FlaskJwtExtended(_) => None,
            Engine::FlaskJwt(jwt) => Some(jwt),
        }
    }
}

impl ShownTokens {
    fn add(&mut self, shown: Shown) {
        match shown {
            Shown::Good(verified) => self.tokens.extend(verified.to_claims()),
            Shown::Bad(answer) => {
                self.refusal.get_or_insert(answer);
            }
            Shown::Unproven(answer) => {
                self.cookies_proven = false;
                self.refusal.get_or_insert(answer);
            }
        }
    }
}

/// A token that a request shows for logging out.
pub(crate) enum Shown {
    /// It holds.
    Good(ProfileClaims),
    /// It does not.
    Bad(Answer),
    /// It is a cookie that holds, but came without its CSRF value.
    Unproven(Answer),
}

impl From<Result<ProfileClaims, Answer>> for Shown {
    fn from(verdict: Result<ProfileClaims, Answer>) -> Self {
        verdict.map_or_else(Self::Bad, Self::Good)
    }
}
