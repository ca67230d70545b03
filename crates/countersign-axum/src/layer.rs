//! The layer: puts the [`Auth`] or [`Gate`] where guards and extractors find it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::OriginalUri;
use countersign_http::{Auth, Gate, RequestedUri, SetCookies, private_query};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::guard::Proven;
use crate::in_place::Noted;
use crate::pending;

/// Makes guards and extractors work in all routes below it. A route that uses neither pays nothing for it.
///
/// The layer takes an [`Auth`], or a [`Gate`] in an `Arc`. With one layer of each, guards and the gate's extractors ask
/// the gate; the other extractors and the ready-made routes ask the [`Auth`].
///
/// ```
/// use axum::{Router, routing::get};
/// use countersign_axum::{AccessToken, Auth, AuthLayer, account_routes, routes};
/// # use axum::{body::Body, http::Request};
/// # use countersign_core::store::MemoryStore;
/// # use countersign_testkit::TestBed;
/// # use tower::ServiceExt as _;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
/// let auth = Auth::builder(stores, secrets).build().await?;
/// let app: Router = Router::new()
///     .route("/hello", get(async |token: AccessToken| format!("hello {}", token.subject())))
///     .merge(routes())
///     .layer(AuthLayer::new(auth)); // last, so that it is around all routes
///
/// let answer = app.oneshot(Request::get("/hello").body(Body::empty())?).await?;
/// assert_eq!(answer.status(), 401);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct AuthLayer {
    authority: Authority,
}

/// The authority that decides about requests: an [`Auth`], or a [`Gate`] in its place.
///
/// ```
/// use std::sync::Arc;
/// use axum::{Router, routing::get};
/// use countersign_axum::{AuthLayer, Guard, Requirement};
/// # use countersign_http::{Answer, ErrorCode, Gate, Passed};
/// # use axum::{body::Body, http::{HeaderMap, Method, Request, Uri, request::Parts}};
/// # use tower::ServiceExt as _;
///
/// #[derive(Debug)]
/// struct Machines;
///
/// #[async_trait::async_trait]
/// impl Gate for Machines {
///     async fn check(&self, parts: &Parts, _: &Requirement) -> Result<Option<Passed>, Answer> {
///         match parts.headers.get("x-machine-key") {
///             Some(key) if key == "7f3a" => Ok(Some(Arc::new("machine 7"))),
///             _ => Err(Answer::error(ErrorCode::InvalidToken)),
///         }
///     }
/// #   fn wants_body(&self, _: &Method, _: &HeaderMap, _: Option<&Requirement>) -> bool { false }
/// #   fn is_in_query(&self, _: &Uri) -> bool { false }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let app: Router = Router::new()
///     .route("/state", get(async || "all is well"))
///     .route_layer(Guard::new(Requirement::ACCESS))
///     .layer(AuthLayer::new(Arc::new(Machines)));
///
/// let stranger = Request::get("/state").body(Body::empty())?;
/// assert_eq!(app.clone().oneshot(stranger).await?.status(), 401);
/// let machine = Request::get("/state").header("x-machine-key", "7f3a").body(Body::empty())?;
/// assert_eq!(app.oneshot(machine).await?.status(), 200);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub enum Authority {
    /// Countersign's accounts and sessions, by the rules in force.
    Auth(Auth),
    /// A gate, which accepts tokens that somebody else issues.
    Gate(Arc<dyn Gate>),
}

impl AuthLayer {
    /// A layer for this [`Auth`] or `Arc<impl Gate>`.
    #[must_use]
    pub fn new(authority: impl Into<Authority>) -> Self {
        Self { authority: authority.into() }
    }
}

impl Authority {
    /// Inserts itself among the request's extensions, and also a handle to the body where credentials may travel in it.
    /// Returns what the answer depends on.
    fn install(&self, request: &mut Request<Body>) -> Installed {
        // A proof from another layer's guard counts only for that layer.
        request.extensions_mut().remove::<Proven>();
        let (mut by_query, mut noted) = (false, None);
        let wants_body = match self {
            Self::Auth(auth) => {
                auth.rules().wants_body(auth.engine(), (&*request).into(), None)
                    || auth.engine().users().wants_body((&*request).into())
            }
            Self::Gate(gate) => gate.wants_body(request.method(), request.headers(), None),
        };
        if wants_body {
            pending::hold(request);
        }
        match self {
            Self::Auth(auth) => {
                if request.uri().query().is_some() {
                    let mut uri = std::mem::take(request.uri_mut());
                    by_query = auth.rules().take_from_query(&mut uri, request.extensions_mut());
                    *request.uri_mut() = uri;
                }
                if auth.engine().login_sessions().is_some() {
                    let requested = request.extensions().get::<OriginalUri>().map(|OriginalUri(uri)| uri);
                    // A URI that held a token is the one without it.
                    let requested = requested.filter(|_| !by_query).unwrap_or(request.uri()).clone();
                    request.extensions_mut().insert(RequestedUri(requested));
                    let kept = Noted::default();
                    request.extensions_mut().insert(kept.clone());
                    noted = Some((auth.clone(), kept));
                }
                request.extensions_mut().insert(auth.clone());
            }
            Self::Gate(gate) => {
                by_query = gate.is_in_query(request.uri());
                request.extensions_mut().insert(gate.clone());
            }
        }
        Installed { by_query, noted }
    }
}

/// What the answer to a request depends on.
struct Installed {
    /// Whether a token was taken out of the URI.
    by_query: bool,
    /// What is noted of a request that may have a login session.
    noted: Option<(Auth, Noted)>,
}

impl From<Auth> for Authority {
    fn from(auth: Auth) -> Self {
        Self::Auth(auth)
    }
}

impl From<Arc<dyn Gate>> for Authority {
    fn from(gate: Arc<dyn Gate>) -> Self {
        Self::Gate(gate)
    }
}

impl<G: Gate> From<Arc<G>> for Authority {
    fn from(gate: Arc<G>) -> Self {
        Self::Gate(gate)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auth(auth) => auth.fmt(f),
            Self::Gate(gate) => gate.fmt(f),
        }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = WithAuth<S>;

    fn layer(&self, inner: S) -> WithAuth<S> {
        WithAuth { inner, authority: self.authority.clone() }
    }
}

/// The service that [`AuthLayer`] makes of the routes below it.
#[derive(Clone, Debug)]
pub struct WithAuth<S> {
    inner: S,
    authority: Authority,
}

impl<S, B> Service<Request<Body>> for WithAuth<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answering<S::Future, B>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Installed { by_query, noted } = self.authority.install(&mut request);
        Answering { answering: self.inner.call(request), by_query, noted, carrying_out: None }
    }
}

pin_project! {
    /// The future of an answer below an [`AuthLayer`].
    pub struct Answering<F, B> {
        #[pin]
        answering: F,
        by_query: bool,
        noted: Option<(Auth, Noted)>,
        carrying_out: Option<CarryingOut<B>>,
    }
}

/// An answer, and the cookies that it waits for.
struct CarryingOut<B> {
    answer: Response<B>,
    cookies: Pin<Box<dyn Future<Output = Option<SetCookies>> + Send>>,
}

impl<F, B> fmt::Debug for Answering<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answering").field("by_query", &self.by_query).finish_non_exhaustive()
    }
}

impl<F, B, E> Future for Answering<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if this.carrying_out.is_none() {
            let mut answer = ready!(this.answering.poll(context))?;
            if *this.by_query {
                private_query(answer.headers_mut());
            }
            let Some((auth, noted)) = this.noted.take() else { return Poll::Ready(Ok(answer)) };
            let Some((change, headers)) = noted.decide(&auth, &mut answer) else {
                return Poll::Ready(Ok(answer));
            };
            let cookies = Box::pin(async move { change.carry_out(&auth, &headers).await });
            *this.carrying_out = Some(CarryingOut { answer, cookies });
        }
        let Some(carrying_out) = this.carrying_out else { return Poll::Pending };
        let cookies = ready!(carrying_out.cookies.as_mut().poll(context));
        let Some(CarryingOut { mut answer, .. }) = this.carrying_out.take() else { return Poll::Pending };
        if let Some(Err(error)) = cookies.map(|cookies| cookies.apply(answer.headers_mut())) {
            tracing::error!(error = &error as &dyn std::error::Error, "cookies could not be set");
        }
        Poll::Ready(Ok(answer))
    }
}
