//! Tests of how the server runs the statements on filled tables.

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::time::Duration;

use countersign_core::model::{
    Acknowledgement, Advance, AdvanceCondition, Attempts, AuditPosition, Device, EmailAddress, EndReason,
    Entry, Heal, KnownDevice, OneTimeSecret, OutboxMail, OutboxState, PasswordHash, Purpose, SecretDigest,
    Target, User, UserSession,
};
use countersign_core::store::{
    AuditPage, DeadLetterPosition, End, EpochRaise, MailFailure, NameKey, SessionPage, UserPage, UserPosition,
};
use countersign_jwt::{Epoch, Generation, SessionId, Timestamp, TokenId, UserId};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, MySqlConnection, Row};
use uuid::Uuid;

use super::{
    MySqlOptions, Statement, admin_keys, audit, devices, migrate, one_time, outbox, revocations, sessions,
    throttles, users, watch,
};
use crate::names;

/// A database with 4 000 users, who have two sessions, an entry of each kind and one row in every other table each. It
/// is deleted at the end.
struct Filled {
    server: String,
    name: String,
    connection: MySqlConnection,
    /// Statements whose plans differ from the expected ones.
    wrong: Vec<String>,
}

const USERS: usize = 4_000;

impl Filled {
    /// `None` if the test is to be left out.
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
        let mut filled = Self { server, name, connection, wrong: Vec::new() };
        migrate(&MySqlOptions::from_url(options.to_url_lossy().as_str().split('?').next().unwrap()).unwrap())
            .await
            .unwrap();
        filled.fill().await;
        Some(filled)
    }

    async fn fill(&mut self) {
        for table in [
            "session",
            "revocation",
            "account",
            "account_name",
            "throttle",
            "token_owner",
            "one_time_secret",
            "known_device",
            "admin_key",
            "audit",
            "outbox",
        ] {
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

    /// Expects for each table that the statement reads: `table: type of access, index`, and `sorted` where rows are
    /// sorted.
    async fn expect<Y>(&mut self, statement: Statement<Y>, expected: &[&str]) {
        let steps = statement.after("EXPLAIN").fetch_all(&mut self.connection).await.unwrap();
        let column = |step: &sqlx::mysql::MySqlRow, name| {
            step.try_get_unchecked::<Option<String>, _>(name).unwrap().unwrap_or_default()
        };
        let steps = steps.iter().map(|step| {
            let (table, access, key) = (column(step, "table"), column(step, "type"), column(step, "key"));
            let sorted = if column(step, "Extra").contains("filesort") { ", sorted" } else { "" };
            format!("{table}: {access}, {key}{sorted}")
        });
        let found: Vec<_> = steps.collect();
        if found != expected {
            self.wrong.push(format!("{}\n{found:#?}", statement.sql()));
        }
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
            // A panic here would hide the test's own panic.
            let _ = dropping.join();
        });
    }
}

async fn run(options: &MySqlConnectOptions, sql: String) {
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}

fn id(number: usize) -> Uuid {
    Uuid::from_u128(u128::try_from(number).unwrap())
}

/// The rows of one user in a table.
fn rows(table: &str, user: usize) -> String {
    match table {
        "session" => [user, USERS + user]
            .map(|number| {
                let id = id(number);
                let expiry = format!("{user}, {user}, NULL, NULL, NULL, NULL, NULL");
                format!("('user {user}', '{id}', 1, 0, 0, NULL, 0, 0, '', 0, 0, {expiry})")
            })
            .join(", "),
        "revocation" => ["'session', 'one', 0", "'token', 'one', 0", "'user', '', 1"]
            .map(|key| format!("('user {user}', {key}, NULL, {user}, {user})"))
            .join(", "),
        "account" => {
            format!("('user {user}', '{user}', NULL, NULL, {user}, NULL, NULL, '', NULL, {user}, 0)")
        }
        "account_name" => format!("('email', '{user}', 'user {user}')"),
        "throttle" => format!("('user {user}', 0, NULL, 0, 0, {user})"),
        "one_time_secret" => format!("('user {user}', 'sign_in', '', '', 5, {user}, {user})"),
        "known_device" => format!("('user {user}', UNHEX(SHA2('{user}', 256)), {user})"),
        "admin_key" => format!("('{}', '', '', '', {user}, NULL)", id(user)),
        "audit" => {
            format!("('{}', {user}, 'event {}', 'user {user}', NULL, NULL, NULL, NULL)", id(user), user % 10)
        }
        "outbox" => {
            let state =
                if user.is_multiple_of(2) { format!("{user}, NULL") } else { format!("NULL, {user}") };
            format!("('{}', '{user}', '', NULL, '', {user}, NULL, 0, {state}, NULL)", id(user))
        }
        _ => format!("('user {user}', {user})"),
    }
}

#[tokio::test]
async fn no_statement_reads_more_than_it_needs() {
    let Some(mut filled) = Filled::open().await else { return };
    const SESSION: &str = "session: range, PRIMARY";
    const LOG: &str = "entry: ref, PRIMARY";
    const LOG_RANGE: &str = "entry: range, PRIMARY";
    let ada = &UserId::new("user 77").unwrap();
    let id = SessionId::new(Uuid::from_u128(77));
    let key = &UserSession { user_id: ada.clone(), id };
    let at = Timestamp::from_millis(100);
    let first = Generation::FIRST;
    let step = &Advance {
        from: first,
        to: first.next(),
        guard: AdvanceCondition::OutsideReserve {
            leeway: Duration::from_millis(10),
            grace: Duration::from_millis(10),
        },
        now: at,
        idle_until: at,
        device: Device::default(),
    };
    let healing = &Heal { generation: first, issued_at: at, heals: 100, now: at, idle_until: at };
    let end = &End { reason: EndReason::LoggedOut, at, until: at };
    let how = &EpochRaise { except: Some(id), reason: EndReason::AllEnded, at, until: at };
    let page = SessionPage::first(10);
    filled.expect(sessions::find(key), &["session: const, PRIMARY", LOG, LOG]).await;
    filled.expect(sessions::read(key), &["session: const, PRIMARY"]).await;
    filled.expect(sessions::advance(key, step), &[SESSION, LOG, LOG]).await;
    filled.expect(sessions::heal(key, healing), &[SESSION, LOG, LOG]).await;
    filled.expect(sessions::mark_ended(key, end), &["countersign_session: range, PRIMARY"]).await;
    filled.expect(sessions::is_ended(key), &["countersign_session: const, PRIMARY"]).await;
    filled.expect(sessions::withdraw(key), &["countersign_session: range, PRIMARY"]).await;
    let expected = &["session: range, live", LOG, "entry: index_subquery, PRIMARY"];
    filled.expect(sessions::live(ada, at, page), expected).await;
    filled.expect(sessions::purge(at, 10), &["countersign_session: range, absolute_until"]).await;
    let seen = Acknowledgement { user_id: ada.clone(), session_id: id, generation: first };
    let seen = vec![seen; 128];
    filled.expect(sessions::acknowledge(&seen, at), &["countersign_session: range, PRIMARY"]).await;

    // The server looks the row up while it plans the statement.
    filled.expect(revocations::epoch(ada), &[": , "]).await;
    filled.expect(revocations::raised_at(ada), &["countersign_revocation: ref, PRIMARY"]).await;
    filled.expect(revocations::raised(ada), &["countersign_revocation: ref, PRIMARY"]).await;
    let epoch = Epoch::new(100);
    filled.expect(revocations::unmarked(ada, how, epoch), &["countersign_session: ref, live"]).await;
    let expected = &["countersign_revocation: range, PRIMARY", "<derived3>: ALL, ", "other: range, PRIMARY"];
    filled.expect(revocations::forget_outdone(ada, how, epoch), expected).await;
    filled.expect(revocations::live_tokens(ada, at), &["countersign_revocation: ref, PRIMARY"]).await;
    let target = Target::Token { user_id: ada.clone(), id: TokenId::new(Uuid::from_u128(77)) };
    let after = Some(&Entry { target, until: at, at });
    filled.expect(revocations::all(after, 10), &[LOG_RANGE]).await;
    filled.expect(revocations::tail(at, after, 10), &["entry: range, at, sorted"]).await;
    for kind in revocations::PURGED_KINDS {
        let expected = &["countersign_revocation: range, kind_until"];
        filled.expect(revocations::purge(kind, at, 10), expected).await;
    }
    let expected = &["countersign_revocation: range, kind_until", "session: eq_ref, PRIMARY"];
    filled.expect(revocations::purge_sessions(at, 10), expected).await;
    let last = (0, "user 77".to_owned(), 100);
    filled.expect(revocations::step(at, &last), &["entry: range, kind_until"]).await;
    let expected = &[
        "<derived2>: ALL, ",
        "gone: eq_ref, PRIMARY",
        "<derived3>: ALL, ",
        "higher: ref, PRIMARY",
        "entry: range, kind_until",
    ];
    filled.expect(revocations::purge_outdone(at, &last, 10), expected).await;
    filled.expect(revocations::purge_queue(at, 10), &["countersign_token_owner: range, until"]).await;

    let counter = &Attempts::default();
    filled.expect(throttles::find("user 77"), &["countersign_throttle: const, PRIMARY"]).await;
    let replace = throttles::replace("user 77", counter, counter, at);
    filled.expect(replace, &["countersign_throttle: range, PRIMARY"]).await;
    let delete = throttles::delete("user 77", counter);
    filled.expect(delete, &["countersign_throttle: range, PRIMARY"]).await;
    let count = throttles::count(&("one 77".."user 77"));
    filled.expect(count, &["countersign_throttle: range, PRIMARY"]).await;
    filled.expect(throttles::purge(at, 10), &["countersign_throttle: range, touched_at"]).await;

    let user = &User { email: EmailAddress::parse("77@example.org").ok(), ..User::new(ada.clone(), at) };
    let name = names::of(user).next().unwrap();
    let by_key = &["countersign_account: range, PRIMARY"];
    filled.expect(users::find(ada), &["account: const, PRIMARY"]).await;
    filled.expect(users::find_locked(ada), &["account: const, PRIMARY"]).await;
    let expected = &["claim: const, PRIMARY", "account: const, PRIMARY"];
    filled.expect(users::find_by_name(NameKey::Email("77")), expected).await;
    filled.expect(users::free(name, ada), &["countersign_account_name: range, PRIMARY"]).await;
    filled.expect(users::replace(user, user), by_key).await;
    filled.expect(users::delete(ada), by_key).await;
    let hash = PasswordHash::from_stored("77".to_owned());
    filled.expect(users::replace_hash(ada, Some(&hash), &hash), by_key).await;
    filled.expect(users::set_disabled(ada, Some(at)), by_key).await;
    for after in [None, Some(UserPosition::from(user))] {
        let page = &UserPage { query: None, after, limit: 10 };
        filled.expect(users::list(page), &["account: range, created_at"]).await;
    }
    filled.expect(users::to_delete(at, 10), &["account: range, deleted_at"]).await;

    let purpose = Purpose::SignIn;
    let secret = &OneTimeSecret {
        user_id: ada.clone(),
        purpose,
        digests: Vec::new(),
        bound_to: String::new(),
        tries_left: 5,
        created_at: at,
        expires_at: at,
    };
    let by_key = &["countersign_one_time_secret: range, PRIMARY"];
    filled.expect(one_time::find(ada, purpose), &["secret: const, PRIMARY"]).await;
    filled.expect(one_time::find_locked(ada, purpose), &["secret: const, PRIMARY"]).await;
    filled.expect(one_time::note_tries(secret), by_key).await;
    filled.expect(one_time::delete(ada, purpose), by_key).await;
    filled.expect(one_time::delete_all(ada), by_key).await;
    filled.expect(one_time::purge(at, 10), &["countersign_one_time_secret: range, expires_at"]).await;

    let device = &KnownDevice { user_id: ada.clone(), digest: SecretDigest::of("77"), until: at };
    let by_key = &["countersign_known_device: range, PRIMARY"];
    filled.expect(devices::renew(device), by_key).await;
    filled.expect(devices::count(ada), &["countersign_known_device: ref, PRIMARY"]).await;
    let expected =
        &["<derived2>: ALL, ", "device: eq_ref, PRIMARY", "countersign_known_device: ref, PRIMARY, sorted"];
    filled.expect(devices::trim(device), expected).await;
    filled.expect(devices::forget(ada), by_key).await;
    filled.expect(devices::purge(at, 10), &["countersign_known_device: range, until"]).await;

    let id = Uuid::from_u128(77);
    filled.expect(admin_keys::find(id), &["admin_key: const, PRIMARY"]).await;
    filled.expect(admin_keys::delete(id), &["countersign_admin_key: range, PRIMARY"]).await;

    for after in [None, Some(AuditPosition { at, id })] {
        let page = |user_id, name| AuditPage { user_id, name, after, limit: 10 };
        filled.expect(audit::list(&page(None, None)), &["record: range, PRIMARY"]).await;
        filled.expect(audit::list(&page(Some(ada), None)), &["record: range, of_user"]).await;
        filled.expect(audit::list(&page(None, Some("event 7"))), &["record: range, of_name"]).await;
        filled.expect(audit::list(&page(Some(ada), Some("event 7"))), &["record: range, of_user"]).await;
    }
    filled.expect(audit::purge(at, 10), &["countersign_audit: range, PRIMARY"]).await;

    let then = OutboxState::Dead { since: at };
    let failure = &MailFailure { id, attempts: 1, then, error: String::new() };
    let by_key = &["countersign_outbox: range, PRIMARY"];
    filled.expect(outbox::due(at, 10), &["mail: range, next_at"]).await;
    let mails = vec![mail(id); 3];
    filled.expect(outbox::claim(&mails, at), by_key).await;
    filled.expect(outbox::delete(id), by_key).await;
    filled.expect(outbox::fail(failure), by_key).await;
    for after in [None, Some(DeadLetterPosition { since: at, id })] {
        filled.expect(outbox::dead(after, 10), &["mail: range, dead_since"]).await;
    }
    filled.expect(outbox::retry(id, at), by_key).await;
    filled.expect(outbox::purge(at, 10), &["countersign_outbox: range, dead_since"]).await;
    filled.expect(watch::look(100), &["countersign_revocation: range, at"]).await;
    assert!(filled.wrong.is_empty(), "{}", filled.wrong.join("\n"));
}

fn mail(id: Uuid) -> OutboxMail {
    let at = Timestamp::from_millis(100);
    OutboxMail {
        id,
        to: EmailAddress::parse("77@example.org").unwrap(),
        kind: String::new(),
        user_id: None,
        sealed: Vec::new(),
        created_at: at,
        useless_after: None,
        attempts: 0,
        state: OutboxState::Waiting { next_at: at },
        last_error: None,
    }
}
