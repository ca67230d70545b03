//! Registering and logging in.

use std::collections::BTreeMap;

use axum::extract::Request;
use countersign_core::flow::{Arrival, HashError, LoginError, LoginName, Registration, SignedIn};
use countersign_core::model::{
    DeviceToken, EmailAddress, NameError, OwnNames, Password, PasswordError, Username, WeakPassword,
    without_blanks,
};
use countersign_http::{Answer, Auth, DeviceCookie, ErrorCode, LoginNames, RegistrationMode};
use http::StatusCode;
use http::request::Parts;

use super::account::login_by_mail;
use super::{OTHER_DOMAIN, device, language, pair_reply, personal_empty, refused, unavailable};
use crate::body::{Members, read_members};
use crate::browser::Browser;
use crate::extract::Installed;
use crate::reply::Reply;

/// `POST /v1/auth/register`
pub(super) async fn register(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let (parts, body) = request.into_parts();
    let browser = match Browser::check(&auth, &parts).await {
        Ok(browser) => browser,
        Err(error) => return Err(refused(&auth, &parts, error).await),
    };
    let mut members = read_members(&parts.headers, body).await?;

    let by_cookie = wants_cookies(&auth, &mut members);
    let known_device = known_device(&auth, &parts, &mut members);
    if let Err(error) = browser.may_ask_for_cookies(&auth, &parts, by_cookie) {
        return Err(refused(&auth, &parts, error).await);
    }
    let rules = auth.engine().account_rules();
    let (needs_email, needs_username) = match rules.login_names {
        LoginNames::Email => (true, false),
        LoginNames::Username => (rules.registration == RegistrationMode::VerifyFirst, true),
        // An address is asked for where neither is given, because only that can reset a password.
        LoginNames::Both => (!members.has("username"), false),
    };
    if matches!(rules.registration, RegistrationMode::Invite | RegistrationMode::Closed) {
        return Err(Reply::error(ErrorCode::RegistrationClosed));
    }
    let email = if needs_email { members.required_text("email") } else { members.text("email") };
    let email = parsed(&mut members, "email", email, |text| EmailAddress::parse(&text));
    if email.as_ref().is_some_and(|email| !rules.allow_email(email)) {
        members.wrong("email", OTHER_DOMAIN);
    }
    let username = if needs_username { members.required_text("username") } else { members.text("username") };
    let username = parsed(&mut members, "username", username, |text| Username::parse(&text));
    let password = members.required_text("password");
    let passwords = &auth.accounts().passwords().rules;
    let names = OwnNames { email: email.as_ref(), username: username.as_ref() };
    let password = parsed(&mut members, "password", password, |text| passwords.admit(text, names));
    members.check()?;
    let Some(password) = password else { return Err(Reply::error(ErrorCode::InvalidFields)) };
    let registration = Registration { email, username, password, language: language(&parts.headers) };
    if rules.registration == RegistrationMode::VerifyFirst {
        auth.accounts().register_unseen(registration, device(&parts)).await?;
        return Ok(personal_empty(StatusCode::ACCEPTED));
    }
    let mut arrival = browser.arrival(&parts, by_cookie);
    arrival.known_device = known_device;
    let signed_in = auth.accounts().register(registration, arrival).await?;
    reply(&auth, StatusCode::CREATED, &signed_in, by_cookie)
}

/// `POST /v1/auth/login` of a program with users of its own.
pub(super) async fn login_any(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    if !auth.engine().users().log_in() {
        return login(Installed(auth), request).await;
    }
    let (parts, body) = request.into_parts();
    let browser = match Browser::check(&auth, &parts).await {
        Ok(browser) => browser,
        Err(error) => return Err(refused(&auth, &parts, error).await),
    };
    let mut members = read_members(&parts.headers, body).await?;
    let by_cookie = wants_cookies(&auth, &mut members);
    let known_device = known_device(&auth, &parts, &mut members);
    if let Err(error) = browser.may_ask_for_cookies(&auth, &parts, by_cookie) {
        return Err(refused(&auth, &parts, error).await);
    }
    let (_, name) = login_name_text(&mut members).unzip();
    let password = members.required_text("password");
    let password = parsed(&mut members, "password", password, Password::new_for_login);
    members.check()?;
    let (Some(name), Some(password)) = (name, password) else {
        return Err(Reply::error(ErrorCode::InvalidFields));
    };
    let arrival = Arrival { known_device, ..browser.arrival(&parts, by_cookie) };
    let SignedIn { user, pair, device_token } = auth.engine().login(&name, password, arrival).await?;
    pair_reply(&auth, StatusCode::OK, &pair, user, by_cookie, device_token.as_ref())
}

/// `POST /v1/auth/login`
pub(super) async fn login(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let (parts, body) = request.into_parts();
    let browser = match Browser::check(&auth, &parts).await {
        Ok(browser) => browser,
        Err(error) => return Err(refused(&auth, &parts, error).await),
    };
    let mut members = read_members(&parts.headers, body).await?;

    let by_cookie = wants_cookies(&auth, &mut members);
    let known_device = known_device(&auth, &parts, &mut members);
    if let Err(error) = browser.may_ask_for_cookies(&auth, &parts, by_cookie) {
        return Err(refused(&auth, &parts, error).await);
    }
    if auth.engine().sends_mail() && (members.has("code") || members.has("token")) {
        members.check()?;
        let mut arrival = browser.arrival(&parts, by_cookie);
        arrival.known_device = known_device;
        return login_by_mail(&auth, &mut members, arrival, by_cookie).await;
    }
    let name = login_name(&mut members);
    let password = members.required_text("password");
    let password = parsed(&mut members, "password", password, Password::new_for_login);
    members.check()?;
    let (Some(name), Some(password)) = (name, password) else {
        return Err(Reply::error(ErrorCode::InvalidFields));
    };

    let mut arrival = browser.arrival(&parts, by_cookie);
    arrival.known_device = known_device;
    arrival.verified_only = auth.engine().account_rules().registration == RegistrationMode::VerifyFirst;
    let signed_in = auth.accounts().login(name, password, arrival).await?;
    reply(&auth, StatusCode::OK, &signed_in, by_cookie)
}

pub(super) fn reply(
    auth: &Auth,
    status: StatusCode,
    signed_in: &SignedIn,
    by_cookie: bool,
) -> Result<Reply, Reply> {
    let device = signed_in.device_token.as_ref();
    pair_reply(auth, status, &signed_in.pair, &signed_in.user, by_cookie, device)
}

/// Whether the client asks for its tokens in cookies. It is an error if the rules take no tokens from cookies.
fn wants_cookies(auth: &Auth, members: &mut Members) -> bool {
    let by_cookie = members.flag("cookies");
    if by_cookie && let Some(why) = auth.rules().cookies().why_not() {
        members.wrong("cookies", why);
    }
    by_cookie
}

/// The device on which the client has logged in before, by the member `device_token` or by the cookie. A text that is no
/// device token counts as none: it proves nothing, and its absence costs little.
fn known_device(auth: &Auth, parts: &Parts, members: &mut Members) -> Option<DeviceToken> {
    let given = members.text("device_token");
    given
        .as_deref()
        .and_then(DeviceToken::parse)
        .or_else(|| DeviceCookie::of(auth.rules())?.token(&parts.headers))
}

/// The parsed member; if it cannot be parsed, the error is recorded.
pub(super) fn parsed<T, E: ToString>(
    members: &mut Members,
    name: &'static str,
    text: Option<String>,
    parse: impl FnOnce(String) -> Result<T, E>,
) -> Option<T> {
    match parse(text?) {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            members.wrong(name, error.to_string());
            None
        }
    }
}

type ParseName = fn(&str) -> LoginName;

/// The one name that a login is tried with.
fn login_name(members: &mut Members) -> Option<LoginName> {
    login_name_text(members).map(|(parse, text)| parse(&text))
}

/// The one name that a login is tried with, as text, and what its member says that it is.
fn login_name_text(members: &mut Members) -> Option<(ParseName, String)> {
    const NAMES: [(&str, ParseName); 3] = [
        ("email_or_username", LoginName::parse),
        ("email", LoginName::email),
        ("username", LoginName::username),
    ];
    let mut given = NAMES.into_iter().filter(|(name, _)| members.has(name)).collect::<Vec<_>>().into_iter();
    let Some((name, parse)) = given.next() else {
        members.wrong("email_or_username", "is required");
        return None;
    };
    if let Some((second, _)) = given.next() {
        members.wrong(second, "only one of email_or_username, email and username may be given");
        return None;
    }
    let text = members.text(name)?;
    let text = without_blanks(&text);
    // No account's name is longer or has these characters, so this answer does not reveal who is registered.
    if text.is_empty() || text.len() > EmailAddress::MAX_BYTES.max(4 * Username::MAX_CODE_POINTS) {
        members.wrong(name, "must be 1 to 256 bytes long");
        return None;
    }
    if text.chars().any(char::is_control) {
        members.wrong(name, "must not contain control characters");
        return None;
    }
    Some((parse, text.to_owned()))
}

impl From<LoginError> for Reply {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::InvalidCredentials => Self::error(ErrorCode::InvalidCredentials),
            LoginError::TooManyAttempts { retry_after } => {
                Self(Answer::error(ErrorCode::TooManyAttempts).retry_after(retry_after))
            }
            LoginError::EmailUnverified => Self::error(ErrorCode::EmailUnverified),
            LoginError::Hash(error) => error.into(),
            LoginError::Begin(error) => error.into(),
            error => unavailable(&error),
        }
    }
}

impl From<HashError> for Reply {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Overloaded => Self::error(ErrorCode::Overloaded),
            error => unavailable(&error),
        }
    }
}

impl From<PasswordError> for Reply {
    fn from(error: PasswordError) -> Self {
        WeakPassword::from(error).into()
    }
}

impl From<NameError> for Reply {
    fn from(error: NameError) -> Self {
        Self(Answer::invalid_fields(&BTreeMap::from([("name", error.to_string().into())])))
    }
}

impl From<WeakPassword> for Reply {
    fn from(error: WeakPassword) -> Self {
        Self(Answer::invalid_fields(&BTreeMap::from([("password", error.to_string().into())])))
    }
}
