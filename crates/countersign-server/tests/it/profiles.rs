//! The server in place of a Flask application, or beside it.

use countersign_flask::FlaskJwtExtended;
use countersign_flask::flask_jwt_extended::{FlaskJwtExtendedConfig, NewRefresh};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, PASSWORD, claims, send};
use crate::server::Folder;

const PROFILE: &str = "COUNTERSIGN_PROFILE";
const EXTENDED: (&str, &str) = (PROFILE, "flask-jwt-extended");
const PLAIN: (&str, &str) = (PROFILE, "flask-jwt");
const SECRET: &str = "canary-Vq8Zt7_Wm4Kc9Ru6Jd3Fs0Hv2Lp5Go8Xn1Yb";
const KEY: (&str, &str) = ("JWT_SECRET_KEY", SECRET);

fn account() -> Value {
    json!({ "email": "ada@example.org", "username": "ada", "password": PASSWORD })
}

#[tokio::test]
async fn flask_jwt_extended_from_login_to_logout() {
    let folder = Folder::new();
    let server = folder.serve_with(&[EXTENDED, KEY, ("JWT_ERROR_MESSAGE_KEY", "why")]).await;
    let client = Client::new(&server);
    let pair = client.post("/v1/auth/register", &account()).await.expect(201).pair();
    assert_eq!(claims(&pair.access)["sub"], claims(&pair.refresh)["sub"]);
    assert_eq!(
        claims(&pair.access)["exp"].as_i64().unwrap() - claims(&pair.access)["iat"].as_i64().unwrap(),
        900
    );
    assert_eq!(client.me(&pair.access).await.expect(200).body["email"], "ada@example.org");
    for _ in 0..3 {
        let renewed = client.refresh(&pair.refresh).await.expect(200).body;
        assert_eq!(renewed.as_object().unwrap().len(), 1, "{renewed}");
        client.me(renewed["access_token"].as_str().unwrap()).await.expect(200);
    }
    let refused = client.me("x").await.expect(422);
    assert_eq!(refused.body, json!({ "why": "Not enough segments" }));
    let set = client.get("/.well-known/jwks.json").await.expect(200);
    assert_eq!(set.body, json!({ "keys": [] }));
    client.logout(&pair.refresh).await.expect(204);
    assert_eq!(client.me(&pair.access).await.expect(401).body, json!({ "why": "Token has been revoked" }));
    assert_eq!(
        client.refresh(&pair.refresh).await.expect(401).body,
        json!({ "why": "Token has been revoked" })
    );
    client.try_login("ada@example.org", "wrong").await.expect_error(401, "invalid_credentials");
    server.stop().await;

    // What was ended stays so, and what was not goes on.
    let server = folder.serve_with(&[EXTENDED, KEY]).await;
    let client = Client::new(&server);
    assert_eq!(
        client.refresh(&pair.refresh).await.expect(401).body,
        json!({ "msg": "Token has been revoked" })
    );
    let pair = client.login("ada@example.org").await;
    server.stop().await;
    let server = folder.serve_with(&[EXTENDED, KEY]).await;
    Client::new(&server).refresh(&pair.refresh).await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn flask_jwt_from_its_login_endpoint_to_logout() {
    let folder = Folder::new();
    let server = folder.serve_with(&[PLAIN, KEY]).await;
    let client = Client::new(&server);
    client.post("/v1/auth/register", &account()).await.expect(201);
    let login = json!({ "username": "ada", "password": PASSWORD });
    let request = client.request(Method::POST, "/auth").header("user-agent", "Tab/1.0").json(&login);
    let token = send(request).await.unwrap().expect(200).body["access_token"].as_str().unwrap().to_owned();
    let get = async |path: &str| {
        let request = client.request(Method::GET, path).header("authorization", format!("JWT {token}"));
        send(request).await.unwrap()
    };
    assert_eq!(get("/v1/auth/me").await.expect(200).body["username"], "ada");
    let listed = get("/v1/auth/sessions").await.expect(200).body;
    let current = listed["sessions"].as_array().unwrap().iter().find(|session| session["current"] == true);
    let current = current.unwrap();
    assert_eq!((&current["user_agent"], &current["ip"]), (&json!("Tab/1.0"), &json!("127.0.0.1")));
    let wrong = json!({ "username": "ada", "password": "wrong" });
    let refused = client.post("/auth", &wrong).await.expect(401).body;
    assert_eq!(refused["description"], "Invalid credentials");
    let request =
        client.request(Method::POST, "/v1/auth/logout").header("authorization", format!("JWT {token}"));
    send(request).await.unwrap().expect(204);
    assert_eq!(get("/v1/auth/me").await.expect(401).body["description"], "Token has been revoked");
    server.stop().await;
}

#[tokio::test]
async fn the_options_come_from_the_environment_dotenv_and_the_file() {
    let folder = Folder::new();
    let toml = format!(
        "profile = \"flask-jwt-extended\"\nJWT_SECRET_KEY = \"{SECRET}\"\nJWT_ACCESS_TOKEN_EXPIRES = 60\n\
         JWT_REFRESH_TOKEN_EXPIRES = 600\nJWT_TOKEN_LOCATION = [\"cookies\", \"headers\"]\nJWT_COOKIE_SECURE = true\n\
         JWT_ERROR_MESSAGE_KEY = \"file\"\n"
    );
    folder.write("countersign.toml", &toml);
    folder.write(".env", "JWT_ACCESS_TOKEN_EXPIRES=120\nJWT_ERROR_MESSAGE_KEY=dotenv\n");
    let settings = [("COUNTERSIGN_CONFIG", "countersign.toml"), ("JWT_ERROR_MESSAGE_KEY", "environment")];
    let server = folder.serve_with(&settings).await;
    let client = Client::new(&server);
    let mut body = account();
    body["cookies"] = json!(true);
    let answer = client.post("/v1/auth/register", &body).await.expect(201);
    let (access, attributes) = answer.cookie("access_token_cookie").unwrap();
    let (refresh, _) = answer.cookie("refresh_token_cookie").unwrap();
    assert!(attributes.contains("Secure"), "the file's switch: {attributes}");
    let life = |token: &str| claims(token)["exp"].as_i64().unwrap() - claims(token)["iat"].as_i64().unwrap();
    assert_eq!((life(&access), life(&refresh)), (120, 600));
    assert!(client.me("x").await.expect(422).body["environment"].is_string());
    server.stop().await;

    // As texts: lists with commas or in JSON, switches as Python or JSON write them, numbers that are texts.
    for (list, switch) in [("headers, query_string", "False"), ("[\"query_string\", \"headers\"]", "false")] {
        let folder = Folder::new();
        let settings = [
            EXTENDED,
            ("SECRET_KEY", SECRET),
            ("JWT_TOKEN_LOCATION", list),
            ("JWT_COOKIE_CSRF_PROTECT", switch),
            ("JWT_ERROR_MESSAGE_KEY", "404"),
        ];
        let server = folder.serve_with(&settings).await;
        let client = Client::new(&server);
        let pair = client.post("/v1/auth/register", &account()).await.expect(201).pair();
        assert!(claims(&pair.access).get("csrf").is_none());
        client.get(&format!("/v1/auth/me?jwt={}", pair.access)).await.expect(200);
        assert!(client.me("x").await.expect(422).body["404"].is_string());
        assert!(!server.log().contains(&pair.access));
        server.stop().await;
    }
}

#[tokio::test]
async fn options_that_cannot_be_used_are_errors_that_name_option_and_fix_and_show_no_secret() {
    for (settings, saying) in [
        (vec![(PROFILE, "flask")], vec![PROFILE, "native, flask-jwt-extended or flask-jwt"]),
        (vec![EXTENDED], vec!["JWT_SECRET_KEY"]),
        (vec![PLAIN], vec!["JWT_SECRET_KEY"]),
        (
            vec![EXTENDED, ("JWT_SECRET_KEY", "canary-short")],
            vec![
                "JWT_SECRET_KEY is 12 bytes long",
                "32",
                "Flask application sign with it first",
                "docs/migrating-from-flask.md",
            ],
        ),
        (
            vec![PLAIN, ("JWT_SECRET_KEY", "canary-short")],
            vec!["JWT_SECRET_KEY is 12 bytes long", "32", "docs/migrating-from-flask.md"],
        ),
        (vec![EXTENDED, KEY, ("JWT_ALGORITHM", "canary")], vec!["JWT_ALGORITHM", "HS256"]),
        (vec![EXTENDED, KEY, ("JWT_ALGORITHM", "none")], vec!["JWT_ALGORITHM"]),
        (vec![PLAIN, KEY, ("JWT_ALGORITHM", "RS256")], vec!["JWT_ALGORITHM", "HS256, HS384 or HS512"]),
        (vec![EXTENDED, ("JWT_ALGORITHM", "RS256")], vec!["JWT_PUBLIC_KEY"]),
        (vec![EXTENDED, KEY, ("JWT_DECODE_ISSUER", "flask")], vec!["\"iss\"", "JWT_ENCODE_"]),
        (
            vec![EXTENDED, KEY, ("JWT_ACCESS_TOKEN_EXPIRES", "soon")],
            vec!["JWT_ACCESS_TOKEN_EXPIRES", "seconds"],
        ),
        (vec![EXTENDED, KEY, ("JWT_ACCESS_TOKEN_EXPIRES", "0")], vec!["JWT_ACCESS_TOKEN_EXPIRES"]),
        (vec![EXTENDED, KEY, ("JWT_TOKEN_LOCATION", "head")], vec!["JWT_TOKEN_LOCATION", "headers"]),
        (vec![EXTENDED, KEY, ("JWT_COOKIE_SECURE", "yes")], vec!["JWT_COOKIE_SECURE", "true or false"]),
        (vec![EXTENDED, KEY, ("JWT_COOKIE_SAMESITE", "Loose")], vec!["JWT_COOKIE_SAMESITE"]),
        (vec![EXTENDED, KEY, ("JWT_DECODE_LEEWAY", "301")], vec!["JWT_DECODE_LEEWAY", "300"]),
        (vec![PLAIN, KEY, ("JWT_EXPIRATION_DELTA", "soon")], vec!["JWT_EXPIRATION_DELTA", "seconds"]),
        (vec![PLAIN, KEY, ("JWT_AUTH_URL_RULE", "auth")], vec!["JWT_AUTH_URL_RULE", "/auth"]),
    ] {
        let folder = Folder::new();
        let mut all = vec![("COUNTERSIGN_LISTEN", "127.0.0.1:0")];
        all.extend(&settings);
        let ran = folder.run(&[], &all).await;
        ran.assert_refused(&saying);
        assert!(!ran.stderr.contains("canary"), "{settings:?}: {ran:?}");
        assert!(!ran.stderr.contains("dangerous"), "the server has no such option: {ran:?}");
    }
}

#[tokio::test]
async fn settings_that_the_profile_overrules_are_named_at_start() {
    let odd = [
        "COUNTERSIGN_ACCESS_LIFETIME",
        "COUNTERSIGN_SESSION_IDLE",
        "COUNTERSIGN_SESSION_LIFETIME",
        "COUNTERSIGN_REFRESH_GRACE",
    ];
    let folder = Folder::new();
    let mut settings = vec![EXTENDED, KEY];
    settings.extend(odd.iter().map(|name| (*name, "600")));
    settings[5].1 = "20";
    let server = folder.serve_with(&settings).await;
    let log = server.log();
    for (name, instead) in odd.iter().zip([
        "JWT_ACCESS_TOKEN_EXPIRES decides",
        "JWT_REFRESH_TOKEN_EXPIRES",
        "JWT_REFRESH_TOKEN_EXPIRES decides",
        "not rotated",
    ]) {
        let line = log.lines().find(|line| line.contains(name) && line.contains("has no effect"));
        assert!(line.is_some_and(|line| line.contains("WARN") && line.contains(instead)), "{name}: {log}");
    }
    server.stop().await;
    let server = folder.serve_with(&[EXTENDED, KEY]).await;
    assert!(!server.log().contains("has no effect"), "{}", server.log());
    server.stop().await;
}

#[tokio::test]
async fn sec_147_neither_the_shared_secret_nor_a_token_is_in_the_log_at_any_level() {
    for profile in [EXTENDED, PLAIN] {
        let folder = Folder::new();
        let server = folder.serve_with(&[profile, KEY, ("COUNTERSIGN_LOG", "trace")]).await;
        let client = Client::new(&server);
        let pair = client.post("/v1/auth/register", &account()).await.expect(201).pair();
        let renewed = client.refresh(&pair.refresh).await.expect(200).body;
        let renewed = renewed["access_token"].as_str().unwrap();
        let login = json!({ "username": "ada", "password": PASSWORD });
        client.post("/auth", &login).await;
        for token in [&pair.access, &pair.refresh, renewed, "canary-garbage.x.y"] {
            for scheme in ["Bearer", "JWT"] {
                for path in ["/v1/auth/me", "/v1/auth/verify"] {
                    let request = client
                        .request(Method::GET, path)
                        .header("authorization", format!("{scheme} {token}"));
                    send(request).await.unwrap();
                }
            }
            client.refresh(token).await;
        }
        client.logout(&pair.refresh).await.expect(204);
        client.refresh(&pair.refresh).await.expect(401);
        let log = server.log();
        server.stop().await;
        assert!(log.contains("was not let through"), "{log}");
        for secret in ["canary", PASSWORD, "eyJ"] {
            let line = log.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret}");
        }
        for token in [&pair.access, &pair.refresh, renewed] {
            assert!(!log.contains(token.rsplit('.').next().unwrap()));
        }
    }
}

#[tokio::test]
async fn token_commands_know_the_profiles_tokens() {
    for (profile, scheme) in [(EXTENDED, "Bearer"), (PLAIN, "JWT")] {
        let folder = Folder::new();
        let settings = [profile, KEY];
        let server = folder.serve_with(&settings).await;
        let client = Client::new(&server);
        let pair = client.post("/v1/auth/register", &account()).await.expect(201).pair();
        let minted = folder.run(&["token", "mint", "ada"], &settings).await.stdout.trim().to_owned();
        let request =
            client.request(Method::GET, "/v1/auth/me").header("authorization", format!("{scheme} {minted}"));
        send(request).await.unwrap().expect(200);
        for token in [&pair.access, &pair.refresh, &minted] {
            let shown = format!("Authorization: {scheme} {token}");
            for given in [token.as_str(), &shown] {
                let verified = folder.run(&["token", "verify", given], &settings).await;
                assert_eq!(
                    (verified.stdout.as_str(), verified.stderr.as_str()),
                    ("ok\n", ""),
                    "{verified:?}"
                );
            }
            let inspected = folder.run(&["token", "inspect", token], &settings).await;
            for text in ["holds, HS256", "would accept it as a", "of the profile's options"] {
                assert!(inspected.stdout.contains(text), "{inspected:?}");
            }
        }
        client.logout(&pair.refresh).await.expect(204);
        for token in [&pair.access, &pair.refresh] {
            let refused = folder.run(&["token", "verify", token], &settings).await;
            assert!(!refused.status.success() && !refused.stderr.contains(token.as_str()), "{refused:?}");
            let inspected = folder.run(&["token", "inspect", token], &settings).await;
            assert!(inspected.stdout.contains("holds, HS256"), "{inspected:?}");
            assert!(inspected.stdout.contains("would refuse it"), "{inspected:?}");
        }
        let forged = format!("{}.AAAA", minted.rsplit_once('.').unwrap().0);
        let inspected = folder.run(&["token", "inspect", &forged], &settings).await;
        assert!(inspected.stdout.contains("signature    "), "{inspected:?}");
        assert!(inspected.stdout.contains("not proven"), "{inspected:?}");
        folder.run(&["token", "verify", &forged], &settings).await.assert_refused(&[]);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_refresh_token_that_flask_issued_is_taken_listed_and_ended_also_after_a_restart() {
    let folder = Folder::new();
    let server = folder.serve_with(&[EXTENDED, KEY]).await;
    let client = Client::new(&server);
    let pair = client.post("/v1/auth/register", &account()).await.expect(201).pair();
    let options = json!({ "JWT_SECRET_KEY": SECRET }).as_object().cloned().unwrap();
    let flask =
        FlaskJwtExtended::builder(FlaskJwtExtendedConfig::from_options(options).unwrap()).build().unwrap();
    let user = claims(&pair.access)["sub"].as_str().unwrap().to_owned();
    let foreign = flask.create_refresh_token(user, NewRefresh::default()).await.unwrap();
    let id = claims(&foreign)["jti"].as_str().unwrap().to_owned();

    // Shown by several at once, it gets one session.
    let (first, second, third) =
        tokio::join!(client.refresh(&foreign), client.refresh(&foreign), client.refresh(&foreign));
    for answer in [first, second, third] {
        let renewed = answer.expect(200).body["access_token"].as_str().unwrap().to_owned();
        assert_eq!(claims(&renewed)["sid"], *id);
        client.me(&renewed).await.expect(200);
    }
    let sessions = client.request(Method::GET, "/v1/auth/sessions").bearer_auth(&pair.access);
    let listed = send(sessions).await.unwrap().expect(200).body;
    let ids: Vec<_> = listed["sessions"].as_array().unwrap().iter().map(|session| &session["id"]).collect();
    assert_eq!(ids.len(), 2, "{listed}");
    assert!(ids.contains(&&json!(id)), "{listed}");
    let end = client.request(Method::DELETE, &format!("/v1/auth/sessions/{id}")).bearer_auth(&pair.access);
    send(end).await.unwrap().expect(204);
    client.refresh(&foreign).await.expect(401);
    server.stop().await;

    let server = folder.serve_with(&[EXTENDED, KEY]).await;
    let refused = Client::new(&server).refresh(&foreign).await.expect(401);
    assert_eq!(refused.body, json!({ "msg": "Token has been revoked" }));
    server.stop().await;
}

#[tokio::test]
async fn a_start_says_what_does_not_work_beside_the_flask_application() {
    const SECRET: (&str, &str) = ("JWT_SECRET_KEY", "0123456789abcdef0123456789abcdef");
    let words = [
        "get UUIDs as their ids",
        "those of a Flask-JWT application with whole numbers",
        "set COUNTERSIGN_BLOCKLIST_URL",
    ];
    for (profile, ids, registration, told) in [
        ("flask-jwt", "", "", [true, false, false]),
        ("flask-jwt", "integer", "", [false, true, false]),
        ("flask-jwt", "uuid", "", [false, false, false]),
        ("flask-jwt-extended", "", "", [true, false, true]),
        ("flask-jwt-extended", "", "closed", [false, false, true]),
        ("flask-jwt-extended", "integer", "", [false, false, true]),
        ("native", "", "", [false, false, false]),
    ] {
        let folder = Folder::new();
        let settings = [
            SECRET,
            ("COUNTERSIGN_PROFILE", profile),
            ("COUNTERSIGN_USER_IDS", ids),
            ("COUNTERSIGN_REGISTRATION", registration),
        ];
        let server = folder.serve_with(&settings).await;
        let log = server.log();
        assert_eq!(words.map(|words| log.contains(words)), told, "{profile} {ids} {registration}: {log}");
        server.stop().await;
    }
}
