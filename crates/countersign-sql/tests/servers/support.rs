//! Servers that stores are tested on, databases that are there as long as a test, and values for them.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use countersign_core::model::{Advance, AdvanceCondition, Device, EndReason, Entry, Target};
use countersign_core::store::{AccountsHalf, End, EpochRaise, SessionsHalf, StoreError};
use countersign_jwt::{Generation, Timestamp};
use countersign_sql::OpenError;
pub(crate) use countersign_testkit::rows::{NOW, key, seconds, session, session_id, token_id, user, user_id};
use countersign_testkit::server_url;

/// A kind of server that has a store, and how a test speaks to it beside the store.
pub(crate) trait ServerUnderTest: fmt::Debug + Sized + Send + Sync + 'static {
    /// How its store is opened.
    type Options: Clone + fmt::Debug + Send + Sync;
    /// Its store.
    type Store: SessionsHalf + AccountsHalf;
    /// Its driver's connections.
    type Connection: Send;

    /// The environment variable with a server's URL.
    const URL: &'static str;
    /// How many changes of the tables there are.
    const CHANGES: i64;
    /// Makes the tables of the first version, with a wrong checksum, and then the right one.
    const FIRST_VERSION: [&'static str; 2];
    /// The column with the key of an account's name.
    const NAME_KEY: &'static str;
    /// The byte 0 as a literal.
    const ZERO_BYTE: &'static str;
    /// The server's time in milliseconds.
    const TIME: &'static str;
    /// How many statements of others wait for a lock in this database.
    const WAITING: &'static str;
    /// How long the server may take to notice that they wait.
    const NOTICED: Duration = Duration::ZERO;
    /// How many connections of others there are to this database.
    const OTHERS: &'static str;
    /// How many transactions in this database are open while nothing is done in them.
    const LEFT_OPEN: &'static str;
    /// What a node of the next version may do to the table of sessions while this one runs, and the one after it.
    const OF_TOMORROW: [&'static str; 2];

    /// The options for a URL.
    fn options(url: &str) -> Self::Options;
    fn deadline(options: Self::Options, deadline: Duration) -> Self::Options;
    fn connections(options: Self::Options, connections: u32) -> Self::Options;
    fn run_migrations(options: Self::Options, run: bool) -> Self::Options;
    /// Options of a store that does not hear of what other nodes do, where that can be had.
    fn deaf(options: Self::Options) -> Self::Options;

    fn open(options: &Self::Options) -> impl Future<Output = Result<Self::Store, OpenError>> + Send;
    fn migrate(options: &Self::Options) -> impl Future<Output = Result<(), OpenError>> + Send;
    fn close(store: Self::Store) -> impl Future<Output = ()> + Send;
    fn has_keys(store: &Self::Store) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// The ways to a database: its URL, and its URL through a pooler if there is one.
    fn ways(database: &Database<Self>) -> Vec<String> {
        vec![database.url()]
    }

    /// A table of the store's, as SQL has it.
    fn table(name: &str) -> String;
    /// Deletes a database that may be in use.
    fn drop_database(name: &str) -> String;

    fn connect(url: &str) -> impl Future<Output = Self::Connection> + Send;
    fn run(connection: &mut Self::Connection, sql: &str) -> impl Future<Output = ()> + Send;
    async fn count(connection: &mut Self::Connection, sql: &str) -> i64;

    /// Ends the connections of others to this database.
    async fn kill_others(program: &mut Program<Self>);
    /// Ends those connections of others with which they hear of what other nodes do.
    async fn cut_off(program: &mut Program<Self>);
    /// Makes a user who may read and write the store's tables and nothing else; returns statements that delete him.
    async fn make_limited_user(
        program: &mut Program<Self>,
        database: &str,
        name: &str,
        password: &str,
    ) -> Vec<String>;
    /// Makes the next inserts of accounts and sessions fail as for those who got into the way of others, three in all.
    async fn fail_inserts(program: &mut Program<Self>);
    /// The same again, after [`ServerUnderTest::fail_inserts`].
    async fn fail_inserts_again(program: &mut Program<Self>);
    /// The same for ever, for sessions.
    async fn fail_inserts_for_ever(program: &mut Program<Self>);
    /// Makes the server refuse every account but that of `ada@example.org`, with an answer that quotes the row.
    async fn refuse_accounts(program: &mut Program<Self>);
    /// Hides the sessions from whoever looks first; `false` where that cannot be had.
    async fn hide_sessions_once(program: &mut Program<Self>) -> bool;
}

/// A database of its own, deleted at the end, also of a test that fails.
#[derive(Debug)]
pub(crate) struct Database<S: ServerUnderTest> {
    server: String,
    pub(crate) name: String,
    kind: PhantomData<S>,
}

impl<S: ServerUnderTest> Database<S> {
    /// A new, empty one; `None` to leave the test out.
    pub(crate) async fn fresh() -> Option<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let random = RandomState::new().hash_one(NUMBER.fetch_add(1, Ordering::Relaxed));
        let (name, server) = (format!("countersign_test_{random:016x}"), server_url(S::URL)?);
        let database = Self { server, name, kind: PhantomData };
        database.run_on_server(&format!("CREATE DATABASE {}", database.name)).await;
        Some(database)
    }

    pub(crate) fn url(&self) -> String {
        self.url_at(&self.server)
    }

    /// Its URL at another server's.
    pub(crate) fn url_at(&self, server: &str) -> String {
        let (address, parameters) = server.split_once('?').unwrap_or((server, ""));
        let (authority, _) = address.rsplit_once('/').unwrap();
        format!("{authority}/{}?{parameters}", self.name)
    }

    /// Options with a deadline that no busy machine misses, for tests that are about something else.
    pub(crate) fn options(&self) -> S::Options {
        patient::<S>(&self.url())
    }

    pub(crate) async fn open(&self) -> Arc<S::Store> {
        open::<S>(&self.options()).await
    }

    /// Another program that uses the database.
    pub(crate) async fn program(&self) -> Program<S> {
        Program(S::connect(&self.url()).await)
    }

    pub(crate) async fn run_on_server(&self, sql: &str) {
        S::run(&mut S::connect(&self.server).await, sql).await;
    }
}

impl<S: ServerUnderTest> Drop for Database<S> {
    fn drop(&mut self) {
        std::thread::scope(|scope| {
            let dropping = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(self.run_on_server(&S::drop_database(&self.name)));
            });
            // Its own panic would hide the test's.
            let _ = dropping.join();
        });
    }
}

/// Options with a deadline that no busy machine misses.
pub(crate) fn patient<S: ServerUnderTest>(url: &str) -> S::Options {
    S::deadline(S::options(url), seconds(60))
}

pub(crate) async fn open<S: ServerUnderTest>(options: &S::Options) -> Arc<S::Store> {
    Arc::new(S::open(options).await.unwrap())
}

/// Another program that uses the database.
pub(crate) struct Program<S: ServerUnderTest>(S::Connection);

impl<S: ServerUnderTest> Program<S> {
    pub(crate) fn connection(&mut self) -> &mut S::Connection {
        &mut self.0
    }

    pub(crate) async fn run(&mut self, sql: &str) {
        S::run(&mut self.0, sql).await;
    }

    pub(crate) async fn count(&mut self, sql: &str) -> i64 {
        S::count(&mut self.0, sql).await
    }

    /// How many rows a table of the store's has.
    pub(crate) async fn rows(&mut self, table: &str) -> i64 {
        self.count(&format!("SELECT count(*) FROM {}", S::table(table))).await
    }

    /// Locks all rows of a table of the store's, until [`Program::rollback`] or its own end.
    pub(crate) async fn lock(&mut self, table: &str) {
        self.run("BEGIN").await;
        self.run(&format!("SELECT 1 FROM {} FOR UPDATE", S::table(table))).await;
    }

    pub(crate) async fn rollback(&mut self) {
        self.run("ROLLBACK").await;
    }

    /// Waits until so many statements of others wait for a lock.
    pub(crate) async fn until_waiting(&mut self, what: &str, number: i64) {
        let is_so = async || {
            tokio::time::sleep(S::NOTICED).await;
            self.count(S::WAITING).await == number
        };
        until(what, is_so).await;
    }
}

/// Waits until something is so, for ten seconds at most.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), waiting).await.is_ok(), "{what}");
}

pub(crate) fn advance(from: u32) -> Advance {
    Advance {
        from: Generation::new(from),
        to: Generation::new(from + 1),
        guard: AdvanceCondition::Generation,
        now: NOW + seconds(60),
        idle_until: NOW + seconds(86_460),
        device: Device::default(),
    }
}

pub(crate) fn end() -> End {
    End { reason: EndReason::LoggedOut, at: NOW, until: NOW + seconds(900) }
}

pub(crate) fn raise(except: Option<u128>) -> EpochRaise {
    EpochRaise {
        except: except.map(session_id),
        reason: EndReason::AllEnded,
        at: NOW,
        until: NOW + seconds(900),
    }
}

pub(crate) fn entry(target: Target, at: Timestamp) -> Entry {
    Entry { target, until: at + seconds(900), at }
}

pub(crate) fn token_entry(user: u128, token: u128, at: Timestamp) -> Entry {
    entry(Target::Token { user_id: user_id(user), id: token_id(token) }, at)
}
