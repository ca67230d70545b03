//! A sign-up form of the program's own: `SignIn::register`.

use axum::response::{IntoResponse, Redirect, Response as Answered};
use axum::routing::post;
use axum::{Form, Router};
use countersign_axum::{AuthLayer, HandlerError, SignIn};
use countersign_core::flow::RegisterError;
use countersign_core::model::NameError;
use countersign_core::store::NameKey;
use countersign_http::{AccountRules, LoginNames, RegistrationMode};
use http::Method;
use serde::Deserialize;

use crate::app::{PASSWORD, TestApp};
use crate::client::{ACCESS, CSRF, Client, DEVICE, REFRESH, Response};

#[derive(Deserialize)]
struct Sign {
    name: String,
    password: String,
}

async fn sign_up(sign_in: SignIn, Form(form): Form<Sign>) -> Result<impl IntoResponse, HandlerError> {
    Ok((sign_in.register(&form.name, form.password).await?, Redirect::to("/")))
}

/// Tells in a page what the user can mend.
async fn sign_up_again(sign_in: SignIn, Form(form): Form<Sign>) -> Result<Answered, HandlerError> {
    match sign_in.register(&form.name, form.password).await {
        Ok(cookies) => Ok((cookies, "in").into_response()),
        Err(error) => match (error.cause::<RegisterError>(), error.cause::<NameError>()) {
            (Some(reason), _) => Ok(reason.to_string().into_response()),
            (_, Some(reason)) => Ok(reason.to_string().into_response()),
            _ => Err(error),
        },
    }
}

async fn sign_in(sign_in: SignIn, Form(form): Form<Sign>) -> Result<impl IntoResponse, HandlerError> {
    Ok((sign_in.login(&form.name, form.password).await?, Redirect::to("/")))
}

fn browser(app: &TestApp) -> Client {
    let router = Router::new()
        .route("/sign-up", post(sign_up))
        .route("/sign-up-again", post(sign_up_again))
        .route("/sign-in", post(sign_in))
        .layer(AuthLayer::new(app.auth.clone()));
    Client::new(router).with("sec-fetch-site", "same-origin")
}

async fn submit(client: &mut Client, path: &str, name: &str, password: &str) -> Response {
    let fields = format!("name={}&password={}", name.replace('@', "%40"), password.replace(' ', "+"));
    client.send_bytes(Method::POST, path, Some("application/x-www-form-urlencoded"), fields.into()).await
}

async fn app_with(rules: AccountRules) -> TestApp {
    TestApp::with(|builder| builder.account_rules(rules)).await
}

#[tokio::test]
async fn a_form_registers_an_account_and_signs_it_in() {
    let app = TestApp::new().await;
    let mut browser = browser(&app).with("accept-language", "de-DE, en;q=0.8");
    let answer = submit(&mut browser, "/sign-up", "ada@example.org", PASSWORD).await;
    assert_eq!((answer.status(), answer.header("location")), (303, Some("/")));
    let names: Vec<_> = answer.set_cookies().into_iter().map(|cookie| cookie.name).collect();
    assert_eq!(names, [ACCESS, REFRESH, CSRF, DEVICE]);

    let ada = app.store.stores().users().user_by_name(NameKey::Email("ada@example.org")).await.unwrap();
    assert_eq!(ada.unwrap().language.unwrap().as_str(), "de-de", "the user is written to in this language");
    assert_eq!(submit(&mut browser, "/sign-in", "ada@example.org", PASSWORD).await.status(), 303);
}

#[tokio::test]
async fn what_the_form_must_mend_is_an_answer_or_a_cause() {
    let app = TestApp::new().await;
    app.register("ada").await;
    for (name, password, answer, reason) in [
        ("ada@example.org", PASSWORD, (409, "email_taken"), "the e-mail address is taken"),
        ("bob@example.org", "short", (422, "invalid_fields"), "use at least 8 characters"),
        ("bob", PASSWORD, (422, "invalid_fields"), "enter an e-mail address such as name@example.com"),
    ] {
        let mut browser = browser(&app);
        let refused = submit(&mut browser, "/sign-up", name, password).await;
        assert_eq!(refused.outcome(), (answer.0, answer.1.to_owned()), "{name}");
        assert!(refused.set_cookies().is_empty());
        let told = submit(&mut browser, "/sign-up-again", name, password).await;
        assert_eq!((told.status(), &*told.body), (200, reason.as_bytes()), "{name}");
    }
    let refused = submit(&mut browser(&app), "/sign-up", "bob", PASSWORD).await;
    let reason = &refused.json()["fields"]["name"];
    assert_eq!(reason, "enter an e-mail address such as name@example.com");
}

#[tokio::test]
async fn the_name_is_of_the_kind_that_accounts_have() {
    for (login_names, name, status) in [
        (LoginNames::Email, "ada@example.org", 303),
        (LoginNames::Email, "ada", 422),
        (LoginNames::Username, "ada", 303),
        (LoginNames::Username, "ada@example.org", 422),
        (LoginNames::Both, "ada", 303),
        (LoginNames::Both, "ada@example.org", 303),
    ] {
        let app = app_with(AccountRules { login_names, ..AccountRules::default() }).await;
        let answer = submit(&mut browser(&app), "/sign-up", name, PASSWORD).await;
        assert_eq!(answer.status(), status, "{login_names:?} {name}");
    }
}

#[tokio::test]
async fn sec_137_a_form_keeps_the_rules_of_registration() {
    for registration in [RegistrationMode::VerifyFirst, RegistrationMode::Invite, RegistrationMode::Closed] {
        let app = app_with(AccountRules { registration, ..AccountRules::default() }).await;
        let refused = submit(&mut browser(&app), "/sign-up", "ada@example.org", PASSWORD).await;
        assert_eq!(refused.outcome(), (403, "registration_closed".to_owned()), "{registration:?}");
        assert_eq!(submit(&mut browser(&app), "/sign-in", "ada@example.org", PASSWORD).await.status(), 401);
    }
    let email_domains = vec!["example.com".to_owned()];
    let app = app_with(AccountRules { email_domains, ..AccountRules::default() }).await;
    let refused = submit(&mut browser(&app), "/sign-up", "ada@example.org", PASSWORD).await;
    assert_eq!((refused.status(), refused.json()["fields"]["email"].is_string()), (422, true));
    assert_eq!(submit(&mut browser(&app), "/sign-up", "ada@example.com", PASSWORD).await.status(), 303);
}

#[tokio::test]
async fn sec_131_a_form_signs_nobody_in_whose_address_is_to_be_verified_first() {
    let open = TestApp::new().await;
    open.register("ada").await;
    let rules = AccountRules { registration: RegistrationMode::VerifyFirst, ..AccountRules::default() };
    let app = open.beside(|builder| builder.account_rules(rules)).await.unwrap();
    let early = submit(&mut browser(&app), "/sign-in", "ada@example.org", PASSWORD).await;
    assert_eq!(early.outcome(), (403, "email_unverified".to_owned()));
    assert!(early.set_cookies().is_empty());
    let wrong = submit(&mut browser(&app), "/sign-in", "ada@example.org", "a guess").await;
    assert_eq!(wrong.status(), 401, "only who has the password learns that");
}

#[tokio::test]
async fn sec_069_a_form_of_another_site_registers_nobody() {
    let app = TestApp::new().await;
    let mut elsewhere = browser(&app).without("sec-fetch-site").with("sec-fetch-site", "cross-site");
    let refused = submit(&mut elsewhere, "/sign-up", "ada@example.org", PASSWORD).await;
    assert_eq!(refused.outcome(), (403, "cross_site".to_owned()));
    assert_eq!(submit(&mut browser(&app), "/sign-in", "ada@example.org", PASSWORD).await.status(), 401);
}
