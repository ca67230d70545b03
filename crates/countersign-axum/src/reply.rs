//! Answers as axum responses.

use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use countersign_http::{Answer, Auth, AuthError, ErrorCode, Requirement, SetCookies};
use http::request::Parts;

/// An [`Answer`] as an axum response.
#[derive(Clone, Debug)]
pub struct Reply(pub Answer);

impl Reply {
    /// The refusal with this code.
    pub(crate) fn error(code: ErrorCode) -> Self {
        Self(Answer::error(code))
    }
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self(answer)
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        http::Response::<bytes::Bytes>::from(self.0).map(axum::body::Body::from)
    }
}

/// [`SetCookies`] as a part of an axum response: `(WithCookies(auth.set_cookies(&pair)), Redirect::to("/"))`.
#[derive(Clone, Debug)]
pub struct WithCookies(pub SetCookies);

impl IntoResponseParts for WithCookies {
    type Error = Response;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Response> {
        match self.0.apply(parts.headers_mut()) {
            Ok(()) => Ok(parts),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cookies could not be set");
                Err(Reply::error(ErrorCode::InternalError).into_response())
            }
        }
    }
}

impl IntoResponse for WithCookies {
    fn into_response(self) -> Response {
        (self, ()).into_response()
    }
}

/// Why a guard or an extractor refused a request. As a response, it is the answer that the client gets.
#[derive(Debug)]
pub struct AuthRejection {
    reply: Reply,
    /// Boxed, because every handler's arguments carry room for a rejection.
    error: Option<Box<AuthError>>,
}

impl AuthRejection {
    pub(crate) async fn new(
        auth: &Auth,
        parts: &Parts,
        requirement: Option<&Requirement>,
        error: AuthError,
    ) -> Self {
        // The future is boxed, so that requests that are let through reserve no memory for a refusal.
        let answer = Box::pin(auth.refuse(parts, requirement, &error)).await;
        Self { reply: Reply(answer), error: Some(Box::new(error)) }
    }

    /// The refusal when the layer is missing, which is a defect of the program and is logged as such.
    pub(crate) fn not_installed(who: &'static str) -> Self {
        tracing::error!(
            "{who}, but AuthLayer is not installed; add `.layer(AuthLayer::new(auth))` to the router, after its \
             routes and their guards"
        );
        Self { reply: Reply::error(ErrorCode::InternalError), error: None }
    }

    /// A refusal whose answer is finished and whose cause has been logged.
    #[must_use]
    pub fn answered(answer: Answer) -> Self {
        Self { reply: Reply(answer), error: None }
    }

    /// The cause; `None` if the layer is missing or a gate has refused.
    #[must_use]
    pub fn error(&self) -> Option<&AuthError> {
        self.error.as_deref()
    }

    /// The answer that the client gets.
    #[must_use]
    pub fn answer(&self) -> &Answer {
        &self.reply.0
    }
}

impl IntoResponse for AuthRejection {
    fn into_response(self) -> Response {
        self.reply.into_response()
    }
}
