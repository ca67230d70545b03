//! Sessions for tokens that another library issued.
//!
//! Refresh tokens of another library live as long as they say and are never rotated, and some name no session. A token
//! that names no session gets one when it is first exchanged here, with the token's `jti` as its id, so that it can be
//! listed and ended like the others.

use std::time::Duration;

use countersign_jwt::claims::{Claims, TokenType};
use countersign_jwt::id::{SessionId, TokenId, UserId};
use countersign_jwt::random::{self, RandomError};
use countersign_jwt::time::{Clock as _, Timestamp};

use super::{Sessions, Shared};
use crate::flow::verification::{CheckError, check_kind};
use crate::model::{
    Device, EndReason, Entry, LogVerdict, NewSession, Refusal, Session, SessionSeed, Target, TokenEpoch,
    UserSession,
};
use crate::store::{FoundSession, SessionInserted, StoreError};

/// Sessions for tokens that another library issued. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ForeignTokens {
    sessions: Sessions,
}

/// The reason why a token of another library has no session here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForeignError {
    /// The token is not accepted, or it could not be checked.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The source of randomness failed.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl From<StoreError> for ForeignError {
    fn from(error: StoreError) -> Self {
        Self::Check(error.into())
    }
}

impl From<Refusal> for ForeignError {
    fn from(refusal: Refusal) -> Self {
        Self::Check(refusal.into())
    }
}

impl ForeignTokens {
    pub(super) fn of(sessions: &Sessions) -> Self {
        Self { sessions: sessions.clone() }
    }

    /// The session that a refresh token names or, if it names none, the one that it would get, and whether it is in the
    /// store. Nothing is written.
    pub(crate) async fn look_up(
        &self,
        token: &Claims,
        device: &Device,
    ) -> Result<(FoundSession, bool), ForeignError> {
        check_kind(token, TokenType::Refresh).map_err(CheckError::from)?;
        let store = &self.sessions.shared.store;
        let user_id = token.subject();
        if let Some(session) = token.session() {
            let key = UserSession { user_id: user_id.clone(), id: session.id };
            return Ok((store.session(&key).await?.ok_or(Refusal::Unknown)?, true));
        }
        let issued_at = token.issued_at().unwrap_or(Timestamp::MIN);
        let session = self.session(user_id, token.token_id(), issued_at, token.expires_at(), device).await?;
        Ok(match store.session(&session.key()).await? {
            Some(found) => (found, true),
            None => (FoundSession { session, log: LogVerdict::default() }, false),
        })
    }

    /// The session that a refresh token names, and whether it has just begun. A token that names no session gets its
    /// own.
    pub(crate) async fn begin_or_find(
        &self,
        token: &Claims,
        device: &Device,
    ) -> Result<(FoundSession, bool), ForeignError> {
        let (found, is_there) = self.look_up(token, device).await?;
        if is_there {
            return Ok((found, false));
        }
        let store = &self.sessions.shared.store;
        let inserted = store.insert_session(&found.session).await?;
        if inserted == SessionInserted::EpochRaised {
            return Err(Refusal::EpochRaised.into());
        }
        let found = store.session(&found.session.key()).await?.ok_or(Refusal::Unknown)?;
        Ok((found, inserted == SessionInserted::Yes))
    }

    /// The row of the session that a refresh token of another library has here, made from what is known of the token.
    /// It is the session that the token would get when it is first presented. Nothing is written.
    ///
    /// # Errors
    /// [`ForeignError::Check`] if the token is too old or was revoked, or when the store cannot answer.
    pub async fn session(
        &self,
        user_id: &UserId,
        token_id: TokenId,
        issued_at: Timestamp,
        expires_at: Option<Timestamp>,
        device: &Device,
    ) -> Result<Session, ForeignError> {
        let Shared { policy, clock, log, random, view, .. } = &*self.sessions.shared;
        // The revocation of a token is not remembered for longer than this.
        if issued_at <= clock.now() - policy.leeway - policy.absolute {
            return Err(Refusal::Expired.into());
        }
        // The epoch is read first: a later raise of it keeps the row from being inserted.
        let epoch = log.epoch(user_id).await?;
        if log.epoch_raised_at(user_id).await?.is_some_and(|raised_at| issued_at <= raised_at) {
            return Err(Refusal::EpochRaised.into());
        }
        view.ensure_fresh().await.map_err(CheckError::from)?;
        let standing = TokenEpoch::IssuedAt(issued_at);
        if view.index().check(user_id, token_id, standing).is_err() {
            return Err(Refusal::Ended.into());
        }
        let now = clock.now();
        let absolute_until = expires_at.unwrap_or(Timestamp::MAX).min(issued_at + policy.absolute);
        Ok(Session::from(NewSession {
            user_id: user_id.clone(),
            id: SessionId::new(token_id.as_uuid()),
            epoch,
            seed: SessionSeed::new(random::bytes(&**random)?),
            device: device.clone(),
            created_at: issued_at,
            now,
            idle_until: absolute_until,
            absolute_until,
        }))
    }

    /// Revokes a token of another library, of either kind, for as long as any such token lives. This call has no limit,
    /// so it is not for users; [`Sessions::revoke_tokens`] is. A session that the token has here is not ended by it.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer; revoking the token again is safe.
    pub async fn revoke(&self, user_id: UserId, id: TokenId) -> Result<(), StoreError> {
        let Shared { clock, log, .. } = &*self.sessions.shared;
        let at = clock.now();
        let target = Target::Token { user_id, id };
        let entry = Entry { target, until: at + self.sessions.token_horizon(), at };
        log.insert_entry(&entry).await?;
        self.sessions.learn(entry).await
    }

    /// Ends what a token that names no session stands for: the session that a refresh token has here, or an access
    /// token itself.
    pub(super) async fn end_now(&self, token: &Claims, reason: EndReason) -> Result<(), StoreError> {
        if token.token_type() == TokenType::Refresh {
            // The session's row remembers that the token was ended for as long as the token lives.
            return match self.begin_or_find(token, &Device::default()).await {
                Ok((found, _)) => self.sessions.end_now(&found.session.key(), reason).await.map(drop),
                Err(ForeignError::Check(CheckError::Store(error))) => Err(error),
                Err(ForeignError::Check(CheckError::ViewTooOld(error))) => {
                    Err(StoreError::new("session", "begin the token's session", error))
                }
                // The token cannot be refreshed anyway.
                Err(ForeignError::Check(_)) => Ok(()),
                Err(error @ ForeignError::Random(_)) => {
                    Err(StoreError::new("session", "begin the token's session", error))
                }
            };
        }
        self.revoke(token.subject().clone(), token.token_id()).await
    }
}

impl Sessions {
    /// The time for which the entry of a single token matters. A refresh token that names no session has no row that
    /// would remember its revocation.
    pub(super) fn token_horizon(&self) -> Duration {
        let Shared { policy, keys, .. } = &*self.shared;
        let horizon = policy.revocation_horizon();
        if keys.has_own_format() {
            horizon.max(policy.absolute.saturating_add(policy.leeway))
        } else {
            horizon
        }
    }
}
