//! The README's path, line by line as printed, against the quick start.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_readme_path_works_as_printed_with_the_quickstart() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running(
        Command::new(env!("CARGO_BIN_EXE_quickstart"))
            .arg("127.0.0.1:0")
            .current_dir(&folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut first_line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut first_line).unwrap();
    let origin = first_line.trim().strip_prefix("listening on ").unwrap();

    let readme = include_str!("../../../README.md");
    let lines = readme.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(lines.contains("http://127.0.0.1:8080/"), "the README names the server's default address");
    let script = lines.replace("http://127.0.0.1:8080", origin)
        + &format!(
            "\ncurl -sw '\\n' {origin}/hello; curl -sw '\\n' {origin}/hello -H \"authorization: Bearer $ACCESS\""
        );
    let output = Command::new("bash").args(["-euc", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let output = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<&str> = output.lines().filter(|line| !line.is_empty()).collect();
    let [registered, me, me_after, refresh_after, stranger, ended] = answers[..] else {
        panic!("expected six answers, got {answers:#?}");
    };
    assert!(
        registered.contains("\"access_token\":\"") && registered.contains("ada@example.com"),
        "{registered}"
    );
    assert!(me.contains("ada@example.com") && !me.contains("token"), "{me}");
    for refused in [me_after, refresh_after, ended] {
        assert!(refused.contains("\"error\":\"invalid_token\""), "{refused}");
    }
    assert!(stranger.contains("\"error\":\"missing_token\""), "{stranger}");
}
