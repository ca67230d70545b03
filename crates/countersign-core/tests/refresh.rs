//! Refresh through the real flow, with the clock in hand: the table of `docs/design.md`, its races, and what they must
//! never do.

use std::time::Duration;

use countersign_core::flow::CheckError;
use countersign_core::flow::{Check, Pair, Refresh, RefreshError, Refreshed};
use countersign_core::model::{
    Device, EndReason, Entry, Event, Refusal, SessionPolicy, Target, UserSession, token_id,
};
use countersign_core::store::{MemoryStore, Stores};
use countersign_jwt::{
    Algorithm, Clock, Epoch, Freshness, Generation, Issuer, NewClaims, SigningKey, TokenType, UserId,
    VerifyError,
};
use countersign_testkit::{BedConfig, FixedClock, Instrumented, Point, SeededRandom, TestBed};
use tokio::task::JoinSet;

const HOUR: Duration = secs(3_600);
const DAY: Duration = secs(86_400);
const MILLISECOND: Duration = Duration::from_millis(1);
/// How many rounds the races have (SEC-092).
const ROUNDS: usize = 200;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ada() -> UserId {
    UserId::new("ada").expect("a user id")
}

fn device(agent: &str) -> Device {
    Device::new(Some(agent), None)
}

fn browser() -> Device {
    device("browser")
}

/// A node over a watched memory store, and a session that just began.
async fn signed_in(policy: SessionPolicy) -> (Instrumented, TestBed, Pair) {
    let watched = Instrumented::new(MemoryStore::new());
    let bed = TestBed::with(watched.stores(), BedConfig { policy, ..BedConfig::default() }).await;
    let pair = bed.begin(&ada(), browser()).await;
    (watched, bed, pair)
}

async fn refresh(bed: &TestBed, pair: &Pair) -> Result<Refreshed, RefreshError> {
    bed.refresh(&pair.refresh_token, browser()).await
}

async fn step(bed: &TestBed, pair: &Pair) -> Pair {
    let refreshed = refresh(bed, pair).await.expect("the refresh succeeds");
    assert!(refreshed.advanced, "a step to the next generation");
    assert_eq!(refreshed.pair.session.generation, pair.session.generation.next());
    refreshed.pair
}

fn same(one: &Pair, other: &Pair) -> bool {
    (&one.access_token, &one.refresh_token) == (&other.access_token, &other.refresh_token)
}

/// Shows the access token somewhere, and waits for the flush that notes it.
async fn acknowledge(bed: &TestBed, pair: &Pair) {
    bed.authenticate(&pair.access_token).await.expect("the access token is accepted");
    bed.sessions.verification().flush_acknowledgements().await.expect("the store answers");
}

fn key(pair: &Pair) -> UserSession {
    UserSession { user_id: pair.user_id.clone(), id: pair.session.id }
}

/// What a client learns from a refresh.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answer {
    /// The next generation.
    Next,
    /// The very pair that the successor's holder has.
    Same,
    /// The successor's generation with new times.
    Healed,
    Refused(Refusal),
    Replayed,
}

/// A session at generation 2; `was` is generation 1's pair and `is` generation 2's.
struct AtTwo {
    watched: Instrumented,
    bed: TestBed,
    first: Pair,
    was: Pair,
    is: Pair,
}

async fn at_two(policy: SessionPolicy) -> AtTwo {
    let (watched, bed, first) = signed_in(policy).await;
    bed.clock.advance(secs(600));
    let was = step(&bed, &first).await;
    acknowledge(&bed, &was).await;
    bed.clock.advance(secs(600));
    let is = step(&bed, &was).await;
    AtTwo { watched, bed, first, was, is }
}

impl AtTwo {
    #[expect(clippy::panic, reason = "the test fails by any other answer")]
    async fn present(&self, pair: &Pair) -> Answer {
        match refresh(&self.bed, pair).await {
            Ok(Refreshed { pair, advanced: true }) => {
                assert_eq!(pair.session.generation, Generation::new(3));
                Answer::Next
            }
            Ok(Refreshed { pair, advanced: false }) => {
                assert_eq!(pair.session.generation, Generation::new(2));
                if same(&pair, &self.is) { Answer::Same } else { Answer::Healed }
            }
            Err(RefreshError::Refused(refusal)) => Answer::Refused(refusal),
            Err(RefreshError::Replayed) => Answer::Replayed,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn each_row_of_the_table_decides_by_token_and_time() {
    #[derive(Clone, Copy, Debug)]
    enum Token {
        First,
        Was,
        Is,
    }
    const G: Duration = secs(30);
    // When it is presented after its generation was issued, and when that was acknowledged, if it was.
    for (token, after, acknowledged, expected) in [
        (Token::Is, Duration::ZERO, None, Answer::Same),
        (Token::Is, G - MILLISECOND, None, Answer::Same),
        (Token::Is, G, None, Answer::Next),
        (Token::Is, HOUR, None, Answer::Next),
        (Token::Is, G, Some(secs(20)), Answer::Next),
        (Token::Was, Duration::ZERO, None, Answer::Same),
        (Token::Was, G - MILLISECOND, None, Answer::Same),
        (Token::Was, G - MILLISECOND, Some(secs(1)), Answer::Same),
        // The successor's first use starts the grace again: its request may have overtaken this one.
        (Token::Was, G, Some(secs(1)), Answer::Same),
        (Token::Was, secs(31) - MILLISECOND, Some(secs(1)), Answer::Same),
        (Token::Was, secs(31), Some(secs(1)), Answer::Replayed),
        (Token::Was, HOUR + G - MILLISECOND, Some(HOUR), Answer::Same),
        (Token::Was, HOUR + G, Some(HOUR), Answer::Replayed),
        (Token::Was, G, None, Answer::Healed),
        (Token::Was, DAY, None, Answer::Healed),
        (Token::First, Duration::ZERO, None, Answer::Replayed),
        (Token::First, G, None, Answer::Replayed),
        (Token::First, DAY, None, Answer::Replayed),
    ] {
        let case = format!("{token:?} after {after:?}, acknowledged {acknowledged:?}");
        let at = at_two(SessionPolicy { access_lifetime: 2 * HOUR, ..SessionPolicy::default() }).await;
        let waited = acknowledged.unwrap_or_default();
        if let Some(after) = acknowledged {
            at.bed.clock.advance(after);
            acknowledge(&at.bed, &at.is).await;
        }
        at.bed.clock.advance(after - waited);
        let pair = match token {
            Token::First => &at.first,
            Token::Was => &at.was,
            Token::Is => &at.is,
        };
        assert_eq!(at.present(pair).await, expected, "{case}");
        let ended = at.bed.row(&at.is).await.session.ended.map(|ended| ended.reason);
        assert_eq!(ended, (expected == Answer::Replayed).then_some(EndReason::Replayed), "{case}");
    }
}

#[tokio::test]
async fn a_session_that_no_longer_lives_is_refused_without_an_event() {
    for (case, refusal) in [
        ("ended", Refusal::Ended),
        ("all ended", Refusal::Ended),
        ("all ended, row not yet marked", Refusal::EpochRaised),
        ("ended, row not yet marked", Refusal::Ended),
        ("user disabled", Refusal::User),
        ("idle", Refusal::Expired),
        ("unknown", Refusal::Unknown),
    ] {
        for generation in 0..3 {
            let at = at_two(SessionPolicy::default()).await;
            let log = at.bed.stores.revocations();
            let now = at.bed.clock.now();
            let write = async |target| {
                let entry = Entry { target, until: now + HOUR, at: now };
                log.insert_entry(&entry).await.unwrap();
            };
            match case {
                "ended" => drop(at.bed.sessions.end(key(&at.is), EndReason::LoggedOut).await.unwrap()),
                "all ended" => at.bed.sessions.end_all(ada(), None, EndReason::AllEnded).await.unwrap(),
                "all ended, row not yet marked" => {
                    let epoch = Epoch::new(1);
                    write(Target::User { user_id: ada(), epoch, except: None }).await;
                }
                "ended, row not yet marked" => {
                    write(Target::Session { user_id: ada(), id: at.is.session.id }).await;
                }
                "idle" => at.bed.clock.advance(14 * DAY),
                "unknown" => {
                    let purged = at.bed.stores.sessions().purge_sessions(now + 40 * DAY, 10).await.unwrap();
                    assert_eq!(purged, 1);
                }
                _ => {}
            }
            let pair = [&at.first, &at.was, &at.is][generation];
            let claims = match at
                .bed
                .sessions
                .verification()
                .verify(&pair.refresh_token, Check::REFRESH.even_if_revoked())
                .await
            {
                Ok(claims) => claims,
                // The older tokens' own expiry came before.
                Err(CheckError::Invalid(VerifyError::Expired)) if case == "idle" && generation < 2 => {
                    continue;
                }
                Err(error) => panic!("{case}: {error}"),
            };
            let refused =
                Refresh::of(&at.bed.sessions).exchange(&claims, case != "user disabled", browser()).await;
            let Err(RefreshError::Refused(found)) = refused else { panic!("{case}: {refused:?}") };
            assert_eq!(found, refusal, "{case}, generation {generation}");
            assert_eq!(at.bed.events.take_alarms(), [], "{case}: no event");
        }
    }
}

#[tokio::test]
async fn sec_094_generation_0_always_steps() {
    let (_, bed, pair) = signed_in(SessionPolicy::default()).await;
    let next = step(&bed, &pair).await;
    assert_eq!(next.session.generation, Generation::new(1));
}

#[tokio::test]
async fn the_current_token_is_served_again_while_the_clock_is_back_within_the_leeway() {
    for (back, expected) in
        [(MILLISECOND, Answer::Same), (secs(10), Answer::Same), (secs(10) + MILLISECOND, Answer::Next)]
    {
        let at = at_two(SessionPolicy::default()).await;
        at.bed.clock.set(at.bed.clock.now() - back);
        assert_eq!(at.present(&at.is).await, expected, "{back:?} back");
        let at = at_two(SessionPolicy::default()).await;
        at.bed.clock.set(at.bed.clock.now() - back);
        assert_eq!(at.present(&at.was).await, Answer::Same, "{back:?} back, the predecessor");
    }
}

#[tokio::test]
async fn a_revoked_access_token_makes_the_current_token_step_at_once() {
    let at = at_two(SessionPolicy::default()).await;
    let access = token_id(&at.bed.row(&at.is).await.session, TokenType::Access);
    at.bed.sessions.revoke_tokens(ada(), vec![access]).await.unwrap();
    assert!(at.bed.authenticate(&at.is.access_token).await.is_err());
    let next = step(&at.bed, &at.is).await;
    assert!(at.bed.authenticate(&next.access_token).await.is_ok(), "the next one works");
    assert!(same(&refresh(&at.bed, &at.is).await.unwrap().pair, &next), "and is served to the others too");
}

#[tokio::test]
async fn the_id_of_the_current_refresh_token_ends_its_session_and_an_older_one_does_nothing() {
    let at = at_two(SessionPolicy::default()).await;
    let id = async |pair: &Pair| {
        let check = Check::REFRESH.even_if_revoked();
        let claims = at.bed.sessions.verification().verify(&pair.refresh_token, check).await;
        claims.unwrap().token_id()
    };
    at.bed.sessions.revoke_tokens(ada(), vec![id(&at.was).await, id(&at.first).await]).await.unwrap();
    at.bed.sessions.revoke_tokens(UserId::new("mallory").unwrap(), vec![id(&at.is).await]).await.unwrap();
    assert_eq!(at.present(&at.was).await, Answer::Same, "an old id, or somebody else's call, has no effect");
    at.bed.sessions.revoke_tokens(ada(), vec![id(&at.is).await]).await.unwrap();
    assert_eq!(at.present(&at.is).await, Answer::Refused(Refusal::Ended));
}

#[tokio::test]
async fn a_store_that_went_back_in_time_goes_on_from_the_presented_token() {
    let (_, bed, first) = signed_in(SessionPolicy::default()).await;
    let backup = bed.row(&first).await.session;
    let mut pair = first;
    for _ in 0..5 {
        bed.clock.advance(secs(600));
        pair = step(&bed, &pair).await;
    }
    // A restored backup: the same keys and the row as it was at the login.
    let restored: Stores = MemoryStore::new().into();
    restored.keys().store_id(bed.stores.keys().store_id(uuid::Uuid::nil()).await.unwrap()).await.unwrap();
    for stored in bed.stores.keys().keys().await.unwrap() {
        assert!(restored.keys().insert_key(&stored).await.unwrap());
    }
    restored.sessions().insert_session(&backup).await.unwrap();
    let after = TestBed::over(restored).await;
    after.clock.set(bed.clock.now());
    assert_eq!(after.row(&pair).await.session.generation, Generation::FIRST);
    let next = step(&after, &pair).await;
    assert_eq!(next.session.generation, Generation::new(6), "presented + 1");
    assert!(same(&refresh(&after, &pair).await.unwrap().pair, &next), "a retry gets the same");
}

#[tokio::test]
async fn a_grace_of_0_is_strict_single_use() {
    for wait in [Duration::ZERO, secs(1), HOUR] {
        let at = at_two(SessionPolicy { grace: Duration::ZERO, ..SessionPolicy::default() }).await;
        at.bed.clock.advance(wait);
        assert_eq!(at.present(&at.is).await, Answer::Next, "the current token steps after {wait:?}");
        let at = at_two(SessionPolicy { grace: Duration::ZERO, ..SessionPolicy::default() }).await;
        at.bed.clock.advance(wait);
        assert_eq!(at.present(&at.was).await, Answer::Replayed, "a used one ends the session after {wait:?}");
    }
}

#[tokio::test]
async fn refresh_is_never_fresh() {
    let fresh = async |bed: &TestBed, pair: &Pair| {
        let claims = bed.authenticate(&pair.access_token).await.unwrap();
        claims.freshness()
    };
    let (_, bed, first) = signed_in(SessionPolicy::default()).await;
    assert_eq!(fresh(&bed, &first).await, Freshness::Fresh, "a login is");
    let next = step(&bed, &first).await;
    let served_again = refresh(&bed, &first).await.unwrap().pair;
    bed.clock.advance(HOUR);
    let healed = refresh(&bed, &first).await.unwrap();
    assert!(!healed.advanced && !same(&healed.pair, &next));
    assert_eq!(fresh(&bed, &healed.pair).await, Freshness::Stale, "healed");
    bed.clock.set(bed.clock.now() - HOUR);
    assert_eq!(fresh(&bed, &next).await, Freshness::Stale, "stepped");
    assert_eq!(fresh(&bed, &served_again).await, Freshness::Stale, "served again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn sec_092_parallel_refresh_advances_once_and_all_get_the_same_successor() {
    let (_, one, mut pair) = signed_in(SessionPolicy::default()).await;
    let other = one.another_node().await;
    for round in 0..ROUNDS {
        one.clock.advance(secs(900));
        let mut tasks = JoinSet::new();
        for caller in 0..64 {
            let (bed, pair) = (if caller % 2 == 0 { one.clone() } else { other.clone() }, pair.clone());
            tasks.spawn(async move { refresh(&bed, &pair).await.unwrap() });
        }
        let answers = tasks.join_all().await;
        let advanced = answers.iter().filter(|answer| answer.advanced).count();
        assert_eq!(advanced, 1, "round {round}: one of 64 advances");
        let successor = answers[0].pair.clone();
        assert_eq!(successor.session.generation, pair.session.generation.next());
        for answer in &answers {
            assert!(same(&answer.pair, &successor), "round {round}: all get the same pair");
        }
        let claims = one
            .sessions
            .verification()
            .verify(&successor.refresh_token, Check::REFRESH.even_if_revoked())
            .await
            .unwrap();
        for answer in answers.iter().take(4) {
            assert_eq!(
                other
                    .sessions
                    .verification()
                    .verify(&answer.pair.refresh_token, Check::REFRESH.even_if_revoked())
                    .await
                    .unwrap(),
                claims
            );
        }
        let row = one.row(&pair).await.session;
        assert_eq!(row.generation, successor.session.generation, "round {round}: one step");
        pair = successor;
    }
}

#[tokio::test]
async fn sec_093_an_old_token_ends_its_session_and_tells() {
    for (case, after) in
        [("two steps old", Duration::ZERO), ("two steps old, later", HOUR), ("after grace", HOUR)]
    {
        let at = at_two(SessionPolicy::default()).await;
        let bystander = at.bed.begin(&ada(), browser()).await;
        acknowledge(&at.bed, &at.is).await;
        at.bed.clock.advance(after);
        let old = if case == "after grace" { &at.was } else { &at.first };
        let thief = device("thief");
        let answer = at.bed.refresh(&old.refresh_token, thief.clone()).await;
        assert!(matches!(answer, Err(RefreshError::Replayed)), "{case}: {answer:?}");
        let expected = Event::RefreshReused {
            user_id: ada(),
            session_id: at.is.session.id,
            presented: old.session.generation,
            current: Generation::new(2),
            device: thief,
        };
        assert_eq!(at.bed.events.take_alarms(), [expected], "{case}");
        for pair in [&at.first, &at.was, &at.is] {
            assert!(refresh(&at.bed, pair).await.is_err(), "{case}: no token of the session refreshes");
            assert!(at.bed.authenticate(&pair.access_token).await.is_err(), "{case}: nor opens anything");
        }
        assert_eq!(at.bed.events.take_alarms(), [], "{case}: an ended session has no more to tell");
        assert!(refresh(&at.bed, &bystander).await.is_ok(), "{case}: the user's other sessions live on");
    }
}

#[tokio::test]
async fn sec_094_three_tabs_stay_signed_in_whatever_the_order_of_their_replies() {
    const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    // When the tabs' requests reach the server, in seconds after the first.
    for arrivals in [[0, 0, 0], [0, 1, 2], [0, 0, 29], [0, 29, 29], [0, 15, 29]] {
        let (_, bed, first) = signed_in(SessionPolicy::default()).await;
        let mut stored = first;
        for round in 0..12 {
            bed.clock.advance(secs(840));
            // All three have read the same token. Each stores what it gets; the last reply stays.
            let mut replies = Vec::new();
            let mut now = 0;
            for arrival in arrivals {
                bed.clock.advance(secs(arrival - now));
                now = arrival;
                replies.push(refresh(&bed, &stored).await.unwrap().pair);
            }
            for tab in ORDERS[round % 6] {
                stored = replies[tab].clone();
                // A tab that got its reply uses it, and may refresh again at once.
                assert!(bed.authenticate(&stored.access_token).await.is_ok(), "{arrivals:?}, round {round}");
                bed.sessions.verification().flush_acknowledgements().await.unwrap();
                let burst = refresh(&bed, &stored).await.unwrap();
                assert!(same(&burst.pair, &stored), "{arrivals:?}, round {round}: a burst does not step on");
            }
            assert!(
                replies.iter().all(|reply| same(reply, &stored)),
                "{arrivals:?}, round {round}: never a fork"
            );
        }
        assert_eq!(bed.row(&stored).await.session.generation, Generation::new(12), "one step a round");
        assert_eq!(bed.events.take_alarms(), []);
    }
}

#[tokio::test]
async fn sec_095_a_lost_reply_heals_after_an_hour() {
    let (_, bed, first) = signed_in(SessionPolicy::default()).await;
    let lost = step(&bed, &first).await;
    bed.clock.advance(HOUR);
    let healed = refresh(&bed, &first).await.unwrap();
    assert!(!healed.advanced);
    assert_eq!(healed.pair.session.generation, Generation::new(1), "the same generation");
    assert_eq!(healed.pair.access_expires_at, bed.clock.now() + secs(900), "new times");
    assert!(bed.authenticate(&healed.pair.access_token).await.is_ok());
    let retried = refresh(&bed, &first).await.unwrap();
    assert!(same(&retried.pair, &healed.pair), "a retry within the grace gets the healed pair again");
    bed.clock.advance(secs(900));
    assert_eq!(
        step(&bed, &healed.pair).await.session.generation,
        Generation::new(2),
        "and goes on from there"
    );
    assert!(lost.session == healed.pair.session && !same(&lost, &healed.pair));
}

#[tokio::test]
async fn sec_095_a_token_of_an_earlier_issue_of_its_generation_is_current() {
    let (_, bed, first) = signed_in(SessionPolicy::default()).await;
    let late = step(&bed, &first).await;
    bed.clock.advance(HOUR);
    let healed = refresh(&bed, &first).await.unwrap().pair;
    // The reply that was thought lost arrives after all.
    assert!(same(&refresh(&bed, &late).await.unwrap().pair, &healed), "served the healed issue");
    bed.clock.advance(secs(900));
    assert_eq!(step(&bed, &late).await.session.generation, Generation::new(2));
}

#[tokio::test]
async fn sec_095_a_generation_heals_three_times() {
    let (_, bed, first) = signed_in(SessionPolicy::default()).await;
    step(&bed, &first).await;
    for heal in 1..=3 {
        bed.clock.advance(HOUR);
        let healed = refresh(&bed, &first).await.unwrap();
        assert!(!healed.advanced, "heal {heal}");
        assert_eq!(bed.row(&first).await.session.heals, heal);
    }
    bed.clock.advance(HOUR);
    assert!(matches!(refresh(&bed, &first).await, Err(RefreshError::Replayed)), "the fourth is a replay");
}

#[tokio::test]
async fn sec_095_five_generations_in_a_row_heal() {
    for pause in [None, Some(3)] {
        let (_, bed, mut pair) = signed_in(SessionPolicy::default()).await;
        for generation in 1..=6 {
            step(&bed, &pair).await;
            bed.clock.advance(HOUR);
            let healed = refresh(&bed, &pair).await;
            if generation == 6 && pause.is_none() {
                assert!(matches!(healed, Err(RefreshError::Replayed)), "the sixth in a row is a replay");
                break;
            }
            pair = healed.unwrap().pair;
            bed.clock.advance(secs(900));
            if pause == Some(generation) {
                pair = step(&bed, &pair).await;
                bed.clock.advance(secs(900));
            }
        }
        if pause.is_some() {
            assert_eq!(
                bed.row(&pair).await.session.healed_run,
                3,
                "a reply that arrives starts the count anew"
            );
        }
    }
}

#[tokio::test]
async fn sec_095_what_was_acknowledged_does_not_heal() {
    for (case, healing) in [("access token seen", true), ("refresh token seen", true), ("healing off", false)]
    {
        let (_, bed, first) = signed_in(SessionPolicy { healing, ..SessionPolicy::default() }).await;
        let next = step(&bed, &first).await;
        match case {
            "access token seen" => acknowledge(&bed, &next).await,
            "refresh token seen" => {
                assert!(same(&refresh(&bed, &next).await.unwrap().pair, &next));
                bed.sessions.verification().flush_acknowledgements().await.unwrap();
            }
            _ => {}
        }
        bed.clock.advance(HOUR);
        assert!(matches!(refresh(&bed, &first).await, Err(RefreshError::Replayed)), "{case}");
    }
}

#[tokio::test]
async fn acknowledging_costs_the_request_no_store_call_and_may_fail() {
    let (watched, bed, first) = signed_in(SessionPolicy::default()).await;
    let next = step(&bed, &first).await;
    watched.reset_calls();
    for _ in 0..100 {
        bed.authenticate(&next.access_token).await.unwrap();
    }
    assert_eq!(watched.total_calls(), 0);
    watched.fail(true);
    assert!(bed.sessions.verification().flush_acknowledgements().await.is_err());
    watched.fail(false);
    bed.sessions.verification().flush_acknowledgements().await.unwrap();
    assert_eq!(bed.row(&next).await.session.acknowledged_at, None, "lost, as it may be");
    acknowledge(&bed, &next).await;
    assert!(
        bed.row(&next).await.session.acknowledged_at.is_some(),
        "and learned again from the next request"
    );
    let flushes = watched.calls("acknowledge");
    acknowledge(&bed, &next).await;
    assert_eq!(watched.calls("acknowledge"), flushes, "what is known is not written again");
}

#[tokio::test]
async fn sec_096_a_dump_of_the_store_mints_no_refresh_token() {
    let (_, bed, pair) = signed_in(SessionPolicy::default()).await;
    let row = bed.row(&pair).await.session;
    let stored = bed.stores.keys().keys().await.unwrap();
    let store_id = bed.stores.keys().store_id(uuid::Uuid::nil()).await.unwrap();
    let issuer = format!("urn:uuid:{store_id}");
    let claims = |token_type| {
        NewClaims::new(token_type, ada(), token_id(&row, token_type), row.issued_at, row.expires_at())
            .with_session(pair.session)
    };
    let refresh_key = stored.iter().find(|key| key.algorithm == Algorithm::Hs256).unwrap();
    let access_key = stored.iter().find(|key| key.algorithm == Algorithm::EdDsa).unwrap();

    // With the server's secret the very token comes out: what follows lacks nothing else.
    let context = format!("countersign/key/refresh/{}", refresh_key.key_id);
    let secret = TestBed::secrets().open(&context, &refresh_key.sealed).unwrap();
    let key = SigningKey::from_secret_bytes(Algorithm::Hs256, refresh_key.key_id.clone(), &secret).unwrap();
    let genuine = Issuer::new(key).with_issuer(&issuer).issue(&claims(TokenType::Refresh)).unwrap();
    assert_eq!(genuine, pair.refresh_token);

    let mut secrets: Vec<Vec<u8>> = vec![
        row.seed.as_bytes().to_vec(),
        [row.seed.as_bytes().as_slice(), store_id.as_bytes()].concat(),
        [store_id.as_bytes().as_slice(), row.id.as_uuid().as_bytes()].concat(),
        format!("{store_id}{}", row.id).into_bytes(),
    ];
    for key in &stored {
        secrets.push(key.sealed.clone());
        secrets.extend(key.sealed.windows(32).map(<[u8]>::to_vec));
        secrets.push(format!("{:0<43}", key.key_id.as_str()).into_bytes());
    }
    let mut tried = 0;
    for secret in secrets {
        for stored in [refresh_key, access_key] {
            let Ok(key) = SigningKey::from_secret_bytes(Algorithm::Hs256, stored.key_id.clone(), &secret)
            else {
                continue;
            };
            for token_type in TokenType::ALL {
                let token = Issuer::new(key.clone()).with_issuer(&issuer).issue(&claims(token_type)).unwrap();
                assert!(bed.refresh(&token, browser()).await.is_err());
                assert!(bed.authenticate(&token).await.is_err());
                tried += 1;
            }
        }
        // The same bytes as the seed of a key pair, in the place of the access key.
        if let Ok(key) = SigningKey::from_secret_bytes(Algorithm::EdDsa, access_key.key_id.clone(), &secret) {
            let token = Issuer::new(key).with_issuer(&issuer).issue(&claims(TokenType::Access)).unwrap();
            assert!(bed.authenticate(&token).await.is_err());
            tried += 1;
        }
    }
    assert!(tried > 300, "only {tried} keys were tried");
    assert!(bed.row(&pair).await.session.ended.is_none(), "none of it touched the session");
}

#[tokio::test]
async fn sec_097_what_lacks_integrity_costs_no_store_call() {
    let (watched, bed, pair) = signed_in(SessionPolicy::default()).await;
    let elsewhere = TestBed::with(
        MemoryStore::new(),
        BedConfig { random: std::sync::Arc::new(SeededRandom::new(99)), ..BedConfig::default() },
    )
    .await;
    let foreign = elsewhere.begin(&ada(), browser()).await;
    let (head, mac) = pair.refresh_token.rsplit_once('.').unwrap();
    let (header, payload) = head.split_once('.').unwrap();
    let mut texts = vec![
        String::new(),
        ".".into(),
        "..".into(),
        "garbage".into(),
        "a.b.c".into(),
        "\0\u{202e}😀.😀.😀".into(),
        "x".repeat(100_000),
        format!("{head}."),
        format!("{head}.{}", mac.chars().rev().collect::<String>()),
        format!("{header}.{payload}x.{mac}"),
        format!("{}.{payload}.{mac}", header.to_lowercase()),
        format!("eyJhbGciOiJub25lIn0.{payload}."),
        foreign.refresh_token.clone(),
        pair.access_token.clone(),
        format!("{} ", pair.refresh_token),
    ];
    for position in 0..pair.refresh_token.len() {
        let mut token = pair.refresh_token.clone().into_bytes();
        token[position] = if token[position] == b'A' { b'B' } else { b'A' };
        texts.push(String::from_utf8(token).unwrap());
    }
    watched.reset_calls();
    for text in &texts {
        let answer = bed.refresh(text, browser()).await;
        assert!(matches!(answer, Err(RefreshError::Invalid(_))), "{text:?}: {answer:?}");
        assert!(
            bed.accounts.sessions().verification().verify(text, Check::ENDING).await.is_err()
                || *text == pair.access_token
        );
    }
    bed.clock.advance(30 * DAY + secs(10));
    let expired = refresh(&bed, &pair).await;
    assert!(matches!(expired, Err(RefreshError::Invalid(VerifyError::Expired))));
    assert_eq!(watched.total_calls(), 0);
}

#[tokio::test]
async fn sec_100_refresh_leaves_the_running_access_token_alone() {
    let (_, bed, first) = signed_in(SessionPolicy::default()).await;
    bed.clock.advance(secs(300));
    let next = step(&bed, &first).await;
    bed.clock.advance(secs(300));
    step(&bed, &next).await;
    for (after, accepted) in [(0, true), (299, true), (10, true), (1, false)] {
        bed.clock.advance(secs(after));
        let answer = bed.authenticate(&first.access_token).await;
        assert_eq!(answer.is_ok(), accepted, "{after} s later: {answer:?}");
    }
}

#[tokio::test]
async fn sec_080_a_session_idle_for_14_days_is_over() {
    for (idle, alive) in [(14 * DAY - MILLISECOND, true), (14 * DAY, false)] {
        let (_, bed, first) = signed_in(SessionPolicy::default()).await;
        bed.clock.advance(DAY);
        let next = step(&bed, &first).await;
        bed.clock.advance(idle);
        let answer = refresh(&bed, &next).await;
        match answer {
            Ok(_) => assert!(alive),
            Err(RefreshError::Refused(Refusal::Expired)) => assert!(!alive),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn sec_102_rotation_does_not_move_the_absolute_expiry() {
    let (_, bed, mut pair) = signed_in(SessionPolicy::default()).await;
    let absolute = bed.clock.now() + 30 * DAY;
    let idle = SessionPolicy::default().idle;
    for _ in 0..5 {
        bed.clock.advance(5 * DAY);
        pair = step(&bed, &pair).await;
        assert_eq!(pair.refresh_expires_at, (bed.clock.now() + idle).min(absolute));
    }
    bed.clock.set(absolute - secs(60));
    pair = step(&bed, &pair).await;
    assert_eq!(
        (pair.access_expires_at, pair.refresh_expires_at),
        (absolute, absolute),
        "nothing outlives it"
    );
    bed.clock.set(absolute - MILLISECOND);
    assert!(refresh(&bed, &pair).await.is_ok());
    bed.clock.set(absolute);
    let answer = refresh(&bed, &pair).await;
    assert!(matches!(answer, Err(RefreshError::Refused(Refusal::Expired))), "{answer:?}");
    bed.clock.set(absolute + secs(10));
    let answer = refresh(&bed, &pair).await;
    assert!(matches!(answer, Err(RefreshError::Invalid(VerifyError::Expired))), "{answer:?}");
}

#[tokio::test]
async fn four_lost_races_are_worth_another_try_and_never_a_replay() {
    for (lost, contended) in [(3, false), (4, true)] {
        let (watched, bed, first) = signed_in(SessionPolicy::default()).await;
        bed.clock.advance(secs(900));
        watched.reset_calls();
        watched.lose_steps(lost);
        let answer = refresh(&bed, &first).await;
        assert_eq!(matches!(answer, Err(RefreshError::Contended)), contended, "{answer:?}");
        assert_eq!(
            (watched.calls("session"), watched.calls("advance")),
            (3, 4),
            "four tries, each but the first after a read"
        );
        assert_eq!(bed.events.take_alarms(), []);
        assert!(refresh(&bed, &first).await.is_ok(), "the session is whole");
    }
    // The same where the lost step is a heal.
    let (watched, bed, first) = signed_in(SessionPolicy::default()).await;
    step(&bed, &first).await;
    bed.clock.advance(HOUR);
    watched.lose_steps(4);
    assert!(matches!(refresh(&bed, &first).await, Err(RefreshError::Contended)));
    assert!(refresh(&bed, &first).await.is_ok());
}

#[tokio::test]
async fn sec_103_a_step_whose_reply_was_lost_is_answered_on_retry() {
    for (wait, same_issue) in [(Duration::ZERO, true), (secs(29), true), (HOUR, false)] {
        let (watched, bed, first) = signed_in(SessionPolicy::default()).await;
        watched.lose_reply_of("advance");
        let answer = refresh(&bed, &first).await;
        assert!(matches!(answer, Err(RefreshError::Store(_))), "{answer:?}");
        let issued_at = bed.row(&first).await.session.issued_at;
        bed.clock.advance(wait);
        let retried = refresh(&bed, &first).await.unwrap();
        assert_eq!(retried.pair.session.generation, Generation::new(1), "one step in all");
        assert_eq!(bed.row(&first).await.session.issued_at == issued_at, same_issue, "after {wait:?}");
    }
}

#[tokio::test]
async fn sec_101_a_failing_store_costs_nobody_the_session() {
    let (watched, bed, mut pair) = signed_in(SessionPolicy::default()).await;
    for round in 0..20 {
        bed.clock.advance(secs(900));
        // The step itself, or the read after a step that somebody else was faster with.
        watched.lose_steps(round % 2);
        watched.fail_once_after(round % 2);
        let answer = refresh(&bed, &pair).await;
        assert!(matches!(answer, Err(RefreshError::Store(_))), "round {round}: {answer:?}");
        pair = step(&bed, &pair).await;
    }
    assert_eq!(bed.events.take_alarms(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_half_does_no_refresh() {
    let (watched, bed, first) = signed_in(SessionPolicy::default()).await;
    let mut read = watched.hold(Point::Before("advance"));
    let mut done = watched.hold(Point::After("advance"));
    let request = tokio::spawn({
        let (bed, first) = (bed.clone(), first.clone());
        async move { refresh(&bed, &first).await.map(|_| ()) }
    });
    read.arrived().await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    read.open();
    done.arrived().await;
    assert_eq!(bed.row(&first).await.session.generation, Generation::new(1), "the step was made");
    done.open();
    assert_eq!(refresh(&bed, &first).await.unwrap().pair.session.generation, Generation::new(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_half_does_no_logout() {
    let (watched, bed, first) = signed_in(SessionPolicy::default()).await;
    let mut before = watched.hold(Point::Before("end_session"));
    let mut done = watched.hold(Point::After("end_session"));
    let request = tokio::spawn({
        let (sessions, key) = (bed.sessions.clone(), key(&first));
        async move { sessions.end(key, EndReason::LoggedOut).await.map(|_| ()) }
    });
    before.arrived().await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    assert!(bed.authenticate(&first.access_token).await.is_ok());
    before.open();
    done.arrived().await;
    done.open();
    assert!(bed.row(&first).await.session.ended.is_some());
    // What is left to do is to put it into the index, which waits for nothing.
    let mut turns = 0;
    while bed.authenticate(&first.access_token).await.is_ok() {
        turns += 1;
        assert!(turns < 1_000_000, "the node never refuses the token");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_in_flight_cannot_bring_back_an_ended_session() {
    for (case, heals) in [("ended", false), ("all ended", false), ("ended", true), ("all ended", true)] {
        let (watched, bed, first) = signed_in(SessionPolicy::default()).await;
        if heals {
            step(&bed, &first).await;
        }
        bed.clock.advance(HOUR);
        let before = bed.row(&first).await.session;
        // The first step is taken unread; a heal follows a read of the row.
        let mut read = watched.hold(if heals { Point::After("session") } else { Point::Before("advance") });
        let request = tokio::spawn({
            let (bed, first) = (bed.clone(), first.clone());
            async move { refresh(&bed, &first).await }
        });
        read.arrived().await;
        if case == "ended" {
            bed.sessions.end(key(&first), EndReason::LoggedOut).await.unwrap();
        } else {
            bed.sessions.end_all(ada(), None, EndReason::AllEnded).await.unwrap();
        }
        read.open();
        let answer = request.await.unwrap();
        assert!(matches!(answer, Err(RefreshError::Refused(Refusal::Ended))), "{case}: {answer:?}");
        let after = bed.row(&first).await.session;
        assert_eq!((after.generation, after.issued_at), (before.generation, before.issued_at), "{case}");
        assert_eq!(bed.events.take_alarms(), [], "{case}: losing a race is no replay");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_refresh_yields_beside_an_end_is_dead_already() {
    let (watched, bed, first) = signed_in(SessionPolicy::default()).await;
    let mut stepped = watched.hold(Point::After("advance"));
    let request = tokio::spawn({
        let (bed, first) = (bed.clone(), first.clone());
        async move { refresh(&bed, &first).await }
    });
    stepped.arrived().await;
    bed.sessions.end(key(&first), EndReason::LoggedOut).await.unwrap();
    stepped.open();
    let late = request.await.unwrap().unwrap().pair;
    assert!(bed.authenticate(&late.access_token).await.is_err());
    assert!(refresh(&bed, &late).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn parallel_refreshes_acknowledgements_and_an_end_lose_nothing() {
    for round in 0..ROUNDS {
        let (_, one, first) = signed_in(SessionPolicy::default()).await;
        let other = one.another_node().await;
        let next = step(&one, &first).await;
        // Half of the rounds heal, the others step.
        let presented = if round % 2 == 0 { first.clone() } else { next.clone() };
        one.clock.advance(secs(600));
        let ends = round % 3 != 0;
        let mut tasks = JoinSet::new();
        for caller in 0..32 {
            let bed = if caller % 2 == 0 { one.clone() } else { other.clone() };
            let (presented, next) = (presented.clone(), next.clone());
            tasks.spawn(async move {
                match caller {
                    16 if ends => {
                        bed.sessions.end(key(&next), EndReason::LoggedOut).await.unwrap();
                        None
                    }
                    0 | 7 | 20 | 29 if round % 2 == 1 => {
                        // The view's age counts in this test's clock: a poll first.
                        bed.sessions.view().poll().await.unwrap();
                        let _ = bed.authenticate(&next.access_token).await;
                        bed.sessions.verification().flush_acknowledgements().await.unwrap();
                        None
                    }
                    _ => Some(refresh(&bed, &presented).await),
                }
            });
        }
        let answers: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        let mut pairs = Vec::new();
        for answer in answers {
            match answer {
                Ok(refreshed) => pairs.push(refreshed),
                Err(RefreshError::Refused(Refusal::Ended)) if ends => {}
                Err(error) => panic!("round {round}: {error}"),
            }
        }
        let row = one.row(&next).await;
        assert_eq!(row.session.ended.is_some(), ends, "round {round}: an end is never lost, nor made up");
        assert_eq!(row.log.ended, ends, "round {round}");
        let advanced = pairs.iter().filter(|refreshed| refreshed.advanced).count();
        assert!(advanced <= 1, "round {round}");
        let steps = row.session.generation.as_u32() - 1;
        assert_eq!(steps as usize, advanced, "round {round}: as many steps as were answered");
        assert!(
            pairs.iter().all(|refreshed| same(&refreshed.pair, &pairs[0].pair)),
            "round {round}: no fork"
        );
        if !ends {
            assert_eq!(row.session.heals, u8::from(round % 2 == 0), "round {round}: healed once");
            assert!(!pairs.is_empty());
        }
        for bed in [&one, &other] {
            assert_eq!(bed.events.take_alarms(), [], "round {round}: nobody looks like a thief");
            for pair in [&first, &next] {
                assert!(!ends || refresh(bed, pair).await.is_err(), "round {round}: ended is ended");
            }
        }
    }
}

#[tokio::test]
async fn one_generation_used_by_two_devices_is_reported() {
    let at = at_two(SessionPolicy::default()).await;
    assert_eq!(at.present(&at.was).await, Answer::Same);
    assert_eq!(at.bed.events.take_alarms(), [], "a second tab of the same browser");
    for old in [&at.was, &at.is] {
        let phone = device("phone");
        assert!(same(&at.bed.refresh(&old.refresh_token, phone.clone()).await.unwrap().pair, &at.is));
        let expected = Event::RefreshShared {
            user_id: ada(),
            session_id: at.is.session.id,
            generation: Generation::new(2),
            device: phone,
        };
        assert_eq!(at.bed.events.take_alarms(), [expected]);
    }
}

#[tokio::test]
async fn serving_a_generation_again_writes_nothing() {
    let at = at_two(SessionPolicy::default()).await;
    let before = at.bed.row(&at.is).await;
    at.watched.reset_calls();
    assert_eq!(at.present(&at.was).await, Answer::Same);
    assert_eq!(at.present(&at.is).await, Answer::Same);
    let calls = (at.watched.calls("session"), at.watched.calls("advance"), at.watched.total_calls());
    assert_eq!(calls, (2, 1, 3), "one read each; the older one might have been the current one");
    assert_eq!(at.bed.row(&at.is).await, before);
}

#[tokio::test]
async fn a_step_takes_one_call_to_the_store() {
    let (watched, bed, first) = signed_in(SessionPolicy::default()).await;
    watched.reset_calls();
    step(&bed, &first).await;
    assert_eq!((watched.calls("advance"), watched.total_calls()), (1, 1));
    assert_eq!(FixedClock::START, bed.clock.now());
}

#[tokio::test]
async fn an_access_token_is_not_exchanged() {
    let (_, bed, pair) = signed_in(SessionPolicy::default()).await;
    let access = bed.authenticate(&pair.access_token).await.unwrap();
    let refused = Refresh::of(&bed.sessions).exchange(&access, true, browser()).await;
    let expected = VerifyError::TokenType { expected: TokenType::Refresh, found: TokenType::Access };
    assert!(matches!(&refused, Err(RefreshError::Invalid(found)) if *found == expected), "{refused:?}");
    assert_eq!(bed.row(&pair).await.session.generation, Generation::FIRST, "nothing has happened");
    assert!(bed.refresh(&pair.refresh_token, browser()).await.unwrap().advanced);
}
