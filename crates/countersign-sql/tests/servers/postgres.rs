//! PostgreSQL, and what is its alone: notifications, and poolers in between.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::model::{Acknowledgement, Entry, Target};
use countersign_core::store::*;
use countersign_jwt::Generation;
use countersign_sql::OpenError;
use countersign_sql::postgres::{PostgresOptions, PostgresStore, migrate};
use countersign_testkit::server_url;
use sqlx::postgres::{PgConnectOptions, PgListener};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use crate::contract::Databases;
use crate::log::{following, is_told};
use crate::support::*;

tests_on!(Postgres);

/// A PostgreSQL server.
#[derive(Debug)]
struct Postgres;

/// The environment variable with the URL of PgBouncer before it, in transaction mode.
const POOLER: &str = "TEST_PGBOUNCER_URL";

impl ServerUnderTest for Postgres {
    type Options = PostgresOptions;
    type Store = PostgresStore;
    type Connection = PgConnection;

    const URL: &'static str = "TEST_POSTGRES_URL";
    const CHANGES: i64 = 5;
    const FIRST_VERSION: [&'static str; 2] = [
        concat!(
            "CREATE SCHEMA countersign;",
            include_str!("../../migrations/postgres/0001_initial.sql"),
            "CREATE TABLE countersign.migration (version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL,
                checksum BYTEA NOT NULL, applied_at TIMESTAMPTZ NOT NULL DEFAULT now());
            INSERT INTO countersign.migration (version, name, checksum)
                VALUES (1, 'initial', sha384('countersign'))"
        ),
        "UPDATE countersign.migration SET checksum = decode('4d7a5bf4ef83a001784f0019c06c708fe83086ec57a15e71264c6da1794cb294c2c0826d4c26d07db09e43127cead610', 'hex')",
    ];
    const NAME_KEY: &'static str = "key";
    const ZERO_BYTE: &'static str = "'\\x00'";
    const TIME: &'static str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    const WAITING: &'static str = "
        SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    const OTHERS: &'static str = "
        SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    const LEFT_OPEN: &'static str = "
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    /// What is prepared no longer fits when a column that it returns has another type.
    const OF_TOMORROW: [&'static str; 2] = [
        "ALTER TABLE countersign.session ADD COLUMN of_tomorrow TEXT, ALTER COLUMN user_agent TYPE VARCHAR(2000)",
        "ALTER TABLE countersign.session ADD COLUMN of_the_day_after TEXT, ALTER COLUMN ip TYPE VARCHAR(64)",
    ];

    fn options(url: &str) -> PostgresOptions {
        PostgresOptions::from_url(url).unwrap()
    }

    fn deadline(options: PostgresOptions, deadline: Duration) -> PostgresOptions {
        options.deadline(deadline)
    }

    fn connections(options: PostgresOptions, connections: u32) -> PostgresOptions {
        options.connections(connections)
    }

    fn run_migrations(options: PostgresOptions, run: bool) -> PostgresOptions {
        options.run_migrations(run)
    }

    fn deaf(options: PostgresOptions) -> PostgresOptions {
        options
    }

    async fn open(options: &PostgresOptions) -> Result<PostgresStore, OpenError> {
        PostgresStore::open(options).await
    }

    async fn migrate(options: &PostgresOptions) -> Result<(), OpenError> {
        migrate(options).await
    }

    async fn close(store: PostgresStore) {
        store.close().await;
    }

    async fn has_keys(store: &PostgresStore) -> Result<bool, StoreError> {
        store.has_keys().await
    }

    fn ways(database: &Database<Self>) -> Vec<String> {
        let pooler = server_url(POOLER).map(|pooler| database.url_at(&pooler));
        [Some(database.url()), pooler].into_iter().flatten().collect()
    }

    fn table(name: &str) -> String {
        format!("countersign.{name}")
    }

    fn drop_database(name: &str) -> String {
        format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    }

    async fn connect(url: &str) -> PgConnection {
        PgConnectOptions::from_str(url).unwrap().connect().await.unwrap()
    }

    async fn run(connection: &mut PgConnection, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
    }

    async fn count(connection: &mut PgConnection, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await.unwrap()
    }

    async fn kill_others(program: &mut Program<Self>) {
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        program.run(kill).await;
    }

    async fn cut_off(program: &mut Program<Self>) {
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND query LIKE 'LISTEN%'";
        program.run(kill).await;
    }

    async fn make_limited_user(
        program: &mut Program<Self>,
        _: &str,
        name: &str,
        password: &str,
    ) -> Vec<String> {
        program.run(&format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'")).await;
        program.run(&format!("GRANT USAGE ON SCHEMA countersign TO {name}")).await;
        let tables = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA countersign TO";
        program.run(&format!("{tables} {name}")).await;
        vec![format!("DROP OWNED BY {name}"), format!("DROP ROLE {name}")]
    }

    /// As in a deadlock, and as on a server with stricter isolation.
    async fn fail_inserts(program: &mut Program<Self>) {
        let fail = "CREATE SEQUENCE tries;
            CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                CASE nextval('tries')
                    WHEN 1, 3 THEN RAISE EXCEPTION 'could not serialize' USING ERRCODE = '40001';
                    WHEN 2 THEN RAISE EXCEPTION 'deadlock' USING ERRCODE = '40P01';
                    ELSE RETURN NEW;
                END CASE;
            END $$;
            CREATE TRIGGER fail BEFORE INSERT ON countersign.account FOR EACH ROW EXECUTE FUNCTION fail();
            CREATE TRIGGER fail BEFORE INSERT ON countersign.session FOR EACH ROW EXECUTE FUNCTION fail();";
        program.run(fail).await;
    }

    async fn fail_inserts_again(program: &mut Program<Self>) {
        program.run("ALTER SEQUENCE tries RESTART").await;
    }

    async fn fail_inserts_for_ever(program: &mut Program<Self>) {
        program.run("ALTER SEQUENCE tries RESTART MAXVALUE 3 CYCLE").await;
    }

    async fn refuse_accounts(program: &mut Program<Self>) {
        program.run("ALTER TABLE countersign.account ADD CHECK (email = 'ada@example.org')").await;
    }

    async fn hide_sessions_once(program: &mut Program<Self>) -> bool {
        program.run("ALTER TABLE countersign.session RENAME TO session_elsewhere").await;
        program.run("CREATE SEQUENCE countersign.reads").await;
        let view = "CREATE VIEW countersign.session AS
            SELECT * FROM countersign.session_elsewhere WHERE nextval('countersign.reads') > 1";
        program.run(view).await;
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_157_the_contract_is_kept_through_a_pooler_in_transaction_mode() {
    let Some(pooler) = server_url(POOLER) else { return };
    let Some(databases) = Databases::<Postgres>::new(Some(pooler)) else { return };
    countersign_testkit::contract::run(&databases, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_touches_many_sessions_takes_them_in_the_same_order() {
    let Some(database) = Database::<Postgres>::fresh().await else { return };
    let store = PostgresStore::open(&database.options()).await.unwrap();
    let store = Arc::new(store);
    let (mut blocker, mut watcher) = (database.program().await, database.program().await);
    // So many others that each row is looked up by its key, in the order in which it was asked for.
    blocker.run("INSERT INTO countersign.session (user_id, id, epoch, generation, issued_at, heals, healed_run, seed,
            created_at, last_seen_at, idle_until, absolute_until)
        SELECT 'other ' || number, 'x', 0, 0, 0, 0, 0, '', 0, 0, 0, 0 FROM generate_series(1, 50000) AS number;
        ANALYZE countersign.session",
    )
    .await;
    for user in 0..10 {
        for number in 0..10 {
            store.insert_session(&session(user, number)).await.unwrap();
        }
        // All are held up at the first session that they want, and set free together.
        blocker.run("BEGIN").await;
        blocker.run("SELECT 1 FROM countersign.session WHERE id <> 'x' FOR UPDATE").await;
        let mut work = JoinSet::new();
        for caller in 0..4 {
            let store = store.clone();
            let mut numbers: Vec<_> = (0..10).collect();
            if caller % 2 == 0 {
                numbers.reverse();
            }
            work.spawn(async move {
                let seen: Vec<_> = numbers
                    .into_iter()
                    .map(|number| Acknowledgement {
                        user_id: user_id(user),
                        session_id: session_id(number),
                        generation: Generation::FIRST,
                    })
                    .collect();
                store.acknowledge(&seen, NOW).await.unwrap();
            });
        }
        let ending = store.clone();
        work.spawn(async move {
            ending.raise_epoch(&user_id(user), &raise(None)).await.unwrap();
        });
        watcher.until_waiting("all wait", 5).await;
        blocker.rollback().await;
        work.join_all().await;
        assert_eq!(store.live_sessions(&user_id(user), NOW, SessionPage::first(1_000)).await.unwrap(), []);
    }
    // A connection that ends tells what it has counted.
    Arc::into_inner(store).unwrap().close().await;
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(database.program().await.count(deadlocks).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_wake_nobody() {
    let Some(database) = Database::<Postgres>::fresh().await else { return };
    let store = database.open().await;
    let mut listener = PgListener::connect(&database.url()).await.unwrap();
    listener.listen("countersign_revocation").await.unwrap();
    let node = Target::Node { id: Uuid::from_u128(1) };
    store.insert_entry(&Entry { target: node, until: NOW + seconds(60), at: NOW }).await.unwrap();
    let mut other = database.program().await;
    other.run("SELECT pg_notify('countersign_revocation', 'not a heartbeat')").await;
    let first = timeout(seconds(10), listener.recv()).await.unwrap().unwrap();
    assert_eq!(first.payload(), "not a heartbeat");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_only_a_listen_url_tells() {
    let Some(database) = Database::<Postgres>::fresh().await else { return };
    let Some(pooler) = server_url(POOLER).map(|pooler| database.url_at(&pooler)) else { return };
    let writer = open::<Postgres>(&patient::<Postgres>(&pooler)).await;
    assert!(writer.changes().is_none());
    let useless = patient::<Postgres>(&pooler).listen_url(&pooler).unwrap();
    assert!(PostgresStore::open(&useless).await.unwrap().changes().is_none());
    let options = patient::<Postgres>(&pooler).listen_url(&database.url()).unwrap();
    let (_reader, mut changes) = following::<Postgres>(&options).await;
    writer.insert_entry(&token_entry(1, 1, NOW)).await.unwrap();
    is_told(&mut changes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_loses_data_is_reported() {
    let Some(database) = Database::<Postgres>::fresh().await else { return };
    assert_eq!(database.open().await.weaknesses(), [] as [String; 0]);
    database.run_on_server(&format!("ALTER DATABASE {} SET synchronous_commit = off", database.name)).await;
    let store = database.open().await;
    let [weakness] = store.weaknesses() else { panic!("{:?}", store.weaknesses()) };
    assert!(weakness.starts_with("synchronous_commit is off: "), "{weakness}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_to_be_pooled_is_treated_so() {
    let Some(database) = Database::<Postgres>::fresh().await else { return };
    // Straight to the server, where both ways work.
    for url in [database.url(), format!("{}&statement-cache-capacity=0", database.url())] {
        let options = PostgresOptions::from_url(&url).unwrap().pooled(true);
        let store = PostgresStore::open(&options).await.unwrap();
        store.insert_session(&session(1, 1)).await.unwrap();
        assert!(store.session(&key(1, 1)).await.unwrap().is_some());
        assert!(store.changes().is_none(), "a pooler carries no notifications");
    }
}
