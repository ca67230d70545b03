use std::collections::VecDeque;
use std::sync::Mutex;

use async_trait::async_trait;
use countersign_core::model::EmailAddress;
use countersign_core::store::MemoryStore;
use countersign_jwt::Secret;
use countersign_testkit::{FixedClock, SeededRandom};
use uuid::Uuid;

use super::*;
use crate::{Language, Letterhead, Links, MailTemplates, Mailer, Notice, Recipient};

/// What a mail server does with a message.
#[derive(Clone, Copy, Debug)]
enum Does {
    Take,
    Refuse,
    Defer,
    Fail,
    Hang,
}

/// A mail server of one's own: it does what it was told to, one thing after the other, then takes everything.
#[derive(Debug, Default)]
struct Server {
    does: Mutex<VecDeque<Does>>,
    tried: Mutex<Vec<Message>>,
    rests: Mutex<usize>,
}

impl Server {
    fn will(&self, does: &[Does]) {
        self.does.lock().unwrap().extend(does);
    }

    /// The recipients of the messages that were tried since the last call.
    fn tried(&self) -> Vec<String> {
        let tried = std::mem::take(&mut *self.tried.lock().unwrap());
        tried.iter().map(|message| message.to().as_str().split('@').next().unwrap().to_owned()).collect()
    }
}

#[async_trait]
impl Transport for Server {
    async fn send(&self, message: &Message) -> Result<(), SendError> {
        self.tried.lock().unwrap().push(message.clone());
        let does = self.does.lock().unwrap().pop_front().unwrap_or(Does::Take);
        let reply = "5xx or 4xx for ada@example.net\r\nmore".to_owned();
        match does {
            Does::Take => Ok(()),
            Does::Refuse => Err(SendError::Refused { reply }),
            Does::Defer => Err(SendError::Deferred { reply }),
            Does::Fail => Err(SendError::unavailable("connection refused")),
            Does::Hang => std::future::pending().await,
        }
    }

    async fn rest(&self) {
        *self.rests.lock().unwrap() += 1;
    }
}

struct Office {
    clock: Arc<FixedClock>,
    outbox: Arc<MemoryStore>,
    server: Arc<Server>,
    mailer: Mailer,
    postman: Postman,
}

fn secrets(first: u8) -> Secrets {
    Secrets::new(vec![Secret::new((first..first + 40).collect()).unwrap()]).unwrap()
}

impl Office {
    fn new() -> Self {
        let clock = Arc::new(FixedClock::default());
        let (outbox, server) = (Arc::new(MemoryStore::new()), Arc::new(Server::default()));
        let sender = "Example <no-reply@example.com>".parse().unwrap();
        Self {
            mailer: Mailer::new(
                MailTemplates::built_in(),
                Letterhead::new("Example", &Links::new("https://x.example").unwrap()),
                secrets(1),
                Arc::new(SeededRandom::default()),
            ),
            postman: Postman::new(outbox.clone(), server.clone(), secrets(1), sender, clock.clone()),
            clock,
            outbox,
            server,
        }
    }

    async fn put(&self, notice: &Notice, to: &str) -> Uuid {
        let address = EmailAddress::parse(&format!("{to}@example.net")).unwrap();
        let recipient = Recipient { address, user_id: None, language: Language::English };
        let mail = self.mailer.write(notice, recipient, self.clock.now()).unwrap();
        assert!(self.outbox.enqueue_mail(&mail).await.unwrap());
        mail.id
    }

    /// Puts mails in that stay useful, one second after the other.
    async fn put_all(&self, to: &[&str]) {
        for to in to {
            let _id = self.put(&Notice::AccountExists, to).await;
            self.pass(1);
        }
    }

    async fn round(&self) -> Round {
        self.postman.send_due(100).await.unwrap()
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    async fn dead(&self) -> Vec<OutboxMail> {
        self.outbox.dead_letters(None, 100).await.unwrap()
    }

    async fn is_empty(&self) -> bool {
        self.dead().await.is_empty()
            && self.outbox.claim_mail(Timestamp::MAX, Timestamp::MAX, 1).await.unwrap().is_empty()
    }
}

fn reset(expires_in: u64) -> Notice {
    let link = "https://x.example/reset?token=s3cret".to_owned();
    Notice::ResetPassword { link, expires_in: Duration::from_secs(expires_in) }
}

#[tokio::test]
async fn due_mails_are_sent_in_their_order_and_are_gone() {
    let office = Office::new();
    office.put_all(&["a", "b", "c"]).await;
    let round = office.postman.send_due(2).await.unwrap();
    assert_eq!(round, Round { sent: 2, ..Round::default() }, "as many as it was told to");
    assert_eq!(office.round().await.sent, 1);
    assert_eq!(office.server.tried(), ["a", "b", "c"]);
    assert_eq!(*office.server.rests.lock().unwrap(), 2, "the connection is given back after each round");
    assert_eq!(office.round().await, Round::default());
    assert_eq!(*office.server.rests.lock().unwrap(), 2, "and not touched by a round without mail");
    assert!(office.is_empty().await);
}

#[tokio::test]
async fn what_is_sent_is_what_was_written() {
    let office = Office::new();
    let id = office.put(&reset(3_600), "ada").await;
    let written_at = office.clock.now();
    office.pass(30);
    office.round().await;
    let message = office.server.tried.lock().unwrap().pop().unwrap();
    assert_eq!(message.id(), id);
    assert_eq!(message.message_id(), format!("<{id}@example.com>"));
    assert!(message.content().text().contains("https://x.example/reset?token=s3cret"));
    let mime = String::from_utf8(message.to_mime().unwrap()).unwrap();
    assert_eq!(written_at, FixedClock::START);
    assert!(mime.contains("Date: Sat, 31 Jan 2026 12:00:00 +0000"), "the time of writing: {mime}");
}

#[tokio::test]
async fn a_dead_mail_server_loses_nothing_and_is_asked_once_a_round() {
    let office = Office::new();
    office.put_all(&["a", "b", "c"]).await;
    office.server.will(&[Does::Fail, Does::Fail]);
    let failed = Round { waiting: 1, is_unavailable: true, ..Round::default() };
    assert_eq!(office.round().await, failed);
    assert_eq!(office.round().await, failed);
    assert_eq!(
        office.server.tried(),
        ["a", "b"],
        "one attempt a round, and the next round begins with another mail"
    );
    assert_eq!(office.round().await.sent, 1, "the server is back");
    office.pass(59);
    assert_eq!(office.round().await, Round::default(), "a minute between attempts");
    office.pass(1);
    assert_eq!(office.round().await.sent, 2);
    assert_eq!(office.server.tried(), ["c", "a", "b"]);
    assert!(office.is_empty().await);
}

#[tokio::test]
async fn a_refused_mail_is_a_dead_letter_and_holds_nobody_up() {
    let office = Office::new();
    office.put_all(&["a", "b"]).await;
    office.server.will(&[Does::Refuse]);
    assert_eq!(office.round().await, Round { sent: 1, dead: 1, ..Round::default() });
    let dead = office.dead().await;
    let [letter] = dead.as_slice() else { panic!("one dead letter, not {}", dead.len()) };
    assert_eq!(letter.to.as_str(), "a@example.net");
    let error = "the mail server refuses the message: 5xx or 4xx for ada@example.net more";
    assert_eq!(letter.last_error.as_deref(), Some(error), "the answer, in one line");
    office.pass(2 * 86_400);
    assert_eq!(office.round().await, Round::default(), "it is not tried again");

    assert!(office.outbox.retry_mail(letter.id, office.clock.now()).await.unwrap());
    assert_eq!(office.round().await.sent, 1, "unless an operator says so");
    assert!(office.is_empty().await);
}

#[tokio::test]
async fn a_deferred_mail_waits_and_the_others_are_sent() {
    let office = Office::new();
    office.put_all(&["a", "b"]).await;
    office.server.will(&[Does::Defer]);
    assert_eq!(office.round().await, Round { sent: 1, waiting: 1, ..Round::default() });
    office.pass(60);
    assert_eq!(office.round().await.sent, 1);
    assert_eq!(office.server.tried(), ["a", "b", "a"]);
}

#[tokio::test]
async fn a_mail_that_never_passes_is_a_dead_letter_after_a_day() {
    let office = Office::new();
    office.put_all(&["a"]).await;
    office.server.will(&[Does::Defer; 20]);
    let start = office.clock.now();
    let mut rounds = 0;
    while office.dead().await.is_empty() {
        rounds += 1;
        office.round().await;
        office.pass(60);
    }
    assert_eq!(office.server.tried().len(), 9);
    assert_eq!(office.clock.now().since(start), Duration::from_secs(86_400 + 60), "{rounds} rounds");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_costs_one_deadline() {
    let office = Office::new();
    office.put_all(&["a", "b"]).await;
    office.server.will(&[Does::Hang]);
    assert_eq!(office.round().await, Round { waiting: 1, is_unavailable: true, ..Round::default() });
    assert_eq!(office.round().await.sent, 1);
    office.pass(60);
    assert_eq!(office.round().await.sent, 1);
    assert_eq!(office.server.tried(), ["a", "b", "a"]);
}

#[tokio::test]
async fn a_mail_whose_link_has_expired_is_not_sent() {
    let office = Office::new();
    let _late = office.put(&reset(600), "late").await;
    office.pass(600);
    let _good = office.put(&reset(600), "good").await;
    assert_eq!(office.round().await, Round { sent: 1, dropped: 1, ..Round::default() });
    assert_eq!(office.server.tried(), ["good"]);

    let _soon = office.put(&reset(60), "soon").await;
    office.server.will(&[Does::Defer]);
    assert_eq!(
        office.round().await,
        Round { dropped: 1, ..Round::default() },
        "it would have expired by then"
    );
    assert!(office.is_empty().await);
}

#[tokio::test]
async fn a_node_with_another_secret_does_not_lose_the_mail() {
    let office = Office::new();
    let id = office.put(&reset(3_600), "a").await;
    let stranger = Postman { secrets: secrets(2), ..office.postman.clone() };
    assert_eq!(stranger.send_due(10).await.unwrap(), Round { waiting: 1, ..Round::default() });
    assert!(office.server.tried().is_empty());
    office.pass(60);
    assert_eq!(office.round().await.sent, 1, "{id}");
}

#[tokio::test]
async fn a_node_that_crashes_leaves_its_mail_to_others() {
    let office = Office::new();
    office.put_all(&["a"]).await;
    let now = office.clock.now();
    let claimed = office.outbox.claim_mail(now, now + Postman::LEASE, 1).await.unwrap();
    assert_eq!(claimed.len(), 1, "and nothing more is heard of it");
    assert_eq!(office.round().await, Round::default());
    office.clock.advance(Postman::LEASE);
    assert_eq!(office.round().await.sent, 1);
}

#[tokio::test]
async fn two_postmen_send_each_mail_once() {
    let office = Office::new();
    for number in 0..20 {
        let _id = office.put(&Notice::AccountExists, &format!("m{number}")).await;
    }
    let (one, other) = (office.postman.clone(), office.postman.clone());
    let rounds = tokio::join!(one.send_due(100), other.send_due(100));
    assert_eq!(rounds.0.unwrap().sent + rounds.1.unwrap().sent, 20);
    let mut tried = office.server.tried();
    tried.sort();
    tried.dedup();
    assert_eq!(tried.len(), 20);
}
