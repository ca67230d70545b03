//! Verifying an e-mail address.

use axum::extract::{Request, State};
use axum::response::Response;
use countersign_axum::device;
use countersign_core::flow::{LinkError, Profile};
use countersign_core::model::LinkToken;
use http::StatusCode;
use minijinja::context;

use super::code::invalid_link;
use super::fields::{Wrong, again, stale};
use super::sign_out::no_such_page;
use crate::pages::Pages;
use crate::visit::Visit;

/// `GET /verify`: asks for the click that the link of a mail needs; without a token, for the address that another link
/// is to be sent to.
pub(crate) async fn form(State(pages): State<Pages>, request: Request) -> Response {
    let (visit, _) = match Visit::open(pages, request).await {
        Ok(opened) => opened,
        Err(response) => return response,
    };
    match visit.query("token") {
        Some(token) => visit.page(StatusCode::OK, "verify.html", context! { token }),
        None if visit.auth().engine().sends_mail() => {
            visit.page(StatusCode::OK, "verify_again.html", context! { email => "" })
        }
        None => no_such_page(&visit),
    }
}

/// `POST /verify`
pub(crate) async fn submit(State(pages): State<Pages>, request: Request) -> Response {
    let (visit, _, form) = match Visit::arriving(pages, request).await {
        Ok(arrived) => arrived,
        Err(response) => return response,
    };
    let profile = Profile::of(visit.auth().accounts());
    let sends_mail = visit.auth().engine().sends_mail();
    if let Some(token) = form.given("token") {
        if !visit.is_ours(&form) {
            return stale(&visit, "verify.html", context! { token });
        }
        let verified = match LinkToken::parse(token) {
            Some(token) => profile.verify_email(&token).await,
            None => Err(LinkError::Invalid),
        };
        return match verified {
            Ok(()) => {
                let onward = Some(("/account", "common.account"));
                visit.message("verify.done_title", "verify.done", onward, context! {})
            }
            Err(LinkError::Invalid | LinkError::EmailTaken) => {
                invalid_link(&visit, sends_mail.then_some(("/verify", "link.verify")))
            }
            Err(error) => visit.fail(error.into()),
        };
    }
    if !sends_mail {
        return no_such_page(&visit);
    }
    let own = context! { email => form.get("email").trim() };
    if !visit.is_ours(&form) {
        return stale(&visit, "verify_again.html", own);
    }
    let mut wrong = Wrong::default();
    let Some(email) = wrong.email(&visit, &form, true) else {
        return again(&visit, StatusCode::UNPROCESSABLE_ENTITY, "verify_again.html", "", &wrong, own);
    };
    match profile.resend_verification_to(&email, device(&visit.parts).ip).await {
        Ok(()) => visit.message("verify.sent_title", "verify.sent", None, own),
        Err(error) => visit.fail(error.into()),
    }
}

/// `POST /account/verify`: sends another link to the address of who is signed in.
pub(crate) async fn send_again(State(pages): State<Pages>, request: Request) -> Response {
    let (visit, caller, _) = match Visit::of_user(pages, request).await {
        Ok(opened) => opened,
        Err(response) => return response,
    };
    if !visit.auth().engine().sends_mail() {
        return no_such_page(&visit);
    }
    let client = device(&visit.parts).ip;
    match Profile::of(visit.auth().accounts()).resend_verification(&caller.user, client).await {
        Ok(()) => visit.done("link_sent", "/account"),
        Err(error) => visit.fail(error.into()),
    }
}
