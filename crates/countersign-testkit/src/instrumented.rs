//! Stores that count their calls, and fail or wait when told to.

mod accounts;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use countersign_core::model::{
    Acknowledgement, Advance, Attempts, Entry, Heal, Outcome, Refused, Session, StoredKey, ThrottlePolicy,
    UserSession,
};
use countersign_core::store::{
    Changes, End, EpochRaise, FoundSession, KeyStore, RevocationStore, SessionEnded, SessionInserted,
    SessionPage, SessionStore, StoreError, Stores, ThrottleStore, TokenRevocation, TokensRevoked,
};
use countersign_jwt::key::KeyId;
use countersign_jwt::{Clock, Epoch, Timestamp, UserId};
use tokio::sync::oneshot;
use uuid::Uuid;

/// Any stores, instrumented: calls are counted by the name of the trait's method, and can be made to fail or to wait.
///
/// Cheap to clone; all clones share counts and settings. [`Instrumented::stores`] is what the code under test gets.
///
/// ```
/// use countersign_core::store::MemoryStore;
/// use countersign_testkit::{Instrumented, TestBed};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Instrumented::new(MemoryStore::new());
/// let bed = TestBed::over(store.stores()).await;
/// let ada = bed.register("ada").await?;
///
/// store.reset_calls();
/// bed.authenticate(&ada.pair.access_token).await?;
/// assert_eq!(store.total_calls(), 0, "a request costs no call to the store");
///
/// store.fail(true);
/// assert!(bed.login("ada", TestBed::PASSWORD).await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Instrumented {
    inner: Stores,
    orders: Arc<Mutex<Orders>>,
}

/// A moment in a call, for [`Instrumented::hold`].
///
/// ```
/// use countersign_core::store::MemoryStore;
/// use countersign_testkit::{Instrumented, Point, TestBed};
/// # use countersign_core::model::Device;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Instrumented::new(MemoryStore::new());
/// # let bed = TestBed::over(store.stores()).await;
/// # let pair = bed.begin(&countersign_jwt::UserId::new("ada")?, Device::default()).await;
/// let mut gate = store.hold(Point::Before("advance"));
/// let refresh = tokio::spawn(async move { bed.refresh(&pair.refresh_token, Device::default()).await });
/// gate.arrived().await;
/// // Here the test does what shall happen between the read of the row and its change.
/// gate.open();
/// assert!(refresh.await?.is_ok());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Point {
    /// Before this method does anything.
    Before(&'static str),
    /// After this method has done everything, before the caller gets the answer.
    After(&'static str),
}

/// The place where one held call waits. Dropping the gate opens it.
#[derive(Debug)]
pub struct Gate {
    arrived: oneshot::Receiver<()>,
    _open: oneshot::Sender<()>,
}

#[derive(Default)]
struct Orders {
    calls: BTreeMap<&'static str, u64>,
    failing: bool,
    fail_once_after: Option<u64>,
    lost_replies: Vec<&'static str>,
    lost_steps: u64,
    failures: Vec<&'static str>,
    panics: Vec<&'static str>,
    clock: Option<Arc<dyn Clock>>,
    gates: VecDeque<(Point, oneshot::Sender<()>, oneshot::Receiver<()>)>,
}

impl fmt::Debug for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orders").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl Instrumented {
    /// Instruments these stores.
    #[must_use]
    pub fn new(inner: impl Into<Stores>) -> Self {
        Self { inner: inner.into(), orders: Arc::default() }
    }

    /// The instrumented stores.
    #[must_use]
    pub fn stores(&self) -> Stores {
        self.clone().into()
    }

    /// The stores behind, which are not instrumented.
    #[must_use]
    pub fn inner(&self) -> &Stores {
        &self.inner
    }

    /// The number of calls of this method, successful or not.
    #[must_use]
    pub fn calls(&self, method: &str) -> u64 {
        self.orders().calls.get(method).copied().unwrap_or(0)
    }

    /// The number of calls of all methods.
    #[must_use]
    pub fn total_calls(&self) -> u64 {
        self.orders().calls.values().sum()
    }

    /// Sets all counts back to zero.
    pub fn reset_calls(&self) {
        self.orders().calls.clear();
    }

    /// Sets whether every call from now on fails without doing anything.
    pub fn fail(&self, failing: bool) {
        self.orders().failing = failing;
    }

    /// Makes one call fail without doing anything, after `calls` more calls; those after it do not fail.
    pub fn fail_once_after(&self, calls: u64) {
        self.orders().fail_once_after = Some(calls);
    }

    /// Makes the next call of this method fail without doing anything.
    pub fn fail_next(&self, method: &'static str) {
        self.orders().failures.push(method);
    }

    /// Loses the reply of the next call of this method: the call is carried out, but its caller gets an error.
    pub fn lose_reply_of(&self, method: &'static str) {
        self.orders().lost_replies.push(method);
    }

    /// Makes the next call of this method panic, as a driver with a bug might.
    pub fn panic_in(&self, method: &'static str) {
        self.orders().panics.push(method);
    }

    /// Makes the next `calls` conditional steps (`advance` and `heal`) do nothing and answer that another step was
    /// first.
    pub fn lose_steps(&self, calls: u64) {
        self.orders().lost_steps = calls;
    }

    /// Sets the store's time from now on. Without it the stores report no time of their own, even if the stores behind
    /// do, so that tests can set their clocks as they like.
    pub fn set_time(&self, clock: Arc<dyn Clock>) {
        self.orders().clock = Some(clock);
    }

    /// Makes the next call of a method wait at this point until the gate opens; later calls pass.
    #[must_use]
    pub fn hold(&self, point: Point) -> Gate {
        let (arrive, arrived) = oneshot::channel();
        let (open, opened) = oneshot::channel();
        self.orders().gates.push_back((point, arrive, opened));
        Gate { arrived, _open: open }
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass(&self, point: Point) {
        let gate = {
            let mut orders = self.orders();
            let position = orders.gates.iter().position(|(held, ..)| *held == point);
            position.and_then(|position| orders.gates.remove(position))
        };
        if let Some((_, arrive, opened)) = gate {
            // Either end may be gone: nobody waits for the call to arrive, or the gate was dropped.
            let _ = arrive.send(());
            let _ = opened.await;
        }
    }

    async fn call<T>(
        &self,
        method: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        *self.orders().calls.entry(method).or_default() += 1;
        self.pass(Point::Before(method)).await;
        self.orders().admit(method)?;
        let answer = call.await;
        self.pass(Point::After(method)).await;
        if take(&mut self.orders().lost_replies, method) {
            return Err(StoreError::new("instrumented", "answer", "the reply was lost"));
        }
        answer
    }

    async fn step<T: Default>(
        &self,
        method: &'static str,
        step: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let lost = {
            let mut orders = self.orders();
            let lost = orders.lost_steps > 0;
            orders.lost_steps = orders.lost_steps.saturating_sub(1);
            lost
        };
        if lost { self.call(method, async { Ok(T::default()) }).await } else { self.call(method, step).await }
    }
}

impl Orders {
    fn admit(&mut self, method: &str) -> Result<(), StoreError> {
        let panics = take(&mut self.panics, method);
        assert!(!panics, "{method} was told to panic");
        let error = || StoreError::new("instrumented", "answer", "it was told to fail");
        if self.failing || take(&mut self.failures, method) {
            return Err(error());
        }
        match self.fail_once_after.take() {
            Some(0) => Err(error()),
            Some(left) => {
                self.fail_once_after = Some(left - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Removes the method from the list. Returns whether it was there.
fn take(methods: &mut Vec<&'static str>, method: &str) -> bool {
    let position = methods.iter().position(|ordered| *ordered == method);
    position.map(|position| methods.remove(position)).is_some()
}

impl Gate {
    /// Waits until the call has reached the gate.
    pub async fn arrived(&mut self) {
        // An error means that the store and its call are gone; the test then fails by what it checks.
        let _ = (&mut self.arrived).await;
    }

    /// Lets the call continue.
    pub fn open(self) {
        drop(self);
    }
}

#[async_trait]
impl SessionStore for Instrumented {
    async fn insert_session(&self, session: &Session) -> Result<SessionInserted, StoreError> {
        self.call("insert_session", self.inner.sessions().insert_session(session)).await
    }

    async fn session(&self, key: &UserSession) -> Result<Option<FoundSession>, StoreError> {
        self.call("session", self.inner.sessions().session(key)).await
    }

    async fn advance(&self, key: &UserSession, step: &Advance) -> Result<Option<Session>, StoreError> {
        self.step("advance", self.inner.sessions().advance(key, step)).await
    }

    async fn heal(&self, key: &UserSession, step: &Heal) -> Result<bool, StoreError> {
        self.step("heal", self.inner.sessions().heal(key, step)).await
    }

    async fn acknowledge(&self, seen: &[Acknowledgement], at: Timestamp) -> Result<(), StoreError> {
        self.call("acknowledge", self.inner.sessions().acknowledge(seen, at)).await
    }

    async fn end_session(&self, key: &UserSession, end: &End) -> Result<SessionEnded, StoreError> {
        self.call("end_session", self.inner.sessions().end_session(key, end)).await
    }

    async fn live_sessions(
        &self,
        user_id: &UserId,
        now: Timestamp,
        page: SessionPage,
    ) -> Result<Vec<Session>, StoreError> {
        self.call("live_sessions", self.inner.sessions().live_sessions(user_id, now, page)).await
    }

    async fn purge_sessions(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.call("purge_sessions", self.inner.sessions().purge_sessions(before, limit)).await
    }
}

#[async_trait]
impl RevocationStore for Instrumented {
    fn is_one_copy(&self) -> bool {
        self.inner.revocations().is_one_copy()
    }

    fn changes(&self) -> Option<Changes> {
        self.inner.revocations().changes()
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        let clock = self.orders().clock.clone();
        self.call("time", async { Ok(clock.map(|clock| clock.now())) }).await
    }

    async fn epoch(&self, user_id: &UserId) -> Result<Epoch, StoreError> {
        self.call("epoch", self.inner.revocations().epoch(user_id)).await
    }

    async fn epoch_raised_at(&self, user_id: &UserId) -> Result<Option<Timestamp>, StoreError> {
        self.call("epoch_raised_at", self.inner.revocations().epoch_raised_at(user_id)).await
    }

    async fn raise_epoch(&self, user_id: &UserId, raise: &EpochRaise) -> Result<Entry, StoreError> {
        self.call("raise_epoch", self.inner.revocations().raise_epoch(user_id, raise)).await
    }

    async fn revoke_tokens(
        &self,
        user_id: &UserId,
        tokens: &TokenRevocation,
    ) -> Result<TokensRevoked, StoreError> {
        self.call("revoke_tokens", self.inner.revocations().revoke_tokens(user_id, tokens)).await
    }

    async fn insert_entry(&self, entry: &Entry) -> Result<(), StoreError> {
        self.call("insert_entry", self.inner.revocations().insert_entry(entry)).await
    }

    async fn entries(
        &self,
        since: Timestamp,
        after: Option<&Entry>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.call("entries", self.inner.revocations().entries(since, after, limit)).await
    }

    async fn purge_entries(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.call("purge_entries", self.inner.revocations().purge_entries(before, limit)).await
    }
}

#[async_trait]
impl ThrottleStore for Instrumented {
    async fn begin_attempt(
        &self,
        key: &str,
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<Result<(), Refused>, StoreError> {
        self.call("begin_attempt", self.inner.throttles().begin_attempt(key, now, policy)).await
    }

    async fn finish_attempt(
        &self,
        key: &str,
        outcome: Outcome,
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<(), StoreError> {
        self.call("finish_attempt", self.inner.throttles().finish_attempt(key, outcome, now, policy)).await
    }

    async fn attempts(&self, key: &str) -> Result<Option<Attempts>, StoreError> {
        self.call("attempts", self.inner.throttles().attempts(key)).await
    }

    async fn purge_attempts(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.call("purge_attempts", self.inner.throttles().purge_attempts(before, limit)).await
    }

    async fn thin_attempts(&self, keys: Range<&str>, keep: u64, limit: usize) -> Result<u64, StoreError> {
        self.call("thin_attempts", self.inner.throttles().thin_attempts(keys, keep, limit)).await
    }
}

#[async_trait]
impl KeyStore for Instrumented {
    async fn store_id(&self, candidate: Uuid) -> Result<Uuid, StoreError> {
        self.call("store_id", self.inner.keys().store_id(candidate)).await
    }

    async fn insert_key(&self, key: &StoredKey) -> Result<bool, StoreError> {
        self.call("insert_key", self.inner.keys().insert_key(key)).await
    }

    async fn reseal_key(&self, id: &KeyId, old: &[u8], new: &[u8]) -> Result<bool, StoreError> {
        self.call("reseal_key", self.inner.keys().reseal_key(id, old, new)).await
    }

    async fn remove_key(&self, id: &KeyId, at: Timestamp) -> Result<bool, StoreError> {
        self.call("remove_key", self.inner.keys().remove_key(id, at)).await
    }

    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        self.call("keys", self.inner.keys().keys()).await
    }

    async fn settings(&self) -> Result<Option<String>, StoreError> {
        self.call("settings", self.inner.keys().settings()).await
    }

    async fn replace_settings(&self, old: Option<&str>, new: &str) -> Result<bool, StoreError> {
        self.call("replace_settings", self.inner.keys().replace_settings(old, new)).await
    }
}

#[cfg(test)]
mod tests {
    use countersign_core::store::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn calls_are_counted_and_fail_when_told_to() {
        let watched = Instrumented::new(MemoryStore::new());
        let stores = watched.stores();
        let id = Uuid::from_u128(1);
        watched.fail_once_after(1);
        let answers = [
            stores.keys().store_id(id).await.is_ok(),
            stores.keys().keys().await.is_ok(),
            stores.keys().keys().await.is_ok(),
        ];
        assert_eq!(answers, [true, false, true]);
        assert_eq!((watched.calls("keys"), watched.calls("store_id"), watched.total_calls()), (2, 1, 3));
        watched.fail(true);
        assert!(stores.keys().keys().await.is_err());
        watched.fail(false);
        assert!(stores.keys().keys().await.is_ok());
    }

    #[tokio::test]
    async fn a_lost_reply_is_of_a_call_that_was_carried_out() {
        let watched = Instrumented::new(MemoryStore::new());
        watched.lose_reply_of("store_id");
        let stores = watched.stores();
        assert!(stores.keys().store_id(Uuid::from_u128(1)).await.is_err());
        assert_eq!(stores.keys().store_id(Uuid::from_u128(2)).await.unwrap(), Uuid::from_u128(1));
    }

    #[tokio::test]
    async fn a_gate_holds_one_call_until_it_opens() {
        let watched = Instrumented::new(MemoryStore::new());
        let mut gate = watched.hold(Point::Before("keys"));
        let stores = watched.stores();
        let held = tokio::spawn({
            let stores = stores.clone();
            async move { stores.keys().keys().await.is_ok() }
        });
        gate.arrived().await;
        assert!(stores.keys().keys().await.is_ok(), "others pass");
        assert!(!held.is_finished());
        gate.open();
        assert!(held.await.unwrap());
    }
}
