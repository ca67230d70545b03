//! Settings that contradict each other are refused at start, with what to do instead.

use std::time::Duration;

use countersign_axum::{Auth, AuthBuilder, Location};
use countersign_core::model::SessionPolicy;
use countersign_core::store::MemoryStore;
use countersign_http::{CookieKind, CookieOptions};
use countersign_testkit::TestBed;
use url::Url;

async fn refused(public_url: Option<&str>, configure: impl FnOnce(AuthBuilder) -> AuthBuilder) -> String {
    let mut builder = Auth::builder(MemoryStore::new(), TestBed::secrets()).without_background();
    if let Some(url) = public_url {
        builder = builder.public_url(Url::parse(url).unwrap());
    }
    configure(builder).build().await.err().map(|error| error.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn contradictions_between_cookie_settings_are_errors_that_name_the_fix() {
    const HTTPS: Option<&str> = Some("https://app.example.com");
    const LOOPBACK: Option<&str> = Some("http://localhost:3000");
    let cookies = CookieOptions::new;
    for (case, url, options, fix) in [
        ("a public URL in the open", Some("http://app.example.com"), cookies(), "use an https URL"),
        ("None over http", LOOPBACK, cookies().dangerous().send_cross_site(), "need an https public URL"),
        ("Partitioned over http", LOOPBACK, cookies().partitioned(), "need an https public URL"),
        ("strict and not", HTTPS, cookies().strict().dangerous().send_cross_site(), "leave one of them out"),
        (
            "shared by nobody knows whom",
            None,
            cookies().shared_with_subdomains("example.com"),
            "add `.public_url(…)`",
        ),
        ("shared with strangers", HTTPS, cookies().shared_with_subdomains("example.org"), "a parent of it"),
        ("shared with everybody", HTTPS, cookies().shared_with_subdomains("com"), "at least two labels"),
        ("shared over http", LOOPBACK, cookies().shared_with_subdomains("localhost"), "an https public URL"),
        (
            "one name for two",
            HTTPS,
            cookies().name(CookieKind::Access, "countersign_csrf"),
            "different names",
        ),
        ("a prefix", HTTPS, cookies().name(CookieKind::Access, "__Host-x"), "leave `__Host-`"),
        ("a prefix in another case", None, cookies().name(CookieKind::Csrf, "__SECURE-x"), "leave `__Host-`"),
        ("no name", HTTPS, cookies().name(CookieKind::Refresh, ""), "letters, digits"),
        (
            "a name with more behind it",
            HTTPS,
            cookies().name(CookieKind::Refresh, "a=b; c"),
            "letters, digits",
        ),
        ("a path from nowhere", HTTPS, cookies().path(CookieKind::Refresh, "auth"), "begin with `/`"),
        (
            "a path with more behind it",
            HTTPS,
            cookies().path(CookieKind::Refresh, "/; Domain=x"),
            "begin with `/`",
        ),
    ] {
        let error = refused(url, |builder| builder.cookies(options)).await;
        assert!(error.contains(fix), "{case}: {error:?}");
    }
    let fine = cookies().shared_with_subdomains("example.com").partitioned().dangerous().send_cross_site();
    assert_eq!(refused(HTTPS, |builder| builder.cookies(fine)).await, "");
}

#[tokio::test]
async fn contradictions_between_locations_are_errors_that_name_the_fix() {
    type Configure = fn(AuthBuilder) -> AuthBuilder;
    let cases: [(&str, Configure, &str); 8] = [
        ("nowhere", |builder| builder.locations([]), "name at least one Location"),
        ("refresh nowhere", |builder| builder.refresh_locations([]), "name at least one Location"),
        (
            "twice",
            |builder| builder.locations([Location::Header, Location::Cookie, Location::Header]),
            "name each place once",
        ),
        (
            "refresh tokens in URLs",
            |builder| builder.refresh_locations([Location::Query]),
            "leave Location::Query out",
        ),
        ("a parameter that nobody reads", |builder| builder.query_parameter("ticket"), "add Location::Query"),
        (
            "a parameter without a name",
            |builder| builder.locations([Location::Query]).query_parameter(""),
            "needs a name",
        ),
        (
            "cookies that nobody reads",
            |builder| {
                let builder = builder.cookies(CookieOptions::new().strict());
                builder.locations([Location::Header]).refresh_locations([Location::Body])
            },
            "add Location::Cookie",
        ),
        ("a form field without a name", |builder| builder.csrf_field(Some(String::new())), "pass None"),
    ];
    for (case, configure, fix) in cases {
        let error = refused(None, configure).await;
        assert!(error.contains(fix), "{case}: {error:?}");
    }
}

#[tokio::test]
async fn freshness_beyond_the_tokens_life_is_an_error() {
    for (fresh_for, expected) in [
        (None, ""),
        (Some(900), ""),
        (Some(901), "fresh_for is 901 s, but it must be at least 1 s and at most the access lifetime"),
        (Some(0), "fresh_for is 0 s, but it must be at least 1 s and at most the access lifetime"),
    ] {
        let fresh_for = fresh_for.map(Duration::from_secs);
        let policy = SessionPolicy { fresh_for, ..SessionPolicy::default() };
        assert_eq!(refused(None, |builder| builder.policy(policy)).await, expected);
    }
}
