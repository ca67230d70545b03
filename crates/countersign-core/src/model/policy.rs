//! The lifetimes of sessions, tokens and keys, and the tolerance of refresh.

use std::num::NonZeroU32;
use std::time::Duration;

use countersign_jwt::key::Algorithm;
use countersign_jwt::token::Verifier;

use super::entry::OVERLAP;
use super::keys::{KeyPurpose, Schedule};

/// Lifetimes of sessions, tokens and keys, and the rules of refresh.
///
/// ```
/// use std::time::Duration;
/// use countersign_core::model::SessionPolicy;
///
/// let policy = SessionPolicy { access_lifetime: Duration::from_secs(300), ..SessionPolicy::default() };
/// assert!(policy.check().is_ok());
///
/// let too_tolerant = SessionPolicy { grace: Duration::from_secs(600), ..policy };
/// assert_eq!(too_tolerant.check().unwrap_err().setting, "grace");
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionPolicy {
    /// The lifetime of an access token. Default 15 minutes (SEC-104).
    pub access_lifetime: Duration,
    /// The time after a login for which its access token is fresh, counted in whole seconds. Default `None`, which
    /// means the token's whole life.
    pub fresh_for: Option<Duration>,
    /// The time without a refresh after which a session ends. Default 14 days.
    pub idle: Duration,
    /// The time after the login at which a session ends, refreshed or not. Default 30 days.
    pub absolute: Duration,
    /// The number of live sessions that a user may have. Default 100, range 1–10,000. Each session costs a row, and
    /// code that looks through a user's sessions reads each of them.
    pub max_sessions: NonZeroU32,
    /// The effect of a login that would exceed [`max_sessions`](Self::max_sessions). Default: it ends the oldest
    /// session.
    pub at_limit: AtLimit,
    /// The time after a rotation during which the predecessor is answered with the successor again, so that tabs and
    /// retries don't look like theft. Default 30 s, range 0–300 s, at most half the access lifetime; 0 is strict single
    /// use.
    pub grace: Duration,
    /// The clients that the grace is for. Default: anyone who holds the token.
    pub grace_for: GraceFor,
    /// Whether a predecessor is healed after the grace if its successor never arrived. Default on. Switch it off where
    /// access tokens are verified elsewhere, because then nobody learns that a successor is in use.
    pub healing: bool,
    /// The time by which clocks may disagree. Default 10 s, range 0–300 s, for every kind of token.
    pub leeway: Duration,
    /// The revocation bound: the greatest age of a node's view of the revocation log. Default 5 s.
    pub revocation_bound: Duration,
    /// The time for which a key signs before it is replaced automatically. Default 90 days, at least a day. With `None`
    /// keys are replaced only on demand.
    pub key_rotation: Option<Duration>,
    /// The algorithm of new keys for access tokens. Default `None`: the first key has `EdDSA`, and each other key has
    /// the algorithm of the key before it.
    pub key_algorithm: Option<Algorithm>,
}

/// The clients that the grace after a rotation is for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum GraceFor {
    /// Every client that holds the token. Two tabs look alike, but so does a thief who refreshes inside every grace
    /// window. The event [`RefreshShared`](crate::model::event::Event::RefreshShared) tells that two clients share a
    /// generation.
    #[default]
    Anyone,
    /// Only the client that refreshed last, by its whole `User-Agent` header. Another client is taken for a thief, and
    /// the session ends. A browser that updates itself between two tabs' refreshes is logged out, too.
    SameClient,
}

/// The effect of a login whose user has as many live sessions as are allowed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AtLimit {
    /// The login ends the oldest sessions.
    #[default]
    EndOldest,
    /// The login is refused. A user who lost a device then cannot log in until one of the old sessions expires.
    Refuse,
}

impl Default for SessionPolicy {
    fn default() -> Self {
        Self {
            access_lifetime: Duration::from_secs(15 * 60),
            fresh_for: None,
            idle: Duration::from_secs(14 * 24 * 3600),
            absolute: Duration::from_secs(30 * 24 * 3600),
            max_sessions: Self::DEFAULT_MAX_SESSIONS,
            at_limit: AtLimit::EndOldest,
            grace: Duration::from_secs(30),
            grace_for: GraceFor::Anyone,
            healing: true,
            leeway: Duration::from_secs(10),
            revocation_bound: Duration::from_secs(5),
            key_rotation: Some(Duration::from_secs(90 * 24 * 3600)),
            key_algorithm: None,
        }
    }
}

/// A session policy that contradicts itself or is out of range.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{setting} is {value}, but {rule}")]
pub struct PolicyError {
    /// The name of the field.
    pub setting: &'static str,
    /// The value of the field, with its unit.
    pub value: String,
    /// The rule that the value breaks.
    pub rule: &'static str,
}

impl SessionPolicy {
    /// The most times that a predecessor is healed in one generation.
    pub const MAX_HEALS: u8 = 3;
    /// The most generations in a row that are healed.
    pub const MAX_HEALED_RUN: u8 = 5;
    /// The default of [`max_sessions`](Self::max_sessions): more than people have devices, and few enough to be read.
    pub const DEFAULT_MAX_SESSIONS: NonZeroU32 = NonZeroU32::new(100).expect("not zero");
    /// The highest value of [`grace`](Self::grace).
    pub const LONGEST_GRACE: Duration = Duration::from_secs(300);
    /// The highest value of [`max_sessions`](Self::max_sessions).
    pub const HIGHEST_MAX_SESSIONS: u32 = 10_000;

    /// Checks every field against its range and the other fields.
    ///
    /// # Errors
    /// [`PolicyError`] names the first field that is wrong and the rule that it breaks.
    pub fn check(&self) -> Result<(), PolicyError> {
        const SECOND: Duration = Duration::from_secs(1);
        const LIMIT: Duration = Duration::from_secs(300);
        const DAY: Duration = Duration::from_secs(24 * 3600);
        const YEAR: Duration = Duration::from_secs(400 * 24 * 3600);
        let rules = [
            (
                "access_lifetime",
                self.access_lifetime,
                self.access_lifetime >= SECOND && self.access_lifetime <= self.absolute,
                "it must be at least 1 s and at most the session's absolute lifetime",
            ),
            (
                "fresh_for",
                self.fresh_for.unwrap_or(SECOND),
                self.fresh_for
                    .is_none_or(|fresh_for| fresh_for >= SECOND && fresh_for <= self.access_lifetime),
                "it must be at least 1 s and at most the access lifetime",
            ),
            ("idle", self.idle, self.idle >= SECOND, "it must be at least 1 s"),
            (
                "absolute",
                self.absolute,
                self.absolute >= SECOND && self.absolute <= YEAR,
                "it must be between 1 s and 400 days",
            ),
            ("grace", self.grace, self.grace <= Self::LONGEST_GRACE, "it must be at most 300 s"),
            (
                "grace",
                self.grace,
                self.grace.saturating_mul(2) <= self.access_lifetime,
                "it must be at most half the access lifetime",
            ),
            ("leeway", self.leeway, self.leeway <= LIMIT, "it must be at most 300 s"),
            (
                "revocation_bound",
                self.revocation_bound,
                self.revocation_bound >= SECOND && self.revocation_bound <= LIMIT,
                "it must be between 1 s and 300 s",
            ),
            (
                "key_rotation",
                self.key_rotation.unwrap_or_default(),
                self.key_rotation.is_none_or(|every| every >= DAY),
                "it must be at least 1 day, or off",
            ),
        ];
        if let Some((setting, value, _, rule)) = rules.into_iter().find(|(_, _, holds, _)| !holds) {
            return Err(PolicyError { setting, value: format!("{} s", value.as_secs()), rule });
        }
        if self.max_sessions.get() > Self::HIGHEST_MAX_SESSIONS {
            let value = self.max_sessions.to_string();
            return Err(PolicyError {
                setting: "max_sessions",
                value,
                rule: "it must be between 1 and 10000",
            });
        }
        Ok(())
    }

    /// The revocation horizon: the time for which an entry of the revocation log matters, which is until the last token
    /// that it can concern has expired.
    ///
    /// That token may be issued between the moment from which the horizon counts and the commit of the entry, by a node
    /// whose clock is ahead, and it may meet a verifier whose leeway was raised since. Tokens from before the access
    /// lifetime was shortened are refused when they are older than the lifetime that holds now.
    #[must_use]
    pub fn revocation_horizon(&self) -> Duration {
        self.access_lifetime.saturating_add(Verifier::MAX_LEEWAY).saturating_add(OVERLAP)
    }
}

impl SessionPolicy {
    /// The time for which a replaced key still verifies: the life of its longest token, and how far nodes and caches
    /// may be behind (SEC-040).
    #[must_use]
    pub fn key_overlap(&self, purpose: KeyPurpose) -> Duration {
        let life = match purpose {
            KeyPurpose::Access => self.access_lifetime,
            KeyPurpose::Refresh => self.absolute,
        };
        life.saturating_add(self.leeway)
            .saturating_add(self.revocation_bound)
            .saturating_add(OVERLAP)
            .saturating_add(PUBLISHED_FOR)
    }

    /// The schedule by which keys are replaced; `None` if they are replaced only on demand. A new key is published
    /// until the last cache of the set published before it, on the node that learns of the key last, is out of date
    /// (SEC-040).
    #[must_use]
    pub fn key_schedule(&self) -> Option<Schedule> {
        self.key_rotation.map(|every| Schedule { every, ahead: self.key_ahead() })
    }

    pub(crate) fn key_ahead(&self) -> Duration {
        PUBLISHED_FOR.saturating_add(self.revocation_bound).saturating_add(OVERLAP)
    }
}

/// The longest time for which caches elsewhere may keep the published keys (SEC-042).
const PUBLISHED_FOR: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_104_the_default_access_lifetime_is_at_most_15_minutes() {
        assert!(SessionPolicy::default().access_lifetime <= Duration::from_secs(900));
        assert_eq!(SessionPolicy::default().check(), Ok(()));
    }

    #[test]
    fn sec_080_the_default_lifetimes_are_14_days_idle_and_30_days_absolute() {
        let policy = SessionPolicy::default();
        assert_eq!(policy.idle, Duration::from_secs(14 * 86_400));
        assert_eq!(policy.absolute, Duration::from_secs(30 * 86_400));
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let secs = Duration::from_secs;
        let good = SessionPolicy::default();
        for (case, policy, setting) in [
            ("grace over 300 s", SessionPolicy { grace: secs(301), ..good.clone() }, "grace"),
            (
                "grace over half the access lifetime",
                SessionPolicy { access_lifetime: secs(59), ..good.clone() },
                "grace",
            ),
            ("leeway over 300 s", SessionPolicy { leeway: secs(301), ..good.clone() }, "leeway"),
            (
                "no access lifetime",
                SessionPolicy { access_lifetime: secs(0), grace: secs(0), ..good.clone() },
                "access_lifetime",
            ),
            ("no idle time", SessionPolicy { idle: secs(0), ..good.clone() }, "idle"),
            (
                "a key a minute",
                SessionPolicy { key_rotation: Some(secs(60)), ..good.clone() },
                "key_rotation",
            ),
            (
                "sessions without end",
                SessionPolicy { max_sessions: NonZeroU32::MAX, ..good.clone() },
                "max_sessions",
            ),
            ("for ever", SessionPolicy { absolute: secs(401 * 86_400), ..good.clone() }, "absolute"),
        ] {
            assert_eq!(policy.check().unwrap_err().setting, setting, "{case}");
        }
        assert_eq!(SessionPolicy { access_lifetime: secs(60), ..good }.check(), Ok(()));
    }
}
