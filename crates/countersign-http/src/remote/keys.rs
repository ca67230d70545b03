//! The published keys of one issuer, held in memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use countersign_jwt::key::{JwkError, JwkSet, KeyRing, LeftOut, UsableKeys};
use countersign_jwt::{Algorithm, Clock};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{FetchError, FetchJwks, JwksUrl, RemoteIssuer};

/// Why an issuer's keys are not available.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The key set could not be fetched.
    #[error("{}", .0.chain())]
    Fetch(FetchError),
    /// The fetch took longer than five seconds.
    #[error("no complete answer within 5 seconds")]
    TimedOut,
    /// The fetched text is not a key set.
    #[error("answer is not an acceptable key set: {0}")]
    Set(#[from] JwkError),
    /// No key of the set can be used, though some should be: they are malformed, weak, or should not be published.
    #[error("no key of the set can be used: {0}")]
    NothingUsable(LeftOut),
    /// The fetch was interrupted: the program ended it, or it panicked.
    #[error("fetch was interrupted")]
    Interrupted,
    /// There is no tokio runtime to fetch in.
    #[error("there is no tokio runtime to fetch in")]
    NoRuntime,
}

/// The keys of one issuer, fetched when they are needed. Concurrent callers share one fetch.
#[derive(Debug)]
pub(super) struct KeySource {
    issuer: String,
    url: JwksUrl,
    algorithms: Vec<Algorithm>,
    refresh_after: Duration,
    usable_for: Duration,
    fetcher: Arc<dyn FetchJwks>,
    clock: Arc<dyn Clock>,
    held: ArcSwapOption<Held>,
    attempts: Mutex<Attempts>,
    finished: watch::Sender<()>,
}

/// Keys, and the monotonic time at which they were asked for.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) ring: KeyRing,
    since: Duration,
}

#[derive(Debug, Default)]
struct Attempts {
    running: bool,
    last: Option<Duration>,
    /// Why the last fetch failed; `None` if it succeeded.
    failure: Option<Arc<KeysError>>,
    /// The keys that the log has already reported as left out. The set is fetched every few minutes, and each omission
    /// is logged once.
    left_out: LeftOut,
}

/// The reason for a fetch.
#[derive(Clone, Copy)]
enum Reason {
    Age,
    UnknownKey,
}

/// There are no keys that may be used. Trying again later may help.
#[derive(Debug)]
pub(super) struct Unavailable {
    pub(super) reason: Arc<KeysError>,
    pub(super) retry_after: Duration,
}

impl KeySource {
    pub(super) fn new(
        issuer: &RemoteIssuer,
        url: JwksUrl,
        fetcher: Arc<dyn FetchJwks>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            issuer: issuer.issuer.clone(),
            url,
            algorithms: issuer.algorithms.clone(),
            refresh_after: issuer.refresh_after,
            usable_for: issuer.usable_for,
            fetcher,
            clock,
            held: ArcSwapOption::empty(),
            attempts: Mutex::default(),
            finished: watch::Sender::new(()),
        }
    }

    /// The keys that are held, of whatever age, without fetching.
    pub(super) fn held(&self) -> Option<Arc<Held>> {
        self.held.load_full()
    }

    /// The keys that may be used now, fetched or renewed first where necessary.
    pub(super) async fn usable(self: &Arc<Self>) -> Result<Arc<Held>, Unavailable> {
        match self.held() {
            Some(held) if self.age(&held) < self.refresh_after => return Ok(held),
            Some(held) if self.age(&held) < self.usable_for => {
                let fetch = self.fetch_for(Reason::Age);
                // While the issuer cannot be reached, only the first token waits for the failing fetch.
                if self.age(&held) < 2 * self.refresh_after || self.attempts().failure.is_some() {
                    return Ok(held);
                }
                finished(fetch).await;
            }
            _ => finished(self.fetch_for(Reason::Age)).await,
        }
        self.held().filter(|held| self.age(held) < self.usable_for).ok_or_else(|| self.unavailable())
    }

    /// Keys newer than `held`, in which a token's key was not found; `None` if there are none and it is too early for
    /// another fetch.
    pub(super) async fn newer_than(
        self: &Arc<Self>,
        known: &Arc<Held>,
    ) -> Result<Option<Arc<Held>>, Unavailable> {
        let newer = || self.held().filter(|held| !Arc::ptr_eq(held, known));
        if newer().is_none() {
            finished(self.fetch_for(Reason::UnknownKey)).await;
        }
        match newer() {
            Some(newer) => Ok(Some(newer)),
            // Whether the key exists is unknown, so the token is not declared invalid.
            None if self.attempts().failure.is_some() => Err(self.unavailable()),
            None => Ok(None),
        }
    }

    fn age(&self, held: &Held) -> Duration {
        self.clock.monotonic().saturating_sub(held.since)
    }

    /// Begins a fetch, or joins the callers who wait for the running one; `None` if it is too early for another fetch.
    ///
    /// The fetch runs in a task of its own, so that a client that disconnects does not end it for the others.
    fn fetch_for(self: &Arc<Self>, reason: Reason) -> Option<watch::Receiver<()>> {
        let mut attempts = self.attempts();
        let finished = self.finished.subscribe();
        if attempts.running {
            return Some(finished);
        }
        let now = self.clock.monotonic();
        let pause = match reason {
            Reason::UnknownKey => UNKNOWN_KEY_PAUSE,
            Reason::Age if attempts.failure.is_some() => RETRY_PAUSE,
            Reason::Age => Duration::ZERO,
        };
        if attempts.last.is_some_and(|last| now.saturating_sub(last) < pause) {
            return None;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            attempts.failure = Some(Arc::new(KeysError::NoRuntime));
            return None;
        };
        attempts.running = true;
        attempts.last = Some(now);
        let fetch = Fetch { source: Arc::clone(self), started: now, outcome: Err(KeysError::Interrupted) };
        runtime.spawn(fetch.run());
        Some(finished)
    }

    async fn fetch(&self) -> Result<UsableKeys, KeysError> {
        match timeout(TIMEOUT, self.fetcher.fetch(&self.url)).await {
            Ok(Ok(text)) => usable(&text, &self.algorithms),
            Ok(Err(error)) => Err(KeysError::Fetch(error)),
            Err(_) => Err(KeysError::TimedOut),
        }
    }

    fn unavailable(&self) -> Unavailable {
        let attempts = self.attempts();
        let passed = attempts.last.map(|last| self.clock.monotonic().saturating_sub(last));
        Unavailable {
            reason: attempts.failure.clone().unwrap_or_else(|| Arc::new(KeysError::Interrupted)),
            retry_after: RETRY_PAUSE.saturating_sub(passed.unwrap_or_default()),
        }
    }

    /// Logs the keys that were left out of the set, once for as long as they stay the same.
    fn tell_of(&self, ring: &KeyRing, left_out: LeftOut) {
        let mut attempts = self.attempts();
        if attempts.left_out == left_out {
            return;
        }
        let (issuer, url) = (self.issuer.escape_debug(), &self.url);
        if left_out.faulty() > 0 || ring.is_empty() {
            tracing::warn!(%issuer, %url, %left_out, used = ring.len(), "keys of an issuer are left out");
        } else {
            tracing::info!(%issuer, %url, %left_out, used = ring.len(), "keys of an issuer are for something else");
        }
        attempts.left_out = left_out;
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn finished(fetch: Option<watch::Receiver<()>>) {
    if let Some(mut fetch) = fetch {
        // An error would mean that the source is gone, but the caller that waits here holds it.
        let _ = fetch.changed().await;
    }
}

/// A running fetch. Dropping it records its end, so that a panic or the end of the runtime is recorded as well.
struct Fetch {
    source: Arc<KeySource>,
    started: Duration,
    outcome: Result<UsableKeys, KeysError>,
}

impl Fetch {
    async fn run(mut self) {
        let outcome = self.source.fetch().await;
        self.end_with(outcome);
    }

    fn end_with(&mut self, outcome: Result<UsableKeys, KeysError>) {
        self.outcome = outcome;
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        let failure = match std::mem::replace(&mut self.outcome, Err(KeysError::Interrupted)) {
            Ok(UsableKeys { ring, left_out, .. }) => {
                self.source.tell_of(&ring, left_out);
                self.source.held.store(Some(Arc::new(Held { ring, since: self.started })));
                None
            }
            Err(error) => {
                tracing::warn!(
                    issuer = %self.source.issuer.escape_debug(),
                    url = %self.source.url,
                    %error,
                    "keys of an issuer could not be fetched"
                );
                Some(Arc::new(error))
            }
        };
        let mut attempts = self.source.attempts();
        attempts.running = false;
        attempts.failure = failure;
        // This happens still under the lock, so that a caller who waits for the next fetch is not woken by the end of
        // this one.
        self.source.finished.send_replace(());
    }
}

/// The keys of a published set that verify by one of these algorithms. Other keys are left out (RFC 7517 §5). A set in
/// which no key can be used is an error, because the issuer's intention is unknown.
fn usable(text: &[u8], algorithms: &[Algorithm]) -> Result<UsableKeys, KeysError> {
    let usable = JwkSet::parse(text)?.published(algorithms);
    match usable.left_out.faulty() {
        1.. if usable.ring.is_empty() => Err(KeysError::NothingUsable(usable.left_out)),
        _ => Ok(usable),
    }
}

/// The longest time for a fetch, from looking up the name to the last byte (SEC-044).
const TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between a fetch and the next one for a key that it did not bring (SEC-044).
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(30);
/// The pause between the beginning of a failed fetch and the next one.
const RETRY_PAUSE: Duration = Duration::from_secs(10);
