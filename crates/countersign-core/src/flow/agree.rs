//! The agreement of a store's programs on settings, at the start and while a program runs.

use std::time::Duration;

use countersign_jwt::issuers::{FormerIssuer, KnownIssuers};
use countersign_jwt::time::Timestamp;

use crate::model::agreed::{longest_life, recorded, take_over};
use crate::model::{AgreedSettings, Difference, Own, SessionPolicy, Stance};
use crate::store::{KeyStore, StoreError};

/// The reason why a program and its store do not agree on settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgreementError {
    /// The program's settings differ from those that the store's programs agreed on.
    #[error("{}", describe(.0))]
    Differ(Vec<Difference>),
    /// The store's record of settings cannot be read.
    #[error(
        "the store's record of agreed settings cannot be read; restore it from a backup, or remove it and start again"
    )]
    Damaged(#[from] serde_json::Error),
    /// Other programs kept changing the record at the same time.
    #[error("other programs changed the store's record of settings at the same time; start again")]
    Contended,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The settings that a program works with after it was compared with its store.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// The `iss` of new tokens; `None` if the program sets none.
    pub issuer: Option<String>,
    /// Lifetimes and rules: the program's own, or the store's if the program follows the store.
    pub policy: SessionPolicy,
    /// The issuers other than [`issuer`](Self::issuer) whose tokens from this store are accepted.
    pub issuers: KnownIssuers,
    /// The issuer that this program's issuer has just replaced in the store.
    pub issuer_before: Option<String>,
    /// The settings that this program has changed in the store or, if it follows the store, in its own settings.
    pub changed: Vec<Difference>,
}

/// Compares a program's settings with its store's, and writes what is new. If several programs start at once on a store
/// without a record, one writes it and the others are compared with that record.
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

/// Takes over the store's settings that are lifetimes, rules or the issuer.
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

/// Keeps `own`, the issuer of a running program, among the known issuers while another program has made its own issuer
/// the store's. Returns the record, if there is one.
///
/// # Errors
/// Those of [`agree`]; the next call tries again.
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
        // The record is left alone while half of the time is left, so that it is seldom written.
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
