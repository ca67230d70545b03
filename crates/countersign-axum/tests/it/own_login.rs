//! Users that a program keeps itself log in by name and password, with everything that a login has.

use std::sync::{Arc, Mutex};

use axum::response::{IntoResponse, Redirect};
use axum::routing::{get, post};
use axum::{Form, Router};
use countersign_axum::{AuthBuilder, CurrentUser, Fresh, HandlerError, Reply, SignIn, login_routes, routes};
use countersign_core::flow::{CheckPassword, FindUser, LoginError, PasswordVerdict, Sessions};
use countersign_core::model::{EndReason, Password};
use countersign_http::ErrorCode;
use http::Method;
use serde_json::{Map, Value, json};

use crate::app::TestApp;
use crate::client::{ACCESS, Client, DEVICE, Response};
use crate::log;
use crate::members::with_routes;

/// What werkzeug 3.1 has made of `correct horse`.
const WERKZEUG: &str = "scrypt:1024:8:1$Ddsa4EtrYv6UcMTj$e7e0bb4f2d134ad8cdc9e08623fe3205c83c21cd30db9a64f73c0bdff2834e09457b7993c498960912537a413812d4c0802d50f4699570a272617476ccb72583";
const PASSWORD: &str = "correct horse";

#[derive(Clone, Debug)]
struct Member {
    id: i64,
    name: &'static str,
    is_active: bool,
    password_hash: Option<String>,
}

/// A table of members in the test's hands.
#[derive(Clone, Debug, Default)]
struct Members(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    rows: Vec<Member>,
    /// The text of the error that every query fails with.
    failure: Option<&'static str>,
    queries: Vec<&'static str>,
    keeps_old_hashes: bool,
    /// What happens while a password is being checked: all sessions end, after the hash was changed to this one.
    meanwhile: Option<(Sessions, Option<String>)>,
}

impl Members {
    fn of(password_hash: Option<&str>) -> Self {
        let member = |id, name, is_active| {
            let password_hash = password_hash.map(str::to_owned);
            Member { id, name, is_active, password_hash }
        };
        let members = Self::default();
        members.table(|table| {
            table.rows = vec![member(17, "ada", true), member(18, "bob", true), member(19, "eve", false)];
        });
        members
    }

    fn table<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    fn hash_of(&self, name: &str) -> String {
        self.table(|table| {
            let member = table.rows.iter().find(|member| member.name == name);
            member.and_then(|member| member.password_hash.clone()).unwrap()
        })
    }

    fn find(&self, what: &'static str, of: impl Fn(&Member) -> bool) -> Result<Option<Member>, String> {
        self.table(|table| {
            table.queries.push(what);
            match table.failure {
                Some(failure) => Err(failure.to_owned()),
                None => Ok(table.rows.iter().find(|member| member.is_active && of(member)).cloned()),
            }
        })
    }

    async fn app(&self) -> TestApp {
        let members = self.clone();
        TestApp::with(move |auth| configured(auth, members)).await
    }
}

fn configured(auth: AuthBuilder, members: Members) -> AuthBuilder {
    auth.own_users(members)
        .show_user(|member: &Member| Map::from_iter([("name".to_owned(), Value::from(member.name))]))
}

impl FindUser for Members {
    type User = Member;
    type Id = i64;
    type Error = String;

    fn id(member: &Member) -> i64 {
        member.id
    }

    async fn find_by_id(&self, id: i64) -> Result<Option<Member>, String> {
        self.find("id", |member| member.id == id)
    }

    async fn find_by_login_name(&self, name: &str) -> Result<Option<Member>, String> {
        self.find("name", |member| member.name.eq_ignore_ascii_case(name))
    }
}

impl CheckPassword for Members {
    fn password_hash(member: &Member) -> Option<&str> {
        member.password_hash.as_deref()
    }

    async fn replace_password_hash(&self, member: &Member, old: &str, new: &str) -> Result<(), String> {
        self.table(|table| {
            let is_same =
                |row: &&mut Member| row.id == member.id && row.password_hash.as_deref() == Some(old);
            if let (false, Some(row)) = (table.keeps_old_hashes, table.rows.iter_mut().find(is_same)) {
                row.password_hash = Some(new.to_owned());
            }
        });
        Ok(())
    }

    async fn check_password(&self, member: &Member, password: &Password) -> Result<PasswordVerdict, String> {
        if let Some((sessions, hash)) = self.table(|table| table.meanwhile.take()) {
            self.table(|table| {
                for row in table.rows.iter_mut().filter(|row| row.id == member.id) {
                    row.password_hash = hash.clone().or(row.password_hash.take());
                }
            });
            sessions.end_all(member.id.into(), None, EndReason::AllEnded).await.unwrap();
        }
        Ok(match (member.name, password.expose()) {
            ("bob", "by the directory") => PasswordVerdict::Right,
            ("bob", _) => PasswordVerdict::Wrong,
            _ => PasswordVerdict::ByHash,
        })
    }
}

fn client(app: &TestApp) -> Client {
    with_routes(app, own_routes())
}

fn own_routes() -> Router {
    Router::new()
        .route("/sign-in", post(sign_in))
        .route("/profile", get(async |member: CurrentUser<Member>| member.name))
        .route("/maybe", get(maybe))
        .route("/fresh", post(async |member: Fresh<CurrentUser<Member>>| member.id.to_string()))
        .route("/maybe-fresh", post(maybe_fresh))
        .merge(routes())
        .merge(login_routes())
}

#[derive(serde::Deserialize)]
struct Login {
    name: String,
    password: String,
}

async fn sign_in(sign_in: SignIn, Form(login): Form<Login>) -> Result<impl IntoResponse, HandlerError> {
    Ok((sign_in.login(&login.name, login.password).await?, Redirect::to("/")))
}

async fn maybe(member: Option<CurrentUser<Member>>) -> &'static str {
    member.map_or("nobody", |member| member.name)
}

async fn maybe_fresh(member: Option<Fresh<CurrentUser<Member>>>) -> &'static str {
    member.map_or("nobody", |member| member.name)
}

async fn login(client: &Client, name: &str, password: &str) -> Response {
    let body = json!({ "email_or_username": name, "password": password });
    client.clone().post("/v1/auth/login", &body).await
}

async fn by_form(browser: &mut Client, name: &str, password: &str) -> Response {
    let form = format!("name={name}&password={}", password.replace(' ', "+"));
    let bytes = form.into_bytes();
    browser.send_bytes(Method::POST, "/sign-in", Some("application/x-www-form-urlencoded"), bytes).await
}

fn access(reply: &Response) -> String {
    reply.json()["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn own_users_log_in_and_are_loaded_as_the_type_of_the_program() {
    let app = Members::of(Some(WERKZEUG)).app().await;
    let client = client(&app);
    let reply = login(&client, " Ada ", PASSWORD).await;
    assert_eq!(reply.status(), 200, "{reply:?}");
    assert_eq!(reply.json()["user"], json!({ "id": "17", "name": "ada" }));
    assert!(reply.json()["device_token"].is_string());
    let mut signed_in = client.clone().bearer(&access(&reply));
    assert_eq!(signed_in.get("/v1/auth/me").await.json(), json!({ "id": "17", "name": "ada" }));
    assert_eq!(signed_in.get("/profile").await.body, "ada");
    assert_eq!(signed_in.get("/hello").await.body, "17");
    let refresh = json!({ "refresh_token": reply.json()["refresh_token"] });
    assert_eq!(client.clone().post("/v1/auth/refresh", &refresh).await.json()["user"]["name"], "ada");
    let register = json!({ "email": "ada@example.org", "password": PASSWORD });
    assert_eq!(client.clone().post("/v1/auth/register", &register).await.status(), 404);
}

#[tokio::test]
async fn sec_130_an_unknown_or_disabled_user_and_a_wrong_password_are_one_answer_after_the_same_work() {
    let members = Members::of(Some(WERKZEUG));
    let app = members.app().await;
    let client = client(&app);
    let mut seen = Vec::new();
    for (name, password) in [("ada", "a guess"), ("nobody", PASSWORD), ("eve", PASSWORD), ("a\u{301}", "x")] {
        members.table(|table| table.queries.clear());
        let (hashes, calls) = (app.hashes(), app.store.total_calls());
        let reply = login(&client, name, password).await;
        assert_eq!(reply.outcome(), (401, "invalid_credentials".to_owned()), "{name}");
        let queries = members.table(|table| table.queries.clone());
        seen.push((reply.body, queries, app.hashes() - hashes, app.store.total_calls() - calls));
    }
    assert_eq!(seen[0].1, ["name", "name"]);
    assert_eq!(seen[0].2, 1);
    for other in &seen[1..] {
        assert_eq!(other, &seen[0]);
    }
}

#[tokio::test]
async fn sec_126_guesses_at_an_own_user_are_counted_before_they_are_hashed() {
    let app = Members::of(Some(WERKZEUG)).app().await;
    let client = client(&app);
    let known = login(&client, "ada", PASSWORD).await.json()["device_token"].clone();
    let mut refused = None;
    for guess in 0..200 {
        let hashes = app.hashes();
        // The name is counted by its folded form, so writing it in another way helps nobody.
        let reply = login(&client, if guess % 2 == 0 { "ada" } else { "ADA" }, "a guess").await;
        if reply.status() == 429 {
            assert_eq!(app.hashes(), hashes, "it was not hashed");
            assert!(reply.header("retry-after").is_some());
            refused = Some(guess);
            break;
        }
        assert_eq!(reply.status(), 401);
    }
    assert!(refused.is_some_and(|guess| guess < 20), "{refused:?}");
    assert_eq!(login(&client, "ada", PASSWORD).await.status(), 429, "a stranger waits");
    let body = json!({ "username": "ada", "password": PASSWORD, "device_token": known });
    assert_eq!(client.clone().post("/v1/auth/login", &body).await.status(), 200, "the owner does not");
}

#[tokio::test]
async fn sec_079_a_login_by_form_ends_the_session_whose_cookies_the_browser_carries() {
    let app = Members::of(Some(WERKZEUG)).app().await;
    let mut browser = client(&app).with("sec-fetch-site", "same-origin");
    let first = by_form(&mut browser, "ada", PASSWORD).await;
    assert_eq!((first.status(), first.header("location")), (303, Some("/")));
    let (before, device) = (browser.cookie(ACCESS).to_owned(), browser.cookie(DEVICE).to_owned());
    assert!(!device.is_empty());
    assert_eq!(browser.get("/profile").await.body, "ada");

    assert_eq!(
        by_form(&mut browser, "ada", "a guess").await.outcome(),
        (401, "invalid_credentials".to_owned())
    );
    assert_eq!(browser.get("/profile").await.body, "ada", "a wrong password ends nothing");

    assert_eq!(by_form(&mut browser, "ada", PASSWORD).await.status(), 303);
    assert_eq!(browser.cookie(DEVICE), device, "the same device");
    assert_eq!(browser.get("/profile").await.body, "ada");
    let mut old = client(&app).bearer(&before);
    assert_eq!(old.get("/profile").await.outcome(), (401, "invalid_token".to_owned()));
    let mut foreign = client(&app).with("sec-fetch-site", "cross-site");
    assert_eq!(by_form(&mut foreign, "ada", PASSWORD).await.outcome(), (403, "cross_site".to_owned()));
}

#[tokio::test]
async fn sec_117_an_old_hash_is_replaced_at_the_first_login_unless_the_program_keeps_it() {
    for keeps_old_hashes in [false, true] {
        let members = Members::of(Some(WERKZEUG));
        members.table(|table| table.keeps_old_hashes = keeps_old_hashes);
        let app = members.app().await;
        let client = client(&app);
        assert_eq!(login(&client, "ada", "a guess").await.status(), 401);
        assert_eq!(members.hash_of("ada"), WERKZEUG);
        for _ in 0..2 {
            assert_eq!(login(&client, "ada", PASSWORD).await.status(), 200);
            assert_eq!(members.hash_of("ada").starts_with("$argon2id$"), !keeps_old_hashes);
        }
        assert_eq!(members.hash_of("eve"), WERKZEUG);
    }
}

#[tokio::test]
async fn sec_119_a_hostile_or_missing_hash_costs_one_hash_and_lets_nobody_in() {
    const HUGE: &str = "$argon2id$v=19$m=4294967295,t=4294967295,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
    for hash in [Some(HUGE), Some("scrypt:1073741824:8:1$salt$00"), Some("plain"), Some(""), None] {
        let app = Members::of(hash).app().await;
        let reply = login(&client(&app), "ada", PASSWORD).await;
        assert_eq!(reply.outcome(), (401, "invalid_credentials".to_owned()), "{hash:?}");
        assert_eq!(app.hashes(), 1, "{hash:?}");
    }
}

#[tokio::test]
async fn a_program_may_check_passwords_in_a_way_of_its_own() {
    let app = Members::of(Some(WERKZEUG)).app().await;
    let client = client(&app);
    assert_eq!(login(&client, "bob", "by the directory").await.json()["user"]["id"], "18");
    assert_eq!(login(&client, "bob", PASSWORD).await.status(), 401, "its hash is not asked");
}

#[tokio::test]
async fn a_database_that_fails_is_a_503_or_500_whose_cause_only_the_log_learns() {
    const FAILURE: &str = "the members' database at 10.1.2.3 is down";
    async fn query() -> Result<String, HandlerError> {
        Err(std::io::Error::other(FAILURE))?
    }
    let members = Members::of(Some(WERKZEUG));
    let app = members.app().await;
    let client = with_routes(&app, own_routes().route("/query", get(query)));
    let signed_in = client.clone().bearer(&access(&login(&client, "ada", PASSWORD).await));
    members.table(|table| table.failure = Some(FAILURE));
    let unavailable = (503, "unavailable".to_owned());
    for (reply, outcome) in [
        (login(&client, "ada", PASSWORD).await, unavailable.clone()),
        (login(&client, "nobody", PASSWORD).await, unavailable.clone()),
        (by_form(&mut client.clone(), "ada", PASSWORD).await, unavailable.clone()),
        (signed_in.clone().get("/profile").await, unavailable.clone()),
        (signed_in.clone().get("/maybe").await, unavailable),
        (signed_in.clone().get("/query").await, (500, "internal_error".to_owned())),
    ] {
        assert_eq!(reply.outcome(), outcome);
        assert!(!reply.shown().contains("10.1.2.3"));
    }
    let line = log::lines_with("a handler failed").into_iter().find(|line| line.contains(FAILURE));
    assert!(line.is_some_and(|line| line.contains("own_login.rs:")), "the log names the line with the `?`");
    assert!(log::lines_with(FAILURE).len() >= 6);
    members.table(|table| table.failure = None);
    assert_eq!(login(&client, "ada", PASSWORD).await.status(), 200, "a failure counts as no attempt");
}

#[tokio::test]
async fn an_own_user_that_is_gone_is_refused_at_the_next_request() {
    let members = Members::of(Some(WERKZEUG));
    let app = members.app().await;
    let client = client(&app);
    let pair = login(&client, "ada", PASSWORD).await;
    let mut signed_in = client.clone().bearer(&access(&pair));
    assert_eq!(signed_in.get("/profile").await.status(), 200);
    members.table(|table| table.rows.retain(|member| member.id != 17));
    for path in ["/profile", "/maybe", "/v1/auth/me"] {
        assert_eq!(signed_in.get(path).await.outcome(), (401, "invalid_token".to_owned()), "{path}");
    }
    assert_eq!(signed_in.post_nothing("/fresh").await.outcome(), (401, "invalid_token".to_owned()));
    let refresh = json!({ "refresh_token": pair.json()["refresh_token"] });
    assert_eq!(client.clone().post("/v1/auth/refresh", &refresh).await.status(), 401);
}

#[tokio::test]
async fn optional_and_fresh_users_let_nobody_through_by_a_bad_or_stale_token() {
    let app = Members::of(Some(WERKZEUG)).app().await;
    let client = client(&app);
    let pair = login(&client, "ada", PASSWORD).await;
    let refresh = json!({ "refresh_token": pair.json()["refresh_token"] });
    let stale = access(&client.clone().post("/v1/auth/refresh", &refresh).await);
    let (fresh, none) = (access(&pair), String::new());
    let get = ("GET", "/maybe");
    let stale_refusal = (401, "fresh_token_required");
    for ((method, path), token, expected) in [
        (get, &none, Ok("nobody")),
        (get, &fresh, Ok("ada")),
        (get, &stale, Ok("ada")),
        (get, &"garbage".to_owned(), Err((401, "invalid_token"))),
        (("POST", "/fresh"), &none, Err((401, "missing_token"))),
        (("POST", "/fresh"), &fresh, Ok("17")),
        (("POST", "/fresh"), &stale, Err(stale_refusal)),
        (("POST", "/maybe-fresh"), &none, Ok("nobody")),
        (("POST", "/maybe-fresh"), &fresh, Ok("ada")),
        (("POST", "/maybe-fresh"), &stale, Err(stale_refusal)),
    ] {
        let mut client = client.clone();
        if !token.is_empty() {
            client = client.bearer(token);
        }
        let reply = client.send(method.parse().unwrap(), path, axum::body::Body::empty()).await;
        match expected {
            Ok(body) => {
                assert_eq!((reply.status(), &*reply.body), (200, body.as_bytes()), "{path} {reply:?}")
            }
            Err((status, code)) => assert_eq!(reply.outcome(), (status, code.to_owned()), "{path}"),
        }
    }
}

#[tokio::test]
async fn a_password_that_was_changed_ends_all_sessions() {
    let members = Members::of(Some(WERKZEUG));
    let app = members.app().await;
    let client = client(&app);
    let signed_in = client.clone().bearer(&access(&login(&client, "ada", PASSWORD).await));
    let accounts = app.auth.accounts();
    let hash = accounts.hash_new_password("another horse".to_owned(), &["ada"]).await.unwrap();
    members.table(|table| table.rows[0].password_hash = Some(hash.expose().to_owned()));
    app.auth.sessions().end_all(17.into(), None, EndReason::CredentialsChanged).await.unwrap();
    assert_eq!(signed_in.clone().get("/profile").await.status(), 401);
    assert_eq!(login(&client, "ada", PASSWORD).await.status(), 401);
    assert_eq!(login(&client, "ada", "another horse").await.status(), 200);
    assert!(accounts.hash_new_password("short".to_owned(), &[]).await.is_err());
}

#[tokio::test]
async fn a_login_under_way_fails_if_the_password_changes_and_outlives_a_log_out_everywhere() {
    for (name, password, changed, status) in [
        ("ada", PASSWORD, None, 200),
        ("ada", PASSWORD, Some("another hash"), 401),
        ("bob", "by the directory", None, 200),
        ("bob", "by the directory", Some("another hash"), 401),
    ] {
        let members = Members::of(Some(WERKZEUG));
        let app = members.app().await;
        let meanwhile = (app.auth.sessions().clone(), changed.map(str::to_owned));
        members.table(|table| table.meanwhile = Some(meanwhile));
        let reply = login(&client(&app), name, password).await;
        assert_eq!(reply.status(), status, "{name} {changed:?}");
    }
}

#[tokio::test]
async fn errors_of_handlers_have_the_answers_of_the_ready_made_routes() {
    async fn not_found() -> Result<(), HandlerError> {
        Err(Reply::error(ErrorCode::NotFound))?
    }
    async fn text() -> Result<(), HandlerError> {
        Err("a text that is an error")?
    }
    async fn throttled() -> Result<(), HandlerError> {
        Err(LoginError::TooManyAttempts { retry_after: std::time::Duration::from_secs(7) })?
    }
    let app = TestApp::new().await;
    let router = Router::new()
        .route("/not-found", get(not_found))
        .route("/text", get(text))
        .route("/throttled", get(throttled));
    let mut client = with_routes(&app, router);
    assert_eq!(client.get("/not-found").await.outcome(), (404, "not_found".to_owned()));
    assert_eq!(client.get("/text").await.outcome(), (500, "internal_error".to_owned()));
    let throttled = client.get("/throttled").await;
    assert_eq!((throttled.status(), throttled.header("retry-after")), (429, Some("7")));
}

#[tokio::test]
async fn the_login_alone_signs_in_accounts_where_there_are_no_own_users() {
    let app = TestApp::new().await;
    app.register("ada").await;
    let client = with_routes(&app, login_routes());
    let reply = login(&client, "ada", crate::app::PASSWORD).await;
    assert_eq!(reply.json()["user"]["email"], "ada@example.org");
    assert_eq!(client.clone().post("/v1/auth/register", &crate::app::credentials("bob")).await.status(), 404);
}

#[tokio::test]
async fn users_who_log_in_come_from_one_source() {
    let twice = |auth: AuthBuilder| auth.own_users(Members::default()).own_users(Members::default());
    let error = TestApp::try_with(twice).await.unwrap_err().to_string();
    assert!(error.contains("`.own_users(…)` is given twice"), "{error}");
}
