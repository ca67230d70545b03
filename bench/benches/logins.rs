//! How many logins a second a server answers, beside bare Argon2id on all cores, and what others notice of them.
//!
//! `cargo bench -p countersign-bench --bench logins -- 127.0.0.1:8080 PID` works against a server that runs on an empty
//! store. It takes turns of five seconds: bare hashes with the server's parameters on as many threads as there are cores,
//! then logins of 64 users on as many connections. After that it measures `/me` at fixed times: with nothing else, beside
//! those logins, and while 500 logins arrive at once, and prints the most memory that the process PID ever had.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a program that measures, for developers"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Params, Version};
use serde_json::json;
use tokio::task::JoinSet;

mod wire;

use wire::{Client, PASSWORD, register, text, told};

const USERS: usize = 64;
const STORM: usize = 500;
const ROUNDS: usize = 5;
const TURN: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let Some(address) = arguments.first().cloned() else {
        println!(
            "logins: left out; give it the address of a server on an empty store, such as 127.0.0.1:8080, and its PID"
        );
        return;
    };
    let memory = || {
        let Some(pid) = arguments.get(1) else { return "unknown".to_owned() };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().to_owned()
    };
    let me = text(&register(&address, "me").await, "access_token");
    for number in 0..USERS {
        register(&address, &name(number)).await;
    }
    println!("memory after {} registrations: {}", USERS + 1, memory());

    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let bare = tokio::task::spawn_blocking(bare_hashes).await.unwrap();
        let logins = logins(&address, TURN).await;
        println!("bare Argon2id {bare:.1} a second, logins {logins:.1} a second, ratio {:.2}", logins / bare);
        ratios.push(logins / bare);
    }
    ratios.sort_by(f64::total_cmp);
    println!("ratio: median {:.2} of {:.2} to {:.2}", ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1]);

    for _ in 0..3 {
        let quiet = ask_for_me(&address, &me, Arc::new(AtomicBool::new(false)), TURN * 2).await;
        println!("me, nothing else:     {}", told(quiet));
        let busy = tokio::spawn({
            let address = address.clone();
            async move { logins(&address, TURN * 2).await }
        });
        let waits = ask_for_me(&address, &me, Arc::new(AtomicBool::new(false)), TURN * 2).await;
        println!("me, beside logins:    {} ({:.1} logins a second)", told(waits), busy.await.unwrap());
        storm(&address, &me).await;
        println!("memory: {}", memory());
    }
}

fn name(number: usize) -> String {
    format!("user{number}")
}

/// Hashes a second on all cores.
fn bare_hashes() -> f64 {
    let threads = std::thread::available_parallelism().unwrap().get();
    let hashes = AtomicU64::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let params = Params::new(19_456, 2, 1, None).unwrap();
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
                let mut memory = vec![argon2::Block::default(); params.block_count()];
                let mut hash = [0; 32];
                while begun.elapsed() < TURN {
                    argon2
                        .hash_password_into_with_memory(
                            PASSWORD.as_bytes(),
                            b"0123456789abcdef",
                            &mut hash,
                            &mut memory,
                        )
                        .unwrap();
                    hashes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    hashes.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64()
}

/// Logins a second of [`USERS`] users, each on a connection of its own.
async fn logins(address: &str, time: Duration) -> f64 {
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..USERS {
        let address = address.to_owned();
        clients.spawn(async move {
            let mut client = Client::connect(&address).await;
            let body = json!({ "username": name(number), "password": PASSWORD });
            let mut answered = 0_u64;
            while begun.elapsed() < time {
                match client.send("POST", "/v1/auth/login", None, Some(&body)).await {
                    (200, _) => answered += 1,
                    (503, _) => tokio::time::sleep(Duration::from_millis(20)).await,
                    other => panic!("{other:?}"),
                }
            }
            answered
        });
    }
    let answered: u64 = clients.join_all().await.into_iter().sum();
    answered as f64 / begun.elapsed().as_secs_f64()
}

/// How long `/me` takes, asked for every 10 ms for so long, or until told to stop.
async fn ask_for_me(address: &str, token: &str, stop: Arc<AtomicBool>, time: Duration) -> Vec<Duration> {
    let mut client = Client::connect(address).await;
    let begun = Instant::now();
    let mut waits = Vec::new();
    for number in 0.. {
        let due = begun + Duration::from_millis(10) * number;
        if stop.load(Ordering::Relaxed) || due - begun > time {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        assert_eq!(client.send("GET", "/v1/auth/me", Some(token), None).await.0, 200);
        waits.push(due.elapsed());
    }
    waits
}

/// Lets all logins arrive at once and says what others waited for meanwhile.
async fn storm(address: &str, me: &str) {
    let mut clients = Vec::new();
    for _ in 0..STORM {
        clients.push(Client::connect(address).await);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let others = tokio::spawn({
        let (address, me, stop) = (address.to_owned(), me.to_owned(), stop.clone());
        async move { ask_for_me(&address, &me, stop, Duration::from_secs(600)).await }
    });
    let begun = Instant::now();
    let mut logins = JoinSet::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        logins.spawn(async move {
            let body = json!({ "username": name(number % USERS), "password": PASSWORD });
            client.send("POST", "/v1/auth/login", None, Some(&body)).await.0
        });
    }
    let statuses = logins.join_all().await;
    let took = begun.elapsed();
    stop.store(true, Ordering::Relaxed);
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!(count(200) + count(503), STORM, "{statuses:?}");
    println!(
        "me, {STORM} logins at once: {} ({} answered and {} shed within {took:.1?})",
        told(others.await.unwrap()),
        count(200),
        count(503)
    );
}
