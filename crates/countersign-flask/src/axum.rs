//! The rules in axum: an extractor for what was proven about a request, and Flask-JWT's login endpoint.

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, OptionalFromRequestParts, Request};
use axum::routing::{MethodFilter, on};
use countersign_axum::{AuthRejection, Guard, LetThrough, Proven, Reply, device, read_bounded};
use countersign_http::{Answer, Auth, ErrorCode, Optional, Passed, Requirement};
use http::request::Parts;
use http::{Method, header};

use crate::flask_jwt::FlaskJwt;
use crate::hooks::FlaskToken;

/// The token that a Flask library's rules have accepted in a request: header, claims, identity, and the user that the
/// application looked up.
///
/// Behind a [`Guard`] it is what the guard has proven; without one, a valid access token. `Option<FlaskAuth>` is `None`
/// where a guard let the request pass as nobody, or, without a guard, where the request has no token.
#[derive(Clone, Debug)]
pub struct FlaskAuth(FlaskToken);

impl FlaskAuth {
    /// The token, by value.
    #[must_use]
    pub fn into_token(self) -> FlaskToken {
        self.0
    }

    /// The user that the application looked up, if it is of type `U`.
    #[must_use]
    pub fn user<U: Send + Sync + 'static>(&self) -> Option<Arc<U>> {
        self.0.user.clone()?.downcast().ok()
    }
}

impl Deref for FlaskAuth {
    type Target = FlaskToken;

    fn deref(&self) -> &FlaskToken {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for FlaskAuth {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AuthRejection> {
        if let Some(token) = Proven::passed(parts).and_then(LetThrough::caller).and_then(token) {
            return Ok(Self(token));
        }
        let proven = Guard::new(Requirement::ACCESS).check(parts).await?;
        proven.into_passed().and_then(token).map(Self).ok_or_else(nothing_proven)
    }
}

fn token(passed: Passed) -> Option<FlaskToken> {
    passed.downcast::<FlaskToken>().ok().map(Arc::unwrap_or_clone)
}

/// The refusal when no guard or layer has proven anything, which is a defect of the program and is logged as such.
fn nothing_proven() -> AuthRejection {
    tracing::error!(
        "a handler takes FlaskAuth, but no Flask library's rules have proven anything: give them in an `Arc` to \
         `AuthLayer::new`, and let handlers of OPTIONS, which Flask-JWT-Extended does not protect, take \
         `Option<FlaskAuth>`"
    );
    AuthRejection::answered(Answer::error(ErrorCode::InternalError))
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for FlaskAuth {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, AuthRejection> {
        if let Some(found) = Proven::passed(parts) {
            return Ok(found.caller().and_then(token).map(Self));
        }
        let requirement = Requirement::ACCESS.optional(Optional::IfAbsent);
        let proven = Guard::new(requirement).check(parts).await?;
        Ok(proven.into_passed().and_then(token).map(Self))
    }
}

/// The login endpoint of Flask-JWT if its rules are in force; otherwise no routes.
pub fn login_routes<S: Clone + Send + Sync + 'static>(auth: &Auth) -> Router<S> {
    FlaskJwt::of(auth).map_or_else(Router::new, flask_jwt_routes)
}

/// The login endpoint of Flask-JWT, at `JWT_AUTH_URL_RULE` for the methods of `JWT_AUTH_URL_OPTIONS`. There are no
/// routes where the option is null. OPTIONS is answered with the methods.
pub fn flask_jwt_routes<S: Clone + Send + Sync + 'static>(jwt: &FlaskJwt) -> Router<S> {
    let Some(path) = jwt.config().auth_url_rule.as_deref() else { return Router::new() };
    let methods =
        jwt.config().auth_methods.iter().filter_map(|method| MethodFilter::try_from(method.clone()).ok());
    let Some(methods) = methods.reduce(MethodFilter::or) else { return Router::new() };
    let names: Vec<_> = jwt.config().auth_methods.iter().map(Method::as_str).collect();
    let allow = format!("{}, OPTIONS", names.join(", "));
    let jwt = jwt.clone();
    let login = async move |request: Request<Body>| {
        let (parts, body) = request.into_parts();
        match read_bounded(body).await {
            Ok(body) => Reply(jwt.login_from(&parts.headers, &body, device(&parts)).await),
            Err(too_large) => too_large,
        }
    };
    let mut endpoint = on(methods, login);
    // Flask itself answers OPTIONS in this way.
    if !names.contains(&"OPTIONS") {
        endpoint = endpoint.options(async move || [(header::ALLOW, allow)]);
    }
    Router::new().route(path, endpoint)
}
