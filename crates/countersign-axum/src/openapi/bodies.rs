//! The schemas of request bodies, which handlers read member by member, and of answers that have no type of their own.
//!
//! No program makes values of these types. Their fields are the members, and the comments their descriptions.

#![expect(dead_code, reason = "nobody makes or reads values of these types")]

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::openapi::schema::{AnyOfBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

/// Every refusal.
#[derive(ToSchema)]
pub(super) struct Error {
    /// The code by which programs tell refusals apart.
    error: String,
    /// A sentence for people. It may change.
    error_description: String,
    /// With `invalid_fields`: what is wrong with each member.
    #[schema(required = false)]
    fields: BTreeMap<String, String>,
}

/// A new account.
#[derive(ToSchema)]
pub(super) struct Register {
    /// Needed unless the server lets people register by username alone.
    #[schema(max_length = 254)]
    email: Option<String>,
    username: Option<String>,
    password: String,
    /// Whether the tokens go into cookies, and not into the answer.
    cookies: Option<bool>,
    /// What the last login here has answered.
    device_token: Option<String>,
}

/// A login by name and password, by a mailed code or by a mailed link.
pub(super) enum Login {}

impl PartialSchema for Login {
    fn schema() -> RefOr<Schema> {
        // Not `oneOf`: other members than those of the chosen way are ignored.
        AnyOfBuilder::new()
            .item(Ref::from_schema_name(LoginByPassword::name()))
            .item(Ref::from_schema_name(LoginByCode::name()))
            .item(Ref::from_schema_name(LoginByLink::name()))
            .description(Some("By name and password, by a mailed code or by a mailed link."))
            .into()
    }
}

impl ToSchema for Login {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.extend([
            (LoginByPassword::name().into_owned(), LoginByPassword::schema()),
            (LoginByCode::name().into_owned(), LoginByCode::schema()),
            (LoginByLink::name().into_owned(), LoginByLink::schema()),
        ]);
    }

    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Login")
    }
}

/// A login by one name and a password.
#[derive(ToSchema)]
pub(super) struct LoginByPassword {
    /// Either of the two. Exactly one of `email_or_username`, `email` and `username` is given.
    email_or_username: Option<String>,
    email: Option<String>,
    username: Option<String>,
    password: String,
    /// Whether the tokens go into cookies, and not into the answer.
    cookies: Option<bool>,
    /// What the last login here has answered.
    device_token: Option<String>,
}

/// A login by the code of a mail.
#[derive(ToSchema)]
pub(super) struct LoginByCode {
    email: String,
    /// Six digits.
    code: String,
    cookies: Option<bool>,
    device_token: Option<String>,
}

/// A login by the link of a mail.
#[derive(ToSchema)]
pub(super) struct LoginByLink {
    /// The value of the link's `token`.
    token: String,
    cookies: Option<bool>,
    device_token: Option<String>,
}

/// The refresh token, where it comes neither as a bearer token nor in a cookie.
#[derive(ToSchema)]
pub(super) struct RefreshRequest {
    refresh_token: Option<String>,
}

/// A token of the session, where it comes neither as a bearer token nor in a cookie.
#[derive(ToSchema)]
pub(super) struct LogoutRequest {
    access_token: Option<String>,
    refresh_token: Option<String>,
}

/// What to change of an account. What is left out stays.
#[derive(ToSchema)]
pub(super) struct ChangeUser {
    /// `null` removes it.
    username: Option<String>,
    #[schema(nullable = false)]
    email: Option<String>,
    /// Needed with `email`.
    current_password: Option<String>,
    /// A tag such as `de`.
    language: Option<String>,
}

/// The current password.
#[derive(ToSchema)]
pub(super) struct CurrentPassword {
    current_password: String,
}

/// A new password in place of the current one.
#[derive(ToSchema)]
pub(super) struct ChangePassword {
    current_password: String,
    new_password: String,
}

/// The password of the caller.
#[derive(ToSchema)]
pub(super) struct Reauthenticate {
    password: String,
}

/// Where to mail to.
#[derive(ToSchema)]
pub(super) struct MailTo {
    email: String,
}

/// Where to mail to, for callers without an access token.
#[derive(ToSchema)]
pub(super) struct MailAgainTo {
    email: Option<String>,
}

/// A new password, and the token of the link that lets one set it.
#[derive(ToSchema)]
pub(super) struct ResetPassword {
    /// The value of the link's `token`.
    token: String,
    new_password: String,
}

/// The token of a mailed link.
#[derive(ToSchema)]
pub(super) struct VerifyEmail {
    /// The value of the link's `token`.
    token: String,
}

/// Tokens by their ids.
#[derive(ToSchema)]
pub(super) struct RevokeTokens {
    /// Values of `jti`.
    #[schema(min_items = 1, max_items = 100)]
    tokens: Vec<String>,
}

/// The claims of an access token.
#[derive(ToSchema)]
pub(super) struct AccessClaims {
    /// The user's id.
    sub: String,
    /// When it was issued, in seconds since 1970.
    iat: i64,
    exp: i64,
    jti: String,
    #[serde(rename = "type")]
    kind: String,
    /// Whether the login is recent.
    #[schema(required = false)]
    fresh: Value,
    /// The session's id.
    #[schema(required = false)]
    sid: String,
    #[schema(required = false)]
    roles: Vec<String>,
    /// Those of the application.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// A JWK set (RFC 7517 §5).
#[derive(ToSchema)]
pub(super) struct JwkSet {
    keys: Vec<BTreeMap<String, Value>>,
}

/// What a client asks about.
#[derive(ToSchema)]
pub(super) struct TokenForm {
    token: String,
    /// `access_token` or `refresh_token`. A wrong one changes nothing.
    token_type_hint: Option<String>,
    /// In place of `Authorization`.
    client_id: Option<String>,
    /// In place of `Authorization`.
    client_secret: Option<String>,
}

/// What introspection says (RFC 7662 §2.2). Of a token that is not good, `active` alone.
#[derive(ToSchema)]
pub(super) struct Introspection {
    active: bool,
    token_type: Option<String>,
    scope: Option<String>,
    client_id: Option<String>,
    exp: Option<i64>,
    iat: Option<i64>,
    nbf: Option<i64>,
    sub: Option<String>,
    /// A text or a list of texts.
    aud: Option<Value>,
    iss: Option<String>,
    jti: Option<String>,
    sid: Option<String>,
    roles: Option<Vec<String>>,
}

/// The metadata of an authorization server (RFC 8414 §2).
#[derive(ToSchema)]
pub(super) struct ServerMetadata {
    issuer: String,
    jwks_uri: String,
    introspection_endpoint: String,
    introspection_endpoint_auth_methods_supported: Vec<String>,
    revocation_endpoint: String,
    revocation_endpoint_auth_methods_supported: Vec<String>,
    /// None: this is no server for grants of others.
    response_types_supported: Vec<String>,
    /// None.
    grant_types_supported: Vec<String>,
}
