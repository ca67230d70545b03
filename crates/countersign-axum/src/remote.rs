//! Tokens of other issuers.

use std::ops::Deref;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use countersign_http::remote::{RemoteAuthError, RemoteClaims, RemoteIssuers};
use countersign_http::{Answer, ErrorCode};
use http::request::Parts;

use crate::reply::Reply;

/// A verified token of a configured issuer, from the `Authorization` header. A request without one is refused.
///
/// The issuers are installed as an extension. The extractor needs neither an [`AuthLayer`](crate::AuthLayer) nor a
/// session.
///
/// ```
/// use axum::{Extension, Router, routing::get};
/// use countersign_axum::RemoteToken;
/// use countersign_http::remote::{RemoteIssuer, RemoteIssuers};
///
/// async fn hello(token: RemoteToken) -> String {
///     format!("hello {} of {}", token.subject(), token.issuer())
/// }
///
/// let realm = RemoteIssuer::keycloak("https://sso.example.com/realms/staff").audience("orders");
/// let app: Router =
///     Router::new().route("/hello", get(hello)).layer(Extension(RemoteIssuers::new([realm])?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RemoteToken(pub RemoteClaims);

/// Why [`RemoteToken`] refused a request. As a response, it is the answer that the client gets.
#[derive(Debug)]
pub struct RemoteRejection {
    reply: Reply,
    error: Option<RemoteAuthError>,
}

impl RemoteRejection {
    /// The cause; `None` if no issuers are installed.
    #[must_use]
    pub fn error(&self) -> Option<&RemoteAuthError> {
        self.error.as_ref()
    }

    /// The answer that the client gets.
    #[must_use]
    pub fn answer(&self) -> &Answer {
        &self.reply.0
    }
}

impl IntoResponse for RemoteRejection {
    fn into_response(self) -> Response {
        self.reply.into_response()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RemoteToken {
    type Rejection = RemoteRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, RemoteRejection> {
        let Some(issuers) = parts.extensions.get::<RemoteIssuers>().cloned() else {
            tracing::error!(
                "a handler takes a RemoteToken, but no issuers are installed; add `.layer(Extension(issuers))` to the \
                 router, after its routes"
            );
            return Err(RemoteRejection { reply: Reply::error(ErrorCode::InternalError), error: None });
        };
        issuers.authenticate(&parts.headers).await.map(Self).map_err(|error| {
            tracing::debug!(%error, "token of another issuer refused");
            RemoteRejection { reply: Reply(issuers.answer(&error)), error: Some(error) }
        })
    }
}

impl Deref for RemoteToken {
    type Target = RemoteClaims;

    fn deref(&self) -> &RemoteClaims {
        &self.0
    }
}
