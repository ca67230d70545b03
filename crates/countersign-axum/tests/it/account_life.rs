//! What users do with an account after the first login: change the password, prove the identity again, reset the
//! password and prove the address by mail, sign in by a code, change names, delete the account.

use countersign_core::flow::{Letter, NewAccount, Presentation, Profile};
use countersign_core::model::{EmailAddress, EndReason, Roles, User};
use countersign_core::store::{NameKey, UserReplaced};
use countersign_http::{AccountRules, AuthBuilder, LoginNames, RegistrationMode};
use countersign_testkit::RecordedLetters;
use http::Method;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::app::{Account, PASSWORD, TestApp, credentials};
use crate::client::{Response, payload};
use crate::members;

const NEW: &str = "canary-secret: another staple";

/// An application that writes letters, and the letters.
async fn mailing(configure: impl FnOnce(AuthBuilder) -> AuthBuilder) -> (TestApp, RecordedLetters) {
    let letters = RecordedLetters::default();
    let app = TestApp::with(|builder| configure(builder.letters(Arc::new(letters.clone())))).await;
    (app, letters)
}

/// The token of the newest letter that carries one.
fn token(letters: &[countersign_core::flow::Addressed]) -> String {
    let token = letters.iter().rev().find_map(|addressed| match &addressed.letter {
        Letter::VerifyEmail { token, .. }
        | Letter::ResetPassword { token, .. }
        | Letter::SignInCode { token, .. }
        | Letter::Invite { token, .. } => Some(token.expose()),
        _ => None,
    });
    token.expect("a letter with a link")
}

/// The kinds of letters that an address got.
fn kinds(letters: &RecordedLetters, address: &str) -> Vec<&'static str> {
    let of_address = |addressed: &countersign_core::flow::Addressed| addressed.to.as_str() == address;
    let kind = |addressed: countersign_core::flow::Addressed| match addressed.letter {
        Letter::VerifyEmail { .. } => "verify",
        Letter::ResetPassword { .. } => "reset",
        Letter::SignInCode { .. } => "code",
        Letter::AccountExists => "exists",
        Letter::PasswordChanged { .. } => "password changed",
        Letter::EmailChanged { .. } => "email changed",
        Letter::NewDevice { .. } => "new device",
        Letter::AccountDeleted { .. } => "deleted",
        _ => "other",
    };
    letters.all().into_iter().filter(of_address).map(kind).collect()
}

async fn login(app: &TestApp, password: &str) -> Response {
    app.client().post("/v1/auth/login", &json!({ "username": "ada", "password": password })).await
}

async fn post(app: &TestApp, account: &Account, path: &str, body: &Value) -> Response {
    app.client().bearer(&account.access_token).post(path, body).await
}

async fn stored(app: &TestApp, name: &str) -> Option<User> {
    app.store.stores().users().user_by_name(NameKey::Username(name)).await.unwrap()
}

#[tokio::test]
async fn sec_123_sec_084_a_password_change_needs_the_current_one_ends_all_and_goes_on_fresh() {
    let (app, letters) = mailing(|builder| builder).await;
    let (ada, elsewhere) = (app.register("ada").await, app.login("ada").await);
    app.wait(60);
    let body = json!({ "current_password": "wrong horse", "new_password": NEW });
    let refused = post(&app, &ada, "/v1/auth/password", &body).await;
    assert_eq!((refused.status(), &refused.json()["error"]), (403, &json!("wrong_password")));
    assert_eq!(app.hello(&elsewhere.access_token).await, 200, "nothing has ended");

    let body = json!({ "current_password": PASSWORD, "new_password": NEW });
    let changed = post(&app, &ada, "/v1/auth/password", &body).await;
    assert_eq!(changed.status(), 200, "{changed:?}");
    let now = Account::of(&changed);
    assert_eq!(payload(&now.access_token)["fresh"], true);
    assert_eq!(app.hello(&now.access_token).await, 200);
    for old in [&ada, &elsewhere] {
        assert_eq!(app.hello(&old.access_token).await, 401, "every token from before is dead");
        assert_eq!(app.refresh(&old.refresh_token).await.status(), 401);
    }
    assert_eq!(app.live_sessions(&now.user_id).await.len(), 1);
    assert_eq!(login(&app, PASSWORD).await.status(), 401, "the old password is");
    assert_eq!(login(&app, NEW).await.status(), 200, "the new one works");
    assert_eq!(
        kinds(&letters, "ada@example.org"),
        ["verify", "new device", "password changed", "new device"]
    );
}

#[tokio::test]
async fn a_password_change_by_cookies_answers_with_cookies() {
    let app = TestApp::new().await;
    let mut browser = app.signed_in_browser("ada").await.csrf();
    let body = json!({ "current_password": PASSWORD, "new_password": NEW });
    let changed = browser.post("/v1/auth/password", &body).await;
    assert_eq!(changed.status(), 200, "{changed:?}");
    assert_eq!((&changed.json()["access_token"], changed.set_cookies().len()), (&Value::Null, 4));
    assert_eq!(browser.get("/hello").await.status(), 200, "the browser goes on");
    let without_csrf = app.browser().post("/v1/auth/password", &body).await;
    assert_eq!(without_csrf.status(), 401, "and nobody else can");
}

#[tokio::test]
async fn sec_126_guesses_of_the_current_password_are_throttled_and_lock_no_login() {
    let app = TestApp::new().await;
    let ada = app.register("ada").await;
    let guess = json!({ "password": "wrong horse" });
    let mut statuses = Vec::new();
    for _ in 0..7 {
        statuses.push(post(&app, &ada, "/v1/auth/reauthenticate", &guess).await.status());
    }
    assert_eq!(statuses, [403, 403, 403, 403, 403, 429, 429]);
    assert_eq!(login(&app, PASSWORD).await.status(), 200, "a login has counters of its own");
}

#[tokio::test]
async fn an_account_without_a_password_is_told_so_where_the_password_is_asked_for() {
    let app = TestApp::new().await;
    let email = Some(EmailAddress::parse("eve@example.org").unwrap());
    let account = NewAccount { email, ..NewAccount::default() };
    let eve = Profile::of(app.auth.accounts()).create(account).await.unwrap();
    let pair = members::begin(&app, eve.id.as_str(), Presentation::Explicit).await;
    let mut client = app.client().bearer(&pair.access_token);
    let guess = json!({ "current_password": PASSWORD, "new_password": NEW, "email": "new@example.org" });
    for (method, path, members) in [
        (Method::POST, "/v1/auth/password", ["current_password", "new_password"].as_slice()),
        (Method::PATCH, "/v1/auth/me", &["current_password", "email"]),
        (Method::DELETE, "/v1/auth/me", &["current_password"]),
    ] {
        let body: serde_json::Map<_, _> =
            members.iter().map(|name| ((*name).to_owned(), guess[*name].clone())).collect();
        let answer = client.send_json(method.clone(), path, &body.into()).await;
        assert_eq!(answer.outcome(), (403, "no_password".to_owned()), "{method} {path}");
    }
    for _ in 0..7 {
        let answer = client.post("/v1/auth/reauthenticate", &json!({ "password": PASSWORD })).await;
        assert_eq!(
            answer.outcome(),
            (403, "no_password".to_owned()),
            "nothing was guessed, so nothing counts"
        );
    }
}

#[tokio::test]
async fn reauthenticating_goes_on_in_the_same_session_under_fresh_tokens() {
    let app = TestApp::new().await;
    let ada = app.register("ada").await;
    app.wait(600);
    let refreshed = Account::of(&app.refresh(&ada.refresh_token).await);
    assert_eq!(payload(&refreshed.access_token)["fresh"], false);
    let answer = post(&app, &refreshed, "/v1/auth/reauthenticate", &json!({ "password": PASSWORD })).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let fresh = Account::of(&answer);
    assert_eq!(payload(&fresh.access_token)["fresh"], true);
    assert_eq!(payload(&fresh.access_token)["sid"], payload(&ada.access_token)["sid"]);
    app.wait(60);
    assert_eq!(app.refresh(&fresh.refresh_token).await.status(), 200, "and goes on to be refreshed");
}

#[tokio::test]
async fn sec_138_sec_141_a_mailed_link_resets_the_password_once_and_signs_nobody_in() {
    let (app, letters) = mailing(|builder| builder).await;
    let ada = app.register("ada").await;
    let forgot = app.client().post("/v1/auth/password/forgot", &json!({ "email": "ADA@example.org" })).await;
    assert_eq!((forgot.status(), forgot.body.len()), (202, 0));
    let link = token(&letters.wait_for(2).await);
    assert_eq!(letters.all()[1].to.as_str(), "ada@example.org", "to the address that is stored (SEC-134)");

    let reset = |token: String, password: &'static str| {
        let app = app.clone();
        async move {
            let body = json!({ "token": token, "new_password": password });
            app.client().post("/v1/auth/password/reset", &body).await
        }
    };
    let hashes = app.hashes();
    for wrong in ["", "x", "YQ.AAAA", &format!("{link}x"), &link[..link.len() - 1]] {
        let answer = reset(wrong.to_owned(), NEW).await;
        assert_eq!((answer.status(), &answer.json()["error"]), (400, &json!("invalid_link")), "{wrong:?}");
    }
    assert_eq!(app.hashes(), hashes, "a link of no use costs no hash");
    let weak = reset(link.clone(), "short").await;
    assert_eq!(weak.status(), 422, "a weak password does not use the link up");
    let done = reset(link.clone(), NEW).await;
    assert_eq!((done.status(), done.body.len(), done.set_cookies().len()), (204, 0, 0));
    assert_eq!(reset(link, PASSWORD).await.status(), 400, "a link works once");
    assert_eq!(app.hello(&ada.access_token).await, 401, "all sessions have ended");
    assert_eq!(login(&app, PASSWORD).await.status(), 401);
    let signed_in = login(&app, NEW).await;
    assert_eq!(signed_in.json()["user"]["email_verified"], true, "who has the link reads the mail");
}

#[tokio::test]
async fn sec_138_a_link_dies_by_its_age_by_the_next_one_and_by_a_changed_password() {
    let (app, letters) = mailing(|builder| builder).await;
    let ada = app.register("ada").await;
    let forgot = async || {
        let before = letters.all().len();
        app.client().post("/v1/auth/password/forgot", &json!({ "email": "ada@example.org" })).await;
        token(&letters.wait_for(before + 1).await)
    };
    let reset = async |token: &str| {
        let body = json!({ "token": token, "new_password": NEW });
        app.client().post("/v1/auth/password/reset", &body).await.status()
    };
    let first = forgot().await;
    let second = forgot().await;
    assert_eq!(reset(&first).await, 400, "another one was sent");
    app.wait(3600);
    assert_eq!(reset(&second).await, 400, "it is too old");
    let third = forgot().await;
    let body = json!({ "current_password": PASSWORD, "new_password": NEW });
    let ada = {
        drop(ada);
        app.login("ada").await
    };
    assert_eq!(post(&app, &ada, "/v1/auth/password", &body).await.status(), 200);
    assert_eq!(reset(&third).await, 400, "the password has changed since");
}

#[tokio::test]
async fn sec_131_forgotten_passwords_and_codes_are_answered_alike_and_mailed_rarely() {
    let (app, letters) = mailing(|builder| builder).await;
    let disabled = app.register("ada").await;
    let bob = app.register("bob").await;
    app.auth.accounts().disable(&disabled.user_id).await.unwrap();
    drop(bob);
    for path in ["/v1/auth/password/forgot", "/v1/auth/code", "/v1/auth/email/resend"] {
        let mut answers = Vec::new();
        for email in ["bob@example.org", "ada@example.org", "nobody@example.org"] {
            for _ in 0..5 {
                let answer = app.client().post(path, &json!({ "email": email })).await;
                answers.push((answer.status(), answer.body.clone(), answer.headers.clone()));
            }
        }
        let first = answers[0].clone();
        assert_eq!(first.0, 202);
        let others = answers.iter().filter(|answer| (answer.0, &answer.1) != (first.0, &first.1)).count();
        assert_eq!(others, 0, "{path}: the same answer for all");
    }
    let mails = letters.wait_for(2 + 8).await;
    assert_eq!(mails.len(), 10, "three of each kind, that of the registration included");
    assert_eq!(kinds(&letters, "ada@example.org"), ["verify"]);
    assert!(kinds(&letters, "nobody@example.org").is_empty());
    app.wait(60);
    app.client().post("/v1/auth/code", &json!({ "email": "bob@example.org" })).await;
    assert_eq!(letters.wait_for(11).await.len(), 11, "another one after a pause");
}

#[tokio::test]
async fn without_mail_there_are_no_mailing_routes() {
    let app = TestApp::new().await;
    app.register("ada").await;
    for path in ["/v1/auth/password/forgot", "/v1/auth/code", "/v1/auth/email/resend"] {
        let answer = app.client().post(path, &json!({ "email": "ada@example.org" })).await;
        assert_eq!(answer.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn an_address_is_verified_once_by_a_mailed_link() {
    let (app, letters) = mailing(|builder| builder).await;
    let ada = app.register("ada").await;
    let me = async || app.client().bearer(&ada.access_token).get("/v1/auth/me").await.json();
    assert_eq!(me().await["email_verified"], false);
    let link = token(&letters.wait_for(1).await);
    let verify = async |token: &str| {
        app.client().post("/v1/auth/email/verify", &json!({ "token": token })).await.status()
    };
    assert_eq!((verify(&link).await, verify(&link).await), (204, 400));
    assert_eq!(me().await["email_verified"], true);
    assert_eq!(app.hello(&ada.access_token).await, 200, "no session has ended");
    let again = post(&app, &ada, "/v1/auth/email/resend", &json!({})).await;
    assert_eq!((again.status(), letters.all().len()), (202, 1), "there is nothing to verify");
}

#[tokio::test]
async fn sec_142_a_new_address_counts_once_it_is_confirmed_and_the_old_one_is_told() {
    let (app, letters) = mailing(|builder| builder).await;
    let (ada, elsewhere) = (app.register("ada").await, app.login("ada").await);
    let bob = app.register("bob").await;
    let patch = async |body: Value| {
        app.client().bearer(&ada.access_token).send_json(Method::PATCH, "/v1/auth/me", &body).await
    };
    let unproven = patch(json!({ "email": "new@example.net" })).await;
    assert_eq!((unproven.status(), unproven.json()["fields"]["current_password"].is_string()), (422, true));
    let wrong = patch(json!({ "email": "new@example.net", "current_password": "wrong horse" })).await;
    assert_eq!(wrong.status(), 403);
    let none = patch(json!({ "email": null, "current_password": PASSWORD })).await;
    assert_eq!((none.status(), none.json()["fields"]["email"].is_string()), (422, true));
    let asked = patch(json!({ "email": "new@example.net", "current_password": PASSWORD })).await;
    assert_eq!((asked.status(), &asked.json()["email"]), (200, &json!("ada@example.org")), "not yet");
    let link = token(&letters.wait_for(3).await);
    assert_eq!(kinds(&letters, "new@example.net"), ["verify"]);
    let body = json!({ "token": link });
    assert_eq!(app.client().post("/v1/auth/email/verify", &body).await.status(), 204);
    let me = app.client().bearer(&ada.access_token).get("/v1/auth/me").await;
    assert_eq!(
        (&me.json()["email"], &me.json()["email_verified"]),
        (&json!("new@example.net"), &json!(true))
    );
    assert_eq!(app.hello(&elsewhere.access_token).await, 401, "the other sessions have ended");
    assert_eq!(kinds(&letters, "ada@example.org"), ["verify", "new device", "email changed"]);

    // The address of another account is not taken, and nobody learns that there is one.
    let asked = patch(json!({ "email": "bob@example.org", "current_password": PASSWORD })).await;
    assert_eq!(asked.status(), 200);
    letters.wait_for(5).await;
    assert_eq!(kinds(&letters, "bob@example.org"), ["verify", "exists"]);
    drop(bob);
}

#[tokio::test]
async fn without_mail_a_new_address_counts_at_once_and_ends_the_other_sessions() {
    let app = TestApp::new().await;
    let (ada, elsewhere) = (app.register("ada").await, app.login("ada").await);
    app.register("bob").await;
    let patch = async |body: Value| {
        app.client().bearer(&ada.access_token).send_json(Method::PATCH, "/v1/auth/me", &body).await
    };
    let taken = patch(json!({ "email": "bob@example.org", "current_password": PASSWORD })).await;
    assert_eq!((taken.status(), &taken.json()["error"]), (409, &json!("email_taken")));
    let changed = patch(json!({ "email": "new@example.net", "current_password": PASSWORD })).await;
    assert_eq!((changed.status(), &changed.json()["email"]), (200, &json!("new@example.net")));
    assert_eq!((app.hello(&ada.access_token).await, app.hello(&elsewhere.access_token).await), (200, 401));
}

#[tokio::test]
async fn sec_135_names_change_and_nothing_else_does() {
    let app = TestApp::new().await;
    let ada = app.register("ada").await;
    app.register("bob").await;
    let patch = async |body: Value| {
        app.client().bearer(&ada.access_token).send_json(Method::PATCH, "/v1/auth/me", &body).await
    };
    let taken = patch(json!({ "username": "BOB" })).await;
    assert_eq!((taken.status(), &taken.json()["error"]), (409, &json!("username_taken")));
    assert_eq!(patch(json!({ "username": "no spaces" })).await.status(), 422);
    let body = json!({
        "username": "Ada_L", "roles": ["admin"], "email_verified": true, "disabled": false, "id": "x",
        "has_password": false, "created_at": "2000-01-01T00:00:00Z", "password": NEW, "language": "pt-BR",
    });
    let changed = patch(body).await;
    assert_eq!((changed.status(), &changed.json()["username"]), (200, &json!("Ada_L")));
    let user = stored(&app, "ada_l").await.unwrap();
    assert_eq!((user.id, user.roles.is_empty(), user.email_verified_at), (ada.user_id.clone(), true, None));
    assert_eq!(user.language.as_ref().map(|tag| tag.as_str()), Some("pt-br"));
    assert!(stored(&app, "ada").await.is_none(), "the old name is free");
    let removed = patch(json!({ "username": null })).await;
    assert_eq!((removed.status(), &removed.json()["username"]), (200, &Value::Null));
    assert_eq!(app.hello(&ada.access_token).await, 200, "no session has ended");
}

#[tokio::test]
async fn sec_083_a_deleted_account_is_out_at_once_and_its_names_are_free_when_no_token_can_live() {
    let (app, letters) = mailing(|builder| builder).await;
    let ada = app.register("ada").await;
    let delete = async |password: &str| {
        let body = json!({ "current_password": password });
        app.client().bearer(&ada.access_token).send_json(Method::DELETE, "/v1/auth/me", &body).await
    };
    assert_eq!(delete("wrong horse").await.status(), 403);
    assert_eq!(delete(PASSWORD).await.status(), 204);
    assert_eq!(
        (app.hello(&ada.access_token).await, app.refresh(&ada.refresh_token).await.status()),
        (401, 401)
    );
    assert_eq!(login(&app, PASSWORD).await.status(), 401);
    assert_eq!(kinds(&letters, "ada@example.org"), ["verify", "deleted"]);
    let profile = Profile::of(app.auth.accounts());
    assert_eq!(profile.remove_deleted(10).await.unwrap(), 0, "tokens may still live");
    let again = app.client().post("/v1/auth/register", &credentials("ada")).await;
    assert_eq!(again.status(), 409);
    app.wait(2 * 3600);
    assert_eq!(profile.remove_deleted(10).await.unwrap(), 1);
    assert_ne!(app.register("ada").await.user_id, ada.user_id, "the names are free");
}

#[tokio::test]
async fn a_code_or_its_link_signs_in_once_and_proves_the_address() {
    let (app, letters) = mailing(|builder| builder).await;
    app.register("ada").await;
    let ask = async || {
        let before = letters.all().len();
        app.client().post("/v1/auth/code", &json!({ "email": "ada@example.org" })).await;
        let letters = letters.wait_for(before + 1).await;
        match &letters.last().unwrap().letter {
            Letter::SignInCode { code, token, .. } => (code.expose().to_owned(), token.expose()),
            other => panic!("a code was asked for: {other:?}"),
        }
    };
    let by_code = async |code: &str| {
        let body = json!({ "email": "ada@example.org", "code": code });
        app.client().post("/v1/auth/login", &body).await
    };
    let (code, _) = ask().await;
    let other = if code == "000000" { "000001" } else { "000000" };
    for wrong in [other, "", "12345", "abcdef", "1234567"] {
        let answer = by_code(wrong).await;
        assert_eq!(
            (answer.status(), &answer.json()["error"]),
            (401, &json!("invalid_credentials")),
            "{wrong}"
        );
        assert!(answer.json()["error_description"].as_str().unwrap().starts_with("The code is wrong"));
    }
    let signed_in = by_code(&code).await;
    assert_eq!(signed_in.status(), 200, "{signed_in:?}");
    assert_eq!(signed_in.json()["user"]["email_verified"], true);
    assert_eq!(payload(&Account::of(&signed_in).access_token)["fresh"], true);
    assert_eq!(by_code(&code).await.status(), 401, "a code works once");

    let (code, link) = ask().await;
    let by_link = app.client().post("/v1/auth/login", &json!({ "token": link })).await;
    assert_eq!(by_link.status(), 200, "{by_link:?}");
    assert_eq!(by_code(&code).await.status(), 401, "the link has used the code up");

    let (code, _) = ask().await;
    for _ in 0..5 {
        assert_eq!(by_code(if code == "000000" { "000001" } else { "000000" }).await.status(), 401);
    }
    assert_eq!(by_code(&code).await.status(), 401, "five wrong codes use the right one up");
    app.wait(60);
    let (code, _) = ask().await;
    app.wait(600);
    assert_eq!(by_code(&code).await.status(), 401, "a code is good for ten minutes");
}

#[tokio::test]
async fn sec_131_where_addresses_are_verified_first_registering_tells_nothing() {
    let rules = AccountRules { registration: RegistrationMode::VerifyFirst, ..AccountRules::default() };
    let (app, letters) = mailing(|builder| builder.account_rules(rules)).await;
    let register = async |email: &str| {
        let body = json!({ "email": email, "password": PASSWORD });
        let answer = app.client().post("/v1/auth/register", &body).await;
        (answer.status(), answer.body.clone(), answer.set_cookies().len())
    };
    let first = register("ada@example.org").await;
    assert_eq!((first.0, first.1.len(), first.2), (202, 0, 0));
    letters.wait_for(1).await;
    assert_eq!(register("ada@example.org").await, first);
    letters.wait_for(2).await;
    assert_eq!(kinds(&letters, "ada@example.org"), ["verify", "exists"]);

    let login = async |password: &str| {
        let body = json!({ "email": "ada@example.org", "password": password });
        app.client().post("/v1/auth/login", &body).await
    };
    let early = login(PASSWORD).await;
    assert_eq!((early.status(), &early.json()["error"]), (403, &json!("email_unverified")));
    assert_eq!(login("wrong horse").await.status(), 401, "only who has the password learns that");
    let Letter::VerifyEmail { token, .. } = &letters.all()[0].letter else { panic!("a link") };
    let body = json!({ "token": token.expose() });
    assert_eq!(app.client().post("/v1/auth/email/verify", &body).await.status(), 204);
    assert_eq!(login(PASSWORD).await.status(), 200);
}

#[tokio::test]
async fn sec_137_registration_can_be_closed_or_kept_to_some_domains() {
    for registration in [RegistrationMode::Invite, RegistrationMode::Closed] {
        let rules = AccountRules { registration, ..AccountRules::default() };
        let app = TestApp::with(|builder| builder.account_rules(rules)).await;
        let answer = app.client().post("/v1/auth/register", &credentials("ada")).await;
        assert_eq!((answer.status(), &answer.json()["error"]), (403, &json!("registration_closed")));
    }
    let rules = AccountRules { email_domains: vec!["example.com".to_owned()], ..AccountRules::default() };
    let app = TestApp::with(|builder| builder.account_rules(rules)).await;
    let refused = app.client().post("/v1/auth/register", &credentials("ada")).await;
    assert_eq!((refused.status(), refused.json()["fields"]["email"].is_string()), (422, true));
    let body = json!({ "email": "ada@EXAMPLE.com", "password": PASSWORD });
    assert_eq!(app.client().post("/v1/auth/register", &body).await.status(), 201);
}

#[tokio::test]
async fn neither_name_is_compulsory_where_the_other_is_enough() {
    for (login_names, body, expected) in [
        (LoginNames::Email, json!({ "username": "ada", "password": PASSWORD }), 422),
        (LoginNames::Username, json!({ "username": "ada", "password": PASSWORD }), 201),
        (LoginNames::Username, json!({ "email": "ada@example.org", "password": PASSWORD }), 422),
        (LoginNames::Both, json!({ "username": "ada", "password": PASSWORD }), 201),
        (LoginNames::Both, json!({ "email": "ada@example.org", "password": PASSWORD }), 201),
        (LoginNames::Both, json!({ "password": PASSWORD }), 422),
    ] {
        let rules = AccountRules { login_names, ..AccountRules::default() };
        let app = TestApp::with(|builder| builder.account_rules(rules)).await;
        let answer = app.client().post("/v1/auth/register", &body).await;
        assert_eq!(answer.status(), expected, "{login_names:?} {body} {answer:?}");
    }
}

#[tokio::test]
async fn an_accounts_roles_are_in_its_access_tokens() {
    let app = TestApp::new().await;
    let ada = app.register("ada").await;
    assert_eq!(payload(&ada.access_token).get("roles"), None, "none where there are none");
    let user = stored(&app, "ada").await.unwrap();
    let with_roles = User { roles: Roles::parse("editor admin").unwrap(), ..user.clone() };
    let replaced = app.store.stores().users().replace_user(&user, &with_roles).await.unwrap();
    assert_eq!(replaced, UserReplaced::Yes);
    app.wait(60);
    let refreshed = Account::of(&app.refresh(&ada.refresh_token).await);
    assert_eq!(payload(&refreshed.access_token)["roles"], json!(["admin", "editor"]));
    assert_eq!(payload(&refreshed.refresh_token).get("roles"), None);
    let me = app.client().bearer(&refreshed.access_token).get("/v1/auth/me").await;
    assert_eq!(me.json()["roles"], json!(["admin", "editor"]));
    assert_eq!(me.json()["has_password"], true);
}

#[tokio::test]
async fn an_ended_session_says_that_the_credentials_changed() {
    let app = TestApp::new().await;
    let (ada, elsewhere) = (app.register("ada").await, app.login("ada").await);
    let body = json!({ "current_password": PASSWORD, "new_password": NEW });
    assert_eq!(post(&app, &ada, "/v1/auth/password", &body).await.status(), 200);
    let reasons: Vec<_> = {
        let store = app.store.stores();
        let id = payload(&elsewhere.access_token)["sid"].as_str().unwrap().parse().unwrap();
        let key = countersign_core::model::UserSession { user_id: ada.user_id.clone(), id };
        let found = store.sessions().session(&key).await.unwrap().unwrap();
        found.session.ended.into_iter().map(|ended| ended.reason).collect()
    };
    assert_eq!(reasons, [EndReason::CredentialsChanged]);
}
