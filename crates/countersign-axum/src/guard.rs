//! Guards: a [`Requirement`] as a layer before routes, or as a check inside a handler.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use countersign_http::{
    Auth, AuthError, Authenticated, CookieChange, Gate, InPlace, Passed, Requirement, private_query,
};
use http::Request;
use http::request::Parts;
use tower_layer::Layer;
use tower_service::Service;

use crate::in_place::Noted;
use crate::pending::{self, read_ahead};
use crate::reply::AuthRejection;
use crate::routes::device;

/// Lets requests through that prove a [`Requirement`], as a layer before routes or as a value in a handler:
///
/// ```
/// use axum::{Router, routing::get};
/// use countersign_axum::{AccessToken, Guard, Requirement};
///
/// async fn reports(token: AccessToken) -> String {
///     format!("reports for {}", token.subject())
/// }
///
/// let app: Router = Router::new()
///     .route("/reports", get(reports))
///     .route_layer(Guard::new(Requirement::ACCESS.scope("reports:read")));
/// ```
///
/// Extractors behind a guard use what it has proven and do not verify again. The [`AuthLayer`](crate::AuthLayer) must
/// be around the guard, so add it to the router after the guard.
#[derive(Clone, Debug)]
pub struct Guard {
    requirement: Arc<Requirement>,
}

/// The proof that a [`Guard`] has found in a request and keeps among the request's extensions, where extractors read
/// it.
///
/// ```
/// use axum::extract::FromRequestParts;
/// use axum::http::request::Parts;
/// use countersign_axum::{AuthRejection, Guard, Proven, Requirement};
///
/// /// A machine that a `Gate` of the program's own has let through.
/// struct Machine(u32);
///
/// impl<S: Send + Sync> FromRequestParts<S> for Machine {
///     type Rejection = AuthRejection;
///
///     async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AuthRejection> {
///         let proven = match Proven::passed(parts) {
///             Some(let_through) => let_through.caller(), // a guard before the route has checked
///             None => Guard::new(Requirement::ACCESS).check(parts).await?.into_passed(),
///         };
///         let number = proven.and_then(|proven| proven.downcast_ref::<u32>().copied());
///         Ok(Self(number.unwrap_or_default()))
///     }
/// }
/// # use std::sync::Arc;
/// # use axum::{Router, body::Body, http::{HeaderMap, Method, Request, Uri}, routing::get};
/// # use countersign_axum::AuthLayer;
/// # use countersign_http::{Answer, Gate, Passed};
/// # use tower::ServiceExt as _;
/// # #[derive(Debug)]
/// # struct Machines;
/// # #[async_trait::async_trait]
/// # impl Gate for Machines {
/// #     async fn check(&self, _: &Parts, _: &Requirement) -> Result<Option<Passed>, Answer> { Ok(Some(Arc::new(7_u32))) }
/// #     fn wants_body(&self, _: &Method, _: &HeaderMap, _: Option<&Requirement>) -> bool { false }
/// #     fn is_in_query(&self, _: &Uri) -> bool { false }
/// # }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let app: Router = Router::new()
/// #     .route("/", get(async |machine: Machine| machine.0.to_string()))
/// #     .layer(AuthLayer::new(Arc::new(Machines)));
/// # let answer = app.oneshot(Request::get("/").body(Body::empty())?).await?;
/// # assert_eq!(axum::body::to_bytes(answer.into_body(), 100).await?, "7");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Proven {
    requirement: Arc<Requirement>,
    outcome: Outcome,
}

/// The result of a check; `None` inside means that the request may pass as nobody.
#[derive(Clone, Debug)]
enum Outcome {
    ByAuth(Option<Authenticated>),
    ByGate(Option<Passed>),
}

/// The caller that a request was let through for, or nobody.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LetThrough<T> {
    /// The request shows no credential, and the requirement allows that.
    Nobody,
    /// The request shows this.
    Caller(T),
}

impl<T> LetThrough<T> {
    /// The caller, if there is one.
    #[must_use]
    pub fn caller(self) -> Option<T> {
        match self {
            Self::Nobody => None,
            Self::Caller(caller) => Some(caller),
        }
    }
}

impl<T> From<Option<T>> for LetThrough<T> {
    fn from(caller: Option<T>) -> Self {
        caller.map_or(Self::Nobody, Self::Caller)
    }
}

impl Guard {
    /// A guard with this requirement.
    #[must_use]
    pub fn new(requirement: Requirement) -> Self {
        Self { requirement: Arc::new(requirement) }
    }

    /// The guard's requirement.
    #[must_use]
    pub fn requirement(&self) -> &Requirement {
        &self.requirement
    }

    /// Decides about a request, and keeps what it has proven among the request's extensions.
    ///
    /// ```
    /// use axum::http::request::Parts;
    /// use axum::{Router, routing::get};
    /// use countersign_axum::{AuthLayer, AuthRejection, Guard, Requirement};
    /// # use axum::{body::Body, http::Request};
    /// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
    /// # use countersign_jwt::{Epoch, UserId};
    /// # use countersign_testkit::TestBed;
    /// # use tower::ServiceExt as _;
    ///
    /// /// What must be proven depends on the report.
    /// async fn report(mut parts: Parts) -> Result<&'static str, AuthRejection> {
    ///     if parts.uri.path().ends_with("/salaries") {
    ///         Guard::new(Requirement::ACCESS.role("accountant")).check(&mut parts).await?;
    ///     }
    ///     Ok("figures")
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let auth = countersign_axum::Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
    /// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
    /// # let pair = auth.sessions().begin(user, epoch, Presentation::Explicit, Device::default()).await?;
    /// let app: Router = Router::new().route("/reports/{name}", get(report)).layer(AuthLayer::new(auth));
    /// for (path, status) in [("/reports/weather", 200), ("/reports/salaries", 403)] {
    ///     let request = Request::get(path).header("authorization", format!("Bearer {}", pair.access_token));
    ///     assert_eq!(app.clone().oneshot(request.body(Body::empty())?).await?.status(), status);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The refusal as a finished answer: from the [`Gate`] if one is installed, otherwise from the [`Auth`]. If neither
    /// is installed, the answer is 500 and the log tells what to add.
    pub async fn check(&self, parts: &mut Parts) -> Result<Proven, AuthRejection> {
        let outcome = if let Some(gate) = parts.extensions.get::<Arc<dyn Gate>>().cloned() {
            if gate.wants_body(&parts.method, &parts.headers, Some(&self.requirement)) {
                read_ahead(parts).await;
            }
            let passed = gate.check(parts, &self.requirement).await;
            Outcome::ByGate(passed.map_err(AuthRejection::answered)?)
        } else if let Some(auth) = parts.extensions.get::<Auth>().cloned() {
            Outcome::ByAuth(prove(&auth, parts, &self.requirement).await?)
        } else {
            return Err(AuthRejection::not_installed("a Guard is in use"));
        };
        let proven = Proven { requirement: self.requirement.clone(), outcome };
        parts.extensions.insert(proven.clone());
        Ok(proven)
    }
}

/// Authenticates a request by an [`Auth`], and reads the body first if it may hold credentials.
pub(crate) async fn prove(
    auth: &Auth,
    parts: &mut Parts,
    requirement: &Requirement,
) -> Result<Option<Authenticated>, AuthRejection> {
    match try_to_prove(auth, parts, requirement).await {
        Ok(authenticated) => Ok(authenticated),
        Err(error) => Err(AuthRejection::new(auth, parts, Some(requirement), error).await),
    }
}

/// The same, with the error as it is. A login session goes on where it can, and the layer hears of it.
pub(crate) async fn try_to_prove(
    auth: &Auth,
    parts: &mut Parts,
    requirement: &Requirement,
) -> Result<Option<Authenticated>, AuthError> {
    if auth.rules().wants_body(auth.engine(), (&*parts).into(), Some(requirement)) {
        Box::pin(read_ahead(parts)).await;
    }
    if !Noted::is_kept(parts) {
        return auth.authenticate_optional(parts, requirement).await;
    }
    let found = InPlace::authenticate(auth, parts, requirement, || device(parts)).await?;
    let InPlace { authenticated, change } = found;
    Noted::proof(parts, authenticated.as_ref());
    if let Some(change) = change {
        if let CookieChange::Renew(_) = &change {
            // What else asks about this request need not renew the session again.
            let requirement = Arc::new(requirement.clone());
            let outcome = Outcome::ByAuth(authenticated.clone());
            parts.extensions.insert(Proven { requirement, outcome });
        }
        Noted::change(parts, change);
    }
    Ok(authenticated)
}

impl Proven {
    /// The caller that the [`Auth`] has let through, if that is enough for `asked`. `None` means that the request is
    /// still to be checked.
    pub(crate) fn authenticated(parts: &Parts, asked: &Requirement) -> Option<LetThrough<Authenticated>> {
        let proven = parts.extensions.get::<Self>()?;
        match &proven.outcome {
            Outcome::ByAuth(found) if proven.is_enough(asked, found.is_some()) => Some(found.clone().into()),
            _ => None,
        }
    }

    /// The caller that a guard has let through by a [`Gate`], whatever the guard's requirement was. `None` means that no
    /// guard has checked the request.
    #[must_use]
    pub fn passed(parts: &Parts) -> Option<LetThrough<Passed>> {
        match &parts.extensions.get::<Self>()?.outcome {
            Outcome::ByGate(found) => Some(found.clone().into()),
            Outcome::ByAuth(_) => None,
        }
    }

    /// What the [`Gate`] has proven.
    #[must_use]
    pub fn into_passed(self) -> Option<Passed> {
        match self.outcome {
            Outcome::ByGate(found) => found,
            Outcome::ByAuth(_) => None,
        }
    }

    fn is_enough(&self, asked: &Requirement, is_somebody: bool) -> bool {
        self.requirement.covers(asked) && (is_somebody || asked.is_optional())
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, guard: self.clone() }
    }
}

/// The service that [`Guard`] makes of the routes behind it.
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    inner: S,
    guard: Guard,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if self.guard.requirement.looks_in_body() {
            pending::hold(&mut request);
        }
        // Only the original was polled to readiness, so this call uses it and leaves the clone behind.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let guard = self.guard.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let auth = parts.extensions.get::<Auth>();
            let by_query = auth.is_some_and(|auth| auth.rules().is_in_query(&parts, &guard.requirement));
            let mut response = match guard.check(&mut parts).await {
                Ok(_) => inner.call(Request::from_parts(parts, body)).await?,
                Err(rejection) => rejection.into_response(),
            };
            if by_query {
                private_query(response.headers_mut());
            }
            Ok(response)
        })
    }
}
