//! Applications of `fje` recordings.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts as _, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::on;
use axum::{Json, Router};
use countersign_axum::{AuthLayer, Guard, Optional, Requirement};
use countersign_flask::FlaskJwtExtended;
use countersign_flask::axum::FlaskAuth;
use countersign_flask::flask_jwt_extended::{
    CookieArguments, FlaskJwtExtendedBuilder, FlaskJwtExtendedConfig, NewAccess, NewRefresh, RefusalKind,
    Refused, location_by_name,
};
use countersign_flask::tokens::KeySource;
use http::StatusCode;
use http::header::SET_COOKIE;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::routes::Routes;
use super::{send, take_byte_keys};
use crate::compare::Answer;
use crate::hooks::{FlaskJwtExtendedHooks, key_of};
use crate::recording::{
    ExpiresDelta, FlaskJwtExtendedGuard, FlaskJwtExtendedView, Fresh, Kind, Mint, OneOrMany, Route,
};
use crate::replay::{NotBuilt, Subject, World};

struct App {
    jwt: FlaskJwtExtended,
    router: Router,
}

pub(super) fn build(
    config: &Map<String, Value>,
    routes: &[Route<FlaskJwtExtendedGuard, FlaskJwtExtendedView>],
    hooks: &FlaskJwtExtendedHooks,
    world: &Arc<World>,
) -> Result<impl Subject + use<>, NotBuilt> {
    let config = read(config)?;
    let jwt = with_hooks(config, hooks, world);
    let jwt = jwt.build().map_err(|error| NotBuilt::Refused(error.to_string()))?;
    let mut table = Routes::default();
    for route in routes {
        let guard = route.guard.as_ref().map(requirement).transpose()?.map(Guard::new);
        let (view, guarded, jwt) = (route.view, guard.is_some(), jwt.clone());
        table.add(&route.path, &route.methods, |methods| {
            let methods = on(methods, move |request: Request| answer(view, jwt.clone(), guarded, request));
            match guard {
                None => methods,
                Some(guard) => methods.route_layer(guard),
            }
        })?;
    }
    let layer = AuthLayer::new(Arc::new(jwt.clone()));
    let router = table.into_router().layer(layer);
    Ok(App { jwt, router })
}

#[async_trait]
impl Subject for App {
    async fn mint(&self, mint: &Mint) -> Result<String, String> {
        let lifetime = match mint.expires_delta {
            // Either is the configured lifetime: `false` is only asked for where that is `false`.
            None | Some(ExpiresDelta::Flag(false)) => None,
            Some(ExpiresDelta::Flag(true)) => return Err("true is no lifetime".to_owned()),
            Some(ExpiresDelta::Seconds(seconds)) => {
                Some(Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?)
            }
        };
        let claims = mint.additional_claims.clone().unwrap_or_default();
        let headers = mint.additional_headers.clone().unwrap_or_default();
        let created = match mint.kind {
            Kind::Access => {
                let new = match &mint.fresh {
                    None | Some(Fresh::Flag(false)) => NewAccess::new(),
                    Some(Fresh::Flag(true)) => NewAccess::fresh(),
                    Some(Fresh::Until(moment)) => {
                        NewAccess::new().fresh_until(moment.as_f64().ok_or("no moment")?)
                    }
                    Some(Fresh::For(duration)) => {
                        let duration = Duration::try_from_secs_f64(duration.seconds);
                        NewAccess::new().fresh_for(duration.map_err(|error| error.to_string())?)
                    }
                };
                let new = new.claims(claims).headers(headers);
                let new = lifetime.into_iter().fold(new, NewAccess::expires_in);
                self.jwt.create_access_token(mint.identity.clone(), new).await
            }
            Kind::Refresh => {
                let new = NewRefresh::new().claims(claims).headers(headers);
                let new = lifetime.into_iter().fold(new, NewRefresh::expires_in);
                self.jwt.create_refresh_token(mint.identity.clone(), new).await
            }
        };
        created.map_err(|error| error.to_string())
    }

    async fn send(&self, request: http::Request<Body>) -> Answer {
        send(&self.router, request).await
    }
}

fn read(config: &Map<String, Value>) -> Result<FlaskJwtExtendedConfig, NotBuilt> {
    let (config, keys) = take_byte_keys(config, &FlaskJwtExtendedConfig::NAMES)?;
    let mut config =
        FlaskJwtExtendedConfig::from_options(config).map_err(|error| NotBuilt::Refused(error.to_string()))?;
    for (name, key) in keys {
        let key = Some(KeySource::new(key));
        match name.as_str() {
            "JWT_SECRET_KEY" => config.secret_key = key,
            "SECRET_KEY" => config.secret_key = config.secret_key.or(key),
            "JWT_PRIVATE_KEY" => config.private_key = key,
            "JWT_PUBLIC_KEY" => config.public_key = key,
            name => return Err(NotBuilt::Unknown(format!("config: {name} is no key"))),
        }
    }
    Ok(config)
}

fn with_hooks(
    config: FlaskJwtExtendedConfig,
    hooks: &FlaskJwtExtendedHooks,
    world: &Arc<World>,
) -> FlaskJwtExtendedBuilder {
    let mut jwt = FlaskJwtExtended::builder(config).clock(world.clock.clone());
    if let Some(rule) = hooks.user_identity.clone() {
        jwt = jwt.identity(move |identity| ready(rule.of(&identity)));
    }
    if let Some(pick) = hooks.additional_claims.clone() {
        jwt = jwt.extra_claims(move |identity| ready(pick.pick(&identity).clone()));
    }
    if let Some(pick) = hooks.additional_headers.clone() {
        jwt = jwt.extra_headers(move |identity| ready(pick.pick(&identity).clone()));
    }
    if let Some(pick) = hooks.encode_key.clone() {
        jwt = jwt.signing_key(move |identity| ready(KeySource::new(pick.pick(&identity).bytes())));
    }
    if let Some(rule) = hooks.decode_key.clone() {
        jwt = jwt
            .verifying_key(move |header, claims| ready(KeySource::new(rule.pick(&header, &claims).bytes())));
    }
    if let Some(rule) = hooks.blocklist.clone() {
        let world = world.clone();
        jwt = jwt.is_revoked(move |token| ready(rule.is_revoked(token.claims(), &world.revoked())));
    }
    if let Some(rule) = hooks.token_verification.clone() {
        jwt = jwt.verification(move |token| ready(rule.passes(token.header(), token.claims())));
    }
    if hooks.user_lookup.is_some() {
        let world = world.clone();
        jwt = jwt.user(move |token| {
            let user = world.users().get(&key_of(token.identity())).cloned();
            ready(user.filter(|user| !user.is_null()))
        });
    }
    let responses = &hooks.responses;
    for (kind, response) in [
        (RefusalKind::Unauthorized, &responses.unauthorized),
        (RefusalKind::InvalidToken, &responses.invalid_token),
        (RefusalKind::ExpiredToken, &responses.expired_token),
        (RefusalKind::NeedsFreshToken, &responses.needs_fresh_token),
        (RefusalKind::RevokedToken, &responses.revoked_token),
        (RefusalKind::TokenVerificationFailed, &responses.token_verification_failed),
        (RefusalKind::UserLookupError, &responses.user_lookup_error),
    ] {
        let Some(response) = response.clone() else { continue };
        jwt = jwt.answer(kind, move |context| {
            let facts = match context.token {
                Some(token) => json!({"header": token.header(), "claims": token.claims()}),
                None => json!({"message": context.message}),
            };
            let response = response.fill(&facts).map(Into::into);
            async move { response.into() }
        });
    }
    jwt
}

fn requirement(guard: &FlaskJwtExtendedGuard) -> Result<Requirement, NotBuilt> {
    let mut requirement = match (guard.refresh, guard.verify_type) {
        (false, true) => Requirement::ACCESS,
        (true, true) => Requirement::REFRESH,
        (false, false) => Requirement::ANY,
        (true, false) => Requirement::ANY_AS_REFRESH,
    };
    if guard.fresh {
        requirement = requirement.fresh();
    }
    if guard.optional {
        requirement = requirement.optional(Optional::IfAbsent);
    }
    if guard.skip_revocation_check {
        requirement = requirement.skip_revocation();
    }
    let names = match &guard.locations {
        None => return Ok(requirement),
        Some(OneOrMany::One(name)) => std::slice::from_ref(name),
        Some(OneOrMany::Many(names)) => names,
    };
    let locations = names.iter().filter(|name| !name.is_empty()).map(|name| {
        location_by_name(name).ok_or_else(|| NotBuilt::Unknown(format!("guard: {name} is no location")))
    });
    Ok(requirement.locations(locations.collect::<Result<Vec<_>, _>>()?))
}

async fn answer(
    view: FlaskJwtExtendedView,
    jwt: FlaskJwtExtended,
    guarded: bool,
    request: Request,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let answered = match view {
        FlaskJwtExtendedView::Ok => Ok(Json(json!({"ok": true})).into_response()),
        FlaskJwtExtendedView::Whoami => {
            if !guarded {
                return (StatusCode::INTERNAL_SERVER_ERROR, "whoami is not protected").into_response();
            }
            return match Option::<FlaskAuth>::from_request_parts(&mut parts, &()).await {
                Ok(auth) => whoami(auth),
                Err(rejection) => rejection.into_response(),
            };
        }
        view => {
            let body = to_bytes(body, usize::MAX).await.expect("a body made here can be read");
            match view {
                FlaskJwtExtendedView::Cookies => match asked(&body) {
                    Ok(asked) => cookies(&jwt, asked).await,
                    Err(unreadable) => return unreadable,
                },
                view => match asked(&body) {
                    Ok(asked) => helper(view, &jwt, asked).await.map(|json| Json(json).into_response()),
                    Err(unreadable) => return unreadable,
                },
            }
        }
    };
    match answered {
        Ok(response) => response,
        Err(refused) => http::Response::from(jwt.answer(refused).await).map(Body::from),
    }
}

fn whoami(auth: Option<FlaskAuth>) -> Response {
    let Some(token) = auth else {
        return Json(json!({"identity": null, "claims": {}, "header": {}, "location": null, "user": null}))
            .into_response();
    };
    let user = token.user::<Value>();
    let names = ["headers", "cookies", "query_string", "json"];
    let location = names.into_iter().find(|name| location_by_name(name) == Some(token.location));
    Json(json!({
        "identity": token.identity,
        "claims": token.claims,
        "header": token.header,
        "location": location,
        "user": user.as_deref(),
    }))
    .into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Calls {
    calls: Vec<Call>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    r#do: Helper,
    token: Option<String>,
    max_age: Option<f64>,
    domain: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Helper {
    SetAccess,
    SetRefresh,
    UnsetAccess,
    UnsetRefresh,
    UnsetJwt,
}

async fn cookies(jwt: &FlaskJwtExtended, Calls { calls }: Calls) -> Result<Response, Refused> {
    let mut response = Json(json!({"ok": true})).into_response();
    for Call { r#do, token, max_age, domain } in calls {
        let token = token.unwrap_or_default();
        let arguments = CookieArguments { max_age, domain };
        let domain = arguments.domain.as_deref();
        let fields = match r#do {
            Helper::SetAccess => jwt.set_access_cookies(&token, &arguments).await?,
            Helper::SetRefresh => jwt.set_refresh_cookies(&token, &arguments).await?,
            Helper::UnsetAccess => jwt.unset_access_cookies(domain),
            Helper::UnsetRefresh => jwt.unset_refresh_cookies(domain),
            Helper::UnsetJwt => jwt.unset_jwt_cookies(domain),
        };
        response.headers_mut().extend(fields.into_iter().map(|field| (SET_COOKIE, field)));
    }
    Ok(response)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    token: String,
    csrf: Option<String>,
    #[serde(default)]
    allow_expired: bool,
}

async fn helper(view: FlaskJwtExtendedView, jwt: &FlaskJwtExtended, asked: Asked) -> Result<Value, Refused> {
    let Asked { token, csrf, allow_expired } = asked;
    Ok(match view {
        FlaskJwtExtendedView::Jti => json!({"jti": jwt.token_id(&token).await?}),
        FlaskJwtExtendedView::Csrf => json!({"csrf": jwt.csrf_value(&token).await?}),
        FlaskJwtExtendedView::UnverifiedHeaders => json!({"header": jwt.unverified_header(&token)?}),
        _ => {
            let claims = jwt.decode_token(&token, csrf.as_deref(), allow_expired).await?;
            json!({"claims": claims.claims()})
        }
    })
}

fn asked<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, Response> {
    serde_json::from_slice(body).map_err(|error| {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("the view's body is not known: {error}")).into_response()
    })
}

async fn ready<T>(value: T) -> Result<T, Infallible> {
    Ok(value)
}
