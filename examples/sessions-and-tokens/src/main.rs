//! Login sessions for browsers and tokens for programs, in one application.

use std::sync::OnceLock;

use axum::extract::Request;
use axum::response::{Html, IntoResponse, Redirect};
use axum::routing::{get, post};
use axum::{Extension, Form, Json, Router};
use countersign::axum::{
    AuthLayer, Confirm, CsrfToken, CurrentUser, Fresh, Next, Reply, SignIn, SignOut, device, routes,
};
use countersign::engine::flow::{Check, CheckError, Presentation};
use countersign::http::{ErrorCode, LoaderRequest, LoginSessions};
use countersign::{Auth, UserId, sqlite};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The application's own users. A real one has a table, and hashes (docs/own-users.md).
#[derive(Clone, Copy)]
struct Member {
    number: &'static str,
    name: &'static str,
    password: &'static str,
}

const MEMBERS: [Member; 2] = [
    Member { number: "1", name: "ada", password: "correct horse" },
    Member { number: "2", name: "bob", password: "battery staple" },
];

static AUTH: OnceLock<Auth> = OnceLock::new();

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The claim by which tokens name the user to this application, beside `sub`.
    let claim = std::env::var("IDENTITY_CLAIM").unwrap_or("member".to_owned());
    let (store, secrets) = sqlite::open("app.db").await?;
    let (issued, read) = (claim.clone(), claim);
    let auth = Auth::builder(store, secrets)
        .served_at("http://localhost:3000".parse()?) // `.public_url(…)` with https where users come from outside
        .login_sessions(LoginSessions::new().sign_in_page("/login").confirm_page("/confirm"))
        .user_loader(by_id)
        .request_loader_with_json(move |request| by_token_in_json(request, read.clone()))
        .access_claims(move |user: UserId| {
            let claims = Map::from_iter([(issued.clone(), json!(user.as_str()))]);
            async move { Ok::<_, std::convert::Infallible>(claims) }
        })
        .build()
        .await?;
    let _ = AUTH.set(auth.clone());
    let app = Router::new()
        .route("/", get(home))
        .route("/notes", post(note))
        .route("/password", get(password))
        .route("/login", get(login_page).post(login))
        .route("/confirm", get(confirm_page).post(confirm))
        .route("/logout", post(logout))
        .route("/token", post(token))
        .merge(routes())
        .layer(AuthLayer::new(auth)); // after the routes
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

/// Loads the user of a session, or of a token in `Authorization`.
async fn by_id(id: UserId) -> Result<Option<Member>, std::convert::Infallible> {
    Ok(MEMBERS.into_iter().find(|member| member.number == id.as_str()))
}

/// Loads the user of a token in the JSON body: `{"token": "…"}`.
async fn by_token_in_json(request: LoaderRequest, claim: String) -> Result<Option<Member>, CheckError> {
    let body = request.json.unwrap_or_default();
    let (Some(token), Some(auth)) = (body["token"].as_str(), AUTH.get()) else { return Ok(None) };
    let claims = match auth.sessions().verification().verify(token, Check::ACCESS).await {
        Ok(claims) => claims,
        Err(error @ (CheckError::ViewTooOld(_) | CheckError::Store(_))) => return Err(error), // 503
        Err(_) => return Ok(None),
    };
    let number = claims.get::<String>(&claim).unwrap_or_default();
    Ok(MEMBERS.into_iter().find(|member| Some(member.number) == number.as_deref()))
}

/// A page for whoever is signed in. Others are sent to the sign-in page and come back here.
async fn home(CurrentUser(member): CurrentUser<Member>, csrf: CsrfToken) -> impl IntoResponse {
    let html = format!(
        r#"<p>Hello {}</p>
           <form method="post" action="/notes">{1}<input name="note"><button>Note</button></form>
           <form method="post" action="/logout">{1}<button>Sign out</button></form>"#,
        member.name,
        csrf.input()
    );
    (csrf, Html(html)) // the value keeps the page out of caches
}

#[derive(Deserialize)]
struct Note {
    note: String,
}

/// A form of a page, or JSON of a program with its token. Either way the user is known before the body is read.
async fn note(CurrentUser(member): CurrentUser<Member>, request: Request) -> Result<String, Reply> {
    use axum::extract::FromRequest as _;
    let is_json = request.headers().get("content-type").is_some_and(|kind| kind == "application/json");
    let note = if is_json {
        Json::<Note>::from_request(request, &()).await.map(|Json(Note { note })| note).ok()
    } else {
        Form::<Note>::from_request(request, &()).await.map(|Form(Note { note })| note).ok()
    };
    let note = note.ok_or_else(|| Reply::error(ErrorCode::InvalidRequest))?;
    Ok(format!("{} notes {note}", member.name))
}

/// Only soon after the password was given.
async fn password(member: Fresh<CurrentUser<Member>>) -> String {
    format!("{} may change the password", member.name)
}

async fn login_page(next: Next) -> Html<String> {
    Html(format!(
        r#"<form method="post" action="{}"><input name="name" autocomplete="username">
           <input name="password" type="password" autocomplete="current-password">
           <label><input name="remember" type="checkbox" value="true">Remember me</label>
           <button>Sign in</button></form>"#,
        next.after("/login").replace('&', "&amp;")
    ))
}

#[derive(Deserialize)]
struct Login {
    name: String,
    password: String,
    #[serde(default)]
    remember: bool,
}

/// The id of the member whose password it is.
fn check(name: &str, password: &str) -> Result<UserId, Reply> {
    let mut found = MEMBERS.iter().filter(|member| member.name == name && member.password == password);
    let id = found.next().and_then(|member| UserId::new(member.number).ok());
    id.ok_or_else(|| Reply::error(ErrorCode::InvalidCredentials))
}

async fn login(sign_in: SignIn, next: Next, Form(form): Form<Login>) -> Result<impl IntoResponse, Reply> {
    let id = check(&form.name, &form.password)?;
    Ok((sign_in.remember(form.remember).user(&id).await?, Redirect::to(next.or("/"))))
}

async fn confirm_page(next: Next, csrf: CsrfToken) -> impl IntoResponse {
    let html = format!(
        r#"<form method="post" action="{}">{}<input name="password" type="password"><button>It is me</button></form>"#,
        next.after("/confirm").replace('&', "&amp;"),
        csrf.input()
    );
    (csrf, Html(html))
}

#[derive(Deserialize)]
struct Again {
    password: String,
}

async fn confirm(confirm: Confirm, next: Next, Form(form): Form<Again>) -> Result<impl IntoResponse, Reply> {
    // Whoever the browser's session is of, and nobody whom a token beside it names.
    let member = MEMBERS.iter().find(|member| member.number == confirm.subject().as_str());
    check(member.map_or("", |member| member.name), &form.password)?;
    Ok((confirm.now().await?, Redirect::to(next.or("/"))))
}

async fn logout(sign_out: SignOut) -> Result<impl IntoResponse, Reply> {
    Ok((sign_out.now().await?, Redirect::to("/login")))
}

/// A pair of tokens for a program.
async fn token(
    Extension(auth): Extension<Auth>,
    parts: axum::http::request::Parts,
    Json(login): Json<Login>,
) -> Result<Json<Value>, Reply> {
    let id = check(&login.name, &login.password)?;
    let epoch = auth.sessions().epoch(&id).await?;
    let pair = auth.sessions().begin(id, epoch, Presentation::Explicit, device(&parts)).await?;
    Ok(Json(json!({ "access_token": pair.access_token, "refresh_token": pair.refresh_token })))
}
