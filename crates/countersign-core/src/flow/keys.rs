//! A deployment's keys on one node: making, activating, replacing and removing them, learning what other nodes did, and
//! signing and verifying with them.

mod issuers;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign_jwt::VerifyError;
use countersign_jwt::claims::{NewClaims, TokenType};
use countersign_jwt::issuers::KnownIssuers;
use countersign_jwt::jws::{self, SignError};
use countersign_jwt::key::{Algorithm, KeyError, KeyId, KeyRing, SigningKey, VerifyingKey};
use countersign_jwt::random::Random;
use countersign_jwt::seal::Secrets;
use countersign_jwt::time::{Clock as _, Timestamp};
use countersign_jwt::token::{Issuer, Verifier};
use issuers::IssuerWatch;

use crate::flow::clock::StoreClock;
use crate::flow::keychain::{self, KeySet, Keychain, KeychainError, NewKey};
use crate::flow::view::{RevocationView, ViewTooOld, remove_from_ring};
use crate::model::{
    Entry, Event, Events, KeyPurpose, KeyState, PolicyError, Schedule, SessionPolicy, Step, StoredKey,
    Target, keys as rule,
};
use crate::store::{KeyStore, RevocationStore, StoreError};

/// The least time between two reloads that unknown keys have caused.
const RELOAD_EVERY: Duration = Duration::from_secs(1);
/// How often other programs may take a new key's number before this one gives up.
const TRIES: u32 = 4;

/// The reason why a key was not replaced, imported or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyLifeError {
    /// No key has this id, or it was removed before.
    #[error("no key of this store has this id; `countersign key list` shows them")]
    Unknown,
    /// Another new key is already waiting to become active.
    #[error("the new key {0} does not sign yet; repeat this once it does (`countersign key list` says when)")]
    UnderWay(KeyId),
    /// The key that was to be imported is in the store already, or was there and has been removed.
    #[error("the key {0} is in the store already, or was removed from it")]
    Known(KeyId),
    /// The algorithm is not a MAC, which refresh tokens need. Access tokens take any algorithm.
    #[error("{0} is not for refresh tokens; they take HS256, HS384 or HS512")]
    Algorithm(Algorithm),
    /// Other programs kept changing keys at the same time.
    #[error("other programs changed keys at the same time; try again")]
    Contended,
    /// The keys could not be read, made or written.
    #[error(transparent)]
    Keys(#[from] KeychainError),
}

impl From<StoreError> for KeyLifeError {
    fn from(error: StoreError) -> Self {
        Self::Keys(error.into())
    }
}

/// The time, by the monotonic clock, at which this node last read the keys.
#[derive(Debug, Default)]
struct LastReload(tokio::sync::Mutex<Option<Duration>>);

/// A deployment's keys as one node uses them. The node signs and verifies with them, and follows what other nodes do to
/// them. Cheap to clone.
///
/// ```
/// use countersign_core::model::KeyPurpose;
/// use countersign_jwt::Algorithm;
/// # use countersign_core::store::MemoryStore;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let sessions = countersign_testkit::TestBed::over(MemoryStore::new()).await.sessions;
/// let keys = sessions.keys();
/// let new = keys.rotate(KeyPurpose::Access, Some(Algorithm::Es256), true).await?;
/// assert_eq!(keys.access_algorithm(), Algorithm::Es256);
///
/// // Others verify access tokens with the published keys; this key is among them.
/// assert!(keys.public_keys().contains(new.key_id.as_str()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Keys {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn KeyStore>,
    log: Arc<dyn RevocationStore>,
    view: RevocationView,
    secrets: Secrets,
    parties: Parties,
    known_issuers: Arc<ArcSwap<KnownIssuers>>,
    issuer_watch: IssuerWatch,
    foreign_keys: Vec<VerifyingKey>,
    access: Set,
    refresh: Set,
    last_reload: LastReload,
    policy: SessionPolicy,
    clock: Arc<StoreClock>,
    random: Arc<dyn Random>,
    events: Arc<dyn Events>,
    format: Option<Arc<dyn TokenFormat>>,
}

/// The keys of one purpose in use.
#[derive(Debug)]
struct Set {
    /// The ring that verifies. It is exchanged as a whole.
    ring: Arc<ArcSwap<KeyRing>>,
    /// The issuer that signs with the active key.
    issuer: ArcSwap<Issuer>,
    /// The verifier that uses the ring.
    verifier: Verifier,
}

/// The stores, keys and services that [`Keys`] works with.
#[derive(Debug)]
pub(crate) struct KeysConfig {
    pub(crate) keychain: Keychain,
    pub(crate) store: Arc<dyn KeyStore>,
    pub(crate) log: Arc<dyn RevocationStore>,
    pub(crate) view: RevocationView,
    pub(crate) secrets: Secrets,
    pub(crate) issuer: Option<String>,
    pub(crate) known_issuers: KnownIssuers,
    pub(crate) audience: Option<String>,
    pub(crate) policy: SessionPolicy,
    pub(crate) clock: Arc<StoreClock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) events: Arc<dyn Events>,
    pub(crate) format: Option<Arc<dyn TokenFormat>>,
}

/// A format of another library that tokens are written in.
///
/// ```
/// use countersign_core::flow::TokenFormat;
/// use countersign_jwt::jws::{self, SignError};
/// use countersign_jwt::{NewClaims, SigningKey};
///
/// /// Tokens whose header calls them `JWT`, as an older library expects.
/// #[derive(Debug)]
/// struct Legacy(SigningKey);
///
/// impl TokenFormat for Legacy {
///     fn issue(&self, claims: &NewClaims) -> Result<String, SignError> {
///         let claims = serde_json::Value::Object(claims.to_map()).to_string();
///         jws::sign(&self.0, "JWT", claims.as_bytes())
///     }
/// }
/// # use countersign_core::{model::Device, store::MemoryStore};
/// # use countersign_jwt::{Algorithm, UserId, claims::decode_unverified};
/// # use countersign_testkit::{BedConfig, SeededRandom, TestBed};
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let key = SigningKey::generate(Algorithm::EdDsa, &SeededRandom::default())?;
/// # let config = BedConfig { format: Some(std::sync::Arc::new(Legacy(key))), ..BedConfig::default() };
/// # let bed = TestBed::with(MemoryStore::new(), config).await;
/// # let pair = bed.begin(&UserId::new("ada")?, Device::default()).await;
/// # assert_eq!(decode_unverified(&pair.access_token)?.header()["typ"], "JWT");
/// # Ok(())
/// # }
/// ```
pub trait TokenFormat: fmt::Debug + Send + Sync + 'static {
    /// Writes a token with these claims, which include those that name its session.
    ///
    /// # Errors
    /// [`SignError`] if the token would be too long, or signing fails.
    fn issue(&self, claims: &NewClaims) -> Result<String, SignError>;
}

impl Keys {
    /// Keys as the keychain was opened; the view takes removed keys out.
    ///
    /// # Errors
    /// [`PolicyError`] if the leeway is longer than verifiers allow.
    pub(crate) fn new(config: KeysConfig) -> Result<Self, PolicyError> {
        let KeysConfig { keychain, policy, issuer, audience, .. } = config;
        let issuer = issuer.unwrap_or_else(|| format!("urn:uuid:{}", keychain.store_id.hyphenated()));
        let parties = Parties { issuer, audience };
        let known_issuers = Arc::new(ArcSwap::from_pointee(config.known_issuers));
        let foreign_keys = keychain.access.foreign().to_vec();
        let set = |token_type, keys: KeySet| {
            let verifier = Verifier::new(token_type, keys.ring.clone())
                .with_issuer(&parties.issuer)
                .with_known_issuers(known_issuers.clone(), foreign_keys.clone());
            let verifier = verifier.with_leeway(policy.leeway).map_err(|_| PolicyError {
                setting: "leeway",
                value: format!("{} s", policy.leeway.as_secs()),
                rule: "it must be at most 300 s",
            })?;
            let verifier = match &parties.audience {
                Some(audience) => verifier.with_audience(audience),
                None => verifier,
            };
            let issuer = ArcSwap::from_pointee(parties.issuer(keys.signing));
            Ok(Set { ring: keys.ring, issuer, verifier })
        };
        config.view.remove_keys_from([keychain.access.ring.clone(), keychain.refresh.ring.clone()]);
        let (access, refresh) =
            (set(TokenType::Access, keychain.access)?, set(TokenType::Refresh, keychain.refresh)?);
        Ok(Self {
            shared: Arc::new(Shared {
                store: config.store,
                log: config.log,
                view: config.view,
                secrets: config.secrets,
                parties,
                known_issuers,
                issuer_watch: IssuerWatch::default(),
                foreign_keys,
                access,
                refresh,
                last_reload: LastReload::default(),
                policy,
                clock: config.clock,
                random: config.random,
                events: config.events,
                format: config.format,
            }),
        })
    }

    /// The verifier for tokens of this kind.
    pub(crate) fn verifier(&self, kind: TokenType) -> &Verifier {
        &self.set_for(kind).verifier
    }

    /// Whether tokens are written in the format of another library.
    pub(crate) fn has_own_format(&self) -> bool {
        self.shared.format.is_some()
    }

    fn set(&self, purpose: KeyPurpose) -> &Set {
        match purpose {
            KeyPurpose::Access => &self.shared.access,
            KeyPurpose::Refresh => &self.shared.refresh,
        }
    }

    fn set_for(&self, kind: TokenType) -> &Set {
        match kind {
            TokenType::Access => &self.shared.access,
            TokenType::Refresh => &self.shared.refresh,
        }
    }

    /// The public keys that verify access tokens, as a JWK set (RFC 7517 §5) to be published. The set never contains
    /// keys that could also sign, which are those of refresh tokens and HS256 keys of access tokens (SEC-042), nor keys
    /// of other programs.
    #[must_use]
    pub fn public_keys(&self) -> String {
        let Shared { access, foreign_keys, .. } = &*self.shared;
        let mut own = KeyRing::clone(&access.ring.load());
        for key in foreign_keys {
            own.remove(key.key_id());
        }
        own.to_jwk_set()
    }

    /// Signs a token in Countersign's format, or in the one that was configured.
    pub(crate) fn issue(&self, claims: &NewClaims) -> Result<String, SignError> {
        match &self.shared.format {
            Some(format) => format.issue(claims),
            None => self.set_for(claims.token_type()).issuer.load().issue(claims),
        }
    }

    /// Reads the keys if that was not just done, because a token names an unknown key, which may be a new one.
    ///
    /// A node that is cut off from its store does not know which keys sign by now, so it must not say that a token is
    /// invalid: a client that is told so of a refresh token discards its session. A new key does not sign before the
    /// view of such a node is too old.
    pub(crate) async fn look_for_key(&self) -> Result<(), ViewTooOld> {
        let is_fresh = self.shared.view.is_fresh();
        if !is_fresh {
            self.shared.view.ensure_fresh().await?;
        }
        self.reload_for_unknown_key().await;
        Ok(())
    }

    /// Reads the keys or the issuers because a token names one that this node does not know.
    pub(crate) async fn look_for(&self, unknown: VerifyError) -> Result<(), ViewTooOld> {
        match unknown {
            VerifyError::Issuer => self.learn_issuers_or_warn().await,
            _ => self.look_for_key().await?,
        }
        Ok(())
    }

    /// Learns what other nodes have done: reads the keys and what is new in the revocation log. A background task calls
    /// it several times within the revocation bound.
    ///
    /// # Errors
    /// [`StoreError`] when the log cannot be read. If the keys cannot be read, a warning is logged and the known keys
    /// stay, except those that were removed.
    pub async fn poll(&self) -> Result<(), StoreError> {
        // The keys are read first: a removed key's successor is read with the removal, so that nothing is signed with
        // the removed key.
        self.reload_or_warn().await;
        self.shared.view.poll().await?;
        if !self.signs_with_known_keys() {
            self.reload_or_warn().await;
        }
        Ok(())
    }

    /// Reads what the store has announced: new entries of the log and, if a key was removed, the keys before those
    /// entries are used.
    ///
    /// # Errors
    /// [`StoreError`] when the log cannot be read.
    pub async fn read_pushed(&self) -> Result<(), StoreError> {
        let removed_keys = self.shared.view.read_pushed().await?;
        let is_new = |entry: &Entry| match &entry.target {
            Target::Key { id } => !self.shared.view.index().is_key_revoked(id),
            _ => false,
        };
        if removed_keys.iter().any(is_new) {
            self.reload_or_warn().await;
            removed_keys.iter().for_each(|entry| self.shared.view.learn(entry));
        }
        Ok(())
    }

    async fn reload_or_warn(&self) {
        if let Err(error) = self.reload().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the keys could not be reloaded");
        }
    }

    fn signs_with_known_keys(&self) -> bool {
        [&self.shared.access, &self.shared.refresh]
            .into_iter()
            .all(|set| set.ring.load().get(set.issuer.load().key().key_id().as_str()).is_some())
    }

    /// Reads the keys and exchanges the rings for what the store and the time say.
    ///
    /// # Errors
    /// [`KeychainError`]. The keys that could be read are in use even then.
    pub async fn reload(&self) -> Result<(), KeychainError> {
        let mut last = self.shared.last_reload.0.lock().await;
        let reloaded = self.reload_now().await;
        // Callers that waited meanwhile need not read again.
        *last = Some(self.shared.clock.monotonic());
        reloaded
    }

    /// Reads the keys because a token names one that this node does not know, which may be a new one. Of concurrent
    /// callers one reads the store, and at most once a second (SEC-038), so that garbage does not become load.
    async fn reload_for_unknown_key(&self) {
        let mut last = self.shared.last_reload.0.lock().await;
        let began = self.shared.clock.monotonic();
        if last.is_some_and(|last| began.saturating_sub(last) < RELOAD_EVERY) {
            return;
        }
        let reloaded = self.reload_now().await;
        *last = Some(self.shared.clock.monotonic());
        if let Err(error) = reloaded {
            tracing::warn!(error = &error as &dyn std::error::Error, "the keys could not be reloaded");
        }
    }

    async fn reload_now(&self) -> Result<(), KeychainError> {
        let stored = self.shared.store.keys().await?;
        let access = self.exchange(&stored, KeyPurpose::Access);
        let refresh = self.exchange(&stored, KeyPurpose::Refresh);
        access.and(refresh)
    }

    /// Exchanges the ring and the signing key of one purpose.
    fn exchange(&self, stored: &[StoredKey], purpose: KeyPurpose) -> Result<(), KeychainError> {
        let Set { ring, issuer, .. } = self.set(purpose);
        let Shared { clock, policy, secrets, view, .. } = &*self.shared;
        let (now, overlap) = (clock.now(), policy.key_overlap(purpose));
        let known = ring.load();
        let mut next = KeyRing::new();
        let mut outcome = Ok(());
        for row in stored.iter().filter(|row| row.purpose == purpose) {
            let state = rule::key_state(row, stored, now, overlap);
            if state == KeyState::Gone || view.index().is_key_revoked(&row.key_id) {
                continue;
            }
            // The same object as before is kept, so that tokens that were verified with it stay verified.
            let mut verifying = known.get(row.key_id.as_str()).cloned();
            let signs = state == KeyState::Active && issuer.load().key().key_id() != &row.key_id;
            if verifying.is_none() || signs {
                match keychain::open_key(row, secrets) {
                    Ok(key) => {
                        verifying.get_or_insert_with(|| key.verifying_key());
                        if signs {
                            let issuing = self.shared.parties.issuer(key);
                            issuer.store(Arc::new(issuing));
                        }
                    }
                    Err(error) => outcome = Err(error),
                }
            }
            if let Some(key) = verifying {
                let damaged =
                    |source: KeyError| KeychainError::Damaged { key_id: row.key_id.to_string(), source };
                outcome = outcome.and(next.insert(key).map_err(damaged));
            }
        }
        if purpose == KeyPurpose::Access {
            for key in &self.shared.foreign_keys {
                // The store's own key of that id, if there is one by now, takes precedence.
                let _known = next.insert(key.clone());
            }
        }
        let ids: HashSet<_> = next.iter().map(|key| key.key_id().clone()).collect();
        ring.store(Arc::new(next));
        // A removal that was read while the ring was being built must not be undone.
        for id in ids.iter().filter(|id| view.index().is_key_revoked(id)) {
            remove_from_ring(ring, id);
        }
        outcome
    }

    /// The `iss` of the tokens that this node issues.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.shared.parties.issuer
    }

    /// The algorithm that access tokens are signed with at the moment.
    #[must_use]
    pub fn access_algorithm(&self) -> Algorithm {
        self.shared.access.issuer.load().key().algorithm()
    }

    /// The algorithm of the key that signed this token, if the key is for tokens of this kind. Nothing but the
    /// signature is checked. This explains why a token is refused.
    ///
    /// # Errors
    /// [`VerifyError`]: the first check that failed.
    pub fn verify_signature(&self, token: &str, kind: TokenType) -> Result<Algorithm, VerifyError> {
        let ring = &self.set_for(kind).ring;
        Ok(jws::verify(token, &ring.load())?.header.algorithm())
    }

    /// Makes a new key. It is published at once. It replaces the active key and signs when every node has read it,
    /// which is after the revocation bound. With `at_once` it signs immediately, which is right where there is one
    /// node.
    ///
    /// Without an algorithm, a new key for access tokens has the policy's algorithm if the policy names one, else that
    /// of the active key.
    ///
    /// # Errors
    /// [`KeyLifeError::UnderWay`] if another new key is waiting to become active.
    pub async fn rotate(
        &self,
        purpose: KeyPurpose,
        algorithm: Option<Algorithm>,
        at_once: bool,
    ) -> Result<StoredKey, KeyLifeError> {
        if let Some(algorithm) = algorithm.filter(|algorithm| !algorithm.is_symmetric())
            && purpose == KeyPurpose::Refresh
        {
            return Err(KeyLifeError::Algorithm(algorithm));
        }
        let key = self.add_key(purpose, Start::next(at_once), Material::New(algorithm)).await?;
        self.reload().await?;
        Ok(key)
    }

    /// Takes a key that was made elsewhere as the next one that signs access tokens. It is published and activated like
    /// a key that [`Keys::rotate`] makes.
    ///
    /// # Errors
    /// [`KeyLifeError::Known`] if this store has or had the key, under any id: a removed key does not come back.
    /// [`KeyLifeError::UnderWay`] if another new key is waiting to become active.
    pub async fn import(&self, key: &SigningKey, at_once: bool) -> Result<StoredKey, KeyLifeError> {
        let key = self.add_key(KeyPurpose::Access, Start::next(at_once), Material::Given(key)).await?;
        self.reload().await?;
        Ok(key)
    }

    /// Replaces the keys whose time has come by [`SessionPolicy::key_schedule`]; returns the new keys. A background
    /// task calls it every minute. If several nodes do so at once, one makes the key and all use it.
    ///
    /// # Errors
    /// [`KeyLifeError`]; the next call tries again.
    pub async fn rotate_due(&self) -> Result<Vec<StoredKey>, KeyLifeError> {
        let mut made = Vec::new();
        let Some(schedule) = self.shared.policy.key_schedule() else { return Ok(made) };
        for purpose in [KeyPurpose::Access, KeyPurpose::Refresh] {
            made.extend(self.try_to_add_key(purpose, Start::Scheduled(schedule), Material::New(None)).await?);
        }
        if !made.is_empty() {
            self.reload().await?;
        }
        Ok(made)
    }

    async fn add_key(
        &self,
        purpose: KeyPurpose,
        start: Start,
        material: Material<'_>,
    ) -> Result<StoredKey, KeyLifeError> {
        for _ in 0..TRIES {
            if let Some(key) = self.try_to_add_key(purpose, start, material).await? {
                return Ok(key);
            }
        }
        Err(KeyLifeError::Contended)
    }

    /// Tries once to add a key: reads the keys, decides, inserts. Returns `None` if no key is due, or another node took
    /// the number meanwhile.
    async fn try_to_add_key(
        &self,
        purpose: KeyPurpose,
        start: Start,
        material: Material<'_>,
    ) -> Result<Option<StoredKey>, KeyLifeError> {
        let Shared { clock, store, policy, random, secrets, .. } = &*self.shared;
        let stored = store.keys().await?;
        let now = clock.now();
        let active_at = match start {
            Start::InPlace => now + policy.revocation_bound,
            Start::NextAtOnce | Start::AfterTheBound => {
                let soon = now + policy.key_ahead().saturating_mul(2);
                if let Some(next) = rule::waiting(&stored, purpose, now, soon) {
                    return Err(KeyLifeError::UnderWay(next.key_id.clone()));
                }
                if start == Start::NextAtOnce { now } else { now + policy.revocation_bound }
            }
            Start::Scheduled(schedule) => match schedule.step(purpose, &stored, now) {
                Step::Wait => return Ok(None),
                Step::Add { active_at } => active_at,
            },
        };
        // The secret must open the keys that are in the store already; otherwise a server could not open the new key.
        for key in stored.iter().filter(|key| key.removed_at.is_none()) {
            keychain::open_key(key, secrets)?;
        }
        let made;
        let key = match material {
            Material::Given(key) => {
                let thumbprint = key.verifying_key().thumbprint();
                let known = |id: &str| id == key.key_id().as_str() || Some(id) == thumbprint.as_deref();
                if let Some(row) = stored.iter().find(|row| known(row.key_id.as_str())) {
                    return Err(KeyLifeError::Known(row.key_id.clone()));
                }
                key
            }
            Material::New(algorithm) => {
                let configured = policy.key_algorithm.filter(|_| purpose == KeyPurpose::Access);
                let overlap = policy.key_overlap(purpose);
                let of_active = || {
                    let is_active = |key: &&StoredKey| {
                        key.purpose == purpose
                            && rule::key_state(key, &stored, now, overlap) == KeyState::Active
                    };
                    stored.iter().find(is_active).map_or(purpose.first_algorithm(), |key| key.algorithm)
                };
                let algorithm = algorithm.or(configured).unwrap_or_else(of_active);
                made = SigningKey::generate(algorithm, &**random).map_err(KeychainError::Make)?;
                &made
            }
        };
        let numbers = stored.iter().filter(|key| key.purpose == purpose).map(|key| key.number);
        let number = numbers.max().unwrap_or(0).saturating_add(1);
        let new = NewKey { purpose, number, created_at: now, active_at };
        let key = new.sealed(key, secrets, &**random)?;
        Ok(store.insert_key(&key).await?.then_some(key))
    }

    /// Removes a key because others may have it. Its tokens are refused on this node when this call has returned, and
    /// on every other node within the revocation bound (SEC-041). If the key was the active one, the next key or a new
    /// one replaces it, and the id of the replacement is returned.
    ///
    /// ```
    /// use countersign_core::model::KeyPurpose;
    /// # use countersign_core::{model::Device, store::MemoryStore};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let bed = countersign_testkit::TestBed::over(MemoryStore::new()).await;
    /// # let keys = bed.sessions.keys();
    /// let stolen = keys.rotate(KeyPurpose::Access, None, true).await?;
    /// # let pair = bed.begin(&countersign_jwt::UserId::new("ada")?, Device::default()).await;
    /// let replacement = keys.remove(&stolen.key_id).await?;
    /// assert!(replacement.is_some());
    /// assert!(bed.authenticate(&pair.access_token).await.is_err(), "its tokens are refused");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`KeyLifeError::Unknown`] if no key has this id. After any other error the key may be removed or not, and
    /// removing it again is safe.
    pub async fn remove(&self, id: &KeyId) -> Result<Option<KeyId>, KeyLifeError> {
        let Shared { clock, store, policy, view, .. } = &*self.shared;
        let stored = store.keys().await?;
        let key = stored.iter().find(|key| key.key_id == *id).ok_or(KeyLifeError::Unknown)?;
        let now = clock.now();
        let overlap = policy.key_overlap(key.purpose);
        if let Some(removed_at) = key.removed_at {
            // A caller that removed the key before may have stopped before the nodes were told.
            if view.index().is_key_revoked(id) || now >= removed_at + overlap {
                return Err(KeyLifeError::Unknown);
            }
            self.tell_of_removed(id, now, overlap).await?;
            return Ok(None);
        }
        let signed = rule::key_state(key, &stored, now, overlap) == KeyState::Active;
        // First comes the key that signs instead, so that there is no moment without one; then the removal itself; then
        // the entry that tells the nodes. The successor's turn has not come when the key goes: a node that had read
        // only the successor would exchange tokens of the removed key for tokens that the successor signs.
        let successor = if !signed {
            None
        } else if let Some(next) = rule::waiting(&stored, key.purpose, now, now + policy.revocation_bound) {
            Some(next.key_id.clone())
        } else {
            let algorithm = Material::New(Some(key.algorithm));
            Some(self.add_key(key.purpose, Start::InPlace, algorithm).await?.key_id)
        };
        if !store.remove_key(id, now).await? {
            return Err(KeyLifeError::Unknown);
        }
        self.shared.events.emit(&Event::KeyRemoved { key_id: id.clone() });
        self.tell_of_removed(id, now, overlap).await?;
        Ok(successor)
    }

    /// Writes the entry that tells the nodes that a key is removed.
    async fn tell_of_removed(
        &self,
        id: &KeyId,
        now: Timestamp,
        overlap: Duration,
    ) -> Result<(), KeyLifeError> {
        let Shared { clock, view, .. } = &*self.shared;
        let mut entry = Entry { target: Target::Key { id: id.clone() }, until: now + overlap, at: now };
        loop {
            if let Err(error) = self.shared.log.insert_entry(&entry).await {
                // The store says already that the key is removed, and this node reads it there. The entry is not
                // learned, so that a caller who tries again does not find that everything is done.
                self.reload_or_warn().await;
                return Err(error.into());
            }
            view.learn(&entry);
            let written_at = clock.now();
            if written_at.since(entry.at) <= RevocationView::OVERLAP / 2 {
                break;
            }
            // A reader's window may have passed the entry, so it is dated anew.
            (entry.at, entry.until) = (written_at, written_at + overlap);
        }
        self.reload().await?;
        Ok(())
    }
}

/// The time at which a new key begins to sign.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Start {
    /// The key signs after the revocation bound, when all nodes have read it.
    AfterTheBound,
    /// The key signs at once, if no other new key is waiting.
    NextAtOnce,
    /// The key takes the place of the active key that is being removed, whatever else is planned.
    InPlace,
    /// The key signs when the schedule says so. If the schedule asks for no new key now, none is made.
    Scheduled(Schedule),
}

impl Start {
    fn next(at_once: bool) -> Self {
        if at_once { Self::NextAtOnce } else { Self::AfterTheBound }
    }
}

/// The origin of a new key.
#[derive(Clone, Copy)]
enum Material<'a> {
    /// A random key for this algorithm, or for the one that fits.
    New(Option<Algorithm>),
    /// A key that was made elsewhere.
    Given(&'a SigningKey),
}

/// The `iss` and `aud` that tokens are issued with and checked against.
#[derive(Debug)]
struct Parties {
    issuer: String,
    audience: Option<String>,
}

impl Parties {
    fn issuer(&self, key: SigningKey) -> Issuer {
        let issuing = Issuer::new(key).with_issuer(&self.issuer);
        match &self.audience {
            Some(audience) => issuing.with_audience(audience),
            None => issuing,
        }
    }
}
