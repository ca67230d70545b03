//! Pages and forms: signing in and out by cookies, the CSRF value in a form, and the mode that needs none.

use axum::response::{Html, IntoResponse, Redirect};
use axum::routing::{get, post};
use axum::{Form, Router};
use countersign_axum::{
    AccessToken, Auth, AuthBuilder, AuthLayer, CsrfToken, Guard, Reply, Requirement, SignIn, WithCookies,
};
use countersign_core::flow::LoginName;
use countersign_core::model::Password;
use countersign_http::CsrfMode;
use http::Method;
use serde::Deserialize;

use crate::app::{ALLOWED, OWN, PASSWORD, TestApp};
use crate::client::{ACCESS, CSRF, Client, REFRESH, Response};

#[derive(Deserialize)]
struct Login {
    name: String,
    password: String,
}

async fn login(
    SignIn { auth, arrival, .. }: SignIn,
    Form(login): Form<Login>,
) -> Result<impl IntoResponse, Reply> {
    let password = Password::new_for_login(login.password)?;
    let signed_in = auth.accounts().login(LoginName::parse(&login.name), password, arrival).await?;
    Ok((WithCookies(auth.set_cookies(&signed_in.pair)), Redirect::to("/")))
}

async fn logout(
    axum::Extension(auth): axum::Extension<Auth>,
    token: AccessToken,
) -> Result<impl IntoResponse, Reply> {
    Ok((WithCookies(auth.sign_out(&token).await?), Redirect::to("/")))
}

async fn page(csrf: CsrfToken) -> impl IntoResponse {
    let html = format!("<form method=\"post\">{}</form>", csrf.input());
    (csrf, Html(html))
}

#[derive(Deserialize)]
struct Note {
    note: String,
}

async fn note(_: AccessToken, Form(note): Form<Note>) -> String {
    note.note
}

fn pages(app: &TestApp) -> Client {
    let guarded = post(async |body: String| body.len().to_string());
    let router = Router::new()
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/page", get(page))
        .route("/note", post(note))
        .route("/upload", post(async |_: AccessToken, body: bytes::Bytes| body.len().to_string()))
        .route("/guarded", guarded.route_layer(Guard::new(Requirement::ACCESS)))
        .layer(AuthLayer::new(app.auth.clone()));
    Client::new(router)
}

const FORM: Option<&str> = Some("application/x-www-form-urlencoded");

async fn submit(client: &mut Client, path: &str, fields: &str) -> Response {
    client.send_bytes(Method::POST, path, FORM, fields.as_bytes().to_vec()).await
}

async fn signed_in(app: &TestApp) -> Client {
    app.register("ada").await;
    let mut browser = pages(app).with("sec-fetch-site", "same-origin");
    let fields = format!("name=ada&password={}", PASSWORD.replace(' ', "+"));
    let reply = submit(&mut browser, "/login", &fields).await;
    assert_eq!((reply.status(), reply.header("location")), (303, Some("/")), "{reply:?}");
    browser
}

#[tokio::test]
async fn sec_054_cookies_are_a_part_of_a_handlers_own_answer() {
    let app = TestApp::new().await;
    app.register("ada").await;
    let mut browser = pages(&app).with("sec-fetch-site", "same-origin");
    let fields = format!("name=ada&password={}", PASSWORD.replace(' ', "+"));
    let reply = submit(&mut browser, "/login", &fields).await;
    let names: Vec<_> = reply.set_cookies().into_iter().map(|cookie| cookie.name).collect();
    assert_eq!(names, [ACCESS, REFRESH, CSRF]);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("vary"), Some("Cookie, Authorization"));

    let page = browser.get("/page").await;
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(page.header("vary"), Some("Cookie, Authorization"));
    let value = browser.cookie(CSRF).to_owned();
    let input = format!("<input type=\"hidden\" name=\"csrf_token\" value=\"{value}\">");
    assert!(String::from_utf8_lossy(&page.body).contains(&input));

    let reply = submit(&mut browser, "/logout", &format!("csrf_token={value}")).await;
    assert_eq!(reply.status(), 303);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert!(browser.jar().is_empty(), "the browser has forgotten all three");
    assert_eq!(browser.get("/page").await.code(), "missing_token");
}

#[tokio::test]
async fn a_pair_that_was_not_issued_for_cookies_cannot_become_some() {
    let app = TestApp::new().await;
    async fn wrong(SignIn { auth, mut arrival, .. }: SignIn) -> Result<impl IntoResponse, Reply> {
        arrival.presentation = countersign_core::flow::Presentation::Explicit;
        let password = Password::new_for_login(PASSWORD.to_owned())?;
        let signed_in = auth.accounts().login(LoginName::parse("ada"), password, arrival).await?;
        Ok((WithCookies(auth.set_cookies(&signed_in.pair)), "in"))
    }
    app.register("ada").await;
    let router = Router::new().route("/", post(wrong)).layer(AuthLayer::new(app.auth.clone()));
    let reply = Client::new(router).post_nothing("/").await;
    assert_eq!(reply.outcome(), (500, "internal_error".to_owned()));
    assert!(reply.set_cookies().is_empty());
    assert!(crate::log::contains("begin its session with Presentation::Cookie"));
}

#[tokio::test]
async fn sec_067_the_csrf_value_may_be_in_a_form_field() {
    let app = TestApp::new().await;
    let browser = signed_in(&app).await;
    let value = browser.cookie(CSRF).to_owned();
    app.register("bob").await;
    let mut bob = pages(&app).with("sec-fetch-site", "same-origin");
    submit(&mut bob, "/login", &format!("name=bob&password={}", PASSWORD.replace(' ', "+"))).await;
    let of_another = bob.cookie(CSRF).to_owned();
    for (case, fields, expected) in [
        ("the value", format!("note=hi&csrf_token={value}"), 200),
        ("missing", "note=hi".to_owned(), 403),
        ("empty", "note=hi&csrf_token=".to_owned(), 403),
        ("another user's", format!("note=hi&csrf_token={of_another}"), 403),
        ("repeated", format!("note=hi&csrf_token={value}&csrf_token={value}"), 403),
        ("another field", format!("note=hi&csrf={value}"), 403),
    ] {
        let reply = submit(&mut browser.clone(), "/note", &fields).await;
        assert_eq!(reply.status(), expected, "{case}");
        if expected == 200 {
            assert_eq!(reply.body, "hi", "the handler has its form");
        } else {
            assert_eq!(reply.code(), "csrf_failed", "{case}");
        }
    }
    let with_wrong_header = browser.clone().with("x-csrf-token", &of_another);
    let reply = submit(&mut with_wrong_header.clone(), "/note", &format!("note=hi&csrf_token={value}")).await;
    assert_eq!(reply.code(), "csrf_failed", "the header decides where there is one");
    let in_guard = format!("csrf_token={value}");
    let reply = submit(&mut browser.clone(), "/guarded", &in_guard).await;
    assert_eq!(reply.body, in_guard.len().to_string(), "before a guarded route as well");
    let json = format!("{{\"csrf_token\":\"{value}\"}}");
    let reply =
        browser.clone().send_bytes(Method::POST, "/upload", Some("application/json"), json.into()).await;
    assert_eq!(reply.code(), "csrf_failed", "JSON is no form");
    let query = format!("/note?csrf_token={value}");
    assert_eq!(
        submit(&mut browser.clone(), &query, "note=hi").await.code(),
        "csrf_failed",
        "nor is the query"
    );
}

#[tokio::test]
async fn sec_067_a_multipart_form_of_any_length_has_its_csrf_value_first() {
    let app = TestApp::new().await;
    let browser = signed_in(&app).await;
    let value = browser.cookie(CSRF).to_owned();
    let field = |name: &str, content: &str| {
        format!("--xXx\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
    };
    let (csrf, file) = (field("csrf_token", &value), field("file", &"x".repeat(200 * 1024)));
    let small = field("file", "x");
    for (case, body, expected) in [
        ("small", format!("{csrf}{small}--xXx--\r\n"), 200),
        ("small, the value last", format!("{small}{csrf}--xXx--\r\n"), 200),
        ("long, the value first", format!("{csrf}{file}--xXx--\r\n"), 200),
        ("long, the value last", format!("{file}{csrf}--xXx--\r\n"), 403),
        ("none", format!("{small}--xXx--\r\n"), 403),
        ("wrong", format!("{}{small}--xXx--\r\n", field("csrf_token", "x")), 403),
    ] {
        let content_type = Some("multipart/form-data; boundary=xXx");
        let reply =
            browser.clone().send_bytes(Method::POST, "/upload", content_type, body.clone().into()).await;
        assert_eq!(reply.status(), expected, "{case}");
        if expected == 200 {
            assert_eq!(reply.body, body.len().to_string(), "{case}: the handler has the whole form");
        }
    }
}

#[tokio::test]
async fn header_and_field_have_the_names_that_were_configured() {
    let app = TestApp::with(|builder| {
        builder.csrf_header("x-xsrf".parse().unwrap()).csrf_field(Some("authenticity".to_owned()))
    })
    .await;
    let browser = signed_in(&app).await;
    let value = browser.cookie(CSRF).to_owned();
    let send =
        async |client: &Client, fields: &str| submit(&mut client.clone(), "/note", fields).await.status();
    assert_eq!(send(&browser, &format!("note=hi&authenticity={value}")).await, 200);
    assert_eq!(send(&browser, &format!("note=hi&csrf_token={value}")).await, 403);
    assert_eq!(send(&browser.clone().with("x-xsrf", &value), "note=hi").await, 200);
    assert_eq!(send(&browser.clone().with("x-csrf-token", &value), "note=hi").await, 403);

    let app = TestApp::with(|builder| builder.csrf_field(None)).await;
    let browser = signed_in(&app).await;
    let value = browser.cookie(CSRF).to_owned();
    assert_eq!(send(&browser, &format!("note=hi&csrf_token={value}")).await, 403);
    assert_eq!(send(&browser.clone().with("x-csrf-token", &value), "note=hi").await, 200);
}

#[tokio::test]
async fn a_safe_method_that_changes_state_can_be_made_to_need_the_value() {
    let app = TestApp::with(|builder| builder.csrf_also_for([Method::GET])).await;
    let browser = app.signed_in_browser("ada").await;
    assert_eq!(browser.clone().get("/hello").await.code(), "csrf_failed");
    assert_eq!(browser.clone().csrf().get("/hello").await.status(), 200);
    let foreign = browser.csrf().without("sec-fetch-site").with("sec-fetch-site", "cross-site");
    assert_eq!(foreign.clone().get("/hello").await.code(), "cross_site");
    assert_eq!(foreign.drop_cookie(ACCESS).drop_cookie(REFRESH).get("/hello").await.code(), "missing_token");
}

#[tokio::test]
async fn sec_068_by_fetch_metadata_pages_need_no_code() {
    let app = TestApp::with(|builder: AuthBuilder| builder.csrf_mode(CsrfMode::FetchMetadata)).await;
    let browser = signed_in(&app).await.without("sec-fetch-site");
    let value = browser.cookie(CSRF).to_owned();
    for (case, fields, expected) in [
        ("same-origin", &[("sec-fetch-site", "same-origin")][..], (200, "")),
        ("the user's own doing", &[("sec-fetch-site", "none")], (200, "")),
        ("cross-site", &[("sec-fetch-site", "cross-site")], (403, "cross_site")),
        ("same-site", &[("sec-fetch-site", "same-site")], (403, "cross_site")),
        ("same-site, allowed", &[("sec-fetch-site", "same-site"), ("origin", ALLOWED)], (200, "")),
        ("own origin", &[("origin", OWN)], (200, "")),
        ("allowed origin", &[("origin", ALLOWED)], (200, "")),
        ("another origin", &[("origin", "https://evil.tld")], (403, "cross_site")),
        ("null", &[("origin", "null")], (403, "cross_site")),
        ("own referer", &[("referer", "https://app.example.com/x")], (200, "")),
        ("another referer", &[("referer", "https://evil.tld/")], (403, "cross_site")),
        ("none of the three", &[], (403, "csrf_failed")),
        ("none of the three, but the value", &[("x-csrf-token", &value)], (200, "")),
        (
            "the value from another site",
            &[("x-csrf-token", &value), ("origin", "https://evil.tld")],
            (403, "cross_site"),
        ),
    ] {
        let client = fields.iter().fold(browser.clone(), |client, (name, value)| client.with(name, value));
        for path in ["/note", "/guarded"] {
            let reply = submit(&mut client.clone(), path, "note=hi").await;
            assert_eq!(reply.status(), expected.0, "{case} {path}");
            if expected.0 != 200 {
                assert_eq!(reply.code(), expected.1, "{case} {path}");
            }
        }
    }
    let own = browser.clone().with("sec-fetch-site", "same-origin");
    assert_eq!(submit(&mut own.clone(), "/logout", "").await.status(), 303);
    let mut routes = app.browser().set_cookie(REFRESH, own.cookie(REFRESH));
    assert_eq!(routes.post_nothing("/v1/auth/logout").await.status(), 204, "the ready-made routes too");
}

#[tokio::test]
async fn sec_069_sec_188_a_form_of_another_site_signs_nobody_in_or_out() {
    let app = TestApp::new().await;
    app.register("ada").await;
    let fields = format!("name=ada&password={}", PASSWORD.replace(' ', "+"));
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.tld"),
        ("origin", "null"),
    ] {
        let mut attacked = pages(&app).with(name, value);
        let reply = submit(&mut attacked, "/login", &fields).await;
        assert_eq!(reply.outcome(), (403, "cross_site".to_owned()), "{name}: {value}");
        assert!(reply.set_cookies().is_empty());
    }
    let browser = pages(&app).with("sec-fetch-site", "same-origin");
    let mut browser = browser;
    submit(&mut browser, "/login", &fields).await;
    let victim = browser.without("sec-fetch-site").with("sec-fetch-site", "cross-site");
    assert_eq!(submit(&mut victim.clone(), "/logout", "").await.code(), "cross_site");
    assert_eq!(victim.clone().get("/logout").await.status(), 405, "an image logs nobody out");
    assert_eq!(victim.without("sec-fetch-site").get("/page").await.status(), 200, "still signed in");
}

#[tokio::test]
async fn sec_187_an_attacker_who_sets_both_cookies_gains_nothing() {
    let app = TestApp::new().await;
    let victim = signed_in(&app).await;
    let value = "attacker-chosen-value";
    let tossed = victim.clone().set_cookie(CSRF, value);
    for (case, mut client, fields) in [
        ("in the header", tossed.clone().with("x-csrf-token", value), "note=hi".to_owned()),
        ("in the form", tossed.clone(), format!("note=hi&csrf_token={value}")),
    ] {
        assert_eq!(submit(&mut client, "/note", &fields).await.code(), "csrf_failed", "{case}");
    }
    let token = app.register("mallory").await.access_token;
    let fixed = victim.clone().set_cookie(ACCESS, &token).set_cookie(CSRF, value).with("x-csrf-token", value);
    assert_eq!(
        submit(&mut fixed.clone(), "/note", "note=hi").await.code(),
        "csrf_failed",
        "not issued for cookies"
    );
}
