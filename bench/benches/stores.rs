//! What the stores do when much is in them, and how soon a node knows what another one has revoked, on each engine.
//!
//! - `sessions`: a refresh, and a login without its password, with few and with many sessions in the store. Both stores
//!   are on the same server and take turns. What is refreshed was begun while the store was filled, so that it lies among
//!   the rest. A login here is `Sessions::epoch`, a read of the user and `Sessions::begin`: no hash, no counter of attempts.
//! - `start`: the revocation log is read from nothing, as when a node starts. 45 % tokens, 45 % sessions, 10 % users.
//! - `revocation`: two nodes with connections of their own. One ends a session whose token the other has accepted; the time
//!   runs from when the first has answered until the other refuses the token. The other is asked in a loop without a
//!   pause, which takes one of the processors.
//!
//! `cargo bench -p countersign-bench --bench stores -- postgres redis start 100000` measures these engines and that part
//! only, with that many instead of a million; `--small` measures 20,000.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark: it measures time and prints it"
)]

mod engine;
mod node;

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_core::flow::Check;
use countersign_core::flow::{Accounts, Background, Presentation, Sessions};
use countersign_core::model::{Device, EndReason, UserSession};
use countersign_http::{OsRandom, SystemClock};
use countersign_jwt::{Clock, Epoch, UserId};
use engine::{Database, Engine};
use node::{Held, Hurrying, LoggingIn, Measured, Refreshing, Until, begin, millis, node, work};
use tokio::runtime::Handle;

/// How many sessions are few.
const FEW: usize = 1_000;
/// How many clients there are at the same time, where it is not one.
const CLIENTS: usize = 16;

#[derive(Debug)]
struct Plan {
    engines: Vec<Engine>,
    parts: Vec<Part>,
    many: usize,
    rounds: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    Sessions,
    Start,
    Revocation,
}

impl Plan {
    /// From the command line: names of engines and parts, default all of them, and a number.
    fn read() -> Self {
        let mut plan = Self { engines: Vec::new(), parts: Vec::new(), many: 1_000_000, rounds: 500 };
        for argument in std::env::args().skip(1) {
            match argument.as_str() {
                // cargo says it.
                "--bench" => {}
                "--small" => (plan.many, plan.rounds) = (20_000, 100),
                "sessions" => plan.parts.push(Part::Sessions),
                "start" => plan.parts.push(Part::Start),
                "revocation" => plan.parts.push(Part::Revocation),
                other => match Engine::from_name(other) {
                    Some(engine) => plan.engines.push(engine),
                    None => plan.many = other.parse().expect("an engine, a part, a number or --small"),
                },
            }
        }
        if plan.engines.is_empty() {
            plan.engines = Engine::ALL.to_vec();
        }
        if plan.parts.is_empty() {
            plan.parts = vec![Part::Sessions, Part::Start, Part::Revocation];
        }
        plan
    }
}

#[tokio::main]
async fn main() {
    let plan = Plan::read();
    for part in &plan.parts {
        let mut rows = Vec::new();
        for engine in plan.engines.iter().copied() {
            // In a task of its own: an engine that does not answer in time does not lose the others' numbers.
            let measuring = match part {
                Part::Sessions => tokio::spawn(sessions(engine, plan.many)),
                Part::Start => tokio::spawn(start(engine, plan.many)),
                Part::Revocation => tokio::spawn(revocation(engine, plan.rounds)),
            };
            let measured = measuring.await;
            rows.extend(measured.unwrap_or_else(|_| Some(vec![format!("| {} | failed |", engine.name())])));
        }
        println!("\n{}", heading(*part, &plan));
        for row in rows.into_iter().flatten() {
            println!("{row}");
        }
        println!();
    }
}

fn heading(part: Part, plan: &Plan) -> String {
    let Plan { many, rounds, .. } = plan;
    match part {
        Part::Sessions => format!(
            "With {FEW} and with {many} sessions in the store, p50 (goal: ratio ≤ 1.5). Logins are without password.\n\n\
             | engine | work | at a time | p50 with {FEW} | p50 with {many} | ratio | p99 with {FEW} | p99 with {many} |\n\
             |---|---|---|---|---|---|---|---|"
        ),
        Part::Start => format!(
            "Start of a node with {many} live revocations (goal: ≤ 2 s), three times.\n\n\
             | engine | first | second | third | entries/s, the best |\n\
             |---|---|---|---|---|"
        ),
        Part::Revocation => format!(
            "From the end of a session on one node until another refuses its token, {rounds} times \
             (goal for PostgreSQL and Redis: p50 ≤ 10 ms, p99 ≤ 50 ms).\n\n\
             | engine | p50 | p90 | p99 | worst |\n\
             |---|---|---|---|---|"
        ),
    }
}

/// A store with some sessions in it.
struct Filled {
    _database: Database,
    refreshing: Vec<Refreshing>,
    logging_in: Vec<LoggingIn>,
}

impl Filled {
    async fn new(engine: Engine, count: usize) -> Option<Self> {
        /// The sessions to be measured are begun in so many places among the others.
        const PLACES: usize = 32;
        let database = engine.fresh().await?;
        let stores = database.open().await;
        let clock = Arc::new(Hurrying::default());
        let accounts = node(&stores, clock.clone()).await;
        let to_measure = (count / 2).min(4_096);
        let began = Instant::now();
        let mut held = Vec::new();
        for place in 0..PLACES {
            let share = |all: usize| all * (place + 1) / PLACES - all * place / PLACES;
            engine::sessions(&database, &stores, share(count - to_measure), clock.now()).await;
            held.extend(begin(&accounts, &stores, share(to_measure)).await);
        }
        println!("{}: {count} sessions written in {:.1?}", engine.name(), began.elapsed());
        // Every client has some from every place.
        let of_client = |client| held.iter().skip(client).step_by(CLIENTS).cloned().collect::<Vec<Held>>();
        let refreshing = (0..CLIENTS).map(|client| Refreshing {
            accounts: accounts.clone(),
            held: of_client(client),
            next: 0,
        });
        let logging_in = (0..CLIENTS).map(|client| LoggingIn {
            accounts: accounts.clone(),
            stores: stores.clone(),
            users: of_client(client).into_iter().map(|held| held.key.user_id).collect(),
            next: 0,
        });
        Some(Self { refreshing: refreshing.collect(), logging_in: logging_in.collect(), _database: database })
    }
}

/// One at a time, and many at a time.
type Turn = [Measured; 2];

/// First one after the other has its turn, then all of them at once.
async fn turn<W: node::Worker>(workers: &mut Vec<W>) -> Turn {
    let mut turn = Turn::default();
    let [alone, together] = &mut turn;
    let mut done = Vec::new();
    for worker in workers.drain(..) {
        let (worker, measured) = work(vec![worker], Until::Steps(8)).await;
        done.extend(worker);
        alone.add(&measured);
    }
    (*workers, *together) = work(done, Until::Steps(16)).await;
    turn
}

async fn sessions(engine: Engine, many: usize) -> Option<Vec<String>> {
    /// After one to warm up.
    const TURNS: usize = 9;
    let mut filled = [Filled::new(engine, FEW).await?, Filled::new(engine, many).await?];
    let (mut refreshes, mut logins): ([Turn; 2], [Turn; 2]) = Default::default();
    for number in 0..=TURNS {
        for (which, filled) in filled.iter_mut().enumerate() {
            let refreshing = turn(&mut filled.refreshing).await;
            let logging_in = turn(&mut filled.logging_in).await;
            if number > 0 {
                for (totals, turns) in [(&mut refreshes, refreshing), (&mut logins, logging_in)] {
                    for (total, turn) in totals.get_mut(which).unwrap().iter_mut().zip(&turns) {
                        total.add(turn);
                    }
                }
            }
        }
    }
    let mut rows = Vec::new();
    for (work, [few, many]) in [("refresh", &refreshes), ("login", &logins)] {
        for ((at_a_time, few), many) in [1, CLIENTS].iter().zip(few).zip(many) {
            let ratio = many.quantile(50).as_secs_f64() / few.quantile(50).as_secs_f64();
            rows.push(format!(
                "| {} | {work} | {at_a_time} | {} | {} | {ratio:.2} | {} | {} |",
                engine.name(),
                millis(few.quantile(50)),
                millis(many.quantile(50)),
                millis(few.quantile(99)),
                millis(many.quantile(99)),
            ));
        }
    }
    Some(rows)
}

async fn start(engine: Engine, many: usize) -> Option<Vec<String>> {
    let database = engine.fresh().await?;
    let clock = Arc::new(SystemClock::new());
    let stores = database.open().await;
    let began = Instant::now();
    engine::revocations(&database, &stores, many, clock.now()).await;
    println!("{}: {many} revocations written in {:.1?}", engine.name(), began.elapsed());
    let mut times = Vec::new();
    for _ in 0..3 {
        let stores = database.open().await;
        let accounts = node(&stores, clock.clone()).await;
        let view = accounts.sessions().view();
        let began = Instant::now();
        view.poll().await.unwrap();
        times.push(began.elapsed());
        assert_eq!(view.stats().entries, many, "everything was read");
    }
    let best = times.iter().min().unwrap().as_secs_f64();
    let times: Vec<_> = times.iter().map(|time| format!("{:.2} s", time.as_secs_f64())).collect();
    Some(vec![format!("| {} | {} | {:.0} |", engine.name(), times.join(" | "), many as f64 / best)])
}

async fn revocation(engine: Engine, rounds: usize) -> Option<Vec<String>> {
    let database = engine.fresh().await?;
    let clock = Arc::new(SystemClock::new());
    let (stores, stores_of_other) = (database.open().await, database.open().await);
    let accounts: Accounts = node(&stores, clock.clone()).await;
    let accounts_of_other = node(&stores_of_other, clock).await;
    let (sessions, other) = (accounts.sessions(), accounts_of_other.sessions());
    let _running = Background::start(&Handle::current(), sessions, &stores);
    let _running_too = Background::start(&Handle::current(), other, &stores_of_other);
    // Until both listen.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut measured = Measured::default();
    for _ in 0..rounds {
        let time = end_one(sessions, other).await;
        measured.each.push(time);
        measured.took += time;
    }
    let [p50, p90, p99, worst] = [50, 90, 99, 100].map(|percent| millis(measured.quantile(percent)));
    Some(vec![format!("| {} | {p50} | {p90} | {p99} | {worst} |", engine.name())])
}

/// How long it took until the other node knew.
async fn end_one(sessions: &Sessions, other: &Sessions) -> Duration {
    let user_id = UserId::from(countersign_jwt::random::uuid(&OsRandom).unwrap());
    let pair = sessions.begin(user_id, Epoch::FIRST, Presentation::Explicit, Device::default());
    let pair = pair.await.unwrap();
    other.verification().verify(&pair.access_token, Check::ACCESS).await.unwrap();
    let key = UserSession { user_id: pair.user_id, id: pair.session.id };
    sessions.end(key, EndReason::LoggedOut).await.unwrap();
    let ended = Instant::now();
    while other.verification().verify(&pair.access_token, Check::ACCESS).await.is_ok() {
        tokio::task::yield_now().await;
    }
    ended.elapsed()
}
