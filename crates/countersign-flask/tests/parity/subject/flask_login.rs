//! Applications of `flask_login` recordings.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::{FromRequest as _, FromRequestParts as _, OptionalFromRequestParts, Request};
use axum::middleware::from_extractor;
use axum::response::{IntoResponse, Response};
use axum::routing::on;
use axum::{Extension, Json, Router};
use countersign_axum::{
    AccessToken, Auth, AuthLayer, AuthRejection, Confirm, CurrentUser, Reply, SignIn, SignOut, WithCookies,
};
use countersign_core::store::MemoryStore;
use countersign_flask::axum::{FreshLoginRequired, LoginRequired};
use countersign_flask::flask_login::{FlaskLogin, FlaskLoginBuilder, FlaskLoginConfig, LogIn, SessionData};
use countersign_http::{LoaderRequest, UserOrder};
use countersign_jwt::{Clock as _, UserId};
use countersign_testkit::{SeededRandom, TestBed};
use http::header::SET_COOKIE;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

use super::routes::Routes;
use super::send;
use crate::compare::Answer;
use crate::hooks::{FlaskLoginHooks, LoaderSource, RequestLoader};
use crate::recording::{FlaskLoginGuard, FlaskLoginView, Manager, Mint, Route};
use crate::replay::{NotBuilt, Subject, World};

struct App {
    login: FlaskLoginBuilder,
    names: [Vec<String>; 2],
    loader: Option<RequestLoader>,
    world: Arc<World>,
    routes: Router,
    /// Built with the first request, because building waits for the store.
    router: OnceCell<Router>,
}

pub(super) fn build(
    config: &Map<String, Value>,
    manager: &Manager,
    routes: &[Route<FlaskLoginGuard, FlaskLoginView>],
    hooks: &FlaskLoginHooks,
    world: &Arc<World>,
) -> Result<impl Subject + use<>, NotBuilt> {
    let mut options = config.clone();
    if let Some(protection) = &manager.session_protection {
        options.entry("SESSION_PROTECTION").or_insert_with(|| protection.clone());
    }
    let config =
        FlaskLoginConfig::from_options(options).map_err(|error| NotBuilt::Refused(error.to_string()))?;
    let session = &config.session.name;
    let names = [vec![session.clone(), format!("{session}_data")], vec![config.remember.name.clone()]];
    let mut login = FlaskLogin::builder(config);
    if let Some(view) = &manager.login_view {
        login = login.login_view(view);
    }
    if let Some(view) = &manager.refresh_view {
        login = login.refresh_view(view);
    }
    if let Some(response) = hooks.unauthorized.clone() {
        login = login.unauthorized_handler(move || response.fill(&Value::Null).map(Into::into).into());
    }
    if let Some(response) = hooks.needs_refresh.clone() {
        login = login.needs_refresh_handler(move || response.fill(&Value::Null).map(Into::into).into());
    }
    let mut table = Routes::default();
    for route in routes {
        let view = route.view;
        table.add(&route.path, &route.methods, |methods| {
            let methods =
                on(methods, move |auth: Extension<Auth>, request: Request| view_of(view, auth.0, request));
            match route.guard {
                None => methods,
                Some(FlaskLoginGuard::Login) => methods.route_layer(from_extractor::<LoginRequired<User>>()),
                Some(FlaskLoginGuard::FreshLogin) => {
                    methods.route_layer(from_extractor::<FreshLoginRequired<User>>())
                }
            }
        })?;
    }
    let loader = hooks.request_loader.clone();
    let routes = table.into_router();
    Ok(App { login, names, loader, world: world.clone(), routes, router: OnceCell::new() })
}

/// A user who may sign in. One who is not active is none.
struct User {
    id: String,
}

/// The entry of a user; `None` if there is none.
fn entry(world: &World, id: &str) -> Option<Entry> {
    let entry = world.users().get(id).cloned()?;
    Some(serde_json::from_value(entry).expect("users were checked"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    #[serde(rename = "name")]
    _name: String,
    #[serde(default = "yes")]
    active: bool,
}

fn yes() -> bool {
    true
}

impl App {
    async fn router(&self) -> &Router {
        self.router.get_or_init(|| self.build()).await
    }

    async fn build(&self) -> Router {
        let world = self.world.clone();
        let by_id = move |id: UserId| {
            let world = world.clone();
            async move {
                let active = entry(&world, id.as_str()).is_some_and(|entry| entry.active);
                Ok::<_, Infallible>(active.then(|| User { id: id.as_str().to_owned() }))
            }
        };
        let mut builder = Auth::builder(MemoryStore::new(), TestBed::secrets())
            .rules(self.login.clone())
            .clock(self.world.clock.clone())
            .random(Arc::new(SeededRandom::default()))
            .user_loader(by_id)
            .user_order(UserOrder::SessionFirst)
            .without_background();
        if let Some(loader) = self.loader.clone() {
            let world = self.world.clone();
            builder = builder.request_loader_with_json(move |request: LoaderRequest| {
                let id =
                    loader.find(&request).filter(|id| entry(&world, id).is_some_and(|entry| entry.active));
                async move { Ok::<_, Infallible>(id.map(|id| User { id })) }
            });
        }
        let auth = builder.build().await.expect("the options were checked");
        self.routes.clone().layer(AuthLayer::new(auth)).layer(Extension(self.world.clone()))
    }
}

impl RequestLoader {
    fn find(&self, request: &LoaderRequest) -> Option<String> {
        let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
        let token = match &self.source {
            LoaderSource::Header(name) => header(name)?.to_owned(),
            LoaderSource::Scheme(word) => {
                header("authorization")?.strip_prefix(word.as_str())?.strip_prefix(' ')?.to_owned()
            }
            LoaderSource::Json(member) => request.json.as_ref()?.get(member)?.as_str()?.to_owned(),
        };
        self.tokens.get(&token).cloned()
    }
}

#[async_trait]
impl Subject for App {
    async fn mint(&self, _: &Mint) -> Result<String, String> {
        Err("flask_login has no tokens".to_owned())
    }

    fn cookie_names(&self, role: &str) -> Vec<String> {
        let [session, remember] = &self.names;
        match role {
            "session" => session.clone(),
            "remember" => remember.clone(),
            other => vec![other.to_owned()],
        }
    }

    async fn send(&self, request: http::Request<Body>) -> Answer {
        // Time has passed, and the background tasks would have read the log.
        let _ = self.world.clock.now();
        send(self.router().await, request).await
    }
}

async fn view_of(view: FlaskLoginView, auth: Auth, request: Request) -> Response {
    match view {
        FlaskLoginView::Ok => Json(json!({"ok": true})).into_response(),
        FlaskLoginView::Whoami => whoami(request).await.into_response(),
        FlaskLoginView::Login => log_in(auth, request).await.into_response(),
        FlaskLoginView::Logout => log_out(auth, request).await.into_response(),
        FlaskLoginView::Confirm => confirm(request).await.into_response(),
        FlaskLoginView::Put => put(&auth, request).await.into_response(),
        FlaskLoginView::Get => {
            let data = FlaskLogin::of(&auth).map(|login| SessionData::of(login, request.headers()));
            let color = data.and_then(|data| data.0.get("color").cloned());
            Json(json!({ "color": color })).into_response()
        }
    }
}

async fn whoami(request: Request) -> Result<Json<Value>, AuthRejection> {
    let (mut parts, _) = request.into_parts();
    let user =
        <CurrentUser<User> as OptionalFromRequestParts<()>>::from_request_parts(&mut parts, &()).await?;
    let Some(CurrentUser(user)) = user else {
        return Ok(Json(json!({
            "id": null, "authenticated": false, "active": false, "anonymous": true, "fresh": false,
        })));
    };
    let token = <AccessToken as OptionalFromRequestParts<()>>::from_request_parts(&mut parts, &()).await?;
    let now = parts.extensions.get::<Arc<World>>().expect("the world is there").clock.now();
    let fresh = token.is_some_and(|token| token.freshness().is_fresh(now));
    Ok(Json(json!({
        "id": user.id, "authenticated": true, "active": true, "anonymous": false, "fresh": fresh,
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginBody {
    user: String,
    #[serde(default)]
    remember: bool,
    duration: Option<f64>,
    #[serde(default = "yes")]
    fresh: bool,
    #[serde(default)]
    force: bool,
}

async fn log_in(auth: Auth, request: Request) -> Result<Response, Reply> {
    let (mut parts, body) = request.into_parts();
    let SignIn { arrival, .. } = SignIn::from_request_parts(&mut parts, &())
        .await
        .map_err(|refused| Reply(refused.answer().clone()))?;
    let world = parts.extensions.get::<Arc<World>>().expect("the world is there").clone();
    let request = Request::from_parts(parts, body);
    let Json(body) = Json::<LoginBody>::from_request(request, &()).await.expect("logins have bodies");
    if !entry(&world, &body.user).is_some_and(|entry| entry.active || body.force) {
        return Ok(Json(json!({"result": false})).into_response());
    }
    let login = FlaskLogin::of(&auth).expect("these are the rules");
    let duration = body.duration.map(Duration::from_secs_f64);
    let options = LogIn::default().remember(body.remember).duration(duration).fresh(body.fresh);
    let id = UserId::new(&body.user).expect("ids are texts");
    let cookies = login.login_user(&auth, &id, arrival, options).await?;
    Ok((WithCookies(cookies), Json(json!({"result": true}))).into_response())
}

async fn log_out(auth: Auth, request: Request) -> Result<Response, Reply> {
    let (mut parts, _) = request.into_parts();
    let sign_out = SignOut::from_request_parts(&mut parts, &())
        .await
        .map_err(|refused| Reply(refused.answer().clone()))?;
    let mut answer = (sign_out.now().await?, Json(json!({"result": true}))).into_response();
    // The application's own data outlives the logout.
    let login = FlaskLogin::of(&auth).expect("these are the rules");
    let data = SessionData::of(login, &parts.headers);
    if !data.0.is_empty() {
        answer.headers_mut().extend(data.set(login).map(|field| (SET_COOKIE, field)));
    }
    Ok(answer)
}

async fn confirm(request: Request) -> Result<Response, Reply> {
    let (mut parts, _) = request.into_parts();
    let confirm = Confirm::from_request_parts(&mut parts, &())
        .await
        .map_err(|refused| Reply(refused.answer().clone()))?;
    Ok((confirm.now().await?, Json(json!({"ok": true}))).into_response())
}

async fn put(auth: &Auth, request: Request) -> Response {
    let login = FlaskLogin::of(auth).expect("these are the rules");
    let mut data = SessionData::of(login, request.headers());
    let Json(members) =
        Json::<Map<String, Value>>::from_request(request, &()).await.expect("puts have bodies");
    data.0.extend(members);
    let mut answer = Json(json!({"ok": true})).into_response();
    answer.headers_mut().extend(data.set(login).map(|field| (SET_COOKIE, field)));
    answer
}
