//! The clients of the endpoints of tokens: who they are, and what they do.

use std::sync::Arc;

use countersign_jwt::claims::Claims;
use uuid::Uuid;

use crate::flow::sessions::{EndError, Sessions};
use crate::model::{AdminScope, ClientSecret, ConfidentialClient, EndReason, Event, UserSession};
use crate::store::{AdminKeyStore, StoreError};

/// Authenticates clients and revokes tokens for them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clients {
    store: Arc<dyn AdminKeyStore>,
    sessions: Sessions,
}

/// Why a client may not do what it asks for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The credentials are not those of a client that has not expired. The reason is for the log alone.
    #[error("a client was refused: {0}")]
    Refused(&'static str),
    /// The client may not do this.
    #[error("the client {client} lacks the scope {lacks}")]
    NotAllowed {
        /// The client's name.
        client: String,
        /// The name of the scope.
        lacks: &'static str,
    },
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Clients {
    /// The clients of this store, who revoke tokens of these sessions.
    #[must_use]
    pub fn new(store: Arc<dyn AdminKeyStore>, sessions: &Sessions) -> Self {
        Self { store, sessions: sessions.clone() }
    }

    /// The client with this id and secret, if it may do what `scope` allows.
    ///
    /// Credentials that are well formed cost one read of the store and one SHA-256, others nothing. A secret has 256
    /// random bits, so that attempts need not be counted.
    ///
    /// ```
    /// use countersign_core::flow::{ClientError, Clients};
    /// use countersign_core::model::{AdminKey, AdminScope, ClientSecret};
    /// use countersign_core::store::AdminKeyStore as _;
    /// # use std::sync::Arc;
    /// # use countersign_core::store::MemoryStore;
    /// # use countersign_jwt::Clock as _;
    /// # use uuid::Uuid;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = Arc::new(MemoryStore::new());
    /// # let bed = countersign_testkit::TestBed::over(MemoryStore::new()).await;
    /// # let random = countersign_testkit::SeededRandom::default();
    /// let (id, secret) = (Uuid::from_u128(7), ClientSecret::new(&random)?);
    /// store.insert_admin_key(&AdminKey {
    ///     id,
    ///     name: "api".to_owned(),
    ///     digest: secret.digest(),
    ///     scopes: vec![AdminScope::TokensIntrospect],
    ///     created_at: bed.clock.now(),
    ///     expires_at: None,
    /// }).await?;
    ///
    /// let clients = Clients::new(store, &bed.sessions);
    /// let (id, secret) = (id.to_string(), secret.expose());
    /// let api = clients.authenticate(&id, secret, AdminScope::TokensIntrospect).await?;
    /// assert_eq!(api.name(), "api");
    /// let refused = clients.authenticate(&id, secret, AdminScope::TokensRevoke).await;
    /// assert!(matches!(refused, Err(ClientError::NotAllowed { .. })));
    /// let refused = clients.authenticate(&id, "csc_guess", AdminScope::TokensIntrospect).await;
    /// assert!(matches!(refused, Err(ClientError::Refused(_))));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn authenticate(
        &self,
        id: &str,
        secret: &str,
        scope: AdminScope,
    ) -> Result<ConfidentialClient, ClientError> {
        const MALFORMED: ClientError = ClientError::Refused("the id or the secret is malformed");
        // Only the form in which ids are written is accepted, so that a client has one id.
        let parsed = Uuid::try_parse(id).ok().filter(|parsed| parsed.to_string() == id);
        let (Some(id), Some(secret)) = (parsed, ClientSecret::parse(secret)) else { return Err(MALFORMED) };
        let known = self.store.admin_key(id).await?.and_then(ConfidentialClient::of);
        let client = known.ok_or(ClientError::Refused("there is no such client"))?;
        if !client.is_proven_by(&secret, self.sessions.clock().now()) {
            return Err(ClientError::Refused("the secret is wrong, or the client has expired"));
        }
        if !client.may(scope) {
            return Err(ClientError::NotAllowed { client: client.name().to_owned(), lacks: scope.name() });
        }
        Ok(client)
    }

    /// Ends the session that a token of either kind names, for a client. The token was verified as for
    /// [`Sessions::end_by_tokens`]; it may have expired, and its session may have ended before. Only a session that was
    /// live leaves an event, so repeating the call fills no audit trail.
    ///
    /// # Errors
    /// [`EndError`] when the store cannot answer; revoking the token again is safe.
    pub async fn revoke(&self, client: &ConfidentialClient, token: Claims) -> Result<(), EndError> {
        let live = match token.session() {
            Some(session) => {
                let key = UserSession { user_id: token.subject().clone(), id: session.id };
                self.sessions.is_live(&key).await?.then_some(key)
            }
            None => None,
        };
        self.sessions.end_by_tokens(vec![token], EndReason::EndedByOperator).await?;
        if let Some(UserSession { user_id, id }) = live {
            let client = client.name().to_owned();
            self.sessions.tell(&Event::ClientRevoked { user_id, session_id: id, client });
        }
        Ok(())
    }
}
