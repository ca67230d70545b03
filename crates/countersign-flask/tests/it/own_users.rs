//! Programs with users of their own, by the rules of a Flask library.

use std::convert::Infallible;

use countersign_axum::routes;
use countersign_core::flow::{CheckPassword, FindUser, Presentation};
use countersign_flask::axum::login_routes;
use countersign_flask::tokens::FlaskClaims;
use countersign_flask::{FlaskJwt, FlaskJwtExtended};
use countersign_http::{AccountRules, RegistrationMode};
use countersign_jwt::{TokenType, UserId};
use serde_json::json;

use crate::app::{PASSWORD, TestApp};
use crate::beside::{extended, plain};
use crate::members::{begin, check_account_decides, member, with_routes};

#[tokio::test]
async fn sec_083_an_account_decides_about_itself_whatever_a_hook_says() {
    let everybody = async |_: UserId| Ok::<_, Infallible>(Some(()));
    let rules = FlaskJwtExtended::builder(extended(&json!({})));
    let rules = rules.user(move |_| async { Ok::<_, Infallible>(Some(())) });
    let app = TestApp::with(|auth| auth.user_loader(everybody).rules(rules)).await;
    check_account_decides(&app).await;
}

#[tokio::test]
async fn own_users_are_known_by_a_hook_of_the_rules_or_by_a_loader() {
    let of = async |token: FlaskClaims| Ok::<_, Infallible>((token.identity() == "17").then_some(()));
    for by_hook in [true, false] {
        for is_extended in [true, false] {
            let app = TestApp::with(|auth| {
                let auth = if by_hook { auth } else { auth.user_loader(member) };
                match (is_extended, by_hook) {
                    (true, true) => auth.rules(FlaskJwtExtended::builder(extended(&json!({}))).user(of)),
                    (true, false) => auth.rules(FlaskJwtExtended::builder(extended(&json!({})))),
                    (false, true) => auth.rules(FlaskJwt::builder(plain(&json!({}))).user(of)),
                    (false, false) => auth.rules(FlaskJwt::builder(plain(&json!({})))),
                }
            })
            .await;
            let client = with_routes(&app, routes());
            let scheme = if is_extended { "Bearer" } else { "JWT" };
            for (id, status) in [("17", 200), ("18", 401)] {
                let case = format!("{by_hook} {is_extended} {id}");
                let pair = begin(&app, id, Presentation::Explicit).await;
                let body = json!({ "refresh_token": pair.refresh_token });
                let refreshed = client.clone().post("/v1/auth/refresh", &body).await;
                assert_eq!(refreshed.status(), status, "{case}");
                let field = format!("{scheme} {}", pair.access_token);
                let me = client.clone().with("authorization", &field).get("/v1/auth/me").await;
                assert_eq!(me.status(), status, "{case}");
                if status == 200 {
                    assert_eq!(me.json(), json!({ "id": "17" }), "{case}");
                    let judged =
                        app.auth.rules().judge(app.auth.engine(), &pair.refresh_token, TokenType::Refresh);
                    assert!(judged.await.is_ok(), "{case}");
                } else {
                    let known = if is_extended { "msg" } else { "description" };
                    assert!(me.json()[known].is_string(), "{case}: {me:?}");
                }
            }
        }
    }
}

/// One member, with the number 17.
struct Members;

impl FindUser for Members {
    type User = &'static str;
    type Id = i64;
    type Error = Infallible;

    fn id(_: &&'static str) -> i64 {
        17
    }

    async fn find_by_id(&self, id: i64) -> Result<Option<&'static str>, Infallible> {
        Ok((id == 17).then_some(HASH))
    }

    async fn find_by_login_name(&self, name: &str) -> Result<Option<&'static str>, Infallible> {
        Ok((name == "ada").then_some(HASH))
    }
}

impl CheckPassword for Members {
    fn password_hash<'a>(member: &'a &'static str) -> Option<&'a str> {
        Some(member)
    }
}

/// What werkzeug 3.1 has made of `correct horse`.
const HASH: &str = "scrypt:1024:8:1$Ddsa4EtrYv6UcMTj$e7e0bb4f2d134ad8cdc9e08623fe3205c83c21cd30db9a64f73c0bdff2834e09457b7993c498960912537a413812d4c0802d50f4699570a272617476ccb72583";

#[tokio::test]
async fn own_users_log_in_at_flask_jwts_endpoint_and_their_sessions_end() {
    let app = TestApp::with(|auth| auth.own_users(Members).rules(FlaskJwt::builder(plain(&json!({}))))).await;
    let client = with_routes(&app, routes().merge(login_routes(&app.auth)));
    let log_in = async |name: &str, password: &str| {
        client.clone().post("/auth", &json!({ "username": name, "password": password })).await
    };
    for (name, password) in [("ada", "a guess"), ("bob", "correct horse")] {
        assert_eq!(log_in(name, password).await.status(), 401, "{name}");
    }
    let signed_in = log_in("ada", "correct horse").await;
    assert_eq!(signed_in.status(), 200, "{signed_in:?}");
    let field = format!("JWT {}", signed_in.json()["access_token"].as_str().unwrap());
    let mut ada = client.clone().with("authorization", &field);
    assert_eq!(ada.get("/v1/auth/me").await.json(), json!({ "id": "17" }));
    assert_eq!(ada.post_nothing("/v1/auth/logout").await.status(), 204);
    assert_eq!(ada.get("/v1/auth/me").await.status(), 401);
}

#[tokio::test]
async fn sec_131_flask_jwts_endpoint_signs_nobody_in_whose_address_is_to_be_verified_first() {
    let open = TestApp::new().await;
    open.register("ada").await;
    let rules = AccountRules { registration: RegistrationMode::VerifyFirst, ..AccountRules::default() };
    let jwt = FlaskJwt::builder(plain(&json!({})));
    let app = open.beside(|auth| auth.account_rules(rules).change_settings().rules(jwt)).await.unwrap();
    let client = with_routes(&app, routes().merge(login_routes(&app.auth)));
    for (password, outcome) in [(PASSWORD, (403, "email_unverified")), ("a guess", (401, "Bad Request"))] {
        let body = json!({ "username": "ada@example.org", "password": password });
        let answer = client.clone().post("/auth", &body).await;
        assert_eq!((answer.status(), answer.json()["error"].as_str().unwrap()), outcome);
    }
}
