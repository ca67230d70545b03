//! Programs with users of their own, by the rules of a Flask library.

use std::convert::Infallible;

use countersign_axum::routes;
use countersign_core::flow::Presentation;
use countersign_flask::tokens::FlaskClaims;
use countersign_flask::{FlaskJwt, FlaskJwtExtended};
use countersign_jwt::{TokenType, UserId};
use serde_json::json;

use crate::app::TestApp;
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
