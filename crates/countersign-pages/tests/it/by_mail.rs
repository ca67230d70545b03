//! Pages that links and codes in mails lead to.

use countersign_core::flow::{Addressed, Letter, Profile};
use countersign_core::flow::{Credentials, NewAccount};
use countersign_core::model::EmailAddress;
use countersign_testapp::app::PASSWORD;

use crate::visitor::{NEW, Visitor, goes_to, mailing, site};

/// The token of the newest letter that carries one.
pub(crate) fn token(letters: &[Addressed]) -> String {
    let token = letters.iter().rev().find_map(|addressed| match &addressed.letter {
        Letter::VerifyEmail { token, .. }
        | Letter::ResetPassword { token, .. }
        | Letter::SignInCode { token, .. }
        | Letter::Invite { token, .. } => Some(token.expose()),
        _ => None,
    });
    token.unwrap()
}

fn code(letters: &[Addressed]) -> String {
    let code = letters.iter().rev().find_map(|addressed| match &addressed.letter {
        Letter::SignInCode { code, .. } => Some(code.expose().to_owned()),
        _ => None,
    });
    code.unwrap()
}

#[tokio::test]
async fn sec_131_forgetting_a_password_gets_the_same_page_for_known_and_unknown_addresses() {
    let (app, letters) = mailing(|builder| builder).await;
    let _ada = Visitor::registered(&app, "ada").await;
    for path in ["/forgot", "/code", "/verify"] {
        let mut pages = Vec::new();
        for email in ["ada@example.org", "bob@example.org"] {
            let mut visitor = Visitor::of(&app);
            visitor.open(path).await;
            assert_eq!(visitor.send(path, &[("email", email)]).await.status(), 200, "{}", visitor.page);
            let token = visitor.hidden("/language", "form_token").unwrap();
            pages.push(visitor.page.replace(email, "EMAIL").replace(&token, "TOKEN"));
        }
        assert_eq!(pages[0], pages[1], "{path}");
    }
    letters.wait_for(4).await;
}

#[tokio::test]
async fn sec_140_opening_a_link_does_nothing_and_its_form_works_once() {
    let (app, letters) = mailing(|builder| builder).await;
    let mut ada = Visitor::registered(&app, "ada").await;
    let token = token(&letters.wait_for(1).await);
    let path = format!("/verify?token={token}");
    for _ in 0..5 {
        assert_eq!(Visitor::of(&app).open(&path).await.status(), 200);
    }
    ada.open("/account").await;
    assert!(ada.page.contains("Not confirmed"));
    let mut visitor = Visitor::of(&app);
    visitor.open(&path).await;
    assert_eq!(visitor.send("/verify", &[]).await.status(), 200);
    ada.open("/account").await;
    assert!(!ada.page.contains("Not confirmed"));
    visitor.open(&path).await;
    assert_eq!(visitor.send("/verify", &[]).await.status(), 400);
    assert!(visitor.page.contains("This link does not work any more"));
    assert!(!visitor.is_signed_in(), "a link that verifies signs nobody in");
}

#[tokio::test]
async fn sec_141_a_reset_ends_sessions_and_signs_nobody_in() {
    let (app, letters) = mailing(|builder| builder).await;
    let mut ada = Visitor::registered(&app, "ada").await;
    letters.wait_for(1).await;
    let mut visitor = Visitor::of(&app);
    visitor.open("/forgot").await;
    visitor.send("/forgot", &[("email", "ada@example.org")]).await;
    let token = token(&letters.wait_for(2).await);
    visitor.open(&format!("/reset?token={token}")).await;
    assert_eq!(visitor.send("/reset", &[("new_password", "short")]).await.status(), 422);
    assert_eq!(visitor.send("/reset", &[("new_password", NEW)]).await.status(), 200, "{}", visitor.page);
    assert!(visitor.page.contains("Your password is set") && !visitor.is_signed_in());
    assert!(goes_to(&ada.open("/account").await).starts_with("/sign-in"));
    Visitor::signed_in(&app, "ada@example.org", NEW).await;
}

#[tokio::test]
async fn a_code_and_the_link_beside_it_sign_in() {
    let (app, letters) = mailing(|builder| builder).await;
    let _ada = Visitor::registered(&app, "ada").await;
    letters.wait_for(1).await;
    let mut visitor = Visitor::of(&app);
    visitor.open("/code?next=%2Faccount%2Femail").await;
    visitor.send("/code", &[("email", "ada@example.org")]).await;
    let code = code(&letters.wait_for(2).await);
    let wrong = [("email", "ada@example.org"), ("code", "12345")];
    assert_eq!(visitor.send("/code", &wrong).await.status(), 401);
    let spaced = format!(" {} {}", &code[..3], &code[3..]);
    let answer = visitor.send("/code", &[("email", "ada@example.org"), ("code", &spaced)]).await;
    assert_eq!(goes_to(&answer), "/account/email", "{}", visitor.page);

    let mut visitor = Visitor::of(&app);
    visitor.open("/code").await;
    let before = letters.all().len();
    visitor.send("/code", &[("email", "ada@example.org")]).await;
    let token = token(&letters.wait_for(before + 1).await);
    let mut elsewhere = Visitor::of(&app);
    elsewhere.open(&format!("/code?token={token}")).await;
    assert!(!elsewhere.is_signed_in());
    assert!(
        elsewhere.page.contains("from our mail to ada@example.org"),
        "whose link it is: {}",
        elsewhere.page
    );
    assert_eq!(goes_to(&elsewhere.send("/code", &[]).await), "/account", "{}", elsewhere.page);
}

#[tokio::test]
async fn who_is_invited_chooses_a_password() {
    let (app, _) = mailing(|builder| builder).await;
    let email = EmailAddress::parse("eve@example.org").unwrap();
    let account = NewAccount { email: Some(email), ..NewAccount::default() };
    let user = Profile::of(app.auth.accounts()).create(account).await.unwrap();
    let token = Credentials::of(app.auth.accounts()).invite_link(&user).await.unwrap().expose();
    let mut eve = Visitor::of(&app);
    eve.open(&format!("/invite?token={token}")).await;
    assert!(eve.page.contains("You have been invited."), "{}", eve.page);
    assert_eq!(eve.send("/invite", &[("new_password", PASSWORD)]).await.status(), 200, "{}", eve.page);
    Visitor::signed_in(&app, "eve@example.org", PASSWORD).await;
}

#[tokio::test]
async fn where_no_mail_is_sent_no_page_promises_one() {
    let app = site().await;
    let mut visitor = Visitor::of(&app);
    visitor.open("/sign-in").await;
    assert!(!visitor.page.contains("/forgot") && !visitor.page.contains("/code"), "{}", visitor.page);
    for path in ["/forgot", "/code", "/verify"] {
        assert_eq!(visitor.open(path).await.status(), 404, "{path}");
    }
    // Links that an operator hands over work all the same.
    assert_eq!(visitor.open("/reset?token=x").await.status(), 200);
}

#[tokio::test]
async fn who_has_no_password_confirms_by_a_code_and_is_told_why_no_other_change_is_made() {
    let (app, letters) = mailing(|builder| builder).await;
    let email = EmailAddress::parse("eve@example.org").unwrap();
    let account = NewAccount { email: Some(email), ..NewAccount::default() };
    Profile::of(app.auth.accounts()).create(account).await.unwrap();
    let mut eve = Visitor::of(&app);
    eve.open("/code").await;
    eve.send("/code", &[("email", "eve@example.org")]).await;
    let code = code(&letters.wait_for(1).await);
    let answer = eve.send("/code", &[("email", "eve@example.org"), ("code", &code)]).await;
    assert_eq!(goes_to(&answer), "/account", "{}", eve.page);

    eve.open("/confirm?next=%2Faccount%2Femail").await;
    assert!(!eve.page.contains("type=\"password\""), "{}", eve.page);
    assert!(eve.page.contains("/code?next="), "{}", eve.page);
    for path in ["/account/close", "/account/email"] {
        eve.open(path).await;
        assert!(eve.page.contains("Set a password first"), "{path}: {}", eve.page);
        let csrf = eve.hidden("/sign-out", "csrf_token").unwrap();
        let fields = [("csrf_token", &*csrf), ("email", "new@example.org"), ("current_password", PASSWORD)];
        assert_eq!(eve.send_exactly(path, &fields).await.status(), 403, "{path}");
    }
}
