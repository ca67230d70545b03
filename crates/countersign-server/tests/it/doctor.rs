//! `countersign doctor`: planted faults, each of which it finds, and says what to do.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::IntoResponse as _;
use rcgen::{CertificateParams, CertifiedKey, KeyPair, date_time_ymd, generate_simple_self_signed};
use serde_json::Value;
use sqlx::Connection as _;
use tokio::net::TcpListener;

use crate::server::Folder;

/// What a doctor in this folder says: the status, and each finding that is not good, as `about severity: found → remedy`.
async fn examined(folder: &Folder, settings: &[(&str, &str)], flags: &[&str]) -> (i32, Vec<String>) {
    let arguments = [&["doctor", "--json"], flags].concat();
    let ran = folder.run(&arguments, settings).await;
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    let findings = findings.filter(|finding| finding["severity"] != "good").map(|finding| {
        let [about, severity, found, remedy] =
            ["about", "severity", "found", "remedy"].map(|name| text(finding, name));
        format!("{about} {severity}: {found} → {remedy}")
    });
    (ran.status.code().unwrap(), findings.collect())
}

/// Asserts that exactly one thing is wrong, so bad, and told in these words.
async fn finds(folder: &Folder, settings: &[(&str, &str)], flags: &[&str], severity: i32, words: &[&str]) {
    let (status, findings) = examined(folder, settings, flags).await;
    assert_eq!(status, severity, "{findings:?}");
    let level = if severity == 2 { " error: " } else { " warning: " };
    let found = findings.iter().filter(|finding| words.iter().all(|word| finding.contains(word)));
    assert_eq!(found.filter(|finding| finding.contains(level)).count(), 1, "{words:?} in {findings:#?}");
    let others: Vec<_> = findings.iter().filter(|finding| !finding.contains(" note: ")).collect();
    assert_eq!(others.len(), 1, "nothing else is said to be wrong: {others:#?}");
}

const OFFLINE: &[&str] = &["--offline"];

/// A folder in which a server has run.
async fn used() -> Folder {
    let folder = Folder::new();
    folder.serve().await.stop().await;
    folder
}

#[tokio::test]
async fn where_all_is_well_nothing_is_said_to_be_wrong_and_nothing_changes() {
    let folder = Folder::new();
    let (status, findings) = examined(&folder, &[], &[]).await;
    assert_eq!(status, 0);
    assert!(
        findings.iter().any(|finding| finding.contains("countersign.db is not there yet")),
        "{findings:?}"
    );
    assert!(folder.names().is_empty(), "it makes nothing");

    let migrated = Folder::new();
    migrated.run(&["migrate"], &[]).await;
    let (status, findings) = examined(&migrated, &[], &[]).await;
    assert_eq!(status, 0, "{findings:?}");
    assert!(
        findings.iter().any(|finding| finding.starts_with("keys note: there are none yet")),
        "{findings:?}"
    );
    assert!(
        !migrated.names().contains(&"countersign.db.secret".to_owned()),
        "it makes neither secret nor keys"
    );

    let server = folder.serve().await;
    let running = examined(&folder, &[], &[]).await;
    server.stop().await;
    let stopped = examined(&folder, &[], &[]).await;
    for (status, findings) in [&running, &stopped] {
        assert_eq!(*status, 0, "{findings:?}");
        assert!(
            findings.iter().all(|finding| finding.starts_with("public note: there is no public URL")),
            "{findings:?}"
        );
    }
    let shown = folder.run(&["doctor"], &[]).await.stdout;
    for line in ["settings     good", "files        good", "keys         good", "database     good"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert!(shown.contains("servers      good     no server runs"), "{shown}");
}

#[tokio::test]
async fn planted_faults_in_settings_are_found() {
    let folder = Folder::new();
    for (settings, severity, words) in [
        // 1: a name that is none.
        (
            &[("COUNTERSIGN_LISTN", "127.0.0.1:1")][..],
            2,
            &["settings", "did you mean COUNTERSIGN_LISTEN?"][..],
        ),
        // 2: plain http to everybody.
        (
            &[
                ("COUNTERSIGN_LISTEN", "0.0.0.0:8080"),
                ("COUNTERSIGN_PUBLIC_URL", "https://auth.example.com"),
                ("COUNTERSIGN_TRUSTED_PROXIES", "10.0.0.1"),
                MAIL[0],
                MAIL[1],
            ],
            2,
            &["settings", "this server speaks plain http"],
        ),
        // 3: nobody could verify an address.
        (
            &[
                ("COUNTERSIGN_REGISTRATION", "verify-first"),
                ("COUNTERSIGN_LISTEN", "0.0.0.0:8080"),
                ("COUNTERSIGN_PLAIN_HTTP", "yes"),
                ("COUNTERSIGN_PUBLIC_URL", "http://localhost:8080"),
            ],
            2,
            &["settings", "verify-first", "COUNTERSIGN_SMTP_URL"],
        ),
        // 4: a public URL without TLS.
        (
            &[("COUNTERSIGN_PUBLIC_URL", "http://auth.example.com"), MAIL[0], MAIL[1]],
            2,
            &["public", "cookies are not Secure", "https://"],
        ),
        // 5: a proxy that is not trusted.
        (
            &[("COUNTERSIGN_PUBLIC_URL", "https://auth.example.com"), MAIL[0], MAIL[1]],
            1,
            &["public", "no proxy is trusted", "COUNTERSIGN_TRUSTED_PROXIES"],
        ),
        // 6: an origin of another site, whose pages get no cookies.
        (
            &[
                ("COUNTERSIGN_PUBLIC_URL", "https://auth.example.com"),
                ("COUNTERSIGN_TRUSTED_PROXIES", "10.0.0.1"),
                ("COUNTERSIGN_ALLOWED_ORIGINS", "https://app.example.org"),
                MAIL[0],
                MAIL[1],
            ],
            1,
            &["public", "another site", "https://app.example.org"],
        ),
        // 7: no mail.
        (
            &[
                ("COUNTERSIGN_PUBLIC_URL", "https://auth.example.com"),
                ("COUNTERSIGN_TRUSTED_PROXIES", "10.0.0.1"),
            ],
            1,
            &["mail", "nobody can reset a password"],
        ),
        // 8: a left-over.
        (&[("COUNTERSIGN_SETTINGS_CHANGE", "yes")], 1, &["settings", "take it out"]),
        // 9: no secret for a shared database; and the database, which does not answer, is another fault.
    ] {
        finds(&folder, settings, OFFLINE, severity, words).await;
    }
    let shared = [("COUNTERSIGN_DATABASE_URL", "postgres://ada:geheim@127.0.0.1:1/auth")];
    let (status, findings) = examined(&folder, &shared, OFFLINE).await;
    let told = findings.join("\n");
    assert!(
        status == 2
            && told.contains("needs a secret that they share")
            && told.contains("countersign key secret"),
        "{told}"
    );
    // 10: a database that cannot be reached.
    assert!(
        told.contains("database error: cannot use the PostgreSQL database auth at 127.0.0.1")
            && !told.contains("geheim"),
        "{told}"
    );
    assert!(folder.names().is_empty(), "it makes nothing");
}

const MAIL: [(&str, &str); 2] = [
    ("COUNTERSIGN_SMTP_URL", "smtp://127.0.0.1:1?tls=none"),
    ("COUNTERSIGN_MAIL_FROM", "no-reply@example.com"),
];

#[tokio::test]
async fn planted_faults_in_files_and_mail_are_found() {
    let folder = used().await;
    // 11: a settings file that its group may change.
    folder.write("countersign.toml", "log = \"info\"\n");
    folder.set_mode("countersign.toml", 0o660);
    finds(&folder, &[], OFFLINE, 1, &["files", "its group may change the settings file", "chmod g-w"]).await;
    folder.set_mode("countersign.toml", 0o600);
    // 12: a folder in which everybody may replace the database.
    folder.set_mode(".", 0o777);
    finds(
        &folder,
        &[],
        OFFLINE,
        2,
        &["files", "every user of this machine may change the database's folder"],
    )
    .await;
    folder.set_mode(".", 0o700);
    // 13: a database that everybody may read (SEC-046).
    folder.set_mode("countersign.db", 0o644);
    finds(&folder, &[], OFFLINE, 2, &["database", "is open to every user", "chmod 600"]).await;
    folder.set_mode("countersign.db", 0o600);
    // 14: a secret of another store.
    let kept = std::fs::read_to_string(folder.path("countersign.db.secret")).unwrap();
    let other = folder.run(&["key", "secret"], &[]).await.stdout;
    folder.write("countersign.db.secret", &other);
    finds(&folder, &[], OFFLINE, 2, &["database", "secret"]).await;
    folder.write("countersign.db.secret", &kept);
    // 15: no database, but something else under its name.
    let database = std::fs::read(folder.path("countersign.db")).unwrap();
    folder.write("countersign.db", "no database, but a text of some length, so that it is read");
    finds(&folder, &[], OFFLINE, 2, &["database", "cannot use the SQLite database"]).await;
    std::fs::write(folder.path("countersign.db"), database).unwrap();
    // 16: a mail server that is not there.
    finds(&folder, &MAIL, &[], 2, &["mail", "127.0.0.1:1", "no connection"]).await;

    // 17 and 18: a certificate that has expired, and one of another host.
    let public = ("COUNTERSIGN_PUBLIC_URL", "https://localhost:1");
    let tls = [("COUNTERSIGN_TLS_CERT", "certificate.pem"), ("COUNTERSIGN_TLS_KEY", "key.pem"), public];
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 3, 1));
    let key = KeyPair::generate().unwrap();
    folder.write("certificate.pem", &params.self_signed(&key).unwrap().pem());
    folder.write("key.pem", &key.serialize_pem());
    let change = ("COUNTERSIGN_ISSUER", "x");
    let (status, findings) = examined(&folder, &[tls[0], tls[1], tls[2], change], OFFLINE).await;
    let told = findings.join("\n");
    assert!(status == 2 && told.contains("certificate error") && told.contains("has expired"), "{told}");
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["example.com".to_owned()]).unwrap();
    folder.write("certificate.pem", &cert.pem());
    folder.write("key.pem", &signing_key.serialize_pem());
    let (status, findings) = examined(&folder, &tls, OFFLINE).await;
    let told = findings.join("\n");
    assert!(
        status == 2 && told.contains("certificate error") && told.contains("is not for localhost"),
        "{told}"
    );
    // 19: the store's servers have agreed on another issuer.
    assert!(told.contains("settings error: COUNTERSIGN_ISSUER is https://localhost:1 here"), "{told}");
}

#[tokio::test]
async fn planted_faults_in_the_database_are_found() {
    let folder = used().await;
    let change = async |sql: &'static str| {
        let mut database = folder.database().await;
        sqlx::query(sql).execute(&mut database).await.unwrap();
        database.close().await.unwrap();
    };
    // 20: a key that should have been changed long ago.
    change("UPDATE sealed_key SET active_at = active_at - 200 * 86400000 WHERE purpose = 'access'").await;
    finds(&folder, &[], OFFLINE, 1, &["keys", "access tokens signs for 200 days", "after 90", "key rotate"])
        .await;
    change("UPDATE sealed_key SET active_at = active_at + 200 * 86400000 WHERE purpose = 'access'").await;
    // 21: a clock that was set back.
    change("UPDATE sealed_key SET created_at = created_at + 86400000").await;
    finds(&folder, &[], OFFLINE, 2, &["clock", "was set back", "timedatectl"]).await;
    change("UPDATE sealed_key SET created_at = created_at - 86400000").await;
    // 22: a server of another version.
    change("DELETE FROM audit WHERE name = 'server_stopped'").await;
    change(
        "UPDATE audit SET detail = replace(detail, 'version ', 'version 99.') WHERE name = 'server_started'",
    )
    .await;
    finds(&folder, &[], OFFLINE, 1, &["servers", "a server of version 99.", "one by one"]).await;
    change("DELETE FROM audit").await;
    // 23: mails that could not be sent.
    change(
        "INSERT INTO outbox (id, recipient, kind, sealed, created_at, attempts, dead_since, last_error) VALUES \
         ('00000000-0000-4000-8000-000000000001', 'ada@example.org', 'verify_address', x'00', 0, 5, 0, '550 no such user')",
    )
    .await;
    finds(
        &folder,
        &[],
        OFFLINE,
        1,
        &["mail", "mails that could not be sent: 1", "550 no such user", "mail retry"],
    )
    .await;
    change("DELETE FROM outbox").await;
    // 24: tables of an earlier version.
    change("DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)").await;
    finds(&folder, &[], OFFLINE, 2, &["database", "not up to date", "countersign migrate"]).await;
}

/// A proxy that names its client, and passes on to the server; or that answers by itself.
async fn proxy(to: Option<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    let to = Arc::new(to);
    let app = Router::new().fallback(move |request: Request| {
        let to = to.clone();
        async move {
            let Some(to) = &*to else { return "a shop".into_response() };
            let url = format!("{to}{}", request.uri());
            let answer = reqwest::Client::new()
                .get(url)
                .header("x-forwarded-for", "203.0.113.7")
                .send()
                .await
                .unwrap();
            let headers = answer.headers().clone();
            let mut response = Body::from(answer.bytes().await.unwrap()).into_response();
            response.headers_mut().extend(headers);
            response
        }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

#[tokio::test]
async fn planted_faults_of_proxies_are_found() {
    let folder = Folder::new();
    let nobody = proxy(None).await;
    // 25: another program behind the public URL.
    finds(
        &folder,
        &[("COUNTERSIGN_PUBLIC_URL", &nobody)],
        &[],
        2,
        &["proxy", "something else answers", "docs/proxies.md"],
    )
    .await;
    // 26: nobody at all.
    let closed = ("COUNTERSIGN_PUBLIC_URL", "http://localhost:1");
    finds(&folder, &[closed], &[], 2, &["proxy", "does not answer", "--offline"]).await;
    // 27: the server does not trust its proxy.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let address = format!("127.0.0.1:{port}");
    let public = proxy(Some(format!("http://{address}"))).await;
    let settings = [("COUNTERSIGN_LISTEN", &*address), ("COUNTERSIGN_PUBLIC_URL", &*public)];
    let server = folder.serve_with(&settings).await;
    finds(
        &folder,
        &settings,
        &[],
        1,
        &["proxy", "headers of a proxy came from 127.0.0.1", "COUNTERSIGN_TRUSTED_PROXIES"],
    )
    .await;
    server.stop().await;
    let trusting = [settings[0], settings[1], ("COUNTERSIGN_TRUSTED_PROXIES", "127.0.0.1")];
    let server = folder.serve_with(&trusting).await;
    let (status, findings) = examined(&folder, &trusting, &[]).await;
    assert_eq!((status, findings.len()), (0, 0), "{findings:?}");
    server.stop().await;
}
