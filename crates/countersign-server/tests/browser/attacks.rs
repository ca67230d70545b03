//! What a page of another origin can do to somebody who is signed in here: nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::driver::{Browser, Driver};
use crate::server::{Folder, Server, eventually};
use crate::{PASSWORD, open, register};

/// Serves these pages on a port of its own.
async fn evil(pages: BTreeMap<String, String>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let pages = Arc::new(pages);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let pages = pages.clone();
            tokio::spawn(async move {
                let mut head = vec![0; 16_384];
                let length = stream.read(&mut head).await.unwrap_or_default();
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
                let page = pages.get(&path).map_or("", String::as_str);
                let answer = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
                    page.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    port
}

/// A form that sends itself.
fn form(action: &str, fields: &[(&str, &str)]) -> String {
    let fields: String = fields
        .iter()
        .map(|(name, value)| format!("<input type=hidden name='{name}' value='{value}'>"))
        .collect();
    format!("<form id=f method=post action='{action}'>{fields}</form><script>f.submit()</script>")
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
    let port = evil(pages(&server.url)).await;
    // The same site on another port, another site, and one that only looks like ours.
    for origin in [
        format!("http://127.0.0.1:{port}"),
        format!("http://localhost:{port}"),
        format!("http://evil.localhost:{port}"),
    ] {
        for path in ["/logout", "/close", "/end", "/email", "/language", "/login", "/register"] {
            browser.open(&format!("{origin}{path}")).await;
            let sent = async || browser.url().await.starts_with(&server.url);
            eventually("the form to be sent", sent).await;
            let page = browser.text().await;
            assert!(
                page.contains("not allowed") || page.contains("Please try again") || page.contains("Sign in"),
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
    let port = evil(pages(&server.url)).await;
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
    let port = evil(pages(&server.url)).await;
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

/// The refresh cookie is `SameSite=Strict`, so a browser withholds it when a link of another site leads here.
#[tokio::test]
async fn a_link_of_another_site_leads_to_the_page_signed_in() {
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let server = folder.serve().await;
    let browser = driver.browser().await;
    register(&browser, &server, "ada@example.org").await;
    let port = evil(pages(&server.url)).await;
    browser.open(&format!("http://localhost:{port}/link")).await;
    browser.click("a").await;
    assert_eq!(browser.path().await, "/account");
    assert!(browser.text().await.contains("ada@example.org"));
}
