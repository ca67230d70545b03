//! The database: reachable, durable, up to date; with the keys, the clock and the servers that it tells of.

use std::time::Duration;

use countersign_core::flow::StoreClock;
use countersign_core::model::{Difference, KeyPurpose, KeyState, StoredKey, key_state};
use countersign_core::store::{AuditPage, StoreError, Stores, Weakness};
use countersign_jwt::Timestamp;

use super::{About, Report, Severity, servers};
use crate::command::auth_over;
use crate::settings::{Settings, named, told};
use crate::store::{Database, existing_secrets};

const DAY: Duration = Duration::from_secs(86_400);
/// What is dated later than this from now was written by a clock that was ahead.
const AHEAD: Duration = Duration::from_secs(60);

pub(super) async fn examine(settings: &Settings, now: Timestamp, report: &mut Report) {
    if settings.is_database_missing() {
        report.note(
            About::Database,
            format!("{} is not there yet; the server makes it when it starts", settings.database),
            "if there should be one, look at COUNTERSIGN_DATABASE_URL and the folder in which this runs",
        );
        return;
    }
    let database = match Database::open_as_it_is(settings).await {
        Ok(database) => database,
        Err(error) => {
            let remedy = if error.is_outdated() {
                "make a backup, then run: countersign migrate (or start the server, which does the same)"
            } else {
                "see to the engine, to COUNTERSIGN_DATABASE_URL and to COUNTERSIGN_SESSIONS_URL (docs/stores.md)"
            };
            report.error(About::Database, told(&error), remedy);
            return;
        }
    };
    let stores = database.stores();
    for weakness in database.weaknesses() {
        match weakness {
            Weakness::MayLose(sentence) => report.warning(
                About::Database,
                sentence,
                "change the engine's setting, or know what you may lose (docs/stores.md)",
            ),
            _ => report.error(
                About::Database,
                "the engine does not settle races: two servers may both take one refresh token",
                "use another engine, or run one server alone (docs/stores.md)",
            ),
        }
    }
    if let Err(error) = clock_of_store(&stores, now, report).await {
        report.error(About::Database, told(&error), "see to the engine");
        return;
    }
    if let Err(error) = records(settings, &stores, now, report).await {
        report.error(About::Database, told(&error), "see to the engine");
    }
    match database.has_keys().await {
        // Nothing is sealed yet, and to go on would make the secret and the keys.
        Ok(false) => {}
        Ok(true) => agreement(settings, &database, report).await,
        Err(error) => report.error(About::Database, told(&error), "see to the engine"),
    }
    report.good_if_nothing_else(About::Database, format!("{} answers and is up to date", settings.database));
}

/// Whether a server could work with this database: the secret opens the keys, and the settings fit the store's.
async fn agreement(settings: &Settings, database: &Database, report: &mut Report) {
    let auth = match existing_secrets(settings) {
        Ok(secrets) => auth_over(database, secrets, settings).await,
        Err(error) => Err(error),
    };
    let auth = match auth {
        Ok((auth, _)) => auth,
        Err(error) => return report.complaint(About::Database, Severity::Error, told(&*error)),
    };
    for Difference { setting, own, stores } in auth.engine().overruled_settings() {
        let setting = named(setting, &settings.profile);
        report.error(
            About::Settings,
            format!(
                "{setting} is {own} here and {stores} in the store, for all of its servers; a server with these settings \
                 does not start"
            ),
            "give it the store's value, or change it for all with COUNTERSIGN_SETTINGS_CHANGE=yes (docs/scaling.md)",
        );
    }
}

async fn clock_of_store(stores: &Stores, now: Timestamp, report: &mut Report) -> Result<(), StoreError> {
    let Some(there) = stores.revocations().time().await? else { return Ok(()) };
    let apart = there.since(now).max(now.since(there));
    if apart > StoreClock::REMARKABLE {
        report.error(
            About::Clock,
            format!("this machine's clock is {} s off from the database's", apart.as_secs()),
            "set it right, and let both keep time by NTP (timedatectl)",
        );
    } else {
        report.good(About::Clock, "this machine and the database agree on the time");
    }
    Ok(())
}

/// What the records in the database tell.
async fn records(
    settings: &Settings,
    stores: &Stores,
    now: Timestamp,
    report: &mut Report,
) -> Result<(), StoreError> {
    let stored = stores.keys().keys().await?;
    let newest = stores.audit().audit(&AuditPage { limit: 1, ..AuditPage::default() }).await?;
    let written = stored.iter().map(|key| key.created_at).chain(newest.iter().map(|record| record.at)).max();
    if let Some(written) = written.filter(|written| *written > now + AHEAD) {
        report.error(
            About::Clock,
            format!(
                "something in the database is dated {} s from now: this machine's clock was set back, or was ahead",
                written.since(now).as_secs()
            ),
            "set the clock right before the server starts again (timedatectl)",
        );
    }
    if settings.profile.is_native() {
        keys(settings, &stored, now, report);
    }
    servers::examine(stores, now, report).await?;
    let dead = stores.outbox().dead_letters(None, 100).await?;
    if let Some(first) = dead.first() {
        let count = if dead.len() == 100 { "100 or more".to_owned() } else { dead.len().to_string() };
        let why = first.last_error.as_deref().unwrap_or("no reason is known").escape_debug().to_string();
        report.warning(
            About::Mail,
            format!("mails that could not be sent: {count}; of one: {why}"),
            "countersign mail list shows them; when the reason is gone: countersign mail retry --all",
        );
    }
    Ok(())
}

/// The age of the keys that sign.
fn keys(settings: &Settings, stored: &[StoredKey], now: Timestamp, report: &mut Report) {
    if stored.is_empty() {
        report.note(About::Keys, "there are none yet", "the server makes them when it starts");
        return;
    }
    let policy = &settings.policy;
    let mut ages = Vec::new();
    for purpose in [KeyPurpose::Access, KeyPurpose::Refresh] {
        let name = purpose.name();
        let state = |key: &&StoredKey| key_state(key, stored, now, policy.key_overlap(purpose));
        let of_purpose = || stored.iter().filter(|key| key.purpose == purpose);
        let Some(active) = of_purpose().find(|key| state(key) == KeyState::Active) else {
            report.error(
                About::Keys,
                format!("no key signs {name} tokens"),
                format!("run: countersign key rotate --purpose {name}"),
            );
            continue;
        };
        let age = now.since(active.active_at);
        let days = age.as_secs() / DAY.as_secs();
        let has_next = of_purpose().any(|key| state(&key) == KeyState::Next);
        match policy.key_rotation {
            Some(every) if age > every + DAY && !has_next => report.warning(
                About::Keys,
                format!(
                    "the key of {name} tokens signs for {days} days, but should have been changed after {}",
                    every.as_secs() / DAY.as_secs()
                ),
                format!(
                    "let a server run, which changes it, or run: countersign key rotate --purpose {name}"
                ),
            ),
            None if age > DAY * 365 => report.note(
                About::Keys,
                format!(
                    "the key of {name} tokens signs for {days} days, and COUNTERSIGN_KEY_ROTATION is off"
                ),
                format!("change it now and then: countersign key rotate --purpose {name}"),
            ),
            _ => ages.push(format!("{days} days ({name})")),
        }
    }
    report.good_if_nothing_else(About::Keys, format!("those that sign do so for {}", ages.join(", ")));
}
