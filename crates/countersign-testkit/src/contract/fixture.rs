//! Users, sessions and steps for the checks, and tasks that start together.

use std::sync::Arc;
use std::time::Duration;

use countersign_core::model::{
    Advance, AdvanceCondition, Device, EndReason, Heal, Session, SessionSeed, UserSession,
};
use countersign_core::store::{End, EpochRaise, FoundSession, SessionInserted, Stores};
use countersign_jwt::random::uuid;
use countersign_jwt::{Epoch, Generation, SessionId, Timestamp, TokenId, UserId};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::{FixedClock, SeededRandom};

/// The time of the checks, with milliseconds that a store must not lose.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(FixedClock::START.as_millis() + 123);

pub(super) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Makes ids that no other check makes, so that checks can share a database.
#[derive(Debug)]
pub(super) struct Fixture {
    pub(super) random: SeededRandom,
}

impl Fixture {
    /// A fixture for the check of this name; every name gives different ids.
    pub(super) fn new(check: &str) -> Self {
        let seed = check.bytes().fold(17_u64, |seed, byte| seed.wrapping_mul(1_000_003) ^ u64::from(byte));
        Self { random: SeededRandom::new(seed) }
    }

    pub(super) fn uuid(&self) -> uuid::Uuid {
        uuid(&self.random).expect("a seeded generator never fails")
    }

    pub(super) fn user(&self) -> UserId {
        UserId::from(self.uuid())
    }

    pub(super) fn session_id(&self) -> SessionId {
        SessionId::new(self.uuid())
    }

    pub(super) fn token_id(&self) -> TokenId {
        TokenId::new(self.uuid())
    }

    /// A session that began at [`NOW`] in the user's first epoch.
    pub(super) fn session(&self, user_id: &UserId) -> Session {
        let seed = countersign_jwt::random::bytes(&self.random).expect("a seeded generator never fails");
        Session {
            user_id: user_id.clone(),
            id: self.session_id(),
            epoch: Epoch::FIRST,
            generation: Generation::FIRST,
            issued_at: NOW,
            acknowledged_at: None,
            heals: 0,
            healed_run: 0,
            seed: SessionSeed::new(seed),
            created_at: NOW,
            last_seen_at: NOW,
            idle_until: NOW + secs(14 * 86_400),
            absolute_until: NOW + secs(30 * 86_400),
            device: device("Contract/1.0"),
            ended: None,
        }
    }

    /// A session that began at [`NOW`] in the user's first epoch, inserted into the store.
    pub(super) async fn begin(&self, stores: &Stores, user_id: &UserId) -> Session {
        let session = self.session(user_id);
        insert(stores, &session).await;
        session
    }
}

pub(super) async fn insert(stores: &Stores, session: &Session) {
    let inserted = stores.sessions().insert_session(session).await.expect("the store answers");
    assert_eq!(inserted, SessionInserted::Yes, "a session of the user's epoch is inserted");
}

pub(super) async fn found(stores: &Stores, key: &UserSession) -> FoundSession {
    stores.sessions().session(key).await.expect("the store answers").expect("the session is there")
}

pub(super) fn device(agent: &str) -> Device {
    Device::new(Some(agent), "192.0.2.1".parse().ok())
}

/// The step to the next generation, on no condition but the generation.
pub(super) fn step(session: &Session, now: Timestamp, agent: &str) -> Advance {
    Advance {
        from: session.generation,
        to: session.generation.next(),
        guard: AdvanceCondition::Generation,
        now,
        idle_until: (now + secs(14 * 86_400)).min(session.absolute_until),
        device: device(agent),
    }
}

/// The step that issues the session's generation again.
pub(super) fn heal(session: &Session, now: Timestamp) -> Heal {
    Heal {
        generation: session.generation,
        issued_at: session.issued_at,
        heals: session.heals,
        now,
        idle_until: (now + secs(14 * 86_400)).min(session.absolute_until),
    }
}

pub(super) fn end(reason: EndReason, at: Timestamp) -> End {
    End { reason, at, until: at + secs(910) }
}

pub(super) fn raise(except: Option<SessionId>, at: Timestamp) -> EpochRaise {
    EpochRaise { except, reason: EndReason::AllEnded, at, until: at + secs(910) }
}

/// Runs these calls at once, each in a task of its own, which starts when all are ready. Returns the answers in the
/// order of the calls.
pub(super) async fn at_once<T, F>(calls: impl IntoIterator<Item = F>) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let calls: Vec<_> = calls.into_iter().collect();
    let barrier = Arc::new(Barrier::new(calls.len()));
    let mut tasks = JoinSet::new();
    for (number, call) in calls.into_iter().enumerate() {
        let barrier = barrier.clone();
        tasks.spawn(async move {
            barrier.wait().await;
            (number, call.await)
        });
    }
    let mut answers = tasks.join_all().await;
    answers.sort_by_key(|(number, _)| *number);
    answers.into_iter().map(|(_, answer)| answer).collect()
}
