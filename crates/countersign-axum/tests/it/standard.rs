//! The endpoints of tokens: introspection (RFC 7662), revocation (RFC 7009) and metadata (RFC 8414).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_axum::standard_routes;
use countersign_core::model::{AdminKey, AdminKeyText, AdminScope, ClientSecret, Event};
use countersign_jwt::{Clock as _, NewClaims, SigningKey, Timestamp, TokenId, TokenType, UserId};
use http::{HeaderName, Method};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};
use uuid::Uuid;

use crate::app::{OWN, TestApp};
use crate::client::{Response, payload};

const INTROSPECT: &str = "/v1/auth/introspect";
const REVOKE: &str = "/v1/auth/revoke";
const METADATA: &str = "/.well-known/oauth-authorization-server";
const FORM: &str = "application/x-www-form-urlencoded";
const INACTIVE: &[u8] = b"{\"active\":false}";

/// A client's id and secret.
#[derive(Clone, Debug)]
struct Credentials {
    id: String,
    secret: String,
}

async fn app() -> TestApp {
    TestApp::new().await.with_routes(standard_routes())
}

/// A client of the application that may do this.
async fn client(
    app: &TestApp,
    number: u128,
    scopes: &[AdminScope],
    expires_at: Option<Timestamp>,
) -> Credentials {
    let secret =
        ClientSecret::new(&countersign_testkit::SeededRandom::new(u64::try_from(number).unwrap())).unwrap();
    let id = Uuid::from_u128(number);
    let record = AdminKey {
        id,
        name: format!("client {number}"),
        digest: secret.digest(),
        scopes: scopes.to_vec(),
        created_at: app.clock.now(),
        expires_at,
    };
    assert!(app.store.inner().admin_keys().insert_admin_key(&record).await.unwrap());
    Credentials { id: id.to_string(), secret: secret.expose().to_owned() }
}

impl Credentials {
    fn basic(&self) -> String {
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(&self.id), encoded(&self.secret))))
    }

    async fn post(&self, app: &TestApp, path: &str, parameters: &[(&str, &str)]) -> Response {
        post(app, path, Some(&self.basic()), parameters).await
    }

    /// What introspection says about a token.
    async fn ask(&self, app: &TestApp, token: &str) -> Response {
        let reply = self.post(app, INTROSPECT, &[("token", token)]).await;
        assert_eq!(reply.status(), 200, "{reply:?}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(reply.header("content-type"), Some("application/json"));
        reply
    }

    async fn is_active(&self, app: &TestApp, token: &str) -> bool {
        self.ask(app, token).await.json()["active"] == true
    }
}

async fn post(
    app: &TestApp,
    path: &str,
    authorization: Option<&str>,
    parameters: &[(&str, &str)],
) -> Response {
    let mut client = app.client();
    if let Some(authorization) = authorization {
        client = client.with("authorization", authorization);
    }
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(parameters);
    client.send_bytes(Method::POST, path, Some(FORM), form.finish().into_bytes()).await
}

#[tokio::test]
async fn sec_106_introspection_tells_what_a_good_token_says_and_writes_nothing() {
    let app = app().await;
    let api = client(&app, 1, &[AdminScope::TokensIntrospect], None).await;
    let ada = app.register("ada").await;
    app.store.reset_calls();

    for hint in [None, Some("access_token"), Some("refresh_token"), Some("unknown")] {
        let hint = hint.map(|hint| ("token_type_hint", hint));
        let parameters: Vec<_> =
            [("token", &*ada.access_token), ("ignored", "1")].into_iter().chain(hint).collect();
        let said = api.post(&app, INTROSPECT, &parameters).await.json();
        let claims = payload(&ada.access_token);
        let expected = json!({
            "active": true, "token_type": "Bearer", "iss": OWN, "sub": ada.user_id.as_str(), "sid": claims["sid"],
            "jti": claims["jti"], "iat": claims["iat"], "exp": claims["exp"],
        });
        assert_eq!(said, expected, "{hint:?}");
        // A refresh token has no type of use (RFC 6749 §7.1 knows those of access tokens).
        let parameters: Vec<_> = std::iter::once(("token", &*ada.refresh_token)).chain(hint).collect();
        let said = api.post(&app, INTROSPECT, &parameters).await.json();
        assert_eq!((&said["active"], &said["sub"]), (&json!(true), &json!(ada.user_id.as_str())), "{hint:?}");
        assert!(said.get("token_type").is_none() && said.get("csrf").is_none(), "{said}");
    }
    // What was called reads, and the refresh token is as good as before.
    let reads = ["admin_key", "session", "user"].map(|method| app.store.calls(method));
    assert_eq!(reads.iter().sum::<u64>(), app.store.total_calls(), "{:?}", app.store);
    app.auth.sessions().verification().flush_acknowledgements().await.unwrap();
    assert_eq!(app.store.calls("acknowledge"), 0, "asking about a token is not using it");
    app.wait(60);
    let next = app.refresh(&ada.refresh_token).await;
    assert_eq!(next.status(), 200);
    assert_eq!(payload(next.json()["refresh_token"].as_str().unwrap())["gen"], 1, "nothing had advanced it");
}

#[tokio::test]
async fn sec_106_whatever_is_wrong_with_a_token_the_answer_is_the_same() {
    let app = app().await;
    let api = client(&app, 1, &[AdminScope::TokensIntrospect], None).await;
    let stranger = TestApp::with(|auth| {
        auth.public_url(Url::parse("https://elsewhere.example.com").unwrap())
            .random(std::sync::Arc::new(countersign_testkit::SeededRandom::new(99)))
    })
    .await;
    let foreign = stranger.register("eve").await;
    let [ended, disabled, old, live] = [
        app.register("ada").await,
        app.register("bob").await,
        app.register("cy").await,
        app.register("di").await,
    ];
    app.client().post("/v1/auth/logout", &json!({ "refresh_token": ended.refresh_token })).await;
    app.auth.accounts().disable(&disabled.user_id).await.unwrap();
    // Two generations on, the first refresh token is a replay; asking about it ends nothing.
    app.wait(60);
    let next = crate::app::Account::of(&app.refresh(&old.refresh_token).await);
    app.wait(60);
    let last = crate::app::Account::of(&app.refresh(&next.refresh_token).await);
    app.wait(60);

    let expected = api.ask(&app, "garbage").await;
    assert_eq!(&expected.body[..], INACTIVE);
    let tampered = format!("{}A", live.access_token);
    for (case, token) in [
        ("ended session", &ended.access_token),
        ("ended session's refresh token", &ended.refresh_token),
        ("disabled user", &disabled.access_token),
        ("disabled user's refresh token", &disabled.refresh_token),
        ("another server's", &foreign.access_token),
        ("another server's refresh token", &foreign.refresh_token),
        ("superseded refresh token", &old.refresh_token),
        ("tampered", &tampered),
        ("longer than any token", &"a".repeat(20_000)),
    ] {
        let said = api.ask(&app, token).await;
        assert_eq!((&said.headers, &said.body), (&expected.headers, &expected.body), "{case}");
    }
    assert!(api.is_active(&app, &last.refresh_token).await, "asking about a replay ended nothing");
    assert!(api.is_active(&app, &live.access_token).await);
    app.wait(1_000);
    let said = api.ask(&app, &live.access_token).await;
    assert_eq!(&said.body[..], INACTIVE, "it has expired");
}

#[tokio::test]
async fn sec_106_sec_108_who_is_no_client_learns_nothing() {
    let app = app().await;
    let ada = app.register("ada").await;
    let token = [("token", ada.access_token.as_str())];
    let challenge = |reply: &Response| reply.header("www-authenticate").map(str::to_owned);

    // Nobody is a client until one is added.
    for path in [INTROSPECT, REVOKE] {
        let reply = post(&app, path, None, &token).await;
        assert_eq!(reply.outcome(), (401, "invalid_client".to_owned()));
        assert!(challenge(&reply).unwrap().starts_with("Basic realm="), "{reply:?}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }
    let both = [AdminScope::TokensIntrospect, AdminScope::TokensRevoke];
    let api = client(&app, 1, &both, None).await;
    let asks = client(&app, 2, &[AdminScope::TokensIntrospect], None).await;
    let revokes = client(&app, 3, &[AdminScope::TokensRevoke], None).await;
    let expired = client(&app, 4, &both, Some(app.clock.now())).await;
    let admin = AdminKeyText::new(Uuid::from_u128(5), &countersign_testkit::SeededRandom::new(5)).unwrap();
    let admin_key = AdminKey {
        id: admin.id(),
        name: "operator".to_owned(),
        digest: admin.digest(),
        scopes: AdminScope::OF_OPERATORS.to_vec(),
        created_at: app.clock.now(),
        expires_at: None,
    };
    app.store.inner().admin_keys().insert_admin_key(&admin_key).await.unwrap();
    let text = admin.expose();
    let admin_secret = format!("csc_{}", text.rsplit_once('_').map_or("", |(_, secret)| secret));
    let with = |id: &str, secret: &str| Credentials { id: id.to_owned(), secret: secret.to_owned() };
    app.store.reset_calls();
    let cases = [
        ("wrong secret", with(&api.id, &asks.secret)),
        ("unknown id", with(&Uuid::from_u128(9).to_string(), &api.secret)),
        ("expired", expired),
        ("an operator's key", with(&admin.id().to_string(), &text)),
        ("an operator's key in a client's form", with(&admin.id().to_string(), &admin_secret)),
        ("its secret is no secret", with(&api.id, "")),
        ("its id in capitals", with(&Uuid::from_u128(0xA).to_string().to_uppercase(), &api.secret)),
    ];
    for (case, credentials) in &cases {
        for path in [INTROSPECT, REVOKE] {
            let reply = credentials.post(&app, path, &token).await;
            assert_eq!(reply.outcome(), (401, "invalid_client".to_owned()), "{case}");
            let form = [token[0], ("client_id", &*credentials.id), ("client_secret", &*credentials.secret)];
            let reply = post(&app, path, None, &form).await;
            assert_eq!(reply.outcome(), (401, "invalid_client".to_owned()), "{case}, in the form");
        }
    }
    assert!(app.store.calls("admin_key") <= 4 * cases.len() as u64 && app.store.calls("session") == 0);
    let bearer = post(&app, INTROSPECT, Some(&format!("Bearer {}", ada.access_token)), &token).await;
    assert_eq!(bearer.outcome(), (401, "invalid_client".to_owned()), "a user's token is no client");

    for (credentials, path, status) in
        [(&asks, INTROSPECT, 200), (&asks, REVOKE, 400), (&revokes, INTROSPECT, 400), (&api, INTROSPECT, 200)]
    {
        let reply = credentials.post(&app, path, &token).await;
        let code = if status == 200 { "" } else { "unauthorized_client" };
        assert_eq!(reply.outcome(), (status, code.to_owned()), "{path}");
    }
    let form = [token[0], ("client_id", &*api.id), ("client_secret", &*api.secret)];
    assert_eq!(post(&app, INTROSPECT, None, &form).await.json()["active"], true, "client_secret_post");
    let twice = post(&app, INTROSPECT, Some(&api.basic()), &form).await;
    assert_eq!(twice.outcome(), (400, "invalid_request".to_owned()), "two ways at once");
    for body in ["", "token=", "token=a&token=b"] {
        let mut client = app.client().with("authorization", &api.basic());
        let reply = client.send_bytes(Method::POST, INTROSPECT, Some(FORM), body.into()).await;
        assert_eq!(reply.outcome(), (400, "invalid_request".to_owned()), "{body:?}");
    }
    let mut json = app.client().with("authorization", &api.basic());
    let reply = json.post(INTROSPECT, &json!({ "token": ada.access_token })).await;
    assert_eq!(reply.outcome(), (400, "invalid_request".to_owned()), "JSON is no form");
    let mut large = app.client().with("authorization", &api.basic());
    let reply = large.send_bytes(Method::POST, REVOKE, Some(FORM), vec![b'a'; 65 * 1024]).await;
    assert_eq!(reply.outcome(), (413, "too_large".to_owned()));
    let mut get = app.client().with("authorization", &api.basic());
    assert_eq!(get.get(INTROSPECT).await.outcome(), (405, "method_not_allowed".to_owned()));
    assert_eq!(app.hello(&ada.access_token).await, 200, "nothing was revoked");
}

#[tokio::test]
async fn sec_105_revoking_a_token_of_either_kind_ends_its_session() {
    let app = app().await;
    let back = client(&app, 7, &[AdminScope::TokensIntrospect, AdminScope::TokensRevoke], None).await;
    for (hint, by_access) in
        [(None, false), (Some("refresh_token"), false), (Some("unknown"), false), (None, true)]
    {
        let name = format!("u{by_access}{}", hint.unwrap_or("none").replace('_', ""));
        let (ended, other) = (app.register(&name).await, app.login(&name).await);
        let token = if by_access { &ended.access_token } else { &ended.refresh_token };
        let parameters: Vec<_> = std::iter::once(("token", token.as_str()))
            .chain(hint.map(|hint| ("token_type_hint", hint)))
            .collect();
        drop(app.events.take());
        for _ in 0..3 {
            let reply = back.post(&app, REVOKE, &parameters).await;
            assert_eq!((reply.status(), &reply.body[..]), (200, &b""[..]), "{name}");
            assert_eq!(reply.header("cache-control"), Some("no-store"));
        }
        let told = app.events.take();
        let named: Vec<_> = told
            .iter()
            .filter_map(|event| match event {
                Event::ClientRevoked { user_id, client, .. } => Some((user_id.clone(), client.as_str())),
                _ => None,
            })
            .collect();
        assert_eq!(named, [(ended.user_id.clone(), "client 7")], "once, with who did it: {told:?}");
        assert_eq!(app.hello(&ended.access_token).await, 401, "{name}: its access tokens end at once");
        assert_eq!(app.refresh(&ended.refresh_token).await.status(), 401, "{name}");
        for token in [&ended.access_token, &ended.refresh_token] {
            assert_eq!(&back.ask(&app, token).await.body[..], INACTIVE, "{name}");
        }
        assert_eq!(app.hello(&other.access_token).await, 200, "the user's other session goes on");
    }
    // A token that is not known needs no revocation (RFC 7009 §2.2).
    let stranger =
        TestApp::with(|auth| auth.random(std::sync::Arc::new(countersign_testkit::SeededRandom::new(99))))
            .await;
    let foreign = stranger.register("eve").await;
    drop(app.events.take());
    for token in ["garbage", &foreign.access_token, &foreign.refresh_token] {
        assert_eq!(back.post(&app, REVOKE, &[("token", token)]).await.status(), 200);
    }
    assert!(app.events.take().is_empty());
}

/// Such a token comes from a program whose key is accepted while its users move.
#[tokio::test]
async fn sec_105_an_access_token_without_a_session_is_revoked_alone() {
    let random = countersign_testkit::SeededRandom::new(11);
    let key = SigningKey::generate(countersign_jwt::Algorithm::EdDsa, &random).unwrap();
    let public = key.verifying_key();
    let app = TestApp::with(|auth| auth.also_accept(public.clone())).await.with_routes(standard_routes());
    let back = client(&app, 7, &[AdminScope::TokensIntrospect, AdminScope::TokensRevoke], None).await;
    let now = app.clock.now();
    let token = |number: u128| {
        let (user, id) =
            (UserId::new("ada").unwrap(), TokenId::new(Uuid::from_u128((0x4000 << 64) + number)));
        let claims = NewClaims::new(TokenType::Access, user, id, now, now + Duration::from_secs(600));
        countersign_jwt::Issuer::new(key.clone()).with_issuer(OWN).issue(&claims).unwrap()
    };
    let (revoked, other) = (token(1), token(2));
    assert!(back.is_active(&app, &revoked).await && back.is_active(&app, &other).await);
    assert_eq!(back.post(&app, REVOKE, &[("token", &revoked)]).await.status(), 200);
    assert!(!back.is_active(&app, &revoked).await && back.is_active(&app, &other).await);
    assert_eq!((app.hello(&revoked).await, app.hello(&other).await), (401, 200));
}

#[tokio::test]
async fn sec_105_sec_106_a_store_that_does_not_answer_makes_no_token_inactive() {
    let app = app().await;
    let back = client(&app, 7, &[AdminScope::TokensIntrospect, AdminScope::TokensRevoke], None).await;
    let ada = app.register("ada").await;
    let asked = [
        (INTROSPECT, &ada.access_token, "admin_key"),
        (INTROSPECT, &ada.refresh_token, "admin_key"),
        (INTROSPECT, &ada.refresh_token, "session"),
        (REVOKE, &ada.refresh_token, "admin_key"),
        (REVOKE, &ada.refresh_token, "session"),
        (REVOKE, &ada.refresh_token, "end_session"),
    ];
    for (path, token, method) in asked {
        app.store.fail_next(method);
        let reply = back.post(&app, path, &[("token", token)]).await;
        assert_eq!(reply.outcome(), (503, "unavailable".to_owned()), "{path}, {method}");
        assert!(reply.header("retry-after").is_some());
    }
    assert!(back.is_active(&app, &ada.refresh_token).await);
    // A node that cannot know whether the token was revoked says so, too.
    app.wait(6);
    app.store.fail(true);
    let reply = back.post(&app, INTROSPECT, &[("token", &ada.access_token)]).await;
    assert_eq!(reply.outcome(), (503, "unavailable".to_owned()));
    app.store.fail(false);
    assert!(back.is_active(&app, &ada.access_token).await);
}

#[tokio::test]
async fn sec_107_sec_109_metadata_names_the_issuer_and_no_grant() {
    for (url, path) in [(OWN, METADATA.to_owned()), ("https://example.com/a/b/", format!("{METADATA}/a/b"))] {
        let app = TestApp::with(|auth| auth.public_url(Url::parse(url).unwrap())).await;
        let app = app.with_routes(standard_routes());
        let reply = app.client().get(&path).await;
        assert_eq!((reply.status(), reply.header("content-type")), (200, Some("application/json")));
        assert_eq!(reply.header("cache-control"), Some("public, max-age=300"));
        let base = url.trim_end_matches('/');
        let ways = json!(["client_secret_basic", "client_secret_post"]);
        let expected = json!({
            "issuer": base,
            "jwks_uri": format!("{base}/.well-known/jwks.json"),
            "introspection_endpoint": format!("{base}/v1/auth/introspect"),
            "introspection_endpoint_auth_methods_supported": ways,
            "revocation_endpoint": format!("{base}/v1/auth/revoke"),
            "revocation_endpoint_auth_methods_supported": ways,
            "response_types_supported": [],
            "grant_types_supported": [],
        });
        assert_eq!(reply.json(), expected);
        let issued = app.register("ada").await;
        assert_eq!(payload(&issued.access_token)["iss"], expected["issuer"], "the issuer that tokens name");
        for wrong in
            [format!("{path}/"), format!("{path}/x"), format!("{METADATA}/a"), format!("{METADATA}//a/b")]
        {
            assert_eq!(app.client().get(&wrong).await.status(), 404, "{wrong}");
        }
        // Both documents are asked for again by what was there the last time.
        for path in [path.as_str(), "/.well-known/jwks.json"] {
            let tag = app.client().get(path).await.header("etag").unwrap().to_owned();
            let again = app.client().with("if-none-match", &tag).get(path).await;
            assert_eq!((again.status(), &again.body[..]), (304, &b""[..]), "{path}");
            assert_eq!(again.header("etag"), Some(&*tag));
            assert_eq!(again.header(HeaderName::from_static("cache-control")), Some("public, max-age=300"));
        }
    }
    // An issuer elsewhere is named exactly, and the endpoints are below the public URL.
    let app =
        TestApp::with(|auth| auth.issuer("https://issuer.example/")).await.with_routes(standard_routes());
    let metadata = app.client().get(METADATA).await.json();
    let named = ["issuer", "jwks_uri"].map(|name| metadata[name].as_str().unwrap().to_owned());
    assert_eq!(named, ["https://issuer.example/".to_owned(), format!("{OWN}/.well-known/jwks.json")]);
    // An issuer that is no URL has no place where its metadata could be.
    let app = TestApp::with(|auth| auth.issuer("countersign")).await.with_routes(standard_routes());
    let reply = app.client().get(METADATA).await;
    assert_eq!(reply.outcome(), (404, "not_found".to_owned()));
    assert_eq!(reply.json().get("issuer"), None::<&Value>);
}
