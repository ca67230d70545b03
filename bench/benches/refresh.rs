//! Refreshing sessions on each engine, 64 clients at a time: how many advance in a second, and how long each takes.
//! Beside it, taking turns, what the engine does through the same driver without any of our code: durable updates of
//! single rows, one by one and many at once. They neither read, nor look at a condition, nor sign.
//!
//! Every refresh counted here is a whole one, but for HTTP: the token's MAC is verified, the user is read, the session
//! is advanced by one conditional update that is as durable as the engine is set to be before the answer, and two tokens
//! are signed. Time passes so fast that no refresh falls into the grace of the one before.
//!
//! `cargo bench -p countersign-bench --bench refresh -- sqlite redis` measures these engines only.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark: it prints")]

mod engine;
mod node;

use std::sync::Arc;
use std::time::Duration;

use countersign_core::model::UserSession;
use engine::{CONNECTIONS, Engine, updaters};
use node::{Hurrying, Measured, Refreshing, Until, begin, median, millis, node, work};

/// How many clients refresh at the same time.
const CLIENTS: usize = 64;
/// How many sessions each of them has, which it refreshes in turn.
const SESSIONS_EACH: usize = 64;
/// How often each has its turn, after one to warm up.
const TURNS: usize = 5;
const REFRESHING: Duration = Duration::from_secs(2);
const UPDATING: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() {
    let named: Vec<_> = std::env::args().filter_map(|argument| Engine::from_name(&argument)).collect();
    let mut rows = Vec::new();
    for engine in Engine::ALL {
        if named.is_empty() || named.contains(&engine) {
            rows.extend(measure(engine).await);
        }
    }
    println!(
        "\nRefreshes by {CLIENTS} clients at once; bare updates one by one, and by {CONNECTIONS} connections"
    );
    println!("({CLIENTS} tasks where one connection carries many). Ratios are medians of {TURNS} turns.\n");
    println!(
        "| engine | refreshes/s | p50 | p99 | goal | bare, one by one | ratio | bare, at once | p50 | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        println!("{row}");
    }
}

/// A row of the table; `None` if there is no such server.
async fn measure(engine: Engine) -> Option<String> {
    let database = engine.fresh().await?;
    let stores = database.open().await;
    let accounts = node(&stores, Arc::new(Hurrying::default())).await;
    let held = begin(&accounts, &stores, CLIENTS * SESSIONS_EACH).await;
    let keys: Vec<UserSession> = held.iter().map(|held| held.key.clone()).collect();
    let mut clients: Vec<_> = held
        .chunks(SESSIONS_EACH)
        .map(|held| Refreshing { accounts: accounts.clone(), held: held.to_vec(), next: 0 })
        .collect();
    let mut one = updaters(&database, 1, &keys).await;
    let mut many = updaters(&database, CLIENTS, &keys).await;

    let mut totals: [Measured; 3] = Default::default();
    let mut ratios: [Vec<f64>; 2] = Default::default();
    for turn in 0..=TURNS {
        let (refreshing, one_by_one, at_once);
        (clients, refreshing) = work(clients, Until::After(REFRESHING)).await;
        (one, one_by_one) = work(one, Until::After(UPDATING)).await;
        (many, at_once) = work(many, Until::After(UPDATING)).await;
        let [refreshes, singles, bare] =
            [&refreshing, &one_by_one, &at_once].map(|measured| measured.per_second());
        println!(
            "{}: {refreshes:.0} refreshes, {singles:.0} updates one by one, {bare:.0} at once a second{}",
            engine.name(),
            if turn == 0 { " (to warm up)" } else { "" }
        );
        if turn > 0 {
            for (total, turn) in totals.iter_mut().zip([&refreshing, &one_by_one, &at_once]) {
                total.add(turn);
            }
            for (ratios, beside) in ratios.iter_mut().zip([singles, bare]) {
                ratios.push(refreshes / beside);
            }
        }
    }
    let [refreshing, one_by_one, at_once] = &totals;
    let [to_single, to_bare] = ratios.map(median);
    Some(format!(
        "| {} | {:.0} | {} | {} | {} | {:.0}/s | {to_single:.2} | {:.0}/s | {} | {to_bare:.2} |",
        engine.name(),
        refreshing.per_second(),
        millis(refreshing.quantile(50)),
        millis(refreshing.quantile(99)),
        goal(engine),
        one_by_one.per_second(),
        at_once.per_second(),
        millis(at_once.quantile(50)),
    ))
}

/// How many refreshes a second there are to be.
fn goal(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "≥ 5,000",
        Engine::Postgres => "≥ 4,000",
        Engine::Redis => "≥ 8,000",
        Engine::Mysql | Engine::Mongodb => "",
    }
}
