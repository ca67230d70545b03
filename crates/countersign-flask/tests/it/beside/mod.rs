//! The ready-made routes under another library's rules, beside a Flask application with the same secret.

mod adoption;
mod cookies;
mod flask_jwt;
mod flask_jwt_extended;
mod lifetimes;

use std::time::Duration;

use countersign_axum::AuthBuilder;
use countersign_flask::axum::login_routes;
use countersign_flask::flask_jwt::{FlaskJwtConfig, Identity};
use countersign_flask::flask_jwt_extended::{FlaskJwtExtendedConfig, NewAccess, NewRefresh};
use countersign_flask::tokens::{KeySource, NewToken};
use countersign_flask::{FlaskJwt, FlaskJwtExtended};
use countersign_jwt::Algorithm;
use countersign_jwt::claims::decode_unverified;
use http::Method;
use serde_json::{Map, Value, json};

use crate::app::TestApp;
use crate::client::{Client, Response};

/// Whoever writes it to the log fails the test.
pub(crate) const SECRET: &str = "canary-secret-Vq8Zt7_Wm4Kc9Ru6Jd3Fs0Hv2Lp5Go8Xn1Yb";

const DAY: u64 = 86_400;

/// The options, with the secret and whatever a test adds.
fn options(more: &Value) -> Map<String, Value> {
    let mut options = json!({ "JWT_SECRET_KEY": SECRET }).as_object().cloned().unwrap();
    options.extend(more.as_object().cloned().unwrap());
    options
}

pub(crate) fn extended(more: &Value) -> FlaskJwtExtendedConfig {
    FlaskJwtExtendedConfig::from_options(options(more)).unwrap()
}

pub(crate) fn plain(more: &Value) -> FlaskJwtConfig {
    FlaskJwtConfig::from_options(options(more)).unwrap()
}

/// The server by Flask-JWT-Extended's rules, and a Flask application with the same options beside it.
struct Beside {
    app: TestApp,
    flask: FlaskJwtExtended,
}

impl Beside {
    async fn new() -> Self {
        Self::with(json!({})).await
    }

    async fn with(options: Value) -> Self {
        let app = TestApp::with(|auth| auth.rules(FlaskJwtExtended::builder(extended(&options)))).await;
        let flask = FlaskJwtExtended::builder(extended(&options)).clock(app.clock.clone()).build().unwrap();
        Self { app, flask }
    }

    async fn access(&self, identity: impl Into<Value>) -> String {
        self.flask.create_access_token(identity, NewAccess::new()).await.unwrap()
    }

    async fn refresh(&self, identity: impl Into<Value>) -> String {
        self.flask.create_refresh_token(identity, NewRefresh::default()).await.unwrap()
    }

    fn bearer(&self, token: &str) -> Client {
        self.app.client().bearer(token)
    }

    async fn me(&self, token: &str) -> Response {
        self.bearer(token).get("/v1/auth/me").await
    }
}

/// The server by Flask-JWT's rules, and a Flask application beside it.
struct BesidePlain {
    app: TestApp,
    flask: FlaskJwt,
}

impl BesidePlain {
    async fn new() -> Self {
        Self::with(json!({})).await
    }

    async fn with(options: Value) -> Self {
        Self::built(options, |auth| auth).await
    }

    async fn built(options: Value, more: impl FnOnce(AuthBuilder) -> AuthBuilder) -> Self {
        let app = TestApp::with(|auth| more(auth.rules(FlaskJwt::builder(plain(&options))))).await;
        let login = login_routes(&app.auth);
        let app = app.with_routes(login);
        let flask = FlaskJwt::builder(plain(&options))
            .authenticate(|_, _| async { Ok::<_, std::io::Error>(None) })
            .clock(app.clock.clone())
            .build()
            .unwrap();
        Self { app, flask }
    }

    async fn token(&self, identity: impl Into<Value>) -> String {
        self.flask.create_token(&Identity::new(identity, ())).await.unwrap()
    }

    fn bearer(&self, token: &str) -> Client {
        self.app.client().with("authorization", &format!("JWT {token}"))
    }

    async fn me(&self, token: &str) -> Response {
        self.bearer(token).get("/v1/auth/me").await
    }
}

/// A token with exactly these claims, signed with the shared secret.
fn signed(claims: &Value) -> String {
    let key = KeySource::new(SECRET).signing(Algorithm::Hs256).unwrap();
    NewToken::new(claims.as_object().cloned().unwrap()).sign(&key, "HS256").unwrap()
}

/// The token again, with other claims.
fn changed(token: &str, change: impl FnOnce(&mut Map<String, Value>)) -> String {
    let mut claims = decode_unverified(token).unwrap().claims().clone();
    change(&mut claims);
    signed(&Value::Object(claims))
}

fn header(token: &str) -> Value {
    Value::Object(decode_unverified(token).unwrap().header().clone())
}

fn names(claims: &Value) -> Vec<&str> {
    let mut names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// The routes that want an access token.
const PROTECTED: [(Method, &str); 8] = [
    (Method::GET, "/hello"),
    (Method::POST, "/hello"),
    (Method::GET, "/v1/auth/me"),
    (Method::GET, "/v1/auth/verify"),
    (Method::GET, "/v1/auth/sessions"),
    (Method::DELETE, "/v1/auth/sessions"),
    (Method::DELETE, "/v1/auth/sessions/00000000-0000-4000-8000-000000000000"),
    (Method::DELETE, "/v1/auth/revoke-tokens"),
];

/// What a Flask application's client sees of an answer.
#[track_caller]
fn assert_says(case: &str, reply: &Response, status: u16, message: &str) {
    assert_eq!((reply.status(), reply.json()), (status, json!({ "msg": message })), "{case}");
    assert_eq!(reply.header("content-type"), Some("application/json"), "{case}");
    assert_eq!(reply.header("www-authenticate"), None, "{case}");
    assert!(reply.set_cookies().is_empty(), "{case}");
}

fn seconds(app: &TestApp) -> i64 {
    use countersign_jwt::Clock as _;
    app.clock.now().as_secs()
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// Key pairs of a Flask application: algorithm, private and public key.
fn key_pairs() -> Vec<(String, String, String)> {
    let recordings = [
        include_str!("../../../parity/fje/alg_rs256.json"),
        include_str!("../../../parity/fje/alg_es256.json"),
    ];
    let pairs = recordings.map(|recording| {
        let recording: Value = serde_json::from_str(recording).unwrap();
        let text = |name: &str| recording["config"][name].as_str().unwrap().to_owned();
        (text("JWT_ALGORITHM"), text("JWT_PRIVATE_KEY"), text("JWT_PUBLIC_KEY"))
    });
    pairs.into()
}

/// The public key of another RSA pair.
fn other_rsa_key() -> String {
    let recording = include_str!("../../../parity/fje/alg_rs256_pkcs1_key.json");
    let recording: Value = serde_json::from_str(recording).unwrap();
    recording["config"]["JWT_PUBLIC_KEY"].as_str().unwrap().to_owned()
}
