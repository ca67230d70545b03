//! The routes by which users change their own account: names, password, address, its end; and the mailed links.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::extract::Request;
use countersign_core::flow::{
    Arrival, AskError, CodeLoginError, Credentials, CredentialsError, EmailChange, EmailProof, LinkError,
    Presentation, Profile, ProfileChange, ProfileError, SecretCode,
};
use countersign_core::model::{
    EmailAddress, Language, LinkToken, OwnNames, Password, User, UserSession, Username, WeakPassword,
};
use countersign_http::{Answer, Auth, Authenticated, DeviceCookie, ErrorCode, Location, SignedInUser};
use http::StatusCode;
use http::request::Parts;

use super::own::authenticate;
use super::sign_in::{parsed, reply};
use super::{OTHER_DOMAIN, clear_cookies, device, no_name, personal, personal_empty, refused, unavailable};
use crate::body::{Members, read_members};
use crate::extract::Installed;
use crate::reply::Reply;
use crate::wire::UserBody;

/// The signed-in caller of a route that changes an account of Countersign's.
struct Caller {
    proof: Authenticated,
    user: User,
    parts: Parts,
    members: Members,
}

impl Caller {
    async fn of(auth: &Auth, request: Request) -> Result<Self, Reply> {
        let (mut parts, body) = request.into_parts();
        let proof = authenticate(auth, &mut parts).await?;
        let user = match auth.signed_in_user(&proof).await {
            Ok(SignedInUser::Account(user)) => *user,
            // A program changes its own users itself.
            Ok(SignedInUser::Own { .. }) => return Err(Reply::error(ErrorCode::MethodNotAllowed)),
            Err(error) => return Err(refused(auth, &parts, error).await),
        };
        let members = read_members(&parts.headers, body).await?;
        Ok(Self { proof, user, parts, members })
    }

    /// The session of the caller's token, which a change goes on with.
    fn session(&self) -> Result<UserSession, Reply> {
        let session = self.proof.claims().session().ok_or_else(|| Reply::error(ErrorCode::NotFound))?;
        Ok(UserSession { user_id: self.user.id.clone(), id: session.id })
    }

    fn by_cookie(&self) -> bool {
        self.proof.location() == Location::Cookie
    }

    fn presentation(&self) -> Presentation {
        // The pair goes where the caller's token came from, and is kept as that one is.
        match Presentation::of(self.proof.claims()) {
            _ if !self.by_cookie() => Presentation::Explicit,
            Presentation::Explicit => Presentation::Cookie,
            kept => kept,
        }
    }
}

/// `PATCH /v1/auth/me`
pub(super) async fn change(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let mut caller = Caller::of(&auth, request).await?;
    let members = &mut caller.members;
    let username = match members.has("username") {
        true => {
            let text = members.text("username");
            parsed(members, "username", text, |text| Username::parse(&text)).map(Some)
        }
        // `null` removes the username.
        false => members.is_null("username").then_some(None),
    };
    if members.is_null("email") {
        members.wrong("email", "must not be null: an address can be changed, but not removed");
    }
    let email = members.text("email");
    let email = parsed(members, "email", email, |text| EmailAddress::parse(&text));
    let language = members.text("language");
    let language = parsed(members, "language", language, |text| Language::parse(&text)).map(Some);
    let needs_password = email.is_some();
    let password = match needs_password {
        true => members.required_text("current_password"),
        false => members.text("current_password"),
    };
    let password = parsed(members, "current_password", password, Password::new_for_login);
    if email.as_ref().is_some_and(|email| !auth.engine().account_rules().allow_email(email)) {
        members.wrong("email", OTHER_DOMAIN);
    }
    members.check()?;
    if let (true, Some(password)) = (needs_password, password) {
        Credentials::of(auth.accounts()).prove(&caller.user.id, password).await?;
    }
    let session = caller.proof.claims().session().map(|session| session.id);
    let client = device(&caller.parts).ip;
    let email = email.map(|email| EmailChange { email, proof: EmailProof::Mail { session, client } });
    let change = ProfileChange { username, language, email, ..ProfileChange::default() };
    let user = Profile::of(auth.accounts()).change(&caller.user.id, change).await?;
    personal(StatusCode::OK, &UserBody::from(&user))
}

/// `DELETE /v1/auth/me`
pub(super) async fn delete(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let mut caller = Caller::of(&auth, request).await?;
    let password = current_password(&mut caller.members)?;
    Credentials::of(auth.accounts()).prove(&caller.user.id, password).await?;
    Profile::of(auth.accounts()).delete(&caller.user.id).await?;
    let mut answer = personal_empty(StatusCode::NO_CONTENT);
    if caller.by_cookie() {
        clear_cookies(&auth, &caller.parts.headers, &mut answer);
    }
    Ok(answer)
}

fn current_password(members: &mut Members) -> Result<Password, Reply> {
    let password = members.required_text("current_password");
    let password = parsed(members, "current_password", password, Password::new_for_login);
    members.check()?;
    password.ok_or_else(|| Reply::error(ErrorCode::InvalidFields))
}

/// `POST /v1/auth/password`
pub(super) async fn change_password(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let mut caller = Caller::of(&auth, request).await?;
    let new = caller.members.required_text("new_password");
    let (email, username) = (caller.user.email.clone(), caller.user.username.clone());
    let names = OwnNames { email: email.as_ref(), username: username.as_ref() };
    let rules = &auth.accounts().passwords().rules;
    let new = parsed(&mut caller.members, "new_password", new, |text| rules.admit(text, names));
    let current = current_password(&mut caller.members)?;
    let new = new.ok_or_else(|| Reply::error(ErrorCode::InvalidFields))?;
    let known_device = DeviceCookie::of(auth.rules()).and_then(|cookie| cookie.token(&caller.parts.headers));
    let presentation = caller.presentation();
    // The new session lasts as long as one that is begun as the caller's was.
    let lifetime = presentation.browser().zip(auth.engine().login_sessions());
    let lifetime = lifetime.and_then(|(browser, sessions)| sessions.beginning(browser.remembered).lifetime);
    let arrival = Arrival { known_device, lifetime, ..Arrival::new(presentation, device(&caller.parts)) };
    let credentials = Credentials::of(auth.accounts());
    let signed_in = credentials.change_password(&caller.user.id, current, new, arrival).await?;
    reply(&auth, StatusCode::OK, &signed_in, caller.by_cookie())
}

/// `POST /v1/auth/reauthenticate`
pub(super) async fn reauthenticate(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let mut caller = Caller::of(&auth, request).await?;
    let session = caller.session()?;
    let password = caller.members.required_text("password");
    let password = parsed(&mut caller.members, "password", password, Password::new_for_login);
    caller.members.check()?;
    let password = password.ok_or_else(|| Reply::error(ErrorCode::InvalidFields))?;
    let (presentation, device) = (caller.presentation(), device(&caller.parts));
    let credentials = Credentials::of(auth.accounts());
    let signed_in = credentials.reauthenticate(session, password, presentation, device).await?;
    reply(&auth, StatusCode::OK, &signed_in, caller.by_cookie())
}

/// The members of a request without a session, and the address that it comes from. Where no mail is sent, there is no
/// such route.
async fn mailing(auth: &Auth, request: Request) -> Result<(Members, Option<IpAddr>), Reply> {
    if !auth.engine().sends_mail() {
        return Err(Reply::error(ErrorCode::NotFound));
    }
    let (parts, body) = request.into_parts();
    Ok((read_members(&parts.headers, body).await?, device(&parts).ip))
}

fn email_member(members: &mut Members) -> Result<EmailAddress, Reply> {
    let email = members.required_text("email");
    let email = parsed(members, "email", email, |text| EmailAddress::parse(&text));
    members.check()?;
    email.ok_or_else(|| Reply::error(ErrorCode::InvalidFields))
}

/// `POST /v1/auth/password/forgot`
pub(super) async fn forgot(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let (mut members, client) = mailing(&auth, request).await?;
    let email = email_member(&mut members)?;
    Credentials::of(auth.accounts()).forgot(&email, client).await?;
    Ok(personal_empty(StatusCode::ACCEPTED))
}

/// `POST /v1/auth/password/reset`
pub(super) async fn reset(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let (parts, body) = request.into_parts();
    let mut members = read_members(&parts.headers, body).await?;
    let token = members.required_text("token");
    let new = members.required_text("new_password");
    let rules = &auth.accounts().passwords().rules;
    let new = parsed(&mut members, "new_password", new, |text| rules.admit(text, OwnNames::default()));
    members.check()?;
    let new = new.ok_or_else(|| Reply::error(ErrorCode::InvalidFields))?;
    let token = token.as_deref().and_then(LinkToken::parse);
    let token = token.ok_or_else(|| Reply::error(ErrorCode::InvalidLink))?;
    Credentials::of(auth.accounts()).reset(&token, new).await?;
    Ok(personal_empty(StatusCode::NO_CONTENT))
}

/// `POST /v1/auth/email/verify`
pub(super) async fn verify_email(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let (parts, body) = request.into_parts();
    let mut members = read_members(&parts.headers, body).await?;
    let token = members.required_text("token");
    members.check()?;
    let token = token.as_deref().and_then(LinkToken::parse);
    let token = token.ok_or_else(|| Reply::error(ErrorCode::InvalidLink))?;
    Profile::of(auth.accounts()).verify_email(&token).await?;
    Ok(personal_empty(StatusCode::NO_CONTENT))
}

/// `POST /v1/auth/email/resend`
pub(super) async fn resend(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    if !auth.engine().sends_mail() {
        return Err(Reply::error(ErrorCode::NotFound));
    }
    let (mut parts, body) = request.into_parts();
    let mut members = read_members(&parts.headers, body).await?;
    let profile = Profile::of(auth.accounts());
    if members.has("email") {
        let email = email_member(&mut members)?;
        profile.resend_verification_to(&email, device(&parts).ip).await?;
    } else {
        let caller = authenticate(&auth, &mut parts).await?;
        match auth.signed_in_user(&caller).await {
            Ok(SignedInUser::Account(user)) => profile.resend_verification(&user, device(&parts).ip).await?,
            Ok(SignedInUser::Own { .. }) => return Err(Reply::error(ErrorCode::NotFound)),
            Err(error) => return Err(refused(&auth, &parts, error).await),
        }
    }
    Ok(personal_empty(StatusCode::ACCEPTED))
}

/// `POST /v1/auth/code`
pub(super) async fn mail_code(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let (mut members, client) = mailing(&auth, request).await?;
    let email = email_member(&mut members)?;
    Credentials::of(auth.accounts()).mail_code(&email, client).await?;
    Ok(personal_empty(StatusCode::ACCEPTED))
}

/// Logs in with a code or the token of a link that was mailed.
pub(super) async fn login_by_mail(
    auth: &Auth,
    members: &mut Members,
    arrival: Arrival,
    by_cookie: bool,
) -> Result<Reply, Reply> {
    let credentials = Credentials::of(auth.accounts());
    let signed_in = if members.has("code") {
        let code = members.required_text("code");
        let email = email_member(members)?;
        // A text that is no code is answered like a wrong one.
        let code = code.as_deref().and_then(|code| SecretCode::parse(code.trim()));
        let code = code.ok_or_else(wrong_code)?;
        credentials.login_with_code(&email, &code, arrival).await?
    } else {
        let token = members.required_text("token");
        members.check()?;
        let token = token.as_deref().and_then(LinkToken::parse);
        let token = token.ok_or_else(wrong_code)?;
        credentials.login_with_link(&token, arrival).await?
    };
    reply(auth, StatusCode::OK, &signed_in, by_cookie)
}

/// The refusal of a mailed code, or of the link beside it.
fn wrong_code() -> Reply {
    Reply(Answer::error_with(
        ErrorCode::InvalidCredentials,
        "The code is wrong or not valid any more; POST /v1/auth/code mails another one.",
    ))
}

/// The refusal of a new password that the rules refuse once more is known than its text.
fn weak(error: &WeakPassword) -> Reply {
    Reply(Answer::invalid_fields(&BTreeMap::from([("new_password", error.to_string().into())])))
}

impl From<CredentialsError> for Reply {
    fn from(error: CredentialsError) -> Self {
        match error {
            CredentialsError::WrongPassword => Self::error(ErrorCode::WrongPassword),
            CredentialsError::NoPassword => Self::error(ErrorCode::NoPassword),
            CredentialsError::TooManyAttempts { retry_after } => {
                Self(Answer::error(ErrorCode::TooManyAttempts).retry_after(retry_after))
            }
            CredentialsError::Gone => Self::error(ErrorCode::InvalidToken),
            CredentialsError::Renew(error) => error.into(),
            CredentialsError::WeakPassword(error) => weak(&error),
            CredentialsError::Contended => Self::error(ErrorCode::Conflict),
            CredentialsError::Hash(error) => error.into(),
            CredentialsError::Begin(error) => error.into(),
            error => unavailable(&error),
        }
    }
}

impl From<AskError> for Reply {
    fn from(error: AskError) -> Self {
        match error {
            AskError::TooManyAttempts { retry_after } => {
                Self(Answer::error(ErrorCode::TooManyAttempts).retry_after(retry_after))
            }
            error => unavailable(&error),
        }
    }
}

impl From<ProfileError> for Reply {
    fn from(error: ProfileError) -> Self {
        match error {
            ProfileError::TooManyAttempts { retry_after } => {
                Self(Answer::error(ErrorCode::TooManyAttempts).retry_after(retry_after))
            }
            ProfileError::EmailTaken => Self::error(ErrorCode::EmailTaken),
            ProfileError::UsernameTaken => Self::error(ErrorCode::UsernameTaken),
            ProfileError::NoName => no_name(),
            ProfileError::Gone => Self::error(ErrorCode::InvalidToken),
            ProfileError::Contended => Self::error(ErrorCode::Conflict),
            error => unavailable(&error),
        }
    }
}

impl From<LinkError> for Reply {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Invalid => Self::error(ErrorCode::InvalidLink),
            LinkError::EmailTaken => Self::error(ErrorCode::EmailTaken),
            LinkError::WeakPassword(error) => weak(&error),
            LinkError::Hash(error) => error.into(),
            error => unavailable(&error),
        }
    }
}

impl From<CodeLoginError> for Reply {
    fn from(error: CodeLoginError) -> Self {
        match error {
            CodeLoginError::InvalidCredentials => wrong_code(),
            CodeLoginError::TooManyAttempts { retry_after } => {
                Self(Answer::error(ErrorCode::TooManyAttempts).retry_after(retry_after))
            }
            CodeLoginError::Begin(error) => error.into(),
            error => unavailable(&error),
        }
    }
}
