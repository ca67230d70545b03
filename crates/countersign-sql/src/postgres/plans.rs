//! How the server would run a statement on filled tables, for the tests beside the statements.

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, Row as _};

use super::{PostgresOptions, PostgresStore, Statement};

/// A database with 20 000 users, who have two sessions and one row in every other table each. It is deleted at the end.
pub(super) struct Filled {
    server: String,
    name: String,
    pub(super) connection: PgConnection,
}

const FILL: &str = "
    INSERT INTO countersign.session (user_id, id, epoch, generation, issued_at, heals, healed_run, seed, created_at,
        last_seen_at, idle_until, absolute_until)
    SELECT 'user ' || number % 20000, lpad(to_hex(number), 32, '0')::uuid, 1, 0, number, 0, 0, '', number, number, 9e15, 9e15
    FROM generate_series(1, 40000) AS number;
    INSERT INTO countersign.revocation (user_id, kind, ref, n, until, at)
    SELECT 'user ' || number % 20000, kind, CASE kind WHEN 'user' THEN '' ELSE kind || ' ' || number END,
        CASE kind WHEN 'user' THEN 1 ELSE 0 END, number, number
    FROM generate_series(1, 20000) AS number, unnest(array['session', 'token', 'user']) AS kind;
    INSERT INTO countersign.account (id, email, created_at)
    SELECT 'user ' || number, number || '@example.org', number FROM generate_series(1, 20000) AS number;
    INSERT INTO countersign.account_name (kind, key, user_id)
    SELECT 'email', number || '@example.org', 'user ' || number FROM generate_series(1, 20000) AS number;
    INSERT INTO countersign.throttle (key, failures, running, running_until, touched_at)
    SELECT 'user ' || number, 0, 0, 0, number FROM generate_series(1, 20000) AS number;
    INSERT INTO countersign.token_owner (user_id, until)
    SELECT 'user ' || number, number FROM generate_series(1, 20000) AS number;
    INSERT INTO countersign.one_time_secret (user_id, purpose, digests, bound_to, tries_left, created_at, expires_at)
    SELECT 'user ' || number, 'sign_in', sha256(number::text::bytea), '', 5, number, number
    FROM generate_series(1, 20000) AS number;
    INSERT INTO countersign.known_device (user_id, digest, until)
    SELECT 'user ' || number, sha256(number::text::bytea), number FROM generate_series(1, 20000) AS number;
    INSERT INTO countersign.audit (id, at, name, user_id)
    SELECT lpad(to_hex(number), 32, '0')::uuid, number, 'event ' || number % 2000, 'user ' || number
    FROM generate_series(1, 20000) AS number;
    INSERT INTO countersign.outbox (id, recipient, kind, sealed, created_at, attempts, next_at, dead_since)
    SELECT lpad(to_hex(number), 32, '0')::uuid, number || '@example.org', '', '', number, 0,
        CASE number % 2 WHEN 0 THEN number END, CASE number % 2 WHEN 1 THEN number END
    FROM generate_series(1, 20000) AS number;
    ANALYZE";

impl Filled {
    /// `None` if the test is to be left out.
    pub(super) async fn open() -> Option<Self> {
        let server = match env::var("TEST_POSTGRES_URL") {
            Ok(url) if url == "none" => return None,
            Ok(url) => url,
            Err(_) => panic!(
                "run ./test, or set TEST_POSTGRES_URL to a server's URL, or to none to leave these tests out"
            ),
        };
        let name = format!("countersign_plans_{:016x}", RandomState::new().hash_one(0));
        let options = PgConnectOptions::from_str(&server).unwrap();
        run(&options, format!("CREATE DATABASE {name}")).await;
        let options = options.database(&name);
        let url = options.to_url_lossy().to_string();
        PostgresStore::open(&PostgresOptions::from_url(&url).unwrap()).await.unwrap().close().await;
        run(&options, FILL.to_owned()).await;
        let connection = options.connect().await.unwrap();
        Some(Self { server, name, connection })
    }

    /// Checks that the statement finds everything that it reads in an index, and uses this one.
    pub(super) async fn uses<Y>(&mut self, statement: Statement<Y>, index: &str) {
        let explained = statement.after("EXPLAIN").fetch_all(&mut self.connection).await.unwrap();
        let plan: Vec<String> = explained.iter().map(|line| line.get(0)).collect();
        let plan = plan.join("\n");
        assert!(!plan.contains("Seq Scan") && plan.contains(index), "{}: {plan}", statement.sql());
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        let options = PgConnectOptions::from_str(&self.server).unwrap();
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        std::thread::scope(|scope| {
            let dropping = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(run(&options, sql));
            });
            // A panic here would hide the test's own panic.
            let _ = dropping.join();
        });
    }
}

async fn run(options: &PgConnectOptions, sql: String) {
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}
