//! What an operator sets, mistypes, changes later and leaves open, and what the server makes of it.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;

use tokio::process::Command;

use crate::client::{Client, claims};
use crate::server::{Folder, Server, eventually};

const LISTEN: (&str, &str) = ("COUNTERSIGN_LISTEN", "127.0.0.1:0");
const OLD: (&str, &str) = ("COUNTERSIGN_PUBLIC_URL", "http://localhost:4001");
const NEW: (&str, &str) = ("COUNTERSIGN_PUBLIC_URL", "http://localhost:4002/sso/");
const CHANGE: (&str, &str) = ("COUNTERSIGN_SETTINGS_CHANGE", "yes");
const SECRET: &str = "0123456789abcdef0123456789abcdef";

async fn signal(server: &Server, name: &str) {
    let pid = server.process_id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().await.unwrap().success());
}

#[tokio::test]
async fn a_log_level_that_is_none_is_refused_with_the_levels_and_the_one_that_was_meant() {
    let folder = Folder::new();
    for (word, meant) in [("warning", "write warn"), ("inof", "write info"), ("countersign", "target=level")]
    {
        let refused = folder.run(&[], &[LISTEN, ("COUNTERSIGN_LOG", word)]).await;
        refused.assert_refused(&[
            "COUNTERSIGN_LOG (environment)",
            meant,
            "off, error, warn, info, debug, trace",
        ]);
    }
    assert!(folder.names().is_empty(), "nothing was made");
}

#[tokio::test]
async fn sighup_ends_nothing_and_changes_what_can_change_at_once() {
    let folder = Folder::new();
    folder.write("countersign.toml", "leeway = 10\nlog = \"warn\"\n");
    let server = folder.serve().await;
    let pair = Client::new(&server).register("ada@example.org").await;
    let hangup = async |says: &str| {
        signal(&server, "-HUP").await;
        eventually(says, async || server.log().contains(says)).await;
    };
    folder.write("countersign.toml", "leeway = \"soon\"\nlog = \"info\"\n");
    hangup("are wrong, so nothing changes: leeway (file) must be a duration").await;
    Client::new(&server).me(&pair.access).await.expect(200);
    assert!(!server.log().contains("/v1/auth/me"), "{}", server.log());

    folder.write("countersign.toml", "leeway = 20\nmax_sessions = 7\nlog = \"info\"\n");
    hangup(
        "these have changed and take effect when the server is restarted: COUNTERSIGN_MAX_SESSIONS \
         COUNTERSIGN_LEEWAY",
    )
    .await;
    assert!(server.log().contains("COUNTERSIGN_LOG has changed"), "{}", server.log());
    Client::new(&server).me(&pair.access).await.expect(200);
    eventually("what is logged has changed", async || server.log().contains("/v1/auth/me")).await;

    folder.write("countersign.toml", "leeway = 10\nlog = \"info\"\n");
    hangup("the settings were read again\n").await;
    server.stop().await;
}

#[cfg(feature = "flask")]
#[tokio::test]
async fn options_of_a_flask_application_without_a_profile_are_named_in_a_warning() {
    const WARNING: &str = "options of a Flask application are set and have no effect";
    let folder = Folder::new();
    let options = [("JWT_SECRET_KEY", SECRET), ("JWT_ACCESS_TOKEN_EXPIRES", "60"), ("JWT_OF_ANOTHER", "x")];
    let server = folder.serve_with(&options).await;
    let log = server.log();
    assert!(log.contains(WARNING) && log.contains("JWT_ACCESS_TOKEN_EXPIRES JWT_SECRET_KEY"), "{log}");
    assert!(!log.contains("JWT_OF_ANOTHER") && !log.contains(SECRET), "{log}");
    server.stop().await;
    for settings in [&[("COUNTERSIGN_PROFILE", "native"), options[0]][..], &[("SECRET_KEY", SECRET)]] {
        let server = folder.serve_with(settings).await;
        assert!(!server.log().contains(WARNING), "{settings:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_server_whose_settings_differ_from_its_stores_is_refused_with_both_values() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let pair = Client::new(&server).register("ada@example.org").await;
    let hour = ("COUNTERSIGN_ACCESS_LIFETIME", "1h");
    let refused = folder.run(&[], &[LISTEN, hour, ("COUNTERSIGN_SESSION_IDLE", "7d")]).await;
    refused.assert_refused(&[
        "COUNTERSIGN_ACCESS_LIFETIME is 1h here, 15m in the store",
        "COUNTERSIGN_SESSION_IDLE is 7d here, 14d in the store",
        "COUNTERSIGN_SETTINGS_CHANGE=yes",
    ]);
    #[cfg(feature = "flask")]
    {
        let flask = [LISTEN, ("COUNTERSIGN_PROFILE", "flask-jwt"), ("JWT_SECRET_KEY", SECRET)];
        let refused = folder.run(&[], &flask).await;
        refused.assert_refused(&[
            "COUNTERSIGN_PROFILE is flask-jwt here, native in the store",
            "JWT_EXPIRATION_DELTA is 5m here, 15m in the store",
        ]);
    }
    let elsewhere = [LISTEN, ("COUNTERSIGN_SESSIONS_URL", "sqlite://sessions.db")];
    folder
        .run(&[], &elsewhere)
        .await
        .assert_refused(&["COUNTERSIGN_SESSIONS_URL is sqlite ", " here, in the database in the store"]);
    // The one that runs is none the worse, and what one server decides for itself need not agree.
    Client::new(&server).me(&pair.access).await.expect(200);
    let other =
        [("COUNTERSIGN_MAX_SESSIONS", "7"), ("COUNTERSIGN_KEY_ROTATION", "30d"), ("COUNTERSIGN_LOG", "warn")];
    folder.serve_with(&other).await.stop().await;
    server.stop().await;

    // The operator's commands go by the store's settings, whatever the shell has.
    let minted = folder.run(&["token", "mint", "ada@example.org"], &[hour]).await;
    let minted = claims(minted.stdout.trim_end());
    assert_eq!(minted["exp"].as_i64().unwrap() - minted["iat"].as_i64().unwrap(), 900);

    let changed = folder.serve_with(&[hour, CHANGE]).await;
    assert!(changed.log().contains("access_lifetime is 1h from now on, and was 15m"), "{}", changed.log());
    let hourly = claims(&Client::new(&changed).login("ada@example.org").await.access);
    assert_eq!(hourly["exp"].as_i64().unwrap() - hourly["iat"].as_i64().unwrap(), 3600);
    changed.stop().await;
    folder
        .run(&[], &[LISTEN])
        .await
        .assert_refused(&["COUNTERSIGN_ACCESS_LIFETIME is 15m here, 1h in the store"]);
    folder.serve_with(&[hour]).await.stop().await;
}

#[tokio::test]
async fn a_server_with_its_sessions_in_another_engine_of_the_same_kind_is_refused() {
    let folder = Folder::new();
    let here = folder.serve_with(&[("COUNTERSIGN_SESSIONS_URL", "sqlite://sessions.db")]).await;
    let elsewhere = [LISTEN, ("COUNTERSIGN_SESSIONS_URL", "sqlite://others.db")];
    folder
        .run(&[], &elsewhere)
        .await
        .assert_refused(&["COUNTERSIGN_SESSIONS_URL is sqlite ", " in the store"]);
    here.stop().await;
    folder.serve_with(&[("COUNTERSIGN_SESSIONS_URL", "sqlite://sessions.db")]).await.stop().await;
}

#[tokio::test]
async fn a_public_url_that_is_set_later_makes_no_token_worthless() {
    let folder = Folder::new();
    let before = folder.serve().await;
    let pair = Client::new(&before).register("ada@example.org").await;
    let issuer = claims(&pair.access)["iss"].as_str().unwrap().to_owned();
    assert!(issuer.starts_with("urn:uuid:"));
    // Also while the one before still runs, and both ways.
    let after = folder.serve_with(&[NEW]).await;
    let log = after.log();
    assert!(log.contains("the issuer has changed") && log.contains(&issuer), "{log}");
    let (here, there) = (Client::new(&after), Client::new(&before));
    let new = here.login("ada@example.org").await;
    assert_eq!(claims(&new.access)["iss"], "http://localhost:4002/sso", "without a slash at its end");
    here.me(&pair.access).await.expect(200);
    there.me(&new.access).await.expect(200);
    let newer = there.refresh(&new.refresh).await.expect(200).pair();
    here.me(&newer.access).await.expect(200);
    before.stop().await;

    // For the operator, too, whose shell has another URL or none.
    let command = async |command: &str, token: &str, settings: &[(&str, &str)]| {
        let ran = folder.run(&["token", command, token], settings).await;
        assert!(ran.status.success(), "{ran:?}");
        ran.stdout
    };
    for settings in [&[][..], &[NEW], &[OLD]] {
        for token in [&pair.access, &new.access, &newer.access] {
            assert_eq!(command("verify", token, settings).await, "ok\n");
        }
    }
    let told = command("inspect", &pair.access, &[NEW]).await;
    assert!(told.contains(&format!("{issuer}, the one before http://localhost:4002/sso")), "{told}");
    assert!(told.contains("the server would accept it"), "{told}");
    assert_eq!(command("verify", &pair.refresh, &[NEW]).await, "ok\n");

    let refreshed = here.refresh(&pair.refresh).await.expect(200).pair();
    assert_eq!(claims(&refreshed.refresh)["iss"], "http://localhost:4002/sso");
    here.logout(&refreshed.refresh).await.expect(204);
    after.stop().await;
    // And once more, by a name that is neither.
    let named = folder.serve_with(&[NEW, ("COUNTERSIGN_ISSUER", "https://auth.example.com/")]).await;
    let last = Client::new(&named);
    assert_eq!(claims(&last.login("ada@example.org").await.access)["iss"], "https://auth.example.com/");
    last.me(&newer.access).await.expect(200);
    named.stop().await;
}

#[tokio::test]
async fn sec_154_plain_http_on_other_addresses_than_loopback_needs_to_be_asked_for() {
    let folder = Folder::new();
    for address in ["0.0.0.0:0", "[::]:0"] {
        let refused = folder.run(&["--listen", address], &[]).await;
        refused.assert_refused(&["plain http", "127.0.0.1:", "--plain-http", "COUNTERSIGN_PLAIN_HTTP=yes"]);
    }
    assert!(folder.names().is_empty(), "nothing was made");
    for (arguments, settings) in [
        (&["--listen", "0.0.0.0:0", "--plain-http"][..], &[][..]),
        (&[], &[("COUNTERSIGN_LISTEN", "0.0.0.0:0"), ("COUNTERSIGN_PLAIN_HTTP", "yes")]),
        (&["--listen", "localhost:0"], &[]),
    ] {
        folder.start(folder.command(arguments, settings)).await.stop().await;
    }
}

#[tokio::test]
async fn sec_046_a_settings_file_with_a_secret_that_every_user_may_read_is_refused() {
    let secret = Folder::new().run(&["key", "secret"], &[]).await.stdout;
    let secret = secret.trim_end();
    for (file, line, profile, name) in [
        (".env", format!("COUNTERSIGN_SECRET={secret}\n"), "native", "COUNTERSIGN_SECRET"),
        ("settings.toml", format!("secret = \"{secret}\"\n"), "native", "secret"),
        (".env", format!("JWT_SECRET_KEY={SECRET}\n"), "flask-jwt-extended", "JWT_SECRET_KEY"),
        ("settings.toml", format!("JWT_SECRET_KEY = \"{SECRET}\"\n"), "flask-jwt", "JWT_SECRET_KEY"),
        (
            ".env",
            "COUNTERSIGN_SESSIONS_URL=redis://:canary@127.0.0.1:1/0\n".to_owned(),
            "native",
            "COUNTERSIGN_SESSIONS_URL",
        ),
    ] {
        if profile != "native" && cfg!(not(feature = "flask")) {
            continue;
        }
        let folder = Folder::new();
        folder.write(file, &line);
        let mut settings = vec![LISTEN, ("COUNTERSIGN_PROFILE", profile)];
        if file == "settings.toml" {
            settings.push(("COUNTERSIGN_CONFIG", file));
        }
        for mode in [0o644, 0o604, 0o602, 0o666] {
            folder.set_mode(file, mode);
            let refused = folder.run(&[], &settings).await;
            let command = format!("chmod 600 {file}");
            refused.assert_refused(&[name, file, &format!("mode {mode:03o}"), &command, "defaultMode: 0440"]);
            assert!(!refused.stderr.contains(secret) && !refused.stderr.contains("canary"), "{refused:?}");
            assert_eq!(folder.names(), [file], "nothing was made");
        }
        if !line.contains("redis") {
            for mode in [0o600, 0o640] {
                folder.set_mode(file, mode);
                folder.start(folder.command(&[], &settings)).await.stop().await;
            }
        }
    }
    // Without a secret everybody may read it, and another program's secret is that program's business.
    let folder = Folder::new();
    folder.write(".env", &format!("COUNTERSIGN_LISTEN=127.0.0.1:0\nSECRET_KEY={SECRET}\n"));
    folder.set_mode(".env", 0o644);
    folder.start(folder.command(&[], &[])).await.stop().await;
}

/// Whoever may change settings decides which database the server uses, and which pages may use its cookies.
#[tokio::test]
async fn sec_046_settings_that_every_user_may_change_are_refused() {
    const ENV: &str = ".env";
    const FILE: &str = "countersign.toml";
    const PUBLIC_URL: &str = "COUNTERSIGN_PUBLIC_URL=https://auth.example.com\n";
    const OPTION: &str = "JWT_COOKIE_CSRF_PROTECT=true\n";
    const PROFILE: [(&str, &str); 2] =
        [("COUNTERSIGN_PROFILE", "flask-jwt-extended"), ("JWT_SECRET_KEY", SECRET)];
    for (name, text, mode, settings, refused) in [
        (FILE, "public_url = \"https://auth.example.com\"\n", 0o666, &[][..], true),
        (FILE, "public_url = \"https://auth.example.com\"\n", 0o602, &[], true),
        (FILE, "", 0o666, &[], true),
        (FILE, "public_url = \"https://auth.example.com\"\n", 0o644, &[], false),
        (FILE, "public_url = \"https://auth.example.com\"\n", 0o664, &[], false),
        (ENV, PUBLIC_URL, 0o666, &[], true),
        (ENV, PUBLIC_URL, 0o644, &[], false),
        (ENV, OPTION, 0o666, &PROFILE, true),
        (ENV, OPTION, 0o644, &PROFILE, false),
        // Another program's.
        (ENV, OPTION, 0o666, &[], false),
        (ENV, "DEBUG=1\n", 0o666, &[], false),
    ] {
        // A server without the rules of Flask's libraries has none of their profiles.
        if settings == PROFILE && cfg!(not(feature = "flask")) {
            continue;
        }
        let folder = Folder::new();
        folder.write(name, text);
        folder.set_mode(name, mode);
        let arguments = if name == FILE { &["migrate", "--config", FILE][..] } else { &["migrate"] };
        let ran = folder.run(arguments, settings).await;
        if refused {
            ran.assert_refused(&[name, "every user of this machine", &format!("mode {mode:o}"), "chmod 600"]);
        } else {
            assert!(ran.status.success(), "{name} {text} {mode:o}: {ran:?}");
        }
        assert_eq!(folder.path("countersign.db").exists(), !refused);
    }
}

#[tokio::test]
async fn sec_046_a_database_that_every_user_may_read_is_refused() {
    let folder = Folder::new();
    folder.serve().await.stop().await;
    for mode in [0o644, 0o666, 0o604] {
        folder.set_mode("countersign.db", mode);
        for command in [&[][..], &["migrate"], &["key", "list"]] {
            let refused = folder.run(command, &[LISTEN]).await;
            refused.assert_refused(&["countersign.db", &format!("mode {mode:03o}"), "chmod 600"]);
        }
    }
    for mode in [0o660, 0o640, 0o600] {
        folder.set_mode("countersign.db", mode);
        folder.serve().await.stop().await;
    }
    // What lies beside it holds the same.
    folder.write("countersign.db-wal", "");
    folder.set_mode("countersign.db-wal", 0o644);
    folder.run(&[], &[LISTEN]).await.assert_refused(&["countersign.db-wal", "chmod 600"]);
}

#[tokio::test]
async fn a_secret_file_of_root_is_read_through_the_servers_group_as_kubernetes_mounts_it() {
    const SERVER: u32 = 65_534;
    const GROUP: u32 = 64_123;
    let folder = Folder::new();
    let secret = folder.run(&["key", "secret"], &[]).await.stdout;
    folder.write("secret", &secret);
    if std::fs::metadata(folder.path("secret")).unwrap().uid() != 0 {
        println!("LEFT OUT: only root can give files away");
        return;
    }
    chown(folder.path("."), Some(SERVER), Some(GROUP)).unwrap();
    chown(folder.path("secret"), Some(0), Some(GROUP)).unwrap();
    let binary = folder.path("countersign");
    // By another process: while this one had the copy open, processes that other tests start would have it open too, and
    // a file that is open to be written cannot be run.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_countersign")).arg(&binary).status().await;
    assert!(copied.unwrap().success());
    let command = || {
        let mut command = std::process::Command::new(&binary);
        command.env_clear().envs([LISTEN, ("COUNTERSIGN_SECRET_FILE", "secret")]);
        command.current_dir(folder.path(".")).uid(SERVER).gid(GROUP);
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        command
    };
    for mode in [0o440, 0o640] {
        folder.set_mode("secret", mode);
        folder.start(command()).await.stop().await;
    }
    folder.set_mode("secret", 0o444);
    let output = command().output().await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{told}");
    assert!(
        told.contains("mode 444") && told.contains("defaultMode: 0440") && told.contains("chmod 600"),
        "{told}"
    );
}

#[tokio::test]
async fn dotenv_is_read_as_flask_reads_it_and_lines_of_others_that_cannot_be_read_are_passed_over() {
    let folder = Folder::new();
    folder.write(
        ".env",
        "APP_NAME=My App\nBROKEN='one\nMORE BROKEN\nCOUNTERSIGN_DATABASE_URL=sqlite://we$ird.db\nCOUNTERSIGN_LISTEN=127.0.0.1:0\n",
    );
    let server = folder.start(folder.command(&[], &[])).await;
    assert!(folder.path("we$ird.db").exists(), "{:?}", folder.names());
    let log = server.log();
    for line in [2, 3] {
        assert!(log.contains(&format!(".env: line {line} cannot be read and is passed over")), "{log}");
    }
    assert!(!log.contains("line 1 cannot") && !log.contains("BROKEN"), "{log}");
    server.stop().await;

    folder.write(".env", "A=1\n\nCOUNTERSIGN_LISTEN='127.0.0.1:0\n");
    folder.run(&[], &[]).await.assert_refused(&["COUNTERSIGN_LISTEN (.env, line 3)", "quotes"]);
    folder.write(".env", "COUNTERSIGN_DATABASE_URL=postgres://ada:${canary}@db/auth\n");
    folder.run(&[], &[]).await.assert_refused(&["COUNTERSIGN_DATABASE_URL (.env, line 1)", "${canary}"]);
}

#[tokio::test]
async fn sighup_takes_new_texts_and_keeps_the_old_ones_where_the_new_are_wrong() {
    let folder = Folder::new();
    let texts = folder.path("texts");
    std::fs::create_dir(&texts).unwrap();
    let server = folder.serve_with(&[("COUNTERSIGN_PAGES_TEMPLATES", "texts")]).await;
    let page = async || reqwest::get(format!("{}/sign-in", server.url)).await.unwrap().text().await.unwrap();
    assert!(page().await.contains("<h1>Sign in</h1>"), "{}", page().await);
    std::fs::write(texts.join("en.toml"), "[sign_in]\ntitle = \"Come in\"\n").unwrap();
    signal(&server, "-HUP").await;
    eventually("the new text is shown", async || page().await.contains("<h1>Come in</h1>")).await;
    std::fs::write(texts.join("error.html"), "{{ nmae }}").unwrap();
    std::fs::write(texts.join("en.toml"), "[sign_in]\ntitle = \"Go away\"\n").unwrap();
    signal(&server, "-HUP").await;
    let told = "the templates were read again and are wrong, so nothing changes: COUNTERSIGN_PAGES_TEMPLATES";
    eventually(told, async || server.log().contains(told)).await;
    assert!(page().await.contains("<h1>Come in</h1>"));
    server.stop().await;
}
