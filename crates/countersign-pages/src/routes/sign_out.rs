//! Signing out.

use axum::extract::{Request, State};
use axum::response::Response;
use countersign_http::{BodyTokens, ErrorCode, LogOutError};
use http::StatusCode;
use minijinja::context;

use crate::failure::Failure;
use crate::pages::Pages;
use crate::visit::Visit;

/// `POST /sign-out`: ends the session of the cookies, also if its access token has expired.
pub(crate) async fn submit(State(pages): State<Pages>, request: Request) -> Response {
    let (visit, _) = match Visit::open(pages, request).await {
        Ok(opened) => opened,
        Err(response) => return response,
    };
    match visit.auth().log_out(&visit.parts, BodyTokens::default()).await {
        Ok(_) | Err(LogOutError::Gone) => visit.sign_out("/signed-out"),
        // Whoever has no valid token is signed out already.
        Err(LogOutError::Refused(error)) if error.code().status() == StatusCode::UNAUTHORIZED => {
            visit.sign_out("/signed-out")
        }
        Err(LogOutError::Refused(error)) => visit.fail((&error).into()),
        Err(LogOutError::End(error)) => visit.fail(error.into()),
    }
}

/// `GET /signed-out`
pub(crate) async fn done(State(pages): State<Pages>, request: Request) -> Response {
    match Visit::open(pages, request).await {
        Ok((visit, _)) if visit.caller.is_some() => visit.go(&visit.at("/account")),
        Ok((visit, _)) => {
            let again = Some(("/sign-in", "signed_out.again"));
            visit.message("signed_out.title", "signed_out.body", again, context! {})
        }
        Err(response) => response,
    }
}

/// Refuses a page that this program does not have.
pub(super) fn no_such_page(visit: &Visit) -> Response {
    visit.fail(Failure::new(ErrorCode::NotFound))
}
