//! Applications of `flask_jwt` recordings.

use std::convert::Infallible;
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::{FromRequestParts as _, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::on;
use axum::{Json, Router};
use countersign_axum::{AuthLayer, Guard, Requirement};
use countersign_flask::FlaskJwt;
use countersign_flask::axum::{FlaskAuth, flask_jwt_routes};
use countersign_flask::flask_jwt::{FlaskJwtBuilder, FlaskJwtConfig, Identity};
use countersign_flask::tokens::KeySource;
use http::request::Parts;
use serde_json::{Map, Value, json};

use super::routes::Routes;
use super::{send, take_byte_keys};
use crate::compare::{Answer, same};
use crate::hooks::{FlaskJwtHooks, Row, TokenSource, fill_members};
use crate::recording::{FlaskJwtGuard, FlaskJwtView, Mint, Route};
use crate::replay::{NotBuilt, Subject, World};

struct App {
    router: Router,
}

pub(super) fn build(
    config: &Map<String, Value>,
    routes: &[Route<FlaskJwtGuard, FlaskJwtView>],
    hooks: &FlaskJwtHooks,
    world: &Arc<World>,
) -> Result<impl Subject + use<>, NotBuilt> {
    for (name, row) in world.users().iter() {
        Row::check(row).map_err(|error| NotBuilt::Unknown(format!("users: {name}: {error}")))?;
    }
    let jwt = with_hooks(read(config)?, hooks, world);
    let jwt = jwt.build().map_err(|error| NotBuilt::Refused(error.to_string()))?;
    let mut table = Routes::default();
    if let Some(path) = &jwt.config().auth_url_rule {
        let methods = jwt.config().auth_methods.iter().map(ToString::to_string);
        table.reserve(path, methods.chain(["OPTIONS".to_owned()]));
    }
    for route in routes {
        let (view, guarded) = (route.view, route.guard.is_some());
        table.add(&route.path, &route.methods, |methods| {
            let methods = on(methods, move |request: Request| answer(view, guarded, request));
            match &route.guard {
                None => methods,
                Some(FlaskJwtGuard { realm }) => {
                    let requirement = realm.iter().fold(Requirement::ACCESS, Requirement::realm);
                    methods.route_layer(Guard::new(requirement))
                }
            }
        })?;
    }
    let router = table.into_router().merge(flask_jwt_routes(&jwt)).layer(AuthLayer::new(Arc::new(jwt)));
    Ok(App { router })
}

#[async_trait]
impl Subject for App {
    async fn mint(&self, _: &Mint) -> Result<String, String> {
        Err("flask_jwt makes tokens by logins alone".to_owned())
    }

    async fn send(&self, request: http::Request<Body>) -> Answer {
        send(&self.router, request).await
    }
}

fn read(config: &Map<String, Value>) -> Result<FlaskJwtConfig, NotBuilt> {
    let (config, keys) = take_byte_keys(config, &FlaskJwtConfig::NAMES)?;
    let mut config =
        FlaskJwtConfig::from_options(config).map_err(|error| NotBuilt::Refused(error.to_string()))?;
    for (name, key) in keys {
        let key = Some(KeySource::new(key));
        match name.as_str() {
            "JWT_SECRET_KEY" => config.secret_key = key,
            "SECRET_KEY" => config.secret_key = config.secret_key.or(key),
            name => return Err(NotBuilt::Unknown(format!("config: {name} is no key"))),
        }
    }
    Ok(config)
}

fn with_hooks(config: FlaskJwtConfig, hooks: &FlaskJwtHooks, world: &Arc<World>) -> FlaskJwtBuilder {
    let logins = world.clone();
    let users = world.clone();
    let mut jwt = FlaskJwt::builder(config)
        .clock(world.clock.clone())
        .authenticate(move |username, password| {
            let users = logins.users();
            let has = |row: &&Value| same(&row["username"], &username) && same(&row["password"], &password);
            ready(users.values().find(has).map(|row| Identity::new(row["id"].clone(), row.clone())))
        })
        .user(move |token| {
            let users = users.users();
            ready(users.values().find(|row| same(&row["id"], token.identity())).cloned())
        });
    if let Some(template) = hooks.payload.clone() {
        jwt = jwt.payload(move |identity| ready(fill_members(&template, row(&identity))));
    }
    if let Some(template) = hooks.headers.clone() {
        jwt = jwt.headers(move |identity| ready(fill_members(&template, row(&identity))));
    }
    if let Some(response) = hooks.auth_response.clone() {
        jwt = jwt.auth_response(move |token, identity| {
            let facts = json!({"token": token, "user": row(&identity)});
            ready(response.fill(&facts).map(Into::into).into())
        });
    }
    if let Some(response) = hooks.error.clone() {
        jwt = jwt.error(move |error| {
            let facts = serde_json::to_value(error).expect("an error of texts");
            ready(response.fill(&facts).map(Into::into).into())
        });
    }
    if let Some(source) = hooks.request.clone() {
        jwt = jwt.request(move |parts| find(&source, parts));
    }
    jwt
}

fn row(identity: &Identity) -> &Value {
    identity.user().expect("identities are rows")
}

fn find(source: &TokenSource, parts: &Parts) -> Option<String> {
    let joined = |name: &str, separator: &str| {
        let lines = parts.headers.get_all(name).iter();
        let lines: Vec<_> = lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect();
        (!lines.is_empty()).then(|| lines.join(separator))
    };
    match source {
        TokenSource::Query(name) => {
            let query = parts.uri.query().unwrap_or_default();
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.find_map(|(own, value)| (own == *name).then(|| value.into_owned()))
        }
        TokenSource::Cookie(name) => {
            let cookies = joined("cookie", "; ")?;
            let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
            pairs.find_map(|(own, value)| (own == name).then(|| value.to_owned()))
        }
        TokenSource::Header(name) => joined(name, ","),
    }
}

async fn answer(view: FlaskJwtView, guarded: bool, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    match (view, guarded) {
        (FlaskJwtView::Ok, _) => Json(json!({"ok": true})).into_response(),
        (FlaskJwtView::Whoami, false) => Json(json!({"identity": null})).into_response(),
        (FlaskJwtView::Whoami, true) => match FlaskAuth::from_request_parts(&mut parts, &()).await {
            Ok(auth) => {
                let user = auth.user::<Value>().expect("users are rows");
                Json(json!({"identity": {"id": user["id"], "username": user["username"]}})).into_response()
            }
            Err(rejection) => rejection.into_response(),
        },
    }
}

async fn ready<T>(value: T) -> Result<T, Infallible> {
    Ok(value)
}
