//! The process dies at any moment; what it has answered stays so.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign_testkit::SeededRandom;
use reqwest::Method;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::client::{Client, Pair, claims, send};
use crate::engine::{Engine, Kind};

/// On each engine: 200 in all.
const ROUNDS: u64 = 40;
const WORKERS: usize = 8;
/// How many live sessions a worker has at the start of a round.
const SESSIONS: usize = 2;

/// A session as its client knows it. All tabs share it, as clients are told to.
#[derive(Debug)]
struct Session {
    held: Pair,
    /// A logout was sent, and nobody knows whether it arrived.
    leaving: bool,
}

/// A client with an account of its own.
#[derive(Debug)]
struct Worker {
    email: String,
    sessions: Vec<Session>,
    /// Tokens of which a logout that was answered has made an end.
    ended: Vec<Pair>,
    /// Access tokens whose revocation was answered.
    revoked: Vec<String>,
    /// By session and generation, the ids of the one pair of tokens that it may have.
    seen: HashMap<(String, u64), [String; 2]>,
}

/// The server went away before it answered.
#[derive(Debug)]
struct Lost;

/// Counts answers, and says when there are enough for this round.
#[derive(Debug)]
struct Fuse {
    left: AtomicU64,
    blown: Notify,
}

impl Fuse {
    fn answered(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.blown.notify_one();
        }
    }
}

macro_rules! on_every_engine {
    ($($name:ident: $kind:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let Some(engine) = Engine::new(Kind::$kind).await else { return };
                sec_103_what_was_answered_survives_kill_nine(&engine).await;
                engine.drop().await;
            }
        )*
    };
}

on_every_engine! {
    sec_103_what_was_answered_survives_kill_nine_on_sqlite: Sqlite
    sec_103_what_was_answered_survives_kill_nine_on_postgres: Postgres
    sec_103_what_was_answered_survives_kill_nine_on_mysql: Mysql
    sec_103_what_was_answered_survives_kill_nine_on_mongodb: Mongodb
    sec_103_what_was_answered_survives_kill_nine_on_redis: Redis
}

async fn sec_103_what_was_answered_survives_kill_nine(engine: &Engine) {
    let random = Arc::new(SeededRandom::new(9));
    let settings = [("COUNTERSIGN_HASH_PERMITS", "2"), ("COUNTERSIGN_LOG", "warn")];

    let mut server = engine.serve_with(&settings).await;
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        let email = format!("user{number}@example.org");
        let mut worker = Worker {
            sessions: Vec::new(),
            ended: Vec::new(),
            revoked: Vec::new(),
            seen: HashMap::new(),
            email,
        };
        let held = Client::new(&server).register(&worker.email).await;
        worker.begin(held);
        workers.push(worker);
    }

    for _ in 0..ROUNDS {
        let client = Client::new(&server);
        let fuse = Arc::new(Fuse { left: (1 + random.below(100)).into(), blown: Notify::new() });
        let mut running = JoinSet::new();
        for mut worker in workers.drain(..) {
            let (client, random, fuse) = (client.clone(), random.clone(), fuse.clone());
            worker.fill_up(&client).await;
            running.spawn(async move {
                // Ends when the server does not answer any more.
                while let Ok(()) = worker.step(&client, &random, &fuse).await {}
                worker
            });
        }
        fuse.blown.notified().await;
        server.kill().await;
        workers = running.join_all().await;

        server = engine.serve_with(&settings).await;
        let client = Client::new(&server);
        let mut checks = JoinSet::new();
        for mut worker in workers.drain(..) {
            let client = client.clone();
            checks.spawn(async move {
                worker.check(&client).await;
                worker
            });
        }
        workers = checks.join_all().await;
    }

    let client = Client::new(&server);
    for worker in &mut workers {
        worker.check_ended(&client, 0).await;
        worker.check(&client).await;
    }
    let count = |each: fn(&Worker) -> usize| workers.iter().map(each).sum::<usize>();
    println!(
        "{:?}, {ROUNDS} rounds: {} logouts and {} revocations were answered, {} generations seen, {} sessions live",
        engine.kind,
        count(|worker| worker.ended.len()),
        count(|worker| worker.revoked.len()),
        count(|worker| worker.seen.len()),
        count(|worker| worker.sessions.len()),
    );
    assert!(count(|worker| worker.ended.len()) > ROUNDS as usize, "the load had logouts in it");
    server.stop().await;
}

impl Worker {
    fn begin(&mut self, held: Pair) {
        self.see(&held);
        self.sessions.push(Session { held, leaving: false });
    }

    /// Logs in until there are sessions enough. Logins are not killed: each that is leaves an attempt behind that
    /// counts as running for another minute, and soon the throttle would refuse them.
    async fn fill_up(&mut self, client: &Client) {
        while self.sessions.len() < SESSIONS {
            let held = client.login(&self.email).await;
            self.begin(held);
        }
    }

    /// Notes a pair: no generation has two.
    fn see(&mut self, pair: &Pair) {
        let (access, refresh) = (claims(&pair.access), claims(&pair.refresh));
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        assert_eq!((&access["sid"], &access["gen"]), (&refresh["sid"], &refresh["gen"]));
        let key = (text(&access["sid"]), access["gen"].as_u64().unwrap());
        let ids = [text(&access["jti"]), text(&refresh["jti"])];
        let known = self.seen.entry(key).or_insert_with(|| ids.clone());
        assert_eq!(*known, ids, "two successors of one token");
    }

    /// Puts a pair in the place of its predecessor.
    fn hold(&mut self, at: usize, pair: Pair) {
        self.see(&pair);
        let generation = |pair: &Pair| claims(&pair.access)["gen"].as_u64().unwrap();
        let (before, after) = (generation(&self.sessions[at].held), generation(&pair));
        assert!(after == before || after == before + 1, "from generation {before} to {after}");
        self.sessions[at].held = pair;
    }

    /// Does one thing with one session.
    async fn step(&mut self, client: &Client, random: &SeededRandom, fuse: &Fuse) -> Result<(), Lost> {
        if self.sessions.is_empty() {
            // Nothing left to do in this round but to wait for its end.
            send(client.request(Method::GET, "/healthz")).await.map_err(|_| Lost)?;
            fuse.answered();
            return Ok(());
        }
        let at = usize::try_from(random.below(self.sessions.len() as u64)).unwrap();
        match random.below(100) {
            0..8 => self.log_out(client, at, fuse).await,
            8..50 => {
                self.revoke_access(client, at, fuse).await?;
                self.refresh(client, at, 1 + random.below(3), fuse).await
            }
            _ => self.refresh(client, at, 1 + random.below(3), fuse).await,
        }
    }

    /// Several tabs present the same refresh token at once.
    async fn refresh(&mut self, client: &Client, at: usize, tabs: u64, fuse: &Fuse) -> Result<(), Lost> {
        let mut requests = JoinSet::new();
        for _ in 0..tabs {
            let body = json!({ "refresh_token": self.sessions[at].held.refresh });
            requests.spawn(send(client.request(Method::POST, "/v1/auth/refresh").json(&body)));
        }
        let mut outcome = Ok(());
        for answer in requests.join_all().await {
            match answer {
                Ok(answer) => {
                    fuse.answered();
                    self.hold(at, answer.expect(200).pair());
                }
                Err(_) => outcome = Err(Lost),
            }
        }
        outcome
    }

    /// Makes the next refresh step on, although the one before was only just now.
    async fn revoke_access(&mut self, client: &Client, at: usize, fuse: &Fuse) -> Result<(), Lost> {
        let access = self.sessions[at].held.access.clone();
        if self.revoked.contains(&access) {
            return Ok(());
        }
        let body = json!({ "tokens": [claims(&access)["jti"]] });
        let request =
            client.request(Method::DELETE, "/v1/auth/revoke-tokens").bearer_auth(&access).json(&body);
        let answer = send(request).await.map_err(|_| Lost)?;
        fuse.answered();
        // The round before may have ended between this revocation and its answer.
        if answer.status != 401 {
            answer.expect(200);
        }
        self.revoked.push(access);
        Ok(())
    }

    async fn log_out(&mut self, client: &Client, at: usize, fuse: &Fuse) -> Result<(), Lost> {
        self.sessions[at].leaving = true;
        let body = json!({ "refresh_token": self.sessions[at].held.refresh });
        let answer = send(client.request(Method::POST, "/v1/auth/logout").json(&body)).await;
        let answer = answer.map_err(|_| Lost)?;
        fuse.answered();
        answer.expect(204);
        let session = self.sessions.swap_remove(at);
        self.ended.push(session.held);
        Ok(())
    }

    /// What must hold after a restart.
    async fn check(&mut self, client: &Client) {
        self.check_ended(client, self.ended.len().saturating_sub(10)).await;
        for access in self.revoked.iter().rev().take(10) {
            client.me(access).await.expect_error(401, "invalid_token");
        }
        for session in std::mem::take(&mut self.sessions) {
            // Where the reply was lost, this repeats the request.
            let answer = client.refresh(&session.held.refresh).await;
            if session.leaving {
                // A logout is done or not done, never half of each.
                if answer.status == 200 {
                    self.see(&answer.pair());
                } else {
                    answer.expect_error(401, "invalid_token");
                    client.me(&session.held.access).await.expect_error(401, "invalid_token");
                }
                client.logout(&session.held.refresh).await.expect(204);
                self.ended.push(session.held);
                continue;
            }
            self.sessions.push(session);
            self.hold(self.sessions.len() - 1, answer.expect(200).pair());
        }
    }

    /// Nobody gets in with what was ended.
    async fn check_ended(&self, client: &Client, from: usize) {
        for pair in &self.ended[from..] {
            client.me(&pair.access).await.expect_error(401, "invalid_token");
            client.refresh(&pair.refresh).await.expect_error(401, "invalid_token");
        }
    }
}
