//! Paths and methods that there are not.

use axum::extract::{Request, State};
use axum::response::Response;
use countersign_http::ErrorCode;

use crate::failure::Failure;
use crate::pages::Pages;
use crate::visit::Visit;

pub(crate) async fn not_found(State(pages): State<Pages>, request: Request) -> Response {
    Visit::of_nobody(pages, request).fail(Failure::new(ErrorCode::NotFound))
}

pub(crate) async fn method_not_allowed(State(pages): State<Pages>, request: Request) -> Response {
    Visit::of_nobody(pages, request).fail(Failure::new(ErrorCode::MethodNotAllowed))
}
