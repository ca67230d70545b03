//! Pages rendered by the server, with tokens in cookies: a program of docs/examples.md.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Form, Router};
use countersign::axum::{
    AccessToken, AuthLayer, Confirm, CsrfToken, CurrentUser, Fresh, HandlerError, Next, SignIn, SignOut,
};
use countersign::engine::flow::{Credentials, CredentialsError, EmailChange, EmailProof, LoginError};
use countersign::engine::flow::{Profile, ProfileChange, RegisterError};
use countersign::engine::model::{EmailAddress, Password};
use countersign::http::LoginSessions;
use countersign::{Auth, User, UserId, sqlite};
use serde::Deserialize;

/// What users have noted. It stands in for a table.
type Notes = Arc<Mutex<HashMap<UserId, Vec<String>>>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (store, secrets) = sqlite::open("cookies.db").await?;
    let auth = Auth::builder(store, secrets)
        .served_at("http://localhost:3000".parse()?) // `.public_url(…)` with https where users come from outside
        .login_sessions(LoginSessions::new().sign_in_page("/sign-up").confirm_page("/confirm"))
        .build()
        .await?;
    let app = Router::new()
        .route("/", get(home))
        .route("/notes", post(note))
        .route("/account", get(account).post(change_email))
        .route("/sign-up", get(async || sign_form("")).post(sign_up))
        .route("/sign-in", get(async || sign_form("")).post(sign_in))
        .route("/confirm", get(confirm_form).post(confirm))
        .route("/sign-out", post(sign_out))
        .layer(AuthLayer::new(auth)) // after the routes
        .with_state(Notes::default());
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app.into_make_service_with_connect_info::<std::net::SocketAddr>()).await?)
}

/// Strangers are sent to sign up, and come back here. A session whose access token has expired goes on.
async fn home(CurrentUser(user): CurrentUser<User>, csrf: CsrfToken, State(notes): State<Notes>) -> Response {
    let notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
    let items = notes.get(&user.id).into_iter().flatten().map(|note| format!("<li>{}</li>", escaped(note)));
    let html = format!(
        r#"<h1>Hello {}</h1><ul>{}</ul>
           <form method="post" action="/notes">{csrf}<input name="note"><button>Note</button></form>
           <form method="post" action="/sign-out">{csrf}<button>Sign out</button></form>"#,
        escaped(email(&user)),
        items.collect::<String>(),
        csrf = csrf.input()
    );
    (csrf, Html(html)).into_response() // the value keeps the page out of caches
}

#[derive(Deserialize)]
struct Note {
    note: String,
}

async fn note(token: AccessToken, State(notes): State<Notes>, Form(form): Form<Note>) -> Redirect {
    let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
    notes.entry(token.subject().clone()).or_default().push(form.note);
    Redirect::to("/")
}

/// Account settings: only soon after the password was given. Otherwise the page to confirm it comes first.
async fn account(user: Fresh<CurrentUser<User>>, csrf: CsrfToken) -> impl IntoResponse {
    let html = format!(
        r#"<h1>Account of {}</h1>
           <form method="post">{}<input name="email" type="email"><button>Change the address</button></form>"#,
        escaped(email(&user)),
        csrf.input()
    );
    (csrf, Html(html))
}

#[derive(Deserialize)]
struct Email {
    email: String,
}

async fn change_email(
    token: Fresh<AccessToken>,
    Extension(auth): Extension<Auth>,
    Form(form): Form<Email>,
) -> Result<Redirect, HandlerError> {
    // The user's sessions on other devices end.
    let proof = EmailProof::Mail { session: token.session().map(|session| session.id), client: None };
    let email = EmailChange { email: EmailAddress::parse(&form.email)?, proof };
    let change = ProfileChange { email: Some(email), ..ProfileChange::default() };
    Profile::of(auth.accounts()).change(token.subject(), change).await?;
    Ok(Redirect::to("/account"))
}

#[derive(Deserialize)]
struct Sign {
    email: String,
    password: String,
}

/// A form without an `action` is sent to its own page, together with `next`.
fn sign_form(message: &str) -> Html<String> {
    Html(format!(
        r#"<p>{message}</p><form method="post"><input name="email" type="email" autocomplete="username">
           <input name="password" type="password"><button>Go on</button></form>
           <a href="/sign-up">Sign up</a> <a href="/sign-in">Sign in</a>"#
    ))
}

async fn sign_up(sign_in: SignIn, next: Next, Form(form): Form<Sign>) -> Result<Response, HandlerError> {
    let error = match sign_in.register(&form.email, form.password).await {
        Ok(cookies) => return Ok((cookies, Redirect::to(next.or("/"))).into_response()),
        Err(error) => error,
    };
    match error.cause() {
        Some(RegisterError::EmailTaken) => Ok(sign_form("This address has an account.").into_response()),
        Some(RegisterError::WeakPassword(reason)) => Ok(sign_form(&reason.to_string()).into_response()),
        _ => Err(error),
    }
}

async fn sign_in(sign_in: SignIn, next: Next, Form(form): Form<Sign>) -> Result<Response, HandlerError> {
    let error = match sign_in.login(&form.email, form.password).await {
        Ok(cookies) => return Ok((cookies, Redirect::to(next.or("/"))).into_response()),
        Err(error) => error,
    };
    match error.cause() {
        Some(LoginError::InvalidCredentials) => Ok(sign_form("That is not right.").into_response()),
        _ => Err(error),
    }
}

async fn confirm_form(csrf: CsrfToken) -> Response {
    let form = r#"<input name="password" type="password"><button>It is me</button>"#;
    let html = format!(r#"<form method="post">{}{form}</form>"#, csrf.input());
    (csrf, Html(html)).into_response()
}

#[derive(Deserialize)]
struct Again {
    password: String,
}

async fn confirm(
    confirm: Confirm,
    csrf: CsrfToken,
    Extension(auth): Extension<Auth>,
    next: Next,
    Form(form): Form<Again>,
) -> Result<Response, HandlerError> {
    let password = Password::new_for_login(form.password)?;
    match Credentials::of(auth.accounts()).prove(confirm.subject(), password).await {
        Ok(_) => Ok((confirm.now().await?, Redirect::to(next.or("/"))).into_response()),
        Err(CredentialsError::WrongPassword) => Ok(confirm_form(csrf).await),
        Err(error) => Err(error.into()),
    }
}

/// Ends the session, and with it every copy of its cookies. The answer clears the browser's.
async fn sign_out(sign_out: SignOut) -> Result<impl IntoResponse, HandlerError> {
    Ok((sign_out.now().await?, Redirect::to("/sign-in")))
}

fn email(user: &User) -> &str {
    user.email.as_ref().map_or("", EmailAddress::as_str)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
