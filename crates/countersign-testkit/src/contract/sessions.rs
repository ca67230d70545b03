//! The promises of [`SessionStore`](countersign_core::store::SessionStore).

use std::time::Duration;

use countersign_core::model::{
    Acknowledgement, Advance, AdvanceCondition, Device, EndReason, Ended, Entry, Heal, LogVerdict, Session,
    Target, UserSession,
};
use countersign_core::store::{SessionEnded, SessionInserted, SessionPage, SessionPosition, Stores};
use countersign_jwt::{Epoch, Generation, Timestamp};

use super::fixture::{Fixture, NOW, at_once, device, end, found, heal, insert, raise, secs, step};

/// The number of callers in each race (SEC-092).
const CALLERS: usize = 64;

/// Runs every check of sessions that can share a database.
pub async fn run(stores: &Stores, rounds: usize) {
    a_session_reads_back_as_inserted(stores).await;
    a_session_is_found_only_with_its_user(stores).await;
    a_session_is_inserted_only_in_the_epoch_of_its_user(stores).await;
    a_session_is_inserted_once(stores).await;
    sec_092_of_parallel_advances_one_wins(stores, rounds).await;
    of_parallel_heals_one_wins(stores, rounds).await;
    a_heal_needs_the_row_as_it_was_read(stores).await;
    an_ended_session_stays_ended(stores).await;
    ending_again_changes_nothing(stores).await;
    of_parallel_ends_one_wins(stores, rounds).await;
    no_advance_outlives_an_end(stores, rounds).await;
    no_login_outlives_a_raised_epoch(stores, rounds).await;
    a_raised_epoch_ends_all_but_the_excepted_session(stores).await;
    acknowledgements_are_noted_once(stores).await;
    thousands_of_acknowledgements_fit_into_one_call(stores).await;
    live_sessions_are_listed_newest_first(stores).await;
    live_sessions_are_listed_page_by_page(stores).await;
    a_raise_ends_any_number_of_sessions(stores).await;
}

/// Every field of a session is read back as it was, to the millisecond and in every combination of optional fields.
pub async fn a_session_reads_back_as_inserted(stores: &Stores) {
    let fixture = Fixture::new("a_session_reads_back_as_inserted");
    let user = fixture.user();
    let first = fixture.session(&user);
    let full = Session {
        generation: Generation::new(u32::MAX),
        issued_at: NOW + secs(1),
        acknowledged_at: Some(NOW + secs(2)),
        heals: 3,
        healed_run: 5,
        last_seen_at: NOW + secs(3),
        device: device("Mozilla/5.0 (X11; Linux x86_64)"),
        ..fixture.session(&user)
    };
    let bare = Session {
        created_at: Timestamp::MIN,
        absolute_until: Timestamp::MAX,
        device: Device::new(None, None),
        ..fixture.session(&user)
    };
    let ipv6 = Device::new(None, "2001:db8::1".parse().ok());
    let mut rows = vec![first, full, bare, Session { device: ipv6, ..fixture.session(&user) }];
    for reason in EndReason::ALL {
        let ended = Some(Ended { at: NOW + secs(9), reason });
        rows.push(Session { ended, ..fixture.session(&user) });
    }
    for session in rows {
        insert(stores, &session).await;
        let found = found(stores, &session.key()).await;
        assert_eq!(found.session, session, "a session reads back as it was inserted");
        assert_eq!(found.log, LogVerdict::default(), "the log says nothing about a new session");
    }
}

/// A session's key is its user and its id together.
pub async fn a_session_is_found_only_with_its_user(stores: &Stores) {
    let fixture = Fixture::new("a_session_is_found_only_with_its_user");
    let (ada, bob) = (fixture.user(), fixture.user());
    let session = fixture.begin(stores, &ada).await;
    let unknown = UserSession { user_id: ada.clone(), id: fixture.session_id() };
    let foreign = UserSession { user_id: bob, id: session.id };
    for key in [unknown, foreign] {
        let sessions = stores.sessions();
        assert_eq!(sessions.session(&key).await.expect("the store answers"), None);
        let advanced = sessions.advance(&key, &step(&session, NOW, "thief")).await;
        assert_eq!(advanced.expect("the store answers"), None, "what is not there does not advance");
        let healed = sessions.heal(&key, &heal(&session, NOW)).await.expect("the store answers");
        assert!(!healed, "what is not there does not heal");
        let ended = sessions.end_session(&key, &end(EndReason::LoggedOut, NOW)).await;
        assert_eq!(ended.expect("the store answers"), SessionEnded::Unknown);
    }
    let found = found(stores, &session.key()).await;
    assert_eq!((found.session, found.log), (session, LogVerdict::default()), "nobody else's call touches it");
}

/// A login inserts its session only while the user's epoch is still the one that the login has read.
pub async fn a_session_is_inserted_only_in_the_epoch_of_its_user(stores: &Stores) {
    let fixture = Fixture::new("a_session_is_inserted_only_in_the_epoch_of_its_user");
    let user = fixture.user();
    for current in 0..3 {
        for epoch in 0..4 {
            let session = Session { epoch: Epoch::new(epoch), ..fixture.session(&user) };
            let inserted = stores.sessions().insert_session(&session).await.expect("the store answers");
            let there = stores.sessions().session(&session.key()).await.expect("the store answers").is_some();
            let expected = if epoch == current { SessionInserted::Yes } else { SessionInserted::EpochRaised };
            assert_eq!(inserted, expected, "epoch {epoch} while the user's is {current}");
            assert_eq!(there, epoch == current, "a refused session is not there");
        }
        // An excepted session is no exception here: a login always needs the newest epoch.
        let except = (current == 1).then(|| fixture.session_id());
        stores.revocations().raise_epoch(&user, &raise(except, NOW)).await.expect("the store answers");
    }
}

/// An id is used once: inserting a session that exists changes nothing, even if that session has ended. Of many
/// concurrent inserts of one session exactly one succeeds.
pub async fn a_session_is_inserted_once(stores: &Stores) {
    let fixture = Fixture::new("a_session_is_inserted_once");
    let session = fixture.session(&fixture.user());
    let another = Session { created_at: NOW + secs(1), ..session.clone() };
    let inserted = at_once((0..16).map(|_| {
        let (stores, session) = (stores.clone(), session.clone());
        async move { stores.sessions().insert_session(&session).await.expect("the store answers") }
    }))
    .await;
    assert_eq!(inserted.iter().filter(|inserted| **inserted == SessionInserted::Yes).count(), 1);
    assert_eq!(inserted.iter().filter(|inserted| **inserted == SessionInserted::Taken).count(), 15);
    stores
        .sessions()
        .end_session(&session.key(), &end(EndReason::LoggedOut, NOW))
        .await
        .expect("the store answers");
    let ended = found(stores, &session.key()).await;
    let again = stores.sessions().insert_session(&another).await.expect("the store answers");
    assert_eq!(again, SessionInserted::Taken);
    assert_eq!(found(stores, &session.key()).await, ended, "nothing changed");
}

/// SEC-092: exactly one of 64 callers that advance the same generation at once succeeds, and the row is as that one
/// left it.
pub async fn sec_092_of_parallel_advances_one_wins(stores: &Stores, rounds: usize) {
    let fixture = Fixture::new("sec_092_of_parallel_advances_one_wins");
    let mut expected = fixture.begin(stores, &fixture.user()).await;
    let key = expected.key();
    for round in 0..rounds {
        let now = NOW + secs(900 * (round as u64 % 1_000 + 1));
        let steps: Vec<_> =
            (0..CALLERS).map(|caller| step(&expected, now, &format!("caller {caller}"))).collect();
        let answers = at_once(steps.clone().into_iter().map(|step| {
            let (sessions, key) = (stores.sessions().clone(), key.clone());
            async move { sessions.advance(&key, &step).await.expect("the store answers") }
        }))
        .await;
        let winners: Vec<_> =
            steps.iter().zip(answers).filter_map(|(step, answer)| Some((step, answer?))).collect();
        assert_eq!(winners.len(), 1, "round {round}: exactly one of {CALLERS} callers advances");
        for (step, row) in winners {
            step.apply(&mut expected);
            assert_eq!(row, expected, "round {round}: the winner gets the row as it has left it");
        }
        assert_eq!(found(stores, &key).await.session, expected, "round {round}: the winner's row");
    }
}

/// Exactly one of 64 callers that heal the same issue of a generation at once succeeds.
pub async fn of_parallel_heals_one_wins(stores: &Stores, rounds: usize) {
    let fixture = Fixture::new("of_parallel_heals_one_wins");
    for round in 0..rounds.div_ceil(4) {
        let mut expected = fixture.begin(stores, &fixture.user()).await;
        for number in 1..=3 {
            let healing = heal(&expected, NOW + secs(3_600 * number));
            let answers = at_once((0..CALLERS).map(|_| {
                let (sessions, key) = (stores.sessions().clone(), expected.key());
                async move { sessions.heal(&key, &healing).await.expect("the store answers") }
            }))
            .await;
            let winners = answers.into_iter().filter(|won| *won).count();
            assert_eq!(winners, 1, "round {round}: exactly one of {CALLERS} callers heals");
            healing.apply(&mut expected);
            assert_eq!(found(stores, &expected.key()).await.session, expected, "round {round}");
        }
    }
}

/// A heal needs generation, time of issue and count of heals as they were read, and no acknowledgement.
pub async fn a_heal_needs_the_row_as_it_was_read(stores: &Stores) {
    let fixture = Fixture::new("a_heal_needs_the_row_as_it_was_read");
    let user = fixture.user();
    let row = Session { generation: Generation::new(7), heals: 1, healed_run: 2, ..fixture.session(&user) };
    let good = heal(&row, NOW + secs(60));
    let acknowledged = Session { acknowledged_at: Some(NOW), ..row.clone() };
    for (case, row, step) in [
        ("an older generation", row.clone(), Heal { generation: Generation::new(6), ..good }),
        ("a later generation", row.clone(), Heal { generation: Generation::new(8), ..good }),
        ("another time of issue", row.clone(), Heal { issued_at: NOW + secs(1), ..good }),
        ("fewer heals", row.clone(), Heal { heals: 0, ..good }),
        ("more heals", row.clone(), Heal { heals: 2, ..good }),
        ("acknowledged", acknowledged, good),
        ("expired by idleness", Session { idle_until: NOW + secs(60), ..row.clone() }, good),
        ("expired for good", Session { absolute_until: NOW + secs(60), ..row.clone() }, good),
    ] {
        let row = Session { id: fixture.session_id(), ..row };
        insert(stores, &row).await;
        let healed = stores.sessions().heal(&row.key(), &step).await.expect("the store answers");
        assert!(!healed, "{case}: no heal");
        assert_eq!(found(stores, &row.key()).await.session, row, "{case}: nothing changes");
    }
    insert(stores, &row).await;
    assert!(
        stores.sessions().heal(&row.key(), &good).await.expect("the store answers"),
        "the row as read heals"
    );
    let mut healed = row;
    good.apply(&mut healed);
    assert_eq!(found(stores, &healed.key()).await.session, healed);
}

/// Once ended, a session neither advances nor heals, whatever the time of the step.
pub async fn an_ended_session_stays_ended(stores: &Stores) {
    let fixture = Fixture::new("an_ended_session_stays_ended");
    let session = fixture.begin(stores, &fixture.user()).await;
    let ending = end(EndReason::Replayed, NOW + secs(5));
    let ended = stores.sessions().end_session(&session.key(), &ending).await.expect("the store answers");
    assert_eq!(ended, SessionEnded::Now);
    let row = found(stores, &session.key()).await;
    assert_eq!(
        row.session.ended,
        Some(Ended { at: ending.at, reason: EndReason::Replayed }),
        "the row's mark"
    );
    assert!(row.log.ended, "the log's entry");
    refuses_every_step(stores, &session, "after its end").await;
}

async fn refuses_every_step(stores: &Stores, session: &Session, when: &str) {
    let before = found(stores, &session.key()).await;
    for now in [session.issued_at - secs(60), session.issued_at, session.issued_at + secs(3_600)] {
        for guard in [
            AdvanceCondition::Generation,
            AdvanceCondition::IssuedAt(session.issued_at),
            AdvanceCondition::OutsideReserve { leeway: secs(10), grace: secs(30) },
        ] {
            let step = Advance { guard, ..step(session, now, "late") };
            let advanced = stores.sessions().advance(&session.key(), &step).await.expect("the store answers");
            assert_eq!(advanced, None, "no session advances {when}");
        }
        let healed = stores.sessions().heal(&session.key(), &heal(session, now)).await;
        assert!(!healed.expect("the store answers"), "no session heals {when}");
    }
    assert_eq!(found(stores, &session.key()).await, before, "a refused step changes nothing");
}

/// Ending a session that has ended changes neither row nor log.
pub async fn ending_again_changes_nothing(stores: &Stores) {
    let fixture = Fixture::new("ending_again_changes_nothing");
    let session = fixture.begin(stores, &fixture.user()).await;
    let (key, first) = (session.key(), end(EndReason::LoggedOut, NOW));
    let ended = stores.sessions().end_session(&key, &first).await.expect("the store answers");
    assert_eq!(ended, SessionEnded::Now);
    let before = found(stores, &key).await;
    let again = end(EndReason::EndedByUser, NOW + secs(60));
    let ended = stores.sessions().end_session(&key, &again).await.expect("the store answers");
    assert_eq!(ended, SessionEnded::Before);
    assert_eq!(found(stores, &key).await, before, "the row stays as the first end left it");
    let entries = super::revocations::entries_of(stores, &key.user_id).await;
    let [entry] = entries.as_slice() else { panic!("one end leaves one entry, not {entries:?}") };
    assert_eq!(entry.target, Target::Session { user_id: key.user_id.clone(), id: key.id });
    assert_eq!((entry.at, entry.until), (first.at, first.until), "the entry stays as the first end wrote it");
}

/// Exactly one of the callers that end the same session at once ends it.
pub async fn of_parallel_ends_one_wins(stores: &Stores, rounds: usize) {
    let fixture = Fixture::new("of_parallel_ends_one_wins");
    for round in 0..rounds.div_ceil(4) {
        let session = fixture.begin(stores, &fixture.user()).await;
        let answers = at_once((0..16).map(|_| {
            let (sessions, key) = (stores.sessions().clone(), session.key());
            async move {
                let ending = end(EndReason::LoggedOut, NOW);
                sessions.end_session(&key, &ending).await.expect("the store answers")
            }
        }))
        .await;
        let now = answers.iter().filter(|ended| **ended == SessionEnded::Now).count();
        let before = answers.iter().filter(|ended| **ended == SessionEnded::Before).count();
        assert_eq!((now, before), (1, 15), "round {round}: one of 16 callers ends the session");
    }
}

/// After advances and an end at the same moment, in whatever order, the session has ended, and no step succeeds
/// after the end has returned.
pub async fn no_advance_outlives_an_end(stores: &Stores, rounds: usize) {
    let fixture = Fixture::new("no_advance_outlives_an_end");
    for round in 0..rounds {
        let session = fixture.begin(stores, &fixture.user()).await;
        let key = session.key();
        let answers = at_once((0..9).map(|caller| {
            let (sessions, key, session) = (stores.sessions().clone(), key.clone(), session.clone());
            async move {
                if caller == 4 {
                    let ending = end(EndReason::LoggedOut, NOW);
                    let ended = sessions.end_session(&key, &ending).await.expect("the store answers");
                    assert_eq!(ended, SessionEnded::Now);
                    let late = step(&session, NOW, "after the end");
                    sessions.advance(&key, &late).await.expect("the store answers")
                } else {
                    let step = step(&session, NOW, "beside the end");
                    sessions.advance(&key, &step).await.expect("the store answers");
                    None
                }
            }
        }))
        .await;
        assert!(
            answers.iter().all(Option::is_none),
            "round {round}: no advance succeeds after the end has returned"
        );
        let row = found(stores, &key).await;
        assert!(row.session.ended.is_some() && row.log.ended, "round {round}: the end is never lost");
        refuses_every_step(stores, &row.session, "after a race with its end").await;
    }
}

/// A login at the same moment as "end all sessions" either is refused or begins a session that has ended.
pub async fn no_login_outlives_a_raised_epoch(stores: &Stores, rounds: usize) {
    let fixture = Fixture::new("no_login_outlives_a_raised_epoch");
    for round in 0..rounds {
        let user = fixture.user();
        let sessions: Vec<_> = (0..6).map(|_| fixture.session(&user)).collect();
        let raised = {
            let (log, user) = (stores.revocations().clone(), user.clone());
            tokio::spawn(async move {
                log.raise_epoch(&user, &raise(None, NOW)).await.expect("the store answers")
            })
        };
        at_once(sessions.iter().cloned().map(|session| {
            let stores = stores.clone();
            async move { stores.sessions().insert_session(&session).await.expect("the store answers") }
        }))
        .await;
        raised.await.expect("raising does not panic");
        for session in &sessions {
            if let Some(row) = stores.sessions().session(&session.key()).await.expect("the store answers") {
                assert!(
                    row.log.epoch > session.epoch,
                    "round {round}: the log ends a login that was under way"
                );
                refuses_every_step(stores, session, "after its epoch").await;
            }
        }
        let live = stores
            .sessions()
            .live_sessions(&user, NOW, SessionPage::first(1_000))
            .await
            .expect("the store answers");
        assert_eq!(live, [], "round {round}: no login survives");
    }
}

/// Ending all sessions marks the others as ended and stops them, and leaves the excepted one alone.
pub async fn a_raised_epoch_ends_all_but_the_excepted_session(stores: &Stores) {
    let fixture = Fixture::new("a_raised_epoch_ends_all_but_the_excepted_session");
    let (ada, bob) = (fixture.user(), fixture.user());
    let mut kept = fixture.begin(stores, &ada).await;
    let other = fixture.begin(stores, &ada).await;
    let gone = fixture.begin(stores, &ada).await;
    let bobs = fixture.begin(stores, &bob).await;
    let logout = end(EndReason::LoggedOut, NOW);
    stores.sessions().end_session(&gone.key(), &logout).await.expect("the store answers");

    let raising = raise(Some(kept.id), NOW + secs(1));
    stores.revocations().raise_epoch(&ada, &raising).await.expect("the store answers");
    refuses_every_step(stores, &other, "after all were ended").await;
    let ended = found(stores, &other.key()).await.session.ended;
    assert_eq!(ended, Some(Ended { at: raising.at, reason: raising.reason }), "its row is marked");
    let ended = found(stores, &gone.key()).await.session.ended;
    assert_eq!(ended, Some(Ended { at: NOW, reason: EndReason::LoggedOut }), "an earlier mark stays");
    let standing = found(stores, &kept.key()).await.log;
    assert_eq!(standing, LogVerdict::default(), "the entry does not concern the excepted session");
    for session in [&mut kept, &mut bobs.clone()] {
        let step = step(session, NOW + secs(60), "still here");
        let advanced = stores.sessions().advance(&session.key(), &step).await.expect("the store answers");
        step.apply(session);
        assert_eq!(advanced.as_ref(), Some(&*session), "the excepted session and other users' live on");
        assert_eq!(found(stores, &session.key()).await.session, *session);
    }

    // The exception held for one raise. The next raise ends that session too, and the first entry still ends `other`.
    let next = raise(Some(other.id), NOW + secs(2));
    stores.revocations().raise_epoch(&ada, &next).await.expect("the store answers");
    refuses_every_step(stores, &kept, "after all but another were ended").await;
    refuses_every_step(stores, &other, "though a later raise excepts it").await;
    assert_eq!(
        found(stores, &other.key()).await.log.epoch,
        Epoch::new(1),
        "the highest entry that does not except it"
    );
    assert_eq!(found(stores, &kept.key()).await.log.epoch, Epoch::new(2));
}

/// The first acknowledgement of the current generation counts; later ones and those of other generations change
/// nothing. The time of last use never goes back.
pub async fn acknowledgements_are_noted_once(stores: &Stores) {
    let fixture = Fixture::new("acknowledgements_are_noted_once");
    let user = fixture.user();
    let row =
        Session { generation: Generation::new(3), last_seen_at: NOW + secs(5), ..fixture.session(&user) };
    insert(stores, &row).await;
    let key = row.key();
    let acknowledge = |generation: u32| Acknowledgement {
        user_id: user.clone(),
        session_id: row.id,
        generation: Generation::new(generation),
    };
    let unknown = Acknowledgement { session_id: fixture.session_id(), ..acknowledge(3) };
    let foreign = Acknowledgement { user_id: fixture.user(), ..acknowledge(3) };
    let others = [acknowledge(2), acknowledge(4), unknown.clone(), foreign];
    stores.sessions().acknowledge(&others, NOW + secs(9)).await.expect("the store answers");
    assert_eq!(found(stores, &key).await.session, row, "none of these is about the current generation");

    stores.sessions().acknowledge(&[], NOW + secs(9)).await.expect("nothing to note is no error");
    let seen = [unknown, acknowledge(3), acknowledge(2), acknowledge(3)];
    stores.sessions().acknowledge(&seen, NOW + secs(1)).await.expect("the store answers");
    let mut expected = Session { acknowledged_at: Some(NOW + secs(1)), ..row };
    assert_eq!(found(stores, &key).await.session, expected, "noted, and the last use did not go back");

    stores.sessions().acknowledge(&seen, NOW + secs(60)).await.expect("the store answers");
    assert_eq!(found(stores, &key).await.session, expected, "the first one counts");

    let step = step(&expected, NOW + secs(900), "next");
    let advanced = stores.sessions().advance(&key, &step).await.expect("the store answers");
    step.apply(&mut expected);
    assert_eq!(advanced.as_ref(), Some(&expected));
    stores.sessions().acknowledge(&[acknowledge(4)], NOW + secs(960)).await.expect("the store answers");
    let seen_at = NOW + secs(960);
    let expected = Session { acknowledged_at: Some(seen_at), last_seen_at: seen_at, ..expected };
    assert_eq!(found(stores, &key).await.session, expected, "each generation is acknowledged anew");
}

/// One call takes up to 10,000 acknowledgements, as a busy node flushes them; a store deals with its engine's limit of
/// parameters itself.
pub async fn thousands_of_acknowledgements_fit_into_one_call(stores: &Stores) {
    let fixture = Fixture::new("thousands_of_acknowledgements_fit_into_one_call");
    let user = fixture.user();
    let (first, last) = (fixture.begin(stores, &user).await, fixture.begin(stores, &user).await);
    let acknowledge =
        |session_id| Acknowledgement { user_id: user.clone(), session_id, generation: Generation::FIRST };
    let mut seen: Vec<_> = (0..9_998).map(|_| acknowledge(fixture.session_id())).collect();
    seen.insert(0, acknowledge(first.id));
    seen.push(acknowledge(last.id));
    stores.sessions().acknowledge(&seen, NOW + secs(5)).await.expect("the store answers");
    for session in [first, last] {
        let acknowledged_at = found(stores, &session.key()).await.session.acknowledged_at;
        assert_eq!(acknowledged_at, Some(NOW + secs(5)), "first and last of the batch are noted");
    }
}

/// The list holds only sessions that have neither ended, by row or log, nor expired; newest first.
pub async fn live_sessions_are_listed_newest_first(stores: &Stores) {
    let fixture = Fixture::new("live_sessions_are_listed_newest_first");
    let user = fixture.user();
    let mut expected = Vec::new();
    for age in [3, 1, 4, 0, 2] {
        let session = Session { created_at: NOW - secs(age), ..fixture.session(&user) };
        insert(stores, &session).await;
        expected.push(session);
    }
    expected.sort_by_key(|session| std::cmp::Reverse(session.created_at));
    let millisecond = Duration::from_millis(1);
    let barely = Session {
        created_at: NOW - secs(9),
        idle_until: NOW + millisecond,
        absolute_until: NOW + millisecond,
        ..fixture.session(&user)
    };
    insert(stores, &barely).await;
    expected.push(barely);

    insert(stores, &Session { idle_until: NOW, ..fixture.session(&user) }).await;
    insert(stores, &Session { absolute_until: NOW, ..fixture.session(&user) }).await;
    fixture.begin(stores, &fixture.user()).await;
    let ended = fixture.begin(stores, &user).await;
    let logout = end(EndReason::LoggedOut, NOW);
    stores.sessions().end_session(&ended.key(), &logout).await.expect("the store answers");
    let ended_in_log = fixture.begin(stores, &user).await;
    let target = Target::Session { user_id: user.clone(), id: ended_in_log.id };
    let entry = Entry { target, until: NOW + secs(910), at: NOW };
    stores.revocations().insert_entry(&entry).await.expect("the store answers");

    let listed = stores
        .sessions()
        .live_sessions(&user, NOW, SessionPage::first(1_000))
        .await
        .expect("the store answers");
    assert_eq!(listed, expected, "the live sessions, newest first");
    let [_, kept, ..] = expected.as_slice() else { panic!("there are six") };
    stores.revocations().raise_epoch(&user, &raise(Some(kept.id), NOW)).await.expect("the store answers");
    let listed = stores
        .sessions()
        .live_sessions(&user, NOW, SessionPage::first(1_000))
        .await
        .expect("the store answers");
    assert_eq!(listed, std::slice::from_ref(kept), "the excepted session is left");
}

/// Pages of the list follow each other without gaps and repeats, also where many sessions began at the same moment,
/// where a session has gone since, and where many have ended.
pub async fn live_sessions_are_listed_page_by_page(stores: &Stores) {
    let fixture = Fixture::new("live_sessions_are_listed_page_by_page");
    let user = fixture.user();
    let mut sessions = Vec::new();
    for number in 0..240 {
        // Two thirds of the sessions began at the same moment.
        let age = if number % 3 == 0 { number } else { 50 };
        let session = Session { created_at: NOW - secs(age), ..fixture.session(&user) };
        insert(stores, &session).await;
        sessions.push(session);
    }
    sessions.sort_by_key(|session| std::cmp::Reverse(SessionPosition::from(session)));
    // Every fourth session was ended, by row or by the log alone.
    for (number, session) in sessions.iter().enumerate() {
        if number % 8 == 3 {
            let logout = end(EndReason::LoggedOut, NOW);
            stores.sessions().end_session(&session.key(), &logout).await.expect("the store answers");
        } else if number % 8 == 7 {
            let target = Target::Session { user_id: user.clone(), id: session.id };
            let entry = Entry { target, until: NOW + secs(910), at: NOW };
            stores.revocations().insert_entry(&entry).await.expect("the store answers");
        }
    }
    let live: Vec<_> = sessions
        .iter()
        .enumerate()
        .filter(|(number, _)| number % 4 != 3)
        .map(|(_, session)| session.clone())
        .collect();
    let list =
        async |page| stores.sessions().live_sessions(&user, NOW, page).await.expect("the store answers");
    for limit in [1, 7, 100, 180, 500] {
        let mut listed: Vec<Session> = Vec::new();
        loop {
            let page = match listed.last() {
                Some(last) => SessionPage::after(last.into(), limit),
                None => SessionPage::first(limit),
            };
            let next = list(page).await;
            let is_last = next.len() < limit;
            listed.extend(next);
            if is_last {
                break;
            }
        }
        assert_eq!(listed, live, "in pages of {limit}");
    }
    for (skip, limit) in [(0, 0), (1, 1), (100, 16), (175, 16), (180, 16), (500, 16)] {
        let expected: Vec<_> = live.iter().skip(skip).take(limit).cloned().collect();
        assert_eq!(list(SessionPage::beyond(skip, limit)).await, expected, "{limit} beyond {skip}");
    }
    let [.., ended, _] = sessions.get(..5).expect("there are more") else { panic!("there are five") };
    let after_ended = list(SessionPage::after(ended.into(), 3)).await;
    assert_eq!(Some(&*after_ended), live.get(3..6), "after one that is no longer there");
    assert_eq!(list(SessionPage::after(live.last().expect("there are 180").into(), 3)).await, []);
}

/// One raise ends any number of sessions, row by row, except the session that it excepts.
pub async fn a_raise_ends_any_number_of_sessions(stores: &Stores) {
    let fixture = Fixture::new("a_raise_ends_any_number_of_sessions");
    let user = fixture.user();
    let mut sessions = Vec::new();
    for number in 0..1_100 {
        let session = Session { created_at: NOW - secs(number), ..fixture.session(&user) };
        insert(stores, &session).await;
        sessions.push(session);
    }
    let kept = sessions.remove(700);
    stores.revocations().raise_epoch(&user, &raise(Some(kept.id), NOW)).await.expect("the store answers");
    for session in sessions.iter().step_by(97).chain(sessions.last()) {
        let found = found(stores, &session.key()).await;
        assert_eq!(
            found.session.ended,
            Some(Ended { at: NOW, reason: EndReason::AllEnded }),
            "its row is marked"
        );
    }
    let listed = stores.sessions().live_sessions(&user, NOW, SessionPage::first(1_000)).await;
    assert_eq!(listed.expect("the store answers"), [kept]);
}

/// Purging deletes sessions after their absolute expiry, ended or not, a batch at a time, and no others. Needs an empty
/// database.
pub async fn purging_takes_what_has_expired(stores: &Stores) {
    let fixture = Fixture::new("purging_takes_what_has_expired");
    let user = fixture.user();
    let (mut expired, mut kept) = (Vec::new(), Vec::new());
    for number in 0..5 {
        let until = NOW - Duration::from_millis(number + 1);
        expired.push(Session { absolute_until: until, ..fixture.session(&user) });
    }
    kept.push(Session { absolute_until: NOW, ..fixture.session(&user) });
    kept.push(Session { idle_until: NOW - secs(60), ..fixture.session(&user) });
    kept.push(Session {
        ended: Some(Ended { at: NOW, reason: EndReason::LoggedOut }),
        ..fixture.session(&user)
    });
    for session in expired.iter().chain(&kept) {
        insert(stores, session).await;
    }
    let mut purged = Vec::new();
    for _ in 0..4 {
        purged.push(stores.sessions().purge_sessions(NOW, 2).await.expect("the store answers"));
    }
    assert_eq!(purged, [2, 2, 1, 0], "at most two at a time, and it says how many");
    for session in &expired {
        let gone = stores.sessions().session(&session.key()).await.expect("the store answers");
        assert_eq!(gone, None, "an expired session is purged");
    }
    for session in &kept {
        assert_eq!(found(stores, &session.key()).await.session, *session, "the others stay as they are");
    }
}
