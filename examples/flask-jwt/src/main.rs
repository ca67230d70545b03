//! Flask-JWT's login endpoint, header prefix and current identity: a program of docs/examples.md.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::Arc;

use axum::{Router, routing::get};
use countersign::axum::AuthLayer;
use countersign::engine::flow::{HashPool, HashRecipe};
use countersign::engine::model::{Password, PasswordHash};
use countersign::engine::store::BoxError;
use countersign::flask::axum::{FlaskAuth, flask_jwt_routes};
use countersign::flask::flask_jwt::Identity;
use countersign::flask::tokens::FlaskClaims;
use countersign::flask::{FlaskJwt, FlaskJwtConfig, Options};
use countersign::http::OsRandom;
use serde_json::Value;
use tokio::runtime::Handle;

#[derive(Clone, Copy)]
struct Member {
    id: i64,
    name: &'static str,
    password_hash: &'static str,
}

/// Stands in for the Flask application's table.
const MEMBERS: [Member; 1] = [Member {
    id: 1,
    name: "ada",
    password_hash: "pbkdf2:sha256:1000000$UN9YSsDyN32q9YyN$\
                    dfe205e7eb9fed51f5def79e0a210e51c6e0bda74a82aa918657e2516a649403",
}];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (random, recipe) = (Arc::new(OsRandom), HashRecipe::default());
    let hashes =
        HashPool::new(Handle::current(), NonZeroUsize::MIN, HashPool::DEFAULT_QUEUE, recipe, random)?;
    // SECRET_KEY, and the JWT_… options of the Flask application
    let config = FlaskJwtConfig::from_options(Options::from_environment(std::env::vars()))?;
    let jwt = FlaskJwt::builder(config)
        .authenticate(move |name, password| authenticate(hashes.clone(), name, password))
        .user(identity)
        .build()?;
    let app = Router::new()
        .route("/me", get(me))
        .merge(flask_jwt_routes(&jwt)) // POST /auth
        .layer(AuthLayer::new(Arc::new(jwt))); // after the routes
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

/// The `authentication_handler`: whose name and password these are. Both come as they were sent, of any JSON type.
async fn authenticate(hashes: HashPool, name: Value, password: Value) -> Result<Option<Identity>, BoxError> {
    let (Value::String(name), Value::String(password)) = (name, password) else { return Ok(None) };
    let Ok(password) = Password::new_for_login(password) else { return Ok(None) };
    let member = MEMBERS.into_iter().find(|member| member.name == name);
    let hash = member.map(|member| PasswordHash::from_stored(member.password_hash.to_owned()));
    let is_right = hashes.verify(password, hash).await?; // without a hash, too, so that time tells no names
    Ok(member.filter(|_| is_right).map(|member| Identity::new(member.id, member)))
}

/// The `identity_handler`: the user of a token.
async fn identity(claims: FlaskClaims) -> Result<Option<Member>, Infallible> {
    Ok(MEMBERS.into_iter().find(|member| *claims.identity() == member.id))
}

/// `@jwt_required()` and `current_identity`.
async fn me(auth: FlaskAuth) -> String {
    let member = auth.user::<Member>();
    format!("you are {}", member.map_or("nobody", |member| member.name))
}
