//! What one does with accounts: register, log in, refresh, disable.

mod caller;
mod refusals;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_jwt::claims::Claims;
use countersign_jwt::id::{Epoch, UserId};
use countersign_jwt::random::{Random, RandomError, uuid};
use countersign_jwt::time::{Clock, Timestamp};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::flow::accounts::caller::{Caller, Waiting};
use crate::flow::accounts::refusals::Refusals;
use crate::flow::hasher::{HashError, HashPlace, HashPool};
use crate::flow::refresh::Refresh;
use crate::flow::sessions::detached;
use crate::flow::{BeginError, EndError, Pair, Presentation, RefreshError, Refreshed, Renewed, Sessions};
use crate::model::event::Event;
use crate::model::name::{EmailAddress, Username, without_blanks};
use crate::model::password::Password;
use crate::model::throttle::{Outcome, Refused, ThrottlePolicy};
use crate::model::user::User;
use crate::model::{Device, EndReason, PasswordHash};
use crate::store::{NAME_COUNTERS, NameKey, StoreError, ThrottleStore, UserInserted, UserStore};

/// What [`Accounts`] works with.
#[derive(Debug)]
pub struct AccountsConfig {
    /// Accounts at rest.
    pub users: Arc<dyn UserStore>,
    /// Counters of login attempts.
    pub throttles: Arc<dyn ThrottleStore>,
    /// Hashes passwords.
    pub hasher: HashPool,
    /// Sessions.
    pub sessions: Sessions,
    /// How many attempts are allowed.
    pub throttle: ThrottlePolicy,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Where work runs that a client must not be able to interrupt.
    pub runtime: Handle,
}

/// Accounts with passwords: register, log in, refresh, disable. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Accounts {
    shared: Arc<AccountsConfig>,
    refusals: Arc<Mutex<Refusals>>,
}

/// A new account, all of it checked.
#[derive(Debug)]
pub struct Registration {
    /// The e-mail address.
    pub email: EmailAddress,
    /// The username, if wanted.
    pub username: Option<Username>,
    /// The password, exactly as sent.
    pub password: Password,
}

/// The name somebody logs in with. White space around it is no part of it, as at registration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LoginName {
    /// An e-mail address.
    Email(EmailAddress),
    /// A username.
    Username(Username),
    /// Text that no account can have as its name. It takes the same path as an unknown one.
    Impossible(String),
}

impl LoginName {
    /// An e-mail address if there is an `@`, else a username.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.contains('@') { Self::email(text) } else { Self::username(text) }
    }

    /// An e-mail address.
    #[must_use]
    pub fn email(text: &str) -> Self {
        EmailAddress::parse(text).map_or_else(|_| Self::impossible(text), Self::Email)
    }

    /// A username.
    #[must_use]
    pub fn username(text: &str) -> Self {
        Username::parse(text).map_or_else(|_| Self::impossible(text), Self::Username)
    }

    fn impossible(text: &str) -> Self {
        Self::Impossible(without_blanks(text).to_owned())
    }

    fn key(&self) -> Option<NameKey<'_>> {
        match self {
            Self::Email(email) => Some(NameKey::Email(email.key())),
            Self::Username(username) => Some(NameKey::Username(username.key())),
            Self::Impossible(_) => None,
        }
    }

    /// The key of the name's own counter: a digest, so that the counters hold no names.
    fn counter(&self) -> String {
        let (kind, text) = match self {
            Self::Email(email) => ("email", email.key()),
            Self::Username(username) => ("username", username.key()),
            Self::Impossible(text) => ("impossible", text.as_str()),
        };
        let digest = digest::digest(&digest::SHA256, format!("{kind}:{text}").as_bytes());
        format!("{}{}", NAME_COUNTERS.start, URL_SAFE_NO_PAD.encode(digest.as_ref()))
    }
}

/// How somebody arrives who registers or logs in.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// How the session's tokens will be presented.
    pub presentation: Presentation,
    /// The client.
    pub device: Device,
    /// Tokens whose sessions this one takes the place of: the cookies that the browser still carries (SEC-079). They
    /// are ended before the new one begins, in the same work that nobody can interrupt.
    pub replacing: Vec<Claims>,
}

impl Arrival {
    /// Somebody who brings no session along.
    #[must_use]
    pub fn new(presentation: Presentation, device: Device) -> Self {
        Self { presentation, device, replacing: Vec::new() }
    }
}

/// A user and the pair of a session that just began.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// The user.
    pub user: User,
    /// The first pair, fresh.
    pub pair: Pair,
}

/// Why nobody was registered, or registered but not logged in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Another account has the e-mail address.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// Another account has the username.
    #[error("the username is taken")]
    UsernameTaken,
    /// The password could not be hashed, now.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The account is there, but no session began. Logging in will do.
    #[error(transparent)]
    Begin(#[from] BeginError),
}

/// Why a login failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// Unknown, disabled, without password, wrong password, or not checked because too many attempts failed by another
    /// name of the account. Nobody is told which.
    #[error("the credentials are wrong")]
    InvalidCredentials,
    /// Too many attempts failed by this name.
    #[error("too many attempts")]
    TooManyAttempts {
        /// When the next one is worth making.
        retry_after: Duration,
    },
    /// The password could not be checked, now.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No session could begin.
    #[error(transparent)]
    Begin(BeginError),
}

/// An attempt that is counted as running, by the name as given and by whose it is.
///
/// The two counters follow the same rules. What a caller can see is the name's counter alone, and every name has its
/// own: so nothing tells whether two names belong to one account. How many guesses are checked is limited by the
/// account's, whichever names they come by. An attempt that the name's counter admits and the account's does not is
/// treated like one by a name that nobody has.
#[derive(Debug)]
struct Attempt {
    name: String,
    account: Account,
}

/// What else counts an attempt.
#[derive(Debug)]
enum Account {
    /// The account's own counter, which all its names share.
    Known { id: UserId, counter: String },
    /// Nobody has the name, or the account's counter does not admit it. The second counter makes the attempt cost the
    /// store what others cost, and forgets it.
    Nobody { counter: String },
}

/// What came of checking a password.
#[derive(Debug)]
enum Checked {
    /// It is right, and the account is enabled. The epoch was read before.
    Right(User, Epoch),
    Wrong,
    /// The caller left before it was looked at.
    Unchecked,
}

impl Accounts {
    /// How often a session is begun whose user's epoch is raised each time, before the login is answered with an error.
    /// Each try takes as long as an insert, and somebody who raises it must hit all of them.
    const BEGIN_TRIES: u32 = 8;

    /// Accounts over these stores.
    #[must_use]
    pub fn new(config: AccountsConfig) -> Self {
        Self { shared: Arc::new(config), refusals: Arc::default() }
    }

    /// The sessions.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.shared.sessions
    }

    /// The pool that hashes passwords.
    #[must_use]
    pub fn hasher(&self) -> &HashPool {
        &self.shared.hasher
    }

    /// Registers an account and logs it in. Takes a place in the hash pool before anything else. A caller who goes away
    /// before the password is hashed leaves nothing behind; afterwards it runs to its end.
    ///
    /// # Errors
    /// [`RegisterError`]. Only after [`RegisterError::Begin`] the account exists.
    pub async fn register(
        &self,
        registration: Registration,
        arrival: Arrival,
    ) -> Result<SignedIn, RegisterError> {
        let place = self.shared.hasher.place()?;
        let Registration { email, username, password } = registration;
        // Saves a hash where the answer is known; the insert decides.
        if let Some(taken) = self.taken(&email, username.as_ref()).await? {
            self.refuse(place, password, arrival.device).await?;
            return Err(taken);
        }
        let id = UserId::from(uuid(&*self.shared.random)?);
        let password_hash = Some(place.turn().await?.hash(password).await?);
        let created_at = self.shared.clock.now();
        let user = User { id, email, username, password_hash, created_at, disabled_at: None };
        let this = self.clone();
        detached(&self.shared.runtime, async move { this.register_now(user, arrival).await }).await
    }

    async fn taken(
        &self,
        email: &EmailAddress,
        username: Option<&Username>,
    ) -> Result<Option<RegisterError>, StoreError> {
        let users = &self.shared.users;
        if users.user_by_name(NameKey::Email(email.key())).await?.is_some() {
            return Ok(Some(RegisterError::EmailTaken));
        }
        if let Some(username) = username
            && users.user_by_name(NameKey::Username(username.key())).await?.is_some()
        {
            return Ok(Some(RegisterError::UsernameTaken));
        }
        Ok(None)
    }

    /// A registration is refused because a name is taken. Where there were many, it costs what one costs that is not.
    async fn refuse(&self, place: HashPlace, password: Password, device: Device) -> Result<(), HashError> {
        if self.count_refusal(device) {
            place.turn().await?.hash(password).await?;
        }
        Ok(())
    }

    /// Counts a registration that is refused; returns whether there were many in this minute.
    fn count_refusal(&self, device: Device) -> bool {
        let (are_many, told) = self.refusals().count(self.shared.clock.now(), device);
        if let Some(event) = told {
            self.shared.sessions.tell(&event);
        }
        are_many
    }

    /// Emits [`Event::RegistrationsRefused`] for a minute that is over and was not told of yet. Background tasks call it
    /// every few seconds.
    pub fn tell_refused_registrations(&self) {
        let told = self.refusals().tell(self.shared.clock.now());
        if let Some(event) = told {
            self.shared.sessions.tell(&event);
        }
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn register_now(&self, user: User, arrival: Arrival) -> Result<SignedIn, RegisterError> {
        let AccountsConfig { users, sessions, .. } = &*self.shared;
        let epoch = sessions.epoch(&user.id).await?;
        let taken = match users.insert_user(&user).await? {
            UserInserted::Yes => None,
            UserInserted::EmailTaken => Some(RegisterError::EmailTaken),
            UserInserted::UsernameTaken => Some(RegisterError::UsernameTaken),
        };
        if let Some(taken) = taken {
            self.count_refusal(arrival.device);
            return Err(taken);
        }
        sessions.tell(&Event::Registered { user_id: user.id.clone() });
        self.end_replaced(arrival.replacing).await?;
        let begun = self.begin(user, epoch, arrival.presentation, arrival.device).await?;
        begun.ok_or(RegisterError::Begin(BeginError::EpochRaised))
    }

    /// Logs a user in with a password.
    ///
    /// It takes a place in the hash pool before anything is looked up or written. A caller who goes away before its turn
    /// gives the place back as soon as its attempt is taken back, which leaves nothing behind. From the moment the password is hashed it
    /// runs to its end: a guess that was checked is counted, whether or not anybody hears the answer (SEC-126).
    ///
    /// Unknown, disabled, password-less and mistaken users take the same path: one hash of the default cost, the
    /// same store calls, the same error (SEC-130).
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn login(
        &self,
        name: LoginName,
        password: Password,
        arrival: Arrival,
    ) -> Result<SignedIn, LoginError> {
        let (caller, waiting) = Caller::with(self.shared.hasher.place()?);
        let this = self.clone();
        let login = async move { this.login_now(&name, password, arrival, waiting).await };
        let answer = detached(&self.shared.runtime, login).await;
        drop(caller);
        answer
    }

    async fn login_now(
        &self,
        name: &LoginName,
        password: Password,
        arrival: Arrival,
        mut waiting: Waiting,
    ) -> Result<SignedIn, LoginError> {
        let AccountsConfig { users, sessions, .. } = &*self.shared;
        // A name that no account can have is looked up like the others; an empty key is nobody's.
        let user = users.user_by_name(name.key().unwrap_or(NameKey::Email(""))).await?;
        let user_id = user.map(|user| user.id);
        if waiting.is_alone() {
            return Err(nobody_hears());
        }
        // Counted before hashing (SEC-126): parallel guesses cannot all slip through.
        let attempt = match self.begin_attempt(name, user_id.clone()).await? {
            Ok(attempt) => attempt,
            Err(Refused { retry_after, .. }) => {
                sessions.tell(&Event::LoginThrottled { user_id, device: arrival.device });
                return Err(LoginError::TooManyAttempts { retry_after });
            }
        };
        let checked = self.check(attempt.account.id(), password, &mut waiting).await;
        let outcome = match &checked {
            Ok(Checked::Right(..)) => Outcome::Succeeded,
            Ok(Checked::Wrong) => Outcome::Failed,
            Ok(Checked::Unchecked) | Err(_) => Outcome::Abandoned,
        };
        self.finish_attempt(&attempt, outcome).await?;
        // The place of a caller that left is free only now.
        drop(waiting);
        let failed = |user_id, device| {
            sessions.tell(&match (&attempt.account, &user_id) {
                (Account::Nobody { .. }, Some(_)) => Event::LoginThrottled { user_id, device },
                _ => Event::LoginFailed { user_id, device },
            });
            LoginError::InvalidCredentials
        };
        let (user, epoch) = match checked? {
            Checked::Right(user, epoch) => (user, epoch),
            Checked::Wrong => return Err(failed(user_id, arrival.device)),
            Checked::Unchecked => return Err(nobody_hears()),
        };
        let Arrival { presentation, device, replacing } = arrival;
        self.end_replaced(replacing).await?;
        match self.begin(user, epoch, presentation, device.clone()).await {
            Ok(Some(signed_in)) => Ok(signed_in),
            Ok(None) => Err(failed(user_id, device)),
            Err(BeginError::Store(error)) => Err(LoginError::Store(error)),
            Err(error) => Err(LoginError::Begin(error)),
        }
    }

    /// Counts an attempt as running, by name and by account. See [`Attempt`].
    async fn begin_attempt(
        &self,
        name: &LoginName,
        user_id: Option<UserId>,
    ) -> Result<Result<Attempt, Refused>, StoreError> {
        let AccountsConfig { throttles, throttle, clock, .. } = &*self.shared;
        let (name, now) = (name.counter(), clock.now());
        if let Err(refused) = throttles.begin_attempt(&name, now, throttle).await? {
            return Ok(Err(refused));
        }
        match self.begin_account_attempt(&name, user_id, now).await {
            Ok(account) => Ok(Ok(Attempt { name, account })),
            Err(error) => {
                // If this fails as well, the attempt is given up when its lease ends.
                let _ = throttles.finish_attempt(&name, Outcome::Abandoned, now, throttle).await;
                Err(error)
            }
        }
    }

    async fn begin_account_attempt(
        &self,
        name: &str,
        user_id: Option<UserId>,
        now: Timestamp,
    ) -> Result<Account, StoreError> {
        let AccountsConfig { throttles, throttle, .. } = &*self.shared;
        if let Some(id) = user_id {
            let counter = format!("user:{id}");
            if throttles.begin_attempt(&counter, now, throttle).await?.is_ok() {
                return Ok(Account::Known { id, counter });
            }
        }
        let counter = format!("{name}/nobody");
        // Refuses never: it forgets every attempt, and no more run at once than the name's own counter admits.
        let _ = throttles.begin_attempt(&counter, now, throttle).await?;
        Ok(Account::Nobody { counter })
    }

    /// Settles an attempt. The account's counter comes first: so it never refuses what the name's admits, as long as
    /// all attempts come by that name.
    async fn finish_attempt(&self, attempt: &Attempt, outcome: Outcome) -> Result<(), StoreError> {
        let AccountsConfig { throttles, throttle, clock, .. } = &*self.shared;
        let now = clock.now();
        let (counter, of_account) = match &attempt.account {
            Account::Known { counter, .. } => (counter, outcome),
            Account::Nobody { counter } => (counter, Outcome::Abandoned),
        };
        let account = throttles.finish_attempt(counter, of_account, now, throttle).await;
        let name = throttles.finish_attempt(&attempt.name, outcome, now, throttle).await;
        account.and(name)
    }

    /// Checks the password, with the epoch read before: what ends all sessions from then on ends this login too, unless
    /// [`begin`](Self::begin) finds that it was not meant.
    ///
    /// The user is read again after the epoch. A row from before it may be of a user who was disabled, or of a
    /// password that was changed, by a call that raised the epoch to the one that this login then begins in.
    async fn check(
        &self,
        id: Option<&UserId>,
        password: Password,
        waiting: &mut Waiting,
    ) -> Result<Checked, LoginError> {
        let AccountsConfig { users, sessions, .. } = &*self.shared;
        let id = id.cloned().unwrap_or_else(|| UserId::from(Uuid::nil()));
        let epoch = sessions.epoch(&id).await?;
        let user = users.user(&id).await?;
        let hash = user.as_ref().and_then(|user| user.password_hash.clone());
        let Some(turn) = waiting.turn().await? else { return Ok(Checked::Unchecked) };
        let matches = turn.verify(password, hash).await?;
        Ok(match user {
            Some(user) if matches && user.is_enabled() => Checked::Right(user, epoch),
            _ => Checked::Wrong,
        })
    }

    /// Begins a session of a user whose password was right and whose epoch was this one.
    ///
    /// If the epoch was raised meanwhile, it looks again at why. Whoever changes a password or disables an account raises
    /// the epoch, changes the account, and raises the epoch once more; so an account that is read after the epoch and
    /// is still enabled, with the same hash, may have a session in that epoch. Anything else, such as the user's own
    /// "sign out everywhere", does not concern who knows the password. `None` if the account has changed.
    async fn begin(
        &self,
        mut user: User,
        mut epoch: Epoch,
        presentation: Presentation,
        device: Device,
    ) -> Result<Option<SignedIn>, BeginError> {
        let AccountsConfig { users, sessions, .. } = &*self.shared;
        for _ in 0..Self::BEGIN_TRIES {
            match sessions.begin(user.id.clone(), epoch, presentation, device.clone()).await {
                Ok(pair) => return Ok(Some(SignedIn { user, pair })),
                Err(BeginError::EpochRaised) => {}
                Err(error) => return Err(error),
            }
            epoch = sessions.epoch(&user.id).await?;
            let now = users.user(&user.id).await?;
            let is_same =
                |now: &User| now.is_enabled() && text(&now.password_hash) == text(&user.password_hash);
            match now.filter(is_same) {
                Some(now) => user = now,
                None => return Ok(None),
            }
        }
        Err(BeginError::EpochRaised)
    }

    async fn end_replaced(&self, replaced: Vec<Claims>) -> Result<(), StoreError> {
        match self.shared.sessions.end_by_tokens(replaced, EndReason::Replaced).await {
            Ok(_) => Ok(()),
            Err(EndError::Store(error)) => Err(error),
        }
    }

    /// The user, if there is one and it is enabled.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    pub async fn enabled_user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        Ok(self.shared.users.user(id).await?.filter(User::is_enabled))
    }

    /// Exchanges a refresh token for a pair, if its user exists and is enabled.
    ///
    /// # Errors
    /// As [`Refresh::exchange`].
    pub async fn refresh(&self, token: &Claims, device: Device) -> Result<(Refreshed, User), RefreshError> {
        let user = self.enabled_user(token.subject()).await?;
        let refreshed = Refresh::of(&self.shared.sessions).exchange(token, user.is_some(), device).await?;
        match user {
            Some(user) => Ok((refreshed, user)),
            None => Err(crate::model::Refusal::User.into()),
        }
    }

    /// Exchanges a refresh token that is not rotated for an access token, if its user exists and is enabled.
    ///
    /// # Errors
    /// As [`Refresh::renew`].
    pub async fn renew(&self, token: &Claims, device: Device) -> Result<Renewed, RefreshError> {
        // Asked first: a token of a user that there is not must not get a session.
        if self.enabled_user(token.subject()).await?.is_none() {
            return Err(crate::model::Refusal::User.into());
        }
        Refresh::of(&self.shared.sessions).renew(token, true, device).await
    }

    /// Disables an account: nobody logs in or refreshes as this user any more, and all its sessions end.
    ///
    /// # Errors
    /// [`EndError`] when the store cannot answer; doing it again is safe.
    pub async fn disable(&self, id: &UserId) -> Result<bool, EndError> {
        let (this, id) = (self.clone(), id.clone());
        detached(&self.shared.runtime, async move {
            let AccountsConfig { users, sessions, clock, .. } = &*this.shared;
            if users.user(&id).await?.is_none() {
                return Ok(false);
            }
            // The epoch may live in another engine than the account. Raised before, a crash in between leaves nobody
            // signed in; raised after, it ends what logged in meanwhile.
            sessions.end_all(id.clone(), None, EndReason::Disabled).await?;
            let known = users.set_disabled(&id, Some(clock.now())).await?;
            sessions.end_all(id.clone(), None, EndReason::Disabled).await?;
            sessions.tell(&Event::UserDisabled { user_id: id });
            Ok(known)
        })
        .await
    }

    /// Enables an account again. Its old sessions stay ended.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    pub async fn enable(&self, id: &UserId) -> Result<bool, StoreError> {
        let known = self.shared.users.set_disabled(id, None).await?;
        if known {
            self.shared.sessions.tell(&Event::UserEnabled { user_id: id.clone() });
        }
        Ok(known)
    }
}

impl Account {
    /// Whose password is checked.
    fn id(&self) -> Option<&UserId> {
        match self {
            Self::Known { id, .. } => Some(id),
            Self::Nobody { .. } => None,
        }
    }
}

fn text(hash: &Option<PasswordHash>) -> Option<&str> {
    hash.as_ref().map(PasswordHash::expose)
}

/// The answer to a caller who has left.
fn nobody_hears() -> LoginError {
    HashError::Overloaded.into()
}
