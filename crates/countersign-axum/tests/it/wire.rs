//! Requests as bytes, over a real connection: what no client library would send.

use axum::Router;
use axum::routing::get;
use countersign_axum::{AccessToken, AuthLayer};
use http::{Request, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::app::TestApp;
use crate::client::ACCESS;

/// Serves a protected route, and says where.
async fn serve(app: &TestApp) -> std::net::SocketAddr {
    let router = Router::new()
        .route("/hello", get(async |_: AccessToken| "in").post(async |_: AccessToken| "in"))
        .layer(AuthLayer::new(app.auth.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// The status of the answer to these header lines.
async fn raw(address: std::net::SocketAddr, method: &str, lines: &[String]) -> u16 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let lines = lines.join("\r\n");
    let request = format!(
        "{method} /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n{lines}{}\r\n",
        if lines.is_empty() { "" } else { "\r\n" }
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// The same over HTTP/2.
async fn raw_h2(address: std::net::SocketAddr, fields: &[(&str, String)]) -> StatusCode {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::get("http://x/hello");
    for (name, value) in fields {
        request = request.header(*name, value);
    }
    let mut client = client.ready().await.unwrap();
    let (answer, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
    answer.await.unwrap().status()
}

#[tokio::test]
async fn sec_048_sec_190_a_repeated_or_folded_authorization_lets_nobody_in() {
    let app = TestApp::new().await;
    let token = app.register("ada").await.access_token;
    let cookie = app.signed_in_browser("bob").await.cookie(ACCESS).to_owned();
    let address = serve(&app).await;
    let bearer = format!("authorization: Bearer {token}");
    let junk = "Authorization: Bearer x".to_owned();
    let cookie_line = format!("cookie: {ACCESS}={cookie}");
    for (case, lines, expected) in [
        ("one", vec![bearer.clone()], 200),
        ("one, upper case", vec![bearer.to_uppercase().replace(&token.to_uppercase(), &token)], 200),
        ("spaces around", vec![format!("authorization: \t Bearer {token} \t")], 200),
        ("the same twice", vec![bearer.clone(), bearer.clone()], 400),
        ("good, then junk", vec![bearer.clone(), junk.clone()], 400),
        ("junk, then good", vec![junk.clone(), bearer.clone()], 400),
        ("apart", vec![bearer.clone(), "x-between: 1".to_owned(), junk.clone()], 400),
        ("another scheme first", vec!["authorization: Basic YTpi".to_owned(), bearer.clone()], 400),
        ("listed", vec![format!("{bearer}, Bearer x")], 400),
        ("twice beside a good cookie", vec![junk.clone(), junk.clone(), cookie_line.clone()], 400),
        ("the cookie alone", vec![cookie_line.clone()], 200),
    ] {
        assert_eq!(raw(address, "GET", &lines).await, expected, "{case}");
    }
    for (case, lines) in [
        ("folded", vec![format!("authorization: Bearer\r\n {token}")]),
        ("a space before the colon", vec![format!("authorization : Bearer {token}")]),
        ("a bare line feed", vec![format!("x: y\nauthorization: Bearer {token}\r\nauthorization: Bearer x")]),
        ("a null", vec![format!("authorization: Bearer {token}\0")]),
    ] {
        let status = raw(address, "GET", &lines).await;
        assert!([400, 401].contains(&status), "{case}: {status}");
    }
}

#[tokio::test]
async fn sec_048_sec_190_nor_over_http_2() {
    let app = TestApp::new().await;
    let token = app.register("ada").await.access_token;
    let cookie = app.signed_in_browser("bob").await.cookie(ACCESS).to_owned();
    let address = serve(&app).await;
    let good = ("authorization", format!("Bearer {token}"));
    let junk = ("authorization", "Bearer x".to_owned());
    let ours = ("cookie", format!("{ACCESS}={cookie}"));
    for (case, fields, expected) in [
        ("one", vec![good.clone()], 200),
        ("the same twice", vec![good.clone(), good.clone()], 400),
        ("good, then junk", vec![good.clone(), junk.clone()], 400),
        ("junk, then good", vec![junk.clone(), good.clone()], 400),
        ("twice beside a good cookie", vec![junk.clone(), junk, ours.clone()], 400),
        ("cookies in fields of their own", vec![("cookie", "a=b".to_owned()), ours.clone()], 200),
        ("our cookie in two fields", vec![ours.clone(), ours], 401),
    ] {
        assert_eq!(raw_h2(address, &fields).await, expected, "{case}");
    }
}

#[tokio::test]
async fn sec_186_a_cookie_bomb_leaves_the_session_working_or_is_a_clean_431() {
    let app = TestApp::new().await;
    let cookie = app.signed_in_browser("ada").await.cookie(ACCESS).to_owned();
    let address = serve(&app).await;
    let ours = format!("{ACCESS}={cookie}");
    let many =
        |count: usize, value: &str| (0..count).map(|i| format!("junk{i}={value}; ")).collect::<String>();
    for (case, cookies, expected) in [
        ("100 cookies", format!("cookie: {}{ours}", many(100, "x")), &[200][..]),
        ("not ASCII", format!("cookie: é={}; {ours}", "é".repeat(100)), &[200]),
        ("16 KiB", format!("cookie: {}{ours}", many(100, &"x".repeat(160))), &[200, 431]),
        ("1 MiB", format!("cookie: {}{ours}", many(1000, &"x".repeat(1000))), &[431]),
    ] {
        let status = raw(address, "GET", &[cookies]).await;
        assert!(expected.contains(&status), "{case}: {status}");
    }
    assert_eq!(
        raw(address, "GET", &[format!("cookie: {ours}")]).await,
        200,
        "and the next request is as before"
    );
}
