//! The handle that a program holds: [`Auth`].

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use countersign_core::flow::Accounts;
use countersign_core::flow::Background;
use countersign_core::flow::{EndError, Pair, Sessions};
use countersign_core::model::{Device, EndReason};
use countersign_jwt::{Claims, Timestamp};
use http::request::Parts;

use crate::answer::Answer;
use crate::engine::Engine;
use crate::error::AuthError;
use crate::locate::Location;
use crate::requirement::Requirement;
use crate::rules::{BodyTokens, Exchanged, LogOutError, Rules, ShownTokens, Vouched};
use crate::set_cookies::SetCookies;
use crate::users::{FoundUser, SignedInUser};

/// Authentication for one program: cheap to clone, made by [`Auth::builder`](crate::AuthBuilder).
///
/// The whole policy can be had without a framework: [`Auth::authenticate`] takes a request's parts.
#[derive(Clone, Debug)]
pub struct Auth {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) rules: Arc<dyn Rules>,
    pub(crate) _background: Option<Background>,
}

/// A credential that was accepted, by [`Auth::authenticate`] and nothing else: if it came in a cookie of an unsafe
/// request, its CSRF value came too.
#[derive(Clone)]
pub struct Authenticated {
    claims: Claims,
    location: Location,
    user: Option<FoundUser>,
    proof: Option<Arc<dyn Any + Send + Sync>>,
}

impl fmt::Debug for Authenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticated")
            .field("claims", &self.claims)
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

impl Authenticated {
    /// Its claims.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Its claims.
    #[must_use]
    pub fn into_claims(self) -> Claims {
        self.claims
    }

    /// Where it was found.
    #[must_use]
    pub fn location(&self) -> Location {
        self.location
    }

    /// The user that the rules have found themselves.
    #[must_use]
    pub fn user(&self) -> Option<&FoundUser> {
        self.user.as_ref()
    }

    /// What the rules know of it, of a type of theirs.
    #[must_use]
    pub fn proof<T: 'static>(&self) -> Option<&T> {
        self.proof.as_deref()?.downcast_ref()
    }

    /// Until when it is good. What outlives the request, such as a WebSocket, ends then at the latest;
    /// [`Auth::recheck`] tells whether it ended before.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.claims.expires_at().unwrap_or(Timestamp::MIN)
    }
}

impl Auth {
    /// What the rules stand over.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// The rules that hold.
    #[must_use]
    pub fn rules(&self) -> &dyn Rules {
        &*self.shared.rules
    }

    /// The sessions.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        self.engine().sessions()
    }

    /// The accounts.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        self.engine().accounts()
    }

    /// Lets a request through if it proves what is required: cross-site check, token, freshness, the application's own
    /// checks, CSRF, scope, in this order. For access tokens no store call, unless this node's view of the revocation
    /// log has grown too old.
    ///
    /// Needs nothing but a request's head, so it serves WebSocket upgrades and other frameworks as well. Tokens and
    /// CSRF values in a body are found if [`BufferedBody`](crate::BufferedBody) is among the head's extensions.
    ///
    /// # Errors
    /// [`AuthError`]; [`Auth::refuse`] turns it into an answer. [`AuthError::Missing`] also where an
    /// [optional](Requirement::optional) requirement lets a request pass as nobody.
    pub async fn authenticate(
        &self,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Authenticated, AuthError> {
        self.find(parts, requirement).await?.ok_or(AuthError::Missing)
    }

    /// As [`Auth::authenticate`], but a request that may pass as nobody is let through with `None`: if the requirement
    /// is [optional](Requirement::optional).
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn authenticate_optional(
        &self,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Option<Authenticated>, AuthError> {
        match self.find(parts, requirement).await? {
            None if !requirement.is_optional() => Err(AuthError::Missing),
            found => Ok(found),
        }
    }

    async fn find(
        &self,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Option<Authenticated>, AuthError> {
        self.engine().check_cross_site(parts, self.rules().cookies())?;
        let vouched = match self.rules().authenticate_at_once(self.engine(), parts, requirement) {
            Some(done) => done?,
            None => self.rules().authenticate(self.engine(), parts, requirement).await?,
        };
        Ok(vouched.map(authenticated))
    }

    /// Asks once more whether what was authenticated still holds: not expired, not revoked, accepted by the application.
    /// For connections that outlive their request.
    ///
    /// # Errors
    /// [`AuthError`] says why not.
    pub async fn recheck(&self, authenticated: &Authenticated) -> Result<(), AuthError> {
        self.rules().recheck(self.engine(), authenticated).await
    }

    /// Loads the user of verified claims, as the program has said for this type.
    ///
    /// # Errors
    /// [`AuthError::UserGone`] (401) if there is none, [`AuthError::LoadUser`] (503) if nobody can say,
    /// [`AuthError::NoUserLoader`] (500) if the program has not said how.
    pub async fn load_user<U: Send + 'static>(&self, claims: &Claims) -> Result<U, AuthError> {
        let user = self.engine().users().load(claims.subject()).await?;
        user.ok_or_else(|| self.rules().user_gone(claims.subject()))
    }

    /// Who is signed in, whatever loads the program's users; see [`Users::known`](crate::Users::known).
    ///
    /// # Errors
    /// [`AuthError::UserGone`] (401) if nobody knows the user, [`AuthError::LoadUser`] (503) if nobody can say.
    pub async fn signed_in_user(&self, caller: &Authenticated) -> Result<SignedInUser, AuthError> {
        let id = caller.claims().subject();
        let user = self.engine().users().known(id, caller.user()).await?;
        user.ok_or_else(|| self.rules().user_gone(id))
    }

    /// Exchanges the refresh token of a request; `in_body` is what the route found in the body. The cookies that the
    /// request carries must not come along from another site.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn refresh(
        &self,
        parts: &Parts,
        in_body: Option<&str>,
        device: Device,
    ) -> Result<Exchanged, AuthError> {
        self.engine().check_cross_site(parts, self.rules().cookies())?;
        self.rules().refresh(self.engine(), parts, in_body, device).await
    }

    /// Logs out: ends the session of every credential that the request shows, wherever it is. The cookies to send back,
    /// where the request carries some and may have them forgotten.
    ///
    /// The signature must hold, else anybody could log anybody out; nothing else matters. Who logs out twice, or with an
    /// expired token, wants to be logged out and is.
    ///
    /// # Errors
    /// [`LogOutError`]; after [`LogOutError::End`] the sessions may live on.
    pub async fn log_out(
        &self,
        parts: &Parts,
        in_body: BodyTokens<'_>,
    ) -> Result<Option<SetCookies>, LogOutError> {
        let cookies = self.rules().cookies();
        self.engine().check_cross_site(parts, cookies)?;
        let shown = self.rules().shown(self.engine(), parts, in_body).await?;
        let ShownTokens { tokens, refusal, cookies_proven } = shown;
        if tokens.is_empty() {
            return Err(refusal.unwrap_or(AuthError::Missing).into());
        }
        if !self.sessions().end_by_tokens(tokens, EndReason::LoggedOut).await? {
            return Err(LogOutError::Gone);
        }
        let forget = cookies_proven && cookies.are_carried(&parts.headers);
        Ok(forget.then(|| SetCookies::forgetting_carried(cookies, &parts.headers)))
    }

    /// Logs out: ends the session of verified claims, and makes the browser forget its cookies.
    ///
    /// # Errors
    /// [`EndError`] when the store cannot answer; the session may live on then.
    pub async fn sign_out(&self, claims: &Claims) -> Result<SetCookies, EndError> {
        self.sessions().end_by_tokens(vec![claims.clone()], EndReason::LoggedOut).await?;
        Ok(self.unset_cookies())
    }

    /// The cookies of a pair that was issued for cookies. Whether the request may be given cookies is for
    /// [`Auth::check_cookie_host`] to say.
    pub fn set_cookies(&self, pair: &Pair) -> SetCookies {
        SetCookies::new(self.rules().cookies().set(pair, self.engine().now()))
    }

    /// Makes a browser forget the access, refresh and CSRF cookies, as a logout does.
    pub fn unset_cookies(&self) -> SetCookies {
        SetCookies::new(Ok(self.rules().cookies().forget()))
    }

    /// Refuses to give out cookies that would travel unprotected, as [`Engine::check_cookie_host`] says.
    ///
    /// Whoever sets cookies by [`Auth::set_cookies`] asks this first; the ready-made routes and `SignIn` do.
    ///
    /// # Errors
    /// [`AuthError::InsecureCookies`].
    pub fn check_cookie_host(&self, parts: &Parts) -> Result<(), AuthError> {
        self.engine().check_cookie_host(parts, self.rules().cookies())
    }

    /// The answer to `GET /.well-known/jwks.json`: the public keys with which others verify our access tokens
    /// (RFC 7517 §5). Caches may keep it for five minutes.
    #[must_use]
    pub fn jwks(&self) -> Answer {
        Answer::jwk_set(self.rules().public_keys(self.engine()))
    }

    /// The answer to a request that was not let through: as the application [has it](crate::AuthBuilder::answer), else
    /// the default of the rules. The log learns the cause, the client a standard code. The requirement completes the
    /// challenge.
    pub async fn refuse(
        &self,
        parts: &Parts,
        requirement: Option<&Requirement>,
        error: &AuthError,
    ) -> Answer {
        self.rules().answer(self.engine(), parts, requirement, error).await
    }
}

/// Nobody else makes one.
fn authenticated(Vouched { claims, location, user, proof }: Vouched) -> Authenticated {
    Authenticated { claims, location, user, proof }
}
