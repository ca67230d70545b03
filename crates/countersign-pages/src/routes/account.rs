//! The account of who is signed in.

use axum::extract::{Request, State};
use axum::response::Response;
use countersign_axum::device;
use countersign_core::flow::{Credentials, EmailChange, EmailProof, Profile, ProfileChange, ProfileError};
use countersign_core::model::{EndReason, Language as Tag, Session, UserSession};
use countersign_core::store::SessionPage;
use countersign_http::ErrorCode;
use countersign_jwt::{SessionId, Timestamp};
use countersign_text::Language;
use http::StatusCode;
use minijinja::{Value, context};

use super::credentials::{refused, shown};
use super::fields::{Wrong, again};
use super::sign_in::now;
use crate::ago::{ago, day, day_in_words, machine};
use crate::device::Described;
use crate::failure::Failure;
use crate::form::Form;
use crate::pages::Pages;
use crate::visit::Visit;

/// The most sessions that are shown.
const MOST_SESSIONS: usize = 100;

/// `GET /account`
pub(crate) async fn overview(State(pages): State<Pages>, request: Request) -> Response {
    let (visit, caller, _) = match Visit::of_user(pages, request).await {
        Ok(opened) => opened,
        Err(response) => return response,
    };
    // One more than is shown, which tells whether there are more.
    let page = SessionPage::first(MOST_SESSIONS + 1);
    let mut sessions = match visit.auth().sessions().list(&caller.user.id, page).await {
        Ok(sessions) => sessions,
        Err(error) => return visit.fail(error.into()),
    };
    let more = sessions.len() > MOST_SESSIONS;
    sessions.truncate(MOST_SESSIONS);
    let current = caller.session().map(|session| session.id);
    // The one that the user looks at comes first.
    sessions.sort_by_key(|session| Some(session.id) != current);
    let now = now(&visit);
    let sessions: Vec<_> =
        sessions.iter().map(|session| row(&visit, session, Some(session.id) == current, now)).collect();
    let user = &caller.user;
    let since =
        day_in_words(&visit.pages.shared.words.load().templates.catalog, visit.language, user.created_at);
    let own = context! {
        email => user.email.as_ref().map(|email| email.as_str()).unwrap_or_default(),
        verified => user.has_verified_email(),
        username => user.username.as_ref().map(|username| username.as_str()).unwrap_or_default(),
        has_password => user.password_hash.is_some(),
        since => day(user.created_at),
        since_in_words => since,
        sessions,
        more,
    };
    visit.page(StatusCode::OK, "account.html", own)
}

fn row(visit: &Visit, session: &Session, current: bool, now: Timestamp) -> Value {
    let words = visit.pages.shared.words.load();
    let catalog = &words.templates.catalog;
    let agent = session.device.user_agent.as_deref().unwrap_or_default();
    let Described { program, system } = Described::of(agent);
    let device = match (program, system) {
        (Some(program), Some(system)) => {
            visit.text("device.both", &[("program", program), ("system", system)])
        }
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => visit.text("device.unknown", &[]),
    };
    // Who looks at the page is active now, whenever that was last written down.
    let seen = if current { now } else { session.last_seen_at };
    context! {
        id => session.id.to_string(),
        device,
        is_phone => matches!(system, Some("iPhone" | "Android" | "iPad")),
        address => session.device.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        current,
        seen => ago(catalog, visit.language, seen, now),
        seen_at => machine(seen),
        began => ago(catalog, visit.language, session.created_at, now),
        began_at => machine(session.created_at),
    }
}

/// `POST /account/sessions`: ends one session, or all but this one.
pub(crate) async fn end_sessions(State(pages): State<Pages>, request: Request) -> Response {
    let (visit, caller, form) = match Visit::of_user(pages, request).await {
        Ok(opened) => opened,
        Err(response) => return response,
    };
    let sessions = visit.auth().sessions();
    let user_id = caller.user.id.clone();
    let current = caller.session().map(|session| session.id);
    if form.given("others").is_some() {
        return match sessions.end_others(user_id, current).await {
            Ok(_) => visit.done("others_ended", "/account"),
            Err(error) => visit.fail(error.into()),
        };
    }
    let Ok(id) = form.get("session").parse::<SessionId>() else {
        return visit.fail(Failure::new(ErrorCode::NotFound));
    };
    // Only the user's own sessions have this key, so another user's id ends nothing.
    let key = UserSession { user_id, id };
    let is_live = match sessions.is_live(&key).await {
        Ok(is_live) => is_live,
        Err(error) => return visit.fail(error.into()),
    };
    let is_current = current == Some(id);
    let reason = if is_current { EndReason::LoggedOut } else { EndReason::EndedByUser };
    // A session that is over already is what was asked for.
    if is_live && let Err(error) = sessions.end(key, reason).await {
        return visit.fail(error.into());
    }
    if is_current { visit.sign_out("/signed-out") } else { visit.done("session_ended", "/account") }
}

/// `GET /account/email`
pub(crate) async fn email_form(State(pages): State<Pages>, request: Request) -> Response {
    match Visit::of_user(pages, request).await {
        Ok((visit, caller, _)) => {
            let own = context! { email => "", ..shown(&caller, &Form::default()) };
            visit.page(StatusCode::OK, "change_email.html", own)
        }
        Err(response) => response,
    }
}

/// `POST /account/email`
pub(crate) async fn email(State(pages): State<Pages>, request: Request) -> Response {
    const TEMPLATE: &str = "change_email.html";
    let (visit, caller, form) = match Visit::of_user(pages, request).await {
        Ok(opened) => opened,
        Err(response) => return response,
    };
    let own = context! { email => form.get("email").trim(), ..shown(&caller, &form) };
    let mut wrong = Wrong::default();
    let email = wrong.email(&visit, &form, true);
    if email.as_ref().is_some_and(|email| !visit.auth().engine().account_rules().allow_email(email)) {
        wrong.note(&visit, "email", "problem.email_not_here");
    }
    let password = wrong.password(&visit, &form, "current_password");
    let (true, Some(email), Some(password)) = (wrong.is_empty(), email, password) else {
        return again(&visit, StatusCode::UNPROCESSABLE_ENTITY, TEMPLATE, "", &wrong, own);
    };
    if let Err(error) = Credentials::of(visit.auth().accounts()).prove(&caller.user.id, password).await {
        return refused(&visit, TEMPLATE, error, &mut wrong, own);
    }
    let session = caller.session().map(|session| session.id);
    let client = device(&visit.parts).ip;
    let email = EmailChange { email, proof: EmailProof::Mail { session, client } };
    let change = ProfileChange { email: Some(email), ..ProfileChange::default() };
    match Profile::of(visit.auth().accounts()).change(&caller.user.id, change).await {
        Ok(_) if visit.auth().engine().sends_mail() => visit.done("email_sent", "/account"),
        Ok(_) => visit.done("email_changed", "/account"),
        Err(error) => not_changed(&visit, TEMPLATE, error, &mut wrong, own),
    }
}

/// Shows the form again, or says what failed.
fn not_changed(
    visit: &Visit,
    template: &str,
    error: ProfileError,
    wrong: &mut Wrong,
    own: Value,
) -> Response {
    match error {
        ProfileError::EmailTaken => wrong.note(visit, "email", "problem.email_taken"),
        ProfileError::UsernameTaken => wrong.note(visit, "username", "problem.username_taken"),
        ProfileError::NoName => wrong.note(visit, "username", "problem.no_name"),
        ProfileError::Gone => return visit.sign_out("/sign-in"),
        ProfileError::Contended => {
            let alert = visit.text("problem.conflict", &[]);
            return again(visit, StatusCode::CONFLICT, template, &alert, wrong, own);
        }
        error => return visit.fail(error.into()),
    }
    again(visit, StatusCode::CONFLICT, template, "", wrong, own)
}

/// `GET /account/username`
pub(crate) async fn username_form(State(pages): State<Pages>, request: Request) -> Response {
    match Visit::of_user(pages, request).await {
        Ok((visit, caller, _)) => {
            let username =
                caller.user.username.as_ref().map(|username| username.as_str()).unwrap_or_default();
            visit.page(StatusCode::OK, "change_username.html", context! { username })
        }
        Err(response) => response,
    }
}

/// `POST /account/username`: an empty field removes the username.
pub(crate) async fn username(State(pages): State<Pages>, request: Request) -> Response {
    const TEMPLATE: &str = "change_username.html";
    let (visit, caller, form) = match Visit::of_user(pages, request).await {
        Ok(opened) => opened,
        Err(response) => return response,
    };
    let own = context! { username => form.get("username") };
    let mut wrong = Wrong::default();
    let username = wrong.username(&visit, &form, false);
    if !wrong.is_empty() {
        return again(&visit, StatusCode::UNPROCESSABLE_ENTITY, TEMPLATE, "", &wrong, own);
    }
    let change = ProfileChange { username: Some(username), ..ProfileChange::default() };
    match Profile::of(visit.auth().accounts()).change(&caller.user.id, change).await {
        Ok(_) => visit.done("username_changed", "/account"),
        Err(error) => not_changed(&visit, TEMPLATE, error, &mut wrong, own),
    }
}

/// `GET /account/language`
pub(crate) async fn language_form(State(pages): State<Pages>, request: Request) -> Response {
    match Visit::of_user(pages, request).await {
        Ok((visit, _, _)) => visit.page(StatusCode::OK, "change_language.html", context! {}),
        Err(response) => response,
    }
}

/// `POST /account/language`: the language of the account, and of this browser.
pub(crate) async fn language(State(pages): State<Pages>, request: Request) -> Response {
    let (visit, caller, form) = match Visit::of_user(pages, request).await {
        Ok(opened) => opened,
        Err(response) => return response,
    };
    let Some(language) = Language::of_tag(form.get("language")) else {
        return visit.fail(Failure::new(ErrorCode::InvalidRequest));
    };
    let tag = match Tag::parse(language.tag()) {
        Ok(tag) => tag,
        Err(error) => return visit.fail(Failure::internal(&error)),
    };
    let change = ProfileChange { language: Some(Some(tag)), ..ProfileChange::default() };
    match Profile::of(visit.auth().accounts()).change(&caller.user.id, change).await {
        Ok(_) => {
            let mut response = visit.done("language_changed", "/account");
            visit.pages.keep_language(&mut response, language);
            response
        }
        Err(error) => not_changed(&visit, "change_language.html", error, &mut Wrong::default(), context! {}),
    }
}

/// `GET /account/close`
pub(crate) async fn close_form(State(pages): State<Pages>, request: Request) -> Response {
    match Visit::of_user(pages, request).await {
        Ok((visit, caller, _)) => visit.page(StatusCode::OK, "close.html", shown(&caller, &Form::default())),
        Err(response) => response,
    }
}

/// `POST /account/close`
pub(crate) async fn close(State(pages): State<Pages>, request: Request) -> Response {
    const TEMPLATE: &str = "close.html";
    let (mut visit, caller, form) = match Visit::of_user(pages, request).await {
        Ok(opened) => opened,
        Err(response) => return response,
    };
    let own = shown(&caller, &form);
    let mut wrong = Wrong::default();
    let Some(password) = wrong.password(&visit, &form, "current_password") else {
        return again(&visit, StatusCode::UNPROCESSABLE_ENTITY, TEMPLATE, "", &wrong, own);
    };
    if let Err(error) = Credentials::of(visit.auth().accounts()).prove(&caller.user.id, password).await {
        return refused(&visit, TEMPLATE, error, &mut wrong, own);
    }
    if let Err(error) = Profile::of(visit.auth().accounts()).delete(&caller.user.id).await {
        return not_changed(&visit, TEMPLATE, error, &mut wrong, own);
    }
    // The page is shown to somebody who has no account any more.
    visit.forget();
    visit.message("closed.title", "closed.body", None, context! {})
}
