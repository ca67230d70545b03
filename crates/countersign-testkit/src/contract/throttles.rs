//! The promises of [`ThrottleStore`](countersign_core::store::ThrottleStore).

use std::collections::BTreeMap;

use countersign_core::model::{AttemptChange, AttemptStep, Attempts, Outcome, ThrottlePolicy};
use countersign_core::store::Stores;

use super::fixture::{Fixture, NOW, at_once, secs};

/// Runs every check of the counters that can share a database.
pub async fn run(stores: &Stores, rounds: usize) {
    sec_126_of_parallel_attempts_the_limit_begins(stores, rounds).await;
    counters_do_what_attempts_does(stores, rounds).await;
    changes_together_are_those_one_by_one(stores, rounds).await;
    of_parallel_changes_the_limit_begins(stores).await;
    parallel_outcomes_are_all_counted(stores).await;
    sec_219_attempts_that_were_given_up_leave_no_row(stores, rounds).await;
}

async fn attempts(stores: &Stores, key: &str) -> Option<Attempts> {
    stores.throttles().attempts(key).await.expect("the store answers")
}

/// SEC-126: exactly as many of 200 concurrent attempts begin as the limit allows.
pub async fn sec_126_of_parallel_attempts_the_limit_begins(stores: &Stores, rounds: usize) {
    let fixture = Fixture::new("sec_126_of_parallel_attempts_the_limit_begins");
    let policy = ThrottlePolicy::default();
    for round in 0..rounds.div_ceil(40) {
        let key = format!("user:{}", fixture.user());
        let answers = at_once((0..200).map(|_| {
            let (throttles, key) = (stores.throttles().clone(), key.clone());
            async move { throttles.begin_attempt(&key, NOW, &policy).await.expect("the store answers") }
        }))
        .await;
        let begun = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(begun, 5, "round {round}: of 200 attempts at once five begin");
        assert_eq!(attempts(stores, &key).await.map(|attempts| attempts.running), Some(5));
    }
}

/// Any series of attempts, refused ones included, leaves the counter exactly as [`Attempts`] by itself would be.
pub async fn counters_do_what_attempts_does(stores: &Stores, rounds: usize) {
    let fixture = Fixture::new("counters_do_what_attempts_does");
    let random = &fixture.random;
    let policy = ThrottlePolicy::default();
    let keys = [fixture.user(), fixture.user()].map(|user| format!("user:{user}"));
    for key in &keys {
        assert_eq!(attempts(stores, key).await, None, "nothing at first");
    }
    let mut expected = [Attempts::default(), Attempts::default()];
    let mut now = NOW;
    for round in 0..rounds {
        for (key, expected) in keys.iter().zip(&mut expected) {
            if random.chance(60) {
                let answer =
                    stores.throttles().begin_attempt(key, now, &policy).await.expect("the store answers");
                assert_eq!(answer, expected.begin(now, &policy), "round {round}");
            } else {
                let outcome =
                    random.pick(&[Outcome::Failed, Outcome::Failed, Outcome::Abandoned, Outcome::Succeeded]);
                let finished = stores.throttles().finish_attempt(key, outcome, now, &policy).await;
                finished.expect("the store answers");
                expected.finish(outcome, now, &policy);
            }
            let row = Some(*expected).filter(|expected| *expected != Attempts::default());
            assert_eq!(
                attempts(stores, key).await,
                row,
                "round {round}: what is back at the default is no row"
            );
        }
        // Time goes mostly forward, and at times back, because clocks are set.
        let pause = secs(random.pick(&[0, 0, 1, 2, 30, 70, 1_000, 31 * 86_400]));
        now = if random.chance(10) { now - pause } else { now + pause };
    }
}

/// Several changes in one call do what each does by itself, up to a refused beginning.
pub async fn changes_together_are_those_one_by_one(stores: &Stores, rounds: usize) {
    let fixture = Fixture::new("changes_together_are_those_one_by_one");
    let random = &fixture.random;
    let policies = [
        ThrottlePolicy::default(),
        ThrottlePolicy { limit: 2, ..ThrottlePolicy::default() },
        ThrottlePolicy { limit: 1, pause: secs(60), ..ThrottlePolicy::default() },
    ];
    // A key may hold what is special in JSON and SQL.
    let keys: Vec<(String, ThrottlePolicy)> = ["", "\"x", "'\\", "ü\u{1f600}", "%_"]
        .into_iter()
        .zip(policies.iter().cycle())
        .map(|(end, policy)| (format!("user:{}{end}", fixture.user()), *policy))
        .collect();
    let keys: Vec<(&str, ThrottlePolicy)> =
        keys.iter().map(|(key, policy)| (key.as_str(), *policy)).collect();
    let mut expected: BTreeMap<&str, Attempts> = BTreeMap::new();
    let mut now = NOW;
    for round in 0..rounds {
        let count = random.pick(&[0, 1, 2, 4, 7]);
        let changes: Vec<AttemptChange<'_>> = (0..count)
            .map(|_| {
                let (key, policy) = random.pick(&keys);
                let step = random.pick(&[
                    AttemptStep::Begin,
                    AttemptStep::Begin,
                    AttemptStep::Fail,
                    AttemptStep::Finish(Outcome::Failed),
                    AttemptStep::Finish(Outcome::Abandoned),
                    AttemptStep::Finish(Outcome::Succeeded),
                ]);
                AttemptChange { key, policy, step }
            })
            .collect();
        let mut answers = Vec::new();
        for change in &changes {
            let answer = change.apply(expected.entry(change.key).or_default(), now);
            answers.push(answer);
            if answer.is_err() && change.step == AttemptStep::Begin {
                break;
            }
        }
        let answered = stores.throttles().change_attempts(&changes, now).await;
        assert_eq!(answered.expect("the store answers"), answers, "round {round}");
        for (key, _) in &keys {
            let row = expected.get(key).filter(|expected| **expected != Attempts::default());
            assert_eq!(attempts(stores, key).await.as_ref(), row, "round {round}: {key:?}");
        }
        let pause = secs(random.pick(&[0, 0, 1, 30, 70, 31 * 86_400]));
        now = if random.chance(10) { now - pause } else { now + pause };
    }
}

/// Of changes of several counters that arrive at once, as many begin as the strictest limit allows, and those that a
/// later counter refuses still count at the earlier ones until they are given up.
pub async fn of_parallel_changes_the_limit_begins(stores: &Stores) {
    let fixture = Fixture::new("of_parallel_changes_the_limit_begins");
    let keys = [fixture.user(), fixture.user()].map(|user| format!("user:{user}"));
    let wide = ThrottlePolicy { limit: 1_000, ..ThrottlePolicy::default() };
    let answers = at_once((0..40).map(|_| {
        let (throttles, keys) = (stores.throttles().clone(), keys.clone());
        async move {
            let [first, second] = &keys;
            let begin = |key, policy| AttemptChange { key, policy, step: AttemptStep::Begin };
            let changes = [begin(first, wide), begin(second, ThrottlePolicy::default())];
            throttles.change_attempts(&changes, NOW).await.expect("the store answers")
        }
    }))
    .await;
    let begun = answers.iter().filter(|answers| answers.iter().all(Result::is_ok)).count();
    assert_eq!(begun, 5, "as many as the second counter admits");
    assert!(answers.iter().all(|answers| answers.len() == 2), "the first counter admits all");
    for (key, running) in keys.iter().zip([40, 5]) {
        assert_eq!(attempts(stores, key).await.map(|attempts| attempts.running), Some(running), "{key}");
    }
}

/// Outcomes that arrive at once are all counted.
pub async fn parallel_outcomes_are_all_counted(stores: &Stores) {
    let fixture = Fixture::new("parallel_outcomes_are_all_counted");
    let key = format!("user:{}", fixture.user());
    let policy = ThrottlePolicy { limit: 64, ..ThrottlePolicy::default() };
    at_once((0..64).map(|_| {
        let (throttles, key) = (stores.throttles().clone(), key.clone());
        async move {
            let begun = throttles.begin_attempt(&key, NOW, &policy).await.expect("the store answers");
            assert_eq!(begun, Ok(()));
            throttles.finish_attempt(&key, Outcome::Failed, NOW, &policy).await.expect("the store answers");
        }
    }))
    .await;
    let after = attempts(stores, &key).await.expect("the counter is there");
    assert_eq!((after.failures, after.running), (64, 0), "no failure is lost");
}

/// SEC-219: attempts that begin and are given up at once, or succeed, leave no row. Attempts that fail leave their row,
/// however many others are given up beside them.
pub async fn sec_219_attempts_that_were_given_up_leave_no_row(stores: &Stores, rounds: usize) {
    let fixture = Fixture::new("sec_219_attempts_that_were_given_up_leave_no_row");
    let policy = ThrottlePolicy { limit: 64, ..ThrottlePolicy::default() };
    for round in 0..rounds.div_ceil(40) {
        let keys = [fixture.user(), fixture.user()].map(|user| format!("user:{user}"));
        let outcomes = [Outcome::Abandoned, Outcome::Abandoned, Outcome::Failed, Outcome::Abandoned];
        at_once((0..16_usize).map(|number| {
            let throttles = stores.throttles().clone();
            let given_up = (keys[0].clone(), Outcome::Abandoned);
            let mixed = (keys[1].clone(), outcomes.get(number % 4).copied().unwrap_or(Outcome::Abandoned));
            async move {
                for (key, outcome) in [given_up, mixed] {
                    let begun = throttles.begin_attempt(&key, NOW, &policy).await.expect("the store answers");
                    assert_eq!(begun, Ok(()), "round {round}");
                    let finished = throttles.finish_attempt(&key, outcome, NOW, &policy).await;
                    finished.expect("the store answers");
                }
            }
        }))
        .await;
        assert_eq!(attempts(stores, &keys[0]).await, None, "round {round}: given up, and no row is left");
        let mixed = attempts(stores, &keys[1]).await.expect("the counter of failures is there");
        assert_eq!((mixed.failures, mixed.running), (4, 0), "round {round}: no failure is lost");
        stores
            .throttles()
            .begin_attempt(&keys[1], NOW, &policy)
            .await
            .expect("the store answers")
            .expect("admitted");
        let finished = stores.throttles().finish_attempt(&keys[1], Outcome::Succeeded, NOW, &policy).await;
        finished.expect("the store answers");
        assert_eq!(attempts(stores, &keys[1]).await, None, "round {round}: a success leaves no row");
    }
}

/// Thinning out a range of keys deletes the counters that changed longest ago, and leaves the others alone. Needs an
/// empty database.
pub async fn thinning_takes_the_oldest_of_a_range(stores: &Stores) {
    let policy = ThrottlePolicy::default();
    let names = ["name:E", "name:b", "name:", "name:ä", "name:c", "name:a/x"];
    let others = ["name;", "namd:z", "user:1", "Name:a", "nam"];
    for (number, key) in (0..).zip(others.iter().chain(&names)) {
        let at = NOW + secs(number);
        stores
            .throttles()
            .begin_attempt(key, at, &policy)
            .await
            .expect("the store answers")
            .expect("admitted");
        let finished = stores.throttles().finish_attempt(key, Outcome::Failed, at, &policy).await;
        finished.expect("the store answers");
    }
    // The first of these counters changes once more, and is then the youngest.
    let at = NOW + secs(100);
    stores
        .throttles()
        .begin_attempt(names[0], at, &policy)
        .await
        .expect("the store answers")
        .expect("admitted");
    let finished = stores.throttles().finish_attempt(names[0], Outcome::Failed, at, &policy).await;
    finished.expect("the store answers");

    let thin = async |keep, limit| {
        let thinned = stores.throttles().thin_attempts("name:".."name;", keep, limit).await;
        thinned.expect("the store answers")
    };
    let left = async || {
        let mut left = Vec::new();
        for key in names {
            if attempts(stores, key).await.is_some() {
                left.push(key);
            }
        }
        left
    };
    assert_eq!((thin(6, 10).await, thin(u64::MAX, 10).await), (0, 0), "as many as may stay");
    assert_eq!(thin(3, 2).await, 2, "no more than it is told");
    assert_eq!(left().await, ["name:E", "name:ä", "name:c", "name:a/x"], "the oldest go first");
    assert_eq!((thin(3, 2).await, thin(3, 2).await), (1, 0), "until no more are left than may stay");
    assert_eq!(left().await, ["name:E", "name:c", "name:a/x"]);
    assert_eq!((thin(0, 0).await, thin(0, 10).await), (0, 3));
    for key in others {
        assert!(attempts(stores, key).await.is_some(), "{key} is not in the range");
    }
}

/// Purging deletes counters that have not changed since a time, a batch at a time. Needs an empty database.
pub async fn purging_takes_what_is_idle(stores: &Stores) {
    let policy = ThrottlePolicy::default();
    let touch = |key: &'static str, at| async move {
        let answer = stores.throttles().begin_attempt(key, at, &policy).await;
        answer.expect("the store answers").is_ok()
    };
    for key in ["idle 1", "idle 2", "idle 3", "touched", "refused"] {
        touch(key, NOW).await;
    }
    for _ in 0..4 {
        assert!(touch("refused", NOW).await);
    }
    assert!(!touch("refused", NOW + secs(10)).await, "a refusal changes nothing");
    let finished =
        stores.throttles().finish_attempt("touched", Outcome::Failed, NOW + secs(10), &policy).await;
    finished.expect("the store answers");
    let purge = async |before| stores.throttles().purge_attempts(before, 2).await.expect("the store answers");
    assert_eq!(purge(NOW).await, 0, "touched at that time is not before it");
    let mut purged = Vec::new();
    for _ in 0..3 {
        purged.push(purge(NOW + secs(10)).await);
    }
    assert_eq!(purged, [2, 2, 0], "at most two at a time, and it says how many");
    assert_eq!((attempts(stores, "idle 1").await, attempts(stores, "refused").await), (None, None));
    assert!(attempts(stores, "touched").await.is_some());
}
