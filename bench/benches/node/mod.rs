//! A node over any stores, those who use it, and what was measured of them.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark, each of which uses a part of this"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use countersign_core::flow::{
    Accounts, AccountsConfig, Check, HashPool, Keychain, PasswordPolicy, Presentation, Sessions,
    SessionsConfig, UserIds,
};
use countersign_core::model::{
    Argon2Params, Device, EmailAddress, LogEvents, LoginLimits, SessionPolicy, ThrottlePolicy, User,
    UserSession,
};
use countersign_core::store::Stores;
use countersign_http::OsRandom;
use countersign_jwt::{Clock, Timestamp, UserId};
use countersign_testkit::TestBed;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// A clock that moves whenever somebody looks, so that every session's turn comes long after the grace.
#[derive(Debug)]
pub(crate) struct Hurrying(AtomicI64);

impl Default for Hurrying {
    fn default() -> Self {
        Self(AtomicI64::new(0))
    }
}

impl Clock for Hurrying {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + self.0.fetch_add(50, Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed).unsigned_abs())
    }
}

/// Accounts and sessions over these stores.
pub(crate) async fn node(stores: &Stores, clock: Arc<dyn Clock>) -> Accounts {
    let random = Arc::new(OsRandom);
    let runtime = Handle::current();
    let keychain = Keychain::open(&**stores.keys(), &TestBed::secrets(), &*clock, &*random).await.unwrap();
    let policy = SessionPolicy { grace: Duration::from_secs(1), ..SessionPolicy::default() };
    let sessions = Sessions::new(SessionsConfig {
        sessions: stores.sessions().clone(),
        revocations: stores.revocations().clone(),
        keychain,
        keys: stores.keys().clone(),
        secrets: TestBed::secrets(),
        known_issuers: Default::default(),
        issuer: None,
        audience: None,
        policy,
        clock: clock.clone(),
        node: countersign_jwt::random::uuid(&*random).unwrap(),
        random: random.clone(),
        events: Arc::new(LogEvents),
        format: None,
        extra_claims: None,
        runtime: runtime.clone(),
    });
    let one = std::num::NonZeroUsize::MIN;
    let hasher = HashPool::new(runtime.clone(), one, 1, Argon2Params::default(), random.clone()).unwrap();
    Accounts::new(AccountsConfig {
        users: stores.users().clone(),
        throttles: stores.throttles().clone(),
        hasher,
        passwords: PasswordPolicy::default(),
        login_floor: None,
        sessions: sessions.unwrap(),
        throttle: ThrottlePolicy::default(),
        limits: LoginLimits::default(),
        one_time: stores.one_time().clone(),
        devices: stores.devices().clone(),
        letters: None,
        code_key: [7; 32].into(),
        ids: UserIds::default(),
        mails_within: Duration::ZERO,
        clock,
        random,
        runtime,
    })
}

/// What a client holds of a session.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) key: UserSession,
    pub(crate) refresh_token: String,
}

/// As many sessions, each of a user of its own who has an account. Many are begun at once.
pub(crate) async fn begin(accounts: &Accounts, stores: &Stores, count: usize) -> Vec<Held> {
    const BEGINNERS: usize = 64;
    let mut beginning = JoinSet::new();
    for beginner in 0..BEGINNERS.min(count) {
        let (accounts, stores) = (accounts.clone(), stores.clone());
        beginning.spawn(async move {
            let mut held = Vec::new();
            for _ in (beginner..count).step_by(BEGINNERS) {
                let user = user();
                stores.users().insert_user(&user).await.unwrap();
                held.push(log_in(&accounts, &stores, &user.id).await);
            }
            held
        });
    }
    beginning.join_all().await.concat()
}

/// What a login is without its password, and so without the hash and the counter of attempts.
pub(crate) async fn log_in(accounts: &Accounts, stores: &Stores, user_id: &UserId) -> Held {
    let sessions = accounts.sessions();
    let epoch = sessions.epoch(user_id).await.unwrap();
    let user = stores.users().user(user_id).await.unwrap().unwrap();
    let pair = sessions.begin(user.id, epoch, Presentation::Explicit, device()).await.unwrap();
    let key = UserSession { user_id: pair.user_id, id: pair.session.id };
    Held { key, refresh_token: pair.refresh_token }
}

fn user() -> User {
    let id = countersign_jwt::random::uuid(&OsRandom).unwrap();
    User {
        email: Some(EmailAddress::parse(&format!("{}@example.org", id.simple())).unwrap()),
        ..User::new(id.into(), Timestamp::from_secs(1_800_000_000))
    }
}

fn device() -> Device {
    Device::new(Some("benchmark/1.0"), Some(std::net::Ipv4Addr::LOCALHOST.into()))
}

/// Somebody who does the same over and over.
pub(crate) trait Worker: Send + 'static {
    fn step(&mut self) -> impl Future<Output = ()> + Send;
}

/// Refreshes sessions in turn.
pub(crate) struct Refreshing {
    pub(crate) accounts: Accounts,
    pub(crate) held: Vec<Held>,
    pub(crate) next: usize,
}

impl Worker for Refreshing {
    async fn step(&mut self) {
        let turn = self.next % self.held.len();
        self.next += 1;
        let held = self.held.get_mut(turn).unwrap();
        let claims = self
            .accounts
            .sessions()
            .verification()
            .verify(&held.refresh_token, Check::REFRESH.even_if_revoked())
            .await
            .unwrap();
        let (refreshed, _user) = self.accounts.refresh(&claims, device()).await.unwrap();
        assert!(refreshed.advanced, "every refresh advances");
        held.refresh_token = refreshed.pair.refresh_token;
    }
}

/// Lets users log in, in turn.
pub(crate) struct LoggingIn {
    pub(crate) accounts: Accounts,
    pub(crate) stores: Stores,
    pub(crate) users: Vec<UserId>,
    pub(crate) next: usize,
}

impl Worker for LoggingIn {
    async fn step(&mut self) {
        let user_id = self.users.get(self.next % self.users.len()).unwrap();
        self.next += 1;
        log_in(&self.accounts, &self.stores, user_id).await;
    }
}

/// For how long work goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// Whoever is at it then finishes.
    After(Duration),
    /// Each has done so many steps.
    Steps(usize),
}

/// All of them at the same time.
pub(crate) async fn work<W: Worker>(workers: Vec<W>, until: Until) -> (Vec<W>, Measured) {
    let began = Instant::now();
    let mut running = JoinSet::new();
    for mut worker in workers {
        running.spawn(async move {
            let mut each = Vec::new();
            while match until {
                Until::After(time) => began.elapsed() < time,
                Until::Steps(steps) => each.len() < steps,
            } {
                let asked = Instant::now();
                worker.step().await;
                each.push(asked.elapsed());
            }
            (worker, each)
        });
    }
    let (workers, each): (Vec<_>, Vec<_>) = running.join_all().await.into_iter().unzip();
    (workers, Measured { took: began.elapsed(), each: each.concat() })
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) took: Duration,
    pub(crate) each: Vec<Duration>,
}

impl Measured {
    pub(crate) fn per_second(&self) -> f64 {
        self.each.len() as f64 / self.took.as_secs_f64()
    }

    /// Below which so many of a hundred are.
    pub(crate) fn quantile(&self, percent: usize) -> Duration {
        let mut each = self.each.clone();
        each.sort_unstable();
        let at = each.len().saturating_sub(1) * percent / 100;
        each.get(at).copied().unwrap_or_default()
    }

    /// Takes in another turn of the same work.
    pub(crate) fn add(&mut self, turn: &Self) {
        self.took += turn.took;
        self.each.extend_from_slice(&turn.each);
    }
}

/// The middle one.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

/// In milliseconds, for a table.
pub(crate) fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}
