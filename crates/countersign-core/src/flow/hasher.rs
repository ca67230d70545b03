//! Making and checking password hashes, a bounded number at once.
//!
//! A hash is slow on purpose and takes 19 MiB. [`HashPool`] runs a fixed number of hashes at a time on blocking
//! threads, lets a few more wait, and refuses further ones at once. A flood of logins can therefore neither exhaust the
//! memory nor hold up the requests that need no password (SEC-121).

use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::{Argon2, Block};
use countersign_jwt::random::{self, Random, RandomError};
use countersign_jwt::time::Clock;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use crate::model::password_hash::{Function, Pepper, StoredHash, phc_text};
use crate::model::{Argon2Params, Password, PasswordHash, Peppers, UnusableHash};

/// How new hashes are made: the cost of Argon2id, and the pepper. Default: 19,456 KiB, 2 passes, 1 lane, no pepper.
#[derive(Clone, Debug, Default)]
pub struct HashRecipe {
    /// The cost of a new hash.
    pub argon2: Argon2Params,
    /// The peppers, of which the first one is part of a new hash.
    pub peppers: Peppers,
}

impl From<Argon2Params> for HashRecipe {
    /// Hashes of this cost, without a pepper.
    fn from(argon2: Argon2Params) -> Self {
        Self { argon2, peppers: Peppers::default() }
    }
}

/// The result of checking a password against a stored hash.
#[derive(Clone, Debug)]
pub enum PasswordCheck {
    /// The password is right.
    Right {
        /// A hash of the same password, made as new ones are, if the stored one was not. It should replace the stored
        /// one.
        upgrade: Option<PasswordHash>,
    },
    /// The password is wrong, or there is no hash.
    Wrong,
    /// The stored hash is not used, so no password is right.
    Unusable(UnusableHash),
}

/// The reason why a password could not be hashed or checked. The error contains nothing of the password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// All permits are taken and the queue is full. The client gets 503 with `Retry-After`.
    #[error("too many passwords are being checked")]
    Overloaded,
    /// No salt could be made, because the source of randomness failed.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The hash was not finished, because memory was lacking or the runtime is shutting down.
    #[error("a password could not be hashed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

/// Makes and checks hashes, one after another on the calling thread. Servers use [`HashPool`] instead.
///
/// ```
/// use std::sync::Arc;
/// use countersign_core::flow::Hasher;
/// use countersign_core::model::Argon2Params;
/// use countersign_core::model::Password;
/// # use countersign_testkit::SeededRandom;
///
/// # let random = Arc::new(SeededRandom::default());
/// let hasher = Hasher::new(Argon2Params::default(), random)?;
/// let hash = hasher.hash(&Password::new_for_registration("correct horse".to_owned())?)?;
/// assert!(hash.expose().starts_with("$argon2id$"));
///
/// let guess = Password::new_for_login("battery staple".to_owned())?;
/// assert!(!hasher.verify(&guess, Some(&hash))?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Hasher {
    argon2: Argon2<'static>,
    peppers: Peppers,
    random: Arc<dyn Random>,
    /// The salt of the hash that is made where there is no stored one to compare with.
    decoy_salt: [u8; Hasher::SALT_BYTES],
    started: AtomicU64,
    memory: Memory,
}

/// Makes and checks hashes on blocking threads, a bounded number at a time. Cheap to clone; all clones are one pool.
///
/// ```
/// use std::num::NonZeroUsize;
/// use std::sync::Arc;
/// use countersign_core::flow::{HashError, HashPool};
/// use countersign_core::model::Argon2Params;
/// # use countersign_testkit::SeededRandom;
/// # use tokio::runtime::Handle;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let random = Arc::new(SeededRandom::default());
/// // One hash at a time, and nobody waits.
/// let pool = HashPool::new(Handle::current(), NonZeroUsize::MIN, 0, Argon2Params::default(), random)?;
/// let place = pool.place()?;
/// assert!(matches!(pool.place(), Err(HashError::Overloaded)));
/// drop(place);
/// assert!(pool.place().is_ok());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct HashPool {
    hasher: Arc<Hasher>,
    runtime: Handle,
    /// One permit for each hash that runs or waits.
    places: Arc<Semaphore>,
    /// The number of places.
    size: usize,
    /// One permit for each hash that runs.
    permits: Arc<Semaphore>,
    /// The number of permits.
    at_once: usize,
    /// What durations are measured by, if they are.
    clock: Option<Arc<dyn Clock>>,
}

/// How much the hash pool has to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HashLoad {
    /// The hashes that run.
    pub running: usize,
    /// The hashes that wait for one of those to end.
    pub waiting: usize,
}

/// The right to wait for and then run one password hash. When it is dropped, another caller can take it at once.
///
/// Code that looks something up or writes something before a hash takes a place first, so that a request that a full
/// pool refuses has cost the store nothing.
#[derive(Debug)]
pub struct HashPlace {
    pool: HashPool,
    place: OwnedSemaphorePermit,
}

/// A place in the pool whose turn to hash has come.
#[derive(Debug)]
pub struct HashTurn {
    place: HashPlace,
    permit: OwnedSemaphorePermit,
}

impl HashPool {
    /// The default number of hashes that wait for a permit before more are refused.
    pub const DEFAULT_QUEUE: usize = 64;

    /// A pool that runs up to `permits` hashes on the blocking threads of `runtime`, while up to `queue` wait.
    ///
    /// The pool needs up to `permits` times the memory of a new hash, and more while imported hashes are checked that
    /// take more memory. Making the pool hashes nothing.
    ///
    /// # Errors
    /// [`RandomError`] when the source of randomness fails.
    pub fn new(
        runtime: Handle,
        permits: NonZeroUsize,
        queue: usize,
        recipe: impl Into<HashRecipe>,
        random: Arc<dyn Random>,
    ) -> Result<Self, RandomError> {
        let permits = permits.get().min(Semaphore::MAX_PERMITS);
        let places = permits.saturating_add(queue).min(Semaphore::MAX_PERMITS);
        Ok(Self {
            hasher: Arc::new(Hasher::new(recipe, random)?),
            runtime,
            places: Arc::new(Semaphore::new(places)),
            size: places,
            permits: Arc::new(Semaphore::new(permits)),
            at_once: permits,
            clock: None,
        })
    }

    /// The same pool, which tells the `metrics` crate by this clock how long hashes wait and take.
    #[must_use]
    pub fn measured_by(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// How much the pool has to do at this moment.
    #[must_use]
    pub fn load(&self) -> HashLoad {
        let running = self.at_once.saturating_sub(self.permits.available_permits());
        let places = self.size.saturating_sub(self.places.available_permits());
        HashLoad { running, waiting: places.saturating_sub(running) }
    }

    fn moment(&self) -> Option<Duration> {
        self.clock.as_ref().map(|clock| clock.monotonic())
    }

    /// Takes a place in the pool, if one is free.
    ///
    /// # Errors
    /// [`HashError::Overloaded`] when the pool is full.
    pub fn place(&self) -> Result<HashPlace, HashError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            metrics::counter!("countersign_hashes_refused_total").increment(1);
            HashError::Overloaded
        })?;
        Ok(HashPlace { pool: self.clone(), place })
    }

    /// The number of places in the pool that are free.
    #[must_use]
    pub fn free_places(&self) -> usize {
        self.places.available_permits()
    }

    /// The number of places in the pool, free or taken: one for each hash that runs or waits.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Hashes a new password with a fresh salt.
    ///
    /// # Errors
    /// [`HashError::Overloaded`] at once when the pool is full, and the errors of [`Hasher::hash`].
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, HashError> {
        self.place()?.turn().await?.hash(password).await
    }

    /// Whether `password` is the one that `stored` was made from; [`Hasher::verify`] tells the rules.
    ///
    /// # Errors
    /// [`HashError::Overloaded`] at once when the pool is full, and the errors of [`Hasher::verify`].
    pub async fn verify(&self, password: Password, stored: Option<PasswordHash>) -> Result<bool, HashError> {
        self.place()?.turn().await?.verify(password, stored).await
    }

    /// Whether `stored` should be replaced by a hash that is made as new ones are, at the next login that it accepts.
    #[must_use]
    pub fn needs_rehash(&self, stored: &PasswordHash) -> bool {
        self.hasher.needs_rehash(stored)
    }

    /// The number of hashes begun since the start, made or checked. Hashes that were refused are not counted.
    #[must_use]
    pub fn hashes_started(&self) -> u64 {
        self.hasher.hashes_started()
    }
}

impl HashPlace {
    /// Waits until a permit to hash is free. Dropping the future frees the place.
    ///
    /// # Errors
    /// [`HashError::Failed`] if the pool is gone, which does not happen while a place of it exists.
    pub async fn turn(self) -> Result<HashTurn, HashError> {
        let permit = self.permit().await?;
        Ok(self.with(permit))
    }

    /// Waits for the permit that [`with`](Self::with) takes, without giving up the place if the future is dropped.
    pub(super) async fn permit(&self) -> Result<OwnedSemaphorePermit, HashError> {
        let began = self.pool.moment();
        let permit = Arc::clone(&self.pool.permits).acquire_owned().await.map_err(HashError::failed)?;
        if let (Some(began), Some(now)) = (began, self.pool.moment()) {
            let waited = now.saturating_sub(began).as_secs_f64();
            metrics::histogram!("countersign_hash_wait_seconds").record(waited);
        }
        Ok(permit)
    }

    /// Combines this place with its permit to a turn.
    pub(super) fn with(self, permit: OwnedSemaphorePermit) -> HashTurn {
        HashTurn { place: self, permit }
    }
}

impl HashTurn {
    /// Hashes a new password with a fresh salt.
    ///
    /// # Errors
    /// Those of [`Hasher::hash`].
    pub async fn hash(self, password: Password) -> Result<PasswordHash, HashError> {
        self.run(move |hasher| hasher.hash(&password)).await
    }

    /// Whether `password` is the one that `stored` was made from; [`Hasher::verify`] tells the rules.
    ///
    /// # Errors
    /// Those of [`Hasher::verify`].
    pub async fn verify(self, password: Password, stored: Option<PasswordHash>) -> Result<bool, HashError> {
        self.run(move |hasher| hasher.verify(&password, stored.as_ref())).await
    }

    /// Checks whether `password` is the one that `stored` was made from, and hashes it again if `stored` is not like a
    /// new hash; [`Hasher::check`] tells the rules.
    ///
    /// # Errors
    /// Those of [`Hasher::check`].
    pub async fn check(
        self,
        password: Password,
        stored: Option<PasswordHash>,
    ) -> Result<PasswordCheck, HashError> {
        self.run(move |hasher| hasher.check(&password, stored.as_ref())).await
    }

    /// Runs `work` on a blocking thread.
    ///
    /// Dropping the future does not stop the work. A hash cannot be interrupted, so it keeps its permit and its place
    /// until it ends; otherwise callers that hang up could exceed the bound.
    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&Hasher) -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let Self { place: HashPlace { pool, place }, permit } = self;
        let HashPool { hasher, runtime, clock, .. } = pool;
        let hashing = runtime.spawn_blocking(move || {
            let _until_the_hash_ends = (place, permit);
            let began = clock.as_ref().map(|clock| clock.monotonic());
            let done = work(&hasher);
            if let (Some(began), Some(clock)) = (began, &clock) {
                let took = clock.monotonic().saturating_sub(began).as_secs_f64();
                metrics::histogram!("countersign_hash_seconds").record(took);
            }
            done
        });
        hashing.await.map_err(HashError::failed)?
    }
}

impl Hasher {
    const SALT_BYTES: usize = 16;
    const TAG_BYTES: usize = 32;

    /// A hasher that makes new hashes in this way.
    ///
    /// # Errors
    /// [`RandomError`] when the source of randomness fails.
    pub fn new(recipe: impl Into<HashRecipe>, random: Arc<dyn Random>) -> Result<Self, RandomError> {
        let HashRecipe { argon2, peppers } = recipe.into();
        let argon2 = argon2.argon2();
        let decoy_salt = random::bytes(random.as_ref())?;
        let memory = Memory { blocks: argon2.params().block_count(), idle: Mutex::default() };
        Ok(Self { argon2, peppers, random, decoy_salt, started: AtomicU64::new(0), memory })
    }

    /// Hashes a new password with a fresh salt.
    ///
    /// # Errors
    /// [`HashError::Random`] or [`HashError::Failed`].
    pub fn hash(&self, password: &Password) -> Result<PasswordHash, HashError> {
        let salt: [u8; Self::SALT_BYTES] = random::bytes(self.random.as_ref())?;
        self.started.fetch_add(1, Ordering::Relaxed);
        let mut tag = Zeroizing::new([0; Self::TAG_BYTES]);
        self.memory
            .tag(&self.argon2, password.expose_bytes(), &salt, tag.as_mut())
            .map_err(HashError::failed)?;
        let text = |tag: &[u8]| phc_text(self.argon2.params(), &salt, tag).map_err(HashError::failed);
        Ok(PasswordHash::from_stored(match self.peppers.current() {
            Some(pepper) => pepper.text(&text(&pepper.apply(tag.as_ref()))?),
            None => text(tag.as_ref())?,
        }))
    }

    /// Whether `password` is the one that `stored` was made from.
    ///
    /// The check always takes one hash. Without a stored hash (unknown user, account without a password), or with one
    /// that is not used, that hash is a decoy of the current cost and the answer is `false`. The time that the check
    /// takes therefore does not tell who has an account (SEC-130).
    ///
    /// # Errors
    /// [`HashError::Failed`] when the hash could not be finished, which says nothing about the password.
    pub fn verify(&self, password: &Password, stored: Option<&PasswordHash>) -> Result<bool, HashError> {
        Ok(matches!(self.compare(password, stored)?, Compared::Right { .. }))
    }

    /// Checks `password` as [`Hasher::verify`] does, and says more: why a stored hash is not used, and, if the password
    /// is right and `stored` is not like a new hash, a new hash of it.
    ///
    /// # Errors
    /// [`HashError::Failed`] when the check could not be finished, which says nothing about the password. If only the
    /// new hash cannot be made, the password is right nevertheless, and the log says why.
    pub fn check(
        &self,
        password: &Password,
        stored: Option<&PasswordHash>,
    ) -> Result<PasswordCheck, HashError> {
        let is_new = match self.compare(password, stored)? {
            Compared::Right { is_new } => is_new,
            Compared::Wrong => return Ok(PasswordCheck::Wrong),
            Compared::Unusable(reason) => return Ok(PasswordCheck::Unusable(reason)),
        };
        let upgrade = match is_new {
            true => None,
            false => self
                .hash(password)
                .inspect_err(|error| {
                    tracing::warn!(error = error as &dyn Error, "an old password hash could not be replaced");
                })
                .ok(),
        };
        Ok(PasswordCheck::Right { upgrade })
    }

    fn compare(&self, password: &Password, stored: Option<&PasswordHash>) -> Result<Compared, HashError> {
        let read = stored.map(|stored| stored.read(&self.peppers));
        self.started.fetch_add(1, Ordering::Relaxed);
        let Some(Ok(stored)) = read else {
            let mut tag = Zeroizing::new([0; Self::TAG_BYTES]);
            let hashed =
                self.memory.tag(&self.argon2, password.expose_bytes(), &self.decoy_salt, tag.as_mut());
            hashed.map_err(HashError::failed)?;
            return Ok(read.and_then(Result::err).map_or(Compared::Wrong, Compared::Unusable));
        };
        let input = stored.input(password.expose_bytes());
        let mut tag = Zeroizing::new(vec![0; stored.tag_bytes()]);
        match &stored.function {
            Function::Argon2(argon2) => {
                let hashed = self.memory.tag(&argon2.argon2(), &input, &argon2.salt, &mut tag);
                hashed.map_err(HashError::failed)?;
            }
            Function::Imported(function) => function.apply(&input, &mut tag).map_err(HashError::failed)?,
        }
        Ok(match stored.is_tag(&tag) {
            true => Compared::Right { is_new: self.is_like_new(&stored) },
            false => Compared::Wrong,
        })
    }

    /// Whether `stored` differs in form, cost or pepper from the hashes made now.
    #[must_use]
    pub fn needs_rehash(&self, stored: &PasswordHash) -> bool {
        stored.read(&self.peppers).map_or(true, |stored| !self.is_like_new(&stored))
    }

    fn is_like_new(&self, stored: &StoredHash) -> bool {
        let has_cost = match &stored.function {
            Function::Argon2(argon2) => argon2.is_like(&self.argon2, Self::SALT_BYTES),
            Function::Imported(_) => false,
        };
        has_cost
            && stored.tag_bytes() == Self::TAG_BYTES
            && Pepper::are_same(stored.pepper(), self.peppers.current())
    }

    /// The number of hashes begun, made or checked.
    #[must_use]
    pub fn hashes_started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }
}

impl HashError {
    fn failed(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// The memory of hashes of the current cost, kept from one hash to the next. If it were allocated and freed each time,
/// with small allocations of other threads in between, it would leave holes in glibc's heap that the next hash no
/// longer fits into, and the process would grow with every hash.
#[derive(Debug)]
struct Memory {
    blocks: usize,
    /// The idle blocks of memory, never more than ever ran at once.
    idle: Mutex<Vec<Box<[Block]>>>,
}

impl Memory {
    fn tag(
        &self,
        argon2: &Argon2<'_>,
        input: &[u8],
        salt: &[u8],
        tag: &mut [u8],
    ) -> Result<(), argon2::Error> {
        let blocks = argon2.params().block_count();
        if blocks != self.blocks {
            return argon2.hash_password_into(input, salt, tag);
        }
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut memory = idle.unwrap_or_else(|| vec![Block::default(); blocks].into());
        let hashed = argon2.hash_password_into_with_memory(input, salt, tag, &mut memory);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        hashed
    }
}

/// The result of comparing a password with a stored hash.
enum Compared {
    Right {
        /// Whether a new hash would look the same.
        is_new: bool,
    },
    Wrong,
    Unusable(UnusableHash),
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use password_hash::phc;
    use proptest::prelude::*;
    use tokio::sync::mpsc;
    use tokio::task::yield_now;

    use super::*;

    /// A source that counts upwards: different bytes at each call, the same in each run.
    #[derive(Debug, Default)]
    struct SeededRandom(AtomicU64);

    impl Random for SeededRandom {
        fn fill(&self, dest: &mut [u8]) -> Result<(), RandomError> {
            for chunk in dest.chunks_mut(8) {
                let next = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).to_le_bytes();
                chunk.copy_from_slice(&next[..chunk.len()]);
            }
            Ok(())
        }
    }

    /// A source that has bytes for this many calls and then fails.
    #[derive(Debug)]
    struct ExhaustedRandom(AtomicU64);

    impl Random for ExhaustedRandom {
        fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
            let step = |left: u64| left.checked_sub(1);
            self.0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step)
                .map(|_| ())
                .map_err(|_| RandomError)
        }
    }

    /// A source that blocks its callers while it is shut. Each hash on its blocking thread is such a caller.
    #[derive(Debug)]
    struct Gate {
        shut: Mutex<bool>,
        opened: Condvar,
        arrivals: mpsc::UnboundedSender<()>,
    }

    impl Random for Gate {
        fn fill(&self, dest: &mut [u8]) -> Result<(), RandomError> {
            let _ = self.arrivals.send(());
            let _open = self.opened.wait_while(self.shut.lock().unwrap(), |shut| *shut).unwrap();
            dest.fill(7);
            Ok(())
        }
    }

    /// A pool whose hashes stop at a gate, and the gate.
    struct Gated {
        pool: Arc<HashPool>,
        gate: Arc<Gate>,
        arrivals: mpsc::UnboundedReceiver<()>,
    }

    impl Gated {
        fn new(permits: usize, queue: usize) -> Self {
            let (sender, mut arrivals) = mpsc::unbounded_channel();
            let gate = Arc::new(Gate { shut: Mutex::new(false), opened: Condvar::new(), arrivals: sender });
            let pool = Arc::new(pool(permits, queue, gate.clone()));
            *gate.shut.lock().unwrap() = true;
            while arrivals.try_recv().is_ok() {}
            Self { pool, gate, arrivals }
        }

        fn spawn_hash(&self) -> tokio::task::JoinHandle<Result<PasswordHash, HashError>> {
            let pool = self.pool.clone();
            tokio::spawn(async move { pool.hash(password("correct horse")).await })
        }

        /// Waits until `count` hashes run or wait.
        async fn places_taken(&self, count: usize, of: usize) {
            while of - self.pool.places.available_permits() != count {
                yield_now().await;
            }
        }

        fn open(&self) {
            *self.gate.shut.lock().unwrap() = false;
            self.gate.opened.notify_all();
        }
    }

    impl Drop for Gated {
        /// Opens the gate, so that a failed test ends: the runtime waits for its blocking threads.
        fn drop(&mut self) {
            self.open();
        }
    }

    fn cheap() -> Argon2Params {
        Argon2Params::cheap()
    }

    fn hasher() -> Hasher {
        Hasher::new(cheap(), Arc::new(SeededRandom::default())).unwrap()
    }

    fn pool(permits: usize, queue: usize, random: Arc<dyn Random>) -> HashPool {
        let permits = NonZeroUsize::new(permits).unwrap();
        HashPool::new(Handle::current(), permits, queue, cheap(), random).unwrap()
    }

    fn password(text: &str) -> Password {
        Password::new_for_login(text.to_owned()).unwrap()
    }

    fn stored(text: &str) -> PasswordHash {
        PasswordHash::from_stored(text.to_owned())
    }

    /// `password`, `somesalt`: a vector of the reference implementation (phc-winner-argon2, `src/test.c`).
    const REFERENCE: &str =
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    #[test]
    fn sec_116_by_default_a_hash_is_argon2id_of_the_recommended_cost() {
        let hasher = Hasher::new(Argon2Params::default(), Arc::new(SeededRandom::default())).unwrap();
        let hash = hasher.hash(&password("correct horse")).unwrap();
        assert!(hash.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.expose());
        let parsed = phc::PasswordHash::new(hash.expose()).unwrap();
        assert_eq!(parsed.salt.unwrap().len(), 16);
        assert_eq!(parsed.hash.unwrap().len(), 32);
        assert!(hasher.verify(&password("correct horse"), Some(&hash)).unwrap());
        assert!(!hasher.verify(&password("correct house"), Some(&hash)).unwrap());
        assert!(!hasher.needs_rehash(&hash));
    }

    #[test]
    fn sec_116_hashes_made_elsewhere_verify() {
        let hasher = hasher();
        assert!(hasher.verify(&password("password"), Some(&stored(REFERENCE))).unwrap());
        assert!(!hasher.verify(&password("Password"), Some(&stored(REFERENCE))).unwrap());
    }

    #[test]
    fn sec_116_each_hash_has_its_own_salt() {
        let hasher = hasher();
        let (one, other) = (hasher.hash(&password("same")).unwrap(), hasher.hash(&password("same")).unwrap());
        assert_ne!(one.expose(), other.expose());
    }

    #[test]
    fn sec_116_hashes_of_another_form_or_cost_need_a_rehash() {
        let current = hasher().hash(&password("p")).unwrap();
        let current = current.expose();
        for (case, text, expected) in [
            ("current", current.to_owned(), false),
            ("memory", current.replace("m=8,", "m=16,"), true),
            ("passes", current.replace("t=1,", "t=2,"), true),
            ("algorithm", current.replace("argon2id", "argon2i"), true),
            ("version", current.replace("v=19", "v=16"), true),
            ("short salt and other cost", REFERENCE.to_owned(), true),
            ("short salt", format!("$argon2id$v=19$m=8,t=1,p=1${}", &REFERENCE[31..]), true),
            ("not a hash", "plain".to_owned(), true),
        ] {
            assert_eq!(hasher().needs_rehash(&stored(&text)), expected, "{case}: {text}");
        }
    }

    #[test]
    fn sec_115_passwords_that_differ_in_any_byte_do_not_match() {
        let hasher = hasher();
        let long = "x".repeat(73);
        for (set, tried) in [
            ("correct horse", "correct horse "),
            ("correct horse", " correct horse"),
            ("correct horse", "Correct horse"),
            ("caf\u{e9} noir", "cafe\u{301} noir"),
            ("nul\0inside", "nul\0outside"),
            ("nul\0inside", "nul"),
            (long.as_str(), &long[..72]),
            (&format!("{long}a"), &format!("{long}b")),
            (&"y".repeat(1024), &"y".repeat(1023)),
        ] {
            let hash = hasher.hash(&password(set)).unwrap();
            assert!(hasher.verify(&password(set), Some(&hash)).unwrap(), "{set:?}");
            assert!(!hasher.verify(&password(tried), Some(&hash)).unwrap(), "{set:?} {tried:?}");
        }
    }

    /// Hashes that cost more than any honest one, or that no function could check.
    fn hostile() -> Vec<(String, UnusableHash)> {
        use UnusableHash::{Cost, FlawedBcrypt, Form, NoIterations};

        const TAIL: &str = "c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        const BCRYPT: &str = "R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW";
        let hex = "00".repeat(64);
        let base64 = format!("{}==", "A".repeat(86));
        let digest = format!("{}=", "A".repeat(43));
        let unpadded = "A".repeat(43);
        vec![
            (format!("$argon2id$v=19$m=1048577,t=1,p=1${TAIL}"), Cost),
            (format!("$argon2id$v=19$m=4294967295,t=4294967295,p=1${TAIL}"), Cost),
            (format!("$argon2id$v=19$m=65536,t=11,p=1${TAIL}"), Cost),
            (format!("$argon2id$v=19$m=65536,t=1,p=17${TAIL}"), Cost),
            (format!("$argon2id$v=19$m=8,t=1,p=1,m=1048577${TAIL}"), Cost),
            (format!("argon2$argon2id$v=19$m=1048577,t=1,p=1${TAIL}"), Cost),
            (format!("$argon2id$v=19$m=4294967296,t=1,p=1${TAIL}"), Form),
            (format!("$argon2id$v=19$m=-8,t=1,p=1${TAIL}"), Form),
            (format!("$argon2id$v=19$m=7,t=1,p=1${TAIL}"), Form),
            (format!("$argon2id$v=19$m=8,t=0,p=1${TAIL}"), Form),
            (format!("$argon2id$v=19$m=8,t=1,p=0${TAIL}"), Form),
            (format!("$argon2id$v=20$m=8,t=1,p=1${TAIL}"), Form),
            (format!("$argon2x$v=19$m=8,t=1,p=1${TAIL}"), Form),
            (format!("$argon2id$v=19$m=8,t=1,p=1${TAIL}$more"), Form),
            (format!("$argon2id$v=19$m=8,t=1,p=1,x=1${TAIL}"), Form),
            (format!("$argon2id$v=19$m=8,t=1,p=1,keyid=AAAA${TAIL}"), Form),
            ("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ".to_owned(), Form),
            ("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$".to_owned(), Form),
            ("$argon2id$v=19$m=8,t=1,p=1".to_owned(), Form),
            ("$argon2id".to_owned(), Form),
            (format!("hmac-sha256:$argon2id$v=19$m=8,t=1,p=1${TAIL}"), Form),
            ("hmac-sha256:2026".to_owned(), Form),
            (format!("$2b$17${BCRYPT}"), Cost),
            (format!("$2b$31${BCRYPT}"), Cost),
            (format!("$2b$99${BCRYPT}"), Cost),
            (format!("bcrypt-sha256-hex$2b$17${BCRYPT}"), Cost),
            (format!("bcrypt$$2b$17${BCRYPT}"), Cost),
            (format!("bcrypt_sha256$$2b$17${BCRYPT}"), Cost),
            (format!("$bcrypt-sha256$v=2,t=2b,r=17${}${}", &BCRYPT[..22], &BCRYPT[22..]), Cost),
            (format!("$bcrypt-sha256$2a,17${}${}", &BCRYPT[..22], &BCRYPT[22..]), Cost),
            (format!("$bcrypt-sha256$v=3,t=2b,r=12${}${}", &BCRYPT[..22], &BCRYPT[22..]), Form),
            (format!("$2b$03${BCRYPT}"), Form),
            (format!("$2b$4${BCRYPT}"), Form),
            (format!("$2b$+4${BCRYPT}"), Form),
            (format!("$2b$012${BCRYPT}"), Form),
            (format!("$2b$12${BCRYPT}A"), Form),
            (format!("$2b$12${}", &BCRYPT[1..]), Form),
            (format!("$2b$12${}", BCRYPT.replace('R', "é")), Form),
            (format!("$2x$12${BCRYPT}"), FlawedBcrypt),
            (format!("bcrypt$$2x$12${BCRYPT}"), FlawedBcrypt),
            (format!("scrypt:262144:8:1$salt${hex}"), Cost),
            (format!("scrypt:131072:9:1$salt${hex}"), Cost),
            (format!("scrypt:131072:8:11$salt${hex}"), Cost),
            (format!("scrypt:4294967296:8:1$salt${hex}"), Cost),
            (format!("scrypt:16:4294967295:4294967295$salt${hex}"), Cost),
            (format!("scrypt:32767:8:1$salt${hex}"), Form),
            (format!("scrypt:0:8:1$salt${hex}"), Form),
            (format!("scrypt:1:8:1$salt${hex}"), Form),
            (format!("scrypt:32768:0:1$salt${hex}"), Form),
            (format!("scrypt:32768:8:0$salt${hex}"), Form),
            (format!("scrypt:+32768:8:1$salt${hex}"), Form),
            (format!("scrypt:32768:8$salt${hex}"), Form),
            (format!("scrypt:32768:8:1:1$salt${hex}"), Form),
            (format!("scrypt:32768:8:1$salt${}", hex.replace('0', "F")), Form),
            (format!("scrypt:32768:8:1$salt$0{hex}"), Form),
            ("scrypt:32768:8:1$salt$00".to_owned(), Form),
            (format!("scrypt$262144$salt$8$1${base64}"), Cost),
            (format!("scrypt$16384$salt$8$11${base64}"), Cost),
            (format!("scrypt$16384$salt$8$5${}", &base64[..86]), Form),
            (format!("$scrypt$ln=18,r=8,p=1$c29tZXNhbHQ${unpadded}"), Cost),
            (format!("$scrypt$ln=64,r=8,p=1$c29tZXNhbHQ${unpadded}"), Cost),
            (format!("$scrypt$ln=16,r=9,p=1$c29tZXNhbHQ${unpadded}"), Cost),
            (format!("$scrypt$ln=16,r=8,p=11$c29tZXNhbHQ${unpadded}"), Cost),
            (format!("$scrypt$ln=16,r=8$c29tZXNhbHQ${unpadded}"), Form),
            (format!("$scrypt$ln=16,r=8,p=1,ln=31$c29tZXNhbHQ${unpadded}"), Form),
            (format!("$scrypt$ln=16,r=8,p=1,x=1$c29tZXNhbHQ${unpadded}"), Form),
            (format!("pbkdf2:sha256:10000001$salt${}", &hex[..64]), Cost),
            (format!("pbkdf2:sha256:99999999999$salt${}", &hex[..64]), Cost),
            (format!("pbkdf2:sha256:0$salt${}", &hex[..64]), Form),
            (format!("pbkdf2:sha256:-1$salt${}", &hex[..64]), Form),
            (format!("pbkdf2:md5:1000$salt${}", &hex[..32]), Form),
            (format!("pbkdf2:sha512:1000$salt${}", &hex[..64]), Form),
            (format!("pbkdf2:sha256$salt${}", &hex[..64]), NoIterations),
            (format!("pbkdf2$salt${}", &hex[..64]), Form),
            (format!("pbkdf2_sha256$10000001$salt${digest}"), Cost),
            (format!("pbkdf2_sha256$1000$salt${unpadded}"), Form),
            (format!("pbkdf2_md5$1000$salt${digest}"), Form),
            (format!("$pbkdf2-sha256$10000001$c29tZXNhbHQ${unpadded}"), Cost),
            (format!("$pbkdf2-sha256$1000$c29t+XNhbHQ${unpadded}"), Form),
            (format!("$pbkdf2-sha256$1000$c29tZXNhbHQ${digest}"), Form),
            ("sha1$salt$da39a3ee5e6b4b0d3255bfef95601890afd80709".to_owned(), Form),
            ("!unusable".to_owned(), Form),
            ("password".to_owned(), Form),
            (String::new(), Form),
            ("$".to_owned(), Form),
            ("\0".to_owned(), Form),
            ("$".repeat(100_000), Form),
            (format!("scrypt:2:8:1${}${hex}", "s".repeat(2000)), Form),
        ]
    }

    #[test]
    fn sec_119_hostile_stored_hashes_never_match_and_cost_one_decoy() {
        let hasher = hasher();
        for (started, (text, expected)) in hostile().into_iter().enumerate() {
            let shown: String = text.chars().take(80).collect();
            let checked = hasher.check(&password("password"), Some(&stored(&text))).unwrap();
            assert!(
                matches!(&checked, PasswordCheck::Unusable(reason) if *reason == expected),
                "{shown:?}: {checked:?}"
            );
            assert_eq!(hasher.hashes_started(), started as u64 + 1, "{shown:?}");
            assert!(hasher.needs_rehash(&stored(&text)), "{shown:?}");
        }
    }

    #[test]
    fn sec_119_hashes_at_the_cost_ceiling_are_still_checked() {
        let (tail, hex, tag) =
            ("c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "00".repeat(64), "A".repeat(43));
        for text in [
            format!("$argon2id$v=19$m=1048576,t=10,p=16${tail}"),
            "$2b$16$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW".to_owned(),
            format!("scrypt:131072:8:10$salt${hex}"),
            format!("$scrypt$ln=17,r=8,p=10$c29tZXNhbHQ${tag}"),
            format!("pbkdf2:sha512:10000000$salt${hex}"),
            format!("pbkdf2_sha256$10000000$salt${tag}="),
            format!("$pbkdf2-sha256$10000000$c29tZXNhbHQ${tag}"),
        ] {
            assert_eq!(stored(&text).check(&Peppers::default()), Ok(()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn sec_119_any_stored_text_is_judged_without_a_panic(
            text in prop_oneof![
                any::<String>(),
                "\\$argon2(id|i|d|)(\\$v=[0-9]{0,3})?(\\$([mtpx]=[0-9]{0,11},?){0,4})?(\\$[A-Za-z0-9+/]{0,50}){0,3}",
                "(scrypt|pbkdf2):(sha1|sha256|[0-9]{0,8})(:[0-9]{0,9}){0,3}\\$.{0,9}\\$[0-9a-f]{0,130}",
                "(scrypt|pbkdf2_sha1|bcrypt|bcrypt_sha256|argon2|\\$2b|\\$pbkdf2|\\$bcrypt-sha256|\\$scrypt)(\\$[a-zA-Z0-9=,./+]{0,60}){0,7}",
            ],
        ) {
            if let Ok(stored) = stored(&text).read(&Peppers::default())
                && let Function::Argon2(argon2) = stored.function
            {
                prop_assert!(argon2.params.m_cost() <= 1 << 20);
                prop_assert!(argon2.params.t_cost() <= 10);
                prop_assert!(argon2.params.p_cost() <= 16);
            }
        }
    }

    #[test]
    fn sec_130_an_unknown_user_costs_one_hash_of_the_current_cost_and_never_matches() {
        let hasher = hasher();
        assert_eq!(hasher.hashes_started(), 0, "the decoy is made without hashing");
        assert!(!hasher.verify(&password("anything"), None).unwrap());
        assert_eq!(hasher.hashes_started(), 1);
    }

    #[test]
    fn a_failing_source_of_randomness_fails_the_hash() {
        let exhausted = |fills| Hasher::new(cheap(), Arc::new(ExhaustedRandom(AtomicU64::new(fills))));
        assert_eq!(exhausted(0).unwrap_err(), RandomError);
        let hashed = exhausted(1).unwrap().hash(&password("correct horse"));
        assert!(matches!(hashed, Err(HashError::Random(RandomError))), "{hashed:?}");
    }

    #[test]
    fn debug_output_holds_no_hash() {
        let hasher = hasher();
        let hash = hasher.hash(&password("correct horse")).unwrap();
        let salt = phc::PasswordHash::new(hash.expose()).unwrap().salt.unwrap().to_string();
        let shown = format!("{hash:?} {hasher:?}");
        assert!(!shown.contains(&salt) && !shown.contains("$argon2"), "{shown}");
    }

    #[tokio::test]
    async fn the_pool_hashes_and_verifies() {
        let pool = pool(2, 0, Arc::new(SeededRandom::default()));
        let hash = pool.hash(password("correct horse")).await.unwrap();
        assert!(pool.verify(password("correct horse"), Some(hash.clone())).await.unwrap());
        assert!(!pool.verify(password("wrong"), Some(hash.clone())).await.unwrap());
        assert!(!pool.verify(password("correct horse"), None).await.unwrap());
        assert!(!pool.needs_rehash(&hash));
        assert_eq!(pool.hashes_started(), 4);
    }

    // On the current-thread runtime of these tests, a hash on the async thread would stop at the gate for ever. The
    // tests end, so async threads are not blocked.

    #[tokio::test]
    async fn sec_121_beyond_permits_and_queue_hashes_are_turned_away_at_once() {
        let mut gated = Gated::new(1, 2);
        let mut admitted = vec![gated.spawn_hash()];
        gated.arrivals.recv().await.unwrap();
        admitted.extend([gated.spawn_hash(), gated.spawn_hash()]);
        gated.places_taken(3, 3).await;

        for _ in 0..100 {
            let hashed = gated.pool.hash(password("correct horse")).await;
            assert!(matches!(hashed, Err(HashError::Overloaded)), "{hashed:?}");
            let verified = gated.pool.verify(password("correct horse"), None).await;
            assert!(matches!(verified, Err(HashError::Overloaded)), "{verified:?}");
        }
        assert!(gated.arrivals.try_recv().is_err(), "one permit, one hash at a time");

        gated.open();
        for hash in admitted {
            hash.await.unwrap().unwrap();
        }
        assert_eq!(gated.pool.hashes_started(), 3);
        gated.pool.hash(password("correct horse")).await.unwrap();
    }

    #[tokio::test]
    async fn sec_121_as_many_hashes_run_as_there_are_permits() {
        let mut gated = Gated::new(3, 5);
        let admitted: Vec<_> = (0..8).map(|_| gated.spawn_hash()).collect();
        gated.places_taken(8, 8).await;
        for _ in 0..3 {
            gated.arrivals.recv().await.unwrap();
        }
        assert_eq!(gated.pool.permits.available_permits(), 0);
        assert!(gated.arrivals.try_recv().is_err());
        gated.open();
        for hash in admitted {
            hash.await.unwrap().unwrap();
        }
        assert_eq!(gated.pool.permits.available_permits(), 3);
    }

    #[tokio::test]
    async fn sec_121_a_hash_keeps_its_permit_when_its_caller_has_gone() {
        let mut gated = Gated::new(1, 0);
        let caller = gated.spawn_hash();
        gated.arrivals.recv().await.unwrap();
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());

        assert!(matches!(gated.pool.hash(password("correct horse")).await, Err(HashError::Overloaded)));
        gated.open();
        gated.places_taken(0, 1).await;
        gated.pool.hash(password("correct horse")).await.unwrap();
        assert_eq!(gated.pool.hashes_started(), 2);
    }

    #[tokio::test]
    async fn sec_219_a_place_that_is_given_up_is_somebody_elses_at_once() {
        let mut gated = Gated::new(1, 1);
        let place = gated.pool.place().unwrap();
        let turn = gated.pool.place().unwrap().turn().await.unwrap();
        assert!(matches!(gated.pool.place(), Err(HashError::Overloaded)));
        drop(place);
        let waiting = gated.pool.place().unwrap();
        drop(turn);
        let hashing =
            tokio::spawn(async move { waiting.turn().await?.hash(password("correct horse")).await });
        gated.arrivals.recv().await.unwrap();
        assert_eq!(gated.pool.free_places(), 1, "the one that hashes keeps its own");
        gated.open();
        hashing.await.unwrap().unwrap();
        gated.places_taken(0, 2).await;
    }

    #[tokio::test]
    async fn sec_121_a_caller_that_leaves_the_queue_gives_up_its_place() {
        let mut gated = Gated::new(1, 1);
        let running = gated.spawn_hash();
        gated.arrivals.recv().await.unwrap();
        let waiting = gated.spawn_hash();
        gated.places_taken(2, 2).await;
        assert_eq!(gated.pool.load(), HashLoad { running: 1, waiting: 1 });
        waiting.abort();
        gated.places_taken(1, 2).await;
        assert_eq!(gated.pool.load(), HashLoad { running: 1, waiting: 0 });
        let next = gated.spawn_hash();
        gated.places_taken(2, 2).await;
        gated.open();
        running.await.unwrap().unwrap();
        next.await.unwrap().unwrap();
        assert_eq!(gated.pool.hashes_started(), 2);
    }

    #[test]
    fn sec_121_a_stopped_runtime_is_an_error_and_not_an_answer() {
        let stopped = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let random = Arc::new(SeededRandom::default());
        let permits = NonZeroUsize::MIN;
        let pool = HashPool::new(stopped.handle().clone(), permits, 0, cheap(), random).unwrap();
        drop(stopped);
        let caller = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let verified = caller.block_on(pool.verify(password("correct horse"), None));
        assert!(matches!(verified, Err(HashError::Failed(_))), "{verified:?}");
    }
}
