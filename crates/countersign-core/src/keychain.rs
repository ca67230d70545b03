//! A deployment's keys: kept in the store, sealed with the server's secret.

use std::sync::Arc;

use arc_swap::ArcSwap;
use uuid::Uuid;

use crate::key::{Algorithm, KeyError, KeyRing, SigningKey};
use crate::random::{Random, RandomError, uuid};
use crate::seal::{SealError, Secrets};
use crate::store::{KeyPurpose, KeyStore, StoreError, StoredKey};
use crate::time::Clock;

/// Why the keys could not be had. None of these makes new keys: that would end every session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeychainError {
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The secret does not open a stored key: it is not the one that the keys were sealed with.
    #[error(
        "the secret does not open the key {key_id} in the store; start with the secret that sealed it \
         (COUNTERSIGN_SECRET or COUNTERSIGN_SECRET_FILE; for SQLite the file beside the database)"
    )]
    WrongSecret {
        /// The key.
        key_id: String,
    },
    /// A key could not be sealed.
    #[error("a key could not be sealed")]
    Seal(#[source] SealError),
    /// A stored key was opened, but is not a key.
    #[error("the key {key_id} in the store is damaged")]
    Damaged {
        /// The key.
        key_id: String,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A key could not be made.
    #[error("a key could not be made")]
    Make(#[source] KeyError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// The keys of one purpose: the ring that verifies and the key that signs.
#[derive(Clone, Debug)]
pub struct KeySet {
    /// Verifies. Swapped as a whole when keys change.
    pub ring: Arc<ArcSwap<KeyRing>>,
    /// Signs.
    pub signing: SigningKey,
}

/// A deployment's keys and identity.
#[derive(Clone, Debug)]
pub struct Keychain {
    /// Made once and kept in the store; the issuer where no public URL is set.
    pub store_id: Uuid,
    /// Access tokens' keys.
    pub access: KeySet,
    /// Refresh tokens' keys: MAC keys that never leave the deployment.
    pub refresh: KeySet,
}

impl Keychain {
    /// Reads the keys from the store and opens them with the secret; makes the first ones where there are none.
    /// Of several nodes that start on an empty store, one makes them and all use them.
    ///
    /// Access tokens are signed with Ed25519 by default: verifiers elsewhere then need no secret (SEC-023).
    ///
    /// # Errors
    /// [`KeychainError`]; a secret that does not open the keys never leads to new ones.
    pub async fn open(
        store: &dyn KeyStore,
        secrets: &Secrets,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<Self, KeychainError> {
        let store_id = store.store_id(uuid(random)?).await?;
        let mut stored = store.keys().await?;
        for (purpose, algorithm) in
            [(KeyPurpose::Access, Algorithm::EdDsa), (KeyPurpose::Refresh, Algorithm::Hs256)]
        {
            if !stored.iter().any(|key| key.purpose == purpose) {
                // A secret that fits nothing must not get to add a key of its own.
                for key in &stored {
                    open_key(key, secrets)?;
                }
                let key = SigningKey::generate(algorithm, random).map_err(KeychainError::Make)?;
                let sealed = seal_key(purpose, &key, secrets, random)?;
                let row = StoredKey {
                    purpose,
                    number: 1,
                    key_id: key.key_id().clone(),
                    algorithm,
                    sealed,
                    created_at: clock.now(),
                };
                // Taken: another node was first. Its key is read here, and opened before anything else is added.
                store.insert_key(&row).await?;
                stored = store.keys().await?;
            }
        }
        Ok(Self {
            store_id,
            access: key_set(&stored, KeyPurpose::Access, secrets)?,
            refresh: key_set(&stored, KeyPurpose::Refresh, secrets)?,
        })
    }
}

/// Seals every stored key anew, with the first of the secrets: after that the others are no longer needed. Returns how
/// many keys were sealed anew and how many there are; fewer, when others changed keys meanwhile.
///
/// # Errors
/// [`KeychainError::WrongSecret`] if none of the secrets opens one of the keys; nothing was changed then.
pub async fn reseal(
    store: &dyn KeyStore,
    secrets: &Secrets,
    random: &dyn Random,
) -> Result<(usize, usize), KeychainError> {
    let stored = store.keys().await?;
    let mut resealed = Vec::with_capacity(stored.len());
    for row in &stored {
        let key = open_key(row, secrets)?;
        resealed.push(seal_key(row.purpose, &key, secrets, random)?);
    }
    let mut done = 0;
    for (row, sealed) in stored.iter().zip(&resealed) {
        done += usize::from(store.reseal_key(&row.key_id, &row.sealed, sealed).await?);
    }
    Ok((done, stored.len()))
}

fn seal_key(
    purpose: KeyPurpose,
    key: &SigningKey,
    secrets: &Secrets,
    random: &dyn Random,
) -> Result<Vec<u8>, KeychainError> {
    secrets
        .seal(&context(purpose, key.key_id().as_str()), &key.to_secret_bytes(), random)
        .map_err(KeychainError::Seal)
}

/// All keys of a purpose in the ring; the one with the highest number signs.
fn key_set(stored: &[StoredKey], purpose: KeyPurpose, secrets: &Secrets) -> Result<KeySet, KeychainError> {
    let mut ring = KeyRing::new();
    let mut signing: Option<(u32, SigningKey)> = None;
    for row in stored.iter().filter(|key| key.purpose == purpose) {
        let key = open_key(row, secrets)?;
        ring.insert(key.verifying_key())
            .map_err(|source| KeychainError::Damaged { key_id: row.key_id.to_string(), source })?;
        if signing.as_ref().is_none_or(|(number, _)| *number < row.number) {
            signing = Some((row.number, key));
        }
    }
    match signing {
        Some((_, signing)) => Ok(KeySet { ring: Arc::new(ArcSwap::from_pointee(ring)), signing }),
        None => {
            Err(KeychainError::Store(StoreError::new("key", "return the key just inserted", "no such key")))
        }
    }
}

fn open_key(row: &StoredKey, secrets: &Secrets) -> Result<SigningKey, KeychainError> {
    let secret = secrets
        .open(&context(row.purpose, row.key_id.as_str()), &row.sealed)
        .map_err(|_| KeychainError::WrongSecret { key_id: row.key_id.to_string() })?;
    SigningKey::from_secret_bytes(row.algorithm, row.key_id.clone(), &secret)
        .map_err(|source| KeychainError::Damaged { key_id: row.key_id.to_string(), source })
}

/// Binds a sealed key to its place, so that rows cannot be swapped.
fn context(purpose: KeyPurpose, key_id: &str) -> String {
    format!("countersign/key/{}/{key_id}", purpose.name())
}
