//! The settings in which all programs of one store must agree, kept in the store, because each program must keep what
//! another one promises. The record also has the former issuers, whose tokens are good until they expire.
//!
//! The first program writes the record. Every later program compares its own settings with the record before it serves.
//! A program whose settings differ is refused, unless it was told to make its own the store's ([`Stance::Change`]).
//!
//! # Which settings, and why
//!
//! Each setting, with what happens if two programs of one store differ in it:
//!
//! - `access_lifetime`: a program remembers an ended session for as long as its own access tokens live. The other
//!   program's tokens live longer, and are accepted again.
//! - `idle`, `absolute`: the lifetime of a session depends on which program refreshed it last. A replaced key is
//!   forgotten while the other program's tokens need it.
//! - `leeway`, `revocation_bound`: a replaced key is forgotten while the other program's tokens need it, because both
//!   settings are part of how long keys verify and when a new one signs.
//! - `grace`, `grace_for`, `healing`: a refresh token that one program serves again is a replay to the other, which
//!   ends the session.
//! - `fresh_for`: of two answers to one refresh token, one is fresh.
//! - `profile`, and what a program [adds](Own::settings): one program does not accept the tokens of the other.
//!
//! The record leaves out what one program decides for itself without breaking another one's promise, such as how many
//! sessions a user may have, when keys are replaced, what a password hash costs and where cookies go.
//!
//! The record has nothing of an application's shared secret, not even a hash, because somebody who reads the store
//! could try guesses on it.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_jwt::issuers::{FormerIssuer, KnownIssuers};
use countersign_jwt::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::{GraceFor, KeyPurpose, SessionPolicy};

/// The record in the store of the settings that its programs have agreed on.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct AgreedSettings {
    /// The values, by the names of their settings.
    #[serde(default)]
    pub(crate) settings: BTreeMap<String, String>,
    /// The `iss` of new tokens.
    #[serde(default)]
    pub(crate) issuer: Option<String>,
    /// The former issuers, whose tokens may not have expired yet.
    #[serde(default)]
    pub(crate) former_issuers: Vec<FormerIssuer>,
    /// The members that a later version has added, which are kept.
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// The settings of one program, in the form in which they are compared with the store's record.
#[derive(Clone, Debug)]
pub struct Own {
    /// The `iss` of the program's tokens; `None` where the rules of another library hold, which have an issuer of their
    /// own or none.
    pub issuer: Option<String>,
    /// Issuers that a program without a record may have had. Their tokens are accepted too if the store has no record
    /// yet.
    pub maybe_before: Vec<String>,
    /// Lifetimes and rules of the program's sessions.
    pub policy: SessionPolicy,
    /// The settings beside those of the policy, by name, such as `profile`.
    pub settings: BTreeMap<String, String>,
}

/// The way in which a program handles settings that differ from the store's.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Stance {
    /// The program does not start.
    #[default]
    Agree,
    /// The program makes its own settings the store's.
    Change,
    /// The program uses the store's settings and writes nothing. It is for commands of the operator that run beside the
    /// servers.
    Follow,
}

/// A setting in which a program and its store differ.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// The name of the setting.
    pub setting: String,
    /// The program's value.
    pub own: String,
    /// The store's value.
    pub stores: String,
}

impl AgreedSettings {
    /// The most former issuers that are remembered. If there are more, the one whose tokens expire first is forgotten.
    pub const MAX_FORMER_ISSUERS: usize = 16;

    /// Parses the text of a record.
    ///
    /// # Errors
    /// [`serde_json::Error`] if the text is not a record.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The record as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        // A map whose keys are text always has a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The `iss` of new tokens.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// The store's value of a setting.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// The issuers other than `own` whose tokens are accepted.
    #[must_use]
    pub fn issuers_beside(&self, own: Option<&str>) -> KnownIssuers {
        let present =
            self.issuer.iter().map(|issuer| FormerIssuer { issuer: issuer.clone(), until: Timestamp::MAX });
        let all = present.chain(self.former_issuers.iter().cloned());
        all.filter(|known| Some(known.issuer.as_str()) != own).collect()
    }

    /// The settings in which a program differs from this record.
    #[must_use]
    pub fn differences(&self, own: &BTreeMap<String, String>) -> Vec<Difference> {
        let differs = |(name, value): (&String, &String)| {
            let stores = self.settings.get(name).filter(|stores| *stores != value)?;
            Some(Difference { setting: name.clone(), own: value.clone(), stores: stores.clone() })
        };
        own.iter().filter_map(differs).collect()
    }

    /// Makes `issuer` the present one and remembers the one before for `life`, which is how long its longest token
    /// lives. Returns the issuer before.
    pub(crate) fn change_issuer(&mut self, issuer: &str, now: Timestamp, life: Duration) -> Option<String> {
        if self.issuer.as_deref() == Some(issuer) {
            return None;
        }
        let before = self.issuer.replace(issuer.to_owned());
        self.former_issuers.retain(|former| former.issuer != issuer);
        if let Some(before) = &before {
            self.remember(before, now, now + life);
        }
        before
    }

    /// Remembers a former issuer at least until `until`, and forgets those whose time has passed.
    pub(crate) fn remember(&mut self, issuer: &str, now: Timestamp, until: Timestamp) {
        let known = self.former_issuers.iter().find(|former| former.issuer == issuer);
        let until = known.map_or(until, |known| known.until.max(until));
        self.former_issuers.retain(|former| former.until > now && former.issuer != issuer);
        self.former_issuers.push(FormerIssuer { issuer: issuer.to_owned(), until });
        while self.former_issuers.len() > Self::MAX_FORMER_ISSUERS {
            let first = self.former_issuers.iter().enumerate().min_by_key(|(_, former)| former.until);
            let Some((first, _)) = first else { break };
            let forgotten = self.former_issuers.remove(first);
            tracing::warn!(
                issuer = forgotten.issuer,
                "the issuer has changed so often that tokens of this earlier one are no longer accepted"
            );
        }
    }
}

impl Own {
    /// Every setting that is compared, by its name.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, String> {
        let mut all = policy_settings(&self.policy, self.issuer.is_some());
        all.extend(self.settings.clone());
        all
    }
}

/// The longest time for which a token of a former issuer may live on: the life of a refresh token, and how far nodes
/// may be behind.
pub(crate) fn longest_life(policy: &SessionPolicy) -> Duration {
    policy.key_overlap(KeyPurpose::Refresh)
}

const UNSET: &str = "unset";

/// The policy's settings that are compared, by the names of its fields. Where the rules of another library hold,
/// refresh tokens are not rotated, and the settings of their rotation have no effect.
pub(crate) fn policy_settings(policy: &SessionPolicy, rotates: bool) -> BTreeMap<String, String> {
    let switch = |on: bool| (if on { "on" } else { "off" }).to_owned();
    let grace_for = match policy.grace_for {
        GraceFor::Anyone => "anyone",
        GraceFor::SameClient => "same-client",
    };
    let all = [
        ("access_lifetime", duration(policy.access_lifetime)),
        ("fresh_for", policy.fresh_for.map_or(UNSET.to_owned(), duration)),
        ("idle", duration(policy.idle)),
        ("absolute", duration(policy.absolute)),
        ("grace", duration(policy.grace)),
        ("grace_for", grace_for.to_owned()),
        ("healing", switch(policy.healing)),
        ("leeway", duration(policy.leeway)),
        ("revocation_bound", duration(policy.revocation_bound)),
    ];
    let concerns = |name: &str| rotates || !matches!(name, "grace" | "grace_for" | "healing");
    all.into_iter().filter(|(name, _)| concerns(name)).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Sets the policy's field of this name to the store's value; returns whether the value could be read.
pub(crate) fn take_over(policy: &mut SessionPolicy, setting: &str, stores: &str) -> bool {
    let field = match setting {
        "access_lifetime" => &mut policy.access_lifetime,
        "idle" => &mut policy.idle,
        "absolute" => &mut policy.absolute,
        "grace" => &mut policy.grace,
        "leeway" => &mut policy.leeway,
        "revocation_bound" => &mut policy.revocation_bound,
        "fresh_for" => {
            policy.fresh_for = parse_duration(stores);
            return true;
        }
        "grace_for" => {
            policy.grace_for = if stores == "anyone" { GraceFor::Anyone } else { GraceFor::SameClient };
            return true;
        }
        "healing" => {
            policy.healing = stores == "on";
            return true;
        }
        _ => return false,
    };
    match parse_duration(stores) {
        Some(stores) => {
            *field = stores;
            true
        }
        None => false,
    }
}

pub(crate) fn recorded(record: &AgreedSettings, name: &str) -> Option<Duration> {
    parse_duration(record.setting(name)?)
}

/// A duration as text in the largest unit that it is a whole number of: `15m`, `90s`, `14d`, `1500ms`.
fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let fitting =
        UNITS.into_iter().find(|(_, each)| millis.is_multiple_of(*each) && (millis > 0 || *each == 1_000));
    let (unit, each) = fitting.unwrap_or(("ms", 1));
    format!("{}{unit}", millis / each)
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let (unit, number) = (text.get(digits.len()..)?, digits.parse::<u64>().ok()?);
    let (_, each) = UNITS.into_iter().find(|(known, _)| *known == unit)?;
    Some(Duration::from_millis(number.checked_mul(u64::try_from(each).ok()?)?))
}

/// The units of durations, largest first.
const UNITS: [(&str, u128); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
