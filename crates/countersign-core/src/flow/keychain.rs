//! A deployment's keys, kept in the store and sealed with the server's secret.

use std::sync::Arc;

use arc_swap::ArcSwap;
use countersign_jwt::key::{Algorithm, KeyError, KeyRing, SigningKey, VerifyingKey};
use countersign_jwt::random::{Random, RandomError, uuid};
use countersign_jwt::seal::{SealError, Secrets};
use countersign_jwt::time::{Clock, Timestamp};
use uuid::Uuid;

use crate::model::{KeyPurpose, StoredKey, keys};
use crate::store::{KeyStore, StoreError};

/// The reason why the keys could not be opened. No error makes new keys, because that would end every session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeychainError {
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The secret does not open a stored key, because the key was sealed with another one.
    #[error(
        "the secret does not open the key {key_id} in the store; start with the secret that sealed it \
         (COUNTERSIGN_SECRET or COUNTERSIGN_SECRET_FILE; for SQLite the file beside the database)"
    )]
    WrongSecret {
        /// The id of the key in the store.
        key_id: String,
    },
    /// A key could not be sealed.
    #[error("a key could not be sealed")]
    Seal(#[source] SealError),
    /// A stored key was opened, but its content is not a key.
    #[error("the key {key_id} in the store is damaged")]
    Damaged {
        /// The id of the key in the store.
        key_id: String,
        /// The fault of the key.
        source: KeyError,
    },
    /// A key could not be made.
    #[error("a key could not be made")]
    Make(#[source] KeyError),
    /// The source of randomness failed.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// The keys of one purpose: the ring that verifies and the key that signs.
#[derive(Clone, Debug)]
pub struct KeySet {
    /// The ring that verifies. It is swapped as a whole when keys change.
    pub ring: Arc<ArcSwap<KeyRing>>,
    /// The key that signs.
    pub signing: SigningKey,
    /// Keys of other programs, which only verify and never change.
    foreign: Vec<VerifyingKey>,
}

impl KeySet {
    /// Accepts the tokens that this key has signed, for as long as the program runs. The key signs nothing and is not
    /// published. It serves for tokens that another program issued, while its users move to Countersign.
    ///
    /// # Errors
    /// [`KeyError::DuplicateKeyId`] if a key of the set has the same id.
    pub fn accept(&mut self, key: VerifyingKey) -> Result<(), KeyError> {
        let mut ring = KeyRing::clone(&self.ring.load());
        ring.insert(key.clone())?;
        self.ring.store(Arc::new(ring));
        self.foreign.push(key);
        Ok(())
    }

    /// The keys of other programs.
    pub(crate) fn foreign(&self) -> &[VerifyingKey] {
        &self.foreign
    }
}

/// A deployment's keys and the id of its store.
#[derive(Clone, Debug)]
pub struct Keychain {
    /// The id of the store, made once and kept there. It becomes the issuer where no public URL is set.
    pub store_id: Uuid,
    /// The keys of access tokens.
    pub access: KeySet,
    /// The keys of refresh tokens. They are MAC keys that never leave the deployment.
    pub refresh: KeySet,
}

impl Keychain {
    /// Reads the keys from the store and opens them with the secret; makes the first keys if the store has none. If
    /// several nodes start on an empty store, one makes the keys and all use them.
    ///
    /// # Errors
    /// [`KeychainError`]. A secret that does not open the keys never leads to new ones.
    pub async fn open(
        store: &dyn KeyStore,
        secrets: &Secrets,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<Self, KeychainError> {
        Self::open_with(store, secrets, KeyPurpose::Access.first_algorithm(), clock, random).await
    }

    /// Reads, opens or makes the keys as [`Keychain::open`] does, with the algorithm of the first key of access tokens
    /// as an argument.
    ///
    /// # Errors
    /// Those of [`Keychain::open`].
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
                // A secret that opens none of the keys must not get to add a key of its own.
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
                // Another node may have inserted its key first. That key is read here, and opened before anything else
                // is added.
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

/// Seals every stored key anew with the first of the secrets; after that the other secrets are no longer needed.
/// Returns how many keys were sealed anew and how many there are. The first number is lower if other programs changed
/// keys meanwhile.
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

/// The key set of one purpose: its ring has all keys that were not removed, and the active one signs.
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

/// A key that is about to be added to the store.
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

/// The context that binds a sealed key to its row, so that rows cannot be swapped.
fn context(purpose: KeyPurpose, key_id: &str) -> String {
    format!("countersign/key/{}/{key_id}", purpose.name())
}
