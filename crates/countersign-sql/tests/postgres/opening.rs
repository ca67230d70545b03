//! Opening: empty and old databases, weak settings, what errors show.

use countersign_core::Timestamp;
use countersign_core::key::{Algorithm, KeyId};
use countersign_core::store::*;
use countersign_sql::OpenError;
use countersign_sql::postgres::{PostgresOptions, PostgresStore, migrate};
use countersign_testkit::Proxy;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_open_an_empty_database_at_once() {
    for through_pooler in [false, true] {
        for _ in 0..3 {
            let Some(database) = Database::fresh().await else { return };
            let url = if through_pooler { database.pooler_url() } else { Some(database.url()) };
            let Some(url) = url else { return };
            let mut nodes = JoinSet::new();
            for candidate in 0..5 {
                let options = patient(&url);
                nodes.spawn(async move {
                    let store = PostgresStore::open(&options).await.unwrap();
                    store.store_id(Uuid::from_u128(candidate)).await.unwrap()
                });
            }
            let ids = nodes.join_all().await;
            assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
            let mut other = database.connect().await;
            assert_eq!(count(&mut other, "SELECT max(version) FROM countersign.migration").await, 4);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_found_by_its_address_of_ipv6() {
    let Some(database) = Database::fresh().await else { return };
    let proxy = Proxy::to_server_of(&database.url()).await;
    let url = proxy.url(&database.url());
    let mapped = url.replace("@127.0.0.1:", "@[::ffff:127.0.0.1]:");
    assert_ne!(mapped, url);
    PostgresStore::open(&PostgresOptions::from_url(&mapped).unwrap()).await.unwrap().close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_are_run_only_if_wanted() {
    let Some(database) = Database::fresh().await else { return };
    let careful = database.options().run_migrations(false);
    let empty = PostgresStore::open(&careful).await.unwrap_err();
    assert!(matches!(empty, OpenError::NotMigrated), "{empty}");
    migrate(&careful).await.unwrap();
    migrate(&careful).await.unwrap();
    PostgresStore::open(&careful).await.unwrap().close().await;

    // Tables of a version that this program does not know.
    let mut other = database.connect().await;
    run(&mut other, "UPDATE countersign.migration SET version = 9000 WHERE version = 4").await;
    for options in [careful.clone(), database.options()] {
        let newer = PostgresStore::open(&options).await.unwrap_err();
        assert!(matches!(newer, OpenError::UnknownChange { version: 9000 }), "{newer}");
    }
    // Tables that an edited script has made.
    run(&mut other, "UPDATE countersign.migration SET version = 4, checksum = '\\x00' WHERE version = 9000")
        .await;
    let edited = PostgresStore::open(&careful).await.unwrap_err();
    assert!(matches!(edited, OpenError::UnknownChange { version: 4 }), "{edited}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_the_first_version_are_brought_up_to_date() {
    let Some(database) = Database::fresh().await else { return };
    let mut other = database.connect().await;
    run(&mut other, "CREATE SCHEMA countersign").await;
    run(&mut other, include_str!("../../migrations/postgres/0001_initial.sql")).await;
    run(
        &mut other,
        "CREATE TABLE countersign.migration (version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL,
            checksum BYTEA NOT NULL, applied_at TIMESTAMPTZ NOT NULL DEFAULT now());
        INSERT INTO countersign.migration (version, name, checksum) VALUES (1, 'initial', sha384(
            'countersign'));
        INSERT INTO countersign.revocation (user_id, kind, ref, n, until, at)
            VALUES ('ada', 'user', '', 1, 2000, 1000), ('bob', 'user', '', 1, 2000, 1000)",
    )
    .await;
    let edited = PostgresStore::open(&database.options()).await.unwrap_err();
    assert!(
        matches!(edited, OpenError::UnknownChange { version: 1 }),
        "the script's checksum counts: {edited}"
    );
    let checksum = "UPDATE countersign.migration SET checksum = decode('4d7a5bf4ef83a001784f0019c06c708fe83086ec57a15e71264c6da1794cb294c2c0826d4c26d07db09e43127cead610', 'hex')";
    run(&mut other, checksum).await;

    let careful = PostgresStore::open(&database.options().run_migrations(false)).await.unwrap_err();
    assert!(matches!(careful, OpenError::NotMigrated), "{careful}");
    let store = database.open().await;
    assert_eq!(count(&mut other, "SELECT max(version) FROM countersign.migration").await, 4);
    let read = store.entries(Timestamp::MIN, None, 10).await.unwrap();
    let users: Vec<_> = read.iter().filter_map(|entry| entry.user_id()).map(|user| user.as_str()).collect();
    assert_eq!(users, ["ada", "bob"], "what was there is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_may_have_tables_with_the_same_names() {
    let Some(database) = Database::fresh().await else { return };
    let mut other = database.connect().await;
    run(
        &mut other,
        "CREATE TABLE session (x TEXT); CREATE TABLE account (x TEXT); CREATE TABLE store (x TEXT)",
    )
    .await;
    let store = database.open().await;
    store.insert_session(&session(1, 1)).await.unwrap();
    assert_eq!(count(&mut other, "SELECT count(*) FROM public.session").await, 0);
    assert_eq!(count(&mut other, "SELECT count(*) FROM countersign.session").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_make_tables_can_use_them() {
    let Some(database) = Database::fresh().await else { return };
    migrate(&database.options()).await.unwrap();
    let role = format!("{}_role", database.name);
    let grant = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'of-the-role'; GRANT USAGE ON SCHEMA countersign TO {role};
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA countersign TO {role}"
    );
    let mut other = database.connect().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(grant)).execute(&mut other).await.unwrap();
    let (_, after) = database.url().split_once('@').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let options = PostgresOptions::from_url(&format!("postgres://{role}:of-the-role@{after}")).unwrap();
    let used = PostgresStore::open(&options).await;
    let used = match used {
        Ok(store) => store.insert_session(&session(1, 1)).await.map_err(|error| format!("{error:?}")),
        Err(error) => Err(format!("{error:?}")),
    };
    let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(&mut other).await.unwrap();
    assert_eq!(used, Ok(SessionInserted::Yes));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_loses_data_is_reported() {
    let Some(database) = Database::fresh().await else { return };
    assert_eq!(database.open().await.weaknesses(), [] as [String; 0]);
    database.run_on_server(format!("ALTER DATABASE {} SET synchronous_commit = off", database.name)).await;
    let store = database.open().await;
    let [weakness] = store.weaknesses() else { panic!("{:?}", store.weaknesses()) };
    assert!(weakness.starts_with("synchronous_commit is off: "), "{weakness}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_found_in_a_store_that_has_some() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open().await;
    assert!(!store.has_keys().await.unwrap());
    let key = StoredKey {
        purpose: KeyPurpose::Refresh,
        number: 7,
        key_id: KeyId::new("k").unwrap(),
        algorithm: Algorithm::Hs256,
        sealed: vec![0, 1, 255],
        created_at: NOW,
        active_at: NOW + seconds(5),
        removed_at: None,
    };
    assert!(store.insert_key(&key).await.unwrap());
    assert!(store.has_keys().await.unwrap());
    store.close().await;
    assert!(database.open().await.has_keys().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_error_and_no_text_shows_a_secret() {
    let Some(database) = Database::fresh().await else { return };
    let url = database.url();
    let password = url.split_once('@').unwrap().0.rsplit_once(':').unwrap().1.to_owned();
    let options = database.options();
    let store = PostgresStore::open(&options).await.unwrap();
    let mut texts = vec![format!("{options:?}"), format!("{store:?}")];

    // A rule that the row breaks: the server's answer quotes the row, with hash and seed.
    let mut other = database.connect().await;
    run(
        &mut other,
        "ALTER TABLE countersign.account ADD CHECK (email = 'x'); ALTER TABLE countersign.session ADD CHECK (epoch > 5)",
    )
    .await;
    let error = store.insert_user(&user(1, "ada@example.org", None)).await.unwrap_err();
    texts.push(format!("{error} {error:?}"));
    let error = store.insert_session(&session(1, 1)).await.unwrap_err();
    texts.push(format!("{error} {error:?}"));

    // A wrong password; a database that is not there; nobody there.
    let wrong = url.replace(&password, "s3cret-wrong");
    let missing = url.replace(&database.name, "countersign_missing");
    let nobody = Proxy::to_server_of(&url).await.url(&url).replace("127.0.0.1", "127.0.0.2");
    for url in [wrong, missing, nobody] {
        let options = PostgresOptions::from_url(&url).unwrap();
        let error = PostgresStore::open(&options).await.unwrap_err();
        texts.push(format!("{error} {error:?} {options:?}"));
    }
    for text in texts {
        for secret in [&password, "s3cret", "070707", "INSERT", "VALUES"] {
            assert!(!text.contains(secret), "{secret} is in: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_to_be_pooled_is_treated_so() {
    let Some(database) = Database::fresh().await else { return };
    // Straight to the server, where both ways work.
    for url in [database.url(), format!("{}&statement-cache-capacity=0", database.url())] {
        let options = PostgresOptions::from_url(&url).unwrap().pooled(true);
        let store = PostgresStore::open(&options).await.unwrap();
        store.insert_session(&session(1, 1)).await.unwrap();
        assert!(store.session(&key(1, 1)).await.unwrap().is_some());
        assert!(store.changes().is_none(), "a pooler carries no notifications");
    }
}
