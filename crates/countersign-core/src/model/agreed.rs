//! The settings in which all programs of one store must agree, kept in the store: what one program promises, another
//! one must keep. With them the issuers of tokens before the present one, whose tokens are good until they expire.
//!
//! The first program writes the record. Every later one compares its own settings with it before it serves: a program
//! whose settings differ is refused, unless it was told to make its own the store's ([`Stance::Change`]).
//!
//! # Which settings, and why
//!
//! | setting | what happens where two programs differ |
//! |---|---|
//! | `access_lifetime` | who ends a session remembers that for as long as its own access tokens live; the other's live longer, and pass again |
//! | `idle`, `absolute` | how long a session lives depends on who refreshed it last; a replaced key is forgotten while the other's tokens need it |
//! | `leeway`, `revocation_bound` | the same: both are part of how long keys verify and when a new one signs |
//! | `grace`, `grace_for`, `healing` | what one serves again is theft to the other, and ends the session |
//! | `fresh_for` | of two answers to one refresh token, one is fresh |
//! | `profile`, and what a program [adds](Own::settings) | the tokens of one are none to the other |
//!
//! Not in it: what one program decides for itself without breaking another one's promise, such as how many sessions a user
//! may have, when keys are replaced, what a password hash costs and where cookies go.
//!
//! Of an application's shared secret nothing is kept here, not even a hash: whoever reads the store could try guesses on it.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_jwt::issuers::{FormerIssuer, KnownIssuers};
use countersign_jwt::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::{GraceFor, KeyPurpose, SessionPolicy};

/// What the store remembers of its programs' settings.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct AgreedSettings {
    /// Values by the name of the setting.
    #[serde(default)]
    pub(crate) settings: BTreeMap<String, String>,
    /// The `iss` of new tokens.
    #[serde(default)]
    pub(crate) issuer: Option<String>,
    /// Issuers whose tokens may still be alive.
    #[serde(default)]
    pub(crate) former_issuers: Vec<FormerIssuer>,
    /// What a later version has added, which stays.
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// The settings of one program, as they are compared.
#[derive(Clone, Debug)]
pub struct Own {
    /// The `iss` of its tokens; `None` where another library's rules hold, which have an issuer of their own or none.
    pub issuer: Option<String>,
    /// Issuers that a program without a record may have had: their tokens are good, too, where there is no record yet.
    pub maybe_before: Vec<String>,
    /// Lifetimes and rules.
    pub policy: SessionPolicy,
    /// Further settings by name, beside those of the policy: the profile.
    pub settings: BTreeMap<String, String>,
}

/// What a program does about settings that differ from the store's.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Stance {
    /// It does not start.
    #[default]
    Agree,
    /// It makes its own the store's.
    Change,
    /// It goes by the store's and writes nothing: a command of the operator beside the servers.
    Follow,
}

/// A setting in which a program and its store differ.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// Its name.
    pub setting: String,
    /// The program's value.
    pub own: String,
    /// The store's.
    pub stores: String,
}

impl AgreedSettings {
    /// How many former issuers are remembered; of more, the one goes whose tokens expire first.
    pub const MAX_FORMER_ISSUERS: usize = 16;

    /// Reads the record.
    ///
    /// # Errors
    /// [`serde_json::Error`] if the text is none.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The record as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        // A map with text for names has a JSON form.
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

    /// The issuers beside `own` whose tokens are good.
    #[must_use]
    pub fn issuers_beside(&self, own: Option<&str>) -> KnownIssuers {
        let present =
            self.issuer.iter().map(|issuer| FormerIssuer { issuer: issuer.clone(), until: Timestamp::MAX });
        let all = present.chain(self.former_issuers.iter().cloned());
        all.filter(|known| Some(known.issuer.as_str()) != own).collect()
    }

    /// In which settings a program differs from this.
    #[must_use]
    pub fn differences(&self, own: &BTreeMap<String, String>) -> Vec<Difference> {
        let differs = |(name, value): (&String, &String)| {
            let stores = self.settings.get(name).filter(|stores| *stores != value)?;
            Some(Difference { setting: name.clone(), own: value.clone(), stores: stores.clone() })
        };
        own.iter().filter_map(differs).collect()
    }

    /// Makes `issuer` the present one and remembers the one before for `life`, which is how long its longest token lives.
    /// Returns the one before.
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

    /// Remembers a former issuer at least until then, and forgets those whose time has passed.
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
    /// Every setting that is compared, by name.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, String> {
        let mut all = policy_settings(&self.policy, self.issuer.is_some());
        all.extend(self.settings.clone());
        all
    }
}

/// For how long the longest token of an issuer may live on: a refresh token, with what nodes may be behind.
pub(crate) fn longest_life(policy: &SessionPolicy) -> Duration {
    policy.key_overlap(KeyPurpose::Refresh)
}

const UNSET: &str = "unset";

/// The policy's part of what is compared, by the names of its fields. Where another library's rules hold, refresh tokens
/// are not rotated, and what is about their rotation has no effect.
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

/// Gives the policy's field of this name the store's value; returns whether it could be read.
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

/// In the largest unit that it is a whole number of: `15m`, `90s`, `14d`, `1500ms`.
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

/// Largest first.
const UNITS: [(&str, u128); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
