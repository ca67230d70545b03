//! Checks that the rules of refresh hold through the real flow, on several nodes whose clocks disagree, with lost
//! replies.

use std::collections::HashMap;
use std::sync::Arc;

use countersign_core::flow::{Pair, RefreshError};
use countersign_core::model::{Device, EndReason, UserSession};
use countersign_core::store::Stores;
use countersign_jwt::Generation;
use countersign_jwt::claims::decode_unverified;

use super::fixture::{Fixture, at_once, secs};
use crate::{BedConfig, FixedClock, Instrumented, SeededRandom, TestBed};

/// Runs every check of the flow.
pub async fn run(stores: &Stores, rounds: usize) {
    an_honest_client_stays_signed_in_on_nodes_whose_clocks_disagree(stores, rounds).await;
    a_thief_is_found_out_by_whichever_node(stores).await;
    what_one_node_ends_the_others_refuse(stores).await;
}

/// Several nodes on one store, each with a clock that differs from the store's.
struct Nodes {
    nodes: Vec<TestBed>,
    clocks: Vec<Arc<FixedClock>>,
}

impl Nodes {
    async fn new(stores: &Stores, random: &SeededRandom) -> Self {
        let watched = Instrumented::new(stores.clone());
        let time = Arc::new(FixedClock::default());
        watched.set_time(time.clone());
        let mut clocks = vec![time];
        let mut nodes = Vec::new();
        for set in [FixedClock::START, FixedClock::START + secs(240), FixedClock::START - secs(240)] {
            let clock = Arc::new(FixedClock::new(set));
            // Every machine has a random source of its own.
            let random = Arc::new(SeededRandom::new(random.number()));
            let config = BedConfig { random, ..BedConfig::default() };
            nodes.push(TestBed::at(watched.stores(), clock.clone(), config).await);
            clocks.push(clock);
        }
        Self { nodes, clocks }
    }

    /// Lets the same time pass for all nodes.
    fn wait(&self, secs_passed: u64) {
        for clock in &self.clocks {
            clock.advance(secs(secs_passed));
        }
    }

    fn node(&self, number: u64) -> &TestBed {
        let index = usize::try_from(number).unwrap_or(0) % self.nodes.len();
        self.nodes.get(index).expect("a remainder is an index")
    }

    /// Lets every node read the log, and some nodes write their acknowledgements.
    async fn poll(&self) {
        for node in &self.nodes {
            node.sessions.keys().poll().await.expect("the store answers");
        }
    }
}

fn device() -> Device {
    Device::new(Some("browser"), None)
}

/// The ids of the one pair that may exist, by generation and time of issue.
type Seen = HashMap<(Generation, i64), [String; 2]>;

fn note(seen: &mut Seen, pair: &Pair) {
    let claims = |token: &str| decode_unverified(token).expect("a token of ours");
    let (access, refresh) = (claims(&pair.access_token), claims(&pair.refresh_token));
    let ids = [&access, &refresh].map(|claims| claims.get::<String>("jti").ok().flatten().expect("a jti"));
    let issued_at = access.get::<i64>("iat").ok().flatten().expect("an iat");
    let known = seen.entry((pair.session.generation, issued_at)).or_insert_with(|| ids.clone());
    assert_eq!(*known, ids, "two different pairs of one generation");
}

/// A client that follows the rules refreshes at any node, at several at once, and loses replies; acknowledgements come
/// late or never. The client stays signed in, and no generation has two successors.
pub async fn an_honest_client_stays_signed_in_on_nodes_whose_clocks_disagree(stores: &Stores, rounds: usize) {
    let fixture = Fixture::new("an_honest_client_stays_signed_in_on_nodes_whose_clocks_disagree");
    let random = &fixture.random;
    let nodes = Nodes::new(stores, &fixture.random).await;
    let user = fixture.user();
    let mut held = nodes.node(0).begin(&user, device()).await;
    let mut seen = Seen::new();
    let mut lost_before = false;
    for round in 0..rounds.saturating_mul(3) {
        nodes.wait(random.pick(&[0, 1, 29, 31, 300, 899, 3_600]));
        nodes.poll().await;
        let node = nodes.node(random.below(3));
        if random.chance(50) {
            // The token may have expired, and its acknowledgement may get lost; neither matters here.
            let _used = node.authenticate(&held.access_token).await;
        }
        if random.chance(40) {
            nodes
                .node(random.below(3))
                .sessions
                .verification()
                .flush_acknowledgements()
                .await
                .expect("the store answers");
        }
        let tabs = 1 + random.below(3);
        let answers = at_once((0..tabs).map(|_| {
            let (node, token) = (nodes.node(random.below(3)).clone(), held.refresh_token.clone());
            async move { node.refresh(&token, device()).await }
        }))
        .await;
        let mut newest = held.clone();
        for answer in answers {
            let refreshed = answer.unwrap_or_else(|error| panic!("round {round}: signed out by {error}"));
            note(&mut seen, &refreshed.pair);
            let step = refreshed.pair.session.generation.as_u32() - held.session.generation.as_u32();
            assert!(step <= 1, "round {round}: one token, {step} steps");
            newest = refreshed.pair;
        }
        // Replies get lost, but seldom twice in a row.
        lost_before = random.chance(25) && !lost_before;
        if !lost_before {
            held = newest;
        }
    }
}

/// A token that is two steps old ends the session, at whichever node it is presented. The other nodes know after they
/// have read the log.
pub async fn a_thief_is_found_out_by_whichever_node(stores: &Stores) {
    let fixture = Fixture::new("a_thief_is_found_out_by_whichever_node");
    let nodes = Nodes::new(stores, &fixture.random).await;
    for presented_at in 0..3 {
        let stolen = nodes.node(0).begin(&fixture.user(), device()).await;
        let mut held = stolen.clone();
        for step in 0..2 {
            nodes.wait(60);
            nodes.poll().await;
            held = nodes.node(step).refresh(&held.refresh_token, device()).await.expect("a refresh").pair;
        }
        nodes.wait(60);
        let answer = nodes.node(presented_at).refresh(&stolen.refresh_token, device()).await;
        assert!(matches!(answer, Err(RefreshError::Replayed)), "node {presented_at}: {answer:?}");
        nodes.poll().await;
        for node in &nodes.nodes {
            assert!(node.authenticate(&held.access_token).await.is_err(), "the session is over");
            assert!(node.refresh(&held.refresh_token, device()).await.is_err(), "for both of them");
        }
    }
}

/// A session that ends at one node is refused there at once, and at every other node once it has read the log. Nothing
/// else is revoked anywhere.
pub async fn what_one_node_ends_the_others_refuse(stores: &Stores) {
    let fixture = Fixture::new("what_one_node_ends_the_others_refuse");
    let nodes = Nodes::new(stores, &fixture.random).await;
    for (number, ender) in (0..).zip(&nodes.nodes) {
        let user = fixture.user();
        let (ended, other) =
            (nodes.node(number + 1).begin(&user, device()).await, nodes.node(2).begin(&user, device()).await);
        let key = UserSession { user_id: user.clone(), id: ended.session.id };
        ender.sessions.end(key, EndReason::LoggedOut).await.expect("the store answers");
        assert!(ender.authenticate(&ended.access_token).await.is_err(), "at once, where it was ended");
        nodes.poll().await;
        for node in &nodes.nodes {
            assert!(node.authenticate(&ended.access_token).await.is_err(), "everywhere");
            assert!(node.refresh(&ended.refresh_token, device()).await.is_err(), "and for good");
            assert!(node.authenticate(&other.access_token).await.is_ok(), "the other session lives");
        }
        let except = Some(other.session.id);
        ender.sessions.end_all(user.clone(), except, EndReason::AllEnded).await.expect("the store answers");
        let third = nodes.node(number).begin(&user, device()).await;
        ender.sessions.end_all(user, None, EndReason::AllEnded).await.expect("the store answers");
        nodes.poll().await;
        for node in &nodes.nodes {
            for pair in [&other, &third] {
                assert!(node.authenticate(&pair.access_token).await.is_err(), "all were ended");
            }
        }
    }
    let near = nodes.nodes.iter().map(|node| node.sessions.clock().now());
    assert!(near.clone().max() == near.min(), "all nodes go by the store's time");
}
