//! Passwords: proving, changing, forgetting and resetting them.

use axum::extract::{Request, State};
use axum::response::Response;
use countersign_axum::device;
use countersign_core::flow::{
    Arrival, BrowserSession, Credentials, CredentialsError, LinkError, Presentation, RenewFreshError,
};
use countersign_core::model::{LinkToken, OwnNames};
use countersign_http::{DeviceCookie, ErrorCode};
use http::StatusCode;
use minijinja::{Value, context};

use super::code::invalid_link;
use super::fields::{Wrong, again, minimum, stale};
use super::sign_out::no_such_page;
use crate::failure::Failure;
use crate::form::Form;
use crate::pages::Pages;
use crate::visit::{Caller, Visit, add_retry_after};

/// `GET /confirm`
pub(crate) async fn confirm_form(State(pages): State<Pages>, request: Request) -> Response {
    match Visit::of_user(pages, request).await {
        Ok((visit, caller, _)) => {
            visit.page(StatusCode::OK, "confirm.html", shown(&caller, &Form::default()))
        }
        Err(response) => response,
    }
}

/// `POST /confirm`: goes on with the same session, whose tokens are fresh from now on.
pub(crate) async fn confirm(State(pages): State<Pages>, request: Request) -> Response {
    let (visit, caller, form) = match Visit::of_user(pages, request).await {
        Ok(opened) => opened,
        Err(response) => return response,
    };
    let own = shown(&caller, &form);
    let mut wrong = Wrong::default();
    let Some(password) = wrong.password(&visit, &form, "password") else {
        return again(&visit, StatusCode::UNPROCESSABLE_ENTITY, "confirm.html", "", &wrong, own);
    };
    let Some(session) = caller.session() else { return visit.fail(Failure::new(ErrorCode::NotFound)) };
    let credentials = Credentials::of(visit.auth().accounts());
    let device = device(&visit.parts);
    match credentials.reauthenticate(session, password, Presentation::of(&caller.claims), device).await {
        Ok(signed_in) => {
            let note = visit.next.is_none().then_some("confirmed");
            visit.sign_in(&signed_in, &visit.onward("/account"), note)
        }
        Err(CredentialsError::WrongPassword) => {
            wrong.note(&visit, "password", "confirm.wrong");
            again(&visit, StatusCode::FORBIDDEN, "confirm.html", "", &wrong, own)
        }
        Err(error) => refused(&visit, "confirm.html", error, &mut wrong, own),
    }
}

/// `GET /account/password`
pub(crate) async fn password_form(State(pages): State<Pages>, request: Request) -> Response {
    match Visit::of_user(pages, request).await {
        Ok((visit, caller, _)) => {
            let own = context! { minimum => minimum(&visit), ..shown(&caller, &Form::default()) };
            visit.page(StatusCode::OK, "change_password.html", own)
        }
        Err(response) => response,
    }
}

/// `POST /account/password`. An account without a password gets a link by mail instead, because a session alone is no
/// proof for a new one.
pub(crate) async fn password(State(pages): State<Pages>, request: Request) -> Response {
    let (visit, caller, form) = match Visit::of_user(pages, request).await {
        Ok(opened) => opened,
        Err(response) => return response,
    };
    let credentials = Credentials::of(visit.auth().accounts());
    if caller.user.password_hash.is_none() {
        let (true, Some(email)) = (visit.auth().engine().sends_mail(), &caller.user.email) else {
            return no_such_page(&visit);
        };
        return match credentials.forgot(email, device(&visit.parts).ip).await {
            Ok(()) => visit.done("link_sent", "/account"),
            Err(error) => visit.fail(error.into()),
        };
    }
    let own = context! { minimum => minimum(&visit), ..shown(&caller, &form) };
    let mut wrong = Wrong::default();
    let current = wrong.password(&visit, &form, "current_password");
    let names = OwnNames { email: caller.user.email.as_ref(), username: caller.user.username.as_ref() };
    let new = new_password(&visit, &form, names, &mut wrong);
    let (true, Some(current), Some(new)) = (wrong.is_empty(), current, new) else {
        return again(&visit, StatusCode::UNPROCESSABLE_ENTITY, "change_password.html", "", &wrong, own);
    };
    let presentation = Presentation::of(&caller.claims);
    // The new session is kept as the one that it takes the place of.
    let lifetime = match (presentation, visit.auth().engine().login_sessions()) {
        (Presentation::Browser(BrowserSession { remembered, .. }), Some(sessions)) => {
            sessions.beginning(remembered).lifetime
        }
        _ => None,
    };
    let known_device =
        DeviceCookie::of(visit.auth().rules()).and_then(|cookie| cookie.token(&visit.parts.headers));
    let arrival = Arrival { known_device, lifetime, ..Arrival::new(presentation, device(&visit.parts)) };
    match credentials.change_password(&caller.user.id, current, new, arrival).await {
        Ok(signed_in) => visit.sign_in(&signed_in, &visit.at("/account"), Some("password_changed")),
        Err(error) => refused(&visit, "change_password.html", error, &mut wrong, own),
    }
}

/// A new password that the rules admit.
fn new_password(
    visit: &Visit,
    form: &Form,
    names: OwnNames<'_>,
    wrong: &mut Wrong,
) -> Option<countersign_core::model::Password> {
    let Some(text) = form.exactly("new_password") else {
        wrong.note(visit, "new_password", "problem.required");
        return None;
    };
    match visit.auth().accounts().passwords().rules.admit(text, names) {
        Ok(password) => Some(password),
        Err(error) => {
            wrong.weak(visit, "new_password", &error);
            None
        }
    }
}

/// Shows the form again, or says what failed.
pub(super) fn refused(
    visit: &Visit,
    template: &str,
    error: CredentialsError,
    wrong: &mut Wrong,
    own: Value,
) -> Response {
    match error {
        CredentialsError::WrongPassword => {
            wrong.note(visit, "current_password", "problem.password_wrong");
            again(visit, StatusCode::FORBIDDEN, template, "", wrong, own)
        }
        CredentialsError::NoPassword => {
            let alert = visit.text("problem.no_password", &[]);
            again(visit, StatusCode::FORBIDDEN, template, &alert, wrong, own)
        }
        CredentialsError::WeakPassword(error) => {
            wrong.weak(visit, "new_password", &error);
            again(visit, StatusCode::UNPROCESSABLE_ENTITY, template, "", wrong, own)
        }
        CredentialsError::TooManyAttempts { retry_after } => {
            let alert = visit.text("problem.too_many", &[("wait", &visit.lasting(retry_after))]);
            let mut response = again(visit, StatusCode::TOO_MANY_REQUESTS, template, &alert, wrong, own);
            add_retry_after(&mut response, Some(retry_after));
            response
        }
        CredentialsError::Contended => {
            let alert = visit.text("problem.conflict", &[]);
            again(visit, StatusCode::CONFLICT, template, &alert, wrong, own)
        }
        CredentialsError::Gone | CredentialsError::Renew(RenewFreshError::Gone) => visit.sign_out("/sign-in"),
        CredentialsError::Hash(error) => visit.fail(error.into()),
        CredentialsError::Begin(error) => visit.fail(error.into()),
        error => visit.fail(error.into()),
    }
}

/// What the forms of an account know of it.
pub(super) fn shown(caller: &Caller, form: &Form) -> Value {
    let user = &caller.user;
    let email = user.email.as_ref().map(|email| email.as_str()).unwrap_or_default();
    context! {
        has_password => user.password_hash.is_some(),
        email => form.given("email").unwrap_or(email),
    }
}

/// `GET /forgot`
pub(crate) async fn forgot_form(State(pages): State<Pages>, request: Request) -> Response {
    match Visit::open(pages, request).await {
        Ok((visit, _)) if !visit.auth().engine().sends_mail() => no_such_page(&visit),
        Ok((visit, _)) => visit.blank("/forgot", "forgot.html", || context! { email => "" }),
        Err(response) => response,
    }
}

/// `POST /forgot`: the answer is the same whether or not the address has an account (SEC-131).
pub(crate) async fn forgot(State(pages): State<Pages>, request: Request) -> Response {
    let (visit, _, form) = match Visit::arriving(pages, request).await {
        Ok(arrived) => arrived,
        Err(response) => return response,
    };
    if !visit.auth().engine().sends_mail() {
        return no_such_page(&visit);
    }
    let own = context! { email => form.get("email").trim() };
    if !visit.is_ours(&form) {
        return stale(&visit, "forgot.html", own);
    }
    let mut wrong = Wrong::default();
    let Some(email) = wrong.email(&visit, &form, true) else {
        return again(&visit, StatusCode::UNPROCESSABLE_ENTITY, "forgot.html", "", &wrong, own);
    };
    let client = device(&visit.parts).ip;
    match Credentials::of(visit.auth().accounts()).forgot(&email, client).await {
        Ok(()) => {
            let back = Some(("/sign-in", "common.sign_in"));
            visit.message("forgot.sent_title", "forgot.sent", back, own)
        }
        Err(error) => visit.fail(error.into()),
    }
}

/// `GET /reset`
pub(crate) async fn reset_form(State(pages): State<Pages>, request: Request) -> Response {
    link_form(pages, request, false).await
}

/// `GET /invite`
pub(crate) async fn invite_form(State(pages): State<Pages>, request: Request) -> Response {
    link_form(pages, request, true).await
}

/// A form for a new password. Opening it uses nothing up.
async fn link_form(pages: Pages, request: Request, invited: bool) -> Response {
    match Visit::open(pages, request).await {
        Ok((visit, _)) => match visit.query("token") {
            Some(token) => visit.page(StatusCode::OK, "reset.html", by_link(&visit, &token, invited)),
            None => link_is_invalid(&visit, invited),
        },
        Err(response) => response,
    }
}

fn by_link(visit: &Visit, token: &str, invited: bool) -> Value {
    context! { token, invited, minimum => minimum(visit) }
}

fn link_is_invalid(visit: &Visit, invited: bool) -> Response {
    let another = !invited && visit.auth().engine().sends_mail();
    invalid_link(visit, another.then_some(("/forgot", "link.forgot")))
}

/// `POST /reset`
pub(crate) async fn reset(State(pages): State<Pages>, request: Request) -> Response {
    set_by_link(pages, request, false).await
}

/// `POST /invite`
pub(crate) async fn invite(State(pages): State<Pages>, request: Request) -> Response {
    set_by_link(pages, request, true).await
}

async fn set_by_link(pages: Pages, request: Request, invited: bool) -> Response {
    let (visit, _, form) = match Visit::arriving(pages, request).await {
        Ok(arrived) => arrived,
        Err(response) => return response,
    };
    let own = by_link(&visit, form.get("token"), invited);
    if !visit.is_ours(&form) {
        return stale(&visit, "reset.html", own);
    }
    let mut wrong = Wrong::default();
    let Some(new) = new_password(&visit, &form, OwnNames::default(), &mut wrong) else {
        return again(&visit, StatusCode::UNPROCESSABLE_ENTITY, "reset.html", "", &wrong, own);
    };
    let answered = match LinkToken::parse(form.get("token")) {
        Some(token) => Credentials::of(visit.auth().accounts()).reset(&token, new).await,
        None => Err(LinkError::Invalid),
    };
    match answered {
        // Nobody is signed in by a link (SEC-141).
        Ok(()) => {
            let sign_in = Some(("/sign-in", "common.sign_in"));
            visit.message("reset.done_title", "reset.done", sign_in, context! {})
        }
        Err(LinkError::Invalid | LinkError::EmailTaken) => link_is_invalid(&visit, invited),
        Err(LinkError::WeakPassword(error)) => {
            wrong.weak(&visit, "new_password", &error);
            again(&visit, StatusCode::UNPROCESSABLE_ENTITY, "reset.html", "", &wrong, own)
        }
        Err(LinkError::Hash(error)) => visit.fail(error.into()),
        Err(error) => visit.fail(error.into()),
    }
}
