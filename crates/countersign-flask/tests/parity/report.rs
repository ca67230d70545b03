//! Finds recordings, plays each on its own, and says what came of it.

use std::any::Any;
use std::cell::RefCell;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, thread};

use crate::recording::Recording;
use crate::replay::{Builder, Place, replay};

/// The folders that hold recordings, one for each library.
const FOLDERS: [&str; 3] = ["fje", "flask_jwt", "flask_login"];

/// How long one recording may take. They take milliseconds.
const BOUND: Duration = Duration::from_secs(60);

/// How many recordings passed and failed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Report {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Report {
    /// Plays every recording below the directory. Writes all differences as they are found; at the end a line for
    /// each recording that failed, with the first of them, and a line with the numbers.
    pub(crate) fn of(directory: &Path, builder: Builder, out: &mut dyn Write) -> io::Result<Self> {
        let mut report = Self::default();
        let mut failures = Vec::new();
        for (name, path) in found_in(directory)? {
            let lines = play(&path, builder);
            let Some(first) = lines.first() else {
                report.passed += 1;
                continue;
            };
            report.failed += 1;
            failures.push(format!("FAIL {name} {first}"));
            writeln!(out, "{name}")?;
            for line in &lines {
                writeln!(out, "    {line}")?;
            }
        }
        if report == Self::default() {
            report.failed = 1;
            failures.push(format!("FAIL no recording in {} of {}", FOLDERS.join(", "), directory.display()));
        }
        for failure in failures {
            writeln!(out, "{failure}")?;
        }
        writeln!(out, "{} passed, {} failed", report.passed, report.failed)?;
        out.flush()?;
        Ok(report)
    }

    pub(crate) fn is_success(self) -> bool {
        self.failed == 0
    }
}

/// Says in a failure where a panic was, instead of printing it at once.
pub(crate) fn keep_places_of_panics() {
    panic::set_hook(Box::new(|panicked| {
        let place = panicked.location().map(|place| format!(" ({}:{})", place.file(), place.line()));
        PANICKED_AT.set(place.unwrap_or_default());
    }));
}

/// Names like `fje/csrf_off`, and files, in the order of their names.
fn found_in(directory: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        let entries = match fs::read_dir(directory.join(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        let mut paths: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        found.extend(paths.into_iter().map(|path| {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (format!("{folder}/{stem}"), path)
        }));
    }
    Ok(found)
}

/// Plays one recording in a thread of its own, so that neither a panic nor an endless loop touches the others.
/// Differences as lines, none if it passed.
fn play(path: &Path, builder: Builder) -> Vec<String> {
    let reached: Arc<Mutex<Option<Place>>> = Arc::default();
    let (sender, receiver) = mpsc::channel();
    let (path, progress) = (path.to_owned(), Arc::clone(&reached));
    thread::spawn(move || {
        let differences = panic::catch_unwind(AssertUnwindSafe(|| play_here(&path, builder, &progress)));
        let _gone_if_too_late = sender.send(differences.map_err(|payload| message_of(&*payload)));
    });
    let outcome = receiver.recv_timeout(BOUND);
    let place = *reached.lock().unwrap_or_else(PoisonError::into_inner);
    let place = place.map_or_else(String::new, |place| format!("{place}: "));
    match outcome {
        Ok(Ok(lines)) => lines,
        Ok(Err(message)) => vec![format!("{place}panicked: {message}")],
        Err(RecvTimeoutError::Timeout) => vec![format!("{place}took longer than {} s", BOUND.as_secs())],
        Err(RecvTimeoutError::Disconnected) => vec![format!("{place}ended without a result")],
    }
}

fn play_here(path: &Path, builder: Builder, reached: &Mutex<Option<Place>>) -> Vec<String> {
    let name_of = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return vec![format!("cannot be read: {error}")],
    };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let folder = path.parent().map(name_of).unwrap_or_default();
    let recording = match Recording::parse(&text, &stem, &folder) {
        Ok(recording) => recording,
        Err(error) => return vec![error],
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![format!("no runtime: {error}")],
    };
    let progress = |place| *reached.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
    let differences = runtime.block_on(replay(&recording, builder, &progress));
    differences.iter().map(ToString::to_string).collect()
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("without a message");
    format!("{}{}", text.replace('\n', " "), PANICKED_AT.take())
}

thread_local! {
    /// Where the last panic of this thread was, for its line in the report.
    static PANICKED_AT: RefCell<String> = const { RefCell::new(String::new()) };
}
