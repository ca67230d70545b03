//! Compatibility profiles in axum: what was proven about a request, and Flask-JWT's login endpoint.

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, OptionalFromRequestParts, Request};
use axum::routing::{MethodFilter, on};
use countersign_http::profile::{FlaskJwt, ProfileToken};
use countersign_http::{Answer, ErrorCode, Requirement};
use http::request::Parts;
use http::{Method, header};

use crate::body::read_bounded;
use crate::guard::{Guard, Proven};
use crate::reply::{AuthRejection, Reply};

/// What a compatibility profile has proven about a request: header, claims, identity, and the user that the
/// application looked up.
///
/// Behind a [`Guard`], what the guard has proven; without one, a valid access token. `Option<ProfileAuth>` is `None`
/// where a guard let the request pass as nobody; without a guard, for requests without a token.
#[derive(Clone, Debug)]
pub struct ProfileAuth(ProfileToken);

impl ProfileAuth {
    /// The token itself.
    #[must_use]
    pub fn into_token(self) -> ProfileToken {
        self.0
    }

    /// The user that the application looked up, if it is of this type.
    #[must_use]
    pub fn user<U: Send + Sync + 'static>(&self) -> Option<Arc<U>> {
        self.0.user.clone()?.downcast().ok()
    }
}

impl Deref for ProfileAuth {
    type Target = ProfileToken;

    fn deref(&self) -> &ProfileToken {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ProfileAuth {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AuthRejection> {
        if let Some(Some(token)) = Proven::any_profile_token(parts) {
            return Ok(Self(token));
        }
        let proven = Guard::new(Requirement::ACCESS).check(parts).await?;
        proven.into_profile_token().map(Self).ok_or_else(nothing_proven)
    }
}

/// A defect of the program, which its log then names.
fn nothing_proven() -> AuthRejection {
    tracing::error!(
        "a handler takes ProfileAuth, but no profile has proven anything: give a profile in an `Arc` to \
         `AuthLayer::new`, and let handlers of OPTIONS, which Flask-JWT-Extended does not protect, take \
         `Option<ProfileAuth>`"
    );
    AuthRejection::by_profile(Answer::error(ErrorCode::InternalError))
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for ProfileAuth {
    type Rejection = AuthRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, AuthRejection> {
        if let Some(found) = Proven::any_profile_token(parts) {
            return Ok(found.map(Self));
        }
        let requirement = Requirement::ACCESS.optional(countersign_http::Optional::IfAbsent);
        let proven = Guard::new(requirement).check(parts).await?;
        Ok(proven.into_profile_token().map(Self))
    }
}

/// The login endpoint of Flask-JWT, at `JWT_AUTH_URL_RULE` for the methods of `JWT_AUTH_URL_OPTIONS`. Empty where the
/// option is null. OPTIONS is answered with the methods.
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
            Ok(body) => Reply(jwt.login(&parts.headers, &body).await),
            Err(too_large) => too_large,
        }
    };
    let mut endpoint = on(methods, login);
    // As Flask does by itself.
    if !names.contains(&"OPTIONS") {
        endpoint = endpoint.options(async move || [(header::ALLOW, allow)]);
    }
    Router::new().route(path, endpoint)
}
