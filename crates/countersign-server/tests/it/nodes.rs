//! Several servers on one store, on every engine: what one ends all refuse, what one steps all see, and a server that
//! loses its store loses nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use countersign_http::SystemClock;
use countersign_jwt::Clock as _;
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::client::{Answer, Client, PASSWORD, claims, send};
use crate::engine::{Engine, Kind, on_every_engine};
use crate::server::{Server, eventually};

/// How old a server's view of the revocation log may be, by default.
const BOUND: Duration = Duration::from_secs(5);

on_every_engine! {
    the_contract_holds
    sec_085_what_one_server_ends_the_others_refuse
    sec_092_refreshes_at_five_servers_at_once_yield_one_successor
    five_first_starts_at_once_agree_on_their_keys
    sec_128_three_servers_count_attempts_together
    sec_156_registrations_at_three_servers_at_once_make_one_account
    sec_210_a_server_cut_off_from_its_store_says_so_and_recovers
}

async fn stop(servers: Vec<Server>) {
    for server in servers {
        server.stop().await;
    }
}

/// Whether a token is good, without loading its user: the store is not asked.
async fn verify(client: &Client, access: &str) -> Answer {
    send(client.request(Method::GET, "/v1/auth/verify").bearer_auth(access)).await.unwrap()
}

/// Every route once, with what it promises.
async fn the_contract_holds(engine: &Engine) {
    let server = engine.serve().await;
    let client = Client::new(&server);
    client.get("/readyz").await.expect(200);
    let body = json!({ "email": "Ada@Example.org", "username": "Ada", "password": PASSWORD });
    let registered = client.post("/v1/auth/register", &body).await.expect(201);
    client.post("/v1/auth/register", &body).await.expect_error(409, "email_taken");
    let other = json!({ "email": "eve@example.org", "username": "ADA", "password": PASSWORD });
    client.post("/v1/auth/register", &other).await.expect_error(409, "username_taken");

    let login = json!({ "username": "ada", "password": PASSWORD });
    let first = client.post("/v1/auth/login", &login).await.expect(200).pair();
    let me = client.me(&first.access).await.expect(200);
    assert_eq!(me.body, registered.body["user"]);
    client.try_login("ada@example.org", "wrong password").await.expect_error(401, "invalid_credentials");

    let second = client.refresh(&first.refresh).await.expect(200).pair();
    assert_ne!(first, second);
    assert_eq!(client.refresh(&first.refresh).await.expect(200).pair(), second, "within the grace");
    client.me(&first.access).await.expect(200);

    let listed =
        send(client.request(Method::GET, "/v1/auth/sessions").bearer_auth(&second.access)).await.unwrap();
    let listed = listed.expect(200);
    let sessions = listed.body["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2);
    let of_registration = registered.pair();
    let ended = format!("/v1/auth/sessions/{}", claims(&of_registration.access)["sid"].as_str().unwrap());
    send(client.request(Method::DELETE, &ended).bearer_auth(&second.access)).await.unwrap().expect(204);
    client.me(&of_registration.access).await.expect_error(401, "invalid_token");
    client.refresh(&of_registration.refresh).await.expect_error(401, "invalid_token");

    let revoke = json!({ "tokens": [claims(&first.access)["jti"]] });
    let revoked = client.request(Method::DELETE, "/v1/auth/revoke-tokens").bearer_auth(&second.access);
    send(revoked.json(&revoke)).await.unwrap().expect(200);
    client.me(&first.access).await.expect_error(401, "invalid_token");
    client.me(&second.access).await.expect(200);

    let third = client.login("ada@example.org").await;
    let all = client.request(Method::DELETE, "/v1/auth/sessions").bearer_auth(&third.access);
    send(all).await.unwrap().expect(204);
    client.me(&second.access).await.expect_error(401, "invalid_token");
    client.refresh(&second.refresh).await.expect_error(401, "invalid_token");
    client.me(&third.access).await.expect(200);
    let fourth = client.refresh(&third.refresh).await.expect(200).pair();

    client.logout(&fourth.refresh).await.expect(204);
    client.logout(&fourth.refresh).await.expect(204);
    for pair in [&third, &fourth] {
        client.me(&pair.access).await.expect_error(401, "invalid_token");
        client.refresh(&pair.refresh).await.expect_error(401, "invalid_token");
    }
    server.stop().await;

    // Nothing of it is lost in a restart.
    let server = engine.serve().await;
    let client = Client::new(&server);
    for pair in [&first, &second, &third, &fourth] {
        client.me(&pair.access).await.expect_error(401, "invalid_token");
        client.refresh(&pair.refresh).await.expect_error(401, "invalid_token");
    }
    client.login("ada@example.org").await;
    server.stop().await;
}

async fn sec_085_what_one_server_ends_the_others_refuse(engine: &Engine) {
    let servers = engine.nodes(2).await;
    let (here, there) = (Client::new(&servers[0]), Client::new(&servers[1]));
    here.register("ada@example.org").await;
    let clock = SystemClock::new();
    let mut took = Vec::new();
    for round in 0..12 {
        let pair = here.login("ada@example.org").await;
        there.me(&pair.access).await.expect(200);
        let by = |path: &str| here.request(Method::DELETE, path).bearer_auth(&pair.access);
        match round % 4 {
            0 => drop(here.logout(&pair.refresh).await.expect(204)),
            1 => {
                let another = here.login("ada@example.org").await;
                let all = here.request(Method::DELETE, "/v1/auth/sessions").bearer_auth(&another.access);
                send(all).await.unwrap().expect(204);
            }
            2 => {
                let tokens = json!({ "tokens": [claims(&pair.access)["jti"]] });
                send(by("/v1/auth/revoke-tokens").json(&tokens)).await.unwrap().expect(200);
            }
            _ => {
                let own = format!("/v1/auth/sessions/{}", claims(&pair.access)["sid"].as_str().unwrap());
                send(by(&own)).await.unwrap().expect(204);
            }
        }
        let ended = clock.monotonic();
        here.me(&pair.access).await.expect_error(401, "invalid_token");
        eventually("the other server refuses the token", async || there.me(&pair.access).await.status == 401)
            .await;
        took.push(clock.monotonic().saturating_sub(ended));
        for client in [&here, &there] {
            client.me(&pair.access).await.expect_error(401, "invalid_token");
        }
    }
    took.sort();
    println!("{:?}: the other server refused after {took:?}; the bound is {BOUND:?}", engine.kind);
    assert!(took.last().is_some_and(|longest| *longest <= BOUND), "{took:?}");
    stop(servers).await;
}

async fn sec_092_refreshes_at_five_servers_at_once_yield_one_successor(engine: &Engine) {
    let servers = engine.nodes(5).await;
    let clients: Vec<_> = servers.iter().map(Client::new).collect();
    let mut pair = clients[0].register("ada@example.org").await;
    for round in 1..=20 {
        if round > 1 {
            // The next round's refresh is to step on at once, though the last one was only just now.
            let tokens = json!({ "tokens": [claims(&pair.access)["jti"]] });
            let revoke = |client: &Client| {
                let revoke = client.request(Method::DELETE, "/v1/auth/revoke-tokens");
                send(revoke.bearer_auth(&pair.access).json(&tokens))
            };
            revoke(&clients[0]).await.unwrap().expect(200);
            for client in &clients {
                eventually("every server knows", async || client.me(&pair.access).await.status == 401).await;
            }
        }
        let mut refreshing = JoinSet::new();
        for number in 0..20 {
            let (client, token) = (clients[number % clients.len()].clone(), pair.refresh.clone());
            refreshing.spawn(async move { client.refresh(&token).await });
        }
        let successors: BTreeSet<_> = refreshing
            .join_all()
            .await
            .into_iter()
            .map(|answer| {
                let pair = answer.expect(200).pair();
                assert_eq!(claims(&pair.access)["gen"], round);
                (pair.access, pair.refresh)
            })
            .collect();
        assert_eq!(successors.len(), 1, "round {round}: one successor");
        let (access, refresh) = successors.into_iter().next().unwrap();
        pair.access = access;
        pair.refresh = refresh;
    }
    stop(servers).await;
}

async fn five_first_starts_at_once_agree_on_their_keys(engine: &Engine) {
    let (a, b, c, d, e) =
        tokio::join!(engine.serve(), engine.serve(), engine.serve(), engine.serve(), engine.serve());
    let servers = vec![a, b, c, d, e];
    let mut issuers = BTreeSet::new();
    for (number, server) in servers.iter().enumerate() {
        let pair = Client::new(server).register(&format!("user{number}@example.org")).await;
        issuers.insert(claims(&pair.access)["iss"].as_str().unwrap().to_owned());
        for other in &servers {
            let other = Client::new(other);
            other.me(&pair.access).await.expect(200);
            other.refresh(&pair.refresh).await.expect(200);
        }
    }
    assert_eq!(issuers.len(), 1, "{issuers:?}");
    stop(servers).await;
}

/// SEC-197 too: however many guesses are made at once, and wherever, no more are checked than are allowed.
async fn sec_128_three_servers_count_attempts_together(engine: &Engine) {
    let servers = engine.nodes(3).await;
    let clients: Vec<_> = servers.iter().map(Client::new).collect();
    clients[0].register("ada@example.org").await;
    for name in ["ada@example.org", "nobody@example.org"] {
        let clock = SystemClock::new();
        let began = clock.monotonic();
        let mut guessing = JoinSet::new();
        for number in 0..60 {
            let client = clients[number % clients.len()].clone();
            guessing.spawn(async move { client.try_login(name, &format!("wrong {number}")).await });
        }
        let answers = guessing.join_all().await;
        let count = |status| answers.iter().filter(|answer| answer.status == status).count();
        // After five, one more each time that a pause of 1, 2, 4, … seconds is over.
        let took = clock.monotonic().saturating_sub(began).as_secs();
        let pauses = usize::try_from((took + 1).ilog2() + 1).unwrap();
        // On a busy machine some may find that the queue takes too long.
        let (checked, refused, shed) = (count(401), count(429), count(503));
        assert!((5..=5 + pauses).contains(&checked), "{name}: {checked} of 60 were checked in {took} s");
        assert_eq!(checked + refused + shed, 60, "{name}");
        assert!(refused > 0, "{name}: {shed} of 60 were shed");
    }
    stop(servers).await;
}

async fn sec_156_registrations_at_three_servers_at_once_make_one_account(engine: &Engine) {
    let servers = engine.nodes(3).await;
    let clients: Vec<_> = servers.iter().map(Client::new).collect();
    let mut registering = JoinSet::new();
    for number in 0..12 {
        let client = clients[number % clients.len()].clone();
        let body = json!({ "email": "ada@example.org", "username": "ada", "password": PASSWORD });
        registering.spawn(async move { client.post("/v1/auth/register", &body).await });
    }
    let answers = registering.join_all().await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    let refused = answers.iter().filter(|answer| answer.status == 409).count();
    assert_eq!((made, refused), (1, 11));
    clients[1].login("ada@example.org").await;
    stop(servers).await;
}

async fn sec_210_a_server_cut_off_from_its_store_says_so_and_recovers(engine: &Engine) {
    if engine.kind == Kind::Sqlite {
        // A file is not cut off. What a locked one does is tested in `store_down`.
        return;
    }
    let here = engine.serve().await;
    let (there, wire) = engine.serve_behind_a_proxy().await;
    let (near, far) = (Client::new(&here), Client::new(&there));
    let staying = near.register("ada@example.org").await;
    let leaving = near.login("ada@example.org").await;
    for pair in [&staying, &leaving] {
        far.me(&pair.access).await.expect(200);
    }

    wire.block();
    near.logout(&leaving.refresh).await.expect(204);
    let clock = SystemClock::new();
    let ended = clock.monotonic();
    // What needs the store is a 503; what needs none is answered by a view that is young enough, and then no longer.
    let needs_the_store = async {
        far.refresh(&staying.refresh).await.expect_error(503, "unavailable");
        far.try_login("ada@example.org", PASSWORD).await.expect_error(503, "unavailable");
        far.get("/readyz").await.expect(503);
    };
    let needs_none = async {
        verify(&far, &staying.access).await.expect(200);
        eventually("the view is too old", async || verify(&far, &leaving.access).await.status == 503).await;
        clock.monotonic().saturating_sub(ended)
    };
    let ((), took) = tokio::join!(needs_the_store, needs_none);
    println!("{:?}: 503 for what needs no store after {took:?}", engine.kind);
    // A request waits a second for the view to be renewed.
    assert!(took <= BOUND + Duration::from_secs(2), "{took:?}");
    for pair in [&staying, &leaving] {
        verify(&far, &pair.access).await.expect_error(503, "unavailable");
    }
    far.get("/healthz").await.expect(200);

    wire.unblock();
    eventually("it recovers", async || far.get("/readyz").await.status == 200).await;
    far.me(&leaving.access).await.expect_error(401, "invalid_token");
    far.refresh(&leaving.refresh).await.expect_error(401, "invalid_token");
    far.me(&staying.access).await.expect(200);
    far.refresh(&staying.refresh).await.expect(200);
    far.login("ada@example.org").await;
    here.stop().await;
    there.stop().await;
}
