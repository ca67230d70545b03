//! MySQL and MariaDB, and what is theirs alone.

use std::str::FromStr;
use std::time::Duration;

use countersign_core::model::{Heal, Target, ThrottlePolicy};
use countersign_core::store::*;
use countersign_jwt::{Epoch, Generation};
use countersign_sql::OpenError;
use countersign_sql::mysql::{MySqlOptions, MySqlStore, migrate};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, MySqlConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use crate::log::{following, is_told, now};
use crate::opening::refused;
use crate::support::*;

tests_on!(MySql);

/// A MariaDB or MySQL server.
#[derive(Debug)]
struct MySql;

impl ServerUnderTest for MySql {
    type Options = MySqlOptions;
    type Store = MySqlStore;
    type Connection = MySqlConnection;

    const URL: &'static str = "TEST_MYSQL_URL";
    const CHANGES: i64 = 4;
    const FIRST_VERSION: [&'static str; 2] = [
        concat!(
            include_str!("../../migrations/mysql/0001_initial.sql"),
            "CREATE TABLE countersign_migration (version BIGINT NOT NULL PRIMARY KEY, name VARBINARY(255) NOT NULL,
                checksum VARBINARY(64) NOT NULL, applied_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)
                ENGINE = InnoDB;
            INSERT INTO countersign_migration (version, name, checksum) VALUES (1, 'initial', 'countersign')"
        ),
        "UPDATE countersign_migration SET checksum = X'4741a241295fe56a64acf2942f2e062d3b77c690ed3c252a7619ffb7d4a7001518485f46d59d43c3d81740cec8e3f068'",
    ];
    const NAME_KEY: &'static str = "name";
    const ZERO_BYTE: &'static str = "X'00'";
    const TIME: &'static str = "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)";
    const WAITING: &'static str = "
        SELECT COUNT(*) FROM information_schema.INNODB_TRX JOIN information_schema.PROCESSLIST
            ON PROCESSLIST.ID = trx_mysql_thread_id
        WHERE DB = DATABASE() AND trx_state = 'LOCK WAIT'";
    /// The server looks only if nobody has asked for a tenth of a second.
    const NOTICED: Duration = Duration::from_millis(110);
    const OTHERS: &'static str = "
        SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND ID <> CONNECTION_ID()";
    const LEFT_OPEN: &'static str = "
        SELECT COUNT(*) FROM information_schema.INNODB_TRX JOIN information_schema.PROCESSLIST
            ON PROCESSLIST.ID = trx_mysql_thread_id
        WHERE DB = DATABASE() AND COMMAND = 'Sleep'";
    const OF_TOMORROW: [&'static str; 2] = [
        "ALTER TABLE countersign_session ADD COLUMN of_tomorrow TEXT FIRST",
        "ALTER TABLE countersign_session ADD COLUMN of_the_day_after TEXT FIRST",
    ];

    fn options(url: &str) -> MySqlOptions {
        MySqlOptions::from_url(url).unwrap()
    }

    fn deadline(options: MySqlOptions, deadline: Duration) -> MySqlOptions {
        options.deadline(deadline)
    }

    fn connections(options: MySqlOptions, connections: u32) -> MySqlOptions {
        options.connections(connections)
    }

    fn run_migrations(options: MySqlOptions, run: bool) -> MySqlOptions {
        options.run_migrations(run)
    }

    fn deaf(options: MySqlOptions) -> MySqlOptions {
        options.watch(false)
    }

    async fn open(options: &MySqlOptions) -> Result<MySqlStore, OpenError> {
        MySqlStore::open(options).await
    }

    async fn migrate(options: &MySqlOptions) -> Result<(), OpenError> {
        migrate(options).await
    }

    async fn close(store: MySqlStore) {
        store.close().await;
    }

    async fn has_keys(store: &MySqlStore) -> Result<bool, StoreError> {
        store.has_keys().await
    }

    fn table(name: &str) -> String {
        format!("countersign_{name}")
    }

    fn drop_database(name: &str) -> String {
        format!("DROP DATABASE IF EXISTS {name}")
    }

    /// It locks rows and nothing between them.
    async fn connect(url: &str) -> MySqlConnection {
        let mut connection = MySqlConnectOptions::from_str(url).unwrap().connect().await.unwrap();
        Self::run(&mut connection, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await;
        connection
    }

    async fn run(connection: &mut MySqlConnection, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
    }

    async fn count(connection: &mut MySqlConnection, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await.unwrap()
    }

    async fn kill_others(program: &mut Program<Self>) {
        const OTHERS: &str = "
            SELECT CAST(ID AS SIGNED) FROM information_schema.PROCESSLIST
            WHERE DB = DATABASE() AND ID <> CONNECTION_ID()";
        let connection = program.connection();
        let others: Vec<i64> = sqlx::query_scalar(OTHERS).fetch_all(&mut *connection).await.unwrap();
        for id in others {
            // It may have gone by itself.
            let _ = sqlx::raw_sql(AssertSqlSafe(format!("KILL {id}"))).execute(&mut *connection).await;
        }
    }

    async fn cut_off(program: &mut Program<Self>) {
        Self::kill_others(program).await;
    }

    async fn make_limited_user(
        program: &mut Program<Self>,
        database: &str,
        name: &str,
        password: &str,
    ) -> Vec<String> {
        // A server may have a user without a name, who takes precedence at localhost over those from anywhere.
        let users = [format!("{name}@'%'"), format!("{name}@localhost")];
        for user in &users {
            program.run(&format!("CREATE USER {user} IDENTIFIED BY '{password}'")).await;
            program.run(&format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.* TO {user}")).await;
        }
        vec![format!("DROP USER {}", users.join(", "))]
    }

    /// As in a deadlock, after waiting for long, and as in a cluster.
    async fn fail_inserts(program: &mut Program<Self>) {
        program.run("CREATE TABLE tries (n INT) ENGINE = MyISAM").await;
        program.run("INSERT INTO tries VALUES (0)").await;
        let fail = "BEGIN
                UPDATE tries SET n = n + 1;
                CASE (SELECT n FROM tries)
                    WHEN 1 THEN SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213;
                    WHEN 2 THEN SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1205;
                    WHEN 3 THEN SIGNAL SQLSTATE '40000' SET MYSQL_ERRNO = 3101;
                    ELSE BEGIN END;
                END CASE;
            END";
        for table in ["account", "session"] {
            let trigger =
                format!("CREATE TRIGGER fail_{table} BEFORE INSERT ON countersign_{table} FOR EACH ROW");
            program.run(&format!("{trigger} {fail}")).await;
        }
    }

    async fn fail_inserts_again(program: &mut Program<Self>) {
        program.run("UPDATE tries SET n = 0").await;
    }

    async fn fail_inserts_for_ever(program: &mut Program<Self>) {
        program.run("DROP TRIGGER fail_session").await;
        let always = "CREATE TRIGGER fail_session BEFORE INSERT ON countersign_session FOR EACH ROW
            SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213";
        program.run(always).await;
    }

    async fn refuse_accounts(program: &mut Program<Self>) {
        let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON countersign_account FOR EACH ROW BEGIN
            IF NEW.email <> 'ada@example.org' THEN
                SET @refused = CONCAT('refused: ', NEW.email, ' ', NEW.password_hash);
                SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = @refused;
            END IF;
        END";
        program.run(refuse).await;
    }

    /// It takes a sequence, which MySQL does not have.
    async fn hide_sessions_once(program: &mut Program<Self>) -> bool {
        if program.count("SELECT VERSION() LIKE '%MariaDB%'").await == 0 {
            return false;
        }
        program.run("RENAME TABLE countersign_session TO countersign_session_elsewhere").await;
        program.run("CREATE SEQUENCE lag").await;
        let view = "CREATE VIEW countersign_session AS
            SELECT * FROM countersign_session_elsewhere WHERE NEXTVAL(lag) > 1";
        program.run(view).await;
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_waits_sees_an_entry_that_comes_meanwhile_without_a_mark() {
    let Some(database) = Database::<MySql>::fresh().await else { return };
    let store = database.open().await;
    let (mut blocker, mut watcher) = (database.program().await, database.program().await);
    for number in 0..4 {
        store.insert_session(&session(1, number)).await.unwrap();
        blocker.lock("session").await;
        let step = {
            let store = store.clone();
            tokio::spawn(async move {
                if number % 2 == 0 {
                    store.advance(&key(1, number), &advance(0)).await.unwrap().is_some()
                } else {
                    let heal = Heal {
                        generation: Generation::FIRST,
                        issued_at: NOW,
                        heals: 0,
                        now: NOW + seconds(60),
                        idle_until: NOW + seconds(90),
                    };
                    store.heal(&key(1, number), &heal).await.unwrap()
                }
            })
        };
        watcher.until_waiting("the step waits", 1).await;
        let user_id = user_id(1);
        let target = if number < 2 {
            Target::Session { user_id, id: session_id(number) }
        } else {
            Target::User { user_id, epoch: Epoch::new(u64::try_from(number).unwrap()), except: None }
        };
        store.insert_entry(&entry(target, NOW)).await.unwrap();
        blocker.rollback().await;
        assert!(!step.await.unwrap(), "{number}: the entry was there before the row was the step's");
        // The next one's login needs the epoch as it was.
        watcher.run("DELETE FROM countersign_revocation WHERE kind = 'user'").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_committed_after_the_raise_has_looked_is_marked_all_the_same() {
    let Some(database) = Database::<MySql>::fresh().await else { return };
    let store = database.open().await;
    store.insert_session(&session(1, 1)).await.unwrap();
    let (mut blocker, mut watcher) = (database.program().await, database.program().await);
    blocker.lock("session").await;
    let raising = {
        let store = store.clone();
        tokio::spawn(async move { store.raise_epoch(&user_id(1), &raise(None)).await.unwrap() })
    };
    watcher.until_waiting("the raise waits at the first row", 1).await;
    // Before that row in the order of keys: the raise has passed it already.
    assert_eq!(store.insert_session(&session(1, 0)).await.unwrap(), SessionInserted::Yes);
    blocker.rollback().await;
    raising.await.unwrap();
    for number in 0..2 {
        let found = store.session(&key(1, number)).await.unwrap().unwrap();
        assert!(found.session.ended.is_some(), "{number} is marked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_is_an_error_and_never_cut() {
    let Some(database) = Database::<MySql>::fresh().await else { return };
    let store = database.open().await;
    let mut long = session(1, 1);
    long.device.user_agent = Some("x".repeat(1_025));
    assert!(store.insert_session(&long).await.is_err());
    assert_eq!(store.session(&key(1, 1)).await.unwrap(), None);
    store.insert_session(&session(1, 1)).await.unwrap();
    let mut step = advance(0);
    step.device = long.device;
    assert!(store.advance(&key(1, 1), &step).await.is_err());
    assert_eq!(store.session(&key(1, 1)).await.unwrap().unwrap().session, session(1, 1));
    let policy = ThrottlePolicy::default();
    assert!(store.begin_attempt(&"x".repeat(513), NOW, &policy).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes some seconds of the server's time; run with --ignored"]
async fn slow_what_is_revoked_later_is_told_too_and_a_heartbeat_is_no_news() {
    let Some(database) = Database::<MySql>::fresh().await else { return };
    let writer = open::<MySql>(&MySql::deaf(database.options())).await;
    let (_reader, mut changes) = following::<MySql>(&database.options()).await;
    writer.insert_entry(&token_entry(1, 1, now(&*writer).await)).await.unwrap();
    is_told(&mut changes).await;
    // Meanwhile the window has moved on, more than once.
    let silence = async {
        for beat in 0..13_u64 {
            let node = Target::Node { id: Uuid::from_u128(1) };
            writer.insert_entry(&entry(node, now(&*writer).await + seconds(beat))).await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok::<_, StoreError>(())
    };
    tokio::select! {
        silence = silence => silence.unwrap(),
        _ = changes.next() => panic!("nothing has happened"),
    }
    writer.insert_entry(&token_entry(1, 2, now(&*writer).await)).await.unwrap();
    is_told(&mut changes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_look_is_told_nothing() {
    let Some(database) = Database::<MySql>::fresh().await else { return };
    assert!(open::<MySql>(&database.options().watch(false)).await.changes().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_was_cut_off_is_finished_by_the_next_start() {
    let Some(database) = Database::<MySql>::fresh().await else { return };
    let store = MySqlStore::open(&database.options()).await.unwrap();
    store.insert_session(&session(1, 1)).await.unwrap();
    store.close().await;
    let mut other = database.program().await;
    other
        .run("DROP TABLE countersign_sealed_key, countersign_store; DELETE FROM countersign_migration")
        .await;
    let store = database.open().await;
    assert!(store.session(&key(1, 1)).await.unwrap().is_some(), "what was there is there");
    assert!(!store.has_keys().await.unwrap());
    store.store_id(Uuid::from_u128(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_lose_data_are_reported_as_they_are() {
    let Some(database) = Database::<MySql>::fresh().await else { return };
    let mut other = database.program().await;
    let flush = other.count("SELECT CAST(@@GLOBAL.innodb_flush_log_at_trx_commit AS SIGNED)").await;
    let store = database.open().await;
    // The server may be somebody's: its settings stay as they are. What each is worth, a test beside the code says.
    let reported: Vec<_> =
        store.weaknesses().iter().filter(|text| text.starts_with("innodb_flush_log")).collect();
    assert_eq!(reported.is_empty(), flush == 1 || flush == 3, "{flush}: {reported:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_transactions_is_refused() {
    let Some(database) = Database::<MySql>::fresh().await else { return };
    migrate(&database.options()).await.unwrap();
    database.program().await.run("ALTER TABLE countersign_throttle ENGINE = MyISAM").await;
    let refused = refused::<MySql>(&database.options()).await;
    assert_eq!(
        refused.to_string(),
        "the table countersign_throttle is kept by MyISAM, but must be by InnoDB"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_needs_tls_is_said_to_need_it() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(mysql_8_without_tls(client));
        }
    });
    let url = format!("mysql://ada:s3cret@{address}/auth");
    let error = MySqlStore::open(&MySqlOptions::from_url(&url).unwrap()).await.unwrap_err();
    assert!(matches!(error, OpenError::PasswordNeedsTls), "{error:?}");
    assert!(error.to_string().contains("ssl-mode=REQUIRED") && !format!("{error:?}").contains("s3cret"));
}

/// Greets as MySQL 8 does when it has no certificate, and asks for the whole password.
async fn mysql_8_without_tls(mut client: TcpStream) -> std::io::Result<()> {
    const PROTOCOL_41: u32 = 1 << 9;
    const SECURE_CONNECTION: u32 = 1 << 15;
    const PLUGIN_AUTH: u32 = 1 << 19;
    let capabilities = (PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH).to_le_bytes();
    let mut greeting = vec![10];
    greeting.extend_from_slice(b"8.0.36\0\x01\0\0\0abcdefgh\0");
    greeting.extend_from_slice(&capabilities[..2]);
    greeting.extend_from_slice(&[45, 2, 0]);
    greeting.extend_from_slice(&capabilities[2..]);
    greeting.push(21);
    greeting.extend_from_slice(&[0; 10]);
    greeting.extend_from_slice(b"ijklmnopqrst\0caching_sha2_password\0");
    send(&mut client, 0, &greeting).await?;
    receive(&mut client).await?;
    send(&mut client, 2, &[1, 4]).await?;
    receive(&mut client).await?;
    send(&mut client, 4, b"\x01-----BEGIN PUBLIC KEY-----\n").await?;
    receive(&mut client).await
}

async fn send(client: &mut TcpStream, number: u8, packet: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(packet.len()).unwrap().to_le_bytes();
    client.write_all(&[length[0], length[1], length[2], number]).await?;
    client.write_all(packet).await
}

async fn receive(client: &mut TcpStream) -> std::io::Result<()> {
    let mut header = [0; 4];
    client.read_exact(&mut header).await?;
    let length = u32::from_le_bytes([header[0], header[1], header[2], 0]);
    client.read_exact(&mut vec![0; usize::try_from(length).unwrap()]).await.map(drop)
}
