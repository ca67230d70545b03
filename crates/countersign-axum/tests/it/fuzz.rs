//! Arbitrary requests are refused or answered, never a server error.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use countersign_core::flow::Presentation;
use countersign_core::model::{Device, EmailAddress, User};
use countersign_jwt::{Clock as _, Epoch, UserId};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use serde_json::{Map, Value};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::app::TestApp;

const ROUTES: [(&str, Method); 14] = [
    ("/v1/auth/register", Method::POST),
    ("/v1/auth/login", Method::POST),
    ("/v1/auth/refresh", Method::POST),
    ("/v1/auth/me", Method::GET),
    ("/v1/auth/sessions", Method::GET),
    ("/v1/auth/sessions", Method::DELETE),
    ("/v1/auth/sessions/x", Method::DELETE),
    ("/v1/auth/revoke-tokens", Method::DELETE),
    ("/hello", Method::POST),
    ("/maybe", Method::GET),
    ("/fresh", Method::POST),
    ("/refresh-token", Method::GET),
    ("/profile", Method::GET),
    // Last, because it ends the session of the others.
    ("/v1/auth/logout", Method::POST),
];

/// One application for all cases.
static SHARED: LazyLock<(Runtime, TestApp)> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let app = runtime.block_on(TestApp::new());
    (runtime, app)
});

/// An access token of a new user, who is nobody else's business: cases run side by side.
async fn access_token(app: &TestApp) -> String {
    static USERS: AtomicU64 = AtomicU64::new(1);
    let number = USERS.fetch_add(1, Ordering::Relaxed);
    let user = User {
        email: Some(EmailAddress::parse(&format!("n{number}@fuzz.example")).unwrap()),
        ..User::new(UserId::from(Uuid::from_u128(number.into())), app.clock.now())
    };
    app.store.inner().users().insert_user(&user).await.unwrap();
    let sessions = app.auth.sessions();
    let begun = sessions.begin(user.id, Epoch::FIRST, Presentation::Explicit, Device::default()).await;
    begun.unwrap().access_token
}

/// Headers that are looked at, with bytes that they may hold.
fn headers() -> impl Strategy<Value = HeaderMap> {
    let name = prop::sample::select(vec![
        "authorization",
        "cookie",
        "content-type",
        "x-csrf-token",
        "origin",
        "referer",
        "sec-fetch-site",
        "host",
        "user-agent",
        "x-forwarded-for",
        "accept",
    ]);
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        "(?i:bearer|basic) [ -~]{0,40}".prop_map(String::into_bytes),
        "__Host-countersign_(access|refresh|csrf)=[ -~]{0,40}(; __Host-countersign_(access|refresh)=[!-~]{0,20})?"
            .prop_map(String::into_bytes),
        "application/json|text/plain|same-origin|cross-site|null|https://app.example.com".prop_map(String::into_bytes),
    ];
    prop::collection::vec((name, value), 0..6).prop_map(|fields| {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(HeaderName::from_static(name), value);
            }
        }
        headers
    })
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-z\\x00@.]{0,12}".prop_map(Value::from),
        "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Value::from))
}

/// Objects whose members are mostly those that the routes read.
fn members() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        6 => prop::sample::select(vec![
            "email", "username", "email_or_username", "password", "cookies", "refresh_token", "access_token", "tokens",
        ])
        .prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    prop::collection::vec((name, json()), 0..5)
        .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>()))
}

/// The worst status of all routes.
fn worst(headers: &HeaderMap, body: &[u8], signed_in: bool) -> (u16, String) {
    let (runtime, app) = &*SHARED;
    runtime.block_on(async {
        let mut worst = (0, String::new());
        let token = access_token(app).await;
        for (path, method) in ROUTES {
            let mut client = app.client();
            if signed_in {
                client = client.bearer(&token);
            }
            for (name, value) in headers {
                client = client.with_bytes(name, value);
            }
            let reply = client.send(method.clone(), path, Body::from(body.to_vec())).await;
            worst = worst.max((reply.status(), format!("{method} {path}")));
        }
        worst
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn sec_136_arbitrary_bytes_are_never_a_server_error(
        headers in headers(), body in prop::collection::vec(any::<u8>(), 0..200), signed_in: bool,
    ) {
        let (status, route) = worst(&headers, &body, signed_in);
        prop_assert!(status < 500, "{} {}", status, route);
    }

    #[test]
    fn sec_136_arbitrary_members_are_never_a_server_error(body in members(), signed_in: bool) {
        let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let (status, route) = worst(&headers, body.to_string().as_bytes(), signed_in);
        prop_assert!(status < 500, "{} {}", status, route);
    }

    #[test]
    fn arbitrary_paths_are_never_a_server_error(path in "/v1/auth/(sessions/)?[!-~&&[^#?]]{0,40}") {
        let (runtime, app) = &*SHARED;
        if path.parse::<http::Uri>().is_ok() {
            let token = runtime.block_on(access_token(app));
            for method in [Method::GET, Method::POST, Method::DELETE] {
                let mut client = app.client().bearer(&token);
                let reply = runtime.block_on(client.send(method, &path, Body::empty()));
                prop_assert!(reply.status() < 500);
                prop_assert!(reply.status() < 400 || !reply.code().is_empty(), "an error without a code");
            }
        }
    }
}
