//! Floods and statistics; `./test --slow` runs them.

use std::process::Stdio;
use std::time::Duration;

use countersign_http::SystemClock;
use countersign_jwt::Clock as _;
use countersign_testkit::SeededRandom;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::client::{Client, PASSWORD};
use crate::server::{Folder, Server};

/// The memory a server has in use, in KiB.
fn resident_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process_id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn quantile<T: Copy + Ord>(samples: &mut [T], percent: usize) -> T {
    samples.sort_unstable();
    samples[(samples.len() - 1) * percent / 100]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: 500 logins at once"]
async fn slow_sec_121_a_login_storm_is_shed_and_health_answers() {
    const LOGINS: usize = 500;
    let folder = Folder::new();
    let server = folder.serve_with(&[("COUNTERSIGN_LOG", "warn")]).await;
    let client = Client::new(&server);
    client.get("/healthz").await.expect(200);
    let idle = resident_kib(&server);
    client.register("ada@example.org").await;
    let after_one = resident_kib(&server);

    let mut storm = JoinSet::new();
    for number in 0..LOGINS {
        let client = client.clone();
        // As many accounts as logins, so that only the hashing limits them.
        storm.spawn(async move { client.try_login(&format!("user{number}@example.org"), PASSWORD).await });
    }
    let clock = SystemClock::new();
    let health = Client::new(&server);
    let (mut checked, mut shed, mut most) = (0, 0, 0);
    let mut waits = Vec::new();
    while !storm.is_empty() {
        let asked = clock.monotonic();
        health.get("/healthz").await.expect(200);
        waits.push(clock.monotonic() - asked);
        most = most.max(resident_kib(&server));
        while let Some(answer) = storm.try_join_next() {
            let answer = answer.unwrap();
            if answer.status == 503 {
                answer.expect_error(503, "overloaded");
                shed += 1;
            } else {
                answer.expect_error(401, "invalid_credentials");
                checked += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!(
        "{LOGINS} logins at once: {checked} checked, {shed} shed; meanwhile health p50 {:?}, p99 {:?} of {}",
        quantile(&mut waits, 50),
        quantile(&mut waits, 99),
        waits.len(),
    );
    println!("memory: idle {idle} KiB, after one hash {after_one} KiB, in the storm at most {most} KiB");
    assert!(checked > 0 && shed > 0, "{checked} checked, {shed} shed");
    assert_eq!(checked + shed, LOGINS);
    client.login("ada@example.org").await;
    server.stop().await;
}

/// Asks for `/me` for so long, in turn on a connection that stays and on a new one, and says how long the answers took.
async fn ask_for_me(server: &Server, access: &str, time: Duration) -> (Vec<Duration>, Vec<Duration>) {
    let clock = SystemClock::new();
    let (mut kept, mut new) = (Vec::new(), Vec::new());
    let request =
        format!("GET /v1/auth/me HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {access}\r\n\r\n");
    let ask = async |stream: &mut TcpStream| {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "the connection was closed");
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    };
    let mut stays = TcpStream::connect(server.address()).await.unwrap();
    let begun = clock.monotonic();
    while clock.monotonic() - begun < time {
        let asked = clock.monotonic();
        ask(&mut stays).await;
        kept.push(clock.monotonic() - asked);
        let asked = clock.monotonic();
        ask(&mut TcpStream::connect(server.address()).await.unwrap()).await;
        new.push(clock.monotonic() - asked);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (kept, new)
}

/// Holds so many connections open on which nothing is sent, or for every other one nothing after a request, and opens another one for each that the server closes. It
/// ends with the returned sender.
///
/// The thread leaves the processor to all others, because attackers have machines of their own.
fn idle_clients(server: &Server, number: usize) -> oneshot::Sender<()> {
    let (end, ended) = oneshot::channel();
    let address = server.address().to_owned();
    std::thread::spawn(move || {
        rustix::process::nice(19).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let mut clients = JoinSet::new();
            for at in 0..number {
                let address = address.clone();
                clients.spawn(async move {
                    // Not all at the same moment.
                    tokio::time::sleep(Duration::from_micros(500) * u32::try_from(at).unwrap()).await;
                    loop {
                        if let Ok(mut stream) = TcpStream::connect(&address).await {
                            if at % 2 == 0 {
                                let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
                                let _sent = stream.write_all(request).await;
                            }
                            while stream.read(&mut [0; 512]).await.is_ok_and(|read| read > 0) {}
                        }
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                });
            }
            drop(ended.await);
        });
    });
    end
}

/// Debian's `slowhttptest`, with so many clients that are slow in this way.
fn slow_clients(server: &Server, kind: &[&str], number: usize) -> tokio::process::Child {
    let number = number.to_string();
    let mut command = Command::new("nice");
    command.args(["-n", "19", "slowhttptest"]).args(kind);
    command.args(["-c", &number, "-r", "500", "-l", "60", "-p", "5"]);
    command.args(["-u", &format!("{}/v1/auth/login", server.url)]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: 10,000 idle and 1,000 slow clients for a minute; needs slowhttptest and 12,000 open files"]
async fn slow_sec_151_idle_and_slow_clients_keep_nobody_from_being_answered() {
    const IDLE: usize = 10_000;
    for (case, places) in [("with places for all", "12000"), ("with fewer places than attackers", "5000")] {
        let folder = Folder::new();
        let settings = [("COUNTERSIGN_LOG", "warn"), ("COUNTERSIGN_MAX_CONNECTIONS", places)];
        let server = folder.serve_with(&settings).await;
        let found =
            Command::new("slowhttptest").arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        assert!(found.is_ok(), "slowhttptest is missing (Debian: apt-get install slowhttptest)");
        let access = Client::new(&server).register("ada@example.org").await.access;
        let (mut kept, mut new) = ask_for_me(&server, &access, Duration::from_secs(5)).await;
        let before = resident_kib(&server);

        let idle = idle_clients(&server, IDLE);
        let slow = [
            slow_clients(&server, &["-H", "-i", "1"], 500),
            slow_clients(&server, &["-B", "-i", "1"], 300),
            slow_clients(&server, &["-X", "-w", "1", "-y", "2", "-n", "1"], 200),
        ];
        // Until all of them are there.
        tokio::time::sleep(Duration::from_secs(8)).await;
        let files = || std::fs::read_dir(format!("/proc/{}/fd", server.process_id())).unwrap().count();
        let files_at_first = files();
        let (mut kept_then, mut new_then) = ask_for_me(&server, &access, Duration::from_secs(20)).await;
        let files = files_at_first.max(files());
        println!("{case} ({places}): {IDLE} idle and 1000 slow clients, {files} open files of the server");
        for (connection, before, then) in
            [("a kept", &mut kept, &mut kept_then), ("a new", &mut new, &mut new_then)]
        {
            let (number, p50, p99) = (then.len(), quantile(then, 50), quantile(then, 99));
            let (idle_50, idle_99) = (quantile(before, 50), quantile(before, 99));
            println!(
                "  GET /v1/auth/me on {connection} connection: p50 {p50:?}, p99 {p99:?} of {number}; without them p50 \
                 {idle_50:?}, p99 {idle_99:?} of {}: p99 {:.2} times",
                before.len(),
                p99.as_secs_f64() / idle_99.as_secs_f64(),
            );
        }
        println!("  memory: {before} KiB before, {} KiB then", resident_kib(&server));
        drop((idle, slow));
        server.stop().await;
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Unknown,
    Wrong,
    Disabled,
}

#[tokio::test]
#[ignore = "slow: a thousand logins, one after the other; judges an optimised server (--release)"]
async fn slow_sec_130_unknown_wrong_and_disabled_take_the_same_time() {
    const ACCOUNTS: usize = 70;
    // Five failures in a row are free.
    const EACH: usize = 5;
    const KINDS: [Kind; 3] = [Kind::Unknown, Kind::Wrong, Kind::Disabled];
    let folder = Folder::new();
    let server = folder.serve_with(&[("COUNTERSIGN_LOG", "warn")]).await;
    let client = Client::new(&server);
    let name = |kind: Kind, number: usize| format!("{kind:?}{number}@example.org").to_lowercase();
    for number in 0..ACCOUNTS {
        client.register(&name(Kind::Wrong, number)).await;
        client.register(&name(Kind::Disabled, number)).await;
    }
    let mut database = folder.database().await;
    let disable = sqlx::query("UPDATE account SET disabled_at = created_at WHERE email LIKE 'disabled%'");
    let disabled = disable.execute(&mut database).await.unwrap().rows_affected();
    assert_eq!(disabled, ACCOUNTS as u64);

    let mut order: Vec<(Kind, usize)> = Vec::new();
    for number in 0..ACCOUNTS * EACH {
        order.extend(KINDS.map(|kind| (kind, number % ACCOUNTS)));
    }
    let random = SeededRandom::new(130);
    for at in (1..order.len()).rev() {
        order.swap(at, usize::try_from(random.below(at as u64 + 1)).unwrap());
    }
    let clock = SystemClock::new();
    let mut samples: [Vec<Duration>; 3] = Default::default();
    let mut bodies = std::collections::BTreeSet::new();
    for (kind, number) in order {
        // A disabled account's password is the right one.
        let password = if matches!(kind, Kind::Disabled) { PASSWORD } else { "another passphrase here" };
        let email = name(kind, number);
        let asked = clock.monotonic();
        let answer = client.try_login(&email, password).await;
        samples[kind as usize].push(clock.monotonic() - asked);
        bodies.insert(answer.expect_error(401, "invalid_credentials").text);
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    for kind in KINDS {
        let samples = &mut samples[kind as usize];
        println!("{kind:?}: {} samples, median {:?}", samples.len(), quantile(samples, 50));
    }
    for (one, other) in
        [(Kind::Unknown, Kind::Wrong), (Kind::Wrong, Kind::Disabled), (Kind::Unknown, Kind::Disabled)]
    {
        let auc = auc(&samples[one as usize], &samples[other as usize]);
        println!("{one:?} against {other:?}: AUC {auc:.3}; telling nothing would be 0.500");
        assert!((0.40..=0.60).contains(&auc), "{one:?} and {other:?} can be told apart: {auc}");
    }
    server.stop().await;
}

/// How often a sample of the one is larger than a sample of the other (the rank test's statistic, as a share).
fn auc(one: &[Duration], other: &[Duration]) -> f64 {
    let mut wins = 0.0;
    for a in one {
        for b in other {
            wins += match a.cmp(b) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
        }
    }
    wins / (one.len() as f64 * other.len() as f64)
}
