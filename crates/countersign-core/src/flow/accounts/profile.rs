//! What an account says about its user: names, the proven address, roles; and the account's end.

use std::net::IpAddr;
use std::time::Duration;

use countersign_jwt::id::{SessionId, UserId};
use countersign_jwt::time::Timestamp;

use super::credentials::{AskError, LinkError, SendError, proof_of};
use super::letters::Letter;
use super::{Accounts, AccountsConfig, RegisterError};
use crate::flow::EndError;
use crate::flow::sessions::detached;
use crate::model::event::Event;
use crate::model::one_time::{LinkToken, OneTimeSecret, Purpose};
use crate::model::{EmailAddress, EndReason, Language, Refused, Roles, User, Username};
use crate::store::{MAIL_COUNTERS, NameKey, StoreError, UserInserted, UserReplaced};

/// Changes what accounts say about their users, verifies addresses, and deletes accounts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Profile {
    accounts: Accounts,
}

/// The members of an account that are to change; `None` leaves a member as it is.
#[derive(Clone, Debug, Default)]
pub struct ProfileChange {
    /// The username; `Some(None)` removes it, which needs an e-mail address.
    pub username: Option<Option<Username>>,
    /// The language in which the user is written to.
    pub language: Option<Option<Language>>,
    /// The e-mail address, and how it is proven.
    pub email: Option<EmailChange>,
    /// The roles. Only operators change them.
    pub roles: Option<Roles>,
    /// Whether the e-mail address counts as proven. Only operators say so. It is about the address after the change.
    pub email_verified: Option<bool>,
}

/// An account that an operator makes. It has no password: its user chooses one by an invitation.
#[derive(Clone, Debug, Default)]
pub struct NewAccount {
    /// The e-mail address; `None` for an account that has a username alone.
    pub email: Option<EmailAddress>,
    /// Whether the e-mail address counts as proven.
    pub email_verified: bool,
    /// The username; `None` for an account that has an e-mail address alone.
    pub username: Option<Username>,
    /// The roles.
    pub roles: Roles,
    /// The language in which the user is written to.
    pub language: Option<Language>,
}

/// A change of the e-mail address.
#[derive(Clone, Debug)]
pub struct EmailChange {
    /// The new address.
    pub email: EmailAddress,
    /// How the address is proven to be the user's.
    pub proof: EmailProof,
}

/// How a new address is proven to be the user's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EmailProof {
    /// The address counts once the user has followed a mailed link. Where no mail is sent, it counts at once, and is
    /// not proven. The session of this id lives on; all others end when the address changes (SEC-084).
    Mail {
        /// The session in which the user changes the address.
        session: Option<SessionId>,
        /// The address of the client that asks for the change.
        client: Option<IpAddr>,
    },
    /// An operator answers for the address: it counts at once, and is proven.
    Operator,
}

/// The reason why an account was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Another account has the e-mail address.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// Another account has the username.
    #[error("the username is taken")]
    UsernameTaken,
    /// The account would have neither an e-mail address nor a username.
    #[error("an account needs an e-mail address or a username")]
    NoName,
    /// The account does not exist any more.
    #[error("the account is gone")]
    Gone,
    /// The user has asked for other addresses too often.
    #[error("too many changes of the e-mail address")]
    TooManyAttempts {
        /// The time until the next one may be asked for.
        retry_after: Duration,
    },
    /// Somebody else changed the account during each of eight tries.
    #[error("the account was changed at the same time; try again")]
    Contended,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<AskError> for ProfileError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::TooManyAttempts { retry_after } => Self::TooManyAttempts { retry_after },
            AskError::Store(error) => Self::Store(error),
        }
    }
}

impl From<EndError> for ProfileError {
    fn from(EndError::Store(error): EndError) -> Self {
        Self::Store(error)
    }
}

impl Profile {
    /// How long a link to verify an address is good.
    pub const VERIFY_LIVES: Duration = Duration::from_secs(86_400);
    /// How often a change begins anew when the account was changed at the same time.
    const TRIES: u32 = 8;

    /// The profiles of these accounts.
    #[must_use]
    pub fn of(accounts: &Accounts) -> Self {
        Self { accounts: accounts.clone() }
    }

    fn config(&self) -> &AccountsConfig {
        &self.accounts.shared
    }

    fn now(&self) -> Timestamp {
        self.config().clock.now()
    }

    /// Makes an account without a password. Nobody can log in to it before its user has chosen one by an invitation or a
    /// reset.
    ///
    /// # Errors
    /// [`RegisterError`]; no account was made then.
    pub async fn create(&self, account: NewAccount) -> Result<User, RegisterError> {
        let NewAccount { email, email_verified, username, roles, language } = account;
        if email.is_none() && username.is_none() {
            return Err(RegisterError::NoName);
        }
        let AccountsConfig { users, random, ids, sessions, .. } = self.config();
        // A number is used up by every try, so one is not taken for a name that is known to be taken.
        if let Some(taken) = self.accounts.taken(email.as_ref(), username.as_ref()).await? {
            return Err(taken);
        }
        let id = ids.next(&**users, &**random).await?;
        let now = self.now();
        let email_verified_at = email.as_ref().filter(|_| email_verified).map(|_| now);
        let user = User { email, email_verified_at, username, roles, language, ..User::new(id, now) };
        match users.insert_user(&user).await? {
            UserInserted::Yes => {
                sessions.tell(&Event::Registered { user_id: user.id.clone() });
                Ok(user)
            }
            UserInserted::EmailTaken => Err(RegisterError::EmailTaken),
            UserInserted::UsernameTaken => Err(RegisterError::UsernameTaken),
            UserInserted::IdTaken => Err(RegisterError::IdTaken),
        }
    }

    /// Changes an account. Returns the account as it is afterwards: a new e-mail address that is to be proven by mail
    /// is not in it yet.
    ///
    /// # Errors
    /// [`ProfileError`]; nothing was changed then.
    pub async fn change(&self, user_id: &UserId, change: ProfileChange) -> Result<User, ProfileError> {
        let (this, user_id) = (self.clone(), user_id.clone());
        detached(&self.config().runtime, async move { this.change_now(&user_id, change).await }).await
    }

    async fn change_now(&self, user_id: &UserId, change: ProfileChange) -> Result<User, ProfileError> {
        let ProfileChange { username, language, email, roles, email_verified } = change;
        let by_mail = self.config().letters.is_some();
        if let (true, Some(EmailChange { proof: EmailProof::Mail { .. }, .. })) = (by_mail, &email) {
            // Every change is a mail to an address that the user has made up.
            let counter = format!("{}changes of:{user_id}", MAIL_COUNTERS.start);
            if let Err(Refused { retry_after, .. }) =
                self.accounts.may(&counter, &Accounts::CHANGES_OF_ADDRESS).await?
            {
                return Err(ProfileError::TooManyAttempts { retry_after });
            }
        }
        let user = self
            .replace(user_id, |user| {
                let mut new = user.clone();
                if let Some(username) = &username {
                    new.username.clone_from(username);
                }
                if let Some(language) = &language {
                    new.language.clone_from(language);
                }
                if let Some(roles) = &roles {
                    new.roles.clone_from(roles);
                }
                if let Some(EmailChange { email, proof }) = &email {
                    let is_same = user.email.as_ref().is_some_and(|known| known.key() == email.key());
                    match proof {
                        EmailProof::Operator => new.email_verified_at = Some(self.now()),
                        // The same address in other letters stays as proven as it was.
                        EmailProof::Mail { .. } if is_same => {}
                        EmailProof::Mail { .. } if by_mail => return new,
                        EmailProof::Mail { .. } => new.email_verified_at = None,
                    }
                    new.email = Some(email.clone());
                }
                if let Some(is_verified) = email_verified {
                    let since = new.email_verified_at.unwrap_or_else(|| self.now());
                    new.email_verified_at = new.email.as_ref().filter(|_| is_verified).map(|_| since);
                }
                new
            })
            .await?;
        let Replaced { before, user } = user;
        if before.roles != user.roles {
            self.config().sessions.tell(&Event::RolesChanged { user_id: user.id.clone() });
        }
        if email_verified == Some(true) && !before.has_verified_email() && user.has_verified_email() {
            self.config().sessions.tell(&Event::EmailVerified { user_id: user.id.clone() });
        }
        if let Some(EmailChange { email, proof }) = email {
            let is_there = user.email.as_ref().is_some_and(|now| now.key() == email.key());
            match proof {
                EmailProof::Mail { session, client } if !is_there => {
                    self.send_change(&user, &email, session, client).await?;
                }
                EmailProof::Mail { session, .. } => self.email_has_changed(&before, &user, session).await?,
                EmailProof::Operator => self.email_has_changed(&before, &user, None).await?,
            }
        }
        Ok(user)
    }

    /// Replaces an account by what `change` makes of it, again if somebody else was faster. An account that `change`
    /// leaves as it is costs no write.
    async fn replace(
        &self,
        user_id: &UserId,
        change: impl Fn(&User) -> User + Send,
    ) -> Result<Replaced, ProfileError> {
        let users = &self.config().users;
        for _ in 0..Self::TRIES {
            let before = users.user(user_id).await?.ok_or(ProfileError::Gone)?;
            let new = change(&before);
            if new.email.is_none() && new.username.is_none() {
                return Err(ProfileError::NoName);
            }
            if is_same(&before, &new) {
                return Ok(Replaced { user: new, before });
            }
            match users.replace_user(&before, &new).await? {
                UserReplaced::Yes => {
                    let user = User { revision: before.revision.saturating_add(1), ..new };
                    return Ok(Replaced { user, before });
                }
                UserReplaced::EmailTaken => return Err(ProfileError::EmailTaken),
                UserReplaced::UsernameTaken => return Err(ProfileError::UsernameTaken),
                UserReplaced::Changed => {}
            }
        }
        Err(ProfileError::Contended)
    }

    /// Mails a link to the new address. Whether another account has that address is not told: its user is told by mail
    /// instead.
    async fn send_change(
        &self,
        user: &User,
        email: &EmailAddress,
        session: Option<SessionId>,
        client: Option<IpAddr>,
    ) -> Result<(), AskError> {
        let (this, user, to) = (self.clone(), user.clone(), email.clone());
        self.accounts
            .mail_unseen("change", email, client, async move {
                if let Some(owner) = this.config().users.user_by_name(NameKey::Email(to.key())).await? {
                    return this.accounts.post_to(&owner, Letter::AccountExists).await;
                }
                this.send_verification(&user, &to, session).await
            })
            .await
    }

    /// Mails a link that proves that the user reads this address.
    async fn send_verification(
        &self,
        user: &User,
        email: &EmailAddress,
        session: Option<SessionId>,
    ) -> Result<(), SendError> {
        let token = LinkToken::new(user.id.clone(), &*self.config().random)?;
        let now = self.now();
        let session = session.map(|id| id.to_string()).unwrap_or_default();
        let secret = OneTimeSecret {
            user_id: user.id.clone(),
            purpose: Purpose::VerifyEmail,
            digests: vec![token.digest()],
            bound_to: format!("{session} {} {}", proof_of(user), email.as_str()),
            tries_left: 5,
            created_at: now,
            expires_at: now + Self::VERIFY_LIVES,
        };
        self.config().one_time.put_secret(&secret).await?;
        let letter = Letter::VerifyEmail { token, expires_in: Self::VERIFY_LIVES };
        self.accounts.post(email, user, letter).await
    }

    /// Mails a link to verify a user's address anew, if it is not proven yet. An address gets few such mails, and fewer
    /// because of one `client`, by its address.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn resend_verification(&self, user: &User, client: Option<IpAddr>) -> Result<(), AskError> {
        let Some(email) = user.email.clone().filter(|_| !user.has_verified_email()) else { return Ok(()) };
        let (this, user) = (self.clone(), user.clone());
        self.accounts
            .mail_unseen("verify", &email.clone(), client, async move {
                this.send_verification(&user, &email, None).await
            })
            .await
    }

    /// Mails a link to verify this address, if an enabled account has it and it is not proven yet. Nothing tells the
    /// caller whether one has.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn resend_verification_to(
        &self,
        email: &EmailAddress,
        client: Option<IpAddr>,
    ) -> Result<(), AskError> {
        let (this, key) = (self.clone(), email.key().to_owned());
        let work = async move {
            let user = this.config().users.user_by_name(NameKey::Email(&key)).await?;
            let Some(user) = user.filter(|user| user.is_enabled() && !user.has_verified_email()) else {
                return Ok(());
            };
            // The link goes to the address as it is stored (SEC-134).
            match user.email.clone() {
                Some(stored) => this.send_verification(&user, &stored, None).await,
                None => Ok(()),
            }
        };
        self.accounts.mail_unseen("verify", email, client, work).await
    }

    /// Tells the user of an address that somebody tried to register with it.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn tell_account_exists(
        &self,
        email: &EmailAddress,
        client: Option<IpAddr>,
    ) -> Result<(), AskError> {
        let (this, email) = (self.clone(), email.clone());
        self.accounts
            .mail_unseen("exists", &email.clone(), client, async move {
                match this.config().users.user_by_name(NameKey::Email(email.key())).await? {
                    Some(user) => this.accounts.post_to(&user, Letter::AccountExists).await,
                    None => Ok(()),
                }
            })
            .await
    }

    /// Takes an address for proven, by the token of the link that was mailed to it. An address that differs from the
    /// account's becomes the account's; the address before is told, and the other sessions end (SEC-084, SEC-142).
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn verify_email(&self, token: &LinkToken) -> Result<(), LinkError> {
        let (this, token) = (self.clone(), token.clone());
        detached(&self.config().runtime, async move { this.verify_email_now(&token).await }).await
    }

    async fn verify_email_now(&self, token: &LinkToken) -> Result<(), LinkError> {
        let used = self.accounts.use_link(token, Purpose::VerifyEmail).await?;
        let bound_to = used.ok_or(LinkError::Invalid)?.bound_to;
        let mut parts = bound_to.splitn(3, ' ');
        let (Some(session), Some(proof), Some(email)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(LinkError::Invalid);
        };
        let email = EmailAddress::parse(email).map_err(|_| LinkError::Invalid)?;
        let session: Option<SessionId> = session.parse().ok();
        let is_there = |user: &User| user.email.as_ref().is_some_and(|known| known.key() == email.key());
        // A change of address was asked for under the password and the address of that moment. Whoever has changed
        // either since then has called it off, knowing of it or not.
        let may = |user: &User| user.is_enabled() && (is_there(user) || proof_of(user) == proof);
        let replaced = self
            .replace(token.user_id(), |user| match may(user) {
                true => {
                    User { email: Some(email.clone()), email_verified_at: Some(self.now()), ..user.clone() }
                }
                false => user.clone(),
            })
            .await;
        let Replaced { before, user } = match replaced {
            Ok(replaced) => replaced,
            Err(ProfileError::EmailTaken) => return Err(LinkError::EmailTaken),
            Err(ProfileError::Store(error)) => return Err(error.into()),
            Err(_) => return Err(LinkError::Invalid),
        };
        if !may(&before) {
            return Err(LinkError::Invalid);
        }
        self.config().sessions.tell(&Event::EmailVerified { user_id: user.id.clone() });
        Ok(self.email_has_changed(&before, &user, session).await?)
    }

    /// Ends the other sessions, reset links and codes of a user whose address has changed, and tells the address
    /// before. Nothing happens if it is the same address.
    async fn email_has_changed(
        &self,
        before: &User,
        user: &User,
        session: Option<SessionId>,
    ) -> Result<(), StoreError> {
        let key = |user: &User| user.email.as_ref().map(|email| email.key().to_owned());
        if key(before) == key(user) {
            return Ok(());
        }
        let AccountsConfig { sessions, one_time, .. } = self.config();
        for purpose in Purpose::ENDED_BY_CHANGE {
            one_time.remove_secret(&user.id, purpose).await?;
        }
        // An account that had no address is not in other hands because it gets one.
        if before.email.is_some() {
            let ended = sessions.end_all(user.id.clone(), session, EndReason::CredentialsChanged).await;
            ended.map_err(|EndError::Store(error)| error)?;
        }
        sessions.tell(&Event::EmailChanged { user_id: user.id.clone() });
        if let (Some(old), Some(new)) = (&before.email, &user.email) {
            let letter = Letter::EmailChanged { new: new.clone(), at: self.now() };
            self.accounts.tell_at(old, user, letter).await;
        }
        Ok(())
    }

    /// Deletes an account: it is disabled and signed out at once, and removed, with its names, when the revocation log
    /// needs it no longer. Returns whether it existed.
    ///
    /// # Errors
    /// [`ProfileError`] when the store cannot answer; deleting the account again is safe.
    pub async fn delete(&self, user_id: &UserId) -> Result<bool, ProfileError> {
        let (this, user_id) = (self.clone(), user_id.clone());
        detached(&self.config().runtime, async move { this.delete_now(&user_id).await }).await
    }

    async fn delete_now(&self, user_id: &UserId) -> Result<bool, ProfileError> {
        let sessions = &self.config().sessions;
        if self.config().users.user(user_id).await?.is_none() {
            return Ok(false);
        }
        // As where an account is disabled, the epoch is raised before and after the account changes.
        sessions.end_all(user_id.clone(), None, EndReason::Deleted).await?;
        let now = self.now();
        let replaced = self.replace(user_id, |user| User {
            disabled_at: Some(user.disabled_at.unwrap_or(now)),
            deleted_at: Some(user.deleted_at.unwrap_or(now)),
            ..user.clone()
        });
        let Replaced { before, .. } = match replaced.await {
            Ok(replaced) => replaced,
            Err(ProfileError::Gone) => return Ok(false),
            Err(error) => return Err(error),
        };
        sessions.end_all(user_id.clone(), None, EndReason::Deleted).await?;
        if before.deleted_at.is_none() {
            sessions.tell(&Event::UserDeleted { user_id: user_id.clone() });
            self.accounts.tell_by_mail(&before, Letter::AccountDeleted { at: now }).await;
        }
        Ok(true)
    }

    /// Removes accounts whose deletion was asked for so long ago that no token of theirs can be valid, at most `limit`
    /// of them. Returns how many. A background task calls it.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    pub async fn remove_deleted(&self, limit: usize) -> Result<u64, StoreError> {
        let AccountsConfig { users, sessions, .. } = self.config();
        let before = self.now() - sessions.policy().revocation_horizon() - Self::REMOVED_AFTER;
        let mut removed = 0;
        for user in users.users_to_delete(before, limit).await? {
            removed += u64::from(users.delete_user(&user.id).await?);
        }
        Ok(removed)
    }

    /// The time for which a deleted account stays beyond the life of its last token.
    const REMOVED_AFTER: Duration = Duration::from_secs(3_600);
}

/// An account before and after a change.
struct Replaced {
    before: User,
    user: User,
}

/// Whether two values of an account say the same, apart from the revision.
fn is_same(one: &User, other: &User) -> bool {
    let names = |user: &User| {
        (
            user.email.clone().map(|email| email.as_str().to_owned()),
            user.username.clone().map(|name| name.as_str().to_owned()),
        )
    };
    let rest =
        |user: &User| (user.email_verified_at, user.language.clone(), user.disabled_at, user.deleted_at);
    names(one) == names(other) && rest(one) == rest(other) && one.roles == other.roles
}
