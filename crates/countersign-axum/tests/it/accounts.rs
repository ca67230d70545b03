//! Names, passwords, and what the world learns about who has an account.

use countersign_core::model::{EmailAddress, User};
use countersign_jwt::{Clock as _, UserId};
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::{PASSWORD, TestApp, credentials};
use crate::client::Response;

async fn login(app: &TestApp, name: &str, password: &str) -> Response {
    let body = json!({ "email_or_username": name, "password": password });
    app.client().post("/v1/auth/login", &body).await
}

/// A password of this many characters that nobody has.
fn uncommon(length: usize) -> String {
    "zq~Wx0".chars().cycle().take(length).collect()
}

#[tokio::test]
async fn sec_112_a_password_has_8_code_points_to_1024_bytes() {
    let app = TestApp::new().await;
    for (case, password, status) in [
        ("7", uncommon(7), 422),
        ("8", uncommon(8), 201),
        ("64", uncommon(64), 201),
        ("1024", uncommon(1024), 201),
        ("1025", uncommon(1025), 422),
        ("7 in 28 bytes", "😀".repeat(7), 422),
        ("8 in 32 bytes", "😀".repeat(8), 201),
        ("256 in 1024 bytes", "😀".repeat(256), 201),
        ("257 in 1028 bytes", "😀".repeat(257), 422),
    ] {
        let name = format!("n{}", case.replace(' ', "-"));
        let body = json!({ "email": format!("{name}@example.org"), "password": password });
        let reply = app.client().post("/v1/auth/register", &body).await;
        assert_eq!(reply.status(), status, "{case}");
        assert_eq!(reply.json()["fields"].get("password").is_some(), status == 422, "{case}");
        if status == 201 {
            assert_eq!(login(&app, &format!("{name}@example.org"), &password).await.status(), 200, "{case}");
        }
    }
    // An account may be older than the minimum, but nothing longer than the maximum is hashed.
    let hashes = app.hashes();
    assert_eq!(login(&app, "nobody", "short").await.status(), 401);
    assert_eq!(login(&app, "nobody", &uncommon(1025)).await.status(), 422);
    assert_eq!(app.hashes(), hashes + 1);
}

#[tokio::test]
async fn sec_114_a_password_that_others_guess_first_is_refused_and_the_reason_is_told() {
    let app = TestApp::new().await;
    for (password, why) in [
        ("Password1", "this is one of the most common passwords; use another one"),
        ("ada.lovelace", "your password must not be your e-mail address or your username"),
        ("ADA.LOVELACE@example.org", "your password must not be your e-mail address or your username"),
        ("countessADA", "your password must not be your e-mail address or your username"),
        ("countes", "use at least 8 characters"),
    ] {
        let body =
            json!({ "email": "ada.lovelace@example.org", "username": "CountessAda", "password": password });
        let reply = app.client().post("/v1/auth/register", &body).await;
        assert_eq!(reply.status(), 422, "{password}");
        assert_eq!(reply.json()["fields"], json!({ "password": why }), "{password}");
    }
    assert_eq!(app.hashes(), 0);
}

#[tokio::test]
async fn sec_115_a_password_is_taken_exactly_as_sent() {
    let app = TestApp::new().await;
    let long = "x".repeat(72);
    for (case, registered, others) in [
        (
            "spaces",
            " leading and trailing ".to_owned(),
            vec!["leading and trailing", " leading and trailing", "leading and trailing "],
        ),
        ("case", "CaseMatters".to_owned(), vec!["casematters", "CASEMATTERS"]),
        ("composed", "caf\u{e9} noir".to_owned(), vec!["cafe\u{301} noir", "cafe noir"]),
        ("NUL inside", "before\0after".to_owned(), vec!["before", "before\0", "before\0other"]),
        ("more than 72 bytes", format!("{long}tail-one"), vec![long.as_str()]),
        ("width", "\u{ff41}bcdefgh".to_owned(), vec!["abcdefgh"]),
    ] {
        let email = format!("{}@example.org", case.replace(' ', "-"));
        let body = json!({ "email": email, "password": registered });
        assert_eq!(app.client().post("/v1/auth/register", &body).await.status(), 201, "{case}");
        for other in others {
            assert_eq!(login(&app, &email, other).await.status(), 401, "{case}: {other:?}");
        }
        assert_eq!(login(&app, &email, &registered).await.status(), 200, "{case}");
    }
    let other_tail = format!("{long}tail-two");
    assert_eq!(login(&app, "more-than-72-bytes@example.org", &other_tail).await.status(), 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sec_126_of_200_parallel_logins_at_most_5_are_checked() {
    let app = TestApp::new().await;
    app.register("ada").await;
    for name in ["ada", "nobody"] {
        let before = app.hashes();
        let attempts: Vec<_> = (0..200)
            .map(|i| {
                let app = app.clone();
                tokio::spawn(async move { login(&app, name, &format!("wrong password {i}")).await })
            })
            .collect();
        let mut refused = 0;
        for attempt in attempts {
            let reply = attempt.await.unwrap();
            match reply.status() {
                401 => {}
                429 => {
                    refused += 1;
                    assert_eq!(reply.code(), "too_many_attempts");
                    let retry_after: u64 = reply.header("retry-after").unwrap().parse().unwrap();
                    assert!(retry_after >= 1, "{name}");
                }
                other => panic!("{name}: {other}"),
            }
        }
        let hashes = app.hashes() - before;
        assert!(hashes <= 5, "{name}: {hashes}");
        assert_eq!(refused, 200 - hashes, "{name}");
    }
}

#[tokio::test]
async fn sec_132_a_known_and_an_unknown_account_are_throttled_alike_and_recover() {
    let app = TestApp::new().await;
    app.register("ada").await;
    let mut transcripts = Vec::new();
    for name in ["ada", "nobody", "nobody@example.org", "not a possible name"] {
        let mut transcript = Vec::new();
        for wait in [0, 0, 0, 0, 0, 0, 1, 1, 1, 3, 4] {
            app.wait(wait);
            let reply = login(&app, name, "wrong password").await;
            transcript.push((reply.status(), reply.header("retry-after").map(str::to_owned), reply.body));
        }
        transcripts.push(transcript);
        app.wait(3600);
    }
    for transcript in &transcripts {
        assert_eq!(*transcript, transcripts[0]);
    }
    let short: Vec<_> = transcripts[0].iter().map(|(status, retry, _)| (*status, retry.as_deref())).collect();
    let (checked, refused) = ((401, None), |secs| (429, Some(secs)));
    // Five failures are free; then the pauses are 1, 2 and 4 seconds.
    let expected = [
        checked,
        checked,
        checked,
        checked,
        checked,
        refused("1"),
        checked,
        refused("1"),
        checked,
        refused("1"),
        checked,
    ];
    assert_eq!(short, expected);
}

#[tokio::test]
async fn a_success_forgets_the_failures_and_refused_attempts_are_not_counted() {
    let app = TestApp::new().await;
    app.register("ada").await;
    for _ in 0..4 {
        assert_eq!(login(&app, "ada", "wrong password").await.status(), 401);
    }
    assert_eq!(login(&app, "ada", PASSWORD).await.status(), 200);
    for _ in 0..5 {
        assert_eq!(login(&app, "ada", "wrong password").await.status(), 401);
    }
    for _ in 0..20 {
        assert_eq!(login(&app, "ada", PASSWORD).await.status(), 429);
    }
    app.wait(1);
    assert_eq!(login(&app, "ada", PASSWORD).await.status(), 200);
}

#[tokio::test]
async fn sec_226_nothing_tells_that_two_names_are_one_accounts() {
    let app = TestApp::new().await;
    app.register("ada").await;
    let mut transcripts = Vec::new();
    for [name, address] in
        [["ada", "ada@example.org"], ["ada", "unknown@example.org"], ["nobody", "ada@example.org"]]
    {
        let mut transcript = Vec::new();
        for (name, wait) in
            [(address, 0); 5].into_iter().chain([(name, 0); 6]).chain([(address, 1), (name, 0), (address, 0)])
        {
            app.wait(wait);
            let hashes = app.hashes();
            let reply = login(&app, name, "wrong password").await;
            let retry = reply.header("retry-after").map(str::to_owned);
            transcript.push((reply.status(), retry, reply.headers, reply.body, app.hashes() - hashes));
        }
        transcripts.push(transcript);
        app.wait(31 * 86_400);
    }
    let statuses: Vec<_> = transcripts[0].iter().map(|(status, ..)| *status).collect();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 429, 401, 401, 429]);
    assert_eq!(transcripts[0], transcripts[1]);
    assert_eq!(transcripts[0], transcripts[2]);
}

#[tokio::test]
async fn sec_130_nobody_learns_who_has_an_account() {
    let app = TestApp::new().await;
    app.register("ada").await;
    let disabled = app.register("disabled").await;
    assert!(app.auth.accounts().disable(&disabled.user_id).await.unwrap());
    let no_password = User {
        email: Some(EmailAddress::parse("no-password@example.org").unwrap()),
        ..User::new(UserId::from(Uuid::from_u128(7)), app.clock.now())
    };
    app.store.inner().users().insert_user(&no_password).await.unwrap();

    let mut seen = Vec::new();
    for (case, name, password) in [
        ("unknown address", "unknown@example.org", PASSWORD),
        ("unknown username", "unknown", PASSWORD),
        ("impossible name", "not a name", PASSWORD),
        ("wrong password", "ada", "wrong password"),
        ("wrong password by address", "ada@example.org", "wrong password"),
        ("disabled", "disabled", PASSWORD),
        ("disabled and wrong", "disabled", "wrong password"),
        ("without a password", "no-password@example.org", PASSWORD),
        ("empty password", "ada", ""),
    ] {
        let hashes = app.hashes();
        app.store.reset_calls();
        let reply = login(&app, name, password).await;
        assert_eq!(app.hashes() - hashes, 1, "{case}");
        let calls = ["user_by_name", "begin_attempt", "epoch", "user", "finish_attempt"];
        assert_eq!(calls.map(|call| app.store.calls(call)), [1, 4, 1, 1, 4], "{case}");
        assert_eq!(app.store.total_calls(), 11, "{case}");
        seen.push((case, reply));
    }
    let (_, first) = &seen[0];
    assert_eq!(first.outcome(), (401, "invalid_credentials".to_owned()));
    for (case, reply) in &seen {
        assert_eq!(
            (reply.status(), &reply.headers, &reply.body),
            (first.status(), &first.headers, &first.body),
            "{case}"
        );
    }
}

#[tokio::test]
async fn sec_133_twins_of_a_username_are_taken() {
    let app = TestApp::new().await;
    let register = |email: &str, username: &str| {
        let body = json!({ "email": email, "username": username, "password": PASSWORD });
        let app = &app;
        async move { app.client().post("/v1/auth/register", &body).await }
    };
    assert_eq!(register("a@example.org", "admin").await.status(), 201);
    assert_eq!(register("b@example.org", "Kim\u{e9}").await.status(), 201);
    let before = app.hashes();
    for twin in ["ADMIN", "Admin", "\u{ff41}dmin", "\u{ff21}DMIN", "\u{212a}im\u{e9}", "kime\u{301}"] {
        let reply = register("c@example.org", twin).await;
        assert_eq!(reply.outcome(), (409, "username_taken".to_owned()), "{twin}");
    }
    for refused in
        ["adm\u{200b}in", "\u{202e}nimda", "ad min", "admin@", "", "adm\0in", "adm\r\nin", &"x".repeat(65)]
    {
        let reply = register("c@example.org", refused).await;
        assert_eq!(reply.outcome(), (422, "invalid_fields".to_owned()), "{refused:?}");
        assert_eq!(reply.json()["fields"].as_object().unwrap().keys().collect::<Vec<_>>(), ["username"]);
    }
    assert_eq!(app.hashes(), before, "known before a password is hashed");
    assert_eq!(register("c@example.org", &"x".repeat(64)).await.status(), 201);
    assert_eq!(
        login(&app, "\u{ff21}dmin", PASSWORD).await.json()["user"]["username"],
        "admin",
        "as registered"
    );
}

#[tokio::test]
async fn sec_134_twins_of_an_address_are_taken_and_lookalikes_are_not() {
    let app = TestApp::new().await;
    let register = |email: String| {
        let body = json!({ "email": email, "password": PASSWORD });
        let app = &app;
        async move { app.client().post("/v1/auth/register", &body).await }
    };
    assert_eq!(register("mike@b\u{fc}cher.example".to_owned()).await.status(), 201);
    for twin in [
        "MIKE@b\u{fc}cher.example",
        "mike@xn--bcher-kva.example",
        "Mike@B\u{dc}CHER.example",
        "mike@bu\u{308}cher.example",
    ] {
        assert_eq!(register(twin.to_owned()).await.outcome(), (409, "email_taken".to_owned()), "{twin}");
    }
    let reply = register("m\u{131}ke@b\u{fc}cher.example".to_owned()).await;
    assert_eq!(reply.status(), 201, "the dotless i is another letter");
    assert_eq!(reply.json()["user"]["email"], "m\u{131}ke@b\u{fc}cher.example");
    for refused in [
        "mike@example.org\r\nBcc: all@example.org",
        "mike\r\n@example.org",
        "mike@exam\nple.org",
        "mike@example.org\0",
        "mike@example.org\u{200b}",
        " \t\u{3000}",
        "two@at@example.org",
        "mike",
        "@example.org",
        "mike@",
        "",
        "mi ke@example.org",
        "\"mike\"@example.org",
        "mike@[127.0.0.1]",
    ] {
        let reply = register(refused.to_owned()).await;
        assert_eq!(reply.outcome(), (422, "invalid_fields".to_owned()), "{refused:?}");
        assert!(reply.json()["fields"]["email"].is_string(), "{refused:?}");
    }
    for (bytes, status) in [(254, 201), (255, 422)] {
        let labels = format!("{}com", "x.".repeat(90));
        let local_part = "a".repeat(64.min(bytes - labels.len() - 1));
        let domain = format!("{}{labels}", "y".repeat(bytes - local_part.len() - 1 - labels.len()));
        let email = format!("{local_part}@{domain}");
        assert_eq!(email.len(), bytes);
        assert_eq!(register(email).await.status(), status, "{bytes}");
    }
}

#[tokio::test]
async fn sec_199_white_space_around_names_is_no_part_of_them_but_of_passwords() {
    let app = TestApp::new().await;
    let registration = json!({
        "email": " Ada@example.com\r\n", "username": "\u{3000}Ada\t", "password": format!(" {PASSWORD} "),
    });
    let reply = app.client().post("/v1/auth/register", &registration).await;
    assert_eq!(reply.status(), 201, "{reply:?}");
    let user = &reply.json()["user"];
    assert_eq!((&user["email"], &user["username"]), (&json!("Ada@example.com"), &json!("Ada")));

    let wide = " ".repeat(10_000);
    for (member, name) in [
        ("email_or_username", "ada@example.com "),
        ("email_or_username", "\n ada"),
        ("email", " ada@example.com"),
        ("email", "ada@example.com\u{a0}"),
        ("username", " ADA\u{2028}"),
        ("username", &format!("{wide}ada{wide}")),
    ] {
        let login = |password: String| {
            let body = json!({ member: name, "password": password });
            let app = &app;
            async move { app.client().post("/v1/auth/login", &body).await.status() }
        };
        assert_eq!(login(format!(" {PASSWORD} ")).await, 200, "{member} {name:.20?}");
        assert_eq!(login(PASSWORD.to_owned()).await, 401, "{member} {name:.20?}: passwords are as sent");
        assert_eq!(login(format!("{PASSWORD} ")).await, 401, "{member} {name:.20?}: passwords are as sent");
        assert_eq!(login(format!(" {PASSWORD} ")).await, 200, "{member} {name:.20?}");
    }
    for (member, name) in
        [("email", " "), ("username", "\u{3000}\n"), ("username", "a\u{7}da"), ("username", "\0ada")]
    {
        let body = json!({ member: name, "password": PASSWORD });
        let reply = app.client().post("/v1/auth/login", &body).await;
        assert_eq!(reply.outcome(), (422, "invalid_fields".to_owned()), "{member} {name:?}");
    }
    // Every way to write a name has one counter of failures.
    for name in ["bob", " bob", "bob ", "\tbob", "bob\u{3000}"] {
        assert_eq!(login(&app, name, "wrong password").await.status(), 401, "{name:?}");
    }
    for name in ["bob", "  bob", "bob\n"] {
        assert_eq!(login(&app, name, "wrong password").await.status(), 429, "{name:?}");
    }
    for name in ["not a name", " not a name", "not a name ", "\tnot a name", "not a name\u{3000}"] {
        assert_eq!(login(&app, name, "wrong password").await.status(), 401, "{name:?}");
    }
    assert_eq!(login(&app, "  not a name", "wrong password").await.status(), 429);
}

#[tokio::test]
async fn sec_136_invalid_values_in_any_member_are_never_a_server_error() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let members: [(Method, &str, &[&str]); 5] = [
        (Method::POST, "/v1/auth/register", &["email", "username", "password", "cookies"]),
        (Method::POST, "/v1/auth/login", &["email_or_username", "email", "username", "password", "cookies"]),
        (Method::POST, "/v1/auth/refresh", &["refresh_token"]),
        (Method::POST, "/v1/auth/logout", &["refresh_token", "access_token"]),
        (Method::DELETE, "/v1/auth/revoke-tokens", &["tokens"]),
    ];
    let long = "x".repeat(60_000);
    let values = [
        json!(1),
        json!(-1.5),
        json!(true),
        json!([]),
        json!({}),
        json!([["x"]]),
        json!({ "$ne": "" }),
        json!([null]),
        json!("\0"),
        json!("a\0b"),
        json!("a\0b@example.org"),
        json!("\r\n"),
        json!("\u{202e}"),
        json!("\u{feff}"),
        json!("\u{fffe}"),
        json!("\u{10ffff}"),
        json!(long),
        json!(""),
        json!(" "),
        json!([long]),
        json!(["\0"]),
        json!([1]),
        json!(vec!["x"; 101]),
    ];
    for (method, path, names) in members {
        let mut good = if path == "/v1/auth/register" { credentials("new") } else { json!({}) };
        if path == "/v1/auth/login" {
            good = json!({ "password": PASSWORD });
        }
        for name in names {
            for value in &values {
                let mut body = good.clone();
                if path == "/v1/auth/login" && *name == "password" || *name == "cookies" {
                    body["username"] = json!("somebody");
                }
                body[*name] = value.clone();
                let mut client = app.client().bearer(&account.access_token);
                if path != "/v1/auth/revoke-tokens" {
                    client = app.client();
                }
                let reply = client.send_json(method.clone(), path, &body).await;
                let case = format!("{path} {name} {:.40}", value.to_string());
                assert!(
                    [200, 201, 204, 400, 401, 409, 422, 429].contains(&reply.status()),
                    "{case}: {reply:?}"
                );
                let of_wrong_type = match *name {
                    "cookies" => !value.is_boolean(),
                    "tokens" => !value.as_array().is_some_and(|list| {
                        (1..=100).contains(&list.len()) && list.iter().all(Value::is_string)
                    }),
                    _ => !value.is_string(),
                };
                if of_wrong_type {
                    assert_eq!(reply.outcome(), (422, "invalid_fields".to_owned()), "{case}");
                    assert!(reply.json()["fields"][*name].is_string(), "{case}");
                }
            }
            // A lone surrogate cannot be written with `json!`.
            let mut client = app.client().bearer(&account.access_token);
            let body = format!("{{\"{name}\":\"\\ud83d\"}}").into_bytes();
            let reply = client.send_bytes(method.clone(), path, Some("application/json"), body).await;
            assert_eq!(reply.status(), 400, "{path} {name}");
        }
    }
}

#[tokio::test]
async fn sec_156_of_parallel_registrations_one_gets_the_names() {
    let app = TestApp::new().await;
    let attempts: Vec<_> = (0..20)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move {
                app.client().post("/v1/auth/register", &credentials("ada")).await.outcome()
            })
        })
        .collect();
    let mut registered = 0;
    for attempt in attempts {
        match attempt.await.unwrap() {
            (201, _) => registered += 1,
            outcome => assert_eq!(outcome, (409, "email_taken".to_owned())),
        }
    }
    assert_eq!(registered, 1);
}
