//! Drives an example as its user would: starts the program, and runs the lines of its page against it in a shell.
//!
//! The Flask program of a page runs in the same way, by a Python that has what it imports.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

/// A secret of both libraries, long enough for HS256.
const SECRET: &str = "o2X9c1vB7uQkLz0TfYhWmR4s8NpEaJdG";

/// A program that runs in a folder of its own. Both are gone with this value.
pub struct Program {
    child: Child,
    folder: TempDir,
    /// Where it listens, such as `http://127.0.0.1:43210`.
    pub origin: String,
}

impl Program {
    /// Starts an example with these environment variables. It listens on the address that its argument names, and says
    /// so in its first line.
    pub fn example(executable: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(executable);
        command.arg("127.0.0.1:0").envs(variables.iter().copied()).stdout(Stdio::piped());
        Self::start(command, tempfile::tempdir().unwrap(), |child| Box::new(child.stdout.take().unwrap()))
    }

    /// Starts a Flask program. `None` where there is no Python for it, and then a line says what is left out.
    ///
    /// The Python is the one that this environment variable names, which must have the module, or `python3`.
    pub fn flask(source: &str, variable: &str, module: &str) -> Option<Self> {
        let named = env::var(variable).ok();
        let python = named.clone().unwrap_or("python3".to_owned());
        let tried = Command::new(&python).args(["-c", &format!("import {module}")]).output();
        if !tried.is_ok_and(|output| output.status.success()) {
            assert!(named.is_none(), "{variable} names {python}, which cannot import {module}");
            eprintln!(
                "LEFT OUT: the Flask program of the page: {python} cannot import {module}. Set {variable} to one \
                 that can"
            );
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("app.py"), source).unwrap();
        let mut command = Command::new(python);
        command.args(["-u", "-m", "flask", "run", "--port", "0"]).env("FLASK_APP", "app");
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        Some(Self::start(command, folder, |child| Box::new(child.stderr.take().unwrap())))
    }

    fn start(mut command: Command, folder: TempDir, says: fn(&mut Child) -> Box<dyn Read + Send>) -> Self {
        command.env("SECRET_KEY", SECRET).env("JWT_SECRET_KEY", SECRET).current_dir(&folder);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(says(&mut child)).lines();
        let mut said = Vec::new();
        let origin = loop {
            let Some(line) = lines.next() else { panic!("it does not listen: {}", said.join("\n")) };
            let line = line.unwrap();
            if let Some((_, address)) = line.split_once("http://") {
                let end = address.find(|c: char| !"0123456789.:".contains(c)).unwrap_or(address.len());
                break format!("http://{}", &address[..end]);
            }
            said.push(line);
        };
        // What it says later is read, so that it never waits for a reader.
        thread::spawn(move || lines.for_each(drop));
        Self { child, folder, origin }
    }

    /// Runs lines of a page, which name `http://localhost:3000`, and returns what they print, without blank lines.
    pub fn run(&self, lines: &str) -> Vec<String> {
        let script = lines.replace("http://localhost:3000", &self.origin);
        let output = Command::new("bash").args(["-euc", &script]).current_dir(&self.folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).unwrap();
        printed.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The part of a page below this heading, up to the next one of its level or above.
pub fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, below) = page.split_once(&format!("\n## {heading}\n")).expect("the page has the heading");
    below.split("\n## ").next().unwrap_or(below)
}

/// The first block of code in this language.
pub fn block<'a>(text: &'a str, language: &str) -> &'a str {
    let (_, begun) = text.split_once(&format!("```{language}\n")).expect("a block in this language");
    begun.split("```").next().unwrap_or(begun)
}

/// The program of an example as pages print it: without the comment at its head.
pub fn program(source: &str) -> &str {
    source.split_once("\n\n").expect("a comment, and the program").1
}
