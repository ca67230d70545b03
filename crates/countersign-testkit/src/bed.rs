//! Sessions and accounts over any stores, with time and randomness that the test controls.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_core::flow::{
    Accounts, AccountsConfig, Arrival, Check, CheckError, HashPool, HashRecipe, Keychain, Letters,
    LoginError, LoginName, Pair, PasswordPolicy, Presentation, Refresh, RefreshError, Refreshed,
    RegisterError, Registration, Sessions, SessionsConfig, SignedIn, StoreClock, TokenFormat, UserIds,
};
use countersign_core::model::{
    Device, EmailAddress, Event, Events, LoginLimits, Password, SessionPolicy, ThrottlePolicy, UserSession,
    Username,
};
use countersign_core::store::{FoundSession, Stores};
use countersign_jwt::issuers::KnownIssuers;
use countersign_jwt::random::bytes;
use countersign_jwt::{Claims, Random, Secret, Secrets, UserId};
use tokio::runtime::Handle;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{FixedClock, SeededRandom};

/// The number of the next node; every node has one of its own.
static NODES: AtomicU64 = AtomicU64::new(1);

/// One node: sessions and accounts, ready to be used. [`TestBed::over`] makes the first node, and
/// [`TestBed::another_node`] makes further ones over the same stores.
///
/// The methods panic where a test would: they are for steps that must work before the test gets to its point.
///
/// ```
/// use std::time::Duration;
/// use countersign_core::store::MemoryStore;
/// use countersign_testkit::TestBed;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bed = TestBed::over(MemoryStore::new()).await;
/// let ada = bed.register("ada").await?;
/// assert!(bed.authenticate(&ada.pair.access_token).await.is_ok());
///
/// bed.clock.advance(Duration::from_secs(3600));
/// assert!(bed.authenticate(&ada.pair.access_token).await.is_err(), "it has expired");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TestBed {
    /// The stores.
    pub stores: Stores,
    /// The clock, which all nodes share.
    pub clock: Arc<FixedClock>,
    /// The events of this node.
    pub events: Arc<RecordedEvents>,
    /// Sessions.
    pub sessions: Sessions,
    /// Accounts.
    pub accounts: Accounts,
    config: BedConfig,
}

/// The parts of a [`TestBed`] that a test may choose.
///
/// ```
/// use std::time::Duration;
/// use countersign_core::model::SessionPolicy;
/// use countersign_core::store::MemoryStore;
/// use countersign_testkit::{BedConfig, TestBed};
///
/// # #[tokio::main]
/// # async fn main() {
/// let policy = SessionPolicy { grace: Duration::ZERO, ..SessionPolicy::default() };
/// let bed = TestBed::with(MemoryStore::new(), BedConfig { policy, ..BedConfig::default() }).await;
/// assert_eq!(bed.sessions.policy().grace, Duration::ZERO);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BedConfig {
    /// Lifetimes and rules. Default: those of production.
    pub policy: SessionPolicy,
    /// The source of random bytes. Default: a [`SeededRandom`].
    pub random: Arc<dyn Random>,
    /// The number of passwords hashed at once. Default: 4.
    pub hash_permits: NonZeroUsize,
    /// The number of passwords that may wait to be hashed. Default: 64.
    pub hash_queue: usize,
    /// The limits on logins from one address, and in all. Default: those of production.
    pub limits: LoginLimits,
    /// How new hashes are made. Default: as in production.
    pub recipe: HashRecipe,
    /// What a new password must be. Default: as in production.
    pub passwords: PasswordPolicy,
    /// The least time that a login takes. Default: none.
    pub login_floor: Option<Duration>,
    /// The format of tokens, where it is not Countersign's own.
    pub format: Option<Arc<dyn TokenFormat>>,
    /// The writer of mails. Default: none, so that nothing is mailed. [`RecordedLetters`](crate::RecordedLetters) keeps them.
    pub letters: Option<Arc<dyn Letters>>,
}

impl Default for BedConfig {
    fn default() -> Self {
        Self {
            policy: SessionPolicy::default(),
            random: Arc::new(SeededRandom::default()),
            hash_permits: NonZeroUsize::new(4).unwrap_or(NonZeroUsize::MIN),
            hash_queue: HashPool::DEFAULT_QUEUE,
            limits: LoginLimits::default(),
            recipe: HashRecipe::default(),
            passwords: PasswordPolicy::default(),
            login_floor: None,
            format: None,
            letters: None,
        }
    }
}

impl TestBed {
    /// The password of every account that [`TestBed::register`] makes.
    pub const PASSWORD: &'static str = "correct horse battery staple";

    /// A node over these stores whose view of the revocation log is fresh.
    ///
    /// # Panics
    /// If the stores don't answer, or outside a tokio runtime.
    pub async fn over(stores: impl Into<Stores>) -> Self {
        Self::with(stores, BedConfig::default()).await
    }

    /// A node over these stores, with a configuration of its own.
    ///
    /// # Panics
    /// In the cases of [`TestBed::over`], and if the policy contradicts itself.
    pub async fn with(stores: impl Into<Stores>, config: BedConfig) -> Self {
        Self::at(stores, Arc::new(FixedClock::default()), config).await
    }

    /// A node over these stores, on a machine with a clock of its own.
    ///
    /// # Panics
    /// In the cases of [`TestBed::with`].
    pub async fn at(stores: impl Into<Stores>, clock: Arc<FixedClock>, config: BedConfig) -> Self {
        Self::node(stores.into(), clock, config).await
    }

    /// Another node over the same stores, with a view and a hash pool of its own.
    ///
    /// # Panics
    /// In the cases of [`TestBed::over`].
    pub async fn another_node(&self) -> Self {
        Self::node(self.stores.clone(), self.clock.clone(), self.config.clone()).await
    }

    async fn node(stores: Stores, clock: Arc<FixedClock>, config: BedConfig) -> Self {
        let runtime = Handle::current();
        let events = Arc::new(RecordedEvents::default());
        let random = config.random.clone();
        let store_clock = StoreClock::new(clock.clone());
        store_clock.ask(&**stores.revocations()).await.expect("the store answers");
        let keychain = Keychain::open(&**stores.keys(), &Self::secrets(), &store_clock, &*random).await;
        let sessions = Sessions::new(SessionsConfig {
            sessions: stores.sessions().clone(),
            revocations: stores.revocations().clone(),
            keychain: keychain.expect("the keys open"),
            keys: stores.keys().clone(),
            secrets: Self::secrets(),
            issuer: None,
            known_issuers: KnownIssuers::default(),
            audience: None,
            policy: config.policy.clone(),
            extra_claims: None,
            clock: clock.clone(),
            node: Uuid::from_u128(NODES.fetch_add(1, Ordering::Relaxed).into()),
            random: random.clone(),
            events: events.clone(),
            format: config.format.clone(),
            runtime: runtime.clone(),
        })
        .expect("a policy without contradictions");
        sessions.view().poll().await.expect("the log can be read");
        let hasher = HashPool::new(
            runtime.clone(),
            config.hash_permits,
            config.hash_queue,
            config.recipe.clone(),
            random.clone(),
        );
        let accounts = Accounts::new(AccountsConfig {
            users: stores.users().clone(),
            throttles: stores.throttles().clone(),
            hasher: hasher.expect("randomness for the decoy"),
            passwords: config.passwords.clone(),
            login_floor: config.login_floor,
            sessions: sessions.clone(),
            throttle: ThrottlePolicy::default(),
            limits: config.limits,
            devices: stores.devices().clone(),
            ids: UserIds::default(),
            mails_within: Duration::ZERO,
            one_time: stores.one_time().clone(),
            letters: config.letters.clone(),
            code_key: Zeroizing::new([7; 32]),
            clock: sessions.clock(),
            random,
            runtime,
        });
        Self { stores, clock, events, sessions, accounts, config }
    }

    /// The secret that seals the keys of every test bed.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn secrets() -> Secrets {
        let secret = bytes::<32>(&SeededRandom::new(0x5ec7e7)).expect("a seeded generator never fails");
        let secret = Secret::new(secret.to_vec()).expect("32 bytes of variety");
        Secrets::new(vec![secret]).expect("one secret")
    }

    /// The configuration that the bed was made with.
    #[must_use]
    pub fn config(&self) -> &BedConfig {
        &self.config
    }

    /// Begins a session of any user, without an account or a password.
    ///
    /// # Panics
    /// If no session begins.
    pub async fn begin(&self, user_id: &UserId, device: Device) -> Pair {
        let epoch = self.sessions.epoch(user_id).await.expect("the store answers");
        let pair = self.sessions.begin(user_id.clone(), epoch, Presentation::Explicit, device).await;
        pair.expect("a session begins")
    }

    /// Exchanges a refresh token of an enabled user, from the text that the client sent.
    ///
    /// # Errors
    /// Those of [`Verification::verify`](countersign_core::flow::Verification::verify) and [`Refresh::exchange`].
    pub async fn refresh(&self, refresh_token: &str, device: Device) -> Result<Refreshed, RefreshError> {
        let check = Check::REFRESH.even_if_revoked();
        let claims = self.sessions.verification().verify(refresh_token, check).await?;
        Refresh::of(&self.sessions).exchange(&claims, true, device).await
    }

    /// Verifies an access token as a protected route does.
    ///
    /// # Errors
    /// Those of [`Verification::verify`](countersign_core::flow::Verification::verify).
    pub async fn authenticate(&self, access_token: &str) -> Result<Claims, CheckError> {
        let verification = self.sessions.verification();
        let claims = verification.verify(access_token, Check::ACCESS).await?;
        verification.note_use(&claims);
        Ok(claims)
    }

    /// The row of a pair's session.
    ///
    /// # Panics
    /// If the store has no such row.
    pub async fn row(&self, pair: &Pair) -> FoundSession {
        let key = UserSession { user_id: pair.user_id.clone(), id: pair.session.id };
        let found = self.stores.sessions().session(&key).await.expect("the store answers");
        found.expect("the session is there")
    }

    /// Registers `name` with the address `name@example.org` and [`TestBed::PASSWORD`].
    ///
    /// # Errors
    /// Those of [`Accounts::register`].
    ///
    /// # Panics
    /// If `name` is not a username.
    pub async fn register(&self, name: &str) -> Result<SignedIn, RegisterError> {
        let registration = Registration {
            email: Some(EmailAddress::parse(&format!("{name}@example.org")).expect("an e-mail address")),
            username: Some(Username::parse(name).expect("a username")),
            password: Password::new_for_registration(Self::PASSWORD.to_owned()).expect("a good password"),
            language: None,
        };
        self.accounts.register(registration, Arrival::new(Presentation::Explicit, Device::default())).await
    }

    /// Logs in with a name and a password.
    ///
    /// # Errors
    /// Those of [`Accounts::login`].
    ///
    /// # Panics
    /// If the password is longer than a password may be.
    pub async fn login(&self, name: &str, password: &str) -> Result<SignedIn, LoginError> {
        self.login_as(name, password, Arrival::new(Presentation::Explicit, Device::default())).await
    }

    /// Logs in with a name and a password, arriving like this.
    ///
    /// # Errors
    /// Those of [`Accounts::login`].
    ///
    /// # Panics
    /// If the password is longer than a password may be.
    pub async fn login_as(
        &self,
        name: &str,
        password: &str,
        arrival: Arrival,
    ) -> Result<SignedIn, LoginError> {
        let password = Password::new_for_login(password.to_owned()).expect("not too long");
        self.accounts.login(LoginName::parse(name), password, arrival).await
    }
}

/// A receiver of events that remembers them.
///
/// ```
/// use countersign_core::model::Event;
/// use countersign_core::store::MemoryStore;
/// use countersign_testkit::TestBed;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let bed = TestBed::over(MemoryStore::new()).await;
/// bed.register("ada").await?;
/// assert!(bed.events.take().iter().any(|event| matches!(event, Event::Registered { .. })));
///
/// assert!(bed.login("ada", "a guess").await.is_err());
/// assert!(bed.events.take_alarms().is_empty(), "one wrong password is no attack");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct RecordedEvents {
    events: Mutex<Vec<Event>>,
}

impl RecordedEvents {
    /// Returns the events so far, and forgets them.
    #[must_use]
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RecordedEvents {
    /// Returns those of the events so far that may be an attack, and forgets all of them.
    #[must_use]
    pub fn take_alarms(&self) -> Vec<Event> {
        self.take().into_iter().filter(Event::is_alarm).collect()
    }
}

impl Events for RecordedEvents {
    fn emit(&self, event: &Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
    }
}
