//! What one does with sessions: begin, authenticate, refresh, end, list, revoke.

mod foreign;
mod issue;
mod issuers;
mod keys;
mod turns;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use countersign_jwt::VerifyError;
use countersign_jwt::claims::{Claims, Freshness, NewClaims, SessionRef, TokenType};
use countersign_jwt::id::{Epoch, Generation, SessionId, TokenId, UserId};
use countersign_jwt::issuers::KnownIssuers;
use countersign_jwt::jws::SignError;
use countersign_jwt::key::{KeyRing, VerifyingKey};
use countersign_jwt::random::{self, Random, RandomError};
use countersign_jwt::seal::Secrets;
use countersign_jwt::time::{Clock, Timestamp};
use countersign_jwt::token::{Issuer, Verifier};
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::flow::clock::StoreClock;
use crate::flow::extra::{ExtraClaims, ExtraClaimsError};
use crate::flow::{Keychain, RevocationView, ViewTooOld};
use crate::model::acknowledge::Acknowledgements;
use crate::model::decide::{Circumstances, Decision, LogStanding, Presented, Refusal, decide, unread};
use crate::model::derive::{csrf_value, token_id};
use crate::model::event::{Event, Events};
use crate::model::policy::{AtLimit, PolicyError, SessionPolicy};
use crate::model::session::{Device, EndReason, Session, SessionKey, SessionSeed};
use crate::model::{Entry, RevokedBy, Standing, Target};
use crate::store::{
    End, EpochRaise, FoundSession, KeyStore, RevocationStore, SessionEnded, SessionInserted, SessionPage,
    SessionStore, StoreError, TokenRevocation, TokensRevoked,
};

pub use foreign::{Renewed, TokenFormat};
pub use issue::{AccessGrant, IssueAccessError, IssuedAccess};
use issuers::IssuerWatch;
pub use keys::KeyLifeError;
pub(crate) use keys::remove as remove_from_ring;
use keys::{LastReload, Parties};
use turns::Turns;

/// What [`Sessions`] works with.
#[derive(Debug)]
pub struct SessionsConfig {
    /// Sessions at rest.
    pub sessions: Arc<dyn SessionStore>,
    /// The revocation log.
    pub revocations: Arc<dyn RevocationStore>,
    /// Keys, as they are at first.
    pub keychain: Keychain,
    /// Where they are read again.
    pub keys: Arc<dyn KeyStore>,
    /// What opens them.
    pub secrets: Secrets,
    /// The `iss` of the tokens. `None`: `urn:uuid:` and the store's id.
    pub issuer: Option<String>,
    /// Other issuers of this store's tokens, as they are at first: those before this one.
    pub known_issuers: KnownIssuers,
    /// The `aud` of the tokens. Default none.
    pub audience: Option<String>,
    /// Lifetimes and rules.
    pub policy: SessionPolicy,
    /// Claims of the application's own for access tokens. Default none.
    pub extra_claims: Option<ExtraClaims>,
    /// The machine's time; where the store has a time of its own, it is corrected to that.
    pub clock: Arc<dyn Clock>,
    /// What this run of this process is called in the revocation log; no other has the same.
    pub node: Uuid,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Where events go.
    pub events: Arc<dyn Events>,
    /// How tokens are written where they are not to be this library's own; default none. Sessions are then
    /// [renewed](Sessions::renew) instead of refreshed.
    pub format: Option<Arc<dyn TokenFormat>>,
    /// Where work runs that a client must not be able to interrupt.
    pub runtime: Handle,
}

/// Sessions and their tokens: begin, authenticate, refresh, end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sessions {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn SessionStore>,
    log: Arc<dyn RevocationStore>,
    view: RevocationView,
    keys: Arc<dyn KeyStore>,
    secrets: Secrets,
    parties: Parties,
    last_reload: LastReload,
    known_issuers: Arc<ArcSwap<KnownIssuers>>,
    issuer_watch: IssuerWatch,
    foreign_keys: Vec<VerifyingKey>,
    access_issuer: ArcSwap<Issuer>,
    refresh_issuer: ArcSwap<Issuer>,
    access_verifier: Verifier,
    refresh_verifier: Verifier,
    access_keys: Arc<ArcSwap<KeyRing>>,
    refresh_keys: Arc<ArcSwap<KeyRing>>,
    policy: SessionPolicy,
    extra_claims: Option<ExtraClaims>,
    clock: Arc<StoreClock>,
    random: Arc<dyn Random>,
    events: Arc<dyn Events>,
    acknowledgements: Acknowledgements,
    turns: Turns,
    format: Option<Arc<dyn TokenFormat>>,
    runtime: Handle,
}

/// An access token and a refresh token of one generation of a session.
#[derive(Clone)]
pub struct Pair {
    /// The access token.
    pub access_token: String,
    /// When it expires.
    pub access_expires_at: Timestamp,
    /// The refresh token.
    pub refresh_token: String,
    /// When it expires.
    pub refresh_expires_at: Timestamp,
    /// The CSRF value that both are bound to, if they travel in cookies.
    pub csrf: Option<String>,
    /// The user.
    pub user_id: UserId,
    /// The session.
    pub session: SessionRef,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Pair {
    /// For how many whole seconds more the access token is valid; may be 0.
    #[must_use]
    pub fn expires_in(&self, now: Timestamp) -> u64 {
        remaining_secs(self.access_expires_at, now)
    }

    /// For how many whole seconds more the refresh token is valid; may be 0.
    #[must_use]
    pub fn refresh_expires_in(&self, now: Timestamp) -> u64 {
        remaining_secs(self.refresh_expires_at, now)
    }
}

/// As the tokens themselves count, in whole seconds.
fn remaining_secs(expires_at: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(expires_at.as_secs().saturating_sub(now.as_secs())).unwrap_or(0)
}

/// How a session's tokens will be presented.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Presentation {
    /// By the client's own code, in a header or a body.
    Explicit,
    /// By a browser, in cookies: the tokens carry a CSRF value.
    Cookie,
}

/// What came of a refresh.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// The pair to answer with.
    pub pair: Pair,
    /// The session stepped on to a new generation; else the current generation was served again or healed.
    pub advanced: bool,
}

/// Why no session began.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// All the user's sessions were ended after the epoch was read. Whoever may still begin one reads it again.
    #[error("all sessions of the user were ended while the login was under way")]
    EpochRaised,
    /// The user has as many live sessions as are allowed.
    #[error("the user has as many live sessions as are allowed")]
    TooManySessions,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The tokens could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The application's own claims could not be had.
    #[error(transparent)]
    ExtraClaims(#[from] ExtraClaimsError),
}

/// Why an access token was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// It does not verify.
    #[error(transparent)]
    Invalid(#[from] VerifyError),
    /// It was revoked.
    #[error(transparent)]
    Revoked(#[from] RevokedBy),
    /// Nobody can say whether it was revoked.
    #[error(transparent)]
    ViewTooOld(#[from] ViewTooOld),
}

/// Why a refresh token was not exchanged. None of these yields tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// It does not verify.
    #[error(transparent)]
    Invalid(#[from] VerifyError),
    /// Its session no longer refreshes.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It is an old one: somebody holds a copy. The session was ended.
    #[error("an old refresh token was presented; the session was ended")]
    Replayed,
    /// The session changed under every one of four tries.
    #[error("the session changed under four tries to refresh it")]
    Contended,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The token's key is unknown, and the keys and the log could not be read for longer than the bound.
    #[error(transparent)]
    ViewTooOld(#[from] ViewTooOld),
    /// The tokens could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The application's own claims could not be had. Nothing happened to the session.
    #[error(transparent)]
    ExtraClaims(#[from] ExtraClaimsError),
}

/// Why a session could not be ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndError {
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why tokens could not be revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeTokensError {
    /// The user has too many live entries in the log.
    #[error("the user has too many revoked tokens that have not expired yet")]
    TooMany {
        /// When the first of them expires.
        free_at: Timestamp,
    },
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Sessions {
    /// At most this many token entries in the log may be live for one user.
    pub const MAX_REVOKED_TOKENS: usize = 1_000;
    /// How often a conditional step is tried before the refresh is answered with 503.
    const TRIES: u32 = 4;
    /// How many sessions beyond the cap one login ends at most. One is the rule; there are more where the cap was
    /// lowered, and then the user's next logins end the rest.
    const EVICTED_AT_ONCE: usize = 16;
    /// How many sessions are read at once where all of a user's are looked through.
    const PAGE: usize = 100;

    /// Sessions over these stores and keys.
    ///
    /// # Errors
    /// [`PolicyError`] if the policy contradicts itself or is out of range.
    pub fn new(config: SessionsConfig) -> Result<Self, PolicyError> {
        let SessionsConfig {
            sessions,
            revocations,
            keychain,
            keys,
            secrets,
            policy,
            extra_claims,
            clock,
            node,
            random,
            events,
            format,
            runtime,
            ..
        } = config;
        policy.check()?;
        let clock = Arc::new(StoreClock::new(clock));
        let issuer = config.issuer.unwrap_or_else(|| format!("urn:uuid:{}", keychain.store_id.hyphenated()));
        let parties = Parties { issuer, audience: config.audience };
        let known_issuers = Arc::new(ArcSwap::from_pointee(config.known_issuers));
        let foreign_keys = keychain.access.foreign().to_vec();
        let verifying = |token_type, ring| {
            let verifying = Verifier::new(token_type, ring)
                .with_issuer(&parties.issuer)
                .with_known_issuers(known_issuers.clone(), foreign_keys.clone());
            let verifying = verifying.with_leeway(policy.leeway).map_err(|_| PolicyError {
                setting: "leeway",
                value: format!("{} s", policy.leeway.as_secs()),
                rule: "it must be at most 300 s",
            })?;
            Ok(match &parties.audience {
                Some(audience) => verifying.with_audience(audience),
                None => verifying,
            })
        };
        let view = RevocationView::new(
            revocations.clone(),
            clock.clone(),
            runtime.clone(),
            policy.revocation_bound,
            node,
        );
        view.remove_keys_from([keychain.access.ring.clone(), keychain.refresh.ring.clone()]);
        Ok(Self {
            shared: Arc::new(Shared {
                keys,
                secrets,
                access_issuer: ArcSwap::from_pointee(parties.issuer(keychain.access.signing)),
                refresh_issuer: ArcSwap::from_pointee(parties.issuer(keychain.refresh.signing)),
                last_reload: LastReload::default(),
                refresh_keys: keychain.refresh.ring.clone(),
                access_keys: keychain.access.ring.clone(),
                access_verifier: verifying(TokenType::Access, keychain.access.ring)?,
                refresh_verifier: verifying(TokenType::Refresh, keychain.refresh.ring)?,
                known_issuers,
                issuer_watch: IssuerWatch::default(),
                foreign_keys,
                parties,
                store: sessions,
                log: revocations,
                view,
                policy,
                extra_claims,
                clock,
                random,
                events,
                acknowledgements: Acknowledgements::default(),
                turns: Turns::default(),
                format,
                runtime,
            }),
        })
    }

    /// This node's view of the revocation log.
    #[must_use]
    pub fn view(&self) -> &RevocationView {
        &self.shared.view
    }

    /// The public keys that verify access tokens, as a JWK set (RFC 7517 §5) to be published. Keys that could also
    /// sign, which are those of refresh tokens and HS256 ones of access tokens, are never in it (SEC-042), nor are keys
    /// of others.
    #[must_use]
    pub fn public_keys(&self) -> String {
        let Shared { access_keys, foreign_keys, .. } = &*self.shared;
        let mut own = KeyRing::clone(&access_keys.load());
        for key in foreign_keys {
            own.remove(key.key_id());
        }
        own.to_jwk_set()
    }

    /// Lifetimes and rules.
    #[must_use]
    pub fn policy(&self) -> &SessionPolicy {
        &self.shared.policy
    }

    /// The time that all nodes share: the store's, where it has one, else this machine's.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.shared.clock.clone()
    }

    /// Whether this machine's clock is near enough to the store's: within the leeway. One that is not may still lead
    /// others astray that verify tokens by it, and is better repaired before it serves.
    #[must_use]
    pub fn clock_is_near(&self) -> bool {
        self.shared.clock.offset() <= self.shared.policy.leeway.max(StoreClock::REMARKABLE)
    }

    /// The user's epoch. A login reads it before it checks the password, and [`Sessions::begin`] insists on it.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    pub async fn epoch(&self, user_id: &UserId) -> Result<Epoch, StoreError> {
        self.shared.log.epoch(user_id).await
    }

    /// Begins a session for a user whose identity was proven since `epoch` was read. Its first pair is fresh.
    ///
    /// # Errors
    /// [`BeginError::EpochRaised`] if all the user's sessions were ended since; [`BeginError::Store`] when the
    /// store cannot answer. Neither leaves a session behind whose tokens anybody has.
    pub async fn begin(
        &self,
        user_id: UserId,
        epoch: Epoch,
        presentation: Presentation,
        device: Device,
    ) -> Result<Pair, BeginError> {
        let this = self.clone();
        self.detached(async move { this.begin_now(user_id, epoch, presentation, device).await }).await
    }

    async fn begin_now(
        &self,
        user_id: UserId,
        epoch: Epoch,
        presentation: Presentation,
        device: Device,
    ) -> Result<Pair, BeginError> {
        let Shared { policy, clock, random, .. } = &*self.shared;
        let now = clock.now();
        let absolute_until = now + policy.absolute;
        let session = Session {
            user_id,
            id: SessionId::new(random::uuid(&**random)?),
            epoch,
            generation: Generation::FIRST,
            issued_at: now,
            acknowledged_at: None,
            heals: 0,
            healed_run: 0,
            seed: SessionSeed::new(random::bytes(&**random)?),
            created_at: now,
            last_seen_at: now,
            idle_until: (now + policy.idle).min(absolute_until),
            absolute_until,
            device,
            ended: None,
        };
        let extra = self.extra_claims(&session.user_id).await?;
        let pair = self.pair(&session, presentation, &extra)?;
        self.insert_new(&session).await?;
        Ok(pair)
    }

    /// Inserts a session that just begins.
    async fn insert_new(&self, session: &Session) -> Result<(), BeginError> {
        match self.shared.store.insert_session(session).await? {
            SessionInserted::Yes => {}
            SessionInserted::EpochRaised => return Err(BeginError::EpochRaised),
            // Ids are random, so this is a broken source of randomness.
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

    /// Ends what the user has too many of. The new session is counted after it was inserted: of logins at the same
    /// moment each then sees the others, or is seen by them. Where logins are refused, more of them may be than would
    /// have been one by one, but none is let in too many.
    async fn keep_within(&self, new: &Session) -> Result<(), BeginError> {
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

    /// Verifies an access token and asks the index whether it was revoked: no store call, but for a token that names
    /// an unknown key or issuer, for which the store is asked at most once a second.
    ///
    /// # Errors
    /// [`AccessError::ViewTooOld`] when the revocation log could not be read for longer than the bound (503); the
    /// others mean that the token is not accepted (401).
    pub async fn authenticate(&self, token: &str) -> Result<Claims, AccessError> {
        let Shared { access_verifier, clock, view, .. } = &*self.shared;
        // Asked before the ring is read, because the ring is part of what must not be too old.
        let is_fresh = view.is_fresh();
        let mut now = clock.now();
        let mut verified = access_verifier.verify(token, now);
        if let Err(unknown @ (VerifyError::UnknownKey | VerifyError::Issuer)) = verified {
            // Rare, and boxed, so that what every request waits for stays small.
            Box::pin(self.look_for(unknown)).await?;
            now = clock.now();
            verified = access_verifier.verify(token, now);
        }
        let mut claims = verified?;
        if !is_fresh {
            Box::pin(view.ensure_fresh()).await?;
            // Its key may have been removed meanwhile.
            now = clock.now();
            claims = access_verifier.verify(token, now)?;
        }
        self.check_unrevoked(&claims, now)?;
        Ok(claims)
    }

    /// A token names an unknown key. It may be a new one: reads the keys, if that was not just done.
    ///
    /// A node that is cut off does not know what signs by now, and must not say that a token is none: whoever hears
    /// that of a refresh token throws the session away. A new key signs no sooner than the view of such a node is too old.
    async fn look_for_key(&self) -> Result<(), ViewTooOld> {
        let is_fresh = self.shared.view.is_fresh();
        if !is_fresh {
            self.shared.view.ensure_fresh().await?;
        }
        self.reload_for_unknown_key().await;
        Ok(())
    }

    /// A token names what is unknown here.
    async fn look_for(&self, unknown: VerifyError) -> Result<(), ViewTooOld> {
        match unknown {
            VerifyError::Issuer => self.learn_issuers_or_warn().await,
            _ => self.look_for_key().await?,
        }
        Ok(())
    }

    /// What the log says about the claims of an access token that verifies.
    fn check_unrevoked(&self, claims: &Claims, now: Timestamp) -> Result<(), AccessError> {
        let policy = &self.shared.policy;
        // The log forgets what concerns tokens of the lifetime that holds now. One from before the lifetime was
        // shortened must not outlive its revocation.
        let oldest = now - policy.leeway - policy.access_lifetime;
        if claims.issued_at().is_none_or(|issued_at| issued_at <= oldest) {
            return Err(VerifyError::Expired.into());
        }
        self.check_revoked(claims)?;
        self.acknowledge(claims);
        Ok(())
    }

    /// Verifies an access token, and does not ask whether it was revoked: for what a user may do after logging out.
    ///
    /// # Errors
    /// [`VerifyError`] says which check failed.
    pub async fn verify_access(&self, token: &str) -> Result<Claims, VerifyError> {
        let Shared { access_verifier, clock, .. } = &*self.shared;
        let verified = access_verifier.verify(token, clock.now());
        match verified {
            Err(VerifyError::UnknownKey) => Box::pin(self.reload_for_unknown_key()).await,
            Err(VerifyError::Issuer) => Box::pin(self.learn_issuers_or_warn()).await,
            verified => return verified,
        }
        access_verifier.verify(token, clock.now())
    }

    /// Asks once more whether verified claims of an access token still hold: for connections that outlive the
    /// request that was authenticated. No store call, unless this node's view of the log has grown too old.
    ///
    /// # Errors
    /// As [`Sessions::authenticate`].
    pub async fn recheck(&self, claims: &Claims) -> Result<(), AccessError> {
        let Shared { clock, view, .. } = &*self.shared;
        if claims.expires_at().is_none_or(|expires_at| clock.now() >= expires_at) {
            return Err(VerifyError::Expired.into());
        }
        if !view.is_fresh() {
            view.ensure_fresh().await?;
        }
        Ok(self.check_revoked(claims)?)
    }

    /// Verifies a refresh token without exchanging it: MAC, kind, expiry, and that a refresh would take it.
    ///
    /// That takes a store call: the log's entries leave the index when the last access token they concern has
    /// expired, refresh tokens live longer than that, and a successor ends their use before they expire.
    ///
    /// # Errors
    /// [`RefreshError::Invalid`] and [`RefreshError::Refused`] for a token that is not accepted,
    /// [`RefreshError::Store`] when the store cannot answer.
    pub async fn authenticate_refresh(&self, token: &str) -> Result<Claims, RefreshError> {
        let claims = self.verify_refresh_here(token).await?;
        self.recheck_refresh(&claims).await?;
        Ok(claims)
    }

    /// Asks once more whether a refresh would take a verified refresh token: for what outlives the request that was
    /// authenticated with it.
    ///
    /// # Errors
    /// [`RefreshError::Refused`] for one that is not accepted, [`RefreshError::Store`] when the store cannot answer.
    pub async fn recheck_refresh(&self, claims: &Claims) -> Result<(), RefreshError> {
        let Shared { policy, clock, store, .. } = &*self.shared;
        let Some(session) = claims.session() else { return Err(Refusal::Unknown.into()) };
        let key = SessionKey { user_id: claims.subject().clone(), id: session.id };
        let presented = Presented { generation: session.generation, device: Device::default() };
        let found = store.session(&key).await?.ok_or(Refusal::Unknown)?;
        let circumstances = self.circumstances(&found.session, found.log, true);
        match decide(&found.session, &circumstances, &presented, clock.now(), policy) {
            Decision::Advance(_) | Decision::Reserve | Decision::Heal(_) => Ok(()),
            Decision::Refuse(refusal) => Err(refusal.into()),
            Decision::Replay => Err(Refusal::Superseded.into()),
        }
    }

    /// Verifies a refresh token's MAC, kind and expiry. Garbage costs no store call (SEC-097).
    ///
    /// # Errors
    /// [`VerifyError`] says which check failed.
    pub fn verify_refresh(&self, token: &str) -> Result<Claims, VerifyError> {
        let claims = self.shared.refresh_verifier.verify(token, self.shared.clock.now())?;
        if claims.session().is_none() { Err(VerifyError::MissingClaim("sid")) } else { Ok(claims) }
    }

    /// As [`Sessions::verify_refresh`], but an unknown key on a node that cannot read the keys is its own failure and
    /// not the token's; so is an unknown issuer, which a program that was just started may have made the store's.
    ///
    /// # Errors
    /// [`RefreshError::Invalid`] for a token that is not accepted, [`RefreshError::ViewTooOld`] or
    /// [`RefreshError::Store`] when this node cannot know.
    pub async fn verify_refresh_here(&self, token: &str) -> Result<Claims, RefreshError> {
        let verified = self.verify_refresh(token);
        if verified == Err(VerifyError::Issuer) {
            Box::pin(self.learn_issuers()).await?;
            return Ok(self.verify_refresh(token)?);
        }
        if verified != Err(VerifyError::UnknownKey) || self.shared.view.is_fresh() {
            return Ok(verified?);
        }
        Box::pin(self.look_for_key()).await?;
        Ok(self.verify_refresh(token)?)
    }

    /// As [`Sessions::verify_for_end`], but an unknown key on a node that cannot read the keys is its own failure and
    /// not the token's; so is an unknown issuer.
    ///
    /// # Errors
    /// [`AccessError::Invalid`] for a token that is not accepted, [`AccessError::ViewTooOld`] when this node cannot know.
    pub async fn verify_for_end_here(&self, token: &str) -> Result<Claims, AccessError> {
        let verified = self.verify_for_end(token);
        if verified == Err(VerifyError::Issuer) {
            Box::pin(self.learn_issuers()).await.map_err(|_| ViewTooOld)?;
            return Ok(self.verify_for_end(token)?);
        }
        if verified != Err(VerifyError::UnknownKey) || self.shared.view.is_fresh() {
            return Ok(verified?);
        }
        Box::pin(self.look_for_key()).await?;
        Ok(self.verify_for_end(token)?)
    }

    /// Verifies a token of either kind for ending its session: signature, kind and issuer hold; its times and the
    /// state of its session don't matter.
    ///
    /// # Errors
    /// [`VerifyError`] says which check failed.
    pub fn verify_for_end(&self, token: &str) -> Result<Claims, VerifyError> {
        let claims = match self.shared.refresh_verifier.verify_expired_ok(token) {
            // Its signature holds, and its kind is right: the other verifier has nothing to add.
            Err(VerifyError::Issuer) => return Err(VerifyError::Issuer),
            claims => claims.or_else(|_| self.shared.access_verifier.verify_expired_ok(token))?,
        };
        if claims.session().is_none() { Err(VerifyError::MissingClaim("sid")) } else { Ok(claims) }
    }

    fn check_revoked(&self, claims: &Claims) -> Result<(), RevokedBy> {
        let standing = match claims.session() {
            Some(session) => Standing::Session(session.id, session.epoch),
            None => Standing::IssuedAt(claims.issued_at().unwrap_or(Timestamp::MIN)),
        };
        self.shared.view.index().check(claims.subject(), claims.token_id(), standing)
    }

    fn acknowledge(&self, claims: &Claims) {
        if let Some(session) = claims.session() {
            self.shared.acknowledgements.note(claims.subject(), session.id, session.generation);
        }
    }

    /// Exchanges a refresh token, verified by [`Sessions::verify_refresh`], for a pair (RFC 6749 §6).
    ///
    /// The presented token is good for a short grace more. Presenting an older one ends the session, because
    /// somebody else holds a copy (RFC 9700 §4.14.2). Runs to its end even if the caller goes away.
    ///
    /// # Errors
    /// [`RefreshError::Replayed`] after such a replay, [`RefreshError::Refused`] for a session that no longer
    /// lives; [`RefreshError::Store`] and [`RefreshError::Contended`] are worth repeating with the same token.
    pub async fn refresh(
        &self,
        token: &Claims,
        user_enabled: bool,
        device: Device,
    ) -> Result<Refreshed, RefreshError> {
        let this = self.clone();
        let token = token.clone();
        self.detached(async move { this.refresh_now(&token, user_enabled, device).await }).await
    }

    async fn refresh_now(
        &self,
        token: &Claims,
        user_enabled: bool,
        device: Device,
    ) -> Result<Refreshed, RefreshError> {
        let Shared { policy, clock, store, events, .. } = &*self.shared;
        let Some(presented) = token.session() else { return Err(Refusal::Unknown.into()) };
        let presentation = if token.csrf().is_some() { Presentation::Cookie } else { Presentation::Explicit };
        let key = SessionKey { user_id: token.subject().clone(), id: presented.id };
        let presented = Presented { generation: presented.generation, device };
        // Before any step: if they cannot be had, nothing has happened.
        let extra = self.extra_claims(&key.user_id).await?;
        let mut tries = Self::TRIES;
        // Nearly every refresh steps on from the generation that it presents, so that is tried first, unread; but not
        // with a token that is so young that its pair is likely to be served again.
        let now = clock.now();
        let is_young = presented.generation > Generation::FIRST
            && token.issued_at().is_some_and(|issued_at| now < issued_at + policy.grace);
        if user_enabled && !is_young {
            tries -= 1;
            let step = unread(&presented, now, policy);
            if let Some(session) = store.advance(&key, &step).await? {
                return Ok(Refreshed { pair: self.pair(&session, presentation, &extra)?, advanced: true });
            }
        }
        for _ in 0..tries {
            let Some(found) = store.session(&key).await? else { return Err(Refusal::Unknown.into()) };
            let mut session = found.session;
            let circumstances = self.circumstances(&session, found.log, user_enabled);
            match decide(&session, &circumstances, &presented, clock.now(), policy) {
                Decision::Refuse(refusal) => return Err(refusal.into()),
                Decision::Advance(step) => {
                    if let Some(session) = store.advance(&key, &step).await? {
                        return Ok(Refreshed {
                            pair: self.pair(&session, presentation, &extra)?,
                            advanced: true,
                        });
                    }
                }
                Decision::Heal(step) => {
                    if store.heal(&key, &step).await? {
                        step.apply(&mut session);
                        return Ok(Refreshed {
                            pair: self.pair(&session, presentation, &extra)?,
                            advanced: false,
                        });
                    }
                }
                Decision::Reserve => {
                    if presented.generation == session.generation {
                        // Its holder shows the current refresh token, so it has arrived.
                        self.acknowledge(token);
                    }
                    if !presented.device.is_same_client(&session.device) {
                        events.emit(&Event::RefreshShared {
                            user_id: key.user_id.clone(),
                            session_id: key.id,
                            generation: session.generation,
                            device: presented.device,
                        });
                    }
                    return Ok(Refreshed {
                        pair: self.pair(&session, presentation, &extra)?,
                        advanced: false,
                    });
                }
                Decision::Replay => {
                    self.end_now(&key, EndReason::Replayed).await?;
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

    fn circumstances(&self, session: &Session, log: LogStanding, user_enabled: bool) -> Circumstances {
        let access = token_id(session, TokenType::Access);
        Circumstances {
            ended_in_log: log.ended,
            epoch_in_log: log.epoch,
            user_enabled,
            access_revoked: self.shared.view.index().is_token_revoked(&session.user_id, access),
        }
    }

    /// Ends a session. When this has returned, this node refuses its tokens at once, every other node within the
    /// bound. Runs to its end even if the caller goes away.
    ///
    /// # Errors
    /// [`EndError::Store`] when the store cannot answer; the session may then have ended or not, and ending it
    /// again is safe.
    pub async fn end(&self, key: SessionKey, reason: EndReason) -> Result<SessionEnded, EndError> {
        let this = self.clone();
        self.detached(async move { Ok(this.end_now(&key, reason).await?) }).await
    }

    /// Ends the sessions that these tokens name, verified by [`Sessions::verify_for_end`]; returns whether any of them
    /// could be ended or had been before. All are tried, and a caller who goes away interrupts none.
    ///
    /// A session that the store does not know ends too while its token has not expired: the store may have been
    /// restored from a backup.
    ///
    /// # Errors
    /// [`EndError::Store`] when the store could not answer for one of them; ending them again is safe.
    pub async fn end_by_tokens(&self, tokens: Vec<Claims>, reason: EndReason) -> Result<bool, EndError> {
        let this = self.clone();
        self.detached(async move {
            let mut ended: Vec<SessionKey> = Vec::new();
            let mut ended_foreign = false;
            let mut failure = None;
            for token in &tokens {
                let Some(session) = token.session() else {
                    match this.end_foreign_now(token, reason).await {
                        Ok(()) => ended_foreign = true,
                        Err(error) => failure = Some(error),
                    }
                    continue;
                };
                let key = SessionKey { user_id: token.subject().clone(), id: session.id };
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
        key: &SessionKey,
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

    async fn end_now(&self, key: &SessionKey, reason: EndReason) -> Result<SessionEnded, StoreError> {
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
            // Another node may have ended it, and this one has not read that yet.
            SessionEnded::Before => self.shared.view.learn(&session_entry(key, at, until)),
            SessionEnded::Unknown => {}
        }
        Ok(ended)
    }

    /// Ends the user's sessions other than `except`, if there are any: what a user asks for. Returns whether there were.
    ///
    /// Where there is nothing to end, nothing is written, however often this is called. A session counts here until the
    /// last access token that it may have issued has expired.
    ///
    /// # Errors
    /// As [`Sessions::end`].
    pub async fn end_others(&self, user_id: UserId, except: Option<SessionId>) -> Result<bool, EndError> {
        // Of one user's calls at once the first ends what there is, and the others find nothing left.
        let _turn = self.shared.turns.wait(&user_id).await;
        if !self.has_others(&user_id, except).await? {
            return Ok(false);
        }
        self.end_all(user_id, except, EndReason::AllEnded).await?;
        Ok(true)
    }

    async fn has_others(&self, user_id: &UserId, except: Option<SessionId>) -> Result<bool, StoreError> {
        let Shared { policy, clock, store, log, format, .. } = &*self.shared;
        let now = clock.now();
        // One more than is excepted.
        let newest = SessionPage::first(2);
        let alive = store.live_sessions(user_id, now - policy.revocation_horizon(), newest).await?;
        if alive.iter().any(|session| Some(session.id) != except) {
            return Ok(true);
        }
        if format.is_none() {
            return Ok(false);
        }
        // Nobody knows which tokens without a session another library has issued. Their times are whole seconds, so the
        // last raise has ended all of those that were issued in its own second or before.
        let raised_at = log.epoch_raised_at(user_id).await?;
        Ok(raised_at.is_none_or(|raised_at| raised_at.as_secs() < now.as_secs()))
    }

    /// Ends all of the user's sessions, but for `except`, and every login that is under way: for what changes the
    /// account itself. It raises the user's epoch even where there is no session, because a login under way has none yet;
    /// what users may ask for again and again is [`Sessions::end_others`].
    ///
    /// # Errors
    /// As [`Sessions::end`].
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

    /// Takes an entry into the own index, after making sure that no reader's window has passed it: one whose
    /// insert took long gets a later `at`, and a later `until` for the tokens that were issued meanwhile.
    async fn learn(&self, mut entry: Entry) -> Result<(), StoreError> {
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

    /// Tells of something that happened.
    pub(crate) fn tell(&self, event: &Event) {
        self.shared.events.emit(event);
    }

    /// A page of the user's live sessions, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    pub async fn list(&self, user_id: &UserId, page: SessionPage) -> Result<Vec<Session>, StoreError> {
        self.shared.store.live_sessions(user_id, self.shared.clock.now(), page).await
    }

    /// Whether there is such a session and it is live: neither ended, by its row or by the log, nor expired.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer.
    pub async fn is_live(&self, key: &SessionKey) -> Result<bool, StoreError> {
        let found = self.shared.store.session(key).await?;
        let now = self.shared.clock.now();
        Ok(found.is_some_and(|FoundSession { session, log }| log.allows(&session, now)))
    }

    /// Revokes tokens of one user by their `jti`. An id of somebody else's token has no effect. The id of a live
    /// session's current refresh token ends that session; an older one's has no effect.
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
        let Shared { policy, clock, store, log, .. } = &*self.shared;
        ids.sort_unstable();
        ids.dedup();
        let at = clock.now();
        let until = at + self.token_horizon(policy);
        let tokens = TokenRevocation { ids, at, until, limit: Self::MAX_REVOKED_TOKENS };
        if let TokensRevoked::TooMany { free_at } = log.revoke_tokens(user_id, &tokens).await? {
            return Err(RevokeTokensError::TooMany { free_at });
        }
        for id in &tokens.ids {
            let target = Target::Token { user_id: user_id.clone(), id: *id };
            self.learn(Entry { target, until, at }).await?;
        }
        self.shared.events.emit(&Event::TokensRevoked { user_id: user_id.clone(), ids: tokens.ids.clone() });
        // The ids of a session's tokens are derived, so the sessions are looked through, a page at a time.
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

    /// Writes down which generations were seen in use. A background task calls it every few seconds.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer; nothing that the rules promise is lost then.
    pub async fn flush_acknowledgements(&self) -> Result<(), StoreError> {
        let seen = self.shared.acknowledgements.take();
        if seen.is_empty() {
            return Ok(());
        }
        let flushed = self.shared.store.acknowledge(&seen, self.shared.clock.now()).await;
        if flushed.is_err() {
            self.shared.acknowledgements.forget();
        }
        flushed
    }

    async fn extra_claims(&self, user_id: &UserId) -> Result<Map<String, Value>, ExtraClaimsError> {
        let Some(extra_claims) = &self.shared.extra_claims else { return Ok(Map::new()) };
        let claims = extra_claims.ask(user_id).await?;
        // All of them, before anything is done for the sake of tokens that then could not be issued.
        NewClaims::check_names(&claims)?;
        Ok(claims)
    }

    /// The tokens of the session's current generation: the same claims on every call and every node, but for the
    /// application's own.
    fn pair(
        &self,
        session: &Session,
        presentation: Presentation,
        extra: &Map<String, Value>,
    ) -> Result<Pair, SignError> {
        let policy = &self.shared.policy;
        let csrf = match presentation {
            Presentation::Explicit => None,
            Presentation::Cookie => Some(csrf_value(session)),
        };
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
        let fresh = match (session.generation, policy.fresh_for) {
            (Generation::FIRST, None) => Freshness::Fresh,
            (Generation::FIRST, Some(fresh_for)) => Freshness::Until(session.issued_at + fresh_for),
            _ => Freshness::Stale,
        };
        let access_expires_at = (session.issued_at + policy.access_lifetime).min(session.absolute_until);
        let refresh_expires_at = session.expires_at();
        let access = claims(TokenType::Access, access_expires_at).with_freshness(fresh).with_claims(extra);
        let refresh = claims(TokenType::Refresh, refresh_expires_at);
        Ok(Pair {
            access_token: self.issue(&access)?,
            access_expires_at,
            refresh_token: self.issue(&refresh)?,
            refresh_expires_at,
            csrf,
            user_id: session.user_id.clone(),
            session: reference,
        })
    }

    fn issue(&self, claims: &NewClaims) -> Result<String, SignError> {
        let Shared { format, access_issuer, refresh_issuer, .. } = &*self.shared;
        match (format, claims.token_type()) {
            (Some(format), _) => format.issue(claims),
            (None, TokenType::Access) => access_issuer.load().issue(claims),
            (None, TokenType::Refresh) => refresh_issuer.load().issue(claims),
        }
    }

    /// Runs work that a caller who goes away must not interrupt half way; what it writes has the right time, even if the
    /// machine was suspended a moment ago.
    async fn detached<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E> {
        let Shared { clock, log, runtime, .. } = &*self.shared;
        if clock.is_odd() {
            Box::pin(clock.ask(&**log)).await?;
        }
        detached(runtime, work).await
    }
}

/// The log's entry that ends a session.
fn session_entry(key: &SessionKey, at: Timestamp, until: Timestamp) -> Entry {
    Entry { target: Target::Session { user_id: key.user_id.clone(), id: key.id }, until, at }
}

/// Runs work to its end on the runtime, whether or not the caller stays to hear of it.
pub(crate) async fn detached<T: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    match runtime.spawn(work.in_current_span()).await {
        Ok(done) => done,
        // A panic goes on in the caller, as if the work had run there.
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down, and with it the caller.
        Err(_) => std::future::pending().await,
    }
}
