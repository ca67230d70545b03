//! The usual names of columns in the tables of Flask applications. Of each list, the first existing column is read.

/// The id of a row.
pub const ID: &[&str] = &["id"];
/// A user's e-mail address.
pub const EMAIL: &[&str] = &["email"];
/// A user's username.
pub const USERNAME: &[&str] = &["username", "name"];
/// A user's password, hashed.
pub const PASSWORD: &[&str] = &["password_hash", "password", "hashed_password"];
/// The time at which a user was registered.
pub const REGISTERED: &[&str] = &["created_at", "registered_on", "registered_at", "date_created"];
/// Columns that tell that a user is active.
pub const ACTIVE: &[&str] = &["is_active", "active"];
/// Columns that tell that a user is disabled.
pub const DISABLED: &[&str] = &["disabled", "disabled_at"];
/// Columns that tell that a user has proven to read mail sent to the e-mail address.
pub const VERIFIED: &[&str] = &[
    "confirmed_at",
    "email_verified_at",
    "email_confirmed_at",
    "email_verified",
    "email_confirmed",
    "confirmed",
];
/// A user's roles.
pub const ROLES: &[&str] = &["role", "roles", "is_admin"];
/// A user's role, as the id of a row in the table of the roles.
pub const ROLE_ID: &[&str] = &["role_id"];
/// The name of a role.
pub const ROLE_NAME: &[&str] = &["name"];

/// The user of a session.
pub const OWNER: &[&str] = &["user_id", "user"];
/// The `jti` of a session's access token.
pub const ACCESS: &[&str] = &["jti_access"];
/// The `jti` of a session's refresh token.
pub const REFRESH: &[&str] = &["jti_refresh"];
/// The time at which a session began.
pub const BEGAN: &[&str] = &["created_at", "login_at"];
/// The time at which a session expires.
pub const EXPIRES: &[&str] = &["refresh_expires_at", "expires_at"];
/// Columns that tell that a session was revoked.
pub const REVOKED: &[&str] = &["revoked", "is_revoked", "revoked_at", "ended_at", "logged_out_at"];
/// The `User-Agent` of a session.
pub const AGENT: &[&str] = &["user_agent", "device", "browser"];
/// The address of a session's client.
pub const IP: &[&str] = &["ip", "ip_address", "remote_addr"];

/// The `jti` of a revoked token.
pub const JTI: &[&str] = &["jti"];
/// The kind of a revoked token.
pub const TOKEN_TYPE: &[&str] = &["type", "token_type"];
/// The user of a revoked token.
pub const TOKEN_OWNER: &[&str] = &["user_id", "user", "user_identity", "identity"];
/// The time at which a token was revoked or, in tables of all tokens, issued.
pub const TOKEN_SINCE: &[&str] = &["created_at", "revoked_at", "blacklisted_on", "blocklisted_on"];
/// The time at which a revoked token expires.
pub const TOKEN_EXPIRES: &[&str] = &["expires_at", "expires", "exp"];
/// Columns that tell, in tables of all tokens, that a token was revoked.
pub const TOKEN_REVOKED: &[&str] = &["revoked", "is_revoked"];
