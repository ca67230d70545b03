//! Processes of the real binary.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// Nothing that works takes that long, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again and again until it is so, for as long as [`PATIENCE`] lasts.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

/// The binary without any settings of ours or of the machine's.
fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// A working folder, gone with the test.
#[derive(Debug)]
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Writes a file that nobody else may read.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        self.set_mode(name, 0o600);
    }

    /// The permission bits of a file.
    pub(crate) fn mode(&self, name: &str) -> u32 {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }

    pub(crate) fn set_mode(&self, name: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The binary, in this folder.
    pub(crate) fn command(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Command {
        let mut command = binary();
        command.current_dir(self.0.path()).args(arguments).envs(settings.iter().copied());
        command
    }

    /// Runs a command to its end.
    pub(crate) async fn run(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Ran {
        let output = timeout(PATIENCE, self.command(arguments, settings).output()).await.unwrap().unwrap();
        Ran {
            status: output.status,
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// A server on a free port, with the database in this folder.
    pub(crate) async fn serve(&self) -> Server {
        self.serve_with(&[]).await
    }

    pub(crate) async fn serve_with(&self, settings: &[(&str, &str)]) -> Server {
        let mut command = self.command(&[], &[("COUNTERSIGN_LISTEN", "127.0.0.1:0")]);
        command.envs(settings.iter().copied());
        self.start(command).await
    }

    /// Starts a server and waits until it says where it listens.
    pub(crate) async fn start(&self, mut command: Command) -> Server {
        let log = tempfile::NamedTempFile::new_in(self.0.path()).unwrap().into_temp_path().keep().unwrap();
        let mut process = command
            .stdout(Stdio::piped())
            .stderr(File::options().append(true).create(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        timeout(PATIENCE, stdout.read_line(&mut line)).await.unwrap().unwrap();
        let Some(url) = line.trim_end().strip_prefix("listening on ") else {
            panic!("the server did not start: {line:?}\n{}", std::fs::read_to_string(&log).unwrap());
        };
        Server { url: url.to_owned(), process, stdout, log }
    }

    /// A connection to the database, beside the server's.
    pub(crate) async fn database(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(self.path("countersign.db")).connect().await.unwrap()
    }

    /// What the database holds of keys and of its own identity.
    pub(crate) async fn keys(&self) -> (Vec<(String, Vec<u8>)>, Vec<String>) {
        let mut database = self.database().await;
        let keys = sqlx::query_as("SELECT key_id, sealed FROM sealed_key ORDER BY purpose, number");
        let keys = keys.fetch_all(&mut database).await.unwrap();
        let ids = sqlx::query_scalar("SELECT id FROM store").fetch_all(&mut database).await.unwrap();
        database.close().await.unwrap();
        (keys, ids)
    }
}

/// What a command that ended has left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Asserts that it gave up, saying all of this on standard error and nothing on standard output.
    pub(crate) fn assert_refused(&self, saying: &[&str]) {
        assert!(!self.status.success() && self.status.code().is_some(), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
        for text in saying {
            assert!(self.stderr.contains(text), "{text}: {self:?}");
        }
    }
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: String,
    process: Child,
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Server {
    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        self.url.split_once("://").unwrap().1
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.id().unwrap()
    }

    /// What it has written to standard error so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn log_path(&self) -> &Path {
        &self.log
    }

    /// SIGKILL: it gets to do nothing more.
    pub(crate) async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }

    /// SIGTERM.
    pub(crate) async fn ask_to_stop(&self) {
        let pid = self.process_id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
        assert!(sent.success());
    }

    /// Waits for its end; returns its status and what it wrote to standard output after the first line.
    pub(crate) async fn wait(mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        let ended = async {
            self.stdout.read_to_string(&mut rest).await.unwrap();
            self.process.wait().await.unwrap()
        };
        (timeout(PATIENCE, ended).await.unwrap(), rest)
    }

    /// SIGTERM, and its end, which must be a clean one.
    pub(crate) async fn stop(self) {
        self.ask_to_stop().await;
        let log = self.log.clone();
        let (status, rest) = self.wait().await;
        assert!(
            status.success() && rest.is_empty(),
            "{status}: {rest}\n{}",
            std::fs::read_to_string(log).unwrap()
        );
    }
}
