//! Checks that core and a store agree. The same random steps on the store and on the reference give the same answers
//! and leave the same rows, and the store does what [`decide`] asks for.
//!
//! Like [`contract`](crate::contract), the checks suit any implementation that reads the log in the order of the keys.
//! Each check opens a store with `open`, with a database of its own, on a runtime of its own. It panics with the
//! smallest case in which store and reference differ.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a check fails by panicking, and has nothing to check where the store does not answer"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use countersign_core::model::{
    Acknowledgement, Advance, AdvanceCondition, Circumstances, Decision, Device, EndReason, Entry, Heal,
    Presented, Session, SessionPolicy, SessionSeed, Target, UserSession, decide,
};
use countersign_core::store::{
    End, EpochRaise, FoundSession, MemoryStore, RevocationStore, SessionInserted, SessionPage, SessionStore,
    TokenRevocation,
};
use countersign_jwt::{Epoch, Generation, SessionId, Timestamp, TokenId, UserId};
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::contract::NOW;

/// A step on one of a user's three sessions, or on all of them.
#[derive(Clone, Debug)]
enum Step {
    Advance(u128, Advance),
    Heal(u128, Heal),
    Acknowledge(Vec<(u128, u32)>, Timestamp),
    End(u128, End),
    Raise(EpochRaise),
    Log(LogEntry),
    RevokeTokens { ids: Vec<u128>, at: Timestamp, until: Timestamp, limit: usize },
    Live { now: Timestamp, skip: usize, limit: usize },
    PurgeEntries(Timestamp),
    PurgeSessions(Timestamp),
}

#[derive(Clone, Debug)]
enum LogEntry {
    Session(u128, Timestamp, Timestamp),
    User(u64, Option<u128>, Timestamp, Timestamp),
    Token(u128, Timestamp, Timestamp),
}

impl LogEntry {
    fn of(&self, user_id: &UserId) -> Entry {
        let user_id = user_id.clone();
        let (target, until, at) = match *self {
            Self::Session(id, until, at) => (Target::Session { user_id, id: session_id(id) }, until, at),
            Self::User(epoch, except, until, at) => {
                let except = except.map(session_id);
                (Target::User { user_id, epoch: Epoch::new(epoch), except }, until, at)
            }
            Self::Token(id, until, at) => (Target::Token { user_id, id: token_id(id) }, until, at),
        };
        Entry { target, until, at }
    }
}

fn seconds(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn session_id(number: u128) -> SessionId {
    SessionId::new(Uuid::from_u128(number))
}

fn token_id(number: u128) -> TokenId {
    TokenId::new(Uuid::from_u128(number))
}

/// A few different times, so that equal ones often meet: around one moment, and at both ends of time.
fn times() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        8 => prop::sample::select(vec![0_i64, 1, 9_999, 10_000, 10_001, 29_999, 30_000, 30_001, 60_000])
            .prop_map(|millis| Timestamp::from_millis(NOW.as_millis() + millis)),
        2 => (0..70_000_i64).prop_map(|millis| Timestamp::from_millis(NOW.as_millis() + millis)),
        1 => prop::sample::select(vec![0, 1, 30_000, i64::MAX, (1 << 53) - 1, (1 << 53) - 30_000])
            .prop_map(Timestamp::from_millis),
    ]
}

fn ids() -> impl Strategy<Value = u128> {
    1..=3_u128
}

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![
        6 => prop::sample::select(vec![0, 1, 10_000, 30_000]).prop_map(Duration::from_millis),
        1 => prop::sample::select(vec![
            Duration::MAX,
            Duration::from_millis(i64::MAX as u64),
            Duration::from_millis(1 << 53),
            Duration::from_micros(29_999_999),
        ]),
    ]
}

fn generations() -> impl Strategy<Value = Generation> {
    prop_oneof![8 => 0..3_u32, 1 => Just(u32::MAX)].prop_map(Generation::new)
}

fn devices() -> impl Strategy<Value = Device> {
    prop::sample::select(vec![
        Device::default(),
        Device::new(Some("Firefox"), None),
        Device::new(Some("Chrome"), Some("192.0.2.7".parse().unwrap())),
    ])
}

fn sessions() -> impl Strategy<Value = Session> {
    let numbers =
        (generations(), prop_oneof![4 => 0..4_u8, 1 => Just(255)], prop_oneof![4 => 0..7_u8, 1 => Just(255)]);
    let late = || prop_oneof![3 => Just(NOW + seconds(86_400)), 1 => times()];
    (numbers, times(), option::weighted(0.3, times()), late(), late(), times(), devices()).prop_map(
        |(
            (generation, heals, healed_run),
            issued_at,
            acknowledged_at,
            idle,
            absolute,
            created_at,
            device,
        )| {
            // `start` decides the session's user and epoch.
            Session {
                user_id: Uuid::nil().into(),
                id: session_id(0),
                epoch: Epoch::FIRST,
                generation,
                issued_at,
                acknowledged_at,
                heals,
                healed_run,
                seed: SessionSeed::new([7; 32]),
                created_at,
                last_seen_at: NOW,
                idle_until: idle,
                absolute_until: absolute,
                device,
                ended: None,
            }
        },
    )
}

fn guards() -> impl Strategy<Value = AdvanceCondition> {
    prop_oneof![
        1 => Just(AdvanceCondition::Generation),
        1 => times().prop_map(AdvanceCondition::IssuedAt),
        3 => (durations(), durations()).prop_map(|(leeway, grace)| AdvanceCondition::OutsideReserve { leeway, grace }),
    ]
}

fn log_entries() -> impl Strategy<Value = LogEntry> {
    prop_oneof![
        1 => (ids(), times(), times()).prop_map(|(id, until, at)| LogEntry::Session(id, until, at)),
        4 => (1..6_u64, option::of(ids()), times(), times())
            .prop_map(|(epoch, except, until, at)| LogEntry::User(epoch, except, until, at)),
        1 => (ids(), times(), times()).prop_map(|(id, until, at)| LogEntry::Token(id, until, at)),
    ]
}

fn reasons() -> impl Strategy<Value = EndReason> {
    prop::sample::select(EndReason::ALL.to_vec())
}

fn steps() -> impl Strategy<Value = Step> {
    let advance = (generations(), generations(), guards(), times(), times(), devices()).prop_map(
        |(from, to, guard, now, idle_until, device)| Advance { from, to, guard, now, idle_until, device },
    );
    let heal = (generations(), times(), prop_oneof![4 => 0..3_u8, 1 => Just(255)], times(), times())
        .prop_map(|(generation, issued_at, heals, now, idle_until)| Heal {
            generation,
            issued_at,
            heals,
            now,
            idle_until,
        });
    let end = (reasons(), times(), times()).prop_map(|(reason, at, until)| End { reason, at, until });
    let raise = (option::of(ids()), reasons(), times(), times()).prop_map(|(except, reason, at, until)| {
        EpochRaise { except: except.map(session_id), reason, at, until }
    });
    let seen = prop::collection::vec((1..5_u128, 0..3_u32), 0..5);
    let tokens = (prop::collection::btree_set(1..9_u128, 0..4), times(), times(), 0..6_usize).prop_map(
        |(ids, at, until, limit)| Step::RevokeTokens { ids: ids.into_iter().collect(), at, until, limit },
    );
    prop_oneof![
        8 => (1..5_u128, advance).prop_map(|(id, step)| Step::Advance(id, step)),
        4 => (1..5_u128, heal).prop_map(|(id, step)| Step::Heal(id, step)),
        2 => (seen, times()).prop_map(|(seen, at)| Step::Acknowledge(seen, at)),
        1 => (1..5_u128, end).prop_map(|(id, end)| Step::End(id, end)),
        1 => raise.prop_map(Step::Raise),
        3 => log_entries().prop_map(Step::Log),
        1 => tokens,
        1 => (times(), 0..3_usize, 0..4_usize).prop_map(|(now, skip, limit)| Step::Live { now, skip, limit }),
        1 => times().prop_map(Step::PurgeEntries),
        1 => times().prop_map(Step::PurgeSessions),
    ]
}

/// Takes a step and describes the answer.
async fn answer<S: SessionStore + RevocationStore>(store: &S, user_id: &UserId, step: &Step) -> String {
    let key = |id: u128| UserSession { user_id: user_id.clone(), id: session_id(id) };
    match step {
        Step::Advance(id, step) => format!("{:?}", store.advance(&key(*id), step).await),
        Step::Heal(id, step) => format!("{:?}", store.heal(&key(*id), step).await),
        Step::Acknowledge(seen, at) => {
            let seen: Vec<_> = seen
                .iter()
                .map(|(id, generation)| Acknowledgement {
                    user_id: user_id.clone(),
                    session_id: session_id(*id),
                    generation: Generation::new(*generation),
                })
                .collect();
            format!("{:?}", store.acknowledge(&seen, *at).await)
        }
        Step::End(id, end) => format!("{:?}", store.end_session(&key(*id), end).await),
        Step::Raise(raise) => format!("{:?}", store.raise_epoch(user_id, raise).await),
        Step::Log(entry) => format!("{:?}", store.insert_entry(&entry.of(user_id)).await),
        Step::RevokeTokens { ids, at, until, limit } => {
            let ids = ids.iter().copied().map(token_id).collect();
            let tokens = TokenRevocation { ids, at: *at, until: *until, limit: *limit };
            format!("{:?}", store.revoke_tokens(user_id, &tokens).await)
        }
        Step::Live { now, skip, limit } => {
            let page = SessionPage::beyond(*skip, *limit);
            format!("{:?}", store.live_sessions(user_id, *now, page).await)
        }
        // Other cases' rows are in the same database, so the remaining rows are compared and not the number purged.
        Step::PurgeEntries(before) => format!("{:?}", store.purge_entries(*before, 100_000).await.map(drop)),
        Step::PurgeSessions(before) => {
            format!("{:?}", store.purge_sessions(*before, 100_000).await.map(drop))
        }
    }
}

/// Everything that a store knows about a user.
async fn state<S: SessionStore + RevocationStore>(store: &S, user_id: &UserId) -> String {
    let mut state = format!("{:?}", store.epoch(user_id).await.unwrap());
    for id in 1..=3 {
        let key = UserSession { user_id: user_id.clone(), id: session_id(id) };
        let found = store.session(&key).await.unwrap();
        state += &format!("\n{found:?} {:?}", found.as_ref().map(|found| *found.session.seed.as_bytes()));
    }
    // No entry of the user's has a smaller key than a session whose id has no bit set.
    let nobody = Target::Session { user_id: user_id.clone(), id: SessionId::new(Uuid::nil()) };
    let before = Entry { target: nobody, until: Timestamp::MIN, at: Timestamp::MIN };
    for since in [Timestamp::MIN, Timestamp::from_millis(1)] {
        let mut entries = store.entries(since, Some(&before), 30).await.unwrap();
        entries.retain(|entry| entry.user_id() == Some(user_id));
        state += &format!("\n{entries:?}");
    }
    state
}

/// Two stores in which a new user has these sessions, all of the same epoch.
async fn start<S: SessionStore + RevocationStore>(
    store: &S,
    mut rows: Vec<Session>,
    epoch: u64,
) -> (MemoryStore, UserId) {
    static USERS: AtomicU64 = AtomicU64::new(0);
    let user_id = UserId::from(Uuid::from_u128(USERS.fetch_add(1, Ordering::Relaxed).into()));
    let memory = MemoryStore::new();
    if epoch > 0 {
        let entry = LogEntry::User(epoch, None, Timestamp::MAX, NOW).of(&user_id);
        store.insert_entry(&entry).await.unwrap();
        memory.insert_entry(&entry).await.unwrap();
    }
    for (id, row) in (1..).zip(&mut rows) {
        row.user_id = user_id.clone();
        row.id = session_id(id);
        row.epoch = Epoch::new(epoch);
        let inserted = store.insert_session(row).await.unwrap();
        assert_eq!(inserted, memory.insert_session(row).await.unwrap());
        assert_eq!(inserted, SessionInserted::Yes);
    }
    (memory, user_id)
}

fn run<S, T: std::fmt::Debug>(
    open: impl AsyncFnOnce() -> S,
    cases: u32,
    strategy: impl Strategy<Value = T>,
    test: impl AsyncFn(&S, T) -> Result<(), TestCaseError>,
) {
    let runtime = Runtime::new().unwrap();
    let store = runtime.block_on(open());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&strategy, |case| runtime.block_on(test(&store, case)));
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// Random steps on a user's sessions and log give the same answers as on the reference, and leave the same data.
///
/// ```no_run
/// use countersign_core::store::MemoryStore;
/// use countersign_testkit::agreement;
///
/// // Each check opens the store many times and takes seconds: it is a test of its own.
/// agreement::random_steps_do_the_same_as_in_the_reference(async || MemoryStore::new());
/// agreement::advance_and_heal_are_done_exactly_when_they_apply(async || MemoryStore::new());
/// ```
///
/// # Panics
/// With the smallest case in which they do not.
pub fn random_steps_do_the_same_as_in_the_reference<S>(open: impl AsyncFnOnce() -> S)
where
    S: SessionStore + RevocationStore,
{
    let strategy =
        (prop::collection::vec(sessions(), 1..=3), 0..3_u64, prop::collection::vec(steps(), 1..12));
    run(open, 400, strategy, async |store: &S, (rows, epoch, steps)| {
        let (memory, user_id) = start(store, rows, epoch).await;
        for step in &steps {
            let expected = answer(&memory, &user_id, step).await;
            prop_assert_eq!(&answer(store, &user_id, step).await, &expected, "{:?}", step);
            prop_assert_eq!(state(store, &user_id).await, state(&memory, &user_id).await, "{:?}", step);
        }
        Ok(())
    });
}

/// A step that `applies` to some row of the case more often than a random one does.
fn fitting_steps() -> impl Strategy<Value = (Session, u64, Vec<LogEntry>, Advance, Heal)> {
    (sessions(), 0..3_u64, prop::collection::vec(log_entries(), 0..3), guards(), times(), devices(), 0..16_u8)
        .prop_map(|(row, epoch, log, guard, now, device, wrong)| {
            let off = |bit: u8| wrong == bit;
            let from = if off(1) { row.generation.next() } else { row.generation };
            let guard = match guard {
                AdvanceCondition::IssuedAt(_) if !off(2) => AdvanceCondition::IssuedAt(row.issued_at),
                guard => guard,
            };
            let heals = if off(3) { row.heals.wrapping_add(1) } else { row.heals };
            let heal_from = if off(4) { row.issued_at + Duration::from_millis(1) } else { row.issued_at };
            let idle_until = now + seconds(100);
            let advance = Advance { from, to: from.next(), guard, now, idle_until, device };
            let heal = Heal { generation: from, issued_at: heal_from, heals, now, idle_until };
            (row, epoch, log, advance, heal)
        })
}

/// The store takes an [`Advance`] or [`Heal`] exactly when it applies to the row and the log as they are.
///
/// # Panics
/// With the smallest case in which the store does not.
pub fn advance_and_heal_are_done_exactly_when_they_apply<S>(open: impl AsyncFnOnce() -> S)
where
    S: SessionStore + RevocationStore,
{
    let applied = AtomicU64::new(0);
    run(open, 400, fitting_steps(), async |store: &S, (row, epoch, log, advance, heal)| {
        let (memory, user_id) = start(store, vec![row.clone(), row], epoch).await;
        for entry in &log {
            store.insert_entry(&entry.of(&user_id)).await.unwrap();
            memory.insert_entry(&entry.of(&user_id)).await.unwrap();
        }
        for step in [Step::Advance(1, advance), Step::Heal(2, heal)] {
            let id = if matches!(step, Step::Advance(..)) { 1 } else { 2 };
            let key = UserSession { user_id: user_id.clone(), id: session_id(id) };
            let found = store.session(&key).await.unwrap().unwrap();
            let applies = match &step {
                Step::Advance(_, step) => step.applies(&found.session, found.log),
                Step::Heal(_, step) => step.applies(&found.session, found.log),
                _ => false,
            };
            applied.fetch_add(applies.into(), Ordering::Relaxed);
            let done = match &step {
                Step::Advance(_, step) => store.advance(&key, step).await.unwrap().is_some(),
                Step::Heal(_, step) => store.heal(&key, step).await.unwrap(),
                _ => false,
            };
            prop_assert_eq!(done, applies, "{:?}", found);
            answer(&memory, &user_id, &step).await;
            prop_assert_eq!(state(store, &user_id).await, state(&memory, &user_id).await);
        }
        Ok(())
    });
    let applied = applied.into_inner();
    assert!(applied > 50 && applied < 750, "{applied} of 800 steps applied: the cases say little");
}

fn policies() -> impl Strategy<Value = SessionPolicy> {
    (prop::sample::select(vec![0_u64, 10, 30]), prop::sample::select(vec![0_u64, 10]), any::<bool>())
        .prop_map(|(grace, leeway, healing)| SessionPolicy {
            grace: seconds(grace),
            leeway: seconds(leeway),
            healing,
            ..SessionPolicy::default()
        })
}

/// The store does what [`decide`] asks for. If the row changed in between and the store does it nevertheless,
/// [`decide`] would still ask for it.
///
/// # Panics
/// With the smallest case in which the store does not.
pub fn what_decide_asks_for_is_done_and_what_is_done_late_is_what_decide_would_still_ask_for<S>(
    open: impl AsyncFnOnce() -> S,
) where
    S: SessionStore + RevocationStore,
{
    let strategy = (
        (sessions(), 0..3_u64, prop::collection::vec(log_entries(), 0..2)),
        (generations(), any::<bool>(), devices()),
        times(),
        policies(),
        option::of(steps()),
    );
    let (asked, late) = (AtomicU64::new(0), AtomicU64::new(0));
    run(
        open,
        600,
        strategy,
        async |store: &S,
               ((row, epoch, log), (generation, access_revoked, device), now, policy, meanwhile)| {
            // The generation is often the current one or the one before, as clients present them.
            let generation = if generation == Generation::new(2) { row.generation } else { generation };
            let (_, user_id) = start(store, vec![row], epoch).await;
            for entry in &log {
                store.insert_entry(&entry.of(&user_id)).await.unwrap();
            }
            let key = UserSession { user_id: user_id.clone(), id: session_id(1) };
            let presented = Presented { generation, device };
            let decision = |found: &FoundSession| {
                let circumstances = Circumstances {
                    ended_in_log: found.log.ended,
                    epoch_in_log: found.log.epoch,
                    user_enabled: true,
                    access_revoked,
                };
                decide(&found.session, &circumstances, &presented, now, &policy)
            };
            let decided = decision(&store.session(&key).await.unwrap().unwrap());
            if let Some(step) = &meanwhile {
                answer(store, &user_id, step).await;
            }
            let Some(then) = store.session(&key).await.unwrap() else { return Ok(()) };
            let done = match &decided {
                Decision::Advance(step) => store.advance(&key, step).await.unwrap().is_some(),
                Decision::Heal(step) => store.heal(&key, step).await.unwrap(),
                _ => return Ok(()),
            };
            asked.fetch_add(1, Ordering::Relaxed);
            if meanwhile.is_none() {
                prop_assert!(done, "decided but not done: {:?}", decided);
            }
            if done {
                late.fetch_add(meanwhile.is_some().into(), Ordering::Relaxed);
                prop_assert_eq!(&decision(&then), &decided, "done although the row is now {:?}", then);
            }
            Ok(())
        },
    );
    let (asked, late) = (asked.into_inner(), late.into_inner());
    assert!(asked > 100 && late > 20, "{asked} decisions to write, {late} done late: the cases say little");
}
