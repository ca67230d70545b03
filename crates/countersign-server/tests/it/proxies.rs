//! Real reverse proxies with the configurations of `docs/proxies`, before the real server and a plain application that
//! says what it got.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use http::StatusCode;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Method};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::client::PASSWORD;
use crate::server::{Folder, Server, eventually};

const PAGE: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const COOKIES: [&str; 3] =
    ["__Host-countersign_access", "__Host-countersign_refresh", "__Host-countersign_csrf"];

/// A file of `docs/proxies`.
fn documented(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/proxies");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// A program on this machine: named by a variable, or where it usually is. Without it the test says so and is left out.
pub(crate) fn program(variable: &str, usual: &[&str]) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/proxies");
    let found = named.or_else(|| usual.iter().map(|path| built.join(path)).find(|path| path.exists()));
    if found.is_none() {
        println!("left out: there is no {variable}, and none of {usual:?}");
    }
    found
}

/// The proxy, the server and the application behind it.
struct Site {
    url: String,
    http: reqwest::Client,
    folder: Folder,
    server: Server,
    _proxy: Child,
}

/// What a configuration's placeholders become.
struct Places {
    port: u16,
    auth: String,
    app: String,
    certificate: String,
    key: String,
    both: String,
    folder: String,
}

pub(crate) async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

impl Site {
    /// Starts all three. `command` writes the configuration and makes the proxy's command.
    async fn start(command: impl FnOnce(&Folder, &Places) -> Command) -> Self {
        Self::start_with(&[], command).await
    }

    async fn start_with(
        settings: &[(&str, &str)],
        command: impl FnOnce(&Folder, &Places) -> Command,
    ) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = Folder::new();
        let (certificate, key) = (cert.pem(), signing_key.serialize_pem());
        folder.write("certificate.pem", &certificate);
        folder.write("key.pem", &key);
        folder.write("both.pem", &format!("{certificate}{key}"));
        let port = free_port().await;
        let url = format!("https://localhost:{port}");
        let own = [
            ("COUNTERSIGN_PUBLIC_URL", &*url),
            ("COUNTERSIGN_TRUSTED_PROXIES", "127.0.0.1"),
            ("COUNTERSIGN_FORWARDED_HEADER", "x-forwarded-for"),
        ];
        let server = folder.serve_with(&[&own, settings].concat()).await;
        let shown = |name: &str| folder.path(name).to_str().unwrap().to_owned();
        let places = Places {
            port,
            auth: server.address().to_owned(),
            app: application().await,
            certificate: shown("certificate.pem"),
            key: shown("key.pem"),
            both: shown("both.pem"),
            folder: shown("."),
        };
        let mut command = command(&folder, &places);
        let log = std::fs::File::create(folder.path("proxy.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).kill_on_drop(true);
        let mut proxy = command.spawn().unwrap();
        let http = reqwest::Client::builder()
            .tls_certs_only([Certificate::from_pem(certificate.as_bytes()).unwrap()])
            .redirect(Policy::none())
            .http1_only()
            .build()
            .unwrap();
        let health = format!("{url}/v1/auth/whoami");
        eventually("the proxy answers", async || {
            let log = || std::fs::read_to_string(folder.path("proxy.log")).unwrap();
            assert!(proxy.try_wait().unwrap().is_none(), "the proxy ended: {}", log());
            http.get(&health).send().await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        Self { url, http, folder, server, _proxy: proxy }
    }

    fn visitor(&self) -> Visitor<'_> {
        Visitor { site: self, jar: BTreeMap::new(), fields: Vec::new() }
    }

    async fn signed_in(&self, name: &str) -> Visitor<'_> {
        let mut browser = self.visitor();
        let body = json!({ "email": format!("{name}@example.org"), "password": PASSWORD, "cookies": true });
        let answer = browser.post_json("/v1/auth/register", &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert!(COOKIES.iter().all(|name| browser.jar.contains_key(*name)), "{answer:?}");
        browser
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path("proxy.log")).unwrap()
    }
}

/// A client with cookies. Redirects are not followed.
#[derive(Clone)]
struct Visitor<'s> {
    site: &'s Site,
    jar: BTreeMap<String, String>,
    fields: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Seen {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Seen {
    fn location(&self) -> &str {
        let location = self.headers.get("location").map(|field| field.to_str().unwrap()).unwrap_or_default();
        // Some proxies make the path a whole URL.
        location
            .find("://localhost")
            .and_then(|at| location[at + 3..].find('/').map(|path| &location[at + 3 + path..]))
            .unwrap_or(location)
    }

    /// What the application got under this name.
    fn got(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_default()
    }
}

impl Visitor<'_> {
    fn with(&self, name: &'static str, value: &str) -> Self {
        let mut with = self.clone();
        with.fields.push((name, value.to_owned()));
        with
    }

    fn csrf(&self) -> Self {
        self.with("x-csrf-token", &self.jar[COOKIES[2]])
    }

    async fn get(&mut self, path: &str) -> Seen {
        self.send(Method::GET, path, None).await
    }

    async fn post_json(&mut self, path: &str, body: &Value) -> Seen {
        let json = ("application/json", body.to_string());
        self.send(Method::POST, path, Some(json)).await
    }

    async fn send(&mut self, method: Method, path: &str, body: Option<(&str, String)>) -> Seen {
        let mut request = self.site.http.request(method, format!("{}{path}", self.site.url));
        for (name, value) in &self.fields {
            request = request.header(*name, value);
        }
        if !self.jar.is_empty() {
            let cookies: Vec<_> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header("cookie", cookies.join("; "));
        }
        if let Some((kind, body)) = body {
            request = request.header("content-type", kind).body(body);
        }
        let answer = request.send().await.unwrap();
        for field in answer.headers().get_all("set-cookie") {
            let (pair, attributes) = field.to_str().unwrap().split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if value.is_empty() || attributes.contains("Max-Age=0") {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.to_owned(), value.to_owned());
            }
        }
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.unwrap();
        Seen { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }
}

/// An application that knows nothing of tokens: it says what it got, and echoes on WebSockets.
async fn application() -> String {
    let app = Router::new().fallback(async |request: Request| -> Response {
        let mut got = Map::new();
        for (name, value) in request.headers() {
            let value = String::from_utf8_lossy(value.as_bytes());
            let name = name.as_str();
            let known = got.get(name).and_then(Value::as_str).map(|known| format!("{known}, {value}"));
            got.insert(name.to_owned(), json!(known.unwrap_or(value.into_owned())));
        }
        if !request.headers().contains_key("upgrade") {
            got.insert("method".to_owned(), json!(request.method().as_str()));
            got.insert("path".to_owned(), json!(request.uri().path()));
            let body = axum::body::to_bytes(request.into_body(), 65_536).await.unwrap();
            got.insert("body".to_owned(), json!(String::from_utf8_lossy(&body)));
            return Json(got).into_response();
        }
        tokio::spawn(async move {
            let io = hyper::upgrade::on(request).await.unwrap();
            let mut io = hyper_util::rt::TokioIo::new(io);
            let mut bytes = [0; 5];
            io.read_exact(&mut bytes).await.unwrap();
            io.write_all(&bytes).await.unwrap();
            io.flush().await.unwrap();
        });
        // The answer to the only key that these tests send (RFC 6455 §1.3).
        let accept = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let fields = [("upgrade", "websocket"), ("connection", "Upgrade"), accept];
        let user = got.get("x-auth-user").and_then(Value::as_str).unwrap_or_default().to_owned();
        (StatusCode::SWITCHING_PROTOCOLS, fields, [("x-seen-user", user)]).into_response()
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

const IDENTITY: [&str; 5] = ["x-auth-user", "x-auth-session", "x-auth-scope", "x-auth-roles", "x-auth-fresh"];

/// What not every proxy can do.
struct Skills {
    /// Removes our cookies and leaves the others.
    keeps_other_cookies: bool,
    /// Removes headers with `_` in their names, which some applications take for those with `-`.
    drops_underscores: bool,
}

const ALL: Skills = Skills { keeps_other_cookies: true, drops_underscores: true };

/// What every proxy that asks `/v1/auth/verify` does with these configurations.
async fn check_asking(site: &Site, skills: &Skills) {
    let mut stranger = site.visitor();
    for name in IDENTITY {
        stranger = stranger.with(name, "root");
    }
    if skills.drops_underscores {
        stranger = stranger.with("x_auth_user", "root");
    }
    assert_eq!(stranger.clone().get("/report").await.status, 401, "{}", site.log());

    // A program, by its header.
    let body = json!({ "email": "grace@example.org", "password": PASSWORD });
    let tokens = site.visitor().post_json("/v1/auth/register", &body).await;
    let (access, refresh) = (tokens.body["access_token"].as_str().unwrap(), &tokens.body["refresh_token"]);
    let user = tokens.body["user"]["id"].as_str().unwrap();
    let program = stranger.with("authorization", &format!("Bearer {access}"));
    for (method, path) in [(Method::GET, "/report"), (Method::POST, "/report"), (Method::DELETE, "/a/b")] {
        let answer =
            program.clone().send(method.clone(), path, Some(("text/plain", "hello".to_owned()))).await;
        assert_eq!(
            (answer.status, answer.got("method")),
            (200, method.as_str()),
            "{answer:?} {}",
            site.log()
        );
        assert_eq!((answer.got("x-auth-user"), answer.got("x-auth-fresh")), (user, "yes"));
        assert_eq!((answer.got("path"), answer.got("body")), (path, "hello"));
        assert!(!answer.body.to_string().contains("root"), "a spoofed identity: {answer:?}");
        assert_eq!(answer.got("authorization"), "", "the token is not for the application");
    }
    let junk = stranger.with("authorization", "Bearer junk").get("/report").await;
    assert_eq!(junk.status, 401, "{junk:?}");

    // A program refreshes through the proxy.
    let renewed = site.visitor().post_json("/v1/auth/refresh", &json!({ "refresh_token": refresh })).await;
    let access = renewed.body["access_token"].as_str().unwrap();
    let answer = site.visitor().with("authorization", &format!("Bearer {access}")).get("/report").await;
    assert_eq!((answer.got("x-auth-user"), answer.got("x-auth-fresh")), (user, "no"), "{answer:?}");

    // A browser, by its cookies. Its own other cookies reach the application, where the proxy can tell them apart.
    let mut browser = site.signed_in("ada").await;
    browser.jar.insert("a".to_owned(), "1".to_owned());
    browser.jar.insert("theme".to_owned(), "dark".to_owned());
    let answer = browser.with("x-auth-user", "root").get("/report").await;
    assert_eq!(answer.status, 200, "{answer:?} {}", site.log());
    assert!(!answer.got("x-auth-user").is_empty() && answer.got("x-auth-user") != "root");
    let cookies = answer.got("cookie");
    assert!(!cookies.contains("countersign"), "our cookies are not for the application: {cookies}");
    if skills.keeps_other_cookies {
        assert!(cookies.contains("a=1") && cookies.contains("theme=dark"), "{cookies}");
    }
    let many = (0..20).fold(browser.clone(), |mut many, number| {
        many.jar.insert(format!("countersign_{number}"), "secret".to_owned());
        many
    });
    let answer = many.clone().get("/report").await;
    assert!(answer.status == 200 && !answer.body.to_string().contains("countersign_"), "{answer:?}");

    // A cookie alone authorises no POST; the CSRF value in the header does, and so does an own page's form.
    let form = || Some(("application/x-www-form-urlencoded", "csrf_token=x&note=milk".to_owned()));
    let fetched = |site: &'static str| browser.with("sec-fetch-site", site);
    for (case, visitor, expected) in [
        ("without a value", browser.clone(), 403),
        ("the value in the header", browser.csrf(), 200),
        ("a wrong value", browser.with("x-csrf-token", "x"), 403),
        ("an own page's form", fetched("same-origin"), 200),
        ("an own page's form, by its origin", browser.with("origin", &site.url), 200),
        ("another site's form", fetched("cross-site").csrf(), 403),
        ("another site's form, by its origin", browser.with("origin", "https://evil.example"), 403),
        ("the client's word for the method", browser.with("x-forwarded-method", "GET"), 403),
        ("the client's other word", browser.with("x-original-method", "GET"), 403),
    ] {
        let answer = visitor.clone().send(Method::POST, "/notes", form()).await;
        assert_eq!(answer.status, expected, "{case}: {answer:?}");
        if expected == 200 {
            assert_eq!(answer.got("body"), "csrf_token=x&note=milk", "{case}");
            assert_eq!(answer.got("x-csrf-token"), "", "{case}");
        }
    }

    // Preflights pass as nobody; nothing else can pass for one.
    let cross =
        site.visitor().with("origin", "https://other.example").with("access-control-request-method", "PUT");
    let answer = cross.with("x-auth-user", "root").send(Method::OPTIONS, "/report", None).await;
    assert_eq!(
        (answer.status, answer.got("method"), answer.got("x-auth-user")),
        (200, "OPTIONS", ""),
        "{answer:?}"
    );
    let options = site.visitor().send(Method::OPTIONS, "/report", None).await;
    assert_eq!(options.status, 401, "no preflight");
    for name in ["x-forwarded-method", "x-original-method"] {
        let answer = cross.with(name, "OPTIONS").send(Method::PUT, "/report", None).await;
        assert_eq!(answer.status, 401, "{name}: {answer:?}");
    }

    check_pages(site, &browser).await;
    check_socket(site, &browser).await;

    // Signed out.
    let answer = browser.csrf().send(Method::POST, "/v1/auth/logout", None).await;
    assert!(answer.status < 300, "{answer:?}");
    assert_eq!(browser.get("/report").await.status, 401);
}

/// Pages: strangers are sent to sign in, and a session goes on unseen.
async fn check_pages(site: &Site, browser: &Visitor<'_>) {
    let mut stranger = site.visitor().with("accept", PAGE);
    let answer = stranger.get("/report?x=1").await;
    assert_eq!((answer.status, answer.location()), (303, "/sign-in?next=%2Freport%3Fx%3D1"), "{answer:?}");
    for name in ["x-forwarded-uri", "x-original-uri"] {
        let answer = stranger.with(name, "//evil.example/").get("/report").await;
        assert!(!answer.location().contains("evil"), "{answer:?}");
    }
    let page = stranger.get("/sign-in?next=%2Freport%3Fx%3D1").await;
    assert!(page.status == 200 && page.body.as_str().unwrap().contains("<form"), "{page:?}");

    let mut returning = browser.with("accept", PAGE);
    let former = returning.jar.remove(COOKIES[0]).unwrap();
    let answer = returning.get("/report?x=1").await;
    assert!(answer.status == 303 && answer.location().starts_with("/v1/auth/refresh/page?"), "{answer:?}");
    let renewal = answer.location().to_owned();
    let answer = returning.get(&renewal).await;
    assert_eq!((answer.status, answer.location()), (303, "/report?x=1"), "{answer:?}");
    assert!(returning.jar.get(COOKIES[0]).is_some_and(|renewed| *renewed != former));
    let answer = returning.get("/report?x=1").await;
    assert!(answer.status == 200 && !answer.got("x-auth-user").is_empty(), "{answer:?}");

    // A script is told, and refreshes.
    let mut script = browser.clone();
    script.jar = returning.jar.clone();
    script.jar.remove(COOKIES[0]);
    assert_eq!(script.get("/data").await.status, 401);
    let answer = script.csrf().send(Method::POST, "/v1/auth/refresh", None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// A WebSocket opens from an own page alone, and its bytes go through.
async fn check_socket(site: &Site, browser: &Visitor<'_>) {
    for (origin, cookies, expected) in
        [(&*site.url, true, 101), ("https://evil.example", true, 403), (&*site.url, false, 401)]
    {
        let mut request = site.http.get(format!("{}/socket", site.url)).header("origin", origin);
        for (name, value) in [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            request = request.header(name, value);
        }
        if cookies {
            request = request.header("cookie", format!("{}={}", COOKIES[0], browser.jar[COOKIES[0]]));
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{origin} {cookies}: {}", site.log());
        if expected == 101 {
            assert!(!answer.headers()["x-seen-user"].is_empty());
            let mut socket = answer.upgrade().await.unwrap();
            socket.write_all(b"hello").await.unwrap();
            let mut echo = [0; 5];
            socket.read_exact(&mut echo).await.unwrap();
            assert_eq!(&echo, b"hello");
        }
    }
}

/// Replaces each text in a configuration; every one must be there.
pub(crate) fn filled(name: &str, places: &[(&str, &str)]) -> String {
    places.iter().fold(documented(name), |text, (placeholder, value)| {
        assert!(text.contains(placeholder), "{name} has no {placeholder}");
        text.replace(placeholder, value)
    })
}

const LIVE: [&str; 2] = [
    "/etc/letsencrypt/live/app.example.com/fullchain.pem",
    "/etc/letsencrypt/live/app.example.com/privkey.pem",
];

fn nginx(program: &Path, name: &str, folder: &Folder, places: &Places) -> Command {
    let site = filled(
        name,
        &[
            ("127.0.0.1:9000", &places.app),
            ("127.0.0.1:8080", &places.auth),
            ("listen 443 ssl", &format!("listen 127.0.0.1:{} ssl", places.port)),
            ("server_name app.example.com", "server_name localhost"),
            (LIVE[0], &places.certificate),
            (LIVE[1], &places.key),
        ],
    );
    folder.write("site.conf", &site);
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind}; ", places.folder))
        .concat();
    let user = if rustix::process::geteuid().is_root() { "user root; " } else { "" };
    folder.write(
        "nginx.conf",
        &format!(
            "{user}daemon off; pid {0}/nginx.pid; error_log stderr; worker_processes 1; events {{ }}
             http {{ access_log off; {temporary} include {0}/site.conf; }}",
            places.folder
        ),
    );
    let mut command = Command::new(program);
    command.arg("-e").arg("stderr").arg("-c").arg(folder.path("nginx.conf"));
    command
}

#[tokio::test]
async fn nginx_asks_before_it_passes_on() {
    let Some(program) = program("TEST_NGINX", &["/usr/sbin/nginx"]) else { return };
    let site = Site::start(|folder, places| nginx(&program, "nginx.conf", folder, places)).await;
    check_asking(&site, &ALL).await;
    site.server.stop().await;
}

#[tokio::test]
async fn caddy_asks_before_it_passes_on() {
    let Some(program) = program("TEST_CADDY", &["/usr/bin/caddy", "caddy"]) else { return };
    let site = Site::start(|folder, places| {
        let head = format!(
            "https://localhost:{} {{\n\tbind 127.0.0.1\n\ttls {} {}\n",
            places.port, places.certificate, places.key
        );
        let text = filled(
            "Caddyfile",
            &[
                ("127.0.0.1:9000", &places.app),
                ("127.0.0.1:8080", &places.auth),
                ("app.example.com {\n", &head),
            ],
        );
        folder.write("Caddyfile", &format!("{{\n\tadmin off\n\tauto_https off\n}}\n{text}"));
        let mut command = Command::new(&program);
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(folder.path("Caddyfile"));
        command.env("HOME", folder.path(".")).env("XDG_DATA_HOME", folder.path("."));
        command
    })
    .await;
    check_asking(&site, &ALL).await;
    site.server.stop().await;
}

#[tokio::test]
async fn traefik_asks_before_it_passes_on() {
    let Some(program) = program("TEST_TRAEFIK", &["/usr/bin/traefik", "traefik"]) else { return };
    let site = Site::start(|folder, places| {
        let text = filled(
            "traefik.yaml",
            &[
                ("127.0.0.1:9000", &places.app),
                ("127.0.0.1:8080", &places.auth),
                ("Host(`app.example.com`)", "Host(`localhost`)"),
                (LIVE[0], &places.certificate),
                (LIVE[1], &places.key),
            ],
        );
        folder.write("traefik.yaml", &text);
        let file = folder.path("traefik.yaml").to_str().unwrap().to_owned();
        let listen = format!("127.0.0.1:{}", places.port);
        let text = filled(
            "traefik-static.yaml",
            &[("\":443\"", &format!("\"{listen}\"")), ("/etc/traefik/dynamic/traefik.yaml", &file)],
        );
        folder.write("static.yaml", &text);
        let mut command = Command::new(&program);
        command.arg(format!("--configFile={}", folder.path("static.yaml").display()));
        command
    })
    .await;
    check_asking(&site, &Skills { keeps_other_cookies: false, drops_underscores: false }).await;
    site.server.stop().await;
}

/// What a proxy does that only stands before both programs: the application gets the access token, to prove it.
async fn check_standing_before(site: &Site, skills: &Skills) {
    let mut browser = site.signed_in("ada").await;
    browser.jar.insert("theme".to_owned(), "dark".to_owned());
    let mut spoofed = IDENTITY.into_iter().fold(browser.clone(), |spoofed, name| spoofed.with(name, "root"));
    if skills.drops_underscores {
        spoofed = spoofed.with("x_auth_user", "root");
    }
    let answer = spoofed.with("authorization", "Bearer x").get("/report").await;
    assert_eq!((answer.status, answer.got("authorization")), (200, "Bearer x"), "{answer:?} {}", site.log());
    assert!(!answer.body.to_string().contains("root"), "{answer:?}");
    let cookies = answer.got("cookie");
    assert!(cookies.contains(COOKIES[0]) && cookies.contains("theme=dark"), "{cookies}");
    assert!(!cookies.contains(COOKIES[1]), "the refresh token is not for the application: {cookies}");
    // The application asks on behalf of its client, and Countersign's own routes work through the proxy.
    let asked = browser.with("x-forwarded-method", "GET").get("/v1/auth/verify").await;
    assert_eq!(asked.headers["x-auth-user"].to_str().unwrap(), asked.body["sub"].as_str().unwrap());
    let answer = browser.csrf().send(Method::POST, "/v1/auth/refresh", None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        browser.clone().send(Method::POST, "/v1/auth/refresh", None).await.status,
        403,
        "no CSRF value"
    );
    let seen = site.visitor().with("x-forwarded-for", "1.1.1.1").with("forwarded", "for=1.1.1.1");
    let seen = seen.clone().get("/v1/auth/whoami").await.body;
    assert_eq!((&seen["address"], &seen["scheme"]), (&json!("127.0.0.1"), &json!("https")), "{seen}");
    let socket = site.http.get(format!("{}/socket", site.url)).header("connection", "Upgrade");
    let socket = socket.header("upgrade", "websocket").header("sec-websocket-version", "13");
    let socket = socket.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").send().await.unwrap();
    assert_eq!(socket.status(), 101);
    let mut socket = socket.upgrade().await.unwrap();
    socket.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    socket.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"hello");
}

#[tokio::test]
async fn haproxy_stands_before_both_programs() {
    let Some(program) = program("TEST_HAPROXY", &["/usr/sbin/haproxy"]) else { return };
    let site = Site::start(|folder, places| {
        let text = filled(
            "haproxy.cfg",
            &[
                ("127.0.0.1:9000", &places.app),
                ("127.0.0.1:8080", &places.auth),
                ("bind :443", &format!("bind 127.0.0.1:{}", places.port)),
                ("/etc/haproxy/app.pem", &places.both),
            ],
        );
        folder.write("haproxy.cfg", &text);
        let mut command = Command::new(&program);
        command.arg("-db").arg("-f").arg(folder.path("haproxy.cfg"));
        command
    })
    .await;
    check_standing_before(&site, &ALL).await;
    site.server.stop().await;
}

#[tokio::test]
async fn apache_stands_before_both_programs() {
    let Some(program) = program("TEST_APACHE", &["/usr/sbin/apache2"]) else { return };
    let site = Site::start(|folder, places| {
        let text = filled(
            "apache.conf",
            &[
                ("127.0.0.1:9000", &places.app),
                ("127.0.0.1:8080", &places.auth),
                ("<VirtualHost *:443>", &format!("<VirtualHost 127.0.0.1:{}>", places.port)),
                ("ServerName app.example.com", "ServerName localhost"),
                (LIVE[0], &places.certificate),
                (LIVE[1], &places.key),
            ],
        );
        let modules: String = ["mpm_event", "authz_core", "ssl", "headers", "proxy", "proxy_http"]
            .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
            .concat();
        let head = format!(
            "ServerRoot {0}\nDefaultRuntimeDir {0}\nPidFile {0}/apache.pid\nErrorLog /dev/stderr\n{modules}\
             Mutex file:{0}\nServerName localhost\nListen 127.0.0.1:{1}\n",
            places.folder, places.port
        );
        folder.write("apache.conf", &format!("{head}{text}"));
        let mut command = Command::new(&program);
        command.args(["-D", "FOREGROUND", "-f"]).arg(folder.path("apache.conf"));
        command
    })
    .await;
    check_standing_before(&site, &Skills { drops_underscores: false, ..ALL }).await;
    site.server.stop().await;
}

#[cfg(feature = "flask")]
#[tokio::test]
async fn nginx_keeps_the_paths_of_a_flask_application() {
    let Some(program) = program("TEST_NGINX", &["/usr/sbin/nginx"]) else { return };
    let settings = [
        ("COUNTERSIGN_PROFILE", "flask-jwt-extended"),
        ("JWT_SECRET_KEY", "a secret that is long enough for its hash, and known to both"),
    ];
    let site = Site::start_with(&settings, |folder, places| {
        nginx(&program, "nginx-flask-paths.conf", folder, places)
    })
    .await;
    let body = json!({ "email": "ada@example.org", "password": PASSWORD });
    let answer = site.visitor().post_json("/v1/auth/register", &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let pair = site.visitor().post_json("/login", &body).await;
    assert_eq!(pair.status, 200, "{pair:?} {}", site.log());
    let by =
        |token: &Value| site.visitor().with("authorization", &format!("Bearer {}", token.as_str().unwrap()));
    let renewed = by(&pair.body["refresh_token"]).send(Method::POST, "/refresh", None).await;
    assert_eq!(renewed.status, 200, "{renewed:?}");
    let access = &renewed.body["access_token"];
    assert_eq!(by(access).get("/v1/auth/me").await.status, 200);
    let answer = by(access).get("/report").await;
    assert!(
        answer.got("authorization").starts_with("Bearer "),
        "the application proves the token: {answer:?}"
    );
    assert_eq!(by(access).send(Method::POST, "/logout", None).await.status, 405);
    assert_eq!(by(access).send(Method::DELETE, "/logout", None).await.status, 204);
    assert_eq!(by(access).get("/v1/auth/me").await.status, 401);
    site.server.stop().await;
}

#[test]
fn the_page_shows_the_very_files_that_are_tested() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let page = std::fs::read_to_string(docs.join("proxies.md")).unwrap();
    let mut shown = 0;
    for entry in std::fs::read_dir(docs.join("proxies")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let file = documented(&name);
        let fence = |rest: &str| page.contains(&format!("```{rest}\n{file}```\n"));
        assert!(
            ["nginx", "caddy", "yaml", "haproxy", "apache"].into_iter().any(fence),
            "docs/proxies.md: {name}"
        );
        assert!(page.contains(&format!("(proxies/{name})")), "docs/proxies.md does not link {name}");
        assert!(name == "traefik-static.yaml" || file.contains("COUNTERSIGN_PUBLIC_URL="), "{name}");
        shown += 1;
    }
    assert_eq!(shown, 8);
}
