//! Pages that anybody sees: registering, signing in, languages, errors.

use countersign_http::{AccountRules, LoginNames, RegistrationMode};
use countersign_testapp::app::PASSWORD;

use crate::visitor::{Visitor, goes_to, mailing, site, site_with, text};

#[tokio::test]
async fn somebody_registers_and_sees_the_account_with_its_session() {
    let app = site().await;
    let ada = Visitor::registered(&app, "ada").await;
    assert!(
        ada.page.contains("Your account is ready.") && ada.page.contains("ada@example.org"),
        "{}",
        ada.page
    );
    assert!(ada.page.contains("This device") && !ada.page.contains("End session"), "{}", ada.page);
}

#[tokio::test]
async fn a_form_says_what_is_wrong_with_each_field_and_keeps_what_was_typed() {
    let app = site().await;
    let _ada = Visitor::registered(&app, "ada").await;
    let mut bob = Visitor::of(&app);
    for (email, password, status, expected) in [
        ("", PASSWORD, 422, "Fill in this field."),
        ("bob", PASSWORD, 422, "Enter an e-mail address such as name@example.com."),
        ("bob@example.org", "", 422, "Fill in this field."),
        ("bob@example.org", "short", 422, "Use at least 8 characters."),
        ("bob@example.org", "password", 422, "one of the most common passwords"),
        ("bob@example.org", "BOB@example.org", 422, "must not be your e-mail address"),
        ("ada@example.org", PASSWORD, 422, "An account has this address already."),
    ] {
        bob.open("/register").await;
        let answer = bob.send("/register", &[("email", email), ("password", password)]).await;
        assert_eq!(answer.status(), status, "{email} {password}");
        assert!(
            bob.page.contains(expected) && bob.page.contains("aria-invalid=\"true\""),
            "{email}: {}",
            bob.page
        );
        assert!(email.is_empty() || bob.page.contains(&format!("value=\"{email}\"")), "{}", bob.page);
        assert!(password.is_empty() || !bob.page.contains(&format!("value=\"{password}\"")), "{}", bob.page);
    }
}

#[tokio::test]
async fn sec_130_a_wrong_password_and_an_unknown_name_get_the_same_page() {
    let app = site().await;
    let _ada = Visitor::registered(&app, "ada").await;
    let mut pages = Vec::new();
    for name in ["ada@example.org", "bob@example.org"] {
        let mut visitor = Visitor::of(&app);
        visitor.open("/sign-in").await;
        let answer = visitor.send("/sign-in", &[("name", name), ("password", "wrong horse")]).await;
        assert_eq!(answer.status(), 401);
        let token = visitor.hidden("/sign-in", "form_token").unwrap();
        pages.push(visitor.page.replace(name, "NAME").replace(&token, "TOKEN"));
    }
    assert_eq!(pages[0], pages[1]);
    assert!(pages[0].contains("That name and password do not match."));
}

#[tokio::test]
async fn sec_132_too_many_attempts_are_told_with_how_long_to_wait() {
    let app = site().await;
    let _ada = Visitor::registered(&app, "ada").await;
    for name in ["ada@example.org", "nobody@example.org"] {
        let mut visitor = Visitor::of(&app);
        let mut last = None;
        for _ in 0..6 {
            visitor.open("/sign-in").await;
            last = Some(visitor.send("/sign-in", &[("name", name), ("password", "wrong horse")]).await);
        }
        let last = last.unwrap();
        assert_eq!((last.status(), last.header("retry-after")), (429, Some("1")), "{name}");
        assert!(visitor.page.contains("Try again in 1 second."), "{}", visitor.page);
    }
}

#[tokio::test]
async fn a_sign_in_goes_on_to_the_page_that_was_asked_for() {
    let app = site().await;
    let _ada = Visitor::registered(&app, "ada").await;
    let mut visitor = Visitor::of(&app);
    let answer = visitor.open("/account/email").await;
    assert_eq!(goes_to(&answer), "/sign-in?next=%2Faccount%2Femail");
    visitor.open("/sign-in?next=%2Faccount%2Femail").await;
    let fields = [("name", "ada@example.org"), ("password", PASSWORD)];
    assert_eq!(goes_to(&visitor.send("/sign-in", &fields).await), "/account/email");
    assert_eq!(goes_to(&visitor.open("/sign-in?next=%2Faccount%2Femail").await), "/account/email", "already");
}

#[tokio::test]
async fn a_browser_is_remembered_only_if_asked() {
    let app = site().await;
    let _ada = Visitor::registered(&app, "ada").await;
    for remember in [false, true] {
        let mut visitor = Visitor::of(&app);
        visitor.open("/sign-in").await;
        let mut fields = vec![("name", "ada@example.org"), ("password", PASSWORD)];
        if remember {
            fields.push(("remember", "yes"));
        }
        let answer = visitor.send("/sign-in", &fields).await;
        let cookies = answer.set_cookies();
        let refresh = cookies.iter().find(|cookie| cookie.name.ends_with("countersign_refresh")).unwrap();
        let is_kept = refresh.attributes.iter().any(|attribute| attribute.starts_with("Max-Age="));
        assert_eq!(is_kept, remember, "{refresh:?}");
    }
}

#[tokio::test]
async fn the_names_that_an_account_needs_are_asked_for() {
    for (names, has_email, has_username) in
        [(LoginNames::Email, true, false), (LoginNames::Username, true, true), (LoginNames::Both, true, true)]
    {
        let rules = AccountRules { login_names: names, ..AccountRules::default() };
        let app = site_with(|builder| builder.account_rules(rules)).await;
        let mut visitor = Visitor::of(&app);
        visitor.open("/register").await;
        assert_eq!(visitor.page.contains("name=\"email\""), has_email, "{names:?}");
        assert_eq!(visitor.page.contains("name=\"username\""), has_username, "{names:?}");
        let mut fields = vec![("password", PASSWORD)];
        match names {
            LoginNames::Email => fields.push(("email", "ada@example.org")),
            LoginNames::Username | LoginNames::Both => fields.push(("username", "ada")),
        }
        let answer = visitor.send("/register", &fields).await;
        assert_eq!(goes_to(&answer), "/account", "{names:?}: {}", visitor.page);
    }
}

#[tokio::test]
async fn where_nobody_may_register_no_page_invites_to() {
    for registration in [RegistrationMode::Invite, RegistrationMode::Closed] {
        let rules = AccountRules { registration, ..AccountRules::default() };
        let app = site_with(|builder| builder.account_rules(rules)).await;
        let mut visitor = Visitor::of(&app);
        visitor.open("/sign-in").await;
        assert!(!visitor.page.contains("/register"), "{}", visitor.page);
        assert_eq!(visitor.open("/register").await.status(), 403);
        let answer =
            visitor.send_exactly("/register", &[("email", "a@example.org"), ("password", PASSWORD)]).await;
        assert_eq!(answer.status(), 403);
    }
}

#[tokio::test]
async fn sec_131_with_verify_first_known_and_new_addresses_get_the_same_page() {
    let rules = AccountRules { registration: RegistrationMode::VerifyFirst, ..AccountRules::default() };
    let (app, letters) = mailing(|builder| builder.account_rules(rules)).await;
    let mut pages = Vec::new();
    for _ in 0..2 {
        let mut visitor = Visitor::of(&app);
        visitor.open("/register").await;
        let answer = visitor.send("/register", &[("email", "ada@example.org"), ("password", PASSWORD)]).await;
        assert_eq!(answer.status(), 200, "{}", visitor.page);
        assert!(!visitor.is_signed_in());
        let token = visitor.hidden("/language", "form_token").unwrap();
        pages.push(visitor.page.replace(&token, "TOKEN"));
    }
    assert_eq!(pages[0], pages[1]);
    letters.wait_for(2).await;
    let mut visitor = Visitor::of(&app);
    visitor.open("/sign-in").await;
    let answer = visitor.send("/sign-in", &[("name", "ada@example.org"), ("password", PASSWORD)]).await;
    assert_eq!(answer.status(), 403);
    assert!(
        visitor.page.contains("not confirmed yet") && visitor.page.contains("href=\"/verify\""),
        "{}",
        visitor.page
    );
}

#[tokio::test]
async fn the_language_is_the_chosen_one_else_the_accounts_else_the_browsers() {
    let app = site().await;
    let mut visitor = Visitor::of(&app);
    visitor.client = visitor.client.with("accept-language", "fr-CA, de;q=0.5");
    visitor.open("/sign-in").await;
    assert!(visitor.page.contains("<html lang=\"fr\">"));
    let answer = visitor.send("/language", &[("language", "de")]).await;
    assert_eq!(goes_to(&answer), "/sign-in");
    visitor.open("/sign-in").await;
    assert!(visitor.page.contains("<html lang=\"de\">") && visitor.page.contains("Anmelden"));

    let mut ada = Visitor::registered(&app, "ada").await;
    ada.open("/account/language").await;
    assert_eq!(goes_to(&ada.send("/account/language", &[("language", "fr")]).await), "/account");
    ada.client = ada.client.drop_cookie("countersign_language").with("accept-language", "de");
    ada.open("/account").await;
    assert!(ada.page.contains("<html lang=\"fr\">"), "the account's language");
}

#[tokio::test]
async fn errors_are_pages() {
    let app = site().await;
    let mut visitor = Visitor::of(&app);
    assert_eq!(visitor.client.delete("/sign-in").await.status(), 405);
    let answer =
        visitor.client.send_bytes(http::Method::POST, "/sign-in", Some("text/plain"), b"x".to_vec()).await;
    assert_eq!(answer.status(), 415);
    assert!(text(&answer).contains("<html"));
    let long = vec![b'a'; 70_000];
    let form = Some("application/x-www-form-urlencoded");
    let answer = visitor.client.send_bytes(http::Method::POST, "/sign-in", form, long).await;
    assert_eq!(answer.status(), 413);

    let mut ada = Visitor::registered(&app, "ada").await;
    app.store.fail(true);
    let answer = ada.open("/account").await;
    assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("1")), "{}", ada.page);
    assert!(ada.page.contains("Back in a moment") && ada.is_signed_in(), "nobody is signed out by an outage");
    app.store.fail(false);
    assert_eq!(ada.open("/account").await.status(), 200);
}

/// Forms that are still empty are rendered once; nobody gets anything of anybody else's with them.
#[tokio::test]
async fn an_empty_form_is_each_browsers_own() {
    let (app, _) = mailing(|builder| builder).await;
    for path in ["/register", "/sign-in", "/forgot", "/code"] {
        let mut seen = Vec::new();
        for language in ["en", "de", "en", "de"] {
            let mut visitor = Visitor::of(&app);
            visitor.client = visitor.client.with("accept-language", language);
            assert_eq!(visitor.open(path).await.status(), 200, "{path}");
            let value = visitor.hidden("/language", "form_token").unwrap();
            let page = visitor.page.clone();
            assert_eq!(page.matches(&value).count(), page.matches("\"form_token\"").count(), "{path}");
            visitor.open(path).await;
            assert_eq!(visitor.page, page, "{path}: the same browser sees the same page");
            // With a query the page is rendered by itself, and differs in the address that it returns to.
            visitor.open(&format!("{path}?x=1")).await;
            assert_eq!(visitor.page.replace("?x=1", ""), page, "{path}");
            visitor.open(&format!("{path}?next=%2Fnext")).await;
            assert_eq!(visitor.hidden("/language", "next").unwrap(), format!("{path}?next=%2Fnext"));
            // The page after that is again one that leads nowhere.
            visitor.open(path).await;
            assert_eq!(visitor.page, page, "{path}");
            seen.push((page.replace(&value, ""), value));
        }
        assert_eq!(seen[0].0, seen[2].0, "{path}");
        assert_eq!(seen[1].0, seen[3].0, "{path}");
        assert_ne!(seen[0].0, seen[1].0, "{path}: each language has its own");
        let values: std::collections::BTreeSet<_> = seen.iter().map(|(_, value)| value).collect();
        assert_eq!(values.len(), 4, "{path}: each browser has its own value");
    }
}
