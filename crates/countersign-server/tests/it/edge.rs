//! Who is asking, as proxies tell it; and how many connections there may be.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{Client, PASSWORD, send};
use crate::server::{Folder, PATIENCE, Server, eventually};

const TRUSTED: (&str, &str) = ("COUNTERSIGN_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8");

async fn whoami(client: &Client, fields: &[(&str, &str)]) -> Value {
    let mut request = client.request(Method::GET, "/v1/auth/whoami");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let answer = send(request).await.unwrap().expect(200);
    assert_eq!(answer.headers["cache-control"], "no-store");
    answer.body
}

#[tokio::test]
async fn sec_152_a_forwarded_header_counts_from_trusted_proxies_alone() {
    let spoofed = [("x-forwarded-for", "1.1.1.1, 192.0.2.1, 10.0.0.2"), ("x-forwarded-proto", "https")];
    for (settings, address, found_by, scheme) in [
        (&[][..], "127.0.0.1", "connection", "http"),
        (&[("COUNTERSIGN_TRUSTED_PROXIES", "127.0.0.2, 10.0.0.0/8")], "127.0.0.1", "connection", "http"),
        (&[TRUSTED], "192.0.2.1", "x_forwarded_for", "https"),
        (&[TRUSTED, ("COUNTERSIGN_FORWARDED_HEADER", "forwarded")], "127.0.0.1", "connection", "http"),
    ] {
        let folder = Folder::new();
        let server = folder.serve_with(settings).await;
        let client = Client::new(&server);
        let seen = whoami(&client, &spoofed).await;
        assert_eq!(
            (&seen["address"], &seen["found_by"], &seen["scheme"], &seen["trusted_proxies"]),
            (&json!(address), &json!(found_by), &json!(scheme), &json!(!settings.is_empty())),
            "{settings:?}: {seen}"
        );
        let is_ignored = address == "127.0.0.1";
        assert_eq!(seen["ignored_headers"].as_array().unwrap().is_empty(), !is_ignored, "{seen}");
        let problem = seen["problem"].as_str().unwrap_or_default();
        let tells = problem.contains("127.0.0.1, which COUNTERSIGN_TRUSTED_PROXIES does not name");
        assert_eq!(tells, is_ignored && seen["through_trusted_proxy"] == false, "{settings:?}: {seen}");
        // The same address is in the list of sessions and in the log.
        let mut register = client.request(Method::POST, "/v1/auth/register");
        for (name, value) in spoofed {
            register = register.header(name, value);
        }
        let body = json!({ "email": "ada@example.org", "password": PASSWORD });
        let pair = send(register.json(&body)).await.unwrap().expect(201).pair();
        let list = client.request(Method::GET, "/v1/auth/sessions").bearer_auth(&pair.access);
        let sessions = send(list).await.unwrap().expect(200).body;
        assert_eq!(sessions["sessions"][0]["ip"], address, "{settings:?}");
        assert!(server.log().contains(&format!("client={address} method=\"POST\"")), "{}", server.log());
        assert_eq!(
            server.log().contains("set COUNTERSIGN_TRUSTED_PROXIES=127.0.0.1"),
            !seen["through_trusted_proxy"].as_bool().unwrap()
        );
        server.stop().await;
    }
}

#[tokio::test]
async fn whoami_shows_what_an_operator_of_a_proxy_wants_to_know() {
    let folder = Folder::new();
    let server = folder.serve_with(&[TRUSTED]).await;
    let client = Client::new(&server);
    let element = "for=1.1.1.1, for=\"[2001:db8::9]:4711\";proto=https;host=auth.example.com";
    let seen = whoami(&client, &[("forwarded", element), ("x-real-ip", "1.1.1.1")]).await;
    let expected = json!({
        "address": "2001:db8::9", "found_by": "forwarded", "scheme": "https", "host": "auth.example.com",
        "trusted_proxies": true, "through_trusted_proxy": true, "ignored_headers": ["x-real-ip"], "problem": null,
    });
    assert_eq!(seen, expected);
    for (fields, problem) in [
        (&[][..], "without a header"),
        (&[("x-forwarded-for", "unknown")], "no IP address"),
        (&[("forwarded", "for=\"")], "malformed"),
        (&[("forwarded", "for=192.0.2.1"), ("x-forwarded-for", "192.0.2.2")], "different clients"),
    ] {
        let seen = whoami(&client, fields).await;
        assert!(seen["problem"].as_str().unwrap().contains(problem), "{seen}");
        assert_eq!((&seen["address"], &seen["found_by"]), (&json!("127.0.0.1"), &json!("connection")));
        assert_eq!(seen["host"], server.address());
    }
    client.post("/v1/auth/whoami", &json!({})).await.expect_error(405, "method_not_allowed");
    server.stop().await;
}

#[tokio::test]
async fn sec_152_a_cookie_login_goes_by_the_host_that_a_trusted_proxy_names() {
    // On an address of its own, not on loopback, cookies are Secure and the host that is addressed is the own one.
    let folder = Folder::new();
    let settings = [("COUNTERSIGN_LISTEN", "0.0.0.0:0"), ("COUNTERSIGN_PLAIN_HTTP", "yes"), TRUSTED];
    let mut server = folder.serve_with(&settings).await;
    server.url = server.url.replace("0.0.0.0", "127.0.0.1");
    let client = Client::new(&server);
    client.register("ada@example.org").await;
    let body = json!({ "email": "ada@example.org", "password": PASSWORD, "cookies": true });
    let login = async |host: &str, origin: &str| {
        let login = client.request(Method::POST, "/v1/auth/login").json(&body);
        let login = login.header("x-forwarded-for", "192.0.2.1").header("x-forwarded-proto", "https");
        send(login.header("x-forwarded-host", host).header("origin", origin)).await.unwrap()
    };
    login("auth.example.com", "https://auth.example.com").await.expect(200);
    login("auth.example.com", "http://auth.example.com").await.expect_error(403, "cross_site");
    login("auth.example.com", "https://evil.example").await.expect_error(403, "cross_site");
    login("other.example.com", "https://auth.example.com").await.expect_error(403, "cross_site");
    server.stop().await;
}

/// A connection whose beginning is this.
async fn connected(server: &Server, beginning: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(beginning).await.unwrap();
    stream
}

/// What `whoami` says on a connection, which stays open; `None` if the connection was closed instead.
async fn asked(stream: &mut TcpStream, fields: &str) -> Option<Value> {
    let request = format!("GET /v1/auth/whoami HTTP/1.1\r\nhost: x\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let mut piece = [0; 1024];
        match timeout(PATIENCE, stream.read(&mut piece)).await.unwrap() {
            Ok(0) | Err(_) => return None,
            Ok(read) => answer.extend_from_slice(&piece[..read]),
        }
    }
    let answer = String::from_utf8(answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// A header of the PROXY protocol, version 2, that names this client.
fn proxy_header(client: &str) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    match client.parse().unwrap() {
        std::net::IpAddr::V4(address) => {
            header.extend([0x11, 0, 12]);
            header.extend(address.octets());
            header.extend([10, 0, 0, 1]);
        }
        std::net::IpAddr::V6(address) => {
            header.extend([0x21, 0, 36]);
            header.extend(address.octets());
            header.extend([0; 16]);
        }
    }
    header.extend([0x12, 0x34, 0, 80]);
    header
}

#[tokio::test]
async fn sec_152_the_proxy_protocol_counts_from_trusted_proxies_alone() {
    let folder = Folder::new();
    let by_protocol = [TRUSTED, ("COUNTERSIGN_PROXY_PROTOCOL", "yes")];
    let server = folder.serve_with(&by_protocol).await;
    for (client, fields, address, found_by) in [
        ("192.0.2.1", "", "192.0.2.1", "proxy_protocol"),
        ("2001:db8::1", "", "2001:db8::1", "proxy_protocol"),
        ("::ffff:192.0.2.1", "", "192.0.2.1", "proxy_protocol"),
        // A client behind the proxy is not trusted itself.
        ("192.0.2.1", "x-forwarded-for: 1.1.1.1\r\n", "192.0.2.1", "proxy_protocol"),
        // A further proxy behind the proxy is.
        ("10.0.0.9", "x-forwarded-for: 1.1.1.1, 192.0.2.7\r\n", "192.0.2.7", "x_forwarded_for"),
    ] {
        let mut stream = connected(&server, &proxy_header(client)).await;
        let seen = asked(&mut stream, fields).await.unwrap();
        assert_eq!((&seen["address"], &seen["found_by"]), (&json!(address), &json!(found_by)), "{client}");
        assert_eq!(seen["through_trusted_proxy"], true, "{client}");
    }
    // Without it, a proxy that is trusted gets no answer.
    assert_eq!(asked(&mut connected(&server, b"").await, "").await, None);
    assert!(server.log().contains("COUNTERSIGN_PROXY_PROTOCOL"), "{}", server.log());
    server.stop().await;

    // From anybody else it is not HTTP.
    let trusted_elsewhere =
        [("COUNTERSIGN_TRUSTED_PROXIES", "10.0.0.1"), ("COUNTERSIGN_PROXY_PROTOCOL", "yes")];
    let server = folder.serve_with(&trusted_elsewhere).await;
    assert_eq!(asked(&mut connected(&server, b"").await, "").await.unwrap()["address"], "127.0.0.1");
    let mut stream = connected(&server, &proxy_header("192.0.2.1")).await;
    let mut answer = Vec::new();
    let _closed = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400 "), "{answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn sec_127_connections_are_counted_by_the_clients_address() {
    let folder = Folder::new();
    let settings =
        [TRUSTED, ("COUNTERSIGN_PROXY_PROTOCOL", "yes"), ("COUNTERSIGN_MAX_CONNECTIONS_PER_ADDRESS", "2")];
    let server = folder.serve_with(&settings).await;
    for (one, other, third, another_client) in [
        ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::3", "2001:db8:0:1::1"),
    ] {
        let mut open = Vec::new();
        for client in [one, other] {
            let mut stream = connected(&server, &proxy_header(client)).await;
            assert!(asked(&mut stream, "").await.is_some(), "{client}");
            open.push(stream);
        }
        assert_eq!(asked(&mut connected(&server, &proxy_header(third)).await, "").await, None, "{third}");
        let mut stream = connected(&server, &proxy_header(another_client)).await;
        assert!(asked(&mut stream, "").await.is_some(), "{another_client}");
        // A place that was left is free again.
        open.pop();
        let is_served =
            async || asked(&mut connected(&server, &proxy_header(third)).await, "").await.is_some();
        eventually("a place is free", is_served).await;
        assert!(asked(&mut open[0], "").await.is_some());
    }
    assert!(server.log().contains("COUNTERSIGN_MAX_CONNECTIONS_PER_ADDRESS"), "{}", server.log());
    server.stop().await;
}

#[tokio::test]
async fn sec_151_idle_connections_take_nobodys_place() {
    let folder = Folder::new();
    let server = folder.serve_with(&[("COUNTERSIGN_MAX_CONNECTIONS", "4")]).await;
    let mut attackers = Vec::new();
    // They may stay for longer than this test would wait.
    for _ in 0..4 {
        let mut attacker = connected(&server, b"").await;
        assert!(asked(&mut attacker, "").await.is_some());
        attackers.push(attacker);
    }
    for round in 0..8 {
        for beginning in [
            "",
            "G",
            "GET / HTTP/1.1\r\nhost",
            "POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{",
        ] {
            attackers.push(connected(&server, beginning.as_bytes()).await);
        }
        let mut client = connected(&server, b"").await;
        for _ in 0..3 {
            assert!(asked(&mut client, "").await.is_some(), "round {round}");
        }
    }
    // Those that had to give up their places were closed.
    let mut first = attackers.swap_remove(0);
    let ended = timeout(PATIENCE, first.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    server.stop().await;
}

#[tokio::test]
async fn sec_073_browsers_are_told_to_come_by_https_alone_where_the_public_url_is() {
    for (url, expected) in [
        (Some("https://auth.example.com"), Some("max-age=31536000; includeSubDomains")),
        (Some("http://localhost:8080"), None),
        (None, None),
    ] {
        let folder = Folder::new();
        let settings: Vec<_> = url.map(|url| ("COUNTERSIGN_PUBLIC_URL", url)).into_iter().collect();
        let server = folder.serve_with(&settings).await;
        let client = Client::new(&server);
        for (path, status) in [("/healthz", 200), ("/v1/auth/me", 401), ("/nowhere", 404)] {
            let answer = client.get(path).await.expect(status);
            let sent = answer.headers.get("strict-transport-security").map(|field| field.to_str().unwrap());
            assert_eq!(sent, expected, "{url:?} {path}");
        }
        server.stop().await;
    }
}
