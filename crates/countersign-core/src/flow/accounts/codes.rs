//! Signing in by a code that was mailed, or by the link beside it.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::hmac;
use countersign_jwt::id::{Epoch, UserId};
use countersign_jwt::random::{self, RandomError};
use uuid::Uuid;

use super::attempts::count_login;
use super::credentials::{AskError, Credentials};
use super::letters::{Letter, SecretCode};
use super::{AccountsConfig, Arrival, SignedIn};
use crate::flow::sessions::detached;
use crate::flow::{BeginError, EndError};
use crate::model::event::Event;
use crate::model::one_time::{LinkToken, OneTimeSecret, Purpose, SecretDigest, Tried};
use crate::model::throttle::Outcome;
use crate::model::{Device, EmailAddress, EndReason, User};
use crate::store::{NameKey, StoreError, UserReplaced};

/// The reason why a login by a mailed code failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodeLoginError {
    /// Too many logins from this address failed.
    #[error("too many attempts")]
    TooManyAttempts {
        /// The time until the next attempt may be admitted.
        retry_after: Duration,
    },
    /// The code is wrong, has expired, was used before or never sent, or the account is disabled.
    #[error("the code is not valid")]
    InvalidCredentials,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The code was right, but no session began.
    #[error(transparent)]
    Begin(BeginError),
}

impl CodeLoginError {
    /// The outcome in the metric of logins.
    const fn outcome(&self) -> &'static str {
        match self {
            Self::InvalidCredentials => "failed",
            Self::TooManyAttempts { .. } => "throttled",
            Self::Store(_) | Self::Begin(_) => "error",
        }
    }
}

impl Credentials {
    /// Mails a code and a link, each of which signs in once, to this address, if an enabled account has it. As with
    /// [`Credentials::forgot`], nothing tells the caller whether one has, and `client` is the address of who asks.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn mail_code(&self, email: &EmailAddress, client: Option<IpAddr>) -> Result<(), AskError> {
        let (this, email) = (self.clone(), email.clone());
        self.accounts
            .mail_unseen("code", &email.clone(), client, async move {
                // An address that nobody has gets a code that nobody learns, so that a guess at it costs the store what
                // other guesses do.
                let user = this.enabled_user_of(&email).await?;
                let user_id = user.as_ref().map_or_else(|| this.nobody(&email), |user| user.id.clone());
                // Each has a record of its own: who guesses codes uses up the tries of the code, and not the link.
                let code = this.new_code()?;
                let digest = this.code_digest(&user_id, &code);
                this.keep(&user_id, Purpose::SignIn, email.key(), Self::CODE_LIVES, digest).await?;
                let lives = Self::CODE_LIVES;
                let token = this.keep_link(&user_id, Purpose::SignInLink, email.key(), lives).await?;
                match &user {
                    Some(user) => {
                        let letter = Letter::SignInCode { code, token, expires_in: lives };
                        this.accounts.post_to(user, letter).await
                    }
                    None => Ok(()),
                }
            })
            .await
    }

    /// Six random digits, each code equally likely.
    fn new_code(&self) -> Result<SecretCode, RandomError> {
        loop {
            let number = u32::from_be_bytes(random::bytes(&*self.config().random)?);
            // The numbers above the last whole million would make small codes likelier.
            if number < 4_294_000_000 {
                return Ok(SecretCode::of(number));
            }
        }
    }

    /// The digest of a code, under a key that is not in the store: there are only a million codes to try.
    fn code_digest(&self, user_id: &UserId, code: &SecretCode) -> SecretDigest {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.config().code_key);
        let tag = hmac::sign(&key, format!("{} {user_id}", code.expose()).as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(tag.as_ref());
        SecretDigest::from_bytes(bytes)
    }

    /// Logs in with a code that was mailed. The address is proven by it. If it was not proven before, whatever the
    /// account held until then may be somebody else's who has registered with the address: the password is removed, the
    /// other sessions end, and no device is known any more.
    ///
    /// Wrong codes count at the address of the client, as wrong passwords do.
    ///
    /// # Errors
    /// [`CodeLoginError`].
    pub async fn login_with_code(
        &self,
        email: &EmailAddress,
        code: &SecretCode,
        arrival: Arrival,
    ) -> Result<SignedIn, CodeLoginError> {
        let (this, email, code) = (self.clone(), email.clone(), code.clone());
        detached(&self.config().runtime, async move {
            let counter = this.accounts.begin_at_address(arrival.device.ip).await;
            let counter = counter.inspect_err(|error| count_login("code", error.outcome()))?;
            let answered = this.login_with_counted_code(&email, &code, arrival).await;
            count_login("code", answered.as_ref().map_or_else(CodeLoginError::outcome, |_| "succeeded"));
            if let Some(counter) = counter {
                let outcome = match &answered {
                    Err(CodeLoginError::InvalidCredentials) => Outcome::Failed,
                    _ => Outcome::Abandoned,
                };
                this.accounts.finish_counter(&counter, outcome).await?;
            }
            answered
        })
        .await
    }

    async fn login_with_counted_code(
        &self,
        email: &EmailAddress,
        code: &SecretCode,
        arrival: Arrival,
    ) -> Result<SignedIn, CodeLoginError> {
        let AccountsConfig { users, one_time, .. } = self.config();
        let user = users.user_by_name(NameKey::Email(email.key())).await?;
        let known = user.as_ref().map(|user| user.id.clone());
        let user_id = user.filter(User::is_enabled).map_or_else(|| self.nobody(email), |user| user.id);
        let digest = self.code_digest(&user_id, code);
        // As at a login with a password, the epoch is read first.
        let epoch = self.config().sessions.epoch(&user_id).await?;
        match one_time.try_secret(&user_id, Purpose::SignIn, &digest, self.now()).await? {
            Some((Tried::Right, secret)) => self.login_by(secret, epoch, arrival).await,
            _ => Err(self.code_failed(known, arrival.device)),
        }
    }

    /// The id that stands for whoever has this address while no account has it: the store holds the counters and codes
    /// of this id as it holds those of an account, so how long an answer takes tells nobody who has one (SEC-131).
    fn nobody(&self, email: &EmailAddress) -> UserId {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.config().code_key);
        let tag = hmac::sign(&key, format!("nobody {}", email.key()).as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(tag.as_ref().get(..16).unwrap_or(&[0; 16]));
        UserId::from(Uuid::from_bytes(bytes))
    }

    /// The user whom a link that was mailed beside a code signs in, if it is still good. The link is not used by that. A
    /// page says whom it signs in before it does: a link may come from somebody who wants others in an account of theirs.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    pub async fn user_of_link(&self, token: &LinkToken) -> Result<Option<User>, StoreError> {
        let AccountsConfig { users, one_time, .. } = self.config();
        let known = one_time.secret(token.user_id(), Purpose::SignInLink).await?;
        if !known.is_some_and(|mut secret| secret.try_digest(&token.digest(), self.now()) == Tried::Right) {
            return Ok(None);
        }
        Ok(users.user(token.user_id()).await?.filter(User::is_enabled))
    }

    /// Logs in with the link that was mailed beside a code, as [`Credentials::login_with_code`] does.
    ///
    /// # Errors
    /// [`CodeLoginError`].
    pub async fn login_with_link(
        &self,
        token: &LinkToken,
        arrival: Arrival,
    ) -> Result<SignedIn, CodeLoginError> {
        let (this, token) = (self.clone(), token.clone());
        detached(&self.config().runtime, async move {
            let answered = this.login_with_this_link(&token, arrival).await;
            count_login("link", answered.as_ref().map_or_else(CodeLoginError::outcome, |_| "succeeded"));
            answered
        })
        .await
    }

    async fn login_with_this_link(
        &self,
        token: &LinkToken,
        arrival: Arrival,
    ) -> Result<SignedIn, CodeLoginError> {
        let epoch = self.config().sessions.epoch(token.user_id()).await?;
        match self.accounts.use_link(token, Purpose::SignInLink).await? {
            Some(secret) => self.login_by(secret, epoch, arrival).await,
            // Anybody can write anything into a link, so its user is not the one of the event.
            None => Err(self.code_failed(None, arrival.device)),
        }
    }

    /// Logs in with a secret that was used. Before that, this epoch was read.
    async fn login_by(
        &self,
        OneTimeSecret { user_id, bound_to, .. }: OneTimeSecret,
        epoch: Epoch,
        arrival: Arrival,
    ) -> Result<SignedIn, CodeLoginError> {
        let AccountsConfig { users, one_time, .. } = self.config();
        let user = users.user(&user_id).await?.filter(|user| {
            user.is_enabled() && user.email.as_ref().is_some_and(|email| email.key() == bound_to)
        });
        let Some(user) = user else {
            return Err(self.code_failed(Some(user_id), arrival.device));
        };
        for purpose in [Purpose::SignIn, Purpose::SignInLink] {
            one_time.remove_secret(&user_id, purpose).await?;
        }
        let (user, epoch) = match user.has_verified_email() {
            true => (user, epoch),
            false => match self.take_over(user).await? {
                Some(taken_over) => taken_over,
                None => return Err(self.code_failed(Some(user_id), arrival.device)),
            },
        };
        let (beginning, on, replacing) = arrival.split();
        let device = on.device.clone();
        self.accounts.end_replaced(replacing).await?;
        match self.accounts.begin_on_device(&self.accounts, user, epoch, beginning, on).await {
            Ok(Some(signed_in)) => Ok(signed_in),
            Ok(None) => Err(self.code_failed(Some(user_id), device)),
            Err(BeginError::Store(error)) => Err(CodeLoginError::Store(error)),
            Err(error) => Err(CodeLoginError::Begin(error)),
        }
    }

    /// Gives an account whose address was not proven to who has just proven it: without a password, sessions, devices
    /// and links of whoever had it before. `None` if somebody else changed the account at the same time.
    async fn take_over(&self, user: User) -> Result<Option<(User, Epoch)>, StoreError> {
        let AccountsConfig { users, sessions, one_time, devices, .. } = self.config();
        let end_all = async || {
            let ended = sessions.end_all(user.id.clone(), None, EndReason::CredentialsChanged).await;
            ended.map_err(|EndError::Store(error)| error)
        };
        // As where a password is replaced, the epoch is raised before and after.
        end_all().await?;
        let proven = User { email_verified_at: Some(self.now()), password_hash: None, ..user.clone() };
        if users.replace_user(&user, &proven).await? != UserReplaced::Yes {
            return Ok(None);
        }
        end_all().await?;
        for purpose in Purpose::ENDED_BY_CHANGE {
            one_time.remove_secret(&user.id, purpose).await?;
        }
        devices.forget_devices(&user.id).await?;
        if user.password_hash.is_some() {
            sessions.tell(&Event::PasswordChanged { user_id: user.id.clone() });
        }
        sessions.tell(&Event::EmailVerified { user_id: user.id.clone() });
        let epoch = sessions.epoch(&user.id).await?;
        Ok(Some((User { revision: user.revision.saturating_add(1), ..proven }, epoch)))
    }

    fn code_failed(&self, user_id: Option<UserId>, device: Device) -> CodeLoginError {
        self.config().sessions.tell(&Event::LoginFailed { user_id, device });
        CodeLoginError::InvalidCredentials
    }
}
