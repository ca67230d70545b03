//! `Fresh` is what the extractor proves, so nobody else makes one.

use countersign_axum::{AccessToken, Fresh};

fn wrapped(stale: AccessToken) -> Fresh<AccessToken> {
    Fresh(stale)
}

fn exchanged(mut fresh: Fresh<AccessToken>, stale: AccessToken) -> Fresh<AccessToken> {
    fresh.0 = stale;
    fresh
}

fn defaulted() -> Fresh<AccessToken> {
    Default::default()
}

fn main() {}
