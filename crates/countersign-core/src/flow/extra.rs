//! Claims of the application's own, which the application is asked for whenever a token pair is made.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use countersign_jwt::claims::ClaimError;
use countersign_jwt::id::UserId;
use serde_json::{Map, Value};

use crate::store::{BoxError, UserStore};

/// A function of the application that returns the application's own claims for a user's access tokens.
///
/// The function is called for every token pair: at login, at refresh, and when a pair is reserved, which means served
/// again. A reserved pair has the same ids and times as before, but the application's claims as they are now. Refresh
/// tokens carry none of these claims.
#[derive(Clone)]
pub struct ExtraClaims(Arc<Ask>);

type Ask = dyn Fn(UserId) -> Pin<Box<dyn Future<Output = Result<Map<String, Value>, BoxError>> + Send>>
    + Send
    + Sync;

/// The reason why the application's own claims cannot be put into a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtraClaimsError {
    /// The application's function failed.
    #[error("the application could not give its claims for access tokens")]
    Ask(#[source] BoxError),
    /// The application named a claim that is not its own.
    #[error("the application's claims cannot be put into access tokens; give them other names")]
    Claim(#[from] ClaimError),
}

impl ExtraClaims {
    /// Calls `ask` for every token pair.
    pub fn new<E, F, Asking>(ask: F) -> Self
    where
        E: Into<BoxError>,
        F: Fn(UserId) -> Asking + Send + Sync + 'static,
        Asking: Future<Output = Result<Map<String, Value>, E>> + Send + 'static,
    {
        Self(Arc::new(move |user_id| {
            let asking = ask(user_id);
            Box::pin(async move { asking.await.map_err(Into::into) })
        }))
    }

    /// The roles of accounts as the claim `roles`, for accounts that have any, and the claims that `own` gives, which
    /// take precedence.
    #[must_use]
    pub fn with_roles(own: Option<Self>, users: Arc<dyn UserStore>) -> Self {
        Self::new(move |user_id: UserId| {
            let (own, users) = (own.clone(), users.clone());
            async move {
                let mut claims = match &own {
                    Some(own) => (own.0)(user_id.clone()).await?,
                    None => Map::new(),
                };
                if !claims.contains_key(ROLES)
                    && let Some(user) = users.user(&user_id).await?
                    && !user.roles.is_empty()
                {
                    claims.insert(ROLES.to_owned(), user.roles.iter().map(Value::from).collect());
                }
                Ok::<_, BoxError>(claims)
            }
        })
    }

    pub(crate) async fn ask(&self, user_id: &UserId) -> Result<Map<String, Value>, ExtraClaimsError> {
        (self.0)(user_id.clone()).await.map_err(ExtraClaimsError::Ask)
    }
}

/// The claim that has an account's roles (RFC 9068 §2.2.3.1).
const ROLES: &str = "roles";

impl fmt::Debug for ExtraClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExtraClaims")
    }
}
