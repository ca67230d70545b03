//! Settings, secrets, and first starts.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::store::{OpenStore, Weakness};
use countersign_mongodb::{MongodbOptions, MongodbStore};
use tokio::task::JoinSet;

use crate::client::{Client, claims};
use crate::engine::{Engine, Kind};
use crate::server::Folder;

const LISTEN: &str = "COUNTERSIGN_LISTEN";
const SECRET: &str = "COUNTERSIGN_SECRET";
const FREE_PORT: &str = "127.0.0.1:0";

#[tokio::test]
async fn an_unknown_setting_is_refused_and_the_nearest_one_named() {
    let folder = Folder::new();
    let refused = folder.run(&[], &[("COUNTERSIGN_LISTN", FREE_PORT)]).await;
    refused.assert_refused(&["COUNTERSIGN_LISTN", "did you mean COUNTERSIGN_LISTEN?"]);

    folder.write("settings.toml", "databse_url = \"sqlite://x.db\"\n");
    let refused = folder.run(&["--config", "settings.toml"], &[]).await;
    refused.assert_refused(&["databse_url", "did you mean database_url?"]);

    folder.write(".env", "COUNTERSIGN_ACESS_LIFETIME=1h\n");
    folder.run(&[], &[]).await.assert_refused(&["did you mean COUNTERSIGN_ACCESS_LIFETIME?"]);
    assert_eq!(folder.names(), [".env", "settings.toml"], "nothing was made");
}

#[tokio::test]
async fn a_flag_beats_the_environment_beats_dotenv_beats_the_file() {
    let folder = Folder::new();
    folder.write("settings.toml", "listen = \"127.0.0.1:0\"\ndatabase_url = \"sqlite://file.db\"\n");
    folder.write("other.toml", "database_url = \"sqlite://other.db\"\n");
    let file = ("COUNTERSIGN_CONFIG", "settings.toml");
    let migrate = async |arguments: &[&str], settings: &[(&str, &str)]| {
        let ran = folder.run(&[&["migrate"], arguments].concat(), settings).await;
        assert!(ran.status.success(), "{ran:?}");
        ran.stdout
    };
    let environment = ("COUNTERSIGN_DATABASE_URL", "sqlite://environment.db");
    assert_eq!(migrate(&[], &[]).await, "the SQLite database countersign.db is up to date\n");
    assert_eq!(migrate(&[], &[file]).await, "the SQLite database file.db is up to date\n");
    assert_eq!(
        migrate(&["--config", "other.toml"], &[file]).await,
        "the SQLite database other.db is up to date\n"
    );
    folder.write(".env", "COUNTERSIGN_DATABASE_URL=sqlite://dotenv.db\n");
    assert_eq!(migrate(&[], &[file]).await, "the SQLite database dotenv.db is up to date\n");
    assert_eq!(
        migrate(&[], &[file, environment]).await,
        "the SQLite database environment.db is up to date\n"
    );
    let flag = ["--database", "sqlite://flag.db"];
    assert_eq!(migrate(&flag, &[file, environment]).await, "the SQLite database flag.db is up to date\n");

    // A part from each: the port from the file, the database from .env.
    let server = folder.start(folder.command(&["serve"], &[file])).await;
    Client::new(&server).get("/readyz").await.expect(200);
    server.stop().await;
    assert!(folder.path("dotenv.db.secret").exists());
}

#[tokio::test]
async fn sec_046_the_database_and_its_secret_are_their_owners_alone() {
    let folder = Folder::new();
    let server = folder.serve().await;
    Client::new(&server).register("ada@example.org").await;
    for name in ["countersign.db", "countersign.db-wal", "countersign.db-shm", "countersign.db.secret"] {
        assert_eq!(folder.mode(name), 0o600, "{name}");
    }
    server.stop().await;
}

#[tokio::test]
async fn sec_046_a_secret_file_that_others_may_read_is_refused() {
    let folder = Folder::new();
    folder.serve().await.stop().await;
    let before = folder.keys().await;
    for (path, settings) in [
        ("countersign.db.secret", &[(LISTEN, FREE_PORT)][..]),
        ("elsewhere", &[(LISTEN, FREE_PORT), ("COUNTERSIGN_SECRET_FILE", "elsewhere")]),
    ] {
        if path == "elsewhere" {
            std::fs::rename(folder.path("countersign.db.secret"), folder.path(path)).unwrap();
        }
        folder.set_mode(path, 0o644);
        let refused = folder.run(&[], settings).await;
        refused.assert_refused(&[path, "mode 644", "chmod 600"]);
        folder.set_mode(path, 0o600);
        let mut command = folder.command(&[], settings);
        command.kill_on_drop(true);
        folder.start(command).await.stop().await;
    }
    assert_eq!(folder.keys().await, before);
}

#[tokio::test]
async fn a_secret_that_opens_nothing_is_an_error_and_never_makes_new_keys() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let pair = Client::new(&server).register("ada@example.org").await;
    server.stop().await;
    let before = folder.keys().await;
    let right = std::fs::read_to_string(folder.path("countersign.db.secret")).unwrap();
    let wrong = folder.run(&["key", "secret"], &[]).await.stdout;

    let refused = folder.run(&[], &[(LISTEN, FREE_PORT), (SECRET, wrong.trim())]).await;
    refused.assert_refused(&["secret"]);
    assert!(!refused.stderr.contains(wrong.trim()), "{refused:?}");
    folder.run(&[], &[(LISTEN, FREE_PORT), (SECRET, "no base64!")]).await.assert_refused(&[SECRET, "base64"]);

    std::fs::remove_file(folder.path("countersign.db.secret")).unwrap();
    let refused = folder.run(&[], &[(LISTEN, FREE_PORT)]).await;
    refused.assert_refused(&["countersign.db.secret is missing", "COUNTERSIGN_SECRET"]);
    assert!(!folder.path("countersign.db.secret").exists());

    folder.write("countersign.db.secret", &wrong);
    folder.set_mode("countersign.db.secret", 0o600);
    folder.run(&[], &[(LISTEN, FREE_PORT)]).await.assert_refused(&["secret"]);
    let missing = [(LISTEN, FREE_PORT), ("COUNTERSIGN_SECRET_FILE", "nowhere")];
    folder.run(&[], &missing).await.assert_refused(&["nowhere"]);
    assert_eq!(folder.keys().await, before, "the database is as it was");

    // With the right one, sessions go on.
    let server = folder.serve_with(&[(SECRET, right.trim())]).await;
    Client::new(&server).me(&pair.access).await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn of_a_list_of_secrets_the_first_seals_and_all_open() {
    let folder = Folder::new();
    let secret = async || folder.run(&["key", "secret"], &[]).await.stdout.trim().to_owned();
    let (old, new) = (secret().await, secret().await);
    let server = folder.serve_with(&[(SECRET, &old)]).await;
    let pair = Client::new(&server).register("ada@example.org").await;
    server.stop().await;
    assert!(!folder.path("countersign.db.secret").exists(), "a given secret is not written down");

    let both = format!("{new}, {old}");
    let server = folder.serve_with(&[(SECRET, &both)]).await;
    Client::new(&server).me(&pair.access).await.expect(200);
    server.stop().await;

    // A store that began with the list was sealed with its first secret.
    let fresh = Folder::new();
    fresh.serve_with(&[(SECRET, &both)]).await.stop().await;
    fresh.run(&[], &[(LISTEN, FREE_PORT), (SECRET, &old)]).await.assert_refused(&["secret"]);
    fresh.serve_with(&[(SECRET, &new)]).await.stop().await;
}

#[tokio::test]
async fn key_secret_prints_32_random_bytes() {
    let folder = Folder::new();
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let ran = folder.run(&["key", "secret"], &[]).await;
        assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
        assert_eq!(STANDARD.decode(ran.stdout.trim_end()).unwrap().len(), 32);
        assert!(seen.insert(ran.stdout), "the same again");
    }
    assert!(folder.names().is_empty(), "nothing is written");
}

#[tokio::test]
async fn servers_and_migrate_start_at_once_on_one_file() {
    let folder = Folder::new();
    let (one, two, migrated) = tokio::join!(folder.serve(), folder.serve(), folder.run(&["migrate"], &[]));
    assert!(migrated.status.success(), "{migrated:?}");
    let pair = Client::new(&one).register("ada@example.org").await;
    Client::new(&two).me(&pair.access).await.expect(200);
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn five_first_starts_at_once_agree_on_their_keys() {
    let folder = std::sync::Arc::new(Folder::new());
    let mut starting = JoinSet::new();
    for _ in 0..5 {
        let folder = folder.clone();
        starting.spawn(async move { folder.serve().await });
    }
    let servers = starting.join_all().await;
    let mut issuers = BTreeSet::new();
    for (number, server) in servers.iter().enumerate() {
        let pair = Client::new(server).register(&format!("user{number}@example.org")).await;
        issuers.insert(claims(&pair.access)["iss"].as_str().unwrap().to_owned());
        for other in &servers {
            let other = Client::new(other);
            other.me(&pair.access).await.expect(200);
            other.refresh(&pair.refresh).await.expect(200);
        }
    }
    assert_eq!(issuers.len(), 1, "{issuers:?}");
    for server in servers {
        server.stop().await;
    }
    let left: Vec<_> = folder.names().into_iter().filter(|name| name.contains(".new")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Which engine, where, and why; whoever reads it may not know the password.
#[tokio::test]
async fn an_engine_that_cannot_be_used_is_named_without_its_password() {
    let folder = Folder::new();
    let secret = folder.run(&["key", "secret"], &[]).await.stdout;
    let secret = ("COUNTERSIGN_SECRET", secret.trim());
    // Nobody listens there.
    let refused = "127.0.0.1:1";
    for (scheme, path, named) in [
        ("postgres", "auth", "the PostgreSQL database auth at 127.0.0.1:1 (user ada)"),
        ("mysql", "auth", "the MySQL database auth at 127.0.0.1:1 (user ada)"),
        ("mongodb", "auth", "the MongoDB database auth at 127.0.0.1:1"),
        ("redis", "2?prefix=auth", "Redis at 127.0.0.1:1 (database 2, prefix auth)"),
    ] {
        let url = format!("{scheme}://ada:geheim@{refused}/{path}");
        for setting in ["COUNTERSIGN_DATABASE_URL", "COUNTERSIGN_SESSIONS_URL"] {
            let ran = folder.run(&["serve", "--listen", "127.0.0.1:0"], &[secret, (setting, &url)]).await;
            ran.assert_refused(&[&format!("cannot use {named}"), "because: "]);
            assert!(!ran.stderr.contains("geheim"), "{ran:?}");
        }
    }
}

/// Which of the two it is depends on the server that `./test` has found.
#[tokio::test]
async fn a_relative_of_mongodb_that_does_not_settle_races_is_refused_unless_it_is_accepted() {
    let Some(engine) = Engine::new(Kind::Mongodb).await else { return };
    let options = MongodbOptions::from_url(&engine.database).unwrap();
    let store = MongodbStore::open(&options).await.unwrap();
    let is_weak = OpenStore::weaknesses(&store).contains(&Weakness::UnsettledRaces);
    store.close().await;
    let without = ("COUNTERSIGN_ACCEPT_WEAK_STORE", "no");
    if is_weak {
        let settings =
            [&engine.settings()[..], &[(LISTEN, FREE_PORT), ("COUNTERSIGN_LOG", "off"), without]].concat();
        let refused = engine.folder.run(&[], &settings).await;
        refused.assert_refused(&["cannot use the MongoDB database", "not atomic", without.0]);
    } else {
        engine.serve_with(&[without]).await.stop().await;
    }
    engine.serve().await.stop().await;
    engine.drop().await;
}

#[tokio::test]
async fn the_log_says_what_the_server_works_with() {
    let folder = Folder::new();
    let server = folder.serve().await;
    assert!(server.log().contains("database=\"the SQLite database countersign.db\""), "{}", server.log());
    server.stop().await;
}

#[tokio::test]
async fn sec_159_a_secret_that_others_may_guess_refuses_the_start() {
    let folder = Folder::new();
    let of = |bytes: &[u8]| STANDARD.encode(bytes);
    folder.write("empty", "");
    folder.write("short", &of(b"thirty-one bytes are not enough"));
    let zeros = of(&[0; 32]);
    let pattern = of(b"abababababababababababababababab");
    let example = of(b"change-me-change-me-change-me-change-me");
    for (name, value) in [
        ("COUNTERSIGN_SECRET", "secret"),
        ("COUNTERSIGN_SECRET", "change-me"),
        ("COUNTERSIGN_SECRET", &zeros),
        ("COUNTERSIGN_SECRET", &pattern),
        ("COUNTERSIGN_SECRET", &example),
        ("COUNTERSIGN_SECRET_FILE", "empty"),
        ("COUNTERSIGN_SECRET_FILE", "short"),
    ] {
        let settings = [("COUNTERSIGN_LISTEN", "127.0.0.1:0"), (name, value)];
        folder.run(&[], &settings).await.assert_refused(&["ecret", "countersign key secret"]);
        folder
            .run(&["config", "check"], &settings)
            .await
            .assert_refused(&["ecret", "countersign key secret"]);
    }
    assert_eq!(folder.names(), ["empty", "short"], "nothing was made");
}
