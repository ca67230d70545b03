//! The limits on guesses of passwords.
//!
//! An attempt is counted before its password is hashed ([`Attempts::begin`]) and settled afterwards
//! ([`Attempts::finish`]). Somebody who sends many guesses at once therefore gets no more of them checked than somebody
//! who sends them one by one (SEC-126), as long as the store makes each of the two steps atomic.

use std::time::Duration;

use countersign_jwt::Timestamp;

/// The attempts that one counter counts, such as those on one account or with one name. They are one row of a store. A row that does not exist has the
/// default value, and stores delete a row that has the default value again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Attempts {
    /// The number of failed attempts since the last success.
    pub failures: u32,
    /// The time at which the last of the failures was settled.
    pub last_failure: Option<Timestamp>,
    /// The number of attempts that were begun and not yet settled.
    pub running: u32,
    /// The time at which `running` is forgotten, because the node that began those attempts has crashed or lost its
    /// store. The default if no attempt is running.
    pub running_until: Timestamp,
}

/// The number of free guesses, and the growth of the pause after them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ThrottlePolicy {
    /// The number of failures before the first pause. Default 5: enough for typing errors, far too few for guessing.
    pub limit: u32,
    /// The first pause, which doubles with each failure. Default 1 second.
    pub pause: Duration,
    /// The longest pause. Default 15 minutes. Without a cap anyone could lock anyone else out for good.
    pub cap: Duration,
    /// The time without a failure after which all failures are forgotten; only a success forgets them sooner. Default
    /// 30 days, which is also the most, because counters are deleted after that ([`KEEP_ATTEMPTS_FOR`]); at least
    /// `cap`. A shorter time lets somebody who pauses for that long guess at full speed again.
    pub forget: Duration,
    /// The time after which an unsettled attempt is given up. Default 60 seconds, far more than a hash takes.
    pub lease: Duration,
}

/// The end of an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The password was right. All failures are forgotten.
    Succeeded,
    /// The password was wrong.
    Failed,
    /// The password was not checked, for instance because the caller left before its turn.
    Abandoned,
}

/// A change of the counter with this key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AttemptChange<'a> {
    /// The key of the counter.
    pub key: &'a str,
    /// The limits by which it counts.
    pub policy: ThrottlePolicy,
    /// What is counted.
    pub step: AttemptStep,
}

/// What a counter counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AttemptStep {
    /// An attempt whose password is about to be checked: [`Attempts::begin`].
    Begin,
    /// The end of an attempt: [`Attempts::finish`].
    Finish(Outcome),
    /// The failure of an attempt that another counter has admitted: [`Attempts::fail`].
    Fail,
}

impl AttemptChange<'_> {
    /// Applies the change.
    ///
    /// # Errors
    /// [`Refused`], which only [`AttemptStep::Begin`] and [`AttemptStep::Fail`] have.
    pub fn apply(&self, attempts: &mut Attempts, now: Timestamp) -> Result<(), Refused> {
        match self.step {
            AttemptStep::Begin => attempts.begin(now, &self.policy),
            AttemptStep::Finish(outcome) => {
                attempts.finish(outcome, now, &self.policy);
                Ok(())
            }
            AttemptStep::Fail => attempts.fail(now, &self.policy),
        }
    }
}

/// The refusal of an attempt that must not be checked now. A refused attempt is not counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("too many attempts; try again in {} s", retry_after.as_secs())]
pub struct Refused {
    /// The time after which to try again, in whole seconds, at least one (the `Retry-After` header, RFC 9110 §10.2.3).
    pub retry_after: Duration,
    /// What the attempt would have to wait for.
    pub reason: ThrottleReason,
}

/// What a refused attempt would have to wait for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ThrottleReason {
    /// The end of a pause after failures.
    Pause,
    /// The end of an attempt that runs. Depending on its outcome the next one is admitted at once, or after a pause.
    OthersRunning,
}

impl Attempts {
    /// Counts an attempt whose password is about to be checked.
    ///
    /// With *f* failures and *r* running attempts, an attempt below the limit is refused if *f* + *r* reaches the
    /// limit. From the limit on, it is refused while another attempt runs, or within min(2^(*f* − limit) s, cap) of the
    /// last failure.
    ///
    /// The state may change either way, so it must be stored also after a refusal: when the clock was set back, the
    /// times in the state are moved back too, and that must last. Otherwise a refusal could outlive its pause.
    ///
    /// # Errors
    /// [`Refused`]; the attempt is not counted then.
    pub fn begin(&mut self, now: Timestamp, policy: &ThrottlePolicy) -> Result<(), Refused> {
        self.settle_times(now, policy);

        let pause_left = self.pause_left(now, policy);
        let refused = if self.failures < policy.limit {
            self.failures.saturating_add(self.running) >= policy.limit
        } else {
            self.running > 0 || !pause_left.is_zero()
        };
        if refused {
            let reason =
                if pause_left.is_zero() { ThrottleReason::OthersRunning } else { ThrottleReason::Pause };
            return Err(Refused { retry_after: whole_seconds(pause_left), reason });
        }

        self.running = self.running.saturating_add(1);
        self.running_until = now + policy.lease;
        Ok(())
    }

    /// Settles an attempt that [`Attempts::begin`] admitted. It must be called once for each. A success may also be
    /// settled that was admitted by another counter: it forgets the failures here too.
    pub fn finish(&mut self, outcome: Outcome, now: Timestamp, policy: &ThrottlePolicy) {
        self.settle_times(now, policy);

        self.set_running(self.running.saturating_sub(1));
        match outcome {
            Outcome::Succeeded => self.forget_failures(),
            Outcome::Failed => {
                self.failures = self.failures.saturating_add(1);
                self.last_failure = Some(now);
            }
            Outcome::Abandoned => {}
        }
    }

    /// Counts the failure of an attempt that another counter has admitted, if this counter would have admitted it too.
    ///
    /// # Errors
    /// [`Refused`] if not; the failure is not counted then, so that a counter at its limit stays there.
    pub fn fail(&mut self, now: Timestamp, policy: &ThrottlePolicy) -> Result<(), Refused> {
        self.begin(now, policy)?;
        self.finish(Outcome::Failed, now, policy);
        Ok(())
    }

    /// Forgets what is over, and moves times from a clock that has since been set back down to `now`.
    fn settle_times(&mut self, now: Timestamp, policy: &ThrottlePolicy) {
        match self.last_failure {
            Some(at) if now.since(at) < policy.forget => self.last_failure = Some(at.min(now)),
            Some(_) | None => self.forget_failures(),
        }
        self.running_until = self.running_until.min(now + policy.lease);
        let has_lapsed = self.running_until <= now;
        self.set_running(if has_lapsed { 0 } else { self.running });
    }

    /// Sets the number of running attempts. With 0 the time at which they are forgotten is reset too, so that the row
    /// may be the default again.
    fn set_running(&mut self, running: u32) {
        self.running = running;
        if running == 0 {
            self.running_until = Timestamp::default();
        }
    }

    fn forget_failures(&mut self) {
        self.failures = 0;
        self.last_failure = None;
    }

    fn pause_left(&self, now: Timestamp, policy: &ThrottlePolicy) -> Duration {
        match (self.last_failure, self.failures.checked_sub(policy.limit)) {
            (Some(at), Some(doublings)) => {
                let times = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
                policy.pause.saturating_mul(times).min(policy.cap).saturating_sub(now.since(at))
            }
            _ => Duration::ZERO,
        }
    }
}

impl Default for ThrottlePolicy {
    fn default() -> Self {
        Self {
            limit: 5,
            pause: Duration::from_secs(1),
            cap: Duration::from_secs(15 * 60),
            forget: KEEP_ATTEMPTS_FOR,
            lease: Duration::from_secs(60),
        }
    }
}

/// The limits on logins beyond those of one account and one name ([`ThrottlePolicy`]). They concern strangers alone:
/// logins on a device that the account does not know.
///
/// ```
/// use countersign_core::model::LoginLimits;
///
/// let limits = LoginLimits { address_failures: 500, ..LoginLimits::default() };
/// assert_eq!(limits.address_names, 20);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LoginLimits {
    /// The number of failures from one address within an hour before the first pause. Default 50: enough for an office
    /// behind one address, because devices that an account knows don't count.
    pub address_failures: u32,
    /// The number of names whose logins failed from one address within an hour before the first pause. Default 20.
    /// Somebody who tries one password on many accounts needs an address for each 20 of them.
    pub address_names: u32,
    /// The number of failures at one account from one block of addresses within 30 days, up to which an attempt is
    /// checked although the account is paused. Default 3: an owner on another network gets in.
    pub block_failures: u32,
    /// The number of failures on one node within a second, from which on strangers are turned away until the second is
    /// over. Default 1,000, more than twelve processors can check.
    pub failures_per_second: u32,
    /// The number of accounts that are registered from one address within an hour before the first pause. Default 100.
    pub address_registrations: u32,
    /// The number of mails that clients of one address ask for within an hour before the first pause. Default 100.
    pub address_mails: u32,
    /// The longest time that a login waits for others that run. Default 10 seconds.
    pub wait: Duration,
}

impl LoginLimits {
    /// The first pause of an address.
    const PAUSE: Duration = Duration::from_secs(1);
    /// The longest pause of an address.
    const CAP: Duration = Duration::from_secs(15 * 60);
    /// The time for which the counters of an address count, before others take their place.
    pub const WINDOW: Duration = Duration::from_secs(3_600);
    /// The time after which an unsettled attempt is given up.
    const LEASE: Duration = Duration::from_secs(60);

    /// The policy of the counter of an address' failures.
    #[must_use]
    pub const fn address(&self) -> ThrottlePolicy {
        Self::within_window(self.address_failures, Self::PAUSE, Self::CAP)
    }

    /// The policy of the counter of the names that have failed from an address.
    #[must_use]
    pub const fn names_of_address(&self) -> ThrottlePolicy {
        Self::within_window(self.address_names, Self::PAUSE, Self::CAP)
    }

    /// The policy of the counter of the accounts that are registered from an address. Its pauses are short: the address
    /// may be that of a school.
    #[must_use]
    pub const fn registrations(&self) -> ThrottlePolicy {
        Self::within_window(self.address_registrations, Self::PAUSE, Duration::from_secs(60))
    }

    /// The policy of the counter of the mails that clients of an address ask for.
    #[must_use]
    pub const fn mails(&self) -> ThrottlePolicy {
        Self::within_window(self.address_mails, Self::PAUSE, Duration::from_secs(60))
    }

    /// The policy of a counter that admits one failure within the window. It tells whether a name has failed from an
    /// address before.
    #[must_use]
    pub const fn first_of_name(&self) -> ThrottlePolicy {
        Self::within_window(1, Self::WINDOW, Self::WINDOW)
    }

    const fn within_window(limit: u32, pause: Duration, cap: Duration) -> ThrottlePolicy {
        ThrottlePolicy { limit, pause, cap, forget: Self::WINDOW, lease: Self::LEASE }
    }

    /// The policy of the counter of a block's failures at one account or with one name.
    #[must_use]
    pub const fn block(&self) -> ThrottlePolicy {
        ThrottlePolicy {
            limit: self.block_failures,
            pause: KEEP_ATTEMPTS_FOR,
            cap: KEEP_ATTEMPTS_FOR,
            forget: KEEP_ATTEMPTS_FOR,
            lease: Self::LEASE,
        }
    }
}

impl Default for LoginLimits {
    fn default() -> Self {
        Self {
            address_failures: 50,
            address_names: 20,
            block_failures: 3,
            failures_per_second: 1_000,
            address_registrations: 100,
            address_mails: 100,
            wait: Duration::from_secs(10),
        }
    }
}

fn whole_seconds(duration: Duration) -> Duration {
    let rounded_up = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    Duration::from_secs(rounded_up.max(1))
}

/// The time for which a counter of login attempts is kept after it changed. Failures are remembered that long.
pub const KEEP_ATTEMPTS_FOR: Duration = Duration::from_secs(30 * 86_400);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn policy() -> ThrottlePolicy {
        ThrottlePolicy::default()
    }

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// `failures`, the last of them `ago_millis` ago, and `running` attempts.
    fn attempts(failures: u32, ago_millis: u64, running: u32) -> Attempts {
        Attempts {
            failures,
            last_failure: (failures > 0).then(|| NOW - millis(ago_millis)),
            running,
            running_until: if running > 0 { NOW + policy().lease } else { Timestamp::default() },
        }
    }

    #[test]
    fn sec_126_attempts_are_admitted_by_failures_running_and_the_pause() {
        for (failures, ago_millis, running, retry_after_secs) in [
            // Below the limit, failures and running attempts count together.
            (0, 0, 0, None),
            (0, 0, 4, None),
            (0, 0, 5, Some(1)),
            (4, 0, 0, None),
            (4, 0, 1, Some(1)),
            (2, 0, 2, None),
            (2, 0, 3, Some(1)),
            // From the limit on, attempts are admitted one at a time, after a pause that doubles.
            (5, 0, 0, Some(1)),
            (5, 999, 0, Some(1)),
            (5, 1_000, 0, None),
            (5, 1_000, 1, Some(1)),
            (6, 0, 0, Some(2)),
            (6, 1, 0, Some(2)),
            (6, 1_000, 0, Some(1)),
            (6, 2_000, 0, None),
            (10, 0, 0, Some(32)),
            (10, 0, 1, Some(32)),
            (10, 31_500, 0, Some(1)),
            (10, 32_000, 0, None),
            // The pause is capped.
            (14, 0, 0, Some(512)),
            (15, 0, 0, Some(900)),
            (69, 0, 0, Some(900)),
            (u32::MAX, 899_999, 0, Some(1)),
            (u32::MAX, 900_000, 0, None),
            // Only a pause of 30 days makes failures be forgotten.
            (4, 30 * 86_400_000 - 1, 1, Some(1)),
            (4, 30 * 86_400_000, 4, None),
            (14, 3_600_000, 0, None),
            (14, 3_600_000, 1, Some(1)),
        ] {
            let case = format!("f = {failures}, {ago_millis} ms ago, r = {running}");
            let before = attempts(failures, ago_millis, running);
            let mut after = before;
            match (after.begin(NOW, &policy()), retry_after_secs) {
                (Ok(()), None) => assert_eq!(after.running, running + 1, "{case}"),
                (Err(refused), Some(secs)) => {
                    assert_eq!(refused.retry_after, Duration::from_secs(secs), "{case}");
                    let pause = 1_000 * 2_u64.saturating_pow(failures.saturating_sub(5)).min(900);
                    let is_paused = failures >= 5 && ago_millis < pause;
                    let expected =
                        if is_paused { ThrottleReason::Pause } else { ThrottleReason::OthersRunning };
                    assert_eq!(refused.reason, expected, "{case}");
                    assert_eq!(after, before, "a refused attempt is not counted: {case}");
                }
                (answer, _) => panic!("{case}: {answer:?}"),
            }
        }
    }

    #[test]
    fn sec_126_of_200_attempts_at_once_at_most_five_are_checked() {
        let mut attempts = Attempts::default();
        let admitted = (0..200).filter(|_| attempts.begin(NOW, &policy()).is_ok()).count();
        assert_eq!(admitted, 5);
        for _ in 0..5 {
            attempts.finish(Outcome::Failed, NOW, &policy());
        }
        assert_eq!((attempts.failures, attempts.running), (5, 0));
        let admitted = (0..200).filter(|_| attempts.begin(NOW + millis(1_000), &policy()).is_ok()).count();
        assert_eq!(admitted, 1);
    }

    #[test]
    fn a_block_has_three_failures_in_30_days() {
        let policy = LoginLimits::default().block();
        let mut attempts = Attempts::default();
        for _ in 0..3 {
            attempts.begin(NOW, &policy).unwrap();
        }
        assert_eq!(attempts.begin(NOW, &policy).unwrap_err().reason, ThrottleReason::OthersRunning);
        for _ in 0..3 {
            attempts.finish(Outcome::Failed, NOW, &policy);
        }
        let days = |days: u64| NOW + Duration::from_secs(days * 86_400);
        for at in [NOW, days(1), days(30) - millis(1)] {
            assert_eq!(attempts.begin(at, &policy).unwrap_err().reason, ThrottleReason::Pause);
        }
        attempts.begin(days(30), &policy).unwrap();
        assert_eq!((attempts.failures, attempts.running), (0, 1));
    }

    #[test]
    fn a_name_fails_for_the_first_time_once_within_the_window() {
        let policy = LoginLimits::default().first_of_name();
        let mut attempts = Attempts::default();
        attempts.begin(NOW, &policy).unwrap();
        assert!(attempts.begin(NOW, &policy).is_err());
        attempts.finish(Outcome::Failed, NOW, &policy);
        assert!(attempts.begin(NOW + LoginLimits::WINDOW - millis(1), &policy).is_err());
        assert!(attempts.begin(NOW + LoginLimits::WINDOW, &policy).is_ok());
    }

    #[test]
    fn outcomes_settle_one_running_attempt_each() {
        for (outcome, failures, last_failure) in [
            (Outcome::Succeeded, 0, None),
            (Outcome::Failed, 4, Some(NOW)),
            (Outcome::Abandoned, 3, Some(NOW - millis(10))),
        ] {
            let mut attempts = attempts(3, 10, 2);
            attempts.finish(outcome, NOW, &policy());
            assert_eq!(
                (attempts.failures, attempts.last_failure, attempts.running),
                (failures, last_failure, 1),
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn sec_125_failures_in_a_row_are_forgotten_by_success_alone_or_after_30_days() {
        for (ago_millis, failures) in [(3_600_000, 31), (30 * 86_400_000 - 1, 31), (30 * 86_400_000, 1)] {
            let mut attempts = attempts(30, ago_millis, 1);
            attempts.finish(Outcome::Failed, NOW, &policy());
            assert_eq!(attempts.failures, failures, "{ago_millis} ms ago");
        }
    }

    #[test]
    fn sec_125_pauses_between_guesses_gain_nothing() {
        let day = Duration::from_secs(86_400);
        for (case, pause_after, pause_secs) in
            [("never", u32::MAX, 0), ("14, then an hour", 14, 3_600), ("5, then 20 minutes", 5, 1_200)]
        {
            let (mut attempts, mut now, mut checked, mut in_a_row) = (Attempts::default(), NOW, 0, 0);
            // The first day is for reaching a steady state.
            while now < NOW + day * 3 {
                match attempts.begin(now, &policy()) {
                    Ok(()) => {
                        attempts.finish(Outcome::Failed, now, &policy());
                        checked += u32::from(now >= NOW + day);
                        in_a_row += 1;
                    }
                    Err(refused) => now = now + refused.retry_after,
                }
                if in_a_row >= pause_after {
                    in_a_row = 0;
                    now = now + Duration::from_secs(pause_secs);
                }
            }
            assert!(
                checked <= 2 * 96,
                "{case}: {checked} guesses in two days, one every 15 minutes are allowed"
            );
        }
    }

    #[test]
    fn sec_219_an_attempt_that_was_given_up_leaves_nothing() {
        for outcome in [Outcome::Abandoned, Outcome::Succeeded] {
            let mut attempts = Attempts::default();
            attempts.begin(NOW, &policy()).unwrap();
            assert_ne!(attempts, Attempts::default());
            attempts.finish(outcome, NOW, &policy());
            assert_eq!(attempts, Attempts::default(), "{outcome:?}");
        }
        let mut late = Attempts::default();
        late.begin(NOW, &policy()).unwrap();
        late.finish(Outcome::Abandoned, NOW + millis(61_000), &policy());
        assert_eq!(late, Attempts::default(), "after its lease, too");
    }

    #[test]
    fn running_attempts_of_a_crashed_node_are_forgotten_when_the_lease_ends() {
        let mut crashed = Attempts::default();
        for _ in 0..5 {
            crashed.begin(NOW, &policy()).unwrap();
        }
        assert!(crashed.begin(NOW + millis(59_999), &policy()).is_err());
        crashed.begin(NOW + millis(60_000), &policy()).unwrap();
        assert_eq!(crashed.running, 1);
    }

    #[test]
    fn an_attempt_settled_after_its_lease_leaves_no_debt() {
        let mut attempts = Attempts::default();
        attempts.begin(NOW, &policy()).unwrap();
        attempts.finish(Outcome::Failed, NOW + millis(61_000), &policy());
        assert_eq!((attempts.failures, attempts.running), (1, 0));
    }

    #[test]
    fn a_clock_set_back_refuses_no_longer_than_the_pause() {
        let yesterday = NOW - Duration::from_secs(86_400);
        let mut paused = attempts(10, 0, 0);
        let refused = paused.begin(yesterday, &policy()).unwrap_err();
        assert_eq!(refused.retry_after, Duration::from_secs(32));
        assert!(paused.begin(yesterday + millis(31_999), &policy()).is_err());
        assert!(paused.begin(yesterday + millis(32_000), &policy()).is_ok());

        let mut leased = attempts(0, 0, 5);
        assert!(leased.begin(yesterday, &policy()).is_err());
        assert!(leased.begin(yesterday + policy().lease, &policy()).is_ok());
    }

    #[test]
    fn failures_without_a_time_lock_nobody_out() {
        let mut stored = Attempts { failures: u32::MAX, ..Attempts::default() };
        assert!(stored.begin(NOW, &policy()).is_ok());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Begin,
        Finish(Outcome),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Begin),
            2 => Just(Step::Finish(Outcome::Failed)),
            1 => Just(Step::Finish(Outcome::Abandoned)),
            1 => (0..5_000_u64).prop_map(Step::Wait),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn sec_126_no_order_of_attempts_gets_more_checked_than_the_limit_and_the_pauses_allow(steps in steps()) {
            let (mut attempts, mut now, mut in_flight) = (Attempts::default(), NOW, 0_u32);
            for step in steps {
                match step {
                    Step::Begin => {
                        let last_failure = attempts.last_failure;
                        if attempts.begin(now, &policy()).is_ok() {
                            in_flight += 1;
                            if attempts.failures >= 5 {
                                prop_assert_eq!(attempts.running, 1);
                                prop_assert!(now.since(last_failure.unwrap()) >= millis(1_000));
                            } else {
                                prop_assert!(attempts.failures + attempts.running <= 5);
                            }
                        }
                    }
                    Step::Finish(outcome) if in_flight > 0 => {
                        in_flight -= 1;
                        attempts.finish(outcome, now, &policy());
                    }
                    Step::Finish(_) => {}
                    Step::Wait(for_millis) => now = now + millis(for_millis),
                }
            }
        }

        #[test]
        fn any_stored_state_recovers_within_the_longest_pause(
            failures: u32, last_failure in proptest::option::of(any::<i64>()), running: u32, until: i64,
            now in 0..1_i64 << 52,
        ) {
            let mut attempts = Attempts {
                failures,
                last_failure: last_failure.map(Timestamp::from_millis),
                running,
                running_until: Timestamp::from_millis(until),
            };
            let now = Timestamp::from_millis(now);
            if let Err(refused) = attempts.begin(now, &policy()) {
                prop_assert!(refused.retry_after >= Duration::from_secs(1));
                prop_assert!(refused.retry_after <= policy().cap);
                prop_assert!(attempts.begin(now + policy().cap, &policy()).is_ok());
            }
        }
    }
}
