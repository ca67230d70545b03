//! What a page view costs: with the cookies of a login session beside the same page without, in process; and, given the
//! address of a running server, how many sign-in pages it serves in a second over loopback.
//!
//! `cargo bench -p countersign-bench --bench pages` is the part in process. With `-- 127.0.0.1:8080` it goes on with the
//! server that listens there. Variants take turns, round after round, so that whatever else the machine does meets all of
//! them; the middle round counts, and the spread is shown. Ratios are taken round by round.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a benchmark: it measures time and prints it"
)]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;
use countersign_axum::{Auth, AuthLayer, CsrfToken, CurrentUser};
use countersign_core::store::MemoryStore;
use countersign_http::LoginSessions;
use countersign_jwt::UserId;
use countersign_pages::Pages;
use countersign_testkit::TestBed;
use http::{Request, Response, StatusCode, header};
use minijinja::{Environment, context};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower::ServiceExt as _;

/// How many rounds there are; the median of them counts.
const ROUNDS: usize = 21;
/// Page views in process in one round.
const VIEWS: usize = 5_000;
/// Requests in process that are made and then sent together.
const BATCH: usize = 50;
/// How long the server is loaded with one kind of request in one round.
const TURN: Duration = Duration::from_millis(500);
/// Connections that send one request after the other.
const CONNECTIONS: usize = 32;

const PASSWORD: &str = "correct horse battery";

/// The application's user.
struct Member {
    name: String,
}

/// A page such as an application has: a head with the user's name and a form, and a list.
const TEMPLATE: &str = r#"<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Notes</title>
<link rel="stylesheet" href="/style.css"></head><body><header><a href="/">Notes</a>
{% if name %}<span>{{ name }}</span><form method="post" action="/sign-out">
<input type="hidden" name="csrf_token" value="{{ csrf }}"><button>Sign out</button></form>
{% else %}<a href="/sign-in">Sign in</a>{% endif %}</header><main><h1>Notes</h1><ul>
{% for note in notes %}<li><h2>{{ note.title }}</h2><p>{{ note.text }}</p><time>{{ note.at }}</time></li>
{% endfor %}</ul></main></body></html>"#;

type Templates = Arc<Environment<'static>>;

async fn page(
    user: Option<CurrentUser<Member>>,
    csrf: Option<CsrfToken>,
    State(templates): State<Templates>,
) -> (Option<CsrfToken>, Html<String>) {
    let notes: Vec<_> = (0..20)
        .map(|number| {
            context! { title => format!("Note {number}"), text => "Milk & bread, and <nothing> else", at => "2026-01-31" }
        })
        .collect();
    let html = templates.get_template("page.html").unwrap().render(context! {
        name => user.map(|CurrentUser(member)| member.name),
        csrf => csrf.as_ref().map(CsrfToken::value),
        notes,
    });
    (csrf, Html(html.unwrap()))
}

/// The least that a page can be.
async fn text(user: Option<CurrentUser<Member>>) -> String {
    user.map_or_else(|| "hello".to_owned(), |CurrentUser(member)| member.name)
}

async fn by_id(id: UserId) -> Result<Option<Member>, Infallible> {
    Ok(Some(Member { name: id.as_str().to_owned() }))
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    in_process(&runtime);
    match arguments.first() {
        Some(address) => over_loopback(&runtime, address),
        None => {
            println!("\nover loopback: left out; give it the address of a server, such as 127.0.0.1:8080")
        }
    }
}

/// An application with login sessions and our pages, on a store in memory.
async fn app() -> Router {
    let sessions = LoginSessions::new().sign_in_page("/sign-in").confirm_page("/confirm");
    let auth = Auth::builder(MemoryStore::new(), TestBed::secrets())
        .public_url("https://app.example.com".parse().unwrap())
        .login_sessions(sessions)
        .user_loader(by_id);
    let auth = auth.build().await.unwrap();
    let mut templates = Environment::new();
    templates.add_template("page.html", TEMPLATE).unwrap();
    Router::new()
        .route("/page", get(page))
        .with_state(Arc::new(templates))
        .route("/text", get(text))
        .layer(AuthLayer::new(auth.clone()))
        .merge(Pages::new(auth).router())
}

/// The `name=value` pairs that an answer sets.
fn cookies(answer: &Response<Body>) -> Vec<String> {
    let fields = answer.headers().get_all(header::SET_COOKIE).iter();
    let pairs = fields.map(|field| field.to_str().unwrap().split(';').next().unwrap().to_owned());
    pairs.filter(|pair| !pair.ends_with('=')).collect()
}

/// The cookies of a browser that has seen a page, and of one that is signed in.
async fn browsers(app: &Router) -> (String, String) {
    let send = async |request: Request<Body>| app.clone().oneshot(request).await.unwrap();
    let first = send(Request::get("/register").body(Body::empty()).unwrap()).await;
    let seen = cookies(&first).join("; ");
    let html = axum::body::to_bytes(first.into_body(), 100_000).await.unwrap();
    let html = std::str::from_utf8(&html).unwrap();
    let (_, rest) = html.split_once("name=\"form_token\" value=\"").unwrap();
    let form_token = rest.split('"').next().unwrap();
    let form =
        format!("form_token={form_token}&email=ada@example.org&password={}", PASSWORD.replace(' ', "+"));
    let request = Request::post("/register")
        .header(header::COOKIE, &seen)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "same-origin");
    let registered = send(request.body(Body::from(form)).unwrap()).await;
    assert_eq!(registered.status(), StatusCode::SEE_OTHER);
    let session: Vec<_> =
        cookies(&registered).into_iter().filter(|pair| !pair.contains("countersign_note")).collect();
    (seen.clone(), format!("{}; {seen}", session.join("; ")))
}

/// What a page view takes, without a network.
fn in_process(runtime: &tokio::runtime::Runtime) {
    let app = runtime.block_on(app());
    let (seen, session) = runtime.block_on(browsers(&app));
    let variants = [
        ("an application's page, no cookies", "/page", "", None),
        ("the same, a login session", "/page", session.as_str(), Some(0)),
        ("a word, no cookies", "/text", "", None),
        ("the same, a login session", "/text", session.as_str(), Some(2)),
        ("a page of ours, not signed in", "/verify?token=x", seen.as_str(), None),
        ("the same, a login session", "/verify?token=x", session.as_str(), Some(4)),
        ("the sign-in page, first visit", "/sign-in", "", None),
        ("the sign-in page, again", "/sign-in", seen.as_str(), None),
    ];
    let made = |path: &str, cookies: &str| -> Vec<Request<Body>> {
        let one = |_| {
            let request =
                Request::get(path).header(header::ACCEPT, "text/html").header("sec-fetch-site", "none");
            let request = if cookies.is_empty() { request } else { request.header(header::COOKIE, cookies) };
            request.body(Body::empty()).unwrap()
        };
        (0..BATCH).map(one).collect()
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
    for round in 0..=ROUNDS {
        for (variant, (_, path, cookies, _)) in variants.iter().enumerate() {
            let mut time = Duration::ZERO;
            for _ in 0..VIEWS / BATCH {
                let requests = made(path, cookies);
                let began = Instant::now();
                send(requests);
                time += began.elapsed();
            }
            if round > 0 {
                times[variant].push(time.as_secs_f64() * 1e6 / VIEWS as f64);
            }
        }
    }
    println!("in process, one page view (median of {ROUNDS} rounds, lowest to highest; allocations):");
    for (variant, (name, path, cookies, beside)) in variants.iter().enumerate() {
        let (median, low, high) = spread(&mut times[variant].clone());
        let requests = made(path, cookies);
        let allocated = allocation_counter::measure(|| send(requests)).count_total as f64 / BATCH as f64;
        let ratio = beside.map_or(String::new(), |beside: usize| {
            let mut ratios: Vec<f64> =
                times[variant].iter().zip(&times[beside]).map(|(a, b)| a / b).collect();
            let (median, low, high) = spread(&mut ratios);
            format!("  {median:.3} × ({low:.3} to {high:.3})")
        });
        println!("  {name:34} {median:7.2} µs  ({low:.2} to {high:.2})  {allocated:6.1}{ratio}");
    }
}

/// How many answers the server gives in a second.
fn over_loopback(runtime: &tokio::runtime::Runtime, address: &str) {
    let request = |path: &str, cookies: &str| {
        let cookies = if cookies.is_empty() { String::new() } else { format!("cookie: {cookies}\r\n") };
        format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: text/html\r\nsec-fetch-site: none\r\n{cookies}\r\n"
        )
        .into_bytes()
    };
    let head = runtime.block_on(answered(address, &request("/sign-in", "")));
    let seen: Vec<_> = head
        .lines()
        .filter_map(|line| line.strip_prefix("set-cookie: "))
        .filter_map(|field| field.split(';').next())
        .collect();
    let variants = [
        ("/sign-in, first visit", request("/sign-in", "")),
        ("/sign-in, again", request("/sign-in", &seen.join("; "))),
        ("/healthz", request("/healthz", "")),
    ];
    let mut rates = vec![Vec::new(); variants.len()];
    for round in 0..=ROUNDS {
        for (variant, (_, request)) in variants.iter().enumerate() {
            let rate = runtime.block_on(load(address, request));
            if round > 0 {
                rates[variant].push(rate);
            }
        }
    }
    println!(
        "\nover loopback, {CONNECTIONS} connections, answers a second (median of {ROUNDS} rounds, lowest to highest):"
    );
    for (variant, (name, request)) in variants.iter().enumerate() {
        let (median, low, high) = spread(&mut rates[variant]);
        let bytes = runtime.block_on(async { first(&mut connect(address).await, request).await });
        println!("  {name:24} {median:7.0}/s  ({low:.0} to {high:.0})  {bytes} bytes");
    }
}

async fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// The head of an answer.
async fn answered(address: &str, request: &[u8]) -> String {
    let mut stream = connect(address).await;
    stream.write_all(request).await.unwrap();
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        assert!(stream.read_buf(&mut head).await.unwrap() > 0, "the server closed the connection");
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Sends a request and reads the whole answer. Returns its length, which all other answers to the request have as well.
async fn first(stream: &mut TcpStream, request: &[u8]) -> usize {
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let mut whole = None;
    while whole.is_none_or(|whole| answer.len() < whole) {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "the server closed the connection");
        if let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&answer[..head]);
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            whole = Some(head + 4 + length.parse::<usize>().unwrap());
        }
    }
    answer.len()
}

/// Answers in a second.
async fn load(address: &str, request: &[u8]) -> f64 {
    let began = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (address, request) = (address.to_owned(), request.to_vec());
        clients.spawn(async move {
            let mut stream = connect(&address).await;
            let mut answer = vec![0; first(&mut stream, &request).await];
            let mut done = 1_u64;
            while began.elapsed() < TURN {
                stream.write_all(&request).await.unwrap();
                stream.read_exact(&mut answer).await.unwrap();
                assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
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
