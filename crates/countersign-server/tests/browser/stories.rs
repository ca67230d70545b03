//! What people do on the pages, from the first one on.

use crate::driver::{Browser, Driver};
use crate::server::{Folder, Server};
use crate::{PASSWORD, mailed, mailed_code, open, register, sign_in};

/// Three clicks lead from the first page to an account with its sessions. A second browser signs in, the first ends that
/// session, and the second is out. No page needs a script.
#[tokio::test]
async fn from_the_first_page_to_an_account_whose_sessions_are_ended_elsewhere() {
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let server = folder.serve().await;
    let (first, second) = (driver.browser().await, driver.browser().await);
    let (first, second) = (first.without_scripts().await, second.without_scripts().await);

    open(&first, &server, "/").await;
    first.click("main a.button").await;
    first.fill("#email", "ada@example.org").await;
    first.fill("#password", PASSWORD).await;
    first.click("main .button").await;
    assert_eq!(first.path().await, "/account");
    let page = first.text().await;
    for text in ["Your account is ready.", "ada@example.org", "Chrome on Linux", "This device"] {
        assert!(page.contains(text), "{text}: {page}");
    }

    sign_in(&second, &server, "ada@example.org", PASSWORD).await;
    assert!(second.text().await.contains("End all other sessions"));

    open(&first, &server, "/account").await;
    assert!(!first.text().await.contains("Your account is ready."), "it is said once");
    first.click("button[name=session]").await;
    assert!(first.text().await.contains("The session has ended."));
    assert!(!first.has("button[name=session]").await, "it is not listed any more");

    open(&second, &server, "/account").await;
    assert_eq!(second.path().await, "/sign-in?next=%2Faccount");
    second.fill("#name", "ada@example.org").await;
    second.fill("#password", PASSWORD).await;
    second.click("main form .button").await;
    assert_eq!(second.path().await, "/account", "it goes back to the page that was asked for");
    no_complaints(&first).await;
    no_complaints(&second).await;
}

#[tokio::test]
async fn sec_078_after_signing_out_the_back_button_shows_nothing() {
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let server = folder.serve().await;
    let browser = driver.browser().await;
    register(&browser, &server, "ada@example.org").await;
    for page in ["/account/email", "/account/password", "/account/username", "/account/close", "/account"] {
        open(&browser, &server, page).await;
        assert!(browser.has("form[action='/sign-out'] button").await, "{page}");
    }
    browser.click(".top .quiet").await;
    assert_eq!(browser.path().await, "/signed-out");
    let names: Vec<_> =
        browser.cookies().await.iter().map(|cookie| cookie["name"].as_str().unwrap().to_owned()).collect();
    assert!(names.iter().all(|name| !name.ends_with("access") && !name.ends_with("refresh")), "{names:?}");
    for _ in 0..3 {
        browser.back().await;
        let page = browser.text().await;
        assert!(!page.contains("ada@example.org"), "{}: {page}", browser.path().await);
    }
    no_complaints(&browser).await;
}

#[tokio::test]
async fn an_account_is_changed_and_closed() {
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let server = folder.serve().await;
    let browser = driver.browser().await;
    register(&browser, &server, "ada@example.org").await;

    let verify = mailed(&server, "/verify").await;
    for _ in 0..3 {
        open(&browser, &server, &verify).await;
    }
    browser.click("main .button").await;
    assert!(browser.text().await.contains("Address confirmed"));
    open(&browser, &server, &verify).await;
    browser.click("main .button").await;
    assert!(browser.text().await.contains("This link does not work any more"));
    open(&browser, &server, "/account").await;
    assert!(browser.text().await.contains("Confirmed"));

    open(&browser, &server, "/account/username").await;
    browser.fill("#username", "ada").await;
    browser.click("main .button").await;
    assert!(browser.text().await.contains("Your username is saved."));

    open(&browser, &server, "/account/password").await;
    browser.fill("#current_password", "wrong").await;
    browser.fill("#new_password", "staple battery horse").await;
    browser.click("main .button").await;
    assert!(browser.text().await.contains("This password is wrong."));
    assert!(browser.title().await.starts_with("Error:") || browser.has("[aria-invalid=true]").await);
    browser.fill("#current_password", PASSWORD).await;
    browser.fill("#new_password", "staple battery horse").await;
    browser.click("main .button").await;
    assert_eq!(browser.path().await, "/account", "{}", browser.text().await);

    open(&browser, &server, "/account/language").await;
    browser.tick("input[value=de]").await;
    browser.click("main .button").await;
    assert!(browser.text().await.contains("Ihre Sprache ist gespeichert."));

    open(&browser, &server, "/account/close").await;
    browser.fill("#current_password", "staple battery horse").await;
    browser.click("main .button").await;
    assert!(browser.text().await.contains("Ihr Konto ist geschlossen"));
    open(&browser, &server, "/account").await;
    assert!(browser.path().await.starts_with("/sign-in"));
}

#[tokio::test]
async fn a_forgotten_password_is_reset_and_a_code_signs_in() {
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let server = folder.serve().await;
    let (browser, other) = (driver.browser().await, driver.browser().await);
    let browser = browser.without_scripts().await;
    register(&other, &server, "ada@example.org").await;

    open(&browser, &server, "/sign-in").await;
    browser.click("a[href='/forgot']").await;
    browser.fill("#email", "ada@example.org").await;
    browser.click("main .button").await;
    assert!(browser.text().await.contains("Check your mail"));
    let reset = mailed(&server, "/reset").await;
    open(&browser, &server, &reset).await;
    browser.fill("#new_password", "password").await;
    browser.click("main .button").await;
    assert!(browser.text().await.contains("one of the most common passwords"));
    browser.fill("#new_password", "staple battery horse").await;
    browser.click("main .button").await;
    assert!(browser.text().await.contains("Your password is set"));
    open(&other, &server, "/account").await;
    assert!(other.path().await.starts_with("/sign-in"), "all sessions ended");
    sign_in(&browser, &server, "ada@example.org", "staple battery horse").await;

    open(&other, &server, "/code").await;
    other.fill("#email", "ada@example.org").await;
    other.click("main .button").await;
    other.fill("#code", "000000").await;
    other.click("main form .button").await;
    assert!(other.text().await.contains("This code is not valid"));
    let code = mailed_code(&server).await;
    other.fill("#code", &format!("{} {}", &code[..3], &code[3..])).await;
    other.click("main form .button").await;
    assert_eq!(other.path().await, "/account", "{}", other.text().await);
}

/// What password managers go by.
#[tokio::test]
async fn sec_077_fields_are_what_password_managers_expect() {
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let server = folder.serve().await;
    let browser = driver.browser().await;
    let check = async |server: &Server, page: &str, fields: &[(&str, &str, &str)]| {
        open(&browser, server, page).await;
        for (selector, kind, autocomplete) in fields {
            assert_eq!(browser.attribute(selector, "type").await, *kind, "{page} {selector}");
            assert_eq!(browser.attribute(selector, "autocomplete").await, *autocomplete, "{page} {selector}");
            let id = selector.trim_start_matches('#');
            assert!(
                id.starts_with('[') || browser.has(&format!("label[for={id}]")).await,
                "{page} {selector} has a label"
            );
        }
    };
    check(
        &server,
        "/register",
        &[("#email", "email", "username"), ("#password", "password", "new-password")],
    )
    .await;
    check(
        &server,
        "/sign-in",
        &[("#name", "text", "username"), ("#password", "password", "current-password")],
    )
    .await;
    check(&server, "/reset?token=x", &[("#new_password", "password", "new-password")]).await;
    register(&browser, &server, "ada@example.org").await;
    check(
        &server,
        "/account/password",
        &[
            ("[name=account]", "text", "username"),
            ("#current_password", "password", "current-password"),
            ("#new_password", "password", "new-password"),
        ],
    )
    .await;
    check(
        &server,
        "/confirm",
        &[("[name=account]", "text", "username"), ("#password", "password", "current-password")],
    )
    .await;
    open(&browser, &server, "/code").await;
    browser.click("main .button").await;
    assert_eq!(browser.attribute("#code", "autocomplete").await, "one-time-code");
    assert_eq!(browser.attribute("#code", "inputmode").await, "numeric");
}

/// Signs in with the keyboard alone.
#[tokio::test]
async fn the_keyboard_is_enough() {
    const TAB: &str = "\u{e004}";
    const ENTER: &str = "\u{e007}";
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let server = folder.serve().await;
    let browser = driver.browser().await;
    open(&browser, &server, "/register").await;
    // The first field has the focus.
    browser.press("ada@example.org").await;
    browser.press(TAB).await;
    browser.press(PASSWORD).await;
    browser.press(ENTER).await;
    crate::server::eventually("the account", async || browser.path().await == "/account").await;
    // The first stop of every page leads past its head.
    browser.press(TAB).await;
    let focused =
        browser.run("return document.activeElement.getAttribute('href')", serde_json::json!([])).await;
    assert_eq!(focused, "#main");
}

/// The browser has nothing to complain about, refusals of the content security policy included.
async fn no_complaints(browser: &Browser) {
    let lines = browser.console().await;
    assert!(lines.is_empty(), "{lines:#?}");
}
