//! A pretend application around the real routes: [`TestApp`].

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use countersign_axum::{
    AccessToken, Auth, AuthBuilder, AuthLayer, CurrentUser, Fresh, RefreshToken, account_routes,
    method_not_allowed, not_found, routes,
};
use countersign_core::store::{MemoryStore, SessionPage};
use countersign_http::BuildError;
use countersign_jwt::{Clock as _, SessionId, UserId};
use countersign_testkit::{FixedClock, Instrumented, RecordedEvents, SeededRandom, TestBed};
use serde_json::json;
use url::Url;

use crate::client::{Client, Response};
use crate::log;

/// Where the application says it is.
pub const OWN: &str = "https://app.example.com";
/// An origin that it allows beside its own.
pub const ALLOWED: &str = "https://admin.example.com";

/// A password; whoever writes it to the log fails the test ([`log`]).
pub const PASSWORD: &str = "canary-secret: battery staple";

/// An application with the ready-made routes and a few of its own, and everything around it in the test's hands.
#[derive(Clone, Debug)]
pub struct TestApp {
    /// The authentication of the application.
    pub auth: Auth,
    /// The store, which counts its calls and can be made to fail.
    pub store: Instrumented,
    /// The clock, which stands still until it is moved.
    pub clock: Arc<FixedClock>,
    /// The events so far.
    pub events: Arc<RecordedEvents>,
    router: Router,
}

impl TestApp {
    /// An application with the default settings.
    pub async fn new() -> Self {
        Self::with(|builder| builder).await
    }

    /// The same, with other settings.
    pub async fn with(configure: impl FnOnce(AuthBuilder) -> AuthBuilder) -> Self {
        let store = Instrumented::new(MemoryStore::new());
        Self::node(store, Arc::new(FixedClock::default()), configure).await.unwrap()
    }

    /// The same, where the settings may be wrong.
    pub async fn try_with(configure: impl FnOnce(AuthBuilder) -> AuthBuilder) -> Result<Self, BuildError> {
        let store = Instrumented::new(MemoryStore::new());
        Self::node(store, Arc::new(FixedClock::default()), configure).await
    }

    /// Another program on the same store, whose settings may be wrong.
    pub async fn beside(
        &self,
        configure: impl FnOnce(AuthBuilder) -> AuthBuilder,
    ) -> Result<Self, BuildError> {
        // Another program makes ids of its own.
        let random = SeededRandom::new(0xbe51de);
        Self::node(self.store.clone(), self.clock.clone(), |builder| {
            configure(builder.random(Arc::new(random)))
        })
        .await
    }

    async fn node(
        store: Instrumented,
        clock: Arc<FixedClock>,
        configure: impl FnOnce(AuthBuilder) -> AuthBuilder,
    ) -> Result<Self, BuildError> {
        log::install();
        let events = Arc::new(RecordedEvents::default());
        let builder = Auth::builder(store.stores(), TestBed::secrets())
            .mails_within(Duration::ZERO)
            .public_url(Url::parse(OWN).unwrap())
            .allowed_origins(ALLOWED.parse().unwrap())
            .hash_permits(NonZeroUsize::new(2).unwrap())
            .clock(clock.clone())
            .random(Arc::new(SeededRandom::default()))
            .events(events.clone())
            .without_background();
        let auth = configure(builder).build().await?;
        store.reset_calls();
        let router = router(&auth, Router::new());
        Ok(Self { auth, store, clock, events, router })
    }

    /// The same application with more routes.
    #[must_use]
    pub fn with_routes(self, more: Router) -> Self {
        Self { router: router(&self.auth, more), ..self }
    }

    /// A client that keeps cookies, as a browser does, but says nothing about where its requests come from.
    pub fn client(&self) -> Client {
        Client::new(self.router.clone())
    }

    /// A browser on a page of ours: same-origin, with cookies.
    pub fn browser(&self) -> Client {
        self.client().with("sec-fetch-site", "same-origin")
    }

    /// Registers `name` with the address `name@example.org` and [`PASSWORD`], and answers with the pair's body.
    pub async fn register(&self, name: &str) -> Account {
        let reply = self.client().post("/v1/auth/register", &credentials(name)).await;
        assert_eq!(reply.status(), 201, "{reply:?}");
        Account::of(&reply)
    }

    /// Logs in once more, from a client of its own.
    pub async fn login(&self, name: &str) -> Account {
        let body = json!({ "username": name, "password": PASSWORD });
        let reply = self.client().post("/v1/auth/login", &body).await;
        assert_eq!(reply.status(), 200, "{reply:?}");
        Account::of(&reply)
    }

    /// A browser in which a new `name` is signed in by cookies.
    pub async fn signed_in_browser(&self, name: &str) -> Client {
        let mut browser = self.browser();
        let mut body = credentials(name);
        body["cookies"] = json!(true);
        let reply = browser.post("/v1/auth/register", &body).await;
        assert_eq!(reply.status(), 201, "{reply:?}");
        browser
    }

    /// Exchanges a refresh token.
    pub async fn refresh(&self, refresh_token: &str) -> Response {
        self.client().post("/v1/auth/refresh", &json!({ "refresh_token": refresh_token })).await
    }

    /// The status of a protected route with this access token.
    pub async fn hello(&self, access_token: &str) -> u16 {
        self.client().bearer(access_token).get("/hello").await.status()
    }

    /// Lets time pass.
    pub fn wait(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }

    /// Removes from store and index what no longer matters, as the background tasks do.
    pub async fn forget_what_is_over(&self) {
        let (stores, sessions, now) = (self.store.stores(), self.auth.sessions(), self.clock.now());
        stores.revocations().purge_entries(now, 1000).await.unwrap();
        stores.sessions().purge_sessions(now, 1000).await.unwrap();
        sessions.view().index().prune(now);
        sessions.keys().poll().await.unwrap();
    }

    /// How many passwords were hashed or checked so far.
    pub fn hashes(&self) -> u64 {
        self.auth.accounts().hasher().hashes_started()
    }

    /// The ids of the user's live sessions, newest first.
    pub async fn live_sessions(&self, user_id: &UserId) -> Vec<SessionId> {
        let sessions = self.auth.sessions().list(user_id, SessionPage::first(1_000)).await.unwrap();
        sessions.iter().map(|session| session.id).collect()
    }
}

/// What a register or login answers, by body.
#[derive(Clone, Debug)]
pub struct Account {
    /// The id of the user.
    pub user_id: UserId,
    /// The access token.
    pub access_token: String,
    /// The refresh token.
    pub refresh_token: String,
}

impl Account {
    /// Reads the body of an answer.
    pub fn of(reply: &Response) -> Self {
        let body = reply.json();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        Self {
            user_id: text(&body["user"]["id"]).parse().unwrap(),
            access_token: text(&body["access_token"]),
            refresh_token: text(&body["refresh_token"]),
        }
    }
}

/// The body that registers `name`.
pub fn credentials(name: &str) -> serde_json::Value {
    json!({ "email": format!("{name}@example.org"), "username": name, "password": PASSWORD })
}

/// The routes of the application, and more.
fn router(auth: &Auth, more: Router) -> Router {
    more.route("/hello", get(hello).post(hello).put(hello).patch(hello).delete(hello))
        .route("/maybe", get(maybe).post(maybe))
        .route("/fresh", post(fresh))
        .route("/refresh-token", get(refresh_token).post(refresh_token))
        .route("/profile", get(profile))
        .merge(routes())
        .merge(account_routes())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(AuthLayer::new(auth.clone()))
}

async fn hello(token: AccessToken) -> String {
    format!("hello {}", token.subject())
}

async fn maybe(token: Option<AccessToken>) -> String {
    token.map_or_else(|| "nobody".to_owned(), |token| token.subject().to_string())
}

async fn fresh(token: Fresh<AccessToken>) -> String {
    format!("freshly {}", token.subject())
}

async fn refresh_token(token: RefreshToken) -> String {
    token.subject().to_string()
}

async fn profile(CurrentUser(user): CurrentUser<countersign_core::model::User>) -> String {
    user.email.map(|email| email.as_str().to_owned()).unwrap_or_default()
}
