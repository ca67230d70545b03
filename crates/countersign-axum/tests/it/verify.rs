//! `GET /v1/auth/verify`: asking on behalf of another service.

use countersign_http::LoginSessions;
use serde_json::json;

use crate::app::TestApp;
use crate::client::{ACCESS, Client, REFRESH, payload};

#[tokio::test]
async fn the_answer_is_the_claims_and_personal() {
    let app = TestApp::new().await;
    let token = app.register("ada").await.access_token;
    let reply = app.client().bearer(&token).get("/v1/auth/verify").await;
    assert_eq!((reply.status(), reply.json()), (200, payload(&token)));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("vary"), Some("Cookie, Authorization"));

    let browser = app.signed_in_browser("bob").await.csrf();
    let claims = browser.clone().get("/v1/auth/verify").await.json();
    assert!(
        claims["sub"].is_string() && claims.get("csrf").is_none(),
        "the CSRF value stays with the session"
    );
}

#[tokio::test]
async fn sec_053_it_refuses_as_a_protected_route() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    for (client, expected, challenge) in [
        (app.client(), (401, "missing_token"), "Bearer"),
        (app.client().bearer("x"), (401, "invalid_token"), "Bearer error=\"invalid_token\""),
        (
            app.client().bearer(&account.refresh_token),
            (401, "invalid_token"),
            "Bearer error=\"invalid_token\"",
        ),
        (app.client().bearer("x").bearer("x"), (400, "invalid_request"), "Bearer error=\"invalid_request\""),
    ] {
        let reply = client.clone().get("/v1/auth/verify").await;
        assert_eq!(reply.outcome(), (expected.0, expected.1.to_owned()));
        assert!(reply.header("www-authenticate").unwrap().starts_with(challenge));
    }
    assert_eq!(
        app.client().bearer(&account.access_token).post_nothing("/v1/auth/logout").await.status(),
        204
    );
    let ended = app.client().bearer(&account.access_token).get("/v1/auth/verify").await;
    assert_eq!(ended.outcome(), (401, "invalid_token".to_owned()));
}

#[tokio::test]
async fn scopes_are_asked_for_in_the_query() {
    let app = TestApp::with(|builder| {
        builder.access_claims(async |_: countersign_jwt::UserId| {
            let claims = serde_json::Map::from_iter([
                ("scope".to_owned(), json!("read write")),
                ("roles".to_owned(), json!(["editor", "chief of staff"])),
            ]);
            Ok::<_, std::convert::Infallible>(claims)
        })
    })
    .await;
    let token = app.register("ada").await.access_token;
    for (query, expected) in [
        ("", 200),
        ("?scope=read", 200),
        ("?scope=read+write", 200),
        ("?scope=read&scope=write", 200),
        ("?scope=admin", 403),
        ("?scope=", 400),
        ("?scope=%22read%22", 400),
        ("?scope=read+%E2%80%AEnimda", 400),
        ("?scope=%1B", 400),
        ("?scopes=admin", 400),
        ("?scope=read&x=1", 400),
        ("?scope=read%20admin", 403),
        ("?scope=read&scope=admin", 403),
        ("?role=editor", 200),
        ("?role=editor&role=chief+of+staff&scope=read", 200),
        ("?role=editor&role=admin", 403),
        ("?role=editor+admin", 403),
        ("?role=", 400),
        ("?role=+", 400),
        ("?role=%0A", 400),
        ("?redirect=no", 400),
        ("?preflight=", 400),
        ("?csrf=off", 400),
        ("?for=apache", 400),
    ] {
        let reply = app.client().bearer(&token).get(&format!("/v1/auth/verify{query}")).await;
        assert_eq!(reply.status(), expected, "{query}");
        if expected == 403 && !query.contains("role") {
            assert!(reply.header("www-authenticate").unwrap().contains("scope=\""), "{query}");
        }
    }
}

#[tokio::test]
async fn sec_067_a_cookie_that_is_asked_about_by_get_does_not_authorise_a_post() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await;
    let (forwarded, original) = ("x-forwarded-method", "x-original-method");
    for (case, fields, expected) in [
        ("nobody says what it was", &[][..], 403),
        ("GET", &[(forwarded, "GET")], 200),
        ("GET, as nginx is told", &[(original, "GET")], 200),
        ("HEAD", &[(forwarded, "HEAD")], 200),
        ("POST", &[(forwarded, "POST")], 403),
        ("DELETE, as nginx is told", &[(original, "DELETE")], 403),
        ("get is no GET", &[(forwarded, "get")], 403),
        ("not a method", &[(forwarded, "G E T")], 403),
        ("an empty one", &[(forwarded, "")], 403),
        ("both, one unsafe", &[(forwarded, "GET"), (original, "POST")], 403),
        ("both, the other unsafe", &[(forwarded, "POST"), (original, "GET")], 403),
        ("twice, one unsafe", &[(forwarded, "GET"), (forwarded, "POST")], 403),
    ] {
        let client = fields.iter().fold(browser.clone(), |client, (name, value)| client.with(name, value));
        let reply = client.clone().get("/v1/auth/verify").await;
        assert_eq!(reply.status(), expected, "{case}");
        if expected == 403 {
            assert_eq!(reply.code(), "csrf_failed", "{case}");
        }
        assert_eq!(client.csrf().get("/v1/auth/verify").await.status(), 200, "{case}: with the value");
    }
    let foreign = browser.csrf().without("sec-fetch-site").with("sec-fetch-site", "cross-site");
    assert_eq!(foreign.clone().get("/v1/auth/verify").await.code(), "cross_site");
    assert_eq!(foreign.with(forwarded, "GET").get("/v1/auth/verify").await.status(), 200, "following a link");
    let token = app.login("ada").await.access_token;
    assert_eq!(
        app.client().bearer(&token).with(forwarded, "POST").get("/v1/auth/verify").await.status(),
        200
    );
}

const IDENTITY: [&str; 5] = ["x-auth-user", "x-auth-session", "x-auth-scope", "x-auth-roles", "x-auth-fresh"];

#[tokio::test]
async fn the_identity_is_in_headers_that_are_always_there() {
    let app = TestApp::with(|builder| {
        builder.access_claims(async |_: countersign_jwt::UserId| {
            let roles = json!(["editor", "chief of staff", "J\u{fc}rgen\r\nX-Auth-User: root", "100%", 7]);
            let claims = [("scope".to_owned(), json!("read write")), ("roles".to_owned(), roles)];
            Ok::<_, std::convert::Infallible>(serde_json::Map::from_iter(claims))
        })
    })
    .await;
    let token = app.register("ada").await.access_token;
    let claims = payload(&token);
    let reply = app.client().bearer(&token).with("x-auth-user", "root").get("/v1/auth/verify").await;
    let roles = "editor chief%20of%20staff J%C3%BCrgen%0D%0AX-Auth-User:%20root 100%25";
    let expected =
        [claims["sub"].as_str().unwrap(), claims["sid"].as_str().unwrap(), "read write", roles, "yes"];
    assert_eq!(IDENTITY.map(|name| reply.header(name).unwrap()), expected);

    let plain = TestApp::new().await;
    let account = plain.register("bob").await;
    let stale =
        plain.refresh(&account.refresh_token).await.json()["access_token"].as_str().unwrap().to_owned();
    let reply = plain.client().bearer(&stale).get("/v1/auth/verify").await;
    let values = IDENTITY.map(|name| reply.header(name).unwrap());
    assert_eq!(values[2..], ["", "", "no"], "empty, and there");
    let refused = plain.client().get("/v1/auth/verify").await;
    assert!(IDENTITY.iter().all(|name| refused.header(name).is_none()));
}

#[tokio::test]
async fn a_preflight_passes_as_nobody_and_only_where_the_proxy_asks_for_it() {
    let app = TestApp::new().await;
    let token = app.register("ada").await.access_token;
    let preflight =
        || app.client().with("origin", "https://other.example").with("access-control-request-method", "PUT");
    let (forwarded, original) = ("x-forwarded-method", "x-original-method");
    for (case, client, path, expected) in [
        ("asked for", preflight().with(forwarded, "OPTIONS"), "?preflight=allow", 200),
        ("as nginx is told", preflight().with(original, "OPTIONS"), "?preflight=allow&scope=a", 200),
        ("not asked for", preflight().with(forwarded, "OPTIONS"), "", 401),
        ("nobody says what it was", preflight(), "?preflight=allow", 401),
        ("a GET", preflight().with(forwarded, "GET"), "?preflight=allow", 401),
        (
            "the client's word",
            preflight().with(forwarded, "OPTIONS").with(original, "PUT"),
            "?preflight=allow",
            401,
        ),
        ("no preflight", app.client().with(forwarded, "OPTIONS"), "?preflight=allow", 401),
    ] {
        let reply = if expected == 200 { client.bearer(&token) } else { client }
            .get(&format!("/v1/auth/verify{path}"))
            .await;
        assert_eq!(reply.status(), expected, "{case}");
        if expected == 200 {
            assert!(IDENTITY.iter().all(|name| reply.header(name) == Some("")), "{case}: nobody");
        }
    }
}

/// The access lifetime, and more than the leeway for clocks.
const EXPIRED: u64 = 915;
const PAGE: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

async fn app_with_pages() -> TestApp {
    let sessions = LoginSessions::new().sign_in_page("/sign-in").confirm_page("/confirm");
    TestApp::with(|builder| builder.login_sessions(sessions)).await
}

fn asking_for(client: &Client, page: &str) -> Client {
    client.clone().with("accept", PAGE).with("x-forwarded-method", "GET").with("x-forwarded-uri", page)
}

#[tokio::test]
async fn sec_075_a_browser_without_a_session_is_sent_to_sign_in_and_nowhere_else() {
    let app = app_with_pages().await;
    let stranger = asking_for(&app.browser(), "/report?x=1");
    let reply = stranger.clone().get("/v1/auth/verify?redirect=yes").await;
    assert_eq!((reply.status(), reply.header("location")), (303, Some("/sign-in?next=%2Freport%3Fx%3D1")));
    let reply = stranger.clone().get("/v1/auth/verify?redirect=yes&for=nginx").await;
    assert_eq!(reply.outcome(), (401, "missing_token".to_owned()));
    assert_eq!(reply.header("x-auth-redirect"), Some("/sign-in?next=%2Freport%3Fx%3D1"));
    assert!(reply.header("www-authenticate").is_some() && reply.header("location").is_none());
    for (case, client, path) in [
        ("not asked for", stranger.clone(), ""),
        ("a program", app.client().with("x-forwarded-uri", "/report"), "?redirect=yes"),
        ("a program's token", stranger.clone().bearer("junk"), "?redirect=yes"),
        ("no page", app.browser().with("accept", PAGE), "?redirect=yes"),
        ("another host", asking_for(&app.browser(), "//evil.example/"), "?redirect=yes"),
        ("another URL", asking_for(&app.browser(), "https://evil.example/"), "?redirect=yes"),
        ("two pages", stranger.clone().with("x-original-uri", "/other"), "?redirect=yes"),
    ] {
        let reply = client.clone().get(&format!("/v1/auth/verify{path}")).await;
        assert_eq!((reply.status(), reply.header("location")), (401, None), "{case}");
    }
}

#[tokio::test]
async fn a_page_whose_access_token_has_expired_is_renewed_on_the_way() {
    let app = app_with_pages().await;
    let browser = app.signed_in_browser("ada").await;
    app.wait(EXPIRED);
    for (case, client) in [
        ("expired", browser.clone()),
        ("the browser has dropped it", browser.clone().drop_cookie(ACCESS)),
        ("another site's link: the refresh cookie is withheld", browser.clone().drop_cookie(REFRESH)),
    ] {
        let reply = asking_for(&client, "/report?x=1").get("/v1/auth/verify?redirect=yes").await;
        let there = reply.header("location").unwrap_or_default().to_owned();
        assert!(
            reply.status() == 303 && there.starts_with("/v1/auth/refresh/page?next=%2Freport"),
            "{case}: {there}"
        );
    }
    let foreign =
        browser.clone().drop_cookie(REFRESH).without("sec-fetch-site").with("sec-fetch-site", "cross-site");
    let reply = asking_for(&foreign, "/report").get("/v1/auth/verify?redirect=yes").await;
    assert_eq!(reply.status(), 303, "a page that asks again would be a success to the proxy");
    let mut browser = browser.with("accept", PAGE);
    let reply = asking_for(&browser, "/report?x=1").get("/v1/auth/verify?redirect=yes").await;
    let reply = browser.get(reply.header("location").unwrap()).await;
    assert_eq!((reply.status(), reply.header("location")), (303, Some("/report?x=1")));
    assert_eq!(asking_for(&browser, "/report?x=1").get("/v1/auth/verify?redirect=yes").await.status(), 200);
    // A script's request is told, and refreshes by itself.
    app.wait(EXPIRED);
    let script =
        browser.clone().without("accept").with("x-forwarded-uri", "/data").with("x-forwarded-method", "GET");
    assert_eq!(script.clone().get("/v1/auth/verify?redirect=yes").await.status(), 401);
    // A session that is over leads to the sign-in page, by way of the refresh page and not round in circles.
    let reply = browser.clone().csrf().post_nothing("/v1/auth/logout").await;
    assert!(reply.status() < 300, "{}", reply.shown());
    let reply = asking_for(&browser, "/report").get("/v1/auth/verify?redirect=yes").await;
    let reply = browser.get(reply.header("location").unwrap()).await;
    assert_eq!(reply.header("location"), Some("/sign-in?next=%2Freport"));
}

#[tokio::test]
async fn sec_068_forms_of_own_pages_alone_pass_without_their_value() {
    let app = TestApp::new().await;
    let browser =
        app.signed_in_browser("ada").await.without("sec-fetch-site").with("x-forwarded-method", "POST");
    for (site, path, expected) in [
        (Some("same-origin"), "?csrf=origin", 200),
        (Some("same-origin"), "", 403),
        (Some("same-site"), "?csrf=origin", 403),
        (Some("cross-site"), "?csrf=origin", 403),
        (None, "?csrf=origin", 403),
    ] {
        let client =
            site.into_iter().fold(browser.clone(), |client, site| client.with("sec-fetch-site", site));
        let reply = client.without("origin").get(&format!("/v1/auth/verify{path}")).await;
        assert_eq!(reply.status(), expected, "{site:?} {path}");
    }
}

#[tokio::test]
async fn nginx_gets_no_other_refusal_than_401_and_403() {
    let app = TestApp::new().await;
    for client in [app.client(), app.client().bearer("x"), app.client().bearer("x").bearer("x")] {
        let reply = client.clone().get("/v1/auth/verify?for=nginx").await;
        assert!(reply.status() == 401 && reply.header("www-authenticate").is_some(), "{}", reply.shown());
    }
    let token = app.register("ada").await.access_token;
    let reply = app.client().bearer(&token).get("/v1/auth/verify?for=nginx&scope=a").await;
    assert_eq!(reply.code(), "insufficient_scope");
    assert_eq!(app.client().get("/v1/auth/verify?for=nginx&x=1").await.status(), 400, "the operator's error");
}
