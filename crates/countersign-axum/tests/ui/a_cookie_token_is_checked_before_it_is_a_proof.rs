//! A token from a cookie of an unsafe request is a proof only with its CSRF value, so neither the cookie
//! nor verified claims make an `AccessToken`.

use countersign_axum::AccessToken;
use countersign_jwt::Claims;
use countersign_http::{Auth, CookieKind, find_cookie};
use http::request::Parts;

async fn by_hand(auth: &Auth, parts: &Parts) -> AccessToken {
    let name = auth.rules().cookies().name(CookieKind::Access).unwrap();
    let token = find_cookie(&parts.headers, name);
    AccessToken(token)
}

fn from_claims(claims: Claims) -> AccessToken {
    AccessToken(claims)
}

fn main() {}
