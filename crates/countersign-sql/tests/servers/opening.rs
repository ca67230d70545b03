//! Opening: empty and old databases, what a user may do, what errors show.

use countersign_core::model::{EmailAddress, KeyPurpose, PasswordHash, StoredKey, User, Username};
use countersign_core::store::*;
use countersign_jwt::key::{Algorithm, KeyId};
use countersign_jwt::{Timestamp, UserId};
use countersign_sql::OpenError;
use countersign_testkit::Proxy;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::*;

/// Opens what must not open.
pub(crate) async fn refused<S: ServerUnderTest>(options: &S::Options) -> OpenError {
    S::open(options).await.expect_err("this does not open")
}

pub(crate) async fn five_nodes_open_an_empty_database_at_once<S: ServerUnderTest>() {
    for _ in 0..3 {
        let Some(some) = Database::<S>::fresh().await else { return };
        for way in 0..S::ways(&some).len() {
            let Some(database) = Database::<S>::fresh().await else { return };
            let url = S::ways(&database).swap_remove(way);
            let mut nodes = JoinSet::new();
            for candidate in 0..5 {
                let options = patient::<S>(&url);
                nodes.spawn(async move {
                    let store = S::open(&options).await.unwrap();
                    store.store_id(Uuid::from_u128(candidate)).await.unwrap()
                });
            }
            let ids = nodes.join_all().await;
            assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
            let mut other = database.program().await;
            let latest = format!("SELECT max(version) FROM {}", S::table("migration"));
            assert_eq!(other.count(&latest).await, S::CHANGES);
        }
    }
}

pub(crate) async fn a_server_is_found_by_its_address_of_ipv6<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let proxy = Proxy::to_server_of(&database.url()).await;
    let url = proxy.url(&database.url());
    let mapped = url.replace("@127.0.0.1:", "@[::ffff:127.0.0.1]:");
    assert_ne!(mapped, url);
    S::close(S::open(&S::options(&mapped)).await.unwrap()).await;
}

pub(crate) async fn migrations_are_run_only_if_wanted<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let careful = S::run_migrations(database.options(), false);
    let empty = refused::<S>(&careful).await;
    assert!(matches!(empty, OpenError::NotMigrated), "{empty}");
    S::migrate(&careful).await.unwrap();
    S::migrate(&careful).await.unwrap();
    S::close(S::open(&careful).await.unwrap()).await;

    // Tables of a version that this program does not know.
    let mut other = database.program().await;
    let (changes, latest) = (S::table("migration"), S::CHANGES);
    other.run(&format!("UPDATE {changes} SET version = 9000 WHERE version = {latest}")).await;
    for options in [careful.clone(), database.options()] {
        let newer = refused::<S>(&options).await;
        assert!(matches!(newer, OpenError::UnknownChange { version: 9000 }), "{newer}");
    }
    // Tables that an edited script has made.
    let edit = format!("UPDATE {changes} SET version = {latest}, checksum = {}", S::ZERO_BYTE);
    other.run(&format!("{edit} WHERE version = 9000")).await;
    let edited = refused::<S>(&careful).await;
    assert!(matches!(edited, OpenError::UnknownChange { version } if version == latest), "{edited}");
}

pub(crate) async fn an_application_may_have_tables_with_such_names<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let mut other = database.program().await;
    for table in ["session", "account", "store"] {
        other.run(&format!("CREATE TABLE {table} (x TEXT)")).await;
    }
    let store = database.open().await;
    store.insert_session(&session(1, 1)).await.unwrap();
    assert_eq!(other.count("SELECT count(*) FROM session").await, 0);
    assert_eq!(other.rows("session").await, 1);
}

pub(crate) async fn a_user_who_may_not_make_tables_can_use_them<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    S::migrate(&database.options()).await.unwrap();
    let name = format!("u{}", &database.name[database.name.len() - 16..]);
    let mut other = database.program().await;
    let delete = S::make_limited_user(&mut other, &database.name, &name, "of-the-user").await;
    let url = database.url();
    let (scheme, _) = url.split_once("://").unwrap();
    let (_, after) = url.split_once('@').unwrap();
    let used = match S::open(&S::options(&format!("{scheme}://{name}:of-the-user@{after}"))).await {
        Ok(store) => store.insert_session(&session(1, 1)).await.map_err(|error| format!("{error:?}")),
        Err(error) => Err(format!("{error:?}")),
    };
    for delete in delete {
        other.run(&delete).await;
    }
    assert_eq!(used, Ok(SessionInserted::Yes));
}

pub(crate) async fn tables_of_the_first_version_are_brought_up_to_date<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let mut other = database.program().await;
    let [tables, checksum] = S::FIRST_VERSION;
    other.run(tables).await;
    let entries = format!(
        "INSERT INTO {} (user_id, kind, ref, n, until, at)
        VALUES ('ada', 'user', '', 1, 2000, 1000), ('bob', 'user', '', 1, 2000, 1000)",
        S::table("revocation")
    );
    other.run(&entries).await;
    // As a node of that version inserts an account.
    let register = |name: &str| {
        let account = format!(
            "INSERT INTO {} (id, email, username, password_hash, created_at, disabled_at)
            VALUES ('{name}', '{name}@example.org', '{name}', 'hash', 1000, NULL)",
            S::table("account")
        );
        let names = format!(
            "INSERT INTO {} (kind, {}, user_id)
            VALUES ('email', '{name}@example.org', '{name}'), ('username', '{name}', '{name}')",
            S::table("account_name"),
            S::NAME_KEY
        );
        [account, names]
    };
    for statement in register("ada") {
        other.run(&statement).await;
    }
    let edited = refused::<S>(&database.options()).await;
    assert!(
        matches!(edited, OpenError::UnknownChange { version: 1 }),
        "the script's checksum counts: {edited}"
    );
    other.run(checksum).await;

    let careful = refused::<S>(&S::run_migrations(database.options(), false)).await;
    assert!(matches!(careful, OpenError::NotMigrated), "{careful}");
    let store = database.open().await;
    let latest = format!("SELECT max(version) FROM {}", S::table("migration"));
    assert_eq!(other.count(&latest).await, S::CHANGES);
    let read = store.entries(Timestamp::MIN, None, 10).await.unwrap();
    let users: Vec<_> = read.iter().filter_map(|entry| entry.user_id()).map(|user| user.as_str()).collect();
    assert_eq!(users, ["ada", "bob"], "what was there is kept");

    // A node of the version before goes on beside this one.
    for statement in register("bob") {
        other.run(&statement).await;
    }
    for name in ["ada", "bob"] {
        let found = store.user_by_name(NameKey::Username(name)).await.unwrap().unwrap();
        let expected = User {
            email: EmailAddress::parse(&format!("{name}@example.org")).ok(),
            username: Username::parse(name).ok(),
            password_hash: Some(PasswordHash::from_stored("hash".to_owned())),
            ..User::new(UserId::new(name).unwrap(), Timestamp::from_millis(1_000))
        };
        assert_eq!(format!("{found:?}"), format!("{expected:?}"));
        let new = User { email: None, ..found.clone() };
        assert_eq!(store.replace_user(&found, &new).await.unwrap(), UserReplaced::Yes);
        assert!(store.user(&found.id).await.unwrap().unwrap().email.is_none(), "it may be absent now");
        assert!(store.delete_user(&found.id).await.unwrap());
    }
}

pub(crate) async fn keys_are_found_in_a_store_that_has_some<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = S::open(&database.options()).await.unwrap();
    assert!(!S::has_keys(&store).await.unwrap());
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
    assert!(S::has_keys(&store).await.unwrap());
    S::close(store).await;
    assert!(S::has_keys(&*database.open().await).await.unwrap());
}

pub(crate) async fn no_error_and_no_text_shows_a_secret<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let url = database.url();
    let password = url.split_once('@').unwrap().0.rsplit_once(':').unwrap().1.to_owned();
    let options = database.options();
    let store = open::<S>(&options).await;
    let mut texts = vec![format!("{options:?}"), format!("{store:?}")];

    // Rules that rows break: the server's answers quote the rows, with hash and seed.
    store.insert_user(&user(1, "ada@example.org", None)).await.unwrap();
    let mut other = database.program().await;
    S::refuse_accounts(&mut other).await;
    let error = store.insert_user(&user(2, "bob@example.org", None)).await.unwrap_err();
    texts.push(format!("{error} {error:?}"));
    other.run(&format!("ALTER TABLE {} ADD CHECK (epoch > 5)", S::table("session"))).await;
    let error = store.insert_session(&session(1, 1)).await.unwrap_err();
    texts.push(format!("{error} {error:?}"));
    other.run(&format!("DROP TABLE {}", S::table("sealed_key"))).await;
    let error = store.keys().await.unwrap_err();
    texts.push(format!("{error} {error:?}"));

    // A wrong password; a database that is not there; nobody there.
    let wrong = url.replace(&password, "s3cret");
    let missing = url.replace(&database.name, "there_is_no_such_database");
    let nobody = Proxy::to_server_of(&url).await.url(&url).replace("127.0.0.1", "127.0.0.2");
    for url in [wrong, missing, nobody] {
        let options = S::options(&url);
        let error = refused::<S>(&options).await;
        texts.push(format!("{error} {error:?} {options:?}"));
    }
    for text in texts {
        for secret in [&password, "s3cret", "070707", "INSERT", "VALUES", "argon2id"] {
            assert!(!text.contains(secret), "{secret} is in: {text}");
        }
    }
}
