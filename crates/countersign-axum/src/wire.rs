//! JSON answers of the ready-made routes.

use countersign_core::flow::Pair;
use countersign_core::model::{Session, User};
use countersign_http::{SignedInUser, rfc3339};
use countersign_jwt::SessionId;
use serde::Serialize;
use serde_json::{Map, Value};

/// The *user* as the ready-made routes show it, for routes of your own.
#[must_use]
pub fn user_body(user: &User) -> impl Serialize + use<> {
    UserBody::from(user)
}

/// A *session* as the ready-made routes show it, for routes of your own. `current` is the caller's own session.
#[must_use]
pub fn session_body(session: &Session, current: Option<SessionId>) -> impl Serialize + use<> {
    SessionBody::new(session, current)
}

#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum UserBody {
    Account(AccountBody),
    Own(OwnUserBody),
}

/// An account.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = User))]
pub(crate) struct AccountBody {
    id: String,
    #[cfg_attr(feature = "openapi", schema(required))]
    email: Option<String>,
    email_verified: bool,
    #[cfg_attr(feature = "openapi", schema(required))]
    username: Option<String>,
    roles: Vec<String>,
    /// Whether a password is set. An account that was invited, or signs in by mailed codes, may have none.
    has_password: bool,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    created_at: String,
}

/// A user, as the program shows it.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = User))]
pub(crate) struct OwnUserBody {
    id: String,
    #[serde(flatten)]
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, Value>))]
    shown: Map<String, Value>,
}

impl From<&User> for UserBody {
    fn from(user: &User) -> Self {
        Self::Account(AccountBody {
            id: user.id.to_string(),
            email: user.email.as_ref().map(|email| email.as_str().to_owned()),
            username: user.username.as_ref().map(|username| username.as_str().to_owned()),
            email_verified: user.has_verified_email(),
            roles: user.roles.iter().map(str::to_owned).collect(),
            has_password: user.password_hash.is_some(),
            created_at: rfc3339(user.created_at),
        })
    }
}

impl From<SignedInUser> for UserBody {
    fn from(user: SignedInUser) -> Self {
        match user {
            SignedInUser::Account(user) => (&*user).into(),
            SignedInUser::Own { id, mut shown } => {
                // Clients rely on `id` naming the token's user, so a value of that name from the program is left out.
                shown.remove("id");
                Self::Own(OwnUserBody { id: id.to_string(), shown })
            }
        }
    }
}

/// The tokens of a session, and its user.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Pair))]
pub(crate) struct PairBody<'a> {
    /// `null` where it is in a cookie.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub(crate) access_token: Option<&'a str>,
    /// `null` where it is in a cookie.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub(crate) refresh_token: Option<&'a str>,
    /// Always `Bearer`.
    pub(crate) token_type: &'static str,
    /// The seconds for which the access token is valid.
    pub(crate) expires_in: u64,
    #[cfg_attr(feature = "openapi", schema(schema_with = crate::openapi::user))]
    pub(crate) user: UserBody,
    /// By which a client without cookies is recognised at its next login. Only logins and registrations give one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub(crate) device_token: Option<&'a str>,
}

impl<'a> PairBody<'a> {
    /// The body with a pair. With `by_cookie`, the tokens go into cookies and not into the body (SEC-055).
    pub(crate) fn new(pair: &'a Pair, user: UserBody, expires_in: u64, by_cookie: bool) -> Self {
        Self {
            access_token: (!by_cookie).then_some(&*pair.access_token),
            refresh_token: (!by_cookie).then_some(&*pair.refresh_token),
            token_type: "Bearer",
            expires_in,
            user,
            device_token: None,
        }
    }
}

/// The body of a refresh that issues an access token alone.
#[derive(Serialize)]
pub(crate) struct RenewalBody<'a> {
    pub(crate) access_token: Option<&'a str>,
}

/// A session.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Session))]
pub(crate) struct SessionBody {
    #[cfg_attr(feature = "openapi", schema(format = "uuid"))]
    id: String,
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    created_at: String,
    /// When it was last refreshed, or its tokens were acknowledged to be in use.
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    last_seen_at: String,
    /// The earlier of idle and absolute expiry.
    #[cfg_attr(feature = "openapi", schema(format = DateTime))]
    expires_at: String,
    #[cfg_attr(feature = "openapi", schema(required))]
    user_agent: Option<String>,
    #[cfg_attr(feature = "openapi", schema(required))]
    ip: Option<String>,
    /// Whether it is the caller's own.
    current: bool,
}

impl SessionBody {
    pub(crate) fn new(session: &Session, current: Option<SessionId>) -> Self {
        Self {
            id: session.id.to_string(),
            created_at: rfc3339(session.created_at),
            last_seen_at: rfc3339(session.last_seen_at),
            expires_at: rfc3339(session.expires_at()),
            user_agent: session.device.user_agent.clone(),
            ip: session.device.ip.map(|ip| ip.to_string()),
            current: current == Some(session.id),
        }
    }
}

/// Sessions, newest first.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Sessions))]
pub(crate) struct SessionsBody {
    pub(crate) sessions: Vec<SessionBody>,
    /// Where there are more: the parameter `next` for the page after this one.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub(crate) next: Option<String>,
}

/// The number of tokens that are revoked now.
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Revoked))]
pub(crate) struct RevokedBody {
    pub(crate) revoked: usize,
}
