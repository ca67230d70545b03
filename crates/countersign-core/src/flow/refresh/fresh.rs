//! Fresh tokens for a session whose user has just proven the identity again.

use countersign_jwt::jws::SignError;
use countersign_jwt::time::Clock as _;

use super::Refresh;
use crate::flow::extra::ExtraClaimsError;
use crate::flow::sessions::{Pair, Presentation, Shared};
use crate::model::session::{Device, UserSession};
use crate::model::{Advance, AdvanceCondition};
use crate::store::StoreError;

/// The reason why a session got no fresh pair.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenewFreshError {
    /// The session is unknown, ended or expired.
    #[error("the session no longer lives")]
    Gone,
    /// The session changed during each of four tries to advance it.
    #[error("the session changed during each of four tries to advance it")]
    Contended,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tokens could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The application could not give its own claims. The session is unchanged.
    #[error(transparent)]
    ExtraClaims(#[from] ExtraClaimsError),
}

impl Refresh {
    /// Advances a live session to its next generation and issues a fresh pair, for a user who has just proven the
    /// identity again. The refresh token of the generation before stays good for the grace, as after a refresh.
    ///
    /// # Errors
    /// [`RenewFreshError::Gone`] if the session no longer lives, [`RenewFreshError::Store`] when the store cannot
    /// answer. Neither returns tokens.
    pub async fn renew_fresh(
        &self,
        key: UserSession,
        presentation: Presentation,
        device: Device,
    ) -> Result<Pair, RenewFreshError> {
        let this = self.clone();
        self.sessions.detached(async move { this.renew_fresh_now(&key, presentation, device).await }).await
    }

    async fn renew_fresh_now(
        &self,
        key: &UserSession,
        presentation: Presentation,
        device: Device,
    ) -> Result<Pair, RenewFreshError> {
        const TRIES: u32 = 4;
        let Shared { policy, clock, store, .. } = &*self.sessions.shared;
        let extra = self.sessions.extra_claims(&key.user_id).await?;
        for _ in 0..TRIES {
            let now = clock.now();
            let found = store.session(key).await?.ok_or(RenewFreshError::Gone)?;
            if !found.log.allows(&found.session, now) {
                return Err(RenewFreshError::Gone);
            }
            let step = Advance {
                from: found.session.generation,
                to: found.session.generation.next(),
                guard: AdvanceCondition::Generation,
                now,
                idle_until: (now + policy.idle).min(found.session.absolute_until),
                device: device.clone(),
            };
            if let Some(session) = store.advance(key, &step).await? {
                return Ok(self.sessions.pair_with(&session, true, presentation, &device, &extra)?);
            }
        }
        Err(RenewFreshError::Contended)
    }
}
