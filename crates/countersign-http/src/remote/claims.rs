//! The claims of another issuer's token, once the token is verified.

use std::fmt;
use std::sync::Arc;

use countersign_jwt::claims::ClaimError;
use countersign_jwt::{Algorithm, KeyId, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The claims of another issuer's token whose signature holds and that is valid here and now.
///
/// Only [`RemoteIssuers::verify`](super::RemoteIssuers::verify) makes them. They are never a
/// [`Claims`](countersign_jwt::Claims), because no session and no revocation of ours stands behind them. Cheap to
/// clone.
#[derive(Clone, PartialEq)]
pub struct RemoteClaims(Arc<Fields>);

/// The identity of a user: the issuer, and the name by which that issuer knows the user. The same subject at another
/// issuer is another user, so accounts are found by both (OpenID Connect Core §5.7).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RemoteIdentity {
    issuer: Arc<str>,
    subject: Arc<str>,
}

#[derive(PartialEq)]
pub(super) struct Fields {
    pub(super) identity: RemoteIdentity,
    pub(super) audience: Vec<String>,
    pub(super) client_id: Option<String>,
    pub(super) issued_at: Option<Timestamp>,
    pub(super) not_before: Option<Timestamp>,
    pub(super) expires_at: Timestamp,
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<KeyId>,
    pub(super) claims: Map<String, Value>,
}

impl RemoteClaims {
    pub(super) fn verified(fields: Fields) -> Self {
        Self(Arc::new(fields))
    }

    /// The issuer and the subject, which together identify the user.
    #[must_use]
    pub fn identity(&self) -> &RemoteIdentity {
        &self.0.identity
    }

    /// `iss`: the configured issuer that signed the token.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.0.identity.issuer()
    }

    /// `sub`, or the claim that was configured instead: the name by which the issuer knows the user.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.0.identity.subject()
    }

    /// `aud`: the services that the token is meant for; empty if the token names none.
    #[must_use]
    pub fn audience(&self) -> &[String] {
        &self.0.audience
    }

    /// The client that the token was issued to; `None` if the token does not tell.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.0.client_id.as_deref()
    }

    /// `scope`: the scopes that the token grants, one word each (RFC 9068 §2.2.3); empty if the token names none.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        let scope = self.0.claims.get("scope").and_then(Value::as_str).unwrap_or_default();
        scope.split(' ').filter(|word| !word.is_empty())
    }

    /// `iat`: the time at which the token was issued.
    #[must_use]
    pub fn issued_at(&self) -> Option<Timestamp> {
        self.0.issued_at
    }

    /// `nbf`: the time from which the token is valid.
    #[must_use]
    pub fn not_before(&self) -> Option<Timestamp> {
        self.0.not_before
    }

    /// `exp`: the time from which the token is no longer valid.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }

    /// The algorithm of the key that verified the token.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// `kid`: the id of the key that the token names; `None` if it names none.
    #[must_use]
    pub fn key_id(&self) -> Option<&KeyId> {
        self.0.key_id.as_ref()
    }

    /// The claim `name`, registered or not; `None` if the token does not have it.
    ///
    /// # Errors
    /// [`ClaimError::OtherType`] if the claim cannot be read as a `T`.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ClaimError> {
        let value = self.0.claims.get(name).map(T::deserialize).transpose();
        value.map_err(|_| ClaimError::OtherType(name.to_owned()))
    }

    /// All claims, read as a struct or map.
    ///
    /// # Errors
    /// [`ClaimError::NotExtra`] if the claims cannot be read as a `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ClaimError> {
        T::deserialize(&self.0.claims).map_err(|_| ClaimError::NotExtra)
    }

    /// All claims.
    #[must_use]
    pub fn claims(&self) -> &Map<String, Value> {
        &self.0.claims
    }
}

/// Omits the values of claims, which may be personal.
impl fmt::Debug for RemoteClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteClaims")
            .field("identity", &self.0.identity)
            .field("audience", &self.0.audience)
            .field("client_id", &self.0.client_id)
            .field("expires_at", &self.0.expires_at)
            .field("claims", &self.0.claims.keys())
            .finish_non_exhaustive()
    }
}

impl RemoteIdentity {
    pub(super) fn new(issuer: &str, subject: &str) -> Self {
        Self { issuer: issuer.into(), subject: subject.into() }
    }

    /// The issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The name by which the issuer knows the user.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }
}
