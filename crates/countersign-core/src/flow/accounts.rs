//! Operations on accounts: register, log in, refresh, disable.

mod attempts;
mod caller;
mod codes;
mod credentials;
mod devices;
mod ids;
mod letters;
mod minutes;
mod own;
mod profile;
mod queues;
mod registration;
mod shares;
mod source;
mod upgrade;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_jwt::claims::Claims;
use countersign_jwt::id::{Epoch, UserId};
use countersign_jwt::random::Random;
use countersign_jwt::time::Clock;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::flow::accounts::attempts::{Failures, NotBegun, count_login, count_refused};
use crate::flow::accounts::caller::{Caller, Waiting};
use crate::flow::accounts::devices::SigningIn;
use crate::flow::accounts::minutes::Minutes;
use crate::flow::accounts::queues::Queues;
use crate::flow::accounts::shares::{Share, Shares};
use crate::flow::accounts::source::{Candidate, UserSource};
use crate::flow::hasher::{HashError, HashPlace, HashPool, PasswordCheck};
use crate::flow::password_policy::PasswordPolicy;
use crate::flow::refresh::Refresh;
use crate::flow::sessions::detached;
use crate::flow::{
    BeginError, Beginning, EndError, Pair, Presentation, RefreshError, Refreshed, Renewed, Sessions,
};
use crate::model::event::Event;
use crate::model::name::{EmailAddress, Username, without_blanks};
use crate::model::password::Password;
use crate::model::throttle::{LoginLimits, Outcome, Refused, ThrottlePolicy, ThrottleReason};
use crate::model::user::User;
use crate::model::{ClientNetwork, Device, DeviceToken, EndReason, PasswordHash};
use crate::store::{DeviceStore, NameKey, OneTimeStore, StoreError, ThrottleStore, UserStore};

pub(crate) use attempts::hour;
pub use codes::CodeLoginError;
pub use credentials::{AskError, Credentials, CredentialsError, LinkError, preferred_language};
pub use ids::UserIds;
pub use letters::{Addressed, Letter, LetterError, Letters, SecretCode};
pub use own::{CheckPassword, FindUser, PasswordVerdict};
pub use profile::{EmailChange, EmailProof, NewAccount, Profile, ProfileChange, ProfileError};
pub use registration::{RegisterError, Registration};

/// The stores, policy and services that [`Accounts`] works with.
#[derive(Debug)]
pub struct AccountsConfig {
    /// The store of accounts.
    pub users: Arc<dyn UserStore>,
    /// The store of the counters of login attempts.
    pub throttles: Arc<dyn ThrottleStore>,
    /// The pool that hashes passwords.
    pub hasher: HashPool,
    /// What a new password must be.
    pub passwords: PasswordPolicy,
    /// The least time from a login's beginning to its answer; `None` answers as soon as possible.
    pub login_floor: Option<Duration>,
    /// The sessions that a login begins and that disabling an account ends.
    pub sessions: Sessions,
    /// The store of one-time secrets, in the engine of the accounts.
    pub one_time: Arc<dyn OneTimeStore>,
    /// The store of the devices that accounts know, in the engine of the accounts.
    pub devices: Arc<dyn DeviceStore>,
    /// The writer of mails; `None` where no mail is sent.
    pub letters: Option<Arc<dyn Letters>>,
    /// The key under which the digests of mailed codes are made. It is not in the store.
    pub code_key: Zeroizing<[u8; 32]>,
    /// How many login attempts are allowed at one account, with one name and on one known device.
    pub throttle: ThrottlePolicy,
    /// How many login attempts are allowed from one address, and in all.
    pub limits: LoginLimits,
    /// The kind of ids that new accounts get.
    pub ids: UserIds,
    /// The longest random pause before a mail is written that somebody who is not signed in has asked for, so that the
    /// store is not busy where an account has the address, and idle elsewhere.
    pub mails_within: Duration,
    /// The source of the time.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub random: Arc<dyn Random>,
    /// The runtime for work that a client must not be able to interrupt.
    pub runtime: Handle,
}

/// Accounts with passwords: register, log in, refresh, disable. Cheap to clone.
///
/// ```
/// use countersign_core::flow::{Arrival, LoginError, LoginName, Presentation, Registration};
/// use countersign_core::model::{Device, EmailAddress, Password};
/// # use countersign_core::store::MemoryStore;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let accounts = countersign_testkit::TestBed::over(MemoryStore::new()).await.accounts;
/// let arrival = Arrival::new(Presentation::Explicit, Device::default());
/// let registration = Registration {
///     email: Some(EmailAddress::parse("ada@example.org")?),
///     username: None,
///     password: Password::new_for_registration("correct horse".to_owned())?,
///     language: None,
/// };
/// let ada = accounts.register(registration, arrival.clone()).await?.user;
///
/// let password = Password::new_for_login("correct horse".to_owned())?;
/// let signed_in = accounts.login(LoginName::parse("ADA@example.org"), password, arrival.clone()).await?;
/// assert_eq!(signed_in.user.id, ada.id);
///
/// accounts.disable(&ada.id).await?;
/// let password = Password::new_for_login("correct horse".to_owned())?;
/// let refused = accounts.login(LoginName::parse("ada@example.org"), password, arrival).await;
/// assert!(matches!(refused, Err(LoginError::InvalidCredentials)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Accounts {
    shared: Arc<AccountsConfig>,
    refusals: Arc<Mutex<Minutes>>,
    failures: Arc<Mutex<Failures>>,
    /// The logins that wait for others.
    queues: Arc<Queues>,
    /// How much of the hash pool each address fills.
    shares: Arc<Shares>,
    /// One permit for each mail that is being written without its caller's knowing.
    mailing: Arc<Semaphore>,
}

/// The name that a user logs in with. White space around it is removed, as it is at registration.
///
/// ```
/// use countersign_core::flow::LoginName;
///
/// assert!(matches!(LoginName::parse("ada@example.org"), LoginName::Email(_)));
/// assert!(matches!(LoginName::parse(" ada "), LoginName::Username(name) if name.as_str() == "ada"));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LoginName {
    /// An e-mail address.
    Email(EmailAddress),
    /// A username.
    Username(Username),
    /// Text that no account can have as its name. A login with it takes the same path as one with an unknown name.
    Impossible(String),
}

impl LoginName {
    /// Parses text that contains an `@` as an e-mail address, and other text as a username.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.contains('@') { Self::email(text) } else { Self::username(text) }
    }

    /// Parses text as an e-mail address.
    #[must_use]
    pub fn email(text: &str) -> Self {
        EmailAddress::parse(text).map_or_else(|_| Self::impossible(text), Self::Email)
    }

    /// Parses text as a username.
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
}

/// The circumstances of a registration or login: the client, and how it will present its tokens.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// How the session's tokens will be presented.
    pub presentation: Presentation,
    /// The time after which the session ends, refreshed or not. Default, and at most, the policy's absolute lifetime.
    pub lifetime: Option<Duration>,
    /// The device that the client shows.
    pub device: Device,
    /// The token of the device, as the client has kept it since a login. A device that the account knows has a limit of
    /// its own on logins; an unknown one is remembered under this token.
    pub known_device: Option<DeviceToken>,
    /// Verified tokens whose sessions the new session replaces: those of the cookies that the browser still carries
    /// (SEC-079). Their sessions are ended before the new one begins, in the same work that nobody can interrupt.
    pub replacing: Vec<Claims>,
    /// Whether only accounts whose e-mail address is proven may log in.
    pub verified_only: bool,
}

impl Arrival {
    /// An arrival that replaces no session, on a device without a token.
    #[must_use]
    pub fn new(presentation: Presentation, device: Device) -> Self {
        Self {
            presentation,
            lifetime: None,
            device,
            known_device: None,
            replacing: Vec::new(),
            verified_only: false,
        }
    }

    /// What the login says about its session, the device, and the tokens whose sessions end.
    fn split(self) -> (Beginning, SigningIn, Vec<Claims>) {
        let Self { presentation, lifetime, device, known_device, replacing, .. } = self;
        let beginning = Beginning { lifetime, ..Beginning::of(presentation) };
        (beginning, SigningIn { device, known_device }, replacing)
    }
}

/// A user and the first token pair of a session that has just begun. The user is an account of Countersign's, or of the
/// type that a program with users of its own has for them.
#[derive(Clone, Debug)]
pub struct SignedIn<U = User> {
    /// The user who registered or logged in.
    pub user: U,
    /// The first token pair of the session, which is fresh.
    pub pair: Pair,
    /// The token of the device, which the client keeps and sends with its next login. `None` where nobody logged in, and
    /// if the device could not be remembered.
    pub device_token: Option<DeviceToken>,
}

/// The reason why a login failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The account is unknown, disabled or without a password, or the password is wrong, or it was not checked because
    /// too many attempts by another name of the account failed. The answer to the client does not tell these apart.
    #[error("the credentials are wrong")]
    InvalidCredentials,
    /// Too many attempts with this name, from this address or on this device failed.
    #[error("too many attempts")]
    TooManyAttempts {
        /// The time until the next attempt may be admitted.
        retry_after: Duration,
    },
    /// The password is right, but the account's e-mail address is not proven, and the arrival asks for that.
    #[error("the e-mail address is not verified yet")]
    EmailUnverified,
    /// The password could not be checked at the moment.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The password was right, but no session could begin.
    #[error(transparent)]
    Begin(BeginError),
}

impl LoginError {
    /// The outcome in the metric of logins.
    const fn outcome(&self) -> &'static str {
        match self {
            Self::InvalidCredentials => "failed",
            Self::TooManyAttempts { .. } => "throttled",
            Self::EmailUnverified => "unverified",
            Self::Hash(HashError::Overloaded) => "overloaded",
            Self::Hash(_) | Self::Store(_) | Self::Begin(_) => "error",
        }
    }
}

/// The result of checking a password.
#[derive(Debug)]
enum Checked<U> {
    /// The password is right and the account is enabled. The epoch was read before the password was checked. If there
    /// is a hash, it should replace the account's.
    Right(Box<U>, Epoch, Option<PasswordHash>),
    Wrong,
    /// The caller left before the password was checked.
    Unchecked,
}

impl Accounts {
    /// How often a login begins its session anew when each time the user's epoch was raised meanwhile; after that the
    /// login is answered with an error. Each try takes as long as an insert, and somebody who wants the login to fail
    /// must raise the epoch during all of them.
    const BEGIN_TRIES: u32 = 8;
    /// How many mails are written at once for callers who must not see how long that takes.
    const MAILS_AT_ONCE: usize = 64;
    /// How often one address is mailed for one reason because of one client: three times, then after pauses from a
    /// minute to a day.
    const MAILS_FOR_CLIENT: ThrottlePolicy = ThrottlePolicy {
        limit: 3,
        pause: Duration::from_secs(60),
        cap: Duration::from_secs(86_400),
        forget: Duration::from_secs(7 * 86_400),
        lease: Duration::from_secs(60),
    };
    /// How often one address is mailed for one reason in all: five times, then after pauses of at most 15 minutes,
    /// because the one who asks next may be its owner.
    const MAILS_TO_ADDRESS: ThrottlePolicy =
        ThrottlePolicy { limit: 5, cap: Duration::from_secs(900), ..Self::MAILS_FOR_CLIENT };
    /// How often one user changes the password: ten times, then after pauses from a minute to a quarter of an hour.
    const CHANGES_OF_PASSWORD: ThrottlePolicy =
        ThrottlePolicy { limit: 10, cap: Duration::from_secs(900), ..Self::MAILS_FOR_CLIENT };
    /// How often one user asks for another address: five times, then after pauses from a minute to an hour.
    const CHANGES_OF_ADDRESS: ThrottlePolicy =
        ThrottlePolicy { limit: 5, cap: Duration::from_secs(3_600), ..Self::MAILS_FOR_CLIENT };

    /// Accounts over the stores of this configuration.
    #[must_use]
    pub fn new(config: AccountsConfig) -> Self {
        let mailing = Arc::new(Semaphore::new(Self::MAILS_AT_ONCE));
        Self {
            shared: Arc::new(config),
            refusals: Arc::default(),
            failures: Arc::default(),
            queues: Arc::default(),
            shares: Arc::default(),
            mailing,
        }
    }

    /// The sessions of these accounts.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.shared.sessions
    }

    /// The pool that hashes the passwords of these accounts.
    #[must_use]
    pub fn hasher(&self) -> &HashPool {
        &self.shared.hasher
    }

    /// The rules for new passwords.
    #[must_use]
    pub fn passwords(&self) -> &PasswordPolicy {
        &self.shared.passwords
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs a user in with a password, and remembers the device.
    ///
    /// A login on a device that the account knows is limited by that device's own failures. A login of a stranger is
    /// limited by the failures at the account and its names, from its address, and in all ([`LoginLimits`]). A login
    /// that only others at the same counter are in the way of waits for them.
    ///
    /// A login takes a place in the hash pool before anything is looked up or written. If the caller goes away before
    /// its turn, the attempt is taken back, which leaves nothing behind, and then the place is free again. From the
    /// moment the password is hashed the login runs to its end: a guess that was checked is counted, whether or not
    /// anybody hears the answer (SEC-126).
    ///
    /// Logins to unknown, disabled and password-less accounts and logins with a wrong password take the same path: one
    /// hash of the default cost, the same store calls, the same error (SEC-130). With a login floor, no answer comes
    /// before it, so that a login to an account whose imported hash takes longer than a new one does not stand out.
    ///
    /// A login with the right password replaces a hash that is not like a new one (SEC-117).
    ///
    /// ```
    /// use countersign_core::flow::{Arrival, LoginError, LoginName, Presentation};
    /// use countersign_core::model::{Device, Password};
    /// # use countersign_core::store::MemoryStore;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let bed = countersign_testkit::TestBed::over(MemoryStore::new()).await;
    /// # bed.register("ada").await?;
    /// # let accounts = bed.accounts;
    /// let arrival = Arrival::new(Presentation::Cookie, Device::default());
    /// let guess = Password::new_for_login("a guess".to_owned())?;
    /// match accounts.login(LoginName::parse("ada"), guess, arrival).await {
    ///     Ok(signed_in) => println!("hello {}", signed_in.user.id),
    ///     Err(LoginError::InvalidCredentials) => println!("name or password is wrong"),
    ///     Err(LoginError::TooManyAttempts { retry_after }) => println!("try again in {retry_after:?}"),
    ///     Err(error) => return Err(error.into()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn login(
        &self,
        name: LoginName,
        password: Password,
        arrival: Arrival,
    ) -> Result<SignedIn, LoginError> {
        self.login_of(self.clone(), name, password, arrival).await
    }

    /// Logs a user of this source in, and counts the login by what came of it.
    async fn login_of<S: UserSource>(
        &self,
        source: S,
        name: LoginName,
        password: Password,
        arrival: Arrival,
    ) -> Result<SignedIn<S::User>, LoginError> {
        let refused = |error: LoginError| {
            count_login("password", error.outcome());
            error
        };
        let share = self
            .share(arrival.device.ip)
            .map_err(|Refused { retry_after, .. }| refused(LoginError::TooManyAttempts { retry_after }))?;
        let place = match &arrival.known_device {
            Some(_) => self.shared.hasher.place(),
            None => self.stranger_place(),
        };
        let place = place.map_err(|error| refused(error.into()))?;
        let (caller, waiting) = Caller::with(place);
        let floor = self.shared.login_floor.map(tokio::time::sleep);
        let this = self.clone();
        let login = async move {
            let _share = share;
            let answer = this.login_now(&source, &name, password, arrival, waiting).await;
            count_login("password", answer.as_ref().map_or_else(LoginError::outcome, |_| "succeeded"));
            answer
        };
        let answer = detached(&self.shared.runtime, login).await;
        drop(caller);
        if let Some(floor) = floor {
            floor.await;
        }
        answer
    }

    async fn login_now<S: UserSource>(
        &self,
        source: &S,
        name: &LoginName,
        password: Password,
        arrival: Arrival,
        mut waiting: Waiting,
    ) -> Result<SignedIn<S::User>, LoginError> {
        let sessions = &self.shared.sessions;
        let user_id = source.find(name).await?;
        if waiting.is_alone() {
            return Err(nobody_hears());
        }
        // The attempt is counted before the password is hashed (SEC-126), so that parallel guesses cannot all slip
        // through.
        let attempt = match self.begin_attempt(name, user_id.clone(), &arrival, &mut waiting).await {
            Ok(attempt) => attempt,
            Err(NotBegun::Refused(Refused { retry_after, .. })) => {
                sessions.tell(&Event::LoginThrottled { user_id, device: arrival.device });
                return Err(LoginError::TooManyAttempts { retry_after });
            }
            Err(NotBegun::Flood) => return Err(HashError::Overloaded.into()),
            Err(NotBegun::CallerLeft) => return Err(nobody_hears()),
            Err(NotBegun::Store(error)) => return Err(error.into()),
        };
        let checked = self.check(source, attempt.user_id(), password, &mut waiting).await;
        let outcome = match &checked {
            Ok(Checked::Right(..)) => Outcome::Succeeded,
            Ok(Checked::Wrong) => Outcome::Failed,
            Ok(Checked::Unchecked) | Err(_) => Outcome::Abandoned,
        };
        self.finish_attempt(&attempt, outcome, &arrival.device).await?;
        // The place of a caller that left becomes free only now, after its attempt was taken back.
        drop(waiting);
        let failed = |user_id: Option<UserId>, device| {
            let is_refused = user_id.is_some() && attempt.is_refused_by_account();
            sessions.tell(&if is_refused {
                Event::LoginThrottled { user_id, device }
            } else {
                Event::LoginFailed { user_id, device }
            });
            LoginError::InvalidCredentials
        };
        let (mut user, epoch, upgrade) = match checked? {
            Checked::Right(user, epoch, upgrade) => (*user, epoch, upgrade),
            Checked::Wrong => return Err(failed(user_id, arrival.device)),
            Checked::Unchecked => return Err(nobody_hears()),
        };
        if let Some(upgrade) = upgrade {
            source.upgrade(&mut user, upgrade).await;
        }
        if arrival.verified_only && !source.has_proven_address(&user) {
            return Err(LoginError::EmailUnverified);
        }
        let (beginning, on, replacing) = arrival.split();
        let device = on.device.clone();
        self.end_replaced(replacing).await?;
        match self.begin_on_device(source, user, epoch, beginning, on).await {
            Ok(Some(signed_in)) => Ok(signed_in),
            Ok(None) => Err(failed(user_id, device)),
            Err(BeginError::Store(error)) => Err(LoginError::Store(error)),
            Err(error) => Err(LoginError::Begin(error)),
        }
    }

    /// Checks the password, and returns the epoch that was read before the check. Whatever ends all sessions after that
    /// epoch was read ends this login too, unless [`begin`](Self::begin) finds that the login was not meant.
    ///
    /// The user is read again after the epoch. A row that was read before the epoch may be of a user who was disabled,
    /// or of a password that was changed, by a call that raised the epoch to the one that this login then begins in.
    async fn check<S: UserSource>(
        &self,
        source: &S,
        id: Option<&UserId>,
        password: Password,
        waiting: &mut Waiting,
    ) -> Result<Checked<S::User>, LoginError> {
        let sessions = &self.shared.sessions;
        let epoch = match id {
            Some(id) => sessions.epoch(id).await?,
            None => sessions.epoch(&UserId::from(Uuid::nil())).await?,
        };
        let candidate = source.read(id).await?;
        let hash = candidate.as_ref().and_then(|candidate| candidate.password_hash.clone());
        let Some(turn) = waiting.turn().await? else { return Ok(Checked::Unchecked) };
        let Some(Candidate { user, .. }) = candidate.filter(|candidate| candidate.is_enabled) else {
            turn.verify(password, hash).await?;
            return Ok(Checked::Wrong);
        };
        match source.decide(&user, &password).await? {
            PasswordVerdict::ByHash => {}
            PasswordVerdict::Right => return Ok(Checked::Right(Box::new(user), epoch, None)),
            PasswordVerdict::Wrong => return Ok(Checked::Wrong),
        }
        Ok(match turn.check(password, hash).await? {
            PasswordCheck::Right { upgrade } => Checked::Right(Box::new(user), epoch, upgrade),
            PasswordCheck::Wrong => Checked::Wrong,
            PasswordCheck::Unusable(reason) => {
                sessions.tell(&Event::PasswordHashUnusable { user_id: source.id(&user).clone(), reason });
                Checked::Wrong
            }
        })
    }

    /// Begins a session of a user whose password was right and whose epoch was this one. Returns `None` if the account
    /// has changed.
    ///
    /// If the epoch was raised meanwhile, this function looks for the reason. Code that changes a password or disables
    /// an account raises the epoch, changes the account, and raises the epoch once more. An account that is read after
    /// the epoch and is still enabled, with the same hash, may therefore have a session in that epoch. Any other
    /// reason, such as the user's own "sign out everywhere", does not concern a login that knows the password.
    async fn begin<S: UserSource>(
        &self,
        source: &S,
        mut user: S::User,
        mut epoch: Epoch,
        beginning: Beginning,
        device: Device,
    ) -> Result<Option<SignedIn<S::User>>, BeginError> {
        let sessions = &self.shared.sessions;
        for _ in 0..Self::BEGIN_TRIES {
            let id = source.id(&user).clone();
            match sessions.begin(id.clone(), epoch, beginning, device.clone()).await {
                Ok(pair) => return Ok(Some(SignedIn { user, pair, device_token: None })),
                Err(BeginError::EpochRaised) => {}
                Err(error) => return Err(error),
            }
            epoch = sessions.epoch(&id).await?;
            match source.unchanged(user).await? {
                Some(now) => user = now,
                None => return Ok(None),
            }
        }
        Err(BeginError::EpochRaised)
    }

    /// A place in the hash pool for somebody who is not known yet. An eighth of the pool is kept for logins on devices that
    /// accounts know.
    fn stranger_place(&self) -> Result<HashPlace, HashError> {
        match self.is_full_for_strangers() {
            true => Err(HashError::Overloaded),
            false => self.shared.hasher.place(),
        }
    }

    fn is_full_for_strangers(&self) -> bool {
        let hasher = &self.shared.hasher;
        hasher.free_places() <= hasher.size() / 8
    }

    /// Counts a registration or login from this address. One address fills at most half of the hash pool, so that others,
    /// and devices that accounts know, find places whatever comes from there. The machine's own addresses may fill all of
    /// it: behind a proxy that is not set up as one, all clients have them.
    fn share(&self, client: Option<IpAddr>) -> Result<Option<Share>, Refused> {
        let client = client.filter(|ip| !ip.to_canonical().is_loopback());
        let Some(network) = client.map(ClientNetwork::of) else { return Ok(None) };
        let most = self.shared.hasher.size().div_ceil(2);
        let share = self.shares.take(network, most).ok_or_else(|| {
            count_refused("address");
            Refused { retry_after: Duration::from_secs(1), reason: ThrottleReason::OthersRunning }
        })?;
        Ok(Some(share))
    }

    async fn end_replaced(&self, replaced: Vec<Claims>) -> Result<(), StoreError> {
        match self.shared.sessions.end_by_tokens(replaced, EndReason::Replaced).await {
            Ok(_) => Ok(()),
            Err(EndError::Store(error)) => Err(error),
        }
    }

    /// The user, if the account exists and is enabled.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    pub async fn enabled_user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        Ok(self.shared.users.user(id).await?.filter(User::is_enabled))
    }

    /// Exchanges a refresh token for a token pair, if its user exists and is enabled.
    ///
    /// # Errors
    /// Those of [`Refresh::exchange`](crate::flow::Refresh::exchange).
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
    /// Those of [`Refresh::renew`](crate::flow::Refresh::renew).
    pub async fn renew(&self, token: &Claims, device: Device) -> Result<Renewed, RefreshError> {
        // The user is looked up first: a token of a user who does not exist must not get a session.
        if self.enabled_user(token.subject()).await?.is_none() {
            return Err(crate::model::Refusal::User.into());
        }
        Refresh::of(&self.shared.sessions).renew(token, true, device).await
    }

    /// Disables an account: it can neither log in nor refresh any more, and all its sessions end. Returns whether the
    /// account exists.
    ///
    /// ```
    /// # use countersign_core::store::MemoryStore;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let bed = countersign_testkit::TestBed::over(MemoryStore::new()).await;
    /// # let ada = bed.register("ada").await?;
    /// # let accounts = &bed.accounts;
    /// assert!(accounts.disable(&ada.user.id).await?);
    /// assert!(bed.authenticate(&ada.pair.access_token).await.is_err());
    ///
    /// assert!(accounts.enable(&ada.user.id).await?);
    /// assert!(bed.authenticate(&ada.pair.access_token).await.is_err(), "old sessions stay ended");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`EndError`] when the store cannot answer; disabling the account again is safe.
    pub async fn disable(&self, id: &UserId) -> Result<bool, EndError> {
        let (this, id) = (self.clone(), id.clone());
        detached(&self.shared.runtime, async move {
            let AccountsConfig { users, sessions, clock, .. } = &*this.shared;
            if users.user(&id).await?.is_none() {
                return Ok(false);
            }
            // The epoch may live in another engine than the account, so it is raised before and after the account
            // changes. Raised before, a crash in between leaves nobody signed in; raised after, it ends the sessions of
            // logins meanwhile.
            sessions.end_all(id.clone(), None, EndReason::Disabled).await?;
            let known = users.set_disabled(&id, Some(clock.now())).await?;
            sessions.end_all(id.clone(), None, EndReason::Disabled).await?;
            sessions.tell(&Event::UserDisabled { user_id: id });
            Ok(known)
        })
        .await
    }

    /// Enables an account again; returns whether it exists. Its old sessions stay ended.
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

/// The answer to a caller who has left.
fn nobody_hears() -> LoginError {
    HashError::Overloaded.into()
}
