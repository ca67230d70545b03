//! Files of accounts, CSV with a heading or JSON lines, read row by row in constant memory.

use std::borrow::Cow;
use std::cell::Cell;
use std::error::Error;
use std::io::{self, BufRead as _, BufReader, Read};
use std::rc::Rc;

use countersign_jwt::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value;

/// The columns of an account.
pub(super) const COLUMNS: [&str; 11] = [
    "id",
    "email",
    "email_verified",
    "email_verified_at",
    "username",
    "password_hash",
    "roles",
    "language",
    "disabled",
    "disabled_at",
    "created_at",
];

/// The most bytes that a row may have.
const MAX_ROW_BYTES: u64 = 1024 * 1024;

/// One row, by the columns of [`COLUMNS`].
#[derive(Debug)]
pub(super) struct RawRow {
    /// The line in which the row begins, from 1 on.
    pub(super) line: u64,
    cells: [Option<Value>; COLUMNS.len()],
}

/// The value of a column that is a boolean or a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Switch {
    Off,
    On(Option<Timestamp>),
}

/// A row that cannot be read: its line, and the reason.
pub(super) type Unreadable = (u64, String);

/// Reads the rows of a file.
#[derive(Debug)]
pub(super) struct RowReader {
    form: Form,
    /// The bytes that may still be read for the current row.
    budget: Rc<Cell<u64>>,
    bytes: Rc<Cell<u64>>,
    /// The names of columns that are not among [`COLUMNS`], as far as they were not told yet.
    unknown: Vec<String>,
    known_unknown: usize,
}

#[derive(Debug)]
enum Form {
    Csv { reader: Box<csv::Reader<BufReader<Limited>>>, places: Vec<Option<usize>> },
    JsonLines { reader: BufReader<Limited>, line: u64, told: Vec<String> },
}

/// A reader that fails where one row has no end, so that no input fills the memory.
struct Limited {
    inner: Box<dyn Read>,
    budget: Rc<Cell<u64>>,
    bytes: Rc<Cell<u64>>,
}

impl std::fmt::Debug for Limited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limited").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let budget = self.budget.get();
        if budget == 0 {
            let message = format!("a row is longer than {MAX_ROW_BYTES} bytes; a quote may not be closed");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let most = buffer.len().min(usize::try_from(budget).unwrap_or(usize::MAX));
        let read = self.inner.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.budget.set(budget.saturating_sub(read as u64));
        self.bytes.set(self.bytes.get().saturating_add(read as u64));
        Ok(read)
    }
}

impl RowReader {
    /// The most names of unknown columns that are told.
    const MAX_UNKNOWN: usize = 32;

    /// Begins to read. A file whose first character is a brace is of JSON lines, every other one is CSV.
    ///
    /// # Errors
    /// The reason why the file or its heading cannot be read.
    pub(super) fn new(inner: Box<dyn Read>) -> Result<Self, Box<dyn Error>> {
        let (budget, bytes) = (Rc::new(Cell::new(MAX_ROW_BYTES)), Rc::new(Cell::new(0)));
        let limited = Limited { inner, budget: Rc::clone(&budget), bytes: Rc::clone(&bytes) };
        let mut reader = BufReader::new(limited);
        let begin = reader.fill_buf()?;
        let begin = begin.strip_prefix(BYTE_ORDER_MARK).unwrap_or(begin);
        let first = begin.iter().find(|byte| !byte.is_ascii_whitespace());
        let mut unknown = Vec::new();
        let form = if first == Some(&b'{') {
            Form::JsonLines { reader, line: 0, told: Vec::new() }
        } else {
            let mut reader = Box::new(csv::Reader::from_reader(reader));
            let mut places = Vec::new();
            for name in reader.headers().map_err(|error| format!("the heading cannot be read: {error}"))? {
                let name = name.trim();
                let place = COLUMNS.iter().position(|column| column.eq_ignore_ascii_case(name));
                if place.is_some() && places.contains(&place) {
                    return Err(format!("the heading names the column {name} twice").into());
                }
                if place.is_none() {
                    unknown.push(name.to_owned());
                }
                places.push(place);
            }
            if !places.contains(&column("email")) && !places.contains(&column("username")) {
                return Err(
                    "the first line must name the columns, and email or username among them; or every line \
                            is a JSON object"
                        .into(),
                );
            }
            Form::Csv { reader, places }
        };
        Ok(Self { form, budget, bytes, unknown, known_unknown: 0 })
    }

    /// The number of bytes that were read.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// The names of unknown columns that were found since the last call.
    pub(super) fn unknown(&mut self) -> Vec<String> {
        let mut found = std::mem::take(&mut self.unknown);
        found.truncate(Self::MAX_UNKNOWN.saturating_sub(self.known_unknown));
        self.known_unknown += found.len();
        found
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// The reason why the file cannot be read any further.
    pub(super) fn next(&mut self) -> io::Result<Option<Result<RawRow, Unreadable>>> {
        self.budget.set(MAX_ROW_BYTES);
        match &mut self.form {
            Form::Csv { reader, places } => next_csv(reader, places),
            Form::JsonLines { reader, line, told } => next_json(reader, line, told, &mut self.unknown),
        }
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

fn column(name: &str) -> Option<usize> {
    COLUMNS.iter().position(|column| *column == name)
}

fn next_csv(
    reader: &mut csv::Reader<BufReader<Limited>>,
    places: &[Option<usize>],
) -> io::Result<Option<Result<RawRow, Unreadable>>> {
    let mut record = csv::StringRecord::new();
    let line = |position: Option<&csv::Position>| position.map_or(0, csv::Position::line);
    match reader.read_record(&mut record) {
        Ok(false) => Ok(None),
        Ok(true) => {
            let mut cells = [const { None }; COLUMNS.len()];
            for (text, place) in record.iter().zip(places) {
                if let Some(cell) = place.and_then(|place| cells.get_mut(place)) {
                    *cell = Some(Value::String(text.to_owned()));
                }
            }
            Ok(Some(Ok(RawRow { line: line(record.position()), cells })))
        }
        Err(error) => match error.kind() {
            csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
                let why = format!("it has {len} fields, and the heading has {expected_len}");
                Ok(Some(Err((line(pos.as_ref()), why))))
            }
            csv::ErrorKind::Utf8 { pos, .. } => {
                Ok(Some(Err((line(pos.as_ref()), "it is not UTF-8".to_owned()))))
            }
            _ => Err(error.into()),
        },
    }
}

fn next_json(
    reader: &mut BufReader<Limited>,
    line: &mut u64,
    told: &mut Vec<String>,
    unknown: &mut Vec<String>,
) -> io::Result<Option<Result<RawRow, Unreadable>>> {
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        *line += 1;
        let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        // The messages of errors may hold parts of the text, and are not shown.
        let object = match serde_json::from_slice(text) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return Ok(Some(Err((*line, "it is not a JSON object".to_owned())))),
            Err(error) => {
                let why = format!("it is not a JSON object: an error in column {}", error.column());
                return Ok(Some(Err((*line, why))));
            }
        };
        let mut cells = [const { None }; COLUMNS.len()];
        for (name, value) in object {
            match column(&name).and_then(|place| cells.get_mut(place)) {
                Some(cell) => *cell = Some(value),
                None if told.len() < RowReader::MAX_UNKNOWN && !told.contains(&name) => {
                    told.push(name.clone());
                    unknown.push(name);
                }
                None => {}
            }
        }
        return Ok(Some(Ok(RawRow { line: *line, cells })));
    }
}

impl RawRow {
    /// The value of a column; `None` if it is absent or empty.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        let value = self.cells.get(column(name)?)?.as_ref()?;
        let is_empty = value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
        (!is_empty).then_some(value)
    }

    /// The text of a column, which may be written as a number.
    ///
    /// # Errors
    /// The reason why the value is not a text.
    pub(super) fn text(&self, name: &str) -> Result<Option<Cow<'_, str>>, String> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(Cow::Borrowed(text))),
            Some(Value::Number(number)) => Ok(Some(Cow::Owned(number.to_string()))),
            Some(_) => Err(format!("its {name} is not a text")),
        }
    }

    /// The time in a column.
    ///
    /// # Errors
    /// The reason why the value is not a time.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, String> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        time(&text).map(Some).ok_or_else(|| {
            format!("its {name} is neither a time such as 2026-01-31T12:00:00Z nor Unix seconds")
        })
    }

    /// The value of a column that is a boolean or the time since when it is true.
    ///
    /// # Errors
    /// The reason why the value is neither.
    pub(super) fn switch(&self, name: &str) -> Result<Option<Switch>, String> {
        if let Some(Value::Bool(on)) = self.value(name) {
            return Ok(Some(if *on { Switch::On(None) } else { Switch::Off }));
        }
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "1" => Ok(Some(Switch::On(None))),
            "false" | "f" | "no" | "0" => Ok(Some(Switch::Off)),
            text => match time(&text.to_ascii_uppercase()) {
                Some(at) => Ok(Some(Switch::On(Some(at)))),
                None => Err(format!("its {name} is neither true nor false nor a time")),
            },
        }
    }
}

/// A time: ISO 8601, in UTC where it has no zone, or Unix seconds of five digits and more.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    const LAST: i64 = 253_402_300_799;
    let text = text.trim();
    if text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|seconds| *seconds <= LAST).map(Timestamp::from_secs);
    }
    let time = match text.parse::<jiff::Timestamp>() {
        Ok(time) => time,
        Err(_) => TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok()?,
    };
    (time.as_second() >= 0).then(|| Timestamp::from_millis(time.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(u64, Option<String>), Unreadable>;

    /// The line and the e-mail address of each row, and the unknown columns.
    fn read(text: &[u8]) -> (Vec<Outcome>, Vec<String>) {
        let mut reader = RowReader::new(Box::new(io::Cursor::new(text.to_vec()))).unwrap();
        let (mut rows, mut unknown) = (Vec::new(), Vec::new());
        while let Some(row) = reader.next().unwrap() {
            rows.push(row.map(|row| (row.line, row.text("email").unwrap().map(Cow::into_owned))));
            unknown.extend(reader.unknown());
        }
        (rows, unknown)
    }

    #[test]
    fn csv_and_json_lines_are_told_apart_and_rows_have_their_lines() {
        let a = || Some("a@example.org".to_owned());
        let csv =
            b"\xef\xbb\xbfID, Email ,shoe\n1,a@example.org,\n2,\"a@\nb\",44\n3,\n4,\xff,1\n5,a@example.org,1";
        let (rows, unknown) = read(csv);
        assert_eq!(
            rows,
            [
                Ok((2, a())),
                Ok((3, Some("a@\nb".to_owned()))),
                Err((5, "it has 2 fields, and the heading has 3".to_owned())),
                Err((6, "it is not UTF-8".to_owned())),
                Ok((7, a())),
            ]
        );
        assert_eq!(unknown, ["shoe"]);
        let json = b"\n{\"email\": \"a@example.org\", \"shoe\": 1}\r\n\n[1]\n{\"email\": null, \"hat\": {}, \"shoe\": 2}\n{\"hunter2\n";
        let (rows, unknown) = read(json);
        assert_eq!(
            rows,
            [
                Ok((2, a())),
                Err((4, "it is not a JSON object".to_owned())),
                Ok((5, None)),
                Err((6, "it is not a JSON object: an error in column 0".to_owned())),
            ]
        );
        assert_eq!(unknown, ["shoe", "hat"]);
    }

    #[test]
    fn a_heading_names_known_columns_once() {
        for heading in ["", "id,mail", "a@example.org,1", "email,email"] {
            assert!(RowReader::new(Box::new(io::Cursor::new(heading))).is_err(), "{heading:?}");
        }
    }

    #[test]
    fn a_row_without_end_does_not_fill_the_memory() {
        for begin in ["email\n\"", "{\"email\":\""] {
            let endless = io::Cursor::new(begin).chain(io::repeat(b'x'));
            let mut reader = RowReader::new(Box::new(endless)).unwrap();
            assert!(reader.next().unwrap_err().to_string().contains("a row is longer"), "{begin}");
            assert!(reader.bytes() <= 2 * MAX_ROW_BYTES);
        }
        let rows = format!("email\n{}", "a@example.org\n".repeat(200_000));
        assert_eq!(read(rows.as_bytes()).0.len(), 200_000);
    }

    #[test]
    fn switches_and_times_are_read_from_texts_numbers_and_booleans() {
        let row = |value: Value| {
            let mut cells = [const { None }; COLUMNS.len()];
            cells[column("disabled").unwrap()] = Some(value);
            RawRow { line: 1, cells }
        };
        let noon = Timestamp::from_secs(1_769_860_800);
        for (value, switch) in [
            (Value::Null, Ok(None)),
            (Value::from(" "), Ok(None)),
            (Value::from(true), Ok(Some(Switch::On(None)))),
            (Value::from("YES"), Ok(Some(Switch::On(None)))),
            (Value::from(0), Ok(Some(Switch::Off))),
            (Value::from("False"), Ok(Some(Switch::Off))),
            (Value::from("2026-01-31T12:00:00Z"), Ok(Some(Switch::On(Some(noon))))),
            (Value::from("2026-01-31 12:00"), Ok(Some(Switch::On(Some(noon))))),
            (Value::from(1_769_860_800), Ok(Some(Switch::On(Some(noon))))),
            (Value::from("perhaps"), Err(())),
            (Value::Array(Vec::new()), Err(())),
        ] {
            assert_eq!(row(value.clone()).switch("disabled").map_err(drop), switch, "{value}");
        }
    }
}
