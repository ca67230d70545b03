//! Refreshing sessions on SQLite, on a real disk: how many advance in a second, and how long each takes. Beside it
//! the same number of updates as a store without group commit makes them: one transaction after the other.
//!
//! Every refresh counted here is a whole one, but for HTTP: the token's MAC is verified, user and session are read,
//! the session is advanced by one conditional update that is on disk before the answer, and two tokens are signed.
//! Time passes so fast that no refresh falls into the grace of the one before.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark: it measures time and prints it"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use countersign_core::account::{
    Accounts, AccountsConfig, Argon2Params, EmailAddress, HashPool, ThrottlePolicy, User,
};
use countersign_core::event::LogEvents;
use countersign_core::keychain::Keychain;
use countersign_core::session::{Device, Presentation, SessionPolicy, Sessions, SessionsConfig};
use countersign_core::store::Stores;
use countersign_core::{Clock, Epoch, Timestamp, UserId};
use countersign_sql::sqlite::{SqliteOptions, SqliteStore};
use countersign_testkit::{SeededRandom, TestBed};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::runtime::Handle;

/// How many clients refresh at the same time.
const CLIENTS: usize = 64;
/// How many sessions each of them has, which it refreshes in turn.
const SESSIONS_EACH: usize = 64;
/// How many refreshes are measured, after a tenth of that to warm up.
const REFRESHES: usize = 50_000;
/// How many updates the store without group commit is given time for.
const SINGLE_UPDATES: usize = 2_000;

/// A clock that moves whenever somebody looks, so that every session's turn comes long after the grace.
#[derive(Debug)]
struct Hurrying(AtomicI64);

impl Clock for Hurrying {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + self.0.fetch_add(50, Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed).unsigned_abs())
    }
}

#[tokio::main]
async fn main() {
    // Not in /tmp, which may be memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("refresh.db");
    let store = Arc::new(SqliteStore::open(&SqliteOptions::new(&path)).await.unwrap());
    let accounts = accounts(store.clone().into()).await;
    let clients = clients(&accounts, &store.clone().into()).await;

    let (clients, _) = refresh_all(&accounts, clients, REFRESHES / 10).await;
    let (_, refreshes) = refresh_all(&accounts, clients, REFRESHES).await;
    refreshes.print("refreshes, 64 at a time");
    drop(accounts);
    Arc::try_unwrap(store).unwrap().close().await;

    let singles = update_one_by_one(&path).await;
    singles.print("bare updates, one by one");
    println!("ratio: {:.1}", refreshes.per_second() / singles.per_second());
}

/// What was measured.
struct Measured {
    took: Duration,
    each: Vec<Duration>,
}

impl Measured {
    fn per_second(&self) -> f64 {
        self.each.len() as f64 / self.took.as_secs_f64()
    }

    fn print(&self, what: &str) {
        let mut each = self.each.clone();
        each.sort_unstable();
        let quantile =
            |percent: usize| each.get((each.len() - 1) * percent / 100).copied().unwrap_or_default();
        println!(
            "{what}: {:.0}/s; p50 {:.2?}, p99 {:.2?}, worst {:.2?}; {} in {:.2?}",
            self.per_second(),
            quantile(50),
            quantile(99),
            quantile(100),
            each.len(),
            self.took,
        );
    }
}

async fn accounts(stores: Stores) -> Accounts {
    let clock = Arc::new(Hurrying(0.into()));
    let random = Arc::new(SeededRandom::default());
    let runtime = Handle::current();
    let keychain = Keychain::open(&*stores.keys, &TestBed::secrets(), &*clock, &*random).await.unwrap();
    let policy = SessionPolicy { grace: Duration::from_secs(1), ..SessionPolicy::default() };
    let sessions = Sessions::new(SessionsConfig {
        sessions: stores.sessions.clone(),
        revocations: stores.revocations.clone(),
        keychain,
        keys: stores.keys.clone(),
        secrets: TestBed::secrets(),
        issuer: None,
        audience: None,
        policy,
        clock: clock.clone(),
        node: uuid::Uuid::nil(),
        random: random.clone(),
        events: Arc::new(LogEvents),
        format: None,
        extra_claims: None,
        runtime: runtime.clone(),
    });
    let one = std::num::NonZeroUsize::MIN;
    let hasher = HashPool::new(runtime.clone(), one, 1, Argon2Params::default(), random.clone()).unwrap();
    Accounts::new(AccountsConfig {
        users: stores.users,
        throttles: stores.throttles,
        hasher,
        sessions: sessions.unwrap(),
        throttle: ThrottlePolicy::default(),
        clock,
        random,
        runtime,
    })
}

/// The refresh tokens of each client's sessions.
async fn clients(accounts: &Accounts, stores: &Stores) -> Vec<Vec<String>> {
    let mut beginning = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let (accounts, stores) = (accounts.clone(), stores.clone());
        beginning.spawn(async move {
            let user = User {
                id: UserId::new(&format!("user-{number}")).unwrap(),
                email: EmailAddress::parse(&format!("user-{number}@example.org")).unwrap(),
                username: None,
                password_hash: None,
                created_at: Timestamp::from_secs(1_800_000_000),
                disabled_at: None,
            };
            stores.users.insert_user(&user).await.unwrap();
            let mut tokens = Vec::with_capacity(SESSIONS_EACH);
            for _ in 0..SESSIONS_EACH {
                let begun = accounts
                    .sessions()
                    .begin(user.id.clone(), Epoch::FIRST, Presentation::Explicit, device())
                    .await;
                tokens.push(begun.unwrap().refresh_token);
            }
            tokens
        });
    }
    beginning.join_all().await
}

fn device() -> Device {
    Device::new(Some("benchmark/1.0"), Some(std::net::Ipv4Addr::LOCALHOST.into()))
}

/// All clients refresh until they have done so often enough together. Returns their new tokens.
async fn refresh_all(
    accounts: &Accounts,
    clients: Vec<Vec<String>>,
    refreshes: usize,
) -> (Vec<Vec<String>>, Measured) {
    let advanced = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for mut tokens in clients {
        let (accounts, advanced) = (accounts.clone(), advanced.clone());
        running.spawn(async move {
            let mut each = Vec::with_capacity(refreshes / CLIENTS);
            for turn in 0..refreshes / CLIENTS {
                let token = tokens.get_mut(turn % SESSIONS_EACH).unwrap();
                let asked = Instant::now();
                let claims = accounts.sessions().verify_refresh(token).unwrap();
                let (refreshed, _user) = accounts.refresh(&claims, device()).await.unwrap();
                each.push(asked.elapsed());
                advanced.fetch_add(u64::from(refreshed.advanced), Ordering::Relaxed);
                *token = refreshed.pair.refresh_token;
            }
            (tokens, each)
        });
    }
    let (clients, each): (Vec<_>, Vec<_>) = running.join_all().await.into_iter().unzip();
    let took = began.elapsed();
    let each = each.concat();
    assert_eq!(advanced.load(Ordering::Relaxed), each.len() as u64, "every refresh advances");
    (clients, Measured { took, each })
}

/// As a store does it that commits every write on its own, just as durably. It neither reads nor signs anything.
async fn update_one_by_one(path: &std::path::Path) -> Measured {
    let mut connection = connect(path).await;
    let keys: Vec<(String, String)> =
        sqlx::query_as("SELECT user_id, id FROM session").fetch_all(&mut connection).await.unwrap();
    let mut each = Vec::with_capacity(SINGLE_UPDATES);
    let began = Instant::now();
    for (user_id, id) in keys.iter().cycle().take(SINGLE_UPDATES) {
        let asked = Instant::now();
        let updated = sqlx::query(
            "UPDATE session SET generation = generation + 1, issued_at = issued_at + 1
             WHERE user_id = ?1 AND id = ?2 AND ended_at IS NULL",
        );
        let updated = updated.bind(user_id).bind(id).execute(&mut connection).await.unwrap();
        assert_eq!(updated.rows_affected(), 1);
        each.push(asked.elapsed());
    }
    let took = began.elapsed();
    connection.close().await.unwrap();
    Measured { took, each }
}

async fn connect(path: &std::path::Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path);
    let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
    options.disable_statement_logging().connect().await.unwrap()
}
