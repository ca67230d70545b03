//! Which tokens of which issuers are accepted.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use countersign_http::remote::{
    HeaderType, RemoteConfigProblem, RemoteIssuer, RemoteIssuers, RemoteVerifyError,
};
use countersign_jwt::{Algorithm, SigningKey, Timestamp, VerifyError};
use countersign_testkit::FixedClock;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kit::{
    Bed, FakeNetwork, ISSUER, NOW, URL, claims, header, jwk, key, key_set, sign, sign_text, token, with,
};

/// Verifies many tokens of one issuer: changes of header and claims, and what the refusal says.
async fn table(
    rules: RemoteIssuer,
    url: &str,
    key: &SigningKey,
    header: &Value,
    claims: &Value,
    cases: &[(&str, Value, Value, Option<&str>)],
) {
    let bed = Bed::with([rules]);
    bed.network.publish(url, key_set(&[key]));
    for (case, header_changes, claim_changes, refusal) in cases {
        let token = sign(key, &with(header, header_changes.clone()), &with(claims, claim_changes.clone()));
        match (refusal, bed.verify(&token).await) {
            (None, Ok(_)) => {}
            (Some(expected), Err(error)) => {
                assert!(error.to_string().contains(expected), "{case}: {error}");
                assert!(!error.is_retryable(), "{case}");
            }
            (None, Err(error)) => panic!("{case} is refused: {error}"),
            (Some(_), Ok(claims)) => panic!("{case} is accepted: {claims:?}"),
        }
    }
}

#[tokio::test]
async fn sec_014_sec_031_access_tokens_of_rfc_9068_are_accepted_by_default_and_nothing_else() {
    let key = key(Algorithm::Es256, "one");
    let none = || json!({});
    let typ = "header's typ is not among the accepted types";
    let audience = "audience is not the expected one";
    let aud = "claim aud is invalid";
    table(
        RemoteIssuer::new(ISSUER, URL).audience("api").audience("api2"),
        URL,
        &key,
        &header(&key),
        &claims(ISSUER),
        &[
            ("as it is", none(), none(), None),
            ("the long form of typ", json!({"typ": "application/AT+JWT"}), none(), None),
            ("another kind of token", json!({"typ": "JWT"}), none(), Some(typ)),
            ("a refresh token", json!({"typ": "rt+jwt"}), none(), Some(typ)),
            ("no typ", json!({"typ": null}), none(), Some(typ)),
            ("the other audience", none(), json!({"aud": "api2"}), None),
            ("one of several audiences", none(), json!({"aud": ["x", "api"]}), None),
            ("no audience", none(), json!({"aud": null}), Some(audience)),
            ("the beginning of the audience", none(), json!({"aud": "ap"}), Some(audience)),
            ("more than the audience", none(), json!({"aud": "api/"}), Some(audience)),
            ("upper case", none(), json!({"aud": "API"}), Some(audience)),
            ("any", none(), json!({"aud": "*"}), Some(audience)),
            ("others", none(), json!({"aud": ["x", "y"]}), Some(audience)),
            ("an empty list", none(), json!({"aud": []}), Some(aud)),
            ("numbers", none(), json!({"aud": [1]}), Some(aud)),
            ("an object", none(), json!({"aud": {"api": 1}}), Some(aud)),
            ("expired within the leeway", none(), json!({"exp": NOW - 9}), None),
            ("expired", none(), json!({"exp": NOW - 10}), Some("expired")),
            ("no expiry", none(), json!({"exp": null}), Some("claim exp is missing")),
            ("an expiry that is a text", none(), json!({"exp": "9999999999"}), Some("claim exp is invalid")),
            ("a negative expiry", none(), json!({"exp": -1}), Some("claim exp is invalid")),
            ("an expiry beyond any", none(), json!({"exp": 1e300}), Some("claim exp is invalid")),
            ("a fraction of a second left", none(), json!({"exp": NOW as f64 - 9.5}), None),
            ("a fraction of a second late", none(), json!({"exp": NOW as f64 - 10.5}), Some("expired")),
            ("valid soon", none(), json!({"nbf": NOW + 10}), None),
            ("not valid yet", none(), json!({"nbf": NOW + 11}), Some("not valid yet")),
            ("valid later as a text", none(), json!({"nbf": "1"}), Some("claim nbf is invalid")),
            ("issued in the future", none(), json!({"iat": NOW + 11}), Some("issued in the future")),
            ("no subject", none(), json!({"sub": null}), Some("claim sub is invalid")),
            ("an empty subject", none(), json!({"sub": ""}), Some("claim sub is invalid")),
            ("a number as subject", none(), json!({"sub": 1}), Some("claim sub is invalid")),
            ("a subject of two lines", none(), json!({"sub": "a\nb"}), Some("claim sub is invalid")),
            ("bound by DPoP", none(), json!({"cnf": {"jkt": "x"}}), Some("bound to a key of its holder")),
            ("bound by TLS", none(), json!({"cnf": {"x5t#S256": "x"}}), Some("bound to a key of its holder")),
        ],
    )
    .await;
}

#[tokio::test]
async fn access_tokens_of_keycloak_are_accepted_and_its_other_tokens_are_not() {
    let realm = "https://sso.example.com/realms/staff";
    let key = key(Algorithm::Rs256, "keycloak-rsa");
    let access_header = json!({"alg": "RS256", "typ": "JWT", "kid": "keycloak-rsa"});
    // As Keycloak 26 writes them, with an audience mapper for `orders`.
    let access = json!({
        "exp": NOW + 300, "iat": NOW, "auth_time": NOW - 5, "jti": "onrtac:7b0d9c0e", "iss": realm,
        "aud": ["orders", "account"], "sub": "f:8d3c1b52:jane", "typ": "Bearer", "azp": "web", "sid": "a0b1",
        "acr": "1", "allowed-origins": ["https://app.example.com"],
        "realm_access": {"roles": ["offline_access", "uma_authorization"]},
        "resource_access": {"account": {"roles": ["manage-account"]}},
        "scope": "openid profile email", "email_verified": true, "preferred_username": "jane"
    });
    let id = json!({
        "typ": "ID", "aud": "web", "at_hash": "x", "nonce": "n", "scope": null, "realm_access": null,
        "resource_access": null, "allowed-origins": null
    });
    let none = || json!({});
    table(
        RemoteIssuer::keycloak("https://sso.example.com/realms/staff/").audience("orders").client_id("web"),
        "https://sso.example.com/realms/staff/protocol/openid-connect/certs",
        &key,
        &access_header,
        &access,
        &[
            ("an access token", none(), none(), None),
            ("one of RFC 9068", json!({"typ": "at+jwt"}), none(), None),
            ("an ID token", none(), id.clone(), Some("audience is not the expected one")),
            ("an ID token for us", none(), with(&id, json!({"aud": "orders"})), Some("claim typ does not")),
            (
                "a logout token",
                json!({"typ": "logout+jwt"}),
                json!({"typ": "Logout"}),
                Some("among the accepted types"),
            ),
            ("a DPoP token", none(), json!({"typ": "DPoP", "cnf": {"jkt": "x"}}), Some("claim typ does not")),
            ("without the mapper", none(), json!({"aud": "account"}), Some("audience")),
            ("of another client", none(), json!({"azp": "mobile"}), Some("issued to another client")),
            ("of no client", none(), json!({"azp": null}), Some("issued to another client")),
        ],
    )
    .await;
}

#[tokio::test]
async fn access_tokens_of_auth0_are_accepted_and_its_id_tokens_are_not() {
    let key = key(Algorithm::Rs256, "auth0-rsa");
    let access = json!({
        "iss": "https://example.eu.auth0.com/", "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
        "aud": ["https://orders.example.com/", "https://example.eu.auth0.com/userinfo"],
        "iat": NOW, "exp": NOW + 86_400, "azp": "my_client_id", "scope": "openid profile read:orders"
    });
    let none = || json!({});
    table(
        RemoteIssuer::auth0("example.eu.auth0.com").audience("https://orders.example.com/"),
        "https://example.eu.auth0.com/.well-known/jwks.json",
        &key,
        &json!({"alg": "RS256", "typ": "JWT", "kid": "auth0-rsa"}),
        &access,
        &[
            ("an access token", none(), none(), None),
            (
                "one of the RFC 9068 profile",
                json!({"typ": "at+jwt"}),
                json!({"client_id": "my_client_id"}),
                None,
            ),
            (
                "an ID token",
                none(),
                json!({"aud": "my_client_id", "azp": null, "nonce": "n"}),
                Some("audience"),
            ),
            (
                "for userinfo alone",
                none(),
                json!({"aud": "https://example.eu.auth0.com/userinfo"}),
                Some("audience"),
            ),
            (
                "without the slash",
                none(),
                json!({"iss": "https://example.eu.auth0.com"}),
                Some("not configured"),
            ),
            (
                "of another tenant",
                none(),
                json!({"iss": "https://evil.eu.auth0.com/"}),
                Some("not configured"),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn access_tokens_of_cognito_are_accepted_and_its_id_tokens_are_not() {
    let issuer = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_AbCdEfGhI";
    let url = format!("{issuer}/.well-known/jwks.json");
    let key = key(Algorithm::Rs256, "cognito-rsa");
    let access = json!({
        "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "cognito:groups": ["admins"], "iss": issuer, "version": 2,
        "client_id": "4v1hd3example", "origin_jti": "o", "event_id": "e", "token_use": "access",
        "scope": "openid orders/read", "auth_time": NOW, "exp": NOW + 3600, "iat": NOW, "jti": "j", "username": "jane"
    });
    let id = json!({"token_use": "id", "aud": "4v1hd3example", "client_id": null, "scope": null});
    let header = json!({"kid": "cognito-rsa", "alg": "RS256"});
    let pool = || RemoteIssuer::cognito("eu-central-1", "eu-central-1_AbCdEfGhI").client_id("4v1hd3example");
    let none = || json!({});
    table(
        pool(),
        &url,
        &key,
        &header,
        &access,
        &[
            ("an access token", none(), none(), None),
            ("an ID token", none(), id.clone(), Some("audience")),
            ("an ID token without audience", none(), with(&id, json!({"aud": null})), Some("another client")),
            ("of unknown use", none(), json!({"token_use": null}), Some("claim token_use does not")),
            (
                "with the use of an ID token",
                none(),
                json!({"token_use": "id"}),
                Some("claim token_use does not"),
            ),
            ("of another client", none(), json!({"client_id": "other"}), Some("issued to another client")),
            ("for a resource", none(), json!({"aud": "https://orders.example.com"}), Some("audience")),
            (
                "of another pool",
                none(),
                json!({"iss": format!("{issuer}x")}),
                Some("an issuer that is not configured"),
            ),
        ],
    )
    .await;
    table(
        pool().audience("https://orders.example.com"),
        &url,
        &key,
        &header,
        &access,
        &[
            ("for us", none(), json!({"aud": "https://orders.example.com"}), None),
            ("for nobody", none(), none(), Some("audience")),
        ],
    )
    .await;
}

#[tokio::test]
async fn settings_widen_what_is_accepted_only_where_they_say_so() {
    let key = key(Algorithm::Es256, "one");
    let rules = || RemoteIssuer::new(ISSUER, URL).audience("api");
    let none = || json!({});
    let dpop = json!({"cnf": {"jkt": "x"}});
    for (case, rules, changes, refusal) in [
        ("any audience", rules().dangerous_any_audience(), json!({"aud": "other"}), None),
        ("any audience, none", rules().dangerous_any_audience(), json!({"aud": null}), None),
        (
            "any audience, malformed",
            rules().dangerous_any_audience(),
            json!({"aud": []}),
            Some("aud is invalid"),
        ),
        ("bound tokens", rules().dangerous_accept_bound_tokens(), dpop, None),
        ("leeway", rules().leeway(Duration::from_secs(300)), json!({"exp": NOW - 299}), None),
        (
            "leeway used up",
            rules().leeway(Duration::from_secs(300)),
            json!({"exp": NOW - 300}),
            Some("expired"),
        ),
        ("no leeway", rules().leeway(Duration::ZERO), json!({"exp": NOW}), Some("expired")),
        ("a boolean", rules().require_claim("admin", true), json!({"admin": true}), None),
        (
            "not a boolean",
            rules().require_claim("admin", true),
            json!({"admin": "true"}),
            Some("claim admin"),
        ),
        ("a list", rules().require_claim("amr", vec!["mfa"]), json!({"amr": ["mfa"]}), None),
        (
            "not the list",
            rules().require_claim("amr", vec!["mfa"]),
            json!({"amr": ["mfa", "pwd"]}),
            Some("amr"),
        ),
        ("a number", rules().require_claim("ver", 2), json!({"ver": 2}), None),
        ("another subject claim", rules().subject_claim("oid"), json!({"oid": "x", "sub": null}), None),
        ("absent subject claim", rules().subject_claim("oid"), none(), Some("claim oid")),
        ("client", rules().client_id("a").client_id("b"), json!({"client_id": "b"}), None),
        ("another client", rules().client_id("a"), json!({"client_id": "b"}), Some("another client")),
    ] {
        table(rules, URL, &key, &header(&key), &claims(ISSUER), &[(case, none(), changes, refusal)]).await;
    }
}

#[tokio::test]
async fn sec_030_no_issuer_signs_for_another() {
    let (a, b) = ("https://a.example", "https://b.example");
    let (key_a, key_b) = (key(Algorithm::Es256, "a"), key(Algorithm::EdDsa, "b"));
    // The same id at both, as issuers do that number their keys.
    let (one_a, one_b) = (key(Algorithm::Es256, "1"), key(Algorithm::EdDsa, "1"));
    let bed = Bed::with([
        RemoteIssuer::new(a, "https://a.example/keys").audience("api"),
        RemoteIssuer::new(b, "https://b.example/keys").audience("api"),
    ]);
    bed.network.publish("https://a.example/keys", key_set(&[&key_a, &one_a]));
    bed.network.publish("https://b.example/keys", key_set(&[&key_b, &one_b]));
    for (key, own, other) in [(&key_a, a, b), (&one_a, a, b), (&key_b, b, a), (&one_b, b, a)] {
        assert_eq!(bed.verify(&token(key, own)).await.unwrap().issuer(), own);
        assert!(bed.verify(&token(key, other)).await.is_err(), "{own} speaks for {other}");
    }
}

#[tokio::test]
async fn sec_032_the_same_subject_at_two_issuers_is_two_users() {
    let (a, b) = ("https://a.example", "https://b.example");
    let key = key(Algorithm::Es256, "shared");
    let bed =
        Bed::with([a, b].map(|issuer| RemoteIssuer::new(issuer, format!("{issuer}/keys")).audience("api")));
    let mut users = HashSet::new();
    for issuer in [a, b, a] {
        bed.network.publish(&format!("{issuer}/keys"), key_set(&[&key]));
        let claims = bed.verify(&token(&key, issuer)).await.unwrap();
        assert_eq!((claims.identity().issuer(), claims.identity().subject()), (issuer, "user-1"));
        users.insert(claims.identity().clone());
    }
    assert_eq!(users.len(), 2);
}

#[tokio::test]
async fn sec_010_a_public_key_is_never_a_shared_secret() {
    let key = key(Algorithm::Rs256, "rsa");
    let public = key.verifying_key();
    let bed = Bed::new().publishing(&[&key]);
    bed.verify(&token(&key, ISSUER)).await.unwrap();
    let message = |alg: &str| {
        let token = sign(&key, &with(&header(&key), json!({ "alg": alg })), &claims(ISSUER));
        token.rsplit_once('.').unwrap().0.to_owned()
    };
    for secret in [
        public.to_public_key_pem().unwrap().into_bytes(),
        public.to_public_key_der().unwrap(),
        public.public_key().unwrap().to_vec(),
        jwk(&key)["n"].as_str().unwrap().as_bytes().to_vec(),
    ] {
        use base64::Engine;
        let message = message("HS256");
        let mac = aws_lc_rs::hmac::sign(
            &aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret),
            message.as_bytes(),
        );
        let forged = format!("{message}.{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(mac));
        assert_eq!(bed.refusal(&forged).await, "algorithm is not that of the key");
    }
    // An algorithm that is accepted, but not this key's.
    for alg in ["PS256", "ES256", "RS384"] {
        let other = format!("{}.{}", message(alg), "A".repeat(342));
        assert_eq!(bed.refusal(&other).await, "algorithm is not that of the key");
    }
}

#[tokio::test]
async fn what_is_signed_is_read_strictly() {
    let key = key(Algorithm::Es256, "one");
    let bed = Bed::new().publishing(&[&key]);
    let good = token(&key, ISSUER);
    bed.verify(&good).await.unwrap();
    let header = header(&key).to_string();
    let doubled = claims(ISSUER).to_string().replacen('{', r#"{"sub":"admin","#, 1);
    let refusal = bed.refusal(&sign_text(&key, &header, &doubled)).await;
    assert_eq!(refusal, "token claims: duplicate member name");
    let (message, signature) = good.rsplit_once('.').unwrap();
    let other = sign(&key, &crate::kit::header(&key), &with(&claims(ISSUER), json!({"sub": "admin"})));
    let swapped = format!("{}.{signature}", other.rsplit_once('.').unwrap().0);
    assert_eq!(bed.refusal(&swapped).await, "signature does not hold");
    assert_eq!(bed.refusal(&format!("{message}.")).await, "signature does not hold");
}

#[tokio::test]
async fn verified_claims_can_be_read_as_types() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Roles {
        realm_access: RealmAccess,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    struct RealmAccess {
        roles: Vec<String>,
    }

    let key = key(Algorithm::Es256, "one");
    let bed = Bed::new().publishing(&[&key]);
    let more = json!({
        "scope": "read  write", "client_id": "web", "realm_access": {"roles": ["admin"]}, "email": "jane@example.com"
    });
    let claims = bed.verify(&sign(&key, &header(&key), &with(&claims(ISSUER), more))).await.unwrap();
    assert_eq!(claims.subject(), "user-1");
    assert_eq!(claims.audience(), ["api"]);
    assert_eq!(claims.client_id(), Some("web"));
    assert_eq!(claims.scopes().collect::<Vec<_>>(), ["read", "write"]);
    assert_eq!(claims.issued_at(), Some(Timestamp::from_secs(NOW - 60)));
    assert_eq!(claims.not_before(), None);
    assert_eq!(claims.expires_at(), Timestamp::from_secs(NOW + 3600));
    assert_eq!(claims.algorithm(), Algorithm::Es256);
    assert_eq!(claims.key_id().unwrap().as_str(), "one");
    assert_eq!(claims.get::<String>("email").unwrap().as_deref(), Some("jane@example.com"));
    assert_eq!(claims.get::<String>("absent").unwrap(), None);
    assert!(claims.get::<u64>("email").is_err());
    let roles: Roles = claims.read().unwrap();
    assert_eq!(roles.realm_access.roles, ["admin"]);
    let debug = format!("{claims:?}");
    assert!(!debug.contains("jane@example.com"), "{debug}");
}

#[test]
fn an_issuer_that_cannot_be_used_says_what_to_do() {
    let good = || RemoteIssuer::new(ISSUER, URL).audience("api");
    let problem = |issuers: Vec<RemoteIssuer>| {
        let made = RemoteIssuers::with(issuers, FakeNetwork::new(), Arc::new(FixedClock::default()));
        made.err().map(|error| (error.issuer().to_owned(), error.problem().clone(), error.to_string()))
    };
    assert_eq!(problem(vec![good()]), None);
    let bare = || RemoteIssuer::new(ISSUER, URL);
    assert_eq!(
        problem(vec![bare()]).unwrap().2,
        "issuer \"https://sso.example.com/a\" cannot be used: no audience is set; call `audience`, or `client_id` if \
         its tokens name no audience"
    );
    assert_eq!(problem(vec![bare().dangerous_any_audience()]), None);
    assert_eq!(problem(vec![bare().client_id("web")]), None);
    use RemoteConfigProblem as P;
    for (issuers, expected) in [
        (vec![good(), good()], P::Duplicate),
        (vec![RemoteIssuer::new("", URL).audience("api")], P::NoName),
        (vec![good().audience("")], P::Empty),
        (vec![good().client_id("")], P::Empty),
        (vec![good().require_claim("", 1)], P::Empty),
        (vec![good().subject_claim("")], P::Empty),
        (vec![good().require_claim("aud", "x")], P::OwnSetting("aud".to_owned())),
        (vec![good().algorithms([])], P::AcceptsNothing),
        (vec![good().header_types([])], P::AcceptsNothing),
        (vec![good().algorithms([Algorithm::Rs256, Algorithm::Hs256])], P::Symmetric(Algorithm::Hs256)),
        (vec![good().leeway(Duration::from_secs(301))], P::LeewayTooLong),
        (vec![good().refresh_after(Duration::from_secs(29))], P::KeyAge),
        (vec![good().refresh_after(Duration::MAX)], P::KeyAge),
        (vec![good().usable_for(Duration::from_secs(299))], P::KeyAge),
        (vec![good().usable_for(Duration::from_secs(86_401))], P::KeyAge),
        (vec![RemoteIssuer::auth0("https://example.auth0.com").audience("api")], P::NotADomain),
    ] {
        assert_eq!(problem(issuers).map(|(_, problem, _)| problem), Some(expected));
    }
    for url in ["http://sso.example.com/keys", "file:///etc/passwd", "https://169.254.169.254/", "", "keys"] {
        let (issuer, found, text) = problem(vec![RemoteIssuer::new(ISSUER, url).audience("api")]).unwrap();
        assert!(matches!(found, P::Url(_)), "{url}: {text}");
        assert_eq!(issuer, ISSUER);
    }
    let local = || RemoteIssuer::new(ISSUER, "http://127.0.0.1:8080/keys").audience("api");
    assert!(problem(vec![local()]).is_some());
    assert_eq!(problem(vec![local().dangerous_loopback_http()]), None);
}

#[tokio::test]
async fn errors_tell_apart_what_callers_act_on() {
    let key = key(Algorithm::Es256, "one");
    let bed = Bed::with([RemoteIssuer::new(ISSUER, URL).audience("api").header_types([HeaderType::Jwt])])
        .publishing(&[&key]);
    assert!(matches!(bed.verify(&token(&key, ISSUER)).await, Err(RemoteVerifyError::HeaderType)));
    assert!(matches!(bed.verify(&token(&key, "x")).await, Err(RemoteVerifyError::UnknownIssuer)));
    assert!(matches!(bed.verify("").await, Err(RemoteVerifyError::Token(VerifyError::NotCompact))));
}
