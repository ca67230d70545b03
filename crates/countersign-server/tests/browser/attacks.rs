//! What a page of another origin can do to somebody who is signed in here: nothing.

use std::collections::BTreeMap;

use serde_json::json;

use crate::driver::{Browser, Driver};
use crate::server::{Folder, Server, eventually};
use crate::web::{self, form};
use crate::{PASSWORD, open, register};

/// Serves the attacker's pages against a server.
async fn evil(server: &Server) -> u16 {
    web::serve(web::pages(pages(&server.url))).await
}

/// The attacker's pages against a server.
fn pages(target: &str) -> BTreeMap<String, String> {
    let password = ("current_password", PASSWORD);
    let mallory = [("name", "mallory@example.org"), ("password", PASSWORD), ("form_token", "x")];
    [
        ("/login", form(&format!("{target}/sign-in"), &mallory)),
        ("/register", form(&format!("{target}/register"), &[("email", "m2@example.org"), ("password", PASSWORD)])),
        ("/logout", form(&format!("{target}/sign-out"), &[])),
        ("/close", form(&format!("{target}/account/close"), &[password])),
        ("/end", form(&format!("{target}/account/sessions"), &[("others", "yes")])),
        ("/email", form(&format!("{target}/account/email"), &[("email", "m@example.org"), password])),
        ("/language", form(&format!("{target}/language"), &[("language", "fr")])),
        ("/image", format!("<img src='{target}/sign-out'><img src='{target}/account/close'>")),
        (
            "/fetch",
            format!(
                "<script>Promise.allSettled(['/sign-out','/account/sessions'].map(path => fetch('{target}' + path, \
                 {{method:'POST',mode:'no-cors',credentials:'include',body:new URLSearchParams({{others:'yes'}})}}))\
                 .concat(fetch('{target}/account',{{credentials:'include'}}).then(r=>r.text()).then(t=>\
                 document.title=t))).then(() => document.body.id='done')</script><body></body>"
            ),
        ),
        ("/frame", format!("<iframe src='{target}/sign-in'></iframe><iframe src='{target}/account'></iframe>")),
        ("/link", format!("<a href='{target}/account'>look</a>")),
        // A form can send what looks like JSON, under another type.
        (
            "/json",
            format!(
                "<form id=f method=post enctype=text/plain action='{target}/v1/auth/login'><input name='{{\"email\":\
                 \"mallory@example.org\",\"password\":\"{PASSWORD}\",\"cookies\":true,\"x\":\"' value='\"}}'></form>\
                 <script>f.submit()</script>"
            ),
        ),
        // A page in a sandbox has no origin; browsers say `Origin: null`.
        (
            "/sandbox",
            format!(
                "<script>onmessage = () => document.body.id = 'done'</script>\
                 <body><iframe sandbox='allow-scripts allow-forms' srcdoc=\"{}\"></iframe>\
                 <iframe sandbox='allow-scripts' srcdoc=\"<script>fetch('{target}/sign-out', {{method: 'POST', mode: \
                 'no-cors', credentials: 'include'}}).finally(() => parent.postMessage('done', '*'))</script>\">\
                 </iframe></body>",
                form(&format!("{target}/account/close"), &[password])
            ),
        ),
    ]
    .into_iter()
    .map(|(path, page)| (path.to_owned(), page))
    .collect()
}

/// Whether the account is as it was, and still signed in.
async fn is_unharmed(browser: &Browser, server: &Server, after: &str) {
    open(browser, server, "/account").await;
    let page = browser.text().await;
    assert_eq!(browser.path().await, "/account", "{after}");
    assert!(page.contains("ada@example.org") && page.contains("Your account"), "{after}: {page}");
    assert!(browser.has("button[name=others]").await, "{after}: the other session lives");
}

#[tokio::test]
async fn sec_187_sec_188_no_page_of_another_origin_changes_anything() {
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let server = folder.serve().await;
    let (browser, other) = (driver.browser().await, driver.browser().await);
    register(&other, &server, "mallory@example.org").await;
    other.click(".top .quiet").await;
    register(&browser, &server, "ada@example.org").await;
    crate::sign_in(&other, &server, "ada@example.org", PASSWORD).await;
    let port = evil(&server).await;
    // The same site on another port, another site, and one that only looks like ours.
    for origin in [
        format!("http://127.0.0.1:{port}"),
        format!("http://localhost:{port}"),
        format!("http://evil.localhost:{port}"),
    ] {
        for path in ["/logout", "/close", "/end", "/email", "/language", "/login", "/register", "/json"] {
            browser.open(&format!("{origin}{path}")).await;
            let sent = async || browser.url().await.starts_with(&server.url);
            eventually("the form to be sent", sent).await;
            let page = browser.text().await;
            assert!(
                ["not allowed", "cross_site", "unsupported_media_type"]
                    .iter()
                    .any(|word| page.contains(word)),
                "{origin}{path}: {page}"
            );
            is_unharmed(&browser, &server, &format!("{origin}{path}")).await;
        }
        browser.open(&format!("{origin}/image")).await;
        is_unharmed(&browser, &server, &format!("{origin}/image")).await;
        browser.open(&format!("{origin}/fetch")).await;
        eventually("the requests to be answered", async || browser.has("#done").await).await;
        assert!(!browser.title().await.contains("ada"), "{origin}: no page of ours can be read");
        is_unharmed(&browser, &server, &format!("{origin}/fetch")).await;
        let refused = || server.log().matches("path=\"/account/close\" status=403").count();
        let before = refused();
        browser.open(&format!("{origin}/sandbox")).await;
        eventually("the request to be answered", async || browser.has("#done").await).await;
        eventually("the form to be refused", async || refused() > before).await;
        is_unharmed(&browser, &server, &format!("{origin}/sandbox")).await;
    }
}

#[tokio::test]
async fn sec_069_a_form_of_another_site_signs_nobody_in() {
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let server = folder.serve().await;
    let browser = driver.browser().await;
    register(&browser, &server, "mallory@example.org").await;
    browser.click(".top .quiet").await;
    let port = evil(&server).await;
    for path in ["/login", "/register"] {
        for origin in [format!("http://127.0.0.1:{port}"), format!("http://localhost:{port}")] {
            browser.open(&format!("{origin}{path}")).await;
            eventually("the form to be sent", async || browser.url().await.starts_with(&server.url)).await;
            open(&browser, &server, "/account").await;
            assert!(browser.path().await.starts_with("/sign-in"), "{origin}{path} has signed somebody in");
        }
    }
}

#[tokio::test]
async fn sec_193_no_page_is_shown_in_a_frame() {
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let server = folder.serve().await;
    let browser = driver.browser().await;
    register(&browser, &server, "ada@example.org").await;
    let port = evil(&server).await;
    browser.open(&format!("http://127.0.0.1:{port}/frame")).await;
    let mut lines = Vec::new();
    eventually("both frames to be refused", async || {
        lines.extend(browser.console().await);
        lines
            .iter()
            .filter(|line| line.contains("frame-ancestors") || line.contains("X-Frame-Options"))
            .count()
            >= 2
    })
    .await;
}

/// The refresh cookie is `SameSite=Strict`, so a browser withholds it when a link of another site leads here. Where the
/// access token is gone, the first answer is a page that asks again at once, without a script.
#[tokio::test]
async fn a_link_of_another_site_leads_to_the_page_signed_in() {
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let server = folder.serve().await;
    let browser = driver.browser().await;
    register(&browser, &server, "ada@example.org").await;
    let port = evil(&server).await;
    let asked = || server.log().matches("path=\"/account\" status=").count();
    for (access_is_gone, times) in [(false, 1), (true, 2)] {
        if access_is_gone {
            let cookie = json!({ "name": "countersign_access", "url": server.url });
            browser.cdp("Network.deleteCookies", cookie).await;
        }
        let before = asked();
        browser.open(&format!("http://localhost:{port}/link")).await;
        browser.cdp("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
        browser.tick("a").await;
        eventually("the account", async || {
            browser.path().await == "/account" && browser.text().await.contains("ada@example.org")
        })
        .await;
        assert_eq!(asked(), before + times, "the access cookie is gone: {access_is_gone}");
        browser.cdp("Emulation.setScriptExecutionDisabled", json!({ "value": false })).await;
    }
}

/// A script that got into a page of ours would find no token: not in its cookies, and not where scripts store things.
#[tokio::test]
async fn sec_057_sec_058_no_script_can_read_a_token() {
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let server = folder.serve().await;
    let browser = driver.browser().await;
    register(&browser, &server, "ada@example.org").await;
    let csrf = browser.cookie("countersign_csrf").await;
    assert!(!csrf.is_empty());
    for page in ["/account", "/account/password", "/"] {
        open(&browser, &server, page).await;
        let seen = browser.run("return document.cookie", json!([])).await;
        assert_eq!(seen, format!("countersign_csrf={csrf}"), "{page}");
        let stored = browser.run("return localStorage.length + sessionStorage.length", json!([])).await;
        assert_eq!(stored, 0, "{page}");
    }
}

/// What people write, and what links say, is text on every page that shows it.
#[tokio::test]
async fn sec_074_what_anybody_writes_is_shown_as_text() {
    const MARKUP: &str = "\"'><svg/onload=window.hit=1>";
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let server = folder.serve().await;
    let browser = driver.browser().await;
    browser.cdp("Network.setUserAgentOverride", json!({ "userAgent": MARKUP })).await;
    let is_text = async |what: &str| {
        let found = "return [!!window.hit, document.querySelectorAll('svg[onload]').length]";
        assert_eq!(browser.run(found, json!([])).await, json!([false, 0]), "{what}");
    };
    let written: String = url::form_urlencoded::byte_serialize(MARKUP.as_bytes()).collect();
    for path in
        ["/sign-in?next=/", "/register?next=/", "/reset?token=", "/code?token=", "/verify?token=", "/no/"]
    {
        open(&browser, &server, &format!("{path}{written}")).await;
        is_text(path).await;
    }
    for (path, field) in
        [("/sign-in", "#name"), ("/forgot", "#email"), ("/code", "#email"), ("/register", "#email")]
    {
        open(&browser, &server, path).await;
        // The browser itself would have something to say about such an address.
        browser.run("document.querySelector('main form').noValidate = true", json!([])).await;
        browser.fill(field, MARKUP).await;
        if browser.has("#password").await {
            browser.fill("#password", PASSWORD).await;
        }
        browser.click("main form .button").await;
        is_text(path).await;
        let value = browser.run("return document.querySelector(arguments[0])?.value", json!([field])).await;
        assert_eq!(value, MARKUP, "{path}: it can be corrected");
    }
    register(&browser, &server, "ada@example.org").await;
    open(&browser, &server, "/account/username").await;
    browser.fill("#username", MARKUP).await;
    browser.click("main .button").await;
    assert!(browser.text().await.contains(MARKUP), "{}", browser.text().await);
    is_text("/account").await;
    open(&browser, &server, "/account/username").await;
    is_text("/account/username").await;
    assert!(browser.console().await.iter().all(|line| !line.contains("Security Policy")));
}
