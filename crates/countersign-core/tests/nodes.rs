//! Nodes that disagree about the time, read from replicas that lag, or count sessions.

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use countersign_core::flow::{
    Background, BeginError, Check, CheckError, Pair, Presentation, RefreshError, purge,
};
use countersign_core::model::{
    Acknowledgement, Advance, AtLimit, Attempts, Device, EndReason, Entry, Event, GraceFor, Heal, KeyPurpose,
    Outcome, Refused, Session, SessionPolicy, ThrottlePolicy, UserSession,
};
use countersign_core::store::*;
use countersign_jwt::{Clock as _, Epoch, Timestamp, UserId};
use countersign_testkit::{BedConfig, FixedClock, Instrumented, Point, SeededRandom, TestBed};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn ada() -> UserId {
    UserId::new("ada").expect("a user id")
}

fn device(agent: &str) -> Device {
    Device::new(Some(agent), None)
}

fn key(pair: &Pair) -> UserSession {
    UserSession { user_id: pair.user_id.clone(), id: pair.session.id }
}

/// A replicated engine: what is written to the primary is read from a replica, which may lag behind.
#[derive(Debug)]
struct Replicated {
    primary: Arc<MemoryStore>,
    replica: Arc<dyn RevocationStore>,
    lags: AtomicBool,
}

impl Replicated {
    fn new() -> Arc<Self> {
        let (primary, replica) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
        Arc::new(Self { primary, replica, lags: false.into() })
    }

    async fn catch_up(&self) -> Result<(), StoreError> {
        for entry in self.primary.entries(Timestamp::MIN, None, 10_000).await? {
            self.replica.insert_entry(&entry).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl RevocationStore for Replicated {
    fn is_one_copy(&self) -> bool {
        false
    }
    fn changes(&self) -> Option<Changes> {
        self.primary.changes()
    }
    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }
    async fn epoch(&self, user_id: &UserId) -> Result<Epoch, StoreError> {
        self.primary.epoch(user_id).await
    }
    async fn epoch_raised_at(&self, user_id: &UserId) -> Result<Option<Timestamp>, StoreError> {
        self.primary.epoch_raised_at(user_id).await
    }
    async fn raise_epoch(&self, user_id: &UserId, raise: &EpochRaise) -> Result<Entry, StoreError> {
        self.primary.raise_epoch(user_id, raise).await
    }
    async fn revoke_tokens(
        &self,
        user_id: &UserId,
        tokens: &TokenRevocation,
    ) -> Result<TokensRevoked, StoreError> {
        self.primary.revoke_tokens(user_id, tokens).await
    }
    async fn insert_entry(&self, entry: &Entry) -> Result<(), StoreError> {
        self.primary.insert_entry(entry).await
    }
    async fn entries(
        &self,
        since: Timestamp,
        after: Option<&Entry>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        if !self.lags.load(Ordering::Relaxed) {
            self.catch_up().await?;
        }
        self.replica.entries(since, after, limit).await
    }
    async fn purge_entries(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.primary.purge_entries(before, limit).await
    }
}

#[async_trait]
impl SessionStore for Replicated {
    async fn insert_session(&self, session: &Session) -> Result<SessionInserted, StoreError> {
        self.primary.insert_session(session).await
    }
    async fn session(&self, key: &UserSession) -> Result<Option<FoundSession>, StoreError> {
        self.primary.session(key).await
    }
    async fn advance(&self, key: &UserSession, step: &Advance) -> Result<Option<Session>, StoreError> {
        self.primary.advance(key, step).await
    }
    async fn heal(&self, key: &UserSession, step: &Heal) -> Result<bool, StoreError> {
        self.primary.heal(key, step).await
    }
    async fn acknowledge(&self, seen: &[Acknowledgement], at: Timestamp) -> Result<(), StoreError> {
        self.primary.acknowledge(seen, at).await
    }
    async fn end_session(&self, key: &UserSession, end: &End) -> Result<SessionEnded, StoreError> {
        self.primary.end_session(key, end).await
    }
    async fn live_sessions(
        &self,
        user_id: &UserId,
        now: Timestamp,
        page: SessionPage,
    ) -> Result<Vec<Session>, StoreError> {
        self.primary.live_sessions(user_id, now, page).await
    }
    async fn purge_sessions(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.primary.purge_sessions(before, limit).await
    }
}

#[async_trait]
impl ThrottleStore for Replicated {
    async fn begin_attempt(
        &self,
        key: &str,
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<Result<(), Refused>, StoreError> {
        self.primary.begin_attempt(key, now, policy).await
    }
    async fn finish_attempt(
        &self,
        key: &str,
        outcome: Outcome,
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<(), StoreError> {
        self.primary.finish_attempt(key, outcome, now, policy).await
    }
    async fn attempts(&self, key: &str) -> Result<Option<Attempts>, StoreError> {
        self.primary.attempts(key).await
    }
    async fn purge_attempts(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.primary.purge_attempts(before, limit).await
    }
    async fn thin_attempts(&self, keys: Range<&str>, keep: u64, limit: usize) -> Result<u64, StoreError> {
        self.primary.thin_attempts(keys, keep, limit).await
    }
}

async fn end_all(node: &TestBed) {
    node.sessions.end_all(ada(), None, EndReason::AllEnded).await.expect("the store answers");
}

async fn on_replicas() -> (Arc<Replicated>, TestBed, TestBed) {
    let log = Replicated::new();
    let stores = Stores::new(log.clone(), Arc::new(MemoryStore::new()));
    let one = TestBed::over(stores).await;
    let other = one.another_node().await;
    (log, one, other)
}

#[tokio::test]
async fn a_replica_that_lags_makes_the_view_old_and_never_wrong() {
    let (log, one, other) = on_replicas().await;
    let pair = one.begin(&ada(), device("browser")).await;
    assert!(other.authenticate(&pair.access_token).await.is_ok());

    log.lags.store(true, Ordering::Relaxed);
    end_all(&one).await;
    for _ in 0..5 {
        one.clock.advance(secs(1));
        let polled = other.sessions.view().poll().await;
        let error = polled.expect_err("its own heartbeat is not there");
        assert_eq!(error.to_string(), "the replicated store could not show what was written before");
    }
    one.clock.advance(Duration::from_millis(1));
    let answer = other.authenticate(&pair.access_token).await;
    assert!(matches!(answer, Err(CheckError::ViewTooOld(_))), "{answer:?}");

    log.lags.store(false, Ordering::Relaxed);
    let answer = other.authenticate(&pair.access_token).await;
    assert!(matches!(answer, Err(CheckError::Revoked(_))), "{answer:?}");
}

#[tokio::test]
async fn a_heartbeat_of_before_a_clock_was_set_back_proves_nothing() {
    let (log, one, other) = on_replicas().await;
    other.sessions.view().poll().await.expect("a good poll");
    log.lags.store(true, Ordering::Relaxed);
    one.clock.set(FixedClock::START - secs(3_600));
    assert!(
        other.sessions.view().poll().await.is_err(),
        "the old heartbeat has a later time, but is an old one"
    );
    log.lags.store(false, Ordering::Relaxed);
    other.sessions.view().poll().await.expect("it reads its own heartbeat again");
    let pair = one.begin(&ada(), device("browser")).await;
    assert!(other.authenticate(&pair.access_token).await.is_ok());
    end_all(&one).await;
    other.sessions.view().poll().await.expect("a good poll");
    assert!(other.authenticate(&pair.access_token).await.is_err());
}

#[tokio::test]
async fn one_copy_needs_no_heartbeat() {
    let watched = Instrumented::new(MemoryStore::new());
    let bed = TestBed::over(watched.stores()).await;
    for _ in 0..3 {
        bed.clock.advance(secs(1));
        bed.sessions.keys().poll().await.expect("the store answers");
    }
    assert_eq!(watched.calls("insert_entry"), 0);
}

#[tokio::test]
async fn what_is_pushed_is_known_at_once_and_makes_no_view_younger() {
    let (log, one, other) = on_replicas().await;
    let pair = one.begin(&ada(), device("browser")).await;
    one.clock.advance(secs(4));
    end_all(&one).await;
    assert!(other.authenticate(&pair.access_token).await.is_ok(), "nobody has told yet");
    let age = other.sessions.view().age();
    other.sessions.view().read_pushed().await.expect("the store answers");
    assert!(other.authenticate(&pair.access_token).await.is_err());
    assert_eq!(other.sessions.view().age(), age);
    let stats = other.sessions.view().stats();
    assert_eq!((stats.entries, stats.age), (1, age));
    drop(log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_the_store_tells_of_is_read_without_waiting_for_the_poll() {
    let one = TestBed::over(MemoryStore::new()).await;
    let other = one.another_node().await;
    let _tasks = Background::start(&Handle::current(), &other.sessions, &other.stores);
    for _ in 0..20 {
        let pair = one.begin(&ada(), device("browser")).await;
        one.sessions.end(key(&pair), EndReason::LoggedOut).await.expect("the store answers");
        let refused = async {
            while other.authenticate(&pair.access_token).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        // The clock stands still, so no poll is due: only the push can tell.
        tokio::time::timeout(secs(30), refused).await.expect("the push arrives");
    }
}

#[tokio::test]
async fn sec_208_a_node_whose_clock_is_off_goes_by_the_stores_time() {
    let watched = Instrumented::new(MemoryStore::new());
    let time = Arc::new(FixedClock::default());
    watched.set_time(time.clone());
    for (case, set, is_near) in [
        ("5 minutes ahead", FixedClock::START + secs(300), false),
        ("5 minutes behind", FixedClock::START - secs(300), false),
        ("an hour behind", FixedClock::START - secs(3_600), false),
        ("in 2038", Timestamp::from_secs(1 << 31), false),
        ("at the end of time", Timestamp::MAX, false),
        ("4 seconds ahead", FixedClock::START + secs(4), true),
        ("right", FixedClock::START, true),
    ] {
        let clock = Arc::new(FixedClock::new(set));
        let config = BedConfig {
            random: Arc::new(SeededRandom::new(set.as_millis().unsigned_abs())),
            ..BedConfig::default()
        };
        let node = TestBed::at(watched.stores(), clock, config).await;
        assert_eq!(node.sessions.clock().now(), time.now(), "{case}");
        assert_eq!(node.sessions.clock_is_near(), is_near, "{case}");
        let pair = node.begin(&ada(), device("browser")).await;
        assert!(node.authenticate(&pair.access_token).await.is_ok(), "{case}");
        assert_eq!(node.row(&pair).await.session.created_at, time.now(), "{case}");
    }
}

async fn capped(limit: u32, at_limit: AtLimit) -> TestBed {
    let policy = SessionPolicy {
        max_sessions: NonZeroU32::new(limit).expect("not zero"),
        at_limit,
        ..SessionPolicy::default()
    };
    TestBed::with(MemoryStore::new(), BedConfig { policy, ..BedConfig::default() }).await
}

async fn begin(bed: &TestBed) -> Result<Pair, BeginError> {
    let epoch = bed.sessions.epoch(&ada()).await.expect("the store answers");
    bed.sessions.begin(ada(), epoch, Presentation::Explicit, device("browser")).await
}

#[tokio::test]
async fn sec_091_one_login_too_many_ends_the_oldest_session() {
    let bed = capped(3, AtLimit::EndOldest).await;
    let mut pairs = Vec::new();
    for _ in 0..5 {
        bed.clock.advance(secs(1));
        pairs.push(begin(&bed).await.expect("a session begins"));
    }
    let bob = bed.begin(&UserId::new("bob").expect("a user id"), device("browser")).await;
    let live: Vec<_> = bed.sessions.list(&ada(), SessionPage::first(1_000)).await.expect("the store answers");
    let newest: Vec<_> = pairs.iter().rev().take(3).map(|pair| pair.session.id).collect();
    assert_eq!(live.iter().map(|session| session.id).collect::<Vec<_>>(), newest);
    for (number, pair) in pairs.iter().enumerate() {
        assert_eq!(bed.authenticate(&pair.access_token).await.is_ok(), number >= 2, "session {number}");
    }
    assert!(bed.authenticate(&bob.access_token).await.is_ok(), "another user's is not counted");
    let evicted: Vec<_> = bed
        .events
        .take()
        .into_iter()
        .filter(|event| matches!(event, Event::SessionEnded { reason: EndReason::Evicted, .. }))
        .collect();
    assert_eq!(evicted.len(), 2);
}

#[tokio::test]
async fn sec_091_one_login_too_many_is_refused_where_that_is_asked_for() {
    let bed = capped(2, AtLimit::Refuse).await;
    let first = begin(&bed).await.expect("a session begins");
    bed.clock.advance(secs(1));
    let second = begin(&bed).await.expect("a session begins");
    bed.clock.advance(secs(1));
    let refused = begin(&bed).await;
    assert!(matches!(refused, Err(BeginError::TooManySessions)), "{refused:?}");
    for pair in [&first, &second] {
        assert!(bed.authenticate(&pair.access_token).await.is_ok());
    }
    bed.sessions.end(key(&first), EndReason::LoggedOut).await.expect("the store answers");
    begin(&bed).await.expect("there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_091_logins_at_the_same_moment_keep_the_limit_together() {
    for at_limit in [AtLimit::EndOldest, AtLimit::Refuse] {
        let bed = capped(3, at_limit).await;
        let mut logins = JoinSet::new();
        for _ in 0..32 {
            let bed = bed.clone();
            logins.spawn(async move { begin(&bed).await });
        }
        let answers = logins.join_all().await;
        let live = bed.sessions.list(&ada(), SessionPage::first(1_000)).await.expect("the store answers");
        assert!(live.len() <= 3, "{at_limit:?}: {} sessions", live.len());
        for pair in answers.into_iter().flatten() {
            let lives = live.iter().any(|session| session.id == pair.session.id);
            assert_eq!(bed.authenticate(&pair.access_token).await.is_ok(), lives, "{at_limit:?}");
        }
    }
}

#[tokio::test]
async fn sec_182_with_grace_for_one_client_a_thief_inside_the_window_ends_the_session() {
    let policy = SessionPolicy { grace_for: GraceFor::SameClient, ..SessionPolicy::default() };
    let bed = TestBed::with(MemoryStore::new(), BedConfig { policy, ..BedConfig::default() }).await;
    let first = bed.begin(&ada(), device("browser")).await;
    bed.clock.advance(secs(60));
    let second = bed.refresh(&first.refresh_token, device("browser")).await.expect("a refresh").pair;
    bed.clock.advance(secs(5));
    let again = bed.refresh(&first.refresh_token, device("browser")).await.expect("a second tab").pair;
    assert_eq!(again.refresh_token, second.refresh_token);
    let _before = bed.events.take();
    let answer = bed.refresh(&first.refresh_token, device("thief")).await;
    assert!(matches!(answer, Err(RefreshError::Replayed)), "{answer:?}");
    assert!(matches!(bed.events.take_alarms()[..], [Event::RefreshReused { .. }]));
    assert!(bed.refresh(&second.refresh_token, device("browser")).await.is_err());
    assert!(bed.authenticate(&second.access_token).await.is_err());
}

#[tokio::test]
async fn sec_083_a_crash_while_an_account_is_disabled_leaves_nobody_signed_in() {
    // Accounts in one engine, sessions in another: no transaction spans both.
    let (accounts, sessions) = (Instrumented::new(MemoryStore::new()), Instrumented::new(MemoryStore::new()));
    let stores = accounts.stores().with_sessions_of(&sessions.stores());
    let bed = TestBed::over(stores).await;
    let signed_in = bed.register("ada").await.expect("an account");
    let id = signed_in.user.id.clone();

    // The write to the account fails: the old sessions are over all the same.
    accounts.fail_once_after(1);
    assert!(bed.accounts.disable(&id).await.is_err());
    assert!(bed.authenticate(&signed_in.pair.access_token).await.is_err());

    // Whoever logs in between the first raise and the write is out after the second.
    let mut gate = accounts.hold(Point::Before("set_disabled"));
    let disabling = tokio::spawn({
        let (accounts, id) = (bed.accounts.clone(), id.clone());
        async move { accounts.disable(&id).await }
    });
    gate.arrived().await;
    let between = bed.login("ada", TestBed::PASSWORD).await.expect("not disabled yet");
    assert!(bed.authenticate(&between.pair.access_token).await.is_ok());
    gate.open();
    assert!(disabling.await.expect("no panic").expect("the stores answer"));
    assert!(bed.authenticate(&between.pair.access_token).await.is_err());
    assert!(bed.login("ada", TestBed::PASSWORD).await.is_err());
}

#[tokio::test]
async fn sec_088_a_purge_while_a_node_is_cut_off_lets_no_ended_token_in_again() {
    const DAY: u64 = 86_400;
    // Within the life of the access token, after it, after the hour for which expired entries are kept, and so on.
    for away in [60, 899, 1_000, 4_000, 2 * 3_600, DAY, 13 * DAY, 31 * DAY] {
        let here = TestBed::over(MemoryStore::new()).await;
        let line = Instrumented::new(here.stores.clone());
        let there = TestBed::at(line.stores(), here.clock.clone(), here.config().clone()).await;
        let bob = UserId::new("bob").expect("a user id");
        let [left, all] = [here.begin(&ada(), device("one")).await, here.begin(&bob, device("two")).await];
        let mut stays = here.begin(&ada(), device("three")).await;
        let ended = [&left, &all];
        for pair in [&left, &all, &stays] {
            assert!(there.authenticate(&pair.access_token).await.is_ok());
        }

        line.fail(true);
        here.sessions.end(key(&left), EndReason::LoggedOut).await.expect("the store answers");
        here.sessions.end_all(bob, None, EndReason::AllEnded).await.expect("the store answers");
        let policy = here.sessions.policy().clone();
        let mut gone = 0;
        while gone < away {
            let pause = (away - gone).min((away / 50).max(10));
            here.clock.advance(secs(pause));
            gone += pause;
            purge(&here.stores, &*here.clock, policy.leeway).await.expect("the store answers");
            assert!(there.sessions.keys().poll().await.is_err());
            for pair in ended {
                assert!(there.authenticate(&pair.access_token).await.is_err(), "{gone} of {away} s");
                let refreshed = there.refresh(&pair.refresh_token, device("thief")).await;
                assert!(refreshed.is_err(), "{gone} of {away} s: {refreshed:?}");
            }
            if let Ok(refreshed) = here.refresh(&stays.refresh_token, device("three")).await {
                stays = refreshed.pair;
            }
        }

        line.fail(false);
        for pair in ended {
            assert!(there.authenticate(&pair.access_token).await.is_err(), "back after {away} s");
            let refreshed = there.refresh(&pair.refresh_token, device("thief")).await;
            assert!(refreshed.is_err(), "back after {away} s: {refreshed:?}");
        }
        let lives = Duration::from_secs(away) < policy.absolute;
        let refreshed = there.refresh(&stays.refresh_token, device("three")).await;
        assert_eq!(refreshed.is_ok(), lives, "back after {away} s: {refreshed:?}");
        if let Ok(refreshed) = refreshed {
            assert!(there.authenticate(&refreshed.pair.access_token).await.is_ok(), "back after {away} s");
        }
    }
}

/// What may happen to the clock of one machine.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ahead(u64),
    Back(u64),
    /// Its monotonic clock stands still, the world goes on.
    Suspended(u64),
}

impl Step {
    fn happen(self, machine: &FixedClock, world: &[&FixedClock]) {
        match self {
            Self::Ahead(by) => machine.set(machine.now() + secs(by)),
            Self::Back(by) => machine.set(machine.now() - secs(by)),
            Self::Suspended(by) => {
                machine.set(machine.now() + secs(by));
                world.iter().for_each(|clock| clock.advance(secs(by)));
            }
        }
    }
}

#[tokio::test]
async fn sec_208_a_step_of_one_machines_clock_breaks_no_bound_and_ends_no_session() {
    let steps = [Step::Ahead(60), Step::Ahead(20), Step::Back(60), Step::Back(20), Step::Suspended(600)];
    for step in steps {
        for is_writer in [true, false] {
            // From one second to the next of the polls.
            for after_a_poll in [true, false] {
                step_of_a_clock(step, is_writer, after_a_poll).await;
            }
        }
    }
}

async fn step_of_a_clock(step: Step, is_writer: bool, after_a_poll: bool) {
    let case = format!("{step:?}, the writer's: {is_writer}, after a poll: {after_a_poll}");
    let store_time = Arc::new(FixedClock::default());
    let watched = Instrumented::new(MemoryStore::new());
    watched.set_time(store_time.clone());
    let clocks = [Arc::new(FixedClock::default()), Arc::new(FixedClock::default())];
    let [writer, reader] = clocks.clone();
    let writer = TestBed::at(watched.stores(), writer, BedConfig::default()).await;
    let reader = TestBed::at(watched.stores(), reader, BedConfig::default()).await;
    let tick = async || {
        for clock in clocks.iter().chain([&store_time]) {
            clock.advance(secs(1));
        }
        for node in [&writer, &reader] {
            node.sessions.keys().poll().await.expect("the store answers");
        }
    };
    let leaves = writer.begin(&ada(), device("leaves")).await;
    let stays = writer.begin(&ada(), device("stays")).await;
    for _ in 0..20 {
        tick().await;
    }
    let [writers, readers] = &clocks;
    let (stepped, other) = if is_writer { (writers, readers) } else { (readers, writers) };
    step.happen(stepped, &[other, &store_time]);
    if after_a_poll {
        tick().await;
    }
    writer.sessions.end(key(&leaves), EndReason::LoggedOut).await.expect("the store answers");
    // One tab refreshes, and shows that the reply has arrived.
    let refreshed = writer.refresh(&stays.refresh_token, device("stays")).await.expect("a refresh").pair;
    writer.authenticate(&refreshed.access_token).await.expect("its access token");
    writer.sessions.verification().flush_acknowledgements().await.expect("the store answers");
    let bound = reader.sessions.policy().revocation_bound;
    let mut waited = Duration::ZERO;
    while reader.authenticate(&leaves.access_token).await.is_ok() {
        assert!(waited < bound, "{case}: taken for longer than the bound");
        tick().await;
        waited += secs(1);
    }
    // The other tab had read the token before. It is no thief.
    tick().await;
    let tab = reader.refresh(&stays.refresh_token, device("stays")).await;
    assert!(
        tab.as_ref().is_ok_and(|tab| tab.pair.refresh_token == refreshed.refresh_token),
        "{case}: {tab:?}"
    );
}

#[tokio::test]
async fn sec_210_a_node_that_cannot_read_new_keys_does_not_say_that_their_tokens_are_none() {
    let here = TestBed::over(MemoryStore::new()).await;
    let line = Instrumented::new(here.stores.clone());
    let there = TestBed::at(line.stores(), here.clock.clone(), here.config().clone()).await;
    let before = here.begin(&ada(), device("before")).await;
    line.fail(true);
    for purpose in [KeyPurpose::Access, KeyPurpose::Refresh] {
        here.sessions.keys().rotate(purpose, None, false).await.expect("the store answers");
    }
    here.clock.advance(here.sessions.policy().revocation_bound + Duration::from_millis(1));
    here.sessions.keys().poll().await.expect("the store answers");
    let pair = here.begin(&ada(), device("browser")).await;
    for unknown in [&pair.access_token, &pair.refresh_token] {
        let ended = there.sessions.verification().verify(unknown, Check::ENDING).await;
        assert!(matches!(ended, Err(CheckError::ViewTooOld(_))), "{ended:?}");
    }
    let access = there.authenticate(&pair.access_token).await;
    assert!(matches!(access, Err(CheckError::ViewTooOld(_))), "{access:?}");
    let refresh =
        there.sessions.verification().verify(&pair.refresh_token, Check::REFRESH.even_if_revoked()).await;
    assert!(matches!(refresh, Err(CheckError::ViewTooOld(_))), "{refresh:?}");
    // What it knows is judged as ever.
    assert!(
        there
            .sessions
            .verification()
            .verify(&before.refresh_token, Check::REFRESH.even_if_revoked())
            .await
            .is_ok()
    );
    assert!(there.sessions.verification().verify(&before.access_token, Check::ENDING).await.is_ok());

    line.fail(false);
    let ended = there.sessions.verification().verify(&pair.refresh_token, Check::ENDING).await;
    assert!(ended.is_ok(), "its key is found now: {ended:?}");
    assert!(
        there
            .sessions
            .verification()
            .verify(&pair.refresh_token, Check::REFRESH.even_if_revoked())
            .await
            .is_ok(),
        "at once"
    );
    assert!(there.authenticate(&pair.access_token).await.is_ok());
    // With a view that is young an unknown key is nobody's.
    let config = BedConfig { random: Arc::new(SeededRandom::new(210)), ..BedConfig::default() };
    let stranger = TestBed::with(MemoryStore::new(), config).await;
    let stranger = stranger.begin(&ada(), device("stranger")).await;
    assert!(matches!(there.authenticate(&stranger.access_token).await, Err(CheckError::Invalid(_))));
    let refresh =
        there.sessions.verification().verify(&stranger.refresh_token, Check::REFRESH.even_if_revoked()).await;
    assert!(matches!(refresh, Err(CheckError::Invalid(_))), "{refresh:?}");
    let ended = there.sessions.verification().verify(&stranger.refresh_token, Check::ENDING).await;
    assert!(matches!(ended, Err(CheckError::Invalid(_))), "{ended:?}");
}
