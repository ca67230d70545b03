//! The transport against a real mail server (aiosmtpd), which hangs, refuses, breaks off and comes back.
//!
//! Needs a Python that can import `aiosmtpd`: the one that the environment variable `TEST_FLASK_PYTHON` names, else
//! `python3`. If there is none, the tests say what they leave out.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "clippy takes only functions with #[test] for tests"
)]

use std::sync::Arc;
use std::time::Duration;

use countersign_core::model::EmailAddress;
use countersign_core::store::{MemoryStore, OutboxStore};
use countersign_jwt::{Secret, Secrets, Timestamp};
use countersign_mail::{
    Content, Language, Letterhead, Links, MailTemplates, Mailer, Message, Notice, Postman, Recipient, Roots,
    SendError, Smtp, SmtpUrl, Transport,
};
use countersign_testapp::mail_server::{Certificate, LOGIN, Mode, Server};
use countersign_testkit::{FixedClock, SeededRandom};
use serde_json::{Value, json};
use uuid::Uuid;

fn message(to: &str, subject: &str) -> Message {
    Message::new(
        Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef),
        "Bücher & Co. <no-reply@bücher.example>".parse().unwrap(),
        EmailAddress::parse(to).unwrap(),
        Content::new(subject, "Grüße\n\n.\n..\nFrom x\n", Some("<p>Grüße &amp; mehr</p>\n".to_owned())),
        Timestamp::from_secs(1_769_860_800),
    )
}

fn smtp(server: &Server, roots: &Certificate) -> Smtp {
    let url: SmtpUrl = server.url(LOGIN).parse().unwrap();
    Smtp::builder(url).extra_roots(Roots::from_pem(roots.authority().as_bytes()).unwrap()).build().unwrap()
}

fn problem(outcome: Result<(), SendError>) -> String {
    match outcome {
        Err(SendError::Unavailable { problem }) => problem,
        other => panic!("the server should be unavailable: {other:?}"),
    }
}

/// The messages among the events.
fn messages(events: &[Value]) -> Vec<&Value> {
    events.iter().filter_map(|event| event.get("message")).collect()
}

#[tokio::test]
async fn a_message_arrives_whole_in_every_mode_and_connections_are_reused() {
    for mode in [Mode::StartTls, Mode::Implicit, Mode::None] {
        let certificate = Certificate::new("localhost");
        let Some(mut server) = Server::start(mode, &certificate).await else { return };
        let smtp = match mode {
            Mode::None => Smtp::builder(server.url("").parse().unwrap()).build().unwrap(),
            _ => smtp(&server, &certificate),
        };
        smtp.send(&message("Ada.B@Bücher.example", "Grüße & mehr")).await.unwrap();
        smtp.send(&message("b@x.com", "second")).await.unwrap();
        smtp.rest().await;
        smtp.send(&message("c@x.com", "third")).await.unwrap();
        let events = server.events().await;
        let messages = messages(&events);
        let connections: Vec<_> = messages.iter().map(|message| message["connection"].clone()).collect();
        assert_eq!(connections, [1, 1, 2], "{mode:?}: one connection until it is given back");
        let [first, ..] = messages.as_slice() else { panic!("three messages") };
        assert_eq!(first["sender"], "no-reply@xn--bcher-kva.example");
        assert_eq!(
            first["recipients"],
            json!(["Ada.B@xn--bcher-kva.example"]),
            "as given, but for the domain"
        );
        assert_eq!(first["defects"], json!([]));
        assert_eq!(first["parts"]["text/plain"], "Grüße\n\n.\n..\nFrom x\n");
        assert_eq!(first["parts"]["text/html"], "<p>Grüße &amp; mehr</p>\n");
        for (name, expected) in [
            ("from", "\"Bücher & Co.\" <no-reply@xn--bcher-kva.example>"),
            ("to", "Ada.B@xn--bcher-kva.example"),
            ("subject", "Grüße & mehr"),
            ("date", "Sat, 31 Jan 2026 12:00:00 +0000"),
            ("message-id", "<01234567-89ab-4def-8123-456789abcdef@xn--bcher-kva.example>"),
            ("auto-submitted", "auto-generated"),
        ] {
            assert_eq!(first["headers"][name], expected, "{mode:?}");
        }
        assert_eq!(first["hello"], "[127.0.0.1]", "{mode:?}: without a name, the address");
        if mode != Mode::None {
            assert_eq!(events[0]["good"], true, "logged in");
            assert!(
                events.iter().filter(|event| event["login"].is_string()).count() == 2,
                "once a connection"
            );
        }
        if mode == Mode::StartTls {
            assert!(events.iter().all(|event| event["login"].is_null() || event["tls"] == true));
            assert!(messages.iter().all(|message| message["tls"] == true), "encrypted before the login");
        }
    }
}

#[tokio::test]
async fn the_greeting_has_the_name_that_was_set() {
    let Some(mut server) = Server::start(Mode::None, &Certificate::new("localhost")).await else { return };
    for (name, greeted) in
        [("auth.example.com", "auth.example.com"), ("192.0.2.1", "[127.0.0.1]"), ("a b", "[127.0.0.1]")]
    {
        let smtp = Smtp::builder(server.url("").parse().unwrap()).hello_name(name).build().unwrap();
        smtp.send(&message("a@x.com", "s")).await.unwrap();
        assert_eq!(messages(&server.events().await)[0]["hello"], greeted, "{name}");
    }
}

#[tokio::test]
async fn sec_207_nothing_in_a_message_adds_a_header_or_a_command() {
    let Some(mut server) = Server::start(Mode::None, &Certificate::new("localhost")).await else { return };
    let smtp = Smtp::builder(server.url("").parse().unwrap()).build().unwrap();
    let bodies = [
        ".\r\nMAIL FROM:<eve@x.com>\r\nRCPT TO:<eve@x.com>\r\n",
        "\n.\nQUIT\n",
        "a\r.\r\nb",
        "\r\n.\r\n.\r\n",
    ];
    for (subject, body) in
        ["a\r\nBcc: eve@x.com", "a\n\n.\nQUIT", "ä\r\n\r\n<b>", "\r\n.\r\n"].iter().zip(bodies)
    {
        let message = Message::new(
            Uuid::from_u128(1),
            "a@x.com".parse().unwrap(),
            EmailAddress::parse("b@x.com").unwrap(),
            Content::new(subject, body, None),
            Timestamp::MIN,
        );
        smtp.send(&message).await.unwrap();
        let events = server.events().await;
        let messages = messages(&events);
        assert_eq!(messages.len(), 1, "{subject:?}: one message, and nothing behind it");
        assert_eq!(messages[0]["recipients"], json!(["b@x.com"]), "{subject:?}");
        let names = messages[0]["names"].as_array().unwrap();
        assert!(!names.contains(&json!("Bcc")) && names.len() == 9, "{subject:?}: {names:?}");
    }
}

#[tokio::test]
async fn a_server_whose_certificate_is_not_good_gets_nothing() {
    for mode in [Mode::StartTls, Mode::Implicit] {
        let (right, other) = (Certificate::new("localhost"), Certificate::new("localhost"));
        let misnamed = Certificate::new("mail.example.com");
        for (what, serves, trusts) in
            [("unknown authority", &right, &other), ("another name", &misnamed, &misnamed)]
        {
            let Some(mut server) = Server::start(mode, serves).await else { return };
            let problem = problem(smtp(&server, trusts).send(&message("a@x.com", "s")).await);
            assert!(problem.contains("no TLS: invalid peer certificate"), "{mode:?} {what}: {problem}");
            assert_eq!(server.events().await, Vec::<Value>::new(), "{mode:?} {what}: no login, no mail");
        }
    }
}

#[tokio::test]
async fn sec_207_without_starttls_or_with_more_behind_it_nothing_is_sent() {
    let certificate = Certificate::new("localhost");
    let Some(mut server) = Server::start(Mode::StartTls, &certificate).await else { return };
    for (behaviour, expected) in
        [("missing", "does not offer STARTTLS"), ("inject", "more came in the clear")]
    {
        server.behave(&json!({"starttls": behaviour})).await;
        let problem = problem(smtp(&server, &certificate).send(&message("a@x.com", "s")).await);
        assert!(problem.contains(expected), "{problem}");
        assert_eq!(server.events().await, Vec::<Value>::new(), "no login, no mail");
    }
}

#[tokio::test]
async fn a_mode_that_the_server_does_not_speak_is_not_replaced_by_another() {
    let certificate = Certificate::new("localhost");
    for (serves, asks) in
        [(Mode::Implicit, "starttls"), (Mode::StartTls, "implicit"), (Mode::None, "implicit")]
    {
        let Some(mut server) = Server::start(serves, &certificate).await else { return };
        let url = format!("smtp://{LOGIN}localhost:{}?tls={asks}", server.port());
        let smtp = Smtp::builder(url.parse().unwrap())
            .extra_roots(Roots::from_pem(certificate.authority().as_bytes()).unwrap())
            .build()
            .unwrap();
        // A server that waits for TLS and a client that waits for a greeting are ended by the deadline.
        let both_wait = asks == "starttls";
        if both_wait {
            tokio::time::pause();
        }
        let _problem = problem(smtp.send(&message("a@x.com", "s")).await);
        if both_wait {
            tokio::time::resume();
        }
        assert_eq!(server.events().await, Vec::<Value>::new(), "{serves:?}, asked for {asks}");
    }
}

#[tokio::test]
async fn a_refused_login_is_the_fault_of_no_mail() {
    let certificate = Certificate::new("localhost");
    let Some(mut server) = Server::start(Mode::StartTls, &certificate).await else { return };
    let url: SmtpUrl = server.url("mailer%40example.com:wrong@").parse().unwrap();
    let roots = Roots::from_pem(certificate.authority().as_bytes()).unwrap();
    let smtp = Smtp::builder(url).extra_roots(roots).build().unwrap();
    let problem = problem(smtp.send(&message("a@x.com", "s")).await);
    assert!(problem.contains("the login failed") && problem.contains("535"), "{problem}");
    assert!(!problem.contains("wrong"), "{problem}");
    assert_eq!(server.events().await.len(), 1, "one attempt to log in, and no mail");
}

#[tokio::test]
async fn the_servers_answer_decides_between_never_later_and_for_nobody() {
    #[derive(Debug, PartialEq)]
    enum Kind {
        Refused,
        Deferred,
        Unavailable,
    }
    let Some(mut server) = Server::start(Mode::None, &Certificate::new("localhost")).await else { return };
    let smtp = Smtp::builder(server.url("").parse().unwrap()).build().unwrap();
    for (stage, reply, expected) in [
        ("rcpt", "550 5.1.1 no such user", Kind::Refused),
        ("rcpt", "553 5.1.3 bad address", Kind::Refused),
        ("rcpt", "450 4.2.1 greylisted", Kind::Deferred),
        ("rcpt", "452 4.2.2 mailbox full", Kind::Deferred),
        ("rcpt", "421 4.3.2 going down", Kind::Unavailable),
        ("rcpt", "530 5.7.0 log in first", Kind::Unavailable),
        ("data", "554 5.6.0 spam", Kind::Refused),
        ("data", "552 5.2.3 too long", Kind::Refused),
        ("data", "451 4.3.0 local error", Kind::Deferred),
        ("mail", "550 5.7.1 not your address", Kind::Unavailable),
        ("mail", "451 4.7.0 too many", Kind::Unavailable),
    ] {
        server.behave(&json!({stage: reply})).await;
        let error = smtp.send(&message("a@x.com", "s")).await.unwrap_err();
        let kind = match &error {
            SendError::Refused { .. } => Kind::Refused,
            SendError::Deferred { .. } => Kind::Deferred,
            _ => Kind::Unavailable,
        };
        assert_eq!(kind, expected, "{stage} {reply}");
        assert!(error.to_string().contains(reply), "{error}");
        assert_eq!(
            (error.is_permanent(), error.concerns_all()),
            (kind == Kind::Refused, kind == Kind::Unavailable)
        );
        server.behave(&json!({})).await;
        smtp.send(&message("b@x.com", "s")).await.unwrap();
        let events = server.events().await;
        assert_eq!(
            messages(&events)[0]["recipients"],
            json!(["b@x.com"]),
            "the next one passes after {stage} {reply}"
        );
    }
}

#[tokio::test]
async fn after_a_refusal_the_connection_is_used_again_and_after_a_break_it_is_not() {
    let Some(mut server) = Server::start(Mode::None, &Certificate::new("localhost")).await else { return };
    let smtp = Smtp::builder(server.url("").parse().unwrap()).build().unwrap();
    let mut connection = 1;
    for (behaviour, is_new) in [
        (json!({"rcpt": "550 no"}), false),
        (json!({"data": "451 later"}), false),
        (json!({"rcpt": "drop"}), true),
        (json!({"data": "drop"}), true),
        (json!({"mail": "drop"}), true),
    ] {
        server.behave(&behaviour).await;
        let error = smtp.send(&message("a@x.com", "s")).await.unwrap_err();
        assert_eq!(error.concerns_all(), is_new, "{error}");
        server.behave(&json!({})).await;
        smtp.send(&message("b@x.com", "s")).await.unwrap();
        connection += usize::from(is_new);
        assert_eq!(messages(&server.events().await)[0]["connection"], connection, "{behaviour}");
    }
}

#[tokio::test]
async fn a_server_that_restarts_is_connected_to_anew() {
    let certificate = Certificate::new("localhost");
    let Some(mut server) = Server::start(Mode::StartTls, &certificate).await else { return };
    let smtp = smtp(&server, &certificate);
    smtp.send(&message("a@x.com", "s")).await.unwrap();
    server.order(&json!({"do": "close"})).await;
    server.order(&json!({"do": "listen"})).await;
    smtp.send(&message("b@x.com", "s")).await.unwrap();
    assert_eq!(
        messages(&server.events().await).len(),
        2,
        "the kept connection was dead, and no attempt was lost"
    );

    server.order(&json!({"do": "close"})).await;
    let problem = problem(smtp.send(&message("c@x.com", "s")).await);
    assert!(problem.contains("no connection: Connection refused"), "{problem}");
    server.order(&json!({"do": "listen"})).await;
    smtp.send(&message("c@x.com", "s")).await.unwrap();
}

#[tokio::test]
async fn a_server_that_hangs_at_any_point_costs_the_deadline() {
    let certificate = Certificate::new("localhost");
    let Some(mut server) = Server::start(Mode::StartTls, &certificate).await else { return };
    let smtp = Arc::new(smtp(&server, &certificate));
    for stage in ["greeting", "mail", "rcpt", "data"] {
        server.behave(&json!({stage: "hang"})).await;
        let sending = tokio::spawn({
            let smtp = smtp.clone();
            async move { smtp.send(&message("a@x.com", "s")).await }
        });
        server.hangs(stage).await;
        // From here on the time passes as soon as nobody has anything to do.
        tokio::time::pause();
        let problem = problem(sending.await.unwrap());
        tokio::time::resume();
        assert!(problem.contains("gave no answer within 30 s"), "{stage}: {problem}");
        server.behave(&json!({})).await;
        smtp.send(&message("b@x.com", "s")).await.unwrap();
        let events = server.events().await;
        assert_eq!(messages(&events).len(), 1, "{stage}: the next one passes");
        smtp.rest().await;
    }
}

#[tokio::test]
async fn addresses_in_other_letters_need_a_server_that_can_write_them() {
    let Some(mut server) = Server::start(Mode::None, &Certificate::new("localhost")).await else { return };
    let smtp = Smtp::builder(server.url("").parse().unwrap()).build().unwrap();
    smtp.send(&message("José@bücher.example", "s")).await.unwrap();
    smtp.send(&message("a..b@x.com", "s")).await.unwrap();
    let events = server.events().await;
    let [utf8, dots] = messages(&events)[..] else { panic!("two messages") };
    assert_eq!(utf8["recipients"], json!(["José@xn--bcher-kva.example"]));
    assert_eq!(utf8["options"], json!(["SMTPUTF8", "BODY=8BITMIME"]));
    assert_eq!(dots["recipients"], json!(["a..b@x.com"]));
    smtp.rest().await;

    server.behave(&json!({"utf8": false})).await;
    let error = smtp.send(&message("José@bücher.example", "s")).await.unwrap_err();
    assert!(error.is_permanent() && error.to_string().contains("SMTPUTF8"), "{error}");
    smtp.send(&message("jose@bücher.example", "s")).await.unwrap();
    assert_eq!(messages(&server.events().await)[0]["recipients"], json!(["jose@xn--bcher-kva.example"]));
}

#[tokio::test]
async fn an_outbox_survives_a_mail_server_that_hangs_refuses_dies_and_comes_back() {
    let certificate = Certificate::new("localhost");
    let Some(mut server) = Server::start(Mode::StartTls, &certificate).await else { return };
    let clock = Arc::new(FixedClock::default());
    let outbox = Arc::new(MemoryStore::new());
    let secrets = Secrets::new(vec![Secret::new((1..41).collect()).unwrap()]).unwrap();
    let links = Links::new("https://auth.example.com").unwrap();
    let mailer = Mailer::new(
        MailTemplates::built_in(),
        Letterhead::new("Example", &links),
        secrets.clone(),
        Arc::new(SeededRandom::default()),
    );
    let sender = "Example <no-reply@example.com>".parse().unwrap();
    let smtp = Arc::new(smtp(&server, &certificate));
    let postman = Postman::new(outbox.clone(), smtp, secrets, sender, clock.clone());
    let minute = Duration::from_secs(60);
    for to in ["a@x.com", "b@x.com"] {
        let notice = Notice::ResetPassword { link: links.reset(to), expires_in: 600 * minute };
        let address = EmailAddress::parse(to).unwrap();
        let recipient = Recipient { address, user_id: None, language: Language::French };
        let mail = mailer.write(&notice, recipient, FixedClock::START).unwrap();
        assert!(outbox.enqueue_mail(&mail).await.unwrap());
    }

    server.behave(&json!({"data": "hang"})).await;
    let round = tokio::spawn({
        let postman = postman.clone();
        async move { postman.send_due(10).await.unwrap() }
    });
    server.hangs("data").await;
    tokio::time::pause();
    let round = round.await.unwrap();
    tokio::time::resume();
    assert!((round.waiting, round.is_unavailable) == (1, true), "{round:?}");

    server.order(&json!({"do": "close"})).await;
    let round = postman.send_due(10).await.unwrap();
    assert!((round.waiting, round.is_unavailable) == (1, true), "{round:?}");

    server.order(&json!({"do": "listen"})).await;
    server.behave(&json!({"rcpt": "450 4.2.1 greylisted"})).await;
    clock.advance(minute);
    let round = postman.send_due(10).await.unwrap();
    assert_eq!((round.waiting, round.is_unavailable), (2, false), "each was asked for");

    server.behave(&json!({})).await;
    assert_eq!(postman.send_due(10).await.unwrap().sent, 0, "not due yet");
    clock.advance(5 * minute);
    assert_eq!(postman.send_due(10).await.unwrap().sent, 2);
    let events = server.events().await;
    let mut links_sent: Vec<_> = messages(&events)
        .iter()
        .map(|message| {
            assert_eq!(message["headers"]["subject"], "Nouveau mot de passe pour Example");
            let text = message["parts"]["text/plain"].as_str().unwrap();
            text.lines().find(|line| line.starts_with("https://")).unwrap().to_owned()
        })
        .collect();
    links_sent.sort();
    assert_eq!(links_sent, [links.reset("a@x.com"), links.reset("b@x.com")], "each once");
    assert_eq!(outbox.dead_letters(None, 10).await.unwrap(), []);
}
