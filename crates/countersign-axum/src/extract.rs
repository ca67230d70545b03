//! Extractors: each proves something about the request before the handler runs.

use std::ops::Deref;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use countersign_http::{Auth, AuthError, Authenticated, Optional, Requirement};
use countersign_jwt::Claims;
use http::request::Parts;

use crate::guard::{Proven, prove, try_to_prove};
use crate::reply::AuthRejection;
use crate::user::current_user;

/// A verified access token; a request without one is refused with 401.
///
/// `Option<AccessToken>` lets requests without any token through, and still refuses a token that is not accepted.
/// An unsafe request that a cookie authenticates must carry its CSRF value; otherwise the answer is 403.
///
/// ```
/// use axum::{Router, routing::get};
/// use countersign_axum::{AccessToken, AuthLayer};
/// # use axum::{body::Body, http::Request};
/// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
/// # use countersign_jwt::{Epoch, UserId};
/// # use countersign_testkit::TestBed;
/// # use tower::ServiceExt as _;
///
/// async fn hello(token: AccessToken) -> String {
///     format!("hello {}", token.subject())
/// }
///
/// async fn front_page(token: Option<AccessToken>) -> &'static str {
///     if token.is_some() { "welcome back" } else { "welcome" }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let auth = countersign_axum::Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
/// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
/// # let pair = auth.sessions().begin(user, epoch, Presentation::Explicit, Device::default()).await?;
/// let app: Router = Router::new()
///     .route("/", get(front_page))
///     .route("/hello", get(hello))
///     .layer(AuthLayer::new(auth));
///
/// for (path, token, status) in [("/", "", 200), ("/hello", "", 401), ("/hello", &*pair.access_token, 200)] {
///     let mut request = Request::get(path);
///     if !token.is_empty() {
///         request = request.header("authorization", format!("Bearer {token}"));
///     }
///     assert_eq!(app.clone().oneshot(request.body(Body::empty())?).await?.status(), status);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct AccessToken(Claims);

/// A verified access token that is fresh, or its user: `Fresh<AccessToken>`, `Fresh<CurrentUser<U>>`. A fresh token was
/// issued by a login that is at most `SessionPolicy::fresh_for` old, by default for the token's whole life.
///
/// `Option<Fresh<…>>` lets requests without any token through, and still refuses a token that is not fresh.
///
/// ```
/// use axum::{Router, routing::post};
/// use countersign_axum::{AccessToken, AuthLayer, Fresh};
/// # use axum::{body::Body, http::Request};
/// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
/// # use countersign_jwt::{Epoch, UserId};
/// # use countersign_testkit::TestBed;
/// # use tower::ServiceExt as _;
///
/// async fn change_address(token: Fresh<AccessToken>) -> String {
///     format!("the address of {} was changed", token.subject())
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let auth = countersign_axum::Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
/// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
/// # let pair = auth.sessions().begin(user, epoch, Presentation::Explicit, Device::default()).await?;
/// # let check = countersign_core::flow::Check::REFRESH;
/// # let refresh = auth.sessions().verification().verify(&pair.refresh_token, check).await?;
/// # let exchange = countersign_core::flow::Refresh::of(auth.sessions());
/// # let refreshed = exchange.exchange(&refresh, true, Device::default()).await?.pair;
/// let app: Router = Router::new().route("/address", post(change_address)).layer(AuthLayer::new(auth));
/// for (token, status) in [(&pair.access_token, 200), (&refreshed.access_token, 401)] {
///     let request = Request::post("/address").header("authorization", format!("Bearer {token}"));
///     assert_eq!(app.clone().oneshot(request.body(Body::empty())?).await?.status(), status);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Fresh<T: FromClaims>(T);

/// A refresh token that a refresh would accept now, from the header or a cookie. The extractor does not exchange it.
///
/// ```
/// use axum::{Router, routing::get};
/// use countersign_axum::{AuthLayer, RefreshToken};
/// # use axum::{body::Body, http::Request};
/// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
/// # use countersign_jwt::{Epoch, UserId};
/// # use countersign_testkit::TestBed;
/// # use tower::ServiceExt as _;
///
/// /// Until when the user stays signed in without coming back.
/// async fn signed_in_until(token: RefreshToken) -> String {
///     token.expires_at().map_or_else(String::new, |until| until.as_secs().to_string())
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let auth = countersign_axum::Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
/// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
/// # let pair = auth.sessions().begin(user, epoch, Presentation::Explicit, Device::default()).await?;
/// let app: Router = Router::new().route("/until", get(signed_in_until)).layer(AuthLayer::new(auth));
/// for (token, status) in [(&pair.refresh_token, 200), (&pair.access_token, 401)] {
///     let request = Request::get("/until").header("authorization", format!("Bearer {token}"));
///     assert_eq!(app.clone().oneshot(request.body(Body::empty())?).await?.status(), status);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RefreshToken(Claims);

/// The user of a verified access token, loaded by what `AuthBuilder::own_users` or `AuthBuilder::user_loader` sets.
/// Countersign's own `User` needs neither.
///
/// A user who is gone is refused with 401. `Option<CurrentUser<U>>` lets requests without any token through, and still
/// refuses a token that is not accepted or whose user is gone. [`Fresh<CurrentUser<U>>`](Fresh) demands a fresh token.
///
/// ```
/// use std::convert::Infallible;
/// use axum::{Router, routing::get};
/// use countersign_axum::{Auth, AuthLayer, CurrentUser};
/// # use axum::{body::Body, http::Request};
/// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
/// # use countersign_jwt::{Epoch, UserId};
/// # use countersign_testkit::TestBed;
/// # use tower::ServiceExt as _;
///
/// struct Member {
///     name: &'static str,
/// }
///
/// async fn find_member(id: UserId) -> Result<Option<Member>, Infallible> {
///     Ok((id.as_str() == "ada").then_some(Member { name: "Ada" }))
/// }
///
/// async fn profile(CurrentUser(member): CurrentUser<Member>) -> String {
///     format!("hello {}", member.name)
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
/// let auth = Auth::builder(stores, secrets).user_loader(find_member).build().await?;
/// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
/// # let pair = auth.sessions().begin(user, epoch, Presentation::Explicit, Device::default()).await?;
/// let app: Router = Router::new().route("/profile", get(profile)).layer(AuthLayer::new(auth));
/// let request = Request::get("/profile").header("authorization", format!("Bearer {}", pair.access_token));
/// let answer = app.oneshot(request.body(Body::empty())?).await?;
/// assert_eq!(axum::body::to_bytes(answer.into_body(), 100).await?, "hello Ada");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CurrentUser<U: Send + 'static>(pub U);

/// A proof that an extractor makes of the verified claims of an access token: [`AccessToken`] or [`CurrentUser<U>`].
/// No other type can implement it.
#[diagnostic::on_unimplemented(
    message = "`Fresh<{Self}>` is no extractor",
    label = "neither `AccessToken` nor `CurrentUser<…>`",
    note = "a handler takes `Fresh<AccessToken>` or `Fresh<CurrentUser<U>>`, and `Option` goes around them: \
            `Option<Fresh<AccessToken>>`"
)]
pub trait FromClaims: sealed::Sealed + Sized {
    #[doc(hidden)]
    fn from_claims(
        auth: &Auth,
        parts: &Parts,
        claims: Claims,
    ) -> impl Future<Output = Result<Self, AuthRejection>> + Send;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::AccessToken {}
    impl<U: Send + 'static> Sealed for super::CurrentUser<U> {}
}

/// The [`Auth`] that the layer installed.
#[derive(Clone, Debug)]
pub(crate) struct Installed(pub(crate) Auth);

// These are statics, so that no request builds and drops a requirement.
static ACCESS: Requirement = Requirement::ACCESS;
static FRESH: Requirement = Requirement::FRESH;
static REFRESH: Requirement = Requirement::REFRESH;

fn installed(parts: &Parts) -> Result<Auth, AuthRejection> {
    let auth = parts.extensions.get::<Auth>().cloned();
    auth.ok_or_else(|| AuthRejection::not_installed("a handler takes a countersign extractor"))
}

/// What the request proves: the result of a guard before the handler if it suffices, otherwise a new check.
async fn authenticate(
    parts: &mut Parts,
    requirement: &Requirement,
) -> Result<Option<Authenticated>, AuthRejection> {
    let auth = installed(parts)?;
    match Proven::authenticated(parts, requirement) {
        Some(proven) => Ok(proven.caller()),
        None => prove(&auth, parts, requirement).await,
    }
}

/// The same, with the error as it is, for code that may yet find another proof.
pub(crate) async fn try_proven(
    auth: &Auth,
    parts: &mut Parts,
    requirement: &Requirement,
) -> Result<Option<Authenticated>, AuthError> {
    match Proven::authenticated(parts, requirement) {
        Some(proven) => Ok(proven.caller()),
        None => try_to_prove(auth, parts, requirement).await,
    }
}

/// What the request proves, where a request without a token is refused.
pub(crate) async fn proven(
    parts: &mut Parts,
    requirement: &Requirement,
) -> Result<Authenticated, AuthRejection> {
    match authenticate(parts, requirement).await? {
        Some(authenticated) => Ok(authenticated),
        None => {
            let auth = installed(parts)?;
            Err(AuthRejection::new(&auth, parts, Some(requirement), AuthError::Missing).await)
        }
    }
}

async fn claims(parts: &mut Parts, requirement: &Requirement) -> Result<Claims, AuthRejection> {
    proven(parts, requirement).await.map(Authenticated::into_claims)
}

/// What the request proves, where a request without a token proves nothing.
async fn optional<T: FromClaims>(
    parts: &mut Parts,
    requirement: Requirement,
) -> Result<Option<T>, AuthRejection> {
    let requirement = requirement.optional(Optional::IfAbsent);
    let Some(authenticated) = authenticate(parts, &requirement).await? else { return Ok(None) };
    let auth = installed(parts)?;
    T::from_claims(&auth, parts, authenticated.into_claims()).await.map(Some)
}

impl<S: Send + Sync> FromRequestParts<S> for Installed {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AuthRejection> {
        installed(parts).map(Self)
    }
}

impl FromClaims for AccessToken {
    async fn from_claims(_: &Auth, _: &Parts, claims: Claims) -> Result<Self, AuthRejection> {
        Ok(Self(claims))
    }
}

impl<U: Send + 'static> FromClaims for CurrentUser<U> {
    async fn from_claims(auth: &Auth, parts: &Parts, claims: Claims) -> Result<Self, AuthRejection> {
        match auth.load_user(&claims).await {
            Ok(user) => Ok(Self(user)),
            Err(error) => Err(AuthRejection::new(auth, parts, None, error).await),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AccessToken {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AuthRejection> {
        claims(parts, &ACCESS).await.map(Self)
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for AccessToken {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, AuthRejection> {
        optional(parts, Requirement::ACCESS).await
    }
}

impl<S: Send + Sync, T: FromClaims> FromRequestParts<S> for Fresh<T> {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AuthRejection> {
        let claims = claims(parts, &FRESH).await?;
        let auth = installed(parts)?;
        T::from_claims(&auth, parts, claims).await.map(Self)
    }
}

impl<S: Send + Sync, T: FromClaims> OptionalFromRequestParts<S> for Fresh<T> {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, AuthRejection> {
        optional(parts, Requirement::FRESH).await.map(|proof| proof.map(Self))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RefreshToken {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AuthRejection> {
        claims(parts, &REFRESH).await.map(Self)
    }
}

impl<S: Send + Sync, U: Send + 'static> FromRequestParts<S> for CurrentUser<U> {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AuthRejection> {
        match current_user(parts, &ACCESS, false).await? {
            Some(user) => Ok(Self(user)),
            None => {
                Err(AuthRejection::new(&installed(parts)?, parts, Some(&ACCESS), AuthError::Missing).await)
            }
        }
    }
}

impl<S: Send + Sync, U: Send + 'static> OptionalFromRequestParts<S> for CurrentUser<U> {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, AuthRejection> {
        Ok(current_user(parts, &ACCESS, true).await?.map(Self))
    }
}

impl AccessToken {
    /// The verified claims, by value.
    #[must_use]
    pub fn into_claims(self) -> Claims {
        self.0
    }
}

impl RefreshToken {
    /// The verified claims, by value.
    #[must_use]
    pub fn into_claims(self) -> Claims {
        self.0
    }
}

impl<T: FromClaims> Fresh<T> {
    /// The fresh token or its user, by value.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl Deref for AccessToken {
    type Target = Claims;

    fn deref(&self) -> &Claims {
        &self.0
    }
}

impl Deref for RefreshToken {
    type Target = Claims;

    fn deref(&self) -> &Claims {
        &self.0
    }
}

impl<T: FromClaims> Deref for Fresh<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<U: Send + 'static> Deref for CurrentUser<U> {
    type Target = U;

    fn deref(&self) -> &U {
        &self.0
    }
}
