//! The source of randomness, which is always an argument.

use std::fmt;

use uuid::Uuid;

/// A source of unpredictable bytes. Programs pass the operating system's generator, tests a seeded one.
///
/// ```
/// use aws_lc_rs::rand::{SecureRandom, SystemRandom};
/// use countersign_jwt::{Random, RandomError, random};
///
/// /// The operating system's randomness.
/// #[derive(Debug)]
/// struct System(SystemRandom);
///
/// impl Random for System {
///     fn fill(&self, dest: &mut [u8]) -> Result<(), RandomError> {
///         self.0.fill(dest).map_err(|_| RandomError)
///     }
/// }
///
/// let system = System(SystemRandom::new());
/// assert_ne!(random::uuid(&system)?, random::uuid(&system)?);
/// # Ok::<(), RandomError>(())
/// ```
pub trait Random: fmt::Debug + Send + Sync + 'static {
    /// Fills `dest` with bytes that nobody can predict.
    ///
    /// # Errors
    /// [`RandomError`] when the source fails. Nothing falls back to a weaker source (SEC-160): the operation that
    /// needed the bytes fails too.
    fn fill(&self, dest: &mut [u8]) -> Result<(), RandomError>;
}

/// The source of randomness failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the source of randomness failed")]
pub struct RandomError;

/// `N` fresh bytes.
///
/// # Errors
/// [`RandomError`] when the source fails.
pub fn bytes<const N: usize>(random: &dyn Random) -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    random.fill(&mut bytes)?;
    Ok(bytes)
}

/// A fresh random UUID (version 4, 122 random bits; RFC 9562 §5.4). It serves as an id and never as a secret.
///
/// # Errors
/// [`RandomError`] when the source fails.
pub fn uuid(random: &dyn Random) -> Result<Uuid, RandomError> {
    Ok(uuid::Builder::from_random_bytes(bytes(random)?).into_uuid())
}
