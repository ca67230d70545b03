//! Every kind of token at every endpoint: none passes as another (SEC-176).

use countersign_core::flow::Keychain;
use countersign_jwt::{SigningKey, TokenType, jws};
use countersign_testkit::{SeededRandom, TestBed};
use http::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::client::{ACCESS, REFRESH, Response, payload};

/// Where a token is presented, and which kind belongs there.
#[derive(Clone, Copy, Debug)]
enum Endpoint {
    /// An access token, by bearer.
    Bearer(&'static str, &'static str),
    /// An access token, in its cookie.
    Cookie(&'static str),
    RefreshByBody,
    RefreshByBearer,
    RefreshByCookie,
    /// The extractor of a refresh token.
    RefreshExtracted,
    LogoutByRefreshMember,
    LogoutByAccessMember,
    LogoutByBearer,
}

use Endpoint::*;

const ENDPOINTS: [Endpoint; 19] = [
    Bearer("GET", "/hello"),
    Bearer("POST", "/hello"),
    Bearer("GET", "/maybe"),
    Bearer("POST", "/fresh"),
    Bearer("GET", "/profile"),
    Bearer("GET", "/v1/auth/me"),
    Bearer("GET", "/v1/auth/sessions"),
    Bearer("DELETE", "/v1/auth/sessions"),
    Bearer("DELETE", "/v1/auth/sessions/00000000-0000-4000-8000-000000000000"),
    Bearer("DELETE", "/v1/auth/revoke-tokens"),
    Cookie("/hello"),
    Cookie("/v1/auth/me"),
    RefreshByBody,
    RefreshByBearer,
    RefreshByCookie,
    RefreshExtracted,
    LogoutByRefreshMember,
    LogoutByAccessMember,
    LogoutByBearer,
];

impl Endpoint {
    /// Logging out works with either kind: who holds one may end its session.
    fn takes(self, kind: TokenType) -> bool {
        match self {
            Bearer(..) | Cookie(_) => kind == TokenType::Access,
            RefreshByBody | RefreshByBearer | RefreshByCookie | RefreshExtracted => {
                kind == TokenType::Refresh
            }
            LogoutByRefreshMember | LogoutByAccessMember | LogoutByBearer => true,
        }
    }

    async fn present(self, app: &TestApp, token: &str) -> Response {
        let (refresh, logout) = ("/v1/auth/refresh", "/v1/auth/logout");
        let mut client = app.client();
        match self {
            Bearer(method, path) => {
                let mut client = client.bearer(token);
                let body = json!({ "tokens": ["00000000-0000-4000-8000-000000000000"] });
                client.send_json(Method::from_bytes(method.as_bytes()).unwrap(), path, &body).await
            }
            Cookie(path) => client.set_cookie(ACCESS, token).get(path).await,
            RefreshByBody => client.post(refresh, &json!({ "refresh_token": token })).await,
            RefreshByBearer => client.bearer(token).post_nothing(refresh).await,
            RefreshByCookie => app.browser().set_cookie(REFRESH, token).post_nothing(refresh).await,
            RefreshExtracted => client.bearer(token).get("/refresh-token").await,
            LogoutByRefreshMember => client.post(logout, &json!({ "refresh_token": token })).await,
            LogoutByAccessMember => client.post(logout, &json!({ "access_token": token })).await,
            LogoutByBearer => client.bearer(token).post_nothing(logout).await,
        }
    }
}

/// A token with this header and claim, signed with a key of the application's own.
fn forge(key: &SigningKey, typ: &str, kind: &Value, real: &str) -> String {
    let mut claims = payload(real);
    match kind {
        Value::Null => claims.as_object_mut().unwrap().remove("type"),
        kind => claims.as_object_mut().unwrap().insert("type".to_owned(), kind.clone()),
    };
    jws::sign(key, typ, claims.to_string().as_bytes()).unwrap()
}

#[tokio::test]
async fn sec_176_no_kind_of_token_passes_as_another_at_any_endpoint() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let stores = app.store.stores();
    let random = SeededRandom::default();
    let keys = Keychain::open(&**stores.keys(), &TestBed::secrets(), &*app.clock, &random).await.unwrap();
    let typs = ["at+jwt", "rt+jwt", "JWT", "id+jwt", "logout+jwt", "secevent+jwt", "reset", "csrf", ""];
    let kinds = [
        json!("access"),
        json!("refresh"),
        json!("reset"),
        json!("verify"),
        json!("id"),
        json!("logout"),
        json!("csrf"),
        json!("Access"),
        json!("access "),
        json!(["access"]),
        json!({ "access": true }),
        json!(true),
        Value::Null,
    ];
    let mut refused = 0;
    let mut good = Vec::new();
    for (key, of_key, real) in [
        (&keys.access.signing, TokenType::Access, &account.access_token),
        (&keys.refresh.signing, TokenType::Refresh, &account.refresh_token),
    ] {
        for typ in typs {
            for kind in &kinds {
                let token = forge(key, typ, kind, real);
                let genuine = (typ == of_key.header_typ() && *kind == of_key.as_str()).then_some(of_key);
                for endpoint in ENDPOINTS {
                    if genuine.is_some_and(|kind| endpoint.takes(kind)) {
                        good.push((endpoint, token.clone()));
                        continue;
                    }
                    let reply = endpoint.present(&app, &token).await;
                    let case = format!("{of_key} key, typ {typ:?}, type {kind}, {endpoint:?}");
                    assert_eq!(reply.outcome(), (401, "invalid_token".to_owned()), "{case}: {reply:?}");
                    assert!(reply.set_cookies().is_empty(), "{case}");
                    refused += 1;
                }
            }
        }
    }
    // All but the diagonal: 15 endpoints take an access token, 7 a refresh token.
    assert_eq!((refused, good.len()), (2 * 9 * 13 * 19 - 22, 22));

    // None of that ended or refreshed the session, and each genuine one does what it is for.
    for (endpoint, token) in good {
        let app = TestApp::new().await;
        // Seeded alike, it issues tokens with the same claims.
        let account = app.register("ada").await;
        assert!(
            [&account.access_token, &account.refresh_token]
                .into_iter()
                .any(|own| payload(own) == payload(&token))
        );
        let reply = endpoint.present(&app, &token).await;
        let expected = match endpoint {
            Bearer("DELETE", "/v1/auth/sessions") => 204,
            Bearer("DELETE", path) if path.starts_with("/v1/auth/sessions/") => 404,
            LogoutByRefreshMember | LogoutByAccessMember | LogoutByBearer => 204,
            // Its CSRF value is missing, which is found out only after the token was accepted.
            RefreshByCookie => 403,
            _ => 200,
        };
        assert_eq!(reply.status(), expected, "{endpoint:?}: {reply:?}");
    }
    app.refresh(&account.refresh_token).await.json()["access_token"].as_str().unwrap();
    assert_eq!(app.hello(&account.access_token).await, 200);
}
