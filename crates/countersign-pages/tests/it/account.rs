//! Pages of an account.

use countersign_http::{CookieKind, CookieOptions};
use countersign_testapp::app::PASSWORD;
use countersign_testapp::client::ACCESS;

use crate::visitor::{NEW, Visitor, goes_to, mailing, site, text};

#[tokio::test]
async fn sec_082_sessions_are_listed_in_words_and_ended_one_or_all() {
    let app = site().await;
    let mut ada = Visitor::registered(&app, "ada").await;
    let mut phone = Visitor::of(&app);
    phone.client = phone.client.with(
        "user-agent",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Safari/604.1",
    );
    phone.open("/sign-in").await;
    phone.send("/sign-in", &[("name", "ada@example.org"), ("password", PASSWORD)]).await;
    let mut third = Visitor::signed_in(&app, "ada@example.org", PASSWORD).await;
    app.wait(7200);

    ada.open("/account").await;
    assert!(ada.page.contains("Safari on iPhone") && ada.page.contains("2 hours ago"), "{}", ada.page);
    assert!(ada.page.contains("Unknown device"));
    let (_, rest) = ada.page.split_once("Safari on iPhone").unwrap();
    let (_, rest) = rest.split_once("name=\"session\" value=\"").unwrap();
    let id = rest.split('"').next().unwrap().to_owned();
    assert_eq!(goes_to(&ada.send("/account/sessions", &[("session", &id)]).await), "/account");
    ada.open("/account").await;
    assert!(ada.page.contains("The session has ended.") && !ada.page.contains("Safari on iPhone"));
    assert!(goes_to(&phone.open("/account").await).starts_with("/sign-in"));
    assert_eq!(third.open("/account").await.status(), 200);

    ada.send("/account/sessions", &[("others", "yes")]).await;
    assert!(goes_to(&third.open("/account").await).starts_with("/sign-in"));
    assert_eq!(ada.open("/account").await.status(), 200);
}

#[tokio::test]
async fn another_users_session_is_not_ended_by_its_id() {
    let app = site().await;
    let mut ada = Visitor::registered(&app, "ada").await;
    let mut mallory = Visitor::registered(&app, "mallory").await;
    let claims = countersign_testapp::client::payload(ada.client.cookie(ACCESS));
    let sid = claims["sid"].as_str().unwrap().to_owned();
    let csrf = mallory.hidden("/sign-out", "csrf_token").unwrap();
    mallory.send_exactly("/account/sessions", &[("session", &sid), ("csrf_token", &csrf)]).await;
    assert_eq!(ada.open("/account").await.status(), 200);
}

#[tokio::test]
async fn sec_081_signing_out_ends_the_session_and_works_twice_and_when_the_token_has_expired() {
    let app = site().await;
    for wait in [0, 3600] {
        let mut ada = match wait {
            0 => Visitor::registered(&app, "ada").await,
            _ => Visitor::signed_in(&app, "ada@example.org", PASSWORD).await,
        };
        ada.open("/account").await;
        let old = ada.client.clone();
        app.wait(wait);
        assert_eq!(goes_to(&ada.send("/sign-out", &[]).await), "/signed-out");
        assert!(ada.client.is_signed_out() && ada.open("/signed-out").await.status() == 200);
        let mut old = Visitor { client: old, page: String::new() };
        assert!(
            goes_to(&old.open("/account").await).starts_with("/sign-in"),
            "the cookies are worth nothing"
        );
        assert_eq!(goes_to(&ada.send_exactly("/sign-out", &[]).await), "/signed-out", "twice");
    }
}

#[tokio::test]
async fn an_expired_access_token_costs_nobody_a_page_or_a_form() {
    let app = site().await;
    let mut ada = Visitor::registered(&app, "ada").await;
    ada.open("/account/username").await;
    app.wait(3600);
    ada.client = ada.client.drop_cookie(ACCESS);
    assert_eq!(goes_to(&ada.send("/account/username", &[("username", "ada")]).await), "/account");
    app.wait(3600);
    ada.client = ada.client.drop_cookie(ACCESS);
    assert_eq!(ada.open("/account").await.status(), 200);
}

#[tokio::test]
async fn sec_123_the_password_is_changed_by_who_knows_the_current_one() {
    let app = site().await;
    let mut ada = Visitor::registered(&app, "ada").await;
    let mut other = Visitor::signed_in(&app, "ada@example.org", PASSWORD).await;
    for (current, new, expected) in [
        ("wrong horse", NEW, "This password is wrong."),
        (PASSWORD, "short", "Use at least 8 characters."),
        (PASSWORD, "ada@example.org", "must not be your e-mail address"),
    ] {
        ada.open("/account/password").await;
        ada.send("/account/password", &[("current_password", current), ("new_password", new)]).await;
        assert!(ada.page.contains(expected), "{}", ada.page);
    }
    assert_eq!(other.open("/account").await.status(), 200);
    ada.open("/account/password").await;
    let fields = [("current_password", PASSWORD), ("new_password", NEW)];
    assert_eq!(goes_to(&ada.send("/account/password", &fields).await), "/account");
    ada.open("/account").await;
    assert!(ada.page.contains("Your password is changed"));
    assert!(goes_to(&other.open("/account").await).starts_with("/sign-in"), "all other sessions have ended");
    Visitor::signed_in(&app, "ada@example.org", NEW).await;
}

#[tokio::test]
async fn names_are_changed() {
    let app = site().await;
    let _bob = {
        let mut bob = Visitor::registered(&app, "bob").await;
        bob.open("/account/username").await;
        bob.send("/account/username", &[("username", "bob")]).await;
        bob
    };
    let mut ada = Visitor::registered(&app, "ada").await;
    for (username, status, expected) in [
        ("bob", 409, "This username is taken."),
        ("a b", 422, "without spaces and @"),
        ("a@b", 422, "without spaces and @"),
    ] {
        ada.open("/account/username").await;
        let answer = ada.send("/account/username", &[("username", username)]).await;
        assert_eq!(answer.status(), status, "{username}");
        assert!(ada.page.contains(expected), "{}", ada.page);
    }
    ada.open("/account/username").await;
    assert_eq!(goes_to(&ada.send("/account/username", &[("username", "ada")]).await), "/account");

    ada.open("/account/email").await;
    let wrong = [("email", "ada@example.com"), ("current_password", "wrong horse")];
    assert_eq!(ada.send("/account/email", &wrong).await.status(), 403);
    let right = [("email", "ada@example.com"), ("current_password", PASSWORD)];
    assert_eq!(goes_to(&ada.send("/account/email", &right).await), "/account");
    ada.open("/account").await;
    assert!(
        ada.page.contains("ada@example.com") && ada.page.contains("Not confirmed"),
        "no mail is sent here"
    );
}

#[tokio::test]
async fn sec_142_a_new_address_counts_when_its_link_was_confirmed() {
    let (app, letters) = mailing(|builder| builder).await;
    let mut ada = Visitor::registered(&app, "ada").await;
    letters.wait_for(1).await;
    ada.open("/account/email").await;
    let fields = [("email", "ada@example.com"), ("current_password", PASSWORD)];
    assert_eq!(goes_to(&ada.send("/account/email", &fields).await), "/account");
    ada.open("/account").await;
    assert!(
        ada.page.contains("We have sent a link to the new address.") && !ada.page.contains("ada@example.com")
    );
    let token = crate::by_mail::token(&letters.wait_for(2).await);
    ada.open(&format!("/verify?token={token}")).await;
    ada.send("/verify", &[]).await;
    assert!(ada.page.contains("Address confirmed"), "{}", ada.page);
    ada.open("/account").await;
    assert!(ada.page.contains("ada@example.com") && ada.page.contains("Confirmed"), "{}", ada.page);
}

#[tokio::test]
async fn confirming_makes_the_session_fresh_and_goes_on() {
    let app = site().await;
    let mut ada = Visitor::registered(&app, "ada").await;
    app.wait(3600);
    ada.client = ada.client.drop_cookie(ACCESS);
    ada.open("/account").await;
    let fresh = |visitor: &Visitor| {
        let claims = countersign_testapp::client::payload(visitor.client.cookie(ACCESS));
        claims["fresh"] != false
    };
    assert!(!fresh(&ada));
    ada.open("/confirm?next=%2Faccount%2Femail").await;
    let answer = ada.send("/confirm", &[("password", "wrong horse")]).await;
    assert_eq!(answer.status(), 403);
    assert!(ada.page.contains("That password is wrong."));
    assert_eq!(goes_to(&ada.send("/confirm", &[("password", PASSWORD)]).await), "/account/email");
    assert!(fresh(&ada));
}

#[tokio::test]
async fn sec_083_a_closed_account_is_signed_out_at_once() {
    let app = site().await;
    let mut ada = Visitor::registered(&app, "ada").await;
    let mut other = Visitor::signed_in(&app, "ada@example.org", PASSWORD).await;
    ada.open("/account/close").await;
    let answer = ada.send("/account/close", &[("current_password", "wrong horse")]).await;
    assert_eq!(answer.status(), 403);
    let answer = ada.send("/account/close", &[("current_password", PASSWORD)]).await;
    assert_eq!(answer.status(), 200);
    assert!(text(&answer).contains("Your account is closed") && !ada.is_signed_in());
    assert!(goes_to(&other.open("/account").await).starts_with("/sign-in"));
    let mut visitor = Visitor::of(&app);
    visitor.open("/sign-in").await;
    let answer = visitor.send("/sign-in", &[("name", "ada@example.org"), ("password", PASSWORD)]).await;
    assert_eq!(answer.status(), 401);
}

/// Browsers withhold the refresh cookie, which is `SameSite=Strict`, from a page that another site's link asks for; and
/// from any page, where its path keeps it away.
#[tokio::test]
async fn a_session_outlives_a_link_of_another_site_after_its_access_token_has_expired() {
    for path in ["/", "/v1/auth/refresh"] {
        let (app, _) =
            mailing(|builder| builder.cookies(CookieOptions::new().path(CookieKind::Refresh, path))).await;
        let mut ada = Visitor::registered(&app, "ada").await;
        let name = if path == "/" { "__Host-countersign_refresh" } else { "__Secure-countersign_refresh" };
        assert!(!ada.client.cookie(name).is_empty());
        app.wait(915);
        let withheld = ada.client.clone().drop_cookie(name).without("sec-fetch-site");
        let mut linked = withheld.clone().with("sec-fetch-site", "cross-site");
        for page in ["/account", "/account/email", "/verify?token=x&y=1", "/sign-in", "/register", "/forgot"]
        {
            let answer = linked.get(page).await;
            assert_eq!(answer.status(), 200, "{path} {page}");
            assert_eq!(answer.header("refresh"), Some(&*format!("0; url={page}")), "{path} {page}");
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.header("referrer-policy"), Some("same-origin"));
            assert!(answer.set_cookies().is_empty(), "{path} {page}: nothing is forgotten");
        }
        if path == "/" {
            // The page that comes again brings the cookie.
            assert_eq!(ada.open("/account").await.status(), 200);
            assert!(ada.page.contains("ada@example.org"));
        } else {
            let mut kept_away = withheld.with("sec-fetch-site", "same-origin");
            let answer = kept_away.get("/account/email").await;
            let way = answer.header("location").unwrap_or_default().to_owned();
            assert!(way.starts_with("/v1/auth/refresh/page?next=%2Faccount%2Femail"), "{way:?}");
            assert!(answer.set_cookies().is_empty(), "{answer:?}");
            assert_eq!(ada.client.get(&way).await.header("location"), Some("/account/email"));
            assert_eq!(ada.open("/account/email").await.status(), 200);
        }
    }
}
