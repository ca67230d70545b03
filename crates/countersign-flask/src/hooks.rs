//! The hooks that an application adds to the rules of both libraries, and the code that both share for them.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use countersign_core::store::BoxError;
use countersign_http::{Answer, ErrorCode, FoundUser, Location, Requirement};
use serde_json::{Map, Value};

use crate::tokens::FlaskClaims;

pub(crate) type Asking<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A function of the application that may fail. A failure is answered with 503, and the log gets the cause.
pub(crate) type Hook<A, T> = Arc<dyn Fn(A) -> Asking<Result<T, BoxError>> + Send + Sync>;

pub(crate) fn hook<A, T, E, F, Fut>(hook: F) -> Hook<A, T>
where
    A: 'static,
    E: Into<BoxError>,
    F: Fn(A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
{
    Arc::new(move |argument| {
        let asking = hook(argument);
        Box::pin(async move { asking.await.map_err(Into::into) })
    })
}

/// The hooks for a verified token that both libraries have.
#[derive(Clone, Default)]
pub(crate) struct TokenHooks {
    is_revoked: Vec<Hook<FlaskClaims, bool>>,
    /// Asks whether the token's session has ended, where the rules work with Countersign's sessions.
    sessions: Option<Hook<FlaskClaims, bool>>,
    user: Option<Hook<FlaskClaims, Option<FoundUser>>>,
}

/// Where the check takes place whether a token's own session is live. The application's hooks run in either case. Only
/// the exchange of a refresh token may leave this check to its own look-up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SessionLookUp {
    /// When the token is judged.
    Here,
    /// In the caller, right after the judgement.
    ByCaller,
}

/// The result of looking a user up.
pub(crate) enum Lookup {
    /// The application has set no hook that looks users up.
    NotAsked,
    /// There is no such user.
    None,
    Found(FoundUser),
}

impl TokenHooks {
    pub(crate) fn add_is_revoked(&mut self, is_revoked: Hook<FlaskClaims, bool>) {
        self.is_revoked.push(is_revoked);
    }

    pub(crate) fn set_sessions(&mut self, has_ended: Hook<FlaskClaims, bool>) {
        self.sessions = Some(has_ended);
    }

    pub(crate) fn set_user<U, E, F, Fut>(&mut self, user: F)
    where
        U: Send + Sync + 'static,
        E: Into<BoxError>,
        F: Fn(FlaskClaims) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<U>, E>> + Send + 'static,
    {
        self.user = Some(hook(move |claims| {
            let asking = user(claims);
            async move {
                let user = asking.await.map_err(Into::<BoxError>::into)?;
                Ok::<_, BoxError>(user.map(|user| Arc::new(user) as FoundUser))
            }
        }));
    }

    pub(crate) async fn is_revoked(
        &self,
        claims: &FlaskClaims,
        look_up: SessionLookUp,
    ) -> Result<bool, BoxError> {
        let sessions = self.sessions.iter().filter(|_| look_up == SessionLookUp::Here);
        for hook in self.is_revoked.iter().chain(sessions) {
            if hook(claims.clone()).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) async fn user(&self, claims: &FlaskClaims) -> Result<Lookup, BoxError> {
        match &self.user {
            Some(hook) => Ok(hook(claims.clone()).await?.map_or(Lookup::None, Lookup::Found)),
            None => Ok(Lookup::NotAsked),
        }
    }
}

/// An error of a hook that is answered with this answer, in place of 503.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the application has its own answer")]
pub struct AnswerInstead(pub Answer);

/// The answer to a hook's failure. The cause is logged here.
pub(crate) fn hook_failed(error: &BoxError) -> Answer {
    if let Some(AnswerInstead(answer)) = error.downcast_ref() {
        return answer.clone();
    }
    tracing::error!(error = &**error as &dyn std::error::Error, "a hook of the application failed");
    Answer::error(ErrorCode::Unavailable)
}

/// A token that the rules of a Flask library accepted.
#[derive(Clone)]
#[non_exhaustive]
pub struct FlaskToken {
    /// The token's header.
    pub header: Map<String, Value>,
    /// The token's claims, with the library's defaults for absent ones.
    pub claims: Map<String, Value>,
    /// The identity that the token speaks for.
    pub identity: Value,
    /// The place in the request where the token was found.
    pub location: Location,
    /// The user that the application's hook looked up.
    pub user: Option<Arc<dyn Any + Send + Sync>>,
    /// The verified claims, as proof.
    pub verified: FlaskClaims,
}

impl FlaskToken {
    pub(crate) fn new(verified: FlaskClaims, location: Location, user: Option<FoundUser>) -> Self {
        Self {
            header: verified.header().clone(),
            claims: verified.claims().clone(),
            identity: verified.identity().clone(),
            location,
            user,
            verified,
        }
    }
}

impl fmt::Debug for FlaskToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlaskToken").field("location", &self.location).finish_non_exhaustive()
    }
}

/// Whether claims have the scopes, roles and claims that a requirement names.
pub(crate) fn permits(requirement: &Requirement, claims: &Map<String, Value>) -> bool {
    requirement.lacking(claims).is_none()
}
