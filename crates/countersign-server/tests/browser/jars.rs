//! Second opinions on our cookies: every kind of `Set-Cookie` that the library emits is given to Chromium, to npm's
//! `tough-cookie` and to Python's `http.cookiejar`, which say what they would send where, and for how long.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::post;
use countersign_axum::{AuthBuilder, Reply, SignIn, SignOut};
use countersign_flask::{FlaskJwtExtended, FlaskJwtExtendedConfig, FlaskLogin, FlaskLoginConfig};
use countersign_http::{CookieKind, CookieOptions, LoginSessions};
use countersign_jwt::UserId;
use countersign_pages::Pages;
use countersign_testapp::app::{PASSWORD, TestApp, credentials};
use countersign_testapp::client::{self, Client};
use http::{HeaderValue, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::driver::{Browser, Driver};
use crate::looks::target;
use crate::web::{serve, serve_https};

/// A cookie of a known life, set beside ours: the ends of others are measured against its end, so no clock is read.
const REFERENCE: &str = "reference";
const REFERENCE_LIVES: i64 = 100_000;

/// Where the application is, as the fields are made.
const APP: &str = "https://app.example.com";

/// `Set-Cookie` fields that begin a session, and those that end it.
type Fields = (Vec<String>, Vec<String>);

/// A kind of login, and what is asked about its cookies.
#[derive(Serialize)]
struct Case {
    name: &'static str,
    /// The address whose answers set them.
    url: String,
    set: Vec<String>,
    removal: Vec<String>,
    probes: Vec<Probe>,
}

/// A request whose cookies are looked at.
#[derive(Clone, Serialize)]
struct Probe {
    name: String,
    url: String,
    /// `own`: the site's own page. `link`: a link on another site leads there. `request`: a page of another site
    /// fetches it.
    context: &'static str,
}

/// What a jar makes of a [`Case`].
#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Seen {
    /// Names and values, by probe.
    sent: BTreeMap<String, BTreeSet<String>>,
    /// Seconds, by name and path; nothing for what goes when the browser is closed.
    lives: BTreeMap<String, Option<i64>>,
    /// Names and paths of what is left when the session has ended.
    left: BTreeSet<String>,
}

#[tokio::test]
async fn our_cookies_are_read_alike_by_chromium_tough_cookie_and_http_cookiejar() {
    let Some(driver) = Driver::start().await else { return };
    let echo = Echo::default();
    let [plain, other, https] =
        [serve(echo.router()).await, serve(echo.router()).await, serve_https(echo.router()).await];
    let cases = cases(plain, other).await;
    *echo.cases.lock().unwrap() = cases.iter().map(|case| (case.set.clone(), case.removal.clone())).collect();
    let hosts = [
        ("app.example.com:443", https),
        ("app.example.com:8443", https),
        ("app.example.com:80", plain),
        ("example.com:443", https),
        ("other.example.com:443", https),
        ("sub.app.example.com:443", https),
        ("elsewhere.net:443", https),
        ("elsewhere.net:80", plain),
    ];
    let browser = driver.browser_where(&hosts).await;
    let mut chromium = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        chromium.push(in_chromium(&browser, &echo, number, case).await);
    }
    check_host_cookies(&chromium[0]);
    for (case, seen) in cases.iter().zip(&chromium) {
        let is_token = |name: &&String| {
            ["access", "refresh", "csrf", "session", "remember"].iter().any(|word| name.contains(word))
        };
        let left: Vec<_> = seen.left.iter().filter(is_token).collect();
        let expected = if case.name == REPEATED { 1 } else { 0 };
        assert_eq!(left.len(), expected, "{}: signed out, a browser keeps no cookie of a session", case.name);
    }
    let python = ran("python3", &[&scripts("cookiejar.py")], &cases).await;
    compare("http.cookiejar", &cases, &chromium, &python, in_cookiejar);
    if let Some(tough_cookie) = tough_cookie() {
        let tough = ran("node", &[&scripts("tough.mjs"), &tough_cookie], &cases).await;
        compare("tough-cookie", &cases, &chromium, &tough, in_tough_cookie);
    }
}

/// What the table of docs/api.md says.
fn check_host_cookies(seen: &Seen) {
    let names = |probe: &str| -> Vec<&str> {
        let sent = &seen.sent[probe];
        sent.iter().map(|pair| pair.split_once('=').unwrap().0).collect()
    };
    let all = [client::ACCESS, client::CSRF, client::DEVICE, client::REFRESH];
    assert_eq!(names("own https://app.example.com/"), all);
    assert_eq!(names("own https://app.example.com/v1/auth/refresh"), all);
    assert_eq!(names("own https://app.example.com:8443/"), all, "cookies know no ports");
    assert_eq!(names("link https://app.example.com/"), all[..3], "the refresh token is withheld");
    for nowhere in [
        "request https://app.example.com/",
        "own http://app.example.com/",
        "own https://sub.app.example.com/",
        "own https://other.example.com/account",
        "own https://example.com/",
    ] {
        assert!(names(nowhere).is_empty(), "{nowhere}");
    }
    let day = 24 * 3600;
    assert_eq!(seen.lives["__Host-countersign_access /"], Some(900));
    assert_eq!(seen.lives["__Host-countersign_refresh /"], Some(14 * day));
    assert_eq!(seen.lives["__Host-countersign_device /"], Some(90 * day));
}

/// What `http.cookiejar` does otherwise, on purpose or because it is older.
fn in_cookiejar(case: &Case, chromium: &Seen) -> Seen {
    let mut seen = chromium.clone();
    let own = "own https://app.example.com/";
    for probe in &case.probes {
        // It knows no `SameSite`, and so none of the reasons to withhold a cookie from another site's request.
        if probe.context != "own" {
            let at_home = seen.sent[&format!("own {}", probe.url)].clone();
            seen.sent.insert(probe.name.clone(), at_home);
        }
        // As Netscape did, it sends what was set for a host to the host's sub-domains too.
        if probe.url == "https://sub.app.example.com/" {
            let at_home = seen.sent[own].clone();
            seen.sent.insert(probe.name.clone(), at_home);
        }
    }
    // It knows no prefixes, and keeps what misuses them.
    if case.name == MISUSED {
        let everywhere = ["__Host-domain=1", "__host-case=1", "__Host-bare=1", "__Secure-bare=1"];
        let insecure = ["__Host-bare=1", "__Secure-bare=1"];
        let of_domain = ["__Host-domain=1", "__host-case=1"];
        for (name, sent) in &mut seen.sent {
            let kept: &[&str] = match name.as_str() {
                "own http://app.example.com/" => &insecure,
                "own https://example.com/" | "own https://other.example.com/account" => &of_domain,
                _ => &everywhere,
            };
            sent.extend(kept.iter().map(|pair| (*pair).to_owned()));
        }
        for pair in everywhere.into_iter().chain(["__Host-path=1"]) {
            let path = if pair == "__Host-path=1" { "/x" } else { "/" };
            let name = format!("{} {path}", pair.trim_end_matches("=1"));
            seen.lives.insert(name.clone(), None);
            seen.left.insert(name);
        }
    }
    seen
}

/// What `tough-cookie` does otherwise.
fn in_tough_cookie(case: &Case, chromium: &Seen) -> Seen {
    let mut seen = chromium.clone();
    // It knows no partitions: Chromium keeps one jar for each site in whose pages the application is embedded.
    if case.name == PARTITIONED {
        // The device's cookie is `SameSite=Lax` all the same.
        let at_home = seen.sent["own https://app.example.com/"].clone();
        let elsewhere = at_home.into_iter().filter(|pair| !pair.starts_with(client::DEVICE)).collect();
        seen.sent.insert("request https://app.example.com/".to_owned(), elsewhere);
    }
    // It takes a prefix only as it is written, where Chromium takes it in any case.
    if case.name == MISUSED {
        for (name, sent) in &mut seen.sent {
            if name != "own http://app.example.com/" && !name.starts_with("request") {
                sent.insert("__host-case=1".to_owned());
            }
        }
        seen.lives.insert("__host-case /".to_owned(), None);
        seen.left.insert("__host-case /".to_owned());
    }
    seen
}

fn compare(
    jar: &str,
    cases: &[Case],
    chromium: &[Seen],
    others: &[Seen],
    differing: fn(&Case, &Seen) -> Seen,
) {
    assert_eq!(others.len(), cases.len(), "{jar}");
    for ((case, chromium), other) in cases.iter().zip(chromium).zip(others) {
        let expected = differing(case, chromium);
        for (probe, sent) in &expected.sent {
            assert_eq!(&other.sent[probe], sent, "{jar}: {}: {probe}", case.name);
        }
        assert_eq!(other.lives, expected.lives, "{jar}: {}", case.name);
        assert_eq!(other, &expected, "{jar}: {}", case.name);
    }
}

const REPEATED: &str = "shared with sub-domains, and each cookie twice";
const PARTITIONED: &str = "for other sites' pages, partitioned";
const MISUSED: &str = "prefixes misused, by nobody here";

/// All kinds of cookies.
async fn cases(plain: u16, other: u16) -> Vec<Case> {
    let https = [
        "own https://app.example.com/",
        "own https://app.example.com/account",
        "own https://app.example.com/v1/auth/refresh",
        "own https://app.example.com/v1/auth/refresh/page",
        "own https://app.example.com/v1/auth/refreshed",
        "own https://app.example.com:8443/",
        "own http://app.example.com/",
        "own https://sub.app.example.com/",
        "own https://other.example.com/account",
        "own https://example.com/",
        "link https://app.example.com/",
        "request https://app.example.com/",
    ];
    let local = format!("http://127.0.0.1:{plain}");
    let http = [
        format!("own {local}/"),
        format!("own {local}/v1/auth/refresh"),
        format!("own http://127.0.0.1:{other}/"),
        format!("own http://localhost:{plain}/"),
        format!("link {local}/"),
        format!("request {local}/"),
    ];
    let case = |name, base: &str, probes: &[&str], (set, removal): Fields| Case {
        name,
        url: base.to_owned(),
        set: [set, vec![format!("{REFERENCE}=1; Path=/; Max-Age={REFERENCE_LIVES}")]].concat(),
        removal,
        probes: probes.iter().map(|probe| Probe::of(probe)).collect(),
    };
    let over_http: Vec<_> = http.iter().map(String::as_str).collect();
    let options = CookieOptions::new;
    let with = async |options: CookieOptions| by_api(|builder| builder.cookies(options)).await;
    vec![
        case("a host's own", APP, &https, with(options()).await),
        case("a loopback address", &local, &over_http, by_api_at(&local).await),
        case("a login session", APP, &https, by_pages(false).await),
        case("a login session that is remembered", APP, &https, by_pages(true).await),
        case("strict", APP, &https, with(options().strict()).await),
        case("until closed", APP, &https, with(options().until_closed()).await),
        case(
            "a refresh cookie with a path, and other names",
            APP,
            &https,
            with(options().path(CookieKind::Refresh, "/v1/auth/refresh").name(CookieKind::Csrf, "c")).await,
        ),
        case(
            "shared with sub-domains",
            APP,
            &https,
            with(options().shared_with_subdomains("example.com")).await,
        ),
        case(REPEATED, APP, &https, repeated()),
        case("for other sites' pages", APP, &https, with(options().dangerous().send_cross_site()).await),
        case(PARTITIONED, APP, &https, with(options().dangerous().send_cross_site().partitioned()).await),
        case("Flask-JWT-Extended's", APP, &https, by_flask_jwt_extended().await),
        case("Flask-Login's", APP, &https, by_flask_login().await),
        case(MISUSED, APP, &https, (misused(), Vec::new())),
    ]
}

impl Probe {
    fn of(probe: &str) -> Self {
        let (context, url) = probe.split_once(' ').unwrap();
        let context = ["own", "link", "request"].into_iter().find(|known| *known == context).unwrap();
        Self { name: probe.to_owned(), url: url.to_owned(), context }
    }
}

/// The `Set-Cookie` fields of an answer.
fn fields(answer: &client::Response) -> Vec<String> {
    let fields = answer.headers.get_all(header::SET_COOKIE).iter();
    fields.map(|field| field.to_str().unwrap().to_owned()).collect()
}

/// Registration, refresh and logout of a browser's script.
async fn by_api(configure: impl FnOnce(AuthBuilder) -> AuthBuilder) -> Fields {
    let app = TestApp::with(configure).await;
    of_api(app.browser(), |name| name.ends_with("countersign_csrf") || name.ends_with("-c")).await
}

async fn by_api_at(url: &str) -> Fields {
    let app = TestApp::with(|builder| builder.public_url(url.parse().unwrap())).await;
    let host = url.trim_start_matches("http://");
    of_api(app.browser().with("host", host), |name| name.ends_with("csrf")).await
}

async fn of_api(mut browser: Client, is_csrf: fn(&str) -> bool) -> Fields {
    let mut body = credentials("ada");
    body["cookies"] = json!(true);
    let registered = browser.post("/v1/auth/register", &body).await;
    assert_eq!(registered.status(), 201, "{registered:?}");
    let csrf = browser.jar().iter().find(|(name, _)| is_csrf(name)).unwrap().1.clone();
    let mut browser = browser.with("x-csrf-token", &csrf);
    let refreshed = browser.post_nothing("/v1/auth/refresh").await;
    assert_eq!(refreshed.status(), 200, "{refreshed:?}");
    let out = browser.post_nothing("/v1/auth/logout").await;
    assert_eq!(out.status(), 204, "{out:?}");
    ([fields(&registered), fields(&refreshed)].concat(), fields(&out))
}

/// Everything that the pages set, from the first form to the last.
async fn by_pages(remember: bool) -> Fields {
    let sessions = LoginSessions::new().sign_in_page("/sign-in").confirm_page("/confirm");
    let app = TestApp::with(|builder| builder.login_sessions(sessions)).await;
    let pages = Pages::new(app.auth.clone());
    let app = app.with_routes(pages.router());
    app.register("ada").await;
    let mut browser = app.browser().with("accept", "text/html");
    let page = browser.get("/sign-in").await;
    let mut set = fields(&page);
    let proof = hidden(&page, "form_token");
    let answer = send(&mut browser, "/language", &[("form_token", &proof), ("language", "de")]).await;
    set.extend(fields(&answer));
    let mut login = vec![("form_token", proof.as_str()), ("name", "ada@example.org"), ("password", PASSWORD)];
    login.extend(remember.then_some(("remember", "yes")));
    let answer = send(&mut browser, "/sign-in", &login).await;
    set.extend(fields(&answer));
    let csrf = browser.cookie(client::CSRF).to_owned();
    let answer =
        send(&mut browser, "/account/username", &[("csrf_token", &csrf), ("username", "adal")]).await;
    set.extend(fields(&answer));
    // The access token has expired; the next page goes on with the session.
    app.wait(915);
    let mut removal = Vec::new();
    for field in fields(&browser.get("/account").await) {
        // The page shows what was done, and makes the browser forget it.
        if field.starts_with("__Host-countersign_note=") { &mut removal } else { &mut set }.push(field);
    }
    assert_eq!(removal.len(), 1);
    let out = send(&mut browser, "/sign-out", &[("csrf_token", &csrf)]).await;
    removal.extend(fields(&out));
    (set, removal)
}

async fn send(browser: &mut Client, path: &str, fields: &[(&str, &str)]) -> client::Response {
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(fields);
    let media_type = Some("application/x-www-form-urlencoded");
    let answer = browser.send_bytes(http::Method::POST, path, media_type, body.finish().into_bytes()).await;
    assert_eq!(answer.status(), 303, "{path}: {}", String::from_utf8_lossy(&answer.body));
    answer
}

fn hidden(page: &client::Response, name: &str) -> String {
    let page = std::str::from_utf8(&page.body).unwrap();
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
    rest.split('"').next().unwrap().to_owned()
}

/// Cookies that are shared with sub-domains, beside copies that were set for the host alone; and what removes both.
fn repeated() -> Fields {
    let options = CookieOptions::new().shared_with_subdomains("example.com");
    let config = options.build(Some(&APP.parse().unwrap())).unwrap();
    let text = |field: &HeaderValue| field.to_str().unwrap().to_owned();
    let kinds = [CookieKind::Access, CookieKind::Refresh, CookieKind::Csrf];
    let shared = kinds.map(|kind| text(&config.set(kind, "ours", Duration::from_secs(900)).unwrap()));
    let alone = shared.each_ref().map(|field| {
        let alone = field.replace("; Domain=example.com", "").replacen("=ours", "=another", 1);
        assert_ne!(&alone, field);
        alone
    });
    (alone.into_iter().chain(shared).collect(), config.expire_repeated().iter().map(text).collect())
}

async fn by_flask_jwt_extended() -> Fields {
    let options = json!({
        "JWT_SECRET_KEY": "correct horse battery staple, twice over",
        "JWT_TOKEN_LOCATION": ["headers", "cookies"],
        "JWT_COOKIE_SECURE": true,
        "JWT_COOKIE_SAMESITE": "Lax",
        "JWT_SESSION_COOKIE": false,
        "JWT_REFRESH_COOKIE_PATH": "/v1/auth/refresh",
    });
    let config = FlaskJwtExtendedConfig::from_options(options.as_object().cloned().unwrap()).unwrap();
    let app = TestApp::with(|builder| builder.rules(FlaskJwtExtended::builder(config))).await;
    let mut browser = app.browser();
    let mut body = credentials("ada");
    body["cookies"] = json!(true);
    let registered = browser.post("/v1/auth/register", &body).await;
    assert_eq!(registered.status(), 201, "{registered:?}");
    let csrf = browser.cookie("csrf_access_token").to_owned();
    let out = browser.clone().with("x-csrf-token", &csrf).post_nothing("/v1/auth/logout").await;
    assert_eq!(out.status(), 204, "{out:?}");
    (fields(&registered), fields(&out))
}

async fn by_flask_login() -> Fields {
    let options = json!({
        "SECRET_KEY": "correct horse battery staple, twice over",
        "SESSION_COOKIE_SECURE": true,
        "REMEMBER_COOKIE_SECURE": true,
        "REMEMBER_COOKIE_DOMAIN": "example.com",
    });
    let config = FlaskLoginConfig::from_options(options.as_object().cloned().unwrap()).unwrap();
    let by_id = async |id: UserId| Ok::<_, std::convert::Infallible>(Some(id));
    let app = TestApp::with(|builder| builder.rules(FlaskLogin::builder(config)).user_loader(by_id)).await;
    let app = app.with_routes(
        Router::new()
            .route(
                "/in",
                post(async |sign_in: SignIn| {
                    let cookies = sign_in.remember(true).user(&UserId::new("17").unwrap()).await?;
                    Ok::<_, Reply>((cookies, "in"))
                }),
            )
            .route("/out", post(async |sign_out: SignOut| Ok::<_, Reply>((sign_out.now().await?, "out")))),
    );
    let mut browser = app.browser();
    let entered = browser.post_nothing("/in").await;
    assert_eq!(entered.status(), 200, "{:?}", entered.headers);
    let out = browser.post_nothing("/out").await;
    assert_eq!(out.status(), 200, "{:?}", out.headers);
    (fields(&entered), fields(&out))
}

/// What no browser should take, and one that is good.
fn misused() -> Vec<String> {
    [
        "__Host-domain=1; Domain=example.com; Path=/; Secure; SameSite=None",
        "__host-case=1; Domain=example.com; Path=/; Secure; SameSite=Lax",
        "__Host-bare=1; Path=/",
        "__Host-path=1; Path=/x; Secure",
        "__Secure-bare=1; Path=/",
        "__Host-good=1; Path=/; Secure; SameSite=Lax",
    ]
    .map(str::to_owned)
    .into()
}

/// A program that sets the cookies of a case, and notes those that it is sent.
#[derive(Clone, Default)]
struct Echo {
    cases: Arc<Mutex<Vec<Fields>>>,
    sent: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
}

impl Echo {
    fn router(&self) -> Router {
        let echo = self.clone();
        Router::new().fallback(async move |request: Request| echo.answer(&request))
    }

    fn answer(&self, request: &Request) -> Response {
        let mut answer = Html("<title>echo</title><body></body>").into_response();
        let query = request.uri().query().unwrap_or_default();
        let Some((what, of)) = query.split_once('=') else { return answer };
        let cases = self.cases.lock().unwrap();
        let set = match what {
            "set" => &cases[of.parse::<usize>().unwrap()].0[..],
            "removal" => &cases[of.parse::<usize>().unwrap()].1[..],
            "probe" => {
                let cookies = request.headers().get_all(header::COOKIE).iter();
                let pairs = cookies.flat_map(|field| field.to_str().unwrap().split("; "));
                let ours = pairs.filter(|pair| !pair.starts_with(REFERENCE));
                self.sent.lock().unwrap().insert(of.to_owned(), ours.map(str::to_owned).collect());
                &[]
            }
            _ => &[],
        };
        for field in set {
            answer.headers_mut().append(header::SET_COOKIE, HeaderValue::from_str(field).unwrap());
        }
        answer
    }
}

/// What Chromium makes of a case.
async fn in_chromium(browser: &Browser, echo: &Echo, number: usize, case: &Case) -> Seen {
    browser.cdp("Network.clearBrowserCookies", json!({})).await;
    echo.sent.lock().unwrap().clear();
    browser.open(&format!("{}/?set={number}", case.url)).await;
    let kept = browser.all_cookies().await;
    let reference = kept.iter().find(|cookie| cookie["name"] == REFERENCE).unwrap();
    let end = reference["expires"].as_f64().unwrap();
    let lives = kept.iter().filter_map(|cookie| {
        let expires = cookie["expires"].as_f64().filter(|at| *at > 0.0);
        #[expect(clippy::cast_possible_truncation, reason = "seconds of this millennium")]
        let life = expires.map(|at| (at - end).round() as i64 + REFERENCE_LIVES);
        Some((key(cookie)?, life))
    });
    let lives = lives.collect();
    let mut sent = BTreeMap::new();
    for (index, probe) in case.probes.iter().enumerate() {
        let url = format!("{}?probe={index}", probe.url);
        let elsewhere =
            if url.starts_with("https") { "https://elsewhere.net/" } else { "http://elsewhere.net/" };
        match probe.context {
            "own" => browser.open(&url).await,
            "link" => {
                browser.open(elsewhere).await;
                let link = "window.wasHere = true; const link = document.createElement('a'); \
                            link.href = arguments[0]; document.body.append(link); link.click()";
                browser.run(link, json!([url])).await;
                browser.arrived().await;
            }
            _ => {
                browser.open(elsewhere).await;
                let fetch = "fetch(arguments[0], { mode: 'no-cors', credentials: 'include' })\
                             .then(() => arguments[1](''), error => arguments[1](String(error)))";
                assert_eq!(browser.run_until_done(fetch, json!([url])).await, "", "{}", probe.name);
            }
        }
        let noted = echo.sent.lock().unwrap().get(&index.to_string()).cloned();
        sent.insert(probe.name.clone(), noted.unwrap_or_else(|| panic!("{} did not arrive", probe.name)));
    }
    browser.open(&format!("{}/?removal={number}", case.url)).await;
    let left = browser.all_cookies().await.iter().filter_map(key).collect();
    Seen { sent, lives, left }
}

/// Name and path of a cookie of ours.
fn key(cookie: &Value) -> Option<String> {
    let name = cookie["name"].as_str()?;
    (name != REFERENCE).then(|| format!("{name} {}", cookie["path"].as_str().unwrap_or_default()))
}

/// What a script says about all cases.
async fn ran(program: &str, arguments: &[&str], cases: &[Case]) -> Vec<Seen> {
    let mut process = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let asked = serde_json::to_vec(cases).unwrap();
    process.stdin.take().unwrap().write_all(&asked).await.unwrap();
    let output = process.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{program} {arguments:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn scripts(name: &str) -> String {
    format!("{}/tests/browser/jars/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The folder of `tough-cookie`, which `./test` fetches.
fn tough_cookie() -> Option<String> {
    let path = std::env::var("TEST_TOUGH_COOKIE").ok().unwrap_or_else(|| {
        target().join("tough-cookie/node_modules/tough-cookie").to_string_lossy().into_owned()
    });
    let is_there = std::path::Path::new(&path).exists();
    if !is_there {
        eprintln!("left out: tough-cookie (npm install --prefix target/tough-cookie tough-cookie@6.1.0)");
    }
    is_there.then_some(path)
}
