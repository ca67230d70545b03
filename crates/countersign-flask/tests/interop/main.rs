//! The real Flask-JWT-Extended and this library, side by side with one configuration: each accepts what the other
//! makes.
//!
//! Needs a Python that can import `flask_jwt_extended`: the one that the environment variable `TEST_FLASK_PYTHON`
//! names, else `python3`. Without one these tests do nothing but say so; `./test` makes one where it can.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stderr, reason = "tests")]

use std::collections::HashSet;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::Path;
use axum::routing::{get, post};
use axum::{Json, Router};
use countersign_axum::{AuthLayer, Guard, Requirement};
use countersign_flask::FlaskJwtExtended;
use countersign_flask::axum::FlaskAuth;
use countersign_flask::flask_jwt_extended::{CookieArguments, FlaskJwtExtendedConfig, NewAccess, NewRefresh};
use http::header::SET_COOKIE;
use rstest::rstest;
use serde_json::{Map, Value, json};
use tower::ServiceExt as _;

const SECRET: &str = "Kq7-interop-Zt3Wm9Xv2Ls8Rb4Ny6Hd1Jc0Gm7Tq3Ae5Uo9Zi2Wx4Bk8Vn6Cr1D-x5";

/// What a login gives, in JSON and in cookies.
struct SignedIn {
    access: String,
    refresh: String,
    /// Names and values, as a browser sends them back.
    cookies: Vec<(String, String)>,
}

/// An answer: status and JSON body.
type Answer = (u16, Value);

/// A service with `/me`, `/refresh` and `/login`, whatever it is written in.
trait Service {
    async fn login(&mut self, identity: &str) -> SignedIn;
    async fn request(&mut self, method: &str, path: &str, headers: &[(&str, String)]) -> Answer;
    async fn revoke(&mut self, jti: &str);
}

#[rstest]
#[case::hs256(json!({"JWT_SECRET_KEY": SECRET}), None)]
#[case::hs512(json!({"JWT_SECRET_KEY": SECRET, "JWT_ALGORITHM": "HS512", "JWT_IDENTITY_CLAIM": "uid"}), None)]
#[case::parties(json!({
    "JWT_SECRET_KEY": SECRET, "JWT_ENCODE_ISSUER": "us", "JWT_DECODE_ISSUER": "us", "JWT_ENCODE_AUDIENCE": ["a", "b"],
    "JWT_DECODE_AUDIENCE": "b", "JWT_ENCODE_NBF": false, "JWT_ERROR_MESSAGE_KEY": "error",
}), None)]
#[case::cookies(json!({
    "JWT_SECRET_KEY": SECRET, "JWT_ACCESS_COOKIE_NAME": "at", "JWT_REFRESH_COOKIE_NAME": "rt",
    "JWT_SESSION_COOKIE": false, "JWT_COOKIE_SAMESITE": "Strict", "JWT_ACCESS_CSRF_HEADER_NAME": "X-Proof",
}), None)]
#[case::rs256(json!({"JWT_ALGORITHM": "RS256"}), Some("RS256"))]
#[case::es256(json!({"JWT_ALGORITHM": "ES256"}), Some("ES256"))]
#[case::eddsa(json!({"JWT_ALGORITHM": "EdDSA"}), Some("EdDSA"))]
#[tokio::test]
async fn each_accepts_tokens_and_cookies_of_the_other(
    #[case] mut config: Value,
    #[case] generate: Option<&'static str>,
) {
    config["JWT_TOKEN_LOCATION"] = json!(["headers", "cookies"]);
    let Some((mut flask, keys)) = Flask::start(&config, generate) else { return };
    config.as_object_mut().unwrap().extend(keys);
    let mut ours = Ours::new(&config);
    exchange(&mut flask, &mut ours, &config).await;
    exchange(&mut ours, &mut flask, &config).await;
}

/// What one issues, the other accepts, until it is revoked there.
async fn exchange(issuer: &mut impl Service, other: &mut impl Service, config: &Value) {
    let signed_in = issuer.login("alice").await;
    let bearer = |token: &str| [("Authorization", format!("Bearer {token}"))];

    let (status, me) = other.request("GET", "/me", &bearer(&signed_in.access)).await;
    assert_eq!(status, 200, "{me}");
    assert_eq!((&me["identity"], &me["location"]), (&json!("alice"), &json!("headers")));
    assert_eq!((&me["claims"]["team"], &me["claims"]["fresh"]), (&json!(7), &json!(true)));

    let (status, refused) = other.request("POST", "/refresh", &bearer(&signed_in.access)).await;
    let key = config["JWT_ERROR_MESSAGE_KEY"].as_str().unwrap_or("msg");
    assert_eq!((status, &refused[key]), (422, &json!("Only refresh tokens are allowed")));
    let (status, renewed) = other.request("POST", "/refresh", &bearer(&signed_in.refresh)).await;
    assert_eq!(status, 200, "{renewed}");
    let renewed = renewed["access_token"].as_str().unwrap();
    assert_eq!(issuer.request("GET", "/me", &bearer(renewed)).await.0, 200);

    let pairs: Vec<_> = signed_in.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let cookie = ("Cookie", pairs.join("; "));
    let (status, me) = other.request("GET", "/me", std::slice::from_ref(&cookie)).await;
    assert_eq!((status, &me["location"]), (200, &json!("cookies")));
    let (status, refused) = other.request("POST", "/me", std::slice::from_ref(&cookie)).await;
    assert_eq!((status, &refused[key]), (401, &json!("Missing CSRF token")));
    let (_, csrf) = signed_in.cookies.iter().find(|(name, _)| name == "csrf_access_token").unwrap();
    let header = config["JWT_ACCESS_CSRF_HEADER_NAME"].as_str().unwrap_or("X-CSRF-TOKEN");
    assert_eq!(other.request("POST", "/me", &[cookie, (header, csrf.clone())]).await.0, 200);

    let mut changed = signed_in.access.clone();
    let last = changed.pop().unwrap();
    // The first character of the signature's last four carries bits that count, whatever its length.
    let at = changed.len() - 5;
    let other_character = if changed.as_bytes()[at] == b'A' { "B" } else { "A" };
    changed.replace_range(at..=at, other_character);
    changed.push(last);
    let (status, refused) = other.request("GET", "/me", &bearer(&changed)).await;
    assert_eq!((status, &refused[key]), (422, &json!("Signature verification failed")));

    other.revoke(me["claims"]["jti"].as_str().unwrap()).await;
    let (status, refused) = other.request("GET", "/me", &bearer(&signed_in.access)).await;
    assert_eq!((status, &refused[key]), (401, &json!("Token has been revoked")));
}

/// The Flask application, in a process of its own.
struct Flask {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Flask {
    /// Starts it, with its new keys if it makes any; `None` where there is no Python for it.
    fn start(config: &Value, generate: Option<&str>) -> Option<(Self, Map<String, Value>)> {
        let python = python(generate.is_some())?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/flask_app.py");
        let mut process = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let to = process.stdin.take().unwrap();
        let from = BufReader::new(process.stdout.take().unwrap());
        let mut flask = Self { process, to, from };
        let keys = flask.say(&json!({"config": config, "generate": generate}));
        Some((flask, keys.as_object().unwrap().clone()))
    }

    fn say(&mut self, command: &Value) -> Value {
        writeln!(self.to, "{command}").unwrap();
        let mut answer = String::new();
        self.from.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).expect("the Flask application answers")
    }
}

impl Drop for Flask {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// A Python that has what is needed. One that `TEST_FLASK_PYTHON` names must.
fn python(with_cryptography: bool) -> Option<String> {
    let named = std::env::var("TEST_FLASK_PYTHON").ok();
    let python = named.clone().unwrap_or_else(|| "python3".to_owned());
    let modules = if with_cryptography { "flask_jwt_extended, cryptography" } else { "flask_jwt_extended" };
    let tried = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
    if tried.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    assert!(named.is_none(), "TEST_FLASK_PYTHON names {python}, which cannot import {modules}");
    eprintln!(
        "LEFT OUT: interoperation with Flask-JWT-Extended: {python} cannot import {modules}. Set TEST_FLASK_PYTHON to \
         a Python with `pip install flask-jwt-extended cryptography`."
    );
    None
}

impl Service for Flask {
    async fn login(&mut self, identity: &str) -> SignedIn {
        let answer = self.say(&json!({"method": "POST", "path": format!("/login/{identity}")}));
        let lines = answer["set_cookies"].as_array().unwrap().iter();
        signed_in(&answer["json"], lines.map(|line| line.as_str().unwrap()))
    }

    async fn request(&mut self, method: &str, path: &str, headers: &[(&str, String)]) -> Answer {
        let answer = self.say(&json!({"method": method, "path": path, "headers": headers}));
        (answer["status"].as_u64().unwrap().try_into().unwrap(), answer["json"].clone())
    }

    async fn revoke(&mut self, jti: &str) {
        self.say(&json!({"revoke": jti}));
    }
}

fn signed_in<'a>(json: &Value, set_cookies: impl Iterator<Item = &'a str>) -> SignedIn {
    let pair = |line: &str| {
        let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    };
    SignedIn {
        access: json["access_token"].as_str().unwrap().to_owned(),
        refresh: json["refresh_token"].as_str().unwrap().to_owned(),
        cookies: set_cookies.map(pair).collect(),
    }
}

/// The same application in axum.
struct Ours {
    router: Router,
    revoked: Arc<Mutex<HashSet<String>>>,
}

impl Ours {
    fn new(config: &Value) -> Self {
        let config = FlaskJwtExtendedConfig::from_options(config.as_object().unwrap().clone()).unwrap();
        let revoked: Arc<Mutex<HashSet<String>>> = Arc::default();
        let blocklist = revoked.clone();
        let jwt = FlaskJwtExtended::builder(config)
            .is_revoked(move |token| {
                let jti = token.claims()["jti"].as_str().unwrap_or_default();
                let is_revoked = blocklist.lock().unwrap().contains(jti);
                async move { Ok::<_, Infallible>(is_revoked) }
            })
            .build()
            .unwrap();
        let refreshing = jwt.clone();
        let refresh = async move |auth: FlaskAuth| {
            let token = refreshing.create_access_token(auth.identity.clone(), NewAccess::new()).await;
            Json(json!({"access_token": token.unwrap()}))
        };
        let logins = jwt.clone();
        let login = async move |Path(identity): Path<String>| {
            let team = json!({"team": 7}).as_object().unwrap().clone();
            let access =
                logins.create_access_token(identity.clone(), NewAccess::fresh().claims(team)).await.unwrap();
            let refresh = logins.create_refresh_token(identity, NewRefresh::new()).await.unwrap();
            let arguments = CookieArguments::default();
            let mut fields = logins.set_access_cookies(&access, &arguments).await.unwrap();
            fields.extend(logins.set_refresh_cookies(&refresh, &arguments).await.unwrap());
            let mut response = http::Response::new(Body::from(
                json!({"access_token": access, "refresh_token": refresh}).to_string(),
            ));
            response.headers_mut().extend(fields.into_iter().map(|field| (SET_COOKIE, field)));
            response
        };
        let router = Router::new()
            .route("/refresh", post(refresh).route_layer(Guard::new(Requirement::REFRESH)))
            .route("/me", get(me).post(me))
            .route("/login/{identity}", post(login))
            .layer(AuthLayer::new(Arc::new(jwt)));
        Self { router, revoked }
    }

    async fn send(&self, request: http::Request<Body>) -> (http::response::Parts, Value) {
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (parts, serde_json::from_slice(&body).unwrap_or_default())
    }
}

async fn me(auth: FlaskAuth) -> Json<Value> {
    let location = if auth.location == countersign_http::Location::Cookie { "cookies" } else { "headers" };
    Json(json!({"identity": auth.identity, "claims": auth.claims, "location": location}))
}

impl Service for Ours {
    async fn login(&mut self, identity: &str) -> SignedIn {
        let request = http::Request::post(format!("/login/{identity}")).body(Body::empty()).unwrap();
        let (parts, json) = self.send(request).await;
        let lines: Vec<_> =
            parts.headers.get_all(SET_COOKIE).iter().map(|line| line.to_str().unwrap()).collect();
        signed_in(&json, lines.into_iter())
    }

    async fn request(&mut self, method: &str, path: &str, headers: &[(&str, String)]) -> Answer {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let (parts, json) = self.send(request.body(Body::empty()).unwrap()).await;
        (parts.status.as_u16(), json)
    }

    async fn revoke(&mut self, jti: &str) {
        self.revoked.lock().unwrap().insert(jti.to_owned());
    }
}
