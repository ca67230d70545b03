//! Handlers that take tokens of other issuers.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test, as tests do")]

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use countersign_axum::RemoteToken;
use countersign_http::remote::{FetchError, FetchJwks, JwksUrl, RemoteIssuer, RemoteIssuers};
use countersign_jwt::{Algorithm, SigningKey, jws};
use countersign_testkit::{FixedClock, SeededRandom};
use http::{Request, StatusCode, header};
use tower::ServiceExt;

#[derive(Debug)]
struct Published(Option<String>);

#[async_trait]
impl FetchJwks for Published {
    async fn fetch(&self, _: &JwksUrl) -> Result<Bytes, FetchError> {
        self.0.clone().map(Bytes::from).ok_or(FetchError::Status(StatusCode::BAD_GATEWAY))
    }
}

fn key() -> SigningKey {
    SigningKey::generate(Algorithm::Es256, &SeededRandom::new(1)).unwrap()
}

fn token(audience: &str) -> String {
    let exp = FixedClock::START.as_secs() + 60;
    let claims = format!(r#"{{"iss":"https://id.example","sub":"jane","aud":"{audience}","exp":{exp}}}"#);
    jws::sign(&key(), "at+jwt", claims.as_bytes()).unwrap()
}

fn app(published: Published) -> Router {
    let issuer = RemoteIssuer::new("https://id.example", "https://id.example/keys").audience("api");
    let issuers =
        RemoteIssuers::with([issuer], Arc::new(published), Arc::new(FixedClock::default())).unwrap();
    bare().layer(Extension(issuers))
}

fn bare() -> Router {
    Router::new().route(
        "/",
        get(|token: RemoteToken| async move { format!("{} of {}", token.subject(), token.issuer()) }),
    )
}

/// Status, `WWW-Authenticate`, `Retry-After` and body.
async fn ask(app: Router, authorization: &[&str]) -> (u16, String, String, String) {
    let mut request = Request::get("/");
    for value in authorization {
        request = request.header(header::AUTHORIZATION, *value);
    }
    let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let field = |name| response.headers().get(&name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let (challenge, retry) = (field(header::WWW_AUTHENTICATE), field(header::RETRY_AFTER));
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 10_000).await.unwrap();
    (status, challenge, retry, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_handler_takes_a_token_of_another_issuer() {
    let set = || Published(Some(format!(r#"{{"keys":[{}]}}"#, key().verifying_key().to_jwk().unwrap())));
    let bearer = format!("Bearer {}", token("api"));
    let (status, _, _, body) = ask(app(set()), &[&bearer]).await;
    assert_eq!((status, body.as_str()), (200, "jane of https://id.example"));

    let for_another = format!("Bearer {}", token("other"));
    for (case, authorization, expected, code) in [
        ("no token", &[][..], 401, "missing_token"),
        ("another audience", &[for_another.as_str()], 401, "invalid_token"),
        ("no token at all", &["Bearer x"], 401, "invalid_token"),
        ("two fields", &[&bearer, &bearer], 400, "invalid_request"),
    ] {
        let (status, challenge, _, body) = ask(app(set()), authorization).await;
        assert_eq!(status, expected, "{case}");
        assert!(challenge.starts_with("Bearer"), "{case}: {challenge}");
        assert!(body.contains(code), "{case}: {body}");
    }
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_503_and_not_401() {
    let bearer = format!("Bearer {}", token("api"));
    let (status, challenge, retry, _) = ask(app(Published(None)), &[&bearer]).await;
    assert_eq!((status, challenge.as_str(), retry.as_str()), (503, "", "10"));
}

#[tokio::test]
async fn a_handler_without_issuers_is_a_defect_of_the_program() {
    let bearer = format!("Bearer {}", token("api"));
    assert_eq!(ask(bare(), &[&bearer]).await.0, 500);
}
