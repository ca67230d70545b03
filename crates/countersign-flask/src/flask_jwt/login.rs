//! The login endpoint, and the tokens that it issues.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use countersign_core::flow::{Arrival, HashError, LoginError, SignedIn};
use countersign_core::flow::{BeginError, Pair, Presentation};
use countersign_core::model::Device;
use countersign_core::model::{Password, without_blanks};
use countersign_core::store::BoxError;
use countersign_http::{Answer, ContentEncoding, Engine, ErrorCode, RegistrationMode, no_store};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::answers::{FlaskJwtError, JwtRefusal};
use super::{FlaskJwt, IDENTITY, Inner};
use crate::hooks::{AnswerInstead, Hook};
use crate::json_body::is_json;
use crate::tokens::{FlaskClaims, NewToken, is_falsy};

/// The user who logged in: the value that tokens carry as `identity`, and the application's own object.
#[derive(Clone)]
pub struct Identity {
    id: Value,
    user: Arc<dyn Any + Send + Sync>,
}

impl Identity {
    /// An identity of the application's own.
    #[must_use]
    pub fn new(id: impl Into<Value>, user: impl Any + Send + Sync) -> Self {
        Self { id: id.into(), user: Arc::new(user) }
    }

    /// The value that tokens carry as `identity`.
    #[must_use]
    pub fn id(&self) -> &Value {
        &self.id
    }

    /// The application's own object, if it is of type `U`.
    #[must_use]
    pub fn user<U: 'static>(&self) -> Option<&U> {
        self.user.downcast_ref()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A login request.
pub(crate) struct Login {
    /// The user name as it was sent.
    pub(crate) username: Value,
    /// The password as it was sent.
    pub(crate) password: Value,
    /// The device that the login comes from.
    pub(crate) device: Device,
}

/// What sessions of Countersign add to the rules.
pub(crate) struct OverSessions {
    /// Whether the session of a token has ended.
    pub(crate) is_revoked: Hook<FlaskClaims, bool>,
    /// A login with the program's own users or Countersign's accounts, where no hook checks logins.
    pub(crate) authenticate: Hook<Login, Option<Identity>>,
    /// The answer to such a login.
    pub(crate) auth_response: Hook<(String, Identity), Answer>,
}

impl FlaskJwt {
    /// Answers a login request in the way of the endpoint at `JWT_AUTH_URL_RULE`.
    pub async fn login(&self, headers: &HeaderMap, body: &[u8]) -> Answer {
        self.login_from(headers, body, Device::default()).await
    }

    /// Answers a login request that comes from `device`. Where Countersign's sessions begin here, they show this
    /// device.
    pub async fn login_from(&self, headers: &HeaderMap, body: &[u8], device: Device) -> Answer {
        match self.logged_in(headers, body, device).await {
            Ok(answer) => answer,
            Err(refusal) => self.answer(&refusal, None).await,
        }
    }

    /// Creates the token that a login gives for an identity.
    ///
    /// # Errors
    /// A hook failed, or the claims or header members that hooks add cannot be issued.
    pub async fn create_token(&self, identity: &Identity) -> Result<String, BoxError> {
        let Inner { config, hooks, signing_key, clock, .. } = &*self.0;
        let now = clock.now();
        let mut claims = Map::new();
        claims.insert("exp".to_owned(), (now + config.expiration_delta).as_secs().into());
        claims.insert("iat".to_owned(), now.as_secs().into());
        claims.insert("nbf".to_owned(), (now + config.not_before_delta).as_secs().into());
        claims.insert(IDENTITY.to_owned(), identity.id.clone());
        if let Some(hook) = &hooks.payload {
            claims.extend(hook(identity.clone()).await?);
        }
        if let Some(missing) = config.required_claims.iter().find(|name| !claims.contains_key(*name)) {
            return Err(format!("payload is missing a required claim: {missing}").into());
        }
        let mut headers = Map::new();
        if let Some(hook) = &hooks.headers {
            headers = hook(identity.clone()).await?;
        }
        let token = NewToken::new(claims).with_header(headers)?;
        let key =
            signing_key.as_ref().ok_or("JWT_SECRET_KEY is shorter than the hash, so it only verifies")?;
        Ok(token.sign(key, &config.algorithm)?)
    }

    async fn logged_in(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        device: Device,
    ) -> Result<Answer, JwtRefusal> {
        let Inner { config, hooks, .. } = &*self.0;
        if let Some(encoding) = ContentEncoding::of(headers).filter(|_| !body.is_empty()) {
            return Ok(encoding.into());
        }
        if !is_json(headers) {
            return Err(JwtRefusal::Unreadable("The login must be application/json"));
        }
        let Ok(Value::Object(members)) = serde_json::from_slice(body) else {
            return Err(JwtRefusal::Unreadable("The login must be a JSON object"));
        };
        let refused = || JwtRefusal::Error(FlaskJwtError::new("Bad Request", "Invalid credentials"));
        let given = |key: &str| members.get(key).filter(|value| !is_falsy(value)).cloned();
        let (Some(username), Some(password), 2) =
            (given(&config.auth_username_key), given(&config.auth_password_key), members.len())
        else {
            return Err(refused());
        };
        let authenticate = hooks.authenticate.as_ref().ok_or_else(|| {
            JwtRefusal::HookFailed(
                "no authenticate hook; add `.authenticate(…)` to the FlaskJwtBuilder".into(),
            )
        })?;
        let login = Login { username, password, device };
        let identity = authenticate(login).await?.ok_or_else(refused)?;
        let token = self.create_token(&identity).await?;
        match &hooks.auth_response {
            Some(hook) => Ok(hook((token, identity)).await?),
            None => {
                let body = Map::from_iter([("access_token".to_owned(), Value::from(token))]);
                let mut answer = Answer::json(StatusCode::OK, &body)
                    .map_err(|error| JwtRefusal::HookFailed(error.into()))?;
                no_store(answer.headers_mut());
                Ok(answer)
            }
        }
    }
}

/// Logs in at Flask-JWT's endpoint as the ready-made login does: one of the program's own users, or an account of
/// Countersign's.
pub(super) async fn log_in(engine: Engine, login: Login) -> Result<Option<Identity>, BoxError> {
    /// The largest number of bytes in a name; no account has a longer one.
    const MAX_NAME_BYTES: usize = 256;
    let (Value::String(name), Value::String(password)) = (login.username, login.password) else {
        return Ok(None);
    };
    let name = without_blanks(&name);
    if name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Ok(None);
    }
    let Ok(password) = Password::new_for_login(password) else { return Ok(None) };
    let verified_only = engine.account_rules().registration == RegistrationMode::VerifyFirst;
    let arrival = Arrival { verified_only, ..Arrival::new(Presentation::Explicit, login.device) };
    match engine.login(name, password, arrival).await {
        Ok(SignedIn { pair, .. }) => Ok(Some(Identity::new(pair.user_id.to_string(), pair))),
        Err(LoginError::InvalidCredentials) => Ok(None),
        Err(LoginError::EmailUnverified) => {
            Err(AnswerInstead(Answer::error(ErrorCode::EmailUnverified)).into())
        }
        Err(LoginError::Hash(HashError::Overloaded)) => {
            Err(AnswerInstead(Answer::error(ErrorCode::Overloaded)).into())
        }
        Err(LoginError::Begin(BeginError::TooManySessions)) => {
            Err(AnswerInstead(Answer::error(ErrorCode::TooManySessions)).into())
        }
        Err(LoginError::TooManyAttempts { retry_after }) => {
            let answer = Answer::error(ErrorCode::TooManyAttempts).retry_after(retry_after);
            Err(AnswerInstead(answer).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// The answer with the access token of the session that began.
pub(super) fn token_answer(identity: &Identity) -> Result<Answer, BoxError> {
    let pair = identity.user::<Pair>().ok_or("a login without a session")?;
    let body = json!({"access_token": pair.access_token});
    let mut answer = Answer::json(StatusCode::OK, &body)?;
    no_store(answer.headers_mut());
    Ok(answer)
}
