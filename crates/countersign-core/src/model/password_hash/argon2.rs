//! Argon2 in the PHC string format: the form of new hashes, and the cost that they have.

use ::argon2::{Algorithm, Argon2, Params, Version};
use password_hash::phc::{self, Output, ParamsString, Salt};

use crate::model::password_hash::UnusableHash;
use crate::model::password_hash::function::{Function, StoredHash};

/// The cost of an Argon2id hash. Default: [`Argon2Params::MIB_19`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Argon2Params(Params);

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

/// An Argon2 hash with its salt, whose cost is known to be within the limits.
#[derive(Clone)]
pub(crate) struct StoredArgon2 {
    pub(crate) algorithm: Algorithm,
    pub(crate) version: Version,
    pub(crate) params: Params,
    pub(crate) salt: Box<[u8]>,
    pub(crate) origin: Origin,
}

/// Who wrote the text of an Argon2 hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// The text has the form of new hashes.
    Own,
    /// The text has the form of another system.
    Imported,
}

impl Argon2Params {
    /// 19,456 KiB (19 MiB), 2 passes, 1 lane: the cost recommended by OWASP that needs little memory.
    pub const MIB_19: Self = Self(Params::DEFAULT);
    /// 47,104 KiB (46 MiB), 1 pass, 1 lane: the recommended cost of the same strength that needs more memory and is
    /// harder for attackers with graphics cards.
    pub const MIB_46: Self = match Params::new(47_104, 1, 1, None) {
        Ok(params) => Self(params),
        Err(_) => Self::MIB_19,
    };

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
        Params::new(memory_kib, passes, lanes, None).map(Self).map_err(|_| UnsafeArgon2Params::TooCheap)
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

    /// The function with this cost.
    pub(crate) fn argon2(&self) -> Argon2<'static> {
        Argon2::new(Algorithm::Argon2id, Version::V0x13, self.0.clone())
    }

    /// A cost that is far too low, for tests.
    #[cfg(test)]
    pub(crate) fn cheap() -> Self {
        Self(Params::new(8, 1, 1, None).unwrap())
    }
}

impl Default for Argon2Params {
    fn default() -> Self {
        Self::MIB_19
    }
}

impl StoredArgon2 {
    /// The function that made the hash.
    pub(crate) fn argon2(&self) -> Argon2<'static> {
        Argon2::new(self.algorithm, self.version, self.params.clone())
    }

    /// Whether a new hash of this cost would look the same, but for the bytes of its salt and its tag.
    pub(crate) fn is_like(&self, new: &Argon2<'_>, salt_bytes: usize) -> bool {
        let (params, new) = (&self.params, new.params());
        self.origin == Origin::Own
            && self.algorithm == Algorithm::Argon2id
            && self.version == Version::V0x13
            && (params.m_cost(), params.t_cost(), params.p_cost())
                == (new.m_cost(), new.t_cost(), new.p_cost())
            && self.salt.len() == salt_bytes
    }
}

pub(super) fn read(text: &str) -> Result<StoredHash, UnusableHash> {
    let hash = phc::PasswordHash::new(text).map_err(|_| UnusableHash::Form)?;
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).map_err(|_| UnusableHash::Form)?;
    // Hashes from before the format had a version are of the first one.
    let version =
        hash.version.map_or(Ok(Version::V0x10), Version::try_from).map_err(|_| UnusableHash::Form)?;
    let (Some(salt), Some(tag)) = (&hash.salt, &hash.hash) else { return Err(UnusableHash::Form) };
    let params = Params::try_from(&hash).map_err(|_| UnusableHash::Form)?;
    // A hash under a key that somebody else keeps.
    if !params.keyid().is_empty() {
        return Err(UnusableHash::Form);
    }
    if params.m_cost() > Argon2Params::MAX_MEMORY_KIB
        || params.t_cost() > Argon2Params::MAX_PASSES
        || params.p_cost() > Argon2Params::MAX_LANES
    {
        return Err(UnusableHash::Cost);
    }
    let salt = salt.as_ref().into();
    let argon2 = StoredArgon2 { algorithm, version, params, salt, origin: Origin::Own };
    Ok(StoredHash::new(Function::Argon2(argon2), tag.as_ref()))
}

/// The text of a new hash in the PHC string format.
pub(crate) fn phc_text(params: &Params, salt: &[u8], tag: &[u8]) -> Result<String, password_hash::Error> {
    let hash = phc::PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params)?,
        salt: Some(Salt::new(salt)?),
        hash: Some(Output::new(tag)?),
    };
    Ok(hash.to_string())
}

/// Costs of equal strength from the OWASP Password Storage Cheat Sheet: KiB and passes, each with one lane.
const OWASP_COSTS: [(u32, u32); 5] = [(47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)];

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(Argon2Params::new(47_104, 1, 1), Ok(Argon2Params::MIB_46));
    }
}
