//! An app with header, cookie and form flows: the program of docs/http.md.

use axum::response::{Html, IntoResponse, Redirect};
use axum::routing::{get, post};
use axum::{Extension, Form, Router};
use countersign::axum::{
    AccessToken, AuthLayer, CsrfToken, Fresh, Guard, HandlerError, SignIn, WithCookies, account_routes,
    routes,
};
use countersign::{Auth, Requirement, UserId, sqlite};
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (store, secrets) = sqlite::open("app.db").await?;
    let auth = Auth::builder(store, secrets)
        .served_at("http://localhost:3000".parse()?) // `.public_url(…)` with https where users come from outside
        .access_claims(claims)
        .build()
        .await?;
    let app = Router::new()
        .route("/reports", get(reports).route_layer(Guard::new(Requirement::ACCESS.scope("reports:read"))))
        .route("/password", post(change_password))
        .route("/", get(page))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/notes", post(note))
        .merge(routes())
        .merge(account_routes()) // whoever reaches this app may register
        .layer(AuthLayer::new(auth)); // after the routes and their guards
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

/// What access tokens say beside what Countersign writes. Asked at login and at refresh.
async fn claims(_user: UserId) -> Result<Map<String, Value>, std::convert::Infallible> {
    Ok(Map::from_iter([("scope".to_owned(), json!("reports:read notes:write"))]))
}

async fn reports(token: AccessToken) -> String {
    format!("reports for {}", token.subject())
}

async fn change_password(_token: Fresh<AccessToken>) -> &'static str {
    "only soon after a login"
}

/// A page for everybody, with forms for those who are signed in.
async fn page(csrf: Option<CsrfToken>) -> impl IntoResponse {
    let html = match &csrf {
        None => {
            r#"<form method="post" action="/login"><input name="name"><input name="password" type="password">
                   <button>Sign in</button></form>"#
                .to_owned()
        }
        Some(csrf) => format!(
            r#"<form method="post" action="/notes">{0}<input name="note"><button>Note</button></form>
               <form method="post" action="/logout">{0}<button>Sign out</button></form>"#,
            csrf.input()
        ),
    };
    (csrf, Html(html)) // the value keeps the page out of caches
}

#[derive(Deserialize)]
struct Login {
    name: String,
    password: String,
}

async fn login(sign_in: SignIn, Form(login): Form<Login>) -> Result<impl IntoResponse, HandlerError> {
    Ok((sign_in.login(&login.name, login.password).await?, Redirect::to("/")))
}

async fn logout(
    Extension(auth): Extension<Auth>,
    token: AccessToken,
) -> Result<impl IntoResponse, HandlerError> {
    Ok((WithCookies(auth.sign_out(&token).await?), Redirect::to("/")))
}

#[derive(Deserialize)]
struct Note {
    note: String,
}

async fn note(_token: AccessToken, Form(form): Form<Note>) -> String {
    form.note
}
