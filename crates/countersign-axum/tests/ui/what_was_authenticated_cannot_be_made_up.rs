//! `Authenticated` comes from `Auth::authenticate`, which has asked for the CSRF value where it must.

use countersign_axum::Location;
use countersign_jwt::Claims;
use countersign_http::Authenticated;

fn found(claims: Claims) -> Authenticated {
    Authenticated { claims, location: Location::Header }
}

fn main() {}
