//! The hooks by which an application extends the rules. The default of each adds nothing.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use countersign_core::store::BoxError;
use countersign_jwt::Claims;
use http::request::Parts;
use http::{HeaderMap, Method, Uri};

use crate::answer::{Answer, ErrorCode};

/// A request that was refused, and the answer that it gets unless the application gives another one.
#[derive(Clone)]
#[non_exhaustive]
pub struct RefusedRequest {
    /// The standard code that the client learns.
    pub code: ErrorCode,
    /// The default answer. Keep its headers, such as `WWW-Authenticate`, in an answer of your own.
    pub answer: Answer,
    /// The request's method.
    pub method: Method,
    /// The request's URI.
    pub uri: Uri,
    /// The request's headers, which hold its credentials.
    pub headers: HeaderMap,
}

/// Omits the request's credentials.
impl fmt::Debug for RefusedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusedRequest")
            .field("code", &self.code)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
pub(crate) type Check = Arc<dyn Fn(Claims) -> Boxed<Result<bool, BoxError>> + Send + Sync>;
pub(crate) type Answering = Arc<dyn Fn(RefusedRequest) -> Boxed<Answer> + Send + Sync>;

/// The application's hooks.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) is_revoked: Option<Check>,
    pub(crate) accepts: Option<Check>,
    pub(crate) answer: Option<Answering>,
}

impl Hooks {
    pub(crate) async fn answer(&self, code: ErrorCode, parts: &Parts, answer: Answer) -> Answer {
        let Some(hook) = &self.answer else { return answer };
        let Parts { method, uri, headers, .. } = parts;
        hook(RefusedRequest {
            code,
            answer,
            method: method.clone(),
            uri: uri.clone(),
            headers: headers.clone(),
        })
        .await
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("is_revoked", &self.is_revoked.is_some())
            .field("accepts", &self.accepts.is_some())
            .field("answer", &self.answer.is_some())
            .finish()
    }
}

pub(crate) fn check<E, F, Checking>(check: F) -> Check
where
    E: Into<BoxError>,
    F: Fn(Claims) -> Checking + Send + Sync + 'static,
    Checking: Future<Output = Result<bool, E>> + Send + 'static,
{
    Arc::new(move |claims| {
        let checking = check(claims);
        Box::pin(async move { checking.await.map_err(Into::into) })
    })
}
