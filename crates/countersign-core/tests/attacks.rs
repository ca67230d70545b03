//! Attacks on sessions that take more than one request, over several nodes (SEC-181, SEC-183).
#![allow(clippy::indexing_slicing, reason = "the helpers of tests are tests too")]

use std::time::Duration;

use countersign_core::flow::{Check, Pair, RefreshError};
use countersign_core::model::{Device, EndReason, SessionPolicy, UserSession};
use countersign_core::store::MemoryStore;
use countersign_jwt::{Generation, Random, UserId};
use countersign_testkit::{BedConfig, Instrumented, Point, SeededRandom, TestBed};

const HOUR: Duration = Duration::from_secs(3_600);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn browser() -> Device {
    Device::new(Some("browser"), None)
}

fn below(random: &SeededRandom, end: u64) -> u64 {
    let mut bytes = [0; 8];
    random.fill(&mut bytes).expect("a seeded generator never fails");
    u64::from_le_bytes(bytes) % end
}

fn pick<'a, T>(random: &SeededRandom, from: &'a [T]) -> &'a T {
    let count = u64::try_from(from.len()).expect("few");
    &from[usize::try_from(below(random, count)).expect("few")]
}

/// Tabs and servers that render pages have all read one token. Their refreshes reach any node at any time within the
/// grace, and the replies arrive in any order: whichever pair stays in the jar, the user is signed in.
#[tokio::test]
async fn sec_181_a_fan_out_over_three_nodes_keeps_the_user_signed_in_whatever_the_order_of_replies() {
    let ada = UserId::new("ada").expect("a user id");
    for seed in 0..200 {
        let random = SeededRandom::new(seed);
        let first = TestBed::over(MemoryStore::new()).await;
        let grace = first.config().policy.grace.as_secs();
        let nodes = [first.another_node().await, first.another_node().await, first];
        let clock = nodes[0].clock.clone();
        let mut jar = nodes[0].begin(&ada, browser()).await;
        let mut generation = Generation::FIRST;
        for round in 0..15 {
            let case = format!("seed {seed}, round {round}");
            // From half an access token's life, which is longer than the grace, to three days.
            clock.advance(secs(450 + below(&random, [900, 3 * 86_400][usize::from(below(&random, 4) == 0)])));
            let mut arrivals: Vec<_> = (0..1 + below(&random, 8)).map(|_| below(&random, grace)).collect();
            arrivals.sort_unstable();
            let mut replies: Vec<Pair> = Vec::new();
            let mut now = arrivals[0];
            for arrival in arrivals {
                clock.advance(secs(arrival - now));
                now = arrival;
                let answer = pick(&random, &nodes).refresh(&jar.refresh_token, browser()).await;
                replies.push(answer.unwrap_or_else(|error| panic!("{case}: {error}")).pair);
            }
            generation = generation.next();
            for reply in &replies {
                assert_eq!(reply.refresh_token, replies[0].refresh_token, "{case}: never a fork");
                assert_eq!(reply.session.generation, generation, "{case}: one step");
            }
            while !replies.is_empty() {
                let arrived = usize::try_from(below(&random, replies.len().try_into().expect("few")));
                jar = replies.swap_remove(arrived.expect("few"));
                // A tab uses what it got, here or there, and some refresh once more at once.
                let node = pick(&random, &nodes);
                node.authenticate(&jar.access_token).await.unwrap_or_else(|error| panic!("{case}: {error}"));
                if below(&random, 3) == 0 {
                    node.sessions.verification().flush_acknowledgements().await.expect("the store answers");
                }
                if below(&random, 3) == 0 {
                    let again = pick(&random, &nodes).refresh(&jar.refresh_token, browser()).await;
                    let again = again.unwrap_or_else(|error| panic!("{case}: {error}")).pair;
                    assert_eq!(again.refresh_token, jar.refresh_token, "{case}: a burst does not step");
                }
            }
        }
        for node in &nodes {
            assert_eq!(node.events.take_alarms(), [], "seed {seed}");
        }
    }
}

/// What ends the session of a refresh.
#[derive(Clone, Copy, Debug)]
enum Ending {
    LoggedOut,
    AllEnded,
    Disabled,
}

/// What the refresh finds, and so which way it takes.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The current token: a step.
    Advance,
    /// The predecessor within the grace: the same pair again.
    Reserve,
    /// The predecessor long after, because the reply was lost.
    Heal,
}

impl Way {
    /// Where the ending may come in between.
    fn points(self) -> Vec<Point> {
        let calls: &[&'static str] = match self {
            Self::Advance => &["user", "advance"],
            Self::Reserve => &["user", "advance", "session"],
            Self::Heal => &["user", "advance", "session", "heal"],
        };
        calls.iter().flat_map(|call| [Point::Before(call), Point::After(call)]).collect()
    }
}

/// Every way of refreshing, with every ending, at every moment of it, on the same node and on another one: once the
/// ending was acknowledged, no token of before or of that refresh is good for anything.
#[tokio::test(flavor = "multi_thread")]
async fn sec_183_no_order_of_a_refresh_and_an_end_leaves_a_token_that_works() {
    for way in [Way::Advance, Way::Reserve, Way::Heal] {
        for ending in [Ending::LoggedOut, Ending::AllEnded, Ending::Disabled] {
            for point in way.points() {
                for elsewhere in [false, true] {
                    refresh_and_end(way, ending, point, elsewhere).await;
                }
            }
        }
    }
}

async fn refresh_and_end(way: Way, ending: Ending, point: Point, elsewhere: bool) {
    let case = format!("{way:?}, {ending:?} at {point:?}, elsewhere: {elsewhere}");
    let watched = Instrumented::new(MemoryStore::new());
    let policy = SessionPolicy::default();
    let here = TestBed::with(watched.stores(), BedConfig { policy, ..BedConfig::default() }).await;
    // The other node's calls are not held.
    let there = TestBed::at(watched.inner().clone(), here.clock.clone(), here.config().clone()).await;
    let signed_in = here.register("ada").await.expect("an account");
    let mut pairs = vec![signed_in.pair];
    here.clock.advance(secs(60));
    if !matches!(way, Way::Advance) {
        pairs.push(here.refresh(&pairs[0].refresh_token, browser()).await.expect("a refresh").pair);
    }
    here.clock.advance(if matches!(way, Way::Heal) { HOUR } else { secs(1) });

    let mut gate = watched.hold(point);
    let refreshing = tokio::spawn({
        let (here, token) = (here.clone(), pairs[0].refresh_token.clone());
        async move {
            let claims =
                here.sessions.verification().verify(&token, Check::REFRESH.even_if_revoked()).await?;
            here.accounts.refresh(&claims, browser()).await
        }
    });
    gate.arrived().await;
    let node = if elsewhere { &there } else { &here };
    let (user_id, id) = (pairs[0].user_id.clone(), pairs[0].session.id);
    match ending {
        Ending::LoggedOut => {
            let key = UserSession { user_id: user_id.clone(), id };
            node.sessions.end(key, EndReason::LoggedOut).await.expect("the store answers");
        }
        Ending::AllEnded => {
            let all = node.sessions.end_all(user_id.clone(), None, EndReason::AllEnded);
            all.await.expect("the store answers");
        }
        Ending::Disabled => {
            assert!(node.accounts.disable(&user_id).await.expect("the store answers"), "{case}");
        }
    }
    gate.open();
    let answer: Result<_, RefreshError> = refreshing.await.expect("no panic");
    // It may have been answered, where the end came after the step: with tokens that are good for nothing.
    pairs.extend(answer.map(|(refreshed, _)| refreshed.pair));

    // Also when the account is enabled again.
    here.accounts.enable(&user_id).await.expect("the store answers");
    for (name, node) in [("here", &here), ("there", &there)] {
        // Where it ended at once, elsewhere after a poll.
        if std::ptr::eq(node, &here) == elsewhere {
            node.sessions.keys().poll().await.expect("the store answers");
        }
        for (number, pair) in pairs.iter().enumerate() {
            let access = node.authenticate(&pair.access_token).await;
            assert!(access.is_err(), "{case}: access token {number} is taken {name}");
            let claims = node
                .sessions
                .verification()
                .verify(&pair.refresh_token, Check::REFRESH.even_if_revoked())
                .await
                .expect("well signed");
            let refreshed = node.accounts.refresh(&claims, browser()).await;
            assert!(
                matches!(refreshed, Err(RefreshError::Refused(_))),
                "{case}: refresh token {number} is taken {name}: {refreshed:?}"
            );
        }
        assert_eq!(node.events.take_alarms(), [], "{case}: {name}");
    }
}
