//! What protecting a route costs: the same handler open, open behind the layer, and protected, in one axum router.
//!
//! First in process, where nothing else hides it: nanoseconds and allocations of one request. Then over loopback, as
//! requests a second, beside axum with `jsonwebtoken` by hand. Every variant is measured in turn, round after round,
//! so that whatever else the machine does meets all of them; the middle round counts, and the spread is shown.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "a benchmark: it measures time and prints it"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::routing::get;
use countersign_axum::{AccessToken, Auth, AuthLayer};
use countersign_core::flow::Presentation;
use countersign_core::model::{Device, KeyPurpose};
use countersign_core::store::MemoryStore;
use countersign_jwt::{Algorithm, Epoch, UserId};
use countersign_testkit::TestBed;
use http::request::Parts;
use http::{Request, StatusCode, header};
use jsonwebtoken::{DecodingKey, EncodingKey, Validation};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

/// How many rounds there are; the median of them counts.
const ROUNDS: usize = 15;
/// How long one variant is loaded in one round.
const TURN: Duration = Duration::from_millis(400);
/// Connections that send one request after the other.
const CONNECTIONS: usize = 16;
/// How many tokens are distinct where they are.
const DISTINCT: usize = 100_000;
/// Requests in process in one round.
const ONESHOTS: usize = 20_000;
/// Requests in process that are made and then sent together.
const BATCH: usize = 50;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ByHand {
    sub: String,
    exp: u64,
    iat: u64,
    jti: String,
    #[serde(rename = "type")]
    token_type: String,
    fresh: bool,
}

/// What people write who have `jsonwebtoken` and axum.
struct HandMade(ByHand);

#[derive(Clone)]
struct HandKey(Arc<(DecodingKey, Validation)>);

impl<S: Send + Sync> FromRequestParts<S> for HandMade {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let HandKey(key) = parts.extensions.get::<HandKey>().ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
        let field = parts.headers.get(header::AUTHORIZATION).and_then(|field| field.to_str().ok());
        let token = field.and_then(|field| field.strip_prefix("Bearer ")).ok_or(StatusCode::UNAUTHORIZED)?;
        let data = jsonwebtoken::decode::<ByHand>(token, &key.0, &key.1);
        data.map(|data| Self(data.claims)).map_err(|_| StatusCode::UNAUTHORIZED)
    }
}

/// The least that an extractor can cost.
struct Nothing;

impl<S: Send + Sync> FromRequestParts<S> for Nothing {
    type Rejection = StatusCode;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        Ok(Self)
    }
}

async fn extracted(_: Nothing) -> &'static str {
    "ok"
}

async fn open() -> &'static str {
    "ok"
}

async fn protected(token: AccessToken) -> &'static str {
    assert!(!token.subject().as_str().is_empty());
    "ok"
}

async fn by_hand(HandMade(claims): HandMade) -> &'static str {
    assert!(!claims.sub.is_empty());
    "ok"
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (auth, repeated, distinct) = runtime.block_on(tokens());
    let (hand_key, hand_repeated, hand_distinct) = hand_made(distinct.len());
    let bare = Router::new().route("/", get(open));
    let app = Router::new()
        .route("/open", get(open))
        .route("/nothing", get(extracted))
        .route("/protected", get(protected))
        .layer(AuthLayer::new(auth))
        .merge(
            Router::new()
                .route("/by-hand", get(by_hand))
                .route("/by-hand/open", get(open))
                .layer(axum::Extension(hand_key)),
        )
        .merge(bare);

    in_process(&runtime, &app, [&repeated, &hand_repeated], [&distinct, &hand_distinct]);
    let address = serve(app);
    over_loopback(&runtime, address, &repeated, &distinct, &hand_repeated, &hand_distinct);
}

/// An `Auth` whose access tokens are HS256, one token, and many.
async fn tokens() -> (Auth, String, Vec<String>) {
    let auth = Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await.unwrap();
    auth.sessions().keys().rotate(KeyPurpose::Access, Some(Algorithm::Hs256), false).await.unwrap();
    // The key signs once every node has had the time to read it.
    tokio::time::sleep(Duration::from_secs(6)).await;
    auth.sessions().keys().reload().await.unwrap();
    let mut all = Vec::with_capacity(DISTINCT + 1);
    for number in 0..=DISTINCT {
        // So many users that none has more sessions than are allowed, which would end the oldest.
        let user = UserId::new(&format!("user-{}", number % 2000)).unwrap();
        let begun =
            auth.sessions().begin(user, Epoch::FIRST, Presentation::Explicit, Device::default()).await;
        all.push(begun.unwrap().access_token);
    }
    let repeated = all.pop().unwrap();
    let header = repeated.split('.').next().unwrap();
    assert!(all.iter().all(|token| token.starts_with(header)), "all are HS256 of one key");
    println!("tokens: {} bytes, HS256; {} distinct ones", repeated.len(), all.len());
    (auth, repeated, all)
}

fn hand_made(count: usize) -> (HandKey, String, Vec<String>) {
    let secret = b"a benchmark's key, 32 bytes long";
    let now = jsonwebtoken::get_current_timestamp();
    let mut validation = Validation::new(jsonwebtoken::Algorithm::HS256);
    validation.validate_nbf = true;
    let key = HandKey(Arc::new((DecodingKey::from_secret(secret), validation)));
    let mut all: Vec<_> = (0..=count)
        .map(|number| {
            let claims = ByHand {
                sub: format!("user-{}", number % 1000),
                exp: now + 3600,
                iat: now,
                jti: format!("{number:08x}-0000-4000-8000-000000000000"),
                token_type: "access".to_owned(),
                fresh: true,
            };
            let header = jsonwebtoken::Header::default();
            jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap()
        })
        .collect();
    let repeated = all.pop().unwrap();
    (key, repeated, all)
}

/// What one request through the router takes, without a network.
fn in_process(
    runtime: &tokio::runtime::Runtime,
    app: &Router,
    repeated: [&String; 2],
    distinct: [&[String]; 2],
) {
    let [ours, by_hand] = repeated.map(std::slice::from_ref);
    let [all_ours, all_by_hand] = distinct;
    let variants: [(&str, &str, &[String]); 9] = [
        ("open, no layer", "/", ours),
        ("open, behind axum's Extension", "/by-hand/open", ours),
        ("open, behind the layer", "/open", ours),
        ("the same, an idle extractor", "/nothing", ours),
        ("protected, token repeated", "/protected", ours),
        ("by hand, token repeated", "/by-hand", by_hand),
        ("open, tokens distinct", "/open", all_ours),
        ("protected, tokens distinct", "/protected", all_ours),
        ("by hand, tokens distinct", "/by-hand", all_by_hand),
    ];
    let made = |path: &str, tokens: &[String], first: usize, count: usize| -> Vec<Request<Body>> {
        let each = (first..first + count).map(|turn| {
            let field = format!("Bearer {}", tokens[turn % tokens.len()]);
            Request::get(path).header(header::AUTHORIZATION, field).body(Body::empty()).unwrap()
        });
        each.collect()
    };
    let send = |requests: Vec<Request<Body>>| {
        runtime.block_on(async {
            for request in requests {
                let answer = app.clone().oneshot(request).await.unwrap();
                assert_eq!(answer.status(), StatusCode::OK);
            }
        });
    };
    let mut times = vec![Vec::new(); variants.len()];
    for round in 0..ROUNDS {
        for (variant, (_, path, tokens)) in variants.iter().enumerate() {
            let mut time = Duration::ZERO;
            // Few at once: a server finds its requests in the processor's cache.
            for batch in 0..ONESHOTS / BATCH {
                let requests = made(path, tokens, round * ONESHOTS + batch * BATCH, BATCH);
                let began = Instant::now();
                send(requests);
                time += began.elapsed();
            }
            times[variant].push(time.as_secs_f64() * 1e9 / ONESHOTS as f64);
        }
    }
    println!("\nin process, one request (median of {ROUNDS} rounds, lowest to highest; allocations):");
    for ((name, path, tokens), times) in variants.iter().zip(&mut times) {
        let (median, low, high) = spread(times);
        let requests = made(path, tokens, ROUNDS * ONESHOTS, ONESHOTS);
        let allocated = allocation_counter::measure(|| send(requests));
        let count = allocated.count_total as f64 / ONESHOTS as f64;
        let bytes = allocated.bytes_total as f64 / ONESHOTS as f64;
        println!(
            "  {name:30} {median:7.0} ns  ({low:.0} to {high:.0})  {count:5.2} allocations, {bytes:.0} bytes"
        );
    }
}

/// Serves on a thread of its own.
fn serve(app: Router) -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            axum::serve(listener, app).await.unwrap();
        });
    });
    told.recv().unwrap()
}

fn over_loopback(
    runtime: &tokio::runtime::Runtime,
    address: SocketAddr,
    repeated: &str,
    distinct: &[String],
    hand_repeated: &str,
    hand_distinct: &[String],
) {
    let raw = |path: &str, token: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n")
            .into_bytes()
    };
    let once = |path: &str, token: &str| Arc::new(vec![raw(path, token)]);
    let each = |path: &str, tokens: &[String]| {
        Arc::new(tokens.iter().map(|token| raw(path, token)).collect::<Vec<_>>())
    };
    let variants = [
        ("open, behind the layer", once("/open", repeated), None),
        ("protected, token repeated", once("/protected", repeated), Some(0)),
        ("by hand, token repeated", once("/by-hand", hand_repeated), Some(0)),
        ("open, tokens distinct", each("/open", distinct), None),
        ("protected, tokens distinct", each("/protected", distinct), Some(3)),
        ("by hand, tokens distinct", each("/by-hand", hand_distinct), Some(3)),
    ];
    let mut rates = vec![Vec::new(); variants.len()];
    for round in 0..=ROUNDS {
        for (variant, (_, requests, _)) in variants.iter().enumerate() {
            let rate = runtime.block_on(load(address, requests.clone(), round * 7919));
            if round > 0 {
                rates[variant].push(rate);
            }
        }
    }
    println!(
        "\nover loopback, {CONNECTIONS} connections, requests a second (median of {ROUNDS} rounds, lowest to highest):"
    );
    for (variant, (name, _, beside)) in variants.iter().enumerate() {
        let (median, low, high) = spread(&mut rates[variant].clone());
        // Round by round, so that what slows the machine slows both.
        let ratio = beside.map_or(String::new(), |open: usize| {
            let mut ratios: Vec<f64> = rates[variant].iter().zip(&rates[open]).map(|(a, b)| a / b).collect();
            let (median, low, high) = spread(&mut ratios);
            format!("  {median:.3} of open ({low:.3} to {high:.3})")
        });
        println!("  {name:28} {median:7.0}/s  ({low:.0} to {high:.0}){ratio}");
    }
}

/// Requests a second.
async fn load(address: SocketAddr, requests: Arc<Vec<Vec<u8>>>, offset: usize) -> f64 {
    let began = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CONNECTIONS {
        let requests = requests.clone();
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut answer = vec![0; 4096];
            let mut done = 0_u64;
            let mut next = offset + client * (DISTINCT / CONNECTIONS);
            while began.elapsed() < TURN {
                stream.write_all(&requests[next % requests.len()]).await.unwrap();
                next += 1;
                let mut read = 0;
                // The whole answer: head, empty line and the two bytes of the body.
                while !answer[..read].ends_with(b"\r\n\r\nok") {
                    read += stream.read(&mut answer[read..]).await.unwrap();
                    assert!(
                        answer[..read].starts_with(b"HTTP/1.1 200"),
                        "{}",
                        String::from_utf8_lossy(&answer)
                    );
                }
                done += 1;
            }
            done
        });
    }
    let done: u64 = clients.join_all().await.into_iter().sum();
    done as f64 / began.elapsed().as_secs_f64()
}

/// Median, lowest, highest.
fn spread(values: &mut [f64]) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}
