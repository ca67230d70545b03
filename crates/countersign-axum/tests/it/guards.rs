//! Guards: every part of a requirement, before routes and in handlers.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response as AxumResponse};
use axum::routing::{get, post};
use countersign_axum::{AccessToken, AuthBuilder, AuthLayer, Fresh, Guard, Location, Optional, Requirement};
use countersign_core::model::SessionPolicy;
use countersign_http::{Answer, ErrorCode, Gate, Passed};
use countersign_jwt::UserId;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Map, Value, json};
use std::convert::Infallible;
use std::time::Duration;

use crate::app::{Account, TestApp};
use crate::client::{ACCESS, Client, REFRESH};
use crate::log;

/// Routes with these requirements before them, `/0`, `/1` and so on, for any method.
fn guarded(app: &TestApp, requirements: impl IntoIterator<Item = Requirement>) -> Client {
    let mut router = Router::new();
    for (at, requirement) in requirements.into_iter().enumerate() {
        let route = get(async || "in").post(async || "in").route_layer(Guard::new(requirement));
        router = router.route(&format!("/{at}"), route);
    }
    Client::new(router.layer(AuthLayer::new(app.auth.clone())))
}

fn with_claims(builder: AuthBuilder) -> AuthBuilder {
    builder.access_claims(async |_: UserId| {
        let claims = json!({
            "scope": "reports:read reports:write",
            "roles": ["editor", "reader"],
            "org": { "id": 7 },
            "level": 3,
        });
        let Value::Object(claims) = claims else { unreachable!() };
        Ok::<_, Infallible>(claims)
    })
}

#[tokio::test]
async fn scopes_roles_and_claims_are_403_with_what_would_do() {
    let app = TestApp::with(with_claims).await;
    let token = app.register("ada").await.access_token;
    let access = || Requirement::ACCESS;
    for (case, requirement, lacks) in [
        ("one scope", access().scope("reports:read"), None),
        ("both scopes", access().scope("reports:write").scope("reports:read"), None),
        ("a scope that it has not", access().scope("reports"), Some("scope=\"reports\"")),
        ("one of two", access().scope("reports:read").scope("admin"), Some("scope=\"reports:read admin\"")),
        ("two names are not one", access().scope("reports:read reports:write"), Some("scope=")),
        ("a role", access().role("editor"), None),
        ("roles", access().role("editor").role("reader"), None),
        ("a role that it has not", access().role("admin"), Some("insufficient_scope")),
        ("part of a role", access().role("edit"), Some("insufficient_scope")),
        ("a claim", access().claim("level", 3), None),
        ("a claim that is an object", access().claim("org", json!({ "id": 7 })), None),
        ("a claim with another value", access().claim("level", 4), Some("insufficient_scope")),
        ("a claim of another type", access().claim("level", "3"), Some("insufficient_scope")),
        ("no such claim", access().claim("absent", Value::Null), Some("insufficient_scope")),
        ("a registered claim", access().claim("type", "access"), None),
    ] {
        let mut client = guarded(&app, [requirement]).bearer(&token);
        let reply = client.get("/0").await;
        match lacks {
            None => assert_eq!(reply.status(), 200, "{case}"),
            Some(lacks) => {
                assert_eq!(reply.outcome(), (403, "insufficient_scope".to_owned()), "{case}");
                let challenge = reply.header("www-authenticate").unwrap();
                assert!(challenge.starts_with("Bearer error=\"insufficient_scope\""), "{case}: {challenge}");
                assert!(challenge.contains(lacks), "{case}: {challenge}");
            }
        }
    }
    assert!(log::contains("the token lacks the role admin"));
}

#[tokio::test]
async fn claims_of_the_applications_own_are_in_access_tokens_alone_and_survive_refresh() {
    let app = TestApp::with(with_claims).await;
    let first = app.register("ada").await;
    let next = Account::of(&app.refresh(&first.refresh_token).await);
    for token in [&first.access_token, &next.access_token] {
        assert_eq!(crate::client::payload(token)["level"], 3);
    }
    assert!(crate::client::payload(&next.refresh_token).get("level").is_none());
}

#[tokio::test]
async fn sec_024_registered_claims_cannot_be_set_by_the_application() {
    for name in ["sub", "exp", "fresh", "sid", "csrf", "type"] {
        let app = TestApp::with(|builder| {
            builder.access_claims(async move |_: UserId| {
                Ok::<_, Infallible>(Map::from_iter([(name.to_owned(), json!("forged"))]))
            })
        })
        .await;
        let reply = app.client().post("/v1/auth/register", &crate::app::credentials("ada")).await;
        assert_eq!(reply.outcome(), (500, "internal_error".to_owned()), "{name}");
    }
    assert!(log::contains("choose another name"));
}

#[tokio::test]
async fn a_refresh_whose_claims_cannot_be_had_changes_nothing() {
    let failing = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let fails = failing.clone();
    let app = TestApp::with(|builder| {
        builder.access_claims(move |_: UserId| {
            let fails = fails.load(std::sync::atomic::Ordering::Relaxed);
            async move { if fails { Err("the roles are down") } else { Ok(Map::new()) } }
        })
    })
    .await;
    let account = app.register("ada").await;
    failing.store(true, std::sync::atomic::Ordering::Relaxed);
    let reply = app.refresh(&account.refresh_token).await;
    assert_eq!(reply.outcome(), (503, "unavailable".to_owned()));
    let reply = app.client().post("/v1/auth/register", &crate::app::credentials("bob")).await;
    assert_eq!(reply.outcome(), (503, "unavailable".to_owned()));
    failing.store(false, std::sync::atomic::Ordering::Relaxed);
    let next = Account::of(&app.refresh(&account.refresh_token).await);
    assert_eq!(crate::client::payload(&next.refresh_token)["gen"], 1, "the failed refresh was no step");
}

#[tokio::test]
async fn each_kind_of_token_opens_what_asks_for_it() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let client = guarded(&app, [Requirement::ACCESS, Requirement::REFRESH, Requirement::ANY]);
    for (token, expected) in [
        (account.access_token.as_str(), [200, 401, 200]),
        (account.refresh_token.as_str(), [401, 200, 200]),
        ("garbage", [401; 3]),
    ] {
        for (at, expected) in expected.into_iter().enumerate() {
            let reply = client.clone().bearer(token).get(&format!("/{at}")).await;
            assert_eq!(reply.status(), expected, "/{at}");
        }
    }
    let next = Account::of(&app.refresh(&account.refresh_token).await);
    app.wait(60);
    assert_eq!(app.refresh(&next.refresh_token).await.status(), 200);
    let superseded = client.clone().bearer(&account.refresh_token).get("/2").await;
    assert_eq!(superseded.outcome(), (401, "invalid_token".to_owned()), "any kind, but not any state");
}

#[tokio::test]
async fn optional_has_three_modes() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let modes = [Optional::IfAbsent, Optional::IfAbsentOrExpired, Optional::IfNoCredential];
    let client = guarded(&app, modes.map(|mode| Requirement::ACCESS.optional(mode)));
    app.wait(911);
    let expired = account.access_token;
    let good = app.login("ada").await.access_token;
    for (case, client, expected) in [
        ("none", client.clone(), [200, 200, 200]),
        ("good", client.clone().bearer(&good), [200, 200, 200]),
        ("garbage", client.clone().bearer("x"), [401, 401, 401]),
        ("expired", client.clone().bearer(&expired), [401, 200, 401]),
        ("another scheme", client.clone().with("authorization", "Basic YTpi"), [200, 200, 401]),
        ("two fields", client.clone().bearer(&good).bearer(&good), [400, 400, 400]),
        ("a bad cookie", client.clone().set_cookie(ACCESS, "x"), [401, 401, 401]),
    ] {
        for (at, expected) in expected.into_iter().enumerate() {
            let reply = client.clone().get(&format!("/{at}")).await;
            assert_eq!(reply.status(), expected, "{case} {:?}", modes[at]);
        }
    }
}

#[tokio::test]
async fn an_expired_token_behind_a_lenient_guard_is_nobody_in_the_handler_too() {
    let app = TestApp::new().await;
    let token = app.register("ada").await.access_token;
    app.wait(911);
    let who = async |token: Option<AccessToken>| if token.is_some() { "somebody" } else { "nobody" };
    let lenient = Requirement::ACCESS.optional(Optional::IfAbsentOrExpired);
    let router = Router::new()
        .route("/who", get(who))
        .route("/must", get(async |token: AccessToken| token.subject().to_string()))
        .route_layer(Guard::new(lenient))
        .layer(AuthLayer::new(app.auth.clone()));
    let client = Client::new(router).bearer(&token);
    assert_eq!(client.clone().get("/who").await.body, "nobody");
    assert_eq!(client.clone().get("/must").await.outcome(), (401, "invalid_token".to_owned()));
}

#[tokio::test]
async fn skipping_revocation_is_for_the_route_that_says_so_alone() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let app_router = Router::new()
        .route("/goodbye", get(async || "bye").route_layer(Guard::new(Requirement::ACCESS.skip_revocation())))
        .route(
            "/still-proven",
            get(async |_: AccessToken| "in").route_layer(Guard::new(Requirement::ACCESS.skip_revocation())),
        )
        .route(
            "/refresh-token",
            get(async || "bye").route_layer(Guard::new(Requirement::REFRESH.skip_revocation())),
        )
        .layer(AuthLayer::new(app.auth.clone()));
    let client = Client::new(app_router);
    let mut signed_in = app.client().bearer(&account.access_token);
    assert_eq!(signed_in.post_nothing("/v1/auth/logout").await.status(), 204);
    let mut after = client.clone().bearer(&account.access_token);
    assert_eq!(after.get("/goodbye").await.status(), 200);
    assert_eq!(after.get("/still-proven").await.status(), 401, "the handler's own extractor asks");
    assert_eq!(client.clone().bearer(&account.refresh_token).get("/refresh-token").await.status(), 200);
    assert_eq!(client.clone().bearer("x").get("/goodbye").await.status(), 401);
    app.wait(911);
    assert_eq!(after.get("/goodbye").await.status(), 401, "expired all the same");
}

#[tokio::test]
async fn fresh_is_for_the_tokens_life_or_until_a_time() {
    for (fresh_for, after, expected) in [(None, 880, 200), (Some(60), 59, 200), (Some(60), 60, 401)] {
        let app = TestApp::with(|builder| {
            builder.policy(SessionPolicy {
                fresh_for: fresh_for.map(Duration::from_secs),
                ..SessionPolicy::default()
            })
        })
        .await;
        let token = app.register("ada").await.access_token;
        app.wait(after);
        let mut client = guarded(&app, [Requirement::ACCESS.fresh()]).bearer(&token);
        let reply = client.get("/0").await;
        assert_eq!(reply.status(), expected, "{fresh_for:?} {after}");
        if expected == 401 {
            assert_eq!(reply.code(), "fresh_token_required");
        }
    }
}

#[tokio::test]
async fn a_route_has_places_of_its_own() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await;
    let cookie = browser.cookie(ACCESS).to_owned();
    let bearer = app.login("ada").await.access_token;
    let only = |places: &'static [Location]| Requirement::ACCESS.locations(places);
    let client = guarded(
        &app,
        [
            Requirement::ACCESS,
            only(&[Location::Header]),
            only(&[Location::Cookie]),
            only(&[Location::Cookie, Location::Header]),
            only(&[Location::Query]),
        ],
    );
    let with_cookie = client.clone().set_cookie(ACCESS, &cookie);
    let both = with_cookie.clone().bearer("x");
    for (case, client, expected) in [
        ("header", client.clone().bearer(&bearer), [200, 200, 401, 200, 401]),
        ("cookie", with_cookie, [200, 401, 200, 200, 401]),
        ("bad header and good cookie", both, [401, 401, 200, 200, 401]),
    ] {
        for (at, expected) in expected.into_iter().enumerate() {
            assert_eq!(client.clone().get(&format!("/{at}")).await.status(), expected, "{case} /{at}");
        }
    }
    let reply = client.clone().get(&format!("/4?access_token={bearer}")).await;
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.header("cache-control"), Some("private, no-store"));
    assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
    let refused = client.clone().get("/4?access_token=x").await;
    assert_eq!((refused.status(), refused.header("referrer-policy")), (401, Some("no-referrer")));
    assert_eq!(client.clone().get(&format!("/0?access_token={bearer}")).await.status(), 401);
}

#[tokio::test]
async fn a_route_may_take_tokens_from_its_json_body() {
    let app = TestApp::new().await;
    let token = app.register("ada").await.access_token;
    let requirement = Requirement::ACCESS.locations(&[Location::Body][..]);
    let router = Router::new()
        .route("/", post(async |body: String| body.len().to_string()).route_layer(Guard::new(requirement)))
        .layer(AuthLayer::new(app.auth.clone()));
    let body = json!({ "access_token": token });
    let reply = Client::new(router).post("/", &body).await;
    assert_eq!((reply.status(), reply.body), (200, body.to_string().len().to_string().into()));
}

#[tokio::test]
async fn the_realm_is_in_every_challenge_of_the_route() {
    let app = TestApp::new().await;
    let client = guarded(&app, [Requirement::ACCESS.realm("the \"back\" office").scope("admin")]);
    let token = app.register("ada").await.access_token;
    for (client, expected) in [
        (client.clone(), "Bearer realm=\"the 'back' office\""),
        (client.clone().bearer("x"), "Bearer realm=\"the 'back' office\", error=\"invalid_token\""),
        (client.clone().bearer(&token), "Bearer realm=\"the 'back' office\", error=\"insufficient_scope\""),
    ] {
        let reply = client.clone().get("/0").await;
        let challenge = reply.header("www-authenticate").unwrap();
        assert!(challenge.starts_with(expected), "{challenge}");
    }
}

#[tokio::test]
async fn extractors_take_what_a_guard_has_proven_and_only_if_it_is_enough() {
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = asked.clone();
    let app = TestApp::with(|builder| {
        builder.is_revoked(move |_| {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async { Ok::<_, Infallible>(false) }
        })
    })
    .await;
    let account = app.register("ada").await;
    let router = Router::new()
        .route("/same", get(async |_: AccessToken, _: Option<AccessToken>| "in"))
        .route("/fresh", get(async |_: Fresh<AccessToken>| "in"))
        .route_layer(Guard::new(Requirement::ACCESS))
        .layer(AuthLayer::new(app.auth.clone()));
    let mut client = Client::new(router.clone()).bearer(&account.access_token);
    for (path, verifications) in [("/same", 1), ("/fresh", 2)] {
        asked.store(0, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(client.get(path).await.status(), 200);
        assert_eq!(asked.load(std::sync::atomic::Ordering::Relaxed), verifications, "{path}");
    }
    let stale = Account::of(&app.refresh(&account.refresh_token).await).access_token;
    let mut client = Client::new(router).bearer(&stale);
    assert_eq!(client.get("/same").await.status(), 200);
    assert_eq!(client.get("/fresh").await.outcome(), (401, "fresh_token_required".to_owned()));
}

#[tokio::test]
async fn a_guard_is_a_value_in_a_handler_too() {
    let app = TestApp::with(with_claims).await;
    let token = app.register("ada").await.access_token;
    async fn by_path(request: Request) -> Result<&'static str, AxumResponse> {
        let (mut parts, _) = request.into_parts();
        let scope = parts.uri.query().unwrap_or_default().to_owned();
        let guard = Guard::new(Requirement::ACCESS.scope(scope));
        guard.check(&mut parts).await.map_err(IntoResponse::into_response)?;
        Ok("in")
    }
    let router = Router::new().route("/", get(by_path)).layer(AuthLayer::new(app.auth.clone()));
    let mut client = Client::new(router).bearer(&token);
    assert_eq!(client.get("/?reports:read").await.body, "in");
    assert_eq!(client.get("/?admin").await.code(), "insufficient_scope");
}

#[tokio::test]
async fn a_guard_without_the_layer_is_a_500_whose_log_line_says_what_to_add() {
    log::install();
    let router = Router::new().route("/", get(async || "in")).route_layer(Guard::new(Requirement::ACCESS));
    let reply = Client::new(router).get("/").await;
    assert_eq!(reply.outcome(), (500, "internal_error".to_owned()));
    assert!(!String::from_utf8_lossy(&reply.body).contains("Layer"));
    assert!(log::contains(
        "a Guard is in use, but AuthLayer is not installed; add `.layer(AuthLayer::new(auth))`"
    ));
}

#[tokio::test]
async fn sec_067_a_guard_lets_no_unsafe_cookie_request_in_without_its_csrf_value() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await;
    let any_kind = [Requirement::ACCESS, Requirement::ANY, Requirement::ACCESS.optional(Optional::IfAbsent)];
    let mut client = guarded(&app, any_kind.clone()).with("sec-fetch-site", "same-origin");
    for name in [ACCESS, REFRESH] {
        client = client.set_cookie(name, browser.cookie(name));
    }
    for at in 0..any_kind.len() {
        let path = format!("/{at}");
        assert_eq!(client.clone().get(&path).await.status(), 200, "{path}");
        assert_eq!(client.clone().post_nothing(&path).await.code(), "csrf_failed", "{path}");
        let mut proven = client.clone().with("x-csrf-token", browser.cookie(crate::client::CSRF));
        assert_eq!(proven.post_nothing(&path).await.status(), 200, "{path}");
    }
}

/// Lets those in whose body or header says so.
#[derive(Debug)]
struct ByWord;

#[async_trait::async_trait]
impl Gate for ByWord {
    fn is_in_query(&self, _: &Uri) -> bool {
        false
    }

    fn wants_body(&self, method: &Method, _: &HeaderMap, _: Option<&Requirement>) -> bool {
        *method == Method::POST
    }

    async fn check(&self, parts: &Parts, requirement: &Requirement) -> Result<Option<Passed>, Answer> {
        let in_body = parts.extensions.get::<countersign_http::BufferedBody>();
        if in_body.is_some_and(|body| body.0.starts_with(b"open")) || requirement.is_optional() {
            return Ok(None);
        }
        Err(Answer::empty(StatusCode::IM_A_TEAPOT))
    }
}

#[tokio::test]
async fn a_gate_decides_in_place_of_the_auth() {
    let app = TestApp::new().await;
    let gate: Arc<dyn Gate> = Arc::new(ByWord);
    let router = Router::new()
        .route("/", post(async |body: String| body).get(async || "in"))
        .route_layer(Guard::new(Requirement::ACCESS))
        .route("/native", get(async |token: AccessToken| token.subject().to_string()))
        .layer(AuthLayer::new(gate))
        .layer(AuthLayer::new(app.auth.clone()));
    let client = Client::new(router);
    let send = async |body: &[u8]| client.clone().send_bytes(Method::POST, "/", None, body.to_vec()).await;
    assert_eq!(send(b"open sesame").await.body, "open sesame", "the handler gets the whole body");
    assert_eq!(send(b"sesame").await.status(), 418);
    assert_eq!(client.clone().get("/").await.status(), 418);
    let token = app.register("ada").await.access_token;
    assert_eq!(client.clone().bearer(&token).get("/native").await.status(), 200);
    let alone = Router::new().route("/", get(async || "in")).route_layer(Guard::new(Requirement::ACCESS));
    let reply = Client::new(alone.layer(AuthLayer::new(Arc::new(ByWord)))).get("/").await;
    assert_eq!(reply.status(), 418, "an Arc of the gate's own type will do");
}

#[tokio::test]
async fn the_applications_own_checks_decide_with_ours() {
    for (case, revoked, accepted, expected) in [
        ("good", Ok(false), Ok(true), (200, "")),
        ("revoked", Ok(true), Ok(true), (401, "invalid_token")),
        ("not accepted", Ok(false), Ok(false), (401, "invalid_token")),
        ("nobody knows whether revoked", Err("down"), Ok(true), (503, "unavailable")),
        ("nobody knows whether accepted", Ok(false), Err("down"), (503, "unavailable")),
    ] {
        let app = TestApp::with(|builder| {
            builder
                .is_revoked(move |_| async move { revoked })
                .verify_claims(move |_| async move { accepted })
        })
        .await;
        let account = app.register("ada").await;
        let reply = app.client().bearer(&account.access_token).get("/hello").await;
        assert_eq!(reply.status(), expected.0, "{case}");
        if expected.0 != 200 {
            assert_eq!(reply.code(), expected.1, "{case}");
        }
        let refreshed = app.refresh(&account.refresh_token).await;
        assert_eq!(refreshed.status(), expected.0, "{case}: refresh tokens too");
        let skipping = guarded(&app, [Requirement::ACCESS.skip_revocation()]);
        let skipped = skipping.clone().bearer(&account.access_token).get("/0").await;
        assert_eq!(
            skipped.status() == 200,
            accepted == Ok(true),
            "{case}: skipping revocation skips the hook"
        );
    }
}

#[tokio::test]
async fn the_application_has_the_last_word_on_answers() {
    let app = TestApp::with(|builder| {
        builder.answer(async |refusal| {
            let mut answer = refusal.answer;
            match refusal.code {
                ErrorCode::MissingToken if refusal.headers.get("accept").is_some() => {
                    answer = Answer::empty(StatusCode::SEE_OTHER);
                    let to = format!("/sign-in?next={}", refusal.uri.path());
                    answer.headers_mut().insert("location", to.parse().unwrap());
                }
                ErrorCode::InvalidToken => {
                    answer.headers_mut().insert("x-hint", "sign in again".parse().unwrap());
                }
                _ => {}
            }
            answer
        })
    })
    .await;
    let page = app.client().with("accept", "text/html").get("/hello").await;
    assert_eq!((page.status(), page.header("location")), (303, Some("/sign-in?next=/hello")));
    assert_eq!(app.client().get("/hello").await.outcome(), (401, "missing_token".to_owned()));
    for path in ["/hello", "/v1/auth/me", "/v1/auth/sessions", "/v1/auth/verify"] {
        let hinted = app.client().bearer("x").get(path).await;
        assert_eq!(hinted.header("x-hint"), Some("sign in again"), "{path}");
        assert!(hinted.header("www-authenticate").unwrap().contains("invalid_token"), "{path}");
    }
    let refreshed = app.refresh("x").await;
    assert_eq!(refreshed.header("x-hint"), Some("sign in again"), "the ready-made routes too");
    let mut guarded = guarded(&app, [Requirement::ACCESS]).bearer("x");
    assert_eq!(guarded.get("/0").await.header("x-hint"), Some("sign in again"));
}

#[tokio::test]
async fn what_outlives_its_request_learns_of_expiry_and_revocation() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let head = |token: &str| {
        let request = http::Request::get("/socket").header("authorization", format!("Bearer {token}"));
        request.body(()).unwrap().into_parts().0
    };
    let found = app.auth.authenticate(&head(&account.access_token), &Requirement::ACCESS).await.unwrap();
    assert_eq!(found.expires_at().since(app.auth.engine().now()), Duration::from_secs(900));
    assert_eq!(found.location(), Location::Header);
    assert!(app.auth.recheck(&found).await.is_ok());
    let refresh = app.auth.authenticate(&head(&account.refresh_token), &Requirement::REFRESH).await.unwrap();
    assert!(app.auth.recheck(&refresh).await.is_ok());
    app.wait(900);
    assert!(app.auth.recheck(&found).await.is_err(), "without leeway: it ends, it does not begin");

    let again = app.login("ada").await;
    let found = app.auth.authenticate(&head(&again.access_token), &Requirement::ACCESS).await.unwrap();
    let refresh = app.auth.authenticate(&head(&again.refresh_token), &Requirement::REFRESH).await.unwrap();
    let mut client = app.client().bearer(&again.access_token);
    assert_eq!(client.post_nothing("/v1/auth/logout").await.status(), 204);
    let ended = app.auth.recheck(&found).await.unwrap_err();
    assert_eq!(ended.code(), ErrorCode::InvalidToken);
    let ended = app.auth.recheck(&refresh).await.unwrap_err();
    assert_eq!(ended.code(), ErrorCode::InvalidToken);
    assert!(app.auth.authenticate(&head("x"), &Requirement::ACCESS).await.is_err());
}
