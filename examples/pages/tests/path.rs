//! The lines of docs/http.md, as printed, against the program of docs/http.md.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const PAGE: &str = include_str!("../../../docs/http.md");

fn block(language: &str) -> &'static str {
    PAGE.split(&format!("```{language}\n")).nth(1).unwrap().split("```").next().unwrap()
}

#[test]
fn the_program_of_the_page_is_the_example() {
    let (_, program) = include_str!("../src/main.rs").split_once("\n\n").unwrap();
    assert_eq!(block("rust,no_run"), program, "copy the example into the page");
}

#[test]
fn header_cookie_and_form_flows_work_as_printed() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running(
        Command::new(env!("CARGO_BIN_EXE_pages"))
            .arg("127.0.0.1:0")
            .current_dir(&folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut first_line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut first_line).unwrap();
    let port = first_line.trim().rsplit_once(':').unwrap().1;
    let script = block("sh").replace("localhost:3000", &format!("127.0.0.1:{port}"));
    let output = Command::new("bash").args(["-euc", &script]).current_dir(&folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<&str> = output.lines().filter(|line| !line.is_empty()).collect();
    let [by_header, by_cookie, form, without] = answers[..] else {
        panic!("expected four answers, got {answers:#?}");
    };
    assert!(by_header.starts_with("reports for ") && by_header == by_cookie, "{by_header} {by_cookie}");
    assert_eq!(form, "hello");
    assert!(without.contains("\"error\":\"csrf_failed\""), "{without}");
}
