//! Rules that present Countersign's accounts and sessions as tokens of a Flask library. These tokens name sessions,
//! which can be listed and ended. Tokens that the Flask application itself issues are accepted beside them.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use countersign_core::flow::{Check, Refresh};
use countersign_core::flow::{CheckError, RefreshError, Sessions, TokenFormat};
use countersign_core::model::{Device, Refusal, SessionPolicy};
use countersign_core::store::BoxError;
use countersign_http::reading::shown_in_log;
use countersign_http::{
    Answer, AuthError, Authenticated, BodyTokens, CheckedRules, CookieRules, Engine, ErrorCode, Exchanged,
    FoundUser, Head, Location, NewTokens, Requirement, Rules, ShownTokens, Vouched,
};
use countersign_jwt::{Claims, KeyRing, TokenType, UserId, VerifyError};
use http::request::Parts;
use http::{Extensions, HeaderMap, Method, Uri};
use serde_json::Value;

use crate::flask_jwt_extended::Lifetime;
use crate::hooks::{FlaskToken, Hook, hook};
use crate::tokens::FlaskClaims;

/// What each of the two libraries adds to the rules over sessions that both share.
#[async_trait]
pub(crate) trait Library: TokenFormat + Clone + fmt::Debug + Send + Sync + 'static {
    /// Why the library refuses a request.
    type Refusal: std::error::Error + Send + Sync;

    /// The library's name in settings.
    const NAME: &'static str;

    /// The lifetimes of access and refresh tokens.
    fn lifetimes(&self, policy: &SessionPolicy) -> [Lifetime; 2];

    /// The same rules over an engine, whose sessions tell whether a token was revoked.
    fn over(&self, engine: &Engine) -> Self;

    fn cookies(&self) -> &dyn CookieRules;

    fn wants_body(&self, method: &Method, headers: &HeaderMap, requirement: Option<&Requirement>) -> bool;

    fn is_in_query(&self, uri: &Uri) -> bool;

    /// Finds, verifies and judges the token of a request.
    async fn let_through(
        &self,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Option<FlaskToken>, Self::Refusal>;

    /// The refresh token that a request wants to exchange. Every check but that of its session has passed.
    async fn refresh_token(
        &self,
        parts: &Parts,
        in_body: Option<&str>,
    ) -> Result<Option<FlaskToken>, Self::Refusal>;

    /// Judges verified claims by the application's hooks alone. Returns the user that the application's hook has found.
    async fn ask_hooks(&self, claims: &FlaskClaims) -> Result<Option<FoundUser>, Self::Refusal>;

    /// Verifies a token that is not part of a request. The user, the session and revocation are not checked.
    async fn decode(&self, token: &str, even_expired: bool) -> Result<FlaskClaims, BoxError>;

    /// Whether a hook of the application failed, so that the refusal says nothing about the token.
    fn is_outage(refusal: &Self::Refusal) -> bool;

    /// Verifies a token of either type, expired or not.
    async fn decode_for_end(&self, token: &str) -> Result<FlaskClaims, Self::Refusal>;

    /// The tokens of a request in all places, of either type, expired or not.
    async fn shown(&self, parts: &Parts) -> Vec<Shown<Self::Refusal>>;

    /// The public keys that verify tokens.
    fn public_keys(&self) -> KeyRing;

    /// The answer to a refusal, in the form that the library's clients know. The cause is logged here.
    async fn answer(&self, refusal: &Self::Refusal, requirement: Option<&Requirement>) -> Answer;

    /// The answer to a refresh token whose session can no longer be refreshed.
    async fn session_ended(&self) -> Answer;

    /// The answer to a token whose identity is no user here.
    fn no_user(&self, identity: &Value) -> Answer;
}

/// A token that a request shows for logging out.
pub(crate) enum Shown<R> {
    /// The token is valid.
    Good(FlaskClaims),
    /// The token is not valid.
    Bad(R),
    /// The token is valid, but came in a cookie without its CSRF value.
    Unproven(R),
}

impl<R> From<Result<FlaskClaims, R>> for Shown<R> {
    fn from(verdict: Result<FlaskClaims, R>) -> Self {
        verdict.map_or_else(Self::Bad, Self::Good)
    }
}

/// The rules, checked, before there are sessions.
#[derive(Debug)]
pub(crate) struct Checked<L>(pub(crate) L);

/// The rules over sessions and accounts.
#[derive(Debug)]
struct OverSessions<L> {
    library: L,
}

/// The rules as those of the library `L`; `None` if they are another's.
pub(crate) fn library<L: Library>(rules: &dyn Rules) -> Option<&L> {
    let rules: &dyn Any = rules;
    rules.downcast_ref::<OverSessions<L>>().map(|over| &over.library)
}

/// Why a token is refused although the library itself would accept it.
#[derive(Debug, thiserror::Error)]
enum SessionRefusal {
    #[error("the refresh token's session can no longer be refreshed")]
    Ended(#[source] Refusal),
    #[error("nobody can tell at the moment whether the refresh token can be exchanged")]
    Unknown(#[source] RefreshError),
    #[error("the token's user is gone or disabled, or its claims name no user or session of this store")]
    NoUser(Value),
}

impl From<SessionRefusal> for AuthError {
    fn from(refusal: SessionRefusal) -> Self {
        Self::Rules(Box::new(refusal))
    }
}

fn refused<R: std::error::Error + Send + Sync + 'static>(refusal: R) -> AuthError {
    AuthError::Rules(Box::new(refusal))
}

impl<L: Library> CheckedRules for Checked<L> {
    fn name(&self) -> &'static str {
        L::NAME
    }

    fn token_format(&self) -> Option<Arc<dyn TokenFormat>> {
        Some(Arc::new(self.0.clone()))
    }

    /// The policy with the library's lifetimes of sessions and tokens. A session lives as long as its refresh token,
    /// which is never exchanged for another refresh token.
    fn policy(&self, policy: SessionPolicy) -> SessionPolicy {
        let [access_lifetime, refresh] = self
            .0
            .lifetimes(&policy)
            .map(|lifetime| lifetime.as_duration().unwrap_or(LONGEST).clamp(Duration::from_secs(1), LONGEST));
        let absolute = refresh.max(access_lifetime);
        let grace = policy.grace.min(access_lifetime / 2);
        SessionPolicy { access_lifetime, idle: absolute, absolute, grace, ..policy }
    }

    /// The application's hook knows the users.
    fn know_users(&self) -> bool {
        true
    }

    fn over(self: Box<Self>, engine: &Engine) -> Arc<dyn Rules> {
        Arc::new(OverSessions { library: self.0.over(engine) })
    }
}

/// The longest lifetime of a session, whatever lifetime the options give to tokens.
pub(crate) const LONGEST: Duration = Duration::from_secs(400 * 24 * 3600);

/// Logs, once at start, that sessions end although the options give tokens no end. Without this, an operator would
/// expect what Flask does with the same options.
pub(crate) fn tell_of_lifetime(name: &str, lifetime: Lifetime) {
    let days = LONGEST.as_secs() / (24 * 3600);
    let given = match lifetime {
        Lifetime::Never => "false".to_owned(),
        Lifetime::For(lifetime) if lifetime > LONGEST => format!("{} s", lifetime.as_secs()),
        Lifetime::For(_) => return,
    };
    tracing::warn!(
        "{name} is {given}, but sessions end after {days} days here: tokens that are issued here expire then, and tokens \
         that the Flask application issues are refused {days} days after their iat"
    );
}

/// The hook that asks a token's own session whether it has ended.
pub(crate) fn has_ended(sessions: &Sessions) -> Hook<FlaskClaims, bool> {
    let sessions = sessions.clone();
    hook(move |token| is_dead(sessions.clone(), token))
}

/// Whether the session of a token tells that the token is no longer valid.
async fn is_dead(sessions: Sessions, token: FlaskClaims) -> Result<bool, BoxError> {
    // An identity that cannot be one of our users is judged where the user is looked up.
    let Some(claims) = token.to_claims() else { return Ok(false) };
    match claims.token_type() {
        TokenType::Access => {
            match sessions.verification().recheck(&claims, Check::ACCESS.even_if_expired()).await {
                Ok(()) => Ok(false),
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

impl<L: Library> OverSessions<L> {
    /// Judges a token that the library has accepted by the application's checks of all tokens as well.
    async fn accepted(
        &self,
        engine: &Engine,
        token: FlaskToken,
        skip_revocation: bool,
    ) -> Result<Vouched, AuthError> {
        let claims = token.verified.to_claims().ok_or(SessionRefusal::NoUser(token.identity))?;
        // An access token that the library accepts has arrived at its client.
        if claims.token_type() == TokenType::Access && !skip_revocation {
            engine.sessions().verification().note_use(&claims);
        }
        engine.ask_application(&claims, skip_revocation).await?;
        Ok(Vouched {
            claims,
            location: token.location,
            user: token.user,
            proof: Some(Arc::new(token.verified)),
        })
    }
}

#[async_trait]
impl<L: Library> Rules for OverSessions<L> {
    fn name(&self) -> &'static str {
        L::NAME
    }

    fn cookies(&self) -> &dyn CookieRules {
        self.library.cookies()
    }

    fn wants_body(&self, _: &Engine, head: Head<'_>, requirement: Option<&Requirement>) -> bool {
        self.library.wants_body(head.method, head.headers, requirement)
    }

    /// True, because a route of the application may look in the query string, whatever the options say.
    fn looks_in_query(&self) -> bool {
        true
    }

    /// Leaves the token in the URI, where the Flask application would find it too.
    fn take_from_query(&self, uri: &mut Uri, _: &mut Extensions) -> bool {
        self.library.is_in_query(uri)
    }

    /// False, because whatever looks like a token in the query string was found before, whatever the requirement.
    fn is_in_query(&self, _: &Parts, _: &Requirement) -> bool {
        false
    }

    async fn authenticate(
        &self,
        engine: &Engine,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Option<Vouched>, AuthError> {
        match self.library.let_through(parts, requirement).await.map_err(refused)? {
            Some(token) => self.accepted(engine, token, requirement.skips_revocation()).await.map(Some),
            None => Ok(None),
        }
    }

    async fn recheck(&self, engine: &Engine, authenticated: &Authenticated) -> Result<(), AuthError> {
        let claims = authenticated.claims();
        match claims.token_type() {
            TokenType::Access => engine.sessions().verification().recheck(claims, Check::ACCESS).await?,
            TokenType::Refresh if engine.now() >= authenticated.expires_at() => {
                return Err(CheckError::from(VerifyError::Expired).into());
            }
            TokenType::Refresh => Refresh::of(engine.sessions()).check_renewal(claims).await?,
        }
        if let Some(verified) = authenticated.proof() {
            self.library.ask_hooks(verified).await.map_err(refused)?;
        }
        engine.ask_application(claims, false).await
    }

    /// Issues an access token; the refresh token stays valid.
    async fn refresh(
        &self,
        engine: &Engine,
        parts: &Parts,
        in_body: Option<&str>,
        device: Device,
    ) -> Result<Exchanged, AuthError> {
        let in_body = in_body.filter(|token| !token.is_empty());
        let token = self.library.refresh_token(parts, in_body).await.map_err(refused)?;
        let token = token.ok_or(AuthError::Missing)?;
        if token.location == Location::Cookie {
            engine.check_cookie_host(parts, self.cookies())?;
        }
        let caller = self.accepted(engine, token, false).await?;
        let id = caller.claims.subject();
        // The user is looked up first, because a token of a user who does not exist must not get a session.
        if engine.users().known(id, caller.user.as_ref()).await?.is_none() {
            return Err(self.user_gone(id));
        }
        match Refresh::of(engine.sessions()).renew(&caller.claims, true, device).await {
            Ok(renewed) => Ok(Exchanged { tokens: NewTokens::Access(renewed), location: caller.location }),
            Err(RefreshError::Refused(refusal)) => Err(SessionRefusal::Ended(refusal).into()),
            Err(error) => Err(SessionRefusal::Unknown(error).into()),
        }
    }

    async fn shown(
        &self,
        engine: &Engine,
        parts: &Parts,
        in_body: BodyTokens<'_>,
    ) -> Result<ShownTokens, AuthError> {
        let in_body = [in_body.refresh, in_body.access].into_iter().flatten();
        let mut all = Vec::new();
        for token in in_body.filter(|token| !token.is_empty()) {
            all.push(Shown::from(self.library.decode_for_end(token).await));
        }
        all.extend(self.library.shown(parts).await);
        let mut shown = ShownTokens::default();
        for one in all {
            match one {
                Shown::Good(verified) => shown.tokens.extend(verified.to_claims()),
                Shown::Bad(refusal) => {
                    shown.refusal.get_or_insert_with(|| refused(refusal));
                }
                Shown::Unproven(refusal) => {
                    shown.cookies_proven = false;
                    shown.refusal.get_or_insert_with(|| refused(refusal));
                }
            }
        }
        // The library has its own text for a request without a token.
        if shown.tokens.is_empty() && shown.refusal.is_none() {
            shown.refusal = self.authenticate(engine, parts, &Requirement::ANY).await.err();
        }
        Ok(shown)
    }

    async fn verify_for_end(&self, _: &Engine, token: &str) -> Result<Option<Claims>, AuthError> {
        match self.library.decode_for_end(token).await {
            Ok(verified) => Ok(verified.to_claims()),
            Err(refusal) if L::is_outage(&refusal) => Err(refused(refusal)),
            Err(_) => Ok(None),
        }
    }

    /// The token itself tells its type.
    async fn judge(&self, engine: &Engine, token: &str, _: TokenType) -> Result<Claims, AuthError> {
        const FOREIGN: &str =
            "its identity can be no user's id here, or it does not name its session as this library does";
        let judged = |refusal: L::Refusal| {
            if L::is_outage(&refusal) { AuthError::AskApplication(refusal.into()) } else { refused(refusal) }
        };
        let verified = self.library.decode(token, false).await;
        let verified = verified.map_err(|error| match error.downcast() {
            Ok(refusal) => judged(*refusal),
            Err(error) => AuthError::Rules(error),
        })?;
        let claims = verified.to_claims().ok_or_else(|| AuthError::Rules(FOREIGN.into()))?;
        let found = self.library.ask_hooks(&verified).await.map_err(judged)?;
        engine.ask_application(&claims, false).await?;
        match claims.token_type() {
            TokenType::Access => {
                engine.sessions().verification().recheck(&claims, Check::ACCESS.even_if_expired()).await?
            }
            TokenType::Refresh => {
                if engine.users().known(claims.subject(), found.as_ref()).await?.is_none() {
                    return Err(RefreshError::Refused(Refusal::User).into());
                }
                Refresh::of(engine.sessions()).check_renewal(&claims).await?;
            }
        }
        Ok(claims)
    }

    async fn signature(&self, _: &Engine, token: &str, _: TokenType) -> Result<String, BoxError> {
        let claims = self.library.decode(token, true).await?;
        Ok(claims.header().get("alg").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    fn public_keys(&self, _: &Engine) -> String {
        self.library.public_keys().to_jwk_set()
    }

    fn user_gone(&self, user: &UserId) -> AuthError {
        SessionRefusal::NoUser(user.as_str().into()).into()
    }

    async fn answer(
        &self,
        engine: &Engine,
        parts: &Parts,
        requirement: Option<&Requirement>,
        error: &AuthError,
    ) -> Answer {
        let AuthError::Rules(reason) = error else {
            return engine.answer(parts, requirement, error, Answer::from(error)).await;
        };
        if let Some(refusal) = reason.downcast_ref() {
            return self.library.answer(refusal, requirement).await;
        }
        match reason.downcast_ref() {
            Some(SessionRefusal::Ended(refusal)) => {
                tracing::info!(
                    error = refusal as &dyn std::error::Error,
                    "a request was not let through: its refresh token is not exchanged"
                );
                self.library.session_ended().await
            }
            Some(SessionRefusal::NoUser(identity)) => {
                tracing::info!(
                    identity = shown_in_log(identity.as_str().unwrap_or("no text")),
                    "a request was not let through: the token's user is gone or disabled, or its claims name no user or \
                     session of this store"
                );
                self.library.no_user(identity)
            }
            Some(SessionRefusal::Unknown(error)) => {
                tracing::error!(
                    error = error as &dyn std::error::Error,
                    "a refresh token could not be exchanged"
                );
                Answer::error(ErrorCode::Unavailable)
            }
            None => engine.answer(parts, requirement, error, Answer::from(error)).await,
        }
    }
}
