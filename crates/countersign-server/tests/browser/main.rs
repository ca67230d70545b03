//! The pages of the real server in a real browser.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests fail by panicking, and say what they leave out"
)]

mod api_page;
mod attacks;
mod driver;
#[cfg(feature = "flask")]
mod jars;
mod lasting;
mod looks;
#[path = "../it/server.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod server;
mod sockets;
mod stories;
mod tossing;
mod web;

use driver::Browser;
use server::Server;

const PASSWORD: &str = "correct horse battery";

/// Goes to a page of the server.
async fn open(browser: &Browser, server: &Server, path: &str) {
    browser.open(&format!("{}{path}", server.url)).await;
}

/// Registers an account and arrives at its page.
async fn register(browser: &Browser, server: &Server, email: &str) {
    open(browser, server, "/register").await;
    browser.fill("#email", email).await;
    browser.fill("#password", PASSWORD).await;
    browser.click("main .button").await;
    assert_eq!(browser.path().await, "/account", "{}", browser.text().await);
}

/// Signs in and arrives at the account.
async fn sign_in(browser: &Browser, server: &Server, email: &str, password: &str) {
    open(browser, server, "/sign-in").await;
    browser.fill("#name", email).await;
    browser.fill("#password", password).await;
    browser.click("main form .button").await;
    assert_eq!(browser.path().await, "/account", "{}", browser.text().await);
}

/// The newest link with this path in the mails, which a server on a loopback address writes to its log.
async fn mailed(server: &Server, path: &str) -> String {
    let marked = format!("{path}?token=");
    let mut found = None;
    server::eventually("the mail", async || {
        found = server.log().rsplit(&marked).next().filter(|_| server.log().contains(&marked)).map(|rest| {
            let token: String =
                rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.~%".contains(*c)).collect();
            format!("{path}?token={token}")
        });
        found.is_some()
    })
    .await;
    found.unwrap()
}

/// The newest code of six digits in the mails.
async fn mailed_code(server: &Server) -> String {
    let mut found = None;
    server::eventually("the code", async || {
        let log = server.log();
        let is_code = |text: &&str| text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_digit());
        found = log
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_' && c != '.')
            .flat_map(|word| word.split("\\n").map(|part| part.trim_start_matches('n')))
            .filter(is_code)
            .last()
            .map(str::to_owned);
        found.is_some()
    })
    .await;
    found.unwrap()
}
