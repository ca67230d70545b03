//! An account's life over HTTP, with mail that a real mail server (aiosmtpd) receives.

use std::sync::Mutex;

use countersign_testapp::mail_server::{Certificate, Mode, Server as MailServer};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Client, PASSWORD, Pair, claims, send};
use crate::engine::{Engine, on_every_engine};
use crate::server::{Folder, Server, eventually};

const NEW_PASSWORD: &str = "another staple, another horse";
const OLD_ADDRESS: &str = "ada@example.org";
const ADDRESS: &str = "ada@example.net";

/// A mail server on loopback, without encryption, which is good for nothing else; `None` where there is none.
async fn mail_server() -> Option<MailServer> {
    MailServer::start(Mode::None, &Certificate::new("localhost")).await
}

/// What follows `token=` in a mail, up to the end of the link. The link leads to the public URL.
fn token(mail: &Value, path: &str) -> String {
    let text = mail["parts"]["text/plain"].as_str().unwrap();
    let link = text.split_whitespace().find(|word| word.contains("?token=")).expect("a link");
    let token = link.strip_prefix(&format!("https://auth.example.org{path}?token="));
    token.expect("a link of the public URL").to_owned()
}

/// The six digits in a mail.
fn code(mail: &Value) -> String {
    let text = mail["parts"]["text/plain"].as_str().unwrap();
    let is_code = |word: &&str| word.len() == 6 && word.bytes().all(|byte| byte.is_ascii_digit());
    text.split_whitespace().find(is_code).expect("a code").to_owned()
}

/// A client that keeps the token of its device, as an application does.
#[derive(Debug)]
struct Api {
    client: Client,
    device_token: Mutex<Value>,
}

impl Api {
    async fn send(&self, method: Method, path: &str, pair: &Pair, body: Value) -> Answer {
        let request = self.client.request(method, path).bearer_auth(&pair.access);
        send(request.json(&body)).await.unwrap()
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.client.post(path, &body).await
    }

    /// A login from the known device, of which nobody is told.
    async fn login(&self, mut body: Value) -> Answer {
        body["device_token"] = self.device_token.lock().unwrap().clone();
        let answer = self.post("/v1/auth/login", body).await;
        self.keep(&answer);
        answer
    }

    async fn login_with(&self, password: &str) -> Pair {
        self.login(json!({ "email": ADDRESS, "password": password })).await.expect(200).pair()
    }

    fn keep(&self, answer: &Answer) {
        if let Some(token) = answer.body.get("device_token") {
            *self.device_token.lock().unwrap() = token.clone();
        }
    }

    async fn user(&self, pair: &Pair) -> Value {
        self.client.me(&pair.access).await.expect(200).body
    }

    async fn is_signed_out(&self, pair: &Pair) -> bool {
        self.client.me(&pair.access).await.status == 401
            && self.client.refresh(&pair.refresh).await.status == 401
    }
}

on_every_engine! {
    an_account_lives_from_registration_to_deletion_by_what_arrives_by_mail
}

async fn an_account_lives_from_registration_to_deletion_by_what_arrives_by_mail(engine: &Engine) {
    let Some(mut mails) = mail_server().await else { return };
    let server = engine.serve_with(&settings(&mails.url(""))).await;
    let api = Api { client: Client::new(&server), device_token: Mutex::default() };
    api.addresses_are_verified_and_changed(&mut mails).await;
    api.passwords_are_changed_and_reset(&mut mails).await;
    api.codes_sign_in(&mut mails).await;
    api.is_closed(&mut mails).await;
    let left = mails.events().await;
    assert!(left.iter().all(|event| event["message"].is_null()), "no mail beside: {left:?}");
    server.stop().await;
}

fn settings(smtp: &str) -> [(&'static str, &str); 3] {
    [
        ("COUNTERSIGN_SMTP_URL", smtp),
        ("COUNTERSIGN_MAIL_FROM", "Countersign <no-reply@example.org>"),
        ("COUNTERSIGN_PUBLIC_URL", "https://auth.example.org"),
    ]
}

impl Api {
    async fn addresses_are_verified_and_changed(&self, mails: &mut MailServer) {
        let body = json!({ "email": OLD_ADDRESS, "password": PASSWORD });
        let registered = self.post("/v1/auth/register", body).await.expect(201);
        self.keep(&registered);
        let ada = registered.pair();
        let user = self.user(&ada).await;
        assert_eq!(
            (&user["email_verified"], &user["has_password"], &user["roles"]),
            (&json!(false), &json!(true), &json!([]))
        );
        // Two are asked for; the later one is good.
        let first = token(&mails.message_to(OLD_ADDRESS).await, "/verify");
        self.send(Method::POST, "/v1/auth/email/resend", &ada, json!({})).await.expect(202);
        let second = token(&mails.message_to(OLD_ADDRESS).await, "/verify");
        let verify = |token: String| self.post("/v1/auth/email/verify", json!({ "token": token }));
        verify(first).await.expect_error(400, "invalid_link");
        verify(second.clone()).await.expect(204);
        verify(second).await.expect_error(400, "invalid_link");
        assert_eq!(self.user(&ada).await["email_verified"], true);

        let me = "/v1/auth/me";
        let named = self.send(Method::PATCH, me, &ada, json!({ "username": "ada" })).await.expect(200);
        assert_eq!(named.body["username"], "ada");
        let elsewhere = self.client.login(OLD_ADDRESS).await;
        let new_device = mails.message_to(OLD_ADDRESS).await;
        assert!(new_device["headers"]["subject"].as_str().unwrap().contains("sign-in"), "{new_device}");
        let wrong = json!({ "email": ADDRESS, "current_password": "wrong horse" });
        self.send(Method::PATCH, me, &ada, wrong).await.expect_error(403, "wrong_password");
        let right = json!({ "email": ADDRESS, "current_password": PASSWORD });
        let answer = self.send(Method::PATCH, me, &ada, right).await.expect(200);
        assert_eq!(answer.body["email"], OLD_ADDRESS, "it counts once it is confirmed");
        verify(token(&mails.message_to(ADDRESS).await, "/verify")).await.expect(204);
        let told = mails.message_to(OLD_ADDRESS).await;
        let text = told["parts"]["text/plain"].as_str().unwrap();
        assert!(text.contains("a…@example.net") && !text.contains("token="), "{told}");
        assert!(self.is_signed_out(&elsewhere).await, "who signed in with the old address");
        let user = self.user(&ada).await;
        assert_eq!((&user["email"], &user["email_verified"]), (&json!(ADDRESS), &json!(true)));
        self.client.try_login(OLD_ADDRESS, PASSWORD).await.expect_error(401, "invalid_credentials");
        self.client.logout(&ada.refresh).await.expect(204);
    }

    async fn passwords_are_changed_and_reset(&self, mails: &mut MailServer) {
        let ada = self.login_with(PASSWORD).await;
        let refreshed = self.client.refresh(&ada.refresh).await.expect(200).pair();
        assert_eq!(claims(&refreshed.access)["fresh"], false);
        let path = "/v1/auth/reauthenticate";
        self.send(Method::POST, path, &refreshed, json!({ "password": "wrong horse" }))
            .await
            .expect_error(403, "wrong_password");
        let again = self.send(Method::POST, path, &refreshed, json!({ "password": PASSWORD })).await;
        let again = again.expect(200).pair();
        let (old, new) = (claims(&refreshed.access), claims(&again.access));
        assert_eq!((&new["fresh"], &new["sid"]), (&json!(true), &old["sid"]), "the same session");

        let other = self.login_with(PASSWORD).await;
        let path = "/v1/auth/password";
        let wrong = json!({ "current_password": "wrong horse", "new_password": NEW_PASSWORD });
        self.send(Method::POST, path, &again, wrong).await.expect_error(403, "wrong_password");
        let weak = json!({ "current_password": PASSWORD, "new_password": "ada@example.net" });
        let refused = self.send(Method::POST, path, &again, weak).await.expect_error(422, "invalid_fields");
        assert!(refused.body["fields"]["new_password"].is_string(), "{refused:?}");
        let right = json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD });
        let changed = self.send(Method::POST, path, &again, right).await.expect(200);
        self.keep(&changed);
        let changed = changed.pair();
        assert_eq!(claims(&changed.access)["fresh"], true);
        mails.message_to(ADDRESS).await;
        for ended in [&again, &other] {
            assert!(self.is_signed_out(ended).await);
        }
        self.client.try_login(ADDRESS, PASSWORD).await.expect_error(401, "invalid_credentials");

        // What is asked for an address that nobody has is answered alike, and nothing is mailed.
        let answers = [
            self.post("/v1/auth/password/forgot", json!({ "email": "nobody@example.org" })).await.expect(202),
            self.post("/v1/auth/password/forgot", json!({ "email": ADDRESS })).await.expect(202),
        ];
        assert_eq!(answers[0].text, answers[1].text);
        let token = token(&mails.message_to(ADDRESS).await, "/reset");
        let reset = |token: &str, password: &str| {
            let body = json!({ "token": token, "new_password": password });
            async move { self.post("/v1/auth/password/reset", body).await }
        };
        let other = if token.starts_with('A') { 'B' } else { 'A' };
        let tampered = format!("{other}{}", &token[1..]);
        reset(&tampered, PASSWORD).await.expect_error(400, "invalid_link");
        reset(&token, "short").await.expect_error(422, "invalid_fields");
        assert!(!self.is_signed_out(&changed).await, "nothing has happened");
        reset(&token, PASSWORD).await.expect(204);
        reset(&token, NEW_PASSWORD).await.expect_error(400, "invalid_link");
        mails.message_to(ADDRESS).await;
        assert!(self.is_signed_out(&changed).await);
    }

    async fn codes_sign_in(&self, mails: &mut MailServer) {
        let ask = || self.post("/v1/auth/code", json!({ "email": ADDRESS }));
        ask().await.expect(202);
        let first = mails.message_to(ADDRESS).await;
        let wrong = if code(&first) == "000000" { "000001" } else { "000000" };
        self.login(json!({ "email": ADDRESS, "code": wrong })).await.expect_error(401, "invalid_credentials");
        let body = json!({ "email": ADDRESS, "code": code(&first) });
        let signed_in = self.login(body.clone()).await.expect(200).pair();
        assert_eq!(claims(&signed_in.access)["fresh"], true);
        self.login(body).await.expect_error(401, "invalid_credentials");
        ask().await.expect(202);
        let link = token(&mails.message_to(ADDRESS).await, "/code");
        self.login(json!({ "token": link })).await.expect(200);
    }

    async fn is_closed(&self, mails: &mut MailServer) {
        let ada = self.login_with(PASSWORD).await;
        let delete = |password: &str| {
            let body = json!({ "current_password": password });
            let request = self.client.request(Method::DELETE, "/v1/auth/me").bearer_auth(&ada.access);
            async move { send(request.json(&body)).await.unwrap() }
        };
        delete("wrong horse").await.expect_error(403, "wrong_password");
        delete(PASSWORD).await.expect(204);
        mails.message_to(ADDRESS).await;
        assert!(self.is_signed_out(&ada).await);
        self.client.try_login(ADDRESS, PASSWORD).await.expect_error(401, "invalid_credentials");
        self.post("/v1/auth/password/forgot", json!({ "email": ADDRESS })).await.expect(202);
        let body = json!({ "email": ADDRESS, "password": PASSWORD });
        self.post("/v1/auth/register", body).await.expect_error(409, "email_taken");
    }
}

/// A server of its own on SQLite, which mails.
async fn mailing(more: &[(&str, &str)]) -> Option<(MailServer, Folder, Server)> {
    let mails = mail_server().await?;
    let folder = Folder::new();
    let url = mails.url("");
    let server = folder.serve_with(&[&settings(&url)[..], more].concat()).await;
    Some((mails, folder, server))
}

#[tokio::test]
async fn sec_131_registration_answers_alike_where_an_address_is_verified_first() {
    let Some((mut mails, _folder, server)) = mailing(&[("COUNTERSIGN_REGISTRATION", "verify-first")]).await
    else {
        return;
    };
    let client = Client::new(&server);
    let body = json!({ "email": OLD_ADDRESS, "password": PASSWORD });
    let new = client.post("/v1/auth/register", &body).await.expect(202);
    let link = mails.message_to(OLD_ADDRESS).await;
    client.try_login(OLD_ADDRESS, PASSWORD).await.expect_error(403, "email_unverified");
    client.try_login(OLD_ADDRESS, "wrong horse").await.expect_error(401, "invalid_credentials");
    let verify = json!({ "token": token(&link, "/verify") });
    client.post("/v1/auth/email/verify", &verify).await.expect(204);
    let ada = client.login(OLD_ADDRESS).await;
    let known = client.post("/v1/auth/register", &body).await.expect(202);
    assert_eq!((&new.text, &new.body), (&known.text, &known.body));
    let told = mails.message_to(OLD_ADDRESS).await;
    assert!(!told["parts"]["text/plain"].as_str().unwrap().contains("/verify"), "{told}");
    assert_eq!(client.me(&ada.access).await.expect(200).body["email"], OLD_ADDRESS, "nothing has changed");
    server.stop().await;
}

#[tokio::test]
async fn what_waits_to_be_mailed_outlives_the_server() {
    let Some(mut mails) = mail_server().await else { return };
    let folder = Folder::new();
    let url = mails.url("");
    mails.behave(&json!({ "rcpt": "550 nobody here" })).await;
    let server = folder.serve_with(&settings(&url)).await;
    Client::new(&server).register(OLD_ADDRESS).await;
    let mut listed = Value::Null;
    eventually("a mail that is given up", async || {
        let ran = folder.run(&["mail", "list", "--json"], &[]).await;
        listed = serde_json::from_str(&ran.stdout).unwrap();
        listed = listed["mails"].get_mut(0).map_or(Value::Null, Value::take);
        !listed.is_null()
    })
    .await;
    assert!(listed["last_error"].as_str().unwrap().contains("550"), "{listed}");
    server.kill().await;
    mails.behave(&json!({})).await;
    let server = folder.serve_with(&settings(&url)).await;
    let ran = folder.run(&["mail", "retry", listed["id"].as_str().unwrap()], &[]).await;
    assert!(ran.status.success(), "{ran:?}");
    token(&mails.message_to(OLD_ADDRESS).await, "/verify");
    server.stop().await;
}
