//! The ready-made routes as an OpenAPI 3.1 document, for a program that documents its own routes by [utoipa].
//!
//! Each function here describes the routes that its namesake of the crate mounts. `docs/api.md` is the contract in words;
//! tests of the server compare the two.
//!
//! ```
//! use countersign_axum::{Auth, openapi};
//! use utoipa::OpenApi as _;
//! # use countersign_core::store::MemoryStore;
//! # use countersign_testkit::TestBed;
//!
//! #[derive(utoipa::OpenApi)]
//! #[openapi(info(title = "Example", version = "1.0.0"))]
//! struct Document;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let auth = Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
//! let document = Document::openapi()
//!     .merge_from(openapi::security(&auth))
//!     .merge_from(openapi::routes(&auth))
//!     .merge_from(openapi::account_routes(&auth));
//! let document = serde_json::to_value(document)?;
//! assert_eq!(document["openapi"], "3.1.0");
//! assert!(document["paths"]["/v1/auth/login"]["post"]["responses"]["401"].is_object());
//! # Ok(())
//! # }
//! ```

mod bodies;
mod operation;

use countersign_http::{Auth, CSRF_HEADER, CookieKind, ErrorCode};
use http::StatusCode;
use serde_json::{Value, json};
use utoipa::openapi::schema::{ComponentsBuilder, Schema};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, OpenApiBuilder, Ref, RefOr};

use self::operation::{ACCESS_COOKIE, BEARER, CLIENT, CSRF, REFRESH_COOKIE};
pub use self::operation::{Credential, Operation, document};
use crate::wire::{AccountBody, OwnUserBody, PairBody, RevokedBody, SessionsBody};

/// The ways to show a token, with the names of this program's cookies.
#[must_use]
pub fn security(auth: &Auth) -> OpenApi {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("An access token; where a refresh token is asked for, that one."));
    let header = ApiKeyValue::with_description(
        CSRF_HEADER.as_str(),
        "The value of the CSRF cookie, with unsafe requests that a cookie authenticates.",
    );
    let mut schemes = ComponentsBuilder::new()
        .security_scheme(BEARER, SecurityScheme::Http(bearer.build()))
        .security_scheme(CSRF, SecurityScheme::ApiKey(ApiKey::Header(header)))
        .security_scheme(
            CLIENT,
            SecurityScheme::Http(
                HttpBuilder::new()
                    .scheme(HttpAuthScheme::Basic)
                    .description(Some("The id and the secret of a client of the standard endpoints."))
                    .build(),
            ),
        );
    for (scheme, kind) in [(ACCESS_COOKIE, CookieKind::Access), (REFRESH_COOKIE, CookieKind::Refresh)] {
        if let Some(name) = auth.rules().cookies().name(kind) {
            let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(name)));
            schemes = schemes.security_scheme(scheme, cookie);
        }
    }
    OpenApiBuilder::new().components(Some(schemes.build())).build()
}

/// What [`routes`](crate::routes) mounts.
#[must_use]
pub fn routes(auth: &Auth) -> OpenApi {
    let changes_of_own_users: &[ErrorCode] =
        if has_own_users(auth) { &[ErrorCode::MethodNotAllowed] } else { &[] };
    document([
        Operation::post("/v1/auth/refresh", "refresh", SIGNING_IN)
            .summary("Exchanges a refresh token for a new pair.")
            .description(
                "The access token of the new pair is never fresh. Within the grace of a refresh the answer is the \
                 pair of that refresh again. A token that came in a cookie is answered with cookies.",
            )
            .credential(Credential::Refresh)
            .optional_body::<bodies::RefreshRequest>()
            .body_example(json!({ "refresh_token": TOKEN }))
            .with_pair(auth, StatusCode::OK, "The new pair.")
            .refuses([ErrorCode::InsecureCookies]),
        Operation::post("/v1/auth/logout", "logout", SIGNING_IN)
            .summary("Ends the session of a token.")
            .description("The token may have expired. Cookies are cleared.")
            .credential(Credential::Any)
            .optional_body::<bodies::LogoutRequest>()
            .body_example(json!({ "refresh_token": TOKEN }))
            .answers_nothing(StatusCode::NO_CONTENT, "The session has ended.")
            .sets_cookies(StatusCode::NO_CONTENT),
        Operation::get("/v1/auth/me", "me", ACCOUNT)
            .summary("Shows the caller.")
            .credential(Credential::Access)
            .with_user(auth, "The user."),
        Operation::patch("/v1/auth/me", "changeMe", ACCOUNT)
            .summary("Changes the caller's names or language.")
            .description(
                "A new e-mail address counts once the mailed link was followed. Where no mail is sent it counts at once.",
            )
            .credential(Credential::Access)
            .optional_body::<bodies::ChangeUser>()
            .body_example(json!({ "username": "ada" }))
            .body_example(json!({ "email": "ada@example.net", "current_password": PASSWORD }))
            .with_user(auth, "The user as it is now.")
            .refuses(CHANGE)
            .refuses(CURRENT_PASSWORD)
            .refuses([ErrorCode::EmailTaken, ErrorCode::UsernameTaken])
            .refuses(changes_of_own_users.iter().copied()),
        Operation::delete("/v1/auth/me", "deleteMe", ACCOUNT)
            .summary("Closes the caller's account.")
            .description("It is disabled and signed out at once, and removed when no token of it can be valid any more.")
            .credential(Credential::Access)
            .body::<bodies::CurrentPassword>()
            .body_example(json!({ "current_password": PASSWORD }))
            .answers_nothing(StatusCode::NO_CONTENT, "The account is closed.")
            .sets_cookies(StatusCode::NO_CONTENT)
            .refuses(CHANGE)
            .refuses(CURRENT_PASSWORD)
            .refuses(changes_of_own_users.iter().copied()),
        Operation::get("/v1/auth/sessions", "sessions", SESSIONS)
            .summary("Lists the caller's live sessions, newest first.")
            .credential(Credential::Access)
            .pages()
            .answers::<SessionsBody>(StatusCode::OK, "A page of sessions.")
            .example(StatusCode::OK, json!({ "sessions": [session()], "next": null })),
        Operation::delete("/v1/auth/sessions", "endOtherSessions", SESSIONS)
            .summary("Ends all sessions of the caller but this one.")
            .credential(Credential::Access)
            .answers_nothing(StatusCode::NO_CONTENT, "They have ended."),
        Operation::delete("/v1/auth/sessions/{id}", "endSession", SESSIONS)
            .summary("Ends one session of the caller.")
            .credential(Credential::Access)
            .path_parameter("id", "The session's id.")
            .answers_nothing(StatusCode::NO_CONTENT, "It has ended.")
            .sets_cookies(StatusCode::NO_CONTENT)
            .refuses([ErrorCode::NotFound]),
        Operation::delete("/v1/auth/revoke-tokens", "revokeTokens", SESSIONS)
            .summary("Revokes tokens of the caller by their ids.")
            .description("The id of a session's current refresh token ends that session.")
            .credential(Credential::Access)
            .body::<bodies::RevokeTokens>()
            .body_example(json!({ "tokens": [SESSION_ID] }))
            .answers::<RevokedBody>(StatusCode::OK, "They are revoked.")
            .example(StatusCode::OK, json!({ "revoked": 1 }))
            .refuses([ErrorCode::TooManyAttempts]),
        verify(),
        Operation::get("/.well-known/jwks.json", "jwks", FOR_SERVICES)
            .summary("The public keys of access tokens.")
            .answers_in::<bodies::JwkSet>(
                "application/jwk-set+json",
                StatusCode::OK, "A JWK set. Empty where tokens are signed with a shared secret.")
            .cached(),
        Operation::get("/v1/auth/refresh/page", "refreshPage", FOR_SERVICES)
            .summary("Renews a browser's session on its way to a page.")
            .description("Browsers are sent here by programs with login sessions. Nobody else calls it.")
            .query("next", "The page to go on to.")
            .query("until", "When the link ends.")
            .query("mac", "The program's signature.")
            .answers_nothing(StatusCode::SEE_OTHER, "To the page, or to sign in.")
            .header(StatusCode::SEE_OTHER, "Location", "The page.")
            .sets_cookies(StatusCode::SEE_OTHER)
            .refuses([ErrorCode::NotFound, ErrorCode::Unavailable]),
    ])
}

/// What [`login_routes`](crate::login_routes) mounts.
#[must_use]
pub fn login_routes(auth: &Auth) -> OpenApi {
    document([login(auth)])
}

/// What [`account_routes`](crate::account_routes) mounts.
#[must_use]
pub fn account_routes(auth: &Auth) -> OpenApi {
    document([
        Operation::post("/v1/auth/register", "register", SIGNING_IN)
            .summary("Makes an account and signs it in.")
            .description("Who may register, and by which names, the server's operator decides.")
            .body::<bodies::Register>()
            .body_example(json!({ "email": "ada@example.com", "password": PASSWORD }))
            .with_pair(auth, StatusCode::CREATED, "The account is there. Its access token is fresh.")
            .answers_nothing(
                StatusCode::ACCEPTED,
                "Where an address is to be verified before the first login. The same for new and known addresses.",
            )
            .refuses(BROWSER)
            .refuses([
                ErrorCode::RegistrationClosed,
                ErrorCode::EmailTaken,
                ErrorCode::UsernameTaken,
                ErrorCode::Conflict,
                ErrorCode::TooManySessions,
                ErrorCode::TooManyAttempts,
                ErrorCode::Unavailable,
                ErrorCode::Overloaded,
            ]),
        login(auth),
        Operation::post("/v1/auth/code", "mailCode", SIGNING_IN)
            .summary("Mails a code and a link that sign in.")
            .description("Always answered alike. Either is good once, within 10 minutes.")
            .mails(),
        Operation::post("/v1/auth/password", "changePassword", ACCOUNT)
            .summary("Changes the caller's password.")
            .description("All sessions from before end, and so do mailed links and codes.")
            .credential(Credential::Access)
            .body::<bodies::ChangePassword>()
            .body_example(json!({ "current_password": PASSWORD, "new_password": "another good one" }))
            .with_pair(auth, StatusCode::OK, "The pair of a new session. Its access token is fresh.")
            .refuses(CHANGE)
            .refuses(CURRENT_PASSWORD)
            .refuses([ErrorCode::TooManySessions]),
        Operation::post("/v1/auth/password/forgot", "forgotPassword", ACCOUNT)
            .summary("Mails a link that sets a new password.")
            .description("Always answered alike. The link is good once, for an hour.")
            .mails(),
        Operation::post("/v1/auth/password/reset", "resetPassword", ACCOUNT)
            .summary("Sets a password by the token of a mailed link.")
            .description("All sessions end, and nobody is signed in.")
            .body::<bodies::ResetPassword>()
            .body_example(json!({ "token": "…", "new_password": "another good one" }))
            .answers_nothing(StatusCode::NO_CONTENT, "The password is set.")
            .refuses([ErrorCode::InvalidLink, ErrorCode::EmailTaken, ErrorCode::Unavailable, ErrorCode::Overloaded]),
        Operation::post("/v1/auth/reauthenticate", "reauthenticate", SIGNING_IN)
            .summary("Proves the caller's password once more.")
            .credential(Credential::Access)
            .body::<bodies::Reauthenticate>()
            .body_example(json!({ "password": PASSWORD }))
            .with_pair(auth, StatusCode::OK, "The pair of the same session. Its access token is fresh.")
            .refuses(CHANGE)
            .refuses(CURRENT_PASSWORD)
            .refuses([ErrorCode::NotFound, ErrorCode::TooManySessions]),
        Operation::post("/v1/auth/email/verify", "verifyEmail", ACCOUNT)
            .summary("Verifies an e-mail address by the token of a mailed link.")
            .body::<bodies::VerifyEmail>()
            .body_example(json!({ "token": "…" }))
            .answers_nothing(StatusCode::NO_CONTENT, "The address is verified.")
            .refuses([ErrorCode::InvalidLink, ErrorCode::EmailTaken, ErrorCode::Unavailable, ErrorCode::Overloaded]),
        Operation::post("/v1/auth/email/resend", "resendVerification", ACCOUNT)
            .summary("Mails the link that verifies an address again.")
            .description("With an access token, to the caller; with `email`, to that address. Always answered alike.")
            .credential(Credential::OptionalAccess)
            .optional_body::<bodies::MailAgainTo>()
            .body_example(json!({ "email": "ada@example.com" }))
            .answers_nothing(StatusCode::ACCEPTED, "Taken.")
            .refuses([ErrorCode::NotFound, ErrorCode::TooManyAttempts]),
    ])
}

fn login(auth: &Auth) -> Operation {
    Operation::post("/v1/auth/login", "login", SIGNING_IN)
        .summary("Signs in.")
        .description(
            "With `\"cookies\": true` the tokens come as cookies, and the session ends whose cookies the request carries.",
        )
        .body::<bodies::Login>()
        .body_example(json!({ "email": "ada@example.com", "password": PASSWORD }))
        .body_example(json!({ "email_or_username": "ada", "password": PASSWORD, "cookies": true }))
        .body_example(json!({ "email": "ada@example.com", "code": "123456" }))
        .with_pair(auth, StatusCode::OK, "The pair of a new session. Its access token is fresh.")
        .refuses(BROWSER)
        .refuses([
            ErrorCode::InvalidCredentials,
            ErrorCode::EmailUnverified,
            ErrorCode::TooManySessions,
            ErrorCode::TooManyAttempts,
            ErrorCode::Unavailable,
            ErrorCode::Overloaded,
        ])
}

/// What [`standard_routes`](crate::standard_routes) mounts.
#[must_use]
pub fn standard_routes() -> OpenApi {
    document([
        Operation::post("/v1/auth/introspect", "introspect", FOR_SERVICES)
            .summary("Says whether a token is good, and what it says (RFC 7662).")
            .description("For clients that may introspect. Every token that is not good has the same answer.")
            .by_client()
            .answers::<bodies::Introspection>(
                StatusCode::OK,
                "What the token says, or that it is not active.",
            )
            .example(StatusCode::OK, json!({ "active": false })),
        Operation::post("/v1/auth/revoke", "revoke", FOR_SERVICES)
            .summary("Ends the session of a token (RFC 7009).")
            .description("For clients that may revoke. The answer is the same for every token.")
            .by_client()
            .answers_nothing(StatusCode::OK, "The token is not good any more."),
        metadata("/.well-known/oauth-authorization-server", "serverMetadata"),
        metadata("/.well-known/oauth-authorization-server/{issuer}", "serverMetadataOfPath")
            .path_parameter("issuer", "The path of the issuer (RFC 8414 §3.1), which may have slashes."),
    ])
}

fn metadata(path: &'static str, id: &str) -> Operation {
    Operation::get(path, id, FOR_SERVICES)
        .summary("Names the standard endpoints (RFC 8414).")
        .description("Not there without a public URL.")
        .answers::<bodies::ServerMetadata>(StatusCode::OK, "The metadata.")
        .cached()
        .refuses([ErrorCode::NotFound])
}

fn verify() -> Operation {
    const OK: StatusCode = StatusCode::OK;
    Operation::get("/v1/auth/verify", "verify", FOR_SERVICES)
        .summary("Verifies the caller's access token, for a reverse proxy or another service.")
        .description("The query is the proxy's, never the client's.")
        .credential(Credential::Access)
        .query("scope", "The token has these scopes.")
        .query("role", "The token has this role.")
        .query_of("redirect", "A browser without a session is sent to sign in.", &["yes"])
        .query_of("preflight", "Preflights of CORS pass without identity.", &["allow"])
        .query_of("csrf", "Forms of own pages need no CSRF value.", &["origin"])
        .query_of("for", "Refusals are 401 and 403 alone.", &["nginx"])
        .answers::<bodies::AccessClaims>(OK, "The claims of the token.")
        .header(OK, "X-Auth-User", "The user's id.")
        .header(OK, "X-Auth-Session", "The session's id.")
        .header(OK, "X-Auth-Scope", "The scopes, with spaces between them.")
        .header(OK, "X-Auth-Roles", "The roles, with spaces between them.")
        .header(OK, "X-Auth-Fresh", "`yes` soon after the login, otherwise `no`.")
        .answers_nothing(StatusCode::SEE_OTHER, "With `redirect=yes`: to sign in.")
        .header(StatusCode::SEE_OTHER, "Location", "The sign-in page.")
        .refuses([ErrorCode::CsrfFailed, ErrorCode::CrossSite, ErrorCode::InsufficientScope])
}

impl Operation {
    /// An answer with a pair, or with its tokens in cookies.
    fn with_pair(self, auth: &Auth, status: StatusCode, description: &str) -> Self {
        self.user_schema(auth)
            .answers::<PairBody<'_>>(status, description)
            .example(
                status,
                json!({
                    "access_token": TOKEN,
                    "refresh_token": TOKEN,
                    "token_type": "Bearer",
                    "expires_in": 900,
                    "user": example_user(auth),
                }),
            )
            .sets_cookies(status)
    }

    fn with_user(self, auth: &Auth, description: &str) -> Self {
        let status = StatusCode::OK;
        let this = if has_own_users(auth) {
            self.answers::<OwnUserBody>(status, description)
        } else {
            self.answers::<AccountBody>(status, description)
        };
        this.example(status, example_user(auth))
    }

    fn user_schema(self, auth: &Auth) -> Self {
        if has_own_users(auth) { self.schema::<OwnUserBody>() } else { self.schema::<AccountBody>() }
    }

    fn sets_cookies(self, status: StatusCode) -> Self {
        self.header(status, "Set-Cookie", "Where the tokens are, or were, in cookies; once for each.")
    }

    /// A request of a client of the standard endpoints about a token.
    fn by_client(self) -> Self {
        self.scheme(CLIENT, &[])
            .form::<bodies::TokenForm>()
            .body_example(json!({ "token": TOKEN }))
            .refuses([ErrorCode::UnauthorizedClient, ErrorCode::InvalidClient, ErrorCode::Unavailable])
    }

    /// An answer that caches keep for five minutes, and that clients need not read twice.
    fn cached(self) -> Self {
        self.header(StatusCode::OK, "Cache-Control", "`public, max-age=300`")
            .header(StatusCode::OK, "ETag", "By which a client asks whether it has changed.")
            .answers_nothing(StatusCode::NOT_MODIFIED, "It has not changed.")
    }

    /// A request that has something mailed to an address.
    fn mails(self) -> Self {
        self.body::<bodies::MailTo>()
            .body_example(json!({ "email": "ada@example.com" }))
            .answers_nothing(StatusCode::ACCEPTED, "Taken, whether or not there is such an account.")
            .refuses([ErrorCode::NotFound, ErrorCode::TooManyAttempts, ErrorCode::Unavailable])
    }
}

/// The schema of users, whose it ever are.
pub(crate) fn user() -> RefOr<Schema> {
    Ref::from_schema_name("User").into()
}

fn has_own_users(auth: &Auth) -> bool {
    auth.engine().users().log_in()
}

fn example_user(auth: &Auth) -> Value {
    if has_own_users(auth) {
        return json!({ "id": "17" });
    }
    json!({
        "id": "018f2f60-5a3c-7c1e-9d5a-6f1e4d5c0000",
        "email": "ada@example.com",
        "email_verified": true,
        "username": null,
        "roles": [],
        "has_password": true,
        "created_at": "2026-01-31T12:00:00Z",
    })
}

fn session() -> Value {
    json!({
        "id": SESSION_ID,
        "created_at": "2026-01-31T12:00:00Z",
        "last_seen_at": "2026-01-31T12:15:00Z",
        "expires_at": "2026-02-14T12:15:00Z",
        "user_agent": "ExampleApp/2.1 (Android)",
        "ip": "192.0.2.1",
        "current": true,
    })
}

/// The refusals of a request that may bring and ask for cookies.
const BROWSER: [ErrorCode; 3] = [ErrorCode::CsrfFailed, ErrorCode::CrossSite, ErrorCode::InsecureCookies];

/// The refusals of every change of an account.
const CHANGE: [ErrorCode; 4] =
    [ErrorCode::Conflict, ErrorCode::TooManyAttempts, ErrorCode::Unavailable, ErrorCode::Overloaded];

/// The refusals of a change that needs the current password.
const CURRENT_PASSWORD: [ErrorCode; 2] = [ErrorCode::WrongPassword, ErrorCode::NoPassword];

/// The tags, in which lists of operations are grouped.
const SIGNING_IN: &str = "Signing in and out";
const ACCOUNT: &str = "The account";
const SESSIONS: &str = "Sessions";
const FOR_SERVICES: &str = "For services";

/// Values of examples.
const TOKEN: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9…";
const PASSWORD: &str = "correct horse battery staple";
const SESSION_ID: &str = "018f2f61-0b6e-7a52-8d3f-1c2b3a4d5e6f";
