//! The router: the library's ready-made routes, and what a server adds.

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use countersign_axum::{Auth, AuthLayer, Reply, method_not_allowed, not_found, routes};
use countersign_core::{UserId, random};
use countersign_http::{AllowedOrigins, Answer, CSRF_HEADER, ErrorCode, OsRandom};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::home::{CONTRACT_PATH, ShownOrigin, contract, home};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The whole server as one router.
pub(crate) fn app(auth: Auth, shown_origin: ShownOrigin, allowed_origins: &AllowedOrigins) -> Router {
    let app = Router::new()
        .route("/", get(home).with_state(shown_origin))
        .route(CONTRACT_PATH, get(contract))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz).with_state(auth.clone()))
        .merge(routes())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(AuthLayer::new(auth))
        .layer(CatchPanicLayer::custom(panicked));
    match cors(allowed_origins) {
        Some(cors) => app.layer(cors),
        None => app,
    }
    .layer(middleware::from_fn(observe))
}

/// Gives every request an id, which every answer and log line carries, and logs how it was answered. Paths are
/// logged, query strings and headers never.
async fn observe(request: Request, next: Next) -> Response {
    let id = request_id(request.headers().get(REQUEST_ID));
    let span = tracing::info_span!("request", id = %id.to_str().unwrap_or_default());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    async move {
        let mut response = next.run(request).await;
        tracing::info!(%method, path = path.escape_debug().to_string(), status = response.status().as_u16(), "answered");
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }
    .instrument(span)
    .await
}

/// The id that a proxy has given the request, if it is short and plain, else a new one.
fn request_id(given: Option<&HeaderValue>) -> HeaderValue {
    let plain = |id: &&HeaderValue| {
        (1..=64).contains(&id.len())
            && id.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    if let Some(id) = given.filter(plain) {
        return id.clone();
    }
    let id = random::uuid(&OsRandom).unwrap_or(Uuid::nil());
    HeaderValue::from_str(&id.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
}

/// CORS for the allowed origins; none without any.
fn cors(allowed: &AllowedOrigins) -> Option<CorsLayer> {
    if allowed.is_empty() {
        return None;
    }
    let origins = allowed.iter().filter_map(|origin| HeaderValue::from_str(&origin.to_string()).ok());
    Some(
        CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_credentials(true)
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
            .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, CSRF_HEADER, REQUEST_ID])
            .expose_headers([REQUEST_ID, header::RETRY_AFTER, header::WWW_AUTHENTICATE])
            .max_age(Duration::from_secs(600)),
    )
}

/// A defect of ours ends one request, not the server. What panicked is in the log already, by the panic hook.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a handler panicked");
    Reply(Answer::error(ErrorCode::InternalError)).into_response()
}

#[derive(serde::Serialize)]
struct Status {
    status: &'static str,
}

async fn healthz() -> Response {
    status_ok()
}

/// Ready: the store answers, and this node's view of the revocation log is young enough.
async fn readyz(State(auth): State<Auth>) -> Response {
    let nobody = UserId::from(Uuid::nil());
    if let Err(error) = auth.sessions().epoch(&nobody).await {
        tracing::error!(error = &error as &dyn std::error::Error, "not ready");
        return Reply(Answer::error(ErrorCode::Unavailable)).into_response();
    }
    if let Err(error) = auth.sessions().view().ensure_fresh().await {
        tracing::error!(error = &error as &dyn std::error::Error, "not ready");
        return Reply(Answer::error(ErrorCode::Unavailable)).into_response();
    }
    status_ok()
}

fn status_ok() -> Response {
    match Answer::json(StatusCode::OK, &Status { status: "ok" }) {
        Ok(answer) => Reply(answer).into_response(),
        Err(_) => Reply(Answer::error(ErrorCode::InternalError)).into_response(),
    }
}
