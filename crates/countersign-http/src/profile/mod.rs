//! Compatibility profiles: the same engine with another library's names, rules and answers.
//!
//! A profile decides what a token says, where it travels and how refusals look; nothing outside of this module knows
//! which library it stands in for.

mod options;
mod served;

pub mod flask_jwt;
pub mod flask_jwt_extended;

pub use flask_jwt::FlaskJwt;
pub use flask_jwt_extended::FlaskJwtExtended;
pub use options::{OptionError, Options};
pub(crate) use served::{Prepared, Served, Shown};
pub use served::{Renewal, ServedProfile, ShownTokens};

#[cfg(test)]
mod testing;

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use countersign_core::profile::ProfileClaims;
use countersign_core::store::BoxError;
use http::request::Parts;
use http::{HeaderMap, Method, Uri};
use serde_json::{Map, Value};

use crate::answer::{Answer, ErrorCode};
use crate::locate::Location;
use crate::requirement::Requirement;

/// How requests are let through where another library's rules hold.
#[async_trait]
pub trait Profile: fmt::Debug + Send + Sync + 'static {
    /// Whether the body of such a request must be read before [`Profile::authenticate`], which then finds it as
    /// [`BufferedBody`](crate::BufferedBody) among the request's extensions.
    /// `requirement` is that of the route, where it is known.
    fn wants_body(&self, method: &Method, headers: &HeaderMap, requirement: Option<&Requirement>) -> bool;

    /// Whether the query string of such a URI holds a token: its answer must then be kept out of caches and `Referer`s
    /// (SEC-051).
    fn is_in_query(&self, uri: &Uri) -> bool;

    /// Lets a request through if it proves what is required; `None` if it may pass as nobody. Otherwise the answer,
    /// as the application's hooks want it. The log has learnt the cause.
    async fn authenticate(
        &self,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Option<ProfileToken>, Answer>;
}

/// A token that a profile accepted.
#[derive(Clone)]
#[non_exhaustive]
pub struct ProfileToken {
    /// Its header.
    pub header: Map<String, Value>,
    /// Its claims, with the profile's defaults for absent ones.
    pub claims: Map<String, Value>,
    /// Whom it speaks for.
    pub identity: Value,
    /// Where it was found.
    pub location: Location,
    /// The user that the application looked up.
    pub user: Option<Arc<dyn Any + Send + Sync>>,
    /// The proof.
    pub verified: ProfileClaims,
}

impl fmt::Debug for ProfileToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProfileToken").field("location", &self.location).finish_non_exhaustive()
    }
}

/// Who asks whether a token's own session of this library still lives. All hooks of the application are asked either
/// way: only the look-up that the exchange of a refresh token makes itself may be left to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SessionLookUp {
    /// The judgement of the token.
    Here,
    /// The caller, right after.
    ByCaller,
}

/// The user that the application looked up.
pub(crate) type HookedUser = Arc<dyn Any + Send + Sync>;

/// An error of a hook that is answered with this, in place of 503.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the application has its own answer")]
pub struct AnswerInstead(pub Answer);

/// The answer to a hook's failure. The log learns the cause.
fn hook_failed(error: &BoxError) -> Answer {
    if let Some(AnswerInstead(answer)) = error.downcast_ref() {
        return answer.clone();
    }
    tracing::error!(error = &**error as &dyn std::error::Error, "a hook of the application failed");
    Answer::error(ErrorCode::Unavailable)
}

/// Whether claims permit what a requirement names: scopes, roles, claims.
fn permits(requirement: &Requirement, claims: &Map<String, Value>) -> bool {
    requirement.lacking(claims, || Cow::Borrowed(claims)).is_none()
}
