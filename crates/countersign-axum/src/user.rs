//! The user of a request: of its session or token, or whom a loader by requests finds.

use std::any::TypeId;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRequestParts;
use countersign_http::{AnyUser, Auth, AuthError, Optional, Requirement, UserOrder};
use http::Method;
use http::request::Parts;

use crate::extract::{Installed, try_proven};
use crate::in_place::Noted;
use crate::pending::read_ahead;
use crate::reply::AuthRejection;

/// Lets a request through that is made by a user: by a login session, an access token, or whatever a loader by requests
/// (`AuthBuilder::request_loader`) knows a user by. A browser without a session is sent to the sign-in page.
/// [`FreshLoginRequired`] demands a session that is fresh.
///
/// As an extractor it guards one handler; by [`axum::middleware::from_extractor`] it guards routes. Requests with the
/// method OPTIONS pass, because they ask what may be done and do nothing.
///
/// ```
/// use axum::middleware::from_extractor;
/// use axum::{Router, routing::get};
/// use countersign_axum::{Auth, AuthLayer, LoginRequired};
/// use countersign_http::LoginSessions;
/// # use axum::{body::Body, http::Request};
/// # use countersign_core::store::MemoryStore;
/// # use countersign_testkit::TestBed;
/// # use tower::ServiceExt as _;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
/// let sessions = LoginSessions::new().sign_in_page("/login");
/// let auth = Auth::builder(stores, secrets).login_sessions(sessions).build().await?;
/// let app: Router = Router::new()
///     .route("/reports", get(async || "figures"))
///     .route_layer(from_extractor::<LoginRequired>())
///     .layer(AuthLayer::new(auth));
///
/// let browser = Request::get("/reports?year=2026").header("accept", "text/html").body(Body::empty())?;
/// let answer = app.clone().oneshot(browser).await?;
/// assert_eq!(answer.headers()["location"], "/login?next=%2Freports%3Fyear%3D2026");
///
/// let program = Request::get("/reports").body(Body::empty())?;
/// assert_eq!(app.oneshot(program).await?.status(), 401);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LoginRequired;

/// Lets a request through that a user with a fresh session makes; otherwise as [`LoginRequired`]. A browser whose session
/// is not fresh is sent to the page where the user proves the identity again.
#[derive(Clone, Copy, Debug)]
pub struct FreshLoginRequired;

/// The user whom a guard has loaded, for the handler.
#[derive(Clone)]
struct Loaded(Arc<Mutex<Option<AnyUser>>>);

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loaded")
    }
}

/// The user of a request that must have one, or may (`optional`).
pub(crate) async fn current_user<U: Send + 'static>(
    parts: &mut Parts,
    requirement: &'static Requirement,
    optional: bool,
) -> Result<Option<U>, AuthRejection> {
    let auth = installed(parts).await?;
    let found = match auth.engine().users().order() {
        _ if !auth.engine().users().are_in_requests() => {
            of_session(&auth, parts, requirement, optional).await
        }
        UserOrder::RequestFirst => match of_request(&auth, parts, requirement).await {
            Ok(Some(user)) => Ok(Some(user)),
            Ok(None) => of_session(&auth, parts, requirement, optional).await,
            Err(error) => Err(error),
        },
        UserOrder::SessionFirst => match of_session(&auth, parts, requirement, optional).await {
            Ok(Some(user)) => Ok(Some(user)),
            Ok(None) => of_request(&auth, parts, requirement).await,
            // What is wrong with the session hides no other credential.
            Err(error) if error.code().status() == http::StatusCode::UNAUTHORIZED => {
                match of_request(&auth, parts, requirement).await {
                    Ok(Some(user)) => Ok(Some(user)),
                    Ok(None) => Err(error),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        },
    };
    match found {
        Ok(None) if !optional => {
            Err(AuthRejection::new(&auth, parts, Some(requirement), AuthError::Missing).await)
        }
        Ok(user) => Ok(user),
        Err(error) => Err(AuthRejection::new(&auth, parts, Some(requirement), error).await),
    }
}

async fn of_session<U: Send + 'static>(
    auth: &Auth,
    parts: &mut Parts,
    requirement: &'static Requirement,
    optional: bool,
) -> Result<Option<U>, AuthError> {
    let found = if optional {
        try_proven(auth, parts, &requirement.clone().optional(Optional::IfAbsent)).await?
    } else {
        try_proven(auth, parts, requirement).await?
    };
    match found {
        Some(caller) => auth.load_user(caller.claims()).await.map(Some),
        None => Ok(None),
    }
}

async fn of_request<U: Send + 'static>(
    auth: &Auth,
    parts: &mut Parts,
    requirement: &Requirement,
) -> Result<Option<U>, AuthError> {
    let loaded = parts.extensions.get::<Loaded>().and_then(|Loaded(user)| {
        let mut kept = user.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_some_and(|user| user.is::<U>()) { kept.take() } else { None }
    });
    let user = match loaded {
        Some(user) => Some(user),
        None => find_in_request(auth, parts, Some(TypeId::of::<U>())).await?,
    };
    let Some(user) = user.and_then(|user| user.downcast::<U>().ok()) else { return Ok(None) };
    if requirement.wants_fresh() {
        return Err(AuthError::NotFresh);
    }
    Noted::by_token(parts);
    Ok(Some(*user))
}

async fn find_in_request(
    auth: &Auth,
    parts: &mut Parts,
    of: Option<TypeId>,
) -> Result<Option<AnyUser>, AuthError> {
    if auth.engine().users().wants_body((&*parts).into()) {
        read_ahead(parts).await;
    }
    auth.engine().users().of_request(parts, of).await
}

async fn installed(parts: &mut Parts) -> Result<Auth, AuthRejection> {
    let Installed(auth) = Installed::from_request_parts(parts, &()).await?;
    Ok(auth)
}

/// Lets a request through that some user makes.
async fn require_login(parts: &mut Parts, requirement: &'static Requirement) -> Result<(), AuthRejection> {
    if parts.method == Method::OPTIONS {
        return Ok(());
    }
    let auth = installed(parts).await?;
    let users = auth.engine().users();
    let in_requests = users.are_in_requests();
    if in_requests && users.order() == UserOrder::RequestFirst && keep(&auth, parts, requirement).await? {
        return Ok(());
    }
    let error = match try_proven(&auth, parts, requirement).await {
        Ok(Some(_)) => return Ok(()),
        Ok(None) => AuthError::Missing,
        Err(error) => error,
    };
    let is_unauthorized = error.code().status() == http::StatusCode::UNAUTHORIZED;
    if in_requests
        && is_unauthorized
        && users.order() == UserOrder::SessionFirst
        && keep(&auth, parts, requirement).await?
    {
        return Ok(());
    }
    Err(AuthRejection::new(&auth, parts, Some(requirement), error).await)
}

/// Keeps the user whom a loader finds by the request for the handler; returns whether there is one.
async fn keep(auth: &Auth, parts: &mut Parts, requirement: &Requirement) -> Result<bool, AuthRejection> {
    let error = match find_in_request(auth, parts, None).await {
        Ok(None) => return Ok(false),
        Ok(Some(_)) if requirement.wants_fresh() => AuthError::NotFresh,
        Ok(Some(user)) => {
            parts.extensions.insert(Loaded(Arc::new(Mutex::new(Some(user)))));
            Noted::by_token(parts);
            return Ok(true);
        }
        Err(error) => error,
    };
    Err(AuthRejection::new(auth, parts, Some(requirement), error).await)
}

static ACCESS: Requirement = Requirement::ACCESS;
static FRESH: Requirement = Requirement::FRESH;

impl<S: Send + Sync> FromRequestParts<S> for LoginRequired {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AuthRejection> {
        require_login(parts, &ACCESS).await.map(|()| Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for FreshLoginRequired {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AuthRejection> {
        require_login(parts, &FRESH).await.map(|()| Self)
    }
}
