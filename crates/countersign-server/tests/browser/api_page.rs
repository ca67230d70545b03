//! The page that tries the API, as its reader uses it.

use serde_json::json;

use crate::driver::{Browser, Driver};
use crate::looks::pictures;
use crate::server::{Folder, eventually};
use crate::{PASSWORD, open, register};

/// Opens an operation, fills in fields, sends the request, and returns status line, headers and body as they are shown.
async fn send(browser: &Browser, operation: &str, fields: &[(&str, &str)]) -> String {
    browser.run("document.getElementById(arguments[0]).open = true", json!([operation])).await;
    for (name, value) in fields {
        browser.fill(&format!("#{operation}-{name}"), value).await;
    }
    browser
        .run(
            "document.getElementById(arguments[0]).replaceChildren()",
            json!([format!("{operation}-answer")]),
        )
        .await;
    browser.tick(&format!("#{operation}-send")).await;
    let answer = format!("#{operation}-answer .status");
    eventually("the answer", async || browser.has(&answer).await).await;
    let script = "return document.getElementById(arguments[0]).innerText";
    browser.run(script, json!([format!("{operation}-answer")])).await.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_api_is_tried_by_clicks_without_the_browsers_session_and_nothing_is_kept() {
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let server = folder.serve().await;
    let browser = driver.browser().await;
    // Somebody is signed in on the pages of the same origin.
    register(&browser, &server, "owner@example.org").await;
    let cookies = browser.cookies().await.len();

    open(&browser, &server, "/docs/api").await;
    eventually("the operations", async || browser.has("#me-send").await).await;
    let stranger = send(&browser, "me", &[]).await;
    assert!(stranger.contains("401") && stranger.contains("missing_token"), "the page is nobody: {stranger}");

    let account = [("email", "ada@example.org"), ("password", PASSWORD)];
    let registered = send(&browser, "register", &account).await;
    assert!(registered.contains("201") && registered.contains("curl -i -X POST"), "{registered}");
    let me = send(&browser, "me", &[]).await;
    assert!(me.contains("200") && me.contains("ada@example.org"), "{me}");
    assert!(me.contains("Bearer $ACCESS_TOKEN"), "the command names no token: {me}");
    assert!(send(&browser, "refresh", &[]).await.contains("200"), "the refresh token is filled in");
    assert!(send(&browser, "logout", &[]).await.contains("204"));
    assert!(send(&browser, "me", &[]).await.contains("missing_token"), "the tokens are forgotten");
    let login = [("email_or_username", "ada@example.org"), ("password", PASSWORD)];
    assert!(send(&browser, "login", &login).await.contains("200"));
    // What comes from the server stays text.
    let named = "<img src=x onerror=\"document.title='run'\">";
    let answer = send(&browser, "endSession", &[("id", named)]).await;
    assert!(answer.contains("404"), "{answer}");

    let kept = browser.run("return [localStorage.length, sessionStorage.length]", json!([])).await;
    assert_eq!(kept, json!([0, 0]));
    assert_eq!(browser.cookies().await.len(), cookies, "no answer has set one");
    let refused = browser.console().await;
    let refused: Vec<_> = refused.iter().filter(|line| line.contains("Content Security Policy")).collect();
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(browser.title().await, "Countersign: try the API");
    let inserted = "try { const one = document.createElement('script'); one.textContent = 'document.title = 1'; \
                    document.body.append(one) } catch { /* its text is no trusted script */ }";
    browser.run(inserted, json!([])).await;
    assert_eq!(browser.title().await, "Countersign: try the API", "no other script runs");

    let pictures = pictures();
    for scheme in ["light", "dark"] {
        browser.colours(scheme).await;
        std::fs::write(pictures.join(format!("api-page-{scheme}.png")), browser.picture().await).unwrap();
    }
    let is_wide = "return document.documentElement.scrollWidth > innerWidth";
    browser.size(360, 740, true).await;
    assert_eq!(browser.run(is_wide, json!([])).await, false, "it fits on a phone");
    server.stop().await;

    let server = folder.serve_with(&[("COUNTERSIGN_API_PAGE", "no")]).await;
    open(&browser, &server, "/docs/api").await;
    assert!(!browser.has("#operations").await);
    server.stop().await;
}
