//! The promises of [`OutboxStore`].

use std::collections::BTreeSet;
use std::sync::Arc;

use countersign_core::model::{EmailAddress, OutboxMail, OutboxState};
use countersign_core::store::{DeadLetterPosition, MailFailure, OutboxSize, OutboxStore};
use countersign_jwt::Timestamp;
use uuid::Uuid;

use super::fixture::{NOW, at_once, secs};

/// Runs every check of the outbox. Needs an empty database, and leaves it empty.
///
/// # Panics
/// With the promise that the store broke.
pub async fn run(outbox: &Arc<dyn OutboxStore>, rounds: usize) {
    mails_come_back_whole(&**outbox).await;
    due_mails_are_claimed_until_the_lease_ends(&**outbox).await;
    parallel_claims_share_no_mail(outbox, rounds).await;
    only_the_present_claim_fails(&**outbox).await;
    dead_letters_are_listed_and_retried(outbox).await;
    purging_takes_old_dead_letters(&**outbox).await;
    the_size_counts_what_waits_and_what_is_dead(&**outbox).await;
}

/// The mail with this number, due at [`NOW`] and so many seconds.
fn mail(number: u128, due_in: u64) -> OutboxMail {
    OutboxMail {
        id: Uuid::from_u128(number),
        to: EmailAddress::parse("ada@example.com").expect("an e-mail address"),
        kind: "reset_password".to_owned(),
        user_id: Some(Uuid::from_u128(number).into()),
        sealed: vec![1, 2, 3],
        created_at: NOW,
        useless_after: None,
        attempts: 0,
        state: OutboxState::Waiting { next_at: NOW + secs(due_in) },
        last_error: None,
    }
}

fn ids(mails: &[OutboxMail]) -> Vec<u128> {
    mails.iter().map(|mail| mail.id.as_u128()).collect()
}

async fn enqueue(outbox: &dyn OutboxStore, mail: &OutboxMail) -> bool {
    outbox.enqueue_mail(mail).await.expect("the store answers")
}

async fn claim(outbox: &dyn OutboxStore, now: Timestamp, limit: usize) -> Vec<OutboxMail> {
    outbox.claim_mail(now, now + secs(60), limit).await.expect("the store answers")
}

async fn remove(outbox: &dyn OutboxStore, id: u128) -> bool {
    outbox.remove_mail(Uuid::from_u128(id)).await.expect("the store answers")
}

async fn dead(outbox: &dyn OutboxStore, after: Option<DeadLetterPosition>, limit: usize) -> Vec<OutboxMail> {
    outbox.dead_letters(after, limit).await.expect("the store answers")
}

/// Claims everything that is due and makes dead letters of it.
async fn bury(outbox: &dyn OutboxStore, now: Timestamp) {
    for mail in claim(outbox, now, 100).await {
        let failure = MailFailure {
            id: mail.id,
            attempts: mail.attempts,
            then: OutboxState::Dead { since: now },
            error: "550 no such user".to_owned(),
        };
        assert!(outbox.fail_mail(&failure).await.expect("the store answers"));
    }
}

/// A claimed mail is to the byte the one that was put in, and an id that is taken changes nothing.
pub async fn mails_come_back_whole(outbox: &dyn OutboxStore) {
    assert_eq!(claim(outbox, NOW, 10).await, [], "empty at first");
    assert_eq!(dead(outbox, None, 10).await, [], "empty at first");
    let long = OutboxMail {
        to: EmailAddress::parse("José.O'Brien+x@Bücher.example").expect("an e-mail address"),
        kind: "k".repeat(64),
        user_id: None,
        sealed: (0..=255).cycle().take(200_000).collect(),
        created_at: NOW - secs(86_400),
        useless_after: Some(NOW + secs(3_600)),
        attempts: 7,
        last_error: Some(format!("451 später {}", "'\\\u{1f4ee}\"".repeat(120))),
        ..mail(1, 0)
    };
    let short = OutboxMail { sealed: Vec::new(), last_error: Some(String::new()), ..mail(2, 0) };
    let usual = mail(3, 0);
    for mail in [&long, &short, &usual] {
        assert!(enqueue(outbox, mail).await);
        let other = OutboxMail { kind: "other".to_owned(), ..mail.clone() };
        assert!(!enqueue(outbox, &other).await, "an id is taken once");
    }
    let claimed = claim(outbox, NOW, 10).await;
    let expected: Vec<_> = [long, short, usual]
        .into_iter()
        .map(|mail| OutboxMail {
            attempts: mail.attempts + 1,
            state: OutboxState::Waiting { next_at: NOW + secs(60) },
            ..mail
        })
        .collect();
    assert_eq!(claimed, expected, "as put in, with one attempt more and the lease");
    for mail in &claimed {
        assert!(remove(outbox, mail.id.as_u128()).await, "it was there");
        assert!(!remove(outbox, mail.id.as_u128()).await, "it is gone");
    }
    assert_eq!(claim(outbox, Timestamp::MAX, 10).await, []);
}

/// A mail is claimed when it is due, the longest due first, and not again before the lease has ended.
pub async fn due_mails_are_claimed_until_the_lease_ends(outbox: &dyn OutboxStore) {
    for (number, due_in) in [(4, 30), (2, 10), (3, 10), (1, 20), (5, 31)] {
        assert!(enqueue(outbox, &mail(number, due_in)).await);
    }
    let at = |seconds| NOW + secs(seconds);
    assert_eq!(claim(outbox, at(9), 10).await, [], "nothing is due yet");
    assert_eq!(claim(outbox, at(30), 0).await, [], "none were asked for");
    assert_eq!(ids(&claim(outbox, at(30), 3).await), [2, 3, 1], "the longest due first, then by id");
    assert_eq!(ids(&claim(outbox, at(30), 3).await), [4], "due at its very time, and the others are claimed");
    assert!(remove(outbox, 2).await, "one of them was sent");
    assert_eq!(ids(&claim(outbox, at(89), 10).await), [5], "the leases last");
    let again = claim(outbox, at(90), 10).await;
    assert_eq!(ids(&again), [1, 3, 4], "their node crashed, so they are due at the end of the lease");
    assert!(again.iter().all(|mail| mail.attempts == 2), "every claim counts");
    for number in [1, 3, 4, 5] {
        assert!(remove(outbox, number).await);
    }
}

/// Nodes that claim at once never claim the same mail, and together they claim all.
pub async fn parallel_claims_share_no_mail(outbox: &Arc<dyn OutboxStore>, rounds: usize) {
    for round in 0..rounds.div_ceil(20) {
        for number in 1..=40 {
            assert!(enqueue(&**outbox, &mail(number, 0)).await);
        }
        let claims = at_once((0..16).map(|_| {
            let outbox = outbox.clone();
            async move { claim(&*outbox, NOW, 5).await }
        }))
        .await;
        let mut seen = BTreeSet::new();
        for mail in claims.iter().flatten() {
            assert!(seen.insert(mail.id), "round {round}: {} was claimed twice", mail.id);
            assert_eq!(mail.attempts, 1, "round {round}: it was claimed once");
        }
        assert!(claims.iter().all(|claimed| claimed.len() <= 5), "round {round}: no more than asked for");
        // A node that lost a race for some mails may have got fewer than there are, but none is lost.
        for mail in claim(&**outbox, NOW, 40).await {
            assert!(seen.insert(mail.id), "round {round}: {} was claimed twice", mail.id);
        }
        assert_eq!(seen.len(), 40, "round {round}: all were claimed");
        for id in seen {
            assert!(remove(&**outbox, id.as_u128()).await);
        }
    }
}

/// A failure is noted for the claim that it belongs to, and for no later one.
pub async fn only_the_present_claim_fails(outbox: &dyn OutboxStore) {
    let fail = async |attempts, then, error: &str| {
        let failure = MailFailure { id: Uuid::from_u128(1), attempts, then, error: error.to_owned() };
        outbox.fail_mail(&failure).await.expect("the store answers")
    };
    let waiting = |seconds| OutboxState::Waiting { next_at: NOW + secs(seconds) };
    assert!(!fail(0, waiting(0), "unknown").await, "an unknown mail");
    assert!(enqueue(outbox, &mail(1, 0)).await);
    assert_eq!(ids(&claim(outbox, NOW, 1).await), [1]);
    assert!(fail(1, waiting(100), "450 später").await);
    assert_eq!(claim(outbox, NOW + secs(99), 1).await, [], "it waits as long as it was told to");
    let claimed = claim(outbox, NOW + secs(100), 1).await;
    let expected = OutboxMail {
        attempts: 2,
        state: waiting(160),
        last_error: Some("450 später".to_owned()),
        ..mail(1, 0)
    };
    let only = std::slice::from_ref(&expected);
    assert_eq!(claimed, only, "the error is kept, and nothing else has changed");

    assert!(!fail(1, waiting(0), "late").await, "the claim before has no say any more");
    assert!(!fail(3, waiting(0), "early").await);
    assert_eq!(claim(outbox, NOW + secs(159), 1).await, [], "so the present claim's lease lasts");
    let died = OutboxState::Dead { since: NOW + secs(120) };
    assert!(fail(2, died, "550 no such user").await);
    assert!(!fail(2, waiting(0), "again").await, "a dead letter does not fail");
    assert_eq!(claim(outbox, Timestamp::MAX, 1).await, [], "a dead letter is never due");
    let letter = OutboxMail { state: died, last_error: Some("550 no such user".to_owned()), ..expected };
    assert_eq!(dead(outbox, None, 10).await, [letter]);
    assert!(remove(outbox, 1).await, "dead letters can be removed");
    assert_eq!(dead(outbox, None, 10).await, []);
}

/// Dead letters are listed in pages, the youngest first, and one of the concurrent calls makes a letter wait again.
pub async fn dead_letters_are_listed_and_retried(outbox: &Arc<dyn OutboxStore>) {
    for (number, died_at) in [(1, 30), (2, 10), (3, 20), (5, 20), (4, 20)] {
        assert!(enqueue(&**outbox, &mail(number, died_at)).await);
        bury(&**outbox, NOW + secs(died_at)).await;
    }
    assert!(enqueue(&**outbox, &mail(6, 500)).await, "one waits beside them");
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = dead(&**outbox, after, 2).await;
        let Some(last) = page.last() else { break };
        after = DeadLetterPosition::of(last);
        pages.push(ids(&page));
        if ids(&page).contains(&4) {
            assert!(remove(&**outbox, 3).await, "a page goes on after a letter that is gone");
        }
    }
    assert_eq!(pages, [vec![1, 5], vec![4, 3], vec![2]], "the youngest first, then by id");

    let answers =
        at_once(
            (0..8).map(|_| {
                let outbox = outbox.clone();
                async move {
                    outbox.retry_mail(Uuid::from_u128(5), NOW + secs(40)).await.expect("the store answers")
                }
            }),
        )
        .await;
    assert_eq!(answers.iter().filter(|retried| **retried).count(), 1, "one makes it wait again");
    for id in [6, 7] {
        let retried = outbox.retry_mail(Uuid::from_u128(id), NOW).await.expect("the store answers");
        assert!(!retried, "{id} is not a dead letter");
    }
    assert_eq!(ids(&dead(&**outbox, None, 10).await), [1, 4, 2]);
    assert_eq!(claim(&**outbox, NOW + secs(39), 10).await, []);
    let again = claim(&**outbox, NOW + secs(40), 10).await;
    assert_eq!(ids(&again), [5]);
    assert!(again.iter().all(|mail| mail.attempts == 1), "its attempts start again");
    for number in [1, 2, 4, 5, 6] {
        assert!(remove(&**outbox, number).await);
    }
}

/// Purging deletes the letters that died before a time, a batch at a time, and no mail that waits.
pub async fn purging_takes_old_dead_letters(outbox: &dyn OutboxStore) {
    for (number, died_at) in [(1, 10), (2, 20), (3, 30), (4, 40)] {
        assert!(enqueue(outbox, &mail(number, died_at)).await);
        bury(outbox, NOW + secs(died_at)).await;
    }
    assert!(enqueue(outbox, &mail(5, 0)).await, "one waits beside them");
    let purge = async |before, limit| {
        outbox.purge_dead_letters(NOW + secs(before), limit).await.expect("the store answers")
    };
    assert_eq!(purge(10, 10).await, 0, "dead since that time is not before it");
    assert_eq!((purge(40, 2).await, purge(40, 2).await, purge(40, 2).await), (2, 1, 0));
    assert_eq!(ids(&dead(outbox, None, 10).await), [4]);
    assert_eq!(ids(&claim(outbox, NOW, 10).await), [5]);
    for number in [4, 5] {
        assert!(remove(outbox, number).await);
    }
}

/// The size counts mails that wait and dead letters apart, and tells since when the first one is due.
pub async fn the_size_counts_what_waits_and_what_is_dead(outbox: &dyn OutboxStore) {
    let size = async || outbox.outbox_size().await.expect("the store answers");
    assert_eq!(size().await, OutboxSize::default(), "an empty outbox");
    for (number, due_in) in [(1, 10), (2, 500), (3, 300)] {
        assert!(enqueue(outbox, &mail(number, due_in)).await);
    }
    let waiting = |waiting, dead, due_in| OutboxSize { waiting, dead, first_due: Some(NOW + secs(due_in)) };
    assert_eq!(size().await, waiting(3, 0, 10));
    bury(outbox, NOW + secs(10)).await;
    assert_eq!(size().await, waiting(2, 1, 300), "a dead letter is not due");
    assert_eq!(ids(&claim(outbox, NOW + secs(300), 1).await), [3]);
    assert_eq!(size().await, waiting(2, 1, 360), "a claimed mail waits for the end of its lease");
    for number in [1, 2, 3] {
        assert!(remove(outbox, number).await);
    }
    assert_eq!(size().await, OutboxSize::default());
}
