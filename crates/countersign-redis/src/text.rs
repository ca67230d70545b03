//! Converting values to texts and back. An invalid text is an error: nothing is rounded, cut or replaced by a default.

use std::str::FromStr;

use countersign_core::model::SecretDigest;
use countersign_jwt::Timestamp;

use crate::failure::Failure;
use crate::layout::{hex, unhex};

/// The parsed value, or the error that `what` is malformed. The text itself is in no message, because it may be secret.
pub(crate) fn parsed<T, E>(what: &'static str, parsed: Result<T, E>) -> Result<T, Failure> {
    parsed.map_err(|_| Failure::Malformed(what))
}

/// A number.
pub(crate) fn number<T: FromStr>(what: &'static str, text: &str) -> Result<T, Failure> {
    parsed(what, text.parse())
}

/// A time.
pub(crate) fn time(what: &'static str, text: &str) -> Result<Timestamp, Failure> {
    let millis = number(what, text)?;
    let time = Timestamp::from_millis(millis);
    if time.as_millis() == millis { Ok(time) } else { Err(Failure::Malformed(what)) }
}

/// A time, or `-` for none.
pub(crate) fn optional_time(what: &'static str, text: &str) -> Result<Option<Timestamp>, Failure> {
    if text == "-" { Ok(None) } else { time(what, text).map(Some) }
}

/// A time, or `-` for none, as text.
pub(crate) fn time_text(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.as_millis().to_string())
}

/// A digest as hexadecimal digits.
pub(crate) fn digest_text(digest: &SecretDigest) -> String {
    hex(digest.as_bytes())
}

/// A digest.
pub(crate) fn digest(what: &'static str, text: &str) -> Result<SecretDigest, Failure> {
    let bytes = unhex(text).ok_or(Failure::Malformed(what))?;
    parsed(what, bytes.try_into()).map(SecretDigest::from_bytes)
}
