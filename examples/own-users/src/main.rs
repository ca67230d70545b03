//! An app whose users are in a table of its own: the program of docs/own-users.md.

use axum::response::{Html, IntoResponse, Redirect};
use axum::routing::{get, post};
use axum::{Extension, Form, Json, Router};
use countersign::axum::{AuthLayer, CurrentUser, Fresh, Guard, HandlerError, SignIn, login_routes, routes};
use countersign::engine::model::EndReason;
use countersign::{Auth, CheckPassword, FindUser, Requirement, UserId, sqlite};
use serde::Deserialize;
use serde_json::{Map, json};
use sqlx::SqlitePool;

#[derive(Clone, sqlx::FromRow)]
struct Member {
    id: i64,
    email: String,
    name: String,
    password_hash: Option<String>,
}

struct Members(SqlitePool);

impl FindUser for Members {
    type User = Member;
    type Id = i64;
    type Error = sqlx::Error;

    fn id(member: &Member) -> i64 {
        member.id
    }

    async fn find_by_id(&self, id: i64) -> Result<Option<Member>, sqlx::Error> {
        let query = sqlx::query_as("SELECT * FROM users WHERE id = ? AND is_active");
        query.bind(id).fetch_optional(&self.0).await
    }

    async fn find_by_login_name(&self, name: &str) -> Result<Option<Member>, sqlx::Error> {
        let query = sqlx::query_as("SELECT * FROM users WHERE email = ? AND is_active");
        query.bind(name).fetch_optional(&self.0).await
    }
}

impl CheckPassword for Members {
    fn password_hash(member: &Member) -> Option<&str> {
        member.password_hash.as_deref()
    }

    async fn replace_password_hash(&self, member: &Member, old: &str, new: &str) -> Result<(), sqlx::Error> {
        let query = sqlx::query("UPDATE users SET password_hash = ? WHERE id = ? AND password_hash = ?");
        query.bind(new).bind(member.id).bind(old).execute(&self.0).await.map(|_| ())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let db = SqlitePool::connect("sqlite://app.db?mode=rwc").await?;
    sqlx::raw_sql(include_str!("../users.sql")).execute(&db).await?;
    let (store, secrets) = sqlite::open("sessions.db").await?;
    let roles = db.clone();
    let auth = Auth::builder(store, secrets)
        .served_at("http://localhost:3000".parse()?) // `.public_url(…)` with https where users come from outside
        .own_users(Members(db.clone()))
        .show_user(|member: &Member| Map::from_iter([("name".to_owned(), json!(member.name))]))
        .access_claims(move |id: UserId| {
            let db = roles.clone();
            async move {
                let query = sqlx::query_scalar::<_, String>("SELECT role FROM users WHERE id = ?");
                let role = query.bind(id.to_integer()).fetch_optional(&db).await?;
                Ok::<_, sqlx::Error>(Map::from_iter([("roles".to_owned(), json!(Vec::from_iter(role)))]))
            }
        })
        .build()
        .await?;
    let app = Router::new()
        .route("/", get(page))
        .route("/sign-in", post(sign_in))
        .route("/profile", get(async |member: CurrentUser<Member>| format!("hello {}", member.name)))
        .route("/password", post(change_password))
        .route("/members", get(list).route_layer(Guard::new(Requirement::ACCESS.role("admin"))))
        .merge(routes()) // refresh, logout, me, sessions, …
        .merge(login_routes()) // POST /v1/auth/login
        .layer(AuthLayer::new(auth)) // after the routes and their guards
        .layer(Extension(db));
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app.into_make_service_with_connect_info::<std::net::SocketAddr>()).await?)
}

async fn page(member: Option<CurrentUser<Member>>) -> Html<String> {
    Html(member.map_or("please sign in".to_owned(), |member| format!("welcome back, {}", member.id)))
}

#[derive(Deserialize)]
struct Login {
    name: String,
    password: String,
}

async fn sign_in(sign_in: SignIn, Form(login): Form<Login>) -> Result<impl IntoResponse, HandlerError> {
    Ok((sign_in.login(&login.name, login.password).await?, Redirect::to("/")))
}

async fn list(Extension(db): Extension<SqlitePool>) -> Result<Json<Vec<String>>, HandlerError> {
    Ok(Json(sqlx::query_scalar("SELECT email FROM users ORDER BY id").fetch_all(&db).await?))
}

async fn change_password(
    member: Fresh<CurrentUser<Member>>, // only soon after a login
    Extension(auth): Extension<Auth>,
    Extension(db): Extension<SqlitePool>,
    password: String,
) -> Result<&'static str, HandlerError> {
    let hash = auth.accounts().hash_new_password(password, &[&member.email]).await?;
    let query = sqlx::query("UPDATE users SET password_hash = ? WHERE id = ?");
    query.bind(hash.expose()).bind(member.id).execute(&db).await?;
    auth.sessions().end_all(member.id.into(), None, EndReason::CredentialsChanged).await?;
    Ok("sign in with the new password")
}
