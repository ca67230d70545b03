//! The settings as an operator checks, shows and looks them up.

use crate::server::Folder;

/// What the binary prints, and what the documentation has.
async fn assert_same(path: &str, arguments: &[&str]) {
    let printed = Folder::new().run(arguments, &[]).await;
    assert!(printed.status.success(), "{printed:?}");
    let written = std::fs::read_to_string(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert!(
        printed.stdout == written,
        "{path} is not what the code says: run cargo run -p countersign-server -- {} > {path}",
        arguments.join(" ")
    );
}

#[tokio::test]
async fn the_reference_and_the_schema_are_those_of_the_code() {
    assert_same("docs/settings.md", &["config", "reference"]).await;
    assert_same("docs/settings.schema.json", &["config", "reference", "--schema"]).await;
}

#[tokio::test]
async fn a_check_tells_everything_that_is_wrong_in_one_run() {
    let folder = Folder::new();
    folder.write(
        "countersign.toml",
        "listn = \"127.0.0.1:1\"\nlog_format = \"xml\"\n[database]\nurl = \"sqlite://a.db\"\n",
    );
    folder.write(".env", "COUNTERSIGN_KEY_ALGORITHM=es256\n");
    let settings = [("COUNTERSIGN_PUBLIC_URL", "auth.example.com"), ("COUNTERSIGN_SMTP_URL_FILE", "nowhere")];
    let refused = folder.run(&["config", "check"], &settings).await;
    refused.assert_refused(&[
        "error: 6 settings are wrong\n",
        "\n  listn (file) is not a setting; did you mean listen?\n",
        "\n  log_format (file) must be text or json\n",
        "\n  database (file) is a table, and the file has none: write database_url = … in place of url in [database]\n",
        "\n  COUNTERSIGN_KEY_ALGORITHM (.env) must be written ES256\n",
        "\n  COUNTERSIGN_PUBLIC_URL (environment) must be a URL such as https://auth.example.com",
        "\n  COUNTERSIGN_SMTP_URL_FILE (environment) cannot be read: nowhere: ",
    ]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(folder.names(), [".env", "countersign.toml"], "nothing was made");
}

#[tokio::test]
async fn a_check_reads_the_files_that_settings_name() {
    let folder = Folder::new();
    folder.write("secret", "c2hvcnQ=\n");
    folder.write("words.txt", "not digests\n");
    std::fs::create_dir(folder.path("texts")).unwrap();
    folder.write("texts/sign_in.html", "{{ nmae }}");
    let settings = [
        ("COUNTERSIGN_SECRET_FILE", "secret"),
        ("COUNTERSIGN_TLS_CERT", "no.pem"),
        ("COUNTERSIGN_TLS_KEY", "no.pem"),
        ("COUNTERSIGN_BREACHED_PASSWORDS", "no.txt"),
        ("COUNTERSIGN_MAIL_TEMPLATES", "no-folder"),
        ("COUNTERSIGN_PAGES_TEMPLATES", "texts"),
    ];
    let refused = folder.run(&["config", "check"], &settings).await;
    refused.assert_refused(&["no.pem", "secret", "no.txt", "no-folder", "there is no variable nmae"]);
    assert!(!refused.stderr.contains("c2hvcnQ"), "{refused:?}");

    let good = folder.run(&["config", "check"], &[("COUNTERSIGN_SETTINGS_CHANGE", "yes")]).await;
    assert!(good.status.success(), "{good:?}");
    assert_eq!(good.stdout, "the settings are good\n");
    assert!(good.stderr.contains("warning: COUNTERSIGN_SETTINGS_CHANGE is on"), "{good:?}");

    let missing = folder.run(&["config", "check"], &[("COUNTERSIGN_SECRET_FILE", "elsewhere")]).await;
    missing.assert_refused(&["COUNTERSIGN_SECRET_FILE: there is no elsewhere"]);
}

#[tokio::test]
async fn sec_046_what_is_shown_has_its_source_and_no_secret() {
    let folder = Folder::new();
    folder.write("countersign.toml", "access_lifetime = 600\nsessions_url = \"redis://:canary@cache/0\"\n");
    folder.write("url", "postgres://ada:canary@db/auth\n");
    folder.write(".env", "COUNTERSIGN_SECRET=canary\n");
    let settings = [("COUNTERSIGN_DATABASE_URL_FILE", "url"), ("COUNTERSIGN_LEEWAY", "5s")];
    let shown = folder.run(&["config", "show", "--listen", "127.0.0.1:1"], &settings).await;
    assert!(shown.status.success(), "{shown:?}");
    let words: Vec<Vec<&str>> = shown.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        words,
        [
            vec!["COUNTERSIGN_LISTEN", "127.0.0.1:1", "--listen"],
            vec![
                "COUNTERSIGN_DATABASE_URL",
                "postgres://ada:(secret)@db/auth",
                "environment",
                "(COUNTERSIGN_DATABASE_URL_FILE)"
            ],
            vec!["COUNTERSIGN_DATABASE_URL_FILE", "url", "environment", "(COUNTERSIGN_DATABASE_URL_FILE)"],
            vec!["COUNTERSIGN_SESSIONS_URL", "redis://:(secret)@cache/0", "countersign.toml"],
            vec!["COUNTERSIGN_ACCESS_LIFETIME", "600", "countersign.toml"],
            vec!["COUNTERSIGN_LEEWAY", "5s", "environment"],
            vec!["COUNTERSIGN_SECRET", "(secret)", ".env"],
        ]
    );
    let all = folder.run(&["config", "show", "--all", "--json"], &settings).await;
    let all: Vec<serde_json::Value> = serde_json::from_str(&all.stdout).unwrap();
    let of = |name: &str| all.iter().find(|setting| setting["name"] == name).unwrap();
    assert_eq!((&of("leeway")["value"], &of("leeway")["source"]), (&"5s".into(), &"environment".into()));
    assert_eq!((&of("log")["value"], &of("log")["default"]), (&serde_json::Value::Null, &"info".into()));
    assert_eq!(of("secret")["value"], "(secret)");
    assert!(!format!("{all:?}").contains("canary"));
}

#[tokio::test]
async fn the_file_in_the_working_folder_is_read_unless_another_is_named() {
    let folder = Folder::new();
    folder.write("countersign.toml", "database_url = \"sqlite://one.db\"\n");
    folder.write("other.toml", "database_url = \"sqlite://other.db\"\n");
    let migrated = folder.run(&["migrate"], &[]).await;
    assert_eq!(migrated.stdout, "the SQLite database one.db is up to date\n", "{migrated:?}");
    let migrated = folder.run(&["migrate"], &[("COUNTERSIGN_CONFIG", "other.toml")]).await;
    assert_eq!(migrated.stdout, "the SQLite database other.db is up to date\n", "{migrated:?}");

    folder.set_mode("countersign.toml", 0o666);
    folder.run(&["migrate"], &[]).await.assert_refused(&["countersign.toml", "mode 666", "chmod 600"]);
}

#[tokio::test]
async fn a_port_in_use_hides_nothing_else_that_is_wrong() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let address = server.address().to_owned();
    let other = folder.run(&["key", "secret"], &[]).await.stdout;
    let settings = [
        ("COUNTERSIGN_LISTEN", address.as_str()),
        ("COUNTERSIGN_ADMIN_LISTEN", address.as_str()),
        ("COUNTERSIGN_SECRET", other.trim()),
        ("COUNTERSIGN_PAGES_LOGO", "no.png"),
    ];
    let refused = folder.run(&[], &settings).await;
    refused.assert_refused(&[
        &format!("cannot listen on {address}: "),
        "(COUNTERSIGN_ADMIN_LISTEN)",
        "COUNTERSIGN_PAGES_LOGO: ",
        "no.png",
        "the secret does not open the key ",
    ]);
    server.stop().await;
}
