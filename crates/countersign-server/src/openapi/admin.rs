//! The document of the admin API.

use countersign_axum::openapi::{Operation, document};
use countersign_core::model::AdminScope;
use countersign_http::ErrorCode;
use http::StatusCode;
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::OpenApi;
use utoipa::openapi::schema::ComponentsBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

use super::{described, frame, with_request_ids};
use crate::shown::ShownEvent;

/// The document of the admin listener.
pub(crate) fn admin() -> OpenApi {
    let key = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An admin key, `csk_…`: `countersign admin-key create`."));
    let schemes = ComponentsBuilder::new().security_scheme(KEY, SecurityScheme::Http(key.build()));
    let frame = frame("Countersign's admin API", ABOUT).components(Some(schemes.build())).build();
    with_request_ids(frame.merge_from(document(operations())))
}

fn operations() -> Vec<Operation> {
    use AdminScope::{EventsRead, SessionsRead, SessionsWrite, UsersRead, UsersWrite};
    const OK: StatusCode = StatusCode::OK;
    const DONE: StatusCode = StatusCode::NO_CONTENT;
    vec![
        Operation::get("/v1/admin/users", "users", USERS)
            .summary("Lists accounts, newest first.")
            .needs(UsersRead)
            .query("query", "A part of an e-mail address or a username, or a whole id.")
            .pages()
            .answers::<AdminUsers>(OK, "A page of accounts."),
        Operation::post("/v1/admin/users", "createUser", USERS)
            .summary("Makes an account without a password.")
            .needs(UsersWrite)
            .body::<CreateUser>()
            .body_example(json!({ "email": "ada@example.com", "roles": ["editor"], "invite": true }))
            .answers::<AdminUser>(StatusCode::CREATED, "The account.")
            .refuses([ErrorCode::EmailTaken, ErrorCode::UsernameTaken, ErrorCode::Conflict]),
        Operation::get("/v1/admin/users/{id}", "user", USERS)
            .summary("Shows an account.")
            .needs(UsersRead)
            .of_user()
            .answers::<AdminUser>(OK, "The account."),
        Operation::patch("/v1/admin/users/{id}", "changeUser", USERS)
            .summary("Changes an account.")
            .description("A new address counts at once. `disabled` ends the sessions.")
            .needs(UsersWrite)
            .of_user()
            .optional_body::<ChangeUser>()
            .body_example(json!({ "disabled": true }))
            .answers::<AdminUser>(OK, "The account as it is now.")
            .refuses([ErrorCode::EmailTaken, ErrorCode::UsernameTaken, ErrorCode::Conflict]),
        Operation::delete("/v1/admin/users/{id}", "deleteUser", USERS)
            .summary("Deletes an account.")
            .description("All sessions end at once. It is removed when its last token has expired.")
            .needs(UsersWrite)
            .of_user()
            .answers_nothing(DONE, "It will be removed.")
            .refuses([ErrorCode::Conflict]),
        Operation::post("/v1/admin/users/{id}/reset", "sendReset", USERS)
            .summary("Mails a link that sets another password.")
            .needs(UsersWrite)
            .of_user()
            .answers_nothing(StatusCode::ACCEPTED, "It is mailed.")
            .refuses([ErrorCode::InvalidFields, ErrorCode::Conflict]),
        Operation::get("/v1/admin/users/{id}/sessions", "userSessions", SESSIONS)
            .summary("Lists the live sessions of a user, newest first.")
            .needs(SessionsRead)
            .of_user()
            .pages()
            .answers::<AdminSessions>(OK, "A page of sessions."),
        Operation::delete("/v1/admin/users/{id}/sessions", "endUserSessions", SESSIONS)
            .summary("Ends all sessions of a user.")
            .needs(SessionsWrite)
            .of_user()
            .answers_nothing(DONE, "They have ended."),
        Operation::delete("/v1/admin/users/{id}/sessions/{session}", "endUserSession", SESSIONS)
            .summary("Ends one session of a user.")
            .needs(SessionsWrite)
            .of_user()
            .path_parameter("session", "The session's id.")
            .answers_nothing(DONE, "It has ended."),
        Operation::get("/v1/admin/events", "events", EVENTS)
            .summary("Lists the events of the audit trail, newest first.")
            .needs(EventsRead)
            .query("user", "A user's id.")
            .query("name", "The name of an event.")
            .pages()
            .answers::<AdminEvents>(OK, "A page of events."),
        described(),
    ]
}

trait OfAdmin: Sized {
    /// A key with this scope.
    fn needs(self, scope: AdminScope) -> Self;

    /// The user in the path.
    fn of_user(self) -> Self;
}

impl OfAdmin for Operation {
    fn needs(self, scope: AdminScope) -> Self {
        self.scheme(KEY, &[scope.name()]).refuses([
            ErrorCode::MissingToken,
            ErrorCode::InvalidToken,
            ErrorCode::InsufficientScope,
            ErrorCode::Unavailable,
        ])
    }

    fn of_user(self) -> Self {
        self.path_parameter("id", "The user's id.").refuses([ErrorCode::NotFound])
    }
}

/// A new account, with an e-mail address, a username or both.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the handler reads it member by member")]
struct CreateUser {
    email: Option<String>,
    username: Option<String>,
    roles: Option<Vec<String>>,
    email_verified: Option<bool>,
    /// Whether a link to choose a password is mailed.
    invite: Option<bool>,
}

/// What to change of an account. What is left out stays.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the handler reads it member by member")]
struct ChangeUser {
    #[schema(nullable = false)]
    roles: Option<Vec<String>>,
    #[schema(nullable = false)]
    disabled: Option<bool>,
    #[schema(nullable = false)]
    email: Option<String>,
    /// `null` removes it.
    username: Option<String>,
    #[schema(nullable = false)]
    email_verified: Option<bool>,
}

/// An account, with what only operators see.
#[derive(ToSchema)]
#[schema(as = User)]
#[expect(dead_code, reason = "what is shown is made of the library's user; a test compares")]
pub(super) struct AdminUser {
    id: String,
    #[schema(required)]
    email: Option<String>,
    email_verified: bool,
    #[schema(required)]
    username: Option<String>,
    roles: Vec<String>,
    has_password: bool,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(required)]
    language: Option<String>,
    #[schema(required, format = DateTime)]
    disabled_at: Option<String>,
    /// Since when the account is being deleted.
    #[schema(required, format = DateTime)]
    deleted_at: Option<String>,
}

/// Accounts, newest first.
#[derive(ToSchema)]
#[schema(as = Users)]
#[expect(dead_code, reason = "the handler makes it of parts")]
struct AdminUsers {
    users: Vec<AdminUser>,
    #[schema(required)]
    next: Option<String>,
}

/// A session.
#[derive(ToSchema)]
#[schema(as = Session)]
#[expect(dead_code, reason = "what is shown is made of the library's session; a test compares")]
pub(super) struct AdminSession {
    #[schema(format = "uuid")]
    id: String,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    last_seen_at: String,
    #[schema(format = DateTime)]
    expires_at: String,
    #[schema(required)]
    user_agent: Option<String>,
    #[schema(required)]
    ip: Option<String>,
}

/// Sessions, newest first.
#[derive(ToSchema)]
#[schema(as = Sessions)]
#[expect(dead_code, reason = "the handler makes it of parts")]
struct AdminSessions {
    sessions: Vec<AdminSession>,
    #[schema(required)]
    next: Option<String>,
}

/// Events, newest first.
#[derive(ToSchema)]
#[schema(as = Events)]
#[expect(dead_code, reason = "the handler makes it of parts")]
struct AdminEvents {
    events: Vec<ShownEvent>,
    #[schema(required)]
    next: Option<String>,
}

const ABOUT: &str = "For operators' programs, on a listener of its own. `docs/api.md` tells in words what this document \
                     cannot.";
const KEY: &str = "adminKey";
const USERS: &str = "Users";
const SESSIONS: &str = "Sessions";
const EVENTS: &str = "Events";
