//! A database of an older version goes on where it was.
#![cfg(feature = "sqlite")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy takes only functions with #[test] for tests"
)]

mod support;

use std::sync::Arc;

use countersign_core::flow::{CheckError, LoginError, RefreshError};

use countersign_core::model::{Device, EmailAddress, KeyPurpose, KeyState, User, Username, key_state};
use countersign_core::store::{KeyStore as _, NameKey, UserInserted, UserStore as _};
use countersign_jwt::Clock as _;
use countersign_testkit::TestBed;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use support::*;

const TABLES: &str = include_str!("../migrations/sqlite/0001_initial.sql");
const ROWS: &str = include_str!("data/v1.sql");
/// As sqlx writes down which changes were made.
const CHANGES: &str = "
    CREATE TABLE _sqlx_migrations (
        version BIGINT PRIMARY KEY,
        description TEXT NOT NULL,
        installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
        success BOOLEAN NOT NULL,
        checksum BLOB NOT NULL,
        execution_time BIGINT NOT NULL
    );
    INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (1, 'initial', TRUE,
        x'B3BE6B22CD30B4A00E64378DE386A582E0FBB8F8621B5EAE6F345D6ECAB8A027FA70979B7AB6CA8CA43D3873077C51A8', 0);";

// In 120 columns no token has room.
const GOOD_ACCESS: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6InZYa0tfOWxVY1lILV9rYlJhTkhwN1B1ZWttQktzOUp5TExmVkpTYlNpV0EiLCJ0eXAiOiJhdCtqd3QifQ.eyJpc3MiOiJ1cm46dXVpZDpkMGUwYzBlMC02MWIwLTQ5NDEtOWI1Ni04ODhlYzU1OGNiNjgiLCJzdWIiOiI4N2YwYjgwMy1hNDY2LTQzZjMtOGUxMS1kNWQ3ZWQ1MDljNjAiLCJpYXQiOjE3Njk4NjA4MDAsImV4cCI6MTc2OTg2MTcwMCwianRpIjoiMThiZjFiNzYtOWU4MC00N2E3LThiNDgtOTQ0NTE4MWYwYjI0IiwidHlwZSI6ImFjY2VzcyIsImZyZXNoIjp0cnVlLCJzaWQiOiJmNDI2ODI2Ny0xYTA4LTQyZmEtOThmZC04OWEyMTM0MDVhZjkiLCJnZW4iOjAsImVwb2NoIjowfQ.T6vvbkSIS2el7UpZ5r_ls1CuSED3PCDQPWFcyHyVVOxGd-n7F9eZLczwOwfTpNq_ezl1fyTf46Sxw9Iji1lQAw";
const GOOD_REFRESH: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImR6c09yd1FiTGtpbmpvSDVJQ1FxaXciLCJ0eXAiOiJydCtqd3QifQ.eyJpc3MiOiJ1cm46dXVpZDpkMGUwYzBlMC02MWIwLTQ5NDEtOWI1Ni04ODhlYzU1OGNiNjgiLCJzdWIiOiI4N2YwYjgwMy1hNDY2LTQzZjMtOGUxMS1kNWQ3ZWQ1MDljNjAiLCJpYXQiOjE3Njk4NjA4MDAsImV4cCI6MTc3MTA3MDQwMCwianRpIjoiZTU3OTAxN2YtMTY3OS00ZTE3LWIwZTgtNzkwMzc0MWE0MWVkIiwidHlwZSI6InJlZnJlc2giLCJmcmVzaCI6ZmFsc2UsInNpZCI6ImY0MjY4MjY3LTFhMDgtNDJmYS05OGZkLTg5YTIxMzQwNWFmOSIsImdlbiI6MCwiZXBvY2giOjB9.KD7IkLHbuDPYieKDkw8C8hsphY0a6R-LGOY4CjpB3Wo";
const REFRESHED_ACCESS: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6InZYa0tfOWxVY1lILV9rYlJhTkhwN1B1ZWttQktzOUp5TExmVkpTYlNpV0EiLCJ0eXAiOiJhdCtqd3QifQ.eyJpc3MiOiJ1cm46dXVpZDpkMGUwYzBlMC02MWIwLTQ5NDEtOWI1Ni04ODhlYzU1OGNiNjgiLCJzdWIiOiI4N2YwYjgwMy1hNDY2LTQzZjMtOGUxMS1kNWQ3ZWQ1MDljNjAiLCJpYXQiOjE3Njk4NjA4MDAsImV4cCI6MTc2OTg2MTcwMCwianRpIjoiNGE5YzQ2ZDItMWQ5Ny00YjM2LTlkMzEtNjMwNjQxOTU1NjllIiwidHlwZSI6ImFjY2VzcyIsImZyZXNoIjpmYWxzZSwic2lkIjoiNTAxMzI5MGUtMmZhOC00OGY1LWIxNTItMzY4ZjkxMjYwMWZmIiwiZ2VuIjoxLCJlcG9jaCI6MH0.6K1Rr58nHIns0cKX9PpZgmpmkpdsNfyuWYKGtbu_sdkrY1y7Hfk30dzRYXtguzRpkW3CqMzeX-PELa0nio8jBw";
const REFRESHED_REFRESH: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImR6c09yd1FiTGtpbmpvSDVJQ1FxaXciLCJ0eXAiOiJydCtqd3QifQ.eyJpc3MiOiJ1cm46dXVpZDpkMGUwYzBlMC02MWIwLTQ5NDEtOWI1Ni04ODhlYzU1OGNiNjgiLCJzdWIiOiI4N2YwYjgwMy1hNDY2LTQzZjMtOGUxMS1kNWQ3ZWQ1MDljNjAiLCJpYXQiOjE3Njk4NjA4MDAsImV4cCI6MTc3MTA3MDQwMCwianRpIjoiYWVhNTZiM2EtMTc1Ny00YmM4LWFlOWYtMDk4MDlmNDEzODJlIiwidHlwZSI6InJlZnJlc2giLCJmcmVzaCI6ZmFsc2UsInNpZCI6IjUwMTMyOTBlLTJmYTgtNDhmNS1iMTUyLTM2OGY5MTI2MDFmZiIsImdlbiI6MSwiZXBvY2giOjB9.AeSaI6u6oXXpKviLmVrZ3ul43mJqArVZrwOBd2XBI1s";
const ENDED_ACCESS: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6InZYa0tfOWxVY1lILV9rYlJhTkhwN1B1ZWttQktzOUp5TExmVkpTYlNpV0EiLCJ0eXAiOiJhdCtqd3QifQ.eyJpc3MiOiJ1cm46dXVpZDpkMGUwYzBlMC02MWIwLTQ5NDEtOWI1Ni04ODhlYzU1OGNiNjgiLCJzdWIiOiI4N2YwYjgwMy1hNDY2LTQzZjMtOGUxMS1kNWQ3ZWQ1MDljNjAiLCJpYXQiOjE3Njk4NjA4MDAsImV4cCI6MTc2OTg2MTcwMCwianRpIjoiMjZlMTNjZGItNDdiYy00ZmYwLWE2ZDEtYWU4NTMxM2UzOGJkIiwidHlwZSI6ImFjY2VzcyIsImZyZXNoIjp0cnVlLCJzaWQiOiIyMTAzOTA2My1lM2I3LTQxODgtODEwNi0zOGUyODY0ZDhiNmIiLCJnZW4iOjAsImVwb2NoIjowfQ.qWh5YqJ5av6oJfEfmr0tzXIUCb2iIWvhAGj-dqbxEiEEd7bsdGV8k0krfkpoMZIWHV0jek2IQhuMg4trd2MzAg";
const ENDED_REFRESH: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImR6c09yd1FiTGtpbmpvSDVJQ1FxaXciLCJ0eXAiOiJydCtqd3QifQ.eyJpc3MiOiJ1cm46dXVpZDpkMGUwYzBlMC02MWIwLTQ5NDEtOWI1Ni04ODhlYzU1OGNiNjgiLCJzdWIiOiI4N2YwYjgwMy1hNDY2LTQzZjMtOGUxMS1kNWQ3ZWQ1MDljNjAiLCJpYXQiOjE3Njk4NjA4MDAsImV4cCI6MTc3MTA3MDQwMCwianRpIjoiNWM0YjdhYTMtZTkxMS00ZDQyLWE2NjMtNzdhYmViZTUyNWQ3IiwidHlwZSI6InJlZnJlc2giLCJmcmVzaCI6ZmFsc2UsInNpZCI6IjIxMDM5MDYzLWUzYjctNDE4OC04MTA2LTM4ZTI4NjRkOGI2YiIsImdlbiI6MCwiZXBvY2giOjB9.YfJFB9HiVgVPrSI0s3THwP8wP71WS329cEYr-cUV0As";
const REVOKED_ACCESS: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6InZYa0tfOWxVY1lILV9rYlJhTkhwN1B1ZWttQktzOUp5TExmVkpTYlNpV0EiLCJ0eXAiOiJhdCtqd3QifQ.eyJpc3MiOiJ1cm46dXVpZDpkMGUwYzBlMC02MWIwLTQ5NDEtOWI1Ni04ODhlYzU1OGNiNjgiLCJzdWIiOiIzZDhkMjJmZC04MDM2LTRkOGItYjE3ZC01OGRlZDRhMDM1ZDkiLCJpYXQiOjE3Njk4NjA4MDAsImV4cCI6MTc2OTg2MTcwMCwianRpIjoiYmI0MjJlNDAtMzcwMS00Y2Y2LThkZjEtYTRkNTc2Yjg5YTBlIiwidHlwZSI6ImFjY2VzcyIsImZyZXNoIjp0cnVlLCJzaWQiOiI1NTA5MzU5ZS1hZTMzLTRlNjItYjBkOC1mZWM2YWFkMzQwNjEiLCJnZW4iOjAsImVwb2NoIjowfQ.sX3RYpMIYX8IlVTs2hN-5mJERSv2S__AV1PIe1XF7MewMcSgxEohELaC6_7qYhdq876i1jxJpDfgtS6AOqgpCQ";
const GRACE_REFRESH: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImR6c09yd1FiTGtpbmpvSDVJQ1FxaXciLCJ0eXAiOiJydCtqd3QifQ.eyJpc3MiOiJ1cm46dXVpZDpkMGUwYzBlMC02MWIwLTQ5NDEtOWI1Ni04ODhlYzU1OGNiNjgiLCJzdWIiOiIzZDhkMjJmZC04MDM2LTRkOGItYjE3ZC01OGRlZDRhMDM1ZDkiLCJpYXQiOjE3Njk4NjA4MDAsImV4cCI6MTc3MTA3MDQwMCwianRpIjoiZGM2MjYzZjgtMGMxMy00NWZhLTkxZDAtOWZkOTExZGJkMTViIiwidHlwZSI6InJlZnJlc2giLCJmcmVzaCI6ZmFsc2UsInNpZCI6IjU1MDkzNTllLWFlMzMtNGU2Mi1iMGQ4LWZlYzZhYWQzNDA2MSIsImdlbiI6MCwiZXBvY2giOjB9.ik7nLEe7IGLQPMq-xrv0j5a8H8TmVX_U6Bfspop1C7Q";
const ALL_ENDED_REFRESH: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImR6c09yd1FiTGtpbmpvSDVJQ1FxaXciLCJ0eXAiOiJydCtqd3QifQ.eyJpc3MiOiJ1cm46dXVpZDpkMGUwYzBlMC02MWIwLTQ5NDEtOWI1Ni04ODhlYzU1OGNiNjgiLCJzdWIiOiI4NDA1N2NkMy0zYWU3LTQzYmEtOGNlYS0xMzU1N2IxYTcwNjQiLCJpYXQiOjE3Njk4NjA4MDAsImV4cCI6MTc3MTA3MDQwMCwianRpIjoiYjM0ZWRlMDEtNDFiMS00NGM1LWI2ZWYtYzg0ZjdkNDg0NGI1IiwidHlwZSI6InJlZnJlc2giLCJmcmVzaCI6ZmFsc2UsInNpZCI6IjFmMGM3MTYyLWVmMTItNDY2ZC1iOGI4LTkwZTE2ZWVlYTU0YiIsImdlbiI6MCwiZXBvY2giOjB9.8osnJbjEak1cBIqIZft9c4AzYwuSLfw3uBiYx-nWL-U";
const ALL_ENDED_ACCESS: &str = "eyJhbGciOiJFZERTQSIsImtpZCI6InZYa0tfOWxVY1lILV9rYlJhTkhwN1B1ZWttQktzOUp5TExmVkpTYlNpV0EiLCJ0eXAiOiJhdCtqd3QifQ.eyJpc3MiOiJ1cm46dXVpZDpkMGUwYzBlMC02MWIwLTQ5NDEtOWI1Ni04ODhlYzU1OGNiNjgiLCJzdWIiOiI4NDA1N2NkMy0zYWU3LTQzYmEtOGNlYS0xMzU1N2IxYTcwNjQiLCJpYXQiOjE3Njk4NjA4MDAsImV4cCI6MTc2OTg2MTcwMCwianRpIjoiODJjZDFkYzctNjBiNi00MzY1LTlmZWQtNTQ2MjBmODQ0MzdkIiwidHlwZSI6ImFjY2VzcyIsImZyZXNoIjp0cnVlLCJzaWQiOiIxZjBjNzE2Mi1lZjEyLTQ2NmQtYjhiOC05MGUxNmVlZWE1NGIiLCJnZW4iOjAsImVwb2NoIjowfQ.c1IVvIPPy3V_UC-86lfrUhkTqY7vJmlBH1No8ceSuftv45kJt9jZb-5Qigd-22D0XX0RCw5t_f3szPDIwpOQDQ";
const DISABLED_REFRESH: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImR6c09yd1FiTGtpbmpvSDVJQ1FxaXciLCJ0eXAiOiJydCtqd3QifQ.eyJpc3MiOiJ1cm46dXVpZDpkMGUwYzBlMC02MWIwLTQ5NDEtOWI1Ni04ODhlYzU1OGNiNjgiLCJzdWIiOiJlNWY1YTI4Yy03ZWQ5LTRjMzMtYWNjMi1iNWNlNzYxZjgwOTkiLCJpYXQiOjE3Njk4NjA4MDAsImV4cCI6MTc3MTA3MDQwMCwianRpIjoiNTJlNWRhNTctMDNlZi00NTgxLTk0OGEtNTdhY2VlYjA5NGM2IiwidHlwZSI6InJlZnJlc2giLCJmcmVzaCI6ZmFsc2UsInNpZCI6ImY4MDBiYWM0LTQzODgtNDkzZC05ZDMzLWEyYzIwNWJkYTcyYSIsImdlbiI6MCwiZXBvY2giOjB9.AihU0oAsCaKAsExiPKOPU-NYreFjzQmZ4FtM4va0aD4";

/// A file as the first version has left it.
async fn first_version(folder: &Folder) {
    let options = SqliteConnectOptions::new().filename(folder.database()).create_if_missing(true);
    let mut database = options.connect().await.unwrap();
    for sql in [TABLES, CHANGES, ROWS] {
        sqlx::raw_sql(sql).execute(&mut database).await.unwrap();
    }
    database.close().await.unwrap();
    owners_alone(&folder.database());
}

/// Every row of the tables that a change must not touch, as text.
async fn rows(database: &mut SqliteConnection) -> Vec<String> {
    let mut all = Vec::new();
    for (table, columns) in [
        ("store", "id"),
        ("sealed_key", "purpose, number, key_id, algorithm, hex(sealed), created_at"),
        ("account", "id, email, username, password_hash, created_at, disabled_at"),
        ("account_name", "kind, key, user_id"),
        (
            "session",
            "user_id, id, epoch, generation, issued_at, acknowledged_at, heals, healed_run, hex(seed), created_at, \
             last_seen_at, idle_until, absolute_until, user_agent, ip, ended_at, end_reason",
        ),
        ("revocation", "user_id, kind, ref, n, except_session, until, at"),
        ("throttle", "key, failures, last_failure, running, running_until, touched_at"),
    ] {
        let sql = format!("SELECT '{table}', json_array({columns}) FROM {table} ORDER BY 2");
        let found: Vec<(String, String)> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&mut *database).await.unwrap();
        all.extend(found.into_iter().map(|(table, row)| format!("{table} {row}")));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_the_first_version_keeps_every_row_token_key_and_password() {
    let folder = Folder::new();
    first_version(&folder).await;
    let before = rows(&mut folder.other_program().await).await;
    assert_eq!(before.len(), ROWS.lines().filter(|line| line.starts_with("INSERT")).count());

    let store = Arc::new(folder.open().await);
    assert_eq!(rows(&mut folder.other_program().await).await, before);
    let keys = store.keys().await.unwrap();
    assert_eq!(keys.len(), 2);
    assert!(keys.iter().all(|key| key.active_at == key.created_at && key.removed_at.is_none()), "{keys:?}");

    for name in ["ada", "grace", "mallory", "eve"] {
        let found = store.user_by_name(NameKey::Username(name)).await.unwrap().unwrap();
        assert_eq!(found.email.as_ref().map(EmailAddress::key), Some(format!("{name}@example.org").as_str()));
        assert!(found.roles.is_empty() && !found.has_verified_email(), "{found:?}");
        assert_eq!((found.revision, found.language, found.deleted_at), (0, None, None), "{name}");
    }
    // The tables that were made anew refer to each other.
    let mut other = folder.other_program().await;
    let stray = "INSERT INTO account_name (kind, key, user_id) VALUES ('email', 'stray', 'nobody')";
    assert!(sqlx::raw_sql(stray).execute(&mut other).await.is_err(), "a name of nobody's");
    let damage = sqlx::raw_sql("PRAGMA foreign_key_check").fetch_all(&mut other).await.unwrap();
    assert!(damage.is_empty());
    let without_address = User { username: Username::parse("without").ok(), ..User::new(user_id(9), NOW) };
    assert_eq!(store.insert_user(&without_address).await.unwrap(), UserInserted::Yes);
    assert!(store.delete_user(&without_address.id).await.unwrap());

    let bed = TestBed::over(store.clone()).await;
    assert_eq!(store.keys().await.unwrap(), keys, "no new keys");
    for access in [GOOD_ACCESS, REFRESHED_ACCESS] {
        bed.authenticate(access).await.unwrap();
    }
    for access in [ENDED_ACCESS, REVOKED_ACCESS, ALL_ENDED_ACCESS] {
        let refused = bed.authenticate(access).await;
        assert!(matches!(refused, Err(CheckError::Revoked(_))), "{refused:?}");
    }
    for (refresh, generation) in [(GOOD_REFRESH, 1), (REFRESHED_REFRESH, 1), (GRACE_REFRESH, 1)] {
        let refreshed = bed.refresh(refresh, Device::default()).await.unwrap();
        assert_eq!(refreshed.pair.session.generation.as_u32(), generation);
        bed.authenticate(&refreshed.pair.access_token).await.unwrap();
    }
    for refresh in [ENDED_REFRESH, ALL_ENDED_REFRESH, DISABLED_REFRESH] {
        let refused = bed.refresh(refresh, Device::default()).await;
        assert!(matches!(refused, Err(RefreshError::Refused(_))), "{refused:?}");
    }
    for name in ["ada", "grace", "mallory"] {
        // One attempt with a wrong password is remembered, too.
        bed.login(name, TestBed::PASSWORD).await.unwrap();
    }
    let disabled = bed.login("eve", TestBed::PASSWORD).await;
    assert!(matches!(disabled, Err(LoginError::InvalidCredentials)), "{disabled:?}");

    // And its keys have a life from now on.
    bed.sessions.keys().rotate(KeyPurpose::Access, None, true).await.unwrap();
    let keys = store.keys().await.unwrap();
    let overlap = bed.config().policy.key_overlap(KeyPurpose::Access);
    let states: Vec<_> = keys.iter().map(|key| key_state(key, &keys, bed.clock.now(), overlap)).collect();
    assert!(states.contains(&KeyState::Active), "{states:?}");
    bed.authenticate(GOOD_ACCESS).await.unwrap();
}
