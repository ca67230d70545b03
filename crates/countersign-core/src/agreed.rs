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

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use countersign_jwt::issuers::{FormerIssuer, KnownIssuers};

use crate::session::{GraceFor, SessionPolicy};
use crate::store::{KeyPurpose, KeyStore, StoreError};
use countersign_jwt::time::Timestamp;

/// What the store remembers of its programs' settings.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct AgreedSettings {
    /// Values by the name of the setting.
    #[serde(default)]
    settings: BTreeMap<String, String>,
    /// The `iss` of new tokens.
    #[serde(default)]
    issuer: Option<String>,
    /// Issuers whose tokens may still be alive.
    #[serde(default)]
    former_issuers: Vec<FormerIssuer>,
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

/// Why there is no agreement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgreementError {
    /// Settings differ from those that the store's programs agreed on.
    #[error("{}", describe(.0))]
    Differ(Vec<Difference>),
    /// What is in the store is no record of settings.
    #[error(
        "the store's record of agreed settings cannot be read; restore it from a backup, or remove it and start again"
    )]
    Damaged(#[source] serde_json::Error),
    /// Other programs changed the record at the same time, again and again.
    #[error("other programs changed the store's record of settings at the same time; start again")]
    Contended,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What came of comparing.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// The `iss` of new tokens, if the program has one.
    pub issuer: Option<String>,
    /// Lifetimes and rules: the program's own or, where it follows, the store's.
    pub policy: SessionPolicy,
    /// Other issuers of this store's tokens.
    pub issuers: KnownIssuers,
    /// The issuer that this program's has just taken the place of.
    pub issuer_before: Option<String>,
    /// What this program has changed in the store or, where it follows, in its own settings.
    pub changed: Vec<Difference>,
}

impl AgreedSettings {
    /// How many former issuers are remembered; of more, the one goes whose tokens expire first.
    pub const MAX_FORMER_ISSUERS: usize = 16;

    /// Reads the record.
    ///
    /// # Errors
    /// [`AgreementError::Damaged`] if the text is none.
    pub fn parse(text: &str) -> Result<Self, AgreementError> {
        serde_json::from_str(text).map_err(AgreementError::Damaged)
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
    fn change_issuer(&mut self, issuer: &str, now: Timestamp, life: Duration) -> Option<String> {
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
    fn remember(&mut self, issuer: &str, now: Timestamp, until: Timestamp) {
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

/// Compares a program's settings with its store's, and writes what is new. Of programs that start at once on a store
/// without a record, one writes it and the others are compared with that.
///
/// # Errors
/// [`AgreementError::Differ`] names each setting in which they differ, with both values.
pub async fn agree(
    store: &dyn KeyStore,
    own: &Own,
    stance: Stance,
    now: Timestamp,
) -> Result<Agreement, AgreementError> {
    for _ in 0..TRIES {
        let text = store.settings().await?;
        let found = text.as_deref().map(AgreedSettings::parse).transpose()?;
        if stance == Stance::Follow {
            return follow(&found.unwrap_or_default(), own);
        }
        let is_first = found.is_none();
        let mut record = found.unwrap_or_default();
        let before = record.clone();
        let changed = record.differences(&own.all());
        if stance == Stance::Agree && !changed.is_empty() {
            return Err(AgreementError::Differ(changed));
        }
        let life =
            longest_life(&own.policy).max(recorded(&record, "absolute").map_or(Duration::ZERO, |absolute| {
                longest_life(&SessionPolicy { absolute, ..own.policy.clone() })
            }));
        record.settings.extend(own.all());
        let mut issuer_before = None;
        if let Some(issuer) = &own.issuer {
            issuer_before = record.change_issuer(issuer, now, life);
            if is_first {
                for maybe in own.maybe_before.iter().filter(|maybe| *maybe != issuer) {
                    record.remember(maybe, now, now + life);
                }
            }
        }
        if record == before || store.replace_settings(text.as_deref(), &record.to_text()).await? {
            return Ok(Agreement {
                issuer: own.issuer.clone(),
                policy: own.policy.clone(),
                issuers: record.issuers_beside(own.issuer.as_deref()),
                issuer_before,
                changed,
            });
        }
    }
    Err(AgreementError::Contended)
}

/// Takes the store's settings over, as far as they are lifetimes, rules and the issuer.
fn follow(record: &AgreedSettings, own: &Own) -> Result<Agreement, AgreementError> {
    let others = record.differences(&own.settings);
    if !others.is_empty() {
        return Err(AgreementError::Differ(others));
    }
    let mut changed = record.differences(&own.all());
    let mut policy = own.policy.clone();
    changed.retain(|difference| take_over(&mut policy, &difference.setting, &difference.stores));
    let issuer = own.issuer.as_ref().map(|own| record.issuer.as_ref().unwrap_or(own).clone());
    let mut issuers = record.issuers_beside(issuer.as_deref());
    if let Some(own) = own.issuer.iter().find(|own| Some(*own) != issuer.as_ref()) {
        changed.push(Difference {
            setting: "issuer".to_owned(),
            own: own.clone(),
            stores: issuer.clone().unwrap_or_default(),
        });
    }
    if record.issuer.is_none() {
        let unknown = |issuer: &&String| !issuers.iter().any(|known| known.issuer == **issuer);
        let maybe: Vec<_> = own.maybe_before.iter().filter(unknown).cloned().collect();
        issuers.extend(maybe.into_iter().map(|issuer| FormerIssuer { issuer, until: Timestamp::MAX }));
    }
    Ok(Agreement { issuer, policy, issuers, issuer_before: None, changed })
}

/// Keeps `own`, the issuer of a program that runs, known while another program has made its own the store's; returns the
/// record, if there is one.
///
/// # Errors
/// As for [`agree`]; the next call tries again.
pub(crate) async fn keep_known(
    store: &dyn KeyStore,
    own: Option<&str>,
    policy: &SessionPolicy,
    now: Timestamp,
) -> Result<Option<AgreedSettings>, AgreementError> {
    for _ in 0..TRIES {
        let Some(text) = store.settings().await? else { return Ok(None) };
        let mut record = AgreedSettings::parse(&text)?;
        let life = longest_life(policy);
        let Some(own) = own.filter(|own| record.issuer.as_deref() != Some(*own)) else {
            return Ok(Some(record));
        };
        // Half of the time is left, so that this is written seldom.
        if record.former_issuers.iter().any(|former| former.issuer == own && former.until > now + life / 2) {
            return Ok(Some(record));
        }
        record.remember(own, now, now + life);
        if store.replace_settings(Some(&text), &record.to_text()).await? {
            return Ok(Some(record));
        }
    }
    Err(AgreementError::Contended)
}

/// For how long the longest token of an issuer may live on: a refresh token, with what nodes may be behind.
fn longest_life(policy: &SessionPolicy) -> Duration {
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
fn take_over(policy: &mut SessionPolicy, setting: &str, stores: &str) -> bool {
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

fn recorded(record: &AgreedSettings, name: &str) -> Option<Duration> {
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

/// How often the record may change under a program that starts.
const TRIES: u32 = 16;

fn describe(differences: &[Difference]) -> String {
    let one = |difference: &Difference| {
        let Difference { setting, own, stores } = difference;
        format!("{setting} is {own} here and {stores} in the store")
    };
    let all: Vec<_> = differences.iter().map(one).collect();
    format!("settings differ from those that the programs of this store agreed on: {}", all.join("; "))
}
