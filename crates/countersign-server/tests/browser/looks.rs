//! How every page looks, to people and to what reads pages aloud.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::driver::{Browser, Driver};
use crate::server::{Folder, Server};
use crate::{mailed, open, register, sign_in};

/// The pages that anybody sees: a name for the picture, and the way there.
const OPEN: [(&str, &str); 12] = [
    ("home", "/"),
    ("register", "/register"),
    ("sign-in", "/sign-in"),
    ("sign-in-next", "/sign-in?next=%2Faccount"),
    ("code", "/code"),
    ("code-link", "/code?token=x"),
    ("forgot", "/forgot"),
    ("reset", "/reset?token=x"),
    ("invite", "/invite?token=x"),
    ("verify", "/verify?token=x"),
    ("signed-out", "/signed-out"),
    ("error-404", "/nowhere"),
];

/// The pages of an account.
const OWN: [(&str, &str); 7] = [
    ("account", "/account"),
    ("account-email", "/account/email"),
    ("account-username", "/account/username"),
    ("account-password", "/account/password"),
    ("account-language", "/account/language"),
    ("account-close", "/account/close"),
    ("confirm", "/confirm"),
];

/// No page breaks a rule of accessibility that a program can check, in three languages, in light and dark; none is wider
/// than a phone; and the browser refuses nothing that a page asks for.
#[tokio::test]
async fn every_page_is_accessible_in_every_language_in_light_and_dark() {
    let Some(driver) = Driver::start().await else { return };
    let axe = axe();
    let folder = Folder::new();
    let server = folder.serve().await;
    let browser = driver.browser().await;
    let eye = Eye { axe, pictures: pictures() };
    for (name, path) in OPEN {
        open(&browser, &server, path).await;
        eye.look(&browser, name, Some(path)).await;
    }
    refusals(&eye, &browser, &server).await;
    register(&browser, &server, "ada@example.org").await;
    let other = driver.browser().await;
    other.cdp("Network.setUserAgentOverride", json!({ "userAgent": PHONE })).await;
    sign_in(&other, &server, "ada@example.org", crate::PASSWORD).await;
    for (name, path) in OWN {
        open(&browser, &server, path).await;
        eye.look(&browser, name, Some(path)).await;
    }
    let verify = mailed(&server, "/verify").await;
    open(&browser, &server, &verify).await;
    browser.click("main .button").await;
    eye.look(&browser, "verify-done", None).await;
    let lines = browser.console().await;
    let refused: Vec<_> = lines.iter().filter(|line| line.contains("Content Security Policy")).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

/// What is long stays inside: the name of the site, an address, a username, the names of fields; and any colour can be
/// read.
#[tokio::test]
async fn pages_hold_what_is_long_in_any_colour() {
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let settings = [
        ("COUNTERSIGN_SITE_NAME", "Arbeitsgemeinschaft der Einwohnermeldeämter Mecklenburgs"),
        ("COUNTERSIGN_PAGES_COLOR", "#ffd500"),
        ("COUNTERSIGN_LOGIN_NAMES", "both"),
        ("COUNTERSIGN_TRUSTED_PROXIES", "127.0.0.1"),
    ];
    let server = folder.serve_with(&settings).await;
    let browser = driver.browser().await;
    let eye = Eye { axe: axe(), pictures: pictures() };
    for (name, path) in [("long-home", "/"), ("long-register", "/register"), ("long-sign-in", "/sign-in")] {
        open(&browser, &server, path).await;
        eye.look(&browser, name, Some(path)).await;
    }
    let email = "rosalind-elsie.franklin-of-kings-college-london@crystallography.example.org";
    register(&browser, &server, email).await;
    open(&browser, &server, "/account/username").await;
    browser.fill("#username", "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbea").await;
    browser.click("main .button").await;
    for agent in [PHONE, TABLET, FIREFOX, "curl/8.5.0"] {
        let other = driver.browser().await;
        other.cdp("Network.setUserAgentOverride", json!({ "userAgent": agent })).await;
        let address = json!({ "x-forwarded-for": "2001:db8:1111:2222:3333:4444:5555:6666" });
        other.cdp("Network.setExtraHTTPHeaders", json!({ "headers": address })).await;
        sign_in(&other, &server, email, crate::PASSWORD).await;
    }
    for (name, path) in [("long-account", "/account"), ("long-close", "/account/close")] {
        open(&browser, &server, path).await;
        eye.look(&browser, name, Some(path)).await;
    }
}

/// Pages that come of a form.
async fn refusals(eye: &Eye, browser: &Browser, server: &Server) {
    for (name, path, fields) in [
        ("register-wrong", "/register", &[("#email", "ada@localhost"), ("#password", "password")][..]),
        ("sign-in-wrong", "/sign-in", &[("#name", "ada@example.org"), ("#password", "wrong")]),
        ("code-enter", "/code", &[("#email", "ada@example.org")]),
        ("forgot-sent", "/forgot", &[("#email", "ada@example.org")]),
        ("reset-link-used", "/reset?token=x", &[("#new_password", crate::PASSWORD)]),
    ] {
        open(browser, server, path).await;
        for (selector, text) in fields {
            browser.fill(selector, text).await;
        }
        browser.click("main form .button").await;
        eye.look(browser, name, None).await;
    }
}

const PHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                     Version/18.5 Mobile/15E148 Safari/604.1";

const TABLET: &str = "Mozilla/5.0 (Linux; Android 15; Pixel Tablet) AppleWebKit/537.36 (KHTML, like Gecko) \
                      Chrome/142.0.0.0 Safari/537.36";
const FIREFOX: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0";

/// What looks at pages.
struct Eye {
    /// The script of axe-core; `None` where it is not there.
    axe: Option<String>,
    pictures: PathBuf,
}

impl Eye {
    /// Takes pictures of a page and checks it, in all languages if it has an address.
    async fn look(&self, browser: &Browser, name: &str, path: Option<&str>) {
        for (width, height, kind) in [(360, 740, "phone"), (640, 450, "zoomed"), (1280, 900, "desktop")] {
            browser.size(width, height, kind == "phone").await;
            for scheme in ["light", "dark"] {
                browser.colours(scheme).await;
                // At 200 % a page is looked at as well, but a picture of it shows nothing new.
                if kind != "zoomed" {
                    let file = self.pictures.join(format!("{name}-{kind}-{scheme}.png"));
                    std::fs::write(file, browser.picture().await).unwrap();
                }
                self.check(browser, &format!("{name} {kind} {scheme}")).await;
            }
        }
        let Some(path) = path else { return };
        for language in ["de", "fr"] {
            // By the foot of the page, which leads back to the page.
            browser.click(&format!(".tongue[value={language}]")).await;
            assert_eq!(browser.path().await, path, "{name}");
            assert_eq!(browser.attribute("html", "lang").await, language, "{name}");
            for (width, height, kind) in [(360, 740, "phone"), (1280, 900, "desktop")] {
                browser.size(width, height, kind == "phone").await;
                for scheme in ["dark", "light"] {
                    browser.colours(scheme).await;
                    self.check(browser, &format!("{name} {kind} {scheme} {language}")).await;
                }
                if kind == "phone" {
                    let file = self.pictures.join(format!("{name}-{kind}-{language}.png"));
                    std::fs::write(file, browser.picture().await).unwrap();
                }
            }
        }
        browser.click(".tongue[value=en]").await;
    }

    async fn check(&self, browser: &Browser, what: &str) {
        let width = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        let beyond = browser.run(width, json!([])).await;
        assert_eq!(beyond, 0, "{what} is wider than its window");
        let Some(axe) = &self.axe else { return };
        browser.run(&format!("if (!window.axe) {{ {axe} }}"), json!([])).await;
        let found = browser
            .run_until_done(
                "const done = arguments[0]; axe.run().then(result => done(result.violations.map(one => \
                 one.id + ': ' + one.help + ' ' + one.nodes.map(node => node.html).join(' '))), error => \
                 done([String(error)]))",
                json!([]),
            )
            .await;
        assert_eq!(found, json!([]), "{what}");
    }
}

/// The script of axe-core, which `./test` fetches.
fn axe() -> Option<String> {
    let path = std::env::var_os("TEST_AXE")
        .map_or_else(|| target().join("axe/node_modules/axe-core/axe.min.js"), PathBuf::from);
    let script = std::fs::read_to_string(path).ok();
    if script.is_none() {
        eprintln!("left out: axe-core (npm install --prefix target/axe axe-core@4)");
    }
    script
}

pub(crate) fn pictures() -> PathBuf {
    let folder = target().join("screenshots");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

pub(crate) fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")
}
