//! A file of breached passwords, looked up on disk.
//!
//! The file is that of [Pwned Passwords](https://haveibeenpwned.com/Passwords) in its order by hash: one line a password,
//! `HEX:COUNT`, where `HEX` is the password's SHA-1 digest in 40 digits. It has about a billion lines and 40 GB. A lookup
//! reads some thirty pieces of 4 KiB at most, and keeps none.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file of breached passwords. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BreachedPasswords {
    path: Arc<Path>,
}

/// The reason why a file is not a list of breached passwords.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BreachedFileError {
    /// The file could not be read.
    #[error("{} could not be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A line of the file is not a SHA-1 digest in 40 hexadecimal digits, alone or with a colon and a number.
    #[error(
        "{} has at byte {offset} no line of a SHA-1 digest, such as 5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8:52256179",
        path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// The place in the file.
        offset: u64,
    },
    /// The lines are not in the order of their digests.
    #[error("{} is not ordered by digest at byte {offset}; download the list that is ordered by hash", path.display())]
    Order {
        /// The file.
        path: PathBuf,
        /// The place in the file.
        offset: u64,
    },
}

type Sha1 = [u8; 20];

/// One line of the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Line {
    digest: Sha1,
    /// The place of the line's first byte.
    begin: u64,
    /// The place behind the line's end.
    end: u64,
}

impl BreachedPasswords {
    /// The list in this file. Reads some lines of it, and refuses it if they don't have the form or the order that they
    /// should.
    ///
    /// # Errors
    /// [`BreachedFileError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, BreachedFileError> {
        let list = Self { path: path.as_ref().into() };
        list.check()?;
        Ok(list)
    }

    fn check(&self) -> Result<(), BreachedFileError> {
        let mut lines = self.lines()?;
        let mut last: Option<Line> = None;
        for sample in 0..=SAMPLES {
            let place = lines.length / SAMPLES * sample;
            // The last line has no other behind it.
            let from = place.min(lines.length.saturating_sub(1));
            let line = match lines.first_from(from)? {
                Some(line) => line,
                None if last.is_some() => break,
                None => return Err(self.no_line(0)),
            };
            if last.is_some_and(|last| last.begin < line.begin && last.digest > line.digest) {
                return Err(BreachedFileError::Order { path: self.path.to_path_buf(), offset: line.begin });
            }
            last = Some(line);
        }
        Ok(())
    }

    /// Whether the password with this digest is in the list. The file is opened anew, so that it can be replaced by a
    /// newer one while the program runs.
    pub(crate) fn contains(&self, digest: Sha1) -> Result<bool, BreachedFileError> {
        let mut lines = self.lines()?;
        // The line, if there is one, begins at or after `low` and before `high`.
        let (mut low, mut high) = (0, lines.length);
        while low < high {
            let middle = low + (high - low) / 2;
            match lines.first_from(middle)?.filter(|line| line.begin < high) {
                Some(line) if line.digest == digest => return Ok(true),
                Some(line) if line.digest < digest => low = line.end,
                _ => high = middle,
            }
        }
        Ok(false)
    }

    fn lines(&self) -> Result<Lines<'_>, BreachedFileError> {
        let opened = File::open(&self.path).and_then(|file| {
            let length = file.metadata()?.len();
            Ok(Lines { list: self, file, length })
        });
        opened.map_err(|source| self.unread(source))
    }

    fn unread(&self, source: io::Error) -> BreachedFileError {
        BreachedFileError::Read { path: self.path.to_path_buf(), source }
    }

    fn no_line(&self, offset: u64) -> BreachedFileError {
        BreachedFileError::Line { path: self.path.to_path_buf(), offset }
    }
}

/// The lines of an open file.
struct Lines<'l> {
    list: &'l BreachedPasswords,
    file: File,
    length: u64,
}

impl Lines<'_> {
    /// The first line that begins at `place` or behind it; `None` if there is none.
    fn first_from(&mut self, place: u64) -> Result<Option<Line>, BreachedFileError> {
        // The byte before tells whether a line begins right here.
        let from = place.saturating_sub(1);
        let mut bytes = Vec::with_capacity(2 * MAX_LINE);
        let read = self
            .file
            .seek(SeekFrom::Start(from))
            .and_then(|_| self.file.by_ref().take(bytes.capacity() as u64).read_to_end(&mut bytes));
        read.map_err(|source| self.list.unread(source))?;
        let is_break = |byte: &u8| *byte == b'\n';
        let skipped = match place {
            0 => 0,
            _ => match bytes.iter().position(is_break) {
                Some(at) => at + 1,
                None if bytes.len() < MAX_LINE => return Ok(None),
                None => return Err(self.list.no_line(from)),
            },
        };
        let rest = bytes.get(skipped..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let begin = from + skipped as u64;
        let whole = rest.iter().position(is_break).map_or(rest.len(), |at| at + 1);
        let text = rest.get(..whole).unwrap_or_default().trim_ascii_end();
        let digest = digest(text).ok_or_else(|| self.list.no_line(begin))?;
        Ok(Some(Line { digest, begin, end: begin + whole as u64 }))
    }
}

/// The digest in a line without its end.
fn digest(line: &[u8]) -> Option<Sha1> {
    let (digits, count) = line.split_at_checked(2 * size_of::<Sha1>())?;
    let is_counted = match count.split_first() {
        None => true,
        Some((b':', count)) => !count.is_empty() && count.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut digest = Sha1::default();
    for (byte, pair) in digest.iter_mut().zip(digits.as_chunks::<2>().0) {
        let [high, low] = *pair;
        *byte = digit(high)? << 4 | digit(low)?;
    }
    is_counted.then_some(digest)
}

/// The most bytes that a line has: 40 digits, a colon, a number, and the end of a line.
const MAX_LINE: usize = 64;
/// The number of places at which a file is looked at before it is used.
const SAMPLES: u64 = 64;

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    /// A file that is removed when the test ends.
    struct Listed(PathBuf);

    impl Listed {
        fn with(text: impl AsRef<[u8]>) -> Self {
            use std::sync::atomic::{AtomicU64, Ordering};

            static NEXT: AtomicU64 = AtomicU64::new(0);
            let name = format!("breached-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            fs::write(&path, text).unwrap();
            Self(path)
        }
    }

    impl Drop for Listed {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn text(digests: &[u32], line_end: &str) -> String {
        let lines = digests.iter().enumerate();
        lines.map(|(index, number)| format!("{:032X}{number:08X}:{}{line_end}", 0, index * index)).collect()
    }

    fn sha1(number: u32) -> Sha1 {
        let mut digest = Sha1::default();
        digest[16..].copy_from_slice(&number.to_be_bytes());
        digest
    }

    proptest! {
        #[test]
        fn sec_114_exactly_the_passwords_in_the_file_are_found(
            mut digests in proptest::collection::vec(any::<u32>(), 1..40),
            others in proptest::collection::vec(any::<u32>(), 10),
            line_end in prop_oneof![Just("\n"), Just("\r\n")],
            ends in any::<bool>(),
        ) {
            digests.sort_unstable();
            digests.dedup();
            let mut text = text(&digests, line_end);
            if !ends {
                text.truncate(text.trim_end().len());
            }
            let file = Listed::with(text);
            let list = BreachedPasswords::open(&file.0).unwrap();
            for number in &digests {
                prop_assert!(list.contains(sha1(*number)).unwrap(), "{}", number);
            }
            for number in others.iter().chain(digests.iter().flat_map(|n| [n.wrapping_add(1), n.wrapping_sub(1)]).collect::<Vec<_>>().iter()) {
                prop_assert_eq!(list.contains(sha1(*number)).unwrap(), digests.contains(number), "{}", number);
            }
        }

        #[test]
        fn sec_114_any_file_is_judged_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let file = Listed::with(bytes);
            let _ = BreachedPasswords::open(&file.0);
            let _ = BreachedPasswords { path: file.0.clone().into() }.contains(sha1(7));
        }
    }

    #[test]
    fn sec_114_a_file_that_is_no_such_list_is_refused() {
        let list = text(&(0..1000).collect::<Vec<_>>(), "\n");
        let without_counts: String = list.lines().map(|line| format!("{}\n", &line[..40])).collect();
        assert!(BreachedPasswords::open(&Listed::with(&without_counts).0).is_ok());
        assert!(BreachedPasswords::open(&Listed::with(without_counts.to_lowercase()).0).is_ok());
        for (case, text) in [
            ("empty", String::new()),
            ("NTLM", list.replace(&"0".repeat(8), "")),
            ("plain", "password\n123456\n".to_owned()),
            ("a long line", "0".repeat(10_000)),
            ("garbled in its second half", list.replace("000002", "00000X")),
            ("not counted", list.replace(':', ":x")),
        ] {
            let opened = BreachedPasswords::open(&Listed::with(text).0);
            assert!(matches!(opened, Err(BreachedFileError::Line { .. })), "{case}: {opened:?}");
        }
        let by_count = text(&(0..1000).rev().collect::<Vec<_>>(), "\n");
        let opened = BreachedPasswords::open(&Listed::with(by_count).0);
        assert!(matches!(opened, Err(BreachedFileError::Order { .. })), "{opened:?}");
        let missing = BreachedPasswords::open("/nowhere/to/be/found");
        assert!(matches!(missing, Err(BreachedFileError::Read { .. })), "{missing:?}");
    }
}
