//! Cookies that a sub-domain puts in the place of ours (SEC-185): a browser sends them to the whole domain, and says
//! nothing about who has set them.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderValue, header};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;

use crate::driver::{Browser, Driver};
use crate::server::{Folder, Server, eventually};
use crate::web::{form, serve, serve_https};
use crate::{PASSWORD, open, register};

const KINDS: [&str; 4] = ["access", "refresh", "csrf", "form"];

/// The `Set-Cookie` fields that the attacker's page answers with.
type Tossed = Arc<Mutex<Vec<String>>>;

/// An attacker's program: a page that tosses cookies, and forms that send themselves to `target`.
fn attacker(tossed: &Tossed, target: &str, csrf: &str) -> Router {
    let tossed = tossed.clone();
    let toss = async move || -> Response {
        let mut answer = Html("<title>tossed</title>").into_response();
        for field in tossed.lock().unwrap().iter() {
            answer
                .headers_mut()
                .append(header::SET_COOKIE, HeaderValue::from_bytes(field.as_bytes()).unwrap());
        }
        answer
    };
    let sent = format!("{target}/account");
    let proof = [("csrf_token", csrf), ("form_token", csrf)];
    let with = |fields: &[(&'static str, &'static str)]| -> Vec<(&str, &str)> {
        fields.iter().copied().chain(proof).collect()
    };
    let pages = [
        ("/close", form(&format!("{sent}/close"), &with(&[("current_password", PASSWORD)]))),
        ("/username", form(&format!("{sent}/username"), &with(&[("username", "mallory-was-here")]))),
        ("/end", form(&format!("{sent}/sessions"), &with(&[("others", "yes")]))),
        ("/sign-out", form(&format!("{target}/sign-out"), &with(&[]))),
        (
            "/sign-in",
            form(
                &format!("{target}/sign-in"),
                &with(&[("name", "mallory@example.org"), ("password", PASSWORD)]),
            ),
        ),
    ];
    let router = Router::new().route("/toss", get(toss));
    pages.into_iter().fold(router, |router, (path, page)| {
        router.route(path, get(async move |_: Request| Html(page.clone())))
    })
}

/// Removes the cookies of a domain, and returns how many there were.
async fn forget(browser: &Browser, domain: &str) -> usize {
    let all = browser.all_cookies().await;
    let of_domain: Vec<_> = all.iter().filter(|cookie| cookie["domain"] == domain).collect();
    for cookie in &of_domain {
        let which = json!({ "name": cookie["name"], "domain": domain, "path": cookie["path"] });
        browser.cdp("Network.deleteCookies", which).await;
    }
    of_domain.len()
}

/// The attacker's own cookies at the server, by kind.
async fn cookies_of_mallory(driver: &Driver, server: &Server, hosts: &[(&str, u16)]) -> Vec<String> {
    let mallory = driver.browser_where(hosts).await;
    open(&mallory, server, "/sign-in").await;
    let cookies = mallory.all_cookies().await;
    let form = value(&cookies, "countersign_form");
    register(&mallory, server, "mallory@example.org").await;
    let cookies = mallory.all_cookies().await;
    let mut values: Vec<_> =
        KINDS[..3].iter().map(|kind| value(&cookies, &format!("countersign_{kind}"))).collect();
    values.push(form);
    values
}

fn value(cookies: &[serde_json::Value], name: &str) -> String {
    let is_named =
        |cookie: &&serde_json::Value| cookie["name"].as_str().is_some_and(|known| known.ends_with(name));
    cookies.iter().find(is_named).unwrap()["value"].as_str().unwrap().to_owned()
}

/// Whose account the browser shows; nobody's where it is asked to sign in.
async fn shown(browser: &Browser, server: &Server) -> Option<String> {
    open(browser, server, "/account").await;
    let page = browser.text().await;
    match browser.path().await.as_str() {
        "/account" => {
            let name = page.split_whitespace().find(|word| word.contains('@'));
            Some(name.unwrap_or_else(|| panic!("no page: {page}")).to_owned())
        }
        path => {
            assert_eq!(path, "/sign-in?next=%2Faccount", "{page}");
            None
        }
    }
}

/// Over https, our names begin with `__Host-`. No browser lets a sub-domain set such a cookie, and the server reads no
/// other name. So nothing that is tossed has any effect, on who is signed in as little as on who is not.
#[tokio::test]
async fn sec_185_over_https_a_subdomain_can_neither_replace_nor_shadow_a_session() {
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let mut server = https_server(&folder).await;
    let app: u16 = server.address().rsplit(':').next().unwrap().parse().unwrap();
    server.url = "https://app.site.test".to_owned();
    let mallorys = cookies_of_mallory(&driver, &server, &[("app.site.test:443", app)]).await;
    let tossed = Tossed::default();
    let evil = serve_https(attacker(&tossed, &server.url, &mallorys[2])).await;
    let hosts = [("app.site.test:443", app), ("evil.site.test:443", evil), ("evil.app.site.test:443", evil)];
    let browser = driver.browser_where(&hosts).await;
    register(&browser, &server, "ada@example.org").await;
    let ada = Some("ada@example.org".to_owned());

    for (host, domain) in [("evil.site.test", "site.test"), ("evil.app.site.test", "app.site.test")] {
        for path in ["/", "/account", "/sign-in"] {
            let rest = format!("Domain={domain}; Path={path}; Secure");
            let toss = |prefix: &str| {
                let kinds = KINDS.iter().zip(&mallorys);
                let set = |(kind, value)| format!("{prefix}countersign_{kind}={value}; {rest}");
                kinds.map(set).collect::<Vec<_>>()
            };
            // Browsers refuse our prefix in any case and without a name before it; the other names mean nothing here.
            let refused = ["__Host-", "__host-", "=__Host-"];
            let kept = ["__Secure-", "%5F%5FHost-", ""];
            *tossed.lock().unwrap() = [refused, kept].concat().into_iter().flat_map(toss).collect();
            browser.open(&format!("https://{host}/toss")).await;
            assert_eq!(browser.title().await, "tossed");
            assert_eq!(shown(&browser, &server).await, ada, "{host} {path}");
            let left = forget(&browser, &format!(".{domain}")).await;
            assert_eq!(left, kept.len() * KINDS.len(), "{host} {path}");
        }
    }
    // Her own forms work as ever, the attacker's do not, though cookie and form have the same value.
    open(&browser, &server, "/account/username").await;
    browser.fill("#username", "ada").await;
    browser.click("main .button").await;
    assert!(browser.text().await.contains("Your username is saved."));
    forms_are_refused(&browser, &server, "https://evil.app.site.test").await;
    assert_eq!(shown(&browser, &server).await, ada);
    assert!(!browser.text().await.contains("mallory"));

    // Signed out, she does not find herself in the attacker's account.
    browser.click(".top .quiet").await;
    browser.open("https://evil.app.site.test/toss").await;
    assert_eq!(shown(&browser, &server).await, None);
    // A browser keeps so many cookies of a site; the attacker can use them all up, which signs nobody in.
    *tossed.lock().unwrap() =
        (0..300).map(|number| format!("c{number}=x; Domain=site.test; Path=/nowhere; Secure")).collect();
    crate::sign_in(&browser, &server, "ada@example.org", PASSWORD).await;
    browser.open("https://evil.site.test/toss").await;
    let seen = shown(&browser, &server).await;
    assert!(seen.is_none() || seen == ada, "{seen:?}");
    if seen.is_none() {
        crate::sign_in(&browser, &server, "ada@example.org", PASSWORD).await;
    }
    assert_eq!(shown(&browser, &server).await, ada);
    assert!(!server.log().contains("replay"), "{}", server.log());
}

/// On a loopback address without https, cookies have no prefix. Browsers keep sub-domains of `localhost` from setting
/// cookies for it. Below a longer name they do not: then a name that came twice counts as nothing.
#[tokio::test]
async fn sec_185_on_a_loopback_address_a_cookie_that_came_twice_is_nobodys() {
    let Some(driver) = Driver::start().await else { return };
    let folder = Folder::new();
    let mut server = folder.serve().await;
    let port = server.address().rsplit(':').next().unwrap().to_owned();
    for (host, is_safe) in [("localhost", true), ("app.localhost", false)] {
        server.url = format!("http://{host}:{port}");
        let name = format!("mallory@{}.example.org", host.replace('.', "-"));
        let mallory = driver.browser().await;
        open(&mallory, &server, "/sign-in").await;
        register(&mallory, &server, &name).await;
        let cookies = mallory.cookies().await;
        let mallorys: Vec<_> =
            KINDS[..3].iter().map(|kind| value(&cookies, &format!("countersign_{kind}"))).collect();
        let tossed = Tossed::default();
        let evil = serve(attacker(&tossed, &server.url, &mallorys[2])).await;
        let evil = format!("http://evil.{host}:{evil}");

        for kinds in [&["access"][..], &["refresh"], &["csrf"], &["access", "refresh", "csrf"]] {
            let browser = driver.browser().await;
            let email = format!("ada-{}@{}.example.org", kinds.concat(), host.replace('.', "-"));
            register(&browser, &server, &email).await;
            *tossed.lock().unwrap() = kinds
                .iter()
                .map(|kind| {
                    let value = &mallorys[KINDS.iter().position(|known| known == kind).unwrap()];
                    // The longer path puts it before ours.
                    format!("countersign_{kind}={value}; Domain={host}; Path=/account")
                })
                .collect();
            browser.open(&format!("{evil}/toss")).await;
            let all = browser.all_cookies().await;
            let taken = all.iter().filter(|cookie| cookie["domain"] == format!(".{host}").as_str()).count();
            assert_eq!(taken, if is_safe { 0 } else { kinds.len() }, "{host} {kinds:?}");
            let seen = shown(&browser, &server).await;
            if is_safe || *kinds == ["csrf"] || *kinds == ["refresh"] {
                assert_eq!(seen, Some(email), "{host} {kinds:?}");
                forms_are_refused(&browser, &server, &evil).await;
            } else {
                assert_eq!(seen, None, "{host} {kinds:?}: two cookies of one name are nobody's");
            }
        }
    }
    assert!(!server.log().contains("replay"), "{}", server.log());
}

/// No form of the attacker's changes anything.
async fn forms_are_refused(browser: &Browser, server: &Server, evil: &str) {
    for path in ["/close", "/username", "/end", "/sign-out", "/sign-in"] {
        browser.open(&format!("{evil}{path}")).await;
        eventually("the form to be sent", async || browser.url().await.starts_with(&server.url)).await;
        assert!(browser.text().await.contains("not allowed"), "{path}: {}", browser.text().await);
    }
}

/// The server at `https://app.site.test`, on a port of its own.
async fn https_server(folder: &Folder) -> Server {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["app.site.test".to_owned()]).unwrap();
    folder.write("certificate.pem", &cert.pem());
    folder.write("key.pem", &signing_key.serialize_pem());
    folder
        .serve_with(&[
            ("COUNTERSIGN_TLS_CERT", "certificate.pem"),
            ("COUNTERSIGN_TLS_KEY", "key.pem"),
            ("COUNTERSIGN_PUBLIC_URL", "https://app.site.test"),
        ])
        .await
}
