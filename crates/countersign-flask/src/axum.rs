//! The rules in axum: an extractor for what was proven about a request, Flask-JWT's login endpoint, and Flask-Login's
//! guards.

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, OptionalFromRequestParts, Request};
use axum::routing::{MethodFilter, on};
use countersign_axum::{AuthRejection, CurrentUser, Guard, LetThrough, Proven, Reply, device, read_bounded};
use countersign_http::{Answer, Auth, AuthError, ErrorCode, Optional, Passed, Requirement};
use http::request::Parts;
use http::{Method, header};

use crate::flask_jwt::FlaskJwt;
use crate::flask_login::FlaskLogin;
use crate::hooks::FlaskToken;

/// The token that a Flask library's rules have accepted in a request: header, claims, identity, and the user that the
/// application looked up.
///
/// Behind a [`Guard`] it is what the guard has proven; without one, a valid access token. `Option<FlaskAuth>` is `None`
/// where a guard let the request pass as nobody, or, without a guard, where the request has no token.
///
/// ```
/// use std::sync::Arc;
/// use axum::{Router, routing::get};
/// use countersign_axum::AuthLayer;
/// use countersign_flask::axum::FlaskAuth;
/// use countersign_flask::flask_jwt_extended::NewAccess;
/// use countersign_flask::{FlaskJwtExtended, FlaskJwtExtendedConfig};
/// # use axum::{body::Body, http::Request};
/// # use serde_json::json;
/// # use tower::ServiceExt as _;
///
/// async fn hello(token: FlaskAuth) -> String {
///     format!("hello {}", token.identity)
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let options = json!({"JWT_SECRET_KEY": "o2X9c1vB7uQkLz0TfYhWmR4s8NpEaJdG"});
/// # let options = options.as_object().cloned().unwrap_or_default();
/// let jwt = FlaskJwtExtended::builder(FlaskJwtExtendedConfig::from_options(options)?).build()?;
/// let token = jwt.create_access_token("alice", NewAccess::new()).await?;
/// let app: Router = Router::new().route("/hello", get(hello)).layer(AuthLayer::new(Arc::new(jwt)));
///
/// let request = Request::get("/hello").header("authorization", format!("Bearer {token}"));
/// assert_eq!(app.oneshot(request.body(Body::empty())?).await?.status(), 200);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FlaskAuth(FlaskToken);

/// Lets a request through as Flask-Login's `login_required` does, as an extractor or by
/// [`axum::middleware::from_extractor`]: there is a user of the type `U`, whom a loader finds. Requests with the method
/// OPTIONS pass, and all of them with `LOGIN_DISABLED`.
#[derive(Clone, Copy, Debug)]
pub struct LoginRequired<U>(PhantomData<fn() -> U>);

/// Lets a request through as Flask-Login's `fresh_login_required` does: the user's session is fresh, too.
#[derive(Clone, Copy, Debug)]
pub struct FreshLoginRequired<U>(PhantomData<fn() -> U>);

fn asks_nobody(parts: &Parts) -> bool {
    let auth = parts.extensions.get::<Auth>();
    let is_disabled = || auth.and_then(FlaskLogin::of).is_some_and(|login| login.config().login_disabled);
    parts.method == Method::OPTIONS || is_disabled()
}

impl<S: Send + Sync, U: Send + 'static> FromRequestParts<S> for LoginRequired<U> {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AuthRejection> {
        if !asks_nobody(parts) {
            let _ = <CurrentUser<U> as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        }
        Ok(Self(PhantomData))
    }
}

impl<S: Send + Sync, U: Send + 'static> FromRequestParts<S> for FreshLoginRequired<U> {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AuthRejection> {
        if asks_nobody(parts) {
            return Ok(Self(PhantomData));
        }
        let _ = <CurrentUser<U> as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        match Guard::new(Requirement::FRESH).check(parts).await {
            Ok(_) => Ok(Self(PhantomData)),
            // A user whom the request names has no session that could be fresh.
            Err(refused) if matches!(refused.error(), Some(AuthError::Missing)) => {
                let Some(auth) = parts.extensions.get::<Auth>().cloned() else { return Err(refused) };
                let answer = auth.refuse(parts, Some(&Requirement::FRESH), &AuthError::NotFresh).await;
                Err(AuthRejection::answered(answer))
            }
            Err(refused) => Err(refused),
        }
    }
}

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
///
/// ```
/// use axum::Router;
/// use countersign_flask::axum::flask_jwt_routes;
/// # use axum::{body::Body, http::Request};
/// # use countersign_flask::{FlaskJwt, FlaskJwtConfig};
/// # use countersign_flask::flask_jwt::Identity;
/// # use serde_json::{Value, json};
/// # use tower::ServiceExt as _;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let options = json!({"SECRET_KEY": "o2X9c1vB7uQkLz0TfYhWmR4s8NpEaJdG"});
/// # let options = options.as_object().cloned().unwrap_or_default();
/// # let jwt = FlaskJwt::builder(FlaskJwtConfig::from_options(options)?)
/// #     .authenticate(async |_: Value, _: Value| Ok::<Option<Identity>, std::io::Error>(None))
/// #     .build()?;
/// let app: Router = Router::new().merge(flask_jwt_routes(&jwt));
///
/// let nobody = Body::from(r#"{"username": "alice", "password": "a guess"}"#);
/// let request = Request::post("/auth").header("content-type", "application/json").body(nobody)?;
/// assert_eq!(app.oneshot(request).await?.status(), 401);
/// # Ok(())
/// # }
/// ```
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
