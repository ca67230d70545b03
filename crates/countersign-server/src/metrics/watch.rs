//! Looks from time to time at what changes without anybody counting it.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use countersign_axum::Auth;
use countersign_core::model::{KeyPurpose, KeyState, key_state};
use countersign_core::store::{StoreError, Stores};
use countersign_jwt::Timestamp;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::declared::{
    AUDIT_WAITING, HASHES_RUNNING, HASHES_WAITING, KEY_AGE, KEY_DUE, MAILS_DEAD, MAILS_OVERDUE,
    MAILS_WAITING, READY, VIEW_AGE,
};
use crate::audit::Trail;
use crate::readiness::{Part, Readiness};

/// How often what is in memory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the store is asked.
const ASK_EVERY: Duration = Duration::from_secs(15);

/// Looks at the server from now on, until the set is dropped. A store that does not answer delays only what it is asked
/// for.
pub(crate) fn watch(auth: &Auth, stores: &Stores, trail: &Arc<Trail>) -> JoinSet<()> {
    let mut watching = JoinSet::new();
    let (seen, trail) = (auth.clone(), trail.clone());
    let (running, waiting) = (HASHES_RUNNING.gauge(&[]), HASHES_WAITING.gauge(&[]));
    let (age, records) = (VIEW_AGE.gauge(&[]), AUDIT_WAITING.gauge(&[]));
    watching.spawn(every(LOOK_EVERY, async move || {
        let load = seen.accounts().hasher().load();
        running.set(number(load.running));
        waiting.set(number(load.waiting));
        // The view says so itself after each poll, but a poll may hang.
        age.set(seen.sessions().view().age().unwrap_or(Duration::MAX).as_secs_f64());
        records.set(number(trail.len()));
    }));
    let readiness = Readiness::of(auth);
    watching.spawn(every(ASK_EVERY, async move || {
        let unready = readiness.unready().await;
        for part in Part::ALL {
            let is_ready = !unready.contains(&part);
            READY.gauge(&[("part", part.name())]).set(if is_ready { 1.0 } else { 0.0 });
        }
    }));
    let (auth, stores) = (auth.clone(), stores.clone());
    watching.spawn(every(ASK_EVERY, async move || {
        let now = auth.sessions().clock().now();
        if let Err(error) = ask(&auth, &stores, now).await {
            tracing::debug!(error = &error as &dyn Error, "some metrics are out of date");
        }
    }));
    watching
}

async fn ask(auth: &Auth, stores: &Stores, now: Timestamp) -> Result<(), StoreError> {
    let keys = stores.keys().keys().await?;
    let schedule = auth.sessions().policy().key_schedule();
    for purpose in [KeyPurpose::Access, KeyPurpose::Refresh] {
        let is_active = |state| state == KeyState::Active;
        let of_purpose = keys.iter().filter(|key| key.purpose == purpose);
        // How long keys verify after they were replaced does not matter to the one that signs.
        let signing = of_purpose.clone().find(|key| is_active(key_state(key, &keys, now, Duration::ZERO)));
        let Some(signing) = signing else { continue };
        let labels = [("purpose", purpose.name())];
        KEY_AGE.gauge(&labels).set(now.since(signing.active_at).as_secs_f64());
        if let Some(schedule) = schedule {
            let due = signing.active_at + schedule.every;
            KEY_DUE.gauge(&labels).set(due.since(now).as_secs_f64() - now.since(due).as_secs_f64());
        }
    }
    let size = stores.outbox().outbox_size().await?;
    MAILS_WAITING.gauge(&[]).set(size.waiting as f64);
    MAILS_DEAD.gauge(&[]).set(size.dead as f64);
    let overdue = size.first_due.map_or(Duration::ZERO, |due| now.since(due));
    MAILS_OVERDUE.gauge(&[]).set(overdue.as_secs_f64());
    Ok(())
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

async fn every(period: Duration, mut look: impl AsyncFnMut()) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        look().await;
    }
}
