//! The decision on a presented refresh token: a pure function of the session's row, the generation that the token
//! carries, and the time. `docs/design.md` has the table that it implements.
//!
//! A refresh token is good once. But replies get lost, tabs refresh at the same moment and proxies retry, so a refresh
//! token whose successor exists does not prove a theft. The rules of [`decide`] tell the honest repetitions from
//! replays.

use std::time::Duration;

use countersign_jwt::id::{Epoch, Generation, SessionId};
use countersign_jwt::time::Timestamp;

use crate::model::policy::{GraceFor, SessionPolicy};
use crate::model::session::{Device, Session};

/// The decision on a presented refresh token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// The session no longer lives. The client gets 401, and no event is emitted.
    Refuse(Refusal),
    /// Advance the session to a new generation.
    Advance(Advance),
    /// Answer with the current generation's pair again. Nothing is written.
    Reserve,
    /// Issue the current generation again with new times, because its first issue never arrived.
    Heal(Heal),
    /// End the session, because somebody holds a copy of the token.
    Replay,
}

/// The reason why a session can no longer be refreshed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No such session exists: there never was one, or it is gone after its absolute expiry.
    #[error("there is no such session")]
    Unknown,
    /// The session was ended.
    #[error("the session was ended")]
    Ended,
    /// All the user's sessions of this session's epoch were ended.
    #[error("the user's sessions were all ended after this session's login")]
    EpochRaised,
    /// The session was idle for too long, or its absolute lifetime is over.
    #[error("the session has expired")]
    Expired,
    /// The session's user is disabled or no longer exists.
    #[error("the user is disabled or gone")]
    User,
    /// The refresh token is an old one whose successor is in use. This reason is given only for a token that is checked
    /// and not exchanged; an exchange of such a token is a replay.
    #[error("the refresh token has been superseded")]
    Superseded,
}

/// The facts about a session that are not in its row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Circumstances {
    /// Whether the log has an entry that ends this session.
    pub ended_in_log: bool,
    /// The highest epoch that the log sets for this session, which is that of the user's entries that do not except it.
    pub epoch_in_log: Epoch,
    /// Whether the user exists and is enabled.
    pub user_enabled: bool,
    /// Whether the current generation's access token is revoked in the log. Its holder needs another one at once, so
    /// the pair must not be reserved.
    pub access_revoked: bool,
}

impl Circumstances {
    /// Circumstances in which nothing prevents a refresh.
    pub const CLEAR: Self =
        Self { ended_in_log: false, epoch_in_log: Epoch::FIRST, user_enabled: true, access_revoked: false };
}

/// One conditional step to the next generation, carried out by the store only if every condition still holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Advance {
    /// The generation that was read. The row must still have it for the step to be taken.
    pub from: Generation,
    /// The new generation.
    pub to: Generation,
    /// The condition that the row must meet beside [`from`](Self::from).
    pub guard: AdvanceCondition,
    /// The time of the step, which becomes the new generation's `issued_at`. The session must not have expired by then.
    pub now: Timestamp,
    /// The new idle expiry. The row takes its absolute expiry instead if that is earlier.
    pub idle_until: Timestamp,
    /// The device of the client that refreshes.
    pub device: Device,
}

/// The condition on a row, beside its generation, under which an [`Advance`] is right.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AdvanceCondition {
    /// The row has the generation that was read; there is no other condition.
    Generation,
    /// The current generation was issued exactly at this time, so it was not healed meanwhile.
    IssuedAt(Timestamp),
    /// The time of the step is outside the window in which the current generation is reserved.
    OutsideReserve {
        /// The time before `issued_at` at which the window starts.
        leeway: Duration,
        /// The time after `issued_at` at which the window ends.
        grace: Duration,
    },
}

/// One conditional re-issue of the current generation, carried out by the store only if the row is as it was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Heal {
    /// The generation that was read, which stays.
    pub generation: Generation,
    /// The `issued_at` of the row, as read.
    pub issued_at: Timestamp,
    /// The `heals` of the row, as read.
    pub heals: u8,
    /// The new `issued_at`.
    pub now: Timestamp,
    /// The new idle expiry.
    pub idle_until: Timestamp,
}

/// The facts about a presented refresh token that the decision depends on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Presented {
    /// The generation that the token carries, proven by its MAC.
    pub generation: Generation,
    /// The device of the client that presents the token.
    pub device: Device,
}

/// Decides what to do with a refresh token whose MAC, kind and expiry hold. The first rule that fits wins.
#[must_use]
pub fn decide(
    session: &Session,
    circumstances: &Circumstances,
    presented: &Presented,
    now: Timestamp,
    policy: &SessionPolicy,
) -> Decision {
    if let Some(refusal) = refusal(session, circumstances, now) {
        return Decision::Refuse(refusal);
    }
    let grace = policy.grace;
    let graceful = !grace.is_zero();
    let has_grace = match policy.grace_for {
        GraceFor::Anyone => true,
        GraceFor::SameClient => presented.device.is_same_client(&session.device),
    };
    let idle_until = (now + policy.idle).min(session.absolute_until);
    let advance = |to: Generation, guard| {
        Decision::Advance(Advance {
            from: session.generation,
            to,
            guard,
            now,
            idle_until,
            device: presented.device.clone(),
        })
    };

    if presented.generation > session.generation {
        // The MAC proves that we issued the token, so the store lost writes (a restored backup). The session continues
        // from its generation.
        return advance(presented.generation.next(), AdvanceCondition::Generation);
    }
    if presented.generation == session.generation {
        return if circumstances.access_revoked {
            advance(session.generation.next(), AdvanceCondition::IssuedAt(session.issued_at))
        } else if graceful && in_reserve_window(session, now, policy.leeway, grace) {
            if has_grace { Decision::Reserve } else { Decision::Replay }
        } else if graceful {
            let guard = AdvanceCondition::OutsideReserve { leeway: policy.leeway, grace };
            advance(session.generation.next(), guard)
        } else {
            advance(session.generation.next(), AdvanceCondition::Generation)
        };
    }
    if presented.generation.next() == session.generation && graceful {
        let within = |from: Timestamp| now < from + grace;
        if within(session.issued_at) || session.acknowledged_at.is_some_and(within) {
            return if has_grace { Decision::Reserve } else { Decision::Replay };
        }
        let first_heal = session.heals == 0;
        if policy.healing
            && session.acknowledged_at.is_none()
            && session.heals < SessionPolicy::MAX_HEALS
            && (!first_heal || session.healed_run < SessionPolicy::MAX_HEALED_RUN)
        {
            return Decision::Heal(Heal {
                generation: session.generation,
                issued_at: session.issued_at,
                heals: session.heals,
                now,
                idle_until,
            });
        }
    }
    Decision::Replay
}

/// The step that [`decide`] asks for whenever the current generation is presented and advances, built without the row.
/// If the store takes the step, the refresh need not read the row first; if not, nothing has changed.
pub(crate) fn unread(presented: &Presented, now: Timestamp, policy: &SessionPolicy) -> Advance {
    let guard = if policy.grace.is_zero() {
        AdvanceCondition::Generation
    } else {
        AdvanceCondition::OutsideReserve { leeway: policy.leeway, grace: policy.grace }
    };
    Advance {
        from: presented.generation,
        to: presented.generation.next(),
        guard,
        now,
        idle_until: now + policy.idle,
        device: presented.device.clone(),
    }
}

/// The reason this session cannot be refreshed, if there is one: ended, superseded by an epoch, expired, or its user
/// disabled.
pub(crate) fn refusal(session: &Session, circumstances: &Circumstances, now: Timestamp) -> Option<Refusal> {
    if session.ended.is_some() || circumstances.ended_in_log {
        Some(Refusal::Ended)
    } else if circumstances.epoch_in_log > session.epoch {
        Some(Refusal::EpochRaised)
    } else if now >= session.expires_at() {
        Some(Refusal::Expired)
    } else if !circumstances.user_enabled {
        Some(Refusal::User)
    } else {
        None
    }
}

/// Whether the current generation, when it is presented itself, is reserved instead of advanced. The generation of a
/// login always advances.
fn in_reserve_window(session: &Session, now: Timestamp, leeway: Duration, grace: Duration) -> bool {
    session.generation > Generation::FIRST
        && session.issued_at - leeway <= now
        && now < session.issued_at + grace
}

/// The facts of the log that a conditional step depends on, read in the same atomic step.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LogVerdict {
    /// Whether an entry ends this session.
    pub ended: bool,
    /// The highest epoch that the user's entries set for this session.
    pub epoch: Epoch,
}

impl LogVerdict {
    /// Whether the session is live: neither the log nor its row ends it, and it has not expired.
    pub(crate) fn allows(self, session: &Session, now: Timestamp) -> bool {
        !self.ended && self.epoch <= session.epoch && session.is_live(now)
    }
}

impl Advance {
    /// Whether the step may be taken. Every store evaluates exactly this condition, in one atomic step with
    /// [`Advance::apply`].
    #[must_use]
    pub fn applies(&self, session: &Session, log: LogVerdict) -> bool {
        log.allows(session, self.now)
            && session.generation == self.from
            && match self.guard {
                AdvanceCondition::Generation => true,
                AdvanceCondition::IssuedAt(issued_at) => session.issued_at == issued_at,
                AdvanceCondition::OutsideReserve { leeway, grace } => {
                    !in_reserve_window(session, self.now, leeway, grace)
                }
            }
    }

    /// Changes the row as the step does.
    pub fn apply(&self, session: &mut Session) {
        session.generation = self.to;
        session.issued_at = self.now;
        session.acknowledged_at = None;
        if session.heals == 0 {
            session.healed_run = 0;
        }
        session.heals = 0;
        session.last_seen_at = self.now;
        session.idle_until = self.idle_until.min(session.absolute_until);
        session.device = self.device.clone();
    }
}

impl Heal {
    /// Whether the re-issue may be done. Every store evaluates exactly this condition, in one atomic step with
    /// [`Heal::apply`].
    #[must_use]
    pub fn applies(&self, session: &Session, log: LogVerdict) -> bool {
        log.allows(session, self.now)
            && session.generation == self.generation
            && session.issued_at == self.issued_at
            && session.heals == self.heals
            && session.acknowledged_at.is_none()
    }

    /// Changes the row as the re-issue does.
    pub fn apply(&self, session: &mut Session) {
        if session.heals == 0 {
            session.healed_run = session.healed_run.saturating_add(1);
        }
        session.heals = session.heals.saturating_add(1);
        session.issued_at = self.now;
        session.last_seen_at = self.now;
        session.idle_until = self.idle_until;
    }
}

/// The fact that a client holds the tokens of a generation, learned from seeing one of them in use.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Acknowledgement {
    /// The user of the session.
    pub user_id: countersign_jwt::id::UserId,
    /// The session whose token was seen.
    pub session_id: SessionId,
    /// The generation whose token was seen.
    pub generation: Generation,
}

impl Acknowledgement {
    /// Whether the acknowledgement still says something new about the row.
    #[must_use]
    pub fn applies(&self, session: &Session) -> bool {
        session.generation == self.generation && session.acknowledged_at.is_none()
    }

    /// Changes the row as the acknowledgement does.
    pub fn apply(&self, session: &mut Session, at: Timestamp) {
        session.acknowledged_at = Some(at);
        session.last_seen_at = session.last_seen_at.max(at);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::model::SessionSeed;
    use countersign_jwt::id::UserId;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn around() -> impl Strategy<Value = Timestamp> {
        let edges = prop::sample::select(vec![-40_000_i64, -30_000, -10_000, 0, 10_000, 30_000, 40_000]);
        (edges, -1..=1_i64).prop_map(|(edge, by)| Timestamp::from_millis(NOW.as_millis() + edge + by))
    }

    fn device(agent: &str) -> Device {
        Device::new(Some(agent), None)
    }

    fn session() -> impl Strategy<Value = Session> {
        let late = || prop_oneof![4 => Just(NOW + Duration::from_secs(86_400)), 1 => around()];
        (0..3_u32, around(), prop::option::of(around()), 0..4_u8, late(), late()).prop_map(
            |(generation, issued_at, acknowledged_at, heals, idle_until, absolute_until)| Session {
                user_id: UserId::from(Uuid::nil()),
                id: SessionId::new(Uuid::nil()),
                epoch: Epoch::FIRST,
                generation: Generation::new(generation),
                issued_at,
                acknowledged_at,
                heals,
                healed_run: 0,
                seed: SessionSeed::new([0; 32]),
                created_at: NOW,
                last_seen_at: NOW,
                idle_until,
                absolute_until,
                device: device("tab"),
                ended: None,
            },
        )
    }

    proptest! {
        #[test]
        fn a_step_taken_unread_is_the_one_that_reading_would_have_led_to(
            session in session(),
            generation in 0..4_u32,
            ended in any::<bool>(),
            graceful in any::<bool>(),
            access_revoked in any::<bool>(),
            same_client in any::<bool>(),
        ) {
            let policy = SessionPolicy {
                grace: if graceful { Duration::from_secs(30) } else { Duration::ZERO },
                grace_for: if same_client { GraceFor::SameClient } else { GraceFor::Anyone },
                ..SessionPolicy::default()
            };
            let log = LogVerdict { ended, ..LogVerdict::default() };
            let circumstances = Circumstances { ended_in_log: ended, access_revoked, ..Circumstances::CLEAR };
            let presented = Presented { generation: Generation::new(generation), device: device("other tab") };
            let step = unread(&presented, NOW, &policy);
            let decided = decide(&session, &circumstances, &presented, NOW, &policy);
            if step.applies(&session, log) {
                let Decision::Advance(decided) = decided else {
                    return Err(TestCaseError::fail(format!("taken, but {decided:?} was right")));
                };
                let (mut one, mut other) = (session.clone(), session);
                step.apply(&mut one);
                decided.apply(&mut other);
                prop_assert_eq!(one, other);
            } else if presented.generation == session.generation && !access_revoked {
                prop_assert!(!matches!(decided, Decision::Advance(_)), "{decided:?} takes two calls");
            }
        }

        #[test]
        fn sec_182_the_grace_of_one_client_is_no_grace_for_another(session in session(), back in 0..2_u32) {
            let policy = SessionPolicy { grace_for: GraceFor::SameClient, ..SessionPolicy::default() };
            let Some(generation) = session.generation.as_u32().checked_sub(back) else { return Ok(()) };
            let by = |agent| Presented { generation: Generation::new(generation), device: device(agent) };
            let answer = |agent| decide(&session, &Circumstances::CLEAR, &by(agent), NOW, &policy);
            if answer("tab") == Decision::Reserve {
                prop_assert_eq!(answer("thief"), Decision::Replay);
            } else {
                prop_assert!(answer("thief") != Decision::Reserve);
            }
        }
    }
}
