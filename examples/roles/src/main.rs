//! Claims of the app's own, routes for admins, and signing members out: a program of docs/examples.md.

use std::convert::Infallible;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Extension, Json, Router};
use countersign::axum::{AccessToken, AuthLayer, Guard, HandlerError, login_routes, routes};
use countersign::engine::model::EndReason;
use countersign::{Auth, CheckPassword, FindUser, Requirement, UserId, sqlite};
use serde_json::{Map, Value, json};

#[derive(Clone, Copy)]
struct Member {
    name: &'static str,
    role: &'static str,
    plan: &'static str,
    password_hash: &'static str,
}

/// Stands in for the table of members (docs/own-users.md has one). Their names are their ids.
struct Members;

const MEMBERS: [Member; 2] = [
    Member {
        name: "ada",
        role: "admin",
        plan: "pro",
        password_hash: "scrypt:32768:8:1$yRq9OLsWkkFonCae$d9c7904710616872039ebb323446c92b0a18d9efafa5c2d64c7c1e\
                        41ffdfd89869136e2919a73bf7362b34c655fc7cfbdb33efd0d2961e3f265b0374678bea9d",
    },
    Member {
        name: "bob",
        role: "member",
        plan: "free",
        password_hash: "pbkdf2:sha256:1000000$UN9YSsDyN32q9YyN$\
                        dfe205e7eb9fed51f5def79e0a210e51c6e0bda74a82aa918657e2516a649403",
    },
];

impl FindUser for Members {
    type User = Member;
    type Id = String;
    type Error = Infallible;

    fn id(member: &Member) -> String {
        member.name.to_owned()
    }

    async fn find_by_id(&self, id: String) -> Result<Option<Member>, Infallible> {
        Ok(MEMBERS.into_iter().find(|member| member.name == id))
    }

    async fn find_by_login_name(&self, name: &str) -> Result<Option<Member>, Infallible> {
        Ok(MEMBERS.into_iter().find(|member| member.name == name))
    }
}

impl CheckPassword for Members {
    fn password_hash(member: &Member) -> Option<&str> {
        Some(member.password_hash)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (store, secrets) = sqlite::open("roles.db").await?;
    let auth = Auth::builder(store, secrets).own_users(Members).access_claims(own_claims).build().await?;
    let admins = Router::new()
        .route("/members", get(list))
        .route("/members/{name}/sessions", delete(sign_out_member))
        .route_layer(Guard::new(Requirement::ACCESS.role("admin")));
    let app = Router::new()
        .route("/plan", get(plan))
        .merge(admins)
        .merge(routes()) // refresh, logout, sessions, …
        .merge(login_routes())
        .layer(AuthLayer::new(auth)); // after the routes and their guards
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app.into_make_service_with_connect_info::<std::net::SocketAddr>()).await?)
}

/// What access tokens say beside what Countersign writes. Asked at login and at refresh.
async fn own_claims(id: UserId) -> Result<Map<String, Value>, Infallible> {
    let member = MEMBERS.into_iter().find(|member| member.name == id.as_str());
    let claims = member.map(|Member { role, plan, .. }| json!({ "roles": [role], "plan": plan }));
    Ok(claims.and_then(|claims| claims.as_object().cloned()).unwrap_or_default())
}

async fn plan(token: AccessToken) -> Result<String, HandlerError> {
    let plan: Option<String> = token.get("plan")?;
    Ok(format!("{} has the plan {}", token.subject(), plan.unwrap_or_default()))
}

async fn list() -> Json<[&'static str; 2]> {
    Json(MEMBERS.map(|member| member.name))
}

/// Ends all sessions of a member. Their tokens are refused from now on.
async fn sign_out_member(
    Path(name): Path<String>,
    Extension(auth): Extension<Auth>,
) -> Result<StatusCode, HandlerError> {
    let Some(member) = MEMBERS.into_iter().find(|member| member.name == name) else {
        return Ok(StatusCode::NOT_FOUND);
    };
    auth.sessions().end_all(UserId::new(member.name)?, None, EndReason::EndedByOperator).await?;
    Ok(StatusCode::NO_CONTENT)
}
