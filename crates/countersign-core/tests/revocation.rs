//! Revocation through the real flow: what one node ends every node refuses, within the bound and whatever breaks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use countersign_core::flow::{
    AccessGrant, Background, BeginError, Check, CheckError, Keychain, PURGE_EVERY, Pair, Presentation,
    RevocationView, RevokeTokensError, Sessions, StoreClock, ViewTooOld, purge,
};
use countersign_core::model::{
    Device, EndReason, Entry, KeyPurpose, Refusal, RevokedBy, SessionPolicy, Target, TokenEpoch, UserSession,
};
use countersign_core::store::{
    Changes, EpochRaise, MemoryStore, RevocationStore, SessionEnded, SessionPage, StoreError, Stores,
    TokenRevocation, TokensRevoked,
};
use countersign_jwt::{
    Clock, Epoch, Issuer, KeyId, NewClaims, SessionId, Timestamp, TokenId, TokenType, UserId, VerifyError,
};
use countersign_testkit::{BedConfig, FixedClock, Instrumented, Point, SeededRandom, TestBed};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use uuid::Uuid;

const MILLISECOND: Duration = Duration::from_millis(1);
/// The default bound on a view's age.
const BOUND: Duration = secs(5);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a user id")
}

fn ada() -> UserId {
    user("ada")
}

fn device() -> Device {
    Device::new(Some("browser"), None)
}

fn key(pair: &Pair) -> UserSession {
    UserSession { user_id: pair.user_id.clone(), id: pair.session.id }
}

async fn bed() -> (Instrumented, TestBed) {
    let watched = Instrumented::new(MemoryStore::new());
    let bed = TestBed::over(watched.stores()).await;
    (watched, bed)
}

async fn signed_in() -> (Instrumented, TestBed, Pair) {
    let (watched, bed) = bed().await;
    let pair = bed.begin(&ada(), device()).await;
    (watched, bed, pair)
}

async fn log_out(bed: &TestBed, pair: &Pair) -> SessionEnded {
    bed.sessions.end(key(pair), EndReason::LoggedOut).await.expect("the store answers")
}

async fn accepted(bed: &TestBed, pair: &Pair) -> bool {
    match bed.authenticate(&pair.access_token).await {
        Ok(_) => true,
        Err(CheckError::Revoked(_)) => false,
        Err(error) => unreachable!("neither accepted nor revoked: {error}"),
    }
}

async fn write(bed: &TestBed, target: Target, at: Timestamp) {
    let entry = Entry { target, until: at + secs(3_600), at };
    bed.stores.revocations().insert_entry(&entry).await.expect("the store answers");
}

/// Issues access tokens with the bed's own key.
async fn issuer(bed: &TestBed) -> Issuer {
    let (random, secrets) = (SeededRandom::default(), TestBed::secrets());
    let keychain = Keychain::open(&**bed.stores.keys(), &secrets, &*bed.clock, &random).await;
    let keychain = keychain.expect("the keys open");
    Issuer::new(keychain.access.signing.clone())
        .with_issuer(format!("urn:uuid:{}", keychain.store_id.hyphenated()))
}

fn token_entry(id: TokenId) -> Target {
    Target::Token { user_id: ada(), id }
}

async fn access_id(bed: &TestBed, pair: &Pair) -> TokenId {
    bed.sessions
        .verification()
        .verify(&pair.access_token, Check::ENDING)
        .await
        .expect("a token of ours")
        .token_id()
}

#[tokio::test]
async fn sec_081_logout_ends_the_session_on_the_server_as_often_as_one_likes() {
    let (_, bed, pair) = signed_in().await;
    let other = bed.begin(&ada(), device()).await;
    assert_eq!(log_out(&bed, &pair).await, SessionEnded::Now);
    assert_eq!(log_out(&bed, &pair).await, SessionEnded::Before, "again");
    assert!(!accepted(&bed, &pair).await, "its access token");
    assert!(bed.refresh(&pair.refresh_token, device()).await.is_err(), "its refresh token");
    assert!(bed.sessions.verification().verify(&pair.refresh_token, Check::REFRESH).await.is_err());
    assert!(accepted(&bed, &other).await, "another session of the user");
    let unknown = UserSession { user_id: ada(), id: SessionId::new(Uuid::nil()) };
    let ended = bed.sessions.end(unknown, EndReason::LoggedOut).await.unwrap();
    assert_eq!(ended, SessionEnded::Unknown);
}

#[tokio::test]
async fn sec_081_logout_takes_an_expired_token_of_either_kind() {
    for access in [true, false] {
        let (_, bed, pair) = signed_in().await;
        bed.clock.advance(secs(3_600));
        let token = if access { &pair.access_token } else { &pair.refresh_token };
        if access {
            let refused = bed.authenticate(token).await;
            assert!(matches!(refused, Err(CheckError::Invalid(VerifyError::Expired))));
        }
        let claims = bed.sessions.verification().verify(token, Check::ENDING).await.unwrap();
        let key = UserSession { user_id: claims.subject().clone(), id: claims.session().unwrap().id };
        assert_eq!(bed.sessions.end(key, EndReason::LoggedOut).await.unwrap(), SessionEnded::Now);
        assert!(bed.refresh(&pair.refresh_token, device()).await.is_err());
    }
    let (_, bed, pair) = signed_in().await;
    let forged = format!("{}A", pair.access_token);
    assert!(bed.sessions.verification().verify(&forged, Check::ENDING).await.is_err(), "but it must be ours");
}

#[tokio::test]
async fn sec_082_sessions_are_listed_and_ended_one_by_one_or_all() {
    let (_, bed, first) = signed_in().await;
    let mut pairs = vec![first];
    for _ in 0..3 {
        bed.clock.advance(MILLISECOND);
        pairs.push(bed.begin(&ada(), device()).await);
    }
    let listed = async || {
        let sessions = bed.sessions.list(&ada(), SessionPage::first(1_000)).await.unwrap();
        sessions.into_iter().map(|session| session.id).collect::<Vec<_>>()
    };
    let ids: Vec<_> = pairs.iter().rev().map(|pair| pair.session.id).collect();
    assert_eq!(listed().await, ids, "newest first");
    log_out(&bed, &pairs[3]).await;
    assert_eq!(listed().await, ids[1..]);
    let current = pairs[0].session.id;
    bed.sessions.end_all(ada(), Some(current), EndReason::EndedByUser).await.unwrap();
    assert_eq!(listed().await, [current], "all but the current");
    assert!(accepted(&bed, &pairs[0]).await && !accepted(&bed, &pairs[1]).await);
    bed.sessions.end_all(ada(), None, EndReason::EndedByUser).await.unwrap();
    assert_eq!(listed().await, []);
    assert!(!accepted(&bed, &pairs[0]).await);
}

#[tokio::test]
async fn what_a_node_ends_it_refuses_at_once_and_asks_no_store() {
    let (watched, bed, pair) = signed_in().await;
    let (other, third) = (bed.begin(&ada(), device()).await, bed.begin(&ada(), device()).await);
    log_out(&bed, &pair).await;
    bed.sessions.revoke_tokens(ada(), vec![access_id(&bed, &other).await]).await.unwrap();
    watched.reset_calls();
    assert!(!accepted(&bed, &pair).await && !accepted(&bed, &other).await && accepted(&bed, &third).await);
    assert_eq!(watched.total_calls(), 0);
    bed.sessions.end_all(ada(), None, EndReason::AllEnded).await.unwrap();
    watched.reset_calls();
    assert!(!accepted(&bed, &third).await);
    assert_eq!(watched.total_calls(), 0);
}

#[tokio::test]
async fn sec_085_what_one_node_ends_the_other_refuses_after_its_poll_and_within_the_bound() {
    for polled in [true, false] {
        let (_, one, ended) = signed_in().await;
        let other = one.another_node().await;
        let revoked = one.begin(&ada(), device()).await;
        let (kept, all) = (one.begin(&user("bob"), device()).await, one.begin(&user("bob"), device()).await);
        for pair in [&ended, &revoked, &kept, &all] {
            assert!(accepted(&other, pair).await);
        }
        log_out(&one, &ended).await;
        one.sessions.revoke_tokens(ada(), vec![access_id(&one, &revoked).await]).await.unwrap();
        one.sessions.end_all(user("bob"), Some(kept.session.id), EndReason::AllEnded).await.unwrap();
        if polled {
            other.sessions.view().poll().await.unwrap();
        } else {
            // Nobody polls. The first request after the bound does.
            one.clock.advance(BOUND + MILLISECOND);
        }
        for (pair, lives) in [(&ended, false), (&revoked, false), (&kept, true), (&all, false)] {
            assert_eq!(accepted(&other, pair).await, lives, "polled: {polled}");
        }
    }
}

#[tokio::test]
async fn sec_086_another_text_with_the_same_id_is_revoked_with_it() {
    let (_, bed, pair) = signed_in().await;
    let issuer = issuer(&bed).await;
    let claims = bed.authenticate(&pair.access_token).await.unwrap();
    let now = bed.clock.now();
    let again = |name: &str| {
        let claims = NewClaims::new(TokenType::Access, ada(), claims.token_id(), now, now + secs(900))
            .with_session(pair.session)
            .with_claim(name, true)
            .unwrap();
        issuer.issue(&claims).unwrap()
    };
    let texts = [again("one"), again("another")];
    for text in &texts {
        assert_ne!(*text, pair.access_token);
        assert!(bed.authenticate(text).await.is_ok());
    }
    bed.sessions.revoke_tokens(ada(), vec![claims.token_id()]).await.unwrap();
    for text in texts.iter().chain([&pair.access_token]) {
        let refused = bed.authenticate(text).await;
        assert!(matches!(refused, Err(CheckError::Revoked(RevokedBy::Token))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_token_is_revoked_only_by_its_owner() {
    let (_, bed, pair) = signed_in().await;
    bed.sessions.revoke_tokens(user("mallory"), vec![access_id(&bed, &pair).await]).await.unwrap();
    assert!(accepted(&bed, &pair).await);
}

#[tokio::test]
async fn a_user_has_at_most_a_thousand_live_revoked_tokens() {
    let (_, bed, pair) = signed_in().await;
    let ids =
        |from: u128, count: u128| (from..from + count).map(|id| TokenId::new(Uuid::from_u128(id))).collect();
    for batch in 0..10 {
        bed.sessions.revoke_tokens(ada(), ids(batch * 100, 100)).await.unwrap();
    }
    bed.sessions.revoke_tokens(ada(), ids(0, 100)).await.unwrap();
    let repeated = vec![TokenId::new(Uuid::from_u128(7)); 100];
    bed.sessions.revoke_tokens(ada(), repeated).await.unwrap();
    let refused = bed.sessions.revoke_tokens(ada(), vec![access_id(&bed, &pair).await]).await;
    let Err(RevokeTokensError::TooMany { free_at }) = refused else { panic!("{refused:?}") };
    assert!(accepted(&bed, &pair).await, "nothing was revoked");
    bed.clock.set(free_at);
    bed.sessions.revoke_tokens(ada(), ids(5_000, 100)).await.unwrap();
}

#[tokio::test]
async fn a_refresh_token_of_an_ended_session_is_refused_after_its_log_entry_left_the_index() {
    let (_, bed, pair) = signed_in().await;
    assert!(bed.sessions.verification().verify(&pair.refresh_token, Check::REFRESH).await.is_ok());
    bed.sessions.end(key(&pair), EndReason::LoggedOut).await.unwrap();
    bed.clock.advance(bed.sessions.policy().revocation_horizon() + secs(3_700));
    bed.sessions.view().poll().await.unwrap();
    assert!(bed.sessions.view().index().is_empty());
    let answer = bed.sessions.verification().verify(&pair.refresh_token, Check::REFRESH).await;
    assert!(matches!(answer, Err(CheckError::Refused(Refusal::Ended))), "{answer:?}");
}

#[tokio::test]
async fn a_revoked_token_stays_refused_when_the_lifetime_is_shortened() {
    let long = SessionPolicy { access_lifetime: secs(12 * 3600), ..SessionPolicy::default() };
    let short = SessionPolicy { access_lifetime: secs(60), ..SessionPolicy::default() };
    let stores = Stores::from(MemoryStore::new());
    let before = TestBed::with(stores.clone(), BedConfig { policy: long, ..BedConfig::default() }).await;
    let pair = before.begin(&ada(), device()).await;
    let idle = before.begin(&ada(), device()).await;
    let after = TestBed::with(stores, BedConfig { policy: short, ..BedConfig::default() }).await;
    assert!(after.authenticate(&pair.access_token).await.is_ok());
    after.sessions.end(key(&pair), EndReason::LoggedOut).await.unwrap();
    // Until the log has forgotten the entry, and beyond the token's own expiry.
    for _ in 0..(13 * 60) {
        assert!(after.authenticate(&pair.access_token).await.is_err());
        after.clock.advance(secs(60));
    }
    let old = after.authenticate(&idle.access_token).await;
    assert!(old.is_err(), "nor does a token outlive the lifetime that holds now: {old:?}");
}

#[tokio::test]
async fn ending_a_session_that_the_store_has_lost_revokes_its_tokens() {
    let (_, bed, pair) = signed_in().await;
    // As after restoring a backup from before the login: same keys, no row.
    let lost = bed.another_node().await;
    bed.stores.sessions().purge_sessions(Timestamp::MAX, 10).await.unwrap();
    assert!(accepted(&lost, &pair).await);
    let token = lost.sessions.verification().verify(&pair.access_token, Check::ENDING).await.unwrap();
    assert!(lost.sessions.end_by_tokens(vec![token.clone()], EndReason::LoggedOut).await.unwrap());
    assert!(!accepted(&lost, &pair).await);
    lost.clock.advance(secs(31 * 86_400));
    assert!(!lost.sessions.end_by_tokens(vec![token], EndReason::LoggedOut).await.unwrap(), "long gone");
}

/// A log that takes two seconds for each page.
#[derive(Debug)]
struct SlowLog {
    inner: Arc<dyn RevocationStore>,
    clock: Arc<FixedClock>,
    /// After so many more pages the time of day is set back by a minute, and another process revokes this.
    set_back_after: Mutex<Option<(u32, Target)>>,
}

impl SlowLog {
    fn new(inner: &Arc<dyn RevocationStore>, clock: &Arc<FixedClock>) -> Arc<Self> {
        Arc::new(Self { inner: inner.clone(), clock: clock.clone(), set_back_after: Mutex::default() })
    }

    /// What is revoked after this page, if it is the one.
    fn set_back(&self) -> Option<Target> {
        let mut set_back_after = self.set_back_after.lock().expect("no panic");
        match set_back_after.take()? {
            (0, target) => Some(target),
            (pages, target) => {
                *set_back_after = Some((pages - 1, target));
                None
            }
        }
    }
}

#[async_trait]
impl RevocationStore for SlowLog {
    fn is_one_copy(&self) -> bool {
        true
    }
    fn changes(&self) -> Option<Changes> {
        None
    }
    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }
    async fn epoch(&self, user_id: &UserId) -> Result<Epoch, StoreError> {
        self.inner.epoch(user_id).await
    }
    async fn epoch_raised_at(&self, user_id: &UserId) -> Result<Option<Timestamp>, StoreError> {
        self.inner.epoch_raised_at(user_id).await
    }
    async fn raise_epoch(&self, user_id: &UserId, raise: &EpochRaise) -> Result<Entry, StoreError> {
        self.inner.raise_epoch(user_id, raise).await
    }
    async fn revoke_tokens(
        &self,
        user_id: &UserId,
        tokens: &TokenRevocation,
    ) -> Result<TokensRevoked, StoreError> {
        self.inner.revoke_tokens(user_id, tokens).await
    }
    async fn insert_entry(&self, entry: &Entry) -> Result<(), StoreError> {
        self.inner.insert_entry(entry).await
    }
    async fn entries(
        &self,
        since: Timestamp,
        after: Option<&Entry>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.clock.advance(secs(2));
        let page = self.inner.entries(since, after, limit).await?;
        if let Some(target) = self.set_back() {
            self.clock.set(self.clock.now() - secs(60));
            let at = self.clock.now();
            self.inner.insert_entry(&Entry { target, until: at + secs(900), at }).await?;
        }
        Ok(page)
    }
    async fn purge_entries(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.inner.purge_entries(before, limit).await
    }
}

/// A view of a log of 100,000 old entries that is read slowly, a minute after it was first read.
async fn slow_view(log: &Arc<SlowLog>) -> RevocationView {
    let SlowLog { inner, clock, .. } = &**log;
    for id in 0..100_000_u128 {
        let target = token_entry(TokenId::new(Uuid::from_u128(id)));
        let entry = Entry { target, until: clock.now() + secs(86_400), at: clock.now() - secs(60) };
        inner.insert_entry(&entry).await.expect("the store answers");
    }
    let store_clock = Arc::new(StoreClock::new(clock.clone()));
    let view = RevocationView::new(log.clone(), store_clock, Handle::current(), BOUND, Uuid::nil());
    view.poll().await.expect("the store answers");
    assert_eq!(view.index().len(), 100_000);
    clock.advance(RevocationView::FULL_READ_EVERY);
    view
}

fn late_session() -> Target {
    Target::Session { user_id: ada(), id: SessionId::new(Uuid::from_u128(1)) }
}

#[tokio::test]
async fn a_full_read_that_takes_long_does_not_make_the_view_old() {
    let clock = Arc::new(FixedClock::default());
    let inner: Arc<dyn RevocationStore> = Arc::new(MemoryStore::new());
    let view = slow_view(&SlowLog::new(&inner, &clock)).await;
    let entry = Entry { target: late_session(), until: clock.now() + secs(900), at: clock.now() };
    inner.insert_entry(&entry).await.unwrap();
    let began = clock.monotonic();
    view.poll().await.unwrap();
    assert!(clock.monotonic() - began > BOUND * 4, "the full read took long");
    assert!(view.is_fresh(), "{:?}", view.age());
    assert_eq!(view.index().len(), 100_001);
}

#[tokio::test]
async fn a_clock_that_is_set_back_while_the_whole_log_is_read_hides_nothing() {
    let clock = Arc::new(FixedClock::default());
    let inner: Arc<dyn RevocationStore> = Arc::new(MemoryStore::new());
    let log = SlowLog::new(&inner, &clock);
    let view = slow_view(&log).await;
    // While the last of 21 pages is read, and new entries were read between each two. The log is read in the order of its
    // keys, and sessions come before tokens: the read has passed the place.
    *log.set_back_after.lock().unwrap() = Some((40, late_session()));
    view.poll().await.unwrap();
    assert!(log.set_back_after.lock().unwrap().is_none(), "the clock was set back");
    assert_eq!(view.index().len(), 100_001, "{:?} old", view.age());
}

#[tokio::test]
async fn sec_087_while_the_log_cannot_be_read_nothing_is_accepted_beyond_the_bound() {
    let (watched, one, pair) = signed_in().await;
    let other = one.another_node().await;
    watched.fail(true);
    other.clock.advance(BOUND);
    assert!(accepted(&other, &pair).await, "within the bound the view decides");
    other.clock.advance(MILLISECOND);
    for _ in 0..3 {
        let answer = other.authenticate(&pair.access_token).await;
        assert!(matches!(answer, Err(CheckError::ViewTooOld(ViewTooOld))), "{answer:?}");
        let answer = other.sessions.verification().verify(&pair.refresh_token, Check::REFRESH).await;
        assert!(matches!(answer, Err(CheckError::Store(_))), "{answer:?}");
    }
    assert!(other.sessions.end(key(&pair), EndReason::LoggedOut).await.is_err(), "nor is success pretended");
    assert!(other.sessions.end_all(ada(), None, EndReason::AllEnded).await.is_err());
    assert!(other.sessions.revoke_tokens(ada(), vec![access_id(&other, &pair).await]).await.is_err());
    watched.fail(false);
    assert!(accepted(&other, &pair).await, "it heals by itself");
    // What was written meanwhile is read, however long it took.
    watched.fail(true);
    other.clock.advance(secs(50));
    assert!(other.authenticate(&pair.access_token).await.is_err());
    let target = Target::Session { user_id: ada(), id: pair.session.id };
    let entry = Entry { target, until: other.clock.now() + secs(900), at: other.clock.now() - secs(49) };
    watched.inner().revocations().insert_entry(&entry).await.unwrap();
    watched.fail(false);
    assert!(!accepted(&other, &pair).await);
}

#[tokio::test]
async fn a_revoked_token_is_refused_whether_or_not_it_may_have_expired() {
    let (_, bed, pair) = signed_in().await;
    let checks = [Check::ACCESS, Check::ACCESS.even_if_expired(), Check::ANY, Check::ANY.even_if_expired()];
    for check in checks {
        bed.sessions.verification().verify(&pair.access_token, check).await.unwrap();
    }
    bed.sessions.end(key(&pair), EndReason::LoggedOut).await.unwrap();
    for check in checks {
        let verified = bed.sessions.verification().verify(&pair.access_token, check).await;
        assert!(matches!(verified, Err(CheckError::Revoked(_))), "{check:?}: {verified:?}");
        let unasked = check.even_if_revoked();
        bed.sessions.verification().verify(&pair.access_token, unasked).await.unwrap();
    }
}

#[tokio::test]
async fn sec_087_nothing_is_accepted_before_the_log_was_read() {
    let (watched, bed, _) = signed_in().await;
    let view = RevocationView::new(
        watched.stores().revocations().clone(),
        Arc::new(StoreClock::new(bed.clock.clone())),
        Handle::current(),
        BOUND,
        Uuid::nil(),
    );
    assert_eq!((view.age(), view.is_fresh()), (None, false));
    watched.fail(true);
    assert_eq!(view.ensure_fresh().await, Err(ViewTooOld));
    watched.fail(false);
    assert_eq!(view.ensure_fresh().await, Ok(()));
    assert_eq!(view.age(), Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "tokio's paused time is the one that the deadline counts in")]
async fn sec_087_a_poll_that_hangs_holds_every_request_for_one_second_and_is_not_repeated() {
    let (watched, bed, pair) = signed_in().await;
    bed.clock.advance(BOUND + MILLISECOND);
    watched.reset_calls();
    let mut hanging = watched.hold(Point::Before("entries"));
    let began = tokio::time::Instant::now();
    let mut requests = JoinSet::new();
    for _ in 0..500 {
        let (bed, pair) = (bed.clone(), pair.clone());
        requests.spawn(async move { bed.authenticate(&pair.access_token).await.map(|_| ()) });
    }
    hanging.arrived().await;
    for answer in requests.join_all().await {
        assert!(matches!(answer, Err(CheckError::ViewTooOld(_))), "{answer:?}");
    }
    let waited = began.elapsed();
    assert!(waited >= RevocationView::JOIN_DEADLINE && waited < secs(2), "waited for {waited:?}");
    assert_eq!(watched.calls("entries"), 1, "one poll for 500 requests");

    // A poll that ends in time serves everybody who joined it.
    let mut requests = JoinSet::new();
    for _ in 0..500 {
        let (bed, pair) = (bed.clone(), pair.clone());
        requests.spawn(async move { accepted(&bed, &pair).await });
    }
    tokio::task::yield_now().await;
    hanging.open();
    assert!(requests.join_all().await.into_iter().all(|accepted| accepted));
    assert_eq!(watched.calls("entries"), 1);
}

#[tokio::test]
async fn a_poll_that_panics_is_followed_by_another() {
    let (watched, bed, pair) = signed_in().await;
    bed.clock.advance(BOUND + MILLISECOND);
    watched.panic_in("entries");
    let answer = bed.authenticate(&pair.access_token).await;
    assert!(matches!(answer, Err(CheckError::ViewTooOld(_))), "{answer:?}");
    assert!(accepted(&bed, &pair).await, "the next request polls again");
}

#[tokio::test(start_paused = true)]
async fn the_background_tasks_outlive_a_store_that_fails_or_panics() {
    let (watched, bed, pair) = signed_in().await;
    let _running = Background::start(&Handle::current(), &bed.sessions, &bed.stores);
    let round = async || tokio::time::sleep(PURGE_EVERY).await;
    round().await;
    for method in ["entries", "acknowledge", "purge_sessions"] {
        watched.panic_in(method);
    }
    accepted(&bed, &pair).await;
    round().await;
    watched.fail(true);
    round().await;
    watched.fail(false);
    watched.reset_calls();
    let next = bed.refresh(&pair.refresh_token, device()).await.unwrap().pair;
    accepted(&bed, &next).await;
    round().await;
    for method in ["entries", "acknowledge", "purge_sessions", "purge_entries", "purge_attempts"] {
        assert!(watched.calls(method) > 0, "{method} is called again");
    }
}

#[tokio::test]
async fn sec_088_entries_go_when_no_token_is_left_that_they_concern() {
    let (_, bed, _) = signed_in().await;
    let lifetime = bed.sessions.policy().revocation_horizon();
    let (users, tokens) = (20_u128, 1_000_u128);
    for round in 0..4_u128 {
        for user_number in 0..users {
            let first = (round * users + user_number) * tokens;
            let ids = (first..first + tokens).map(|id| TokenId::new(Uuid::from_u128(id))).collect();
            bed.sessions.revoke_tokens(user(&format!("user {user_number}")), ids).await.unwrap();
        }
        bed.sessions.view().poll().await.unwrap();
        let index = bed.sessions.view().index().len() as u128;
        assert_eq!(index, users * tokens, "round {round}: the index holds what lives");
        bed.clock.advance(lifetime);
        purge(&bed.stores, &*bed.clock, bed.sessions.policy().leeway).await.unwrap();
        let stored = bed.stores.revocations().entries(Timestamp::MIN, None, 1_000_000).await.unwrap().len();
        // What expired is kept for an hour, which is about four lifetimes.
        assert!(stored as u128 <= 5 * users * tokens, "round {round}: {stored} entries");
    }
    bed.clock.advance(secs(3_601));
    purge(&bed.stores, &*bed.clock, bed.sessions.policy().leeway).await.unwrap();
    let stored = bed.stores.revocations().entries(Timestamp::MIN, None, 10).await.unwrap();
    assert_eq!(stored, [], "an hour after the last, nothing is left");
    bed.sessions.view().poll().await.unwrap();
    assert!(bed.sessions.view().index().is_empty());
}

#[tokio::test]
async fn sec_088_purging_forgets_no_end_while_a_token_could_still_be_used() {
    let (_, bed, pair) = signed_in().await;
    let other = bed.begin(&user("bob"), device()).await;
    log_out(&bed, &pair).await;
    bed.sessions.end_all(user("bob"), None, EndReason::AllEnded).await.unwrap();
    let policy = bed.sessions.policy().clone();
    let end_of_access = bed.clock.now() + policy.access_lifetime + policy.leeway;
    while bed.clock.now() < end_of_access + secs(7_200) {
        bed.clock.advance(secs(45));
        purge(&bed.stores, &*bed.clock, policy.leeway).await.unwrap();
        bed.sessions.view().poll().await.unwrap();
        for pair in [&pair, &other] {
            assert!(bed.authenticate(&pair.access_token).await.is_err());
            assert!(bed.refresh(&pair.refresh_token, device()).await.is_err());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_outlives_every_token_that_it_concerns() {
    // The end takes long to commit, and just before it does the session is refreshed.
    for slow in [secs(3), secs(7), secs(30)] {
        let (watched, bed, pair) = signed_in().await;
        let mut committing = watched.hold(Point::Before("end_session"));
        let end = tokio::spawn({
            let (bed, pair) = (bed.clone(), pair.clone());
            async move { log_out(&bed, &pair).await }
        });
        committing.arrived().await;
        bed.clock.advance(slow);
        let late = bed.refresh(&pair.refresh_token, device()).await.unwrap().pair;
        committing.open();
        assert_eq!(end.await.unwrap(), SessionEnded::Now);
        // Its last moment, on a node that started since and on the one that was there.
        let policy = bed.sessions.policy();
        bed.clock.set(late.access_expires_at + policy.leeway - secs(1));
        bed.clock.advance(MILLISECOND);
        let fresh = bed.another_node().await;
        bed.clock.advance(RevocationView::FULL_READ_EVERY);
        bed.clock.set(late.access_expires_at + policy.leeway - secs(1));
        bed.sessions.view().poll().await.unwrap();
        for bed in [&bed, &fresh] {
            let answer = bed.authenticate(&late.access_token).await;
            assert!(matches!(answer, Err(CheckError::Revoked(_))), "{slow:?}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn sec_089_logout_everywhere_and_a_login_within_one_millisecond_fall_on_one_side_each() {
    let (_, bed, before) = signed_in().await;
    bed.sessions.end_all(ada(), None, EndReason::AllEnded).await.unwrap();
    let after = bed.begin(&ada(), device()).await;
    assert!(!accepted(&bed, &before).await && accepted(&bed, &after).await);
    bed.sessions.end_all(ada(), None, EndReason::AllEnded).await.unwrap();
    let last = bed.begin(&ada(), device()).await;
    assert!(!accepted(&bed, &after).await && accepted(&bed, &last).await);
    assert!(bed.refresh(&after.refresh_token, device()).await.is_err());
    assert!(bed.refresh(&last.refresh_token, device()).await.is_ok());
}

#[tokio::test]
async fn sec_089_a_login_that_began_before_all_were_ended_does_not_come_through() {
    let (_, bed, _) = signed_in().await;
    let epoch = bed.sessions.epoch(&ada()).await.unwrap();
    bed.sessions.end_all(ada(), None, EndReason::AllEnded).await.unwrap();
    let begun = bed.sessions.begin(ada(), epoch, Presentation::Explicit, device()).await;
    assert!(matches!(begun, Err(BeginError::EpochRaised)), "{begun:?}");
    assert!(bed.sessions.list(&ada(), SessionPage::first(1_000)).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_entry_that_becomes_visible_late_is_still_read() {
    for (late, after_full_read) in
        [(secs(0), false), (secs(14), false), (secs(15), false), (secs(3_000), true)]
    {
        let (_, bed, pair) = signed_in().await;
        bed.clock.advance(secs(4));
        bed.sessions.view().poll().await.unwrap();
        write(&bed, token_entry(access_id(&bed, &pair).await), bed.clock.now() - late).await;
        bed.clock.advance(secs(1));
        if after_full_read {
            bed.clock.advance(RevocationView::FULL_READ_EVERY);
        }
        bed.sessions.view().poll().await.unwrap();
        assert!(!accepted(&bed, &pair).await, "{late:?} late");
    }
}

#[tokio::test]
async fn a_clock_set_back_or_a_failed_poll_is_followed_by_a_full_read() {
    for failure in [true, false] {
        let (watched, bed, pair) = signed_in().await;
        bed.clock.advance(secs(1));
        bed.sessions.view().poll().await.unwrap();
        write(&bed, token_entry(access_id(&bed, &pair).await), bed.clock.now() - secs(3_000)).await;
        bed.sessions.view().poll().await.unwrap();
        assert!(accepted(&bed, &pair).await, "too old for the incremental read");
        if failure {
            watched.fail(true);
            assert!(bed.sessions.view().poll().await.is_err());
            watched.fail(false);
        } else {
            bed.clock.set(bed.clock.now() - MILLISECOND);
        }
        bed.sessions.view().poll().await.unwrap();
        assert!(!accepted(&bed, &pair).await, "failed poll: {failure}");
    }
}

#[tokio::test]
async fn setting_the_time_of_day_back_does_not_make_an_old_view_young() {
    let (watched, bed, pair) = signed_in().await;
    watched.fail(true);
    bed.clock.advance(BOUND + MILLISECOND);
    bed.clock.set(bed.clock.now() - BOUND);
    let answer = bed.authenticate(&pair.access_token).await;
    assert!(matches!(answer, Err(CheckError::ViewTooOld(_))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_whose_insert_took_long_reaches_readers_whose_window_had_passed() {
    for all in [false, true] {
        let (watched, one, pair) = signed_in().await;
        let other = one.another_node().await;
        let mut slow = watched.hold(Point::Before(if all { "raise_epoch" } else { "end_session" }));
        let end = tokio::spawn({
            let (sessions, key) = (one.sessions.clone(), key(&pair));
            async move {
                if all {
                    sessions.end_all(key.user_id, None, EndReason::AllEnded).await.unwrap();
                } else {
                    sessions.end(key, EndReason::LoggedOut).await.unwrap();
                }
            }
        });
        slow.arrived().await;
        one.clock.advance(secs(20));
        other.sessions.view().poll().await.unwrap();
        slow.open();
        end.await.unwrap();
        other.clock.advance(secs(1));
        other.sessions.view().poll().await.unwrap();
        assert!(!accepted(&other, &pair).await);
    }
}

#[tokio::test]
async fn a_log_of_many_pages_is_read_whole() {
    let (watched, bed, pair) = signed_in().await;
    let now = bed.clock.now();
    for number in 0..12_500 {
        write(&bed, token_entry(TokenId::new(Uuid::from_u128(number))), now).await;
    }
    write(&bed, token_entry(access_id(&bed, &pair).await), now).await;
    watched.reset_calls();
    bed.sessions.view().poll().await.unwrap();
    assert_eq!(watched.calls("entries"), 3);
    assert_eq!(bed.sessions.view().index().len(), 12_501);
    assert!(!accepted(&bed, &pair).await);
}

#[tokio::test]
async fn entries_mean_the_same_in_any_order_and_however_often_they_come() {
    let random = SeededRandom::new(4);
    for _ in 0..50 {
        let session = |number: u64| SessionId::new(Uuid::from_u128(number.into()));
        let token = |number: u64| TokenId::new(Uuid::from_u128(number.into()));
        let (_, bed, _) = signed_in().await;
        let mut entries = Vec::new();
        for number in 1..=12 {
            let target = match random.below(3) {
                0 => Target::Session { user_id: ada(), id: session(random.below(4)) },
                1 => token_entry(token(random.below(4))),
                _ => {
                    let except = random.chance(60).then(|| session(random.below(4)));
                    Target::User { user_id: ada(), epoch: Epoch::new(number), except }
                }
            };
            entries.push(Entry { target, until: bed.clock.now() + secs(900), at: bed.clock.now() });
        }
        let verdicts = async |order: &[Entry]| {
            let node = TestBed::over(MemoryStore::new()).await;
            for entry in order {
                node.stores.revocations().insert_entry(entry).await.unwrap();
                node.sessions.view().learn(entry);
                if random.chance(30) {
                    node.sessions.view().poll().await.unwrap();
                }
            }
            let mut verdicts = Vec::new();
            for (id, epoch) in (0..4).flat_map(|id| (0..13).map(move |epoch| (id, epoch))) {
                let asked = TokenEpoch::Session(session(id), Epoch::new(epoch));
                verdicts.push(node.sessions.view().index().check(&ada(), token(id), asked));
            }
            verdicts
        };
        let in_order = verdicts(&entries).await;
        for _ in 0..4 {
            let mut shuffled = entries.clone();
            shuffled.extend(entries.iter().filter(|_| random.chance(50)).cloned());
            shuffled.sort_by_cached_key(|_| random.number());
            assert_eq!(verdicts(&shuffled).await, in_order, "{shuffled:?}");
        }
    }
}

#[tokio::test]
async fn a_removed_key_is_in_the_index_after_a_poll() {
    let (_, bed, _) = signed_in().await;
    let id = KeyId::new("removed").unwrap();
    write(&bed, Target::Key { id: id.clone() }, bed.clock.now()).await;
    bed.sessions.view().poll().await.unwrap();
    assert!(bed.sessions.view().index().is_key_revoked(&id));
}

#[tokio::test]
async fn the_log_alone_decides_where_a_crash_left_the_row_unmarked() {
    let memory = std::sync::Arc::new(MemoryStore::new());
    let bed = TestBed::over(memory.clone()).await;
    let pair = bed.begin(&ada(), device()).await;
    log_out(&bed, &pair).await;
    memory.forget_end_mark(&key(&pair)).unwrap();
    assert!(bed.row(&pair).await.session.ended.is_none());
    let restarted = bed.another_node().await;
    assert!(!accepted(&restarted, &pair).await);
    assert!(restarted.refresh(&pair.refresh_token, device()).await.is_err());
    assert!(restarted.sessions.list(&ada(), SessionPage::first(1_000)).await.unwrap().is_empty());
    let later = bed.clock.now() + secs(86_400);
    assert_eq!(
        bed.stores.revocations().purge_entries(later, 10).await.unwrap(),
        0,
        "the entry stays until it is"
    );
    assert_eq!(log_out(&restarted, &pair).await, SessionEnded::Before, "and ending it again marks it");
    assert!(bed.row(&pair).await.session.ended.is_some());
    assert_eq!(bed.stores.revocations().purge_entries(later, 10).await.unwrap(), 1);
}

#[test]
fn the_limit_on_revoked_tokens_is_the_documented_one() {
    assert_eq!(Sessions::MAX_REVOKED_TOKENS, 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_does_not_wait_until_the_whole_log_was_read_again() {
    let (watched, bed, pair) = signed_in().await;
    let other = bed.another_node().await;
    bed.clock.advance(RevocationView::FULL_READ_EVERY);
    // A poll reads what is new, then the whole log.
    let mut new = watched.hold(Point::Before("entries"));
    let polling = tokio::spawn({
        let sessions = bed.sessions.clone();
        async move { sessions.keys().poll().await }
    });
    new.arrived().await;
    let mut whole = watched.hold(Point::Before("entries"));
    new.open();
    whole.arrived().await;
    assert!(accepted(&bed, &pair).await);
    log_out(&other, &pair).await;
    bed.sessions.keys().read_pushed().await.unwrap();
    assert!(!accepted(&bed, &pair).await, "while the log is read");
    // Who polls meanwhile does not read it all once more.
    watched.reset_calls();
    bed.sessions.keys().poll().await.unwrap();
    assert_eq!(watched.calls("entries"), 1);
    whole.open();
    polling.await.unwrap().unwrap();
    watched.reset_calls();
    bed.sessions.keys().poll().await.unwrap();
    assert_eq!(watched.calls("entries"), 1, "it was read a moment ago");
}

#[tokio::test]
async fn the_lag_is_that_of_entries_that_came_while_the_node_ran() {
    let (_, bed, pair) = signed_in().await;
    for number in 0..RevocationView::PAGE as u128 + 10 {
        bed.clock.advance(MILLISECOND);
        write(&bed, token_entry(TokenId::new(Uuid::from_u128(number))), bed.clock.now()).await;
    }
    bed.clock.advance(secs(300));
    let late = bed.another_node().await;
    assert_eq!(late.sessions.view().stats().lag, None, "what was there before it came tells nothing");
    log_out(&bed, &pair).await;
    bed.clock.advance(secs(2));
    late.sessions.view().poll().await.unwrap();
    assert_eq!(late.sessions.view().stats().lag, Some(secs(2)));
}

#[tokio::test]
async fn a_recheck_refuses_the_other_kind_of_token() {
    use TokenType::{Access, Refresh};
    let (_, bed, pair) = signed_in().await;
    let verification = bed.sessions.verification();
    let access = verification.verify(&pair.access_token, Check::ACCESS).await.unwrap();
    let refresh = verification.verify(&pair.refresh_token, Check::REFRESH).await.unwrap();
    for (claims, check, wanted) in [
        (&access, Check::ACCESS, None),
        (&access, Check::ANY, None),
        (&access, Check::ENDING, None),
        (&access, Check::REFRESH, Some(Refresh)),
        (&access, Check::REFRESH.even_if_revoked(), Some(Refresh)),
        (&refresh, Check::REFRESH, None),
        (&refresh, Check::ANY, None),
        (&refresh, Check::ENDING, None),
        (&refresh, Check::ACCESS, Some(Access)),
        (&refresh, Check::ACCESS.even_if_expired().even_if_revoked(), Some(Access)),
    ] {
        match (verification.recheck(claims, check).await, wanted) {
            (Ok(()), None) => {}
            (Err(CheckError::Invalid(VerifyError::TokenType { expected, .. })), Some(wanted)) => {
                assert_eq!(expected, wanted, "{check:?}");
            }
            (found, _) => panic!("{check:?} of {:?}: {found:?}", claims.token_type()),
        }
    }
}

#[tokio::test]
async fn a_token_that_may_have_expired_is_accepted_while_the_log_remembers_its_revocation() {
    let (_, bed, _) = signed_in().await;
    let SessionPolicy { access_lifetime, leeway, .. } = SessionPolicy::default();
    let grant = AccessGrant { lifetime: Some(secs(60)), ..AccessGrant::default() };
    let short = bed.sessions.issue_access(ada(), grant).await.unwrap().token;
    let own = bed.begin(&ada(), device()).await.access_token;
    let began = bed.clock.now();
    let even_if_expired = Check::ACCESS.even_if_expired();
    let last = access_lifetime + leeway;
    for (token, check, after, accepted) in [
        (&short, Check::ACCESS, secs(60) + leeway, false),
        (&short, even_if_expired, secs(60) + leeway, true),
        (&short, even_if_expired, last - secs(1), true),
        (&own, Check::ACCESS, last - secs(1), true),
        (&own, even_if_expired, last - secs(1), true),
        (&short, even_if_expired, last, false),
        (&own, even_if_expired, last, false),
        (&short, even_if_expired.even_if_revoked(), last, true),
        (&own, even_if_expired.even_if_revoked(), last, true),
    ] {
        bed.clock.advance(Duration::from_millis(
            (began + after).as_millis().abs_diff(bed.clock.now().as_millis()),
        ));
        bed.sessions.view().poll().await.unwrap();
        let verified = bed.sessions.verification().verify(token, check).await;
        match verified {
            Ok(_) => assert!(accepted, "{check:?} after {after:?}"),
            Err(CheckError::Invalid(VerifyError::Expired)) => assert!(!accepted, "{check:?} after {after:?}"),
            Err(error) => panic!("{check:?} after {after:?}: {error}"),
        }
    }
}

#[tokio::test]
async fn an_access_token_that_names_no_session_needs_one_only_to_end_it() {
    let (_, bed) = bed().await;
    let (id, now) = (TokenId::new(Uuid::from_u128(1)), bed.clock.now());
    let claims = NewClaims::new(TokenType::Access, ada(), id, now, now + secs(60));
    let token = issuer(&bed).await.issue(&claims).unwrap();
    let verification = bed.sessions.verification();
    let check = Check::ACCESS.even_if_expired().even_if_revoked();
    for check in [Check::ACCESS, check] {
        let verified = verification.verify(&token, check).await;
        assert!(verified.is_ok(), "{check:?}: {verified:?}");
    }
    let ended = verification.verify(&token, Check::ENDING).await;
    assert!(matches!(ended, Err(CheckError::Invalid(VerifyError::MissingClaim("sid")))), "{ended:?}");
}

#[tokio::test]
async fn an_expired_access_token_of_a_key_that_is_new_here_is_accepted() {
    let (_, here, _) = signed_in().await;
    let there = here.another_node().await;
    here.sessions.keys().rotate(KeyPurpose::Access, None, false).await.unwrap();
    here.clock.advance(here.sessions.policy().revocation_bound + MILLISECOND);
    here.sessions.keys().poll().await.unwrap();
    let token = here.begin(&ada(), device()).await.access_token;
    // The log is read anew, and the keys are not.
    there.sessions.view().poll().await.unwrap();
    let check = Check::ACCESS.even_if_expired().even_if_revoked();
    let verified = there.sessions.verification().verify(&token, check).await;
    assert!(verified.is_ok(), "{verified:?}");
}

#[tokio::test]
async fn a_token_of_the_other_kind_is_called_that() {
    let (_, bed, pair) = signed_in().await;
    let config = BedConfig { random: Arc::new(SeededRandom::new(31)), ..BedConfig::default() };
    let stranger = TestBed::with(MemoryStore::new(), config).await.begin(&ada(), device()).await;
    let (access, refresh) = (TokenType::Access, TokenType::Refresh);
    let other_kind = |expected, found| VerifyError::TokenType { expected, found };
    for (token, check, expected) in [
        (&pair.refresh_token, Check::ACCESS, other_kind(access, refresh)),
        (&pair.access_token, Check::REFRESH, other_kind(refresh, access)),
        (&stranger.refresh_token, Check::ACCESS, VerifyError::UnknownKey),
        (&stranger.access_token, Check::REFRESH, VerifyError::UnknownKey),
        (&stranger.access_token, Check::ANY, VerifyError::UnknownKey),
    ] {
        let refused = bed.sessions.verification().verify(token, check).await;
        assert!(
            matches!(&refused, Err(CheckError::Invalid(found)) if *found == expected),
            "{check:?}: {refused:?}"
        );
    }
}
