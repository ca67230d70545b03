//! The counters of a login: how many guesses are checked, and whose failures hold up whom.
//!
//! A login on a device that the account knows counts at that device alone, so whatever strangers do does not hold it
//! up. A login of a stranger counts at its address, at the name as given, and at the account that has the name. Each
//! counter is one row of the store, and each change of it one atomic step. A login counts as running before its password
//! is hashed, and is settled afterwards.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_jwt::id::UserId;
use countersign_jwt::time::Timestamp;
use tokio::time::sleep;

use super::caller::Waiting;
use super::devices::device_counter;
use super::minutes::{Minute, Minutes};
use super::{Accounts, AccountsConfig, Arrival, CodeLoginError, LoginName};
use crate::model::event::Event;
use crate::model::throttle::{
    AttemptChange, AttemptStep, LoginLimits, Outcome, Refused, ThrottlePolicy, ThrottleReason,
};
use crate::model::{ClientNetwork, Device};
use crate::store::{ADDRESS_COUNTERS, BLOCK_COUNTERS, NAME_COUNTERS, StoreError};

/// A login that counts as running.
#[derive(Debug)]
pub(super) enum Attempt {
    /// On a device that the account knows.
    OnKnownDevice { user_id: UserId, counter: Counter },
    /// Of anybody else.
    OfStranger(Box<OfStranger>),
}

/// A login that counts as running at the name, the account and, if it is known, the address.
#[derive(Debug)]
pub(super) struct OfStranger {
    address: Option<AddressCounters>,
    name: Admitted,
    account: Account,
}

/// The account of a stranger's attempt.
///
/// The counters of the name and of the account follow the same rules. A caller can see only the name's, and every name
/// has its own, so nothing tells whether two names belong to one account. The account's counters limit how many guesses
/// are checked, whichever names they come by. A name that nobody has gets counters of an account too, so that it costs
/// the store what others cost.
#[derive(Debug)]
pub(super) enum Account {
    /// The account, whose counters all its names share.
    Known { user_id: UserId, admitted: Admitted },
    /// Nobody has the name. The counters are those of an account that has it alone.
    Unknown { admitted: Admitted },
    /// The account's counters don't admit the attempt, because of failures by its other name. Such an attempt is treated
    /// like one with a name that nobody has. This counter makes it cost the store what others cost, and forgets it.
    Refused { counter: Counter },
}

/// A row of the store, and the rule by which it counts.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    key: String,
    policy: ThrottlePolicy,
}

/// How a name or an account has admitted an attempt.
#[derive(Debug)]
pub(super) struct Admitted {
    own: Counter,
    /// The counter of the attempt's block of addresses, at this name or account.
    block: Counter,
    by: By,
}

/// The counter that has admitted an attempt, and counts it as running.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum By {
    Own,
    Block,
}

/// The counters of an account, or of a name that nobody has.
#[derive(Debug)]
struct CountersOfAccount {
    own: Counter,
    /// The counter of the attempt's block of addresses.
    block: Counter,
}

/// The counters of the address that an attempt comes from.
#[derive(Debug)]
pub(super) struct AddressCounters {
    failures: Counter,
    /// Counts the names whose logins failed from this address.
    names: Counter,
    /// Tells whether this name has failed from this address before.
    first_of_name: Counter,
}

/// The reason why a login did not begin to count.
#[derive(Debug)]
pub(super) enum NotBegun {
    /// A counter does not admit it now.
    Refused(Refused),
    /// Too many logins of strangers fail on this node.
    Flood,
    /// The caller left.
    CallerLeft,
    /// The store could not answer.
    Store(StoreError),
}

impl From<StoreError> for NotBegun {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The failed logins of this node: for the event of each minute, and for the limit of each second.
#[derive(Debug, Default)]
pub(super) struct Failures {
    pub(super) minutes: Minutes,
    second: i64,
    in_second: u32,
}

impl Failures {
    /// Counts a failure of a stranger towards the limit of the second.
    fn count_in_second(&mut self, now: Timestamp) {
        if self.second != now.as_secs() {
            (self.second, self.in_second) = (now.as_secs(), 0);
        }
        self.in_second = self.in_second.saturating_add(1);
    }

    /// Whether as many strangers have failed in this second as may.
    fn are_too_many(&self, now: Timestamp, limits: &LoginLimits) -> bool {
        self.second == now.as_secs() && self.in_second >= limits.failures_per_second
    }
}

impl Attempt {
    /// The account whose password is checked, if one is.
    pub(super) fn user_id(&self) -> Option<&UserId> {
        match self {
            Self::OnKnownDevice { user_id, .. } => Some(user_id),
            Self::OfStranger(stranger) => match &stranger.account {
                Account::Known { user_id, .. } => Some(user_id),
                Account::Unknown { .. } | Account::Refused { .. } => None,
            },
        }
    }

    /// Whether the account has refused the attempt, which its caller must not learn.
    pub(super) fn is_refused_by_account(&self) -> bool {
        match self {
            Self::OnKnownDevice { .. } => false,
            Self::OfStranger(stranger) => matches!(stranger.account, Account::Refused { .. }),
        }
    }
}

impl AddressCounters {
    /// The counters of this network within this hour, and of this name there.
    fn of(network: ClientNetwork, name: &LoginName, now: Timestamp, limits: &LoginLimits) -> Self {
        let counter = |kind: &str, rest: &str, policy| of_address(kind, network, rest, now, policy);
        Self {
            failures: failures_of(network, now, limits),
            names: counter("names", "", limits.names_of_address()),
            first_of_name: counter("name", &format!(":{}", name.digest()), limits.first_of_name()),
        }
    }
}

/// The counter of the failures of this network within this hour.
fn failures_of(network: ClientNetwork, now: Timestamp, limits: &LoginLimits) -> Counter {
    of_address("failures", network, "", now, limits.address())
}

fn of_address(
    kind: &str,
    network: ClientNetwork,
    rest: &str,
    now: Timestamp,
    policy: ThrottlePolicy,
) -> Counter {
    let (start, hour, network) = (ADDRESS_COUNTERS.start, hour(now), network.key());
    Counter { key: format!("{start}{hour:010}:{kind}:{network}{rest}"), policy }
}

/// The key of a counter of what clients of this address do within this hour. The machine's own addresses have none: behind
/// a proxy that is not set up as one, all clients have them.
pub(super) fn counter_of_client(what: &str, client: Option<IpAddr>, now: Timestamp) -> Option<String> {
    let ip = client.filter(|ip| !ip.to_canonical().is_loopback())?;
    let (start, hour, network) = (ADDRESS_COUNTERS.start, hour(now), ClientNetwork::of(ip).key());
    Some(format!("{start}{hour:010}:{what}:{network}"))
}

/// The number of the hour in which the counters of an address count.
pub(crate) fn hour(now: Timestamp) -> i64 {
    let hour = i64::try_from(LoginLimits::WINDOW.as_secs()).unwrap_or(i64::MAX);
    now.as_secs().max(0) / hour
}

impl LoginName {
    /// The digest that counters know this name by, so that they hold no names.
    fn digest(&self) -> String {
        let (kind, text) = match self {
            Self::Email(email) => ("email", email.key()),
            Self::Username(username) => ("username", username.key()),
            Self::Impossible(text) => ("impossible", text.as_str()),
        };
        let digest = digest::digest(&digest::SHA256, format!("{kind}:{text}").as_bytes());
        URL_SAFE_NO_PAD.encode(digest.as_ref())
    }
}

impl Accounts {
    /// The most logins of this node that wait for others with the same name or on the same device. Further ones are
    /// refused, so that guesses at one account don't fill the hash pool.
    const MOST_WAITING: usize = 20;
    /// How often a waiting login asks the store whether another node has settled one.
    const ASK_AGAIN: Duration = Duration::from_millis(100);

    /// Counts a login as running. It waits as long as only others that run are in its way.
    pub(super) async fn begin_attempt(
        &self,
        name: &LoginName,
        user_id: Option<UserId>,
        arrival: &Arrival,
        waiting: &mut Waiting,
    ) -> Result<Attempt, NotBegun> {
        let AccountsConfig { limits, clock, .. } = &*self.shared;
        if let Some(token) = &arrival.known_device
            && let Some(user_id) = self.knows_device(user_id.as_ref(), token).await
        {
            let counter = self.counter(device_counter(token, &user_id));
            self.admit(&counter, "device", Self::MOST_WAITING, waiting).await?;
            return Ok(Attempt::OnKnownDevice { user_id, counter });
        }
        if arrival.known_device.is_some() && self.is_full_for_strangers() {
            return Err(NotBegun::Flood);
        }
        let now = clock.now();
        if self.failures().are_too_many(now, limits) {
            count_refused("all");
            return Err(NotBegun::Flood);
        }
        let address = arrival.device.ip.map(ClientNetwork::of);
        let address = address.map(|network| AddressCounters::of(network, name, now, limits));
        let mut running = Vec::new();
        let begun = self.begin_of_stranger(name, user_id, address, arrival, waiting, &mut running).await;
        if begun.is_err() {
            for counter in running.iter().rev() {
                // If this call fails too, the attempt is given up when its lease ends.
                let _ = self.finish_counter(counter, Outcome::Abandoned).await;
            }
        }
        begun
    }

    /// Counts a stranger's login as running, and notes each counter at which it does.
    async fn begin_of_stranger(
        &self,
        name: &LoginName,
        user_id: Option<UserId>,
        address: Option<AddressCounters>,
        arrival: &Arrival,
        waiting: &mut Waiting,
        running: &mut Vec<Counter>,
    ) -> Result<Attempt, NotBegun> {
        let block = ClientNetwork::block_of(arrival.device.ip);
        let name = format!("{}{}", NAME_COUNTERS.start, name.digest());
        let own = self.counter(name.clone());
        let of_block = self.block_counter(format!("{name}@{block}"));
        let account = self.counters_of_account(&name, &block, user_id.as_ref());

        // Usually all counters admit the attempt, and one call of the store does it all.
        let of_address = address.iter().flat_map(|address| [&address.failures, &address.names]);
        let all: Vec<&Counter> = of_address.chain([&own, &account.own]).collect();
        let mut begun = self.begin_counters(&all).await?;
        running.extend(all.iter().take(begun).map(|counter| (*counter).clone()));
        let mut is_begun = || {
            let is_begun = begun > 0;
            begun = begun.saturating_sub(1);
            is_begun
        };

        if let Some(address) = &address {
            // The pool's places bound how many wait for the address.
            for (counter, limit) in [(&address.failures, "address"), (&address.names, "names_of_address")] {
                if !is_begun() {
                    self.admit(counter, limit, usize::MAX, waiting).await?;
                    running.push(counter.clone());
                }
            }
        }
        let by = if is_begun() {
            By::Own
        } else {
            let by = self.admit_by_name(&own, &of_block, waiting).await?;
            running.push(match by {
                By::Own => own.clone(),
                By::Block => of_block.clone(),
            });
            by
        };
        let account = self.begin_at_account(&name, account, user_id, is_begun()).await?;
        let name = Admitted { own, block: of_block, by };
        Ok(Attempt::OfStranger(Box::new(OfStranger { address, name, account })))
    }

    /// Counts an attempt as running at its name.
    async fn admit_by_name(
        &self,
        own: &Counter,
        of_block: &Counter,
        waiting: &mut Waiting,
    ) -> Result<By, NotBegun> {
        match self.admit(own, "name", Self::MOST_WAITING, waiting).await {
            Ok(()) => Ok(By::Own),
            // A stranger on a network from which few have failed is let in nevertheless: it may be the owner.
            Err(NotBegun::Refused(refused)) if refused.reason == ThrottleReason::Pause => {
                let begun = self.begin_counter(of_block).await?;
                begun.map(|()| By::Block).map_err(|_| NotBegun::Refused(refused))
            }
            Err(error) => Err(error),
        }
    }

    fn counters_of_account(&self, name: &str, block: &str, user_id: Option<&UserId>) -> CountersOfAccount {
        let (own, block) = match user_id {
            Some(user_id) => {
                (format!("user:{user_id}"), format!("{}{block}:{user_id}", BLOCK_COUNTERS.start))
            }
            None => (format!("{name}/nobody"), format!("{name}/nobody@{block}")),
        };
        CountersOfAccount { own: self.counter(own), block: self.block_counter(block) }
    }

    /// Counts an attempt as running at its account, unless its own counter counts it already (`is_begun`).
    ///
    /// It never waits for attempts by the account's other name: how long an answer takes would tell that there is one.
    async fn begin_at_account(
        &self,
        name: &str,
        CountersOfAccount { own, block }: CountersOfAccount,
        user_id: Option<UserId>,
        is_begun: bool,
    ) -> Result<Account, StoreError> {
        let begun = if is_begun { Ok(()) } else { self.begin_counter(&own).await? };
        let by = match begun {
            Ok(()) => Some(By::Own),
            // Attempts at once from one block must not be checked beyond the account's own limit, so the block is asked
            // only after the account's own failures are counted there too.
            Err(Refused { reason: ThrottleReason::OthersRunning, .. }) => None,
            Err(_) => self.begin_counter(&block).await?.is_ok().then_some(By::Block),
        };
        Ok(match (by.map(|by| Admitted { own, block, by }), user_id) {
            (Some(admitted), Some(user_id)) => Account::Known { user_id, admitted },
            (Some(admitted), None) => Account::Unknown { admitted },
            (None, _) => {
                let counter = self.counter(format!("{name}/refused"));
                // This counter never refuses: it forgets every attempt, and no more run at once than the name admits.
                let _ = self.begin_counter(&counter).await?;
                Account::Refused { counter }
            }
        })
    }

    /// Counts an attempt as running at this counter. While only others that run are in its way, it waits, with the place
    /// in the hash pool that it has.
    async fn admit(
        &self,
        counter: &Counter,
        limit: &'static str,
        most_waiting: usize,
        waiting: &mut Waiting,
    ) -> Result<(), NotBegun> {
        let refuse = |refused| {
            count_refused(limit);
            Err(NotBegun::Refused(refused))
        };
        match self.begin_counter(counter).await? {
            Ok(()) => return Ok(()),
            Err(refused) if refused.reason == ThrottleReason::Pause => return refuse(refused),
            Err(_) => {}
        }
        let queue = self.queues.join(&counter.key, most_waiting);
        let too_long = sleep(self.shared.limits.wait);
        tokio::pin!(too_long);
        loop {
            // Whatever is settled from now on wakes somebody in the queue, so the first look is not the last.
            let refused = match self.begin_counter(counter).await? {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            let queue = match (&queue, refused.reason) {
                (Some(queue), ThrottleReason::OthersRunning) => queue,
                _ => return refuse(refused),
            };
            tokio::select! {
                biased;
                () = waiting.left() => return Err(NotBegun::CallerLeft),
                () = &mut too_long => return refuse(refused),
                () = queue.woken() => {}
                () = sleep(Self::ASK_AGAIN) => {}
            }
        }
    }

    /// Settles a login. The account is settled before the name: in this order the account's counters never refuse what
    /// the name's admit, as long as all attempts come by that name. In each, the block is settled first: whoever then
    /// finds a pause finds the failures that led to it counted by their blocks.
    ///
    /// Every counter is settled whatever came of the others.
    pub(super) async fn finish_attempt(
        &self,
        attempt: &Attempt,
        outcome: Outcome,
        device: &Device,
    ) -> Result<(), StoreError> {
        if outcome == Outcome::Failed {
            self.count_failure(attempt, device);
        }
        let OfStranger { address, name, account } = match attempt {
            Attempt::OnKnownDevice { counter, .. } => return self.finish_counter(counter, outcome).await,
            Attempt::OfStranger(stranger) => &**stranger,
        };
        let mut changes = Vec::new();
        match account {
            Account::Known { admitted, .. } | Account::Unknown { admitted } => {
                changes.extend(admitted.finish(outcome));
            }
            Account::Refused { counter } => {
                changes.push((counter, AttemptStep::Finish(Outcome::Abandoned)));
            }
        }
        changes.extend(name.finish(outcome));
        let Some(AddressCounters { failures, names, first_of_name }) = address else {
            return self.change_counters(&changes).await.map(|_| ());
        };
        // A success does not reset the failures of the address: whoever guesses may have an account.
        let (of_address, first) = match outcome {
            Outcome::Failed => {
                changes.push((first_of_name, AttemptStep::Fail));
                let answers = self.change_counters(&changes).await;
                changes.clear();
                // Without an answer the name counts as a new one.
                let first = answers.as_ref().map_or(true, |answers| answers.last().is_none_or(Result::is_ok));
                (Outcome::Failed, answers.map(|_| first))
            }
            Outcome::Succeeded | Outcome::Abandoned => (Outcome::Abandoned, Ok(false)),
        };
        let of_names = if *first.as_ref().unwrap_or(&true) { of_address } else { Outcome::Abandoned };
        changes.push((names, AttemptStep::Finish(of_names)));
        changes.push((failures, AttemptStep::Finish(of_address)));
        let rest = self.change_counters(&changes).await;
        first.and(rest.map(|_| ()))
    }

    /// Counts attempts as running at these counters, until one does not admit it. Returns how many did.
    async fn begin_counters(&self, counters: &[&Counter]) -> Result<usize, StoreError> {
        let AccountsConfig { throttles, clock, .. } = &*self.shared;
        let changes: Vec<_> = counters.iter().map(|counter| counter.change(AttemptStep::Begin)).collect();
        let answers = throttles.change_attempts(&changes, clock.now()).await?;
        Ok(answers.iter().filter(|answer| answer.is_ok()).count())
    }

    /// Applies changes none of which begins an attempt, and wakes whoever waits at one of the counters.
    async fn change_counters(
        &self,
        changes: &[(&Counter, AttemptStep)],
    ) -> Result<Vec<Result<(), Refused>>, StoreError> {
        let AccountsConfig { throttles, clock, .. } = &*self.shared;
        let all: Vec<_> = changes.iter().map(|(counter, step)| counter.change(*step)).collect();
        let answers = throttles.change_attempts(&all, clock.now()).await;
        for (counter, _) in changes {
            self.queues.settled(&counter.key);
        }
        answers
    }

    /// Counts a login by a mailed code as running at the address that it comes from, if that is known.
    pub(super) async fn begin_at_address(
        &self,
        ip: Option<IpAddr>,
    ) -> Result<Option<Counter>, CodeLoginError> {
        let Some(network) = ip.map(ClientNetwork::of) else { return Ok(None) };
        let AccountsConfig { clock, limits, .. } = &*self.shared;
        let counter = failures_of(network, clock.now(), limits);
        match self.begin_counter(&counter).await? {
            Ok(()) => Ok(Some(counter)),
            Err(Refused { retry_after, .. }) => {
                count_refused("address");
                Err(CodeLoginError::TooManyAttempts { retry_after })
            }
        }
    }

    fn counter(&self, key: String) -> Counter {
        Counter { key, policy: self.shared.throttle }
    }

    fn block_counter(&self, key: String) -> Counter {
        Counter { key, policy: self.shared.limits.block() }
    }

    async fn begin_counter(&self, counter: &Counter) -> Result<Result<(), Refused>, StoreError> {
        let AccountsConfig { throttles, clock, .. } = &*self.shared;
        throttles.begin_attempt(&counter.key, clock.now(), &counter.policy).await
    }

    pub(super) async fn finish_counter(&self, counter: &Counter, outcome: Outcome) -> Result<(), StoreError> {
        let AccountsConfig { throttles, clock, .. } = &*self.shared;
        let finished = throttles.finish_attempt(&counter.key, outcome, clock.now(), &counter.policy).await;
        self.queues.settled(&counter.key);
        finished
    }

    /// Counts a failed login among those of the node.
    fn count_failure(&self, attempt: &Attempt, device: &Device) {
        let by = match attempt {
            Attempt::OnKnownDevice { .. } => "known_device",
            Attempt::OfStranger(_) => "stranger",
        };
        metrics::counter!("countersign_login_failures_total", "by" => by).increment(1);
        let now = self.shared.clock.now();
        let over = {
            let mut failures = self.failures();
            if matches!(attempt, Attempt::OfStranger(_)) {
                failures.count_in_second(now);
            }
            failures.minutes.count(now, device.clone()).1
        };
        self.tell_minute_of_failures(over);
    }

    /// Emits [`Event::LoginsFailed`] for a minute that is over and was not reported yet. Background tasks call it every
    /// few seconds.
    pub fn tell_failed_logins(&self) {
        let over = self.failures().minutes.take_over(self.shared.clock.now());
        self.tell_minute_of_failures(over);
    }

    fn tell_minute_of_failures(&self, minute: Option<Minute>) {
        if let Some(Minute { since, count, last }) = minute {
            self.shared.sessions.tell(&Event::LoginsFailed { count, since, last });
        }
    }
}

impl Counter {
    fn change(&self, step: AttemptStep) -> AttemptChange<'_> {
        AttemptChange { key: &self.key, policy: self.policy, step }
    }
}

impl Admitted {
    /// The changes that settle the attempt, in their order.
    fn finish(&self, outcome: Outcome) -> impl Iterator<Item = (&Counter, AttemptStep)> {
        let Self { own, block, by } = self;
        let of_block = match (by, outcome) {
            // The success of an attempt that the block has admitted ends no pause: others may be guessing.
            (By::Block, _) | (By::Own, Outcome::Succeeded) => Some((block, AttemptStep::Finish(outcome))),
            (By::Own, Outcome::Failed) => Some((block, AttemptStep::Fail)),
            (By::Own, Outcome::Abandoned) => None,
        };
        let of_own = (*by == By::Own).then_some((own, AttemptStep::Finish(outcome)));
        of_block.into_iter().chain(of_own)
    }
}

/// Counts a login by what proved who the user is, and by what came of it.
pub(super) fn count_login(by: &'static str, outcome: &'static str) {
    metrics::counter!("countersign_logins_total", "by" => by, "outcome" => outcome).increment(1);
}

/// Counts a login that a limit has refused.
pub(super) fn count_refused(limit: &'static str) {
    metrics::counter!("countersign_logins_refused_total", "limit" => limit).increment(1);
}
