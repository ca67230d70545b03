//! What goes into the log, and what never does.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;

use crate::client::{Answer, Client, PASSWORD, Pair, send};
use crate::server::Folder;
use crate::wire::exchange;

/// Secrets that must not turn up anywhere.
#[derive(Debug, Default)]
struct Canaries(BTreeSet<String>);

impl Canaries {
    fn add(&mut self, secret: &str) -> String {
        self.0.insert(secret.to_owned());
        secret.to_owned()
    }

    /// A token, and its signature alone.
    fn token(&mut self, token: &str) {
        self.add(token);
        self.add(token.rsplit('.').next().unwrap());
    }

    fn pair(&mut self, pair: Pair) -> Pair {
        self.token(&pair.access);
        self.token(&pair.refresh);
        pair
    }

    /// The values of the cookies that an answer sets, which go into the next `Cookie` header.
    fn cookies(&mut self, answer: &Answer) -> (String, String) {
        let names = ["countersign_access", "countersign_refresh", "countersign_csrf"];
        let [access, refresh, csrf] = names.map(|name| answer.cookie(name).expect(name).0);
        self.token(&access);
        self.token(&refresh);
        self.add(&csrf);
        (format!("{}={access}; {}={refresh}; {}={csrf}", names[0], names[1], names[2]), csrf)
    }

    fn assert_not_in(&self, text: &str) {
        for (number, line) in text.lines().enumerate() {
            for canary in &self.0 {
                assert!(!line.contains(canary.as_str()), "line {number} holds {canary}: {line}");
            }
        }
    }
}

#[tokio::test]
async fn sec_147_no_secret_is_in_the_log_at_any_level() {
    for format in ["text", "json"] {
        let folder = Folder::new();
        let settings = [("COUNTERSIGN_LOG", "trace"), ("COUNTERSIGN_LOG_FORMAT", format)];
        let server = folder.serve_with(&settings).await;
        let client = Client::new(&server);
        let mut canaries = Canaries::default();
        walk(&client, &mut canaries).await;

        // What fails inside is logged with its causes.
        let mut database = folder.database().await;
        sqlx::query("ALTER TABLE session RENAME TO away").execute(&mut database).await.unwrap();
        let password = canaries.add("canary-passphrase-1");
        let body = json!({ "email": "ada@example.org", "password": password });
        client.post("/v1/auth/login", &body).await.expect_error(503, "unavailable");

        let secret = std::fs::read_to_string(folder.path("countersign.db.secret")).unwrap();
        canaries.add(secret.trim());
        let log = server.log();
        server.stop().await;
        assert!(canaries.0.len() > 20 && log.lines().count() > 20, "{canaries:?}\n{log}");
        assert_eq!(format == "json", log.lines().all(|line| line.starts_with('{')), "{log}");
        canaries.assert_not_in(&log);
    }
}

/// Every route, with good and bad requests.
async fn walk(client: &Client, canaries: &mut Canaries) {
    let password = canaries.add("canary-passphrase-1");
    let request = |method, path: &str| client.request(method, path);
    let post = |path: &str, body: &str| {
        request(Method::POST, path).header("content-type", "application/json").body(body.to_owned())
    };
    let account = json!({ "email": "ada@example.org", "username": "ada", "password": password });
    let pair = canaries.pair(client.post("/v1/auth/register", &account).await.expect(201).pair());
    let pair = canaries.pair(client.refresh(&pair.refresh).await.expect(200).pair());

    // Wrong passwords, also where they do not belong.
    let wrong = canaries.add("canary-wrong-password");
    client.try_login("ada@example.org", &wrong).await.expect_error(401, "invalid_credentials");
    client.try_login(&wrong, &wrong).await.expect_error(401, "invalid_credentials");
    for body in [
        json!({ "email": wrong, "password": wrong }),
        json!({ "email": "eve@example.org", "username": format!("{wrong}@"), "password": wrong }),
        json!({ "email": "eve@example.org", "password": wrong.repeat(100) }),
        json!({ wrong.as_str(): wrong, "password": [wrong] }),
    ] {
        client.post("/v1/auth/register", &body).await.expect_error(422, "invalid_fields");
    }
    // Bodies that are no JSON.
    let broken = canaries.add("canary-in-broken-json");
    for path in ["login", "register", "refresh", "logout"] {
        let body = format!("{{\"password\": \"{broken}\", \"refresh_token\": {broken}");
        let request = post(&format!("/v1/auth/{path}"), &body);
        send(request).await.unwrap().expect_error(400, "invalid_request");
    }

    // Tokens in wrong places, and what is none.
    let garbage = canaries.add("canary-garbage-token");
    send(request(Method::GET, "/v1/auth/me").bearer_auth(&garbage)).await.unwrap().expect(401);
    send(request(Method::GET, "/v1/auth/me").bearer_auth(&pair.refresh)).await.unwrap().expect(401);
    send(request(Method::GET, "/v1/auth/me").header("authorization", &garbage)).await.unwrap().expect(401);
    send(request(Method::GET, "/v1/auth/me").header("x-request-id", format!("<{garbage}>")))
        .await
        .unwrap()
        .expect(401);
    for path in ["me", "nowhere"] {
        let query = format!("/v1/auth/{path}?access_token={}&jwt={garbage}", pair.access);
        send(request(Method::GET, &query)).await.unwrap();
    }
    client.refresh(&garbage).await.expect_error(401, "invalid_token");
    client.refresh(&pair.access).await.expect_error(401, "invalid_token");
    client.logout(&garbage).await.expect_error(401, "invalid_token");
    let cookies = format!("countersign_access={garbage}; countersign_refresh={garbage}; x={garbage}");
    for (method, path) in [(Method::GET, "me"), (Method::POST, "refresh"), (Method::POST, "logout")] {
        let request = request(method, &format!("/v1/auth/{path}")).header("cookie", &cookies);
        send(request).await.unwrap().expect(401);
    }

    // Sessions and tokens that are ended; a replay.
    let second = canaries.pair(client.login_with("ada@example.org", &password).await);
    send(request(Method::GET, "/v1/auth/sessions").bearer_auth(&second.access)).await.unwrap().expect(200);
    let revoke = request(Method::DELETE, "/v1/auth/revoke-tokens").bearer_auth(&second.access);
    let revoke = revoke.json(&json!({ "tokens": [crate::client::claims(&second.access)["jti"]] }));
    send(revoke).await.unwrap().expect(200);
    client.me(&second.access).await.expect(401);
    let mut stolen = second;
    for _ in 0..2 {
        let next = canaries.pair(client.refresh(&stolen.refresh).await.expect(200).pair());
        let revoke = request(Method::DELETE, "/v1/auth/revoke-tokens").bearer_auth(&next.access);
        let revoke = revoke.json(&json!({ "tokens": [crate::client::claims(&next.access)["jti"]] }));
        send(revoke).await.unwrap().expect(200);
        stolen = next;
    }
    let third = canaries.pair(client.refresh(&stolen.refresh).await.expect(200).pair());
    client.logout(&third.refresh).await.expect(204);
    client.refresh(&third.refresh).await.expect(401);

    // By cookies.
    let body = json!({ "username": "ada", "password": password, "cookies": true });
    let (cookies, csrf) = canaries.cookies(&client.post("/v1/auth/login", &body).await.expect(200));
    let wrong_csrf = canaries.add("canary-wrong-csrf");
    for (csrf, status) in [(&wrong_csrf, 403), (&csrf, 200), (&csrf, 200)] {
        let request = request(Method::POST, "/v1/auth/refresh").header("cookie", &cookies);
        let answer = send(request.header("x-csrf-token", csrf)).await.unwrap().expect(status);
        if status == 200 {
            canaries.cookies(&answer);
        }
    }
    let foreign = request(Method::POST, "/v1/auth/refresh").header("cookie", &cookies);
    let foreign = foreign.header("origin", format!("https://{wrong_csrf}.example"));
    send(foreign).await.unwrap().expect_error(403, "cross_site");
    let out = request(Method::POST, "/v1/auth/logout").header("cookie", &cookies);
    send(out.header("x-csrf-token", &csrf)).await.unwrap().expect(204);

    // The throttle's refusals.
    for _ in 0..6 {
        client.try_login("nobody@example.org", &wrong).await;
    }
}

#[tokio::test]
async fn no_client_decides_how_long_a_line_of_the_log_is() {
    for format in ["text", "json"] {
        let folder = Folder::new();
        let settings = [("COUNTERSIGN_LOG", "debug"), ("COUNTERSIGN_LOG_FORMAT", format)];
        let server = folder.serve_with(&settings).await;
        let client = Client::new(&server);
        let access = client.register("ada@example.org").await.access;
        let long = "x".repeat(30_000);
        let method = |name: &str| Method::from_bytes(name.as_bytes()).unwrap();
        for (case, request) in [
            ("path", client.request(Method::GET, &format!("/{long}"))),
            ("query", client.request(Method::GET, &format!("/healthz?{long}"))),
            (
                "scope",
                client.request(Method::GET, &format!("/v1/auth/verify?scope={long}")).bearer_auth(&access),
            ),
            ("method", client.request(method(&long), "/healthz")),
            ("agent", client.request(Method::GET, "/healthz").header("user-agent", &long)),
            (
                "origin",
                client.request(Method::POST, "/v1/auth/refresh").header("origin", format!("https://{long}")),
            ),
            ("host", client.request(Method::GET, "/healthz").header("host", &long)),
            ("id", client.request(Method::GET, "/healthz").header("x-request-id", &long)),
            ("bearer", client.request(Method::GET, "/v1/auth/me").bearer_auth(&long)),
            ("scheme", client.request(Method::GET, "/v1/auth/me").header("authorization", &long)),
            (
                "cookie",
                client
                    .request(Method::GET, "/v1/auth/me")
                    .header("cookie", format!("countersign_access={long}")),
            ),
            ("type", client.request(Method::POST, "/v1/auth/login").header("content-type", &long).body("{}")),
            (
                "encoding",
                client.request(Method::POST, "/v1/auth/login").header("content-encoding", &long).body("{}"),
            ),
            (
                "name",
                client
                    .request(Method::POST, "/v1/auth/login")
                    .json(&json!({ "email": long, "password": long })),
            ),
            ("member", client.request(Method::POST, "/v1/auth/login").json(&json!({ long.clone(): 1 }))),
        ] {
            assert!(send(request).await.is_ok(), "{case}");
        }
        // What no client writes that takes itself seriously.
        for path in ["\"", "\\", "'", "%22", "\u{e9}"] {
            let request =
                format!("GET /{} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", path.repeat(30_000));
            exchange(&server, &request).await;
        }
        let log = server.log();
        server.stop().await;
        assert!(log.contains("30001 bytes"), "the path is cut, and says so: {log}");
        for line in log.lines() {
            assert!(line.len() < 2_000, "{format}: {} bytes: {}", line.len(), &line[..500]);
        }
    }
}

#[tokio::test]
async fn sec_148_untrusted_text_forges_no_line_of_the_log_and_moves_no_cursor() {
    const FORGED: &str = "\r\n2026-01-01T00:00:00Z  INFO forged: all is well";
    const CONTROL: &str = "\u{1b}[2J\u{9b}31m\u{202e}\u{7}\u{8}";
    for format in ["text", "json"] {
        let folder = Folder::new();
        let settings = [("COUNTERSIGN_LOG", "debug"), ("COUNTERSIGN_LOG_FORMAT", format)];
        let server = folder.serve_with(&settings).await;
        let client = Client::new(&server);
        client.register("ada@example.org").await;
        let bad = format!("ada{FORGED}{CONTROL}@example.org");
        client.try_login(&bad, PASSWORD).await;
        let encoded: String =
            format!("{FORGED}{CONTROL}").bytes().map(|byte| format!("%{byte:02X}")).collect();
        for path in [
            format!("/{encoded}"),
            format!("/sign-in?next={encoded}"),
            format!("/v1/auth/verify?scope={encoded}"),
        ] {
            send(client.request(Method::GET, &path)).await.unwrap();
        }
        // A field has neither line ends nor controls, but the rest of Latin-1.
        for name in
            ["user-agent", "origin", "x-request-id", "accept-language", "x-forwarded-for", "authorization"]
        {
            let value = reqwest::header::HeaderValue::from_bytes(b"x\x9b31m \xe2\x80\xae forged").unwrap();
            let request = client.request(Method::POST, "/v1/auth/login").header(name, value);
            send(request.json(&json!({ "email": "ada@example.org", "password": PASSWORD }))).await.unwrap();
        }
        server.ask_to_stop().await;
        let path = server.log_path().to_owned();
        server.wait().await;
        let log = std::fs::read_to_string(path).unwrap();
        let controls = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
        for line in log.lines() {
            assert!(!line.contains(controls), "{line:?}");
            assert!(!line.starts_with("2026-01-01"), "{line:?}");
        }
        assert!(log.contains("forged") || log.contains("%66"), "the texts are in the log, as text: {log}");
    }
}

#[tokio::test]
async fn sec_149_what_is_logged_of_a_request_has_the_id_of_its_answer_at_any_level() {
    for level in ["error", "warn", "info"] {
        let folder = Folder::new();
        let settings = [("COUNTERSIGN_LOG", level), ("COUNTERSIGN_LOG_FORMAT", "json")];
        let server = folder.serve_with(&settings).await;
        let client = Client::new(&server);
        let mut database = folder.database().await;
        sqlx::query("ALTER TABLE session RENAME TO away").execute(&mut database).await.unwrap();
        let account = json!({ "email": "ada@example.org", "password": "correct horse battery staple" });
        let answer = client.post("/v1/auth/register", &account).await.expect_error(503, "unavailable");
        let id = answer.headers["x-request-id"].to_str().unwrap();
        let log = server.log();
        let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let causes: Vec<_> =
            lines.filter(|line| line["level"] == "ERROR" && line.to_string().contains("session")).collect();
        assert!(!causes.is_empty(), "{log}");
        for cause in causes {
            assert_eq!(cause["span"]["id"], id, "{cause}");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn sec_148_no_client_writes_a_line_of_the_log_or_acts_on_a_terminal() {
    for format in ["text", "json"] {
        let folder = Folder::new();
        let settings = [
            ("COUNTERSIGN_LOG", "debug"),
            ("COUNTERSIGN_LOG_FORMAT", format),
            // With it no mail is written to the log, which has lines.
            ("COUNTERSIGN_PUBLIC_URL", "https://auth.example.org"),
        ];
        let server = folder.serve_with(&settings).await;
        let client = Client::new(&server);
        let hostile = "x\r\n2026-01-01T00:00:00Z  INFO forged\u{1b}[2J\u{9b}31m\u{202e}";
        for member in ["email", "username", "password", hostile] {
            let mut body = json!({ "email": "ada@example.org", "password": "correct horse battery staple" });
            body[member] = hostile.into();
            client.post("/v1/auth/login", &body).await;
            client.post("/v1/auth/register", &body).await;
        }
        for part in ["%0d%0aforged%1b[2J%9b", "\u{9b}31mforged\u{85}", "\u{202e}forged\u{2028}"] {
            let head =
                format!("GET /{part}?{part} HTTP/1.1\r\nhost: x\r\nuser-agent: {part}\r\norigin: {part}\r\n");
            let rest = format!(
                "cookie: countersign_access={part}\r\nauthorization: {part}\r\nconnection: close\r\n\r\n"
            );
            exchange(&server, &(head + &rest)).await;
        }
        let log = server.log();
        server.stop().await;
        assert!(log.lines().count() > 5, "{log}");
        for line in log.lines() {
            let begins =
                if format == "json" { line.starts_with("{\"timestamp\"") } else { line.starts_with("20") };
            assert!(begins && !line.starts_with("2026-01-01T00:00:00Z"), "{line:?}");
            assert!(!line.chars().any(|c| c.is_control() || "\u{202e}\u{2028}".contains(c)), "{line:?}");
        }
    }
}
