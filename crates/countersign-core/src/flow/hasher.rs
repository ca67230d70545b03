//! Making and checking password hashes, a bounded number at once.
//!
//! A hash is slow on purpose and takes 19 MiB. [`HashPool`] runs a fixed number of hashes at a time on blocking
//! threads, lets a few more wait, and refuses further ones at once. A flood of logins can therefore neither exhaust the
//! memory nor hold up the requests that need no password (SEC-121).

use std::error::Error;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use argon2::{Algorithm, Argon2, Block, Version};
use countersign_jwt::random::{self, Random, RandomError};
use password_hash::phc::{self, Output, ParamsString, Salt};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::{Password, PasswordHash};

/// The cost of an Argon2id hash. Default 19,456 KiB, 2 passes, 1 lane: the cost recommended by OWASP that needs little
/// memory.
///
/// ```
/// use countersign_core::flow::{Argon2Params, UnsafeArgon2Params};
///
/// assert_eq!(Argon2Params::default().memory_kib(), 19_456);
/// assert!(Argon2Params::new(47_104, 1, 1).is_ok());
/// assert_eq!(Argon2Params::new(4_096, 1, 1).err(), Some(UnsafeArgon2Params::TooCheap));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Argon2Params(argon2::Params);

/// The reason why no new hash may have a cost.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UnsafeArgon2Params {
    /// The cost is lower than every cost that OWASP recommends.
    #[error("argon2id costs too little; use at least 19456 KiB and 2 passes, or 47104 KiB and 1 pass")]
    TooCheap,
    /// The cost is higher than a stored hash may have.
    #[error("argon2id costs too much; use at most 1048576 KiB, 10 passes and 1 to 16 lanes")]
    TooExpensive,
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
/// use countersign_core::flow::{Argon2Params, Hasher};
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
    random: Arc<dyn Random>,
    decoy: Decoy,
    started: AtomicU64,
    memory: Memory,
}

/// Makes and checks hashes on blocking threads, a bounded number at a time. Cheap to clone; all clones are one pool.
///
/// ```
/// use std::num::NonZeroUsize;
/// use std::sync::Arc;
/// use countersign_core::flow::{Argon2Params, HashError, HashPool};
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
    /// One permit for each hash that runs.
    permits: Arc<Semaphore>,
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
    /// The pool needs up to `permits` times the memory of `params`. Making the pool hashes nothing.
    ///
    /// # Errors
    /// [`RandomError`] when the source of randomness fails.
    pub fn new(
        runtime: Handle,
        permits: NonZeroUsize,
        queue: usize,
        params: Argon2Params,
        random: Arc<dyn Random>,
    ) -> Result<Self, RandomError> {
        let permits = permits.get().min(Semaphore::MAX_PERMITS);
        let places = permits.saturating_add(queue).min(Semaphore::MAX_PERMITS);
        Ok(Self {
            hasher: Arc::new(Hasher::new(params, random)?),
            runtime,
            places: Arc::new(Semaphore::new(places)),
            permits: Arc::new(Semaphore::new(permits)),
        })
    }

    /// Takes a place in the pool, if one is free.
    ///
    /// # Errors
    /// [`HashError::Overloaded`] when the pool is full.
    pub fn place(&self) -> Result<HashPlace, HashError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| HashError::Overloaded)?;
        Ok(HashPlace { pool: self.clone(), place })
    }

    /// The number of places in the pool that are free.
    #[must_use]
    pub fn free_places(&self) -> usize {
        self.places.available_permits()
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

    /// Whether `stored` should be replaced by a hash of the current cost, at the next login that it accepts.
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
        Arc::clone(&self.pool.permits).acquire_owned().await.map_err(HashError::failed)
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

    /// Runs `work` on a blocking thread.
    ///
    /// Dropping the future does not stop the work. A hash cannot be interrupted, so it keeps its permit and its place
    /// until it ends; otherwise callers that hang up could exceed the bound.
    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&Hasher) -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let Self { place: HashPlace { pool, place }, permit } = self;
        let hasher = pool.hasher;
        let hashing = pool.runtime.spawn_blocking(move || {
            let _until_the_hash_ends = (place, permit);
            work(&hasher)
        });
        hashing.await.map_err(HashError::failed)?
    }
}

impl Hasher {
    const SALT_BYTES: usize = 16;
    const TAG_BYTES: usize = 32;

    /// A hasher that makes new hashes at this cost.
    ///
    /// # Errors
    /// [`RandomError`] when the source of randomness fails.
    pub fn new(params: Argon2Params, random: Arc<dyn Random>) -> Result<Self, RandomError> {
        let decoy = Decoy::new(&params, random.as_ref())?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.0);
        let memory = Memory { blocks: argon2.params().block_count(), idle: Mutex::default() };
        Ok(Self { argon2, random, decoy, started: AtomicU64::new(0), memory })
    }

    /// Hashes a new password with a fresh salt.
    ///
    /// # Errors
    /// [`HashError::Random`] or [`HashError::Failed`].
    pub fn hash(&self, password: &Password) -> Result<PasswordHash, HashError> {
        let salt: [u8; Self::SALT_BYTES] = random::bytes(self.random.as_ref())?;
        self.started.fetch_add(1, Ordering::Relaxed);
        let mut tag = [0; Self::TAG_BYTES];
        self.memory.tag(&self.argon2, password, &salt, &mut tag).map_err(HashError::failed)?;
        let hash = phc::PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(self.argon2.params()).map_err(HashError::failed)?,
            salt: Some(Salt::new(&salt).map_err(HashError::failed)?),
            hash: Some(Output::new(&tag).map_err(HashError::failed)?),
        };
        Ok(PasswordHash::from_stored(hash.to_string()))
    }

    /// Whether `password` is the one that `stored` was made from.
    ///
    /// The check always takes one hash. Without a stored hash (unknown user, account without a password), or with one
    /// that cannot be trusted to end soon, that hash is a decoy of the current cost and the answer is `false`. The time
    /// that the check takes therefore does not tell who has an account (SEC-130).
    ///
    /// # Errors
    /// [`HashError::Failed`] when the hash could not be finished, which says nothing about the password.
    pub fn verify(&self, password: &Password, stored: Option<&PasswordHash>) -> Result<bool, HashError> {
        let stored = stored.and_then(|stored| match check(stored) {
            Ok(checked) => Some(checked),
            Err(reason) => {
                tracing::warn!(%reason, "a stored password hash cannot be used; its owner cannot log in");
                None
            }
        });
        let (hash, argon2) = match &stored {
            Some(Checked { hash, algorithm, params }) => {
                let version = hash.version.map_or(Ok(Version::default()), Version::try_from);
                let version = version.map_err(HashError::failed)?;
                (hash, Argon2::new(*algorithm, version, params.clone()))
            }
            None => (&self.decoy.0, self.argon2.clone()),
        };
        let (Some(salt), Some(expected)) = (&hash.salt, &hash.hash) else { return Ok(false) };
        self.started.fetch_add(1, Ordering::Relaxed);
        let mut buffer = [0; Output::MAX_LENGTH];
        let tag = buffer.get_mut(..expected.len()).unwrap_or_default();
        self.memory.tag(&argon2, password, salt, tag).map_err(HashError::failed)?;
        // The comparison takes constant time.
        let matches = Output::new(tag).map_err(HashError::failed)? == *expected;
        Ok(matches && stored.is_some())
    }

    /// Whether `stored` differs in form or cost from the hashes made now.
    #[must_use]
    pub fn needs_rehash(&self, stored: &PasswordHash) -> bool {
        let current = self.argon2.params();
        check(stored).map_or(true, |Checked { hash, algorithm, params }| {
            algorithm != Algorithm::Argon2id
                || hash.version != Some(Version::V0x13.into())
                || (params.m_cost(), params.t_cost(), params.p_cost())
                    != (current.m_cost(), current.t_cost(), current.p_cost())
                || hash.salt.is_none_or(|salt| salt.len() != Self::SALT_BYTES)
                || hash.hash.is_none_or(|tag| tag.len() != Self::TAG_BYTES)
        })
    }

    /// The number of hashes begun, made or checked.
    #[must_use]
    pub fn hashes_started(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }
}

impl Argon2Params {
    /// The most memory that a hash may take, new or stored: 1 GiB.
    pub const MAX_MEMORY_KIB: u32 = 1 << 20;
    /// The most passes over its memory that a hash may take: 10.
    pub const MAX_PASSES: u32 = 10;
    /// The most lanes that a hash may have: 16.
    pub const MAX_LANES: u32 = 16;

    /// A cost of `passes` over `memory_kib` KiB in `lanes` lanes.
    ///
    /// # Errors
    /// [`UnsafeArgon2Params`] if the cost has less memory or fewer passes than each cost that OWASP recommends
    /// (SEC-116), or more than a stored hash may have.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, UnsafeArgon2Params> {
        if !(1..=Self::MAX_LANES).contains(&lanes)
            || memory_kib > Self::MAX_MEMORY_KIB
            || passes > Self::MAX_PASSES
        {
            return Err(UnsafeArgon2Params::TooExpensive);
        }
        if !OWASP_COSTS.iter().any(|&(kib, times)| memory_kib >= kib && passes >= times) {
            return Err(UnsafeArgon2Params::TooCheap);
        }
        argon2::Params::new(memory_kib, passes, lanes, None)
            .map(Self)
            .map_err(|_| UnsafeArgon2Params::TooCheap)
    }

    /// The memory of one hash, in KiB.
    #[must_use]
    pub fn memory_kib(&self) -> u32 {
        self.0.m_cost()
    }

    /// The number of passes over the memory.
    #[must_use]
    pub fn passes(&self) -> u32 {
        self.0.t_cost()
    }

    /// The number of lanes, which are worked on one after another.
    #[must_use]
    pub fn lanes(&self) -> u32 {
        self.0.p_cost()
    }
}

impl Default for Argon2Params {
    fn default() -> Self {
        Self(argon2::Params::DEFAULT)
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
        password: &Password,
        salt: &[u8],
        tag: &mut [u8],
    ) -> Result<(), argon2::Error> {
        let blocks = argon2.params().block_count();
        if blocks != self.blocks {
            return argon2.hash_password_into(password.expose_bytes(), salt, tag);
        }
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut memory = idle.unwrap_or_else(|| vec![Block::default(); blocks].into());
        let hashed = argon2.hash_password_into_with_memory(password.expose_bytes(), salt, tag, &mut memory);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        hashed
    }
}

/// A hash of the current cost that no known password has: its salt and its tag are random.
struct Decoy(phc::PasswordHash);

impl Decoy {
    fn new(params: &Argon2Params, random: &dyn Random) -> Result<Self, RandomError> {
        let salt: [u8; Hasher::SALT_BYTES] = random::bytes(random)?;
        let tag: [u8; Hasher::TAG_BYTES] = random::bytes(random)?;
        Ok(Self(phc::PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&params.0)
                .expect("three decimal parameters fit into a PHC string"),
            salt: Some(Salt::new(&salt).expect("a PHC salt may have 16 bytes")),
            hash: Some(Output::new(&tag).expect("a PHC hash may have 32 bytes")),
        }))
    }
}

impl fmt::Debug for Decoy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoy(…)")
    }
}

/// A stored hash whose cost is known to be within the limits.
struct Checked {
    hash: phc::PasswordHash,
    algorithm: Algorithm,
    params: argon2::Params,
}

/// The reason why a stored hash is not used. The messages contain nothing of the hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
enum Unusable {
    #[error("it is not a complete argon2 hash in PHC string format")]
    Form,
    #[error("it asks for more than 1 GiB of memory, 10 passes or 16 lanes")]
    Cost,
}

fn check(stored: &PasswordHash) -> Result<Checked, Unusable> {
    let hash = phc::PasswordHash::new(stored.expose()).map_err(|_| Unusable::Form)?;
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).map_err(|_| Unusable::Form)?;
    let known_version = hash.version.is_none_or(|version| Version::try_from(version).is_ok());
    if !known_version || hash.salt.is_none() || hash.hash.is_none() {
        return Err(Unusable::Form);
    }
    let params = argon2::Params::try_from(&hash).map_err(|_| Unusable::Form)?;
    if params.m_cost() > Argon2Params::MAX_MEMORY_KIB
        || params.t_cost() > Argon2Params::MAX_PASSES
        || params.p_cost() > Argon2Params::MAX_LANES
    {
        return Err(Unusable::Cost);
    }
    Ok(Checked { hash, algorithm, params })
}

/// Costs of equal strength from the OWASP Password Storage Cheat Sheet: KiB and passes, each with one lane.
const OWASP_COSTS: [(u32, u32); 5] = [(47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)];

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

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
        Argon2Params(argon2::Params::new(8, 1, 1, None).unwrap())
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
    fn sec_116_costs_below_each_recommended_one_are_refused() {
        use UnsafeArgon2Params::{TooCheap, TooExpensive};
        for (memory_kib, passes, lanes, outcome) in [
            (47_104, 1, 1, Ok(())),
            (47_103, 1, 1, Err(TooCheap)),
            (19_456, 2, 1, Ok(())),
            (19_455, 2, 1, Err(TooCheap)),
            (12_288, 3, 1, Ok(())),
            (9_216, 4, 1, Ok(())),
            (7_168, 5, 1, Ok(())),
            (7_167, 10, 1, Err(TooCheap)),
            (1 << 20, 10, 16, Ok(())),
            (1 << 20, 0, 1, Err(TooCheap)),
            ((1 << 20) + 1, 1, 1, Err(TooExpensive)),
            (19_456, 11, 1, Err(TooExpensive)),
            (19_456, 2, 17, Err(TooExpensive)),
            (19_456, 2, 0, Err(TooExpensive)),
            (u32::MAX, u32::MAX, u32::MAX, Err(TooExpensive)),
        ] {
            let params = Argon2Params::new(memory_kib, passes, lanes);
            assert_eq!(params.map(|_| ()), outcome, "m={memory_kib} t={passes} p={lanes}");
        }
        assert_eq!(Argon2Params::new(19_456, 2, 1), Ok(Argon2Params::default()));
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

    const TAIL: &str = "c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    #[test]
    fn sec_119_hostile_stored_hashes_never_match_and_cost_one_decoy() {
        let cases = [
            (format!("$argon2id$v=19$m=1048577,t=1,p=1${TAIL}"), Unusable::Cost),
            (format!("$argon2id$v=19$m=4294967295,t=4294967295,p=1${TAIL}"), Unusable::Cost),
            (format!("$argon2id$v=19$m=65536,t=11,p=1${TAIL}"), Unusable::Cost),
            (format!("$argon2id$v=19$m=65536,t=1,p=17${TAIL}"), Unusable::Cost),
            (format!("$argon2id$v=19$m=8,t=1,p=1,m=1048577${TAIL}"), Unusable::Cost),
            (format!("$argon2id$v=19$m=4294967296,t=1,p=1${TAIL}"), Unusable::Form),
            (format!("$argon2id$v=19$m=-8,t=1,p=1${TAIL}"), Unusable::Form),
            (format!("$argon2id$v=19$m=7,t=1,p=1${TAIL}"), Unusable::Form),
            (format!("$argon2id$v=19$m=8,t=0,p=1${TAIL}"), Unusable::Form),
            (format!("$argon2id$v=19$m=8,t=1,p=0${TAIL}"), Unusable::Form),
            (format!("$argon2id$v=20$m=8,t=1,p=1${TAIL}"), Unusable::Form),
            (format!("$argon2x$v=19$m=8,t=1,p=1${TAIL}"), Unusable::Form),
            (format!("$argon2id$v=19$m=8,t=1,p=1${TAIL}$more"), Unusable::Form),
            (format!("$argon2id$v=19$m=8,t=1,p=1,x=1${TAIL}"), Unusable::Form),
            ("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ".to_owned(), Unusable::Form),
            ("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$".to_owned(), Unusable::Form),
            ("$argon2id$v=19$m=8,t=1,p=1".to_owned(), Unusable::Form),
            ("$argon2id".to_owned(), Unusable::Form),
            ("$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW".to_owned(), Unusable::Form),
            ("scrypt:32768:8:1$salt$00".to_owned(), Unusable::Form),
            ("password".to_owned(), Unusable::Form),
            (String::new(), Unusable::Form),
            ("$".to_owned(), Unusable::Form),
            ("\0".to_owned(), Unusable::Form),
            ("$".repeat(100_000), Unusable::Form),
        ];
        let hasher = hasher();
        for (started, (text, reason)) in cases.into_iter().enumerate() {
            let shown: String = text.chars().take(80).collect();
            assert_eq!(check(&stored(&text)).err(), Some(reason), "{shown:?}");
            assert!(!hasher.verify(&password("password"), Some(&stored(&text))).unwrap(), "{shown:?}");
            assert_eq!(hasher.hashes_started(), started as u64 + 1, "{shown:?}");
        }
    }

    #[test]
    fn sec_119_hashes_at_the_cost_ceiling_are_still_checked() {
        assert!(check(&stored(&format!("$argon2id$v=19$m=1048576,t=10,p=16${TAIL}"))).is_ok());
    }

    proptest! {
        #[test]
        fn sec_119_any_stored_text_is_judged_without_a_panic(
            text in prop_oneof![any::<String>(), "\\$argon2(id|i|d|)(\\$v=[0-9]{0,3})?(\\$([mtpx]=[0-9]{0,11},?){0,4})?(\\$[A-Za-z0-9+/]{0,50}){0,3}"],
        ) {
            if let Ok(checked) = check(&stored(&text)) {
                prop_assert!(checked.params.m_cost() <= 1 << 20);
                prop_assert!(checked.params.t_cost() <= 10);
                prop_assert!(checked.params.p_cost() <= 16);
            }
        }
    }

    #[test]
    fn sec_130_an_unknown_user_costs_one_hash_of_the_current_cost_and_never_matches() {
        let hasher = hasher();
        assert_eq!(hasher.hashes_started(), 0, "the decoy is made without hashing");
        assert!(!hasher.verify(&password("anything"), None).unwrap());
        assert_eq!(hasher.hashes_started(), 1);
        assert!(!hasher.needs_rehash(&stored(&hasher.decoy.0.to_string())));
    }

    #[test]
    fn a_failing_source_of_randomness_fails_the_hash() {
        let exhausted = |fills| Hasher::new(cheap(), Arc::new(ExhaustedRandom(AtomicU64::new(fills))));
        assert_eq!(exhausted(1).unwrap_err(), RandomError);
        let hashed = exhausted(2).unwrap().hash(&password("correct horse"));
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
        waiting.abort();
        gated.places_taken(1, 2).await;
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
