//! WebSockets (SEC-220): browsers open them from any page to any host and send that host's cookies along.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest;
use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{Html, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_axum::{AccessToken, Auth, AuthLayer};
use countersign_core::store::MemoryStore;
use countersign_http::LoginSessions;
use countersign_pages::Pages;
use countersign_testkit::TestBed;
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::PASSWORD;
use crate::driver::{Browser, Driver};
use crate::server::eventually;
use crate::web::{Place, pages, serve};

/// What each handshake came with and was answered with: whether there was a cookie of ours, and the status.
type Handshakes = Arc<Mutex<Vec<(bool, u16)>>>;

#[tokio::test]
async fn sec_220_a_page_of_another_origin_opens_no_websocket_with_our_cookies() {
    let Some(driver) = Driver::start().await else { return };
    let place = Place::free().await;
    let port = place.port;
    let handshakes = Handshakes::default();
    place.serve(program(port, handshakes.clone()).await);
    let own = format!("http://127.0.0.1:{port}");
    let evil = serve(pages(BTreeMap::from([("/".to_owned(), page(port))]))).await;

    let browser = driver.browser().await;
    browser.open(&format!("{own}/register")).await;
    browser.fill("#email", "ada@example.org").await;
    browser.fill("#password", PASSWORD).await;
    browser.click("main .button").await;
    let user = countersign_testapp::client::payload(&browser.cookie("countersign_access").await);
    let user = user["sub"].as_str().unwrap();

    // Our own page talks to it.
    assert_eq!(outcome(&browser, &format!("{own}/own")).await, user);
    assert_eq!(handshakes.lock().unwrap().drain(..).collect::<Vec<_>>(), [(true, 101)]);

    // For cookies, another port is the same site: all of them come along, and the origin is what tells.
    assert_eq!(outcome(&browser, &format!("http://127.0.0.1:{evil}/")).await, "refused");
    assert_eq!(handshakes.lock().unwrap().drain(..).collect::<Vec<_>>(), [(true, 403)]);

    // To other sites they do not belong.
    for host in ["localhost", "evil.localhost"] {
        assert_eq!(outcome(&browser, &format!("http://{host}:{evil}/")).await, "refused");
        let seen: Vec<_> = handshakes.lock().unwrap().drain(..).collect();
        assert!(matches!(seen[..], [(false, 401) | (true, 403)]), "{host}: {seen:?}");
    }
    assert_eq!(outcome(&browser, &format!("{own}/own")).await, user, "ada is still signed in");
}

/// What the script of such a [`page`] came to.
async fn outcome(browser: &Browser, url: &str) -> String {
    browser.open(url).await;
    eventually("the socket to open or to be refused", async || !browser.title().await.is_empty()).await;
    browser.title().await
}

/// A page whose script opens a socket, and whose title is what it hears there.
fn page(port: u16) -> String {
    format!(
        "<script>const socket = new WebSocket('ws://127.0.0.1:{port}/socket'); \
         socket.onmessage = message => document.title = message.data; \
         socket.onerror = () => document.title = 'refused'</script>"
    )
}

/// An application with our pages, a socket, and a page that uses it.
async fn program(port: u16, handshakes: Handshakes) -> Router {
    let sessions = LoginSessions::new().sign_in_page("/sign-in").confirm_page("/confirm");
    let auth = Auth::builder(MemoryStore::new(), TestBed::secrets())
        .served_at(format!("http://127.0.0.1:{port}").parse().unwrap())
        .login_sessions(sessions);
    let auth = auth.build().await.unwrap();
    let seen = middleware::from_fn(move |request: Request, next: Next| {
        let handshakes = handshakes.clone();
        async move {
            let cookies = request.headers().get(header::COOKIE).map(|field| field.as_bytes().to_vec());
            let has_ours =
                String::from_utf8_lossy(&cookies.unwrap_or_default()).contains("countersign_access=");
            let answer = next.run(request).await;
            handshakes.lock().unwrap().push((has_ours, answer.status().as_u16()));
            answer
        }
    });
    Router::new()
        .route("/own", get(async move || Html(page(port))))
        .route("/socket", get(socket).layer(AuthLayer::new(auth.clone())).layer(seen))
        .merge(Pages::new(auth).router())
}

/// Says who is there (RFC 6455), and waits until the other end closes.
async fn socket(token: AccessToken, request: Request) -> Response {
    const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let key = request.headers()[header::SEC_WEBSOCKET_KEY].as_bytes();
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key, MAGIC].concat());
    let accept = HeaderValue::try_from(STANDARD.encode(digest)).unwrap();
    let user = token.subject().to_string();
    tokio::spawn(async move {
        let mut stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        // One text, whole and not masked.
        let frame = [&[0x81, u8::try_from(user.len()).unwrap()], user.as_bytes()].concat();
        stream.write_all(&frame).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let mut answer = Response::default();
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in [
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ] {
        answer.headers_mut().insert(name, value);
    }
    answer
}
