//! The router: the library's ready-made routes, and the routes and layers that a server adds.

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use countersign_axum::{
    Auth, AuthLayer, Reply, account_routes, method_not_allowed, not_found, routes, standard_routes,
};
use countersign_http::{
    AllowedOrigins, Answer, CSRF_HEADER, ClientAddress, ErrorCode, OsRandom, TrustedProxies, shown_in_log,
};
use countersign_jwt::random;
use countersign_pages::{Pages, error_pages};
use http::{HeaderName, HeaderValue, Method, header};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::api_page::{self, ApiPage};
use crate::home::{CONTRACT_PATH, ShownOrigin, contract, home};
use crate::metrics::{Requests, measure};
use crate::openapi::{self, Served};
use crate::operator::Operator;
use crate::readiness::{Readiness, healthz, readyz};
use crate::whoami::{self, whoami};
use crate::{admin, host, traces};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// A year, as RFC 6797 §11.2 advises against less, and for sub-domains too, whose pages could otherwise set cookies over
/// plain http (SEC-073).
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000; includeSubDomains");

/// What the router has to know of the way to the server.
#[derive(Debug)]
pub(crate) struct Way<'a> {
    /// The URL of the server, as pages show it.
    pub(crate) shown_origin: ShownOrigin,
    /// Whether the public URL is https, so that browsers are to use nothing else.
    pub(crate) is_https: bool,
    pub(crate) allowed_origins: &'a AllowedOrigins,
    pub(crate) proxies: TrustedProxies,
    /// The pages for people, if there are any.
    pub(crate) pages: Option<Pages>,
    /// The counters of requests, if there are metrics.
    pub(crate) requests: Option<Requests>,
    /// Whether the rules are this server's own, and not those of a Flask library.
    pub(crate) is_native: bool,
    /// Whether there is a page to try the API.
    pub(crate) api_page: bool,
}

/// The whole server as one router.
pub(crate) fn app(auth: Auth, way: Way<'_>) -> Router {
    let routes = Router::new()
        .route("/", get(home).with_state((way.shown_origin.clone(), way.pages.clone())))
        .route(whoami::PATH, get(whoami).with_state(way.proxies.clone()))
        .route(CONTRACT_PATH, get(contract))
        .route(openapi::PATH, get(openapi::serve).with_state(described(&auth, &way)))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz).with_state(Readiness::of(&auth)))
        .merge(routes())
        .merge(standard_routes())
        .merge(account_routes());
    #[cfg(feature = "flask")]
    let routes = routes.merge(countersign_flask::axum::login_routes(&auth));
    let routes = match &way.pages {
        Some(pages) => routes.merge(pages.router()),
        None => routes,
    };
    let routes = match way.api_page {
        true => routes.route(api_page::PATH, get(api_page::serve).with_state(ApiPage::new())),
        false => routes,
    };
    around(routes, auth, &way)
}

/// The document of the routes of [`app`].
fn described(auth: &Auth, way: &Way<'_>) -> Served {
    if !way.is_native {
        return Served::OtherRules;
    }
    Served::new(&openapi::users(auth, &way.shown_origin))
}

/// Adds what all routes have in common.
fn around(routes: Router, auth: Auth, way: &Way<'_>) -> Router {
    let app = routes
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(AuthLayer::new(auth))
        .layer(CatchPanicLayer::custom(panicked));
    let app = match cors(way.allowed_origins) {
        Some(cors) => app.layer(cors),
        None => app,
    }
    .layer(middleware::from_fn_with_state(way.is_https, observe));
    let app = counted(app, way.requests.clone());
    match &way.pages {
        Some(pages) => app.layer(middleware::from_fn_with_state(pages.clone(), error_pages)),
        None => app,
    }
}

/// The admin API as a router of its own: without cookies, CORS and the routes of users.
pub(crate) fn admin_app(operator: Operator, requests: Option<Requests>) -> Router {
    let app = admin::routes(operator)
        .route(openapi::PATH, get(openapi::serve).with_state(Served::new(&openapi::admin())))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(false, observe));
    counted(app, requests)
}

/// Counts the requests of these routes, if there are metrics.
fn counted(app: Router, requests: Option<Requests>) -> Router {
    match requests {
        Some(requests) => app.layer(middleware::from_fn_with_state(requests, measure)),
        None => app,
    }
}

/// Gives every request an id, which its answer and its log lines carry. Refuses requests that are addressed to no host
/// or to several. Tells browsers to come by https alone, where that is how they come. Logs who was answered and how: the
/// path, cut if it is long, but never the query string or headers.
async fn observe(State(is_https): State<bool>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers().get(REQUEST_ID));
    // At the highest level, because a span below the level of the log is none: a warning would be without its id.
    let span = tracing::error_span!("request", id = %id.to_str().unwrap_or_default());
    let (method, path) = (shown_in_log(request.method().as_str()), shown_in_log(request.uri().path()));
    let client = request.extensions().get::<ClientAddress>().map(|client| client.address());
    traces::begin(&span, &request);
    let traced = span.clone();
    async move {
        let refusal = host::refusal(request.version(), request.uri(), request.headers());
        let mut response = match refusal {
            None => next.run(request).await,
            Some(why) => Reply(Answer::error_with(ErrorCode::InvalidRequest, why)).into_response(),
        };
        let client = client.map(tracing::field::display);
        tracing::info!(client, method, path, status = response.status().as_u16(), "answered");
        traces::end(&traced, response.status());
        response.headers_mut().insert(REQUEST_ID, id);
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NO_SNIFF);
        if is_https {
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
        }
        response
    }
    .instrument(span)
    .await
}

/// The id that a proxy has given the request, if it is short and plain; otherwise a new one.
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

/// CORS for the allowed origins. `None` if there are no allowed origins.
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

/// Answers a request whose handler panicked: a defect of this program ends one request, not the server. The panic hook
/// has already logged the cause.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a handler panicked");
    Reply(Answer::error(ErrorCode::InternalError)).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use countersign_core::store::MemoryStore;
    use countersign_testkit::{FixedClock, Instrumented, TestBed};
    use http::StatusCode;
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    use super::*;

    struct Node {
        router: Router,
        stores: Instrumented,
        clock: Arc<FixedClock>,
    }

    impl Node {
        async fn new() -> Self {
            let stores = Instrumented::new(MemoryStore::new());
            let clock = Arc::new(FixedClock::default());
            let auth = Auth::builder(stores.stores(), TestBed::secrets()).clock(clock.clone());
            let auth = auth.without_background().build().await.unwrap();
            let none = AllowedOrigins::default();
            let way = || Way {
                shown_origin: ShownOrigin("http://127.0.0.1:1".to_owned()),
                is_https: false,
                allowed_origins: &none,
                proxies: TrustedProxies::default(),
                pages: None,
                requests: None,
                is_native: true,
                api_page: false,
            };
            let panicking = Router::new().route("/panic", get(panic_now));
            let router = app(auth.clone(), way()).fallback_service(around(panicking, auth, &way()));
            Self { router, stores, clock }
        }

        async fn get(&self, path: &str) -> (StatusCode, http::HeaderMap, Value) {
            let request = Request::get(path).header("host", "localhost").body(Body::empty()).unwrap();
            let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            (parts.status, parts.headers, serde_json::from_slice(&body).unwrap())
        }
    }

    async fn panic_now() {
        panic!("canary")
    }

    #[tokio::test]
    async fn sec_149_a_panic_is_a_500_for_one_request_and_the_server_goes_on() {
        let node = Node::new().await;
        for _ in 0..3 {
            let (status, headers, body) = node.get("/panic").await;
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(body["error"], "internal_error");
            assert!(headers.contains_key(REQUEST_ID) && !body.to_string().contains("canary"), "{body}");
            assert_eq!(node.get("/healthz").await.0, StatusCode::OK);
        }
    }

    #[tokio::test]
    async fn readyz_follows_the_store_and_healthz_does_not() {
        let node = Node::new().await;
        assert_eq!(node.get("/readyz").await.0, StatusCode::OK);
        node.stores.fail(true);
        let (status, headers, body) = node.get("/readyz").await;
        assert_eq!((status, &body["error"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("unavailable")));
        assert_eq!(body["not_ready"], json!(["store"]), "and not why: {body}");
        assert!(headers.contains_key(header::RETRY_AFTER));
        assert_eq!(node.get("/healthz").await.0, StatusCode::OK);
        node.stores.fail(false);
        assert_eq!(node.get("/readyz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn readyz_says_503_while_the_view_of_the_log_is_too_old() {
        let node = Node::new().await;
        node.clock.advance(Duration::from_secs(6));
        // The first two operations read the epoch and the account of nobody; the next one is the log's.
        node.stores.fail_once_after(2);
        let (status, _, body) = node.get("/readyz").await;
        assert_eq!((status, &body["not_ready"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(["revocations"])));
        assert_eq!(node.get("/readyz").await.0, StatusCode::OK, "it read the log again");
    }
}
