//! Helpers that the tests of both libraries share.

use std::future::Future;
use std::time::Duration;

use countersign_jwt::{Clock, Timestamp};
use http::Request;
use http::request::Parts;

pub(super) const SECRET: &str = "Xk2!vQ9#bT7$mW4%zR8^cY1&nP5*hJ3(";

/// A clock that stands at second 1700000000.
#[derive(Debug)]
pub(super) struct Standing;

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_700_000_000)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

pub(super) fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// A GET with these header fields.
pub(super) fn get(uri: &str, fields: &[(&str, &str)]) -> Parts {
    let request =
        fields.iter().fold(Request::get(uri), |request, (name, value)| request.header(*name, *value));
    request.body(()).unwrap().into_parts().0
}
