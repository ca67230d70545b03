//! Verifying and issuing tokens, beside `jsonwebtoken` and beside the bare primitives. `goals` gives the ratios.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

mod support;

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use countersign_jwt::{Algorithm, Timestamp, Verifier};
use criterion::{Criterion, criterion_group, criterion_main};
use support::{Size, Subject};

fn algorithm(c: &mut Criterion, algorithm: Algorithm, size: Size) {
    let subject = Subject::new(algorithm, size);
    let mut group = c.benchmark_group(format!("verify/{algorithm}, {} bytes", subject.token.len()));
    for mut work in subject.verifying() {
        group.bench_function(&work.name, |b| b.iter(|| (work.run)()));
    }
    if size == Size::Session {
        let Subject { issuer, claims, token, verifier, remembering, now, .. } = &subject;
        // Per token: half of the row `token seen before` where two threads do twice the work.
        let others = issuer.issue(&claims.clone().with_csrf("other")).unwrap();
        for (name, second) in [("one token", token), ("own tokens", &others)] {
            group.bench_function(format!("countersign, seen before, two threads, {name}"), |b| {
                b.iter_custom(|rounds| two_threads(remembering, [token, second], *now, rounds));
            });
        }
        // More tokens than are remembered, one after the other, so that none is seen again in time.
        let many: Vec<_> = (0..3 * Verifier::DEFAULT_CACHE)
            .map(|n| issuer.issue(&claims.clone().with_csrf(n.to_string())).unwrap())
            .collect();
        for (name, verifier) in [("all tokens new", verifier), ("all tokens new, remembered", remembering)] {
            let mut tokens = many.iter().cycle();
            group.bench_function(format!("countersign, {name}"), |b| {
                b.iter(|| verifier.verify(black_box(tokens.next().unwrap()), *now).unwrap());
            });
        }
    }
    group.finish();

    let mut group = c.benchmark_group(format!("issue/{algorithm}, {} bytes", subject.token.len()));
    for mut work in subject.issuing() {
        group.bench_function(&work.name, |b| b.iter(|| (work.run)()));
    }
    group.finish();
}

/// How long two threads take to verify `rounds` tokens together.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn two_threads(verifier: &Verifier, tokens: [&String; 2], now: Timestamp, rounds: u64) -> Duration {
    // So long that the system has spread the threads over its processors.
    const REPEAT: u64 = 16;
    let start = Instant::now();
    thread::scope(|scope| {
        for token in tokens {
            scope.spawn(move || {
                for _ in 0..rounds * REPEAT / 2 {
                    black_box(verifier.verify(black_box(token), now).unwrap());
                }
            });
        }
    });
    start.elapsed() / u32::try_from(REPEAT).unwrap()
}

fn benches(c: &mut Criterion) {
    algorithm(c, Algorithm::Hs256, Size::Plain);
    for which in [Algorithm::Hs256, Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256] {
        algorithm(c, which, Size::Session);
    }
}

criterion_group!(verify, benches);
criterion_main!(verify);
