//! Exchanging refresh tokens for a new token pair or, where another library's tokens are used, for an access token.

mod fresh;

use std::fmt;

use countersign_jwt::claims::{Claims, NewClaims, SessionRef, TokenType};
use countersign_jwt::id::{Generation, TokenId};
use countersign_jwt::jws::SignError;
use countersign_jwt::time::{Clock as _, Timestamp};
use countersign_jwt::{VerifyError, random};

use crate::flow::extra::ExtraClaimsError;
use crate::flow::sessions::{BeginError, ForeignError, Pair, Presentation, Sessions, Shared};
use crate::flow::verification::{CheckError, check_kind};
use crate::flow::view::ViewTooOld;
use crate::model::decide::{decide, refusal, unread};
use crate::model::{
    Advance, AdvanceCondition, Decision, Device, EndReason, Event, Heal, Presented, Refusal, Session,
    UserSession, csrf_value,
};
use crate::store::{FoundSession, StoreError};

pub use fresh::RenewFreshError;

/// Exchanges refresh tokens. Cheap to clone.
///
/// ```
/// use countersign_core::flow::{Check, Refresh};
/// use countersign_core::model::Device;
/// # use countersign_core::store::MemoryStore;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let bed = countersign_testkit::TestBed::over(MemoryStore::new()).await;
/// # let pair = bed.begin(&countersign_jwt::UserId::new("ada")?, Device::default()).await;
/// # let sessions = bed.sessions;
/// let check = Check::REFRESH.even_if_revoked(); // the exchange itself asks the store
/// let token = sessions.verification().verify(&pair.refresh_token, check).await?;
///
/// let refresh = Refresh::of(&sessions);
/// let first = refresh.exchange(&token, true, Device::default()).await?;
/// assert!(first.advanced);
///
/// // A second tab sends the same token a moment later, and gets the same successor.
/// let second = refresh.exchange(&token, true, Device::default()).await?;
/// assert!(!second.advanced);
/// assert_eq!(second.pair.refresh_token, first.pair.refresh_token);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Refresh {
    sessions: Sessions,
}

/// The result of exchanging a refresh token.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// The token pair to answer with.
    pub pair: Pair,
    /// Whether the session advanced to a new generation; otherwise the current generation was reserved or healed.
    pub advanced: bool,
}

/// A refresh whose step has not been taken yet; see [`Refresh::prepare`].
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The pair that the step leads to.
    pub pair: Pair,
    key: UserSession,
    step: Step,
}

#[derive(Clone, Debug)]
enum Step {
    /// The pair is that of the current generation.
    Taken,
    Advance(Advance),
    Heal(Heal),
}

/// The result of exchanging a refresh token that is not rotated.
#[derive(Clone)]
pub struct Renewed {
    /// The new access token.
    pub access_token: String,
    /// The time at which the access token expires.
    pub access_expires_at: Timestamp,
    /// The CSRF value that the access token is bound to, if the refresh token is bound to one.
    pub csrf: Option<String>,
    /// The session that the access token names.
    pub session: SessionRef,
}

impl fmt::Debug for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewed").field("session", &self.session).finish_non_exhaustive()
    }
}

/// The reason why a refresh token was not exchanged. No error comes with tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// The refresh token does not verify.
    #[error(transparent)]
    Invalid(#[from] VerifyError),
    /// The session of the refresh token can no longer be refreshed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The refresh token is a replay, so somebody holds a copy of it. The session was ended.
    #[error("an old refresh token was presented; the session was ended")]
    Replayed,
    /// The session changed during each of four tries to refresh it.
    #[error("the session changed during each of four tries to refresh it")]
    Contended,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The refresh token's key is unknown, and the keys and the log could not be read for longer than the revocation
    /// bound.
    #[error(transparent)]
    ViewTooOld(#[from] ViewTooOld),
    /// The new tokens could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The application could not give its own claims. The session is unchanged.
    #[error(transparent)]
    ExtraClaims(#[from] ExtraClaimsError),
}

impl RefreshError {
    /// The outcome in the metric of refreshes.
    const fn outcome(&self) -> &'static str {
        match self {
            Self::Replayed => "reused",
            Self::Refused(_) | Self::Invalid(_) => "refused",
            Self::Contended => "contended",
            Self::Store(_) | Self::ViewTooOld(_) | Self::Sign(_) | Self::ExtraClaims(_) => "error",
        }
    }
}

/// Counts a refresh by what came of it.
fn count(outcome: &'static str) {
    metrics::counter!("countersign_refreshes_total", "outcome" => outcome).increment(1);
}

impl From<CheckError> for RefreshError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Invalid(error) => Self::Invalid(error),
            CheckError::Refused(refusal) => Self::Refused(refusal),
            CheckError::Revoked(_) => Self::Refused(Refusal::Ended),
            CheckError::ViewTooOld(error) => Self::ViewTooOld(error),
            CheckError::Store(error) => Self::Store(error),
        }
    }
}

impl From<ForeignError> for RefreshError {
    fn from(error: ForeignError) -> Self {
        match error {
            ForeignError::Check(error) => error.into(),
            ForeignError::Random(_) => Self::Sign(SignError::Failed),
        }
    }
}

impl Refresh {
    /// How often a conditional step is tried before the refresh is answered with 503.
    const TRIES: u32 = 4;

    /// A refresh service for the tokens of these sessions.
    #[must_use]
    pub fn of(sessions: &Sessions) -> Self {
        Self { sessions: sessions.clone() }
    }

    /// Exchanges a refresh token for a token pair (RFC 6749 §6). The caller has verified the token by
    /// [`Verification::verify`](crate::flow::Verification::verify) with
    /// [`Check::REFRESH`](crate::flow::Check::REFRESH)[`.even_if_revoked()`](crate::flow::Check::even_if_revoked): the
    /// exchange itself asks the store whether the session lives. `user_enabled` says whether the token's user exists
    /// and is enabled.
    ///
    /// The presented token stays good for a short grace. Presenting an older one is a replay: it ends the session,
    /// because somebody else holds a copy (RFC 9700 §4.14.2). The exchange runs to its end even if the caller goes
    /// away.
    ///
    /// ```
    /// use countersign_core::flow::RefreshError;
    /// # use std::time::Duration;
    /// # use countersign_core::{model::Device, store::MemoryStore};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let bed = countersign_testkit::TestBed::over(MemoryStore::new()).await;
    /// # let stolen = bed.begin(&countersign_jwt::UserId::new("ada")?, Device::default()).await;
    /// # let next = bed.refresh(&stolen.refresh_token, Device::default()).await?.pair;
    /// # bed.clock.advance(Duration::from_secs(60));
    /// # bed.refresh(&next.refresh_token, Device::default()).await?;
    /// # bed.clock.advance(Duration::from_secs(60));
    /// # let verification = bed.sessions.verification();
    /// # let check = countersign_core::flow::Check::REFRESH.even_if_revoked();
    /// # let token = verification.verify(&stolen.refresh_token, check).await?;
    /// # let refresh = countersign_core::flow::Refresh::of(&bed.sessions);
    /// // The session has been refreshed twice since this token was issued, so somebody kept a copy of it.
    /// let replayed = refresh.exchange(&token, true, Device::default()).await;
    /// assert!(matches!(replayed, Err(RefreshError::Replayed)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RefreshError::Replayed`] after such a replay, [`RefreshError::Refused`] for a session that no longer lives,
    /// [`RefreshError::Invalid`] for the claims of an access token.
    /// [`RefreshError::Store`] and [`RefreshError::Contended`] are worth repeating with the same token.
    pub async fn exchange(
        &self,
        token: &Claims,
        user_enabled: bool,
        device: Device,
    ) -> Result<Refreshed, RefreshError> {
        let this = self.clone();
        let token = token.clone();
        let exchange = async move {
            let exchanged = this.exchange_now(&token, user_enabled, device).await;
            count(match &exchanged {
                Ok(Refreshed { advanced: true, .. }) => "advanced",
                Ok(Refreshed { advanced: false, .. }) => "repeated",
                Err(error) => error.outcome(),
            });
            exchanged
        };
        self.sessions.detached(exchange).await
    }

    async fn exchange_now(
        &self,
        token: &Claims,
        user_enabled: bool,
        device: Device,
    ) -> Result<Refreshed, RefreshError> {
        let Shared { policy, clock, store, events, verification, .. } = &*self.sessions.shared;
        check_kind(token, TokenType::Refresh)?;
        let Some(presented) = token.session() else { return Err(Refusal::Unknown.into()) };
        let presentation = Presentation::of(token);
        let key = UserSession { user_id: token.subject().clone(), id: presented.id };
        let presented = Presented { generation: presented.generation, device };
        // The claims are asked for before any step, so that nothing has happened to the session if they cannot be had.
        let extra = self.sessions.extra_claims(&key.user_id).await?;
        let mut tries = Self::TRIES;
        // Nearly every refresh advances from the generation that it presents, so that step is tried first, without
        // reading the row; but not with a token that is so young that its pair is likely to be reserved.
        let now = clock.now();
        let is_young = presented.generation > Generation::FIRST
            && token.issued_at().is_some_and(|issued_at| now < issued_at + policy.grace);
        if user_enabled && !is_young {
            tries -= 1;
            let step = unread(&presented, now, policy);
            if let Some(session) = store.advance(&key, &step).await? {
                return Ok(Refreshed {
                    pair: self.sessions.pair(&session, presentation, &presented.device, &extra)?,
                    advanced: true,
                });
            }
        }
        for _ in 0..tries {
            let Some(found) = store.session(&key).await? else { return Err(Refusal::Unknown.into()) };
            let mut session = found.session;
            let circumstances = verification.circumstances(&session, found.log, user_enabled);
            match decide(&session, &circumstances, &presented, clock.now(), policy) {
                Decision::Refuse(refusal) => return Err(refusal.into()),
                Decision::Advance(step) => {
                    if let Some(session) = store.advance(&key, &step).await? {
                        return Ok(Refreshed {
                            pair: self.sessions.pair(&session, presentation, &presented.device, &extra)?,
                            advanced: true,
                        });
                    }
                }
                Decision::Heal(step) => {
                    if store.heal(&key, &step).await? {
                        step.apply(&mut session);
                        return Ok(Refreshed {
                            pair: self.sessions.pair(&session, presentation, &presented.device, &extra)?,
                            advanced: false,
                        });
                    }
                }
                Decision::Reserve => {
                    if presented.generation == session.generation {
                        // A client that presents the current refresh token has received it.
                        verification.note_use(token);
                    }
                    if !presented.device.is_same_client(&session.device) {
                        events.emit(&Event::RefreshShared {
                            user_id: key.user_id.clone(),
                            session_id: key.id,
                            generation: session.generation,
                            device: presented.device.clone(),
                        });
                    }
                    return Ok(Refreshed {
                        pair: self.sessions.pair(&session, presentation, &presented.device, &extra)?,
                        advanced: false,
                    });
                }
                Decision::Replay => {
                    self.sessions.end_now(&key, EndReason::Replayed).await?;
                    events.emit(&Event::RefreshReused {
                        user_id: key.user_id.clone(),
                        session_id: key.id,
                        presented: presented.generation,
                        current: session.generation,
                        device: presented.device,
                    });
                    return Err(RefreshError::Replayed);
                }
            }
        }
        Err(RefreshError::Contended)
    }

    /// Derives the pair that exchanging a refresh token would lead to now, without taking the step. The pair is good for
    /// the request at hand, and nobody else gets it before [`Refresh::commit`] takes the step: what the request
    /// comes to then decides whether the session is refreshed. The token was verified as for [`Refresh::exchange`].
    ///
    /// ```
    /// use countersign_core::flow::{Check, Refresh};
    /// # use countersign_core::{model::Device, store::MemoryStore};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let bed = countersign_testkit::TestBed::over(MemoryStore::new()).await;
    /// # let pair = bed.begin(&countersign_jwt::UserId::new("ada")?, Device::default()).await;
    /// # let sessions = bed.sessions;
    /// # let check = Check::REFRESH.even_if_revoked();
    /// # let token = sessions.verification().verify(&pair.refresh_token, check).await?;
    /// let refresh = Refresh::of(&sessions);
    /// let prepared = refresh.prepare(&token, true, Device::default(), false).await?;
    /// assert!(refresh.commit(&prepared).await?, "the session has advanced to the pair that was prepared");
    /// assert!(!refresh.commit(&prepared).await?, "nobody can advance it from there once more");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// `fresh` makes the pair fresh, for rules by which a session stays fresh as long as it lives; a refresh by
    /// [`Refresh::exchange`] never does.
    ///
    /// # Errors
    /// Those of [`Refresh::exchange`]. A replay ends the session at once.
    pub async fn prepare(
        &self,
        token: &Claims,
        user_enabled: bool,
        device: Device,
        fresh: bool,
    ) -> Result<Prepared, RefreshError> {
        let (this, token) = (self.clone(), token.clone());
        let prepare = async move {
            let prepared = this.prepare_now(&token, user_enabled, device, fresh).await;
            prepared.inspect_err(|error| count(error.outcome()))
        };
        self.sessions.detached(prepare).await
    }

    async fn prepare_now(
        &self,
        token: &Claims,
        user_enabled: bool,
        device: Device,
        fresh: bool,
    ) -> Result<Prepared, RefreshError> {
        let Shared { policy, clock, store, verification, .. } = &*self.sessions.shared;
        check_kind(token, TokenType::Refresh)?;
        let Some(reference) = token.session() else { return Err(Refusal::Unknown.into()) };
        let key = UserSession { user_id: token.subject().clone(), id: reference.id };
        let extra = self.sessions.extra_claims(&key.user_id).await?;
        let presented = Presented { generation: reference.generation, device };
        let Some(found) = store.session(&key).await? else { return Err(Refusal::Unknown.into()) };
        let mut session = found.session;
        let circumstances = verification.circumstances(&session, found.log, user_enabled);
        let step = match decide(&session, &circumstances, &presented, clock.now(), policy) {
            Decision::Refuse(refusal) => return Err(refusal.into()),
            Decision::Advance(step) => {
                step.apply(&mut session);
                Step::Advance(step)
            }
            Decision::Heal(step) => {
                step.apply(&mut session);
                Step::Heal(step)
            }
            // Neither changes the current generation, so nothing is gained by waiting.
            Decision::Reserve | Decision::Replay => {
                let pair = self.exchange_now(token, user_enabled, presented.device).await?.pair;
                return Ok(Prepared { pair, key, step: Step::Taken });
            }
        };
        let presentation = Presentation::of(token);
        let pair = self.sessions.pair_with(&session, fresh, presentation, &presented.device, &extra)?;
        Ok(Prepared { pair, key, step })
    }

    /// Takes the step that was prepared. Returns whether the session is now at the pair that was prepared; otherwise
    /// somebody else has refreshed the session meanwhile or ended it, and the pair is worth nothing. The call runs to
    /// its end even if the caller goes away.
    ///
    /// # Errors
    /// [`RefreshError::Store`] when the store cannot answer.
    pub async fn commit(&self, prepared: &Prepared) -> Result<bool, RefreshError> {
        let (store, key) = (self.sessions.shared.store.clone(), prepared.key.clone());
        let step = prepared.step.clone();
        let commit = async move {
            let (outcome, committed) = match step {
                Step::Taken => ("repeated", Ok(true)),
                Step::Advance(step) => {
                    ("advanced", store.advance(&key, &step).await.map(|advanced| advanced.is_some()))
                }
                Step::Heal(step) => ("repeated", store.heal(&key, &step).await),
            };
            let committed = committed.map_err(RefreshError::from);
            count(match &committed {
                Ok(true) => outcome,
                Ok(false) => "contended",
                Err(error) => error.outcome(),
            });
            committed
        };
        match &prepared.step {
            Step::Taken => commit.await,
            Step::Advance(_) | Step::Heal(_) => self.sessions.detached(commit).await,
        }
    }

    /// Exchanges a refresh token that another library's rules have verified for an access token, and leaves the refresh
    /// token good for the next time. The exchange runs to its end even if the caller goes away.
    ///
    /// # Errors
    /// [`RefreshError::Refused`] if its session no longer lives, [`RefreshError::Store`] when the store cannot answer.
    pub async fn renew(
        &self,
        token: &Claims,
        user_enabled: bool,
        device: Device,
    ) -> Result<Renewed, RefreshError> {
        let (this, token) = (self.clone(), token.clone());
        let renew = async move {
            let renewed = this.renew_now(&token, user_enabled, device).await;
            count(renewed.as_ref().map_or_else(RefreshError::outcome, |_| "renewed"));
            renewed
        };
        self.sessions.detached(renew).await
    }

    /// Checks that a refresh token of another library, verified by its rules, would be [renewed](Self::renew). Nothing
    /// is written: a token that names no session gets one only when it is renewed.
    ///
    /// # Errors
    /// Those of [`Refresh::renew`].
    pub async fn check_renewal(&self, token: &Claims) -> Result<(), RefreshError> {
        let (this, token) = (self.clone(), token.clone());
        // As the exchange itself does, by the right time even if the machine was suspended a moment ago.
        let check = async move {
            let (found, _) = this.sessions.foreign().look_up(&token, &Device::default()).await?;
            this.refuse_dead(&found, true, this.sessions.shared.clock.now())
        };
        self.sessions.detached(check).await
    }

    async fn renew_now(
        &self,
        token: &Claims,
        user_enabled: bool,
        device: Device,
    ) -> Result<Renewed, RefreshError> {
        let Shared { policy, clock, store, random, .. } = &*self.sessions.shared;
        let mut session = self.live_session(token, user_enabled, &device).await?;
        // The generation and the row's times advance, as for a token that rotates. A call that loses against another
        // refresh of the same session needs neither.
        let now = clock.now();
        let step = Advance {
            from: session.generation,
            to: session.generation.next(),
            guard: AdvanceCondition::Generation,
            now,
            // A token that stays good until it expires has a session that lives until then, too.
            idle_until: session.absolute_until,
            device: device.clone(),
        };
        session = match store.advance(&session.key(), &step).await? {
            Some(session) => session,
            None => self.live_session(token, user_enabled, &device).await?,
        };
        let reference = SessionRef { id: session.id, generation: session.generation, epoch: session.epoch };
        let access_expires_at = (now + policy.access_lifetime).min(session.absolute_until);
        let extra = self.sessions.extra_claims(&session.user_id).await?;
        let id = TokenId::new(random::uuid(&**random).map_err(|_| SignError::Failed)?);
        let mut claims =
            NewClaims::new(TokenType::Access, session.user_id.clone(), id, now, access_expires_at)
                .with_session(reference)
                .with_claims(&extra);
        let csrf = token.csrf().is_some().then(|| csrf_value(&session));
        if let Some(csrf) = &csrf {
            claims = claims.with_csrf(csrf.as_str());
        }
        Ok(Renewed {
            access_token: self.sessions.keys().issue(&claims)?,
            access_expires_at,
            csrf,
            session: reference,
        })
    }

    /// The session of a refresh token, if it can be refreshed now.
    async fn live_session(
        &self,
        token: &Claims,
        user_enabled: bool,
        device: &Device,
    ) -> Result<Session, RefreshError> {
        let Shared { store, clock, .. } = &*self.sessions.shared;
        let (mut found, is_new) = self.sessions.foreign().begin_or_find(token, device).await?;
        if is_new {
            // A token of another library counts as a session from its first refresh on, so the limit on sessions holds
            // for it, too.
            match self.sessions.keep_within(&found.session).await {
                Ok(()) => {}
                Err(BeginError::Store(error)) => return Err(error.into()),
                Err(_) => return Err(Refusal::Ended.into()),
            }
            // This session may be the oldest one and so may just have been ended.
            found = store.session(&found.session.key()).await?.ok_or(Refusal::Unknown)?;
        }
        self.refuse_dead(&found, user_enabled, clock.now())?;
        Ok(found.session)
    }

    fn refuse_dead(
        &self,
        found: &FoundSession,
        user_enabled: bool,
        now: Timestamp,
    ) -> Result<(), RefreshError> {
        let verification = self.sessions.verification();
        let circumstances = verification.circumstances(&found.session, found.log, user_enabled);
        refusal(&found.session, &circumstances, now).map_or(Ok(()), |refusal| Err(refusal.into()))
    }
}
