//! Lifetimes that no session has.

use countersign_flask::flask_jwt_extended::NewAccess;
use serde_json::json;

use super::{Beside, BesidePlain, DAY, changed, names};
use crate::client::payload;
use crate::log;

#[tokio::test]
async fn an_endless_lifetime_is_warned_of_once_and_as_it_is() {
    for (name, given, shown) in [
        ("JWT_ACCESS_TOKEN_EXPIRES", json!(false), "false"),
        ("JWT_REFRESH_TOKEN_EXPIRES", json!(false), "false"),
        ("JWT_ACCESS_TOKEN_EXPIRES", json!(99_999_999_999_u64), "99999999999 s"),
        ("JWT_REFRESH_TOKEN_EXPIRES", json!(99_999_999_998_u64), "99999999998 s"),
    ] {
        let warning = format!("{name} is {shown}, but sessions end after 400 days here");
        let before = (log::count(&warning), log::count(&format!("{name} is {shown}: such tokens never")));
        let beside = Beside::with(json!({ name: given })).await;
        let account = beside.app.register("ada").await;
        assert_eq!(log::count(&warning), before.0 + 1, "{warning}");
        let never = log::count(&format!("{name} is {shown}: such tokens never"));
        // The application beside this one is told what holds for it.
        assert_eq!(never - before.1, usize::from(given == json!(false)), "{name} {shown}");
        let token = match name {
            "JWT_ACCESS_TOKEN_EXPIRES" => &account.access_token,
            _ => &account.refresh_token,
        };
        let claims = payload(token);
        let seconds = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert_eq!(seconds, 400 * DAY, "{name} {shown}");
        if name != "JWT_ACCESS_TOKEN_EXPIRES" {
            continue;
        }
        let id = account.user_id.as_str();
        let token = beside.flask.create_access_token(id, NewAccess::new()).await.unwrap();
        assert_eq!(names(&payload(&token)).contains(&"exp"), given != json!(false));
        beside.app.wait(400 * DAY - 1);
        assert_eq!(beside.me(&token).await.status(), 200, "{shown}");
        beside.app.wait(60);
        assert_eq!(beside.me(&token).await.status(), 401, "{shown}");
    }
}

#[tokio::test]
async fn flask_jwts_tokens_without_an_end_are_warned_of_once_and_as_they_are() {
    let warning =
        "JWT_REQUIRED_CLAIMS does not name exp: tokens without it are refused 7777 s after their iat";
    let options = json!({ "JWT_REQUIRED_CLAIMS": ["iat"], "JWT_EXPIRATION_DELTA": 7777 });
    let before = log::count("tokens without it are good for ever");
    let beside = BesidePlain::with(options).await;
    assert_eq!(log::count(warning), 1);
    assert_eq!(
        log::count("tokens without it are good for ever") - before,
        1,
        "said of the other application"
    );
    let account = beside.app.register("ada").await;
    let token = beside.token(account.user_id.as_str()).await;
    let endless = changed(&token, |claims| drop(claims.remove("exp")));
    beside.app.wait(7776);
    assert_eq!(beside.me(&endless).await.status(), 200);
    beside.app.wait(60);
    assert_eq!(beside.me(&endless).await.status(), 401);

    let long = "JWT_EXPIRATION_DELTA is 99999999997 s, but sessions end after 400 days here";
    let beside = BesidePlain::with(json!({ "JWT_EXPIRATION_DELTA": 99_999_999_997_u64 })).await;
    assert_eq!(log::count(long), 1);
    let claims = payload(&beside.app.register("ada").await.access_token);
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 400 * DAY);
}
