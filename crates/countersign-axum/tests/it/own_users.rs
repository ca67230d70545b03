//! Programs with users of their own: the ready-made routes work for these, and let nobody else in.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use countersign_axum::{AuthBuilder, account_routes, routes};
use countersign_core::flow::Presentation;
use countersign_jwt::UserId;
use http::Method;
use serde_json::{Map, json};

use crate::app::{PASSWORD, TestApp, credentials};
use crate::client::{ACCESS, CSRF, REFRESH};
use crate::members::{begin, check_account_decides, member, shown, with_routes};

const COMMON: [(&str, &str, u16); 8] = [
    ("POST", "/v1/auth/refresh", 401),
    ("POST", "/v1/auth/logout", 401),
    ("GET", "/v1/auth/me", 401),
    ("GET", "/v1/auth/verify", 401),
    ("GET", "/v1/auth/sessions", 401),
    ("DELETE", "/v1/auth/sessions", 401),
    ("DELETE", "/v1/auth/revoke-tokens", 401),
    ("GET", "/.well-known/jwks.json", 200),
];

#[tokio::test]
async fn sec_222_each_router_opens_the_routes_that_it_names_and_no_other() {
    let app = TestApp::with(|auth| auth.user_loader(member)).await;
    let (common, accounts) = (with_routes(&app, routes()), with_routes(&app, account_routes()));
    for (method, path, status) in COMMON {
        let method: Method = method.parse().unwrap();
        let reply = common.clone().send_json(method.clone(), path, &json!({})).await;
        assert_eq!(reply.status(), status, "{path}");
        assert_eq!(accounts.clone().send_json(method, path, &json!({})).await.status(), 404, "{path}");
    }
    let login = json!({ "username": "ada", "password": PASSWORD });
    for (path, body, status) in
        [("/v1/auth/register", credentials("ada"), 201), ("/v1/auth/login", login, 200)]
    {
        let refused = common.clone().post(path, &body).await;
        assert_eq!(refused.outcome(), (404, "not_found".to_owned()), "{path}");
        assert_eq!(accounts.clone().post(path, &body).await.status(), status, "{path}");
    }
}

#[tokio::test]
async fn own_users_refresh_and_see_themselves() {
    for (show, expected) in [(true, json!({ "id": "17", "name": "Ada" })), (false, json!({ "id": "17" }))] {
        let configure = |auth: AuthBuilder| {
            let auth = auth.user_loader(member);
            if show { auth.show_user(shown) } else { auth }
        };
        let app = TestApp::with(configure).await;
        let client = with_routes(&app, routes());
        let pair = begin(&app, "17", Presentation::Explicit).await;
        let reply =
            client.clone().post("/v1/auth/refresh", &json!({ "refresh_token": pair.refresh_token })).await;
        assert_eq!((reply.status(), &reply.json()["user"]), (200, &expected));
        let access = reply.json()["access_token"].as_str().unwrap().to_owned();
        let mut signed_in = client.clone().bearer(&access);
        let me = signed_in.get("/v1/auth/me").await;
        assert_eq!((me.status(), me.json()), (200, expected));
        assert_eq!(me.header("cache-control"), Some("no-store"));
        assert_eq!(signed_in.get("/hello").await.body, "17");
        let sessions = signed_in.get("/v1/auth/sessions").await.json();
        assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1);
        assert_eq!(signed_in.post_nothing("/v1/auth/logout").await.status(), 204);
        assert_eq!(signed_in.get("/v1/auth/me").await.status(), 401);
    }
}

#[tokio::test]
async fn own_users_refresh_by_cookie() {
    let app = TestApp::with(|auth| auth.user_loader(member)).await;
    let pair = begin(&app, "17", Presentation::Cookie).await;
    let mut browser = with_routes(&app, routes())
        .with("sec-fetch-site", "same-origin")
        .set_cookie(ACCESS, &pair.access_token)
        .set_cookie(REFRESH, &pair.refresh_token)
        .set_cookie(CSRF, pair.csrf.as_deref().unwrap())
        .csrf();
    let reply = browser.post_nothing("/v1/auth/refresh").await;
    assert_eq!((reply.status(), &reply.json()["user"]), (200, &json!({ "id": "17" })));
    assert_ne!(browser.cookie(REFRESH), pair.refresh_token);
    assert_eq!(browser.get("/v1/auth/me").await.json(), json!({ "id": "17" }));
}

#[tokio::test]
async fn sec_099_an_own_user_that_is_gone_is_refused_and_one_that_nobody_can_load_comes_again() {
    let (gone, failing) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (is_gone, is_failing) = (gone.clone(), failing.clone());
    let load = move |_| {
        let (gone, failing) = (gone.load(Ordering::Relaxed), failing.load(Ordering::Relaxed));
        async move { if failing { Err("the application's database is down") } else { Ok((!gone).then_some(5)) } }
    };
    let app = TestApp::with(|auth| auth.user_loader::<i32, _, _, _>(load)).await;
    let client = with_routes(&app, routes());
    let pair = begin(&app, "17", Presentation::Explicit).await;
    let refresh = json!({ "refresh_token": pair.refresh_token });
    let signed_in = client.clone().bearer(&pair.access_token);
    for (set, outcome) in [(&is_failing, (503, "unavailable")), (&is_gone, (401, "invalid_token"))] {
        set.store(true, Ordering::Relaxed);
        let outcome = (outcome.0, outcome.1.to_owned());
        assert_eq!(client.clone().post("/v1/auth/refresh", &refresh).await.outcome(), outcome);
        assert_eq!(signed_in.clone().get("/v1/auth/me").await.outcome(), outcome);
        set.store(false, Ordering::Relaxed);
    }
    assert_eq!(
        client.clone().post("/v1/auth/refresh", &refresh).await.status(),
        200,
        "nothing happened to it"
    );
}

#[tokio::test]
async fn any_of_several_loaders_may_know_the_user() {
    struct Admin;
    let admin = async |id: UserId| Ok::<_, Infallible>((id.as_str() == "1").then_some(Admin));
    let configure = |auth: AuthBuilder| {
        auth.user_loader(admin)
            .user_loader(member)
            .show_user(shown)
            .show_user(|_: &Admin| Map::from_iter([("admin".to_owned(), true.into())]))
    };
    let app = TestApp::with(configure).await;
    let client = with_routes(&app, routes());
    for (id, expected) in [
        ("1", Some(json!({ "id": "1", "admin": true }))),
        ("17", Some(json!({ "id": "17", "name": "Ada" }))),
        ("2", None),
    ] {
        let pair = begin(&app, id, Presentation::Explicit).await;
        let me = client.clone().bearer(&pair.access_token).get("/v1/auth/me").await;
        let refreshed = app.refresh(&pair.refresh_token).await;
        match expected {
            Some(user) => {
                assert_eq!(me.json(), user);
                assert_eq!(refreshed.json()["user"], user);
            }
            None => assert_eq!((me.status(), refreshed.status()), (401, 401), "{id}"),
        }
    }
}

#[tokio::test]
async fn sec_083_an_account_decides_about_itself_whatever_a_loader_says() {
    let everybody = async |_: UserId| Ok::<_, Infallible>(Some(()));
    check_account_decides(&TestApp::with(|auth| auth.user_loader(everybody)).await).await;
}

#[tokio::test]
async fn a_type_that_is_shown_must_be_loaded() {
    let error = TestApp::try_with(|auth| auth.show_user(shown)).await.unwrap_err().to_string();
    assert!(error.contains("`.show_user(…)`") && error.contains("`.user_loader(…)`"), "{error}");
}
