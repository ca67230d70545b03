//! Where a credential is looked for, and what is refused before anyone looks at it.

use http::Method;
use serde_json::json;

use crate::app::TestApp;
use crate::client::{ACCESS, CSRF, REFRESH};

#[tokio::test]
async fn sec_047_an_authorization_field_is_a_scheme_spaces_and_a_token() {
    let app = TestApp::new().await;
    let token = app.register("ada").await.access_token;
    for (case, field, expected) in [
        ("as usual", format!("Bearer {token}"), (200, "")),
        ("lower case", format!("bearer {token}"), (200, "")),
        ("upper case", format!("BEARER {token}"), (200, "")),
        ("several spaces", format!("Bearer    {token}"), (200, "")),
        ("a tab", format!("Bearer\t{token}"), (401, "invalid_token")),
        ("quoted", format!("Bearer \"{token}\""), (401, "invalid_token")),
        ("no scheme", token.clone(), (401, "invalid_token")),
        ("a colon", format!("Bearer: {token}"), (401, "invalid_token")),
        ("no token", "Bearer".to_owned(), (401, "invalid_token")),
        ("no token but a space", "Bearer ".to_owned(), (401, "invalid_token")),
        ("nothing", String::new(), (401, "invalid_token")),
        ("not ASCII", format!("Bearer {token}é"), (401, "invalid_token")),
        ("two tokens", format!("Bearer {token} {token}"), (401, "invalid_token")),
        ("padded", format!("Bearer {token}="), (401, "invalid_token")),
        ("another scheme", "Basic dXNlcjpwYXNz".to_owned(), (401, "missing_token")),
    ] {
        let reply = app.client().with("authorization", &field).get("/v1/auth/me").await;
        assert_eq!(reply.outcome(), (expected.0, expected.1.to_owned()), "{case}");
    }
}

#[tokio::test]
async fn sec_048_repeated_or_listed_authorization_is_an_invalid_request() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let good = format!("Bearer {}", account.access_token);
    for fields in [
        vec![good.clone(), good.clone()],
        vec![good.clone(), "Basic x".to_owned()],
        vec![format!("{good}, {good}")],
        vec![format!("{good},")],
    ] {
        for (method, path) in [
            (Method::GET, "/hello"),
            (Method::GET, "/maybe"),
            (Method::GET, "/v1/auth/me"),
            (Method::DELETE, "/v1/auth/sessions"),
            (Method::POST, "/v1/auth/logout"),
            (Method::POST, "/v1/auth/refresh"),
        ] {
            let mut client = app.client();
            for field in &fields {
                client = client.with("authorization", field);
            }
            // Another place with a good token does not help.
            let body = json!({ "refresh_token": account.refresh_token });
            let reply = client.send_json(method.clone(), path, &body).await;
            assert_eq!(reply.outcome(), (400, "invalid_request".to_owned()), "{method} {path}");
        }
    }
    assert_eq!(app.live_sessions(&account.user_id).await.len(), 1);
}

#[tokio::test]
async fn sec_049_the_first_place_with_a_token_decides_even_if_it_is_refused() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await;
    let bob = app.register("bob").await;
    let me = |client: crate::client::Client| async move {
        let reply = { client }.get("/v1/auth/me").await;
        (reply.status(), reply.json()["username"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(me(browser.clone()).await, (200, "ada".to_owned()));
    assert_eq!(me(browser.clone().bearer(&bob.access_token)).await, (200, "bob".to_owned()), "header first");
    assert_eq!(me(browser.clone().bearer("junk")).await, (401, String::new()), "no fall-back");
    assert_eq!(me(browser.clone().with("authorization", "Basic eA==")).await, (200, "ada".to_owned()));

    // For refresh the body comes first, then the header, then the cookie.
    let refresh = |client: crate::client::Client, body: serde_json::Value| async move {
        let reply = { client }.post("/v1/auth/refresh", &body).await;
        (reply.status(), reply.json()["user"]["username"].as_str().unwrap_or_default().to_owned())
    };
    let in_body = json!({ "refresh_token": bob.refresh_token });
    let browser = browser.csrf();
    assert_eq!(refresh(browser.clone().bearer("junk"), in_body.clone()).await, (200, "bob".to_owned()));
    assert_eq!(refresh(browser.clone().bearer(&bob.refresh_token), json!({})).await, (200, "bob".to_owned()));
    assert_eq!(refresh(browser.clone(), json!({ "refresh_token": null })).await, (200, "ada".to_owned()));
    assert_eq!(refresh(browser.clone(), json!({ "refresh_token": "junk" })).await, (401, String::new()));
    assert_eq!(refresh(browser.clone().bearer("junk"), json!({})).await, (401, String::new()));
}

#[tokio::test]
async fn sec_050_junk_elsewhere_does_not_switch_off_the_csrf_check() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await;
    app.login("ada").await;
    let user_id = browser.clone().get("/hello").await;
    let user_id = String::from_utf8(user_id.body.to_vec()).unwrap().replace("hello ", "").parse().unwrap();
    for field in [None, Some("Bearer x"), Some("Bearer"), Some("Basic x"), Some("x"), Some("")] {
        for path in ["/v1/auth/sessions", "/v1/auth/sessions?access_token=x&csrf_token=x"] {
            let mut client = browser.clone();
            if let Some(field) = field {
                client = client.with("authorization", field);
            }
            let body = json!({ "access_token": "x", "refresh_token": "x", "csrf_token": "x" });
            let reply = client.send_json(Method::DELETE, path, &body).await;
            assert!([401, 403].contains(&reply.status()), "{field:?} {reply:?}");
            assert_eq!(app.live_sessions(&user_id).await.len(), 2, "{field:?}");
        }
    }
}

#[tokio::test]
async fn sec_061_cookie_names_are_exact_and_a_bad_cookie_hides_nothing() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await;
    let token = browser.cookie(ACCESS);
    for (case, field, status) in [
        ("as usual", format!("{ACCESS}={token}"), 200),
        ("after a bad one", format!("x=é; {ACCESS}={token}"), 200),
        ("after nonsense", format!("=; ;;x; \"; {ACCESS}={token}; %zz"), 200),
        ("encoded", format!("%5F%5FHost-countersign_access={token}"), 401),
        ("lower case", format!("__host-countersign_access={token}"), 401),
        ("without the prefix", format!("countersign_access={token}"), 401),
        ("behind another space", format!("\u{2000}{ACCESS}={token}"), 401),
        ("quoted", format!("{ACCESS}=\"{token}\""), 401),
        ("in one field of two", format!("{ACCESS}="), 401),
    ] {
        let reply = app.client().with("cookie", &field).get("/v1/auth/me").await;
        assert_eq!(reply.status(), status, "{case}");
    }
    let two_fields = app.client().with("cookie", "a=b").with("cookie", &format!("{ACCESS}={token}"));
    assert_eq!({ two_fields }.get("/v1/auth/me").await.status(), 200);
}

#[tokio::test]
async fn sec_062_a_repeated_token_cookie_is_refused_and_both_are_expired() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await.csrf();
    for (name, method, path) in [
        (ACCESS, Method::GET, "/v1/auth/me"),
        (ACCESS, Method::GET, "/maybe"),
        (ACCESS, Method::POST, "/hello"),
        (ACCESS, Method::DELETE, "/v1/auth/sessions"),
        (REFRESH, Method::POST, "/v1/auth/refresh"),
    ] {
        let twice = format!("{name}={}", browser.cookie(name));
        let mut tossed = browser.clone().with("cookie", &twice);
        let reply = tossed.send(method, path, axum::body::Body::empty()).await;
        assert_eq!(reply.outcome(), (401, "invalid_token".to_owned()), "{path}");
        let expired: Vec<_> =
            reply.set_cookies().into_iter().map(|cookie| (cookie.name, cookie.value)).collect();
        let expected = [(ACCESS.to_owned(), String::new()), (REFRESH.to_owned(), String::new())];
        assert_eq!(expired, expected, "{path}");
    }
}

#[tokio::test]
async fn sec_062_a_repeated_refresh_cookie_is_expired_by_logout_as_well() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await.with("cookie", &format!("{REFRESH}=x"));
    for (case, mut client) in [
        ("alone", browser.clone().drop_cookie(ACCESS).csrf()),
        ("beside a cookie without its CSRF value", browser.clone()),
        ("beside garbage", browser.set_cookie(ACCESS, "x").csrf()),
    ] {
        let reply = client.post_nothing("/v1/auth/logout").await;
        assert_eq!(reply.outcome(), (401, "invalid_token".to_owned()), "{case}");
        assert_eq!(reply.set_cookies().len(), 2, "{case}");
    }
}

#[tokio::test]
async fn a_token_of_the_wrong_kind_is_refused_everywhere() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await.csrf();
    let account = app.login("ada").await;
    let swapped = browser
        .clone()
        .set_cookie(ACCESS, browser.cookie(REFRESH))
        .set_cookie(REFRESH, browser.cookie(ACCESS));
    for (method, path) in
        [(Method::GET, "/v1/auth/me"), (Method::POST, "/v1/auth/refresh"), (Method::POST, "/hello")]
    {
        let reply = swapped.clone().send(method, path, axum::body::Body::empty()).await;
        assert_eq!(reply.outcome(), (401, "invalid_token".to_owned()), "{path}");
    }
    for (token, path) in [
        (&account.refresh_token, "/v1/auth/me"),
        (&account.refresh_token, "/maybe"),
        (&account.access_token, "/refresh-token"),
        (&browser.cookie(CSRF).to_owned(), "/v1/auth/me"),
    ] {
        assert_eq!(app.client().bearer(token).get(path).await.status(), 401, "{path}");
    }
}

#[tokio::test]
async fn sec_051_a_token_in_the_query_or_in_another_routes_body_is_no_credential() {
    let app = TestApp::new().await;
    let token = app.register("ada").await.access_token;
    for path in ["/hello", "/v1/auth/me", "/v1/auth/sessions"] {
        for name in ["access_token", "token", "jwt"] {
            let reply = app.client().get(&format!("{path}?{name}={token}")).await;
            assert_eq!(reply.outcome(), (401, "missing_token".to_owned()), "{path} {name}");
        }
    }
    let body = json!({ "access_token": token, "refresh_token": token });
    for (method, path) in [(Method::POST, "/hello"), (Method::DELETE, "/v1/auth/sessions")] {
        let reply = app.client().send_json(method, path, &body).await;
        assert_eq!(reply.outcome(), (401, "missing_token".to_owned()), "{path}");
    }
}
