//! What operators do to accounts and sessions, by the admin API or by the command line: each act is done in one way, and
//! leaves a record that names who did it (SEC-145).

use std::net::IpAddr;
use std::sync::Arc;

use countersign_core::flow::{
    Credentials, CredentialsError, EndError, NewAccount, Profile, ProfileChange, ProfileError, RegisterError,
};
use countersign_core::model::{AuditRecord, EndReason, LinkToken, Password, Session, User, UserSession};
use countersign_core::store::{SessionEnded, SessionPage, StoreError, Stores};
use countersign_http::Auth;
use countersign_jwt::{SessionId, Timestamp, UserId};

use crate::audit::Trail;

/// Does what operators ask for.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    pub(crate) auth: Auth,
    pub(crate) stores: Stores,
    pub(crate) trail: Arc<Trail>,
}

/// Who acts.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    /// The name of an admin key, or [`Actor::COMMAND_LINE`].
    pub(crate) name: String,
    /// The address from which the act came, if it came over the network.
    pub(crate) ip: Option<IpAddr>,
}

/// A change of an account.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserChange {
    pub(crate) profile: ProfileChange,
    pub(crate) disabled: Option<bool>,
}

/// Why an act was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActError {
    #[error("there is no such user or session")]
    Unknown,
    #[error("the account is being deleted and cannot be enabled again")]
    Deleted,
    #[error("no mail is sent here: COUNTERSIGN_SMTP_URL or COUNTERSIGN_PUBLIC_URL is not set")]
    NoMail,
    #[error("the account is disabled or has no e-mail address")]
    Unreachable,
    #[error("an invitation is mailed, and the account has no e-mail address")]
    NoAddress,
    #[error("the account is disabled: no link works for it until it is enabled")]
    Disabled,
    #[error(transparent)]
    Register(#[from] RegisterError),
    #[error(transparent)]
    Profile(ProfileError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A link is not made where it could never work.
fn check_enabled(user: &User) -> Result<(), ActError> {
    if user.disabled_at.is_some() { Err(ActError::Disabled) } else { Ok(()) }
}

impl From<ProfileError> for ActError {
    fn from(error: ProfileError) -> Self {
        match error {
            ProfileError::Gone => Self::Unknown,
            error => Self::Profile(error),
        }
    }
}

impl From<EndError> for ActError {
    fn from(error: EndError) -> Self {
        match error {
            EndError::Store(error) => Self::Store(error),
            error => Self::Store(StoreError::new("session", "end the sessions", error)),
        }
    }
}

impl Actor {
    /// The name under which the command line acts.
    pub(crate) const COMMAND_LINE: &'static str = "command line";

    pub(crate) fn command_line() -> Self {
        Self { name: Self::COMMAND_LINE.to_owned(), ip: None }
    }

    /// The record of an act of this name.
    pub(crate) fn record(&self, name: &str) -> Option<AuditRecord> {
        Some(AuditRecord { actor: Some(self.name.clone()), ip: self.ip, ..Trail::record(name)? })
    }
}

impl Operator {
    pub(crate) fn now(&self) -> Timestamp {
        self.auth.engine().now()
    }

    pub(crate) async fn user(&self, id: &UserId) -> Result<User, ActError> {
        self.stores.users().user(id).await?.ok_or(ActError::Unknown)
    }

    /// Makes an account without a password (SEC-124), and mails an invitation if that is asked for.
    pub(crate) async fn create(
        &self,
        actor: &Actor,
        account: NewAccount,
        invite: bool,
    ) -> Result<User, ActError> {
        if invite {
            self.check_mail()?;
            if account.email.is_none() {
                return Err(ActError::NoAddress);
            }
        }
        let user = Profile::of(self.auth.accounts()).create(account).await?;
        self.note(actor, "admin_user_created", &user.id, None, shown_roles(&user));
        if invite {
            Credentials::of(self.auth.accounts()).invite(&user).await?;
            self.note(actor, "admin_user_invited", &user.id, None, None);
        }
        Ok(user)
    }

    /// Changes an account, and returns it as it is afterwards.
    pub(crate) async fn change(
        &self,
        actor: &Actor,
        id: &UserId,
        change: UserChange,
    ) -> Result<User, ActError> {
        let UserChange { profile, disabled } = change;
        let before = self.user(id).await?;
        if disabled == Some(false) && before.deleted_at.is_some() {
            return Err(ActError::Deleted);
        }
        let accounts = self.auth.accounts();
        Profile::of(accounts).change(id, profile).await?;
        // Whether the account still exists is told by the read that follows.
        if disabled == Some(true) && before.is_enabled() {
            accounts.disable(id).await?;
        } else if disabled == Some(false) && !before.is_enabled() {
            accounts.enable(id).await?;
        }
        let after = self.user(id).await?;
        let changed = differences(&before, &after);
        if !changed.is_empty() {
            self.note(actor, "admin_user_changed", id, None, Some(changed.join("; ")));
        }
        Ok(after)
    }

    pub(crate) async fn delete(&self, actor: &Actor, id: &UserId) -> Result<(), ActError> {
        if !Profile::of(self.auth.accounts()).delete(id).await? {
            return Err(ActError::Unknown);
        }
        self.note(actor, "admin_user_deleted", id, None, None);
        Ok(())
    }

    /// Mails a link to reset the password.
    pub(crate) async fn send_reset(&self, actor: &Actor, id: &UserId) -> Result<(), ActError> {
        self.user(id).await?;
        self.check_mail()?;
        if !Credentials::of(self.auth.accounts()).send_reset_to(id).await? {
            return Err(ActError::Unreachable);
        }
        self.note(actor, "admin_reset_sent", id, None, None);
        Ok(())
    }

    /// The token of a link to choose the first password, for the operator to hand over.
    pub(crate) async fn invite_link(&self, actor: &Actor, user: &User) -> Result<LinkToken, ActError> {
        check_enabled(user)?;
        let token = Credentials::of(self.auth.accounts()).invite_link(user).await?;
        self.note(actor, "admin_invite_link_made", &user.id, None, None);
        Ok(token)
    }

    /// The token of a link to reset the password, for the operator to hand over.
    pub(crate) async fn reset_link(&self, actor: &Actor, user: &User) -> Result<LinkToken, ActError> {
        check_enabled(user)?;
        let token = Credentials::of(self.auth.accounts()).reset_link(user).await?;
        self.note(actor, "admin_reset_link_made", &user.id, None, None);
        Ok(token)
    }

    pub(crate) async fn set_password(
        &self,
        actor: &Actor,
        id: &UserId,
        password: Password,
    ) -> Result<(), ActError> {
        if !Credentials::of(self.auth.accounts()).set_password(id, password).await? {
            return Err(ActError::Unknown);
        }
        self.note(actor, "admin_password_set", id, None, None);
        Ok(())
    }

    pub(crate) async fn sessions(&self, id: &UserId, page: SessionPage) -> Result<Vec<Session>, ActError> {
        self.user(id).await?;
        Ok(self.auth.sessions().list(id, page).await?)
    }

    pub(crate) async fn end_session(
        &self,
        actor: &Actor,
        id: &UserId,
        session: SessionId,
    ) -> Result<(), ActError> {
        self.user(id).await?;
        let key = UserSession { user_id: id.clone(), id: session };
        let sessions = self.auth.sessions();
        if !sessions.is_live(&key).await?
            || sessions.end(key, EndReason::EndedByOperator).await? != SessionEnded::Now
        {
            return Err(ActError::Unknown);
        }
        self.note(actor, "admin_session_ended", id, Some(session), None);
        Ok(())
    }

    /// Ends all sessions of a user, and every login that is under way.
    pub(crate) async fn end_sessions(&self, actor: &Actor, id: &UserId) -> Result<(), ActError> {
        self.user(id).await?;
        self.auth.sessions().end_all(id.clone(), None, EndReason::EndedByOperator).await?;
        self.note(actor, "admin_sessions_ended", id, None, None);
        Ok(())
    }

    fn check_mail(&self) -> Result<(), ActError> {
        if self.auth.engine().sends_mail() { Ok(()) } else { Err(ActError::NoMail) }
    }

    fn note(
        &self,
        actor: &Actor,
        name: &'static str,
        user_id: &UserId,
        session_id: Option<SessionId>,
        detail: Option<String>,
    ) {
        tracing::info!(
            target: "countersign::event",
            event = name,
            actor = actor.name,
            %user_id,
            session_id = session_id.map(tracing::field::display),
            "an operator acted"
        );
        if let Some(record) = actor.record(name) {
            self.trail.add(AuditRecord { user_id: Some(user_id.clone()), session_id, detail, ..record });
        }
    }
}

/// What differs between two states of an account. Names and addresses are not repeated, because the trail is kept longer
/// than accounts are.
fn differences(before: &User, after: &User) -> Vec<String> {
    let email = |user: &User| user.email.as_ref().map(|email| email.as_str().to_owned());
    let username = |user: &User| user.username.as_ref().map(|name| name.as_str().to_owned());
    let mut differences = Vec::new();
    if email(before) != email(after) {
        differences.push("email".to_owned());
    }
    if before.has_verified_email() != after.has_verified_email() {
        let state = if after.has_verified_email() { "email verified" } else { "email not verified" };
        differences.push(state.to_owned());
    }
    if username(before) != username(after) {
        differences.push("username".to_owned());
    }
    if before.roles != after.roles {
        differences.push(shown_roles(after).unwrap_or_else(|| "no roles".to_owned()));
    }
    if before.is_enabled() != after.is_enabled() {
        differences.push(if after.is_enabled() { "enabled" } else { "disabled" }.to_owned());
    }
    differences
}

fn shown_roles(user: &User) -> Option<String> {
    let text = format!("roles: {}", user.roles);
    (!user.roles.is_empty()).then(|| text.chars().take(AuditRecord::MAX_DETAIL_CHARS).collect())
}
