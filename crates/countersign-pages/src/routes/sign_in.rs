//! Registering and signing in with a password.

use axum::extract::{Request, State};
use axum::response::Response;
use countersign_core::flow::{LoginError, LoginName, RegisterError, Registration, preferred_language};
use countersign_core::model::{EmailAddress, OwnNames, Username};
use countersign_http::{AccountRules, LoginNames, RegistrationMode};
use countersign_jwt::Timestamp;
use http::{StatusCode, header};
use minijinja::{Value, context};

use super::fields::{Wrong, again, minimum, stale};
use crate::form::Form;
use crate::pages::Pages;
use crate::visit::{Visit, add_retry_after};

/// `GET /register`
pub(crate) async fn register_form(State(pages): State<Pages>, request: Request) -> Response {
    match Visit::open(pages, request).await {
        Ok((visit, _)) if visit.caller.is_some() => visit.go(&visit.onward("/account")),
        Ok((visit, _)) if is_closed(rules(&visit)) => closed(&visit),
        Ok((visit, _)) => visit.blank("/register", "register.html", || asked(&visit, &Form::default())),
        Err(response) => response,
    }
}

/// `POST /register`
pub(crate) async fn register(State(pages): State<Pages>, request: Request) -> Response {
    let (visit, arrival, form) = match Visit::arriving(pages, request).await {
        Ok(arrived) => arrived,
        Err(response) => return response,
    };
    if is_closed(rules(&visit)) {
        return closed(&visit);
    }
    if !visit.is_ours(&form) {
        return stale(&visit, "register.html", asked(&visit, &form));
    }
    let mut wrong = Wrong::default();
    let Needed { email: needs_email, username: needs_username } = Needed::by(rules(&visit));
    let has_username = form.given("username").is_some();
    let is_either = rules(&visit).login_names == LoginNames::Both;
    let email = wrong.email(&visit, &form, needs_email && !(is_either && has_username));
    if email.as_ref().is_some_and(|email| !rules(&visit).allow_email(email)) {
        wrong.note(&visit, "email", "problem.email_not_here");
    }
    let username = wrong.username(&visit, &form, needs_username);
    let names = OwnNames { email: email.as_ref(), username: username.as_ref() };
    let password = match form.exactly("password") {
        Some(text) => match visit.auth().accounts().passwords().rules.admit(text, names) {
            Ok(password) => Some(password),
            Err(error) => {
                wrong.weak(&visit, "password", &error);
                None
            }
        },
        None => {
            wrong.note(&visit, "password", "problem.required");
            None
        }
    };
    let (true, Some(password)) = (wrong.is_empty(), password) else {
        return register_again(&visit, &form, &wrong);
    };
    let asked_for = visit.parts.headers.get(header::ACCEPT_LANGUAGE).and_then(|field| field.to_str().ok());
    // The page's language is the one that the visitor reads, whatever else the browser asks for.
    let language =
        preferred_language(visit.language.tag()).or_else(|| asked_for.and_then(preferred_language));
    let address = email.as_ref().map(|email| email.as_str().to_owned()).unwrap_or_default();
    let registration = Registration { email, username, password, language };
    let accounts = visit.auth().accounts().clone();
    let refused = if rules(&visit).registration == RegistrationMode::VerifyFirst {
        match accounts.register_unseen(registration, arrival.device).await {
            Ok(()) => {
                return visit.message(
                    "verify.sent_title",
                    "verify.first",
                    None,
                    context! { email => address },
                );
            }
            Err(error) => error,
        }
    } else {
        match accounts.register(registration, arrival).await {
            Ok(signed_in) => {
                let note = visit.next.is_none().then_some("welcome");
                return visit.sign_in(&signed_in, &visit.onward("/account"), note);
            }
            Err(error) => error,
        }
    };
    match refused {
        RegisterError::EmailTaken => wrong.note(&visit, "email", "problem.email_taken"),
        RegisterError::UsernameTaken => wrong.note(&visit, "username", "problem.username_taken"),
        RegisterError::NoName => wrong.note(&visit, "email", "problem.no_name"),
        RegisterError::WeakPassword(error) => wrong.weak(&visit, "password", &error),
        RegisterError::Hash(error) => return visit.fail(error.into()),
        RegisterError::Begin(error) => return visit.fail(error.into()),
        error => return visit.fail(error.into()),
    }
    register_again(&visit, &form, &wrong)
}

fn register_again(visit: &Visit, form: &Form, wrong: &Wrong) -> Response {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    again(visit, status, "register.html", "", wrong, asked(visit, form))
}

/// The values of the form to register.
fn asked(visit: &Visit, form: &Form) -> Value {
    let needed = Needed::by(rules(visit));
    context! {
        names => names(rules(visit)),
        needs_email => needed.email,
        needs_username => needed.username,
        email => form.get("email"),
        username => form.get("username"),
        minimum => minimum(visit),
    }
}

/// The names that the form to register asks for.
struct Needed {
    email: bool,
    username: bool,
}

impl Needed {
    fn by(rules: &AccountRules) -> Self {
        let verify_first = rules.registration == RegistrationMode::VerifyFirst;
        match rules.login_names {
            LoginNames::Email | LoginNames::Both => Self { email: true, username: false },
            LoginNames::Username => Self { email: verify_first, username: true },
        }
    }
}

fn names(rules: &AccountRules) -> &'static str {
    match rules.login_names {
        LoginNames::Email => "email",
        LoginNames::Username => "username",
        LoginNames::Both => "both",
    }
}

fn rules(visit: &Visit) -> &AccountRules {
    visit.auth().engine().account_rules()
}

fn is_closed(rules: &AccountRules) -> bool {
    matches!(rules.registration, RegistrationMode::Invite | RegistrationMode::Closed)
}

fn closed(visit: &Visit) -> Response {
    let sign_in = Some(("/sign-in", "common.sign_in"));
    let mut response = visit.message("register.closed_title", "register.closed", sign_in, context! {});
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}

/// `GET /sign-in`
pub(crate) async fn form(State(pages): State<Pages>, request: Request) -> Response {
    match Visit::open(pages, request).await {
        Ok((visit, _)) if visit.caller.is_some() => visit.go(&visit.onward("/account")),
        Ok((visit, _)) => visit.blank("/sign-in", "sign_in.html", || named(&visit, &Form::default())),
        Err(response) => response,
    }
}

/// `POST /sign-in`
pub(crate) async fn submit(State(pages): State<Pages>, request: Request) -> Response {
    let (visit, mut arrival, form) = match Visit::arriving(pages, request).await {
        Ok(arrived) => arrived,
        Err(response) => return response,
    };
    if !visit.is_ours(&form) {
        return stale(&visit, "sign_in.html", named(&visit, &form));
    }
    let mut wrong = Wrong::default();
    if form.given("name").is_none() {
        wrong.note(&visit, "name", "problem.required");
    }
    let password = wrong.password(&visit, &form, "password");
    let (true, Some(password)) = (wrong.is_empty(), password) else {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return again(&visit, status, "sign_in.html", "", &wrong, named(&visit, &form));
    };
    let name = form.given("name").unwrap_or_default();
    // No account's name is longer, so this answer does not reveal who is registered.
    let is_possible = name.len() <= EmailAddress::MAX_BYTES.max(4 * Username::MAX_CODE_POINTS)
        && !name.chars().any(char::is_control);
    arrival.verified_only = rules(&visit).registration == RegistrationMode::VerifyFirst;
    let answered = match is_possible {
        true => visit.auth().accounts().login(LoginName::parse(name), password, arrival).await,
        false => Err(LoginError::InvalidCredentials),
    };
    match answered {
        Ok(signed_in) => visit.sign_in(&signed_in, &visit.onward("/account"), None),
        Err(LoginError::InvalidCredentials) => {
            let alert = visit.text("sign_in.wrong", &[]);
            let status = StatusCode::UNAUTHORIZED;
            again(&visit, status, "sign_in.html", &alert, &wrong, named(&visit, &form))
        }
        Err(LoginError::EmailUnverified) => {
            let alert = visit.text("sign_in.unverified", &[]);
            let own = context! { kind => "unverified", ..named(&visit, &form) };
            again(&visit, StatusCode::FORBIDDEN, "sign_in.html", &alert, &wrong, own)
        }
        Err(LoginError::TooManyAttempts { retry_after }) => {
            let alert = visit.text("problem.too_many", &[("wait", &visit.lasting(retry_after))]);
            let status = StatusCode::TOO_MANY_REQUESTS;
            let mut response = again(&visit, status, "sign_in.html", &alert, &wrong, named(&visit, &form));
            add_retry_after(&mut response, Some(retry_after));
            response
        }
        Err(LoginError::Hash(error)) => visit.fail(error.into()),
        Err(LoginError::Begin(countersign_core::flow::BeginError::TooManySessions)) => {
            let alert = visit.text("problem.sessions_full", &[]);
            again(&visit, StatusCode::CONFLICT, "sign_in.html", &alert, &wrong, named(&visit, &form))
        }
        Err(LoginError::Begin(error)) => visit.fail(error.into()),
        Err(error) => visit.fail(error.into()),
    }
}

fn named(visit: &Visit, form: &Form) -> Value {
    context! {
        names => names(rules(visit)),
        name => form.get("name"),
        remembers => form.given("remember").is_some(),
    }
}

/// The time by the store's clock.
pub(super) fn now(visit: &Visit) -> Timestamp {
    visit.auth().engine().now()
}
