//! What pages withstand.

use countersign_testapp::app::{OWN, PASSWORD};
use countersign_testapp::client::{ACCESS, REFRESH};

use crate::visitor::{NEW, Visitor, goes_to, mailing, site, text};

/// Every page that is reached by a GET.
const PAGES: [&str; 17] = [
    "/register",
    "/sign-in",
    "/code",
    "/code?token=x",
    "/confirm",
    "/account",
    "/account/email",
    "/account/username",
    "/account/password",
    "/account/language",
    "/account/close",
    "/verify?token=x",
    "/forgot",
    "/reset?token=x",
    "/invite?token=x",
    "/signed-out",
    "/sign-out",
];

/// The forms that change something for who is signed in.
const OWN_FORMS: [(&str, &[(&str, &str)]); 8] = [
    ("/sign-out", &[]),
    ("/account/sessions", &[("others", "yes")]),
    ("/account/email", &[("email", "m@example.org"), ("current_password", PASSWORD)]),
    ("/account/username", &[("username", "mallory")]),
    ("/account/password", &[("current_password", PASSWORD), ("new_password", NEW)]),
    ("/account/language", &[("language", "fr")]),
    ("/account/close", &[("current_password", PASSWORD)]),
    ("/confirm", &[("password", PASSWORD)]),
];

/// The forms that anybody may send.
const OPEN_FORMS: [(&str, &[(&str, &str)]); 8] = [
    ("/register", &[("email", "m@example.org"), ("password", PASSWORD)]),
    ("/sign-in", &[("name", "ada@example.org"), ("password", PASSWORD)]),
    ("/code", &[("email", "ada@example.org")]),
    ("/code", &[("token", "x")]),
    ("/verify", &[("token", "x")]),
    ("/forgot", &[("email", "ada@example.org")]),
    ("/reset", &[("token", "x"), ("new_password", NEW)]),
    ("/language", &[("language", "fr")]),
];

#[tokio::test]
async fn sec_073_every_page_has_the_headers_that_keep_scripts_frames_and_caches_out() {
    let (app, _) = mailing(|builder| builder).await;
    let mut ada = Visitor::registered(&app, "ada").await;
    let mut nobody = Visitor::of(&app);
    for visitor in [&mut ada, &mut nobody] {
        for path in PAGES {
            let answer = visitor.open(path).await;
            for (name, value) in [
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "same-origin"),
                ("cache-control", "no-store"),
                ("cross-origin-opener-policy", "same-origin"),
                ("x-frame-options", "DENY"),
            ] {
                assert_eq!(answer.header(name), Some(value), "{path} {name}");
            }
            assert_eq!(
                answer.header("content-security-policy"),
                Some(
                    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors \
                     'none'; base-uri 'none'"
                ),
                "{path}"
            );
            let page = text(&answer);
            for forbidden in
                ["<script", " style=", "<style", " onclick", "javascript:", "http://", "https://"]
            {
                assert!(!page.contains(forbidden), "{path}: {forbidden}");
            }
        }
    }
}

#[tokio::test]
async fn sec_066_no_get_changes_anything() {
    let (app, _) = mailing(|builder| builder).await;
    let mut ada = Visitor::registered(&app, "ada").await;
    for path in ["/sign-out", "/account/sessions?others=yes", "/account/verify", "/language?language=fr"] {
        assert_eq!(ada.open(path).await.status(), 405, "{path}");
    }
    for path in PAGES {
        ada.open(path).await;
    }
    assert_eq!(ada.open("/account").await.status(), 200);
}

#[tokio::test]
async fn sec_067_forms_of_an_account_need_the_value_of_its_session() {
    let app = site().await;
    let mut ada = Visitor::registered(&app, "ada").await;
    let mallory = Visitor::registered(&app, "mallory").await;
    let foreign = mallory.hidden("/sign-out", "csrf_token").unwrap();
    let form_token = ada.hidden("/language", "form_token").unwrap();
    for (action, fields) in OWN_FORMS {
        for more in [
            &[][..],
            &[("csrf_token", "")],
            &[("csrf_token", foreign.as_str())],
            &[("form_token", form_token.as_str())],
        ] {
            let fields: Vec<_> = fields.iter().chain(more).copied().collect();
            let answer = ada.send_exactly(action, &fields).await;
            assert_eq!(answer.status(), 403, "{action} {more:?}");
            assert!(answer.set_cookies().is_empty(), "{action} {more:?}");
        }
    }
    let answer = ada.open("/account").await;
    assert_eq!(answer.status(), 200);
    assert!(ada.page.contains("ada@example.org") && ada.page.contains("lang=\"en\""));
}

#[tokio::test]
async fn sec_069_forms_before_a_login_need_the_value_of_this_browser() {
    let (app, letters) = mailing(|builder| builder).await;
    let _ada = Visitor::registered(&app, "ada").await;
    letters.wait_for(1).await;
    let mut attacker = Visitor::of(&app);
    attacker.open("/sign-in").await;
    let attackers = attacker.hidden("/sign-in", "form_token").unwrap();
    for (action, fields) in OPEN_FORMS {
        for token in [None, Some(""), Some("x"), Some(attackers.as_str())] {
            let mut victim = Visitor::of(&app);
            victim.open("/sign-in").await;
            let more = token.map(|token| ("form_token", token));
            let fields: Vec<_> = fields.iter().copied().chain(more).collect();
            let answer = victim.send_exactly(action, &fields).await;
            assert_eq!(answer.status(), 403, "{action} {token:?}");
            assert!(!victim.is_signed_in(), "{action}");
        }
        // Without the cookie, no value is right.
        let answer = {
            let mut bare = Visitor::of(&app);
            let fields: Vec<_> = fields.iter().copied().chain([("form_token", attackers.as_str())]).collect();
            bare.send_exactly(action, &fields).await
        };
        assert_eq!(answer.status(), 403, "{action}");
    }
    assert_eq!(letters.all().len(), 1, "nothing was mailed");
}

#[tokio::test]
async fn sec_188_forms_of_other_sites_are_refused_also_where_the_browser_sends_no_cookies() {
    let (app, _) = mailing(|builder| builder).await;
    let mut ada = Visitor::registered(&app, "ada").await;
    for headers in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site"), ("origin", "https://evil.example.com")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("referer", "https://evil.example/")],
    ] {
        for (action, fields) in OWN_FORMS.into_iter().chain(OPEN_FORMS) {
            for with_cookies in [true, false] {
                let mut client = match with_cookies {
                    true => ada.client.clone(),
                    false => app.browser(),
                };
                client = client.without("sec-fetch-site");
                for (name, value) in headers {
                    client = client.with(name, value);
                }
                let mut attack = Visitor { client, page: ada.page.clone() };
                let answer = attack.send(action, fields).await;
                assert_eq!(answer.status(), 403, "{action} {headers:?}");
                let is_token =
                    |name: &str| ["access", "refresh", "csrf"].iter().any(|end| name.ends_with(end));
                assert!(
                    !answer.set_cookies().iter().any(|cookie| is_token(&cookie.name)),
                    "{action} {headers:?}: {answer:?}"
                );
                let is_seed = |name: &str| name.ends_with("countersign_form");
                assert!(
                    !answer.set_cookies().iter().any(|cookie| is_seed(&cookie.name)),
                    "the forms that the browser has open stay good: {action} {headers:?}: {answer:?}"
                );
            }
        }
    }
    assert_eq!(ada.open("/account").await.status(), 200);
    // The own origin passes without `Sec-Fetch-Site`, as older browsers send it.
    ada.client = ada.client.clone().without("sec-fetch-site").with("origin", OWN);
    assert_eq!(goes_to(&ada.send("/sign-out", &[]).await), "/signed-out");
}

#[tokio::test]
async fn sec_072_the_values_of_forms_change_at_login_and_logout() {
    let app = site().await;
    let mut ada = Visitor::of(&app);
    ada.open("/register").await;
    let before = ada.hidden("/register", "form_token").unwrap();
    ada.send("/register", &[("email", "ada@example.org"), ("password", PASSWORD)]).await;
    ada.open("/account").await;
    let during = ada.hidden("/language", "form_token").unwrap();
    let first = ada.hidden("/sign-out", "csrf_token").unwrap();
    ada.send("/sign-out", &[]).await;
    ada.open("/sign-in").await;
    let after = ada.hidden("/sign-in", "form_token").unwrap();
    ada.send("/sign-in", &[("name", "ada@example.org"), ("password", PASSWORD)]).await;
    ada.open("/account").await;
    let second = ada.hidden("/sign-out", "csrf_token").unwrap();
    assert!(before != during && during != after && before != after && first != second);
}

#[tokio::test]
async fn sec_184_a_planted_form_cookie_is_of_no_use_after_the_login() {
    let app = site().await;
    let mut attacker = Visitor::of(&app);
    attacker.open("/sign-in").await;
    let planted = attacker.client.cookie("__Host-countersign_form").to_owned();
    let token = attacker.hidden("/sign-in", "form_token").unwrap();
    let mut ada = Visitor::of(&app);
    ada.client = ada.client.set_cookie("__Host-countersign_form", &planted);
    ada.open("/register").await;
    ada.send("/register", &[("email", "ada@example.org"), ("password", PASSWORD)]).await;
    ada.open("/account").await;
    assert_ne!(ada.client.cookie("__Host-countersign_form"), planted);
    let answer =
        ada.send_exactly("/account/close", &[("current_password", PASSWORD), ("form_token", &token)]).await;
    assert_eq!(answer.status(), 403);
}

#[tokio::test]
async fn sec_192_no_page_leads_to_another_site() {
    let app = site().await;
    let _ada = Visitor::registered(&app, "ada").await;
    for next in [
        "//evil.example",
        "/\\evil.example",
        "/%09/evil.example",
        "https:evil.example",
        "https://evil.example",
        "/..//evil.example",
        "@evil.example",
        "javascript:alert(1)",
        "%2f%2fevil.example",
        "/%5cevil.example",
    ] {
        let query: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
        let mut visitor = Visitor::of(&app);
        visitor.open(&format!("/sign-in?next={query}")).await;
        assert_eq!(visitor.hidden("/sign-in", "next"), None, "{next}");
        let fields = [("name", "ada@example.org"), ("password", PASSWORD), ("next", next)];
        assert_eq!(goes_to(&visitor.send("/sign-in", &fields).await), "/account", "{next}");
        let fields = [("language", "de"), ("next", next)];
        visitor.open("/account").await;
        assert_eq!(goes_to(&visitor.send("/language", &fields).await), "/", "{next}");
    }
}

#[tokio::test]
async fn sec_074_whatever_is_typed_is_shown_as_text() {
    let (app, _) = mailing(|builder| builder).await;
    const EVIL: &str = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'{{7*7}}";
    let mut visitor = Visitor::of(&app);
    for (action, field) in [
        ("/register", "email"),
        ("/sign-in", "name"),
        ("/forgot", "email"),
        ("/code", "email"),
        ("/verify", "email"),
    ] {
        visitor.open(action).await;
        visitor.send(action, &[(field, EVIL), ("password", PASSWORD)]).await;
        assert!(!visitor.page.contains("<script") && !visitor.page.contains("<img src=x"), "{action}");
        assert!(visitor.page.contains("&lt;script&gt;") && visitor.page.contains("{{7*7}}"), "{action}");
    }
    let query: String = url::form_urlencoded::byte_serialize(EVIL.as_bytes()).collect();
    for path in ["/reset", "/invite", "/verify", "/code"] {
        visitor.open(&format!("{path}?token={query}&next={query}")).await;
        assert!(!visitor.page.contains("<script") && !visitor.page.contains("<img src=x"), "{path}");
    }
    let mut ada = Visitor::of(&app);
    ada.client = ada.client.with("user-agent", "<script>alert(1)</script> Firefox/1 Windows");
    ada.open("/register").await;
    ada.send("/register", &[("email", "ada@example.org"), ("password", PASSWORD)]).await;
    ada.open("/account").await;
    assert!(ada.page.contains("Firefox on Windows") && !ada.page.contains("<script"), "{}", ada.page);
}

#[tokio::test]
async fn a_forged_cookie_of_a_note_says_only_what_pages_say() {
    let app = site().await;
    let mut visitor = Visitor::of(&app);
    visitor.client = visitor.client.set_cookie("__Host-countersign_note", "you_have_won");
    visitor.open("/sign-in").await;
    assert!(!visitor.page.contains("won") && !visitor.page.contains("class=\"note good\""));
}

#[tokio::test]
async fn sec_188_a_link_of_another_site_ends_on_the_page_signed_in() {
    let (app, letters) = mailing(|builder| builder).await;
    let mut ada = Visitor::registered(&app, "ada").await;
    letters.wait_for(1).await;
    let refresh = ada.client.cookie(REFRESH).to_owned();
    for access in [None, Some("not a token")] {
        for path in ["/account", "/sign-in", "/account/email", "/confirm", "/verify?token=x", "/code"] {
            // The browser was closed since, and withholds the Strict cookie from the other site's link.
            let mut client = ada.client.clone().drop_cookie(ACCESS).drop_cookie(REFRESH);
            if let Some(access) = access {
                client = client.set_cookie(ACCESS, access);
            }
            let client = client.without("sec-fetch-site").with("sec-fetch-site", "cross-site");
            let mut linked = Visitor { client, page: String::new() };
            let answer = linked.open(path).await;
            let forgets = answer.set_cookies().iter().any(|cookie| cookie.is_removal());
            assert!(!forgets, "{path} {access:?}: {answer:?}");
            assert_eq!(answer.status(), 200, "{path} {access:?}");
            assert!(answer.header("refresh").is_some(), "{path} {access:?}: {}", linked.page);
        }
    }
    // Our own page asks again, and the browser shows all.
    let client = ada.client.clone().drop_cookie(ACCESS).set_cookie(REFRESH, &refresh);
    ada.client = client.without("sec-fetch-site").with("sec-fetch-site", "same-origin");
    assert_eq!(ada.open("/account").await.status(), 200);
    assert!(ada.page.contains("ada@example.org"), "{}", ada.page);
}
