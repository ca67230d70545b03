//! Whether a token is accepted, by its signature, claims and times, and by what the revocation log says.

use std::sync::Arc;

use countersign_jwt::VerifyError;
use countersign_jwt::claims::{Claims, TokenType};
use countersign_jwt::time::{Clock as _, Timestamp};

use crate::flow::clock::StoreClock;
use crate::flow::keys::Keys;
use crate::flow::view::{RevocationView, ViewTooOld};
use crate::model::{
    Acknowledgements, Circumstances, Decision, Device, LogVerdict, Presented, Refusal, RevokedBy, Session,
    SessionPolicy, TokenEpoch, UserSession, decide, token_id,
};
use crate::store::{SessionStore, StoreError};

/// Verifies the token of every request. Cheap to clone.
///
/// No call writes anything. Every call is safe on a node that is cut off from its store: if the node cannot know
/// whether a token is accepted, it says so ([`CheckError::ViewTooOld`], [`CheckError::Store`]) and never that the token
/// is not accepted.
///
/// ```
/// use countersign_core::flow::{Check, CheckError};
/// # use countersign_core::{model::Device, store::MemoryStore};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let bed = countersign_testkit::TestBed::over(MemoryStore::new()).await;
/// # let pair = bed.begin(&countersign_jwt::UserId::new("ada")?, Device::default()).await;
/// # let verification = bed.sessions.verification();
/// match verification.verify(&pair.access_token, Check::ACCESS).await {
///     Ok(claims) => assert_eq!(claims.subject().as_str(), "ada"),
///     Err(CheckError::ViewTooOld(_) | CheckError::Store(_)) => println!("503: nobody knows at the moment"),
///     Err(error) => println!("401: {error}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Verification {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    keys: Keys,
    view: RevocationView,
    store: Arc<dyn SessionStore>,
    policy: SessionPolicy,
    clock: Arc<StoreClock>,
    acknowledgements: Acknowledgements,
}

/// The requirements that a token must meet: its kind, whether it may have expired, and whether it may have been
/// revoked.
///
/// The signature, the issuer and the audience are always checked.
///
/// ```
/// use countersign_core::flow::Check;
/// # use std::time::Duration;
/// # use countersign_core::{model::Device, store::MemoryStore};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let bed = countersign_testkit::TestBed::over(MemoryStore::new()).await;
/// # let token = bed.begin(&countersign_jwt::UserId::new("ada")?, Device::default()).await.access_token;
/// # let verification = bed.sessions.verification();
/// # bed.clock.advance(Duration::from_secs(3600));
/// // An hour later the access token has expired. It still names the session that its holder may end.
/// assert!(verification.verify(&token, Check::ACCESS).await.is_err());
/// assert!(verification.verify(&token, Check::ACCESS.even_if_expired().even_if_revoked()).await.is_ok());
/// assert!(verification.verify(&token, Check::ENDING).await.is_ok());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Check {
    kind: Kind,
    times: bool,
    revocation: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Access,
    Refresh,
    Any,
}

impl Check {
    /// An access token that is valid now and was not revoked. The check asks the index in memory and not the store.
    pub const ACCESS: Self = Self { kind: Kind::Access, times: true, revocation: true };

    /// A refresh token that would be exchanged now. The check asks the store: the log's entries leave the index when
    /// the last access token that they concern has expired, and refresh tokens live longer than that.
    pub const REFRESH: Self = Self { kind: Kind::Refresh, times: true, revocation: true };

    /// A token of either kind: [`Check::REFRESH`] for a token that proves to be a refresh token, else
    /// [`Check::ACCESS`].
    pub const ANY: Self = Self { kind: Kind::Any, times: true, revocation: true };

    /// A token of either kind by which its session may be ended. The token may have expired or been revoked, and must
    /// name a session.
    pub const ENDING: Self = Self { kind: Kind::Any, times: false, revocation: false };

    /// This check without its requirement on revocation, for what a user may do after logging out. Checking a refresh
    /// token then costs no call to the store.
    #[must_use]
    pub const fn even_if_revoked(self) -> Self {
        Self { revocation: false, ..self }
    }

    /// This check without its requirements on the token's times, so that the token may have expired.
    ///
    /// A check that asks for revocation accepts an access token, expired or not, only until it is older than the access
    /// lifetime and the leeway: the revocation log remembers no longer whether it was revoked. So this method matters
    /// for access tokens whose own lifetime is shorter. A refresh token that has expired is refused with its session,
    /// which expires no later. [`Check::even_if_revoked`] lifts both limits.
    #[must_use]
    pub const fn even_if_expired(self) -> Self {
        Self { times: false, ..self }
    }
}

/// The reason why a token was not accepted, or why it could not be checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The token does not verify. The client gets 401.
    #[error(transparent)]
    Invalid(#[from] VerifyError),
    /// The access token was revoked. The client gets 401.
    #[error(transparent)]
    Revoked(#[from] RevokedBy),
    /// The session of the refresh token cannot be refreshed with it. The client gets 401.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The revocation log could not be read for longer than the revocation bound. The client gets 503.
    #[error(transparent)]
    ViewTooOld(#[from] ViewTooOld),
    /// The store could not answer. The client gets 503.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Verification {
    pub(crate) fn new(
        keys: Keys,
        view: RevocationView,
        store: Arc<dyn SessionStore>,
        policy: SessionPolicy,
        clock: Arc<StoreClock>,
    ) -> Self {
        let acknowledgements = Acknowledgements::default();
        Self { shared: Arc::new(Shared { keys, view, store, policy, clock, acknowledgements }) }
    }

    /// Verifies a token.
    ///
    /// A token that names a key or an issuer which this node does not know yet makes the node read its keys or issuers
    /// anew, for access tokens at most once a second.
    ///
    /// # Errors
    /// [`CheckError`] of the first check that failed.
    pub async fn verify(&self, token: &str, check: Check) -> Result<Claims, CheckError> {
        if let Some(verified) = self.verify_at_once(token, check) {
            return verified;
        }
        match self.verify_waiting(token, check).await {
            Err(CheckError::Invalid(VerifyError::UnknownKey)) => Err(self.unknown_key(token, check).into()),
            verified => verified,
        }
    }

    async fn verify_waiting(&self, token: &str, check: Check) -> Result<Claims, CheckError> {
        if check.kind != Kind::Access {
            let proof = self.prove(token, TokenType::Refresh, check, self.shared.clock.now());
            if check.kind == Kind::Refresh || is_of_refresh_token(&proof) {
                return Box::pin(self.verify_rare(token, TokenType::Refresh, check, proof)).await;
            }
        }
        let verified = self.verify_as_access(token, check).await;
        if check.kind == Kind::Any && matches!(verified, Err(CheckError::Invalid(VerifyError::UnknownKey))) {
            // The keys were read anew meanwhile, and by them it may prove to be a refresh token.
            let proof = self.prove(token, TokenType::Refresh, check, self.shared.clock.now());
            if is_of_refresh_token(&proof) {
                return Box::pin(self.verify_rare(token, TokenType::Refresh, check, proof)).await;
            }
        }
        verified
    }

    async fn verify_as_access(&self, token: &str, check: Check) -> Result<Claims, CheckError> {
        if check != Check::ENDING {
            return self.verify_access(token, check).await;
        }
        let proof = self.prove(token, TokenType::Access, check, self.shared.clock.now());
        // This path is rare, and boxed, so that the future that every request awaits stays small.
        Box::pin(self.verify_rare(token, TokenType::Access, check, proof)).await
    }

    /// Verifies an access token where nothing is to be waited for, which is nearly always. `None` where
    /// [`Verification::verify`] has to wait: for the keys, for the log or, with refresh tokens, for the store.
    #[must_use]
    pub fn verify_at_once(&self, token: &str, check: Check) -> Option<Result<Claims, CheckError>> {
        let Shared { clock, view, .. } = &*self.shared;
        // One look at the clock for all that is compared with it.
        let machine = clock.machine_time();
        if check.kind != Kind::Access || !check.times || (check.revocation && !view.is_fresh_at(machine)) {
            return None;
        }
        let now = clock.at(machine);
        match self.prove(token, TokenType::Access, check, now) {
            Err(VerifyError::UnknownKey | VerifyError::Issuer) => None,
            Err(error) => Some(Err(error.into())),
            Ok(claims) if check.revocation => Some(self.check_unrevoked(&claims, now).map(|()| claims)),
            Ok(claims) => Some(Ok(claims)),
        }
    }

    async fn verify_access(&self, token: &str, check: Check) -> Result<Claims, CheckError> {
        let Shared { keys, clock, view, .. } = &*self.shared;
        // The age is asked before the ring is read, because the ring is part of what must not be too old.
        let is_fresh = !check.revocation || view.is_fresh();
        let mut now = clock.now();
        let mut verified = self.prove(token, TokenType::Access, check, now);
        if let Err(unknown @ (VerifyError::UnknownKey | VerifyError::Issuer)) = verified {
            Box::pin(keys.look_for(unknown)).await?;
            now = clock.now();
            verified = self.prove(token, TokenType::Access, check, now);
        }
        let mut claims = verified?;
        if !is_fresh {
            Box::pin(view.ensure_fresh()).await?;
            // The token's key may have been removed meanwhile.
            now = clock.now();
            claims = self.prove(token, TokenType::Access, check, now)?;
        }
        if check.revocation {
            self.check_unrevoked(&claims, now)?;
        }
        Ok(claims)
    }

    /// Verifies a refresh token, or a token of either kind by which its session may be ended: both name a session.
    /// `proof` is the result of proving the token as this kind.
    async fn verify_rare(
        &self,
        token: &str,
        kind: TokenType,
        check: Check,
        proof: Result<Claims, VerifyError>,
    ) -> Result<Claims, CheckError> {
        let Shared { keys, clock, view, .. } = &*self.shared;
        let mut verified = proof;
        match verified {
            // One of our keys has signed the token, so a program that was just started may have made its issuer the
            // store's.
            Err(VerifyError::Issuer) => {
                keys.learn_issuers().await?;
                verified = self.prove(token, kind, check, clock.now());
            }
            // On a node whose view is young every key is known, so garbage costs no store call (SEC-097).
            Err(VerifyError::UnknownKey) if !view.is_fresh() => {
                keys.look_for_key().await?;
                verified = self.prove(token, kind, check, clock.now());
            }
            _ => {}
        }
        let claims = verified?;
        if claims.session().is_none() {
            return Err(VerifyError::MissingClaim("sid").into());
        }
        if check.revocation && kind == TokenType::Refresh {
            self.check_refreshable(&claims).await?;
        }
        Ok(claims)
    }

    /// Checks the signature, kind, issuer and audience, and the times if the check asks for them.
    fn prove(
        &self,
        token: &str,
        kind: TokenType,
        check: Check,
        now: Timestamp,
    ) -> Result<Claims, VerifyError> {
        let verifier = self.shared.keys.verifier(kind);
        if check.times { verifier.verify(token, now) } else { verifier.verify_expired_ok(token) }
    }

    /// The error for a token that no key of the wanted kind has signed. Keys of the two kinds are different, so a token
    /// of the other kind is found by the other kind's keys.
    fn unknown_key(&self, token: &str, check: Check) -> VerifyError {
        let (expected, found) = match check.kind {
            Kind::Access => (TokenType::Access, TokenType::Refresh),
            Kind::Refresh => (TokenType::Refresh, TokenType::Access),
            Kind::Any => return VerifyError::UnknownKey,
        };
        match self.shared.keys.verifier(found).verify_expired_ok(token) {
            Ok(_) | Err(VerifyError::Issuer) => VerifyError::TokenType { expected, found },
            Err(_) => VerifyError::UnknownKey,
        }
    }

    /// Checks again what may have changed since claims were verified: whether they were revoked and, if the check asks
    /// for that, whether they have expired. It serves connections that outlive the request that was authenticated, and
    /// claims that the rules of another library have verified. Claims of another kind than the check asks for are
    /// refused; with [`Check::ANY`] they say themselves whether they are those of an access or a refresh token.
    ///
    /// # Errors
    /// Those of [`Verification::verify`].
    pub async fn recheck(&self, claims: &Claims, check: Check) -> Result<(), CheckError> {
        let Shared { clock, view, .. } = &*self.shared;
        match check.kind {
            Kind::Access => check_kind(claims, TokenType::Access)?,
            Kind::Refresh => check_kind(claims, TokenType::Refresh)?,
            Kind::Any => {}
        }
        if check.times && claims.expires_at().is_none_or(|expires_at| clock.now() >= expires_at) {
            return Err(VerifyError::Expired.into());
        }
        if !check.revocation {
            return Ok(());
        }
        if claims.token_type() == TokenType::Refresh {
            return Box::pin(self.check_refreshable(claims)).await;
        }
        if !view.is_fresh() {
            Box::pin(view.ensure_fresh()).await?;
        }
        self.check_unrevoked(claims, clock.now())
    }

    /// Notes in memory, without waiting, that a token of this session and generation was seen in use: its client has
    /// received it. Rules call it once for each request whose access token is good.
    pub fn note_use(&self, claims: &Claims) {
        if let Some(session) = claims.session() {
            self.shared.acknowledgements.note(claims.subject(), session.id, session.generation);
        }
    }

    /// Writes to the store which generations were seen in use. A background task calls it every few seconds.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer. The acknowledgements may be lost, which breaks no promise of the
    /// refresh rules.
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

    /// What the revocation log says about the claims of an access token that verifies.
    fn check_unrevoked(&self, claims: &Claims, now: Timestamp) -> Result<(), CheckError> {
        let Shared { policy, view, .. } = &*self.shared;
        // The log forgets entries by the access lifetime that holds now. A token from before the lifetime was shortened
        // must not outlive its revocation.
        let oldest = now - policy.leeway - policy.access_lifetime;
        if claims.issued_at().is_none_or(|issued_at| issued_at <= oldest) {
            return Err(VerifyError::Expired.into());
        }
        let epoch = match claims.session() {
            Some(session) => TokenEpoch::Session(session.id, session.epoch),
            None => TokenEpoch::IssuedAt(claims.issued_at().unwrap_or(Timestamp::MIN)),
        };
        Ok(view.index().check(claims.subject(), claims.token_id(), epoch)?)
    }

    /// Checks whether a refresh would accept this verified refresh token.
    async fn check_refreshable(&self, claims: &Claims) -> Result<(), CheckError> {
        let Shared { policy, clock, store, .. } = &*self.shared;
        let Some(session) = claims.session() else { return Err(Refusal::Unknown.into()) };
        let key = UserSession { user_id: claims.subject().clone(), id: session.id };
        let presented = Presented { generation: session.generation, device: Device::default() };
        let found = store.session(&key).await?.ok_or(Refusal::Unknown)?;
        let circumstances = self.circumstances(&found.session, found.log, true);
        match decide(&found.session, &circumstances, &presented, clock.now(), policy) {
            Decision::Advance(_) | Decision::Reserve | Decision::Heal(_) => Ok(()),
            Decision::Refuse(refusal) => Err(refusal.into()),
            Decision::Replay => Err(Refusal::Superseded.into()),
        }
    }

    /// The facts beside the row that [`decide`](crate::model::decide()) has to know.
    pub(crate) fn circumstances(
        &self,
        session: &Session,
        log: LogVerdict,
        user_enabled: bool,
    ) -> Circumstances {
        let access = token_id(session, TokenType::Access);
        Circumstances {
            ended_in_log: log.ended,
            epoch_in_log: log.epoch,
            user_enabled,
            access_revoked: self.shared.view.index().is_token_revoked(&session.user_id, access),
        }
    }
}

/// Refuses claims of the other kind of token.
pub(crate) fn check_kind(claims: &Claims, expected: TokenType) -> Result<(), VerifyError> {
    let found = claims.token_type();
    if found == expected { Ok(()) } else { Err(VerifyError::TokenType { expected, found }) }
}

/// Whether the result of proving a token as a refresh token shows that one of our keys for refresh tokens has signed
/// it.
fn is_of_refresh_token(proof: &Result<Claims, VerifyError>) -> bool {
    // Both errors are returned only after the token has proven to be a refresh token of ours.
    matches!(proof, Ok(_) | Err(VerifyError::Expired | VerifyError::Issuer))
}
