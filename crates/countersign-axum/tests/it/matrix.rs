//! What holds for all routes: statuses, challenges, caching, methods, the order of checks.

use http::Method;
use serde_json::{Value, json};

use crate::app::{PASSWORD, TestApp, credentials};
use crate::client::{ACCESS, Response};

/// Every route that changes state, with its method.
const STATE_CHANGING: [(&str, Method); 7] = [
    ("/v1/auth/register", Method::POST),
    ("/v1/auth/login", Method::POST),
    ("/v1/auth/refresh", Method::POST),
    ("/v1/auth/logout", Method::POST),
    ("/v1/auth/sessions", Method::DELETE),
    ("/v1/auth/sessions/00000000-0000-4000-8000-000000000000", Method::DELETE),
    ("/v1/auth/revoke-tokens", Method::DELETE),
];

#[tokio::test]
async fn sec_053_every_refusal_has_its_status_code_and_challenge() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let stale = app.refresh(&account.refresh_token).await.json()["access_token"].clone();
    let stale = stale.as_str().unwrap();
    let bearer = |token: &str| app.client().bearer(token);
    let cookie = app.signed_in_browser("bob").await;
    let wrong_password = json!({ "username": "ada", "password": "not this one" });
    let mut login = app.client();

    let invalid_token = Some("Bearer error=\"invalid_token\"");
    for (case, reply, status, code, challenge) in [
        ("no credential", app.client().get("/hello").await, 401, "missing_token", Some("Bearer")),
        (
            "refresh without",
            app.client().post_nothing("/v1/auth/refresh").await,
            401,
            "missing_token",
            Some("Bearer"),
        ),
        (
            "logout without",
            app.client().post_nothing("/v1/auth/logout").await,
            401,
            "missing_token",
            Some("Bearer"),
        ),
        ("garbage", bearer("x").get("/hello").await, 401, "invalid_token", invalid_token),
        (
            "wrong kind",
            bearer(&account.refresh_token).get("/v1/auth/me").await,
            401,
            "invalid_token",
            invalid_token,
        ),
        (
            "wrong kind of refresh",
            app.refresh(&account.access_token).await,
            401,
            "invalid_token",
            invalid_token,
        ),
        (
            "wrong password",
            login.post("/v1/auth/login", &wrong_password).await,
            401,
            "invalid_credentials",
            Some("Bearer"),
        ),
        (
            "not fresh",
            bearer(stale).post_nothing("/fresh").await,
            401,
            "fresh_token_required",
            Some("Bearer error=\"insufficient_user_authentication\""),
        ),
        (
            "two fields",
            bearer("x").bearer("x").get("/hello").await,
            400,
            "invalid_request",
            Some("Bearer error=\"invalid_request\""),
        ),
        ("no CSRF value", cookie.clone().post_nothing("/hello").await, 403, "csrf_failed", None),
        (
            "another site",
            cookie.clone().without("sec-fetch-site").with("origin", "null").post_nothing("/hello").await,
            403,
            "cross_site",
            None,
        ),
        ("unknown path", app.client().get("/v1/auth/nothing").await, 404, "not_found", None),
        ("unknown method", app.client().get("/v1/auth/login").await, 405, "method_not_allowed", None),
        (
            "taken",
            app.client().post("/v1/auth/register", &credentials("ada")).await,
            409,
            "email_taken",
            None,
        ),
        ("no members", app.client().post_nothing("/v1/auth/login").await, 422, "invalid_fields", None),
    ] {
        assert_eq!(reply.outcome(), (status, code.to_owned()), "{case}");
        match (challenge, reply.header("www-authenticate")) {
            (Some("Bearer"), found) => assert_eq!(found, Some("Bearer"), "{case}"),
            (Some(begins), Some(found)) => assert!(found.starts_with(begins), "{case}: {found}"),
            (expected, found) => assert_eq!(found, expected, "{case}"),
        }
        let body = reply.json();
        assert!(body["error_description"].as_str().unwrap().ends_with('.'), "{case}: {body}");
        assert_eq!(body["fields"].is_object(), status == 422, "{case}: {body}");
        assert_eq!(reply.header("content-type"), Some("application/json"), "{case}");
        assert!(reply.set_cookies().is_empty(), "refusals clear nothing: {case}");
    }
}

#[tokio::test]
async fn sec_054_personal_answers_are_never_stored_and_vary_by_credential() {
    let app = TestApp::new().await;
    let check = |case: &str, reply: &Response| {
        assert!(reply.status() < 300, "{case}: {reply:?}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{case}");
        assert_eq!(reply.header("vary"), Some("Cookie, Authorization"), "{case}");
    };
    for cookies in [false, true] {
        let name = if cookies { "with-cookies" } else { "without-cookies" };
        let mut body = credentials(name);
        body["cookies"] = json!(cookies);
        let mut client = app.browser();
        check("register", &client.post("/v1/auth/register", &body).await);
        client = app.browser();
        app.wait(1);
        let login = client
            .post("/v1/auth/login", &json!({ "username": name, "password": PASSWORD, "cookies": cookies }))
            .await;
        check("login", &login);
        let mut refresh_body = json!({});
        if cookies {
            client = client.csrf();
        } else {
            client = client.bearer(login.json()["access_token"].as_str().unwrap());
            refresh_body = json!({ "refresh_token": login.json()["refresh_token"] });
        }
        check("me", &client.get("/v1/auth/me").await);
        check("sessions", &client.get("/v1/auth/sessions").await);
        let id =
            client.get("/v1/auth/sessions").await.json()["sessions"][1]["id"].as_str().unwrap().to_owned();
        check("end one", &client.delete(&format!("/v1/auth/sessions/{id}")).await);
        check("end others", &client.delete("/v1/auth/sessions").await);
        let tokens = json!({ "tokens": ["00000000-0000-4000-8000-000000000000"] });
        check("revoke", &client.send_json(Method::DELETE, "/v1/auth/revoke-tokens", &tokens).await);
        check("refresh", &client.post("/v1/auth/refresh", &refresh_body).await);
        check("logout", &client.post("/v1/auth/logout", &refresh_body).await);
    }
}

#[tokio::test]
async fn sec_054_refusals_are_not_stored_either() {
    let app = TestApp::new().await;
    for (path, method) in STATE_CHANGING {
        for method in [method, Method::GET] {
            let reply = app.client().send(method.clone(), path, axum::body::Body::empty()).await;
            assert!(reply.status() >= 400);
            assert_eq!(reply.header("cache-control"), Some("no-store"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn sec_066_no_safe_method_changes_state() {
    let app = TestApp::new().await;
    for (path, method) in STATE_CHANGING {
        for other in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::PATCH] {
            if path == "/v1/auth/sessions" && [Method::GET, Method::HEAD].contains(&other) {
                continue; // the list
            }
            let reply = app.client().send(other.clone(), path, axum::body::Body::empty()).await;
            assert_eq!(reply.status(), 405, "{other} {path}");
            let allow = reply.header("allow").unwrap_or_default();
            assert!(
                allow.split(',').any(|allowed| allowed.trim() == method.as_str()),
                "{other} {path}: {allow}"
            );
            if other != Method::HEAD {
                assert_eq!(reply.code(), "method_not_allowed", "{other} {path}");
            }
        }
    }
}

#[tokio::test]
async fn checks_come_in_the_order_of_the_contract() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await;
    let bad_cookie = browser.clone().set_cookie(ACCESS, "x");
    let foreign = bad_cookie.clone().without("sec-fetch-site").with("sec-fetch-site", "cross-site");
    let proven = browser.clone().csrf();
    let (text, json_type) = (Some("text/plain"), Some("application/json"));
    let oversized = vec![b'['; 65 * 1024];
    let malformed = b"[".to_vec();
    let wrong = b"{\"tokens\":1}".to_vec();
    let good = json!({ "tokens": ["x"] }).to_string().into_bytes();
    let (unknown, revoke) = ("/v1/auth/unknown", "/v1/auth/revoke-tokens");
    // Each request has one mistake less than the one before.
    for (client, method, path, content_type, body, expected) in [
        (&foreign, Method::PUT, unknown, text, &oversized, (404, "not_found")),
        (&foreign, Method::PUT, revoke, text, &oversized, (405, "method_not_allowed")),
        (&foreign, Method::DELETE, revoke, text, &oversized, (403, "cross_site")),
        (&bad_cookie, Method::DELETE, revoke, text, &oversized, (401, "invalid_token")),
        (&browser, Method::DELETE, revoke, text, &oversized, (403, "csrf_failed")),
        (&proven, Method::DELETE, revoke, text, &oversized, (413, "too_large")),
        (&proven, Method::DELETE, revoke, text, &malformed, (415, "unsupported_media_type")),
        (&proven, Method::DELETE, revoke, json_type, &malformed, (400, "invalid_request")),
        (&proven, Method::DELETE, revoke, json_type, &wrong, (422, "invalid_fields")),
        (&proven, Method::DELETE, revoke, json_type, &good, (200, "")),
    ] {
        let reply = client.clone().send_bytes(method, path, content_type, body.clone()).await;
        assert_eq!(reply.outcome(), (expected.0, expected.1.to_owned()), "{reply:?}");
    }

    for id in ["00000000-0000-4000-8000-000000000000", "x", "%FF", "%00", "%2F", "%"] {
        let path = format!("/v1/auth/sessions/{id}");
        for (client, expected) in [
            (&foreign, (403, "cross_site")),
            (&bad_cookie, (401, "invalid_token")),
            (&browser, (403, "csrf_failed")),
            (&proven, (404, "not_found")),
        ] {
            let reply = client.clone().delete(&path).await;
            assert_eq!(reply.outcome(), (expected.0, expected.1.to_owned()), "{path}");
        }
    }
}

#[tokio::test]
async fn cross_site_comes_before_everything_that_is_wrong_with_the_body() {
    let app = TestApp::new().await;
    let carries = app.signed_in_browser("ada").await;
    for path in ["/v1/auth/register", "/v1/auth/login", "/v1/auth/refresh", "/v1/auth/logout"] {
        for (content_type, body) in [
            ("text/plain", vec![b'x'; 65 * 1024]),
            ("text/plain", b"x".to_vec()),
            ("application/json", b"{".to_vec()),
            ("application/json", b"{\"email\":1,\"refresh_token\":1}".to_vec()),
        ] {
            let mut foreign = carries.clone().without("sec-fetch-site").with("sec-fetch-site", "cross-site");
            let reply = foreign.send_bytes(Method::POST, path, Some(content_type), body).await;
            assert_eq!(reply.outcome(), (403, "cross_site".to_owned()), "{path} {content_type}");
        }
    }
    // Whether a request asks for cookies is in its body.
    for path in ["/v1/auth/register", "/v1/auth/login"] {
        for (body, expected) in [
            (json!({ "cookies": true, "email": 1 }), (403, "cross_site")),
            (json!({ "cookies": false, "email": 1 }), (422, "invalid_fields")),
            (json!({ "cookies": 1, "email": 1 }), (422, "invalid_fields")),
        ] {
            let reply = app.client().with("sec-fetch-site", "cross-site").post(path, &body).await;
            assert_eq!(reply.outcome(), (expected.0, expected.1.to_owned()), "{path} {body}");
        }
    }
}

#[tokio::test]
async fn a_credential_in_the_body_is_read_before_it_is_missed() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await;
    let (text, json_type) = (Some("text/plain"), Some("application/json"));
    for path in ["/v1/auth/refresh", "/v1/auth/logout"] {
        for (content_type, body, expected) in [
            (text, vec![b'{'; 65 * 1024], (413, "too_large")),
            (text, b"{".to_vec(), (415, "unsupported_media_type")),
            (json_type, b"{".to_vec(), (400, "invalid_request")),
            (json_type, b"{\"refresh_token\":1}".to_vec(), (422, "invalid_fields")),
        ] {
            for client in [app.client(), browser.clone()] {
                let reply = client.clone().send_bytes(Method::POST, path, content_type, body.clone()).await;
                assert_eq!(reply.outcome(), (expected.0, expected.1.to_owned()), "{path}");
            }
        }
        assert_eq!(app.client().post(path, &json!({})).await.code(), "missing_token", "{path}");
        assert_eq!(app.client().post(path, &json!({ "refresh_token": "x" })).await.code(), "invalid_token");
        assert_eq!(browser.clone().post(path, &json!({})).await.code(), "csrf_failed", "{path}");
    }
}

#[tokio::test]
async fn answers_look_as_the_contract_says() {
    let app = TestApp::new().await;
    let mut client = app.client().with("user-agent", "tests/1");
    let registered = client.post("/v1/auth/register", &credentials("ada")).await;
    insta::assert_snapshot!("register", registered.shown());
    let token = registered.json()["access_token"].as_str().unwrap().to_owned();
    let mut client = client.bearer(&token);
    insta::assert_snapshot!("me", client.get("/v1/auth/me").await.shown());
    insta::assert_snapshot!("sessions", client.get("/v1/auth/sessions").await.shown());
    let tokens = json!({ "tokens": ["00000000-0000-4000-8000-000000000000"] });
    let revoked = client.send_json(Method::DELETE, "/v1/auth/revoke-tokens", &tokens).await;
    insta::assert_snapshot!("revoke_tokens", revoked.shown());

    let mut browser = app.browser();
    let login = json!({ "email": "ada@example.org", "password": PASSWORD, "cookies": true });
    insta::assert_snapshot!("login_by_cookie", browser.post("/v1/auth/login", &login).await.shown());
    browser = browser.csrf();
    insta::assert_snapshot!("refresh_by_cookie", browser.post_nothing("/v1/auth/refresh").await.shown());
    insta::assert_snapshot!("logout_by_cookie", browser.post_nothing("/v1/auth/logout").await.shown());

    let wrong = json!({ "email": "x", "username": "@", "password": "short", "cookies": "yes" });
    insta::assert_snapshot!("invalid_fields", app.client().post("/v1/auth/register", &wrong).await.shown());
    insta::assert_snapshot!("missing_token", app.client().get("/v1/auth/me").await.shown());
    insta::assert_snapshot!("unknown_path", app.client().get("/v1/auth/nothing").await.shown());

    app.store.fail(true);
    insta::assert_snapshot!("unavailable", client.get("/v1/auth/me").await.shown());
}

#[tokio::test]
async fn absent_values_are_null_and_times_are_utc() {
    let app = TestApp::new().await;
    let body = json!({ "email": "ada@example.org", "password": PASSWORD });
    let reply = app.client().post("/v1/auth/register", &body).await;
    let user = &reply.json()["user"];
    assert_eq!(user["username"], Value::Null);
    assert_eq!(user["created_at"], "2026-01-31T12:00:00Z");
    let mut client = app.client().bearer(reply.json()["access_token"].as_str().unwrap());
    assert_eq!(client.get("/v1/auth/me").await.json(), *user);
    let session = client.get("/v1/auth/sessions").await.json()["sessions"][0].clone();
    let members: Vec<_> = session.as_object().unwrap().keys().cloned().collect();
    let mut expected = ["id", "created_at", "last_seen_at", "expires_at", "user_agent", "ip", "current"];
    expected.sort_unstable();
    let mut found: Vec<_> = members.iter().map(String::as_str).collect();
    found.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!((&session["user_agent"], &session["ip"]), (&Value::Null, &Value::Null));
}
