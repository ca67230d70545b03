//! How token speed stands beside what it is measured against, as ratios.
//!
//! Everything that is compared takes turns, a tenth of a millisecond each: short beside the time that the system gives
//! a thread, so that other programs interrupt few turns and slow the others alike. What is printed is the median of
//! the turns, with the quarter below and the quarter above.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark"
)]

mod support;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign_jwt::Algorithm;
use support::{BARE, COUNTERSIGN, PEER, Size, Subject, Work};

/// How often each has its turn.
const TURNS: usize = 2001;
/// How long a turn takes, about.
const TURN: Duration = Duration::from_micros(100);

fn main() {
    let hs256 = Subject::new(Algorithm::Hs256, Size::Plain);
    let larger = Subject::new(Algorithm::Hs256, Size::Session);
    let pairs =
        [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256].map(|a| Subject::new(a, Size::Session));

    for subject in [&hs256, &larger] {
        let table = Table::measure(&title("verify", subject), subject.verifying());
        table.ratio("jsonwebtoken / countersign", &[PEER], &[COUNTERSIGN]);
        let best: Vec<_> = ["HMAC", "base64", "JSON"].iter().map(|part| table.best(part)).collect();
        table.ratio(&format!("countersign / ({})", best.join(" + ")), &[COUNTERSIGN], &best);
    }
    for subject in &pairs {
        let table = Table::measure(&title("verify", subject), subject.verifying());
        table.ratio("countersign / bare signature", &[COUNTERSIGN], &[BARE]);
        table.ratio("jsonwebtoken / countersign", &[PEER], &[COUNTERSIGN]);
    }
    for subject in [&hs256, &larger].into_iter().chain(&pairs[..2]) {
        let table = Table::measure(&title("issue", subject), subject.issuing());
        table.ratio("jsonwebtoken / countersign", &[PEER], &[COUNTERSIGN]);
        table.ratio("countersign / bare signature", &[COUNTERSIGN], &[BARE]);
    }
    for subject in [&larger].into_iter().chain(&pairs) {
        threads(subject);
    }
}

fn title(verb: &str, subject: &Subject) -> String {
    format!("{verb} {}, {} bytes", subject.key.algorithm(), subject.token.len())
}

/// What each kind of work took, turn by turn, in nanoseconds.
struct Table(Vec<(String, Vec<f64>)>);

impl Table {
    fn measure(title: &str, mut works: Vec<Work>) -> Self {
        let repeats: Vec<u32> = works.iter_mut().map(repeats).collect();
        let mut rows: Vec<_> = works.iter().map(|work| (work.name.clone(), Vec::new())).collect();
        for _ in 0..TURNS {
            for ((work, repeats), (_, turns)) in works.iter_mut().zip(&repeats).zip(&mut rows) {
                turns.push(time(work, *repeats) / f64::from(*repeats));
            }
        }
        println!("\n{title}");
        for (name, turns) in &rows {
            println!("  {name:<42} {}", Spread::of(turns.clone()).text(" ns", 1));
        }
        Self(rows)
    }

    fn turns(&self, name: &str) -> &[f64] {
        &self.0.iter().find(|row| row.0 == name).unwrap().1
    }

    /// The fastest of the rows whose names begin so.
    fn best(&self, part: &str) -> &str {
        let candidates = self.0.iter().filter(|row| row.0.starts_with(part));
        let median = |row: &&(String, Vec<f64>)| Spread::of(row.1.clone()).median;
        &candidates.min_by(|a, b| median(a).total_cmp(&median(b))).unwrap().0
    }

    /// The sum of some rows beside the sum of others.
    fn ratio(&self, name: &str, above: &[&str], below: &[&str]) {
        let sum = |names: &[&str], turn: usize| names.iter().map(|name| self.turns(name)[turn]).sum::<f64>();
        let ratios = (0..TURNS).map(|turn| sum(above, turn) / sum(below, turn)).collect();
        println!("  = {name}: {}", Spread::of(ratios).text("", 2));
    }
}

/// Tokens that were seen before, on one thread and on two at once.
fn threads(subject: &Subject) {
    let Subject { issuer, claims, token, .. } = subject;
    let other = issuer.issue(&claims.clone().with_csrf("other")).unwrap();
    println!("\n{}, token seen before, by threads", title("verify", subject));
    for (name, second) in [("one token for both", token), ("a token for each", &other)] {
        let alone = Spread::of(beside(subject, token, None));
        let both = Spread::of(beside(subject, token, Some(second)));
        println!("  one thread                                 {}", alone.text(" ns", 1));
        println!("  each of two, {name:<29} {}", both.text(" ns", 1));
        println!("  = throughput of two threads / one: {:.2}", 2.0 * alone.median / both.median);
    }
}

/// What verifying `token` takes, turn by turn, while another thread verifies `other`. Turns during which the other
/// thread was not at work, because the system let it wait, do not count.
fn beside(subject: &Subject, token: &str, other: Option<&String>) -> Vec<f64> {
    const ROUNDS: u32 = 500;
    let (done, finished) = (AtomicU64::new(0), AtomicBool::new(false));
    let verify = |token: &str| {
        elapsed(|| {
            for _ in 0..ROUNDS {
                black_box(subject.remembering.verify(black_box(token), subject.now).unwrap());
            }
        })
    };
    thread::scope(|scope| {
        if let Some(other) = other {
            scope.spawn(|| {
                while !finished.load(Ordering::Relaxed) {
                    verify(other);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut turns = Vec::new();
        while turns.len() < TURNS {
            let before = done.load(Ordering::Relaxed);
            let turn = verify(token);
            if other.is_none() || done.load(Ordering::Relaxed) > before {
                turns.push(turn / f64::from(ROUNDS));
            }
        }
        finished.store(true, Ordering::Relaxed);
        turns
    })
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

/// How often fits into a turn.
fn repeats(work: &mut Work) -> u32 {
    let mut repeats = 1;
    while time(work, repeats) < TURN.as_secs_f64() * 1e9 {
        repeats *= 2;
    }
    repeats
}

/// In nanoseconds.
fn time(work: &mut Work, repeats: u32) -> f64 {
    elapsed(|| {
        for _ in 0..repeats {
            (work.run)();
        }
    })
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn elapsed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e9
}
