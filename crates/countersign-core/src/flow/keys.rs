//! Keys: made, taken into use, replaced, removed; how a node learns of that, and what it signs and verifies with.

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

/// How much time passes between two reloads for the sake of unknown keys.
const RELOAD_EVERY: Duration = Duration::from_secs(1);
/// How often a key's number may be taken by others before we give up.
const TRIES: u32 = 4;

/// Why a key was not replaced or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyLifeError {
    /// There is no such key, or it was removed before.
    #[error("there is no key with this id in the ring")]
    Unknown,
    /// Another new key is waiting already.
    #[error("the key {0} is waiting already to become active")]
    UnderWay(KeyId),
    /// The key that was to be imported is in the store already, or was and has been removed.
    #[error("the key {0} is in the ring already, or was and has been removed")]
    Known(KeyId),
    /// Refresh tokens are made with MACs, access tokens with anything.
    #[error("{0} is not for refresh tokens; they take HS256, HS384 or HS512")]
    Algorithm(Algorithm),
    /// Others changed keys at the same time, again and again.
    #[error("others changed keys at the same time; try again")]
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

/// When a node last read the keys, by the monotonic clock.
#[derive(Debug, Default)]
struct LastReload(tokio::sync::Mutex<Option<Duration>>);

/// A deployment's keys as one node uses them: it signs and verifies with them, and follows what others do to them.
/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keys {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn KeyStore>,
    log: Arc<dyn RevocationStore>,
    tail: RevocationView,
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
    /// Verifies; exchanged as a whole.
    ring: Arc<ArcSwap<KeyRing>>,
    /// Signs.
    issuer: ArcSwap<Issuer>,
    /// Verifies with the ring.
    verifier: Verifier,
}

/// What [`Keys`] works with.
#[derive(Debug)]
pub(crate) struct KeysConfig {
    pub(crate) keychain: Keychain,
    pub(crate) store: Arc<dyn KeyStore>,
    pub(crate) log: Arc<dyn RevocationStore>,
    pub(crate) tail: RevocationView,
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

/// Writes tokens in the format of another library.
pub trait TokenFormat: fmt::Debug + Send + Sync + 'static {
    /// A token with these claims, those that name its session included.
    ///
    /// # Errors
    /// [`SignError`] if it would be too long, or signing fails.
    fn issue(&self, claims: &NewClaims) -> Result<String, SignError>;
}

impl Keys {
    /// Keys as they were opened, with a tail that takes removed ones out.
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
        config.tail.remove_keys_from([keychain.access.ring.clone(), keychain.refresh.ring.clone()]);
        let (access, refresh) =
            (set(TokenType::Access, keychain.access)?, set(TokenType::Refresh, keychain.refresh)?);
        Ok(Self {
            shared: Arc::new(Shared {
                store: config.store,
                log: config.log,
                tail: config.tail,
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

    /// What verifies tokens of this kind.
    pub(crate) fn verifier(&self, kind: TokenType) -> &Verifier {
        &self.set_for(kind).verifier
    }

    /// Whether tokens are written in a format of another library.
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

    /// The public keys that verify access tokens, as a JWK set (RFC 7517 §5) to be published. Keys that could also
    /// sign, which are those of refresh tokens and HS256 ones of access tokens, are never in it (SEC-042), nor are keys
    /// of others.
    #[must_use]
    pub fn public_keys(&self) -> String {
        let Shared { access, foreign_keys, .. } = &*self.shared;
        let mut own = KeyRing::clone(&access.ring.load());
        for key in foreign_keys {
            own.remove(key.key_id());
        }
        own.to_jwk_set()
    }

    /// Signs a token: in this library's format, or in the one that was configured.
    pub(crate) fn issue(&self, claims: &NewClaims) -> Result<String, SignError> {
        match &self.shared.format {
            Some(format) => format.issue(claims),
            None => self.set_for(claims.token_type()).issuer.load().issue(claims),
        }
    }

    /// A token names an unknown key. It may be a new one: reads the keys, if that was not just done.
    ///
    /// A node that is cut off does not know what signs by now, and must not say that a token is none: whoever hears
    /// that of a refresh token throws the session away. A new key signs no sooner than the view of such a node is too old.
    pub(crate) async fn look_for_key(&self) -> Result<(), ViewTooOld> {
        let is_fresh = self.shared.tail.is_fresh();
        if !is_fresh {
            self.shared.tail.ensure_fresh().await?;
        }
        self.reload_for_unknown_key().await;
        Ok(())
    }

    /// A token names what is unknown here.
    pub(crate) async fn look_for(&self, unknown: VerifyError) -> Result<(), ViewTooOld> {
        match unknown {
            VerifyError::Issuer => self.learn_issuers_or_warn().await,
            _ => self.look_for_key().await?,
        }
        Ok(())
    }

    /// Learns what other nodes have done: reads what is new in the revocation log, then the keys. A background task
    /// calls it several times within the bound.
    ///
    /// # Errors
    /// [`StoreError`] when the log cannot be read. Keys that cannot be had are reported to the log, and the known
    /// ones stay, but for those that were removed.
    pub async fn poll(&self) -> Result<(), StoreError> {
        // Keys first: with a removed one its successor is read, so that nothing is signed with the removed one.
        self.reload_or_warn().await;
        self.shared.tail.poll().await?;
        if !self.signs_with_known_keys() {
            self.reload_or_warn().await;
        }
        Ok(())
    }

    /// Reads what the store has told of: new entries of the log and, if a key was removed, the keys before that.
    ///
    /// # Errors
    /// [`StoreError`] when the log cannot be read.
    pub async fn read_pushed(&self) -> Result<(), StoreError> {
        let removed_keys = self.shared.tail.read_pushed().await?;
        let is_new = |entry: &Entry| match &entry.target {
            Target::Key { id } => !self.shared.tail.index().is_key_revoked(id),
            _ => false,
        };
        if removed_keys.iter().any(is_new) {
            self.reload_or_warn().await;
            removed_keys.iter().for_each(|entry| self.shared.tail.learn(entry));
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
    /// [`KeychainError`]; what could be had is in use all the same.
    pub async fn reload(&self) -> Result<(), KeychainError> {
        let mut last = self.shared.last_reload.0.lock().await;
        let reloaded = self.reload_now().await;
        // Those who waited meanwhile need not ask again.
        *last = Some(self.shared.clock.monotonic());
        reloaded
    }

    /// A token names a key that this node does not know: it may be a new one. Of all who come at once one reads the
    /// store, and at most once a second (SEC-038): garbage must not become load.
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
        let Shared { clock, policy, secrets, tail, .. } = &*self.shared;
        let (now, overlap) = (clock.now(), policy.key_overlap(purpose));
        let known = ring.load();
        let mut next = KeyRing::new();
        let mut outcome = Ok(());
        for row in stored.iter().filter(|row| row.purpose == purpose) {
            let state = rule::key_state(row, stored, now, overlap);
            if state == KeyState::Gone || tail.index().is_key_revoked(&row.key_id) {
                continue;
            }
            // The same object as before: what was verified with it stays verified.
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
                // The store's own key of that name, if there is one by now, comes first.
                let _known = next.insert(key.clone());
            }
        }
        let ids: HashSet<_> = next.iter().map(|key| key.key_id().clone()).collect();
        ring.store(Arc::new(next));
        // A removal that was read while the ring was being built must not be undone.
        for id in ids.iter().filter(|id| tail.index().is_key_revoked(id)) {
            remove_from_ring(ring, id);
        }
        outcome
    }

    /// The `iss` of the tokens.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.shared.parties.issuer
    }

    /// What access tokens are signed with at the moment.
    #[must_use]
    pub fn access_algorithm(&self) -> Algorithm {
        self.shared.access.issuer.load().key().algorithm()
    }

    /// Whether a key for this kind of token signed it, and with which algorithm; nothing else is looked at. To explain
    /// a token that is refused.
    ///
    /// # Errors
    /// [`VerifyError`]: the first check that failed.
    pub fn verify_signature(&self, token: &str, kind: TokenType) -> Result<Algorithm, VerifyError> {
        let ring = &self.set_for(kind).ring;
        Ok(jws::verify(token, &ring.load())?.header.algorithm())
    }

    /// Makes a new key. It is published at once, signs when every node has read it, which is after the revocation
    /// bound, and replaces the active one then. `at_once` lets it sign immediately: right where there is one node.
    ///
    /// Without an algorithm a new key for access tokens has the policy's, if that names one, else that of the active
    /// one.
    ///
    /// # Errors
    /// [`KeyLifeError::UnderWay`] if another new key is waiting.
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

    /// Takes a key that was made elsewhere as the next one that signs access tokens, as [`Keys::rotate`] does
    /// with one of its own.
    ///
    /// # Errors
    /// [`KeyLifeError::Known`] if this store has or had the key, whatever name it goes by now: one that was removed
    /// does not come back. [`KeyLifeError::UnderWay`] if another new key is waiting.
    pub async fn import(&self, key: &SigningKey, at_once: bool) -> Result<StoredKey, KeyLifeError> {
        let key = self.add_key(KeyPurpose::Access, Start::next(at_once), Material::Given(key)).await?;
        self.reload().await?;
        Ok(key)
    }

    /// Replaces keys whose time has come by [`SessionPolicy::key_schedule`]; returns the new ones. A background task
    /// calls it every minute; of several nodes that do so at once, one makes the key and all use it.
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

    /// One try: reads the keys, decides, inserts. `None` if no key is due, or another node took the number meanwhile.
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
        // The secret must be the right one for what is there already: a server could not open the new key.
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

    /// Removes a key: because others may have it. Its tokens are refused on this node when this has returned, on every
    /// other one within the bound (SEC-041). If it was the one that signs, the one that was about to or a new one
    /// takes its place, whose id is returned.
    ///
    /// # Errors
    /// [`KeyLifeError::Unknown`] if there is no such key. After any other error it may be removed or not, and
    /// removing it again is safe.
    pub async fn remove(&self, id: &KeyId) -> Result<Option<KeyId>, KeyLifeError> {
        let Shared { clock, store, policy, tail, .. } = &*self.shared;
        let stored = store.keys().await?;
        let key = stored.iter().find(|key| key.key_id == *id).ok_or(KeyLifeError::Unknown)?;
        let now = clock.now();
        let overlap = policy.key_overlap(key.purpose);
        if let Some(removed_at) = key.removed_at {
            // Whoever removed it may have gone before the nodes were told.
            if tail.index().is_key_revoked(id) || now >= removed_at + overlap {
                return Err(KeyLifeError::Unknown);
            }
            self.tell_of_removed(id, now, overlap).await?;
            return Ok(None);
        }
        let signed = rule::key_state(key, &stored, now, overlap) == KeyState::Active;
        // First the one that signs in its place, so that there is no moment without one; then what takes the key out for
        // ever; then what tells the nodes. The successor's turn has not come when the key goes: a node that had read it
        // alone would sign with it in exchange for what the removed key has signed.
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

    /// Writes what tells the nodes that a key is removed.
    async fn tell_of_removed(
        &self,
        id: &KeyId,
        now: Timestamp,
        overlap: Duration,
    ) -> Result<(), KeyLifeError> {
        let Shared { clock, tail, .. } = &*self.shared;
        let mut entry = Entry { target: Target::Key { id: id.clone() }, until: now + overlap, at: now };
        loop {
            if let Err(error) = self.shared.log.insert_entry(&entry).await {
                // The store has the key removed already, and this node reads it there. Not learned: who asks once more
                // must not find that all is done.
                self.reload_or_warn().await;
                return Err(error.into());
            }
            tail.learn(&entry);
            let written_at = clock.now();
            if written_at.since(entry.at) <= RevocationView::OVERLAP / 2 {
                break;
            }
            // A reader's window may have passed it.
            (entry.at, entry.until) = (written_at, written_at + overlap);
        }
        self.reload().await?;
        Ok(())
    }
}

/// When a new key signs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Start {
    /// When all nodes have read it.
    AfterTheBound,
    /// At once, if no other is waiting.
    NextAtOnce,
    /// As soon as the one that signs is removed, whatever else is planned.
    InPlace,
    /// When the schedule says, if it says so.
    Scheduled(Schedule),
}

impl Start {
    fn next(at_once: bool) -> Self {
        if at_once { Self::NextAtOnce } else { Self::AfterTheBound }
    }
}

/// Where a new key comes from.
#[derive(Clone, Copy)]
enum Material<'a> {
    /// From randomness, for this algorithm or the one that fits.
    New(Option<Algorithm>),
    /// From elsewhere.
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
