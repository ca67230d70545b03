//! Access tokens without a login, for operators, tests and programs that act for a user.

use std::time::Duration;

use countersign_jwt::claims::{ClaimError, Freshness, NewClaims, SessionRef, TokenType};
use countersign_jwt::id::{SessionId, UserId};
use countersign_jwt::random;
use countersign_jwt::time::{Clock as _, Timestamp};
use serde_json::{Map, Value};

use crate::flow::sessions::{BeginError, Sessions, Shared, detached};
use crate::model::{Device, NewSession, Session, SessionSeed, token_id};

/// The choices for a token of [`Sessions::issue_access`], beside what every token has.
#[derive(Clone, Debug, Default)]
pub struct AccessGrant {
    /// The lifetime of the token. Default, and at most, the policy's access lifetime.
    pub lifetime: Option<Duration>,
    /// Whether the token is fresh, like one from a login. Default no.
    pub fresh: bool,
    /// The application's own claims. None may have a registered name (SEC-024).
    pub claims: Map<String, Value>,
    /// The device that the list of the user's sessions shows.
    pub device: Device,
}

/// An access token that has no refresh token.
#[derive(Clone)]
pub struct IssuedAccess {
    /// The access token.
    pub token: String,
    /// The time at which the token and its session expire.
    pub expires_at: Timestamp,
    /// The session of the token, by which it is listed and ended.
    pub session: SessionRef,
}

impl std::fmt::Debug for IssuedAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedAccess").field("session", &self.session).finish_non_exhaustive()
    }
}

/// The reason why no access token was issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueAccessError {
    /// The token would live longer than the revocation log remembers, or not at all.
    #[error(
        "the lifetime is {}; use 1 s to {} s, which is the access lifetime (COUNTERSIGN_ACCESS_LIFETIME)",
        seconds(*asked), longest.as_secs()
    )]
    Lifetime {
        /// The lifetime that was asked for.
        asked: Duration,
        /// The policy's access lifetime.
        longest: Duration,
    },
    /// One of the application's claims cannot be set.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The token's session did not begin.
    #[error(transparent)]
    Begin(#[from] BeginError),
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

impl Sessions {
    /// Issues an access token for a user who did not log in. The caller answers for it that this user exists and may be
    /// acted for. The token has a session of its own, so that the user can see and end it like any other, and no
    /// refresh token. Both the token and the session expire at the same time.
    ///
    /// # Errors
    /// [`IssueAccessError::Claim`] for a claim with a registered name; no session began then.
    pub async fn issue_access(
        &self,
        user_id: UserId,
        grant: AccessGrant,
    ) -> Result<IssuedAccess, IssueAccessError> {
        let this = self.clone();
        let work = async move { this.issue_access_now(user_id, grant).await };
        detached(&self.shared.runtime, work).await
    }

    async fn issue_access_now(
        &self,
        user_id: UserId,
        grant: AccessGrant,
    ) -> Result<IssuedAccess, IssueAccessError> {
        let Shared { policy, clock, random, .. } = &*self.shared;
        let longest = policy.access_lifetime;
        let lifetime = grant.lifetime.unwrap_or(longest);
        if lifetime < Duration::from_secs(1) || lifetime > longest {
            return Err(IssueAccessError::Lifetime { asked: lifetime, longest });
        }
        let epoch = self.epoch(&user_id).await.map_err(BeginError::from)?;
        let now = clock.now();
        let expires_at = now + lifetime;
        let session = Session::from(NewSession {
            user_id,
            id: SessionId::new(random::uuid(&**random).map_err(BeginError::from)?),
            epoch,
            seed: SessionSeed::new(random::bytes(&**random).map_err(BeginError::from)?),
            device: grant.device,
            created_at: now,
            now,
            idle_until: expires_at,
            absolute_until: expires_at,
        });
        let reference = SessionRef { id: session.id, generation: session.generation, epoch };
        let id = token_id(&session, TokenType::Access);
        let fresh = if grant.fresh { Freshness::Fresh } else { Freshness::Stale };
        let mut claims =
            NewClaims::new(TokenType::Access, session.user_id.clone(), id, session.issued_at, expires_at)
                .with_session(reference)
                .with_freshness(fresh);
        for (name, value) in grant.claims {
            claims = claims.with_claim(&name, value)?;
        }
        let token = self.keys().issue(&claims).map_err(BeginError::from)?;
        self.insert_new(&session).await?;
        Ok(IssuedAccess { token, expires_at, session: reference })
    }
}
