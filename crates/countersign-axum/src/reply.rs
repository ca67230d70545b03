//! Answers as axum responses.

use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use countersign_http::{Answer, Auth, AuthError, ErrorCode, Requirement, SetCookies};
use http::request::Parts;

/// An [`Answer`] as an axum response.
///
/// ```
/// use axum::response::IntoResponse as _;
/// use countersign_axum::Reply;
/// use countersign_http::ErrorCode;
///
/// /// A handler's `Result<_, Reply>` takes the errors of sessions and accounts by `?`, and answers of its own.
/// async fn report(found: Option<&'static str>) -> Result<&'static str, Reply> {
///     found.ok_or_else(|| Reply::error(ErrorCode::NotFound))
/// }
/// # #[tokio::main]
/// # async fn main() {
/// assert_eq!(report(None).await.into_response().status(), 404);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Reply(pub Answer);

impl Reply {
    /// The refusal with this code, such as a handler's own 401 `invalid_credentials`.
    #[must_use]
    pub fn error(code: ErrorCode) -> Self {
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
///
/// ```
/// use axum::response::{IntoResponse, Redirect};
/// use axum::{Extension, Router, routing::post};
/// use countersign_axum::{AccessToken, Auth, AuthLayer, Reply, WithCookies};
/// # use axum::{body::Body, http::Request};
/// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
/// # use countersign_jwt::{Epoch, UserId};
/// # use countersign_testkit::TestBed;
/// # use tower::ServiceExt as _;
///
/// async fn sign_out(token: AccessToken, Extension(auth): Extension<Auth>) -> Result<impl IntoResponse, Reply> {
///     Ok((WithCookies(auth.sign_out(&token).await?), Redirect::to("/")))
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let auth = countersign_axum::Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
/// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
/// # let pair = auth.sessions().begin(user, epoch, Presentation::Explicit, Device::default()).await?;
/// let app: Router = Router::new().route("/sign-out", post(sign_out)).layer(AuthLayer::new(auth));
/// let request = Request::post("/sign-out").header("authorization", format!("Bearer {}", pair.access_token));
/// let answer = app.oneshot(request.body(Body::empty())?).await?;
/// assert_eq!(answer.status(), 303);
/// assert!(answer.headers()["set-cookie"].to_str()?.contains("Max-Age=0"), "the browser forgets them");
/// # Ok(())
/// # }
/// ```
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
///
/// ```
/// use axum::response::{IntoResponse as _, Redirect, Response};
/// use axum::{Router, routing::get};
/// use countersign_axum::{AccessToken, AuthLayer, AuthRejection};
/// # use axum::{body::Body, http::Request};
/// # use countersign_core::store::MemoryStore;
/// # use countersign_testkit::TestBed;
/// # use tower::ServiceExt as _;
/// # use countersign_http::AuthError;
///
/// /// Sends a stranger to the sign-in page; every other refusal is answered as ever.
/// async fn page(token: Result<AccessToken, AuthRejection>) -> Response {
///     match token {
///         Ok(token) => format!("hello {}", token.subject()).into_response(),
///         Err(refused) if matches!(refused.error(), Some(AuthError::Missing)) => {
///             Redirect::to("/sign-in").into_response()
///         }
///         Err(refused) => refused.into_response(),
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let auth = countersign_axum::Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
/// let app: Router = Router::new().route("/", get(page)).layer(AuthLayer::new(auth));
/// let answer = app.oneshot(Request::get("/").body(Body::empty())?).await?;
/// assert_eq!(answer.headers()["location"], "/sign-in");
/// # Ok(())
/// # }
/// ```
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
