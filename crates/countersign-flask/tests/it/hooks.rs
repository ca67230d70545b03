//! The application's own checks: each is asked of every token that grants something, wherever it came from.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::Router;
use axum::routing::get;
use countersign_axum::{AuthBuilder, AuthLayer, Guard, Requirement};
use countersign_flask::flask_jwt::FlaskJwtBuilder;
use countersign_flask::flask_jwt_extended::FlaskJwtExtendedBuilder;
use countersign_flask::{FlaskJwt, FlaskJwtExtended};
use countersign_jwt::TokenType;
use http::request::Parts;
use serde_json::json;

use crate::app::{PASSWORD, TestApp};
use crate::beside::{extended, plain};
use crate::client::{self, Client, Response};

/// What a hook says at the moment.
#[derive(Clone, Debug, Default)]
struct Says(Arc<AtomicU8>);

/// What it is told to say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Word {
    Good,
    Bad,
    Down,
}

impl Says {
    fn say(&self, word: Word) {
        self.0.store(word as u8, Ordering::Relaxed);
    }

    /// `Ok(true)` for a good token.
    fn asked(&self) -> impl Future<Output = Result<bool, &'static str>> + Send + use<> {
        ready(match self.0.load(Ordering::Relaxed) {
            0 => Ok(true),
            1 => Ok(false),
            _ => Err("the application's database is down"),
        })
    }

    fn asked_for_the_opposite(&self) -> impl Future<Output = Result<bool, &'static str>> + Send + use<> {
        let asked = self.asked();
        async move { asked.await.map(|good| !good) }
    }

    fn asked_for_a_user(&self) -> impl Future<Output = Result<Option<()>, &'static str>> + Send + use<> {
        let asked = self.asked();
        async move { asked.await.map(|good| good.then_some(())) }
    }
}

/// Whose rules, and which of the hooks that the application may add.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Hook {
    IsRevoked,
    VerifyClaims,
    ExtendedIsRevoked,
    ExtendedVerification,
    ExtendedUser,
    PlainIsRevoked,
    PlainUser,
}

/// Whose rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rules {
    Native,
    Extended,
    Plain,
}

const EVERYWHERE: [&str; 4] = ["headers", "cookies", "json", "query_string"];

const CASES: [(Rules, Hook); 11] = [
    (Rules::Native, Hook::IsRevoked),
    (Rules::Native, Hook::VerifyClaims),
    (Rules::Extended, Hook::IsRevoked),
    (Rules::Extended, Hook::VerifyClaims),
    (Rules::Extended, Hook::ExtendedIsRevoked),
    (Rules::Extended, Hook::ExtendedVerification),
    (Rules::Extended, Hook::ExtendedUser),
    (Rules::Plain, Hook::IsRevoked),
    (Rules::Plain, Hook::VerifyClaims),
    (Rules::Plain, Hook::PlainIsRevoked),
    (Rules::Plain, Hook::PlainUser),
];

async fn app(rules: Rules, hook: Hook, says: &Says) -> TestApp {
    let says = says.clone();
    TestApp::with(|auth| {
        let auth = match (rules, hook) {
            (Rules::Native, _) => auth,
            (Rules::Extended, _) => auth.rules(extended_with(hook, &says)),
            (Rules::Plain, _) => auth.rules(plain_with(hook, &says)),
        };
        native_with(auth, hook, says)
    })
    .await
}

fn native_with(auth: AuthBuilder, hook: Hook, says: Says) -> AuthBuilder {
    match hook {
        Hook::IsRevoked => auth.is_revoked(move |_| says.asked_for_the_opposite()),
        Hook::VerifyClaims => auth.verify_claims(move |_| says.asked()),
        _ => auth,
    }
}

fn extended_with(hook: Hook, says: &Says) -> FlaskJwtExtendedBuilder {
    let jwt = FlaskJwtExtended::builder(extended(&json!({ "JWT_TOKEN_LOCATION": EVERYWHERE })));
    let says = says.clone();
    match hook {
        Hook::ExtendedIsRevoked => jwt.is_revoked(move |_| says.asked_for_the_opposite()),
        Hook::ExtendedVerification => jwt.verification(move |_| says.asked()),
        Hook::ExtendedUser => jwt.user(move |_| says.asked_for_a_user()),
        _ => jwt,
    }
}

fn plain_with(hook: Hook, says: &Says) -> FlaskJwtBuilder {
    let jwt = FlaskJwt::builder(plain(&json!({})));
    let says = says.clone();
    match hook {
        Hook::PlainIsRevoked => jwt.is_revoked(move |_| says.asked_for_the_opposite()),
        Hook::PlainUser => jwt.user(move |_| says.asked_for_a_user()),
        _ => jwt,
    }
}

/// Tokens of a login, and a client for each place that the rules know, with that token in it.
struct SignedIn {
    access: String,
    refresh: String,
    /// A browser with the cookies of another login.
    browser: Option<Client>,
}

impl SignedIn {
    async fn new(app: &TestApp, rules: Rules) -> Self {
        let account = app.register("ada").await;
        let mut browser = None;
        if rules != Rules::Plain {
            let mut signing_in = app.browser();
            let body = json!({ "username": "ada", "password": PASSWORD, "cookies": true });
            assert_eq!(signing_in.post("/v1/auth/login", &body).await.status(), 200);
            browser = Some(signing_in);
        }
        Self { access: account.access_token, refresh: account.refresh_token, browser }
    }
}

fn by_header(app: &TestApp, rules: Rules, token: &str) -> Client {
    let scheme = if rules == Rules::Plain { "JWT" } else { "Bearer" };
    app.client().with("authorization", &format!("{scheme} {token}"))
}

/// The browser, with the value of this CSRF cookie.
fn proven(browser: &Client, name: &str) -> Client {
    let value = browser.cookie(name).to_owned();
    browser.clone().with("x-csrf-token", &value)
}

/// Everything that a token of this login gets, in every place: what was asked, and the answer.
async fn everything_granted(
    app: &TestApp,
    rules: Rules,
    signed_in: &SignedIn,
) -> Vec<(&'static str, Response)> {
    let SignedIn { access, refresh, browser } = signed_in;
    let (by_access, by_refresh) = (by_header(app, rules, access), by_header(app, rules, refresh));
    let guarded = guarded(app);
    let mut got = vec![
        ("refresh, body", app.refresh(refresh).await),
        ("refresh, header", by_refresh.clone().post_nothing("/v1/auth/refresh").await),
        ("refresh extractor", by_refresh.clone().get("/refresh-token").await),
        ("refresh guard", by_refresh.clone().at(&guarded).get("/refresh").await),
        ("extractor", by_access.clone().get("/hello").await),
        ("optional extractor", by_access.clone().get("/maybe").await),
        ("verify", by_access.clone().get("/v1/auth/verify").await),
        ("me", by_access.clone().get("/v1/auth/me").await),
        ("sessions", by_access.clone().get("/v1/auth/sessions").await),
        ("guard", by_access.clone().at(&guarded).get("/access").await),
        ("guard of any", by_refresh.clone().at(&guarded).get("/any").await),
    ];
    if let Some(browser) = browser {
        let (csrf, csrf_refresh) = match rules {
            Rules::Native => (client::CSRF, client::CSRF),
            _ => ("csrf_access_token", "csrf_refresh_token"),
        };
        got.push(("refresh, cookie", proven(browser, csrf_refresh).post_nothing("/v1/auth/refresh").await));
        got.push(("cookie", proven(browser, csrf).post_nothing("/hello").await));
        got.push(("verify, cookie", proven(browser, csrf).get("/v1/auth/verify").await));
    }
    if rules == Rules::Extended {
        let json = json!({ "refresh_token": refresh, "access_token": access });
        got.push(("refresh guard, json", app.client().at(&guarded).post("/refresh", &json).await));
        got.push(("guard, json", app.client().at(&guarded).post("/access", &json).await));
        let by_query = app.client().post_nothing(&format!("/v1/auth/refresh?jwt={refresh}")).await;
        got.push(("refresh, query", by_query));
        got.push(("query", app.client().get(&format!("/hello?jwt={access}")).await));
    }
    got
}

/// Routes behind guards.
fn guarded(app: &TestApp) -> Router {
    let route = |requirement| get(async || "in").post(async || "in").route_layer(Guard::new(requirement));
    Router::new()
        .route("/access", route(Requirement::ACCESS))
        .route("/refresh", route(Requirement::REFRESH))
        .route("/any", route(Requirement::ANY))
        .layer(AuthLayer::new(app.auth.clone()))
}

#[tokio::test]
async fn sec_215_every_hook_is_asked_wherever_a_token_grants_something() {
    for (rules, hook) in CASES {
        let says = Says::default();
        let app = app(rules, hook, &says).await;
        let signed_in = SignedIn::new(&app, rules).await;
        let mut wrong = Vec::new();
        for (word, expected) in [
            (Word::Good, 200),
            (Word::Bad, if hook == Hook::ExtendedVerification { 400 } else { 401 }),
            (Word::Down, 503),
        ] {
            says.say(word);
            for (case, reply) in everything_granted(&app, rules, &signed_in).await {
                let grants = word != Word::Good && !reply.set_cookies().is_empty();
                if reply.status() != expected || grants {
                    wrong.push(format!("{word:?}: {case} is answered with {}", reply.status()));
                }
            }
        }
        assert!(wrong.is_empty(), "{rules:?} {hook:?} {wrong:#?}");
        says.say(Word::Good);
        assert_eq!(
            app.refresh(&signed_in.refresh).await.status(),
            200,
            "{rules:?} {hook:?}: nothing was lost"
        );
    }
}

/// The head of a request with this token in its header.
fn head(rules: Rules, token: &str) -> Parts {
    let scheme = if rules == Rules::Plain { "JWT" } else { "Bearer" };
    let request = http::Request::get("/socket").header("authorization", format!("{scheme} {token}"));
    request.body(()).unwrap().into_parts().0
}

#[tokio::test]
async fn sec_215_what_outlives_its_request_is_judged_by_every_hook_again() {
    for (rules, hook) in CASES {
        let says = Says::default();
        let app = app(rules, hook, &says).await;
        let signed_in = SignedIn::new(&app, rules).await;
        let refused = if hook == Hook::ExtendedVerification { 400 } else { 401 };
        for (token, requirement) in
            [(&signed_in.access, Requirement::ACCESS), (&signed_in.refresh, Requirement::REFRESH)]
        {
            says.say(Word::Good);
            let parts = head(rules, token);
            let found = app.auth.authenticate(&parts, &requirement).await.unwrap();
            assert!(app.auth.recheck(&found).await.is_ok(), "{rules:?} {hook:?}");
            for (word, status) in [(Word::Bad, refused), (Word::Down, 503)] {
                says.say(word);
                let error = app.auth.recheck(&found).await.unwrap_err();
                let answer = app.auth.refuse(&parts, None, &error).await;
                assert_eq!(answer.status().as_u16(), status, "{rules:?} {hook:?} {word:?}");
            }
        }
    }
}

#[tokio::test]
async fn sec_215_a_token_that_no_request_carries_is_judged_by_every_hook() {
    for (rules, hook) in CASES.into_iter().filter(|(rules, _)| *rules != Rules::Native) {
        let says = Says::default();
        let app = app(rules, hook, &says).await;
        let signed_in = SignedIn::new(&app, rules).await;
        for token in [&signed_in.access, &signed_in.refresh] {
            for (word, good) in [(Word::Good, true), (Word::Bad, false), (Word::Down, false)] {
                says.say(word);
                let rules = app.auth.rules();
                let verdict = rules.judge(app.auth.engine(), token, TokenType::Access).await;
                assert_eq!(verdict.is_ok(), good, "{rules:?} {hook:?} {word:?}");
            }
        }
    }
}

/// Logging out grants nothing. Whoever had to ask a database of the application first could not log out while it is
/// down, and the hooks would be asked about expired tokens, which the other libraries never show them.
#[tokio::test]
async fn no_hook_keeps_anybody_from_logging_out() {
    for (rules, hook) in CASES {
        for (word, late) in [(Word::Bad, 0), (Word::Down, 0), (Word::Bad, 3600), (Word::Down, 3600)] {
            for place in ["body", "header", "cookie"] {
                let case = format!("{rules:?} {hook:?} {word:?} {place} {late} s later");
                let says = Says::default();
                let app = app(rules, hook, &says).await;
                let SignedIn { access, refresh, browser } = SignedIn::new(&app, rules).await;
                app.wait(late);
                says.say(word);
                let mut ended = refresh.clone();
                let reply = match (place, browser) {
                    ("body", _) => {
                        let body = json!({ "refresh_token": refresh });
                        app.client().post("/v1/auth/logout", &body).await
                    }
                    ("header", _) => by_header(&app, rules, &access).post_nothing("/v1/auth/logout").await,
                    (_, Some(browser)) => {
                        let (refresh, csrf) = match rules {
                            Rules::Native => (client::REFRESH, client::CSRF),
                            _ => ("refresh_token_cookie", "csrf_access_token"),
                        };
                        ended = browser.cookie(refresh).to_owned();
                        proven(&browser, csrf).post_nothing("/v1/auth/logout").await
                    }
                    (_, None) => continue,
                };
                assert_eq!(reply.status(), 204, "{case}");
                says.say(Word::Good);
                assert_eq!(app.refresh(&ended).await.status(), 401, "{case}: it has ended");
            }
        }
    }
}

#[tokio::test]
async fn a_route_that_skips_revocation_skips_what_says_so_and_nothing_else() {
    for (rules, hook) in CASES {
        let says = Says::default();
        let app = app(rules, hook, &says).await;
        let signed_in = SignedIn::new(&app, rules).await;
        says.say(Word::Bad);
        let route = get(async || "bye").route_layer(Guard::new(Requirement::ANY.skip_revocation()));
        let router = Router::new().route("/bye", route).layer(AuthLayer::new(app.auth.clone()));
        for token in [&signed_in.access, &signed_in.refresh] {
            let reply = by_header(&app, rules, token).at(&router).get("/bye").await;
            let is_blocklist =
                matches!(hook, Hook::IsRevoked | Hook::ExtendedIsRevoked | Hook::PlainIsRevoked);
            assert_eq!(reply.status() == 200, is_blocklist, "{rules:?} {hook:?}: {}", reply.status());
        }
    }
}

#[tokio::test]
async fn a_token_is_found_where_the_application_says_at_refresh_and_logout_too() {
    let in_own_header = |parts: &Parts| {
        let field = parts.headers.get("x-token")?.to_str().ok()?;
        Some(field.to_owned())
    };
    let jwt = FlaskJwt::builder(plain(&json!({}))).request(in_own_header);
    let app = TestApp::with(|auth| auth.rules(jwt)).await;
    let account = app.register("ada").await;
    let mut client = app.client().with("x-token", &account.refresh_token);
    let elsewhere =
        by_header(&app, Rules::Plain, &account.refresh_token).post_nothing("/v1/auth/refresh").await;
    assert_eq!(elsewhere.status(), 401);
    assert_eq!(client.post_nothing("/v1/auth/refresh").await.status(), 200);
    assert_eq!(client.post_nothing("/v1/auth/logout").await.status(), 204);
    assert_eq!(client.post_nothing("/v1/auth/refresh").await.status(), 401);
}

#[tokio::test]
async fn a_refresh_asks_for_its_session_no_more_often_than_it_must() {
    for rules in [Rules::Extended, Rules::Plain] {
        let app = app(rules, Hook::IsRevoked, &Says::default()).await;
        let account = app.register("ada").await;
        for by_body in [true, false] {
            app.store.reset_calls();
            let reply = match by_body {
                true => app.refresh(&account.refresh_token).await,
                false => {
                    by_header(&app, rules, &account.refresh_token).post_nothing("/v1/auth/refresh").await
                }
            };
            assert_eq!(reply.status(), 200);
            assert_eq!(
                app.store.total_calls(),
                4,
                "{rules:?}: the user, the roles, the session, and its step"
            );
        }
    }
}

#[tokio::test]
async fn a_token_counts_as_used_once_its_request_is_let_through() {
    for (rules, hook) in [(Rules::Extended, Hook::ExtendedUser), (Rules::Plain, Hook::PlainUser)] {
        let says = Says::default();
        let app = app(rules, hook, &says).await;
        let account = app.register("ada").await;
        let bearer = if rules == Rules::Plain { "JWT" } else { "Bearer" };
        let client = app.client().with("authorization", &format!("{bearer} {}", account.access_token));
        for (word, status, noted) in [(Word::Bad, 401, 0), (Word::Good, 200, 1)] {
            says.say(word);
            app.store.reset_calls();
            assert_eq!(client.clone().get("/hello").await.status(), status, "{rules:?} {word:?}");
            app.auth.sessions().verification().flush_acknowledgements().await.unwrap();
            assert_eq!(app.store.calls("acknowledge"), noted, "{rules:?} {word:?}");
        }
    }
}
