//! Login sessions of browsers: signing in and out, going on in place, and the way to a page and back.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Multipart;
use axum::middleware::from_extractor;
use axum::response::{IntoResponse, Redirect};
use axum::routing::{get, post};
use axum::{Form, Json};
use countersign_axum::{
    AccessToken, AuthBuilder, Confirm, CsrfToken, CurrentUser, Fresh, LoginRequired, Next, Reply, SignIn,
    SignOut,
};
use countersign_http::{
    CookieKind, CookieOptions, DeviceBinding, ErrorCode, LoaderRequest, LoginSessions, UserOrder,
};
use countersign_jwt::UserId;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::app::TestApp;
use crate::client::{ACCESS, CSRF, Client, REFRESH, Response};

/// The access lifetime, and more than the leeway for clocks.
const EXPIRED: u64 = 915;
const FORM: &str = "application/x-www-form-urlencoded";
const PAGE: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

struct Member {
    name: String,
}

async fn by_id(id: UserId) -> Result<Option<Member>, Infallible> {
    let name = id.as_str().to_owned();
    Ok((name != "gone").then_some(Member { name }))
}

async fn by_key(request: LoaderRequest) -> Result<Option<Member>, Infallible> {
    let in_header = request.headers.get("x-api-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
    let in_json = request.json.as_ref().and_then(|body| body["api_key"].as_str()).map(str::to_owned);
    Ok(in_header
        .or(in_json)
        .and_then(|key| key.strip_prefix("key-of-").map(|name| Member { name: name.into() })))
}

#[derive(Deserialize)]
struct Login {
    name: String,
    #[serde(default)]
    remember: bool,
}

async fn sign_in(sign_in: SignIn, next: Next, Form(login): Form<Login>) -> Result<impl IntoResponse, Reply> {
    let id = UserId::new(&login.name).map_err(|_| Reply::error(ErrorCode::InvalidCredentials))?;
    Ok((sign_in.remember(login.remember).user(&id).await?, Redirect::to(next.or("/"))))
}

async fn sign_out(sign_out: SignOut) -> Result<impl IntoResponse, Reply> {
    Ok((sign_out.now().await?, Redirect::to("/")))
}

async fn confirm(confirm: Confirm, next: Next) -> Result<impl IntoResponse, Reply> {
    Ok((confirm.now().await?, Redirect::to(next.or("/"))))
}

async fn page(CurrentUser(member): CurrentUser<Member>) -> String {
    member.name
}

async fn front(token: Option<AccessToken>) -> String {
    token.map_or_else(|| "nobody".to_owned(), |token| token.subject().to_string())
}

async fn form(csrf: CsrfToken) -> impl IntoResponse {
    let input = csrf.input();
    (csrf, input)
}

async fn secret(token: Fresh<AccessToken>) -> String {
    format!("secret of {}", token.subject())
}

#[derive(Deserialize)]
struct Note {
    note: String,
}

async fn note(token: AccessToken, Form(form): Form<Note>) -> String {
    format!("{} notes {}", token.subject(), form.note)
}

async fn upload(token: AccessToken, mut form: Multipart) -> String {
    let mut text = String::new();
    while let Ok(Some(field)) = form.next_field().await {
        if field.name() == Some("note") {
            text = field.text().await.unwrap();
        }
    }
    format!("{} uploads {text}", token.subject())
}

async fn missing(_: AccessToken) -> StatusCode {
    StatusCode::NOT_FOUND
}

async fn api_sign_in(_: CurrentUser<Member>, sign_in: SignIn) -> Result<impl IntoResponse, Reply> {
    Ok((sign_in.user(&UserId::new("eve").unwrap()).await?, "in"))
}

fn routes() -> Router {
    Router::new()
        .route("/page", get(page).post(page))
        .route(
            "/guarded",
            get(async || "guarded").post(async |Json(body): Json<serde_json::Value>| Json(body)),
        )
        .route("/list", get(async || "list"))
        .route_layer(from_extractor::<LoginRequired>())
        .route("/sign-in", post(sign_in))
        .route("/sign-out", post(sign_out).get(sign_out))
        .route("/confirm", post(confirm))
        .route("/front", get(front))
        .route("/form", get(form))
        .route("/secret", get(secret))
        .route("/note", post(note))
        .route("/upload", post(upload))
        .route("/missing", get(missing))
        .route("/api-sign-in", post(api_sign_in))
}

fn sessions() -> LoginSessions {
    LoginSessions::new().sign_in_page("/login").confirm_page("/again?x=1")
}

async fn app_with(configure: impl FnOnce(AuthBuilder) -> AuthBuilder) -> TestApp {
    let app = TestApp::with(|builder| configure(builder.user_loader(by_id).login_sessions(sessions()))).await;
    app.with_routes(routes())
}

async fn app() -> TestApp {
    app_with(|builder| builder).await
}

fn browser(app: &TestApp) -> Client {
    app.browser().with("accept", PAGE).with("user-agent", "Firefox/143.0")
}

async fn post_form(client: &mut Client, path: &str, form: &str) -> Response {
    client.send_bytes(Method::POST, path, Some(FORM), form.as_bytes().to_vec()).await
}

async fn signed_in(app: &TestApp, form: &str) -> (Client, Response) {
    let mut client = browser(app);
    let answer = post_form(&mut client, "/sign-in", form).await;
    assert_eq!(answer.status(), 303);
    (client, answer)
}

/// The browser is closed and opened again: only what has `Max-Age` is left.
fn reopened(mut client: Client, answer: &Response) -> Client {
    for cookie in answer.set_cookies() {
        if !cookie.attributes.iter().any(|attribute| attribute.starts_with("Max-Age=")) {
            client = client.drop_cookie(&cookie.name);
        }
    }
    client
}

fn names(answer: &Response) -> Vec<String> {
    answer.set_cookies().into_iter().map(|cookie| cookie.name).collect()
}

const OURS: [&str; 3] = [ACCESS, REFRESH, CSRF];

fn text(answer: &Response) -> (u16, &str) {
    (answer.status(), std::str::from_utf8(&answer.body).unwrap())
}

#[tokio::test]
async fn a_page_view_of_a_login_session_makes_no_store_call_and_ending_it_anywhere_ends_it() {
    let app = app().await;
    let (mut one, answer) = signed_in(&app, "name=ada").await;
    assert_eq!(answer.header("location"), Some("/"));
    let (mut two, _) = signed_in(&app, "name=ada").await;
    app.store.reset_calls();
    assert_eq!(text(&one.get("/list").await), (200, "list"));
    assert_eq!(text(&one.get("/front").await), (200, "ada"));
    assert_eq!(app.store.total_calls(), 0);

    // The other device ends all others.
    two = two.csrf();
    assert_eq!(two.delete("/v1/auth/sessions").await.status(), 204);
    let answer = one.get("/page").await;
    assert_eq!((answer.status(), answer.header("location")), (303, Some("/login?next=%2Fpage")));
    assert!(one.is_signed_out(), "the browser forgets a session that is over");
    assert_eq!(text(&two.get("/page").await), (200, "ada"));
}

#[tokio::test]
async fn without_remember_the_session_ends_with_the_browser_and_with_it_comes_back_not_fresh() {
    let app = app().await;
    let (forgetful, answer) = signed_in(&app, "name=ada").await;
    let ages = |answer: &Response| -> Vec<bool> {
        let cookies = answer.set_cookies();
        let kept =
            |cookie: &crate::client::SetCookie| cookie.attributes.iter().any(|a| a.starts_with("Max-Age="));
        cookies.iter().map(kept).collect()
    };
    assert_eq!(
        (names(&answer), ages(&answer)),
        (OURS.map(str::to_owned).to_vec(), vec![false, false, false])
    );
    let mut closed = reopened(forgetful, &answer);
    assert_eq!(closed.get("/page").await.status(), 303);

    let (mut remembered, answer) = signed_in(&app, "name=ada&remember=true").await;
    assert_eq!(ages(&answer), [false, true, true], "the access token is forgotten with the browser");
    assert_eq!(remembered.get("/secret").await.status(), 200);
    let old = remembered.cookie(REFRESH).to_owned();
    let mut closed = reopened(remembered, &answer);
    let back = closed.get("/page").await;
    assert_eq!((text(&back), ages(&back)), ((200, "ada"), vec![false, true, true]), "kept as before");
    assert_ne!(closed.cookie(REFRESH), old, "rotated on use");
    let secret = closed.get("/secret").await;
    assert_eq!((secret.status(), secret.header("location")), (303, Some("/again?x=1&next=%2Fsecret")));

    // Proven again, the same session is fresh.
    closed = closed.csrf();
    let confirmed = closed.post_nothing("/confirm?next=%2Fsecret").await;
    assert_eq!((confirmed.status(), confirmed.header("location")), (303, Some("/secret")));
    assert_eq!(
        (text(&closed.get("/secret").await), ages(&confirmed)),
        ((200, "secret of ada"), vec![false, true, true])
    );
    let sessions = closed.get("/v1/auth/sessions").await.json();
    let current: Vec<_> =
        sessions["sessions"].as_array().unwrap().iter().map(|one| one["current"].clone()).collect();
    assert_eq!(current.len(), 2, "it is listed like any other");
    assert!(current.contains(&json!(true)));
}

#[tokio::test]
async fn sec_080_a_login_session_ends_at_its_own_lifetime() {
    let hour =
        LoginSessions::new().lifetime(Duration::from_secs(3600)).remembered_for(Duration::from_secs(7200));
    let app = app_with(|builder| builder.login_sessions(hour.sign_in_page("/login"))).await;
    for (form, secs) in [("name=ada", 3600), ("name=ada&remember=true", 7200)] {
        let (mut client, _) = signed_in(&app, form).await;
        app.wait(secs - 1);
        assert_eq!(text(&client.get("/page").await), (200, "ada"), "{form}");
        app.wait(11); // the leeway for clocks
        assert_eq!(client.get("/page").await.status(), 303, "{form}");
        assert!(client.is_signed_out());
    }
}

#[tokio::test]
async fn an_expired_session_goes_on_in_place_for_pages_and_for_forms_with_their_value() {
    let app = app().await;
    let (mut client, _) = signed_in(&app, "name=ada").await;
    let csrf = client.cookie(CSRF).to_owned();
    app.wait(EXPIRED);
    app.store.reset_calls();
    let answer = client.get("/page?x=1").await;
    assert_eq!((text(&answer), names(&answer)), ((200, "ada"), OURS.map(str::to_owned).to_vec()));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(app.store.calls("advance"), 1);
    assert_eq!(client.cookie(CSRF), csrf, "a form that is open elsewhere stays good");
    let calls = app.store.total_calls();
    assert_eq!((client.get("/list").await.status(), app.store.total_calls()), (200, calls));

    app.wait(EXPIRED);
    let answer = post_form(&mut client, "/note", &format!("note=hello&csrf_token={csrf}")).await;
    assert_eq!((text(&answer), names(&answer).len()), ((200, "ada notes hello"), 3), "nobody's form is lost");
    app.wait(EXPIRED);
    let body = format!(
        "--b\r\nContent-Disposition: form-data; name=\"csrf_token\"\r\n\r\n{csrf}\r\n--b\r\nContent-Disposition: \
         form-data; name=\"note\"\r\n\r\nphoto\r\n--b--\r\n"
    );
    let multipart = Some("multipart/form-data; boundary=b");
    let answer = client.send_bytes(Method::POST, "/upload", multipart, body.into_bytes()).await;
    assert_eq!(text(&answer), (200, "ada uploads photo"));
}

#[tokio::test]
async fn sec_067_sec_187_an_expired_session_without_its_csrf_value_does_not_go_on() {
    let app = app().await;
    let (mut client, _) = signed_in(&app, "name=ada").await;
    let (other, _) = signed_in(&app, "name=bob").await;
    app.wait(EXPIRED);
    app.store.reset_calls();
    for form in [
        "note=x".to_owned(),
        "note=x&csrf_token=".to_owned(),
        format!("note=x&csrf_token={}", other.cookie(CSRF)),
    ] {
        let answer = post_form(&mut client, "/note", &form).await;
        assert_eq!((answer.outcome(), names(&answer)), ((403, "csrf_failed".to_owned()), vec![]), "{form}");
    }
    let mut foreign = client.clone().without("sec-fetch-site").with("sec-fetch-site", "cross-site");
    let csrf = client.cookie(CSRF).to_owned();
    let answer = post_form(&mut foreign, "/note", &format!("note=x&csrf_token={csrf}")).await;
    assert_eq!(answer.outcome(), (403, "cross_site".to_owned()));
    assert_eq!(app.store.calls("advance"), 0);
}

#[tokio::test]
async fn sec_065_a_renewal_never_runs_on_errors_and_never_over_a_sign_in_or_sign_out() {
    let app = app().await;
    let (mut client, _) = signed_in(&app, "name=ada").await;
    app.wait(EXPIRED);
    app.store.reset_calls();
    // Again and again, as a page might that asks for something that is not there: nothing is used up by it.
    for _ in 0..12 {
        let answer = client.get("/missing").await;
        assert_eq!((answer.status(), names(&answer)), (404, vec![]));
        app.wait(60);
    }
    assert_eq!((app.store.calls("advance"), app.store.calls("heal")), (0, 0));
    assert_eq!(text(&client.get("/page").await), (200, "ada"));

    app.wait(EXPIRED);
    let mut tab = client.clone();
    client = client.csrf();
    let answer = client.post_nothing("/sign-out").await;
    assert_eq!(answer.status(), 303);
    assert!(answer.set_cookies().iter().all(crate::client::SetCookie::is_removal) && client.is_signed_out());
    assert_eq!(tab.get("/page").await.status(), 303);

    let (mut client, _) = signed_in(&app, "name=ada").await;
    app.wait(EXPIRED);
    let answer = post_form(&mut client, "/sign-in", "name=bob").await;
    assert_eq!(names(&answer).len(), 3, "each cookie once");
    assert_eq!(text(&client.get("/page").await), (200, "bob"));
}

#[tokio::test]
async fn sec_092_requests_that_arrive_together_share_one_renewal() {
    let app = app().await;
    let (client, _) = signed_in(&app, "name=ada").await;
    app.wait(EXPIRED);
    app.store.reset_calls();
    let tabs = (0..16).map(|_| {
        let mut tab = client.clone();
        tokio::spawn(async move {
            let answer = tab.get("/page").await;
            (answer.status(), tab.cookie(REFRESH).to_owned())
        })
    });
    let tabs: Vec<_> = tabs.collect();
    let mut outcomes = Vec::new();
    for tab in tabs {
        outcomes.push(tab.await.unwrap());
    }
    let (status, successor) = outcomes[0].clone();
    assert_eq!(status, 200);
    assert!(outcomes.iter().all(|outcome| *outcome == (200, successor.clone())), "one successor");
    assert_eq!(app.store.calls("advance"), 1);
}

#[tokio::test]
async fn a_lost_reply_and_a_second_tab_go_on() {
    let app = app().await;
    let (client, _) = signed_in(&app, "name=ada").await;
    app.wait(EXPIRED);
    assert_eq!(client.clone().get("/page").await.status(), 200, "the reply is lost");
    let mut again = client.clone();
    assert_eq!(text(&again.get("/page").await), (200, "ada"));
    app.wait(60);
    let mut late = client.clone();
    assert_eq!(late.get("/page").await.status(), 200, "healed, as nobody has used what was lost");
    assert_eq!(late.get("/page").await.status(), 200);
}

#[tokio::test]
async fn a_replayed_refresh_cookie_ends_the_session() {
    let app = app().await;
    let (mut client, _) = signed_in(&app, "name=ada").await;
    let stolen = client.clone().drop_cookie(ACCESS);
    for _ in 0..2 {
        app.wait(EXPIRED);
        assert_eq!(client.get("/page").await.status(), 200);
        assert_eq!(client.get("/page").await.status(), 200);
        app.auth.sessions().verification().flush_acknowledgements().await.unwrap();
    }
    app.wait(60);
    let mut thief = stolen;
    assert_eq!(thief.get("/page").await.status(), 303);
    assert!(thief.is_signed_out());
    assert_eq!(client.get("/page").await.status(), 303, "and the owner learns of it");
}

#[tokio::test]
async fn sec_079_sec_184_signing_in_over_another_users_session_keeps_nothing_of_it() {
    let app = app().await;
    let (mut client, _) = signed_in(&app, "name=ada&remember=true").await;
    let planted = client.clone();
    let csrf = client.cookie(CSRF).to_owned();
    let answer = post_form(&mut client, "/sign-in", "name=bob").await;
    assert_eq!(answer.status(), 303);
    for cookie in OURS {
        assert_ne!(client.cookie(cookie), planted.cookie(cookie), "{cookie}");
    }
    assert_ne!(client.cookie(CSRF), csrf);
    assert_eq!(text(&client.get("/page").await), (200, "bob"));
    assert_eq!(planted.clone().get("/page").await.status(), 303, "ada's session in this browser is over");
    let lasting = answer.set_cookies().iter().any(|c| c.attributes.iter().any(|a| a.starts_with("Max-Age=")));
    assert!(!lasting, "ada was remembered, bob is not");
}

#[tokio::test]
async fn sec_066_sec_081_signing_out_is_a_post_and_succeeds_twice() {
    let app = app().await;
    let (mut client, _) = signed_in(&app, "name=ada").await;
    assert_eq!(client.get("/sign-out").await.outcome(), (405, "method_not_allowed".to_owned()));
    assert_eq!(client.post_nothing("/sign-out").await.outcome(), (403, "csrf_failed".to_owned()));
    let copy = client.clone();
    app.wait(EXPIRED);
    client = client.csrf();
    assert_eq!(client.post_nothing("/sign-out").await.status(), 303, "with an expired access token");
    assert!(client.is_signed_out());
    assert_eq!(
        client.without("x-csrf-token").post_nothing("/sign-out").await.status(),
        303,
        "nobody is signed in"
    );
    assert_eq!(copy.clone().get("/page").await.status(), 303);
    assert_eq!(copy.csrf().post_nothing("/sign-out").await.status(), 303);
}

#[tokio::test]
async fn sec_069_sec_188_another_site_signs_nobody_in_or_out() {
    let app = app().await;
    let mut foreign = app.client().with("sec-fetch-site", "cross-site").with("accept", PAGE);
    let answer = post_form(&mut foreign, "/sign-in", "name=eve").await;
    assert_eq!((answer.outcome(), names(&answer)), ((403, "cross_site".to_owned()), vec![]));
    let (client, _) = signed_in(&app, "name=ada").await;
    let mut foreign = client.clone().without("sec-fetch-site").with("sec-fetch-site", "cross-site").csrf();
    assert_eq!(foreign.post_nothing("/sign-out").await.outcome(), (403, "cross_site".to_owned()));
    assert_eq!(client.clone().get("/page").await.status(), 200);
}

#[tokio::test]
async fn browsers_are_sent_to_the_sign_in_page_and_programs_are_answered_401() {
    let app = app().await;
    for (accept, status) in [
        (Some(PAGE), 303),
        (Some("text/html"), 303),
        (Some("application/xhtml+xml"), 303),
        (Some("application/json, text/html;q=0.5"), 401),
        (Some("text/html;q=0, */*"), 401),
        (Some("application/json"), 401),
        (Some("*/*"), 401),
        (Some("\u{e9}"), 401),
        (None, 401),
    ] {
        let mut client = app.browser();
        if let Some(accept) = accept {
            client = client.with("accept", accept);
        }
        assert_eq!(client.get("/page").await.status(), status, "{accept:?}");
    }
    let mut client = browser(&app);
    assert_eq!(client.get("/v1/auth/me").await.status(), 401, "a route for programs");
    assert_eq!(client.get("/v1/auth/verify").await.status(), 401, "a proxy passes `Accept` on");
    assert_eq!(client.clone().bearer("junk").get("/page").await.status(), 401, "a token decides");
    let answer = client.get("/page?x=1&y=a%20b&next=//evil").await;
    let next = "/login?next=%2Fpage%3Fx%3D1%26y%3Da%2520b%26next%3D%2F%2Fevil";
    assert_eq!((answer.status(), answer.header("location")), (303, Some(next)));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let answer = client.clone().with("host", "evil.example").get("/page").await;
    assert_eq!(answer.header("location"), Some("/login?next=%2Fpage"), "whatever the host");
    // A form goes back to the page that it stood on.
    let mut form =
        client.clone().with("host", "app.example.com").with("referer", "https://app.example.com/form?x=1");
    assert_eq!(
        post_form(&mut form, "/note", "note=x").await.header("location"),
        Some("/login?next=%2Fform%3Fx%3D1")
    );
    let mut form = client.with("host", "app.example.com").with("referer", "https://evil.example/form");
    let answer = post_form(&mut form, "/note", "note=x").await;
    assert_eq!((answer.status(), answer.header("location")), (303, Some("/login")), "SEC-076");
}

#[tokio::test]
async fn sec_075_sec_192_signing_in_leads_to_a_page_of_ours_only() {
    let app = app().await;
    for (next, location) in [
        ("%2Fpage%3Fx%3D1", "/page?x=1"),
        ("//e.example", "/"),
        ("/%5Ce.example", "/"),
        ("/%09/e.example", "/"),
        ("https:e.example", "/"),
        ("/..//e.example", "/"),
        ("@e.example", "/"),
        ("/a&next=/b", "/"),
        ("/%2500", "/"),
        ("", "/"),
    ] {
        let answer = post_form(&mut browser(&app), &format!("/sign-in?next={next}"), "name=ada").await;
        assert_eq!((answer.status(), answer.header("location")), (303, Some(location)), "{next}");
    }
}

#[tokio::test]
async fn cookies_that_are_not_accepted_are_cleared_on_the_way_to_the_sign_in_page() {
    let app = app().await;
    let (client, _) = signed_in(&app, "name=ada").await;
    let mut junk = client.clone().set_cookie(ACCESS, "junk").set_cookie(REFRESH, "junk");
    let answer = junk.get("/page").await;
    assert_eq!((answer.status(), answer.header("location")), (303, Some("/login?next=%2Fpage")));
    assert!(junk.is_signed_out());
    let mut junk = client.clone().set_cookie(ACCESS, "junk").set_cookie(REFRESH, "junk");
    let front = junk.get("/front").await;
    assert_eq!(text(&front), (200, "nobody"), "junk locks nobody out of a page for everybody");
    assert!(junk.is_signed_out());
    // Another site's link cannot sign anybody out: there the refresh cookie is not seen.
    let mut foreign =
        client.clone().drop_cookie(REFRESH).without("sec-fetch-site").with("sec-fetch-site", "cross-site");
    app.wait(EXPIRED);
    let answer = foreign.get("/page").await;
    assert_eq!(names(&answer), Vec::<String>::new());
    // A program's cookies are never cleared by a refusal.
    let mut program = client.set_cookie(ACCESS, "junk").set_cookie(REFRESH, "junk").without("accept");
    let answer = program.get("/page").await;
    assert_eq!((answer.status(), names(&answer)), (401, vec![]));
}

#[tokio::test]
async fn a_link_from_another_site_ends_on_the_page_signed_in() {
    let app = app().await;
    let (client, _) = signed_in(&app, "name=ada&remember=true").await;
    app.wait(EXPIRED);
    // The browser follows the link: it withholds the strict refresh cookie, and the access cookie has expired.
    let link = client.clone().drop_cookie(ACCESS).drop_cookie(REFRESH);
    for path in ["/page?x=1&y=%22", "/front?x=1&y=%22"] {
        let mut link = link.clone().without("sec-fetch-site").with("sec-fetch-site", "cross-site");
        let answer = link.get(path).await;
        assert_eq!(
            (answer.status(), answer.header("refresh")),
            (200, Some(&*format!("0; url={path}"))),
            "{path}"
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let html = std::str::from_utf8(&answer.body).unwrap();
        assert!(html.contains(&format!("href=\"{}\"", path.replace('&', "&amp;"))), "{html}");
        // That page's own request is the same site's, so it has all cookies.
        let mut own = client.clone().drop_cookie(ACCESS);
        assert_eq!(text(&own.get(path).await), (200, "ada"), "{path}");
    }
    // Whoever has no session is not kept waiting, and nobody goes round in circles.
    let mut stranger = app.client().with("accept", PAGE).with("sec-fetch-site", "cross-site");
    assert_eq!(stranger.get("/page").await.status(), 303);
    assert_eq!(text(&stranger.get("/front").await), (200, "nobody"));
    let mut left_over = link;
    assert_eq!(
        left_over.get("/page").await.status(),
        303,
        "asked by our own page, and still no refresh cookie"
    );
}

async fn restricted() -> TestApp {
    app_with(|builder| builder.cookies(CookieOptions::new().path(CookieKind::Refresh, "/v1/auth/refresh")))
        .await
}

const RESTRICTED: &str = "__Secure-countersign_refresh";

#[tokio::test]
async fn sec_056_a_refresh_cookie_with_a_path_renews_at_its_path_and_comes_back() {
    let app = restricted().await;
    let (client, answer) = signed_in(&app, "name=ada&remember=true").await;
    assert_eq!(names(&answer), [ACCESS, RESTRICTED, CSRF]);
    app.wait(EXPIRED);
    let mut page = client.clone().drop_cookie(RESTRICTED); // the browser does not send it there
    let answer = page.get("/page?x=1&y=a%20b").await;
    let location = answer.header("location").unwrap().to_owned();
    assert_eq!(answer.status(), 303);
    assert!(location.starts_with("/v1/auth/refresh/page?next=%2Fpage%3Fx%3D1%26y%3Da%2520b&"), "{location}");

    let mut at_path = client.clone();
    let back = at_path.get(&location).await;
    assert_eq!((back.status(), back.header("location")), (303, Some("/page?x=1&y=a%20b")), "query kept");
    assert_eq!(names(&back), [ACCESS, RESTRICTED, CSRF]);
    assert_eq!(text(&at_path.clone().drop_cookie(RESTRICTED).get("/page").await), (200, "ada"));

    // The value cannot be turned elsewhere, and does not last.
    for other in [
        location.replace("%2Fpage", "%2Fsecret"),
        location.replace("next=%2Fpage", "next=%2F%2Fevil.example"),
        location.replace("mac=", "mac=0"),
        location.split("&mac").next().unwrap().to_owned(),
        "/v1/auth/refresh/page?next=/page".to_owned(),
        "/v1/auth/refresh/page".to_owned(),
    ] {
        let answer = client.clone().get(&other).await;
        assert_eq!((answer.status(), names(&answer)), (404, vec![]), "{other}");
    }
    app.wait(301);
    assert_eq!(client.clone().get(&location).await.status(), 404);
}

#[tokio::test]
async fn a_link_from_another_site_comes_through_a_restricted_refresh_cookie_too() {
    let app = restricted().await;
    let (client, _) = signed_in(&app, "name=ada&remember=true").await;
    app.wait(EXPIRED);
    let mut link = client.clone().drop_cookie(RESTRICTED).drop_cookie(ACCESS);
    let location = link.get("/page").await.header("location").unwrap().to_owned();
    // A redirect that another site's link began: the cookie is withheld, so our own page asks again.
    let mut foreign = link.clone().without("sec-fetch-site").with("sec-fetch-site", "cross-site");
    let answer = foreign.get(&location).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.header("refresh").unwrap().starts_with("0; url=/v1/auth/refresh/page?"));
    assert_eq!(client.clone().get(&location).await.header("location"), Some("/page"));
    let mut without = link;
    let answer = without.get(&location).await;
    assert_eq!(
        (answer.status(), answer.header("location")),
        (303, Some("/login?next=%2Fpage")),
        "no session there"
    );
    let mut junk = client.set_cookie(RESTRICTED, "junk");
    let answer = junk.get(&location).await;
    assert_eq!((answer.status(), answer.header("location")), (303, Some("/login?next=%2Fpage")));
    assert!(junk.is_signed_out());
}

#[tokio::test]
async fn a_request_with_a_token_never_sets_changes_or_clears_a_session_cookie() {
    let app = app_with(|builder| builder.request_loader_with_json(by_key)).await;
    let (mut client, _) = signed_in(&app, "name=ada").await;
    let program = app.register("prog").await;
    app.wait(EXPIRED);
    let before = client.jar().clone();
    // An API key, beside cookies that have expired.
    let mut with_key = client.clone().with("x-api-key", "key-of-bob");
    let answer = with_key.get("/page").await;
    assert_eq!((text(&answer), names(&answer)), ((200, "bob"), vec![]), "the key decides");
    let answer = with_key.clone().csrf().post_nothing("/api-sign-in").await;
    assert_eq!((answer.status(), names(&answer)), (200, vec![]), "even where the handler wants to");
    assert_eq!(with_key.jar(), &before);
    // A token in the body, which the handler still gets.
    let body = json!({ "api_key": "key-of-cleo", "x": 1 });
    let mut plain = app.client();
    let answer = plain.post("/guarded", &body).await;
    assert_eq!((answer.status(), answer.json(), names(&answer)), (200, body, vec![]));
    assert_eq!(plain.post("/guarded", &json!({ "api_key": "junk" })).await.status(), 401);
    // An access token by header, beside the cookies.
    let refreshed = app.refresh(&program.refresh_token).await;
    let access = refreshed.json()["access_token"].as_str().unwrap().to_owned();
    let answer = client.clone().bearer(&access).get("/front").await;
    assert_eq!((answer.status(), names(&answer)), (200, vec![]));
    let answer = client.clone().bearer("junk").get("/page").await;
    assert_eq!((answer.status(), names(&answer)), (401, vec![]), "a bad token hides behind no cookie");
    // And the session is as it was.
    assert_eq!(text(&client.get("/page").await), (200, "ada"));
    let junk = client.set_cookie(ACCESS, "junk").set_cookie(REFRESH, "junk");
    let answer = junk.clone().with("x-api-key", "key-of-bob").get("/page").await;
    assert_eq!((text(&answer), names(&answer)), ((200, "bob"), vec![]), "junk cookies hide nothing");
}

#[tokio::test]
async fn the_order_of_session_and_request_is_the_programs_choice() {
    let app = app_with(|builder| builder.request_loader(by_key).user_order(UserOrder::SessionFirst)).await;
    let (client, _) = signed_in(&app, "name=ada").await;
    let mut both = client.clone().with("x-api-key", "key-of-bob");
    assert_eq!(text(&both.get("/page").await), (200, "ada"));
    let mut junk = both.set_cookie(ACCESS, "junk").set_cookie(REFRESH, "junk");
    assert_eq!(text(&junk.get("/page").await), (200, "bob"));
    let mut alone = app.client().with("x-api-key", "key-of-bob");
    assert_eq!(text(&alone.get("/page").await), (200, "bob"));
    assert_eq!(text(&alone.get("/guarded").await), (200, "guarded"));
    assert_eq!(app.client().get("/guarded").await.status(), 401);
    assert_eq!(
        app.client().send(Method::OPTIONS, "/guarded", Body::empty()).await.status(),
        405,
        "asks nobody"
    );
}

#[tokio::test]
async fn a_session_from_another_client_is_not_fresh_or_not_accepted_as_configured() {
    let elsewhere = |client: &Client| client.clone().without("user-agent").with("user-agent", "Chrome/1");
    for (binding, page, secret) in
        [(DeviceBinding::Off, 200, 200), (DeviceBinding::Basic, 200, 303), (DeviceBinding::Strong, 303, 303)]
    {
        let app = app_with(|builder| builder.login_sessions(sessions().bound_to_device(binding))).await;
        let (client, _) = signed_in(&app, "name=ada&remember=true").await;
        let mut other = elsewhere(&client);
        assert_eq!(other.get("/secret").await.status(), secret, "{binding:?}");
        let mut other = elsewhere(&client).with("x-forwarded-for", "203.0.113.9");
        assert_eq!(other.get("/page").await.status(), page, "{binding:?}");
        assert_eq!(other.is_signed_out(), binding == DeviceBinding::Strong, "the thief's browser forgets");
        // Neither its address nor a header about it makes a client another one, and the owner stays signed in.
        let mut own = client.clone().with("x-forwarded-for", "203.0.113.9");
        assert_eq!(own.get("/secret").await.status(), 200, "{binding:?}");
        app.wait(EXPIRED);
        for _ in 0..2 {
            assert_eq!(text(&own.get("/page").await), (200, "ada"), "{binding:?}: a remembered user stays");
        }
        let mut late = elsewhere(&own).drop_cookie(ACCESS);
        assert_eq!(late.get("/page").await.status(), page, "{binding:?}: the refresh cookie is bound, too");
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_signs_nobody_out() {
    let app = app().await;
    let (mut client, _) = signed_in(&app, "name=ada").await;
    app.wait(EXPIRED);
    app.store.fail(true);
    let answer = client.get("/page").await;
    assert_eq!((answer.status(), names(&answer)), (503, vec![]));
    app.store.fail(false);
    assert_eq!(text(&client.get("/page").await), (200, "ada"));
}

#[tokio::test]
async fn a_user_who_is_gone_is_sent_to_the_sign_in_page() {
    let app = app().await;
    let (mut client, _) = signed_in(&app, "name=gone").await;
    assert_eq!(client.get("/page").await.status(), 303);
    assert!(client.is_signed_out());
}

#[tokio::test]
async fn the_csrf_value_is_in_a_page_by_one_call() {
    let app = app().await;
    let (mut client, _) = signed_in(&app, "name=ada").await;
    app.wait(EXPIRED);
    let page = client.get("/form").await;
    let expected = format!("<input type=\"hidden\" name=\"csrf_token\" value=\"{}\">", client.cookie(CSRF));
    assert_eq!(text(&page), (200, &*expected));
}

#[tokio::test]
async fn pages_must_be_paths_of_the_program() {
    for page in ["https://sso.example/login", "//evil.example", "login", ""] {
        let built =
            TestApp::try_with(|builder| builder.login_sessions(LoginSessions::new().sign_in_page(page)))
                .await;
        assert!(built.is_err(), "{page}");
    }
}
