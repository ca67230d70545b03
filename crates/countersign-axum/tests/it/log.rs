//! The log of the whole test run, at TRACE: every line of it is checked for secrets when it is written (SEC-147).

use std::io::{self, Write};
use std::sync::{LazyLock, Mutex, Once, PoisonError};

use serde_json::json;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::app::{Account, PASSWORD, TestApp, credentials};
use crate::client::{ACCESS, CSRF, REFRESH};

static LINES: LazyLock<Mutex<String>> = LazyLock::new(Mutex::default);

/// How every token begins: `{"` in base64url.
const TOKEN: &str = "eyJ";

struct Checked;

impl<'a> MakeWriter<'a> for Checked {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for Checked {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        assert!(!text.contains("canary-secret") && !text.contains(TOKEN), "a secret in the log: {text}");
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the log of everything in this process to where the tests look at it.
pub(crate) fn install() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(Checked)
            .init();
    });
}

/// Whether the log so far has a line with this text.
pub(crate) fn contains(text: &str) -> bool {
    count(text) > 0
}

/// How often this text is in the log so far.
pub(crate) fn count(text: &str) -> usize {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).matches(text).count()
}

/// The lines of the log so far with this text.
#[allow(dead_code, reason = "the tests of countersign-flask need it")]
pub(crate) fn lines_with(text: &str) -> Vec<String> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

#[tokio::test]
async fn sec_147_no_password_token_cookie_or_csrf_value_is_logged_at_any_level() {
    let app = TestApp::new().await;
    let mut browser = app.signed_in_browser("log-reader").await;
    let mut secrets = vec![PASSWORD.to_owned()];
    let mut remember_cookies = |browser: &crate::client::Client| {
        secrets.extend([ACCESS, REFRESH, CSRF].map(|name| browser.cookie(name).to_owned()));
    };
    remember_cookies(&browser);
    browser = browser.csrf();
    assert_eq!(browser.post_nothing("/v1/auth/refresh").await.status(), 200);
    remember_cookies(&browser);
    let account = app.login("log-reader").await;
    secrets.extend([account.access_token.clone(), account.refresh_token.clone()]);
    app.refresh(&account.refresh_token).await;

    // Refusals log their causes.
    let wrong = json!({ "username": "log-reader", "password": "canary-secret wrong" });
    assert_eq!(app.client().post("/v1/auth/login", &wrong).await.status(), 401);
    assert_eq!(app.hello("canary-secret.not.a-token").await, 401);
    assert_eq!(app.hello(&account.refresh_token).await, 401);
    assert_eq!(app.refresh("canary-secret").await.status(), 401);
    assert_eq!(app.refresh(&account.access_token).await.status(), 401);
    let mut listed = app.client().with("authorization", "Bearer canary-secret, Bearer canary-secret");
    assert_eq!(listed.get("/hello").await.status(), 400);
    let unreadable = b"{\"password\": \"canary-secret".to_vec();
    let json = Some("application/json");
    assert_eq!(
        app.client().send_bytes(http::Method::POST, "/v1/auth/login", json, unreadable).await.status(),
        400
    );
    let mut forged = browser.clone().without("x-csrf-token").with("x-csrf-token", "canary-secret");
    assert_eq!(forged.post_nothing("/hello").await.status(), 403);
    assert_eq!(app.client().post("/v1/auth/register", &credentials("log-reader")).await.status(), 409);
    app.store.fail(true);
    let login = json!({ "username": "log-reader", "password": PASSWORD });
    assert_eq!(app.client().post("/v1/auth/login", &login).await.status(), 503);
    app.store.fail(false);
    // The replay of an old token is an event.
    app.wait(60);
    let next = Account::of(&app.refresh(&account.refresh_token).await);
    app.wait(60);
    app.refresh(&next.refresh_token).await;
    app.wait(60);
    app.refresh(&account.refresh_token).await;
    assert_eq!(browser.post_nothing("/v1/auth/logout").await.status(), 204);

    assert!(contains("was not let through"), "the log is being read at all");
    for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
        assert!(!contains(&secret));
    }
    assert!(!contains("canary-secret"));
}
