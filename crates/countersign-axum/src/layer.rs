//! The layer: puts what decides about requests where guards and extractors find it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use countersign_http::profile::Profile;
use countersign_http::{Auth, private_query};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::guard::Proven;
use crate::pending;

/// Makes guards and extractors work in all routes below it. Routes with neither cost nothing.
///
/// Takes an [`Auth`], or a compatibility [`Profile`] in an `Arc`. With one layer of each, guards and the profile's
/// extractors ask the profile, the native extractors and the ready-made routes the [`Auth`].
#[derive(Clone, Debug)]
pub struct AuthLayer {
    authority: Authority,
}

/// What decides about requests: an [`Auth`], or a [`Profile`] in its stead.
#[derive(Clone)]
pub enum Authority {
    /// The native rules.
    Native(Auth),
    /// Another library's rules.
    Profile(Arc<dyn Profile>),
}

impl AuthLayer {
    /// A layer for this [`Auth`] or `Arc<impl Profile>`.
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
            Self::Native(auth) => auth.wants_body(request.method(), request.uri(), request.headers()),
            Self::Profile(profile) => profile.wants_body(request.method(), request.headers(), None),
        };
        if wants_body {
            pending::hold(request);
        }
        match self {
            Self::Native(auth) => {
                if request.uri().query().is_some() {
                    let mut uri = std::mem::take(request.uri_mut());
                    by_query = auth.take_from_query(&mut uri, request.extensions_mut());
                    *request.uri_mut() = uri;
                }
                request.extensions_mut().insert(auth.clone());
            }
            Self::Profile(profile) => {
                by_query = profile.is_in_query(request.uri());
                request.extensions_mut().insert(profile.clone());
            }
        }
        by_query
    }
}

impl From<Auth> for Authority {
    fn from(auth: Auth) -> Self {
        Self::Native(auth)
    }
}

impl From<Arc<dyn Profile>> for Authority {
    fn from(profile: Arc<dyn Profile>) -> Self {
        Self::Profile(profile)
    }
}

impl<P: Profile> From<Arc<P>> for Authority {
    fn from(profile: Arc<P>) -> Self {
        Self::Profile(profile)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native(auth) => auth.fmt(f),
            Self::Profile(profile) => profile.fmt(f),
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
