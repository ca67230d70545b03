//! The lines of docs/login-sessions.md, as printed, against the program of the page.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

const PAGE: &str = include_str!("../../../docs/login-sessions.md");

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn block(language: &str) -> &'static str {
    PAGE.split(&format!("```{language}\n")).nth(1).unwrap().split("```").next().unwrap()
}

/// Runs the page's lines against the program, and returns what they print.
fn run(claim: Option<&str>, change: impl Fn(&str) -> String) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sessions-and-tokens"));
    if let Some(claim) = claim {
        command.env("IDENTITY_CLAIM", claim);
    }
    let started = command.arg("127.0.0.1:0").current_dir(&folder).stdout(Stdio::piped()).spawn().unwrap();
    let mut running = Running(started);
    let mut first_line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut first_line).unwrap();
    let port = first_line.trim().rsplit_once(':').unwrap().1;
    let script = change(&block("sh").replace("localhost:3000", &format!("127.0.0.1:{port}")));
    let output = Command::new("bash").args(["-euc", &script]).current_dir(&folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = String::from_utf8(output.stdout).unwrap();
    output.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn the_program_of_the_page_is_the_example() {
    let (_, program) = include_str!("../src/main.rs").split_once("\n\n").unwrap();
    assert_eq!(block("rust,no_run"), program, "copy the example into the page");
}

#[test]
fn sessions_and_tokens_work_as_printed() {
    for claim in [None, Some("uid")] {
        let answers = run(claim, str::to_owned);
        assert_eq!(
            answers,
            [
                "303 /login?next=%2F%3Fday%3D1",
                "303 /?day=1",
                "<p>Hello ada</p>",
                "ada notes milk",
                "bob notes bread",
                "bob notes bread",
                "ada may change the password",
                "303 /login",
                "303 /login?next=%2F",
            ],
            "{claim:?}"
        );
    }
}
