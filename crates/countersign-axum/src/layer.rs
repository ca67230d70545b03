//! The layer: puts what decides about requests where guards and extractors find it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use countersign_http::{Auth, Gate, private_query};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::guard::Proven;
use crate::pending;

/// Makes guards and extractors work in all routes below it. Routes with neither cost nothing.
///
/// Takes an [`Auth`], or a [`Gate`] in an `Arc`. With one layer of each, guards and the gate's extractors ask the gate,
/// the other extractors and the ready-made routes the [`Auth`].
#[derive(Clone, Debug)]
pub struct AuthLayer {
    authority: Authority,
}

/// What decides about requests: an [`Auth`], or a [`Gate`] in its stead.
#[derive(Clone)]
pub enum Authority {
    /// Accounts and sessions, by the rules that hold.
    Auth(Auth),
    /// Tokens that somebody else issues.
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
    /// Inserts itself, and where credentials may travel in this request's body, a handle to that. Whether a token in
    /// the URI was taken out of it.
    fn install(&self, request: &mut Request<Body>) -> bool {
        // What a guard of another layer has proven counts for that one.
        request.extensions_mut().remove::<Proven>();
        let mut by_query = false;
        let wants_body = match self {
            Self::Auth(auth) => auth.rules().wants_body(auth.engine(), (&*request).into(), None),
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
                request.extensions_mut().insert(auth.clone());
            }
            Self::Gate(gate) => {
                by_query = gate.is_in_query(request.uri());
                request.extensions_mut().insert(gate.clone());
            }
        }
        by_query
    }
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

/// The service that [`AuthLayer`] makes.
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
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let by_query = self.authority.install(&mut request);
        Answering { answering: self.inner.call(request), by_query }
    }
}

pin_project! {
    /// What answers below an [`AuthLayer`].
    #[derive(Debug)]
    pub struct Answering<F> {
        #[pin]
        answering: F,
        by_query: bool,
    }
}

impl<F, B, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut answer = ready!(this.answering.poll(context));
        if let Ok(answer) = &mut answer
            && *this.by_query
        {
            private_query(answer.headers_mut());
        }
        Poll::Ready(answer)
    }
}
