//! For how long a browser is signed in: over the end of an access token, in two tabs at once, and when it is closed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use countersign_testapp::client::payload;
use http::header;
use serde_json::json;
use tokio::sync::Barrier;

use crate::driver::{Browser, Driver};
use crate::server::{Folder, Server, eventually};
use crate::{PASSWORD, open, register, web};

/// Access tokens that do not live long.
const SHORT: [(&str, &str); 3] =
    [("COUNTERSIGN_ACCESS_LIFETIME", "4s"), ("COUNTERSIGN_REFRESH_GRACE", "2s"), ("COUNTERSIGN_LEEWAY", "0")];

/// A page that was open for longer than an access token lives goes on, and its form is not lost.
#[tokio::test]
async fn a_session_goes_on_when_its_access_token_has_expired() {
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let server = folder.serve_with(&SHORT).await;
    let browser = driver.browser().await.without_scripts().await;
    register(&browser, &server, "ada@example.org").await;
    open(&browser, &server, "/account/username").await;
    browser.fill("#username", "ada").await;
    access_has_expired(&browser, &server).await;
    browser.click("main .button").await;
    assert!(browser.text().await.contains("Your username is saved."), "{}", browser.text().await);
    access_has_expired(&browser, &server).await;
    open(&browser, &server, "/account").await;
    assert_eq!(browser.path().await, "/account");
}

/// Two tabs come back at the same moment with a token that has expired: one loads a page, or sends a form, and the other
/// sends a form. Both are answered as if nothing had happened, the session advances once, and nobody is taken for a thief.
#[tokio::test]
async fn sec_092_two_tabs_that_come_back_at_once_both_stay_signed_in() {
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let mut server = folder.serve_with(&SHORT).await;
    let turnstile = Turnstile::before(&mut server).await;
    let browser = driver.browser().await;
    register(&browser, &server, "ada@example.org").await;
    let first = browser.tab().await;
    for (round, one_does) in
        ["location.reload()", "document.querySelector('main form').submit()"].into_iter().enumerate()
    {
        // The first tab opens the second one, so that one script can act in both.
        open(&browser, &server, "/account/language").await;
        browser.run("window.other = window.open('/account/username')", json!([])).await;
        let second = browser.tabs().await.into_iter().find(|tab| *tab != first).unwrap();
        browser.go_to_tab(&second).await;
        eventually("the second tab", async || browser.has("#username").await).await;
        browser.fill("#username", &format!("ada{round}")).await;
        access_has_expired(&browser, &server).await;
        let before = generation(&folder).await;
        browser.go_to_tab(&first).await;
        browser.run("window.wasHere = true; window.other.wasHere = true", json!([])).await;
        turnstile.held.store(2, Ordering::SeqCst);
        let both = format!("other.document.querySelector('main form').submit(); {one_does}");
        browser.run(&both, json!([])).await;
        for (tab, path) in [(&first, ["/account/language", "/account"][round]), (&second, "/account")] {
            browser.go_to_tab(tab).await;
            browser.arrived().await;
            assert_eq!(browser.path().await, path, "{round}: {}", browser.text().await);
        }
        let shown = std::mem::take(&mut *turnstile.shown.lock().unwrap());
        assert!(shown.len() == 2 && shown[0] == shown[1], "{round}: both show the same token: {shown:?}");
        open(&browser, &server, "/account").await;
        assert!(browser.text().await.contains(&format!("ada{round}")), "{round}: the form was taken");
        assert_eq!(generation(&folder).await, before + 1, "{round}: the session has advanced once");
        browser.close_tab().await;
        browser.go_to_tab(&first).await;
        open(&browser, &server, "/account").await;
        assert_eq!(browser.path().await, "/account", "{round}");
        assert!(!browser.has("button[name=session]").await, "{round}: there is no other session");
    }
    assert!(!server.log().contains("replay"), "{}", server.log());
}

/// Stands before a server. While it holds requests, those for an account pass by twos: the first waits for the second.
#[derive(Clone)]
struct Turnstile {
    /// How many requests are still to be held.
    held: Arc<AtomicUsize>,
    barrier: Arc<Barrier>,
    /// The refresh tokens of those that were held.
    shown: Arc<Mutex<Vec<String>>>,
    server: String,
    http: reqwest::Client,
}

impl Turnstile {
    /// The server is reached through it from now on.
    async fn before(server: &mut Server) -> Self {
        let turnstile = Self {
            held: Arc::default(),
            barrier: Arc::new(Barrier::new(2)),
            shown: Arc::default(),
            server: server.url.clone(),
            http: reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap(),
        };
        let passing = turnstile.clone();
        let port =
            web::serve(Router::new().fallback(async move |request: Request| passing.pass(request).await));
        server.url = format!("http://127.0.0.1:{}", port.await);
        turnstile
    }

    async fn pass(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let one_less = |held: usize| held.checked_sub(1);
        if parts.uri.path().starts_with("/account")
            && self.held.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
        {
            let cookies = parts.headers[header::COOKIE].to_str().unwrap();
            let refresh = cookies.split("; ").find(|pair| pair.starts_with("countersign_refresh=")).unwrap();
            self.shown.lock().unwrap().push(refresh.to_owned());
            self.barrier.wait().await;
        }
        let body = axum::body::to_bytes(body, 100_000).await.unwrap();
        let url = format!("{}{}", self.server, parts.uri);
        let asked = self.http.request(parts.method, url).headers(parts.headers).body(body);
        let answer = asked.send().await.unwrap();
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        headers.remove(header::TRANSFER_ENCODING);
        (status, headers, answer.bytes().await.unwrap()).into_response()
    }
}

/// The generation of the only session, which has not ended.
async fn generation(folder: &Folder) -> i64 {
    let mut database = folder.database().await;
    let rows = sqlx::query_as("SELECT generation, end_reason FROM session").fetch_all(&mut database).await;
    let rows: Vec<(i64, Option<String>)> = rows.unwrap();
    let [(generation, None)] = rows[..] else { panic!("{rows:?}") };
    generation
}

/// Closed and opened again, a browser is signed out; unless it was to be remembered: then it is still signed in, but no
/// longer counts as one that has just given a password.
#[tokio::test]
async fn a_browser_that_is_closed_is_signed_out_unless_it_is_to_be_remembered() {
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let server = folder.serve().await;
    let profile = folder.path("profile");
    let browser = driver.browser_of(&profile).await;
    register(&browser, &server, "ada@example.org").await;
    browser.close(&profile).await;

    let browser = driver.browser_of(&profile).await;
    open(&browser, &server, "/account").await;
    assert_eq!(browser.path().await, "/sign-in?next=%2Faccount");
    let left = names(&browser).await;
    assert_eq!(left, ["countersign_device", "countersign_form"], "the device stays known");
    sign_in(&browser, true).await;
    assert_eq!(payload(&browser.cookie("countersign_access").await)["fresh"], true);
    let value = browser.cookie("countersign_csrf").await;
    browser.close(&profile).await;

    let browser = driver.browser_of(&profile).await;
    open(&browser, &server, "/account").await;
    assert_eq!(browser.path().await, "/account", "{}", browser.text().await);
    assert!(browser.text().await.contains("ada@example.org"));
    assert_eq!(payload(&browser.cookie("countersign_access").await)["fresh"], false);
    assert_eq!(browser.cookie("countersign_csrf").await, value, "it is the same session");
    // It is not fresh until its user says who he is.
    open(&browser, &server, "/confirm").await;
    browser.fill("#password", PASSWORD).await;
    browser.click("main form .button").await;
    assert_eq!(payload(&browser.cookie("countersign_access").await)["fresh"], true);
    browser.close(&profile).await;

    // What was remembered is over when its user signs out, and the next login is asked again.
    let browser = driver.browser_of(&profile).await;
    open(&browser, &server, "/account").await;
    browser.click(".top .quiet").await;
    open(&browser, &server, "/sign-in").await;
    assert_eq!(
        browser.run("return document.querySelector('[name=remember]').checked", json!([])).await,
        false
    );
    sign_in(&browser, false).await;
    browser.close(&profile).await;
    let browser = driver.browser_of(&profile).await;
    open(&browser, &server, "/account").await;
    assert!(browser.path().await.starts_with("/sign-in"));
    assert!(!server.log().contains("replay"), "{}", server.log());
}

/// Signs in on the page that asks for it.
async fn sign_in(browser: &Browser, remember: bool) {
    browser.fill("#name", "ada@example.org").await;
    browser.fill("#password", PASSWORD).await;
    if remember {
        browser.tick("input[name=remember]").await;
    }
    browser.click("main form .button").await;
    assert_eq!(browser.path().await, "/account", "{}", browser.text().await);
}

async fn names(browser: &Browser) -> Vec<String> {
    let cookies = browser.cookies().await;
    let mut names: Vec<_> =
        cookies.iter().map(|cookie| cookie["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// Waits until the browser's access token has expired by the server's clock.
async fn access_has_expired(browser: &Browser, server: &Server) {
    let access = browser.cookie("countersign_access").await;
    assert!(!access.is_empty(), "the browser keeps it until it is closed");
    let expires_at = payload(&access)["exp"].as_i64().unwrap();
    let http = reqwest::Client::new();
    eventually("the access token to expire", async || {
        let answer = http.get(format!("{}/healthz", server.url)).send().await.unwrap();
        let date = answer.headers()["date"].to_str().unwrap();
        jiff::fmt::rfc2822::parse(date).unwrap().timestamp().as_second() > expires_at
    })
    .await;
}
