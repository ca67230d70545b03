//! How long sessions, tokens and keys live, and how forgiving refresh is.

use std::num::NonZeroU32;
use std::time::Duration;

use countersign_jwt::key::Algorithm;
use countersign_jwt::token::Verifier;

use super::entry::OVERLAP;
use super::keys::{KeyPurpose, Schedule};

/// Lifetimes and the rules of refresh.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionPolicy {
    /// Lifetime of an access token. Default 15 minutes (SEC-104).
    pub access_lifetime: Duration,
    /// For how long after the login its access token is fresh. `None`, the default: for its whole life. Counted in
    /// whole seconds.
    pub fresh_for: Option<Duration>,
    /// A session ends when it was not refreshed for this long. Default 14 days.
    pub idle: Duration,
    /// A session ends this long after its login, refreshed or not. Default 30 days.
    pub absolute: Duration,
    /// How many live sessions a user may have. Default 100, 1–10,000. Every one of them costs a row, and what looks
    /// through a user's sessions costs a read of each.
    pub max_sessions: NonZeroU32,
    /// What a login does that would be one too many. Default: it ends the oldest.
    pub at_limit: AtLimit,
    /// For this long after a rotation the predecessor is answered with the successor again, so that tabs and
    /// retries don't look like theft. Default 30 s, 0–300 s, at most half the access lifetime; 0 is strict single use.
    pub grace: Duration,
    /// Whom the grace is for. Default anyone who holds the token.
    pub grace_for: GraceFor,
    /// Whether a predecessor is served after the grace if its successor never arrived. Default on. Switch it
    /// off where access tokens are verified elsewhere, because then nobody learns that a successor is in use.
    pub healing: bool,
    /// How far clocks may disagree. Default 10 s, 0–300 s, for every kind of token.
    pub leeway: Duration,
    /// How old a node's view of the revocation log may be. Default 5 s.
    pub revocation_bound: Duration,
    /// For how long a key signs before another one takes its place by itself. Default 90 days; `None`: until somebody
    /// asks. At least a day.
    pub key_rotation: Option<Duration>,
    /// What new keys for access tokens sign with. Default `None`: the first one with `EdDSA`, each other one as the one
    /// before it.
    pub key_algorithm: Option<Algorithm>,
}

/// Whom the grace after a rotation is for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum GraceFor {
    /// Whoever holds the token. Two tabs look alike, but so does a thief who refreshes inside every grace window; that
    /// two clients share a generation is [told](crate::model::event::Event::RefreshShared).
    #[default]
    Anyone,
    /// Only the client that refreshed last, by its whole `User-Agent`. Another one is taken for a thief, and the session ends.
    /// A browser that updates itself between two tabs' refreshes is logged out, too.
    SameClient,
}

/// What a login does when its user has as many live sessions as are allowed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AtLimit {
    /// It ends the oldest ones.
    #[default]
    EndOldest,
    /// It is refused. Who cannot reach an old device any more then waits until that session has expired.
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

/// A policy that contradicts itself or is out of range.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{setting} is {value}, but {rule}")]
pub struct PolicyError {
    /// Which field.
    pub setting: &'static str,
    /// Its value, with the unit.
    pub value: String,
    /// What it must be.
    pub rule: &'static str,
}

impl SessionPolicy {
    /// A predecessor is healed at most this many times in one generation.
    pub const MAX_HEALS: u8 = 3;
    /// At most this many generations in a row are healed.
    pub const MAX_HEALED_RUN: u8 = 5;
    /// The default of [`max_sessions`](Self::max_sessions): more than people have devices, few enough to be read.
    pub const DEFAULT_MAX_SESSIONS: NonZeroU32 = NonZeroU32::new(100).expect("not zero");
    /// The highest [`max_sessions`](Self::max_sessions).
    pub const HIGHEST_MAX_SESSIONS: u32 = 10_000;

    /// Checks every field against its range and the others.
    ///
    /// # Errors
    /// [`PolicyError`] names the first field that is wrong and the rule it breaks.
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
            ("grace", self.grace, self.grace <= LIMIT, "it must be at most 300 s"),
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

    /// For how long an entry in the revocation log matters: until the last token it can concern has expired.
    ///
    /// That token may be issued between the moment from which this counts and the commit of the entry, by a node
    /// whose clock is ahead, and it may meet a verifier whose leeway was raised since. Tokens from before the access
    /// lifetime was shortened are refused when they are older than the lifetime that holds now.
    #[must_use]
    pub fn revocation_horizon(&self) -> Duration {
        self.access_lifetime.saturating_add(Verifier::MAX_LEEWAY).saturating_add(OVERLAP)
    }
}

impl SessionPolicy {
    /// For how long a replaced key still verifies: its longest token's life, and what nodes and caches may be behind
    /// (SEC-040).
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

    /// When keys are replaced by themselves; `None` if only on demand. A new key is published until the last cache of
    /// the set that was published before it, on the node that learns of it last, is out of date (SEC-040).
    #[must_use]
    pub fn key_schedule(&self) -> Option<Schedule> {
        self.key_rotation.map(|every| Schedule { every, ahead: self.key_ahead() })
    }

    pub(crate) fn key_ahead(&self) -> Duration {
        PUBLISHED_FOR.saturating_add(self.revocation_bound).saturating_add(OVERLAP)
    }
}

/// For how long caches elsewhere may keep the published keys, at most (SEC-042).
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
