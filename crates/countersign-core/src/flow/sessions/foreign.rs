//! Sessions whose tokens are written as another library writes them, beside tokens that this other library issued.
//!
//! Such refresh tokens live as long as they say and are never rotated, and some name no session. The session of one
//! of these has the token's `jti` as its id and begins when the token is first shown here, so that it can be listed
//! and ended like the others.

use std::fmt;
use std::time::Duration;

use countersign_jwt::claims::{Claims, NewClaims, SessionRef, TokenType};
use countersign_jwt::id::{Generation, SessionId, TokenId, UserId};
use countersign_jwt::jws::SignError;
use countersign_jwt::time::{Clock as _, Timestamp};
use countersign_jwt::{VerifyError, random};

use crate::flow::sessions::{AccessError, BeginError, RefreshError, Sessions, Shared};
use crate::model::decide::{Advance, Guard, Refusal, refusal};
use crate::model::derive::csrf_value;
use crate::model::policy::SessionPolicy;
use crate::model::session::{Device, EndReason, Session, SessionKey, SessionSeed};
use crate::model::{Entry, Standing, Target};
use crate::store::{FoundSession, SessionInserted, StoreError};

/// Writes tokens as another library does.
pub trait TokenFormat: fmt::Debug + Send + Sync + 'static {
    /// A token with these claims, those that name its session included.
    ///
    /// # Errors
    /// [`SignError`] if it would be too long, or signing fails.
    fn issue(&self, claims: &NewClaims) -> Result<String, SignError>;
}

/// What a refresh token that is not rotated was exchanged for.
#[derive(Clone)]
pub struct Renewed {
    /// The new access token.
    pub access_token: String,
    /// When it expires.
    pub access_expires_at: Timestamp,
    /// The CSRF value that it is bound to, if the refresh token is bound to one.
    pub csrf: Option<String>,
    /// The session.
    pub session: SessionRef,
}

impl fmt::Debug for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewed").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Whether an access token that was verified elsewhere was revoked here: no store call. One that names no
    /// session is dead if it is not younger than the user's last log-out-everywhere.
    ///
    /// # Errors
    /// [`AccessError`]: revoked, older than the access lifetime, for which the log is kept, or
    /// nobody can say.
    pub async fn check_access(&self, claims: &Claims) -> Result<(), AccessError> {
        let view = &self.shared.view;
        if !view.is_fresh() {
            view.ensure_fresh().await?;
        }
        self.check_unrevoked(claims, self.shared.clock.now())
    }

    /// Exchanges a refresh token, verified elsewhere, for an access token, and leaves it good for the next time.
    /// Runs to its end even if the caller goes away.
    ///
    /// # Errors
    /// [`RefreshError::Refused`] if its session no longer lives, [`RefreshError::Store`] when the store cannot
    /// answer.
    pub async fn renew(
        &self,
        token: &Claims,
        user_enabled: bool,
        device: Device,
    ) -> Result<Renewed, RefreshError> {
        let (this, token) = (self.clone(), token.clone());
        self.detached(async move { this.renew_now(&token, user_enabled, device).await }).await
    }

    /// Whether a refresh token, verified elsewhere, would be [renewed](Self::renew).
    ///
    /// # Errors
    /// As [`Sessions::renew`].
    pub async fn check_refresh(&self, token: &Claims) -> Result<(), RefreshError> {
        let (this, token) = (self.clone(), token.clone());
        self.detached(async move { this.live_session(&token, true, &Device::default()).await.map(drop) })
            .await
    }

    async fn renew_now(
        &self,
        token: &Claims,
        user_enabled: bool,
        device: Device,
    ) -> Result<Renewed, RefreshError> {
        let Shared { policy, clock, store, random, .. } = &*self.shared;
        let mut session = self.live_session(token, user_enabled, &device).await?;
        // The generation counts and the row's times move, as for a token that rotates. Who loses against another
        // refresh of the same session needs neither.
        let now = clock.now();
        let step = Advance {
            from: session.generation,
            to: session.generation.next(),
            guard: Guard::Generation,
            now,
            // A token that stays good until it expires has a session that does so, too.
            idle_until: session.absolute_until,
            device: device.clone(),
        };
        session = match store.advance(&session.key(), &step).await? {
            Some(session) => session,
            None => self.live_session(token, user_enabled, &device).await?,
        };
        let reference = SessionRef { id: session.id, generation: session.generation, epoch: session.epoch };
        let access_expires_at = (now + policy.access_lifetime).min(session.absolute_until);
        let extra = self.extra_claims(&session.user_id).await?;
        let id = TokenId::new(random::uuid(&**random).map_err(|_| SignError::Failed)?);
        let mut claims =
            NewClaims::new(TokenType::Access, session.user_id.clone(), id, now, access_expires_at)
                .with_session(reference)
                .with_claims(&extra);
        let csrf = token.csrf().is_some().then(|| csrf_value(&session));
        if let Some(csrf) = &csrf {
            claims = claims.with_csrf(csrf.as_str());
        }
        Ok(Renewed { access_token: self.issue(&claims)?, access_expires_at, csrf, session: reference })
    }

    /// The session that a refresh token presents, if it refreshes now.
    async fn live_session(
        &self,
        token: &Claims,
        user_enabled: bool,
        device: &Device,
    ) -> Result<Session, RefreshError> {
        let (mut found, is_new) = self.presented_session(token, device).await?;
        if is_new {
            // A token of another library counts as a session from its first refresh on, so the cap holds for it, too.
            match self.keep_within(&found.session).await {
                Ok(()) => {}
                Err(BeginError::Store(error)) => return Err(error.into()),
                Err(_) => return Err(Refusal::Ended.into()),
            }
            // It may be the oldest itself.
            found = self.shared.store.session(&found.session.key()).await?.ok_or(Refusal::Unknown)?;
        }
        let circumstances = self.circumstances(&found.session, found.log, user_enabled);
        match refusal(&found.session, &circumstances, self.shared.clock.now()) {
            Some(refusal) => Err(refusal.into()),
            None => Ok(found.session),
        }
    }

    /// The session that a refresh token names, and whether it has just begun: a token that names none gets its own.
    async fn presented_session(
        &self,
        token: &Claims,
        device: &Device,
    ) -> Result<(FoundSession, bool), RefreshError> {
        if token.token_type() != TokenType::Refresh {
            let (expected, found) = (TokenType::Refresh, token.token_type());
            return Err(VerifyError::TokenType { expected, found }.into());
        }
        let store = &self.shared.store;
        if let Some(session) = token.session() {
            let key = SessionKey { user_id: token.subject().clone(), id: session.id };
            return Ok((store.session(&key).await?.ok_or(Refusal::Unknown)?, false));
        }
        let session = self.adopted(token, device).await?;
        let key = session.key();
        match store.session(&key).await? {
            Some(found) => Ok((found, false)),
            None => {
                let inserted = store.insert_session(&session).await?;
                if inserted == SessionInserted::EpochRaised {
                    return Err(Refusal::EpochRaised.into());
                }
                let found = store.session(&key).await?.ok_or(Refusal::Unknown)?;
                Ok((found, inserted == SessionInserted::Yes))
            }
        }
    }

    /// The row of a session for a refresh token that names none and that nothing in the log speaks against.
    async fn adopted(&self, token: &Claims, device: &Device) -> Result<Session, RefreshError> {
        let issued_at = token.issued_at().unwrap_or(Timestamp::MIN);
        let (user_id, id) = (token.subject(), token.token_id());
        self.foreign_session(user_id, id, issued_at, token.expires_at(), device).await
    }

    /// The row of the session that a refresh token of another library has here, made from what is known of the token:
    /// the one that it would get when it is first shown. Nothing is written.
    ///
    /// # Errors
    /// [`RefreshError::Refused`] if the token is too old, or the log speaks against it; [`RefreshError::Store`] when the
    /// store cannot answer.
    pub async fn foreign_session(
        &self,
        user_id: &UserId,
        token_id: TokenId,
        issued_at: Timestamp,
        expires_at: Option<Timestamp>,
        device: &Device,
    ) -> Result<Session, RefreshError> {
        let Shared { policy, clock, log, random, view, .. } = &*self.shared;
        // For longer than this nobody remembers that the token was revoked.
        if issued_at <= clock.now() - policy.leeway - policy.absolute {
            return Err(Refusal::Expired.into());
        }
        // The epoch first: what raises it from now on keeps the row from being inserted.
        let epoch = log.epoch(user_id).await?;
        if log.epoch_raised_at(user_id).await?.is_some_and(|raised_at| issued_at <= raised_at) {
            return Err(Refusal::EpochRaised.into());
        }
        if !view.is_fresh() {
            self.poll().await?;
        }
        let standing = Standing::IssuedAt(issued_at);
        if view.index().check(user_id, token_id, standing).is_err() {
            return Err(Refusal::Ended.into());
        }
        let now = clock.now();
        let absolute_until = expires_at.unwrap_or(Timestamp::MAX).min(issued_at + policy.absolute);
        let seed = random::bytes(&**random).map_err(|_| SignError::Failed)?;
        Ok(Session {
            user_id: user_id.clone(),
            id: SessionId::new(token_id.as_uuid()),
            epoch,
            generation: Generation::FIRST,
            issued_at: now,
            acknowledged_at: None,
            heals: 0,
            healed_run: 0,
            seed: SessionSeed::new(seed),
            created_at: issued_at,
            last_seen_at: now,
            idle_until: absolute_until,
            absolute_until,
            device: device.clone(),
            ended: None,
        })
    }

    /// Revokes a token of another library, of either kind, for as long as any such token lives. Unlike
    /// [`Sessions::revoke_tokens`] it is not for users to call, and so knows no limit; a session that the token has here
    /// is not ended by it.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot answer; revoking it again is safe.
    pub async fn revoke_foreign(&self, user_id: UserId, id: TokenId) -> Result<(), StoreError> {
        let Shared { policy, clock, log, .. } = &*self.shared;
        let at = clock.now();
        let target = Target::Token { user_id, id };
        let entry = Entry { target, until: at + self.token_horizon(policy), at };
        log.insert_entry(&entry).await?;
        self.learn(entry).await
    }

    /// Ends what a token that names no session stands for: its own session for a refresh token, else itself.
    pub(super) async fn end_foreign_now(&self, token: &Claims, reason: EndReason) -> Result<(), StoreError> {
        if token.token_type() == TokenType::Refresh {
            // The row is what remembers the end for as long as the token lives.
            return match self.presented_session(token, &Device::default()).await {
                Ok((found, _)) => self.end_now(&found.session.key(), reason).await.map(drop),
                Err(RefreshError::Store(error)) => Err(error),
                // It does not refresh as it is.
                Err(RefreshError::Refused(_) | RefreshError::Invalid(_)) => Ok(()),
                Err(error) => Err(StoreError::new("session", "begin the token's session", error)),
            };
        }
        self.revoke_foreign(token.subject().clone(), token.token_id()).await
    }

    /// For how long the entry of a single token matters. A refresh token that names no session has no row that would
    /// remember it.
    pub(super) fn token_horizon(&self, policy: &SessionPolicy) -> Duration {
        let horizon = policy.revocation_horizon();
        if self.shared.format.is_some() {
            horizon.max(policy.absolute.saturating_add(policy.leeway))
        } else {
            horizon
        }
    }
}
