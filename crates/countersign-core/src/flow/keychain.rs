//! A deployment's keys: kept in the store, sealed with the server's secret.

use std::sync::Arc;

use arc_swap::ArcSwap;
use countersign_jwt::key::{Algorithm, KeyError, KeyRing, SigningKey, VerifyingKey};
use countersign_jwt::random::{Random, RandomError, uuid};
use countersign_jwt::seal::{SealError, Secrets};
use countersign_jwt::time::{Clock, Timestamp};
use uuid::Uuid;

use crate::model::{KeyPurpose, StoredKey, keys};
use crate::store::{KeyStore, StoreError};

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
    /// Keys of others, which only verify and never change.
    foreign: Vec<VerifyingKey>,
}

impl KeySet {
    /// Accepts what this key has signed, too, for as long as the program runs. It signs nothing and is not published:
    /// for tokens that another program issued, while users move here.
    ///
    /// # Errors
    /// [`KeyError::DuplicateKeyId`] if a key of the set has that id.
    pub fn accept(&mut self, key: VerifyingKey) -> Result<(), KeyError> {
        let mut ring = KeyRing::clone(&self.ring.load());
        ring.insert(key.clone())?;
        self.ring.store(Arc::new(ring));
        self.foreign.push(key);
        Ok(())
    }

    /// Keys of others.
    pub(crate) fn foreign(&self) -> &[VerifyingKey] {
        &self.foreign
    }
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
    /// # Errors
    /// [`KeychainError`]; a secret that does not open the keys never leads to new ones.
    pub async fn open(
        store: &dyn KeyStore,
        secrets: &Secrets,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<Self, KeychainError> {
        Self::open_with(store, secrets, KeyPurpose::Access.first_algorithm(), clock, random).await
    }

    /// As [`Keychain::open`]; what the first key of access tokens signs with is the caller's choice.
    ///
    /// # Errors
    /// As for [`Keychain::open`].
    pub async fn open_with(
        store: &dyn KeyStore,
        secrets: &Secrets,
        first: Algorithm,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<Self, KeychainError> {
        let store_id = store.store_id(uuid(random)?).await?;
        let mut stored = store.keys().await?;
        for purpose in [KeyPurpose::Access, KeyPurpose::Refresh] {
            if !stored.iter().any(|key| key.purpose == purpose && key.removed_at.is_none()) {
                // A secret that fits nothing must not get to add a key of its own.
                for key in stored.iter().filter(|key| key.removed_at.is_none()) {
                    open_key(key, secrets)?;
                }
                let numbers = stored.iter().filter(|key| key.purpose == purpose).map(|key| key.number);
                let now = clock.now();
                let algorithm = match purpose {
                    KeyPurpose::Access => first,
                    KeyPurpose::Refresh => purpose.first_algorithm(),
                };
                let key = SigningKey::generate(algorithm, random).map_err(KeychainError::Make)?;
                let new = NewKey {
                    purpose,
                    number: numbers.max().unwrap_or(0).saturating_add(1),
                    created_at: now,
                    active_at: now,
                };
                // Taken: another node was first. Its key is read here, and opened before anything else is added.
                store.insert_key(&new.sealed(&key, secrets, random)?).await?;
                stored = store.keys().await?;
            }
        }
        Ok(Self {
            store_id,
            access: key_set(&stored, KeyPurpose::Access, secrets, clock.now())?,
            refresh: key_set(&stored, KeyPurpose::Refresh, secrets, clock.now())?,
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
    let mut stored = store.keys().await?;
    stored.retain(|key| key.removed_at.is_none());
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

/// All keys of a purpose that were not removed in the ring; the active one signs.
fn key_set(
    stored: &[StoredKey],
    purpose: KeyPurpose,
    secrets: &Secrets,
    now: Timestamp,
) -> Result<KeySet, KeychainError> {
    let mut ring = KeyRing::new();
    let active = keys::active(stored, purpose, now).map(|row| &row.key_id);
    let mut signing = None;
    for row in stored.iter().filter(|key| key.purpose == purpose && key.removed_at.is_none()) {
        let key = open_key(row, secrets)?;
        ring.insert(key.verifying_key())
            .map_err(|source| KeychainError::Damaged { key_id: row.key_id.to_string(), source })?;
        if active == Some(&row.key_id) {
            signing = Some(key);
        }
    }
    match signing {
        Some(signing) => {
            Ok(KeySet { ring: Arc::new(ArcSwap::from_pointee(ring)), signing, foreign: Vec::new() })
        }
        None => {
            Err(KeychainError::Store(StoreError::new("key", "return the key just inserted", "no such key")))
        }
    }
}

/// The row of a key that is about to be added.
pub(crate) struct NewKey {
    pub(crate) purpose: KeyPurpose,
    pub(crate) number: u32,
    pub(crate) created_at: Timestamp,
    pub(crate) active_at: Timestamp,
}

impl NewKey {
    pub(crate) fn sealed(
        &self,
        key: &SigningKey,
        secrets: &Secrets,
        random: &dyn Random,
    ) -> Result<StoredKey, KeychainError> {
        Ok(StoredKey {
            purpose: self.purpose,
            number: self.number,
            key_id: key.key_id().clone(),
            algorithm: key.algorithm(),
            sealed: seal_key(self.purpose, key, secrets, random)?,
            created_at: self.created_at,
            active_at: self.active_at,
            removed_at: None,
        })
    }
}

pub(crate) fn open_key(row: &StoredKey, secrets: &Secrets) -> Result<SigningKey, KeychainError> {
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
