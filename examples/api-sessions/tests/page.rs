//! The lines of docs/examples.md, as printed, against the program of the page on each of its databases, and against the
//! Flask program beside it.

use countersign::http::OsRandom;
use countersign::jwt::random::uuid;
use countersign_testkit::server_url;
use example_driver::{Program, block, program, section};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use url::Url;

const EXE: &str = env!("CARGO_BIN_EXE_api-sessions");
const SECRET: (&str, &str) = ("COUNTERSIGN_SECRET", "SGpubHUVN49UbwYEA0ZMjf9t3jAaqPjZfGqCnjP5Gm0=");

fn page() -> &'static str {
    section(include_str!("../../../docs/examples.md"), "An API with sessions, on the database of your choice")
}

const ANSWERS: [&str; 11] = [
    "201",
    "409",
    "welcome",
    "welcome back, ada@example.com",
    r#"{"email":"ada@example.com","sessions":2}"#,
    "200",
    r#"{"revoked":1}"#,
    "401",
    "204",
    "401",
    "401",
];

/// A database of its own on the server that this variable names. `None` if the engine is left out on purpose.
fn database(variable: &str) -> Option<Url> {
    let Some(url) = server_url(variable) else {
        println!("LEFT OUT: {variable} is none");
        return None;
    };
    let mut url = Url::parse(&url).unwrap();
    url.set_path(&format!("countersign_test_{}", uuid(&OsRandom).unwrap().simple()));
    Some(url)
}

/// Runs the lines with one program, and asks another one on the same database afterwards.
fn check(database: &str) {
    let variables = [("DATABASE_URL", database), SECRET];
    let answers = Program::example(EXE, &variables).run(block(page(), "sh"));
    assert_eq!(answers, ANSWERS, "{database}");
    let login = "curl -s -o /dev/null -w '%{http_code}\\n' http://localhost:3000/v1/auth/login \
        -H 'content-type: application/json' -d '{\"email\":\"ada@example.com\",\"password\":\"correct horse\"}'";
    assert_eq!(Program::example(EXE, &variables).run(login), ["200"], "accounts stay in {database}");
}

#[test]
fn the_program_of_the_page_is_the_example() {
    assert_eq!(
        block(page(), "rust,no_run"),
        program(include_str!("../src/main.rs")),
        "copy it into the page"
    );
}

#[test]
fn it_answers_as_printed_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    check(&format!("sqlite://{}", folder.path().join("sessions.db").display()));
    assert_eq!(Program::example(EXE, &[]).run(block(page(), "sh")), ANSWERS, "without a setting");
}

#[tokio::test]
async fn it_answers_as_printed_on_postgres() {
    let Some(url) = database("TEST_POSTGRES_URL") else { return };
    let mut server = PgConnection::connect(&server_url("TEST_POSTGRES_URL").unwrap()).await.unwrap();
    let name = url.path().trim_start_matches('/');
    let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::raw_sql(create).execute(&mut server).await.unwrap();
    check(url.as_str());
    let drop = AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
    sqlx::raw_sql(drop).execute(&mut server).await.unwrap();
}

#[tokio::test]
async fn it_answers_as_printed_on_mongodb() {
    let Some(url) = database("TEST_MONGODB_URL") else { return };
    check(url.as_str());
    let client = mongodb::Client::with_uri_str(url.as_str()).await.unwrap();
    client.database(url.path().trim_start_matches('/')).drop().await.unwrap();
}

#[test]
fn a_database_that_machines_share_needs_the_secret_that_they_share() {
    for (url, says) in [
        ("postgres://localhost/app", "openssl rand -base64 32"),
        ("mongodb://localhost/app", "openssl rand -base64 32"),
        ("oracle://localhost/app", "DATABASE_URL begins with sqlite://, postgres:// or mongodb://"),
    ] {
        let mut command = std::process::Command::new(EXE);
        let output = command.env("DATABASE_URL", url).env_remove(SECRET.0).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(says), "{url}: {said}");
    }
}

#[test]
fn the_flask_program_answers_alike() {
    let flask = Program::flask(block(page(), "python"), "TEST_FLASK_PYTHON", "flask_jwt_extended");
    if let Some(flask) = flask {
        assert_eq!(flask.run(&block(page(), "sh").replace("/v1/auth/", "/")), ANSWERS);
    }
}
