//! Nodes that are replaced one after the other while clients go on: by a restart behind HAProxy, and by an upgrade.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::client::{Client, PASSWORD};
use crate::proxies::{filled, free_port, program};
use crate::server::{Folder, Server, eventually};

/// How often each node is restarted.
const ROUNDS: usize = 3;
/// The clients that send requests meanwhile.
const CLIENTS: usize = 6;

/// One client: it reads, refreshes, and asks for health, again and again. Returns what failed.
async fn go_on(
    http: reqwest::Client,
    url: String,
    mut pair: Value,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) -> Vec<String> {
    let mut failed = Vec::new();
    for turn in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let request = match turn % 4 {
            0 => http
                .post(format!("{url}/v1/auth/refresh"))
                .json(&json!({ "refresh_token": pair["refresh_token"] })),
            1 => {
                http.get(format!("{url}/v1/auth/verify")).bearer_auth(pair["access_token"].as_str().unwrap())
            }
            2 => http.get(format!("{url}/v1/auth/me")).bearer_auth(pair["access_token"].as_str().unwrap()),
            _ => http.get(format!("{url}/healthz")),
        };
        match request.send().await {
            Ok(answer) if answer.status() == 200 => {
                if turn % 4 == 0 {
                    pair = answer.json().await.unwrap();
                }
            }
            Ok(answer) => failed.push(format!("{}: {}", answer.status(), answer.text().await.unwrap())),
            Err(error) => failed.push(format!("{error:?}")),
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_behind_haproxy_fails_no_request() {
    let Some(program) = program("TEST_HAPROXY", &["/usr/sbin/haproxy"]) else { return };
    let folder = Folder::new();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    folder.write("both.pem", &format!("{}{}", cert.pem(), signing_key.serialize_pem()));
    let ports = [free_port().await, free_port().await];
    let public = free_port().await;
    let url = format!("https://localhost:{public}");
    let text = filled(
        "haproxy-nodes.cfg",
        &[
            ("127.0.0.1:8081", &format!("127.0.0.1:{}", ports[0])),
            ("127.0.0.1:8082", &format!("127.0.0.1:{}", ports[1])),
            ("bind :443", &format!("bind 127.0.0.1:{public}")),
            ("/etc/haproxy/auth.pem", folder.path("both.pem").to_str().unwrap()),
        ],
    );
    folder.write("haproxy.cfg", &text);
    let start = async |port: u16| -> Server {
        let listen = format!("127.0.0.1:{port}");
        let settings = [
            ("COUNTERSIGN_LISTEN", &*listen),
            ("COUNTERSIGN_PUBLIC_URL", &*url),
            ("COUNTERSIGN_TRUSTED_PROXIES", "127.0.0.1"),
            ("COUNTERSIGN_FORWARDED_HEADER", "x-forwarded-for"),
        ];
        let server = folder.serve_with(&settings).await;
        // HAProxy has seen that it is ready.
        eventually("HAProxy asks", async || server.log().matches("path=\"/readyz\" status=200").count() >= 2)
            .await;
        server
    };
    let log = std::fs::File::create(folder.path("haproxy.log")).unwrap();
    let mut haproxy = Command::new(program);
    haproxy.arg("-db").arg("-f").arg(folder.path("haproxy.cfg"));
    let haproxy =
        haproxy.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).kill_on_drop(true);
    let _haproxy = haproxy.spawn().unwrap();
    let mut nodes = [Some(start(ports[0]).await), Some(start(ports[1]).await)];

    let client = || {
        reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(cert.pem().as_bytes()).unwrap()])
            .redirect(Policy::none())
            .build()
            .unwrap()
    };
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = JoinSet::new();
    let account = json!({ "email": "ada@example.org", "password": PASSWORD });
    let registered = client().post(format!("{url}/v1/auth/register")).json(&account).send().await.unwrap();
    assert_eq!(registered.status(), 201);
    for _ in 0..CLIENTS {
        let http = client();
        let pair = http
            .post(format!("{url}/v1/auth/login"))
            .json(&account)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        clients.spawn(go_on(http, url.clone(), pair, stop.clone(), done.clone()));
    }
    for _ in 0..ROUNDS {
        for (node, port) in nodes.iter_mut().zip(ports) {
            let before = done.load(Ordering::Relaxed);
            node.take().unwrap().stop().await;
            *node = Some(start(port).await);
            eventually("clients go on", async || done.load(Ordering::Relaxed) > before + 100).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let failed: Vec<String> = clients.join_all().await.concat();
    let done = done.load(Ordering::Relaxed);
    println!("{} of {done} requests failed during {} restarts", failed.len(), ROUNDS * 2);
    assert!(failed.is_empty(), "{} of {done} requests failed: {failed:#?}", failed.len());
    for node in nodes.into_iter().flatten() {
        node.stop().await;
    }
}

/// The version before and this one on one store.
#[tokio::test]
#[ignore = "the version before has to be built first: ./test --slow does it"]
async fn slow_a_node_of_the_version_before_and_one_of_this_serve_one_store() {
    let Some(before) = std::env::var_os("TEST_PREVIOUS_SERVER") else {
        println!("left out: TEST_PREVIOUS_SERVER names no binary of the version before");
        return;
    };
    let folder = Folder::new();
    let mut command = Command::new(before);
    command
        .env_clear()
        .env("COUNTERSIGN_LISTEN", "127.0.0.1:0")
        .current_dir(folder.path("."))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let old = folder.start(command).await;
    let there = Client::new(&old);
    let from_old = there.register("ada@example.org").await;
    let to_end = there.login("ada@example.org").await;

    // This version brings the tables up to date while the one before goes on.
    let new = folder.serve().await;
    let here = Client::new(&new);
    let from_new = here.login("ada@example.org").await;
    for (client, pair) in [(&here, &from_old), (&there, &from_new), (&here, &from_new), (&there, &from_old)] {
        client.me(&pair.access).await.expect(200);
    }
    // A refresh begun at one goes on at the other, and back.
    let once = there.refresh(&from_new.refresh).await.expect(200).pair();
    let twice = here.refresh(&once.refresh).await.expect(200).pair();
    there.me(&twice.access).await.expect(200);
    // A logout at either reaches the other.
    here.logout(&to_end.refresh).await.expect(204);
    there.refresh(&to_end.refresh).await.expect(401);
    eventually("the version before learns of it", async || there.me(&to_end.access).await.status == 401)
        .await;
    there.logout(&from_old.refresh).await.expect(204);
    eventually("this version learns of it", async || here.me(&from_old.access).await.status == 401).await;
    there.register("grace@example.org").await;
    here.login("grace@example.org").await;
    let doctor = folder.run(&["doctor", "--offline"], &[]).await;
    println!("{}", doctor.stdout);

    // The upgrade is complete when the one before stops.
    old.stop().await;
    here.me(&twice.access).await.expect(200);
    here.refresh(&twice.refresh).await.expect(200);
    new.stop().await;
}
