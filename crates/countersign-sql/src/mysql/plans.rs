//! How the server runs the statements on tables that are filled.

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, MySqlConnection, Row};

use super::engine::Statement;
use super::{MySqlOptions, migrate, revocations, sessions, throttles, users, watch};

/// A database with 4 000 users, who have two sessions, an entry of each kind, an account and a counter each; deleted
/// at the end.
struct Filled {
    server: String,
    name: String,
    connection: MySqlConnection,
}

const USERS: usize = 4_000;

impl Filled {
    /// `None` to leave the test out.
    async fn open() -> Option<Self> {
        let server = match env::var("TEST_MYSQL_URL") {
            Ok(url) if url == "none" => return None,
            Ok(url) => url,
            Err(_) => {
                panic!(
                    "run ./test, or set TEST_MYSQL_URL to a server's URL, or to none to leave these tests out"
                )
            }
        };
        let name = format!("countersign_plans_{:016x}", RandomState::new().hash_one(0));
        let options = MySqlConnectOptions::from_str(&server).unwrap();
        run(&options, format!("CREATE DATABASE {name}")).await;
        let options = options.database(&name);
        let connection = options.connect().await.unwrap();
        let mut filled = Self { server, name, connection };
        migrate(&MySqlOptions::from_url(options.to_url_lossy().as_str().split('?').next().unwrap()).unwrap())
            .await
            .unwrap();
        filled.fill().await;
        Some(filled)
    }

    async fn fill(&mut self) {
        for table in ["session", "revocation", "account", "account_name", "throttle", "token_owner"] {
            let rows: Vec<String> = (0..USERS).map(|user| rows(table, user)).collect();
            for rows in rows.chunks(1_000) {
                self.run(format!("INSERT INTO countersign_{table} VALUES {}", rows.join(", "))).await;
            }
            self.run(format!("ANALYZE TABLE countersign_{table}")).await;
        }
    }

    async fn run(&mut self, sql: String) {
        self.connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
    }

    /// For each table that the statement reads: `table: type of access, index`, and `sorted` where rows are sorted.
    async fn plan(&mut self, statement: &Statement) -> Vec<String> {
        let steps = statement.explained().fetch_all(&mut self.connection).await.unwrap();
        let column = |step: &sqlx::mysql::MySqlRow, name| {
            step.try_get_unchecked::<Option<String>, _>(name).unwrap().unwrap_or_default()
        };
        let steps = steps.iter().map(|step| {
            let (table, access, key) = (column(step, "table"), column(step, "type"), column(step, "key"));
            let sorted = if column(step, "Extra").contains("filesort") { ", sorted" } else { "" };
            format!("{table}: {access}, {key}{sorted}")
        });
        steps.collect()
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        let options = MySqlConnectOptions::from_str(&self.server).unwrap();
        let sql = format!("DROP DATABASE IF EXISTS {}", self.name);
        std::thread::scope(|scope| {
            let dropping = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(run(&options, sql));
            });
            // Its own panic would hide the test's.
            let _ = dropping.join();
        });
    }
}

async fn run(options: &MySqlConnectOptions, sql: String) {
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}

/// A user's rows of a table.
fn rows(table: &str, user: usize) -> String {
    match table {
        "session" => ["one", "two"]
            .map(|id| {
                let expiry = format!("{user}, {user}, NULL, NULL, NULL, NULL, NULL");
                format!("('user {user}', '{id} {user}', 1, 0, 0, NULL, 0, 0, '', 0, 0, {expiry})")
            })
            .join(", "),
        "revocation" => ["'session', 'one', 0", "'token', 'one', 0", "'user', '', 1"]
            .map(|key| format!("('user {user}', {key}, NULL, {user}, {user})"))
            .join(", "),
        "account" => format!("('user {user}', '{user}', NULL, NULL, 0, NULL)"),
        "account_name" => format!("('email', '{user}', 'user {user}')"),
        "throttle" => format!("('user {user}', 0, NULL, 0, 0, {user})"),
        _ => format!("('user {user}', {user})"),
    }
}

/// The statement with a parameter for each letter: `u` a user, `s` a session, `k` a kind, `t` a text, `l` a limit, `-`
/// null, else a number.
fn with(statement: Statement, parameters: &str) -> Statement {
    parameters.chars().fold(statement, |statement, parameter| match parameter {
        'u' => statement.text("user 77"),
        's' => statement.text("one 77"),
        'k' => statement.text("session"),
        't' => statement.text("77"),
        'l' => statement.number(10),
        'e' => statement.text("email"),
        '0' => statement.number(0),
        '-' => statement.number(None),
        _ => statement.number(100),
    })
}

#[tokio::test]
async fn no_statement_reads_more_than_it_needs() {
    let Some(mut filled) = Filled::open().await else { return };
    const SESSION: &str = "session: range, PRIMARY";
    const LOG: &str = "entry: ref, PRIMARY";
    const LOG_RANGE: &str = "entry: range, PRIMARY";
    let mut wrong = Vec::new();
    for (sql, parameters, expected) in [
        (sessions::FIND, "us", &["session: const, PRIMARY", LOG, LOG][..]),
        (sessions::READ, "us", &["session: const, PRIMARY"]),
        (sessions::ADVANCE, "nnnntttusnnn--llnnl", &[SESSION, LOG, LOG]),
        (sessions::HEAL, "nnnusnnnnn", &[SESSION, LOG, LOG]),
        (sessions::MARK_ENDED, "ntus", &["countersign_session: range, PRIMARY"]),
        (sessions::IS_ENDED, "us", &["countersign_session: const, PRIMARY"]),
        (sessions::WITHDRAW, "us", &["countersign_session: range, PRIMARY"]),
        (sessions::LIVE, "unntnnl0", &["session: range, live", LOG, "entry: index_subquery, PRIMARY"]),
        (sessions::PURGE, "nl", &["countersign_session: range, absolute_until"]),
        // Looked up while it is planned.
        (revocations::EPOCH, "u", &[": , "]),
        (revocations::RAISED_AT, "u", &["countersign_revocation: ref, PRIMARY"]),
        (revocations::RAISED, "u", &["countersign_revocation: ref, PRIMARY"]),
        (revocations::UNMARKED, "unsl", &["countersign_session: ref, live"]),
        (
            revocations::FORGET_OUTDONE,
            "unnsuns",
            &["countersign_revocation: range, PRIMARY", "<derived3>: ALL, ", "other: range, PRIMARY"],
        ),
        (revocations::LIVE_TOKENS, "un", &["countersign_revocation: ref, PRIMARY"]),
        (revocations::ALL, "uukukkukknl", &[LOG_RANGE]),
        (revocations::TAIL, "nuukukkukknl", &["entry: range, at, sorted"]),
        (revocations::PURGE[1], "nl", &["countersign_revocation: range, kind_until"]),
        (
            revocations::PURGE_SESSIONS,
            "nl",
            &["countersign_revocation: range, kind_until", "session: eq_ref, PRIMARY"],
        ),
        (revocations::STEP, "n00uunl", &["entry: range, kind_until"]),
        (revocations::PURGE_QUEUE, "nl", &["countersign_token_owner: range, until"]),
        (throttles::FIND, "u", &["countersign_throttle: const, PRIMARY"]),
        (throttles::REPLACE, "nnnnnunnnn", &["countersign_throttle: range, PRIMARY"]),
        (throttles::DELETE, "unnnn", &["countersign_throttle: range, PRIMARY"]),
        (throttles::COUNT, "su", &["countersign_throttle: range, PRIMARY"]),
        (throttles::PURGE, "nl", &["countersign_throttle: range, touched_at"]),
        (users::FIND, "u", &["account: const, PRIMARY"]),
        (users::FIND_BY_NAME, "et", &["claim: const, PRIMARY", "account: const, PRIMARY"]),
        (users::REPLACE_HASH, "tut", &["countersign_account: range, PRIMARY"]),
        (watch::LOOK, "nn", &["countersign_revocation: range, at"]),
    ] {
        let found = filled.plan(&with(Statement::new(sql), parameters)).await;
        if found != expected {
            wrong.push(format!("{sql}\n{found:#?}"));
        }
    }
    let acknowledge = Statement::repeating(sessions::ACKNOWLEDGE, " OR ", 128);
    let found = filled.plan(&with(acknowledge, &format!("nn{}", "usn".repeat(128)))).await;
    assert_eq!(found, ["countersign_session: range, PRIMARY"]);
    let found = filled.plan(&with(Statement::new(revocations::PURGE_OUTDONE), "n00uunlln")).await;
    let expected = [
        "<derived2>: ALL, ",
        "gone: eq_ref, PRIMARY",
        "<derived3>: ALL, ",
        "higher: ref, PRIMARY",
        "entry: range, kind_until",
    ];
    assert_eq!(found, expected);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
