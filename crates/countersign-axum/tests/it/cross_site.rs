//! Requests that another site makes a browser send: origins and the CSRF value.

use axum::body::Body;
use http::Method;
use serde_json::json;

use crate::app::{ALLOWED, OWN, PASSWORD, TestApp, credentials};
use crate::client::{ACCESS, CSRF, Client, REFRESH, payload};

#[tokio::test]
async fn sec_067_a_cookie_authenticates_an_unsafe_request_only_with_its_own_csrf_value() {
    let app = TestApp::new().await;
    // Says nothing about where it comes from, so the CSRF value alone decides.
    let mut browser = app.signed_in_browser("ada").await.without("sec-fetch-site");
    let old = browser.clone();
    let login = json!({ "username": "ada", "password": PASSWORD, "cookies": true });
    browser = browser.with("sec-fetch-site", "none");
    assert_eq!(browser.post("/v1/auth/login", &login).await.status(), 200);
    let browser = browser.without("sec-fetch-site");
    let bob = app.signed_in_browser("bob").await;
    let own = browser.cookie(CSRF).to_owned();
    let user_id = payload(browser.cookie(ACCESS))["sub"].as_str().unwrap().parse().unwrap();

    for (case, values, csrf_cookie) in [
        ("missing", vec![], own.as_str()),
        ("missing, cookie too", vec![], ""),
        ("empty", vec![""], own.as_str()),
        ("another user's", vec![bob.cookie(CSRF)], own.as_str()),
        ("another user's, in both", vec![bob.cookie(CSRF)], bob.cookie(CSRF)),
        ("an old session's, in both", vec![old.cookie(CSRF)], old.cookie(CSRF)),
        ("the attacker's, in both", vec!["attacker"], "attacker"),
        ("an empty pair", vec![""], ""),
        ("repeated", vec![own.as_str(), own.as_str()], own.as_str()),
        ("listed", vec!["x, y"], own.as_str()),
        ("not text", vec!["\u{e9}"], own.as_str()),
    ] {
        for (method, path) in [
            (Method::DELETE, "/v1/auth/sessions"),
            (Method::DELETE, "/v1/auth/revoke-tokens"),
            (Method::POST, "/v1/auth/refresh"),
            (Method::POST, "/v1/auth/logout"),
            (Method::POST, "/v1/auth/login"),
            (Method::POST, "/hello"),
            (Method::POST, "/maybe"),
            (Method::POST, "/fresh"),
            (Method::POST, "/refresh-token"),
        ] {
            let mut client = browser.clone().set_cookie(CSRF, csrf_cookie);
            for value in &values {
                client = client.with("x-csrf-token", value);
            }
            let reply = client.send(method, path, Body::empty()).await;
            assert_eq!(reply.outcome(), (403, "csrf_failed".to_owned()), "{case}: {path}");
            assert!(reply.set_cookies().is_empty(), "{case}: {path}");
        }
    }
    assert_eq!(app.live_sessions(&user_id).await.len(), 1, "nothing was ended");
    let good = browser.csrf();
    assert_eq!(good.clone().post_nothing("/hello").await.status(), 200);
    assert_eq!(
        good.clone().drop_cookie(CSRF).post_nothing("/hello").await.status(),
        200,
        "the cookie proves nothing"
    );
    assert_eq!(good.clone().get("/hello").await.status(), 200);
    assert_eq!(good.without("x-csrf-token").get("/hello").await.status(), 200, "safe methods need none");
}

#[tokio::test]
async fn sec_067_a_token_that_was_not_issued_for_cookies_is_not_enough_in_one() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let planted = app
        .browser()
        .set_cookie(ACCESS, &account.access_token)
        .set_cookie(REFRESH, &account.refresh_token)
        .set_cookie(CSRF, "x");
    for client in [planted.clone(), planted.clone().csrf(), planted.with("x-csrf-token", "")] {
        for path in ["/hello", "/v1/auth/refresh", "/v1/auth/logout"] {
            let reply = client.clone().post_nothing(path).await;
            assert_eq!(reply.outcome(), (403, "csrf_failed".to_owned()), "{path}");
        }
    }
}

#[tokio::test]
async fn sec_068_site_origin_and_method_decide() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await.without("sec-fetch-site");
    let origins = [
        None,
        Some(OWN),
        Some(ALLOWED),
        Some("https://blog.example.com"),
        Some("https://evil.tld"),
        Some("null"),
    ];
    // p: passes, -: refused, ?: the CSRF value decides; by origin as above.
    for (site, expected) in [
        (None, "?pp---"),
        (Some("same-origin"), "pppppp"),
        (Some("none"), "pppppp"),
        (Some("same-site"), "--p---"),
        (Some("cross-site"), "------"),
        (Some("nonsense"), "------"),
    ] {
        for (origin, expected) in origins.into_iter().zip(expected.chars()) {
            let mut client = browser.clone();
            for (name, value) in [("sec-fetch-site", site), ("origin", origin)] {
                if let Some(value) = value {
                    client = client.with(name, value);
                }
            }
            let case = format!("{site:?} {origin:?}");
            let proven = client.clone().csrf();
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                let with = proven.clone().send(method.clone(), "/hello", Body::empty()).await.outcome();
                let without = client.clone().send(method.clone(), "/hello", Body::empty()).await.outcome();
                let (with_expected, without_expected) = match expected {
                    '-' => ((403, "cross_site"), (403, "cross_site")),
                    _ => ((200, ""), (403, "csrf_failed")),
                };
                assert_eq!((with.0, with.1.as_str()), (with_expected.0, with_expected.1), "{method} {case}");
                assert_eq!(
                    (without.0, without.1.as_str()),
                    (without_expected.0, without_expected.1),
                    "{method} {case}"
                );
            }
            for method in [Method::GET, Method::HEAD] {
                let reply = client.clone().send(method.clone(), "/hello", Body::empty()).await;
                assert_eq!(reply.status(), 200, "{method} {case}");
            }
        }
    }
}

#[tokio::test]
async fn sec_068_the_referer_is_asked_last() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await.csrf().without("sec-fetch-site");
    for (fields, status) in [
        (&[("referer", "https://app.example.com/a?b")][..], 200),
        (&[("referer", "https://admin.example.com/")], 200),
        (&[("referer", "https://app.example.com.evil.tld/")], 403),
        (&[("referer", "https://evil.tld/https://app.example.com/")], 403),
        (&[("referer", "nonsense")], 403),
        (&[("origin", "null"), ("referer", "https://app.example.com/")], 403),
        (&[("origin", OWN), ("origin", OWN)], 403),
        (&[("sec-fetch-site", "cross-site"), ("origin", OWN), ("referer", "https://app.example.com/")], 403),
        (&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "same-origin")], 403),
    ] {
        let mut client = browser.clone();
        for (name, value) in fields {
            client = client.with(name, value);
        }
        assert_eq!(client.post_nothing("/hello").await.status(), status, "{fields:?}");
    }
}

#[tokio::test]
async fn requests_without_our_cookies_pass_from_anywhere() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    for (name, value) in
        [("sec-fetch-site", "cross-site"), ("origin", "https://evil.tld"), ("origin", "null")]
    {
        let foreign = app.client().with(name, value).set_cookie("unrelated", "1");
        assert_eq!(foreign.clone().bearer(&account.access_token).post_nothing("/hello").await.status(), 200);
        let login = json!({ "username": "ada", "password": PASSWORD });
        let reply = foreign.clone().post("/v1/auth/login", &login).await;
        assert_eq!(reply.status(), 200);
        assert!(reply.set_cookies().is_empty());
    }
}

#[tokio::test]
async fn sec_068_a_bearer_token_beside_our_cookies_does_not_make_another_site_ours() {
    let app = TestApp::new().await;
    let account = app.register("bob").await;
    let browser = app.signed_in_browser("ada").await.without("sec-fetch-site").csrf();
    let mut foreign = browser.with("origin", "https://evil.tld").bearer(&account.access_token);
    for path in ["/hello", "/maybe", "/v1/auth/refresh", "/v1/auth/logout"] {
        assert_eq!(foreign.post_nothing(path).await.outcome(), (403, "cross_site".to_owned()), "{path}");
    }
    assert_eq!(foreign.get("/hello").await.status(), 200);
}

/// How another site's page gets a browser to send a request.
fn foreign(client: &Client) -> Vec<Client> {
    let client = client.clone().without("sec-fetch-site");
    vec![
        client.clone().with("sec-fetch-site", "cross-site").with("origin", "https://evil.tld"),
        client.clone().with("sec-fetch-site", "same-site").with("origin", "https://blog.example.com"),
        client.clone().with("sec-fetch-site", "cross-site"),
        client.clone().with("origin", "https://evil.tld"),
        client.clone().with("origin", "null"),
        client.with("referer", "https://evil.tld/"),
    ]
}

#[tokio::test]
async fn sec_069_another_site_logs_nobody_in() {
    let app = TestApp::new().await;
    let attacker = app.register("attacker").await;
    let victim = app.signed_in_browser("victim").await;
    let victim_id = payload(victim.cookie(ACCESS))["sub"].as_str().unwrap().parse().unwrap();
    let login = json!({ "username": "attacker", "password": PASSWORD, "cookies": true });
    let hashes = app.hashes();
    for jar in [app.client(), victim] {
        for mut client in foreign(&jar) {
            let reply = client.post("/v1/auth/login", &login).await;
            assert_eq!(reply.outcome(), (403, "cross_site".to_owned()));
            assert!(reply.set_cookies().is_empty());
            let mut register = credentials("planted");
            register["cookies"] = json!(true);
            let reply = client.post("/v1/auth/register", &register).await;
            assert_eq!(reply.outcome(), (403, "cross_site".to_owned()));
            assert!(reply.set_cookies().is_empty());
        }
    }
    assert_eq!(app.hashes(), hashes, "not even a password was checked");
    assert_eq!(app.live_sessions(&attacker.user_id).await.len(), 1);
    assert_eq!(app.live_sessions(&victim_id).await.len(), 1);
    assert_eq!(
        app.client().post("/v1/auth/register", &credentials("planted")).await.status(),
        201,
        "not taken"
    );
}

#[tokio::test]
async fn sec_069_another_site_neither_refreshes_nor_logs_out() {
    let app = TestApp::new().await;
    let victim = app.signed_in_browser("victim").await;
    // Even if it knew the CSRF value.
    for jar in [victim.clone(), victim.clone().csrf()] {
        for mut client in foreign(&jar) {
            for path in ["/v1/auth/refresh", "/v1/auth/logout"] {
                let reply = client.post_nothing(path).await;
                assert_eq!(reply.outcome(), (403, "cross_site".to_owned()), "{path}");
                assert!(reply.set_cookies().is_empty(), "{path}");
            }
        }
    }
    let mut victim = victim.csrf();
    assert_eq!(victim.get("/v1/auth/me").await.status(), 200);
    assert_eq!(victim.post_nothing("/v1/auth/refresh").await.status(), 200);
    assert_eq!(payload(victim.cookie(ACCESS))["gen"], 1, "the first step");
}

#[tokio::test]
async fn sec_072_the_csrf_value_changes_at_login_and_logout_but_not_at_refresh() {
    let app = TestApp::new().await;
    let mut browser = app.signed_in_browser("ada").await.csrf();
    let registered = browser.cookie(CSRF).to_owned();
    assert_eq!(browser.post_nothing("/v1/auth/refresh").await.status(), 200);
    assert_eq!(browser.cookie(CSRF), registered);
    app.wait(60);
    assert_eq!(browser.post_nothing("/v1/auth/refresh").await.status(), 200);
    assert_eq!(browser.cookie(CSRF), registered);

    let login = json!({ "username": "ada", "password": PASSWORD, "cookies": true });
    assert_eq!(browser.post("/v1/auth/login", &login).await.status(), 200);
    let second = browser.cookie(CSRF).to_owned();
    assert_ne!(second, registered);
    assert_eq!(
        browser.post_nothing("/hello").await.outcome(),
        (403, "csrf_failed".to_owned()),
        "the old value"
    );

    browser = browser.csrf();
    assert_eq!(browser.post_nothing("/v1/auth/logout").await.status(), 204);
    assert_eq!(browser.cookie(CSRF), "");
    assert_eq!(browser.post("/v1/auth/login", &login).await.status(), 200);
    assert!(![registered, second].contains(&browser.cookie(CSRF).to_owned()));
}

#[tokio::test]
async fn sec_191_a_sandboxed_frame_is_nobody_we_allow() {
    let app = TestApp::new().await;
    let frame = app.signed_in_browser("ada").await.csrf().with("origin", "null");
    for site in [None, Some("cross-site"), Some("same-site")] {
        let frame = frame.clone().without("sec-fetch-site");
        let frame = site.iter().fold(frame, |frame, site| frame.with("sec-fetch-site", site));
        let read = frame.clone().get("/v1/auth/me").await;
        assert_eq!(
            read.header("access-control-allow-origin"),
            None,
            "{site:?}: its page may not read the answer"
        );
        assert_eq!(read.header("access-control-allow-credentials"), None, "{site:?}");
        assert_eq!(frame.clone().post_nothing("/hello").await.code(), "cross_site", "{site:?}");
        assert_eq!(frame.clone().post_nothing("/v1/auth/logout").await.code(), "cross_site", "{site:?}");
    }
    for allowed in ["null", "*", "https://*.example.com"] {
        assert!(allowed.parse::<countersign_http::AllowedOrigins>().is_err(), "{allowed} cannot be allowed");
    }
}
