//! Register, log in, see oneself, refresh, log out.

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{Client, PASSWORD, claims, send};
use crate::server::{Folder, eventually};

#[tokio::test]
async fn the_main_path_by_header() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);

    let body = json!({ "email": "Ada@Example.org", "username": "ada", "password": PASSWORD });
    let registered = client.post("/v1/auth/register", &body).await.expect(201);
    assert_eq!(registered.body["token_type"], "Bearer");
    // The tokens are issued a moment before the answer is written.
    assert!((895..=900).contains(&registered.body["expires_in"].as_u64().unwrap()), "{registered:?}");
    assert_eq!(registered.headers["cache-control"], "no-store");
    client.me(&registered.pair().access).await.expect(200);

    let body = json!({ "email_or_username": "ada", "password": PASSWORD });
    let first = client.post("/v1/auth/login", &body).await.expect(200).pair();
    let me = client.me(&first.access).await.expect(200);
    assert_eq!(me.body["email"], "Ada@Example.org");
    assert_eq!(me.body["username"], "ada");
    assert_eq!(me.body, registered.body["user"]);

    let second = client.refresh(&first.refresh).await.expect(200).pair();
    assert_ne!(first, second);
    assert_eq!(claims(&first.access)["fresh"], true);
    assert_eq!(claims(&second.access)["fresh"], false);
    client.me(&second.access).await.expect(200);
    // A refresh does not end the access token that is in use.
    client.me(&first.access).await.expect(200);

    client.logout(&second.refresh).await.expect(204);
    for pair in [&first, &second] {
        client.me(&pair.access).await.expect_error(401, "invalid_token");
        client.refresh(&pair.refresh).await.expect_error(401, "invalid_token");
    }
    // The session of the registration is another one.
    client.me(&registered.pair().access).await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn the_main_path_by_cookies() {
    const NAMES: [&str; 3] = ["countersign_access", "countersign_refresh", "countersign_csrf"];
    let folder = Folder::new();
    let server = folder.serve().await;
    let browser = Client::browser(&server);
    let post = |path: &'static str, csrf: &str| {
        send(browser.request(Method::POST, path).header("x-csrf-token", csrf))
    };

    let body = json!({ "email": "ada@example.org", "password": PASSWORD, "cookies": true });
    let registered = browser.post("/v1/auth/register", &body).await.expect(201);
    assert!(registered.body["access_token"].is_null() && registered.body["refresh_token"].is_null());
    let before = NAMES.map(|name| registered.cookie(name).expect(name).0);
    for (name, readable) in [(NAMES[0], false), (NAMES[1], false), (NAMES[2], true)] {
        let (_, attributes) = registered.cookie(name).unwrap();
        assert_eq!(!attributes.contains("HttpOnly"), readable, "{name}:{attributes}");
        assert!(attributes.contains("Path=/") && !attributes.contains("Secure"), "{name}:{attributes}");
    }
    browser.get("/v1/auth/me").await.expect(200);

    let [_, _, csrf] = &before;
    post("/v1/auth/refresh", "").await.unwrap().expect_error(403, "csrf_failed");
    let refreshed = post("/v1/auth/refresh", csrf).await.unwrap().expect(200);
    assert!(refreshed.body["access_token"].is_null() && refreshed.body["refresh_token"].is_null());
    let after = NAMES.map(|name| refreshed.cookie(name).expect(name).0);
    assert_ne!(before[0], after[0]);
    assert_eq!(before[2], after[2], "the CSRF value is bound to the session");
    browser.get("/v1/auth/me").await.expect(200);

    post("/v1/auth/logout", "wrong").await.unwrap().expect_error(403, "csrf_failed");
    let left = post("/v1/auth/logout", csrf).await.unwrap().expect(204);
    for name in NAMES {
        let (value, attributes) = left.cookie(name).expect(name);
        assert!(value.is_empty() && attributes.contains("Max-Age=0"), "{name}={value};{attributes}");
    }
    browser.get("/v1/auth/me").await.expect_error(401, "missing_token");

    // The old cookies, put back by hand.
    let bare = Client::new(&server);
    for [access, refresh, csrf] in [&before, &after] {
        let cookies = format!("{}={access}; {}={refresh}; {}={csrf}", NAMES[0], NAMES[1], NAMES[2]);
        let me = bare.request(Method::GET, "/v1/auth/me").header("cookie", &cookies);
        send(me).await.unwrap().expect_error(401, "invalid_token");
        let refresh = bare.request(Method::POST, "/v1/auth/refresh");
        let refresh = refresh.header("cookie", &cookies).header("x-csrf-token", csrf);
        send(refresh).await.unwrap().expect_error(401, "invalid_token");
    }
}

#[tokio::test]
async fn one_line_on_standard_output_and_sigterm_finishes_what_runs() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    client.register("ada@example.org").await;

    // A login of which the last byte is missing. The interim answer tells that it is being read.
    let body = json!({ "email": "ada@example.org", "password": PASSWORD }).to_string();
    let (most, last) = body.split_at(body.len() - 1);
    let mut half = TcpStream::connect(server.address()).await.unwrap();
    let head = format!(
        "POST /v1/auth/login HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        server.address(),
        body.len(),
    );
    half.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    half.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    half.write_all(most.as_bytes()).await.unwrap();

    server.ask_to_stop().await;
    eventually("it says that it is stopping", async || server.log().contains("stopping")).await;
    half.write_all(last.as_bytes()).await.unwrap();
    let mut answer = String::new();
    half.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("refresh_token"), "{answer}");

    let (status, rest) = server.wait().await;
    assert_eq!(status.code(), Some(0));
    assert_eq!(rest, "", "one line on standard output, no more");
}
