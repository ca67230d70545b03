//! Signing in by a mailed code, or by the link beside it.

use axum::extract::{Request, State};
use axum::response::Response;
use countersign_axum::device;
use countersign_core::flow::{Arrival, CodeLoginError, Credentials, SecretCode};
use countersign_core::model::LinkToken;
use countersign_core::store::StoreError;
use http::StatusCode;
use minijinja::{Value, context};

use super::fields::{Wrong, again, stale};
use super::sign_out::no_such_page;
use crate::form::Form;
use crate::pages::Pages;
use crate::visit::Visit;

/// `GET /code`: asks for an address, or for the click that the link of a mail needs. Opening the link alone does
/// nothing, because programs that look through mails open links too (SEC-140).
pub(crate) async fn form(State(pages): State<Pages>, request: Request) -> Response {
    let (visit, _) = match Visit::open(pages, request).await {
        Ok(opened) => opened,
        Err(response) => return response,
    };
    if !visit.auth().engine().sends_mail() {
        return no_such_page(&visit);
    }
    if let Some(token) = visit.query("token") {
        return match whose(&visit, &token).await {
            Ok(email) => visit.page(StatusCode::OK, "code_link.html", context! { token, email }),
            Err(error) => visit.fail(error.into()),
        };
    }
    let user = visit.caller.as_ref().and_then(|caller| caller.user.email.as_ref());
    let email = user.map(|email| email.as_str()).unwrap_or_default().to_owned();
    visit.blank("/code", "code.html", || context! { email })
}

/// `POST /code`
pub(crate) async fn submit(State(pages): State<Pages>, request: Request) -> Response {
    let (visit, arrival, form) = match Visit::arriving(pages, request).await {
        Ok(arrived) => arrived,
        Err(response) => return response,
    };
    if !visit.auth().engine().sends_mail() {
        return no_such_page(&visit);
    }
    if form.given("token").is_some() {
        return by_link(&visit, arrival, &form).await;
    }
    if !visit.is_ours(&form) {
        return stale(&visit, "code.html", asked(&form));
    }
    let mut wrong = Wrong::default();
    let Some(email) = wrong.email(&visit, &form, true) else {
        return again(&visit, StatusCode::UNPROCESSABLE_ENTITY, "code.html", "", &wrong, asked(&form));
    };
    let credentials = Credentials::of(visit.auth().accounts());
    let Some(code) = form.given("code") else {
        if let Err(error) = credentials.mail_code(&email, device(&visit.parts).ip).await {
            return visit.fail(error.into());
        }
        return visit.page(StatusCode::OK, "code_enter.html", asked(&form));
    };
    // Mail programs and people put blanks between the digits.
    let digits: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    let answered = match SecretCode::parse(&digits) {
        Some(code) => credentials.login_with_code(&email, &code, arrival).await,
        None => Err(CodeLoginError::InvalidCredentials),
    };
    match answered {
        Ok(signed_in) => visit.sign_in(&signed_in, &visit.onward("/account"), None),
        Err(CodeLoginError::InvalidCredentials) => {
            let alert = visit.text("code.wrong", &[]);
            again(&visit, StatusCode::UNAUTHORIZED, "code_enter.html", &alert, &wrong, asked(&form))
        }
        Err(CodeLoginError::Begin(error)) => visit.fail(error.into()),
        Err(error) => visit.fail(error.into()),
    }
}

/// The address whose user a link signs in; empty for a link that is not good any more.
async fn whose(visit: &Visit, token: &str) -> Result<String, StoreError> {
    let Some(token) = LinkToken::parse(token) else { return Ok(String::new()) };
    let user = Credentials::of(visit.auth().accounts()).user_of_link(&token).await?;
    let email = user.and_then(|user| user.email);
    Ok(email.map(|email| email.as_str().to_owned()).unwrap_or_default())
}

async fn by_link(visit: &Visit, arrival: Arrival, form: &Form) -> Response {
    let token = form.given("token").unwrap_or_default();
    if !visit.is_ours(form) {
        return match whose(visit, token).await {
            Ok(email) => stale(visit, "code_link.html", context! { token, email }),
            Err(error) => visit.fail(error.into()),
        };
    }
    let answered = match LinkToken::parse(token) {
        Some(token) => Credentials::of(visit.auth().accounts()).login_with_link(&token, arrival).await,
        None => Err(CodeLoginError::InvalidCredentials),
    };
    match answered {
        Ok(signed_in) => visit.sign_in(&signed_in, &visit.onward("/account"), None),
        Err(CodeLoginError::InvalidCredentials) => invalid_link(visit, Some(("/code", "link.code"))),
        Err(CodeLoginError::Begin(error)) => visit.fail(error.into()),
        Err(error) => visit.fail(error.into()),
    }
}

/// The page for a link that was used before, has expired, was replaced or never sent.
pub(super) fn invalid_link(visit: &Visit, action: Option<(&str, &str)>) -> Response {
    let mut response = visit.message("link.title", "link.body", action, context! {});
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

fn asked(form: &Form) -> Value {
    context! {
        email => form.get("email").trim(),
        minutes => Credentials::CODE_LIVES.as_secs() / 60,
        remembers => form.given("remember").is_some(),
    }
}
