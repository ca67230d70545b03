//! The layer: puts the [`Auth`] where extractors find it.

use std::task::{Context, Poll};

use countersign_http::Auth;
use http::Request;
use tower_layer::Layer;
use tower_service::Service;

/// Makes the extractors work in all routes below it. Routes without an extractor cost nothing.
#[derive(Clone, Debug)]
pub struct AuthLayer {
    auth: Auth,
}

impl AuthLayer {
    /// A layer for this [`Auth`].
    #[must_use]
    pub fn new(auth: Auth) -> Self {
        Self { auth }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = WithAuth<S>;

    fn layer(&self, inner: S) -> WithAuth<S> {
        WithAuth { inner, auth: self.auth.clone() }
    }
}

/// The service that [`AuthLayer`] makes.
#[derive(Clone, Debug)]
pub struct WithAuth<S> {
    inner: S,
    auth: Auth,
}

impl<S, B> Service<Request<B>> for WithAuth<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        request.extensions_mut().insert(self.auth.clone());
        self.inner.call(request)
    }
}
