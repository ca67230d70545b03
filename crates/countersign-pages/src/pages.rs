//! The pages as a router.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::Next as Inner;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use countersign_axum::{Auth, AuthLayer};
use countersign_http::OsRandom;
use countersign_jwt::Random;
use http::{HeaderMap, HeaderValue, Method, header};

use crate::blank::Blanks;
use crate::failure::Failure;
use crate::look::{Asset, Look};
use crate::routes::{account, code, credentials, errors, home, language, sign_in, sign_out, verify};
use crate::templates::Templates;
use crate::visit::{Visit, secure};

/// The pages, and what an operator decides about them. Cheap to clone.
///
/// ```
/// use axum::Router;
/// use countersign_axum::Auth;
/// use countersign_pages::{Look, Pages};
/// # use axum::{body::Body, http::Request};
/// # use countersign_core::store::MemoryStore;
/// # use countersign_testkit::TestBed;
/// # use tower::ServiceExt as _;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let auth = Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
/// let look = Look { name: Some("Example".to_owned()), colour: "#0a7d4f".parse()?, ..Look::default() };
/// let pages = Pages::new(auth).look(look);
/// let app: Router = Router::new().merge(pages.router());
///
/// let answer = app.oneshot(Request::get("/sign-in").body(Body::empty())?).await?;
/// let page = axum::body::to_bytes(answer.into_body(), 100_000).await?;
/// assert!(std::str::from_utf8(&page)?.contains("Example</title>"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pages {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) auth: Auth,
    pub(crate) words: Arc<ArcSwap<Words>>,
    pub(crate) site: String,
    pub(crate) base: String,
    pub(crate) style: Asset,
    pub(crate) logo: Asset,
    pub(crate) is_local: bool,
    pub(crate) random: Arc<dyn Random>,
}

/// The templates and texts, and the pages that were rendered of them so far.
pub(crate) struct Words {
    pub(crate) templates: Templates,
    pub(crate) blanks: Blanks,
}

impl Words {
    fn of(templates: Templates) -> Self {
        Self { templates, blanks: Blanks::default() }
    }
}

/// The pages with the default look. [`Pages`] decides more.
///
/// ```
/// use axum::{Router, routing::get};
/// use countersign_axum::{AccessToken, Auth, AuthLayer};
/// # use axum::{body::Body, http::Request};
/// # use countersign_core::store::MemoryStore;
/// # use countersign_testkit::TestBed;
/// # use tower::ServiceExt as _;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let auth = Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
/// let app: Router = Router::new()
///     .route("/hello", get(async |token: AccessToken| format!("hello {}", token.subject())))
///     .layer(AuthLayer::new(auth.clone()))
///     .merge(countersign_pages::router(auth));
///
/// let answer = app.oneshot(Request::get("/register").body(Body::empty())?).await?;
/// assert_eq!(answer.status(), 200);
/// # Ok(())
/// # }
/// ```
pub fn router<S: Clone + Send + Sync + 'static>(auth: Auth) -> Router<S> {
    Pages::new(auth).router()
}

impl Pages {
    /// Pages with the default look, at the root of their origin.
    #[must_use]
    pub fn new(auth: Auth) -> Self {
        let look = Look::default();
        let shared = Shared {
            auth,
            words: Arc::new(ArcSwap::from_pointee(Words::of(Templates::built_in()))),
            site: DEFAULT_NAME.to_owned(),
            base: String::new(),
            style: Asset::style(look.colour),
            logo: Asset::logo(None, look.colour),
            is_local: false,
            random: Arc::new(OsRandom),
        };
        Self { shared: Arc::new(shared) }
    }

    fn with(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        let shared = Arc::make_mut(&mut self.shared);
        change(shared);
        // What was rendered so far may look otherwise now, and what other pages say is not theirs.
        let templates = shared.words.load().templates.clone();
        shared.words = Arc::new(ArcSwap::from_pointee(Words::of(templates)));
        self
    }

    /// What pages call the site, in place of "Countersign". [`Pages::look`] sets it too.
    #[must_use]
    pub fn site_name(self, name: &str) -> Self {
        let name = name.trim().to_owned();
        self.with(|shared| {
            if !name.is_empty() {
                shared.site = name;
            }
        })
    }

    /// Sets name, logo and colour.
    #[must_use]
    pub fn look(self, look: Look) -> Self {
        let Look { name, logo, colour } = look;
        self.with(|shared| {
            let name = name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
            shared.site = name.unwrap_or_else(|| DEFAULT_NAME.to_owned());
            shared.style = Asset::style(colour);
            shared.logo = Asset::logo(logo.as_ref(), colour);
        })
    }

    /// Takes these templates and texts in place of the built-in ones.
    #[must_use]
    pub fn templates(self, templates: Templates) -> Self {
        self.with(|shared| shared.words.store(Arc::new(Words::of(templates))))
    }

    /// Takes these templates and texts from now on, also in routers that were made of these pages before. For a program
    /// that reads its files again while it runs.
    pub fn renew_templates(&self, templates: Templates) {
        self.shared.words.store(Arc::new(Words::of(templates)));
    }

    /// Says under which path browsers reach the pages, if a proxy or [`Router::nest`] puts them there: `/accounts` for
    /// `/accounts/sign-in`.
    #[must_use]
    pub fn below(self, path: &str) -> Self {
        self.with(|shared| {
            let path = path.trim_matches('/');
            shared.base = if path.is_empty() { String::new() } else { format!("/{path}") };
        })
    }

    /// Says that only this machine reaches the program. The first page then tells the developer who has just started it
    /// where to read on.
    #[must_use]
    pub fn local(self, is_local: bool) -> Self {
        self.with(|shared| shared.is_local = is_local)
    }

    /// Takes randomness from this source, for tests.
    #[must_use]
    pub fn random(self, random: Arc<dyn Random>) -> Self {
        self.with(|shared| shared.random = random)
    }

    /// The routes of all pages but the first one, `/`, which [`Pages::home`] answers. An [`AuthLayer`] is around them
    /// already.
    pub fn router<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let shared = &self.shared;
        let mut router = Router::new()
            .route("/register", get(sign_in::register_form).post(sign_in::register))
            .route("/sign-in", get(sign_in::form).post(sign_in::submit))
            .route("/code", get(code::form).post(code::submit))
            .route("/confirm", get(credentials::confirm_form).post(credentials::confirm))
            .route("/account", get(account::overview))
            .route("/account/email", get(account::email_form).post(account::email))
            .route("/account/username", get(account::username_form).post(account::username))
            .route("/account/password", get(credentials::password_form).post(credentials::password))
            .route("/account/language", get(account::language_form).post(account::language))
            .route("/account/close", get(account::close_form).post(account::close))
            .route("/account/sessions", post(account::end_sessions))
            .route("/account/verify", post(verify::send_again))
            .route("/verify", get(verify::form).post(verify::submit))
            .route("/forgot", get(credentials::forgot_form).post(credentials::forgot))
            .route("/reset", get(credentials::reset_form).post(credentials::reset))
            .route("/invite", get(credentials::invite_form).post(credentials::invite))
            .route("/sign-out", post(sign_out::submit))
            .route("/signed-out", get(sign_out::done))
            .route("/language", post(language::choose))
            .method_not_allowed_fallback(errors::method_not_allowed);
        for asset in [&shared.style, &shared.logo] {
            let served = asset.clone();
            router = router.route(&asset.path, get(async move || serve(&served)));
        }
        router.with_state(self.clone()).layer(AuthLayer::new(shared.auth.clone()))
    }

    /// The first page: it invites to register or sign in, and leads those who are signed in to their account.
    pub async fn home(State(pages): State<Self>, request: Request) -> Response {
        home::page(pages, request).await
    }

    /// The page for a path that does not exist, for a program's `fallback`.
    pub async fn not_found(State(pages): State<Self>, request: Request) -> Response {
        errors::not_found(State(pages), request).await
    }

    /// Whether a client would rather have a page than JSON: it names HTML and does not name JSON before it.
    #[must_use]
    pub fn are_wanted(headers: &HeaderMap) -> bool {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let position = |wanted: &str| accept.split(',').position(|range| range.trim().starts_with(wanted));
        match (position("text/html"), position("application/json")) {
            (Some(html), Some(json)) => html < json,
            (html, _) => html.is_some(),
        }
    }
}

/// A middleware that turns refusals in JSON into error pages for clients that want pages, outside of `/v1` and
/// `/.well-known`.
///
/// ```
/// use axum::{Router, middleware};
/// use countersign_axum::{Auth, not_found};
/// use countersign_pages::{Pages, error_pages};
/// # use axum::{body::Body, http::Request};
/// # use countersign_core::store::MemoryStore;
/// # use countersign_testkit::TestBed;
/// # use tower::ServiceExt as _;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let auth = Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
/// let pages = Pages::new(auth);
/// let app: Router = pages
///     .router()
///     .fallback(not_found)
///     .layer(middleware::from_fn_with_state(pages, error_pages));
///
/// let request = Request::get("/nowhere").header("accept", "text/html").body(Body::empty())?;
/// let answer = app.clone().oneshot(request).await?;
/// assert_eq!((answer.status().as_u16(), &answer.headers()["content-type"]), (404, &"text/html; charset=utf-8".parse()?));
/// let answer = app.oneshot(Request::get("/nowhere").body(Body::empty())?).await?;
/// assert_eq!(answer.headers()["content-type"], "application/json");
/// # Ok(())
/// # }
/// ```
pub async fn error_pages(State(pages): State<Pages>, request: Request, inner: Inner) -> Response {
    let path = request.uri().path();
    let is_for_programs = path.starts_with("/v1/") || path.starts_with("/.well-known/");
    if is_for_programs || !Pages::are_wanted(request.headers()) {
        return inner.run(request).await;
    }
    let (head, body) = request.into_parts();
    let mut kept = http::Request::new(axum::body::Body::empty());
    *kept.headers_mut() = head.headers.clone();
    *kept.uri_mut() = head.uri.clone();
    let answer = inner.run(Request::from_parts(head, body)).await;
    let is_json = answer
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|media_type| media_type.as_bytes().starts_with(b"application/json"));
    let status = answer.status();
    if !is_json || !(status.is_client_error() || status.is_server_error()) {
        return answer;
    }
    *kept.method_mut() = Method::GET;
    let retry_after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|value| value.parse().ok()).map(Duration::from_secs);
    let visit = Visit::of_nobody(pages, kept);
    let mut page = visit.fail(Failure::of(status, retry_after));
    // What the refusal says by its header fields, its challenge and its cookies among them, stays.
    let headers = page.headers_mut();
    for (name, value) in answer.headers() {
        if name == header::SET_COOKIE {
            headers.append(name, value.clone());
        } else if !headers.contains_key(name) && name != header::CONTENT_LENGTH {
            headers.insert(name, value.clone());
        }
    }
    page
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").field("site", &self.shared.site).finish_non_exhaustive()
    }
}

/// A file that may be kept for good. A logo in SVG could contain scripts, which its policy keeps from running where
/// somebody opens it by itself.
fn serve(asset: &Asset) -> Response {
    let mut response = asset.bytes.clone().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    secure(headers);
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'",
        ),
    );
    response
}

const DEFAULT_NAME: &str = "Countersign";
