//! What whoever installs and runs the server uses: manual pages, completions, the question whether it is ready, and the
//! files in `deploy`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::server::Folder;

/// Runs a program of this machine, if it is there. Without it the test says so and leaves this out.
async fn checked_by(program: &str, arguments: &[&str], file: &Path) {
    let ran = Command::new(program).args(arguments).arg(file).stdin(Stdio::null()).output().await;
    let Ok(output) = ran else {
        println!("left out: there is no {program}");
        return;
    };
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && said[1].is_empty(), "{program} {}: {said:?}", file.display());
}

/// The commands that the help of a command names, and below them, each as the words of its name.
async fn commands(folder: &Folder) -> Vec<Vec<String>> {
    let mut found = vec![Vec::new()];
    let mut next = 0;
    while let Some(command) = found.get(next).cloned() {
        next += 1;
        let words: Vec<&str> = command.iter().map(String::as_str).chain(["-h"]).collect();
        let help = folder.run(&words, &[]).await.stdout;
        let Some((_, list)) = help.split_once("Commands:\n") else { continue };
        for line in list.lines().take_while(|line| line.starts_with("  ")) {
            // A name stands two columns from the left, and the rest of a long description further in.
            let name = line[2..].split(' ').next().unwrap();
            if !name.is_empty() && name != "help" {
                found.push([command.as_slice(), &[name.to_owned()]].concat());
            }
        }
    }
    found
}

#[tokio::test]
async fn every_command_has_a_manual_page_that_groff_understands() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("man")).unwrap();
    let made = folder.run(&["man", "--directory", "man"], &[]).await;
    assert!(made.status.success(), "{made:?}");
    let commands = commands(&folder).await;
    assert!(commands.len() > 30, "{commands:?}");
    for command in &commands {
        let name = ["countersign"].into_iter().chain(command.iter().map(String::as_str));
        let path = folder.path("man").join(format!("{}.1", name.collect::<Vec<_>>().join("-")));
        assert!(path.exists(), "{}", path.display());
    }
    let pages: Vec<PathBuf> =
        std::fs::read_dir(folder.path("man")).unwrap().map(|page| page.unwrap().path()).collect();
    assert_eq!(pages.len(), commands.len(), "{pages:?}");
    for page in &pages {
        checked_by("groff", &["-man", "-ww", "-Kutf8", "-Tutf8", "-z"], page).await;
    }
    let page = std::fs::read_to_string(folder.path("man").join("countersign.1")).unwrap();
    assert!(page.contains("COUNTERSIGN_PUBLIC_URL") && page.contains(".SH \"EXIT STATUS\""), "{page}");
    assert_eq!(folder.run(&["man"], &[]).await.stdout, page);
    folder.run(&["man", "--directory", "nowhere"], &[]).await.assert_refused(&["nowhere/countersign.1"]);
}

#[tokio::test]
async fn shells_understand_their_completions() {
    let folder = Folder::new();
    for (shell, check) in
        [("bash", Some("-n")), ("zsh", Some("-n")), ("fish", Some("--no-execute")), ("powershell", None)]
    {
        let made = folder.run(&["completions", shell], &[]).await;
        assert!(made.status.success() && made.stdout.contains("end-sessions"), "{shell}: {made:?}");
        folder.write(shell, &made.stdout);
        if let Some(check) = check {
            checked_by(shell, &[check], &folder.path(shell)).await;
        }
    }
}

#[tokio::test]
async fn health_says_whether_the_server_of_these_settings_is_ready() {
    let folder = Folder::new();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    folder.write("cert.pem", &cert.pem());
    folder.write("key.pem", &signing_key.serialize_pem());
    let tls = [("COUNTERSIGN_TLS_CERT", "cert.pem"), ("COUNTERSIGN_TLS_KEY", "key.pem")];
    let proxy = [("COUNTERSIGN_TRUSTED_PROXIES", "127.0.0.0/8"), ("COUNTERSIGN_PROXY_PROTOCOL", "yes")];
    for settings in [vec![], proxy.to_vec(), [tls, proxy].concat()] {
        let server = folder.serve_with(&settings).await;
        let mut asked = settings.clone();
        asked.push(("COUNTERSIGN_LISTEN", server.address()));
        let ready = folder.run(&["health"], &asked).await;
        assert!(ready.status.success() && ready.stdout == "ready\n", "{ready:?}");
        if settings.len() == 4 {
            // Somebody else's certificate, at the same address.
            let CertifiedKey { cert, signing_key } =
                generate_simple_self_signed(["a.example".to_owned()]).unwrap();
            let other = Folder::new();
            other.write("cert.pem", &cert.pem());
            other.write("key.pem", &signing_key.serialize_pem());
            other.run(&["health"], &asked).await.assert_refused(&["cannot be asked"]);
        }
        let address = server.address().to_owned();
        server.stop().await;
        let gone = folder.run(&["health", "--listen", &address], &settings).await;
        gone.assert_refused(&[&address, "cannot be asked"]);
    }

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for (answer, said) in
        [("HTTP/1.1 503 \r\n\r\n", "is not ready"), ("220 mail.example\r\n", "no server of ours")]
    {
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 21];
            stream.read_exact(&mut request).await.unwrap();
            assert_eq!(&request, b"GET /readyz HTTP/1.1\r");
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let arguments = ["health", "--listen", &address];
        let (ran, ()) = tokio::join!(folder.run(&arguments, &[]), answering);
        ran.assert_refused(&[said]);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn systemd_is_told_when_the_server_is_ready_and_when_it_stops() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let folder = Folder::new();
    let abstract_name = format!("@countersign-test-{}", std::process::id());
    let abstract_address = SocketAddr::from_abstract_name(&abstract_name[1..]).unwrap();
    let path = folder.path("notify").to_str().unwrap().to_owned();
    let sockets = [
        (UnixDatagram::bind(&path).unwrap(), path),
        (UnixDatagram::bind_addr(&abstract_address).unwrap(), abstract_name),
    ];
    for (socket, name) in sockets {
        socket.set_read_timeout(Some(crate::server::PATIENCE)).unwrap();
        let told = || {
            let mut text = [0; 64];
            let length = socket.recv(&mut text).unwrap();
            String::from_utf8_lossy(&text[..length]).into_owned()
        };
        let server = folder.serve_with(&[("NOTIFY_SOCKET", &name)]).await;
        assert_eq!(told(), "READY=1");
        server.stop().await;
        assert_eq!(told(), "STOPPING=1");
    }
    // One that is gone stops nobody from serving.
    std::fs::remove_file(folder.path("notify")).unwrap();
    let gone = folder.path("notify");
    let server = folder.serve_with(&[("NOTIFY_SOCKET", gone.to_str().unwrap())]).await;
    server.stop().await;
}

/// A path in `deploy`.
fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(path)
}

#[tokio::test]
async fn the_files_to_deploy_name_settings_that_exist() {
    let folder = Folder::new();
    let all = folder.run(&["config", "show", "--all", "--json"], &[]).await;
    let all: Vec<serde_json::Value> = serde_json::from_str(&all.stdout).unwrap();
    let names: BTreeSet<&str> = all.iter().map(|setting| setting["name"].as_str().unwrap()).collect();

    let folders = ["", "systemd", "kubernetes"].map(|name| std::fs::read_dir(deploy(name)).unwrap());
    let paths = folders.into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut seen = 0;
    for path in paths.filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(&path).unwrap();
        let words = text.split(|letter: char| !(letter.is_ascii_uppercase() || letter == '_'));
        let variables = words.filter_map(|word| word.strip_prefix("COUNTERSIGN_")).map(str::to_lowercase);
        let mut named: Vec<String> = variables.collect();
        if path.ends_with("countersign.toml") || path.ends_with("kubernetes/config.yaml") {
            let lines = text.lines().map(|line| line.trim_start_matches([' ', '#']));
            let keys = lines.filter_map(|line| line.split_once(" = ")).map(|(key, _)| key.to_owned());
            named.extend(keys);
        }
        for name in &named {
            assert!(names.contains(name.as_str()), "{}: there is no setting {name}", path.display());
        }
        seen += named.len();
    }
    assert!(seen > 30, "{seen}");

    let sample = deploy("countersign.toml");
    let checked = folder.run(&["config", "check", "--config", sample.to_str().unwrap()], &[]).await;
    assert!(checked.status.success(), "{checked:?}");
}
