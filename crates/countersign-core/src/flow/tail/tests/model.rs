//! A model of everything around the tail: a log with late commits and lagging copies, writers on other nodes, a store
//! and a machine whose clocks step or stand still, and calls that take long, fail or hang.
//!
//! The model knows the true time, which no clock in it shows for sure. Its limits are those that the tail's docs state:
//! clocks of nodes are off by at most a quarter of the overlap, every node notices a step of the store's clock within
//! the bound, no clock steps twice between two polls, and the store's clock does not step just before the first one.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use countersign_jwt::time::Clock;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::super::*;
use crate::flow::clock::StoreClock;

const BOUND: Duration = Duration::from_secs(5);
/// The store's time when the model's true time is 0.
const START: i64 = 1_800_000_000_000;
/// How long after a step of the store's clock the last node notices it.
const NOTICED_BY_ALL: i64 = 5_000;

/// The kind of an installation.
#[derive(Clone, Copy, Debug)]
struct Installation {
    /// Whether the store has a clock of its own. Otherwise the writers run on the same machine, and its time of day is
    /// the store's time.
    store_has_time: bool,
    is_one_copy: bool,
    /// Whether the machine is suspended now and then. Its time of day is then only set forward; otherwise it is set
    /// back, too. Both at once deceive every clock that a machine has.
    is_suspended: bool,
}

/// An event beside the reads. Times are in milliseconds.
#[derive(Clone, Copy, Debug)]
enum Event {
    Wait(i64),
    /// The machine is suspended; in the middle of that another node writes.
    Suspend(i64, Write),
    SetTimeOfDay(i64),
    StepStoreTime(i64),
    Write(Write),
}

/// A revocation by another node.
#[derive(Clone, Copy, Debug)]
struct Write {
    commit_takes: i64,
    /// The time that the commit takes when the entry is dated anew.
    again_takes: i64,
    /// The difference between the writer's clock and the store's.
    clock_error: i64,
    /// The time after a step of the store's clock at which the writer notices it.
    notices_after: i64,
}

/// One call to the store.
#[derive(Clone, Copy, Debug)]
struct Call {
    /// The time until the store does what it is asked for.
    before: i64,
    /// The time that the answer takes.
    after: i64,
    /// The event that happens meanwhile, and whether it happens before the store does what it is asked for.
    meanwhile: Option<(Event, bool)>,
    end: CallEnd,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum CallEnd {
    Answered,
    /// The store did nothing, or the caller was dropped before.
    Failed,
    /// The store did what it was asked for, but nobody heard of it.
    AnswerLost,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Event(Event),
    Poll {
        ask: Call,
        heartbeat: Call,
        read: Call,
        replica_lag: i64,
    },
    Pushed {
        read: Call,
        replica_lag: i64,
    },
    /// The read of the whole log that is under way ends.
    WholeLog {
        read: Call,
        replica_lag: i64,
    },
    /// Another part of the program asks the store for its time.
    AskTime(Call),
}

#[derive(Debug)]
struct Machine(Mutex<MachineTime>);

impl Machine {
    fn time(&self) -> MachineTime {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, monotonic: i64, time_of_day: i64) {
        let mut time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        time.monotonic += millis(monotonic);
        time.time_of_day = Timestamp::from_millis(time.time_of_day.as_millis() + time_of_day);
    }
}

impl Clock for Machine {
    fn now(&self) -> Timestamp {
        self.time().time_of_day
    }

    fn monotonic(&self) -> Duration {
        self.time().monotonic
    }
}

fn millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).expect("a length of time"))
}

/// An insert that is not acknowledged yet.
#[derive(Clone, Copy, Debug)]
struct Insert {
    entry: usize,
    at: Timestamp,
    commits_at: i64,
    write: Write,
}

/// An entry that was committed.
#[derive(Clone, Copy, Debug)]
struct Committed {
    entry: usize,
    at: Timestamp,
    visible_from: i64,
}

#[derive(Debug)]
struct World {
    installation: Installation,
    /// The true time.
    time: i64,
    machine: Arc<Machine>,
    clock: StoreClock,
    tail: Tail,
    /// The difference of the store's clock from the true time now, and before its last step.
    store_off: i64,
    store_was_off: i64,
    store_stepped_at: i64,
    /// A clock stepped, or the machine was suspended, and no poll has noticed that yet.
    clock_stepped: bool,
    asked_since_step: bool,
    entries: usize,
    inserts: Vec<Insert>,
    log: Vec<Committed>,
    heartbeats: Vec<Committed>,
    /// Entries whose insert was acknowledged, and the times of that.
    acknowledged: Vec<(usize, i64)>,
    taken_in: HashSet<usize>,
    last_good_began: Option<i64>,
    /// The number of the current step.
    step: usize,
    last_failed: Option<usize>,
    whole_log: Option<(Entries, usize)>,
    /// The step in which the last complete read of the whole log began, and its time by the monotonic clock.
    last_full: Option<(usize, Duration)>,
}

impl World {
    fn new(installation: Installation) -> Self {
        let time_of_day = Timestamp::from_millis(START);
        let machine =
            Arc::new(Machine(Mutex::new(MachineTime { monotonic: Duration::from_secs(1_000), time_of_day })));
        Self {
            installation,
            time: 0,
            clock: StoreClock::new(machine.clone()),
            machine,
            tail: Tail::new(BOUND, installation.is_one_copy),
            store_off: 0,
            store_was_off: 0,
            store_stepped_at: -NOTICED_BY_ALL,
            clock_stepped: false,
            asked_since_step: false,
            entries: 0,
            inserts: Vec::new(),
            log: Vec::new(),
            heartbeats: Vec::new(),
            acknowledged: Vec::new(),
            taken_in: HashSet::new(),
            last_good_began: None,
            step: 0,
            last_failed: None,
            whole_log: None,
            last_full: None,
        }
    }

    fn now(&self) -> Now {
        Now { machine: self.machine.time(), store: self.clock.now() }
    }

    fn store_time(&self) -> Timestamp {
        Timestamp::from_millis(START + self.time + self.store_off)
    }

    fn writers_time(&self, write: Write) -> Timestamp {
        if !self.installation.store_has_time {
            return self.machine.now();
        }
        let has_noticed = self.time >= self.store_stepped_at + write.notices_after;
        let off = if has_noticed { self.store_off } else { self.store_was_off };
        Timestamp::from_millis(START + self.time + off + write.clock_error)
    }

    /// Lets time pass; inserts commit meanwhile.
    fn pass(&mut self, time: i64, is_suspended: bool) -> Result<(), TestCaseError> {
        if is_suspended && !self.installation.store_has_time {
            // The writers run on the same machine.
            self.inserts.iter_mut().for_each(|insert| insert.commits_at += time);
        }
        let end = self.time + time;
        loop {
            let next = (0..self.inserts.len()).min_by_key(|number| self.inserts[*number].commits_at);
            let next = next.filter(|number| self.inserts[*number].commits_at <= end);
            let until = next.map_or(end, |number| self.inserts[number].commits_at);
            let passed = until - self.time;
            self.time = until;
            self.machine.change(if is_suspended { 0 } else { passed }, passed);
            match next {
                Some(number) => {
                    let insert = self.inserts.swap_remove(number);
                    self.commit(insert);
                }
                None => return self.check(),
            }
        }
    }

    fn commit(&mut self, insert: Insert) {
        let Insert { entry, at, write, .. } = insert;
        self.log.push(Committed { entry, at, visible_from: self.time });
        let now = self.writers_time(write);
        if now.since(at) > OVERLAP / 2 {
            self.inserts.push(Insert { at: now, commits_at: self.time + write.again_takes, ..insert });
        } else {
            self.acknowledged.push((entry, self.time));
        }
    }

    /// The promise: what the view says about its own age is true.
    fn check(&self) -> Result<(), TestCaseError> {
        let Some(age) = self.tail.age(self.machine.time()) else { return Ok(()) };
        let age = i64::try_from(age.as_millis()).expect("a short time");
        let began = self.last_good_began.expect("a view that has an age was read");
        prop_assert!(age >= self.time - began, "{age} ms old, but its last good poll began before");
        for (entry, acknowledged_at) in &self.acknowledged {
            let is_promised = *acknowledged_at < self.time - age;
            let ago = self.time - acknowledged_at;
            prop_assert!(
                !is_promised || self.taken_in.contains(entry),
                "entry {entry} was acknowledged {ago} ms ago and not taken in, in a view that is {age} ms old"
            );
        }
        Ok(())
    }

    fn happens(&mut self, event: Event) -> Result<(), TestCaseError> {
        let Installation { store_has_time, is_suspended, .. } = self.installation;
        match event {
            Event::Wait(time) => return self.pass(time, false),
            Event::Suspend(time, write) if is_suspended && !self.clock_stepped => {
                (self.clock_stepped, self.asked_since_step) = (true, false);
                self.pass(time / 2, true)?;
                if store_has_time {
                    self.write(write);
                }
                return self.pass(time - time / 2, true);
            }
            Event::SetTimeOfDay(by) if store_has_time || !self.clock_stepped => {
                self.clock_stepped |= !store_has_time;
                self.machine.change(0, if is_suspended { by.abs() } else { by });
            }
            Event::StepStoreTime(by)
                if store_has_time
                    && self.tail.last_begun.is_some()
                    && !self.clock_stepped
                    && self.time >= self.store_stepped_at + NOTICED_BY_ALL =>
            {
                (self.clock_stepped, self.asked_since_step) = (true, false);
                self.store_was_off = self.store_off;
                self.store_off += by;
                self.store_stepped_at = self.time;
            }
            Event::Write(write) => self.write(write),
            Event::Suspend(..) | Event::SetTimeOfDay(_) | Event::StepStoreTime(_) => {}
        }
        self.check()
    }

    fn write(&mut self, write: Write) {
        let at = self.writers_time(write);
        let commits_at = self.time + write.commit_takes;
        self.inserts.push(Insert { entry: self.entries, at, commits_at, write });
        self.entries += 1;
    }

    /// Calls the store; returns what it did, if it answered.
    fn call<T>(&mut self, call: Call, does: impl FnOnce(&mut Self) -> T) -> Result<Option<T>, TestCaseError> {
        self.pass(call.before, false)?;
        if let Some((event, true)) = call.meanwhile {
            self.happens(event)?;
        }
        let done = if call.end == CallEnd::Failed { None } else { Some(does(self)) };
        if let Some((event, false)) = call.meanwhile {
            self.happens(event)?;
        }
        self.pass(call.after, false)?;
        Ok(done.filter(|_| call.end == CallEnd::Answered))
    }

    fn ask_time(&mut self, call: Call) -> Result<bool, TestCaseError> {
        let asked = self.machine.monotonic();
        let answer = self.call(call, |world| {
            world.asked_since_step = true;
            world.store_time()
        })?;
        let Some(answer) = answer else {
            self.asked_since_step = false;
            return Ok(false);
        };
        if self.installation.store_has_time {
            self.clock.observe(asked, answer);
        }
        Ok(true)
    }

    /// Reads entries as they are in a copy of the log that lags; returns the own heartbeat that was among them.
    fn read(
        &mut self,
        asked: &Entries,
        call: Call,
        replica_lag: i64,
    ) -> Result<Option<Option<Timestamp>>, TestCaseError> {
        let lag = if self.installation.is_one_copy { 0 } else { replica_lag };
        let since = asked.since;
        self.call(call, |world| {
            let as_of = world.time - lag;
            let is_read = |line: &&Committed| line.at >= since && line.visible_from <= as_of;
            world.taken_in.extend(world.log.iter().filter(is_read).map(|line| line.entry));
            world.heartbeats.iter().filter(is_read).map(|line| line.at).max()
        })
    }

    fn write_heartbeat(&mut self, at: Option<Timestamp>, call: Call) -> Result<bool, TestCaseError> {
        let Some(at) = at else { return Ok(true) };
        let written = self.call(call, |world| {
            world.heartbeats.push(Committed { entry: 0, at, visible_from: world.time });
        })?;
        Ok(written.is_some())
    }

    /// Returns whether the poll was good.
    fn poll(
        &mut self,
        ask: Call,
        heartbeat: Call,
        read: Call,
        replica_lag: i64,
    ) -> Result<bool, TestCaseError> {
        self.tail.begin();
        loop {
            let now = self.now();
            match self.tail.next(now) {
                Read::StoreTime => {
                    if !self.ask_time(ask)? {
                        return Ok(false);
                    }
                    prop_assert_eq!(self.tail.took(Outcome::StoreTime), Ok(()));
                }
                Read::Entries(asked) => {
                    self.clock_stepped &= self.installation.store_has_time && !self.asked_since_step;
                    let began = self.time;
                    let is_whole_log = asked.is_whole_log();
                    if !self.write_heartbeat(asked.heartbeat, heartbeat)? {
                        return Ok(false);
                    }
                    let Some(heartbeat) = self.read(&asked, read, replica_lag)? else { return Ok(false) };
                    if self.tail.took(Outcome::Entries { asked, heartbeat }).is_err() {
                        return Ok(false);
                    }
                    self.last_good_began = Some(began);
                    if is_whole_log {
                        self.last_full = Some((self.step, now.machine.monotonic));
                    }
                    self.check()?;
                }
                Read::WholeLog(asked) => {
                    self.whole_log.get_or_insert((asked, self.step));
                    return Ok(true);
                }
                Read::Nothing => {
                    let (step, began) = self.last_full.expect("the whole log was read at least once");
                    let ago = now.machine.monotonic - began;
                    prop_assert!(ago < FULL_READ_EVERY, "the whole log was read {ago:?} ago");
                    let is_after_failure = self.last_failed.is_none_or(|failed| failed < step);
                    prop_assert!(is_after_failure, "the whole log was not read since the last failed poll");
                    return Ok(true);
                }
            }
        }
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        self.step += 1;
        match step {
            Step::Event(event) => self.happens(event)?,
            Step::AskTime(call) => {
                self.ask_time(call)?;
            }
            Step::Poll { ask, heartbeat, read, replica_lag } => {
                if !self.poll(ask, heartbeat, read, replica_lag)? {
                    self.last_failed = Some(self.step);
                }
            }
            Step::Pushed { read, replica_lag } => {
                if let Some(asked) = self.tail.next_pushed(self.now())
                    && let Some(heartbeat) = self.read(&asked, read, replica_lag)?
                {
                    let age = self.tail.age(self.machine.time());
                    prop_assert_eq!(self.tail.took(Outcome::Entries { asked, heartbeat }), Ok(()));
                    prop_assert_eq!(self.tail.age(self.machine.time()), age, "a push makes no view younger");
                }
            }
            Step::WholeLog { read, replica_lag } => {
                if let Some((asked, step)) = self.whole_log.take()
                    && let Some(heartbeat) = self.read(&asked, read, replica_lag)?
                {
                    let began = asked.began.machine.monotonic;
                    prop_assert_eq!(self.tail.took(Outcome::Entries { asked, heartbeat }), Ok(()));
                    self.last_full = self.last_full.max(Some((step, began)));
                }
            }
        }
        self.check()
    }
}

fn installation() -> impl Strategy<Value = Installation> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(store_has_time, is_one_copy, is_suspended)| {
        Installation { store_has_time, is_one_copy, is_suspended }
    })
}

// Boxed, because values of nested strategies would not fit on a test's stack.
fn write() -> BoxedStrategy<Write> {
    let commit_takes = prop_oneof![0..100_i64, 7_000..7_500_i64, 0..15_000_i64];
    let clock_error = prop_oneof![-1_500..1_500_i64, Just(-1_500), Just(1_500)];
    (commit_takes, 0..7_500_i64, clock_error, 0..NOTICED_BY_ALL)
        .prop_map(|(commit_takes, again_takes, clock_error, notices_after)| Write {
            commit_takes,
            again_takes,
            clock_error,
            notices_after,
        })
        .boxed()
}

fn by() -> impl Strategy<Value = i64> {
    prop_oneof![-8_000..8_000_i64, -120_000..120_000_i64, Just(60_000), Just(-60_000)]
}

fn wait() -> impl Strategy<Value = Event> {
    prop_oneof![4 => 0..2_000_i64, 2 => 0..20_000_i64, 1 => 50_000..70_000_i64].prop_map(Event::Wait)
}

/// Lets an event happen that takes no time, or that happens while the machine is suspended.
fn event() -> BoxedStrategy<Event> {
    let suspended = (prop_oneof![0..10_000_i64, 0..600_000_i64], write());
    prop_oneof![
        1 => suspended.prop_map(|(time, write)| Event::Suspend(time, write)),
        1 => by().prop_map(Event::SetTimeOfDay),
        1 => by().prop_map(Event::StepStoreTime),
        3 => write().prop_map(Event::Write),
    ]
    .boxed()
}

/// A call that takes at most so long before and after the store does something.
fn call(takes: i64) -> BoxedStrategy<Call> {
    let end = prop_oneof![
        12 => Just(CallEnd::Answered),
        1 => Just(CallEnd::Failed),
        1 => Just(CallEnd::AnswerLost),
    ];
    let meanwhile = prop_oneof![3 => Just(None), 1 => (event(), any::<bool>()).prop_map(Some)];
    let takes = move || prop_oneof![3 => 0..50_i64, 1 => 0..takes];
    (takes(), takes(), meanwhile, end)
        .prop_map(|(before, after, meanwhile, end)| Call { before, after, meanwhile, end })
        .boxed()
}

fn replica_lag() -> impl Strategy<Value = i64> {
    prop_oneof![2 => Just(0), 1 => 0..10_000_i64]
}

fn step() -> BoxedStrategy<Step> {
    // A node's clock is off by up to what asking for the time takes.
    let ask = || call(1_000);
    let poll = (ask(), call(5_000), call(10_000), replica_lag())
        .prop_map(|(ask, heartbeat, read, replica_lag)| Step::Poll { ask, heartbeat, read, replica_lag });
    let read = || (call(10_000), replica_lag());
    prop_oneof![
        2 => wait().prop_map(Step::Event),
        5 => event().prop_map(Step::Event),
        6 => poll,
        1 => read().prop_map(|(read, replica_lag)| Step::Pushed { read, replica_lag }),
        2 => read().prop_map(|(read, replica_lag)| Step::WholeLog { read, replica_lag }),
        1 => ask().prop_map(Step::AskTime),
    ]
    .boxed()
}

const GOOD: Call = Call { before: 0, after: 0, meanwhile: None, end: CallEnd::Answered };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_view_is_as_young_as_it_says_and_gets_young_again(
        installation in installation(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut world = World::new(installation);
        for step in steps {
            world.take(step)?;
        }
        // Nothing fails any more.
        world.step += 1;
        prop_assert!(world.poll(GOOD, GOOD, GOOD, 0)?, "a poll that meets no failure is good");
        prop_assert!(is_fresh(world.tail.age(world.machine.time()), BOUND));
        for _ in 0..2 {
            world.take(Step::WholeLog { read: GOOD, replica_lag: 0 })?;
            world.take(Step::Poll { ask: GOOD, heartbeat: GOOD, read: GOOD, replica_lag: 0 })?;
        }
        prop_assert!(world.whole_log.is_none(), "the whole log is not read again and again");
    }
}

#[test]
fn the_overlap_holds_a_slow_insert_a_clock_that_is_off_and_the_largest_step_that_is_not_noticed() {
    let write = Write { commit_takes: 7_400, again_takes: 0, clock_error: -1_500, notices_after: 4_999 };
    let good_poll = Step::Poll { ask: GOOD, heartbeat: GOOD, read: GOOD, replica_lag: 0 };
    let installation = Installation { store_has_time: true, is_one_copy: true, is_suspended: false };
    for step in (0..15_000).step_by(250) {
        let mut world = World::new(installation);
        for step in [
            good_poll,
            Step::Event(Event::Wait(1_000)),
            Step::Event(Event::Write(write)),
            // The writer notices the step right after the insert was acknowledged.
            Step::Event(Event::Wait(2_402)),
            Step::Event(Event::StepStoreTime(step)),
            Step::Event(Event::Wait(4_900)),
            good_poll,
            Step::Event(Event::Wait(100)),
            good_poll,
        ] {
            world.take(step).expect("what the view says is true");
        }
        assert!(world.taken_in.contains(&0), "after a step of {step} ms");
    }
}

/// Polls a log with one copy in which nothing goes wrong; returns what is read, and whether the whole log is due after
/// that.
fn good_poll(tail: &mut Tail, now: Now) -> (Timestamp, bool) {
    tail.begin();
    assert_eq!(tail.next(now), Read::StoreTime);
    tail.took(Outcome::StoreTime).expect("the time counts always");
    let Read::Entries(asked) = tail.next(now) else { panic!("entries are read after the time was asked") };
    let since = asked.since;
    tail.took(Outcome::Entries { asked, heartbeat: None }).expect("one copy needs no heartbeat");
    match tail.next(now) {
        Read::Nothing => (since, false),
        Read::WholeLog(asked) => {
            tail.took(Outcome::Entries { asked, heartbeat: None }).expect("no heartbeat is asked for");
            (since, true)
        }
        other => panic!("the poll goes on: {other:?}"),
    }
}

#[test]
fn the_whole_log_is_read_when_it_is_due_and_only_then() {
    let at = |monotonic: i64, store: i64| Now {
        machine: MachineTime {
            monotonic: millis(1_000_000 + monotonic),
            time_of_day: Timestamp::from_millis(START),
        },
        store: Timestamp::from_millis(START + store),
    };
    let before = |millis: i64| Timestamp::from_millis(START - millis);
    for (case, now, fails_before, expected) in [
        ("a second later", at(1_000, 1_000), false, (before(15_000), false)),
        ("a minute later", at(60_000, 60_000), false, (before(15_000), true)),
        ("almost a minute later", at(59_999, 59_999), false, (before(15_000), false)),
        ("after a failed poll", at(1_000, 1_000), true, (before(15_000), true)),
        ("set back by a millisecond", at(0, -1), false, (Timestamp::MIN, false)),
        ("set back by more than is noticed", at(9_000, 5_000), false, (Timestamp::MIN, false)),
        ("set back by less", at(9_000, 6_000), false, (before(15_000), false)),
        ("set forward by more than is noticed", at(1_000, 5_000), false, (before(19_000), true)),
        ("set forward by less", at(1_000, 4_000), false, (before(15_000), false)),
    ] {
        let mut tail = Tail::new(BOUND, true);
        let first = good_poll(&mut tail, at(0, 0));
        assert_eq!(first, (Timestamp::MIN, false), "{case}: at first the poll itself reads the whole log");
        if fails_before {
            tail.begin();
        }
        assert_eq!(good_poll(&mut tail, now), expected, "{case}");
    }
}

#[test]
fn after_the_clock_was_set_forward_reads_start_further_back_until_a_good_poll_began_after_all_have_noticed() {
    let mut tail = Tail::new(BOUND, true);
    let at = |monotonic: i64, set_forward: i64| Now {
        machine: MachineTime { monotonic: millis(monotonic), time_of_day: Timestamp::from_millis(START) },
        store: Timestamp::from_millis(START + monotonic + set_forward),
    };
    let mut behind = |monotonic, set_forward, last: i64| {
        let (since, _) = good_poll(&mut tail, at(monotonic, set_forward));
        START + last - since.as_millis()
    };
    behind(0, 0, 0);
    assert_eq!(behind(1_000, 60_000, 0), 15_000 + 60_000);
    assert_eq!(behind(2_000, 160_000, 61_000), 15_000 + 160_000, "a second step adds to the first");
    // However late the next poll is, the others may have written in the old time since the last one.
    assert_eq!(behind(50_000, 160_000, 162_000), 15_000 + 160_000);
    assert_eq!(behind(51_000, 160_000, 210_000), 15_000);
}

#[test]
fn the_lag_is_that_of_entries_that_were_not_known() {
    let at = |millis: i64| Timestamp::from_millis(START + millis);
    let entries = |are_news| Entries {
        since: Timestamp::MIN,
        heartbeat: None,
        began: Now { machine: MachineTime { monotonic: Duration::ZERO, time_of_day: at(0) }, store: at(0) },
        purpose: Purpose::Poll,
        are_news,
    };
    for (case, are_news, known, expected) in [
        ("news", true, at(-1), Some(millis(2_000))),
        ("known", true, at(0), None),
        ("nothing was known", true, Timestamp::MIN, None),
        ("a node that has just started", false, at(-1), None),
    ] {
        assert_eq!(entries(are_news).lag(known, at(0), at(2_000)), expected, "{case}");
    }
}
