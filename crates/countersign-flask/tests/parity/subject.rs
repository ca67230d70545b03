//! Builds the application that a recording describes: real routes behind the real layer and guards.

mod flask_jwt;
mod flask_jwt_extended;
mod flask_login;
mod routes;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::StatusCode;
use serde_json::{Map, Value};
use tower::ServiceExt as _;

use crate::compare::Answer;
use crate::hooks::Key;
use crate::recording::Application;
use crate::replay::{NotBuilt, Subject, World};

pub(crate) fn build(application: &Application, world: &Arc<World>) -> Result<Box<dyn Subject>, NotBuilt> {
    match application {
        Application::FlaskJwtExtended { config, routes, hooks } => {
            Ok(Box::new(flask_jwt_extended::build(config, routes, hooks, world)?))
        }
        Application::FlaskJwt { config, routes, hooks } => {
            Ok(Box::new(flask_jwt::build(config, routes, hooks, world)?))
        }
        Application::FlaskLogin { config, manager, routes, hooks } => {
            Ok(Box::new(flask_login::build(config, manager, routes, hooks, world)?))
        }
    }
}

/// Sends a request through a router.
async fn send(router: &Router, request: http::Request<Body>) -> Answer {
    let response = match router.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let (parts, body) = response.into_parts();
    let mut body = to_bytes(body, usize::MAX).await.expect("a body made here can be read");
    // The server that would stand before the router does not send it (RFC 9110 §15.3.5, §15.4.5).
    if matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        body.clear();
    }
    Answer { status: parts.status.as_u16(), headers: parts.headers, body: body.to_vec() }
}

/// Keys that are given as bytes, by the names of their options.
type ByteKeys = Vec<(String, Vec<u8>)>;

/// Takes what is not text out of a configuration: keys as bytes. All names must be among those that are known.
fn take_byte_keys(
    config: &Map<String, Value>,
    known: &[&str],
) -> Result<(Map<String, Value>, ByteKeys), NotBuilt> {
    let (mut rest, mut keys) = (Map::new(), Vec::new());
    for (name, value) in config {
        if !known.contains(&name.as_str()) {
            return Err(NotBuilt::Unknown(format!("config: {name} is not known")));
        }
        let is_key = name.ends_with("_KEY") && value.is_object();
        if is_key {
            let key =
                Key::parse(value).map_err(|error| NotBuilt::Unknown(format!("config: {name}: {error}")))?;
            keys.push((name.clone(), key.bytes().to_vec()));
        } else {
            rest.insert(name.clone(), value.clone());
        }
    }
    Ok((rest, keys))
}
