//! The promises of [`RevocationStore`](countersign_core::store::RevocationStore).

use countersign_core::model::{EndReason, Entry, Session, Target};
use countersign_core::store::{Stores, TokenRevocation, TokensRevoked};
use countersign_jwt::{Epoch, KeyId, Timestamp, TokenId, UserId};

use super::fixture::{Fixture, NOW, at_once, end, insert, raise, secs};

/// Runs every check of the log that can share a database.
pub async fn run(stores: &Stores, rounds: usize) {
    epochs_rise_one_by_one(stores).await;
    parallel_raises_give_consecutive_epochs(stores, rounds).await;
    of_a_users_epochs_the_log_holds_those_that_decide(stores).await;
    a_raise_is_never_before_an_earlier_one(stores).await;
    a_taken_key_keeps_the_later_times(stores).await;
    tokens_are_revoked_all_or_none(stores).await;
    the_limit_counts_live_entries_of_the_user(stores).await;
    parallel_revocations_keep_the_limit(stores, rounds).await;
    heartbeats_are_read_back(stores).await;
}

/// The user's entries, read page by page, in the order of their keys.
pub(super) async fn entries_of(stores: &Stores, user_id: &UserId) -> Vec<Entry> {
    let mut entries = all_entries(stores, Timestamp::MIN, 100).await;
    entries.retain(|entry| entry.user_id() == Some(user_id));
    entries
}

/// All entries, read page by page, in the order of their keys.
async fn all_entries(stores: &Stores, since: Timestamp, page: usize) -> Vec<Entry> {
    let mut entries = pages(stores, since, page, None).await;
    entries.sort_by_key(Entry::key);
    entries
}

/// The entries after `after`, read page by page.
async fn pages(stores: &Stores, since: Timestamp, page: usize, after: Option<&Entry>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let after = entries.last().or(after);
        let next = stores.revocations().entries(since, after, page).await.expect("the store answers");
        assert!(next.len() <= page, "a page holds at most {page} entries");
        let last = next.len() < page;
        entries.extend(next);
        if last {
            return entries;
        }
    }
}

async fn epoch(stores: &Stores, user_id: &UserId) -> u64 {
    stores.revocations().epoch(user_id).await.expect("the store answers").as_u64()
}

async fn raised_at(stores: &Stores, user_id: &UserId) -> Option<Timestamp> {
    stores.revocations().epoch_raised_at(user_id).await.expect("the store answers")
}

async fn insert_entry(stores: &Stores, target: Target, at: Timestamp, until: Timestamp) -> Entry {
    let entry = Entry { target, until, at };
    stores.revocations().insert_entry(&entry).await.expect("the store answers");
    entry
}

/// Epochs start at 0, rise by one each time, and are each user's own. The entry comes back as it was written.
pub async fn epochs_rise_one_by_one(stores: &Stores) {
    let fixture = Fixture::new("epochs_rise_one_by_one");
    let (ada, bob) = (fixture.user(), fixture.user());
    assert_eq!(epoch(stores, &ada).await, 0, "a user's first epoch");
    assert_eq!(raised_at(stores, &ada).await, None);
    let mut written = Vec::new();
    for number in 1..=12 {
        let except = (number % 2 == 0).then(|| fixture.session_id());
        let raising = raise(except, NOW + secs(number));
        let entry = stores.revocations().raise_epoch(&ada, &raising).await.expect("the store answers");
        let target = Target::User { user_id: ada.clone(), epoch: Epoch::new(number), except };
        assert_eq!(entry, Entry { target, until: raising.until, at: raising.at }, "the entry as written");
        assert_eq!(epoch(stores, &ada).await, number);
        assert_eq!(raised_at(stores, &ada).await, Some(raising.at));
        written.push(entry);
    }
    assert_eq!(epoch(stores, &bob).await, 0, "one user's epoch is not another's");
    assert_eq!(raised_at(stores, &bob).await, None);
    assert_eq!(entries_of(stores, &ada).await, written, "the log holds them, by number and not by digits");
    let target = Target::User { user_id: bob.clone(), epoch: Epoch::new(40), except: None };
    insert_entry(stores, target, NOW, NOW).await;
    assert_eq!(epoch(stores, &bob).await, 40, "the highest entry counts, however it came there");
    let next = stores.revocations().raise_epoch(&bob, &raise(None, NOW)).await.expect("the store answers");
    assert_eq!(next.key().number, 41);
}

/// Concurrent callers that raise one user's epoch raise it by one each.
pub async fn parallel_raises_give_consecutive_epochs(stores: &Stores, rounds: usize) {
    const CALLERS: u64 = 16;
    let fixture = Fixture::new("parallel_raises_give_consecutive_epochs");
    for round in 0..rounds.div_ceil(8) {
        let user = fixture.user();
        let mut numbers = at_once((0..CALLERS).map(|_| {
            let (log, user) = (stores.revocations().clone(), user.clone());
            async move {
                let entry = log.raise_epoch(&user, &raise(None, NOW)).await.expect("the store answers");
                entry.key().number
            }
        }))
        .await;
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=CALLERS).collect::<Vec<_>>(), "round {round}: distinct and consecutive");
        assert_eq!(epoch(stores, &user).await, CALLERS, "round {round}");
    }
}

/// However often a user's epoch is raised, the log holds the highest entry and, for the session that this entry
/// excepts, the highest one that does not except the same session. The log decides about every session as if it held
/// all entries.
pub async fn of_a_users_epochs_the_log_holds_those_that_decide(stores: &Stores) {
    let fixture = Fixture::new("of_a_users_epochs_the_log_holds_those_that_decide");
    let [one, other] = [fixture.session_id(), fixture.session_id()];
    for (excepted, held) in [
        (&[None, None, None][..], &[3][..]),
        (&[Some(one), Some(one), Some(one)], &[3]),
        (&[None, Some(one), Some(one)], &[1, 3]),
        (&[Some(one), None, Some(one)], &[2, 3]),
        (&[Some(one), Some(other), Some(one)], &[2, 3]),
        (&[Some(other), None, Some(other), Some(one), Some(other)], &[4, 5]),
        (&[Some(one), Some(other), None], &[3]),
    ] {
        let user = fixture.user();
        for (number, except) in (0..).zip(excepted) {
            // The raises are long after each other, because one may be under way for some seconds.
            let raising = raise(*except, NOW + secs(20 * number));
            stores.revocations().raise_epoch(&user, &raising).await.expect("the store answers");
        }
        let entries = entries_of(stores, &user).await;
        let numbers: Vec<_> = entries.iter().map(|entry| entry.key().number).collect();
        assert_eq!(numbers, held, "after {excepted:?}");
    }
    // Outdone entries that came into the log in other ways are deleted too.
    let user = fixture.user();
    for number in 1..=300 {
        let target = Target::User { user_id: user.clone(), epoch: Epoch::new(number), except: None };
        insert_entry(stores, target, NOW, NOW + secs(910)).await;
    }
    for at in [NOW + secs(10), NOW + secs(20)] {
        stores.revocations().raise_epoch(&user, &raise(Some(one), at)).await.expect("the store answers");
    }
    let numbers: Vec<_> = entries_of(stores, &user).await.iter().map(|entry| entry.key().number).collect();
    assert_eq!(numbers, [300, 301, 302], "what is young stays for the time being");
}

/// Tokens that name no session are judged by the time at which an epoch was raised, so that time never goes back.
pub async fn a_raise_is_never_before_an_earlier_one(stores: &Stores) {
    let fixture = Fixture::new("a_raise_is_never_before_an_earlier_one");
    let user = fixture.user();
    for (at, expected) in [(100, 100), (95, 100), (200, 200)] {
        let raising = raise(None, NOW + secs(at));
        let entry = stores.revocations().raise_epoch(&user, &raising).await.expect("the store answers");
        assert_eq!(entry.at, NOW + secs(expected));
        assert_eq!(raised_at(stores, &user).await, Some(NOW + secs(expected)));
        assert_eq!(entries_of(stores, &user).await.last(), Some(&entry), "the entry as written");
    }
}

/// An entry that is inserted again keeps the later `at` and the later `until`, whichever came first.
pub async fn a_taken_key_keeps_the_later_times(stores: &Stores) {
    let fixture = Fixture::new("a_taken_key_keeps_the_later_times");
    let user = fixture.user();
    let target = Target::Session { user_id: user.clone(), id: fixture.session_id() };
    for (at, until, at_after, until_after) in
        [(10, 100, 10, 100), (5, 200, 10, 200), (20, 50, 20, 200), (20, 200, 20, 200), (1, 1, 20, 200)]
    {
        insert_entry(stores, target.clone(), NOW + secs(at), NOW + secs(until)).await;
        let expected =
            Entry { target: target.clone(), until: NOW + secs(until_after), at: NOW + secs(at_after) };
        assert_eq!(entries_of(stores, &user).await, [expected], "after at {at} and until {until}");
    }
    // Many concurrent writers also leave the later times.
    at_once((0..32_u64).map(|number| {
        let (stores, target) = (stores.clone(), target.clone());
        async move {
            insert_entry(&stores, target, NOW + secs(1_000 + number), NOW + secs(2_000 - number)).await;
        }
    }))
    .await;
    let expected = Entry { target, until: NOW + secs(2_000), at: NOW + secs(1_031) };
    assert_eq!(entries_of(stores, &user).await, [expected], "the latest of all writers");
}

fn tokens(ids: &[TokenId], at: Timestamp, limit: usize) -> TokenRevocation {
    TokenRevocation { ids: ids.to_vec(), at, until: at + secs(910), limit }
}

async fn revoke(stores: &Stores, user_id: &UserId, tokens: &TokenRevocation) -> TokensRevoked {
    stores.revocations().revoke_tokens(user_id, tokens).await.expect("the store answers")
}

/// Beyond the limit nothing is written. Repeated tokens are no new entries.
pub async fn tokens_are_revoked_all_or_none(stores: &Stores) {
    let fixture = Fixture::new("tokens_are_revoked_all_or_none");
    let user = fixture.user();
    let ids: Vec<_> = (0..6).map(|_| fixture.token_id()).collect();
    let (first, rest) = ids.split_at(3);
    assert_eq!(revoke(stores, &user, &tokens(&[], NOW, 5)).await, TokensRevoked::Yes, "none at all");
    assert_eq!(revoke(stores, &user, &tokens(first, NOW, 5)).await, TokensRevoked::Yes);
    let before = entries_of(stores, &user).await;
    assert_eq!(before.len(), 3, "an entry for each token");
    for id in first {
        let target = Target::Token { user_id: user.clone(), id: *id };
        let entry = Entry { target, until: NOW + secs(910), at: NOW };
        assert!(before.contains(&entry), "{entry:?} is in the log");
    }

    let refused = revoke(stores, &user, &tokens(rest, NOW + secs(1), 5)).await;
    assert_eq!(refused, TokensRevoked::TooMany { free_at: NOW + secs(910) }, "3 and 3 are more than 5");
    assert_eq!(entries_of(stores, &user).await, before, "nothing was written");

    let later = NOW + secs(2);
    assert_eq!(
        revoke(stores, &user, &tokens(first, later, 3)).await,
        TokensRevoked::Yes,
        "repeats are not new"
    );
    let after = entries_of(stores, &user).await;
    assert_eq!(after.len(), 3);
    assert!(
        after.iter().all(|entry| entry.at == later && entry.until == later + secs(910)),
        "the later times"
    );

    let Some((repeated, new)) = first.first().zip(rest.first()) else { panic!("there are three of each") };
    let mixed = tokens(&[*repeated, *new], later, 4);
    assert_eq!(
        revoke(stores, &user, &mixed).await,
        TokensRevoked::Yes,
        "one repeat and the one that still fits"
    );
    assert_eq!(entries_of(stores, &user).await.len(), 4);
}

/// The limit does not count entries that no longer matter, other users' entries, and entries of other kinds. One call
/// revokes a hundred tokens.
pub async fn the_limit_counts_live_entries_of_the_user(stores: &Stores) {
    let fixture = Fixture::new("the_limit_counts_live_entries_of_the_user");
    let (ada, bob) = (fixture.user(), fixture.user());
    let hundred = || (0..100).map(|_| fixture.token_id()).collect::<Vec<_>>();
    assert_eq!(revoke(stores, &bob, &tokens(&hundred(), NOW, 100)).await, TokensRevoked::Yes);
    let session = fixture.session(&ada);
    insert(stores, &session).await;
    let ending = end(EndReason::LoggedOut, NOW);
    stores.sessions().end_session(&session.key(), &ending).await.expect("the store answers");
    stores.revocations().raise_epoch(&ada, &raise(None, NOW)).await.expect("the store answers");

    let early = hundred();
    let (some, others) = early.split_at(50);
    assert_eq!(revoke(stores, &ada, &tokens(some, NOW, 100)).await, TokensRevoked::Yes);
    assert_eq!(revoke(stores, &ada, &tokens(others, NOW + secs(10), 100)).await, TokensRevoked::Yes);
    let one = [fixture.token_id()];
    let free_at = NOW + secs(910);
    let just_before = free_at - std::time::Duration::from_millis(1);
    let refused = revoke(stores, &ada, &tokens(&one, just_before, 100)).await;
    assert_eq!(refused, TokensRevoked::TooMany { free_at }, "until the first of them stops mattering");
    assert_eq!(
        revoke(stores, &ada, &tokens(&one, free_at, 100)).await,
        TokensRevoked::Yes,
        "from then on there is room"
    );
}

/// Concurrent callers together write no more than the limit, and each writes all of its tokens or none.
pub async fn parallel_revocations_keep_the_limit(stores: &Stores, rounds: usize) {
    let fixture = Fixture::new("parallel_revocations_keep_the_limit");
    for round in 0..rounds.div_ceil(8) {
        let user = fixture.user();
        let calls: Vec<_> = (0..10)
            .map(|_| tokens(&(0..4).map(|_| fixture.token_id()).collect::<Vec<_>>(), NOW, 10))
            .collect();
        let answers = at_once(calls.into_iter().map(|call| {
            let (stores, user) = (stores.clone(), user.clone());
            async move { revoke(&stores, &user, &call).await }
        }))
        .await;
        let written = answers.iter().filter(|answer| **answer == TokensRevoked::Yes).count();
        assert_eq!(written, 2, "round {round}: two times four are within ten, three times are not");
        assert_eq!(entries_of(stores, &user).await.len(), 8, "round {round}: all or none of each call");
    }
}

/// Where there may be several copies of the log, a heartbeat is returned in the first page, with its latest time, and
/// revokes nothing.
pub async fn heartbeats_are_read_back(stores: &Stores) {
    if stores.revocations().is_one_copy() {
        return;
    }
    let fixture = Fixture::new("heartbeats_are_read_back");
    let (one, other) = (Target::Node { id: fixture.uuid() }, Target::Node { id: fixture.uuid() });
    for beat in 0..3 {
        // The heartbeat is later than anything that another check writes, so that only heartbeats are read.
        let at = NOW + secs(1_000_000 + beat);
        let mut written = vec![];
        for target in [&one, &other] {
            written.push(insert_entry(stores, target.clone(), at, at + secs(60)).await);
        }
        written.sort_by_key(Entry::key);
        let read = stores.revocations().entries(at, None, 100).await.expect("the store answers");
        assert_eq!(read, written, "what was written is read");
    }
}

/// Pages of any size return every entry once. `since` leaves out older entries, and nothing else. An entry that is
/// written again while others are read is returned, whether it comes later or came before. Needs an empty database.
pub async fn entries_are_read_in_pages(stores: &Stores) {
    let fixture = Fixture::new("entries_are_read_in_pages");
    let users = ["a", "B", "b", "ab", "a b", "ä", "z", "Z", "_", "10", "9"];
    let mut written = Vec::new();
    for (number, name) in (0..).zip(users) {
        let user = || UserId::new(name).expect("a user id");
        for (later, target) in (0..).zip([
            Target::Session { user_id: user(), id: fixture.session_id() },
            Target::Token { user_id: user(), id: fixture.token_id() },
            Target::Token { user_id: user(), id: fixture.token_id() },
            Target::User { user_id: user(), epoch: Epoch::new(2), except: None },
            Target::User { user_id: user(), epoch: Epoch::new(10), except: Some(fixture.session_id()) },
        ]) {
            let at = NOW + secs(number * 10 + later);
            written.push(insert_entry(stores, target, at, NOW + secs(5_000)).await);
        }
    }
    for (name, at) in [("kid-2", 30), ("kid-10", 0), ("Kid", 70)] {
        let id = KeyId::new(name).expect("a key id");
        written.push(insert_entry(stores, Target::Key { id }, NOW + secs(at), NOW + secs(5_000)).await);
    }
    written.sort_by_key(Entry::key);
    for page in [1, 2, 7, written.len(), 1_000] {
        assert_eq!(all_entries(stores, Timestamp::MIN, page).await, written, "pages of {page}");
    }
    for since in [NOW, NOW + secs(35), NOW + secs(70), NOW + secs(1_000)] {
        let expected: Vec<_> = written.iter().filter(|entry| entry.at >= since).cloned().collect();
        assert_eq!(all_entries(stores, since, 3).await, expected, "since {since:?}");
    }
    let none = stores.revocations().entries(Timestamp::MIN, None, 0).await.expect("the store answers");
    assert_eq!(none, [], "a page of none");

    for (round, at) in (0..).zip([NOW - secs(10), NOW + secs(50), NOW + secs(2_000)]) {
        let first = stores.revocations().entries(Timestamp::MIN, None, 20).await.expect("the store answers");
        assert_eq!(first.len(), 20);
        for target in written.iter().map(|entry| entry.target.clone()) {
            insert_entry(stores, target, at, NOW + secs(5_001 + round)).await;
        }
        let mut read = pages(stores, Timestamp::MIN, 20, first.last()).await;
        read.extend(first);
        let missed = written.iter().find(|entry| !read.iter().any(|read| read.target == entry.target));
        assert_eq!(missed, None, "read before or after it was written again at {at:?}");
    }
}

/// Purging deletes entries that no longer matter, a batch at a time. It deletes a `session` entry only when its row is
/// marked or gone, and never a user's highest `user` entry. Needs an empty database.
pub async fn purging_keeps_what_still_decides(stores: &Stores) {
    let fixture = Fixture::new("purging_keeps_what_still_decides");
    let user = fixture.user();
    let old = NOW - secs(1);
    let row = fixture.begin(stores, &user).await;
    let unmarked = Target::Session { user_id: user.clone(), id: row.id };
    let unmarked = insert_entry(stores, unmarked, old, old).await;
    let marked = Session {
        ended: Some(countersign_core::model::Ended { at: old, reason: EndReason::LoggedOut }),
        ..fixture.session(&user)
    };
    insert(stores, &marked).await;
    insert_entry(stores, Target::Session { user_id: user.clone(), id: marked.id }, old, old).await;
    insert_entry(stores, Target::Session { user_id: user.clone(), id: fixture.session_id() }, old, old).await;
    insert_entry(stores, Target::Token { user_id: user.clone(), id: fixture.token_id() }, old, old).await;
    let key = KeyId::new("removed").expect("a key id");
    insert_entry(stores, Target::Key { id: key }, old, old).await;
    let epoch_entry =
        |number| Target::User { user_id: user.clone(), epoch: Epoch::new(number), except: None };
    insert_entry(stores, epoch_entry(1), old, old).await;
    insert_entry(stores, epoch_entry(9), old, old).await;
    let highest = insert_entry(stores, epoch_entry(10), old, old).await;
    let barely = Target::Token { user_id: user.clone(), id: fixture.token_id() };
    let barely = insert_entry(stores, barely, old, NOW).await;

    let mut purged = Vec::new();
    for _ in 0..4 {
        purged.push(stores.revocations().purge_entries(NOW, 3).await.expect("the store answers"));
    }
    assert_eq!(purged, [3, 3, 0, 0], "at most three at a time, and it says how many");
    let mut expected = vec![unmarked.clone(), highest.clone(), barely.clone()];
    expected.sort_by_key(Entry::key);
    assert_eq!(all_entries(stores, Timestamp::MIN, 100).await, expected, "what is left");
    assert_eq!(epoch(stores, &user).await, 10, "the epoch is never forgotten");

    let ending = end(EndReason::LoggedOut, old);
    stores.sessions().end_session(&row.key(), &ending).await.expect("the store answers");
    let later = NOW + secs(10_000);
    let purged = stores.revocations().purge_entries(later, 100).await.expect("the store answers");
    assert_eq!(purged, 2, "the session's entry goes once its row is marked");
    assert_eq!(all_entries(stores, Timestamp::MIN, 100).await, [highest]);
}

/// The log is never larger than what still matters: `revoked` tokens over three lifetimes are purged as they expire, a
/// batch at a time, and nothing is left in the end (SEC-088). Needs an empty database.
pub async fn sec_088_the_log_holds_what_lives_and_no_more(stores: &Stores, revoked: usize) {
    const STEPS: u32 = 60;
    const BATCH: usize = 500;
    let fixture = Fixture::new("sec_088_the_log_holds_what_lives_and_no_more");
    let step = secs(15);
    let each = revoked / (3 * STEPS) as usize;
    let mut now = NOW;
    for _life in 0..3 {
        for _ in 0..STEPS {
            let mut ids: Vec<_> = (0..each).map(|_| fixture.token_id()).collect();
            while !ids.is_empty() {
                let batch = ids.split_off(ids.len().saturating_sub(100));
                let tokens = TokenRevocation { ids: batch, at: now, until: now + step * STEPS, limit: 100 };
                assert_eq!(revoke(stores, &fixture.user(), &tokens).await, TokensRevoked::Yes);
            }
            now = now + step;
            purge_all(stores, now, BATCH).await;
        }
        assert_eq!(count(stores).await, STEPS as usize * each, "what lives, at {now:?}");
    }
    purge_all(stores, now + step * STEPS, BATCH).await;
    assert_eq!(count(stores).await, 0, "nothing lives, nothing is left");
}

async fn purge_all(stores: &Stores, before: Timestamp, batch: usize) {
    loop {
        let purged = stores.revocations().purge_entries(before, batch).await.expect("the store answers");
        let purged = usize::try_from(purged).expect("few");
        assert!(purged <= batch, "{purged} in one batch of at most {batch}");
        if purged == 0 {
            return;
        }
    }
}

/// The number of entries, each counted once.
async fn count(stores: &Stores) -> usize {
    let (mut count, mut after) = (0, None);
    loop {
        let page = stores.revocations().entries(Timestamp::MIN, after.as_ref(), 5_000).await;
        let page = page.expect("the store answers");
        let Some(last) = page.last().cloned() else { return count };
        count += page.len();
        after = Some(last);
    }
}
