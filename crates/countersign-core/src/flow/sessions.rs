//! Operations on sessions: begin, list and end them, and revoke their tokens.

mod foreign;
mod issue;
mod presentation;
mod turns;

use std::fmt;
use std::sync::Arc;

use countersign_jwt::claims::{Claims, Freshness, NewClaims, SessionRef, TokenType};
use countersign_jwt::id::{Epoch, Generation, SessionId, TokenId, UserId};
use countersign_jwt::issuers::KnownIssuers;
use countersign_jwt::jws::SignError;
use countersign_jwt::random::{self, Random, RandomError};
use countersign_jwt::seal::Secrets;
use countersign_jwt::time::{Clock, Timestamp};
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::flow::clock::StoreClock;
use crate::flow::extra::{ExtraClaims, ExtraClaimsError};
use crate::flow::keychain::Keychain;
use crate::flow::keys::{Keys, KeysConfig, TokenFormat};
use crate::flow::verification::Verification;
use crate::flow::view::RevocationView;
use crate::model::derive::{csrf_value, token_id};
use crate::model::event::{Event, Events};
use crate::model::policy::{AtLimit, PolicyError, SessionPolicy};
use crate::model::session::{Device, EndReason, Session, SessionSeed, UserSession};
use crate::model::{Entry, NewSession, Target};
use crate::store::{
    End, EpochRaise, FoundSession, KeyStore, RevocationStore, SessionEnded, SessionInserted, SessionPage,
    SessionStore, StoreError, TokenRevocation, TokensRevoked,
};

pub use foreign::{ForeignError, ForeignTokens};
pub use issue::{AccessGrant, IssueAccessError, IssuedAccess};
pub use presentation::{Beginning, BrowserSession, Presentation};
use turns::Turns;

/// The stores, keys, policy and services that [`Sessions`] works with.
#[derive(Debug)]
pub struct SessionsConfig {
    /// The store of sessions.
    pub sessions: Arc<dyn SessionStore>,
    /// The store of the revocation log.
    pub revocations: Arc<dyn RevocationStore>,
    /// The keys, as they are at the start.
    pub keychain: Keychain,
    /// The store that the keys are read from again.
    pub keys: Arc<dyn KeyStore>,
    /// The secrets that open the keys.
    pub secrets: Secrets,
    /// The `iss` of the tokens. Default `None`, which means `urn:uuid:` and the store's id.
    pub issuer: Option<String>,
    /// The issuers other than [`issuer`](Self::issuer) whose tokens from this store are accepted, as they are at the
    /// start: those that were used before it.
    pub known_issuers: KnownIssuers,
    /// The `aud` of the tokens. Default none.
    pub audience: Option<String>,
    /// Lifetimes and rules of sessions.
    pub policy: SessionPolicy,
    /// The application's own claims for access tokens. Default none.
    pub extra_claims: Option<ExtraClaims>,
    /// The machine's clock. Where the store has a clock of its own, the time is corrected to that.
    pub clock: Arc<dyn Clock>,
    /// The name of this run of this process in the revocation log. No other run has the same.
    pub node: Uuid,
    /// The source of randomness.
    pub random: Arc<dyn Random>,
    /// The receiver of events.
    pub events: Arc<dyn Events>,
    /// The format in which tokens are written; default Countersign's own. With another format, sessions are
    /// [renewed](crate::flow::Refresh::renew) instead of refreshed.
    pub format: Option<Arc<dyn TokenFormat>>,
    /// The runtime for work that a client must not be able to interrupt.
    pub runtime: Handle,
}

/// Begins, lists and ends sessions, and revokes tokens. Cheap to clone.
///
/// ```
/// use countersign_core::flow::Presentation;
/// use countersign_core::model::{Device, EndReason};
/// use countersign_core::store::SessionPage;
/// # use countersign_core::store::MemoryStore;
/// # use countersign_jwt::UserId;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let sessions = countersign_testkit::TestBed::over(MemoryStore::new()).await.sessions;
/// # let ada = UserId::new("ada")?;
/// // Before the password is checked, so that a "log out everywhere" meanwhile ends this login as well.
/// let epoch = sessions.epoch(&ada).await?;
/// let pair = sessions.begin(ada.clone(), epoch, Presentation::Explicit, Device::default()).await?;
/// assert_eq!(sessions.list(&ada, SessionPage::first(10)).await?.len(), 1);
///
/// sessions.end_all(pair.user_id, None, EndReason::AllEnded).await?;
/// assert!(sessions.list(&ada, SessionPage::first(10)).await?.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Sessions {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) keys: Keys,
    pub(crate) view: RevocationView,
    pub(crate) verification: Verification,
    pub(crate) store: Arc<dyn SessionStore>,
    pub(crate) log: Arc<dyn RevocationStore>,
    pub(crate) policy: SessionPolicy,
    pub(crate) clock: Arc<StoreClock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) events: Arc<dyn Events>,
    extra_claims: Option<ExtraClaims>,
    turns: Turns,
    runtime: Handle,
}

/// An access token and a refresh token of one generation of a session.
#[derive(Clone)]
pub struct Pair {
    /// The access token.
    pub access_token: String,
    /// The time at which the access token expires.
    pub access_expires_at: Timestamp,
    /// The refresh token.
    pub refresh_token: String,
    /// The time at which the refresh token expires.
    pub refresh_expires_at: Timestamp,
    /// The CSRF value that both tokens are bound to, if they travel in cookies.
    pub csrf: Option<String>,
    /// How a browser keeps the tokens, if they are those of a login session.
    pub browser: Option<BrowserSession>,
    /// The user of the session.
    pub user_id: UserId,
    /// The session that both tokens name.
    pub session: SessionRef,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Pair {
    /// The number of whole seconds for which the access token is still valid; may be 0.
    #[must_use]
    pub fn expires_in(&self, now: Timestamp) -> u64 {
        remaining_secs(self.access_expires_at, now)
    }

    /// The number of whole seconds for which the refresh token is still valid; may be 0.
    #[must_use]
    pub fn refresh_expires_in(&self, now: Timestamp) -> u64 {
        remaining_secs(self.refresh_expires_at, now)
    }
}

/// The seconds until the expiry, counted like the times in tokens, in whole seconds.
fn remaining_secs(expires_at: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(expires_at.as_secs().saturating_sub(now.as_secs())).unwrap_or(0)
}

/// The reason why no session began.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// All the user's sessions were ended after the epoch was read. A caller that may still begin one reads the epoch
    /// again.
    #[error("all sessions of the user were ended while the login was under way")]
    EpochRaised,
    /// The user has as many live sessions as the policy allows.
    #[error("the user has as many live sessions as are allowed")]
    TooManySessions,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The source of randomness failed.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The tokens could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The application could not give its own claims.
    #[error(transparent)]
    ExtraClaims(#[from] ExtraClaimsError),
}

/// The reason why a session could not be ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndError {
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The reason why tokens could not be revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeTokensError {
    /// The user has too many live entries in the revocation log.
    #[error("the user has too many revoked tokens that have not expired yet")]
    TooMany {
        /// The time at which the first of these entries expires.
        free_at: Timestamp,
    },
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Sessions {
    /// The most token entries of one user that may be live in the revocation log.
    pub const MAX_REVOKED_TOKENS: usize = 1_000;
    /// The most sessions beyond the limit that one login ends. One is usual. Where the limit was lowered there are
    /// more, and then the user's next logins end the rest.
    const EVICTED_AT_ONCE: usize = 16;
    /// The number of sessions that are read at once where all of a user's sessions are looked through.
    const PAGE: usize = 100;

    /// Sessions over the stores and keys of this configuration.
    ///
    /// # Errors
    /// [`PolicyError`] if the policy contradicts itself or is out of range.
    pub fn new(config: SessionsConfig) -> Result<Self, PolicyError> {
        let SessionsConfig { sessions: store, revocations: log, policy, random, events, runtime, .. } =
            config;
        policy.check()?;
        let clock = Arc::new(StoreClock::new(config.clock));
        let bound = policy.revocation_bound;
        let view = RevocationView::new(log.clone(), clock.clone(), runtime.clone(), bound, config.node);
        let keys = Keys::new(KeysConfig {
            keychain: config.keychain,
            store: config.keys,
            log: log.clone(),
            view: view.clone(),
            secrets: config.secrets,
            issuer: config.issuer,
            known_issuers: config.known_issuers,
            audience: config.audience,
            policy: policy.clone(),
            clock: clock.clone(),
            random: random.clone(),
            events: events.clone(),
            format: config.format,
        })?;
        let verification =
            Verification::new(keys.clone(), view.clone(), store.clone(), policy.clone(), clock.clone());
        Ok(Self {
            shared: Arc::new(Shared {
                keys,
                view,
                verification,
                store,
                log,
                policy,
                clock,
                random,
                events,
                extra_claims: config.extra_claims,
                turns: Turns::default(),
                runtime,
            }),
        })
    }

    /// This node's view of the revocation log.
    #[must_use]
    pub fn view(&self) -> &RevocationView {
        &self.shared.view
    }

    /// The keys that sign and verify.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.shared.keys
    }

    /// The service that verifies tokens.
    #[must_use]
    pub fn verification(&self) -> &Verification {
        &self.shared.verification
    }

    /// Sessions for tokens that another library issued.
    #[must_use]
    pub fn foreign(&self) -> ForeignTokens {
        ForeignTokens::of(self)
    }

    /// Lifetimes and rules of sessions.
    #[must_use]
    pub fn policy(&self) -> &SessionPolicy {
        &self.shared.policy
    }

    /// The time that all nodes share: the store's where it has a clock of its own, else this machine's.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.shared.clock.clone()
    }

    /// Whether this machine's clock differs from the store's by no more than the leeway. A clock that is further off
    /// may still mislead other programs that verify tokens by it, and should be repaired before the machine serves.
    #[must_use]
    pub fn clock_is_near(&self) -> bool {
        self.shared.clock.offset() <= self.shared.policy.leeway.max(StoreClock::REMARKABLE)
    }

    /// The user's epoch. A login reads it before it checks the password and passes it to [`Sessions::begin`].
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    pub async fn epoch(&self, user_id: &UserId) -> Result<Epoch, StoreError> {
        self.shared.log.epoch(user_id).await
    }

    /// Begins a session for a user whose identity was proven after `epoch` was read. Its first token pair is fresh.
    ///
    /// ```
    /// # use countersign_core::flow::{BeginError, Presentation};
    /// # use countersign_core::model::{Device, EndReason};
    /// # use countersign_core::store::MemoryStore;
    /// # use countersign_jwt::UserId;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sessions = countersign_testkit::TestBed::over(MemoryStore::new()).await.sessions;
    /// # let ada = UserId::new("ada")?;
    /// let epoch = sessions.epoch(&ada).await?;
    /// let pair = sessions.begin(ada.clone(), epoch, Presentation::Cookie, Device::default()).await?;
    /// assert!(pair.csrf.is_some(), "tokens in cookies come with a CSRF value");
    ///
    /// // A "log out everywhere" after the epoch was read ends the login that is under way, too.
    /// sessions.end_all(ada.clone(), None, EndReason::AllEnded).await?;
    /// let late = sessions.begin(ada, epoch, Presentation::Cookie, Device::default()).await;
    /// assert!(matches!(late, Err(BeginError::EpochRaised)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`BeginError::EpochRaised`] if all the user's sessions were ended since then; [`BeginError::Store`] when the
    /// store cannot answer. Neither leaves a session behind whose tokens anybody has.
    pub async fn begin(
        &self,
        user_id: UserId,
        epoch: Epoch,
        beginning: impl Into<Beginning>,
        device: Device,
    ) -> Result<Pair, BeginError> {
        let (this, beginning) = (self.clone(), beginning.into());
        self.detached(async move { this.begin_now(user_id, epoch, beginning, device).await }).await
    }

    async fn begin_now(
        &self,
        user_id: UserId,
        epoch: Epoch,
        beginning: Beginning,
        device: Device,
    ) -> Result<Pair, BeginError> {
        let Shared { policy, clock, random, .. } = &*self.shared;
        let Beginning { presentation, lifetime, fresh } = beginning;
        let now = clock.now();
        // Keys are kept for the policy's lifetime, so no session lives longer.
        let absolute = lifetime.map_or(policy.absolute, |lifetime| lifetime.min(policy.absolute));
        let session = Session::from(NewSession {
            user_id,
            id: SessionId::new(random::uuid(&**random)?),
            epoch,
            seed: SessionSeed::new(random::bytes(&**random)?),
            device,
            created_at: now,
            now,
            idle_until: now + policy.idle,
            absolute_until: now + absolute,
        });
        let extra = self.extra_claims(&session.user_id).await?;
        let pair = self.pair_with(&session, fresh, presentation, &session.device, &extra)?;
        self.insert_new(&session).await?;
        Ok(pair)
    }

    /// Inserts a session that is just beginning.
    async fn insert_new(&self, session: &Session) -> Result<(), BeginError> {
        match self.shared.store.insert_session(session).await? {
            SessionInserted::Yes => {}
            SessionInserted::EpochRaised => return Err(BeginError::EpochRaised),
            // Session ids are random, so a taken id means that the source of randomness is broken.
            SessionInserted::Taken => return Err(RandomError.into()),
        }
        self.keep_within(session).await?;
        self.shared.events.emit(&Event::SessionBegan {
            user_id: session.user_id.clone(),
            session_id: session.id,
            device: session.device.clone(),
        });
        Ok(())
    }

    /// Ends the sessions of the user that exceed the limit. The new session is counted after it was inserted: of logins
    /// at the same moment, each then sees the others or is seen by them. Where logins beyond the limit are refused,
    /// more of them may be refused than would have been one by one, but none is let in too many.
    pub(crate) async fn keep_within(&self, new: &Session) -> Result<(), BeginError> {
        let Shared { policy, clock, store, .. } = &*self.shared;
        let keep = usize::try_from(policy.max_sessions.get()).unwrap_or(usize::MAX);
        let beyond = SessionPage::beyond(keep, Self::EVICTED_AT_ONCE);
        let surplus = store.live_sessions(&new.user_id, clock.now(), beyond).await?;
        match policy.at_limit {
            AtLimit::Refuse if !surplus.is_empty() => {
                self.end_now(&new.key(), EndReason::Evicted).await?;
                return Err(BeginError::TooManySessions);
            }
            AtLimit::Refuse => {}
            AtLimit::EndOldest => {
                for session in surplus {
                    self.end_now(&session.key(), EndReason::Evicted).await?;
                }
            }
        }
        Ok(())
    }

    /// Ends a session. When this call has returned, this node refuses the session's tokens at once, and every other
    /// node within the revocation bound. The call runs to its end even if the caller goes away.
    ///
    /// ```
    /// use countersign_core::flow::{Check, CheckError};
    /// use countersign_core::model::{EndReason, UserSession};
    /// # use countersign_core::{model::Device, store::MemoryStore};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let bed = countersign_testkit::TestBed::over(MemoryStore::new()).await;
    /// # let pair = bed.begin(&countersign_jwt::UserId::new("ada")?, Device::default()).await;
    /// # let sessions = bed.sessions;
    /// let key = UserSession { user_id: pair.user_id, id: pair.session.id };
    /// sessions.end(key, EndReason::LoggedOut).await?;
    ///
    /// let checked = sessions.verification().verify(&pair.access_token, Check::ACCESS).await;
    /// assert!(matches!(checked, Err(CheckError::Revoked(_))));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`EndError::Store`] when the store cannot answer. The session may then have ended or not, and ending it again is
    /// safe.
    pub async fn end(&self, key: UserSession, reason: EndReason) -> Result<SessionEnded, EndError> {
        let this = self.clone();
        self.detached(async move { Ok(this.end_now(&key, reason).await?) }).await
    }

    /// Ends the sessions that these tokens name; returns whether any of them could be ended or had been before. The
    /// tokens were verified by [`Verification::verify`] with [`Check::ENDING`](crate::flow::Check::ENDING). All
    /// sessions are tried, and a caller who goes away interrupts none.
    ///
    /// A session that the store does not know is ended too while its token has not expired, because the store may have
    /// been restored from a backup.
    ///
    /// # Errors
    /// [`EndError::Store`] when the store could not answer for one of the sessions; ending them again is safe.
    pub async fn end_by_tokens(&self, tokens: Vec<Claims>, reason: EndReason) -> Result<bool, EndError> {
        let this = self.clone();
        self.detached(async move {
            let mut ended: Vec<UserSession> = Vec::new();
            let mut ended_foreign = false;
            let mut failure = None;
            for token in &tokens {
                let Some(session) = token.session() else {
                    match this.foreign().end_now(token, reason).await {
                        Ok(()) => ended_foreign = true,
                        Err(error) => failure = Some(error),
                    }
                    continue;
                };
                let key = UserSession { user_id: token.subject().clone(), id: session.id };
                if ended.contains(&key) {
                    continue;
                }
                match this.end_by_token_now(&key, token, reason).await {
                    Ok(true) => ended.push(key),
                    Ok(false) => {}
                    Err(error) => failure = Some(error),
                }
            }
            failure.map_or(Ok(ended_foreign || !ended.is_empty()), |error| Err(error.into()))
        })
        .await
    }

    async fn end_by_token_now(
        &self,
        key: &UserSession,
        token: &Claims,
        reason: EndReason,
    ) -> Result<bool, StoreError> {
        if self.end_now(key, reason).await? != SessionEnded::Unknown {
            return Ok(true);
        }
        let Shared { policy, clock, log, .. } = &*self.shared;
        let at = clock.now();
        if token.expires_at().is_none_or(|expires_at| at >= expires_at + policy.leeway) {
            return Ok(false);
        }
        let entry = session_entry(key, at, at + policy.revocation_horizon());
        log.insert_entry(&entry).await?;
        self.learn(entry).await?;
        Ok(true)
    }

    pub(crate) async fn end_now(
        &self,
        key: &UserSession,
        reason: EndReason,
    ) -> Result<SessionEnded, StoreError> {
        let Shared { policy, clock, store, .. } = &*self.shared;
        let at = clock.now();
        let until = at + policy.revocation_horizon();
        let ended = store.end_session(key, &End { reason, at, until }).await?;
        match ended {
            SessionEnded::Now => {
                self.learn(session_entry(key, at, until)).await?;
                self.shared.events.emit(&Event::SessionEnded {
                    user_id: key.user_id.clone(),
                    session_id: key.id,
                    reason,
                });
            }
            // Another node may have ended the session, and this node may not have read that yet.
            SessionEnded::Before => self.shared.view.learn(&session_entry(key, at, until)),
            SessionEnded::Unknown => {}
        }
        Ok(ended)
    }

    /// Ends the user's sessions other than `except`, for a user who asks for it; returns whether there were any.
    ///
    /// If there is nothing to end, nothing is written, however often this is called. A session counts here until the
    /// last access token that it may have issued has expired.
    ///
    /// ```
    /// # use countersign_core::{model::Device, store::MemoryStore};
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let bed = countersign_testkit::TestBed::over(MemoryStore::new()).await;
    /// # let ada = countersign_jwt::UserId::new("ada")?;
    /// # let phone = bed.begin(&ada, Device::default()).await;
    /// # let laptop = bed.begin(&ada, Device::default()).await;
    /// # let sessions = &bed.sessions;
    /// assert!(sessions.end_others(ada.clone(), Some(laptop.session.id)).await?);
    /// assert!(bed.authenticate(&phone.access_token).await.is_err());
    /// assert!(bed.authenticate(&laptop.access_token).await.is_ok());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Sessions::end`].
    pub async fn end_others(&self, user_id: UserId, except: Option<SessionId>) -> Result<bool, EndError> {
        // Of concurrent calls for one user the first ends what there is, and the others find nothing left.
        let _turn = self.shared.turns.wait(&user_id).await;
        if !self.has_others(&user_id, except).await? {
            return Ok(false);
        }
        self.end_all(user_id, except, EndReason::AllEnded).await?;
        Ok(true)
    }

    async fn has_others(&self, user_id: &UserId, except: Option<SessionId>) -> Result<bool, StoreError> {
        let Shared { policy, clock, store, log, keys, .. } = &*self.shared;
        let now = clock.now();
        // One session more than the excepted one is read.
        let newest = SessionPage::first(2);
        let alive = store.live_sessions(user_id, now - policy.revocation_horizon(), newest).await?;
        if alive.iter().any(|session| Some(session.id) != except) {
            return Ok(true);
        }
        if !keys.has_own_format() {
            return Ok(false);
        }
        // Nobody knows which tokens without a session another library has issued. Their times are whole seconds, so the
        // last raise of the epoch has ended all of those that were issued in its own second or before.
        let raised_at = log.epoch_raised_at(user_id).await?;
        Ok(raised_at.is_none_or(|raised_at| raised_at.as_secs() < now.as_secs()))
    }

    /// Ends all of the user's sessions except `except`, and every login that is under way. It serves changes of the
    /// account itself. It raises the user's epoch even if there is no session, because a login under way has none yet.
    /// A call that users may make repeatedly is [`Sessions::end_others`].
    ///
    /// ```
    /// use countersign_core::model::EndReason;
    /// # use countersign_core::{model::Device, store::MemoryStore};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let bed = countersign_testkit::TestBed::over(MemoryStore::new()).await;
    /// # let ada = countersign_jwt::UserId::new("ada")?;
    /// # let pair = bed.begin(&ada, Device::default()).await;
    /// # let sessions = &bed.sessions;
    /// let before = sessions.epoch(&ada).await?;
    /// sessions.end_all(ada.clone(), None, EndReason::AllEnded).await?;
    /// assert_eq!(sessions.epoch(&ada).await?, before.next());
    /// assert!(bed.authenticate(&pair.access_token).await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Sessions::end`].
    pub async fn end_all(
        &self,
        user_id: UserId,
        except: Option<SessionId>,
        reason: EndReason,
    ) -> Result<(), EndError> {
        let this = self.clone();
        self.detached(async move {
            let at = this.shared.clock.now();
            let until = at + this.shared.policy.revocation_horizon();
            let raise = EpochRaise { except, reason, at, until };
            let entry = this.shared.log.raise_epoch(&user_id, &raise).await?;
            this.learn(entry).await?;
            this.shared.events.emit(&Event::AllSessionsEnded { user_id, except, reason });
            Ok(())
        })
        .await
    }

    /// Takes an entry into this node's index, after making sure that no reader's window has passed it. An entry whose
    /// insert took long gets a later `at`, and a later `until` for the tokens that were issued meanwhile.
    pub(crate) async fn learn(&self, mut entry: Entry) -> Result<(), StoreError> {
        self.shared.view.learn(&entry);
        let mut now = self.shared.clock.now();
        while now.since(entry.at) > RevocationView::OVERLAP / 2 {
            entry.at = now;
            entry.until = now + self.shared.policy.revocation_horizon();
            self.shared.view.learn(&entry);
            self.shared.log.insert_entry(&entry).await?;
            now = self.shared.clock.now();
        }
        Ok(())
    }

    /// Emits an event.
    pub(crate) fn tell(&self, event: &Event) {
        self.shared.events.emit(event);
    }

    /// A page of the user's live sessions, newest first.
    ///
    /// ```
    /// use countersign_core::store::{SessionPage, SessionPosition};
    /// # use countersign_core::{model::Device, store::MemoryStore};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let bed = countersign_testkit::TestBed::over(MemoryStore::new()).await;
    /// # let ada = countersign_jwt::UserId::new("ada")?;
    /// # for _ in 0..3 {
    /// #     bed.begin(&ada, Device::default()).await;
    /// # }
    /// # let sessions = &bed.sessions;
    /// let newest = sessions.list(&ada, SessionPage::first(2)).await?;
    /// assert_eq!(newest.len(), 2);
    ///
    /// let last = newest.last().map(SessionPosition::from).ok_or("no session")?;
    /// assert_eq!(sessions.list(&ada, SessionPage::after(last, 2)).await?.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    pub async fn list(&self, user_id: &UserId, page: SessionPage) -> Result<Vec<Session>, StoreError> {
        self.shared.store.live_sessions(user_id, self.shared.clock.now(), page).await
    }

    /// Whether the session exists and is live: neither ended, by its row or by the revocation log, nor expired.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    pub async fn is_live(&self, key: &UserSession) -> Result<bool, StoreError> {
        let found = self.shared.store.session(key).await?;
        let now = self.shared.clock.now();
        Ok(found.is_some_and(|FoundSession { session, log }| log.allows(&session, now)))
    }

    /// Revokes tokens of one user by their `jti`. The id of another user's token has no effect. The id of a live
    /// session's current refresh token ends that session; the id of an older one has no effect.
    ///
    /// ```
    /// # use countersign_core::{model::Device, store::MemoryStore};
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let bed = countersign_testkit::TestBed::over(MemoryStore::new()).await;
    /// # let pair = bed.begin(&countersign_jwt::UserId::new("ada")?, Device::default()).await;
    /// # let sessions = &bed.sessions;
    /// let claims = bed.authenticate(&pair.access_token).await?;
    /// sessions.revoke_tokens(claims.subject().clone(), vec![claims.token_id()]).await?;
    ///
    /// assert!(bed.authenticate(&pair.access_token).await.is_err());
    /// assert!(bed.refresh(&pair.refresh_token, Device::default()).await.is_ok(), "the session goes on");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RevokeTokensError::TooMany`] when more than [`Sessions::MAX_REVOKED_TOKENS`] of the user's entries would be
    /// live; nothing was revoked then.
    pub async fn revoke_tokens(&self, user_id: UserId, ids: Vec<TokenId>) -> Result<(), RevokeTokensError> {
        let this = self.clone();
        self.detached(async move { this.revoke_tokens_now(&user_id, ids).await }).await
    }

    async fn revoke_tokens_now(
        &self,
        user_id: &UserId,
        mut ids: Vec<TokenId>,
    ) -> Result<(), RevokeTokensError> {
        let Shared { clock, store, log, .. } = &*self.shared;
        ids.sort_unstable();
        ids.dedup();
        let at = clock.now();
        let until = at + self.token_horizon();
        let tokens = TokenRevocation { ids, at, until, limit: Self::MAX_REVOKED_TOKENS };
        if let TokensRevoked::TooMany { free_at } = log.revoke_tokens(user_id, &tokens).await? {
            return Err(RevokeTokensError::TooMany { free_at });
        }
        for id in &tokens.ids {
            let target = Target::Token { user_id: user_id.clone(), id: *id };
            self.learn(Entry { target, until, at }).await?;
        }
        self.shared.events.emit(&Event::TokensRevoked { user_id: user_id.clone(), ids: tokens.ids.clone() });
        // The ids of a session's tokens are derived and not stored, so the sessions are looked through, a page at a
        // time.
        let is_named = |id: &TokenId| tokens.ids.binary_search(id).is_ok();
        let mut page = SessionPage::first(Self::PAGE);
        loop {
            let sessions = store.live_sessions(user_id, clock.now(), page).await?;
            for session in &sessions {
                if is_named(&token_id(session, TokenType::Refresh))
                    || is_named(&TokenId::new(session.id.as_uuid()))
                {
                    self.end_now(&session.key(), EndReason::EndedByUser).await?;
                }
            }
            match sessions.last() {
                Some(last) if sessions.len() == page.limit => {
                    page = SessionPage::after(last.into(), Self::PAGE);
                }
                _ => return Ok(()),
            }
        }
    }

    pub(crate) async fn extra_claims(
        &self,
        user_id: &UserId,
    ) -> Result<Map<String, Value>, ExtraClaimsError> {
        let Some(extra_claims) = &self.shared.extra_claims else { return Ok(Map::new()) };
        let claims = extra_claims.ask(user_id).await?;
        // All claims are checked before anything is done for the sake of tokens that then could not be issued.
        NewClaims::check_names(&claims)?;
        Ok(claims)
    }

    /// The tokens of the session's current generation, for a client that calls itself `device`. Their claims are the same on every call and every node, except
    /// the application's own. Those of the first generation are fresh.
    pub(crate) fn pair(
        &self,
        session: &Session,
        presentation: Presentation,
        device: &Device,
        extra: &Map<String, Value>,
    ) -> Result<Pair, SignError> {
        let is_fresh = session.generation == Generation::FIRST;
        self.pair_with(session, is_fresh, presentation, device, extra)
    }

    pub(crate) fn pair_with(
        &self,
        session: &Session,
        is_fresh: bool,
        presentation: Presentation,
        device: &Device,
        extra: &Map<String, Value>,
    ) -> Result<Pair, SignError> {
        let policy = &self.shared.policy;
        let csrf = match presentation {
            Presentation::Explicit => None,
            Presentation::Cookie | Presentation::Browser(_) => Some(csrf_value(session)),
        };
        let kept = presentation.claims(device);
        let reference = SessionRef { id: session.id, generation: session.generation, epoch: session.epoch };
        let claims = |token_type, expires_at| {
            let id = token_id(session, token_type);
            let claims =
                NewClaims::new(token_type, session.user_id.clone(), id, session.issued_at, expires_at)
                    .with_session(reference);
            match &csrf {
                Some(csrf) => claims.with_csrf(csrf.as_str()),
                None => claims,
            }
        };
        let fresh = match (is_fresh, policy.fresh_for) {
            (true, None) => Freshness::Fresh,
            (true, Some(fresh_for)) => Freshness::Until(session.issued_at + fresh_for),
            (false, _) => Freshness::Stale,
        };
        let access_expires_at = (session.issued_at + policy.access_lifetime).min(session.absolute_until);
        let refresh_expires_at = session.expires_at();
        let access = claims(TokenType::Access, access_expires_at).with_freshness(fresh).with_claims(extra);
        let access = access.with_claims(&kept);
        let refresh = claims(TokenType::Refresh, refresh_expires_at).with_claims(&kept);
        Ok(Pair {
            access_token: self.shared.keys.issue(&access)?,
            access_expires_at,
            refresh_token: self.shared.keys.issue(&refresh)?,
            refresh_expires_at,
            csrf,
            browser: presentation.browser(),
            user_id: session.user_id.clone(),
            session: reference,
        })
    }

    /// Runs work that a caller who goes away must not interrupt half way. What the work writes has the right time, even
    /// if the machine was suspended a moment ago.
    pub(crate) async fn detached<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E> {
        let Shared { clock, log, runtime, .. } = &*self.shared;
        if clock.has_jumped() {
            Box::pin(clock.ask(&**log)).await?;
        }
        detached(runtime, work).await
    }
}

/// The entry of the revocation log that ends a session.
fn session_entry(key: &UserSession, at: Timestamp, until: Timestamp) -> Entry {
    Entry { target: Target::Session { user_id: key.user_id.clone(), id: key.id }, until, at }
}

/// Runs work to its end on the runtime, whether or not the caller waits for the result.
pub(crate) async fn detached<T: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    match runtime.spawn(work.in_current_span()).await {
        Ok(done) => done,
        // A panic of the work continues in the caller, as if the work had run there.
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down, and with it the caller.
        Err(_) => std::future::pending().await,
    }
}
