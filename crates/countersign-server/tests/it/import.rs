//! Users and sessions of a Flask application, brought over from its own database.

use std::sync::Arc;

use countersign_core::flow::Hasher;
use countersign_core::model::{Argon2Params, Password};
use countersign_flask::FlaskJwtExtended;
use countersign_flask::flask_jwt_extended::{FlaskJwtExtendedConfig, NewAccess, NewRefresh};
use countersign_http::OsRandom;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, MySqlConnection, PgConnection};

use crate::client::{Client, PASSWORD, claims, send};
use crate::engine::{Engine, Kind, on_every_engine};
use crate::server::{Folder, Ran};

const SECRET: &str = "canary-Vq8Zt7_Wm4Kc9Ru6Jd3Fs0Hv2Lp5Go8Xn1Yb";
const SETTINGS: [(&str, &str); 2] =
    [("COUNTERSIGN_PROFILE", "flask-jwt-extended"), ("JWT_SECRET_KEY", SECRET)];
/// A hash that werkzeug made of [`PASSWORD`].
const WERKZEUG: &str = "scrypt:32768:8:1$a0oJ4SKRb3mhfwRi$c67841435535b23d113cb74874cf5e66d60aa91b04b81d1c9142bb6280f130d4330fbc781ab0e82c9b1b51ffac1ca83f093caaeab723c7b053f6d05656845cdc";

/// The Flask application's side: its database, and the tokens that it issues.
struct Flask {
    engine: Engine,
    from: String,
    jwt: FlaskJwtExtended,
}

/// The tokens of one login there.
struct Login {
    access: String,
    refresh: String,
    access_id: String,
    refresh_id: String,
}

impl Flask {
    async fn new(kind: Kind) -> Option<Self> {
        let engine = Engine::new(kind).await?;
        let from = match kind {
            Kind::Sqlite => format!("sqlite://{}", engine.folder.path("app.db").display()),
            _ => engine.settings()[0].1.to_owned(),
        };
        let options = json!({ "JWT_SECRET_KEY": SECRET }).as_object().cloned().unwrap();
        let config = FlaskJwtExtendedConfig::from_options(options).unwrap();
        Some(Self { engine, from, jwt: FlaskJwtExtended::builder(config).build().unwrap() })
    }

    async fn login(&self, user: &str) -> Login {
        let access = self.jwt.create_access_token(user.to_owned(), NewAccess::default()).await.unwrap();
        let refresh = self.jwt.create_refresh_token(user.to_owned(), NewRefresh::default()).await.unwrap();
        let id = |token: &str| claims(token)["jti"].as_str().unwrap().to_owned();
        Login { access_id: id(&access), refresh_id: id(&refresh), access, refresh }
    }

    async fn execute(&self, sql: &str) {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self.engine.kind {
            Kind::Sqlite => {
                let path = self.engine.folder.path("app.db");
                let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
                let mut connection = options.connect().await.unwrap();
                sql.execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
            Kind::Postgres => {
                sql.execute(&mut PgConnection::connect(&self.from).await.unwrap()).await.unwrap();
            }
            _ => {
                sql.execute(&mut MySqlConnection::connect(&self.from).await.unwrap()).await.unwrap();
            }
        }
    }

    /// The tables as such an application has them on this engine.
    async fn create_tables(&self) {
        self.execute(match self.engine.kind {
            Kind::Sqlite => {
                "CREATE TABLE \"user\" (id INTEGER PRIMARY KEY, email TEXT, username TEXT, password_hash TEXT, \
                 created_at DATETIME, is_active BOOLEAN, nickname TEXT); \
                 CREATE TABLE user_sessions (id INTEGER PRIMARY KEY, user_id INTEGER, jti_access TEXT, \
                 jti_refresh TEXT, created_at DATETIME DEFAULT CURRENT_TIMESTAMP, expires_at INTEGER, revoked BOOLEAN, \
                 user_agent TEXT, ip TEXT)"
            }
            Kind::Postgres => {
                "CREATE TABLE \"user\" (id serial PRIMARY KEY, email varchar(300), username varchar(120), \
                 password_hash bytea, created_at timestamptz, is_active boolean, nickname text); \
                 CREATE TABLE user_sessions (id serial PRIMARY KEY, user_id integer, jti_access uuid, jti_refresh uuid, \
                 created_at timestamp DEFAULT (now() AT TIME ZONE 'UTC'), expires_at bigint, revoked boolean, \
                 user_agent text, ip inet)"
            }
            _ => {
                "CREATE TABLE `user` (id INTEGER PRIMARY KEY AUTO_INCREMENT, email VARCHAR(300), username VARCHAR(120), \
                 password_hash BLOB, created_at DATETIME, is_active BIT(1), nickname TEXT) CHARACTER SET utf8mb4; \
                 CREATE TABLE user_sessions (id INTEGER PRIMARY KEY AUTO_INCREMENT, user_id INTEGER, \
                 jti_access CHAR(36), jti_refresh CHAR(36), created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, \
                 expires_at BIGINT, revoked TINYINT(1), user_agent TEXT, ip VARCHAR(45)) CHARACTER SET utf8mb4"
            }
        })
        .await;
    }

    fn literal(&self, on: bool) -> &'static str {
        match (self.engine.kind, on) {
            (Kind::Postgres, true) => "true",
            (Kind::Postgres, false) => "false",
            (_, true) => "1",
            (_, false) => "0",
        }
    }

    fn table(&self) -> &'static str {
        if self.engine.kind == Kind::Mysql { "`user`" } else { "\"user\"" }
    }

    async fn add_user(&self, id: u32, email: &str, username: &str, hash: &str, active: bool) {
        let hash = if hash == "NULL" { hash.to_owned() } else { format!("'{hash}'") };
        self.execute(&format!(
            "INSERT INTO {} (id, email, username, password_hash, created_at, is_active) VALUES \
             ({id}, {email}, {username}, {hash}, '2025-03-04 05:06:07', {})",
            self.table(),
            self.literal(active)
        ))
        .await;
    }

    async fn add_session(&self, user: u32, login: &Login, revoked: bool) {
        self.execute(&format!(
            "INSERT INTO user_sessions (user_id, jti_access, jti_refresh, expires_at, revoked, user_agent, ip) VALUES \
             ({user}, '{}', '{}', {}, {}, 'Flask browser', '192.0.2.7')",
            login.access_id,
            login.refresh_id,
            claims(&login.refresh)["exp"],
            self.literal(revoked)
        ))
        .await;
    }

    async fn import(&self, folder: &Folder, more: &[&str]) -> Ran {
        self.import_with(folder, &SETTINGS, more).await
    }

    async fn import_with(&self, folder: &Folder, settings: &[(&str, &str)], more: &[&str]) -> Ran {
        let arguments = [&["import", "flask", "--from", &self.from], more].concat();
        folder.run(&arguments, settings).await
    }

    async fn drop(self) {
        self.engine.drop().await;
    }
}

/// A store of ours that is there and empty.
async fn migrated() -> Folder {
    let folder = Folder::new();
    let ran = folder.run(&["migrate"], &[]).await;
    assert!(ran.status.success(), "{ran:?}");
    folder
}

/// Everything that an import could have changed.
async fn contents(folder: &Folder) -> Vec<String> {
    let mut database = folder.database().await;
    let sql = "SELECT concat_ws('|', id, email, username, password_hash, created_at, disabled_at) FROM account \
         UNION ALL SELECT concat_ws('|', kind, key, user_id) FROM account_name \
         UNION ALL SELECT concat_ws('|', user_id, id, hex(seed), created_at, absolute_until, ended_at) FROM session \
         UNION ALL SELECT concat_ws('|', user_id, kind, ref, until, at) FROM revocation";
    let rows = sqlx::query_scalar(sql).fetch_all(&mut database).await.unwrap();
    database.close().await.unwrap();
    rows
}

fn succeeded(ran: &Ran, saying: &[&str]) {
    assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
    for text in saying {
        assert!(ran.stdout.contains(text), "{text}\n{}", ran.stdout);
    }
}

async fn sessions_of(client: &Client, access: &str) -> Vec<Value> {
    let request = client.request(Method::GET, "/v1/auth/sessions").bearer_auth(access);
    let listed = send(request).await.unwrap().expect(200).body;
    listed["sessions"].as_array().unwrap().clone()
}

async fn a_flask_application_moves_here(kind: Kind) {
    let Some(flask) = Flask::new(kind).await else { return };
    flask.create_tables().await;
    let hasher = Hasher::new(Argon2Params::default(), Arc::new(OsRandom)).unwrap();
    let hash = hasher.hash(&Password::new_for_login(PASSWORD.to_owned()).unwrap()).unwrap();
    flask.add_user(1, "'ada@example.org'", "'ada'", hash.expose(), true).await;
    flask.add_user(2, "'bob@example.org'", "NULL", WERKZEUG, true).await;
    flask.add_user(3, "'eve@example.org'", "NULL", "NULL", false).await;
    let (live, revoked, unlisted) = (flask.login("1").await, flask.login("1").await, flask.login("1").await);
    let (of_bob, of_eve) = (flask.login("2").await, flask.login("3").await);
    flask.add_session(1, &live, false).await;
    flask.add_session(1, &revoked, true).await;
    flask.add_session(2, &of_bob, false).await;
    flask.add_session(3, &of_eve, false).await;

    let folder = migrated().await;
    let dry = flask.import(&folder, &["--dry-run"]).await;
    let told = [
        "users: from the table user, columns id, email, username, password_hash, created_at, is_active",
        "not understood and left out: the columns nickname of user",
        "users: 3 read, 3 brought over, 0 here already, 0 skipped",
        "sessions: 4 read, 2 live ones brought over, 0 here already, 0 skipped",
        "sessions: 2 revoked ones whose tokens are revoked here from now on, 0 revoked here already",
        "passwords: 2 whose owners log in here with their password (Argon2 1, werkzeug scrypt 1)",
        "passwords: 1 users without one",
    ];
    succeeded(&dry, &told);
    succeeded(&dry, &["nothing was written"]);
    assert_eq!(contents(&folder).await, Vec::<String>::new());

    let ran = flask.import(&folder, &[]).await;
    succeeded(&ran, &told);
    assert_eq!(
        ran.stdout.replace("this was", ""),
        dry.stdout.replace("this was a dry run: nothing was written\n", "")
    );
    let after = contents(&folder).await;
    assert!(after.iter().any(|row| row.starts_with("1|ada@example.org|ada|$argon2id$")), "{after:?}");
    assert!(after.iter().any(|row| row.contains("|1741064767000")), "the time of registration: {after:?}");
    assert!(after.iter().any(|row| row.contains(WERKZEUG)), "{after:?}");
    let again = flask.import(&folder, &[]).await;
    let told = [
        "users: 3 read, 0 brought over, 3 here already, 0 skipped",
        "sessions: 4 read, 0 live ones brought over, 2 here already, 0 skipped",
        "sessions: 0 revoked ones whose tokens are revoked here from now on, 2 revoked here already",
    ];
    succeeded(&again, &told);
    assert_eq!(contents(&folder).await, after, "again changes nothing");

    let server = folder.serve_with(&SETTINGS).await;
    let client = Client::new(&server);
    // The live session is listed before anybody refreshes, and is the one that Flask's own token refreshes.
    let listed = sessions_of(&client, &live.access).await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(
        (&listed[0]["id"], &listed[0]["user_agent"]),
        (&json!(live.refresh_id), &json!("Flask browser"))
    );
    assert_eq!(listed[0]["ip"], "192.0.2.7");
    for _ in 0..2 {
        let renewed = client.refresh(&live.refresh).await.expect(200).body;
        let renewed = renewed["access_token"].as_str().unwrap();
        assert_eq!(claims(renewed)["sid"], *live.refresh_id);
        assert_eq!(client.me(renewed).await.expect(200).body["email"], "ada@example.org");
    }
    assert_eq!(sessions_of(&client, &live.access).await.len(), 1);
    client.refresh(&of_bob.refresh).await.expect(200);
    // What was logged out there stays so; a token that no row names shows that it is the row that decides.
    for login in [&revoked, &of_eve] {
        client.me(&login.access).await.expect(401);
        client.refresh(&login.refresh).await.expect(401);
    }
    client.me(&unlisted.access).await.expect(200);
    client.refresh(&unlisted.refresh).await.expect(200);
    let path = format!("/v1/auth/sessions/{}", live.refresh_id);
    let end = client.request(Method::DELETE, &path).bearer_auth(&unlisted.access);
    send(end).await.unwrap().expect(204);
    client.refresh(&live.refresh).await.expect(401);
    client.login("ada@example.org").await;
    client.try_login("bob@example.org", "not the password").await.expect(401);
    client.try_login("bob@example.org", PASSWORD).await.expect(200);
    server.stop().await;
    let rows = contents(&folder).await;
    assert!(!rows.iter().any(|row| row.contains("scrypt:")), "the login replaced the hash: {rows:?}");

    // Somebody logs out at Flask after the token was shown here; what ended here does not come back.
    flask
        .execute(&format!("UPDATE user_sessions SET revoked = {} WHERE user_id = 2", flask.literal(true)))
        .await;
    let ran = flask.import(&folder, &[]).await;
    succeeded(
        &ran,
        &["0 live ones brought over, 1 here already", "1 revoked ones", "2 revoked here already"],
    );
    let server = folder.serve_with(&SETTINGS).await;
    let client = Client::new(&server);
    for login in [&revoked, &of_eve, &of_bob] {
        client.me(&login.access).await.expect(401);
        client.refresh(&login.refresh).await.expect(401);
    }
    client.refresh(&live.refresh).await.expect(401);
    client.refresh(&unlisted.refresh).await.expect(200);
    server.stop().await;
    flask.drop().await;
}

#[tokio::test]
async fn a_flask_application_on_sqlite_moves_here() {
    a_flask_application_moves_here(Kind::Sqlite).await;
}

#[tokio::test]
async fn a_flask_application_on_postgres_moves_here() {
    a_flask_application_moves_here(Kind::Postgres).await;
}

#[tokio::test]
async fn a_flask_application_on_mysql_moves_here() {
    a_flask_application_moves_here(Kind::Mysql).await;
}

#[tokio::test]
async fn what_cannot_be_kept_is_named_and_the_rest_is_kept() {
    for kind in [Kind::Sqlite, Kind::Postgres, Kind::Mysql] {
        let Some(flask) = Flask::new(kind).await else { continue };
        flask.create_tables().await;
        let long = format!("'{}'", "x".repeat(100));
        for (id, email, username, hash) in [
            (1, "'O''Hara+1@example.org'", "'o''hara'", "$2b$12$abcdefghijklmnopqrstuv"),
            (2, "NULL", "NULL", "NULL"),
            (3, "'no address'", "NULL", "NULL"),
            (4, "'o''HARA+1@EXAMPLE.org'", "'twin'", "NULL"),
            (5, "'e@example.org'", "'O''HARA'", "hunter2-canary"),
            (6, "'f@example.org'", long.as_str(), "NULL"),
            (7, "'g@example.org'", "'😀 \"; DROP TABLE account; --'", "NULL"),
            (8, "'📧@example.org'", "NULL", "NULL"),
            (9, "'  Pat@example.org '", "' pat	'", "NULL"),
        ] {
            flask.add_user(id, email, username, hash, true).await;
        }
        let (good, twin) = (flask.login("1").await, flask.login("4").await);
        flask.add_session(1, &good, false).await;
        flask.add_session(1, &good, true).await;
        flask.add_session(4, &twin, false).await;
        flask
            .execute(
                "INSERT INTO user_sessions (user_id, jti_access, jti_refresh, revoked) VALUES (1, NULL, NULL, NULL); \
                 INSERT INTO user_sessions (user_id, jti_access, jti_refresh) VALUES (NULL, NULL, NULL)",
            )
            .await;
        let folder = migrated().await;
        let ran = flask.import(&folder, &[]).await;
        succeeded(
            &ran,
            &[
                "skipped: user 2: it has no e-mail address and no username",
                "skipped: user 3: its e-mail address cannot be used",
                "skipped: user 4: another user has its e-mail address",
                "note: user 5: another user has its username, which is left out",
                "note: user 5: its password_hash is in no known form of a hash",
                "note: user 6: its username cannot be a username",
                "note: user 7: its username cannot be a username",
                "skipped: user_sessions 3: its user was not brought over",
                "skipped: user_sessions 4: its jti_refresh is not the id of a token",
                "skipped: user_sessions 5: it names no user",
                "users: 9 read, 6 brought over, 0 here already, 3 skipped",
                "note: user 1: its password hash is kept, but is not used: it has none of the forms",
                "passwords: 1 whose hash is not used",
            ],
        );
        assert!(!ran.stdout.contains("canary") && !ran.stdout.contains('😀'), "{}", ran.stdout);
        let rows = contents(&folder).await;
        assert!(rows.iter().any(|row| row.starts_with("8|📧@example.org|")), "{rows:?}");
        assert!(rows.iter().any(|row| row.starts_with("9|Pat@example.org|pat|")), "{rows:?}");
        assert!(!rows.iter().any(|row| row.contains("canary")), "{rows:?}");
        let again = flask.import(&folder, &[]).await;
        succeeded(&again, &["users: 9 read, 0 brought over, 6 here already, 3 skipped"]);
        assert_eq!(contents(&folder).await, rows);
        // The second row of the session says that it is revoked; that counts, in whatever order they are read.
        let server = folder.serve_with(&SETTINGS).await;
        Client::new(&server).refresh(&good.refresh).await.expect(401);
        server.stop().await;
        flask.drop().await;
    }
}

#[tokio::test]
async fn columns_of_any_type_are_read_as_what_they_say() {
    let flask = Flask::new(Kind::Sqlite).await.unwrap();
    let (old, soon, odd) = (flask.login("a-1").await, flask.login("a-1").await, flask.login("a-1").await);
    let hex = |id: &str| id.replace('-', "");
    flask
        .execute(&format!(
            "CREATE TABLE users (\"ID\" TEXT, \"Email\" BLOB, name, date_created, disabled_at, active); \
             CREATE TABLE \"session\" (\"user\", jti_access, jti_refresh, login_at, refresh_expires_at, expires_at, \
             logged_out_at, browser, remote_addr); \
             INSERT INTO users VALUES \
             ('a-1', CAST('a@example.org' AS BLOB), 7, 1700000000.25, NULL, 'true'), \
             ('b' || char(10), 'b@example.org', NULL, NULL, NULL, 1), \
             ('c', x'ff40ff', NULL, NULL, NULL, 1), \
             ('d', 'd@example.org', x'ff', 'yesterday', NULL, 1), \
             ('e', 'e@example.org', NULL, 99999999999999, '2025-01-01T00:00:00+01:00', 1), \
             ('f', 'f@example.org', NULL, '', '', 'perhaps'), \
             ('6f2e7f603d0b4f5f9d559f6b7b1f7a11', 'g@example.org', NULL, '', '', 1); \
             INSERT INTO \"session\" VALUES \
             ('a-1', 'x', '{}', '2020-01-01', NULL, NULL, NULL, NULL, NULL), \
             ('a-1', '{}', '{}', unixepoch() - 60, 'never', unixepoch() + 600, NULL, char(27) || '[2J' || x'', 'here'), \
             ('a-1', '{}', '{}', unixepoch(), NULL, NULL, 'perhaps', NULL, NULL), \
             ('a-1', 'x', 'jti''; DROP TABLE users; --', NULL, NULL, NULL, unixepoch(), NULL, NULL), \
             ('a-1', NULL, '{}', NULL, NULL, NULL, NULL, NULL, NULL), \
             ('a-1', NULL, '{}', NULL, NULL, NULL, '2020-01-01 00:00:00', NULL, NULL)",
            old.refresh_id,
            hex(&soon.access_id),
            hex(&soon.refresh_id).to_uppercase(),
            odd.access_id,
            odd.refresh_id,
            flask.login("a-1").await.refresh_id,
            flask.login("a-1").await.refresh_id,
        ))
        .await;
    let folder = migrated().await;
    let ran = flask.import(&folder, &["--hyphenate-ids"]).await;
    succeeded(
        &ran,
        &[
            "skipped: users b\\n: it has no id that can be kept",
            "note: users c: its email is not text",
            "skipped: users c: it has no e-mail address",
            "note: users d: its name is not text",
            "note: users d: its date_created is not a time",
            "note: users f: its active is neither true nor false, and counts as false",
            "note: session, row 2 as read: its remote_addr is not an IP address",
            "note: session, row 3 as read: its logged_out_at is neither true nor false nor a time, and counts as true",
            "note: session, row 4 as read: its jti_refresh is not the id of a token",
            "skipped: session, row 4 as read: it is revoked, and names no token",
            "skipped: session, row 5 as read: nothing says when it began",
            "users: 7 read, 5 brought over, 0 here already, 2 skipped",
            "sessions: 6 read, 1 live ones brought over, 0 here already, 2 skipped",
            "1 revoked ones whose tokens are revoked here from now on, 0 revoked here already, 2 expired",
        ],
    );
    assert!(!ran.stdout.contains('\u{1b}'));
    let rows = contents(&folder).await;
    for row in ["a-1|a@example.org|7|1700000000000", "6f2e7f60-3d0b-4f5f-9d55-9f6b7b1f7a11|g@example.org|"] {
        assert!(rows.iter().any(|found| found.starts_with(row)), "{row}: {rows:?}");
    }
    let disabled_at = |id: &str| {
        let row = rows.iter().find(|row| row.starts_with(&format!("{id}|{id}@example.org|"))).unwrap();
        row.split('|').count() == 4
    };
    assert!(disabled_at("e") && disabled_at("f") && !disabled_at("d"), "{rows:?}");
    assert!(rows.iter().any(|row| row.ends_with("|1735686000000")), "{rows:?}");
    let server = folder.serve_with(&SETTINGS).await;
    let client = Client::new(&server);
    client.refresh(&soon.refresh).await.expect(200);
    client.refresh(&odd.refresh).await.expect(401);
    server.stop().await;
}

#[tokio::test]
async fn names_of_tables_and_columns_are_no_sql() {
    for kind in [Kind::Sqlite, Kind::Postgres, Kind::Mysql] {
        let Some(flask) = Flask::new(kind).await else { continue };
        let mark = if kind == Kind::Mysql { '`' } else { '"' };
        let odd = "x\"; DROP TABLE keep; -- ` ' \\";
        let quoted = |name: &str| format!("{mark}{}{mark}", name.replace(mark, &format!("{mark}{mark}")));
        flask
            .execute(&format!(
                "CREATE TABLE keep (id integer); \
                 CREATE TABLE {} (id integer, email varchar(99), {} integer); \
                 INSERT INTO {} VALUES (1, 'a@example.org', 1)",
                quoted(odd),
                quoted("a\"b`c'); DROP TABLE keep; --"),
                quoted(odd)
            ))
            .await;
        let folder = migrated().await;
        let ran = flask.import(&folder, &["--users-table", odd]).await;
        succeeded(
            &ran,
            &["users: 1 read, 1 brought over", "there is no table with jti_access and jti_refresh"],
        );
        for table in ["keep; DROP TABLE keep", "nothing", "keep\"", ""] {
            let refused = flask.import(&folder, &["--users-table", table]).await;
            refused.assert_refused(&["--users-table: there is no such table"]);
        }
        flask.import(&folder, &["--users-table", "keep"]).await.assert_refused(&["keep has no column email"]);
        flask.execute("INSERT INTO keep VALUES (1)").await;
        if kind == Kind::Postgres {
            // A table that is not found without its schema, and one that is and must not be taken for it.
            let people = "(id integer, email text)";
            flask
                .execute(&format!(
                    "CREATE SCHEMA app; CREATE TABLE app.people {people}; CREATE TABLE app.users {people}; \
                     INSERT INTO app.people VALUES (2, 'b@example.org')"
                ))
                .await;
            flask.import(&folder, &["--users-table", "people"]).await.assert_refused(&["no such table"]);
            flask.import(&folder, &[]).await.assert_refused(&["there is no table user or users"]);
            let ran = flask.import(&folder, &["--users-table", "app.people"]).await;
            succeeded(&ran, &["users: 1 read, 1 brought over"]);
        }
        flask.drop().await;
    }
}

#[tokio::test]
async fn a_source_that_cannot_be_read_is_an_error_without_its_password() {
    let folder = migrated().await;
    let dead = "127.0.0.1:9";
    for from in [
        format!("postgres://ada:canary@{dead}/app"),
        format!("postgresql+psycopg2://ada:canary@{dead}/app"),
        format!("mysql+pymysql://ada:canary@{dead}/app"),
        "mysql://ada:canary@localhost".to_owned(),
        "postgres://ada:ca#nary:canary@db/app".to_owned(),
        "mysql://ada:canary@db:port/app".to_owned(),
        "oracle://ada:canary@db/app".to_owned(),
        "canary".to_owned(),
        "sqlite://missing.db".to_owned(),
        "sqlite::memory:".to_owned(),
    ] {
        let ran = folder.run(&["import", "flask", "--from", &from], &SETTINGS).await;
        ran.assert_refused(&[]);
        assert!(!ran.stderr.contains("canary"), "{ran:?}");
    }
    for variable in ["TEST_POSTGRES_URL", "TEST_MYSQL_URL"] {
        let Some(url) = countersign_testkit::server_url(variable) else { continue };
        let mut url = url.parse::<url::Url>().unwrap();
        url.set_password(Some("canary")).unwrap();
        let refused = folder.run(&["import", "flask", "--from", url.as_str()], &SETTINGS).await;
        refused.assert_refused(&["could not be read"]);
        assert!(!refused.stderr.contains("canary"), "{refused:?}");
        // The same server by an address of IPv6 says the same.
        url.set_host(Some("[::ffff:127.0.0.1]")).unwrap();
        let ran = folder.run(&["import", "flask", "--from", url.as_str()], &SETTINGS).await;
        assert_eq!(ran.stderr, refused.stderr);
    }
}

#[tokio::test]
async fn which_tables_are_meant_is_never_guessed() {
    let flask = Flask::new(Kind::Sqlite).await.unwrap();
    let folder = migrated().await;
    flask.execute("CREATE TABLE users (id, mail)").await;
    flask.import(&folder, &[]).await.assert_refused(&["there is no table user or users", "--users-table"]);
    flask.execute("CREATE TABLE \"user\" (id, email)").await;
    flask.import(&folder, &[]).await.assert_refused(&["the table user is empty"]);
    flask.execute("INSERT INTO \"user\" VALUES (1, 'a@example.org'); ALTER TABLE users ADD email").await;
    flask.import(&folder, &[]).await.assert_refused(&["both user and users may be the table of the users"]);
    let users = ["--users-table", "user"];
    let ran = flask.import(&folder, &users).await;
    succeeded(
        &ran,
        &["users: 1 read, 1 brought over", "user has no column password_hash", "none are brought over"],
    );
    for table in ["session", "sessions"] {
        flask.execute(&format!("CREATE TABLE \"{table}\" (user_id, jti_access, jti_refresh)")).await;
    }
    flask.import(&folder, &users).await.assert_refused(&["--sessions-table"]);
    let both = [&users[..], &["--sessions-table", "session"]].concat();
    let ran = flask.import(&folder, &both).await;
    succeeded(&ran, &["sessions: 0 read", "every session counts as not revoked", "1 here already"]);

    // Under this server's own rules nobody could use the sessions.
    let arguments = [&["import", "flask", "--from", &flask.from], &both[..]].concat();
    let ran = folder.run(&arguments, &[]).await;
    succeeded(&ran, &["sessions: not brought over", "COUNTERSIGN_PROFILE=flask-jwt-extended"]);

    // The URL from standard input; no store is made.
    let empty = Folder::new();
    empty.run(&arguments, &SETTINGS).await.assert_refused(&["there is no database"]);
    folder.write("url", &format!("{}\n", flask.from));
    let input = std::fs::File::open(folder.path("url")).unwrap();
    let arguments = [&["import", "flask", "--from", "-", "--dry-run"], &both[..]].concat();
    let mut command = folder.command(&arguments, &SETTINGS);
    let output = command.stdin(input).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The accounts of a store, by id, as an export has them.
async fn exported(folder: &Folder, settings: &[(&str, &str)]) -> Vec<Value> {
    let ran = folder.run(&["user", "export"], settings).await;
    assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
    let mut users: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    users.sort_by_key(|user| user["id"].as_str().unwrap().to_owned());
    users
}

on_every_engine! {
    users_of_flask_sqlalchemy_sign_in_here_with_their_old_passwords_and_keep_ids_and_roles
}

async fn users_of_flask_sqlalchemy_sign_in_here_with_their_old_passwords_and_keep_ids_and_roles(
    engine: &Engine,
) {
    let flask = Flask::new(Kind::Sqlite).await.unwrap();
    flask.execute(include_str!("../flask_sqlalchemy.sql")).await;
    let (revoked, valid, used) = (flask.login("1").await, flask.login("1").await, flask.login("2").await);
    for (id, kind, user) in [
        (&revoked.access_id, "access", 1),
        (&revoked.refresh_id, "refresh", 1),
        (&revoked.access_id, "access", 1),
    ] {
        let row = format!("('{id}', '{kind}', {user}, CURRENT_TIMESTAMP)");
        flask
            .execute(&format!("INSERT INTO token_blocklist (jti, type, user_id, created_at) VALUES {row}"))
            .await;
    }
    let folder = &engine.folder;
    let settings = [&engine.settings()[..], &SETTINGS].concat();
    let ran = folder.run(&["migrate"], &settings).await;
    assert!(ran.status.success(), "{ran:?}");
    let told = [
        "revoked tokens: from the table token_blocklist, columns id, jti, type, user_id, created_at",
        "skipped: token_blocklist 2: its jti is not the id of a token",
        "skipped: token_blocklist 3: its user was not brought over",
        "note: user 17: its role is left out",
        "revoked tokens: 7 read from token_blocklist, 2 revoked here from now on, 1 revoked here already, 1 expired, \
         2 skipped",
        "revoked tokens: 1 in token_blocklist are left, because nothing says whose they are",
        "users: 4 read, 4 brought over, 0 here already, 0 skipped",
        "users: 2 with roles",
        "users: 1 without an e-mail address, who log in by username",
        "(werkzeug scrypt 1, werkzeug pbkdf2 2, bcrypt 1)",
    ];
    succeeded(&flask.import_with(folder, &settings, &["--dry-run"]).await, &told);
    assert_eq!(exported(folder, &settings).await, Vec::<Value>::new());
    succeeded(&flask.import_with(folder, &settings, &[]).await, &told);
    let users = exported(folder, &settings).await;
    let field = |name: &str| users.iter().map(|user| user[name].clone()).collect::<Vec<_>>();
    assert_eq!(field("id"), ["1", "17", "2", "5"]);
    assert_eq!(field("roles"), [json!(["admin"]), json!([]), json!(["author", "editor"]), json!([])]);
    assert_eq!(field("email_verified"), [true, false, false, false]);
    assert_eq!(users[0]["email_verified_at"], "2025-02-01T10:00:00Z");
    assert_eq!(users[3].get("email"), None);

    let more = [("COUNTERSIGN_LOGIN_NAMES", "both"), ("COUNTERSIGN_USER_IDS", "integer")];
    let serving = [&settings[..], &more].concat();
    let server = folder.serve_with(&serving).await;
    let client = Client::new(&server);
    for (name, id) in [("ada", "1"), ("bob", "2"), ("cleo", "5"), ("dan", "17")] {
        let wrong = json!({ "username": name, "password": "incorrect horse" });
        client.post("/v1/auth/login", &wrong).await.expect(401);
        // The second login is against the hash that the first one left.
        for _ in 0..2 {
            let login = json!({ "username": name, "password": PASSWORD });
            let answer = client.post("/v1/auth/login", &login).await.expect(200);
            assert_eq!(claims(&answer.pair().access)["sub"], id, "{name}");
        }
    }
    client.login("ada@example.org").await;
    client.me(&valid.access).await.expect(200);
    client.refresh(&valid.refresh).await.expect(200);
    client.me(&revoked.access).await.expect(401);
    client.refresh(&revoked.refresh).await.expect(401);
    client.refresh(&used.refresh).await.expect(200);
    let new = client.register("new@example.org").await;
    assert_eq!(claims(&new.access)["sub"], "18", "new ids count on");
    server.stop().await;

    // A refresh token that was used here is revoked there afterwards: the session that it has here ends.
    let row = format!("('{}', 'refresh', 2, CURRENT_TIMESTAMP)", used.refresh_id);
    flask
        .execute(&format!("INSERT INTO token_blocklist (jti, type, user_id, created_at) VALUES {row}"))
        .await;
    let again = flask.import_with(folder, &settings, &[]).await;
    succeeded(
        &again,
        &[
            "revoked tokens: 8 read from token_blocklist, 1 revoked here from now on, 3 revoked here already",
            "users: 4 read, 0 brought over, 4 here already, 0 skipped",
        ],
    );
    let server = folder.serve_with(&serving).await;
    let client = Client::new(&server);
    client.refresh(&used.refresh).await.expect(401);
    client.refresh(&valid.refresh).await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn the_roles_of_flask_security_and_of_a_named_column_come_along() {
    let flask = Flask::new(Kind::Sqlite).await.unwrap();
    flask
        .execute(
            "CREATE TABLE user (id INTEGER PRIMARY KEY, email VARCHAR(255), username VARCHAR(255), password VARCHAR(255), \
             active BOOLEAN NOT NULL, fs_uniquifier VARCHAR(64) NOT NULL, confirmed_at DATETIME, is_staff BOOLEAN); \
             CREATE TABLE role (id INTEGER PRIMARY KEY, name VARCHAR(80) UNIQUE, description VARCHAR(255)); \
             CREATE TABLE roles_users (user_id INTEGER, role_id INTEGER); \
             INSERT INTO user VALUES (1, 'a@example.org', NULL, NULL, 1, 'f1', '2026-01-31 12:00:00', 0), \
             (2, 'b@example.org', NULL, NULL, 1, 'f2', NULL, 1), (3, 'c@example.org', NULL, NULL, 0, 'f3', 'x', NULL); \
             INSERT INTO role VALUES (10, 'admin', NULL), (11, 'Head of Sales', NULL), (12, 'editor', NULL); \
             INSERT INTO roles_users VALUES (1, 10), (1, 12), (2, 11), (2, 12), (2, 99), (NULL, 10)",
        )
        .await;
    let folder = migrated().await;
    let refused = flask.import(&folder, &["--roles-column", "groups"]).await;
    refused.assert_refused(&["--roles-column: the table user has no such column"]);
    let ran = flask.import(&folder, &["--roles-column", "IS_STAFF"]).await;
    succeeded(
        &ran,
        &[
            "roles: from the tables role, roles_users",
            "not understood and left out: the columns fs_uniquifier of user",
            "note: user 2: its role Head of Sales is left out",
            "note: user 3: its confirmed_at is neither true nor false nor a time, and counts as false",
            "users: 2 with roles",
        ],
    );
    let users = exported(&folder, &[]).await;
    let field = |name: &str| users.iter().map(|user| user[name].clone()).collect::<Vec<_>>();
    assert_eq!(field("roles"), [json!(["admin", "editor"]), json!(["editor", "staff"]), json!([])]);
    assert_eq!(field("email_verified"), [true, false, false]);
    assert_eq!(field("disabled"), [false, false, true]);
}

#[tokio::test]
async fn tables_of_revoked_tokens_are_told_by_name_and_need_to_say_whose_tokens_they_are() {
    let flask = Flask::new(Kind::Sqlite).await.unwrap();
    flask.create_tables().await;
    flask.add_user(1, "'ada@example.org'", "'ada'", "NULL", true).await;
    let (listed, unlisted, all) = (flask.login("1").await, flask.login("1").await, flask.login("1").await);
    let older = flask.login("1").await;
    flask.add_session(1, &listed, false).await;
    flask
        .execute(&format!(
            "CREATE TABLE \"TokenBlocklist\" (id, jti, created_at); CREATE TABLE revoked_tokens (jti, user_identity, \
             token_type, revoked, expires); CREATE TABLE logouts (jti, user_id); \
             INSERT INTO \"TokenBlocklist\" VALUES (1, '{}', CURRENT_TIMESTAMP), (2, '{}', CURRENT_TIMESTAMP); \
             INSERT INTO revoked_tokens VALUES ('{}', '1', 'refresh', 1, '2999-01-01'), ('{}', '1', 'refresh', 0, \
             '2999-01-01'), ('{}', '1', 'access', 1, '2020-01-01'); \
             INSERT INTO logouts VALUES ('{}', 1)",
            listed.access_id,
            unlisted.access_id,
            all.refresh_id,
            unlisted.refresh_id,
            all.access_id,
            older.access_id
        ))
        .await;
    let folder = migrated().await;
    let ran = flask.import(&folder, &[]).await;
    succeeded(
        &ran,
        &[
            "TokenBlocklist has no column user_id or user or user_identity or identity: only tokens that the table of \
             the sessions names have a known user",
            "revoked tokens: 2 read from TokenBlocklist, 1 revoked here from now on, 0 revoked here already, 0 expired",
            "revoked tokens: 1 in TokenBlocklist are left, because nothing says whose they are",
            "revoked tokens: 3 read from revoked_tokens, 1 revoked here from now on, 0 revoked here already, 1 expired",
            "revoked tokens: 1 in revoked_tokens are not revoked, as the table says",
            "revoked tokens: the table logouts has a column jti and is left",
        ],
    );
    let ran = flask.import(&folder, &["--blocklist-table", "logouts"]).await;
    succeeded(
        &ran,
        &["revoked tokens: 1 read from logouts, 1 revoked here from now on", "the table TokenBlocklist has"],
    );
    flask.import(&folder, &["--blocklist-table", "user"]).await.assert_refused(&["has no column jti"]);
    let server = folder.serve_with(&SETTINGS).await;
    let client = Client::new(&server);
    for (access, status) in [(&listed, 401), (&unlisted, 200), (&all, 200), (&older, 401)] {
        client.me(&access.access).await.expect(status);
    }
    client.refresh(&all.refresh).await.expect(401);
    client.refresh(&unlisted.refresh).await.expect(200);
    server.stop().await;
    // Under this server's own rules nobody could use the tokens.
    let ran = migrated().await.run(&["import", "flask", "--from", &flask.from], &[]).await;
    succeeded(
        &ran,
        &["revoked tokens: those of TokenBlocklist are left; Flask's tokens are taken only under"],
    );
}

async fn the_blocklist_of_an_application_is_asked(kind: Kind) {
    let Some(flask) = Flask::new(kind).await else { return };
    // UUIDs as SQLAlchemy stores them on this engine, and one more table, of all tokens.
    let (id, switch) = match kind {
        Kind::Postgres => ("uuid", "boolean"),
        _ => ("CHAR(36)", "INTEGER"),
    };
    flask
        .execute(&format!(
            "CREATE TABLE token_blocklist (jti {id} NOT NULL, created_at TIMESTAMP NULL); \
             CREATE TABLE revoked_tokens (jti VARCHAR(36), revoked {switch}); \
             CREATE TABLE odd (jti VARCHAR(36))"
        ))
        .await;
    let (one, other) = (flask.login("1").await, flask.login("1").await);
    let folder = Folder::new();
    let settings = [&SETTINGS[..], &[("COUNTERSIGN_BLOCKLIST_URL", flask.from.as_str())]].concat();
    let server = folder.serve_with(&settings).await;
    let client = Client::new(&server);
    // No account here has this user's id; what matters is which tokens get that far.
    let status = async |token: &str| {
        let verify = client.request(Method::GET, "/v1/auth/verify").bearer_auth(token);
        send(verify).await.unwrap().status
    };
    for token in [&one.access, &other.access] {
        assert_eq!(status(token).await, 200);
    }
    let unhyphenated = one.access_id.replace('-', "");
    let stored = if kind == Kind::Postgres { &one.access_id } else { &unhyphenated };
    flask.execute(&format!("INSERT INTO token_blocklist (jti) VALUES ('{stored}')")).await;
    let (on, off) = (flask.literal(true), flask.literal(false));
    flask
        .execute(&format!(
            "INSERT INTO revoked_tokens VALUES ('{}', {off}), ('{}', {on}), ('{}', NULL); \
             INSERT INTO odd VALUES ('{}')",
            other.access_id, other.refresh_id, other.access_id, other.access_id
        ))
        .await;
    assert_eq!((status(&one.access).await, status(&other.access).await), (401, 200), "{kind:?}");
    client.refresh(&other.refresh).await.expect(401);
    server.stop().await;

    let settings = [&settings[..], &[("COUNTERSIGN_BLOCKLIST_TABLE", "odd")]].concat();
    let server = folder.serve_with(&settings).await;
    let client = Client::new(&server);
    let status = async |token: &str| {
        let verify = client.request(Method::GET, "/v1/auth/verify").bearer_auth(token);
        send(verify).await.unwrap().status
    };
    assert_eq!((status(&one.access).await, status(&other.access).await), (200, 401), "{kind:?}");
    // Whoever cannot know does not accept.
    flask.execute("DROP TABLE odd").await;
    assert_eq!(status(&one.access).await, 503, "{kind:?}");
    assert!(server.log().contains("could not be read"), "{}", server.log());
    server.stop().await;
    flask.drop().await;
}

#[tokio::test]
async fn a_blocklist_on_sqlite_is_asked_for_the_time_of_the_move() {
    the_blocklist_of_an_application_is_asked(Kind::Sqlite).await;
}

#[tokio::test]
async fn a_blocklist_on_postgres_is_asked_for_the_time_of_the_move() {
    the_blocklist_of_an_application_is_asked(Kind::Postgres).await;
}

#[tokio::test]
async fn a_blocklist_on_mysql_is_asked_for_the_time_of_the_move() {
    the_blocklist_of_an_application_is_asked(Kind::Mysql).await;
}

#[tokio::test]
async fn a_blocklist_that_cannot_be_asked_is_an_error_at_the_start() {
    let flask = Flask::new(Kind::Sqlite).await.unwrap();
    flask.execute("CREATE TABLE token_blocklist (id INTEGER); CREATE TABLE gone (jti TEXT)").await;
    for (settings, saying) in [
        (vec![("COUNTERSIGN_BLOCKLIST_URL", flask.from.as_str())], ["COUNTERSIGN_BLOCKLIST_TABLE", "gone"]),
        (
            vec![
                ("COUNTERSIGN_BLOCKLIST_URL", &flask.from),
                ("COUNTERSIGN_BLOCKLIST_TABLE", "token_blocklist"),
            ],
            ["COUNTERSIGN_BLOCKLIST_TABLE", "no column jti"],
        ),
        (
            vec![("COUNTERSIGN_BLOCKLIST_URL", "sqlite:///nowhere.db")],
            ["COUNTERSIGN_BLOCKLIST_URL", "no file"],
        ),
        (
            vec![("COUNTERSIGN_BLOCKLIST_URL", "redis://ada:canary@db")],
            ["COUNTERSIGN_BLOCKLIST_URL", "must be sqlite://"],
        ),
        (
            vec![("COUNTERSIGN_BLOCKLIST_URL", &flask.from), ("COUNTERSIGN_PROFILE", "native")],
            ["COUNTERSIGN_BLOCKLIST_URL", "COUNTERSIGN_PROFILE"],
        ),
    ] {
        let ran = Folder::new().run(&[], &[&SETTINGS[..], &settings].concat()).await;
        ran.assert_refused(&saying);
        assert!(!ran.stderr.contains("canary"), "{ran:?}");
    }
}
