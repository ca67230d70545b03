//! What proves who a user is: the password, its change and its reset, and codes that are mailed.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_jwt::id::UserId;
use countersign_jwt::random::{self, RandomError};
use countersign_jwt::time::Timestamp;

use super::attempts::counter_of_client;
use super::letters::{Addressed, Letter, LetterError};
use super::{Accounts, AccountsConfig, Arrival, SignedIn};
use crate::flow::hasher::HashError;
use crate::flow::sessions::detached;
use crate::flow::{BeginError, EndError, Presentation, Refresh, RenewFreshError};
use crate::model::event::Event;
use crate::model::one_time::{LinkToken, OneTimeSecret, Purpose, SecretDigest, Tried};
use crate::model::throttle::{AttemptChange, AttemptStep, Outcome};
use crate::model::{
    ClientNetwork, Device, EmailAddress, EndReason, Language, OwnNames, Password, PasswordHash, Refused,
    ThrottlePolicy, User, UserSession, WeakPassword,
};
use crate::store::{MAIL_COUNTERS, NameKey, StoreError, UserReplaced};

/// Changes and resets passwords, and signs users in by mailed codes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub(super) accounts: Accounts,
}

/// The reason why a signed-in user's password was not accepted or not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The current password is wrong.
    #[error("the current password is wrong")]
    WrongPassword,
    /// Too many wrong passwords were given for this account.
    #[error("too many attempts")]
    TooManyAttempts {
        /// The time until the next attempt may be admitted.
        retry_after: Duration,
    },
    /// The account has no password that could be asked for. A mailed link sets one, and a mailed code signs in afresh.
    #[error("the account has no password")]
    NoPassword,
    /// The account does not exist any more, or is disabled.
    #[error("the account is gone or disabled")]
    Gone,
    /// The new password breaks a rule for new passwords.
    #[error(transparent)]
    WeakPassword(#[from] WeakPassword),
    /// Somebody else changed the account at the same time. Nothing was changed.
    #[error("the account was changed at the same time; try again")]
    Contended,
    /// A password could not be hashed at the moment.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The password was changed, but no session began. The user can log in with the new password.
    #[error(transparent)]
    Begin(BeginError),
    /// The session got no fresh tokens.
    #[error(transparent)]
    Renew(#[from] RenewFreshError),
}

impl From<EndError> for CredentialsError {
    fn from(EndError::Store(error): EndError) -> Self {
        Self::Store(error)
    }
}

/// The reason why a mailed link did nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The link was used before, has expired, was replaced by another one, or was never sent. The answer to the client
    /// does not tell these apart.
    #[error("the link is not valid any more; ask for another one")]
    Invalid,
    /// Another account has the address by now.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// The new password breaks a rule for new passwords. The link stays good.
    #[error(transparent)]
    WeakPassword(#[from] WeakPassword),
    /// A password could not be hashed at the moment. The link stays good.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<EndError> for LinkError {
    fn from(EndError::Store(error): EndError) -> Self {
        Self::Store(error)
    }
}

/// The reason why a mail that was asked for is not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The client has asked for too many mails within the hour, to whichever addresses.
    #[error("too many mails were asked for")]
    TooManyAttempts {
        /// The time until the next one may be asked for.
        retry_after: Duration,
    },
    /// The store could not answer, or too many mails are being written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The reason why a letter was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum SendError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Random(#[from] RandomError),
    #[error(transparent)]
    Letter(#[from] LetterError),
}

impl Credentials {
    /// How long a link to reset a password is good.
    pub const RESET_LIVES: Duration = Duration::from_secs(3600);
    /// How long a code to sign in is good.
    pub const CODE_LIVES: Duration = Duration::from_secs(600);
    /// How often a wrong code may be given.
    pub const CODE_TRIES: u32 = 5;
    /// How long an invitation is good.
    pub const INVITE_LIVES: Duration = Duration::from_secs(7 * 86_400);

    /// The credentials of these accounts.
    #[must_use]
    pub fn of(accounts: &Accounts) -> Self {
        Self { accounts: accounts.clone() }
    }

    pub(super) fn config(&self) -> &AccountsConfig {
        &self.accounts.shared
    }

    pub(super) fn now(&self) -> Timestamp {
        self.config().clock.now()
    }

    /// Proves a signed-in user's identity again by the password, and goes on with the same session under fresh tokens.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub async fn reauthenticate(
        &self,
        session: UserSession,
        password: Password,
        presentation: Presentation,
        device: Device,
    ) -> Result<SignedIn, CredentialsError> {
        let user = self.prove(&session.user_id, password).await?;
        let pair = Refresh::of(&self.config().sessions).renew_fresh(session, presentation, device).await?;
        Ok(SignedIn { user, pair, device_token: None })
    }

    /// Changes a user's password to another one. All sessions end, so that whoever has a copy of a token is out, and
    /// the user goes on in a new one. Reset links and codes that were mailed before are worth nothing any more
    /// (SEC-084), and the user is told by mail (SEC-123). No other device than this one is known any more.
    ///
    /// # Errors
    /// [`CredentialsError`]. The password was changed if it is [`CredentialsError::Begin`], and only then.
    pub async fn change_password(
        &self,
        user_id: &UserId,
        current: Password,
        new: Password,
        arrival: Arrival,
    ) -> Result<SignedIn, CredentialsError> {
        let user = self.prove(user_id, current).await?;
        let counter = format!("changes of:{user_id}");
        if let Err(Refused { retry_after, .. }) =
            self.accounts.may(&counter, &Accounts::CHANGES_OF_PASSWORD).await?
        {
            return Err(CredentialsError::TooManyAttempts { retry_after });
        }
        let new = self.hash_new(&user, new).await?;
        let this = self.clone();
        detached(&self.config().runtime, async move {
            if !this.replace_password(&user, &new).await? {
                return Err(CredentialsError::Contended);
            }
            let epoch = this.config().sessions.epoch(&user.id).await?;
            let user = User { password_hash: Some(new), ..user };
            let (beginning, on, _) = arrival.split();
            match this.accounts.begin_on_device(&this.accounts, user, epoch, beginning, on).await {
                Ok(Some(signed_in)) => Ok(signed_in),
                Ok(None) => Err(CredentialsError::Gone),
                Err(error) => Err(CredentialsError::Begin(error)),
            }
        })
        .await
    }

    /// Sets a user's password without asking for the current one, for an operator. All sessions end. Returns whether
    /// the account exists.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub async fn set_password(&self, user_id: &UserId, new: Password) -> Result<bool, CredentialsError> {
        let Some(user) = self.config().users.user(user_id).await? else { return Ok(false) };
        let new = self.hash_new(&user, new).await?;
        let this = self.clone();
        detached(&self.config().runtime, async move {
            if !this.replace_password(&user, &new).await? {
                return Err(CredentialsError::Contended);
            }
            Ok(true)
        })
        .await
    }

    /// Hashes a new password of a user, if it keeps the rules for new passwords.
    async fn hash_new(&self, user: &User, new: Password) -> Result<PasswordHash, CredentialsError> {
        let AccountsConfig { hasher, passwords, runtime, .. } = self.config();
        let place = hasher.place()?;
        passwords.check(&new, own_names(user), runtime).await?;
        Ok(place.turn().await?.hash(new).await?)
    }

    /// Replaces the password hash of a user as it was read, ends all sessions and everything that was mailed before,
    /// forgets all devices, and tells the user. Returns whether the hash was still the one that was read.
    async fn replace_password(&self, user: &User, new: &PasswordHash) -> Result<bool, StoreError> {
        let AccountsConfig { users, sessions, one_time, devices, .. } = self.config();
        let end_all = async || {
            let ended = sessions.end_all(user.id.clone(), None, EndReason::CredentialsChanged).await;
            ended.map_err(|EndError::Store(error)| error)
        };
        // The epoch may live in another engine than the account, so it is raised before and after the account changes:
        // a crash in between leaves nobody signed in, and logins meanwhile end too.
        end_all().await?;
        if !users.replace_password_hash(&user.id, user.password_hash.as_ref(), new).await? {
            return Ok(false);
        }
        end_all().await?;
        for purpose in Purpose::ENDED_BY_CHANGE {
            one_time.remove_secret(&user.id, purpose).await?;
        }
        devices.forget_devices(&user.id).await?;
        sessions.tell(&Event::PasswordChanged { user_id: user.id.clone() });
        self.accounts.tell_by_mail(user, Letter::PasswordChanged { at: self.now() }).await;
        Ok(true)
    }

    /// Checks the password of a signed-in user. Failures are counted for the user, apart from those of logins: whoever
    /// holds a session cannot guess the password, and cannot keep the user from logging in elsewhere.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub async fn prove(&self, user_id: &UserId, password: Password) -> Result<User, CredentialsError> {
        let AccountsConfig { users, throttles, throttle, hasher, sessions, .. } = self.config();
        let place = hasher.place()?;
        let user = users.user(user_id).await?.filter(User::is_enabled).ok_or(CredentialsError::Gone)?;
        if user.password_hash.is_none() {
            return Err(CredentialsError::NoPassword);
        }
        let counter = format!("own:{user_id}");
        if let Err(Refused { retry_after, .. }) =
            throttles.begin_attempt(&counter, self.now(), throttle).await?
        {
            return Err(CredentialsError::TooManyAttempts { retry_after });
        }
        let checked = match place.turn().await {
            Ok(turn) => turn.verify(password, user.password_hash.clone()).await,
            Err(error) => Err(error),
        };
        let outcome = match &checked {
            Ok(true) => Outcome::Succeeded,
            Ok(false) => Outcome::Failed,
            Err(_) => Outcome::Abandoned,
        };
        throttles.finish_attempt(&counter, outcome, self.now(), throttle).await?;
        if checked? {
            Ok(user)
        } else {
            sessions.tell(&Event::ReauthenticationFailed { user_id: user_id.clone() });
            Err(CredentialsError::WrongPassword)
        }
    }

    /// Mails a link to reset the password to this address, if an enabled account has it. Nothing tells the caller
    /// whether one has (SEC-131): the work goes on after the call has returned. An address gets few such mails, and
    /// fewer because of one `client`, by its address.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn forgot(&self, email: &EmailAddress, client: Option<IpAddr>) -> Result<(), AskError> {
        let (this, email) = (self.clone(), email.clone());
        self.accounts
            .mail_unseen("reset", &email.clone(), client, async move {
                let Some(user) = this.enabled_user_of(&email).await? else { return Ok(()) };
                this.send_reset(&user).await
            })
            .await
    }

    /// Mails a link to reset the password to a user, for an operator. Returns whether the account exists, is enabled
    /// and has an address.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer, or the mail could not be put into the outbox.
    pub async fn send_reset_to(&self, user_id: &UserId) -> Result<bool, StoreError> {
        let user = self.config().users.user(user_id).await?;
        let Some(user) = user.filter(|user| user.is_enabled() && user.email.is_some()) else {
            return Ok(false);
        };
        self.send_reset(&user).await.map_err(into_store_error)?;
        Ok(true)
    }

    /// Makes the token of a link to reset a user's password, for an operator who hands it over in another way than by
    /// mail. It replaces the one that was mailed before. Unlike a mailed link, it does not prove the user's address.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    pub async fn reset_link(&self, user: &User) -> Result<LinkToken, StoreError> {
        self.keep_reset(user, by_hand(&reset_binding(user))).await.map_err(into_store_error)
    }

    /// Makes the token of an invitation to choose a password, for an operator who hands it over in another way than by
    /// mail: so the first administrator of an application gets an account without mail and without a known password
    /// (SEC-124).
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    pub async fn invite_link(&self, user: &User) -> Result<LinkToken, StoreError> {
        self.keep_invitation(user, by_hand(&reset_binding(user))).await.map_err(into_store_error)
    }

    async fn keep_reset(&self, user: &User, bound_to: String) -> Result<LinkToken, SendError> {
        self.keep_link(&user.id, Purpose::ResetPassword, &bound_to, Self::RESET_LIVES).await
    }

    async fn keep_invitation(&self, user: &User, bound_to: String) -> Result<LinkToken, SendError> {
        self.keep_link(&user.id, Purpose::Invite, &bound_to, Self::INVITE_LIVES).await
    }

    async fn send_reset(&self, user: &User) -> Result<(), SendError> {
        let token = self.keep_reset(user, reset_binding(user)).await?;
        let letter = Letter::ResetPassword { token, expires_in: Self::RESET_LIVES };
        self.accounts.post_to(user, letter).await
    }

    /// Keeps the record of a new link.
    pub(super) async fn keep_link(
        &self,
        user_id: &UserId,
        purpose: Purpose,
        bound_to: &str,
        lives: Duration,
    ) -> Result<LinkToken, SendError> {
        let token = LinkToken::new(user_id.clone(), &*self.config().random)?;
        self.keep(user_id, purpose, bound_to, lives, token.digest()).await?;
        Ok(token)
    }

    /// Keeps the record of a new secret.
    pub(super) async fn keep(
        &self,
        user_id: &UserId,
        purpose: Purpose,
        bound_to: &str,
        lives: Duration,
        digest: SecretDigest,
    ) -> Result<(), SendError> {
        let now = self.now();
        let secret = OneTimeSecret {
            user_id: user_id.clone(),
            purpose,
            digests: vec![digest],
            bound_to: bound_to.to_owned(),
            tries_left: Self::CODE_TRIES,
            created_at: now,
            expires_at: now + lives,
        };
        Ok(self.config().one_time.put_secret(&secret).await?)
    }

    /// Sets a new password by a mailed link (SEC-138, SEC-141): all sessions end, and nobody is signed in. It works for
    /// accounts that had no password, and proves the address that the link was sent to.
    ///
    /// # Errors
    /// [`LinkError`]. After [`LinkError::Hash`] the link is still good.
    pub async fn reset(&self, token: &LinkToken, new: Password) -> Result<(), LinkError> {
        let AccountsConfig { users, one_time, hasher, .. } = self.config();
        // Links that somebody has made up take no place in the pool from others. The step below decides.
        let mut is_known = false;
        for purpose in Self::BY_LINK {
            let secret = one_time.secret(token.user_id(), purpose).await?;
            is_known |= secret
                .is_some_and(|mut secret| secret.try_digest(&token.digest(), self.now()) == Tried::Right);
        }
        if !is_known {
            return Err(LinkError::Invalid);
        }
        let user = users.user(token.user_id()).await?.filter(User::is_enabled).ok_or(LinkError::Invalid)?;
        let place = hasher.place()?;
        self.config().passwords.check(&new, own_names(&user), &self.config().runtime).await?;
        let new = place.turn().await?.hash(new).await?;
        let (this, token) = (self.clone(), token.clone());
        detached(&self.config().runtime, async move { this.reset_now(user, &token, &new).await }).await
    }

    /// The purposes whose links set a password.
    const BY_LINK: [Purpose; 2] = [Purpose::ResetPassword, Purpose::Invite];

    async fn reset_now(&self, user: User, token: &LinkToken, new: &PasswordHash) -> Result<(), LinkError> {
        let users = &self.config().users;
        let mut used = None;
        for purpose in Self::BY_LINK {
            if let Some(secret) = self.accounts.use_link(token, purpose).await? {
                used = Some(secret);
                break;
            }
        }
        // A link is bound to the password hash and the address of when it was sent.
        let binding = reset_binding(&user);
        let used = used.map(|secret| secret.bound_to).unwrap_or_default();
        let was_mailed = used == binding;
        if !was_mailed && used != by_hand(&binding) || !self.replace_password(&user, new).await? {
            return Err(LinkError::Invalid);
        }
        // Whoever has a mailed link reads mail to the address. If somebody changes the account at this moment, the address
        // stays unproven, which a later link mends.
        if was_mailed
            && !user.has_verified_email()
            && let Some(now) = users.user(&user.id).await?.filter(|now| now.email == user.email)
        {
            let proven = User { email_verified_at: Some(self.now()), ..now.clone() };
            if users.replace_user(&now, &proven).await? == UserReplaced::Yes {
                self.config().sessions.tell(&Event::EmailVerified { user_id: user.id });
            }
        }
        Ok(())
    }

    /// Mails an invitation to choose a password to a user whom an operator has made. Returns whether the account has an
    /// address.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer, or the mail could not be put into the outbox.
    pub async fn invite(&self, user: &User) -> Result<bool, StoreError> {
        if user.email.is_none() {
            return Ok(false);
        }
        let kept = self.keep_invitation(user, reset_binding(user)).await;
        let token = kept.map_err(into_store_error)?;
        let letter = Letter::Invite { token, expires_in: Self::INVITE_LIVES };
        self.accounts.post_to(user, letter).await.map_err(into_store_error)?;
        Ok(true)
    }

    pub(super) async fn enabled_user_of(&self, email: &EmailAddress) -> Result<Option<User>, StoreError> {
        let user = self.config().users.user_by_name(NameKey::Email(email.key())).await?;
        Ok(user.filter(User::is_enabled))
    }
}

fn own_names(user: &User) -> OwnNames<'_> {
    OwnNames { email: user.email.as_ref(), username: user.username.as_ref() }
}

/// What a link to reset a password is bound to: the password hash and the address of when it was sent. A link that was
/// sent before either has changed is worth nothing.
fn reset_binding(user: &User) -> String {
    let hash = user.password_hash.as_ref().map_or("", PasswordHash::expose);
    let digest = digest::digest(&digest::SHA256, hash.as_bytes());
    let email = user.email.as_ref().map_or("", EmailAddress::key);
    format!("{} {email}", URL_SAFE_NO_PAD.encode(digest.as_ref()))
}

/// The digest of what a link to reset the password is bound to.
pub(super) fn proof_of(user: &User) -> String {
    let digest = digest::digest(&digest::SHA256, reset_binding(user).as_bytes());
    URL_SAFE_NO_PAD.encode(digest.as_ref())
}

/// What a link is bound to that an operator hands over, so that it proves no address.
fn by_hand(binding: &str) -> String {
    format!("{binding} by hand")
}

pub(super) fn into_store_error(error: SendError) -> StoreError {
    match error {
        SendError::Store(error) => error,
        error => StoreError::new("outbox", "take the mail", error),
    }
}

impl Accounts {
    /// Puts a letter to a user into the outbox. Without mail nothing happens.
    pub(super) async fn post(&self, to: &EmailAddress, user: &User, letter: Letter) -> Result<(), SendError> {
        let AccountsConfig { letters, clock, .. } = &*self.shared;
        let Some(letters) = letters else { return Ok(()) };
        let (user_id, language) = (Some(user.id.clone()), user.language.clone());
        Ok(letters.post(Addressed { to: to.clone(), user_id, language, letter }, clock.now()).await?)
    }

    /// Puts a letter to a user into the outbox, for the address that is stored and no other (SEC-134).
    pub(super) async fn post_to(&self, user: &User, letter: Letter) -> Result<(), SendError> {
        match &user.email {
            Some(email) => self.post(email, user, letter).await,
            None => Ok(()),
        }
    }

    /// Tells a user by mail what has happened. A failure is logged: what has happened cannot be undone for it.
    pub(super) async fn tell_by_mail(&self, user: &User, letter: Letter) {
        if let Some(email) = &user.email {
            self.tell_at(email, user, letter).await;
        }
    }

    /// The same, at this address. Whoever does the same again and again fills no mailbox, which may be somebody else's:
    /// the address may be unproven.
    pub(super) async fn tell_at(&self, to: &EmailAddress, user: &User, letter: Letter) {
        let counter = format!("{}told {}:{}", MAIL_COUNTERS.start, letter.name(), user.id);
        let told = match self.may(&counter, &Self::MAILS_TO_ADDRESS).await {
            Ok(Ok(())) => self.post(to, user, letter).await,
            Ok(Err(_)) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = told {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, user_id = %user.id, "a user could not be told by mail");
        }
    }

    /// Uses a link, and returns its record. A wrong one changes nothing, so that nobody uses up the tries of somebody
    /// else's link: nobody can guess one either.
    pub(super) async fn use_link(
        &self,
        token: &LinkToken,
        purpose: Purpose,
    ) -> Result<Option<OneTimeSecret>, StoreError> {
        let AccountsConfig { one_time, clock, .. } = &*self.shared;
        let (user_id, digest, now) = (token.user_id(), token.digest(), clock.now());
        let known = one_time.secret(user_id, purpose).await?;
        if !known.is_some_and(|mut secret| secret.try_digest(&digest, now) == Tried::Right) {
            return Ok(None);
        }
        Ok(match one_time.try_secret(user_id, purpose, &digest, now).await? {
            Some((Tried::Right, secret)) => Some(secret),
            _ => None,
        })
    }

    /// Counts a try at a counter that limits how often something is done. Returns the refusal, if it is not to be done
    /// now.
    pub(super) async fn may(
        &self,
        counter: &str,
        policy: &ThrottlePolicy,
    ) -> Result<Result<(), Refused>, StoreError> {
        let AccountsConfig { throttles, clock, .. } = &*self.shared;
        let change = AttemptChange { key: counter, policy: *policy, step: AttemptStep::Fail };
        let answers = throttles.change_attempts(&[change], clock.now()).await?;
        Ok(answers.into_iter().next().unwrap_or(Ok(())))
    }

    /// Does work that mails somebody, without letting the caller see whether or how long it worked: it goes on in the
    /// background, a bounded number at a time. An address is mailed for this reason a few times, and then ever more
    /// rarely: because of one client at last once a day, and in all every fifteen minutes, so that nobody keeps its
    /// owner from being mailed.
    pub(super) async fn mail_unseen(
        &self,
        reason: &str,
        email: &EmailAddress,
        client: Option<IpAddr>,
        work: impl Future<Output = Result<(), SendError>> + Send + 'static,
    ) -> Result<(), AskError> {
        let AccountsConfig { runtime, letters, clock, limits, random, mails_within, .. } = &*self.shared;
        if letters.is_none() {
            return Ok(());
        }
        // Every address that a client makes up leaves counters behind.
        if let Some(counter) = counter_of_client("mails", client, clock.now())
            && let Err(Refused { retry_after, .. }) = self.may(&counter, &limits.mails()).await?
        {
            return Err(AskError::TooManyAttempts { retry_after });
        }
        let Ok(place) = self.mailing.clone().try_acquire_owned() else {
            return Err(StoreError::new("outbox", "take the mail", "too many mails are being written").into());
        };
        let digest = digest::digest(&digest::SHA256, email.key().as_bytes());
        let to = format!("{}{reason}:{}", MAIL_COUNTERS.start, URL_SAFE_NO_PAD.encode(digest.as_ref()));
        let client = client.map_or_else(|| "unknown".to_owned(), |ip| ClientNetwork::of(ip).key());
        for (counter, policy) in
            [(format!("{to}@{client}"), Self::MAILS_FOR_CLIENT), (to, Self::MAILS_TO_ADDRESS)]
        {
            if self.may(&counter, &policy).await?.is_err() {
                return Ok(());
            }
        }
        // Else the request after this one would take longer where an account has the address, because the store is busy.
        let fraction =
            u16::from_be_bytes(random::bytes(&**random).map_err(SendError::from).map_err(into_store_error)?);
        let pause = mails_within.saturating_mul(u32::from(fraction)) / u32::from(u16::MAX);
        runtime.spawn(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            if let Err(error) = work.await {
                tracing::error!(error = &error as &dyn std::error::Error, "a mail could not be written");
            }
            drop(place);
        });
        Ok(())
    }
}

/// The language that a client asks for, as the first tag of `Accept-Language` that is one.
#[must_use]
pub fn preferred_language(accept_language: &str) -> Option<Language> {
    accept_language.split(',').find_map(|range| Language::parse(range.split(';').next()?.trim()).ok())
}
