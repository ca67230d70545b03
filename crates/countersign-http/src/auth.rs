//! The handle that a program holds for authentication: [`Auth`].

mod in_place;

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

pub use in_place::{CookieChange, InPlace};

/// Authentication for one program: cheap to clone, made by [`Auth::builder`](crate::AuthBuilder).
///
/// The whole policy is available without a web framework: [`Auth::authenticate`] takes a request's parts.
///
/// ```
/// use countersign_http::{Auth, AuthError, Requirement};
/// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
/// # use countersign_jwt::{Epoch, UserId};
/// # use countersign_testkit::TestBed;
/// # use http::Request;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
/// let auth = Auth::builder(stores, secrets).build().await?;
/// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
/// # let pair = auth.sessions().begin(user, epoch, Presentation::Explicit, Device::default()).await?;
///
/// let bearer = format!("Bearer {}", pair.access_token);
/// let (parts, ()) = Request::get("/").header("authorization", bearer).body(())?.into_parts();
/// let ada = auth.authenticate(&parts, &Requirement::ACCESS).await?;
/// assert_eq!(ada.claims().subject().as_str(), "ada");
///
/// let (stranger, ()) = Request::get("/").body(())?.into_parts();
/// let refused = auth.authenticate(&stranger, &Requirement::ACCESS).await;
/// assert!(matches!(refused, Err(AuthError::Missing)));
/// # Ok(())
/// # }
/// ```
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

/// A credential that was accepted. Only [`Auth::authenticate`] and [`Auth::authenticate_optional`] make one. If the
/// credential came in a cookie of an unsafe request, the CSRF check has passed as well.
///
/// ```
/// use countersign_http::{Location, Requirement};
/// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
/// # use countersign_jwt::{Epoch, UserId};
/// # use countersign_testkit::TestBed;
/// # use http::Request;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let auth = countersign_http::Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
/// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
/// # let pair = auth.sessions().begin(user, epoch, Presentation::Explicit, Device::default()).await?;
/// let bearer = format!("Bearer {}", pair.access_token);
/// let (parts, ()) = Request::get("/").header("authorization", bearer).body(())?.into_parts();
/// let authenticated = auth.authenticate(&parts, &Requirement::ACCESS).await?;
/// assert_eq!(authenticated.location(), Location::Header);
/// assert_eq!(authenticated.expires_at().as_secs(), pair.access_expires_at.as_secs());
/// # Ok(())
/// # }
/// ```
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
    /// The verified claims of the credential.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The verified claims, by value.
    #[must_use]
    pub fn into_claims(self) -> Claims {
        self.claims
    }

    /// The place in the request where the credential was found.
    #[must_use]
    pub fn location(&self) -> Location {
        self.location
    }

    /// The user that the rules have already loaded, if they do that themselves.
    #[must_use]
    pub fn user(&self) -> Option<&FoundUser> {
        self.user.as_ref()
    }

    /// The proof that the rules have stored with the credential, if it is of type `T`.
    #[must_use]
    pub fn proof<T: 'static>(&self) -> Option<&T> {
        self.proof.as_deref()?.downcast_ref()
    }

    /// The time at which the credential expires. A connection that outlives the request, such as a WebSocket, must end
    /// by then; [`Auth::recheck`] tells whether the credential was revoked earlier.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.claims.expires_at().unwrap_or(Timestamp::MIN)
    }
}

impl Auth {
    /// The engine that the rules work with.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// The rules in force.
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

    /// Lets a request through if it proves what `requirement` demands. The checks run in this order: cross-site check,
    /// token, freshness, the application's own checks, CSRF, scope. An access token costs no store call, unless this
    /// node's view of the revocation log has grown too old.
    ///
    /// Only the head of the request is needed, so this serves WebSocket upgrades and other frameworks as well. Tokens
    /// and CSRF values in a body are found if [`BufferedBody`](crate::BufferedBody) is among the head's extensions.
    ///
    /// # Errors
    /// [`AuthError`]; [`Auth::refuse`] turns it into an answer. [`AuthError::Missing`] is returned also where an
    /// [optional](Requirement::optional) requirement would let the request pass as nobody.
    pub async fn authenticate(
        &self,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Authenticated, AuthError> {
        self.find(parts, requirement).await?.ok_or(AuthError::Missing)
    }

    /// Lets a request through if it proves what `requirement` demands; `None` if the requirement is
    /// [optional](Requirement::optional) and lets the request pass as nobody. The checks are those of
    /// [`Auth::authenticate`].
    ///
    /// ```
    /// use countersign_http::{Optional, Requirement};
    /// # use countersign_core::store::MemoryStore;
    /// # use countersign_testkit::TestBed;
    /// # use http::Request;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let auth = countersign_http::Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
    /// let front_page = Requirement::ACCESS.optional(Optional::IfAbsent);
    /// let (stranger, ()) = Request::get("/").body(())?.into_parts();
    /// assert!(auth.authenticate_optional(&stranger, &front_page).await?.is_none());
    /// # Ok(())
    /// # }
    /// ```
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

    /// Checks again that an accepted credential still holds: not expired, not revoked, still accepted by the
    /// application. For connections that outlive their request, such as WebSockets.
    ///
    /// ```
    /// # use countersign_http::Requirement;
    /// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
    /// # use countersign_jwt::{Epoch, UserId};
    /// # use countersign_testkit::TestBed;
    /// # use http::Request;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let auth = countersign_http::Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
    /// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
    /// # let pair = auth.sessions().begin(user, epoch, Presentation::Explicit, Device::default()).await?;
    /// let bearer = format!("Bearer {}", pair.access_token);
    /// let (parts, ()) = Request::get("/").header("authorization", bearer).body(())?.into_parts();
    /// let authenticated = auth.authenticate(&parts, &Requirement::ACCESS).await?;
    /// // The WebSocket is open. Every few seconds, and before anything that matters:
    /// assert!(auth.recheck(&authenticated).await.is_ok());
    ///
    /// auth.sign_out(authenticated.claims()).await?;
    /// assert!(auth.recheck(&authenticated).await.is_err(), "close the WebSocket");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AuthError`] tells why the credential no longer holds.
    pub async fn recheck(&self, authenticated: &Authenticated) -> Result<(), AuthError> {
        self.rules().recheck(self.engine(), authenticated).await
    }

    /// Loads the user of verified claims with the loader that the program has set for the type `U`.
    ///
    /// ```
    /// use countersign_http::Auth;
    /// # use std::convert::Infallible;
    /// # use countersign_http::Requirement;
    /// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
    /// # use countersign_jwt::{Epoch, UserId};
    /// # use countersign_testkit::TestBed;
    /// # use http::Request;
    /// struct Member {
    ///     name: &'static str,
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
    /// let auth = Auth::builder(stores, secrets)
    ///     .user_loader(async |id: UserId| {
    ///         Ok::<_, Infallible>((id.as_str() == "ada").then_some(Member { name: "Ada" }))
    ///     })
    ///     .build()
    ///     .await?;
    /// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
    /// # let pair = auth.sessions().begin(user, epoch, Presentation::Explicit, Device::default()).await?;
    /// let bearer = format!("Bearer {}", pair.access_token);
    /// let (parts, ()) = Request::get("/").header("authorization", bearer).body(())?.into_parts();
    /// # let authenticated = auth.authenticate(&parts, &Requirement::ACCESS).await?;
    /// let member: Member = auth.load_user(authenticated.claims()).await?;
    /// assert_eq!(member.name, "Ada");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AuthError::UserGone`] (401) if there is no such user, [`AuthError::LoadUser`] (503) if the user could not be
    /// loaded, [`AuthError::NoUserLoader`] (500) if the program has set no loader for `U`.
    pub async fn load_user<U: Send + 'static>(&self, claims: &Claims) -> Result<U, AuthError> {
        let user = self.engine().users().load(claims.subject()).await?;
        user.ok_or_else(|| self.rules().user_gone(claims.subject()))
    }

    /// The user who is signed in, whether an account of Countersign's or a user of the program's own; see
    /// [`Users::known`](crate::Users::known).
    ///
    /// # Errors
    /// [`AuthError::UserGone`] (401) if there is no such user, [`AuthError::LoadUser`] (503) if the user could not be
    /// loaded.
    pub async fn signed_in_user(&self, caller: &Authenticated) -> Result<SignedInUser, AuthError> {
        let id = caller.claims().subject();
        let user = self.engine().users().known(id, caller.user()).await?;
        user.ok_or_else(|| self.rules().user_gone(id))
    }

    /// Exchanges the refresh token of a request; `in_body` is the token that the route found in the body. A request
    /// that carries our cookies is refused if it comes from another site.
    ///
    /// ```
    /// use countersign_http::Auth;
    /// use countersign_http::NewTokens;
    /// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
    /// # use countersign_jwt::{Epoch, UserId};
    /// # use countersign_testkit::TestBed;
    /// # use http::Request;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let builder = Auth::builder(MemoryStore::new(), TestBed::secrets());
    /// # let auth = builder.user_loader(async |id| Ok::<_, std::convert::Infallible>(Some(id))).build().await?;
    /// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
    /// # let pair = auth.sessions().begin(user, epoch, Presentation::Explicit, Device::default()).await?;
    /// let (parts, ()) = Request::post("/refresh").body(())?.into_parts();
    /// let exchanged = auth.refresh(&parts, Some(&pair.refresh_token), Device::default()).await?;
    /// match exchanged.tokens {
    ///     NewTokens::Pair(next, _) => assert_ne!(next.refresh_token, pair.refresh_token),
    ///     NewTokens::Access(access) => println!("a new access token: {}", access.access_token),
    /// }
    /// # Ok(())
    /// # }
    /// ```
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

    /// Logs out: ends the session of every credential that the request shows, wherever it is. Returns the `Set-Cookie`
    /// fields that make the browser forget its cookies, if the request carries some and has proven its right to that.
    ///
    /// A token's signature must hold, because otherwise anybody could log anybody out. Its times do not matter: a
    /// second logout, or one with an expired token, succeeds too.
    ///
    /// ```
    /// use countersign_http::{BodyTokens, Requirement};
    /// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
    /// # use countersign_jwt::{Epoch, UserId};
    /// # use countersign_testkit::TestBed;
    /// # use http::Request;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let auth = countersign_http::Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
    /// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
    /// # let pair = auth.sessions().begin(user, epoch, Presentation::Explicit, Device::default()).await?;
    /// let bearer = format!("Bearer {}", pair.access_token);
    /// let (parts, ()) = Request::get("/").header("authorization", bearer).body(())?.into_parts();
    /// auth.log_out(&parts, BodyTokens::default()).await?;
    /// assert!(auth.authenticate(&parts, &Requirement::ACCESS).await.is_err());
    ///
    /// // A second logout succeeds as well.
    /// assert!(auth.log_out(&parts, BodyTokens::default()).await.is_ok());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`LogOutError`]. After [`LogOutError::End`] the sessions may still be live.
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
    /// ```
    /// use countersign_http::Requirement;
    /// use http::HeaderMap;
    /// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
    /// # use countersign_jwt::{Epoch, UserId};
    /// # use countersign_testkit::TestBed;
    /// # use http::Request;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let auth = countersign_http::Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
    /// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
    /// # let pair = auth.sessions().begin(user, epoch, Presentation::Explicit, Device::default()).await?;
    /// let bearer = format!("Bearer {}", pair.access_token);
    /// let (parts, ()) = Request::get("/").header("authorization", bearer).body(())?.into_parts();
    /// let authenticated = auth.authenticate(&parts, &Requirement::ACCESS).await?;
    /// let cookies = auth.sign_out(authenticated.claims()).await?;
    ///
    /// let mut headers = HeaderMap::new(); // those of the answer
    /// cookies.apply(&mut headers)?;
    /// assert_eq!(headers.get_all("set-cookie").iter().count(), 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`EndError`] when the store cannot answer. The session may then still be live.
    pub async fn sign_out(&self, claims: &Claims) -> Result<SetCookies, EndError> {
        self.sessions().end_by_tokens(vec![claims.clone()], EndReason::LoggedOut).await?;
        Ok(self.unset_cookies())
    }

    /// The cookies of a pair that was issued for cookies. [`Auth::check_cookie_host`] tells beforehand whether the
    /// request may be given cookies.
    ///
    /// ```
    /// # use http::HeaderMap;
    /// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
    /// # use countersign_jwt::{Epoch, UserId};
    /// # use countersign_testkit::TestBed;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let auth = countersign_http::Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
    /// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
    /// let pair = auth.sessions().begin(user, epoch, Presentation::Cookie, Device::default()).await?;
    ///
    /// let mut headers = HeaderMap::new(); // those of the answer
    /// auth.set_cookies(&pair).apply(&mut headers)?;
    /// let access = headers["set-cookie"].to_str()?;
    /// assert!(access.starts_with("__Host-countersign_access=") && access.contains("; HttpOnly"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_cookies(&self, pair: &Pair) -> SetCookies {
        SetCookies::new(self.rules().cookies().set(pair, self.engine().now()))
    }

    /// Makes a browser forget the access, refresh and CSRF cookies, as a logout does.
    pub fn unset_cookies(&self) -> SetCookies {
        SetCookies::new(Ok(self.rules().cookies().forget()))
    }

    /// Refuses to give out cookies that would travel unprotected, as [`Engine::check_cookie_host`] describes.
    ///
    /// Code that sets cookies by [`Auth::set_cookies`] calls this first; the ready-made routes and `SignIn` do so.
    ///
    /// # Errors
    /// [`AuthError::InsecureCookies`].
    pub fn check_cookie_host(&self, parts: &Parts) -> Result<(), AuthError> {
        self.engine().check_cookie_host(parts, self.rules().cookies())
    }

    /// The answer to a request that was refused: the answer that the application [chooses](crate::AuthBuilder::answer),
    /// otherwise the default of the rules. The log gets the cause, the client a standard code. `requirement` completes
    /// the challenge in `WWW-Authenticate`.
    ///
    /// ```
    /// use countersign_http::{AuthError, Requirement};
    /// # use countersign_core::store::MemoryStore;
    /// # use countersign_testkit::TestBed;
    /// # use http::Request;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let auth = countersign_http::Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
    /// let (parts, ()) = Request::get("/reports").body(())?.into_parts();
    /// let requirement = Requirement::ACCESS.realm("reports");
    /// if let Err(error) = auth.authenticate(&parts, &requirement).await {
    ///     let answer = auth.refuse(&parts, Some(&requirement), &error).await;
    ///     assert_eq!(answer.status(), 401);
    ///     assert_eq!(answer.headers()["www-authenticate"], r#"Bearer realm="reports""#);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn refuse(
        &self,
        parts: &Parts,
        requirement: Option<&Requirement>,
        error: &AuthError,
    ) -> Answer {
        self.rules().answer(self.engine(), parts, requirement, error).await
    }
}

/// The only function that makes an [`Authenticated`]. Its argument is a credential that the rules have vouched for.
fn authenticated(Vouched { claims, location, user, proof }: Vouched) -> Authenticated {
    Authenticated { claims, location, user, proof }
}
