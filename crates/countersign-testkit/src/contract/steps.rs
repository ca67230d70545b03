//! Checks that the stores' conditions and the rules of refresh are the same.

use std::time::Duration;

use countersign_core::model::{
    Advance, AdvanceCondition, Circumstances, Decision, Ended, Entry, Heal, LogVerdict, Presented, Session,
    SessionPolicy, Target, decide,
};
use countersign_core::store::{FoundSession, Stores};
use countersign_jwt::{Epoch, Generation, SessionId, Timestamp};

use super::fixture::{Fixture, NOW, device, found, insert, secs};

/// Random rows under random logs get random steps. The store takes a step exactly when [`Advance::applies`] or
/// [`Heal::applies`] is true. The row is then exactly as `apply` makes it, and otherwise unchanged. Whatever [`decide`]
/// asks for is done.
pub async fn conditional_steps_agree(stores: &Stores, rounds: usize) {
    let fixture = Fixture::new("conditional_steps_agree");
    let mut seen = Seen::default();
    for round in 0..rounds.saturating_mul(4) {
        let (row, log) = random_row(stores, &fixture).await;
        let before = found(stores, &row.key()).await;
        assert_eq!(before.log, log, "round {round}: what the log says about {row:?}");
        let step = random_step(&fixture, &before);
        take(stores, &before, &step, &format!("round {round}"), &mut seen).await;
    }
    // Random cases that reach only one side would prove nothing.
    if rounds >= 100 {
        assert!(seen.taken > rounds / 4 && seen.refused > rounds / 4, "the steps are too uniform: {seen:?}");
        assert!(seen.decided > rounds / 8, "too few steps come from decisions: {seen:?}");
    }
}

#[derive(Debug, Default)]
struct Seen {
    taken: usize,
    refused: usize,
    decided: usize,
}

#[derive(Clone, Debug)]
enum Step {
    Any(Conditional),
    /// The step was decided upon the row as it is, so the store must take it.
    Decided(Conditional),
}

#[derive(Clone, Debug)]
enum Conditional {
    Advance(Advance),
    Heal(Heal),
}

async fn take(stores: &Stores, before: &FoundSession, step: &Step, round: &str, seen: &mut Seen) {
    let key = before.session.key();
    let mut expected = before.session.clone();
    let (Step::Any(conditional) | Step::Decided(conditional)) = step;
    let (applies, taken) = match conditional {
        Conditional::Advance(step) => {
            let applies = step.applies(&before.session, before.log);
            if applies {
                step.apply(&mut expected);
            }
            let row = stores.sessions().advance(&key, step).await.expect("the store answers");
            assert_eq!(row, applies.then(|| expected.clone()), "{round}: {step:?} returns the row");
            (applies, applies)
        }
        Conditional::Heal(step) => {
            let applies = step.applies(&before.session, before.log);
            if applies {
                step.apply(&mut expected);
            }
            (applies, stores.sessions().heal(&key, step).await.expect("the store answers"))
        }
    };
    assert_eq!(taken, applies, "{round}: {step:?} upon {before:?}");
    if matches!(step, Step::Decided(_)) {
        assert!(applies, "{round}: what was decided is done: {step:?} upon {before:?}");
        seen.decided += 1;
    }
    let after = found(stores, &key).await;
    assert_eq!(after.session, expected, "{round}: the row after {step:?} upon {before:?}");
    assert_eq!(after.log, before.log, "{round}: a step does not touch the log");
    if taken {
        seen.taken += 1;
    } else {
        seen.refused += 1;
    }
}

/// A row with a history of its own, and the log around it. Values lie close together, so that conditions are often just
/// met or just missed.
async fn random_row(stores: &Stores, fixture: &Fixture) -> (Session, LogVerdict) {
    let random = &fixture.random;
    let user = fixture.user();
    let epoch = random.below(3);
    let mut log = Log { session: fixture.session_id(), entries: Vec::new() };
    let exceptions = [None, Some(log.session), Some(fixture.session_id())];
    for number in 1..=epoch {
        log.entries.push((number, random.pick(&exceptions)));
    }
    let mut rows = Vec::new();
    for (number, except) in &log.entries {
        rows.push(Target::User { user_id: user.clone(), epoch: Epoch::new(*number), except: *except });
    }
    write(stores, rows).await;

    let generation = Generation::new(u32::try_from(random.below(4)).unwrap_or(0));
    let heals = u8::try_from(random.below(5)).unwrap_or(0);
    let row = Session {
        id: log.session,
        epoch: Epoch::new(epoch),
        generation,
        issued_at: near(fixture),
        acknowledged_at: random.chance(30).then(|| near(fixture)),
        heals,
        healed_run: u8::try_from(random.below(7)).unwrap_or(0),
        last_seen_at: near(fixture),
        idle_until: if random.chance(10) { near(fixture) } else { NOW + secs(7_200) },
        absolute_until: if random.chance(10) { near(fixture) } else { NOW + secs(14_400) },
        ended: random
            .chance(8)
            .then(|| Ended { at: NOW, reason: random.pick(&countersign_core::model::EndReason::ALL) }),
        ..fixture.session(&user)
    };
    insert(stores, &row).await;

    let mut late = Vec::new();
    let ended = random.chance(8);
    if ended {
        late.push(Target::Session { user_id: user.clone(), id: row.id });
    }
    if random.chance(15) {
        let number = epoch + 1 + random.below(2);
        let except = random.pick(&exceptions);
        log.entries.push((number, except));
        late.push(Target::User { user_id: user.clone(), epoch: Epoch::new(number), except });
    }
    // Entries of another session of the user and of a token do not concern the row.
    if random.chance(30) {
        late.push(Target::Session { user_id: user.clone(), id: fixture.session_id() });
        late.push(Target::Token { user_id: user.clone(), id: fixture.token_id() });
    }
    write(stores, late).await;
    (row, LogVerdict { ended, epoch: Epoch::new(log.epoch()) })
}

/// The user's entries, and their meaning according to design §8.
struct Log {
    session: SessionId,
    entries: Vec<(u64, Option<SessionId>)>,
}

impl Log {
    fn epoch(&self) -> u64 {
        let concern = self.entries.iter().filter(|(_, except)| *except != Some(self.session));
        concern.map(|(number, _)| *number).max().unwrap_or(0)
    }
}

async fn write(stores: &Stores, targets: Vec<Target>) {
    for target in targets {
        let entry = Entry { target, until: NOW + secs(910), at: NOW };
        stores.revocations().insert_entry(&entry).await.expect("the store answers");
    }
}

/// A time at or just beside one of the edges that the rules have around [`NOW`].
fn near(fixture: &Fixture) -> Timestamp {
    let edge = secs(fixture.random.pick(&[0, 10, 30, 40, 3_600]));
    let base = if fixture.random.chance(40) { NOW + edge } else { NOW - edge };
    match fixture.random.below(3) {
        0 => base - Duration::from_millis(1),
        1 => base,
        _ => base + Duration::from_millis(1),
    }
}

fn random_step(fixture: &Fixture, before: &FoundSession) -> Step {
    let random = &fixture.random;
    let row = &before.session;
    let number = |around: u32, spread: u64| {
        let drift = u32::try_from(random.below(spread * 2 + 1)).unwrap_or(0);
        (around + drift).saturating_sub(u32::try_from(spread).unwrap_or(0))
    };
    if random.chance(50) {
        let policy = SessionPolicy {
            grace: if random.chance(20) { Duration::ZERO } else { secs(30) },
            healing: random.chance(80),
            ..SessionPolicy::default()
        };
        let circumstances = Circumstances {
            ended_in_log: before.log.ended,
            epoch_in_log: before.log.epoch,
            user_enabled: true,
            access_revoked: random.chance(20),
        };
        let presented = Presented {
            generation: Generation::new(number(row.generation.as_u32(), 1)),
            device: device("decided"),
        };
        match decide(row, &circumstances, &presented, near(fixture), &policy) {
            Decision::Advance(step) => return Step::Decided(Conditional::Advance(step)),
            Decision::Heal(step) => return Step::Decided(Conditional::Heal(step)),
            Decision::Refuse(_) | Decision::Reserve | Decision::Replay => {}
        }
    }
    let matching = random.chance(75);
    let generation =
        if matching { row.generation } else { Generation::new(number(row.generation.as_u32(), 1)) };
    let issued_at = if random.chance(75) { row.issued_at } else { near(fixture) };
    if random.chance(60) {
        let guard = match random.below(3) {
            0 => AdvanceCondition::Generation,
            1 => AdvanceCondition::IssuedAt(issued_at),
            _ => AdvanceCondition::OutsideReserve {
                leeway: secs(random.pick(&[0, 10])),
                grace: secs(random.pick(&[0, 30, 300])),
            },
        };
        Step::Any(Conditional::Advance(Advance {
            from: generation,
            to: Generation::new(generation.as_u32() + 1 + u32::try_from(random.below(3)).unwrap_or(0)),
            guard,
            now: near(fixture),
            // At times the step's end of idleness lies beyond the row's absolute expiry, which then is the end of
            // idleness too.
            idle_until: NOW + secs(random.pick(&[7_200, 14_400, 20_000])),
            device: device("any"),
        }))
    } else {
        let heals = if random.chance(75) { row.heals } else { u8::try_from(random.below(5)).unwrap_or(0) };
        let step = Heal { generation, issued_at, heals, now: near(fixture), idle_until: NOW + secs(7_200) };
        Step::Any(Conditional::Heal(step))
    }
}
