//! The clients of the endpoints of tokens: programs that ask about tokens or revoke them, with credentials of their own.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_jwt::random::{self, Random, RandomError};
use countersign_jwt::time::Timestamp;
use uuid::Uuid;

use crate::model::admin_key::{AdminKey, AdminScope};
use crate::model::one_time::SecretDigest;

/// A program that may ask about tokens (RFC 7662) or revoke them (RFC 7009).
///
/// Its record is an [`AdminKey`] whose scopes are all [those of clients](AdminScope::OF_CLIENTS). The texts of the two
/// are digested differently, so neither serves in the other's place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfidentialClient(AdminKey);

impl ConfidentialClient {
    /// The client of a record; `None` if the record is an operator's key.
    #[must_use]
    pub fn of(key: AdminKey) -> Option<Self> {
        key.is_of_client().then_some(Self(key))
    }

    /// Its `client_id`.
    #[must_use]
    pub const fn id(&self) -> Uuid {
        self.0.id
    }

    /// The name that the operator gave it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its record.
    #[must_use]
    pub const fn record(&self) -> &AdminKey {
        &self.0
    }

    /// Whether this is the client's secret, and the client has not expired. Secrets are compared in constant time.
    #[must_use]
    pub fn is_proven_by(&self, secret: &ClientSecret, now: Timestamp) -> bool {
        self.0.digest.is(&secret.digest()) && !self.0.has_expired(now)
    }

    /// Whether the client may do this.
    #[must_use]
    pub fn may(&self, scope: AdminScope) -> bool {
        self.0.scopes.contains(&scope)
    }
}

/// A client's secret as its holder presents it: `csc_` and 256 random bits.
#[derive(Clone, Eq, PartialEq)]
pub struct ClientSecret(String);

impl ClientSecret {
    /// The beginning of every secret, by which scanners of leaked secrets find it.
    pub const PREFIX: &'static str = "csc_";

    /// A new secret.
    ///
    /// # Errors
    /// [`RandomError`] when the source of randomness fails.
    pub fn new(random: &dyn Random) -> Result<Self, RandomError> {
        let secret: [u8; 32] = random::bytes(random)?;
        Ok(Self(format!("{}{}", Self::PREFIX, URL_SAFE_NO_PAD.encode(secret))))
    }

    /// Parses a secret as it is presented; `None` if the text is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let secret = text.strip_prefix(Self::PREFIX)?;
        let is_secret = secret.len() == 43 && URL_SAFE_NO_PAD.decode(secret).is_ok();
        is_secret.then(|| Self(text.to_owned()))
    }

    /// The digest by which the store knows the secret. It covers the prefix too, so that an admin key's secret has
    /// another one.
    #[must_use]
    pub fn digest(&self) -> SecretDigest {
        SecretDigest::of(&self.0)
    }

    /// The secret as text, which is shown once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSecret").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AdminKeyText;

    /// Gives the same bytes every time.
    #[derive(Debug)]
    struct Same;

    impl Random for Same {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
            bytes.fill(7);
            Ok(())
        }
    }

    fn record(digest: SecretDigest, scopes: &[AdminScope]) -> AdminKey {
        AdminKey {
            id: Uuid::max(),
            name: "api".to_owned(),
            digest,
            scopes: scopes.to_vec(),
            created_at: Timestamp::from_secs(0),
            expires_at: Some(Timestamp::from_secs(100)),
        }
    }

    #[test]
    fn sec_106_a_client_is_no_operator_and_an_operator_no_client() {
        let secret = ClientSecret::new(&Same).unwrap();
        let key = AdminKeyText::new(Uuid::max(), &Same).unwrap();
        assert!(
            key.expose().ends_with(&secret.expose()[ClientSecret::PREFIX.len()..]),
            "the same random bits"
        );
        let client = record(secret.digest(), &AdminScope::OF_CLIENTS);
        assert!(
            !client.is_proven_by(&key) && !record(key.digest(), &AdminScope::OF_CLIENTS).is_proven_by(&key)
        );
        let client = ConfidentialClient::of(client).unwrap();
        assert!(client.is_proven_by(&secret, Timestamp::from_secs(99)));
        assert!(!client.is_proven_by(&secret, Timestamp::from_secs(100)), "it has expired");
        assert!(
            !ConfidentialClient::of(record(key.digest(), &AdminScope::OF_CLIENTS))
                .unwrap()
                .is_proven_by(&secret, Timestamp::from_secs(0))
        );
        let mixed = [AdminScope::TokensRevoke, AdminScope::UsersRead];
        for scopes in [&[][..], &AdminScope::OF_OPERATORS, &mixed] {
            assert_eq!(ConfidentialClient::of(record(secret.digest(), scopes)), None, "{scopes:?}");
        }
    }

    #[test]
    fn a_secret_is_parsed_as_written_and_not_shown() {
        let secret = ClientSecret::new(&Same).unwrap();
        assert_eq!(ClientSecret::parse(secret.expose()), Some(secret.clone()));
        assert!(!format!("{secret:?}").contains(&secret.expose()[4..]));
        let text = secret.expose();
        for wrong in ["", "csc_", &text[4..], &text[..46], &format!("{text}A"), &text.replace("csc_", "csk_")]
        {
            assert_eq!(ClientSecret::parse(wrong), None, "{wrong}");
        }
    }
}
