//! The background tasks of a node: they tail the revocation log, write acknowledgements, purge, replace keys, and
//! report what was counted.

use std::sync::Arc;
use std::time::Duration;

use countersign_jwt::time::{Clock, Timestamp};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use crate::flow::accounts::hour;
use crate::flow::{Accounts, Profile, RevocationView, Sessions, ViewStats};
use crate::model::{Event, KEEP_ATTEMPTS_FOR, StoredKey};
use crate::store::{
    ADDRESS_COUNTERS, BLOCK_COUNTERS, Changes, KEEP_ADDRESS_COUNTERS, KEEP_BLOCK_COUNTERS, KEEP_ENTRIES_FOR,
    KEEP_MAIL_COUNTERS, KEEP_NAME_COUNTERS, MAIL_COUNTERS, NAME_COUNTERS, StoreError, Stores,
};

/// The running background tasks of a node. They stop when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Background {
    tasks: Vec<Arc<Tasks>>,
}

#[derive(Debug)]
struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// How often acknowledgements are written.
pub const FLUSH_EVERY: Duration = Duration::from_secs(5);
/// How often rows that have expired are purged.
pub const PURGE_EVERY: Duration = Duration::from_secs(60);
/// How often the node checks whether a key is to be replaced.
pub const ROTATE_EVERY: Duration = Duration::from_secs(60);
/// How often the node checks whether other programs have changed the store's settings.
pub const SETTINGS_EVERY: Duration = Duration::from_secs(60);
/// How often the node checks whether counted events are to be reported.
pub const TELL_EVERY: Duration = Duration::from_secs(10);
/// The longest pause between two reads of pushed entries.
const LONGEST_PUSH_PAUSE: Duration = Duration::from_millis(10);
/// The most rows that one purging statement deletes, so that it never blocks others for long.
pub const PURGE_BATCH: usize = 500;

impl Background {
    /// Starts the tasks on this runtime. The revocation log is read five times within the revocation bound.
    #[must_use]
    pub fn start(runtime: &Handle, sessions: &Sessions, stores: &Stores) -> Self {
        let poll_every = (sessions.policy().revocation_bound / 5).max(Duration::from_millis(200));
        let tail = {
            let sessions = sessions.clone();
            spawn_every(runtime, poll_every, "read the revocation log", move || {
                let sessions = sessions.clone();
                async move {
                    let polled = sessions.keys().poll().await;
                    measure(sessions.view(), polled.is_ok());
                    polled
                }
            })
        };
        let flush = {
            let sessions = sessions.clone();
            spawn_every(runtime, FLUSH_EVERY, "write acknowledgements", move || {
                let sessions = sessions.clone();
                async move { sessions.verification().flush_acknowledgements().await }
            })
        };
        let purge = {
            let (sessions, stores) = (sessions.clone(), stores.clone());
            spawn_every(runtime, PURGE_EVERY, "purge what has expired", move || {
                let (sessions, stores) = (sessions.clone(), stores.clone());
                async move { purge(&stores, &*sessions.clock(), sessions.policy().leeway).await }
            })
        };
        let rotate = {
            let sessions = sessions.clone();
            spawn_every(runtime, ROTATE_EVERY, "replace keys", move || {
                let sessions = sessions.clone();
                async move {
                    rotate(&sessions).await;
                    Ok(())
                }
            })
        };
        let settings = {
            let sessions = sessions.clone();
            spawn_every(runtime, SETTINGS_EVERY, "look at the settings", move || {
                let sessions = sessions.clone();
                async move {
                    if let Err(error) = sessions.keys().tend_settings().await {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "could not look at the settings"
                        );
                    }
                    Ok(())
                }
            })
        };
        let mut tasks = vec![tail, flush, purge, rotate, settings];
        if let Some(changes) = stores.revocations().changes() {
            tasks.push(runtime.spawn(read_pushed(sessions.clone(), changes)).abort_handle());
        }
        Self { tasks: vec![Arc::new(Tasks(tasks))] }
    }

    /// Starts the background tasks for accounts too, which report refused registrations and failed logins, and remove
    /// deleted accounts.
    #[must_use]
    pub fn with_accounts(mut self, runtime: &Handle, accounts: &Accounts) -> Self {
        let profile = Profile::of(accounts);
        let remove = spawn_every(runtime, PURGE_EVERY, "remove deleted accounts", move || {
            let profile = profile.clone();
            async move { batches(|batch| profile.remove_deleted(batch)).await }
        });
        let accounts = accounts.clone();
        let tell =
            spawn_every(runtime, TELL_EVERY, "tell of refused registrations and failed logins", move || {
                accounts.tell_refused_registrations();
                accounts.tell_failed_logins();
                std::future::ready(Ok(()))
            });
        self.tasks.push(Arc::new(Tasks(vec![tell, remove])));
        self
    }
}

/// Reports the view's numbers through the `metrics` crate.
fn measure(view: &RevocationView, is_good: bool) {
    let ViewStats { entries, age, lag, clock_offset } = view.stats();
    metrics::gauge!("countersign_revocation_entries").set(u32::try_from(entries).unwrap_or(u32::MAX));
    metrics::gauge!("countersign_revocation_view_age_seconds")
        .set(age.unwrap_or(Duration::MAX).as_secs_f64());
    if let Some(lag) = lag {
        metrics::gauge!("countersign_revocation_lag_seconds").set(lag.as_secs_f64());
    }
    metrics::gauge!("countersign_clock_offset_seconds").set(clock_offset.as_secs_f64());
    let outcome = if is_good { "good" } else { "failed" };
    metrics::counter!("countersign_revocation_polls_total", "outcome" => outcome).increment(1);
}

/// Reads the revocation log whenever the store announces that it has grown.
async fn read_pushed(sessions: Sessions, mut changes: Changes) {
    let clock = sessions.clock();
    while changes.next().await {
        let began = clock.monotonic();
        if let Err(error) = sessions.keys().read_pushed().await {
            tracing::debug!(error = &error as &dyn std::error::Error, "could not read what was pushed");
        }
        // However often the log grows, reading takes a fifth of the time; the pause is bounded, so that the next entry
        // does not wait long.
        let pause = clock.monotonic().saturating_sub(began) * 4;
        tokio::time::sleep(pause.min(LONGEST_PUSH_PAUSE)).await;
    }
}

/// Deletes, batch by batch, the rows that nobody needs any more: sessions after their absolute expiry and leeway, log
/// entries an hour after they stopped mattering, one-time secrets and known devices when they have
/// expired, login counters of addresses an hour after theirs, and the other login counters 30 days after they changed.
///
/// Counters of which strangers can make any number are deleted sooner where there are too many of them: 100,000 of names
/// and of mails, 200,000 of addresses, 1,000,000 of accounts with blocks of addresses.
///
/// # Errors
/// The first [`StoreError`] of the deletions. Each of them is tried whatever came of the others, and the next round goes
/// on.
pub async fn purge(stores: &Stores, clock: &dyn Clock, leeway: Duration) -> Result<(), StoreError> {
    let now: Timestamp = clock.now();
    let mut purged = batches(|batch| stores.sessions().purge_sessions(now - leeway, batch)).await;
    let entries = batches(|batch| stores.revocations().purge_entries(now - KEEP_ENTRIES_FOR, batch)).await;
    let devices = batches(|batch| stores.devices().purge_devices(now, batch)).await;
    let throttles = stores.throttles();
    let attempts = batches(|batch| throttles.purge_attempts(now - KEEP_ATTEMPTS_FOR, batch)).await;
    let secrets = batches(|batch| stores.one_time().purge_secrets(now, batch)).await;
    purged = purged.and(entries).and(devices).and(attempts).and(secrets);
    // Two nodes may disagree on the hour while it changes, so the hour before is kept.
    let past = format!("{}{:010}", ADDRESS_COUNTERS.start, hour(now).saturating_sub(1));
    for (keys, keep) in [
        (ADDRESS_COUNTERS.start..past.as_str(), 0),
        (ADDRESS_COUNTERS, KEEP_ADDRESS_COUNTERS),
        (NAME_COUNTERS, KEEP_NAME_COUNTERS),
        (BLOCK_COUNTERS, KEEP_BLOCK_COUNTERS),
        (MAIL_COUNTERS, KEEP_MAIL_COUNTERS),
    ] {
        let thinned = batches(|batch| throttles.thin_attempts(keys.clone(), keep, batch)).await;
        purged = purged.and(thinned);
    }
    purged
}

/// Replaces the keys whose time has come, and logs it.
async fn rotate(sessions: &Sessions) {
    match sessions.keys().rotate_due().await {
        Ok(made) => {
            for StoredKey { key_id, purpose, .. } in made {
                sessions.tell(&Event::KeyMade { key_id, purpose });
            }
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "could not replace keys");
        }
    }
}

/// Deletes one batch after the other until one is not full.
async fn batches<Deleting>(delete: impl Fn(usize) -> Deleting) -> Result<(), StoreError>
where
    Deleting: Future<Output = Result<u64, StoreError>>,
{
    while delete(PURGE_BATCH).await? >= PURGE_BATCH as u64 {}
    Ok(())
}

fn spawn_every<F, Work>(runtime: &Handle, period: Duration, what: &'static str, work: F) -> AbortHandle
where
    F: Fn() -> Work + Send + 'static,
    Work: Future<Output = Result<(), StoreError>> + Send + 'static,
{
    let inner = runtime.clone();
    runtime
        .spawn(async move {
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // The work runs in a task of its own, so that a driver that panics once does not stop the rounds that
                // follow.
                match inner.spawn(work()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "could not {what}");
                    }
                    Err(error) => {
                        tracing::error!(error = &error as &dyn std::error::Error, "could not {what}");
                    }
                }
            }
        })
        .abort_handle()
}
