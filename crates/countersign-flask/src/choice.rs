//! The choice between the two libraries' rules, as a setting names them: [`FlaskRules`].

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use countersign_core::store::BoxError;
use countersign_http::{CheckedRules, RulesBuilder};
use countersign_jwt::{Clock, Random};

use crate::flask_jwt::{FlaskJwt, FlaskJwtConfig};
use crate::flask_jwt_extended::{FlaskJwtExtended, FlaskJwtExtendedConfig};
use crate::hooks::{Hook, hook};
use crate::options::{OptionError, Options};
use crate::tokens::FlaskClaims;

/// One of the two libraries, with its options, as a program's setting chooses it. `AuthBuilder::rules` takes it
/// directly.
///
/// ```
/// use countersign_core::store::MemoryStore;
/// use countersign_flask::{FlaskRules, Options};
/// use countersign_http::Auth;
/// # use countersign_testkit::TestBed;
/// # use serde_json::json;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let options = json!({"JWT_SECRET_KEY": "o2X9c1vB7uQkLz0TfYhWmR4s8NpEaJdG"});
/// # let options = || Options::from(options.as_object().cloned().unwrap_or_default());
/// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
/// let rules = FlaskRules::by_name("flask-jwt-extended", options)?.ok_or("there are two libraries")?;
/// let auth = Auth::builder(stores, secrets).rules(rules).build().await?;
/// assert_eq!(auth.rules().name(), "flask-jwt-extended");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub enum FlaskRules {
    /// The rules of Flask-JWT-Extended.
    FlaskJwtExtended(Box<FlaskJwtExtendedConfig>),
    /// The rules of Flask-JWT.
    FlaskJwt(Box<FlaskJwtConfig>),
}

impl FlaskRules {
    /// The rules with this name, `flask-jwt-extended` or `flask-jwt`, and these options; `None` for another name.
    ///
    /// # Errors
    /// [`OptionError`] names the first option that cannot be used, and what to write instead.
    pub fn by_name(name: &str, options: impl FnOnce() -> Options) -> Result<Option<Self>, OptionError> {
        Ok(Some(match name {
            "flask-jwt-extended" => {
                Self::FlaskJwtExtended(Box::new(FlaskJwtExtendedConfig::from_options(options())?))
            }
            "flask-jwt" => Self::FlaskJwt(Box::new(FlaskJwtConfig::from_options(options())?)),
            _ => return Ok(None),
        }))
    }

    /// These rules, with one more way to tell that a token was revoked, such as a table of the Flask application's.
    #[must_use]
    pub fn is_revoked<E, F, Fut>(self, is_revoked: F) -> AskingRules
    where
        E: Into<BoxError>,
        F: Fn(FlaskClaims) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<bool, E>> + Send + 'static,
    {
        AskingRules { rules: self, is_revoked: hook(is_revoked) }
    }

    /// The names of both libraries' options.
    pub fn option_names() -> impl Iterator<Item = &'static str> {
        FlaskJwtExtendedConfig::NAMES.into_iter().chain(FlaskJwtConfig::NAMES)
    }

    /// The name of the option that decides a setting on which a store's programs agree; `None` if no option does.
    #[must_use]
    pub fn option_for(&self, agreed: &str) -> Option<&'static str> {
        match (self, agreed) {
            (Self::FlaskJwtExtended(_), "access_lifetime") => Some("JWT_ACCESS_TOKEN_EXPIRES"),
            (Self::FlaskJwtExtended(_), "idle" | "absolute") => Some("JWT_REFRESH_TOKEN_EXPIRES"),
            (Self::FlaskJwt(_), "access_lifetime") => Some("JWT_EXPIRATION_DELTA"),
            _ => None,
        }
    }
}

/// [`FlaskRules`] that also ask the application whether a token was revoked.
#[derive(Clone)]
pub struct AskingRules {
    rules: FlaskRules,
    is_revoked: Hook<FlaskClaims, bool>,
}

impl fmt::Debug for AskingRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskingRules").field("rules", &self.rules).finish_non_exhaustive()
    }
}

#[async_trait]
impl RulesBuilder for AskingRules {
    async fn check(
        self: Box<Self>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Box<dyn CheckedRules>, BoxError> {
        let is_revoked = self.is_revoked;
        match self.rules {
            FlaskRules::FlaskJwtExtended(config) => {
                let jwt = FlaskJwtExtended::builder(*config).is_revoked(move |token| is_revoked(token));
                Box::new(jwt).check(clock, random).await
            }
            FlaskRules::FlaskJwt(config) => {
                let jwt = FlaskJwt::builder(*config).is_revoked(move |token| is_revoked(token));
                Box::new(jwt).check(clock, random).await
            }
        }
    }
}

#[async_trait]
impl RulesBuilder for FlaskRules {
    async fn check(
        self: Box<Self>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Box<dyn CheckedRules>, BoxError> {
        match *self {
            Self::FlaskJwtExtended(config) => {
                Box::new(FlaskJwtExtended::builder(*config)).check(clock, random).await
            }
            Self::FlaskJwt(config) => Box::new(FlaskJwt::builder(*config)).check(clock, random).await,
        }
    }
}
