//! SEC-182: honest clients and thieves against the rules of refresh, for thirty simulated days each.
//!
//! The server is the real `decide` over a row; the network loses messages and takes its time. A schedule is one such
//! month, and its number is its seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::time::Duration;

use countersign_core::model::{
    Acknowledgement, Circumstances, Decision, Device, EndReason, Ended, LogVerdict, Presented, Session,
    SessionPolicy, SessionSeed, decide,
};
use countersign_jwt::{Epoch, Generation, SessionId, Timestamp, UserId};
use countersign_testkit::{FixedClock, SeededRandom};
use uuid::Uuid;

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;
/// How long acknowledgements wait to be written.
const FLUSH: u64 = 5_000;

/// Who uses the session beside its owner's tabs, and how.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Strategy {
    HonestTabs,
    HonestLossyMobile,
    /// Uses the copy before its owner's next refresh, and goes on with its own rhythm.
    ThiefFirst,
    /// Waits until the owner has refreshed.
    VictimFirst,
    /// Refreshes half way between the owner's refreshes.
    Alternating,
    /// Refreshes with the owner, just after the grace.
    LockStep,
    /// Refreshes just before the owner each time and uses none of the tokens.
    RotatingUnused,
    /// Refreshes inside the grace of every refresh of the owner.
    RidingGrace,
}

impl Strategy {
    const HONEST: [Self; 2] = [Self::HonestTabs, Self::HonestLossyMobile];
    const CAUGHT: [Self; 5] =
        [Self::ThiefFirst, Self::VictimFirst, Self::Alternating, Self::LockStep, Self::RotatingUnused];
}

/// What is varied beside the strategy.
#[derive(Clone, Copy, Debug)]
struct World {
    /// Of 100 acknowledgements this many are lost.
    lost_acknowledgements: u64,
    /// The thief calls itself what the victim's browser does.
    thief_imitates: bool,
}

const AS_IT_IS: World = World { lost_acknowledgements: 0, thief_imitates: false };
const HALF_LOST: World = World { lost_acknowledgements: 50, ..AS_IT_IS };

/// How a month ended.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    /// When the session was ended as replayed, if it was.
    ended_at: Option<u64>,
    /// The thief's first refresh.
    thief_came_at: Option<u64>,
    /// The owner's rounds from then on.
    rounds: u64,
    /// How often `refresh_shared` would have been emitted.
    shared: u64,
    refreshes: u64,
}

/// The server: one row, and acknowledgements on their way.
#[derive(Debug)]
struct Server {
    row: Session,
    policy: SessionPolicy,
    pending: Vec<Generation>,
    flush_at: u64,
    outcome: Outcome,
}

impl Server {
    fn new() -> Self {
        let policy = SessionPolicy::default();
        let now = FixedClock::START;
        let row = Session {
            user_id: UserId::from(Uuid::nil()),
            id: SessionId::new(Uuid::nil()),
            epoch: Epoch::FIRST,
            generation: Generation::FIRST,
            issued_at: now,
            acknowledged_at: None,
            heals: 0,
            healed_run: 0,
            seed: SessionSeed::new([7; 32]),
            created_at: now,
            last_seen_at: now,
            idle_until: now + policy.idle,
            // The month is what is watched, so it must not end the session.
            absolute_until: now + policy.absolute * 2,
            device: owner(),
            ended: None,
        };
        Self { row, policy, pending: Vec::new(), flush_at: 0, outcome: Outcome::default() }
    }

    /// Writes the acknowledgements whose time has come.
    fn flush(&mut self, now: u64) {
        if self.flush_at > now {
            return;
        }
        for generation in self.pending.drain(..) {
            let seen =
                Acknowledgement { user_id: self.row.user_id.clone(), session_id: self.row.id, generation };
            if seen.applies(&self.row) {
                seen.apply(&mut self.row, at(self.flush_at));
            }
        }
    }

    fn acknowledge(&mut self, generation: Generation, now: u64) {
        self.flush(now);
        if self.pending.is_empty() {
            self.flush_at = now - now % FLUSH + FLUSH;
        }
        if !self.pending.contains(&generation) {
            self.pending.push(generation);
        }
    }

    /// The answer to a refresh: the generation of the pair, or that the client must sign in again.
    fn refresh(&mut self, generation: Generation, device: Device, now: u64) -> Option<Generation> {
        self.flush(now);
        self.outcome.refreshes += 1;
        let presented = Presented { generation, device };
        let log = LogVerdict::default();
        match decide(&self.row, &Circumstances::CLEAR, &presented, at(now), &self.policy) {
            Decision::Advance(step) => {
                assert!(step.applies(&self.row, log), "what is decided applies");
                step.apply(&mut self.row);
            }
            Decision::Heal(step) => {
                assert!(step.applies(&self.row, log), "what is decided applies");
                step.apply(&mut self.row);
            }
            Decision::Reserve => {
                if generation == self.row.generation {
                    self.acknowledge(generation, now);
                }
                self.outcome.shared += u64::from(presented.device.user_agent != self.row.device.user_agent);
            }
            Decision::Replay => {
                self.row.ended = Some(Ended { at: at(now), reason: EndReason::Replayed });
                self.outcome.ended_at = Some(now);
                return None;
            }
            Decision::Refuse(_) => return None,
        }
        Some(self.row.generation)
    }
}

fn at(millis: u64) -> Timestamp {
    FixedClock::START + Duration::from_millis(millis)
}

fn owner() -> Device {
    Device::new(Some("owner"), None)
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Party {
    Owner,
    Thief,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    /// A client's timer: it reads the stored token and sends it.
    Wake { party: Party, tries: u8 },
    /// The request reaches the server.
    Arrive { party: Party, generation: Generation, reply_lost: bool },
    /// The reply reaches the client.
    Reply { party: Party, generation: Option<Generation> },
    /// A request with the access token of this generation reaches the server.
    Use { generation: Generation },
    /// The thief copies what the owner has stored.
    Steal,
    /// One of the owner's rounds begins.
    Round,
}

/// One month.
struct Month {
    strategy: Strategy,
    world: World,
    random: SeededRandom,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    numbered: u64,
    server: Server,
    stored: Generation,
    stolen: Option<Generation>,
}

impl Month {
    fn live(strategy: Strategy, schedule: u64, world: World) -> Outcome {
        let random = SeededRandom::new(schedule.wrapping_mul(0x1000_0001) ^ (strategy as u64) << 56);
        let mut month = Self {
            strategy,
            world,
            random,
            events: BinaryHeap::new(),
            numbered: 0,
            server: Server::new(),
            stored: Generation::FIRST,
            stolen: None,
        };
        month.plan();
        while let Some(Reverse((now, _, event))) = month.events.pop() {
            month.happen(now, event);
            if month.server.row.ended.is_some() {
                break;
            }
        }
        month.server.outcome
    }

    fn at(&mut self, time: u64, event: Event) {
        self.numbered += 1;
        self.events.push(Reverse((time, self.numbered, event)));
    }

    fn between(&self, from: u64, to: u64) -> u64 {
        from + self.random.below(to - from + 1)
    }

    /// The owner's rounds, each about 15 minutes after the last, with nights; and the thief's beside them.
    fn plan(&mut self) {
        let theft = self.between(MINUTE, 3 * DAY);
        let (tabs, spread) = match self.strategy {
            Strategy::HonestLossyMobile => (1, 0),
            // Tabs whose timers run together, nearly together, and apart.
            Strategy::HonestTabs => (3, self.random.pick(&[0, 200, 5_000, 29_000])),
            _ => (3, self.random.pick(&[0, 200, 5_000])),
        };
        let mut now = self.between(MINUTE, 15 * MINUTE);
        let mut came = false;
        let thieving = !Strategy::HONEST.contains(&self.strategy);
        if thieving && self.strategy != Strategy::Alternating {
            self.at(theft, Event::Steal);
        }
        let mut own_rhythm = 0;
        while now < 30 * DAY {
            self.at(now, Event::Round);
            for _ in 0..tabs {
                let wake = now + self.between(0, spread);
                self.at(wake, Event::Wake { party: Party::Owner, tries: 0 });
            }
            let next = now + self.between(14 * MINUTE, 16 * MINUTE) + self.night(now);
            if thieving && now > theft {
                let thief = match self.strategy {
                    Strategy::ThiefFirst | Strategy::VictimFirst if came => {
                        own_rhythm += self.between(14 * MINUTE, 16 * MINUTE);
                        own_rhythm
                    }
                    Strategy::ThiefFirst => {
                        own_rhythm = theft + self.between(0, (now - theft).min(10 * MINUTE));
                        own_rhythm
                    }
                    Strategy::VictimFirst => {
                        own_rhythm = now + self.between(MINUTE, 10 * MINUTE);
                        own_rhythm
                    }
                    Strategy::Alternating => now + self.between(7 * MINUTE, 8 * MINUTE),
                    Strategy::LockStep => now + spread + self.between(40_000, 60_000),
                    // Closer to the owner's than the grace it would be riding.
                    Strategy::RotatingUnused => now.saturating_sub(self.between(35_000, 2 * MINUTE)),
                    _ => now + self.between(1, 25_000),
                };
                // What was to happen before the theft does not.
                if thief > theft {
                    if self.strategy == Strategy::Alternating && !came {
                        // Its copy is the current token, or the first use would give it away.
                        self.at(thief - 1, Event::Steal);
                    }
                    came = true;
                    self.at(thief, Event::Wake { party: Party::Thief, tries: 0 });
                }
            }
            now = next;
        }
    }

    fn night(&self, now: u64) -> u64 {
        let hour = now % DAY / (60 * MINUTE);
        if hour >= 22 { self.between(7 * 60 * MINUTE, 9 * 60 * MINUTE) } else { 0 }
    }

    fn happen(&mut self, now: u64, event: Event) {
        match event {
            Event::Round => {
                self.server.outcome.rounds += u64::from(self.server.outcome.thief_came_at.is_some());
            }
            Event::Steal => self.stolen = Some(self.stored),
            Event::Wake { party, tries } => self.wake(now, party, tries),
            Event::Arrive { party, generation, reply_lost } => {
                let device = match party {
                    Party::Thief if !self.world.thief_imitates => Device::new(Some("thief"), None),
                    _ => owner(),
                };
                let generation = self.server.refresh(generation, device, now);
                if party == Party::Thief {
                    self.server.outcome.thief_came_at.get_or_insert(now);
                }
                if !reply_lost {
                    let arrives = now + self.latency();
                    self.at(arrives, Event::Reply { party, generation });
                }
            }
            Event::Reply { party, generation: Some(generation) } => {
                match party {
                    Party::Owner => self.stored = generation,
                    Party::Thief => self.stolen = Some(generation),
                }
                if party == Party::Owner || self.strategy != Strategy::RotatingUnused {
                    // What the tokens were wanted for follows at once, the rest over the next minutes.
                    let soon = now + self.between(50, 1_000) + self.latency();
                    self.at(soon, Event::Use { generation });
                    for _ in 0..self.random.below(4) {
                        let later = now + self.between(1_000, 14 * MINUTE);
                        self.at(later, Event::Use { generation });
                    }
                }
            }
            // The session had ended; the loop stops there.
            Event::Reply { generation: None, .. } => {}
            Event::Use { generation } => {
                if !self.random.chance(self.world.lost_acknowledgements) {
                    self.server.acknowledge(generation, now);
                }
            }
        }
    }

    fn wake(&mut self, now: u64, party: Party, tries: u8) {
        let generation = match party {
            Party::Owner => self.stored,
            Party::Thief => match self.stolen {
                Some(stolen) => stolen,
                None => return,
            },
        };
        let lossy = self.strategy == Strategy::HonestLossyMobile;
        let lost = |random: &SeededRandom| lossy && random.chance(5);
        let (request_lost, reply_lost) = (lost(&self.random), lost(&self.random));
        if !request_lost {
            let arrives = now + self.latency();
            self.at(arrives, Event::Arrive { party, generation, reply_lost });
        }
        // It asks again: after a timeout at first, then when there is a network again, else in the next round.
        let wait = match tries {
            0 | 1 => self.between(5_000, 10_000),
            2 => self.between(MINUTE, 60 * MINUTE),
            _ => return,
        };
        if request_lost || reply_lost {
            self.at(now + wait, Event::Wake { party, tries: tries + 1 });
        }
    }

    fn latency(&self) -> u64 {
        if self.random.chance(90) { self.between(10, 300) } else { self.between(300, 2_000) }
    }
}

/// The months of one strategy, on all processors.
fn months(strategy: Strategy, schedules: u64, world: World) -> Vec<Outcome> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64).min(schedules);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                let numbers = (thread..schedules).step_by(usize::try_from(threads).unwrap_or(1));
                scope.spawn(move || {
                    numbers.map(|number| (number, Month::live(strategy, number, world))).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut outcomes: Vec<_> =
            handles.into_iter().flat_map(|handle| handle.join().expect("a month without a panic")).collect();
        outcomes.sort_by_key(|(number, _)| *number);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    })
}

fn ended(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| outcome.ended_at.is_some()).count()
}

fn percent(part: usize, of: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / of as f64)
}

fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// Runs every strategy and asserts what SEC-182 promises; returns the table.
fn simulate(schedules: u64) -> String {
    let mut table = String::from(
        "strategy              schedules  honest ended  unnoticed  median rounds  median time  shared in\n",
    );
    let mut line = |name: &str, columns: [String; 5]| {
        let [honest, unnoticed, rounds, time, shared] = columns;
        let _ = writeln!(
            table,
            "{name:<21} {schedules:>9}  {honest:>12}  {unnoticed:>9}  {rounds:>13}  {time:>11}  {shared:>9}"
        );
    };
    let dash = || "–".to_owned();
    for strategy in Strategy::HONEST {
        let outcomes = months(strategy, schedules, AS_IT_IS);
        let count = ended(&outcomes);
        line(&format!("{strategy:?}"), [percent(count, outcomes.len()), dash(), dash(), dash(), dash()]);
        assert!(outcomes.iter().all(|outcome| outcome.refreshes > 1_000), "{strategy:?}: a whole month");
        match strategy {
            Strategy::HonestTabs => assert_eq!(count, 0, "honest tabs are never ended"),
            _ => assert!(count * 100 < outcomes.len(), "lossy mobile: {count} ended"),
        }
        let half = ended(&months(strategy, schedules, HALF_LOST));
        assert_eq!(half, count, "{strategy:?}: losing half of the acknowledgements changes no verdict");
    }
    for strategy in Strategy::CAUGHT.into_iter().chain([Strategy::RidingGrace]) {
        let outcomes = months(strategy, schedules, AS_IT_IS);
        let unnoticed = outcomes.len() - ended(&outcomes);
        let caught = || outcomes.iter().filter(|outcome| outcome.ended_at.is_some());
        let rounds = median(caught().map(|outcome| outcome.rounds).collect());
        let time = median(
            caught()
                .filter_map(|outcome| Some(outcome.ended_at?.saturating_sub(outcome.thief_came_at?)))
                .collect(),
        );
        let shared = outcomes.iter().filter(|outcome| outcome.shared > 0).count();
        line(
            &format!("{strategy:?}"),
            [
                dash(),
                percent(unnoticed, outcomes.len()),
                rounds.map_or_else(dash, |rounds| rounds.to_string()),
                time.map_or_else(dash, |millis| format!("{} s", millis / 1_000)),
                percent(shared, outcomes.len()),
            ],
        );
        let half = months(strategy, schedules, HALF_LOST);
        assert_eq!(ended(&half), ended(&outcomes), "{strategy:?}: losing half of the acknowledgements");
        if strategy == Strategy::RidingGrace {
            assert_eq!(shared, outcomes.len(), "two devices are always reported");
            let imitating = World { thief_imitates: true, ..AS_IT_IS };
            let quiet = months(strategy, schedules, imitating);
            assert!(quiet.iter().all(|outcome| outcome.shared == 0), "one device never is");
            continue;
        }
        assert_eq!(unnoticed, 0, "{strategy:?}: every thief is caught");
        let longest = outcomes.iter().chain(&half).map(|outcome| outcome.rounds).max().unwrap_or(0);
        match strategy {
            Strategy::RotatingUnused => assert!(longest <= 6, "caught after {longest} rounds"),
            Strategy::LockStep => {
                let longest = outcomes.iter().map(|outcome| outcome.rounds).max().unwrap_or(0);
                assert!(longest <= 1, "caught in the first round, not after {longest}");
            }
            _ => {}
        }
    }
    table
}

#[test]
fn sec_182_thieves_are_caught_and_honest_clients_stay_signed_in() {
    println!("{}", simulate(100));
}

#[test]
#[ignore = "slow: ./test --slow"]
fn slow_sec_182_thieves_are_caught_and_honest_clients_stay_signed_in() {
    println!("{}", simulate(1_000));
}
