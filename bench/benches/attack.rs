//! What other users notice while one signed-in user calls the server as fast as it can.
//!
//! `cargo bench -p countersign-bench --bench attack -- 127.0.0.1:8080 [SECONDS]` works against a server that runs on an
//! empty store with `COUNTERSIGN_REFRESH_GRACE=0`, so that each refresh is a step. It measures `/me`, refresh and login of
//! other users in five phases: quiet, while 16 connections of one user list sessions, while they end all sessions, while
//! they ask who they are, which nobody can forbid them, and quiet again. Requests are sent at fixed times, so that a server
//! that falls behind is charged for the wait.
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

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

mod wire;

use wire::{Client, PASSWORD, register, text, told};

const ATTACKERS: usize = 16;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let Some(address) = arguments.first().cloned() else {
        println!(
            "attack: left out; give it the address of a server on an empty store, such as 127.0.0.1:8080"
        );
        return;
    };
    let seconds = arguments.get(1).map_or(20, |seconds| seconds.parse().expect("a number of seconds"));
    let phase = Duration::from_secs(seconds);

    let attacker = register(&address, "attacker").await;
    for _ in 0..120 {
        login(&address, "attacker").await;
    }
    // Those logins have ended its first session.
    let attacker = login(&address, "attacker").await.unwrap_or(attacker);
    let me = register(&address, "me").await;
    // Of its own: its logins end its oldest sessions.
    register(&address, "login").await;
    let refresh_token = text(&register(&address, "refresh").await, "refresh_token");
    let victims =
        Victims { me: text(&me, "access_token"), refresh_token: Arc::new(Mutex::new(refresh_token)) };

    measure("quiet", &address, &victims, phase).await;
    for (method, path) in
        [("GET", "/v1/auth/sessions"), ("DELETE", "/v1/auth/sessions"), ("GET", "/v1/auth/me")]
    {
        let name = &format!("{ATTACKERS} × {method} {path}");
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let attack: Vec<_> = (0..ATTACKERS)
            .map(|_| {
                let (address, token) = (address.clone(), text(&attacker, "access_token"));
                let (stop, answered) = (stop.clone(), answered.clone());
                tokio::spawn(async move {
                    let mut client = Client::connect(&address).await;
                    while !stop.load(Ordering::Relaxed) {
                        client.send(method, path, Some(&token), None).await;
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        measure(name, &address, &victims, phase).await;
        stop.store(true, Ordering::Relaxed);
        for attack in attack {
            attack.await.unwrap();
        }
        println!("{name}: {} requests a second", answered.load(Ordering::Relaxed) / seconds);
    }
    measure("quiet again", &address, &victims, phase).await;
}

/// Prints the middle and the 99th percentile of what others wait for.
async fn measure(name: &str, address: &str, victims: &Victims, phase: Duration) {
    let of = |millis, kind| {
        tokio::spawn(paced(address.to_owned(), Duration::from_millis(millis), phase, kind, victims.clone()))
    };
    let (me, refresh, logins) = (of(10, Kind::Me), of(20, Kind::Refresh), of(250, Kind::Login));
    let [me, refresh, logins] = [me.await.unwrap(), refresh.await.unwrap(), logins.await.unwrap()];
    println!("{name:>31}: me {}   refresh {}   login {}", told(me), told(refresh), told(logins));
}

/// Whose requests are measured.
#[derive(Clone)]
struct Victims {
    me: String,
    refresh_token: Arc<Mutex<String>>,
}

#[derive(Clone, Copy)]
enum Kind {
    Me,
    Refresh,
    Login,
}

impl Victims {
    async fn send(&self, client: &mut Client, kind: Kind) {
        let status = match kind {
            Kind::Me => client.send("GET", "/v1/auth/me", Some(&self.me), None).await.0,
            Kind::Login => {
                let body = json!({ "username": "login", "password": PASSWORD });
                client.send("POST", "/v1/auth/login", None, Some(&body)).await.0
            }
            Kind::Refresh => {
                let body = json!({ "refresh_token": &*self.refresh_token.lock().unwrap() });
                let (status, answer) = client.send("POST", "/v1/auth/refresh", None, Some(&body)).await;
                *self.refresh_token.lock().unwrap() = text(&answer, "refresh_token");
                status
            }
        };
        assert_eq!(status, 200, "others are served");
    }
}

async fn paced(
    address: String,
    pause: Duration,
    phase: Duration,
    kind: Kind,
    victims: Victims,
) -> Vec<Duration> {
    let mut client = Client::connect(&address).await;
    let started = Instant::now();
    let mut waits = Vec::new();
    let mut number = 0;
    loop {
        let due = started + pause * number;
        if due - started > phase {
            return waits;
        }
        tokio::time::sleep_until(due.into()).await;
        victims.send(&mut client, kind).await;
        waits.push(due.elapsed());
        number += 1;
    }
}

async fn login(address: &str, name: &str) -> Option<Value> {
    let body = json!({ "username": name, "password": PASSWORD });
    let (status, answer) =
        Client::connect(address).await.send("POST", "/v1/auth/login", None, Some(&body)).await;
    (status == 200).then_some(answer)
}
