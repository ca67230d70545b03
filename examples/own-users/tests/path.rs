//! The lines of docs/own-users.md, as printed, against the program of the page; and the users of its table.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

const PAGE: &str = include_str!("../../../docs/own-users.md");

struct Running {
    child: Child,
    folder: tempfile::TempDir,
    port: String,
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_own-users"));
        let mut child =
            command.arg("127.0.0.1:0").current_dir(&folder).stdout(Stdio::piped()).spawn().unwrap();
        let mut first_line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first_line).unwrap();
        let port = first_line.trim().rsplit_once(':').unwrap().1.to_owned();
        Self { child, folder, port }
    }

    /// The lines that a script prints.
    fn run(&self, script: &str) -> Vec<String> {
        let script = script.replace("localhost:3000", &format!("127.0.0.1:{}", self.port));
        let output = Command::new("bash").args(["-euc", &script]).current_dir(&self.folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// The status of a login, and whether it was answered with tokens.
    fn login(&self, name: &str, password: &str) -> (String, bool) {
        let body = format!(r#"{{"email":"{name}","password":"{password}"}}"#);
        let script = format!(
            "curl -sw '\\n%{{http_code}}\\n' http://localhost:3000/v1/auth/login -H 'content-type: application/json' -d '{body}'"
        );
        let [answer, status] = &self.run(&script)[..] else { panic!("expected a body and a status") };
        (status.clone(), answer.contains("\"access_token\":\"ey"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn block(language: &str) -> &'static str {
    PAGE.split(&format!("```{language}\n")).nth(1).unwrap().split("```").next().unwrap()
}

#[test]
fn the_program_of_the_page_is_the_example() {
    let source = include_str!("../src/main.rs");
    assert!(source.lines().count() <= 120, "an example that nobody reads");
    let (_, program) = source.split_once("\n\n").unwrap();
    assert_eq!(block("rust,ignore"), program, "copy the example into the page");
    assert_eq!(
        block("sql"),
        include_str!("../users.sql").split_once("\n").unwrap().1.split_once("\n\n").unwrap().0.to_owned()
            + "\n"
    );
}

#[test]
fn users_of_the_table_sign_in_as_printed() {
    let running = Running::start();
    let answers = running.run(block("sh"));
    let answers: Vec<_> = answers.iter().map(String::as_str).collect();
    let [me, profile, members, cookie, wrong] = answers[..] else {
        panic!("expected five answers, got {answers:#?}");
    };
    assert_eq!(me, r#"{"id":"17","name":"Ada"}"#);
    assert_eq!(profile, "hello Ada");
    assert_eq!(members, r#"["ada@example.com","bob@example.com","eve@example.com"]"#);
    assert_eq!(cookie, "welcome back, 18");
    assert!(wrong.contains("\"error\":\"invalid_credentials\""), "{wrong}");
}

#[test]
fn each_user_of_the_table_has_the_password_that_werkzeug_hashed() {
    let running = Running::start();
    let (let_in, refused) = (("200".to_owned(), true), ("401".to_owned(), false));
    for (name, password, expected) in [
        ("Ada@Example.com", "correct horse", &let_in),
        ("ada@example.com", "correct horse", &let_in), // the upgraded hash
        ("bob@example.com", "battery staple", &let_in),
        ("bob@example.com", "correct horse", &refused),
        ("eve@example.com", "battery staple", &refused),
        ("nobody@example.com", "battery staple", &refused),
    ] {
        assert_eq!(&running.login(name, password), expected, "{name}");
    }
}
