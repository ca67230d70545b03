//! The admin API, on a listener of its own: operators' programs find and change accounts, end sessions and read the
//! audit trail. `docs/api.md` is its contract.
//!
//! A request presents an admin key. Each route needs one scope, and no scope includes another; a route without a scope
//! cannot be written here (SEC-144).

mod cursor;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use countersign_axum::{Members, Reply, read_members};
use countersign_core::flow::{EmailChange, EmailProof, NewAccount, ProfileChange};
use countersign_core::model::{AdminKeyText, AdminScope, AuditPosition, EmailAddress, Roles, Username};
use countersign_core::store::{AuditPage, SessionPage, SessionPosition, UserPage, UserPosition};
use countersign_http::{Answer, ClientAddress, ErrorCode, no_store, vary_personal};
use countersign_jwt::{SessionId, UserId};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use self::cursor::Listing;
use crate::operator::{ActError, Actor, Operator, UserChange};
use crate::shown::{ShownEvent, ShownUser, shown_session};

/// The routes of the admin API.
pub(crate) fn routes(operator: Operator) -> Router {
    use AdminScope::{EventsRead, SessionsRead, SessionsWrite, UsersRead, UsersWrite};
    let needs = |scope: AdminScope, routes: MethodRouter<Operator>| {
        routes.route_layer(middleware::from_fn_with_state((operator.clone(), scope), authorise))
    };
    let users = needs(UsersRead, get(users)).merge(needs(UsersWrite, post(create)));
    let user = needs(UsersRead, get(user)).merge(needs(UsersWrite, delete(remove).patch(change)));
    let sessions = needs(SessionsRead, get(sessions)).merge(needs(SessionsWrite, delete(end_sessions)));
    Router::new()
        .route("/v1/admin/users", users)
        .route("/v1/admin/users/{id}", user)
        .route("/v1/admin/users/{id}/reset", needs(UsersWrite, post(reset)))
        .route("/v1/admin/users/{id}/sessions", sessions)
        .route("/v1/admin/users/{id}/sessions/{session}", needs(SessionsWrite, delete(end_session)))
        .route("/v1/admin/events", needs(EventsRead, get(events)))
        .with_state(operator)
}

/// Lets a request through whose key allows the route. A key that is well formed costs one read; any other text costs
/// none.
async fn authorise(
    State((operator, scope)): State<(Operator, AdminScope)>,
    mut request: Request,
    next: Next,
) -> Result<Response, Reply> {
    let ip = request.extensions().get::<ClientAddress>().map(|client| client.address());
    let refused = |why: &'static str| {
        tracing::warn!(ip = ip.map(tracing::field::display), "an admin key was refused: {why}");
        Reply(Answer::error(ErrorCode::InvalidToken))
    };
    let presented = presented(request.headers())?.ok_or_else(|| refused("the text is no key"))?;
    let now = operator.now();
    let key = operator.stores.admin_keys().admin_key(presented.id()).await?;
    let key = key.filter(|key| key.is_proven_by(&presented)).ok_or_else(|| refused("it is unknown"))?;
    if key.has_expired(now) {
        return Err(refused("it has expired"));
    }
    if !key.allows(scope, now) {
        return Err(insufficient(scope));
    }
    request.extensions_mut().insert(Actor { name: key.name, ip });
    Ok(next.run(request).await)
}

/// The key of the one `Authorization: Bearer`; `None` if its text is no key.
fn presented(headers: &HeaderMap) -> Result<Option<AdminKeyText>, Reply> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let field = match (fields.next(), fields.next()) {
        (None, _) => return Err(Answer::error(ErrorCode::MissingToken).into()),
        (Some(field), None) => field,
        (Some(_), Some(_)) => return Err(Answer::error(ErrorCode::InvalidRequest).into()),
    };
    let text = field.to_str().ok().and_then(|text| text.split_once(' '));
    let text = text.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, text)| text.trim());
    Ok(text.and_then(AdminKeyText::parse))
}

/// 403 that names the scope (RFC 6750 §3).
fn insufficient(scope: AdminScope) -> Reply {
    let description = match scope {
        AdminScope::UsersRead => "The key lacks the scope users:read.",
        AdminScope::UsersWrite => "The key lacks the scope users:write.",
        AdminScope::SessionsRead => "The key lacks the scope sessions:read.",
        AdminScope::SessionsWrite => "The key lacks the scope sessions:write.",
        AdminScope::EventsRead => "The key lacks the scope events:read.",
        _ => ErrorCode::InsufficientScope.description(),
    };
    let mut answer = Answer::error_with(ErrorCode::InsufficientScope, description);
    let challenge = format!(
        "Bearer error=\"insufficient_scope\", error_description=\"{description}\", scope=\"{}\"",
        scope.name()
    );
    if let Ok(challenge) = HeaderValue::try_from(challenge) {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    answer.into()
}

/// `GET /v1/admin/users`
async fn users(State(operator): State<Operator>, request: Request) -> Result<Reply, Reply> {
    let wanted = Listing::parse(request.uri().query().unwrap_or_default(), ["query"])?;
    let after = wanted.after(|at, id| Some(UserPosition { created_at: at, id: UserId::new(id).ok()? }))?;
    let query = wanted.filter("query").and_then(UserPage::search_text);
    let page = UserPage { query: query.as_deref(), after, limit: wanted.limit + 1 };
    let users = operator.stores.users().users(&page).await?;
    let (users, next) = wanted.page(users, |last| (last.created_at, last.id.to_string()));
    let users: Vec<_> = users.iter().map(ShownUser::from).collect();
    answer(StatusCode::OK, &json!({ "users": users, "next": next }))
}

/// `POST /v1/admin/users`
async fn create(
    State(operator): State<Operator>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<Reply, Reply> {
    let (parts, body) = request.into_parts();
    let mut members = read_members(&parts.headers, body).await?;
    members.only(
        &["email", "username", "roles", "email_verified", "invite"],
        "The members are email, username, roles, email_verified and invite. Users choose their passwords themselves.",
    )?;
    let account = NewAccount {
        email: parsed(&mut members, "email", EmailAddress::parse),
        username: parsed(&mut members, "username", Username::parse),
        roles: roles(&mut members).unwrap_or_default(),
        email_verified: members.flag("email_verified"),
        language: None,
    };
    let invite = members.flag("invite");
    members.check()?;
    let user = operator.create(&actor, account, invite).await?;
    answer(StatusCode::CREATED, &ShownUser::from(&user))
}

/// `GET /v1/admin/users/{id}`
async fn user(State(operator): State<Operator>, id: Id) -> Result<Reply, Reply> {
    let user = operator.user(&user_id(id)?).await?;
    answer(StatusCode::OK, &ShownUser::from(&user))
}

/// `PATCH /v1/admin/users/{id}`
async fn change(
    State(operator): State<Operator>,
    Extension(actor): Extension<Actor>,
    id: Id,
    request: Request,
) -> Result<Reply, Reply> {
    const NAMES: [&str; 5] = ["roles", "disabled", "email", "username", "email_verified"];
    let (parts, body) = request.into_parts();
    let mut members = read_members(&parts.headers, body).await?;
    members.only(&NAMES, "The members are roles, disabled, email, username and email_verified.")?;
    for name in NAMES {
        if name != "username" && members.is_null(name) {
            members.wrong(name, "must not be null");
        }
    }
    // `null` removes the username.
    let no_username = members.is_null("username").then_some(None);
    let email = parsed(&mut members, "email", EmailAddress::parse);
    let profile = ProfileChange {
        username: parsed(&mut members, "username", Username::parse).map(Some).or(no_username),
        email: email.map(|email| EmailChange { email, proof: EmailProof::Operator }),
        roles: roles(&mut members),
        email_verified: flag(&mut members, "email_verified"),
        language: None,
    };
    let disabled = flag(&mut members, "disabled");
    members.check()?;
    let user = operator.change(&actor, &user_id(id)?, UserChange { profile, disabled }).await?;
    answer(StatusCode::OK, &ShownUser::from(&user))
}

/// `DELETE /v1/admin/users/{id}`
async fn remove(
    State(operator): State<Operator>,
    Extension(actor): Extension<Actor>,
    id: Id,
) -> Result<Reply, Reply> {
    operator.delete(&actor, &user_id(id)?).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `POST /v1/admin/users/{id}/reset`
async fn reset(
    State(operator): State<Operator>,
    Extension(actor): Extension<Actor>,
    id: Id,
) -> Result<Reply, Reply> {
    operator.send_reset(&actor, &user_id(id)?).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// `GET /v1/admin/users/{id}/sessions`
async fn sessions(State(operator): State<Operator>, id: Id, request: Request) -> Result<Reply, Reply> {
    let wanted = Listing::parse(request.uri().query().unwrap_or_default(), [])?;
    let after = wanted.after(|at, id| Some(SessionPosition { created_at: at, id: id.parse().ok()? }))?;
    let page = SessionPage { after, skip: 0, limit: wanted.limit + 1 };
    let sessions = operator.sessions(&user_id(id)?, page).await?;
    let (sessions, next) = wanted.page(sessions, |last| (last.created_at, last.id.to_string()));
    let sessions: Vec<_> = sessions.iter().map(shown_session).collect();
    answer(StatusCode::OK, &json!({ "sessions": sessions, "next": next }))
}

/// `DELETE /v1/admin/users/{id}/sessions`
async fn end_sessions(
    State(operator): State<Operator>,
    Extension(actor): Extension<Actor>,
    id: Id,
) -> Result<Reply, Reply> {
    operator.end_sessions(&actor, &user_id(id)?).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `DELETE /v1/admin/users/{id}/sessions/{session}`
async fn end_session(
    State(operator): State<Operator>,
    Extension(actor): Extension<Actor>,
    ids: Result<Path<(String, String)>, PathRejection>,
) -> Result<Reply, Reply> {
    let Path((id, session)) = ids.map_err(|_| not_found())?;
    let session = session.parse::<SessionId>().map_err(|_| not_found())?;
    operator.end_session(&actor, &user_id(Ok(Path(id)))?, session).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `GET /v1/admin/events`
async fn events(State(operator): State<Operator>, request: Request) -> Result<Reply, Reply> {
    let wanted = Listing::parse(request.uri().query().unwrap_or_default(), ["user", "name"])?;
    let after = wanted.after(|at, id| Some(AuditPosition { at, id: Uuid::try_parse(id).ok()? }))?;
    let user_id = match wanted.filter("user").map(UserId::new) {
        None => None,
        Some(Ok(id)) => Some(id),
        // Nothing can have happened to such a user.
        Some(Err(_)) => return answer(StatusCode::OK, &json!({ "events": [], "next": null })),
    };
    let page =
        AuditPage { user_id: user_id.as_ref(), name: wanted.filter("name"), after, limit: wanted.limit + 1 };
    let records = operator.stores.audit().audit(&page).await?;
    let (records, next) = wanted.page(records, |last| (last.at, last.id.to_string()));
    let events: Vec<_> = records.into_iter().map(ShownEvent::from).collect();
    answer(StatusCode::OK, &json!({ "events": events, "next": next }))
}

type Id = Result<Path<String>, PathRejection>;

/// The id in a path. A text that is no id is an unknown user's.
fn user_id(id: Id) -> Result<UserId, Reply> {
    id.ok().and_then(|Path(id)| UserId::new(&id).ok()).ok_or_else(not_found)
}

fn parsed<T, E: ToString>(
    members: &mut Members,
    name: &'static str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    match parse(&members.text(name)?) {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            members.wrong(name, error.to_string());
            None
        }
    }
}

fn flag(members: &mut Members, name: &'static str) -> Option<bool> {
    members.has(name).then(|| members.flag(name))
}

fn roles(members: &mut Members) -> Option<Roles> {
    if !members.has("roles") {
        return None;
    }
    let list = members.required_list("roles")?;
    let names: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
    match names.map(Roles::new) {
        Some(Ok(roles)) => return Some(roles),
        Some(Err(error)) => members.wrong("roles", error.to_string()),
        None => members.wrong("roles", "must be a list of texts"),
    }
    None
}

fn answer(status: StatusCode, body: &impl Serialize) -> Result<Reply, Reply> {
    let answer = Answer::json(status, body).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "a request could not be answered");
        Reply(Answer::error(ErrorCode::InternalError))
    })?;
    Ok(private(answer))
}

fn empty(status: StatusCode) -> Reply {
    private(Answer::empty(status))
}

fn private(mut answer: Answer) -> Reply {
    no_store(answer.headers_mut());
    vary_personal(answer.headers_mut());
    answer.into()
}

fn not_found() -> Reply {
    Answer::error(ErrorCode::NotFound).into()
}

impl From<ActError> for Reply {
    fn from(error: ActError) -> Self {
        let with = |code, description| Self(Answer::error_with(code, description));
        match error {
            ActError::Unknown => not_found(),
            ActError::Deleted => {
                with(ErrorCode::Conflict, "The account is being deleted and cannot be enabled again.")
            }
            ActError::NoMail => with(ErrorCode::InvalidFields, "This server sends no mail."),
            ActError::Unreachable => {
                with(ErrorCode::InvalidFields, "The account is disabled or has no e-mail address.")
            }
            ActError::NoAddress => with(
                ErrorCode::InvalidFields,
                "An invitation is mailed, and the account has no e-mail address.",
            ),
            ActError::Disabled => with(ErrorCode::Conflict, "The account is disabled."),
            ActError::Register(error) => error.into(),
            ActError::Profile(error) => error.into(),
            ActError::Credentials(error) => error.into(),
            ActError::Store(error) => error.into(),
        }
    }
}
