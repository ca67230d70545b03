//! What the in-memory index of the revocation log costs at ten million entries: asking it, growing it, keeping it.
//!
//! 45 % of the entries are tokens, 45 % sessions and 10 % users whose epoch was raised, in random order. What is
//! compared takes turns, as in `goals`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark"
)]

use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use allocation_counter::measure;
use countersign_core::model::{Entry, Index, RevokedBy, Target, TokenEpoch};
use countersign_jwt::{Epoch, SessionId, Timestamp, TokenId, UserId};
use uuid::Uuid;

const ENTRIES: u64 = 10_000_000;
/// How often each has its turn.
const TURNS: usize = 2001;
/// How many checks a turn has. What they ask about is prepared just before, and fits into the processor's nearest
/// cache, as what a request has just brought does.
const CHECKS: usize = 128;
/// For a token that is seen again and again.
const FEW: usize = 8;
/// How many entries are made at a time.
const BATCH: u64 = 50_000;
const UNTIL: Timestamp = Timestamp::from_secs(1_000);

fn main() {
    assert_eq!(ENTRIES % BATCH, 0, "whole batches");
    nothing_revoked();
    // First, so that its memory is not what something else has left.
    let index = filled_beside_a_reader();
    checks(&index);
    drop(index);
    memory(
        "tokens and sessions alone",
        |number| {
            if number.is_multiple_of(2) { Kind::Token } else { Kind::Session }
        },
    );
    memory("users alone", |_| Kind::User);
    let index = memory("45 % tokens, 45 % sessions, 10 % users", Kind::mixed);
    prune(&index);
}

#[derive(Clone, Copy)]
enum Kind {
    Token,
    Session,
    User,
}

impl Kind {
    fn mixed(number: u64) -> Self {
        match number % 10 {
            9 => Self::User,
            part if (number / 10 + part).is_multiple_of(2) => Self::Token,
            _ => Self::Session,
        }
    }
}

/// The entry with this number.
fn entry(number: u64, kind: Kind) -> Entry {
    let user_id = owner(number);
    let target = match kind {
        Kind::Token => Target::Token { user_id, id: TokenId::new(id(2 * number)) },
        Kind::Session => Target::Session { user_id, id: SessionId::new(id(2 * number)) },
        Kind::User => Target::User { user_id, epoch: Epoch::new(1), except: None },
    };
    // They expire one after another, over a quarter of an hour.
    let until = UNTIL - Duration::from_millis(number * 900_000 / ENTRIES);
    Entry { target, until, at: Timestamp::MIN }
}

/// As many users as there are entries, each in the log at most once.
fn owner(number: u64) -> UserId {
    UserId::from(id(2 * number + 1))
}

/// Ids that look random and are the same in every run.
fn id(number: u64) -> Uuid {
    Uuid::from_u64_pair(mixed(number), mixed(!number))
}

/// The finalizer of SplitMix64.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What a check asks about: a token that was not revoked, of a session of the current epoch, of a user about whom
/// there is some entry.
struct Live {
    user: UserId,
    token: TokenId,
    session: SessionId,
}

impl Live {
    fn new(number: u64) -> Self {
        let other = || Uuid::from_u64_pair(mixed(number), mixed(number ^ 1 << 40));
        let user = owner(mixed(number) % ENTRIES);
        Self { user, token: TokenId::new(other()), session: SessionId::new(other()) }
    }

    /// Other ones in every turn.
    fn some(turn: usize) -> Vec<Self> {
        (0..CHECKS).map(|check| Self::new((turn * CHECKS + check) as u64)).collect()
    }
}

/// What an application would write: the text of each id in a set behind a lock, and the epochs of users beside it.
#[derive(Default)]
struct ByHand(RwLock<Log>);

#[derive(Default)]
struct Log {
    revoked: HashSet<String>,
    epochs: HashMap<String, u64>,
}

impl ByHand {
    fn insert(&self, entry: &Entry) {
        let mut log = self.0.write().unwrap();
        match &entry.target {
            Target::Token { id, .. } => log.revoked.insert(id.to_string()),
            Target::Session { id, .. } => log.revoked.insert(id.to_string()),
            Target::User { user_id, epoch, .. } => {
                log.epochs.insert(user_id.to_string(), epoch.as_u64()).is_none()
            }
            _ => false,
        };
    }

    /// Nanoseconds for a check, over a turn of them.
    fn ask(&self, texts: &[Texts], repeated: usize) -> f64 {
        let texts = &texts[..repeated];
        per_check(|| {
            for check in 0..CHECKS {
                let [user, token, session] = black_box(&texts[check % repeated]);
                assert!(self.check(user, token, session, 1));
            }
        })
    }

    /// The ids as they stand in the token.
    fn check(&self, user: &str, token: &str, session: &str, epoch: u64) -> bool {
        let log = self.0.read().unwrap();
        !log.revoked.contains(token)
            && !log.revoked.contains(session)
            && log.epochs.get(user).is_none_or(|raised| *raised <= epoch)
    }
}

/// A live token's user, its own id and its session, as they stand in it.
type Texts = [String; 3];

fn texts(lives: &[Live]) -> Vec<Texts> {
    let texts = |live: &Live| [live.user.to_string(), live.token.to_string(), live.session.to_string()];
    lives.iter().map(texts).collect()
}

fn nothing_revoked() {
    let index = Index::new();
    let lives = Live::some(0);
    let turns = (0..TURNS).map(|_| ask(&index, &lives, CHECKS)).collect();
    println!("nothing revoked\n  check{:<37} {}", "", Spread::of(turns).text(" ns", 1));
}

/// The most bytes that the index had at any moment, for each entry that it had then. Counted by the allocator.
fn memory(title: &str, kind: fn(u64) -> Kind) -> Index {
    const STEP: u64 = 10_000;
    let index = Index::new();
    let (mut bytes, mut worst) = (0, 0.0_f64);
    for first in (0..ENTRIES).step_by(STEP as usize) {
        let entries: Vec<_> = (first..first + STEP).map(|number| entry(number, kind(number))).collect();
        let step = measure(|| entries.iter().for_each(|entry| index.insert(entry)));
        // An index of few entries is mostly the 256 parts.
        if first >= 1_000_000 {
            worst = worst.max((bytes as f64 + step.bytes_max as f64) / first as f64);
        }
        bytes += step.bytes_current;
    }
    assert_eq!(index.len() as u64, ENTRIES);
    println!("\nmemory, {title}");
    println!("  most bytes an entry, from 1 to 10 million  {worst:.1}");
    println!("  bytes an entry, {ENTRIES} entries      {:.1}", bytes as f64 / ENTRIES as f64);
    index
}

fn filled_beside_a_reader() -> Index {
    let (index, done) = (Index::new(), AtomicBool::new(false));
    let resident_before = resident();
    let lives = Live::some(0);
    let (seconds, reads, read_seconds) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut reads, began) = (0, thread_seconds());
            while !done.load(Ordering::Relaxed) {
                ask(&index, &lives, CHECKS);
                reads += CHECKS;
            }
            (reads, thread_seconds() - began)
        });
        let mut seconds = 0.0;
        for first in (0..ENTRIES).step_by(BATCH as usize) {
            let entries: Vec<_> =
                (first..first + BATCH).map(|number| entry(number, Kind::mixed(number))).collect();
            let began = thread_seconds();
            entries.iter().for_each(|entry| index.insert(entry));
            seconds += thread_seconds() - began;
        }
        done.store(true, Ordering::Relaxed);
        let (reads, read_seconds) = reader.join().unwrap();
        (seconds, reads, read_seconds)
    });
    assert_eq!(index.len() as u64, ENTRIES);
    println!("\nfrom 0 to {ENTRIES} entries, while another thread reads");
    println!("  inserts a second of processor time         {:.0}", ENTRIES as f64 / seconds);
    println!("  reads a second of the reader's             {:.0}", reads as f64 / read_seconds);
    println!(
        "  resident bytes an entry afterwards         {:.1}",
        (resident() - resident_before) / ENTRIES as f64
    );
    index
}

fn checks(index: &Index) {
    let turn = |turn| ask(index, &Live::some(turn), CHECKS);
    println!("\ncheck at {ENTRIES} entries, other tokens all the time, and nothing else in between");
    println!(
        "  countersign                                {}",
        Spread::of((0..TURNS).map(turn).collect()).text(" ns", 1)
    );
    let by_hand = ByHand::default();
    let memory = measure(|| {
        for number in 0..ENTRIES {
            by_hand.insert(&entry(number, Kind::mixed(number)));
        }
    });
    println!("\nsets of text behind a RwLock");
    println!("  most bytes an entry, as they grew          {:.1}", memory.bytes_max as f64 / ENTRIES as f64);
    println!("  bytes an entry, {ENTRIES} entries      {:.1}", memory.bytes_current as f64 / ENTRIES as f64);
    for (title, repeated) in [("the same 8 tokens", FEW), ("other tokens all the time", CHECKS)] {
        let (mut ours, mut by_hands) = (Vec::new(), Vec::new());
        for turn in 0..TURNS {
            let lives = Live::some(if repeated == CHECKS { turn } else { 0 });
            let texts = texts(&lives);
            ours.push(ask(index, &lives, repeated));
            by_hands.push(by_hand.ask(&texts, repeated));
        }
        print(&format!("check at {ENTRIES} entries, {title}"), &ours, &by_hands);
    }
    let (lives, others) = (Live::some(0), Live::some(1));
    let ours = beside(|| ask(index, &lives, FEW), || ask(index, &others, FEW));
    let (texts, others) = (texts(&lives), texts(&others));
    let by_hands = beside(|| by_hand.ask(&texts, FEW), || by_hand.ask(&others, FEW));
    print("the same, 8 tokens for each of two threads at once", &ours, &by_hands);
    // Both say no as well.
    let revoked = entry(0, Kind::Token);
    let Target::Token { user_id, id } = &revoked.target else { unreachable!("it is a token") };
    assert_eq!(index.check(user_id, *id, TokenEpoch::IssuedAt(UNTIL)), Err(RevokedBy::Token));
    assert!(!by_hand.check(user_id.as_str(), &id.to_string(), "", 1));
}

fn print(title: &str, ours: &[f64], by_hands: &[f64]) {
    println!("\n{title}");
    println!("  countersign                                {}", Spread::of(ours.to_vec()).text(" ns", 1));
    println!("  sets of text behind a RwLock               {}", Spread::of(by_hands.to_vec()).text(" ns", 1));
    let ratios = by_hands.iter().zip(ours).map(|(by_hand, ours)| by_hand / ours).collect();
    println!("  = sets of text / countersign: {}", Spread::of(ratios).text("", 2));
}

/// What the one takes, turn by turn, while another thread does the other. Turns during which that was not at work,
/// because the system let it wait, do not count.
fn beside(one: impl Fn() -> f64, other: impl Fn() -> f64 + Sync) -> Vec<f64> {
    let (done, finished) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !finished.load(Ordering::Relaxed) {
                other();
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut turns = Vec::new();
        while turns.len() < TURNS {
            let before = done.load(Ordering::Relaxed);
            let turn = one();
            if done.load(Ordering::Relaxed) > before {
                turns.push(turn);
            }
        }
        finished.store(true, Ordering::Relaxed);
        turns
    })
}

fn prune(index: &Index) {
    println!("\nprune at {ENTRIES} entries");
    let first = UNTIL - Duration::from_secs(900);
    for (title, now) in [
        ("nothing has expired", first - Duration::from_secs(1)),
        ("a fifteenth has expired, and stays", first + Duration::from_secs(60)),
        ("a seventh has expired, and goes", first + Duration::from_secs(130)),
    ] {
        let took = elapsed(|| index.prune(now));
        println!("  {title:<42} {:.1} ms, {} left", took / 1e6, index.len());
    }
}

/// Nanoseconds for a check, over a turn of them.
fn ask(index: &Index, lives: &[Live], repeated: usize) -> f64 {
    let lives = &lives[..repeated];
    per_check(|| {
        for check in 0..CHECKS {
            let live = black_box(&lives[check % repeated]);
            index.check(&live.user, live.token, TokenEpoch::Session(live.session, Epoch::new(1))).unwrap();
        }
    })
}

fn per_check(checks: impl FnOnce()) -> f64 {
    elapsed(checks) / CHECKS as f64
}

/// For how long this thread has had a processor, by the system's account (Linux).
fn thread_seconds() -> f64 {
    let account = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    account.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// How many bytes of memory the program has (Linux).
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}

struct Spread {
    quarter: f64,
    median: f64,
    three_quarters: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |part: usize| values[(values.len() - 1) * part / 4];
        Self { quarter: at(1), median: at(2), three_quarters: at(3) }
    }

    fn text(&self, unit: &str, digits: usize) -> String {
        let Self { quarter, median, three_quarters } = self;
        format!("{median:.digits$}{unit} ({quarter:.digits$} to {three_quarters:.digits$})")
    }
}

/// In nanoseconds.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn elapsed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e9
}
