//! The rules of the tail of the revocation log: what to read next, how far back, and what an answer is worth.
//!
//! [`Tail`] is a pure state machine, as [`decide`](crate::model::decide()) is a pure function. It calls no store and no
//! clock: [`Tail::next`] says what to read, the view reads it, and [`Tail::took`] learns what came of it. A read that
//! fails, hangs or is abandoned needs no report: [`Tail::begin`] finds that the poll before did not end.
//!
//! The promise of the tail: when the view is `age` old, it has taken in every entry whose insert was acknowledged
//! longer ago than `age`. The promise rests on these rules, and `tail/tests/model.rs` shows that it breaks without any
//! of them:
//!
//! - The age counts from before the read began, by the longer of two clocks ([`MachineTime::until`]).
//! - A read starts [`OVERLAP`] before the last good poll. Half of the overlap is for inserts that take long: if an
//!   insert took longer than that, the writer dates the entry anew before it is acknowledged. A quarter is for steps of
//!   the store's clock that are too small to be noticed, and a quarter is for the nodes' clocks being off from the
//!   store's.
//! - Where the log has several copies, a read counts only if this node's own heartbeat was in it.
//! - After the clock was set back, the whole log is read before the view counts as younger.
//! - After the clock was set forward, reads start further back by as much, until the other nodes have noticed it too.
//!
//! Two limits are known. A clock that is set twice between two polls is noticed as if it had been set once, by the sum.
//! A node that has just started knows nothing of a step of the store's clock before its first poll.

use std::time::Duration;

use countersign_jwt::time::Timestamp;

use crate::flow::clock::MachineTime;

/// The time before the last good poll from which the next one reads on.
pub(super) const OVERLAP: Duration = crate::model::OVERLAP;
/// The time between two reads of the whole log.
pub(super) const FULL_READ_EVERY: Duration = Duration::from_secs(60);
/// The time before the last read of pushed entries from which the next one reads on. An entry that becomes visible
/// later than that is left to the next poll.
const PUSH_OVERLAP: Duration = Duration::from_secs(1);
/// The step of the clock above which it is noticed. The overlap covers smaller steps.
const NOTICED: Duration = Duration::from_millis(OVERLAP.as_millis() as u64 / 4);

/// One moment by all clocks that the tail goes by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Now {
    /// By the machine's own clocks. The view's age is measured with them.
    pub(super) machine: MachineTime,
    /// By the store's clock, as far as this node knows it. Entries are dated with it.
    pub(super) store: Timestamp,
}

impl Now {
    /// The milliseconds by which the store's time was set forward since `then`, as seen from this node; negative if it
    /// was set back. A machine that was suspended sees the same as one whose store's time was set forward.
    fn set_forward_since(self, then: Self) -> i64 {
        let passed = self.machine.monotonic.saturating_sub(then.machine.monotonic);
        let passed = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        self.store.as_millis().saturating_sub(then.store.as_millis()).saturating_sub(passed)
    }
}

/// Whether a view of this age is young enough to decide by.
pub(super) fn is_fresh(age: Option<Duration>, bound: Duration) -> bool {
    age.is_some_and(|age| age <= bound)
}

/// Whether a view of this age is to be polled before a read of the whole log goes on.
pub(super) fn is_poll_due(age: Option<Duration>, bound: Duration) -> bool {
    age.is_some_and(|age| age > bound / 5)
}

/// The next step of a poll.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Read {
    /// Ask the store for its time, so that [`Now::store`] goes by it from then on.
    StoreTime,
    /// Read these entries. When [`Tail::took`] accepts the answer, the view counts from [`Entries::began`].
    Entries(Entries),
    /// The view is up to date, and the poll is over. The whole log is to be read again beside other polls, with a poll
    /// between two pages whenever [`is_poll_due`]. If such a read is under way already, there is nothing to do.
    WholeLog(Entries),
    /// There is nothing to do, and the poll is over.
    Nothing,
}

/// A range of entries of the log that is to be read, from its first page to its last.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Entries {
    /// Entries with this `at` or a later one.
    pub(super) since: Timestamp,
    /// The `at` of the heartbeat that is to be written before the read; `None` where none is needed.
    pub(super) heartbeat: Option<Timestamp>,
    /// The moment at which the read began.
    pub(super) began: Now,
    purpose: Purpose,
    /// Whether entries that are new to this node are new to every node, because this node has read all older ones.
    are_news: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Purpose {
    Poll,
    Pushed,
    WholeLog {
        /// The number of polls that had failed when the read began.
        failed_polls: u64,
    },
}

impl Entries {
    /// Whether this is the whole log, after which entries that no longer matter may be forgotten.
    pub(super) fn is_whole_log(&self) -> bool {
        self.since == Timestamp::MIN
    }

    /// The time for which the latest entry of a page had been in the log when it was read. `None` if the entry was
    /// known before, or tells nothing because this node has just started. `known` is the latest `at` of the entries
    /// known so far.
    pub(super) fn lag(&self, known: Timestamp, latest: Timestamp, now: Timestamp) -> Option<Duration> {
        (self.are_news && known > Timestamp::MIN && latest > known).then(|| now.since(latest))
    }
}

/// The result of a [`Read`] that was carried out. A read that failed has no outcome.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The store was asked for its time.
    StoreTime,
    /// The entries were read to the end.
    Entries {
        /// The entries that were asked for.
        asked: Entries,
        /// The `at` of this node's own heartbeat, if it was among the entries.
        heartbeat: Option<Timestamp>,
    },
}

/// The log was read from a copy that lacks what was written before.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the log as read is older than this node's own heartbeat: a replica that lags, or a store that lost writes; read \
     from the primary, or check what the store lost"
)]
pub(super) struct ReadIsOld;

/// The stage of a poll.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// No poll runs.
    Idle,
    /// The store's time is to be asked.
    Begun,
    /// The store's time is known; entries are to be read.
    TimeAsked,
    /// Entries are being read.
    Reading,
    /// The view is up to date; the whole log may be due.
    UpToDate,
}

/// A step forward of the store's time that other nodes may not have noticed yet. Until they do, they date entries
/// earlier.
#[derive(Clone, Copy, Debug)]
struct SetForward {
    /// The length of the step.
    by: Duration,
    /// The moment at which all nodes have asked the store for its time, by this machine's monotonic clock.
    noticed_by_all: Duration,
}

/// What is known about the reads of the log so far, and the rules that follow from it.
#[derive(Debug)]
pub(super) struct Tail {
    bound: Duration,
    /// Whether the log has one copy, so that every read finds everything that was written before.
    is_one_copy: bool,
    stage: Stage,
    /// The moment at which the last poll began to read, whatever came of it.
    last_begun: Option<Now>,
    /// The moment at which the last good poll began to read. The view's age counts from it.
    last_good: Option<Now>,
    /// The moment at which the last good poll began to read, by the store's clock; `None` if the next poll must read
    /// the whole log.
    resume_from: Option<Timestamp>,
    set_forward: Option<SetForward>,
    /// The moment at which the last full read that counts began, by the monotonic clock; `None` asks for a full read.
    last_full: Option<Duration>,
    /// The number of polls that did not end.
    failed_polls: u64,
    /// The `at` of the last heartbeat that was written, or may have been.
    last_heartbeat: Timestamp,
    /// The time at which pushed entries were last read, by the store's clock.
    last_pushed: Option<Timestamp>,
}

impl Tail {
    /// The tail of a log of which nothing was read yet.
    pub(super) fn new(bound: Duration, is_one_copy: bool) -> Self {
        Self {
            bound,
            is_one_copy,
            stage: Stage::Idle,
            last_begun: None,
            last_good: None,
            resume_from: None,
            set_forward: None,
            last_full: None,
            failed_polls: 0,
            last_heartbeat: Timestamp::MIN,
            last_pushed: None,
        }
    }

    /// The moment from which the view's age counts; `None` before the first good poll.
    pub(super) fn counts_from(&self) -> Option<MachineTime> {
        self.last_good.map(|began| began.machine)
    }

    /// The age of the view; `None` before the first good poll.
    #[cfg(test)]
    pub(super) fn age(&self, now: MachineTime) -> Option<Duration> {
        self.counts_from().map(|began| began.until(now))
    }

    /// Begins a poll. If the poll before did not end, it failed, and the whole log is due: while the store could not be
    /// read, more may have happened to it than the overlap covers.
    pub(super) fn begin(&mut self) {
        if self.stage != Stage::Idle {
            self.failed_polls = self.failed_polls.saturating_add(1);
            self.last_full = None;
        }
        self.stage = Stage::Begun;
    }

    /// The next step of the poll that has begun.
    pub(super) fn next(&mut self, now: Now) -> Read {
        match self.stage {
            Stage::Begun => Read::StoreTime,
            Stage::TimeAsked => {
                self.look_at_clock(now);
                self.stage = Stage::Reading;
                let (since, heartbeat) = (self.since(), self.heartbeat(now));
                Read::Entries(self.entries(since, heartbeat, now, Purpose::Poll))
            }
            Stage::UpToDate => {
                self.stage = Stage::Idle;
                if !self.is_full_read_due(now) {
                    return Read::Nothing;
                }
                let purpose = Purpose::WholeLog { failed_polls: self.failed_polls };
                Read::WholeLog(self.entries(Timestamp::MIN, None, now, purpose))
            }
            Stage::Idle | Stage::Reading => Read::Nothing,
        }
    }

    /// The entries to read after a push; `None` if that is left to the next poll. The view grows no younger by this
    /// read.
    pub(super) fn next_pushed(&self, now: Now) -> Option<Entries> {
        let from = self.last_pushed.max(self.resume_from)?;
        Some(self.entries(from - PUSH_OVERLAP, None, now, Purpose::Pushed))
    }

    /// Takes in the result of a read.
    ///
    /// # Errors
    /// [`ReadIsOld`] if the read does not count. The view then only grows older.
    pub(super) fn took(&mut self, outcome: Outcome) -> Result<(), ReadIsOld> {
        let (asked, heartbeat) = match outcome {
            Outcome::StoreTime => {
                self.stage = Stage::TimeAsked;
                return Ok(());
            }
            Outcome::Entries { asked, heartbeat } => (asked, heartbeat),
        };
        match asked.purpose {
            Purpose::Poll => {
                // An earlier heartbeat proves that everything written before that heartbeat was read, and nothing more.
                if heartbeat < asked.heartbeat {
                    return Err(ReadIsOld);
                }
                self.stage = Stage::UpToDate;
                self.last_good = Some(asked.began);
                self.resume_from = Some(asked.began.store);
                if asked.is_whole_log() {
                    self.last_full = Some(asked.began.machine.monotonic);
                }
            }
            Purpose::Pushed => self.last_pushed = Some(asked.began.store),
            // A poll that failed meanwhile asks for a full read that began after it.
            Purpose::WholeLog { failed_polls } if failed_polls < self.failed_polls => {}
            Purpose::WholeLog { .. } => self.last_full = Some(asked.began.machine.monotonic),
        }
        Ok(())
    }

    fn entries(
        &self,
        since: Timestamp,
        heartbeat: Option<Timestamp>,
        began: Now,
        purpose: Purpose,
    ) -> Entries {
        Entries { since, heartbeat, began, purpose, are_news: self.last_good.is_some() }
    }

    /// Notices that the store's time was set since the last poll, whoever asked the store for it.
    fn look_at_clock(&mut self, now: Now) {
        let set_forward = self.last_begun.map_or(0, |then| now.set_forward_since(then));
        self.last_begun = Some(now);
        let is_noticed = Duration::from_millis(set_forward.unsigned_abs()) > NOTICED;
        let is_future = |then: Option<Timestamp>| then.is_some_and(|then| now.store < then);
        if is_future(self.resume_from) || (is_noticed && set_forward < 0) {
            // Other nodes that noticed the step sooner have dated entries before the start of an incremental read.
            self.resume_from = None;
            self.last_pushed = None;
        }
        if is_future(self.last_pushed) {
            self.last_pushed = None;
        }
        if is_noticed && set_forward > 0 {
            let by = Duration::from_millis(set_forward.unsigned_abs());
            self.set_forward = Some(SetForward {
                by: self.dated_earlier_by().saturating_add(by),
                noticed_by_all: now.machine.monotonic.saturating_add(self.bound.saturating_mul(2)),
            });
            self.last_full = None;
        }
    }

    /// The time by which other nodes may have dated entries earlier that were written since the last good poll.
    fn dated_earlier_by(&self) -> Duration {
        let (Some(set_forward), Some(last_good)) = (self.set_forward, self.last_good) else {
            return Duration::ZERO;
        };
        // The comparison is with the last good poll and not with now, because polls may have failed for long since
        // then.
        let is_over = last_good.machine.monotonic > set_forward.noticed_by_all;
        if is_over { Duration::ZERO } else { set_forward.by }
    }

    /// The earliest `at` that a poll reads, so that it misses nothing that was acknowledged since the last good one.
    fn since(&self) -> Timestamp {
        self.resume_from.map_or(Timestamp::MIN, |from| from - OVERLAP - self.dated_earlier_by())
    }

    /// The `at` of a new heartbeat. It is later than that of any earlier heartbeat even if the clock was set back:
    /// entries merge by the later time, and an earlier heartbeat must not be taken for this one.
    fn heartbeat(&mut self, now: Now) -> Option<Timestamp> {
        if self.is_one_copy {
            return None;
        }
        // The heartbeat is noted before it is written, because a write that seems to fail may have been done.
        self.last_heartbeat = now.store.max(self.last_heartbeat + Duration::from_millis(1));
        Some(self.last_heartbeat)
    }

    fn is_full_read_due(&self, now: Now) -> bool {
        let is_over = |began| now.machine.monotonic.saturating_sub(began) >= FULL_READ_EVERY;
        self.last_full.is_none_or(is_over)
    }
}

#[cfg(test)]
mod tests;
